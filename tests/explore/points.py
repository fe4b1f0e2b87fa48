"""Spaces and points for the tests of the sweep."""

import multiprocessing
import os

import numpy as np

from hwsim.explore.columns import FIELDS, WORKLOAD_FIELDS, accelerator_of
from hwsim.simulate import simulate
from hwsim_models import build

#: Knobs of every kind; nearly every point has a program of its own.
WIDE = """
hardware = "edge-32x32-bf16"
workload.model = "{model}"
[knobs]
batch = [1, 8, 32]
optimizer = ["sgd", "momentum", "adam"]
precision = ["bf16", "int8", "fp8", "fp32"]
array.rows = [4, 8, 12, 16, 32, 64]
array.cols = [4, 8, 16, 24, 32]
array.dataflow = ["ws", "os", "is"]
array.add_latency_cycles = [1, 4]
scratchpad.banks = [8, 16]
scratchpad.capacity_bytes = {{ from = "4 KiB", to = "1 MiB", step = "1000 B" }}
accumulator.capacity_bytes = ["4 KiB", "32 KiB", "256 KiB"]
accumulator.add_latency_cycles = [1, 3]
vector.lanes = "ceil(array.cols / 2)"
dram.kind = ["DDR4-2400", "LPDDR4-2400", "HBM2"]
dram.bytes_per_cycle = [8, 32]
dram.channels = "2 if array.rows > 8 else 1"
dram.latency_cycles = [20, 60]
dram.page_bytes = [1024, 2048]
control.queue_depth = [4, 8]
control.fetch_bytes_per_cycle = [16, 64]
node_nm = [7, 16, 45, 65]
clock_mhz = {{ from = 100, to = 900, count = 7 }}
"""


def accelerator_and_workload(space, number):
    """The accelerator and the workload of a point, made without the sweep's evaluation."""
    values = {k: v[0] for k, v in space.columns(np.array([number])).items()}
    plain = {k: v.item() if hasattr(v, "item") else v for k, v in values.items()}
    plain = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in plain.items()}
    hw = accelerator_of(space.base, {k: v for k, v in plain.items() if k in FIELDS})
    fixed = {f: getattr(space.workloads[0], f) for f in WORKLOAD_FIELDS}
    return hw, {f: plain.get(f, fixed[f]) for f in WORKLOAD_FIELDS}


def simulated(space, number):
    """What `simulate` gives for a point."""
    hw, workload = accelerator_and_workload(space, number)
    graph = build(workload["model"], workload["batch"])
    return simulate(graph, hw, workload["optimizer"], workload["precision"], recompute=workload["recompute"])


def deadly(model, batch):
    """Build a network, but end the process if it is a worker."""
    if "Dask" in multiprocessing.current_process().name:
        os._exit(1)
    return build(model, batch)
