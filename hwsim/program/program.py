"""A program: compressed items, the steps of their fields, and its expansion into flat commands.

Normative: docs/contracts/program.md. Timing, energy, values and the RTL see nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from hwsim.program.fields import FIELDS, UNIT_NAMES, Field, Row, Unit

__all__ = ["COMMAND_BYTES", "Program"]

#: Bytes of one command in memory.
COMMAND_BYTES = 128

_SLOTS = [Field.SLOT_A, Field.SLOT_B, Field.SLOT_C]


@dataclass(frozen=True, eq=False)
class Program:
    """Commands of one segment or of several.

    Attributes
    ----------
    items : ndarray of shape (items, FIELDS), dtype int64
        Commands, loops and ends.
    steps : ndarray of shape (steps, 4), dtype int64
        Rows (item, loop item, field, step per iteration).
    """

    items: NDArray[np.int64]
    steps: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """What timing needs: ndarray of shape (items, 6)."""
        return self.items[:, : len(Row)]

    @cached_property
    def loops(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Loops around every item, outermost first, as (loop item, count)."""
        found = []
        stack: tuple[tuple[int, int], ...] = ()
        for i, (unit, count) in enumerate(self.items[:, :2].tolist()):
            if unit == Unit.END:
                stack = stack[:-1]
            found.append(stack)
            if unit == Unit.LOOP:
                stack = (*stack, (i, count))
        return tuple(found)

    @cached_property
    def multiplicity(self) -> NDArray[np.int64]:
        """How often each item is executed; 0 for loops and ends."""
        repeats = [prod(count for _, count in loops) for loops in self.loops]
        return np.array(repeats, np.int64) * (self.items[:, 0] < int(Unit.LOOP))

    @property
    def commands(self) -> int:
        """Commands of the expanded program."""
        return int(self.multiplicity.sum())

    def expand(self, limit: int | None = None) -> NDArray[np.int64]:
        """Write the commands out: ndarray of shape (commands, FIELDS), the first `limit` ones if given."""
        order, iterations = self._walk()
        if limit is not None:
            order, iterations = order[:limit], {k: v[:limit] for k, v in iterations.items()}
        flat = self.items[order]
        for item, loop, field, step in self.steps.tolist():
            chosen = order == item
            flat[chosen, field] += step * iterations[loop][chosen]
        flat[:, _SLOTS] %= 2
        return flat

    def _walk(self) -> tuple[NDArray[np.int64], dict[int, NDArray[np.int64]]]:
        """Give the item of every command in order, and for every loop the iteration that it is in there."""
        loops = [i for i in range(len(self.items)) if self.items[i, Field.UNIT] == Unit.LOOP]

        def walk(i: int) -> tuple[NDArray[np.int64], dict[int, NDArray[np.int64]], int]:
            parts: list[NDArray[np.int64]] = []
            indices: dict[int, list[NDArray[np.int64]]] = {loop: [] for loop in loops}
            while i < len(self.items) and self.items[i, Field.UNIT] != Unit.END:
                if self.items[i, Field.UNIT] == Unit.LOOP:
                    count = int(self.items[i, Field.OCCUPANCY])
                    body, inside, end = walk(i + 1)
                    inside[i] = np.zeros(len(body), np.int64)
                    parts.append(np.tile(body, count))
                    for loop in loops:
                        indices[loop].append(np.tile(inside[loop], count))
                    indices[i][-1] = np.repeat(np.arange(count), len(body))
                    i = end + 1
                else:
                    parts.append(np.array([i]))
                    for loop in loops:
                        indices[loop].append(np.zeros(1, np.int64))
                    i += 1
            order = np.concatenate(parts) if parts else np.zeros(0, np.int64)
            return order, {k: np.concatenate(v) if v else np.zeros(0, np.int64) for k, v in indices.items()}, i

        order, iterations, _ = walk(0)
        return order, iterations

    @staticmethod
    def join(programs: list[Program]) -> Program:
        """Put segments one behind the other."""
        items, steps, at = [], [], 0
        for program in programs:
            items.append(program.items)
            steps.append(program.steps + np.array([at, at, 0, 0]))
            at += len(program.items)
        empty = np.zeros((0, FIELDS), np.int64)
        return Program(np.concatenate([empty, *items]), np.concatenate([np.zeros((0, 4), np.int64), *steps]))

    def listing(self) -> str:
        """Give the items as text, one a line, loops indented."""
        lines, indent = [], 0
        for row in self.items.tolist():
            unit = row[Field.UNIT]
            if unit == Unit.END:
                indent -= 1
                continue
            text = f"loop {row[1]}" if unit == Unit.LOOP else self._command_text(row)
            lines.append("  " * indent + text)
            indent += unit == Unit.LOOP
        return "\n".join(lines)

    @staticmethod
    def _command_text(row: list[int]) -> str:
        unit = row[Field.UNIT]
        if unit == Unit.CONTROL:
            return "barrier"
        text = f"{UNIT_NAMES[unit]:6} o={row[1]} tail={row[2]} wait={row[3]:#x} post={row[4]:#x}"
        if unit in (Unit.LOAD, Unit.STORE):
            box = "×".join(str(row[f]) for f in (Field.COUNT_B, Field.COUNT_H, Field.COUNT_W))
            return f"{text} operand={row[Field.OPERAND]} box={box} beats={row[Field.BEATS]} defer={row[Field.DEFER]}"
        if unit == Unit.MATRIX:
            return f"{text} folds={row[Field.FOLDS]} interval={row[Field.INTERVAL]} stream={row[Field.STREAM]}"
        return f"{text} op={row[Field.OPCODE]} lines={row[Field.LINES]} columns={row[Field.COLUMNS]}"
