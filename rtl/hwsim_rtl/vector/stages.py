"""How the cycles of the vector unit's latency are spread over what a group passes through."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator

__all__ = ["Stages", "split"]

#: Cycles from a group's read to its result's being readable that are no registers of the pipeline: read and write.
_MEMORY_CYCLES = 2
#: Depth [levels of logic, roughly] and most useful registers of each part: from the memory to the operands of a lane;
#: product, or conversion of sums and scaling; the choice of both, and their sum; the choice of the result, its scaling
#: and conversion.
_DEPTHS = (10, 23, 36, 26)
#: The second of them where sums are int32.
_INTEGER_DEPTH = 34
_MOST = (2, 6, 8, 8)
#: What stands between the last register and the memory: nothing but the choice of its writer.
_WRITE_DEPTH = 2


class Stages(NamedTuple):
    """Registers of each part of the pipeline, in order; `add` is 1 or more."""

    operands: int
    before: int
    add: int
    after: int

    @property
    def last(self) -> int:
        """From the data of a read to the result."""
        return sum(self)


def split(hw: Accelerator) -> Stages:
    """Spread ``λ − 2`` registers so that the longest way between two of them is short.

    Raises
    ------
    HwsimError
        If there is none for the adder.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> split(load_accelerator("edge-8x8-bf16"))
    Stages(operands=1, before=2, add=4, after=3)
    """
    latency = hw.vector.latency_cycles
    registers = latency - _MEMORY_CYCLES
    if registers < 1:
        raise HwsimError(
            f"{hw.name}: vector.latency_cycles must be at least {_MEMORY_CYCLES + 1} cycles for the RTL, one each for "
            f"the read of a line, the adder and the write, not {latency}"
        )
    useful = min(registers, sum(_MOST))
    ways = [
        Stages(operands, before, useful - operands - before - after, after)
        for operands, before, after in product(range(_MOST[0] + 1), range(_MOST[1] + 1), range(_MOST[3] + 1))
        if 1 <= useful - operands - before - after <= _MOST[2]
    ]
    integers = hw.accumulator_format == "int32"
    depths = (_DEPTHS[0], _INTEGER_DEPTH if integers else _DEPTHS[1], *_DEPTHS[2:])
    best = min(ways, key=lambda stages: _lengths(stages, depths))
    return best._replace(after=best.after + registers - useful)


def _lengths(stages: Stages, depths: tuple[int, ...]) -> tuple[float, float]:
    """Longest way between two registers, then the sum of squares of all."""
    lengths, open_ = [], 0.0
    for depth, registers in zip(depths, stages, strict=True):
        if registers:
            lengths += [open_ + depth / registers, *[depth / registers] * (registers - 1)]
        open_ = 0.0 if registers else open_ + depth
    lengths.append(open_ + _WRITE_DEPTH)
    return max(lengths), sum(length * length for length in lengths)
