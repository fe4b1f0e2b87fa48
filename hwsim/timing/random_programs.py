"""Random legal programs, as timing rows: what the two timing models and the RTL are compared on.

`random_rows` draws a compressed program with nested loops, `expand_rows` flattens it. Legal is what
docs/contracts/program.md and cycles.md ask for; the list is in `random_rows`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from hwsim.program.fields import SEMAPHORE_NAMES, UNIT_NAMES, Row, Semaphore, Unit, pack_counts

__all__ = ["expand_rows", "random_rows"]

DEPTH = 3  # loops in loops
MOST_TOKENS = 16  # in program order; in time a queue of commands adds its depth, and 255 is far
DEFER_TRIES = 4  # stores of a segment that are tried with a defer
MOST_DEFER = 3
ItemRow = tuple[int, int, int, int, int, int]


def random_rows(rng: Generator, *, most_commands: int = 6000, queue_depth: int = 1) -> NDArray[np.int64]:
    """Draw a legal compressed program.

    It has one to four segments, each a barrier and a body of commands and loops (up to three deep, counts 1 to 40, now
    and then up to 300 around a short body). Occupancies are 1 to 200 or, in some segments, 1 to 5 cycles; tails are 0
    to 150. Some stores let one to three loads pass at the port. Legal means:

    * every semaphore has one posting and one waiting unit in a segment;
    * every wait has an earlier post in program order or an initial token;
    * no load that passes a deferred store depends on it, and queues of `queue_depth` or more never fill with held
    stores;
    * every iteration of a loop, and every segment, takes as many tokens as it posts;
    * no semaphore ever holds more than 255 tokens, for queues of up to 64 commands;
    * the commands of a unit end in the order in which they start, so tokens are posted in program order.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all randomness.
    most_commands : int
        Commands of the expanded program, about: counts are cut down to keep to it.
    queue_depth : int
        Smallest queue that the program must run with: the smaller, the fewer stores can let loads pass.

    Returns
    -------
    ndarray of shape (items, 6), dtype int64
        Timing rows, columns of `hwsim.program.fields.Row`, with `LOOP` and `END`.

    Examples
    --------
    >>> rows = random_rows(np.random.default_rng(1))
    >>> Unit(rows[0, Row.UNIT]).name, rows.shape[1]
    ('CONTROL', 6)
    >>> bool((random_rows(np.random.default_rng(1)) == rows).all())
    True
    """
    segments = int(rng.integers(1, 5))
    rows: list[ItemRow] = []
    for _ in range(segments):
        rows += _defer_stores(rng, _segment(rng, most_commands // segments), queue_depth)
    return np.array(rows, dtype=np.int64)


def expand_rows(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Repeat the bodies of all loops: the flat program, without `LOOP` and `END`.

    Examples
    --------
    >>> barrier, loop, end = [Unit.CONTROL] + [0] * 5, [Unit.LOOP, 3] + [0] * 4, [Unit.END] + [0] * 5
    >>> expand_rows(np.array([barrier, loop, [Unit.LOAD, 7, 1, 0, 0, 0], end]))[:, Row.OCCUPANCY].tolist()
    [0, 7, 7, 7]
    """
    bodies: list[list[NDArray[np.int64]]] = [[]]
    counts: list[int] = []
    for row in rows:
        if row[Row.UNIT] == Unit.LOOP:
            bodies.append([])
            counts.append(int(row[Row.OCCUPANCY]))
        elif row[Row.UNIT] == Unit.END:
            body = np.concatenate(bodies.pop())
            bodies[-1].append(np.tile(body, (counts.pop(), 1)))
        else:
            bodies[-1].append(row[np.newaxis])
    return np.concatenate(bodies[0])


@dataclass
class _Style:
    """What the commands of one segment have in common."""

    rng: Generator
    most_occupancy_cycles: int
    most_tail_cycles: list[int]  # per unit
    poster: list[int]  # unit, per semaphore
    waiter: list[int]
    tokens: list[int] = field(default_factory=list)  # per semaphore, in program order

    def command(self, unit: int, wait: int, post: int) -> ItemRow:
        """Draw a command that does not end before its unit's previous one, whatever that was."""
        occupancy = int(self.rng.integers(1, self.most_occupancy_cycles + 1))
        most = self.most_tail_cycles[unit]
        tail = int(self.rng.integers(max(0, most - occupancy), most + 1))
        for semaphore in range(len(SEMAPHORE_NAMES)):
            self.tokens[semaphore] += (post >> semaphore & 1) - (wait >> semaphore & 1)
        return (unit, occupancy, tail, wait, post, 0)


def _segment(rng: Generator, budget: int) -> list[ItemRow]:
    pairs = [rng.choice(len(UNIT_NAMES), size=2, replace=False).tolist() for _ in SEMAPHORE_NAMES]
    initial = [int(n) for n in rng.integers(0, rng.choice([1, 3, 6]), size=len(SEMAPHORE_NAMES))]
    style = _Style(
        rng=rng,
        most_occupancy_cycles=int(rng.choice([5, 40, 200])),
        most_tail_cycles=[int(rng.choice([0, 3, 150])) * int(rng.integers(0, 101)) // 100 for _ in UNIT_NAMES],
        poster=[pair[0] for pair in pairs],
        waiter=[pair[1] for pair in pairs],
        tokens=initial.copy(),
    )
    counts = pack_counts({Semaphore(s): n for s, n in enumerate(initial)})
    return [(Unit.CONTROL, 0, 0, counts, 0, 0), *_body(style, DEPTH, max(1, budget))[0]]


def _body(style: _Style, depth: int, budget: int) -> tuple[list[ItemRow], int]:
    """Draw items that give back all tokens they take, and the number of commands that they expand to."""
    before = style.tokens.copy()
    rows: list[ItemRow] = []
    commands = 0
    for _ in range(int(style.rng.integers(1, 7))):
        if depth and budget >= 16 and style.rng.random() < 0.4:
            loop, length = _loop(style, depth - 1, budget // 4)
        else:
            loop, length = [_random_command(style)], 1
        rows += loop
        commands += length
    closing = _closing(style, before)
    return rows + closing, commands + len(closing)


def _loop(style: _Style, depth: int, budget: int) -> tuple[list[ItemRow], int]:
    large = style.rng.random() < 0.2
    count = int(style.rng.integers(1, 301 if large else style.rng.choice([4, 12, 41])))
    body, length = _body(style, 0 if large else depth, max(1, budget // count))
    count = max(1, min(count, budget // length))
    return [(Unit.LOOP, count, 0, 0, 0, 0), *body, (Unit.END, 0, 0, 0, 0, 0)], count * length


def _random_command(style: _Style) -> ItemRow:
    unit = int(style.rng.integers(len(UNIT_NAMES)))
    keen = style.rng.random()
    wait = post = 0
    for semaphore, tokens in enumerate(style.tokens):
        chosen = style.rng.random() < keen
        if chosen and style.waiter[semaphore] == unit and tokens > 0:
            wait |= 1 << semaphore
        if chosen and style.poster[semaphore] == unit and tokens < MOST_TOKENS:
            post |= 1 << semaphore
    return style.command(unit, wait, post)


def _closing(style: _Style, before: list[int]) -> list[ItemRow]:
    """Take what was posted too much, post what was taken too much."""
    rows: list[ItemRow] = []
    while style.tokens != before:
        surplus = [now - then for now, then in zip(style.tokens, before, strict=True)]
        semaphore = int(style.rng.choice(np.flatnonzero(surplus)))
        unit = style.waiter[semaphore] if surplus[semaphore] > 0 else style.poster[semaphore]
        wait = sum(1 << s for s, n in enumerate(surplus) if n > 0 and style.waiter[s] == unit)
        post = sum(1 << s for s, n in enumerate(surplus) if n < 0 and style.poster[s] == unit)
        rows.append(style.command(unit, wait, post))
    return rows


def _defer_stores(rng: Generator, segment: list[ItemRow], queue_depth: int) -> list[ItemRow]:
    """Let loads pass some stores, where the program stays legal."""
    stores = [index for index, row in enumerate(segment) if row[Row.UNIT] == Unit.STORE]
    for index in rng.permutation(stores)[:DEFER_TRIES].tolist():
        tried = segment.copy()
        tried[index] = (*tried[index][:5], int(rng.integers(1, MOST_DEFER + 1)))
        if _is_legal(expand_rows(np.array(tried, dtype=np.int64)).tolist(), queue_depth):
            segment = tried
    return segment


def _is_legal(commands: list[list[int]], queue_depth: int) -> bool:
    """Walk one flat segment in the order of tickets: every wait finds its token, and no queue fills with held
    stores.
    """
    tokens = [commands[0][Row.WAIT] >> 4 * s & 15 for s in range(len(SEMAPHORE_NAMES))]
    held: list[tuple[int, list[int]]] = []
    loads = 0

    def passes(command: list[int]) -> bool:
        for semaphore in range(len(SEMAPHORE_NAMES)):
            tokens[semaphore] -= command[Row.WAIT] >> semaphore & 1
        legal = min(tokens) >= 0
        for semaphore in range(len(SEMAPHORE_NAMES)):
            tokens[semaphore] += command[Row.POST] >> semaphore & 1
        return legal

    for command in commands[1:]:
        loads += command[Row.UNIT] == Unit.LOAD
        if command[Row.UNIT] == Unit.STORE:
            if len(held) >= queue_depth:
                return False
            held.append((max(loads + command[Row.DEFER], held[-1][0] if held else 0), command))
        elif not passes(command):
            return False
        while held and held[0][0] <= loads:
            if not passes(held.pop(0)[1]):
                return False
    return all(passes(store) for _, store in held)
