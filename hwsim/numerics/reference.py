"""The numeric contract, one number at a time, with integers only: slow, and meant to be read beside the page.

Numbers are *bits* (`int`, or signed `int` for int8 and int32). Normative: docs/contracts/numerics.md, sections 1 to 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from hwsim.errors import HwsimError
from hwsim.numerics.formats import FLOATS, FloatFormat, float_format

__all__ = [
    "Converted",
    "Number",
    "PartialSum",
    "Rounding",
    "add",
    "convert",
    "decode",
    "encode",
    "matmul",
    "maximum",
    "multiply",
    "negate",
    "partial_sums",
    "second_format",
    "wrap_int32",
]

Rounding = Literal["nearest", "stochastic"]
FP32 = FLOATS["fp32"]

#: Formats of which a product may have two.
_MIXED = frozenset({"fp8_e4m3", "fp8_e5m2"})


class Number(NamedTuple):
    """Exact value ``±mantissa · 2^exponent`` (kind ``"finite"``), or ``"inf"`` or ``"nan"``; sign 1 is minus."""

    kind: Literal["finite", "inf", "nan"]
    sign: int
    mantissa: int
    exponent: int


class Converted(NamedTuple):
    """Result of a conversion and its flags."""

    bits: int
    invalid: bool
    overflow: bool


class PartialSum(NamedTuple):
    """One run of products: the indices ``range(start, stop, step)`` of k, and whether idle rows follow."""

    start: int
    stop: int
    step: int
    idle: bool


def decode(bits: int, format: str) -> Number:
    """Read a floating-point pattern as an operand.

    Raises
    ------
    HwsimError
        If the format is no floating-point format.

    Examples
    --------
    >>> decode(0x3FC0, "bf16")                  # 1.5 = 192 · 2^-7
    Number(kind='finite', sign=0, mantissa=192, exponent=-7)
    >>> decode(0x8001, "bf16")                  # a subnormal is a zero of its sign
    Number(kind='finite', sign=1, mantissa=0, exponent=0)
    """
    f = float_format(format)
    sign = bits >> (f.bits - 1) & 1
    magnitude = bits & (f.sign - 1)
    if magnitude > f.largest:
        return Number("inf" if magnitude == f.infinity else "nan", sign, 0, 0)
    field = magnitude >> f.mantissa_bits
    mantissa = magnitude & ((1 << f.mantissa_bits) - 1)
    if field == 0:
        if mantissa == 0 or not f.gradual:
            return Number("finite", sign, 0, 0)
        return Number("finite", sign, mantissa, f.min_exponent - f.mantissa_bits)
    return Number("finite", sign, mantissa + (1 << f.mantissa_bits), field - f.bias - f.mantissa_bits)


def encode(
    number: Number, format: str, *, rounding: Rounding = "nearest", word: int = 0, saturate: bool = False
) -> int:
    """Round an exact number to a floating-point format.

    Parameters
    ----------
    number : Number
        What to round.
    format : str
        Floating-point format of the result.
    rounding : {"nearest", "stochastic"}
        Ties go to even; stochastic rounding takes `word`, 32 random bits.
    saturate : bool
        Give the largest number instead of an infinity.

    Returns
    -------
    int
        Bits.

    Raises
    ------
    HwsimError
        If the format is no floating-point format.

    Examples
    --------
    >>> hex(encode(Number("finite", 0, 3, -1), "fp32"))     # 1.5
    '0x3fc00000'
    """
    return _encode(number, float_format(format), rounding, word, saturate).bits


def convert(
    bits: int, source: str, target: str, *, rounding: Rounding = "nearest", word: int = 0, saturate: bool = False
) -> Converted:
    """Convert between fp32 and another format (section 4); one of `source` and `target` is ``"fp32"``.

    Raises
    ------
    HwsimError
        If neither format is fp32, or if one is unknown.

    Examples
    --------
    >>> convert(0x3F808000, "fp32", "bf16")                 # a tie goes to even
    Converted(bits=16256, invalid=False, overflow=False)
    >>> convert(0x3F808000, "fp32", "bf16", rounding="stochastic", word=0x80000000).bits - 16256
    1
    >>> convert(0x43800000, "fp32", "int8")                 # 256 is clamped
    Converted(bits=127, invalid=False, overflow=True)
    >>> hex(convert(-3, "int32", "fp32").bits)
    '0xc0400000'
    """
    if target == "fp32":
        if source in ("int8", "int32"):
            exact = Number("finite", int(bits < 0), abs(bits), 0)
            return Converted(_encode(exact if bits else Number("finite", 0, 0, 0), FP32).bits, False, False)
        number = decode(bits, source)
        return Converted(_encode(number, FP32).bits, number.kind == "nan", False)
    if source != "fp32":
        raise HwsimError(f"conversions go from or to fp32, not from {source} to {target}; convert to fp32 first")
    number = decode(bits, "fp32")
    if target == "int8":
        return _to_int8(number, rounding, word)
    return _encode(number, float_format(target), rounding, word, saturate)


def multiply(a: int, b: int, format: str = "fp32", format_b: str | None = None) -> int:
    """Multiply two operands of a format in its accumulator format (fp32, or int32 for int8).

    `format_b` is the second operand's format where it differs: the two fp8 formats may meet.

    Raises
    ------
    HwsimError
        If a format is unknown, or the two may not meet.

    Examples
    --------
    >>> hex(multiply(0x3FC0, 0xC000, "bf16")), multiply(-7, 3, "int8")      # 1.5 · -2
    ('0xc0400000', -21)
    >>> hex(multiply(0x3C, 0xC0, "fp8_e4m3", "fp8_e5m2"))                   # 1.5 · -2
    '0xc0400000'
    """
    other = format if format_b is None else second_format(format, format_b)
    if format == "int8":
        return a * b
    x, y = decode(a, format), decode(b, other)
    sign = x.sign ^ y.sign
    if "nan" in (x.kind, y.kind):
        return FP32.nan
    if "inf" in (x.kind, y.kind):
        zero = Number("finite", 0, 0, 0)
        return FP32.nan if zero in (x._replace(sign=0), y._replace(sign=0)) else sign << 31 | 0x7F800000
    return _encode(Number("finite", sign, x.mantissa * y.mantissa, x.exponent + y.exponent), FP32).bits


def second_format(format: str, format_b: str | None) -> str:
    """Give the format of a product's second operand, the first's unless named.

    Raises
    ------
    HwsimError
        If the array cannot multiply the two.

    Examples
    --------
    >>> second_format("bf16", None), second_format("fp8_e4m3", "fp8_e5m2")
    ('bf16', 'fp8_e5m2')
    """
    other = format if format_b is None else format_b
    if other != format and not {format, other} <= _MIXED:
        raise HwsimError(
            f"a product of {format} and {other}: both operands have one format, or each one of "
            f"{' and '.join(sorted(_MIXED))}; convert one of them"
        )
    return other


def add(x: int, y: int) -> int:
    """Add two fp32 numbers.

    Examples
    --------
    >>> hex(add(0x3F800000, 0x40000000)), hex(add(0x80000000, 0x80000000))      # 1 + 2, -0 + -0
    ('0x40400000', '0x80000000')
    """
    a, b = decode(x, "fp32"), decode(y, "fp32")
    if "nan" in (a.kind, b.kind) or (a.kind == b.kind == "inf" and a.sign != b.sign):
        return FP32.nan
    if "inf" in (a.kind, b.kind):
        return (a if a.kind == "inf" else b).sign << 31 | 0x7F800000
    exponent = min(a.exponent, b.exponent)
    exact = sum((-n.mantissa if n.sign else n.mantissa) << (n.exponent - exponent) for n in (a, b))
    if exact == 0:
        return (a.sign & b.sign) << 31  # -0 of two -0 alone: what cancels has opposite signs
    return _encode(Number("finite", int(exact < 0), abs(exact), exponent), FP32).bits


def negate(x: int) -> int:
    """Flip the sign of an fp32 number.

    Examples
    --------
    >>> hex(negate(0x3F800000))
    '0xbf800000'
    """
    return x ^ FP32.sign


def maximum(x: int, y: int) -> int:
    """Give the larger of two fp32 numbers.

    Examples
    --------
    >>> hex(maximum(0x80000000, 0)), hex(maximum(0xC0000000, 0xBF800000))       # max(-0, +0), max(-2, -1)
    ('0x0', '0xbf800000')
    """
    a, b = decode(x, "fp32"), decode(y, "fp32")
    if "nan" in (a.kind, b.kind):
        return FP32.nan
    return max(
        (_encode(n, FP32).bits for n in (a, b)), key=lambda bits: -(bits & 0x7FFFFFFF) if bits >> 31 else bits + 1
    )


def wrap_int32(x: int) -> int:
    """Give the int32 that equals an integer modulo 2^32.

    Examples
    --------
    >>> wrap_int32(2**31)
    -2147483648
    """
    return (x + 2**31) % 2**32 - 2**31


def partial_sums(
    k: int,
    *,
    dataflow: str,
    rows: int,
    add_latency_cycles: int = 1,
    k_tile: int | None = None,
    k_segment: int | None = None,
) -> list[PartialSum]:
    """Divide a reduction into the partial sums of section 3, in the order in which they reach the accumulator.

    Parameters
    ----------
    k : int
        Length of the reduction, 1 or more.
    dataflow : {"ws", "is", "os"}
        Stationary operand.
    rows : int
        Rows of the array, `R`.
    add_latency_cycles : int
        Partial sum in to partial sum out [cycles], `α`; matters to output-stationary alone.
    k_tile : int, optional
        Reduction of one command, but the last's; `k` unless given.
    k_segment : int, optional
        Channels of one tap where the tile holds the patch; folds end at its multiples within a tile.

    Raises
    ------
    HwsimError
        If the dataflow is unknown or a size is not positive.

    Examples
    --------
    >>> [p[:3] for p in partial_sums(10, dataflow="ws", rows=4)]
    [(0, 4, 1), (4, 8, 1), (8, 10, 1)]
    >>> [p[:3] for p in partial_sums(10, dataflow="os", rows=4, add_latency_cycles=2, k_tile=6)]
    [(0, 6, 2), (1, 6, 2), (6, 10, 2), (7, 10, 2)]
    """
    sizes = {"k": k, "rows": rows, "add_latency_cycles": add_latency_cycles, "k_tile": k_tile, "k_segment": k_segment}
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise HwsimError(f"matmul: {name} must be at least 1, not {size}")
    if dataflow not in ("ws", "is", "os"):
        raise HwsimError(f"matmul: unknown dataflow '{dataflow}'; choose one of ws, is, os")
    sums = []
    for tile in range(0, k, k_tile or k):
        end = min(tile + (k_tile or k), k)
        if dataflow == "os":
            sums += [
                PartialSum(tile + j, max(end, tile + j), add_latency_cycles, False) for j in range(add_latency_cycles)
            ]
            continue
        segment = k_segment or end - tile
        for first in range(tile, end, segment):
            last = min(first + segment, end)
            for start in range(first, last, rows):
                stop = min(start + rows, last)
                sums.append(PartialSum(start, stop, 1, stop - start < rows))
    return sums


def matmul(
    a: Sequence[Sequence[int]],
    b: Sequence[Sequence[int]],
    *,
    operand_format: str,
    operand_format_b: str | None = None,
    dataflow: str,
    rows: int,
    add_latency_cycles: int = 1,
    k_tile: int | None = None,
    k_segment: int | None = None,
    accumulate: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """Multiply matrices of bits in the order of section 3.

    Parameters
    ----------
    a, b : sequences of shape (m, k) and (k, n)
        Bits of the operands.
    operand_format : str
        Format of `a`, and of `b` unless named.
    operand_format_b : str, optional
        Format of `b`; it may differ where both are fp8 formats.
    dataflow, rows, add_latency_cycles, k_tile, k_segment
        As for `partial_sums`.
    accumulate : sequence of shape (m, n), optional
        Bits of the accumulator that the first command adds to; without it that command overwrites.

    Returns
    -------
    list of shape (m, n)
        Bits in the accumulator format.

    Raises
    ------
    HwsimError
        As `partial_sums` and `multiply`.

    Examples
    --------
    >>> matmul([[1, 2]], [[3], [4]], operand_format="int8", dataflow="ws", rows=2)
    [[11]]
    """
    options = {"add_latency_cycles": add_latency_cycles, "k_tile": k_tile, "k_segment": k_segment}
    sums = partial_sums(len(b), dataflow=dataflow, rows=rows, **options)  # type: ignore[arg-type]
    columns = list(zip(*b, strict=True))
    formats = operand_format, second_format(operand_format, operand_format_b)
    return [
        [
            _dot(row, column, formats, sums, None if accumulate is None else accumulate[i][j])
            for j, column in enumerate(columns)
        ]
        for i, row in enumerate(a)
    ]


def _dot(a: Sequence[int], b: Sequence[int], formats: tuple[str, str], sums: list[PartialSum], line: int | None) -> int:
    def plus(x: int, y: int) -> int:
        return wrap_int32(x + y) if formats[0] == "int8" else add(x, y)

    for partial in sums:
        s = 0
        for k in range(partial.start, partial.stop, partial.step):
            s = plus(s, multiply(a[k], b[k], *formats))
        if partial.idle:
            s = plus(s, 0)
        line = s if line is None else plus(line, s)
    assert line is not None  # there is at least one partial sum
    return line


def _encode(
    number: Number, f: FloatFormat, rounding: Rounding = "nearest", word: int = 0, saturate: bool = False
) -> Converted:
    sign = f.sign if number.sign else 0
    limit = f.largest if saturate or f.infinity is None else f.infinity
    if number.kind == "nan":
        return Converted(f.nan, True, False)
    if number.kind == "inf":
        return Converted(sign | limit, False, limit == f.largest)
    if number.mantissa == 0:
        return Converted(sign, False, False)
    exponent = number.mantissa.bit_length() - 1 + number.exponent
    unit = (max(exponent, f.min_exponent) if f.gradual else exponent) - f.mantissa_bits
    q = _round(number.mantissa, unit - number.exponent, rounding, word)
    if q >> (f.mantissa_bits + 1):  # the carry made it a power of two
        q, unit = q >> 1, unit + 1
    if q >> f.mantissa_bits == 0:  # subnormal or zero, in gradual formats only
        return Converted(sign | q, False, False)
    field = unit + f.mantissa_bits + f.bias
    if field < 1:
        return Converted(sign, False, False)  # FTZ
    bits = (field << f.mantissa_bits) + q - (1 << f.mantissa_bits)
    return Converted(sign | limit, False, True) if bits > f.largest else Converted(sign | bits, False, False)


def _to_int8(number: Number, rounding: Rounding, word: int) -> Converted:
    if number.kind == "nan":
        return Converted(0, True, False)
    q = 128 if number.kind == "inf" else _round(number.mantissa, -number.exponent, rounding, word)
    magnitude = min(q, 127)
    return Converted(-magnitude if number.sign else magnitude, False, q > 127)


def _round(mantissa: int, shift: int, rounding: Rounding, word: int) -> int:
    """Round ``mantissa / 2^shift`` to an integer."""
    if shift <= 0:
        return mantissa << -shift
    q = mantissa >> shift
    fraction = mantissa - (q << shift)
    if rounding == "stochastic":
        return q + (((fraction << 32) >> shift) + word >= 1 << 32)
    half = 1 << (shift - 1)
    return q + (fraction > half or (fraction == half and q & 1))
