"""What operands do to a PE: the elements that meet in it cycle by cycle, and how many bits change.

`seen_by` gives what PEs of a weight- or input-stationary array see of a `Product`, `changes` how that changes, and
`operand_statistics` the mean over a product's MACs. Normative: docs/contracts/calibration.md, sections 2 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwsim.hardware import Accelerator, Dataflow
from hwsim.hardware.formats import FP8_OPERAND, array_formats
from hwsim.numerics import FLOATS, to_format

__all__ = [
    "STATISTICS",
    "PeShape",
    "Product",
    "Seen",
    "array_format",
    "changes",
    "operand_bits",
    "operand_statistics",
    "seen_by",
    "statistics_from",
    "turned",
]

#: Per MAC: changed bits of the moving operand, of it where the stationary one is not zero, of the product and of the
#: sum from the north; share of MACs in which an operand is zero.
STATISTICS = ("moving_toggles", "effective_toggles", "product_toggles", "sum_toggles", "zeros")
#: MACs of a product from which its statistics are taken, and how many follow each in its PE, itself included.
SAMPLES, CYCLES = 64, 128

_FP32_EXPONENT_BITS = 8

Floats = NDArray[np.float32]
Words = NDArray[np.uint64]
Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Product:
    """One product (m, k) × (k, n) with operands in the machine's formats.

    Attributes
    ----------
    name : str
        Network and op, or what was made.
    phase : str
        ``"forward"``, ``"dgrad"``, ``"wgrad"``, or ``"made"``.
    a, b : ndarray of shape (m, k) and (k, n), dtype float32
        The moving and the stationary operand: the numbers that are stored, of scaled formats without the scale.
    """

    name: str
    phase: str
    a: Floats
    b: Floats

    @property
    def macs(self) -> int:
        """Multiply-adds: m · k · n."""
        return int(self.a.size * self.b.shape[1])


@dataclass(frozen=True)
class PeShape:
    """What a PE's operands depend on besides the product.

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

    @staticmethod
    def of(hw: Accelerator) -> PeShape:
        """Give that of an accelerator's array."""
        return PeShape(array_format(hw), hw.array.rows, hw.array.cols, hw.array.multiply_latency_cycles)


class Seen(NamedTuple):
    """What PEs see: moving and stationary operand, dtype float32, and the bits of the sum from the north."""

    moving: Floats
    weights: Floats
    sums: Words


def array_format(hw: Accelerator) -> str:
    """Format of the operands inside the array: wide enough for every format that it takes."""
    formats = array_formats(hw.array.operand_format)
    return FP8_OPERAND if len(formats) > 1 else hw.array.operand_format


def turned(product: Product, hw: Accelerator) -> Product:
    """Give a product as an accelerator's array takes it: where the inputs stay, the weights move."""
    if hw.array.dataflow is Dataflow.INPUT_STATIONARY:
        return Product(product.name, product.phase, product.b.T, product.a.T)
    return product


def seen_by(product: Product, format: str, row: Any, top: Any, column: Any, vector: Any) -> Seen:
    """Give what PEs see: row `row` of the array in folds over the summands from `top` on.

    Parameters
    ----------
    product : Product
        Operands.
    format : str
        Of the operands inside the array.
    row, top, column, vector : array_like of int
        Row of the PE; first summand and column of the product in its fold; row of the product that meets it. They are
        broadcast. A PE below the last summand has no work: its operands are 0, its sum is whole.

    Returns
    -------
    Seen
        Of the common shape.
    """
    row, top, column, vector = np.broadcast_arrays(row, top, column, vector)
    a, b = product.a, product.b
    total = np.zeros(row.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for above in range(int(row.max(initial=0))):
            adds = (above < row) & (top + above < len(b))
            at = np.where(adds, top + above, 0)
            total = np.where(adds, (total + a[vector, at] * b[at, column]).astype(np.float32), total)
    works = top + row < len(b)
    at = np.where(works, top + row, 0)
    zero = np.float32(0)
    return Seen(np.where(works, a[vector, at], zero), np.where(works, b[at, column], zero), _sum_bits(total, format))


def changes(seen: Seen, format: str) -> NDArray[np.float64]:
    """Give the terms of `STATISTICS` from each cycle to the next.

    Parameters
    ----------
    seen : Seen
        Of shape (…, cycles + 1).
    format : str
        Of the operands inside the array.

    Returns
    -------
    ndarray of shape (…, cycles, len(STATISTICS)), dtype float64
    """
    moving, weights, sums = seen
    with np.errstate(over="ignore", invalid="ignore"):
        products = _sum_bits((moving * weights).astype(np.float32), format)
    moves = _flips(operand_bits(moving, format))
    zero = (moving == 0) | (weights == 0)
    terms = (moves, moves * (weights[..., 1:] != 0), _flips(products), _flips(sums), zero[..., 1:])
    return np.stack([np.asarray(term, np.float64) for term in terms], axis=-1)


def statistics_from(
    product: Product, shape: PeShape, summand: Any, column: Any, vector: Any, cycles: int
) -> NDArray[np.float64]:
    """Give statistics of MACs and of those that follow in their PEs.

    A PE has the MACs of its folds one after the other, columns first, and after the last the first again.

    Parameters
    ----------
    product, shape
        Operands, and the array.
    summand, column, vector : array_like of shape (n,), dtype int
        The MACs: indices in k, n and m.
    cycles : int
        MACs from each on.

    Returns
    -------
    ndarray of shape (n, len(STATISTICS)), dtype float64
        Means.
    """
    (m, k), n = product.a.shape, product.b.shape[1]
    row, first = np.asarray(summand) % shape.rows, np.asarray(column) % shape.cols
    tops = -(-(k - row) // shape.rows)  # folds of the PE with work, for each column of the product
    columns = -(-(n - first) // shape.cols)
    fold = np.asarray(column) // shape.cols * tops + np.asarray(summand) // shape.rows
    begin = fold * m + np.asarray(vector)
    place = (begin[:, None] + np.arange(-1, cycles)) % (columns * tops * m)[:, None]
    fold, at = np.divmod(place, m)
    top = fold % tops[:, None] * shape.rows
    seen = seen_by(product, shape.format, row[:, None], top, first[:, None] + fold // tops[:, None] * shape.cols, at)
    means: NDArray[np.float64] = changes(seen, shape.format).mean(axis=1)
    return means


def operand_statistics(product: Product, shape: PeShape, rng: np.random.Generator) -> NDArray[np.float64]:
    """Estimate the mean of `STATISTICS` over a product's MACs from MACs chosen at random and those that follow.

    Parameters
    ----------
    product, shape
        Operands, and the array.
    rng : Generator
        Chooses `SAMPLES` MACs, each with equal chance; so the estimate has no bias.

    Returns
    -------
    ndarray of shape (len(STATISTICS),), dtype float64

    Examples
    --------
    >>> ones = np.ones((4, 4), np.float32)
    >>> halves = np.where(np.arange(4)[:, None] % 2, ones, 0 * ones)
    >>> shape = PeShape("int8", 1, 1, 0)
    >>> operand_statistics(Product("p", "made", halves, ones), shape, np.random.default_rng(1)).tolist()
    [1.0, 1.0, 1.0, 0.0, 0.5]
    """
    (m, k), n = product.a.shape, product.b.shape[1]
    summand, column, vector = (rng.integers(size, size=SAMPLES) for size in (k, n, m))
    mean: NDArray[np.float64] = statistics_from(product, shape, summand, column, vector, CYCLES).mean(axis=0)
    return mean


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


def _sum_bits(total: Floats, format: str) -> Words:
    """Bits of a product or a sum in the accumulator's format."""
    whole = total.astype(np.int32) if format == "int8" else np.ascontiguousarray(total)
    bits: Words = whole.view(np.uint32).astype(np.uint64)
    return bits


def _flips(words: Words) -> Whole:
    """Changed bits from each word to the next."""
    flips: Whole = np.bitwise_count(words[..., 1:] ^ words[..., :-1]).astype(np.int64)
    return flips
