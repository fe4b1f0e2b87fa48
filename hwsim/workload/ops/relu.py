"""Rules of ReLU and ReLU6; the gradient reads the output, so the input need not be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hwsim.workload.graph import Op, Phase
from hwsim.workload.ops.rule import GradientOp, OpRule, nothing, per_output, same_shape

__all__ = ["RULES"]


def _gradient(op: Op, dy: str, wanted: Callable[[str], bool]) -> Iterator[GradientOp]:
    if wanted(op.inputs[0]):
        yield GradientOp(f"{op.kind}_dgrad", Phase.DGRAD, (op.outputs[0], dy), of=op.inputs)


RULES = (
    OpRule(kind="relu", shapes=same_shape, gradient=_gradient, macs=nothing, vector_operations=per_output(1)),
    OpRule(kind="relu6", shapes=same_shape, gradient=_gradient, macs=nothing, vector_operations=per_output(1)),
    OpRule(kind="relu_dgrad", macs=nothing, vector_operations=per_output(1)),
    OpRule(kind="relu6_dgrad", macs=nothing, vector_operations=per_output(1)),
)
