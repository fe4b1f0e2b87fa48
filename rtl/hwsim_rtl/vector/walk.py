"""The walk of a vector command: its box line by line and group by group, one read of all operands a cycle.

Normative: docs/contracts/cycles.md, section 2 (Vector), and docs/contracts/values.md, section 4.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwsim.hardware import Accelerator
from hwsim.program import LAP_ENTRY_CYCLES
from hwsim_rtl.dma.align import bits_for
from hwsim_rtl.vector.command import COUNT_BITS, OPERANDS, SUMMING, vector_command
from hwsim_rtl.vector.laps import LAP_BITS, LAPS, MOST_LAPS

__all__ = ["Walk", "group_read", "group_target"]

_LEVELS = 3
#: What a command says of where operands lie and how many there are, and its scalars.
_WIDE = (*OPERANDS, "columns", "scalar", "scalar_2", *(f"last_{level}" for level in range(_LEVELS)))


def group_read(hw: Accelerator) -> data.StructLayout:
    """What the walk says of a group.

    `group` is its number in the line; `lines` those of the operands; `lane` the word of B that all lanes get;
    `place` the number of the group's first column where index 2 counts lines of a row, as class labels do.
    """
    cols, lanes = hw.array.cols, hw.vector.lanes
    lines = data.StructLayout(dict.fromkeys(OPERANDS, bits_for(hw.accumulator_slot_lines)))
    place = COUNT_BITS + bits_for(cols) + 1
    return data.StructLayout(
        {"group": bits_for(-(-cols // lanes)), "lines": lines, "lane": bits_for(cols), "place": place}
    )


def group_target(hw: Accelerator) -> data.StructLayout:
    """Where a group's result goes: a line of DST, and which group of it."""
    read = group_read(hw)
    return data.StructLayout({"group": read["group"].width, "line": bits_for(hw.accumulator_slot_lines)})


class Walk(wiring.Component):
    """Walk boxes by additions and comparisons alone.

    The command is in a register in ``s + 1``, *s* the start; the first group is given in ``s + 2``, and the last cycle
    of a command is ``s + o``. What is read in a cycle can be written up to ``λ − 1`` cycles later. A command that makes
    laps reads a block of λ groups, fewer at the end, waits until the last of their laps have begun, and reads the next.

    Parameters
    ----------
    hw : Accelerator
        Its lanes, lines and λ.

    Members
    -------
    start : In(1), next : In(`vector_command`)
        Begin with this command; only while `ready`.
    ready : Out(1)
        A command may start: none is being walked, or it is the `last` cycle of one.
    busy : Out(1)
        A command is being walked.
    last : Out(1)
        Last cycle of a command.
    command : Out(`vector_command`)
        The command that is walked. From the second pass over the lanes on its A is its DST, and its passes are those
        that follow the present one.
    valid : Out(1), read : Out(`group_read`)
        A group.
    writes : Out(1), target : Out(`group_target`)
        A group whose result can be written up to ``λ − 1`` cycles later: the one that is read, or, after laps, one that
        has begun the last of them.
    slot, lap : Out
        Of a command with laps: place in its block of the group whose lap begins, and the lap's number from 0.
    """

    def __init__(self, hw: Accelerator) -> None:
        self.hw = hw
        command = vector_command(hw)
        super().__init__(
            {
                "start": In(1), "next": In(command), "ready": Out(1), "busy": Out(1), "last": Out(1),
                "command": Out(command), "valid": Out(1), "read": Out(group_read(hw)),
                "writes": Out(1), "target": Out(group_target(hw)), "slot": Out(bits_for(hw.vector.latency_cycles)),
                "lap": Out(LAP_BITS),
            }
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Build it: every operand keeps where its present indices began, so that nothing is taken back."""
        m, command = Module(), self.command
        begins, again, walks = Signal(), Signal(), Signal()
        m.d.sync += begins.eq(self.start | again)
        with m.If(self.start):
            m.d.sync += [command[name].eq(self.next[name]) for name in _names(command) if name not in _WIDE]
        with m.Elif(again):
            m.d.sync += command.more_passes.eq(command.more_passes - 1)
        # Nobody looks at these between commands, so that they need not know of the start, which is late in its cycle.
        with m.If(self.ready):
            m.d.sync += [command[name].eq(self.next[name]) for name in _WIDE]
        with m.Elif(again):
            m.d.sync += command.a.eq(command.dst)

        reads, last_lap = self._laps(m, begins, walks)
        last_group = self._groups(m, begins)
        goes_on, more = self._indices(m, begins, last_group, again, walks)
        for name in OPERANDS:
            self._lines(m, name, begins, goes_on, more)
        self._place(m, begins, goes_on)
        self._targets(m, reads, last_lap)
        return m

    def _laps(self, m: Module, begins: Value, walks: Value) -> tuple[Signal, Signal]:
        """Count slots and laps. Gives whether groups are read, which in the first lap they are, as in every cycle of
        commands without laps; and whether the lap is the last of several.
        """
        last_lap, reads, last = Signal(LAP_BITS), Signal(), Signal()
        slot_ends, lap_ends = Signal(), Signal()
        for op, laps in LAPS.items():
            with m.If(self.command.opcode == int(op)):
                m.d.comb += last_lap.eq(len(laps) - 1)
        m.d.comb += [
            slot_ends.eq(self.slot == self.hw.vector.latency_cycles - 1),
            last.eq((self.lap == last_lap) & ~reads),
            lap_ends.eq(slot_ends & (self.lap == last_lap)),
            self.valid.eq(walks & reads),
        ]
        with m.If(begins):
            m.d.sync += [self.slot.eq(0), self.lap.eq(0), reads.eq(1)]
        with m.Else():
            m.d.sync += self.slot.eq(Mux(slot_ends, 0, self.slot + 1))
            with m.If(slot_ends):
                m.d.sync += [self.lap.eq(Mux(lap_ends, 0, self.lap + 1)), reads.eq(lap_ends)]
        return reads, last

    def _targets(self, m: Module, reads: Value, last_lap: Value) -> None:
        """Hand on where a group's result goes; through laps a memory by slots keeps it."""
        now, later = Signal.like(self.target), Signal.like(self.target)
        m.d.comb += [now.group.eq(self.read.group), now.line.eq(self.read.lines.dst)]
        word = Cat(self.valid, now)
        m.submodules.targets = kept = Memory(shape=len(word), depth=self.hw.vector.latency_cycles, init=[])
        read, write = kept.read_port(domain="comb"), kept.write_port()
        m.d.comb += [read.addr.eq(self.slot), write.addr.eq(self.slot), write.en.eq(reads), write.data.eq(word)]
        found = Cat(read.data[0] & last_lap, read.data[1:])
        for i in range(LAP_ENTRY_CYCLES):
            older = Signal(len(word), name=f"target_{i}")
            m.d.sync += older.eq(found)
            found = older
        laps = self.command.opcode.matches(*(int(op) for op in LAPS))
        m.d.comb += [
            later.eq(found[1:]),
            self.writes.eq(Mux(laps, found[0], self.valid)),
            self.target.eq(Mux(laps, later, now)),
        ]

    def _groups(self, m: Module, begins: Value) -> Value:
        """Count the groups of a line; gives whether this is its last."""
        cols, lanes = self.hw.array.cols, self.hw.vector.lanes
        if lanes >= cols:
            return C(1, 1)
        columns = Signal(range(cols + 2 * lanes + 1), init=2 * lanes)  # with this group and the next
        last_group = Signal()  # known with the group before it
        with m.If(begins | (self.valid & last_group)):
            m.d.sync += [self.read.group.eq(0), columns.eq(2 * lanes), last_group.eq(lanes >= self.command.columns)]
        with m.Elif(self.valid):
            m.d.sync += [self.read.group.eq(self.read.group + 1), columns.eq(columns + lanes)]
            m.d.sync += last_group.eq(columns >= self.command.columns)
        return last_group

    def _indices(self, m: Module, begins: Value, last_group: Value, again: Value, walks: Value) -> Any:
        """Count indices down, and wait: in each index 0 of sums over lines for the line's last sum, then for the end.

        Gives per level whether its index goes on, and whether there are more indices of it.
        """
        command, latency = self.command, self.hw.vector.latency_cycles
        left = [Signal(COUNT_BITS, name=f"left_{level}") for level in range(_LEVELS)]
        more = [Signal(name=f"more_{level}") for level in range(_LEVELS)]
        turn, drain = Signal(range(latency)), Signal(range(MOST_LAPS * latency + LAP_ENTRY_CYCLES))
        drains = Signal.like(drain)
        m.d.comb += drains.eq(latency - 1)
        for op, laps in LAPS.items():
            with m.If(command.opcode == int(op)):
                m.d.comb += drains.eq(len(laps) * latency - 1 + LAP_ENTRY_CYCLES)
        waits, turned, summing, may_turn, turn_ends = Signal(), Signal(), Signal(), Signal(), Signal()
        goes_on = [Signal(name=f"goes_on_{level}") for level in range(_LEVELS)]
        line_ends, finish = Signal(), Signal()
        # A cycle late, which is soon enough: there is no group in the cycle in which the command comes.
        m.d.sync += summing.eq(command.opcode.matches(*(int(op) for op in SUMMING)))
        m.d.comb += [
            line_ends.eq(self.valid & last_group),
            goes_on[2].eq(line_ends & more[2]),
            goes_on[1].eq(line_ends & ~more[2] & more[1]),
            turn_ends.eq(waits | (line_ends & ~more[2] & ~more[1])),
            may_turn.eq(~summing | turned),
            goes_on[0].eq(turn_ends & may_turn & more[0]),
            finish.eq(turn_ends & may_turn & ~more[0]),
        ]
        for level in range(_LEVELS):
            with m.If(begins | _any(goes_on[:level])):
                m.d.sync += left[level].eq(command[f"last_{level}"])
                m.d.sync += more[level].eq(command[f"last_{level}"] != 0)
            with m.Elif(goes_on[level]):
                m.d.sync += [left[level].eq(left[level] - 1), more[level].eq(left[level] != 1)]
        m.d.sync += turn.eq(Mux(begins | goes_on[0], latency - 1, Mux(turned, 0, turn - 1)))
        m.d.sync += turned.eq(Mux(begins | goes_on[0], latency == 1, turned | (turn == 1)))
        m.d.sync += waits.eq(turn_ends & ~goes_on[0] & ~finish)
        with m.If(begins | goes_on[0]):
            m.d.sync += walks.eq(1)
        with m.Elif(turn_ends):
            m.d.sync += walks.eq(0)

        m.d.sync += drain.eq(Mux(finish, drains, Mux(drain != 0, drain - 1, 0)))
        # The control hears of the end from registers: a drain takes two cycles or more.
        ends = Signal()
        m.d.comb += [ends.eq(drain == 2), self.ready.eq(~self.busy | self.last)]
        m.d.sync += [
            again.eq(ends & (command.more_passes != 0)),
            self.last.eq(ends & (command.more_passes == 0)),
            self.busy.eq(self.start | (self.busy & ~self.last)),
        ]
        return goes_on, more

    def _lines(self, m: Module, name: str, begins: Value, goes_on: Any, more: Any) -> None:
        """Lines of an operand: where each level's index began, the last level's being the present one.

        In B's place a lane may go on with the line, so that the words of lines are counted. The next line is that of
        the innermost level with more indices, which is known before it is known that one goes on.
        """
        operand, line = self.command[name], self.read.lines[name]
        bits = len(line)
        starts = [*(Signal(bits, name=f"{name}_{level}") for level in range(_LEVELS - 1)), line]
        lanes = self._lanes(m, begins, goes_on) if name == "b" else None
        base, step = Signal(bits, name=f"{name}_base"), Signal(bits, name=f"{name}_step")
        m.d.comb += base.eq(Mux(more[2], starts[2], Mux(more[1], starts[1], starts[0])))
        m.d.comb += step.eq(Mux(more[2], operand.step_2, Mux(more[1], operand.step_1, operand.step_0)))
        carry = Mux(more[2], lanes[2], Mux(more[1], lanes[1], lanes[0])) if lanes else 0
        then = Signal(bits, name=f"{name}_then")
        m.d.comb += then.eq(base + step + carry)
        for level in range(_LEVELS):
            with m.If(begins):
                m.d.sync += starts[level].eq(operand.line)
            with m.Elif(_any(goes_on[: level + 1])):
                m.d.sync += starts[level].eq(then)

    def _lanes(self, m: Module, begins: Value, goes_on: Any) -> list[Value]:
        """Lanes of B by level; gives per level whether going on leads to the next line."""
        cols, lane = self.hw.array.cols, self.read.lane
        lane_1 = Signal(lane.shape())
        starts, carries = [None, lane_1, lane], []
        carries.append(C(0, 1))
        thens = []
        for level in (1, 2):
            steps = self.command.lane_step[level - 1]
            ends = starts[level] == cols - 1
            thens.append(Mux(steps, Mux(ends, 0, starts[level] + 1), starts[level]))
            carries.append(steps & ends)
        with m.If(begins | goes_on[0]):
            m.d.sync += [lane_1.eq(0), lane.eq(0)]
        with m.Elif(goes_on[1]):
            m.d.sync += [lane_1.eq(thens[0]), lane.eq(thens[0])]
        with m.Elif(goes_on[2]):
            m.d.sync += lane.eq(thens[1])
        return carries

    def _place(self, m: Module, begins: Value, goes_on: Any) -> None:
        """Count columns through the lines of index 2."""
        place, line = self.read.place, Signal(self.read.place.shape(), name="place_line")
        then = Signal(place.shape(), name="place_then")
        m.d.comb += then.eq(line + self.hw.array.cols)
        with m.If(begins | goes_on[0] | goes_on[1]):
            m.d.sync += [place.eq(0), line.eq(0)]
        with m.Elif(goes_on[2]):
            m.d.sync += [place.eq(then), line.eq(then)]
        with m.Elif(self.valid):
            m.d.sync += place.eq(place + self.hw.vector.lanes)


def _names(command: Any) -> list[str]:
    """Fields of a command."""
    return [name for name, _ in command.shape()]


def _any(values: Any) -> Value:
    found: Value = C(0, 1)
    for value in values:
        found = found | value
    return found
