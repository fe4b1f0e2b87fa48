"""The walk of one operand through the scratchpad: a nest of levels, each with a size and a step, by additions alone.

docs/rtl-matrix.md, section 2, says which levels each dataflow has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwsim_rtl.dma import Geometry
from hwsim_rtl.dma.align import add_modulo
from hwsim_rtl.dma.box import COUNT_BITS

__all__ = ["Walk", "walk_layout"]


def walk_layout(g: Geometry, levels: int) -> data.StructLayout:
    """An operand to walk.

    It begins at `line`, number `row` modulo D of its tile, in lane 0. A block of columns has `lines` lines. `by_lane`:
    a read takes one lane of consecutive lines. `e5m2`: its numbers are of that fp8 format. A level's `size` is that of
    what it walks, in elements; its step is as many columns as it takes elements at once (`column`), or so many lines,
    `row` of them modulo D.
    """
    level = data.StructLayout({"size": COUNT_BITS, "column": 1, "line": g.line_bits, "row": g.lane_bits})
    return data.StructLayout(
        {
            "line": g.line_bits, "row": g.lane_bits, "lines": g.line_bits, "by_lane": 1, "e5m2": 1,
            "levels": data.ArrayLayout(level, levels),
        }
    )  # fmt: skip


class Walk(wiring.Component):
    """Walk an operand: the innermost level that has not ended goes on, those inside it begin again.

    The first place is there in the cycle after `load`; one step a cycle. After its last place a walk begins again.
    Every level keeps the place where its present index began, so nothing is ever taken back.

    Parameters
    ----------
    geometry : Geometry
        Of the scratchpad.
    takes : sequence of int
        Elements that each level takes at once, outermost level first.
    endless : bool
        The outermost level never ends: it has no size.

    Members
    -------
    load : In(1), next : In(`walk_layout`)
        Begin this walk in the next cycle, whatever goes on.
    step : In(1)
        Go on to the next place.
    line, row, lane : Out
        Place of a read's first element, as in `scratchpad_read`.
    walk : Out(`walk_layout`)
        The present walk.
    """

    def __init__(self, geometry: Geometry, takes: Sequence[int], *, endless: bool = False) -> None:
        self.geometry, self.takes, self.endless = g, takes, endless = geometry, tuple(takes), endless
        layout = walk_layout(g, len(takes))
        super().__init__(
            {
                "load": In(1), "next": In(layout), "step": In(1), "line": Out(g.line_bits), "row": Out(g.lane_bits),
                "lane": Out(g.lane_bits), "walk": Out(layout),
            }
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Build the levels, and the one adder that they share."""
        m, g, count = Module(), self.geometry, len(self.takes)
        place = data.StructLayout({"line": g.line_bits, "row": g.lane_bits, "lane": g.lane_bits})
        places = [Signal(place, name=f"place_{level}", reset_less=True) for level in range(count)]
        m.d.comb += [getattr(self, name).eq(places[-1][name]) for name in ("line", "row", "lane")]
        with m.If(self.load):
            m.d.sync += self.walk.eq(self.next)

        # Bit l: level l ends with the present place; it goes on, as all the levels inside it end; all of them end. They
        # are found for a place before the step to it, so that what goes on is known from registers.
        last, first_last, then_last = Signal(count), Signal(count), Signal(count)
        goes_on, again = Signal(count, init=1 << count - 1), Signal()
        for begins, found in ((self.load, first_last), (self.step & ~self.load, then_last)):
            inside = Cat(found[level + 1 :].all() if level + 1 < count else 1 for level in range(count))
            with m.If(begins):
                m.d.sync += [last.eq(found), goes_on.eq(inside & ~found), again.eq(found.all())]
        base, step, lane_step = Signal(place), Signal(self.walk.levels[0].shape()), Signal(range(max(self.takes) + 1))
        for level, takes in enumerate(self.takes):
            with m.If(goes_on[level]):
                own = self.walk.levels[level]
                m.d.comb += [base.eq(places[level]), step.eq(own), lane_step.eq(Mux(own.column, takes, 0))]
        then = Signal(place)
        lane, passed = add_modulo(base.lane, lane_step, g.deep)
        m.d.comb += [
            then.lane.eq(lane),
            then.row.eq(add_modulo(base.row, step.row, g.deep)[0]),
            # A step is of columns or of lines, so only one of the two is not zero.
            then.line.eq(base.line + Mux(passed, self.walk.lines, step.line)),
        ]
        for level in range(count):
            entered = again | goes_on[: level + 1].any()
            with m.If(self.load):
                m.d.sync += places[level].eq(Cat(self.next.line, self.next.row))
            with m.Elif(self.step & again):
                m.d.sync += places[level].eq(Cat(self.walk.line, self.walk.row))
            with m.Elif(self.step & entered):
                m.d.sync += places[level].eq(then)
            if level or not self.endless:
                outer = again | goes_on[:level].any() if level else again
                single, goes_last = self._count(m, level, goes_on[level], outer)
                m.d.comb += first_last[level].eq(self.next.levels[level].size <= self.takes[level])
                m.d.comb += then_last[level].eq(Mux(outer, single, Mux(goes_on[level], goes_last, last[level])))
        return m

    def _count(self, m: Module, level: int, goes_on: Value, outer: Value) -> tuple[Value, Value]:
        """Count what is left of a level; gives whether its first index is its last, and whether the next one is."""
        takes = self.takes[level]
        left, single = Signal(COUNT_BITS, name=f"left_{level}"), Signal(name=f"single_{level}")
        with m.If(self.load):
            size = self.next.levels[level].size
            m.d.sync += [left.eq(size), single.eq(size <= takes)]
        with m.Elif(self.step & outer):
            m.d.sync += left.eq(self.walk.levels[level].size)
        with m.Elif(self.step & goes_on):
            m.d.sync += left.eq(left - takes)
        return single, left <= 2 * takes
