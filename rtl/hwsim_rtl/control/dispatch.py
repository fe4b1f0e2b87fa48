"""The dispatcher: commands in program order, each to its unit's queue, and barriers.

Normative: docs/contracts/cycles.md, section 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.hardware import Accelerator, Dataflow
from hwsim.program import UNIT_NAMES, Unit, VectorOp
from hwsim_rtl.control.command import COMMAND, COUNTS_BITS
from hwsim_rtl.control.semaphores import SEMAPHORES

__all__ = ["Dispatch", "Fault", "Opcodes", "legal_opcodes"]

Opcodes = Mapping[Unit, Collection[int]]
_UNITS = len(UNIT_NAMES)
#: A δ that leaves no cycle between the first at the head and the one before the dispatch.
_DECODED_AT_ONCE = 2
#: Codes of dataflows in matrix commands.
_DATAFLOWS = {Dataflow.WEIGHT_STATIONARY: 0, Dataflow.INPUT_STATIONARY: 1, Dataflow.OUTPUT_STATIONARY: 2}


class Fault(IntEnum):
    """Why the control has stopped before the program's end."""

    NONE = 0
    UNIT = 1  # the command names no unit
    OPCODE = 2  # its unit has no such operation
    SEMAPHORE = 3  # it waits for or posts a semaphore beyond the ten
    BARRIER = 4  # the program does not begin with a barrier
    OVERFLOW = 5  # a semaphore would hold more than 255 tokens
    UNDERFLOW = 6  # two units took one token
    DEADLOCK = 7  # every unit is idle, and nothing can ever start
    FETCH = 8  # the memory gave an error instead of a command
    BUS = 9  # the memory answered a load or a store with an error
    ADDRESS = 10  # the program, or a line to load or store, lies beyond the limit of memory
    CONFLICT = 11  # two accesses of one cycle needed one port of a memory on the chip


def legal_opcodes(hw: Accelerator) -> Opcodes:
    """Give the opcodes that an accelerator's units take.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> opcodes = legal_opcodes(load_accelerator("edge-8x8-int8"))
    >>> opcodes[Unit.LOAD], opcodes[Unit.MATRIX], max(opcodes[Unit.VECTOR])
    ((0, 1, 2), (0,), 22)
    """
    return {
        Unit.LOAD: (0, 1, 2),
        Unit.MATRIX: (_DATAFLOWS[hw.array.dataflow],),
        Unit.VECTOR: tuple(int(op) for op in VectorOp),
        Unit.STORE: (0, 2),  # of tiles and of streams; both from the accumulator
        Unit.CONTROL: (0,),
    }


class Dispatch(wiring.Component):
    """Hands out the command at the head of the buffer, δ cycles after the last one at the earliest.

    The first one leaves δ cycles after it came. What decides is decoded and judged in the first two cycles in which a
    command stands at the head, and kept in registers; with a δ of 2, all in the first one.

    Parameters
    ----------
    pace_cycles : int
        δ, 2 or more.
    opcodes : mapping of Unit to collection of int
        What each unit, and `Unit.CONTROL`, takes.

    Members
    -------
    start, commands : In(1), In(32)
        Begin a program of so many commands; only with `stop`.
    stop : In(1)
        Nothing goes on in the next cycle.
    head, valid : In(COMMAND), In(1)
        The next command, if it has come.
    prepared : In(4)
        Units that the command will be prepared for in the next cycle.
    accepts : In(4)
        Units whose queues take a command in this cycle. May depend on `offers` only for queues that are not empty.
    drained : In(1)
        Every command that was dispatched before this cycle has ended.
    offers : Out(4)
        The unit, if any, for which a command may be dispatched in this cycle as far as pace and order go.
    pushes : Out(4)
        The unit, if any, to which it is.
    flush : Out(1)
        A barrier, or the end, is at the dispatcher.
    barrier : Out(1)
        It takes effect in this cycle.
    finish : Out(1)
        It is the end of the program.
    take : Out(1)
        The command at the head is dispatched, or the barrier at the head takes effect.
    blocked : Out(1)
        A command, or the end, is at the dispatcher and does not go on in this cycle.
    wait, defer, deferred, counts : Out(10), Out(16), Out(1), Out(64)
        Of the command at the dispatcher; ``deferred``: defer is not 0.
    upcoming : Out(10)
        `wait` of the next cycle, if a command is at the dispatcher then.
    fault : Out(4)
        `Fault` of the command at the dispatcher, which then does not go on.
    index : Out(32)
        Commands of this program that went on before this cycle.
    """

    def __init__(self, pace_cycles: int, opcodes: Opcodes) -> None:
        self._pace, self._opcodes = pace_cycles, opcodes
        super().__init__(
            {
                "start": In(1),
                "commands": In(32),
                "stop": In(1),
                "head": In(COMMAND),
                "valid": In(1),
                "prepared": In(_UNITS),
                "accepts": In(_UNITS),
                "drained": In(1),
                "offers": Out(_UNITS),
                "pushes": Out(_UNITS),
                "flush": Out(1),
                "barrier": Out(1),
                "finish": Out(1),
                "take": Out(1),
                "blocked": Out(1),
                "wait": Out(SEMAPHORES),
                "upcoming": Out(SEMAPHORES),
                "defer": Out(16),
                "deferred": Out(1),
                "counts": Out(COUNTS_BITS),
                "fault": Out(Fault),
                "index": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the dispatcher."""
        m = Module()
        commands, pace, due = Signal(32), Signal(range(self._pace + 1)), Signal()  # `due`: the pace is over
        fresh, at_end, next_ends, counting = Signal(), Signal(), Signal(), Signal()
        stands, unit, own = self._decode(m)
        # What happens in a cycle is judged in the one before, but for what `take` changes.
        fault, legal, goes_on = Signal(Fault), Signal(), Signal()
        with m.If(at_end):
            m.d.comb += fault.eq(Mux(fresh, Fault.BARRIER, Fault.NONE))
        with m.Elif(stands):
            m.d.comb += fault.eq(Mux(fresh & (unit != Unit.CONTROL), Fault.BARRIER, own))
        m.d.comb += [
            counting.eq(self.valid | at_end | ~fresh),
            goes_on.eq(due | ((pace == 1) & counting)),
            legal.eq(stands & ~at_end & (fault == Fault.NONE)),
            self.pushes.eq(self.offers & self.accepts),
            self.barrier.eq(self.flush & self.drained),
            self.finish.eq(self.barrier & at_end),
            self.take.eq(self.pushes.any() | (self.barrier & ~at_end)),
            self.blocked.eq((self.offers.any() & ~self.pushes.any()) | (self.flush & ~self.drained)),
        ]
        with m.If(self.pushes.any() | self.barrier | self.stop):
            m.d.sync += [due.eq(0), self.offers.eq(0), self.flush.eq(0), self.fault.eq(Fault.NONE)]
        with m.Else():
            m.d.sync += [
                due.eq(goes_on),
                self.offers.eq(Cat(goes_on & legal & (unit == u) & self.prepared[u] for u in range(_UNITS))),
                self.flush.eq(goes_on & ((legal & (unit == Unit.CONTROL)) | (at_end & ~fresh))),
                self.fault.eq(Mux(goes_on, fault, Fault.NONE)),
            ]
        with m.If(self.take):
            m.d.sync += [pace.eq(self._pace - 1), self.index.eq(self.index + 1), fresh.eq(0)]
            m.d.sync += [at_end.eq(next_ends), next_ends.eq(self.index + 2 == commands)]
        with m.Elif((pace != 0) & counting):
            m.d.sync += pace.eq(pace - 1)
        with m.If(self.start):
            m.d.sync += [commands.eq(self.commands), self.index.eq(0), pace.eq(self._pace), fresh.eq(1)]
            m.d.sync += [at_end.eq(self.commands == 0), next_ends.eq(self.commands == 1)]
        return m

    def _decode(self, m: Module) -> tuple[Value, Value, Value]:
        """Decode the head; whether a command stands there, its unit, and what is wrong with it.

        A δ of more than 2 leaves a cycle for it, and what `wait` will be is known in time from a register.
        """
        head, early = self.head, self._pace > _DECODED_AT_ONCE
        stands, unit, own = Signal(), Signal(len(head.unit)), Signal(Fault)
        m.d.sync += [
            self.wait.eq(head.wait),
            self.defer.eq(head.defer),
            self.deferred.eq(head.defer.any()),
            self.counts.eq(head.counts),
        ]
        m.d.comb += self.upcoming.eq(self.wait if early else head.wait)
        domain = m.d.sync if early else m.d.comb
        domain += [stands.eq(self.valid & ~self.take & ~self.start if early else self.valid), unit.eq(head.unit)]
        known = Signal()
        with m.Switch(head.unit):
            for of, opcodes in self._opcodes.items():
                with m.Case(of):
                    m.d.comb += known.eq(sum((head.opcode == code for code in opcodes), start=0) != 0)
        with m.If(head.unit > Unit.CONTROL):
            domain += own.eq(Fault.UNIT)
        with m.Elif(~known):
            domain += own.eq(Fault.OPCODE)
        with m.Elif(head.wait[SEMAPHORES:].any() | head.post[SEMAPHORES:].any()):
            domain += own.eq(Fault.SEMAPHORE)
        with m.Else():
            domain += own.eq(Fault.NONE)
        return stands, unit, own
