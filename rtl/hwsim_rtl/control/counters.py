"""Where the cycles of a program went, unit by unit: busy, or stalled for the constraint that was met last.

Normative: docs/contracts/cycles.md, section 4. Semaphores count together; the memory port is no unit of its own here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from amaranth.hdl import Module, Mux, Signal
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

    Latency: two cycles from what happens to its count; what happens is known late in a cycle.

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
        fresh = Signal()  # no barrier has been met yet
        seen = Signal(SEEN, name="was_seen")
        m.d.sync += seen.eq(self.seen)
        for unit in range(len(UNIT_NAMES)):
            self._unit(m, unit, seen, fresh)
        with m.If(seen.begins):
            m.d.sync += fresh.eq(1)
        with m.Elif(seen.barrier):
            m.d.sync += fresh.eq(0)
        return m

    def _unit(self, m: Module, unit: int, seen: Any, fresh: Any) -> None:
        counts = self.counts[unit]
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
        with m.If(seen.runs):
            with m.If(start | barrier):
                m.d.sync += [counts.stalls[cause].eq(counts.stalls[cause] + gap), gap.eq(barrier)]
            with m.Elif(seen.free[unit]):
                m.d.sync += gap.eq(gap + 1)
            m.d.sync += [
                counts.commands.eq(counts.commands + start),
                counts.busy.eq(counts.busy + (start | ~seen.free[unit])),
            ]
        with m.If(seen.begins):
            m.d.sync += [counts.eq(0), gap.eq(0)]
