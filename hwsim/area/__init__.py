"""Area: mm² of an accelerator at its node, and cells of an FPGA, each with an interval (docs/contracts/area.md)."""

from __future__ import annotations

from hwsim.area.areas import AreaList, PartArea, area_list, part_areas
from hwsim.area.fpga import FpgaEstimate, FpgaPart, fpga, part_counts
from hwsim.area.rules import PARTS
from hwsim.area.table import AreaRow, AreaTable, load_area_table

__all__ = [
    "PARTS",
    "AreaList",
    "AreaRow",
    "AreaTable",
    "FpgaEstimate",
    "FpgaPart",
    "PartArea",
    "area_list",
    "fpga",
    "load_area_table",
    "part_areas",
    "part_counts",
]
