"""What a sweep's table says: the front, the best, what moves the objectives, how indicators rank.

`analyse` reads the parts one after the other, so that memory does not grow with the sweep. Normative:
docs/contracts/sweep.md, sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import kendalltau

from hwsim.errors import HwsimError
from hwsim.explore.space import Space

__all__ = ["INDICATORS", "Analysis", "Best", "Ranking", "Sensitivity", "analyse", "hypervolume_ratio", "nondominated"]

#: What points are ranked by.
INDICATORS = ("macs", "parameters", "dram_bytes", "cycles", "energy_j", "edp_js")
#: Points, drawn by a hash of their number, that pages show beside the front, and that rankings compare.
SHOWN, RANKED = 4000, 1500
#: The reference point of a hypervolume, as a multiple of the front's largest values.
BEYOND = 1.1


@dataclass(frozen=True)
class Best:
    """The best point by one objective.

    Attributes
    ----------
    objective : str
        Which.
    without : str
        Constraint that is left out; empty for the best feasible point.
    point : int
        Its number.
    value : float
        Of the objective, in its unit.
    ratio : float
        Value ÷ that of the best feasible point; below 1 is what the constraint costs.
    """

    objective: str
    without: str
    point: int
    value: float
    ratio: float


@dataclass(frozen=True)
class Sensitivity:
    """How far one knob moves one objective.

    Attributes
    ----------
    knob, objective : str
        Which.
    ratio : float
        Largest ÷ smallest geometric mean of the objective by value of the knob, 1 or more.
    share : float
        Of the variance of the objective's logarithm, what the knob's own means explain, 0 to 1.
    """

    knob: str
    objective: str
    ratio: float
    share: float


@dataclass(frozen=True)
class Ranking:
    """How alike two indicators order points.

    Attributes
    ----------
    first, second : str
        Indicators.
    tau : float
        Kendall's τ-b, −1 to 1; nan where one indicator is equal for all points.
    points : tuple of int
        Two that they order differently, and are furthest apart: the first has less of `first` and more of `second`;
        none if there is no such pair.
    ratios : tuple of float
        By how much: `first` of the second point ÷ that of the first, `second` of the first ÷ that of the second.
    """

    first: str
    second: str
    tau: float
    points: tuple[int, ...]
    ratios: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a sweep found.

    Attributes
    ----------
    evaluated, failed, feasible : int
        Points: rows of the table, those with an error, those that meet all constraints.
    front : pyarrow.Table
        Rows of the front, by the first objective.
    shown : pyarrow.Table
        Rows of the front, and others drawn by a hash of their number.
    on_front : ndarray of shape (len(shown),), dtype bool
        Which of them are the front.
    best, sensitivities, rankings
        As their types say.
    errors : mapping of str to int
        The commonest errors, and how many points have each.
    """

    evaluated: int
    failed: int
    feasible: int
    front: pa.Table
    shown: pa.Table
    on_front: NDArray[np.bool_]
    best: tuple[Best, ...]
    sensitivities: tuple[Sensitivity, ...]
    rankings: tuple[Ranking, ...]
    errors: Mapping[str, int]


def analyse(space: Space, parts: Sequence[Path]) -> Analysis:
    """Read a sweep's parts.

    Raises
    ------
    HwsimError
        If there is no part, or one cannot be read.
    """
    if not parts:
        raise HwsimError("there is no part of the sweep to look at")
    found = _Pass(space)
    for path in parts:
        try:
            found.add(pq.read_table(path))
        except (OSError, pa.ArrowInvalid) as error:
            raise HwsimError(f"cannot read '{path}': {error}; remove it and go on with --resume") from None
    return found.result()


def nondominated(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows no other row betters; of equal rows the first. All columns are minimised.

    >>> nondominated(np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0], [2.0, 2.0]])).tolist()
    [True, True, False, False]
    """
    if not len(values):
        return np.zeros(0, bool)
    return np.asarray(moocore.is_nondominated(np.ascontiguousarray(values), keep_weakly=False), bool)


def hypervolume_ratio(front: NDArray[np.float64], exhaustive: NDArray[np.float64]) -> float:
    """Give the volume that a front dominates, as a share of what the exhaustive front does, 0 to 1.

    Parameters
    ----------
    front, exhaustive : ndarray of shape (n, objectives)
        Points; columns are minimised. A column that is maximised comes with its sign turned.

    Examples
    --------
    >>> square = np.array([[1.0, 2.0], [2.0, 1.0]])
    >>> hypervolume_ratio(square, square)
    1.0
    >>> round(hypervolume_ratio(square[:1], square), 3)
    0.545
    """
    least, most = exhaustive.min(axis=0), exhaustive.max(axis=0)
    reference = most + (BEYOND - 1) * np.abs(most)
    scale = np.where(reference > least, reference - least, 1.0)

    def volume(points: NDArray[np.float64]) -> float:
        inside = points[(points < reference).all(axis=1)]
        return float(moocore.hypervolume((inside - least) / scale, ref=np.ones(len(scale)))) if len(inside) else 0.0

    return volume(front) / volume(exhaustive)


def objectives_of(table: pa.Table, objectives: Sequence[str]) -> NDArray[np.float64]:
    """Give objectives as columns to be minimised: ndarray of shape (n, objectives)."""
    columns = [_numbers(table, name.removeprefix("-")) * (-1 if name.startswith("-") else 1) for name in objectives]
    return np.column_stack(columns)


@dataclass
class _Groups:
    """Sums of the logarithm of every objective by value of one knob."""

    values: dict[Any, int] = field(default_factory=dict)
    count: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))


class _Pass:
    """One reading of all parts."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.names = [name.removeprefix("-") for name in space.objectives]
        self.late = [c for c in space.constraints if not c.early]
        self.evaluated = self.failed = self.feasible = 0
        self.front: pa.Table | None = None
        self.drawn: pa.Table | None = None
        self.best: dict[tuple[str, str], tuple[float, int]] = {}
        self.errors: dict[str, int] = {}
        self.total = np.zeros((3, len(self.names)))  # count, sum and sum of squares of logarithms
        self.groups = {k.name: _Groups(dict(zip(k.values, range(len(k.values)), strict=True))) for k in space.axes}
        for knob in space.axes:
            self.groups[knob.name].count = np.zeros(len(knob.values))
            self.groups[knob.name].sums = np.zeros((len(knob.values), len(self.names)))

    def add(self, table: pa.Table) -> None:
        self.evaluated += len(table)
        error = table.column("error")
        self.failed += len(table) - error.null_count
        for entry in pa.compute.value_counts(error.drop_null()).to_pylist():
            self.errors[entry["values"]] = self.errors.get(entry["values"], 0) + entry["counts"]
        table = table.filter(pa.compute.is_null(error))
        if not len(table):
            return
        holds = self._constraints(table)
        feasible = np.logical_and.reduce(holds) if holds else np.ones(len(table), bool)
        feasible &= _booleans(table)
        self._find_best(table, holds, feasible)
        self._add_sensitivity(table)
        self.drawn = _drawn([self.drawn, table.filter(pa.array(_first_by_hash(table, SHOWN)))], SHOWN)
        table = table.filter(pa.array(feasible))
        self.feasible += len(table)
        if not len(table):
            return
        both = table if self.front is None else pa.concat_tables([self.front, _front(table, self.space.objectives)])
        self.front = _front(both, self.space.objectives)

    def _constraints(self, table: pa.Table) -> list[NDArray[np.bool_]]:
        """Whether each constraint on columns holds, point by point."""
        columns: dict[str, Any] = dict(self.space.fixed)
        for name in {n for c in self.late for n in c.expression.names}:
            if name in table.column_names:
                columns[name] = table.column(name).to_numpy(zero_copy_only=False)
        return [np.asarray(c.expression(columns), bool) for c in self.late]

    def _find_best(self, table: pa.Table, holds: Sequence[NDArray[np.bool_]], feasible: NDArray[np.bool_]) -> None:
        early = self.space.kept({k.name: _knob(table, k.name) for k in self.space.knobs})
        left_out: list[tuple[str, NDArray[np.bool_]]] = [("", feasible)]
        for i, constraint in enumerate(self.late):
            others = [h for j, h in enumerate(holds) if j != i]
            left_out.append((constraint.expression.text, np.logical_and.reduce([early, *others])))
        points = table.column("point").to_numpy()
        for objective, column in zip(self.names, objectives_of(table, self.space.objectives).T, strict=True):
            for without, allowed in left_out:
                if allowed.any():
                    at = int(np.flatnonzero(allowed)[np.argmin(column[allowed])])
                    found = (float(column[at]), int(points[at]))
                    key = (objective, without)
                    self.best[key] = min(self.best.get(key, found), found)

    def _add_sensitivity(self, table: pa.Table) -> None:
        logarithms = np.log(np.column_stack([_numbers(table, name) for name in self.names]))
        self.total += np.array([np.full(len(self.names), len(table)), logarithms.sum(0), (logarithms**2).sum(0)])
        for name, groups in self.groups.items():
            values, code = np.unique(_knob(table, name), return_inverse=True)
            at = np.array([groups.values[v] for v in values.tolist()])[code]
            size = len(groups.count)
            groups.count += np.bincount(at, minlength=size)
            for i in range(len(self.names)):
                groups.sums[:, i] += np.bincount(at, logarithms[:, i], minlength=size)

    def result(self) -> Analysis:
        empty = self.front is None or self.drawn is None
        front = _empty(self.space) if self.front is None else self.front.sort_by(self.names[0])
        drawn = _empty(self.space) if self.drawn is None else self.drawn
        ranked = drawn.filter(drawn.column("feasible"))
        ranked = ranked.take(pa.array(np.argsort(_hashes(ranked))[:RANKED]))
        others = drawn.filter(pa.array(~np.isin(drawn.column("point").to_numpy(), front.column("point").to_numpy())))
        shown = front if empty else pa.concat_tables([front, others])
        common = dict(sorted(self.errors.items(), key=lambda entry: (-entry[1], entry[0]))[:10])
        return Analysis(
            self.evaluated,
            self.failed,
            self.feasible,
            front,
            shown,
            np.arange(len(shown)) < len(front),
            tuple(self._bests()),
            tuple(self._sensitivities()),
            tuple(_rankings(ranked)),
            common,
        )

    def _bests(self) -> Iterator[Best]:
        signs = {o.removeprefix("-"): -1.0 if o.startswith("-") else 1.0 for o in self.space.objectives}
        for (objective, without), (value, point) in self.best.items():
            base = self.best.get((objective, ""))
            ratio = value / base[0] if base else np.nan
            yield Best(objective, without, point, value * signs[objective], ratio)

    def _sensitivities(self) -> Iterator[Sensitivity]:
        count, sums, squares = self.total
        for name, groups in self.groups.items():
            there = groups.count > 0
            if there.sum() < 2:
                continue
            means = groups.sums[there] / groups.count[there, None]
            for i, objective in enumerate(self.names):
                mean = sums[i] / count[i]
                spread = max(squares[i] / count[i] - mean**2, 0.0)
                between = float(groups.count[there] @ (means[:, i] - mean) ** 2) / count[i]
                share = min(float(between / spread), 1.0) if spread > 1e-24 else 0.0
                yield Sensitivity(name, objective, float(np.exp(np.ptp(means[:, i]))), share)


def _rankings(table: pa.Table) -> Iterator[Ranking]:
    points = table.column("point").to_numpy()
    columns = {name: _numbers(table, name) for name in INDICATORS}
    for first, second in combinations(INDICATORS, 2):
        a, b = columns[first], columns[second]
        if len(points) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
            yield Ranking(first, second, float("nan"), (), ())
            continue
        with np.errstate(divide="ignore"):
            more, less = np.log(a)[None, :] - np.log(a)[:, None], np.log(b)[:, None] - np.log(b)[None, :]
        apart = np.minimum(more, less)  # of points i and j: how much less of `first` and more of `second` i has
        i, j = np.unravel_index(int(np.argmax(apart)), apart.shape)
        inverted = apart[i, j] > 0
        yield Ranking(
            first,
            second,
            float(kendalltau(a, b).statistic),
            (int(points[i]), int(points[j])) if inverted else (),
            (float(np.exp(more[i, j])), float(np.exp(less[i, j]))) if inverted else (),
        )


def _front(table: pa.Table, objectives: Sequence[str]) -> pa.Table:
    return table.filter(pa.array(nondominated(objectives_of(table, objectives))))


def _hashes(table: pa.Table) -> NDArray[np.uint64]:
    """Scramble numbers, so that the least hashes are a draw that does not depend on parts (splitmix64)."""
    x = table.column("point").to_numpy().astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), np.uint64)


def _first_by_hash(table: pa.Table, most: int) -> NDArray[np.bool_]:
    chosen = np.zeros(len(table), bool)
    chosen[np.argsort(_hashes(table), kind="stable")[:most]] = True
    return chosen


def _drawn(tables: Sequence[pa.Table | None], most: int) -> pa.Table:
    both = pa.concat_tables([t for t in tables if t is not None])
    return both.filter(pa.array(_first_by_hash(both, most)))


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False), np.float64)


def _knob(table: pa.Table, name: str) -> NDArray[Any]:
    column: NDArray[Any] = table.column(name).to_numpy(zero_copy_only=False)
    return column.astype(str) if column.dtype == object else column


def _booleans(table: pa.Table) -> NDArray[np.bool_]:
    return np.asarray(table.column("feasible").to_numpy(zero_copy_only=False), bool)


def _empty(space: Space) -> pa.Table:
    names = {"point": pa.int64(), **{k.name: pa.string() for k in space.knobs}, "error": pa.string()}
    columns = {**names, "feasible": pa.bool_(), **dict.fromkeys(space.measured, pa.float64())}
    return pa.table({name: pa.array([], kind) for name, kind in columns.items()})
