"""Rules of the losses: cross-entropy of the softmax, mean over the batch; squared error, mean over all elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hwsim.errors import HwsimError
from hwsim.workload.graph import Op, Phase, Role
from hwsim.workload.ops.rule import Attrs, GradientOp, OpRule, Shape, Tensors, nothing, per_input

__all__ = ["RULES"]


def _cross_entropy_shapes(name: str, attrs: Attrs, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
    logits, labels = inputs
    if len(logits) != 2:
        raise HwsimError(f"{name}: softmax_cross_entropy takes (batch, classes); its input is {logits}")
    if labels != logits[:1]:
        raise HwsimError(f"{name}: labels are (batch,); they are {labels} and the logits are {logits}")
    return (1,), logits


def _cross_entropy_gradient(op: Op, dy: str, wanted: Callable[[str], bool]) -> Iterator[GradientOp]:
    logits, labels = op.inputs
    if wanted(logits):
        yield GradientOp("softmax_cross_entropy_dgrad", Phase.DGRAD, (op.outputs[1], labels), of=(logits,))


def _cross_entropy_operations(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    logits = inputs[0]
    return 5 * logits.elements + 4 * logits.shape[0]


def _squared_error_shapes(name: str, attrs: Attrs, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
    prediction, target = inputs
    if len(prediction) < 2:
        raise HwsimError(f"{name}: mean_squared_error takes (batch, …), two axes or more; its input is {prediction}")
    if target != prediction:
        raise HwsimError(f"{name}: the target has the prediction's shape; they are {target} and {prediction}")
    return ((1,),)


def _squared_error_gradient(op: Op, dy: str, wanted: Callable[[str], bool]) -> Iterator[GradientOp]:
    if wanted(op.inputs[0]):
        yield GradientOp("mean_squared_error_dgrad", Phase.DGRAD, op.inputs, of=op.inputs[:1])


RULES = (
    OpRule(
        kind="softmax_cross_entropy",
        shapes=_cross_entropy_shapes,
        gradient=_cross_entropy_gradient,
        macs=nothing,
        vector_operations=_cross_entropy_operations,
        outputs=(("", Role.STATISTIC), ("probabilities", Role.STATISTIC)),
        is_loss=True,
    ),
    OpRule(
        kind="mean_squared_error",
        shapes=_squared_error_shapes,
        gradient=_squared_error_gradient,
        macs=nothing,
        vector_operations=per_input(2),
        outputs=(("", Role.STATISTIC),),
        is_loss=True,
    ),
    OpRule(kind="softmax_cross_entropy_dgrad", macs=nothing, vector_operations=per_input(2)),
    OpRule(kind="mean_squared_error_dgrad", macs=nothing, vector_operations=per_input(2)),
)
