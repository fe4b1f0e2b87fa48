"""The vector unit's micro-operations that are not plain arithmetic, one number at a time, with integers only.

Numbers are fp32 *bits*; what the array's and the functions' operations are is in `hwsim.numerics.reference` and
`functions`. Normative: docs/contracts/values.md, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hwsim.errors import HwsimError
from hwsim.numerics.formats import FLOATS
from hwsim.numerics.reference import Number, add, convert, decode, encode, maximum, wrap_int32

__all__ = [
    "clamp",
    "flush",
    "from_int32",
    "maximum_lanes",
    "scale",
    "select",
    "select_equal",
    "select_label",
    "subtract_label",
    "sum_lanes",
]

_NAN = FLOATS["fp32"].nan
_MINUS_ONE = 0xBF800000


def flush(x: int) -> int:
    """Read an operand: a subnormal is a zero of its sign, every NaN the canonical one.

    Examples
    --------
    >>> hex(flush(0x80000001)), hex(flush(0xFFFFFFFF)), hex(flush(0x3F800000))
    ('0x80000000', '0x7fc00000', '0x3f800000')
    """
    return encode(decode(x, "fp32"), "fp32")


def from_int32(x: int) -> int:
    """Convert an int32, a signed integer or its 32 bits, to the nearest fp32 number, ties to even.

    Examples
    --------
    >>> hex(from_int32(-3)), hex(from_int32(0xFFFFFFFD)), hex(from_int32(2**24 + 1))
    ('0xc0400000', '0xc0400000', '0x4b800000')
    """
    return convert(wrap_int32(x), "int32", "fp32").bits


def scale(x: int, exponent: int) -> int:
    """Multiply by ``2^exponent``: exact, but for infinity above the largest number and flushing.

    Examples
    --------
    >>> hex(scale(0x3F800000, -1)), hex(scale(0xBF800000, 128)), hex(scale(0xBF800000, -127))   # 1, -1, -1
    ('0x3f000000', '0xff800000', '0x80000000')
    """
    number = decode(x, "fp32")
    return encode(number._replace(exponent=number.exponent + exponent), "fp32")


def clamp(a: int, low: int, high: int) -> int:
    """Give `low` where ``a ≤ low``, `high` where ``a ≥ high``, else `a`; NaN of a NaN.

    Examples
    --------
    >>> [hex(clamp(a, 0, 0x40C00000)) for a in (0xBF800000, 0x80000000, 0x3F800000, 0x7F800000)]    # 0 … 6
    ['0x0', '0x0', '0x3f800000', '0x40c00000']
    """
    x = decode(a, "fp32")
    if x.kind == "nan":
        return _NAN
    if not _below(decode(low, "fp32"), x):
        return low
    return flush(a) if _below(x, decode(high, "fp32")) else high


def select(a: int, b: int, low: int, high: int) -> int:
    """Give `b` where ``low < a < high``, else +0.

    Examples
    --------
    >>> [hex(select(a, 0xBF800000, 0, 0x7F800000)) for a in (0, 0x3F800000, 0x7F800000, 0x7FC00000)]
    ['0x0', '0xbf800000', '0x0', '0x0']
    """
    x = decode(a, "fp32")
    return flush(b) if _below(decode(low, "fp32"), x) and _below(x, decode(high, "fp32")) else 0


def select_equal(a: int, b: int, c: int) -> int:
    """Give `c` where ``a = b``, else +0; zeros of both signs are equal, a NaN equals nothing.

    Examples
    --------
    >>> hex(select_equal(0x80000000, 1, 0x3F800000)), hex(select_equal(_NAN, _NAN, 0x3F800000))
    ('0x3f800000', '0x0')
    """
    x, y = decode(a, "fp32"), decode(b, "fp32")
    unordered = "nan" in (x.kind, y.kind)
    return 0 if unordered or _below(x, y) or _below(y, x) else flush(c)


def select_label(a: int, column: int, label: int) -> int:
    """Give `a` in the column that the label names, else +0.

    Examples
    --------
    >>> [hex(select_label(0x3F800000, column, 1)) for column in range(3)]
    ['0x0', '0x3f800000', '0x0']
    """
    return flush(a) if column == label else 0


def subtract_label(a: int, column: int, label: int) -> int:
    """Give ``a − 1`` in the column that the label names, else `a`.

    Examples
    --------
    >>> [hex(subtract_label(0x3F000000, column, 1)) for column in range(3)]         # ½
    ['0x3f000000', '0xbf000000', '0x3f000000']
    """
    return add(a, _MINUS_ONE) if column == label else flush(a)


def sum_lanes(lanes: Sequence[int]) -> int:
    """Add the lanes of a line: upper to lower half, half after half; what lane 0 holds in the end.

    Raises
    ------
    HwsimError
        If there is no lane.

    Examples
    --------
    Of three lanes the third is added to the first before the second is: 1 + 2^-24 is 1, twice.

    >>> one, tiny = 0x3F800000, 0x33800000
    >>> hex(sum_lanes([one, tiny, tiny])), hex(sum_lanes([tiny, one, tiny]))
    ('0x3f800000', '0x3f800001')
    """
    return _across(lanes, add)


def maximum_lanes(lanes: Sequence[int]) -> int:
    """Give the largest lane of a line, as `maximum` of halves.

    Raises
    ------
    HwsimError
        If there is no lane.

    Examples
    --------
    >>> hex(maximum_lanes([0xBF800000, 0x80000000, 0]))
    '0x0'
    """
    return _across(lanes, maximum)


def _across(lanes: Sequence[int], operation: Callable[[int, int], int]) -> int:
    if not lanes:
        raise HwsimError("a line has at least one lane, not 0")
    x = [flush(lane) for lane in lanes]
    half = 1 << (len(x) - 1).bit_length() >> 1
    while half:
        x = [operation(x[lane], x[lane + half]) if lane + half < len(x) else x[lane] for lane in range(half)]
        half //= 2
    return x[0]


def _below(x: Number, y: Number) -> bool:
    """Whether ``x < y``; never with a NaN."""
    if "nan" in (x.kind, y.kind):
        return False
    return _order(x) < _order(y)


def _order(x: Number) -> int:
    """Number an operand's place among all: its value in units of fp32's smallest subnormal, infinities beyond."""
    magnitude = 1 << 300 if x.kind == "inf" else x.mantissa << (x.exponent + 149 if x.mantissa else 0)
    return -magnitude if x.sign else magnitude
