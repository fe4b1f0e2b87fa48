"""Random streams of commands that no mapping makes, and that keep the program contract all the same.

Commands are drawn one by one, each reading only what is defined; then semaphores put in order whatever two units do in
one memory on the chip (docs/contracts/program.md, sections 2 and 3). A program ends with stores of all that is
defined.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.hardware.formats import FORMAT_BITS, array_formats
from hwsim.mapping.layout import dispatch_cycles
from hwsim.program import (
    FIELDS,
    FORMAT_CODES,
    HAND_OVER_CYCLES,
    SEMAPHORE_NAMES,
    UNIT_NAMES,
    BMode,
    Field,
    MoveField,
    MoveFlag,
    Semaphore,
    Unit,
    VectorField,
    VectorFlag,
    VectorOp,
    pack_counts,
    vector_cycles,
    vector_passes,
)
from hwsim.program.fields import Row
from hwsim.timing import command_times
from hwsim_rtl.cosim.footprint import FIXED, INTO_ACCUMULATOR, READS_B, SUMMING, Footprint, footprint, vector_operands
from hwsim_rtl.cosim.program import CosimProgram
from hwsim_rtl.cosim.programs import (
    extent,
    place_program,
    random_bytes,
    random_numbers,
    random_tiling,
)

__all__ = ["stream_program"]

Flat = NDArray[np.int64]

_INPUT_BYTES = 6144
_LABEL_BYTES = 256
_TRIES = 100
_MOST_DEFER = 3
_ACROSS = (VectorOp.SUM_LANES, VectorOp.MAXIMUM_LANES)
_LABELLED = (VectorOp.SELECT_LABEL, VectorOp.SUBTRACT_LABEL)
_FLOATS = (0.0, 1.0, -1.0, 0.5, 6.0, -3.25, 1e30, 1e-30, float("inf"), float("-inf"))


def stream_program(hw: Accelerator, rng: Generator, name: str) -> CosimProgram:
    """Draw a program of one to three segments with commands of all units.

    Parameters
    ----------
    hw : Accelerator
        What it is for.
    rng : numpy.random.Generator
        Source of all randomness.
    name : str
        What messages call it.

    Raises
    ------
    HwsimError
        If the machine's memories are too small for it.
    """
    writer = _Writer(hw, rng)
    rows: list[Flat] = []
    for _ in range(int(rng.integers(1, 4))):
        commands = writer.segment(int(rng.integers(3, 14)))
        rows += synchronized(commands, hw, rng)
    rows += synchronized(writer.dumps(), hw, rng)
    flat = _deferred(np.array(rows), hw, rng)
    memory = np.zeros(writer.end, np.uint8)
    memory[:_INPUT_BYTES] = random_bytes(rng, _INPUT_BYTES, hw)
    memory[:_LABEL_BYTES] = random_numbers(rng, "int32", _LABEL_BYTES)
    seed = int(rng.integers(0, 1 << 32))
    tensors = {"input": (0, _INPUT_BYTES), "output": (_INPUT_BYTES, memory.size)}
    return place_program(name, flat, memory, seed, tensors=tensors, gap=int(rng.integers(0, 3)))


# ---- commands -----------------------------------------------------------------------------------------------------


@dataclass
class _Writer:
    """Draws commands and knows which words of the accumulator are defined, and where the outputs end."""

    hw: Accelerator
    rng: Generator
    defined: list[NDArray[np.bool_]] = field(default_factory=list)  # by memory: halves, fixed lines
    end: int = _INPUT_BYTES

    def __post_init__(self) -> None:
        lines, self.cols = self.hw.accumulator_slot_lines, self.hw.array.cols
        self.border = lines - int(self.rng.integers(2, max(3, lines // 3)))  # slot lines below, fixed lines from here
        self.defined = [np.zeros(lines * self.cols, np.bool_) for _ in range(FIXED + 1)]
        formats = array_formats(self.hw.array.operand_format)
        self.formats = tuple(dict.fromkeys((*formats, "fp32")))
        self.ops = sorted(VectorOp)

    def segment(self, count: int) -> list[Flat]:
        """Draw commands: some loads first, so that there is something to work on."""
        rows: list[Flat] = []
        for i in range(count):
            kind = self.rng.choice(4, p=(0.7, 0.2, 0.1, 0.0) if i < 2 else (0.2, 0.15, 0.5, 0.15))
            rows += (self.loads, self.products, self.vector, self.store)[kind]()
        return rows

    def _range(self, memory: int) -> tuple[int, int]:
        """Give the first line of a memory, and the line after its last."""
        return (self.border, self.hw.accumulator_slot_lines) if memory == FIXED else (0, self.border)

    def _take(self, row: Flat) -> list[Flat]:
        """Note what a command defines, and what it leaves undefined."""
        found = footprint(row, self.hw)
        for memory, words in found.writes.items():
            self.defined[memory][words] = True
        for memory, words in found.undefines.items():
            self.defined[memory][words] = False
        return [row]

    def _within(self, memory: int, words: NDArray[np.int64]) -> bool:
        low, high = self._range(memory)
        return bool(words.size) and bool(words.min() >= low * self.cols and words.max() < high * self.cols)

    def loads(self) -> list[Flat]:
        """Draw a load into the accumulator."""
        for _ in range(_TRIES):
            row = self._move(Unit.LOAD)
            found = footprint(row, self.hw)
            (memory,) = found.writes
            low, high = extent(row[None])
            if low >= 0 and high <= _INPUT_BYTES and self._within(memory, found.writes[memory]):
                return self._take(row)
        return []

    def store(self) -> list[Flat]:
        """Draw a store of what is defined."""
        for _ in range(_TRIES):
            row = self._move(Unit.STORE)
            found = footprint(row, self.hw)
            (memory,) = found.reads
            words = found.reads[memory]
            low, high = extent(row[None])
            if high - low > 2048 or not self._within(memory, words) or not self.defined[memory][words].all():
                continue
            self._output(row, low, high)
            return [row]
        return []

    def _output(self, row: Flat, low: int, high: int) -> None:
        """Give a store memory of its own; its alignment stays."""
        beat = self.hw.dram.beat_bytes
        shift = self.end - low // beat * beat
        row[Field.OFFSET] += shift
        self.end += -(-(high - low // beat * beat) // beat) * beat

    def _move(self, unit: Unit) -> Flat:
        """Draw any load into the accumulator, or store, somewhere."""
        rng, hw, beat = self.rng, self.hw, self.hw.dram.beat_bytes
        row = np.zeros(FIELDS, np.int64)
        format = str(rng.choice(self.formats))
        width = FORMAT_BITS[format] // 8
        row[[Field.UNIT, Field.OPCODE, Field.TAIL]] = unit, INTO_ACCUMULATOR, hw.dram.latency_cycles
        row[Field.SLOT_A] = rng.integers(0, 2)
        row[[Field.TAPS_H, Field.TAPS_W]] = 1
        for axis, limit in (("B", 3), ("H", 3), ("W", 5)):
            row[Field[f"COUNT_{axis}"]] = rng.integers(1, limit)
        for axis in "HW":
            row[Field[f"START_{axis}"]], row[Field[f"INC_{axis}"]] = rng.integers(-1, 2), rng.choice([1, 1, 1, 2, -1])
            row[Field[f"LIMIT_{axis}"]] = rng.integers(1, 7)
        row[Field.LINE_BYTES] = width * int(rng.integers(1, 2 * self.cols + 2))
        odd = bool(rng.random() < 0.4)
        grid = max(width, 1) if odd else beat
        line = -(-int(row[Field.LINE_BYTES]) // grid) * grid
        row[Field.STEP_W] = line + grid * int(rng.integers(0, 3))
        row[Field.STEP_H] = row[Field.STEP_W] * row[Field.LIMIT_W] + grid * int(rng.integers(0, 2))
        row[Field.STEP_B] = row[Field.STEP_H] * row[Field.LIMIT_H]
        row[Field.BEATS] = -(-row[Field.LINE_BYTES] // beat) + (odd or rng.random() < 0.1)
        row[Field.OFFSET] = grid * int(rng.integers(0, _INPUT_BYTES // grid))
        row[MoveField.FORMAT] = FORMAT_CODES[format]
        if unit == Unit.LOAD:
            row[MoveField.EXPONENT] = rng.choice([0, 0, 3, -8, 120, -140, 300]) if FORMAT_CODES[format] else 0
            if format == "fp32" and rng.random() < 0.2:
                row[Field.OFFSET] = row[Field.OFFSET] % _LABEL_BYTES // grid * grid
            row[Field.FLAGS] = MoveFlag.LOWEST * int(rng.integers(0, 2))
        self._places(row, int(row[Field.LINE_BYTES]) // width)
        lines = int(np.prod(row[[Field.COUNT_B, Field.COUNT_H, Field.COUNT_W]]))
        row[Field.OCCUPANCY] = lines * row[Field.BEATS]
        return row

    def _places(self, row: Flat, count: int) -> None:
        """Draw where lines lie in the accumulator."""
        rng, cols, transposes = self.rng, self.cols, self.hw.array.dataflow == "is"
        memory = FIXED if rng.random() < 0.25 else int(row[Field.SLOT_A])
        row[Field.FLAGS] |= MoveFlag.FIXED * (memory == FIXED)
        low, high = self._range(memory)
        row[MoveField.LINE] = rng.integers(low, high)
        pixels = int(row[Field.COUNT_H] * row[Field.COUNT_W])
        if row[Field.UNIT] == Unit.STORE and transposes and rng.random() < 0.5:
            outer = bool(rng.random() < 0.5)
            row[Field.FLAGS] |= MoveFlag.TRANSPOSED_OUTER if outer else MoveFlag.TRANSPOSED
            row[MoveField.PLACE] = count if outer else 0
            row[MoveField.PLACE_OUTER] = pixels * count if outer else count
            return
        step = -(-count // cols) * cols
        if not transposes and rng.random() < 0.3:
            row[MoveField.PLACE], row[MoveField.PLACE_OUTER] = step + rng.integers(0, 4), pixels * (step + 4)
        else:
            row[MoveField.PLACE], row[MoveField.PLACE_OUTER] = step, pixels * step

    def products(self) -> list[Flat]:
        """Draw the loads and matrix commands of one output tile of a random tiling."""
        rng, hw = self.rng, self.hw
        _, program, _ = random_tiling(hw, rng, most_commands=60)
        flat = program.expand()
        units = flat[:, Field.UNIT]
        loads = (units == Unit.LOAD) & (flat[:, Field.OPCODE] != INTO_ACCUMULATOR)
        last = int(np.flatnonzero(units == Unit.VECTOR)[0])
        kept = flat[:last][(loads | (units == Unit.MATRIX))[:last]].copy()
        products = kept[:, Field.UNIT] == Unit.MATRIX
        if kept[products, Field.LINES].max() > self.border:
            return []
        half = int(rng.integers(0, 2))
        kept[:, [Field.WAIT, Field.POST, Field.DEFER]] = 0
        kept[products, Field.SLOT_C] = half
        for operand in (0, 1):
            own = ~products & (kept[:, Field.OPCODE] == operand)
            low, high = extent(kept[own])
            beat = hw.dram.beat_bytes
            room = _INPUT_BYTES - (high - low // beat * beat)
            if room < 0:
                return []
            kept[own, Field.OFFSET] += (int(rng.integers(0, room // beat + 1)) - low // beat) * beat
        return [row for command in kept for row in self._take(command)]

    def vector(self) -> list[Flat]:
        """Draw a vector command that reads what is defined, and no line that an earlier index wrote."""
        op = VectorOp(int(self.rng.choice(self.ops)))
        for _ in range(_TRIES):
            row = self._micro(op)
            if self._is_sound(row):
                return self._take(row)
        return []

    def _micro(self, op: VectorOp) -> Flat:
        rng, hw = self.rng, self.hw
        row = np.zeros(FIELDS, np.int64)
        row[[Field.UNIT, Field.OPCODE, Field.TAIL]] = Unit.VECTOR, op, HAND_OVER_CYCLES
        half = int(rng.integers(0, 2))
        row[Field.SLOT_A] = half
        box = [int(rng.integers(1, limit)) for limit in (3, 4, 5)]
        row[[Field.COUNT_B, Field.COUNT_H, Field.COUNT_W]] = box
        columns = self.cols if rng.random() < 0.6 else int(rng.integers(1, self.cols + 1))
        flags, modes = 0, [BMode.LINE]
        if op in _LABELLED:
            modes = [BMode.LANE_0, BMode.WORD_1, BMode.WORD_2]
        elif op in READS_B and op not in SUMMING:
            modes = [BMode.LINE, BMode.LINE, BMode.LANE_0, BMode.WORD_1, BMode.WORD_2, BMode.SCALAR]
        if op in (VectorOp.ADD_BIAS, VectorOp.SELECT):  # SCALAR is the exponent, or a bound
            modes = modes[:-1]
        mode = modes[int(rng.integers(0, len(modes)))]
        n0, n1, n2 = box
        for bit, name in enumerate(("DST", "A", "B", "C")):
            memory = FIXED if rng.random() < 0.25 else half
            flags |= (memory == FIXED) << bit
            column, (low, high) = int(VectorField[name]), self._range(memory)
            steps = [(n1 * n2, n2, 1), (0, n2, 1), (0, 0, 1), (n2, 0, 1), (0, 1, n1)][
                0 if rng.random() < 0.6 else int(rng.integers(0, 5))
            ]
            if name == "DST":
                steps = (0, n2, 1) if op in SUMMING else (n1 * n2, n2, 1)
            if name == "B" and mode in (BMode.WORD_1, BMode.WORD_2):
                steps = (0, 0, 0)
            lines = np.flatnonzero(self.defined[memory].reshape(-1, self.cols).all(1))
            somewhere = name == "DST" or not lines.size
            row[column : column + 4] = int(rng.integers(low, high) if somewhere else rng.choice(lines)), *steps
        if rng.random() < 0.3:  # in place
            row[VectorField.A : VectorField.A + 4] = row[VectorField.DST : VectorField.DST + 4]
            flags = flags & ~VectorFlag.FIXED_A | (flags & 1) << 1
        if op in (VectorOp.RESCALE, VectorOp.ADD_BIAS) and rng.random() < 0.6:
            flags |= VectorFlag.SUMS
        row[VectorField.SCALAR], row[VectorField.SCALAR_2] = self._scalar(op), self._scalar(VectorOp.CLAMP)
        if flags & VectorFlag.SUMS:
            row[VectorField.SCALAR] = rng.integers(-20, 20)
        narrow = [f for f in self.formats if FORMAT_CODES[f]]
        if op not in (*SUMMING, *_ACROSS, VectorOp.COPY) and narrow and rng.random() < 0.3:
            row[VectorField.FORMAT] = FORMAT_CODES[str(rng.choice(narrow))]
            row[VectorField.EXPONENT] = rng.choice([0, 0, 4, -6, 130])
            row[Field.OPERAND] = 1
            flags |= VectorFlag.STOCHASTIC * int(rng.integers(0, 2))
        row[Field.FLAGS] = flags | mode << 4
        row[[Field.LINES, Field.COLUMNS, Field.PASSES]] = n0 * n1 * n2, columns, vector_passes(op, columns)
        vector = hw.vector
        row[Field.OCCUPANCY] = vector_cycles(op, (n0, n1, n2), columns, vector.lanes, vector.latency_cycles)
        return row

    def _scalar(self, op: VectorOp) -> int:
        """Bits of a number; `SET` takes any."""
        if op is VectorOp.SET and self.rng.random() < 0.3:
            return int(self.rng.integers(0, 1 << 32))
        value = self.rng.normal() if self.rng.random() < 0.6 else self.rng.choice(_FLOATS)
        return int(np.float32(value).view(np.uint32))

    def _is_sound(self, row: Flat) -> bool:
        """Whether all lines are there and defined, and none is read after an earlier index wrote it."""
        operands = vector_operands(row, self.cols)
        target = operands["DST"]
        summing = VectorOp(row[Field.OPCODE]) in SUMMING
        for name, operand in operands.items():
            if not self._within(operand.memory, operand.words):
                return False
            if (name != "DST" or summing) and not self.defined[operand.memory][operand.words].all():
                return False
        lines = target.words[:, 0] // self.cols
        distinct = len(np.unique(lines)) * (int(row[Field.COUNT_B]) if summing else 1)
        if distinct != len(lines):
            return False
        for name, operand in operands.items():
            if name == "DST" or operand.memory != target.memory:
                continue
            read = operand.words[:, 0] // self.cols
            same = read[:, None] == lines[None, :]  # by index that reads, by index that writes
            if summing or not operand.by_line:
                if same.any():
                    return False
            elif np.tril(same, -1).any():
                return False
        return True

    def dumps(self) -> list[Flat]:
        """Store every defined word, from lane 0 of its line on: all lines in a row of one length by one command."""
        rows = []
        for memory, defined in enumerate(self.defined):
            by_line = defined.reshape(-1, self.cols)
            lengths = np.where(by_line.all(1), self.cols, np.argmin(by_line, 1))
            line = 0
            while line < len(lengths):
                run = line
                while run < len(lengths) and lengths[run] == lengths[line]:
                    run += 1
                if lengths[line]:
                    rows.append(self._dump(memory, line, run - line, int(lengths[line])))
                line = run
        return rows

    def _dump(self, memory: int, line: int, lines: int, lanes: int) -> Flat:
        beat = self.hw.dram.beat_bytes
        row = np.zeros(FIELDS, np.int64)
        row[[Field.UNIT, Field.OPCODE, Field.TAIL]] = Unit.STORE, INTO_ACCUMULATOR, self.hw.dram.latency_cycles
        ones = ("COUNT_B", "COUNT_H", "TAPS_H", "TAPS_W", "INC_H", "INC_W", "LIMIT_H")
        row[[Field[name] for name in ones]] = 1
        row[[Field.COUNT_W, Field.LIMIT_W]] = lines
        beats = -(-4 * lanes // beat)
        row[[Field.LINE_BYTES, Field.BEATS, Field.STEP_W]] = 4 * lanes, beats, beats * beat
        row[Field.OCCUPANCY] = lines * beats
        row[MoveField.LINE], row[MoveField.PLACE] = line, self.cols
        row[Field.SLOT_A], row[Field.FLAGS] = memory % FIXED, MoveFlag.FIXED * (memory == FIXED)
        row[Field.OFFSET] = self.end
        self.end += lines * beats * beat
        return row


# ---- order --------------------------------------------------------------------------------------------------------


def synchronized(commands: list[Flat], hw: Accelerator, rng: Generator) -> list[Flat]:
    """Put a barrier in front, and semaphores between commands of two units that use one memory or bank.

    A command waits for the last command of each other unit that used what it uses; in-order units do the rest. More
    waits and tokens are strewn in. Where a segment needs more than the ten semaphores, another one begins.
    """
    segments: list[list[Flat]] = [[]]
    sync = _Sync(rng)
    for row in commands:
        unit, touched = int(row[Field.UNIT]), _resources(footprint(row, hw))
        if not sync.fits(unit, touched):
            segments[-1] = sync.finished(segments[-1])
            segments.append([])
            sync = _Sync(rng)
        sync.add(unit, touched, len(segments[-1]))
        segments[-1].append(row.copy())
    segments[-1] = sync.finished(segments[-1])
    return [row for segment in segments for row in segment]


def _resources(found: Footprint) -> set[tuple[str, int]]:
    return {("memory", m) for m in found.memories} | {("bank", b) for b in found.banks}


@dataclass
class _Sync:
    """Waits and posts of a segment under construction."""

    rng: Generator
    users: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)  # by resource and unit: last command
    ordered: dict[tuple[int, int], int] = field(default_factory=dict)  # by (poster, waiter): last command waited for
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = field(default_factory=dict)  # (posts, waits)
    units: list[int] = field(default_factory=list)

    def _needed(self, unit: int, touched: set[tuple[str, int]]) -> dict[int, int]:
        """Give the command of each other unit that must have ended, where that is not known yet."""
        needed: dict[int, int] = {}
        for resource in touched:
            for other, command in self.users.get(resource, {}).items():
                if other != unit and command > self.ordered.get((other, unit), -1):
                    needed[other] = max(needed.get(other, -1), command)
        return needed

    def fits(self, unit: int, touched: set[tuple[str, int]]) -> bool:
        """Whether the semaphores suffice for one command more."""
        pairs = set(self.pairs) | {(other, unit) for other in self._needed(unit, touched)}
        return len(pairs) <= len(SEMAPHORE_NAMES)

    def add(self, unit: int, touched: set[tuple[str, int]], command: int) -> None:
        """Order a command behind those that it needs, and now and then behind others."""
        needed = self._needed(unit, touched)
        for other in range(len(UNIT_NAMES)):
            if other != unit and other not in needed and (other, unit) in self.pairs and self.rng.random() < 0.2:
                earlier = [c for c, u in enumerate(self.units) if u == other]
                if earlier and earlier[-1] > self.ordered.get((other, unit), -1):
                    needed[other] = earlier[-1]
        for other, before in needed.items():
            self.pairs.setdefault((other, unit), []).append((before, command))
            self.ordered[other, unit] = before
        for resource in touched:
            self.users.setdefault(resource, {})[unit] = command
        self.units.append(unit)

    def finished(self, rows: list[Flat]) -> list[Flat]:
        """Write masks and the barrier; semaphores are dealt at random."""
        dealt = self.rng.permutation(len(SEMAPHORE_NAMES)).tolist()
        counts: dict[Semaphore, int] = {}
        for (poster, waiter), matched in self.pairs.items():
            semaphore = dealt.pop()
            for before, command in matched:
                rows[before][Field.POST] |= 1 << semaphore
                rows[command][Field.WAIT] |= 1 << semaphore
            self._strew(rows, semaphore, poster, waiter, matched, counts)
        barrier = np.zeros(FIELDS, np.int64)
        barrier[[Field.UNIT, Field.WAIT]] = Unit.CONTROL, pack_counts(counts)
        return [barrier, *rows]

    def _strew(
        self,
        rows: list[Flat],
        semaphore: int,
        poster: int,
        waiter: int,
        matched: list[tuple[int, int]],
        counts: dict[Semaphore, int],
    ) -> None:
        """Take initial tokens before the first wait that counts, and post tokens that nobody takes after the last."""
        early = [c for c, unit in enumerate(self.units) if unit == waiter and c < matched[0][1]]
        tokens = int(self.rng.integers(0, min(len(early), 3) + 1)) if self.rng.random() < 0.3 else 0
        for command in self.rng.permutation(early)[:tokens].tolist():
            rows[command][Field.WAIT] |= 1 << semaphore
        counts[Semaphore(semaphore)] = tokens
        for command, unit in enumerate(self.units):
            if unit == poster and command > matched[-1][0] and self.rng.random() < 0.1:
                rows[command][Field.POST] |= 1 << semaphore


def _deferred(flat: Flat, hw: Accelerator, rng: Generator) -> Flat:
    """Let loads pass some stores, where the program stays legal."""
    for store in np.flatnonzero(flat[:, Field.UNIT] == Unit.STORE).tolist():
        if rng.random() < 0.4:
            tried = flat.copy()
            tried[store, Field.DEFER] = int(rng.integers(1, _MOST_DEFER + 1))
            try:
                command_times(np.ascontiguousarray(tried[:, : len(Row)]), hw.control.queue_depth, dispatch_cycles(hw))
            except HwsimError:
                continue
            flat = tried
    return flat
