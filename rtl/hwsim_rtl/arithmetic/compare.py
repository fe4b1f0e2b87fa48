"""What the vector unit does with fp32 numbers by comparing them: nothing but logic, no latency.

Normative: docs/contracts/values.md, section 4.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Value
from amaranth.lib.wiring import In, Out

from hwsim_rtl.arithmetic.floats import NAN, flush, is_nan, wire
from hwsim_rtl.verilog import Leaf

__all__ = ["Clamp", "Maximum", "Select", "SelectEqual", "below", "equal"]


class _Logic(Leaf):
    """Operands of 32 bits in, one result of 32 bits out, in the same cycle."""

    _OPERANDS: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__({**{name: In(32) for name in self._OPERANDS}, "z": Out(32)})

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return type(self).__name__

    def body(self) -> Module:
        """Build the logic."""
        m = Module()
        m.d.comb += self.z.eq(self._result(m))
        return m

    def _result(self, m: Module) -> Value:
        raise NotImplementedError


class Maximum(_Logic):
    """``z = max(x, y)``: NaN of a NaN, +0 of two zeros of both signs.

    Members
    -------
    x, y : In(32)
        Operands.
    z : Out(32)
        The larger.
    """

    _OPERANDS = ("x", "y")

    def _result(self, m: Module) -> Value:
        x, y = (wire(m, flush(v), f"{v.name}_flushed") for v in (self.x, self.y))
        first_is_less = Mux(x[31] ^ y[31], x[31], (x[:31] < y[:31]) ^ x[31])
        return Mux(is_nan(self.x) | is_nan(self.y), NAN, Mux(first_is_less, y, x))


class Clamp(_Logic):
    """``z = low`` where ``a ≤ low``, `high` where ``a ≥ high``, else `a`; NaN of a NaN.

    Members
    -------
    a, low, high : In(32)
        Operand and limits, which are handed on bit for bit.
    z : Out(32)
        Clamped operand.
    """

    _OPERANDS = ("a", "low", "high")

    def _result(self, m: Module) -> Value:
        inside = Mux(below(self.a, self.high), flush(self.a), self.high)
        return Mux(is_nan(self.a), NAN, Mux(below(self.low, self.a), inside, self.low))


class Select(_Logic):
    """``z = b`` where ``low < a < high``, else +0.

    Members
    -------
    a, b, low, high : In(32)
        What decides, what is selected, limits.
    z : Out(32)
        Selected operand.
    """

    _OPERANDS = ("a", "b", "low", "high")

    def _result(self, m: Module) -> Value:
        return Mux(below(self.low, self.a) & below(self.a, self.high), flush(self.b), 0)


class SelectEqual(_Logic):
    """``z = c`` where ``a = b``, else +0.

    Members
    -------
    a, b, c : In(32)
        What is compared, what is selected.
    z : Out(32)
        Selected operand.
    """

    _OPERANDS = ("a", "b", "c")

    def _result(self, m: Module) -> Value:
        return Mux(equal(self.a, self.b), flush(self.c), 0)


def below(x: Value, y: Value) -> Value:
    """Whether ``x < y``; never with a NaN, nor of two zeros."""
    a, b = _magnitude(x), _magnitude(y)
    same_sign = Mux(x[31], b < a, a < b)
    return Mux(x[31] ^ y[31], x[31] & (a | b).any(), same_sign) & ~is_nan(x) & ~is_nan(y)


def equal(x: Value, y: Value) -> Value:
    """Whether ``x = y``; never with a NaN, always of two zeros."""
    a, b = _magnitude(x), _magnitude(y)
    return (a == b) & ((x[31] == y[31]) | ~a.any()) & ~is_nan(x) & ~is_nan(y)


def _magnitude(x: Value) -> Value:
    return Mux(x[23:31].any(), x[:31], 0)
