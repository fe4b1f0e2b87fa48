"""Does the matrix unit do in hardware what `hwsim.values` says, bit for bit, in the cycles of the cycle contract?

Matrix commands of random small layers, and random ones that no mapping makes, run back to back on the unit with the
scratchpad and the accumulator in Amaranth's simulator, and one by one on `hwsim.values.machine.Core`.
"""

import random
import subprocess
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, load_accelerator
from hwsim.hardware.formats import FORMAT_BITS, array_formats
from hwsim.mapping.layout import dispatch_cycles
from hwsim.numerics import from_format
from hwsim.program import FIELDS, FORMAT_CODES, ArrayField, Field, MatrixFlag, Unit, encode
from hwsim.values.machine import Core, Machine
from hwsim.workload import Network, training_graph
from hwsim_rtl.arithmetic import Multiplier
from hwsim_rtl.arithmetic.floats import FP8_OPERAND
from hwsim_rtl.dma import Geometry
from hwsim_rtl.matrix import MatrixPrepare, MatrixUnit
from hwsim_rtl.matrix.operands import Fp8Operand
from hwsim_rtl.memory import Accumulator, Scratchpad
from hwsim_rtl.tools import find_verilator
from hwsim_rtl.verilog import emit


def _beside(file, name):
    """A module in this folder, which is none of a package."""
    spec = spec_from_file_location(name, Path(__file__).with_name(file))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


vectors = _beside("vectors.py", "rtl_vectors")
WAIVED = _beside("test_verilog.py", "rtl_verilog").WAIVED
FLOWS = ("ws", "is", "os")
WS, IS, OS = range(3)


def up(a, b):
    return -(-a // b)


def machine_of(rows=4, cols=4, format="bf16", flow="ws", alpha=1, mu=0, beta=2, lines=64, banks=8, bank_lines=32):
    """A small machine; `lines` of half the accumulator."""
    hw = load_accelerator("edge-8x8-bf16").model_dump()
    deep = max(rows, cols)
    hw["array"] |= {
        "rows": rows, "cols": cols, "operand_format": format, "dataflow": flow, "add_latency_cycles": alpha,
        "multiply_latency_cycles": mu,
    }  # fmt: skip
    hw["scratchpad"] = {"capacity_bytes": banks * bank_lines * deep * FORMAT_BITS[format] // 8, "banks": banks}
    hw["accumulator"] = {"capacity_bytes": 2 * 4 * cols * lines, "add_latency_cycles": beta}
    hw["vector"]["lanes"] = cols
    bytes_per_cycle = max(4, min(8, cols // 2 if flow == "is" else cols) * FORMAT_BITS[format] // 8)
    hw["dram"] |= {"bytes_per_cycle": 1 << bytes_per_cycle.bit_length() - 1, "latency_cycles": 20}
    return Accelerator.model_validate(hw)


# ---- commands ---------------------------------------------------------------------------------------------------


def sizes(row):
    """Pixels, taps, channels, outputs of a command."""
    pixels = int(np.prod(row[[Field.COUNT_B, Field.COUNT_H, Field.COUNT_W]]))
    return pixels, int(row[Field.TAPS_H] * row[Field.TAPS_W]), int(row[Field.CHANNELS]), int(row[Field.OUTPUTS])


def patch_lines(row):
    height, width = (
        (row[Field[f"COUNT_{axis}"]] - 1) * row[Field[f"INC_{axis}"]]
        + (row[Field[f"TAPS_{axis}"]] - 1) * abs(row[Field[f"TAP_{axis}"]])
        + 1
        for axis in "HW"
    )
    return int(row[Field.COUNT_B] * height * width)


def tiles(row):
    """Lines and columns of both operands' tiles (docs/contracts/program.md, section 3)."""
    pixels, taps, channels, outputs = sizes(row)
    flags = row[Field.FLAGS]
    if flags & MatrixFlag.X_BY_K:
        x = channels, pixels
    elif flags & MatrixFlag.EXPANDED:
        x = pixels, taps * channels
    else:
        x = patch_lines(row), channels
    if flags & MatrixFlag.WGRAD:
        return (pixels, outputs), x
    return x, ((taps * channels, outputs) if flags & MatrixFlag.W_BY_K else (taps * outputs, channels))


def time_of(row, hw):
    """Folds, interval, stream, occupancy and tail of docs/contracts/cycles.md, section 2."""
    (p, t, c, n), flags, a = sizes(row), row[Field.FLAGS], hw.array
    r, cols, alpha, mu, beta = a.rows, a.cols, a.add_latency_cycles, a.multiply_latency_cycles, (
        hw.accumulator.add_latency_cycles
    )  # fmt: skip
    expanded, flow = flags & MatrixFlag.EXPANDED, row[Field.OPCODE]
    across = expanded and (flow != IS or flags & MatrixFlag.W_BY_K)
    kf = up(t * c, r) if across else t * up(c, r)
    cf = up(t * c, cols) if expanded else t * up(c, cols)
    if flags & MatrixFlag.WGRAD:
        folds, stream = {
            WS: (up(p, r) * cf, n), IS: (up(p, r) * up(n, cols), t * c), OS: (up(n, r) * cf, p)
        }[flow]  # fmt: skip
        k = p
    else:
        folds, stream = {
            WS: (kf * up(n, cols), p), IS: (kf * up(p, cols), n), OS: (up(p, r) * up(n, cols), t * c)
        }[flow]  # fmt: skip
        k = t * c if across else c
    if flow == OS:
        interval = max(stream, alpha * max(r, beta))
        reach, tail = interval + 4, mu + alpha + r - 1 + cols - 1 + alpha * max(r, beta) + beta
    else:
        interval = max(stream, min(r, k), (r - 1) * (alpha - 1), beta)
        reach, tail = 5 + stream, mu + alpha * r + cols - 1 + beta
    return folds, interval, stream, folds * interval, reach + tail - interval


def sum_lines(row, hw):
    """Lines of the accumulator that a command's sums take."""
    (p, t, c, n), flags, cols = sizes(row), row[Field.FLAGS], hw.array.cols
    m, across = (n, t * c) if flags & MatrixFlag.WGRAD else (p, n)
    if row[Field.OPCODE] == IS:
        return up(m, cols) * across
    if flags & MatrixFlag.WGRAD and not flags & MatrixFlag.EXPANDED:
        return m * t * up(c, cols)
    return m * up(across, cols)


def random_layer(rng, hw):
    """A small convolution or linear layer with its gradients."""
    net = Network("tiny", batch=rng.randint(1, 4))
    if rng.random() < 0.4:
        value = net.input((rng.randint(1, 13),)).linear(rng.randint(1, 11), bias=False, name="fc")
    else:
        kernel = rng.randint(1, 3), rng.randint(1, 3)
        value = net.input((rng.randint(3, 6), rng.randint(3, 6), rng.randint(1, 9)))
        value = value.conv2d(
            rng.randint(1, 9), kernel, stride=rng.randint(1, 2), padding=(kernel[0] // 2, kernel[1] // 2),
            dilation=rng.choice((1, 1, 2)), bias=False, name="conv",
        )  # fmt: skip
        value = value.flatten(name="flat").linear(2, name="fc")
    graph = value.mean_squared_error(name="loss")
    return training_graph(graph, "sgd", master_weights=hw.array.operand_format != "fp32")


def mapped_commands(hw, seed):
    """Matrix commands of the programs of a random layer."""
    rng, machine = random.Random(seed), None
    while machine is None:
        try:
            machine = Machine(random_layer(rng, hw), hw)
        except HwsimError as error:
            assert "must fit" in str(error) or "kernel" in str(error)  # noqa: PT017
    flat = np.concatenate([machine._linked[op.name].flat for op in machine.graph.ops])
    return flat[flat[:, Field.UNIT] == Unit.MATRIX]


def random_command(rng, hw, most_lines):
    """A legal command that mappings need not make."""
    flow = FLOWS.index(hw.array.dataflow)
    while True:
        row = np.zeros(FIELDS, np.int64)
        row[[Field.UNIT, Field.OPCODE]] = Unit.MATRIX, flow
        for axis in "HW":
            row[Field[f"COUNT_{axis}"]], row[Field[f"TAPS_{axis}"]] = rng.randint(1, 4), rng.randint(1, 3)
            row[Field[f"INC_{axis}"]], row[Field[f"TAP_{axis}"]] = rng.randint(1, 3), rng.choice((1, 2, -1, -2))
        row[[Field.COUNT_B, Field.CHANNELS, Field.OUTPUTS]] = (
            rng.randint(1, 3), rng.randint(1, 2 * hw.array.rows + 1), rng.randint(1, 2 * hw.array.cols + 1),
        )  # fmt: skip
        if rng.random() < 0.3:
            ones = ("TAPS_H", "TAPS_W", "INC_H", "INC_W")
            row[[Field[name] for name in ones]] = 1
        _, taps, _, _ = sizes(row)
        dense = taps == 1 and row[Field.INC_H] == row[Field.INC_W] == 1
        wgrad = rng.random() < 0.5
        by_column = flow == IS if wgrad else flow != WS
        flags = rng.choice((0, MatrixFlag.ADDS)) | (MatrixFlag.WGRAD if wgrad else rng.choice((0, MatrixFlag.W_BY_K)))
        if dense and not wgrad and rng.random() < 0.5:
            flags |= MatrixFlag.X_BY_K
        elif not dense and (by_column or rng.random() < 0.5):
            flags |= MatrixFlag.EXPANDED
        row[Field.FLAGS] = flags
        row[[Field.FOLDS, Field.INTERVAL, Field.STREAM, Field.OCCUPANCY, Field.TAIL]] = time_of(row, hw)
        row[Field.LINES] = sum_lines(row, hw)
        tile_lines = sum(lines * up(columns, hw.line_elements) for lines, columns in tiles(row))
        if row[Field.LINES] <= hw.accumulator_slot_lines and tile_lines <= most_lines:
            (row[ArrayField.A_LINES], _), (row[ArrayField.B_LINES], _) = tiles(row)
            formats = array_formats(hw.array.operand_format)
            row[ArrayField.A_FORMAT], row[ArrayField.B_FORMAT] = (FORMAT_CODES[rng.choice(formats)] for _ in "AB")
            row[[Field.SLOT_C, Field.POST]] = rng.randint(0, 1), rng.getrandbits(10)
            return row


def placed(rng, hw, commands):
    """Give each command's tiles banks of their own, as many commands as there are banks for; slots, spans are any."""
    bank, row_bank, found = hw.scratchpad_bank_lines, 0, []
    for given in commands:
        row = given.copy()
        for name, (lines, columns) in zip("AB", tiles(row), strict=True):
            assert row[ArrayField[f"{name}_LINES"]] == lines
            first = row_bank * bank
            slot = int(rng.random() < 0.5 and row_bank > 0)
            span = rng.randint(1, row_bank) * bank if slot else rng.randint(0, 9) * bank
            row[[Field[f"SLOT_{name}"], ArrayField[f"{name}_LINE"], ArrayField[f"{name}_SPAN"]]] = (
                slot, first - slot * span, span,
            )  # fmt: skip
            row_bank += up(lines * up(columns, hw.line_elements), bank)
        if row_bank > hw.scratchpad.banks:
            break
        found.append(row)
    return np.array(found)


# ---- both machines ----------------------------------------------------------------------------------------------


def operand_bits(rng, format, count):
    """Elements, most of them near one, some special."""
    width = FORMAT_BITS[format]
    anything = rng.integers(0, 1 << width, count, np.uint64)
    if format == "int8":
        return anything
    if format.startswith("fp8"):
        return np.where(rng.random(count) < 0.02, anything, anything & 0xBF)  # few are infinite or NaN
    exponent, mantissa = {"bf16": (8, 7), "fp16": (5, 10), "fp32": (8, 23)}[format]
    bias = (1 << exponent - 1) - 1
    near = (
        rng.integers(0, 2, count) << width - 1
        | rng.integers(bias - 6, bias + 3, count) << mantissa
        | rng.integers(0, 1 << mantissa, count)
    )
    return np.where(rng.random(count) < 0.02, anything, near.astype(np.uint64))


class Bench(Elaboratable):
    """The unit with its memories, connected as in a machine."""

    def __init__(self, hw):
        g = Geometry.of(hw)
        self.unit, self.scratchpad = MatrixUnit(hw), Scratchpad(g)
        self.accumulator = Accumulator(g, hw.accumulator.add_latency_cycles)

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit, m.submodules.scratchpad, m.submodules.accumulator = unit, scratchpad, accumulator = (
            self.unit, self.scratchpad, self.accumulator,
        )  # fmt: skip
        for side in "ab":
            connect(m, getattr(unit, f"read_{side}"), getattr(scratchpad, f"read_{side}"))
            m.d.comb += getattr(unit, f"data_{side}").eq(getattr(scratchpad, f"data_{side}"))
        connect(m, unit.sums, accumulator.sums)
        m.d.comb += [getattr(unit, name).eq(getattr(accumulator, name)) for name in ("old", "due", "replaces")]
        m.d.comb += accumulator.new.eq(unit.new)
        return m


def simulate(design, bench):
    simulator = Simulator(design)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def prepared(hw, flat, multipliers=1):
    """Commands as the queue keeps them, as bits."""
    unit, found = MatrixPrepare(hw, multipliers), []

    async def bench(ctx):
        for words in encode(flat).tolist():
            ctx.set(unit.words, words)
            ctx.set(unit.valid, 1)
            for _ in range(unit.cycles):
                assert not ctx.get(unit.done)
                await ctx.tick()
            assert ctx.get(unit.done)
            found.append(ctx.get(unit.prepared.as_value()))
            ctx.set(unit.taken, 1)
            await ctx.tick()
            ctx.set(unit.taken, 0)

    simulate(unit, bench)
    return found


@dataclass
class Times:
    """Cycles of a command: its start, the first in which the next may start, its end, what it posts then."""

    start: int
    free: int
    end: int = -1
    post: int = -1


def lay_out(hw, flat, logical, rng):
    """Put tiles where they lie in the sub-banks: (line l of the tile, lane) in sub-bank (l + lane) mod D."""
    g = Geometry.of(hw)
    physical = rng.integers(0, 1 << g.operand_bits, logical.shape, np.uint64)
    for row in flat:
        for name, (lines, columns) in zip("AB", tiles(row), strict=True):
            first = row[ArrayField[f"{name}_LINE"]] + row[Field[f"SLOT_{name}"]] * row[ArrayField[f"{name}_SPAN"]]
            for line in range(lines):
                for column in range(columns):
                    at = first + column // g.deep * lines + line
                    physical[at, (line + column) % g.deep] = logical[at, column % g.deep]
    return physical.reshape(g.banks, g.bank_lines, g.deep)


def turned(words, by):
    """Lanes to banks, where a line is turned by its number, or back."""
    return np.stack([np.roll(words[:, i], by * i, axis=-1) for i in range(words.shape[1])], axis=1)


def run(hw, flat, scratch, accumulator, gap, multipliers=1):
    """Run commands, each as soon as the unit is free and `gap` cycles have passed; gives times and the accumulator."""
    g, bench = Geometry.of(hw), Bench(hw)
    unit, commands, times = bench.unit, prepared(hw, flat, multipliers), []
    words = turned(accumulator, 1) if g.skewed else accumulator
    for pair, memories in enumerate(bench.scratchpad.memories):
        for s, memory in enumerate(memories):
            memory.data.init = scratch[2 * pair : 2 * pair + 2, :, s].reshape(-1).tolist()
    for (memory, _, lane), bank in bench.accumulator.memories.items():
        bank.data.init = words[memory, :, lane].tolist() if memory < 2 else [0] * g.slot_lines
    found = np.zeros_like(accumulator)

    async def work(ctx):
        cycle, wait, ended = 0, 3, 0
        while ended < len(commands):
            assert cycle < 50_000, "it hangs"
            ready = ctx.get(unit.port.command.ready)
            if times:
                assert ready == (cycle >= times[-1].free)
            starts = ready and len(times) < len(commands) and wait == 0
            ctx.set(unit.port.command.valid, starts)
            # Without a start, what lies at the input must not matter.
            garbage = random.Random(cycle).getrandbits(unit.layout.size)
            ctx.set(unit.port.command.payload.as_value(), commands[len(times)] if starts else garbage)
            assert ctx.get(unit.port.idle) == all(t.end >= 0 for t in times)
            if starts:
                times.append(Times(cycle, cycle + int(flat[len(times), Field.OCCUPANCY])))
                wait = gap()
            elif ready:
                wait = max(0, wait - 1)
            post = ctx.get(unit.port.post)
            if ctx.get(unit.port.ended):
                times[ended].end, times[ended].post = cycle + 1, post
                ended += 1
            else:
                assert post == 0
            assert not ctx.get(bench.scratchpad.conflict)
            assert not ctx.get(bench.accumulator.conflict)
            await ctx.tick()
            cycle += 1
        for (memory, copy, lane), bank in bench.accumulator.memories.items():
            if memory < 2:
                stored = [ctx.get(bank.data[line]) for line in range(g.slot_lines)]
                assert copy == 0 or stored == found[memory, :, lane].tolist()
                found[memory, :, lane] = stored

    simulate(bench, work)
    return times, turned(found, -1) if g.skewed else found


def compare(hw, flat, seed, *, gaps=False, multipliers=1):
    """Run commands on both; every word and every time must agree."""
    rng, g = np.random.default_rng(seed), Geometry.of(hw)
    core = Core(hw, 4, 1)
    core.scratchpad[:] = operand_bits(rng, hw.array.operand_format, core.scratchpad.size)
    words = operand_bits(rng, "fp32", core.accumulator.size).astype(np.uint32)
    core.accumulator[:] = words
    scratch = lay_out(hw, flat, core.scratchpad.reshape(-1, g.deep).astype(np.uint64), rng)
    wait = random.Random(seed)
    times, found = run(
        hw, flat, scratch, words.reshape(2, -1, g.cols), (lambda: wait.randint(0, 5)) if gaps else lambda: 0,
        multipliers,
    )  # fmt: skip
    core.execute(flat, np.arange(len(flat)))
    for i, (time, row) in enumerate(zip(times, flat, strict=True)):
        assert time.end == time.start + row[Field.OCCUPANCY] + row[Field.TAIL]
        assert time.post == row[Field.POST]
        assert gaps or i == 0 or time.start == times[i - 1].free
    np.testing.assert_array_equal(found, core.accumulator.reshape(2, -1, g.cols))


# ---- claims -----------------------------------------------------------------------------------------------------

MACHINES = {
    "ws 4x4 int8": {"format": "int8", "beta": 1},
    "ws 3x5 bf16": {"rows": 3, "cols": 5, "alpha": 2, "mu": 1, "beta": 3},
    "ws 2x3 fp16": {"rows": 2, "cols": 3, "format": "fp16", "beta": 6},
    "ws 8x4 fp32": {"rows": 8, "format": "fp32", "alpha": 4, "mu": 2, "beta": 2},
    "is 4x8 int8": {"flow": "is", "cols": 8, "format": "int8", "beta": 1},
    "is 2x8 bf16": {"flow": "is", "rows": 2, "cols": 8, "alpha": 3, "mu": 1, "beta": 4},
    "is 8x4 fp16": {"flow": "is", "rows": 8, "format": "fp16", "beta": 2},
    "ws 4x5 fp8": {"cols": 5, "format": "fp8_e4m3", "mu": 1, "beta": 3},
    "os 2x4 fp8": {"flow": "os", "rows": 2, "format": "fp8_e5m2", "alpha": 2, "beta": 2},
    "os 4x4 int8": {"flow": "os", "format": "int8", "beta": 1},
    "os 3x5 bf16": {"flow": "os", "rows": 3, "cols": 5, "alpha": 3, "mu": 1, "beta": 5},
    "os 4x2 fp32": {"flow": "os", "cols": 2, "format": "fp32", "alpha": 4, "mu": 2, "beta": 2},
}


def both(hw, seed, made=6):
    """Commands of a layer, and commands that no mapping makes, on the machine's banks."""
    rng = random.Random(seed)
    mapped = list(mapped_commands(hw, seed))
    most = hw.scratchpad.banks * hw.scratchpad_bank_lines // 8
    random_ones = [random_command(rng, hw, most) for _ in range(made)]
    commands = [*rng.sample(mapped, min(len(mapped), made)), *random_ones]
    rng.shuffle(commands)
    return commands


def larger(hw):
    """The machine with scratchpad for several commands' tiles."""
    scratchpad = {"banks": 16, "capacity_bytes": hw.scratchpad.capacity_bytes * 16 // hw.scratchpad.banks}
    return Accelerator.model_validate(hw.model_dump() | {"scratchpad": scratchpad})


@pytest.mark.parametrize("name", MACHINES)
def test_commands_do_what_the_reference_does_in_the_cycles_of_the_contract(name):
    seed = list(MACHINES).index(name)
    hw = machine_of(**MACHINES[name])
    flat = placed(random.Random(seed), larger(hw), both(hw, seed))
    compare(larger(hw), flat, seed, gaps=seed % 3 == 1)


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("seed", range(100, 106))
def test_more_commands(name, seed):
    hw = machine_of(**MACHINES[name])
    flat = placed(random.Random(seed), larger(hw), both(hw, seed, 20))
    compare(larger(hw), flat, seed, gaps=seed % 3 == 1, multipliers=1 + seed % 4)


def linear(hw, pixels, channels, outputs, flags=0):
    """A pixel form with one tap and unit strides, alone."""
    row = np.zeros(FIELDS, np.int64)
    row[[Field.UNIT, Field.OPCODE]] = Unit.MATRIX, FLOWS.index(hw.array.dataflow)
    ones = ("COUNT_B", "COUNT_H", "TAPS_H", "TAPS_W", "INC_H", "INC_W", "TAP_H", "TAP_W")
    row[[Field[name] for name in ones]] = 1
    row[[Field.COUNT_W, Field.CHANNELS, Field.OUTPUTS, Field.FLAGS]] = pixels, channels, outputs, flags
    row[[Field.FOLDS, Field.INTERVAL, Field.STREAM, Field.OCCUPANCY, Field.TAIL]] = time_of(row, hw)
    row[Field.LINES] = sum_lines(row, hw)
    (row[ArrayField.A_LINES], _), (row[ArrayField.B_LINES], _) = tiles(row)
    row[[ArrayField.A_FORMAT, ArrayField.B_FORMAT]] = FORMAT_CODES[hw.array.operand_format]
    return row


@pytest.mark.parametrize(("flow", "end"), [("ws", 11), ("os", 12)])
def test_the_tile_of_the_contract_ends_when_the_contract_says(flow, end):
    """docs/contracts/cycles.md, section 3."""
    hw = machine_of(2, 2, "fp32" if flow == "is" else "int8", flow, beta=1, lines=16, banks=8, bank_lines=16)
    hw = hw.model_copy(update={"dram": hw.dram.model_copy(update={"bytes_per_cycle": 4})})
    assert linear(hw, 2, 2, 2)[[Field.OCCUPANCY, Field.TAIL]].tolist() == [2, end - 2]


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("format", ["int8", "bf16"])
def test_lanes_beyond_the_tile_are_cleared_where_sums_are_replaced_and_kept_where_they_are_added(flow, format):
    """Three columns of eight, two folds along the reduction, or two partial sums of each, then the same with `ADDS`."""
    hw = machine_of(2, 8, format, flow, alpha=2, beta=2, lines=32, banks=16)
    sizes = (3, 4, 5) if flow == "is" else (5, 4, 3)
    flat = placed(random.Random(1), hw, [linear(hw, *sizes), linear(hw, *sizes, MatrixFlag.ADDS)])
    assert len(flat) == 2
    compare(hw, flat, 1)
    compare(hw, flat[::-1].copy(), 2)


def test_a_line_that_comes_again_after_the_latency_of_the_accumulator_is_added_to_in_time():
    """One pixel, many folds along the reduction: each β cycles after the one before."""
    hw = machine_of(2, 3, "bf16", "ws", beta=6, lines=16, banks=16)
    row = linear(hw, 1, 12, 3)
    assert row[Field.INTERVAL] == 6
    # The second command leaves a lane alone that the third one adds to.
    more = [linear(hw, 1, 9, outputs, MatrixFlag.ADDS) for outputs in (2, 3)]
    flat = placed(random.Random(1), hw, [row, *more])
    assert len(flat) == 3
    compare(hw, flat, 3)


@pytest.mark.parametrize("name", ["edge-8x8-int8", "edge-8x8-bf16", "gemmini-16x16-int8", "edge-4x4-bf16"])
@pytest.mark.parametrize("flow", ["ws", "os"])
def test_a_command_is_prepared_before_the_next_one_comes(name, flow):
    hw = load_accelerator(name)
    hw = hw.model_copy(update={"array": hw.array.model_copy(update={"dataflow": flow})})
    spare = dispatch_cycles(hw) - 1
    assert MatrixPrepare.within(hw, spare).cycles <= spare


def test_sums_of_floating_point_numbers_need_a_cycle():
    message = (
        "^edge-8x8-bf16: accumulator.add_latency_cycles must be at least 2 cycles for the RTL, one to read a sum and "
        "one to add to it, where sums are fp32, not 1$"
    )
    with pytest.raises(HwsimError, match=message):
        MatrixUnit(machine_of(beta=1))


def value_of(bits, exponent_bits, mantissa_bits, special):
    """Number of a format: NaN, or infinity, by its table."""
    magnitude = bits & (1 << exponent_bits + mantissa_bits) - 1
    if magnitude in special:
        value = special[magnitude]
    else:
        exponent, mantissa = magnitude >> mantissa_bits, magnitude & (1 << mantissa_bits) - 1
        bias = (1 << exponent_bits - 1) - 1
        value = (mantissa + (bool(exponent) << mantissa_bits)) * 2.0 ** (max(exponent, 1) - bias - mantissa_bits)
    return -value if bits >> exponent_bits + mantissa_bits else value


def test_one_format_holds_the_numbers_of_both_fp8_formats():
    special = {0xF8: np.inf} | dict.fromkeys(range(0xF9, 0x100), np.nan)
    unit = Fp8Operand()

    async def bench(ctx):
        for e5m2, format in enumerate(("fp8_e4m3", "fp8_e5m2")):
            wide = from_format(np.arange(256, dtype=np.uint8), format)
            for bits in range(256):
                ctx.set(unit.x, bits)
                ctx.set(unit.e5m2, e5m2)
                found = value_of(ctx.get(unit.y), 5, 3, special)
                np.testing.assert_array_equal(found, wide[bits])
                assert np.isnan(found) or np.signbit(found) == np.signbit(wide[bits])

    simulator = Simulator(unit)
    simulator.add_testbench(bench)
    simulator.run()


def test_products_of_that_format_are_those_of_the_reference(request):
    """All pairs of its 512 numbers, NaNs of any bits among them, against float64, in which they are exact."""
    special = {0xF8: np.inf} | dict.fromkeys(range(0xF9, 0x100), np.nan)
    numbers = np.array([value_of(bits, 5, 3, special) for bits in range(512)])
    a, b = (pair.ravel() for pair in np.meshgrid(np.arange(512), np.arange(512)))
    with np.errstate(invalid="ignore"):
        expected = (numbers[a] * numbers[b]).astype(np.float32)
    bits = np.where(np.isnan(expected), 0x7FC00000, expected.view(np.uint32))
    units = {"products": [Multiplier(FP8_OPERAND, FP8_OPERAND, latency) for latency in (0, 2)]}
    cache = Path(request.config.cache.mkdir("hwsim-models"))
    for found in vectors.run(units, {"products": {"a": a, "b": b}}, cache)["products"]:
        np.testing.assert_array_equal(found["p"], bits)


@pytest.mark.parametrize("flow", FLOWS)
def test_text_lints_clean(flow, tmp_path):
    hw = machine_of(4, 8, "int8", flow, beta=2)
    for name, unit in (("matrix", MatrixUnit(hw)), ("prepare", MatrixPrepare(hw))):
        (tmp_path / f"{name}.v").write_text(emit(unit, name), "utf-8")
        found = find_verilator()
        # Members are called `new`, which is escaped; Yosys writes a choice by one of several bits as overlapping cases.
        waivers = [f"-Wno-{waived}" for waived in (*WAIVED, "SYMRSVDWORD", "CASEOVERLAP")]
        run = subprocess.run(
            [found.command, "--lint-only", "-Wall", *waivers, "--top-module", name, f"{name}.v"], cwd=tmp_path,
            env=found.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr[-2000:]
