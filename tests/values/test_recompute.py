"""Does training with recomputation end with the bits of training without it, on the machine and in the reference?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim.simulate import simulate
from hwsim.values import Dataset, digits
from hwsim.values.reference import initial, run
from hwsim.values.scaling import TensorScaling
from hwsim.values.training import Training, step_cost
from hwsim.workload import (
    PRECISIONS,
    Graph,
    Network,
    Phase,
    Precision,
    Role,
    Value,
    training_graph,
    with_precision,
    with_recompute,
)
from hwsim.workload.recompute import originals
from hwsim_models import build

HW = load_accelerator("edge-8x8-bf16")
STEPS = 3


def few() -> Dataset:
    data = digits()
    parts = {"train_x": data.train_x[: 8 * STEPS], "train_y": data.train_y[: 8 * STEPS]}
    return replace(data, **parts, test_x=data.test_x[:8], test_y=data.test_y[:8])


def trained(model: str, precision: str | Precision, recompute: str) -> Training:
    """A network after an epoch of three steps."""
    graph = build(model, 8)
    cost = step_cost(simulate(graph, HW, precision=precision, recompute=recompute))
    training = Training(graph, HW, few(), cost=cost, precision=precision, recompute=recompute, seed=5)
    training.train_epoch()
    return training


def check_equal(ours: Training, plain: Training) -> None:
    """Everything that both have is the same to the bit, and what is computed again is what was dropped."""
    assert any(op.phase is Phase.RECOMPUTE for op in ours.step.ops)
    assert ours.losses == plain.losses
    assert len(ours.losses) == STEPS
    assert ours.weights_sha256() == plain.weights_sha256()
    for name in plain.step.tensors:
        assert np.array_equal(ours.machine.stored(name), plain.machine.stored(name), equal_nan=False), name
        assert ours.machine.exponents[name] == plain.machine.exponents[name], name
    for name, original in originals(ours.step).items():
        assert ours.machine.exponents[name] == ours.machine.exponents[original], name
        assert ours.machine.stored(name).tobytes() == ours.machine.stored(original).tobytes(), name
        assert np.count_nonzero(ours.machine.stored(name)), name
    assert ours.machine.lfsr_state.tolist() == plain.machine.lfsr_state.tolist()
    for field in ("loss", "test_accuracy", "steps", "skipped_steps", "saturations"):
        assert getattr(ours.records[0], field) == getattr(plain.records[0], field), field


ROUNDS_ONLY_GRADIENTS = replace(PRECISIONS["bf16"], name="mixed", gradients_rounding="stochastic")


@pytest.mark.parametrize("precision", ["bf16", "fp32", "fp16", "int8-nearest", ROUNDS_ONLY_GRADIENTS], ids=str)
@pytest.mark.parametrize("model", ["digits-cnn", "digits-resnet"])
def test_three_steps_end_with_the_same_bits(model: str, precision: str | Precision) -> None:
    plain = trained(model, precision, "none")
    for policy in ("cheap", "sqrt"):
        ours = trained(model, precision, policy)
        check_equal(ours, plain)
        assert ours.cycles > plain.cycles
        assert ours.records[0].macs >= plain.records[0].macs


def test_a_cost_of_another_policy_is_refused() -> None:
    graph = build("digits-cnn", 8)
    cost = step_cost(simulate(graph, HW, recompute="cheap"))
    with pytest.raises(HwsimError, match=r"^digits-cnn: the cost given is of a step with recompute cheap, not none; "):
        Training(graph, HW, few(), cost=cost)


def test_stochastic_rounding_is_refused() -> None:
    first = {"cheap": "conv2.bn", "sqrt": "pool1"}
    for policy, op in first.items():
        sentence = (
            f"digits-cnn: '{op}' cannot be computed again, since it is rounded stochastically and would not get the "
            "same bits; round activations to nearest (precision int8-nearest does), or choose recompute 'none'"
        )
        graph = build("digits-cnn", 4)
        with pytest.raises(HwsimError, match=f"^{re.escape(sentence)}$"):
            simulate(graph, HW, precision="int8", recompute=policy)
        with pytest.raises(HwsimError, match=f"^{re.escape(sentence)}$"):
            with_precision(with_recompute(training_graph(graph), policy), PRECISIONS["int8"])
    assert simulate(build("digits-mlp", 4), HW, precision="int8", recompute="cheap").cycles  # there is nothing to drop


def test_what_is_computed_again_shares_its_exponent() -> None:
    step = with_recompute(
        with_precision(training_graph(build("digits-resnet", 4)), PRECISIONS["int8-nearest"]), "cheap"
    )
    groups = TensorScaling(step).groups
    pairs = originals(step)
    assert len(pairs) > 10
    for name, original in pairs.items():
        assert sum(name in group for group in groups) == sum({name, original} <= set(group) for group in groups) == 1


def test_a_checkpoint_says_what_was_computed_again() -> None:
    ours = trained("digits-cnn", "bf16", "cheap")
    saved = ours.checkpoint()
    assert saved.config["recompute"] == "cheap"
    other = trained("digits-cnn", "bf16", "none")
    with pytest.raises(HwsimError, match=r"^the checkpoint has recompute cheap, this run none; "):
        other.resume(saved)
    older = other.checkpoint()
    other.resume(replace(older, config={k: v for k, v in older.config.items() if k != "recompute"}))


# The reference, on random networks


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """A few blocks, some with a shortcut, that end in one loss or the other."""
    net = Network("random", batch=draw(st.integers(2, 3)))
    x = net.input((draw(st.integers(3, 6)), draw(st.integers(3, 6)), draw(st.integers(1, 3))))
    for _ in range(draw(st.integers(1, 5))):
        x = _block(draw, x)
    x = x.flatten() if draw(st.booleans()) else x.global_avg_pool()
    for _ in range(draw(st.integers(1, 3))):
        x = x.linear(draw(st.integers(1, 5)))
        x = x.batchnorm().relu() if draw(st.booleans()) else x
    return x.softmax_cross_entropy() if draw(st.booleans()) else x.mean_squared_error()


def _block(draw: st.DrawFn, x: Value) -> Value:
    kind = draw(st.sampled_from(["conv", "conv-bn-relu", "residual", "relu6", "max", "avg", "add"]))
    channels = draw(st.integers(1, 4))
    if kind == "conv":
        return x.conv2d(channels, 3, padding=1, bias=draw(st.booleans()))
    if kind == "conv-bn-relu":
        return x.conv2d(channels, draw(st.integers(1, 2)), padding=1).batchnorm().relu()
    if kind == "residual":
        return (x.conv2d(x.shape[-1], 3, padding=1).batchnorm() + x).relu()
    if kind in ("max", "avg"):
        return (x.max_pool if kind == "max" else x.avg_pool)(2, stride=1, padding=1)
    return x.relu6() if kind == "relu6" else x + x.relu()


@given(networks(), st.sampled_from(["cheap", "sqrt"]), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_the_reference_of_a_random_network_computes_the_same(graph: Graph, policy: str, seed: int) -> None:
    step = training_graph(graph)
    ours = with_recompute(step, policy)
    given_values = {**initial(step, seed), **samples(step, seed)}
    want, got = run(step, given_values), run(ours, given_values)
    assert set(want) <= set(got)
    for name, value in want.items():
        assert np.array_equal(value, got[name]), name
    for name, original in originals(ours).items():
        assert np.array_equal(got[name], got[original]), name


def samples(step: Graph, seed: int) -> Mapping[str, Any]:
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for tensor in step.tensors.values():
        if tensor.role is Role.INPUT or (tensor.role is Role.LABEL and len(tensor.shape) > 1):
            found[tensor.name] = rng.standard_normal(tensor.shape)
        elif tensor.role is Role.LABEL:
            found[tensor.name] = np.zeros(tensor.shape)
    return found
