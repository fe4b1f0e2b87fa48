"""ResNet-18 for CIFAR-10: the ImageNet network with a 3×3 stem and without its max-pooling.

References
----------
K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
"""

from __future__ import annotations

from hwsim.workload import Graph, Network, Value

__all__ = ["resnet18"]


def resnet18(batch: int) -> Graph:
    """Build ResNet-18: 11,173,962 parameters, 555,422,720 forward MACs per sample.

    Parameters
    ----------
    batch : int
        Samples per step.
    """
    net = Network("resnet18", batch)
    x = net.input((32, 32, 3)).conv2d(64, kernel=3, padding=1, name="conv1").batchnorm(name="bn1").relu(name="relu")
    for stage, channels in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            with net.scope(f"layer{stage}.{block}"):
                x = _basic_block(x, channels, stride=2 if stage > 1 and block == 0 else 1)
    return x.global_avg_pool(name="avgpool").linear(10, name="fc").softmax_cross_entropy()


def _basic_block(x: Value, channels: int, stride: int) -> Value:
    """Two 3×3 convolutions beside a shortcut, which is a 1×1 convolution where the shape changes."""
    shortcut = x
    if x.shape[-1] != channels:
        shortcut = x.conv2d(channels, kernel=1, stride=stride, name="downsample.conv").batchnorm(name="downsample.bn")
    y = x.conv2d(channels, kernel=3, stride=stride, padding=1, name="conv1").batchnorm(name="bn1").relu(name="relu1")
    y = y.conv2d(channels, kernel=3, padding=1, name="conv2").batchnorm(name="bn2")
    return y.add(shortcut, name="add").relu(name="relu2")
