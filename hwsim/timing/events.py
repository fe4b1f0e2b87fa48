"""The machine stepped through time: queues, semaphore counters, one memory port, barriers.

`simulate_events` takes flat timing rows and gives their `Timeline`. Normative: docs/contracts/cycles.md, sections 1
and 4. Nothing here is an equation over commands, so agreement with `hwsim.timing.recurrence` is evidence for both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.program.fields import (
    CAUSES,
    DRAIN,
    FETCH,
    PORT,
    RESOURCE_NAMES,
    SEMAPHORE_NAMES,
    STORE_LEAVES_CYCLES,
    UNIT_NAMES,
    Row,
    Unit,
)
from hwsim.timing.timeline import Timeline

__all__ = ["simulate_events"]

MAX_TOKENS = 255  # docs/contracts/program.md, section 2
PORT_UNITS = (Unit.LOAD, Unit.STORE)
PORT_ROW = RESOURCE_NAMES.index("port")
NOBODY = -1  # an event that ends no command: it only makes the machine look again
FIRST_POST = -2  # an event FIRST_POST − c: store c posts


def simulate_events(rows: NDArray[np.int64], queue_depth: int, dispatch_cycles: int) -> Timeline:
    """Step the machine through a flat program.

    Time jumps from event to event: a command ends, a unit or the port becomes free, the dispatcher may act again. At
    each of them the machine settles: whatever can be dispatched or started at that time is. The first barrier takes
    effect at time 0 (reports add the program's first fetch, ``dram.latency_cycles``).

    Parameters
    ----------
    rows : ndarray of shape (commands, 6), dtype int64
        Flat timing rows, columns of `hwsim.program.fields.Row`; no `LOOP`, no `END`. The first is a barrier; more may
        follow.
    queue_depth : int
        Commands that each unit's queue holds, at least 1. A place is free again when its command starts.
    dispatch_cycles : int
        Cycles from one dispatch to the next, at least 1.

    Returns
    -------
    Timeline
        Times of every command; busy and stalled cycles of every unit.

    Raises
    ------
    HwsimError
        Rows, depth or pace that break the rules above; a wait whose token, or turn at the port, never comes; a
        semaphore with more than 255 tokens.

    Examples
    --------
    A load of 10 cycles, whose data are there 5 cycles later, and a vector command that waits for them:

    >>> from hwsim.program.fields import Semaphore, Unit, mask
    >>> full = mask(Semaphore.IN_FULL)
    >>> barrier = [Unit.CONTROL, 0, 0, 0, 0, 0]
    >>> rows = np.array([barrier, [Unit.LOAD, 10, 5, 0, full, 0], [Unit.VECTOR, 3, 0, full, 0, 0]])
    >>> line = simulate_events(rows, queue_depth=2, dispatch_cycles=4)
    >>> line.start.tolist(), line.end.tolist(), line.cycles
    ([0, 4, 19], [0, 19, 22], 22)

    A program of one barrier lasts until the barrier that ends it is dispatched:

    >>> simulate_events(rows[:1], queue_depth=2, dispatch_cycles=4).cycles
    4
    """
    _check(rows, queue_depth, dispatch_cycles)
    machine = _Machine(rows, queue_depth, dispatch_cycles)
    while machine.cycles is None:
        machine.step()
    return Timeline(
        cycles=machine.cycles,
        dispatch=np.array(machine.dispatch, dtype=np.int64),
        start=np.array(machine.start, dtype=np.int64),
        end=np.array(machine.end, dtype=np.int64),
        busy_cycles=machine.busy_cycles,
        stall_cycles=machine.stall_cycles,
    )


def _check(rows: NDArray[np.int64], queue_depth: int, dispatch_cycles: int) -> None:
    if rows.ndim != 2 or rows.shape[1] != len(Row):
        raise HwsimError(f"timing rows must have shape (commands, {len(Row)}), not {rows.shape}")
    if queue_depth < 1 or dispatch_cycles < 1:
        raise HwsimError(f"queue_depth and dispatch_cycles must be at least 1, not {queue_depth} and {dispatch_cycles}")
    if not len(rows) or rows[0, Row.UNIT] != Unit.CONTROL:
        raise HwsimError("a program must start with a barrier (unit control)")
    units = rows[:, Row.UNIT]
    for index in np.flatnonzero((units < 0) | (units > Unit.CONTROL)):
        raise HwsimError(f"command {index}: a flat program has no unit {units[index]}; expand LOOP and END first")
    for index in np.flatnonzero((rows[:, [Row.OCCUPANCY, Row.TAIL, Row.DEFER]] < 0).any(axis=1)):
        _, occupancy, tail, _, _, defer = rows[index].tolist()
        raise HwsimError(
            f"command {index}: occupancy, tail and defer must be 0 or more, not {occupancy}, {tail} and {defer}"
        )


class _Machine:
    """Registers of the machine at time `now`, and the record of what has happened."""

    def __init__(self, rows: NDArray[np.int64], queue_depth: int, dispatch_cycles: int) -> None:
        self.unit: list[int] = rows[:, Row.UNIT].tolist()
        self.occupancy: list[int] = rows[:, Row.OCCUPANCY].tolist()
        self.tail: list[int] = rows[:, Row.TAIL].tolist()
        self.wait_mask: list[int] = rows[:, Row.WAIT].tolist()
        self.waits = [tuple(_members(m)) for m in self.wait_mask]
        self.posts = [tuple(_members(m)) for m in rows[:, Row.POST].tolist()]
        self.queue_depth = queue_depth
        self.dispatch_cycles = dispatch_cycles

        self.now = 0
        self.events: list[tuple[int, int]] = [(0, NOBODY)]  # (time, command that ends)
        self.next_command = 0  # what the dispatcher holds
        self.dispatcher_ready_at = 0
        self.running = 0  # commands dispatched and not yet ended
        self.queues: list[deque[int]] = [deque() for _ in UNIT_NAMES]
        self.free_at = [0] * len(UNIT_NAMES)  # end of the last occupancy, or the segment's start
        self.defer: list[int] = rows[:, Row.DEFER].tolist()
        self.port_order: deque[int] = deque()  # loads and stores whose tickets are drawn and not yet served
        self.held: deque[tuple[int, int]] = deque()  # stores without a ticket, and the loads that must draw before them
        self.loads = 0
        self.port_free_at = 0
        self.tokens = [0] * len(SEMAPHORE_NAMES)
        # Posting commands that have started, in order: a token counts once it *and all tokens before it* are posted.
        self.posters: list[deque[int]] = [deque() for _ in SEMAPHORE_NAMES]
        # What each unit's next command lacked, as a cause, when time last stood still.
        self.missing: list[int | None] = [None] * len(UNIT_NAMES)

        commands = len(rows)
        self.posted = [False] * commands
        self.dispatch = [0] * commands
        self.start = [0] * commands
        self.end = [0] * commands
        self.cycles: int | None = None
        self.busy_cycles = np.zeros(len(RESOURCE_NAMES), dtype=np.int64)
        self.stall_cycles = np.zeros((len(RESOURCE_NAMES), len(CAUSES)), dtype=np.int64)

    def step(self) -> None:
        """Go to the next time at which something happens, and do all that happens then."""
        if not self.events:
            self._refuse_deadlock()
        self.now = self.events[0][0]
        while self.events and self.events[0][0] == self.now:  # again if a command of 0 cycles has ended at once
            while self.events and self.events[0][0] == self.now:
                _, command = heappop(self.events)
                if command <= FIRST_POST:
                    self._post(FIRST_POST - command)
                elif command != NOBODY:
                    self.running -= 1
                    if self.unit[command] != Unit.STORE:
                        self._post(command)
            while self._dispatch_one() or self._start_one():
                pass
        self._check_counters()
        self.missing = [self._first_missing(unit) for unit in range(len(UNIT_NAMES))]

    def _post(self, command: int) -> None:
        self.posted[command] = True
        for semaphore in self.posts[command]:
            posters = self.posters[semaphore]
            while posters and self.posted[posters[0]]:
                posters.popleft()
                self.tokens[semaphore] += 1

    def _dispatch_one(self) -> bool:
        """Hand out the next command if its pace and its unit's queue allow; the one behind it never overtakes."""
        if self.cycles is not None or self.now < self.dispatcher_ready_at:
            return False
        command = self.next_command
        if command == len(self.unit) or self.unit[command] == Unit.CONTROL:
            if self.held:
                self.port_order.extend(store for store, _ in self.held)
                self.held.clear()
                return True
            if self.running:
                return False
            self._take_effect(command)
        else:
            queue = self.queues[self.unit[command]]
            if len(queue) == self.queue_depth:
                return False
            queue.append(command)
            self.running += 1
            self.dispatch[command] = self.now
            self._draw_tickets(command)
        self.next_command += 1
        self.dispatcher_ready_at = self.now + self.dispatch_cycles
        if self.cycles is None:
            heappush(self.events, (self.dispatcher_ready_at, NOBODY))
        return True

    def _draw_tickets(self, command: int) -> None:
        """Draw a load's ticket at once, and a store's as soon as its loads, and the stores before it, have theirs."""
        if self.unit[command] == Unit.LOAD:
            self.port_order.append(command)
            self.loads += 1
        elif self.unit[command] == Unit.STORE:
            self.held.append((command, self.loads + self.defer[command]))
        while self.held and self.held[0][1] <= self.loads:
            self.port_order.append(self.held.popleft()[0])

    def _take_effect(self, barrier: int) -> None:
        """End the segment: every unit has drained until now. Begin the next one, or end the program."""
        for unit, free_at in enumerate(self.free_at):
            self.stall_cycles[unit, DRAIN] += self.now - free_at
            self.free_at[unit] = self.now
        self.stall_cycles[PORT_ROW, DRAIN] += self.now - self.port_free_at
        self.port_free_at = self.now
        if barrier == len(self.unit):
            self.cycles = self.now
            return
        self.dispatch[barrier] = self.start[barrier] = self.end[barrier] = self.now
        counts = self.wait_mask[barrier]
        self.tokens = [counts >> (4 * semaphore) & 15 for semaphore in range(len(SEMAPHORE_NAMES))]

    def _start_one(self) -> bool:
        for unit, queue in enumerate(self.queues):
            if queue and self.now >= self.free_at[unit] and self._first_missing(unit) is None:
                self._start(queue.popleft())
                return True
        return False

    def _start(self, command: int) -> None:
        unit = self.unit[command]
        if self.now > self.free_at[unit]:
            cause = self.missing[unit]
            assert cause is not None, "an idle unit starts only when something that it lacked has come"
            self.stall_cycles[unit, cause] += self.now - self.free_at[unit]
            if unit in PORT_UNITS:
                self.stall_cycles[PORT_ROW, cause] += self.now - self.port_free_at
        for semaphore in self.waits[command]:
            self.tokens[semaphore] -= 1
        for semaphore in self.posts[command]:
            self.posters[semaphore].append(command)
        free_at = self.now + self.occupancy[command]
        self.free_at[unit] = free_at
        if unit in PORT_UNITS:
            self.port_free_at = free_at
            self.busy_cycles[PORT_ROW] += self.occupancy[command]
            self.port_order.popleft()
        self.busy_cycles[unit] += self.occupancy[command]
        self.start[command] = self.now
        self.end[command] = free_at + self.tail[command]
        heappush(self.events, (free_at, NOBODY))
        heappush(self.events, (self.end[command], command))
        if unit == Unit.STORE:  # its data have left; it ends with the response
            heappush(self.events, (min(free_at + STORE_LEAVES_CYCLES, self.end[command]), FIRST_POST - command))

    def _first_missing(self, unit: int) -> int | None:
        """Give the first cause, in the contract's order, for which the unit's next command cannot start now."""
        if not self.queues[unit]:
            return FETCH
        command = self.queues[unit][0]
        if self.held and self.held[0][0] <= command and unit == Unit.STORE:
            return FETCH  # what draws its ticket is still to be dispatched
        for semaphore in self.waits[command]:
            if self.tokens[semaphore] == 0:
                return 1 + semaphore
        if unit in PORT_UNITS and (self.port_order[0] != command or self.now < self.port_free_at):
            return PORT
        return None

    def _check_counters(self) -> None:
        for semaphore, tokens in enumerate(self.tokens):
            if tokens > MAX_TOKENS:
                raise HwsimError(
                    f"semaphore '{SEMAPHORE_NAMES[semaphore]}' must hold at most {MAX_TOKENS} tokens, not {tokens} "
                    f"(cycle {self.now}); post fewer tokens before they are taken"
                )

    def _refuse_deadlock(self) -> None:
        heads = sorted(queue[0] for queue in self.queues if queue)
        for command in heads:
            for semaphore in self.waits[command]:
                if self.tokens[semaphore] == 0:
                    raise HwsimError(
                        f"command {command} ({UNIT_NAMES[self.unit[command]]}) waits for a token of semaphore "
                        f"'{SEMAPHORE_NAMES[semaphore]}' that never comes (deadlock after cycle {self.now}); "
                        "post it in an earlier command or in the barrier"
                    )
        if not self.port_order:
            raise HwsimError(
                f"command {heads[0]} (store) waits for loads that are never dispatched "
                f"(deadlock after cycle {self.now}); defer the store by fewer loads or deepen the queues"
            )
        raise HwsimError(
            f"command {heads[0]} ({UNIT_NAMES[self.unit[heads[0]]]}) waits for the memory port behind command "
            f"{self.port_order[0]}, which is never dispatched (deadlock after cycle {self.now}); "
            "defer the store by fewer loads or deepen the queues"
        )


def _members(semaphore_mask: int) -> Iterator[int]:
    return (semaphore for semaphore in range(len(SEMAPHORE_NAMES)) if semaphore_mask >> semaphore & 1)
