"""What a simulation gives: frozen results per op and for the whole step, with totals as properties.

Every figure's unit is in its name. Energies are intervals: value, low and high [pJ] (docs/contracts/energy.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hwsim.hardware import Accelerator
from hwsim.program import Program
from hwsim.workload.graph import Phase

__all__ = ["MEMORY_CATEGORIES", "Interval", "OpResult", "Span", "StepResult"]

#: Memory categories, in the order in which plots stack them.
MEMORY_CATEGORIES = ("parameters", "optimizer_state", "gradients", "stash", "workspace", "program")


@dataclass(frozen=True)
class Interval:
    """An energy with its bounds [pJ], ``low ≤ value ≤ high``."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Span:
    """One command in time, for traces: cycles from the op's start."""

    unit: str
    name: str
    start: int
    occupied_until: int
    end: int


@dataclass(frozen=True)
class OpResult:
    """Cycles, actions and energy of one op.

    Attributes
    ----------
    name, kind, layer : str
        From the training graph; `name` is unique.
    phase : Phase
        Forward, recompute, dgrad, wgrad or update.
    parameters : int
        Parameter elements that the op (a forward op) owns; 0 for others.
    macs : int
        MACs done on the array.
    vector_operations : int
        Elementary lane operations done in the vector unit.
    cycles : int
        From barrier to barrier [cycles].
    roofline_cycles : int
        Lower bound: the larger of MACs ÷ PEs and DRAM bytes ÷ bandwidth, rounded up.
    dram_bytes : int
        Bytes that cross the data port.
    peak_memory_bytes : int
        Live bytes in DRAM while the op runs.
    busy_cycles : mapping of str to int
        Per resource (``load``, ``matrix``, ``vector``, ``store``, ``port``): occupied cycles.
    stall_cycles : mapping of str to mapping of str to int
        Per resource, per cause: cycles not occupied; busy + stalls = cycles for every one.
    bound : str
        The busiest of ``matrix``, ``vector`` and ``port``.
    cycles_by_component : mapping of str to int
        The op's cycles along that resource: its busy cycles and, for its stalls, the component that it waited for.
        Sums to `cycles`.
    actions : ndarray of shape (len(ACTIONS),), dtype float64
        Action counts.
    energy : ndarray of shape (3, len(ACTIONS)), dtype float64
        Energy per action: value, low, high [pJ].
    mapping : str
        Tiles and order in words.
    program : Program
        What the units execute.
    """

    name: str
    kind: str
    layer: str
    phase: Phase
    parameters: int
    macs: int
    vector_operations: int
    cycles: int
    roofline_cycles: int
    dram_bytes: int
    peak_memory_bytes: int
    busy_cycles: Mapping[str, int]
    stall_cycles: Mapping[str, Mapping[str, int]]
    bound: str
    cycles_by_component: Mapping[str, int]
    actions: NDArray[np.float64]
    energy: NDArray[np.float64]
    mapping: str
    program: Program

    @cached_property
    def energy_pj(self) -> Interval:
        """Energy of the op."""
        value, low, high = self.energy.sum(axis=1)
        return Interval(float(value), float(low), float(high))


@dataclass(frozen=True)
class StepResult:
    """One training step, op by op.

    Attributes
    ----------
    model : str
        Name of the network.
    hardware : Accelerator
        What it ran on.
    batch : int
        Samples per step.
    optimizer : str
        Name of the optimizer.
    parameters : int
        Parameter elements of the network.
    forward_macs_per_sample : int
        MACs of the forward phase for one sample.
    ops : tuple of OpResult
        In execution order.
    memory_bytes : mapping of str to ndarray of shape (len(ops),), dtype int64
        Live DRAM bytes while each op runs, per category of `MEMORY_CATEGORIES`.
    recompute : str
        What the backward pass computes again: ``"none"``, ``"cheap"`` or ``"sqrt"``.
    """

    model: str
    hardware: Accelerator
    batch: int
    optimizer: str
    parameters: int
    forward_macs_per_sample: int
    ops: tuple[OpResult, ...]
    memory_bytes: Mapping[str, NDArray[np.int64]]
    recompute: str = "none"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Phases that reports show: all, recompute only where there is one."""
        present = {op.phase for op in self.ops}
        return tuple(phase for phase in Phase if phase is not Phase.RECOMPUTE or phase in present)

    @cached_property
    def cycles(self) -> int:
        """Cycles of the step."""
        return sum(op.cycles for op in self.ops)

    @property
    def time_s(self) -> float:
        """Time of the step [s]."""
        return self.cycles / (self.hardware.clock_mhz * 1e6)

    @cached_property
    def macs(self) -> int:
        """MACs of the step."""
        return sum(op.macs for op in self.ops)

    @property
    def compute_utilization(self) -> float:
        """MACs done ÷ (PEs × cycles), 0 to 1."""
        return self.macs / (self.hardware.pes * self.cycles)

    @cached_property
    def dram_bytes(self) -> int:
        """Bytes that cross the data port in the step."""
        return sum(op.dram_bytes for op in self.ops)

    @cached_property
    def peak_memory_bytes(self) -> int:
        """Largest number of live DRAM bytes."""
        return max(op.peak_memory_bytes for op in self.ops)

    @cached_property
    def energy(self) -> NDArray[np.float64]:
        """Energy per action: ndarray of shape (3, len(ACTIONS)), value, low, high [pJ]."""
        total: NDArray[np.float64] = np.sum([op.energy for op in self.ops], axis=0)
        return total

    @cached_property
    def energy_pj(self) -> Interval:
        """Energy of the step."""
        value, low, high = self.energy.sum(axis=1)
        return Interval(float(value), float(low), float(high))
