"""Rules of max, average and global average pooling. Averages divide by the whole window, padding included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

from hwsim.errors import HwsimError
from hwsim.workload.graph import Op, Phase
from hwsim.workload.ops.checks import images, windows
from hwsim.workload.ops.rule import Attrs, GradientOp, OpRule, Shape, Tensors, nothing, per_input

__all__ = ["RULES"]


def _shapes(kind: str) -> Callable[[str, Attrs, tuple[Shape, ...]], tuple[Shape, ...]]:
    def shapes(name: str, attrs: Attrs, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        batch, height, width, channels = images(name, kind, inputs[0])
        kernel, padding = attrs["kernel"], attrs["padding"]
        if 2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]:
            # A wider margin would hold windows without a single input.
            raise HwsimError(f"{name}: padding must be at most half the kernel; padding is {padding}, kernel {kernel}")
        return ((batch, *windows(name, (height, width), kernel, attrs["stride"], padding), channels),)

    return shapes


def _global_shapes(name: str, attrs: Attrs, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
    batch, _, _, channels = images(name, "global_avg_pool", inputs[0])
    return ((batch, channels),)


def _max_gradient(op: Op, dy: str, wanted: Callable[[str], bool]) -> Iterator[GradientOp]:
    if wanted(op.inputs[0]):
        yield GradientOp("max_pool_dgrad", Phase.DGRAD, (op.inputs[0], op.outputs[0], dy), op.inputs, op.attrs)


def _avg_gradient(op: Op, dy: str, wanted: Callable[[str], bool]) -> Iterator[GradientOp]:
    if wanted(op.inputs[0]):
        yield GradientOp(f"{op.kind}_dgrad", Phase.DGRAD, (dy,), op.inputs, op.attrs)


def _taps(op: Op) -> int:
    height, width = op.attrs["kernel"]
    return int(height * width)


def _max_operations(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    """Per output: a comparison per tap but the first."""
    return (_taps(op) - 1) * outputs[0].elements


def _max_dgrad_operations(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    """Per output of the pool and tap: one comparison, one addition."""
    return 2 * _taps(op) * inputs[2].elements


def _avg_operations(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    """Per output: an addition per tap but the first, one multiplication."""
    return _taps(op) * outputs[0].elements


def _avg_dgrad_operations(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    """Per output of the pool an addition per tap that is no padding, per input a multiplication."""
    batch, *outs, channels = inputs[0].shape
    pairs = prod(
        sum(0 <= out * stride + tap - padding < size for out in range(count) for tap in range(kernel))
        for count, size, kernel, stride, padding in zip(
            outs, outputs[0].shape[1:3], op.attrs["kernel"], op.attrs["stride"], op.attrs["padding"], strict=True
        )
    )
    return int(batch * channels * pairs + outputs[0].elements)


def _global_operations(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    return inputs[0].elements + outputs[0].elements


RULES = (
    OpRule(
        kind="max_pool",
        shapes=_shapes("max_pool"),
        gradient=_max_gradient,
        macs=nothing,
        vector_operations=_max_operations,
    ),
    OpRule(
        kind="avg_pool",
        shapes=_shapes("avg_pool"),
        gradient=_avg_gradient,
        macs=nothing,
        vector_operations=_avg_operations,
    ),
    OpRule(
        kind="global_avg_pool",
        shapes=_global_shapes,
        gradient=_avg_gradient,
        macs=nothing,
        vector_operations=_global_operations,
    ),
    OpRule(kind="max_pool_dgrad", macs=nothing, vector_operations=_max_dgrad_operations),
    OpRule(kind="avg_pool_dgrad", macs=nothing, vector_operations=_avg_dgrad_operations),
    OpRule(kind="global_avg_pool_dgrad", macs=nothing, vector_operations=per_input(1)),
)
