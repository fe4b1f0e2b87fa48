"""Cycles: the same contract twice, by events and by recurrence; docs/contracts/cycles.md."""

from __future__ import annotations

from hwsim.timing.events import simulate_events
from hwsim.timing.recurrence import SegmentTiming, command_times, simulate_rows
from hwsim.timing.timeline import Timeline

__all__ = ["SegmentTiming", "Timeline", "command_times", "simulate_events", "simulate_rows"]
