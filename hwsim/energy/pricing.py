"""The price of every action on a given accelerator, with bounds, derivation and sources; energy as counts × prices.

`price_list` takes an `Accelerator` and an `EnergyTable` and applies the rule of every action of `ACTIONS`, in that
order; an action without a rule is refused. Normative: docs/contracts/energy.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwsim.energy.actions import ACTIONS
from hwsim.energy.rules import RULES, PricingContext
from hwsim.energy.table import EnergyTable, load_energy_table
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator

__all__ = ["Driver", "PriceList", "PricedAction", "drivers", "energy", "price_list"]


@dataclass(frozen=True)
class PricedAction:
    """The price of one action [pJ], ``low ≤ value ≤ high``, its derivation, and its sources, each after its grade."""

    action: str
    value_pj: float
    low_pj: float
    high_pj: float
    derivation: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class PriceList:
    """Prices of all actions on one accelerator, in the order of `ACTIONS`."""

    actions: tuple[PricedAction, ...]

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """Prices: ndarray of shape (3, len(ACTIONS)), dtype float64, read-only; rows value, low, high [pJ]."""
        matrix = np.array([(a.value_pj, a.low_pj, a.high_pj) for a in self.actions], dtype=np.float64).T.copy()
        matrix.flags.writeable = False
        return matrix

    def __getitem__(self, action: str) -> PricedAction:
        for priced in self.actions:
            if priced.action == action:
                return priced
        raise HwsimError(f"unknown action '{action}'; choose one of {', '.join(a.action for a in self.actions)}")

    def describe(self) -> str:
        r"""Give the list as a text table: action, value, low, high [pJ] and derivation.

        Examples
        --------
        >>> from hwsim.hardware import load_accelerator
        >>> text = price_list(load_accelerator("edge-8x8-int8")).describe()
        >>> print("\n".join(line[:54] for line in text.splitlines()[:3]))
        action                       value       low      high
        array.macs                    0.28     0.167      0.36
        array.hop_bytes               0.15    0.0241     0.811
        """
        lines = [f"{'action':<24}{'value':>10}{'low':>10}{'high':>10}  [pJ]  derivation"]
        for a in self.actions:
            figures = "".join(f"{figure:>10.3g}" for figure in (a.value_pj, a.low_pj, a.high_pj))
            lines.append(f"{a.action:<24}{figures}        {a.derivation}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Driver:
    """An action that widens an energy's interval.

    Attributes
    ----------
    action : str
        One of `ACTIONS`.
    width_pj : float
        High − low [pJ].
    share : float
        Of the sum of all widths, 0 to 1.
    reason : str
        Why its price is uncertain.
    """

    action: str
    width_pj: float
    share: float
    reason: str


def price_list(accelerator: Accelerator, table: EnergyTable | None = None) -> PriceList:
    """Price every action of `ACTIONS` on an accelerator.

    Parameters
    ----------
    accelerator : Accelerator
        Whose formats, memories, DRAM, clock and node decide the prices.
    table : EnergyTable, optional
        Where the energies come from; the package's table unless given.

    Raises
    ------
    HwsimError
        If an action has no rule or the table lacks a row: nothing is free.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> mac = price_list(load_accelerator("edge-32x32-bf16"))["array.macs"]
    >>> round(mac.value_pj, 2), mac.derivation
    (1.08, 'mul bf16 + add fp32')
    """
    return _price_list(accelerator, load_energy_table() if table is None else table)


def energy(counts: ArrayLike, prices: PriceList) -> NDArray[np.float64]:
    """Energy of action counts: counts × prices, action by action.

    Parameters
    ----------
    counts : array_like of shape (..., len(ACTIONS))
        Action counts.
    prices : PriceList
        From `price_list`.

    Returns
    -------
    ndarray of shape (..., 3, len(ACTIONS)), dtype float64
        Value, low, high [pJ]; sum over the last axis for totals.

    Raises
    ------
    HwsimError
        If the last axis has not one count per action.
    """
    given = np.asarray(counts, dtype=np.float64)
    if given.ndim == 0 or given.shape[-1] != len(prices.actions):
        raise HwsimError(
            f"action counts must end in an axis of {len(prices.actions)} actions, not have shape {given.shape}"
        )
    return np.asarray(given[..., None, :] * prices.matrix, dtype=np.float64)


def drivers(energy_matrix: NDArray[np.float64], n: int = 5) -> tuple[Driver, ...]:
    """Give the actions that widen the interval most, the widest first.

    Parameters
    ----------
    energy_matrix : ndarray of shape (3, len(ACTIONS))
        Value, low, high [pJ], as `energy` gives it.
    n : int
        How many at most; actions of no width are left out.
    """
    widths = energy_matrix[2] - energy_matrix[1]
    total = float(widths.sum())
    order = sorted(range(len(ACTIONS)), key=lambda i: (-widths[i], i))[:n]
    return tuple(
        Driver(ACTIONS[i], float(widths[i]), float(widths[i]) / total, RULES[ACTIONS[i]].uncertain)
        for i in order
        if widths[i] > 0
    )


@lru_cache(maxsize=256)
def _price_list(accelerator: Accelerator, table: EnergyTable) -> PriceList:
    missing = [action for action in ACTIONS if action not in RULES]
    if missing:
        raise HwsimError(
            f"no energy rule for action '{missing[0]}'; nothing is free: add a rule in hwsim/energy/rules.py"
        )
    context = PricingContext(accelerator, table)
    return PriceList(tuple(_priced(action, context) for action in ACTIONS))


def _priced(action: str, context: PricingContext) -> PricedAction:
    rule = RULES[action]
    price = rule.price(context)
    return PricedAction(
        action, float(price.value), float(price.low), float(price.high), rule.derivation(context), price.sources
    )
