"""Is an area the sum of its parts, with a source for each figure, never less for a larger machine, and one formula for
numbers and columns?
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.area import PARTS, area_list, load_area_table, part_areas, part_counts
from hwsim.area.cells import VARIABLES, fits
from hwsim.area.rules import RULES
from hwsim.area.scaling import STILLMAKER_AREA, logic_scale
from hwsim.area.table import COLUMNS
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, load_accelerator, preset_names
from hwsim.hardware.accelerator import Accumulator, Array, Control, Dataflow, Dram, Scratchpad, Vector

FORMATS = ("int8", "fp8_e4m3", "fp8_e5m2", "bf16", "fp16", "fp32")

#: Total of each preset [mm²], value, low, high: a snapshot, renewed where docs/contracts/area.md or its data change.
TOTALS_MM2: dict[str, tuple[float, float, float]] = {
    "edge-32x32-bf16": (9.625, 2.043, 46.07),
    "edge-4x4-bf16": (1.54, 0.3105, 6.832),
    "edge-8x8-bf16": (2.936, 0.6248, 14.21),
    "edge-8x8-int8": (2.111, 0.3672, 10.78),
    "gemmini-16x16-int8": (1.784, 0.4253, 10.2),
    "tpuv2-like-128x128-bf16": (68.37, 16.16, 306.9),
}


def variant(name: str = "edge-32x32-bf16", **parts: Any) -> Accelerator:
    """The preset with changed fields; parts as dictionaries."""
    data = load_accelerator(name).model_dump()
    for part, fields in parts.items():
        data[part] = data[part] | fields if isinstance(fields, dict) else fields
    return Accelerator.model_validate(data)


machines = st.builds(
    lambda rows, cols, capacity, banks, accumulator, lanes, alpha, mu, beta, latency, beat, queue, node, format, flow: (
        Accelerator.model_validate(
            {
                "name": "point", "clock_mhz": 100, "node_nm": node,
                "array": {"rows": rows, "cols": cols, "add_latency_cycles": alpha, "multiply_latency_cycles": mu,
                          "operand_format": format, "dataflow": flow},
                "scratchpad": {"capacity_bytes": capacity * 4 * max(rows, cols) * banks, "banks": banks},
                "accumulator": {"capacity_bytes": accumulator * 8 * cols, "add_latency_cycles": beta},
                "vector": {"lanes": min(lanes, cols), "latency_cycles": latency},
                "dram": {"kind": "HBM2", "bytes_per_cycle": beat, "latency_cycles": 30},
                "control": {"queue_depth": queue},
            }
        )
    ),
    st.integers(2, 300), st.integers(2, 300), st.integers(1, 5000), st.integers(4, 64), st.integers(1, 5000),
    st.integers(1, 300), st.integers(1, 16), st.integers(0, 8), st.integers(1, 16), st.integers(1, 64),
    st.sampled_from((1, 8, 64, 4096)), st.integers(4, 64), st.sampled_from((250.0, 180.0, 65.0, 22.0, 7.0, 3.0)),
    st.sampled_from(FORMATS), st.sampled_from(("ws", "os", "is")),
)  # fmt: skip

#: What can grow, and what it is called.
GROWING = (
    ("array", "rows"), ("array", "cols"), ("array", "add_latency_cycles"), ("array", "multiply_latency_cycles"),
    ("scratchpad", "capacity_bytes"), ("scratchpad", "banks"), ("accumulator", "capacity_bytes"),
    ("accumulator", "add_latency_cycles"), ("vector", "lanes"), ("vector", "latency_cycles"),
    ("dram", "bytes_per_cycle"), ("dram", "latency_cycles"), ("control", "queue_depth"),
    ("control", "fetch_bytes_per_cycle"),
)  # fmt: skip


def columns(points: list[Accelerator]) -> Accelerator:
    """One accelerator whose numbers are arrays of many."""
    first = points[0]

    def of(part: str, model: Any, /, **same: Any) -> Any:
        names = model.model_fields
        return model.model_construct(
            **{
                name: np.array([getattr(getattr(hw, part), name) for hw in points])
                for name in names
                if name not in same
            },
            **same,
        )

    return Accelerator.model_construct(
        name="columns", source="", node_nm=first.node_nm, clock_mhz=np.array([hw.clock_mhz for hw in points]),
        array=of("array", Array, operand_format=first.array.operand_format, dataflow=first.array.dataflow),
        scratchpad=of("scratchpad", Scratchpad), accumulator=of("accumulator", Accumulator),
        vector=of("vector", Vector), dram=of("dram", Dram, kind=first.dram.kind), control=of("control", Control),
    )  # fmt: skip


def alike(points: list[Accelerator]) -> list[Accelerator]:
    """The points with the node, format and dataflow of the first."""
    a = points[0].array
    fields = {"operand_format": a.operand_format, "dataflow": a.dataflow}
    return [
        hw.model_copy(update={"node_nm": points[0].node_nm, "array": hw.array.model_copy(update=fields)})
        for hw in points
    ]


def test_every_row_has_bounds_a_source_and_a_grade() -> None:
    rows = load_area_table().rows
    assert len(rows) == len({row.key for row in rows})
    for row in rows:
        assert 0 < row.low_um2 <= row.value_um2 <= row.high_um2
        assert row.grade in "ABC"
        assert len(row.source) > 20


@pytest.mark.parametrize("preset", preset_names())
def test_presets_take_what_they_took(preset: str) -> None:
    total = area_list(load_accelerator(preset)).total
    assert (total.value, total.low, total.high) == pytest.approx(TOTALS_MM2[preset], rel=1e-3)


@given(machines)
def test_a_total_is_the_sum_of_its_parts(hw: Accelerator) -> None:
    areas = area_list(hw)
    assert tuple(p.part for p in areas.parts) == PARTS == tuple(RULES)
    for p in areas.parts:
        assert 0 < p.low_mm2 <= p.value_mm2 <= p.high_mm2
        assert p.sources
        assert p.derivation
    for name in ("value", "low", "high"):
        parts = sum(getattr(p, f"{name}_mm2") for p in areas.parts)
        assert getattr(areas.total, name) == pytest.approx(parts, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(machines, st.sampled_from(GROWING), st.integers(1, 3))
def test_a_larger_machine_never_takes_less(hw: Accelerator, field: tuple[str, str], factor: int) -> None:
    part, name = field
    grown = hw.model_copy(
        update={part: getattr(hw, part).model_copy(update={name: getattr(getattr(hw, part), name) * (1 + factor)})}
    )
    before, after = part_areas(hw), part_areas(grown)
    for area in PARTS:
        for end in ("value", "low", "high"):
            assert getattr(after[area], end) >= getattr(before[area], end) * (1 - 1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(machines, min_size=1, max_size=5))
def test_columns_are_what_single_machines_are(points: list[Accelerator]) -> None:
    points = alike(points)
    together = part_areas(columns(points)), part_counts(columns(points))
    for i, hw in enumerate(points):
        for part, area in part_areas(hw).items():
            for end in ("value", "low", "high"):
                found = np.broadcast_to(getattr(together[0][part], end), len(points))[i]
                assert found == pytest.approx(getattr(area, end), rel=1e-12)
        for part, cells in part_counts(hw).items():
            for resource, estimate in cells.items():
                for end in ("value", "low", "high"):
                    found = np.broadcast_to(getattr(together[1][part][resource], end), len(points))[i]
                    assert found == pytest.approx(getattr(estimate, end), rel=1e-12, abs=1e-12)


def test_more_of_a_node_is_smaller() -> None:
    nodes = (250, 180, 130, 90, 65, 45, 32, 28, 22, 16, 14, 10, 7, 5)
    totals = [area_list(variant(node_nm=node)).total for node in nodes]
    for older, newer in pairwise(totals):
        for end in ("value", "low", "high"):
            assert getattr(newer, end) < getattr(older, end)


def test_units_are_square_millimetres() -> None:
    """A million PEs of N µm² are N mm²: by hand from the table, at the node of our cells."""
    hw = variant("edge-8x8-int8", node_nm=180, array={"rows": 1000, "cols": 1000})
    table, fit = load_area_table(), fits()["parts"]["pe"]["int8 stationary"]
    alpha, mu = hw.array.add_latency_cycles, hw.array.multiply_latency_cycles
    cells = {
        name: sum(c * {"1": 1, "alpha": alpha, "mu": mu}[term] for term, c in fit[name]["terms"].items())
        for name in ("gates", "FF")
    }
    gate, flip_flop = (table.select("logic", kind, "cell")[0].value_um2 for kind in ("gate_transistor", "flip_flop"))
    assert area_list(hw)["array"].value_mm2 == pytest.approx(cells["gates"] * gate + cells["FF"] * flip_flop)
    kib = 1024 * 8 * table.select("sram", "cell", "6t")[-2].value_um2 * 1e-6  # at 180 nm
    assert area_list(hw)["scratchpad"].value_mm2 == pytest.approx(2 * kib * (64 + (64 * 8) ** 0.5))


def test_scaling_is_the_table_of_stillmaker_and_baas_within_its_bounds() -> None:
    for node, area in STILLMAKER_AREA.items():
        found = logic_scale(130, node)
        assert found.value == pytest.approx(area)
        assert found.low <= found.value <= found.high
        back = logic_scale(node, 130)
        assert back.value * found.value == pytest.approx(1)
        assert (back.low * found.high, back.high * found.low) == pytest.approx((1, 1))


def test_every_published_operation_lies_within_the_bounds_of_our_cells() -> None:
    """The lower end of logic is the smallest of these ratios: no operation is below it."""
    table = load_area_table()
    from hwsim.area.rules import PLACED, AreaContext

    least = AreaContext(variant(node_nm=45), table).library(180.0).low
    for kind, format in (("add", "int32"), ("add", "fp32"), ("mul", "fp32")):
        published, own = table.select("operation", kind, format)
        scale = logic_scale(180, 45)
        assert own.value_um2 * scale.value * least <= published.value_um2 * (1 + 1e-12)
        assert published.value_um2 <= own.value_um2 * scale.high * PLACED.high
    assert 0.2 < least < 0.5


def test_an_own_table_replaces_a_cell_at_all_nodes(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(",".join(COLUMNS) + "\nsram,cell,6t,22,0.2,0.2,0.2,measured,A\n", "utf-8")
    table, hw = load_area_table(path), variant(node_nm=22)
    assert [row.node_nm for row in table.select("sram", "cell", "6t")] == [22]
    assert area_list(hw, table)["scratchpad"].value_mm2 == pytest.approx(2 * area_list(hw)["scratchpad"].value_mm2)
    assert area_list(hw, table)["array"] == area_list(hw)["array"]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("sram,cell,6t,22,0,0,0,x,A", "columns 'low_um2', 'value_um2', 'high_um2': must rise from above 0, nothing "
         "takes no area, not 0, 0, 0"),
        ("sram,cell,6t,22,1,2,3,x,A", "columns 'low_um2', 'value_um2', 'high_um2': must rise from above 0, nothing "
         "takes no area, not 2, 1, 3"),
        ("sram,cell,6t,22,1,1,1,,A", "column 'source': must say where the figure comes from, but is empty"),
        ("sram,cell,6t,2,1,1,1,x,A", "column 'node_nm': must be 3 to 250 nm, not 2"),
        ("sram,cell,6t,22,1,1,big,x,A", "column 'high_um2': must be a number, not 'big'"),
        ("sram,cell,8t,22,1,1,1,x,A", "column 'format_or_size': must be one of 6t, not '8t'"),
        ("dram,cell,6t,22,1,1,1,x,A", "column 'component': must be one of logic, operation, sram, not 'dram'"),
        ("sram,cell,6t,22,1,1,1,x,D", "column 'grade': must be one of A, B, C, not 'D'"),
    ],
)  # fmt: skip
def test_a_row_that_breaks_a_rule_is_named(tmp_path: Path, row: str, sentence: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(",".join(COLUMNS) + f"\n{row}\n", "utf-8")
    with pytest.raises(HwsimError) as refused:
        load_area_table(path)
    assert str(refused.value) == f"{path}, line 2, {sentence}"


def test_a_cell_that_the_table_lacks_is_refused() -> None:
    with pytest.raises(HwsimError) as refused:
        load_area_table().select("sram", "cell", "8t")
    assert str(refused.value) == (
        "the default area table has no row for sram 'cell' of '8t'; add one, nothing takes no area"
    )


def test_terms_are_products_of_variables() -> None:
    for groups in fits()["parts"].values():
        for resources in groups.values():
            for fit in resources.values():
                if "of" in fit:
                    assert fit["low"] <= 1 <= fit["high"]
                    continue
                assert all(name in VARIABLES for term in fit["terms"] for name in term.split("*"))
                assert all(coefficient > 0 for coefficient in fit["terms"].values())
                assert fit["low"] <= 1 <= fit["high"]


def test_all_formats_and_dataflows_have_an_area() -> None:
    for format in FORMATS:
        for dataflow in Dataflow:
            hw = variant(array={"operand_format": format, "dataflow": dataflow})
            assert 0 < area_list(hw).total.value < 1000
