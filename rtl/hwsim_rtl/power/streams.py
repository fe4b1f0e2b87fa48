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

from hwsim.numerics import FLOATS, to_format
from hwsim_rtl.arithmetic.floats import FP8_OPERAND
from hwsim_rtl.power.activity import LANES
from hwsim_rtl.power.products import Floats, Product

__all__ = ["MOST_ROWS", "STATISTICS", "PeShape", "Stream", "idle_stream", "operand_bits", "pe_stream"]

#: Rows of the array that streams are made for, at most.
MOST_ROWS = 16
#: Per stream and cycle: changed bits of the moving operand, of it where the stationary one is not zero, of the
#: product and of the sum from the north; share of cycles in which an operand is zero.
STATISTICS = ("moving_toggles", "effective_toggles", "product_toggles", "sum_toggles", "zeros")

_FP32_EXPONENT_BITS = 8

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class PeShape:
    """What a stream depends on besides its product.

    Attributes
    ----------
    format : str
        Of the operands inside the array.
    rows, cols : int
        Of the array.
    multiply_latency_cycles : int
        By which sums come later than their operand.
    """

    format: str
    rows: int
    cols: int
    multiply_latency_cycles: int


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
        Per PE, mean over the cycles after those.
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


def operand_bits(values: Floats, format: str) -> Words:
    """Give numbers as the bits of an operand inside the array.

    Examples
    --------
    >>> [hex(w) for w in operand_bits(np.float32([-1, 1.5, 0]), "bf16").tolist()]
    ['0xbf80', '0x3fc0', '0x0']
    >>> operand_bits(np.float32([-1, 127]), "int8").tolist()
    [255, 127]
    """
    if format == "int8":
        whole: Words = values.astype(np.int8).view(np.uint8).astype(np.uint64)
        return whole
    if format == FP8_OPERAND:
        return _nine_bits(values)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    f = FLOATS[format]
    if f.exponent_bits == _FP32_EXPONENT_BITS:
        cut: Words = (bits >> np.uint32(32 - f.bits)).astype(np.uint64)
        return cut
    stored = to_format(np.ascontiguousarray(values, np.float32), format)
    word: Words = stored.view(np.uint8 if f.bits == 8 else np.uint16).astype(np.uint64)
    return word


def _nine_bits(values: Floats) -> Words:
    """Numbers of either fp8 format in sign, 5 bits of exponent (bias 15) and 3 of fraction, subnormals too."""
    magnitude = np.abs(values.astype(np.float64))
    exponent = np.maximum(np.frexp(np.where(magnitude > 0, magnitude, 1.0))[1] - 1, -14)
    field = np.rint(np.ldexp(magnitude, 3 - exponent)).astype(np.int64)  # 8 … 15, less where subnormal
    normal = field >= 8
    bits = np.where(normal, ((exponent + 15) << 3) | (field & 7), field)
    signed: Words = (bits | (np.signbit(values).astype(np.int64) << 8)).astype(np.uint64)
    return signed


class _Column:
    """One PE and what is above it: its folds, one after the other."""

    def __init__(self, product: Product, shape: PeShape, rows: int, rng: np.random.Generator) -> None:
        self.a, self.b, self.shape, self.rows = product.a, product.b, shape, rows
        (m, k), n = product.a.shape, product.b.shape[1]
        self.row = int(rng.integers(min(rows, k)))
        column = int(rng.integers(min(shape.cols, n)))
        folds = [(c, top) for c in range(column, n, shape.cols) for top in range(0, k, rows)]
        first = int(rng.integers(len(folds)))
        self.folds = endless(folds[first:] + folds[:first])
        self.first_vector = int(rng.integers(m)) if m > 64 else 0
        self.is_integer = shape.format == "int8"

    def fill(self, words: Mapping[str, Words], lane: int, warm: int, total: int) -> NDArray[np.float64]:
        """Write one stream; give its statistics."""
        shape, held = self.shape, 0
        fold = next(self.folds)
        self._load(words, lane, fold, warm - self.rows - 1, held)
        at = warm - 1
        moving, weights = np.zeros(total, np.float32), np.zeros(total, np.float32)
        sums = np.zeros(total + shape.multiply_latency_cycles, np.uint64)
        while at < total:
            vectors, weight, north = self._values(fold)
            active = fold[1] + self.row < len(self.b)
            length = max(len(vectors), self.rows)
            end = min(at + length, total)
            stop = min(at + len(vectors), total)
            moving[at:stop], moving[stop:end] = vectors[: stop - at], vectors[-1]
            weights[at:end] = weight
            words["select"][at:end, lane], words["active"][at:end, lane] = held, active
            late = slice(at + shape.multiply_latency_cycles, end + shape.multiply_latency_cycles)
            sums[late] = np.pad(north, (0, length - len(north)), "edge")[: end - at]
            fold, held = next(self.folds), 1 - held
            self._load(words, lane, fold, at, held)
            at = end
        words["moving"][:, lane] = operand_bits(moving, shape.format)
        words["sum_north"][:, lane] = sums[:total]
        return self._statistics(words, lane, moving, weights, warm)

    def _load(self, words: Mapping[str, Words], lane: int, fold: tuple[int, int], at: int, register: int) -> None:
        """The bus carries a fold's stationary column, and this PE takes its own."""
        column, top = fold
        operands = operand_bits(self.b[top : top + self.rows, column], self.shape.format)
        end = min(at + len(operands), len(words["load"]))
        words["stationary"][at:end, lane] = operands[: end - at]
        words["stationary"][end:, lane] = operands[-1]
        if at + self.row < end:
            words["load"][at + self.row, lane] = 1 << register

    def _values(self, fold: tuple[int, int]) -> tuple[Floats, np.float32, Words]:
        """Moving operands, the stationary one, and the sums from the north of a fold."""
        column, top = fold
        a = np.roll(self.a, -self.first_vector, axis=0)
        above = range(top, min(top + self.row, len(self.b)))
        total = np.zeros(len(a), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for r in above:
                total = (total + a[:, r] * self.b[r, column]).astype(np.float32)
        if top + self.row >= len(self.b):
            return np.zeros(len(a), np.float32), np.float32(0), self._sum_bits(total)
        return a[:, top + self.row], self.b[top + self.row, column], self._sum_bits(total)

    def _sum_bits(self, total: Floats) -> Words:
        if self.is_integer:
            return total.astype(np.int32).view(np.uint32).astype(np.uint64)
        return total.view(np.uint32).astype(np.uint64)

    def _statistics(
        self, words: Mapping[str, Words], lane: int, moving: Floats, weights: Floats, warm: int
    ) -> NDArray[np.float64]:
        with np.errstate(over="ignore", invalid="ignore"):
            products = self._sum_bits((moving * weights).astype(np.float32))[warm - 1 :]
        moves = _flips(words["moving"][warm - 1 :, lane])
        zero = (moving[warm:] == 0) | (weights[warm:] == 0)
        return np.array(
            [
                moves.mean(), (moves * (weights[warm:] != 0)).mean(), _flips(products).mean(),
                _flips(words["sum_north"][warm - 1 :, lane]).mean(), zero.mean(),
            ]
        )  # fmt: skip


def _flips(words: Words) -> NDArray[np.int64]:
    """Changed bits from each word to the next."""
    flips: NDArray[np.int64] = np.bitwise_count(words[1:] ^ words[:-1]).astype(np.int64)
    return flips
