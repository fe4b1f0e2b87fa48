"""The laps of exp, log, 1/x and 1/√x: what each multiplies and adds, as one list that hardware decodes.

Normative: docs/contracts/numerics.md, section 6 (Laps), and docs/contracts/cycles.md, section 2 (Vector).
"""

from __future__ import annotations

from typing import NamedTuple

from hwsim.numerics.tables import CONSTANTS
from hwsim.program import VECTOR_OPS, VectorOp

__all__ = ["LAPS", "LAP_BITS", "MOST_LAPS", "SPECIAL", "Lap"]

#: Micro-operations that make laps; the low two bits of their codes tell them apart.
SPECIAL = (VectorOp.EXP, VectorOp.LOG, VectorOp.RECIPROCAL, VectorOp.RECIPROCAL_ROOT)
MOST_LAPS = max(VECTOR_OPS[op].laps for op in SPECIAL)
LAP_BITS = (MOST_LAPS - 1).bit_length()

_SIGN = 1 << 31
_MINUS_ZERO, _ONE, _HALF, _QUARTER = 0x80000000, 0x3F800000, 0x3F000000, 0x3E800000
_TO_INTEGER = 0x4B400000  # 1.5 · 2²³: what is added to it becomes an integer in the low bits
_LEAST_EXPONENT = 0xCB00007E  # −(2²³ + 126); a lane sets the last bit where E is e


class Lap(NamedTuple):
    """Operands of ``A · B + C``, and what the lane keeps for its later laps.

    Each of `a`, `b` and `c` is ``"x"``, ``"y"`` (words that the lane keeps), ``"z"`` (the result of the lap before),
    ``"table"``, or the bits of a constant. As `a`, ``"x"`` is what `Laps` makes of the operand's sign, exponent and
    mantissa, ``"exponent"`` its exponent field as a number; `b` may be ``"power"``, the power of two of the last lap;
    `c` ``"point"`` or ``"bias"`` of a logarithm. `last` lets results that need no sequence take the place of `a`.
    """

    a: str
    b: str | int
    c: str | int
    x: str = "x"
    y: str = "y"
    last: bool = False
    second: bool = False  # of two tables


def _constant(name: str) -> int:
    return CONSTANTS[name]


_NEWTON_LAST = Lap("z", "power", _MINUS_ZERO, last=True)

LAPS: dict[VectorOp, tuple[Lap, ...]] = {
    VectorOp.EXP: (
        Lap("x", _constant("64/ln2"), _TO_INTEGER),
        Lap("z", _ONE, _TO_INTEGER | _SIGN, y="z"),
        Lap("z", _constant("C1") ^ _SIGN, "x", x="y", y="z"),
        Lap("y", _constant("C2") ^ _SIGN, "z"),
        Lap("z", _constant("1/6"), _HALF, y="z"),
        Lap("z", "y", _MINUS_ZERO),
        Lap("z", "y", "y"),
        Lap("table", "z", "table"),
        _NEWTON_LAST,
    ),
    VectorOp.LOG: (
        Lap("x", _ONE, "point"),
        Lap("z", "table", _MINUS_ZERO),
        Lap("z", _QUARTER | _SIGN, _constant("1/3"), y="z"),
        Lap("z", "y", _HALF | _SIGN),
        Lap("z", "y", _MINUS_ZERO),
        Lap("z", "y", "y"),
        Lap("exponent", _ONE, "bias", y="z"),
        Lap("z", _constant("ln2-H"), "y", y="z"),
        Lap("z", _ONE, "table", second=True),
        Lap("y", _constant("H"), "z", last=True),
    ),
    VectorOp.RECIPROCAL: (
        Lap("x", "table", _ONE, y="table"),
        Lap("y", "z", "y"),
        Lap("x", "z", _ONE, y="z"),
        Lap("y", "z", "y"),
        _NEWTON_LAST,
    ),
    VectorOp.RECIPROCAL_ROOT: (
        Lap("table", "table", _MINUS_ZERO, y="table"),
        Lap("x", "z", _HALF),
        Lap("y", "z", "y"),
        Lap("z", "z", _MINUS_ZERO, y="z"),
        Lap("x", "z", _HALF),
        Lap("y", "z", "y"),
        _NEWTON_LAST,
    ),
}
assert all(len(laps) == VECTOR_OPS[op].laps for op, laps in LAPS.items())
