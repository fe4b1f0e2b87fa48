"""The JSON summary of a training step or a GEMM: plain numbers under fixed keys, units in the keys' names.

`hwsim explain KEY` says what each key means. Cycles, time, MACs, DRAM bytes, energies, parameters and forward MACs add
up: over `by_op`, over `by_phase` and over `by_component` they give the total. Peaks and utilizations do not add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from hwsim.area import area_list
from hwsim.energy.actions import ACTIONS, COMPONENTS, component_of
from hwsim.hardware import Accelerator
from hwsim.report.area import area_figures
from hwsim.results import MEMORY_CATEGORIES, Interval, OpResult, StepResult
from hwsim.workload.graph import Phase

__all__ = [
    "FIGURES",
    "GEMM_SCHEMA",
    "OP_FIGURES",
    "STEP_SCHEMA",
    "Gemm",
    "cycles_along_bound",
    "gemm_summary",
    "peak_index",
    "step_summary",
]

STEP_SCHEMA = "hwsim.step/1"
GEMM_SCHEMA = "hwsim.gemm/1"

#: The figures that the step, each phase, each component and each op have.
FIGURES = (
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
)

#: What an op has besides `FIGURES`.
OP_FIGURES = (
    "kind",
    "phase",
    "layer",
    "bound",
    "vector_operations",
    "stall_cycles",
    "busy_cycles",
    "roofline_cycles",
    "mapping",
)


class Gemm(Protocol):
    """What the summary reads of a `GemmResult`."""

    @property
    def m(self) -> int:
        """Rows of the result."""

    @property
    def k(self) -> int:
        """Length of the reduction."""

    @property
    def n(self) -> int:
        """Columns of the result."""

    @property
    def hardware(self) -> Accelerator:
        """What it ran on."""

    @property
    def op(self) -> OpResult:
        """The op."""

    @property
    def cycles(self) -> int:
        """Its cycles."""

    @property
    def compute_utilization(self) -> float:
        """MACs done ÷ (PEs × cycles), 0 to 1."""


def step_summary(step: StepResult) -> dict[str, Any]:
    """Give the summary of a training step, ready for `json.dumps`."""
    return {
        "schema": STEP_SCHEMA,
        "model": step.model,
        "hardware": step.hardware.name,
        "batch": step.batch,
        "optimizer": step.optimizer,
        "recompute": step.recompute,
        **_figures_of_step(step),
        **area_figures(area_list(step.hardware)),
        "by_phase": {str(p): _figures_of_ops(step, [op for op in step.ops if op.phase == p]) for p in step.phases},
        "by_component": {name: _figures_of_component(step, name) for name in COMPONENTS},
        "by_op": {op.name: _figures_of_op(step, op) for op in step.ops},
        "memory": {name: int(step.memory_bytes[name][peak_index(step)]) for name in MEMORY_CATEGORIES},
        "interval_drivers": interval_drivers(step),
        "hardware_description": step.hardware.model_dump(mode="json"),
    }


def step_title(step: StepResult) -> str:
    """Give model, batch and optimizer in words, and what is computed again, if anything is."""
    also = "" if step.recompute == "none" else f", recompute {step.recompute}"
    return f"{step.model}, batch {step.batch}, {step.optimizer}{also}"


def gemm_summary(gemm: Gemm) -> dict[str, Any]:
    """Give the summary of one matrix product, ready for `json.dumps`."""
    energy = gemm.op.energy_pj
    return {
        "schema": GEMM_SCHEMA,
        "hardware": gemm.hardware.name,
        "dataflow": gemm.hardware.array.dataflow.value,
        "m": gemm.m,
        "k": gemm.k,
        "n": gemm.n,
        "macs": gemm.op.macs,
        "cycles": gemm.cycles,
        "time_s": _seconds(gemm.cycles, gemm.hardware),
        "compute_utilization": gemm.compute_utilization,
        "dram_bytes": gemm.op.dram_bytes,
        "energy_pj": energy.value,
        "energy_low_pj": energy.low,
        "energy_high_pj": energy.high,
    }


def peak_index(step: StepResult) -> int:
    """Index of the op during which most DRAM bytes are live, the first one if several are equal."""
    return int(np.argmax([op.peak_memory_bytes for op in step.ops]))


def cycles_along_bound(ops: Iterable[OpResult]) -> Counter[tuple[str, str]]:
    """Add the cycles of ops up along what bounds them.

    Keys are ``("busy", bound)`` and ``("stall", cause)``; the values sum to the ops' cycles.
    """
    parts: Counter[tuple[str, str]] = Counter()
    for op in ops:
        parts["busy", op.bound] += op.busy_cycles[op.bound]
        for cause, cycles in op.stall_cycles[op.bound].items():
            parts["stall", cause] += cycles
    return parts


def interval_drivers(step: StepResult, n: int = 5) -> list[dict[str, Any]]:
    """Give the actions whose uncertainty widens the step's energy interval most."""
    from hwsim.energy import drivers

    return [
        {"action": d.action, "width_pj": float(d.width_pj), "share": float(d.share), "reason": d.reason}
        for d in drivers(step.energy, n)
    ]


def _figures_of_step(step: StepResult) -> dict[str, Any]:
    return _figures(
        step.hardware,
        parameters=step.parameters,
        forward_macs_per_sample=step.forward_macs_per_sample,
        macs=step.macs,
        cycles=step.cycles,
        dram_bytes=step.dram_bytes,
        peak_memory_bytes=step.peak_memory_bytes,
        energy=step.energy_pj,
    )


def _figures_of_ops(step: StepResult, ops: Sequence[OpResult]) -> dict[str, Any]:
    forward_macs = sum(op.macs for op in ops if op.phase == Phase.FORWARD)
    energies = [op.energy_pj for op in ops]
    return _figures(
        step.hardware,
        parameters=sum(op.parameters for op in ops),
        forward_macs_per_sample=forward_macs // step.batch,
        macs=sum(op.macs for op in ops),
        cycles=sum(op.cycles for op in ops),
        dram_bytes=sum(op.dram_bytes for op in ops),
        peak_memory_bytes=max((op.peak_memory_bytes for op in ops), default=0),
        energy=Interval(sum(e.value for e in energies), sum(e.low for e in energies), sum(e.high for e in energies)),
    )


def _figures_of_component(step: StepResult, component: str) -> dict[str, Any]:
    """Count MACs and parameters under array, bytes and peak under dram; the utilization is over the whole step."""
    array, dram = component == "array", component == "dram"
    columns = [i for i, action in enumerate(ACTIONS) if component_of(action) == component]
    value, low, high = step.energy[:, columns].sum(axis=1)
    figures = _figures(
        step.hardware,
        parameters=step.parameters if array else 0,
        forward_macs_per_sample=step.forward_macs_per_sample if array else 0,
        macs=step.macs if array else 0,
        cycles=sum(op.cycles_by_component.get(component, 0) for op in step.ops),
        dram_bytes=step.dram_bytes if dram else 0,
        peak_memory_bytes=step.peak_memory_bytes if dram else 0,
        energy=Interval(value, low, high),
    )
    return figures | {"compute_utilization": step.compute_utilization if array else 0.0}


def _figures_of_op(step: StepResult, op: OpResult) -> dict[str, Any]:
    return _figures_of_ops(step, [op]) | {
        "kind": op.kind,
        "phase": str(op.phase),
        "layer": op.layer,
        "bound": op.bound,
        "vector_operations": op.vector_operations,
        "stall_cycles": {unit: {c: int(n) for c, n in causes.items()} for unit, causes in op.stall_cycles.items()},
        "busy_cycles": {unit: int(n) for unit, n in op.busy_cycles.items()},
        "roofline_cycles": op.roofline_cycles,
        "mapping": op.mapping,
    }


def _figures(
    hardware: Accelerator,
    *,
    parameters: int,
    forward_macs_per_sample: int,
    macs: int,
    cycles: int,
    dram_bytes: int,
    peak_memory_bytes: int,
    energy: Interval,
) -> dict[str, Any]:
    return {
        "parameters": int(parameters),
        "forward_macs_per_sample": int(forward_macs_per_sample),
        "macs": int(macs),
        "cycles": int(cycles),
        "time_s": _seconds(cycles, hardware),
        "compute_utilization": float(macs / (hardware.pes * cycles)) if cycles else 0.0,
        "dram_bytes": int(dram_bytes),
        "peak_memory_bytes": int(peak_memory_bytes),
        "energy_pj": float(energy.value),
        "energy_low_pj": float(energy.low),
        "energy_high_pj": float(energy.high),
    }


def _seconds(cycles: int, hardware: Accelerator) -> float:
    return float(cycles / (hardware.clock_mhz * 1e6))
