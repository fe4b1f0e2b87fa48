"""Which streams each vector op needs: tiles, micro-operations, traffic.

One function per family of ops; `STREAMS` is the table by kind. Micro-operations are those of `hwsim.program.vector_ops`; an op that stores newly
rounded values in the operand format ends with `CONVERT`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hwsim.hardware import Accelerator
from hwsim.mapping.layout import element_bytes, image_of, pitch
from hwsim.mapping.stream import Micro, Move, Stream, Tile
from hwsim.program import VectorOp as V
from hwsim.workload.graph import Graph, Op, Tensor

__all__ = ["STREAMS", "zero_stream"]

Rule = Callable[[Op, Sequence[Tensor], Accelerator], list[Stream]]


class _View:
    """Tensors of one shape, seen as units of lanes: elements where every line is dense, else lines."""

    def __init__(self, tensors: Sequence[Tensor], hw: Accelerator) -> None:
        bus, cols = hw.dram.bytes_per_cycle, hw.array.cols
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
            return Move(operand, (1, 1, 1), units * e, per_tile=units * e, odd=odd)
        line = pitch(self.width, e, self.bus)
        return Move(operand, (1, 1, units), self.width * e, (0, 0, line), per_tile=units * line)


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
        "adam_update": [V.MULTIPLY, V.MULTIPLY_ADD, V.MULTIPLY, V.MULTIPLY, V.MULTIPLY_ADD, V.MULTIPLY, V.RECIPROCAL_ROOT, V.RECIPROCAL, V.ADD,
                        V.RECIPROCAL, V.MULTIPLY, V.MULTIPLY_ADD],
    }  # fmt: skip
    micros["adamw_update"] = [V.MULTIPLY, *micros["adam_update"]]
    chosen = list(micros[op.kind])
    if decay and op.kind != "adamw_update":
        chosen.insert(0, V.MULTIPLY_ADD)
    rounded = len(op.outputs) > len(op.inputs) - 1
    if rounded:
        chosen.append(V.CONVERT)
    return _elementwise(chosen, temporaries=1 if rounded or "adam" in op.kind else 0)(op, tensors, hw)


def _channels(op_tensor: Tensor, hw: Accelerator) -> tuple[int, int, int]:
    """Lines (pixels), accumulator lines per pixel, and lanes of a channel-last tensor."""
    width = op_tensor.shape[-1]
    return op_tensor.elements // width, -(-width // hw.array.cols), min(width, hw.array.cols)


def _pixels(operand: int, tensor: Tensor, hw: Accelerator, units: int) -> Move:
    e, width = element_bytes(tensor, hw), tensor.shape[-1]
    line = pitch(width, e, hw.dram.bytes_per_cycle)
    if width * e == line:
        return Move(operand, (1, 1, 1), units * line, per_tile=units * line)
    return Move(operand, (1, 1, units), width * e, (0, 0, line), per_tile=units * line)


def _vectors(operands: Sequence[int], width: int) -> tuple[Move, ...]:
    """Whole per-channel fp32 vectors."""
    return tuple(Move(o, (1, 1, 1), 4 * width) for o in operands)


def _channelwise(
    tensor: Tensor, hw: Accelerator, loads: Sequence[tuple[int, Tensor]], stores: Sequence[tuple[int, Tensor]], micros: Sequence[V],
    before: Tile | None = None, after: Tile | None = None,
) -> Stream:  # fmt: skip
    """Stream pixels; lanes are channels."""
    count, blocks, lanes = _channels(tensor, hw)

    def tile(units: int) -> Tile:
        return Tile(
            tuple(_pixels(o, t, hw, units) for o, t in loads),
            tuple(Micro(m, units * blocks, lanes) for m in micros),
            tuple(_pixels(o, t, hw, units) for o, t in stores),
            units * blocks * len(loads),
        )

    return Stream(count, tile, prologue=before, epilogue=after, unit="pixels")


def _per_channel(ops: Sequence[V], blocks: int, lanes: int) -> tuple[Micro, ...]:
    return tuple(Micro(o, blocks, lanes) for o in ops)


def _batchnorm(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Two streams: sums over all pixels, then scale and shift."""
    x, y = tensors[0], tensors[len(op.inputs)]
    width = x.shape[-1]
    _, blocks, lanes = _channels(x, hw)
    # x gamma beta running_mean running_var → y mean rstd running_mean running_var: operands 0 … 9
    finish = [V.MULTIPLY, V.MULTIPLY, V.MULTIPLY_ADD, V.ADD, V.RECIPROCAL_ROOT]
    running = [V.MULTIPLY, V.MULTIPLY_ADD, V.MULTIPLY, V.MULTIPLY_ADD]
    statistics = _channelwise(
        x, hw, [(0, x)], [], [V.SUM_LINES, V.MULTIPLY_SUM_LINES],
        before=Tile(_vectors([3, 4], width), _per_channel([V.SET, V.SET], blocks, lanes), (), 4 * blocks),
        after=Tile((), _per_channel([*finish, *running], blocks, lanes), _vectors([6, 7, 8, 9], width), 2 * blocks),
    )  # fmt: skip
    normalise = _channelwise(
        x, hw, [(0, x)], [(5, y)], [V.MULTIPLY_ADD, V.CONVERT],
        before=Tile(_vectors([1, 2, 6, 7], width), _per_channel([V.MULTIPLY, V.MULTIPLY_ADD], blocks, lanes), (), 4 * blocks),
    )  # fmt: skip
    return [statistics, normalise]


def _batchnorm_wgrad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    x, dy = tensors[0], tensors[1]
    width = x.shape[-1]
    _, blocks, lanes = _channels(x, hw)
    before = Tile(_vectors([2, 3], width), _per_channel([V.MULTIPLY, V.SET, V.SET], blocks, lanes), (), 4 * blocks)
    after = Tile((), _per_channel([V.COPY], blocks, lanes), _vectors([4, 5], width), 0)
    micros = [V.MULTIPLY_ADD, V.SUM_LINES, V.MULTIPLY_SUM_LINES]
    return [_channelwise(x, hw, [(0, x), (1, dy)], [], micros, before=before, after=after)]


def _batchnorm_dgrad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    x, dy, dx = tensors[0], tensors[1], tensors[len(op.inputs)]
    width = x.shape[-1]
    _, blocks, lanes = _channels(x, hw)
    coefficients = [V.MULTIPLY, V.MULTIPLY, V.MULTIPLY, V.MULTIPLY, V.MULTIPLY, V.MULTIPLY_ADD, V.MULTIPLY, V.SUBTRACT]
    before = Tile(_vectors([2, 3, 4, 5, 6], width), _per_channel(coefficients, blocks, lanes), (), 6 * blocks)
    micros = [V.MULTIPLY_ADD, V.MULTIPLY_ADD, V.CONVERT]
    return [_channelwise(x, hw, [(0, x), (1, dy)], [(7, dx)], micros, before=before)]


def _bias_grad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    dy = tensors[0]
    width = dy.shape[-1]
    _, blocks, lanes = _channels(dy, hw)
    before = Tile((), _per_channel([V.SET], blocks, lanes), (), blocks)
    after = Tile((), _per_channel([V.COPY], blocks, lanes), _vectors([1], width), 0)
    return [_channelwise(dy, hw, [(0, dy)], [], [V.SUM_LINES], before=before, after=after)]


def _pool_window(op: Op) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    return tuple(op.attrs["kernel"]), tuple(op.attrs["stride"]), tuple(op.attrs["padding"])


def _image_move(
    operand: int, tensor: Tensor, hw: Accelerator, images: int, rows: int, start: int, per_tile: int, pixels: tuple[int, int] | None = None
) -> Move:  # fmt: skip
    """Whole pixel rows of some images; rows outside the image are padding. `pixels`: first and count, if not the whole row."""
    _, height, width, channels = tensor.shape
    e = element_bytes(tensor, hw)
    image = image_of(tensor.shape, e, hw.dram.bytes_per_cycle)
    first, count = pixels or (0, width)
    whole = rows == height and start == 0
    by_image = image.batch * images if whole else 0
    return Move(
        operand, (images, rows, count), channels * e, (image.batch, image.row, image.pixel), per_outer=image.batch,
        per_tile=by_image, start=start, start_w=first, rows_per_tile=per_tile, limits=(height, width),
    )  # fmt: skip


def _pool(forward: V, scale: bool) -> Rule:
    """Tiles of output rows: k² micro-operations over shifted input lines."""

    def rule(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
        x, y = tensors
        (kh, kw), (sh, sw), (ph, pw) = _pool_window(op)
        blocks, lanes = -(-x.shape[3] // hw.array.cols), min(x.shape[3], hw.array.cols)
        micros = [forward] * (kh * kw) + ([V.MULTIPLY, V.CONVERT] if scale else [])
        columns = (-pw, (y.shape[2] - 1) * sw + kw)

        def tile(rows: int) -> Tile:
            patch = (rows - 1) * sh + kh
            out = rows * y.shape[2] * blocks
            load = _image_move(0, x, hw, 1, patch, -ph, rows * sh, columns)
            store = _image_move(1, y, hw, 1, rows, 0, rows)
            return Tile((_no_image_step(load),), tuple(Micro(m, out, lanes) for m in micros), (_no_image_step(store),),
                        patch * columns[1] * blocks + out)  # fmt: skip

        return [Stream(y.shape[1], tile, outer=y.shape[0], unit="output rows")]

    return rule


def _no_image_step(move: Move) -> Move:
    """Tiles that are rows of one image move by rows, images by the outer loop."""
    fields = {name: getattr(move, name) for name in Move.__dataclass_fields__}
    return Move(**{**fields, "per_tile": 0})


def _covering(rows: int, kernel: int, stride: int, limit: int) -> int:
    """Output rows whose windows can touch `rows` input rows, wherever those begin on a multiple of the stride."""
    if kernel <= stride:
        return min(-(-rows // stride), limit)
    return min((rows + kernel - 2) // stride + 1, limit)


def _pool_dgrad(maximum: bool) -> Rule:
    """Tiles of input rows: per tap, compare with the maximum (or not) and add the output gradient."""

    def rule(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
        dy, dx = tensors[-2], tensors[-1]
        (kh, kw), (sh, sw), (ph, pw) = _pool_window(op)
        blocks, lanes = -(-dx.shape[3] // hw.array.cols), min(dx.shape[3], hw.array.cols)
        height, width = dx.shape[1], dx.shape[2]
        reach = -(-(kh - 1 - ph) // sh) if kh > sh else 0  # output rows before the first one that a tile shares

        def tile(rows: int) -> Tile:
            outs = _covering(rows, kh, sh, dy.shape[1])
            out, here = outs * dy.shape[2] * blocks, rows * width * blocks
            moves: list[Move] = []
            if maximum:
                patch = (outs - 1) * sh + kh
                span = (dy.shape[2] - 1) * sw + kw
                moves.append(_image_move(0, tensors[0], hw, 1, patch, -reach * sh - ph, rows, (-pw, span)))
                moves.append(_image_move(1, tensors[1], hw, 1, outs, -reach, max(1, rows // sh)))
            moves.append(_image_move(len(tensors) - 2, dy, hw, 1, outs, -reach, max(1, rows // sh)))
            lines = here + sum(m.lines[1] * m.lines[2] for m in moves) * blocks
            taps = [V.SELECT, V.ADD] if maximum else [V.ADD]
            micros = [Micro(V.SET, here, lanes), *(Micro(m, out, lanes) for _ in range(kh * kw) for m in taps)]
            if not maximum:
                micros.append(Micro(V.MULTIPLY, here, lanes))
            micros.append(Micro(V.CONVERT, here, lanes))
            store = _image_move(len(tensors) - 1, dx, hw, 1, rows, 0, rows)
            return Tile(tuple(map(_no_image_step, moves)), tuple(micros), (_no_image_step(store),), lines)

        return [Stream(height, tile, outer=dx.shape[0], quantum=min(sh, height), unit="input rows")]

    return rule


def _global_pool(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Whole images or, where they do not fit, one after the other in rows: add the pixels up, scale."""
    x, y = tensors
    pixels = x.shape[1] * x.shape[2]
    blocks, lanes = -(-x.shape[3] // hw.array.cols), min(x.shape[3], hw.array.cols)
    line = pitch(x.shape[3], hw.operand_bytes, hw.dram.bytes_per_cycle)

    def tile(images: int) -> Tile:
        load = _image_move(0, x, hw, images, x.shape[1], 0, 0)
        store = Move(1, (1, 1, images), x.shape[3] * hw.operand_bytes, (0, 0, line), per_tile=images * line)
        micros = (
            Micro(V.SUM_LINES, images * pixels * blocks, lanes),
            Micro(V.MULTIPLY, images * blocks, lanes),
            Micro(V.CONVERT, images * blocks, lanes),
        )
        return Tile((load,), micros, (store,), images * (pixels + 1) * blocks)

    return [Stream(x.shape[0], tile, unit="images")]


def _global_pool_dgrad(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    dy, dx = tensors
    pixels = dx.shape[1] * dx.shape[2]
    blocks, lanes = -(-dx.shape[3] // hw.array.cols), min(dx.shape[3], hw.array.cols)
    line = pitch(dx.shape[3], hw.operand_bytes, hw.dram.bytes_per_cycle)

    def tile(images: int) -> Tile:
        load = Move(0, (1, 1, images), dx.shape[3] * hw.operand_bytes, (0, 0, line), per_tile=images * line)
        store = _image_move(1, dx, hw, images, dx.shape[1], 0, 0)
        micros = (
            Micro(V.MULTIPLY, images * blocks, lanes),
            Micro(V.CONVERT, images * blocks, lanes),
            Micro(V.COPY, images * pixels * blocks, lanes),
        )
        return Tile((load,), micros, (store,), images * (pixels + 1) * blocks)

    return [Stream(dx.shape[0], tile, unit="images")]


def _labels(operand: int, hw: Accelerator, rows: int) -> Move:
    odd = (4 * rows) % hw.dram.bytes_per_cycle != 0
    return Move(operand, (1, 1, 1), 4 * rows, per_tile=4 * rows, odd=odd)


def _softmax(op: Op, tensors: Sequence[Tensor], hw: Accelerator) -> list[Stream]:
    """Per row: subtract the maximum, exponentiate, divide by the sum; the loss is summed over the rows."""
    logits, probabilities = tensors[0], tensors[3]
    blocks, lanes = -(-logits.shape[1] // hw.array.cols), min(logits.shape[1], hw.array.cols)

    def tile(rows: int) -> Tile:
        wide, narrow = rows * blocks, rows
        micros = [(V.MAXIMUM_LANES, wide, lanes), (V.SUBTRACT, wide, lanes), (V.EXP, wide, lanes), (V.SUM_LANES, wide, lanes)]
        micros += [(V.RECIPROCAL, narrow, 1), (V.MULTIPLY, wide, lanes), (V.LOG, narrow, 1)]
        micros += [(V.SELECT, wide, lanes), (V.SUM_LANES, wide, lanes), (V.SUBTRACT, narrow, 1), (V.SUM_LINES, narrow, 1)]
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
        micros = tuple(Micro(m, rows * blocks, lanes) for m in (V.SUBTRACT, V.MULTIPLY, V.CONVERT))
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
    channels, e, bus = image.shape[-1], hw.operand_bytes, hw.dram.bytes_per_cycle
    if (channels * e) % bus == 0:
        return []
    pixels = image.elements // image.shape[0] // channels
    near, far = pitch(channels, e, bus), pitch(flat.shape[-1], e, bus)
    blocks, lanes = -(-channels // hw.array.cols), min(channels, hw.array.cols)
    into_flat = tensors[1] is flat

    def tile(images: int) -> Tile:
        padded = Move(0 if into_flat else 1, (images, 1, pixels), channels * e, (pixels * near, 0, near), per_tile=images * pixels * near)
        dense = Move(1 if into_flat else 0, (images, 1, pixels), channels * e, (far, 0, channels * e), per_tile=images * far, odd=True)
        load, store = (padded, dense) if into_flat else (dense, padded)
        return Tile((load,), (Micro(V.COPY, images * pixels * blocks, lanes),), (store,), images * pixels * blocks)

    return [Stream(image.shape[0], tile, unit="images")]


def zero_stream(lines: int, line_bytes: int, operand: int) -> Callable[[Accelerator], Stream]:
    """Store zeros to `lines` lines that no tap of a strided convolution reaches."""

    def stream(hw: Accelerator) -> Stream:
        before = Tile((), (Micro(V.SET, 1, hw.array.cols),), (), 1)

        def tile(units: int) -> Tile:
            move = Move(operand, (1, 1, units), line_bytes, (0, 0, line_bytes), per_tile=units * line_bytes)
            return Tile((), (), (move,), 0)

        return Stream(lines, tile, prologue=before, unit="zero lines")

    return stream


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
