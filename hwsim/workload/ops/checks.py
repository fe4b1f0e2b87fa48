"""Checks that shape rules and the builder share; each raises one sentence that names the op, the rule and the value."""

from __future__ import annotations

from hwsim.errors import HwsimError

__all__ = ["images", "pair", "positive", "windows"]

Pair = tuple[int, int]


def images(name: str, kind: str, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return `shape` if it is a batch of images.

    Raises
    ------
    HwsimError
        If it has not four axes.
    """
    if len(shape) != 4:
        raise HwsimError(f"{name}: {kind} takes (batch, height, width, channels); its input is {shape}")
    batch, height, width, channels = shape
    return batch, height, width, channels


def positive(name: str, what: str, value: object) -> int:
    """Return `value` if it is an integer of 1 or more.

    Raises
    ------
    HwsimError
        If it is not.
    """
    if not isinstance(value, int) or value < 1:
        raise HwsimError(f"{name}: {what} must be an integer, 1 or more; it is {value!r}")
    return value


def pair(name: str, what: str, value: object, least: int) -> Pair:
    """Return an int as a pair of itself, a pair as it is.

    Raises
    ------
    HwsimError
        If it is neither, or below `least`.
    """
    first, second = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)
    if not isinstance(first, int) or not isinstance(second, int) or min(first, second) < least:
        raise HwsimError(f"{name}: {what} must be an integer or a pair of integers, {least} or more; it is {value!r}")
    return first, second


def windows(name: str, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)) -> Pair:
    """Output height and width of a sliding window.

    A window of `k` taps spans `d·(k − 1) + 1` positions; from the first that fits, one starts every `stride` positions.

    Raises
    ------
    HwsimError
        If not even one window fits.

    Examples
    --------
    >>> windows("conv1", (32, 32), (5, 5), (1, 1), (0, 0))
    (28, 28)
    >>> windows("conv1", (32, 32), (3, 3), (2, 2), (1, 1))
    (16, 16)
    """
    padded = (size[0] + 2 * padding[0], size[1] + 2 * padding[1])
    span = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    if span[0] > padded[0] or span[1] > padded[1]:
        raise HwsimError(
            f"{name}: the window must fit the padded input; it spans {span} and the padded input is {padded}"
        )
    return (padded[0] - span[0]) // stride[0] + 1, (padded[1] - span[1]) // stride[1] + 1
