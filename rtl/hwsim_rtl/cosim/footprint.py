"""What a command touches: bytes of memory, words of the accumulator, banks of the scratchpad.

From its fields alone (docs/contracts/program.md, section 4), apart from what executes commands. The accumulator is
three memories here, half 0, half 1 and the fixed lines, as the RTL has them; a word has the number
``line · C + lane``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwsim.hardware import Accelerator
from hwsim.program import ArrayField, BMode, Field, MoveField, MoveFlag, Unit, VectorField, VectorFlag, VectorOp

__all__ = ["FIXED", "READS_A", "READS_B", "READS_C", "SUMMING", "Footprint", "Operand", "footprint", "loaded_bytes_of",
           "stored_bytes_of", "vector_operands"]  # fmt: skip

Words = NDArray[np.int64]

#: Number of the memory with the fixed lines; those of the halves are their slots'.
FIXED = 2
INTO_ACCUMULATOR = 2
_NONE = np.zeros(0, np.int64)
_WIDTHS = {0: 4, 1: 1, 2: 1, 3: 1, 4: 2, 5: 2}
ACROSS = frozenset({VectorOp.SUM_LANES, VectorOp.MAXIMUM_LANES})
SUMMING = frozenset({VectorOp.SUM_LINES, VectorOp.MULTIPLY_SUM_LINES})
READS_C = frozenset({VectorOp.MULTIPLY_ADD, VectorOp.SELECT_EQUAL})
READS_B = READS_C | frozenset(
    {
        VectorOp.ADD_BIAS, VectorOp.ADD, VectorOp.SUBTRACT, VectorOp.MULTIPLY, VectorOp.MAXIMUM, VectorOp.SELECT,
        VectorOp.SELECT_LABEL, VectorOp.SUBTRACT_LABEL, VectorOp.MULTIPLY_SUM_LINES,
    }
)  # fmt: skip
READS_A = frozenset(VectorOp) - {VectorOp.SET}


@dataclass(frozen=True, eq=False)
class Operand:
    """Lines of an operand of a vector command.

    Attributes
    ----------
    memory : int
        Half, or `FIXED`.
    words : ndarray of shape (lines, lanes), dtype int64
        Per index of the box in order; one lane where the operand is one word for all.
    by_line : bool
        Lane by lane of a line.
    """

    memory: int
    words: Words
    by_line: bool


@dataclass(frozen=True, eq=False)
class Footprint:
    """What a command touches.

    Attributes
    ----------
    reads, writes : dict of int to ndarray
        By memory of the accumulator: words.
    undefines : dict of int to ndarray
        Words that hold nothing of use afterwards.
    banks : frozenset of int
        Of the scratchpad, read or written.
    """

    reads: dict[int, Words]
    writes: dict[int, Words]
    undefines: dict[int, Words]
    banks: frozenset[int]

    @property
    def memories(self) -> frozenset[int]:
        """Memories of the accumulator that it uses."""
        return frozenset(self.reads) | frozenset(self.writes)


def footprint(row: NDArray[np.int64], hw: Accelerator) -> Footprint:
    """Give what a linked command touches on the chip."""
    unit = row[Field.UNIT]
    if unit == Unit.LOAD:
        return _load(row, hw)
    if unit == Unit.STORE:
        memory = FIXED if row[Field.FLAGS] & MoveFlag.FIXED else int(row[Field.SLOT_A])
        return Footprint({memory: _moved_words(row, hw.array.cols)}, {}, {}, frozenset())
    if unit == Unit.MATRIX:
        return _matrix(row, hw)
    if unit == Unit.VECTOR:
        return _vector(row, hw)
    return Footprint({}, {}, {}, frozenset())


def _load(row: NDArray[np.int64], hw: Accelerator) -> Footprint:
    cols, deep = hw.array.cols, hw.line_elements
    if row[Field.OPCODE] == INTO_ACCUMULATOR:
        memory = FIXED if row[Field.FLAGS] & MoveFlag.FIXED else int(row[Field.SLOT_A])
        words = _moved_words(row, cols)
        return Footprint({}, {memory: words}, {}, frozenset())
    lines = int(np.prod(row[[Field.COUNT_B, Field.COUNT_H, Field.COUNT_W]]))
    taps = int(row[Field.TAPS_H] * row[Field.TAPS_W])
    columns = (taps - 1) * int(row[MoveField.TAP_COLUMNS]) + int(row[Field.LINE_BYTES]) // hw.operand_bytes
    first = int(row[MoveField.LINE] + row[Field.SLOT_A] * row[MoveField.SPAN])
    return Footprint({}, {}, {}, _banks(first, columns, int(row[MoveField.TILE_LINES]), lines, deep, hw))


def _matrix(row: NDArray[np.int64], hw: Accelerator) -> Footprint:
    """Banks of both slots' spans; the sums' lines."""
    half, lines = int(row[Field.SLOT_C]), int(row[Field.LINES])
    words = np.arange(lines * hw.array.cols)
    banks: set[int] = set()
    for side, slot in (("A", Field.SLOT_A), ("B", Field.SLOT_B)):
        span = int(row[ArrayField[f"{side}_SPAN"]])
        first = int(row[ArrayField[f"{side}_LINE"]] + row[slot] * span) // hw.scratchpad_bank_lines
        banks |= set(range(first, first + span // hw.scratchpad_bank_lines))
    return Footprint({half: words}, {half: words}, {}, frozenset(banks))


def _banks(first: int, columns: int, tile_lines: int, lines: int, deep: int, hw: Accelerator) -> frozenset[int]:
    last = first + (-(-columns // deep) - 1) * tile_lines + lines - 1
    return frozenset(range(first // hw.scratchpad_bank_lines, last // hw.scratchpad_bank_lines + 1))


def _moved_words(row: NDArray[np.int64], cols: int) -> Words:
    """Words that a load fills, the ends of its lines too, or that a store sends."""
    b, h, w = (np.arange(row[Field[f"COUNT_{axis}"]]) for axis in "BHW")
    count = int(row[Field.LINE_BYTES]) // _WIDTHS[int(row[MoveField.FORMAT])]
    i = (h[:, None] * len(w) + w[None, :]).ravel()
    base = int(row[MoveField.LINE]) * cols
    place, outer = int(row[MoveField.PLACE]), int(row[MoveField.PLACE_OUTER])
    step = 1
    if row[Field.UNIT] == Unit.STORE and row[Field.FLAGS] & (MoveFlag.TRANSPOSED | MoveFlag.TRANSPOSED_OUTER):
        step = cols
        if row[Field.FLAGS] & MoveFlag.TRANSPOSED_OUTER:
            starts = (b // cols * outer * cols + b % cols)[:, None] + i[None, :] * place * cols
        else:
            line = b[:, None] * len(i) + i[None, :]
            starts = line // cols * outer * cols + line % cols
    else:
        starts = b[:, None] * outer + i[None, :] * place
    if row[Field.UNIT] == Unit.LOAD:
        count = -(-count // cols) * cols
    else:
        starts = starts[_inside(row)[:, :, 0]]
    words: Words = np.unique(base + starts.ravel()[:, None] + np.arange(count)[None, :] * step)
    return words


def _inside(row: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each line of a box is no padding: (images, pixels, taps)."""
    y, x = _coordinates(row)
    inside: NDArray[np.bool_] = (y >= 0) & (y < row[Field.LIMIT_H]) & (x >= 0) & (x < row[Field.LIMIT_W])
    return np.broadcast_to(inside[None], (int(row[Field.COUNT_B]), *inside.shape))


def _coordinates(row: NDArray[np.int64]) -> tuple[Words, Words]:
    """Coordinates of a box's lines, (pixels, taps) each."""
    h, w = (np.arange(row[Field[f"COUNT_{axis}"]]) for axis in "HW")
    th, tw = (np.arange(row[Field[f"TAPS_{axis}"]]) for axis in "HW")
    y = row[Field.START_H] + h[:, None] * row[Field.INC_H] + th[None, :] * row[Field.TAP_H]
    x = row[Field.START_W] + w[:, None] * row[Field.INC_W] + tw[None, :] * row[Field.TAP_W]
    shape = (len(h), len(w), len(th), len(tw))
    ys = np.broadcast_to(y[:, None, :, None], shape).reshape(len(h) * len(w), -1)
    xs = np.broadcast_to(x[None, :, None, :], shape).reshape(len(h) * len(w), -1)
    return ys, xs


def loaded_bytes_of(row: NDArray[np.int64]) -> Words:
    """First byte of every line that a linked load or store moves, padding left out."""
    y, x = _coordinates(row)
    at = row[Field.OFFSET] + y * row[Field.STEP_H] + x * row[Field.STEP_W]
    images = np.arange(row[Field.COUNT_B]) * row[Field.STEP_B]
    addresses: Words = (images[:, None, None] + at[None])[_inside(row)]
    return addresses


def stored_bytes_of(row: NDArray[np.int64]) -> Words:
    """Addresses of the bytes that a linked store writes."""
    addresses: Words = (loaded_bytes_of(row)[:, None] + np.arange(row[Field.LINE_BYTES])[None, :]).ravel()
    return addresses


def vector_operands(row: NDArray[np.int64], cols: int) -> dict[str, Operand]:
    """Give the operands that a vector command's micro-operation has: DST and what it reads of A, B and C."""
    op, flags = VectorOp(row[Field.OPCODE]), int(row[Field.FLAGS])
    mode = BMode(flags >> 4 & 7)
    n0, n1, n2 = np.indices(tuple(row[Field[f"COUNT_{axis}"]] for axis in "BHW")).reshape(3, -1)
    lanes = np.arange(row[Field.COLUMNS])
    found = {}
    names = {"DST": True, "A": op in READS_A, "B": op in READS_B and mode is not BMode.SCALAR, "C": op in READS_C}
    fixed = (VectorFlag.FIXED_DST, VectorFlag.FIXED_A, VectorFlag.FIXED_B, VectorFlag.FIXED_C)
    for (name, used), flag in zip(names.items(), fixed, strict=True):
        if not used:
            continue
        column = int(VectorField[name])
        line = row[column] + n0 * row[column + 1] + n1 * row[column + 2] + n2 * row[column + 3]
        words = line[:, None] * cols + lanes[None, :]
        by_line = name != "B" or (mode is BMode.LINE and op not in (VectorOp.SELECT_LABEL, VectorOp.SUBTRACT_LABEL))
        if not by_line:
            turn = {BMode.WORD_1: n1, BMode.WORD_2: n2}.get(mode, np.zeros_like(n1))
            words = (line * cols + turn)[:, None]
        found[name] = Operand(FIXED if flags & flag else int(row[Field.SLOT_A]), words, by_line)
    return found


def _vector(row: NDArray[np.int64], hw: Accelerator) -> Footprint:
    op = VectorOp(row[Field.OPCODE])
    operands = vector_operands(row, hw.array.cols)
    target = operands["DST"]
    reads: dict[int, Words] = {}
    for name, operand in operands.items():
        if name != "DST" or op in SUMMING:
            kept = reads.get(operand.memory, _NONE)
            reads[operand.memory] = np.union1d(kept, operand.words)
    if op not in ACROSS:
        return Footprint(reads, {target.memory: target.words.ravel()}, {}, frozenset())
    lines = target.words[:, :1]
    others = (lines + np.arange(1, hw.array.cols)[None, :]).ravel()
    return Footprint(reads, {target.memory: lines.ravel()}, {target.memory: others}, frozenset())
