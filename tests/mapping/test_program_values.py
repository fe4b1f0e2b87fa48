"""Does a program that mapping emits do its op? Executed by tests/mapping/interpreter.py, against loops in numpy.

Values are small integers in float64, so that equality is exact whatever the order of the sums. Accelerators are tiny,
so that every tensor is cut into tiles with edges.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import HealthCheck, currently_in_test_context, given, reject, settings
from hypothesis import strategies as st

from hwsim.energy import ACTIONS
from hwsim.energy.counting import count_actions
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.mapping import _kernels, conv_segments, gemm_segment, plan_key, plan_op, plan_segments
from hwsim.mapping.layout import dispatch_cycles, element_bytes
from hwsim.mapping.matrix import machine_vector
from hwsim.mapping.stream import tile_stream
from hwsim.mapping.vector import STREAMS, operands_of
from hwsim.program import FIELDS, HAND_OVER_CYCLES, STORE_LEAVES_CYCLES, Program, Unit
from hwsim.timing import command_times, simulate_events, simulate_rows
from hwsim.workload import Network, inference_graph, training_graph, with_recompute
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
FEW = settings(max_examples=80, deadline=None, derandomize=True)
MANY = settings(max_examples=1500, deadline=None)

# -------------------------------------------------------------------------------------------------- accelerators


def accelerator(
    flow="ws", rows=2, cols=3, beat=8, operand_format="bf16", bank_lines=64, sum_lines=64, **others
) -> Accelerator:
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
        dram={
            "kind": "LPDDR4-2400",
            "bytes_per_cycle": beat * others.get("channels", 1),
            "channels": others.get("channels", 1),
            "latency_cycles": others.get("latency", 7),
        },
        control={"fetch_bytes_per_cycle": others.get("fetch", 64), "queue_depth": others.get("queue", 8)},
    )


@st.composite
def accelerators(draw, flow=None, bank_lines=None, sum_lines=None):
    number, cols = st.integers, draw(st.integers(2, 4))
    return accelerator(
        flow or draw(st.sampled_from(FLOWS)),
        draw(number(2, 4)),
        cols,
        draw(st.sampled_from((2, 4, 8, 16))),
        draw(st.sampled_from(("bf16", "int8", "fp32"))),
        bank_lines=bank_lines or draw(number(2, 24)),
        sum_lines=sum_lines or draw(number(2, 24)),
        banks=draw(number(4, 9)),
        alpha=draw(number(1, 3)),
        mu=draw(number(0, 2)),
        beta=draw(number(1, 4)),
        lanes=draw(number(1, cols)),
        channels=draw(st.sampled_from((1, 1, 2, 4))),
        vector_latency=draw(number(1, 9)),
        latency=draw(number(1, 40)),
        fetch=draw(st.sampled_from((8, 32, 128))),
        queue=draw(number(4, 9)),
    )


def roomier(hw: Accelerator) -> Accelerator:
    """The same accelerator with twice the memory."""

    def more(part):
        return part.model_copy(update={"capacity_bytes": part.capacity_bytes * 2})

    return hw.model_copy(update={"scratchpad": more(hw.scratchpad), "accumulator": more(hw.accumulator)})


def fitting(hw: Accelerator, attempt):
    """Let the memories grow until the smallest tile fits: they are then about as small as they can be."""
    while True:
        try:
            return hw, attempt(hw)
        except HwsimError as error:
            if "must fit" not in str(error):
                raise
            hw = roomier(hw)


# ----------------------------------------------------------------------------------------------------- execution


def disturbed(flat, rng):
    """The timing rows with other durations; ends of a unit stay in order, as the program contract asks."""
    rows = flat[:, :6].copy()
    busy = rows[:, 0] != Unit.CONTROL
    rows[busy, 1] = rng.integers(1, 60, busy.sum())
    for unit in range(4):
        rows[rows[:, 0] == unit, 2] = HAND_OVER_CYCLES if unit == Unit.VECTOR else rng.integers(0, 60)
    return rows


def effective(rows, start, end):
    """When each command's slots are full or free: its end, for a store when its data have left."""
    return np.where(rows[:, 0] == Unit.STORE, np.minimum(start + rows[:, 1] + STORE_LEAVES_CYCLES, end), end)


def check_timing(program: Program, flat, hw: Accelerator, seed, in_order) -> int:
    """Durations, order in time (other durations too), one answer of all ways to time a program; gives its cycles."""
    queue, pace = hw.control.queue_depth, dispatch_cycles(hw)
    interpreter.check_durations(flat, hw)
    line = simulate_events(flat[:, :6], queue, pace)
    in_order(line.start, effective(flat, line.start, line.end))
    rng = np.random.default_rng(seed)
    for _ in range(2):
        rows = disturbed(flat, rng)
        times = command_times(rows, queue, pace)
        in_order(times[:, 0], effective(rows, times[:, 0], times[:, 1]))
    for timing in (simulate_rows(program.items, queue, pace), simulate_rows(flat, queue, pace, jump=False)):
        assert timing.cycles == line.cycles
        np.testing.assert_array_equal(timing.busy_cycles, line.busy_cycles)
        np.testing.assert_array_equal(timing.stall_cycles, line.stall_cycles)
    return line.cycles


def execute(programs, hw: Accelerator, memories, seed=0):
    """Run segments; check their timing and their counts; give the machine and the cycles."""
    if sum(p.commands for p in programs) > MOST_COMMANDS and currently_in_test_context():
        reject()
    machine, cycles = interpreter.Machine(hw, memories), 0
    for program in programs:
        flat = program.expand()
        machine.run(flat)
        cycles += check_timing(program, flat, hw, seed, partial(interpreter.check_slots, flat))
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
    whole_lines = max(1, hw.dram.beat_bytes // hw.operand_bytes)
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


# ---------------------------------------------------------------------------------------------------------- GEMM


@st.composite
def gemms(draw):
    m, k, n = (draw(st.integers(1, 13)) for _ in range(3))
    if draw(st.booleans()):
        return m, k, n, {"wgrad": True}
    return m, k, n, {name: draw(st.booleans()) for name in ("transpose_a", "transpose_b", "bias")}


def gemm_memories(m, k, n, options, hw: Accelerator, seed):
    """Operands of a GEMM in DRAM by operand index, and what must come out."""
    rng, e, bus = np.random.default_rng(seed), hw.operand_bytes, hw.dram.beat_bytes
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
    [
        {"wgrad": True},
        *({"transpose_a": a, "transpose_b": b, "bias": c} for a, b, c in product((False, True), repeat=3)),
    ],
    ids=lambda o: "-".join(name for name, on in o.items() if on) or "plain",
)
def test_gemm_multiplies_with_every_option(flow, options):
    for hw in (accelerator(flow, 2, 3, bank_lines=8, sum_lines=9), accelerator(flow, 4, 2, bank_lines=6, sum_lines=6)):
        searched_gemm(hw, (11, 7, 10, options), 5)


# --------------------------------------------------------------------------------------------------- convolution


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
    return Conv(
        batch, size, channels, out, kernel, stride, padding, dilation, groups, draw(SEEDS) if seed is None else seed
    )


PHASES = ("forward", "dgrad", "wgrad")


def conv_memories(conv: Conv, phase, bias, hw: Accelerator):
    op, graph = conv.op(phase, bias)
    tensors, bus = operands_of(op, graph), hw.dram.beat_bytes
    memories = [
        Memory.of(t.shape, element_bytes(t, hw), bus, getattr(conv, n))
        for t, n in zip(tensors, op.inputs, strict=False)
    ]
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
        tiled_conv(
            hw, conv, phase, False, lambda s, t=tile: with_defer(t if s == segment else candidates(s, hw)[0], rng)
        )


def with_defer(tile, rng):
    tile = tile.copy()
    tile[_kernels.TILE["DEFER"]] = rng.integers(1, 3)
    return tile


def test_dgrad_stores_zeros_where_no_tap_reaches():
    conv = Conv(2, (7, 6), 3, 4, (1, 2), (3, 3), (0, 1), (1, 1), 1, seed=0)
    assert conv_segments("dgrad", conv.x_shape, conv.w_shape, conv.y_shape, conv.attrs, accelerator())[1]
    for flow in FLOWS:
        searched_conv(accelerator(flow), conv, "dgrad")


# ------------------------------------------------------------------------------------------------------- streams

ELEMENTWISE = ("relu", "relu6", "add", "relu_dgrad", "relu6_dgrad", "mean_squared_error_dgrad", "mean_squared_error")
ELEMENTWISE += tuple(f"{name}_update" for name in ("sgd", "momentum", "nesterov", "adam", "adamw"))
ONCE = (*ELEMENTWISE, "flatten", "flatten_dgrad", "global_avg_pool", "global_avg_pool_dgrad", "bias_grad")
ONCE += ("softmax_cross_entropy", "softmax_cross_entropy_dgrad", "batchnorm_wgrad", "batchnorm_dgrad")


def tiles_of(flat):
    """Cut a stream's commands into tiles: a load after anything else begins one."""
    starts = [i for i in range(1, len(flat)) if flat[i, 0] == Unit.LOAD and flat[i - 1, 0] != Unit.LOAD]
    return [range(a, b) for a, b in zip(starts, [*starts[1:], len(flat)], strict=True)]


def check_stream_order(tiles, flat, start, end):
    """A slot's loads wait for its last tile, micro-operations for loads, stores for micro-operations."""
    slots = [0, 0]
    loaded = computed = 0
    inside = {i: tile for tile in tiles for i in tile}
    for i, (unit, s, e) in enumerate(zip(flat[:, 0], start, end, strict=True)):
        slot = flat[i, interpreter.F.SLOT_A]
        if unit == Unit.LOAD:
            assert i not in inside or s >= slots[slot], f"slot {slot} is overwritten at {s}, in use until {slots[slot]}"
            loaded = max(loaded, e)
        elif unit == Unit.VECTOR:
            assert s >= loaded, f"command {i} computes at {s} what is there at {loaded}"
            computed = max(computed, e)
        elif unit == Unit.STORE:
            assert s >= computed, f"command {i} stores at {s} what is there at {computed}"
        if i in inside and unit != Unit.CONTROL:
            last = i + 1 == inside[i].stop
            slots[slot] = max(slots[slot], e) if unit != Unit.LOAD or last else slots[slot]


def reached(op, need, shape, backwards):
    """Pixels that windows connect to those of `need`: inputs of outputs, or (backwards) outputs of inputs."""
    kernel, stride, padding = (op.attrs[name] for name in ("kernel", "stride", "padding"))
    found = np.zeros(shape, bool)
    small, large = (shape, need.shape) if backwards else (need.shape, shape)
    for i, j in np.ndindex(small[1:3]):
        for r, c in np.ndindex(*kernel):
            h, w = i * stride[0] - padding[0] + r, j * stride[1] - padding[1] + c
            if 0 <= h < large[1] and 0 <= w < large[2]:
                a, b = ((i, j), (h, w)) if backwards else ((h, w), (i, j))
                found[:, a[0], a[1]] |= need[:, b[0], b[1]]
    return found


def needed(op, tensors, stored):
    """What a tile must have loaded, by operand, given what it stores: {operand: mask}."""
    shapes, last = [t.shape for t in tensors], len(tensors) - 1
    if op.kind in ("max_pool", "avg_pool"):
        return {0: reached(op, stored[last], shapes[0], False)}
    if op.kind == "avg_pool_dgrad":
        return {0: reached(op, stored[last], shapes[0], True)}
    if op.kind == "max_pool_dgrad":
        windows = reached(op, stored[last], shapes[1], True)
        return {2: windows, 1: windows, 0: reached(op, windows, shapes[0], False)}
    if op.kind == "global_avg_pool":
        return {0: np.broadcast_to(stored[1][:, None, None], shapes[0])}
    if op.kind == "global_avg_pool_dgrad":
        return {0: stored[1].any(axis=(1, 2))}
    if op.kind in ("flatten", "flatten_dgrad") or (op.kind in ELEMENTWISE and op.kind != "mean_squared_error"):
        first, mask = len(op.inputs), stored[last]
        assert all((other.ravel() == mask.ravel()).all() for other in stored[first:])
        return {i: mask.reshape(shapes[i]) for i in range(first)}
    same = {"batchnorm": {0: 5}, "batchnorm_dgrad": {0: 7, 1: 7}, "softmax_cross_entropy": {0: 3}}
    same |= {"softmax_cross_entropy_dgrad": {0: 2}, "batchnorm_apply": {0: 5}, "batchnorm_inference": {0: 5}}
    found = {i: stored[o] for i, o in same.get(op.kind, {}).items()}
    if op.kind.startswith("softmax"):
        found[1] = stored[same[op.kind][0]].any(axis=1)
    return found


def check_tile(op, tensors, memories, rows, hw):
    """One tile: it fits the accumulator, and what it stores depends on nothing that it did not load."""
    held = 0
    loaded, stored = ([np.zeros(m.cells.shape, bool) for m in memories] for _ in range(2))
    for row in rows:
        if row[0] not in (Unit.LOAD, Unit.STORE):
            continue
        addresses, inside = interpreter.box(row)
        memory = memories[row[interpreter.F.OPERAND]]
        index = memory.index(addresses[inside], row[interpreter.F.LINE_BYTES])
        (loaded if row[0] == Unit.LOAD else stored)[row[interpreter.F.OPERAND]][index] = True
        if row[0] == Unit.LOAD:
            held += inside.size * -(-row[interpreter.F.LINE_BYTES] // memory.size // hw.array.cols)
    assert held <= hw.accumulator_slot_lines, f"the loads of a tile fill {held} lines"
    found, results = (
        [mask[m.inside].reshape(m.shape) for mask, m in zip(masks, memories, strict=True)] for masks in (loaded, stored)
    )
    for operand, mask in needed(op, tensors, results).items():
        assert (found[operand] | ~mask).all(), f"{op.kind}: a tile stores what depends on unloaded operand {operand}"


def check_stream(op, tensors, stream, hw: Accelerator, memories, seed):
    """Addresses, order, timing and counts of one streamed segment."""
    program, cycles, _ = tile_stream(stream, hw, op.name)
    flat = program.expand()
    if len(flat) > MOST_COMMANDS:
        reject()
    machine = interpreter.Machine(hw, memories)
    for row in flat.tolist():
        if row[0] in (Unit.LOAD, Unit.STORE):
            machine.access(row)
    before = sum(
        len(part)
        for part in ((stream.prologue.loads, stream.prologue.micros, stream.prologue.stores) if stream.prologue else ())
    )
    body = flat[1 + before :]
    tiles = [range(t.start + before, t.stop + before) for t in tiles_of(np.vstack([flat[:1], body]))]
    for tile in tiles:
        check_tile(op, tensors, memories, flat[tile].tolist(), hw)

    def in_order(start, end):
        check_stream_order(tiles, flat, start, end)

    assert check_timing(program, flat, hw, seed, in_order) == cycles
    counts = count_actions(program, hw, cycles)
    found = dict(zip(ACTIONS, counts.actions.tolist(), strict=True))
    assert (found["dram.read_bytes"], found["dram.write_bytes"]) == (machine.read_bytes, machine.write_bytes)


def check_streamed_op(op, graph, hw: Accelerator, seed=0):
    """Every stream of an op: outputs are stored once, inputs are loaded, once where each is needed once."""
    tensors = operands_of(op, graph)

    def attempt(hw):
        streams = STREAMS[op.kind](op, tensors, hw)
        for stream in streams:
            tile_stream(stream, hw, op.name)
        return streams

    hw, streams = fitting(hw, attempt)
    memories = [Memory.of(t.shape, element_bytes(t, hw), hw.dram.beat_bytes) for t in tensors]
    for stream in streams:
        check_stream(op, tensors, stream, hw, memories, seed)
    if not streams:
        assert op.kind in ("flatten", "flatten_dgrad")
        return
    for i, memory in enumerate(memories):
        loads, stores = memory.loads[memory.inside], memory.stores[memory.inside]
        if i >= len(op.inputs):
            assert (stores == 1).all(), f"{op.kind}: output {i} is stored {stores.min()} to {stores.max()} times"
            continue
        assert (stores == 0).all()
        if op.kind in ONCE:
            assert (loads == 1).all(), f"{op.kind}: input {i} is loaded {loads.min()} to {loads.max()} times"
        elif "pool" not in op.kind:
            assert (loads > 0).all(), f"{op.kind}: input {i} is not loaded"


@st.composite
def pools(draw):
    """Kernel, stride and padding of a pool."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    return kernel, stride, tuple(draw(st.integers(0, k // 2)) for k in kernel)


def network(batch, size, channels, first, second, ends, width=5):
    """A network of every kind that is streamed; pools are (kernel, stride, padding)."""
    net = Network("net", batch)
    x = net.input((*size, 2)).conv2d(channels, 1, bias=True).batchnorm().relu()
    x = (x + x.relu6()).max_pool(*first).avg_pool(*second)
    x = x.global_avg_pool() if ends[0] == "global" else x.flatten()
    x = x.linear(width)
    return x.softmax_cross_entropy() if ends[1] == "softmax" else x.mean_squared_error()


OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw")


def streamed(graph, optimizer, hw: Accelerator):
    """The streamed ops of a training step, one of each that are alike."""
    step = training_graph(graph, optimizer=optimizer, master_weights=hw.array.operand_format != "fp32")
    return step, {plan_key(op, step): op for op in step.ops if op.kind in STREAMS}.values()


def op_of(kind, graph):
    """The first op of a kind."""
    return next(op for op in graph.ops if op.kind == kind)


@st.composite
def networks(draw):
    """Arguments of `network`."""
    number = st.integers
    return {
        "batch": draw(number(1, 5)),
        "size": draw(st.tuples(number(4, 11), number(4, 11))),
        "channels": draw(number(1, 9)),
        "first": draw(pools()),
        "second": draw(pools()),
        "ends": draw(st.tuples(st.sampled_from(("global", "flatten")), st.sampled_from(("softmax", "squared")))),
        "width": draw(number(1, 9)),
    }


def check_streams(net, optimizer, hw: Accelerator, seed):
    try:
        graph = network(**net)
    except HwsimError:  # a window larger than its image
        reject()
    step, ops = streamed(graph, optimizer, hw)
    for op in ops:
        check_streamed_op(op, step, hw, seed)
    recomputing = with_recompute(step, "cheap")
    check_streamed_op(op_of("batchnorm_apply", recomputing), recomputing, hw, seed)


@settings(FEW, max_examples=30, suppress_health_check=[HealthCheck.filter_too_much])
@given(net=networks(), optimizer=st.sampled_from(OPTIMIZERS), hw=accelerators(), seed=SEEDS)
def test_streams_move_every_element(net, optimizer, hw, seed):
    check_streams(net, optimizer, hw, seed)


POOLS = [
    ((2, 2), (2, 2), (0, 0)),
    ((3, 3), (2, 2), (1, 1)),
    ((3, 2), (1, 2), (1, 1)),
    ((2, 2), (3, 3), (1, 1)),
    ((4, 3), (2, 1), (2, 0)),
]


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_pools_load_every_window(pool):
    graph = network(2, (9, 8), 5, pool, ((1, 1), (1, 1), (0, 0)), ("global", "softmax"))
    same = network(2, (9, 8), 5, ((1, 1), (1, 1), (0, 0)), pool, ("global", "softmax"))
    for lines, number in product((6, 40, 400), (graph, same)):
        hw = accelerator(cols=3, sum_lines=lines)
        step, ops = streamed(number, "sgd", hw)
        for op in ops:
            if "pool" in op.kind:
                check_streamed_op(op, step, hw)


def test_every_stream_is_looked_at():
    seen = set()
    for optimizer, ends in product(OPTIMIZERS, (("global", "softmax"), ("flatten", "squared"))):
        hw = accelerator(sum_lines=12)
        graph = network(3, (6, 7), 5, POOLS[1], POOLS[0], ends)
        step, ops = streamed(graph, optimizer, hw)
        for op in ops:
            if op.kind not in seen:
                check_streamed_op(op, step, hw)
        seen |= {op.kind for op in ops}
    others = {"batchnorm_inference": inference_graph(graph), "batchnorm_apply": with_recompute(step, "cheap")}
    for kind, other in others.items():
        check_streamed_op(op_of(kind, other), other, hw)
        seen.add(kind)
    assert seen == set(STREAMS)


# --------------------------------------------------------------------------------------------------- long sweeps


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


@pytest.mark.long
@settings(MANY, max_examples=300, suppress_health_check=[HealthCheck.filter_too_much])
@given(net=networks(), optimizer=st.sampled_from(OPTIMIZERS), hw=accelerators(), seed=SEEDS)
def test_streams_move_every_element_long(net, optimizer, hw, seed):
    check_streams(net, optimizer, hw, seed)
