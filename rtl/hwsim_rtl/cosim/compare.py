"""The comparison: a program on the RTL and on the simulator, every byte of memory, every start and end.

`cosimulate` runs programs and gives a `Result` each. Values are those of docs/contracts/values.md, times those of
docs/contracts/cycles.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwsim.hardware import Accelerator
from hwsim.mapping.layout import dispatch_cycles, first_dispatch_cycles
from hwsim.program import CAUSES, COMMAND_BYTES, UNIT_NAMES, Field, Unit
from hwsim.program.fields import Row
from hwsim.timing import command_times, simulate_rows
from hwsim.values.machine import Core, order_of
from hwsim_rtl.control import Fault
from hwsim_rtl.control.counters import Stall
from hwsim_rtl.cosim.footprint import stored_bytes_of
from hwsim_rtl.cosim.program import CosimProgram
from hwsim_rtl.cosim.session import Job, Run, run_jobs
from hwsim_rtl.cosim.simulator import build_bench
from hwsim_rtl.registers import REGISTERS

__all__ = ["COUNTERS", "Expected", "MemoryDifference", "Result", "TimeDifference", "compare", "cosimulate", "expect",
           "job_of", "times_of", "timing_of"]  # fmt: skip

#: Models are built for a power of two of memory, so that few are built.
LEAST_MEMORY_BYTES = 1 << 17
_OFFSETS = {register.name: register.offset for register in REGISTERS}
#: Registers that are read after a program.
COUNTERS = tuple(r.name for r in REGISTERS if not r.writable and r.name not in ("ID", "VERSION"))
#: A program that takes so many times its cycles hangs; with random latencies it may take longer.
_PATIENCE, _PATIENCE_WITH_SLACK = 2, 12
_SPARE_CYCLES = 5000
_TIMES = ("dispatch", "start", "end")
#: What the counters call the simulator's causes that are no semaphores.
_STALLS = {"fetch": Stall.FETCH, "port": Stall.PORT, "drain": Stall.DRAIN}


@dataclass(frozen=True, eq=False)
class Expected:
    """What the simulator says of a program.

    Attributes
    ----------
    memory : ndarray of shape (bytes,), dtype uint8
        Memory after it.
    times : ndarray of shape (commands, 3), dtype int64
        Dispatch, start and end of every command [cycles from cycle 0].
    cycles : int
        T, the cycle in which the end takes effect.
    counters : mapping of str to int
        Of registers, or of sums of them (``"A + B"``).
    """

    memory: NDArray[np.uint8]
    times: NDArray[np.int64]
    cycles: int
    counters: Mapping[str, int]


@dataclass(frozen=True)
class MemoryDifference:
    """The first byte of memory that differs.

    Attributes
    ----------
    address : int
        Of the byte.
    expected, found : int
        Its values.
    command : int
        The last one that stores it, −1 if none does.
    section, tensor : str
        Of the program: the part that the command belongs to, what lies there.
    """

    address: int
    expected: int
    found: int
    command: int
    section: str
    tensor: str

    def __str__(self) -> str:
        place = f" ({self.tensor})" if self.tensor else ""
        writer = f"stored by command {self.command}" if self.command >= 0 else "which no command stores"
        part = f" of {self.section}" if self.section and self.command >= 0 else ""
        return (
            f"memory at {self.address:#x}{place}, {writer}{part}: expected {self.expected:#04x}, found "
            f"{self.found:#04x}"
        )


@dataclass(frozen=True)
class TimeDifference:
    """The first command whose dispatch, start or end differs.

    Attributes
    ----------
    command : int
        Its number.
    unit : str
        Its unit.
    what : str
        ``"dispatch"``, ``"start"`` or ``"end"``.
    expected, found : int
        Cycles; −1: it did not happen.
    section : str
        The part of the program that it belongs to.
    """

    command: int
    unit: str
    what: str
    expected: int
    found: int
    section: str

    def __str__(self) -> str:
        part = f" of {self.section}" if self.section else ""
        found = "never" if self.found < 0 else f"in cycle {self.found}"
        return (
            f"command {self.command} ({self.unit}){part}: {self.what} expected in cycle {self.expected}, found {found}"
        )


@dataclass(frozen=True, eq=False)
class Result:
    """A program on both.

    Attributes
    ----------
    name : str
        The program's.
    commands : int
        Of the program.
    cycles, expected_cycles : int
        T, of the RTL and of the simulator.
    error : Fault
        Why the RTL stopped.
    error_index : int
        Commands dispatched by then.
    timed_out : bool
        It hung.
    breaches : int
        Breaches of AXI4, accesses beyond memory.
    memory : MemoryDifference or None
        The first difference in memory.
    time : TimeDifference or None
        The first difference in time; `None` too where latencies were random.
    counters : mapping of str to int
        Read-only registers after the run.
    wrong_counters : tuple of str
        Those that the simulator counts otherwise.
    exact : bool
        Memory had the exact latency, so times count.
    run : Run
        All that the bench saw.
    """

    name: str
    commands: int
    cycles: int
    expected_cycles: int
    error: Fault
    error_index: int
    timed_out: bool
    breaches: int
    memory: MemoryDifference | None
    time: TimeDifference | None
    counters: Mapping[str, int]
    wrong_counters: tuple[str, ...]
    exact: bool
    run: Run

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences()

    def differences(self) -> list[str]:
        """Say what differs, the first of each kind."""
        found = []
        if self.timed_out:
            found.append(f"it hangs; {self.counters['DISPATCHED']} of {self.commands} commands were dispatched")
        if self.error is not Fault.NONE:
            found.append(f"it was stopped with {self.error.name} after {self.error_index} commands")
        if self.breaches:
            found.append(f"{self.breaches} breaches of AXI4 or accesses beyond the memory")
        found += [str(difference) for difference in (self.time, self.memory) if difference is not None]
        if not found and self.exact and self.cycles != self.expected_cycles:
            found.append(f"the program ends in cycle {self.cycles}, expected in {self.expected_cycles}")
        if not found and self.wrong_counters:
            found.append(f"counters differ: {', '.join(self.wrong_counters)}")
        return found


def expect(hw: Accelerator, program: CosimProgram) -> Expected:
    """Run a program on the simulator.

    Raises
    ------
    HwsimError
        If it is not legal.
    """
    core = Core(hw, program.image.size, program.seed)
    core.dram[:] = program.loaded()
    core.execute(program.flat, order_of(program.flat, program.name))
    return Expected(core.dram, *timing_of(hw, program.flat))


def timing_of(hw: Accelerator, flat: NDArray[np.int64]) -> tuple[NDArray[np.int64], int, dict[str, int]]:
    """Give `times`, `cycles` and `counters` of `Expected` for linked commands."""
    rows = np.ascontiguousarray(flat[:, : len(Row)])
    pace, shift = dispatch_cycles(hw), first_dispatch_cycles(hw)
    start, end, dispatch = command_times(rows, hw.control.queue_depth, pace).T
    timing = simulate_rows(rows, hw.control.queue_depth, pace, jump=False)
    units = flat[:, Field.UNIT]
    counters = {"CYCLES_LOW": (timing.cycles + shift) & 0xFFFFFFFF, "DISPATCHED": len(flat)}
    for unit, name in enumerate(UNIT_NAMES):
        counters[f"{name.upper()}_COMMANDS"] = int((units == unit).sum())
        counters[f"{name.upper()}_BUSY"] = int(timing.busy_cycles[unit])
        deferred = unit == Unit.STORE and bool((flat[units == unit, Field.DEFER] > 0).any())
        counters |= _stalls(name.upper(), timing.stall_cycles[unit], shift, deferred=deferred)
    return np.stack([dispatch, start, end], axis=1) + shift, timing.cycles + shift, counters


def _stalls(unit: str, cycles: NDArray[np.int64], shift: int, *, deferred: bool) -> dict[str, int]:
    """Give the stall counters of a unit: semaphores count together, and the way of the first command is fetch.

    Where stores let loads pass, their wait for these is fetch in the simulator and port in the RTL (docs/rtl.md), and
    other causes may be last: then the sum of all but the drain is given.
    """
    by_cause = dict.fromkeys(Stall, 0)
    for cause, count in zip(CAUSES, cycles.tolist(), strict=True):
        by_cause[_STALLS.get(cause, Stall.SEMAPHORE)] += count
    by_cause[Stall.FETCH] += shift
    found = {f"{unit}_STALL_{stall.name}": count for stall, count in by_cause.items()}
    if deferred:
        parts = [f"{unit}_STALL_{stall.name}" for stall in Stall if stall is not Stall.DRAIN]
        found[" + ".join(parts)] = sum(found.pop(part) for part in parts)
    return found


def cosimulate(
    hw: Accelerator,
    programs: Sequence[CosimProgram],
    cache: Path,
    *,
    slack: int = 0,
    seed: int = 1,
    waves: Path | None = None,
    waves_depth: int | None = None,
    memory_bytes: int = LEAST_MEMORY_BYTES,
) -> list[Result]:
    """Run programs on the RTL, one after the other in one simulation, and on the simulator.

    Parameters
    ----------
    hw : Accelerator
        The machine.
    programs : sequence of CosimProgram
    cache : Path
        Folder of built models.
    slack : int
        0: memory of the exact latency; else random latencies, up to so many cycles longer, and back-pressure: then
        values alone are compared.
    seed : int
        Of the random latencies.
    waves : Path, optional
        VCD to write.
    waves_depth : int, optional
        Levels of modules that the VCD has, the bench as the first; all unless given.
    memory_bytes : int
        Least size of the bench's memory; it is the next power of two that holds all images.

    Raises
    ------
    HwsimError
        If the machine has no RTL, a program is not legal, or a tool is missing.
    """
    largest = max([memory_bytes, *(program.image.size for program in programs)])
    model = build_bench(hw, cache, 1 << (largest - 1).bit_length(), waves=waves is not None, waves_depth=waves_depth)
    expected = [expect(hw, program) for program in programs]
    jobs = [job_of(p, e, slack, seed + i) for i, (p, e) in enumerate(zip(programs, expected, strict=True))]
    runs = run_jobs(model, jobs, waves=waves)
    return [compare(p, e, r, exact=slack == 0) for p, e, r in zip(programs, expected, runs, strict=True)]


def job_of(program: CosimProgram, expected: Expected, slack: int, seed: int) -> Job:
    """Give what the bench does for a program: `slack` and `seed` as of `cosimulate`."""
    writes = {
        "PROGRAM": program.address, "COMMANDS": len(program.flat), "LIMIT": program.image.size, "SEED": program.seed,
        "INTERRUPT_ENABLE": 1,
    }  # fmt: skip
    patience = _PATIENCE_WITH_SLACK if slack else _PATIENCE
    return Job(
        image=program.loaded(),
        writes=[(_OFFSETS[name], value) for name, value in writes.items()],
        start=(_OFFSETS["CONTROL"], 1),
        reads=[_OFFSETS[name] for name in COUNTERS],
        most_cycles=patience * (1 + slack // 8) * expected.cycles + _SPARE_CYCLES,
        slack=slack,
        seed=seed,
    )


def compare(program: CosimProgram, expected: Expected, run: Run, *, exact: bool) -> Result:
    """Compare what a machine did with what the simulator says; times only if memory was `exact`."""
    counters = dict(zip(COUNTERS, run.values, strict=True))
    wrong = [n for n, count in expected.counters.items() if sum(counters[part] for part in n.split(" + ")) != count]
    if not exact:
        wrong = [name for name in wrong if name.endswith("_COMMANDS") or name == "DISPATCHED"]
    return Result(
        name=program.name,
        commands=len(program.flat),
        cycles=counters["CYCLES_LOW"] | counters["CYCLES_HIGH"] << 32,
        expected_cycles=expected.cycles,
        error=Fault(counters["ERROR"]),
        error_index=counters["ERROR_INDEX"],
        timed_out=run.timed_out,
        breaches=run.breaches,
        memory=_memory_difference(program, expected, run),
        time=_time_difference(program, expected, times_of(program.flat, run.events)) if exact else None,
        counters=counters,
        wrong_counters=tuple(wrong),
        exact=exact,
        run=run,
    )


def times_of(flat: NDArray[np.int64], events: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give dispatch, start and end of every command, −1 where it did not happen; a unit's events are in order.

    Parameters
    ----------
    flat : ndarray of shape (commands, FIELDS), dtype int64
    events : ndarray of shape (cycles, 4), dtype int64
        As in `Run`.

    Returns
    -------
    ndarray of shape (commands, 3), dtype int64
    """
    times = np.full((len(flat), 3), -1, np.int64)
    cycle, started, ended, dispatched = events.T
    _fill(times[:, 0], np.arange(len(flat)), cycle[dispatched != 0])
    units = flat[:, Field.UNIT]
    for unit in range(len(UNIT_NAMES)):
        own = np.flatnonzero(units == unit)
        _fill(times[:, 1], own, cycle[started >> unit & 1 != 0])
        _fill(times[:, 2], own, cycle[ended >> unit & 1 != 0] + 1)
    barriers = units == Unit.CONTROL
    times[barriers, 1:] = times[barriers, :1]
    return times


def _fill(column: NDArray[np.int64], commands: NDArray[np.int64], cycles: NDArray[np.int64]) -> None:
    count = min(len(commands), len(cycles))
    column[commands[:count]] = cycles[:count]


def _time_difference(program: CosimProgram, expected: Expected, found: NDArray[np.int64]) -> TimeDifference | None:
    """Name the difference that comes first in time: later ones may follow from it."""
    wrong = np.argwhere(found != expected.times)
    if not wrong.size:
        return None
    met = np.where(found < 0, expected.times, np.minimum(found, expected.times))
    command, column = min(wrong.tolist(), key=lambda at: (met[at[0], at[1]], at))
    unit = Unit(program.flat[command, Field.UNIT]).name.lower()
    cycles = int(expected.times[command, column]), int(found[command, column])
    return TimeDifference(command, unit, _TIMES[column], *cycles, program.section(command))


def _memory_difference(program: CosimProgram, expected: Expected, run: Run) -> MemoryDifference | None:
    """Name the difference whose byte was stored first: later ones may follow from it."""
    wrong = np.flatnonzero(expected.memory != run.memory)
    if not wrong.size:
        return None
    writers = _writers(program, wrong)
    first = int(np.argmin(writers))
    address, command = int(wrong[first]), int(writers[first])
    tensor = next((name for name, (low, high) in program.tensors.items() if low <= address < high), "")
    if program.address <= address < program.address + COMMAND_BYTES * len(program.flat):
        tensor = "the program"
    section = program.section(command) if command >= 0 else ""
    values = int(expected.memory[address]), int(run.memory[address])
    return MemoryDifference(address, *values, command, section, tensor)


def _writers(program: CosimProgram, addresses: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the last command that stores each of some bytes, −1 if none does."""
    writers = np.full(program.image.size, -1, np.int64)
    for command in np.flatnonzero(program.flat[:, Field.UNIT] == Unit.STORE).tolist():
        writers[stored_bytes_of(program.flat[command])] = command
    return writers[addresses]
