"""Which fold of which command is made in a cycle, and what is said of the sums that it gives.

Normative: docs/contracts/cycles.md, section 2 (Matrix); docs/rtl-matrix.md.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwsim.hardware import Accelerator
from hwsim_rtl.dma import Geometry
from hwsim_rtl.dma.align import bits_for
from hwsim_rtl.dma.box import COUNT_BITS
from hwsim_rtl.matrix.command import matrix_command

__all__ = ["OutputFolds", "StationaryFolds", "output_tag", "sum_tag"]


def sum_tag(hw: Accelerator) -> data.StructLayout:
    """What is said of a line of sums: where it goes, and that it is its command's `last`."""
    g = Geometry.of(hw)
    return data.StructLayout({"half": 1, "line": g.line_bits, "adds": 1, "idle": bits_for(g.cols), "last": 1})


def output_tag(hw: Accelerator) -> data.StructLayout:
    """What is said of all sums of a fold.

    `top` is the line of the array's last row, `line_step` the step to the row before; `rows` count. `last`: it is its
    command's last fold.
    """
    g = Geometry.of(hw)
    rows = bits_for(hw.array.rows + 1)
    return data.StructLayout(
        {
            "half": 1, "top": g.line_bits, "line_step": g.line_bits, "rows": rows, "adds": 1,
            "idle": bits_for(g.cols), "last": 1,
        }
    )  # fmt: skip


class _Folds(wiring.Component):
    """Count folds and their cycles.

    Members
    -------
    start : In(1), command : In(`matrix_command`)
        Begin this command's first fold in the next cycle; only while `ready`. Until then the command may be anything.
    ready : Out(1)
        This is the last cycle of the last fold, or nothing goes on.
    held : Out(`matrix_command`)
        The present command; it means nothing without one.
    """

    def __init__(self, hw: Accelerator, members: Any) -> None:
        self.hw, self.layout = hw, matrix_command(hw)
        super().__init__(
            {
                "start": In(1), "command": In(self.layout), "ready": Out(1, init=1), "held": Out(self.layout),
                **members,
            }
        )  # fmt: skip

    def _count(self, m: Module) -> tuple[Value, Value, Value]:
        """Give whether a fold goes on, whether this cycle is its last, and whether it is the command's last."""
        busy, tick, fold = Signal(), Signal(COUNT_BITS), Signal(COUNT_BITS)
        tick_last, fold_last = Signal(), Signal()
        # The control hears of it from a register: `~busy | (tick_last & fold_last)` of the next cycle. As the way from
        # the start is long, what means nothing without a command is taken in every cycle in which one may start.
        with m.If(self.ready):
            single = (self.command.interval == 1) & (self.command.folds == 1)
            m.d.sync += [
                self.ready.eq(~self.start | single),
                self.held.eq(self.command),
                busy.eq(self.start),
                tick.eq(self.command.interval),
                tick_last.eq(self.command.interval == 1),
                fold.eq(self.command.folds),
                fold_last.eq(self.command.folds == 1),
            ]
        with m.Elif(tick_last):
            m.d.sync += [
                tick.eq(self.held.interval),
                tick_last.eq(self.held.interval == 1),
                fold.eq(fold - 1),
                fold_last.eq(fold == 2),
                self.ready.eq((self.held.interval == 1) & (fold == 2)),
            ]
        with m.Else():
            m.d.sync += [tick.eq(tick - 1), tick_last.eq(tick == 2), self.ready.eq((tick == 2) & fold_last)]
        return busy, tick_last, fold_last


class StationaryFolds(_Folds):
    """Folds of a weight- or input-stationary array: rows that stay are read from a fold's first cycle on, vectors that
    move from its second cycle on.

    Parameters
    ----------
    hw : Accelerator
        Its array.

    Members
    -------
    loads, row, register : Out(1), Out(row), Out(1)
        A row that stays is read, its number, and the register that takes it.
    idle : Out
        Columns of the fold that lie beyond the tile.
    begins : Out(1)
        First cycle of a command's first fold.
    moves, moving_rows, moving_register : Out(1), Out(count), Out(1)
        A vector that moves is read, how many of its elements count, and the register that it is multiplied by.
    tag : Out(`sum_tag`)
        Of its sums.
    """

    def __init__(self, hw: Accelerator) -> None:
        rows, cols = hw.array.rows, hw.array.cols
        super().__init__(
            hw,
            {
                "loads": Out(1), "row": Out(range(rows)), "register": Out(1), "idle": Out(bits_for(cols)),
                "begins": Out(1), "moves": Out(1), "moving_rows": Out(range(rows + 1)), "moving_register": Out(1),
                "tag": Out(sum_tag(hw)),
            },
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        busy, tick_last, fold_last = self._count(m)
        rows, cols = self.hw.array.rows, self.hw.array.cols
        command, held, start, ready = self.command, self.held, self.start, self.ready
        next_fold = Signal()
        m.d.comb += next_fold.eq(busy & tick_last & ~fold_last)

        # Runs of the reduction inside, blocks of columns outside. What a fold takes of each is known with its first
        # cycle: it is on the way to the scratchpad.
        fold_rows, fold_columns = Signal(range(rows + 1)), Signal(range(cols + 1))
        segment_ends = _runs(m, "segment", rows, ready, command.segment, next_fold, fold_rows)
        segments, last_segment, block_ends = Signal(COUNT_BITS), Signal(), Signal()
        m.d.comb += block_ends.eq(segment_ends & last_segment)
        _runs(m, "columns", cols, ready, command.columns, next_fold & block_ends, fold_columns)
        first, base = Signal(), Signal.like(self.tag.line, name="base")
        with m.If(ready):
            m.d.sync += [
                segments.eq(command.segments),
                last_segment.eq(command.segments == 1),
                first.eq(1),
                base.eq(0),
            ]
        with m.Elif(next_fold):
            m.d.sync += first.eq(block_ends)
            with m.If(segment_ends):
                m.d.sync += [
                    segments.eq(Mux(last_segment, held.segments, segments - 1)),
                    last_segment.eq(Mux(last_segment, held.segments == 1, segments == 2)),
                ]
            with m.If(block_ends):
                m.d.sync += base.eq(base + (1 if self.hw.array.dataflow == "ws" else held.stream))
        m.d.comb += self.idle.eq(cols - fold_columns)

        fresh = Signal()  # first cycle of a fold
        m.d.sync += fresh.eq(start | next_fold)
        m.d.sync += self.begins.eq(start)
        with m.If(start | next_fold):
            m.d.sync += [self.loads.eq(1), self.row.eq(0), self.register.eq(~self.register)]
        with m.Elif(self.loads):
            m.d.sync += [self.loads.eq(self.row + 1 != fold_rows), self.row.eq(self.row + 1)]

        left, tag = Signal(COUNT_BITS), self.tag
        ends, last_fold, step = Signal(), Signal(), Signal.like(self.held.line_step, name="moving_line_step")
        m.d.comb += tag.last.eq(ends & last_fold)
        with m.If(fresh):
            m.d.sync += [
                self.moves.eq(1), left.eq(held.stream), ends.eq(held.stream == 1), last_fold.eq(fold_last),
                self.moving_rows.eq(fold_rows), self.moving_register.eq(self.register), step.eq(held.line_step),
                tag.half.eq(held.half), tag.line.eq(base), tag.adds.eq(held.adds | ~first), tag.idle.eq(self.idle),
            ]  # fmt: skip
        with m.Elif(self.moves):
            m.d.sync += [
                self.moves.eq(~ends), left.eq(left - 1), ends.eq(left == 2), tag.line.eq(tag.line + step),
            ]  # fmt: skip
        return m


def _runs(m: Module, name: str, most: int, load: Value, count: Value, step: Value, taken: Signal) -> Signal:
    """Cut a count into runs of `most`, and one of what is left, and again from its beginning with the next step.

    It begins with what `count` is in the last cycle of `load`. `taken` is the length of the present run, from a
    register; gives whether it is the last one, from another.
    """
    whole, left = Signal.like(count, name=f"{name}_whole"), Signal.like(count, name=f"{name}_left")
    whole_ends, ends = Signal(name=f"{name}_whole_ends"), Signal(name=f"{name}_ends")
    whole_taken = Signal.like(taken, name=f"{name}_whole_taken")

    def of(value: Value, limit: int) -> tuple[Value, Value]:
        last = value <= limit
        return last, Mux(last, (value - (limit - most))[: len(taken)], most)

    with m.If(load):
        own, length = of(count, most)
        m.d.sync += [whole.eq(count), left.eq(count), whole_ends.eq(own), ends.eq(own)]
        m.d.sync += [whole_taken.eq(length), taken.eq(length)]
    with m.Elif(step):
        own, length = of(left, 2 * most)
        m.d.sync += [
            left.eq(Mux(ends, whole, left - most)),
            ends.eq(Mux(ends, whole_ends, own)),
            taken.eq(Mux(ends, whole_taken, length)),
        ]
    return ends


class OutputFolds(_Folds):
    """Folds of an output-stationary array: both operands are read in the last cycles of each fold.

    Parameters
    ----------
    hw : Accelerator
        Its array.

    Members
    -------
    reads : Out(1)
        A vector of each operand is read.
    first, last, pads : Out(1)
        It is the fold's first; this is the fold's last cycle; nothing is read, but the fold goes on.
    tag : Out(`output_tag`)
        Of the fold's sums.
    """

    def __init__(self, hw: Accelerator) -> None:
        super().__init__(
            hw, {"reads": Out(1), "first": Out(1), "last": Out(1), "pads": Out(1), "tag": Out(output_tag(hw))}
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        busy, tick_last, fold_last = self._count(m)
        rows, cols = self.hw.array.rows, self.hw.array.cols
        command, held, start, tag = self.command, self.held, self.start, self.tag
        next_fold, now = Signal(), Signal(self.layout)
        m.d.comb += [
            next_fold.eq(busy & tick_last & ~fold_last),
            now.eq(Mux(start, command.as_value(), held.as_value())),
        ]

        waits, wait, left = Signal(), Signal(COUNT_BITS), Signal(COUNT_BITS)
        with m.If(start | next_fold):
            m.d.sync += [
                waits.eq(now.wait != 0), wait.eq(now.wait), self.reads.eq(now.wait == 0), left.eq(now.stream),
                self.first.eq(now.wait == 0),
            ]  # fmt: skip
        with m.Elif(waits):
            ends = wait == 1
            m.d.sync += [wait.eq(wait - 1), waits.eq(~ends), self.reads.eq(ends), self.first.eq(ends)]
        with m.Elif(self.reads):
            m.d.sync += [left.eq(left - 1), self.reads.eq(left != 1), self.first.eq(0)]
        m.d.comb += [self.last.eq(busy & tick_last), self.pads.eq(~self.reads)]

        # Blocks of columns inside, of rows outside.
        columns, blocks, height = Signal(COUNT_BITS), Signal(COUNT_BITS), Signal(COUNT_BITS)
        columns_end, blocks_end = Signal(), Signal()
        m.d.comb += [columns_end.eq(columns <= cols), blocks_end.eq(columns_end & (blocks == 1))]
        with m.If(self.ready):
            m.d.sync += [
                columns.eq(command.columns), blocks.eq(command.blocks), height.eq(command.rows),
                tag.top.eq(command.top),
            ]  # fmt: skip
        with m.Elif(next_fold):
            m.d.sync += [columns.eq(Mux(columns_end, held.columns, columns - cols)), tag.top.eq(tag.top + 1)]
            with m.If(columns_end):
                m.d.sync += blocks.eq(Mux(blocks_end, held.blocks, blocks - 1))
            with m.If(blocks_end):
                # From the last block of a row's lines to the first block R rows on: (R − 1) rows and one line.
                m.d.sync += [height.eq(height - rows), tag.top.eq(tag.top + held.top + 1)]
        m.d.comb += [
            tag.half.eq(held.half),
            tag.line_step.eq(held.line_step),
            tag.rows.eq(Mux(height < rows, height, rows)),
            tag.adds.eq(held.adds),
            tag.idle.eq(Mux(columns < cols, cols - columns, 0)),
            tag.last.eq(fold_last),
        ]
        return m
