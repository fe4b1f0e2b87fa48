"""Rules of the optimizer updates, one op per parameter; the optimizers themselves are `hwsim.workload.optimizers`."""

from __future__ import annotations

from hwsim.workload.graph import Op
from hwsim.workload.ops.rule import CountRule, OpRule, Tensors, nothing, per_input

__all__ = ["RULES"]


def _with_decay(without: int) -> CountRule:
    """Weight decay costs one multiply-add more per parameter."""

    def count(op: Op, inputs: Tensors, outputs: Tensors) -> int:
        decay = 1 if op.attrs["weight_decay"] else 0
        return (without + decay) * inputs[0].elements

    return count


RULES = (
    OpRule(kind="sgd_update", macs=nothing, vector_operations=_with_decay(1)),
    OpRule(kind="momentum_update", macs=nothing, vector_operations=_with_decay(2)),
    OpRule(kind="nesterov_update", macs=nothing, vector_operations=_with_decay(3)),
    OpRule(kind="adam_update", macs=nothing, vector_operations=_with_decay(12)),
    OpRule(kind="adamw_update", macs=nothing, vector_operations=per_input(13)),
)
