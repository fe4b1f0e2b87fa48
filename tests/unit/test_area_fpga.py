"""Does what is said of an FPGA meet what synthesis counted, block RAMs and multipliers exactly, the rest nearly?"""

from __future__ import annotations

import csv
from importlib import resources
from typing import Any

import pytest

from hwsim.area import fpga, part_counts
from hwsim.area.cells import block_rams, count, fits
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, load_accelerator

FIELDS = {
    "format": ("array", "operand_format"), "dataflow": ("array", "dataflow"), "rows": ("array", "rows"),
    "cols": ("array", "cols"), "alpha": ("array", "add_latency_cycles"), "mu": ("array", "multiply_latency_cycles"),
    "scratchpad_bytes": ("scratchpad", "capacity_bytes"), "banks": ("scratchpad", "banks"),
    "accumulator_bytes": ("accumulator", "capacity_bytes"), "beta": ("accumulator", "add_latency_cycles"),
    "lanes": ("vector", "lanes"), "lambda": ("vector", "latency_cycles"), "beat_bytes": ("dram", "bytes_per_cycle"),
    "dram_latency": ("dram", "latency_cycles"), "fetch_bytes": ("control", "fetch_bytes_per_cycle"),
    "queue_depth": ("control", "queue_depth"),
}  # fmt: skip

#: Largest mean error of a part, of what was held out and of what was fitted, by resource.
MEAN_ERROR = {"LUT": 0.11, "FF": 0.16}


def rows() -> list[dict[str, str]]:
    text = (resources.files("hwsim.area") / "data" / "synthesis.csv").read_text("utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def machine(row: dict[str, str]) -> Accelerator:
    data: dict[str, Any] = {"name": "point", "clock_mhz": 80, "node_nm": 40, "dram": {"kind": "LPDDR4-2400"}}
    for column, (part, field) in FIELDS.items():
        data.setdefault(part, {})[field] = row[column] if column in ("format", "dataflow") else int(row[column])
    return Accelerator.model_validate(data)


def measured(row: dict[str, str], resource: str) -> int:
    """What a part takes without its PEs."""
    pes = int(row["pes"]) if row["part"] != "pe" else 0
    return int(row[resource]) - (pes * int(row[f"pe_{resource}"]) if pes else 0)


def test_block_rams_are_those_of_every_machine() -> None:
    checked = 0
    for row in rows():
        if row["part"].startswith("machine."):
            continue
        hw, part = machine(row), row["part"]
        expected = block_rams(part, hw)
        assert int(row["BRAM"]) == expected, row
        checked += bool(expected)
    assert checked > 20


def test_multipliers_are_those_of_every_machine() -> None:
    for row in rows():
        if row["part"].startswith("machine."):
            continue
        hw, part = machine(row), row["part"]
        cells = part_counts(hw)
        if part == "matrix":
            expected = cells["matrix"]["DSP"].value + cells["array"]["DSP"].value
        else:
            expected = count(part, "DSP", hw).value
        assert int(row["DSP"]) == pytest.approx(expected, abs=1e-4), row


@pytest.mark.parametrize("resource", ["LUT", "FF"])
def test_every_measurement_lies_in_the_interval_of_its_fit(resource: str) -> None:
    for row in rows():
        if row["part"] in fits()["parts"] and row["part"] != "registers":
            estimate = count(row["part"], resource, machine(row))
            assert estimate.low * 0.999 <= measured(row, resource) <= estimate.high * 1.001, row


@pytest.mark.parametrize("resource", ["LUT", "FF"])
def test_errors_are_those_that_the_data_says(resource: str) -> None:
    """Computed anew from the measurements, and below the limits that this project sets itself."""
    errors: dict[tuple[str, str], list[float]] = {}
    for row in rows():
        if row["part"] in fits()["parts"] and row["part"] != "registers":
            found = abs(measured(row, resource) / count(row["part"], resource, machine(row)).value - 1)
            errors.setdefault((row["part"], row["held_out"]), []).append(found)
    for (part, held), found in errors.items():
        assert sum(found) / len(found) <= MEAN_ERROR[resource], (part, held)
        assert max(found) <= 0.25, (part, held)
    assert sum(held == "1" for _, held in errors) >= 7


def test_what_fits_and_what_is_missing() -> None:
    fits_on = fpga(load_accelerator("edge-8x8-int8"))
    assert (fits_on.fits, fits_on.lacks, fits_on.used["BRAM"].value) == (True, (), 108)
    large = fpga(load_accelerator("edge-8x8-bf16"))
    assert not large.fits
    lack = large.lacks[0]
    assert (lack["resource"], lack["available"]) == ("LUT", 83640)
    assert lack["missing"] == lack["used"] - 83640 > 0
    for estimate in (fits_on, large):
        for name, cells in estimate.used.items():
            assert cells.low <= cells.value <= cells.high
            assert sum(p.cells[name].value for p in estimate.parts) == pytest.approx(cells.value)


@pytest.mark.parametrize(
    ("name", "lanes", "luts", "flip_flops", "multipliers", "block_rams"),
    [("edge-8x8-int8", 8, 62_487, 33_296, 100, 112), ("edge-4x4-bf16", 4, 52_030, 26_893, 36, 72)],
)
def test_whole_machines_are_met(
    name: str, lanes: int, luts: int, flip_flops: int, multipliers: int, block_rams: int
) -> None:
    """Machines that were synthesised after the fits were made, with the RTL that they are of (docs/area.md)."""
    hw = load_accelerator(name)
    used = fpga(hw.model_copy(update={"vector": hw.vector.model_copy(update={"lanes": lanes})})).used
    assert used["LUT"].value == pytest.approx(luts, rel=0.02)
    assert used["FF"].value == pytest.approx(flip_flops, rel=0.03)
    assert used["LUT"].low <= luts <= used["LUT"].high
    assert used["FF"].low <= flip_flops <= used["FF"].high
    assert (used["DSP"].value, used["BRAM"].value) == (multipliers, block_rams)


def test_certain_means_both_ends_agree() -> None:
    assert not fpga(load_accelerator("tpuv2-like-128x128-bf16")).fits
    assert fpga(load_accelerator("tpuv2-like-128x128-bf16")).certain


def test_a_target_without_fits_is_refused() -> None:
    with pytest.raises(HwsimError) as refused:
        fpga(load_accelerator("edge-8x8-int8"), "ice40")
    assert str(refused.value) == "no area of target 'ice40'; choose one of ecp5-85k"
