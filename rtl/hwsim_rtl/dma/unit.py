"""The load and the store unit as the control sees them: boxes that carry semaphores, and posts in the right cycle.

Normative: docs/contracts/cycles.md, sections 1 and 2; docs/rtl-control.md says what a unit owes the control.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, connect, flipped

from hwsim_rtl.control.control import UnitSignature, all_ended
from hwsim_rtl.control.semaphores import SEMAPHORES
from hwsim_rtl.dma.box import Geometry, move_command
from hwsim_rtl.dma.load import Load
from hwsim_rtl.dma.store import Store

__all__ = ["LoadUnit", "StoreUnit"]

#: Beats in the registers of a walk, and so commands, with one to spare.
_IN_WALK = 5


class _Unit(wiring.Component):
    """A walk with the ports of a unit; what is not between it and the control is passed on."""

    def __init__(self, geometry: Geometry, inner: wiring.Component, own: frozenset[str]) -> None:
        self.geometry, self.inner = geometry, inner
        self._passed = {name: member for name, member in inner.signature.members.items() if name not in own}
        super().__init__({"port": In(UnitSignature(move_command(geometry))), **self._passed})

    def _connect(self, m: Module) -> tuple[Signal, Value]:
        """Start boxes, and pass everything else on; gives the start and what the command posts."""
        start, command = Signal(), self.port.command
        m.submodules.walk = inner = self.inner
        outside = wiring.PureInterface(wiring.Signature(self._passed), path=())
        inside = wiring.PureInterface(wiring.Signature(self._passed), path=())
        for name in self._passed:
            setattr(outside, name, getattr(self, name))
            setattr(inside, name, getattr(inner, name))
        connect(m, inside, flipped(outside))
        m.d.comb += [
            start.eq(command.valid & inner.ready),
            inner.start.eq(start),
            inner.box.eq(command.payload.box),
            command.ready.eq(inner.ready),
        ]
        return start, command.payload.post

    def _posts(self, m: Module, start: Signal, post: Value, leaves: Value, most: int) -> None:
        """Keep what each of up to so many commands posts until it leaves."""
        m.submodules.posts = posts = fifo.SyncFIFO(width=SEMAPHORES, depth=most)
        m.d.comb += [
            posts.w_en.eq(start),
            posts.w_data.eq(post),
            posts.r_en.eq(leaves),
            self.port.post.eq(Mux(leaves, posts.r_data, 0)),
        ]


class LoadUnit(_Unit):
    """`Load` for the control; at most one command ends in a cycle.

    Parameters
    ----------
    geometry : Geometry
        Of the data path.
    stages : int
        Registers between data and memories, 1 or 2.

    Members
    -------
    port : In(`UnitSignature` of `move_command`)
        To the control.
    request, data, scratchpad, accumulator, limit, beyond
        As `Load`.
    """

    def __init__(self, geometry: Geometry, stages: int = 2) -> None:
        super().__init__(geometry, Load(geometry, stages), frozenset({"start", "box", "ready", "done"}))

    def elaborate(self, platform: Any) -> Module:
        """Build it: what commands post waits in a queue, since several are under way."""
        m = Module()
        start, post = self._connect(m)
        # Every command has a beat, and so many beats are under way at most.
        most = self.geometry.latency_cycles + _IN_WALK
        self._posts(m, start, post, self.inner.done, most)
        m.d.comb += [self.port.ended.eq(self.inner.done), self.port.idle.eq(all_ended(m, start, self.inner.done, most))]
        return m


class StoreUnit(_Unit):
    """`Store` for the control: a command posts when its data have left, and ends when all are answered.

    Parameters
    ----------
    geometry : Geometry
        Of the data path.

    Members
    -------
    port : In(`UnitSignature` of `move_command`)
        To the control.
    read, words, write, response, limit, beyond
        As `Store`.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry, Store(geometry), frozenset({"start", "box", "ready", "left", "done"}))

    def elaborate(self, platform: Any) -> Module:
        """Build it: few commands have data to leave; several may wait for answers."""
        m = Module()
        start, post = self._connect(m)
        self._posts(m, start, post, self.inner.left, _IN_WALK)
        most = self.geometry.latency_cycles + _IN_WALK
        m.d.comb += [self.port.ended.eq(self.inner.done), self.port.idle.eq(all_ended(m, start, self.inner.done, most))]
        return m
