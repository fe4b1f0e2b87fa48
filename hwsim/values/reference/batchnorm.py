"""Batch normalisation in PyTorch's convention.

The biased variance of the batch normalises; the running variance follows the unbiased one, with weight `momentum` for
the new statistics.
"""

from __future__ import annotations

import numpy as np

from hwsim.errors import HwsimError
from hwsim.values.reference.call import Array, Arrays, Call, Rule

__all__ = ["INFERENCE_RULES", "RULES"]


def _batchnorm(call: Call, x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array) -> Arrays:
    count = _count(x)
    if count < 2:
        raise HwsimError(
            f"{call.name}: batchnorm needs 2 values per channel or more, for an unbiased variance; it has {count}"
        )
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    rstd = 1 / np.sqrt(variance + call.attrs["eps"])
    new = call.attrs["momentum"]
    return (
        (x - mean) * rstd * gamma + beta,
        mean,
        rstd,
        (1 - new) * running_mean + new * mean,
        (1 - new) * running_var + new * variance * count / (count - 1),
    )


def _inferred(call: Call, x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array) -> Arrays:
    """Normalise by the running statistics."""
    rstd = 1 / np.sqrt(running_var + call.attrs["eps"])
    return ((x - running_mean) * rstd * gamma + beta,)


def _applied(call: Call, x: Array, gamma: Array, beta: Array, mean: Array, rstd: Array) -> Arrays:
    """Normalise again, by statistics of the batch that are known."""
    return ((x - mean) * rstd * gamma + beta,)


def _evaluated(call: Call, x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array) -> Arrays:
    """Infer with the training op: its statistics are the running ones, and stay what they are."""
    rstd = 1 / np.sqrt(running_var + call.attrs["eps"])
    y = _inferred(call, x, gamma, beta, running_mean, running_var)
    return (*y, running_mean, rstd, running_mean, running_var)


def _wgrad(call: Call, x: Array, dy: Array, mean: Array, rstd: Array) -> Arrays:
    axes = tuple(range(x.ndim - 1))
    return (dy * (x - mean) * rstd).sum(axes), dy.sum(axes)


def _dgrad(
    call: Call, x: Array, dy: Array, mean: Array, rstd: Array, gamma: Array, dgamma: Array, dbeta: Array
) -> Arrays:
    """Subtract from dy its mean and its share of the normalised input: both are what the statistics take back."""
    normalised = (x - mean) * rstd
    return (gamma * rstd * (dy - (dbeta + normalised * dgamma) / _count(x)),)


def _count(x: Array) -> int:
    """Values per channel."""
    return int(x.size // x.shape[-1])


RULES: dict[str, Rule] = {
    "batchnorm": _batchnorm,
    "batchnorm_apply": _applied,
    "batchnorm_inference": _inferred,
    "batchnorm_wgrad": _wgrad,
    "batchnorm_dgrad": _dgrad,
}

#: What replaces a rule outside training.
INFERENCE_RULES: dict[str, Rule] = {"batchnorm": _evaluated}
