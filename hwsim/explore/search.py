"""Multi-objective search by Optuna's samplers, in batches, for spaces too large to sweep.

`ask_and_tell` asks a sampler for points and tells it what they cost. Normative: docs/contracts/sweep.md, section 4.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hwsim.explore.columns import is_text
from hwsim.explore.space import Space

if TYPE_CHECKING:
    import optuna

__all__ = ["SAMPLERS", "Asked", "ask_and_tell", "number_of"]

SAMPLERS = ("nsga2", "nsga3", "tpe", "qmc")
#: Points that are asked for at once: the population of the genetic samplers.
BATCH = 64
_INFEASIBLE = "infeasible"


@dataclass(frozen=True, eq=False)
class Asked:
    """A batch of points: their numbers, and how many came before."""

    numbers: NDArray[np.int64]
    done: int


def ask_and_tell(space: Space, sampler: str, points: int, seed: int, evaluate: Callable[[Asked], pa.Table]) -> None:
    """Let a sampler choose `points` points of a space.

    Parameters
    ----------
    space : Space
        Whose axes are chosen from.
    sampler : str
        One of `SAMPLERS`.
    points : int
        How many, points asked for twice included.
    seed : int
        Of the sampler: the same seed and results give the same points.
    evaluate : callable
        Gives the table of a batch, a row for every number.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        chosen = _sampler(sampler, seed)
    ways = optuna.study.StudyDirection
    directions = [ways.MAXIMIZE if name.startswith("-") else ways.MINIMIZE for name in space.objectives]
    study = optuna.create_study(directions=directions, sampler=chosen)
    distributions = _distributions(space)
    done = 0
    while done < points:
        trials = [study.ask(distributions) for _ in range(min(BATCH, points - done))]
        numbers = np.array([number_of(space, trial.params) for trial in trials], np.int64)
        _tell(study, trials, space, evaluate(Asked(numbers, done)))
        done += len(trials)


def _sampler(name: str, seed: int) -> Any:
    import optuna

    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=BATCH, seed=seed)
    if name == "nsga3":
        return optuna.samplers.NSGAIIISampler(population_size=BATCH, seed=seed)
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True)
    return optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)


def _distributions(space: Space) -> dict[str, Any]:
    """Knobs by the number of their value: ordered for numbers, a choice for texts."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    return {
        knob.name: CategoricalDistribution(range(len(knob.values)))
        if is_text(knob.name)
        else IntDistribution(0, len(knob.values) - 1)
        for knob in space.axes
    }


def number_of(space: Space, parameters: Mapping[str, int]) -> int:
    """Give the number of a point from the place of each knob's value."""
    number = 0
    for knob in space.axes:
        number = number * len(knob.values) + int(parameters[knob.name])
    return number


def _tell(study: optuna.Study, trials: list[optuna.Trial], space: Space, table: pa.Table) -> None:
    """Tell what points cost; what has an error has failed, what breaks a constraint is infeasible."""
    import optuna

    names = [name.removeprefix("-") for name in space.objectives]
    values = np.array([table.column(name).to_numpy(zero_copy_only=False) for name in names]).T
    feasible = table.column("feasible").to_pylist()
    for trial, row, good in zip(trials, values.tolist(), feasible, strict=True):
        if any(math.isnan(value) for value in row):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        trial.set_constraint(_INFEASIBLE, 0.0 if good else 1.0)
        study.tell(trial, row)
