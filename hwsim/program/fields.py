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
    "FORMAT_CODES",
    "HAND_OVER_CYCLES",
    "PORT",
    "RESOURCE_NAMES",
    "SCRATCHPAD_READ_CYCLES",
    "SEMAPHORE_NAMES",
    "STORE_LEAVES_CYCLES",
    "UNIT_NAMES",
    "ArrayField",
    "BMode",
    "Field",
    "MatrixFlag",
    "MoveField",
    "MoveFlag",
    "Row",
    "Semaphore",
    "Unit",
    "VectorField",
    "VectorFlag",
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

#: A unit begins so many cycles after its command's start: there is a register between the control and each unit.
HAND_OVER_CYCLES = 1
#: A read of the scratchpad is used so many cycles after it was addressed.
SCRATCHPAD_READ_CYCLES = 4
#: The data of a store have left the accumulator so many cycles after its occupancy.
STORE_LEAVES_CYCLES = 3

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


class MoveField(IntEnum):
    """Columns that loads and stores use under names of their own: where lines lie on the chip, and their format.

    In the accumulator, element j of line ``(h, w)`` of image b is word ``LINE · C + b · PLACE_OUTER + (h · W + w) ·
    PLACE + j``, C the array's columns. In the scratchpad, line l and column x of the tile are in lane ``x mod D`` of
    line ``LINE + slot · SPAN + ⌊x / D⌋ · TILE_LINES + l``; the elements of a tap begin at column ``tap · TAP_COLUMNS``.
    """

    PLACE = 30
    PLACE_OUTER = 31
    LINE = 32
    FORMAT = 33
    EXPONENT = 34
    SPAN = 35
    TILE_LINES = 37
    TAP_COLUMNS = 38


class ArrayField(IntEnum):
    """Columns that matrix commands use under names of their own: both operands in the scratchpad, as `MoveField`."""

    A_LINE = 15
    A_SPAN = 16
    A_LINES = 17
    B_LINE = 18
    B_SPAN = 19
    B_LINES = 26
    A_FORMAT = 27
    B_FORMAT = 28


class VectorField(IntEnum):
    """Columns that vector commands use under names of their own: lines of the box `COUNT_B` × `COUNT_H` × `COUNT_W`.

    Each operand is a first line and its steps per index of the box. `OPERAND` is the output that the result is
    converted for, 0 if none.
    """

    DST = 15
    A = 19
    B = 23
    C = 27
    SCALAR = 31
    SCALAR_2 = 32
    FORMAT = 33
    EXPONENT = 34


class MoveFlag(IntEnum):
    """Bits of `FLAGS` in loads and stores."""

    LOWEST = 1  # padding is −inf instead of zero
    EXPANDED = 2  # taps side by side in one scratchpad line
    TAPS_FIRST = 4  # scratchpad lines in the order (h, w, b) instead of (b, h, w)
    FIXED = 8  # accumulator lines in half 0, whatever the slot
    TRANSPOSED = 16  # stores: line i is lane i mod C of the lines from ⌊i / C⌋ · PLACE_OUTER on
    TRANSPOSED_OUTER = 32  # the same for image b instead of line i, from ⌊b / C⌋ · PLACE_OUTER + (h · W + w) · PLACE on


class MatrixFlag(IntEnum):
    """Bits of `FLAGS` in matrix commands."""

    ADDS = 1  # to the sums that are there, instead of overwriting them
    EXPANDED = 2  # the pixel operand holds expanded im2col lines
    WGRAD = 4  # the form that reduces over pixels
    W_BY_K = 8  # weights are stored by k
    X_BY_K = 16  # pixels are stored by k


class VectorFlag(IntEnum):
    """Bits of `FLAGS` in vector commands; the mode of operand B stands in bits 4 to 6."""

    FIXED_DST = 1  # the operand lies in half 0, whatever the slot
    FIXED_A = 2
    FIXED_B = 4
    FIXED_C = 8
    SUMS = 128  # A holds the array's sums
    STOCHASTIC = 256
    LINKED = 512  # SCALAR is the number of a step scalar, which linking replaces by its value


class BMode(IntEnum):
    """What operand B of a vector command is."""

    LINE = 0
    LANE_0 = 1  # lane 0 of the line, in all lanes
    WORD_1 = 2  # word i₁ from the first line on, in all lanes
    WORD_2 = 3  # word i₂
    SCALAR = 4


#: Codes of stored formats; 0 is a 32-bit word, which is moved as it is.
FORMAT_CODES = {"fp32": 0, "int32": 0, "int8": 1, "fp8_e4m3": 2, "fp8_e5m2": 3, "bf16": 4, "fp16": 5}


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
