"""Does the machine compute what programs say, whatever order their semaphores allow?"""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hwsim.errors import HwsimError
from hwsim.hardware import Dataflow, load_accelerator
from hwsim.mapping import _kernels, gemm_segment, plan_segments
from hwsim.mapping.matrix import machine_vector
from hwsim.mapping.plan import Stored, set_formats
from hwsim.numerics import FLOATS, Lfsr, from_format, matmul, storage_dtype, to_format
from hwsim.program import FIELDS, Field, MoveField, Program, Semaphore, Unit
from hwsim.values.machine import Core, Machine, order_of
from hwsim.values.reference import initial, run
from hwsim.workload import Network, training_graph
from hwsim.workload.graph import Role

BASE = load_accelerator("edge-8x8-bf16")
FORMATS = ("int8", "fp8_e4m3", "fp8_e5m2", "bf16", "fp16", "fp32")


def accelerator(
    rows=4, cols=4, flow="ws", fmt="bf16", alpha=1, banks=8, scratchpad=8192, accumulator=8192, lanes=None, latency=4
):
    return BASE.model_copy(
        update={
            "array": BASE.array.model_copy(
                update={
                    "rows": rows,
                    "cols": cols,
                    "dataflow": Dataflow(flow),
                    "operand_format": fmt,
                    "add_latency_cycles": alpha,
                }
            ),
            "scratchpad": BASE.scratchpad.model_copy(update={"capacity_bytes": scratchpad, "banks": banks}),
            "accumulator": BASE.accumulator.model_copy(update={"capacity_bytes": accumulator}),
            "vector": BASE.vector.model_copy(update={"lanes": lanes or cols, "latency_cycles": latency}),
        }
    )


@st.composite
def accelerators(draw, formats=("fp32",)):
    cols = draw(st.integers(2, 9))
    return accelerator(
        draw(st.integers(2, 9)),
        cols,
        draw(st.sampled_from(["ws", "is", "os"])),
        draw(st.sampled_from(formats)),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([4, 8, 16])),
        draw(st.sampled_from([4096, 16384])),
        draw(st.sampled_from([4096, 16384])),
        draw(st.integers(1, cols)),
        draw(st.integers(1, 12)),
    )


def random_bits(rng, shape, fmt):
    """Finite numbers of a format, zeros among them."""
    if fmt == "int8":
        return rng.integers(-127, 128, shape).astype(np.int8)
    values = rng.standard_normal(shape) * (rng.random(shape) > 0.2)
    return to_format(values.astype(np.float32), fmt)


class Gemm:
    """A plan of one product on a machine's memory, operands one behind the other."""

    def __init__(self, hw, m, k, n, **options):
        self.hw, self.fmt = hw, hw.array.operand_format
        self.plan = plan_segments([gemm_segment(m, k, n, hw, **options)], [], hw, "gemm")
        a, b = (k, m) if options.get("transpose_a") else (m, k), (n, k) if options.get("transpose_b") else (k, n)
        if options.get("wgrad"):  # the pixel operand comes first: C (m, n) = Bᵀ · A
            a, b = (k, n), (k, m)
        self.out = "fp32" if options.get("wgrad") else self.fmt
        self.shapes = [(a, self.fmt), (b, self.fmt), ((m, n), self.out)]
        self.places, at = [], 0
        for (lines, width), fmt in self.shapes:
            size = np.dtype(storage_dtype(fmt)).itemsize
            pitch = -(-width * size // hw.dram.beat_bytes) * hw.dram.beat_bytes
            self.places.append((at, lines, pitch, fmt, width))
            at += lines * pitch
        self.bytes = at

    def lines(self, core, operand):
        at, lines, pitch, fmt, width = self.places[operand]
        return core.dram[at : at + lines * pitch].view(storage_dtype(fmt)).reshape(lines, -1)[:, :width]

    def run(self, a, b, *, eager=True, flat=None):
        core = Core(self.hw, self.bytes)
        core.clear()
        self.lines(core, 0)[:], self.lines(core, 1)[:] = a, b
        flat = self.plan.program.expand() if flat is None else flat.copy()
        moves = (flat[:, Field.UNIT] == Unit.LOAD) | (flat[:, Field.UNIT] == Unit.STORE)
        flat[moves, Field.OFFSET] += np.array([p[0] for p in self.places])[flat[moves, Field.OPERAND]]
        counts = core.execute(flat, order_of(flat, "gemm", eager=eager))
        return np.array(self.lines(core, 2)), counts


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    accelerators(FORMATS),
    st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 20)),
    st.sampled_from([{}, {"transpose_a": True}, {"transpose_b": True}, {"wgrad": True}]),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_gemms_of_all_formats_dataflows_and_transposes_are_the_scalar_reference_s(hw, size, options, seed, eager):
    m, k, n = size
    try:
        gemm = Gemm(hw, m, k, n, **options)
    except HwsimError:
        assume(False)
    rng = np.random.default_rng(seed)
    fmt = hw.array.operand_format
    (shape_a, _), (shape_b, _), _ = gemm.shapes
    a, b = random_bits(rng, shape_a, fmt), random_bits(rng, shape_b, fmt)
    left = a.T if options.get("transpose_a") else a
    right = b.T if options.get("transpose_b") else b
    if options.get("wgrad"):
        left, right = b.T, a
    tile = gemm.plan.tiles[0]
    sums = matmul(
        np.ascontiguousarray(left),
        np.ascontiguousarray(right),
        operand_format=fmt,
        dataflow=hw.array.dataflow.value,
        rows=hw.array.rows,
        add_latency_cycles=hw.array.add_latency_cycles,
        k_tile=tile["B"] if options.get("wgrad") else tile["C"],
    ).astype(np.float32)
    found, counts = gemm.run(a, b, eager=eager)
    expected = to_format(sums, gemm.out)
    assert found.tobytes() == np.ascontiguousarray(expected).tobytes()
    zero_a, zero_b = (from_format(np.ascontiguousarray(x), fmt) == 0 for x in (left, right))
    gated = sum(int(np.count_nonzero(zero_a[:, i][:, None] | zero_b[i][None])) for i in range(k))
    assert counts.tolist()[3:] == [m * k * n, gated]


def network(data, batch):
    """A random network of every kind of op; statistics are over enough values to be well conditioned."""
    draw = data.draw
    net = Network("random", batch)
    x = net.input((draw(st.integers(3, 8)), draw(st.integers(3, 8)), draw(st.integers(1, 5))))
    groups, bias = draw(st.sampled_from([1, 2])), draw(st.booleans())
    x = x.conv2d(2 * groups, draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 1)), bias=bias)
    if not bias and batch * x.shape[1] * x.shape[2] > 9:
        x = x.batchnorm()
    x = x.relu() if draw(st.booleans()) else x.relu6()
    if draw(st.booleans()):
        x = x.conv2d(x.shape[-1], 3, padding=1, bias=False).add(x)
    x = x.conv2d(
        3 * groups,
        kernel=draw(st.integers(1, 3)),
        stride=draw(st.integers(1, 3)),
        padding=draw(st.integers(0, 2)),
        dilation=draw(st.integers(1, 2)),
        groups=groups,
    )
    pool = draw(st.sampled_from(["max", "avg", "global", "none"]))
    size, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    if pool == "max":
        x = x.max_pool(size, stride=stride)
    elif pool == "avg":
        x = x.avg_pool(size, stride=stride)
    x = x.global_avg_pool() if pool == "global" else x.flatten()
    x = x.linear(draw(st.integers(1, 12)), bias=draw(st.booleans()), name="head")
    return x.softmax_cross_entropy() if draw(st.booleans()) else x.mean_squared_error()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), accelerators(), st.integers(1, 4), st.sampled_from(["sgd", "momentum", "nesterov", "adam", "adamw"]))
def test_steps_of_random_networks_follow_the_float64_reference(data, hw, batch, optimizer):
    try:
        graph = network(data, batch)
        step = training_graph(graph, optimizer=optimizer, master_weights=False)
        machines = [Machine(step, hw, eager=eager) for eager in (True, False)]
    except HwsimError:
        assume(False)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    given_values = dict(initial(step, 1))
    classes = step.tensors["head"].shape[-1]
    for tensor in step.tensors.values():
        if tensor.role is Role.INPUT or (tensor.role is Role.LABEL and len(tensor.shape) > 1):
            given_values[tensor.name] = rng.standard_normal(tensor.shape)
        elif tensor.role is Role.LABEL:
            given_values[tensor.name] = rng.integers(0, classes, tensor.shape)
    for machine in machines:
        machine.core.clear()
        for name, values in given_values.items():
            machine.write(name, values)
    expected = run(step, {name: machines[0].read(name) for name in given_values}, step_number=3)
    for machine in machines:
        machine.run(step_number=3)
    for op in step.ops:
        for name in op.outputs:
            found, right = machines[0].read(name), expected[name]
            # Adam divides gradients that are all rounding error by their size.
            if "adam" in op.kind and np.abs(expected[op.inputs[1]]).max() < 1e-5:
                continue
            assert np.abs(found - right).max() <= 1e-2 * (np.abs(right).max() + 1e-3), f"{op.kind}: {name}"
            assert (machines[1].stored(name).tobytes()) == machines[0].stored(name).tobytes(), name


def waits(flat, unit, semaphore, slot=None):
    """Commands of a unit that wait for a semaphore."""
    chosen = (flat[:, Field.UNIT] == unit) & (flat[:, Field.WAIT] >> semaphore & 1 == 1)
    return np.flatnonzero(chosen)


@pytest.mark.parametrize(
    ("unit", "semaphores"),
    [
        # Loads are in order, A before B: B's tokens say that A is there, and A's that B may be overwritten.
        (Unit.MATRIX, (Semaphore.A_FULL, Semaphore.B_FULL)),
        (Unit.MATRIX, (Semaphore.B_FULL,)),
        (Unit.LOAD, (Semaphore.A_FREE, Semaphore.B_FREE)),
        (Unit.LOAD, (Semaphore.A_FREE,)),
        (Unit.VECTOR, (Semaphore.SUM_FULL,)),
        (Unit.MATRIX, (Semaphore.SUM_FREE,)),
        (Unit.STORE, (Semaphore.OUT_FULL,)),
    ],
)
def test_a_semaphore_that_is_not_waited_for_shows_as_wrong_values(unit, semaphores):
    hw = accelerator(scratchpad=512, accumulator=512, banks=4)
    gemm = Gemm(hw, 24, 24, 24)
    rng = np.random.default_rng(0)
    a, b = random_bits(rng, (24, 24), "bf16"), random_bits(rng, (24, 24), "bf16")
    right = gemm.run(a, b)[0]
    assert (gemm.run(a, b, eager=False)[0] == right).all()
    flat = gemm.plan.program.expand()
    for semaphore in semaphores:
        chosen = waits(flat, unit, semaphore)
        assert len(chosen) > 2
        flat[chosen, Field.WAIT] -= 1 << semaphore
    assert any((gemm.run(a, b, eager=eager, flat=flat)[0] != right).any() for eager in (True, False))


def test_a_program_that_waits_for_ever_is_refused():
    flat = Gemm(accelerator(), 4, 4, 4).plan.program.expand()
    flat[flat[:, Field.UNIT] == Unit.LOAD, Field.POST] = 0
    with pytest.raises(HwsimError, match=r"^gemm: command \d+ of its program waits for ever$"):
        order_of(flat, "gemm")


def test_stochastic_rounding_draws_a_line_after_the_other_and_all_lanes_of_a_group():
    hw = accelerator(cols=6, lanes=4)
    net = Network("tiny", batch=5)
    graph = net.input((6,)).linear(10, bias=False, name="fc").mean_squared_error()
    tensors = dict(graph.tensors)
    y = graph.ops[0].outputs[0]
    tensors[y] = type(tensors[y])(y, tensors[y].shape, tensors[y].role, rounding="stochastic")
    machine = Machine(type(graph)(graph.name, graph.batch, tensors, graph.ops[:1]), hw, seed=7)
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((5, 6)), rng.standard_normal((10, 6))
    machine.write("input", x)
    machine.write("fc.weight", w)
    machine.run()
    sums = matmul(
        machine.stored("input"), np.ascontiguousarray(machine.stored("fc.weight").T), operand_format="bf16",
        dataflow="ws", rows=4,
    )  # fmt: skip
    # Two lines of six lanes per sample, the last two lanes of the second idle; 6 lanes are two groups of 4.
    words = Lfsr(7, 4).draw(10, 6).reshape(5, 12)[:, :10]
    assert (machine.stored(y) == to_format(sums, "bf16", rounding="stochastic", words=words)).all()
    assert (machine.stored(y) != to_format(sums, "bf16")).any()
    after = Lfsr(7, 4)
    after.draw(10, 6)
    assert (machine.lfsr_state == after.state).all()


def test_values_do_not_depend_on_the_number_of_threads():
    gemm = Gemm(load_accelerator("edge-32x32-bf16"), 200, 300, 250)
    rng = np.random.default_rng(3)
    a, b = random_bits(rng, (200, 300), "bf16"), random_bits(rng, (300, 250), "bf16")
    found = []
    threads = numba.get_num_threads()
    try:
        for n in (1, threads):
            numba.set_num_threads(n)
            found.append(gemm.run(a, b)[0])
    finally:
        numba.set_num_threads(threads)
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("exponents", [(0, 0, 0), (3, -2, 1), (-7, 5, -4)])
def test_exponents_scale_what_is_stored_and_nothing_else(exponents):
    net = Network("tiny", batch=4)
    graph = net.input((6,)).linear(5, name="fc").relu(name="relu").mean_squared_error()
    graph = type(graph)(graph.name, graph.batch, graph.tensors, graph.ops[:2])
    hw = accelerator(fmt="int8")
    machine = Machine(graph, hw)
    machine.exponents.update(zip(("input", "fc.weight", "fc"), exponents, strict=True))
    machine.exponents["relu"] = exponents[2]
    rng = np.random.default_rng(5)
    x, w = rng.integers(-20, 20, (4, 6)), rng.integers(-20, 20, (5, 6))
    scale = 2.0 ** np.array(exponents)
    bias = rng.integers(-9, 9, 5) * scale[0] * scale[1]
    for name, values in (("input", x * scale[0]), ("fc.weight", w * scale[1]), ("fc.bias", bias)):
        machine.write(name, values)
    assert (machine.stored("input") == x).all()
    assert (machine.read("input") == x * scale[0]).all()
    machine.run()
    real = (x * scale[0]) @ (w * scale[1]).T + bias
    expected = np.clip(np.rint(real / scale[2]), -127, 127)
    assert (machine.stored("fc") == expected).all()
    assert (machine.read("relu") == np.maximum(expected, 0) * scale[2]).all()


def test_counts_name_what_was_not_finite():
    net = Network("tiny", batch=2)
    graph = net.input((3,)).linear(2, bias=False, name="fc").mean_squared_error()
    machine = Machine(type(graph)(graph.name, graph.batch, graph.tensors, graph.ops[:1]), accelerator())
    machine.write("input", [[1, 2, 3], [3e38, 3e38, 3e38]])
    machine.write("fc.weight", [[1, 1, 1], [1, -1, np.nan]])
    (counts,) = machine.run()
    assert (counts.op, counts.invalid, counts.overflow, counts.nonfinite) == ("fc", 2, 0, 3)


def test_sums_that_leave_int32_are_counted():
    net = Network("long", batch=1)
    graph = net.input((140_000,)).linear(1, bias=False, name="fc").mean_squared_error()
    machine = Machine(type(graph)(graph.name, graph.batch, graph.tensors, graph.ops[:1]), accelerator(fmt="int8"))
    for name in ("input", "fc.weight"):
        machine.restore(name, np.full((1, 140_000), 127, np.int8))
    (counts,) = machine.run()
    assert counts.invalid == 1
    machine.restore("fc.weight", np.full((1, 140_000), 100, np.int8))
    (counts,) = machine.run()
    assert counts.invalid == 0


def test_an_infinity_that_saturates_is_counted():
    net = Network("tiny", batch=1)
    graph = net.input((2,)).linear(2, name="fc").mean_squared_error()
    machine = Machine(type(graph)(graph.name, graph.batch, graph.tensors, graph.ops[:1]), accelerator(fmt="fp8_e4m3"))
    machine.write("fc.bias", [np.inf, 500.0])
    (counts,) = machine.run()
    assert (counts.invalid, counts.overflow, counts.nonfinite) == (1, 2, 0)
    assert machine.read("fc").tolist() == [[448, 448]]


@pytest.mark.parametrize(("fmt", "other"), [("bf16", "fp32"), ("bf16", "int8"), ("int8", "bf16"), ("int8", "fp8_e4m3")])
def test_formats_that_the_array_does_not_have_are_refused(fmt, other):
    net = Network("tiny", batch=1)
    graph = net.input((2,)).linear(2, name="fc").mean_squared_error()
    tensors = {name: replace(t, format=other) if name == "input" else t for name, t in graph.tensors.items()}
    with pytest.raises(HwsimError, match=rf"^fc: 'input' is stored as {other}, and the array of edge-8x8-bf16 takes "):
        Machine(type(graph)(graph.name, graph.batch, tensors, graph.ops[:1]), accelerator(fmt=fmt))


@pytest.mark.parametrize("label", [0.5, 2.0**33])
def test_labels_are_whole_numbers(label):
    net = Network("tiny", batch=1)
    step = net.input((2,)).linear(2, name="fc").softmax_cross_entropy()
    labels = next(t.name for t in step.tensors.values() if t.role is Role.LABEL)
    with pytest.raises(HwsimError, match="class labels are whole numbers of 32 bits"):
        Machine(step, accelerator()).write(labels, [label])


def test_batchnorm_of_one_value_per_channel_is_refused():
    net = Network("tiny", batch=1)
    graph = net.input((2,)).linear(2, name="fc").batchnorm(name="bn").mean_squared_error()
    with pytest.raises(HwsimError, match=r"^bn: batchnorm needs 2 values per channel or more"):
        Machine(graph, accelerator())


#: What `fc` counts of the rows below: conversions of NaN, beyond the largest, infinities and NaNs stored.
COUNTS = {"bf16": (1, 1, 3), "fp16": (1, 1, 3), "fp8_e5m2": (1, 1, 3), "fp8_e4m3": (1, 1, 1), "fp32": (0, 0, 3)}


@pytest.mark.parametrize("fmt", COUNTS)
def test_counts_of_every_float_format(fmt):
    """One plain number, one that is rounded beyond the largest, a NaN, an infinity (448 in e4m3)."""
    net = Network("tiny", batch=4)
    graph = net.input((2,)).linear(1, bias=False, name="fc").mean_squared_error()
    machine = Machine(type(graph)(graph.name, graph.batch, graph.tensors, graph.ops[:1]), accelerator(fmt=fmt))
    f = FLOATS[fmt]
    exponent = (f.largest >> f.mantissa_bits) - f.bias
    largest = float(from_format(np.array([f.largest], f"u{f.bits // 8}").view(storage_dtype(fmt)), fmt)[0])
    machine.write("input", [[1, 1], [largest, 1.5 * 2.0 ** (exponent - f.mantissa_bits - 1)], [np.nan, 0], [np.inf, 0]])
    machine.write("fc.weight", [[1, 1]])
    (counts,) = machine.run()
    assert (counts.invalid, counts.overflow, counts.nonfinite) == COUNTS[fmt]


def test_counts_of_int8_are_saturations_of_both_signs():
    net = Network("tiny", batch=4)
    graph = net.input((2,)).linear(1, bias=False, name="fc").mean_squared_error()
    machine = Machine(type(graph)(graph.name, graph.batch, graph.tensors, graph.ops[:1]), accelerator(fmt="int8"))
    machine.write("input", [[100, 27], [100, 28], [-100, -27], [-100, -28]])
    machine.write("fc.weight", [[1, 1]])
    (counts,) = machine.run()
    assert (counts.invalid, counts.overflow, counts.nonfinite) == (0, 2, 0)
    assert machine.stored("fc").ravel().tolist() == [127, 127, -127, -127]


@pytest.mark.parametrize("flow", ["ws", "is", "os"])
@pytest.mark.parametrize("fmt", ["bf16", "int8"])
def test_lanes_without_a_sum_count_nothing(flow, fmt):
    """Five outputs of five samples on four columns: what lay in the other lanes is converted with them."""
    net = Network("tiny", batch=5)
    graph = net.input((3,)).linear(5, bias=False, name="fc").mean_squared_error()
    hw = accelerator(flow=flow, fmt=fmt)
    machine = Machine(type(graph)(graph.name, graph.batch, graph.tensors, graph.ops[:1]), hw)
    machine.core.accumulator[:] = 0x7FFFFFFF  # a NaN, or more than int8 holds
    machine.write("input", np.ones((5, 3)))
    machine.write("fc.weight", np.ones((5, 3)))
    (counts,) = machine.run()
    assert (machine.stored("fc") == machine.stored("fc")[0, 0]).all()
    assert (counts.invalid, counts.overflow, counts.nonfinite) == (0, 0, 0)


@pytest.mark.parametrize("rows", [2, 4])
@pytest.mark.parametrize("flow", ["ws", "is", "os"])
def test_idle_rows_make_a_flushed_minus_zero_plus(flow, rows):
    """2^-126 - 1.5 * 2^-126 is flushed to -0, to which every row without an operand adds +0."""
    gemm = Gemm(accelerator(rows, flow=flow), 1, 2, 1, wgrad=True)
    assert gemm.plan.tiles[0]["B"] == 2
    a, b = (to_format(np.ldexp(np.array(v, np.float32), -63), "bf16") for v in ([[1], [1]], [[1], [-1.5]]))
    found = gemm.run(a, b)[0]
    assert found.view(np.uint32).item() == (0 if rows == 4 and flow != "os" else 0x80000000)


@pytest.mark.parametrize("flow", ["ws", "is", "os"])
def test_int8_sums_beyond_the_exact_range_of_fp32(flow):
    """In one command, longer than any that the search chooses."""
    k = 5000
    gemm = Gemm(accelerator(flow=flow, fmt="int8", scratchpad=1 << 17), 3, k, 3, wgrad=True)
    tile = dict.fromkeys(_kernels.TILE, 1) | {"B": k, "C": 3, "N": 3, "EXPANDED": 0, "ORDER": 0}
    segment = gemm_segment(3, k, 3, gemm.hw, wgrad=True)
    items, steps = np.zeros((_kernels.MAX_ITEMS, FIELDS), np.int64), np.zeros((_kernels.MAX_STEPS, 4), np.int64)
    vectors = np.array(segment.values), machine_vector(gemm.hw), np.array(list(tile.values()))
    used, moved = _kernels.emit(*vectors, items, steps)
    program = Program(items[:used].copy(), steps[:moved].copy())
    set_formats(program, [Stored("int8"), Stored("int8"), Stored("fp32")])
    flat = program.expand()
    assert (flat[:, Field.UNIT] == Unit.MATRIX).sum() == 1
    rng = np.random.default_rng(4)
    a, b = (rng.integers(100, 128, (k, 3)).astype(np.int8) for _ in range(2))
    exact = b.T.astype(np.int64) @ a.astype(np.int64)
    assert exact.min() > 1 << 24
    assert (gemm.run(a, b, flat=flat)[0] == exact.astype(np.float32)).all()


def test_memory_is_given_back_bit_for_bit_and_bad_names_and_shapes_are_refused():
    net = Network("tiny", batch=3)
    step = training_graph(net.input((5,)).linear(4, name="fc").softmax_cross_entropy(), "adam")
    machine = Machine(step, accelerator())
    rng = np.random.default_rng(0)
    for name, tensor in step.tensors.items():
        bits = rng.integers(0, 256, machine.stored(name).nbytes, np.uint8).view(machine.stored(name).dtype)
        machine.restore(name, bits.reshape(tensor.shape))
        assert machine.stored(name).tobytes() == bits.tobytes()
    with pytest.raises(HwsimError, match=r"^tiny has no tensor 'x'; graph\.tensors lists them$"):
        machine.read("x")
    with pytest.raises(HwsimError, match=r"^input: the tensor is \(3, 5\); the array given is \(5, 3\)$"):
        machine.write("input", np.zeros((5, 3)))
    machine.exponents["fc.bias"] = 2
    with pytest.raises(HwsimError, match=r"^fc\.bias: a tensor of fp32 words has exponent 0, not 2$"):
        machine.run()


def test_no_two_fields_of_a_command_share_a_column():
    moves = {int(f) for f in MoveField}
    used = (
        "OPCODE SLOT_A OPERAND OFFSET COUNT_B COUNT_H COUNT_W STEP_B STEP_H STEP_W START_H START_W INC_H INC_W TAPS_H"
    )
    used += " TAPS_W TAP_H TAP_W LIMIT_H LIMIT_W LINE_BYTES BEATS COLUMNS FLAGS"
    assert moves.isdisjoint(int(Field[name]) for name in used.split())
