"""What the RTL's counters and addresses hold: `check_limits` refuses a program that goes beyond.

The machine does not look: a number that does not fit is cut off. So whoever makes a program for the RTL checks it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.program import COMMAND_BYTES, Field, Unit
from hwsim_rtl.dma.box import ADDRESS_BITS, COUNT_BITS, LINE_BYTES_BITS, TAP_BITS

__all__ = ["check_limits"]

_PASSES = 16
_COUNTS = (Field.COUNT_B, Field.COUNT_H, Field.COUNT_W)
_TAPS = (Field.TAPS_H, Field.TAPS_W)
_MOVE = (*_COUNTS, Field.BEATS, Field.LIMIT_H, Field.LIMIT_W)
_MATRIX = (*_COUNTS, Field.CHANNELS, Field.OUTPUTS, Field.FOLDS, Field.INTERVAL, Field.STREAM)
#: Products of which the matrix unit makes counts.
_PRODUCTS = {"pixels of a tile": _COUNTS, "taps × channels of a tile": (*_TAPS, Field.CHANNELS)}


def check_limits(hw: Accelerator, flat: NDArray[np.int64], memory_bytes: int, name: str) -> None:
    """Refuse a program with a number that the RTL has too few bits for.

    Parameters
    ----------
    hw : Accelerator
        The machine.
    flat : ndarray of shape (commands, FIELDS), dtype int64
        Linked commands.
    memory_bytes : int
        Size of the memory that they may use.
    name : str
        What the message calls the program.

    Raises
    ------
    HwsimError
        If there is one: which command, which number, and what would do.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> flat = np.zeros((1, len(Field)), np.int64)
    >>> flat[0, [Field.UNIT, Field.COUNT_H]] = Unit.LOAD, 70000
    >>> check_limits(load_accelerator("edge-8x8-int8"), flat, 4096, "mine")
    Traceback (most recent call last):
    hwsim.errors.HwsimError: mine: command 0 (load) has COUNT_H 70,000; the RTL counts to 65,535; use a smaller tile
    """
    if memory_bytes > 1 << ADDRESS_BITS or len(flat) * COMMAND_BYTES > 1 << ADDRESS_BITS:
        raise HwsimError(
            f"{name}: it uses {memory_bytes:,} bytes of memory; the RTL has addresses of {ADDRESS_BITS} bits; use a "
            "smaller batch or model"
        )
    unit = flat[:, Field.UNIT]
    moves, matrix, vector = (unit == Unit.LOAD) | (unit == Unit.STORE), unit == Unit.MATRIX, unit == Unit.VECTOR
    most, taps = (1 << COUNT_BITS) - 1, (1 << TAP_BITS) - 1
    rules = [(moves, field.name, flat[:, field], most) for field in _MOVE]
    rules += [(matrix, field.name, flat[:, field], most) for field in _MATRIX]
    rules += [(moves | matrix, field.name, flat[:, field], taps) for field in _TAPS]
    rules += [(vector, field.name, flat[:, field], most) for field in _COUNTS]
    rules += [(vector, "PASSES", flat[:, Field.PASSES], _PASSES)]
    longest = (1 << LINE_BYTES_BITS) - hw.dram.beat_bytes - 1
    rules += [(moves, "LINE_BYTES", flat[:, Field.LINE_BYTES], longest)]
    rules += [(matrix, what, flat[:, fields].prod(axis=1), most) for what, fields in _PRODUCTS.items()]
    for commands, what, values, limit in rules:
        wrong = np.flatnonzero(commands & (values > limit))
        if wrong.size:
            command = int(wrong[0])
            raise HwsimError(
                f"{name}: command {command} ({Unit(int(unit[command])).name.lower()}) has {what} "
                f"{int(values[command]):,}; the RTL counts to {limit:,}; use a smaller tile"
            )
