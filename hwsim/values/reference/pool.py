"""Max, average and global average pooling with their gradients.

Padding is never the largest of a window. Of equal largest inputs of a window, the first in row-major order gets the
whole gradient. Averages divide by all taps of the window, padding included.
"""

from __future__ import annotations

import numpy as np

from hwsim.values.reference.call import Array, Arrays, Call, Rule
from hwsim.values.reference.windows import inside, padded, taps

__all__ = ["RULES"]


def _max_pool(call: Call, x: Array) -> Arrays:
    x = padded(x, call.attrs["padding"], -np.inf)
    y = np.full((len(x), *_outputs(call, x), x.shape[-1]), -np.inf)
    for _, _, at in taps(call.attrs["kernel"], y.shape[1:3], call.attrs["stride"]):
        np.maximum(y, x[at], out=y)
    return (y,)


def _max_pool_dgrad(call: Call, x: Array, y: Array, dy: Array) -> Arrays:
    x = padded(x, call.attrs["padding"], -np.inf)
    dx, open_windows = np.zeros(x.shape), np.ones(y.shape, bool)
    for _, _, at in taps(call.attrs["kernel"], y.shape[1:3], call.attrs["stride"]):
        first = open_windows & (x[at] == y)
        dx[at] += np.where(first, dy, 0)
        open_windows &= ~first
    return (inside(dx, call.attrs["padding"]),)


def _avg_pool(call: Call, x: Array) -> Arrays:
    x = padded(x, call.attrs["padding"])
    y = np.zeros((len(x), *_outputs(call, x), x.shape[-1]))
    for _, _, at in taps(call.attrs["kernel"], y.shape[1:3], call.attrs["stride"]):
        y += x[at]
    return (y / _taps(call),)


def _avg_pool_dgrad(call: Call, dy: Array) -> Arrays:
    dx = padded(np.zeros(call.shapes[0]), call.attrs["padding"])
    for _, _, at in taps(call.attrs["kernel"], dy.shape[1:3], call.attrs["stride"]):
        dx[at] += dy / _taps(call)
    return (inside(dx, call.attrs["padding"]),)


def _outputs(call: Call, x: Array) -> tuple[int, int]:
    """Windows per axis of a padded input."""
    rows, columns = (
        (size - kernel) // stride + 1
        for size, kernel, stride in zip(x.shape[1:3], call.attrs["kernel"], call.attrs["stride"], strict=True)
    )
    return rows, columns


def _taps(call: Call) -> int:
    height, width = call.attrs["kernel"]
    return int(height * width)


def _global_avg_pool(call: Call, x: Array) -> Arrays:
    return (x.mean((1, 2)),)


def _global_avg_pool_dgrad(call: Call, dy: Array) -> Arrays:
    shape = call.shapes[0]
    return (np.broadcast_to(dy[:, None, None] / (shape[1] * shape[2]), shape).copy(),)


RULES: dict[str, Rule] = {
    "max_pool": _max_pool,
    "max_pool_dgrad": _max_pool_dgrad,
    "avg_pool": _avg_pool,
    "avg_pool_dgrad": _avg_pool_dgrad,
    "global_avg_pool": _global_avg_pool,
    "global_avg_pool_dgrad": _global_avg_pool_dgrad,
}
