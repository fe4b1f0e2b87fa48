"""Rules of the 2-D convolution: implicit GEMM in all three phases, dgrad by residue classes of the stride."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

from hwsim.errors import HwsimError
from hwsim.workload.graph import Op, Phase, Tensor
from hwsim.workload.ops.checks import images, windows
from hwsim.workload.ops.linear import bias_operations
from hwsim.workload.ops.rule import Attrs, GradientOp, OpRule, Shape, Tensors, nothing

__all__ = ["RULES", "tap_pairs"]


def _shapes(name: str, attrs: Attrs, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
    batch, height, width, channels = images(name, "conv2d", inputs[0])
    w = inputs[1]
    _check_groups(name, attrs["groups"], channels, w[0])
    if len(w) != 4 or w[3] * attrs["groups"] != channels:
        raise HwsimError(
            f"{name}: the weight of conv2d is (out, kernel_h, kernel_w, in / groups); "
            f"it is {w} and the input is {inputs[0]}"
        )
    if inputs[2:] and inputs[2] != w[:1]:
        raise HwsimError(f"{name}: the bias of conv2d is (out,); it is {inputs[2]} and the weight is {w}")
    rows, columns = windows(name, (height, width), (w[1], w[2]), attrs["stride"], attrs["padding"], attrs["dilation"])
    return ((batch, rows, columns, w[0]),)


def _check_groups(name: str, groups: int, channels: int, out: int) -> None:
    if channels % groups or out % groups:
        raise HwsimError(
            f"{name}: groups must divide the channels in and out; groups is {groups}, channels are {channels} and {out}"
        )


def _gradient(op: Op, dy: str, wanted: Callable[[str], bool]) -> Iterator[GradientOp]:
    x, w, *bias = op.inputs
    if wanted(w):
        yield GradientOp("conv2d_wgrad", Phase.WGRAD, (x, dy), (w,), op.attrs)
    if bias and wanted(bias[0]):
        yield GradientOp("bias_grad", Phase.WGRAD, (dy,), (bias[0],))
    if wanted(x):
        yield GradientOp("conv2d_dgrad", Phase.DGRAD, (dy, w), (x,), op.attrs)


def _macs(y: Tensor, w: Tensor) -> int:
    """Every output of `y` takes all taps and input channels of its filter, those in the padding too."""
    return y.elements * prod(w.shape[1:])


def _forward_macs(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    return _macs(outputs[0], inputs[1])


def _wgrad_macs(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    return _macs(inputs[1], outputs[0])


def _dgrad_macs(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    w, dx = inputs[1].shape, outputs[0].shape
    axes = zip(dx[1:3], w[1:3], op.attrs["stride"], op.attrs["padding"], op.attrs["dilation"], strict=True)
    return dx[0] * prod(tap_pairs(*axis) for axis in axes) * w[3] * w[0]


def tap_pairs(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Pairs (input position, tap) that dgrad multiplies along one axis.

    Tap `r` joins input position `i` to output position `(i + padding − r·dilation) / stride`, if that is whole. Which
    taps do so depends only on `i mod stride`: the positions of one residue class share their taps, and the others are
    never executed. Taps that lead outside the output are executed on zeros and count.

    Examples
    --------
    >>> tap_pairs(size=4, kernel=3, stride=1, padding=1, dilation=1)  # all 3 taps everywhere
    12
    >>> tap_pairs(size=4, kernel=3, stride=2, padding=1, dilation=1)  # even: the middle tap; odd: the two others
    6
    """
    pairs = 0
    for residue in range(min(stride, size)):
        positions = (size - residue - 1) // stride + 1
        taps = sum((residue + padding - tap * dilation) % stride == 0 for tap in range(kernel))
        pairs += positions * taps
    return pairs


RULES = (
    OpRule(kind="conv2d", shapes=_shapes, gradient=_gradient, macs=_forward_macs, vector_operations=bias_operations),
    OpRule(kind="conv2d_dgrad", macs=_dgrad_macs, vector_operations=nothing),
    OpRule(kind="conv2d_wgrad", macs=_wgrad_macs, vector_operations=nothing),
)
