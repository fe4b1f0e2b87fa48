"""Is the training step the derivative of the network, complete, in order, and nothing more?"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.workload import (
    OPTIMIZERS,
    Adam,
    Graph,
    Momentum,
    Network,
    Op,
    OpRule,
    Phase,
    Role,
    Sgd,
    freeze,
    lifetimes,
    memory_category,
    register,
    registered,
    stashes,
    tensor_bytes,
    training_graph,
    vector_operations,
)
from hwsim.workload.ops import nothing, per_output
from hwsim_models import MODELS, build

Array = NDArray[np.float64]


def residual_net() -> Graph:
    """One residual block between two layers: fc1's rectified output has two readers."""
    net = Network("net", batch=3)
    x = net.input((4,)).linear(5, name="fc1").relu(name="act1")
    y = x.linear(5, bias=False, name="fc2").batchnorm(name="bn").add(x, name="join").relu(name="act2")
    return y.linear(2, name="fc3").mean_squared_error()


def ops_of(step: Graph) -> dict[str, Op]:
    assert len({op.name for op in step.ops}) == len(step.ops)
    return {op.name: op for op in step.ops}


def check_order(graph: Graph) -> None:
    """Every input is given before it is used, and no tensor is given twice but in place."""
    start = {Role.INPUT, Role.LABEL, Role.WEIGHT, Role.VECTOR_PARAMETER, Role.BUFFER, Role.MASTER, Role.STATE}
    made = {t.name for t in graph.tensors.values() if t.role in start}
    for op in graph.ops:
        assert made.issuperset(op.inputs), op
        for name in op.outputs:
            assert name not in made or name in op.inputs or name + ".master" in op.inputs, op
        made.update(op.outputs)
    assert made == set(graph.tensors)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("master_weights", [True, False])
def test_step_of_every_model_is_in_order(model: str, master_weights: bool) -> None:
    step = training_graph(build(model, 2), "adam", master_weights)
    check_order(step)
    phases = [op.phase for op in step.ops]
    backward = phases[len(build(model, 2).ops) :]
    assert Phase.FORWARD not in backward
    assert Phase.UPDATE not in backward[: backward.index(Phase.UPDATE)]
    assert set(backward[backward.index(Phase.UPDATE) :]) == {Phase.UPDATE}
    for name, tensor in step.tensors.items():
        if name.startswith("grad("):
            assert tensor.shape == step.tensors[name[5:].partition(")")[0]].shape
    assert all(op.kind in registered() for op in step.ops)


# A small float64 interpreter: what the kinds mean, to hold the wiring of the step against finite differences.
FORWARD: dict[str, Callable[..., tuple[Array, ...]]] = {
    "linear": lambda x, w, b=0.0: (x @ w.T + b,),
    "relu": lambda x: (np.maximum(x, 0),),
    "add": lambda a, b: (a + b,),
    "batchnorm": lambda x, g, b, m, v: (
        (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * g + b,
        x.mean(0),
        1 / np.sqrt(x.var(0) + 1e-5),
        m,
        v,
    ),
    "mean_squared_error": lambda p, t: (np.array([((p - t) ** 2).mean()]),),
}
BACKWARD: dict[str, Callable[..., tuple[Array, ...]]] = {
    "linear_dgrad": lambda dy, w: (dy @ w,),
    "linear_wgrad": lambda x, dy: (dy.T @ x,),
    "bias_grad": lambda dy: (dy.sum(0),),
    "relu_dgrad": lambda y, dy: (dy * (y > 0),),
    "batchnorm_wgrad": lambda x, dy, m, r: ((dy * (x - m) * r).sum(0), dy.sum(0)),
    "batchnorm_dgrad": lambda x, dy, m, r, g, dg, db: (g * r * (dy - db / len(x) - (x - m) * r * dg / len(x)),),
    "mean_squared_error_dgrad": lambda p, t: (2 * (p - t) / p.size,),
}


def run(graph: Graph, given: dict[str, Array]) -> dict[str, Array]:
    values = dict(given)
    for op in graph.ops:
        if op.phase is not Phase.UPDATE:
            results = {**FORWARD, **BACKWARD}[op.kind](*(values[name] for name in op.inputs))
            values.update(zip(op.outputs, results, strict=True))
    return values


@pytest.mark.parametrize("frozen", [[], ["fc1"], ["fc1", "bn"], ["bn.gamma", "fc3"], ["fc2", "bn"]])
def test_gradients_match_finite_differences(frozen: list[str]) -> None:
    graph = freeze(residual_net(), frozen)
    step = training_graph(graph)
    check_order(step)
    rng = np.random.default_rng(7)
    given = {t.name: rng.normal(size=t.shape) for t in graph.tensors.values()}
    gradients = run(step, given)
    for t in graph.tensors.values():
        if t.role not in (Role.WEIGHT, Role.VECTOR_PARAMETER):
            continue
        trained = step.tensors.get(f"grad({t.name})")
        assert (trained is not None and trained.role is Role.WEIGHT_GRADIENT) is t.trainable
        assert (f"{t.name}.update" in ops_of(step)) is t.trainable
        if t.trainable:
            index, h = (0,) * len(t.shape), 1e-6
            loss = []
            for sign in (1, -1):
                moved = given[t.name].copy()
                moved[index] += sign * h
                loss.append(run(graph, {**given, t.name: moved})["loss"][0])
            expected = (loss[0] - loss[1]) / (2 * h)
            assert gradients[f"grad({t.name})"][index] == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_fan_out_sums_the_parts() -> None:
    step = training_graph(residual_net())
    total = ops_of(step)["act1.sum"]
    assert (total.kind, total.phase, total.layer) == ("add", Phase.DGRAD, "act1")
    # The join shares its gradient without an op; fc2's dgrad gives the second part.
    assert total.inputs == ("grad(join)", "grad(act1).2")
    assert total.outputs == ("grad(act1)",)
    assert ops_of(step)["bn.dgrad"].inputs == (
        "fc2",
        "grad(join)",
        "bn.mean",
        "bn.rstd",
        "bn.gamma",
        "grad(bn.gamma)",
        "grad(bn.beta)",
    )


def test_three_readers_and_one_that_reads_twice() -> None:
    net = Network("net", batch=2)
    x = net.input((4,)).linear(4, name="fc1")
    graph = (x.relu(name="a") + x.relu(name="b") + (x + x)).mean_squared_error()
    step = training_graph(graph)
    check_order(step)
    sums = [op for op in step.ops if op.layer == "fc1" and op.kind == "add"]
    assert [op.name for op in sums] == ["fc1.sum.1", "fc1.sum.2", "fc1.sum"]
    assert [op.inputs for op in sums] == [
        ("grad(add3)", "grad(add3)"),
        ("grad(fc1).sum.1", "grad(fc1).3"),
        ("grad(fc1).sum.2", "grad(fc1).4"),
    ]
    assert sums[-1].outputs == ("grad(fc1)",)
    given = {t.name: np.full(t.shape, 0.5) for t in graph.tensors.values()}
    # y = relu(x) + relu(x) + x + x with x > 0, so the gradient of x is four times that of y.
    values = run(step, given)
    np.testing.assert_allclose(values["grad(fc1)"], 4 * values["grad(add3)"])


def test_no_dgrad_before_the_first_trainable_parameter() -> None:
    step = training_graph(freeze(residual_net(), ["fc1", "fc2"]))
    backward = [op.name for op in step.ops if op.phase in (Phase.DGRAD, Phase.WGRAD)]
    assert backward == ["loss.dgrad", "fc3.wgrad", "fc3.bias_grad", "fc3.dgrad", "act2.dgrad", "bn.wgrad"]


def test_no_dgrad_into_the_input() -> None:
    step = training_graph(residual_net())
    assert "grad(input)" not in step.tensors
    assert "fc1.dgrad" not in ops_of(step)


def test_frozen_batchnorm_sums_for_its_dgrad_only() -> None:
    step = training_graph(freeze(residual_net(), ["bn"]))
    sums = ops_of(step)["bn.wgrad"]
    assert sums.phase is Phase.DGRAD
    assert [step.tensors[name].role for name in sums.outputs] == [Role.STATISTIC, Role.STATISTIC]
    assert "bn.gamma.update" not in ops_of(step)
    assert ops_of(training_graph(residual_net()))["bn.wgrad"].phase is Phase.WGRAD


def test_freeze_takes_whole_names() -> None:
    net = Network("net", batch=2)
    x = net.input((4,)).linear(4, name="fc1").linear(4, name="fc10")
    graph = freeze(x.mean_squared_error(), "fc1")
    assert [name for name, t in graph.tensors.items() if not t.trainable] == ["fc1.weight", "fc1.bias"]


def test_updates_with_master_weights() -> None:
    step = training_graph(residual_net(), Adam(learning_rate=0.01))
    weight, bias = ops_of(step)["fc1.weight.update"], ops_of(step)["fc1.bias.update"]
    states = ("fc1.weight.m", "fc1.weight.v")
    assert weight.inputs == ("fc1.weight.master", "grad(fc1.weight)", *states)
    assert weight.outputs == ("fc1.weight.master", "fc1.weight", *states)
    assert (weight.kind, weight.layer, weight.attrs["learning_rate"]) == ("adam_update", "fc1", 0.01)
    assert step.tensors["fc1.weight.master"].role is Role.MASTER
    assert step.tensors["fc1.weight.m"].role is Role.STATE
    assert bias.inputs == ("fc1.bias", "grad(fc1.bias)", "fc1.bias.m", "fc1.bias.v")
    assert bias.outputs == ("fc1.bias", "fc1.bias.m", "fc1.bias.v")


def test_updates_without_master_weights() -> None:
    step = training_graph(residual_net(), "nesterov", master_weights=False)
    weight = ops_of(step)["fc1.weight.update"]
    assert weight.inputs == ("fc1.weight", "grad(fc1.weight)", "fc1.weight.velocity")
    assert weight.outputs == ("fc1.weight", "fc1.weight.velocity")
    assert not [t for t in step.tensors.values() if t.role is Role.MASTER]


@pytest.mark.parametrize(
    ("optimizer", "attrs"),
    [
        ("sgd", {"learning_rate": 1e-3, "weight_decay": 0.0}),
        ("momentum", {"learning_rate": 0.1, "weight_decay": 5e-4, "momentum": 0.9}),
        ("nesterov", {"learning_rate": 0.1, "weight_decay": 5e-4, "momentum": 0.9}),
        ("adam", {"learning_rate": 1e-3, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
        ("adamw", {"learning_rate": 1e-3, "weight_decay": 1e-2, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
    ],
)
def test_optimizer_defaults(optimizer: str, attrs: dict[str, float]) -> None:
    """As in torch.optim 2.x; momentum and nesterov with the numbers usual for CIFAR-10."""
    assert OPTIMIZERS[optimizer]().attrs == attrs


def test_dangling_argmax_is_forward_only() -> None:
    net = Network("net", batch=2)
    logits = net.input((4,)).linear(3, name="fc")
    logits.argmax(name="top1")
    step = training_graph(logits.softmax_cross_entropy())
    check_order(step)
    assert [op.name for op in step.ops if op.layer == "top1"] == ["top1"]
    # It reads the logits too, but adds no part to their gradient.
    assert ops_of(step)["loss.dgrad"].outputs == ("grad(fc)",)


def test_parameter_beside_the_loss_is_left_as_it_is() -> None:
    net = Network("net", batch=2)
    x = net.input((4,)).linear(3, name="fc")
    x.linear(3, name="probe")
    step = training_graph(x.mean_squared_error())
    assert [op.name for op in step.ops if op.phase is Phase.UPDATE] == ["fc.weight.update", "fc.bias.update"]


def test_own_op_without_gradient_is_refused() -> None:
    register(OpRule(kind="own_round", shapes=lambda n, a, s: s, macs=nothing, vector_operations=per_output(1)))
    net = Network("net", batch=2)
    x = net.apply("own_round", net.input((4,)).linear(3), name="round1")
    graph = x.mean_squared_error()
    assert vector_operations(graph.ops[1], graph) == 6
    message = (
        "no gradient rule for op 'own_round' (node 'round1'); cut the graph before it "
        "or add one in hwsim/workload/ops/own_round.py"
    )
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        training_graph(graph)


def test_op_without_gradient_before_all_parameters_is_no_obstacle() -> None:
    net = Network("net", batch=2)
    x = net.input((4, 4, 3)).argmax(name="top1")
    graph = net.apply("argmax", x, name="again")
    assert graph.shape == (2, 4)
    step = training_graph(graph.linear(3, name="fc").mean_squared_error())
    assert "fc.dgrad" not in ops_of(step)


def test_shared_gradient_goes_to_the_trained_branch_only() -> None:
    net = Network("net", batch=2)
    fixed = net.apply("argmax", net.input((4, 4, 3)).argmax(name="first"), name="second")
    trained = net.input((6,), name="other").linear(4, name="fc")
    step = training_graph((trained + fixed).mean_squared_error())
    backward = [op.name for op in step.ops if op.phase in (Phase.DGRAD, Phase.WGRAD)]
    assert backward == ["loss.dgrad", "fc.wgrad", "fc.bias_grad"]


def argmax_net() -> Graph:
    return Network("net", 2).input((4, 4, 3)).conv2d(5, 1).argmax(name="top1").mean_squared_error()


def lossless_net() -> Graph:
    net = Network("net", 2)
    net.input((4,)).linear(3)
    return net.graph()


def two_loss_net() -> Graph:
    net = Network("net", 2)
    x = net.input((4,)).linear(3)
    x.mean_squared_error()
    return x.softmax_cross_entropy(name="second")


def tied_net() -> Graph:
    graph = Network("net", 2).input((4,)).linear(4, bias=False, name="a").linear(4, bias=False, name="b")
    tied = graph.mean_squared_error()
    first, second, loss = tied.ops
    second = Op(second.name, second.kind, second.phase, ("a", "a.weight"), second.outputs, layer="b")
    return Graph("net", 2, tied.tensors, (first, second, loss))


STEP_REFUSALS: dict[str, tuple[Callable[[], object], str]] = {
    "argmax": (
        lambda: training_graph(argmax_net()),
        "no gradient rule for op 'argmax' (node 'top1'); cut the graph before it "
        "or add one in hwsim/workload/ops/argmax.py",
    ),
    "no loss": (
        lambda: training_graph(lossless_net()),
        "net: training_graph takes a graph with one loss; its losses are: none",
    ),
    "two losses": (
        lambda: training_graph(two_loss_net()),
        "net: training_graph takes a graph with one loss; its losses are: loss, second",
    ),
    "step of a step": (
        lambda: training_graph(training_graph(residual_net())),
        "net: training_graph takes a forward graph; this one is a training step already",
    ),
    "nothing trainable": (
        lambda: training_graph(freeze(residual_net(), ["fc1", "fc2", "fc3", "bn"])),
        "net: no trainable parameter leads to the loss; unfreeze one to train it",
    ),
    "tied": (
        lambda: training_graph(tied_net()),
        "a.weight: a parameter must be read by one op; two read it, give each its own",
    ),
    "optimizer": (
        lambda: training_graph(residual_net(), "lion"),
        "optimizer must be one of sgd, momentum, nesterov, adam, adamw or an instance; it is 'lion'",
    ),
    "learning rate": (
        lambda: Sgd(learning_rate=-1.0),
        "sgd: learning_rate must be finite and at least 0; it is -1.0",
    ),
    "beta": (lambda: Adam(beta2=1.0), "adam: beta2 must be at least 0 and below 1; it is 1.0"),
    "momentum": (
        lambda: Momentum(momentum=float("nan")),
        "momentum: momentum must be finite and at least 0; it is nan",
    ),
    "same rule twice": (
        lambda: register(OpRule(kind="relu", macs=nothing, vector_operations=nothing)),
        "op 'relu' has a rule already; register yours under another kind",
    ),
    "prefix": (
        lambda: freeze(residual_net(), ["fc3", "layer9"]),
        "freeze: no parameter of 'net' is under 'layer9'; there are fc1, fc2, bn, fc3",
    ),
}


@pytest.mark.parametrize("case", STEP_REFUSALS)
def test_refusal(case: str) -> None:
    act, message = STEP_REFUSALS[case]
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        act()


def test_lifetimes() -> None:
    step = training_graph(residual_net())
    live, index = lifetimes(step), {op.name: i for i, op in enumerate(step.ops)}
    assert set(live) == set(step.tensors)
    last = len(step.ops) - 1
    for name in ("fc1.weight", "fc1.weight.master", "fc1.weight.velocity", "bn.gamma", "bn.running_mean"):
        assert live[name] == (0, last)
    assert live["input"] == (0, index["fc1.wgrad"])
    assert live["target"] == (0, index["loss.dgrad"])
    assert live["fc1"] == (index["fc1"], index["act1"])
    assert live["act1"] == (index["act1"], index["act1.dgrad"])
    assert live["loss"] == (index["loss"], index["loss"])
    assert live["grad(join)"] == (index["act2.dgrad"], index["act1.sum"])
    assert live["grad(fc3.bias)"] == (index["fc3.bias_grad"], index["fc3.bias.update"])


def test_stashes() -> None:
    step = training_graph(residual_net())
    assert stashes(step) == ("input", "act1", "fc2", "bn.mean", "bn.rstd", "act2", "fc3")
    frozen = training_graph(freeze(residual_net(), ["fc1", "fc2", "bn"]))
    assert stashes(frozen) == ("act2", "fc3")
    assert stashes(residual_net()) == ()
    # A frozen batchnorm's sums are statistics too, but made by the backward pass.
    assert stashes(training_graph(freeze(residual_net(), ["bn"]))) == stashes(step)


def test_memory_categories_and_bytes() -> None:
    step = training_graph(residual_net())
    kept = set(stashes(step))

    def seen(name: str) -> tuple[str, int]:
        tensor = step.tensors[name]
        return memory_category(tensor, name in kept), tensor_bytes(tensor, operand_bytes=2)

    assert seen("input") == ("stash", 3 * 4 * 2)
    assert seen("fc1") == ("workspace", 3 * 5 * 2)
    assert seen("bn.mean") == ("stash", 5 * 4)
    assert seen("fc1.weight") == ("parameters", 20 * 2)
    assert seen("fc1.bias") == ("parameters", 5 * 4)
    assert seen("bn.running_var") == ("parameters", 5 * 4)
    assert seen("fc1.weight.master") == ("optimizer_state", 20 * 4)
    assert seen("fc1.bias.velocity") == ("optimizer_state", 5 * 4)
    assert seen("grad(fc1.weight)") == ("gradients", 20 * 4)
    assert seen("grad(act1)") == ("workspace", 3 * 5 * 2)
    assert seen("target") == ("workspace", 3 * 2 * 2)
    labels = build("digits-mlp", 3).tensors["labels"]
    assert tensor_bytes(labels, operand_bytes=2) == 3 * 4
