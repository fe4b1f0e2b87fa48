"""Whose turn it is at the memory port: loads and stores in ticket order, with stores that let loads pass.

Normative: docs/contracts/cycles.md, section 1. The tickets themselves need no memory: a store's place in their order is
the number of loads before it, its *due*, known when it is dispatched.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim_rtl.control.queue import Queue

__all__ = ["Tickets"]

DEFER_BITS = 16


class Tickets(wiring.Component):
    """Order of the memory port. Turns are functions of registers, and of `flush`.

    Let *m* be the loads dispatched and *n* the loads started. A store that is dispatched with ``defer = d`` draws its
    ticket behind load *m + d*, and behind the store before it: its due is ``m + max(d, slack)``, where *slack* is how
    many loads the last store still waits for. The oldest store's turn is when ``n = due``; otherwise it is the load's.
    At a barrier (`flush`) the stores that are left go as soon as no load is left. Whether the oldest store's due equals
    *n* is found a cycle ahead, for each of the starts that this cycle may see.

    Numbers of loads are kept modulo 2^k: a due lies between *n* and *n* + depth + 65535.

    Parameters
    ----------
    queue_depth : int
        Q, commands of the store unit's queue.

    Members
    -------
    clear : In(1)
        Nothing is queued; no store waits for loads.
    load_dispatched, store_dispatched, defer, deferred : In(1), In(1), In(16), In(1)
        What the dispatcher hands out in this cycle; ``deferred``: defer is not 0.
    load_started, store_started : In(1)
        What starts in this cycle.
    flush : In(1)
        A barrier is at the dispatcher.
    loads_queued : In(1)
        Some load has been dispatched and not started, before this cycle.
    load_turn : Out(1)
        The oldest load has the first ticket, or would have it, if it is dispatched in this cycle.
    store_turn : Out(1)
        The oldest store of those queued has the first ticket.
    new_store_turn : Out(1)
        The store that is dispatched in this cycle gets the first ticket at once (if no store is queued).
    """

    def __init__(self, queue_depth: int) -> None:
        self._depth = queue_depth
        super().__init__(
            {
                "clear": In(1),
                "load_dispatched": In(1),
                "store_dispatched": In(1),
                "defer": In(DEFER_BITS),
                "deferred": In(1),
                "load_started": In(1),
                "store_started": In(1),
                "flush": In(1),
                "loads_queued": In(1),
                "load_turn": Out(1),
                "store_turn": Out(1),
                "new_store_turn": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the order."""
        m = Module()
        bits = (self._depth + (1 << DEFER_BITS)).bit_length()
        near = range(self._depth + 1)
        dispatched, started = Signal(bits), Signal(bits)
        slack, wait, due = Signal(DEFER_BITS), Signal(DEFER_BITS), Signal(bits)
        there, oldest, turn = Signal(), Signal(bits), Signal()  # the oldest store; `turn`: its due is *n*
        one_load, begins = Signal(), Signal()
        m.submodules.others = others = Queue(bits, max(1, self._depth - 1))
        follows = there & self.store_started  # what is next in the order becomes the oldest
        m.d.comb += [
            wait.eq(Mux(self.defer > slack, self.defer, slack)),
            due.eq(dispatched + wait),
            one_load.eq((started + 1)[: len(Signal(near))] == dispatched[: len(Signal(near))]),
            begins.eq(self.store_dispatched & ~(self.store_started & ~there)),  # to be queued
            others.clear.eq(self.clear),
            others.push.eq(begins & there & ~(self.store_started & others.empty)),
            others.item.eq(due),
            others.pop.eq(follows & ~others.empty),
            self.load_turn.eq(~turn),
            self.store_turn.eq(turn | (self.flush & ~self.loads_queued)),
            self.new_store_turn.eq(~self.deferred & ~self.loads_queued),
        ]
        # A store that is dispatched as none is left waits for loads that are queued, and for those of its own defer.
        with m.If(follows):
            m.d.sync += [oldest.eq(Mux(others.empty, due, others.head)), there.eq(~others.empty | begins)]
            m.d.sync += turn.eq(Mux(others.empty, begins & self.new_store_turn, others.head == started))
        with m.Elif(there):
            m.d.sync += turn.eq(Mux(self.load_started, oldest == (started + 1)[:bits], turn))
        with m.Else():
            loads_left = Mux(self.load_started, ~one_load, self.loads_queued)
            m.d.sync += [oldest.eq(due), there.eq(begins), turn.eq(begins & ~self.deferred & ~loads_left)]
        m.d.sync += [dispatched.eq(dispatched + self.load_dispatched), started.eq(started + self.load_started)]
        with m.If(self.clear):
            m.d.sync += [slack.eq(0), dispatched.eq(0), started.eq(0), there.eq(0), turn.eq(0)]
        with m.Elif(self.store_dispatched):
            m.d.sync += slack.eq(wait)
        with m.Elif(self.load_dispatched & (slack != 0)):
            m.d.sync += slack.eq(slack - 1)
        return m
