"""Matrix products of real training as the machine computed them: the stored operands of forward, dgrad and wgrad.

`recorded_products` trains a network for some steps and keeps the operands of the last; `made_products` gives random,
zero and constant ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hwsim.energy.operands import Floats, Product
from hwsim.hardware import Accelerator
from hwsim.numerics import from_format, to_format
from hwsim.values import Dataset
from hwsim.values.machine import Machine, OpValues
from hwsim.values.products import products_of
from hwsim.values.training import StepCost, Training
from hwsim.workload.graph import Graph, Op
from hwsim.workload.precision import Precision

__all__ = ["made_products", "recorded_products"]

_NO_COST = StepCost(0, 0, np.zeros(3), np.zeros(3), np.zeros(3))


def recorded_products(
    graph: Graph, hw: Accelerator, data: Dataset, precision: Precision, *, steps: int, seed: int = 1
) -> tuple[Product, ...]:
    """Train for some steps and give the products of linear layers and convolutions of the last one.

    Parameters
    ----------
    graph : Graph
        Forward graph that ends in a loss.
    hw, data, precision
        As for `hwsim.values.training.Training`.
    steps : int
        1 or more, within the first epoch.
    seed : int
        Of the training.
    """
    kept: dict[str, Product] = {}

    class Recorder(Machine):
        """The machine; it looks at operands before the update changes weights."""

        def run(self, ops: Sequence[Op] | None = None, *, step_number: int = 1) -> list[OpValues]:
            counted = super().run(ops, step_number=step_number)
            kept.update(products_of(self, ops or ()))
            return counted

    def machine(step: Graph, accelerator: Accelerator, *, seed: int) -> Machine:
        return Recorder(step, accelerator, seed=seed)

    training = Training(graph, hw, data, cost=_NO_COST, precision=precision, seed=seed, machine=machine)
    training.train_epoch(stop=lambda: training.steps >= steps)
    return tuple(Product(f"{graph.name} {name}", p.phase, p.a, p.b) for name, p in kept.items())


def made_products(operand_format: str, rng: np.random.Generator, size: int = 64) -> tuple[Product, ...]:
    """Give products of `size` rows, columns and summands: random, half zero, zero and constant operands.

    Random numbers are uniform in int8 and normal in floating point.
    """

    def random(scale: float) -> Floats:
        if operand_format == "int8":
            return rng.integers(-127, 128, (size, size)).astype(np.float32)
        return _rounded(rng.normal(0, scale, (size, size)), operand_format)

    a, b = random(1.0), random(0.25)
    half = a * (rng.random(a.shape) < 0.5)
    operands = {
        "random": (a, b), "half zeros": (half, b), "small": (np.round(a / 16) if operand_format == "int8" else half, b),
        "zeros": (0 * a, b), "zero weights": (a, 0 * b), "constant": (np.tile(a[:1], (size, 1)), b),
    }  # fmt: skip
    return tuple(Product(name, "made", x.astype(np.float32), y.astype(np.float32)) for name, (x, y) in operands.items())


def _rounded(x: Any, format: str) -> Floats:
    return from_format(to_format(np.asarray(x, np.float32), format), format)
