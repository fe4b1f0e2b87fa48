"""The fast timing model: the recurrence of docs/contracts/cycles.md, jumping over like tiles.

`simulate_rows` takes a program's compressed timing rows and gives exactly the cycles, busy cycles and stalls that
`hwsim.timing.events` finds by stepping
the machine through the expanded program. Its cost grows with the number of distinct tiles, not with their count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.program import CAUSES, RESOURCE_NAMES, SEMAPHORE_NAMES, UNIT_NAMES
from hwsim.program.fields import Row, Unit
from hwsim.timing import _kernels

__all__ = ["SegmentTiming", "command_times", "simulate_rows"]


@dataclass(frozen=True, eq=False)
class SegmentTiming:
    """Cycles of a program, and what each unit did with them.

    Attributes
    ----------
    cycles : int
        Time at which the final barrier takes effect [cycles].
    busy_cycles : ndarray of shape (5,), dtype int64
        Occupied cycles per resource: the units, then the port.
    stall_cycles : ndarray of shape (5, len(CAUSES)), dtype int64
        Cycles not occupied, by cause; busy + stalls = cycles for every resource.
    """

    cycles: int
    busy_cycles: NDArray[np.int64]
    stall_cycles: NDArray[np.int64]


def simulate_rows(
    rows: NDArray[np.int64], queue_depth: int, dispatch_cycles: int, *, jump: bool = True
) -> SegmentTiming:
    """Time a program that begins with a barrier at 0.

    Parameters
    ----------
    rows : ndarray of shape (items, ≥ 6), dtype int64
        Timing rows, compressed or flat.
    queue_depth : int
        Commands that each unit's queue holds.
    dispatch_cycles : int
        δ, cycles between two dispatches.
    jump : bool
        Jump over repetitions; without, every command is computed. The result is the same.

    Raises
    ------
    HwsimError
        If the program is not legal: a wait without a post, a full queue of deferred stores, more than 255 tokens.
    """
    timing, _ = _run(rows, queue_depth, dispatch_cycles, jump, 0)
    return timing


def command_times(rows: NDArray[np.int64], queue_depth: int, dispatch_cycles: int) -> NDArray[np.int64]:
    """Give start, end and dispatch of every command of flat rows: ndarray of shape (commands, 3) [cycles].

    Raises
    ------
    HwsimError
        If the program is not legal.
    """
    return _run(rows, queue_depth, dispatch_cycles, False, len(rows))[1]


def _run(
    rows: NDArray[np.int64], queue_depth: int, dispatch_cycles: int, jump: bool, recorded: int
) -> tuple[SegmentTiming, NDArray[np.int64]]:
    if len(rows) == 0 or rows[0, Row.UNIT] != Unit.CONTROL:
        raise HwsimError("a program must begin with a barrier")
    busy = np.zeros(len(RESOURCE_NAMES), np.int64)
    stalls = np.zeros((len(RESOURCE_NAMES), len(CAUSES)), np.int64)
    record = np.zeros((recorded, 3), np.int64)
    first, status, item = _kernels.time_rows(rows, len(rows), queue_depth, dispatch_cycles, jump, busy, stalls, record)
    if status != _kernels.OK:
        raise HwsimError(_illegal(rows, first, status, item))
    return SegmentTiming(int(first), busy, stalls), record


def _illegal(rows: NDArray[np.int64], detail: int, status: int, item: int) -> str:
    unit = UNIT_NAMES[rows[item, Row.UNIT]]
    if status == _kernels.BAD_TOKEN:
        return f"item {item}: the {unit} unit waits for '{SEMAPHORE_NAMES[detail - 1]}', which nothing before it posts"
    if status == _kernels.TOO_MANY:
        return f"item {item}: '{SEMAPHORE_NAMES[detail - 100]}' would hold more than 255 tokens"
    return f"item {item}: the store queue is full of stores that wait for loads still to come; defer them less"
