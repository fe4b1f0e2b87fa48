"""Rectifiers, sum, flattening and argmax.

A rectifier's gradient passes strictly inside its linear range: it is 0 where the output is 0, and 0 where that of relu6
is 6. Of equal largest values argmax takes the first.
"""

from __future__ import annotations

import numpy as np

from hwsim.values.reference.call import Array, Arrays, Call, Rule

__all__ = ["RULES"]


def _relu(call: Call, x: Array) -> Arrays:
    return (np.maximum(x, 0),)


def _relu_dgrad(call: Call, y: Array, dy: Array) -> Arrays:
    return (np.where(y > 0, dy, 0),)


def _relu6(call: Call, x: Array) -> Arrays:
    return (np.clip(x, 0, 6),)


def _relu6_dgrad(call: Call, y: Array, dy: Array) -> Arrays:
    return (np.where((y > 0) & (y < 6), dy, 0),)


def _add(call: Call, a: Array, b: Array) -> Arrays:
    return (a + b,)


def _flatten(call: Call, x: Array) -> Arrays:
    """Features in row-major order: height, width, channel."""
    return (x.reshape(len(x), -1).copy(),)


def _flatten_dgrad(call: Call, dy: Array) -> Arrays:
    return (dy.reshape(call.shapes[0]).copy(),)


def _argmax(call: Call, x: Array) -> Arrays:
    return (x.argmax(-1).astype(np.float64),)


RULES: dict[str, Rule] = {
    "relu": _relu,
    "relu_dgrad": _relu_dgrad,
    "relu6": _relu6,
    "relu6_dgrad": _relu6_dgrad,
    "add": _add,
    "flatten": _flatten,
    "flatten_dgrad": _flatten_dgrad,
    "argmax": _argmax,
}
