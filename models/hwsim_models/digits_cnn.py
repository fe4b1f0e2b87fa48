"""A small convolutional network for the 8×8 digits of the UCI data set, with batch normalisation and pooling."""

from __future__ import annotations

from hwsim.workload import Graph, Network, Value

__all__ = ["digits_cnn"]


def digits_cnn(batch: int) -> Graph:
    """Build the network: 6,138 parameters, 84,224 forward MACs per sample.

    The convolutions have no bias, since batch normalisation follows.

    Parameters
    ----------
    batch : int
        Samples per step.
    """
    net = Network("digits-cnn", batch)
    x = _block(net.input((8, 8, 1)), 16, "conv1").max_pool(2, name="pool1")
    x = _block(x, 32, "conv2").max_pool(2, name="pool2")
    return x.flatten().linear(10, name="fc").softmax_cross_entropy()


def _block(x: Value, channels: int, scope: str) -> Value:
    """Convolve 3×3, normalise, rectify."""
    with x.network.scope(scope):
        return x.conv2d(channels, kernel=3, padding=1, name="conv").batchnorm(name="bn").relu(name="relu")
