"""fp8 operands on their way to the array: one format that holds the numbers of both.

Normative: docs/contracts/numerics.md, section 1.
"""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module
from amaranth.lib.wiring import In, Out

from hwsim.numerics import FLOATS
from hwsim_rtl.arithmetic.floats import FP8_OPERAND, width_of
from hwsim_rtl.verilog import Leaf

__all__ = ["Fp8Operand"]

_E4M3, _E5M2 = FLOATS["fp8_e4m3"], FLOATS["fp8_e5m2"]


class Fp8Operand(Leaf):
    """Widen a number of either fp8 format to `FP8_OPERAND`, exactly. Nothing but logic, one number a cycle.

    Members
    -------
    x : In(8)
        Number.
    e5m2 : In(1)
        Its format is fp8_e5m2, not fp8_e4m3.
    y : Out(9)
        The same number.
    """

    def __init__(self) -> None:
        super().__init__({"x": In(8), "e5m2": In(1), "y": Out(width_of(FP8_OPERAND))})

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return "Fp8Operand"

    def body(self) -> Module:
        """Build it: e5m2 lacks a bit of the fraction, e4m3 has another bias, and its subnormals become normal."""
        m = Module()
        y = self.y
        fraction, exponent = self.x[:3], self.x[3:7]
        bias = _E5M2.bias - _E4M3.bias
        m.d.comb += y[8].eq(self.x[7])
        with m.If(self.e5m2):
            m.d.comb += y[:8].eq(Cat(C(0, 1), self.x[:7]))
        with m.Elif(exponent.all() & fraction.all()):
            m.d.comb += y[:8].eq(0xFC)
        with m.Elif(exponent.any()):
            m.d.comb += y[:8].eq(Cat(fraction, (exponent + bias)[:5]))
        with m.Else(), m.Switch(fraction):
            for top in range(3):  # the leading one
                with m.Case("0" * (2 - top) + "1" + "-" * top):
                    m.d.comb += y[:8].eq(Cat((fraction << (3 - top))[:3], C(bias - 2 + top, 5)))
        return m
