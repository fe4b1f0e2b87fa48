"""Sliding windows: for each tap of a window, the positions of the padded input that all windows have under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hwsim.values.reference.call import Array

__all__ = ["inside", "padded", "taps"]

Pair = Sequence[int]
At = tuple[slice, slice, slice]


def taps(kernel: Pair, outputs: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Iterator[tuple[int, int, At]]:
    """Taps of a window in row-major order: row, column, and the index of their positions in a padded NHWC input.

    Window `i` has its tap `r` at ``i·stride + r·dilation``, so all windows' positions of one tap are a strided slice.

    Parameters
    ----------
    kernel, outputs, stride, dilation : pair of int
        Taps, windows, and the distances between windows and between taps, per axis.

    Examples
    --------
    >>> for r, s, at in taps(kernel=(1, 2), outputs=(3, 3), stride=(1, 2)):
    ...     print(r, s, at[1:])
    0 0 (slice(0, 3, 1), slice(0, 5, 2))
    0 1 (slice(0, 3, 1), slice(1, 6, 2))
    """
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            first = (r * dilation[0], s * dilation[1])
            rows, columns = (
                slice(f, f + (n - 1) * step + 1, step) for f, n, step in zip(first, outputs, stride, strict=True)
            )
            yield r, s, (slice(None), rows, columns)


def padded(x: Array, padding: Pair, value: float = 0.0) -> Array:
    """Return a copy of images with a margin of `value` on all four sides."""
    return np.pad(x, ((0, 0), (padding[0], padding[0]), (padding[1], padding[1]), (0, 0)), constant_values=value)


def inside(x: Array, padding: Pair) -> Array:
    """Take the margin off again."""
    return x[:, padding[0] : x.shape[1] - padding[0], padding[1] : x.shape[2] - padding[1]]
