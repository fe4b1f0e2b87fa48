"""ResNet-9 for CIFAR-10: the shallow, fast network of the DAWNBench entries, in its common tutorial form.

References
----------
D. Page, "How to train your ResNet", Myrtle.ai, 2018.
"""

from __future__ import annotations

from hwsim.workload import Graph, Network, Value

__all__ = ["resnet9"]


def resnet9(batch: int) -> Graph:
    """Build ResNet-9: 6,573,130 parameters, 379,261,952 forward MACs per sample.

    The convolutions have no bias, since batch normalisation follows.

    Parameters
    ----------
    batch : int
        Samples per step.
    """
    net = Network("resnet9", batch)
    x = _block(net.input((32, 32, 3)), 64, "conv1")
    x = _block(x, 128, "conv2").max_pool(2)
    x = _residual(x, 128, "res1")
    x = _block(x, 256, "conv3").max_pool(2)
    x = _block(x, 512, "conv4").max_pool(2)
    x = _residual(x, 512, "res2")
    return x.max_pool(4).flatten().linear(10, name="fc").softmax_cross_entropy()


def _block(x: Value, channels: int, scope: str) -> Value:
    """Convolve 3×3, normalise, rectify."""
    with x.network.scope(scope):
        return x.conv2d(channels, kernel=3, padding=1, name="conv").batchnorm(name="bn").relu(name="relu")


def _residual(x: Value, channels: int, scope: str) -> Value:
    """Add two blocks to what they read."""
    with x.network.scope(scope):
        return _block(_block(x, channels, "0"), channels, "1").add(x, name="add")
