"""One training step: graph → plans → programs → cycles → actions → picojoules. These calls and nothing else.

Whoever reads this file has seen the architecture. Results are `hwsim.results`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.energy import ACTIONS, EnergyTable, PriceList, energy, price_list
from hwsim.energy.counting import count_actions
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, load_accelerator
from hwsim.mapping import OpPlan, gemm_segment, plan_key, plan_op, plan_segments
from hwsim.mapping.layout import dispatch_cycles, first_dispatch_cycles, stored_bytes
from hwsim.program import CAUSES, COMMAND_BYTES, RESOURCE_NAMES, UNIT_NAMES, Field, Program, Unit, VectorOp
from hwsim.results import MEMORY_CATEGORIES, OpResult, Span, StepResult
from hwsim.timing import command_times, simulate_rows
from hwsim.workload import (
    Precision,
    default_precision,
    lifetimes,
    macs,
    memory_category,
    precision_of,
    stashes,
    training_graph,
    with_precision,
    with_recompute,
)
from hwsim.workload.graph import Graph, Op, Phase, Role

__all__ = ["GemmResult", "gemm", "live_bytes", "simulate", "spans", "training_step"]

#: Largest product that `gemm` takes: counts are kept exactly in 64-bit integers and floats.
MOST_MACS = 1 << 53
#: The component that a resource's busy cycles count for.
_COMPONENT_OF_RESOURCE = {"matrix": "array", "vector": "vector", "port": "dram"}
#: The component that a unit waited for, by cause of the stall; "drain" is settled by what the unit waits out.
_COMPONENT_OF_CAUSE = {
    "fetch": "control",
    "a_full": "dram",
    "b_full": "dram",
    "a_free": "array",
    "b_free": "array",
    "sum_full": "array",
    "sum_free": "dram",
    "out_full": "vector",
    "in_full": "dram",
    "in_free": "dram",
    "rest_free": "vector",
    "port": "dram",
    "drain": "dram",
}


@dataclass(frozen=True, eq=False)
class GemmResult:
    """Cycles and energy of C (m, n) = A (m, k) · B (k, n), operands and result in DRAM."""

    m: int
    k: int
    n: int
    hardware: Accelerator
    op: OpResult
    program: Program

    @property
    def cycles(self) -> int:
        """Cycles from the start command to the last write response."""
        return self.op.cycles

    @property
    def compute_utilization(self) -> float:
        """MACs done ÷ (PEs × cycles), 0 to 1."""
        return self.op.macs / (self.hardware.pes * self.op.cycles)


def simulate(
    graph: Graph,
    hardware: Accelerator | str,
    optimizer: Any = "momentum",
    precision: Precision | str | Path | None = None,
    energy_table: EnergyTable | None = None,
    recompute: str = "none",
) -> StepResult:
    """Simulate one training step of a network.

    Parameters
    ----------
    graph : Graph
        Forward graph that ends in a loss, from `hwsim.workload.Network` or `hwsim_models`.
    hardware : Accelerator or str
        A description, a preset's name, or the path of a ``.toml`` file.
    optimizer : str or optimizer
        ``"sgd"``, ``"momentum"``, ``"nesterov"``, ``"adam"``, ``"adamw"``, or an instance with its parameters.
    precision : Precision, str or Path, optional
        A precision, its name or the path of its ``.toml`` file; that of the accelerator's operand format unless given.
        Where it needs an array for another operand format, the accelerator gets one (`Accelerator.with_format`).
    energy_table : EnergyTable, optional
        Where energies come from, as `hwsim.energy.load_energy_table` gives it; the package's unless given.
    recompute : str
        What the backward pass computes again instead of keeping it: ``"none"``, ``"cheap"`` or ``"sqrt"``, as
        `hwsim.workload.with_recompute` says.

    Returns
    -------
    StepResult
        Cycles, actions and energy intervals, op by op.

    Raises
    ------
    HwsimError
        Unknown names, nothing to train, an op without a gradient or a lowering, or a memory too small for one tile;
        a tensor whose own format does not fit the precision; what would be computed again with other random bits.

    Examples
    --------
    >>> from hwsim.workload import Network
    >>> net = Network("two layers", batch=32)
    >>> graph = net.input((64,)).linear(32).relu().linear(10).softmax_cross_entropy()
    >>> step = simulate(graph, "edge-8x8-bf16", optimizer="sgd")
    >>> step.macs == 32 * (2 * 64 * 32 + 3 * 32 * 10)
    True
    >>> step.cycles == sum(op.cycles for op in step.ops)
    True
    """
    if not isinstance(graph, Graph):
        raise HwsimError(
            f"simulate takes a Graph that ends in a loss, not a {type(graph).__name__}; end the network with "
            ".softmax_cross_entropy() or .mean_squared_error()"
        )
    hw = hardware if isinstance(hardware, Accelerator) else load_accelerator(hardware)
    step, hw = training_step(graph, hw, optimizer, precision, recompute)
    prices = price_list(hw, energy_table)
    alike: dict[tuple[Any, ...], OpResult] = {}
    keys = [plan_key(op, step) for op in step.ops]
    for key, op in zip(keys, step.ops, strict=True):
        if key not in alike:
            alike[key] = _evaluate(op, plan_op(op, step, hw), hw, prices)
    commands = sum(int(alike[key].actions[ACTIONS.index("control.commands")]) for key in keys)
    memory = _memory(step, hw, commands * COMMAND_BYTES)
    live = np.sum(list(memory.values()), axis=0)
    results = []
    for index, (key, op) in enumerate(zip(keys, step.ops, strict=True)):
        result = replace(
            alike[key],
            name=op.name,
            layer=op.layer,
            phase=op.phase,
            parameters=_own_parameters(op, step),
            peak_memory_bytes=int(live[index]),
        )
        results.append(_with_fetch(result, hw, prices) if index == 0 else result)
    forward = sum(macs(op, step) for op in step.ops if op.phase is Phase.FORWARD)
    return StepResult(
        model=graph.name,
        hardware=hw,
        batch=graph.batch,
        optimizer=optimizer if isinstance(optimizer, str) else type(optimizer).__name__.lower(),
        parameters=graph.parameters,
        forward_macs_per_sample=forward // graph.batch,
        ops=tuple(results),
        memory_bytes=memory,
        recompute=recompute,
    )


def training_step(
    graph: Graph,
    hw: Accelerator,
    optimizer: Any = "momentum",
    precision: Precision | str | Path | None = None,
    recompute: str = "none",
) -> tuple[Graph, Accelerator]:
    """Give the training step of a network with its formats, and the accelerator with the array that they need.

    Raises
    ------
    HwsimError
        As `simulate`.
    """
    chosen = default_precision(hw) if precision is None else precision_of(precision)
    step = with_precision(training_graph(graph, optimizer, chosen.master_weights), chosen)
    return with_recompute(step, recompute), hw.with_format(chosen.operand_format)


def gemm(
    m: int, k: int, n: int, hardware: Accelerator | str, transpose_a: bool = False, transpose_b: bool = False
) -> GemmResult:
    """Simulate C (m, n) = A (m, k) · B (k, n), results in the operand format.

    Parameters
    ----------
    m, k, n : int
        Sizes, 1 or more; k is the reduction.
    hardware : Accelerator or str
        A description, a preset's name, or the path of a ``.toml`` file.
    transpose_a, transpose_b : bool
        A is stored as (k, m), B as (n, k).

    Raises
    ------
    HwsimError
        A size below 1, unknown hardware, or a memory too small for one tile.

    Examples
    --------
    >>> result = gemm(64, 64, 64, "gemmini-16x16-int8")
    >>> result.cycles <= 2000, result.op.macs
    (True, 262144)
    """
    hw = hardware if isinstance(hardware, Accelerator) else load_accelerator(hardware)
    for name, size in (("m", m), ("k", k), ("n", n)):
        if not isinstance(size, int) or size < 1:
            raise HwsimError(f"gemm: {name} must be a whole number, 1 or more, not {size}")
    if m * k * n > MOST_MACS:
        raise HwsimError(
            f"gemm: m·k·n must be at most 2^53, so that counts stay exact, not {m * k * n}; split the product"
        )
    segment = gemm_segment(m, k, n, hw, transpose_a=transpose_a, transpose_b=transpose_b)
    plan = plan_segments([segment], [], hw, "gemm")
    op = Op("gemm", "gemm", Phase.FORWARD, (), (), layer="gemm")
    prices = price_list(hw)
    return GemmResult(m, k, n, hw, _with_fetch(_evaluate(op, plan, hw, prices), hw, prices), plan.program)


def spans(step: StepResult, op_index: int, limit: int) -> tuple[Span, ...]:
    """Give the first commands of one op in time.

    Parameters
    ----------
    step : StepResult
        A simulated step.
    op_index : int
        Which op.
    limit : int
        How many commands at most.
    """
    program = step.ops[op_index].program
    if not len(program.items):
        return ()
    hw = step.hardware
    flat = program.expand(limit)
    times = command_times(flat, hw.control.queue_depth, dispatch_cycles(hw))
    shift = first_dispatch_cycles(hw) if op_index == 0 else 0
    found = []
    for row, (start, end, _) in zip(flat.tolist(), times.tolist(), strict=True):
        if row[Field.UNIT] != Unit.CONTROL:
            found.append(
                Span(
                    UNIT_NAMES[row[Field.UNIT]],
                    _command_name(row),
                    shift + start,
                    shift + start + row[Field.OCCUPANCY],
                    shift + end,
                )
            )
    return tuple(found)


def _command_name(row: list[int]) -> str:
    if row[Field.UNIT] == Unit.MATRIX:
        return f"{row[Field.FOLDS]} folds"
    if row[Field.UNIT] == Unit.VECTOR:
        return VectorOp(row[Field.OPCODE]).name.lower()
    return f"operand {row[Field.OPERAND]}"


def _evaluate(op: Op, plan: OpPlan, hw: Accelerator, prices: PriceList) -> OpResult:
    """Time and count one op's program."""
    cycles = 0
    busy = np.zeros(len(RESOURCE_NAMES), np.int64)
    stalls = np.zeros((len(RESOURCE_NAMES), len(CAUSES)), np.int64)
    for segment in plan.segments:
        timing = simulate_rows(segment.items, hw.control.queue_depth, dispatch_cycles(hw))
        cycles += timing.cycles
        busy += timing.busy_cycles
        stalls += timing.stall_cycles
    program = plan.program
    counts = count_actions(program, hw, cycles)
    bandwidth = hw.dram.bytes_per_cycle
    return OpResult(
        name=op.name,
        kind=op.kind,
        layer=op.layer,
        phase=op.phase,
        parameters=0,
        macs=counts.macs,
        vector_operations=counts.vector_operations,
        cycles=cycles,
        roofline_cycles=max(-(-counts.macs // hw.pes), -(-counts.dram_bytes // bandwidth)),
        dram_bytes=counts.dram_bytes,
        peak_memory_bytes=0,
        actions=counts.actions,
        energy=energy(counts.actions, prices),
        mapping=plan.mapping,
        program=program,
        **_attribution(busy, stalls),
    )


def _attribution(busy: NDArray[np.int64], stalls: NDArray[np.int64]) -> dict[str, Any]:
    """Busy cycles and stalls by name, the busiest resource, and its cycles by component."""
    busy_cycles = dict(zip(RESOURCE_NAMES, busy.tolist(), strict=True))
    stall_cycles = {
        name: {cause: n for cause, n in zip(CAUSES, row, strict=True) if n}
        for name, row in zip(RESOURCE_NAMES, stalls.tolist(), strict=True)
    }
    bound = max(("matrix", "vector", "port"), key=lambda name: busy_cycles[name])
    components = {"array": 0, "vector": 0, "dram": 0, "control": 0}
    components[_COMPONENT_OF_RESOURCE[bound]] += busy_cycles[bound]
    for cause, cycles in stall_cycles[bound].items():
        components[_COMPONENT_OF_CAUSE[cause]] += cycles
    return {
        "busy_cycles": busy_cycles,
        "stall_cycles": stall_cycles,
        "bound": bound,
        "cycles_by_component": components,
    }


def _with_fetch(result: OpResult, hw: Accelerator, prices: PriceList) -> OpResult:
    """Add the fetch of a program's very first command, which nothing hides."""
    extra = first_dispatch_cycles(hw)
    counts = result.actions.copy()
    counts[ACTIONS.index("dram.background_cycles")] += extra
    counts[ACTIONS.index("leakage.cycles")] += extra
    stalls = {u: {**c, "fetch": c.get("fetch", 0) + extra} for u, c in result.stall_cycles.items()}
    components = {**result.cycles_by_component, "control": result.cycles_by_component["control"] + extra}
    return replace(
        result,
        cycles=result.cycles + extra,
        actions=counts,
        energy=energy(counts, prices),
        stall_cycles=stalls,
        cycles_by_component=components,
    )


def live_bytes(step: Graph, hw: Accelerator) -> int:
    """Give the largest number of live DRAM bytes of a training step, without the program."""
    return int(np.sum(list(_memory(step, hw, 0).values()), axis=0).max())


def _own_parameters(op: Op, step: Graph) -> int:
    if op.phase is not Phase.FORWARD:
        return 0
    roles = (Role.WEIGHT, Role.VECTOR_PARAMETER)
    return sum(t.elements for t in step.tensors_of(op.inputs) if t.role in roles)


def _memory(step: Graph, hw: Accelerator, program_bytes: int) -> Mapping[str, NDArray[np.int64]]:
    """Live DRAM bytes per category while each op runs."""
    stashed = frozenset(stashes(step))
    memory = {category: np.zeros(len(step.ops) + 1, np.int64) for category in MEMORY_CATEGORIES}
    for name, (first, last) in lifetimes(step).items():
        tensor = step.tensors[name]
        category = memory_category(tensor, name in stashed)
        size = stored_bytes(tensor, hw)
        memory[category][first] += size
        memory[category][last + 1] -= size
    memory["program"][0] = program_bytes
    return {category: np.cumsum(changes)[:-1] for category, changes in memory.items()}
