"""The ten counters: what is posted can be taken in the next cycle.

Normative: docs/contracts/cycles.md, section 1, and docs/contracts/program.md, section 2.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from hwsim.program import SEMAPHORE_NAMES, UNIT_NAMES
from hwsim_rtl.control.command import SEMAPHORE_BITS

__all__ = ["MOST_TOKENS", "SEMAPHORES", "Semaphores"]

SEMAPHORES = len(SEMAPHORE_NAMES)
MOST_TOKENS = 255
_MASKS = ArrayLayout(SEMAPHORES, len(UNIT_NAMES))


class Semaphores(wiring.Component):
    """Counters of tokens. A post in cycle *t* can be taken from *t* + 1 on.

    A semaphore has one waiting unit; which one may change with a `set`. What can be taken is told a cycle ahead, for
    both cases of what the waiting unit does in this one, so that a start has it from registers.

    Members
    -------
    take, post : In(four masks of ten)
        What each unit takes and posts in this cycle; at most one token of each semaphore per unit.
    set, counts : In(1), In(40)
        Set all counters, four bits each; takes and posts of this cycle are void.
    lacking : Out(10)
        Semaphores that are without a token in the next cycle even if none is taken in this one.
    last : Out(10)
        Semaphores that have one token in the next cycle, unless it is taken in this one. Both are void with `set`.
    overflow, underflow : Out(10), Out(10)
        More than 255 tokens are left after this cycle's takes; a token is taken where there is none, or by two units.
    """

    def __init__(self) -> None:
        #: The ninth bit is there for the cycle in which a token comes before another is taken.
        self.tokens = [Signal(range(MOST_TOKENS + len(UNIT_NAMES) + 1), name=f"tokens_{s}") for s in range(SEMAPHORES)]
        #: Which hold none, and which one.
        none, one = Signal(SEMAPHORES, init=(1 << SEMAPHORES) - 1), Signal(SEMAPHORES)
        self.none, self.one = none, one
        super().__init__(
            {
                "take": In(_MASKS),
                "post": In(_MASKS),
                "set": In(1),
                "counts": In(SEMAPHORE_BITS * SEMAPHORES),
                "lacking": Out(SEMAPHORES),
                "last": Out(SEMAPHORES),
                "overflow": Out(SEMAPHORES),
                "underflow": Out(SEMAPHORES),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the counters."""
        m = Module()
        none, one = self.none, self.one
        units = range(len(UNIT_NAMES))
        for s, tokens in enumerate(self.tokens):
            takes, posts = (Cat(masks[u][s] for u in units) for masks in (self.take, self.post))
            # What is taken is known last of all, so all else is there by then, for none taken and for one.
            taken, posted = Signal(name=f"taken_{s}"), sum(posts, C(0, 1))
            held, left = (Signal(unsigned(len(tokens)), name=f"{name}_{s}") for name in ("held", "left"))
            m.d.comb += [
                taken.eq(takes.any()),
                held.eq(tokens + posted),
                left.eq(held - taken),
                self.lacking[s].eq(none[s] & ~posts.any()),
                self.last[s].eq(Mux(none[s], posted == 1, one[s] & ~posts.any())),
                self.underflow[s].eq((none[s] & taken) | _two(takes)),
                self.overflow[s].eq(Mux(taken, tokens > MOST_TOKENS + 1, tokens > MOST_TOKENS)),
            ]
            # Whether two were left without the take: from registers but for the posts.
            two = Mux(posts.any(), Mux(posted == 1, one[s], (posted == 2) & none[s]), tokens == 2)
            initial = self.counts.word_select(s, SEMAPHORE_BITS)
            m.d.sync += [
                tokens.eq(Mux(self.set, initial, left)),
                none[s].eq(Mux(self.set, initial == 0, Mux(taken, self.last[s], self.lacking[s]))),
                one[s].eq(Mux(self.set, initial == 1, Mux(taken, two, self.last[s]))),
            ]
        return m


def _two(bits: Value) -> Value:
    """Whether two of four bits are up."""
    a, b, c, d = bits
    return (a & b) | (c & d) | ((a | b) & (c | d))
