"""The dispatcher: commands in program order, each to its unit's queue, and barriers.

Normative: docs/contracts/cycles.md, section 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.hardware import Accelerator, Dataflow
from hwsim.program import UNIT_NAMES, Unit, VectorOp
from hwsim_rtl.control.command import COMMAND, COUNTS_BITS
from hwsim_rtl.control.semaphores import SEMAPHORES

__all__ = ["Dispatch", "Fault", "Opcodes", "legal_opcodes"]

Opcodes = Mapping[Unit, Collection[int]]
_UNITS = len(UNIT_NAMES)
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

    The first one leaves δ cycles after it came. What decides is decoded and judged in the cycle in which a command
    stands at the head for the first time, and kept in registers.

    Parameters
    ----------
    pace_cycles : int
        δ, 2 or more.
    opcodes : mapping of Unit to collection of int
        What each unit, and `Unit.CONTROL`, takes.

    Members
    -------
    start, commands : In(1), In(32)
        Begin a program of so many commands.
    run : In(1)
        The program runs.
    head, valid : In(COMMAND), In(1)
        The next command, if it has come.
    prepared : In(4)
        Units that the command would be prepared for.
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
    wait, defer, counts : Out(10), Out(16), Out(64)
        Of the command at the dispatcher.
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
                "run": In(1),
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
                "defer": Out(16),
                "counts": Out(COUNTS_BITS),
                "fault": Out(Fault),
                "index": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the dispatcher."""
        m = Module()
        commands, pace, fresh = Signal(32), Signal(range(self._pace + 1)), Signal()
        at_end, ready, here, legal, is_prepared = Signal(), Signal(), Signal(), Signal(), Signal()
        known, next_ends, unit = Signal(), Signal(), Signal(len(self.head.unit))
        fault = self._fault(m, unit, fresh, at_end)
        m.d.sync += [
            known.eq(self.valid & ~self.take & ~self.start),
            unit.eq(self.head.unit),
            self.wait.eq(self.head.wait),
            self.defer.eq(self.head.defer),
            self.counts.eq(self.head.counts),
        ]
        m.d.comb += [
            is_prepared.eq(self.prepared.bit_select(unit[:2], 1) | (unit >= Unit.CONTROL)),
            ready.eq(self.run & (pace == 0)),
            here.eq(ready & (at_end | (known & is_prepared))),
            self.fault.eq(Mux(here, fault, Fault.NONE)),
            legal.eq(here & (fault == Fault.NONE)),
            self.pushes.eq(self.offers & self.accepts),
            self.flush.eq(legal & (at_end | (unit == Unit.CONTROL))),
            self.barrier.eq(self.flush & self.drained),
            self.finish.eq(self.barrier & at_end),
            self.take.eq(self.pushes.any() | (self.barrier & ~at_end)),
            self.blocked.eq(legal & ~self.take & ~self.barrier),
        ]
        for u in range(_UNITS):
            m.d.comb += self.offers[u].eq(legal & ~at_end & (unit == u))

        with m.If(self.take):
            m.d.sync += [pace.eq(self._pace - 1), self.index.eq(self.index + 1), fresh.eq(0)]
            m.d.sync += [at_end.eq(next_ends), next_ends.eq(self.index + 2 == commands)]
        with m.Elif((pace != 0) & (self.valid | at_end | ~fresh)):
            m.d.sync += pace.eq(pace - 1)
        with m.If(self.start):
            m.d.sync += [commands.eq(self.commands), self.index.eq(0), pace.eq(self._pace), fresh.eq(1)]
            m.d.sync += [at_end.eq(self.commands == 0), next_ends.eq(self.commands == 1)]
        return m

    def _fault(self, m: Module, unit: Value, fresh: Signal, at_end: Signal) -> Signal:
        """Judge the command at the head, or the end."""
        fault, own, known = Signal(Fault), Signal(Fault), Signal()
        head = self.head
        with m.Switch(head.unit):
            for of, opcodes in self._opcodes.items():
                with m.Case(of):
                    m.d.comb += known.eq(sum((head.opcode == code for code in opcodes), start=0) != 0)
        with m.If(head.unit > Unit.CONTROL):
            m.d.sync += own.eq(Fault.UNIT)
        with m.Elif(~known):
            m.d.sync += own.eq(Fault.OPCODE)
        with m.Elif(head.wait[SEMAPHORES:].any() | head.post[SEMAPHORES:].any()):
            m.d.sync += own.eq(Fault.SEMAPHORE)
        with m.Else():
            m.d.sync += own.eq(Fault.NONE)
        with m.If(fresh & (at_end | (unit != Unit.CONTROL))):
            m.d.comb += fault.eq(Fault.BARRIER)
        with m.Elif(~at_end):
            m.d.comb += fault.eq(own)
        return fault
