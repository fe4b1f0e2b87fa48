"""Conversions: narrow numbers and integers to fp32, fp32 to narrow numbers with both roundings, scaling by 2^e.

Normative: docs/contracts/numerics.md, sections 1 and 4.
"""

from __future__ import annotations

from types import SimpleNamespace

from amaranth.hdl import C, Cat, Module, Mux, Value
from amaranth.hdl import signed as signed_shape
from amaranth.lib.wiring import In, Out

from hwsim.numerics import FLOATS
from hwsim_rtl.arithmetic.floats import finish, flush, is_nan, leading_zeros, unpack, width_of
from hwsim_rtl.arithmetic.pipeline import Pipeline
from hwsim_rtl.verilog import Leaf

__all__ = ["Converter", "Scale", "Widen"]

_INTEGER_DEPTHS = {"magnitude": 4, "count": 4, "normalise": 4, "round": 4}
_CONVERTER_DEPTHS = {"unpack": 3, "align": 4, "round": 5, "pack": 3}


class Widen(Leaf):
    """fp32 bits of a number of another format. Latency `latency` cycles, one number a cycle.

    Exact, but for int32, which is rounded to nearest even; NaNs become canonical, subnormals of bf16 and fp32 zeros.

    Parameters
    ----------
    format : str
        Any.
    latency : int
        Number in to number out [cycles], 0 (nothing but logic) or more.

    Members
    -------
    x : In(width of the format)
        Number.
    y : Out(32)
        The same as fp32.
    """

    def __init__(self, format: str, latency: int = 0) -> None:
        self.format, self.latency = format, latency
        super().__init__({"x": In(width_of(format)), "y": Out(32)})

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return f"Widen_{self.format}_l{self.latency}"

    def body(self) -> Module:
        """Build the converter."""
        m = Module()
        s = self._float(m) if self.format in FLOATS else self._integer(m)
        m.d.comb += self.y.eq(s.y)
        return m

    def _float(self, m: Module) -> SimpleNamespace:
        x = unpack(m, self.x, self.format, "x")
        magnitude = Cat(C(0, 23 - len(x.fraction)), x.fraction, x.field)
        y = finish(x.sign, magnitude, nan=x.nan, infinity=x.infinity, zero=x.zero)
        return Pipeline(m, self.latency, {"pack": 1}).end("pack", y=y)

    def _integer(self, m: Module) -> SimpleNamespace:
        pipe = Pipeline(m, self.latency, _INTEGER_DEPTHS)
        width = len(self.x)
        sign = self.x[-1]
        s = pipe.end("magnitude", magnitude=Mux(sign, -self.x.as_signed(), self.x)[:width], sign=sign)
        count, none = leading_zeros(s.magnitude)
        s = pipe.end("count", magnitude=s.magnitude, count=count, none=none, sign=s.sign)
        s = pipe.end(
            "normalise", shifted=(s.magnitude << s.count)[:width], field=(127 + width - 1 - s.count)[:8], none=s.none,
            sign=s.sign,
        )  # fmt: skip
        fraction, lost = s.shifted[:-1], C(0, 1)
        if width - 1 > 23:
            cut = width - 1 - 23
            fraction, lost = fraction[cut:], fraction[cut - 1] & (fraction[: cut - 1].any() | fraction[cut])
        y = Cat(C(0, 23 - len(fraction)), fraction, Mux(s.none, 0, s.field)) + lost
        return pipe.end("round", y=Cat(y[:31], s.sign))


class Scale(Leaf):
    """``y = x · 2^exponent``. Latency `latency` cycles, one number a cycle.

    Parameters
    ----------
    latency : int
        Number in to number out [cycles], 0 (nothing but logic) or more.

    Members
    -------
    x : In(32)
        fp32 bits.
    exponent : In(signed(10))
        Exponent of the factor, −512 … 511.
    y : Out(32)
        fp32 bits.
    """

    def __init__(self, latency: int = 0) -> None:
        self.latency = latency
        super().__init__({"x": In(32), "exponent": In(signed_shape(10)), "y": Out(32)})

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return f"Scale_l{self.latency}"

    def body(self) -> Module:
        """Build the scaler."""
        m = Module()
        pipe = Pipeline(m, self.latency, {"add": 4, "pack": 3})
        x = unpack(m, self.x, "fp32", "x")
        s = pipe.end(
            "add", field=x.field + self.exponent, fraction=x.fraction, sign=x.sign, zero=x.zero, infinity=x.infinity,
            nan=x.nan,
        )  # fmt: skip
        # Below 1, and above 254, of a number with a sign: comparisons would take a carry chain each.
        field, negative = s.field[:-1], s.field[-1]
        zero = s.zero | negative | ~field.any()
        infinity = s.infinity | (~s.zero & ~negative & (field[8:].any() | field[:8].all()))
        y = finish(s.sign, Cat(s.fraction, s.field[:8]), nan=s.nan, infinity=infinity, zero=zero)
        m.d.comb += self.y.eq(pipe.end("pack", y=y).y)
        return m


class Converter(Leaf):
    """fp32 to another format, to nearest even or stochastically. Latency `latency` cycles, one number a cycle.

    To fp32 only subnormals and NaNs change.

    Parameters
    ----------
    format : str
        Target: int8 or a floating-point format.
    latency : int
        Number in to number out [cycles], 0 (nothing but logic) or more.

    Members
    -------
    x : In(32)
        fp32 bits.
    word : In(32)
        Random word.
    stochastic : In(1)
        Round with the word, else to nearest even.
    y : Out(width of the format)
        Converted number.
    invalid, overflow : Out(1)
        Flags: the operand was a NaN; the result is the limit of the format where the number lay beyond it.
    """

    def __init__(self, format: str, latency: int) -> None:
        self.format, self.latency = format, latency
        ports = {"x": In(32), "word": In(32), "stochastic": In(1)}
        super().__init__({**ports, "y": Out(width_of(format)), "invalid": Out(1), "overflow": Out(1)})

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return f"Converter_{self.format}_l{self.latency}"

    def body(self) -> Module:
        """Build the converter."""
        m = Module()
        if self.format == "fp32":
            s = Pipeline(m, self.latency, {"pack": 1}).end(
                "pack", y=flush(self.x), invalid=is_nan(self.x), overflow=C(0, 1)
            )
        elif self.format == "int8":
            s = self._integer(m)
        else:
            s = self._float(m)
        m.d.comb += [self.y.eq(s.y), self.invalid.eq(s.invalid), self.overflow.eq(s.overflow)]
        return m

    def _float(self, m: Module) -> SimpleNamespace:
        """Align the significand so that the result's last bit has weight 1, add what rounds it, look at the limits.

        The field stands above the fraction, so that a carry of the rounding raises it; a subnormal's field is zero.
        """
        f = FLOATS[self.format]
        t, lowest, highest = f.mantissa_bits, f.min_exponent + 127, (f.largest >> f.mantissa_bits) - f.bias + 127
        pipe = Pipeline(m, self.latency, _CONVERTER_DEPTHS)
        x = unpack(m, self.x, "fp32", "x")
        subnormal = (x.field < lowest) | x.zero
        fraction = Mux(x.zero, 0, x.fraction)
        s = pipe.end(
            "unpack", significand=Cat(fraction, ~x.zero), shift=Mux(x.field < lowest, lowest - x.field, 0)[:8],
            field=Mux(subnormal, 0, x.field - (lowest - 1))[: f.exponent_bits],
            beyond=(x.field > highest) & ~x.nan & ~x.infinity, word=self.word, stochastic=self.stochastic, sign=x.sign,
            infinity=x.infinity, nan=x.nan,
        )  # fmt: skip
        below = 32 if f.gradual else 23 - t
        kept = _right(Cat(C(0, max(0, t + 1 + below - 24)), s.significand), s.shift if f.gradual else C(0, 1))
        s = pipe.end(
            "align", kept=kept[: t + below], field=s.field, beyond=s.beyond, word=s.word, stochastic=s.stochastic,
            sign=s.sign, infinity=s.infinity, nan=s.nan,
        )  # fmt: skip
        rounded = _rounded(Cat(s.kept, s.field), below, s.word, s.stochastic)
        s = pipe.end("round", magnitude=rounded, beyond=s.beyond, sign=s.sign, infinity=s.infinity, nan=s.nan)
        overflow = s.beyond | (~s.infinity & (s.magnitude > f.largest))
        limit = f.largest if f.infinity is None else f.infinity
        y = Mux(s.nan, f.nan, Cat(Mux(overflow | s.infinity, limit, s.magnitude)[: f.bits - 1], s.sign))
        if f.infinity is None:
            overflow = overflow | s.infinity
        return pipe.end("pack", y=y, invalid=s.nan, overflow=overflow & ~s.nan)

    def _integer(self, m: Module) -> SimpleNamespace:
        """Align the significand as if every magnitude were below 128; those that are not are clamped anyway."""
        highest, below = 127 + 6, 32
        pipe = Pipeline(m, self.latency, _CONVERTER_DEPTHS)
        x = unpack(m, self.x, "fp32", "x")
        s = pipe.end(
            "unpack", significand=Cat(x.fraction, ~x.zero), shift=(highest - x.field)[:8], beyond=x.field > highest,
            word=self.word, stochastic=self.stochastic, sign=x.sign, nan=x.nan,
        )  # fmt: skip
        s = pipe.end(
            "align", kept=_right(Cat(C(0, 7 + below - 24), s.significand), s.shift), beyond=s.beyond, word=s.word,
            stochastic=s.stochastic, sign=s.sign, nan=s.nan,
        )  # fmt: skip
        s = pipe.end(
            "round", magnitude=_rounded(s.kept, below, s.word, s.stochastic), beyond=s.beyond, sign=s.sign, nan=s.nan
        )
        overflow = (s.beyond | s.magnitude[7]) & ~s.nan
        magnitude = Mux(s.nan, 0, Mux(overflow, 127, s.magnitude[:7]))
        y = (magnitude ^ s.sign.replicate(8)) + s.sign
        return pipe.end("pack", y=y[:8], invalid=s.nan, overflow=overflow)


def _right(value: Value, shift: Value) -> Value:
    """Shift right by up to 255; what falls out at the bottom is never looked at by either rounding."""
    near = (len(value) - 1).bit_length()
    if len(shift) <= near:
        return value >> shift
    return Mux(shift[near:].any(), 0, value >> shift[:near])


def _rounded(kept: Value, below: int, word: Value, stochastic: Value) -> Value:
    """Add the random word below the rounding point; or, to nearest, just less than one half, and the last bit kept.

    The carry is the rounding: ``f + (½ − 2^−below) + 2^−below · odd ≥ 1`` is ``f > ½``, or ``f = ½`` and odd.
    """
    addend = Mux(stochastic, word[32 - below :], (1 << (below - 1)) - 1)
    total = Cat(1, kept) + Cat(~stochastic & kept[below], addend)
    return total[1 + below :]
