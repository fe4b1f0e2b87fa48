"""Matrix products of real training as the machine computed them: the stored operands of forward, dgrad and wgrad.

`recorded_products` trains a network for some steps and keeps the operands of the last; `made_products` gives random,
zero and constant ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.hardware import Accelerator
from hwsim.numerics import from_format, to_format
from hwsim.values import Dataset
from hwsim.values.machine import Machine, OpValues
from hwsim.values.training import StepCost, Training
from hwsim.workload.graph import Graph, Op
from hwsim.workload.precision import Precision

__all__ = ["PHASES", "Product", "made_products", "recorded_products"]

PHASES = ("forward", "dgrad", "wgrad")
_NO_COST = StepCost(0, 0, np.zeros(3), np.zeros(3), np.zeros(3))

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Product:
    """One product (m, k) × (k, n) with operands in the machine's formats.

    Attributes
    ----------
    name : str
        Network and op, or what was made.
    phase : str
        One of `PHASES`, or ``"made"``.
    a, b : ndarray of shape (m, k) and (k, n), dtype float32
        The moving and the stationary operand: the numbers that are stored, of scaled formats without the scale.
    """

    name: str
    phase: str
    a: Floats
    b: Floats


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
    kept: dict[str, tuple[Op, list[Floats]]] = {}

    class Recorder(Machine):
        """The machine; it looks at operands before the update changes weights."""

        def run(self, ops: Sequence[Op] | None = None, *, step_number: int = 1) -> list[OpValues]:
            counted = super().run(ops, step_number=step_number)
            wanted = [op for op in ops or () if op.kind in _OPERANDS and not op.attrs.get("groups", 1) > 1]
            kept.update((op.name, (op, [_numbers(self, name) for name in op.inputs[:2]])) for op in wanted)
            return counted

    def machine(step: Graph, accelerator: Accelerator, *, seed: int) -> Machine:
        return Recorder(step, accelerator, seed=seed)

    training = Training(graph, hw, data, cost=_NO_COST, precision=precision, seed=seed, machine=machine)
    training.train_epoch(stop=lambda: training.steps >= steps)
    return tuple(
        Product(f"{graph.name} {op.name}", str(op.phase.value), *_OPERANDS[op.kind](op, *operands))
        for op, operands in kept.values()
        if all(n == 1 for n in (*op.attrs.get("stride", ()), *op.attrs.get("dilation", ())))
    )


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


def _numbers(machine: Machine, name: str) -> Floats:
    """What a tensor's bits stand for without its scale."""
    bits = machine.stored(name)
    if bits.dtype == np.int8:
        return bits.astype(np.float32)
    format = machine.graph.tensors[name].format or machine.hw.array.operand_format
    return from_format(bits, format)


def _patches(x: Floats, taps: tuple[int, int], padding: tuple[int, int]) -> Floats:
    """Pixels × (taps × channels) of a tensor of samples, height, width and channels; strides of 1."""
    padded = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps, axis=(1, 2))  # b, h, w, c, tap h, tap w
    return np.ascontiguousarray(windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, taps[0] * taps[1] * x.shape[3]))


def _convolved(op: Op, x: Floats, w: Floats) -> tuple[Floats, Floats]:
    return _patches(x, w.shape[1:3], op.attrs["padding"]), w.reshape(len(w), -1).T


def _convolved_dgrad(op: Op, g: Floats, w: Floats) -> tuple[Floats, Floats]:
    taps = w.shape[1:3]
    padding = tuple(t - 1 - p for t, p in zip(taps, op.attrs["padding"], strict=True))
    turned = w[:, ::-1, ::-1].transpose(1, 2, 0, 3)
    return _patches(g, taps, padding), turned.reshape(-1, w.shape[3])


def _convolved_wgrad(op: Op, x: Floats, g: Floats) -> tuple[Floats, Floats]:
    padding = op.attrs["padding"]
    taps = tuple(size + 2 * p - out + 1 for size, p, out in zip(x.shape[1:3], padding, g.shape[1:3], strict=True))
    return g.reshape(-1, g.shape[3]).T, _patches(x, taps, padding)


#: By kind of op: its moving and its stationary operand, from its first two inputs (docs/contracts/workload.md).
_OPERANDS: dict[str, Callable[..., tuple[Floats, Floats]]] = {
    "linear": lambda _, x, w: (x, w.T),
    "linear_dgrad": lambda _, g, w: (g, w),
    "linear_wgrad": lambda _, x, g: (g.T, x),
    "conv2d": _convolved,
    "conv2d_dgrad": _convolved_dgrad,
    "conv2d_wgrad": _convolved_wgrad,
}
