"""The plan of an op: its segments, tiled, as one program; docs/contracts/program.md.

`plan_op` is the stage's one function: op → `OpPlan`. An op kind that has no lowering is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.mapping.matrix import MatrixSegment, conv_segments, gemm_segment, tile_segment
from hwsim.mapping.stream import Stream, tile_stream
from hwsim.mapping.vector import STREAMS, operands_of, zero_stream
from hwsim.program import Program
from hwsim.workload.graph import Graph, Op, Tensor

__all__ = ["OpPlan", "plan_key", "plan_op", "plan_segments"]


@dataclass(frozen=True, eq=False)
class OpPlan:
    """Program of one op.

    Attributes
    ----------
    segments : tuple of Program
        Each begins with a barrier; cycles add up.
    cycles : int
        What the search found for all of them [cycles].
    mapping : str
        Tiles and order in words.
    """

    segments: tuple[Program, ...]
    cycles: int
    mapping: str

    @property
    def program(self) -> Program:
        """The segments, one behind the other."""
        return Program.join(list(self.segments))


def plan_key(op: Op, graph: Graph) -> tuple[Any, ...]:
    """What a plan depends on, besides the accelerator: ops with equal keys are alike."""
    tensors = operands_of(op, graph)
    return op.kind, tuple((t.shape, t.role) for t in tensors), tuple(sorted(op.attrs.items())), len(op.inputs)


def plan_op(op: Op, graph: Graph, hw: Accelerator) -> OpPlan:
    """Lower an op.

    Raises
    ------
    HwsimError
        No lowering for the op's kind, or no tile fits the memories.
    """
    tensors = operands_of(op, graph)
    matrix = _matrix_segments(op, tensors, hw)
    if matrix is not None:
        segments, streams = matrix
        return plan_segments(segments, streams, hw, op.name)
    if op.kind not in STREAMS:
        raise HwsimError(
            f"no lowering for op '{op.kind}' (node '{op.name}'); cut the graph before it or add one in "
            "hwsim/mapping/vector.py"
        )
    return plan_segments([], STREAMS[op.kind](op, tensors, hw), hw, op.name)


def plan_segments(segments: list[MatrixSegment], streams: list[Stream], hw: Accelerator, name: str) -> OpPlan:
    """Tile segments and put them together."""
    programs, cycles, words = [], 0, []
    for segment in segments:
        tiling = tile_segment(segment, hw, name)
        programs.append(tiling.program)
        cycles += tiling.cycles
        words.append(tiling.describe(segment))
    for stream in streams:
        program, took, mapping = tile_stream(stream, hw, name)
        programs.append(program)
        cycles += took
        words.append(mapping)
    return OpPlan(tuple(programs), cycles, "; ".join(dict.fromkeys(words)) or "a view, no command")


def _matrix_segments(
    op: Op, tensors: tuple[Tensor, ...], hw: Accelerator
) -> tuple[list[MatrixSegment], list[Stream]] | None:
    shapes = [t.shape for t in tensors]
    if op.kind == "linear":
        (batch, features), (out, _) = shapes[0], shapes[1]
        return [gemm_segment(batch, features, out, hw, transpose_b=True, bias=len(op.inputs) == 3)], []
    if op.kind == "linear_dgrad":
        (batch, out), (_, features) = shapes[0], shapes[1]
        return [gemm_segment(batch, out, features, hw)], []
    if op.kind == "linear_wgrad":
        (batch, features), (_, out) = shapes[0], shapes[1]
        return [gemm_segment(out, batch, features, hw, wgrad=True)], []
    if op.kind == "conv2d":
        x, w, y = shapes[0], shapes[1], shapes[-1]
        return conv_segments("forward", x, w, y, op.attrs, hw, bias=len(op.inputs) == 3)[0], []
    if op.kind == "conv2d_wgrad":
        x, y, w = shapes
        return conv_segments("wgrad", x, w, y, op.attrs, hw)[0], []
    if op.kind == "conv2d_dgrad":
        y, w, x = shapes
        segments, gaps = conv_segments("dgrad", x, w, y, op.attrs, hw)
        return segments, [zero_stream(gaps, tensors[-1], 2, hw)] if gaps else []
    return None
