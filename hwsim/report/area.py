"""The area of an accelerator and what it takes of an FPGA, as a summary and as tables (docs/contracts/area.md)."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from hwsim.area import AreaList, FpgaEstimate
from hwsim.energy.scaling import Estimate
from hwsim.hardware import Accelerator
from hwsim.report.lists import plain_table

__all__ = ["AREA_SCHEMA", "area_figures", "area_summary", "print_area"]

AREA_SCHEMA = "hwsim.area/1"


def area_summary(hw: Accelerator, areas: AreaList, fpga: FpgaEstimate | None) -> dict[str, Any]:
    """Give the summary of `hwsim area`, ready for `json.dumps`."""
    summary: dict[str, Any] = {
        "schema": AREA_SCHEMA,
        "hardware": hw.name,
        "node_nm": areas.node_nm,
        **area_figures(areas),
        "parts": {
            p.part: {
                "area_mm2": p.value_mm2, "area_low_mm2": p.low_mm2, "area_high_mm2": p.high_mm2,
                "derivation": p.derivation, "uncertain": p.uncertain, "sources": list(p.sources),
            }
            for p in areas.parts
        },
    }  # fmt: skip
    if fpga is not None:
        summary["fpga"] = {
            "target": fpga.target, "device": fpga.device, "fits": fpga.fits, "certain": fpga.certain,
            "lacks": list(fpga.lacks), "available": dict(fpga.available),
            "used": {name: _ends(cells) for name, cells in fpga.used.items()},
            "parts": {p.part: {name: _ends(cells) for name, cells in p.cells.items()} for p in fpga.parts},
        }  # fmt: skip
    return summary


def area_figures(areas: AreaList) -> dict[str, float]:
    """Give the total with its bounds, under the keys that summaries have [mm²]."""
    total = areas.total
    return {"area_mm2": total.value, "area_low_mm2": total.low, "area_high_mm2": total.high}


def print_area(hw: Accelerator, areas: AreaList, fpga: FpgaEstimate | None, console: Console) -> None:
    """Print the area part by part; with a target, its cells too, and whether they fit."""
    total = areas.total
    title = f"Area of {hw.name} at {areas.node_nm:g} nm: {total.value:.3g} mm²  [{total.low:.3g} … {total.high:.3g}]"
    console.print(Text(title, style="bold"))
    table = plain_table("By part")
    table.add_column("part")
    for header in ("mm²", "low", "high", "%"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("from")
    for p in areas.parts:
        figures = (f"{figure:.3g}" for figure in (p.value_mm2, p.low_mm2, p.high_mm2))
        table.add_row(p.part, *figures, f"{100 * p.value_mm2 / total.value:.1f}", Text(p.derivation, style="dim"))
    table.add_section()
    table.add_row("total", f"{total.value:.3g}", f"{total.low:.3g}", f"{total.high:.3g}", "100.0", "")
    console.print(table)
    console.print(Text("Without pads, PLLs, DRAM controller and PHY, and what lies between parts.", style="dim"))
    if fpga is not None:
        _print_fpga(fpga, console)


def _print_fpga(fpga: FpgaEstimate, console: Console) -> None:
    table = plain_table(f"On {fpga.device} (estimated; `hwsim synth` counts)")
    table.add_column("part")
    for name in fpga.used:
        table.add_column(name, justify="right")
    for p in fpga.parts:
        table.add_row(p.part, *(f"{cells.value:,.0f}" for cells in p.cells.values()))
    table.add_section()
    table.add_row("total", *(f"{cells.value:,.0f}" for cells in fpga.used.values()))
    table.add_row("low … high", *(_between(cells) for cells in fpga.used.values()))
    table.add_row("available", *(f"{fpga.available[name]:,}" for name in fpga.used))
    console.print(table)
    sure = "" if fpga.certain else "; the intervals say both"
    if fpga.fits:
        console.print(f"Fits{sure}. Whether it can be routed, `hwsim synth` says.", soft_wrap=True)
    for lack in fpga.lacks:
        share = lack["used"] / lack["available"]
        console.print(
            f"Does not fit{sure}: {lack['used']:,} {lack['resource']} are needed, the device has "
            f"{lack['available']:,}, {lack['missing']:,} too few ({share:.0%})",
            soft_wrap=True,
        )


def _between(cells: Estimate) -> str:
    return f"{cells.low:,.0f} … {cells.high:,.0f}"


def _ends(cells: Estimate) -> dict[str, float]:
    return {"value": float(cells.value), "low": float(cells.low), "high": float(cells.high)}
