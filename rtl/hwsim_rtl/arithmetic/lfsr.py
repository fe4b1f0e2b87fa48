"""The random words of stochastic rounding in hardware: one lane's register, which takes the 32 steps of a draw at once.

Normative: docs/contracts/numerics.md, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import xor

from amaranth.hdl import C, Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from hwsim.numerics.lfsr import STEPS_PER_DRAW, TAPS, lane_seed
from hwsim_rtl.arithmetic.floats import wire
from hwsim_rtl.verilog import Leaf

__all__ = ["Lfsr", "lane_constant"]

#: Places of the taps below the highest, and by how many steps the next one feeds back into what leaves.
_PASSED = tuple(i for i in range(STEPS_PER_DRAW - 1) if TAPS >> i & 1)
_FEEDBACK = max(_PASSED) + 1


class Lfsr(Leaf):
    """Random words of one lane. The next word always stands at `word`; a draw takes one cycle.

    Members
    -------
    load : In(1)
        Take the first state; before a draw in the same cycle.
    first : In(32)
        The lane's first state, not 0.
    draw : In(1)
        Go on to the word after this.
    word : Out(32)
        The word that a draw in this cycle gives.
    """

    def __init__(self) -> None:
        super().__init__({"load": In(1), "first": In(32), "draw": In(1), "word": Out(32)})

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return "Lfsr"

    def body(self) -> Module:
        """Build the register."""
        m = Module()
        state = Signal(32, reset_less=True)
        m.d.comb += self.word.eq(_drawn(m, state))
        with m.If(self.load):
            m.d.sync += state.eq(self.first)
        with m.Elif(self.draw):
            m.d.sync += state.eq(self.word)
        return m


def _drawn(m: Module, state: Value) -> Value:
    """The state after the steps of a draw, in three levels of exclusive ors of four bits.

    As polynomials over GF(2), with S the bits of the state and O those that leave it step by step, the lowest power
    first: the taps give O·(1 + x + x²) = S + x²²·O, up to x³¹. As (1 + x)·(1 + x + x²) = 1 + x³, and likewise for its
    square, 1/(1 + x + x²) = (1 + x)/(1 + x³) and 1/(1 + x + x²)² = (1 + x²)/(1 + x⁶), so
    O = S·(1 + x)/(1 + x³) + x²²·S·(1 + x²)/(1 + x⁶). The four bits of (1 + x)·(1 + x³) are shared.
    """
    steps = range(STEPS_PER_DRAW)

    def sum_of(bits: Sequence[Value], *places: int) -> Value:
        return reduce(xor, (bits[i] for i in places if i >= 0), C(0, 1))

    four = [wire(m, sum_of(state, n, n - 1, n - 3, n - 4), f"four_{n}") for n in steps]
    left = []
    for n in steps:
        near = wire(m, sum_of(four, n, n - 6, n - 12, n - 18), f"near_{n}")
        back = n - _FEEDBACK
        far = sum_of(four, n - 24, n - 30)
        if back >= 0:
            far = far ^ sum_of(state, back, back - 2, back - 6, back - 8)
        left.append(near ^ wire(m, far, f"far_{n}"))
    # A bit of the new state is the one that entered it, changed at each tap that it passed.
    return Cat(sum_of(left, j, *(j + STEPS_PER_DRAW - 1 - tap for tap in _PASSED if tap >= j)) for j in steps)


def lane_constant(lane: int) -> int:
    """What a lane mixes into the seed, ``F(lane + 1)``.

    Examples
    --------
    >>> hex(lane_constant(0))
    '0x514e28b7'
    """
    return lane_seed(0, lane)
