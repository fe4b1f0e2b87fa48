"""Compiled recurrence of docs/contracts/cycles.md over compressed timing rows; called from `hwsim.timing.recurrence`
and `hwsim.mapping`.

The machine's whole state at a loop's end is a short vector of times. Where it equals, shifted by a constant, the
state some iterations
earlier, the future repeats exactly, and the remaining iterations are jumped over.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["BAD_QUEUE", "BAD_TOKEN", "OK", "TOO_MANY", "time_rows"]

OK, BAD_TOKEN, BAD_QUEUE, TOO_MANY = 0, 1, 2, 3

_LOAD, _STORE, _CONTROL, _LOOP, _END = 0, 3, 4, 5, 6
_SEMAPHORES = 10
_TOKENS = 256  # a semaphore holds at most 255
_CAUSES = 13
_PORT_CAUSE, _DRAIN_CAUSE = 11, 12
_UNITS = 4
_PORT_ROW, _RESOURCES = 4, 5  # the port is counted behind the units
_ON_PORT = 1 << _LOAD | 1 << _STORE
_DEPTH = 8  # nesting of loops
_HISTORY = 8  # longest period looked for [iterations]
_LONG_AGO = -(1 << 60)
HAND_OVER_CYCLES = 1  # both as in hwsim.program.fields
STORE_LEAVES_CYCLES = 3

# Scalars of the state.
_DISPATCH, _PORT, _LAST_END, _LOADS, _BARRIER = 0, 1, 2, 3, 4


@njit(cache=True)
def _reset(t, counts, clock, free, ring, tokens, head, live, pending):  # type: ignore[no-untyped-def]
    """Barrier at `t`: everything is idle, semaphores hold their initial counts."""
    clock[_DISPATCH] = t
    clock[_PORT] = t
    clock[_LAST_END] = t
    clock[_LOADS] = 0
    clock[_BARRIER] = t
    free[:] = t
    ring[:] = _LONG_AGO
    pending[0, 0] = 0
    for s in range(_SEMAPHORES):
        head[s] = 0
        live[s] = (counts >> (4 * s)) & 15
        for i in range(live[s]):
            tokens[s, i] = t


@njit(cache=True)
def _start(row, dispatched, clock, free, ring, ring_at, tokens, head, live, busy, stalls):  # type: ignore[no-untyped-def]
    """Time one command; gives its start, or a negative code."""
    unit = row[0]
    start = max(dispatched, free[unit])
    on_port = unit in (_LOAD, _STORE)
    if on_port and clock[_PORT] > start:
        start = clock[_PORT]
    wait = row[3]
    for s in range(_SEMAPHORES):
        if (wait >> s) & 1:
            if live[s] == 0:
                return -1 - s
            if tokens[s, head[s]] > start:
                start = tokens[s, head[s]]
    gap = start - free[unit]
    if gap > 0:
        cause = _PORT_CAUSE
        if dispatched == start:
            cause = 0
        else:
            for s in range(_SEMAPHORES):
                if (wait >> s) & 1 and tokens[s, head[s]] == start:
                    cause = 1 + s
                    break
        stalls[unit, cause] += gap
        if on_port and start > clock[_PORT]:
            stalls[_PORT_ROW, cause] += start - clock[_PORT]
    for s in range(_SEMAPHORES):
        if (wait >> s) & 1:
            head[s] = (head[s] + 1) % _TOKENS
            live[s] -= 1
    occupied = start + row[1]
    end = occupied + row[2]
    busy[unit] += row[1]
    free[unit] = occupied
    if on_port:
        busy[_PORT_ROW] += row[1]
        clock[_PORT] = occupied
    if end > clock[_LAST_END]:
        clock[_LAST_END] = end
    for s in range(_SEMAPHORES):
        if (row[4] >> s) & 1:
            if live[s] >= _TOKENS - 1:
                return -100 - s
            tokens[s, (head[s] + live[s]) % _TOKENS] = (
                min(occupied + STORE_LEAVES_CYCLES, end) if unit == _STORE else end
            )
            live[s] += 1
    ring[unit, ring_at] = start
    return start


@njit(cache=True)
def _snapshot(clock, free, units, ring, issued, tokens, head, live, pending, out):  # type: ignore[no-untyped-def]
    """Write the state relative to the last dispatch; times that can no longer bind count as that time. Gives the
    length.
    """
    ref = clock[_DISPATCH]
    n = 0
    out[n] = clock[_PORT] - ref if units & _ON_PORT else 0
    out[n + 1] = max(clock[_LAST_END] - ref, 0)
    n += 2
    depth = ring.shape[1]
    for u in range(_UNITS):
        if (units >> u) & 1:
            out[n] = free[u] - ref
            n += 1
            for i in range(depth):
                out[n] = max(ring[u, (issued[u] + i) % depth] - ref, 0)
                n += 1
    for s in range(_SEMAPHORES):
        out[n] = live[s]
        n += 1
        for i in range(live[s]):
            out[n] = max(tokens[s, (head[s] + i) % _TOKENS] - ref, 0)
            n += 1
    out[n] = pending[0, 0]
    n += 1
    for i in range(1, pending[0, 0] + 1):
        out[n] = pending[i, 0]
        out[n + 1] = max(pending[i, 1] - ref, 0)
        out[n + 2] = pending[i, 2] - clock[_LOADS]
        n += 3
    return n


@njit(cache=True)
def _shift(by, loads, clock, free, units, ring, tokens, head, live, pending):  # type: ignore[no-untyped-def]
    """Move the state on by a time and a number of loads."""
    clock[_DISPATCH] += by
    if units & _ON_PORT:
        clock[_PORT] += by
    clock[_LAST_END] += by
    clock[_LOADS] += loads
    for u in range(_UNITS):
        if (units >> u) & 1:
            free[u] += by
            for i in range(ring.shape[1]):
                if ring[u, i] != _LONG_AGO:
                    ring[u, i] += by
    for s in range(_SEMAPHORES):
        for i in range(live[s]):
            tokens[s, (head[s] + i) % _TOKENS] += by
    for i in range(1, pending[0, 0] + 1):
        pending[i, 1] += by
        pending[i, 2] += loads


@njit(cache=True)
def _body_units(rows, first):  # type: ignore[no-untyped-def]
    """Units that a loop's body uses, as a mask; a barrier touches all."""
    used, depth, i = 0, 1, first
    while depth > 0:
        unit = rows[i, 0]
        if unit == _LOOP:
            depth += 1
        elif unit == _END:
            depth -= 1
        elif unit == _CONTROL:
            used = (1 << _UNITS) - 1
        else:
            used |= 1 << unit
        i += 1
    return used


@njit(cache=True)
def time_rows(
    rows: NDArray[np.int64],
    items: int,
    queue_depth: int,
    dispatch_cycles: int,
    jump: bool,
    busy: NDArray[np.int64],
    stalls: NDArray[np.int64],
    record: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Time compressed rows whose first one is a barrier at 0.

    Adds to `busy` (5,) and `stalls` (5, causes), writes (start, end, dispatch) of the first commands into `record`
    (n, 3), in program order.
    Gives (cycles, status, item): status `OK`, or what went wrong at which item.
    """
    clock = np.zeros(5, np.int64)
    free = np.zeros(_UNITS, np.int64)
    ring = np.full((_UNITS, queue_depth), _LONG_AGO, np.int64)
    issued = np.zeros(_UNITS, np.int64)
    tokens = np.zeros((_SEMAPHORES, _TOKENS), np.int64)
    head = np.zeros(_SEMAPHORES, np.int64)
    live = np.zeros(_SEMAPHORES, np.int64)
    pending = np.zeros(
        (queue_depth + 2, 5), np.int64
    )  # row 0: how many; item, dispatched, due load, ring place, record place

    loop_at = np.zeros(_DEPTH, np.int64)
    loop_left = np.zeros(_DEPTH, np.int64)
    loop_units = np.zeros(_DEPTH, np.int64)
    seen = np.zeros(_DEPTH, np.int64)
    width = 3 + _UNITS * (queue_depth + 1) + _SEMAPHORES * 17 + 3 * queue_depth
    past = np.empty((_DEPTH, _HISTORY, width), np.int64)
    past_length = np.empty((_DEPTH, _HISTORY), np.int64)
    past_clock = np.empty((_DEPTH, _HISTORY, 2), np.int64)
    past_busy = np.empty((_DEPTH, _HISTORY, _RESOURCES), np.int64)
    past_stalls = np.empty((_DEPTH, _HISTORY, _RESOURCES, _CAUSES), np.int64)
    now = np.zeros(3 + _UNITS * (queue_depth + 1) + _SEMAPHORES * _TOKENS + 3 * queue_depth, np.int64)

    depth = 0
    recorded = 0
    i = 0
    while i <= items:
        unit = rows[i, 0] if i < items else _CONTROL
        if unit == _LOOP:
            loop_at[depth] = i
            loop_left[depth] = rows[i, 1]
            loop_units[depth] = _body_units(rows, i + 1)
            seen[depth] = 0
            depth += 1
            i += 1
            continue
        if unit == _END:
            level = depth - 1
            loop_left[level] -= 1
            if loop_left[level] == 0:
                depth -= 1
                i += 1
                continue
            if jump and loop_left[level] > 1:
                units = loop_units[level]
                n = _snapshot(clock, free, units, ring, issued, tokens, head, live, pending, now)
                period = 0
                if n <= width:
                    for back in range(1, min(seen[level], _HISTORY) + 1):
                        slot = (seen[level] - back) % _HISTORY
                        if past_length[level, slot] == n and np.array_equal(past[level, slot, :n], now[:n]):
                            period = back
                            break
                if period > 0:
                    slot = (seen[level] - period) % _HISTORY
                    times = loop_left[level] // period
                    if loop_left[level] % period == 0:
                        times -= 1  # the last iterations run, so that a loop's end needs no case of its own
                    if times > 0:
                        by = times * (clock[_DISPATCH] - past_clock[level, slot, 0])
                        loads = times * (clock[_LOADS] - past_clock[level, slot, 1])
                        _shift(by, loads, clock, free, units, ring, tokens, head, live, pending)
                        for u in range(_RESOURCES):
                            busy[u] += times * (busy[u] - past_busy[level, slot, u])
                            for c in range(_CAUSES):
                                stalls[u, c] += times * (stalls[u, c] - past_stalls[level, slot, u, c])
                        loop_left[level] -= times * period
                    seen[level] = 0
                elif n <= width:
                    slot = seen[level] % _HISTORY
                    past[level, slot, :n] = now[:n]
                    past_length[level, slot] = n
                    past_clock[level, slot, 0] = clock[_DISPATCH]
                    past_clock[level, slot, 1] = clock[_LOADS]
                    past_busy[level, slot] = busy
                    past_stalls[level, slot] = stalls
                    seen[level] += 1
            i = loop_at[level] + 1
            continue
        if unit != _CONTROL:
            place = issued[unit] % queue_depth
            for p in range(1, pending[0, 0] + 1):
                if unit == _STORE and pending[p, 3] == place:
                    return 0, BAD_QUEUE, i  # the queue is full of stores that wait for a later load
            dispatched = max(clock[_DISPATCH] + dispatch_cycles, ring[unit, place])
            clock[_DISPATCH] = dispatched
            issued[unit] += 1
            if unit == _LOAD:
                clock[_LOADS] += 1
            if recorded < record.shape[0]:
                record[recorded, 2] = dispatched
            if unit == _STORE and (rows[i, 5] > 0 or pending[0, 0] > 0):
                # In the port's order this store comes after loads still to come: time it then.
                pending[0, 0] += 1
                p = pending[0, 0]
                due = clock[_LOADS] + rows[i, 5]
                if p > 1 and pending[p - 1, 2] > due:
                    due = pending[p - 1, 2]
                pending[p, 0] = i
                pending[p, 1] = dispatched
                pending[p, 2] = due
                pending[p, 3] = place
                pending[p, 4] = recorded
            else:
                start = _start(rows[i], dispatched, clock, free, ring, place, tokens, head, live, busy, stalls)
                if start < 0:
                    return -start, BAD_TOKEN if start > -100 else TOO_MANY, i
                if recorded < record.shape[0]:
                    record[recorded, 0] = start
                    record[recorded, 1] = start + rows[i, 1] + rows[i, 2]
            recorded += 1
        # Stores whose loads have passed take their turn; at a barrier all do.
        due_count = 0
        for p in range(1, pending[0, 0] + 1):
            if unit == _CONTROL or pending[p, 2] <= clock[_LOADS]:
                item = pending[p, 0]
                drawn = pending[p, 1]
                if unit == _CONTROL and pending[p, 2] > clock[_LOADS]:
                    drawn = max(drawn, clock[_DISPATCH] + dispatch_cycles)  # the barrier's arrival draws the ticket
                start = _start(rows[item], drawn, clock, free, ring, pending[p, 3], tokens, head, live, busy, stalls)
                if start < 0:
                    return -start, BAD_TOKEN if start > -100 else TOO_MANY, item
                if pending[p, 4] < record.shape[0]:
                    record[pending[p, 4], 0] = start
                    record[pending[p, 4], 1] = start + rows[item, 1] + rows[item, 2]
                due_count += 1
            else:
                break
        if due_count > 0:
            left = pending[0, 0] - due_count
            for p in range(1, left + 1):
                pending[p] = pending[p + due_count]
            pending[0, 0] = left
        if unit == _CONTROL:
            barrier = 0
            if i > 0:
                barrier = max(clock[_LAST_END], clock[_DISPATCH] + dispatch_cycles)
                for u in range(_UNITS):
                    stalls[u, _DRAIN_CAUSE] += barrier - free[u]
                stalls[_PORT_ROW, _DRAIN_CAUSE] += barrier - clock[_PORT]
            _reset(barrier, rows[i, 3] if i < items else 0, clock, free, ring, tokens, head, live, pending)
            if i < items and recorded < record.shape[0]:
                record[recorded, :] = barrier
            recorded += 1
        i += 1
    return clock[_BARRIER], OK, -1
