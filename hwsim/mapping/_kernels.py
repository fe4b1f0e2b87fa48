"""Compiled lowering of matrix segments: tile sizes → items of a program, and the search over tile sizes.

`emit` writes the commands of one tiled GEMM or convolution (docs/contracts/program.md); `search` times every
candidate that its lower
bound does not exclude. The readable contract, and the meaning of the spec vectors, is in `hwsim.mapping.matrix`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hwsim.timing._kernels import HAND_OVER_CYCLES, time_rows

__all__ = ["MAX_ITEMS", "SPEC", "TILE", "emit", "least_bank_lines", "search", "sizes_of"]

#: Digest of hwsim/timing/_kernels.py, whose code is compiled into `search`: a change there must change this file too,
#: or numba would go on using what it compiled before (tests/rules/test_kernels.py).
TIMING_KERNELS = "8e4063ec051cc970"
#: Longest program of one matrix segment [items], and its steps.
MAX_ITEMS = 2400
MAX_STEPS = 16384
#: Most tilings that a search looks at; more are refused, never dropped.
MOST_CANDIDATES = 20000

_NAMES_SPEC = (
    "FORM GROUPS B H W TAPS_H TAPS_W INC_H INC_W TAP_H TAP_W START_H START_W LIMIT_H LIMIT_W C N IN_BYTES OUT_BYTES "
    "X_B X_H X_W X_GROUP X_BY_K X_ODD W_BY_K W_LINE W_TAP_H W_TAP_W W_OFFSET W_GROUP W_ODD Y_B Y_H Y_W Y_OFFSET "
    "Y_GROUP Y_ODD BIAS"
)
_NAMES_TILE = "B H W C N TAPS_H EXPANDED ORDER DEFER"
SPEC = {name: i for i, name in enumerate(_NAMES_SPEC.split())}
TILE = {name: i for i, name in enumerate(_NAMES_TILE.split())}

# Spec vector.
(
    FORM, GROUPS, S_B, S_H, S_W, S_TAPS_H, S_TAPS_W, S_INC_H, S_INC_W, S_TAP_H, S_TAP_W, S_START_H, S_START_W,
    S_LIMIT_H, S_LIMIT_W, S_C, S_N, IN_BYTES, OUT_BYTES, X_B, X_H, X_W, X_GROUP, X_BY_K, X_ODD, W_BY_K, W_LINE, W_TAP_H,
    W_TAP_W, W_OFFSET, W_GROUP, W_ODD, Y_B, Y_H, Y_W, Y_OFFSET, Y_GROUP, Y_ODD, BIAS,
) = range(39)  # fmt: skip
# Machine vector.
(
    ROWS, COLS, LINE, DATAFLOW, ALPHA, MU, BETA, BUS, LATENCY, LANES, VECTOR_LATENCY, BANK_LINES, BANKS, SUM_LINES,
    QUEUE, DISPATCH, CHANNELS,
) = range(17)  # fmt: skip
# Tile vector.
T_B, T_H, T_W, T_C, T_N, T_TAPS_H, T_EXPANDED, T_ORDER, T_DEFER = range(9)

# Costs of one tile, by `_costs`.
(
    X_LINES, X_BEATS, X_SPACE, O_LINES, O_BEATS, O_SPACE, FOLD_COUNT, FOLD_INTERVAL, FOLD_STREAM, MATRIX_TAIL,
    SUM_SPACE, SUM_COLUMNS, Y_LINES, Y_BEATS, TILE_MACS, BIAS_SPACE,
) = range(16)  # fmt: skip

# Item columns (hwsim.program.fields.Field).
(
    F_UNIT, F_OCCUPANCY, F_TAIL, F_WAIT, F_POST, F_DEFER, F_OPCODE, F_SLOT_A, F_SLOT_B, F_SLOT_C, F_OPERAND, F_OFFSET,
    F_COUNT_B, F_COUNT_H, F_COUNT_W, F_STEP_B, F_STEP_H, F_STEP_W, F_START_H, F_START_W, F_INC_H, F_INC_W, F_TAPS_H,
    F_TAPS_W, F_TAP_H, F_TAP_W, F_LIMIT_H, F_LIMIT_W, F_LINE_BYTES, F_BEATS, F_CHANNELS, F_OUTPUTS, F_FOLDS, F_INTERVAL,
    F_STREAM, F_LINES, F_COLUMNS, F_PASSES, F_MACS, F_FLAGS,
) = range(40)  # fmt: skip
_LOAD, _MATRIX, _VECTOR, _STORE, _CONTROL, _LOOP, _END = range(7)
_A_FULL, _B_FULL, _A_FREE, _B_FREE, _SUM_FULL, _SUM_FREE, _OUT_FULL, _IN_FULL, _IN_FREE, _REST_FREE = (
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512,
)  # fmt: skip
_CREDITS = (2 << 8) | (2 << 12) | (2 << 20) | (2 << 36)  # A_FREE, B_FREE, SUM_FREE, REST_FREE hold two each
_RESCALE, _BIAS = 1, 2  # VectorOp
# Columns of hwsim.program.fields.MoveField, ArrayField and VectorField.
P_PLACE, P_OUTER, P_LINE, P_SPAN, P_TILE_LINES, P_TAP_COLUMNS = 30, 31, 32, 35, 37, 38
M_A_LINE, M_A_SPAN, M_A_LINES, M_B_LINE, M_B_SPAN, M_B_LINES = 15, 16, 17, 18, 19, 26
V_DST, V_A, V_B = 15, 19, 23
_TILE_EXPANDED, _TAPS_FIRST, _TRANSPOSED, _TRANSPOSED_OUTER = 2, 4, 16, 32  # MoveFlag
_SUMS, _WORD_2 = 128, 3 << 4  # VectorFlag, BMode
_PIXELS = 0
_WS, _IS, _OS = 0, 1, 2
SCRATCHPAD_READ_CYCLES = 4  # as in hwsim.program.fields
#: From a matrix command's start to its first operand at the array.
_ON_THE_WAY = HAND_OVER_CYCLES + SCRATCHPAD_READ_CYCLES

# Script entries: what to do, count or edge flag, base index per level, first, last, level.
_OPEN, _CLOSE, _BODY = 0, 1, 2


@njit(cache=True)
def _up(a, b):  # type: ignore[no-untyped-def]
    return (a + b - 1) // b


@njit(cache=True)
def _beats(size, bus, odd):  # type: ignore[no-untyped-def]
    """Beats of one line; a line that starts off the bus's grid may touch one more."""
    return (size + bus - 1) // bus + (1 if odd else 0)


@njit(cache=True)
def _costs(s, m, expanded, pb, ph, pw, c, n, th, odd_c, odd_n, out):  # type: ignore[no-untyped-def]
    """Loads, folds, sums and stores of one tile of `pb × ph × pw` pixels, `c` channels, `n` outputs, `th` tap rows."""
    rows, cols, line, bus = m[ROWS], m[COLS], m[LINE], m[BUS]
    tw = s[S_TAPS_W]
    taps = th * tw
    pixels = pb * ph * pw
    size = s[IN_BYTES]
    wgrad = s[FORM] != _PIXELS
    patch_h = (ph - 1) * s[S_INC_H] + (th - 1) * abs(s[S_TAP_H]) + 1
    patch_w = (pw - 1) * s[S_INC_W] + (tw - 1) * abs(s[S_TAP_W]) + 1
    if s[X_BY_K]:
        out[X_LINES] = c
        out[X_BEATS] = _beats(pixels * size, bus, s[X_ODD])
        out[X_SPACE] = c * _up(pixels, line)
    elif expanded:
        out[X_LINES] = pixels * taps
        out[X_BEATS] = _beats(c * size, bus, s[X_ODD] or odd_c)
        out[X_SPACE] = pixels * _up(taps * c, line)
    else:
        out[X_LINES] = pb * patch_h * patch_w
        out[X_BEATS] = _beats(c * size, bus, s[X_ODD] or odd_c)
        out[X_SPACE] = pb * patch_h * patch_w * _up(c, line)
    if wgrad:
        out[O_LINES] = pixels
        out[O_BEATS] = _beats(n * size, bus, s[Y_ODD] or odd_n)
        out[O_SPACE] = pixels * _up(n, line)
    elif s[W_BY_K]:
        out[O_LINES] = taps * c
        out[O_BEATS] = _beats(n * size, bus, s[W_ODD] or odd_n)
        out[O_SPACE] = taps * c * _up(n, line)
    else:
        out[O_LINES] = taps * n
        out[O_BEATS] = _beats(c * size, bus, s[W_ODD] or odd_c)
        out[O_SPACE] = taps * n * _up(c, line)

    alpha, flow = m[ALPHA], m[DATAFLOW]
    # Input-stationary folds read R channels of a line of weights, which holds one tap, unless weights are stored by k.
    across_taps = expanded != 0 and (flow != _IS or s[W_BY_K] != 0)
    by_rows = _up(taps * c, rows) if across_taps else taps * _up(c, rows)
    by_cols = _up(taps * c, cols) if expanded else taps * _up(c, cols)
    if wgrad:
        k = pixels
        across = taps * c if expanded else c  # what lies side by side on the columns
        if flow == _WS:
            folds, stream, sums, width = _up(pixels, rows) * by_cols, n, n * by_cols, min(across, cols)
        elif flow == _IS:
            folds, stream = _up(pixels, rows) * _up(n, cols), taps * c
            sums, width = taps * c * _up(n, cols), min(n, cols)
        else:
            folds, stream, sums, width = _up(n, rows) * by_cols, pixels, n * by_cols, min(across, cols)
    else:
        k = c
        if across_taps:
            k = taps * c
        if flow == _WS:
            folds, stream, sums, width = by_rows * _up(n, cols), pixels, pixels * _up(n, cols), min(n, cols)
        elif flow == _IS:
            folds, stream, sums, width = by_rows * _up(pixels, cols), n, n * _up(pixels, cols), min(pixels, cols)
        else:
            folds, stream = _up(pixels, rows) * _up(n, cols), taps * c
            sums, width = pixels * _up(n, cols), min(n, cols)
    if flow == _OS:
        interval = max(stream, alpha * max(rows, m[BETA]))
        reach = interval + _ON_THE_WAY - 1
        tail = m[MU] + alpha + rows - 1 + cols - 1 + alpha * max(rows, m[BETA]) + m[BETA]
    else:
        interval = max(stream, min(rows, k), (rows - 1) * (alpha - 1), m[BETA])
        reach = stream + _ON_THE_WAY
        tail = m[MU] + alpha * rows + cols - 1 + m[BETA]
    out[FOLD_COUNT] = folds
    out[FOLD_INTERVAL] = interval
    out[FOLD_STREAM] = stream
    out[MATRIX_TAIL] = reach + tail - interval
    out[SUM_SPACE] = sums
    out[SUM_COLUMNS] = width
    if wgrad:
        out[Y_LINES] = n * taps
        out[Y_BEATS] = _beats(c * s[OUT_BYTES], bus, s[W_ODD] or odd_c)
    else:
        out[Y_LINES] = pixels
        out[Y_BEATS] = _beats(n * s[OUT_BYTES], bus, s[Y_ODD] or odd_n)
    out[TILE_MACS] = pixels * taps * c * n
    out[BIAS_SPACE] = _up(n, cols) if s[BIAS] else 0


@njit(cache=True)
def _fits(m, costs):  # type: ignore[no-untyped-def]
    """Whether both slots of both operand tiles have banks, and a sum tile with its bias fits an accumulator half."""
    banks = 2 * _up(costs[X_SPACE], m[BANK_LINES]) + 2 * _up(costs[O_SPACE], m[BANK_LINES])
    return banks <= m[BANKS] and costs[SUM_SPACE] + costs[BIAS_SPACE] <= m[SUM_LINES]


@njit(cache=True)
def _odd(s, m, t):  # type: ignore[no-untyped-def]
    """Whether split channels, or split outputs, start off the bus's grid."""
    odd_c = t[T_C] < s[S_C] and (t[T_C] * s[IN_BYTES]) % m[BUS] != 0
    odd_n = t[T_N] < s[S_N] and ((t[T_N] * s[IN_BYTES]) % m[BUS] != 0 or (t[T_N] * s[OUT_BYTES]) % m[BUS] != 0)
    return odd_c, odd_n


@njit(cache=True)
def _extents(s, t, dims):  # type: ignore[no-untyped-def]
    """Tiles per dimension: rows pixels, outputs, channels; columns outer count, middle count, full tiles, edge size."""
    if t[T_H] == s[S_H] and t[T_W] == s[S_W]:
        dims[0, 0], dims[0, 1], dims[0, 2], dims[0, 3] = 1, 1, s[S_B] // t[T_B], s[S_B] % t[T_B]
    elif t[T_W] == s[S_W]:
        dims[0, 0], dims[0, 1], dims[0, 2], dims[0, 3] = s[S_B], 1, s[S_H] // t[T_H], s[S_H] % t[T_H]
    else:
        dims[0, 0], dims[0, 1], dims[0, 2], dims[0, 3] = s[S_B], s[S_H], s[S_W] // t[T_W], s[S_W] % t[T_W]
    dims[1, 0], dims[1, 1], dims[1, 2], dims[1, 3] = 1, 1, s[S_N] // t[T_N], s[S_N] % t[T_N]
    dims[2, 0], dims[2, 1], dims[2, 2], dims[2, 3] = s[S_TAPS_H] // t[T_TAPS_H], 1, s[S_C] // t[T_C], s[S_C] % t[T_C]


@njit(cache=True)
def _tile_costs(s, m, t, dims, edge_p, edge_n, edge_c, costs):  # type: ignore[no-untyped-def]
    """Costs of the tile whose pixels, outputs, channels are full or at the edge."""
    odd_c, odd_n = _odd(s, m, t)
    pb, ph, pw = t[T_B], t[T_H], t[T_W]
    if edge_p:
        if dims[0, 0] == 1 and t[T_H] == s[S_H] and t[T_W] == s[S_W]:
            pb = dims[0, 3]
        elif t[T_W] == s[S_W]:
            ph = dims[0, 3]
        else:
            pw = dims[0, 3]
    c = dims[2, 3] if edge_c else t[T_C]
    n = dims[1, 3] if edge_n else t[T_N]
    _costs(s, m, t[T_EXPANDED], pb, ph, pw, c, n, t[T_TAPS_H], odd_c, odd_n, costs)


@njit(cache=True)
def _count(dims, d):  # type: ignore[no-untyped-def]
    return dims[d, 0] * dims[d, 1] * (dims[d, 2] + (1 if dims[d, 3] else 0))


@njit(cache=True)
def _put(script, n, what, arg, b0, b1, b2, first, last, level):  # type: ignore[no-untyped-def]
    script[n, 0] = what
    script[n, 1] = arg
    script[n, 2] = b0
    script[n, 3] = b1
    script[n, 4] = b2
    script[n, 5] = first
    script[n, 6] = last
    script[n, 7] = level
    return n + 1


@njit(cache=True)
def _parts(count, flagged, out):  # type: ignore[no-untyped-def]
    """Split `count` iterations into runs (count, base, first, last); flagged ones set the first and last apart."""
    if not flagged or count == 1:
        out[0, 0], out[0, 1], out[0, 2], out[0, 3] = count, 0, 1, 1
        return 1
    out[0, 0], out[0, 1], out[0, 2], out[0, 3] = 1, 0, 1, 0
    n = 1
    if count > 2:
        out[n, 0], out[n, 1], out[n, 2], out[n, 3] = count - 2, 1, 0, 0
        n += 1
    out[n, 0], out[n, 1], out[n, 2], out[n, 3] = 1, count - 1, 0, 1
    return n + 1


@njit(cache=True)
def _script(extent, flagged, script):  # type: ignore[no-untyped-def]
    """Loops and bodies that walk one dimension; flagged: the first and the last tile are bodies of their own."""
    n = 0
    o0 = np.empty((3, 4), np.int64)
    o1 = np.empty((3, 4), np.int64)
    for i in range(_parts(extent[0], flagged, o0)):
        if o0[i, 0] > 1:
            n = _put(script, n, _OPEN, o0[i, 0], 0, 0, 0, 0, 0, 0)
        ends0 = flagged and (o0[i, 2] or o0[i, 3])
        for j in range(_parts(extent[1], ends0, o1)):
            if o1[j, 0] > 1:
                n = _put(script, n, _OPEN, o1[j, 0], 0, 0, 0, 0, 0, 1)
            first_run = o0[i, 2] and o1[j, 2] and flagged
            last_run = o0[i, 3] and o1[j, 3] and flagged
            full, edge = extent[2], extent[3] > 0
            at = 0
            if first_run and full > 0:
                only = last_run and full == 1 and not edge
                n = _put(script, n, _BODY, 0, o0[i, 1], o1[j, 1], 0, 1, only, 2)
                at = 1
            tail = 1 if (last_run and not edge and full > at) else 0
            middle = full - at - tail
            if middle > 1:
                n = _put(script, n, _OPEN, middle, 0, 0, 0, 0, 0, 2)
            if middle > 0:
                n = _put(script, n, _BODY, 0, o0[i, 1], o1[j, 1], at, 0, 0, 2)
            if middle > 1:
                n = _put(script, n, _CLOSE, 0, 0, 0, 0, 0, 0, 2)
            if tail:
                n = _put(script, n, _BODY, 0, o0[i, 1], o1[j, 1], full - 1, 0, 1, 2)
            if edge:
                n = _put(script, n, _BODY, 1, o0[i, 1], o1[j, 1], full, first_run and full == 0, last_run, 2)
            if o1[j, 0] > 1:
                n = _put(script, n, _CLOSE, 0, 0, 0, 0, 0, 0, 1)
        if o0[i, 0] > 1:
            n = _put(script, n, _CLOSE, 0, 0, 0, 0, 0, 0, 0)
    return n


@njit(cache=True)
def _move(rows, r, field, step, dim, level, base, stack, depth, steps, count):  # type: ignore[no-untyped-def]
    """Let a field of item `r` follow the index of one loop level; gives the new number of steps."""
    rows[r, field] += base[dim, level] * step
    if step != 0:
        for d in range(depth):
            if stack[d, 1] == dim and stack[d, 2] == level:
                steps[count, 0], steps[count, 1], steps[count, 2], steps[count, 3] = r, stack[d, 0], field, step
                count += 1
    return count


@njit(cache=True)
def _move_pixels(rows, r, s, t, load, sb, sh, sw, base, stack, depth, steps, count):  # type: ignore[no-untyped-def]
    """Follow the pixel dimension: by coordinates when loading a patch, by byte strides otherwise."""
    whole = t[T_H] == s[S_H] and t[T_W] == s[S_W]
    if whole:
        return _move(rows, r, F_OFFSET, t[T_B] * sb, 0, 2, base, stack, depth, steps, count)
    count = _move(rows, r, F_OFFSET, sb, 0, 0, base, stack, depth, steps, count)
    by_rows = t[T_W] == s[S_W]
    if load:
        if by_rows:
            return _move(rows, r, F_START_H, t[T_H] * s[S_INC_H], 0, 2, base, stack, depth, steps, count)
        count = _move(rows, r, F_START_H, s[S_INC_H], 0, 1, base, stack, depth, steps, count)
        return _move(rows, r, F_START_W, t[T_W] * s[S_INC_W], 0, 2, base, stack, depth, steps, count)
    if by_rows:
        return _move(rows, r, F_OFFSET, t[T_H] * sh, 0, 2, base, stack, depth, steps, count)
    count = _move(rows, r, F_OFFSET, sh, 0, 1, base, stack, depth, steps, count)
    return _move(rows, r, F_OFFSET, t[T_W] * sw, 0, 2, base, stack, depth, steps, count)


@njit(cache=True)
def _box(rows, r, m, unit, operand, lines, beats, line_bytes, wait, post, slot):  # type: ignore[no-untyped-def]
    """Write what loads and stores share."""
    rows[r, :] = 0
    rows[r, F_UNIT] = unit
    rows[r, F_OCCUPANCY] = _up(lines * beats, m[CHANNELS])
    rows[r, F_TAIL] = m[LATENCY]
    rows[r, F_WAIT] = wait
    rows[r, F_POST] = post
    rows[r, F_OPERAND] = operand
    rows[r, F_BEATS] = beats
    rows[r, F_LINE_BYTES] = line_bytes
    rows[r, F_SLOT_A] = slot
    rows[r, F_COUNT_B] = 1
    rows[r, F_COUNT_H] = 1
    rows[r, F_COUNT_W] = lines
    rows[r, F_INC_H] = 1
    rows[r, F_INC_W] = 1
    rows[r, F_TAPS_H] = 1
    rows[r, F_TAPS_W] = 1
    rows[r, F_LIMIT_H] = 1
    rows[r, F_LIMIT_W] = lines


@njit(cache=True)
def _pixel_box(rows, r, pb, ph, pw, sb, sh, sw):  # type: ignore[no-untyped-def]
    """Let a load or store walk exactly a box of pixels by byte strides."""
    rows[r, F_COUNT_B], rows[r, F_COUNT_H], rows[r, F_COUNT_W] = pb, ph, pw
    rows[r, F_STEP_B], rows[r, F_STEP_H], rows[r, F_STEP_W] = sb, sh, sw
    rows[r, F_LIMIT_H], rows[r, F_LIMIT_W] = ph, pw


@njit(cache=True)
def _tile_pixels(s, t, dims, edge, out):  # type: ignore[no-untyped-def]
    out[0], out[1], out[2] = t[T_B], t[T_H], t[T_W]
    if edge:
        if t[T_H] == s[S_H] and t[T_W] == s[S_W]:
            out[0] = dims[0, 3]
        elif t[T_W] == s[S_W]:
            out[1] = dims[0, 3]
        else:
            out[2] = dims[0, 3]


@njit(cache=True)
def _load_x(rows, r, s, m, t, costs, px, c, slot, base, stack, depth, steps, count):  # type: ignore[no-untyped-def]
    """Load the pixel operand: its patch, its expanded im2col lines, or (stored by k) its lines along k."""
    wgrad = s[FORM] != _PIXELS
    full, free = (_B_FULL, _B_FREE) if wgrad else (_A_FULL, _A_FREE)
    _box(rows, r, m, _LOAD, 0, costs[X_LINES], costs[X_BEATS], c * s[IN_BYTES], free, full, slot)
    rows[r, F_OPCODE] = 1 if wgrad else 0  # scratchpad operand B or A
    count = _move(rows, r, F_OFFSET, s[X_GROUP], 3, 0, base, stack, depth, steps, count)
    if s[X_BY_K]:
        rows[r, F_LINE_BYTES] = px[0] * px[1] * px[2] * s[IN_BYTES]
        rows[r, F_STEP_W] = s[X_W]
        count = _move(rows, r, F_OFFSET, t[T_C] * s[X_W], 2, 2, base, stack, depth, steps, count)
        return _move(rows, r, F_OFFSET, t[T_B] * s[IN_BYTES], 0, 2, base, stack, depth, steps, count)
    rows[r, F_LIMIT_H], rows[r, F_LIMIT_W] = s[S_LIMIT_H], s[S_LIMIT_W]
    rows[r, F_STEP_B], rows[r, F_STEP_H], rows[r, F_STEP_W] = s[X_B], s[X_H], s[X_W]
    rows[r, F_START_H], rows[r, F_START_W] = s[S_START_H], s[S_START_W]
    rows[r, F_COUNT_B] = px[0]
    if t[T_EXPANDED]:
        rows[r, F_COUNT_H], rows[r, F_COUNT_W] = px[1], px[2]
        rows[r, F_INC_H], rows[r, F_INC_W] = s[S_INC_H], s[S_INC_W]
        rows[r, F_TAPS_H], rows[r, F_TAPS_W] = t[T_TAPS_H], s[S_TAPS_W]
        rows[r, F_TAP_H], rows[r, F_TAP_W] = s[S_TAP_H], s[S_TAP_W]
    else:
        rows[r, F_COUNT_H] = (px[1] - 1) * s[S_INC_H] + (t[T_TAPS_H] - 1) * abs(s[S_TAP_H]) + 1
        rows[r, F_COUNT_W] = (px[2] - 1) * s[S_INC_W] + (s[S_TAPS_W] - 1) * abs(s[S_TAP_W]) + 1
        rows[r, F_START_H] += min(0, (t[T_TAPS_H] - 1) * s[S_TAP_H])
        rows[r, F_START_W] += min(0, (s[S_TAPS_W] - 1) * s[S_TAP_W])
    count = _move(rows, r, F_START_H, t[T_TAPS_H] * s[S_TAP_H], 2, 0, base, stack, depth, steps, count)
    count = _move(rows, r, F_OFFSET, t[T_C] * s[IN_BYTES], 2, 2, base, stack, depth, steps, count)
    return _move_pixels(rows, r, s, t, True, s[X_B], s[X_H], s[X_W], base, stack, depth, steps, count)


@njit(cache=True)
def _load_other(rows, r, s, m, t, costs, px, c, n, slot, base, stack, depth, steps, count):  # type: ignore[no-untyped-def]
    """Load the weights (forward, dgrad) or the output gradient (wgrad)."""
    if s[FORM] != _PIXELS:
        _box(rows, r, m, _LOAD, 1, costs[O_LINES], costs[O_BEATS], n * s[IN_BYTES], _A_FREE, _A_FULL, slot)
        rows[r, F_OFFSET] = s[Y_OFFSET]
        _pixel_box(rows, r, px[0], px[1], px[2], s[Y_B], s[Y_H], s[Y_W])
        count = _move(rows, r, F_OFFSET, s[Y_GROUP], 3, 0, base, stack, depth, steps, count)
        count = _move(rows, r, F_OFFSET, t[T_N] * s[IN_BYTES], 1, 2, base, stack, depth, steps, count)
        return _move_pixels(rows, r, s, t, False, s[Y_B], s[Y_H], s[Y_W], base, stack, depth, steps, count)
    width = n if s[W_BY_K] else c
    _box(rows, r, m, _LOAD, 1, costs[O_LINES], costs[O_BEATS], width * s[IN_BYTES], _B_FREE, _B_FULL, slot)
    rows[r, F_OPCODE] = 1
    rows[r, F_OFFSET] = s[W_OFFSET]
    _pixel_box(rows, r, c if s[W_BY_K] else n, s[S_TAPS_H], s[S_TAPS_W], s[W_LINE], s[W_TAP_H], s[W_TAP_W])
    count = _move(rows, r, F_OFFSET, s[W_GROUP], 3, 0, base, stack, depth, steps, count)
    if s[W_BY_K]:
        count = _move(rows, r, F_OFFSET, t[T_C] * s[W_LINE], 2, 2, base, stack, depth, steps, count)
        return _move(rows, r, F_OFFSET, t[T_N] * s[IN_BYTES], 1, 2, base, stack, depth, steps, count)
    count = _move(rows, r, F_OFFSET, t[T_C] * s[IN_BYTES], 2, 2, base, stack, depth, steps, count)
    return _move(rows, r, F_OFFSET, t[T_N] * s[W_LINE], 1, 2, base, stack, depth, steps, count)


@njit(cache=True)
def _store_y(rows, r, s, m, t, costs, px, c, n, slot, base, stack, depth, steps, count):  # type: ignore[no-untyped-def]
    """Store the results: activation lines of pixels, or weight-gradient lines of (output, tap)."""
    wgrad = s[FORM] != _PIXELS
    size = (c if wgrad else n) * s[OUT_BYTES]
    operand = 3 if s[BIAS] else 2  # the output follows the inputs
    _box(rows, r, m, _STORE, operand, costs[Y_LINES], costs[Y_BEATS], size, _OUT_FULL, _SUM_FREE, slot)
    rows[r, F_COLUMNS] = c if wgrad else n
    if wgrad:
        rows[r, F_OFFSET] = s[W_OFFSET]
        _pixel_box(rows, r, n, t[T_TAPS_H], s[S_TAPS_W], s[W_LINE], s[W_TAP_H], s[W_TAP_W])
        count = _move(rows, r, F_OFFSET, s[W_GROUP], 3, 0, base, stack, depth, steps, count)
        count = _move(rows, r, F_OFFSET, t[T_N] * s[W_LINE], 1, 2, base, stack, depth, steps, count)
        count = _move(rows, r, F_OFFSET, t[T_TAPS_H] * s[W_TAP_H], 2, 0, base, stack, depth, steps, count)
        return _move(rows, r, F_OFFSET, t[T_C] * s[OUT_BYTES], 2, 2, base, stack, depth, steps, count)
    rows[r, F_OFFSET] = s[Y_OFFSET]
    _pixel_box(rows, r, px[0], px[1], px[2], s[Y_B], s[Y_H], s[Y_W])
    count = _move(rows, r, F_OFFSET, s[Y_GROUP], 3, 0, base, stack, depth, steps, count)
    count = _move(rows, r, F_OFFSET, t[T_N] * s[OUT_BYTES], 1, 2, base, stack, depth, steps, count)
    return _move_pixels(rows, r, s, t, False, s[Y_B], s[Y_H], s[Y_W], base, stack, depth, steps, count)


@njit(cache=True)
def _matrix(rows, r, s, m, t, costs, px, c, n, wait, post, slot_a, slot_b, slot_c, adds):  # type: ignore[no-untyped-def]
    """One tile on the array."""
    rows[r, :] = 0
    rows[r, F_UNIT] = _MATRIX
    rows[r, F_OCCUPANCY] = costs[FOLD_COUNT] * costs[FOLD_INTERVAL]
    rows[r, F_TAIL] = costs[MATRIX_TAIL]
    rows[r, F_WAIT], rows[r, F_POST] = wait, post
    rows[r, F_OPCODE] = m[DATAFLOW]
    rows[r, F_SLOT_A], rows[r, F_SLOT_B], rows[r, F_SLOT_C] = slot_a, slot_b, slot_c
    rows[r, F_COUNT_B], rows[r, F_COUNT_H], rows[r, F_COUNT_W] = px[0], px[1], px[2]
    rows[r, F_INC_H], rows[r, F_INC_W] = s[S_INC_H], s[S_INC_W]
    rows[r, F_TAPS_H], rows[r, F_TAPS_W] = t[T_TAPS_H], s[S_TAPS_W]
    rows[r, F_TAP_H], rows[r, F_TAP_W] = s[S_TAP_H], s[S_TAP_W]
    rows[r, F_CHANNELS], rows[r, F_OUTPUTS] = c, n
    rows[r, F_FOLDS], rows[r, F_INTERVAL], rows[r, F_STREAM] = (
        costs[FOLD_COUNT],
        costs[FOLD_INTERVAL],
        costs[FOLD_STREAM],
    )
    rows[r, F_LINES] = costs[SUM_SPACE]
    rows[r, F_COLUMNS] = costs[SUM_COLUMNS]
    rows[r, F_MACS] = costs[TILE_MACS]
    rows[r, F_FLAGS] = adds + 2 * t[T_EXPANDED] + 4 * s[FORM] + 8 * s[W_BY_K] + 16 * s[X_BY_K]


@njit(cache=True)
def _vector(rows, r, m, opcode, lines, columns, wait, post, slot):  # type: ignore[no-untyped-def]
    """One micro-operation over lines of the accumulator."""
    rows[r, :] = 0
    rows[r, F_UNIT] = _VECTOR
    rows[r, F_OCCUPANCY] = lines * _up(columns, m[LANES]) + m[VECTOR_LATENCY]
    rows[r, F_TAIL] = HAND_OVER_CYCLES
    rows[r, F_WAIT], rows[r, F_POST] = wait, post
    rows[r, F_OPCODE] = opcode
    rows[r, F_SLOT_A] = slot
    rows[r, F_LINES], rows[r, F_COLUMNS], rows[r, F_PASSES] = lines, columns, 1
    rows[r, F_COUNT_B], rows[r, F_COUNT_H], rows[r, F_COUNT_W] = 1, 1, lines
    rows[r, V_DST + 1], rows[r, V_DST + 2], rows[r, V_DST + 3] = lines, lines, 1
    rows[r, V_A + 1], rows[r, V_A + 2], rows[r, V_A + 3] = lines, lines, 1


@njit(cache=True)
def _open(rows, r, count, dim, level, stack, depth, counters, marks):  # type: ignore[no-untyped-def]
    rows[r, :] = 0
    rows[r, F_UNIT] = _LOOP
    rows[r, F_OCCUPANCY] = count
    stack[depth, 0], stack[depth, 1], stack[depth, 2] = r, dim, level
    marks[depth] = counters
    return r + 1


@njit(cache=True)
def _close(rows, r, stack, depth, counters, marks, kinds, steps, count):  # type: ignore[no-untyped-def]
    """End the innermost loop; slots alternate over its iterations when its body fills an odd number of tiles."""
    rows[r, :] = 0
    rows[r, F_UNIT] = _END
    start = stack[depth - 1, 0]
    for item in range(start + 1, r):
        for f in range(3):
            which = kinds[item, f]
            if which >= 0 and (counters[which] - marks[depth - 1, which]) % 2:
                steps[count, 0], steps[count, 1], steps[count, 2], steps[count, 3] = item, start, F_SLOT_A + f, 1
                count += 1
    for which in range(3):
        counters[which] += (rows[start, F_OCCUPANCY] - 1) * (counters[which] - marks[depth - 1, which])
    return count


@njit(cache=True)
def _around(entry, rows, r, dim, stack, depth, counters, marks, kinds, steps, count):  # type: ignore[no-untyped-def]
    """Open or close the loop that a script entry stands for; gives (items, depth, steps)."""
    if entry[0] == _OPEN:
        return _open(rows, r, entry[1], dim, entry[7], stack, depth, counters, marks), depth + 1, count
    count = _close(rows, r, stack, depth, counters, marks, kinds, steps, count)
    return r + 1, depth - 1, count


@njit(cache=True)
def _load(is_x, rows, r, s, m, t, costs, px, c, n, counters, kinds, base, stack, depth, steps, count):  # type: ignore[no-untyped-def]
    """Load the next tile of the pixel operand (`is_x`) or of the other one into its slot; gives the steps."""
    operand = 1 if is_x == (s[FORM] != _PIXELS) else 0  # A or B
    slot = counters[operand] % 2
    counters[operand] += 1
    kinds[r, 0] = operand
    if is_x:
        return _load_x(rows, r, s, m, t, costs, px, c, slot, base, stack, depth, steps, count)
    return _load_other(rows, r, s, m, t, costs, px, c, n, slot, base, stack, depth, steps, count)


@njit(cache=True)
def _load_bias(rows, r, s, m, t, n, bias_line, counters, kinds, base, stack, depth, steps, count):  # type: ignore[no-untyped-def]
    """Load the bias of one output tile into the accumulator; gives the steps."""
    # Its parts start where the outputs do: off the bus's grid where a tile, or a group, does not fill it.
    off = (t[T_N] < s[S_N] and 4 * t[T_N] % m[BUS] != 0) or (s[GROUPS] > 1 and 4 * s[S_N] % m[BUS] != 0)
    _box(rows, r, m, _LOAD, 2, 1, _beats(4 * n, m[BUS], off), 4 * n, _REST_FREE, _IN_FULL, counters[2] % 2)
    rows[r, F_OPCODE] = 2  # into the accumulator
    rows[r, P_LINE] = bias_line
    rows[r, F_COLUMNS] = n
    kinds[r, 0] = 2
    count = _move(rows, r, F_OFFSET, 4 * s[S_N], 3, 0, base, stack, depth, steps, count)
    return _move(rows, r, F_OFFSET, 4 * t[T_N], 1, 2, base, stack, depth, steps, count)


@njit(cache=True)
def _drain(rows, r, s, m, t, costs, px, c, n, bias_line, defer, counters, kinds, base, stack, depth, steps, count):  # type: ignore[no-untyped-def]
    """Finish an output tile: add the bias, rescale and round, store; gives (items, steps)."""
    lines, width, slot = costs[SUM_SPACE], costs[SUM_COLUMNS], counters[2] % 2
    if s[BIAS]:
        _vector(rows, r, m, _BIAS, lines, width, _SUM_FULL | _IN_FULL, 0, slot)
        rows[r, F_FLAGS] = _SUMS
        rows[r, V_B] = bias_line
        # The bias runs along the lanes, or, in a transposed tile, along the lines.
        around = n if m[DATAFLOW] == _IS else _up(n, m[COLS])
        rows[r, F_COUNT_H], rows[r, F_COUNT_W] = lines // around, around
        for operand in (V_DST, V_A):
            rows[r, operand + 2] = around
        if m[DATAFLOW] == _IS:
            rows[r, F_FLAGS] |= _WORD_2
        else:
            rows[r, V_B + 3] = 1
        kinds[r, 0] = 2
        r += 1
    # The bias's lines are free once the whole half is: a load beside this command would need a second write port.
    waits, posts = (0, _OUT_FULL | _REST_FREE) if s[BIAS] else (_SUM_FULL, _OUT_FULL)
    _vector(rows, r, m, _RESCALE, lines, width, waits, posts, slot)
    rows[r, F_FLAGS] = 0 if s[BIAS] else _SUMS
    rows[r, F_OPERAND] = 3 if s[BIAS] else 2
    kinds[r, 0] = 2
    kinds[r + 1, 0] = 2
    count = _store_y(rows, r + 1, s, m, t, costs, px, c, n, slot, base, stack, depth, steps, count)
    rows[r + 1, F_DEFER] = defer
    counters[2] += 1
    return r + 2, count


@njit(cache=True)
def emit(s, m, t, rows, steps):  # type: ignore[no-untyped-def]
    """Write the items and steps of one tiled matrix segment; gives (items, steps).

    Three nested dimensions: the outer and the inner one give output tiles, the reduction is innermost. The operand that
    does not depend on the inner dimension stays for all of it if one tile holds the whole reduction.
    """
    dims = np.empty((3, 4), np.int64)
    _extents(s, t, dims)
    wgrad = s[FORM] != _PIXELS
    reduction = 0 if wgrad else 2
    x_dim = 2 if wgrad else 0  # output dimension that the pixel operand depends on
    outer, inner = (x_dim, 1) if t[T_ORDER] else (1, x_dim)
    stays = _count(dims, reduction) == 1
    stays_x, stays_o = stays and outer == x_dim, stays and outer != x_dim
    script_x, script_y, script_z = np.empty((64, 8), np.int64), np.empty((64, 8), np.int64), np.empty((64, 8), np.int64)
    nx = _script(dims[outer], False, script_x)
    ny = _script(dims[inner], stays, script_y)
    nz = _script(dims[reduction], True, script_z)
    x_full, x_free, o_full, o_free = _A_FULL, _A_FREE, _B_FULL, _B_FREE
    if wgrad:
        x_full, x_free, o_full, o_free = _B_FULL, _B_FREE, _A_FULL, _A_FREE
    defer = t[T_DEFER] * (1 + s[BIAS] if stays else 2)

    costs, px, edge = np.zeros(16, np.int64), np.zeros(3, np.int64), np.zeros(3, np.int64)
    base = np.zeros((4, 3), np.int64)  # index per level of pixels, outputs, channels, groups
    stack, marks = np.zeros((12, 3), np.int64), np.zeros((12, 3), np.int64)
    counters = np.zeros(3, np.int64)  # tiles of A, B, sums so far
    _tile_costs(s, m, t, dims, 0, 0, 0, costs)
    bias_line = costs[SUM_SPACE]  # the same for all tiles: behind the sums of a full one
    kinds = np.full((rows.shape[0], 3), -1, np.int64)  # which counter each slot field follows
    rows[0, :] = 0
    rows[0, F_UNIT] = _CONTROL
    rows[0, F_WAIT] = _CREDITS
    r, depth, count = 1, 0, 0
    if s[GROUPS] > 1:
        r = _open(rows, r, s[GROUPS], 3, 0, stack, depth, counters, marks)
        depth += 1
    for ix in range(nx):
        if script_x[ix, 0] != _BODY:
            r, depth, count = _around(script_x[ix], rows, r, outer, stack, depth, counters, marks, kinds, steps, count)
            continue
        edge[outer], edge[inner], edge[reduction] = script_x[ix, 1], 0, 0
        base[outer] = script_x[ix, 2:5]
        if stays:
            _tile_pixels(s, t, dims, edge[0], px)
            c, n = dims[2, 3] if edge[2] else t[T_C], dims[1, 3] if edge[1] else t[T_N]
            _tile_costs(s, m, t, dims, edge[0], edge[1], edge[2], costs)
            count = _load(stays_x, rows, r, s, m, t, costs, px, c, n, counters, kinds, base, stack, depth, steps, count)
            r += 1
        for iy in range(ny):
            if script_y[iy, 0] != _BODY:
                r, depth, count = _around(
                    script_y[iy], rows, r, inner, stack, depth, counters, marks, kinds, steps, count
                )
                continue
            edge[inner] = script_y[iy, 1]
            base[inner] = script_y[iy, 2:5]
            n = dims[1, 3] if edge[1] else t[T_N]
            if s[BIAS]:
                count = _load_bias(rows, r, s, m, t, n, bias_line, counters, kinds, base, stack, depth, steps, count)
                r += 1
            for iz in range(nz):
                if script_z[iz, 0] != _BODY:
                    r, depth, count = _around(
                        script_z[iz], rows, r, reduction, stack, depth, counters, marks, kinds, steps, count
                    )
                    continue
                edge[reduction] = script_z[iz, 1]
                base[reduction] = script_z[iz, 2:5]
                _tile_pixels(s, t, dims, edge[0], px)
                c = dims[2, 3] if edge[2] else t[T_C]
                _tile_costs(s, m, t, dims, edge[0], edge[1], edge[2], costs)
                first, last = script_z[iz, 5], script_z[iz, 6]
                wait, post = _SUM_FREE if first else 0, _SUM_FULL if last else 0
                for is_x in (True, False):
                    here = not (stays_x if is_x else stays_o)
                    if here:
                        count = _load(
                            is_x, rows, r, s, m, t, costs, px, c, n, counters, kinds, base, stack, depth, steps, count
                        )
                        r += 1
                    # An operand that stays is taken by the first of its tiles and freed by the last.
                    if here or script_y[iy, 5]:
                        wait |= x_full if is_x else o_full
                    if here or script_y[iy, 6]:
                        post |= x_free if is_x else o_free
                a, b, sums = (counters[0] - 1) % 2, (counters[1] - 1) % 2, counters[2] % 2
                _matrix(rows, r, s, m, t, costs, px, c, n, wait, post, a, b, sums, 0 if first else 1)
                kinds[r, 0], kinds[r, 1], kinds[r, 2] = 0, 1, 2
                r += 1
            r, count = _drain(
                rows, r, s, m, t, costs, px, c, n, bias_line, defer, counters, kinds, base, stack, depth, steps, count
            )
    if s[GROUPS] > 1:
        count = _close(rows, r, stack, depth, counters, marks, kinds, steps, count)
        r += 1
    _tile_costs(s, m, t, dims, 0, 0, 0, costs)
    _place(rows, r, s, m, t, costs)
    return r, count


@njit(cache=True)
def _place(rows, count, s, m, t, costs):  # type: ignore[no-untyped-def]
    """Say where every tile lies on the chip; `costs` are those of the full tile, whose slots all tiles use."""
    wgrad = s[FORM] != _PIXELS
    cols, line_bytes = m[COLS], s[IN_BYTES]
    x_span = _up(costs[X_SPACE], m[BANK_LINES]) * m[BANK_LINES]
    o_span = _up(costs[O_SPACE], m[BANK_LINES]) * m[BANK_LINES]
    spans = (o_span, x_span) if wgrad else (x_span, o_span)
    for r in range(count):
        row = rows[r]
        lines = row[F_COUNT_B] * row[F_COUNT_H] * row[F_COUNT_W]
        if row[F_UNIT] == _LOAD and row[F_OPCODE] < 2:
            operand = row[F_OPCODE]
            is_x = (operand == 1) == wgrad
            row[P_LINE] = 2 * spans[0] if operand else 0
            row[P_SPAN] = spans[operand]
            row[P_TILE_LINES] = lines
            if is_x and t[T_EXPANDED]:
                row[F_FLAGS] |= _TILE_EXPANDED
                row[P_TAP_COLUMNS] = row[F_LINE_BYTES] // line_bytes
            if not is_x and not wgrad:
                row[F_FLAGS] |= _TAPS_FIRST
        elif row[F_UNIT] == _MATRIX:
            taps = row[F_TAPS_H] * row[F_TAPS_W]
            patch_h = (row[F_COUNT_H] - 1) * row[F_INC_H] + (row[F_TAPS_H] - 1) * abs(row[F_TAP_H]) + 1
            patch_w = (row[F_COUNT_W] - 1) * row[F_INC_W] + (row[F_TAPS_W] - 1) * abs(row[F_TAP_W]) + 1
            x_lines = lines if t[T_EXPANDED] else row[F_COUNT_B] * patch_h * patch_w
            if s[X_BY_K]:
                x_lines = row[F_CHANNELS]
            o_lines = taps * (row[F_CHANNELS] if s[W_BY_K] else row[F_OUTPUTS])
            if wgrad:
                o_lines = lines
            row[M_A_LINE], row[M_A_SPAN], row[M_A_LINES] = 0, spans[0], o_lines if wgrad else x_lines
            row[M_B_LINE], row[M_B_SPAN], row[M_B_LINES] = 2 * spans[0], spans[1], x_lines if wgrad else o_lines
        elif row[F_UNIT] == _LOAD:
            row[P_PLACE] = _up(row[F_COLUMNS], cols) * cols
            row[P_OUTER] = row[P_PLACE]
        elif row[F_UNIT] == _STORE:
            inner = row[F_COUNT_H] * row[F_COUNT_W]  # taps, where weights are stored
            if m[DATAFLOW] == _IS:
                row[F_FLAGS] |= _TRANSPOSED_OUTER if wgrad else _TRANSPOSED
                row[P_PLACE] = row[F_COLUMNS] if wgrad else 0
                row[P_OUTER] = inner * row[F_COLUMNS] if wgrad else row[F_COLUMNS]
            elif wgrad and t[T_EXPANDED]:
                row[P_PLACE] = row[F_COLUMNS]
                row[P_OUTER] = _up(inner * row[F_COLUMNS], cols) * cols
            else:
                row[P_PLACE] = _up(row[F_COLUMNS], cols) * cols
                row[P_OUTER] = inner * row[P_PLACE]


@njit(cache=True)
def _bounds(s, m, t, dims, costs, out):  # type: ignore[no-untyped-def]
    """Bound the cycles of one tiling in both loop orders from below, and count its beats; False if a tile does not fit.

    `out` is (cycles, beats) of order 0, then of order 1. The array, the port and the vector unit are each bounded by
    their total occupancy, plus what must come before (the first tile's loads) and after (the last tile's drain and
    store). Two slots make two more chains: a tile's loads wait for the tile before the last one to leave the array, and
    a tile's sums for the store of those before the last. Each of the two interleaved chains is sequential, and the
    longer one lasts at least half of both.
    """
    matrix, vector, fixed, once_x, once_o, every_x, every_o = 0, 0, 0, 0, 0, 0, 0
    wgrad = s[FORM] != _PIXELS
    reduction = 0 if wgrad else 2
    x_dim, o_dim = (2, 1) if wgrad else (0, 1)
    passes = 2 if s[BIAS] else 1
    head, tail, chain, sums = 0, 1 << 60, 0, 0
    kinds = np.empty((3, 2), np.int64)
    for d in range(3):
        around = dims[d, 0] * dims[d, 1]
        kinds[d, 0], kinds[d, 1] = around * dims[d, 2], around if dims[d, 3] else 0
    edge = np.empty(3, np.int64)
    for ep in range(2):
        edge[0] = ep
        for en in range(2):
            edge[1] = en
            for ec in range(2):
                edge[2] = ec
                tiles = kinds[0, ep] * kinds[1, en] * kinds[2, ec]
                if tiles == 0:
                    continue
                _tile_costs(s, m, t, dims, ep, en, ec, costs)
                if not _fits(m, costs):
                    return False
                matrix += tiles * costs[FOLD_COUNT] * costs[FOLD_INTERVAL]
                x = _up(costs[X_LINES] * costs[X_BEATS], m[CHANNELS])
                o = _up(costs[O_LINES] * costs[O_BEATS], m[CHANNELS])
                every_x += tiles * x
                every_o += tiles * o
                if edge[o_dim] == 0:  # an operand that stays is loaded once per tile of its own dimension
                    once_x += tiles // kinds[o_dim, 0] * x
                if edge[x_dim] == 0:
                    once_o += tiles // kinds[x_dim, 0] * o
                busy = costs[FOLD_COUNT] * costs[FOLD_INTERVAL]
                chain += tiles * (busy + costs[MATRIX_TAIL] + m[LATENCY])
                sums += tiles * busy
                if edge[reduction] == 0:
                    outputs = tiles // kinds[reduction, 0]
                    store = _up(costs[Y_LINES] * costs[Y_BEATS], m[CHANNELS])
                    drain = passes * (costs[SUM_SPACE] * _up(costs[SUM_COLUMNS], m[LANES]) + m[VECTOR_LATENCY])
                    fixed += outputs * store
                    vector += outputs * drain
                    sums += outputs * (costs[MATRIX_TAIL] + drain + store)
                    tail = min(tail, store + drain)
                if head == 0:
                    head = x + o
    stays = _count(dims, reduction) == 1
    groups = s[GROUPS]
    for order in range(2):
        port = fixed + (once_x if stays and order == 1 else every_x) + (once_o if stays and order == 0 else every_o)
        after = m[DISPATCH] + 2 * m[LATENCY] + tail
        cycles = max(groups * matrix + head + after, groups * port + m[DISPATCH] + m[LATENCY])
        loads = (0 if stays and order == 1 else every_x) + (0 if stays and order == 0 else every_o)
        out[2 * order] = max(cycles, groups * vector + head, groups * (chain + loads) // 2, groups * sums // 2)
        out[2 * order + 1] = groups * port
    return True


@njit(cache=True)
def sizes_of(size, quantum, out):  # type: ignore[no-untyped-def]
    """Tile sizes that matter along one dimension: ⌈size ÷ 2^i⌉, rounded up to the array's quantum; largest first."""
    n, last, parts = 0, -1, 1
    while True:
        units = _up(_up(size, quantum), parts)
        value = min(units * quantum, size)
        if value != last:
            out[n] = value
            n += 1
            last = value
        if units == 1:
            return n
        parts *= 2


@njit(cache=True)
def _candidates(s, m, tiles, bounds, beats):  # type: ignore[no-untyped-def]
    """All tilings that fit, with their bounds; gives how many (at most `len(tiles)`)."""
    t = np.zeros(9, np.int64)
    dims = np.empty((3, 4), np.int64)
    costs = np.zeros(16, np.int64)
    both = np.zeros(4, np.int64)
    cs, ns = np.empty(64, np.int64), np.empty(64, np.int64)
    wgrad = s[FORM] != _PIXELS
    flow = m[DATAFLOW]
    c_quantum = m[COLS] if wgrad else m[ROWS]
    n_quantum = m[ROWS] if (wgrad and flow == _OS) else m[COLS]
    if flow == _IS and not wgrad:
        n_quantum = 8
    if flow == _WS and wgrad:
        n_quantum = 8
    nc, nn = sizes_of(s[S_C], c_quantum, cs), sizes_of(s[S_N], n_quantum, ns)
    boxes = np.empty((192, 3), np.int64)
    values = np.empty(64, np.int64)
    nb = 0
    for i in range(sizes_of(s[S_B], max(1, m[BUS] // s[IN_BYTES]) if s[X_BY_K] else 1, values)):
        boxes[nb, 0], boxes[nb, 1], boxes[nb, 2] = values[i], s[S_H], s[S_W]
        nb += 1
    if s[S_H] > 1:
        for i in range(1, sizes_of(s[S_H], 1, values)):
            boxes[nb, 0], boxes[nb, 1], boxes[nb, 2] = 1, values[i], s[S_W]
            nb += 1
    if s[S_W] > 1:
        for i in range(1, sizes_of(s[S_W], 1, values)):
            boxes[nb, 0], boxes[nb, 1], boxes[nb, 2] = 1, 1, values[i]
            nb += 1
    taps = s[S_TAPS_H] * s[S_TAPS_W]
    dense = taps == 1 and s[S_INC_H] == 1 and s[S_INC_W] == 1
    # Operands read by column cannot be patches (bank conflicts), docs/contracts/cycles.md section 2.
    by_column = (flow == _IS) if wgrad else (flow != _WS)
    found = 0
    for expanded in range(2):
        if (expanded and (dense or s[X_BY_K])) or (not expanded and by_column and not dense):
            continue
        for ib in range(nb):
            t[T_B], t[T_H], t[T_W] = boxes[ib, 0], boxes[ib, 1], boxes[ib, 2]
            for rows_at_once in range(2 if wgrad and s[S_TAPS_H] > 1 else 1):
                t[T_TAPS_H] = 1 if rows_at_once else s[S_TAPS_H]
                for ic in range(nc):
                    t[T_C] = cs[ic]
                    for jn in range(nn):
                        t[T_N] = ns[jn]
                        t[T_EXPANDED] = expanded
                        _extents(s, t, dims)
                        if not _bounds(s, m, t, dims, costs, both):
                            continue
                        # Only an operand that stays makes the orders differ.
                        for order in range(2 if _count(dims, 0 if wgrad else 2) == 1 else 1):
                            if found < len(bounds):
                                tiles[found] = t
                                tiles[found, T_ORDER] = order
                                bounds[found] = both[2 * order]
                                beats[found] = both[2 * order + 1]
                                found += 1
    return found


@njit(cache=True)
def search(s, m, best, rows, steps, busy, stalls):  # type: ignore[no-untyped-def]
    """Find the tiling with the fewest cycles, then the fewest beats; exact over `_candidates` and two store deferrals.

    Writes the winner to `best` (9,); gives (cycles, candidates, timed), cycles −1 if nothing fits. Among equals the
    one with the least bound wins, then the first: a winner stays the winner when candidates beside it are taken away.
    """
    limit = MOST_CANDIDATES
    tiles = np.empty((limit, 9), np.int64)
    bounds = np.empty(limit, np.int64)
    beats = np.empty(limit, np.int64)
    found = _candidates(s, m, tiles, bounds, beats)
    if found == 0:
        return -1, 0, 0
    order = np.argsort(bounds[:found], kind="mergesort")  # stable: of equal tilings the first candidate wins
    none = np.empty((0, 3), np.int64)
    record, record_beats, timed = 1 << 60, 1 << 60, 0
    t = np.empty(9, np.int64)
    for i in order:
        if bounds[i] > record or (bounds[i] == record and beats[i] >= record_beats):
            if bounds[i] > record:
                break
            continue
        for defer in range(1, 3):
            t[:] = tiles[i]
            t[T_DEFER] = defer
            items, _ = emit(s, m, t, rows, steps)
            cycles, status, _ = time_rows(rows, items, m[QUEUE], m[DISPATCH], True, busy, stalls, none)
            timed += 1
            if status != 0:
                return -2, found, timed
            if cycles < record or (cycles == record and beats[i] < record_beats):
                record, record_beats = cycles, beats[i]
                best[:] = t
    return record, found, timed


@njit(cache=True)
def least_bank_lines(s, m, t):  # type: ignore[no-untyped-def]
    """Lines that every bank of the scratchpad must have for a tiling to fit; more do not hurt."""
    dims = np.empty((3, 4), np.int64)
    costs = np.zeros(16, np.int64)
    _extents(s, t, dims)
    least = 1
    for ep in range(2):
        for en in range(2):
            for ec in range(2):
                if (
                    (ep and not dims[0, 3]) or (not ep and not dims[0, 2])
                    or (en and not dims[1, 3]) or (not en and not dims[1, 2])
                    or (ec and not dims[2, 3]) or (not ec and not dims[2, 2])
                ):  # fmt: skip
                    continue
                _tile_costs(s, m, t, dims, ep, en, ec, costs)
                low, high = 0, max(costs[X_SPACE], costs[O_SPACE], 1)
                while low + 1 < high:
                    middle = (low + high) // 2
                    if 2 * _up(costs[X_SPACE], middle) + 2 * _up(costs[O_SPACE], middle) <= m[BANKS]:
                        high = middle
                    else:
                        low = middle
                least = max(least, high)
    return least
