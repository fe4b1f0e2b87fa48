"""A made-up training step whose invariants hold, for tests of what is shown rather than of what is computed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import hwsim.energy
from hwsim.energy import EnergyTable
from hwsim.energy.actions import ACTIONS
from hwsim.hardware import Accelerator, load_accelerator
from hwsim.program import Program
from hwsim.program.fields import CAUSES, FIELDS, RESOURCE_NAMES
from hwsim.results import MEMORY_CATEGORIES, OpResult, Span, StepResult
from hwsim.workload import Precision
from hwsim.workload.graph import Graph, Phase, Role, Tensor

CHANNELS = (64, 64, 64, 128, 128, 256, 256, 512, 512)
PIXELS = (3136, 784, 784, 196, 196, 49, 49, 16, 16)


@dataclass(frozen=True)
class FakeDriver:
    """As `hwsim.energy.Driver`."""

    action: str
    width_pj: float
    share: float
    reason: str


@dataclass(frozen=True)
class FakeGemm:
    """As `hwsim.simulate.GemmResult`."""

    m: int
    k: int
    n: int
    hardware: Accelerator
    op: OpResult

    @property
    def cycles(self) -> int:
        return self.op.cycles

    @property
    def compute_utilization(self) -> float:
        return self.op.macs / (self.hardware.pes * self.cycles)


def fake_drivers(energy: Any, n: int = 5) -> tuple[FakeDriver, ...]:
    width = energy[2] - energy[1]
    order = np.argsort(-width)[:n]
    return tuple(
        FakeDriver(
            ACTIONS[i], float(width[i]), float(width[i] / width.sum()), f"published values of {ACTIONS[i]} differ"
        )
        for i in order
    )


def make_op(
    rng: np.random.Generator,
    hw: Accelerator,
    name: str,
    kind: str,
    phase: Phase,
    *,
    macs: int = 0,
    elements: int = 0,
    parameters: int = 0,
    live: int = 0,
) -> OpResult:
    """Make an op whose units are busy for as long as its work takes, and stall for the rest."""
    dram_bytes = 2 * elements + 4 * parameters + 64
    busy = {
        "load": dram_bytes * 2 // 3 // hw.dram.bytes_per_cycle + 1,
        "matrix": int(macs / hw.pes * rng.uniform(1.05, 1.6)),
        "vector": 2 * elements // hw.vector.lanes,
        "store": dram_bytes // 3 // hw.dram.bytes_per_cycle,
    }
    busy["port"] = busy["load"] + busy["store"]
    bound = max(("matrix", "vector", "port"), key=lambda u: busy[u])
    cycles = int(busy[bound] * rng.uniform(1.02, 1.35)) + 200
    stalls = {}
    for unit in RESOURCE_NAMES:
        parts = rng.multinomial(cycles - busy[unit], rng.dirichlet(np.full(len(CAUSES), 0.25)))
        stalls[unit] = {cause: int(n) for cause, n in zip(CAUSES, parts, strict=True) if n}
    owner = {"port": "dram", "matrix": "array", "vector": "vector"}[bound]
    waited = cycles - busy[bound]
    components = {owner: busy[bound], "control": waited // 3}
    components["dram"] = components.get("dram", 0) + waited - waited // 3
    actions = rng.uniform(0.2, 1.0, len(ACTIONS)) * (dram_bytes + macs / 20 + cycles)
    value = actions * rng.uniform(0.5, 20, len(ACTIONS))
    return OpResult(
        name=name,
        kind=kind,
        layer=name.split("/")[0],
        phase=phase,
        parameters=parameters if phase == Phase.FORWARD else 0,
        macs=macs,
        vector_operations=2 * elements,
        cycles=cycles,
        roofline_cycles=max(macs // hw.pes, dram_bytes // hw.dram.bytes_per_cycle),
        dram_bytes=dram_bytes,
        peak_memory_bytes=live,
        busy_cycles=busy,
        stall_cycles=stalls,
        bound=bound,
        cycles_by_component=components,
        actions=actions,
        energy=np.stack([value, value * 0.6, value * 1.9]),
        mapping="tile 256 x 64 x 64, rows outermost",
        program=Program(np.zeros((0, FIELDS), np.int64), np.zeros((0, 4), np.int64)),
    )


def make_step(
    hardware: str | Accelerator = "edge-32x32-bf16", batch: int = 8, optimizer: str = "momentum"
) -> StepResult:
    """Make a step of a network like resnet18: nine blocks of convolution, normalisation and ReLU."""
    hw = load_accelerator(hardware) if isinstance(hardware, str) else hardware
    rng = np.random.default_rng(7)
    forward, backward, update = [], [], []
    stash = 0
    parameters_total = sum(9 * (CHANNELS[max(0, i - 1)] if i else 3) * c for i, c in enumerate(CHANNELS))
    for i, (c, pixels) in enumerate(zip(CHANNELS, PIXELS, strict=True)):
        inputs = CHANNELS[i - 1] if i else 3
        weights = 9 * inputs * c
        macs, elements = batch * pixels * weights, batch * pixels * c
        conv = f"layer{i}.0.conv" if i else "conv1"
        stash += 2 * elements
        rows = [("", "conv2d", Phase.FORWARD, macs), ("/dgrad", "conv2d_dgrad", Phase.DGRAD, macs if i else 0)]
        rows.append(("/wgrad", "conv2d_wgrad", Phase.WGRAD, macs))
        for suffix, kind, phase, work in rows:
            op = make_op(
                rng, hw, conv + suffix, kind, phase, macs=work, elements=elements, parameters=weights, live=stash
            )
            (forward if phase == Phase.FORWARD else backward).append(op)
        for kind in ("batch_norm", "relu"):
            layer = conv.replace("conv", kind)
            forward.append(make_op(rng, hw, layer, kind, Phase.FORWARD, elements=elements, live=stash))
            backward.append(
                make_op(rng, hw, f"{layer}/dgrad", f"{kind}_dgrad", Phase.DGRAD, elements=elements, live=stash)
            )
        update.append(
            make_op(rng, hw, f"{conv}/update", f"{optimizer}_update", Phase.UPDATE, elements=4 * weights, live=weights)
        )
    loss = make_op(rng, hw, "loss", "softmax_cross_entropy", Phase.FORWARD, elements=batch * 10, live=stash)
    ops = (*forward, loss, *reversed(backward), *update)
    live = np.array([op.peak_memory_bytes for op in ops])
    shares = np.array([[0.15, 0.15, 0.05, 0.4, 0.1]]) * live[:, None]
    parts = shares.astype(np.int64)
    columns = [*parts.T, live - parts.sum(axis=1)]
    return StepResult(
        model="fakenet",
        hardware=hw,
        batch=batch,
        optimizer=optimizer,
        parameters=parameters_total,
        forward_macs_per_sample=sum(op.macs for op in forward) // batch,
        ops=ops,
        memory_bytes=dict(zip(MEMORY_CATEGORIES, columns, strict=True)),
    )


def make_spans(step: StepResult, op_index: int, limit: int) -> tuple[Span, ...]:
    """Cut an op into equal commands in all four units."""
    cycles = step.ops[op_index].cycles
    pieces = max(1, limit // len(RESOURCE_NAMES))
    length = max(1, cycles // pieces)
    spans = [
        Span(unit, f"{unit} {i}", i * length, i * length + max(1, length // 2), (i + 1) * length)
        for i in range(min(pieces, cycles))
        for unit in RESOURCE_NAMES
    ]
    return tuple(spans[:limit])


@pytest.fixture(scope="session")
def fake_step() -> StepResult:
    """Give the made-up step; it is frozen, so tests share it."""
    return make_step()


@pytest.fixture
def fake_gemm() -> Callable[..., FakeGemm]:
    """Give a stand-in for `hwsim.simulate.gemm`."""

    def gemm(
        m: int, k: int, n: int, hardware: Accelerator, transpose_a: bool = False, transpose_b: bool = False
    ) -> FakeGemm:
        rng = np.random.default_rng(m)
        return FakeGemm(m, k, n, hardware, make_op(rng, hardware, "gemm", "matmul", Phase.FORWARD, macs=m * k * n))

    return gemm


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, fake_gemm: Callable[..., FakeGemm]) -> ModuleType:
    """Put stand-ins in the place of simulation, models and interval drivers; give the stand-in of `hwsim.simulate`."""
    simulate = ModuleType("hwsim.simulate")
    calls: list[dict[str, Any]] = []

    def step(
        graph: Graph,
        hardware: Accelerator,
        optimizer: str = "momentum",
        precision: Precision | None = None,
        energy_table: EnergyTable | None = None,
        recompute: str = "none",
    ) -> StepResult:
        call = {"graph": graph, "hardware": hardware, "optimizer": optimizer, "precision": precision}
        calls.append({**call, "energy_table": energy_table, "recompute": recompute})
        return make_step(hardware, graph.batch, optimizer)

    vars(simulate).update(simulate=step, gemm=fake_gemm, spans=make_spans, calls=calls)
    monkeypatch.setattr("hwsim.cli._say_if_compiling", lambda: None)  # stand-ins compile nothing

    def build(name: str, batch: int) -> Graph:
        tensors = {
            "conv1.weight": Tensor("conv1.weight", (64, 3, 3, 3), Role.WEIGHT),
            "fc.bias": Tensor("fc.bias", (10,), Role.VECTOR_PARAMETER),
            "x": Tensor("x", (batch, 8, 8, 3), Role.INPUT),
        }
        return Graph(name, batch, tensors, ())

    @dataclass(frozen=True)
    class Info:
        name: str
        description: str
        build: Callable[[int], Graph]

    models = ModuleType("hwsim_models")
    infos = {"fakenet": Info("fakenet", "nine blocks that nobody trained", lambda batch: build("fakenet", batch))}
    vars(models).update(MODELS=infos, build=build)
    monkeypatch.setitem(sys.modules, "hwsim.simulate", simulate)
    monkeypatch.setitem(sys.modules, "hwsim_models", models)
    monkeypatch.setattr(hwsim.energy, "drivers", fake_drivers, raising=False)
    return simulate
