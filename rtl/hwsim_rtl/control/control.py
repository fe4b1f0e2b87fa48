"""The control: fetch, dispatcher, one queue per unit, semaphores and the turns at the memory port, put together.

Normative: docs/contracts/cycles.md, section 1. What happens in which cycle is in docs/rtl-control.md.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.data import Layout
from amaranth.lib.wiring import In, Out, connect, flipped

from hwsim.hardware import Accelerator
from hwsim.program import COMMAND_BYTES, UNIT_NAMES, Unit
from hwsim_rtl.control.command import COMMAND, COMMAND_BITS, UNIT_COMMANDS
from hwsim_rtl.control.dispatch import Dispatch, Fault, Opcodes, legal_opcodes
from hwsim_rtl.control.fetch import ADDRESS_BITS, Fetch, FetchSignature
from hwsim_rtl.control.queue import Queue
from hwsim_rtl.control.semaphores import SEMAPHORES, Semaphores
from hwsim_rtl.control.tickets import Tickets

__all__ = ["Control", "FetchSignature", "UnitSignature"]

_UNITS = tuple(Unit(u) for u in range(len(UNIT_NAMES)))


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
    idle : In(1)
        In cycle *t*: every command that started before *t* has ``e ≤ t``.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__({"command": Out(stream.Signature(layout)), "post": In(SEMAPHORES), "idle": In(1)})


class Control(wiring.Component):
    """Runs a program: every command is dispatched and started in the cycle that the contract gives, none earlier.

    Cycle 0 follows the cycle with `start`. Throughput: a command every δ cycles. Latency: command 0 is dispatched in
    cycle Λ + δ; a command can start in the cycle in which it is dispatched.

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

    Members
    -------
    start, address, commands : In(1), In(32), In(32)
        Unless busy: run the program of so many commands at this address.
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

    def __init__(self, queue_depth: int, fetch_bytes_per_cycle: int, latency_cycles: int, opcodes: Opcodes) -> None:
        self.queue_depth, self.opcodes = queue_depth, opcodes
        self.fetch_bytes_per_cycle, self.latency_cycles = fetch_bytes_per_cycle, latency_cycles
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
                **{name: Out(UnitSignature(UNIT_COMMANDS[Unit(u)])) for u, name in enumerate(UNIT_NAMES)},
            }
        )

    @classmethod
    def of(cls, hw: Accelerator) -> Control:
        """Give the control of an accelerator."""
        return cls(hw.control.queue_depth, hw.control.fetch_bytes_per_cycle, hw.dram.latency_cycles, legal_opcodes(hw))

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
        queues = [Queue(COMMAND_BITS, self.queue_depth) for _ in _UNITS]
        for unit, queue in zip(_UNITS, queues, strict=True):
            m.submodules[f"{UNIT_NAMES[unit]}_queue"] = queue
        connect(m, fetch.port, flipped(self.fetch))
        begin, running = self._states(m, fetch, dispatch, semaphores)

        m.d.comb += [
            fetch.start.eq(begin),
            fetch.address.eq(self.address),
            fetch.commands.eq(self.commands),
            fetch.enable.eq(running),
            fetch.take.eq(dispatch.take),
            dispatch.start.eq(begin),
            dispatch.commands.eq(self.commands),
            dispatch.run.eq(running),
            dispatch.head.eq(fetch.head),
            dispatch.valid.eq(fetch.valid),
            dispatch.drained.eq(Cat(q.empty for q in queues).all() & self._idle()),
            self.dispatched.eq(dispatch.take),
        ]
        starts = [self._unit(m, unit, queues[unit], running, dispatch, semaphores, tickets) for unit in _UNITS]
        m.d.comb += [
            [queue.clear.eq(begin) for queue in queues],
            tickets.clear.eq(begin | dispatch.barrier),
            tickets.load_dispatched.eq(dispatch.pushes[Unit.LOAD]),
            tickets.store_dispatched.eq(dispatch.pushes[Unit.STORE]),
            tickets.defer.eq(dispatch.head.defer),
            tickets.load_started.eq(starts[Unit.LOAD]),
            tickets.store_started.eq(starts[Unit.STORE]),
            tickets.flush.eq(dispatch.flush),
            tickets.loads_queued.eq(~queues[Unit.LOAD].empty),
            semaphores.set.eq(begin | dispatch.barrier),
            semaphores.counts.eq(dispatch.head.counts),
        ]
        return m

    def _unit(
        self,
        m: Module,
        unit: Unit,
        queue: Queue,
        running: Signal,
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
        queued = Signal(COMMAND, name=f"{name}_queued")
        queued_goes, new_goes, start = (Signal(name=f"{name}_{what}") for what in ("queued_goes", "new_goes", "start"))
        queued_turn, new_turn = self._turns(unit, tickets)
        m.d.comb += [
            queued.eq(queue.head),
            queued_goes.eq(running & ~queue.empty & queued_turn & ~self._lacks(queued, semaphores)),
            new_goes.eq(dispatch.offers[unit] & queue.empty & new_turn & ~self._lacks(dispatch.head, semaphores)),
            dispatch.accepts[unit].eq(~queue.full | (queued_goes & port.command.ready)),
            port.command.valid.eq(queued_goes | new_goes),
            port.command.payload.eq(Mux(queue.empty, dispatch.head.as_value(), queue.head)),
            start.eq(port.command.valid & port.command.ready),
            queue.push.eq(dispatch.pushes[unit]),
            queue.item.eq(dispatch.head),
            queue.pop.eq(start),
            semaphores.post[unit].eq(port.post),
        ]
        with m.If(start):
            m.d.comb += semaphores.take[unit].eq(Mux(queue.empty, dispatch.head.wait, queued.wait))
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

    @staticmethod
    def _lacks(command: Any, semaphores: Semaphores) -> Value:
        return (command.wait[:SEMAPHORES] & ~semaphores.available).any()

    def _states(self, m: Module, fetch: Fetch, dispatch: Dispatch, semaphores: Semaphores) -> tuple[Signal, Signal]:
        """Rest, run, and, after a fault, wait until all that has begun is over; gives start and run."""
        begin, running, stopping = Signal(), Signal(), Signal()
        fault = Signal(Fault)
        idle = self._idle()
        nothing_starts = ~Cat(self._port(u).command.valid for u in _UNITS).any()
        m.d.comb += [self.busy.eq(running | stopping), begin.eq(self.start & ~self.busy)]
        with m.If(fetch.failed):
            m.d.comb += fault.eq(Fault.FETCH)
        with m.Elif(semaphores.overflow):
            m.d.comb += fault.eq(Fault.OVERFLOW)
        with m.Elif(semaphores.underflow):
            m.d.comb += fault.eq(Fault.UNDERFLOW)
        with m.Elif(dispatch.fault != Fault.NONE):
            m.d.comb += fault.eq(dispatch.fault)
        with m.Elif(dispatch.blocked & idle & nothing_starts):
            m.d.comb += fault.eq(Fault.DEADLOCK)

        with m.If(running):
            with m.If(fault != Fault.NONE):
                m.d.sync += [running.eq(0), stopping.eq(1), self.error.eq(fault), self.error_index.eq(dispatch.index)]
            with m.Elif(dispatch.finish):
                m.d.sync += [running.eq(0), self.done.eq(1)]
            with m.Else():
                m.d.sync += self.cycles.eq(self.cycles + 1)
        with m.If(stopping & idle & ~fetch.pending):
            m.d.sync += stopping.eq(0)
        with m.If(begin):
            m.d.sync += [running.eq(1), self.done.eq(0), self.error.eq(Fault.NONE), self.cycles.eq(0)]
            m.d.sync += self.error_index.eq(0)
        return begin, running

    def _idle(self) -> Value:
        return Cat(self._port(u).idle for u in _UNITS).all()

    def _port(self, unit: Unit) -> Any:
        return getattr(self, UNIT_NAMES[unit])
