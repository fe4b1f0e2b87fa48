"""Does training go through data, steps, exponents and checks as docs/contracts/training.md says?

A stand-in that computes in float64 says what the loop does, since the reference can be looped by hand; the machine
itself trains where bits matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsim.energy import ACTIONS, price_list
from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim.simulate import simulate
from hwsim.values import Dataset, digits
from hwsim.values.machine import Machine, OpValues
from hwsim.values.reference import evaluate, initial, run
from hwsim.values.scaling import LossScaling, Scaling, TensorScaling, least_exponent, scaling_of
from hwsim.values.training import StepCost, Training, TrainingError, step_cost
from hwsim.workload import (
    PRECISIONS,
    Adam,
    Graph,
    Momentum,
    Network,
    Op,
    Phase,
    Role,
    macs,
    training_graph,
    with_precision,
)
from hwsim_models import build

HW = load_accelerator("edge-8x8-bf16")
COST = StepCost(1000, 300, np.array([50.0, 40, 90]), np.array([20.0, 10, 30]), np.array([-0.5, -0.4, -0.7]))


class StandIn:
    """A machine in float64. `faults` maps (op, its n-th execution) to what it reports; each is reported once."""

    def __init__(self, graph: Graph, hw: Any, *, seed: int = 1, faults: Mapping[tuple[str, int], Any] = {}) -> None:
        self.graph, self.faults = graph, faults
        self.values = {t.name: np.zeros(t.shape) for t in graph.tensors.values()}
        self.exponents = dict.fromkeys(graph.tensors, 0)
        self.lfsr_state = np.array([seed, seed + 1], np.uint32)
        self.executed: dict[str, int] = {}
        self.step_numbers: list[int] = []

    def write(self, name: str, values: Any) -> None:
        self.restore(name, np.array(values, np.float64))

    def read(self, name: str) -> Any:
        return self.values[name]

    def stored(self, name: str) -> Any:
        return self.values[name].copy()

    def restore(self, name: str, bits: Any) -> None:
        assert bits.shape == self.values[name].shape
        self.values[name] = np.array(bits)

    def run(self, ops: Sequence[Op] | None = None, *, step_number: int = 1) -> list[OpValues]:
        ops = self.graph.ops if ops is None else tuple(ops)
        self.lfsr_state = self.lfsr_state + np.uint32(1)
        self.step_numbers.append(step_number)
        self.values.update(run(replace(self.graph, ops=ops), self.values, step_number=step_number))
        return [self.report(op) for op in ops]

    def report(self, op: Op) -> OpValues:
        count = self.executed[op.name] = self.executed.get(op.name, 0) + 1
        work = macs(op, self.graph)
        base = OpValues(op.name, op.kind, op.phase, 0, 0, 0, work, work // 4)
        return replace(base, **self.faults.get((op.name, count), {}))


def stand_in(faults: Mapping[tuple[str, int], Any]) -> Callable[..., StandIn]:
    """Factory of machines of which the first, that trains, has faults."""
    left = [faults]
    return lambda graph, hw, seed: StandIn(graph, hw, seed=seed, faults=left.pop() if left else {})


def few(train: int = 100, test: int = 40) -> Dataset:
    data = digits()
    return replace(
        data,
        train_x=data.train_x[:train],
        train_y=data.train_y[:train],
        test_x=data.test_x[:test],
        test_y=data.test_y[:test],
    )


def training(
    model: str | Graph = "digits-mlp",
    *,
    data: Dataset | None = None,
    precision: str = "bf16",
    machine: Any = StandIn,
    batch: int = 32,
    **options: Any,
) -> Training:
    graph = build(model, batch) if isinstance(model, str) else model
    return Training(graph, HW, data or few(), cost=COST, precision=precision, machine=machine, **options)


# Order


@pytest.mark.parametrize("optimizer", [Momentum(learning_rate=0.05), Adam(learning_rate=3e-3)], ids=lambda o: o.name)
def test_training_is_the_loop_over_batches(optimizer: Any) -> None:
    """Losses and accuracies of the stand-in are those of the reference, looped by hand."""
    trained = training("digits-cnn", optimizer=optimizer, seed=3)
    step, data = training_graph(build("digits-cnn", 32), optimizer), few()
    tensors, losses = initial(step, seed=3), []
    for epoch in range(2):
        record = trained.train_epoch()
        for x, y in data.batches(32, seed=3, epoch=epoch):
            tensors = run(step, tensors | {"input": x, "labels": y}, step_number=len(losses) + 1)
            losses.append(float(tensors["loss"][0]))
        right = evaluate(step, tensors, data.test_x).argmax(1) == data.test_y  # 40 samples: a whole batch and 8
        assert record is not None
        assert record.test_accuracy == pytest.approx(100 * right.mean(), abs=1e-9)
        assert record.loss == pytest.approx(np.mean(losses[3 * epoch :]), rel=1e-12)
    assert trained.losses == losses
    assert [r.steps for r in trained.records] == [3, 6]  # 100 samples: three batches of 32, four samples left out
    for name in ("fc.weight", "conv1.bn.running_var" if "conv1.bn.running_var" in tensors else "fc.bias"):
        np.testing.assert_array_equal(trained.machine.read(name), tensors[name])


def test_the_test_does_not_touch_what_trains() -> None:
    trained = training()
    trained.train_epoch()
    before = trained.checkpoint()
    assert trained.test() == trained.test()
    after = trained.checkpoint()
    assert before.progress == after.progress
    assert all(np.array_equal(before.arrays[name], after.arrays[name]) for name in before.arrays)


def test_every_test_begins_with_the_same_random_words() -> None:
    trained = training()
    begun = trained._tester.lfsr_state.copy()
    trained.test()
    first = trained._tester.lfsr_state.copy()
    trained.test()
    assert (first != begun).any()
    np.testing.assert_array_equal(trained._tester.lfsr_state, first)


def test_the_test_reads_bits_with_the_exponents_that_they_have() -> None:
    trained = training(precision="int8", machine=Machine)
    trained.train_epoch()
    shared = trained._tester.graph.tensors.keys()
    assert trained._tester.exponents == {n: e for n, e in trained.machine.exponents.items() if n in shared}
    assert len(set(trained._tester.exponents.values())) > 2
    for name in ("fc1.weight", "fc2.bias"):
        np.testing.assert_array_equal(trained._tester.read(name), trained.machine.read(name))


# Cycles and energy


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 10**9))
def test_cost_is_linear_in_counts(steps: int, skipped: int, gated: int) -> None:
    energy = COST.total_energy_pj(steps, skipped, gated)
    np.testing.assert_allclose(
        energy, steps * COST.energy_pj - skipped * COST.update_energy_pj + gated * COST.gated_pj, rtol=1e-12, atol=1e-6
    )
    assert COST.total_cycles(steps, skipped) == 1000 * steps - 300 * skipped
    column = COST.total_energy_pj(np.array([0, steps]), np.array([0, skipped]), np.array([0, gated]))
    assert column.shape == (3, 2)
    np.testing.assert_array_equal(column[:, 1], energy)


def test_cost_is_that_of_the_simulated_step() -> None:
    step = simulate(build("digits-mlp", 32), HW, "momentum")
    cost = step_cost(step)
    assert cost.cycles == step.cycles
    assert cost.update_cycles == sum(op.cycles for op in step.ops if op.phase is Phase.UPDATE)
    total = step.energy_pj
    np.testing.assert_allclose(cost.energy_pj, [total.value, total.low, total.high], rtol=1e-12)
    updates = [op.energy_pj for op in step.ops if op.phase is Phase.UPDATE]
    np.testing.assert_allclose(cost.update_energy_pj[0], sum(e.value for e in updates), rtol=1e-12)
    prices = price_list(HW).matrix
    np.testing.assert_array_equal(
        cost.gated_pj, prices[:, ACTIONS.index("array.gated_macs")] - prices[:, ACTIONS.index("array.macs")]
    )


def test_energy_counts_macs_with_a_zero_operand_as_they_occur() -> None:
    trained = training()
    record = trained.train_epoch()
    per_step = sum(macs(op, trained.step) // 4 for op in trained.step.ops)
    assert trained.gated_macs == [per_step] * 3
    assert record is not None
    assert record.macs == 3 * sum(macs(op, trained.step) for op in trained.step.ops)
    assert (record.gated_macs, record.cycles) == (3 * per_step, 3000)
    assert record.energy_pj == 3 * 50.0 + 3 * per_step * -0.5
    np.testing.assert_allclose(trained.energy_by_step_pj()[:, -1], trained.energy_pj)


# Checks

FAULTS = {
    "forward": (("fc2", 2), {"nonfinite": 3}, "op 'fc2' (linear, forward) stored 3 infinities or NaNs"),
    "backward": (
        ("fc2.dgrad", 2),
        {"invalid": 1000},
        "op 'fc2.dgrad' (linear_dgrad, dgrad) converted or summed 1,000 numbers that its format cannot hold",
    ),
    "update": (
        ("fc1.weight.update", 2),
        {"nonfinite": 1},
        "op 'fc1.weight.update' (momentum_update, update) stored 1 infinities or NaNs",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_training_stops_where_a_nan_first_appears_and_is_put_back(case: str) -> None:
    where, what, sentence = FAULTS[case]
    trained = training(machine=stand_in({where: what}))
    states = []
    with pytest.raises(TrainingError) as raised:
        trained.train_epoch(on_step=lambda: states.append(trained.checkpoint()))
    assert str(raised.value) == (
        f"digits-mlp: {sentence} in step 2, epoch 1; it is the first to do so; begin anew with a smaller learning rate"
    )
    assert (raised.value.op, raised.value.step) == (where[0], 2)
    now = trained.checkpoint()
    assert now.progress == states[-1].progress
    for name, array in states[-1].arrays.items():
        np.testing.assert_array_equal(now.arrays[name], array)
    # The fault is reported once: what goes on from here is what would have been without it.
    trained.train_epoch()
    whole = training()
    whole.train_epoch()
    assert trained.losses == whole.losses
    assert trained.weights_sha256() == whole.weights_sha256()


def test_saturation_is_counted_and_goes_on() -> None:
    faults = {("fc1", 1): {"overflow": 5}, ("fc2.dgrad", 2): {"overflow": 2}, ("fc1.weight.update", 3): {"overflow": 1}}
    trained = training(machine=stand_in(faults))
    record = trained.train_epoch()
    assert record is not None
    assert (record.saturations, record.skipped_steps) == (8, 0)


def test_a_nan_in_the_test_stops_training() -> None:
    machines = [{}, {("fc2", 2): {"nonfinite": 7}}]
    trained = training(machine=lambda graph, hw, seed: StandIn(graph, hw, seed=seed, faults=machines.pop(0)))
    with pytest.raises(TrainingError, match=r"op 'fc2' \(linear, forward\) stored 7 .* in the test after step 3; "):
        trained.train_epoch()


# Loss scaling


class Narrow(StandIn):
    """A stand-in that says that gradients are stored in 16 bits."""

    def stored(self, name: str) -> Any:
        bits = super().stored(name)
        return bits.astype(np.float16) if self.graph.tensors[name].role is Role.GRADIENT else bits


def gradient_exponents(trained: Training) -> set[int]:
    return {trained.machine.exponents[t.name] for t in trained.step.tensors.values() if t.role is Role.GRADIENT}


@pytest.mark.parametrize("what", ["nonfinite", "invalid", "overflow"])
@pytest.mark.parametrize("op", ["fc2.dgrad", "fc1.wgrad", "loss.dgrad"])
def test_a_step_whose_gradients_overflow_is_skipped(op: str, what: str) -> None:
    faults = [{(op, 2): {what: 1}}]
    trained = training(
        precision="fp16",
        optimizer=Adam(),
        machine=lambda graph, hw, seed: Narrow(graph, hw, seed=seed, faults=faults.pop() if faults else {}),
    )
    hashes, scales = [], []

    def note() -> None:
        hashes.append(trained.weights_sha256())
        scales.append(gradient_exponents(trained))

    assert gradient_exponents(trained) == {-10}
    record = trained.train_epoch(on_step=note)
    assert record is not None
    assert hashes[0] == hashes[1] != hashes[2]
    assert scales == [{-10}, {-9}, {-9}]
    assert trained.skipped == [False, True, False]
    assert (record.skipped_steps, record.saturations, trained.updates) == (1, 0, 2)
    assert record.cycles == 3 * 1000 - 300
    # Forward and backward, update: Adam's number counts updates.
    assert trained.machine.step_numbers == [1, 1, 2, 2, 2]  # type: ignore[attr-defined]
    others = {e for n, e in trained.machine.exponents.items() if trained.step.tensors[n].role is not Role.GRADIENT}
    assert others == {0}


def report(phase: Phase, **what: int) -> list[OpValues]:
    return [
        OpValues("x", "k", phase, **{"invalid": 0, "overflow": 0, "nonfinite": 0, "macs": 0, "gated_macs": 0} | what)
    ]


def loss_scaling() -> tuple[LossScaling, Any]:
    step = with_precision(training_graph(build("digits-mlp", 4)), PRECISIONS["fp16"])
    scaling, machine = LossScaling(step), Narrow(step, HW)
    scaling.start(machine, {}, 1.0)
    return scaling, machine


def test_the_scale_grows_after_200_updates_and_not_before() -> None:
    scaling, machine = loss_scaling()
    for _ in range(199):
        scaling.after_step(machine, skipped=False)
    assert scaling.scale == 10
    scaling.after_step(machine, skipped=False)
    assert (scaling.scale, scaling.good, machine.exponents["grad(fc2)"]) == (11, 0, -11)
    for _ in range(199):
        scaling.after_step(machine, skipped=False)
    scaling.after_step(machine, skipped=True)  # a skipped step begins the count anew
    for _ in range(199):
        scaling.after_step(machine, skipped=False)
    assert scaling.scale == 10
    for _ in range(200 * 20):
        scaling.after_step(machine, skipped=False)
    assert scaling.scale == 24


def test_training_stops_where_the_scale_cannot_shrink() -> None:
    scaling, machine = loss_scaling()
    overflow = report(Phase.WGRAD, overflow=1)
    for _ in range(30):
        assert scaling.stops(overflow) is None
        assert scaling.skips(overflow)
        scaling.after_step(machine, skipped=True)
    assert (scaling.scale, machine.exponents["grad(fc2)"]) == (-20, 20)
    assert scaling.stops(overflow) is overflow[0]
    assert scaling.stops(report(Phase.FORWARD, overflow=1)) is None


def test_loss_scaling_does_not_hide_what_is_wrong_elsewhere() -> None:
    scaling, _ = loss_scaling()
    for phase in (Phase.FORWARD, Phase.UPDATE):
        assert scaling.stops(report(phase, nonfinite=1)) is not None
        assert scaling.stops(report(phase, invalid=1)) is not None
        assert scaling.stops(report(phase, overflow=1)) is None
        assert not scaling.skips(report(phase, overflow=1))


# Tensor scaling


@given(st.floats(1e-30, 1e30))
def test_least_exponent_is_the_least(largest: float) -> None:
    exponent = least_exponent(largest)
    assert np.ldexp(127, exponent) >= largest > np.ldexp(127, exponent - 1)


class Integers(StandIn):
    """A stand-in whose operands are int8 that a test sets."""

    def __init__(self, graph: Graph, hw: Any, *, seed: int = 1) -> None:
        super().__init__(graph, hw, seed=seed)
        roles = (Role.INPUT, Role.WEIGHT, Role.ACTIVATION, Role.GRADIENT)
        self.bits = {t.name: np.full((2,), 64, np.int8) for t in graph.tensors.values() if t.role in roles}

    def stored(self, name: str) -> Any:
        return self.bits[name] if name in self.bits else super().stored(name)


def tensor_scaling(model: str = "digits-cnn") -> tuple[TensorScaling, Integers, dict[str, Any]]:
    step = with_precision(training_graph(build(model, 4)), PRECISIONS["int8"])
    scaling, machine = TensorScaling(step), Integers(step, HW)
    values = {t.name: np.full(2, 1.0) for t in step.tensors.values()}
    return scaling, machine, values


def test_tensors_between_which_values_only_pass_share_an_exponent() -> None:
    scaling, machine, values = tensor_scaling()
    scaling.start(machine, values, 1.0)
    shared = {frozenset(group) for group in scaling.groups if len(group) > 1}
    convolutions = [op for op in machine.graph.ops if op.kind == "batchnorm"]
    (flat,) = (op.outputs[0] for op in machine.graph.ops if op.kind == "flatten")
    bn1, bn2 = (op.outputs[0] for op in convolutions)
    relu1, relu2 = (op.outputs[0] for op in machine.graph.ops if op.kind == "relu")
    assert shared == {
        frozenset({bn1, relu1, "pool1"}),
        frozenset({bn2, relu2, "pool2", flat}),
        frozenset({f"grad({n})" for n in (bn1, relu1, "pool1")}),
        frozenset({f"grad({n})" for n in (bn2, relu2, "pool2", flat)}),
    }


def test_exponents_begin_where_the_largest_value_fits() -> None:
    scaling, machine, values = tensor_scaling()
    values |= {"pool1": np.array([3.0, -200.0]), "fc": np.zeros(2), "grad(fc)": np.array([1e-30])}
    scaling.start(machine, values, input_range=16.0)
    assert machine.exponents["pool1"] == machine.exponents["conv1.bn"] == 1
    assert machine.exponents["fc"] == -6
    assert machine.exponents["grad(fc)"] == -40
    assert machine.exponents["input"] == -2
    assert machine.exponents["labels"] == machine.exponents["loss"] == machine.exponents["fc.bias"] == 0


@pytest.mark.parametrize(("largest", "change"), [(127, 1), (-127, 1), (126, 0), (48, 0), (-48, 0), (47, -1), (0, -1)])
def test_exponents_follow_what_is_stored(largest: int, change: int) -> None:
    scaling, machine, values = tensor_scaling()
    scaling.start(machine, values, 1.0)
    for name in machine.bits:
        machine.bits[name] = np.array([largest, 0], np.int8)
    machine.bits["pool2"] = np.array([64, 0], np.int8)  # of a group the largest counts
    before = dict(machine.exponents)
    scaling.after_step(machine, skipped=False)
    moved = {name: machine.exponents[name] - e for name, e in before.items() if name in machine.bits}
    group = max(abs(largest), 64)
    assert moved["conv1.conv"] == moved["grad(fc)"] == moved["grad(pool1)"] == change
    assert moved["pool2"] == moved["conv2.bn"] == (1 if group == 127 else 0)
    assert moved["input"] == 0
    assert moved["fc.weight"] == 0  # waits
    scaling.before_update(machine)
    assert machine.exponents["fc.weight"] - before["fc.weight"] == change
    assert scaling.waiting == {}


def test_exponents_have_bounds() -> None:
    scaling, machine, values = tensor_scaling("digits-mlp")
    scaling.start(machine, values, 1.0)
    for bits, bound in ((0, -40), (127, 40)):
        for name in machine.bits:
            machine.bits[name] = np.array([bits], np.int8)
        for _ in range(100):
            scaling.after_step(machine, skipped=False)
            scaling.before_update(machine)
        assert machine.exponents["fc1"] == machine.exponents["fc1.weight"] == bound


def test_a_weight_that_no_update_rewrites_keeps_its_exponent() -> None:
    graph = training_graph(build("digits-mlp", 4), master_weights=False)
    scaling, machine = TensorScaling(graph), Integers(graph, HW)
    scaling.start(machine, {t.name: np.ones(2) for t in graph.tensors.values()}, 1.0)
    machine.bits["fc1.weight"] = np.array([127], np.int8)
    scaling.after_step(machine, skipped=False)
    assert scaling.waiting == {}


@pytest.mark.parametrize("precision", ["int8", "int8-nearest"])
def test_bits_of_a_weight_always_belong_to_its_exponent(precision: str) -> None:
    """On the machine, with steps so large that exponents of weights change."""
    trained = training(precision=precision, machine=Machine, optimizer=Momentum(learning_rate=0.8))
    changes = 0
    before = dict(trained.machine.exponents)

    def look() -> None:
        nonlocal changes, before
        for name in ("fc1.weight", "fc2.weight"):
            e = trained.machine.exponents[name]
            changes += e != before[name]
            stored, master = trained.machine.read(name), trained.machine.read(f"{name}.master")
            inside = abs(master) < 127 * 2.0**e
            assert inside.mean() > 0.9
            assert abs(stored - master)[inside].max() < 2.0**e
        before = dict(trained.machine.exponents)

    for _ in range(3):
        trained.train_epoch(on_step=look)
    assert changes >= 2


def test_scalings_by_name() -> None:
    step = training_graph(build("digits-mlp", 4))
    assert [type(scaling_of(n, step)) for n in ("none", "loss", "tensor")] == [Scaling, LossScaling, TensorScaling]
    with pytest.raises(HwsimError, match=r"^scaling must be none, loss or tensor; it is 'row'$"):
        scaling_of("row", step)


# Continuing


@pytest.mark.parametrize("precision", PRECISIONS)
def test_continuing_gives_the_same_bits(precision: str) -> None:
    """Interrupted after steps 2 (within an epoch), 3 (before the test), and 5, each time in a new machine."""
    options: dict[str, Any] = {"machine": Machine, "precision": precision, "optimizer": Momentum(learning_rate=0.3)}
    whole = training(**options)
    for _ in range(3):
        whole.train_epoch()
    part, kept = training(**options), None
    stops = [2, 3, 5]
    while len(part.records) < 3:
        if kept is not None:
            part = training(**options)
            part.resume(kept)
            kept = None
        if part.train_epoch(stop=lambda: bool(stops) and part.steps == stops[0]) is None:  # noqa: B023
            assert part.steps == stops.pop(0)
            kept = part.checkpoint()
    assert part.weights_sha256() == whole.weights_sha256()
    assert part.records == whole.records
    a, b = part.checkpoint(), whole.checkpoint()
    assert a.progress == b.progress
    assert a.arrays.keys() == b.arrays.keys()
    assert all(a.arrays[name].tobytes() == b.arrays[name].tobytes() for name in a.arrays)


def test_another_seed_gives_other_weights() -> None:
    hashes = set()
    for seed in (1, 2):
        trained = training(machine=Machine, seed=seed)
        trained.train_epoch()
        hashes.add(trained.weights_sha256())
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"seed": 2}, "seed 1, this run 2"),
        ({"batch": 16}, "batch 32, this run 16"),
        ({"precision": "fp32"}, "precision.name bf16, this run fp32"),
        ({"optimizer": Momentum(learning_rate=0.2)}, "optimizer.learning_rate 0.1, this run 0.2"),
        ({"optimizer": "sgd"}, "optimizer.name momentum, this run sgd"),
        ({"model": "digits-cnn"}, "model digits-mlp, this run digits-cnn"),
    ],
)
def test_continuing_with_other_options_is_refused(options: dict[str, Any], difference: str) -> None:
    kept = training().checkpoint()
    with pytest.raises(HwsimError) as raised:
        training(**options).resume(kept)
    assert str(raised.value) == f"the checkpoint has {difference}; give what it was begun with, or begin anew"


def test_continuing_with_other_data_is_refused() -> None:
    kept = training().checkpoint()
    with pytest.raises(HwsimError, match=r"^the checkpoint has data\.sha256 \w{12}…, this run \w{12}…; "):
        training(data=few(101)).resume(kept)


# Refusals


def test_what_cannot_be_trained_is_refused() -> None:
    squared = Network("squared", batch=4).input((8, 8, 1)).flatten().linear(10).mean_squared_error()
    nine = Network("nine", batch=4).input((8, 8, 1)).flatten().linear(9).softmax_cross_entropy()
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"model": squared},
            "squared: training on digits takes a network with one input that ends in softmax_cross_entropy",
        ),
        ({"model": nine}, "nine: it has 9 classes; the labels of digits are 0 to 9"),
        (
            {"model": "lenet"},
            "digits: one sample is (8, 8, 1); a network that reads (32, 32, 3) cannot be trained on it; "
            "choose another of both",
        ),
        ({"batch": 101}, "digits: batch must be from 1 to the 100 training samples; it is 101"),
        ({"seed": 2**32}, "seed must be from 0 to 2^32 - 1; it is 4294967296"),
        ({"seed": -1}, "seed must be from 0 to 2^32 - 1; it is -1"),
    ]
    for options, sentence in cases:
        with pytest.raises(HwsimError) as raised:
            training(**options)
        assert str(raised.value) == sentence


def test_protocols_are_those_of_results() -> None:
    """`step_cost` reads no more than it says."""
    actions = np.zeros(len(ACTIONS))
    ops = [SimpleNamespace(phase=Phase.FORWARD, cycles=5, actions=actions)]
    assert step_cost(SimpleNamespace(hardware=HW, ops=ops, recompute="none")).cycles == 5
