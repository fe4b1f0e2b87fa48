"""Four pictures of a training step: energy, cycles, roofline and memory, as PNG files.

Drawn with matplotlib's objects and the Agg canvas, without pyplot, since a whole `hwsim step --out` should take
seconds. Colours are those of Okabe and Ito, which colour-blind readers can tell apart.

References
----------
M. Okabe and K. Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from hwsim.energy.actions import ACTIONS, COMPONENTS, component_of
from hwsim.report.summary import cycles_along_bound, peak_index, step_title
from hwsim.report.units import binary, column, quantity, scale
from hwsim.results import MEMORY_CATEGORIES, OpResult, StepResult
from hwsim.workload.graph import Phase

__all__ = ["CYCLE_BARS", "draw_all", "draw_cycles", "draw_energy", "draw_memory", "draw_roofline"]

#: Bars that ``cycles.png`` shows at most.
CYCLE_BARS = 25

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#999999"
PALETTE = (BLUE, ORANGE, GREEN, SKY, VERMILLION, PURPLE, YELLOW, BLACK)
PHASE_COLOURS = {
    Phase.FORWARD: BLUE,
    Phase.RECOMPUTE: SKY,
    Phase.DGRAD: ORANGE,
    Phase.WGRAD: GREEN,
    Phase.UPDATE: PURPLE,
}
MEMORY_COLOURS = dict(zip(MEMORY_CATEGORIES, (BLUE, SKY, ORANGE, GREEN, GREY, PURPLE), strict=True))
BUSY_COLOURS = {"matrix": BLUE, "port": SKY, "vector": GREEN}
STALL_COLOURS = (ORANGE, VERMILLION, YELLOW, PURPLE, BLACK)


def draw_all(step: StepResult, folder: Path) -> None:
    """Write ``energy.png``, ``cycles.png``, ``roofline.png`` and ``memory.png`` into a folder."""
    draw_energy(step, folder / "energy.png")
    draw_cycles(step, folder / "cycles.png")
    draw_roofline(step, folder / "roofline.png")
    draw_memory(step, folder / "memory.png")


def draw_energy(step: StepResult, path: Path) -> None:
    """Draw one bar per phase, stacked by component, with the phase's energy interval as an error bar."""
    phases = step.phases
    energy = {phase: _component_energy(step, phase) for phase in phases}  # (3, components) in joules
    totals = np.array([energy[phase].sum(axis=1) for phase in phases])
    factor, unit = scale(float(totals.max()), "J")
    figure, axes = _figure(2.6 + 1.5 * len(phases), 5.0)
    x = np.arange(len(phases))
    base = np.zeros(len(phases))
    shares = sum(energy[phase][0] for phase in phases) / max(totals[:, 0].sum(), 1e-30)
    for i, name in enumerate(COMPONENTS):
        height = np.array([energy[phase][0, i] for phase in phases]) * factor
        axes.bar(
            x,
            height,
            0.6,
            base,
            color=PALETTE[i],
            label=f"{name}  {100 * shares[i]:.1f} %",
            edgecolor="white",
            linewidth=0.6,
        )
        base += height
    value, low, high = totals.T * factor
    axes.errorbar(x, value, [value - low, high - value], fmt="none", ecolor="#333333", elinewidth=1.4, capsize=6)
    _, texts = column([float(v) for v in totals.ravel()], "J")
    for i in range(len(phases)):
        middle, least, most = texts[3 * i : 3 * i + 3]
        text = f"{middle} {unit}\n[{least} … {most}]"
        axes.annotate(text, (x[i], high[i]), (0, 5), textcoords="offset points", ha="center", va="bottom")
    axes.set_xticks(x, [str(phase) for phase in phases])
    axes.set_xlabel("phase of the training step")
    axes.set_ylabel(f"energy per step [{unit}]")
    axes.set_ylim(0, float(high.max()) * 1.16 or 1)
    axes.grid(axis="y", alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    bar = Line2D([], [], color="#333333", marker="|", markersize=9, linewidth=1.4)
    axes.legend(
        [*handles[::-1], bar],
        [*labels[::-1], "interval, low … high"],
        title="component, share of the step",
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        frameon=False,
    )
    total = step.energy_pj
    _, (middle, least, most) = column([total.value * 1e-12, total.low * 1e-12, total.high * 1e-12], "J")
    whole_unit = scale(total.high * 1e-12, "J")[1]
    _title(
        axes,
        step,
        f"Energy by phase and component: {middle} {whole_unit} per step, interval {least} … {most} {whole_unit}",
    )
    _save(figure, path)


def draw_cycles(step: StepResult, path: Path) -> None:
    """Draw the ops with most cycles as bars: busy cycles of what bounds them, and its stalls by cause.

    Ops that are alike share a bar (a residual network has many of one shape); bars are grouped by phase.
    """
    bars = _longest_bars(step.ops)
    parts = [cycles_along_bound(ops) for ops in bars]
    cycles = [sum(op.cycles for op in ops) for ops in bars]
    causes = _main_causes(parts)
    factor, unit = scale(max(cycles), "cycles")
    height = 1.8 + 0.25 * max(len(bars), 10)
    figure, axes = _figure(10.0, height)
    y = np.arange(len(bars))
    left = np.zeros(len(bars))
    stalls = (*zip(causes, STALL_COLOURS, strict=False), ("other causes", GREY))
    kinds = [(("busy", name), f"{name} busy", colour) for name, colour in BUSY_COLOURS.items()]
    kinds += [(("stall", cause), f"stall: {cause}", colour) for cause, colour in stalls]
    for key, label, colour in kinds:
        width = np.array([_part(of, key, causes) for of in parts]) * factor
        if width.any():
            axes.barh(y, width, 0.74, left, color=colour, label=label)
        left += width
    for i, ops in enumerate(bars):
        busy = 100 * ops[0].busy_cycles[ops[0].bound] / max(ops[0].cycles, 1)
        axes.text(cycles[i] * factor, i, f" {ops[0].bound} {busy:.0f} % busy", va="center", fontsize=8, color="#444444")
    names = [ops[0].name + (f"  and {len(ops) - 1} alike" if len(ops) > 1 else "") for ops in bars]
    axes.set_yticks(y, names, fontsize=8.5)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, max(cycles) * factor * 1.22)
    axes.set_xlabel(f"{unit} along what bounds the op (matrix or vector unit, memory port), named at the bar's end")
    axes.grid(axis="x", alpha=0.3)
    _mark_phases(axes, bars)
    figure.legend(loc="lower center", ncols=5, frameon=False)
    shown = sum(map(len, bars))
    which = "all" if shown == len(step.ops) else f"{shown} of {len(step.ops)}"
    share = f"{100 * sum(cycles) / step.cycles:.0f} % of the step's {quantity(step.cycles, 'cycles')}"
    _title(axes, step, f"Cycles: {which} ops, {share}")
    _save(figure, path, bottom=0.55 / height)


def draw_roofline(step: StepResult, path: Path) -> None:
    """Draw every op with MACs under the roofline, coloured by phase, its area by its cycles."""
    hardware = step.hardware
    ops = [op for op in step.ops if op.macs and op.dram_bytes and op.cycles]
    figure, axes = _figure(8.6, 5.6)
    intensity = np.array([op.macs / op.dram_bytes for op in ops])
    throughput = np.array([op.macs / op.cycles for op in ops])
    ridge = hardware.ridge_macs_per_byte
    left = min([ridge / 8, *(intensity / 2)])
    right = max([ridge * 8, *(intensity * 2)])
    x = np.array([left, ridge, right])
    roof = np.minimum(hardware.pes, x * hardware.dram.bytes_per_cycle)
    axes.loglog(x, roof, color=BLACK, linewidth=1.8)
    axes.plot([ridge, ridge], [1e-9, hardware.pes], color=BLACK, linewidth=0.8, linestyle=":")
    largest = max((op.cycles for op in ops), default=1)
    for phase in Phase:
        chosen = [i for i, op in enumerate(ops) if op.phase == phase]
        sizes = [12 + 220 * ops[i].cycles / largest for i in chosen]
        style: dict[str, Any] = {"color": PHASE_COLOURS[phase], "alpha": 0.7, "edgecolors": "white", "linewidths": 0.6}
        axes.scatter(intensity[chosen], throughput[chosen], sizes, **style)
    bottom = min([hardware.pes / 30, *(throughput / 2.5)])
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, hardware.pes * 2.2)
    peak = quantity(hardware.peak_macs_per_s, "MACs")
    text = f"{hardware.pes:,} PEs = {peak}/s "
    axes.annotate(text, (right, hardware.pes), (0, 9), textcoords="offset points", ha="right", va="bottom")
    width = hardware.dram.bytes_per_cycle
    text = f"DRAM: {width} B per cycle = {quantity(hardware.dram_bytes_per_s, 'B')}/s"
    along: dict[str, Any] = {
        "rotation": math.degrees(math.atan(1.2 * width)),
        "rotation_mode": "anchor",
        "transform_rotates_text": True,
    }
    axes.text(left * 1.15, left * 1.15 * width * 1.2, text, ha="left", va="bottom", **along)
    axes.annotate(f"ridge: {ridge:.3g} MACs per byte", (ridge, bottom), (4, 4), textcoords="offset points")
    axes.set_xlabel("arithmetic intensity [MACs per DRAM byte]")
    axes.set_ylabel("throughput [MACs per cycle]")
    axes.grid(which="major", alpha=0.3)
    present = [phase for phase in Phase if any(op.phase == phase for op in ops)]
    handles = [Line2D([], [], marker="o", linestyle="", color=PHASE_COLOURS[p], label=str(p)) for p in present]
    axes.legend(handles=handles, title="phase (area: cycles)", loc="upper left", frameon=False)
    figure.text(0.5, 0.005, _without_macs(step, ops), ha="center", va="bottom", fontsize=8.5, color="#444444")
    _title(axes, step, f"Roofline: {100 * step.compute_utilization:.1f} % compute utilization over the step")
    _save(figure, path, bottom=0.045)


def draw_memory(step: StepResult, path: Path) -> None:
    """Draw the live DRAM bytes over time, stacked by category, with the peak and the phases."""
    edges = np.array([0, *np.cumsum([op.cycles for op in step.ops])]) / (step.hardware.clock_mhz * 1e6)
    time_factor, time_unit = scale(float(edges[-1]), "s")
    edges = edges * time_factor
    factor, unit = scale(step.peak_memory_bytes, "bytes")
    figure, axes = _figure(9.6, 5.0)
    base: NDArray[np.float64] = np.zeros(len(step.ops) + 1)
    for name in MEMORY_CATEGORIES:
        live = np.asarray(step.memory_bytes[name]) * factor
        top = base + np.append(live, live[-1])
        axes.fill_between(
            edges, base, top, step="post", color=MEMORY_COLOURS[name], label=name.replace("_", " "), linewidth=0
        )
        base = top
    peak = peak_index(step)
    at, height = float((edges[peak] + edges[peak + 1]) / 2), step.peak_memory_bytes * factor
    axes.set_xlim(0, float(edges[-1]))
    axes.set_ylim(0, height * 1.3)
    right = at > 0.6 * edges[-1]
    axes.annotate(
        f"peak {binary(step.peak_memory_bytes)}\nduring {step.ops[peak].name}",
        (at, height),
        (-14 if right else 14, 14),
        textcoords="offset points",
        ha="right" if right else "left",
        va="bottom",
        arrowprops={"arrowstyle": "->", "color": BLACK},
    )
    _mark_times(axes, step, edges)
    axes.set_xlabel(f"time [{time_unit}]")
    axes.set_ylabel(f"live DRAM memory [{unit}]")
    axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1], title="category", loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False
    )
    _title(axes, step, "Live DRAM memory over one training step")
    _save(figure, path)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _title(axes: Axes, step: StepResult, text: str) -> None:
    hardware = step.hardware
    under = f"{step_title(step)}, on {hardware.name} ({hardware.array.dataflow.value})"
    axes.set_title(f"{text}\n", loc="left", fontsize=11.5, fontweight="bold")
    axes.text(0, 1.015, under, transform=axes.transAxes, fontsize=9, color="#444444", va="bottom")


def _save(figure: Figure, path: Path, bottom: float = 0.0) -> None:
    figure.tight_layout(rect=(0, bottom, 1, 1))
    figure.savefig(path, pil_kwargs={"compress_level": 3})


def _component_energy(step: StepResult, phase: Phase) -> NDArray[np.float64]:
    """Energy of a phase by component [J]: ndarray of shape (3, len(COMPONENTS))."""
    energy = sum((op.energy for op in step.ops if op.phase == phase), np.zeros((3, len(ACTIONS))))
    columns = [[i for i, action in enumerate(ACTIONS) if component_of(action) == name] for name in COMPONENTS]
    return np.stack([energy[:, chosen].sum(axis=1) for chosen in columns], axis=1) * 1e-12


def _longest_bars(ops: Sequence[OpResult]) -> list[list[OpResult]]:
    """Give groups of like ops, those with most cycles, by phase and the longest first."""
    alike: dict[tuple[object, ...], list[OpResult]] = {}
    for op in ops:
        alike.setdefault((op.phase, op.kind, op.bound, op.cycles, op.busy_cycles[op.bound]), []).append(op)
    longest = sorted(alike.values(), key=lambda group: -len(group) * group[0].cycles)[:CYCLE_BARS]
    return [group for phase in Phase for group in longest if group[0].phase == phase]


def _main_causes(parts: list[Counter[tuple[str, str]]]) -> tuple[str, ...]:
    """Give the causes that stall longest, as many as there are colours; less than 0.1 % of the cycles is no matter."""
    total = sum(parts, Counter())
    ranked = [(cause, n) for (what, cause), n in total.most_common() if what == "stall" and n * 1000 > total.total()]
    return tuple(cause for cause, _ in ranked[: len(STALL_COLOURS)])


def _part(parts: Counter[tuple[str, str]], key: tuple[str, str], causes: tuple[str, ...]) -> int:
    """Cycles of a bar's part: what was busy, one cause, or the causes without a colour."""
    if key != ("stall", "other causes"):
        return parts[key]
    return sum(n for (what, cause), n in parts.items() if what == "stall" and cause not in causes)


def _mark_phases(axes: Axes, bars: list[list[OpResult]]) -> None:
    first = 0
    for phase, group in groupby(bars, key=lambda ops: ops[0].phase):
        count = len(list(group))
        if first:
            axes.axhline(first - 0.5, color=GREY, linewidth=0.8)
        place: dict[str, Any] = {
            "transform": axes.get_yaxis_transform(),
            "va": "center",
            "ha": "left",
            "fontweight": "bold",
        }
        axes.text(1.01, first + (count - 1) / 2, str(phase), rotation=90 if count > 3 else 0, **place)
        first += count


def _without_macs(step: StepResult, shown: list[OpResult]) -> str:
    names = {op.name for op in shown}
    others = [op for op in step.ops if op.name not in names]
    if not others:
        return "All ops do MACs and are shown."
    kinds = [kind for kind, _ in Counter(op.kind for op in others).most_common(4)]
    share = 100 * sum(op.cycles for op in others) / step.cycles
    more = ", …" if len({op.kind for op in others}) > len(kinds) else ""
    return f"Not shown: {len(others)} ops without MACs, {share:.1f} % of the cycles ({', '.join(kinds)}{more})"


def _mark_times(axes: Axes, step: StepResult, edges: NDArray[np.float64]) -> None:
    """Name the stretches of forward, backward and update at the top, upright where one is too short for its name."""
    names = {Phase.FORWARD: "forward", Phase.UPDATE: "update"}
    runs = groupby(range(len(step.ops)), key=lambda i: names.get(step.ops[i].phase, "backward"))
    stretches = [(name, list(group)) for name, group in runs]
    for name, ops in stretches:
        start, end = float(edges[ops[0]]), float(edges[ops[-1] + 1])
        part = (end - start) / float(edges[-1])
        if ops[0]:
            axes.axvline(start, color="#444444", linewidth=0.9, linestyle="--")
        if part > 0.013 * len(name) or len(stretches) <= 3:
            upright = part <= 0.013 * len(name)
            place: dict[str, Any] = {
                "transform": axes.get_xaxis_transform(),
                "ha": "center",
                "va": "top",
                "fontweight": "bold",
            }
            axes.text((start + end) / 2, 0.985, name, rotation=90 if upright else 0, fontsize=9, **place)
