"""Is the scalar reference of training steps near the float64 reference, and its fast arithmetic the contract's?"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from hwsim.hardware import load_accelerator
from hwsim.mapping import plan_op
from hwsim.mapping.layout import format_of
from hwsim.numerics import from_format, reference, to_format
from hwsim.values.reference import initial
from hwsim.values.reference import run as run_reference
from hwsim.workload import PRECISIONS, training_graph, with_precision
from hwsim_models import build


def _beside(name, folder="."):
    """A module beside this one; pytest's importlib mode leaves test folders off the path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / folder / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


scalar_step = _beside("scalar_step")
cases = _beside("cases", "../numerics")


def accelerator(format="fp32", dataflow="ws", base="edge-8x8-bf16", **array):
    hw = load_accelerator(base)
    changed = hw.array.model_copy(update={"operand_format": format, **array})
    return hw.model_copy(update={"array": changed}).with_dataflow(dataflow)


def samples(graph, seed=0):
    """Inputs of a network on digits' scale, labels, and parameters to begin with."""
    rng = np.random.default_rng(seed)
    values = dict(initial(graph, seed))
    for tensor in graph.tensors.values():
        if tensor.role == "input":
            values[tensor.name] = rng.integers(0, 17, tensor.shape) / 16
        elif tensor.role == "label" and len(tensor.shape) == 1:
            values[tensor.name] = rng.integers(0, 10, tensor.shape)
        elif tensor.role == "label":
            values[tensor.name] = rng.standard_normal(tensor.shape)
    return values


def stored(values, format, exponent=0):
    if format == "int32":
        return scalar_step.as_bits(np.asarray(values).astype(np.int32), format)
    scaled = np.ldexp(np.asarray(values, np.float64), -exponent).astype(np.float32)
    return scalar_step.as_bits(to_format(scaled, format), format)


def step_of(graph, hw, values, step_number=1, exponents=None):
    """Values of all tensors after a step on the scalar reference, as float64."""
    exponents = exponents or {}
    formats = {name: format_of(t, hw) for name, t in graph.tensors.items()}
    bits = {name: stored(v, formats[name], exponents.get(name, 0)) for name, v in values.items()}
    tiles = {op.name: plan_op(op, graph, hw).tiles for op in graph.ops}
    after = scalar_step.run(graph, hw, bits, tiles, step_number=step_number, exponents=exponents)
    found = {}
    for name, words in after.items():
        array = scalar_step.as_array(words, formats[name], graph.tensors[name].shape)
        wide = array if formats[name] == "int32" else from_format(array, formats[name])
        found[name] = np.ldexp(wide.astype(np.float64), exponents.get(name, 0))
    return found


def check_near(graph, hw, tolerance, step_number=1, names=None, exponents=None):
    """Every tensor is near the float64 reference's, measured by its largest number."""
    values = samples(graph)
    got, want = (
        step_of(graph, hw, values, step_number, exponents),
        run_reference(graph, values, step_number=step_number),
    )
    for name in names or graph.tensors:
        size = max(np.abs(want[name]).max(), 1e-3)
        worst = np.abs(got[name] - want[name]).max() / size
        assert worst <= tolerance, f"{name}: {worst:.2g} of the largest, {size:.3g}"


def test_fast_addition_and_multiplication_are_the_references():
    rng = np.random.default_rng(40)
    directed = rng.permutation(cases.directed("fp32"))
    x = [*directed[:3000].tolist(), *cases.random_bits(rng, "fp32", 12000).tolist()]
    y = [*rng.permutation(directed)[:3000].tolist(), *cases.random_bits(rng, "fp32", 12000).tolist()]
    x += [0x3F800000, 0x00800000, 0x00FFFFFF, 0x3F7FFFFF, 0x3F7FFFFE, 0x7F7FFFFF, 0x7F7FFFFF, 0x3F800000]
    y += [0xBF7FFFFF, 0x80800001, 0x3F000000, 0x00800000, 0x00800001, 0x73000000, 0x72FFFFFF, 0xB2FFFFFF]
    for a, b in zip(x, y, strict=True):
        assert scalar_step.add(a, b) == reference.add(a, b), (hex(a), hex(b))
        assert scalar_step.add(a, b ^ 1 << 31) == reference.add(a, b ^ 1 << 31), (hex(a), hex(b))
        assert scalar_step.multiply(a, b) == reference.multiply(a, b), (hex(a), hex(b))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw"])
def test_perceptron_step_in_fp32(optimizer):
    graph = training_graph(build("digits-mlp", batch=4), optimizer)
    # Adam divides by the root of the second moment: where a gradient is nearly 0, its rounding errors grow.
    check_near(graph, accelerator("fp32"), 2e-3 if "adam" in optimizer else 1e-5, step_number=3)


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_convolutional_step_in_fp32(dataflow):
    check_near(training_graph(build("digits-cnn", batch=1), "momentum"), accelerator("fp32", dataflow), 1e-4)


@pytest.mark.parametrize(("name", "tolerance"), [("bf16", 0.03), ("fp16", 0.003), ("fp8", 0.4), ("int8-nearest", 0.1)])
def test_narrow_steps_stay_near(name, tolerance):
    precision = PRECISIONS[name]
    graph = with_precision(training_graph(build("digits-mlp", batch=4), "sgd"), precision)
    roles = {"weight": -7, "activation": -5, "input": -6, "gradient": -9}
    exponents = {n: roles[t.role] for n, t in graph.tensors.items() if t.format == "int8"}
    if precision.scaling == "loss":
        exponents = {n: -10 for n, t in graph.tensors.items() if t.role == "gradient"}
    # Behind the rectifier's gradient, one rounded activation that became 0 changes a whole gradient.
    names = ["fc1", "relu1", "fc2", "loss", "grad(fc2)", "grad(fc2.weight)", "grad(fc2.bias)", "grad(relu1)"]
    check_near(graph, accelerator(precision.operand_format), tolerance, names=names, exponents=exponents)


def test_the_order_of_a_reduction_by_hand():
    """Two taps of three channels in tiles of two; pixels in boxes of one row and two columns."""
    (first, ends), (second, _) = scalar_step.channel_tiles(taps=2, channels=3, size=2, expanded=False)
    assert (first, ends) == ([(0, 0), (0, 1), (1, 0), (1, 1)], 2)
    assert second == [(0, 2), (1, 2)]
    boxes = [box for box, _ in scalar_step.pixel_tiles({"B": 1, "H": 1, "W": 2}, (1, 2, 3))]
    assert boxes == [[(0, 0, 0), (0, 0, 1)], [(0, 0, 2)], [(0, 1, 0), (0, 1, 1)], [(0, 1, 2)]]


def test_sums_over_pixels_by_hand():
    """Of five numbers on two lines: (1 + t + 1) + (t + t), t half a unit of 1: the two t meet before they drown."""
    one, t = 0x3F800000, 0x33800000
    assert scalar_step.folded([one, t, t, t, one], 2) == scalar_step.add(scalar_step.add(one, one), t + 0x800000)
    assert scalar_step.folded([one, t, t, t], 1) == one
    assert scalar_step.folded([], 4) == 0
