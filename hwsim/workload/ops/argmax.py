"""Rule of argmax over the last axis: forward only, for a prediction that hangs beside the loss."""

from __future__ import annotations

from hwsim.workload.graph import Role
from hwsim.workload.ops.rule import Attrs, OpRule, Shape, nothing, per_input

__all__ = ["RULES"]


def _shapes(name: str, attrs: Attrs, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
    return (inputs[0][:-1],)


RULES = (
    OpRule(
        kind="argmax",
        shapes=_shapes,
        macs=nothing,
        vector_operations=per_input(1),
        outputs=(("", Role.STATISTIC),),
    ),
)
