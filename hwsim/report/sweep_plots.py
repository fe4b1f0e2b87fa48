"""Two pictures of a design-space sweep: the front with its intervals, and how far each knob moves each objective.

Both take what docs/contracts/sweep.md, sections 3 and 5, describes, and give a figure to be saved. Colours are those of
`hwsim.report.plots`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from hwsim.explore.analysis import Sensitivity
from hwsim.report.plots import BLUE, GREY, PALETTE, VERMILLION
from hwsim.report.sweep_columns import Column, bounds_of, objective_of, scaled

__all__ = ["front_figure", "sensitivity_figure"]

#: Points that are drawn one by one; more are drawn as their density.
DOTS = 20_000
#: An axis is logarithmic where the largest value is more than so many times the least.
LOG_ABOVE = 30.0

Floats = NDArray[np.float64]
_DENSITY = LinearSegmentedColormap.from_list("density", ["#d6e6f2", "#7fb4d6", BLUE, "#003a5c"])


@dataclass(frozen=True)
class _Axis:
    """An objective as it is drawn: values, low and high in a unit that suits the front."""

    column: Column
    unit: str
    values: Floats
    low: Floats
    high: Floats

    @property
    def bounded(self) -> bool:
        return bounds_of(self.column.name) is not None

    @property
    def title(self) -> str:
        unit = f" [{self.unit}]" if self.unit else ""
        return f"{self.column.label}{unit}{', more is better' if self.column.maximised else ''}"


def front_figure(table: pa.Table, front: NDArray[np.bool_], objectives: Sequence[str]) -> Figure:
    """Draw the objectives two by two: the front with its intervals over all other points.

    The line joins the best trade-offs of the two objectives of a plot alone; what is on the front for the sake of a
    third objective lies behind it.

    Parameters
    ----------
    table : pyarrow.Table
        The sweep's table; rows with an `error` are left out.
    front : ndarray of shape (rows,), dtype bool
        Which rows are on the front.
    objectives : sequence of str
        Two or more columns, with a minus before them if they are maximised.
    """
    axes_of = [_axis(table, front, objective_of(name)) for name in objectives]
    pairs = list(combinations(range(len(axes_of)), 2))
    columns = min(3, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    figure = Figure(figsize=(1.2 + 4.4 * columns, 1.1 + 3.9 * rows), dpi=110)
    FigureCanvasAgg(figure)
    feasible = np.array(table["feasible"].fill_null(False))
    for place, (upright, across) in enumerate(pairs, start=1):
        _draw_pair(figure.add_subplot(rows, columns, place), axes_of[across], axes_of[upright], front, feasible)
    evaluated = int(np.isfinite(axes_of[0].values).sum())
    inch = 1 / figure.get_figheight()
    figure.text(0.1 / figure.get_figwidth(), 1 - 0.1 * inch, _sentence(front, evaluated), va="top", weight="bold")
    keys = _keys(any(axis.bounded for axis in axes_of), bool(feasible.sum() < evaluated))
    figure.legend(
        handles=keys,
        loc="upper left",
        bbox_to_anchor=(0, 1 - 0.28 * inch),
        ncols=4,
        frameon=False,
        fontsize=9,
        handletextpad=0.4,
        columnspacing=1.4,
    )
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.5 * inch))
    return figure


def sensitivity_figure(rows: Sequence[Sensitivity]) -> Figure:
    """Draw a bar per knob and objective: how many times the largest mean by value of the knob is the smallest.

    Knobs are in the order of what they do to the first objective.
    """
    objectives = list(dict.fromkeys(row.objective for row in rows))
    found = {(row.knob, row.objective): row for row in rows}
    first = {row.knob: row.ratio for row in rows if row.objective == objectives[0]}
    knobs = sorted(first, key=lambda knob: first[knob])
    figure = Figure(figsize=(1.6 + 3.3 * len(objectives), 1.5 + 0.42 * max(3, len(knobs))), dpi=110)
    FigureCanvasAgg(figure)
    right = max(row.ratio for row in rows)
    left = figure.add_subplot(1, len(objectives), 1)
    for place, objective in enumerate(objectives):
        axes = left if place == 0 else figure.add_subplot(1, len(objectives), place + 1, sharey=left)
        chosen = [found[knob, objective] for knob in knobs]
        _draw_bars(axes, chosen, right, PALETTE[place % len(PALETTE)])
        axes.set_title(objective_of(objective).label, loc="left", fontsize=10.5, fontweight="bold")
        axes.tick_params(labelleft=place == 0, length=0, axis="y")
    left.set_yticks(range(len(knobs)), knobs)
    sentence = "How far a knob moves an objective, in the mean over all other knobs"
    figure.suptitle(sentence, x=0.1 / figure.get_figwidth(), ha="left", fontsize=11.5, weight="bold")
    figure.supxlabel(
        "largest ÷ smallest mean by value of the knob; percent: share of the variance of the logarithm", fontsize=9
    )
    figure.tight_layout()
    return figure


def _sentence(front: NDArray[np.bool_], evaluated: int) -> str:
    on = int(front.sum())
    return f"{on:,} of {evaluated:,} points {'is' if on == 1 else 'are'} on the front"


def _axis(table: pa.Table, front: NDArray[np.bool_], column: Column) -> _Axis:
    values = _numbers(table, column.name)
    typical = values[front] if front.any() else values[np.isfinite(values)]
    factor, unit = scaled(float(np.median(typical)) if typical.size else 0.0, column.unit)
    bounds = bounds_of(column.name)
    low = high = values
    if bounds:
        value, least, most = (_numbers(table, name) for name in bounds)
        low, high = values * least / value, values * most / value
    return _Axis(column, unit, values * factor, low * factor, high * factor)


def _numbers(table: pa.Table, name: str) -> Floats:
    numbers: Floats = table[name].to_numpy(zero_copy_only=False).astype(np.float64)
    return numbers


def _draw_pair(axes: Axes, x: _Axis, y: _Axis, front: NDArray[np.bool_], feasible: NDArray[np.bool_]) -> None:
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    for axis, set_scale, line in ((x, axes.set_xscale, axes.xaxis), (y, axes.set_yscale, axes.yaxis)):
        shown = np.concatenate([axis.values, axis.low[front], axis.high[front]])
        shown = shown[np.isfinite(shown)]
        if shown.size and shown.min() > 0 and shown.max() > LOG_ABOVE * shown.min():
            set_scale("log")
            decades = math.log10(shown.max() / shown.min())
            line.set_major_locator(LogLocator(subs=(1,) if decades > 3 else (1, 3) if decades > 1.8 else (1, 2, 5)))
            line.set_minor_formatter(NullFormatter())
        else:
            line.set_major_locator(MaxNLocator(6))
        line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    finite = np.isfinite(x.values) & np.isfinite(y.values)
    _draw_others(axes, x, y, finite & ~front, feasible)
    bars = {
        "fmt": "none",
        "ecolor": VERMILLION,
        "elinewidth": 0.9,
        "alpha": max(0.15, min(0.7, 20 / max(1, front.sum()))),
    }
    errors = [np.stack([a.values - a.low, a.high - a.values])[:, front] if a.bounded else None for a in (x, y)]
    axes.errorbar(x.values[front], y.values[front], yerr=errors[1], xerr=errors[0], zorder=3, **bars)
    stairs = _stairs(x, y, np.flatnonzero(front))
    axes.step(x.values[stairs], y.values[stairs], where="post", color=VERMILLION, linewidth=1.3, zorder=4)
    axes.scatter(
        x.values[front], y.values[front], 26, color=VERMILLION, marker="D", edgecolors="white", linewidths=0.6, zorder=5
    )
    axes.set_xlabel(x.title)
    axes.set_ylabel(y.title)


def _draw_others(axes: Axes, x: _Axis, y: _Axis, others: NDArray[np.bool_], feasible: NDArray[np.bool_]) -> None:
    """Draw what is not on the front as dots, or the density of very many."""
    plain, broken = others & feasible, others & ~feasible
    style: dict[str, Any] = {"linewidths": 0, "rasterized": True}
    if others.sum() <= DOTS:
        axes.scatter(x.values[broken], y.values[broken], 7, color=GREY, alpha=0.25, zorder=1, **style)
        axes.scatter(x.values[plain], y.values[plain], 7, color=BLUE, alpha=0.35, zorder=2, **style)
        return
    scales: dict[str, Any] = {"xscale": axes.get_xscale(), "yscale": axes.get_yscale(), "bins": "log", "mincnt": 1}
    locators = [(line, line.get_major_locator(), line.get_major_formatter()) for line in (axes.xaxis, axes.yaxis)]
    if broken.any():
        axes.hexbin(
            x.values[broken], y.values[broken], gridsize=90, cmap="Greys", alpha=0.35, rasterized=True, **scales
        )
    if plain.any():
        axes.hexbin(x.values[plain], y.values[plain], gridsize=90, cmap=_DENSITY, rasterized=True, **scales)
    for line, locator, formatter in locators:  # hexbin sets scales anew
        line.set_major_locator(locator)
        line.set_major_formatter(formatter)


def _stairs(x: _Axis, y: _Axis, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Give the rows that no other betters in these two objectives, along x."""
    costs = [axis.values[rows] * (-1 if axis.column.maximised else 1) for axis in (x, y)]
    order = rows[np.lexsort((costs[1], costs[0]))]
    upright = y.values[order] * (-1 if y.column.maximised else 1)
    before = np.concatenate([[np.inf], np.minimum.accumulate(upright)[:-1]])
    return order[upright < before] if order.size else order


def _draw_bars(axes: Axes, rows: Sequence[Sensitivity], right: float, colour: str) -> None:
    y = np.arange(len(rows))
    ratios = np.array([row.ratio for row in rows])
    axes.barh(y, ratios - 1, 0.66, 1, color=colour)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if right > LOG_ABOVE:
        axes.set_xscale("log")
        axes.set_xlim(1, right**1.6)
    else:
        axes.set_xlim(1, 1 + 1.6 * (right - 1))
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", alpha=0.3)
    for place, row in enumerate(rows):
        text = f"× {row.ratio:.3g}, {100 * row.share:.0f} %"
        axes.annotate(text, (row.ratio, place), (5, 0), textcoords="offset points", va="center", fontsize=9)


def _keys(bounded: bool, broken: bool) -> list[Line2D]:
    keys = [Line2D([], [], marker="D", color=VERMILLION, markeredgecolor="white", markersize=6, label="on the front")]
    if bounded:
        keys.append(Line2D([], [], marker="|", color=VERMILLION, markersize=8, linestyle="", label="interval"))
    keys.append(Line2D([], [], marker="o", color=BLUE, alpha=0.6, markersize=4, linestyle="", label="other points"))
    if broken:
        keys.append(Line2D([], [], marker="o", color=GREY, markersize=4, linestyle="", label="breaks a constraint"))
    return keys
