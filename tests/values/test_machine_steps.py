"""Does the machine compute whole training steps bit for bit as the scalar reference of docs/contracts/values.md?

The programs are those of mapping; the judge, tests/values/scalar_step.py, knows of them only the tiles.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from hwsim.errors import HwsimError
from hwsim.hardware import FORMAT_BITS, Accelerator
from hwsim.mapping import plan_op
from hwsim.mapping.layout import format_of
from hwsim.numerics import FLOATS
from hwsim.values.machine import Machine
from hwsim.values.reference import initial
from hwsim.values.reference import run as run_reference
from hwsim.workload import PRECISIONS, Network, training_graph, with_precision, with_recompute
from hwsim_models import build


def _scalar_step():
    """The module beside this one; pytest's importlib mode leaves test folders off the path."""
    spec = importlib.util.spec_from_file_location("scalar_step", Path(__file__).with_name("scalar_step.py"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


scalar_step = _scalar_step()
FLOWS = ("ws", "os", "is")
FEW = settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))


def accelerator(format, flow="ws", rows=8, cols=8, bank_lines=512, sum_lines=512, beat=8, **others):
    """A small accelerator, its memories given in lines."""
    banks = others.get("banks", 8)
    return Accelerator(
        name="small",
        clock_mhz=100,
        node_nm=40,
        array={
            "rows": rows,
            "cols": cols,
            "dataflow": flow,
            "operand_format": format,
            "add_latency_cycles": others.get("alpha", 2),
            "multiply_latency_cycles": 1,
        },
        scratchpad={"capacity_bytes": banks * bank_lines * max(rows, cols) * FORMAT_BITS[format] // 8, "banks": banks},
        accumulator={"capacity_bytes": 8 * cols * sum_lines, "add_latency_cycles": others.get("beta", 1)},
        vector={"lanes": others.get("lanes", cols), "latency_cycles": others.get("latency", 5)},
        dram={"kind": "LPDDR4-2400", "bytes_per_cycle": beat, "latency_cycles": 7},
    )


def step_graph(network, precision, optimizer="momentum"):
    graph = training_graph(network, optimizer, master_weights=precision.master_weights)
    return with_precision(graph, precision)


def samples(graph, seed):
    """Parameters to begin with, inputs on digits' scale, labels."""
    rng, values = np.random.default_rng(seed), dict(initial(graph, seed))
    for op in graph.ops:
        if op.kind == "softmax_cross_entropy":
            classes = graph.tensors[op.inputs[0]].shape[1]
            values[op.inputs[1]] = rng.integers(0, classes, graph.tensors[op.inputs[1]].shape)
        elif op.kind == "mean_squared_error":
            values[op.inputs[1]] = rng.standard_normal(graph.tensors[op.inputs[1]].shape)
    for tensor in graph.tensors.values():
        if tensor.role == "input":
            values[tensor.name] = rng.integers(0, 17, tensor.shape) / 16 - 0.25
        elif tensor.role in ("vector_parameter", "state", "buffer"):
            values[tensor.name] = values[tensor.name] + rng.random(tensor.shape)
    return values


def exponents_of(graph, values, precision):
    """Exponents as a scaling policy would have them (docs/contracts/training.md, section 4)."""
    if precision.scaling == "loss":
        return {name: -10 for name, tensor in graph.tensors.items() if tensor.role == "gradient"}
    if precision.scaling != "tensor":
        return {}
    first = {}
    for op in graph.ops:
        if op.kind in ("relu", "max_pool", "flatten"):
            first[op.outputs[0]] = op.inputs[0]
        elif op.kind in ("relu_dgrad", "max_pool_dgrad", "flatten_dgrad"):
            first[op.outputs[0]] = op.inputs[-1]
    reference, found = run_reference(graph, values), {}
    for name, tensor in graph.tensors.items():
        if tensor.format == "int8":
            source = name
            while source in first:
                source = first[source]
            largest = np.abs(reference[source]).max()
            found[name] = math.ceil(math.log2(largest / 127)) if largest else -6
    return found


def check(graph, hw, values, exponents=None, step_number=2, eager=True):
    """Run a step and compare every tensor that an op writes, in execution order; gives the machine."""
    machine = Machine(graph, hw, eager=eager)
    machine.exponents.update(exponents or {})
    for name, array in values.items():
        machine.write(name, array)
    before = {n: scalar_step.as_bits(machine.stored(n), format_of(graph.tensors[n], hw)) for n in values}
    tiles = {name: plan.tiles for name, plan in machine.plans.items()}
    lfsr = machine.lfsr_state.tolist()
    want = scalar_step.run(graph, hw, before, tiles, exponents=machine.exponents, step_number=step_number, lfsr=lfsr)
    machine.run(step_number=step_number)
    for op in graph.ops:
        compare(machine, op, want)
    assert machine.lfsr_state.tolist() == lfsr
    return machine


def compare(machine, op, want):
    """Compare the bits of every tensor that an op wrote."""
    for name in op.outputs:
        got = scalar_step.as_bits(machine.stored(name), format_of(machine.graph.tensors[name], machine.hw))
        wrong = [i for i, (a, b) in enumerate(zip(got, want[name], strict=True)) if a != b]
        assert not wrong, (
            f"{op.name} ({op.kind}): {len(wrong)} of {len(got)} elements of {name} differ, the first is "
            f"{wrong[0]}: {got[wrong[0]]:#x}, not {want[name][wrong[0]]:#x}; tiles {machine.plans[op.name].tiles}"
        )


def check_each(graph, hw, bits, exponents, step_number=2):
    """Run every op alone, on given bits of its inputs, and compare its outputs."""
    machine = Machine(graph, hw)
    machine.exponents.update(exponents)
    lfsr = machine.lfsr_state.tolist()
    tiles = {name: plan.tiles for name, plan in machine.plans.items()}
    for op in graph.ops:
        before = {}
        for name in op.inputs:
            machine.restore(name, bits[name])
            before[name] = scalar_step.as_bits(bits[name], format_of(graph.tensors[name], hw))
        want = scalar_step.run(
            graph, hw, before, tiles, exponents=machine.exponents, step_number=step_number, lfsr=lfsr, ops=[op]
        )
        machine.run([op], step_number=step_number)
        compare(machine, op, want)
        assert machine.lfsr_state.tolist() == lfsr, f"{op.name} ({op.kind}) drew another number of words"


# ---------------------------------------------------------------------------------------------------- the models

STEPS = [
    ("digits-mlp", 8, "adam"),
    ("digits-mlp", 5, "nesterov"),
    ("digits-cnn", 2, "momentum"),
    ("digits-resnet", 1, "sgd"),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda s: "-".join(map(str, s)))
@pytest.mark.parametrize("name", ["bf16", "fp32", "fp8", "int8-nearest", "int8"])
def test_steps_of_the_digits_models(name, step):
    model, batch, optimizer = step
    precision = PRECISIONS[name]
    # Every dataflow meets every model in one format or another, and every format in one model or another.
    turn = STEPS.index(step) + list(PRECISIONS).index(name)
    rows, cols = [(8, 8), (4, 4), (4, 8), (5, 3)][turn % 4]
    hw = accelerator(precision.operand_format, FLOWS[turn % 3], rows, cols, lanes=1 + turn % 3, latency=4 + turn)
    graph = step_graph(build(model, batch=batch), precision, optimizer)
    values = samples(graph, turn)
    check(graph, hw, values, exponents=exponents_of(graph, values, precision), eager=turn % 2 == 0)


@pytest.mark.parametrize("name", ["bf16", "int8-nearest"])
@pytest.mark.parametrize("policy", ["cheap", "sqrt"])
def test_steps_that_compute_again(name, policy):
    precision = PRECISIONS[name]
    hw = accelerator(precision.operand_format, rows=4, cols=4)
    graph = with_recompute(step_graph(build("digits-resnet", batch=1), precision), policy)
    values = samples(graph, 3)
    machine = check(graph, hw, values, exponents=exponents_of(graph, values, precision))
    assert "batchnorm_apply" in {op.kind for op in machine.graph.ops}


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("name", ["bf16", "fp32", "fp8", "int8-nearest"])
def test_steps_in_memories_that_cut_every_op(name, flow):
    precision = PRECISIONS[name]
    hw = accelerator(precision.operand_format, flow, 4, 4, bank_lines=24, sum_lines=110, beat=4, latency=9)
    graph = step_graph(build("digits-cnn", batch=2), precision)
    values = samples(graph, 7)
    machine = check(graph, hw, values, exponents=exponents_of(graph, values, precision))
    shapes = {op.name: graph.tensors[op.inputs[0]].shape for op in graph.ops if op.kind == "conv2d"}
    for name, shape in shapes.items():
        tile = machine.plans[name].tiles[0]
        assert (tile["B"], tile["H"], tile["W"]) != shape[:3], f"{name} is one tile"


@pytest.mark.parametrize("name", ["bf16", "fp32"])
def test_a_tile_that_holds_the_patch_ends_its_folds_with_the_taps(name):
    """Six channels on four rows: folds of 4 and of 2 channels; expanded lines would fill up with the next tap's."""
    x = Network("patch", 1).input((7, 9, 2)).conv2d(6, kernel=1, name="first").conv2d(4, kernel=3, name="conv")
    graph = step_graph(x.flatten().mean_squared_error(), PRECISIONS[name])
    hw = accelerator(name, "ws", 4, 4, bank_lines=256, beat=1)
    bits = patterns(graph, hw, np.random.default_rng(3), "cancelling")
    check_each(graph, hw, bits, {})
    forward = [op for op in graph.ops if op.name == "conv"]
    tile = plan_op(forward[0], graph, hw).tiles[0]
    assert not tile["EXPANDED"]
    given = {n: scalar_step.as_bits(bits[n], format_of(graph.tensors[n], hw)) for n in forward[0].inputs}
    either = [scalar_step.run(graph, hw, given, {"conv": [{**tile, "EXPANDED": e}]}, ops=forward) for e in (0, 1)]
    assert either[0]["conv"] != either[1]["conv"]  # it shows


# ---------------------------------------------------------------------------------------------------- random graphs


NEAREST = dict.fromkeys(("weights_rounding", "activations_rounding", "gradients_rounding"), "nearest")


@st.composite
def formats(draw):
    """A precision, a small exponent for its narrow formats, and a kind of numbers."""
    precision = PRECISIONS[draw(st.sampled_from(("bf16", "fp32", "fp8", "int8", "fp16")))]
    if precision.name != "fp32":
        rounding = st.sampled_from(("nearest", "stochastic"))
        names = ("weights_rounding", "activations_rounding", "gradients_rounding", "state_rounding")
        state = {"state": "bf16", **{name: draw(rounding) for name in names}}
        precision = replace(precision, **(state if draw(st.booleans()) else NEAREST))
    return precision, draw(st.integers(-3, 3)), draw(st.sampled_from(list(KINDS)))


@st.composite
def arrays(draw):
    number = st.integers
    cols = draw(number(2, 6))
    return {
        "flow": draw(st.sampled_from(FLOWS)),
        "rows": draw(number(2, 6)),
        "cols": cols,
        "alpha": draw(number(1, 4)),
        "lanes": draw(number(1, cols)),
        "latency": draw(number(1, 20)),
        "beat": draw(st.sampled_from((2, 4, 8, 16))),
        "roomier": draw(number(0, 2)),
    }


def smallest(graph, format, roomier, **array):
    """An accelerator with the least memories that the graph fits, by doubling, and then some doublings of room."""
    for lines in (2 << i for i in range(12)):
        hw = accelerator(format, bank_lines=lines, sum_lines=8 * lines, **array)
        try:
            Machine(graph, hw)
        except HwsimError:
            continue
        return accelerator(format, bank_lines=lines << roomier, sum_lines=8 * lines << roomier, **array)
    raise AssertionError("a small graph needs large memories")


#: Kinds of numbers: exponents around which they lie, and how far. Sums of `tiny` products are flushed, those of `huge`
#: ones overflow; of `wild` numbers some are infinities, NaNs, subnormals, the largest.
KINDS = {"wide": (0, 9), "tiny": (-63, 3), "huge": (63, 2), "wild": (0, 4), "cancelling": (0, 0)}

#: Exponents of large and of small `cancelling` numbers: products of large ones cancel, and what is left shows which
#: small ones were added while a large sum stood.
CANCELLING = {"bf16": (0, -18), "fp32": (0, -18), "fp16": (5, -14), "fp8_e4m3": (7, -6), "fp8_e5m2": (9, -14)}


def patterns(graph, hw, rng, kind):
    """Bits of one kind for every tensor, one in five a zero; integers are any, labels are classes."""
    found = {name: np.asarray(v).astype(np.int32) for name, v in samples(graph, 0).items()}
    for name, tensor in graph.tensors.items():
        format = format_of(tensor, hw)
        if format == "int32":
            continue
        bits = rng.integers(0, 1 << FORMAT_BITS[format], tensor.shape)
        if format in FLOATS:
            bits = _numbers(bits, FLOATS[format], rng, kind)
        found[name] = scalar_step.as_array(bits.ravel().tolist(), format, tensor.shape)
    return found


def _numbers(bits, f, rng, kind):
    """Put exponents of a kind into random bits."""
    middle, spread = KINDS[kind]
    exponent = middle + rng.integers(-spread, spread + 1, bits.shape)
    mantissa = bits & (1 << f.mantissa_bits) - 1
    if kind == "cancelling":
        large, small = CANCELLING[f.name]
        exponent = np.where(rng.random(bits.shape) < 0.5, large, small)
        mantissa = np.where(exponent == large, 0, mantissa)
    field = np.clip(f.bias + exponent, 0, (f.largest >> f.mantissa_bits) - 1)
    plain = bits & f.sign | field << f.mantissa_bits | mantissa
    plain = np.where(rng.random(bits.shape) < (0.02 if kind == "wild" else 0), bits, plain)
    return np.where(rng.random(bits.shape) < 0.2, bits & f.sign, plain)


def run_case(network, seed, form, array, optimizer="sgd"):
    precision, exponent, kind = form
    graph = step_graph(network, precision, optimizer)
    hw = smallest(graph, precision.operand_format, **array)
    narrow = [n for n, t in graph.tensors.items() if t.role in ("gradient", "activation") and t.format != "fp32"]
    check_each(graph, hw, patterns(graph, hw, np.random.default_rng(seed), kind), dict.fromkeys(narrow, exponent))


sides = st.tuples(st.integers(1, 3), st.integers(1, 3))
convolutions = st.fixed_dictionaries(
    {
        "kernel": sides,
        "stride": sides,
        "padding": st.tuples(st.integers(0, 2), st.integers(0, 2)),
        "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
        "groups": st.integers(1, 3),
        "bias": st.booleans(),
    }
)
images = st.tuples(st.integers(1, 3), st.integers(2, 7), st.integers(2, 7), st.integers(1, 10), st.integers(1, 8))
seeds = st.integers(0, 2**16)


def convolution(shape, attrs):
    """A convolution behind another, so that it has a dgrad too; the loss reads its pixels."""
    batch, height, width, inner, outer = shape
    groups = attrs["groups"]
    x = Network("random", batch).input((height, width, 2)).conv2d(groups * inner, kernel=1, name="first")
    y = x.conv2d(groups * outer, name="conv", **attrs)
    return y.flatten().mean_squared_error()


def convolutions_are_the_references(shape, attrs, form, array, seed):
    try:
        network = convolution(shape, attrs)
    except HwsimError:  # the kernel is larger than the padded image
        reject()
    run_case(network, seed, form, array)


@FEW
@given(images, convolutions, formats(), arrays(), seeds)
def test_convolutions(shape, attrs, form, array, seed):
    convolutions_are_the_references(shape, attrs, form, array, seed)


@pytest.mark.long
@MANY
@given(images, convolutions, formats(), arrays(), seeds)
def test_many_convolutions(shape, attrs, form, array, seed):
    convolutions_are_the_references(shape, attrs, form, array, seed)


def linear_layers_are_the_references(sizes, biases, loss, form, array, optimizer, seed):
    batch, features, hidden, out = sizes
    x = Network("random", batch).input((features,)).linear(hidden, bias=biases[0], name="first")
    x = x.linear(out, bias=biases[1], name="second")
    run_case(x.softmax_cross_entropy() if loss else x.mean_squared_error(), seed, form, array, optimizer)


LINEAR = (
    st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.booleans(), st.booleans()),
    st.booleans(),
    formats(),
    arrays(),
    st.sampled_from(("sgd", "momentum", "nesterov", "adam", "adamw")),
    seeds,
)


@FEW
@given(*LINEAR)
def test_linear_layers_losses_and_updates(sizes, biases, loss, form, array, optimizer, seed):
    linear_layers_are_the_references(sizes, biases, loss, form, array, optimizer, seed)


@pytest.mark.long
@MANY
@given(*LINEAR)
def test_many_linear_layers_losses_and_updates(sizes, biases, loss, form, array, optimizer, seed):
    linear_layers_are_the_references(sizes, biases, loss, form, array, optimizer, seed)


VECTOR = (
    st.tuples(st.integers(1, 3), st.integers(3, 7), st.integers(3, 7), st.integers(1, 14)),
    st.lists(st.sampled_from(("relu", "relu6", "batchnorm", "max_pool", "avg_pool", "add")), min_size=1, max_size=3),
    sides,
    sides,
    st.booleans(),
    formats(),
    arrays(),
    seeds,
)


def vector_ops_are_the_references(shape, kinds, kernel, stride, flat, form, array, seed):
    batch, height, width, channels = shape
    x = Network("random", batch).input((height, width, 2)).conv2d(channels, kernel=1, name="first")
    try:
        for kind in kinds:
            if kind == "add":
                x = x.relu() + x
            elif kind.endswith("pool"):
                x = getattr(x, kind)(kernel, stride=stride, padding=tuple(k // 2 for k in kernel))
            else:
                x = getattr(x, kind)()
        x = x.flatten() if flat else x.global_avg_pool()
    except HwsimError:  # the window is larger than the padded image
        reject()
    if channels > array["cols"]:  # where pooling is streamed block by block, the order of random words is another
        form = (replace(form[0], **NEAREST), *form[1:])
    run_case(x.linear(3, name="last").softmax_cross_entropy(), seed, form, array)


@FEW
@given(*VECTOR)
def test_vector_ops(shape, kinds, kernel, stride, flat, form, array, seed):
    vector_ops_are_the_references(shape, kinds, kernel, stride, flat, form, array, seed)


@pytest.mark.long
@MANY
@given(*VECTOR)
def test_many_vector_ops(shape, kinds, kernel, stride, flat, form, array, seed):
    vector_ops_are_the_references(shape, kinds, kernel, stride, flat, form, array, seed)
