"""Executes flat commands one by one on arrays of numbers, so that a test can see whether a program does its op.

Takes what `Program.expand` gives and the op's operands in DRAM; knows only docs/contracts/program.md and cycles.md,
nothing of `hwsim.mapping`. Whatever was not loaded is NaN; what a contract forbids raises AssertionError.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import prod

import numpy as np

from hwsim.program import HAND_OVER_CYCLES, Field, Unit, VectorOp

__all__ = ["Machine", "Memory", "box", "check_durations", "check_slots"]

F = Field
INTO_ACCUMULATOR = 2  # OPCODE of a load
ADDS, EXPANDED, WGRAD, W_BY_K, X_BY_K = 1, 2, 4, 8, 16  # FLAGS of a matrix command
WS, IS, OS = 0, 1, 2  # OPCODE of a matrix command


def up(a, b):
    return -(-a // b)


@dataclass
class Memory:
    """One operand in DRAM: a flat array of elements, lines padded to the bus.

    `cells` are the values, NaN in the padding; `inside` says what is not padding; `loads` and `stores` count accesses.
    """

    shape: tuple[int, ...]
    size: int
    cells: np.ndarray
    inside: np.ndarray
    loads: np.ndarray
    stores: np.ndarray

    @classmethod
    def of(cls, shape, size, bus, values=None):
        """Lay a tensor out; without values it is an output, all NaN."""
        width = shape[-1] if shape else 1
        lines, pitch = prod(shape) // width, up(width * size, bus) * bus // size
        inside = np.zeros((lines, pitch), bool)
        inside[:, :width] = True
        cells = np.full((lines, pitch), np.nan)
        if values is not None:
            cells[:, :width] = values.reshape(lines, width)
        counts = np.zeros(lines * pitch, np.int64)
        return cls(shape, size, cells.ravel(), inside.ravel(), counts, counts.copy())

    def values(self):
        """Give the tensor without its padding."""
        return self.cells[self.inside].reshape(self.shape)

    def index(self, addresses, line_bytes):
        """Elements of lines at byte addresses, one more axis; all of them in the tensor."""
        assert line_bytes > 0, "a line of no bytes"
        assert line_bytes % self.size == 0, f"{line_bytes} bytes are no whole elements"
        assert (addresses % self.size == 0).all(), "an address between two elements"
        index = (addresses // self.size)[..., None] + np.arange(line_bytes // self.size)
        assert index.size == 0 or (index.min() >= 0 and index.max() < len(self.cells)), "outside the operand"
        assert self.inside[index].all(), "padding was touched"
        return index


def box(row):
    """Byte addresses of the lines of a load or store, and which are inside the tensor: (b, h, w, taps_h, taps_w)."""
    b = np.arange(row[F.COUNT_B])
    h = row[F.START_H] + row[F.INC_H] * np.arange(row[F.COUNT_H])[:, None] + row[F.TAP_H] * np.arange(row[F.TAPS_H])
    w = row[F.START_W] + row[F.INC_W] * np.arange(row[F.COUNT_W])[:, None] + row[F.TAP_W] * np.arange(row[F.TAPS_W])
    b, h, w = b[:, None, None, None, None], h[None, :, None, :, None], w[None, None, :, None, :]
    inside = (h >= 0) & (h < row[F.LIMIT_H]) & (w >= 0) & (w < row[F.LIMIT_W]) & (b >= 0)
    return row[F.OFFSET] + b * row[F.STEP_B] + h * row[F.STEP_H] + w * row[F.STEP_W], inside


class Machine:
    """Scratchpad, accumulator and DRAM of one op; `run` executes a segment.

    Counts what it does: `macs`, and the bytes that loads and stores move over the port.
    """

    def __init__(self, hw, memories):
        self.hw, self.memories = hw, memories
        self.macs = self.read_bytes = self.write_bytes = 0

    def run(self, flat):
        """Execute the flat commands of one segment."""
        assert flat[0, F.UNIT] == Unit.CONTROL
        self.operands = {}  # (scratchpad operand, slot) → values of the lines
        self.bias, self.sums, self.finished, self.zeros = {}, {}, set(), False
        do = {Unit.LOAD: self._load, Unit.MATRIX: self._matrix, Unit.VECTOR: self._vector, Unit.STORE: self._store}
        for number, row in enumerate(flat.tolist()[1:], 1):
            try:
                do[row[F.UNIT]](row)
            except AssertionError as error:
                error.add_note(f"command {number}: {dict(zip(F.__members__, row, strict=True))}")
                raise

    def _moved(self, row, addresses, inside):
        """Check the beats of every line, and give the bytes on the port."""
        beat, size = self.hw.dram.beat_bytes, row[F.LINE_BYTES]
        needed = up(addresses[inside] % beat + size, beat)
        assert needed.size == 0 or needed.max() <= row[F.BEATS], f"a line needs {needed.max()} beats"
        assert row[F.BEATS] <= up(size, beat) + 1
        return int(inside.sum()) * row[F.BEATS] * beat

    def access(self, row):
        """Count what a load or store touches; give its operand, which lines are inside, and the elements of those."""
        addresses, inside = box(row)
        assert row[F.UNIT] == Unit.LOAD or (inside.all() and row[F.TAPS_H] * row[F.TAPS_W] == 1), (
            "a store has padding or taps"
        )
        memory = self.memories[row[F.OPERAND]]
        index = memory.index(addresses[inside], row[F.LINE_BYTES])
        moved = self._moved(row, addresses, inside)
        if row[F.UNIT] == Unit.LOAD:
            self.read_bytes += moved
            np.add.at(memory.loads, index.ravel(), 1)
        else:
            self.write_bytes += moved
            np.add.at(memory.stores, index.ravel(), 1)
        return memory, inside, index

    def _load(self, row):
        memory, inside, index = self.access(row)
        values = np.zeros((*inside.shape, row[F.LINE_BYTES] // memory.size))
        values[inside] = memory.cells[index]
        if row[F.OPCODE] == INTO_ACCUMULATOR:
            self.bias[row[F.SLOT_A]] = values
        else:
            self.operands[row[F.OPCODE], row[F.SLOT_A]] = values

    def _matrix(self, row):
        flags, wgrad = row[F.FLAGS], row[F.FLAGS] & WGRAD
        pixels = tuple(row[f] for f in (F.COUNT_B, F.COUNT_H, F.COUNT_W))
        taps = row[F.TAPS_H], row[F.TAPS_W]
        c, n = row[F.CHANNELS], row[F.OUTPUTS]
        assert (0, row[F.SLOT_A]) in self.operands, "the slot of A was never loaded"
        assert (1, row[F.SLOT_B]) in self.operands, "the slot of B was never loaded"
        a, b = self.operands[0, row[F.SLOT_A]], self.operands[1, row[F.SLOT_B]]
        x = self._pixels(row, b if wgrad else a)
        other = a if wgrad else b
        if wgrad:
            assert other.shape == (*pixels, 1, 1, n), "the output gradient's tile has another shape"
            result = np.einsum("bhwn,bhwijc->nijc", other[:, :, :, 0, 0], x, optimize=False)
        else:
            by_k = flags & W_BY_K
            assert other.shape == ((c if by_k else n), *taps, 1, 1, (n if by_k else c)), (
                "the weights' tile has another shape"
            )
            w = other[:, :, :, 0, 0].transpose(3, 1, 2, 0) if by_k else other[:, :, :, 0, 0]
            result = np.einsum("bhwijc,nijc->bhwn", x, w, optimize=False)
        assert not np.isnan(result).any(), "the array read what was not loaded"
        slot = row[F.SLOT_C]
        if flags & ADDS:
            assert slot in self.sums, "adds to sums that are not there"
            assert slot not in self.finished, "adds to sums that are already results"
            result = result + self.sums[slot]
        self.sums[slot] = result
        self.finished.discard(slot)
        assert row[F.MACS] == prod(pixels) * prod(taps) * c * n
        assert result.size <= row[F.LINES] * row[F.COLUMNS], "the sums need more lines"
        assert row[F.LINES] <= self.hw.accumulator_slot_lines
        assert row[F.COLUMNS] <= self.hw.array.cols
        self._fits(row, a, b)
        self.macs += row[F.MACS]

    def _pixels(self, row, tile):
        """Read the pixel operand of a matrix command from its tile: (b, h, w, taps_h, taps_w, c)."""
        pixels = tuple(row[f] for f in (F.COUNT_B, F.COUNT_H, F.COUNT_W))
        taps, c = (row[F.TAPS_H], row[F.TAPS_W]), row[F.CHANNELS]
        if row[F.FLAGS] & X_BY_K:
            assert taps == (1, 1), "a tile by k has taps"
            assert tile.shape == (1, 1, c, 1, 1, prod(pixels)), "the tile by k has another shape"
            return tile.reshape(c, -1).T.reshape(*pixels, 1, 1, c)
        if row[F.FLAGS] & EXPANDED:
            assert tile.shape == (*pixels, *taps, c), "the expanded tile has another shape"
            return tile
        places = []
        for count, inc, number, tap in (
            (pixels[1], row[F.INC_H], taps[0], row[F.TAP_H]),
            (pixels[2], row[F.INC_W], taps[1], row[F.TAP_W]),
        ):
            place = inc * np.arange(count)[:, None] + tap * np.arange(number)
            places.append(place - place.min())
        h, w = places
        assert tile.shape == (pixels[0], h.max() + 1, w.max() + 1, 1, 1, c), "the patch has another shape"
        by_column = row[F.OPCODE] == IS if row[F.FLAGS] & WGRAD else row[F.OPCODE] != WS
        assert not by_column or (prod(taps) == 1 and row[F.INC_H] == row[F.INC_W] == 1), "a patch is read by column"
        return tile[:, :, :, 0, 0][:, h[:, None, :, None], w[None, :, None, :]]

    def _fits(self, row, a, b):
        """Both slots of both operands have banks of their own."""
        deep, banks = self.hw.line_elements, 0
        for values, is_pixels in ((a, not row[F.FLAGS] & WGRAD), (b, row[F.FLAGS] & WGRAD)):
            lines, width = values.size // values.shape[-1], values.shape[-1]
            if is_pixels and row[F.FLAGS] & EXPANDED:  # one line per pixel, taps side by side
                taps = row[F.TAPS_H] * row[F.TAPS_W]
                lines, width = lines // taps, width * taps
            banks += 2 * up(lines * up(width, deep), self.hw.scratchpad_bank_lines)
        assert banks <= self.hw.scratchpad.banks, f"the operands need {banks} banks"

    def _vector(self, row):
        slot, kind = row[F.SLOT_A], row[F.OPCODE]
        if kind == VectorOp.SET:
            self.zeros = True
            return
        assert slot in self.sums, "there are no sums to work on"
        assert slot not in self.finished, "the sums are already results"
        assert self.sums[slot].size <= row[F.LINES] * row[F.COLUMNS] * row[F.PASSES]
        if kind == VectorOp.ADD_BIAS:
            self.sums[slot] = self.sums[slot] + self.bias.pop(slot).reshape(-1)
        else:
            assert kind == VectorOp.RESCALE
            self.finished.add(slot)

    def _store(self, row):
        (memory, inside, index), slot = self.access(row), row[F.SLOT_A]
        index = index.reshape(*inside.shape[:3], -1)
        if slot in self.finished:
            values = self.sums.pop(slot)
            self.finished.remove(slot)
            assert values.shape == index.shape, "the stored box has another shape than the sums"
        else:
            assert self.zeros, "there is nothing to store"
            assert not self.sums, "the sums are no results yet"
            values = 0.0
        memory.cells[index] = values


def check_slots(flat, start, end):
    """No slot is read before it is full, or written before its last reader is done; any durations will do.

    `end` of a store is when its data have left the accumulator, not when the write response comes.
    """
    full, free, written = {}, defaultdict(int), {}
    for row, s, e in zip(flat.tolist(), start.tolist(), end.tolist(), strict=True):
        unit, slot = row[F.UNIT], row[F.SLOT_A]
        if unit == Unit.LOAD:
            key = row[F.OPCODE], slot
            assert s >= free[key], f"slot {key} is overwritten at {s}; it is in use until {free[key]}"
            full[key] = free[key] = e
        elif unit == Unit.MATRIX:
            sums = "sums", row[F.SLOT_C]
            for key in ((0, row[F.SLOT_A]), (1, row[F.SLOT_B])):
                assert s >= full[key], f"slot {key} is read at {s}; it is full at {full[key]}"
                free[key] = max(free[key], e)
            assert s >= free[sums], (
                f"the sums of slot {sums} are overwritten at {s}; they are in use until {free[sums]}"
            )
            full[sums] = max(full.get(sums, 0), e)
            written.pop(sums, None)
        elif unit in (Unit.VECTOR, Unit.STORE):
            sums, what = ("sums", slot), Unit(unit).name
            if unit == Unit.VECTOR and row[F.OPCODE] == VectorOp.SET:
                full[sums] = e
                continue
            there = full[sums]
            if unit == Unit.VECTOR and sums in written:  # its own results, as soon as it is free
                there = written[sums]
            assert s >= there, f"{what} works on the sums of slot {slot} at {s}; they are there at {there}"
            if unit == Unit.VECTOR:
                full[sums], written[sums] = e, e - HAND_OVER_CYCLES
                bias = INTO_ACCUMULATOR, slot
                if row[F.OPCODE] == VectorOp.ADD_BIAS:
                    assert s >= full[bias], f"the bias is read at {s}; it is there at {full[bias]}"
                if row[F.OPCODE] == VectorOp.ADD_BIAS or bias in full:
                    free[bias] = max(free[bias], e)  # a load beside a command that writes would need a second port
            else:
                free[sums] = e


#: Passes through multiplier and adder.
LAPS = {VectorOp.EXP: 9, VectorOp.LOG: 10, VectorOp.RECIPROCAL: 5, VectorOp.RECIPROCAL_ROOT: 7}


def check_durations(flat, hw):
    """Occupancy and tail of every command are those of docs/contracts/cycles.md, section 2."""
    for row in flat.tolist():
        if row[F.UNIT] in (Unit.LOAD, Unit.STORE):
            lines = prod(row[f] for f in (F.COUNT_B, F.COUNT_H, F.COUNT_W, F.TAPS_H, F.TAPS_W))
            expected = up(lines * row[F.BEATS], hw.dram.channels), hw.dram.latency_cycles
        elif row[F.UNIT] == Unit.MATRIX:
            expected = _matrix_duration(row, hw)
        elif row[F.UNIT] == Unit.VECTOR:
            assert row[F.LINES] == row[F.COUNT_B] * row[F.COUNT_H] * row[F.COUNT_W], "the box has another size"
            latency = hw.vector.latency_cycles
            turn = row[F.COUNT_H] * row[F.COUNT_W] * up(row[F.COLUMNS], hw.vector.lanes)
            if row[F.OPCODE] in (VectorOp.SUM_LINES, VectorOp.MULTIPLY_SUM_LINES):
                turn = max(turn, latency)
            cycles = row[F.PASSES] * (row[F.COUNT_B] * turn + latency)
            if row[F.OPCODE] in LAPS:  # blocks of λ groups
                cycles += (LAPS[row[F.OPCODE]] - 1) * latency * up(row[F.COUNT_B] * turn, latency) + 3
            expected = cycles, 1
        else:
            continue
        found = row[F.OCCUPANCY], row[F.TAIL]
        assert found == expected, f"{Unit(row[F.UNIT]).name} has occupancy and tail {found}, not {expected}"


def _matrix_duration(row, hw):
    R, C, alpha, mu, beta = (
        hw.array.rows,
        hw.array.cols,
        hw.array.add_latency_cycles,
        hw.array.multiply_latency_cycles,
        hw.accumulator.add_latency_cycles,
    )
    flow, expanded, wgrad = row[F.OPCODE], row[F.FLAGS] & EXPANDED, row[F.FLAGS] & WGRAD
    p, t = prod(row[f] for f in (F.COUNT_B, F.COUNT_H, F.COUNT_W)), row[F.TAPS_H] * row[F.TAPS_W]
    c, n = row[F.CHANNELS], row[F.OUTPUTS]
    across = expanded and (flow != IS or row[F.FLAGS] & W_BY_K)
    kf = up(t * c, R) if across else t * up(c, R)
    cf = up(t * c, C) if expanded else t * up(c, C)
    if wgrad:
        folds, S = {WS: (up(p, R) * cf, n), IS: (up(p, R) * up(n, C), t * c), OS: (up(n, R) * cf, p)}[flow]
        k = p
    else:
        folds, S = {WS: (kf * up(n, C), p), IS: (kf * up(p, C), n), OS: (up(p, R) * up(n, C), t * c)}[flow]
        k = t * c if across else c
    if flow == OS:
        interval = max(S, alpha * max(R, beta))
        reach = interval + 4  # the hand-over, and four cycles of a scratchpad read
        skew = mu + alpha + (R - 1) + (C - 1) + alpha * max(R, beta) + beta
    else:
        interval, reach = max(S, min(R, k), (R - 1) * (alpha - 1), beta), 5 + S
        skew = mu + alpha * R + (C - 1) + beta
    assert (row[F.FOLDS], row[F.INTERVAL], row[F.STREAM]) == (folds, interval, S)
    return folds * interval, reach + skew - interval
