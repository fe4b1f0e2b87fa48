"""One step priced with two energy tables, side by side: the package's, which is quoted, and a user's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from hwsim.energy import ACTIONS, COMPONENTS, EnergyTable, component_of, energy, price_list
from hwsim.report.lists import plain_table
from hwsim.report.units import column
from hwsim.results import StepResult

__all__ = ["energies_beside", "print_energies"]


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
