"""A made-up sweep of 2,000 points, whose figures follow from the knobs roughly as in life, for tests of pictures."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from hwsim.energy.actions import COMPONENTS
from hwsim.hardware import Accelerator
from hwsim.report.sweep_columns import Knob

KNOBS = (
    Knob("array.rows", "", "number", (16, 32, 64, 128)),
    Knob("array.cols", "", "number", (16, 32, 64, 128)),
    Knob("array.dataflow", "", "text", ("ws", "os", "is")),
    Knob("scratchpad.capacity_bytes", "bytes", "number", tuple(2**i for i in range(18, 24))),
    Knob("clock_mhz", "MHz", "number", (200.0, 400.0, 612.3456789, 800.0)),
    Knob("batch", "", "number", (8, 32, 128)),
    Knob("precision", "", "text", ("bf16", "fp16", "fp8")),
)
OBJECTIVES = ("energy_j", "time_s", "area_mm2")
FAILED = 7
SHARES = (0.3, 0.12, 0.08, 0.1, 0.02, 0.05, 0.33)


def make_table(points: int = 2000, seed: int = 6) -> pa.Table:
    """Make points with distinct knobs, of which some break a constraint and `FAILED` have an error."""
    rng = np.random.default_rng(seed)
    sizes = [len(knob.values) for knob in KNOBS]
    number = np.sort(rng.choice(int(np.prod(sizes)), points, replace=False))
    knobs = {
        knob.name: np.array(knob.values, dtype=object)[code]
        for knob, code in zip(KNOBS, np.unravel_index(number, sizes), strict=True)
    }
    rows, cols, sram, clock, batch = (
        knobs[name].astype(float)
        for name in ("array.rows", "array.cols", "scratchpad.capacity_bytes", "clock_mhz", "batch")
    )
    width = np.vectorize({"bf16": 2.0, "fp16": 2.0, "fp8": 1.0}.get)(knobs["precision"])
    penalty = np.vectorize({"ws": 1.0, "os": 1.15, "is": 1.35}.get)(knobs["array.dataflow"])
    noise = rng.lognormal(0, 0.06, points)
    macs = 5.4e9 * batch
    cycles = np.round(macs / (rows * cols) * penalty * (1 + (rows * cols / 3e3) ** 0.6) * noise)
    traffic = batch * 2.1e8 * width * (1 + 2 * (2**20 / sram) ** 0.5)
    time = cycles / (clock * 1e6)
    area = 0.4 + rows * cols * 0.0011 * width + sram * 2.2e-6
    dynamic = macs * 0.55e-12 * width**1.3 + traffic * 32e-12 + macs * (sram / 2**20) ** 0.4 * 0.4e-12
    energy = dynamic * (0.8 + clock / 2000) + time * area * 0.012
    low, high = energy * rng.uniform(0.55, 0.7, points), energy * rng.uniform(1.4, 1.9, points)
    failed = np.zeros(points, bool)
    failed[rng.choice(points, FAILED, replace=False)] = True
    figures = {
        "cycles": cycles,
        "time_s": time,
        "energy_j": energy,
        "energy_low_j": low,
        "energy_high_j": high,
        "power_w": energy / time,
        "edp_js": energy * time,
        **{f"energy_{name}_j": energy * share for name, share in zip(COMPONENTS, SHARES, strict=True)},
        "area_mm2": area,
        "area_low_mm2": area * 0.7,
        "area_high_mm2": area * 1.5,
        "samples_per_s": batch / time,
        "energy_per_sample_j": energy / batch,
        "macs": macs,
        "parameters": np.full(points, 11_689_512.0),
        "dram_bytes": traffic,
        "peak_memory_bytes": batch * 3.1e7 + 9.4e7,
        "utilization": macs / (rows * cols * cycles),
    }
    return pa.table(
        {
            "point": number,
            **{name: pa.array(values.tolist()) for name, values in knobs.items()},
            "error": pa.array(
                [f"point {n}: no tile fits" if bad else None for n, bad in zip(number, failed, strict=True)],
                pa.string(),
            ),
            "feasible": pa.array(area < 25, mask=failed),
            **{name: pa.array(values.astype(float), mask=failed) for name, values in figures.items()},
        }
    )


def front_of(table: pa.Table, objectives: tuple[str, ...] = OBJECTIVES) -> np.ndarray:
    """Mark the feasible points that no feasible point betters, by comparing all with all."""
    usable = np.array([flag is True for flag in table["feasible"].to_pylist()])
    costs = np.stack([table[name].to_numpy() for name in objectives], axis=1)
    front = usable.copy()
    for i in np.flatnonzero(usable):
        no_worse = (costs[usable] <= costs[i]).all(axis=1)
        front[i] = not (no_worse & (costs[usable] < costs[i]).any(axis=1)).any()
    return front


def accelerator_of(base: Accelerator, row: dict[str, object]) -> Accelerator:
    """Give the accelerator of a point by other means than the page's: the description with fields replaced."""
    described = base.model_dump()
    for knob in KNOBS:
        part, _, field = knob.name.rpartition(".")
        if knob.name not in ("batch", "precision"):
            (described[part] if part else described)[field] = row[knob.name]
    formats = {"bf16": "bf16", "fp16": "fp16", "fp8": "fp8_e4m3"}
    return Accelerator.model_validate(described).with_format(formats[str(row["precision"])])
