"""Rule of the elementwise sum of two tensors; it also sums the gradients of a tensor with several readers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hwsim.errors import HwsimError
from hwsim.workload.graph import Op
from hwsim.workload.ops.rule import Attrs, OpRule, Shape, SharedGradient, nothing, per_output

__all__ = ["RULES"]


def _shapes(name: str, attrs: Attrs, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
    first, second = inputs
    if first != second:
        raise HwsimError(f"{name}: both inputs of add must have one shape; they are {first} and {second}")
    return (first,)


def _gradient(op: Op, dy: str, wanted: Callable[[str], bool]) -> Iterator[SharedGradient]:
    yield SharedGradient(of=op.inputs)


RULES = (OpRule(kind="add", shapes=_shapes, gradient=_gradient, macs=nothing, vector_operations=per_output(1)),)
