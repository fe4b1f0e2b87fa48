"""One step priced in two ways, side by side: with two energy tables, or with a table and with a model of data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from hwsim.energy import ACTIONS, COMPONENTS, EnergyTable, component_of, energy, price_list
from hwsim.energy.data_model import ArrayPrices, DataModel
from hwsim.energy.operands import STATISTICS
from hwsim.energy.scaling import Estimate
from hwsim.hardware import Accelerator
from hwsim.report.lists import plain_table
from hwsim.report.units import column
from hwsim.results import StepResult

__all__ = ["data_beside", "energies_beside", "print_data", "print_energies", "source_of"]

_ARRAY = np.array([component_of(a) == "array" for a in ACTIONS])


def energies_beside(step: StepResult, table: EnergyTable) -> dict[str, Any]:
    """Give a step's energies by component and by phase with the package's table and with another one.

    Parameters
    ----------
    step : StepResult
        A simulated step, with whatever table.
    table : EnergyTable
        The other table.

    Returns
    -------
    dict
        `table`, its name, and under `total`, `by_component` and `by_phase` for each row: `quoted_pj` and `table_pj`,
        lists of value, low and high, and `ratio`, of the values.
    """
    prices = price_list(step.hardware), price_list(step.hardware, table)
    component = [np.array([component_of(a) == name for a in ACTIONS]) for name in COMPONENTS]
    everything = np.ones(len(ACTIONS), bool)

    def row(counts: Iterable[Any], chosen: Any) -> dict[str, Any]:
        total = sum(counts, np.zeros(len(ACTIONS)))
        quoted, own = (energy(total, p)[:, chosen].sum(axis=-1).tolist() for p in prices)
        return {"quoted_pj": quoted, "table_pj": own, "ratio": own[0] / quoted[0] if quoted[0] else None}

    phases = dict.fromkeys(op.phase for op in step.ops)
    return {
        "table": table.name,
        "total": row((op.actions for op in step.ops), everything),
        "by_component": {
            name: row((op.actions for op in step.ops), chosen)
            for name, chosen in zip(COMPONENTS, component, strict=True)
        },
        "by_phase": {
            phase.value: row((op.actions for op in step.ops if op.phase is phase), everything) for phase in phases
        },
    }


def print_energies(beside: dict[str, Any], console: Console) -> None:
    """Print both energies of every phase and component, and of the step."""
    groups = {**beside["by_phase"], **beside["by_component"], "total": beside["total"]}
    figures = [x * 1e-12 for row in groups.values() for key in ("quoted_pj", "table_pj") for x in row[key]]
    unit, cells = column(figures, "J")
    table = plain_table(f"Energy with the quoted table and with {beside['table']}")
    table.add_column("")
    for header in ("quoted", "this table"):
        table.add_column(f"{header} [low…high]\n{unit}", justify="right", no_wrap=True)
    table.add_column("ratio", justify="right")
    for i, (name, row) in enumerate(groups.items()):
        if i in (len(beside["by_phase"]), len(groups) - 1):
            table.add_section()
        value = [f"{v} [{low}…{high}]" for v, low, high in (cells[6 * i : 6 * i + 3], cells[6 * i + 3 : 6 * i + 6])]
        table.add_row(Text(name), *value, "–" if row["ratio"] is None else f"{row['ratio']:.2f}")
    console.print(table)


def source_of(model: DataModel, hw: Accelerator, statistics_of: str) -> str:
    """Say where the array's energies come from, and whose statistics they are at."""
    node = model.library.node_nm
    scaled = "" if node == hw.node_nm else f", scaled to {hw.node_nm:g} nm"
    return (
        f"PE of {model.hardware} at its gates, {model.library.name}, {node:g} nm{scaled}; statistics of {statistics_of}"
    )


def data_beside(step: StepResult, model: DataModel, table: EnergyTable | None = None) -> dict[str, Any]:
    """Give the energies of a step by phase with one figure for all data and with a model of data.

    Parameters
    ----------
    step : StepResult
        Simulated with that model.
    model : DataModel
        Of its PE.
    table : EnergyTable, optional
        With which it was simulated; the package's unless given.

    Returns
    -------
    dict
        `source`, in words; `idle_pj`; and under `by_phase` for each phase: `statistics` and `cycle_pj` of a PE, None
        for updates, and for the `array` and the whole (`total`) `one_figure_pj` and `model_pj`, lists of value, low and
        high, and `ratio`, of the values.
    """
    prices, array = price_list(step.hardware, table), ArrayPrices.of(model, step.hardware)
    phases = {}
    for phase in dict.fromkeys(op.phase for op in step.ops):
        chosen = [op for op in step.ops if op.phase is phase]
        one = energy(sum((op.actions for op in chosen), np.zeros(len(ACTIONS))), prices)
        own = np.sum([op.energy for op in chosen], axis=0)
        statistics = array.recorded().get(phase.value)
        phases[phase.value] = {
            "statistics": None if statistics is None else dict(zip(STATISTICS, statistics.tolist(), strict=True)),
            "cycle_pj": None if statistics is None else _listed(array.cycle_pj(statistics)),
            "array": _pair(one[:, _ARRAY], own[:, _ARRAY]),
            "total": _pair(one, own),
        }
    source = source_of(model, step.hardware, f"{model.trained}, not of this network")
    return {"source": source, "idle_pj": _listed(array.idle_pj()), "by_phase": phases}


def _listed(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


def _pair(one: Any, own: Any) -> dict[str, Any]:
    one_figure, model = (energies.sum(axis=-1).tolist() for energies in (one, own))
    ratio = model[0] / one_figure[0] if one_figure[0] else None
    return {"one_figure_pj": one_figure, "model_pj": model, "ratio": ratio}


def print_data(beside: dict[str, Any], console: Console) -> None:
    """Print the energies of every phase with one figure and with the model of data."""
    rows = {f"{phase}, {what}": row[what] for phase, row in beside["by_phase"].items() for what in ("array", "total")}
    unit, cells = column([x * 1e-12 for row in rows.values() for k in _KEYS for x in row[k]], "J")
    table = plain_table("Energy with one figure for all data and with the model of data")
    table.add_column("")
    for header in ("one figure", "by data"):
        table.add_column(f"{header} [low…high]\n{unit}", justify="right", no_wrap=True)
    table.add_column("ratio", justify="right")
    for i, (name, row) in enumerate(rows.items()):
        value = [f"{v} [{low}…{high}]" for v, low, high in (cells[6 * i : 6 * i + 3], cells[6 * i + 3 : 6 * i + 6])]
        table.add_row(Text(name), *value, "–" if row["ratio"] is None else f"{row['ratio']:.2f}")
    console.print(table)
    console.print(Text(f"By data: {beside['source']}"), soft_wrap=True)


_KEYS = ("one_figure_pj", "model_pj")
