"""Action counts of a whole training step for many scratchpad sizes at once, exactly those of `simulate`.

A step's cycles and counts depend on the *structure* of an accelerator: every field but clock, node and kind of DRAM.
Segments are measured once per process and shared between structures that are equal for them; along the scratchpad's
capacity their best tilings form a staircase (docs/contracts/sweep.md, section 2).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hwsim.energy import ACTIONS
from hwsim.energy.counting import count_actions
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.mapping import MatrixSegment, plan_key, tile_segment
from hwsim.mapping.layout import first_dispatch_cycles
from hwsim.mapping.matrix import least_bank_lines, machine_vector, scratchpad_too_small, smallest_bank_lines
from hwsim.mapping.plan import Lowering, Stored, lower_op, set_formats
from hwsim.mapping.stream import Stream, tile_stream
from hwsim.program import COMMAND_BYTES
from hwsim.simulate import live_bytes
from hwsim.workload.graph import Graph, Op

__all__ = ["Structures", "Totals", "with_scratchpad"]

#: Measurements that a process remembers, about 2 kB each.
REMEMBERED = 50_000
_BANK_LINES = 11  # of `machine_vector`
_PER_CYCLE = [ACTIONS.index(name) for name in ("dram.background_cycles", "leakage.cycles")]
_COMMANDS = ACTIONS.index("control.commands")
_NAME = "\0"  # stands for the op's name in a remembered error

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Totals:
    """A step on accelerators that differ in the capacity of the scratchpad alone.

    Attributes
    ----------
    counts : ndarray of shape (n, len(ACTIONS)), dtype float64
        Action counts; 0 where there is an error.
    peak_memory_bytes : ndarray of shape (n,), dtype float64
        Largest number of live DRAM bytes.
    errors : tuple of (str or None), n of them
        What `simulate` would say, None where it would give this result.
    """

    counts: NDArray[np.float64]
    peak_memory_bytes: NDArray[np.float64]
    errors: tuple[str | None, ...]


@dataclass
class _Staircase:
    """What one segment does, by lines per bank: step i holds from `least[i]` to `top[i]`, found as they are needed."""

    least: list[int] = field(default_factory=list)
    top: list[int] = field(default_factory=list)
    counts: list[NDArray[np.float64]] = field(default_factory=list)
    smallest: int | None = None  # lines below which no tile fits, once that is known

    def step_of(self, lines: int) -> int | None:
        """Give the step that covers this many lines."""
        for i, (least, top) in enumerate(zip(self.least, self.top, strict=True)):
            if least <= lines <= top:
                return i
        return None


@dataclass(frozen=True, eq=False)
class _Step:
    """A training step, held so that its identity names it; its ops that differ, and live bytes by layout."""

    step: Graph
    ops: list[tuple[Op, Any, int]]
    live_bytes: dict[Hashable, int]


@dataclass(frozen=True, eq=False)
class _Sizes:
    """Capacities of the scratchpad, ascending [bytes], and the lines of a bank with each."""

    capacities: Sequence[int]
    lines: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Part:
    """One matrix segment of a step: how often it runs, for which op, and the step of its staircase for every size."""

    times: int
    staircase: _Staircase
    steps: NDArray[np.int64]


class Structures:
    """Counts training steps, and remembers what it has measured; one for a process."""

    def __init__(self) -> None:
        self._steps = _Memory[_Step](256)
        self._lowered = _Memory[Lowering](REMEMBERED)
        self._segments = _Memory[_Staircase](REMEMBERED)
        self._streams = _Memory["NDArray[np.float64] | str"](REMEMBERED)

    def totals(self, step: Graph, hw: Accelerator, capacities: Sequence[int]) -> Totals:
        """Count a training step for every capacity of the scratchpad.

        Parameters
        ----------
        step : Graph
            Training step with its formats, of `hwsim.simulate.training_step`; the same object for the same step.
        hw : Accelerator
            Everything but the scratchpad's capacity, with the array that the formats need.
        capacities : sequence of int
            Bytes of the scratchpad, ascending; every bank gets one line or more.
        """
        sizes = _Sizes(capacities, np.asarray(capacities, np.int64) // (hw.scratchpad.banks * hw.scratchpad_line_bytes))
        errors: list[str | None] = [None] * len(capacities)
        parts: list[_Part] = []
        fixed = np.zeros(len(ACTIONS))
        fixed[_PER_CYCLE] += first_dispatch_cycles(hw)
        known = self._steps.made(id(step), lambda: _Step(step, _distinct(step), {}))
        for op, key, times in known.ops:
            failed = self._count(op, key, times, step, hw, sizes, parts, fixed, errors)
            if failed is not None:
                errors = [error or failed for error in errors]
                break
        counts = _added_up(parts, fixed, np.array([error is None for error in errors]))
        layout = (hw.array.operand_format, hw.dram.beat_bytes)
        if layout not in known.live_bytes:
            known.live_bytes[layout] = live_bytes(step, hw)
        memory = known.live_bytes[layout] + counts[:, _COMMANDS] * COMMAND_BYTES
        return Totals(counts, memory, tuple(errors))

    def _count(
        self,
        op: Op,
        key: Hashable,
        times: int,
        step: Graph,
        hw: Accelerator,
        sizes: _Sizes,
        parts: list[_Part],
        fixed: NDArray[np.float64],
        errors: list[str | None],
    ) -> str | None:
        """Add one op, `times` over; gives the error that all sizes have."""
        streamed = (key, _stream_key(hw))
        try:
            lowering = self._lowered.made(streamed, lambda: lower_op(op, step, hw))
        except HwsimError as error:
            return str(error)
        for segment in lowering.segments:
            staircase = self._segments.made(_segment_key(segment, lowering.stored, hw), _Staircase)
            steps = _climb(staircase, segment, lowering.stored, hw, sizes, errors, op.name)
            parts.append(_Part(times, staircase, steps))
        for index, stream in enumerate(lowering.streams):
            measured = self._streams.made((streamed, index), partial(_measure_stream, stream, lowering.stored, hw))
            if isinstance(measured, str):
                return measured.replace(_NAME, op.name)
            fixed += times * measured
        return None


def with_scratchpad(hw: Accelerator, capacity_bytes: int) -> Accelerator:
    """Give the same accelerator with another capacity of the scratchpad [bytes]."""
    scratchpad = hw.scratchpad.model_copy(update={"capacity_bytes": int(capacity_bytes)})
    return hw.model_copy(update={"scratchpad": scratchpad})


class _Memory(OrderedDict[Hashable, _T]):
    """A dictionary that makes what it lacks, and forgets what was not asked for longest."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def made(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Give what is remembered under a key, or make it."""
        if key in self:
            self.move_to_end(key)
            return self[key]
        found = self[key] = make()
        if len(self) > self.size:
            self.popitem(last=False)
        return found


def _distinct(step: Graph) -> list[tuple[Op, Any, int]]:
    """Ops that differ, each the first of its kind, with their plans' keys and how often they come."""
    found: dict[Any, list[Any]] = {}
    for op in step.ops:
        found.setdefault(plan_key(op, step), [op, 0])[1] += 1
    return [(op, key, times) for key, (op, times) in found.items()]


def _segment_key(segment: MatrixSegment, stored: tuple[Stored, ...], hw: Accelerator) -> Hashable:
    """What a matrix segment's program depends on, but the lines per bank."""
    machine = machine_vector(hw)
    machine[_BANK_LINES] = 0
    return segment.values, stored, tuple(machine.tolist()), hw.array.operand_format, hw.dram.page_bytes


def _stream_key(hw: Accelerator) -> Hashable:
    """What lowering, and the program of a stream, depend on: neither rows nor dataflow nor the scratchpad."""
    dram = (hw.dram.beat_bytes, hw.dram.channels, hw.dram.latency_cycles, hw.dram.page_bytes)
    return hw.array.cols, hw.array.operand_format, hw.accumulator_slot_lines, hw.vector, dram, hw.control


def _climb(
    staircase: _Staircase,
    segment: MatrixSegment,
    stored: tuple[Stored, ...],
    hw: Accelerator,
    sizes: _Sizes,
    errors: list[str | None],
    name: str,
) -> NDArray[np.int64]:
    """Give the step of every size, from the largest down; what has none gets its error."""
    found = np.full(len(errors), -1, np.int64)
    for i, error in enumerate(errors):
        if error is not None:
            found[i] = 0
    end = len(errors)
    while True:
        open_ = np.flatnonzero(found[:end] < 0)
        if not len(open_):
            return found
        last = int(open_[-1])
        lines = int(sizes.lines[last])
        step = staircase.step_of(lines)
        if step is None:
            measured = _measure(staircase, segment, stored, with_scratchpad(hw, sizes.capacities[last]), name)
            if isinstance(measured, str):
                errors[last], found[last], end = measured, 0, last
                continue
            step = measured
        first = int(np.searchsorted(sizes.lines, staircase.least[step]))
        covered = found[first : last + 1]
        covered[covered < 0] = step
        end = first


def _measure(
    staircase: _Staircase, segment: MatrixSegment, stored: tuple[Stored, ...], hw: Accelerator, name: str
) -> int | str:
    """Search a tiling and add its step; or say why there is none."""
    lines = hw.scratchpad_bank_lines
    if staircase.smallest is not None and lines < staircase.smallest:
        need = staircase.smallest * hw.scratchpad.banks * hw.scratchpad_line_bytes
        return scratchpad_too_small(name, hw.scratchpad.capacity_bytes, need)
    try:
        tiling = tile_segment(segment, hw, name)
    except HwsimError as error:
        staircase.smallest = smallest_bank_lines(segment, hw)
        return str(error)
    set_formats(tiling.program, stored)
    staircase.counts.append(count_actions(tiling.program, hw, tiling.cycles).actions)
    staircase.least.append(least_bank_lines(segment, hw, tiling.tile))
    staircase.top.append(lines)
    return len(staircase.least) - 1


def _measure_stream(stream: Stream, stored: tuple[Stored, ...], hw: Accelerator) -> NDArray[np.float64] | str:
    try:
        program, cycles, _ = tile_stream(stream, hw, _NAME)
    except HwsimError as error:
        return str(error)
    set_formats(program, stored)
    return count_actions(program, hw, cycles).actions


def _added_up(parts: Sequence[_Part], fixed: NDArray[np.float64], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Counts of every size; neighbours with the same steps of every segment are added up once."""
    counts = np.zeros((len(good), len(ACTIONS)))
    if not good.any():
        return counts
    steps = np.array([part.steps[good] for part in parts], np.int64).reshape(len(parts), int(good.sum()))
    changed = np.ones(steps.shape[1], bool)
    changed[1:] = (steps[:, 1:] != steps[:, :-1]).any(axis=0)
    sums = np.tile(fixed, (int(changed.sum()), 1))
    for part, row in zip(parts, steps[:, changed], strict=True):
        sums += part.times * np.array(part.staircase.counts)[row]
    counts[good] = sums[np.cumsum(changed) - 1]
    return counts
