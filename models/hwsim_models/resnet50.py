"""ResNet-50 v1.5 for ImageNet: bottlenecks whose stride is in the 3×3 convolution, as in torchvision and MLPerf.

References
----------
K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
"""

from __future__ import annotations

from hwsim.workload import Graph, Network, Value

__all__ = ["resnet50"]


def resnet50(batch: int) -> Graph:
    """Build ResNet-50: 25,557,032 parameters, 4,089,184,256 forward MACs per sample.

    Parameters
    ----------
    batch : int
        Samples per step.
    """
    net = Network("resnet50", batch)
    x = net.input((224, 224, 3)).conv2d(64, kernel=7, stride=2, padding=3, name="conv1")
    x = x.batchnorm(name="bn1").relu(name="relu").max_pool(3, stride=2, padding=1, name="maxpool")
    for stage, (channels, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            with net.scope(f"layer{stage}.{block}"):
                x = _bottleneck(x, channels, stride=2 if stage > 1 and block == 0 else 1)
    return x.global_avg_pool(name="avgpool").linear(1000, name="fc").softmax_cross_entropy()


def _bottleneck(x: Value, channels: int, stride: int) -> Value:
    """1×1 down, 3×3, 1×1 up to four times the channels, beside a shortcut."""
    shortcut, out = x, 4 * channels
    if x.shape[-1] != out:
        shortcut = x.conv2d(out, kernel=1, stride=stride, name="downsample.conv").batchnorm(name="downsample.bn")
    y = x.conv2d(channels, kernel=1, name="conv1").batchnorm(name="bn1").relu(name="relu1")
    y = y.conv2d(channels, kernel=3, stride=stride, padding=1, name="conv2").batchnorm(name="bn2").relu(name="relu2")
    y = y.conv2d(out, kernel=1, name="conv3").batchnorm(name="bn3")
    return y.add(shortcut, name="add").relu(name="relu3")
