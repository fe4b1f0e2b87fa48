"""Loads and stores: boxes of lines between a memory of fixed latency and the memories on the chip (docs/rtl-dma.md)."""

from __future__ import annotations

from hwsim_rtl.dma.box import BEAT, WALK_CYCLES, Geometry, move_command
from hwsim_rtl.dma.load import Load
from hwsim_rtl.dma.prepare import Prepare
from hwsim_rtl.dma.store import Store
from hwsim_rtl.dma.unit import LoadUnit, StoreUnit
from hwsim_rtl.dma.walk import BoxGenerator

__all__ = [
    "BEAT",
    "WALK_CYCLES",
    "BoxGenerator",
    "Geometry",
    "Load",
    "LoadUnit",
    "Prepare",
    "Store",
    "StoreUnit",
    "move_command",
]
