"""Multipliers of operands into the accumulator formats, pipelined to a chosen latency.

Normative: docs/contracts/numerics.md, section 2.
"""

from __future__ import annotations

from types import SimpleNamespace

from amaranth.hdl import C, Cat, Module, Mux, Value
from amaranth.lib.wiring import In, Out

from hwsim_rtl.arithmetic.floats import Operand, finish, unpack, width_of, wire
from hwsim_rtl.arithmetic.pipeline import Pipeline
from hwsim_rtl.verilog import Leaf

__all__ = ["Multiplier"]

_INTEGER_DEPTHS = {"product": 1.0}
_NARROW_DEPTHS = {"unpack": 3, "product": 6, "pack": 4}
_WIDE_DEPTHS = {"unpack": 1, "product": 6, "sum": 6, "normalise": 3, "round": 4, "pack": 1}


class Multiplier(Leaf):
    """``p = a · b``. Latency `latency` cycles, one product a cycle.

    Products of int8 are int32, all others fp32; only those of two fp32 numbers are rounded.

    Parameters
    ----------
    a_format, b_format : str
        Formats of the operands: the same, or two fp8 formats; `FP8_OPERAND` for numbers of either.
    latency : int
        Operands in to product out [cycles], 0 (nothing but logic) or more.

    Members
    -------
    a, b : In(width of the format)
        Operands.
    p : Out(32)
        Their product, from a register where there is one.
    """

    def __init__(self, a_format: str, b_format: str, latency: int) -> None:
        self.a_format, self.b_format, self.latency = a_format, b_format, latency
        super().__init__({"a": In(width_of(a_format)), "b": In(width_of(b_format)), "p": Out(32)})

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return f"Multiplier_{self.a_format}_{self.b_format}_l{self.latency}"

    def body(self) -> Module:
        """Build the multiplier."""
        m = Module()
        if self.a_format == "int8":
            product = (self.a.as_signed() * self.b.as_signed()).as_signed()
            s = Pipeline(m, self.latency, _INTEGER_DEPTHS).end("product", p=product)
        elif self.a_format == "fp32":
            s = self._wide(m)
        else:
            s = self._narrow(m)
        m.d.comb += self.p.eq(s.p)
        return m

    def _operands(self, m: Module) -> tuple[Operand, Operand, dict[str, Value]]:
        """The operands, the product's sign and what its special cases depend on."""
        a, b = unpack(m, self.a, self.a_format, "a"), unpack(m, self.b, self.b_format, "b")
        flags = {
            "sign": a.sign ^ b.sign,
            "nan": a.nan | b.nan | (a.infinity & b.zero) | (a.zero & b.infinity),
            "infinity": a.infinity | b.infinity,
            "zero": a.zero | b.zero,
        }
        return a, b, flags

    def _narrow(self, m: Module) -> SimpleNamespace:
        pipe = Pipeline(m, self.latency, _NARROW_DEPTHS)
        a, b, flags = self._operands(m)
        s = pipe.end("unpack", a=Cat(a.fraction, 1), b=Cat(b.fraction, 1), a_field=a.field, b_field=b.field, **flags)
        s = pipe.end(
            "product", product=s.a * s.b, field=(s.a_field + s.b_field - 127).as_signed(), sign=s.sign, nan=s.nan,
            infinity=s.infinity, zero=s.zero,
        )  # fmt: skip
        carry = s.product[-1]  # the product of two significands lies in [1, 4)
        fraction = Mux(carry, s.product[:-1], Cat(C(0, 1), s.product[:-2]))
        zero, infinity = s.zero, s.infinity
        if self.a_format == "bf16":  # the only narrow format whose products may leave fp32's range
            below, beyond = _limits(s.field, carry)
            zero, infinity = zero | below, infinity | (beyond & ~zero)
        magnitude = Cat(C(0, 23 - len(fraction)), fraction, (s.field + carry)[:8])
        return pipe.end("pack", p=finish(s.sign, magnitude, nan=s.nan, infinity=infinity, zero=zero))

    def _wide(self, m: Module) -> SimpleNamespace:
        pipe = Pipeline(m, self.latency, _WIDE_DEPTHS)
        a, b, flags = self._operands(m)
        s = pipe.end("unpack", a=Cat(a.fraction, 1), b=Cat(b.fraction, 1), field=(a.field + b.field), **flags)
        # Four products of halves fit the multipliers of every FPGA.
        halves = {f"{i}{j}": s.a.word_select(i, 12) * s.b.word_select(j, 12) for i in (0, 1) for j in (0, 1)}
        s = pipe.end(
            "product", low=halves["00"], cross_1=halves["01"], cross_2=halves["10"], high=halves["11"], field=s.field,
            sign=s.sign, nan=s.nan, infinity=s.infinity, zero=s.zero,
        )  # fmt: skip
        product = (Cat(s.low, s.high) + ((s.cross_1 + s.cross_2) << 12))[:48]
        s = pipe.end(
            "sum", product=product, field=(s.field - 127).as_signed(), sign=s.sign, nan=s.nan, infinity=s.infinity,
            zero=s.zero,
        )  # fmt: skip
        carry = s.product[47]
        kept = Mux(carry, s.product[24:], s.product[23:47])
        guard, sticky = Mux(carry, s.product[23], s.product[22]), s.product[:22].any() | (carry & s.product[22])
        s = pipe.end(
            "normalise", kept=kept[:23], up=guard & (sticky | kept[0]), field=(s.field + carry).as_signed(),
            sign=s.sign, nan=s.nan, infinity=s.infinity, zero=s.zero,
        )  # fmt: skip
        # Rounded as if the exponent had no limits: what is rounded up to 2^-126 is not flushed.
        carry = wire(m, s.kept.all() & s.up, "carry")
        below, beyond = _limits(s.field, carry)
        s = pipe.end(
            "round", magnitude=(Cat(s.kept, s.field[:8]) + s.up)[:31], sign=s.sign, nan=s.nan,
            infinity=s.infinity | (beyond & ~s.zero), zero=s.zero | below,
        )  # fmt: skip
        return pipe.end("pack", p=finish(s.sign, s.magnitude, nan=s.nan, infinity=s.infinity, zero=s.zero))


def _limits(field: Value, carry: Value) -> tuple[Value, Value]:
    """Whether ``field + carry`` is below 1 and whether above 254, without waiting for the sum."""
    return (field < 0) | ((field == 0) & ~carry), (field > 254) | ((field == 254) & carry)
