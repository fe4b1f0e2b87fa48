"""The random words of stochastic rounding: one 32-bit Galois register per vector lane.

`Lfsr` draws for whole arrays; `step`, `draw` and `lane_seed` are the same, one number at a time. Normative:
docs/contracts/numerics.md, section 5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.numerics import _kernels

__all__ = ["STEPS_PER_DRAW", "TAPS", "Lfsr", "draw", "lane_seed", "step"]

#: x^32 + x^22 + x^2 + x + 1, for a register that shifts right.
TAPS = 0x80200003
STEPS_PER_DRAW = 32


def step(state: int) -> int:
    """Shift a register once.

    Examples
    --------
    >>> hex(step(1)), hex(step(6))
    ('0x80200003', '0x3')
    """
    return (state >> 1) ^ (TAPS if state & 1 else 0)


def draw(state: int) -> int:
    """Give the next word, which is also the next state.

    Examples
    --------
    >>> hex(draw(1))
    '0x8a0f3db5'
    """
    for _ in range(STEPS_PER_DRAW):
        state = step(state)
    return state


def lane_seed(seed: int, lane: int) -> int:
    """First state of a lane.

    Examples
    --------
    >>> hex(lane_seed(0, 0)), hex(lane_seed(1, 0))
    ('0x514e28b7', '0x514e28b6')
    """
    h = lane + 1
    h ^= h >> 16
    h = h * 0x85EBCA6B % 2**32
    h ^= h >> 13
    h = h * 0xC2B2AE35 % 2**32
    h ^= h >> 16
    return (seed ^ h) or h


class Lfsr:
    """Registers of all vector lanes.

    Attributes
    ----------
    state : ndarray of shape (lanes,), dtype uint32
        May be saved and set again; no entry is zero.

    Raises
    ------
    HwsimError
        If the seed does not fit 32 bits or there is no lane.

    Examples
    --------
    >>> lfsr = Lfsr(seed=1, lanes=2)
    >>> lfsr.draw(2, 3).shape                   # 3 columns are two groups of 2 lanes: 4 draws per lane
    (2, 3)
    """

    def __init__(self, seed: int, lanes: int) -> None:
        if not 0 <= seed < 2**32:
            raise HwsimError(f"the seed must have at most 32 bits, 0 … 4294967295, not {seed}")
        if lanes < 1:
            raise HwsimError(f"random words need at least one lane, not {lanes}")
        self.state: NDArray[np.uint32] = np.array([lane_seed(seed, lane) for lane in range(lanes)], dtype=np.uint32)

    def draw(self, lines: int, columns: int) -> NDArray[np.uint32]:
        """Draw the words of `lines` lines of `columns` elements, in the order of the contract.

        Returns
        -------
        ndarray of shape (lines, columns), dtype uint32
        """
        words = np.empty((lines, columns), dtype=np.uint32)
        _kernels.draw(self.state, _LEAP, words)
        return words


def _leap() -> NDArray[np.uint32]:
    """The 32 steps of a draw as a table per byte of the state; steps are linear, so the words are xored."""
    table = np.empty((4, 256), dtype=np.uint32)
    for byte in range(4):
        for value in range(256):
            table[byte, value] = draw(value << (8 * byte))
    return table


_LEAP = _leap()
