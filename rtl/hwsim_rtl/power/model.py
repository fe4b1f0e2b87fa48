"""Energy per MAC as a function of what its operands do: a straight line through measured PEs, held to other ones.

Normative: docs/contracts/calibration.md, section 6; `hwsim.energy.data_model` is what is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwsim.energy.data_model import predicted_pj

__all__ = ["Line", "Point", "fit"]


@dataclass(frozen=True, eq=False)
class Point:
    """A measured stream.

    Attributes
    ----------
    name, phase : str
        Of the stream.
    statistics : ndarray of shape (64, len(STATISTICS))
        Per PE.
    energies_pj : mapping of str to ndarray of shape (64,)
        Energy per cycle [pJ] under the assumptions of value, low and high.
    """

    name: str
    phase: str
    statistics: NDArray[np.float64]
    energies_pj: Mapping[str, NDArray[np.float64]]

    @property
    def energy_pj(self) -> NDArray[np.float64]:
        """The value."""
        return self.energies_pj["value"]


@dataclass(frozen=True, eq=False)
class Line:
    """``energy = constant + Σ coefficient · term`` [pJ per cycle].

    Attributes
    ----------
    coefficients : ndarray of shape (len(TERMS),)
        One per term of `hwsim.energy.data_model.TERMS`, the constant first [pJ].
    bound : str
        Under which assumptions.
    """

    coefficients: NDArray[np.float64]
    bound: str = "value"

    def errors(self, points: Sequence[Point]) -> dict[str, tuple[float, float]]:
        """Give, by stream, how far the prediction is off, as a share of what was measured.

        The first figure is that of the stream's mean, with its sign; the second the mean over its PEs, without.
        """
        found = {}
        for point in points:
            predicted, measured = predicted_pj(self.coefficients, point.statistics), point.energies_pj[self.bound]
            mean = float(predicted.mean() / measured.mean() - 1)
            found[point.name] = mean, float(np.abs(predicted / measured - 1).mean())
        return found


def fit(points: Sequence[Point], bound: str = "value") -> Line:
    """Fit by least squares of the shares by which the predictions are off; every PE of every stream counts alike.

    Examples
    --------
    >>> statistics = np.random.default_rng(1).random((64, 5))
    >>> made = 3 + statistics @ np.array([1.0, 2.0, 0.5, 4.0, 0.25])
    >>> fit([Point("made", "made", statistics, {"value": made})]).coefficients.round(6).tolist()
    [3.0, 1.0, 2.0, 0.5, 4.0, 0.25]
    """
    statistics = np.concatenate([p.statistics for p in points])
    terms = np.concatenate([np.ones((len(statistics), 1)), statistics], axis=1)
    measured = np.concatenate([p.energies_pj[bound] for p in points])
    return Line(np.linalg.lstsq(terms / measured[:, None], np.ones(len(measured)), rcond=None)[0], bound)
