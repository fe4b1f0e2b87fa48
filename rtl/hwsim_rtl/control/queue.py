"""A queue whose oldest item can be read in the cycle after it was written.

Used by `hwsim_rtl.control.control` for each unit's commands, which adds what docs/contracts/cycles.md asks of it.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwsim_rtl.verilog import Leaf

__all__ = ["Queue", "after"]


class Queue(Leaf):
    """Items in order. One in and one out a cycle; an item can leave in the cycle after it came.

    The owner keeps two rules: no `pop` when empty, unless an item is pushed in that cycle (which the owner hands on
    itself); no `push` when full, unless an item is popped in that cycle.

    Parameters
    ----------
    width : int
        Bits of an item.
    depth : int
        Items that it holds, 1 or more.

    Members
    -------
    clear : In(1)
        Forget all items.
    push, item : In(1), In(width)
        A new item.
    pop : In(1)
        The oldest item, or the one that is pushed if there is none, leaves.
    empty, full : Out(1)
        From registers.
    head : Out(width)
        The oldest item, unless empty.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        super().__init__(
            {
                "clear": In(1),
                "push": In(1),
                "item": In(width),
                "pop": In(1),
                "empty": Out(1, init=1),
                "full": Out(1),
                "head": Out(width),
            }
        )

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return f"Queue_{self.width}x{self.depth}"

    def body(self) -> Module:
        """Build the queue: a memory, two places in it, and how many items there are.

        What is at `item` is written in every cycle, behind the last one, for which there is one place more: whether it
        is pushed is known late.
        """
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth + 1, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        first, last = Signal(range(self.depth + 1)), Signal(range(self.depth + 1))
        level = Signal(range(self.depth + 1))

        m.d.comb += [
            read.addr.eq(first),
            self.head.eq(read.data),
            write.addr.eq(last),
            write.data.eq(self.item),
            write.en.eq(1),
        ]
        with m.If(self.clear):
            m.d.sync += [first.eq(0), last.eq(0), level.eq(0), self.empty.eq(1), self.full.eq(0)]
        with m.Else():
            m.d.sync += level.eq(level + self.push - self.pop)
            with m.If(self.push & ~self.pop):
                m.d.sync += [self.empty.eq(0), self.full.eq(level == self.depth - 1)]
            with m.Elif(self.pop & ~self.push):
                m.d.sync += [self.empty.eq(level == 1), self.full.eq(0)]
            with m.If(self.push):
                m.d.sync += last.eq(after(last, self.depth + 1))
            with m.If(self.pop):
                m.d.sync += first.eq(after(first, self.depth + 1))
        return m


def after(place: Value, places: int) -> Value:
    """Give the place that follows, around."""
    return Mux(place == places - 1, 0, place + 1)
