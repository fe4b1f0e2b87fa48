"""Does every report show the result that it was given: keys, sums, rows, events, pictures?"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from hwsim.energy.actions import COMPONENTS
from hwsim.program.fields import CAUSES, RESOURCE_NAMES
from hwsim.report.files import CSV_COLUMNS, FILES, json_text, write_all
from hwsim.report.plots import draw_all
from hwsim.report.summary import cycles_along_bound, gemm_summary, peak_index, step_summary
from hwsim.report.tables import print_gemm, print_step
from hwsim.report.trace import COMMANDS_PER_OP, chrome_trace
from hwsim.results import MEMORY_CATEGORIES, StepResult
from hwsim.workload.graph import Phase

pytestmark = pytest.mark.usefixtures("fakes")

FIGURES = {
    "parameters",
    "forward_macs_per_sample",
    "macs",
    "cycles",
    "time_s",
    "compute_utilization",
    "dram_bytes",
    "peak_memory_bytes",
    "energy_pj",
    "energy_low_pj",
    "energy_high_pj",
}
OP = {
    "kind",
    "phase",
    "layer",
    "bound",
    "vector_operations",
    "stall_cycles",
    "busy_cycles",
    "roofline_cycles",
    "mapping",
}
STEP = {"schema", "model", "hardware", "batch", "optimizer", "recompute", "by_phase", "by_component", "by_op"} | {
    "memory",
    "interval_drivers",
    "hardware_description",
    "area_mm2",
    "area_low_mm2",
    "area_high_mm2",
}
GEMM = {
    "schema",
    "hardware",
    "dataflow",
    "m",
    "k",
    "n",
    "macs",
    "cycles",
    "time_s",
    "compute_utilization",
    "dram_bytes",
} | {
    "energy_pj",
    "energy_low_pj",
    "energy_high_pj",
}
ADDITIVE = sorted(FIGURES - {"compute_utilization", "peak_memory_bytes"})


@pytest.fixture
def summary(fake_step: StepResult) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(json_text(step_summary(fake_step)))
    return loaded


def test_summary_has_exactly_the_keys_of_its_schema(summary: dict[str, Any]) -> None:
    assert summary["schema"] == "hwsim.step/1"
    assert set(summary) == STEP | FIGURES
    assert list(summary["by_phase"]) == ["forward", "dgrad", "wgrad", "update"]
    assert list(summary["by_component"]) == list(COMPONENTS)
    for group in ("by_phase", "by_component"):
        assert all(set(entry) == FIGURES for entry in summary[group].values())
    assert all(set(entry) == FIGURES | OP for entry in summary["by_op"].values())
    assert set(summary["memory"]) == set(MEMORY_CATEGORIES)
    assert all(set(driver) == {"action", "width_pj", "share", "reason"} for driver in summary["interval_drivers"])


@pytest.mark.parametrize("group", ["by_phase", "by_component", "by_op"])
@pytest.mark.parametrize("key", ADDITIVE)
def test_figures_add_up(summary: dict[str, Any], group: str, key: str) -> None:
    total = math.fsum(entry[key] for entry in summary[group].values())
    if isinstance(summary[key], int):
        assert total == summary[key]
    else:
        assert total == pytest.approx(summary[key], rel=1e-12)


def test_peaks_are_maxima_and_memory_sums_to_the_peak(summary: dict[str, Any]) -> None:
    for group in ("by_phase", "by_component", "by_op"):
        assert max(entry["peak_memory_bytes"] for entry in summary[group].values()) == summary["peak_memory_bytes"]
    assert sum(summary["memory"].values()) == summary["peak_memory_bytes"]


def test_macs_are_in_array_and_bytes_in_dram(summary: dict[str, Any]) -> None:
    for name, entry in summary["by_component"].items():
        assert entry["macs"] == (summary["macs"] if name == "array" else 0)
        assert entry["dram_bytes"] == (summary["dram_bytes"] if name == "dram" else 0)


def test_busy_and_stalls_of_every_unit_are_the_cycles(summary: dict[str, Any]) -> None:
    for op in summary["by_op"].values():
        for unit in RESOURCE_NAMES:
            assert op["busy_cycles"][unit] + sum(op["stall_cycles"][unit].values()) == op["cycles"]


def recomputing(step: StepResult) -> StepResult:
    """Let the last rectifier run once more, before the first backward op."""
    at = next(i for i, op in enumerate(step.ops) if op.phase is not Phase.FORWARD)
    op = replace(step.ops[at - 2], name="relu.again", phase=Phase.RECOMPUTE, peak_memory_bytes=0)
    memory = {name: np.insert(live, at, 0) for name, live in step.memory_bytes.items()}
    return replace(step, ops=(*step.ops[:at], op, *step.ops[at:]), memory_bytes=memory, recompute="cheap")


def test_recomputation_is_a_phase_of_its_own(fake_step: StepResult, tmp_path: Path) -> None:
    step, stream = recomputing(fake_step), StringIO()
    summary = step_summary(step)
    assert summary["recompute"] == "cheap"
    assert list(summary["by_phase"]) == ["forward", "recompute", "dgrad", "wgrad", "update"]
    assert summary["by_phase"]["recompute"]["cycles"] == summary["by_op"]["relu.again"]["cycles"] > 0
    assert sum(phase["cycles"] for phase in summary["by_phase"].values()) == summary["cycles"]
    print_step(step, Console(file=stream, width=100))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "Training step: fakenet, batch 8, momentum, recompute cheap, on edge-32x32-bf16 (ws)"
    assert [line.split()[0] for line in lines if line.split()[:1] == ["recompute"]] == ["recompute"]
    draw_all(step, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_phase_without_ops_is_zero_and_present(fake_step: StepResult) -> None:
    some = [i for i, op in enumerate(fake_step.ops) if op.phase == "forward"]
    memory = {name: live[some] for name, live in fake_step.memory_bytes.items()}
    step = replace(fake_step, ops=tuple(fake_step.ops[i] for i in some), memory_bytes=memory)
    assert set(step_summary(step)["by_phase"]["update"].values()) == {0}


def test_gemm_summary_has_exactly_the_keys_of_its_schema(fake_gemm: Callable[..., Any], fake_step: StepResult) -> None:
    summary = gemm_summary(fake_gemm(64, 32, 16, fake_step.hardware))
    assert set(json.loads(json_text(summary))) == GEMM
    assert (summary["schema"], summary["m"], summary["k"], summary["n"]) == ("hwsim.gemm/1", 64, 32, 16)


def test_cycles_along_the_busiest_units_are_all_cycles(fake_step: StepResult) -> None:
    assert sum(cycles_along_bound(fake_step.ops).values()) == fake_step.cycles


def test_tables_fit_80_columns_and_end_in_totals(fake_step: StepResult, fake_gemm: Callable[..., Any]) -> None:
    stream = StringIO()
    console = Console(file=stream, width=80)
    print_step(fake_step, console)
    print_gemm(fake_gemm(64, 32, 16, fake_step.hardware), console)
    text = stream.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…\n" not in text
    assert f"other {len(fake_step.ops) - 12} ops" in text
    assert sum(line.startswith("total") for line in text.splitlines()) == 4
    for phase in ("forward", "dgrad", "wgrad", "update"):
        assert any(line.startswith(phase) for line in text.splitlines())


def test_table_of_ops_sums_to_its_total(fake_step: StepResult) -> None:
    stream = StringIO()
    print_step(fake_step, Console(file=stream, width=100))
    lines = stream.getvalue().split("By op, the longest first")[1].split("Where the cycles go")[0].splitlines()
    shares = [line.split() for line in lines if line.strip() and "─" not in line][2:]
    cycles = [float(words[-5]) for words in shares]
    assert sum(cycles[:-1]) == pytest.approx(cycles[-1], abs=0.005 * len(cycles))


def test_folder_gets_all_files(fake_step: StepResult, fakes: ModuleType, tmp_path: Path) -> None:
    written = write_all(fake_step, tmp_path / "a" / "b", fakes.spans)
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == sorted(FILES)
    assert [path.name for path in written] == list(FILES)
    assert json.loads((tmp_path / "a/b/summary.json").read_text("utf-8"))["cycles"] == fake_step.cycles
    for path in written:
        if path.suffix == ".png":
            assert_is_a_picture(path)


def assert_is_a_picture(path: Path) -> None:
    from matplotlib.image import imread

    pixels = imread(path)
    height, width = pixels.shape[:2]
    assert width >= 800
    assert height >= 400
    colours = np.unique((pixels[..., :3] * 255).astype(np.uint8).reshape(-1, 3), axis=0)
    assert len(colours) > 50
    ink = (pixels[..., :3].min(axis=2) < 0.95).mean()
    assert 0.02 < ink < 0.8
    edge = np.concatenate([pixels[:2].ravel(), pixels[-2:].ravel(), pixels[:, :2].ravel(), pixels[:, -2:].ravel()])
    assert (edge == 1).all(), "something is cut off at the border"


def test_csv_has_a_row_per_op_and_the_cycles_of_the_busiest_unit(
    fake_step: StepResult, fakes: ModuleType, tmp_path: Path
) -> None:
    write_all(fake_step, tmp_path, fakes.spans)
    with (tmp_path / "ops.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert (
        len(CSV_COLUMNS) == len(set(CSV_COLUMNS)) == 1 + len(OP) - 2 + len(FIGURES) + len(RESOURCE_NAMES) + len(CAUSES)
    )
    assert [row["name"] for row in rows] == [op.name for op in fake_step.ops]
    assert sum(int(row["cycles"]) for row in rows) == fake_step.cycles
    for row in rows:
        stalls = sum(int(row[f"stall_{cause}_cycles"]) for cause in CAUSES)
        assert int(row[f"busy_{row['bound']}_cycles"]) + stalls == int(row["cycles"])


@pytest.fixture
def trace(fake_step: StepResult, fakes: ModuleType) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(json.dumps(chrome_trace(fake_step, fakes.spans)))
    return loaded


def test_trace_events_have_what_the_format_requires(trace: dict[str, Any]) -> None:
    required = {
        "M": {"ph", "pid", "name", "args"},
        "X": {"ph", "pid", "tid", "name", "ts", "dur"},
        "C": {"ph", "pid", "name", "ts", "args"},
    }
    for event in trace["traceEvents"]:
        assert required[event["ph"]] <= set(event)
    names = [e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"]
    assert names == ["phases", "ops", "unit load", "unit matrix", "unit vector", "unit store"]
    assert {e["name"] for e in trace["traceEvents"] if e["ph"] == "C"} == {"live memory [bytes]", "power [W]"}
    assert trace["otherData"]["time"] == "ts and dur are microseconds of real time: cycles / clock_mhz"


def test_trace_tracks_are_in_order_and_do_not_overlap(trace: dict[str, Any]) -> None:
    ends: dict[int, float] = defaultdict(float)
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert event["ts"] >= ends[event["tid"]] - 1e-6
            ends[event["tid"]] = event["ts"] + event["dur"]
    counters: dict[str, list[float]] = defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "C":
            counters[event["name"]].append(event["ts"])
    assert all(times == sorted(times) for times in counters.values())


def test_trace_lasts_as_long_as_the_step_in_microseconds(trace: dict[str, Any], fake_step: StepResult) -> None:
    ops = [e for e in trace["traceEvents"] if e["ph"] == "X" and e["tid"] == 2]
    assert [e["name"] for e in ops] == [op.name for op in fake_step.ops]
    assert ops[-1]["ts"] + ops[-1]["dur"] == pytest.approx(fake_step.time_s * 1e6)
    wanted = {"macs", "dram_bytes", "energy_pj", "energy_low_pj", "energy_high_pj", "bound", "mapping"}
    assert all(wanted <= set(e["args"]) for e in ops)
    phases = [e for e in trace["traceEvents"] if e["ph"] == "X" and e["tid"] == 1]
    assert sum(e["dur"] for e in phases) == pytest.approx(fake_step.time_s * 1e6)


def test_trace_shows_the_first_commands_only(trace: dict[str, Any], fake_step: StepResult) -> None:
    commands = [e for e in trace["traceEvents"] if e["ph"] == "X" and e["tid"] > 2]
    assert 0 < len(commands) <= COMMANDS_PER_OP * len(fake_step.ops)


def test_peak_index_is_the_first_of_the_largest(fake_step: StepResult) -> None:
    peaks = [op.peak_memory_bytes for op in fake_step.ops]
    assert peak_index(fake_step) == peaks.index(max(peaks))


def test_plots_of_an_unusual_step_are_drawn(fake_step: StepResult, tmp_path: Path) -> None:
    """One op, without MACs: nothing to put under the roofline, no other op to sum up."""
    from hwsim.report.plots import draw_all

    index = next(i for i, op in enumerate(fake_step.ops) if op.macs == 0)
    memory = {name: live[index : index + 1] for name, live in fake_step.memory_bytes.items()}
    draw_all(replace(fake_step, ops=(fake_step.ops[index],), memory_bytes=memory), tmp_path)
    for path in tmp_path.iterdir():
        assert_is_a_picture(path)
