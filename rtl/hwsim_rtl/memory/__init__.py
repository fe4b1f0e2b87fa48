"""The memories on the chip: operands in the scratchpad, sums in the accumulator (docs/rtl-dma.md)."""

from __future__ import annotations

from hwsim_rtl.memory.accumulator import Accumulator
from hwsim_rtl.memory.scratchpad import Scratchpad

__all__ = ["Accumulator", "Scratchpad"]
