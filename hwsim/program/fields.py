"""The columns of a program: units, semaphores, item fields, and the short rows that timing needs.

Normative: docs/contracts/program.md. Everything is an integer, so that compiled kernels, the simulator and the RTL
share one list.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "CAUSES",
    "DRAIN",
    "FETCH",
    "FIELDS",
    "PORT",
    "RESOURCE_NAMES",
    "SEMAPHORE_NAMES",
    "UNIT_NAMES",
    "Field",
    "Row",
    "Semaphore",
    "Unit",
    "mask",
    "pack_counts",
]


class Unit(IntEnum):
    """Executor of an item. `LOOP` and `END` are not commands: they repeat what is between them."""

    LOAD = 0
    MATRIX = 1
    VECTOR = 2
    STORE = 3
    CONTROL = 4
    LOOP = 5
    END = 6


#: Names of the four executing units, in the order of `Unit`.
UNIT_NAMES = ("load", "matrix", "vector", "store")
#: What can be busy or stall: the units, and the memory port that loads and stores share.
RESOURCE_NAMES = (*UNIT_NAMES, "port")


class Semaphore(IntEnum):
    """Counting semaphores; each has one posting and one waiting unit in any one segment."""

    A_FULL = 0
    B_FULL = 1
    A_FREE = 2
    B_FREE = 3
    SUM_FULL = 4
    SUM_FREE = 5
    OUT_FULL = 6
    IN_FULL = 7
    IN_FREE = 8
    REST_FREE = 9


SEMAPHORE_NAMES = tuple(s.name.lower() for s in Semaphore)

# Causes of stalls, by index: dispatch first, then the semaphores, then the port, then the end of the segment.
FETCH = 0
PORT = 1 + len(SEMAPHORE_NAMES)
DRAIN = PORT + 1
CAUSES = ("fetch", *SEMAPHORE_NAMES, "port", "drain")


class Row(IntEnum):
    """Columns of a timing row, an int64 array of shape ``(items, 6)``: the first columns of an item.

    For a `LOOP`, `OCCUPANCY` is the count. For a barrier (unit `CONTROL`), `WAIT` is `pack_counts` of the initial
    counts.
    `DEFER` is how many later loads a store lets pass at the port.
    """

    UNIT = 0
    OCCUPANCY = 1
    TAIL = 2
    WAIT = 3
    POST = 4
    DEFER = 5


class Field(IntEnum):
    """Columns of an item; the first six are those of `Row`.

    Loads and stores move a box of lines: ``COUNT_B × COUNT_H × COUNT_W`` pixels, each with ``TAPS_H × TAPS_W`` taps,
    at the coordinates
    ``START + i · INC + tap · TAP``, which are padding outside ``0 … LIMIT − 1``, and at ``STEP`` bytes per
    coordinate from `OFFSET` in the operand.
    Matrix commands use the same names for their pixels and taps.
    """

    UNIT = 0
    OCCUPANCY = 1
    TAIL = 2
    WAIT = 3
    POST = 4
    DEFER = 5
    OPCODE = 6
    SLOT_A = 7
    SLOT_B = 8
    SLOT_C = 9
    OPERAND = 10
    OFFSET = 11
    COUNT_B = 12
    COUNT_H = 13
    COUNT_W = 14
    STEP_B = 15
    STEP_H = 16
    STEP_W = 17
    START_H = 18
    START_W = 19
    INC_H = 20
    INC_W = 21
    TAPS_H = 22
    TAPS_W = 23
    TAP_H = 24
    TAP_W = 25
    LIMIT_H = 26
    LIMIT_W = 27
    LINE_BYTES = 28
    BEATS = 29
    CHANNELS = 30
    OUTPUTS = 31
    FOLDS = 32
    INTERVAL = 33
    STREAM = 34
    LINES = 35
    COLUMNS = 36
    PASSES = 37
    MACS = 38
    FLAGS = 39


FIELDS = len(Field)


def mask(*semaphores: Semaphore) -> int:
    """Set of semaphores as a bit mask.

    >>> mask(Semaphore.A_FULL, Semaphore.A_FREE)
    5
    """
    return sum(1 << s for s in semaphores)


def pack_counts(counts: dict[Semaphore, int]) -> int:
    """Pack initial counts, four bits a semaphore, 0 to 15 each.

    >>> pack_counts({Semaphore.A_FULL: 1, Semaphore.B_FULL: 2})
    33
    """
    if any(not 0 <= n <= 15 for n in counts.values()):
        raise ValueError(f"initial counts must be 0 to 15, not {counts}")
    return sum(n << (4 * s) for s, n in counts.items())
