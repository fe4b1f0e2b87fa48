"""Energy of the array in training, from the operands of that very run.

`ArrayMeter` takes a simulated step and a model of data, measures the operands of a `Machine` whose step has run, and
gives the array's energy by phase. Normative: docs/contracts/calibration.md, section 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwsim.energy import ACTIONS, EnergyTable, component_of, energy, price_list
from hwsim.energy.data_model import MODEL_PHASES, ArrayPrices, DataModel
from hwsim.energy.operands import STATISTICS, PeShape, operand_statistics, turned
from hwsim.errors import HwsimError
from hwsim.values.products import is_measured, products_of
from hwsim.workload.graph import Graph, Op, Phase

if TYPE_CHECKING:
    from hwsim.values.machine import Machine
    from hwsim.values.training import TimedStep

__all__ = ["EVERY_STEPS", "ArrayMeter", "Reading", "array_columns"]

#: Operands are measured in the first step of training, and in every one that is so many after such a one.
EVERY_STEPS = 16

_MACS = [ACTIONS.index(f"array.{name}") for name in ("macs", "gated_macs")]

Energies = NDArray[np.float64]


def array_columns() -> NDArray[np.bool_]:
    """Say which of `ACTIONS` are the array's: ndarray of shape (len(ACTIONS),)."""
    return np.array([component_of(action) == "array" for action in ACTIONS])


@dataclass(frozen=True, eq=False)
class Reading:
    """What the array did in one step, by phase of `MODEL_PHASES`.

    Attributes
    ----------
    energy_pj : ndarray of shape (3, 3), dtype float64
        By phase: value, low, high [pJ].
    statistics : ndarray of shape (3, len(STATISTICS)), dtype float64
        By phase: means over its MACs.
    """

    energy_pj: Energies
    statistics: NDArray[np.float64]


class ArrayMeter:
    """Measures operands and prices the array with them.

    Parameters
    ----------
    step : StepResult
        What a step does, from `hwsim.simulate.simulate`.
    model : DataModel
        Of its PE.
    table : EnergyTable, optional
        For everything but the array; the package's unless given.

    Attributes
    ----------
    prices : ArrayPrices
        Of the array.
    others_pj : mapping of str to ndarray of shape (3,)
        By phase: what a step costs besides the array [pJ].

    Raises
    ------
    HwsimError
        If the model is of another PE, or the step computes activations again.
    """

    def __init__(self, step: TimedStep, model: DataModel, table: EnergyTable | None = None) -> None:
        if step.recompute != "none":
            raise HwsimError(
                "a model of data prices a training that computes nothing again; leave out --recompute, or --data-model"
            )
        self.prices = ArrayPrices.of(model, step.hardware)
        self.shape = PeShape.of(step.hardware)
        self._hw = step.hardware
        self._actions: dict[str, dict[str, NDArray[np.float64]]] = {phase: {} for phase in MODEL_PHASES}
        others: dict[str, Energies] = {phase.value: np.zeros(3) for phase in Phase if phase is not Phase.RECOMPUTE}
        prices, array = price_list(step.hardware, table), array_columns()
        for op in step.ops:
            pj = energy(op.actions, prices)
            if op.phase.value in self._actions:
                self._actions[op.phase.value][op.name] = op.actions
                pj = pj[:, ~array]
            others[op.phase.value] += pj.sum(axis=-1)
        self.others_pj: Mapping[str, Energies] = others

    def due(self, step: int) -> bool:
        """Say whether operands are measured in a step, counted from 1."""
        return (step - 1) % EVERY_STEPS == 0

    def read(self, machine: Machine, ops: Sequence[Op], rng: np.random.Generator) -> Reading:
        """Measure the operands of a step whose ops have run, before its updates.

        An op whose operands are not measured (`hwsim.values.products.products_of`) counts with the mean of its
        phase's others, and a phase without others with the statistics of the model's own training.
        """
        found = {}
        for op in ops:
            for name, product in products_of(machine, [op]).items():
                found[name] = operand_statistics(turned(product, self._hw), self.shape, rng)
        return self.reading(found)

    def reading(self, found: Mapping[str, NDArray[np.float64]]) -> Reading:
        """Price the array with statistics by op; without any, with those of the model's own training."""
        energies, statistics = (np.zeros((len(MODEL_PHASES), size)) for size in (3, len(STATISTICS)))
        for i, phase in enumerate(MODEL_PHASES):
            ops = self._actions[phase]
            macs = {name: float(actions[_MACS].sum()) for name, actions in ops.items()}
            measured = [name for name in ops if name in found and macs[name]]
            mean = self.prices.recorded()[phase]
            if measured:
                mean = np.average([found[name] for name in measured], axis=0, weights=[macs[n] for n in measured])
            statistics[i] = mean
            for name, actions in ops.items():
                energies[i] += self.prices.array_pj(actions, found.get(name, mean))
        return Reading(energies, statistics)

    def measured_share(self, graph: Graph) -> float:
        """Share of a step's MACs whose operands are measured, 0 to 1."""
        names = {op.name for op in graph.ops if is_measured(op)}
        macs = [(name, actions[_MACS].sum()) for ops in self._actions.values() for name, actions in ops.items()]
        return float(sum(n for name, n in macs if name in names) / sum(n for _, n in macs))
