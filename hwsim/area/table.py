"""The area table: rows of area per cell or operation with bounds, node, source and grade, checked on loading.

What a row means: docs/contracts/area.md, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from hwsim.energy.scaling import Estimate
from hwsim.energy.table import GRADES, cells_of, read_table
from hwsim.errors import HwsimError

__all__ = ["COLUMNS", "AreaRow", "AreaTable", "load_area_table"]

COLUMNS = (
    "component", "kind", "format_or_size", "node_nm", "value_um2", "low_um2", "high_um2", "source", "grade",
)  # fmt: skip

#: Per component its kinds, and what may stand under format or size.
_RULES = {
    "logic": (("gate_transistor", "flip_flop"), ("cell",)),
    "operation": (("add", "mul"), ("int8", "int32", "fp16", "fp32")),
    "sram": (("cell",), ("6t",)),
}
_NODES_NM = (3.0, 250.0)


@dataclass(frozen=True)
class AreaRow:
    """One row: the area of one cell or operation at one node [µm²], ``0 < low ≤ value ≤ high``."""

    component: str
    kind: str
    format_or_size: str
    node_nm: float
    value_um2: float
    low_um2: float
    high_um2: float
    source: str
    grade: str

    @property
    def key(self) -> tuple[str, str, str, float]:
        """What makes the row unique: component, kind, format or size, node."""
        return (self.component, self.kind, self.format_or_size, self.node_nm)

    @property
    def estimate(self) -> Estimate:
        """The area with its bounds [µm²] and, as its source, the row's grade and source."""
        return Estimate(self.value_um2, self.low_um2, self.high_um2, (f"[{self.grade}] {self.source}",))


@dataclass(frozen=True)
class AreaTable:
    """Rows of a loaded table, unique by `AreaRow.key`. Frozen and hashable."""

    name: str
    rows: tuple[AreaRow, ...]

    def select(self, component: str, kind: str, format_or_size: str) -> tuple[AreaRow, ...]:
        """Give the rows of one cell or operation, one per node, from the smallest node up.

        Raises
        ------
        HwsimError
            If there is none; nothing takes no area.
        """
        found = [r for r in self.rows if r.key[:3] == (component, kind, format_or_size)]
        if not found:
            raise HwsimError(
                f"{self.name} has no row for {component} '{kind}' of '{format_or_size}'; add one, nothing takes no area"
            )
        return tuple(sorted(found, key=lambda r: r.node_nm))

    def interpolated(self, component: str, kind: str, format_or_size: str, node_nm: float) -> Estimate:
        """Area at a node: the row there, or the power law through both neighbours, of value and bounds.

        Beyond the rows it goes on with node² from the nearest one.

        Raises
        ------
        HwsimError
            If there is no row.

        Examples
        --------
        >>> table = load_area_table()
        >>> [round(table.interpolated("sram", "cell", "6t", node).value, 3) for node in (45, 28, 7)]
        [0.346, 0.127, 0.027]
        """
        rows = self.select(component, kind, format_or_size)
        lower = max((r for r in rows if r.node_nm <= node_nm), key=lambda r: r.node_nm, default=rows[0])
        upper = min((r for r in rows if r.node_nm >= node_nm), key=lambda r: r.node_nm, default=rows[-1])
        if lower.node_nm == upper.node_nm or not lower.node_nm <= node_nm <= upper.node_nm:
            return lower.estimate * (node_nm / lower.node_nm) ** 2
        share = math.log(node_nm / lower.node_nm) / math.log(upper.node_nm / lower.node_nm)
        value, low, high = (
            getattr(lower, name) ** (1 - share) * getattr(upper, name) ** share
            for name in ("value_um2", "low_um2", "high_um2")
        )
        return Estimate(value, low, high, lower.estimate.sources + upper.estimate.sources)


def load_area_table(path: str | Path | None = None) -> AreaTable:
    """Load the area table of the package, or lay a user's CSV over it.

    Parameters
    ----------
    path : str or Path, optional
        CSV with the columns of `COLUMNS`; lines that start with ``#`` before the header are skipped. A cell or
        operation of it replaces the package's rows of the same at all nodes.

    Raises
    ------
    HwsimError
        Unreadable file or a row that breaks a rule: one sentence with file, line, column, rule and value.

    Examples
    --------
    >>> [row.node_nm for row in load_area_table().select("operation", "mul", "fp32")]
    [45.0, 180.0]
    """
    default = _default_table()
    if path is None:
        return default
    own = _parse(read_table(path, "area"), str(path))
    replaced = {row.key[:3] for row in own}
    return AreaTable(str(path), (*(r for r in default.rows if r.key[:3] not in replaced), *own))


@lru_cache(maxsize=1)
def _default_table() -> AreaTable:
    text = (resources.files("hwsim.area") / "data" / "area.csv").read_text("utf-8")
    return AreaTable("the default area table", _parse(text, "hwsim/area/data/area.csv"))


def _parse(text: str, file: str) -> tuple[AreaRow, ...]:
    found: dict[tuple[str, str, str, float], AreaRow] = {}
    for line, cell in cells_of(text, file, COLUMNS):
        where = f"{file}, line {line}"
        row = _row(cell, where)
        if row.key in found:
            raise HwsimError(
                f"{where}, column 'node_nm': component, kind, format_or_size and node must be unique, but "
                f"{', '.join(row.key[:3])} at {row.node_nm:g} nm is there already"
            )
        found[row.key] = row
    return tuple(found.values())


def _row(cell: dict[str, str], where: str) -> AreaRow:
    _one_of(cell, "component", tuple(_RULES), where)
    kinds, sizes = _RULES[cell["component"]]
    _one_of(cell, "kind", kinds, where)
    _one_of(cell, "format_or_size", sizes, where)
    _one_of(cell, "grade", GRADES, where)
    node_nm, value, low, high = (_number(cell, name, where) for name in COLUMNS[3:7])
    if not _NODES_NM[0] <= node_nm <= _NODES_NM[1]:
        raise HwsimError(f"{where}, column 'node_nm': must be 3 to 250 nm, not {node_nm:g}")
    if not 0 < low <= value <= high:
        raise HwsimError(
            f"{where}, columns 'low_um2', 'value_um2', 'high_um2': must rise from above 0, nothing takes no area, "
            f"not {low:g}, {value:g}, {high:g}"
        )
    if not cell["source"]:
        raise HwsimError(f"{where}, column 'source': must say where the figure comes from, but is empty")
    names = (cell["component"], cell["kind"], cell["format_or_size"])
    return AreaRow(*names, node_nm, value, low, high, cell["source"], cell["grade"])


def _one_of(cell: dict[str, str], column: str, choices: tuple[str, ...], where: str) -> None:
    if cell[column] not in choices:
        raise HwsimError(f"{where}, column '{column}': must be one of {', '.join(choices)}, not '{cell[column]}'")


def _number(cell: dict[str, str], column: str, where: str) -> float:
    try:
        number = float(cell[column])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise HwsimError(f"{where}, column '{column}': must be a number, not '{cell[column]}'")
    return number
