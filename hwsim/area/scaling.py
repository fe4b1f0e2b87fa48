"""How the area of logic carries from one process node to another, with bounds.

Between 130 and 7 nm after Stillmaker and Baas, elsewhere on a power law. Normative: docs/contracts/area.md, section 3.
"""

from __future__ import annotations

from functools import lru_cache

from hwsim.energy.scaling import Estimate, power_law

__all__ = ["BOUND_EXPONENTS", "STILLMAKER_AREA", "logic_scale"]

#: Area of one circuit at a node [nm], relative to 130 nm: Stillmaker and Baas, Integration 58, 2017, table of area
#: factors. Grade B: read in two public transcriptions, not in the paper.
STILLMAKER_AREA = {
    130: 1.0, 90: 0.44, 65: 0.23, 45: 0.16, 32: 0.072, 20: 0.033, 16: 0.030, 14: 0.027, 10: 0.016, 7: 0.0092,
}  # fmt: skip

#: Bounds, area ∝ node^p: shrinking in full, and as little as names of nodes have shrunk what is under them. Estimate of
#: this project.
BOUND_EXPONENTS = (2.0, 1.4)

_LAW = (
    "[B] logic scaled by area: Stillmaker and Baas, Integration 58, 2017; bounds node^2.0 and node^1.4, estimate of "
    "this project"
)


@lru_cache(maxsize=1024)
def logic_scale(from_nm: float, to_nm: float) -> Estimate:
    """Give the factor on the area of logic that moves from one node to another.

    Parameters
    ----------
    from_nm, to_nm : float
        Nodes [nm], 3 to 250.

    Examples
    --------
    >>> logic_scale(22, 22)
    Estimate(value=1.0, low=1.0, high=1.0, sources=())
    >>> down = logic_scale(180, 45)
    >>> round(down.value, 4), round(down.low, 4), round(down.high, 4)
    (0.0835, 0.0625, 0.1436)
    """
    if from_nm == to_nm:
        return Estimate(1.0, 1.0, 1.0)
    value = _relative(to_nm) / _relative(from_nm)
    laws = [(to_nm / from_nm) ** p for p in BOUND_EXPONENTS]
    return Estimate(value, min(value, *laws), max(value, *laws), (_LAW,))


def _relative(node_nm: float) -> float:
    """Area relative to 130 nm: a power law through two neighbours; above 130 nm ∝ node²."""
    oldest = max(STILLMAKER_AREA)
    return (node_nm / oldest) ** 2 if node_nm > oldest else power_law(STILLMAKER_AREA, node_nm)
