"""Streamed segments: tiles of lines through the accumulator and the vector unit, double-buffered.

A `Stream` says, for a tile of a given size, what is loaded, computed and stored; `tile_stream` finds the tile size with the fewest cycles and
writes the program (docs/contracts/program.md). Which streams an op needs is in `hwsim.mapping.vector`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.mapping.layout import dispatch_cycles
from hwsim.program import CAUSES, FIELDS, Field, Program, Semaphore, Unit, VectorOp, mask, pack_counts
from hwsim.timing._kernels import time_rows

__all__ = ["Micro", "Move", "Stream", "Tile", "tile_stream"]


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
    per_tile, per_outer : int
        Byte offset from tile to tile and from outer iteration to the next.
    start, inc, rows_per_tile : int
        Row coordinate of the first tile's first row, and its step per tile: rows outside the limits are padding.
    limits : tuple of int or None
        Rows and pixels of the tensor; `None` where the box lies inside by construction.
    start_w : int
        Pixel coordinate of the first pixel.
    odd : bool
        Lines do not start on the bus's grid.
    """

    operand: int
    lines: tuple[int, int, int]
    line_bytes: int
    strides: tuple[int, int, int] = (0, 0, 0)
    offset: int = 0
    per_tile: int = 0
    per_outer: int = 0
    start: int = 0
    start_w: int = 0
    rows_per_tile: int = 0
    limits: tuple[int, int] | None = None
    odd: bool = False


@dataclass(frozen=True)
class Micro:
    """One micro-operation over `lines` lines of `columns` lanes."""

    op: VectorOp
    lines: int
    columns: int


@dataclass(frozen=True)
class Tile:
    """What one tile needs: loads, micro-operations, stores, and accumulator lines of one slot."""

    loads: tuple[Move, ...]
    micros: tuple[Micro, ...]
    stores: tuple[Move, ...]
    sum_lines: int


@dataclass(frozen=True)
class Stream:
    """A streamed segment: `outer` × `size` units, cut into tiles of a multiple of `quantum` units."""

    size: int
    tile: Callable[[int], Tile]
    outer: int = 1
    quantum: int = 1
    prologue: Tile | None = None
    epilogue: Tile | None = None
    unit: str = "lines"
    sizes: tuple[int, ...] = field(default=())


def tile_stream(stream: Stream, hw: Accelerator, name: str) -> tuple[Program, int, str]:
    """Find the tile size with the fewest cycles; exact over ``⌈size ÷ 2^i⌉`` in multiples of the quantum, and stores deferred by one tile or not.

    Returns
    -------
    program : Program
        The segment.
    cycles : int
        From barrier to barrier.
    mapping : str
        The tile in words.

    Raises
    ------
    HwsimError
        If the smallest tile exceeds half the accumulator; the message says by how much.
    """
    reserved = sum(t.sum_lines for t in (stream.prologue, stream.epilogue) if t)
    best: tuple[int, int, int] | None = None
    smallest = 0
    found: Program | None = None
    for size in _sizes(stream):
        smallest = stream.tile(size).sum_lines + reserved
        if smallest > hw.accumulator_slot_lines:
            continue
        for defer in (0, 1):  # more would let a load pass the store that frees its slot
            program = _emit(stream, size, defer, hw)
            cycles = _cycles(program, hw)
            if best is None or cycles < best[0]:
                best, found = (cycles, size, defer), program
        if best is not None and size * 16 < best[1]:
            break
    if best is None or found is None:
        have, line = hw.accumulator_slot_lines, 4 * hw.array.cols
        raise HwsimError(
            f"{name}: one tile must fit half the accumulator, {have * line} bytes; the smallest needs {smallest * line} bytes, "
            f"{(smallest - have) * line} more"
        )
    return found, best[0], f"{best[1]} {stream.unit} of {stream.outer * stream.size}"


def _sizes(stream: Stream) -> list[int]:
    units, sizes, parts = -(-stream.size // stream.quantum), [], 1
    while True:
        count = -(-units // parts)
        size = min(count * stream.quantum, stream.size)
        if not sizes or size != sizes[-1]:
            sizes.append(size)
        if count == 1:
            return sizes
        parts *= 2


def _cycles(program: Program, hw: Accelerator) -> int:
    busy, stalls = np.zeros(4, np.int64), np.zeros((4, len(CAUSES)), np.int64)
    cycles, status, item = time_rows(
        program.items, len(program.items), hw.control.queue_depth, dispatch_cycles(hw), True, busy, stalls, _NONE
    )
    if status:
        raise AssertionError(f"the emitted stream is illegal at item {item}: {program.listing()}")
    return int(cycles)


_NONE = np.empty((0, 3), np.int64)
_FULL, _DONE = mask(Semaphore.IN_FULL), mask(Semaphore.OUT_FULL)


class _Writer:
    """Rows and steps under construction."""

    def __init__(self, hw: Accelerator) -> None:
        self.hw = hw
        self.rows: list[list[int]] = []
        self.steps: list[tuple[int, int, int, int]] = []

    def row(self, unit: Unit, occupancy: int, **fields: int) -> int:
        row = [0] * FIELDS
        row[Field.UNIT], row[Field.OCCUPANCY] = unit, occupancy
        for name, value in fields.items():
            row[Field[name]] = value
        self.rows.append(row)
        return len(self.rows) - 1

    def move(self, move: Move, unit: Unit, wait: int, post: int, slot: int, defer: int, at: tuple[int, int]) -> int:
        bus = self.hw.dram.bytes_per_cycle
        b, h, w = move.lines
        beats = -(-move.line_bytes // bus) + move.odd
        limit_h, limit_w = move.limits or (h, w)
        outer, tile = at
        return self.row(
            unit, b * h * w * beats, TAIL=self.hw.dram.latency_cycles, WAIT=wait, POST=post, DEFER=defer, OPCODE=2, SLOT_A=slot,
            OPERAND=move.operand, OFFSET=move.offset + outer * move.per_outer + tile * move.per_tile, COUNT_B=b, COUNT_H=h, COUNT_W=w,
            STEP_B=move.strides[0], STEP_H=move.strides[1], STEP_W=move.strides[2], START_H=move.start + tile * move.rows_per_tile,
            START_W=move.start_w, INC_H=1, INC_W=1, TAPS_H=1, TAPS_W=1, LIMIT_H=limit_h, LIMIT_W=limit_w, LINE_BYTES=move.line_bytes, BEATS=beats,
        )  # fmt: skip

    def micro(self, micro: Micro, wait: int, post: int, slot: int) -> int:
        lanes = self.hw.vector.lanes
        occupancy = micro.lines * -(-micro.columns // lanes) + self.hw.vector.latency_cycles
        return self.row(
            Unit.VECTOR, occupancy, WAIT=wait, POST=post, OPCODE=micro.op, SLOT_A=slot, LINES=micro.lines, COLUMNS=micro.columns, PASSES=1
        )  # fmt: skip

    def program(self) -> Program:
        return Program(np.array(self.rows, np.int64), np.array(self.steps, np.int64).reshape(-1, 4))


def _emit(stream: Stream, size: int, defer: int, hw: Accelerator) -> Program:
    """Barrier, prologue, loops over tiles, epilogue."""
    out = _Writer(hw)
    credits = {Semaphore.IN_FREE: 2} if stream.tile(size).stores else {Semaphore.REST_FREE: 2}
    out.row(Unit.CONTROL, 0, WAIT=pack_counts(credits))
    if stream.prologue:
        _once(out, stream.prologue)
    full, edge = divmod(stream.size, size)
    parity = full + (1 if edge else 0)
    outer = out.row(Unit.LOOP, stream.outer) if stream.outer > 1 else None
    first = len(out.rows)
    inner = out.row(Unit.LOOP, full) if full > 1 else None
    _body(out, stream.tile(size), defer, outer, inner, parity, (0, 0), 0)
    if inner is not None:
        out.row(Unit.END, 0)
    if edge:
        _body(out, stream.tile(edge), defer, outer, None, parity, (0, full), full % 2, of=stream.tile(size))
    if outer is not None:
        out.row(Unit.END, 0)
    del first
    if stream.epilogue:
        _once(out, stream.epilogue)
    return out.program()


def _once(out: _Writer, tile: Tile) -> None:
    """Prologue or epilogue: loads, then micro-operations, then stores, without slots to alternate."""
    for i, move in enumerate(tile.loads):
        out.move(move, Unit.LOAD, 0, _FULL if i == len(tile.loads) - 1 else 0, 0, 0, (0, 0))
    for i, micro in enumerate(tile.micros):
        wait = _FULL if i == 0 and tile.loads else 0
        out.micro(micro, wait, _DONE if i == len(tile.micros) - 1 and tile.stores else 0, 0)
    for i, move in enumerate(tile.stores):
        out.move(move, Unit.STORE, _DONE if i == 0 else 0, 0, 0, 0, (0, 0))


def _body(
    out: _Writer, tile: Tile, defer: int, outer: int | None, inner: int | None, parity: int, at: tuple[int, int], slot: int, of: Tile | None = None
) -> None:  # fmt: skip
    """One tile; `of` is the full tile whose strides an edge tile continues."""
    free = mask(Semaphore.IN_FREE) if tile.stores else mask(Semaphore.REST_FREE)
    full = of or tile
    rows: list[tuple[int, Move | None]] = []
    for i, (move, whole) in enumerate(zip(tile.loads, full.loads, strict=True)):
        wait, post = free if i == 0 else 0, _FULL if i == len(tile.loads) - 1 else 0
        rows.append((out.move(_placed(move, whole), Unit.LOAD, wait, post, slot, 0, at), whole))
    for i, micro in enumerate(tile.micros):
        last = i == len(tile.micros) - 1
        post = (_DONE if tile.stores else free) if last else 0
        rows.append((out.micro(micro, _FULL if i == 0 and tile.loads else 0, post, slot), None))
    for i, (move, whole) in enumerate(zip(tile.stores, full.stores, strict=True)):
        wait = _DONE if i == 0 and tile.micros else 0
        post = free if i == len(tile.stores) - 1 and tile.loads else 0
        rows.append((out.move(_placed(move, whole), Unit.STORE, wait, post, slot, defer * len(tile.loads), at), whole))
    for row, whole_move in rows:
        for loop, per_byte, per_row, alternates in (
            (inner, whole_move.per_tile if whole_move else 0, whole_move.rows_per_tile if whole_move else 0, 1),
            (outer, whole_move.per_outer if whole_move else 0, 0, parity % 2),
        ):
            if loop is None:
                continue
            out.steps.extend(
                (row, loop, f, step)
                for f, step in ((Field.OFFSET, per_byte), (Field.START_H, per_row), (Field.SLOT_A, alternates))
                if step
            )


def _placed(move: Move, whole: Move) -> Move:
    """An edge tile starts where full tiles would: it takes their strides."""
    if move is whole:
        return move
    fields = {name: getattr(move, name) for name in Move.__dataclass_fields__}
    return Move(**{**fields, "per_tile": whole.per_tile, "per_outer": whole.per_outer, "rows_per_tile": whole.rows_per_tile})
