"""Rules of batch normalisation.

In training the batch's statistics normalise and the running ones follow in place; in inference
(`hwsim.workload.inference_graph`) the running ones normalise, and there is no gradient. What `hwsim.workload.recompute`
computes again, `batchnorm_apply` normalises by the batch's statistics as they were stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hwsim.errors import HwsimError
from hwsim.workload.graph import Op, Phase, Role
from hwsim.workload.ops.rule import (
    Attrs,
    CountRule,
    GradientOp,
    OpRule,
    Shape,
    gradient_name,
    nothing,
    per_input,
)

__all__ = ["RULES"]


def _shapes(name: str, attrs: Attrs, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
    x, *vectors = inputs
    if len(x) not in (2, 4):
        raise HwsimError(
            f"{name}: batchnorm takes (batch, features) or (batch, height, width, channels); its input is {x}"
        )
    wrong = [v for v in vectors if v != x[-1:]]
    if wrong:
        raise HwsimError(f"{name}: the vectors of batchnorm are (channels,); one is {wrong[0]} and the input is {x}")
    return (x, *[x[-1:]] * 4)


def _inference_shapes(name: str, attrs: Attrs, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
    return _shapes(name, attrs, inputs)[:1]


def _gradient(op: Op, dy: str, wanted: Callable[[str], bool]) -> Iterator[GradientOp]:
    x, gamma, beta = op.inputs[:3]
    _, mean, rstd = op.outputs[:3]
    trained = wanted(gamma) or wanted(beta)
    if trained or wanted(x):
        # dgrad needs these sums over the batch too, so a frozen layer computes them on the way to its input.
        phase = Phase.WGRAD if trained else Phase.DGRAD
        yield GradientOp("batchnorm_wgrad", phase, (x, dy, mean, rstd), of=(gamma, beta))
    if wanted(x):
        sums = (gradient_name(gamma), gradient_name(beta))
        yield GradientOp("batchnorm_dgrad", Phase.DGRAD, (x, dy, mean, rstd, gamma, *sums), of=(x,))


def _per_element_and_channel(element: int, channel: int) -> CountRule:
    return lambda op, inputs, outputs: element * inputs[0].elements + channel * inputs[0].shape[-1]


RULES = (
    OpRule(
        kind="batchnorm",
        shapes=_shapes,
        gradient=_gradient,
        macs=nothing,
        vector_operations=_per_element_and_channel(3, 10),
        outputs=(
            ("", Role.ACTIVATION),
            ("mean", Role.STATISTIC),
            ("rstd", Role.STATISTIC),
            ("running_mean", Role.BUFFER),
            ("running_var", Role.BUFFER),
        ),
    ),
    OpRule(
        kind="batchnorm_inference",
        shapes=_inference_shapes,
        macs=nothing,
        # One multiply-add per element; its two factors take five operations per channel.
        vector_operations=_per_element_and_channel(1, 5),
    ),
    # The last three operations per channel of batchnorm, and its last per element.
    OpRule(kind="batchnorm_apply", macs=nothing, vector_operations=_per_element_and_channel(1, 3)),
    OpRule(kind="batchnorm_wgrad", macs=nothing, vector_operations=per_input(3)),
    OpRule(kind="batchnorm_dgrad", macs=nothing, vector_operations=_per_element_and_channel(2, 8)),
)
