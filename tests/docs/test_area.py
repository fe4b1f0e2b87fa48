"""Are the figures of docs/area.md those that `hwsim.area` gives?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwsim.area import area_list, fpga, load_area_table, part_areas
from hwsim.area.cells import fits
from hwsim.area.rules import AreaContext
from hwsim.area.scaling import logic_scale
from hwsim.energy.scaling import Estimate
from hwsim.hardware import Accelerator, load_accelerator, preset_names

PAGE = Path(__file__).parents[2] / "docs" / "area.md"
MIB = 2**20


def machine(side: int, node_nm: float, *, mu: int = 1, scratchpad: int = MIB, accumulator: int = MIB) -> Accelerator:
    """An int8 machine with one vector lane: what the compared parts depend on."""
    return Accelerator.model_validate(
        {
            "name": "compared", "clock_mhz": 700, "node_nm": node_nm,
            "array": {"rows": side, "cols": side, "operand_format": "int8", "multiply_latency_cycles": mu},
            "scratchpad": {"capacity_bytes": scratchpad, "banks": 16}, "accumulator": {"capacity_bytes": accumulator},
            "vector": {"lanes": 1}, "dram": {"kind": "DDR4-2400", "bytes_per_cycle": 16, "latency_cycles": 60},
        }
    )  # fmt: skip


def chips() -> Iterator[tuple[str, float, Estimate]]:
    """What is compared: name, published [mm²], ours."""
    tpu = machine(256, 28, scratchpad=24 * MIB, accumulator=4 * MIB)
    areas = part_areas(tpu)
    yield "TPU v1, 28 nm: 65,536 int8 MACs", 0.24 * 331, areas["array"]
    yield "TPU v1: unified buffer, 24 MiB", 0.29 * 331, areas["scratchpad"]
    yield "TPU v1: accumulators, 4 MiB", 0.06 * 331, one_copy(tpu)
    gemmini = machine(16, 22, mu=0, scratchpad=MIB // 4, accumulator=MIB // 16)
    areas = part_areas(gemmini)
    yield "Gemmini, 22 nm: 16×16 int8", 0.116, areas["array"]
    yield "Gemmini: scratchpad, 256 KiB", 0.544, areas["scratchpad"]
    yield "Gemmini: accumulator, 64 KiB", 0.146, one_copy(gemmini)
    yield "Intel, 45 nm: 153 Mbit test chip, all of it", 119.0, memory(153e6 / 8, 45)
    yield "TSMC N3E: 31.8 Mibit of SRAM", 1.0, memory(31.8 * MIB / 8, 3)


def one_copy(hw: Accelerator) -> Estimate:
    """The accumulator's capacity once, with one port."""
    return AreaContext(hw, load_area_table()).macros(hw.accumulator.capacity_bytes, 2.0, 2.0 * hw.array.cols)


def memory(capacity_bytes: float, node_nm: float) -> Estimate:
    """SRAM in macros of 64 KiB."""
    macros = capacity_bytes / 65536
    return AreaContext(machine(16, node_nm), load_area_table()).macros(capacity_bytes, macros, macros)


def compared() -> list[str]:
    return [
        f"| {name} | {published:.3g} | {ours.value:.3g} [{ours.low:.3g} … {ours.high:.3g}] | "
        f"{ours.value / published:.2f} |"
        for name, published, ours in chips()
    ]


def operations() -> list[str]:
    table, lines = load_area_table(), []
    for kind, format in (("add", "int32"), ("add", "fp32"), ("mul", "fp32")):
        published, own = table.select("operation", kind, format)
        there = own.value_um2 * logic_scale(180, 45).value
        lines.append(
            f"| {kind}, {format} | {own.value_um2:,.0f} | {there:,.0f} | {published.value_um2:,.0f} | "
            f"{there / published.value_um2:.2f} |"
        )
    return lines


def presets() -> list[str]:
    lines = []
    for name in preset_names():
        hw = load_accelerator(name)
        areas = area_list(hw)
        sums = [
            sum(p.value_mm2 for p in areas.parts if p.part in parts)
            for parts in (("array", "matrix"), ("scratchpad", "scratchpad.logic"), ("accumulator", "accumulator.logic"),
                          ("vector",), ("load", "store", "control"))
        ]  # fmt: skip
        total = areas.total
        lines.append(
            f"| {name} | {hw.node_nm:g} | " + " | ".join(f"{s:.3g}" for s in sums) + f" | **{total.value:.3g}** "
            f"[{total.low:.3g} … {total.high:.3g}] |"
        )
    return lines


def devices() -> list[str]:
    lines = []
    for name in preset_names():
        estimate = fpga(load_accelerator(name))
        used = " | ".join(f"{cells.value:,.0f}" for cells in estimate.used.values())
        answer = (
            "yes"
            if estimate.fits
            else "no: " + ", ".join(f"{lack['missing']:,} {lack['resource']}" for lack in estimate.lacks)
        )
        lines.append(f"| {name} | {used} | {answer}{'' if estimate.certain else ' (not certain)'} |")
    return lines


def errors() -> list[str]:
    lines = []
    for part, groups in fits()["parts"].items():
        for resource in ("LUT", "FF"):
            found = [group[resource] for group in groups.values()]
            machines, held = sum(f["machines"] for f in found), sum(f["held_out"] for f in found)
            mean = sum(f["mean_error"] * f["machines"] for f in found) / machines
            out = sum((f["held_out_error"] or 0) * f["held_out"] for f in found) / held if held else None
            worst = max(max(f["max_error"], f["held_out_max_error"] or 0) for f in found)
            shown = "–" if out is None else f"{out:.1%}"
            lines.append(f"| {part} | {resource} | {machines} | {mean:.1%} | {held} | {shown} | {worst:.1%} |")
    return lines


@pytest.mark.parametrize("table", [compared, operations, presets, devices, errors], ids=lambda table: table.__name__)
def test_tables_are_computed(table: object) -> None:
    page = PAGE.read_text("utf-8").splitlines()
    for line in table():  # type: ignore[operator]
        assert line in page


def test_every_published_figure_lies_within_our_bounds_or_is_named() -> None:
    """What is outside is explained on the page."""
    outside = [name for name, published, ours in chips() if not ours.low <= published <= ours.high]
    assert outside == []
