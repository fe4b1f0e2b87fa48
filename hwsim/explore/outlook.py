"""How long a sweep will take, told before it starts, and how good a search's front is, told after it.

Normative: docs/contracts/sweep.md, sections 3 and 4.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwsim.energy import EnergyTable
from hwsim.errors import HwsimError
from hwsim.explore.analysis import Analysis, analyse, hypervolume_ratio, objectives_of
from hwsim.explore.columns import PRICE_FIELDS, SCRATCHPAD
from hwsim.explore.evaluate import Evaluator, Networks, check_names
from hwsim.explore.run import Plan, parts_of
from hwsim.explore.space import Space

__all__ = ["Outlook", "estimate_seconds", "quality"]

#: Points that are timed: structures, and points of one of them.
TIMED_STRUCTURES, TIMED_POINTS = 3, 4096


@dataclass(frozen=True)
class Outlook:
    """How long a sweep will take.

    Attributes
    ----------
    points : int
        To be evaluated, excluded ones too.
    structures : int
        Different programs at most; knobs that follow from others, and constraints, may leave fewer.
    seconds_per_structure, seconds_per_point : float
        Measured on a few of them in this process [s]; structures share segments, so later ones are quicker.
    workers : int
        Processes that share the work.
    """

    points: int
    structures: int
    seconds_per_structure: float
    seconds_per_point: float
    workers: int

    @property
    def seconds(self) -> float:
        """Time of the whole, start of the workers left out [s]."""
        work = self.structures * self.seconds_per_structure + self.points * self.seconds_per_point
        return work / max(1, self.workers)

    def sentence(self) -> str:
        """Say it.

        >>> Outlook(1_000_000, 32, 0.1, 5e-6, 2).sentence()
        'about 4.1 s on 2 processes: 1,000,000 points at 5.0 µs, and at most 32 programs at 100 ms'
        """
        return (
            f"about {_duration(self.seconds)} on {self.workers} process{'es' if self.workers > 1 else ''}: "
            f"{self.points:,} points at {self.seconds_per_point * 1e6:.1f} µs, and at most {self.structures:,} "
            f"program{'s' if self.structures > 1 else ''} at {self.seconds_per_structure * 1e3:.0f} ms"
        )


def estimate_seconds(
    space: Space, networks: Networks, plan: Plan, workers: int, energy_table: EnergyTable | None = None
) -> Outlook:
    """Time a few points of a space.

    Raises
    ------
    HwsimError
        As `run_sweep`, for the plan.
    """
    points = plan.numbers(space)
    check_names(space, networks)
    evaluator = Evaluator(space, networks, energy_table)
    rng = np.random.default_rng(plan.seed)
    places = rng.integers(0, space.size, TIMED_STRUCTURES + 1)
    evaluator.table(places[:1])  # compiled code and the network are loaded now
    start = time.perf_counter()
    evaluator.table(places[1:])
    per_structure = (time.perf_counter() - start) / TIMED_STRUCTURES
    first = min(int(places[1]), max(0, space.size - TIMED_POINTS))
    few = np.arange(first, min(first + TIMED_POINTS, space.size))
    evaluator.table(few)
    start = time.perf_counter()
    evaluator.table(few)
    per_point = (time.perf_counter() - start) / len(few)
    axes = [len(k.values) for k in space.axes if k.name not in (*PRICE_FIELDS, SCRATCHPAD)]
    structures = min(math.prod(axes) * len(space.workloads), points * len(space.workloads))
    return Outlook(points, structures, per_structure, per_point, workers)


def quality(space: Space, found: Analysis, exhaustive: Path) -> float:
    """Give the hypervolume of a front as a share of that of a grid sweep of the same space.

    Raises
    ------
    HwsimError
        If the folder holds no parts, or no feasible point.
    """
    whole = analyse(space, parts_of(exhaustive))
    if not len(whole.front):
        raise HwsimError(f"the sweep in '{exhaustive}' has no feasible point to compare with")
    if not len(found.front):
        return 0.0
    names = space.objectives
    return hypervolume_ratio(objectives_of(found.front, names), objectives_of(whole.front, names))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
