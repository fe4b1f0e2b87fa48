"""A whole training step, one number at a time: what docs/contracts/values.md says the ops compute, in plain integers.

`run` takes a graph and the stored bits of its tensors, and gives those after the step. It knows nothing of programs,
addresses, lines in memory or compiled code: of a plan only the tiles, which decide the order of partial sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from itertools import product

import numpy as np

from hwsim.mapping.layout import format_of
from hwsim.numerics import functions, storage_dtype
from hwsim.numerics.reference import add as slow_add
from hwsim.numerics.reference import convert, maximum, negate, partial_sums, wrap_int32
from hwsim.numerics.reference import multiply as slow_multiply
from hwsim.numerics.vector import (
    clamp,
    flush,
    from_int32,
    maximum_lanes,
    scale,
    select,
    select_equal,
    select_label,
    subtract_label,
    sum_lanes,
)

__all__ = ["add", "as_array", "as_bits", "multiply", "run", "widen"]

INF, LOWEST = 0x7F800000, 0xFF800000
MINUS_ONE, SIX = 0xBF800000, 0x40C00000
WIDTHS = {"int8": 8, "fp8_e4m3": 8, "fp8_e5m2": 8, "bf16": 16, "fp16": 16, "int32": 32, "fp32": 32}

Words = list[int]
Tiles = Sequence[Mapping[str, int]]
#: A line that is converted stochastically: the operand, and of each column the element of the tensor, if any.
Line = tuple[int, list[int | None]]


def run(graph, hw, bits, tiles, *, exponents=None, step_number=1, lfsr=None, ops=None):
    """Execute ops of a graph, all unless given; gives the bits of every tensor that was given or computed.

    Parameters
    ----------
    bits : mapping of str to list of int
        Stored bits, without sign, of the tensors that no op gives before one reads them.
    tiles : mapping of str to sequence of mapping
        `OpPlan.tiles` of every op; those of vector ops are looked at for the order of random words alone.
    exponents : mapping of str to int
        Of the tensors, 0 unless named.
    lfsr : list of int
        Registers of the random words, which stochastic conversions draw from and change.
    """
    step = Step(graph, hw, dict(bits), tiles, exponents or {}, step_number, lfsr)
    for op in graph.ops if ops is None else ops:
        call = Call(step, op)
        call.words = drawn(call)
        RULES[op.kind](call)
    return step.bits


def as_bits(array, format):
    """Stored array → flat list of patterns."""
    array = np.ascontiguousarray(array)
    assert array.dtype == storage_dtype(format), f"{format} arrays are {storage_dtype(format)}, not {array.dtype}"
    return array.reshape(-1).view(f"u{WIDTHS[format] // 8}").tolist()


def as_array(words, format, shape):
    """Inverse of `as_bits`."""
    return np.array(words, f"u{WIDTHS[format] // 8}").view(storage_dtype(format)).reshape(shape)


# ---- fp32, fast where both operands are plain numbers -----------------------------------------------------------


def add(x: int, y: int) -> int:
    """As `hwsim.numerics.reference.add`."""
    a, b = x & 0x7FFFFFFF, y & 0x7FFFFFFF
    if a < b:
        x, y, a, b = y, x, b, a
    if a >= INF or a < 0x800000:
        return slow_add(x, y)
    if b < 0x800000:
        return x
    shift = (a >> 23) - (b >> 23)
    if shift > 25:  # less than half a unit, of the binade below too
        return x
    large, small = (a & 0x7FFFFF | 0x800000) << shift, b & 0x7FFFFF | 0x800000
    exact = large - small if (x ^ y) >> 31 else large + small
    return _packed(x & 0x80000000, exact, b >> 23) if exact else 0


def multiply(x: int, y: int) -> int:
    """As `hwsim.numerics.reference.multiply` of fp32 operands."""
    a, b = x & 0x7FFFFFFF, y & 0x7FFFFFFF
    sign = (x ^ y) & 0x80000000
    if a >= INF or b >= INF:
        return slow_multiply(x, y)
    if a < 0x800000 or b < 0x800000:
        return sign
    return _packed(sign, (a & 0x7FFFFF | 0x800000) * (b & 0x7FFFFF | 0x800000), (a >> 23) + (b >> 23) - 150)


def _packed(sign: int, mantissa: int, unit: int) -> int:
    """Round ``mantissa · 2^(unit − 150)`` to nearest, ties to even; infinity and FTZ by the exponent after that."""
    shift = mantissa.bit_length() - 24
    if shift > 0:
        q, half = mantissa >> shift, 1 << (shift - 1)
        fraction = mantissa & (2 * half - 1)
        if fraction > half or (fraction == half and q & 1):
            q += 1
            if q >> 24:
                q, shift = q >> 1, shift + 1
    else:
        q = mantissa << -shift
    exponent = unit + shift
    if exponent > 254:
        return sign | INF
    return sign | exponent << 23 | q & 0x7FFFFF if exponent > 0 else sign


@cache
def widen(bits: int, format: str) -> int:
    """Bits of a narrow format → fp32."""
    if format == "int8":
        bits = bits - 256 if bits > 127 else bits
    return convert(bits, format, "fp32").bits


def rn(value: float) -> int:
    """Bits of the fp32 number nearest to a scalar."""
    return int(np.float32(value).view(np.uint32))


# ---- tensors ----------------------------------------------------------------------------------------------------


@dataclass
class Step:
    """The tensors of a step under execution."""

    graph: object
    hw: object
    bits: dict[str, Words]
    tiles: Mapping[str, Tiles]
    exponents: Mapping[str, int]
    step_number: int
    lfsr: list[int] | None


@dataclass
class Call:
    """One op: its operands by number, inputs first, then outputs."""

    step: Step
    op: object
    names: tuple[str, ...] = field(init=False)
    words: dict[int, dict[int, int]] = field(init=False)

    def __post_init__(self):
        self.names = (*self.op.inputs, *self.op.outputs)

    @property
    def hw(self):
        return self.step.hw

    @property
    def attrs(self):
        return self.op.attrs

    @property
    def inputs(self):
        return len(self.op.inputs)

    @property
    def tiles(self):
        return self.step.tiles[self.op.name]

    def shape(self, operand):
        return self.step.graph.tensors[self.names[operand]].shape

    def format(self, operand):
        return format_of(self.step.graph.tensors[self.names[operand]], self.hw)

    def exponent(self, operand):
        return self.step.exponents.get(self.names[operand], 0)

    def bits(self, operand):
        return self.step.bits[self.names[operand]]

    def load(self, operand):
        """Words as a load into the accumulator gives them."""
        format, exponent, bits = self.format(operand), self.exponent(operand), self.bits(operand)
        if WIDTHS[format] == 32:
            return list(bits)
        wide = {b: scale(widen(b, format), exponent) for b in set(bits)}
        return [wide[b] for b in bits]

    def store(self, operand, words, repeats=1):
        """Convert on the way out; each word is `repeats` times in the tensor."""
        tensor, format = self.step.graph.tensors[self.names[operand]], self.format(operand)
        if WIDTHS[format] < 32:
            random = self.words[operand] if self.is_stochastic(operand) else None
            words = [
                self._converted(word, operand, format, None if random is None else random[element])
                for element, word in enumerate(words)
            ]
        assert len(words) * repeats == tensor.elements
        self.step.bits[tensor.name] = words

    def _converted(self, word, operand, format, random):
        scaled = scale(word, -self.exponent(operand))
        if random is None:
            bits = convert(scaled, "fp32", format).bits
        else:
            bits = convert(scaled, "fp32", format, rounding="stochastic", word=random).bits
        return bits & ((1 << WIDTHS[format]) - 1)

    def is_stochastic(self, operand):
        """Whether an output is rounded stochastically."""
        tensor = self.step.graph.tensors[self.names[operand]]
        return operand >= self.inputs and tensor.rounding == "stochastic" and WIDTHS[self.format(operand)] < 32

    def copy(self, operand, source):
        """Store an operand's bits."""
        assert self.format(operand) == self.format(source)
        assert self.exponent(operand) == self.exponent(source)
        self.step.bits[self.names[operand]] = list(self.bits(source))


def up(a, b):
    return -(-a // b)


# ---- matrix: section 3 ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """The order of a reduction: `ks` in the order of the commands, and the partial sums as positions in it."""

    ks: list
    sums: list[tuple[range, bool]]

    @classmethod
    def of(cls, call, commands):
        """`commands`: for each the k that it covers, and after how many of them a fold ends (None: of the tile)."""
        array, ks, sums = call.hw.array, [], []
        for covered, segment in commands:
            found = partial_sums(
                len(covered),
                dataflow=str(array.dataflow),
                rows=array.rows,
                add_latency_cycles=array.add_latency_cycles,
                k_segment=segment,
            )
            begin = len(ks)
            sums += [(range(begin + s.start, begin + s.stop, s.step), s.idle) for s in found]
            ks += covered
        return cls(ks, sums)


@dataclass(frozen=True)
class Operands:
    """The two operands of a product, as the multiplier takes them: integers, or fp32 bits."""

    integers: bool
    a: Words
    b: Words
    times: Callable[[int, int], int]

    @classmethod
    def of(cls, call, a, b):
        formats = call.format(a), call.format(b)
        if "int8" in formats:
            assert formats == ("int8", "int8")
            return cls(True, *([x - 256 if x > 127 else x for x in call.bits(i)] for i in (a, b)), int.__mul__)
        assert formats[0] == formats[1] or set(formats) == {"fp8_e4m3", "fp8_e5m2"}
        a, b = (
            [flush(x) if f == "fp32" else widen(x, f) for x in call.bits(i)]
            for i, f in zip((a, b), formats, strict=True)
        )
        return cls(False, a, b, _remembered if WIDTHS[formats[0]] == 8 else multiply)

    def dot(self, a, b, sums):
        """One sum of the array."""
        if self.integers:
            return wrap_int32(sum(map(int.__mul__, a, b)))
        times, line = self.times, None
        for positions, idle in sums:
            s = 0
            for k in positions:
                p = times(a[k], b[k])
                if p & 0x7FFFFFFF or not s & 0x7FFFFFFF:
                    s = add(s, p)
            if idle:
                s = add(s, 0)
            line = s if line is None else add(line, s)
        return line


@cache
def _remembered(x, y):
    return multiply(x, y)


def finish(call, operands, sums, e, bias=None, width=1):
    """`ADD_BIAS`, `RESCALE`: sums of the array → words before the conversion."""
    words = [scale(from_int32(s) if operands.integers else s, e) for s in sums]
    return words if bias is None else [flush(add(w, bias[i % width])) for i, w in enumerate(words)]


def channel_tiles(taps, channels, size, expanded):
    """Commands of the form that reduces over taps and channels."""
    for first in range(0, channels, size):
        covered = range(first, min(first + size, channels))
        yield [(tap, c) for tap in range(taps) for c in covered], None if expanded else len(covered)


def pixel_tiles(tile, shape):
    """Commands of the form that reduces over pixels: boxes of (image, row, column)."""
    for first in product(*(range(0, n, tile[axis]) for n, axis in zip(shape, "BHW", strict=True))):
        box = (range(f, min(f + tile[axis], n)) for f, n, axis in zip(first, shape, "BHW", strict=True))
        yield list(product(*box)), None


def linear(call):
    (batch, features), (outputs, _) = call.shape(0), call.shape(1)
    x = Operands.of(call, 0, 1)
    order = Order.of(call, channel_tiles(1, features, call.tiles[0]["C"], call.tiles[0]["EXPANDED"]))
    a = [[x.a[m * features + c] for _, c in order.ks] for m in range(batch)]
    b = [[x.b[n * features + c] for _, c in order.ks] for n in range(outputs)]
    sums = [x.dot(row, column, order.sums) for row in a for column in b]
    bias = call.load(2) if call.inputs == 3 else None
    call.store(call.inputs, finish(call, x, sums, call.exponent(0) + call.exponent(1), bias, outputs))


def linear_dgrad(call):
    (batch, outputs), (_, features) = call.shape(0), call.shape(1)
    x = Operands.of(call, 0, 1)
    order = Order.of(call, channel_tiles(1, outputs, call.tiles[0]["C"], call.tiles[0]["EXPANDED"]))
    a = [[x.a[m * outputs + c] for _, c in order.ks] for m in range(batch)]
    b = [[x.b[c * features + n] for _, c in order.ks] for n in range(features)]
    sums = [x.dot(row, column, order.sums) for row in a for column in b]
    call.store(2, finish(call, x, sums, call.exponent(0) + call.exponent(1)))


def linear_wgrad(call):
    (batch, features), (_, outputs) = call.shape(0), call.shape(1)
    x = Operands.of(call, 0, 1)
    order = Order.of(call, pixel_tiles(call.tiles[0], (batch, 1, 1)))
    a = [[x.b[b * outputs + n] for b, _, _ in order.ks] for n in range(outputs)]
    b = [[x.a[b * features + c] for b, _, _ in order.ks] for c in range(features)]
    sums = [x.dot(row, column, order.sums) for row in a for column in b]
    call.store(2, finish(call, x, sums, call.exponent(0) + call.exponent(1)))


def at(shape, *index):
    """Position of an index in a row-major tensor, or None outside."""
    position = 0
    for i, n in zip(index, shape, strict=True):
        if not 0 <= i < n:
            return None
        position = position * n + i
    return position


def gathered(values, positions):
    """Values at positions, zero outside."""
    return [0 if p is None else values[p] for p in positions]


def conv2d(call):
    x_shape, w_shape, y_shape = call.shape(0), call.shape(1), call.shape(call.inputs)
    (out, kh, kw, ci), groups, tile = w_shape, call.attrs["groups"], call.tiles[0]
    (sh, sw), (ph, pw), (dh, dw) = (call.attrs[k] for k in ("stride", "padding", "dilation"))
    x = Operands.of(call, 0, 1)
    # Input-stationary folds end with each tap: a line of weights holds one.
    whole = tile["EXPANDED"] and call.hw.array.dataflow != "is"
    order = Order.of(call, channel_tiles(kh * kw, ci, tile["C"], whole))
    w = [[x.b[(n * kh * kw + tap) * ci + c] for tap, c in order.ks] for n in range(out)]
    sums = []
    for b, h, v in product(*map(range, y_shape[:3])):
        for g in range(groups):
            places = [
                at(x_shape, b, h * sh - ph + tap // kw * dh, v * sw - pw + tap % kw * dw, g * ci + c)
                for tap, c in order.ks
            ]
            a = gathered(x.a, places)
            sums += [x.dot(a, w[n], order.sums) for n in range(g * out // groups, (g + 1) * out // groups)]
    bias = call.load(2) if call.inputs == 3 else None
    call.store(call.inputs, finish(call, x, sums, call.exponent(0) + call.exponent(1), bias, out))


def conv2d_wgrad(call):
    x_shape, y_shape, (out, kh, kw, ci) = (call.shape(i) for i in range(3))
    groups, tile = call.attrs["groups"], call.tiles[0]
    (sh, sw), (ph, pw), (dh, dw) = (call.attrs[k] for k in ("stride", "padding", "dilation"))
    x = Operands.of(call, 0, 1)
    order = Order.of(call, pixel_tiles(tile, y_shape[:3]))
    sums = {}
    for g in range(groups):
        dy = {
            n: [x.b[at(y_shape, *pixel, n)] for pixel in order.ks]
            for n in range(g * out // groups, (g + 1) * out // groups)
        }
        for r, s, c in product(range(kh), range(kw), range(ci)):
            places = [at(x_shape, b, h * sh - ph + r * dh, v * sw - pw + s * dw, g * ci + c) for b, h, v in order.ks]
            column = gathered(x.a, places)
            for n, row in dy.items():
                sums[n, r, s, c] = x.dot(row, column, order.sums)
    ordered = [sums[index] for index in product(*map(range, (out, kh, kw, ci)))]
    call.store(2, finish(call, x, ordered, call.exponent(0) + call.exponent(1)))


def conv2d_dgrad(call):
    """Each input position takes the taps of its residue class; a class without taps is zero."""
    y_shape, (out, kh, kw, ci), x_shape = (call.shape(i) for i in range(3))
    groups, e = call.attrs["groups"], call.exponent(0) + call.exponent(1)
    x = Operands.of(call, 0, 1)
    co, tiles, sums = out // groups, iter(call.tiles), {}

    def taps(axis, residue, size):
        stride, padding, dilation = (call.attrs[k][axis] for k in ("stride", "padding", "dilation"))
        return [(r, (residue + padding - r * dilation) // stride) for r in range(size)
                if (residue + padding - r * dilation) % stride == 0]  # fmt: skip

    sh, sw = call.attrs["stride"]
    for i, j in product(range(min(sh, x_shape[1])), range(min(sw, x_shape[2]))):
        rows, columns = taps(0, i, kh), taps(1, j, kw)
        if not rows or not columns:
            continue
        tile = next(tiles)
        order = Order.of(call, channel_tiles(len(rows) * len(columns), co, tile["C"], tile["EXPANDED"]))
        ks = [(*rows[tap // len(columns)], *columns[tap % len(columns)], c) for tap, c in order.ks]
        for g, n in product(range(groups), range(ci)):
            w = [x.b[at((out, kh, kw, ci), g * co + c, r, s, n)] for r, _, s, _, c in ks]
            for b, h, v in product(range(x_shape[0]), range(i, x_shape[1], sh), range(j, x_shape[2], sw)):
                places = [at(y_shape, b, oh + h // sh, ov + v // sw, g * co + c) for _, oh, _, ov, c in ks]
                sums[b, h, v, g * ci + n] = x.dot(gathered(x.a, places), w, order.sums)
    sums = [sums.get(index) for index in product(*map(range, x_shape))]
    for element, s in enumerate(sums):
        if s is None and call.is_stochastic(2):
            call.words[2][element] = 1  # no conversion, no word: a zero stays one
    call.store(2, [0 if s is None else finish(call, x, [s], e)[0] for s in sums])


# ---- vector: section 5 ------------------------------------------------------------------------------------------


def elementwise(function):
    """Rule of an op that gives one output, element by element."""

    def rule(call):
        words = [call.load(i) for i in range(call.inputs)]
        call.store(call.inputs, [function(*x) for x in zip(*words, strict=True)])

    return rule


def windows(call, image, out):
    """Taps, row-major, of the window of each output position: flat position in the image, None in the padding."""
    (kh, kw), (sh, sw), (ph, pw) = (call.attrs[k] for k in ("kernel", "stride", "padding"))
    for b, h, v, c in product(*map(range, out)):
        yield [at(image, b, h * sh - ph + i, v * sw - pw + j, c) for i in range(kh) for j in range(kw)]


def max_pool(call):
    x, found = call.load(0), []
    for window in windows(call, call.shape(0), call.shape(1)):
        taps = [LOWEST if p is None else x[p] for p in window]
        largest = taps[0]
        for tap in taps[1:]:
            largest = maximum(largest, tap)
        found.append(largest)
    call.store(1, found)


def avg_pool(call):
    x, found = call.load(0), []
    for window in windows(call, call.shape(0), call.shape(1)):
        taps = gathered(x, window)
        total = taps[0]
        for tap in taps[1:]:
            total = add(total, tap)
        found.append(multiply(total, rn(1 / len(taps))))
    call.store(1, found)


def max_pool_dgrad(call):
    x, y, dy = (call.load(i) for i in range(3))
    dx, every = [0] * len(x), list(windows(call, call.shape(0), call.shape(1)))
    for tap in range(len(every[0])):
        for i, window in enumerate(every):
            place = window[tap]
            t = select_equal(LOWEST if place is None else x[place], y[i], dy[i])
            if place is not None:
                dx[place] = add(dx[place], t)
            dy[i] = add(dy[i], negate(t))
    call.store(3, dx)


def avg_pool_dgrad(call):
    dy = call.load(0)
    dx, every = [0] * int(np.prod(call.shape(1))), list(windows(call, call.shape(1), call.shape(0)))
    for tap in range(len(every[0])):
        for i, window in enumerate(every):
            if window[tap] is not None:
                dx[window[tap]] = add(dx[window[tap]], dy[i])
    call.store(1, [multiply(d, rn(1 / len(every[0]))) for d in dx])


def global_avg_pool(call):
    x, (batch, height, width, channels), found = call.load(0), call.shape(0), []
    pixels = height * width
    blocks = up(channels, call.hw.array.cols)
    if (pixels + _runs(pixels, blocks, call.hw)) * blocks > call.hw.accumulator_slot_lines:
        blocks = 1  # streamed block by block
    length = pixels // _runs(pixels, blocks, call.hw)
    for b, c in product(range(batch), range(channels)):
        image = x[b * pixels * channels + c : (b + 1) * pixels * channels : channels]
        sums = [reduce(add, image[first : first + length], 0) for first in range(0, pixels, length)]
        found.append(multiply(halved(sums), rn(1 / pixels)))
    call.store(1, found)


def _runs(pixels, blocks, hw):
    """Runs of pixels that are summed side by side."""
    runs = 1
    while runs * blocks < hw.vector.latency_cycles and pixels % (2 * runs) == 0:
        runs *= 2
    return runs


def global_avg_pool_dgrad(call):
    batch, height, width, channels = call.shape(1)
    pixels = height * width
    call.store(1, [multiply(g, rn(1 / pixels)) for g in call.load(0)], repeats=pixels)
    name = call.names[1]
    once = call.step.bits[name]
    call.step.bits[name] = [once[b * channels + c] for b, _, c in product(range(batch), range(pixels), range(channels))]


def flatten(call):
    """A view where the pixels of an image have no padding between them."""
    image = max((0, 1), key=lambda i: len(call.shape(i)))
    if call.shape(image)[-1] * WIDTHS[call.format(image)] // 8 % call.hw.dram.beat_bytes == 0:
        call.copy(1, 0)
    else:
        call.store(1, call.load(0))


# Sums over pixels: section 5.1


def interleaved(blocks, hw):
    """Lines that a sum over pixels goes to in turn."""
    lines = 1
    while lines * blocks < hw.vector.latency_cycles:
        lines *= 2
    while lines > 1 and (4 * lines + 6) * blocks > hw.accumulator_slot_lines:
        lines //= 2
    return lines


def folded(terms, turns):
    """Sum in one lane: term i is added to line ``i mod turns``; then halves."""
    s = [0] * turns
    for i, term in enumerate(terms):
        s[i % turns] = add(s[i % turns], term)
    return halved(s)


def halved(s):
    """Fold sums: the upper half is added to the lower, until one is left."""
    while len(s) > 1:
        half = len(s) // 2
        s = [add(s[j], s[j + half]) for j in range(half)]
    return s[0]


def sums_over_pixels(call, width, terms):
    """``terms(channel)`` summed, for each channel."""
    cols = call.hw.array.cols
    most = max(1, call.hw.accumulator_slot_lines // 10) * cols
    found = []
    for channel in range(width):
        streamed = min(most, width - channel // most * most)
        found.append(folded(terms(channel), interleaved(up(streamed, cols), call.hw)))
    return found


def bias_grad(call):
    dy, width = call.load(0), call.shape(0)[-1]
    call.store(1, sums_over_pixels(call, width, lambda c: dy[c::width]))


def batchnorm(call):
    x, gamma, beta, old_mean, old_variance = (call.load(i) for i in range(5))
    width, new, eps = len(gamma), call.attrs["momentum"], rn(call.attrs["eps"])
    count = len(x) // width
    first = sums_over_pixels(call, width, lambda c: x[c::width])
    second = sums_over_pixels(call, width, lambda c: [multiply(v, v) for v in x[c::width]])
    rows = [([0] * width) for _ in range(4)]
    for c in range(width):
        mean, q = multiply(first[c], rn(1 / count)), multiply(second[c], rn(1 / count))
        v = clamp(add(q, negate(multiply(mean, mean))), 0, INF)
        rstd = functions.reciprocal_root(add(v, eps))
        rm = add(multiply(old_mean[c], rn(1 - new)), multiply(mean, rn(new)))
        rv = add(multiply(old_variance[c], rn(1 - new)), multiply(v, rn(new * count / max(1, count - 1))))
        for row, value in zip(rows, (mean, rstd, rm, rv), strict=True):
            row[c] = value
    call.store(5, affine(x, gamma, beta, rows[0], rows[1]))
    for operand, row in enumerate(rows, 6):
        call.store(operand, row)


def affine(x, gamma, beta, mean, rstd):
    width = len(gamma)
    a = [multiply(g, r) for g, r in zip(gamma, rstd, strict=True)]
    d = [add(b, negate(multiply(m, s))) for b, m, s in zip(beta, mean, a, strict=True)]
    return [add(multiply(v, a[i % width]), d[i % width]) for i, v in enumerate(x)]


def batchnorm_inference(call):
    x, gamma, beta, mean, variance = (call.load(i) for i in range(5))
    eps = rn(call.attrs["eps"])
    call.store(5, affine(x, gamma, beta, mean, [functions.reciprocal_root(add(v, eps)) for v in variance]))


def batchnorm_apply(call):
    call.store(5, affine(*(call.load(i) for i in range(5))))


def batchnorm_wgrad(call):
    x, dy, mean, rstd = (call.load(i) for i in range(4))
    width = len(mean)
    shift = [multiply(multiply(m, MINUS_ONE), r) for m, r in zip(mean, rstd, strict=True)]

    def terms(c):
        z = [add(multiply(v, rstd[c]), shift[c]) for v in x[c::width]]
        return [multiply(a, b) for a, b in zip(z, dy[c::width], strict=True)]

    call.store(4, sums_over_pixels(call, width, terms))
    call.store(5, sums_over_pixels(call, width, lambda c: dy[c::width]))


def batchnorm_dgrad(call):
    x, dy, mean, rstd, gamma, dgamma, dbeta = (call.load(i) for i in range(7))
    width = len(mean)
    share = rn(-1 / (len(x) // width))
    a = [multiply(g, r) for g, r in zip(gamma, rstd, strict=True)]
    b = [multiply(multiply(multiply(p, r), g), share) for p, r, g in zip(a, rstd, dgamma, strict=True)]
    d = [multiply(multiply(p, g), share) for p, g in zip(a, dbeta, strict=True)]
    d = [add(p, negate(multiply(q, m))) for p, q, m in zip(d, b, mean, strict=True)]
    found = []
    for i, (v, g) in enumerate(zip(x, dy, strict=True)):
        c = i % width
        found.append(add(multiply(g, a[c]), add(multiply(v, b[c]), d[c])))
    call.store(7, found)


# Losses


def across(call, line, of_lines, of_lanes):
    """Over a row: lane by lane over its blocks, then over the lanes."""
    cols = call.hw.array.cols
    lanes = line[:cols]
    for first in range(cols, len(line), cols):
        for lane, word in enumerate(line[first : first + cols]):
            lanes[lane] = of_lines(lanes[lane], word)
    return of_lanes(lanes)


def signed_labels(words):
    return [wrap_int32(w) for w in words]


def softmax_cross_entropy(call):
    x, (batch, classes) = call.load(0), call.shape(0)
    losses, probabilities = [], []
    for row, label in enumerate(signed_labels(call.load(1))):
        line = x[row * classes : (row + 1) * classes]
        largest = across(call, line, maximum, maximum_lanes)
        line = [add(v, negate(largest)) for v in line]
        e = [functions.exp(v) for v in line]
        s = across(call, e, add, sum_lanes)
        loss, r = functions.log(s), functions.reciprocal(s)
        probabilities += [multiply(v, r) for v in e]
        k = across(call, [select_label(v, c, label) for c, v in enumerate(line)], add, sum_lanes)
        losses.append(add(loss, negate(k)))
    total = folded(losses, interleaved(1, call.hw))
    call.store(2, [multiply(total, rn(1 / batch))])
    call.store(3, probabilities)


def softmax_cross_entropy_dgrad(call):
    p, (batch, classes), labels = call.load(0), call.shape(0), signed_labels(call.load(1))
    found = [subtract_label(v, i % classes, labels[i // classes]) for i, v in enumerate(p)]
    call.store(2, [multiply(v, rn(1 / batch)) for v in found])


def mean_squared_error(call):
    y, target = call.load(0), call.load(1)
    width, cols = call.shape(0)[-1], call.hw.array.cols
    sizes = {width * WIDTHS[call.format(i)] // 8 for i in (0, 1)}
    dense = len(y) == width or all(size % call.hw.dram.beat_bytes == 0 for size in sizes)
    step = len(y) if dense else width
    squares = [multiply(d, d) for d in (add(a, negate(b)) for a, b in zip(y, target, strict=True))]
    stored = [squares[first : first + step] for first in range(0, len(y), step)]
    lines = [line[first : first + cols] for line in stored for first in range(0, step, cols)]
    lanes = [[line[lane] if lane < len(line) else 0 for line in lines] for lane in range(cols)]
    total = sum_lanes([folded(lane, interleaved(1, call.hw)) for lane in lanes])
    call.store(2, [multiply(total, rn(1 / len(y)))])


def mean_squared_error_dgrad(call):
    y, target = call.load(0), call.load(1)
    factor = rn(2 / len(y))
    call.store(2, [multiply(add(a, negate(b)), factor) for a, b in zip(y, target, strict=True)])


# Updates


def update(call):
    words = [call.load(i) for i in range(call.inputs)]
    rows = [_updated(call, *x) for x in zip(*words, strict=True)]
    results = [list(row) for row in zip(*rows, strict=True)]
    if len(call.op.outputs) > len(results):
        results.insert(1, results[0])  # the copy in the operand format
    for operand, row in enumerate(results, call.inputs):
        call.store(operand, row)


def _updated(call, p, g, *states):
    """New parameter and states of one element."""
    a, kind = call.attrs, call.op.kind
    rate, decay = a["learning_rate"], a["weight_decay"]
    if kind == "adamw_update":
        p = multiply(p, rn(1 - rate * decay))
    elif decay:
        g = add(multiply(p, rn(decay)), g)
    if kind == "sgd_update":
        return (add(multiply(g, rn(-rate)), p),)
    if kind in ("momentum_update", "nesterov_update"):
        v = add(multiply(states[0], rn(a["momentum"])), g)
        if kind == "nesterov_update":
            g = add(multiply(v, rn(a["momentum"])), g)
            return add(multiply(g, rn(-rate)), p), v
        return add(multiply(v, rn(-rate)), p), v
    m, v = states
    m = add(multiply(m, rn(a["beta1"])), multiply(g, rn(1 - a["beta1"])))
    v = add(multiply(v, rn(a["beta2"])), multiply(multiply(g, g), rn(1 - a["beta2"])))
    n = call.step.step_number
    t = multiply(v, rn(1 / (1 - a["beta2"] ** n)))
    t = functions.reciprocal(functions.reciprocal_root(t))
    t = multiply(functions.reciprocal(add(t, rn(a["eps"]))), m)
    return add(multiply(t, rn(-rate / (1 - a["beta1"] ** n))), p), m, v


# ---- random words: the order in which lines are converted ---------------------------------------------------------


def drawn(call):
    """Word of every element of every output that is rounded stochastically, by operand."""
    found = {o: {} for o in range(call.inputs, len(call.names)) if call.is_stochastic(o)}
    if not found:
        return found
    registers = call.step.lfsr
    assert registers is not None, f"{call.op.name} rounds stochastically; give the registers"
    for operand, elements in LINES[call.op.kind](call):
        if operand in found:
            for column, element in enumerate(elements):
                if column % len(registers) == 0:
                    registers[:] = map(word_after, registers)
                if element is not None:
                    found[operand][element] = registers[column % len(registers)]
    return found


def word_after(state):
    """Step a register 32 times."""
    for _ in range(32):
        state = state >> 1 ^ (0x80200003 if state & 1 else 0)
    return state


def tiled(call):
    """Lines of an elementwise op: each tile converts one output after the other."""
    cols, width, elements = call.hw.array.cols, call.shape(0)[-1], int(np.prod(call.shape(0)))
    sizes = [width * WIDTHS[call.format(o)] // 8 for o in range(len(call.names))]
    dense = elements == width or all(size % call.hw.dram.beat_bytes == 0 for size in sizes)
    line, size = (elements, call.tiles[0]["SIZE"]) if dense else (width, call.tiles[0]["SIZE"] * width)
    for first in range(0, elements, size):
        last = min(first + size, elements)
        columns = min(last - first if dense else width, cols)
        for operand in range(call.inputs, len(call.names)):
            for begin in range(first, last, min(line, last - first)):
                end = min(begin + line, last)
                for start in range(begin, end, cols):
                    yield operand, [start + c if start + c < end else None for c in range(columns)]


def along_channels(operand, parts=False):
    """Lines of an op that converts an output pixel by pixel, part by part of the channels."""

    def lines(call):
        cols, shape = call.hw.array.cols, call.shape(operand)
        width = shape[-1]
        pixels = shape[0] if call.op.kind == "global_avg_pool_dgrad" else int(np.prod(shape)) // width
        most = max(1, call.hw.accumulator_slot_lines // 10) * cols if parts else width
        for first in range(0, width, most):
            last = min(first + most, width)
            for pixel, start in product(range(pixels), range(first, last, cols)):
                columns = range(min(last - first, cols))
                yield operand, [pixel * width + start + c if start + c < last else None for c in columns]

    return lines


def of_sums(call, operand, tile, shape, outputs, element):
    """Lines of the sums of a segment, output tile by output tile, as they lie in the accumulator."""
    cols = call.hw.array.cols
    boxes = [box for box, _ in pixel_tiles(tile, shape)]
    ranges = [range(n, min(n + tile["N"], outputs)) for n in range(0, outputs, tile["N"])]
    pairs = product(boxes, ranges) if tile["ORDER"] else ((box, ns) for ns, box in product(ranges, boxes))
    for box, ns in pairs:
        if str(call.hw.array.dataflow) == "is":
            for i, n in product(range(0, len(box), cols), ns):
                lanes = range(i, i + min(len(box), cols))
                yield operand, [element(*box[lane], n) if lane < len(box) else None for lane in lanes]
        else:
            for pixel, n in product(box, ns[::cols]):
                lanes = range(n, n + min(len(ns), cols))
                yield operand, [element(*pixel, lane) if lane < ns.stop else None for lane in lanes]


def of_linear(call):
    batch, width = call.shape(call.inputs)
    return of_sums(call, call.inputs, call.tiles[0], (batch, 1, 1), width, lambda b, h, v, n: b * width + n)


def of_conv2d(call):
    shape, groups = call.shape(call.inputs), call.attrs["groups"]
    outputs = shape[3] // groups
    for g in range(groups):
        yield from of_sums(
            call,
            call.inputs,
            call.tiles[0],
            shape[:3],
            outputs,
            lambda b, h, v, n, g=g: at(shape, b, h, v, g * outputs + n),
        )


def of_conv2d_dgrad(call):
    shape, groups = call.shape(2), call.attrs["groups"]
    width, tiles = shape[3] // groups, iter(call.tiles)
    sh, sw = call.attrs["stride"]

    def reached(axis, residue):
        stride, padding, dilation = (call.attrs[k][axis] for k in ("stride", "padding", "dilation"))
        return any((residue + padding - r * dilation) % stride == 0 for r in range(call.shape(1)[1 + axis]))

    for i, j in product(range(min(sh, shape[1])), range(min(sw, shape[2]))):
        if not reached(0, i) or not reached(1, j):
            continue
        tile, box = next(tiles), (shape[0], up(shape[1] - i, sh), up(shape[2] - j, sw))
        for g in range(groups):
            yield from of_sums(
                call,
                2,
                tile,
                box,
                width,
                lambda b, h, v, n, g=g, i=i, j=j: at(shape, b, i + h * sh, j + v * sw, g * width + n),
            )


def of_flatten(call):
    image = max((0, 1), key=lambda o: len(call.shape(o)))
    channels, cols = call.shape(image)[-1], call.hw.array.cols
    if channels * WIDTHS[call.format(image)] // 8 % call.hw.dram.beat_bytes:
        for first, start in product(range(0, int(np.prod(call.shape(0))), channels), range(0, channels, cols)):
            columns = range(start, start + min(channels, cols))
            yield 1, [first + c if c < channels else None for c in columns]


LINES: dict[str, Callable[[Call], Iterable[Line]]] = {
    "linear": of_linear,
    "linear_dgrad": of_linear,
    "conv2d": of_conv2d,
    "conv2d_dgrad": of_conv2d_dgrad,
    **dict.fromkeys(("relu", "relu6", "relu_dgrad", "relu6_dgrad", "add", "mean_squared_error_dgrad"), tiled),
    **{f"{name}_update": tiled for name in ("sgd", "momentum", "nesterov", "adam", "adamw")},
    "flatten": of_flatten,
    "flatten_dgrad": of_flatten,
    "batchnorm": along_channels(5, parts=True),
    "batchnorm_apply": along_channels(5, parts=True),
    "batchnorm_inference": along_channels(5, parts=True),
    "batchnorm_dgrad": along_channels(7, parts=True),
    "softmax_cross_entropy_dgrad": along_channels(2),
    # As long as all channels are streamed at once.
    "max_pool": along_channels(1),
    "avg_pool": along_channels(1),
    "max_pool_dgrad": along_channels(3),
    "avg_pool_dgrad": along_channels(1),
    "global_avg_pool": along_channels(1),
    "global_avg_pool_dgrad": along_channels(1),
}

RULES = {
    "linear": linear,
    "linear_dgrad": linear_dgrad,
    "linear_wgrad": linear_wgrad,
    "conv2d": conv2d,
    "conv2d_dgrad": conv2d_dgrad,
    "conv2d_wgrad": conv2d_wgrad,
    "bias_grad": bias_grad,
    "relu": elementwise(lambda x: clamp(x, 0, INF)),
    "relu6": elementwise(lambda x: clamp(x, 0, SIX)),
    "relu_dgrad": elementwise(lambda y, dy: select(y, dy, 0, INF)),
    "relu6_dgrad": elementwise(lambda y, dy: select(y, dy, 0, SIX)),
    "add": elementwise(add),
    "max_pool": max_pool,
    "max_pool_dgrad": max_pool_dgrad,
    "avg_pool": avg_pool,
    "avg_pool_dgrad": avg_pool_dgrad,
    "global_avg_pool": global_avg_pool,
    "global_avg_pool_dgrad": global_avg_pool_dgrad,
    "flatten": flatten,
    "flatten_dgrad": flatten,
    "batchnorm": batchnorm,
    "batchnorm_apply": batchnorm_apply,
    "batchnorm_inference": batchnorm_inference,
    "batchnorm_wgrad": batchnorm_wgrad,
    "batchnorm_dgrad": batchnorm_dgrad,
    "softmax_cross_entropy": softmax_cross_entropy,
    "softmax_cross_entropy_dgrad": softmax_cross_entropy_dgrad,
    "mean_squared_error": mean_squared_error,
    "mean_squared_error_dgrad": mean_squared_error_dgrad,
    **{f"{name}_update": update for name in ("sgd", "momentum", "nesterov", "adam", "adamw")},
}
