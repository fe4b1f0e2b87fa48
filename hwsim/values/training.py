"""Training on the machine: steps whose programs are executed bit by bit, with loss, accuracy, cycles and joules.

`Training` takes a network, an accelerator, data and what a step costs (`step_cost`), and trains epoch by epoch; its
state can be taken out and put back. Normative: docs/contracts/training.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from importlib import import_module
from itertools import islice
from math import fsum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hwsim.energy import ACTIONS, energy, price_list
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.values.checkpoint import Checkpoint, check_agreement
from hwsim.values.data import Dataset
from hwsim.values.reference import initial, run
from hwsim.values.scaling import LossScaling, TensorScaling, faulty, scaling_of
from hwsim.workload import Optimizer, inference_graph, macs, training_graph, with_recompute
from hwsim.workload.graph import Graph, Phase, Role
from hwsim.workload.optimizers import optimizer_of
from hwsim.workload.precision import Precision, default_precision, precision_of, with_precision

if TYPE_CHECKING:
    from hwsim.values.machine import Machine, OpValues

__all__ = ["KEPT_ROLES", "LEARNT_ROLES", "EpochRecord", "StepCost", "TimedStep", "Training", "TrainingError",
           "sha256_of", "step_cost"]  # fmt: skip

#: Roles of what a step keeps for the next one, and of what has been learnt.
KEPT_ROLES = (Role.WEIGHT, Role.VECTOR_PARAMETER, Role.BUFFER, Role.MASTER, Role.STATE)
LEARNT_ROLES = (Role.WEIGHT, Role.VECTOR_PARAMETER, Role.MASTER)
_MOST_SEED = 2**32 - 1

Energies = NDArray[np.float64]


class TimedOp(Protocol):
    """What is read of `hwsim.results.OpResult`."""

    @property
    def phase(self) -> Phase:
        """Its phase."""

    @property
    def cycles(self) -> int:
        """Its cycles."""

    @property
    def actions(self) -> NDArray[np.float64]:
        """Its action counts."""


class TimedStep(Protocol):
    """What is read of `hwsim.results.StepResult`."""

    @property
    def hardware(self) -> Accelerator:
        """What it ran on."""

    @property
    def ops(self) -> Sequence[TimedOp]:
        """Its ops."""

    @property
    def recompute(self) -> str:
        """What its backward pass computes again."""


@dataclass(frozen=True, eq=False)
class StepCost:
    """What one step costs.

    Attributes
    ----------
    cycles, update_cycles : int
        Cycles of the step, and of its updates alone.
    energy_pj, update_energy_pj : ndarray of shape (3,), dtype float64
        Energy of the step in which no MAC has a zero operand, and of its updates alone: value, low, high [pJ].
    gated_pj : ndarray of shape (3,), dtype float64
        What a MAC with a zero operand costs more than another one [pJ]; below zero.
    hardware : str
        Name of the accelerator; empty for a cost that is not of one step on one accelerator.
    macs : int
        MACs of the step.
    recompute : str
        What its backward pass computes again.
    """

    cycles: int
    update_cycles: int
    energy_pj: Energies
    update_energy_pj: Energies
    gated_pj: Energies
    hardware: str = ""
    macs: int = 0
    recompute: str = "none"

    def total_cycles(self, steps: int, skipped: int) -> int:
        """Cycles of `steps` steps, `skipped` of them without updates."""
        return steps * self.cycles - skipped * self.update_cycles

    def total_energy_pj(self, steps: Any, skipped: Any, gated_macs: Any) -> Energies:
        """Energy of so many steps and MACs with a zero operand.

        Parameters
        ----------
        steps, skipped, gated_macs : int or ndarray of shape (n,)
            Counts; arrays give the energy at each of n moments.

        Returns
        -------
        ndarray of shape (3,) or (3, n), dtype float64
            Value, low, high [pJ].
        """
        energies: Energies = (
            np.multiply.outer(self.energy_pj, steps)
            - np.multiply.outer(self.update_energy_pj, skipped)
            + np.multiply.outer(self.gated_pj, gated_macs)
        )
        return energies


def step_cost(step: TimedStep) -> StepCost:
    """Give what a simulated step costs.

    Parameters
    ----------
    step : StepResult
        From `hwsim.simulate.simulate`, with the same batch, optimizer and precision as the training.
    """
    prices = price_list(step.hardware)
    updates = [op for op in step.ops if op.phase is Phase.UPDATE]
    mac, gated = (prices.matrix[:, ACTIONS.index(f"array.{name}")] for name in ("macs", "gated_macs"))

    def total(ops: Sequence[TimedOp]) -> Energies:
        pj: Energies = energy(sum((op.actions for op in ops), np.zeros(len(ACTIONS))), prices).sum(axis=-1)
        return pj

    return StepCost(
        hardware=step.hardware.name,
        recompute=step.recompute,
        macs=round(sum(float(op.actions[ACTIONS.index("array.macs")]) for op in step.ops)),
        cycles=sum(op.cycles for op in step.ops),
        update_cycles=sum(op.cycles for op in updates),
        energy_pj=total(step.ops),
        update_energy_pj=total(updates),
        gated_pj=gated - mac,
    )


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: its loss and accuracy, and totals from the first step to its end.

    Attributes
    ----------
    epoch : int
        Number, from 1.
    loss : float
        Mean over the epoch's steps.
    test_accuracy : float
        Test samples whose class was found [%].
    steps, skipped_steps : int
        Steps so far, and those whose updates were left out.
    cycles : int
        Cycles so far, without tests.
    energy_pj, energy_low_pj, energy_high_pj : float
        Energy so far, without tests [pJ].
    macs, gated_macs : int
        MACs so far, and those with a zero operand.
    saturations : int
        Values so far that were beyond the largest of their format.
    """

    epoch: int
    loss: float
    test_accuracy: float
    steps: int
    skipped_steps: int
    cycles: int
    energy_pj: float
    energy_low_pj: float
    energy_high_pj: float
    macs: int
    gated_macs: int
    saturations: int


class TrainingError(HwsimError):
    """An infinity or a NaN appeared; training was put back to the step before.

    Attributes
    ----------
    op, phase : str
        Where it first appeared.
    step : int
        In which step, from 1.
    """

    def __init__(self, sentence: str, op: str, phase: str, step: int) -> None:
        super().__init__(sentence)
        self.op, self.phase, self.step = op, phase, step


@dataclass(frozen=True, eq=False)
class _State:
    """What a step changes, as it was before it."""

    tensors: dict[str, NDArray[Any]]
    exponents: dict[str, int]
    lfsr_state: NDArray[np.uint32]
    scaling: dict[str, Any]


class Training:
    """A network in training; call `train_epoch` as often as there are epochs.

    Parameters
    ----------
    graph : Graph
        Forward graph that ends in `softmax_cross_entropy`.
    hw : Accelerator
        What it runs on; its operand format is set to the precision's.
    data : Dataset
        Samples of the network's shape, or of another one with as many elements.
    cost : StepCost
        What a step costs, from `step_cost`.
    optimizer : str or Optimizer
        As for `training_graph`.
    precision : str or Precision, optional
        Name or instance; the accelerator's own unless given.
    recompute : str
        What the backward pass computes again, as for `with_recompute`.
    seed : int
        0 to 2^32 − 1.
    machine : callable, optional
        ``(graph, hw, seed=…) -> Machine``, `hwsim.values.machine.Machine` unless given.

    Attributes
    ----------
    machine : Machine
        What runs the steps.
    step : Graph
        The training step.
    loss_tensor : str
        Name of its loss.
    losses, gated_macs, skipped : list
        Per step: loss, MACs with a zero operand, whether its updates were left out.
    records : list of EpochRecord
        The epochs that are done.
    updates, macs, saturations : int
        So far.
    first_saturation : str
        Where a value was first beyond the largest of its format: op, phase and step; empty if none was.

    Raises
    ------
    HwsimError
        If network and data do not fit, or the seed or the batch is out of range.
    """

    def __init__(
        self,
        graph: Graph,
        hw: Accelerator,
        data: Dataset,
        *,
        cost: StepCost,
        optimizer: str | Optimizer = "momentum",
        precision: str | Precision | None = None,
        recompute: str = "none",
        seed: int = 1,
        machine: Callable[..., Machine] | None = None,
    ) -> None:
        if not 0 <= seed <= _MOST_SEED:
            raise HwsimError(f"seed must be from 0 to 2^32 - 1; it is {seed}")
        make = machine or _machine()
        self.precision = default_precision(hw) if precision is None else precision_of(precision)
        self.hw = hw.with_format(self.precision.operand_format)
        self.optimizer, self.seed, self.cost = optimizer_of(optimizer), seed, cost
        step = training_graph(graph, self.optimizer, master_weights=self.precision.master_weights)
        self.recompute = recompute
        self.step = with_recompute(with_precision(step, self.precision), recompute)
        self._input, self._labels, self.loss_tensor, self._logits = _ends(self.step, data)
        self.data = data.shaped(self.step.tensors[self._input].shape[1:])
        if cost.hardware and (cost.hardware, cost.macs) != (
            self.hw.name,
            sum(macs(op, self.step) for op in self.step.ops),
        ):
            raise HwsimError(
                f"{self.step.name}: the cost given is of {cost.macs:,} MACs on {cost.hardware}, not of this step on "
                f"{self.hw.name}; simulate the same network, batch, optimizer and precision"
            )
        if cost.hardware and cost.recompute != recompute:
            raise HwsimError(
                f"{self.step.name}: the cost given is of a step with recompute {cost.recompute}, not {recompute}; "
                "simulate it with the same policy"
            )
        _check_finite(self.data)
        first_batch = next(self.data.batches(graph.batch, seed, epoch=0))  # refuses a batch that is too large
        self._to_backward = [op for op in self.step.ops if op.phase is not Phase.UPDATE]
        self._updates = [op for op in self.step.ops if op.phase is Phase.UPDATE]
        self._kept = [t.name for t in self.step.tensors.values() if t.role in KEPT_ROLES]
        self.machine = make(self.step, self.hw, seed=seed)
        inference = with_precision(inference_graph(graph), self.precision)
        self._tester = make(inference, self.hw, seed=seed)
        self._tester_words = self._tester.lfsr_state.copy()
        self._tester_kept = [name for name in self._kept if name in inference.tensors]
        self._tester_tensors = frozenset(inference.tensors)
        self._begin(*first_batch)
        self.losses: list[float] = []
        self.gated_macs: list[int] = []
        self.skipped: list[bool] = []
        self.records: list[EpochRecord] = []
        self.updates = self.macs = self.saturations = 0
        self.first_saturation = ""

    def _begin(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Write the initial parameters, with exponents that fit them and the first batch."""
        values = initial(self.step, self.seed)
        self.scaling = scaling_of(self.precision.scaling, self.step)
        seen: Mapping[str, Any] = {}
        if isinstance(self.scaling, TensorScaling):
            seen = run(replace(self.step, ops=tuple(self._to_backward)), {**values, self._input: x, self._labels: y})
        largest = max(float(np.abs(part).max(initial=0)) for part in (self.data.train_x, self.data.test_x))
        self.scaling.start(self.machine, seen, largest)
        for name, value in values.items():
            self.machine.write(name, value)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch: whole batches of the training samples."""
        samples: int = len(self.data.train_x)
        return samples // self.step.batch

    @property
    def steps(self) -> int:
        """Steps so far."""
        return len(self.losses)

    @property
    def cycles(self) -> int:
        """Cycles so far, without tests."""
        return self.cost.total_cycles(self.steps, sum(self.skipped))

    @property
    def energy_pj(self) -> Energies:
        """Energy so far, without tests: ndarray of shape (3,), value, low, high [pJ]."""
        return self.cost.total_energy_pj(self.steps, sum(self.skipped), sum(self.gated_macs))

    def energy_by_step_pj(self) -> Energies:
        """Energy from the first step to each one's end: ndarray of shape (3, steps), value, low, high [pJ]."""
        steps = np.arange(1, self.steps + 1)
        return self.cost.total_energy_pj(steps, np.cumsum(self.skipped), np.cumsum(self.gated_macs))

    def train_epoch(
        self, stop: Callable[[], bool] = lambda: False, on_step: Callable[[], None] = lambda: None
    ) -> EpochRecord | None:
        """Train to the end of the epoch under way, and test.

        Parameters
        ----------
        stop : callable, optional
            Asked after every step and every batch of the test; if true, training can be continued from there later.
        on_step : callable, optional
            Called after every step.

        Returns
        -------
        EpochRecord or None
            None if `stop` said so before the epoch's end.

        Raises
        ------
        TrainingError
            If an infinity or a NaN appeared; what it had changed has been put back.
        """
        epoch = len(self.records)
        done = self.steps - epoch * self.steps_per_epoch
        for x, y in islice(self.data.batches(self.step.batch, self.seed, epoch), done, None):
            self._train_step(x, y)
            on_step()
            if stop():
                return None
        accuracy = self.test(stop)
        if accuracy is None:
            return None
        losses = self.losses[epoch * self.steps_per_epoch :]
        value, low, high = self.energy_pj.tolist()
        record = EpochRecord(
            epoch=epoch + 1,
            loss=fsum(losses) / len(losses),
            test_accuracy=accuracy,
            steps=self.steps,
            skipped_steps=sum(self.skipped),
            cycles=self.cycles,
            energy_pj=value,
            energy_low_pj=low,
            energy_high_pj=high,
            macs=self.macs,
            gated_macs=sum(self.gated_macs),
            saturations=self.saturations,
        )
        self.records.append(record)
        return record

    def _train_step(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        before = self._state()
        machine, number = self.machine, self.updates + 1
        machine.write(self._input, x)
        machine.write(self._labels, y)
        values = machine.run(self._to_backward, step_number=number)
        self._check(values, before)
        skipped = self.scaling.skips(values)
        if not skipped:
            self.scaling.before_update(machine)
            updated = machine.run(self._updates, step_number=number)
            self._check(updated, before)
            values = [*values, *updated]
            self.updates += 1
        self.scaling.after_step(machine, skipped)
        self.losses.append(float(machine.read(self.loss_tensor).reshape(-1)[0]))
        self.skipped.append(skipped)
        self.gated_macs.append(sum(int(v.gated_macs) for v in values))
        self.macs += sum(int(v.macs) for v in values)
        # What saturated backwards in a skipped step has been answered by the scaling; what is computed again saturates
        # again.
        once = [v for v in values if v.overflow and v.phase is not Phase.RECOMPUTE]
        saturated = [v for v in once if not skipped or v.phase is Phase.FORWARD]
        self.saturations += sum(int(v.overflow) for v in saturated)
        if saturated and not self.first_saturation:
            first = saturated[0]
            self.first_saturation = f"op '{first.op}' ({first.kind}, {first.phase}) in step {self.steps:,}"

    def _check(self, values: Sequence[OpValues], before: _State) -> None:
        found = self.scaling.stops(values)
        if found is not None:
            self._put_back(before)
            step = self.steps + 1
            raise self._stopped(found, f"in step {step:,}, epoch {(step - 1) // self.steps_per_epoch + 1}", step)

    def _stopped(self, found: OpValues, when: str, step: int) -> TrainingError:
        if found.nonfinite:
            what = f"stored {found.nonfinite:,} infinities or NaNs"
        elif found.invalid:
            what = f"converted or summed {found.invalid:,} numbers that its format cannot hold"
        else:
            what = f"had {found.overflow:,} values beyond the largest of its format, at the least loss scale"
        sentence = (
            f"{self.step.name}: op '{found.op}' ({found.kind}, {found.phase}) {what} {when}; "
            "it is the first to do so; begin anew with a smaller learning rate"
        )
        return TrainingError(sentence, found.op, str(found.phase), step)

    def test(self, stop: Callable[[], bool] = lambda: False) -> float | None:
        """Classify all test samples with the weights as they are.

        Parameters
        ----------
        stop : callable, optional
            Asked after every batch.

        Returns
        -------
        float or None
            Accuracy [%]; None if `stop` said so.

        Raises
        ------
        TrainingError
            If an infinity or a NaN appeared.
        """
        for name in self._tester_kept:
            self._tester.restore(name, self.machine.stored(name))
        exponents = {name: e for name, e in self.machine.exponents.items() if name in self._tester_tensors}
        self._tester.exponents.update(exponents)
        self._tester.lfsr_state = self._tester_words.copy()
        right, batch = 0, self.step.batch
        for start in range(0, len(self.data.test_x), batch):
            x, y = self.data.test_x[start : start + batch], self.data.test_y[start : start + batch]
            self._tester.write(self._input, np.concatenate([x, np.zeros((batch - len(x), *x.shape[1:]), x.dtype)]))
            found = faulty(self._tester.run())
            if found is not None:
                raise self._stopped(found, f"in the test after step {self.steps:,}", self.steps)
            logits = self._tester.read(self._logits)[: len(y)]
            right += int(np.count_nonzero(logits.argmax(axis=1) == y))
            if stop():
                return None
        return 100 * right / len(self.data.test_y)

    def weights_sha256(self) -> str:
        """SHA-256 over the stored bits of weights, vector parameters and masters, in the order of the graph."""
        return sha256_of(self.step, LEARNT_ROLES, self.machine.stored)

    @cached_property
    def config(self) -> dict[str, Any]:
        """What must agree to continue from a checkpoint, of JSON's types."""
        parts = (self.data.train_x, self.data.train_y, self.data.test_x, self.data.test_y)
        return {
            "hwsim": import_module("hwsim").__version__,  # the package itself is above this stage
            "model": self.step.name,
            "batch": self.step.batch,
            "optimizer": {"name": self.optimizer.name, **asdict(self.optimizer)},
            "precision": asdict(self.precision),
            "recompute": self.recompute,
            "seed": self.seed,
            "hardware": self.hw.model_dump(mode="json"),
            "data": {"name": self.data.name, "sha256": _digest(*(np.ascontiguousarray(a).tobytes() for a in parts))},
            "graph": _digest(repr((list(self.step.tensors.values()), self.step.ops)).encode()),
        }

    def checkpoint(self, command: Mapping[str, Any] | None = None) -> Checkpoint:
        """Take out everything that training needs to continue.

        Parameters
        ----------
        command : mapping, optional
            What a command line wants to find again, of JSON's types.
        """
        state = self._state()
        progress = {
            "epochs": len(self.records),
            "steps_in_epoch": self.steps - len(self.records) * self.steps_per_epoch,
            "updates": self.updates,
            "macs": self.macs,
            "saturations": self.saturations,
            "first_saturation": self.first_saturation,
            "scaling": state.scaling,
            "exponents": state.exponents,
            "records": [asdict(record) for record in self.records],
        }
        arrays: dict[str, NDArray[Any]] = {
            **{f"tensor/{name}": bits for name, bits in state.tensors.items()},
            "lfsr_state": state.lfsr_state,
            "loss": np.array(self.losses, np.float64),
            "gated_macs": np.array(self.gated_macs, np.int64),
            "skipped": np.array(self.skipped, np.bool_),
        }
        return Checkpoint(self.config, dict(command or {}), progress, arrays)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Put back what `checkpoint` took out.

        Raises
        ------
        HwsimError
            If it was taken from training with other options.
        """
        check_agreement({"recompute": "none", **checkpoint.config}, self.config)  # older ones do not say it
        arrays, progress = checkpoint.arrays, checkpoint.progress
        tensors = {name: arrays[f"tensor/{name}"] for name in self._kept}
        self._put_back(_State(tensors, progress["exponents"], arrays["lfsr_state"], progress["scaling"]))
        self.losses = arrays["loss"].tolist()
        self.gated_macs = arrays["gated_macs"].tolist()
        self.skipped = arrays["skipped"].tolist()
        self.records = [EpochRecord(**record) for record in progress["records"]]
        self.updates, self.macs = progress["updates"], progress["macs"]
        self.saturations, self.first_saturation = progress["saturations"], progress["first_saturation"]

    def loss_scale(self) -> int | None:
        """L of loss scaling, None with another policy."""
        return self.scaling.scale if isinstance(self.scaling, LossScaling) else None

    def _state(self) -> _State:
        return _State(
            tensors={name: self.machine.stored(name).copy() for name in self._kept},
            exponents=dict(self.machine.exponents),
            lfsr_state=self.machine.lfsr_state.copy(),
            scaling=self.scaling.numbers(),
        )

    def _put_back(self, state: _State) -> None:
        self.machine.exponents.update(state.exponents)
        for name, bits in state.tensors.items():
            self.machine.restore(name, bits)
        self.machine.lfsr_state = state.lfsr_state.copy()
        self.scaling.remember(state.scaling)


def sha256_of(graph: Graph, roles: Sequence[Role], stored: Callable[[str], NDArray[Any]]) -> str:
    """SHA-256 over the stored bits of a graph's tensors of some roles, little-endian, in the order of the graph.

    Parameters
    ----------
    graph : Graph
        Whose tensors they are.
    roles : sequence of Role
        `LEARNT_ROLES`, `KEPT_ROLES`, or others.
    stored : callable
        Gives the bits of a tensor by its name.
    """
    total = sha256()
    for tensor in graph.tensors.values():
        if tensor.role in roles:
            bits = stored(tensor.name)
            total.update(bits.astype(bits.dtype.newbyteorder("<")).tobytes())
    return total.hexdigest()


def _machine() -> Callable[..., Machine]:
    """Give the machine, whose kernels take a while to import."""
    from hwsim.values.machine import Machine

    return Machine


def _ends(step: Graph, data: Dataset) -> tuple[str, str, str, str]:
    """Names of input, labels, loss and logits of a network that classifies."""
    losses = [op for op in step.ops if op.kind == "softmax_cross_entropy"]
    inputs = [t.name for t in step.tensors.values() if t.role is Role.INPUT]
    if len(losses) != 1 or len(inputs) != 1:
        raise HwsimError(
            f"{step.name}: training on {data.name} takes a network with one input that ends in softmax_cross_entropy"
        )
    logits, labels = losses[0].inputs
    classes, largest = step.tensors[logits].shape[1], int(max(data.train_y.max(), data.test_y.max()))
    least = int(min(data.train_y.min(), data.test_y.min()))
    if least < 0 or largest >= classes:
        raise HwsimError(f"{step.name}: it has {classes} classes; the labels of {data.name} are {least} to {largest}")
    return inputs[0], labels, losses[0].outputs[0], logits


def _check_finite(data: Dataset) -> None:
    """Refuse samples that are not numbers, which a narrow format might hide."""
    for name, samples in (("training", data.train_x), ("test", data.test_x)):
        wrong = np.flatnonzero(~np.isfinite(samples.reshape(len(samples), -1)).all(axis=1))
        if wrong.size:
            raise HwsimError(f"{data.name}: {name} sample {wrong[0]} holds an infinity or a NaN; take it out")


def _digest(*parts: bytes) -> str:
    total = sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()
