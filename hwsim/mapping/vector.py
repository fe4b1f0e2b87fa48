"""Which streams each vector op needs: tiles, micro-operations, traffic.

One function per family of ops; `STREAMS` is the table by kind. Micro-operations are those of
`hwsim.program.vector_ops`; an op that stores newly
rounded values in the operand format ends with `CONVERT`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hwsim.hardware import Accelerator
from hwsim.mapping.layout import element_bytes, image_of, pitch
from hwsim.mapping.matrix import Gap
from hwsim.mapping.stream import Micro, Move, Stream, Tile
from hwsim.program import VectorOp as V
from hwsim.workload.graph import Graph, Op, Tensor

__all__ = ["STREAMS", "zero_stream"]

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

    def move(self, operand: int, e: int, units: int) -> Move:
        """Move a tile of elements of `e` bytes."""
        if self.dense:
            odd = units < self.size and (units * e) % self.bus != 0
            return Move(operand, (1, 1, 1), units * e, per_tile=units * e, odd=odd, element_bytes=e)
        line = pitch(self.width, e, self.bus)
        return Move(operand, (1, 1, units), self.width * e, (0, 0, line), per_tile=units * line, element_bytes=e)


def _elementwise(micros: Sequence[V], temporaries: int = 0) -> Rule:
    """Load every input, compute, store every output, element by element."""

    def rule(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
        view = _View(tensors, hw)
        inputs = len(op.inputs)

        def tile(units: int) -> Tile:
            lines, columns = view.lines(units)
            moves = [view.move(i, element_bytes(t, hw), units) for i, t in enumerate(tensors)]
            return Tile(
                tuple(moves[:inputs]),
                tuple(Micro(m, lines, columns) for m in micros),
                tuple(moves[inputs:]),
                lines * (inputs + temporaries),
            )

        return [Stream(view.size, tile, quantum=view.quantum, unit=view.unit)]

    return rule


def _update(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Parameter update; rounds a copy to the operand format where the array needs one."""
    decay = bool(op.attrs.get("weight_decay"))
    micros = {
        "sgd_update": [V.MULTIPLY_ADD],
        "momentum_update": [V.MULTIPLY_ADD, V.MULTIPLY_ADD],
        "nesterov_update": [V.MULTIPLY_ADD, V.MULTIPLY_ADD, V.MULTIPLY_ADD],
        "adam_update": [
            V.MULTIPLY,
            V.MULTIPLY_ADD,
            V.MULTIPLY,
            V.MULTIPLY,
            V.MULTIPLY_ADD,
            V.MULTIPLY,
            V.RECIPROCAL_ROOT,
            V.RECIPROCAL,
            V.ADD,
            V.RECIPROCAL,
            V.MULTIPLY,
            V.MULTIPLY_ADD,
        ],
    }
    micros["adamw_update"] = [V.MULTIPLY, *micros["adam_update"]]
    chosen = list(micros[op.kind])
    if decay and op.kind != "adamw_update":
        chosen.insert(0, V.MULTIPLY_ADD)
    rounded = len(op.outputs) > len(op.inputs) - 1
    if rounded:
        chosen.append(V.CONVERT)
    return _elementwise(chosen, temporaries=1 if rounded or "adam" in op.kind else 0)(op, tensors, hw)


@dataclass(frozen=True)
class _Part:
    """Channels ``first … first + width − 1`` of a channel-last op."""

    first: int
    width: int
    whole: bool

    def blocks(self, hw: Accelerator) -> int:
        """Accumulator lines per pixel."""
        return -(-self.width // hw.array.cols)

    def micros(self, ops: Sequence[V], hw: Accelerator, pixels: int = 1) -> tuple[Micro, ...]:
        """Apply micro-operations to the lines of some pixels."""
        return tuple(Micro(o, pixels * self.blocks(hw), min(self.width, hw.array.cols)) for o in ops)

    def vectors(self, operands: Sequence[int], hw: Accelerator) -> tuple[Move, ...]:
        """Move this part of per-channel fp32 vectors."""
        odd = (4 * self.first) % hw.dram.beat_bytes != 0
        return tuple(Move(o, (1, 1, 1), 4 * self.width, offset=4 * self.first, odd=odd) for o in operands)


#: Accumulator lines per block of lanes that a channelwise op may need for one pixel, its parameters and its sums.
_CHANNELWISE_LINES = 10


def _parts(width: int, hw: Accelerator) -> list[_Part]:
    """Cut channels so that parameters, sums and at least one pixel of each part fit half the accumulator."""
    cols = hw.array.cols
    most = max(1, hw.accumulator_slot_lines // _CHANNELWISE_LINES) * cols
    return [_Part(first, min(most, width - first), most >= width) for first in range(0, width, most)]


def _pixels(operand: int, tensor: Tensor, hw: Accelerator, units: int, part: _Part | None = None) -> Move:
    """Move some pixels (lines), or a part of their channels."""
    e, width, bus = element_bytes(tensor, hw), tensor.shape[-1], hw.dram.beat_bytes
    line = pitch(width, e, bus)
    if part is not None and not part.whole:
        odd = (part.first * e) % bus != 0
        return Move(
            operand,
            (1, 1, units),
            part.width * e,
            (0, 0, line),
            offset=part.first * e,
            per_tile=units * line,
            odd=odd,
            element_bytes=e,
        )
    if width * e == line:
        return Move(operand, (1, 1, 1), units * line, per_tile=units * line, element_bytes=e)
    return Move(operand, (1, 1, units), width * e, (0, 0, line), per_tile=units * line, element_bytes=e)


def _channelwise(
    part: _Part,
    hw: Accelerator,
    loads: Sequence[tuple[int, Tensor]],
    stores: Sequence[tuple[int, Tensor]],
    micros: Sequence[V],
    before: Tile,
    after: Tile | None = None,
) -> Stream:
    """Stream pixels; lanes are channels."""
    tensor = loads[0][1]

    def tile(units: int) -> Tile:
        return Tile(
            tuple(_pixels(o, t, hw, units, part) for o, t in loads),
            part.micros(micros, hw, units),
            tuple(_pixels(o, t, hw, units, part) for o, t in stores),
            units * part.blocks(hw) * len(loads),
        )

    return Stream(tensor.elements // tensor.shape[-1], tile, prologue=before, epilogue=after, unit="pixels")


def _batchnorm(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Two streams: sums over all pixels, then scale and shift."""
    x, y = tensors[0], tensors[len(op.inputs)]
    # x gamma beta running_mean running_var → y mean rstd running_mean running_var: operands 0 … 9
    finish = [V.MULTIPLY, V.MULTIPLY, V.MULTIPLY_ADD, V.ADD, V.RECIPROCAL_ROOT]
    running = [V.MULTIPLY, V.MULTIPLY_ADD, V.MULTIPLY, V.MULTIPLY_ADD]
    streams = []
    for part in _parts(x.shape[-1], hw):
        blocks = part.blocks(hw)
        before = Tile(part.vectors([3, 4], hw), part.micros([V.SET, V.SET], hw), (), 4 * blocks)
        after = Tile((), part.micros([*finish, *running], hw), part.vectors([6, 7, 8, 9], hw), 2 * blocks)
        sums = [V.SUM_LINES, V.MULTIPLY_SUM_LINES]
        streams.append(_channelwise(part, hw, [(0, x)], [], sums, before, after))
        before = Tile(part.vectors([1, 2, 6, 7], hw), part.micros([V.MULTIPLY, V.MULTIPLY_ADD], hw), (), 4 * blocks)
        streams.append(_channelwise(part, hw, [(0, x)], [(5, y)], [V.MULTIPLY_ADD, V.CONVERT], before))
    return streams


def _batchnorm_wgrad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    x, dy = tensors[0], tensors[1]
    streams = []
    for part in _parts(x.shape[-1], hw):
        before = Tile(part.vectors([2, 3], hw), part.micros([V.MULTIPLY, V.SET, V.SET], hw), (), 4 * part.blocks(hw))
        after = Tile((), part.micros([V.COPY], hw), part.vectors([4, 5], hw), 0)
        micros = [V.MULTIPLY_ADD, V.SUM_LINES, V.MULTIPLY_SUM_LINES]
        streams.append(_channelwise(part, hw, [(0, x), (1, dy)], [], micros, before, after))
    return streams


def _batchnorm_dgrad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    x, dy, dx = tensors[0], tensors[1], tensors[len(op.inputs)]
    coefficients = [V.MULTIPLY] * 5 + [V.MULTIPLY_ADD, V.MULTIPLY, V.SUBTRACT]
    streams = []
    for part in _parts(x.shape[-1], hw):
        before = Tile(part.vectors([2, 3, 4, 5, 6], hw), part.micros(coefficients, hw), (), 6 * part.blocks(hw))
        micros = [V.MULTIPLY_ADD, V.MULTIPLY_ADD, V.CONVERT]
        streams.append(_channelwise(part, hw, [(0, x), (1, dy)], [(7, dx)], micros, before))
    return streams


def _bias_grad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    dy = tensors[0]
    streams = []
    for part in _parts(dy.shape[-1], hw):
        before = Tile((), part.micros([V.SET], hw), (), part.blocks(hw))
        after = Tile((), part.micros([V.COPY], hw), part.vectors([1], hw), 0)
        streams.append(_channelwise(part, hw, [(0, dy)], [], [V.SUM_LINES], before, after))
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

    @property
    def lanes(self) -> int:
        return -(-self.width // self.blocks)

    def odd(self, element_bytes: int, bus: int) -> bool:
        """Whether it, or one of those beside it, starts off the bus's grid."""
        return (self.first * element_bytes) % bus != 0 or (self.repeats > 1 and (self.width * element_bytes) % bus != 0)


def _sliced(channels: int, hw: Accelerator, build: Callable[[_Slice], Stream]) -> list[Stream]:
    """Stream all channels at once if the smallest tile fits half the accumulator, else block by block."""
    cols = hw.array.cols
    whole = _Slice(0, channels, -(-channels // cols), 1)
    stream = build(whole)
    if channels <= cols or stream.tile(min(stream.quantum, stream.size)).sum_lines <= hw.accumulator_slot_lines:
        return [replace(stream, outers=stream.outers[:-1])]
    streams = [build(_Slice(0, cols, 1, channels // cols))]
    if channels % cols:
        streams.append(build(_Slice(channels - channels % cols, channels % cols, 1, 1)))
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
    )


def _pool(forward: V, scale: bool) -> Rule:
    """Tiles of output rows: k² micro-operations over shifted input lines."""

    def rule(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
        x, y = tensors
        (kh, kw), (sh, sw), (ph, pw) = _window(op)
        micros = [forward] * (kh * kw) + ([V.MULTIPLY, V.CONVERT] if scale else [])
        columns = (-pw, (y.shape[2] - 1) * sw + kw)

        def build(part: _Slice) -> Stream:
            def tile(rows: int) -> Tile:
                patch = (rows - 1) * sh + kh
                out = rows * y.shape[2] * part.blocks
                load = _image_move(0, x, hw, part, 1, patch, -ph, rows * sh, columns)
                load = replace(load, lowest=forward is V.MAXIMUM)
                store = _image_move(1, y, hw, part, 1, rows, 0, rows)
                held = patch * columns[1] * part.blocks + out
                return Tile((load,), tuple(Micro(m, out, part.lanes) for m in micros), (store,), held)

            return Stream(y.shape[1], tile, outers=(y.shape[0], part.repeats), unit="output rows")

        return _sliced(x.shape[3], hw, build)

    return rule


def _pool_dgrad(maximum: bool) -> Rule:
    """Tiles of input rows: per tap, compare with the maximum (or not) and add the output gradient."""

    def rule(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
        dy, dx = tensors[-2], tensors[-1]
        (kh, kw), (sh, sw), (ph, pw) = _window(op)
        height, width = dx.shape[1], dx.shape[2]
        # Input rows from r on, r a multiple of the stride, are touched by output rows from r ÷ stride − reach on.
        reach = (kh - 1 - ph) // sh
        span = (dy.shape[2] - 1) * sw + kw

        def build(part: _Slice) -> Stream:
            def tile(rows: int) -> Tile:
                outs = min((rows - 1 + ph) // sh + 1, dy.shape[1]) + reach
                out, here = outs * dy.shape[2] * part.blocks, rows * width * part.blocks
                step = max(1, rows // sh)
                moves = [_image_move(len(tensors) - 2, dy, hw, part, 1, outs, -reach, step)]
                if maximum:
                    patch = (outs - 1) * sh + kh
                    moves.insert(0, _image_move(1, tensors[1], hw, part, 1, outs, -reach, step))
                    moves.insert(0, _image_move(0, tensors[0], hw, part, 1, patch, -reach * sh - ph, rows, (-pw, span)))
                taps = [V.SELECT_EQUAL, V.ADD] if maximum else [V.ADD]
                micros = [Micro(V.SET, here, part.lanes)]
                micros += [Micro(m, out, part.lanes) for _ in range(kh * kw) for m in taps]
                micros += [] if maximum else [Micro(V.MULTIPLY, here, part.lanes)]
                micros.append(Micro(V.CONVERT, here, part.lanes))
                store = _image_move(len(tensors) - 1, dx, hw, part, 1, rows, 0, rows)
                held = here + sum(m.lines[1] * m.lines[2] for m in moves) * part.blocks
                return Tile(tuple(moves), tuple(micros), (store,), held)

            return Stream(height, tile, outers=(dx.shape[0], part.repeats), quantum=min(sh, height), unit="input rows")

        return _sliced(dx.shape[3], hw, build)

    return rule


def _channel_lines(operand: int, tensor: Tensor, hw: Accelerator, part: _Slice, images: int) -> Move:
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
    )


def _global_pool(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Tiles of whole images: add the pixels up, scale."""
    x, y = tensors
    pixels = x.shape[1] * x.shape[2]

    def build(part: _Slice) -> Stream:
        def tile(images: int) -> Tile:
            micros = (
                Micro(V.SUM_LINES, images * pixels * part.blocks, part.lanes),
                Micro(V.MULTIPLY, images * part.blocks, part.lanes),
                Micro(V.CONVERT, images * part.blocks, part.lanes),
            )
            load = _image_move(0, x, hw, part, images, x.shape[1])
            return Tile((load,), micros, (_channel_lines(1, y, hw, part, images),), images * (pixels + 1) * part.blocks)

        return Stream(x.shape[0], tile, outers=(part.repeats,), unit="images")

    return _sliced(x.shape[3], hw, build)


def _global_pool_dgrad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Tiles of whole images: scale one line, store it for every pixel."""
    dy, dx = tensors
    pixels = dx.shape[1] * dx.shape[2]

    def build(part: _Slice) -> Stream:
        def tile(images: int) -> Tile:
            micros = (
                Micro(V.MULTIPLY, images * part.blocks, part.lanes),
                Micro(V.CONVERT, images * part.blocks, part.lanes),
                Micro(V.COPY, images * pixels * part.blocks, part.lanes),
            )
            load, store = _channel_lines(0, dy, hw, part, images), _image_move(1, dx, hw, part, images, dx.shape[1])
            return Tile((load,), micros, (store,), images * (pixels + 1) * part.blocks)

        return Stream(dx.shape[0], tile, outers=(part.repeats,), unit="images")

    return _sliced(dx.shape[3], hw, build)


def _labels(operand: int, hw: Accelerator, rows: int) -> Move:
    odd = (4 * rows) % hw.dram.beat_bytes != 0
    return Move(operand, (1, 1, 1), 4 * rows, per_tile=4 * rows, odd=odd)


def _softmax(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Per row: subtract the maximum, exponentiate, divide by the sum; the loss is summed over the rows."""
    logits, probabilities = tensors[0], tensors[3]
    blocks, lanes = -(-logits.shape[1] // hw.array.cols), min(logits.shape[1], hw.array.cols)

    def tile(rows: int) -> Tile:
        wide, narrow = rows * blocks, rows
        micros = [
            (V.MAXIMUM_LANES, wide, lanes),
            (V.SUBTRACT, wide, lanes),
            (V.EXP, wide, lanes),
            (V.SUM_LANES, wide, lanes),
        ]
        if blocks > 1:  # one partial result per block of lanes
            more = rows * (blocks - 1)
            micros += [(V.MAXIMUM, more, 1), (V.ADD, more, 1), (V.ADD, more, 1)]
        micros += [(V.RECIPROCAL, narrow, 1), (V.MULTIPLY, wide, lanes), (V.LOG, narrow, 1)]
        micros += [
            (V.SELECT_LABEL, wide, lanes),
            (V.SUM_LANES, wide, lanes),
            (V.SUBTRACT, narrow, 1),
            (V.SUM_LINES, narrow, 1),
        ]
        return Tile(
            (_pixels(0, logits, hw, rows), _labels(1, hw, rows)),
            tuple(Micro(*m) for m in micros),
            (_pixels(3, probabilities, hw, rows),),
            2 * wide + 3 * narrow,
        )

    before = Tile((), (Micro(V.SET, 1, 1),), (), 1)
    after = Tile((), (Micro(V.MULTIPLY, 1, 1),), (Move(2, (1, 1, 1), 4),), 0)
    return [Stream(logits.shape[0], tile, prologue=before, epilogue=after, unit="rows")]


def _softmax_dgrad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    probabilities, _, gradient = tensors
    blocks, lanes = -(-gradient.shape[1] // hw.array.cols), min(gradient.shape[1], hw.array.cols)

    def tile(rows: int) -> Tile:
        micros = tuple(Micro(m, rows * blocks, lanes) for m in (V.SUBTRACT_LABEL, V.MULTIPLY, V.CONVERT))
        loads = (_pixels(0, probabilities, hw, rows), _labels(1, hw, rows))
        return Tile(loads, micros, (_pixels(2, gradient, hw, rows),), rows * blocks + rows)

    return [Stream(gradient.shape[0], tile, unit="rows")]


def _squared_error(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    view = _View(tensors[:2], hw)

    def tile(units: int) -> Tile:
        lines, columns = view.lines(units)
        loads = tuple(view.move(i, element_bytes(t, hw), units) for i, t in enumerate(tensors[:2]))
        return Tile(loads, tuple(Micro(m, lines, columns) for m in (V.SUBTRACT, V.MULTIPLY_SUM_LINES)), (), 2 * lines)

    before = Tile((), (Micro(V.SET, 1, view.cols),), (), 1)
    after = Tile((), (Micro(V.SUM_LANES, 1, view.cols), Micro(V.MULTIPLY, 1, 1)), (Move(2, (1, 1, 1), 4),), 0)
    return [Stream(view.size, tile, quantum=view.quantum, prologue=before, epilogue=after, unit=view.unit)]


def _flatten(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """A view where pixels are dense; else a copy that closes the gaps between them."""
    image, flat = sorted(tensors, key=lambda t: -len(t.shape))
    channels, e, bus = image.shape[-1], hw.operand_bytes, hw.dram.beat_bytes
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
        return Tile((load,), (Micro(V.COPY, images * pixels * blocks, lanes),), (store,), images * pixels * blocks)

    return [Stream(image.shape[0], tile, unit="images")]


def zero_stream(gaps: Sequence[Gap], tensor: Tensor, operand: int, hw: Accelerator) -> Stream:
    """Store zeros to the pixels that no tap of a strided convolution reaches."""
    e, cols = element_bytes(tensor, hw), hw.array.cols
    image = image_of(tensor.shape, e, hw.dram.beat_bytes)

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
            )
            for gap in gaps
        )
        return Tile((), (Micro(V.SET, 1, cols),), moves, 1)  # one line of zeros serves every store

    return Stream(tensor.shape[0], tile, unit="images of zeros")


STREAMS: dict[str, Rule] = {
    "relu": _elementwise([V.CLAMP]),
    "relu6": _elementwise([V.CLAMP, V.CONVERT]),
    "add": _elementwise([V.ADD, V.CONVERT]),
    "relu_dgrad": _elementwise([V.SELECT]),
    "relu6_dgrad": _elementwise([V.SELECT]),
    "mean_squared_error_dgrad": _elementwise([V.SUBTRACT, V.MULTIPLY, V.CONVERT]),
    "sgd_update": _update,
    "momentum_update": _update,
    "nesterov_update": _update,
    "adam_update": _update,
    "adamw_update": _update,
    "batchnorm": _batchnorm,
    "batchnorm_wgrad": _batchnorm_wgrad,
    "batchnorm_dgrad": _batchnorm_dgrad,
    "bias_grad": _bias_grad,
    "max_pool": _pool(V.MAXIMUM, scale=False),
    "avg_pool": _pool(V.ADD, scale=True),
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
