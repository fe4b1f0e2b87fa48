"""Energy per MAC as a function of what its operands do: a straight line through measured PEs, held to other ones.

Normative: docs/contracts/calibration.md, section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwsim_rtl.power.streams import STATISTICS

__all__ = ["TERMS", "DataModel", "Point", "fit"]

#: What the energy of a PE and cycle depends on, besides a constant; means per cycle of `STATISTICS`.
TERMS = ("moving_toggles", "effective_toggles", "product_toggles", "sum_toggles", "zeros")


@dataclass(frozen=True, eq=False)
class Point:
    """A measured stream.

    Attributes
    ----------
    name, phase : str
        Of the stream.
    statistics : ndarray of shape (64, len(STATISTICS))
        Per PE.
    energy_pj : ndarray of shape (64,)
        Energy per cycle [pJ].
    """

    name: str
    phase: str
    statistics: NDArray[np.float64]
    energy_pj: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DataModel:
    """``energy = constant + Σ coefficient · term`` [pJ per cycle].

    Attributes
    ----------
    coefficients : ndarray of shape (1 + len(TERMS),)
        The constant, then one per term of `TERMS` [pJ].
    """

    coefficients: NDArray[np.float64]

    def energy_pj(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict the energy per cycle [pJ] of PEs with these statistics."""
        return _terms(statistics) @ self.coefficients

    def errors(self, points: Sequence[Point]) -> dict[str, tuple[float, float]]:
        """Give, by stream, how far the prediction is off, as a share of what was measured.

        The first figure is that of the stream's mean, with its sign; the second the mean over its PEs, without.
        """
        found = {}
        for point in points:
            predicted = self.energy_pj(point.statistics)
            mean = float(predicted.mean() / point.energy_pj.mean() - 1)
            found[point.name] = mean, float(np.abs(predicted / point.energy_pj - 1).mean())
        return found


def fit(points: Sequence[Point]) -> DataModel:
    """Fit by least squares of the shares by which the predictions are off; every PE of every stream counts alike.

    Examples
    --------
    >>> statistics = np.random.default_rng(1).random((64, len(STATISTICS)))
    >>> model = fit([Point("made", "made", statistics, 3 + statistics @ np.array([1.0, 2.0, 0.5, 4.0, 0.25]))])
    >>> model.coefficients.round(6).tolist()
    [3.0, 1.0, 2.0, 0.5, 4.0, 0.25]
    """
    terms = _terms(np.concatenate([p.statistics for p in points]))
    measured = np.concatenate([p.energy_pj for p in points])
    return DataModel(np.linalg.lstsq(terms / measured[:, None], np.ones(len(measured)), rcond=None)[0])


def _terms(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    columns = [statistics[:, STATISTICS.index(term)] for term in TERMS]
    return np.stack([np.ones(len(statistics)), *columns], axis=1)
