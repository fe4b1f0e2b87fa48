"""exp, log, 1/x and 1/√x on fp32 bits, as sequences of the reference's operations.

Slow and exact by definition; `hwsim.numerics.exp` and its sisters are the same on arrays. Normative:
docs/contracts/numerics.md, section 6.
"""

from __future__ import annotations

from hwsim.numerics.formats import FLOATS
from hwsim.numerics.reference import Number, add, decode, encode, multiply, negate
from hwsim.numerics.tables import CONSTANTS, EXP, LOG, LOG_POINT, LOG_RECIPROCAL, RECIPROCAL, RECIPROCAL_ROOT

__all__ = ["exp", "log", "reciprocal", "reciprocal_root"]

_NAN = FLOATS["fp32"].nan
_INF = 0x7F800000
_HALF, _ONE = 0x3F000000, 0x3F800000
_QUARTER = 0x3E800000


def exp(x: int) -> int:
    """Compute e^x.

    Examples
    --------
    >>> hex(exp(0)), hex(exp(0x3F800000))       # 1, e
    ('0x3f800000', '0x402df854')
    """
    number = decode(x, "fp32")
    if number.kind == "nan":
        return _NAN
    if _above(number, 88 if number.sign else 89):
        return 0 if number.sign else _INF
    n = _nearest_integer(multiply(x, CONSTANTS["64/ln2"]))
    n_bits = _float(n)
    r = add(add(x, negate(multiply(n_bits, CONSTANTS["C1"]))), negate(multiply(n_bits, CONSTANTS["C2"])))
    p = add(r, multiply(multiply(add(multiply(r, CONSTANTS["1/6"]), _HALF), r), r))
    t = EXP[n & 63]
    return _scale(add(t, multiply(t, p)), n >> 6)


def log(x: int) -> int:
    """Compute the natural logarithm.

    Examples
    --------
    >>> hex(log(0x3F800000)), hex(log(0x40000000)), hex(log(0))     # log of 1, 2, 0
    ('0x0', '0x3f317218', '0xff800000')
    """
    number = decode(x, "fp32")
    if number.kind == "finite" and number.mantissa == 0:
        return _INF | 1 << 31
    if number.kind == "nan" or number.sign:
        return _NAN
    if number.kind == "inf":
        return _INF
    e, m = _parts(x)
    i = ((x & 0x7FFFFF) + 0x8000) >> 16
    e_bits = _float(e + 1 if i >= 54 else e)
    r = multiply(add(m, negate(LOG_POINT[i])), LOG_RECIPROCAL[i])
    u = add(multiply(r, negate(_QUARTER)), CONSTANTS["1/3"])
    u = add(multiply(u, r), negate(_HALF))
    p = add(r, multiply(multiply(u, r), r))
    low = add(LOG[i], add(multiply(e_bits, CONSTANTS["ln2-H"]), p))
    return add(multiply(e_bits, CONSTANTS["H"]), low)


def reciprocal(x: int) -> int:
    """Compute 1/x.

    Examples
    --------
    >>> hex(reciprocal(0x40000000)), hex(reciprocal(0x80000000))        # 1/2, 1/-0
    ('0x3f000000', '0xff800000')
    """
    number = decode(x, "fp32")
    sign = number.sign << 31
    if number.kind == "nan":
        return _NAN
    if number.kind == "inf":
        return sign
    if number.mantissa == 0:
        return sign | _INF
    e, m = _parts(x)
    y = RECIPROCAL[(x & 0x7FFFFF) >> 16]
    for _ in range(2):
        y = add(y, multiply(y, add(_ONE, negate(multiply(m, y)))))
    return sign | _scale(y, -e)


def reciprocal_root(x: int) -> int:
    """Compute 1/√x.

    Examples
    --------
    >>> hex(reciprocal_root(0x40800000)), hex(reciprocal_root(0))       # 1/√4, 1/√0
    ('0x3f000000', '0x7f800000')
    """
    number = decode(x, "fp32")
    if number.kind == "finite" and number.mantissa == 0:
        return number.sign << 31 | _INF
    if number.kind == "nan" or number.sign:
        return _NAN
    if number.kind == "inf":
        return 0
    e, m = _parts(x)
    o = e & 1
    half_v = multiply(m + (o << 23), _HALF)
    y = RECIPROCAL_ROOT[64 * o + ((x & 0x7FFFFF) >> 17)]
    for _ in range(2):
        y = add(y, multiply(y, add(_HALF, negate(multiply(half_v, multiply(y, y))))))
    return _scale(y, -((e - o) // 2))


def _above(number: Number, limit: int) -> bool:
    """Whether a magnitude is greater than an integer."""
    if number.kind == "inf":
        return True
    if number.exponent >= 0:
        return number.mantissa << number.exponent > limit
    return number.mantissa > limit << -number.exponent


def _nearest_integer(x: int) -> int:
    """Round an fp32 number to the nearest integer, ties to even."""
    number = decode(x, "fp32")
    shift = -number.exponent
    if shift <= 0:
        return -(number.mantissa << -shift) if number.sign else number.mantissa << -shift
    q, fraction = number.mantissa >> shift, number.mantissa & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    q += fraction > half or (fraction == half and q & 1)
    return -q if number.sign else q


def _float(n: int) -> int:
    """Bits of a small integer; zero is +0."""
    return encode(Number("finite", int(n < 0), abs(n), 0), "fp32")


def _parts(x: int) -> tuple[int, int]:
    """Exponent e and the bits of m, where |x| = m · 2^e is normal and 1 ≤ m < 2."""
    return (x >> 23 & 0xFF) - 127, (x & 0x7FFFFF) | _ONE


def _scale(y: int, exponent: int) -> int:
    """Add to the exponent of a positive normal number."""
    field = (y >> 23) + exponent
    if field > 254:
        return _INF
    return 0 if field < 1 else (field << 23) | (y & 0x7FFFFF)
