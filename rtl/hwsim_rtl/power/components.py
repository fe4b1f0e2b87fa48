"""What is measured: the PE of an array, a vector lane and units of it, an address adder, a skew register."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.energy.operands import Words, array_format
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, Dataflow
from hwsim.numerics import to_format
from hwsim.program import VectorOp
from hwsim_rtl.arithmetic import Adder, Multiplier
from hwsim_rtl.array.pe import StationaryPE
from hwsim_rtl.array.skew import delayed
from hwsim_rtl.dma.box import Geometry
from hwsim_rtl.power.activity import LANES
from hwsim_rtl.power.streams import Stream
from hwsim_rtl.vector.lane import HOW, MEANINGS, Lane
from hwsim_rtl.vector.stages import split
from hwsim_rtl.verilog import emit

__all__ = [
    "SKEW_CYCLES",
    "Component",
    "lane_component",
    "lane_streams",
    "pe_component",
    "skew_component",
    "small_components",
    "words_stream",
]

#: Registers of the skew line that is measured.
SKEW_CYCLES = 4
#: Cycles in which the registers of a lane's units fill.
_WARM_CYCLES = 16


@dataclass(frozen=True)
class Component:
    """A part of the machine to be measured.

    Attributes
    ----------
    name : str
        What reports call it.
    text, top : str
        Verilog and its top module.
    parts : tuple of str
        Instances in it that are told apart.
    feeds : mapping of str to str
        Output port by input port of a neighbour of the same kind (`hwsim_rtl.power.gates.Weights.of`).
    """

    name: str
    text: str
    top: str
    parts: tuple[str, ...] = ()
    feeds: Mapping[str, str] = field(default_factory=dict)


def pe_component(hw: Accelerator) -> Component:
    """Give the PE of a weight- or input-stationary array.

    Raises
    ------
    HwsimError
        If the array is output-stationary: its streams are not made yet.
    """
    if hw.array.dataflow is Dataflow.OUTPUT_STATIONARY:
        raise HwsimError(
            f"{hw.name}: the PE of a weight- or input-stationary array can be measured, not that of an "
            "output-stationary one; take --dataflow ws or is"
        )
    format = array_format(hw)
    pe = StationaryPE(
        format, format, add_latency_cycles=hw.array.add_latency_cycles,
        multiply_latency_cycles=hw.array.multiply_latency_cycles,
    )  # fmt: skip
    feeds = {name: f"{name}_east" for name in ("moving", "select", "active", "load")}
    return Component("PE", emit(pe), pe.module_name, ("multiplier", "adder"), {**feeds, "sum_north": "sum_south"})


def skew_component() -> Component:
    """Give a line of `SKEW_CYCLES` registers, one byte wide."""
    return Component("skew register", emit(_SkewLine(), "SkewLine"), "SkewLine", (), {"x": "y"})


def small_components(hw: Accelerator) -> dict[tuple[str, str, str], Component]:
    """Give the units of a vector lane and of an address generator by the row of the energy table that they are for."""
    stages = split(hw)
    units = {
        ("mac_mul", "mul", "fp32"): ("multiplier of a lane", Multiplier("fp32", "fp32", stages.before)),
        ("mac_add", "add", "fp32"): ("adder of a lane", Adder("fp32", stages.add)),
        ("mac_add", "add", "int32"): ("32-bit adder", Adder("int32", 1)),
    }
    return {key: Component(name, emit(unit), unit.module_name) for key, (name, unit) in units.items()}


def lane_component(hw: Accelerator) -> Component:
    """Give one lane of the vector unit, with all that it can do."""
    formats = tuple(format for format in Geometry.of(hw).formats if format != "fp32")
    lane = Lane(hw.accumulator_format == "int32", formats, split(hw))
    return Component("vector lane", emit(lane), lane.module_name)


def lane_streams(rng: np.random.Generator, cycles: int = 128) -> list[Stream]:
    """Give what a lane does on normal fp32 numbers: nothing, then an operation in every cycle."""
    cycles += _WARM_CYCLES
    found = [_stream("idle", {"a": np.zeros((cycles, LANES), np.uint64)})]
    for op in (VectorOp.ADD, VectorOp.MULTIPLY, VectorOp.MULTIPLY_ADD):
        how = HOW.const({name: int(op in ops) for name, ops in MEANINGS.items()}).as_value().value
        numbers = {name: _normal(rng, (cycles, LANES)) for name in ("a", "b", "c")}
        found.append(_stream(op.name.lower().replace("_", "-"), {**numbers, "how": how}))
    return found


def words_stream(row: tuple[str, str, str], rng: np.random.Generator, cycles: int = 128) -> Stream:
    """Give the operands of a unit of `small_components`: normal numbers, or addresses that go on by strides."""
    cycles += _WARM_CYCLES
    shape = (cycles, LANES)
    if row[2] == "int32":
        strides = rng.integers(1, 1 << 12, LANES).astype(np.uint64)
        places = (np.arange(cycles, dtype=np.uint64)[:, None] * strides) & np.uint64(0xFFFFFFFF)
        return _stream("addresses", {"x": places, "y": np.broadcast_to(strides, shape).copy()})
    names = ("a", "b") if row[1] == "mul" else ("x", "y")
    return _stream("random", {name: _normal(rng, shape) for name in names})


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> Words:
    """Bits of normal fp32 numbers."""
    bits: Words = to_format(rng.normal(size=shape).astype(np.float32), "fp32").view(np.uint32).astype(np.uint64)
    return bits


def _stream(name: str, words: Mapping[str, Words | int]) -> Stream:
    return Stream(name, "made", words, _WARM_CYCLES, np.zeros((LANES, 0)))


class _SkewLine(wiring.Component):
    """A byte, `SKEW_CYCLES` cycles later.

    Members
    -------
    x, y : In, Out (8)
        The byte.
    """

    def __init__(self) -> None:
        super().__init__({"x": In(8), "y": Out(8)})

    def elaborate(self, platform: object) -> Module:
        """Chain the registers."""
        m = Module()
        m.d.comb += self.y.eq(delayed(m, self.x, SKEW_CYCLES, name="line"))
        return m
