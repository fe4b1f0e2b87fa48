"""The vector unit: a walk that reads lines, lanes that compute, and the write of what they give.

Normative: docs/contracts/cycles.md, section 2 (Vector), and docs/contracts/values.md, section 4; docs/rtl-vector.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.hardware import Accelerator
from hwsim.program import VectorOp
from hwsim_rtl.arithmetic.floats import SIGN
from hwsim_rtl.arithmetic.lfsr import lane_constant
from hwsim_rtl.control.control import UnitSignature
from hwsim_rtl.dma import Geometry
from hwsim_rtl.dma.align import bits_for
from hwsim_rtl.memory.accumulator import line_read, line_write
from hwsim_rtl.vector.command import ACROSS, vector_command
from hwsim_rtl.vector.lane import HOW, MEANINGS, Lane, limits
from hwsim_rtl.vector.laps import SPECIAL
from hwsim_rtl.vector.special import LapControl, SpecialLane
from hwsim_rtl.vector.stages import split
from hwsim_rtl.vector.walk import Walk

__all__ = ["VectorUnit"]

_LOWEST = 0xFF800000  # −inf, which is no maximum
_READS = ("a", "b", "c")
#: From the seed to the lanes: two registers to compare it with a lane's constant, and one before.
_SEED_CYCLES = 3


class VectorUnit(wiring.Component):
    """Runs vector commands: a group of lanes a cycle, each written so that it can be read λ cycles after its read.

    Latency: the first group is read two cycles after the start, and a command ends one cycle after its occupancy.
    Throughput: one group a cycle; a command occupies the unit for
    ``PASSES · (N₀ · max(N₁ · N₂ · ⌈COLUMNS/V⌉, h) + λ)`` cycles, and the next one follows at once. What makes laps
    stays longer (`hwsim.program.vector_cycles`).

    Parameters
    ----------
    hw : Accelerator
        Whose unit it is.
    geometry : Geometry, optional
        Of the accumulator; `Geometry.of(hw)` unless given.

    Raises
    ------
    HwsimError
        If `vector.latency_cycles` is too small.

    Members
    -------
    port : In(`UnitSignature` of `vector_command`)
        To the control.
    read_0, read_1, read_2 : Out(stream of `line_read`, always ready)
        Lines of A, B and C to read, of DST instead of C in sums over lines.
    line_0, line_1, line_2 : In(array of C words)
        What was read in the cycle before.
    write : Out(stream of `line_write`, always ready)
        Line to write.
    seed, seed_load : In(32), In(1)
        Seed of the random words of all lanes, and that they begin with it.
    """

    def __init__(self, hw: Accelerator, geometry: Geometry | None = None) -> None:
        self.hw, self.stages = hw, split(hw)
        self.geometry = g = geometry or Geometry.of(hw)
        self.formats = tuple(format for format in g.formats if format != "fp32")
        self.lanes = [Lane(hw.accumulator_format == "int32", self.formats, self.stages) for _ in range(hw.vector.lanes)]

        def given(layout: Any) -> Any:
            return Out(stream.Signature(layout, always_ready=True))

        super().__init__(
            {
                "port": In(UnitSignature(vector_command(hw))), "write": given(line_write(g)), "seed": In(32),
                "seed_load": In(1), **{f"read_{i}": given(line_read(g)) for i in range(len(_READS))},
                **{f"line_{i}": In(data.ArrayLayout(32, g.cols)) for i in range(len(_READS))},
            }
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Build it. What a command says stands still until its last group has passed; then comes the next one."""
        m = Module()
        m.submodules.walk = walk = Walk(self.hw)
        port = self.port
        m.d.comb += [
            walk.start.eq(port.command.valid & walk.ready),
            walk.next.eq(port.command.payload),
            port.command.ready.eq(walk.ready),
            port.idle.eq(~walk.busy),
            port.ended.eq(walk.last),
            port.post.eq(Mux(walk.last, walk.command.post, 0)),
        ]
        for i, name in enumerate(_READS):
            read = getattr(self, f"read_{i}")
            m.d.comb += [
                read.valid.eq(walk.valid & walk.command.reads[i]),
                read.payload.half.eq(walk.command.half),
                read.payload.fixed.eq(walk.command[name].fixed),
                read.payload.line.eq(walk.read.lines[name]),
            ]
        how, within = self._how(m, walk.command)
        operands, hits = self._operands(m, walk, within)
        self._compute(m, walk, how, operands, hits)
        self._write(m, walk, within)
        return m

    def _how(self, m: Module, command: Any) -> Any:
        """What lanes do, and which columns there are: from the second cycle of a command on, which is soon enough."""
        how, within = Signal(HOW), Signal(self.hw.array.cols)
        for name, ops in MEANINGS.items():
            m.d.sync += how[name].eq(_is(command, *ops))
        m.d.sync += [how[name].eq(command[name]) for name in ("integer", "rescale", "format", "exponent", "stochastic")]
        above, under = limits(command.scalar, command.scalar_2)
        m.d.sync += [how.low.eq(command.scalar), how.high.eq(command.scalar_2)]
        m.d.sync += [how.above.eq(above), how.under.eq(under)]
        m.d.sync += within.eq(Cat(command.columns > c for c in range(self.hw.array.cols)))
        return how, within

    def _operands(self, m: Module, walk: Any, within: Value) -> Any:
        """Take the operands of a group's lanes from the lines that were read in the cycle before."""
        lanes, command = self.hw.vector.lanes, walk.command
        # Memory is slow: the first of several registers is right behind it.
        at_memory = self.stages.operands // 2
        after = self.stages.operands - at_memory
        line_0, line_1, line_2 = (
            [_delayed(m, word, at_memory, f"line_{i}_{c}") for c, word in enumerate(getattr(self, f"line_{i}"))]
            for i in range(len(_READS))
        )
        early_group = _delayed(m, walk.read.group, 1, "early_group")
        group = _delayed(m, early_group, at_memory, "operand_group")
        lane = _delayed(m, walk.read.lane, 1 + at_memory, "operand_lane")
        word = Signal(32)
        m.d.comb += word.eq(_choose(line_1, lane))
        shared = Mux(command.by_scalar, command.scalar, word)
        across = Signal()
        m.d.sync += across.eq(_is(command, *ACROSS))
        m.submodules.laps = laps = LapControl(self.hw.vector.latency_cycles)
        m.d.comb += [
            laps.active.eq(_is(command, *SPECIAL)),
            laps.function.eq(command.opcode),
            laps.slot.eq(walk.slot),
            laps.lap.eq(walk.lap),
        ]
        special = Signal()
        m.d.sync += special.eq(laps.active)
        operands = []
        for v in range(lanes):
            b = Mux(across, self._partner(v, line_0, group, within, command), self._of_group(line_1, v, group))
            b = Mux(command.broadcasts, shared, b)
            line = (self._of_group(line_0, v, group), b, self._of_group(line_2, v, group))
            m.submodules[f"special_{v}"] = beside = SpecialLane(self.hw.vector.latency_cycles, self.stages.after)
            x = self._of_group(self.line_0, v, early_group)
            m.d.comb += [beside.x.eq(x), beside.z.eq(self.lanes[v].sum), beside.how.eq(laps.how)]
            given = (
                _delayed(m, word, at_memory, f"lap_{name}_{v}")
                for name, word in zip(_READS, (beside.a, beside.b, beside.c), strict=True)
            )
            found = [Mux(special, of_lap, of_line) for of_lap, of_line in zip(given, line, strict=True)]
            operands.append(
                [_delayed(m, value, after, f"{name}_operand_{v}") for name, value in zip(_READS, found, strict=True)]
            )
        # The label counts from the place of the group's first column on.
        place = _delayed(m, walk.read.place, 1 + self.stages.operands, "label_place")
        label = _delayed(m, word, after, "label")
        column = Signal(32)
        m.d.comb += column.eq(label - place)
        return operands, [column == v for v in range(lanes)]

    def _of_group(self, line: Any, v: int, group: Value) -> Value:
        """The word that a lane takes from a line; beyond its end nobody looks."""
        return _choose([line[c] for c in range(v, self.hw.array.cols, self.hw.vector.lanes)], group)

    def _partner(self, v: int, line: Any, group: Value, within: Value, command: Any) -> Value:
        """What is added to a lane's own word across lanes: the one `h` lanes on, or what changes nothing."""
        cols, lanes = self.hw.array.cols, self.hw.vector.lanes
        chosen: Value = C(0, 32)
        there: Value = C(0, 1)
        for number, own in enumerate(range(v, cols, lanes)):
            for halving in range((cols - 1).bit_length()):
                partner = own + (1 << halving)
                if own < 1 << halving and partner < cols:
                    takes = (group == number) & (command.more_passes == halving) & within[partner]
                    chosen = chosen | (line[partner] & takes.replicate(32))
                    there = there | takes
        nothing = Mux(command.opcode == VectorOp.SUM_LANES, SIGN, _LOWEST)
        return Mux(there, chosen, nothing)

    def _compute(self, m: Module, walk: Any, how: Any, operands: Any, hits: Any) -> None:
        """Give the lanes their operands; every lane draws a word for every group, one without a column too."""
        if self.formats:
            # The way to all lanes is long, and what a lane's state must not be is found on the way.
            seeds = [self.seed, *(Signal(32, name=f"seed_{i}", reset_less=True) for i in range(1, _SEED_CYCLES + 1))]
            m.d.sync += [later.eq(seed) for seed, later in pairwise(seeds)]
            seed_load = _delayed(m, self.seed_load, _SEED_CYCLES, "seed_load", reset=True)
            valid = walk.writes & walk.command.stochastic
            draw = _delayed(m, valid, 1 + self.stages.operands + self.lanes[0].draw_cycles, "draw", reset=True)
        for v, lane in enumerate(self.lanes):
            m.submodules[f"lane_{v}"] = lane
            m.d.comb += [getattr(lane, name).eq(value) for name, value in zip(_READS, operands[v], strict=True)]
            m.d.comb += [lane.hit.eq(hits[v]), lane.how.eq(how)]
            if self.formats:
                constant = lane_constant(v)
                differs = Cat((seeds[1] ^ constant)[i : i + 4].any() for i in range(0, 32, 4))
                equal = _delayed(m, ~_delayed(m, differs, 1, f"seed_differs_{v}").any(), 1, f"seed_equal_{v}")
                first = (seeds[_SEED_CYCLES] ^ constant) | Mux(equal, constant, 0)
                m.d.comb += [lane.load.eq(seed_load), lane.first.eq(first), lane.draw.eq(draw)]

    def _write(self, m: Module, walk: Any, within: Value) -> None:
        """Write the lanes' results into their columns of the line, one cycle before it can be read."""
        to, command, cycles = self.write.payload, walk.command, 1 + self.stages.last
        group = _delayed(m, walk.target.group, cycles, "write_group")
        m.d.comb += [
            self.write.valid.eq(_delayed(m, walk.writes, cycles, "write_valid", reset=True)),
            to.half.eq(command.half),
            to.fixed.eq(command.dst.fixed),
            to.line.eq(_delayed(m, walk.target.line, cycles, "write_line")),
        ]
        for c in range(self.hw.array.cols):
            number, v = divmod(c, self.hw.vector.lanes)
            m.d.comb += [to.enable[c].eq(within[c] & (group == number)), to.words[c].eq(self.lanes[v].z)]


def _choose(items: Sequence[Value], index: Value) -> Value:
    """The item of an index, by a tree: it is the fewest levels, and Yosys writes a case as a function of odd names."""
    if len(items) == 1:
        return items[0]
    bit = bits_for(len(items)) - 1
    return Mux(index[bit], _choose(items[1 << bit :], index), _choose(items[: 1 << bit], index))


def _is(command: Any, *ops: VectorOp) -> Value:
    return command.opcode.matches(*(int(op) for op in ops))


def _delayed(m: Module, value: Value, cycles: int, name: str, *, reset: bool = False) -> Value:
    for i in range(1, cycles + 1):
        older = Signal(value.shape(), name=f"{name}_{i}", reset_less=not reset)
        m.d.sync += older.eq(value)
        value = older
    return value
