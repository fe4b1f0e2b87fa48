"""The random words of stochastic rounding in hardware: one lane's register, which takes the 32 steps of a draw at once.

Normative: docs/contracts/numerics.md, section 5.
"""

from __future__ import annotations

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from hwsim.numerics.lfsr import draw, lane_seed
from hwsim_rtl.verilog import Leaf

__all__ = ["Lfsr", "lane_constant"]

#: Bits of the state of which each bit of the next word is the exclusive or: steps are linear, so 32 of them are too.
_EQUATIONS = tuple(tuple(i for i in range(32) if draw(1 << i) >> bit & 1) for bit in range(32))


class Lfsr(Leaf):
    """Random words of one lane. The next word always stands at `word`; a draw takes one cycle.

    Members
    -------
    load : In(1)
        Take the seed; before a draw in the same cycle.
    seed : In(32)
        Seed of all lanes.
    constant : In(32)
        The lane's, a constant: `lane_constant`.
    draw : In(1)
        Go on to the word after this.
    word : Out(32)
        The word that a draw in this cycle gives: each bit the exclusive or of 21 bits of the register at most.
    """

    def __init__(self) -> None:
        super().__init__({"load": In(1), "seed": In(32), "constant": In(32), "draw": In(1), "word": Out(32)})

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return "Lfsr"

    def body(self) -> Module:
        """Build the register."""
        m = Module()
        state = Signal(32, reset_less=True)
        mixed = self.seed ^ self.constant
        m.d.comb += self.word.eq(Cat(reduce(xor, (state[i] for i in bits)) for bits in _EQUATIONS))
        with m.If(self.load):
            m.d.sync += state.eq(Mux(mixed.any(), mixed, self.constant))
        with m.Elif(self.draw):
            m.d.sync += state.eq(self.word)
        return m


def lane_constant(lane: int) -> int:
    """What a lane mixes into the seed, ``F(lane + 1)``.

    Examples
    --------
    >>> hex(lane_constant(0))
    '0x514e28b7'
    """
    return lane_seed(0, lane)
