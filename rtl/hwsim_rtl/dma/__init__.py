"""Loads and stores: boxes of lines between a memory of fixed latency and the memories on the chip (docs/rtl-dma.md)."""

from __future__ import annotations

from hwsim_rtl.dma.box import BEAT, BoxGenerator, Geometry, Prepare
from hwsim_rtl.dma.load import Load
from hwsim_rtl.dma.store import Store

__all__ = ["BEAT", "BoxGenerator", "Geometry", "Load", "Prepare", "Store"]
