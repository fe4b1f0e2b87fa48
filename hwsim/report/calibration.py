"""What `hwsim calibrate` measured, as tables and as files.

Takes the summary of docs/contracts/calibration.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from hwsim.energy.data_model import DataModel
from hwsim.report.files import json_text
from hwsim.report.lists import plain_table

__all__ = ["CALIBRATION_FILES", "model_text", "print_calibration", "write_calibration"]

#: The energy table, the model of data and the summary.
CALIBRATION_FILES = ("energy.csv", "data-model.json", "calibration.json")


def model_text(model: DataModel) -> str:
    """Give a model of data as the file that `hwsim.energy.data_model.load_data_model` reads."""
    return json_text(model.model_dump(mode="json", by_alias=True))


def write_calibration(summary: Mapping[str, Any], table: str, model: DataModel, folder: Path) -> None:
    """Write `CALIBRATION_FILES` into a folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(CALIBRATION_FILES, (table, model_text(model), json_text(dict(summary))), strict=True):
        (folder / name).write_text(text, "utf-8")


def print_calibration(summary: Mapping[str, Any], console: Console) -> None:
    """Print the rows, the PE on every stream, and the model's error."""
    library = summary["library"]
    console.print(
        f"Energy at the gates: {summary['hardware']} ({summary['dataflow']}), {summary['operand_format']} operands\n"
        f"{library['name']}, {library['node_nm']:g} nm, {library['supply_v']:g} V; "
        + ", ".join(f"{name.replace('_', '-')} {version}" for name, version in summary["tools"].items()),
        soft_wrap=True,
    )
    table = plain_table("Rows of the energy table, pJ")
    for header in ("operation", "of", "value", "low", "high"):
        table.add_column(header, justify="left" if header in ("operation", "of") else "right")
    for row in summary["rows"]:
        figures = (row[f"{bound}_pj"] for bound in ("value", "low", "high"))
        table.add_row(f"{row['component']} {row['action']}", row["format_or_size"], *figures)
    console.print(table)
    for name, component in summary["components"].items():
        _print_component(name, component, console)
    _print_model(summary["model"], console)
    if "control" in summary:
        _print_control(summary["control"], console)


def _print_control(control: Mapping[str, Any], console: Console) -> None:
    def bounded(name: str) -> str:
        found = control[name]
        return f"{found['value']:,.0f} [{found['low']:,.0f} … {found['high']:,.0f}] pJ"

    console.print(
        f"\nControl: {control['cells']:,} cells, {control['flip_flops']:,} of them flip-flops, "
        f"{control['area_um2']:,.0f} µm²; {control['cycles']:,} cycles and {control['commands']:,} commands of "
        f"{control['program']}, without glitches\n"
        f"busy {bounded('busy_pj')} a cycle, idle {bounded('idle_pj')} a cycle; a command adds {bounded('command_pj')}",
        soft_wrap=True,
    )


def _print_component(name: str, component: Mapping[str, Any], console: Console) -> None:
    title = f"{name}: {component['cells']:,} cells, {component['flip_flops']:,} of them flip-flops"
    table = plain_table(f"{title}, {component['area_um2']:,.0f} µm²; pJ per cycle")
    kinds = list(component["streams"][0]["kinds_pj"])
    for header in ("stream", "phase", "energy", "low", "high", *kinds):
        table.add_column(header, justify="left" if header in ("stream", "phase") else "right")
    for row in component["streams"]:
        figures = [row["value_pj"], row["low_pj"], row["high_pj"], *row["kinds_pj"].values()]
        table.add_row(Text(row["stream"]), row["phase"], *(f"{x:.1f}" for x in figures))
    console.print(table)


def _print_model(model: Mapping[str, Any], console: Console) -> None:
    pairs = zip(model["coefficients_pj"], model["terms"], strict=True)
    formula = " + ".join(f"{c:.2f}" if term == "constant" else f"{c:.2f}·{term}" for c, term in pairs)
    console.print(f"\nEnergy of a PE and cycle in pJ = {formula.replace('+ -', '− ')}", soft_wrap=True)
    error = model["held_out_error"]
    console.print(
        f"Error on streams it was not fitted to: {error['mean_of_streams']:.1%} (without the clock "
        f"{error['mean_of_streams_without_clock']:.1%}); one figure for all data: "
        f"{model['held_out_error_of_one_figure']:.1%}",
        soft_wrap=True,
    )
