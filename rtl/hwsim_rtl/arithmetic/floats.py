"""Floating-point operands taken apart and put together: what all floating-point units begin and end with.

Normative: docs/contracts/numerics.md, sections 1 and 2.
"""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value

from hwsim.hardware.formats import FP8_OPERAND
from hwsim.numerics import FLOATS, INTEGERS, FloatFormat

__all__ = [
    "FP8_OPERAND",
    "INFINITY",
    "NAN",
    "SIGN",
    "Operand",
    "finish",
    "flush",
    "is_nan",
    "leading_zeros",
    "unpack",
    "width_of",
    "wire",
]

NAN = FLOATS["fp32"].nan
INFINITY = 0x7F800000
SIGN = FLOATS["fp32"].sign

_BIAS = FLOATS["fp32"].bias

_FORMATS = {**FLOATS, FP8_OPERAND: FloatFormat(FP8_OPERAND, 5, 3, 0xF7, 0xF8, 0xFC, gradual=True)}


class Operand(NamedTuple):
    """A number ``±1.fraction · 2^(field − 127)`` unless a flag is set; `field` is fp32's, `fraction` the format's."""

    sign: Value
    field: Value
    fraction: Value
    zero: Value
    infinity: Value
    nan: Value


def width_of(format: str) -> int:
    """Width of a format [bits].

    Examples
    --------
    >>> width_of("int8"), width_of("fp8_e4m3"), width_of("fp32")
    (8, 8, 32)
    """
    return INTEGERS[format] if format in INTEGERS else _FORMATS[format].bits


def unpack(m: Module, bits: Value, format: str, name: str) -> Operand:
    """Read an operand: subnormals are normalised in the formats that have them, else zeros."""
    f = _FORMATS[format]
    t = f.mantissa_bits
    raw, exponent, magnitude = bits[:t], bits[t : f.bits - 1], bits[: f.bits - 1]
    if f.infinity is None:
        infinity, nan = C(0, 1), magnitude > f.largest
    else:
        infinity, nan = exponent.all() & ~raw.any(), exponent.all() & raw.any()
    if not f.gradual:
        return Operand(bits[-1], exponent, raw, ~exponent.any(), infinity, nan)
    field, fraction = Signal(8, name=f"{name}_field"), Signal(t, name=f"{name}_fraction")
    m.d.comb += [field.eq(exponent + (_BIAS - f.bias)), fraction.eq(raw)]
    with m.If(~exponent.any()), m.Switch(raw):
        for top in reversed(range(t)):  # the leading one of a subnormal
            with m.Case("0" * (t - 1 - top) + "1" + "-" * top):
                m.d.comb += [field.eq(_BIAS + f.min_exponent - t + top), fraction.eq(raw << (t - top))]
    return Operand(bits[-1], field, fraction, ~magnitude.any(), infinity, nan)


def wire(m: Module, value: Value, name: str) -> Signal:
    """Name a value that is used more than once."""
    signal = Signal(value.shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


def finish(sign: Value, magnitude: Value, *, nan: Value, infinity: Value, zero: Value) -> Value:
    """Give the fp32 bits: of NaN, else of infinity, else of zero, else of the magnitude."""
    return Mux(nan, NAN, Cat(Mux(infinity, INFINITY, Mux(zero, 0, magnitude[:31]))[:31], sign))


def flush(bits: Value) -> Value:
    """Read fp32 bits as an operand and write them again: a subnormal is a zero, a NaN the canonical one."""
    return Mux(is_nan(bits), NAN, Cat(Mux(bits[23:31].any(), bits[:31], 0), bits[31]))


def is_nan(bits: Value) -> Value:
    """Whether fp32 bits are a NaN."""
    return bits[23:31].all() & bits[:23].any()


def leading_zeros(value: Value) -> tuple[Value, Value]:
    """Count the zeros above the highest one, as a tree of halves.

    Returns
    -------
    count, none : Value
        The count, of as many bits as the next power of two needs; whether there is no one at all.
    """
    width = 1 << (len(value) - 1).bit_length()
    return _leading_zeros(Cat(C(0, width - len(value)), value))


def _leading_zeros(value: Value) -> tuple[Value, Value]:
    if len(value) == 1:
        return C(0, 0), ~value[0]
    half = len(value) // 2
    (high, none_high), (low, none_low) = _leading_zeros(value[half:]), _leading_zeros(value[:half])
    return Cat(Mux(none_high, low, high)[: len(high)], none_high), none_high & none_low
