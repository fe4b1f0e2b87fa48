"""The optimizers, with PyTorch's conventions: what they are called, what they keep per parameter, their numbers.

An optimizer is data; what its update costs is in hwsim/workload/ops/update.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from hwsim.errors import HwsimError

__all__ = ["OPTIMIZERS", "Adam", "AdamW", "Momentum", "Nesterov", "Optimizer", "Sgd", "optimizer_of"]


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What all optimizers share.

    Attributes
    ----------
    name : str
        Its name; the updates are of kind ``<name>_update``.
    states : tuple of str
        Suffixes of the tensors that it keeps per parameter.
    learning_rate : float
        Step size, 0 or more.
    weight_decay : float
        Weight of the parameter in its gradient, 0 or more.
    """

    name: ClassVar[str]
    states: ClassVar[tuple[str, ...]]

    learning_rate: float = 1e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for field, value in asdict(self).items():
            below = 1 if field in ("beta1", "beta2") else float("inf")
            if not 0 <= value < below:
                rule = "at least 0 and below 1" if below == 1 else "finite and at least 0"
                raise HwsimError(f"{self.name}: {field} must be {rule}; it is {value}")

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Its numbers, as the attributes of its updates."""
        return MappingProxyType(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Sgd(Optimizer):
    """Plain gradient descent."""

    name = "sgd"
    states = ()


@dataclass(frozen=True, kw_only=True)
class Momentum(Optimizer):
    """Gradient descent with velocity ``v ← momentum·v + g`` and step ``learning_rate·v``; defaults for CIFAR-10."""

    name = "momentum"
    states = ("velocity",)

    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9


@dataclass(frozen=True, kw_only=True)
class Nesterov(Momentum):
    """Momentum with step ``learning_rate·(g + momentum·v)``."""

    name = "nesterov"


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam with both moments corrected for their start at zero; weight decay is added to the gradient."""

    name = "adam"
    states = ("m", "v")

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter itself."""

    name = "adamw"

    weight_decay: float = 1e-2


#: Optimizer classes by name.
OPTIMIZERS: Mapping[str, type[Optimizer]] = MappingProxyType(
    {cls.name: cls for cls in (Sgd, Momentum, Nesterov, Adam, AdamW)}
)


def optimizer_of(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimizer as it is, or the one of that name with its defaults.

    Raises
    ------
    HwsimError
        If no optimizer has the name.

    Examples
    --------
    >>> optimizer_of("momentum")
    Momentum(learning_rate=0.1, weight_decay=0.0005, momentum=0.9)
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if optimizer not in OPTIMIZERS:
        raise HwsimError(f"optimizer must be one of {', '.join(OPTIMIZERS)} or an instance; it is {optimizer!r}")
    return OPTIMIZERS[optimizer]()
