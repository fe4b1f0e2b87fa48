"""Cross-entropy of the softmax, mean over the batch; squared error, mean over all elements."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.values.reference.call import Array, Arrays, Call, Rule

__all__ = ["RULES"]


def _cross_entropy(call: Call, logits: Array, labels: Array) -> Arrays:
    """Subtract the largest logit first, so that no exponential overflows."""
    shifted = logits - logits.max(1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(1)
    picked = shifted[np.arange(len(logits)), _classes(call, labels, logits.shape[1])]
    return np.array([(np.log(sums) - picked).mean()]), exponentials / sums[:, None]


def _cross_entropy_dgrad(call: Call, probabilities: Array, labels: Array) -> Arrays:
    """Probabilities less one at the label, over the batch."""
    samples, classes = probabilities.shape
    return ((probabilities - np.eye(classes)[_classes(call, labels, classes)]) / samples,)


def _classes(call: Call, labels: Array, classes: int) -> NDArray[np.int64]:
    wrong = labels[(labels != np.floor(labels)) | (labels < 0) | (labels >= classes)]
    if wrong.size:
        raise HwsimError(f"{call.name}: labels are whole numbers from 0 to {classes - 1}; one is {wrong[0]:g}")
    return labels.astype(np.int64)


def _squared_error(call: Call, prediction: Array, target: Array) -> Arrays:
    return (np.array([np.square(prediction - target).mean()]),)


def _squared_error_dgrad(call: Call, prediction: Array, target: Array) -> Arrays:
    return (2 * (prediction - target) / prediction.size,)


RULES: dict[str, Rule] = {
    "softmax_cross_entropy": _cross_entropy,
    "softmax_cross_entropy_dgrad": _cross_entropy_dgrad,
    "mean_squared_error": _squared_error,
    "mean_squared_error_dgrad": _squared_error_dgrad,
}
