"""Beats that were requested and not yet answered, in order, each for a fixed time at least.

Normative: docs/contracts/cycles.md, section 2: the tail of a load or a store.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Pending"]

#: From here on the queue is in block RAM, whose first output is a cycle later.
_BUFFERED_FROM_CYCLES = 4


class Pending(wiring.Component):
    """Queue of beats: what goes in at cycle `t` comes out at `t + latency_cycles`, or when its answer is there.

    Latency `latency_cycles`, one beat a cycle. It holds as many beats as are under way in that time, and one more.

    Parameters
    ----------
    layout : StructLayout
        What is kept of a beat; its member `moves` says whether an answer is to come.
    latency_cycles : int
        Cycles from request to answer, 1 or more.

    Members
    -------
    request : In(stream of `layout`)
        Beats as they are requested.
    answer : In(1), take : Out(1)
        Whether the next answer is there; whether it is taken.
    beat : Out(stream of `layout`, always ready)
        The beat whose turn it is, with its answer.
    """

    def __init__(self, layout: data.StructLayout, latency_cycles: int) -> None:
        self.layout, self.latency_cycles = layout, latency_cycles
        sides = {"request": In(stream.Signature(layout)), "beat": Out(stream.Signature(layout, always_ready=True))}
        super().__init__({**sides, "answer": In(1), "take": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        """Build it: a queue, and a count of the beats that are old enough."""
        m = Module()
        latency = self.latency_cycles
        kind = fifo.SyncFIFOBuffered if latency >= _BUFFERED_FROM_CYCLES else fifo.SyncFIFO
        m.submodules.queue = queue = kind(width=self.layout.size, depth=latency + 2)
        age = Signal(latency)  # bit i: a beat was requested i + 1 cycles ago
        old, oldest = Signal(range(latency + 3)), Signal(range(latency + 4))
        entered, left = Signal(), Signal()
        m.d.comb += [
            self.request.ready.eq(queue.w_rdy),
            queue.w_data.eq(self.request.payload),
            queue.w_en.eq(self.request.valid),
            entered.eq(self.request.valid & queue.w_rdy),
            oldest.eq(old + age[-1]),
            self.beat.payload.eq(queue.r_data),
            left.eq(queue.r_rdy & (oldest != 0) & (~self.beat.payload.moves | self.answer)),
            self.take.eq(left & self.beat.payload.moves),
            queue.r_en.eq(left),
            self.beat.valid.eq(left),
        ]
        m.d.sync += [age.eq((age << 1) | entered), old.eq(oldest - left)]
        return m
