"""Do the laps of a lane in Verilog give the bits of `hwsim.numerics.exp`, `log`, `reciprocal`, `reciprocal_root`?"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim import numerics
from hwsim.program import LAP_ENTRY_CYCLES, VECTOR_OPS, VectorOp
from hwsim_rtl.dma.align import bits_for
from hwsim_rtl.vector import Lane, LapControl, SpecialLane, Stages
from hwsim_rtl.vector.laps import LAP_BITS, LAPS, SPECIAL


def _beside(path, name):
    """A module of the tests; pytest's importlib mode leaves test folders off the path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


vectors = _beside("vectors.py", "rtl_vectors")
cases = _beside("../numerics/cases.py", "numerics_cases")

FUNCTIONS = {
    VectorOp.EXP: numerics.exp, VectorOp.LOG: numerics.log, VectorOp.RECIPROCAL: numerics.reciprocal,
    VectorOp.RECIPROCAL_ROOT: numerics.reciprocal_root,
}  # fmt: skip
#: By λ: the registers of a lane, and random operands of each function.
MACHINES = {3: (Stages(0, 0, 1, 0), 10_000), 6: (Stages(1, 1, 1, 1), 10_000), 12: (Stages(1, 2, 4, 3), 110_000)}


class Laps(wiring.Component):
    """A lane and what is beside it; rows say which group begins which lap. Latency λ + 2 from a group's last one."""

    def __init__(self, latency_cycles, stages):
        self.latency_cycles, self.stages = latency_cycles, stages
        self.latency = latency_cycles - 1 + LAP_ENTRY_CYCLES
        slot = bits_for(latency_cycles)
        super().__init__({"x": In(32), "function": In(2), "slot": In(slot), "lap": In(LAP_BITS), "z": Out(32)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.control = control = LapControl(self.latency_cycles)
        m.submodules.special = special = SpecialLane(self.latency_cycles, self.stages.after)
        m.submodules.lane = lane = Lane(False, (), self.stages)
        m.d.comb += [
            control.active.eq(1),
            control.function.eq(self.function),
            control.slot.eq(self.slot),
            control.lap.eq(self.lap),
            special.z.eq(lane.sum),
            special.how.eq(control.how),
            lane.how.product.eq(1),
            lane.how.of_c.eq(1),
            self.z.eq(lane.z),
        ]
        m.d.sync += special.x.eq(self.x)
        for name in "abc":
            operand = getattr(special, name)
            for i in range(self.stages.operands):
                later = Signal(32, name=f"{name}_{i}")
                m.d.sync += later.eq(operand)
                operand = later
            m.d.comb += getattr(lane, name).eq(operand)
        return m


def near(words, distance=2):
    """Words and their neighbours."""
    words = np.asarray(words, np.int64)
    return np.concatenate([words + d for d in range(-distance, distance + 1)]) & 0xFFFFFFFF


def operands(rng, size):
    """Special ones; powers of two, borders of tables with many exponents, limits of exp; random ones."""
    borders = near([field << 23 | i << 15 for field in (1, 2, 126, 127, 128, 129, 253, 254) for i in range(256)], 1)
    powers = near([field << 23 for field in range(256)])
    steps = np.arange(-8200, 8300) * (np.log(2) / 64)
    steps = np.concatenate([steps, steps + np.log(2) / 128]).astype(np.float32).view(np.uint32)
    limits = near(np.array([89, 88, 88.722839, 88.0296919, 87.33654, 0.5], np.float32).view(np.uint32), 40)
    positive = np.concatenate([borders, powers, limits]) & 0x7FFFFFFF
    directed = np.concatenate([positive, positive | 1 << 31, steps, cases.directed("fp32")])
    usual = (rng.standard_normal(size // 2) * 20).astype(np.float32).view(np.uint32)
    return np.concatenate([directed, usual, rng.integers(0, 1 << 32, size - size // 2)]).astype(np.int64)


def rows(latency_cycles, laps, x):
    """Operands in blocks of λ rows, each block so often as there are laps; places and laps of the rows."""
    blocks = -(-len(x) // latency_cycles)
    given = np.zeros((blocks, laps, latency_cycles), np.int64)
    given[:, 0].flat[: len(x)] = x
    given[:, 1:] = np.random.default_rng(3).integers(0, 1 << 32, given[:, 1:].shape)  # nobody looks
    slot, lap = (np.broadcast_to(a, given.shape).ravel() for a in (np.arange(latency_cycles), np.arange(laps)[:, None]))
    return given.ravel(), slot, lap


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(14)
    return {latency: {op: operands(rng, size) for op in SPECIAL} for latency, (_, size) in MACHINES.items()}


@pytest.fixture(scope="module")
def found(given, request):
    groups, columns = {}, {}
    for latency, (stages, _) in MACHINES.items():
        groups[f"laps_{latency}"] = [Laps(latency, stages)]
        parts = []
        for op, x in given[latency].items():
            part = rows(latency, len(LAPS[op]), x)
            parts.append((*part, np.full(len(part[0]), int(op) & 3)))
            gap = np.zeros(latency + 8, np.int64)  # a command's results are out before the next one comes
            parts.append((gap, gap, gap, gap + (int(op) & 3)))
        columns[f"laps_{latency}"] = {
            name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(("x", "slot", "lap", "function"))
        }
    results = vectors.run(groups, columns, Path(request.config.cache.mkdir("hwsim-models")))
    return columns, {latency: results[f"laps_{latency}"][0]["z"] for latency in MACHINES}


@pytest.mark.parametrize("op", SPECIAL)
@pytest.mark.parametrize("latency", MACHINES)
def test_laps_give_the_bits_of_the_function(given, found, op, latency):
    columns, results = found
    column, x = columns[f"laps_{latency}"], given[latency][op]
    last = (column["lap"] == len(LAPS[op]) - 1) & (column["function"] == int(op) & 3)
    assert x.size >= 100_000 or latency < 12
    got = results[latency][last][: x.size]
    want = FUNCTIONS[op](x.astype(np.uint32).view(np.float32)).view(np.uint32)
    wrong = np.flatnonzero(got != want)
    assert not wrong.size, [f"{x[i]:08x}: {got[i]:08x}, not {want[i]:08x}" for i in wrong[:10]]


def test_laps_are_as_many_as_the_contract_says():
    assert {op: len(laps) for op, laps in LAPS.items()} == {op: VECTOR_OPS[op].laps for op in SPECIAL}
