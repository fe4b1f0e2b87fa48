"""What must hold for every simulated step, whatever the network and the accelerator; and the golden counts.

Each `check_…` is one claim on a `Case`. All of them are tried on the models and presets of `FIXED`, and on random
chains of ops on random small accelerators. Normative: docs/contracts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hwsim.energy import ACTIONS, price_list
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, load_accelerator
from hwsim.mapping.layout import first_dispatch_cycles
from hwsim.program import RESOURCE_NAMES, STORE_LEAVES_CYCLES, Field, Unit
from hwsim.results import MEMORY_CATEGORIES, OpResult, StepResult
from hwsim.simulate import simulate
from hwsim.workload import (
    OPTIMIZERS,
    RECOMPUTE_POLICIES,
    Graph,
    Network,
    Op,
    Phase,
    Role,
    Tensor,
    Value,
    freeze,
    macs,
    tensor_bytes,
    training_graph,
    vector_operations,
    with_recompute,
)
from hwsim_models import build

VIEWS = ("flatten", "flatten_dgrad")  # where pixels are dense they move nothing
RELATIVE = 1e-12  # sums of floats in another order

# --- cases ------------------------------------------------------------------------------------------------------------


def residual(x: Value) -> Value:
    return x.conv2d(x.shape[-1], kernel=3, padding=1) + x


@dataclass(frozen=True)
class Chain:
    """A random network: the shape of a sample, the layers as (method, arguments), and the batch."""

    shape: tuple[int, ...]
    layers: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]
    batch: int

    def graph(self, batch: int) -> Graph:
        """Build it; `residual` adds a 3×3 convolution to what it reads."""
        x = Network("chain", batch).input(self.shape)
        for method, arguments in self.layers:
            x = residual(x) if method == "residual" else getattr(x, method)(**dict(arguments))
        return x.softmax_cross_entropy() if self.batch % 2 else x.mean_squared_error()


@dataclass(frozen=True)
class Case:
    """A step and what it was made of."""

    network: str | Chain
    batch: int
    hw: Accelerator
    optimizer: str
    recompute: str = "none"

    def graph(self, batch: int) -> Graph:
        """Build the forward graph."""
        return build(self.network, batch) if isinstance(self.network, str) else self.network.graph(batch)

    @cached_property
    def step(self) -> StepResult:
        """The simulated step."""
        return self.simulated(self.batch, self.recompute)

    @cached_property
    def doubled(self) -> StepResult:
        """The same with twice the batch."""
        return self.simulated(2 * self.batch, self.recompute)

    @cached_property
    def keeping(self) -> StepResult:
        """The same without recomputation."""
        return self.step if self.recompute == "none" else self.simulated(self.batch, "none")

    def simulated(self, batch: int, recompute: str) -> StepResult:
        """Simulate a step; what is computed again must not be rounded stochastically, as int8 usually is."""
        return simulate(self.graph(batch), self.hw, self.optimizer, self.precision, recompute=recompute)

    @property
    def precision(self) -> str | None:
        """That of the accelerator, but for int8."""
        return "int8-nearest" if self.hw.array.operand_format == "int8" else None

    @cached_property
    def training(self) -> Graph:
        """The training graph, whose ops are those of the step."""
        master_weights = self.hw.array.operand_format != "fp32"
        step = training_graph(self.graph(self.batch), optimizer=self.optimizer, master_weights=master_weights)
        return with_recompute(step, self.recompute)

    @property
    def ops(self) -> Iterable[tuple[Op, OpResult]]:
        """Every op with its result."""
        return zip(self.training.ops, self.step.ops, strict=True)

    @property
    def first_fetch_cycles(self) -> int:
        """Cycles that the first op has on top, whatever it is."""
        return first_dispatch_cycles(self.hw)

    def own_cycles(self, step: StepResult, index: int) -> int:
        """Cycles of an op without the fetch of the step's first command."""
        return step.ops[index].cycles - (self.first_fetch_cycles if index == 0 else 0)


@lru_cache(maxsize=512)
def remembered(case: Case) -> Case:
    """The case itself, but the same object for equal ones, so that it is simulated once."""
    return case


def preset(
    model: str, batch: int, name: str, optimizer: str = "momentum", dataflow: str = "ws", recompute: str = "none"
) -> Case:
    return Case(model, batch, load_accelerator(name).with_dataflow(dataflow), optimizer, recompute)


FLOWS = ("ws", "os", "is")
FIXED = [
    *(preset("digits-mlp", 5, f"edge-8x8-{form}", name) for form in ("bf16", "int8") for name in OPTIMIZERS),
    *(preset("digits-mlp", 32, "gemmini-16x16-int8", "adam", flow) for flow in FLOWS),
    *(preset("digits-mlp", 32, "tpuv2-like-128x128-bf16", "adam", flow) for flow in FLOWS),
    *(preset("lenet", 3, "edge-8x8-bf16", "sgd", flow) for flow in FLOWS),
    *(preset("lenet", 3, "edge-8x8-int8", "sgd", flow) for flow in FLOWS),
    *(preset("lenet", 3, "gemmini-16x16-int8", "sgd", flow) for flow in FLOWS),
    *(preset("lenet", 4, "edge-32x32-bf16", name) for name in ("nesterov", "adamw")),
    *(preset("lenet", 4, "tpuv2-like-128x128-bf16", name) for name in ("nesterov", "adamw")),
    *(preset("resnet9", 2, "edge-32x32-bf16", "momentum", flow) for flow in FLOWS),
    *(preset("resnet18", 2, name) for name in ("edge-32x32-bf16", "tpuv2-like-128x128-bf16")),
    preset("resnet18", 1, "edge-32x32-bf16", "adamw", "os"),
    preset("resnet18", 3, "tpuv2-like-128x128-bf16", "sgd", "is"),
    preset("resnet50", 1, "tpuv2-like-128x128-bf16"),
    *(preset(model, 4, "edge-32x32-bf16", recompute="cheap") for model in ("lenet", "resnet9", "resnet18")),
    *(preset(model, 4, "edge-32x32-bf16", recompute="sqrt") for model in ("lenet", "resnet9", "resnet18")),
    *(preset("digits-resnet", 8, "edge-8x8-int8", recompute=policy) for policy in ("cheap", "sqrt")),
]


def name_of(case: Case) -> str:
    recompute = "" if case.recompute == "none" else f"-{case.recompute}"
    return f"{case.network}-{case.batch}-{case.hw.name}-{case.hw.array.dataflow}-{case.optimizer}{recompute}"


@st.composite
def accelerators(draw: st.DrawFn) -> Accelerator:
    """Small ones, of every format and dataflow, with unequal sides."""
    rows, cols = draw(st.sampled_from([2, 3, 4, 5, 8, 12, 16])), draw(st.sampled_from([2, 3, 4, 6, 8, 16]))
    return Accelerator.model_validate(
        {
            "name": "random",
            "clock_mhz": draw(st.sampled_from([80, 500, 1000])),
            "node_nm": draw(st.sampled_from([7, 22, 40, 65])),
            "array": {
                "rows": rows,
                "cols": cols,
                "dataflow": draw(st.sampled_from(["ws", "os", "is"])),
                "operand_format": draw(st.sampled_from(["int8", "fp8_e4m3", "fp8_e5m2", "bf16", "fp16", "fp32"])),
                "add_latency_cycles": draw(st.integers(1, 6)),
                "multiply_latency_cycles": draw(st.integers(0, 3)),
            },
            "scratchpad": {
                "capacity_bytes": draw(st.sampled_from([8, 16, 50, 128])) * 1024,
                "banks": draw(st.sampled_from([8, 16, 20])),
            },
            "accumulator": {
                "capacity_bytes": draw(st.sampled_from([8, 20, 64])) * 1024,
                "add_latency_cycles": draw(st.integers(1, 6)),
            },
            "vector": {
                "lanes": min(cols, draw(st.sampled_from([1, 2, 3, 4, 7, 16]))),
                "latency_cycles": draw(st.integers(1, 12)),
            },
            "dram": {
                "kind": draw(st.sampled_from(["DDR4-2400", "LPDDR4-2400", "HBM2"])),
                "bytes_per_cycle": draw(st.sampled_from([1, 2, 4, 8, 16, 64])),
                "latency_cycles": draw(st.integers(1, 200)),
                "page_bytes": draw(st.sampled_from([64, 1024, 8192])),
            },
            "control": {
                "fetch_bytes_per_cycle": draw(st.sampled_from([4, 16, 128])),
                "queue_depth": draw(st.integers(4, 12)),
            },
        }
    )


IMAGE_LAYERS = ("conv2d", "conv2d", "residual", "batchnorm", "relu", "relu6", "max_pool", "avg_pool")


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    """Up to five image layers, then up to two linear ones; the builder says which windows fit."""
    small = st.integers(1, 3)
    height, width, channels = draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(st.integers(1, 9))
    chain = Chain((height, width, channels), (), draw(st.integers(1, 6)))
    layers: list[tuple[str, tuple[tuple[str, Any], ...]]] = []
    x = Network("probe", 1).input(chain.shape)
    for _ in range(draw(st.integers(1, 5))):
        method = draw(st.sampled_from(IMAGE_LAYERS))
        arguments: dict[str, Any] = {}
        if method == "conv2d":
            groups = draw(st.sampled_from([g for g in (1, 1, 2, 3, x.shape[-1]) if x.shape[-1] % g == 0]))
            arguments = {
                "out": groups * draw(st.integers(1, 6)),
                "kernel": draw(st.tuples(small, small)),
                "stride": draw(st.tuples(small, small)),
                "padding": draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
                "dilation": draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
                "groups": groups,
                "bias": draw(st.booleans()),
            }
        elif "pool" in method:
            kernel = draw(st.integers(1, 3))
            arguments = {"kernel": kernel, "stride": draw(small), "padding": draw(st.integers(0, kernel // 2))}
        try:
            x = residual(x) if method == "residual" else getattr(x, method)(**arguments)
        except HwsimError:
            continue  # the window does not fit
        layers.append((method, tuple(arguments.items())))
    layers.append((draw(st.sampled_from(["flatten", "global_avg_pool"])), ()))
    sizes = draw(st.lists(st.integers(1, 20), min_size=1, max_size=2))
    layers += [("linear", (("out", size), ("bias", draw(st.booleans())))) for size in sizes]
    return Chain(chain.shape, tuple(layers), chain.batch)


# --- claims -----------------------------------------------------------------------------------------------------------


def up(a: int, b: int) -> int:
    return -(-a // b)


def check_cycles_are_at_least_the_roofline(case: Case) -> None:
    hw, step = case.hw, case.step
    for index, (_, result) in enumerate(case.ops):
        bound = max(up(result.macs, hw.pes), up(result.dram_bytes, hw.dram.bytes_per_cycle))
        assert result.roofline_cycles == bound, result.name
        assert case.own_cycles(step, index) >= bound, result.name
    assert step.cycles >= up(step.macs, hw.pes)
    assert step.cycles >= up(step.dram_bytes, hw.dram.bytes_per_cycle)
    assert 0 < step.compute_utilization <= 1


def check_energy_is_counts_times_prices(case: Case) -> None:
    matrix = price_list(case.hw).matrix
    for _, result in case.ops:
        assert result.energy.shape == (3, len(ACTIONS))
        assert (result.energy == result.actions * matrix).all(), result.name
    counts = np.sum([result.actions for _, result in case.ops], axis=0)
    np.testing.assert_allclose(case.step.energy, counts * matrix, rtol=RELATIVE)


def check_energies_are_intervals(case: Case) -> None:
    for energy in (*(result.energy for _, result in case.ops), case.step.energy):
        value, low, high = energy
        assert (low >= 0).all()
        assert (low <= value).all()
        assert (value <= high).all()
    for interval in (*(result.energy_pj for _, result in case.ops), case.step.energy_pj):
        assert interval.low <= interval.value <= interval.high


def check_twice_the_batch_takes_at_most_twice_the_cycles_of_a_step(case: Case) -> None:
    assert case.doubled.cycles <= 2 * case.step.cycles
    assert case.doubled.macs == 2 * case.step.macs


def leaving_cycles(op) -> int:
    """Cycles in which the port may wait for the slot that a store is just leaving."""
    return STORE_LEAVES_CYCLES * int((op.program.expand()[:, Field.UNIT] == Unit.STORE).sum())


def check_twice_the_batch_takes_at_most_twice_the_cycles_of_an_op(case: Case) -> None:
    slower = {}
    for index, (once, twice) in enumerate(zip(case.step.ops, case.doubled.ops, strict=True)):
        assert once.name == twice.name
        cycles = case.own_cycles(case.step, index), case.own_cycles(case.doubled, index)
        if cycles[1] > 2 * cycles[0] and cycles[1] > 2 * cycles[0] + leaving_cycles(twice):
            slower[once.name] = cycles
    assert not slower


def check_updates_do_not_depend_on_the_batch(case: Case) -> None:
    for once, twice in zip(case.step.ops, case.doubled.ops, strict=True):
        if once.phase is Phase.UPDATE:
            assert (once.cycles, once.dram_bytes) == (twice.cycles, twice.dram_bytes), once.name
            assert once.actions.tolist() == twice.actions.tolist(), once.name


def check_parts_sum_to_the_whole(case: Case) -> None:
    step = case.step
    for name, total in (("cycles", step.cycles), ("macs", step.macs), ("dram_bytes", step.dram_bytes)):
        assert sum(getattr(op, name) for op in step.ops) == total
        assert sum(getattr(op, name) for phase in Phase for op in step.ops if op.phase is phase) == total
    for op in step.ops:
        assert sum(op.cycles_by_component.values()) == op.cycles, op.name
        assert all(cycles >= 0 for cycles in op.cycles_by_component.values()), op.name
    by_op = np.sum([[i.value, i.low, i.high] for i in (op.energy_pj for op in step.ops)], axis=0)
    total = step.energy_pj
    np.testing.assert_allclose(by_op, [total.value, total.low, total.high], rtol=RELATIVE)


def check_busy_and_stalled_cycles_are_all_cycles(case: Case) -> None:
    for _, result in case.ops:
        assert tuple(result.busy_cycles) == tuple(result.stall_cycles) == RESOURCE_NAMES
        assert result.busy_cycles["port"] == result.busy_cycles["load"] + result.busy_cycles["store"], result.name
        for unit, busy in result.busy_cycles.items():
            stalls = result.stall_cycles[unit]
            assert all(cycles > 0 for cycles in stalls.values()), (result.name, unit)
            assert busy + sum(stalls.values()) == result.cycles, (result.name, unit)


def check_programs_do_the_macs_of_the_workload(case: Case) -> None:
    for op, result in case.ops:
        assert result.macs == macs(op, case.training) == result.actions[ACTIONS.index("array.macs")], op.name


def check_programs_do_at_least_the_vector_operations_of_the_workload(case: Case) -> None:
    fewer = {
        op.name: (result.vector_operations, wanted)
        for op, result in case.ops
        if result.vector_operations < (wanted := vector_operations(op, case.training))
    }
    assert not fewer


def check_dram_bytes_are_at_least_the_compulsory_ones(case: Case) -> None:
    fewer = {}
    for op, result in case.ops:
        if op.kind in VIEWS and not len(result.program.items):
            continue
        read = sum(_needed_bytes(op, name, case) for name in dict.fromkeys(op.inputs))
        written = sum(_bytes(case.training.tensors[name], case) for name in op.outputs)
        moved = tuple(int(result.actions[ACTIONS.index(f"dram.{way}_bytes")]) for way in ("read", "write"))
        assert sum(moved) == result.dram_bytes, op.name
        if moved[0] < read or moved[1] < written:
            fewer[op.name] = moved, (read, written)
    assert not fewer


def _bytes(tensor: Tensor, case: Case) -> int:
    return tensor_bytes(tensor, case.hw.operand_bytes)


def _needed_bytes(op: Op, name: str, case: Case) -> int:
    """Bytes of an input, without the pixels and taps that no window reaches."""
    tensor = case.training.tensors[name]
    if not {"stride", "padding"} <= op.attrs.keys() or len(tensor.shape) != 4:
        return _bytes(tensor, case)
    sides = [_needed_sides(op, axis, case.training) for axis in (0, 1)]
    which = _WINDOW_PARTS[op.kind][op.inputs.index(name)]
    needed = prod(side[which] for side in sides)
    return _bytes(tensor, case) // prod(tensor.shape[1:3]) * needed


#: Per kind, what each input and the output is: "x" the side that windows slide over, "w" their taps, "y" their results.
_WINDOW_PARTS = {
    "conv2d": "xw>y",
    "conv2d_dgrad": "yw>x",
    "conv2d_wgrad": "xy>w",
    "max_pool": "x>y",
    "avg_pool": "x>y",
    "max_pool_dgrad": "xyy>x",
    "avg_pool_dgrad": "y>x",
}


def _needed_sides(op: Op, axis: int, graph: Graph) -> dict[str, int]:
    """How many pixels, taps and results along one axis meet at least one other."""
    inputs, output = _WINDOW_PARTS[op.kind].split(">")
    names = (*op.inputs[: len(inputs)], *op.outputs)  # a bias is no part of the window
    size = {part: graph.tensors[n].shape[1 + axis] for part, n in zip(inputs + output, names, strict=True)}
    taps = size["w"] if "w" in size else op.attrs["kernel"][axis]
    stride, padding = op.attrs["stride"][axis], op.attrs["padding"][axis]
    dilation = op.attrs["dilation"][axis] if "dilation" in op.attrs else 1
    meets = [
        (x, w, y)
        for y in range(size["y"])
        for w in range(taps)
        if 0 <= (x := y * stride + w * dilation - padding) < size["x"]
    ]
    return {part: len({meeting[i] for meeting in meets}) for i, part in enumerate("xwy")}


def check_memory_holds_parameters_and_optimizer_state(case: Case) -> None:
    step = case.step
    assert tuple(step.memory_bytes) == MEMORY_CATEGORIES
    live = np.sum([step.memory_bytes[category] for category in MEMORY_CATEGORIES], axis=0)
    assert live.tolist() == [op.peak_memory_bytes for op in step.ops]
    assert step.peak_memory_bytes == max(live)
    assert all((step.memory_bytes[category] >= 0).all() for category in MEMORY_CATEGORIES)
    always = {
        "parameters": (Role.WEIGHT, Role.VECTOR_PARAMETER, Role.BUFFER),
        "optimizer_state": (Role.MASTER, Role.STATE),
    }
    kept = 0
    for category, roles in always.items():
        bytes_of_elements = sum(_bytes(t, case) for t in case.training.tensors.values() if t.role in roles)
        assert step.memory_bytes[category].min() >= bytes_of_elements
        kept += bytes_of_elements
    assert step.peak_memory_bytes >= kept
    for result in step.ops:
        assert result.peak_memory_bytes >= kept


def check_actions_are_counts(case: Case) -> None:
    for _, result in case.ops:
        assert np.isfinite(result.actions).all(), result.name
        assert (result.actions >= 0).all(), result.name
        assert (result.actions == np.floor(result.actions)).all(), result.name
        for action in ("leakage.cycles", "dram.background_cycles"):
            assert result.actions[ACTIONS.index(action)] == result.cycles, result.name


def check_only_views_take_no_cycles(case: Case) -> None:
    for index, (op, result) in enumerate(case.ops):
        if case.own_cycles(case.step, index) > 0:
            assert result.program.commands > 0, op.name
            continue
        assert op.kind in VIEWS, op.name
        assert result.program.commands == result.dram_bytes == result.vector_operations == 0, op.name
        per_cycle = [ACTIONS.index(action) for action in ("leakage.cycles", "dram.background_cycles")]
        assert not np.delete(result.actions, per_cycle).any(), op.name


def check_recomputation_adds_a_phase_and_changes_no_other_op(case: Case) -> None:
    step, kept = case.step, case.keeping
    again = [op for op in step.ops if op.phase is Phase.RECOMPUTE]
    others = [op for op in step.ops if op.phase is not Phase.RECOMPUTE]
    for one, other in zip(others, kept.ops, strict=True):
        for field in ("name", "cycles", "macs", "dram_bytes"):
            assert getattr(one, field) == getattr(other, field), (one.name, field)
        assert one.actions.tolist() == other.actions.tolist(), one.name
    assert step.cycles == kept.cycles + sum(op.cycles for op in again)
    assert step.macs == kept.macs + sum(op.macs for op in again)
    forward = {op.name: op for op in step.ops if op.phase is Phase.FORWARD}
    for op in again:
        assert op.macs == forward[op.layer].macs, op.name
        assert op.cycles <= forward[op.layer].cycles, op.name
    if case.recompute == "cheap":
        assert step.macs == kept.macs
    assert step.phases == tuple(p for p in Phase if p is not Phase.RECOMPUTE or again)


def check_recomputation_stashes_less(case: Case) -> None:
    others = [index for index, op in enumerate(case.step.ops) if op.phase is not Phase.RECOMPUTE]
    for category in ("stash", "parameters", "optimizer_state", "gradients"):
        live, kept = case.step.memory_bytes[category][others], case.keeping.memory_bytes[category]
        assert (live <= kept).all(), category
        assert category == "stash" or (live == kept).all(), category
    forward = sum(op.phase is Phase.FORWARD for op in case.keeping.ops)
    ours, kept = (step.memory_bytes["stash"][forward - 1] for step in (case.step, case.keeping))
    assert ours < kept or len(others) == len(case.step.ops)


CLAIMS: list[Callable[[Case], None]] = [check for name, check in globals().items() if name.startswith("check_")]


@pytest.mark.parametrize("case", [remembered(case) for case in FIXED], ids=name_of)
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__.removeprefix("check_"))
def test_models_on_presets(claim: Callable[[Case], None], case: Case) -> None:
    claim(case)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__.removeprefix("check_"))
@given(
    chain=chains(),
    hw=accelerators(),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    recompute=st.sampled_from(RECOMPUTE_POLICIES),
)
@settings(max_examples=200, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_networks_on_random_accelerators(
    claim: Callable[[Case], None], chain: Chain, hw: Accelerator, optimizer: str, recompute: str
) -> None:
    case = remembered(Case(chain, chain.batch, hw, optimizer, recompute))
    try:
        case.step  # noqa: B018
        case.doubled  # noqa: B018
    except HwsimError as error:
        assert re.search("must fit|batchnorm needs 2 values", str(error))  # noqa: PT017
        assume(False)
    claim(case)


# --- golden counts ----------------------------------------------------------------------------------------------------

#: Where they come from: tests/unit/test_models.py.
GOLDEN = {"lenet": (62_006, 651_720), "resnet18": (11_173_962, 555_422_720)}


def phase_macs(step: StepResult, phase: Phase) -> int:
    return sum(op.macs for op in step.ops if op.phase is phase)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("model", GOLDEN)
def test_parameters_and_forward_macs_of_the_simulated_step(model: str, batch: int) -> None:
    step = simulate(build(model, batch), "edge-32x32-bf16")
    parameters, forward = GOLDEN[model]
    assert step.parameters == parameters == sum(op.parameters for op in step.ops)
    assert step.forward_macs_per_sample == forward
    assert phase_macs(step, Phase.FORWARD) == phase_macs(step, Phase.WGRAD) == batch * forward
    assert phase_macs(step, Phase.UPDATE) == 0


@pytest.mark.parametrize("batch", [1, 3])
def test_macs_of_a_resnet18_step(batch: int) -> None:
    step = simulate(build("resnet18", batch), "edge-32x32-bf16")
    assert step.macs == batch * 1_664_498_688
    assert phase_macs(step, Phase.DGRAD) == batch * 553_653_248


def test_macs_of_a_resnet18_step_with_stem_and_first_stage_frozen() -> None:
    step = simulate(freeze(build("resnet18", 1), ("conv1", "bn1", "layer1")), "edge-32x32-bf16")
    assert step.macs == 1_339_767_808
    assert step.parameters == 11_173_962
