"""Rules of the fully connected layer and of the bias gradient, which convolutions share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hwsim.errors import HwsimError
from hwsim.workload.graph import Op, Phase
from hwsim.workload.ops.rule import Attrs, GradientOp, OpRule, Shape, Tensors, nothing, per_input

__all__ = ["RULES", "bias_operations"]


def bias_operations(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    """One addition per output where the op has a bias."""
    return outputs[0].elements if len(inputs) == 3 else 0


def _shapes(name: str, attrs: Attrs, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
    x, w = inputs[:2]
    if len(x) != 2:
        raise HwsimError(f"{name}: linear takes (batch, features); its input is {x}; flatten it first")
    if len(w) != 2 or w[1] != x[1]:
        raise HwsimError(f"{name}: the weight of linear is (out, features); it is {w} and the input is {x}")
    if inputs[2:] and inputs[2] != w[:1]:
        raise HwsimError(f"{name}: the bias of linear is (out,); it is {inputs[2]} and the weight is {w}")
    return ((x[0], w[0]),)


def _gradient(op: Op, dy: str, wanted: Callable[[str], bool]) -> Iterator[GradientOp]:
    x, w, *bias = op.inputs
    if wanted(w):
        yield GradientOp("linear_wgrad", Phase.WGRAD, (x, dy), of=(w,))
    if bias and wanted(bias[0]):
        yield GradientOp("bias_grad", Phase.WGRAD, (dy,), of=(bias[0],))
    if wanted(x):
        yield GradientOp("linear_dgrad", Phase.DGRAD, (dy, w), of=(x,))


def _forward_macs(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    return inputs[0].elements * outputs[0].shape[1]


def _dgrad_macs(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    dy, w = inputs
    return dy.elements * w.shape[1]


def _wgrad_macs(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    x, dy = inputs
    return x.elements * dy.shape[1]


RULES = (
    OpRule(kind="linear", shapes=_shapes, gradient=_gradient, macs=_forward_macs, vector_operations=bias_operations),
    OpRule(kind="linear_dgrad", macs=_dgrad_macs, vector_operations=nothing),
    OpRule(kind="linear_wgrad", macs=_wgrad_macs, vector_operations=nothing),
    OpRule(kind="bias_grad", macs=nothing, vector_operations=per_input(1)),
)
