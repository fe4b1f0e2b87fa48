"""The plan of an op: its segments, tiled, as one program; docs/contracts/program.md.

`plan_op` is the stage's one function: op → `OpPlan`. An op kind that has no lowering is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.hardware.formats import array_formats
from hwsim.mapping.layout import format_of
from hwsim.mapping.matrix import MatrixSegment, conv_segments, gemm_segment, tile_segment
from hwsim.mapping.stream import Stream, tile_stream
from hwsim.mapping.vector import STREAMS, operands_of, zero_stream
from hwsim.program import (
    FORMAT_CODES,
    ArrayField,
    Field,
    MatrixFlag,
    MoveField,
    Program,
    Unit,
    VectorField,
    VectorFlag,
)
from hwsim.workload.graph import Graph, Op, Role, Tensor

__all__ = ["Lowering", "OpPlan", "Stored", "lower_op", "plan_key", "plan_op", "plan_segments", "set_formats"]


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
    tiles : tuple of mapping
        Of each segment its tile: that of `hwsim.mapping.matrix.Tiling`, or ``SIZE``, the units of a streamed tile.
    """

    segments: tuple[Program, ...]
    cycles: int
    mapping: str
    tiles: tuple[Mapping[str, int], ...]

    @property
    def program(self) -> Program:
        """The segments, one behind the other."""
        return Program.join(list(self.segments))


def plan_key(op: Op, graph: Graph) -> tuple[Any, ...]:
    """What a plan depends on, besides the accelerator: ops with equal keys are alike."""
    tensors = operands_of(op, graph)
    return (
        op.kind,
        tuple((t.shape, t.role, t.format, t.rounding) for t in tensors),
        tuple(sorted(op.attrs.items())),
        len(op.inputs),
    )


@dataclass(frozen=True)
class Lowering:
    """What an op becomes, before tiling: matrix segments, then streams, and how their operands are stored."""

    segments: tuple[MatrixSegment, ...]
    streams: tuple[Stream, ...]
    stored: tuple[Stored, ...]


def lower_op(op: Op, graph: Graph, hw: Accelerator) -> Lowering:
    """Say which segments an op becomes. They do not depend on the scratchpad's capacity.

    Raises
    ------
    HwsimError
        No lowering for the op's kind, or a format that the array does not have.
    """
    tensors = operands_of(op, graph)
    stored = tuple(Stored(format_of(t, hw), t.rounding) for t in tensors)
    matrix = _matrix_segments(op, tensors, hw)
    if matrix is not None:
        for tensor, how in zip(tensors, stored, strict=True):
            _check_operand(op, tensor, how.format, hw)
        segments, streams = matrix
        return Lowering(tuple(segments), tuple(streams), stored)
    if op.kind not in STREAMS:
        raise HwsimError(
            f"no lowering for op '{op.kind}' (node '{op.name}'); cut the graph before it or add one in "
            "hwsim/mapping/vector.py"
        )
    return Lowering((), tuple(STREAMS[op.kind](op, tensors, hw)), stored)


def plan_op(op: Op, graph: Graph, hw: Accelerator) -> OpPlan:
    """Lower an op and tile it.

    Raises
    ------
    HwsimError
        No lowering for the op's kind, a format that the array does not have, or no tile fits the memories.
    """
    lowering = lower_op(op, graph, hw)
    return plan_segments(lowering.segments, lowering.streams, hw, op.name, lowering.stored)


def _check_operand(op: Op, tensor: Tensor, format: str, hw: Accelerator) -> None:
    """Refuse what the array reads, or rounds to, in a format that it does not have."""
    formats = array_formats(hw.array.operand_format)
    if format not in formats and tensor.role in (Role.INPUT, Role.WEIGHT, Role.ACTIVATION, Role.GRADIENT):
        raise HwsimError(
            f"{op.name}: '{tensor.name}' is stored as {format}, and the array of {hw.name} takes "
            f"{' and '.join(formats)}; choose another precision, or an accelerator made by with_format('{format}')"
        )


@dataclass(frozen=True)
class Stored:
    """How an operand is stored: its format, and how results are rounded to it."""

    format: str
    rounding: str = "nearest"


def plan_segments(
    segments: Sequence[MatrixSegment],
    streams: Sequence[Stream],
    hw: Accelerator,
    name: str,
    stored: Sequence[Stored] | None = None,
) -> OpPlan:
    """Tile segments and put them together.

    `stored` says how each operand, by its number, is stored; unless given, those of one GEMM in the operand format.
    """
    if stored is None:
        operand = Stored(hw.array.operand_format)
        wide = bool(segments) and segments[0]["OUT_BYTES"] != segments[0]["IN_BYTES"]
        bias = [Stored("fp32")] if segments and segments[0]["BIAS"] else []
        stored = [operand, operand, *bias, Stored("fp32") if wide else operand]
    programs, cycles, words, tiles = [], 0, [], []
    for segment in segments:
        tiling = tile_segment(segment, hw, name)
        programs.append(tiling.program)
        cycles += tiling.cycles
        words.append(tiling.describe(segment))
        tiles.append(tiling.tile)
    for stream in streams:
        program, took, size = tile_stream(stream, hw, name)
        programs.append(program)
        cycles += took
        words.append(f"{size} {stream.unit} of {prod(stream.outers) * stream.size}")
        tiles.append({"SIZE": size})
    for program in programs:
        set_formats(program, stored)
    mapping = "; ".join(dict.fromkeys(words)) or "a view, no command"
    return OpPlan(tuple(programs), cycles, mapping, tuple(tiles))


def set_formats(program: Program, stored: Sequence[Stored]) -> None:
    """Write into every command the formats of its operands, and how its result is rounded."""
    items = program.items
    codes = np.array([FORMAT_CODES[s.format] for s in stored])
    stochastic = np.array([s.rounding == "stochastic" for s in stored])
    unit, operand = items[:, Field.UNIT], items[:, Field.OPERAND]
    moves = (unit == Unit.LOAD) | (unit == Unit.STORE)
    items[moves, MoveField.FORMAT] = codes[operand[moves]]
    array = unit == Unit.MATRIX
    wgrad = (items[array, Field.FLAGS] & MatrixFlag.WGRAD) != 0
    first_two = codes[:2] if len(codes) > 1 else np.zeros(2, np.int64)
    items[array, ArrayField.A_FORMAT] = np.where(wgrad, first_two[1], first_two[0])
    items[array, ArrayField.B_FORMAT] = np.where(wgrad, first_two[0], first_two[1])
    converting = (unit == Unit.VECTOR) & (operand > 0)
    items[converting, VectorField.FORMAT] = codes[operand[converting]]
    narrow = converting & (items[:, VectorField.FORMAT] != 0)
    items[narrow, Field.FLAGS] |= VectorFlag.STOCHASTIC * stochastic[operand[narrow]]


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
