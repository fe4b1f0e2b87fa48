"""Do loads and stores do in hardware what `hwsim.values` says, bit for bit, in the cycles of the cycle contract?

Commands of random small ops, and random ones that no mapping makes, run on the load and store units with their
memories in Amaranth's simulator, and one by one on `hwsim.values.machine.Core`.
"""

import random
import re
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.sim import Simulator

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, load_accelerator
from hwsim.hardware.formats import FORMAT_BITS
from hwsim.mapping import plan_key, plan_op
from hwsim.mapping.layout import dispatch_cycles
from hwsim.program import (
    FIELDS,
    FORMAT_CODES,
    HAND_OVER_CYCLES,
    BMode,
    Field,
    MoveField,
    MoveFlag,
    Unit,
    VectorOp,
    encode,
)
from hwsim.timing import command_times
from hwsim.values.machine import Core, Machine
from hwsim.workload import Network, training_graph
from hwsim_models import build
from hwsim_rtl.dma import WALK_CYCLES, Geometry, Load, Prepare, Store
from hwsim_rtl.dma.align import add_modulo
from hwsim_rtl.memory import Accumulator, Scratchpad

FORMAT_OF = {code: name for name, code in FORMAT_CODES.items() if name != "int32"}
INTO_ACCUMULATOR = 2


def machine_of(rows=4, cols=4, format="bf16", beat=4, latency=8, flow="ws", lines=64, banks=8, bank_lines=32, **rest):
    """A small machine; `lines` of half the accumulator."""
    hw = load_accelerator("edge-8x8-bf16").model_dump()
    deep = max(rows, cols)
    hw["array"] |= {"rows": rows, "cols": cols, "operand_format": format, "dataflow": flow}
    hw["scratchpad"] = {"capacity_bytes": banks * bank_lines * deep * FORMAT_BITS[format] // 8, "banks": banks}
    hw["accumulator"]["capacity_bytes"] = 2 * 4 * cols * lines
    hw["vector"]["lanes"] = cols
    hw["dram"] |= {"bytes_per_cycle": beat, "latency_cycles": latency} | rest
    return Accelerator.model_validate(hw)


# ---- memory, and the machine beside it --------------------------------------------------------------------------


@dataclass
class Dram:
    """Memory that answers after `latency` cycles, or up to `slack` later, and is not always ready."""

    cells: np.ndarray
    beat: int
    latency: int
    slack: int = 0
    seed: int = 0
    requests: list = field(default_factory=list)  # (cycle, address) of reads and writes

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.answers = deque()

    def ready(self):
        return not self.slack or self.random.random() < 0.7

    def request(self, cycle, address, answer):
        assert address % self.beat == 0
        self.requests.append((cycle, address))
        self.answers.append((cycle + self.latency + self.random.randint(0, self.slack), answer))

    def answer(self, cycle):
        """The next answer, if it is there."""
        return self.answers[0][1] if self.answers and self.answers[0][0] <= cycle else None

    def read(self, address):
        return int.from_bytes(self.cells[address : address + self.beat].tobytes(), "little")

    def write(self, address, value, strobes):
        for i in range(self.beat):
            if strobes >> i & 1:
                self.cells[address + i] = value >> 8 * i & 0xFF


class Bench(Elaboratable):
    """The units under test with the memories that they need."""

    def __init__(self, g, unit):
        self.unit, self.scratchpad, self.accumulator = unit, Scratchpad(g), Accumulator(g, 2)

    def elaborate(self, platform):
        m = Module()
        unit, scratchpad, accumulator = self.unit, self.scratchpad, self.accumulator
        m.submodules += [unit, scratchpad, accumulator]
        if isinstance(unit, Load):
            for port, memory in ((unit.scratchpad, scratchpad.write), (unit.accumulator, accumulator.load)):
                m.d.comb += [memory.payload.eq(port.payload), memory.valid.eq(port.valid)]
        else:
            m.d.comb += [
                accumulator.store.payload.eq(unit.read.payload),
                accumulator.store.valid.eq(unit.read.valid),
                unit.words.eq(accumulator.stored),
            ]
        return m


def prepared(g, flat, multipliers=1):
    """Boxes of commands, as bits, and the cycles that each takes to be prepared."""
    unit = Prepare(g, multipliers)
    boxes, times = [], []

    async def bench(ctx):
        for words in encode(flat).tolist():
            ctx.set(unit.words, words)
            ctx.set(unit.valid, 1)
            cycle = 0
            while not ctx.get(unit.done):
                await ctx.tick()
                cycle += 1
            boxes.append(ctx.get(unit.prepared.box.as_value()))
            times.append(cycle)
            ctx.set(unit.taken, 1)
            await ctx.tick()
            ctx.set(unit.taken, 0)

    simulate(unit, bench)
    return boxes, times


def simulate(design, bench):
    simulator = Simulator(design)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@dataclass
class Times:
    """Cycles of a command: its start, its first cycle in which the next may start, its last write, its end."""

    start: int
    free: int = -1
    left: int = -1
    end: int = -1


def run(g, unit, boxes, dram, accumulator, *, gap=lambda: 0):
    """Run boxes one after the other, each as soon as the unit is free and `gap` cycles have passed.

    `accumulator` (3, lines, cols) is what the halves and the fixed lines hold before. Gives the times, what the
    scratchpad holds, by bank and sub-bank, and the accumulator after.
    """
    bench = Bench(g, unit)
    accumulator = accumulator.copy() if not g.skewed else turned(accumulator, 1)
    times, scratch = [], np.zeros((g.banks, g.deep, g.bank_lines), np.uint32)
    load = isinstance(unit, Load)

    async def work(ctx):
        for (memory, _, lane), bank in bench.accumulator.memories.items():
            for line in range(g.slot_lines):
                ctx.set(bank.data[line], int(accumulator[memory, line, lane]))
        for pair in bench.scratchpad.memories:
            for memory in pair:
                for line in range(2 * g.bank_lines):
                    ctx.set(memory.data[line], _GARBAGE & (1 << g.operand_bits) - 1)
        cycle, ended, wait, queue = 0, 0, 0, deque(boxes)
        while ended < len(boxes):
            assert cycle < 200_000, "it hangs"
            free = ctx.get(unit.ready)
            if free and times and times[-1].free < 0:
                times[-1].free, wait = cycle, gap()
            starts = bool(free and queue and wait == 0)
            wait = max(0, wait - 1)
            ctx.set(unit.start, starts)
            # Without a start, what lies at the input must not matter.
            ctx.set(unit.box.as_value(), queue[0] if starts else _GARBAGE_BOX & (1 << g.box.size) - 1)
            if starts:
                queue.popleft()
                times.append(Times(cycle))
            answer = dram.answer(cycle)
            port, answers = (unit.request, unit.data) if load else (unit.write, unit.response)
            ctx.set(answers.valid, answer is not None)
            if load:
                garbage = _GARBAGE & (1 << 8 * g.beat_bytes) - 1
                ctx.set(unit.data.payload.as_value(), garbage if answer is None else answer)
            ready = dram.ready()
            ctx.set(port.ready, ready)
            if ctx.get(port.valid) and ready:
                if load:
                    address = ctx.get(port.payload)
                    dram.request(cycle, address, dram.read(address))
                else:
                    address = ctx.get(port.payload.address)
                    dram.write(address, ctx.get(port.payload.data.as_value()), ctx.get(port.payload.bytes))
                    dram.request(cycle, address, 0)
            if answer is not None and ctx.get(answers.ready):
                dram.answers.popleft()
            if not load and ctx.get(unit.left):
                next(t for t in times if t.left < 0).left = cycle + 1
            if ctx.get(unit.done):
                times[ended].end = cycle + 1
                ended += 1
            assert not ctx.get(bench.scratchpad.conflict)
            assert not ctx.get(bench.accumulator.conflict)
            await ctx.tick()
            cycle += 1
        if times[-1].free < 0:
            times[-1].free = cycle
        await ctx.tick()  # what is written at the scratchpad's port passes a register
        for (memory, copy, lane), bank in bench.accumulator.memories.items():
            found = [ctx.get(bank.data[line]) for line in range(g.slot_lines)]
            assert copy == 0 or found == accumulator[memory, :, lane].tolist()
            accumulator[memory, :, lane] = found
        for b, s in np.ndindex(g.banks, g.deep):
            memory, first = bench.scratchpad.memories[b // 2][s], b % 2 * g.bank_lines
            scratch[b, s] = [ctx.get(memory.data[first + line]) for line in range(g.bank_lines)]

    simulate(bench, work)
    return times, scratch, turned(accumulator, -1) if g.skewed else accumulator


def turned(words, by):
    """Lanes to banks, where a line is turned by its number, or back."""
    lines = words.shape[1]
    return np.stack([np.roll(words[:, line], by * line, axis=-1) for line in range(lines)], axis=1)


_GARBAGE = 0xA5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5
_GARBAGE_BOX = int("A5" * 200, 16)


# ---- the reference ----------------------------------------------------------------------------------------------


class Reference:
    """Two cores with one memory: what is fixed lies in half 0 of the second."""

    def __init__(self, hw, size, seed):
        rng = np.random.default_rng(seed)
        self.hw, self.g = hw, Geometry.of(hw)
        self.cores = [Core(hw, size), Core(hw, size)]
        self.cores[1].dram = self.cores[0].dram
        self.dram = self.cores[0].dram
        self.dram[:] = rng.integers(0, 256, self.dram.size)
        for core in self.cores:
            core.accumulator[:] = rng.integers(0, 1 << 32, core.accumulator.size)
            core.scratchpad[:] = _GARBAGE & (1 << self.g.operand_bits) - 1
        self.scratch = self.cores[0].scratchpad.reshape(-1, self.g.deep).copy()

    @property
    def accumulator(self):
        lines = [core.accumulator.reshape(2, -1, self.g.cols) for core in self.cores]
        return np.stack([lines[0][0], lines[0][1], lines[1][0]])

    def execute(self, flat):
        for i, row in enumerate(flat):
            into_accumulator = row[Field.OPCODE] == INTO_ACCUMULATOR
            fixed = int(bool(row[Field.FLAGS] & MoveFlag.FIXED) and into_accumulator)
            self.cores[fixed].execute(flat, np.array([i]))
            if row[Field.UNIT] == Unit.LOAD and not into_accumulator:
                self._place(row)

    def _place(self, row):
        """Put what a load has written where it lies: (line l of the tile, lane) in sub-bank (l + lane) mod D."""
        deep = self.g.deep
        logical = self.cores[0].scratchpad.reshape(-1, deep)
        first = row[MoveField.LINE] + row[Field.SLOT_A] * row[MoveField.SPAN]
        taps = row[Field.TAPS_H] * row[Field.TAPS_W] if row[Field.FLAGS] & MoveFlag.EXPANDED else 1
        for line in range(row[Field.COUNT_B] * row[Field.COUNT_H] * row[Field.COUNT_W]):
            for tap in range(taps):
                start = tap * row[MoveField.TAP_COLUMNS]
                for column in range(start, start + row[Field.LINE_BYTES] * 8 // self.g.operand_bits):
                    at = first + column // deep * row[MoveField.TILE_LINES] + line
                    self.scratch[at, (line + column) % deep] = logical[at, column % deep]

    @property
    def banks(self):
        return self.scratch.reshape(self.g.banks, self.g.bank_lines, self.g.deep).transpose(0, 2, 1)


def occupancy(row):
    lines = row[Field.COUNT_B] * row[Field.COUNT_H] * row[Field.COUNT_W]
    if row[Field.UNIT] == Unit.LOAD:
        lines *= row[Field.TAPS_H] * row[Field.TAPS_W]
    return int(lines * row[Field.BEATS])


def check_times(times, flat, latency, gaps):
    """Starts follow one another at once, ends come one latency after the occupancy."""
    for i, (time, row) in enumerate(zip(times, flat, strict=True)):
        busy = occupancy(row)
        assert time.free == time.start + busy
        assert time.end == time.start + busy + latency
        if row[Field.UNIT] == Unit.STORE:
            assert time.left == time.start + busy + WALK_CYCLES
        if i and not gaps:
            assert time.start == times[i - 1].start + occupancy(flat[i - 1])


def compare(hw, flat, size, seed, *, stages=1, slack=0):
    """Run loads, or stores, on both; all of the memories and every time must agree."""
    reference = Reference(hw, size, seed)
    g = reference.g
    load = flat[0, Field.UNIT] == Unit.LOAD
    rng = random.Random(seed)
    gaps = seed % 3 == 0
    boxes, _ = prepared(g, flat)
    unit = Load(g, stages) if load else Store(g)
    dram = Dram(reference.dram.copy(), g.beat_bytes, unit.memory_cycles, slack, seed)
    times, scratch, accumulator = run(
        g, unit, boxes, dram, reference.accumulator, gap=(lambda: rng.randint(0, 3)) if gaps else lambda: 0
    )
    reference.execute(flat)
    np.testing.assert_array_equal(accumulator, reference.accumulator)
    np.testing.assert_array_equal(dram.cells, reference.dram)
    if load:
        np.testing.assert_array_equal(scratch, reference.banks)
    if not slack:
        check_times(times, flat, g.latency_cycles, gaps)
    return times, dram


# ---- commands ---------------------------------------------------------------------------------------------------


def random_graph(rng, hw):
    """One small op with its gradients: convolution, linear or pooling."""
    net = Network("tiny", batch=rng.randint(1, 3))
    size, channels = (rng.randint(2, 5), rng.randint(2, 5)), rng.randint(1, 7)
    kind = rng.choice(("conv", "linear", "pool", "norm"))
    if kind == "linear":
        value = net.input((rng.randint(1, 12),)).linear(rng.randint(1, 9), bias=rng.random() < 0.5, name="fc")
    else:
        value = net.input((*size, channels))
        kernel = (rng.randint(1, 2), rng.randint(1, 2))
        value = value.conv2d(
            rng.randint(1, 6), kernel, stride=rng.randint(1, 2), padding=(kernel[0] // 2, kernel[1] // 2),
            bias=rng.random() < 0.5, name="conv",
        )  # fmt: skip
        if kind == "pool":
            value = value.max_pool(2, stride=1, padding=1, name="pool")
        if kind == "norm":
            value = value.batchnorm(name="norm")
        value = value.flatten(name="flat").linear(2, name="fc")
    graph = value.mean_squared_error(name="loss")
    return training_graph(graph, "sgd", master_weights=hw.array.operand_format != "fp32")


def mapped_commands(hw, seed, unit):
    """Loads, or stores, of the programs of a random small op, linked; and the bytes of its memory."""
    rng = random.Random(seed)
    machine = None
    while machine is None:
        try:
            machine = Machine(random_graph(rng, hw), hw)
        except HwsimError as error:  # of a graph that is too large for this machine
            assert "must fit" in str(error)  # noqa: PT017
    flat = np.concatenate([machine._linked[op.name].flat for op in machine.graph.ops])
    flat = flat[flat[:, Field.UNIT] == unit]
    narrow = (flat[:, Field.OPCODE] == INTO_ACCUMULATOR) & (flat[:, MoveField.FORMAT] != 0)
    flat[narrow, MoveField.EXPONENT] = rng.choices((0, 0, -3, 5, 200, -200), k=narrow.sum())
    return flat, machine.core.dram.size


def random_commands(hw, seed, unit, count=6):
    """Legal commands that no mapping makes: any steps, alignment, places; and the bytes of their memory."""
    rng, g, size = random.Random(seed), Geometry.of(hw), 4096
    flat = []
    while len(flat) < count:
        row = np.zeros(FIELDS, np.int64)
        row[Field.UNIT], row[Field.SLOT_A] = unit, rng.randint(0, 1)
        into_accumulator = unit == Unit.STORE or rng.random() < 0.6
        format = rng.choice(g.formats if into_accumulator else g.formats[:1])
        width = FORMAT_BITS[format] // 8
        row[MoveField.FORMAT], row[Field.OPCODE] = FORMAT_CODES[format], 2 if into_accumulator else rng.randint(0, 1)
        row[Field.FLAGS] = rng.choice((0, MoveFlag.LOWEST))
        for name in "BHW":
            row[Field[f"COUNT_{name}"]] = rng.randint(1, 3)
        row[[Field.TAPS_H, Field.TAPS_W]] = 1
        _random_lines(rng, row, width, g.beat_bytes)
        if into_accumulator:
            _random_words(rng, row, g, width)
        else:
            _random_columns(rng, row, g, width)
        if _fits(row, g, size, width, rng):
            flat.append(row)
    return np.array(flat), size


def _random_lines(rng, row, width, beat):
    """Coordinates and steps; lines on the grid of beats, or off it with a beat more."""
    elements = rng.randint(1, 14)
    row[Field.LINE_BYTES] = elements * width
    for name in "HW":
        row[Field[f"START_{name}"]], row[Field[f"INC_{name}"]] = rng.randint(-2, 2), rng.choice((0, 1, 1, 2, 3, -1))
        row[Field[f"LIMIT_{name}"]] = rng.randint(1, 5)
        row[Field[f"TAP_{name}"]] = rng.choice((1, 2, -1))
    odd = rng.random() < 0.6
    grid = width if odd else beat
    for name in "BHW":
        row[Field[f"STEP_{name}"]] = rng.randint(0, 12 if odd else 6) * grid
    row[Field.BEATS] = -(-row[Field.LINE_BYTES] // beat) + (odd or rng.random() < 0.2)
    row[Field.OFFSET] = rng.randint(0, 2000 // grid) * grid


def _random_words(rng, row, g, width):
    row[MoveField.EXPONENT] = rng.choice((0, 0, 1, -7, 100, -100, 300, -300, 2000, -2000)) if width < 4 else 0
    if rng.random() < 0.2:
        row[Field.FLAGS] |= MoveFlag.FIXED
    row[MoveField.LINE] = rng.randint(0, 5)
    if row[Field.UNIT] == Unit.STORE and g.skewed and rng.random() < 0.6:
        row[Field.FLAGS] |= rng.choice((MoveFlag.TRANSPOSED, MoveFlag.TRANSPOSED_OUTER))
        row[[MoveField.PLACE, MoveField.PLACE_OUTER]] = rng.randint(0, 9), rng.randint(0, 20)
        return
    aligned = g.skewed or rng.random() < 0.3
    places = (g.cols * rng.randint(0, 3), g.cols * rng.randint(0, 12))
    row[[MoveField.PLACE, MoveField.PLACE_OUTER]] = places if aligned else (rng.randint(0, 20), rng.randint(0, 90))


def _random_columns(rng, row, g, width):
    lines = int(np.prod(row[[Field.COUNT_B, Field.COUNT_H, Field.COUNT_W]]))
    if rng.random() < 0.4:
        row[Field.FLAGS] |= MoveFlag.TAPS_FIRST
    if rng.random() < 0.5:
        row[Field.FLAGS] |= MoveFlag.EXPANDED
        row[[Field.TAPS_H, Field.TAPS_W]] = rng.randint(1, 3), rng.randint(1, 3)
        row[MoveField.TAP_COLUMNS] = row[Field.LINE_BYTES] // width + rng.randint(0, 3)
    row[MoveField.TILE_LINES] = lines + rng.randint(0, 2)
    row[[MoveField.LINE, MoveField.SPAN]] = rng.randint(0, 9), rng.randint(0, 2) * g.bank_lines


def _fits(row, g, size, width, rng):
    """Whether the command stays inside all memories."""
    low, high = 1 << 40, -1
    for b, h, w, th, tw in np.ndindex(*(row[Field[f"COUNT_{n}"]] for n in "BHW"), row[Field.TAPS_H], row[Field.TAPS_W]):
        y = row[Field.START_H] + h * row[Field.INC_H] + th * row[Field.TAP_H]
        x = row[Field.START_W] + w * row[Field.INC_W] + tw * row[Field.TAP_W]
        if 0 <= y < row[Field.LIMIT_H] and 0 <= x < row[Field.LIMIT_W]:
            at = row[Field.OFFSET] + b * row[Field.STEP_B] + y * row[Field.STEP_H] + x * row[Field.STEP_W]
            low, high = min(low, at), max(high, at + row[Field.LINE_BYTES])
    if high >= 0 and not (low >= 0 and high <= size - 64):
        return False
    pixels = int(row[Field.COUNT_H] * row[Field.COUNT_W])
    count = int(row[Field.LINE_BYTES]) // width
    if row[Field.OPCODE] == INTO_ACCUMULATOR:
        if row[Field.FLAGS] & (MoveFlag.TRANSPOSED | MoveFlag.TRANSPOSED_OUTER):
            blocks = (int(row[Field.COUNT_B]) * pixels) // g.cols
            last = row[MoveField.LINE] + blocks * row[MoveField.PLACE_OUTER] + pixels * row[MoveField.PLACE] + count
            return last < g.slot_lines
        words = (row[Field.COUNT_B] - 1) * row[MoveField.PLACE_OUTER] + (pixels - 1) * row[MoveField.PLACE] + count
        return (row[MoveField.LINE] + 2) * g.cols + words < g.slot_lines * g.cols
    columns = (row[Field.TAPS_H] * row[Field.TAPS_W] - 1) * row[MoveField.TAP_COLUMNS] + count
    lines = row[MoveField.LINE] + row[MoveField.SPAN] + -(-columns // g.deep) * row[MoveField.TILE_LINES]
    return lines <= g.banks * g.bank_lines


# ---- claims -----------------------------------------------------------------------------------------------------

MACHINES = {
    "bf16 4x4": {},
    "bf16 3x5": {"rows": 3, "cols": 5, "latency": 6},
    "bf16 6x3": {"rows": 6, "cols": 3, "latency": 7, "lines": 96},
    "int8 4x4": {"format": "int8", "latency": 6},
    "fp8 4x8": {"format": "fp8_e4m3", "cols": 8, "beat": 8, "latency": 13},
    "fp32 4x4": {"format": "fp32", "beat": 8, "latency": 8},
    "fp16 12x12": {"format": "fp16", "rows": 12, "cols": 12, "beat": 16, "latency": 11, "banks": 4},
    "is 4x8": {"flow": "is", "cols": 8, "beat": 8, "latency": 7},
    "is 2x4": {"flow": "is", "rows": 2, "format": "int8", "beat": 4, "cols": 8, "latency": 6},
}


def both(hw, seed, unit, most=14):
    """Commands of a program and commands that no mapping makes, and the bytes of their memory."""
    rng = np.random.default_rng(seed)
    mapped, size = mapped_commands(hw, seed, unit)
    mapped = mapped[np.sort(rng.choice(len(mapped), min(most, len(mapped)), replace=False))]
    made, made_size = random_commands(hw, seed, unit)
    return np.concatenate([mapped, made]), max(size, made_size)


@pytest.mark.parametrize("unit", [Unit.LOAD, Unit.STORE], ids=lambda unit: unit.name.lower())
@pytest.mark.parametrize("name", MACHINES)
def test_loads_and_stores_do_what_the_reference_does_in_the_cycles_of_the_contract(name, unit):
    number = list(MACHINES).index(name)
    hw = machine_of(**MACHINES[name])
    compare(hw, *both(hw, 10 + number, unit), 10 + number, stages=1 + number % 2)


@pytest.mark.long
@pytest.mark.parametrize("unit", [Unit.LOAD, Unit.STORE], ids=lambda unit: unit.name.lower())
@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("seed", range(100, 112))
def test_more_loads_and_stores(name, unit, seed):
    hw = machine_of(**MACHINES[name])
    compare(hw, *both(hw, seed, unit, 40), seed, stages=1 + seed % 2, slack=seed // 2 % 2 * 5)


@pytest.mark.parametrize("unit", [Unit.LOAD, Unit.STORE], ids=lambda unit: unit.name.lower())
@pytest.mark.parametrize("name", ["bf16 3x5", "is 4x8"])
def test_a_memory_that_is_late_or_not_ready_changes_no_value(name, unit):
    hw = machine_of(**MACHINES[name])
    times, _ = compare(hw, *both(hw, 4, unit), 4, slack=6)
    assert all(time.end > time.start for time in times)


def simple_load(lines=3, beats=2, **fields):
    row = np.zeros(FIELDS, np.int64)
    row[[Field.UNIT, Field.OPCODE]] = Unit.LOAD, INTO_ACCUMULATOR
    ones = ("COUNT_B", "COUNT_H", "TAPS_H", "TAPS_W", "INC_H", "INC_W", "LIMIT_H")
    row[[Field[name] for name in ones]] = 1
    row[[Field.COUNT_W, Field.LIMIT_W, Field.STEP_W, Field.LINE_BYTES, Field.BEATS]] = lines, lines, 8, 8, beats
    row[MoveField.PLACE] = 4
    for name, value in fields.items():
        row[MoveField[name] if name in MoveField.__members__ else Field[name]] = value
    return row[None]


def test_requests_leave_one_a_cycle_when_the_walk_has_begun():
    """Three lines of two beats, the second of the lines padding."""
    load = simple_load(INC_W=-1, LIMIT_W=2, START_W=1, OFFSET=64)
    times, dram = compare(machine_of(latency=6), load, 256, 1)
    (time,) = times
    assert [(cycle - time.start, address) for cycle, address in dram.requests] == [(3, 72), (4, 76), (5, 64), (6, 68)]
    assert (time.free - time.start, time.end - time.start) == (6, 12)


def test_a_beat_that_a_line_does_not_need_takes_its_cycle():
    load = simple_load(beats=3)
    times, dram = compare(machine_of(latency=6), load, 256, 1)
    assert len(dram.requests) == 6
    assert times[0].end - times[0].start == 9 + 6


@pytest.mark.parametrize("exponent", [2000, -2000, 512, -513, 1 << 20])
def test_an_exponent_beyond_all_numbers_makes_infinities_or_zeros(exponent):
    compare(machine_of(), simple_load(FORMAT=FORMAT_CODES["bf16"], EXPONENT=exponent), 256, 1)


@pytest.mark.parametrize("code", [0, 4])
def test_a_line_that_fills_accumulator_lines_clears_none(code):
    """Four words, and eight."""
    for size in (4, 8):
        fields = {"FORMAT": code, "LINE_BYTES": size * (2 if code else 4), "BEATS": 8, "STEP_W": 32, "PLACE": 8}
        compare(machine_of(), simple_load(**fields), 256, 1)


@pytest.mark.parametrize("stages", [0, 3])
def test_a_load_without_a_register_is_refused(stages):
    with pytest.raises(HwsimError, match=f"1 or 2 registers between data and memories, not {stages}"):
        Load(Geometry.of(machine_of()), stages)


def test_the_last_write_is_not_there_a_cycle_early():
    """The sum of a word is exact from both sides: missing before the end, there at it."""
    hw = machine_of(latency=6)
    g, flat = Geometry.of(hw), simple_load(lines=1)
    boxes, _ = prepared(g, flat)
    unit = Load(g)
    bench = Bench(g, unit)
    seen = []

    async def work(ctx):
        ctx.set(unit.request.ready, 1)
        ctx.set(unit.box.as_value(), boxes[0])
        ctx.set(unit.data.payload.as_value(), 0x11223344)
        for cycle in range(10):
            ctx.set(unit.start, cycle == 0)
            ctx.set(unit.data.valid, cycle >= 5)
            seen.append(ctx.get(bench.accumulator.memories[0, 0, 1].data[0]))
            await ctx.tick()

    simulate(bench, work)
    assert seen == [0] * 8 + [0x11223344] * 2


@pytest.mark.parametrize(("multipliers", "cycles"), [(1, 10), (2, 7), (8, 4)])
def test_preparing_takes_as_many_cycles_as_the_multipliers_leave(multipliers, cycles):
    """Six products of steps, one of tap lines; three registers."""
    _, times = prepared(Geometry.of(machine_of()), np.concatenate([simple_load()] * 3), multipliers)
    assert times == [cycles] * 3


@pytest.mark.parametrize("cols", [3, 5, 8, 12])
def test_words_become_lines_and_lanes_exactly(cols):
    """Multiples of C and their neighbours; the largest number of words of half an accumulator."""
    g = Geometry.of(machine_of(cols=cols, lines=4096))
    words = [0, 1, cols - 1, cols, cols + 1, 7 * cols - 1, 7 * cols, 1000 * cols, 4096 * cols - 1]
    flat = np.concatenate([simple_load(PLACE=n, PLACE_OUTER=n) for n in words])
    boxes = [g.box.from_bits(box) for box in prepared(g, flat, 2)[0]]
    for name in ("by_pixel", "by_image"):
        assert [(box[name].line, box[name].lane) for box in boxes] == [divmod(n, cols) for n in words]


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_lanes_are_added_modulo_their_number(size):
    m, lane, step, total, passed = Module(), Signal(4), Signal(4), Signal(4), Signal()
    found = add_modulo(lane, step, size)
    m.d.comb += [total.eq(found[0]), passed.eq(found[1])]

    async def bench(ctx):
        for a, b in np.ndindex(size, size + 1):  # a step may be as long as a line
            ctx.set(lane, a)
            ctx.set(step, b)
            assert (ctx.get(passed), ctx.get(total)) == divmod(a + b, size)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"beat": 8, "channels": 2}, "the RTL has one memory channel, and dram.channels is 2; describe it with 1"),
        (
            {"beat": 16},
            "a beat may fill an accumulator line, 4 words, and one of 16 bytes holds 8; make dram.bytes_per_cycle "
            "smaller or array.cols larger",
        ),
        (
            {"beat": 8, "flow": "is"},
            "a beat may fill half an accumulator line (input-stationary), 2 words, and one of 8 bytes holds 4; make "
            "dram.bytes_per_cycle smaller or array.cols larger",
        ),
        ({"beat": 2}, "a beat must hold an element of 4 bytes and has 2; make dram.bytes_per_cycle at least 4"),
        (
            {"latency": 5},
            "dram.latency_cycles must be at least 6 cycles for the RTL, 5 of them for its registers, not 5",
        ),
        (
            {"cols": 6, "flow": "is"},
            "input-stationary RTL must have a power of two of array.cols, not 6; choose another dataflow",
        ),
        (
            {"bank_lines": 24},
            "a scratchpad bank must have a power of two of lines, not 24; change scratchpad.capacity_bytes or "
            "scratchpad.banks",
        ),
    ],
)
def test_what_has_no_hardware_is_refused(changed, message):
    with pytest.raises(HwsimError, match=f"^edge-8x8-bf16: {re.escape(message)}$"):
        Geometry.of(machine_of(**changed))


# ---- memories ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "cols"), [(4, 4), (3, 5)])
def test_a_row_or_a_column_is_read_in_a_cycle_while_a_beat_is_written(rows, cols):
    """Tiles of A in banks 0 and 1, of B in banks 2 and 3; the other slot of A is written."""
    g = Geometry.of(machine_of(rows, cols, banks=4, bank_lines=16))
    pad, rng = Scratchpad(g), random.Random(5)
    deep, lines = g.deep, 7  # of a tile, in two blocks of columns
    content = {name: [[rng.getrandbits(16) for _ in range(2 * deep)] for _ in range(lines)] for name in "ab"}
    first = {"a": 0, "b": 2 * g.bank_lines}

    def place(name, line, column):
        return {"line": first[name] + line + column // deep * lines, "lane": column % deep}

    async def work(ctx):
        for name, tile in content.items():
            for line, elements in enumerate(tile):
                for column in range(2 * deep):
                    where = place(name, line, column)
                    memory = pad.memories[where["line"] // (2 * g.bank_lines)][(line + column) % deep]
                    ctx.set(memory.data[where["line"] % (2 * g.bank_lines)], elements[column])
        expected = {name: deque() for name in "ab"}
        for cycle in range(120):
            for name, found in expected.items():
                if len(found) == pad.READ_CYCLES:
                    assert list(ctx.get(getattr(pad, f"data_{name}"))) == found.popleft()
            for name in "ab":
                port, by_lane = getattr(pad, f"read_{name}"), rng.random() < 0.5
                line = rng.randint(0, lines - deep) if by_lane else rng.randrange(lines)
                column = rng.randrange(2 * deep if by_lane else deep + 1)
                ctx.set(port.valid, 1)
                where = {"place": place(name, line, column), "row": line % deep, "wrap": lines}
                ctx.set(port.payload, {**where, "by_lane": by_lane})
                tile = content[name]
                expected[name].append(
                    [tile[line + i][column] if by_lane else tile[line][column + i] for i in range(deep)]
                )
            ctx.set(pad.write.valid, cycle % 2)
            spare = {"line": 3 * g.bank_lines, "lane": cycle % deep}
            beat = {"enable": 3, "elements": [cycle, cycle + 1]}
            ctx.set(pad.write.payload, {"place": spare, "row": 0, "wrap": 1, **beat})
            assert not ctx.get(pad.conflict)
            await ctx.tick()
        ctx.set(pad.write.valid, 1)
        ctx.set(pad.write.payload, {"place": place("b", 0, 0), "row": 0, "wrap": 1, "enable": 1, "elements": [0, 0]})
        ctx.set(pad.read_b.payload, {"place": place("b", 0, 0), "row": 0, "wrap": lines, "by_lane": 0})
        await ctx.tick().repeat(2)
        assert ctx.get(pad.conflict)

    simulate(pad, work)


@pytest.mark.parametrize(("flow", "beta"), [("ws", 1), ("ws", 3), ("is", 2)])
def test_the_accumulator_serves_the_array_and_the_vector_unit_and_moves_at_once(flow, beta):
    """The array adds to half 0, the vector unit works on half 1 with fixed lines or the store reads there, and loads
    write fixed lines.
    """
    g = Geometry.of(machine_of(cols=4, flow=flow, beat=4, lines=16))
    unit, rng, cols = Accumulator(g, beta), random.Random(beta), g.cols
    words = np.array([rng.getrandbits(32) for _ in range(3 * 16 * cols)], np.uint32).reshape(3, 16, cols)
    due, results, expected = [deque() for _ in range(cols)], [deque([None] * (beta - 1)) for _ in range(cols)], {}
    stored, loaded = deque(), (0, [0, 0])

    async def work(ctx):
        nonlocal loaded
        banks = turned(words, 1) if g.skewed else words
        for (memory, _, bank), cells in unit.memories.items():
            for line in range(16):
                ctx.set(cells.data[line], int(banks[memory, line, bank]))
        after = words.copy()
        for cycle in range(150):
            for lane in range(cols):
                result = None
                if ctx.get(unit.due) >> lane & 1:
                    line, value, adds = due[lane].popleft()
                    old = ctx.get(unit.old[lane])
                    assert bool(ctx.get(unit.replaces) >> lane & 1) != adds
                    assert not adds or old == words[0, line, lane]
                    words[0, line, lane] = result = (old * adds + value) & 0xFFFFFFFF
                results[lane].append(result)
                ctx.set(unit.new[lane], results[lane].popleft() or 0)
            for port, found in expected.items():
                values = list(ctx.get(getattr(unit, port)))
                assert values[: len(found)] == found, (cycle, port)
            if len(stored) == unit.STORE_CYCLES:
                values = list(ctx.get(unit.stored))
                assert stored.popleft() in (None, values), cycle
            words[1:] = after[1:]
            expected.clear()
            sums = rng.random() < 0.8 and cycle < 130
            ctx.set(unit.sums.valid, sums)
            if sums:  # a line comes again after more than β cycles
                access = {"half": 0, "line": cycle % 8, "adds": rng.random() < 0.7}
                ctx.set(unit.sums.payload, access)
                for lane in range(cols):
                    due[lane].append((access["line"], rng.getrandbits(32), access["adds"]))
            vector = rng.random() < 0.6
            for i in range(3):
                ctx.set(getattr(unit, f"vector_{i}").valid, vector)
                fixed, line = int(rng.random() < 0.5), rng.randrange(16)
                ctx.set(getattr(unit, f"vector_{i}").payload, {"half": 1, "fixed": fixed, "line": line})
                if vector:
                    expected[f"line_{i}"] = words[2 if fixed else 1, line].tolist()
            ctx.set(unit.vector.valid, vector)
            line, enable, result = rng.randrange(16), rng.getrandbits(cols), [rng.getrandbits(32) for _ in range(cols)]
            ctx.set(unit.vector.payload, {"half": 1, "fixed": 0, "line": line, "enable": enable, "words": result})
            for lane in range(cols):
                if vector and enable >> lane & 1:
                    after[1, line, lane] = result[lane]
            ctx.set(unit.store.valid, not vector)
            at = rng.randrange(14 * cols)
            place = {"line": at // cols, "lane": at % cols}
            transposed = g.skewed and rng.random() < 0.5
            ctx.set(unit.store.payload, {"half": 1, "fixed": 0, "place": place, "transposed": transposed})
            step = cols if transposed else 1
            found = [int(words[1].ravel()[at + i * step]) for i in range(g.most_words)]
            stored.append(None if vector else found)
            ctx.set(unit.load.valid, 1)
            at, pair = rng.randrange(14 * cols), [rng.getrandbits(32), rng.getrandbits(32)]
            place = {"line": at // cols, "lane": at % cols}
            where = {"half": 0, "fixed": 1, "place": place, "enable": 3, "fill": 0}
            before = [loaded[1][(i - loaded[0] % cols * g.turned) % 2] for i in range(2)]  # of the cycle before
            ctx.set(unit.load.payload, {**where, "words": before})
            if cycle:
                after[2].ravel()[loaded[0] : loaded[0] + 2] = loaded[1]
            loaded = at, pair
            assert not ctx.get(unit.conflict)
            await ctx.tick()
        found = np.zeros_like(words)
        for memory, line, bank in np.ndindex(*found.shape):
            found[memory, line, bank] = ctx.get(unit.memories[memory, 0, bank].data[line])
        words[1:] = after[1:]
        np.testing.assert_array_equal(turned(found, -1) if g.skewed else found, words)

    simulate(unit, work)


# ---- which accesses meet in the accumulator ---------------------------------------------------------------------

FIXED = 2
READERS_OF_B = {
    VectorOp[name]
    for name in (
        "ADD_BIAS", "ADD", "SUBTRACT", "MULTIPLY", "MULTIPLY_ADD", "MAXIMUM", "SELECT", "SELECT_EQUAL",
        "SELECT_LABEL", "SUBTRACT_LABEL", "MULTIPLY_SUM_LINES",
    )
}  # fmt: skip
READERS_OF_C = {VectorOp.MULTIPLY_ADD, VectorOp.SELECT_EQUAL}
SUMMING = {VectorOp.SUM_LINES, VectorOp.MULTIPLY_SUM_LINES}


def accesses(row, start, end, latency):
    """(first cycle, cycle after the last, who, memory, reads, writes) of a command."""
    unit, flags, half = row[Field.UNIT], row[Field.FLAGS], int(row[Field.SLOT_A])
    memory = FIXED if flags & MoveFlag.FIXED else half
    if unit == Unit.LOAD and row[Field.OPCODE] == INTO_ACCUMULATOR:
        yield start + latency, end, "load", memory, 0, 1
    elif unit == Unit.STORE:
        yield start + WALK_CYCLES, start + row[Field.OCCUPANCY] + WALK_CYCLES, "store", memory, 1, 0
    elif unit == Unit.MATRIX:
        yield start + HAND_OVER_CYCLES, end, "array", int(row[Field.SLOT_C]), 1, 1
    elif unit == Unit.VECTOR:
        op = VectorOp(row[Field.OPCODE])
        by_line = flags >> 4 & 7 != BMode.SCALAR
        reads = (op in SUMMING, op != VectorOp.SET, op in READERS_OF_B and by_line, op in READERS_OF_C)
        for operand, read in enumerate(reads):
            memory = FIXED if flags >> operand & 1 else half
            yield start + HAND_OVER_CYCLES, end, f"vector {'DABC'[operand]}", memory, int(read), int(operand == 0)


def meetings(program, hw):
    """All sets of accesses that one of the three memories has in a cycle: (who, reads, writes) each."""
    flat = program.expand()
    times = command_times(np.ascontiguousarray(flat[:, :6]), hw.control.queue_depth, dispatch_cycles(hw))
    events = []
    for row, (start, end, _) in zip(flat, times.tolist(), strict=True):
        for first, last, who, memory, reads, writes in accesses(row, start, end, hw.dram.latency_cycles):
            if last > first and (reads or writes):
                events += [(first, 1, (memory, who, reads, writes)), (last, -1, (memory, who, reads, writes))]
    live, found = [], set()
    for _, change, access in sorted(events, key=lambda event: event[:2]):
        live.append(access) if change > 0 else live.remove(access)
        for memory in range(3):
            found.add(frozenset(tuple(rest) for at, *rest in live if at == memory))
    return found


@pytest.mark.parametrize("flow", ["ws", "os", "is"])
@pytest.mark.parametrize("latency", [4, 60])
def test_a_memory_of_the_accumulator_needs_three_reads_and_one_write_but_for_a_bias(flow, latency):
    """docs/rtl-dma.md, section 4: the one exception is a bias that is loaded while `RESCALE` writes."""
    hw = machine_of(8, 8, beat=8, latency=latency, flow=flow, lines=64, banks=16, bank_lines=64)
    graph = training_graph(build("digits-cnn", 2), "adam", master_weights=True)
    seen = set()
    for op in {plan_key(op, graph): op for op in graph.ops}.values():
        for program in plan_op(op, graph, hw).segments:
            if program.commands <= 1500:
                seen |= meetings(program, hw)
    for met in seen:
        who = {name for name, _, _ in met}
        assert sum(reads for _, reads, _ in met) <= 3, met
        assert sum(writes for _, _, writes in met) <= 1 or who == {"load", "vector A", "vector D"}, met
        assert "array" not in who or len(who) == 1, met
        assert "store" not in who or who <= {"store", "load"}, met
    assert any(sum(reads for _, reads, _ in met) == 3 for met in seen)
