"""What holds of the counters and queues of the control for ever, whatever their owners do within the rules.

Assertions for a formal proof (semaphores by induction, queues to a bounded depth); inputs are free variables. They are
judged at the clock's edge, when all is settled, so Amaranth's simulator judges them too.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Assert, Assume, C, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hwsim.program import UNIT_NAMES
from hwsim_rtl.control.command import SEMAPHORE_BITS
from hwsim_rtl.control.queue import Queue
from hwsim_rtl.control.semaphores import MOST_TOKENS, SEMAPHORES, Semaphores

__all__ = ["QueueSpec", "SemaphoresSpec"]

_UNITS = len(UNIT_NAMES)


class SemaphoresSpec(wiring.Component):
    """No token is lost or made, and no counter wraps, until a fault is flagged.

    Beside each counter runs one that counts without a bound. Up to the first flagged overflow or underflow both are
    equal, and after the takes of a cycle 0 to 255 tokens are left.

    Members
    -------
    take, post, set, counts
        As those of `Semaphores`, flat.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "take": In(_UNITS * SEMAPHORES),
                "post": In(_UNITS * SEMAPHORES),
                "set": In(1),
                "counts": In(SEMAPHORE_BITS * SEMAPHORES),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build counters, counting and claims."""
        m = Module()
        m.submodules.dut = dut = Semaphores()
        m.d.comb += [
            dut.take.as_value().eq(self.take),
            dut.post.as_value().eq(self.post),
            dut.set.eq(self.set),
            dut.counts.eq(self.counts),
        ]
        trusted = Signal(init=1)
        with m.If(dut.overflow | dut.underflow):
            m.d.sync += trusted.eq(0)
        for s in range(SEMAPHORES):
            count = Signal(32, name=f"count_{s}")
            taken, posted = (
                sum((mask[u * SEMAPHORES + s] for u in range(_UNITS)), C(0, 1)) for mask in (self.take, self.post)
            )
            with m.If(self.set):
                m.d.sync += count.eq(self.counts.word_select(s, SEMAPHORE_BITS))
            with m.Else():
                m.d.sync += count.eq(count - taken + posted)
            with m.If(trusted):
                m.d.sync += [
                    Assert(dut.tokens[s] == count),
                    Assert(dut.available[s] == (count != 0)),
                    Assert(dut.underflow | dut.overflow | ((taken <= count) & (count - taken <= MOST_TOKENS))),
                ]
        return m


class QueueSpec(wiring.Component):
    """No item is lost, doubled, changed or overtaken.

    One item, any, is marked when it is pushed; where nothing is ahead of it, it is the one at the head.

    Parameters
    ----------
    width, depth : int
        Of the queue.

    Members
    -------
    push, item, pop : In(1), In(width), In(1)
        As those of `Queue`; its owner's two rules are assumed.
    mark : In(1)
        Watch the item that is pushed.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        super().__init__({"push": In(1), "item": In(width), "pop": In(1), "mark": In(1)})

    def elaborate(self, platform: Any) -> Module:
        """Build the queue, the watch and the claims."""
        m = Module()
        m.submodules.dut = dut = Queue(self.width, self.depth)
        level, ahead = Signal(range(self.depth + 2)), Signal(range(self.depth + 2))
        watching, item = Signal(), Signal(self.width)
        m.d.comb += [
            dut.push.eq(self.push),
            dut.item.eq(self.item),
            dut.pop.eq(self.pop),
        ]
        m.d.sync += [
            Assume(~(self.pop & dut.empty & ~self.push)),
            Assume(~(self.push & dut.full & ~self.pop)),
            Assert(level <= self.depth),
            Assert(dut.empty == (level == 0)),
            Assert(dut.full == (level == self.depth)),
        ]
        m.d.sync += level.eq(level + self.push - self.pop)
        with m.If(watching):
            m.d.sync += Assert(ahead < level)
            with m.If(self.pop):
                m.d.sync += [ahead.eq(ahead - 1), watching.eq(ahead != 0)]
            with m.If(ahead == 0):
                m.d.sync += Assert(dut.head == item)
        with m.Elif(self.push & self.mark & ~(self.pop & dut.empty)):
            m.d.sync += [watching.eq(1), item.eq(self.item), ahead.eq(level - self.pop)]
        return m
