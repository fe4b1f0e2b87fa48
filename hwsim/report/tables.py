"""The tables that the command line prints: the step in numbers, where they come from, and how sure they are.

Every table ends in a total that its rows sum to. They fit 80 columns; units stand in the headers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hwsim.explain import one_line
from hwsim.report.lists import plain_table
from hwsim.report.summary import Gemm, cycles_along_bound, gemm_summary, step_summary, step_title
from hwsim.report.units import binary, column, quantity
from hwsim.results import OpResult, StepResult

__all__ = ["SHOWN_OPS", "print_gemm", "print_step"]

#: Ops that the table of ops names; the others are one row.
SHOWN_OPS = 12


def print_step(step: StepResult, console: Console) -> None:
    """Print all tables of a training step."""
    summary = step_summary(step)
    title = f"{step_title(step)}, on {step.hardware.name}"
    dataflow = step.hardware.array.dataflow.value
    console.print(Text(f"Training step: {title} ({dataflow})", style="bold"))
    _print_figures(_headline(summary, step.batch), console)
    _print_groups("By phase", "phase", summary["by_phase"], summary, console)
    _print_groups(
        "By component (cycles: along what bounds each op)", "component", summary["by_component"], summary, console
    )
    _print_ops(step, console)
    _print_stalls(step, console)
    _print_drivers(summary["interval_drivers"], console)


def print_gemm(gemm: Gemm, console: Console) -> None:
    """Print the figures of one matrix product."""
    summary = gemm_summary(gemm)
    shape = f"({gemm.m:,} × {gemm.k:,}) · ({gemm.k:,} × {gemm.n:,})"
    console.print(Text(f"{shape} on {summary['hardware']} ({summary['dataflow']})", style="bold"))
    bound = f"{gemm.op.bound}, busy {_percent(gemm.op.busy_cycles[gemm.op.bound], gemm.cycles)} of the cycles"
    rows = [*_headline(summary, None), ("bound by", bound), ("mapping", gemm.op.mapping)]
    _print_figures(rows, console)


def _headline(summary: dict, batch: int | None) -> list[tuple[str, str]]:  # type: ignore[type-arg]
    energy, low, high = (summary[f"energy_{key}pj"] * 1e-12 for key in ("", "low_", "high_"))
    seconds = summary["time_s"]
    rows = [
        ("cycles", f"{summary['cycles']:,}"),
        ("time", quantity(seconds, "s")),
        ("energy", _interval(energy, low, high, "J")),
        ("average power", _interval(energy / seconds, low / seconds, high / seconds, "W")),
        ("MACs", quantity(summary["macs"], "MACs")),
        ("compute utilization", f"{100 * summary['compute_utilization']:.2f} %"),
        ("DRAM traffic", binary(summary["dram_bytes"])),
    ]
    if batch is not None:
        rows.append(("peak DRAM memory", binary(summary["peak_memory_bytes"])))
        rows.append(("energy per sample", _interval(energy / batch, low / batch, high / batch, "J")))
        value, least, most = (summary[f"area_{key}mm2"] for key in ("", "low_", "high_"))
        node = f"{summary['hardware_description']['node_nm']:g} nm"
        rows.append(("area", f"{value:.3g} mm² at {node}  [{least:.3g} … {most:.3g}]"))
    return rows


def _interval(value: float, low: float, high: float, unit: str) -> str:
    label, (middle, least, most) = column([value, low, high], unit)
    return f"{middle} {label}  [{least} … {most}]"


def _print_figures(rows: Iterable[tuple[str, str]], console: Console) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    console.print(table)


def _print_groups(title: str, first: str, groups: dict, total: dict, console: Console) -> None:  # type: ignore[type-arg]
    rows = [*groups.values(), total]
    columns = [
        _column("cycles", [r["cycles"] for r in rows], ""),
        ("", "%", [_share(r["cycles"], total["cycles"]) for r in rows]),
        _column("time", [r["time_s"] for r in rows], "s"),
        _energy_column([(r["energy_pj"], r["energy_low_pj"], r["energy_high_pj"]) for r in rows]),
        ("", "%", [_share(r["energy_pj"], total["energy_pj"]) for r in rows]),
        ("util.", "%", [f"{100 * r['compute_utilization']:.1f}" for r in rows]),
        _column("DRAM", [r["dram_bytes"] for r in rows], "bytes"),
        _column("peak", [r["peak_memory_bytes"] for r in rows], "bytes"),
    ]
    if first == "component":
        columns = columns[:5]
    else:
        del columns[4]
    _print_numbers(title, first, [*groups, "total"], columns, console)


def _print_ops(step: StepResult, console: Console) -> None:
    ranked = sorted(step.ops, key=lambda op: -op.cycles)
    shown, others = ranked[:SHOWN_OPS], ranked[SHOWN_OPS:]
    names = [op.name for op in shown]
    groups = [[op] for op in shown]
    if others:
        names.append(f"other {len(others)} ops")
        groups.append(others)
    names.append("total")
    groups.append(ranked)
    cycles = [sum(op.cycles for op in ops) for ops in groups]
    columns = [
        ("bound", "by", [ops[0].bound if len(ops) == 1 else "" for ops in groups]),
        _column("cycles", cycles, "", 5),
        ("", "%", [_share(n, step.cycles) for n in cycles]),
        ("util.", "%", [f"{_utilization(step, ops):.1f}" for ops in groups]),
        _column("DRAM", [sum(op.dram_bytes for op in ops) for ops in groups], "bytes", 5),
        _column("energy", [sum(op.energy_pj.value for op in ops) * 1e-12 for ops in groups], "J", 5),
    ]
    _print_numbers("By op, the longest first", "op", names, columns, console)


def _print_stalls(step: StepResult, console: Console) -> None:
    parts = cycles_along_bound(step.ops)
    for part in [p for p in parts if p[0] == "stall" and 200 * parts[p] < step.cycles]:
        parts["stall", "other causes"] += parts.pop(part)
    ranked = sorted((p for p in parts if parts[p]), key=lambda p: (p[0], p[1] == "other causes", -parts[p]))
    cycles = [*(parts[part] for part in ranked), step.cycles]
    unit, cells = column(cycles, "")
    table = plain_table("Where the cycles go, along what bounds each op")
    table.add_column("")
    table.add_column(f"cycles\n{unit}", justify="right")
    table.add_column("\n%", justify="right")
    table.add_column("")
    rows = [(what, name, one_line(name, "stall cause") if what == "stall" else "") for what, name in ranked]
    for (what, name, meaning), cell, n in zip(rows, cells, cycles, strict=False):
        table.add_row(Text(f"{what}: {name}"), cell, _share(n, step.cycles), Text(meaning, style="dim"))
    table.add_section()
    table.add_row("total", cells[-1], _share(step.cycles, step.cycles), "")
    console.print(table)


def _print_drivers(drivers: list[dict], console: Console) -> None:  # type: ignore[type-arg]
    label, cells = column([d["width_pj"] * 1e-12 for d in drivers], "J")
    table = plain_table("What makes the energy interval wide")
    table.add_column("action", no_wrap=True)
    table.add_column(f"width\n{label}", justify="right")
    table.add_column("\n%", justify="right")
    table.add_column("reason")
    for driver, cell in zip(drivers, cells, strict=True):
        table.add_row(driver["action"], cell, f"{100 * driver['share']:.1f}", Text(driver["reason"]))
    console.print(table)


def _print_numbers(
    title: str, first: str, names: Sequence[str], columns: Sequence[tuple[str, str, list[str]]], console: Console
) -> None:
    table = plain_table(title)
    table.add_column(first, overflow="fold")
    for header, unit, _ in columns:
        table.add_column(f"{header}\n{unit}", justify="left" if header == "bound" else "right", no_wrap=True)
    for i, name in enumerate(names):
        if name == "total":
            table.add_section()
        table.add_row(Text(name), *(cells[i] for _, _, cells in columns))
    console.print(table)


def _column(header: str, values: Sequence[float], unit: str, digits: int = 4) -> tuple[str, str, list[str]]:
    label, cells = column(values, unit, digits)
    return header, label, cells


def _energy_column(intervals: Sequence[tuple[float, float, float]]) -> tuple[str, str, list[str]]:
    flat = [x * 1e-12 for interval in intervals for x in interval]
    label, cells = column(flat, "J")
    texts = [f"{v} [{low}…{high}]" for v, low, high in zip(cells[::3], cells[1::3], cells[2::3], strict=True)]
    return "energy [low…high]", label, texts


def _utilization(step: StepResult, ops: Sequence[OpResult]) -> float:
    cycles = sum(op.cycles for op in ops)
    return 100 * sum(op.macs for op in ops) / (step.hardware.pes * cycles) if cycles else 0.0


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else "0.0"


def _percent(part: float, whole: float) -> str:
    return f"{_share(part, whole)} %"
