"""Micro-operations of the vector unit: what each reads, and which priced action it is.

A vector command applies one of them to lines of the accumulator, one line of ``array.cols`` words at a time
(docs/contracts/program.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["VECTOR_OPS", "VectorOp", "VectorRule"]


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
    moves only), and the meaning. Conversion on the way out is priced by the command's `FORMAT`.
    """

    sources: int
    action: str | None
    means: str


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
    VectorOp.EXP: VectorRule(1, "vector.specials", "y = exp(a)"),
    VectorOp.LOG: VectorRule(1, "vector.specials", "y = log(a)"),
    VectorOp.RECIPROCAL: VectorRule(1, "vector.specials", "y = 1 ÷ a"),
    VectorOp.RECIPROCAL_ROOT: VectorRule(1, "vector.specials", "y = 1 ÷ √a"),
    VectorOp.CONVERT: VectorRule(1, None, "y = a, converted"),
    VectorOp.SET: VectorRule(0, None, "y = constant"),
    VectorOp.SELECT_EQUAL: VectorRule(3, "vector.adds", "y = c where a = b, else 0"),
    VectorOp.SELECT_LABEL: VectorRule(2, "vector.adds", "y = a in the lane that the line's label names, else 0"),
    VectorOp.SUBTRACT_LABEL: VectorRule(2, "vector.adds", "y = a − 1 in the lane that the line's label names, else a"),
}
