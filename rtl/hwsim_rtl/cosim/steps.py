"""A whole training step of a network as one program, with parameters, samples and exponents as training begins.

`step_program` takes a forward graph; samples and labels are random, and targets one-hot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hwsim.hardware import Accelerator
from hwsim.values.machine import Machine
from hwsim.values.reference import initial, run
from hwsim.values.scaling import scaling_of
from hwsim.workload import Graph, Optimizer, Precision, Role, training_graph, with_precision, with_recompute
from hwsim_rtl.cosim.program import CosimProgram
from hwsim_rtl.cosim.programs import graph_program

__all__ = ["step_program"]


def step_program(
    graph: Graph, hw: Accelerator, precision: Precision, *, optimizer: str | Optimizer = "momentum", seed: int = 1,
    recompute: str = "none",
) -> CosimProgram:  # fmt: skip
    """Link all ops of a network's training step, one behind the other.

    Parameters
    ----------
    graph : Graph
        Forward graph with one loss.
    hw : Accelerator
        What runs it; its operand format must be the precision's.
    precision : Precision
        Formats, rounding, scaling.
    optimizer : str or Optimizer
        As for `training_graph`.
    seed : int
        Of parameters, samples and stochastic rounding.
    recompute : str
        As for `with_recompute`.

    Raises
    ------
    HwsimError
        If an op does not fit the machine.
    """
    step = with_precision(training_graph(graph, optimizer, master_weights=precision.master_weights), precision)
    step = with_recompute(step, recompute)
    machine = Machine(step, hw, seed=seed)
    values = {**initial(step, seed), **_samples(step, seed)}
    seen: Mapping[str, Any] = run(step, values) if precision.scaling == "tensor" else {}
    scaling_of(precision.scaling, step).start(machine, seen, 1.0)
    for name, value in values.items():
        machine.write(name, value)
    return graph_program(machine, step.ops, f"{graph.name}, one step of {graph.batch} samples", seed=seed)


def _samples(step: Graph, seed: int) -> dict[str, Any]:
    """Inputs from 0 to 1; class labels, or targets that are one in one place of each line."""
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for tensor in step.tensors.values():
        if tensor.role is Role.INPUT:
            found[tensor.name] = rng.random(tensor.shape)
        elif tensor.role is Role.LABEL and len(tensor.shape) == 1:
            found[tensor.name] = rng.integers(0, _classes(step, tensor.name), tensor.shape)
        elif tensor.role is Role.LABEL:
            classes = tensor.shape[-1]
            found[tensor.name] = np.eye(classes)[rng.integers(0, classes, tensor.shape[:-1])]
    return found


def _classes(step: Graph, labels: str) -> int:
    """Number of classes of the loss that labels are for."""
    loss = next(op for op in step.ops if labels in op.inputs)
    return step.tensors[loss.inputs[0]].shape[-1]
