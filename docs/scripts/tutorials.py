"""Run the sweeps of docs/tutorials and draw their pictures in docs/images; takes a minute.

What the pages print is written anew by ``python tests/docs/test_console.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from hwsim.area import area_list
from hwsim.explore import Evaluator, load_space
from hwsim.explore.columns import FIELDS, accelerator_of
from hwsim.results import OpResult, StepResult
from hwsim.simulate import simulate
from hwsim_models import build

DOCS = Path(__file__).resolve().parents[1]
COLOURS = ("#0072B2", "#E69F00", "#009E73")
#: Utilization of convolutions by the size of the array (Jouppi et al., CACM 63(7), 2020).
PUBLISHED = {64: (0.38, 0.52), 128: (0.37, 0.48), 256: (0.22, 0.30)}


def rows_of(name: str) -> list[dict[str, Any]]:
    """Give the table of a page's space."""
    space = load_space(_path(name))
    rows: list[dict[str, Any]] = Evaluator(space, build).table(np.arange(space.size)).to_pylist()
    return rows


def step_of(name: str, row: Mapping[str, Any]) -> StepResult:
    """Simulate one row of it, for figures that the table lacks."""
    space = load_space(_path(name))
    values = {f: getattr(space.workloads[0], f) or row[f] for f in ("model", "batch")}
    return simulate(build(values["model"], values["batch"]), accelerator_of(space.base, _fields(row)))


def _path(name: str) -> Path:
    return DOCS / "tutorials" / f"{name}.toml"


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in row.items() if field in FIELDS}


def utilization(ops: Iterable[OpResult], pes: int) -> float:
    """Give MACs ÷ (PEs × cycles) of ops."""
    found = list(ops)
    return sum(op.macs for op in found) / pes / sum(op.cycles for op in found)


def arrays() -> None:
    """Utilization of convolutions, and area of the chip, by the size of the array."""
    rows, (left, right) = rows_of("arrays"), _axes(2)
    sizes = [str(n) + "²" for n in PUBLISHED]
    for model, colour in zip(("resnet18", "resnet50"), COLOURS, strict=False):
        steps = [step_of("arrays", row) for row in rows if row["model"] == model]
        used = [utilization((op for op in step.ops if op.macs), step.hardware.pes) for step in steps]
        left.plot(sizes, used, "o-", color=colour, label=f"{model}, convolutions")
        left.plot(sizes, [s.compute_utilization for s in steps], "o:", color=colour, alpha=0.6, label="… all ops")
    for x, (low, high) in enumerate(PUBLISHED.values()):
        left.bar(x, high - low, 0.5, low, color="#bbbbbb", zorder=0, label="published, TPU v2" if x == 0 else None)
    _finish(left, "utilization of the array", ylim=(0, 1))
    names = {"array": "PEs", "scratchpad": "scratchpad", "accumulator": "accumulator"}
    for x, row in enumerate(rows[:3]):
        hw, below = accelerator_of(load_space(_path("arrays")).base, _fields(row)), 0.0
        parts = {p.part: 65536 // hw.pes * p.value_mm2 for p in area_list(hw).parts}
        groups = [(label, parts[name]) for name, label in names.items()]
        groups.append(("logic of memories, skew, vector, control", sum(parts.values()) - sum(mm2 for _, mm2 in groups)))
        for (label, mm2), colour in zip(groups, ("#0072B2", "#56B4E9", "#009E73", "#E69F00"), strict=True):
            right.bar(sizes[x], mm2, 0.5, below, color=colour, label=label if x == 0 else None)
            below += mm2
    _finish(right, "area of the chip [mm²]", ylim=(0, 400))
    _save(left, "arrays")


def dataflows() -> None:
    """Cycles and energy of ops with MACs by phase, dataflow and array."""
    rows, axes = rows_of("dataflows"), _axes(2)
    for row in rows:
        step, place = step_of("dataflows", row), ("ws", "os", "is").index(row["array.dataflow"])
        wide = row["array.rows"] == 64
        for x, phase in enumerate(("forward", "dgrad", "wgrad")):
            ops = [op for op in step.ops if op.macs and op.phase == phase]
            at = x + (4 if wide else 0) + 0.27 * (place - 1)
            label = row["array.dataflow"] if x == 0 and not wide else None
            axes[0].bar(at, sum(op.cycles for op in ops) / 1e6, 0.25, color=COLOURS[place], label=label)
            mj = [sum(getattr(op.energy_pj, end) for op in ops) * 1e-9 for end in ("value", "low", "high")]
            axes[1].bar(at, mj[0], 0.25, color=COLOURS[place], label=label)
            axes[1].plot([at, at], mj[1:], color="#333333", linewidth=1)
    for axis, words in zip(axes, ("million cycles", "energy [mJ], with its interval"), strict=True):
        axis.set_xticks([0, 1, 2, 4, 5, 6], ["forward", "dgrad\n(32²)", "wgrad", "forward", "dgrad\n(64²)", "wgrad"])
        _finish(axis, words, legend=axis is axes[0])
    _save(axes[0], "dataflows")


def recompute() -> None:
    """Energy per sample against peak memory, by policy, for each kind of DRAM."""
    rows, axes = rows_of("recompute"), _axes(3)
    for axis, kind in zip(axes, ("LPDDR4-2400", "DDR4-2400", "HBM2"), strict=True):
        for policy, colour in zip(("none", "cheap", "sqrt"), COLOURS, strict=True):
            found = [r for r in rows if (r["dram.kind"], r["recompute"]) == (kind, policy)]
            memory = [r["peak_memory_bytes"] / 2**20 for r in found]
            axis.plot(memory, [1e3 * r["energy_per_sample_j"] for r in found], "o-", color=colour, label=policy)
            for r, x in zip(found, memory, strict=True):
                if policy == "none":
                    axis.annotate(f"batch {r['batch']}", (x, 1e3 * r["energy_per_sample_j"]), (5, 4), ha="left",
                                  textcoords="offset points", fontsize=7)  # fmt: skip
        axis.set_title(kind, fontsize=9)
        axis.set_xlabel("peak DRAM memory [MiB]")
        _finish(axis, "mJ per sample" if kind == "LPDDR4-2400" else "", ylim=(7.5, 16))
    _save(axes[0], "recompute")


def batch() -> None:
    """Energy per sample with its interval, and utilization, by batch."""
    rows, (left, right) = rows_of("batch"), _axes(2)
    for model, colour in zip(("resnet18", "digits-cnn"), COLOURS, strict=False):
        found = [r for r in rows if r["model"] == model]
        sizes = [r["batch"] for r in found]
        mj = np.array([[1e3 * r[f"energy_{end}j"] / r["batch"] for end in ("", "low_", "high_")] for r in found]).T
        left.plot(sizes, mj[0], "o-", color=colour, label=model)
        left.fill_between(sizes, mj[1], mj[2], color=colour, alpha=0.15)
        right.plot(sizes, [r["utilization"] for r in found], "o-", color=colour, label=f"{model}: utilization")
        shares = [r["energy_dram_j"] / r["energy_j"] for r in found]
        right.plot(sizes, shares, "s:", color=colour, label=f"{model}: DRAM's share of energy")
    left.set_yscale("log")
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xlabel("batch")
    _finish(left, "mJ per sample, with its interval")
    _finish(right, "", ylim=(0, 1))
    _save(left, "batch")


def _axes(count: int) -> Any:
    return plt.subplots(1, count, figsize=(10, 3.6), layout="constrained")[1]


def _finish(axis: Any, words: str, ylim: tuple[float, float] | None = None, legend: bool = True) -> None:
    axis.set_ylabel(words)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if ylim:
        axis.set_ylim(*ylim)
    if legend:
        axis.legend(fontsize=8, frameon=False)


def _save(axis: Any, name: str) -> None:
    axis.figure.savefig(DOCS / "images" / f"tutorial-{name}.png", dpi=110)
    print(f"docs/images/tutorial-{name}.png")


if __name__ == "__main__":
    PAGES = {"arrays": arrays, "dataflows": dataflows, "recompute": recompute, "batch": batch}
    for chosen in sys.argv[1:] or PAGES:
        PAGES[chosen]()
