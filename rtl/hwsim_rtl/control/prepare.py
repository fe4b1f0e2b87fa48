"""What stands between the fetched words of a command and the queues: decoding, and products that a unit needs at once.

A preparer has the δ − 1 cycles before a command can be dispatched (docs/rtl-control.md).
"""

from __future__ import annotations

from typing import Any, Protocol

from amaranth.hdl import Elaboratable, Fragment, Module
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout, Layout
from amaranth.lib.wiring import In, Out

from hwsim.program import COMMAND_WORDS

__all__ = ["Preparer", "PreparerSignature", "Words", "only_measured"]


class Preparer(Protocol):
    """Component with the ports of `PreparerSignature`.

    Attributes
    ----------
    layout : Layout
        Of the prepared command.
    cycles : int
        `prepared` is right, and `done` high, so many cycles after the first one with `valid`.
    ahead : bool
        `prepared` is right a cycle before it is `done`, so that the command need not pass by its queue to start.
    """

    layout: Layout
    cycles: int
    ahead: bool


class PreparerSignature(wiring.Signature):
    """Words of a command in, the command as its unit's queue keeps it out.

    Parameters
    ----------
    layout : Layout
        Of the prepared command.

    Members
    -------
    words, valid : In(32 words), In(1)
        An encoded, linked command; it stands until it is taken.
    taken : In(1)
        The command leaves in this cycle; another may stand in the next.
    prepared, done : Out(layout), Out(1)
        The prepared command, and that it is right; it stays so while the words stand.
    soon : Out(1)
        It will be in the next cycle, if the command stands in this one. Without a driver, that is always so.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__(
            {
                "words": In(ArrayLayout(32, COMMAND_WORDS)),
                "valid": In(1),
                "taken": In(1),
                "prepared": Out(layout),
                "done": Out(1),
                "soon": Out(1, init=1),
            }
        )


class Words(wiring.Component):
    """Preparer that hands all words on.

    Parameters
    ----------
    layout : Layout
        Of 32 words of 32 bits.
    """

    cycles, ahead = 0, False

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        super().__init__(PreparerSignature(layout))

    def elaborate(self, platform: Any) -> Module:
        """Connect the words."""
        m = Module()
        m.d.comb += [self.prepared.eq(self.words), self.done.eq(1)]
        return m


def only_measured(part: Elaboratable) -> None:
    """Use a part that was made to see how large it is, which Amaranth would call forgotten."""
    Fragment.get(part, None)
