"""The ten counters: what is posted can be taken in the next cycle.

Normative: docs/contracts/cycles.md, section 1, and docs/contracts/program.md, section 2.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Module, Mux, Signal, unsigned
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

    Members
    -------
    take, post : In(four masks of ten)
        What each unit takes and posts in this cycle; at most one token of each semaphore per unit.
    set, counts : In(1), In(40)
        Set all counters, four bits each; takes and posts of this cycle are void.
    available : Out(10)
        Semaphores with a token.
    overflow, underflow : Out(1)
        More than 255 tokens are left after this cycle's takes; more are taken than there are.
    """

    def __init__(self) -> None:
        #: The ninth bit is there for the cycle in which a token comes before another is taken.
        self.tokens = [Signal(range(MOST_TOKENS + len(UNIT_NAMES) + 1), name=f"tokens_{s}") for s in range(SEMAPHORES)]
        super().__init__(
            {
                "take": In(_MASKS),
                "post": In(_MASKS),
                "set": In(1),
                "counts": In(SEMAPHORE_BITS * SEMAPHORES),
                "available": Out(SEMAPHORES),
                "overflow": Out(1),
                "underflow": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the counters."""
        m = Module()
        over, under = Signal(SEMAPHORES), Signal(SEMAPHORES)
        for s, tokens in enumerate(self.tokens):
            taken, posted = (
                sum((masks[u][s] for u in range(len(UNIT_NAMES))), C(0, 1)) for masks in (self.take, self.post)
            )
            left = Signal(unsigned(len(tokens)), name=f"left_{s}")
            # What is taken is known last of all, so whether a token remains is looked up by it.
            held = tokens + posted
            remains = Signal(name=f"remains_{s}")
            with m.Switch(taken):
                for number in range(len(UNIT_NAMES) + 1):
                    with m.Case(number):
                        m.d.comb += remains.eq(held[: len(tokens)] != number)
            first = self.counts.word_select(s, SEMAPHORE_BITS)
            m.d.sync += self.available[s].eq(Mux(self.set, first.any(), remains))
            m.d.comb += [
                left.eq(tokens - taken),
                under[s].eq(taken > tokens),
                over[s].eq((left > MOST_TOKENS) & ~under[s]),
            ]
            initial = self.counts.word_select(s, SEMAPHORE_BITS)
            m.d.sync += tokens.eq(Mux(self.set, initial, left + posted))
        m.d.comb += [self.overflow.eq(over.any()), self.underflow.eq(under.any())]
        return m
