"""The typed graph: tensors with roles, ops with phases, in execution order.

A `Graph` is a list of ops over named tensors, already shape-checked; the builder (`hwsim.workload.Network`) makes
forward graphs and `training_graph` turns one into a whole training step. Layouts in memory are
docs/contracts/program.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from types import MappingProxyType
from typing import Any

__all__ = ["Graph", "Op", "Phase", "Role", "Tensor"]


class Phase(StrEnum):
    """Which part of a training step an op belongs to."""

    FORWARD = "forward"
    RECOMPUTE = "recompute"  # forward ops that run again in the backward pass
    DGRAD = "dgrad"
    WGRAD = "wgrad"
    UPDATE = "update"


class Role(StrEnum):
    """What a tensor is for; it decides the format that the tensor is stored in."""

    INPUT = "input"  # a batch of samples, operand format
    LABEL = "label"  # class indices, int32, or regression targets, operand format
    WEIGHT = "weight"  # matrix operand, operand format
    VECTOR_PARAMETER = "vector_parameter"  # bias, gamma, beta: fp32
    MASTER = "master"  # fp32 copy of a weight, held by the optimizer
    BUFFER = "buffer"  # running statistics: fp32
    ACTIVATION = "activation"  # operand format
    STATISTIC = "statistic"  # mean, reciprocal deviation, probabilities, loss: fp32
    GRADIENT = "gradient"  # gradient of an activation, operand format
    WEIGHT_GRADIENT = "weight_gradient"  # gradient of a parameter: fp32
    STATE = "state"  # optimizer state: fp32


@dataclass(frozen=True)
class Tensor:
    """A named array.

    Attributes
    ----------
    name : str
        Unique in its graph.
    shape : tuple of int
        Images are ``(batch, height, width, channels)``; weights ``(out, kernel_h, kernel_w, in)`` or ``(out, in)``.
    role : Role
        What it is for.
    trainable : bool
        Parameters only: whether the optimizer updates it.
    format : str
        Format in memory, a name of `hwsim.hardware.FORMAT_BITS`; empty: by role and accelerator.
    rounding : str
        How the machine rounds when it stores the tensor: ``"nearest"`` or ``"stochastic"``.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    trainable: bool = True
    format: str = ""
    rounding: str = "nearest"

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Op:
    """One operation on named tensors; its rules are in ``hwsim/workload/ops/<kind>.py``.

    `layer` is the forward op's name that it belongs to (its own name in the forward phase). An update writes its
    parameter and states in place: their names are among inputs and outputs.
    """

    name: str
    kind: str
    phase: Phase
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    layer: str = ""


@dataclass(frozen=True)
class Graph:
    """Ops in execution order over named tensors."""

    name: str
    batch: int
    tensors: Mapping[str, Tensor]
    ops: tuple[Op, ...]

    def tensors_of(self, names: tuple[str, ...]) -> tuple[Tensor, ...]:
        """Look names up, in order."""
        return tuple(self.tensors[name] for name in names)

    @property
    def parameters(self) -> int:
        """Elements of all weights and vector parameters."""
        roles = (Role.WEIGHT, Role.VECTOR_PARAMETER)
        return sum(t.elements for t in self.tensors.values() if t.role in roles)

    def listing(self) -> str:
        """Return a printable table: per op its inputs, outputs, MACs and vector operations."""
        # The table needs the ops' rules, and those import this file.
        from hwsim.workload.listing import listing

        return listing(self)
