"""Registers spread over the steps of a computation, so that the longest way between two of them is short."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, pairwise
from types import SimpleNamespace

from amaranth.hdl import Module, Signal, Value, ValueLike

__all__ = ["Pipeline", "spread"]


class Pipeline:
    """Steps of a computation with `latency` registers between them and at the end.

    The last step's values are registered first; further registers go where they cut the depth best. Registers are not
    reset: what is in them before the first operand means nothing.

    Parameters
    ----------
    m : Module
        Gets the signals.
    latency : int
        Registers from the first operand to the last result [cycles], 0 or more.
    depths : mapping of str to float
        Depth of each step in order [levels of logic, roughly].
    """

    def __init__(self, m: Module, latency: int, depths: Mapping[str, float]) -> None:
        self._m = m
        self._registers = dict(zip(depths, spread(tuple(depths.values()), latency), strict=True))

    def end(self, step: str, **values: ValueLike) -> SimpleNamespace:
        """Hand the values that later steps use over to them, through the registers that follow the step."""
        return SimpleNamespace(**{name: self._delay(step, name, Value.cast(v)) for name, v in values.items()})

    def _delay(self, step: str, name: str, value: Value) -> Signal:
        registers = self._registers[step]
        wire = Signal(value.shape(), name=f"{step}_{name}")
        self._m.d.comb += wire.eq(value)
        for number in range(1, registers + 1):
            register = Signal(value.shape(), name=f"{step}_{name}_q{number}", reset_less=True)
            self._m.d.sync += register.eq(wire)
            wire = register
        return wire


def spread(depths: tuple[float, ...], latency: int) -> tuple[int, ...]:
    """Give the number of registers after each step.

    Of all ways the one with the least depth between registers is taken, and of those the one with the least sum of
    squares; registers beyond one per step follow the last.

    Examples
    --------
    >>> spread((4, 1, 1, 4), 2), spread((4, 1, 1, 4), 3), spread((4, 1), 5)
    ((0, 1, 0, 1), (1, 0, 1, 1), (1, 4))
    """
    last = len(depths) - 1
    inner = min(max(latency - 1, 0), last)

    def stages(cuts: tuple[int, ...]) -> list[float]:
        bounds = [0, *(cut + 1 for cut in cuts), last + 1]
        return [sum(depths[first:end]) for first, end in pairwise(bounds)]

    cuts = min(combinations(range(last), inner), key=lambda c: (max(stages(c)), sum(d * d for d in stages(c))))
    return tuple(latency - inner if step == last else int(step in cuts) for step in range(last + 1))
