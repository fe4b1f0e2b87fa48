"""What the ports of a PE carry while it works on a product: 64 PEs of an array at once, cycle by cycle.

`pe_stream` orders the operands of a `Product` as a weight- or input-stationary array sees them. Normative:
docs/contracts/calibration.md, section 2, and docs/contracts/cycles.md, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle as endless

import numpy as np
from numpy.typing import NDArray

from hwsim.energy.operands import STATISTICS, PeShape, Product, Seen, Words, changes, operand_bits, seen_by
from hwsim_rtl.power.activity import LANES

__all__ = ["MOST_ROWS", "Stream", "idle_stream", "pe_stream"]

#: Rows of the array that streams are made for, at most.
MOST_ROWS = 16


@dataclass(frozen=True, eq=False)
class Stream:
    """Words of the ports of 64 PEs.

    Attributes
    ----------
    name, phase : str
        Of the product.
    words : mapping of str to ndarray of shape (cycles, 64), dtype uint64, or to int
        By input port, as `hwsim_rtl.power.activity.simulate` takes them.
    warm_cycles : int
        Cycles at the start in which the first stationary operands are loaded.
    statistics : ndarray of shape (64, len(STATISTICS)), dtype float64
        Per PE, mean of what `hwsim.energy.operands.changes` gives over the cycles after those.
    """

    name: str
    phase: str
    words: Mapping[str, Words | int]
    warm_cycles: int
    statistics: NDArray[np.float64]


def pe_stream(product: Product, shape: PeShape, rng: np.random.Generator, cycles: int = 128) -> Stream:
    """Put a product's operands in order.

    Every one of the 64 streams is a PE at a random place of the array, from a random fold on: its stationary operand
    is held for a fold, the moving one has a new element in every cycle, and the sum from the north is that of the PEs
    above it. While a fold runs, the bus brings the next one's stationary operands, row by row. Columns without work
    are left out, rows without work are not.

    Parameters
    ----------
    product : Product
        Operands.
    shape : PeShape
        Of the PE and its array.
    rng : Generator
        Chooses places.
    cycles : int
        Cycles after the warm ones.
    """
    rows = min(shape.rows, MOST_ROWS)
    warm = rows + shape.multiply_latency_cycles + 2
    total = warm + cycles
    words = {
        name: np.zeros((total, LANES), np.uint64)
        for name in ("moving", "select", "active", "load", "stationary", "sum_north")
    }
    statistics = np.zeros((LANES, len(STATISTICS)))
    for lane in range(LANES):
        column = _Column(product, shape, rows, rng)
        statistics[lane] = column.fill(words, lane, warm, total)
    return Stream(product.name, product.phase, words, warm, statistics)


def idle_stream(cycles: int = 16) -> Stream:
    """Give a stream in which nothing changes: the clock alone is left."""
    ports = ("moving", "select", "active", "load", "stationary", "sum_north")
    words = {name: np.zeros((cycles, LANES), np.uint64) for name in ports}
    return Stream("idle", "made", words, 2, np.zeros((LANES, len(STATISTICS))))


class _Column:
    """One PE and what is above it: its folds, one after the other."""

    def __init__(self, product: Product, shape: PeShape, rows: int, rng: np.random.Generator) -> None:
        self.product, self.shape, self.rows = product, shape, rows
        (m, k), n = product.a.shape, product.b.shape[1]
        self.row = int(rng.integers(min(rows, k)))
        column = int(rng.integers(min(shape.cols, n)))
        folds = [(c, top) for c in range(column, n, shape.cols) for top in range(0, k, rows)]
        first = int(rng.integers(len(folds)))
        self.folds = endless(folds[first:] + folds[:first])
        self.first_vector = int(rng.integers(m)) if m > 64 else 0

    def fill(self, words: Mapping[str, Words], lane: int, warm: int, total: int) -> NDArray[np.float64]:
        """Write one stream; give its statistics."""
        m, k = self.product.a.shape
        late, held = self.shape.multiply_latency_cycles, 0
        fold = next(self.folds)
        self._load(words, lane, fold, warm - self.rows - 1, held)
        begin = at = warm - 1
        tops, columns, vectors = (np.zeros(total, np.int64) for _ in range(3))
        while at < total:
            column, top = fold
            end = min(at + max(m, self.rows), total)  # a short fold waits for the next column, its last vector stays
            columns[at:end], tops[at:end] = column, top
            vectors[at:end] = (np.minimum(np.arange(end - at), m - 1) + self.first_vector) % m
            words["select"][at:end, lane], words["active"][at:end, lane] = held, top + self.row < k
            fold, held = next(self.folds), 1 - held
            self._load(words, lane, fold, at, held)
            at = end
        seen = seen_by(self.product, self.shape.format, self.row, tops[begin:], columns[begin:], vectors[begin:])
        words["moving"][begin:, lane] = operand_bits(seen.moving, self.shape.format)
        sums = words["sum_north"][:, lane]
        sums[begin + late :] = seen.sums[: len(seen.sums) - late]
        counted = Seen(seen.moving, seen.weights, sums[begin:])
        mean: NDArray[np.float64] = changes(counted, self.shape.format).mean(axis=0)
        return mean

    def _load(self, words: Mapping[str, Words], lane: int, fold: tuple[int, int], at: int, register: int) -> None:
        """The bus carries a fold's stationary column, and this PE takes its own."""
        column, top = fold
        operands = operand_bits(self.product.b[top : top + self.rows, column], self.shape.format)
        end = min(at + len(operands), len(words["load"]))
        words["stationary"][at:end, lane] = operands[: end - at]
        words["stationary"][end:, lane] = operands[-1]
        if at + self.row < end:
            words["load"][at + self.row, lane] = 1 << register
