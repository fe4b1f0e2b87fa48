"""From an accelerator and a cell library to rows of the energy table, a model of data, and all that was measured.

`calibrate` gives the summary of docs/contracts/calibration.md; `table_text` its rows as a file that
`hwsim step --energy-table` reads.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.energy.data_model import MODEL_PHASES, MODEL_SCHEMA, TERMS, DataModel
from hwsim.energy.operands import STATISTICS, PeShape, Product, operand_statistics, turned
from hwsim.energy.table import COLUMNS
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim_rtl.power.activity import simulate
from hwsim_rtl.power.components import (
    Component,
    lane_component,
    lane_streams,
    pe_component,
    skew_component,
    small_components,
    words_stream,
)
from hwsim_rtl.power.gates import CENTRAL, HIGH, KINDS, LOW, STEP_NS, Weights, delays_of
from hwsim_rtl.power.liberty import Library, read_liberty
from hwsim_rtl.power.model import Line, Point, fit
from hwsim_rtl.power.netlist import YOSYS, Netlist, map_gates
from hwsim_rtl.power.products import made_products
from hwsim_rtl.power.streams import Stream, idle_stream, pe_stream
from hwsim_rtl.synth import tools

__all__ = ["CALIBRATION_SCHEMA", "OSU018", "OSU018_PACKAGE", "Cells", "calibrate", "data_model", "find_library",
           "table_text"]  # fmt: skip

CALIBRATION_SCHEMA = "hwsim.calibration/1"
#: The open 180 nm library that Debian and Ubuntu package, and its package.
OSU018 = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
OSU018_PACKAGE = "qflow-tech-osu018"
_NODE_NM = 180.0
_BOUNDS = {"value": CENTRAL, "low": LOW, "high": HIGH}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Cells:
    """A cell library.

    Attributes
    ----------
    path : Path
        Liberty file.
    node_nm : float
        Its node [nm].
    library : Library
        What was read.
    """

    path: Path
    node_nm: float
    library: Library


@dataclass(frozen=True, eq=False)
class _Measured:
    """Energy of one component on one stream: by bound, ndarray of shape (parts, len(KINDS), 64) [pJ per cycle]."""

    stream: Stream
    energy_pj: Mapping[str, NDArray[np.float64]]

    def total(self, bound: str = "value") -> NDArray[np.float64]:
        """Energy per cycle of every stream [pJ]."""
        total: NDArray[np.float64] = self.energy_pj[bound].sum(axis=(0, 1))
        return total


def find_library(path: str | None, node_nm: float | None) -> Cells:
    """Find the cell library: a Liberty file that is named, with its node, or the packaged one.

    Raises
    ------
    HwsimError
        If there is none; the sentence names the package.
    """
    if path is None:
        if not OSU018.exists():
            raise HwsimError(
                f"there is no cell library: {OSU018} is missing; on Debian or Ubuntu: sudo apt install "
                f"{OSU018_PACKAGE}; or name a Liberty file with --liberty FILE --node NM"
            )
        return Cells(OSU018, node_nm or _NODE_NM, read_liberty(OSU018))
    if node_nm is None:
        raise HwsimError("--liberty needs --node NM: a Liberty file does not say its node, and energies scale with it")
    return Cells(Path(path), node_nm, read_liberty(Path(path)))


def calibrate(
    hw: Accelerator,
    cells: Cells,
    training: Sequence[Product],
    held_out: Sequence[Product],
    cache: Path,
    *,
    cycles: int = 128,
    seed: int = 1,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Measure an accelerator's components at their gates.

    Parameters
    ----------
    hw : Accelerator
        Whose PE, lane and registers.
    cells : Cells
        What they are made of.
    training, held_out : sequence of Product
        Recorded products. The rows of the table take both, the model of data is fitted to the first and the made ones
        alone.
    cache : Path
        Folder of netlists.
    cycles : int
        Cycles of every stream that are counted.
    seed : int
        Of all that is random.
    say : callable
        Is told what is being done.

    Returns
    -------
    dict
        The summary: `rows` of the energy table, `components`, `model`, versions and assumptions.

    Raises
    ------
    HwsimError
        If there is no PE to measure, or the cell library lacks what Yosys took.
    """
    rng = np.random.default_rng(seed)
    shape = PeShape.of(hw)
    made = made_products(hw.array.operand_format, rng)
    products = [turned(p, hw) for p in (*training, *held_out, *made)]
    streams = [idle_stream(), *(pe_stream(p, shape, rng, cycles) for p in products)]
    pe = pe_component(hw)
    pe_net, measured = _measure(pe, streams, cells, cache, say)
    by_name = {m.stream.name: m for m in measured}
    sizes = {p.name: p.macs for p in products}
    phases = _phases(measured, sizes)
    rows = _pe_rows(hw, phases, by_name)
    components = {pe.name: _described(pe_net, measured, pe.parts)}
    skew = skew_component()
    lines = [Stream(m.stream.name, m.stream.phase, {"x": _bytes(m.stream)}, m.stream.warm_cycles, m.stream.statistics)
             for m in measured if m.stream.phase != "made" or m.stream.name in ("idle", "random")]  # fmt: skip
    net, found = _measure(skew, lines, cells, cache, say)
    components[skew.name] = _described(net, found, ())
    for key, component in small_components(hw).items():
        net, found = _measure(component, [words_stream(key, rng, cycles)], cells, cache, say)
        components[component.name] = _described(net, found, ())
        if key not in {row[:3] for row in rows}:
            bounds = [float(found[0].total(bound).mean()) for bound in _BOUNDS]
            rows.append((*key, *bounds, f"{component.name}, {found[0].stream.name} operands"))
    lane = lane_component(hw)
    net, found = _measure(lane, lane_streams(rng, cycles // 4), cells, cache, say)  # large, and no data of its own
    components[lane.name] = _described(net, found, ())
    points = {
        m.stream.name: Point(m.stream.name, m.stream.phase, m.stream.statistics, {b: m.total(b) for b in _BOUNDS})
        for m in measured
    }
    fitted = [points[p.name] for p in (*training, *made)]
    models = {bound: fit(fitted, bound) for bound in _BOUNDS}
    recorded = [p for p in products if p.phase in MODEL_PHASES]
    return {
        "schema": CALIBRATION_SCHEMA,
        "hardware": hw.name,
        "operand_format": hw.array.operand_format,
        "dataflow": hw.array.dataflow.value,
        "array": {
            name: getattr(hw.array, name) for name in ("rows", "cols", "add_latency_cycles", "multiply_latency_cycles")
        },
        "library": {
            "name": cells.path.name, "sha256": sha256(cells.path.read_bytes()).hexdigest(), "node_nm": cells.node_nm,
            "supply_v": cells.library.voltage_v,
        },
        "tools": {YOSYS: tools.version(YOSYS)},
        "assumptions": {bound: asdict(assumed) for bound, assumed in _BOUNDS.items()},
        "delay_step_ns": STEP_NS, "cycles": cycles, "seed": seed,
        "rows": [_row(row, hw, cells) for row in rows],
        "phases_pj": {phase: _bounds(found) for phase, found in phases.items()},
        "components": components,
        "model": _model(models, fitted, [points[p.name] for p in held_out], by_name["idle"].total()),
        "statistics": _statistics(recorded, shape, np.random.default_rng(seed)),
    }  # fmt: skip


def table_text(summary: Mapping[str, Any]) -> str:
    """Give the rows of a summary as the CSV that `hwsim.energy.load_energy_table` reads."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(summary["rows"])
    what = f"{summary['hardware']} with {summary['operand_format']} operands"
    return (
        f"# Energy per operation [pJ] of {what}, measured at its gates.\n"
        f"# docs/contracts/calibration.md says how.\n{text.getvalue()}"
    )


def data_model(summary: Mapping[str, Any]) -> DataModel:
    """Give the model of a summary with the steps and the precision of its training."""
    trained = (
        f"digits-mlp and digits-cnn after {summary['steps']} steps of batch 32 in {summary['precision']}, "
        f"seed {summary['seed']}"
    )
    model, idle = summary["model"], _stream(summary, "idle")
    return DataModel.model_validate(
        {
            "schema": MODEL_SCHEMA,
            **{name: summary[name] for name in ("hardware", "dataflow", "operand_format", "library", "tools")},
            **summary["array"], "terms": model["terms"],
            "coefficients_pj": {
                "value": model["coefficients_pj"], **{b: model[f"coefficients_{b}_pj"] for b in ("low", "high")},
            },
            "held_out_error": {
                "mean": model["held_out_error"]["mean_of_streams"], "largest": model["held_out_error"]["largest"],
            },
            "idle_pj": {bound: idle[f"{bound}_pj"] for bound in _BOUNDS}, "trained": trained,
            "statistics": summary["statistics"],
        }
    )  # fmt: skip


def _stream(summary: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What the PE did on one stream."""
    found: Mapping[str, Any] = next(s for s in summary["components"]["PE"]["streams"] if s["stream"] == name)
    return found


def _statistics(products: Sequence[Product], shape: PeShape, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """By phase: the mean of its products' statistics by their MACs."""
    found = {}
    for phase in MODEL_PHASES:
        chosen = [p for p in products if p.phase == phase]
        means = [operand_statistics(p, shape, rng) for p in chosen]
        mean = np.average(means, axis=0, weights=[p.macs for p in chosen])
        found[phase] = dict(zip(STATISTICS, mean.round(4).tolist(), strict=True))
    return found


def _measure(
    component: Component, streams: Sequence[Stream], cells: Cells, cache: Path, say: Say
) -> tuple[Netlist, list[_Measured]]:
    """Map a component to gates and run streams through it, once without and twice with delays of the gates."""
    say(f"{component.name}: Yosys, then {len(streams)} streams")
    netlist = Netlist.of(map_gates(component.text, component.top, cells.path, cache), component.top, cells.library,
                         component.parts)  # fmt: skip
    priced = {
        bound: (Weights.of(netlist, cells.library, a, component.parts, component.feeds),
                delays_of(netlist, a) if a.glitches else None)
        for bound, a in _BOUNDS.items()
    }  # fmt: skip
    found = []
    for stream in streams:
        energies = {
            bound: weights.energy_pj(simulate(netlist, stream.words, warm_cycles=stream.warm_cycles, delays=delays))
            for bound, (weights, delays) in priced.items()
        }
        found.append(_Measured(stream, energies))
    return netlist, found


def _phases(measured: Sequence[_Measured], sizes: Mapping[str, int]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """By phase and bound: energy of the parts, ndarray of shape (parts,), mean over recorded streams by their MACs."""
    found = {}
    for phase in MODEL_PHASES:
        chosen = [m for m in measured if m.stream.phase == phase]
        if not chosen:
            raise HwsimError(f"no product of phase {phase} was recorded")
        weights = [sizes[m.stream.name] for m in chosen]
        found[phase] = {b: np.average([_parts(m, b) for m in chosen], axis=0, weights=weights) for b in _BOUNDS}
    return found


def _parts(measured: _Measured, bound: str) -> NDArray[np.float64]:
    """Energy per cycle of every part: ndarray of shape (parts,), mean over streams [pJ]."""
    parts: NDArray[np.float64] = measured.energy_pj[bound].sum(axis=1).mean(axis=-1)
    return parts


def _pe_rows(
    hw: Accelerator,
    phases: Mapping[str, Mapping[str, NDArray[np.float64]]],
    by_name: Mapping[str, _Measured],
) -> list[tuple[Any, ...]]:
    """Rows of the PE: the multiplier, the adder, all the rest by the bytes that hop, and the whole."""
    sources = [*phases.values(), {b: _parts(by_name["random"], b) for b in _BOUNDS}]
    hop_bytes = hw.operand_bytes + 4

    def interval(chosen: Callable[[NDArray[np.float64]], float]) -> tuple[float, float, float]:
        value = float(np.mean([chosen(found["value"]) for found in phases.values()]))
        low, high = (choose(chosen(s[b]) for s in sources) for choose, b in ((min, "low"), (max, "high")))
        return value, float(low), float(high)

    idle = [float(by_name["idle"].total(b).mean()) for b in _BOUNDS]
    data = "value: mean of forward, dgrad and wgrad; bounds: those and random data"
    return [
        ("mac_mul", "mul", hw.array.operand_format, *interval(lambda p: float(p[1])), f"multiplier of the PE, {data}"),
        ("mac_add", "add", hw.accumulator_format, *interval(lambda p: float(p[2])),
         f"adder of the PE, α = {hw.array.add_latency_cycles}, {data}"),
        ("array", "hop_byte", "register", *interval(lambda p: float(p[0]) / hop_bytes),
         f"all of the PE but multiplier and adder, ÷ {hop_bytes} bytes, {data}"),
        ("array", "pe_active", hw.array.operand_format, *interval(lambda p: float(p.sum())), f"PE, {data}"),
        ("array", "pe_idle", hw.array.operand_format, *idle, "PE, clock alone"),
    ]  # fmt: skip


def _row(row: tuple[Any, ...], hw: Accelerator, cells: Cells) -> dict[str, str]:
    component, action, format, value, low, high, what = row
    lib = re.sub(r"\.lib$", "", cells.path.name)
    source = (
        f"measured at the gates of {hw.name}'s RTL: {what}; {lib}, {cells.library.voltage_v:g} V; wire "
        f"{CENTRAL.wire_ff:g} ({LOW.wire_ff:g} to {HIGH.wire_ff:g}) fF per fan-out, low without glitches; Yosys "
        f"{tools.version(YOSYS)}"
    )
    figures = {"value_pj": value, "low_pj": min(low, value), "high_pj": max(high, value)}
    names = {"component": component, "action": action, "format_or_size": format, "node_nm": f"{cells.node_nm:g}"}
    return {**names, **{name: f"{x:.4g}" for name, x in figures.items()}, "source": source, "grade": "A"}


def _bounds(phase: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    return {bound: round(float(parts.sum()), 4) for bound, parts in phase.items()}


def _described(netlist: Netlist, measured: Sequence[_Measured], parts: Sequence[str]) -> dict[str, Any]:
    """What a component is, and its energy per cycle on every stream [pJ]."""
    rows = []
    for m in measured:
        central = m.energy_pj["value"].mean(axis=-1)
        rows.append(
            {
                "stream": m.stream.name, "phase": m.stream.phase,
                **{f"{b}_pj": round(float(m.total(b).mean()), 4) for b in _BOUNDS},
                "kinds_pj": dict(zip(KINDS, central.sum(axis=0).round(4).tolist(), strict=True)),
                "parts_pj": dict(zip(("own", *parts), central.sum(axis=1).round(4).tolist(), strict=True)),
                "statistics": dict(zip(STATISTICS, m.stream.statistics.mean(axis=0).round(4).tolist(), strict=False)),
            }
        )  # fmt: skip
    return {
        "cells": len(netlist.gates) + len(netlist.flip_flops), "flip_flops": len(netlist.flip_flops),
        "area_um2": round(netlist.area_um2, 1), "leakage_nw": round(netlist.leakage_nw, 3), "streams": rows,
    }  # fmt: skip


def _bytes(stream: Stream) -> NDArray[np.uint64]:
    """The low byte of what moves through a PE."""
    moving = stream.words["moving"]
    assert not isinstance(moving, int)
    low: NDArray[np.uint64] = moving & np.uint64(0xFF)
    return low


def _model(
    lines: Mapping[str, Line], fitted: Sequence[Point], held_out: Sequence[Point], idle_pj: NDArray[np.float64]
) -> dict[str, Any]:
    """Coefficients, and how far off the model is on what it was fitted to and on what it was not."""
    errors = {"fitted": lines["value"].errors(fitted), "held_out": lines["value"].errors(held_out)}
    above_idle = {p.name: float(p.energy_pj.mean() / (p.energy_pj - idle_pj).mean()) for p in (*fitted, *held_out)}
    one_figure = float(np.mean([p.energy_pj.mean() for p in fitted if p.phase != "made"]))
    coefficients = {bound: line.coefficients.round(4).tolist() for bound, line in lines.items()}
    bounded = [abs(e[0]) for line in lines.values() for e in line.errors(held_out).values()]
    found = {
        "terms": list(TERMS),
        "coefficients_pj": coefficients["value"],
        "coefficients_low_pj": coefficients["low"],
        "coefficients_high_pj": coefficients["high"],
        **{
            f"{name}_error": {
                "mean_of_streams": _mean_error([abs(e[0]) for e in of.values()]),
                "mean_of_pes": _mean_error([e[1] for e in of.values()]),
                "mean_of_streams_without_clock": _mean_error([abs(e[0]) * above_idle[s] for s, e in of.items()]),
                "streams": {stream: round(e[0], 4) for stream, e in of.items()},
            }
            for name, of in errors.items()
        },
        "held_out_error_of_one_figure": _mean_error([abs(one_figure / p.energy_pj.mean() - 1) for p in held_out]),
    }
    found["held_out_error"]["largest"] = round(max(bounded), 4) if bounded else None
    return found


def _mean_error(errors: Sequence[float]) -> float | None:
    return round(float(np.mean(errors)), 4) if errors else None
