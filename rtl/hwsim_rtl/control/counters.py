"""Where the cycles of a program went, unit by unit: busy, or stalled for the constraint that was met last.

Normative: docs/contracts/cycles.md, section 4. Semaphores count together; the memory port is no unit of its own here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwsim.program import UNIT_NAMES
from hwsim_rtl.control.control import SEEN

__all__ = ["COUNTS", "Counters", "Stall"]


class Stall(IntEnum):
    """Why a unit stood still; the first that holds counts."""

    FETCH = 0  # the next command was dispatched last of all, or there was none yet
    SEMAPHORE = 1  # a token came last
    PORT = 2  # the memory port became free last
    DRAIN = 3  # the segment had no more commands for it


#: Of one unit: commands started, cycles busy, cycles stalled by `Stall`.
COUNTS = data.StructLayout({"commands": 32, "busy": 32, "stalls": data.ArrayLayout(32, len(Stall))})


class Counters(wiring.Component):
    """Counters of all units, modulo 2³². Busy and stalled cycles of a unit add up to those of the program.

    A reset leaves them as they are; a program begins with zeros.

    Latency: four cycles from what happens to its count; what happens is known late in a cycle, and it takes one to
    find what a gap was for.

    Members
    -------
    seen : In(`SEEN`)
        What happens in this cycle.
    counts : Out(`COUNTS` of each unit)
        Since the program's start, stalls up to the last start or barrier.
    """

    def __init__(self) -> None:
        super().__init__({"seen": In(SEEN), "counts": Out(data.ArrayLayout(COUNTS, len(UNIT_NAMES)))})

    def elaborate(self, platform: Any) -> Module:
        """Build the counters: a gap is counted until it is known what it was for."""
        m = Module()
        fresh, clears = Signal(), Signal()  # no barrier has been met yet; all counts begin at 0
        seen = Signal(SEEN, name="was_seen")
        near = Signal(SEEN, name="near_seen")  # and here, since the way from the control is long
        m.d.sync += [near.eq(self.seen), seen.eq(near), clears.eq(seen.begins)]
        for unit in range(len(UNIT_NAMES)):
            self._unit(m, unit, seen, fresh, clears)
        with m.If(seen.begins):
            m.d.sync += fresh.eq(1)
        with m.Elif(seen.barrier):
            m.d.sync += fresh.eq(0)
        return m

    def _unit(self, m: Module, unit: int, seen: Any, fresh: Any, clears: Any) -> None:
        """Find in one cycle what counts, and count it in the next."""
        start, barrier = Signal(name=f"start_{unit}"), seen.barrier
        gap, cause, lacked = Signal(32, name=f"gap_{unit}"), Signal(Stall, name=f"cause_{unit}"), Signal()
        m.d.comb += start.eq(seen.starts[unit])
        m.d.sync += lacked.eq(seen.lacks[unit])
        with m.If(barrier):
            m.d.comb += cause.eq(Mux(fresh, Stall.FETCH, Stall.DRAIN))
        with m.Elif(seen.new[unit]):
            m.d.comb += cause.eq(Stall.FETCH)
        with m.Else():
            m.d.comb += cause.eq(Mux(lacked, Stall.SEMAPHORE, Stall.PORT))

        started, was_busy = Signal(name=f"started_{unit}"), Signal(name=f"was_busy_{unit}")
        ended, waited = Signal(len(Stall), name=f"ended_{unit}"), Signal(32, name=f"waited_{unit}", reset_less=True)
        m.d.sync += [
            started.eq(seen.runs & start),
            was_busy.eq(seen.runs & (start | ~seen.free[unit])),
            ended.eq(Cat(seen.runs & (start | barrier) & (cause == of) for of in Stall)),
            waited.eq(gap),
        ]
        with m.If(seen.runs):
            with m.If(start | barrier):
                m.d.sync += gap.eq(barrier)
            with m.Elif(seen.free[unit]):
                m.d.sync += gap.eq(gap + 1)
        with m.If(seen.begins):
            m.d.sync += gap.eq(0)

        counts = Signal(COUNTS, name=f"counts_{unit}", reset_less=True)
        m.d.comb += self.counts[unit].eq(counts)
        with m.If(started):
            m.d.sync += counts.commands.eq(counts.commands + 1)
        with m.If(was_busy):
            m.d.sync += counts.busy.eq(counts.busy + 1)
        for of in Stall:
            with m.If(ended[of]):
                m.d.sync += counts.stalls[of].eq(counts.stalls[of] + waited)
        with m.If(clears):
            m.d.sync += counts.eq(0)
