"""LeNet-5 for 32×32×3 images, with ReLU and max-pooling as in today's tutorials.

References
----------
Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition", Proceedings of
the IEEE 86(11), 1998.
"""

from __future__ import annotations

from hwsim.workload import Graph, Network

__all__ = ["lenet"]


def lenet(batch: int) -> Graph:
    """Build LeNet-5: 62,006 parameters, 651,720 forward MACs per sample.

    Parameters
    ----------
    batch : int
        Samples per step.
    """
    net = Network("lenet", batch)
    x = net.input((32, 32, 3))
    x = x.conv2d(6, kernel=5, bias=True, name="conv1").relu().max_pool(2)
    x = x.conv2d(16, kernel=5, bias=True, name="conv2").relu().max_pool(2)
    x = x.flatten().linear(120, name="fc1").relu()
    x = x.linear(84, name="fc2").relu()
    return x.linear(10, name="fc3").softmax_cross_entropy()
