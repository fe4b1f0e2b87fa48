"""The control: fetch, dispatcher, one queue per unit, semaphores and the turns at the memory port, put together.

Normative: docs/contracts/cycles.md, section 1. What happens in which cycle is in docs/rtl-control.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.data import Layout, StructLayout
from amaranth.lib.wiring import In, Out, connect, flipped

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.program import COMMAND_BYTES, UNIT_NAMES, Unit
from hwsim_rtl.control.command import UNIT_COMMANDS
from hwsim_rtl.control.dispatch import Dispatch, Fault, Opcodes, legal_opcodes
from hwsim_rtl.control.fetch import ADDRESS_BITS, Fetch, FetchSignature
from hwsim_rtl.control.prepare import Preparer, Words
from hwsim_rtl.control.queue import Queue
from hwsim_rtl.control.semaphores import SEMAPHORES, Semaphores
from hwsim_rtl.control.tickets import Tickets
from hwsim_rtl.control.waits import Waits

__all__ = ["SEEN", "Control", "FetchSignature", "UnitSignature", "all_ended"]

_LEAST_PACE_CYCLES = 2
_UNITS = tuple(Unit(u) for u in range(len(UNIT_NAMES)))


#: What counters and a trace see in a cycle: that a program begins, runs, meets a barrier; and per unit that a command
#: starts, that it would be one that is just dispatched, that it lacks a token, that the unit is free, that one ends.
SEEN = StructLayout(
    {
        **dict.fromkeys(("begins", "runs", "barrier"), 1),
        **dict.fromkeys(("starts", "new", "lacks", "free", "ends"), len(UNIT_NAMES)),
    }
)


class UnitSignature(wiring.Signature):
    """What the control and a unit say to each other; a command has start *s*, occupancy *o* ≥ 1 and end *e* > *s*.

    Parameters
    ----------
    layout : Layout
        Of the unit's commands.

    Members
    -------
    command : Out(stream of layout)
        ``valid``: everything but the unit itself allows the start. The cycle with ``valid`` and ``ready`` is *s*.
        ``ready`` in cycle *t*: the unit's last command has ``s + o ≤ t``; it must not depend on ``valid``, and the load
        and the store unit see each other's.
    post : In(10)
        Semaphores that get a token, in cycle *e* − 1 of the command that posts (of a store: ``s + o − 1``). May
        depend on ``valid``. One token a cycle and semaphore.
    ended : In(1)
        Cycle *e* − 1 of a command.
    idle : In(1)
        In cycle *t*: every command that started before *t* has ``e ≤ t``.
    """

    def __init__(self, layout: Layout) -> None:
        command = Out(stream.Signature(layout))
        super().__init__({"command": command, "post": In(SEMAPHORES), "ended": In(1), "idle": In(1)})


def all_ended(m: Module, start: Value, ended: Value, most: int) -> Signal:
    """Count a unit's commands; gives a register for its `idle`.

    Parameters
    ----------
    m : Module
        Gets the signals.
    start, ended : Value
        A command starts in this cycle; one ends with it. One that starts does not end before the next cycle.
    most : int
        Commands that are under way at a time.
    """
    under_way, idle = Signal(range(most + 1), name="under_way"), Signal(name="all_ended", init=1)
    m.d.sync += under_way.eq(under_way + start - ended)
    m.d.sync += idle.eq(~start & ((under_way == 0) | ((under_way == 1) & ended)))
    return idle


class Control(wiring.Component):
    """Runs a program: every command is dispatched and started in the cycle that the contract gives, none earlier.

    Cycle 0 follows the cycle with `start`. Throughput: a command every δ cycles. Latency: command 0 is dispatched in
    cycle Λ + 2δ, since a command is prepared while the next one comes; it can start in the cycle of its dispatch.

    Parameters
    ----------
    queue_depth : int
        Q, commands of each unit's queue, 1 or more.
    fetch_bytes_per_cycle : int
        Bytes of one beat of the fetch port, a power of two, 1 to 128; δ is 128 ÷ this.
    latency_cycles : int
        Λ of the fetch port's memory [cycles], 1 or more; it decides the size of the prefetch buffer.
    opcodes : mapping of Unit to collection of int
        What each unit, and `Unit.CONTROL`, takes.
    preparers : mapping of Unit to Preparer, optional
        Who prepares each unit's commands; units may share one. Without, units get the words as they are.

    Raises
    ------
    HwsimError
        If a preparer needs more than δ − 1 cycles.

    Members
    -------
    start, address, commands : In(1), In(32), In(32)
        Run the program of so many commands at this address; only while not `busy`.
    fault : In(Fault)
        Stop for a reason from outside.
    seen : Out(`SEEN`)
        What counters and a trace see.
    busy : Out(1)
        From cycle 0 to the program's last, or until everything is at rest after a fault.
    done : Out(1)
        The last program ran to its end. Stays until the next start.
    error, error_index : Out(Fault), Out(32)
        Why the last program was stopped, and how many of its commands had been dispatched by then. Stay likewise.
    cycles : Out(64)
        Number of the current cycle; after the end, that of the end: cycles from the start on.
    dispatched : Out(1)
        A command is dispatched, or a barrier of the program takes effect, in this cycle.
    fetch : Out(FetchSignature)
        Read port for commands.
    load, matrix, vector, store : Out(UnitSignature)
        The units.
    """

    def __init__(
        self,
        queue_depth: int,
        fetch_bytes_per_cycle: int,
        latency_cycles: int,
        opcodes: Opcodes,
        preparers: Mapping[Unit, Preparer] | None = None,
    ) -> None:
        self.queue_depth, self.opcodes = queue_depth, opcodes
        self.fetch_bytes_per_cycle, self.latency_cycles = fetch_bytes_per_cycle, latency_cycles
        self.preparers: dict[Unit, Any] = dict(preparers or {unit: Words(UNIT_COMMANDS[unit]) for unit in _UNITS})
        if self.pace_cycles < _LEAST_PACE_CYCLES:
            raise HwsimError(
                f"the RTL needs {_LEAST_PACE_CYCLES} cycles to decode a command; control.fetch_bytes_per_cycle must be "
                f"at most {COMMAND_BYTES // _LEAST_PACE_CYCLES}, not {fetch_bytes_per_cycle}"
            )
        slowest = max(preparer.cycles for preparer in self.preparers.values())
        if slowest > self.pace_cycles - 1:
            raise HwsimError(
                f"a command is prepared in {slowest} cycles, and the next one comes {self.pace_cycles} cycles after "
                "it; make control.fetch_bytes_per_cycle smaller"
            )
        super().__init__(
            {
                "start": In(1),
                "address": In(ADDRESS_BITS),
                "commands": In(32),
                "busy": Out(1),
                "done": Out(1),
                "error": Out(Fault),
                "error_index": Out(32),
                "cycles": Out(64),
                "dispatched": Out(1),
                "fetch": Out(FetchSignature(fetch_bytes_per_cycle)),
                "fault": In(Fault),
                "seen": Out(SEEN),
                **{UNIT_NAMES[unit]: Out(UnitSignature(self.preparers[unit].layout)) for unit in _UNITS},
            }
        )

    @classmethod
    def of(cls, hw: Accelerator, preparers: Mapping[Unit, Preparer] | None = None) -> Control:
        """Give the control of an accelerator."""
        fetch_bytes, latency = hw.control.fetch_bytes_per_cycle, hw.dram.latency_cycles
        return cls(hw.control.queue_depth, fetch_bytes, latency, legal_opcodes(hw), preparers)

    @property
    def pace_cycles(self) -> int:
        """δ, cycles from one dispatch to the next."""
        return COMMAND_BYTES // self.fetch_bytes_per_cycle

    def elaborate(self, platform: Any) -> Module:
        """Build the control."""
        m = Module()
        m.submodules.fetch_unit = fetch = Fetch(self.fetch_bytes_per_cycle, self.latency_cycles)
        m.submodules.dispatch = dispatch = Dispatch(self.pace_cycles, self.opcodes)
        m.submodules.semaphores = semaphores = Semaphores()
        m.submodules.tickets = tickets = Tickets(self.queue_depth)
        queues = [Queue(self.preparers[unit].layout.size, self.queue_depth) for unit in _UNITS]
        for unit, queue in zip(_UNITS, queues, strict=True):
            m.submodules[f"{UNIT_NAMES[unit]}_queue"] = queue
        prepared = self._prepare(m, fetch, dispatch)
        connect(m, fetch.port, flipped(self.fetch))
        begin, running, stop = self._states(m, fetch, dispatch, semaphores)

        m.d.comb += [
            fetch.start.eq(begin),
            fetch.address.eq(self.address),
            fetch.commands.eq(self.commands),
            fetch.enable.eq(running),
            fetch.take.eq(dispatch.take),
            dispatch.start.eq(begin),
            dispatch.commands.eq(self.commands),
            dispatch.stop.eq(stop),
            dispatch.head.eq(fetch.head),
            dispatch.valid.eq(fetch.valid),
            dispatch.prepared.eq(prepared),
            self.dispatched.eq(dispatch.take),
        ]
        starts = [self._unit(m, unit, queues[unit], stop, dispatch, semaphores, tickets) for unit in _UNITS]
        m.d.comb += dispatch.drained.eq(self.seen.new.all() & self._idle())
        m.d.comb += [
            [queue.clear.eq(begin) for queue in queues],
            tickets.clear.eq(dispatch.barrier),  # with which every program begins
            tickets.load_dispatched.eq(dispatch.pushes[Unit.LOAD]),
            tickets.store_dispatched.eq(dispatch.pushes[Unit.STORE]),
            tickets.defer.eq(dispatch.defer),
            tickets.deferred.eq(dispatch.deferred),
            tickets.load_started.eq(starts[Unit.LOAD]),
            tickets.store_started.eq(starts[Unit.STORE]),
            tickets.flush.eq(dispatch.flush),
            tickets.loads_queued.eq(~self.seen.new[Unit.LOAD]),
            semaphores.set.eq(begin | dispatch.barrier),
            semaphores.counts.eq(dispatch.counts),
            self.seen.begins.eq(begin),
            self.seen.runs.eq(running),
            self.seen.barrier.eq(dispatch.barrier),
        ]
        return m

    @property
    def keeps_head(self) -> bool:
        """Whether preparers get the head of the buffer from a register, since δ leaves a cycle for it.

        The buffer is large, and so is the way from the number of its head to all who look at it.
        """
        slowest = max(preparer.cycles for preparer in self.preparers.values())
        return self.pace_cycles > _LEAST_PACE_CYCLES + 1 and slowest + 1 <= self.pace_cycles - 1

    def _prepare(self, m: Module, fetch: Fetch, dispatch: Dispatch) -> Value:
        """Let the preparers work on the head of the buffer until it is dispatched; gives for whom it soon is ready.

        With a register, preparers see all of it a cycle later, and what they say of the command before it counts no
        more: nothing is dispatched in the two cycles after a dispatch.
        """
        words, valid, taken = fetch.head, fetch.valid, dispatch.take
        if self.keeps_head:
            kept = Signal(len(words), name="kept_head", reset_less=True)
            there, left = Signal(name="kept_valid"), Signal(name="kept_taken")
            m.d.sync += [kept.eq(words), there.eq(valid), left.eq(taken)]
            words, valid, taken = kept, there, left
        for preparer in dict.fromkeys(self.preparers.values()):
            m.submodules += preparer
            m.d.comb += [preparer.words.eq(words), preparer.valid.eq(valid), preparer.taken.eq(taken)]
        prepared = Cat(self.preparers[unit].soon for unit in _UNITS)
        return Mux(valid, prepared, 0) if self.keeps_head else prepared

    def _unit(
        self,
        m: Module,
        unit: Unit,
        queue: Queue,
        stop: Signal,
        dispatch: Dispatch,
        semaphores: Semaphores,
        tickets: Tickets,
    ) -> Signal:
        """Build the queue's end at which the unit is: what may start, and where it comes from.

        A command that is dispatched into an empty queue is seen in the same cycle. Its conditions are judged apart from
        those of a queued one, so that nothing goes in a circle: whether a full queue takes a command depends on the
        start of a queued one only.
        """
        port = self._port(unit)
        name = UNIT_NAMES[unit]
        preparer = self.preparers[unit]
        prepared = Value.cast(preparer.prepared)
        # What the queue was given in the cycle before is at its head when it is empty: as good as a register.
        ahead = preparer.ahead if preparer.cycles else self.pace_cycles > _LEAST_PACE_CYCLES
        queued_goes, new_goes, start = (Signal(name=f"{name}_{what}") for what in ("queued_goes", "new_goes", "start"))
        queued_turn, new_turn = self._turns(unit, tickets)
        m.submodules[f"{name}_waits"] = waits = Waits(self.queue_depth)
        m.d.comb += [
            waits.clear.eq(queue.clear),
            waits.stop.eq(stop),
            waits.offered.eq(dispatch.offers[unit]),
            waits.push.eq(queue.push),
            waits.pop.eq(start),
            waits.new.eq(dispatch.wait),
            waits.upcoming.eq(dispatch.upcoming),
            waits.lacking.eq(semaphores.lacking),
            waits.last.eq(semaphores.last),
            queued_goes.eq(~waits.empty & queued_turn & ~waits.lacks),
            new_goes.eq(dispatch.offers[unit] & waits.empty & new_turn & ~waits.lacks),
            dispatch.accepts[unit].eq(~queue.full | (queued_goes & port.command.ready)),
            port.command.valid.eq(queued_goes | new_goes),
            port.command.payload.eq(queue.head if ahead else Mux(queue.empty, prepared, queue.head)),
            start.eq(port.command.valid & port.command.ready),
            queue.push.eq(dispatch.pushes[unit]),
            queue.item.eq(prepared),
            queue.pop.eq(start),
            semaphores.take[unit].eq(waits.waits & start.replicate(SEMAPHORES)),
            semaphores.post[unit].eq(port.post),
            self.seen.starts[unit].eq(start),
            self.seen.new[unit].eq(waits.empty),
            self.seen.lacks[unit].eq(waits.lacks),
            self.seen.free[unit].eq(port.command.ready),
            self.seen.ends[unit].eq(port.ended),
        ]
        return start

    def _turns(self, unit: Unit, tickets: Tickets) -> tuple[Value, Value]:
        """Say whether a queued and a newly dispatched command have the memory port, where they need it."""
        if unit == Unit.LOAD:
            free = self.store.command.ready
            return free & tickets.load_turn, free & tickets.load_turn
        if unit == Unit.STORE:
            free = self.load.command.ready
            return free & tickets.store_turn, free & tickets.new_store_turn
        return C(1), C(1)

    def _states(
        self, m: Module, fetch: Fetch, dispatch: Dispatch, semaphores: Semaphores
    ) -> tuple[Signal, Signal, Signal]:
        """Rest, run, and, after a fault, wait until all that has begun is over; gives start, run and stop."""
        begin, running, stopping = Signal(), Signal(), Signal()
        caught, index = Signal(Fault), Signal(32, name="index_then", reset_less=True)
        fault, stop = Signal(Fault), Signal()  # `stop`: nothing starts, or is dispatched, in the next cycle
        idle = self._idle()
        nothing_starts = ~Cat(self._port(u).command.valid for u in _UNITS).any()
        # Seen late, so that starts are not held up.
        dead, too_many, too_few = Signal(), Signal(), Signal()
        m.d.sync += [
            dead.eq(running & dispatch.blocked & idle & nothing_starts & ~begin),
            too_many.eq(running & semaphores.overflow.any()),
            too_few.eq(running & semaphores.underflow.any()),
        ]
        m.d.comb += [self.busy.eq(running | stopping), begin.eq(self.start)]
        m.d.comb += stop.eq(~running | (fault != Fault.NONE))
        with m.If(fetch.failed):
            m.d.comb += fault.eq(Fault.FETCH)
        with m.Elif(too_many):
            m.d.comb += fault.eq(Fault.OVERFLOW)
        with m.Elif(too_few):
            m.d.comb += fault.eq(Fault.UNDERFLOW)
        with m.Elif(self.fault != Fault.NONE):
            m.d.comb += fault.eq(self.fault)
        with m.Elif(dispatch.fault != Fault.NONE):
            m.d.comb += fault.eq(dispatch.fault)
        with m.Elif(dead):
            m.d.comb += fault.eq(Fault.DEADLOCK)

        with m.If(running):
            with m.If(fault != Fault.NONE):
                m.d.sync += [running.eq(0), stopping.eq(1)]
            with m.Elif(dispatch.finish):
                m.d.sync += [running.eq(0), self.done.eq(1)]
            with m.Else():
                m.d.sync += self.cycles.eq(self.cycles + 1)
        # Why is told a cycle later: it is known late, and the control stays busy for a cycle at least.
        m.d.sync += [caught.eq(Mux(running, fault, Fault.NONE)), index.eq(dispatch.index)]
        with m.If(caught != Fault.NONE):
            m.d.sync += [self.error.eq(caught), self.error_index.eq(index)]
        with m.If(stopping & idle & ~fetch.pending):
            m.d.sync += stopping.eq(0)
        with m.If(begin):
            m.d.sync += [running.eq(1), self.done.eq(0), self.error.eq(Fault.NONE), self.cycles.eq(0)]
            m.d.sync += self.error_index.eq(0)
        return begin, running, stop

    def _idle(self) -> Value:
        return Cat(self._port(u).idle for u in _UNITS).all()

    def _port(self, unit: Unit) -> Any:
        return getattr(self, UNIT_NAMES[unit])
