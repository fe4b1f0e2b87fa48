"""The numeric contract on whole arrays: conversions, arithmetic, functions and the matrix product.

Arrays of a format have the type that `storage_dtype` gives; fp32 arrays are float32, of which the bits count. The same
names for single bits are in `hwsim.numerics.reference` and `functions`. Normative: docs/contracts/numerics.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.numerics import _kernels, tables
from hwsim.numerics.formats import FLOATS, FloatFormat, float_format, storage_dtype
from hwsim.numerics.reference import Rounding, partial_sums, second_format

__all__ = [
    "Flags",
    "add",
    "exp",
    "from_format",
    "log",
    "matmul",
    "maximum",
    "multiply",
    "reciprocal",
    "reciprocal_root",
    "subtract",
    "to_format",
]

Bits = NDArray[Any]
Floats = NDArray[np.float32]

#: Integers up to 2^24 are exact in fp32, and a product of int8 is at most 2^14.
_EXACT_INT8_PRODUCTS = 1024


@dataclass
class Flags:
    """Counts of what conversions flagged.

    Attributes
    ----------
    invalid : int
        NaN operands.
    overflow : int
        Operands beyond the largest number of the target.
    """

    invalid: int = 0
    overflow: int = 0


def to_format(
    x: Floats,
    format: str,
    *,
    rounding: Rounding = "nearest",
    words: NDArray[np.uint32] | None = None,
    saturate: bool = False,
    flags: Flags | None = None,
) -> Bits:
    """Convert fp32 to a format (section 4).

    Parameters
    ----------
    x : ndarray of any shape, dtype float32
        What to convert.
    format : str
        Target: int8 or a floating-point format; to fp32 only subnormals and NaNs change.
    rounding : {"nearest", "stochastic"}
        Ties go to even; stochastic rounding needs `words`.
    words : ndarray of the same shape, dtype uint32, optional
        Random words, as `Lfsr.draw` gives them.
    saturate : bool
        Give the largest number instead of an infinity.
    flags : Flags, optional
        Counts to add to.

    Returns
    -------
    ndarray of the same shape, dtype as `storage_dtype`

    Raises
    ------
    HwsimError
        If the format is unknown, `x` is not float32, or the words are missing or of another shape.

    Examples
    --------
    >>> [hex(b) for b in to_format(np.float32([1, 1.00390625, -1e-45]), "bf16")]
    ['0x3f80', '0x3f80', '0x8000']
    >>> to_format(np.float32([1.5, 2.5, -1000]), "int8")
    array([   2,    2, -127], dtype=int8)
    """
    flat = _flat(x, "fp32")
    if rounding not in ("nearest", "stochastic"):
        raise HwsimError(f"unknown rounding '{rounding}'; choose nearest or stochastic")
    stochastic = rounding == "stochastic"
    if stochastic and (words is None or words.shape != x.shape or words.dtype != np.uint32):
        given = "none" if words is None else f"{words.dtype} of shape {words.shape}"
        raise HwsimError(f"stochastic rounding needs one uint32 word per element, shape {x.shape}; got {given}")
    w = np.ascontiguousarray(words).reshape(-1) if stochastic and words is not None else np.zeros(1, np.uint32)
    out = np.empty(flat.size, storage_dtype(format))
    if format == "int8":
        invalid, overflow = _kernels.to_int8(flat.view(np.uint32), stochastic, w, out)
    elif format == "fp32":
        _kernels.add(flat, np.full_like(flat, -0.0), out)  # x + (-0) is x, flushed
        invalid, overflow = int(np.count_nonzero(np.isnan(flat))), 0
    else:
        f = float_format(format)
        infinity = -1 if f.infinity is None else f.infinity
        invalid, overflow = _kernels.narrow(
            flat.view(np.uint32), f.bits, f.mantissa_bits, f.bias, f.largest, infinity, f.nan, f.gradual, saturate,
            stochastic, w, out,
        )  # fmt: skip
    if flags is not None:
        flags.invalid += int(invalid)
        flags.overflow += int(overflow)
    return out.reshape(x.shape)


def from_format(bits: Bits, format: str) -> Floats:
    """Convert a format to fp32: exact but for int32, which is rounded to nearest even.

    Parameters
    ----------
    bits : ndarray of any shape, dtype as `storage_dtype`
        What to convert.
    format : str
        Its format.

    Returns
    -------
    ndarray of the same shape, dtype float32

    Raises
    ------
    HwsimError
        If the format is unknown or the array has another type.

    Examples
    --------
    >>> from_format(np.uint8([0x01, 0x7E]), "fp8_e4m3")
    array([1.953125e-03, 4.480000e+02], dtype=float32)
    """
    flat = _flat(bits, format)
    return _widened(flat, format).reshape(bits.shape)


def add(x: Floats, y: Floats) -> Floats:
    """Add fp32 arrays, or an array and a scalar array, element by element.

    Raises
    ------
    HwsimError
        If an operand is not float32.

    Examples
    --------
    >>> add(np.float32([1, 2**-126]), np.float32([2, -1.5 * 2**-126]))      # the second is flushed
    array([ 3., -0.], dtype=float32)
    """
    return _two(_kernels.add, x, y)


def subtract(x: Floats, y: Floats) -> Floats:
    """Subtract fp32 arrays element by element: x + (−y).

    Raises
    ------
    HwsimError
        If an operand is not float32.

    Examples
    --------
    >>> subtract(np.float32([1, 2]), np.float32([2, 2]))
    array([-1.,  0.], dtype=float32)
    """
    return _two(_kernels.add, x, np.negative(y))


def multiply(x: Floats, y: Floats) -> Floats:
    """Multiply fp32 arrays element by element.

    Raises
    ------
    HwsimError
        If an operand is not float32.

    Examples
    --------
    >>> multiply(np.float32([3, -0.0]), np.float32([0.5, 4]))
    array([ 1.5, -0. ], dtype=float32)
    """
    return _two(_kernels.multiply, x, y)


def maximum(x: Floats, y: Floats) -> Floats:
    """Give the larger of fp32 arrays, element by element.

    Raises
    ------
    HwsimError
        If an operand is not float32.

    Examples
    --------
    >>> maximum(np.float32([3, -0.0]), np.float32([0.5, 0]))
    array([3., 0.], dtype=float32)
    """
    return _two(_kernels.maximum, x, y)


def exp(x: Floats) -> Floats:
    """Compute e^x on an fp32 array.

    Raises
    ------
    HwsimError
        If the operand is not float32.

    Examples
    --------
    >>> exp(np.float32([0, 1, -200]))
    array([1.       , 2.7182817, 0.       ], dtype=float32)
    """
    return _one(_kernels.exp, x, _EXP, _constants("64/ln2", "C1", "C2", "1/6"))


def log(x: Floats) -> Floats:
    """Compute the natural logarithm on an fp32 array.

    Raises
    ------
    HwsimError
        If the operand is not float32.

    Examples
    --------
    >>> log(np.float32([1, 2, 0]))
    array([0.       , 0.6931472,      -inf], dtype=float32)
    """
    return _one(_kernels.log, x, _LOG_POINT, _LOG_RECIPROCAL, _LOG, _constants("1/3", "H", "ln2-H"))


def reciprocal(x: Floats) -> Floats:
    """Compute 1/x on an fp32 array.

    Raises
    ------
    HwsimError
        If the operand is not float32.

    Examples
    --------
    >>> reciprocal(np.float32([4, -0.0]))
    array([0.25, -inf], dtype=float32)
    """
    return _one(_kernels.reciprocal, x, _RECIPROCAL)


def reciprocal_root(x: Floats) -> Floats:
    """Compute 1/√x on an fp32 array.

    Raises
    ------
    HwsimError
        If the operand is not float32.

    Examples
    --------
    >>> reciprocal_root(np.float32([4, np.inf]))
    array([0.5, 0. ], dtype=float32)
    """
    return _one(_kernels.reciprocal_root, x, _RECIPROCAL_ROOT)


def matmul(
    a: Bits,
    b: Bits,
    *,
    operand_format: str,
    operand_format_b: str | None = None,
    dataflow: str,
    rows: int,
    add_latency_cycles: int = 1,
    k_tile: int | None = None,
    k_segment: int | None = None,
    accumulate: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Multiply matrices with the products, the rounding and the order of section 3.

    Parameters
    ----------
    a : ndarray of shape (m, k), dtype as `storage_dtype`
    b : ndarray of shape (k, n), dtype as `storage_dtype`
    operand_format : str
        Format of `a`, and of `b` unless named.
    operand_format_b : str, optional
        Format of `b`; it may differ where both are fp8 formats.
    dataflow : {"ws", "is", "os"}
        Stationary operand.
    rows : int
        Rows of the array.
    add_latency_cycles : int
        Partial sum in to partial sum out [cycles]; matters to output-stationary alone.
    k_tile : int, optional
        Reduction of one command, but the last's; k unless given.
    k_segment : int, optional
        Channels of one tap where the tile holds the patch.
    accumulate : ndarray of shape (m, n), optional
        The accumulator that the first command adds to; without it that command overwrites.

    Returns
    -------
    ndarray of shape (m, n), dtype int32 for int8, else float32

    Raises
    ------
    HwsimError
        If shapes or types do not fit, the two formats do not, the dataflow is unknown, or a size is not positive.

    Examples
    --------
    >>> one, tiny = 0x3F80, 0x3300                      # bf16: 1 and 2^-25
    >>> a, b = np.uint16([[one] + [tiny] * 7]), np.full((8, 1), one, np.uint16)
    >>> def above_one(rows):
    ...     return float(matmul(a, b, operand_format="bf16", dataflow="ws", rows=rows)[0, 0]) - 1
    >>> above_one(8), above_one(4) == 2**-23            # the second fold adds four tiny ones up before 1 drowns them
    (0.0, True)
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise HwsimError(f"matmul needs shapes (m, k) and (k, n), not {a.shape} and {b.shape}")
    shape = (a.shape[0], b.shape[1])
    out_dtype = np.dtype(np.int32 if operand_format == "int8" else np.float32)
    if accumulate is not None and (accumulate.shape != shape or accumulate.dtype != out_dtype):
        raise HwsimError(
            f"matmul: accumulate must be {out_dtype} of shape {shape}, not {accumulate.dtype} of {accumulate.shape}"
        )
    sums = partial_sums(
        a.shape[1], dataflow=dataflow, rows=rows, add_latency_cycles=add_latency_cycles, k_tile=k_tile,
        k_segment=k_segment,
    )  # fmt: skip
    formats = operand_format, second_format(operand_format, operand_format_b)
    wide_a, wide_b = (_widened(_flat(x, f), f).reshape(x.shape) for x, f in zip((a, b), formats, strict=True))
    if operand_format == "int8":
        return _integer_matmul(wide_a, wide_b, accumulate)
    order = np.concatenate([np.arange(p.start, p.stop, p.step) for p in sums])
    ends = np.cumsum([len(range(p.start, p.stop, p.step)) for p in sums])
    idle = np.array([p.idle for p in sums])
    out = np.empty(shape, np.float32) if accumulate is None else to_format(accumulate, "fp32")
    if 0 in shape:
        return out
    mode = _mode(wide_a, wide_b, None if accumulate is None else out, *(FLOATS[f] for f in formats))
    _run(wide_a, wide_b, order, ends, idle, accumulate is None, mode, out)
    _kernels.canonical(out.reshape(-1))
    return out


def _integer_matmul(a: Floats, b: Floats, accumulate: NDArray[np.int32] | None) -> NDArray[np.int32]:
    """int8 products: runs of them are summed in fp32, exactly, and the runs in int32; the order does not show."""
    shape = (a.shape[0], b.shape[1])
    total = np.zeros(shape, np.int32) if accumulate is None else accumulate.copy()
    part = np.empty(shape, np.float32)
    for first in range(0, a.shape[1] if total.size else 0, _EXACT_INT8_PRODUCTS):
        last = min(first + _EXACT_INT8_PRODUCTS, a.shape[1])
        order, ends, idle = np.arange(last - first), np.array([last - first]), np.array([False])
        _run(a[:, first:last], b[first:last], order, ends, idle, True, _kernels.FUSED, part)
        _kernels.add_integers(total.reshape(-1), part.reshape(-1))
    return total


def _mode(a: Floats, b: Floats, line: Floats | None, f: FloatFormat, g: FloatFormat) -> int:
    """Choose the fastest kernel that gives the contract's bits; `f` and `g` are the formats of `a` and `b`.

    Products, and so all sums, are multiples of 2^unit. Where that is at least 2^-126, nothing can be subnormal.
    """
    (a_min, a_max), (b_min, b_max) = (_kernels.exponents(x.reshape(-1).view(np.uint32)) for x in (a, b))
    unit = a_min - 127 + b_min - 127 - (23 if f.mantissa_bits == 23 else f.mantissa_bits + g.mantissa_bits)
    if line is not None:
        unit = min(unit, _kernels.exponents(line.reshape(-1).view(np.uint32))[0] - 127 - 23)
    may_underflow = unit < -126
    if f.mantissa_bits == 23:
        return _kernels.FLUSHED_WIDE if may_underflow else _kernels.ROUNDED
    may_overflow = a_max - 127 + b_max - 127 + 2 > 127  # a fused product would not become infinite
    return _kernels.FLUSHED if may_underflow or may_overflow else _kernels.FUSED


def _run(
    a: Floats,
    b: Floats,
    order: NDArray[np.int64],
    ends: NDArray[np.int64],
    idle: NDArray[np.bool_],
    overwrite: bool,
    mode: int,
    out: Floats,
) -> None:
    m, k = a.shape
    n = b.shape[1]
    padded = -(-m // _kernels.ROWS_AT_ONCE) * _kernels.ROWS_AT_ONCE
    rows = np.zeros((padded, k), np.float32)
    rows[:m] = a if np.array_equal(order, np.arange(k)) else a[:, order]
    panels = np.empty(-(-n // _kernels.BLOCK_COLUMNS) * _kernels.BLOCK_COLUMNS * k, np.float32)
    _kernels.pack_columns(b, order, panels)
    _kernels.matmul(rows, panels, ends, idle, overwrite, mode, out)


def _widened(flat: Bits, format: str) -> Floats:
    if format in ("int8", "int32"):
        return flat.astype(np.float32)
    if format == "fp32":
        return to_format(flat, "fp32")
    f = float_format(format)
    out = np.empty(flat.size, np.float32)
    infinity = -1 if f.infinity is None else f.infinity
    _kernels.widen(flat, f.bits, f.mantissa_bits, f.bias, f.largest, infinity, f.gradual, out)
    return out


def _flat(x: Bits, format: str) -> Bits:
    dtype = storage_dtype(format)
    if not isinstance(x, np.ndarray) or x.dtype != dtype:
        raise HwsimError(f"{format} arrays are {dtype}, not {getattr(x, 'dtype', type(x).__name__)}")
    return np.ascontiguousarray(x).reshape(-1)


def _one(kernel: Any, x: Floats, *tables_of: Any) -> Floats:
    flat = _flat(x, "fp32")
    out = np.empty_like(flat)
    kernel(flat, *tables_of, out)
    return out.reshape(x.shape)


def _two(kernel: Any, x: Floats, y: Floats) -> Floats:
    _flat(x, "fp32"), _flat(y, "fp32")
    x, y = np.broadcast_arrays(x, y)
    out = np.empty(x.size, np.float32)
    kernel(_flat(x, "fp32"), _flat(y, "fp32"), out)
    return out.reshape(x.shape)


def _array(bits: tuple[int, ...]) -> Floats:
    return np.array(bits, dtype=np.uint32).view(np.float32)


def _constants(*names: str) -> tuple[Any, ...]:
    return tuple(_array(tuple(tables.CONSTANTS[name] for name in names)))


_EXP = _array(tables.EXP)
_LOG_POINT = _array(tables.LOG_POINT)
_LOG_RECIPROCAL = _array(tables.LOG_RECIPROCAL)
_LOG = _array(tables.LOG)
_RECIPROCAL = _array(tables.RECIPROCAL)
_RECIPROCAL_ROOT = _array(tables.RECIPROCAL_ROOT)
