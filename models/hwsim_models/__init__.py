"""Networks to simulate, each one builder function ``(batch) -> Graph`` that ends in its loss.

>>> build("lenet", batch=128).parameters
62006
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hwsim.errors import HwsimError
from hwsim.workload import Graph
from hwsim_models.digits_cnn import digits_cnn
from hwsim_models.digits_mlp import digits_mlp
from hwsim_models.digits_resnet import digits_resnet
from hwsim_models.lenet import lenet
from hwsim_models.resnet9 import resnet9
from hwsim_models.resnet18 import resnet18
from hwsim_models.resnet50 import resnet50

__all__ = [
    "MODELS",
    "ModelInfo",
    "build",
    "digits_cnn",
    "digits_mlp",
    "digits_resnet",
    "lenet",
    "resnet9",
    "resnet18",
    "resnet50",
]


@dataclass(frozen=True)
class ModelInfo:
    """A network that `build` knows.

    Attributes
    ----------
    name : str
        Key in `MODELS`.
    description : str
        What it is, in one line.
    build : callable
        ``(batch) -> Graph``.
    """

    name: str
    description: str
    build: Callable[[int], Graph]


#: All networks by name, small ones first.
MODELS: Mapping[str, ModelInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            ModelInfo("digits-mlp", "64-32-10 perceptron for 8×8 digits", digits_mlp),
            ModelInfo("digits-cnn", "two convolutions with batchnorm and max-pooling for 8×8 digits", digits_cnn),
            ModelInfo("digits-resnet", "three residual blocks with batchnorm for 8×8 digits", digits_resnet),
            ModelInfo("lenet", "LeNet-5 with ReLU and max-pooling for CIFAR-10", lenet),
            ModelInfo("resnet9", "ResNet-9 for CIFAR-10", resnet9),
            ModelInfo("resnet18", "ResNet-18 for CIFAR-10: 3×3 stem, no max-pooling", resnet18),
            ModelInfo("resnet50", "ResNet-50 v1.5 for ImageNet, stride in the 3×3 convolutions", resnet50),
        )
    }
)


def build(name: str, batch: int) -> Graph:
    """Build a network by name.

    Parameters
    ----------
    name : str
        Key in `MODELS`.
    batch : int
        Samples per step, 1 or more.

    Raises
    ------
    HwsimError
        If there is no such network, or `batch` is below 1.
    """
    if name not in MODELS:
        raise HwsimError(f"model must be one of {', '.join(MODELS)}; it is {name!r}")
    return MODELS[name].build(batch)
