"""A training step as a Chrome trace (JSON object format), which https://ui.perfetto.dev opens.

Tracks: phases, ops, the first commands of each op per unit, live DRAM memory and average power per op. Times are
microseconds of real time, that is cycles ÷ clock.

References
----------
"Trace Event Format", Google, 2016 (docs.google.com, CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate, groupby
from typing import Any

from hwsim.program.fields import UNIT_NAMES
from hwsim.results import MEMORY_CATEGORIES, OpResult, Span, StepResult

__all__ = ["COMMANDS_PER_OP", "chrome_trace"]

#: Commands of an op that the unit tracks show.
COMMANDS_PER_OP = 64

Event = dict[str, Any]
Spans = Callable[[StepResult, int, int], tuple[Span, ...]]

_PROCESS = 1
_PHASES, _OPS, _FIRST_UNIT = 1, 2, 3


def chrome_trace(step: StepResult, spans: Spans) -> dict[str, Any]:
    """Give the trace of a training step, ready for `json.dumps`.

    Parameters
    ----------
    step : StepResult
        What to show.
    spans : callable
        ``spans(step, op_index, limit)`` gives the first commands of an op in time, as `hwsim.simulate.spans` does.
    """
    starts = [0, *accumulate(op.cycles for op in step.ops)]
    clock = step.hardware.clock_mhz
    events = [*_names(step), *_phases(step, starts), *_ops(step, starts)]
    for index, start in enumerate(starts[:-1]):
        events += _commands(spans(step, index, COMMANDS_PER_OP), start, clock)
    events += _counters(step, starts)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {
            "model": step.model,
            "hardware": step.hardware.name,
            "batch": step.batch,
            "clock_mhz": clock,
            "time": "ts and dur are microseconds of real time: cycles / clock_mhz",
            "unit tracks": f"the first {COMMANDS_PER_OP} commands of each op; the rest of an op is left blank there",
        },
    }


def _names(step: StepResult) -> Iterator[Event]:
    title = f"{step.model}, batch {step.batch}, on {step.hardware.name}"
    yield {"ph": "M", "pid": _PROCESS, "name": "process_name", "args": {"name": title}}
    for offset, name in enumerate(("phases", "ops", *(f"unit {unit}" for unit in UNIT_NAMES))):
        track = {"ph": "M", "pid": _PROCESS, "tid": _PHASES + offset}
        yield {**track, "name": "thread_name", "args": {"name": name}}
        yield {**track, "name": "thread_sort_index", "args": {"sort_index": offset}}


def _phases(step: StepResult, starts: list[int]) -> Iterator[Event]:
    for phase, group in groupby(enumerate(step.ops), key=lambda pair: pair[1].phase):
        indices = [index for index, _ in group]
        yield _slice(_PHASES, str(phase), starts[indices[0]], starts[indices[-1] + 1], step.hardware.clock_mhz)


def _ops(step: StepResult, starts: list[int]) -> Iterator[Event]:
    for op, start, end in zip(step.ops, starts, starts[1:], strict=False):
        yield _slice(_OPS, op.name, start, end, step.hardware.clock_mhz) | {
            "cat": str(op.phase),
            "args": _arguments(op),
        }


def _arguments(op: OpResult) -> dict[str, Any]:
    energy = op.energy_pj
    return {
        "kind": op.kind,
        "phase": str(op.phase),
        "cycles": op.cycles,
        "macs": op.macs,
        "dram_bytes": op.dram_bytes,
        "energy_pj": energy.value,
        "energy_low_pj": energy.low,
        "energy_high_pj": energy.high,
        "bound": op.bound,
        "mapping": op.mapping,
    }


def _commands(spans: tuple[Span, ...], start: int, clock: float) -> Iterator[Event]:
    for span in spans:
        if span.unit in UNIT_NAMES:
            track = _FIRST_UNIT + UNIT_NAMES.index(span.unit)
            command = _slice(track, span.name, start + span.start, start + span.occupied_until, clock)
            yield command | {"args": {"start_cycle": span.start, "end_cycle": span.end}}


def _counters(step: StepResult, starts: list[int]) -> Iterator[Event]:
    clock = step.hardware.clock_mhz
    for index, op in enumerate(step.ops):
        memory = {name: int(step.memory_bytes[name][index]) for name in MEMORY_CATEGORIES}
        yield _counter("live memory [bytes]", starts[index], clock, memory)
        watts = op.energy_pj.value * 1e-12 / (op.cycles / (clock * 1e6)) if op.cycles else 0.0
        yield _counter("power [W]", starts[index], clock, {"average of the op": watts})
    yield _counter("live memory [bytes]", starts[-1], clock, dict.fromkeys(MEMORY_CATEGORIES, 0))
    yield _counter("power [W]", starts[-1], clock, {"average of the op": 0.0})


def _slice(track: int, name: str, start: int, end: int, clock: float) -> Event:
    begin = _microseconds(start, clock)
    length = round(_microseconds(end, clock) - begin, 6)
    return {"ph": "X", "pid": _PROCESS, "tid": track, "name": name, "ts": begin, "dur": length}


def _counter(name: str, cycle: int, clock: float, values: dict[str, Any]) -> Event:
    return {"ph": "C", "pid": _PROCESS, "name": name, "ts": _microseconds(cycle, clock), "args": values}


def _microseconds(cycle: int, clock: float) -> float:
    """Give the time of a cycle [µs], to the picosecond."""
    return round(cycle / clock, 6)
