"""The area of every part of an accelerator at its node, with bounds, derivation and sources; the total is their sum.

Normative: docs/contracts/area.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from hwsim.area.rules import PARTS, RULES, AreaContext
from hwsim.area.table import AreaTable, load_area_table
from hwsim.energy.scaling import Estimate
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator

__all__ = ["AreaList", "PartArea", "area_list", "part_areas"]


@dataclass(frozen=True)
class PartArea:
    """The area of one part [mm²], ``low ≤ value ≤ high``, its derivation, why it is uncertain, and its sources."""

    part: str
    value_mm2: float
    low_mm2: float
    high_mm2: float
    derivation: str
    uncertain: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class AreaList:
    """Areas of all parts of one accelerator, in the order of `PARTS`, at a node [nm]."""

    node_nm: float
    parts: tuple[PartArea, ...]

    @cached_property
    def total(self) -> Estimate:
        """Sum of the parts [mm²]: values, lows and highs each."""
        return Estimate(
            sum(p.value_mm2 for p in self.parts),
            sum(p.low_mm2 for p in self.parts),
            sum(p.high_mm2 for p in self.parts),
        )

    def __getitem__(self, part: str) -> PartArea:
        for area in self.parts:
            if area.part == part:
                return area
        raise HwsimError(f"unknown part '{part}'; choose one of {', '.join(p.part for p in self.parts)}")

    def describe(self) -> str:
        r"""Give the list as a text table: part, value, low, high [mm²] and derivation.

        Examples
        --------
        >>> from hwsim.hardware import load_accelerator
        >>> text = area_list(load_accelerator("edge-8x8-int8")).describe()
        >>> print("\n".join(line[:18].rstrip() for line in text.splitlines()[:3]))
        part
        array
        matrix
        """
        lines = [f"{'part':<20}{'value':>10}{'low':>10}{'high':>10}  [mm²]  derivation, {self.node_nm:g} nm"]
        rows = [*self.parts, PartArea("total", self.total.value, self.total.low, self.total.high, "", "", ())]
        for p in rows:
            figures = "".join(f"{figure:>10.3g}" for figure in (p.value_mm2, p.low_mm2, p.high_mm2))
            lines.append(f"{p.part:<20}{figures}         {p.derivation}".rstrip())
        return "\n".join(lines)


def area_list(accelerator: Accelerator, table: AreaTable | None = None) -> AreaList:
    """Give the area of every part of an accelerator at its node.

    Parameters
    ----------
    accelerator : Accelerator
        Whose array, memories, units and node decide.
    table : AreaTable, optional
        Where the areas of cells come from; the package's table unless given.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> areas = area_list(load_accelerator("edge-32x32-bf16"))
    >>> areas.total.low < areas.total.value < areas.total.high
    True
    """
    return _area_list(accelerator, load_area_table() if table is None else table)


def part_areas(accelerator: Accelerator, table: AreaTable | None = None) -> dict[str, Estimate]:
    """Give the area of every part [mm²], of one accelerator or of columns of many.

    Parameters
    ----------
    accelerator : Accelerator
        As of `area_list`; its numbers, but for the node, may be arrays of one shape, made with
        ``Accelerator.model_construct``. Then values and bounds are arrays, too.
    table : AreaTable, optional
        As of `area_list`.
    """
    context = AreaContext(accelerator, load_area_table() if table is None else table)
    return {part: RULES[part].area(context) for part in PARTS}


@lru_cache(maxsize=256)
def _area_list(accelerator: Accelerator, table: AreaTable) -> AreaList:
    context = AreaContext(accelerator, table)
    parts = []
    for part, area in part_areas(accelerator, table).items():
        rule = RULES[part]
        figures = float(area.value), float(area.low), float(area.high)
        parts.append(PartArea(part, *figures, rule.derivation(context), rule.uncertain, area.sources))
    return AreaList(accelerator.node_nm, tuple(parts))
