"""The machine, compiled: executes flat, linked commands on DRAM, scratchpad and accumulator, one after the other.

Called from `hwsim.values.machine` alone. Normative: docs/contracts/values.md; arithmetic is hwsim.numerics'.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hwsim.numerics import _kernels as numerics
from hwsim.program import (
    FORMAT_CODES,
    SEMAPHORE_NAMES,
    ArrayField,
    BMode,
    Field,
    MatrixFlag,
    MoveField,
    MoveFlag,
    Unit,
    VectorField,
    VectorFlag,
    VectorOp,
)

__all__ = ["COMPILED_IN", "STATISTICS", "execute", "schedule"]

#: Digest of the files whose code or numbers are compiled into `execute`: hwsim/numerics/_kernels.py and
#: hwsim/program/fields.py, vector_ops.py (tests/rules/test_kernels.py).
COMPILED_IN = "7f6411830ac724d4"

#: What `execute` counts.
STATISTICS = ("invalid", "overflow", "nonfinite", "macs", "gated_macs")
_INVALID, _OVERFLOW, _NONFINITE, _MACS, _GATED = range(5)

_SEMAPHORES = len(SEMAPHORE_NAMES)
_LOAD, _MATRIX, _VECTOR, _STORE, _CONTROL = (int(u) for u in list(Unit)[:5])
_FIELD_NAMES = (
    "UNIT WAIT POST OPCODE SLOT_A SLOT_B SLOT_C OFFSET COUNT_B COUNT_H COUNT_W STEP_B STEP_H STEP_W START_H START_W "
    "INC_H INC_W TAPS_H TAPS_W TAP_H TAP_W LIMIT_H LIMIT_W LINE_BYTES CHANNELS OUTPUTS LINES COLUMNS PASSES FLAGS"
)
(
    _UNIT, _WAIT, _POST, _OPCODE, _SLOT_A, _SLOT_B, _SLOT_C, _OFFSET, _COUNT_B, _COUNT_H, _COUNT_W, _STEP_B, _STEP_H,
    _STEP_W, _START_H, _START_W, _INC_H, _INC_W, _TAPS_H, _TAPS_W, _TAP_H, _TAP_W, _LIMIT_H, _LIMIT_W, _LINE_BYTES,
    _CHANNELS, _OUTPUTS, _LINES, _COLUMNS, _PASSES, _FLAGS,
) = (int(Field[name]) for name in _FIELD_NAMES.split())  # fmt: skip
_MOVE_NAMES = "PLACE PLACE_OUTER LINE FORMAT EXPONENT SPAN TILE_LINES TAP_COLUMNS"
_PLACE, _PLACE_OUTER, _LINE, _FORMAT, _EXPONENT, _SPAN, _TILE_LINES, _TAP_COLUMNS = (
    int(MoveField[name]) for name in _MOVE_NAMES.split()
)
_A_LINE, _A_SPAN, _A_LINES, _B_LINE, _B_SPAN, _B_LINES, _A_FORMAT, _B_FORMAT = (int(f) for f in ArrayField)
_DST, _A, _B, _C, _SCALAR, _SCALAR_2, _V_FORMAT, _V_EXPONENT = (int(f) for f in VectorField)
_LOWEST, _TILE_EXPANDED, _TAPS_FIRST, _FIXED, _TRANSPOSED, _TRANSPOSED_OUTER = (int(f) for f in MoveFlag)
_ADDS, _EXPANDED, _WGRAD, _W_BY_K, _X_BY_K = (int(f) for f in MatrixFlag)
_FIXED_DST, _FIXED_A, _FIXED_B, _FIXED_C, _SUMS, _STOCHASTIC, _LINKED = (int(f) for f in VectorFlag)
_B_LANE_0, _B_WORD_1, _B_WORD_2, _B_SCALAR = (int(f) for f in list(BMode)[1:])
(
    COPY, RESCALE, ADD_BIAS, ADD, SUBTRACT, MULTIPLY, MULTIPLY_ADD, MAXIMUM, CLAMP, SELECT, SUM_LINES,
    MULTIPLY_SUM_LINES, SUM_LANES, MAXIMUM_LANES, EXP, LOG, RECIPROCAL, RECIPROCAL_ROOT, CONVERT, SET, SELECT_EQUAL,
    SELECT_LABEL, SUBTRACT_LABEL,
) = (int(op) for op in VectorOp)  # fmt: skip
_INT8, _E4M3, _E5M2, _BF16, _FP16 = (FORMAT_CODES[f] for f in ("int8", "fp8_e4m3", "fp8_e5m2", "bf16", "fp16"))
_INTO_ACCUMULATOR = 2
_WS, _IS, _OS = 0, 1, 2

_ZERO = np.float32(0)
_LOWEST_BITS = np.uint32(0xFF800000)  # −inf
#: Products of int8 whose sum fp32 holds exactly.
_EXACT_INT8_PRODUCTS = 1024

_flush, _add, _multiply, _canonical = numerics._flush, numerics._add, numerics._multiply, numerics._canonical
_bits, _float, _maximum = numerics._bits, numerics._float, numerics._maximum
_exp, _log, _reciprocal, _reciprocal_root = (
    numerics._exp,
    numerics._log,
    numerics._reciprocal,
    numerics._reciprocal_root,
)
_narrow, _to_int8 = numerics._narrow, numerics._to_int8


# ---- order ------------------------------------------------------------------------------------------------------


@njit(cache=True)
def schedule(flat, eager):  # type: ignore[no-untyped-def]
    """Order in which commands take effect: each as soon as its unit reaches it and its tokens are there.

    Where several units could go on, the one that is first from load to store does if `eager`, else the one that is
    last, so that a token too many, or too few, shows as wrong values in one of both. Gives the order, and the number
    of the command that waits for ever (−1 if none).
    """
    n = len(flat)
    order = np.empty(n, np.int64)
    tokens = np.zeros(_SEMAPHORES, np.int64)
    done, first = 0, 0
    heads = np.empty(4, np.int64)
    while first < n:
        last = first
        if flat[first, _UNIT] == _CONTROL:
            for s in range(_SEMAPHORES):
                tokens[s] = flat[first, _WAIT] >> (4 * s) & 15
            order[done] = first
            done += 1
            first += 1
            continue
        while last < n and flat[last, _UNIT] != _CONTROL:
            last += 1
        heads[:] = first
        left = last - first
        while left:
            moved = False
            for i in range(4):
                unit = i if eager else 3 - i
                at = heads[unit]
                while at < last and flat[at, _UNIT] != unit:
                    at += 1
                heads[unit] = at
                if at == last:
                    continue
                ready = True
                for s in range(_SEMAPHORES):
                    if flat[at, _WAIT] >> s & 1 and tokens[s] == 0:
                        ready = False
                if not ready:
                    continue
                for s in range(_SEMAPHORES):
                    tokens[s] += (flat[at, _POST] >> s & 1) - (flat[at, _WAIT] >> s & 1)
                order[done] = at
                done += 1
                left -= 1
                heads[unit] = at + 1
                moved = True
                break
            if not moved:
                return order, heads.min()
        first = last
    return order, -1


# ---- load and store ---------------------------------------------------------------------------------------------


@njit(cache=True)
def _width(code):  # type: ignore[no-untyped-def]
    """Bytes of an element by the code of its format."""
    if code == 0:
        return 4
    return 2 if code >= _BF16 else 1


@njit(cache=True)
def _element(dram8, dram16, dram32, width, at):  # type: ignore[no-untyped-def]
    if width == 1:
        return np.uint32(dram8[at])
    return np.uint32(dram16[at >> 1]) if width == 2 else dram32[at >> 2]


@njit(cache=True)
def _scaled(y, exponent):  # type: ignore[no-untyped-def]
    """Give y · 2^exponent, with DAZ, FTZ and infinity."""
    y = _flush(y)
    if exponent == 0 or y == _ZERO or y != y or abs(y) == np.float32(np.inf):
        return _canonical(y)
    bits = _bits(y)
    field = (bits >> 23 & 0xFF) + exponent
    sign = bits & 0x80000000
    if field > 254:
        return _float(sign | 0x7F800000)
    return _float(sign) if field < 1 else _float(sign | field << 23 | bits & 0x7FFFFF)


@njit(cache=True)
def _load(row, dram8, dram16, dram32, scratch, deep, words, half, cols, tables):  # type: ignore[no-untyped-def]
    """Move a box of lines into the accumulator, widened, or into the scratchpad."""
    code = row[_FORMAT]
    width = _width(code)
    count = row[_LINE_BYTES] // width
    into_accumulator = row[_OPCODE] == _INTO_ACCUMULATOR
    taps = row[_TAPS_H] * row[_TAPS_W]
    inner = row[_COUNT_H] * row[_COUNT_W]
    slot = 0 if row[_FLAGS] & _FIXED else row[_SLOT_A]
    base = slot * half * cols + row[_LINE] * cols
    for b in range(row[_COUNT_B]):
        for h in range(row[_COUNT_H]):
            for w in range(row[_COUNT_W]):
                for th in range(row[_TAPS_H]):
                    for tw in range(row[_TAPS_W]):
                        y = row[_START_H] + h * row[_INC_H] + th * row[_TAP_H]
                        x = row[_START_W] + w * row[_INC_W] + tw * row[_TAP_W]
                        inside = 0 <= y < row[_LIMIT_H] and 0 <= x < row[_LIMIT_W]
                        at = row[_OFFSET] + b * row[_STEP_B] + y * row[_STEP_H] + x * row[_STEP_W]
                        if into_accumulator:
                            place = base + b * row[_PLACE_OUTER] + (h * row[_COUNT_W] + w) * row[_PLACE]
                            padding = _LOWEST_BITS if row[_FLAGS] & _LOWEST else np.uint32(0)
                            for j in range(count):
                                bits = padding
                                if inside:
                                    bits = _element(dram8, dram16, dram32, width, at + j * width)
                                    if code:
                                        bits = np.uint32(_bits(_scaled(tables[code, bits], row[_EXPONENT])))
                                words[place + j] = bits
                            for j in range(count, (count + cols - 1) // cols * cols):
                                words[place + j] = 0
                            continue
                        line = b * inner + h * row[_COUNT_W] + w
                        column = 0
                        if row[_FLAGS] & _TAPS_FIRST:
                            line = (h * row[_COUNT_W] + w) * row[_COUNT_B] + b
                        if row[_FLAGS] & _TILE_EXPANDED:
                            column = (th * row[_TAPS_W] + tw) * row[_TAP_COLUMNS]
                        elif taps > 1:
                            raise ValueError("taps without EXPANDED")
                        line += row[_LINE] + row[_SLOT_A] * row[_SPAN]
                        for j in range(count):
                            block = (column + j) // deep
                            place = (line + block * row[_TILE_LINES]) * deep + column + j - block * deep
                            scratch[place] = _element(dram8, dram16, dram32, width, at + j * width) if inside else 0


@njit(cache=True)
def _is_nonfinite(bits, code):  # type: ignore[no-untyped-def]
    if code == 0:
        return bits & 0x7F800000 == 0x7F800000
    if code == _BF16:
        return bits & 0x7F80 == 0x7F80
    if code == _FP16:
        return bits & 0x7C00 == 0x7C00
    if code == _E5M2:
        return bits & 0x7C == 0x7C
    return code == _E4M3 and bits & 0x7F == 0x7F


@njit(cache=True)
def _store(row, dram8, dram16, dram32, words, half, cols, statistics):  # type: ignore[no-untyped-def]
    """Move a box of lines from the accumulator to memory, and count what is not finite."""
    code = row[_FORMAT]
    width = _width(code)
    count = row[_LINE_BYTES] // width
    inner = row[_COUNT_H] * row[_COUNT_W]
    slot = 0 if row[_FLAGS] & _FIXED else row[_SLOT_A]
    base = (slot * half + row[_LINE]) * cols
    for b in range(row[_COUNT_B]):
        for h in range(row[_COUNT_H]):
            for w in range(row[_COUNT_W]):
                y, x = row[_START_H] + h * row[_INC_H], row[_START_W] + w * row[_INC_W]
                if y < 0 or y >= row[_LIMIT_H] or x < 0 or x >= row[_LIMIT_W]:
                    continue
                at = row[_OFFSET] + b * row[_STEP_B] + y * row[_STEP_H] + x * row[_STEP_W]
                i = h * row[_COUNT_W] + w
                step = 1
                if row[_FLAGS] & (_TRANSPOSED | _TRANSPOSED_OUTER):
                    step = cols
                    across = b if row[_FLAGS] & _TRANSPOSED_OUTER else b * inner + i
                    line = across // cols * row[_PLACE_OUTER]
                    if row[_FLAGS] & _TRANSPOSED_OUTER:
                        line += i * row[_PLACE]
                    place = base + line * cols + across % cols
                else:
                    place = base + b * row[_PLACE_OUTER] + i * row[_PLACE]
                for j in range(count):
                    bits = words[place + j * step]
                    statistics[_NONFINITE] += _is_nonfinite(bits, code)
                    if width == 1:
                        dram8[at + j] = bits & 0xFF
                    elif width == 2:
                        dram16[(at >> 1) + j] = bits & 0xFFFF
                    else:
                        dram32[(at >> 2) + j] = bits


# ---- matrix -----------------------------------------------------------------------------------------------------


@njit(cache=True)
def _partial_sums(k, flow, rows, alpha, segment, order, ends, idle):  # type: ignore[no-untyped-def]
    """Divide a k tile as docs/contracts/numerics.md, section 3, says; gives how many partial sums."""
    n = 0
    if flow == _OS:
        at = 0
        for j in range(alpha):
            for i in range(j, k, alpha):
                order[at] = i
                at += 1
            ends[n], idle[n] = at, False
            n += 1
        return n
    for i in range(k):
        order[i] = i
    for first in range(0, k, segment):
        last = min(first + segment, k)
        for start in range(first, last, rows):
            stop = min(start + rows, last)
            ends[n], idle[n] = stop, stop - start < rows
            n += 1
    return n


@njit(cache=True)
def _widened(bits, code, tables):  # type: ignore[no-untyped-def]
    return tables[code, bits] if code else _flush(_float(np.int64(bits)))


@njit(cache=True)
def _gather_pixels(row, scratch, deep, base, tile_lines, code, tables, order, by_k, out):  # type: ignore[no-untyped-def]
    """Read the pixel operand: `out` is (pixels, k) in the order of `order`, or by pixels along k (`by_k`, wgrad)."""
    flags, taps_w, channels = row[_FLAGS], row[_TAPS_W], row[_CHANNELS]
    height, width = row[_COUNT_H], row[_COUNT_W]
    patch_h = (height - 1) * row[_INC_H] + (row[_TAPS_H] - 1) * abs(row[_TAP_H]) + 1
    patch_w = (width - 1) * row[_INC_W] + (taps_w - 1) * abs(row[_TAP_W]) + 1
    low_h, low_w = min(0, (row[_TAPS_H] - 1) * row[_TAP_H]), min(0, (taps_w - 1) * row[_TAP_W])
    taps = row[_TAPS_H] * taps_w
    pixels = row[_COUNT_B] * height * width
    across = taps * channels
    lanes = np.empty(across, np.int64)  # of each (tap, channel): lane and block in its line
    for i in range(across):
        column = i if flags & _EXPANDED else i % channels
        lanes[i] = column // deep * tile_lines * deep + column % deep
    for position in range(pixels):
        p = order[position] if by_k else position
        b, h, w = p // (height * width), p // width % height, p % width
        for i in range(across):
            q = i if by_k else order[i]
            if flags & _X_BY_K:
                place = (q + p // deep * tile_lines) * deep + p % deep
            elif flags & _EXPANDED:
                place = p * deep + lanes[q]
            else:
                tap = q // channels
                y = h * row[_INC_H] + tap // taps_w * row[_TAP_H] - low_h
                x = w * row[_INC_W] + tap % taps_w * row[_TAP_W] - low_w
                place = ((b * patch_h + y) * patch_w + x) * deep + lanes[q]
            out[position, i] = _widened(scratch[base * deep + place], code, tables)


@njit(cache=True)
def _matrix(row, scratch, deep, floats, words, half, cols, rows, alpha, tables, statistics):  # type: ignore[no-untyped-def]
    """One tile: gather both operands in the order of the partial sums, multiply, scatter the sums."""
    flags, flow = row[_FLAGS], row[_OPCODE]
    wgrad = flags & _WGRAD
    pixels = row[_COUNT_B] * row[_COUNT_H] * row[_COUNT_W]
    taps, channels, outputs = row[_TAPS_H] * row[_TAPS_W], row[_CHANNELS], row[_OUTPUTS]
    across = taps * channels
    m, k, n = (outputs, pixels, across) if wgrad else (pixels, across, outputs)
    across_taps = flags & _EXPANDED != 0 and (flow != _IS or flags & _W_BY_K != 0)
    segment = k if wgrad or across_taps else channels
    order, ends, idle = np.empty(k, np.int64), np.empty(k + alpha, np.int64), np.empty(k + alpha, np.bool_)
    parts = _partial_sums(k, flow, rows, alpha, segment, order, ends, idle)
    base_a = row[_A_LINE] + row[_SLOT_A] * row[_A_SPAN]
    base_b = row[_B_LINE] + row[_SLOT_B] * row[_B_SPAN]
    padded = (m + numerics.ROWS_AT_ONCE - 1) // numerics.ROWS_AT_ONCE * numerics.ROWS_AT_ONCE
    a, b = np.zeros((padded, k), np.float32), np.empty((k, n), np.float32)
    if wgrad:
        _gather_pixels(row, scratch, deep, base_b, row[_B_LINES], row[_B_FORMAT], tables, order, True, b)
        for position in range(k):
            line = base_a + order[position]
            for j in range(m):
                place = (line + j // deep * row[_A_LINES]) * deep + j % deep
                a[j, position] = _widened(scratch[place], row[_A_FORMAT], tables)
    else:
        _gather_pixels(row, scratch, deep, base_a, row[_A_LINES], row[_A_FORMAT], tables, order, False, a)
        for position in range(k):
            tap, c = order[position] // channels, order[position] % channels
            for j in range(n):
                line, column = tap * outputs + j, c
                if flags & _W_BY_K:
                    line, column = tap * channels + c, j
                place = (base_b + line + column // deep * row[_B_LINES]) * deep + column % deep
                b[position, j] = _widened(scratch[place], row[_B_FORMAT], tables)
    statistics[_MACS] += m * k * n
    statistics[_GATED] += m * k * n - _nonzero_products(a, b)

    integers = row[_A_FORMAT] == _INT8
    out = np.empty((m, n), np.float32)
    first = (row[_SLOT_C] * half) * cols
    if integers:
        total = np.zeros((m, n), np.int64)
        bounds, none = np.empty(1, np.int64), np.zeros(1, np.bool_)
        for start in range(0, k, _EXACT_INT8_PRODUCTS):
            stop = min(start + _EXACT_INT8_PRODUCTS, k)
            bounds[0] = stop - start
            panels = _packed(b[start:stop])
            run = np.ascontiguousarray(a[:, start:stop])
            numerics.matmul_alone(run, panels, bounds, none, True, numerics.FUSED, out)
            for i in range(m):
                for j in range(n):
                    total[i, j] += np.int64(out[i, j])
        statistics[_INVALID] += _scatter_integers(row, total, words, first, cols, taps, channels)
        return
    adds = flags & _ADDS
    if adds:
        _scatter(row, out, floats, first, cols, taps, channels, False)
    mode = _mode(a, b, out, adds, row[_A_FORMAT], row[_B_FORMAT])
    numerics.matmul_alone(a, _packed(b), ends[:parts], idle[:parts], not adds, mode, out)
    for i in range(m):
        for j in range(n):
            out[i, j] = _canonical(out[i, j])
    _scatter(row, out, floats, first, cols, taps, channels, True)


@njit(cache=True)
def _nonzero_products(a, b):  # type: ignore[no-untyped-def]
    """Products a[m, k] · b[k, n] without a zero operand."""
    found = 0
    nonzero = np.zeros(a.shape[1], np.int64)
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            nonzero[j] += a[i, j] != _ZERO
    for i in range(b.shape[0]):
        count = 0
        for j in range(b.shape[1]):
            count += b[i, j] != _ZERO
        found += count * nonzero[i]
    return found


@njit(cache=True)
def _packed(b):  # type: ignore[no-untyped-def]
    """Panels of `numerics.matmul`; b is in order already."""
    k, n = b.shape
    wide = numerics.BLOCK_COLUMNS
    panels = (n + wide - 1) // wide
    out = np.zeros(panels * k * wide, np.float32)
    for panel in range(panels):
        for i in range(k):
            start = (panel * k + i) * wide
            for j in range(min(wide, n - panel * wide)):
                out[start + j] = b[i, panel * wide + j]
    return out


@njit(cache=True)
def _span(x):  # type: ignore[no-untyped-def]
    """Smallest and largest exponent field of the normal numbers; (255, 0) if there is none."""
    smallest, largest = 255, 0
    for value in x.flat:
        field = _bits(value) >> 23 & 0xFF
        if 0 < field < 255:
            smallest, largest = min(smallest, field), max(largest, field)
    return smallest, largest


@njit(cache=True)
def _mantissa_bits(code):  # type: ignore[no-untyped-def]
    if code == _E4M3:
        return 3
    if code == _E5M2:
        return 2
    if code == _BF16:
        return 7
    return 10 if code == _FP16 else 23


@njit(cache=True)
def _mode(a, b, line, adds, code_a, code_b):  # type: ignore[no-untyped-def]
    """Choose the fastest kernel that gives the contract's bits, as `hwsim.numerics.matmul` does."""
    a_min, a_max = _span(a)
    b_min, b_max = _span(b)
    wide = code_a == 0 or code_b == 0
    unit = a_min - 127 + b_min - 127 - (23 if wide else _mantissa_bits(code_a) + _mantissa_bits(code_b))
    if adds:
        unit = min(unit, _span(line)[0] - 127 - 23)
    may_underflow = unit < -126
    if wide:
        return numerics.FLUSHED_WIDE if may_underflow else numerics.ROUNDED
    may_overflow = a_max - 127 + b_max - 127 + 2 > 127  # a fused product would not become infinite
    return numerics.FLUSHED if may_underflow or may_overflow else numerics.FUSED


@njit(cache=True)
def _sum_place(row, i, j, cols, taps, channels):  # type: ignore[no-untyped-def]
    """Word of sum (i, j) of a tile, from the first line of its slot (docs/contracts/values.md, section 3)."""
    flags, transposed = row[_FLAGS], row[_OPCODE] == _IS
    if not flags & _WGRAD:
        outputs = row[_OUTPUTS]
        if transposed:
            return (i // cols * outputs + j) * cols + i % cols
        return i * ((outputs + cols - 1) // cols) * cols + j
    across = taps * channels
    if transposed:
        return (i // cols * across + j) * cols + i % cols
    if flags & _EXPANDED:
        return i * ((across + cols - 1) // cols) * cols + j
    tap, c = j // channels, j % channels
    return (i * taps + tap) * ((channels + cols - 1) // cols) * cols + c


@njit(cache=True)
def _scatter(row, out, floats, first, cols, taps, channels, write):  # type: ignore[no-untyped-def]
    """Write sums to the accumulator, idle columns' zeros included; or read them."""
    if write and not row[_FLAGS] & _ADDS:
        floats[first : first + row[_LINES] * cols] = _ZERO
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            place = first + _sum_place(row, i, j, cols, taps, channels)
            if write:
                floats[place] = out[i, j]
            else:
                out[i, j] = floats[place]


@njit(cache=True)
def _scatter_integers(row, total, words, first, cols, taps, channels):  # type: ignore[no-untyped-def]
    """Write or add sums modulo 2^32; gives how many left the range of int32."""
    wrapped = 0
    adds = row[_FLAGS] & _ADDS
    if not adds:
        words[first : first + row[_LINES] * cols] = 0
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            place = first + _sum_place(row, i, j, cols, taps, channels)
            total_here = total[i, j] + (np.int64(np.int32(words[place])) if adds else 0)
            wrapped += total_here != np.int64(np.int32(total_here & 0xFFFFFFFF))
            words[place] = np.uint32(total_here & 0xFFFFFFFF)
    return wrapped


# ---- vector -----------------------------------------------------------------------------------------------------


@njit(cache=True)
def _across_lanes(row, floats, source, target, columns):  # type: ignore[no-untyped-def]
    """Sum or maximum over the lanes of a line, in lane 0."""
    x = floats[source : source + columns].copy()
    for lane in range(columns):
        x[lane] = _canonical(_flush(x[lane]))
    half = 1 << (row[_PASSES] - 1)
    while half:
        for lane in range(half):
            if lane + half < columns:
                if row[_OPCODE] == SUM_LANES:
                    x[lane] = _canonical(_add(_flush(x[lane]), _flush(x[lane + half])))
                else:
                    x[lane] = _maximum(x[lane], x[lane + half])
        columns = min(columns, half)
        half //= 2
    floats[target] = x[0]


@njit(cache=True)
def _vector(row, integers, floats, words, half, cols, state, leap, constants, statistics):  # type: ignore[no-untyped-def]
    kind, flags, columns = row[_OPCODE], row[_FLAGS], row[_COLUMNS]
    slot = row[_SLOT_A] * half
    base_d = row[_DST] + (0 if flags & _FIXED_DST else slot)
    base_a = row[_A] + (0 if flags & _FIXED_A else slot)
    base_b = row[_B] + (0 if flags & _FIXED_B else slot)
    base_c = row[_C] + (0 if flags & _FIXED_C else slot)
    mode, code = flags >> 4 & 7, row[_V_FORMAT]
    is_integer = integers and flags & _SUMS != 0
    stochastic = flags & _STOCHASTIC != 0
    result, drawn = np.empty(columns, np.float32), np.zeros((1, columns), np.uint32)
    for i0 in range(row[_COUNT_B]):
        for i1 in range(row[_COUNT_H]):
            for i2 in range(row[_COUNT_W]):
                d = (base_d + i0 * row[_DST + 1] + i1 * row[_DST + 2] + i2 * row[_DST + 3]) * cols
                a = (base_a + i0 * row[_A + 1] + i1 * row[_A + 2] + i2 * row[_A + 3]) * cols
                b = (base_b + i0 * row[_B + 1] + i1 * row[_B + 2] + i2 * row[_B + 3]) * cols
                c = (base_c + i0 * row[_C + 1] + i1 * row[_C + 2] + i2 * row[_C + 3]) * cols
                if mode == _B_WORD_1:
                    b += i1
                elif mode == _B_WORD_2:
                    b += i2
                if kind in (SUM_LANES, MAXIMUM_LANES):
                    _across_lanes(row, floats, a, d, columns)
                elif kind in (SUM_LINES, MULTIPLY_SUM_LINES):
                    for lane in range(columns):
                        x = _flush(floats[a + lane])
                        if kind == MULTIPLY_SUM_LINES:
                            x = _multiply(x, _flush(floats[b + lane]))
                        floats[d + lane] = _canonical(_add(_flush(floats[d + lane]), x))
                elif kind in (COPY, CONVERT) and code == 0:
                    for lane in range(columns):
                        words[d + lane] = words[a + lane]
                else:
                    if kind in (SELECT_LABEL, SUBTRACT_LABEL):
                        _at_label(kind, floats, a, np.int64(np.int32(words[b])) - i2 * cols, result)
                    elif EXP <= kind <= RECIPROCAL_ROOT:
                        _special(kind, floats, a, constants, result)
                    else:
                        _lanes(row, kind, is_integer, floats, words, a, b, c, mode, result)
                    if code == 0:
                        for lane in range(columns):
                            floats[d + lane] = result[lane]
                        continue
                    if stochastic:
                        numerics.draw(state, leap, drawn)
                    for lane in range(columns):
                        x = _bits(_scaled(result[lane], row[_V_EXPONENT]))
                        bits, invalid, overflow = _converted(x, code, stochastic, drawn[0, lane])
                        words[d + lane] = bits
                        # An infinity that saturates would otherwise be gone without a trace.
                        statistics[_INVALID] += invalid or (code in (_INT8, _E4M3) and x & 0x7FFFFFFF == 0x7F800000)
                        statistics[_OVERFLOW] += overflow


@njit(cache=True)
def _at_label(kind, floats, a, label, out):  # type: ignore[no-untyped-def]
    """Keep, or take one from, the lane of the label."""
    for lane in range(out.size):
        x = _flush(floats[a + lane])
        if kind == SELECT_LABEL:
            x = x if lane == label else _ZERO
        elif lane == label:
            x = _add(x, np.float32(-1))
        out[lane] = _canonical(x)


@njit(cache=True)
def _special(kind, floats, a, constants, out):  # type: ignore[no-untyped-def]
    exp_table, exp_constants, points, reciprocals, logs, log_constants, seeds, root_seeds = constants
    for lane in range(out.size):
        x = floats[a + lane]
        if kind == EXP:
            out[lane] = _exp(x, exp_table, exp_constants)
        elif kind == LOG:
            out[lane] = _log(x, points, reciprocals, logs, log_constants)
        elif kind == RECIPROCAL:
            out[lane] = _reciprocal(x, seeds)
        else:
            out[lane] = _reciprocal_root(x, root_seeds)
        out[lane] = _canonical(out[lane])


@njit(cache=True)
def _lanes(row, kind, is_integer, floats, words, a, b, c, mode, out):  # type: ignore[no-untyped-def]
    """Compute the elementwise micro-operations for one line."""
    scalar = _flush(_float(row[_SCALAR] & 0xFFFFFFFF))
    exponent = row[_SCALAR] if row[_FLAGS] & _SUMS else 0
    high = _flush(_float(row[_SCALAR_2]))
    step = 1 if mode == 0 else 0
    for lane in range(out.size):
        x = _flush(floats[a + lane])
        y = scalar if mode == _B_SCALAR else _flush(floats[b + lane * step])
        if kind == SET:
            x = scalar
        elif kind in (RESCALE, ADD_BIAS):
            x = _scaled(np.float32(np.int32(words[a + lane])) if is_integer else x, exponent)
            if kind == ADD_BIAS:
                x = _add(x, y)
        elif kind == ADD:
            x = _add(x, y)
        elif kind == SUBTRACT:
            x = _add(x, -y)
        elif kind == MULTIPLY:
            x = _multiply(x, y)
        elif kind == MULTIPLY_ADD:
            x = _add(_multiply(x, y), _flush(floats[c + lane]))
        elif kind == MAXIMUM:
            x = _maximum(x, y)
        elif kind == CLAMP:
            x = scalar if x <= scalar else (high if x >= high else x)
        elif kind == SELECT:
            x = y if scalar < x < high else _ZERO
        elif kind == SELECT_EQUAL:
            x = _flush(floats[c + lane]) if x == y else _ZERO
        out[lane] = _canonical(x)


@njit(cache=True)
def _converted(x, code, stochastic, word):  # type: ignore[no-untyped-def]
    """fp32 bits → low bits of a stored number, and the flags."""
    if code == _INT8:
        q, invalid, overflow = _to_int8(x, stochastic, word)
        return np.uint32(q & 0xFF), invalid, overflow
    if code == _BF16:
        q, invalid, overflow = _narrow(x, 16, 7, 127, 0x7F7F, 0x7F80, 0x7FC0, False, False, stochastic, word)
    elif code == _FP16:
        q, invalid, overflow = _narrow(x, 16, 10, 15, 0x7BFF, 0x7C00, 0x7E00, True, False, stochastic, word)
    elif code == _E5M2:
        q, invalid, overflow = _narrow(x, 8, 2, 15, 0x7B, 0x7C, 0x7E, True, False, stochastic, word)
    else:
        q, invalid, overflow = _narrow(x, 8, 3, 7, 0x7E, -1, 0x7F, True, False, stochastic, word)
    return np.uint32(q), invalid, overflow


# ---- the machine ------------------------------------------------------------------------------------------------


@njit(cache=True)
def execute(  # type: ignore[no-untyped-def]
    flat, order, machine, dram8, dram16, dram32, scratch, words, floats, tables, state, leap, constants, statistics
):
    """Execute linked commands in the given order.

    `machine` is rows, cols, line elements, accumulator lines of a slot, add latency, whether operands are int8;
    `words` and `floats` are the same accumulator, `dram8` … `dram32` the same memory.
    """
    rows, cols, deep, half, alpha, integers = machine
    for at in order:
        row = flat[at]
        unit = row[_UNIT]
        if unit == _LOAD:
            _load(row, dram8, dram16, dram32, scratch, deep, words, half, cols, tables)
        elif unit == _MATRIX:
            _matrix(row, scratch, deep, floats, words, half, cols, rows, alpha, tables, statistics)
        elif unit == _VECTOR:
            _vector(row, integers != 0, floats, words, half, cols, state, leap, constants, statistics)
        elif unit == _STORE:
            _store(row, dram8, dram16, dram32, words, half, cols, statistics)
