"""What the commands of a unit wait for, and whether the next one lacks a token: found a cycle before it may start.

Normative: docs/contracts/cycles.md, section 1.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwsim_rtl.control.queue import after
from hwsim_rtl.control.semaphores import SEMAPHORES

__all__ = ["Waits"]


class Waits(wiring.Component):
    """Waits of a unit's queued commands, beside its queue, of which the two oldest are seen.

    The next command is the oldest one queued, or the one at the dispatcher if none is. What it lacks in the next cycle
    is found from the counters as they are after this one, without what other units take: a semaphore has one waiting
    unit.

    Parameters
    ----------
    depth : int
        Commands that the queue holds, 1 or more.

    Members
    -------
    clear, stop : In(1), In(1)
        Forget all; nothing may start in the next cycle.
    offered : In(1)
        A command is offered in this cycle. It is pushed if there is a place, also one that is left in this cycle.
    push, pop : In(1), In(1)
        A command comes, the next command leaves, as in the queue.
    new : In(10)
        Waits of the command at the dispatcher, right when it is offered.
    upcoming : In(10)
        The same, of the next cycle.
    lacking, last : In(10), In(10)
        Of `Semaphores`.
    waits : Out(10)
        Of the next command.
    lacks : Out(1)
        It lacks a token in this cycle, or is stopped. From a register.
    empty : Out(1)
        None is queued. From a register.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        super().__init__(
            {
                **dict.fromkeys(("clear", "stop", "offered", "push", "pop"), In(1)),
                **dict.fromkeys(("new", "upcoming", "lacking", "last"), In(SEMAPHORES)),
                "waits": Out(SEMAPHORES),
                "lacks": Out(1),
                "empty": Out(1, init=1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it: both cases of `pop`, which is known last of all, and then the choice.

        As in `Queue`, what is new is written in every cycle.
        """
        m = Module()
        places = self.depth + 1
        m.submodules.memory = memory = Memory(shape=SEMAPHORES, depth=places, init=[])
        write, front, second = memory.write_port(), memory.read_port(domain="comb"), memory.read_port(domain="comb")
        place, next_place, last = Signal(range(places)), Signal(range(places), init=1), Signal(range(places))
        level = Signal(range(places))
        stays, follows = Signal(SEMAPHORES), Signal(SEMAPHORES)  # waits of the next cycle's next command
        m.d.comb += [
            write.en.eq(1),
            write.addr.eq(last),
            write.data.eq(self.new),
            front.addr.eq(place),
            second.addr.eq(next_place),
            self.waits.eq(Mux(self.empty, self.new, front.data)),
            stays.eq(Mux(~self.empty, front.data, Mux(self.offered, self.new, self.upcoming))),
            follows.eq(Mux(level > 1, second.data, Mux(self.offered & ~self.empty, self.new, self.upcoming))),
        ]
        lacks = [(stays & self.lacking).any(), (follows & (self.lacking | (self.last & self.waits))).any()]
        m.d.sync += self.lacks.eq(self.stop | Mux(self.pop, lacks[1], lacks[0]))

        with m.If(self.push):
            m.d.sync += last.eq(after(last, places))
        with m.If(self.pop):
            m.d.sync += [place.eq(next_place), next_place.eq(after(next_place, places))]
        with m.If(self.push & ~self.pop):
            m.d.sync += [level.eq(level + 1), self.empty.eq(0)]
        with m.Elif(self.pop & ~self.push):
            m.d.sync += [level.eq(level - 1), self.empty.eq(level == 1)]
        with m.If(self.clear):
            m.d.sync += [level.eq(0), self.empty.eq(1), place.eq(0), next_place.eq(1), last.eq(0)]
        return m
