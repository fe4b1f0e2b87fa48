"""A graph as text: one line per op with what it reads, what it writes, and what it costs."""

from __future__ import annotations

from hwsim.workload.graph import Graph, Op, Tensor
from hwsim.workload.ops import macs, vector_operations

__all__ = ["listing"]

_HEADER = ("op", "kind", "phase", "reads", "writes", "MACs", "vector operations")


def listing(graph: Graph) -> str:
    """Return the graph as an aligned table under a line of totals.

    Raises
    ------
    HwsimError
        If an op's kind has no rule.
    """
    rows = [_HEADER, *(_row(op, graph) for op in graph.ops)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(_cell, range(len(_HEADER)), row, widths)).rstrip() for row in rows]
    total = sum(macs(op, graph) for op in graph.ops)
    summary = (
        f"{graph.name}: batch {graph.batch}, {graph.parameters:,} parameters, {len(graph.ops)} ops, {total:,} MACs"
    )
    return "\n".join([summary, *lines])


def _row(op: Op, graph: Graph) -> tuple[str, ...]:
    written = ", ".join(f"{name}[{_stored(graph.tensors[name])}]" for name in op.outputs)
    counts = (f"{macs(op, graph):,}", f"{vector_operations(op, graph):,}")
    return (op.name, op.kind, op.phase.value, ", ".join(op.inputs), written, *counts)


def _stored(tensor: Tensor) -> str:
    """Shape and, where it is set, format; rounding where it is not the usual one."""
    shape = "×".join(map(str, tensor.shape))
    rounding = "" if tensor.rounding == "nearest" else tensor.rounding
    return " ".join(filter(None, (shape, tensor.format, rounding)))


def _cell(column: int, text: str, width: int) -> str:
    """Numbers stand at the right."""
    return text.rjust(width) if column >= len(_HEADER) - 2 else text.ljust(width)
