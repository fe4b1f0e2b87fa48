"""How fast a sweep is: points per second on one and two workers, with every scratchpad size, and what more would do.

Run by `make bench`; no test asserts wall time. The reference within the run is `simulate`, called once per point.
Writes out/sweep_bench.json.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from hwsim.explore import Evaluator, Plan, read_space, run_sweep
from hwsim.simulate import simulate
from hwsim_models import build

OUT = Path(__file__).parents[2] / "out"
#: 32 programs of ResNet-18 with tilings of their own, each at 32,768 prices: 1,048,576 points, no two alike.
PROGRAMS = """
hardware = "edge-32x32-bf16"
workload = { model = "resnet18", batch = 128 }
[knobs]
array.rows = [16, 32]
array.cols = [32, 64]
array.dataflow = ["ws", "os"]
accumulator.capacity_bytes = ["512 KiB", "1 MiB"]
scratchpad.capacity_bytes = ["1 MiB", "2 MiB"]
node_nm = { from = 7, to = 45, count = 32 }
clock_mhz = { from = 100, to = 1000, count = 1024 }
"""
#: The same with eight times the prices, long enough to tell what a second worker adds.
SCALING = PROGRAMS.replace("count = 1024", "count = 8192")
#: One array with 131,072 scratchpads, every one with another number of lines.
SIZES = """
hardware = "edge-32x32-bf16"
workload = { model = "resnet18", batch = 128 }
[knobs]
scratchpad.capacity_bytes = { from = "1 MiB", to = "129 MiB", step = "1 KiB" }
"""
LIMITS = {"programs": 100_000, "sizes": 10_000}


class _Memory(threading.Thread):
    """Watches the memory of this process and its children; `peak` in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.ended = 0, False

    def run(self) -> None:
        me = psutil.Process()
        while not self.ended:
            held = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    held += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, held)
            time.sleep(0.25)


def measure(text: str, workers: int, chunk: int) -> dict[str, Any]:
    """One sweep: from its start to the last part, and from the first part on, when workers and programs are there."""
    space = read_space(text)
    folder = Path(tempfile.mkdtemp())
    stamps: list[tuple[int, float, float]] = []

    def progress(done: int, total: int) -> None:
        stamps.append((done, time.perf_counter(), time.process_time()))

    memory = _Memory()
    memory.start()
    start = time.perf_counter()
    parts = run_sweep(space, folder / "out", build, Plan(chunk=chunk), workers=workers, progress=progress)
    wall = time.perf_counter() - start
    memory.ended = True
    size = sum(path.stat().st_size for path in parts)
    rows = sum(pq.read_metadata(path).num_rows for path in parts)
    shutil.rmtree(folder)
    return {
        "workers": workers,
        "points": rows,
        "chunks": len(parts),
        "wall_s": wall,
        "points_per_s": rows / wall,
        "first_part_s": stamps[1][1] - start,
        "later_points_per_s": (stamps[-1][0] - stamps[1][0]) / (stamps[-1][1] - stamps[1][1]),
        "client_cpu_s_per_chunk": (stamps[-1][2] - stamps[1][2]) / (len(stamps) - 2),
        "peak_memory_gb": memory.peak / 1e9,
        "bytes_per_point": size / rows,
    }


def reference(text: str) -> dict[str, float]:
    """Points per second of `simulate`, warm, and of the evaluator in one process, programs cold and known."""
    space = read_space(text)
    graph = build("resnet18", 128)
    simulate(graph, space.base)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        simulate(graph, space.base)
        times.append(time.perf_counter() - start)
    evaluator = Evaluator(space, build)
    stride = space.size // 32
    start = time.perf_counter()
    evaluator.table(np.arange(32) * stride)
    cold = time.perf_counter() - start
    numbers = np.arange(65_536)
    evaluator.table(numbers)
    start = time.perf_counter()
    evaluator.table(numbers)
    return {
        "simulate_s": median(times),
        "programs_32_cold_s": cold,
        "known_points_per_s": len(numbers) / (time.perf_counter() - start),
    }


def main() -> int:
    """Measure, print, write."""
    base = reference(PROGRAMS)
    runs = {
        "programs, 2 workers": measure(PROGRAMS, 2, 65_536),
        "sizes, 2 workers": measure(SIZES, 2, 16_384),
        "scaling, 1 worker": measure(SCALING, 1, 65_536),
        "scaling, 2 workers": measure(SCALING, 2, 65_536),
    }
    console = Console()
    columns = ("sweep", "points", "s", "first part, s", "points/s", "later", "× simulate", "GB", "promised")
    table = Table(*columns, title="Sweep of ResNet-18: points per second from the start, and after the first part")
    for name, run in runs.items():
        limit = LIMITS.get(name.split(",")[0])
        kept = "" if limit is None else f"≥ {limit:,}: {'met' if run['points_per_s'] >= limit else 'NOT met'}"
        table.add_row(
            name,
            f"{run['points']:,}",
            f"{run['wall_s']:.1f}",
            f"{run['first_part_s']:.1f}",
            f"{run['points_per_s']:,.0f}",
            f"{run['later_points_per_s']:,.0f}",
            f"{run['points_per_s'] * base['simulate_s']:,.0f}",
            f"{run['peak_memory_gb']:.2f}",
            kept,
        )
    console.print(table)
    one, two = runs["scaling, 1 worker"], runs["scaling, 2 workers"]
    per_chunk, chunk = two["client_cpu_s_per_chunk"], two["points"] / two["chunks"]
    rate = one["later_points_per_s"]
    busy, most = chunk / rate / per_chunk, min(1000 * rate, chunk / per_chunk)
    megabytes = two["bytes_per_point"] * chunk / 1e6
    console.print(
        f"simulate: {base['simulate_s'] * 1e3:.0f} ms a point; 32 programs, none known: "
        f"{base['programs_32_cold_s']:.2f} s; known programs, without files: "
        f"{base['known_points_per_s']:,.0f} points/s\n"
        f"two workers to one, after the first part: {two['later_points_per_s'] / rate:.2f}\n"
        f"on paper: the client needs {per_chunk * 1e3:.1f} ms of its processor for a chunk of {chunk:,.0f} points "
        f"({megabytes:.1f} MB), a worker {chunk / rate * 1e3:.0f} ms; so one client keeps {busy:,.0f} workers "
        f"busy, and with 1,000 workers it gives {most:,.0f} points/s, where they could do {1000 * rate:,.0f}"
    )
    OUT.mkdir(exist_ok=True)
    (OUT / "sweep_bench.json").write_text(json.dumps({"reference": base, "runs": runs}, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
