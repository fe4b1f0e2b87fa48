"""Do the reference's values, gradients and updates equal those of an automatic differentiation that is not ours?

The ops are written once more in JAX (jax_forward.py) and differentiated by JAX, in float64; the updates are written
once more below. *Equal* is a difference of at most 1e-10 of the largest magnitude in the tensor.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hwsim.values.reference import RULES, evaluate, initial, run
from hwsim.workload import (
    OPTIMIZERS,
    Graph,
    Network,
    Op,
    Optimizer,
    Phase,
    Role,
    SharedGradient,
    Tensor,
    Value,
    freeze,
    gradient_name,
    training_graph,
)
from hwsim.workload.ops import add, argmax, batchnorm, conv2d, flatten, linear, loss, pool, relu, rule_of, update
from hwsim_models import build


def _load() -> Any:
    """The file beside this one; with --import-mode=importlib tests are in no package."""
    spec = importlib.util.spec_from_file_location("values_jax_forward", Path(__file__).with_name("jax_forward.py"))
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


jax_forward = _load()
jax = jax_forward.jax

Array = NDArray[np.float64]
Make = Callable[[Network], object]

TOLERANCE = 1e-10


def assert_equal(ours: Array, theirs: Any, name: str) -> None:
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape, name
    assert ours.dtype == np.float64, name
    largest = np.abs(theirs).max()
    difference = np.abs(ours - theirs).max()
    assert difference <= TOLERANCE * largest, f"{name}: {difference / (largest or 1):.1e} of the largest, {largest:.1e}"


# One op.


def backward_graph(graph: Graph) -> Graph:
    """The last op of a network with all its gradients, those of the inputs too, and `dy` given."""
    op = graph.ops[-1]
    rule = rule_of(op.kind, op.name)
    tensors, ops = dict(graph.tensors), [op]
    dy = "" if rule.is_loss else "dy"
    if dy:
        tensors[dy] = Tensor(dy, tensors[op.outputs[0]].shape, Role.GRADIENT)
    for made in rule.gradient(op, dy, lambda name: True):
        if isinstance(made, SharedGradient):
            continue
        outputs = tuple(map(gradient_name, made.of))
        tensors.update(
            (gradient_name(of), Tensor(gradient_name(of), tensors[of].shape, Role.GRADIENT)) for of in made.of
        )
        ops.append(Op(f"{op.name}.{made.suffix}", made.kind, made.phase, made.inputs, outputs, made.attrs, op.name))
    return Graph(graph.name, graph.batch, tensors, tuple(ops))


def check_op(make: Make, seed: int, scale: float = 1.0) -> None:
    """Compare all outputs of one op, and its gradients to all that it differentiates by, with JAX's."""
    net = Network("net", batch=2)
    made = make(net)
    graph = backward_graph(made if isinstance(made, Graph) else net.graph())
    op, rng = graph.ops[0], np.random.default_rng(seed)
    arrays = {name: scale * rng.normal(size=graph.tensors[name].shape) for name in op.inputs}
    if op.kind == "softmax_cross_entropy":
        arrays["labels"] = rng.integers(0, arrays[op.inputs[0]].shape[1], 2).astype(float)
    y = graph.tensors[op.outputs[0]].shape
    dy = np.ones(y) if rule_of(op.kind, op.name).is_loss else rng.normal(size=y)
    ours = run(graph, {**arrays, "dy": dy})

    @jax.jit
    def theirs(inputs: tuple[Any, ...], dy: Any) -> tuple[Any, Any]:
        def first(*inputs: Any) -> tuple[Any, Any]:
            outputs = jax_forward.FORWARD[op.kind](op.attrs, *inputs)
            return outputs[0], outputs

        _, back, outputs = jax.vjp(first, *inputs, has_aux=True)
        return outputs, back(dy)

    outputs, gradients = theirs(tuple(arrays.values()), dy)
    for name, output in zip(op.outputs, outputs, strict=True):
        if name not in op.inputs:
            assert_equal(ours[name], output, name)
    compared = 0
    for name, gradient in zip(op.inputs, gradients, strict=True):
        if gradient_name(name) in ours:
            assert_equal(ours[gradient_name(name)], gradient, gradient_name(name))
            compared += 1
        elif op.kind == "add":
            assert_equal(dy, gradient, name)
            compared += 1
    # Labels, targets and running statistics have no gradient; everything else has.
    assert compared == len([n for n in op.inputs if graph.tensors[n].role not in (Role.LABEL, Role.BUFFER)])
    for name in set(op.outputs) & set(op.inputs):
        assert_equal(ours[name], outputs[op.outputs.index(name)], name)


def conv(shape: tuple[int, int, int], out: int, kernel: Any, **options: Any) -> Make:
    return lambda net: net.input(shape).conv2d(out, kernel, **options)


def pooled(kind: str, shape: tuple[int, int, int], *window: Any) -> Make:
    return lambda net: getattr(net.input(shape), kind)(*window)


def squared_error(shape: tuple[int, ...]) -> Make:
    return lambda net: net.input(shape).mean_squared_error()


OPS: dict[str, Make] = {
    "linear": lambda net: net.input((5,)).linear(3),
    "linear without bias": lambda net: net.input((1,)).linear(4, bias=False),
    "conv 3x3": conv((6, 5, 3), 4, 3, padding=1, bias=True),
    "conv 1x1": conv((4, 4, 3), 5, 1),
    "conv, stride that leaves a rest": conv((8, 7, 2), 3, 3, stride=(2, 3)),
    "conv, stride above the kernel": conv((7, 7, 2), 3, 2, stride=3, padding=1),
    "conv, uneven everything": conv((9, 8, 2), 3, (3, 2), stride=(1, 2), padding=(0, 2), dilation=(2, 3), bias=True),
    "conv, padding above the kernel": conv((3, 3, 2), 2, 2, padding=3),
    "conv, dilation and stride": conv((10, 10, 2), 2, 3, stride=2, padding=2, dilation=2),
    "conv, groups": conv((5, 5, 6), 9, 3, padding=1, groups=3, bias=True),
    "conv, groups and stride and dilation": conv((9, 9, 4), 4, 3, stride=2, padding=1, dilation=2, groups=2),
    "conv, depthwise": conv((6, 6, 5), 5, 3, stride=2, padding=1, groups=5),
    "conv, depthwise with multiplier": conv((5, 5, 3), 6, 3, padding=1, groups=3),
    "conv, kernel over the whole input": conv((4, 5, 2), 3, (4, 5)),
    "batchnorm of images": lambda net: net.input((3, 4, 5)).batchnorm(),
    "batchnorm, eps and momentum": lambda net: net.input((3, 4, 2)).batchnorm(eps=0.1, momentum=0.7),
    "relu": lambda net: net.input((4, 3, 5)).relu(),
    "relu6": lambda net: net.input((4, 3, 5)).relu6(),
    "add": lambda net: net.input((3, 2, 4)).add(net.input((3, 2, 4), name="other")),
    "max_pool": pooled("max_pool", (6, 6, 3), 2),
    "max_pool, overlapping and padded": pooled("max_pool", (7, 6, 3), 3, 2, 1),
    "max_pool, uneven": pooled("max_pool", (7, 9, 2), (3, 2), (1, 3), (1, 0)),
    "max_pool with gaps": pooled("max_pool", (7, 7, 2), 2, 3),
    "avg_pool": pooled("avg_pool", (6, 6, 3), 2),
    "avg_pool, overlapping and padded": pooled("avg_pool", (7, 6, 3), 3, 2, 1),
    "avg_pool, uneven": pooled("avg_pool", (7, 9, 2), (3, 2), (1, 3), (1, 0)),
    "global_avg_pool": lambda net: net.input((3, 4, 5)).global_avg_pool(),
    "flatten": lambda net: net.input((3, 4, 5)).flatten(),
    "softmax_cross_entropy": lambda net: net.input((7,)).softmax_cross_entropy(),
    "mean_squared_error": squared_error((5,)),
    "mean_squared_error of images": squared_error((3, 2, 4)),
}


@pytest.mark.parametrize("case", OPS)
def test_op(case: str) -> None:
    check_op(OPS[case], seed=1)


@pytest.mark.parametrize(("case", "scale"), [("relu6", 6.0), ("softmax_cross_entropy", 1000.0)])
def test_op_of_large_values(case: str, scale: float) -> None:
    """Magnitudes at which relu6 clips often, and exponentials would overflow without care."""
    check_op(OPS[case], seed=2, scale=scale)


def test_batchnorm_of_features() -> None:
    """With two samples normalised values hardly depend on the input; six make a fair comparison."""

    def make(net: Network) -> object:
        return Network.input(Network("net", batch=6), (4,)).batchnorm().network.graph()

    check_op(make, seed=3)


def fitting(size: int, kernel: int, padding: int, dilation: int = 1) -> bool:
    return dilation * (kernel - 1) + 1 <= size + 2 * padding


@st.composite
def convolutions(draw: st.DrawFn) -> Make:
    groups, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    channels, out = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    pairs = [draw(st.tuples(*[st.integers(low, high)] * 2)) for low, high in ((1, 4), (1, 3), (0, 3), (1, 3))]
    kernel, stride, padding, dilation = pairs
    assume(all(map(fitting, (height, width), kernel, padding, dilation)))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return conv((height, width, channels), out, kernel, bias=draw(st.booleans()), **options)


@st.composite
def pools(draw: st.DrawFn) -> Make:
    height, width, channels = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    kernel, stride = (draw(st.tuples(st.integers(1, 4), st.integers(1, 4))) for _ in range(2))
    padding = tuple(draw(st.integers(0, taps // 2)) for taps in kernel)
    assume(all(map(fitting, (height, width), kernel, padding)))
    return pooled(draw(st.sampled_from(["max_pool", "avg_pool"])), (height, width, channels), kernel, stride, padding)


@st.composite
def others(draw: st.DrawFn) -> Make:
    sizes = draw(st.tuples(*[st.integers(1, 6)] * 3))
    features, out = draw(st.integers(2, 9)), draw(st.integers(1, 9))
    makes: list[Make] = [
        lambda net: net.input((features,)).linear(out, bias=out % 2 == 0),
        lambda net: net.input((sizes[0] + 1, sizes[1] + 1, sizes[2])).batchnorm(),
        lambda net: net.input(sizes).relu(),
        lambda net: net.input(sizes).relu6(),
        lambda net: net.input(sizes).add(net.input(sizes, name="other")),
        lambda net: net.input(sizes).global_avg_pool(),
        lambda net: net.input(sizes).flatten(),
        lambda net: net.input((features,)).softmax_cross_entropy(),
        squared_error(sizes),
    ]
    return draw(st.sampled_from(makes))


#: Each example is compiled by JAX, a third of a second; the default run takes few, the long one many.
FEW = [pytest.param(8, id="few"), pytest.param(150, id="many", marks=pytest.mark.long)]


@pytest.mark.parametrize("examples", FEW)
@pytest.mark.parametrize("family", [convolutions, pools, others])
def test_op_of_random_shape(family: Callable[[], st.SearchStrategy[Make]], examples: int) -> None:
    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(family(), st.integers(0, 2**32 - 1))
    def check(make: Make, seed: int) -> None:
        check_op(make, seed)

    check()


def test_every_op_of_the_contract_has_a_rule_and_is_compared() -> None:
    families = (add, argmax, batchnorm, conv2d, flatten, linear, loss, pool, relu, update)
    kinds = {rule.kind: rule for family in families for rule in family.RULES}
    assert set(RULES) >= set(kinds)
    compared = set()
    for make in OPS.values():
        net = Network("net", batch=2)
        made = make(net)
        compared |= {op.kind for op in backward_graph(made if isinstance(made, Graph) else net.graph()).ops}
    updates = {f"{name}_update" for name in OPTIMIZERS}
    # batchnorm_inference is compared in test_inference and test_accuracy, batchnorm_apply in test_recompute.
    elsewhere = {"argmax", "batchnorm_inference", "batchnorm_apply"}
    assert compared | updates | elsewhere == set(kinds)


def test_argmax() -> None:
    net = Network("net", batch=2)
    net.input((3, 4, 5)).argmax(name="top1")
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    assert_equal(run(net.graph(), {"input": x})["top1"], jax.numpy.argmax(x, -1).astype(float), "top1")


# Updates, written once more: plain loops over elements and PyTorch's own order of operations.


def sgd(a: Mapping[str, float], t: int, p: float, g: float) -> tuple[float, ...]:
    return (p - a["learning_rate"] * (g + a["weight_decay"] * p),)


def momentum(a: Mapping[str, float], t: int, p: float, g: float, v: float, nesterov: bool = False) -> tuple[float, ...]:
    grad = g + a["weight_decay"] * p
    buffer = grad if t == 1 else a["momentum"] * v + grad
    move = grad + a["momentum"] * buffer if nesterov else buffer
    return p - a["learning_rate"] * move, buffer


def adam(
    a: Mapping[str, float], t: int, p: float, g: float, m: float, v: float, decoupled: bool = False
) -> tuple[float, ...]:
    if decoupled:
        p -= a["learning_rate"] * a["weight_decay"] * p
    else:
        g += a["weight_decay"] * p
    m += (1 - a["beta1"]) * (g - m)
    v = v * a["beta2"] + (1 - a["beta2"]) * g * g
    size = a["learning_rate"] / (1 - a["beta1"] ** t)
    return p - size * m / (v**0.5 / (1 - a["beta2"] ** t) ** 0.5 + a["eps"]), m, v


UPDATES: dict[str, Callable[..., tuple[float, ...]]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": partial(momentum, nesterov=True),
    "adam": adam,
    "adamw": partial(adam, decoupled=True),
}


def update_by_element(recipe: Optimizer, t: int, *arrays: Array) -> list[Array]:
    numbers = zip(*(array.ravel().tolist() for array in arrays), strict=True)
    results = [UPDATES[recipe.name](recipe.attrs, t, *each) for each in numbers]
    return [np.array(column).reshape(arrays[0].shape) for column in zip(*results, strict=True)]


#: Numbers with which no term of an update is too small to be missed.
RECIPES: dict[str, Mapping[str, float]] = {
    "sgd": {"learning_rate": 0.3, "weight_decay": 0.2},
    "momentum": {"learning_rate": 0.2, "weight_decay": 0.3, "momentum": 0.7},
    "nesterov": {"learning_rate": 0.2, "weight_decay": 0.3, "momentum": 0.7},
    "adam": {"learning_rate": 0.2, "weight_decay": 0.3, "beta1": 0.6, "beta2": 0.8, "eps": 0.1},
    "adamw": {"learning_rate": 0.2, "weight_decay": 0.3, "beta1": 0.6, "beta2": 0.8, "eps": 0.1},
}


@pytest.mark.parametrize("master_weights", [True, False])
@pytest.mark.parametrize("decay", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_of_several_steps(optimizer: str, decay: bool, master_weights: bool) -> None:
    """Gradients from JAX, updates from above, five steps on end."""
    numbers = dict(RECIPES[optimizer])
    recipe = OPTIMIZERS[optimizer](**(numbers if decay else numbers | {"weight_decay": 0.0}))
    graph = Network("net", batch=3).input((4,)).linear(5).relu().linear(2).mean_squared_error()
    compare_steps(graph, recipe, steps=5, master_weights=master_weights)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn"])
def test_steps_of_a_network_by_default_numbers(model: str, optimizer: str) -> None:
    compare_steps(build(model, 8), OPTIMIZERS[optimizer](), steps=2)


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        ("digits-resnet", 4),
        ("lenet", 2),
        pytest.param("resnet18", 2, marks=pytest.mark.long),
    ],
)
def test_step_of_a_network(model: str, batch: int) -> None:
    compare_steps(build(model, batch), OPTIMIZERS["momentum"](), steps=1)


def depthwise_net() -> Graph:
    """What the models have not: relu6, depthwise and dilated convolutions, average pooling, three readers, MSE.

    No bias stands directly before a batchnorm: its gradient is zero, and AdamW divides one rounding error by another.
    """
    net = Network("net", batch=6)
    x = net.input((9, 9, 3)).conv2d(6, 3, stride=2, padding=1, name="stem").batchnorm().relu6()
    y = (
        x.conv2d(6, 3, padding=1, groups=6, name="depthwise")
        .batchnorm()
        .relu6()
        .conv2d(6, 1, bias=True, name="pointwise")
    )
    z = x.conv2d(6, 3, padding=2, dilation=2, groups=2, name="dilated").avg_pool(3, 1, 1)
    x = (x + y + z).avg_pool(2).flatten().linear(7).relu().batchnorm(eps=1e-3)
    x.argmax()
    return x.linear(4).mean_squared_error()


@pytest.mark.parametrize("frozen", [(), ("stem", "bn1"), ("bn1", "bn2.gamma", "dilated"), ("linear2", "depthwise")])
def test_step_of_a_network_of_all_else(frozen: tuple[str, ...]) -> None:
    compare_steps(freeze(depthwise_net(), frozen), OPTIMIZERS["adamw"](), steps=2)


def compare_steps(graph: Graph, recipe: Optimizer, steps: int, master_weights: bool = True) -> None:
    """Train with both, each on its own values, and compare every tensor that both have after every step."""
    step = training_graph(graph, recipe, master_weights)
    trained = tuple(op.inputs[0].removesuffix(".master") for op in step.ops if op.phase is Phase.UPDATE)
    rng = np.random.default_rng(11)
    ours = initial(step, seed=5)
    for name, array in ours.items():
        if step.tensors[name].role is Role.VECTOR_PARAMETER:
            array += 0.3 * rng.normal(size=array.shape)
    theirs: dict[str, Any] = dict(ours)
    for t in range(1, steps + 1):
        batch = samples(graph, rng)
        ours = run(step, ours | batch, step_number=t)
        found, gradients = jax_forward.gradients(
            graph, {n: theirs[n] for n in theirs if n in graph.tensors} | batch, trained, "loss"
        )
        # What no op of the forward graph gives stays; the running statistics are found anew.
        theirs = {**theirs, **{name: np.asarray(array) for name, array in found.items()}}
        for name in trained:
            theirs[gradient_name(name)] = np.asarray(gradients[name])
            states = [f"{name}.{state}" for state in recipe.states]
            arrays = (theirs[name], theirs[gradient_name(name)], *(theirs[state] for state in states))
            updated = update_by_element(recipe, t, *arrays)
            theirs.update(zip((name, *states), updated, strict=True))
            if f"{name}.master" in step.tensors:
                theirs[f"{name}.master"] = theirs[name]
        for name in theirs:
            assert_equal(ours[name], theirs[name], f"step {t}: {name}")


def samples(graph: Graph, rng: np.random.Generator) -> dict[str, Array]:
    batch = {}
    for tensor in graph.tensors.values():
        if tensor.role is Role.INPUT or tensor.name == "target":
            batch[tensor.name] = rng.normal(size=tensor.shape)
        elif tensor.role is Role.LABEL:
            batch[tensor.name] = rng.integers(0, 10, tensor.shape).astype(float)
    return batch


def test_lenet_written_without_the_graph() -> None:
    """The comparisons above share the graph; this one shares nothing but the parameters' names and layouts."""
    step = training_graph(build("lenet", 2))
    rng = np.random.default_rng(3)
    parameters = initial(step, seed=1)
    batch = samples(step, rng)
    ours = run(step, parameters | batch)
    jnp, lax = jax.numpy, jax.lax
    names = [name for name in parameters if name.endswith((".weight", ".bias"))]

    def convolved(p: Mapping[str, Any], name: str, x: Any) -> Any:
        kernel = jnp.transpose(p[f"{name}.weight"], (0, 3, 1, 2))
        return jnp.maximum(lax.conv(x, kernel, (1, 1), "VALID") + p[f"{name}.bias"][:, None, None], 0)

    def halved(x: Any) -> Any:
        n, c, h, w = x.shape
        return x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))

    @jax.jit
    @jax.grad
    def gradients(p: Mapping[str, Any]) -> Any:
        x = halved(convolved(p, "conv1", jnp.transpose(batch["input"], (0, 3, 1, 2))))
        x = halved(convolved(p, "conv2", x))
        x = jnp.transpose(x, (0, 2, 3, 1)).reshape(2, 400)
        for name in ("fc1", "fc2", "fc3"):
            x = x @ p[f"{name}.weight"].T + p[f"{name}.bias"]
            x = x if name == "fc3" else jnp.maximum(x, 0)
        chosen = x[jnp.arange(2), batch["labels"].astype(int)]
        return (jnp.log(jnp.exp(x).sum(1)) - chosen).mean()

    for name, gradient in gradients({name: parameters[name] for name in names}).items():
        assert_equal(ours[gradient_name(name)], gradient, name)


def test_inference_normalises_by_the_running_statistics() -> None:
    net = Network("net", batch=2)
    x: Value = net.input((3, 3, 2)).conv2d(4, 2, name="conv").batchnorm(eps=0.2, name="bn").relu().flatten()
    graph = x.linear(3, name="fc").softmax_cross_entropy()
    rng = np.random.default_rng(8)
    p = {t.name: rng.uniform(0.5, 2, t.shape) for t in graph.tensors.values() if t.role not in (Role.INPUT, Role.LABEL)}
    images = rng.normal(size=(5, 3, 3, 2))
    ours = evaluate(training_graph(graph), p, images)
    taps = jax_forward.conv2d(graph.ops[0].attrs, images, p["conv.weight"])[0]
    scaled = (taps - p["bn.running_mean"]) / np.sqrt(p["bn.running_var"] + 0.2) * p["bn.gamma"] + p["bn.beta"]
    features = np.maximum(scaled, 0).reshape(5, prod(x.shape[1:]))
    assert_equal(ours, features @ p["fc.weight"].T + p["fc.bias"], "logits")
