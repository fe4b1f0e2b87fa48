"""How long do steps take that compute their values? `make bench` prints it, beside the limit of the project.

A step is timed as the best of a few, and beside numpy's float32 product of one matrix of the same MACs on the same
threads, so that the ratio says what bit-exact execution costs, whatever the machine.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter

import numpy as np

from hwsim.hardware import load_accelerator
from hwsim.values.machine import Machine
from hwsim.values.reference import initial
from hwsim.workload import training_graph
from hwsim.workload.graph import Role
from hwsim_models import build

#: Model, batch, accelerator, and the limit of a step [s] where the project has one.
CASES = (
    ("resnet18", 8, "edge-32x32-bf16", 60.0),
    ("digits-mlp", 32, "edge-8x8-bf16", None),
    ("digits-cnn", 32, "edge-32x32-bf16", None),
    ("digits-resnet", 32, "edge-32x32-bf16", None),
)
REPEATS = 3


def best(call, repeats=REPEATS):
    """Shortest of some calls [s]."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times)


def machine_of(model, batch, hardware):
    """A machine with parameters and one random batch in its memory."""
    machine = Machine(training_graph(build(model, batch)), load_accelerator(hardware))
    rng = np.random.default_rng(0)
    values = dict(initial(machine.graph, 0))
    for tensor in machine.graph.tensors.values():
        if tensor.role is Role.INPUT:
            values[tensor.name] = rng.standard_normal(tensor.shape)
        elif tensor.role is Role.LABEL:
            values[tensor.name] = rng.integers(0, 10, tensor.shape)
    for name, array in values.items():
        machine.write(name, array)
    return machine


def main():
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((1024, 1024), np.float32) for _ in range(2))
    gemm = best(lambda: a @ b, 5)
    print("\nA step with values (best of", REPEATS, "after one to compile)")
    print("model           batch  accelerator          MACs      step s  limit s  × numpy float32 @ of as many MACs")
    for model, batch, hardware, limit in CASES:
        machine = machine_of(model, batch, hardware)
        macs = sum(counts.macs for counts in machine.run())
        seconds = best(machine.run)
        ratio = seconds / (gemm * macs / 1024**3)
        shown = f"{limit:7.0f}" if limit else "      –"
        print(f"{model:14s}  {batch:5d}  {hardware:16s} {macs:12,d} {seconds:9.4f}  {shown}  {ratio:8.1f}")
        if limit:
            kinds: dict[str, float] = {}
            for op in machine.graph.ops:
                kinds[op.kind] = kinds.get(op.kind, 0.0) + best(partial(machine.run, [op]), 1)
            longest = sorted(kinds.items(), key=lambda item: -item[1])[:5]
            print("  of it: " + ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in longest))


if __name__ == "__main__":
    main()
