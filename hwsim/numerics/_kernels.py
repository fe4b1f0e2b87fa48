"""Compiled numerics: arrays in, arrays out, bit for bit what `hwsim.numerics.reference` and `functions` give.

Called from `hwsim.numerics.arrays` and `lfsr` alone. Every kernel gives the same bits for any number of threads: an
element, or an output of a matrix product, is computed by one thread.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

__all__ = [
    "BLOCK_COLUMNS",
    "FLUSHED",
    "FLUSHED_WIDE",
    "FUSED",
    "ROUNDED",
    "ROWS_AT_ONCE",
    "add",
    "add_integers",
    "canonical",
    "draw",
    "exp",
    "exponents",
    "log",
    "matmul",
    "matmul_alone",
    "maximum",
    "multiply",
    "narrow",
    "pack_columns",
    "reciprocal",
    "reciprocal_root",
    "to_int8",
    "widen",
]

_MIN = np.float32(2.0**-126)
_ZERO = np.float32(0)
_NAN = np.uint32(0x7FC00000).view(np.float32)
_INF = np.float32(np.inf)
#: Products of this magnitude and above round up to 2^-126 (a tie goes to even); smaller ones are flushed.
_FLUSH_PRODUCT = (2.0 - 2.0**-24) * 2.0**-127


# ---- one number -------------------------------------------------------------------------------------------------


@njit(cache=True)
def _flush(x):  # type: ignore[no-untyped-def]
    """Subnormal → zero of its sign. Sums that come out subnormal are exact, so flushing them after rounding is FTZ."""
    return x * _ZERO if abs(x) < _MIN else x


@njit(cache=True)
def _add(x, y):  # type: ignore[no-untyped-def]
    return _flush(x + y)


@njit(cache=True)
def _multiply(x, y):  # type: ignore[no-untyped-def]
    """Round to 24 bits before the look at the exponent: the product is exact in float64."""
    p = np.float64(x) * np.float64(y)
    return np.float32(p * 0.0) if abs(p) < _FLUSH_PRODUCT else np.float32(p)


@njit(cache=True)
def _canonical(x):  # type: ignore[no-untyped-def]
    return _NAN if x != x else x


@njit(cache=True)
def _bits(x):  # type: ignore[no-untyped-def]
    return np.int64(np.float32(x).view(np.uint32))


@njit(cache=True)
def _float(bits):  # type: ignore[no-untyped-def]
    return np.uint32(bits).view(np.float32)


@njit(cache=True)
def _scale(y, exponent):  # type: ignore[no-untyped-def]
    field = (_bits(y) >> 23) + exponent
    if field > 254:
        return _INF
    return _ZERO if field < 1 else _float((field << 23) | (_bits(y) & 0x7FFFFF))


@njit(cache=True)
def _maximum(x, y):  # type: ignore[no-untyped-def]
    a, b = _flush(x), _flush(y)
    if a != a or b != b:
        return _NAN
    if a == b:
        return a + b if a == _ZERO else a
    return a if a > b else b


@njit(cache=True)
def _exp(x, table, constants):  # type: ignore[no-untyped-def]
    c64, c1, c2, c6 = constants
    half, magic = np.float32(0.5), np.float32(1.5 * 2.0**23)
    a = _flush(x)
    if a != a:
        return _NAN
    if a > np.float32(89):
        return _INF
    if a < np.float32(-88):
        return _ZERO
    n = (_multiply(a, c64) + magic) - magic  # rounds to the nearest integer
    r = _add(_add(a, -_multiply(n, c1)), -_multiply(n, c2))
    p = _add(r, _multiply(_multiply(_add(_multiply(r, c6), half), r), r))
    k = np.int64(n)
    t = table[k & 63]
    return _scale(_add(t, _multiply(t, p)), k >> 6)


@njit(cache=True)
def _log(x, points, reciprocals, logs, constants):  # type: ignore[no-untyped-def]
    c3, high, low = constants
    half, quarter = np.float32(0.5), np.float32(0.25)
    a = _flush(x)
    if a == _ZERO:
        return -_INF
    if a != a or a < _ZERO:
        return _NAN
    if a == _INF:
        return _INF
    bits = _bits(a)
    i = ((bits & 0x7FFFFF) + 0x8000) >> 16
    e = np.float32((bits >> 23) - 127 + (1 if i >= 54 else 0))
    m = _float((bits & 0x7FFFFF) | 0x3F800000)
    r = _multiply(_add(m, -points[i]), reciprocals[i])
    u = _add(_multiply(r, -quarter), c3)
    u = _add(_multiply(u, r), -half)
    p = _add(r, _multiply(_multiply(u, r), r))
    return _add(_multiply(e, high), _add(logs[i], _add(_multiply(e, low), p)))


@njit(cache=True)
def _reciprocal(x, seeds):  # type: ignore[no-untyped-def]
    one = np.float32(1)
    a = _flush(x)
    if a != a:
        return _NAN
    if a == _ZERO or abs(a) == _INF:
        return _float((_bits(a) & 0x80000000) | (0x7F800000 if a == _ZERO else 0))
    bits = _bits(a)
    m = _float((bits & 0x7FFFFF) | 0x3F800000)
    y = seeds[(bits & 0x7FFFFF) >> 16]
    for _ in range(2):
        y = _add(y, _multiply(y, _add(one, -_multiply(m, y))))
    return _float((bits & 0x80000000) | _bits(_scale(y, 127 - (bits >> 23 & 0xFF))))


@njit(cache=True)
def _reciprocal_root(x, seeds):  # type: ignore[no-untyped-def]
    half = np.float32(0.5)
    a = _flush(x)
    if a == _ZERO:
        return _float((_bits(a) & 0x80000000) | 0x7F800000)
    if a != a or a < _ZERO:
        return _NAN
    if a == _INF:
        return _ZERO
    bits = _bits(a)
    e = (bits >> 23) - 127
    o = e & 1
    half_v = _multiply(_float((bits & 0x7FFFFF) | ((127 + o) << 23)), half)
    y = seeds[64 * o + ((bits & 0x7FFFFF) >> 17)]
    for _ in range(2):
        y = _add(y, _multiply(y, _add(half, -_multiply(half_v, _multiply(y, y)))))
    return _scale(y, -((e - o) >> 1))


# ---- arrays, element by element ---------------------------------------------------------------------------------


@njit(cache=True, parallel=True)
def add(x, y, out):  # type: ignore[no-untyped-def]
    """Add."""
    for i in prange(x.size):
        out[i] = _canonical(_add(_flush(x[i]), _flush(y[i])))


@njit(cache=True, parallel=True)
def multiply(x, y, out):  # type: ignore[no-untyped-def]
    """Multiply."""
    for i in prange(x.size):
        out[i] = _canonical(_multiply(_flush(x[i]), _flush(y[i])))


@njit(cache=True, parallel=True)
def maximum(x, y, out):  # type: ignore[no-untyped-def]
    """Give the larger; +0 of two zeros."""
    for i in prange(x.size):
        out[i] = _maximum(x[i], y[i])


@njit(cache=True, parallel=True)
def canonical(x):  # type: ignore[no-untyped-def]
    """Make every NaN canonical, in place."""
    for i in prange(x.size):
        x[i] = _canonical(x[i])


@njit(cache=True, parallel=True)
def exp(x, table, constants, out):  # type: ignore[no-untyped-def]
    """e^x; `constants` are 64/ln2, C1, C2, 1/6."""
    for i in prange(x.size):
        out[i] = _exp(x[i], table, constants)


@njit(cache=True, parallel=True)
def log(x, points, reciprocals, logs, constants, out):  # type: ignore[no-untyped-def]
    """Natural logarithm; `constants` are 1/3, H, ln2-H."""
    for i in prange(x.size):
        out[i] = _log(x[i], points, reciprocals, logs, constants)


@njit(cache=True, parallel=True)
def reciprocal(x, seeds, out):  # type: ignore[no-untyped-def]
    """1/x."""
    for i in prange(x.size):
        out[i] = _reciprocal(x[i], seeds)


@njit(cache=True, parallel=True)
def reciprocal_root(x, seeds, out):  # type: ignore[no-untyped-def]
    """1/√x."""
    for i in prange(x.size):
        out[i] = _reciprocal_root(x[i], seeds)


# ---- conversions ------------------------------------------------------------------------------------------------


@njit(cache=True, parallel=True)
def widen(bits, width, mantissa_bits, bias, largest, infinity, gradual, out):  # type: ignore[no-untyped-def]
    """Narrow floating-point bits → fp32; gives the number of NaNs."""
    nans = 0
    for i in prange(bits.size):
        b = np.int64(bits[i])
        sign = (b >> (width - 1)) << 31
        magnitude = b & ((1 << (width - 1)) - 1)
        field = magnitude >> mantissa_bits
        if magnitude > largest:
            if magnitude == infinity:
                out[i] = _float(sign | 0x7F800000)
            else:
                out[i] = _NAN
                nans += 1
        elif field == 0:
            value = _ZERO
            if gradual:
                value = np.float32(magnitude) * _float((128 - bias - mantissa_bits) << 23)
            out[i] = _float(sign | _bits(value))
        else:
            out[i] = _float(sign | (magnitude << (23 - mantissa_bits)) + ((127 - bias) << 23))
    return nans


@njit(cache=True)
def _rounds_up(mantissa, shift, q, stochastic, word):  # type: ignore[no-untyped-def]
    """Whether ``mantissa / 2^shift``, integer part `q`, is rounded to ``q + 1``; shift ≥ 1, mantissa < 2^24."""
    if stochastic:
        above = min(max(shift - 32, 0), 63)
        fraction = ((mantissa << max(32 - shift, 0)) & 0xFFFFFFFF) >> above
        return fraction + word >> 32
    if shift > 25:
        return 0
    half = 1 << (shift - 1)
    return (mantissa & (2 * half - 1)) + half - 1 + (q & 1) >> shift


@njit(cache=True)
def _narrow(x, width, mantissa_bits, bias, largest, infinity, nan, gradual, saturate, stochastic, word):  # type: ignore[no-untyped-def]
    """fp32 bits → narrow bits, whether the operand was a NaN, whether it was too large."""
    limit = largest if saturate or infinity < 0 else infinity
    bits = np.int64(x)
    sign = (bits >> 31) << (width - 1)
    magnitude = bits & 0x7FFFFFFF
    if magnitude > 0x7F800000:
        return nan, True, False
    if magnitude == 0x7F800000:
        return sign | limit, False, limit == largest
    if magnitude < 0x00800000:
        return sign, False, False
    field = (magnitude >> 23) - 127 + bias
    shift = 23 - mantissa_bits
    if field >= 1 or not gradual:
        result = magnitude - ((127 - bias) << 23)
        q = result >> shift  # the exponent stands above the mantissa, so a carry runs into it
        q += _rounds_up(result & 0x7FFFFF, shift, q, stochastic, np.int64(word))
    else:
        shift += 1 - field
        mantissa = (magnitude & 0x7FFFFF) | 0x800000
        q = mantissa >> min(shift, 63)
        q += _rounds_up(mantissa, shift, q, stochastic, np.int64(word))
    if q > largest:
        return sign | limit, False, True
    return sign | q, False, False


@njit(cache=True, parallel=True)
def narrow(  # type: ignore[no-untyped-def]
    x, width, mantissa_bits, bias, largest, infinity, nan, gradual, saturate, stochastic, words, out
):
    """fp32 → narrow floating-point bits; `infinity` < 0 says that there is none. Gives the numbers of flags."""
    invalid = 0
    overflow = 0
    for i in prange(x.size):
        word = words[i] if stochastic else np.uint32(0)
        q, bad, large = _narrow(
            x[i], width, mantissa_bits, bias, largest, infinity, nan, gradual, saturate, stochastic, word
        )
        out[i] = q
        invalid += bad
        overflow += large
    return invalid, overflow


@njit(cache=True)
def _to_int8(x, stochastic, word):  # type: ignore[no-untyped-def]
    """fp32 bits → int8, whether the operand was a NaN, whether it was too large."""
    bits = np.int64(x)
    magnitude = bits & 0x7FFFFFFF
    q = np.int64(0)
    if magnitude > 0x7F800000:
        return q, True, False
    if magnitude >= 0x43000000:
        q = np.int64(128)
    elif magnitude >= 0x00800000:
        shift = np.int64(150) - (magnitude >> 23)
        mantissa = (magnitude & 0x7FFFFF) | 0x800000
        q = np.int64(mantissa >> min(shift, np.int64(63)))
        q += _rounds_up(mantissa, shift, q, stochastic, np.int64(word))
    large = q > 127
    q = np.int64(127) if large else q
    return (-q if bits >> 31 else q), False, large


@njit(cache=True, parallel=True)
def to_int8(x, stochastic, words, out):  # type: ignore[no-untyped-def]
    """fp32 → int8. Gives the numbers of flags."""
    invalid = 0
    overflow = 0
    for i in prange(x.size):
        word = words[i] if stochastic else np.uint32(0)
        q, bad, large = _to_int8(x[i], stochastic, word)
        out[i] = q
        invalid += bad
        overflow += large
    return invalid, overflow


@njit(cache=True)
def draw(state, leap, words):  # type: ignore[no-untyped-def]
    """Draw words of shape (lines, columns) from registers of shape (lanes,), 32 steps at once by `leap`."""
    lines, columns = words.shape
    lanes = state.size
    for line in range(lines):
        for first in range(0, columns, lanes):
            for lane in range(lanes):
                s = state[lane]
                s = leap[0, s & 255] ^ leap[1, s >> 8 & 255] ^ leap[2, s >> 16 & 255] ^ leap[3, s >> 24]
                state[lane] = s
                if first + lane < columns:
                    words[line, first + lane] = s


# ---- matrix products --------------------------------------------------------------------------------------------
# b is cut into panels of BLOCK_COLUMNS columns; a task computes BLOCK_ROWS rows of one panel. For each partial sum its
# sums stay in the first-level cache while the panel streams past, and the compiler runs over the columns with vectors.

BLOCK_COLUMNS = 64
ROWS_AT_ONCE = 4
_BLOCK_ROWS = 32
_BLOCK_K = 128

#: Products are exact and no result can be subnormal: a fused multiply-add gives the bits of multiply, then add.
FUSED = 0
#: fp32 operands, no result can be subnormal: products are rounded, nothing is flushed.
ROUNDED = 1
#: Exact products, everything may be subnormal.
FLUSHED = 2
#: fp32 operands, everything may be subnormal.
FLUSHED_WIDE = 3


@njit(cache=True, parallel=True)
def exponents(x):  # type: ignore[no-untyped-def]
    """Smallest and largest exponent field of the normal numbers among fp32 bits; (255, 0) if there is none."""
    smallest = 255
    largest = 0
    for i in prange(x.size):
        magnitude = np.int64(x[i] & np.uint32(0x7FFFFFFF))
        field = magnitude >> 23
        is_normal = field > 0 and field < 255
        smallest = min(smallest, int(field) if is_normal else 255)
        largest = max(largest, int(field) if is_normal else 0)
    return smallest, largest


@njit(cache=True, parallel=True)
def pack_columns(b, order, out):  # type: ignore[no-untyped-def]
    """Matrix (k, n) → panels (⌈n / BLOCK_COLUMNS⌉, k, BLOCK_COLUMNS), rows in `order`, subnormals zero; flat."""
    k, n = b.shape
    panels = (n + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    for task in prange(panels * k):
        panel, row = task // k, task % k
        first = panel * BLOCK_COLUMNS
        source = b[order[row]]
        for j in range(BLOCK_COLUMNS):
            out[task * BLOCK_COLUMNS + j] = _flush(np.float32(source[first + j])) if first + j < n else _ZERO


@njit(cache=True, parallel=True)
def add_integers(total, x):  # type: ignore[no-untyped-def]
    """Add integers that stand in fp32 to int32, modulo 2^32, in place."""
    for i in prange(total.size):
        total[i] = np.int32((np.int64(total[i]) + np.int64(x[i])) & 0xFFFFFFFF)


@njit(fastmath={"contract"}, cache=True)
def _fused(a, row, b, s, k_first, k_last):  # type: ignore[no-untyped-def]
    """Four rows, four k at a time. `contract` lets the compiler fuse; it may not reorder."""
    n = BLOCK_COLUMNS
    k = k_first
    while k + 4 <= k_last:
        a00, a01, a02, a03 = a[row, k], a[row, k + 1], a[row, k + 2], a[row, k + 3]
        a10, a11, a12, a13 = a[row + 1, k], a[row + 1, k + 1], a[row + 1, k + 2], a[row + 1, k + 3]
        a20, a21, a22, a23 = a[row + 2, k], a[row + 2, k + 1], a[row + 2, k + 2], a[row + 2, k + 3]
        a30, a31, a32, a33 = a[row + 3, k], a[row + 3, k + 1], a[row + 3, k + 2], a[row + 3, k + 3]
        p = b[k * n : (k + 4) * n]
        for j in range(n):
            b0, b1, b2, b3 = p[j], p[n + j], p[2 * n + j], p[3 * n + j]
            s[j] = s[j] + a00 * b0 + a01 * b1 + a02 * b2 + a03 * b3
            s[n + j] = s[n + j] + a10 * b0 + a11 * b1 + a12 * b2 + a13 * b3
            s[2 * n + j] = s[2 * n + j] + a20 * b0 + a21 * b1 + a22 * b2 + a23 * b3
            s[3 * n + j] = s[3 * n + j] + a30 * b0 + a31 * b1 + a32 * b2 + a33 * b3
        k += 4
    while k < k_last:
        p = b[k * n : (k + 1) * n]
        x0, x1, x2, x3 = a[row, k], a[row + 1, k], a[row + 2, k], a[row + 3, k]
        for j in range(n):
            s[j] = s[j] + x0 * p[j]
            s[n + j] = s[n + j] + x1 * p[j]
            s[2 * n + j] = s[2 * n + j] + x2 * p[j]
            s[3 * n + j] = s[3 * n + j] + x3 * p[j]
        k += 1


@njit(cache=True)
def _rounded(a, row, b, s, k_first, k_last):  # type: ignore[no-untyped-def]
    """Four rows, two k at a time; multiply, then add."""
    n = BLOCK_COLUMNS
    k = k_first
    while k + 2 <= k_last:
        a00, a01, a10, a11 = a[row, k], a[row, k + 1], a[row + 1, k], a[row + 1, k + 1]
        a20, a21, a30, a31 = a[row + 2, k], a[row + 2, k + 1], a[row + 3, k], a[row + 3, k + 1]
        p = b[k * n : (k + 2) * n]
        for j in range(n):
            b0, b1 = p[j], p[n + j]
            s[j] = s[j] + a00 * b0 + a01 * b1
            s[n + j] = s[n + j] + a10 * b0 + a11 * b1
            s[2 * n + j] = s[2 * n + j] + a20 * b0 + a21 * b1
            s[3 * n + j] = s[3 * n + j] + a30 * b0 + a31 * b1
        k += 2
    while k < k_last:
        p = b[k * n : (k + 1) * n]
        for i in range(ROWS_AT_ONCE):
            x = a[row + i, k]
            t = s[i * n : (i + 1) * n]
            for j in range(n):
                t[j] = t[j] + x * p[j]
        k += 1


@njit(cache=True)
def _flushed(a, row, b, s, k_first, k_last):  # type: ignore[no-untyped-def]
    """One row, one k at a time; products are exact, so flushing them needs no look at the rounding."""
    n = BLOCK_COLUMNS
    for i in range(ROWS_AT_ONCE):
        t = s[i * n : (i + 1) * n]
        for k in range(k_first, k_last):
            x = a[row + i, k]
            p = b[k * n : (k + 1) * n]
            for j in range(n):
                t[j] = _add(t[j], _flush(x * p[j]))


@njit(cache=True)
def _flushed_wide(a, row, b, s, k_first, k_last):  # type: ignore[no-untyped-def]
    n = BLOCK_COLUMNS
    for i in range(ROWS_AT_ONCE):
        t = s[i * n : (i + 1) * n]
        for k in range(k_first, k_last):
            x = a[row + i, k]
            p = b[k * n : (k + 1) * n]
            for j in range(n):
                t[j] = _add(t[j], _multiply(x, p[j]))


@njit(cache=True, parallel=True)
def matmul(a, b, ends, idle, overwrite, mode, out):  # type: ignore[no-untyped-def]
    """Multiply in the order of the partial sums.

    `a` has shape (m, k), m a multiple of ROWS_AT_ONCE, `b` is packed; the i-th partial sum covers the k from
    ``ends[i - 1]`` to ``ends[i]``, and ``idle[i]`` says whether it passes idle rows. `out` has at most m rows; without
    `overwrite` it is added to.
    """
    for task in prange(_tasks(out)):
        _task(task, a, b, ends, idle, overwrite, mode, out)


@njit(cache=True)
def matmul_alone(a, b, ends, idle, overwrite, mode, out):  # type: ignore[no-untyped-def]
    """As `matmul`, in one thread: the tiles of programs take less time than waking others."""
    for task in range(_tasks(out)):
        _task(task, a, b, ends, idle, overwrite, mode, out)


@njit(cache=True)
def _tasks(out):  # type: ignore[no-untyped-def]
    m, n = out.shape
    return ((n + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS) * ((m + _BLOCK_ROWS - 1) // _BLOCK_ROWS)


@njit(cache=True)
def _task(task, a, b, ends, idle, overwrite, mode, out):  # type: ignore[no-untyped-def]
    """Compute `_BLOCK_ROWS` rows of one panel."""
    m, n = out.shape
    k = a.shape[1]
    panels = (n + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    panel = b[(task % panels) * k * BLOCK_COLUMNS : (task % panels + 1) * k * BLOCK_COLUMNS]
    first_column = task % panels * BLOCK_COLUMNS
    columns = min(BLOCK_COLUMNS, n - first_column)
    first_row = task // panels * _BLOCK_ROWS
    last_row = min(first_row + _BLOCK_ROWS, a.shape[0])
    sums = np.empty(_BLOCK_ROWS * BLOCK_COLUMNS, np.float32)
    for i in range(ends.size):
        sums[:] = _ZERO
        begin = ends[i - 1] if i else 0
        for k_first in range(begin, ends[i], _BLOCK_K):
            k_last = min(k_first + _BLOCK_K, ends[i])
            for row in range(first_row, last_row, ROWS_AT_ONCE):
                offset = (row - first_row) * BLOCK_COLUMNS
                s = sums[offset : offset + ROWS_AT_ONCE * BLOCK_COLUMNS]
                if mode == FUSED:
                    _fused(a, row, panel, s, k_first, k_last)
                elif mode == ROUNDED:
                    _rounded(a, row, panel, s, k_first, k_last)
                elif mode == FLUSHED:
                    _flushed(a, row, panel, s, k_first, k_last)
                else:
                    _flushed_wide(a, row, panel, s, k_first, k_last)
        for row in range(first_row, min(last_row, m)):
            s = sums[(row - first_row) * BLOCK_COLUMNS : (row - first_row + 1) * BLOCK_COLUMNS]
            line = out[row, first_column : first_column + columns]
            if idle[i]:
                for j in range(columns):
                    s[j] = s[j] + _ZERO  # -0 becomes +0
            if i == 0 and overwrite:
                for j in range(columns):
                    line[j] = s[j]
            else:
                for j in range(columns):
                    line[j] = _add(line[j], s[j])
