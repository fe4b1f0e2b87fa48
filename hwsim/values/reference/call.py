"""What a rule of the reference is given beside its input arrays, and the types that all rules share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Arrays", "Call", "Rule"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


@dataclass(frozen=True)
class Call:
    """One execution of an op.

    Attributes
    ----------
    name : str
        Name of the op, for messages.
    attrs : mapping
        Attributes of the op.
    shapes : tuple of tuple of int
        Shapes of the op's outputs, which some backward ops cannot tell from their inputs.
    step_number : int
        Number of the training step, from 1, with which Adam corrects its moments.
    """

    name: str
    attrs: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    step_number: int


#: ``(call, *inputs) -> outputs``, in the order of the op's; a rule writes to no array that it was given.
Rule = Callable[..., Arrays]
