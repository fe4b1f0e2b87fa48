"""Rules of flattening images to features: bytes move where lines are padded, nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hwsim.workload.graph import Op, Phase
from hwsim.workload.ops.checks import images
from hwsim.workload.ops.rule import Attrs, GradientOp, OpRule, Shape, nothing

__all__ = ["RULES"]


def _shapes(name: str, attrs: Attrs, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
    batch, height, width, channels = images(name, "flatten", inputs[0])
    return ((batch, height * width * channels),)


def _gradient(op: Op, dy: str, wanted: Callable[[str], bool]) -> Iterator[GradientOp]:
    if wanted(op.inputs[0]):
        yield GradientOp("flatten_dgrad", Phase.DGRAD, (dy,), of=op.inputs)


RULES = (
    OpRule(kind="flatten", shapes=_shapes, gradient=_gradient, macs=nothing, vector_operations=nothing),
    OpRule(kind="flatten_dgrad", macs=nothing, vector_operations=nothing),
)
