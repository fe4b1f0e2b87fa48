"""Matrix products as the machine computed them: the stored operands of linear layers and convolutions.

`products_of` takes a `Machine` whose ops have run and gives the operands that its array saw. Normative:
docs/contracts/calibration.md, sections 2 and 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hwsim.energy.operands import Floats, Product
from hwsim.numerics import from_format
from hwsim.workload.graph import Op

if TYPE_CHECKING:
    from hwsim.values.machine import Machine

__all__ = ["is_measured", "products_of"]


def products_of(machine: Machine, ops: Sequence[Op]) -> dict[str, Product]:
    """Give the products of linear layers and convolutions by the op's name, with operands as they are in memory.

    Convolutions with strides, dilation or groups are left out.

    Parameters
    ----------
    machine : Machine
        Whose ops have run.
    ops : sequence of Op
        Of its graph; others than those are left out.
    """
    found = {}
    for op in ops:
        if is_measured(op):
            operands = (_numbers(machine, name) for name in op.inputs[:2])
            found[op.name] = Product(op.name, op.phase.value, *_OPERANDS[op.kind](op, *operands))
    return found


def is_measured(op: Op) -> bool:
    """Say whether `products_of` gives an op's product."""
    plain = all(n == 1 for n in (*op.attrs.get("stride", ()), *op.attrs.get("dilation", ())))
    return op.kind in _OPERANDS and plain and op.attrs.get("groups", 1) == 1


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
