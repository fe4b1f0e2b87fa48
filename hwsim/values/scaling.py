"""Exponents of stored tensors while training goes on: none, one for all gradients, or one per int8 tensor.

`scaling_of` makes the policy of a training graph; a policy sets ``machine.exponents`` and judges what the backward ops
report. Normative: docs/contracts/training.md, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import frexp
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from hwsim.errors import HwsimError
from hwsim.workload.graph import Graph, Op, Phase, Role
from hwsim.workload.recompute import originals

if TYPE_CHECKING:
    from hwsim.values.machine import Machine, OpValues

__all__ = ["LossScaling", "Scaling", "TensorScaling", "faulty", "least_exponent", "scaling_of"]

#: Loss scaling: first, least and largest L, and the updates after which it grows.
FIRST_L, LEAST_L, LARGEST_L, GROWS_AFTER = 10, -20, 24, 200

#: Tensor scaling: the largest stored number, the one below which an exponent shrinks, and the largest exponent.
FULL, ROOMY, LARGEST_EXPONENT = 127, 48, 40

_SCALED = (Role.INPUT, Role.WEIGHT, Role.ACTIVATION, Role.GRADIENT)
_PASSES_FORWARD = ("relu", "max_pool", "flatten")
_PASSES_BACKWARD = ("relu_dgrad", "max_pool_dgrad", "flatten_dgrad")
_BACKWARD = (Phase.DGRAD, Phase.WGRAD)


def faulty(values: Iterable[OpValues]) -> OpValues | None:
    """Give the first op that stored an infinity or a NaN, or converted a NaN."""
    return next((v for v in values if v.nonfinite or v.invalid), None)


class Scaling:
    """The policy `none`: all exponents stay 0, and a faulty op stops training.

    The other policies are its subclasses. Each has a `name`, the same as `Precision.scaling`.
    """

    name = "none"

    def start(self, machine: Machine, values: Mapping[str, ArrayLike], input_range: float) -> None:
        """Set the exponents to begin with.

        Parameters
        ----------
        machine : Machine
            Whose exponents are set.
        values : mapping of str to array_like
            All tensors after the forward and backward ops on the first batch, in float64.
        input_range : float
            Largest magnitude of all samples.
        """

    def stops(self, values: Sequence[OpValues]) -> OpValues | None:
        """Give the op with which training stops, if there is one."""
        return faulty(values)

    def skips(self, values: Sequence[OpValues]) -> bool:
        """Say whether the updates are left out, given what forward and backward ops report."""
        return False

    def before_update(self, machine: Machine) -> None:
        """Set the exponents that wait for the updates."""

    def after_step(self, machine: Machine, skipped: bool) -> None:
        """Adapt the exponents to the step that has ended."""

    def numbers(self) -> dict[str, Any]:
        """Give what the policy remembers beside the exponents, for a checkpoint."""
        return {}

    def remember(self, numbers: Mapping[str, Any]) -> None:
        """Take back what `numbers` gave."""


class LossScaling(Scaling):
    """One exponent −L for all gradients; a step whose gradients overflow is skipped and lowers L.

    Attributes
    ----------
    scale : int
        L, −20 to 24: gradients are stored times 2^L.
    good : int
        Updates since L changed or a step was skipped, 0 to 199.
    """

    name = "loss"

    def __init__(self, step: Graph) -> None:
        self.gradients = [t.name for t in step.tensors.values() if t.role is Role.GRADIENT]
        self.scale = FIRST_L
        self.good = 0

    def start(self, machine: Machine, values: Mapping[str, ArrayLike], input_range: float) -> None:
        """Set the exponents of all gradients that are stored narrow to −L."""
        self.gradients = [name for name in self.gradients if machine.stored(name).dtype.itemsize < 4]
        machine.exponents.update(dict.fromkeys(self.gradients, -self.scale))

    def stops(self, values: Sequence[OpValues]) -> OpValues | None:
        """Give the first faulty op that is no backward op, or what overflows though L is least."""
        overflow = _overflow(values)
        if overflow is not None and self.scale == LEAST_L:
            return faulty([v for v in values if v.phase not in _BACKWARD]) or overflow
        return faulty([v for v in values if v.phase not in _BACKWARD])

    def skips(self, values: Sequence[OpValues]) -> bool:
        """Say whether a backward op is faulty or saturates."""
        return _overflow(values) is not None

    def after_step(self, machine: Machine, skipped: bool) -> None:
        """Lower L after a skipped step, raise it after 200 updates."""
        self.good = 0 if skipped else self.good + 1
        if skipped:
            self.scale -= 1
        elif self.good == GROWS_AFTER:
            self.good = 0
            self.scale = min(self.scale + 1, LARGEST_L)
        machine.exponents.update(dict.fromkeys(self.gradients, -self.scale))

    def numbers(self) -> dict[str, Any]:
        """Give L and the updates since it changed."""
        return {"scale": self.scale, "good": self.good}

    def remember(self, numbers: Mapping[str, Any]) -> None:
        """Take back what `numbers` gave."""
        self.scale, self.good = int(numbers["scale"]), int(numbers["good"])


def _overflow(values: Sequence[OpValues]) -> OpValues | None:
    backward = (v for v in values if v.phase in _BACKWARD)
    return next((v for v in backward if v.nonfinite or v.invalid or v.overflow), None)


class TensorScaling(Scaling):
    """One exponent per int8 tensor, or per group of tensors between which values only pass.

    Attributes
    ----------
    groups : tuple of tuple of str
        Tensors that share an exponent, in the graph's order.
    waiting : dict of str to int
        Exponents of weights that take effect with the next update.
    """

    name = "tensor"

    def __init__(self, step: Graph) -> None:
        self.groups = _groups(step)
        self.waiting: dict[str, int] = {}
        self._roles = {t.name: t.role for t in step.tensors.values()}
        updates = [op for op in step.ops if op.phase is Phase.UPDATE]
        self._rewritten = {name for op in updates for name in op.outputs if name not in op.inputs}

    def start(self, machine: Machine, values: Mapping[str, ArrayLike], input_range: float) -> None:
        """Set every group's exponent from its largest magnitude."""
        kept = [tuple(name for name in group if machine.stored(name).dtype == np.int8) for group in self.groups]
        self.groups = tuple(group for group in kept if group)
        for group in self.groups:
            constant = self._has(group, Role.INPUT)
            largest = input_range if constant else max(_largest(values[name]) for name in group)
            machine.exponents.update(dict.fromkeys(group, _bounded(least_exponent(largest))))

    def before_update(self, machine: Machine) -> None:
        """Let the weights that the updates write have their new exponents."""
        machine.exponents.update(self.waiting)
        self.waiting = {}

    def after_step(self, machine: Machine, skipped: bool) -> None:
        """Raise the exponents of groups that are full, lower those that have room."""
        for group in self.groups:
            if self._has(group, Role.INPUT):
                continue
            largest = max(int(_largest(machine.stored(name))) for name in group)
            change = 1 if largest >= FULL else -1 if largest < ROOMY else 0
            exponents = dict.fromkeys(group, _bounded(machine.exponents[group[0]] + change))
            if not self._has(group, Role.WEIGHT):
                machine.exponents.update(exponents)
            elif change and self._rewritten.issuperset(group):
                self.waiting.update(exponents)

    def numbers(self) -> dict[str, Any]:
        """Give the exponents that wait for an update."""
        return {"waiting": dict(self.waiting)}

    def remember(self, numbers: Mapping[str, Any]) -> None:
        """Take back what `numbers` gave."""
        self.waiting = {name: int(exponent) for name, exponent in numbers["waiting"].items()}

    def _has(self, group: Iterable[str], role: Role) -> bool:
        return any(self._roles[name] is role for name in group)


def least_exponent(largest: float) -> int:
    """Give the least e with ``largest ≤ 127 · 2^e``; −6, as for 1, if it is zero.

    >>> least_exponent(127), least_exponent(127.5), least_exponent(1)
    (0, 1, -6)
    """
    mantissa, exponent = frexp(largest or 1.0)  # largest = mantissa · 2^exponent, ½ ≤ mantissa < 1
    return exponent - (7 if 128 * mantissa <= FULL else 6)


def scaling_of(name: str, step: Graph) -> Scaling:
    """Make the policy of a training graph.

    Parameters
    ----------
    name : str
        ``"none"``, ``"loss"`` or ``"tensor"``: `Precision.scaling`.
    step : Graph
        A step of `training_graph`.

    Raises
    ------
    HwsimError
        If there is no such policy.
    """
    if name == "none":
        return Scaling()
    if name == "loss":
        return LossScaling(step)
    if name == "tensor":
        return TensorScaling(step)
    raise HwsimError(f"scaling must be none, loss or tensor; it is '{name}'")


def _bounded(exponent: int) -> int:
    return max(-LARGEST_EXPONENT, min(LARGEST_EXPONENT, exponent))


def _largest(values: ArrayLike) -> float:
    """Largest magnitude; int8 is widened, since −128 has none there."""
    return float(np.abs(np.asarray(values, np.float64)).max(initial=0))


def _groups(step: Graph) -> tuple[tuple[str, ...], ...]:
    """Sets of tensors joined by the ops that only pass values on, or computed again from the same, by union-find."""
    parent = {t.name: t.name for t in step.tensors.values() if t.role in _SCALED}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    pairs = [_passing(op) for op in step.ops]
    pairs += [(original, repeated) for repeated, original in originals(step).items()]
    for pair in pairs:
        if pair and parent.keys() >= set(pair):
            parent[root(pair[1])] = root(pair[0])
    members: dict[str, list[str]] = {}
    for name in parent:
        members.setdefault(root(name), []).append(name)
    return tuple(tuple(group) for group in members.values())


def _passing(op: Op) -> tuple[str, str] | None:
    """Tensors from which and to which an op passes values, if it does nothing else."""
    if op.kind in _PASSES_FORWARD:
        return op.inputs[0], op.outputs[0]
    if op.kind in _PASSES_BACKWARD:
        return op.inputs[-1], op.outputs[0]
    return None
