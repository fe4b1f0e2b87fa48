"""A design between two chains of registers, so that few pins remain, however many ports it has."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, ClockDomain, ClockSignal, Const, DomainRenamer, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Harness"]


class Harness(wiring.Component):
    """Give every input of a design a register of one long shift register, and every output one of another.

    An output's register takes the output xor its neighbour, so that nothing of the design can be optimised away. Paths
    from and to ports begin and end at registers, and count for the clock frequency as those inside do. The reset comes
    from a register, too.

    Parameters
    ----------
    design : Component
        What is to be measured.

    Members
    -------
    shift_in : In(1), shift_out : Out(1)
        The ends of the chains.
    """

    def __init__(self, design: wiring.Component) -> None:
        self.design = design
        ports = [("__".join(map(str, path)), member, value) for path, member, value in design.signature.flatten(design)]
        # What is always valid or always ready is a constant.
        self._inputs = [
            (name, Value.cast(value)) for name, member, value in ports if member.flow is In and not _is_constant(value)
        ]
        self._outputs = [(name, Value.cast(value)) for name, member, value in ports if member.flow is Out]
        super().__init__({"shift_in": In(1), "shift_out": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        """Chain the ports."""
        m = Module()
        reset = Signal(reset_less=True)
        m.domains.inside = ClockDomain(local=True)
        m.d.comb += [ClockSignal("inside").eq(ClockSignal()), ResetSignal("inside").eq(reset)]
        m.d.sync += reset.eq(ResetSignal(allow_reset_less=True))
        m.submodules.dut = DomainRenamer("inside")(self.design)
        before: Value = self.shift_in
        for name, value in self._inputs:
            if len(value):
                register = Signal(len(value), name=f"in_{name}", reset_less=True)
                m.d.sync += register.eq(Cat(before, register))
                m.d.comb += value.eq(register)
                before = register[-1]
        before = C(0, 1)
        for name, value in self._outputs:
            if len(value):
                register = Signal(len(value), name=f"out_{name}", reset_less=True)
                m.d.sync += register.eq(value ^ Cat(before, register)[: len(value)])
                before = register[-1]
        m.d.comb += self.shift_out.eq(before)
        return m


def _is_constant(value: Any) -> bool:
    return isinstance(Value.cast(value), Const)
