"""A 64-32-10 perceptron for the 8×8 digits of the UCI data set: the smallest network that learns something."""

from __future__ import annotations

from hwsim.workload import Graph, Network

__all__ = ["digits_mlp"]


def digits_mlp(batch: int) -> Graph:
    """Build the perceptron: 2,410 parameters, 2,368 forward MACs per sample.

    Parameters
    ----------
    batch : int
        Samples per step.
    """
    net = Network("digits-mlp", batch)
    x = net.input((64,)).linear(32, name="fc1").relu()
    return x.linear(10, name="fc2").softmax_cross_entropy()
