"""A residual network of three blocks for the 8×8 digits of the UCI data set.

References
----------
K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
"""

from __future__ import annotations

from hwsim.workload import Graph, Network, Value

__all__ = ["digits_resnet"]


def digits_resnet(batch: int) -> Graph:
    """Build the network: 19,810 parameters, 193,344 forward MACs per sample.

    Parameters
    ----------
    batch : int
        Samples per step.
    """
    net = Network("digits-resnet", batch)
    x = net.input((8, 8, 1)).conv2d(8, kernel=3, padding=1, name="conv1").batchnorm(name="bn1").relu(name="relu")
    for stage, channels in enumerate((8, 16, 32), start=1):
        with net.scope(f"layer{stage}"):
            x = _block(x, channels, stride=1 if stage == 1 else 2)
    return x.global_avg_pool(name="avgpool").linear(10, name="fc").softmax_cross_entropy()


def _block(x: Value, channels: int, stride: int) -> Value:
    """Two 3×3 convolutions beside a shortcut, which is a 1×1 convolution where the shape changes."""
    shortcut = x
    if x.shape[-1] != channels:
        shortcut = x.conv2d(channels, kernel=1, stride=stride, name="downsample.conv").batchnorm(name="downsample.bn")
    y = x.conv2d(channels, kernel=3, stride=stride, padding=1, name="conv1").batchnorm(name="bn1").relu(name="relu1")
    y = y.conv2d(channels, kernel=3, padding=1, name="conv2").batchnorm(name="bn2")
    return y.add(shortcut, name="add").relu(name="relu2")
