"""The matrix unit: it feeds an array with folds and adds what comes out to the accumulator.

Normative: docs/contracts/cycles.md, section 2 (Matrix), and docs/contracts/values.md, section 3; docs/rtl-matrix.md.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.hardware.formats import array_formats
from hwsim.program import SCRATCHPAD_READ_CYCLES
from hwsim_rtl.arithmetic import Adder
from hwsim_rtl.arithmetic.floats import FP8_OPERAND
from hwsim_rtl.array import OutputStationaryArray, StationaryArray
from hwsim_rtl.array.skew import delayed
from hwsim_rtl.control.control import UnitSignature, all_ended
from hwsim_rtl.control.semaphores import SEMAPHORES
from hwsim_rtl.dma import Geometry
from hwsim_rtl.matrix.command import ENDLESS, levels_of, matrix_command
from hwsim_rtl.matrix.folds import OutputFolds, StationaryFolds, sum_tag
from hwsim_rtl.matrix.operands import Fp8Operand
from hwsim_rtl.matrix.walk import Walk
from hwsim_rtl.memory.accumulator import sum_access
from hwsim_rtl.memory.scratchpad import scratchpad_read

__all__ = ["MatrixUnit"]

#: From a read's address to its use.
_READ_CYCLES = SCRATCHPAD_READ_CYCLES
_NEGATIVE_ZERO = 1 << 31


class MatrixUnit(wiring.Component):
    """Runs matrix commands: one vector of each operand a cycle, one line of sums a cycle.

    The first operand is addressed in the cycle after the start *s*; a command ends ``(F − 1) · I + L + T_s`` cycles
    after it, and the next one may start ``F · I`` cycles after it.

    Parameters
    ----------
    hw : Accelerator
        Whose unit it is.

    Raises
    ------
    HwsimError
        If `accumulator.add_latency_cycles` leaves no cycle for a sum of floating-point numbers.

    Members
    -------
    port : In(`UnitSignature` of `matrix_command`)
        To the control.
    read_a, read_b : Out(stream of `scratchpad_read`, always ready)
        Reads of the operands.
    data_a, data_b : In(array of D elements)
        What was read `SCRATCHPAD_READ_CYCLES` before.
    sums : Out(stream of `sum_access`, always ready)
        Line that column 0 adds to in the next cycle.
    old, due, replaces : In(array of C words), In(C), In(C)
        As the accumulator gives them.
    new : Out(array of C words)
        Sums to write, β − 1 cycles after `old`.
    """

    def __init__(self, hw: Accelerator) -> None:
        self.hw, self.geometry, self.layout = hw, Geometry.of(hw), matrix_command(hw)
        self.add_latency_cycles = hw.accumulator.add_latency_cycles - 1
        if hw.accumulator_format != "int32" and self.add_latency_cycles < 1:
            raise HwsimError(
                f"{hw.name}: accumulator.add_latency_cycles must be at least 2 cycles for the RTL, one to read a sum "
                f"and one to add to it, where sums are {hw.accumulator_format}, not "
                f"{hw.accumulator.add_latency_cycles}"
            )
        g = self.geometry
        words = data.ArrayLayout(32, g.cols)
        read = Out(stream.Signature(scratchpad_read(g), always_ready=True))
        elements = In(data.ArrayLayout(g.operand_bits, g.deep))
        super().__init__(
            {
                "port": In(UnitSignature(self.layout)), "read_a": read, "read_b": read, "data_a": elements,
                "data_b": elements, "sums": Out(stream.Signature(sum_access(g), always_ready=True)),
                "old": In(words), "due": In(g.cols), "replaces": In(g.cols), "new": Out(words),
            }
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        takes, endless = levels_of(self.hw), ENDLESS[self.hw.array.dataflow]
        walks = {side: Walk(self.geometry, takes[i], endless=endless[i]) for i, side in enumerate("ab")}
        for side, walk in walks.items():
            m.submodules[f"walk_{side}"] = walk
        build = self._output_stationary if self.hw.array.dataflow == "os" else self._stationary
        folds, sums, ends = build(m, walks)
        start = Signal()
        m.d.comb += [
            start.eq(self.port.command.valid & folds.ready),
            folds.start.eq(start),
            folds.command.eq(self.port.command.payload),
            self.port.command.ready.eq(folds.ready),
        ]
        self._add(m, sums)
        self._end(m, start, ends)
        return m

    @property
    def _operand_format(self) -> str:
        """Format of the array's operands."""
        return FP8_OPERAND if len(array_formats(self.hw.array.operand_format)) > 1 else self.hw.array.operand_format

    def _operands(self, m: Module, side: str, walk: Walk, count: int) -> Value:
        """The first elements of what was read, in the cycle in which the array takes them."""
        elements = [getattr(self, f"data_{side}")[i] for i in range(count)]
        if self._operand_format != FP8_OPERAND:
            return Cat(elements)
        e5m2 = delayed(m, walk.walk.e5m2, _READ_CYCLES, name=f"{side}_e5m2")
        widened = []
        for i, element in enumerate(elements):
            m.submodules[f"{side}_{i}"] = operand = Fp8Operand()
            m.d.comb += [operand.x.eq(element), operand.e5m2.eq(e5m2)]
            widened.append(operand.y)
        return Cat(widened)

    def _read(self, m: Module, side: str, walk: Walk, valid: Value, wanted: Value) -> None:
        """Read at the present place; lines that are not needed are not touched."""
        read = getattr(self, f"read_{side}")
        m.d.comb += [
            read.valid.eq(valid),
            read.payload.place.line.eq(walk.line),
            read.payload.place.lane.eq(walk.lane),
            read.payload.row.eq(walk.row),
            read.payload.by_lane.eq(walk.walk.by_lane),
            read.payload.idle.eq(self.geometry.deep - wanted),
            read.payload.wrap.eq(Mux(walk.lane + wanted > self.geometry.deep, walk.walk.lines, 0)),
            walk.step.eq(valid),
        ]

    def _stationary(self, m: Module, walks: Any) -> Any:
        """One operand stays, the other moves; gives the folds, what is said of sums, and the last of each command."""
        hw, array = self.hw, self.hw.array
        weights_stay = array.dataflow == "ws"
        stays, moves = "ba" if weights_stay else "ab"
        m.submodules.folds = folds = StationaryFolds(hw)
        m.submodules.array = unit = StationaryArray(
            array.rows, array.cols, self._operand_format, self._operand_format,
            add_latency_cycles=array.add_latency_cycles, multiply_latency_cycles=array.multiply_latency_cycles,
            tag_bits=sum_tag(hw).size, lead_cycles=1,
        )  # fmt: skip
        m.d.comb += [
            walks[stays].load.eq(folds.ready), walks[stays].next.eq(folds.command[stays]),
            walks[moves].load.eq(folds.begins), walks[moves].next.eq(folds.held[moves]),
        ]  # fmt: skip
        self._read(m, stays, walks[stays], folds.loads, array.cols - folds.idle)
        self._read(m, moves, walks[moves], folds.moves, folds.moving_rows)

        def later(value: Value, name: str) -> Value:
            return delayed(m, value, _READ_CYCLES, name=name, reset_less=name not in ("load", "vector"))

        m.d.comb += [
            unit.load_valid.eq(later(folds.loads, "load")),
            unit.load_row.eq(later(folds.row, "load_row")),
            unit.load_register.eq(later(folds.register, "load_register")),
            unit.load_operands.eq(self._operands(m, stays, walks[stays], array.cols)),
            unit.vector_valid.eq(later(folds.moves, "vector")),
            unit.vector_rows.eq(later(folds.moving_rows, "vector_rows")),
            unit.vector_register.eq(later(folds.moving_register, "vector_register")),
            unit.vector_tag.eq(later(folds.tag.as_value(), "vector_tag")),
            unit.vector_operands.eq(self._operands(m, moves, walks[moves], array.rows)),
        ]
        tag = Signal(sum_tag(hw))
        m.d.comb += [
            tag.eq(unit.sum_tag[: tag.shape().size]),
            self.sums.valid.eq(unit.sum_valid[0]),
            *(self.sums.payload[name].eq(tag[name]) for name in ("half", "line", "adds", "idle")),
        ]
        return folds, unit.sums, unit.sum_valid[0] & tag.last

    def _output_stationary(self, m: Module, walks: Any) -> Any:
        """Both operands move; gives the folds, what is said of sums, and the last of each command."""
        hw, array = self.hw, self.hw.array
        m.submodules.folds = folds = OutputFolds(hw)
        layout = folds.tag.shape()
        m.submodules.array = unit = OutputStationaryArray(
            array.rows, array.cols, self._operand_format, self._operand_format,
            add_latency_cycles=array.add_latency_cycles, multiply_latency_cycles=array.multiply_latency_cycles,
            accumulator_latency_cycles=hw.accumulator.add_latency_cycles, tag_bits=layout.size, lead_cycles=1,
        )  # fmt: skip
        for side in "ab":
            m.d.comb += [walks[side].load.eq(folds.ready), walks[side].next.eq(folds.command[side])]
        self._read(m, "a", walks["a"], folds.reads, folds.tag.rows)
        self._read(m, "b", walks["b"], folds.reads, array.cols - folds.tag.idle)

        def later(value: Value, name: str) -> Value:
            return delayed(m, value, _READ_CYCLES, name=name, reset_less=name in ("pad", "tag"))

        m.d.comb += [
            unit.first.eq(later(folds.first, "first")),
            unit.last.eq(later(folds.last, "last")),
            unit.pad.eq(later(folds.pads, "pad")),
            unit.tag.eq(later(folds.tag.as_value(), "tag")),
            unit.a.eq(self._operands(m, "a", walks["a"], array.rows)),
            unit.b.eq(self._operands(m, "b", walks["b"], array.cols)),
        ]
        tag, row, line = Signal(layout), unit.sum_row[: unit.row_bits], self.sums.payload.line
        before = Signal.like(line, name="line_before")
        m.d.comb += [
            tag.eq(unit.sum_tag[: layout.size]),
            line.eq(Mux(row == array.rows - 1, tag.top, before - tag.line_step)),
            self.sums.valid.eq(unit.sum_valid[0] & (row < tag.rows)),
            self.sums.payload.half.eq(tag.half),
            self.sums.payload.adds.eq(tag.adds | ~unit.sum_first[0]),
            self.sums.payload.idle.eq(tag.idle),
        ]
        with m.If(unit.sum_valid[0]):  # a pause after a block must not count
            m.d.sync += before.eq(line)
        return folds, unit.sums, unit.sum_valid[0] & unit.sum_last[0] & (row == 0) & tag.last

    def _add(self, m: Module, sums: Value) -> None:
        """Add sums to what is there. What replaces is added to the number that changes none."""
        cols = self.geometry.cols
        integers = self.hw.accumulator_format == "int32"
        for c in range(cols):
            given = sums.word_select(c, 32)
            if self.geometry.skewed:  # a line arrives at once, with its last column
                given = delayed(m, given, cols - 1 - c, name=f"deskew_{c}")
            old = Mux(self.replaces[c], 0 if integers else _NEGATIVE_ZERO, self.old[c])
            if self.add_latency_cycles == 0:
                m.d.comb += self.new[c].eq(old + given)
                continue
            # Memory is slow: the first of several registers is right behind it.
            at_memory = int(self.add_latency_cycles > 1)
            old, given = (
                delayed(m, value, at_memory, name=f"{name}_{c}") for name, value in (("old", old), ("given", given))
            )
            latency = self.add_latency_cycles - at_memory
            m.submodules[f"adder_{c}"] = adder = Adder("int32" if integers else "fp32", latency)
            m.d.comb += [adder.x.eq(old), adder.y.eq(given), self.new[c].eq(adder.z)]

    def _end(self, m: Module, start: Value, last: Value) -> None:
        """End each command in the cycle of its last write, and give out what it posts; several are under way."""
        later = self.geometry.cols + self.add_latency_cycles
        ended = delayed(m, last, later, name="ends", reset_less=False)
        m.submodules.posts = posts = fifo.SyncFIFO(width=SEMAPHORES, depth=self._most_commands)
        m.d.comb += [
            posts.w_en.eq(start),
            posts.w_data.eq(self.port.command.payload.post),
            posts.r_en.eq(ended),
            self.port.post.eq(Mux(ended, posts.r_data, 0)),
            self.port.ended.eq(ended),
            self.port.idle.eq(all_ended(m, start, ended, self._most_commands)),
        ]

    @property
    def _most_commands(self) -> int:
        """How many commands are under way at once, at most."""
        a, beta = self.hw.array, self.hw.accumulator.add_latency_cycles
        if a.dataflow == "os":
            block = a.add_latency_cycles * max(a.rows, beta)
            shortest = block
            tail = _READ_CYCLES + a.multiply_latency_cycles + a.add_latency_cycles + a.rows + a.cols + block + beta
        else:
            shortest = max(1, (a.rows - 1) * (a.add_latency_cycles - 1), beta)
            tail = 1 + _READ_CYCLES + a.multiply_latency_cycles + a.add_latency_cycles * a.rows + a.cols + beta
        return tail // shortest + 3
