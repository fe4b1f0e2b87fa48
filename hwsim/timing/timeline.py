"""When every command of a flat program runs: the result that both timing models give.

Normative: docs/contracts/cycles.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Timeline"]


@dataclass(frozen=True, eq=False)
class Timeline:
    """Commands in time, and what each unit did with its cycles.

    Attributes
    ----------
    cycles : int
        Time at which the barrier that ends the program takes effect [cycles].
    dispatch, start, end : ndarray of shape (commands,), dtype int64
        Per command of the flat list [cycles]. For a barrier all three are the time at which it takes effect.
    busy_cycles : ndarray of shape (5,), dtype int64
        Occupied cycles per resource, in the order of `hwsim.program.fields.RESOURCE_NAMES`: the units, then the port.
    stall_cycles : ndarray of shape (5, len(CAUSES)), dtype int64
        Cycles not occupied, per resource and cause. For every one, busy + stalls = cycles.
    """

    cycles: int
    dispatch: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    busy_cycles: NDArray[np.int64]
    stall_cycles: NDArray[np.int64]
