"""What parts of the machine take of an ECP5, and how many transistors: measured, then fitted by hwsim.area's terms.

Writes `hwsim/area/data/synthesis.csv` with ``--measure`` (Yosys alone, no placement; about half an hour, results are
kept in the cache folder of `hwsim synth`), and always `hwsim/area/data/fpga-ecp5-85k.json` and `asic.json`, the
coefficients (docs/contracts/area.md, section 4):

    python docs/scripts/fpga_area.py --measure
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from hwsim.area.cells import TABLE_WORDS, evaluate, group_of
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim_rtl.synth.targets import TARGETS

DATA = Path(__file__).resolve().parents[2] / "hwsim" / "area" / "data"
#: Fields that a part may depend on, by the column that has them.
FIELDS = {
    "format": "array.operand_format", "dataflow": "array.dataflow", "rows": "array.rows", "cols": "array.cols",
    "alpha": "array.add_latency_cycles", "mu": "array.multiply_latency_cycles",
    "scratchpad_bytes": "scratchpad.capacity_bytes", "banks": "scratchpad.banks",
    "accumulator_bytes": "accumulator.capacity_bytes", "beta": "accumulator.add_latency_cycles",
    "lanes": "vector.lanes", "lambda": "vector.latency_cycles", "beat_bytes": "dram.bytes_per_cycle",
    "dram_latency": "dram.latency_cycles", "fetch_bytes": "control.fetch_bytes_per_cycle",
    "queue_depth": "control.queue_depth",
}  # fmt: skip
BASE: dict[str, Any] = {
    "format": "int8", "dataflow": "ws", "rows": 4, "cols": 4, "alpha": 1, "mu": 1, "scratchpad_bytes": 16384,
    "banks": 8, "accumulator_bytes": 8192, "beta": 3, "lanes": 4, "lambda": 15, "beat_bytes": 4, "dram_latency": 26,
    "fetch_bytes": 8, "queue_depth": 8,
}  # fmt: skip
#: edge-4x4-bf16 and edge-8x8-int8, as docs/synthesis.md has them.
SMALL: dict[str, Any] = {
    "format": "bf16", "alpha": 6, "mu": 2, "beta": 6, "scratchpad_bytes": 65536, "accumulator_bytes": 16384,
    "beat_bytes": 8,
}  # fmt: skip
LARGE: dict[str, Any] = {
    "rows": 8, "cols": 8, "scratchpad_bytes": 65536, "accumulator_bytes": 32768, "lanes": 8, "beat_bytes": 8,
}  # fmt: skip
#: What is read from docs/synthesis.md, of whole machines: parts that take less there, since much is not connected, and
#: what is between the parts. Whole machines take hours of routing, and minutes without; they are not made again here.
FROM_MACHINES = (
    ("machine.registers", LARGE, {"LUT": 1661, "FF": 196}), ("machine.registers", SMALL, {"LUT": 1469, "FF": 196}),
    ("machine.between", LARGE, {"LUT": 159, "FF": 368}), ("machine.between", SMALL, {"LUT": 165, "FF": 368}),
)  # fmt: skip
#: What floating formats are measured with unless a point says otherwise.
FLOATING = {"alpha": 6, "mu": 2, "beta": 6}
RESOURCES = ("LUT", "FF", "DSP", "BRAM")
COLUMNS = ("part", *FIELDS, *RESOURCES, "pes", "pe_LUT", "pe_FF", "transistors", "gates_FF", "memory_bits", "held_out")
FORMATS = ("int8", "fp8_e4m3", "bf16", "fp16", "fp32")


def point(**fields: Any) -> dict[str, Any]:
    """Give the fields of one machine: those of `BASE`, but for those named."""
    floating = FLOATING if fields.get("format", "int8") != "int8" else {}
    return {**BASE, **floating, **fields}


def accelerator(fields: dict[str, Any]) -> Accelerator:
    """Describe the machine of a point."""
    described: dict[str, Any] = {"name": "point", "clock_mhz": 80, "node_nm": 40, "dram": {"kind": "LPDDR4-2400"}}
    for column, name in FIELDS.items():
        part, field = name.split(".")
        described.setdefault(part, {})[field] = fields[column]
    return Accelerator.model_validate(described)


def points() -> Iterator[tuple[str, dict[str, Any], bool, bool]]:
    """Give part, fields, whether its transistors are counted too, and whether it is held out of the fit."""
    for dataflow in ("ws", "os", "is"):
        for fields, transistors, held in (
            ({}, True, False), ({"rows": 2, "cols": 8}, False, False), ({"rows": 8, "cols": 4}, False, False),
            ({"rows": 8, "cols": 8, "beta": 2, "mu": 2}, False, False), ({"format": "bf16"}, True, False),
            ({"rows": 8, "cols": 6, "alpha": 2, "beta": 4, "mu": 0, "scratchpad_bytes": 65536}, False, True),
        ):  # fmt: skip
            if dataflow == "is":  # half a line takes a beat, and a line is a power of two
                if held or ("rows" in fields and "beta" not in fields):
                    continue
                columns = fields.get("cols", 4) if "format" in fields else 8
                fields = {**fields, "cols": columns, "rows": fields.get("rows", 4)}
            yield "matrix", point(dataflow=dataflow, **fields), transistors, held
    yield "matrix", point(rows=16, cols=16), False, False
    yield "matrix", point(format="bf16", rows=2, cols=8, alpha=4, beta=4, mu=1), False, False
    yield "matrix", point(format="bf16", rows=8, cols=4, alpha=3, beta=3), False, True
    yield "matrix", point(format="fp8_e4m3", rows=4, cols=8), False, False
    for fields, transistors, held in (
        ({"lanes": 2}, False, False), ({}, True, False), ({"cols": 8, "lanes": 2}, False, False),
        ({"cols": 8, "lanes": 4, "lambda": 20}, False, False), ({"format": "bf16", "lanes": 2}, False, False),
        ({"format": "bf16"}, True, False), ({"format": "fp8_e4m3", "lanes": 2}, False, False),
        ({"format": "fp32", "lanes": 2}, False, False),
        ({"format": "bf16", "cols": 8, "lanes": 4, "lambda": 12}, False, True),
    ):  # fmt: skip
        yield "vector", point(**fields), transistors, held
    for fields, transistors, held in (
        ({}, True, False),
        ({"rows": 8, "cols": 8, "beat_bytes": 8, "scratchpad_bytes": 65536}, False, False),
        ({"format": "bf16"}, True, False), ({"rows": 16, "cols": 8, "banks": 4, "beat_bytes": 4}, False, False),
        ({"rows": 16, "cols": 16, "beat_bytes": 4, "scratchpad_bytes": 65536}, False, False),
        ({"format": "bf16", "rows": 8, "cols": 4, "scratchpad_bytes": 65536}, False, True),
    ):  # fmt: skip
        yield "scratchpad", point(**fields), transistors, held
    for fields, transistors, held in (
        ({}, True, False), ({"beta": 6, "accumulator_bytes": 16384}, False, False),
        ({"cols": 8}, False, False), ({"cols": 16, "beat_bytes": 8, "accumulator_bytes": 65536}, False, False),
        ({"dataflow": "is", "cols": 8}, False, False),
    ):  # fmt: skip
        yield "accumulator", point(**fields), transistors, held
    for part in ("load", "store", "control", "scratchpad", "accumulator"):
        yield part, point(**SMALL), False, True
    yield "control", point(), True, False
    yield "control", point(queue_depth=16, fetch_bytes=16), False, False
    yield "control", point(format="bf16", fetch_bytes=4, queue_depth=32), False, False
    for part in ("counters", "registers"):
        yield part, point(), True, False
    stages = [(1, 0), (1, 1), (2, 1), (4, 2), (6, 2), (3, 2), (8, 3)]
    for format, dataflow, (alpha, mu) in product(FORMATS, ("ws", "os"), stages):
        held = (alpha, mu) == (3, 2)
        yield "pe", point(format=format, dataflow=dataflow, alpha=alpha, mu=mu), True, held
    for part in ("load", "store"):
        yield part, point(), True, False
        yield part, point(format="bf16"), True, False
        yield part, point(rows=8, cols=8, beat_bytes=8), True, False
        yield part, point(rows=8, cols=8, beat_bytes=4, dram_latency=60), False, False
        yield part, point(rows=16, cols=16, beat_bytes=16, accumulator_bytes=32768), False, False
        yield part, point(format="bf16", rows=8, cols=8, beat_bytes=16), False, False
        yield part, point(format="fp32", rows=8, cols=8, beat_bytes=8), False, False
        yield part, point(format="fp8_e4m3", rows=8, cols=8, beat_bytes=4), False, False
        yield part, point(rows=8, cols=16, beat_bytes=8, dram_latency=40), False, True
        yield part, point(format="bf16", rows=16, cols=8, beat_bytes=8), False, True


def measured(part: str, fields: dict[str, Any], gates: bool, cache: Path) -> dict[str, Any]:
    """Synthesise one part, without placing it; of what holds PEs, their number and what each takes there."""
    from hwsim_rtl.synth.flow import TOP, Job, measure
    from hwsim_rtl.synth.harness import Harness
    from hwsim_rtl.synth.parts import component
    from hwsim_rtl.verilog import emit

    hw = accelerator(fields)
    text = emit(pe(hw), "pe") if part == "pe" else emit(Harness(component(hw, part)), TOP)
    device = TARGETS["ecp5-85k"].devices[0]
    found, _ = measure(Job(text, device, route=False), cache)
    row = {**dict.fromkeys(COLUMNS[-7:-1], ""), **found["used"], "pes": found["pes"]}
    for inner in found["components"]:
        if found["pes"] and "StationaryPE_" in inner["component"]:
            row |= {"pe_LUT": inner["LUT"], "pe_FF": inner["FF"]}
    if gates:
        used = measure(Job(text, TARGETS["asic-generic"].devices[0], route=False), cache)[0]["used"]
        row |= {"transistors": used["transistors"], "gates_FF": used["FF"], "memory_bits": used["memory_bits"]}
    return row


def pe(hw: Accelerator) -> Any:
    """Give the PE that the array of a machine has: one for both fp8 formats."""
    from hwsim_rtl.array.pe import OutputStationaryPE, StationaryPE
    from hwsim_rtl.power.components import array_format

    kind = OutputStationaryPE if hw.array.dataflow == "os" else StationaryPE
    format = array_format(hw)
    return kind(
        format, format, add_latency_cycles=hw.array.add_latency_cycles,
        multiply_latency_cycles=hw.array.multiply_latency_cycles,
    )  # fmt: skip


def measure_all(cache: Path) -> None:
    """Write the data, part by part, as they come."""
    from amaranth.hdl import UnusedElaboratable

    warnings.simplefilter("ignore", UnusedElaboratable)
    with (DATA / "synthesis.csv").open("w", encoding="utf-8", newline="") as file:
        file.write("# Cells of the RTL's parts on an ECP5-85k, and transistors of some (docs/contracts/area.md).\n")
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for part, fields, cells in FROM_MACHINES:
            table.writerow({"part": part, **point(**fields), **dict.fromkeys(RESOURCES, 0), **cells, "held_out": 0})
        for part, fields, gates, held in points():
            started = time.monotonic()
            try:
                row = measured(part, fields, gates, cache)
            except HwsimError as error:
                print(f"{part} {fields}: {error}", file=sys.stderr, flush=True)
                continue
            table.writerow({"part": part, **fields, **row, "held_out": int(held)})
            file.flush()
            changed = {k: v for k, v in fields.items() if v != BASE[k]}
            print(f"{part} {changed} {row} {time.monotonic() - started:.1f} s", flush=True)


#: Terms of each part's fits (`hwsim.area.cells.VARIABLES`), by resource.
TERMS: dict[str, dict[str, tuple[str, ...]]] = {
    "pe": {
        "LUT": ("1", "alpha", "mu", "per_alpha"), "FF": ("1", "alpha", "mu"), "DSP": ("1",),
        "gates": ("1", "alpha", "mu"),
    },
    "matrix": {
        "LUT": ("1", "ws", "os", "rows", "cols", "cols*floating", "cols*is"),
        "FF": ("1", "ws", "cols*beta", "operand_bits*rows", "operand_bits*rows*rows*alpha*stationary",
               "operand_bits*rows*rows*os", "cols*cols*is", "cols*floating"),
        "DSP": ("1",),
    },
    "scratchpad": {
        "LUT": ("1", "deep", "deep*log_deep", "deep*banks", "deep*operand_bits*log_deep", "deep*banks*operand_bits"),
        "FF": ("1", "deep", "deep*banks", "deep*operand_bits", "deep*banks*operand_bits"),
        "DSP": ("1",),
    },
    "accumulator": {
        "LUT": ("1", "cols", "cols*cols", "cols*is", "cols*log_accumulator"),
        "FF": ("1", "cols", "beta", "cols*log_cols", "cols*is"),
        "DSP": ("1",),
    },
    "vector": {
        "LUT": ("1", "lanes", "lanes*int8", "lanes*fp8", "lanes*half", "lanes*lambda", "cols"),
        "FF": ("1", "lanes", "lanes*int8", "lanes*fp8", "lanes*half", "lanes*lambda", "cols", "lambda"),
        "DSP": ("lanes",), "bits": ("lanes*lambda", "lambda"),
    },
    "load": {
        "LUT": ("1", "beat_bytes", "elements", "log_deep", "dram_latency", "deep"),
        "FF": ("1", "beat_bytes", "elements", "log_deep", "dram_latency"),
        "DSP": ("1",), "bits": ("dram_latency",),
    },
    "store": {
        "LUT": ("1", "beat_bytes", "elements", "log_deep", "dram_latency"),
        "FF": ("1", "beat_bytes", "elements", "log_deep", "dram_latency"),
        "DSP": ("1",), "bits": ("dram_latency",),
    },
    "control": {
        "LUT": ("1", "queue_depth", "multipliers"), "FF": ("1", "queue_depth", "multipliers", "fetch_bytes"),
        "DSP": ("multipliers",), "bits": ("queue_depth",),
    },
    "registers": {"LUT": ("1",), "FF": ("1",), "DSP": ("1",)},
    "counters": {"LUT": ("1",), "FF": ("1",), "DSP": ("1",)},
    "machine": {"LUT": ("1",), "FF": ("1",), "DSP": ("1",)},
}  # fmt: skip


#: Parts whose cells are those that they have in a machine, where much of them goes with what is not connected.
DATA_OF = {"registers": "machine.registers", "machine": "machine.between"}


@lru_cache(maxsize=1)
def measurements() -> list[dict[str, Any]]:
    """Read the data back: numbers as numbers, what was not counted as None."""
    lines = [line for line in (DATA / "synthesis.csv").read_text("utf-8").splitlines() if not line.startswith("#")]
    texts = ("part", "format", "dataflow")
    return [
        {name: cell if name in texts else float(cell) if cell else None for name, cell in row.items()}
        for row in csv.DictReader(lines)
    ]


def described(row: dict[str, Any]) -> Accelerator:
    """Give the machine of a row of the data."""
    return accelerator({name: row[name] if isinstance(row[name], str) else int(row[name]) for name in FIELDS})


def cells_of(row: dict[str, Any], resource: str) -> float | None:
    """Give what a part takes of a resource, without the PEs that it holds."""
    pes = 0 if row["part"] == "pe" else int(row["pes"] or 0)
    if resource == "gates":
        if row["transistors"] is None:
            return None
        inside = pes * pe_transistors()[key_of_pe(row)] if pes else 0.0
        return float(row["transistors"] - 16 * row["gates_FF"] - inside)
    if resource == "bits":
        if row["memory_bits"] is None:
            return None
        tables = 32 * TABLE_WORDS * row["lanes"] if row["part"] == "vector" else 0
        return float(row["memory_bits"] - tables)
    if resource == "DSP" and pes:
        return float(row["DSP"] - pes * (4 if row["format"] == "fp32" else 1))
    return float(row[resource] - (pes * row[f"pe_{resource}"] if pes else 0))


def per_lut(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Transistors in gates for a look-up table, of the machines of which both are known."""
    both = [(cells_of(row, "gates"), cells_of(row, "LUT")) for row in rows]
    ratios = [gates / luts for gates, luts in both if gates is not None and luts]
    mean = float(np.exp(np.log(ratios).mean()))
    low, high = min(*ratios, 0.9 * mean) / mean, max(*ratios, 1.1 * mean) / mean
    return {"of": "LUT", "factor": float(f"{mean:.5g}"), "low": float(f"{low:.4g}"), "high": float(f"{high:.4g}"),
            "machines": len(ratios)}  # fmt: skip


def key_of_pe(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a PE depends on."""
    return row["format"], "os" if row["dataflow"] == "os" else "ws", row["alpha"], row["mu"]


@lru_cache(maxsize=1)
def pe_transistors() -> dict[tuple[Any, ...], float]:
    """Transistors in gates of the PEs that were measured alone."""
    return {key_of_pe(row): row["transistors"] - 16 * row["gates_FF"] for row in measurements() if row["part"] == "pe"}


def fitted(rows: list[dict[str, Any]], resource: str, terms: tuple[str, ...]) -> dict[str, Any]:
    """Fit one resource of one part: least squares of relative errors, no coefficient negative."""
    known = [(described(row), cells_of(row, resource), bool(row["held_out"])) for row in rows]
    known = [(hw, value, held) for hw, value, held in known if value is not None]
    largest = max(value for _, value, _ in known)
    weight = [1 / max(value, 0.02 * largest, 1e-9) for _, value, _ in known]
    matrix = np.array([[float(evaluate(term, hw)) for term in terms] for hw, _, _ in known])
    values = np.array([value for _, value, _ in known])
    fit = np.array([not held for _, _, held in known])
    scaled, wanted = matrix * np.array(weight)[:, None], values * np.array(weight)
    size = np.maximum(np.abs(scaled[fit]).max(axis=0), 1e-12)
    found = nnls(scaled[fit] / size, wanted[fit], maxiter=10_000)[0] / size
    model = matrix @ found
    some = (model > 0) & (values > 0)
    ratio = np.where(some, values / np.where(some, model, 1.0), 1.0)
    errors = np.abs(ratio - 1)
    slack = 1.0 if resource == "DSP" else 0.98  # multipliers are exact
    return {
        "terms": {t: float(f"{c:.6g}") for t, c in zip(terms, found, strict=True) if c > 1e-6},
        "low": float(f"{min(ratio.min(), slack):.4g}"), "high": float(f"{max(ratio.max(), 2 - slack):.4g}"),
        "machines": int(fit.sum()), "held_out": int((~fit).sum()), "mean_error": round(float(errors[fit].mean()), 4),
        "max_error": round(float(errors[fit].max()), 4),
        "held_out_error": round(float(errors[~fit].mean()), 4) if (~fit).any() else None,
        "held_out_max_error": round(float(errors[~fit].max()), 4) if (~fit).any() else None,
    }  # fmt: skip


def fit_all() -> dict[str, Any]:
    """Fit every part and group."""
    rows, parts = measurements(), {}
    for part, resources in TERMS.items():
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row["part"] == DATA_OF.get(part, part):
                groups.setdefault(group_of(part, described(row)), []).append(row)
        parts[part] = {
            group: {resource: fitted(inside, resource, terms) for resource, terms in resources.items()}
            for group, inside in groups.items()
        }
        if "gates" not in resources:
            factor = per_lut([row for row in rows if row["part"] == (part if part != "machine" else "load")])
            for found in parts[part].values():
                found["gates"] = factor
    return parts


def write_fits() -> None:
    """Write coefficients and errors."""
    device = TARGETS["ecp5-85k"].devices[0]
    found = {
        "schema": "hwsim.cells/1", "target": "ecp5-85k", "device": device.name, "available": dict(device.available),
        "data": "hwsim/area/data/synthesis.csv", "written_by": "docs/scripts/fpga_area.py", "parts": fit_all(),
    }  # fmt: skip
    (DATA / "cells.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for part, groups in found["parts"].items():
        for group, resources in groups.items():
            for resource, fit in resources.items():
                if "of" in fit:
                    print(f"{part:<12}{group:<18}{resource:<6}{fit}")
                    continue
                errors = " ".join(f"{name} {fit[name]}" for name in fit if name.endswith("error"))
                print(f"{part:<12}{group:<18}{resource:<6}{fit['machines']:>3} {errors} {fit['terms']}")


def main() -> None:
    """Measure if asked to, then fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true")
    if parser.parse_args().measure:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        measure_all(Path(base) / "hwsim" / "synthesis")
    write_fits()


if __name__ == "__main__":
    main()
