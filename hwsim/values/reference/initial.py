"""Parameters to begin training with, the same on every machine."""

from __future__ import annotations

from math import prod, sqrt

import numpy as np

from hwsim.values.reference.call import Array
from hwsim.workload.graph import Graph, Phase, Role, Tensor

__all__ = ["initial"]

_KEPT = (Role.WEIGHT, Role.VECTOR_PARAMETER, Role.BUFFER, Role.MASTER, Role.STATE)


def initial(graph: Graph, seed: int) -> dict[str, Array]:
    """Initial parameters, buffers, masters and optimizer states of a network or its training step.

    Weights are uniform in ±√(6 / fan_in), He's variance 2 / fan_in, where fan_in is the inputs of one output. They are
    drawn in the order of the graph's tensors, one after the other, so a network and its step have the same ones.
    Gammas and running variances are one; biases, betas, running means and states zero; masters equal their weights.
    Every value is a float32, so that fp32 masters begin exactly where the float64 reference begins. Uniform draws
    and one square root need no library function that differs between machines.

    Parameters
    ----------
    graph : Graph
        A forward graph or a step of `training_graph`.
    seed : int
        Seed of the generator, 0 or more.

    Returns
    -------
    dict of str to ndarray, dtype float64
        Tensors by name, in the order of the graph's.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", ICCV 2015.

    Examples
    --------
    >>> from hwsim.workload import Network
    >>> net = Network("tiny", batch=1)
    >>> parameters = initial(net.input((6,)).linear(2, name="fc").mean_squared_error(), seed=0)
    >>> bool(abs(parameters["fc.weight"]).max() < 1), parameters["fc.bias"]
    (True, array([0., 0.]))
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    ones = {
        name
        for op in graph.ops
        if op.kind.startswith("batchnorm") and op.phase is Phase.FORWARD
        for name in (op.inputs[1], op.inputs[4])
    }
    values: dict[str, Array] = {}
    for tensor in graph.tensors.values():
        if tensor.role is Role.WEIGHT:
            values[tensor.name] = _uniform(tensor, rng)
        elif tensor.role is Role.MASTER:
            values[tensor.name] = values[tensor.name.removesuffix(".master")].copy()
        elif tensor.role in _KEPT:
            values[tensor.name] = np.full(tensor.shape, 1.0 if tensor.name in ones else 0.0)
    return values


def _uniform(weight: Tensor, rng: np.random.Generator) -> Array:
    bound = sqrt(6 / prod(weight.shape[1:]))
    drawn = bound * (2 * rng.random(weight.shape) - 1)
    return drawn.astype(np.float32).astype(np.float64)
