"""Does a program that mapping emits do its op? Executed command by command by tests/mapping/interpreter.py, against loops in numpy.

Values are small integers in float64, so that equality is exact whatever the order of the sums. Accelerators are tiny, so that every
tensor is cut into tiles with edges.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from itertools import product
from math import prod
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hwsim.energy import ACTIONS
from hwsim.energy.counting import count_actions
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.mapping import _kernels, conv_segments, gemm_segment, plan_op, plan_segments
from hwsim.mapping.layout import dispatch_cycles, element_bytes
from hwsim.mapping.matrix import machine_vector
from hwsim.mapping.stream import _deferred, _emit, _sizes, tile_stream
from hwsim.mapping.vector import STREAMS, operands_of
from hwsim.program import FIELDS, Program, Unit
from hwsim.program import Field as F
from hwsim.timing import command_times, simulate_events, simulate_rows
from hwsim.workload import Network, training_graph
from hwsim.workload.graph import Graph, Op, Phase, Role, Tensor


def _interpreter():
    """The file beside this one; with --import-mode=importlib tests are in no package."""
    spec = importlib.util.spec_from_file_location("mapping_interpreter", Path(__file__).with_name("interpreter.py"))
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


interpreter = _interpreter()
Memory = interpreter.Memory

FLOWS = ("ws", "is", "os")
MOST_COMMANDS = 3000
FEW = settings(max_examples=25, deadline=None, derandomize=True)
MANY = settings(max_examples=1500, deadline=None)

# ---------------------------------------------------------------------------------------------------------- accelerators


def accelerator(flow="ws", rows=2, cols=3, bus=8, operand_format="bf16", bank_lines=64, sum_lines=64, **others) -> Accelerator:
    """A tiny accelerator, its memories given in lines."""
    banks, size = others.get("banks", 4), {"int8": 1, "bf16": 2, "fp32": 4}[operand_format]
    return Accelerator(
        name="tiny",
        clock_mhz=100,
        node_nm=40,
        array={
            "rows": rows,
            "cols": cols,
            "dataflow": flow,
            "operand_format": operand_format,
            "add_latency_cycles": others.get("alpha", 1),
            "multiply_latency_cycles": others.get("mu", 0),
        },
        scratchpad={"capacity_bytes": banks * bank_lines * max(rows, cols) * size, "banks": banks},
        accumulator={"capacity_bytes": 8 * cols * sum_lines, "add_latency_cycles": others.get("beta", 1)},
        vector={"lanes": others.get("lanes", 2), "latency_cycles": others.get("vector_latency", 3)},
        dram={"kind": "LPDDR4-2400", "bytes_per_cycle": bus, "latency_cycles": others.get("latency", 7)},
        control={"fetch_bytes_per_cycle": others.get("fetch", 64), "queue_depth": others.get("queue", 8)},
    )


@st.composite
def accelerators(draw, flow=None, bank_lines=None, sum_lines=None):
    number = st.integers
    return accelerator(
        flow or draw(st.sampled_from(FLOWS)),
        draw(number(2, 4)),
        draw(number(2, 4)),
        draw(st.sampled_from((4, 8, 16))),
        draw(st.sampled_from(("bf16", "int8", "fp32"))),
        bank_lines=bank_lines or draw(number(2, 24)),
        sum_lines=sum_lines or draw(number(2, 24)),
        banks=draw(number(4, 9)),
        alpha=draw(number(1, 3)),
        mu=draw(number(0, 2)),
        beta=draw(number(1, 4)),
        lanes=draw(number(1, 4)),
        vector_latency=draw(number(1, 9)),
        latency=draw(number(1, 40)),
        fetch=draw(st.sampled_from((8, 32, 128))),
        queue=draw(number(4, 9)),
    )


def roomier(hw: Accelerator) -> Accelerator:
    """The same accelerator with half as much memory again."""
    def more(part):
        return part.model_copy(update={"capacity_bytes": part.capacity_bytes * 2})

    return hw.model_copy(update={"scratchpad": more(hw.scratchpad), "accumulator": more(hw.accumulator)})


def fitting(hw: Accelerator, attempt):
    """Let the memories grow until the smallest tile fits: they are then about as small as they can be."""
    while True:
        try:
            return hw, attempt(hw)
        except HwsimError as error:
            assert "must fit" in str(error)
            hw = roomier(hw)


# ------------------------------------------------------------------------------------------------------------- execution


def disturbed(flat, rng):
    """The timing rows with other durations; ends of a unit stay in order, as the program contract asks."""
    rows = flat[:, :6].copy()
    busy = rows[:, 0] != Unit.CONTROL
    rows[busy, 1] = rng.integers(1, 60, busy.sum())
    for unit in range(4):
        rows[rows[:, 0] == unit, 2] = 0 if unit == Unit.VECTOR else rng.integers(0, 60)
    return rows


def check_timing(program: Program, flat, hw: Accelerator, seed=0) -> int:
    """Durations, slots in time, and one answer of all ways to time a program; gives its cycles."""
    queue, pace = hw.control.queue_depth, dispatch_cycles(hw)
    interpreter.check_durations(flat, hw)
    line = simulate_events(flat[:, :6], queue, pace)
    interpreter.check_slots(flat, line.start, line.end)
    rng = np.random.default_rng(seed)
    for _ in range(2):
        times = command_times(disturbed(flat, rng), queue, pace)
        interpreter.check_slots(flat, times[:, 0], times[:, 1])
    for timing in (simulate_rows(program.items, queue, pace), simulate_rows(flat, queue, pace, jump=False)):
        assert timing.cycles == line.cycles
        np.testing.assert_array_equal(timing.busy_cycles, line.busy_cycles)
        np.testing.assert_array_equal(timing.stall_cycles, line.stall_cycles)
    return line.cycles


def execute(programs, hw: Accelerator, memories, seed=0):
    """Run segments; check their timing and their counts; give the machine and the cycles."""
    assume(sum(p.commands for p in programs) <= MOST_COMMANDS)
    machine, cycles = interpreter.Machine(hw, memories), 0
    for program in programs:
        flat = program.expand()
        machine.run(flat)
        cycles += check_timing(program, flat, hw, seed)
    counts = count_actions(Program.join(list(programs)), hw, cycles)
    found = dict(zip(ACTIONS, counts.actions.tolist(), strict=True))
    assert counts.macs == machine.macs
    assert (found["dram.read_bytes"], found["dram.write_bytes"]) == (machine.read_bytes, machine.write_bytes)
    return machine, cycles


def assert_result(memory, expected):
    """The tensor is there, every element stored once, nothing in its padding."""
    np.testing.assert_array_equal(memory.values(), expected)
    np.testing.assert_array_equal(memory.stores, memory.inside)
    assert np.isnan(memory.cells[~memory.inside]).all()


def random_tile(segment, hw: Accelerator, draw):
    """Any tile of a segment, those that the search would not look at included; fits once the memories are large."""
    t = dict.fromkeys(_kernels.TILE, 0)

    def size(of):
        return draw(st.integers(1, of))

    t["B"], t["H"], t["W"] = segment["B"], segment["H"], segment["W"]
    cut = draw(st.sampled_from("BHW"))
    if cut != "B":
        t["B"] = 1
    if cut == "W":
        t["H"] = 1
    t[cut] = size(t[cut])
    whole_lines = max(1, hw.dram.bytes_per_cycle // hw.operand_bytes)
    if segment["X_BY_K"] and t["B"] < segment["B"]:  # tiles along a line start on the bus's grid
        t["B"] = min(segment["B"], -(-t["B"] // whole_lines) * whole_lines)
    t["C"], t["N"] = size(segment["C"]), size(segment["N"])
    wgrad, flow = segment["FORM"], hw.array.dataflow
    t["TAPS_H"] = draw(st.sampled_from((1, segment["TAPS_H"]))) if wgrad else segment["TAPS_H"]
    dense = segment["TAPS_H"] * segment["TAPS_W"] == segment["INC_H"] == segment["INC_W"] == 1
    by_column = flow == "is" if wgrad else flow != "ws"
    t["EXPANDED"] = 0 if dense or segment["X_BY_K"] else 1 if by_column else draw(st.integers(0, 1))
    t["ORDER"], t["DEFER"] = draw(st.integers(0, 1)), draw(st.integers(1, 2))
    return tuple(t.values())


def emitted(segment, hw: Accelerator, tile) -> Program:
    """The program of one segment with a given tile."""
    items, steps = np.zeros((_kernels.MAX_ITEMS, FIELDS), np.int64), np.zeros((_kernels.MAX_STEPS, 4), np.int64)
    vectors = np.array(segment.values, np.int64), machine_vector(hw), np.array(tile, np.int64)
    used, moved = _kernels.emit(*vectors, items, steps)
    return Program(items[:used].copy(), steps[:moved].copy())


def candidates(segment, hw: Accelerator):
    """Every tile that the search considers."""
    tiles = np.zeros((20000, len(_kernels.TILE)), np.int64)
    spec = np.array(segment.values, np.int64)
    found = _kernels._candidates(spec, machine_vector(hw), tiles, np.zeros(20000, np.int64), np.zeros(20000, np.int64))
    return tiles[:found]


def integers(rng, *shape):
    return rng.integers(-4, 5, shape).astype(float)


# ------------------------------------------------------------------------------------------------------------------ GEMM


@st.composite
def gemms(draw):
    m, k, n = (draw(st.integers(1, 13)) for _ in range(3))
    if draw(st.booleans()):
        return m, k, n, {"wgrad": True}
    return m, k, n, {name: draw(st.booleans()) for name in ("transpose_a", "transpose_b", "bias")}


def gemm_memories(m, k, n, options, hw: Accelerator, seed):
    """Operands of a GEMM in DRAM by operand index, and what must come out."""
    rng, e, bus = np.random.default_rng(seed), hw.operand_bytes, hw.dram.bytes_per_cycle
    a, b, bias = integers(rng, m, k), integers(rng, k, n), integers(rng, n)
    if options.get("wgrad"):  # as linear_wgrad has them: activations, then the gradient of the outputs
        inputs = [Memory.of((k, n), e, bus, b), Memory.of((k, m), e, bus, a.T)]
        return [*inputs, Memory.of((m, n), 4, bus)], a @ b
    a_stored, b_stored = a.T if options["transpose_a"] else a, b.T if options["transpose_b"] else b
    memories = [Memory.of(a_stored.shape, e, bus, a_stored), Memory.of(b_stored.shape, e, bus, b_stored)]
    if options["bias"]:
        memories.append(Memory.of((n,), 4, bus, bias))
    return [*memories, Memory.of((m, n), e, bus)], a @ b + options["bias"] * bias


def check_gemm(m, k, n, options, hw: Accelerator, programs, seed=0):
    memories, expected = gemm_memories(m, k, n, options, hw, seed)
    machine, cycles = execute(programs, hw, memories, seed)
    assert_result(memories[-1], expected)
    assert machine.macs == m * k * n
    assert all((memory.loads[memory.inside] > 0).all() for memory in memories[:-1])
    return cycles


def searched_gemm(hw: Accelerator, case, seed):
    m, k, n, options = case
    hw, plan = fitting(hw, lambda hw: plan_segments([gemm_segment(m, k, n, hw, **options)], [], hw, "gemm"))
    assert check_gemm(m, k, n, options, hw, plan.segments, seed) == plan.cycles


def tiled_gemm(hw: Accelerator, case, seed, draw):
    m, k, n, options = case
    segment = gemm_segment(m, k, n, hw, **options)
    check_gemm(m, k, n, options, hw, [emitted(segment, hw, random_tile(segment, hw, draw))], seed)


SEEDS = st.integers(0, 1 << 30)
ROOMY = {"bank_lines": 4000, "sum_lines": 4000}


@pytest.mark.parametrize("flow", FLOWS)
@FEW
@given(data=st.data(), case=gemms(), seed=SEEDS)
def test_searched_gemm_multiplies(flow, data, case, seed):
    searched_gemm(data.draw(accelerators(flow)), case, seed)


@pytest.mark.parametrize("flow", FLOWS)
@FEW
@given(data=st.data(), case=gemms(), seed=SEEDS)
def test_gemm_of_any_tile_multiplies(flow, data, case, seed):
    tiled_gemm(data.draw(accelerators(flow, **ROOMY)), case, seed, data.draw)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(
    "options",
    [{"wgrad": True}, *({"transpose_a": a, "transpose_b": b, "bias": c} for a, b, c in product((False, True), repeat=3))],
    ids=lambda o: "-".join(name for name, on in o.items() if on) or "plain",
)
def test_gemm_multiplies_with_every_option(flow, options):
    for hw in (accelerator(flow, 2, 3, bank_lines=8, sum_lines=9), accelerator(flow, 4, 2, bank_lines=6, sum_lines=6)):
        searched_gemm(hw, (11, 7, 10, options), 5)


# ----------------------------------------------------------------------------------------------------------- convolution


class Conv:
    """One convolution with random operands, computed by loops; `reach` walks over (output, tap, input) positions."""

    def __init__(self, batch, size, channels, out, kernel, stride, padding, dilation, groups, seed):
        self.kernel, self.stride, self.padding, self.dilation, self.groups = kernel, stride, padding, dilation, groups
        self.in_size = size
        self.out_size = tuple(
            (size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2)
        )
        self.x_shape, self.y_shape = (batch, *size, groups * channels), (batch, *self.out_size, groups * out)
        self.w_shape = groups * out, *kernel, channels
        self.attrs = MappingProxyType({"stride": stride, "padding": padding, "dilation": dilation, "groups": groups})
        rng = np.random.default_rng(seed)
        self.x, self.w, self.dy = (integers(rng, *shape) for shape in (self.x_shape, self.w_shape, self.y_shape))
        self.bias = integers(rng, groups * out)

    def __repr__(self):
        return f"Conv(x {self.x_shape}, w {self.w_shape}, y {self.y_shape}, {dict(self.attrs)})"

    def reach(self) -> Iterator[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
        for p, tap in product(np.ndindex(*self.out_size), np.ndindex(*self.kernel)):
            q = tuple(p[i] * self.stride[i] - self.padding[i] + tap[i] * self.dilation[i] for i in range(2))
            if 0 <= q[0] < self.in_size[0] and 0 <= q[1] < self.in_size[1]:
                yield p, tap, q

    def split(self, tensor, axis):
        """The same array with its channel axis as (groups, channels)."""
        shape = list(tensor.shape)
        shape[axis : axis + 1] = [self.groups, shape[axis] // self.groups]
        return tensor.reshape(shape)

    def forward(self):
        y = np.zeros(self.y_shape)
        x, w, out = self.split(self.x, 3), self.split(self.w, 0), self.split(y, 3)
        for (i, j), (r, s), (h, v) in self.reach():
            out[:, i, j] += np.einsum("bgc,gnc->bgn", x[:, h, v], w[:, :, r, s])
        return y

    def dgrad(self):
        dx = np.zeros(self.x_shape)
        dy, w, out = self.split(self.dy, 3), self.split(self.w, 0), self.split(dx, 3)
        for (i, j), (r, s), (h, v) in self.reach():
            out[:, h, v] += np.einsum("bgn,gnc->bgc", dy[:, i, j], w[:, :, r, s])
        return dx

    def wgrad(self):
        dw = np.zeros(self.w_shape)
        dy, x, out = self.split(self.dy, 3), self.split(self.x, 3), self.split(dw, 0)
        for (i, j), (r, s), (h, v) in self.reach():
            out[:, :, r, s] += np.einsum("bgn,bgc->gnc", dy[:, i, j], x[:, h, v])
        return dw

    def macs(self, phase):
        """Every output of the phase takes all of its taps, those in the padding too."""
        if phase != "dgrad":
            return prod(self.y_shape) * prod(self.w_shape[1:])
        pairs = 1
        for i in range(2):
            positions = product(range(self.in_size[i]), range(self.kernel[i]))
            pairs *= sum((q + self.padding[i] - r * self.dilation[i]) % self.stride[i] == 0 for q, r in positions)
        return pairs * self.x_shape[0] * self.w_shape[0] * self.w_shape[3]

    def op(self, phase, bias):
        """The op and its graph, as a training step has them."""
        roles = {"x": Role.ACTIVATION, "w": Role.WEIGHT, "y": Role.ACTIVATION, "bias": Role.VECTOR_PARAMETER}
        roles |= {"dy": Role.GRADIENT, "dx": Role.GRADIENT, "dw": Role.WEIGHT_GRADIENT}
        shapes = {"x": self.x_shape, "w": self.w_shape, "y": self.y_shape, "bias": self.bias.shape}
        inputs, output = {
            "forward": (("x", "w", "bias")[: 2 + bias], "y"),
            "dgrad": (("dy", "w"), "dx"),
            "wgrad": (("x", "dy"), "dw"),
        }[phase]
        names = (*inputs, output)
        tensors = {n: Tensor(n, shapes[n if n in shapes else n[1:]], roles[n]) for n in names}
        kind = "conv2d" if phase == "forward" else f"conv2d_{phase}"
        op = Op("conv", kind, Phase.FORWARD, inputs, (output,), self.attrs)
        return op, Graph("g", self.x_shape[0], tensors, (op,))


@st.composite
def convs(draw, seed=None):
    def pairs(low, high):
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kernel, stride, padding, dilation = pairs(1, 3), pairs(1, 3), pairs(0, 2), pairs(1, 2)
    least = tuple(max(1, dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i]) for i in range(2))
    size = tuple(draw(st.integers(low, max(low, 7))) for low in least)
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    depthwise = groups > 1 and draw(st.booleans())
    channels, out = (1, 1) if depthwise else (draw(st.integers(1, 9 // groups)), draw(st.integers(1, 9 // groups)))
    batch = draw(st.integers(1, 3))
    return Conv(batch, size, channels, out, kernel, stride, padding, dilation, groups, draw(SEEDS) if seed is None else seed)


PHASES = ("forward", "dgrad", "wgrad")


def conv_memories(conv: Conv, phase, bias, hw: Accelerator):
    op, graph = conv.op(phase, bias)
    tensors, bus = operands_of(op, graph), hw.dram.bytes_per_cycle
    memories = [Memory.of(t.shape, element_bytes(t, hw), bus, getattr(conv, n)) for t, n in zip(tensors, op.inputs, strict=False)]
    return [*memories, Memory.of(tensors[-1].shape, element_bytes(tensors[-1], hw), bus)]


def searched_conv(hw: Accelerator, conv: Conv, phase, bias=False):
    op, graph = conv.op(phase, bias)
    hw, plan = fitting(hw, lambda hw: plan_op(op, graph, hw))
    memories = conv_memories(conv, phase, bias, hw)
    machine, cycles = execute(plan.segments, hw, memories)
    assert_result(memories[-1], getattr(conv, phase)() + (conv.bias if bias else 0))
    assert machine.macs == conv.macs(phase)
    assert cycles == plan.cycles


def tiled_conv(hw: Accelerator, conv: Conv, phase, bias, tile_of):
    """Run the segments with given tiles; positions that no tap reaches stay as they were."""
    segments = conv_segments(phase, conv.x_shape, conv.w_shape, conv.y_shape, conv.attrs, hw, bias=bias)[0]
    memories = conv_memories(conv, phase, bias, hw)
    machine, _ = execute([emitted(segment, hw, tile_of(segment)) for segment in segments], hw, memories)
    expected = getattr(conv, phase)() + (conv.bias if bias else 0)
    result = memories[-1]
    untouched = np.isnan(result.values())
    np.testing.assert_array_equal(np.where(untouched, 0, result.values()), expected)
    assert phase == "dgrad" or not untouched.any()
    np.testing.assert_array_equal(result.stores, result.inside & ~np.isnan(result.cells))
    assert machine.macs == conv.macs(phase)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("phase", PHASES)
@FEW
@given(data=st.data(), conv=convs(), bias=st.booleans())
def test_searched_convolution_computes(phase, flow, data, conv, bias):
    searched_conv(data.draw(accelerators(flow)), conv, phase, bias and phase == "forward")


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("phase", PHASES)
@FEW
@given(data=st.data(), conv=convs(), bias=st.booleans())
def test_convolution_of_any_tile_computes(phase, flow, data, conv, bias):
    hw = data.draw(accelerators(flow, **ROOMY))
    tiled_conv(hw, conv, phase, bias and phase == "forward", lambda segment: random_tile(segment, hw, data.draw))


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("phase", PHASES)
def test_convolution_of_every_candidate_computes(phase, flow):
    conv = Conv(2, (4, 5), 5, 4, (2, 3), (1, 2), (1, 1), (1, 1), 1, seed=3)
    hw = accelerator(flow, 2, 3, bank_lines=40, sum_lines=24, banks=8)
    (segment, *_), _ = conv_segments(phase, conv.x_shape, conv.w_shape, conv.y_shape, conv.attrs, hw)
    tiles = candidates(segment, hw)
    assert len(tiles) > 10
    rng = np.random.default_rng(1)
    for tile in tiles[rng.choice(len(tiles), min(len(tiles), 12), replace=False)]:
        # The other segments of a strided dgrad have sizes of their own: give each its first candidate.
        tiled_conv(hw, conv, phase, False, lambda s, t=tile: with_defer(t if s == segment else candidates(s, hw)[0], rng))


def with_defer(tile, rng):
    tile = tile.copy()
    tile[_kernels.TILE["DEFER"]] = rng.integers(1, 3)
    return tile


def test_dgrad_stores_zeros_where_no_tap_reaches():
    conv = Conv(2, (7, 6), 3, 4, (1, 2), (3, 3), (0, 1), (1, 1), 1, seed=0)
    assert conv_segments("dgrad", conv.x_shape, conv.w_shape, conv.y_shape, conv.attrs, accelerator())[1]
    for flow in FLOWS:
        searched_conv(accelerator(flow), conv, "dgrad")


# ------------------------------------------------------------------------------------------------------------ long sweeps


@pytest.mark.long
@MANY
@given(hw=accelerators(), case=gemms(), seed=SEEDS)
def test_searched_gemm_multiplies_long(hw, case, seed):
    searched_gemm(hw, case, seed)


@pytest.mark.long
@MANY
@given(data=st.data(), hw=accelerators(**ROOMY), case=gemms(), seed=SEEDS)
def test_gemm_of_any_tile_multiplies_long(data, hw, case, seed):
    tiled_gemm(hw, case, seed, data.draw)


@pytest.mark.long
@pytest.mark.parametrize("phase", PHASES)
@MANY
@given(hw=accelerators(), conv=convs(), bias=st.booleans())
def test_searched_convolution_computes_long(phase, hw, conv, bias):
    searched_conv(hw, conv, phase, bias and phase == "forward")


@pytest.mark.long
@pytest.mark.parametrize("phase", PHASES)
@MANY
@given(data=st.data(), hw=accelerators(**ROOMY), conv=convs(), bias=st.booleans())
def test_convolution_of_any_tile_computes_long(phase, data, hw, conv, bias):
    tiled_conv(hw, conv, phase, bias and phase == "forward", lambda segment: random_tile(segment, hw, data.draw))
