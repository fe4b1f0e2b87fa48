"""Synthesis of the accelerator with open tools: what it takes of a device, and how fast it gets (docs/synthesis.md)."""

from __future__ import annotations

from hwsim_rtl.synth.synthesis import synthesize
from hwsim_rtl.synth.targets import TARGETS

__all__ = ["TARGETS", "synthesize"]
