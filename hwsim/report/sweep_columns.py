"""What the columns of a sweep's table are called in pictures, in which unit, and which way is better.

The table is that of docs/contracts/sweep.md, section 3; the page and the plots of a sweep both ask here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hwsim.explore.columns import unit_of
from hwsim.report.units import scale

__all__ = ["Column", "Knob", "bounds_of", "column_of", "objective_of", "scaled"]

_NAMED = {
    "cycles": ("cycles", "cycles"),
    "dram_bytes": ("DRAM traffic", "bytes"),
    "edp_js": ("energy × time", "J·s"),
    "energy_per_sample_j": ("energy per sample", "J"),
    "macs": ("MACs", "MACs"),
    "samples_per_s": ("samples per second", "1/s"),
    "utilization": ("utilization", ""),
}
#: Columns that are worth a prefix; square millimetres, MHz and nm stay as they are.
_PREFIXED = frozenset({"J", "J·s", "s", "W", "bytes", "cycles", "MACs"})
_BOUNDED = {
    "area_mm2": ("area_mm2", "area_low_mm2", "area_high_mm2"),
    "energy_j": ("energy_j", "energy_low_j", "energy_high_j"),
    "edp_js": ("energy_j", "energy_low_j", "energy_high_j"),
    "energy_per_sample_j": ("energy_j", "energy_low_j", "energy_high_j"),
    "power_w": ("energy_j", "energy_low_j", "energy_high_j"),
}


@dataclass(frozen=True)
class Knob:
    """What pictures need of a knob.

    Attributes
    ----------
    name : str
        Column of the table: a dotted field of `Accelerator`, or a knob of the workload.
    unit : str
        ``"bytes"``, ``"MHz"`` …; empty if it is a plain number or text.
    kind : {"number", "text"}
        Whether its values have an order of their own.
    values : tuple
        Its values, in the order of the space file; empty if an expression gives it.
    """

    name: str
    unit: str
    kind: Literal["number", "text"]
    values: tuple[int | float | str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column of figures: its name in the table, what people call it, its unit, and whether more is better."""

    name: str
    label: str
    unit: str
    maximised: bool = False


def column_of(name: str) -> Column:
    """Say what a column is called and measured in, from its name.

    >>> column_of("peak_memory_bytes")
    Column(name='peak_memory_bytes', label='peak memory', unit='bytes', maximised=False)
    >>> column_of("utilization").unit
    ''
    """
    if name in _NAMED:
        return Column(name, *_NAMED[name])
    unit = unit_of(name)
    return Column(name, (name.rpartition("_")[0] if unit else name).replace("_", " "), unit)


def objective_of(objective: str) -> Column:
    """Say which column an objective is; one with a minus before it is maximised.

    >>> objective_of("-samples_per_s").maximised, objective_of("energy_j").maximised
    (True, False)
    """
    column = column_of(objective.removeprefix("-"))
    return Column(column.name, column.label, column.unit, objective.startswith("-"))


def bounds_of(name: str) -> tuple[str, str, str] | None:
    """Name the columns (value, low, high) whose ratios are those of a column's interval; None if it is exact.

    Time is exact, so what is energy by time or by sample has the energy's interval.

    >>> bounds_of("power_w")
    ('energy_j', 'energy_low_j', 'energy_high_j')
    >>> bounds_of("time_s") is None
    True
    """
    return _BOUNDED.get(name)


def scaled(value: float, unit: str) -> tuple[float, str]:
    """Give factor and unit that bring a value of a column between 1 and 1,000, as `hwsim.report.units.scale`.

    >>> scaled(0.042, "J·s"), scaled(4200, "MHz")
    ((1000.0, 'mJ·s'), (1.0, 'MHz'))
    """
    if unit not in _PREFIXED:
        return 1.0, unit
    factor, label = scale(value, unit)
    return factor, label.replace(" ", "") if unit == "J·s" else label
