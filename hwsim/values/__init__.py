"""Values: data sets to train on, and `hwsim.values.reference`, a graph's execution in float64."""

from __future__ import annotations

from hwsim.values.data import Dataset, cifar10, digits

__all__ = ["Dataset", "cifar10", "digits"]
