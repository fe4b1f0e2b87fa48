"""Which streams each vector op needs: tiles, micro-operations, traffic.

One function per family of ops; `STREAMS` is the table by kind. What each op computes, in which order, is
docs/contracts/values.md, section 5; names of lines here are those of its table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.mapping.layout import element_bytes, format_of, image_of, pitch
from hwsim.mapping.matrix import Gap
from hwsim.mapping.stream import At, Box, Micro, Move, StepScalar, Stream, Tile
from hwsim.program import BMode
from hwsim.program import VectorOp as V
from hwsim.workload.graph import Graph, Op, Tensor

__all__ = ["STREAMS", "interleaved", "zero_stream"]

Rule = Callable[[Op, Sequence[Tensor], Accelerator], list[Stream]]


class _View:
    """Tensors of one shape, seen as units of lanes: elements where every line is dense, else lines."""

    def __init__(self, tensors: Sequence[Tensor], hw: Accelerator) -> None:
        bus, cols = hw.dram.beat_bytes, hw.array.cols
        self.cols, self.bus = cols, bus
        self.width = tensors[0].shape[-1]
        self.count = tensors[0].elements // self.width
        sizes = {element_bytes(t, hw) for t in tensors}
        self.dense = self.count == 1 or all((self.width * e) % bus == 0 for e in sizes)
        self.size = tensors[0].elements if self.dense else self.count
        self.quantum = cols if self.dense else 1
        self.unit = "elements" if self.dense else "lines"

    def lines(self, units: int) -> tuple[int, int]:
        """Accumulator lines and lanes of a tile."""
        if self.dense:
            return -(-units // self.cols), min(units, self.cols)
        return units * -(-self.width // self.cols), min(self.width, self.cols)

    def move(self, operand: int, e: int, units: int, line: int) -> Move:
        """Move a tile of elements of `e` bytes."""
        if self.dense:
            odd = units < self.size and (units * e) % self.bus != 0
            return Move(operand, (1, 1, 1), units * e, per_tile=units * e, odd=odd, element_bytes=e, line=line)
        step = pitch(self.width, e, self.bus)
        size = self.width * e
        return Move(operand, (1, 1, units), size, (0, 0, step), per_tile=units * step, element_bytes=e, line=line)


#: Given the box and the lanes of a tile and the first lines of its inputs, one after the other, then of one temporary:
#: the micro-operations.
Compute = Callable[[Box, int, Sequence[At]], list[Micro]]


def _elementwise(
    op: Op, tensors: Sequence[Tensor], hw: Accelerator, compute: Compute, results: Sequence[int], spare: int = 0
) -> list[Stream]:
    """Load every input, compute, store every output from the lines of one of `results` (the inputs', or a
    temporary's), element by element.
    """
    view = _View(tensors, hw)
    inputs = len(op.inputs)

    def tile(units: int) -> Tile:
        lines, columns = view.lines(units)
        moves = [view.move(i, element_bytes(t, hw), units, i * lines) for i, t in enumerate(tensors[:inputs])]
        stores = [
            view.move(inputs + i, element_bytes(t, hw), units, results[i] * lines)
            for i, t in enumerate(tensors[inputs:])
        ]
        micros = compute((1, 1, lines), columns, [At(i * lines) for i in range(inputs + spare)])
        return Tile(tuple(moves), tuple(micros), tuple(stores), lines * (inputs + spare))

    return [Stream(view.size, tile, quantum=view.quantum, unit=view.unit)]


def _clamp(high: float) -> Rule:
    def rule(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
        def compute(box: Box, columns: int, x: Sequence[At]) -> list[Micro]:
            return [Micro(V.CLAMP, box, columns, x[0], x[0], high=high, out=1)]

        return _elementwise(op, tensors, hw, compute, [0])

    return rule


def _select(high: float) -> Rule:
    def rule(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
        def compute(box: Box, columns: int, x: Sequence[At]) -> list[Micro]:
            return [Micro(V.SELECT, box, columns, x[1], x[0], x[1], high=high, out=2)]

        return _elementwise(op, tensors, hw, compute, [1])

    return rule


def _add(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    def compute(box: Box, columns: int, x: Sequence[At]) -> list[Micro]:
        return [Micro(V.ADD, box, columns, x[0], x[0], x[1], out=2)]

    return _elementwise(op, tensors, hw, compute, [0])


def _squared_error_dgrad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    scale = 2 / tensors[0].elements

    def compute(box: Box, columns: int, x: Sequence[At]) -> list[Micro]:
        return [
            Micro(V.SUBTRACT, box, columns, x[0], x[0], x[1]),
            Micro(V.MULTIPLY, box, columns, x[0], x[0], scale, out=2),
        ]

    return _elementwise(op, tensors, hw, compute, [0])


def _update(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Parameter update in place; rounds a copy to the operand format where the array needs one."""
    a, inputs = op.attrs, len(op.inputs)
    copied = len(op.outputs) > inputs - 1
    adam = op.kind in ("adam_update", "adamw_update")
    rate, decay = a["learning_rate"], a["weight_decay"]

    def compute(box: Box, columns: int, x: Sequence[At]) -> list[Micro]:
        def do(kind: V, dst: At, first: At, b: At | float | StepScalar, c: At | None = None) -> None:
            found.append(Micro(kind, box, columns, dst, first, b, c))

        found: list[Micro] = []
        p, g = x[:2]
        if op.kind == "adamw_update":
            do(V.MULTIPLY, p, p, 1 - rate * decay)
        elif decay:
            do(V.MULTIPLY_ADD, g, p, decay, g)
        if adam:
            m, v, t = x[2], x[3], x[4]
            do(V.MULTIPLY, t, g, 1 - a["beta1"])
            do(V.MULTIPLY_ADD, m, m, a["beta1"], t)
            do(V.MULTIPLY, t, g, g)
            do(V.MULTIPLY, t, t, 1 - a["beta2"])
            do(V.MULTIPLY_ADD, v, v, a["beta2"], t)
            do(V.MULTIPLY, t, v, StepScalar.ADAM_SECOND)
            found.append(Micro(V.RECIPROCAL_ROOT, box, columns, t, t))
            found.append(Micro(V.RECIPROCAL, box, columns, t, t))
            do(V.ADD, t, t, a["eps"])
            found.append(Micro(V.RECIPROCAL, box, columns, t, t))
            do(V.MULTIPLY, t, t, m)
            do(V.MULTIPLY_ADD, p, t, StepScalar.ADAM_STEP, p)
        elif op.kind == "sgd_update":
            do(V.MULTIPLY_ADD, p, g, -rate, p)
        else:
            velocity, step = x[2], x[2]
            do(V.MULTIPLY_ADD, velocity, velocity, a["momentum"], g)
            if op.kind == "nesterov_update":
                do(V.MULTIPLY_ADD, g, velocity, a["momentum"], g)
                step = g
            do(V.MULTIPLY_ADD, p, step, -rate, p)
        if copied:
            found.append(Micro(V.CONVERT, box, columns, x[-1], p, out=inputs + 1))
        for place, at in [(inputs, p), *enumerate(x[2:inputs], start=inputs + 1 + copied)]:
            if format_of(tensors[place], hw) != "fp32":
                found.append(Micro(V.CONVERT, box, columns, at, at, out=place))
        return found

    results = [0, *([inputs] if copied else []), *range(2, inputs)]
    return _elementwise(op, tensors, hw, compute, results, spare=int(copied or adam))


def _power_of_two(least: int) -> int:
    return 1 << max(0, least - 1).bit_length()


def interleaved(blocks: int, hw: Accelerator) -> int:
    """Lines of `blocks` blocks of lanes that a sum over pixels goes to in turn, so that none is needed before it is
    written; fewer where half the accumulator is small (docs/contracts/values.md, 5.1).
    """
    lines = _power_of_two(-(-hw.vector.latency_cycles // blocks))
    while lines > 1 and (4 * lines + 6) * blocks > hw.accumulator_slot_lines:
        lines //= 2
    return lines


@dataclass(frozen=True)
class _Sum:
    """A sum over pixels in fixed lines from `line` on: `turns` lines of `blocks` blocks, added to in turn."""

    line: int
    blocks: int
    columns: int
    turns: int

    @property
    def lines(self) -> int:
        return self.turns * self.blocks

    @property
    def total(self) -> At:
        """Where it is after `fold`."""
        return At(self.line, fixed=True)

    def clear(self) -> Micro:
        return Micro(V.SET, (1, 1, self.lines), self.columns, self.total)

    def add(self, pixels: int, a: int, b: int | None = None) -> list[Micro]:
        """Add the lines from `a` on, or their products with those from `b` on, of a tile."""
        found = []
        dst = At(self.line, (0, self.blocks, 1), fixed=True)
        for first, box in (
            (0, (pixels // self.turns, self.turns, self.blocks)),
            (pixels - pixels % self.turns, (1, pixels % self.turns, self.blocks)),
        ):
            if box[0] * box[1]:
                x = At(a + first * self.blocks)
                if b is None:
                    found.append(Micro(V.SUM_LINES, box, self.columns, dst, x))
                else:
                    y = At(b + first * self.blocks)
                    found.append(Micro(V.MULTIPLY_SUM_LINES, box, self.columns, dst, x, y))
        return found

    def fold(self) -> list[Micro]:
        found, half = [], self.turns // 2
        while half:
            other = At(self.line + half * self.blocks, fixed=True)
            found.append(Micro(V.ADD, (1, 1, half * self.blocks), self.columns, self.total, self.total, other))
            half //= 2
        return found


@dataclass(frozen=True)
class _Part:
    """Channels ``first … first + width − 1`` of a channel-last op."""

    first: int
    width: int
    whole: bool
    cols: int

    @property
    def blocks(self) -> int:
        """Accumulator lines per pixel."""
        return -(-self.width // self.cols)

    @property
    def columns(self) -> int:
        """Lanes of a line."""
        return min(self.width, self.cols)

    def sum(self, line: int, hw: Accelerator) -> _Sum:
        """Sum over pixels whose fixed lines begin at block `line`."""
        return _Sum(line, self.blocks, self.columns, interleaved(self.blocks, hw))

    def fixed(self, index: int) -> At:
        """Give the fixed line of one vector of parameters, the `index`-th."""
        return At(index * self.blocks, fixed=True)

    def spread(self, index: int) -> At:
        """Give the same line for every pixel."""
        return At(index * self.blocks, (0, 0, 1), fixed=True)

    def do(self, kind: V, dst: At, a: At, b: At | float | None = None, **more: float) -> Micro:
        """Apply a micro-operation to vectors of parameters."""
        return Micro(kind, (1, 1, self.blocks), self.columns, dst, a, b, **more)  # type: ignore[arg-type]

    def box(self, pixels: int) -> Box:
        """Lines of some pixels."""
        return (1, pixels, self.blocks)

    def vectors(self, places: Iterable[tuple[int, At]], hw: Accelerator) -> tuple[Move, ...]:
        """Move this part of per-channel fp32 vectors, each an operand and its fixed line."""
        odd = (4 * self.first) % hw.dram.beat_bytes != 0
        return tuple(
            Move(o, (1, 1, 1), 4 * self.width, offset=4 * self.first, odd=odd, line=at.line, fixed=True)
            for o, at in places
        )


#: Accumulator lines per block of lanes that a channelwise op may need for one pixel, its parameters and its sums.
_CHANNELWISE_LINES = 10


def _parts(width: int, hw: Accelerator) -> list[_Part]:
    """Cut channels so that parameters, sums and at least one pixel of each part fit half the accumulator."""
    cols = hw.array.cols
    most = max(1, hw.accumulator_slot_lines // _CHANNELWISE_LINES) * cols
    return [_Part(first, min(most, width - first), most >= width, cols) for first in range(0, width, most)]


def _pixels(
    operand: int, tensor: Tensor, hw: Accelerator, units: int, line: int = 0, part: _Part | None = None
) -> Move:
    """Move some pixels (lines), or a part of their channels."""
    e, width, bus = element_bytes(tensor, hw), tensor.shape[-1], hw.dram.beat_bytes
    step = pitch(width, e, bus)
    first, count = (0, width) if part is None else (part.first, part.width)
    return Move(
        operand,
        (1, 1, units),
        count * e,
        (0, 0, step),
        offset=first * e,
        per_tile=units * step,
        odd=(first * e) % bus != 0,
        element_bytes=e,
        line=line,
    )


def _channelwise(
    part: _Part,
    hw: Accelerator,
    loads: Sequence[tuple[int, Tensor]],
    store: tuple[int, Tensor, int] | None,
    micros: Callable[[int], list[Micro]],
    before: Tile,
    after: Tile | None = None,
    quantum: int = 1,
) -> Stream:
    """Stream pixels; lanes are channels. The lines of the i-th load are the i-th of the tile; `store` names operand,
    tensor and which load's lines hold the result.
    """
    tensor = loads[0][1]

    def tile(units: int) -> Tile:
        lines = units * part.blocks
        stores = () if store is None else (_pixels(store[0], store[1], hw, units, store[2] * lines, part),)
        return Tile(
            tuple(_pixels(o, t, hw, units, i * lines, part) for i, (o, t) in enumerate(loads)),
            tuple(micros(units)),
            stores,
            lines * len(loads),
        )

    size = tensor.elements // tensor.shape[-1]
    return Stream(size, tile, quantum=quantum, prologue=before, epilogue=after, unit="pixels")


def _batchnorm(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Two streams: sums over all pixels, then scale and shift."""
    # x gamma beta running_mean running_var → y mean rstd running_mean running_var: operands 0 … 9
    x = tensors[0]
    count = x.elements // x.shape[-1]
    if count < 2:
        raise HwsimError(
            f"{op.name}: batchnorm needs 2 values per channel or more, for an unbiased variance; it has {count}"
        )
    new = op.attrs["momentum"]
    streams = []
    for part in _parts(x.shape[-1], hw):
        streams.append(_batch_statistics(part, x, count, new, op.attrs["eps"], hw))
        streams.append(_normalised(part, x, (6, 7), (5, tensors[5]), hw))
    return streams


def _batchnorm_apply(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """The second of the streams of batch normalisation, alone."""
    # x gamma beta mean rstd → y: operands 0 … 5
    x = tensors[0]
    return [_normalised(part, x, (3, 4), (5, tensors[5]), hw) for part in _parts(x.shape[-1], hw)]


def _batch_statistics(part: _Part, x: Tensor, count: int, new: float, eps: float, hw: Accelerator) -> Stream:
    first = part.sum(3 * part.blocks, hw)
    second = part.sum(first.line + first.lines, hw)
    old_mean, old_variance, t = (part.fixed(i) for i in range(3))
    mean, variance = first.total, second.total
    before = Tile(
        part.vectors([(3, old_mean), (4, old_variance)], hw),
        (first.clear(), second.clear()),
        (),
        3 * part.blocks + 2 * first.lines,
    )
    finish = [
        *first.fold(),
        *second.fold(),
        part.do(V.MULTIPLY, mean, mean, 1 / count),
        part.do(V.MULTIPLY, variance, variance, 1 / count),
        part.do(V.MULTIPLY, t, mean, mean),
        part.do(V.SUBTRACT, variance, variance, t),
        part.do(V.CLAMP, variance, variance),
        part.do(V.MULTIPLY, t, mean, float(new)),
        replace(part.do(V.MULTIPLY_ADD, old_mean, old_mean, 1 - new), c=t),
        part.do(V.MULTIPLY, t, variance, new * count / (count - 1)),
        replace(part.do(V.MULTIPLY_ADD, old_variance, old_variance, 1 - new), c=t),
        part.do(V.ADD, variance, variance, float(eps)),
        part.do(V.RECIPROCAL_ROOT, variance, variance),
    ]
    results = [(6, mean), (7, variance), (8, old_mean), (9, old_variance)]
    after = Tile((), tuple(finish), part.vectors(results, hw), 0)

    def micros(pixels: int) -> list[Micro]:
        return [*first.add(pixels, 0), *second.add(pixels, 0, 0)]

    return _channelwise(part, hw, [(0, x)], None, micros, before, after, first.turns)


def _affine(part: _Part, gamma: At, beta: At, mean: At, rstd: At) -> tuple[Micro, ...]:
    """Make ``a = gamma · rstd`` in gamma's line, ``d = beta − mean · a`` in beta's."""
    return (
        part.do(V.MULTIPLY, gamma, gamma, rstd),
        part.do(V.MULTIPLY, mean, mean, gamma),
        part.do(V.SUBTRACT, beta, beta, mean),
    )


def _normalised(part: _Part, x: Tensor, statistics: tuple[int, int], y: tuple[int, Tensor], hw: Accelerator) -> Stream:
    """Scale and shift by mean and reciprocal deviation, the operands `statistics`; gamma and beta are 1 and 2."""
    gamma, beta, mean, rstd = (part.fixed(i) for i in range(4))
    vectors = [(1, gamma), (2, beta), (statistics[0], mean), (statistics[1], rstd)]
    before = Tile(part.vectors(vectors, hw), _affine(part, gamma, beta, mean, rstd), (), 4 * part.blocks)
    return _scaled(part, x, y, before, hw)


def _scaled(part: _Part, x: Tensor, y: tuple[int, Tensor], before: Tile, hw: Accelerator) -> Stream:
    """Give ``y = x · a + d``, a and d the first two vectors of parameters."""

    def micros(pixels: int) -> list[Micro]:
        box, lines = part.box(pixels), At(0)
        return [Micro(V.MULTIPLY_ADD, box, part.columns, lines, lines, part.spread(0), part.spread(1), out=y[0])]

    return _channelwise(part, hw, [(0, x)], (*y, 0), micros, before)


def _batchnorm_inference(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Scale and shift by the running statistics."""
    # x gamma beta running_mean running_var → y: operands 0 … 5
    streams = []
    for part in _parts(tensors[0].shape[-1], hw):
        gamma, beta, mean, rstd = (part.fixed(i) for i in range(4))
        first = (
            part.do(V.ADD, rstd, rstd, float(op.attrs["eps"])),
            part.do(V.RECIPROCAL_ROOT, rstd, rstd),
        )
        before = Tile(
            part.vectors([(1, gamma), (2, beta), (3, mean), (4, rstd)], hw),
            (*first, *_affine(part, gamma, beta, mean, rstd)),
            (),
            4 * part.blocks,
        )
        streams.append(_scaled(part, tensors[0], (5, tensors[5]), before, hw))
    return streams


def _batchnorm_wgrad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    # x dy mean rstd → dgamma dbeta: operands 0 … 5
    streams = []
    for part in _parts(tensors[0].shape[-1], hw):
        mean, rstd = part.fixed(0), part.fixed(1)
        dgamma = part.sum(2 * part.blocks, hw)
        dbeta = part.sum(dgamma.line + dgamma.lines, hw)
        first = (part.do(V.MULTIPLY, mean, mean, -1.0), part.do(V.MULTIPLY, mean, mean, rstd))
        before = Tile(
            part.vectors([(2, mean), (3, rstd)], hw),
            (*first, dgamma.clear(), dbeta.clear()),
            (),
            2 * part.blocks + 2 * dgamma.lines,
        )
        results = part.vectors([(4, dgamma.total), (5, dbeta.total)], hw)
        after = Tile((), (*dgamma.fold(), *dbeta.fold()), results, 0)

        def micros(pixels: int, part: _Part = part, dgamma: _Sum = dgamma, dbeta: _Sum = dbeta) -> list[Micro]:
            box, x, dy = part.box(pixels), At(0), pixels * part.blocks
            return [
                Micro(V.MULTIPLY_ADD, box, part.columns, x, x, part.spread(1), part.spread(0)),
                *dbeta.add(pixels, dy),
                *dgamma.add(pixels, 0, dy),
            ]

        loads = [(0, tensors[0]), (1, tensors[1])]
        # Without sums of more than one line, a fold is nothing, and the results must still pass the vector unit.
        after = after if after.micros else replace(after, micros=(part.do(V.COPY, mean, mean),))
        streams.append(_channelwise(part, hw, loads, None, micros, before, after, dgamma.turns))
    return streams


def _batchnorm_dgrad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    # x dy mean rstd gamma dgamma dbeta → dx: operands 0 … 7
    x, dy, dx = tensors[0], tensors[1], tensors[7]
    share = -x.shape[-1] / x.elements
    streams = []
    for part in _parts(x.shape[-1], hw):
        a, b, d, mean, dgamma = (part.fixed(i) for i in range(5))  # gamma, rstd and dbeta before
        before = Tile(
            part.vectors([(2, mean), (3, b), (4, a), (5, dgamma), (6, d)], hw),
            (
                part.do(V.MULTIPLY, a, a, b),
                part.do(V.MULTIPLY, b, a, b),
                part.do(V.MULTIPLY, b, b, dgamma),
                part.do(V.MULTIPLY, b, b, share),
                part.do(V.MULTIPLY, d, a, d),
                part.do(V.MULTIPLY, d, d, share),
                part.do(V.MULTIPLY, mean, b, mean),
                part.do(V.SUBTRACT, d, d, mean),
            ),
            (),
            5 * part.blocks,
        )

        def micros(pixels: int, part: _Part = part) -> list[Micro]:
            box, z, g = part.box(pixels), At(0), At(pixels * part.blocks)
            return [
                Micro(V.MULTIPLY_ADD, box, part.columns, z, z, part.spread(1), part.spread(2)),
                Micro(V.MULTIPLY_ADD, box, part.columns, g, g, part.spread(0), z, out=7),
            ]

        streams.append(_channelwise(part, hw, [(0, x), (1, dy)], (7, dx, 1), micros, before))
    return streams


def _bias_grad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    dy = tensors[0]
    streams = []
    for part in _parts(dy.shape[-1], hw):
        total = part.sum(0, hw)
        before = Tile((), (total.clear(),), (), total.lines)
        fold = tuple(total.fold()) or (part.do(V.COPY, total.total, total.total),)
        after = Tile((), fold, part.vectors([(1, total.total)], hw), 0)

        def micros(pixels: int, total: _Sum = total) -> list[Micro]:
            return total.add(pixels, 0)

        streams.append(_channelwise(part, hw, [(0, dy)], None, micros, before, after, total.turns))
    return streams


def _window(op: Op) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    return tuple(op.attrs["kernel"]), tuple(op.attrs["stride"]), tuple(op.attrs["padding"])


@dataclass(frozen=True)
class _Slice:
    """Channels of an image op that are streamed together: all, or (where a tile of all does not fit) one block of
    lanes at a time.
    """

    first: int
    width: int
    blocks: int  # accumulator lines per pixel
    repeats: int  # how many such slices lie side by side
    lanes: int  # lanes of a line

    def odd(self, element_bytes: int, bus: int) -> bool:
        """Whether it, or one of those beside it, starts off the bus's grid."""
        return (self.first * element_bytes) % bus != 0 or (self.repeats > 1 and (self.width * element_bytes) % bus != 0)


def _sliced(channels: int, hw: Accelerator, build: Callable[[_Slice], Stream]) -> list[Stream]:
    """Stream all channels at once if the smallest tile fits half the accumulator, else block by block."""
    cols = hw.array.cols
    whole = _Slice(0, channels, -(-channels // cols), 1, min(channels, cols))
    stream = build(whole)
    if channels <= cols or stream.tile(min(stream.quantum, stream.size)).sum_lines <= hw.accumulator_slot_lines:
        return [replace(stream, outers=stream.outers[:-1])]
    streams = [build(_Slice(0, cols, 1, channels // cols, cols))]
    if channels % cols:
        streams.append(build(_Slice(channels - channels % cols, channels % cols, 1, 1, channels % cols)))
    return streams


def _image_move(
    operand: int,
    tensor: Tensor,
    hw: Accelerator,
    part: _Slice,
    images: int,
    rows: int,
    start: int = 0,
    per_tile: int = 0,
    pixels: tuple[int, int] | None = None,
    line: int = 0,
) -> Move:
    """Pixel rows of some images, in a slice of channels; rows outside the image are padding. `pixels`: first and
    count, if not the whole row.

    One image is cut into tiles of rows (`per_tile` rows each) inside loops over images and slices; several images
    are a tile of their own.
    """
    _, height, width, _ = tensor.shape
    e, bus = element_bytes(tensor, hw), hw.dram.beat_bytes
    image = image_of(tensor.shape, e, bus)
    first, count = pixels or (0, width)
    by_images = per_tile == 0
    return Move(
        operand,
        (images, rows, count),
        part.width * e,
        (image.batch, image.row, image.pixel),
        offset=part.first * e,
        per_outer=(part.width * e,) if by_images else (image.batch, part.width * e),
        per_tile=image.batch * images if by_images else 0,
        start=start,
        start_w=first,
        rows_per_tile=per_tile,
        limits=(height, width),
        odd=part.odd(e, bus),
        element_bytes=e,
        line=line,
    )


def _taps(op: Op) -> list[tuple[int, int]]:
    """Taps of a window, row-major."""
    (kh, kw), _, _ = _window(op)
    return [(i, j) for i in range(kh) for j in range(kw)]


def _pool(maximum: bool) -> Rule:
    """Tiles of output rows: a micro-operation per tap over shifted input lines."""

    def rule(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
        x, y = tensors
        (kh, kw), (sh, sw), (ph, pw) = _window(op)
        width = (y.shape[2] - 1) * sw + kw

        def build(part: _Slice) -> Stream:
            def tile(rows: int) -> Tile:
                patch = (rows - 1) * sh + kh
                result = At(patch * width * part.blocks)
                box = (rows, y.shape[2], part.blocks)
                micros: list[Micro] = []
                for i, j in _taps(op):
                    steps = (sh * width * part.blocks, sw * part.blocks, 1)
                    tap = At((i * width + j) * part.blocks, steps)
                    if not micros:
                        micros.append(Micro(V.COPY, box, part.lanes, result, tap))
                    else:
                        kind = V.MAXIMUM if maximum else V.ADD
                        micros.append(Micro(kind, box, part.lanes, result, result, tap))
                if not maximum:
                    micros.append(Micro(V.MULTIPLY, box, part.lanes, result, result, 1 / (kh * kw)))
                micros[-1] = replace(micros[-1], out=1)
                if micros[-1].op is V.COPY:
                    micros[-1] = replace(micros[-1], op=V.CONVERT)
                load = _image_move(0, x, hw, part, 1, patch, -ph, rows * sh, (-pw, width))
                store = _image_move(1, y, hw, part, 1, rows, 0, rows, line=result.line)
                held = result.line + rows * y.shape[2] * part.blocks
                return Tile((replace(load, lowest=maximum),), tuple(micros), (store,), held)

            return Stream(y.shape[1], tile, outers=(y.shape[0], part.repeats), unit="output rows")

        return _sliced(x.shape[3], hw, build)

    return rule


def _pool_dgrad(maximum: bool) -> Rule:
    """Tiles of input rows: per tap, compare with the maximum (or not) and add the output gradient."""

    def rule(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
        dy, dx = tensors[-2], tensors[-1]
        (kh, kw), (sh, sw), (ph, pw) = _window(op)
        last = len(tensors) - 1
        height, width = dx.shape[1], dx.shape[2]
        # Input rows from r on, r a multiple of the stride, are touched by output rows from r ÷ stride − reach on.
        reach = (kh - 1 - ph) // sh
        span = (dy.shape[2] - 1) * sw + kw

        def build(part: _Slice) -> Stream:
            n = part.blocks

            def tile(rows: int) -> Tile:
                outs = min((rows - 1 + ph) // sh + 1, dy.shape[1]) + reach
                step = max(1, rows // sh)
                box, lines = (outs, dy.shape[2], n), outs * dy.shape[2] * n
                result, g = At(0), At(rows * width * n)
                moves = [_image_move(last - 1, dy, hw, part, 1, outs, -reach, step, line=g.line)]
                t, y, x = (At(g.line + i * lines) for i in (1, 2, 3))
                held = g.line + lines
                if maximum:
                    patch = (outs - 1) * sh + kh
                    moves.insert(0, _image_move(1, tensors[1], hw, part, 1, outs, -reach, step, line=y.line))
                    load = _image_move(
                        0, tensors[0], hw, part, 1, patch, -reach * sh - ph, rows, (-pw, span), line=x.line
                    )
                    moves.insert(0, replace(load, lowest=True))
                    held = x.line + patch * span * n
                micros = [Micro(V.SET, (1, 1, rows * width * n), part.lanes, result)]
                for i, j in _taps(op):
                    if maximum:
                        tap = At(x.line + (i * span + j) * n, (sh * span * n, sw * n, 1))
                        micros.append(Micro(V.SELECT_EQUAL, box, part.lanes, t, tap, y, g))
                    micros += _scattered(part, op, (i, j), (rows, width), dy.shape[2], reach, outs, t if maximum else g)
                    if maximum:
                        micros.append(Micro(V.SUBTRACT, box, part.lanes, g, g, t))
                all_lines = (1, 1, rows * width * n)
                if maximum:
                    micros.append(Micro(V.CONVERT, all_lines, part.lanes, result, result, out=last))
                else:
                    micros.append(Micro(V.MULTIPLY, all_lines, part.lanes, result, result, 1 / (kh * kw), out=last))
                store = _image_move(last, dx, hw, part, 1, rows, 0, rows)
                return Tile(tuple(moves), tuple(micros), (store,), held)

            return Stream(height, tile, outers=(dx.shape[0], part.repeats), quantum=min(sh, height), unit="input rows")

        return _sliced(dx.shape[3], hw, build)

    return rule


def _scattered(
    part: _Slice, op: Op, tap: tuple[int, int], shape: tuple[int, int], out_width: int, reach: int, outs: int, g: At
) -> list[Micro]:
    """Add one tap's gradients to the input positions that they belong to, those of them that lie in the tile."""
    _, (sh, sw), (ph, pw) = _window(op)
    (i, j), (rows, width), n = tap, shape, part.blocks
    o = [o for o in range(outs) if 0 <= (o - reach) * sh + i - ph < rows]
    c = [c for c in range(out_width) if 0 <= c * sw + j - pw < width]
    if not o or not c:
        return []
    place = ((o[0] - reach) * sh + i - ph) * width + c[0] * sw + j - pw
    dx = At(place * n, (sh * width * n, sw * n, 1))
    source = At(g.line + (o[0] * out_width + c[0]) * n, (out_width * n, n, 1))
    return [Micro(V.ADD, (len(o), len(c), n), part.lanes, dx, dx, source)]


def _channel_lines(operand: int, tensor: Tensor, hw: Accelerator, part: _Slice, images: int, at: int) -> Move:
    """One line of a slice of channels per image."""
    e, bus = element_bytes(tensor, hw), hw.dram.beat_bytes
    line = pitch(tensor.shape[-1], e, bus)
    return Move(
        operand,
        (1, 1, images),
        part.width * e,
        (0, 0, line),
        offset=part.first * e,
        per_tile=images * line,
        per_outer=(part.width * e,),
        odd=part.odd(e, bus),
        element_bytes=e,
        line=at,
    )


def _global_pool(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Tiles of whole images: add the pixels up, in several runs side by side, then the runs; scale."""
    x, y = tensors
    pixels = x.shape[1] * x.shape[2]

    def build(part: _Slice) -> Stream:
        n = part.blocks
        runs = min(_power_of_two(-(-hw.vector.latency_cycles // n)), pixels & -pixels)
        length = pixels // runs

        def tile(images: int) -> Tile:
            lines = images * runs
            sums = At(images * pixels * n)
            source, turn = At(0, (n, length * n, 1)), At(sums.line, (0, n, 1))
            micros = [
                Micro(V.SET, (1, lines, n), part.lanes, sums),
                Micro(V.SUM_LINES, (length, lines, n), part.lanes, turn, source),
            ]
            half, of_image = runs // 2, (runs * n, n, 1)
            while half:
                first, second = At(sums.line, of_image), At(sums.line + half * n, of_image)
                micros.append(Micro(V.ADD, (images, half, n), part.lanes, first, first, second))
                half //= 2
            total = At(sums.line, of_image)
            micros.append(Micro(V.MULTIPLY, (images, 1, n), part.lanes, At(0), total, 1 / pixels, out=1))
            load = _image_move(0, x, hw, part, images, x.shape[1])
            store = _channel_lines(1, y, hw, part, images, 0)
            return Tile((load,), tuple(micros), (store,), images * (pixels + runs) * n)

        return Stream(x.shape[0], tile, outers=(part.repeats,), unit="images")

    return _sliced(x.shape[3], hw, build)


def _global_pool_dgrad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Tiles of whole images: scale one line, store it for every pixel."""
    dy, dx = tensors
    pixels = dx.shape[1] * dx.shape[2]

    def build(part: _Slice) -> Stream:
        n = part.blocks

        def tile(images: int) -> Tile:
            g = At(images * pixels * n)
            micros = (
                Micro(V.MULTIPLY, (1, images, n), part.lanes, g, g, 1 / pixels, out=1),
                Micro(V.COPY, (images, pixels, n), part.lanes, At(0), At(g.line, (n, 0, 1))),
            )
            load = _channel_lines(0, dy, hw, part, images, g.line)
            store = _image_move(1, dx, hw, part, images, dx.shape[1])
            return Tile((load,), micros, (store,), images * (pixels + 1) * n)

        return Stream(dx.shape[0], tile, outers=(part.repeats,), unit="images")

    return _sliced(dx.shape[3], hw, build)


def _labels(operand: int, hw: Accelerator, rows: int, line: int) -> Move:
    odd = (4 * rows) % hw.dram.beat_bytes != 0
    return Move(operand, (1, 1, 1), 4 * rows, per_tile=4 * rows, odd=odd, line=line)


def _softmax(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Per row: subtract the maximum, exponentiate, divide by the sum; the loss is summed over the rows."""
    logits, probabilities = tensors[0], tensors[3]
    batch, classes = logits.shape
    cols = hw.array.cols
    blocks, lanes = -(-classes // cols), min(classes, cols)
    loss = _Sum(0, 1, 1, interleaved(1, hw))

    def tile(rows: int) -> Tile:
        wide, box, narrow = rows * blocks, (1, rows, blocks), (1, 1, rows)
        x, e = At(0), At(wide)
        t, s, total, labels = (2 * wide + i * rows for i in range(4))

        def across(kind: V, over_lanes: V, source: int) -> list[Micro]:
            """One number per row in line `s`: over the blocks first, then over the lanes."""
            found, at = [], At(source)
            if blocks > 1:
                at = At(t)
                found.append(Micro(V.COPY, narrow, lanes, at, At(source, (0, 0, blocks))))
                for block in range(1, blocks):
                    more = At(source + block, (0, 0, blocks))
                    found.append(Micro(kind, narrow, min(cols, classes - block * cols), at, at, more))
            return [*found, Micro(over_lanes, narrow, lanes, At(s), at)]

        of_row = At(s, (0, 1, 0), mode=BMode.LANE_0)
        label = At(labels, (0, 0, 0), mode=BMode.WORD_1)
        micros = [
            *across(V.MAXIMUM, V.MAXIMUM_LANES, x.line),
            Micro(V.SUBTRACT, box, lanes, x, x, of_row),
            Micro(V.EXP, box, lanes, e, x),
            *across(V.ADD, V.SUM_LANES, e.line),
            Micro(V.LOG, narrow, 1, At(total), At(s)),
            Micro(V.RECIPROCAL, narrow, 1, At(s), At(s)),
            Micro(V.MULTIPLY, box, lanes, e, e, of_row),
            Micro(V.SELECT_LABEL, box, lanes, x, x, label),
            *across(V.ADD, V.SUM_LANES, x.line),
            Micro(V.SUBTRACT, narrow, 1, At(total), At(total), At(s)),
            *loss.add(rows, total),
        ]
        return Tile(
            (_pixels(0, logits, hw, rows), _labels(1, hw, rows, labels)),
            tuple(micros),
            (_pixels(3, probabilities, hw, rows, e.line),),
            labels + -(-rows // cols),
        )

    before = Tile((), (loss.clear(),), (), loss.lines)
    mean = Micro(V.MULTIPLY, (1, 1, 1), 1, loss.total, loss.total, 1 / batch)
    after = Tile((), (*loss.fold(), mean), (Move(2, (1, 1, 1), 4, fixed=True),), 0)
    return [Stream(batch, tile, quantum=min(loss.turns, batch), prologue=before, epilogue=after, unit="rows")]


def _softmax_dgrad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    probabilities, _, gradient = tensors
    batch, classes = gradient.shape
    blocks, lanes = -(-classes // hw.array.cols), min(classes, hw.array.cols)

    def tile(rows: int) -> Tile:
        box, g, labels = (1, rows, blocks), At(0), rows * blocks
        micros = (
            Micro(V.SUBTRACT_LABEL, box, lanes, g, g, At(labels, (0, 0, 0), mode=BMode.WORD_1)),
            Micro(V.MULTIPLY, box, lanes, g, g, 1 / batch, out=2),
        )
        loads = (_pixels(0, probabilities, hw, rows), _labels(1, hw, rows, labels))
        return Tile(loads, micros, (_pixels(2, gradient, hw, rows),), labels + -(-rows // hw.array.cols))

    return [Stream(batch, tile, unit="rows")]


def _squared_error(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    view = _View(tensors[:2], hw)
    total = _Sum(0, 1, view.cols, interleaved(1, hw))

    def tile(units: int) -> Tile:
        lines, columns = view.lines(units)
        loads = tuple(view.move(i, element_bytes(t, hw), units, i * lines) for i, t in enumerate(tensors[:2]))
        difference = Micro(V.SUBTRACT, (1, 1, lines), columns, At(0), At(0), At(lines))
        sums = [replace(m, columns=columns) for m in total.add(lines, 0, 0)]
        return Tile(loads, (difference, *sums), (), 2 * lines)

    before = Tile((), (total.clear(),), (), total.lines)
    finish = (
        *total.fold(),
        Micro(V.SUM_LANES, (1, 1, 1), view.cols, total.total, total.total),
        Micro(V.MULTIPLY, (1, 1, 1), 1, total.total, total.total, 1 / tensors[0].elements),
    )
    after = Tile((), finish, (Move(2, (1, 1, 1), 4, fixed=True),), 0)
    quantum = min(view.quantum * total.turns, view.size)
    return [Stream(view.size, tile, quantum=quantum, prologue=before, epilogue=after, unit=view.unit)]


def _flatten(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """A view where pixels are dense; else a copy that closes the gaps between them."""
    image, flat = sorted(tensors, key=lambda t: -len(t.shape))
    channels, e, bus = image.shape[-1], element_bytes(image, hw), hw.dram.beat_bytes
    if (channels * e) % bus == 0:
        return []
    pixels = image.elements // image.shape[0] // channels
    near, far = pitch(channels, e, bus), pitch(flat.shape[-1], e, bus)
    blocks, lanes = -(-channels // hw.array.cols), min(channels, hw.array.cols)
    into_flat = tensors[1] is flat

    def tile(images: int) -> Tile:
        padded = Move(
            0 if into_flat else 1,
            (images, 1, pixels),
            channels * e,
            (pixels * near, 0, near),
            per_tile=images * pixels * near,
            element_bytes=e,
        )
        dense = Move(
            1 if into_flat else 0,
            (images, 1, pixels),
            channels * e,
            (far, 0, channels * e),
            per_tile=images * far,
            odd=True,
            element_bytes=e,
        )
        load, store = (padded, dense) if into_flat else (dense, padded)
        lines = images * pixels * blocks
        return Tile((load,), (Micro(V.CONVERT, (1, 1, lines), lanes, At(0), At(0), out=1),), (store,), lines)

    return [Stream(image.shape[0], tile, unit="images")]


def zero_stream(gaps: Sequence[Gap], tensor: Tensor, operand: int, hw: Accelerator) -> Stream:
    """Store zeros to the pixels that no tap of a strided convolution reaches."""
    e, cols = element_bytes(tensor, hw), hw.array.cols
    image = image_of(tensor.shape, e, hw.dram.beat_bytes)
    lines = -(-tensor.shape[-1] // cols)

    def tile(images: int) -> Tile:
        moves = tuple(
            Move(
                operand,
                (images, gap.rows, gap.pixels),
                tensor.shape[-1] * e,
                (image.batch, gap.row_bytes, gap.pixel_bytes),
                offset=gap.offset,
                per_tile=images * image.batch,
                element_bytes=e,
                repeats=True,
            )
            for gap in gaps
        )
        return Tile((), (Micro(V.SET, (1, 1, lines), cols, At(0)),), moves, lines)  # the same zeros serve every store

    return Stream(tensor.shape[0], tile, unit="images of zeros")


STREAMS: dict[str, Rule] = {
    "relu": _clamp(inf),
    "relu6": _clamp(6.0),
    "add": _add,
    "relu_dgrad": _select(inf),
    "relu6_dgrad": _select(6.0),
    "mean_squared_error_dgrad": _squared_error_dgrad,
    "sgd_update": _update,
    "momentum_update": _update,
    "nesterov_update": _update,
    "adam_update": _update,
    "adamw_update": _update,
    "batchnorm": _batchnorm,
    "batchnorm_apply": _batchnorm_apply,
    "batchnorm_inference": _batchnorm_inference,
    "batchnorm_wgrad": _batchnorm_wgrad,
    "batchnorm_dgrad": _batchnorm_dgrad,
    "bias_grad": _bias_grad,
    "max_pool": _pool(maximum=True),
    "avg_pool": _pool(maximum=False),
    "max_pool_dgrad": _pool_dgrad(maximum=True),
    "avg_pool_dgrad": _pool_dgrad(maximum=False),
    "global_avg_pool": _global_pool,
    "global_avg_pool_dgrad": _global_pool_dgrad,
    "softmax_cross_entropy": _softmax,
    "softmax_cross_entropy_dgrad": _softmax_dgrad,
    "mean_squared_error": _squared_error,
    "flatten": _flatten,
    "flatten_dgrad": _flatten,
}


def operands_of(op: Op, graph: Graph) -> tuple[Tensor, ...]:
    """Tensors that an op's programs number as operands: inputs, then outputs."""
    return graph.tensors_of(op.inputs) + graph.tensors_of(op.outputs)
