"""What parts of the machine take of an ECP5, and how many transistors: measured, then fitted by hwsim.area's terms.

Writes `hwsim/area/data/synthesis.csv` with ``--measure`` (Yosys alone, no placement; about half an hour, results are
kept in the cache folder of `hwsim synth`), and always `hwsim/area/data/fpga-ecp5-85k.json` and `asic.json`, the
coefficients (docs/contracts/area.md, section 4):

    python docs/scripts/fpga_area.py --measure
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator

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
    stages = [(1, 0), (1, 1), (2, 1), (4, 2), (6, 2), (3, 2), (8, 3)]
    for format, dataflow, (alpha, mu) in product(FORMATS, ("ws", "os"), stages):
        held = (alpha, mu) == (3, 2)
        yield "pe", point(format=format, dataflow=dataflow, alpha=alpha, mu=mu), True, held
    for part in ("registers", "counters"):
        yield part, point(), True, False
    for part in ("load", "store"):
        yield part, point(), True, False
        yield part, point(format="bf16"), True, False
        yield part, point(rows=8, cols=8, beat_bytes=8), True, False
        yield part, point(rows=8, cols=8, beat_bytes=4, dram_latency=60), True, False
        yield part, point(rows=16, cols=16, beat_bytes=16, accumulator_bytes=32768), False, False
        yield part, point(format="bf16", rows=8, cols=8, beat_bytes=16), False, False
        yield part, point(format="fp32", rows=8, cols=8, beat_bytes=8), False, False
        yield part, point(format="fp8_e4m3", rows=8, cols=8, beat_bytes=4), False, False
        yield part, point(rows=8, cols=16, beat_bytes=8, dram_latency=40), False, True
        yield part, point(format="bf16", rows=16, cols=8, beat_bytes=8), False, True
    yield "control", point(), True, False
    yield "control", point(queue_depth=16, fetch_bytes=16), False, False
    yield "control", point(format="bf16", rows=8, cols=8, beat_bytes=8, fetch_bytes=16, queue_depth=4), True, False
    yield "control", point(format="bf16", fetch_bytes=4, queue_depth=32), True, False
    yield "control", point(rows=16, cols=8, beat_bytes=8, queue_depth=12), False, True
    for fields, transistors, held in (
        ({}, True, False), ({"banks": 4}, False, False), ({"rows": 8, "cols": 8}, True, False),
        ({"rows": 8, "cols": 8, "beat_bytes": 8, "scratchpad_bytes": 65536}, False, False),
        ({"banks": 16, "scratchpad_bytes": 32768}, False, False), ({"format": "bf16"}, True, False),
        ({"format": "fp32", "scratchpad_bytes": 32768}, False, False),
        ({"rows": 16, "cols": 8, "banks": 4, "beat_bytes": 4}, False, False),
        ({"rows": 16, "cols": 16, "beat_bytes": 4, "scratchpad_bytes": 65536}, False, False),
        ({"format": "bf16", "rows": 8, "cols": 4, "scratchpad_bytes": 65536}, False, True),
        ({"rows": 8, "cols": 8, "banks": 12, "beat_bytes": 4, "scratchpad_bytes": 49152}, False, True),
    ):  # fmt: skip
        yield "scratchpad", point(**fields), transistors, held
    for fields, transistors, held in (
        ({"format": "bf16", "cols": 2, "lanes": 2}, False, False), ({}, True, False),
        ({"beta": 6, "accumulator_bytes": 16384}, False, False), ({"cols": 8}, True, False),
        ({"cols": 8, "beat_bytes": 8, "beta": 2, "accumulator_bytes": 32768}, False, False),
        ({"cols": 16, "beat_bytes": 8, "accumulator_bytes": 65536}, False, False),
        ({"dataflow": "is", "cols": 8}, True, False), ({"dataflow": "is", "cols": 16, "beat_bytes": 8}, False, False),
        ({"format": "bf16"}, False, False), ({"cols": 6, "beta": 4, "scratchpad_bytes": 12288}, False, True),
        ({"cols": 12, "beat_bytes": 8, "accumulator_bytes": 24576, "scratchpad_bytes": 24576}, False, True),
    ):  # fmt: skip
        yield "accumulator", point(**fields), transistors, held
    for dataflow in ("ws", "os", "is"):
        for fields, transistors, held in (
            ({}, True, False), ({"rows": 2, "cols": 8}, False, False), ({"rows": 8, "cols": 4}, False, False),
            ({"rows": 8, "cols": 8, "beta": 2, "mu": 2}, False, False), ({"format": "bf16"}, True, False),
            ({"rows": 8, "cols": 6, "alpha": 2, "beta": 4, "mu": 0, "scratchpad_bytes": 65536}, False, True),
        ):  # fmt: skip
            if dataflow == "is":  # half a line takes a beat, and a line is a power of two
                columns = fields.get("cols", 4) if "format" in fields else 8
                fields = {**fields, "cols": columns, "rows": fields.get("rows", 4)}
            yield "matrix", point(dataflow=dataflow, **fields), transistors, held
    yield "matrix", point(rows=16, cols=16), False, False
    yield "matrix", point(format="bf16", rows=2, cols=8, alpha=4, beta=4, mu=1), False, False
    yield "matrix", point(format="bf16", rows=8, cols=4, alpha=3, beta=3), False, True
    yield "matrix", point(format="fp8_e4m3", rows=4, cols=8), False, False
    yield "matrix", point(format="fp32", rows=4, cols=2, lanes=2), False, False
    for fields, transistors, held in (
        ({"lanes": 2}, False, False), ({}, True, False), ({"cols": 8, "lanes": 2}, False, False),
        ({"cols": 8, "lanes": 4, "lambda": 20}, False, False), ({"lanes": 1, "lambda": 8}, False, False),
        ({"format": "bf16", "lanes": 2}, False, False), ({"format": "bf16"}, True, False),
        ({"format": "bf16", "cols": 8, "lanes": 4, "lambda": 12}, False, True),
        ({"format": "fp8_e4m3", "lanes": 2}, False, False), ({"format": "fp16", "lanes": 2}, False, False),
        ({"format": "fp32", "lanes": 2}, False, False), ({"cols": 8, "lanes": 8, "lambda": 12}, False, True),
        ({"format": "fp8_e4m3", "cols": 8, "lanes": 4, "lambda": 10}, False, False),
    ):  # fmt: skip
        yield "vector", point(**fields), transistors, held
    yield "machine", point(rows=2, lanes=1), False, True
    yield "machine", point(), False, True
    yield "machine", point(format="bf16", rows=2, cols=4, lanes=2, dataflow="os"), False, True


def measured(part: str, fields: dict[str, Any], gates: bool, cache: Path) -> dict[str, Any]:
    """Synthesise one part, without placing it; of what holds PEs, their number and what each takes there."""
    from hwsim_rtl.synth.flow import TOP, Job, measure
    from hwsim_rtl.synth.harness import Harness
    from hwsim_rtl.synth.parts import component
    from hwsim_rtl.synth.targets import TARGETS
    from hwsim_rtl.verilog import emit

    hw = accelerator(fields)
    text = emit(pe(hw), "pe") if part == "pe" else emit(Harness(component(hw, part)), TOP)
    device = TARGETS["ecp5-85k"].devices[0]
    found, _ = measure(Job(text, device, by_unit=part == "machine", route=False), cache)
    row = {**dict.fromkeys(COLUMNS[-7:-1], ""), **found["used"], "pes": found["pes"]}
    for inner in found["components"]:
        if found["pes"] and inner["instances"] == found["pes"]:
            row |= {"pe_LUT": inner["LUT"], "pe_FF": inner["FF"]}
        if part == "machine":
            print("   ", inner)
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


def main() -> None:
    """Measure if asked to, then fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true")
    if parser.parse_args().measure:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        measure_all(Path(base) / "hwsim" / "synthesis")


if __name__ == "__main__":
    main()
