"""Energies with bounds, and how they carry from one process node to another.

`Estimate` is a value with its interval and its sources; `scale` gives the factor between two nodes, also as an
interval that widens with the distance. Normative: docs/contracts/energy.md, section 4; why these laws,
docs/decisions/0004-energy-intervals.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["PUBLISHED_EXPONENTS", "STILLMAKER", "SUPPLY_V", "Estimate", "power_law", "scale", "stillmaker_energy"]

#: Below this node scaling follows published pairs of figures, above it Stillmaker and Baas [nm].
KNEE_NM = 45.0

#: Exponent p of E ∝ node^p between 45 and 7 nm: value (the median), least and greatest of the eight operations that
#: Horowitz (ISSCC 2014, 45 nm) and Jouppi et al. (ISCA 2021, Table 2, 7 nm) both give.
#: `tests/unit/test_energy_scaling.py` computes them from the table.
PUBLISHED_EXPONENTS = (0.56, 0.40, 0.78)

#: Bounds above the knee, E ∝ node^p: from capacitance alone to more than constant-field scaling with V². Estimate of
#: this project.
OLD_NODE_EXPONENTS = (1.0, 2.5)

_LAW_NEW = (
    "[B] scaled below 45 nm: node^0.56, the median of eight operations in Horowitz, ISSCC 2014, and Jouppi et al., "
    "ISCA 2021, Table 2; bounds node^0.40 and Stillmaker and Baas, Integration 58, 2017"
)
_LAW_OLD = (
    "[B] scaled above 45 nm: Stillmaker and Baas, Integration 58, 2017; "
    "bounds node^1.0 and node^2.5, estimate of this project"
)

#: Nominal supply of general-purpose logic [V] per node [nm]; typical foundry values, an estimate of this project.
SUPPLY_V = {
    250: 2.5,
    180: 1.8,
    130: 1.2,
    90: 1.1,
    65: 1.1,
    45: 1.0,
    32: 0.9,
    20: 0.9,
    16: 0.8,
    14: 0.8,
    10: 0.75,
    7: 0.7,
}

#: Coefficients (a₂, a₁, a₀) of energy = a₂V² + a₁V + a₀, relative, per node [nm], high-performance transistors from
#: 45 nm down: Stillmaker and Baas, Integration 58, 2017. Grade B: read in nodeScale (UCLA NanoCAD), not in the paper;
#: a second public transcription has the same figures, but the low-power ones at 45 and 32 nm.
STILLMAKER = {
    130: (7.171, -6.709, 2.904),
    90: (4.762, -4.781, 2.092),
    65: (3.755, -4.398, 1.975),
    45: (1.018, -0.3107, 0.1539),
    32: (0.8367, -0.4341, 0.1701),
    20: (0.373, -0.1582, 0.04104),
    16: (0.2958, -0.1241, 0.03024),
    14: (0.2363, -0.09675, 0.02239),
    10: (0.2068, -0.09311, 0.02375),
    7: (0.1776, -0.09097, 0.02447),
}


@dataclass(frozen=True)
class Estimate:
    """An energy or a factor with its bounds, ``0 ≤ low ≤ value ≤ high``, and where it comes from.

    Sums and products are those of fully correlated intervals: low with low, high with high. That is the widest they
    can be.

    Examples
    --------
    >>> mul, add = Estimate(2.0, 1.0, 3.0, ("a",)), Estimate(1.0, 1.0, 2.0, ("b",))
    >>> mul + add
    Estimate(value=3.0, low=2.0, high=5.0, sources=('a', 'b'))
    >>> mul * 2
    Estimate(value=4.0, low=2.0, high=6.0, sources=('a',))
    >>> mul * add
    Estimate(value=2.0, low=1.0, high=6.0, sources=('a', 'b'))
    """

    value: float
    low: float
    high: float
    sources: tuple[str, ...] = ()

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.value + other.value, self.low + other.low, self.high + other.high, _joined(self.sources, other.sources)
        )

    def __mul__(self, factor: Estimate | float) -> Estimate:
        by = factor if isinstance(factor, Estimate) else Estimate(factor, factor, factor)
        return Estimate(
            self.value * by.value, self.low * by.low, self.high * by.high, _joined(self.sources, by.sources)
        )


@lru_cache(maxsize=1024)
def scale(from_nm: float, to_nm: float) -> Estimate:
    """Give the factor on an energy that moves from one node to another, with its bounds.

    Below 45 nm the value follows the published pairs, node^0.56, between node^0.40 and Stillmaker and Baas; above 45
    nm it follows Stillmaker and Baas, between node^1.0 and node^2.5. A move across 45 nm is the product of the two.
    The way back is the inverse.

    Parameters
    ----------
    from_nm, to_nm : float
        Nodes [nm], 3 to 250.

    Examples
    --------
    >>> scale(22, 22)
    Estimate(value=1.0, low=1.0, high=1.0, sources=())
    >>> down = scale(45, 7)
    >>> round(down.value, 2), round(down.low, 3), round(down.high, 2)
    (0.35, 0.056, 0.48)
    """
    if from_nm == to_nm:
        return Estimate(1.0, 1.0, 1.0)
    if from_nm < to_nm:
        back = scale(to_nm, from_nm)
        return Estimate(1 / back.value, 1 / back.high, 1 / back.low, back.sources)
    if to_nm < KNEE_NM < from_nm:
        return scale(from_nm, KNEE_NM) * scale(KNEE_NM, to_nm)
    ratio, modelled = to_nm / from_nm, stillmaker_energy(to_nm) / stillmaker_energy(from_nm)
    if from_nm <= KNEE_NM:
        value, laws = ratio ** PUBLISHED_EXPONENTS[0], [modelled, *(ratio**p for p in PUBLISHED_EXPONENTS[1:])]
    else:
        value, laws = modelled, [ratio**p for p in OLD_NODE_EXPONENTS]
    law = _LAW_NEW if from_nm <= KNEE_NM else _LAW_OLD
    return Estimate(value, min(value, *laws), max(value, *laws), (law,))


@lru_cache(maxsize=1024)
def stillmaker_energy(node_nm: float) -> float:
    """Give the energy of one operation at a node and its nominal supply, relative, after Stillmaker and Baas.

    Between their nodes a power law through the two neighbours, below 7 nm the one through 10 and 7 nm. Above 130 nm E
    ∝ node · V², because the fit transcribed for 180 nm jumps by more than that.

    Examples
    --------
    >>> round(stillmaker_energy(45), 3)
    0.861
    >>> round(stillmaker_energy(45) / stillmaker_energy(7), 1)
    18.0
    """
    return power_law({node: _at_node(node) for node in SUPPLY_V}, node_nm)


def power_law(values: Mapping[int, float], node_nm: float) -> float:
    """Give a value at a node from those at other nodes [nm]: the power law through its two neighbours, or, beyond the
    ends, through the last two.

    >>> power_law({10: 1.0, 20: 4.0}, 40)
    16.0
    """
    nodes = sorted(values)
    upper = next((n for n in nodes[1:] if n >= node_nm), nodes[-1])
    lower = nodes[nodes.index(upper) - 1]
    exponent = math.log(values[upper] / values[lower]) / math.log(upper / lower)
    return float(values[lower] * (node_nm / lower) ** exponent)


def _at_node(node: int) -> float:
    supply_v = SUPPLY_V[node]
    if node > 130:
        return _at_node(130) * node / 130 * (supply_v / SUPPLY_V[130]) ** 2
    a2, a1, a0 = STILLMAKER[node]
    return a2 * supply_v**2 + a1 * supply_v + a0


def _joined(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))
