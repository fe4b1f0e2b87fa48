"""Do the arrays compute and time as the contracts say? Every cycle's outputs are compared, over back-to-back folds."""

import random
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import pytest
from amaranth.sim import Simulator

from hwsim import numerics
from hwsim_rtl.arithmetic.floats import width_of
from hwsim_rtl.array import OutputStationaryArray, StationaryArray

TAG_BITS = 16
A, B = [[2, 3], [5, 7]], [[11, 13], [17, 19]]
C = (np.array(A) @ np.array(B)).tolist()
STROBES = ("load_valid", "vector_valid", "first", "last", "pad")
NOISY = (
    "load_row",
    "load_register",
    "load_operands",
    "vector_rows",
    "vector_register",
    "vector_operands",
    "a",
    "b",
    "tag",
)
BF16_CORNERS = (0x0000, 0x8000, 0x3F80, 0xBF80, 0x7F80, 0xFF80, 0x7FC0, 0x0001, 0x0080, 0x8080, 0x2000, 0xA000, 0x7F00)


#: 2^-126 − 1.5 · 2^-126, which is flushed to −0.
FLUSHED = np.uint16([[0x2000, 0x2000]]), np.uint16([[0x2000], [0xA040]])


@dataclass(frozen=True)
class Shape:
    """An array: rows, columns, α, μ, β, the operands' format, and how early what is said of a sum leaves."""

    rows: int
    cols: int
    alpha: int
    mu: int
    beta: int
    operand_format: str = "int8"
    lead: int = 0

    def __str__(self):
        return f"{self.rows}x{self.cols}-a{self.alpha}-m{self.mu}-b{self.beta}-{self.operand_format}-l{self.lead}"


@dataclass
class Script:
    """What is presented in which cycle, and what has to leave in which cycle: ``[cycle][port] = value``."""

    given: dict = field(default_factory=dict)
    expected: dict = field(default_factory=dict)

    def give(self, cycle, **ports):
        here = self.given.setdefault(cycle, {})
        assert not here.keys() & ports.keys(), f"two uses of {here.keys() & ports.keys()} in cycle {cycle}"
        here.update(ports)

    def expect(self, cycle, column, **what):
        assert (cycle, column) not in self.expected
        self.expected[cycle, column] = what


def operands(rng, shape, operand_format):
    if operand_format == "int8":
        return np.int8(rng.integers(-128, 128, shape))
    if operand_format.startswith("fp8"):
        return np.uint8(rng.integers(0, 256, shape))
    near_one = rng.integers(0, 2, shape) << 15 | rng.integers(118, 130, shape) << 7 | rng.integers(0, 128, shape)
    corners = rng.choice(BF16_CORNERS, shape)
    return np.uint16(np.where(rng.random(shape) < 0.1, corners, near_one))


def word(value):
    """The 32 bits of a sum."""
    return int(np.asarray(value).view(np.uint32))


def lanes(values, count, operand_format, rng):
    """Operands of all lanes, side by side: what is in idle ones must not matter."""
    everything = [*values, *operands(rng, count - len(values), operand_format)]
    width = width_of(operand_format)
    return sum((int(v) & (1 << width) - 1) << width * i for i, v in enumerate(everything))


def run(array, script, rng):
    """Play a script, with noise on all ports that it leaves alone, and compare all that leaves with what it expects."""
    noise = random.Random(int(rng.integers(2**32)))
    noisy = [name for name in NOISY if hasattr(array, name)]
    strobes = [name for name in STROBES if hasattr(array, name)]
    said = [name for name in ("sum_tag", "sum_row", "sum_first") if hasattr(array, name)]
    found, sums = {}, {}

    async def bench(ctx):
        for cycle in range(max(cycle for cycle, _ in script.expected) + 3):
            given = dict.fromkeys(strobes, 0) | {name: noise.getrandbits(len(getattr(array, name))) for name in noisy}
            for name, value in (given | script.given.get(cycle, {})).items():
                ctx.set(getattr(array, name), value)
            valid, everything = ctx.get(array.sum_valid), ctx.get(array.sums)
            words = {name: ctx.get(getattr(array, name)) for name in said}
            for column in range(array.cols):
                sums[cycle, column] = column_of(everything, column, 32)
                if valid >> column & 1:
                    found[cycle + array.lead_cycles, column] = {
                        name[4:]: column_of(word, column, len(getattr(array, name)) // array.cols)
                        for name, word in words.items()
                    }
            await ctx.tick()

    simulator = Simulator(array)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    for place, what in script.expected.items():  # only what is spoken of is compared
        if place in found:
            found[place] = {name: (found[place] | {"sum": sums[place]})[name] for name in what}
    wrong = [
        f"cycle {cycle} column {column}: {found.get((cycle, column))}, not {script.expected.get((cycle, column))}"
        for cycle, column in sorted(found.keys() | script.expected.keys())
        if found.get((cycle, column)) != script.expected.get((cycle, column))
    ]
    assert not wrong, f"{len(wrong)} differences, the first: {wrong[:3]}"


def column_of(lanes, column, width):
    return lanes >> width * column & (1 << width) - 1


# --- weight- and input-stationary ------------------------------------------------------------------------------------


def stationary_interval(shape, stream, k):
    """Interval of docs/contracts/cycles.md for a tile whose reduction is `k`."""
    return max(stream, min(shape.rows, k), (shape.rows - 1) * (shape.alpha - 1), shape.beta)


def stationary_fold(script, shape, start, register, moving, held, sums, tags, rng):
    """One fold that begins at `start`: `held` (k, n) is read from there on, `moving` (S, k) from a cycle later on."""
    k, n = held.shape
    f = shape.operand_format
    for r in range(k):  # a scratchpad read that is addressed in cycle t is presented in cycle t + 1
        operands_ = lanes(held[r], shape.cols, f, rng)
        script.give(start + r + 1, load_valid=1, load_row=r, load_register=register, load_operands=operands_)
    for i, vector in enumerate(moving):
        t = start + i + 2
        operands_ = lanes(vector, shape.rows, f, rng)
        script.give(t, vector_valid=1, vector_rows=k, vector_register=register, vector_tag=tags[i],
                    vector_operands=operands_)  # fmt: skip
        for j in range(shape.cols):
            what = {"tag": tags[i]} | ({"sum": word(sums[i, j])} if j < n else {})
            script.expect(t + shape.mu + shape.alpha * shape.rows + j, j, **what)


def stationary_case(shape, commands, rng):
    """Commands back to back, each of folds (k, n) with one interval and one S; also the cycle in which they end."""
    script, start, register, tag, ends = Script(), 0, 0, 0, []
    for stream, folds in commands:
        interval = stationary_interval(shape, stream, max(k for k, _ in folds))
        for number, (k, n) in enumerate(folds):
            moving = operands(rng, (stream, k), shape.operand_format)
            held = operands(rng, (k, n), shape.operand_format)
            sums = numerics.matmul(moving, held, operand_format=shape.operand_format, dataflow="ws", rows=shape.rows)
            tags = range(tag, tag + stream)
            stationary_fold(script, shape, start + number * interval, register, moving, held, sums, tags, rng)
            register, tag = 1 - register, tag + stream
        tail = shape.mu + shape.alpha * shape.rows + shape.cols - 1 + shape.beta
        ends.append((start + (len(folds) - 1) * interval + 1 + stream + tail, tag - 1))
        start += len(folds) * interval
    return script, ends


def stationary_array(shape):
    return StationaryArray(
        shape.rows, shape.cols, shape.operand_format, shape.operand_format, add_latency_cycles=shape.alpha,
        multiply_latency_cycles=shape.mu, tag_bits=TAG_BITS, lead_cycles=shape.lead,
    )  # fmt: skip


def random_commands(rng, shape, most):
    def size(largest):
        return int(rng.integers(1, largest + 1))

    def folds():
        return [(size(shape.rows), size(shape.cols)) for _ in range(size(4))]

    return [(size(most), folds()) for _ in range(2 + size(3))]


SHAPES = [
    Shape(2, 2, 1, 0, 1),
    Shape(2, 4, 1, 0, 1, lead=2),
    Shape(4, 2, 3, 1, 3),
    Shape(3, 4, 2, 2, 5, lead=1),
    Shape(4, 4, 1, 1, 2),
    Shape(3, 2, 3, 0, 1),
    Shape(2, 2, 1, 0, 1, "bf16", lead=1),
    Shape(3, 2, 3, 1, 2, "bf16"),
    Shape(2, 3, 2, 2, 1, "bf16"),
]


def random_shape(seed):
    rng = np.random.default_rng(seed)
    rows, cols, alpha, mu, beta = (int(rng.integers(*limits)) for limits in ((2, 6), (2, 6), (1, 5), (0, 4), (1, 8)))
    return Shape(rows, cols, alpha, mu, beta, str(rng.choice(["int8", "bf16"])), lead=int(rng.integers(3)))


RANDOM_SHAPES = [pytest.param(random_shape(seed), marks=pytest.mark.long) for seed in range(24)]


@pytest.mark.parametrize("shape", SHAPES + RANDOM_SHAPES, ids=str)
def test_stationary_sums_leave_with_the_contracts_value_in_the_contracts_cycle(shape):
    rng = np.random.default_rng(crc32(str(shape).encode()))
    commands = [(1, [(1, shape.cols)] * 3), (shape.rows, [(shape.rows, shape.cols)] * 3)]
    commands += random_commands(rng, shape, 2 * shape.rows)
    script, ends = stationary_case(shape, commands, rng)
    for end, tag in ends:  # the last sum of a command is added in the last β cycles before its end
        latest = max(cycle for (cycle, _), what in script.expected.items() if what["tag"] == tag)
        assert latest + shape.beta == end
    run(stationary_array(shape), script, rng)


def test_stationary_products_of_several_folds_equal_a_matrix_product():
    shape = Shape(3, 2, 2, 1, 2, "bf16")
    rng = np.random.default_rng(5)
    m, k, n = 4, 8, 3
    a, b = operands(rng, (m, k), "bf16"), operands(rng, (k, n), "bf16")
    script, tag, start, places = Script(), 0, 0, {}
    for column in range(0, n, shape.cols):
        for row in range(0, k, shape.rows):
            moving, held = a[:, row : row + shape.rows], b[row : row + shape.rows, column : column + shape.cols]
            sums = numerics.matmul(moving, held, operand_format="bf16", dataflow="ws", rows=shape.rows)
            stationary_fold(script, shape, start, tag // m % 2, moving, held, sums, range(tag, tag + m), rng)
            places |= {tag + i: (i, column, row) for i in range(m)}
            tag, start = tag + m, start + stationary_interval(shape, m, k)
    run(stationary_array(shape), script, rng)
    line = np.zeros((m, n), np.float32)
    for (_, j), what in sorted(script.expected.items()):
        i, column, row = places[what["tag"]]
        if "sum" in what:
            s = np.uint32(what["sum"]).view(np.float32)
            line[i, column + j] = s if row == 0 else numerics.add(line[i : i + 1, column + j], np.float32([s]))[0]
    whole = numerics.matmul(a, b, operand_format="bf16", dataflow="ws", rows=shape.rows)
    assert np.array_equal(line.view(np.uint32), whole.view(np.uint32))


def test_idle_rows_add_plus_zero_whatever_their_registers_hold():
    """A sum flushed to −0 becomes +0, and neither an infinity nor a NaN of an earlier fold comes back."""
    shape, rng = Shape(3, 2, 1, 0, 1, "bf16"), np.random.default_rng(1)
    script, bad = Script(), np.uint16([[0x3F80, 0x3F80], [0x3F80, 0x3F80], [0x7F80, 0x7FC0]])
    for number, start in enumerate((0, 3)):  # row 2 holds an infinity and a NaN, in both registers
        sums = numerics.matmul(bad.T, bad, operand_format="bf16", dataflow="ws", rows=3)
        stationary_fold(script, shape, start, number, bad.T, bad, sums, (0, 1), rng)
    moving, held = FLUSHED
    assert word(numerics.matmul(moving, held, operand_format="bf16", dataflow="ws", rows=2)[0, 0]) == 1 << 31
    sums = numerics.matmul(moving, held, operand_format="bf16", dataflow="ws", rows=3)
    assert word(sums[0, 0]) == 0
    stationary_fold(script, shape, 6, 0, moving, held, sums, (2,), rng)
    run(stationary_array(shape), script, rng)


def test_worked_example_cycle_by_cycle():
    """The table of docs/contracts/cycles.md, section 3; what it reads in one cycle is presented in the next."""
    array, rng = stationary_array(Shape(2, 2, 1, 0, 1)), np.random.default_rng(0)
    read = {0: {"b": B[0]}, 1: {"b": B[1], "a": A[0]}, 2: {"a": A[1]}}
    script = Script(expected={(4, 0): {"sum": C[0][0]}, (5, 0): {"sum": C[1][0]}, (5, 1): {"sum": C[0][1]}})
    script.expect(6, 1, sum=C[1][1])
    for cycle, words in read.items():
        if "b" in words:
            script.give(
                cycle + 1,
                load_valid=1,
                load_row=cycle,
                load_register=0,
                load_operands=lanes(words["b"], 2, "int8", rng),
            )
        if "a" in words:
            script.give(
                cycle + 1, vector_valid=1, vector_rows=2, vector_register=0,
                vector_operands=lanes(words["a"], 2, "int8", rng),
            )  # fmt: skip
    run(array, script, rng)


@pytest.mark.parametrize(("folds", "end"), [(1, 7), (2, 9)])
def test_worked_example_ends_as_the_contract_says(folds, end):
    _, ends = stationary_case(Shape(2, 2, 1, 0, 1), [(2, [(2, 2)] * folds)], np.random.default_rng(0))
    assert [cycle for cycle, _ in ends] == [end]


# --- output-stationary -----------------------------------------------------------------------------------------------


def output_stationary_block(shape):
    return max(shape.rows, shape.beta)


def output_stationary_fold(script, shape, start, a, b, tag, rng):
    """One fold of `a` (m, S) and `b` (S, n) that begins at `start`; returns its interval and its last cycle."""
    (m, stream), n = a.shape, b.shape[1]
    f, alpha, block = shape.operand_format, shape.alpha, output_stationary_block(shape)
    interval = max(stream, alpha * block)
    vectors = stream if stream >= alpha * block else -(-stream // alpha) * alpha  # padded
    first = start + interval - vectors + 1
    for i in range(vectors):
        real = i < stream
        script.give(
            first + i, first=i == 0, last=i == vectors - 1, pad=not real, tag=tag,
            a=lanes(a[:, i] if real else a[:0, 0], shape.rows, f, rng),
            b=lanes(b[i] if real else b[0, :0], shape.cols, f, rng),
        )  # fmt: skip
    last = start + interval
    assert last == first + vectors - 1
    for j in range(alpha):
        sums = partial_sum(a[:, j::alpha], b[j::alpha], f)
        for i in range(shape.rows):
            row = shape.rows - 1 - i
            for c in range(shape.cols):
                what = {"tag": tag, "row": row, "first": int(j == 0)}
                if row < m and c < n:
                    what["sum"] = word(sums[row, c])
                script.expect(last + shape.mu + alpha + (j + 1) * block + i + c, c, **what)
    return interval, last


def partial_sum(a, b, operand_format):
    """The products in order, from +0."""
    if a.shape[1] == 0:
        return np.zeros((a.shape[0], b.shape[1]), np.int32 if operand_format == "int8" else np.float32)
    return numerics.matmul(a, b, operand_format=operand_format, dataflow="ws", rows=a.shape[1])


def output_stationary_array(shape):
    return OutputStationaryArray(
        shape.rows, shape.cols, shape.operand_format, shape.operand_format, add_latency_cycles=shape.alpha,
        multiply_latency_cycles=shape.mu, accumulator_latency_cycles=shape.beta, tag_bits=TAG_BITS,
        lead_cycles=shape.lead,
    )  # fmt: skip


def output_stationary_streams(rng, shape):
    """Every stream from 1 to beyond the shortest interval, in random order, short after long and long after short."""
    longest = shape.alpha * output_stationary_block(shape) + shape.alpha + 1
    return rng.permutation([*range(1, longest + 1), longest, longest - 1, 1, 1])


@pytest.mark.parametrize("shape", SHAPES + RANDOM_SHAPES, ids=str)
def test_output_stationary_sums_leave_with_the_contracts_value_in_the_contracts_cycle(shape):
    rng = np.random.default_rng(crc32(str(shape).encode()))
    script, start, order = Script(), 0, []
    for tag, stream in enumerate(output_stationary_streams(rng, shape)):
        m, n = int(rng.integers(1, shape.rows + 1)), int(rng.integers(1, shape.cols + 1))
        a = operands(rng, (m, stream), shape.operand_format)
        b = operands(rng, (stream, n), shape.operand_format)
        interval, last = output_stationary_fold(script, shape, start, a, b, tag, rng)
        tail = shape.mu + shape.alpha + shape.rows - 1 + shape.cols - 1 + shape.alpha * output_stationary_block(shape)
        latest = max(cycle for (cycle, _), what in script.expected.items() if what["tag"] == tag)
        assert latest == last + tail  # and β later the command ends
        order.append(interval)
        start += interval
    run(output_stationary_array(shape), script, rng)


def test_output_stationary_worked_example_cycle_by_cycle():
    """The tile of docs/contracts/cycles.md, section 3, as docs/rtl-array.md draws it; it ends at 8."""
    array, rng = output_stationary_array(Shape(2, 2, 1, 0, 1)), np.random.default_rng(0)
    script = Script()
    for k in (0, 1):  # addressed in cycle k
        column = lanes([A[0][k], A[1][k]], 2, "int8", rng)
        script.give(k + 1, first=k == 0, last=k == 1, tag=0, a=column, b=lanes(B[k], 2, "int8", rng))
    for (cycle, column), row in {(5, 0): 1, (6, 0): 0, (6, 1): 1, (7, 1): 0}.items():
        script.expect(cycle, column, tag=0, row=row, first=1, sum=C[row][column])
    run(array, script, rng)


@pytest.mark.parametrize("stream", [2, 5, 8])
def test_output_stationary_blocks_equal_a_matrix_product(stream):
    shape = Shape(2, 3, 3, 1, 2, "bf16")
    rng = np.random.default_rng(stream)
    a, b = operands(rng, (2, stream), "bf16"), operands(rng, (stream, 3), "bf16")
    script = Script()
    output_stationary_fold(script, shape, 0, a, b, 0, rng)
    run(output_stationary_array(shape), script, rng)
    line = np.zeros((2, 3), np.float32)
    for (_, c), what in sorted(script.expected.items()):
        s, r = np.uint32([what["sum"]]).view(np.float32), what["row"]
        line[r, c] = s[0] if what["first"] else numerics.add(line[r : r + 1, c], s)[0]
    whole = numerics.matmul(a, b, operand_format="bf16", dataflow="os", rows=2, add_latency_cycles=shape.alpha)
    assert np.array_equal(line.view(np.uint32), whole.view(np.uint32))


def test_pads_leave_a_minus_zero():
    """Of five vectors in two partial sums, the pad meets the second, whose products are `FLUSHED`."""
    shape, rng = Shape(3, 2, 2, 0, 1, "bf16"), np.random.default_rng(0)
    a, b = np.zeros((1, 5), np.uint16), np.zeros((5, 1), np.uint16)
    a[:, 1::2], b[1::2] = FLUSHED
    script = Script()
    output_stationary_fold(script, shape, 0, a, b, 0, rng)
    assert [w["sum"] for w in script.expected.values() if "sum" in w and not w["first"]] == [1 << 31]
    run(output_stationary_array(shape), script, rng)


@pytest.mark.parametrize("formats", [("fp8_e4m3", "fp8_e5m2"), ("fp8_e5m2", "fp8_e5m2")], ids="-".join)
def test_pads_change_no_sum_of_narrow_floats(formats):
    """A fold of one −0 product keeps its sum at +0; one of an infinity keeps it through the pads."""
    rng = np.random.default_rng(0)
    shape = Shape(2, 2, 2, 0, 1, formats[0])
    for stream in (1, 3):
        a, b = operands(rng, (2, stream), formats[0]), operands(rng, (stream, 2), formats[1])
        script = Script()
        output_stationary_fold(script, shape, 0, a, b, 1, rng)
        for what in script.expected.values():
            block = 0 if what["first"] else 1
            sums = np.zeros((2, 2), np.float32)
            if a[:, block::2].size:
                sums = numerics.matmul(
                    a[:, block::2], b[block::2], operand_format=formats[0], operand_format_b=formats[1], dataflow="ws",
                    rows=2,
                )  # fmt: skip
            what["sums"] = sums
        for (_, c), what in script.expected.items():
            what["sum"] = word(what.pop("sums")[what["row"], c])
        run(OutputStationaryArray(2, 2, *formats, add_latency_cycles=2, tag_bits=TAG_BITS), script, rng)
