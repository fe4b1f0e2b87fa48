"""How long hwsim itself takes: the command line, the Python call, the timing models; run by `make bench`.

No test asserts wall time. Prints a table, says of each acceptance limit whether this run met it, and writes
out/bench.json.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hwsim.hardware import load_accelerator
from hwsim.mapping.layout import dispatch_cycles
from hwsim.program.fields import Row
from hwsim.simulate import simulate
from hwsim.timing import simulate_events, simulate_rows
from hwsim_models import build

OUT = Path(__file__).parents[2] / "out"
MODEL, PRESET, BATCH = "resnet18", "edge-32x32-bf16", 128
BATCHES = (8, 32, 128, 512, 1024)
MOST_COMMANDS = 200_000  # of the program that the timing models race on

#: What the project promises on two cores: name, then limit, unit, and what is measured. No test asserts a time.
LIMITS = {
    "process": (4.0, "s", "hwsim step resnet18 --out, whole process, once compiled"),
    "call": (0.1, "s", "the Python call, warm, median"),
    "memory": (400.0, "MB", "peak memory of hwsim step resnet18 --out"),
    "batch_ratio": (2.0, "×", "slowest batch ÷ fastest batch, 8 to 1024"),
}

#: Quoted, not measured here: SCALE-Sim 3.0.0 on 21 layers of ResNet-18, one 224×224 image, forward, unpadded, 32×32
#: weight-stationary. Source: the project's notes on 1,197 runs of the released package, "about 200 CPU seconds (975 s
#: wall on a loaded machine) and 5.3 GB".
SCALESIM_WALL_S, SCALESIM_CPU_S, SCALESIM_MEMORY_GB = 975, 200, 5.3


def run_process(arguments: list[str]) -> dict[str, float]:
    """Wall and CPU time [s] and peak memory [MiB] of one process, from its own accounting."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"bench: '{' '.join(arguments)}' ended with exit code {child.returncode}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB on Linux
    return {"wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_rss_mib": usage.ru_maxrss / unit}


def measure_cli(with_files: bool, runs: int = 5) -> dict[str, float]:
    """Medians over `runs` of ``hwsim step`` after one warm-up; the peak is the largest."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "hwsim.cli", "step", MODEL, "--hw", PRESET, "--batch", str(BATCH)]
        command += ["--json", str(Path(folder) / "step.json")]
        command += ["--out", str(Path(folder) / "files")] if with_files else []
        run_process(command)
        measured = [run_process(command) for _ in range(runs)]
    found = {name: median(run[name] for run in measured) for name in ("wall_s", "cpu_s")}
    return {**found, "peak_rss_mib": max(run["peak_rss_mib"] for run in measured)}


def seconds(call: Callable[[], Any], runs: int) -> list[float]:
    """Wall times of `runs` calls after a warm-up [s]."""
    call()
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def measure_call() -> dict[str, float]:
    """The warm Python call, beside a float32 product of 1024³ MACs in the same process: machines differ."""
    graph = build(MODEL, BATCH)
    calls = seconds(lambda: simulate(graph, PRESET), 10)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((1024, 1024), dtype=np.float32) for _ in range(2))
    reference = min(seconds(lambda: a @ b, 10))
    built = min(seconds(lambda: simulate(build(MODEL, BATCH), PRESET), 3))
    return {
        "best_s": min(calls),
        "median_s": median(calls),
        "with_build_best_s": built,
        "numpy_matmul_1024_best_s": reference,
        "ratio_to_numpy": min(calls) / reference,
    }


def measure_batches() -> dict[str, Any]:
    """Does the time of a call depend on the batch? Cycles do, work should not."""
    best = {}
    for batch in BATCHES:
        graph = build(MODEL, batch)
        best[batch] = min(seconds(lambda graph=graph: simulate(graph, PRESET), 5))  # type: ignore[misc]
    return {"best_s": best, "slowest_to_fastest": max(best.values()) / min(best.values())}


def measure_timing() -> dict[str, Any]:
    """Commands per second of the three ways to time the step's longest program that `MOST_COMMANDS` lets us expand."""
    hw = load_accelerator(PRESET)
    depth, pace = hw.control.queue_depth, dispatch_cycles(hw)
    programs = {op.name: op.program for op in simulate(build(MODEL, BATCH), hw).ops}
    name = max((n for n, p in programs.items() if p.commands <= MOST_COMMANDS), key=lambda n: programs[n].commands)
    program = programs[name]
    rows, flat = program.rows, program.expand()[:, : len(Row)]
    cycles = {simulate_events(flat, depth, pace).cycles, simulate_rows(rows, depth, pace).cycles}
    if len(cycles) > 1:
        raise SystemExit(f"bench: the timing models disagree on '{name}': {cycles}")
    best = {
        "events": min(seconds(lambda: simulate_events(flat, depth, pace), 2)),
        "rows_without_jumps": min(seconds(lambda: simulate_rows(rows, depth, pace, jump=False), 5)),
        "rows_with_jumps": min(seconds(lambda: simulate_rows(rows, depth, pace), 5)),
    }
    rates = {way: program.commands / time_s for way, time_s in best.items()}
    return {"op": name, "commands": program.commands, "best_s": best, "commands_per_s": rates}


def tabulate(results: dict[str, Any]) -> Table:
    """Everything measured, a line each."""
    table = Table(title=f"{MODEL}, {PRESET}, batch {BATCH}", show_header=False)
    call, batches, timing = results["call"], results["batches"], results["timing"]
    for title, key in (("hwsim step --json", "cli"), ("hwsim step --json --out", "cli_with_files")):
        cli = results[key]
        text = f"{cli['wall_s']:.2f} s wall, {cli['cpu_s']:.2f} s CPU, {cli['peak_rss_mib']:.0f} MiB"
        table.add_row(title, f"{text} (whole process, 5 runs)")
    ratio = f"{call['ratio_to_numpy']:.1f} × a 1024³ float32 product in numpy"
    table.add_row("simulate(graph, preset)", f"{call['best_s']:.3f} s best, {call['median_s']:.3f} s median; {ratio}")
    table.add_row("the same with build()", f"{call['with_build_best_s']:.3f} s best")
    for batch, best_s in batches["best_s"].items():
        table.add_row(f"  batch {batch}", f"{best_s:.3f} s best of 5")
    table.add_row("timing models on", f"{timing['op']}, {timing['commands']:,} commands")
    for way, rate in timing["commands_per_s"].items():
        table.add_row(f"  {way.replace('_', ' ')}", f"{rate:,.0f} commands/s")
    quoted = f"{SCALESIM_WALL_S} s wall, about {SCALESIM_CPU_S} s CPU, {SCALESIM_MEMORY_GB} GB"
    table.add_row("SCALE-Sim 3.0.0, quoted", f"{quoted}: ResNet-18 forward only, one 224×224 image, loaded machine")
    ours = f"{results['cli']['wall_s']:.2f} s wall, {results['cli']['peak_rss_mib'] / 1024:.2f} GiB"
    table.add_row("hwsim, measured", f"{ours}: a whole training step of {MODEL} for CIFAR-10, batch {BATCH}")
    return table


def judge(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every acceptance limit, what was measured, and whether it is met."""
    measured = {
        "process": results["cli_with_files"]["wall_s"],
        "call": results["call"]["median_s"],
        "memory": results["cli_with_files"]["peak_rss_mib"] * 1.048576,
        "batch_ratio": results["batches"]["slowest_to_fastest"],
    }
    return {
        name: {"what": what, "limit": limit, "unit": unit, "measured": measured[name], "met": measured[name] <= limit}
        for name, (limit, unit, what) in LIMITS.items()
    }


def main() -> None:
    """Measure, print, write."""
    console = Console(highlight=False)
    results: dict[str, Any] = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "cli": measure_cli(with_files=False),
        "cli_with_files": measure_cli(with_files=True),
        "call": measure_call(),
        "batches": measure_batches(),
        "timing": measure_timing(),
        "scalesim_quoted": {
            "wall_s": SCALESIM_WALL_S,
            "cpu_s": SCALESIM_CPU_S,
            "memory_gb": SCALESIM_MEMORY_GB,
            "of": "ResNet-18, 21 layers, one 224×224 image, forward, unpadded, 32×32 weight-stationary, loaded machine",
        },
    }
    results["limits"] = judge(results)
    console.print(tabulate(results))
    for limit in results["limits"].values():
        verdict = "met" if limit["met"] else "NOT MET"
        console.print(f"{limit['what']}: {limit['measured']:.2f} {limit['unit']} of {limit['limit']:g}: {verdict}")
    OUT.mkdir(exist_ok=True)
    (OUT / "bench.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    console.print(f"Wrote {OUT.name}/bench.json")


if __name__ == "__main__":
    main()
