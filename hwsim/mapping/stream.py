"""Streamed segments: tiles of lines through the accumulator and the vector unit, double-buffered.

A `Stream` says, for a tile of a given size, what is loaded, computed and stored; `tile_stream` finds the tile size
with the fewest cycles and
writes the program (docs/contracts/program.md). Which streams an op needs is in `hwsim.mapping.vector`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from math import inf, prod

import numpy as np

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.mapping.layout import dispatch_cycles
from hwsim.program import (
    CAUSES,
    FIELDS,
    HAND_OVER_CYCLES,
    RESOURCE_NAMES,
    BMode,
    Field,
    MoveField,
    MoveFlag,
    Program,
    Semaphore,
    Unit,
    VectorField,
    VectorFlag,
    VectorOp,
    mask,
    pack_counts,
    vector_cycles,
    vector_passes,
)
from hwsim.timing._kernels import time_rows

__all__ = ["At", "Box", "Micro", "Move", "StepScalar", "Stream", "Tile", "tile_stream"]

#: Lines of a vector command: three nested counts, the last fastest.
Box = tuple[int, int, int]


class StepScalar(IntEnum):
    """Scalars that change from step to step; linking writes them into the commands that name them."""

    ADAM_STEP = 0  # −learning_rate ÷ (1 − β₁ⁿ)
    ADAM_SECOND = 1  # 1 ÷ (1 − β₂ⁿ)


@dataclass(frozen=True)
class Move:
    """One load into, or store from, the accumulator.

    Attributes
    ----------
    operand : int
        Index among the op's inputs, then its outputs.
    lines : tuple of int
        Box (images, rows, pixels) of lines.
    line_bytes : int
        Bytes of one line.
    strides : tuple of int
        Bytes from image to image, row to row, pixel to pixel.
    offset : int
        Byte offset of the first tile.
    per_tile : int
        Byte offset from tile to tile.
    per_outer : tuple of int
        Byte offset from iteration to iteration of each outer loop of the stream.
    start, rows_per_tile : int
        Row coordinate of the first tile's first row, and its step per tile: rows outside the limits are padding.
    limits : tuple of int or None
        Rows and pixels of the tensor; `None` where the box lies inside by construction.
    start_w : int
        Pixel coordinate of the first pixel.
    odd : bool
        Lines do not start on the bus's grid.
    element_bytes : int
        Bytes of an element in DRAM; in the accumulator each is a 32-bit word.
    lowest : bool
        Padding is the lowest number instead of zero (maximum pooling).
    line : int
        First accumulator line, from the start of the slot, or of the fixed lines.
    fixed : bool
        Lies in the fixed lines, which all tiles of the segment share.
    repeats : bool
        Every line of the box is the same accumulator line (stores of zeros).
    """

    operand: int
    lines: tuple[int, int, int]
    line_bytes: int
    strides: tuple[int, int, int] = (0, 0, 0)
    offset: int = 0
    per_tile: int = 0
    per_outer: tuple[int, ...] = ()
    start: int = 0
    start_w: int = 0
    rows_per_tile: int = 0
    limits: tuple[int, int] | None = None
    odd: bool = False
    element_bytes: int = 4
    lowest: bool = False
    line: int = 0
    fixed: bool = False
    repeats: bool = False


@dataclass(frozen=True)
class At:
    """Lines of one operand of a micro-operation.

    Attributes
    ----------
    line : int
        First line, from the start of the tile's slot, or of the fixed lines.
    steps : tuple of int or None
        Lines per index of the box; `None`: one line after the other in the box's order.
    fixed : bool
        Lies in the fixed lines.
    mode : BMode
        For operand B: the line itself, or what is taken of it.
    """

    line: int
    steps: tuple[int, int, int] | None = None
    fixed: bool = False
    mode: BMode = BMode.LINE


@dataclass(frozen=True)
class Micro:
    """One micro-operation over a box of lines of `columns` lanes (docs/contracts/values.md, section 4).

    `b` may be a number, or a scalar of the step; `low` and `high` are the range of `CLAMP` and `SELECT`, `low` the
    number of `SET`. `out` is the output operand whose format the result is converted to, 0 if none.
    """

    op: VectorOp
    box: Box
    columns: int
    dst: At
    a: At | None = None
    b: At | float | StepScalar | None = None
    c: At | None = None
    low: float = 0.0
    high: float = inf
    out: int = 0


@dataclass(frozen=True)
class Tile:
    """What one tile needs: loads, micro-operations, stores, and accumulator lines of one slot (of a prologue or an
    epilogue: fixed lines).
    """

    loads: tuple[Move, ...]
    micros: tuple[Micro, ...]
    stores: tuple[Move, ...]
    sum_lines: int


@dataclass(frozen=True)
class Stream:
    """A streamed segment: loops `outers` around `size` units, cut into tiles of a multiple of `quantum` units."""

    size: int
    tile: Callable[[int], Tile]
    outers: tuple[int, ...] = ()
    quantum: int = 1
    prologue: Tile | None = None
    epilogue: Tile | None = None
    unit: str = "lines"


def tile_stream(stream: Stream, hw: Accelerator, name: str) -> tuple[Program, int, int]:
    """Find the tile size with the fewest cycles; exact over ``⌈size ÷ 2^i⌉`` in multiples of the
    quantum. The loads of the next tile pass the stores of each; more could not, since they need its slot.

    Returns
    -------
    program : Program
        The segment.
    cycles : int
        From barrier to barrier.
    size : int
        Units of a tile.

    Raises
    ------
    HwsimError
        If the smallest tile exceeds half the accumulator; the message says by how much.
    """
    reserved = sum(t.sum_lines for t in (stream.prologue, stream.epilogue) if t)
    best: tuple[int, int] | None = None
    smallest = 0
    found: Program | None = None
    for size in _sizes(stream):
        tile = stream.tile(size)
        smallest = tile.sum_lines + reserved
        if smallest > hw.accumulator_slot_lines:
            continue
        program = _emit(stream, tile, size, hw)
        cycles = _cycles(program, hw)
        if best is None or cycles < best[0]:
            best, found = (cycles, size), program
        if best is not None and size * 16 < best[1]:
            break
    if best is None or found is None:
        have, line = hw.accumulator_slot_lines, 4 * hw.array.cols
        raise HwsimError(
            f"{name}: one tile must fit half the accumulator, {have * line} bytes; the smallest needs "
            f"{smallest * line} bytes, {(smallest - have) * line} more"
        )
    return found, best[0], best[1]


def _sizes(stream: Stream) -> list[int]:
    units, parts = -(-stream.size // stream.quantum), 1
    sizes: list[int] = []
    while True:
        count = -(-units // parts)
        size = min(count * stream.quantum, stream.size)
        if not sizes or size != sizes[-1]:
            sizes.append(size)
        if count == 1:
            return sizes
        parts *= 2


def _cycles(program: Program, hw: Accelerator) -> int:
    busy, stalls = np.zeros(len(RESOURCE_NAMES), np.int64), np.zeros((len(RESOURCE_NAMES), len(CAUSES)), np.int64)
    cycles, status, item = time_rows(
        program.items, len(program.items), hw.control.queue_depth, dispatch_cycles(hw), True, busy, stalls, _NONE
    )
    if status:
        raise AssertionError(f"the emitted stream is illegal at item {item}: {program.listing()}")
    return int(cycles)


_NONE = np.empty((0, 3), np.int64)
_FULL, _DONE = mask(Semaphore.IN_FULL), mask(Semaphore.OUT_FULL)
_IN_FREE, _REST_FREE = mask(Semaphore.IN_FREE), mask(Semaphore.REST_FREE)
_LOAD, _VECTOR, _STORE, _CONTROL, _LOOP, _END = (
    int(u) for u in (Unit.LOAD, Unit.VECTOR, Unit.STORE, Unit.CONTROL, Unit.LOOP, Unit.END)
)
_DEFER, _COLUMNS, _FLAGS = int(Field.DEFER), int(Field.COLUMNS), int(Field.FLAGS)
_OFFSET, _START_H, _SLOT_A = int(Field.OFFSET), int(Field.START_H), int(Field.SLOT_A)
_PLACE, _PLACE_OUTER, _LINE = int(MoveField.PLACE), int(MoveField.PLACE_OUTER), int(MoveField.LINE)
_SCALAR, _SCALAR_2 = int(VectorField.SCALAR), int(VectorField.SCALAR_2)


class _Writer:
    """Rows and steps under construction; columns are those of `hwsim.program.Field`, in its order."""

    def __init__(self, hw: Accelerator, fixed: int) -> None:
        self.cols, self.fixed = hw.array.cols, fixed
        self.beat, self.channels, self.latency = hw.dram.beat_bytes, hw.dram.channels, hw.dram.latency_cycles
        self.lanes, self.vector_latency = hw.vector.lanes, hw.vector.latency_cycles
        self.rows: list[list[int]] = []
        self.steps: list[tuple[int, int, int, int]] = []

    def row(self, unit: int, occupancy: int) -> list[int]:
        """Append an item with everything else 0."""
        row = [0] * FIELDS
        row[0], row[1] = unit, occupancy
        self.rows.append(row)
        return row

    def move(self, move: Move, unit: int, wait: int, post: int, slot: int, at: int) -> int:
        """Append a load or a store of tile number `at`."""
        b, h, w = move.lines
        beats = -(-move.line_bytes // self.beat) + move.odd
        limit_h, limit_w = move.limits or (h, w)
        offset = move.offset + at * move.per_tile
        row = self.row(unit, -(-b * h * w * beats // self.channels))
        row[2:10] = (self.latency, wait, post, 0, 2, slot, 0, 0)  # 2: the accumulator
        row[10:22] = (
            move.operand,
            offset,
            b,
            h,
            w,
            *move.strides,
            move.start + at * move.rows_per_tile,
            move.start_w,
            1,
            1,
        )
        row[22:30] = (1, 1, 0, 0, limit_h, limit_w, move.line_bytes, beats)
        row[_COLUMNS] = move.line_bytes // move.element_bytes
        row[_FLAGS] = MoveFlag.LOWEST * move.lowest + MoveFlag.FIXED * move.fixed
        row[_LINE] = move.line + self.fixed * move.fixed
        if not move.repeats:
            row[_PLACE] = -(-row[_COLUMNS] // self.cols) * self.cols
            row[_PLACE_OUTER] = h * w * row[_PLACE]
        return len(self.rows) - 1

    def micro(self, micro: Micro, wait: int, post: int, slot: int) -> int:
        """Append a micro-operation."""
        n0, n1, n2 = micro.box
        cycles = vector_cycles(micro.op, micro.box, micro.columns, self.lanes, self.vector_latency)
        row = self.row(_VECTOR, cycles)
        row[2] = HAND_OVER_CYCLES
        row[3], row[4], row[6], row[7] = wait, post, int(micro.op), slot
        row[10], row[12:15] = micro.out, micro.box
        row[35:38] = n0 * n1 * n2, micro.columns, vector_passes(micro.op, micro.columns)
        flags = 0
        operands = ((VectorField.DST, micro.dst), (VectorField.A, micro.a), (VectorField.B, micro.b))
        for bit, (column, at) in enumerate((*operands, (VectorField.C, micro.c))):
            if isinstance(at, At):
                row[column] = at.line + self.fixed * at.fixed
                row[column + 1 : column + 4] = at.steps or (n1 * n2, n2, 1)
                flags |= at.fixed << bit | at.mode << 4
        row[_SCALAR], row[_SCALAR_2] = _word(micro.low), _word(micro.high)
        if isinstance(micro.b, StepScalar):
            row[_SCALAR] = int(micro.b)
            flags |= BMode.SCALAR << 4 | VectorFlag.LINKED
        elif isinstance(micro.b, float):
            row[_SCALAR] = _word(micro.b)
            flags |= BMode.SCALAR << 4
        row[_FLAGS] = flags
        return len(self.rows) - 1

    def step(self, row: int, loop: int, per_byte: int, per_row: int, alternates: int) -> None:
        """Let an item's offset, row coordinate and slot follow a loop."""
        for field, step in ((_OFFSET, per_byte), (_START_H, per_row), (_SLOT_A, alternates)):
            if step:
                self.steps.append((row, loop, field, step))

    def loop(self, count: int) -> int | None:
        """Open a loop, unless it would run once."""
        if count == 1:
            return None
        self.row(_LOOP, count)
        return len(self.rows) - 1

    def program(self) -> Program:
        return Program(np.array(self.rows, np.int64), np.array(self.steps, np.int64).reshape(-1, 4))


def _word(number: float) -> int:
    """Bits of the fp32 number nearest to a scalar."""
    return int(np.float32(number).view(np.uint32))


def _emit(stream: Stream, tile: Tile, size: int, hw: Accelerator) -> Program:
    """Barrier, prologue, loops over tiles, epilogue. The fixed lines follow those of a tile in half 0."""
    out = _Writer(hw, tile.sum_lines)
    credits = {Semaphore.IN_FREE: 2} if tile.stores else {Semaphore.REST_FREE: 2}
    out.row(_CONTROL, 0)[3] = pack_counts(credits)
    if stream.prologue:
        _once(out, stream.prologue)
    full, edge = divmod(stream.size, size)
    filled = full + (1 if edge else 0)  # slots that one iteration of the innermost outer loop fills
    outers = []
    for level, count in enumerate(stream.outers):
        outers.append((out.loop(count), filled * prod(stream.outers[level + 1 :])))
    inner = out.loop(full)
    _body(out, tile, tile, outers, inner, 0)
    if inner is not None:
        out.row(_END, 0)
    if edge:
        _body(out, stream.tile(edge), tile, outers, None, full)
    for loop, _ in outers:
        if loop is not None:
            out.row(_END, 0)
    if stream.epilogue:
        _once(out, stream.epilogue)
    return out.program()


def _once(out: _Writer, tile: Tile) -> None:
    """Prologue or epilogue: loads, then micro-operations, then stores, without slots to alternate."""
    for i, move in enumerate(tile.loads):
        out.move(move, _LOAD, 0, _FULL if i == len(tile.loads) - 1 else 0, 0, 0)
    for i, micro in enumerate(tile.micros):
        wait = _FULL if i == 0 and tile.loads else 0
        out.micro(micro, wait, _DONE if i == len(tile.micros) - 1 and tile.stores else 0, 0)
    for i, move in enumerate(tile.stores):
        out.move(move, _STORE, _DONE if i == 0 else 0, 0, 0, 0)


def _body(
    out: _Writer, tile: Tile, whole: Tile, outers: list[tuple[int | None, int]], inner: int | None, at: int
) -> None:
    """Tile number `at` of the innermost loop; an edge tile continues the strides of the `whole` one."""
    free = _IN_FREE if tile.stores else _REST_FREE
    turns = 1 if tile.loads else 0  # what only stores keeps to the slot that its prologue filled
    slot = turns * at % 2
    rows: list[tuple[int, Move]] = []
    for i, (move, of) in enumerate(zip(tile.loads, whole.loads, strict=True)):
        wait, post = free if i == 0 else 0, _FULL if i == len(tile.loads) - 1 else 0
        rows.append((out.move(_placed(move, of), _LOAD, wait, post, slot, at), of))
    for i, micro in enumerate(tile.micros):
        last = i == len(tile.micros) - 1
        post = (_DONE if tile.stores else free) if last else 0
        rows.append((out.micro(micro, _FULL if i == 0 and tile.loads else 0, post, slot), _STAYS))
    for i, (move, of) in enumerate(zip(tile.stores, whole.stores, strict=True)):
        wait = _DONE if i == 0 and tile.micros else 0
        post = free if i == len(tile.stores) - 1 and tile.loads else 0
        rows.append((out.move(_placed(move, of), _STORE, wait, post, slot, at), of))
        out.rows[-1][_DEFER] = len(tile.loads)
    for row, of in rows:
        if inner is not None:
            out.step(row, inner, of.per_tile, of.rows_per_tile, turns)
        for level, (loop, filled) in enumerate(outers):
            if loop is not None:
                out.step(row, loop, of.per_outer[level] if of.per_outer else 0, 0, turns * (filled % 2))


#: What a micro-operation's address follows: nothing but its slot.
_STAYS = Move(0, (0, 0, 0), 0)


def _placed(move: Move, whole: Move) -> Move:
    """An edge tile starts where full tiles would: it takes their strides, and is off the bus's grid where they are."""
    if move is whole:
        return move
    return replace(
        move,
        per_tile=whole.per_tile,
        per_outer=whole.per_outer,
        rows_per_tile=whole.rows_per_tile,
        odd=whole.odd,
    )
