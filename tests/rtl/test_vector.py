"""Does the vector unit do in hardware what `hwsim.values` says, bit for bit, in the cycles of the cycle contract?

Random commands of every micro-operation, mode, flag, format and rounding run on the unit with the accumulator in
Amaranth's simulator, back to back, and one by one on `hwsim.values.machine.Core`.
"""

import itertools
import random
import struct
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, load_accelerator
from hwsim.hardware.formats import FORMAT_BITS
from hwsim.numerics.functions import exp, log, reciprocal, reciprocal_root
from hwsim.numerics.lfsr import draw, lane_seed
from hwsim.program import (
    FIELDS,
    FORMAT_CODES,
    HAND_OVER_CYCLES,
    BMode,
    Field,
    Unit,
    VectorField,
    VectorFlag,
    VectorOp,
    encode,
)
from hwsim.values.machine import Core
from hwsim_rtl.dma import Geometry
from hwsim_rtl.memory import Accumulator
from hwsim_rtl.tools import find_verilator
from hwsim_rtl.vector import Stages, VectorPrepare, VectorUnit, split, vector_command
from hwsim_rtl.verilog import emit

LINES = 24  # of half the accumulator
SEED = 0x5EED
LABELS = 6  # lines of each memory that begin with a label
FIXED = 2  # the third memory
OPERANDS = (VectorField.DST, VectorField.A, VectorField.B, VectorField.C)
ACROSS = (VectorOp.SUM_LANES, VectorOp.MAXIMUM_LANES)
SUMMING = (VectorOp.SUM_LINES, VectorOp.MULTIPLY_SUM_LINES)
LABELLED = (VectorOp.SELECT_LABEL, VectorOp.SUBTRACT_LABEL)
LAPS = {VectorOp.EXP: 9, VectorOp.LOG: 10, VectorOp.RECIPROCAL: 5, VectorOp.RECIPROCAL_ROOT: 7}
READS_B = {
    VectorOp.ADD_BIAS, VectorOp.ADD, VectorOp.SUBTRACT, VectorOp.MULTIPLY, VectorOp.MULTIPLY_ADD, VectorOp.MAXIMUM,
    VectorOp.SELECT, VectorOp.SELECT_EQUAL, VectorOp.MULTIPLY_SUM_LINES, *LABELLED,
}  # fmt: skip


def machine_of(cols=4, lanes=4, latency=12, format="bf16", flow="ws", lines=LINES):
    """A small machine; `lines` of half the accumulator."""
    hw = load_accelerator("edge-8x8-bf16").model_dump()
    hw["array"] |= {"rows": 4, "cols": cols, "operand_format": format, "dataflow": flow}
    hw["scratchpad"] = {"capacity_bytes": 8 * 8 * max(4, cols) * FORMAT_BITS[format] // 8, "banks": 8}
    hw["accumulator"]["capacity_bytes"] = 2 * 4 * cols * lines
    hw["vector"] = {"lanes": lanes, "latency_cycles": latency}
    hw["dram"] |= {"bytes_per_cycle": 4}
    return Accelerator.model_validate(hw)


# ---- the unit with its memory -----------------------------------------------------------------------------------


class Bench(Elaboratable):
    """The unit with what prepares its commands, and the accumulator."""

    def __init__(self, hw):
        self.prepare, self.unit, self.accumulator = VectorPrepare(hw), VectorUnit(hw), Accumulator(Geometry.of(hw), 2)

    def elaborate(self, platform):
        m = Module()
        m.submodules.prepare, m.submodules.unit, m.submodules.accumulator = self.prepare, self.unit, self.accumulator
        unit, accumulator = self.unit, self.accumulator
        for i in range(3):
            connect(m, getattr(unit, f"read_{i}"), getattr(accumulator, f"vector_{i}"))
            m.d.comb += getattr(unit, f"line_{i}").eq(getattr(accumulator, f"line_{i}"))
        connect(m, unit.write, accumulator.vector)
        m.d.comb += unit.port.command.payload.eq(self.prepare.prepared)
        return m


@dataclass
class Times:
    """Cycles of a command: its start, its end; the mask that it posts, its reads of A, B and C, and its writes."""

    start: int
    end: int = -1
    post: int = 0
    reads: list = field(default_factory=lambda: [0, 0, 0])
    writes: int = 0


def run(hw, flat, memory, *, gaps=None):
    """Run commands one after the other, as soon as the unit is free and a gap has passed.

    `memory` (3, lines, cols) is what the halves and the fixed lines hold before. Gives the times, and what they hold
    after.
    """
    bench, words = Bench(hw), encode(flat).tolist()
    memory = turned(memory, 1) if hw.array.dataflow == "is" else memory.copy()
    times, unit = [], bench.unit

    async def work(ctx):
        for (half, _, lane), bank in bench.accumulator.memories.items():
            for line in range(LINES):
                ctx.set(bank.data[line], int(memory[half, line, lane]))
        ctx.set(unit.seed, SEED)
        ctx.set(unit.seed_load, 1)
        await ctx.tick()
        ctx.set(unit.seed, 0)
        ctx.set(unit.seed_load, 0)
        cycle, wait, ended = 0, 0, 0
        while ended < len(words):
            assert cycle < 100_000, "it hangs"
            ready = bool(ctx.get(unit.port.command.ready))
            assert ctx.get(unit.port.idle) == (ended == len(times))
            offers = len(times) < len(words) and wait == 0
            # Without a command, what lies at the input must not matter; one that waits must not matter yet.
            ctx.set(bench.prepare.words, words[len(times)] if offers else [0xA5A5A5A5] * 32)
            ctx.set(unit.port.command.valid, offers)
            assert bool(ctx.get(unit.port.command.ready)) == ready
            for port in range(3):
                if ctx.get(getattr(unit, f"read_{port}").valid):
                    times[-1].reads[port] += 1
            if ready and offers:
                times.append(Times(cycle))
                wait = gaps(len(times)) if gaps else 0
            elif ready and wait:
                wait -= 1
            if ctx.get(unit.write.valid):
                times[ended].writes += 1
            post = ctx.get(unit.port.post)
            if ctx.get(unit.port.ended):
                times[ended].end, times[ended].post = cycle + 1, post
                ended += 1
            else:
                assert post == 0
            assert not ctx.get(bench.accumulator.conflict)
            await ctx.tick()
            cycle += 1
        assert ctx.get(unit.port.command.ready)
        for (half, copy, lane), bank in bench.accumulator.memories.items():
            found = [ctx.get(bank.data[line]) for line in range(LINES)]
            assert copy == 0 or found == memory[half, :, lane].tolist()
            memory[half, :, lane] = found

    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    simulator.add_testbench(work)
    simulator.run()
    return times, turned(memory, -1) if hw.array.dataflow == "is" else memory


def turned(words, by):
    """Lanes to banks, where a line is turned by its number, or back."""
    return np.stack([np.roll(words[:, line], by * line, axis=-1) for line in range(LINES)], axis=1)


# ---- the reference ----------------------------------------------------------------------------------------------


def reference(hw, flat, memory):
    """Execute on a core with halves twice as long: the fixed lines lie behind those of half 0."""
    wide = hw.model_dump()
    wide["accumulator"]["capacity_bytes"] *= 2
    core = Core(Accelerator.model_validate(wide), 4, SEED)
    words = core.accumulator.reshape(2, 2 * LINES, hw.array.cols)
    words[0, :LINES], words[1, :LINES], words[0, LINES:] = memory
    flat = flat.copy()
    for bit, operand in enumerate(OPERANDS):
        flat[flat[:, Field.FLAGS] >> bit & 1 == 1, operand] += LINES
    core.execute(flat, np.arange(len(flat)))
    return np.stack([words[0, :LINES], words[1, :LINES], words[0, LINES:]])


def occupancy(hw, row):
    """Cycles of a command by the contract."""
    groups = -(-row[Field.COLUMNS] // hw.vector.lanes)
    rest = row[Field.COUNT_H] * row[Field.COUNT_W] * groups
    latency = hw.vector.latency_cycles
    least = latency if row[Field.OPCODE] in SUMMING else 0
    cycles = int(row[Field.PASSES] * (row[Field.COUNT_B] * max(rest, least) + latency))
    laps = LAPS.get(row[Field.OPCODE], 1)
    return cycles + (laps > 1) * ((laps - 1) * latency * -int(-row[Field.COUNT_B] * rest // latency) + 3)


def compare(hw, flat, memory, defined=True, *, gaps=None):
    """Run on both; all words that are defined and every time must agree."""
    times, found = run(hw, flat, memory, gaps=gaps)
    expected = reference(hw, flat, memory)
    np.testing.assert_array_equal(np.where(defined, found, 0), np.where(defined, expected, 0))
    for i, (time, row) in enumerate(zip(times, flat, strict=True)):
        assert time.end == time.start + occupancy(hw, row) + HAND_OVER_CYCLES
        assert time.post == row[Field.POST]
        assert time.reads == reads_of(hw, row)
        assert time.writes == groups_of(hw, row)
        if i and not gaps:
            assert time.start == times[i - 1].start + occupancy(hw, flat[i - 1])
    return found


def groups_of(hw, row):
    """Groups of a command, of all its passes: each is written once, after its last lap."""
    lines = np.prod(row[[Field.COUNT_B, Field.COUNT_H, Field.COUNT_W]])
    return int(row[Field.PASSES] * lines * -(-row[Field.COLUMNS] // hw.vector.lanes))


def reads_of(hw, row):
    """How often each operand is read: once a group where the micro-operation has it."""
    op, mode = VectorOp(row[Field.OPCODE]), row[Field.FLAGS] >> 4 & 7
    groups = groups_of(hw, row)
    b = op in READS_B and (mode != BMode.SCALAR or op in LABELLED)
    c = op in SUMMING or op in (VectorOp.MULTIPLY_ADD, VectorOp.SELECT_EQUAL)
    return [groups * (op != VectorOp.SET), groups * b, groups * c]


# ---- numbers and commands ---------------------------------------------------------------------------------------


def bits(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


#: Zeros, ones, subnormals, the smallest and the largest, infinities, NaNs.
SPECIALS = [s << 31 | m for s in (0, 1) for m in (0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000)]
SPECIALS += [0x7FC00000, 0xFF800001, 0x7F800001, 0xFFFFFFFF]
#: Ties of every format, its neighbours, and the limits of the formats with theirs.
TIES = [bits(s * (m + d)) for s in (1, -1) for t in (2, 3, 7, 10) for m in (1, 1 + 2**-t) for d in (2 ** -(t + 1),)]
TIES += [bits(x) for n in (0, 1, 2, 63, 126, 127) for x in (n + 0.5, -n - 0.5, np.nextafter(np.float32(n + 0.5), 0))]
TIES += [bits(x * s) for x in (447, 449, 464, 465, 57344, 61440, 65504, 65520, 3.3895e38) for s in (1, -1)]
TIES += [bits(k * 2.0**e) for k in (1, 3, 5, 7, 1.25) for e in (-10, -11, -17, -18, -25, -26)]


def word(rng, cols):
    """A word: special, a tie, a number like others, a small integer or a label, any bits."""
    kind = rng.random()
    if kind < 0.2:
        return rng.choice(SPECIALS)
    if kind < 0.4:
        return rng.choice(TIES)
    if kind < 0.75:
        return rng.getrandbits(1) << 31 | rng.randint(124, 131) << 23 | rng.getrandbits(23)
    if kind < 0.9:
        return rng.randint(-2, 3 * cols) & 0xFFFFFFFF
    return rng.getrandbits(32)


def boxes(row):
    """Indices of a command's box in order."""
    return itertools.product(*(range(row[Field[f"COUNT_{axis}"]]) for axis in "BHW"))


def line_of(row, operand, index):
    """Memory and line of an operand."""
    bit = OPERANDS.index(operand)
    half = FIXED if row[Field.FLAGS] >> bit & 1 else row[Field.SLOT_A]
    return int(half), int(row[operand] + sum(i * row[operand + 1 + axis] for axis, i in enumerate(index)))


def reads(row, index, cols):
    """What a command reads at an index: words (memory, line, lane)."""
    op, columns, mode = VectorOp(row[Field.OPCODE]), row[Field.COLUMNS], row[Field.FLAGS] >> 4 & 7
    if op != VectorOp.SET:
        half, line = line_of(row, VectorField.A, index)
        yield from ((half, line, lane) for lane in range(columns))
    if op in READS_B and (mode != BMode.SCALAR or op in LABELLED):
        half, line = line_of(row, VectorField.B, index)
        if mode in (BMode.WORD_1, BMode.WORD_2):
            more, lane = divmod(index[1 if mode == BMode.WORD_1 else 2], cols)
            yield half, line + more, lane
        else:
            one = mode != BMode.LINE or op in LABELLED
            yield from ((half, line, lane) for lane in range(1 if one else columns))
    if op in (VectorOp.MULTIPLY_ADD, VectorOp.SELECT_EQUAL):
        half, line = line_of(row, VectorField.C, index)
        yield from ((half, line, lane) for lane in range(columns))
    if op in SUMMING:
        half, line = line_of(row, VectorField.DST, index)
        yield from ((half, line, lane) for lane in range(columns))


def accept(row, cols, defined):
    """Whether a command keeps the contract: lines that are there and defined, none read that it wrote at an earlier
    index but as a sum's. If so, say what it leaves undefined.
    """
    op, written, after = VectorOp(row[Field.OPCODE]), {}, defined.copy()
    for index in boxes(row):
        target = line_of(row, VectorField.DST, index)
        for half, line, lane in reads(row, index, cols):
            if not 0 <= line < LINES or not defined[half, line, lane]:
                return False
            own = op in SUMMING and (half, line) == target
            if (half, line) in written and not (own and written[half, line][1:] == index[1:]):
                return False
        if not 0 <= target[1] < LINES:
            return False
        if (op in SUMMING and target in written and written[target][1:] != index[1:]) or (
            op in ACROSS and target in written
        ):
            return False
        written[target] = index
        after[target][: cols if op in ACROSS else row[Field.COLUMNS]] = op not in ACROSS
        if op in ACROSS:
            after[target][0] = True
    defined[:] = after
    return True


#: Numbered; their low 10 bits are other exponents.
EXTREME = tuple(enumerate((2000, -2000, 1 << 30, -(1 << 30))))
EXPONENTS = (0, 0, 0, 1, -3, 7, -120, 130, 300, -300, 2000, -2000)


def random_lines(rng, row, *, summed):
    """First line and steps of an operand, so that all lines are there."""
    counts = row[[Field.COUNT_B, Field.COUNT_H, Field.COUNT_W]]
    while True:
        steps = np.array(rng.choices((0, 0, 1, 1, 2, 3, -1, -2, 6), k=3))
        if summed:
            steps[0] = 0
        ends = steps * (counts - 1)
        low, high = int(ends[ends < 0].sum()), int(ends[ends > 0].sum())
        if high - low < LINES:
            steps[counts == 1] += rng.choice((0, 1000, -(1 << 16)))  # nobody goes there
            return rng.randint(-low, LINES - 1 - high), *steps


def random_command(rng, hw, op):
    """A command that may or may not keep the contract."""
    row, cols = np.zeros(FIELDS, np.int64), hw.array.cols
    row[Field.UNIT], row[Field.OPCODE], row[Field.SLOT_A] = Unit.VECTOR, op, rng.randint(0, 1)
    row[Field.POST] = rng.getrandbits(10)
    for axis in "BHW":
        row[Field[f"COUNT_{axis}"]] = rng.choice((1, 1, 2, 3, rng.randint(1, 7)))
    row[Field.COLUMNS] = rng.choice((cols, cols, rng.randint(1, cols)))
    row[Field.PASSES] = max(1, int(row[Field.COLUMNS] - 1).bit_length()) if op in ACROSS else 1
    mode = rng.choice(tuple(BMode)) if op != VectorOp.MULTIPLY_SUM_LINES else BMode.LINE
    if rng.random() < 0.7:  # words of several lines
        row[Field.COUNT_H] *= 1 + cols * (mode == BMode.WORD_1)
        row[Field.COUNT_W] *= 1 + cols * (mode == BMode.WORD_2)
    flags = mode << 4
    for bit, operand in enumerate(OPERANDS):
        flags |= (rng.random() < 0.3) << bit
        row[operand : operand + 4] = random_lines(rng, row, summed=op in SUMMING and bit == 0)
    if op in LABELLED and mode != BMode.SCALAR:
        row[VectorField.B : VectorField.B + 4] = rng.randint(0, LABELS - 1), 0, 0, 0
    for bit, operand in enumerate(OPERANDS[1:], 1):
        if rng.random() < 0.25:
            row[operand : operand + 4] = row[VectorField.DST : VectorField.DST + 4]
            flags = flags & ~(1 << bit) | (flags & 1) << bit
    row[[VectorField.SCALAR, VectorField.SCALAR_2]] = word(rng, cols), word(rng, cols)
    if rng.random() < 0.5:
        flags |= VectorFlag.SUMS
        if op in (VectorOp.RESCALE, VectorOp.ADD_BIAS):
            row[VectorField.SCALAR] = rng.choice(EXPONENTS)
    codes = sorted({FORMAT_CODES[f] for f in Geometry.of(hw).formats} | {0})
    row[VectorField.FORMAT], row[VectorField.EXPONENT] = rng.choice(codes), rng.choice(EXPONENTS)
    flags |= rng.choice((0, VectorFlag.STOCHASTIC))
    row[Field.FLAGS] = flags
    return row


def random_program(hw, seed, ops):
    """Commands that keep the contract, what the memories hold before, and which words are defined after."""
    rng, cols = random.Random(seed), hw.array.cols
    memory = np.array([word(rng, cols) for _ in range(3 * LINES * cols)], np.uint32).reshape(3, LINES, cols)
    labels = [rng.randint(-1, 3 * cols) & 0xFFFFFFFF for _ in range(3 * LABELS)]
    memory[:, :LABELS, 0] = np.array(labels, np.uint32).reshape(3, -1)
    defined, flat = np.ones(memory.shape, bool), []
    for op in ops:
        row = random_command(rng, hw, op)
        while not accept(row, cols, defined):
            row = random_command(rng, hw, op)
        flat.append(row)
    return np.array(flat), memory, defined


MACHINES = {
    "all lanes": machine_of(format="int8"),
    "groups": machine_of(cols=5, lanes=2, latency=8, format="int8"),
    "least latency": machine_of(cols=4, lanes=3, latency=3, format="fp8_e4m3"),
    "short": machine_of(cols=7, lanes=7, latency=4, format="fp16"),
    "one lane": machine_of(cols=3, lanes=1, latency=6, format="bf16"),
    "no conversion": machine_of(cols=2, lanes=2, latency=9, format="fp32"),
    "turned": machine_of(cols=4, lanes=2, latency=10, format="bf16", flow="is"),
}


def shuffled(seed, times):
    """Every micro-operation so many times, in any order."""
    ops = sorted(VectorOp) * times
    random.Random(seed).shuffle(ops)
    return ops


@pytest.mark.parametrize("name", MACHINES)
def test_random_commands_give_the_words_of_the_machine_model(name):
    compare(MACHINES[name], *random_program(MACHINES[name], name, shuffled(name, 2)))


def test_gaps_between_commands_change_nothing():
    rng, hw = random.Random(1), MACHINES["groups"]
    compare(hw, *random_program(hw, 2, shuffled(2, 1)), gaps=lambda _: rng.randint(0, 20))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", MACHINES)
def test_more_random_commands_give_the_words_of_the_machine_model(name, seed):
    compare(MACHINES[name], *random_program(MACHINES[name], f"{name} {seed}", shuffled(seed, 4)))


@pytest.mark.long
@pytest.mark.parametrize("latency", [*range(3, 20), 40, 64])
def test_every_latency_gives_the_words_of_the_machine_model(latency):
    hw = machine_of(cols=5, lanes=3, latency=latency, format=("int8", "bf16", "fp8_e5m2")[latency % 3])
    compare(hw, *random_program(hw, latency, shuffled(latency, 2)))


# ---- directed ---------------------------------------------------------------------------------------------------


def command(op, *, dst=0, a=0, b=0, c=0, box=(1, 1, 1), columns, passes=1, flags=0, mode=BMode.LINE, **rest):
    """A command; an operand is a line, or a line and its steps."""
    row = np.zeros(FIELDS, np.int64)
    row[[Field.UNIT, Field.OPCODE, Field.COLUMNS, Field.PASSES]] = Unit.VECTOR, op, columns, passes
    row[Field.FLAGS] = flags | mode << 4
    row[[Field.COUNT_B, Field.COUNT_H, Field.COUNT_W]] = box
    for operand, at in zip(OPERANDS, (dst, a, b, c), strict=True):
        line, *steps = at if isinstance(at, tuple) else (at,)
        row[operand : operand + 1 + len(steps)] = line, *steps
    for name, value in rest.items():
        row[VectorField[name.upper()]] = value
    return row


def memory_of(hw, lines=()):
    """A memory of zeros, but for lines of half 0 by number."""
    memory = np.zeros((3, LINES, hw.array.cols), np.uint32)
    for line, words in dict(lines).items():
        memory[0, line, : len(words)] = words
    return memory


def floats(*numbers):
    return np.array(numbers, np.float32).view(np.uint32)


@pytest.mark.parametrize(
    ("count", "cycles"),
    [(3, 3 * 8 + 8), (4, 3 * 8 + 8), (5, 3 * 10 + 8)],  # turns of 6 cycles wait for λ = 8, those of 8 and 10 do not
)
def test_sums_over_lines_return_to_a_line_when_it_is_written(count, cycles):
    hw = MACHINES["groups"]  # 5 columns are 3 groups of 2 lanes; 4 columns are 2
    lines = {count + i: floats(i, 1, 2, 3) for i in range(3 * count)}
    row = command(VectorOp.SUM_LINES, dst=(0, 0, 0, 1), a=(count, count, 0, 1), box=(3, 1, count), columns=4)
    times, found = run(hw, row[None], memory_of(hw, lines))
    assert times[0].end - times[0].start == cycles + HAND_OVER_CYCLES
    for i in range(count):
        assert found[0, i, :4].view(np.float32).tolist() == [3 * i + 3 * count, 3, 6, 9]


def test_other_commands_take_a_cycle_a_group_and_the_latency():
    hw = MACHINES["groups"]
    rows = [
        command(VectorOp.COPY, dst=(8, 0, 0, 1), a=(0, 0, 0, 1), box=(1, 1, 7), columns=5),
        command(VectorOp.COPY, dst=(8, 3, 0, 1), a=(0, 3, 0, 1), box=(2, 1, 3), columns=1),
        command(VectorOp.MAXIMUM_LANES, dst=(8, 0, 1), a=(0, 0, 1), box=(1, 3, 1), columns=5, passes=3),
    ]
    times, _ = run(hw, np.array(rows), memory_of(hw))
    assert [t.end - t.start - HAND_OVER_CYCLES for t in times] == [7 * 3 + 8, 6 + 8, 3 * (3 * 3 + 8)]
    assert [t.start for t in times] == [0, 29, 29 + 14]


@pytest.mark.parametrize("op", LAPS)
@pytest.mark.parametrize(("count", "blocks"), [(1, 1), (2, 1), (3, 2), (5, 2), (6, 3)])
def test_laps_keep_a_block_of_groups_for_lambda_cycles_each(op, count, blocks):
    hw = MACHINES["groups"]  # 5 columns are 3 groups of 2 lanes, and a block has λ = 8 of them
    row = command(op, dst=(8, 0, 0, 1), a=(0, 0, 0, 1), box=(1, 1, count), columns=5)
    times, found = run(hw, np.array([row, row]), memory_of(hw, {i: floats(1, 2, 3, 4, 5 + i) for i in range(count)}))
    cycles = 3 * count + 8 + (LAPS[op] - 1) * 8 * blocks + 3
    assert [t.end - t.start - HAND_OVER_CYCLES for t in times] == [cycles, cycles]
    assert times[1].start == cycles
    assert [(t.reads, t.writes) for t in times] == [([3 * count, 0, 0], 3 * count)] * 2
    function = {VectorOp.EXP: exp, VectorOp.LOG: log, VectorOp.RECIPROCAL: reciprocal}.get(op, reciprocal_root)
    for i in range(count):
        assert found[0, 8 + i].tolist() == [function(bits(x)) for x in (1, 2, 3, 4, 5 + i)]


def test_a_command_reads_what_the_one_before_it_wrote():
    hw = MACHINES["least latency"]
    double = command(VectorOp.ADD, columns=4)  # line 0 = line 0 + line 0
    times, found = run(hw, np.array([double] * 10), memory_of(hw, {0: floats(1, 2, 3, -4)}))
    assert found[0, 0].view(np.float32).tolist() == [1024, 2048, 3072, -4096]
    assert times[-1].end - times[0].start == 10 * (2 + 3) + HAND_OVER_CYCLES


@pytest.mark.parametrize("name", ["groups", "turned", "one lane"])
def test_sums_and_maxima_over_lanes_halve(name):
    hw, rng = MACHINES[name], np.random.default_rng(5)
    cols = hw.array.cols
    numbers = (rng.standard_normal(cols) * 10.0 ** rng.integers(-4, 5, cols)).astype(np.float32)
    columns = range(1, cols + 1)
    rows = [command(VectorOp.SUM_LANES, dst=n, a=0, columns=n, passes=max(1, (n - 1).bit_length())) for n in columns]
    rows += [
        command(VectorOp.MAXIMUM_LANES, dst=10 + n, a=10, columns=n, passes=max(1, (n - 1).bit_length()))
        for n in columns
    ]
    lines = {0: numbers.view(np.uint32), 10: (-abs(numbers)).view(np.uint32)}
    _, found = run(hw, np.array(rows), memory_of(hw, lines))
    for n in columns:
        assert found[0, 10 + n, 0].view(np.float32) == max(-abs(numbers[:n]))
        left = list(numbers[:n])
        while len(left) > 1:
            half = 1 << (len(left) - 1).bit_length() - 1
            left = [x + y for x, y in itertools.zip_longest(left[:half], left[half:], fillvalue=np.float32(0))]
        assert found[0, n, 0] == left[0].view(np.uint32)


@pytest.mark.parametrize("columns", [1, 3, 5])
def test_a_lane_without_another_keeps_the_sign_of_its_zero(columns):
    hw, passes = MACHINES["groups"], max(1, (columns - 1).bit_length())
    row = command(VectorOp.SUM_LANES, dst=1, a=0, columns=columns, passes=passes)
    _, found = run(hw, row[None], memory_of(hw, {0: floats(*[-0.0] * columns)}))
    assert found[0, 1, 0] == 1 << 31


def test_integer_sums_become_numbers_and_others_stay():
    hw = MACHINES["groups"]
    sums = [-3 & 0xFFFFFFFF, 7, (1 << 24) + 1, 1 << 31]
    rows = [
        command(VectorOp.RESCALE, dst=1, columns=4, flags=VectorFlag.SUMS, scalar=-1),
        command(VectorOp.ADD_BIAS, dst=2, b=3, columns=4, flags=VectorFlag.SUMS),
        command(VectorOp.RESCALE, dst=4, a=3, columns=4),
    ]
    _, found = run(hw, np.array(rows), memory_of(hw, {0: sums, 3: floats(1, 1, 1, 1)}))
    assert found[0, 1, :4].view(np.float32).tolist() == [-1.5, 3.5, 2**23, -(2**30)]
    assert found[0, 2, :4].view(np.float32).tolist() == [-2, 8, 2**24, -(2**31)]
    assert found[0, 4, :4].view(np.float32).tolist() == [1] * 4


def test_exponents_beyond_all_numbers_give_infinities_and_zeros():
    hw = MACHINES["short"]
    rows = [command(VectorOp.RESCALE, dst=1 + i, columns=4, flags=VectorFlag.SUMS, scalar=e) for i, e in EXTREME]
    rows += [
        command(VectorOp.CONVERT, dst=5 + i, columns=4, format=FORMAT_CODES["fp16"], exponent=e) for i, e in EXTREME
    ]
    _, found = run(hw, np.array(rows), memory_of(hw, {0: floats(1, -1, 2.0**-126, -(2.0**127))}))
    wide, narrow = [0x7F800000, 0xFF800000] * 2, [0x7C00, 0xFC00] * 2
    assert found[0, 1:5, :4].tolist() == [wide, [0, 1 << 31] * 2] * 2
    assert found[0, 5:9, :4].tolist() == [narrow, [0, 1 << 15] * 2] * 2


@pytest.mark.parametrize("seed", [SEED, lane_seed(0, 0), lane_seed(0, 1)], ids=["any", "that of lane 0", "of lane 1"])
def test_lanes_draw_for_every_group_and_only_for_stochastic_conversions(seed, monkeypatch):
    """A seed that is a lane's own constant would leave it a state of 0, which draws nothing but zeros."""
    monkeypatch.setattr(sys.modules[__name__], "SEED", seed)
    hw = MACHINES["groups"]  # lanes 0 and 1; columns 0, 2 and 4 are lane 0's
    convert = {"scalar": bits(2.25), "format": FORMAT_CODES["int8"], "columns": 5}
    rows = [
        command(VectorOp.SET, dst=(0, 0, 0, 1), box=(1, 1, 3), flags=VectorFlag.STOCHASTIC, **convert),
        command(VectorOp.SET, dst=10, **convert),
        command(VectorOp.SET, dst=11, flags=VectorFlag.STOCHASTIC, **convert | {"format": 0}),
        command(VectorOp.SET, dst=(3, 0, 0, 1), box=(1, 1, 3), flags=VectorFlag.STOCHASTIC, **convert),
    ]
    _, found = run(hw, np.array(rows), memory_of(hw))
    state = [lane_seed(SEED, lane) for lane in range(2)]
    expected = []
    for _ in range(6):
        groups = []
        for _ in range(3):
            state = [draw(s) for s in state]
            groups += [2 + (state[lane] + (1 << 30) >> 32) for lane in range(2)]
        expected.append(groups[:5])
    assert found[0, :6].tolist() == expected
    assert len({tuple(line) for line in expected}) > 1
    assert found[0, 10].tolist() == [2] * 5


def test_words_of_lines_and_labels_are_counted_through_lines():
    hw = MACHINES["groups"]
    lines = {i: floats(*range(5 * i, 5 * i + 5)) for i in range(3)} | {9: [11]}
    rows = [
        command(VectorOp.ADD, dst=(10, 0, 0, 1), a=20, b=1, box=(1, 1, 7), columns=2, mode=BMode.WORD_2),
        command(VectorOp.SUBTRACT_LABEL, dst=(3, 0, 0, 1), a=20, b=9, box=(1, 1, 3), columns=5),
        command(
            VectorOp.SUBTRACT_LABEL, dst=(0, 6, 3, 1), a=20, b=9, box=(2, 2, 3), columns=4, flags=VectorFlag.FIXED_DST
        ),
    ]
    _, found = run(hw, np.array(rows), memory_of(hw, lines))
    assert found[0, 10:17, :2].view(np.float32).tolist() == [[5 + i] * 2 for i in range(7)]
    assert found[0, 3:6].view(np.float32).tolist() == [[0] * 5, [0] * 5, [0, -1, 0, 0, 0]]  # label 11 is 2 · 5 + 1
    assert found[2, :12].view(np.float32).tolist() == [[0] * 5, [0] * 5, [0, -1, 0, 0, 0]] * 4


def test_limits_that_are_no_numbers_limit_nothing():
    hw, nan = MACHINES["all lanes"], 0x7FC00000
    rows = [
        command(VectorOp.CLAMP, dst=1, columns=4, scalar=nan, scalar_2=bits(2.0)),
        command(VectorOp.CLAMP, dst=2, columns=4, scalar=bits(-1.0), scalar_2=nan),
        command(VectorOp.SELECT, dst=3, columns=4, scalar=nan, scalar_2=bits(2.0)),
    ]
    memory = memory_of(hw, {0: floats(-np.inf, -3, 1, 5)})
    found = compare(hw, np.array(rows), memory)
    assert found[0, 1:4].view(np.float32).tolist() == [[-np.inf, -3, 1, 2], [-1, -1, 1, 5], [0] * 4]


# ---- descriptions and text --------------------------------------------------------------------------------------


def test_a_latency_without_a_cycle_for_the_adder_is_refused():
    for latency in (1, 2):
        with pytest.raises(HwsimError) as error:
            split(machine_of(latency=latency))
        assert str(error.value) == (
            "edge-8x8-bf16: vector.latency_cycles must be at least 3 cycles for the RTL, one each for the read of a "
            f"line, the adder and the write, not {latency}"
        )


def test_registers_of_all_parts_make_up_the_latency():
    assert [split(machine_of(latency=n)).last for n in range(3, 65)] == list(range(1, 63))
    assert all(split(machine_of(latency=n)).add >= 1 for n in range(3, 65))
    assert split(machine_of(latency=3)) == Stages(operands=0, before=0, add=1, after=0)


def test_commands_are_prepared_at_once():
    assert VectorPrepare.cycles == 0
    assert vector_command(machine_of())["post"].width == 10


#: What `-Wall` says of generated text, and why it may.
WAIVED = {
    "PROCASSINIT": "registers have a value from power-up on, those with a reset too",
    "DECLFILENAME": "one file holds many modules",
    "UNUSEDSIGNAL": "Amaranth names values of which only some bits are read",
    "WIDTHEXPAND": "Yosys leaves the extension of operands to Verilog, whose rule for it is that of its own cells",
}


@pytest.mark.parametrize("name", ["all lanes", "least latency", "no conversion"])
def test_text_has_one_lane_and_lints_clean(name, tmp_path):
    found = find_verilator()
    for top, component in (("vector", VectorUnit(MACHINES[name])), ("prepare", VectorPrepare(MACHINES[name]))):
        text = emit(component, top)
        assert text.count("module VectorLane_") == (top == "vector")
        (tmp_path / f"{top}.v").write_text(text)
        waivers = [f"-Wno-{warning}" for warning in WAIVED]
        lint = subprocess.run(
            [found.command, "--lint-only", "-Wall", *waivers, "--top-module", top, f"{top}.v"], cwd=tmp_path,
            env=found.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert lint.returncode == 0, lint.stderr
