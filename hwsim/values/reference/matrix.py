"""Linear layer and convolution with their gradients: a matrix product per tap and group, summed over the taps."""

from __future__ import annotations

import numpy as np

from hwsim.values.reference.call import Array, Arrays, Call, Rule
from hwsim.values.reference.windows import inside, padded, taps

__all__ = ["RULES"]


def _linear(call: Call, x: Array, w: Array, bias: Array | None = None) -> Arrays:
    y = x @ w.T
    return (y if bias is None else y + bias,)


def _linear_dgrad(call: Call, dy: Array, w: Array) -> Arrays:
    return (dy @ w,)


def _linear_wgrad(call: Call, x: Array, dy: Array) -> Arrays:
    return (dy.T @ x,)


def _bias_grad(call: Call, dy: Array) -> Arrays:
    return (dy.sum(axis=tuple(range(dy.ndim - 1))),)


def _conv2d(call: Call, x: Array, w: Array, bias: Array | None = None) -> Arrays:
    a = call.attrs
    x = padded(x, a["padding"])
    outputs = _outputs(call, x.shape, w.shape)
    y = np.zeros((len(x), *outputs, len(w)))
    for r, s, at in taps(w.shape[1:3], outputs, a["stride"], a["dilation"]):
        y += _product(x[at], w[:, r, s], a["groups"])
    return (y if bias is None else y + bias,)


def _outputs(call: Call, x: tuple[int, ...], w: tuple[int, ...]) -> tuple[int, int]:
    """Windows per axis of a padded input; not those of the graph, since `evaluate` changes the batch only."""
    rows, columns = (
        (size - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, dilation in zip(
            x[1:3], w[1:3], call.attrs["stride"], call.attrs["dilation"], strict=True
        )
    )
    return rows, columns


def _conv2d_dgrad(call: Call, dy: Array, w: Array) -> Arrays:
    """Give back to every position what each tap took from it."""
    a, groups = call.attrs, call.attrs["groups"]
    dx = padded(np.zeros(call.shapes[0]), a["padding"])
    for r, s, at in taps(w.shape[1:3], dy.shape[1:3], a["stride"], a["dilation"]):
        dx[at] += _product(dy, _transposed(w[:, r, s], groups), groups)
    return (inside(dx, a["padding"]),)


def _conv2d_wgrad(call: Call, x: Array, dy: Array) -> Arrays:
    a, groups = call.attrs, call.attrs["groups"]
    x = padded(x, a["padding"])
    dw = np.zeros(call.shapes[0])
    for r, s, at in taps(dw.shape[1:3], dy.shape[1:3], a["stride"], a["dilation"]):
        dw[:, r, s] = (_by_group(dy, groups).swapaxes(1, 2) @ _by_group(x[at], groups)).reshape(len(dw), -1)
    return (dw,)


def _product(x: Array, w: Array, groups: int) -> Array:
    """Multiply pixels (…, in) by a tap's weights (out, in / groups), each group of channels by its own rows."""
    by_group = w.reshape(groups, -1, w.shape[1]).swapaxes(1, 2)
    y = _by_group(x, groups) @ by_group
    return y.swapaxes(0, 1).reshape(*x.shape[:-1], len(w))


def _by_group(x: Array, groups: int) -> Array:
    """Turn pixels (…, channels) into (groups, pixels, channels / groups)."""
    return x.reshape(-1, groups, x.shape[-1] // groups).swapaxes(0, 1)


def _transposed(w: Array, groups: int) -> Array:
    """Turn a tap's weights (out, in / groups) into (in, out / groups)."""
    return w.reshape(groups, -1, w.shape[1]).swapaxes(1, 2).reshape(groups * w.shape[1], -1)


RULES: dict[str, Rule] = {
    "linear": _linear,
    "linear_dgrad": _linear_dgrad,
    "linear_wgrad": _linear_wgrad,
    "bias_grad": _bias_grad,
    "conv2d": _conv2d,
    "conv2d_dgrad": _conv2d_dgrad,
    "conv2d_wgrad": _conv2d_wgrad,
}
