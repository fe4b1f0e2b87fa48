"""What synthesis found, as tables, and the clock that it gives to other reports.

Takes the summary that `hwsim synth --json` writes (docs/synthesis.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.report.lists import plain_table

__all__ = ["SYNTH_SCHEMA", "print_synthesis", "with_clock_of"]

SYNTH_SCHEMA = "hwsim.synth/1"

_UNITS = {"memory_bits": "memory bits"}


def with_clock_of(hw: Accelerator, path: Path) -> Accelerator:
    """Give the accelerator with the clock that synthesis found for it.

    Parameters
    ----------
    hw : Accelerator
        What was synthesised.
    path : Path
        What ``hwsim synth --json`` wrote.

    Raises
    ------
    HwsimError
        If the file is not such a summary, or is of a part, of another accelerator, or without a frequency.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise HwsimError(f"cannot read '{path}': {error.strerror}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("schema") != SYNTH_SCHEMA:
        raise HwsimError(f"'{path}' is not a summary of hwsim synth; write one with: hwsim synth --json FILE")
    if found["part"] != "machine":
        raise HwsimError(f"'{path}' is of the part {found['part']}; the clock is that of the whole: --part machine")
    if found["hardware"] != hw.name:
        raise HwsimError(f"'{path}' is of {found['hardware']}, not of {hw.name}; synthesise that one")
    if not found["fmax_mhz"]:
        raise HwsimError(f"'{path}' has no clock frequency: {found['note'] or 'the design does not fit'}")
    return hw.model_copy(update={"clock_mhz": float(found["fmax_mhz"])})


def print_synthesis(summary: Mapping[str, Any], console: Console) -> None:
    """Print what was used, where, and what limits the clock."""
    versions = ", ".join(f"{name.replace('_', '-')} {version}" for name, version in summary["tools"].items())
    console.print(
        f"Synthesis: {summary['part']} of {summary['hardware']} for {summary['device']}, seed {summary['seed']}\n"
        f"{versions}; {_cost(summary)}",
        soft_wrap=True,
    )
    _print_used(summary, console)
    _print_components(summary, console)
    for lack in summary["lacks"]:
        console.print(
            f"Does not fit: {lack['used']:,} {lack['resource']} are needed, the device has {lack['available']:,}, "
            f"{lack['missing']:,} too few ({lack['used'] / lack['available']:.0%})",
            soft_wrap=True,
        )
    if summary["fmax_mhz"] is None:
        console.print(f"No clock frequency: {summary['note'] or 'the design does not fit'}", soft_wrap=True)
        return
    _print_path(summary["critical_path"], console)
    console.print(f"\nFmax {summary['fmax_mhz']:g} MHz", style="bold")
    if summary["note"]:
        console.print(summary["note"], soft_wrap=True)


def _cost(summary: Mapping[str, Any]) -> str:
    parts = [
        f"{name} {summary[f'{name}_s']:,.0f} s" + (f", {summary[f'{name}_mb']:,} MB" if summary[f"{name}_mb"] else "")
        for name in ("yosys", "nextpnr")
        if f"{name}_s" in summary
    ]
    return "; ".join(parts) + (" (kept from an earlier run)" if summary["cached"] else "")


def _print_used(summary: Mapping[str, Any], console: Console) -> None:
    table = plain_table("Device")
    for header in ("resource", "used", "of which harness", "available", "share"):
        table.add_column(header, justify="left" if header == "resource" else "right")
    for name, used in summary["used"].items():
        harness = summary["harness"][name]
        total, available = summary.get("placed", {}).get(name, used + harness), summary["available"].get(name)
        share = f"{total / available:.1%}" if available else "–"
        limit = "–" if available is None else _number(available)
        table.add_row(_UNITS.get(name, name), _number(total), _number(harness), limit, share)
    console.print(table)


def _print_components(summary: Mapping[str, Any], console: Console) -> None:
    """Components with what is inside them; the PE beside its share of the array."""
    names = list(summary["used"])
    table = plain_table("Components, as Yosys counts them")
    table.add_column("component")
    for header in ("instances", *(_UNITS.get(name, name) for name in names)):
        table.add_column(header, justify="right")
    rows = [(row["component"], str(row["instances"]), row) for row in summary["components"]]
    if summary["pes"]:
        rows += [("array, per PE", "", summary["array_per_pe"]), ("PE alone", "", summary["pe"])]
    for name, instances, counts in rows:
        depth = name.count(".")
        table.add_row(Text("  " * depth + name), instances, *(_number(counts[resource]) for resource in names))
    console.print(table)


def _print_path(path: Mapping[str, Any], console: Console) -> None:
    table = plain_table(f"Critical path: {path['ns']:g} ns, {path['levels']} cells, {path['from']} → {path['to']}")
    for header in ("component", "ns", "logic", "wires"):
        table.add_column(header, justify="left" if header == "component" else "right")
    table.add_column("cells")
    for step in path["steps"]:
        delays = (f"{step[key]:.2f}" for key in ("ns", "logic_ns", "routing_ns"))
        table.add_row(Text(step["component"]), *delays, Text(step["kinds"]))
    console.print(table)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
