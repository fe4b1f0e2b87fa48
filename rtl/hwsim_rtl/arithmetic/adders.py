"""Adders of the accumulator formats, pipelined to a chosen latency.

Normative: docs/contracts/numerics.md, section 2.
"""

from __future__ import annotations

from types import SimpleNamespace

from amaranth.hdl import C, Cat, Module, Mux, Value
from amaranth.lib.wiring import In, Out

from hwsim_rtl.arithmetic.floats import finish, leading_zeros, wire
from hwsim_rtl.arithmetic.pipeline import Pipeline
from hwsim_rtl.verilog import Leaf

__all__ = ["Adder"]

#: Guard, round and sticky: what of the smaller operand lies below the larger one's last bit.
_BELOW = 3
_WIDTH = 24 + _BELOW

#: Depth of each step: levels of 4-input tables, a carry chain counted as a few.
_DEPTHS = {"compare": 4, "order": 1, "align": 4, "add": 4, "count": 4, "normalise": 4, "round": 4, "pack": 1}


class Adder(Leaf):
    """``z = x + y``. Latency `latency` cycles, one sum a cycle.

    Parameters
    ----------
    format : {"fp32", "int32"}
        Of operands and sum.
    latency : int
        Operands in to sum out [cycles], 1 or more. fp32 has eight steps between which registers go.

    Members
    -------
    x, y : In(32)
        Operands.
    z : Out(32)
        Their sum, from a register.
    """

    def __init__(self, format: str, latency: int) -> None:
        self.format, self.latency = format, latency
        super().__init__({"x": In(32), "y": In(32), "z": Out(32)})

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return f"Adder_{self.format}_l{self.latency}"

    def body(self) -> Module:
        """Build the adder."""
        m = Module()
        if self.format == "int32":
            s = Pipeline(m, self.latency, {"add": 1}).end("add", z=(self.x + self.y)[:32])
        else:
            s = self._float(m, Pipeline(m, self.latency, _DEPTHS))
        m.d.comb += self.z.eq(s.z)
        return m

    def _float(self, m: Module, pipe: Pipeline) -> SimpleNamespace:
        """Subtract the smaller magnitude from the larger, or add it; zeros of either sign need no case of their own."""
        x, y = self.x, self.y
        infinite = [v[23:31].all() for v in (x, y)]
        nan = [i & v[:23].any() for i, v in zip(infinite, (x, y), strict=True)]
        subtract = x[31] ^ y[31]
        s = pipe.end(
            "compare", x=x, y=y, swap=y[:31] > x[:31], x_over_y=(x[23:31] - y[23:31])[:8],
            y_over_x=(y[23:31] - x[23:31])[:8], subtract=subtract, infinity=infinite[0] | infinite[1],
            nan=nan[0] | nan[1] | (infinite[0] & infinite[1] & subtract),
        )  # fmt: skip

        large = wire(m, Mux(s.swap, s.y, s.x), "larger")
        small = wire(m, Mux(s.swap, s.x, s.y), "smaller")
        s = pipe.end(
            "order", large=_significand(large), small=_significand(small), field=large[23:31], sign=large[31],
            distance=Mux(s.swap, s.y_over_x, s.x_over_y), subtract=s.subtract, infinity=s.infinity, nan=s.nan,
        )  # fmt: skip

        s = pipe.end(
            "align", large=s.large, small=_align(m, s.small, s.distance), field=s.field, sign=s.sign,
            subtract=s.subtract, infinity=s.infinity, nan=s.nan,
        )  # fmt: skip

        # The bit below the last carries the one that a complement needs: one carry chain does both.
        operands = Cat(C(1, 1), C(0, _BELOW), s.large), Cat(s.subtract, s.small ^ s.subtract.replicate(_WIDTH))
        total = wire(m, operands[0] + operands[1], "sum")
        s = pipe.end(
            "add", total=Cat(total[1 : _WIDTH + 1], total[_WIDTH + 1] & ~s.subtract), field=s.field, sign=s.sign,
            subtract=s.subtract, infinity=s.infinity, nan=s.nan,
        )  # fmt: skip

        count, none = leading_zeros(s.total)
        s = pipe.end(
            "count", total=s.total, count=count, none=none, field=s.field, sign=s.sign & ~(none & s.subtract),
            infinity=s.infinity, nan=s.nan,
        )  # fmt: skip

        field = (s.field - s.count + 1).as_signed()  # a carry counts no zero, and raises the exponent by one
        total = wire(m, (s.total << s.count)[: _WIDTH + 1], "shifted")
        s = pipe.end(
            "normalise", kept=total[_BELOW + 1 :], guard=total[_BELOW], sticky=total[:_BELOW].any(), field=field[:8],
            zero=s.none | (field < 1), sign=s.sign, infinity=s.infinity, nan=s.nan,
        )  # fmt: skip

        # A carry out of the fraction raises the exponent. What is rounded is never below 2^-126, where sums are exact.
        rounded = Cat(s.kept[:23], s.field) + (s.guard & (s.sticky | s.kept[0]))
        beyond = s.field.all() | ((s.field == 254) & s.kept.all() & s.guard)
        s = pipe.end(
            "round", magnitude=rounded[:31], infinity=s.infinity | (beyond & ~s.zero), zero=s.zero, sign=s.sign,
            nan=s.nan,
        )  # fmt: skip
        return pipe.end("pack", z=finish(s.sign, s.magnitude, nan=s.nan, infinity=s.infinity, zero=s.zero))


def _significand(bits: Value) -> Value:
    normal = bits[23:31].any()
    return Cat(Mux(normal, bits[:23], 0), normal)


def _align(m: Module, significand: Value, distance: Value) -> Value:
    """Shift right; the last bit says whether a one was lost, which matters to the rounding of no distance above 31."""
    wide = Cat(C(0, _BELOW), significand)
    near, far = distance[:5], distance[5:].any()
    below = ~(C((1 << _WIDTH) - 1, _WIDTH) << near)[:_WIDTH]
    kept = wire(m, Mux(far, 0, wide >> near), "aligned")
    return Cat(kept[0] | (wide & below).any(), kept[1:])
