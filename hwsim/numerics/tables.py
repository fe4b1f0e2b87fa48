"""Tables and constants of exp, log, 1/x and 1/√x as fp32 bits, made with integer arithmetic alone.

Normative: docs/contracts/numerics.md, section 6. Hardware generators take the tables from here.
"""

from __future__ import annotations

from math import isqrt

from hwsim.numerics.reference import Number, encode

__all__ = ["CONSTANTS", "EXP", "LOG", "LOG_POINT", "LOG_RECIPROCAL", "RECIPROCAL", "RECIPROCAL_ROOT"]

_ONE = 1 << 160  # fixed point: 160 fraction bits, of which the last few are wrong


def _nearest(value: int, bits: int = 24) -> int:
    """Round a fixed-point number to `bits` significant bits."""
    shift = abs(value).bit_length() - bits
    rounded = (abs(value) + (1 << (shift - 1))) >> shift << shift
    return -rounded if value < 0 else rounded


def _fp32(value: int) -> int:
    """Bits of the fp32 nearest to a fixed-point number."""
    return encode(Number("finite", int(value < 0), abs(value), -160), "fp32")


def _log(numerator: int, denominator: int) -> int:
    """Natural logarithm of a ratio near 1 as 2·artanh((a − b) / (a + b)), in fixed point."""
    z = (numerator - denominator) * _ONE // (numerator + denominator)
    total, power, n = 0, z, 1
    while power:
        total += power // n
        power = power * z // _ONE * z // _ONE
        n += 2
        if abs(power) <= 1:
            break
    return 2 * total


def _exp_table() -> tuple[int, ...]:
    root = 2 * _ONE
    for _ in range(6):
        root = isqrt(root * _ONE)  # 2^(1/64) after six square roots
    values = [_ONE]
    for _ in range(63):
        values.append(values[-1] * root // _ONE)
    return tuple(_fp32(v) for v in values)


_LN2 = _log(2, 1)
_STEP = _LN2 // 64
_STEP_HIGH = _nearest(_STEP, 10)
_LN2_HIGH = _nearest(_LN2, 16)

#: Constants by the names of the contract's formulas, fp32 bits.
CONSTANTS = {
    "64/ln2": _fp32(64 * _ONE * _ONE // _LN2),
    "C1": _fp32(_STEP_HIGH),
    "C2": _fp32(_STEP - _STEP_HIGH),
    "1/6": _fp32(_ONE // 6),
    "1/3": _fp32(_ONE // 3),
    "H": _fp32(_LN2_HIGH),
    "ln2-H": _fp32(_LN2 - _LN2_HIGH),
}

#: 2^(j/64), j = 0 … 63.
EXP = _exp_table()
#: b = 1 + i/128, i = 0 … 128, and 1/b, and ln b (of b/2 from i = 54 on).
LOG_POINT = tuple(_fp32(_ONE + i * _ONE // 128) for i in range(129))
LOG_RECIPROCAL = tuple(_fp32(128 * _ONE // (128 + i)) for i in range(129))
LOG = tuple(_fp32(_log(128 + i, 256 if i >= 54 else 128)) for i in range(129))
#: Seeds with 9 fraction bits.
RECIPROCAL = tuple(_fp32(((1 << 18) // (257 + 2 * i) + 1) // 2 * _ONE >> 9) for i in range(128))
RECIPROCAL_ROOT = tuple(
    _fp32((isqrt((1 << 160) * 128 // ((129 + 2 * i) << o)) // (1 << 70) + 1) // 2 * _ONE >> 9)
    for o in range(2)
    for i in range(64)
)
