"""The op kinds, one file per family. A new family is a new file with `RULES`, named in the tuple below."""

from __future__ import annotations

from hwsim.workload.ops import add, argmax, batchnorm, conv2d, flatten, linear, loss, pool, relu, update
from hwsim.workload.ops.rule import (
    GradientOp,
    OpRule,
    SharedGradient,
    gradient_name,
    macs,
    nothing,
    per_input,
    per_output,
    register,
    registered,
    rule_of,
    same_shape,
    vector_operations,
)

__all__ = [
    "GradientOp",
    "OpRule",
    "SharedGradient",
    "gradient_name",
    "macs",
    "nothing",
    "per_input",
    "per_output",
    "register",
    "registered",
    "rule_of",
    "same_shape",
    "vector_operations",
]

for _family in (linear, conv2d, batchnorm, relu, add, pool, flatten, argmax, loss, update):
    for _rule in _family.RULES:
        register(_rule)
