"""Does recomputation drop what its policies say, compute it again in time, and cost what the contract says?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim.simulate import live_bytes, simulate, training_step
from hwsim.workload import (
    RECOMPUTE_POLICIES,
    Graph,
    Network,
    Phase,
    Role,
    freeze,
    lifetimes,
    macs,
    memory_category,
    stashes,
    training_graph,
    vector_operations,
    with_recompute,
)
from hwsim.workload.recompute import originals
from hwsim_models import MODELS, build

HW = load_accelerator("edge-32x32-bf16")


def block_net() -> Graph:
    """A block with a shortcut between a stem and a linear layer: 3 · 4 · 4 pixels."""
    net = Network("net", batch=3)
    x = net.input((4, 4, 2)).conv2d(8, 3, padding=1, name="stem").batchnorm(name="bn1").relu(name="relu1")
    y = x.conv2d(8, 3, padding=1, name="conv").batchnorm(name="bn2").add(x, name="join").relu(name="relu2")
    return y.max_pool(2, name="pool").flatten(name="flat").linear(5, name="fc").softmax_cross_entropy()


def chain_net(layers: int) -> Graph:
    """A chain of equal convolutions and rectifiers; only the rectified outputs are stashed."""
    x = Network("chain", batch=2).input((4, 4, 8))
    for i in range(layers):
        x = x.conv2d(8, 3, padding=1, name=f"conv{i}").relu(name=f"relu{i}")
    return x.flatten(name="flat").linear(2, name="fc").softmax_cross_entropy()


def again_ops(step: Graph) -> list[str]:
    return [op.name for op in step.ops if op.phase is Phase.RECOMPUTE]


def index_of(step: Graph) -> dict[str, int]:
    return {op.name: i for i, op in enumerate(step.ops)}


def test_none_gives_the_step_itself() -> None:
    step = training_graph(block_net())
    assert with_recompute(step, "none") is step


def test_cheap_drops_what_follows_from_kept_convolutions() -> None:
    step = training_graph(block_net())
    assert stashes(step) == ("input", "stem", "bn1.mean", "bn1.rstd", "relu1", "conv", "bn2.mean", "bn2.rstd", "relu2",
                             "pool", "flat", "loss.probabilities")  # fmt: skip
    ours = with_recompute(step, "cheap")
    assert stashes(ours) == ("input", "stem", "bn1.mean", "bn1.rstd", "conv", "bn2.mean", "bn2.rstd",
                             "loss.probabilities")  # fmt: skip
    names = ["bn1", "relu1", "bn2", "join", "relu2", "pool", "flat"]
    assert again_ops(ours) == [f"{name}.again" for name in names]
    index = index_of(ours)
    # All of them lead to the first backward op that needs one, and stand just before it.
    assert [op.name for op in ours.ops[index["fc.wgrad"] - 7 : index["fc.wgrad"]]] == again_ops(ours)
    assert ours.ops[index["fc.wgrad"]].inputs == ("flat.again", "grad(fc)")
    assert ours.ops[index["relu1.dgrad"]].inputs == ("relu1.again", "grad(relu1)")
    assert ours.ops[index["pool.dgrad"]].inputs[:2] == ("relu2.again", "pool.again")


def test_cheap_keeps_what_would_need_a_convolution_again() -> None:
    """Without batch normalisation no backward op reads a convolution's output, so its rectified one is kept."""
    step = training_graph(chain_net(3))
    ours = with_recompute(step, "cheap")
    assert again_ops(ours) == ["flat.again"]
    assert sum(macs(op, ours) for op in ours.ops) == sum(macs(op, step) for op in step.ops)


def test_sqrt_keeps_checkpoints_spaced_by_bytes() -> None:
    """Eight rectified outputs of 512 B and as many again of the flat one: 9 cut points, 3 checkpoints, every 1152 B."""
    ours = with_recompute(training_graph(chain_net(8)), "sqrt")
    kept = [name for name in stashes(ours) if name.startswith("relu")]
    assert kept == ["relu1", "relu4", "relu6", "relu7"]  # after the last checkpoint all are kept
    assert again_ops(ours) == [f"{n}{i}.again" for i in (5,) for n in ("conv", "relu")] + [
        f"{n}{i}.again" for i in (2, 3) for n in ("conv", "relu")
    ] + ["conv0.again", "relu0.again"]  # fmt: skip
    index = index_of(ours)
    # Segments are computed again when the backward pass enters them.
    assert index["relu6.dgrad"] < index["conv5.again"] < index["conv6.wgrad"]
    assert index["relu4.dgrad"] < index["conv2.again"] < index["conv4.wgrad"]
    assert ours.ops[index["conv2.again"]].inputs == ("relu1", "conv2.weight")


def test_a_checkpoint_is_on_every_path() -> None:
    """Of the five cut points two are kept; "conv" lies nearer to the second third, but a path leads past it."""
    ours = with_recompute(training_graph(block_net()), "sqrt")
    kept = [name for name in stashes(ours) if ours.tensors[name].role is Role.ACTIVATION]
    assert kept == ["relu1", "relu2", "pool", "flat"]
    assert again_ops(ours) == ["conv.again", "stem.again"]  # what batch normalisation's gradients read


def test_batch_normalisation_is_applied_with_what_was_stored() -> None:
    ours = with_recompute(training_graph(block_net()), "cheap")
    apply = ours.ops[index_of(ours)["bn1.again"]]
    assert (apply.kind, apply.layer, apply.attrs) == ("batchnorm_apply", "bn1", {})
    assert apply.inputs == ("stem", "bn1.gamma", "bn1.beta", "bn1.mean", "bn1.rstd")
    assert apply.outputs == ("bn1.again",)
    assert (macs(apply, ours), vector_operations(apply, ours)) == (0, 3 * 16 * 8 + 3 * 8)
    writers = [op.name for op in ours.ops if "bn1.running_mean" in op.outputs]
    assert writers == ["bn1"]


def test_lifetimes_and_categories() -> None:
    step = with_recompute(training_graph(block_net()), "cheap")
    live, index, stashed = lifetimes(step), index_of(step), set(stashes(step))
    assert live["relu1"] == (index["relu1"], index["join"])  # its last forward reader
    assert live["relu2"] == (index["relu2"], index["pool"])
    assert live["relu1.again"] == (index["relu1.again"], index["relu1.dgrad"])
    assert live["bn2.again"] == (index["bn2.again"], index["join.again"])
    for name in ("relu1", "relu1.again", "bn2.again"):
        assert memory_category(step.tensors[name], name in stashed) == "workspace"
    assert memory_category(step.tensors["stem"], "stem" in stashed) == "stash"


def test_statistics_that_only_a_recomputation_reads_are_stashed() -> None:
    """Of a frozen normalisation behind a frozen layer nothing is differentiated, but fc2 needs what it gives."""
    net = Network("net", batch=3)
    x = net.input((4,)).linear(5, name="fc1")
    y = x.batchnorm(name="bn").relu(name="relu").linear(2, name="fc2").add(x.linear(2, name="fc3"), name="join")
    step = training_graph(freeze(y.mean_squared_error(), ["fc1", "bn"]))
    assert stashes(step) == ("fc1", "relu", "join")
    ours = with_recompute(step, "cheap")
    assert stashes(ours) == ("fc1", "bn.mean", "bn.rstd", "join")
    assert again_ops(ours) == ["bn.again", "relu.again"]
    assert lifetimes(ours)["bn.rstd"][1] == index_of(ours)["bn.again"]


def test_frozen_layers_need_nothing_again() -> None:
    step = training_graph(freeze(block_net(), ["stem", "bn1", "conv", "bn2"]))
    for policy in ("cheap", "sqrt"):
        assert with_recompute(step, policy) is step


def check_complete(step: Graph, ours: Graph) -> None:
    """Every tensor is given before it is read, once; the other ops are as they were."""
    start = {Role.INPUT, Role.LABEL, Role.WEIGHT, Role.VECTOR_PARAMETER, Role.BUFFER, Role.MASTER, Role.STATE}
    made = {t.name for t in step.tensors.values() if t.role in start}
    for op in ours.ops:
        assert made.issuperset(op.inputs), op
        assert op.phase is not Phase.RECOMPUTE or made.isdisjoint(op.outputs), op
        made.update(op.outputs)
    others = [op for op in ours.ops if op.phase is not Phase.RECOMPUTE]
    again = originals(ours)
    for one, other in zip(others, step.ops, strict=True):
        assert (one.name, one.kind, one.phase, one.outputs, one.attrs) == (
            other.name, other.kind, other.phase, other.outputs, other.attrs)  # fmt: skip
        assert tuple(again.get(name, name) for name in one.inputs) == other.inputs
        if one.phase in (Phase.FORWARD, Phase.UPDATE):
            assert one.inputs == other.inputs
    readers = {name for op in ours.ops for name in op.inputs}
    assert all(name in readers for name in again)


def check_costs(step: Graph, ours: Graph) -> None:
    forward = {op.name: macs(op, step) for op in step.ops}
    repeated = sum(forward[op.layer] for op in ours.ops if op.phase is Phase.RECOMPUTE)
    assert sum(macs(op, ours) for op in ours.ops) == sum(forward.values()) + repeated


@pytest.mark.parametrize("policy", RECOMPUTE_POLICIES)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_complete_and_needs_no_more_memory(model: str, policy: str) -> None:
    graph = build(model, 128)
    step, hw = training_step(graph, HW)
    ours, _ = training_step(graph, HW, recompute=policy)
    check_complete(step, ours)
    check_costs(step, ours)
    assert live_bytes(ours, hw) <= live_bytes(step, hw)
    if policy != "none" and model.startswith("resnet"):
        assert live_bytes(ours, hw) < 0.9 * live_bytes(step, hw)


@pytest.mark.parametrize("model", ["digits-resnet", "resnet9"])
def test_a_simulated_step_takes_more_cycles_and_less_memory(model: str) -> None:
    steps = {policy: simulate(build(model, 128), HW, recompute=policy) for policy in RECOMPUTE_POLICIES}
    none = steps.pop("none")
    assert (none.recompute, Phase.RECOMPUTE in none.phases) == ("none", False)
    for policy, step in steps.items():
        assert (step.recompute, Phase.RECOMPUTE in step.phases) == (policy, True)
        assert step.cycles > none.cycles
        assert step.energy_pj.value > none.energy_pj.value
        assert step.peak_memory_bytes < none.peak_memory_bytes
        assert step.forward_macs_per_sample == none.forward_macs_per_sample
        assert step.parameters == none.parameters == sum(op.parameters for op in step.ops)


@given(st.integers(1, 12), st.sampled_from(RECOMPUTE_POLICIES), st.booleans())
@settings(max_examples=60, deadline=None)
def test_chains_are_complete(layers: int, policy: str, frozen: bool) -> None:
    graph = chain_net(layers)
    step = training_graph(freeze(graph, ["conv0"]) if frozen else graph)
    ours = with_recompute(step, policy)
    check_complete(step, ours)
    check_costs(step, ours)
    assert live_bytes(ours, HW) <= live_bytes(step, HW)


def refused(policy: str = "cheap", step: Callable[[], Graph] = lambda: training_graph(block_net())) -> str:
    with pytest.raises(HwsimError) as caught:
        with_recompute(step(), policy)
    return str(caught.value)


def taken() -> Graph:
    net = Network("net", batch=2)
    x = net.input((4,)).linear(3, name="fc").batchnorm(name="bn")
    x.relu(name="bn.again")
    return training_graph(x.relu(name="relu").linear(2, name="fc2").mean_squared_error())


def test_refusals() -> None:
    assert refused("all") == "unknown recompute policy 'all'; choose one of none, cheap, sqrt"
    assert refused(step=block_net) == "net: with_recompute takes a training step; make one with training_graph"
    twice = lambda: with_recompute(training_graph(block_net()), "sqrt")  # noqa: E731
    assert refused(step=twice) == "net: this step recomputes already; give the one that it was made of"
    assert refused(step=taken) == "net: 'bn.again' is the name of what is computed again; rename that tensor"
