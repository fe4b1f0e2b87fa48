"""The energy table: rows of energy per operation with bounds, node, source and grade, checked on loading.

`load_energy_table` gives the package's table, or that table with a user's CSV laid over it. What a row means:
docs/contracts/energy.md, section 2.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path

from hwsim.energy.scaling import Estimate
from hwsim.errors import HwsimError
from hwsim.hardware import FORMAT_BITS

__all__ = ["COLUMNS", "GRADES", "EnergyRow", "EnergyTable", "cells_of", "load_energy_table", "read_table"]

COLUMNS = (
    "component",
    "action",
    "format_or_size",
    "node_nm",
    "value_pj",
    "low_pj",
    "high_pj",
    "source",
    "grade",
)

#: A: read in the primary text or a tool's own data file; B: read in a text that quotes it; C: derived or assumed by
#: this project, wide bounds.
GRADES = ("A", "B", "C")

_FORMATS = "|".join(sorted(FORMAT_BITS))
_KINDS = "DDR4-2400|HBM2|LPDDR4-2400"

#: Per component: what its actions and its formats or sizes look like, and the range of its nodes [nm].
_RULES: dict[str, tuple[str, str, tuple[float, float]]] = {
    "mac_add": ("add", _FORMATS, (3, 250)),
    "mac_mul": ("mul", _FORMATS, (3, 250)),
    "array": ("hop_byte|pe_active|pe_idle", f"register|{_FORMATS}", (3, 250)),
    "sram": (r"leakage_ns|read_[1-9]\d*b|write_[1-9]\d*b", r"[1-9]\d*(?:KB|MB)", (3, 250)),
    "dram": ("activation|background_ns|read_byte|write_byte", _KINDS, (0, 0)),
}

_READABLE = {r"[1-9]\d*(?:KB|MB)": "a size such as 64KB", r"[1-9]\d*b": "<bits>b"}


@dataclass(frozen=True)
class EnergyRow:
    """One row: the energy of one operation at one node [pJ], ``0 < value``, ``0 ≤ low ≤ value ≤ high``."""

    component: str
    action: str
    format_or_size: str
    node_nm: float
    value_pj: float
    low_pj: float
    high_pj: float
    source: str
    grade: str

    @property
    def key(self) -> tuple[str, str, str, float]:
        """What makes the row unique: component, action, format or size, node."""
        return (self.component, self.action, self.format_or_size, self.node_nm)

    @property
    def estimate(self) -> Estimate:
        """The energy with its bounds [pJ] and, as its source, the row's grade and source."""
        return Estimate(self.value_pj, self.low_pj, self.high_pj, (f"[{self.grade}] {self.source}",))

    @property
    def size_bytes(self) -> int:
        """Capacity that an ``sram`` row is for [bytes]."""
        return int(self.format_or_size[:-2]) * {"KB": 1024, "MB": 1024**2}[self.format_or_size[-2:]]

    @property
    def width_bits(self) -> int:
        """Bits of one access of an ``sram`` row."""
        return int(self.action.split("_")[1].removesuffix("b"))


@dataclass(frozen=True)
class EnergyTable:
    """Rows of a loaded table. Frozen and hashable.

    Attributes
    ----------
    name : str
        What messages call it: the file's name, or ``"the default energy table"``.
    rows : tuple of EnergyRow
        Checked rows, unique by `EnergyRow.key`.
    """

    name: str
    rows: tuple[EnergyRow, ...]

    @cached_property
    def _groups(self) -> dict[tuple[str, str, str], tuple[EnergyRow, ...]]:
        groups: dict[tuple[str, str, str], list[EnergyRow]] = {}
        for row in sorted(self.rows, key=lambda r: r.node_nm):
            groups.setdefault(row.key[:3], []).append(row)
        return {key: tuple(rows) for key, rows in groups.items()}

    def select(self, component: str, action: str, format_or_size: str) -> tuple[EnergyRow, ...]:
        """Give the rows of one operation, one per node, from the smallest node up.

        Raises
        ------
        HwsimError
            If there is none; nothing is free.
        """
        found = self._groups.get((component, action, format_or_size))
        if found is None:
            raise HwsimError(
                f"{self.name} has no row for {component} '{action}' of '{format_or_size}'; add one, nothing is free"
            )
        return found

    def has(self, component: str, action: str, format_or_size: str) -> bool:
        """Whether there is a row of an operation."""
        return (component, action, format_or_size) in self._groups

    def sram(self, prefix: str) -> tuple[EnergyRow, ...]:
        """Give the ``sram`` rows whose action begins with `prefix`: ``"read_"``, ``"write_"`` or ``"leakage_"``."""
        return tuple(r for r in self.rows if r.component == "sram" and r.action.startswith(prefix))


def load_energy_table(path: str | Path | None = None) -> EnergyTable:
    """Load the energy table of the package, or lay a user's CSV over it.

    Parameters
    ----------
    path : str or Path, optional
        CSV with the columns of `COLUMNS`; lines that start with ``#`` before the header are skipped. An operation of it
        (component, action, format or size) replaces the package's rows of that operation at all nodes; of ``sram``,
        where prices are a fit through all rows, a row replaces the one at the same node, and others are added.

    Raises
    ------
    HwsimError
        Unreadable file or a row that breaks a rule: one sentence with file, line, column, rule and value.

    Examples
    --------
    >>> table = load_energy_table()
    >>> [(row.node_nm, row.value_pj, row.grade) for row in table.select("mac_mul", "mul", "bf16")]
    [(7.0, 0.21, 'B'), (45.0, 0.68, 'C')]
    """
    default = _default_table()
    if path is None:
        return default
    own = {row.key: row for row in _parse(read_table(path, "energy"), str(path))}
    operations = {key[:3] for key in own}
    kept = [r for r in default.rows if r.key not in own and (r.component == "sram" or r.key[:3] not in operations)]
    return EnergyTable(str(path), (*kept, *own.values()))


@lru_cache(maxsize=1)
def _default_table() -> EnergyTable:
    text = (resources.files("hwsim.energy") / "data" / "energy.csv").read_text("utf-8")
    return EnergyTable("the default energy table", tuple(_parse(text, "hwsim/energy/data/energy.csv")))


def cells_of(text: str, file: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Give line and cells of every row of a table's CSV; lines that start with ``#`` before the header are skipped.

    Raises
    ------
    HwsimError
        No header or another one, or a row with more or fewer columns: one sentence with file and line.
    """
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), None)
    if first is None:
        raise HwsimError(f"{file}: must have the header {','.join(columns)}, but has no line")
    reader = csv.reader(lines[first:])
    header = next(reader)
    if header != list(columns):
        raise HwsimError(f"{file}, line {first + 1}: the header must be {','.join(columns)}, not {','.join(header)}")
    for cells in reader:
        line = first + reader.line_num
        if cells and len(cells) != len(columns):
            raise HwsimError(
                f"{file}, line {line}: must have {len(columns)} columns ({','.join(columns)}), not {len(cells)}"
            )
        if cells:
            yield line, dict(zip(columns, (c.strip() for c in cells), strict=True))


def read_table(path: str | Path, kind: str) -> str:
    """Give the text of a user's table.

    Raises
    ------
    HwsimError
        If it cannot be read.
    """
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise HwsimError(f"cannot read {kind} table '{path}': {reason}") from None


def _parse(text: str, file: str) -> Iterable[EnergyRow]:
    seen: dict[tuple[str, str, str, float], int] = {}
    for line, cell in cells_of(text, file, COLUMNS):
        row = _row(cell, f"{file}, line {line}")
        if row.key in seen:
            raise HwsimError(
                f"{file}, line {line}, column 'node_nm': component, action, format_or_size and node must be unique, "
                f"but {', '.join(map(str, row.key[:3]))} at {row.node_nm:g} nm is also in line {seen[row.key]}"
            )
        seen[row.key] = line
        yield row


def _row(cell: dict[str, str], where: str) -> EnergyRow:
    if cell["component"] not in _RULES:
        raise HwsimError(f"{where}, column 'component': must be one of {', '.join(_RULES)}, not '{cell['component']}'")
    actions, formats, nodes = _RULES[cell["component"]]
    for column, pattern in (("action", actions), ("format_or_size", formats)):
        if not re.fullmatch(pattern, cell[column]):
            raise HwsimError(
                f"{where}, column '{column}': must be {_words(pattern)} for component '{cell['component']}', "
                f"not '{cell[column]}'"
            )
    node_nm = _number(cell, "node_nm", where, *nodes)
    value_pj = _number(cell, "value_pj", where)
    if value_pj <= 0:
        raise HwsimError(f"{where}, column 'value_pj': must be above 0 pJ, nothing is free, not {value_pj:g}")
    low_pj, high_pj = _number(cell, "low_pj", where), _number(cell, "high_pj", where)
    if low_pj > value_pj:
        raise HwsimError(f"{where}, column 'low_pj': must be at most value_pj, {value_pj:g} pJ, not {low_pj:g}")
    if high_pj < value_pj:
        raise HwsimError(f"{where}, column 'high_pj': must be at least value_pj, {value_pj:g} pJ, not {high_pj:g}")
    if not cell["source"]:
        raise HwsimError(f"{where}, column 'source': must say where the figure comes from, but is empty")
    if cell["grade"] not in GRADES:
        raise HwsimError(f"{where}, column 'grade': must be one of {', '.join(GRADES)}, not '{cell['grade']}'")
    names = (cell["component"], cell["action"], cell["format_or_size"])
    return EnergyRow(*names, node_nm, value_pj, low_pj, high_pj, cell["source"], cell["grade"])


def _number(cell: dict[str, str], column: str, where: str, least: float = 0.0, most: float = math.inf) -> float:
    unit = column.split("_")[1].replace("pj", "pJ")
    limits = f"{least:g} to {most:g}" if most < math.inf else f"at least {least:g}"
    if least == most:
        limits = f"{least:g} (off chip, not scaled)"
    try:
        number = float(cell[column])
    except ValueError:
        number = math.nan
    if not (least <= number <= most) or math.isinf(number):
        raise HwsimError(f"{where}, column '{column}': must be a number of {unit}, {limits}, not '{cell[column]}'")
    return number


def _words(pattern: str) -> str:
    for expression, words in _READABLE.items():
        pattern = pattern.replace(expression, words)
    options = pattern.split("|")
    return options[0] if len(options) == 1 else f"one of {', '.join(options)}"
