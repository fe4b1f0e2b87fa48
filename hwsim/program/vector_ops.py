"""Micro-operations of the vector unit: what each reads, and which priced action it is.

A vector command applies one of them to lines of the accumulator, one line of ``array.cols`` words at a time
(docs/contracts/program.md); `vector_passes` and `vector_cycles` say for how long (docs/contracts/cycles.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["LAP_ENTRY_CYCLES", "VECTOR_OPS", "VectorOp", "VectorRule", "vector_cycles", "vector_passes"]

#: Cycles by which a group that makes several laps enters its lanes later than others: its line goes into a memory of
#: the lane first, then comes its entry in a table, then its operands.
LAP_ENTRY_CYCLES = 3


class VectorOp(IntEnum):
    """Code of a micro-operation."""

    COPY = 0
    RESCALE = 1
    ADD_BIAS = 2
    ADD = 3
    SUBTRACT = 4
    MULTIPLY = 5
    MULTIPLY_ADD = 6
    MAXIMUM = 7
    CLAMP = 8
    SELECT = 9
    SUM_LINES = 10
    MULTIPLY_SUM_LINES = 11
    SUM_LANES = 12
    MAXIMUM_LANES = 13
    EXP = 14
    LOG = 15
    RECIPROCAL = 16
    RECIPROCAL_ROOT = 17
    CONVERT = 18
    SET = 19
    SELECT_EQUAL = 20
    SELECT_LABEL = 21
    SUBTRACT_LABEL = 22


@dataclass(frozen=True)
class VectorRule:
    """Accumulator lines read per line written (one fewer where B is a scalar), the priced action per lane (`None`:
    moves only), and the meaning. Conversion on the way out is priced by the command's `FORMAT`. `laps` is how often a
    group passes the multiplier and the adder of its lanes.
    """

    sources: int
    action: str | None
    means: str
    laps: int = 1


VECTOR_OPS: dict[VectorOp, VectorRule] = {
    VectorOp.COPY: VectorRule(1, None, "y = a"),
    VectorOp.RESCALE: VectorRule(1, None, "y = a · 2^E, converted"),
    VectorOp.ADD_BIAS: VectorRule(2, "vector.adds", "y = a + bias of the output channel"),
    VectorOp.ADD: VectorRule(2, "vector.adds", "y = a + b"),
    VectorOp.SUBTRACT: VectorRule(2, "vector.adds", "y = a − b"),
    VectorOp.MULTIPLY: VectorRule(2, "vector.muls", "y = a · b"),
    VectorOp.MULTIPLY_ADD: VectorRule(3, "vector.fmas", "y = a · b + c"),
    VectorOp.MAXIMUM: VectorRule(2, "vector.adds", "y = max(a, b)"),
    VectorOp.CLAMP: VectorRule(1, "vector.adds", "y = a clamped to a range (relu, relu6)"),
    VectorOp.SELECT: VectorRule(2, "vector.adds", "y = b where a is in a range, else 0"),
    VectorOp.SUM_LINES: VectorRule(2, "vector.adds", "per lane, add the lines up"),
    VectorOp.MULTIPLY_SUM_LINES: VectorRule(3, "vector.fmas", "per lane, add the products of lines up"),
    VectorOp.SUM_LANES: VectorRule(2, "vector.adds", "per line, add the lanes up"),
    VectorOp.MAXIMUM_LANES: VectorRule(2, "vector.adds", "per line, the largest lane"),
    VectorOp.EXP: VectorRule(1, "vector.specials", "y = exp(a)", laps=9),
    VectorOp.LOG: VectorRule(1, "vector.specials", "y = log(a)", laps=10),
    VectorOp.RECIPROCAL: VectorRule(1, "vector.specials", "y = 1 ÷ a", laps=5),
    VectorOp.RECIPROCAL_ROOT: VectorRule(1, "vector.specials", "y = 1 ÷ √a", laps=7),
    VectorOp.CONVERT: VectorRule(1, None, "y = a, converted"),
    VectorOp.SET: VectorRule(0, None, "y = constant"),
    VectorOp.SELECT_EQUAL: VectorRule(3, "vector.adds", "y = c where a = b, else 0"),
    VectorOp.SELECT_LABEL: VectorRule(2, "vector.adds", "y = a in the lane that the line's label names, else 0"),
    VectorOp.SUBTRACT_LABEL: VectorRule(2, "vector.adds", "y = a − 1 in the lane that the line's label names, else a"),
}

_SUMS_LINES = (VectorOp.SUM_LINES, VectorOp.MULTIPLY_SUM_LINES)
_ACROSS_LANES = (VectorOp.SUM_LANES, VectorOp.MAXIMUM_LANES)


def vector_passes(op: VectorOp, columns: int) -> int:
    """Give how often a command walks its box: sums and maxima over the lanes halve.

    Examples
    --------
    >>> vector_passes(VectorOp.SUM_LANES, 5), vector_passes(VectorOp.ADD, 5)
    (3, 1)
    """
    return max(1, (columns - 1).bit_length()) if op in _ACROSS_LANES else 1


def vector_cycles(op: VectorOp, box: tuple[int, int, int], columns: int, lanes: int, latency_cycles: int) -> int:
    """Give the cycles that a command occupies the vector unit (docs/contracts/cycles.md, section 2).

    Parameters
    ----------
    op : VectorOp
        Micro-operation.
    box : tuple of int
        Lines.
    columns : int
        Of each line.
    lanes, latency_cycles : int
        Of the unit.

    Examples
    --------
    Twelve lines of one group, λ = 8; a reciprocal makes five laps with 8 of them, then five with 4:

    >>> vector_cycles(VectorOp.ADD, (1, 3, 4), 4, 4, 8), vector_cycles(VectorOp.RECIPROCAL, (1, 3, 4), 4, 4, 8)
    (20, 87)

    A sum over lines returns to a line after λ:

    >>> vector_cycles(VectorOp.SUM_LINES, (3, 1, 4), 4, 4, 8)
    32
    """
    n0, n1, n2 = box
    turn = n1 * n2 * -(-columns // lanes)
    if op in _SUMS_LINES:
        turn = max(turn, latency_cycles)
    cycles = vector_passes(op, columns) * (n0 * turn + latency_cycles)
    more_laps = VECTOR_OPS[op].laps - 1
    if not more_laps:
        return cycles
    return cycles + more_laps * latency_cycles * -(-n0 * turn // latency_cycles) + LAP_ENTRY_CYCLES
