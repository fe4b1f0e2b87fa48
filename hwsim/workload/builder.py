"""Build a network line by line: `Network` holds it, a `Value` is a tensor in it with a method per op.

Shapes are checked as each op is added, by the op's own rule (hwsim/workload/ops); a loss method returns the finished
`Graph`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hwsim.errors import HwsimError
from hwsim.workload.graph import Graph, Op, Phase, Role, Tensor
from hwsim.workload.ops import rule_of
from hwsim.workload.ops.checks import pair, positive
from hwsim.workload.ops.rule import NO_ATTRS

__all__ = ["Network", "Value"]

IntOrPair = int | tuple[int, int]


class Network:
    """A forward graph under construction.

    Parameters
    ----------
    name : str
        Name of the network.
    batch : int
        Samples per step, 1 or more.

    Raises
    ------
    HwsimError
        If `batch` is below 1.

    Examples
    --------
    >>> net = Network("tiny", batch=4)
    >>> x = net.input((8, 8, 3)).conv2d(6, kernel=3, name="conv1").relu()
    >>> x
    relu1: (4, 6, 6, 6)
    >>> graph = x.flatten().linear(10, name="fc").softmax_cross_entropy()
    >>> graph.parameters
    2332
    """

    def __init__(self, name: str, batch: int) -> None:
        self.name = name
        self.batch = positive(name, "batch", batch)
        self._tensors: dict[str, Tensor] = {}
        self._ops: list[Op] = []
        self._scopes: list[str] = []
        self._counts: dict[str, int] = {}

    def input(self, shape: Sequence[int], name: str = "input") -> Value:
        """Add a batch of samples.

        Parameters
        ----------
        shape : tuple of int
            Shape of one sample: ``(height, width, channels)`` or ``(features,)``.
        name : str
            Name of the tensor.

        Raises
        ------
        HwsimError
            If the shape is neither, or the name is taken.
        """
        shape = tuple(shape)
        if len(shape) not in (1, 3) or any(not isinstance(size, int) or size < 1 for size in shape):
            raise HwsimError(
                f"{name}: a sample is (height, width, channels) or (features,), each 1 or more; it is {shape}"
            )
        tensor = Tensor(self._unique(name), (self.batch, *shape), Role.INPUT)
        self._tensors[tensor.name] = tensor
        return Value(self, tensor)

    @contextmanager
    def scope(self, prefix: str) -> Iterator[None]:
        """Prefix the names of everything added inside with ``prefix.``; scopes nest."""
        self._scopes.append(prefix)
        try:
            yield
        finally:
            self._scopes.pop()

    def apply(self, kind: str, *inputs: Value, name: str | None = None, **attrs: Any) -> Value:
        """Add an op of any kind that has a shape rule, one of your own (`hwsim.workload.register`) included.

        Parameters
        ----------
        kind : str
            Kind of the op.
        *inputs : Value
            What it reads.
        name : str, optional
            Name of the op; by default the kind with a number.
        **attrs
            Attributes of the op.

        Returns
        -------
        Value
            The op's first output.

        Raises
        ------
        HwsimError
            If the kind has no rule, the shapes do not fit it, the name is taken, or an input is of another network.
        """
        return self._append(self._name(name, kind), kind, inputs, (), attrs)

    def graph(self) -> Graph:
        """Return the network as it is now."""
        return Graph(self.name, self.batch, MappingProxyType(dict(self._tensors)), tuple(self._ops))

    def _name(self, name: str | None, base: str) -> str:
        """Full name of an op: the one given, or `base` with the first free number."""
        if name is not None:
            return self._unique(self._scoped(name))
        stem = self._scoped(f"{base}_" if base[-1].isdigit() else base)
        while True:
            self._counts[stem] = self._counts.get(stem, 0) + 1
            name = f"{stem}{self._counts[stem]}"
            if name not in self._tensors:
                return name

    def _scoped(self, name: str) -> str:
        return ".".join((*self._scopes, name))

    def _unique(self, name: str) -> str:
        if name in self._tensors:
            raise HwsimError(f"{name}: names in network '{self.name}' must differ; this one is taken, choose another")
        return name

    def _append(
        self, name: str, kind: str, inputs: Sequence[Value], given: Sequence[Tensor], attrs: Mapping[str, Any]
    ) -> Value:
        """Check an op by its rule, then add it with the tensors `given` with it (parameters, buffers, labels)."""
        rule = rule_of(kind, name)
        if rule.shapes is None:
            raise HwsimError(f"{name}: '{kind}' is not a forward op; training_graph adds it where it is needed")
        for value in inputs:
            if value.network is not self:
                raise HwsimError(f"{name}: its inputs must be of network '{self.name}'; '{value.tensor.name}' is not")
        tensors = (*(value.tensor for value in inputs), *given)
        attrs = MappingProxyType(attrs) if attrs else NO_ATTRS
        shapes = rule.shapes(name, attrs, tuple(tensor.shape for tensor in tensors))
        outputs = tuple(
            Tensor(f"{name}.{suffix}" if suffix else name, shape, role)
            for (suffix, role), shape in zip(rule.outputs, shapes, strict=True)
        )
        self._tensors.update((tensor.name, tensor) for tensor in (*given, *outputs))
        written = tuple(tensor.name for tensor in outputs)
        self._ops.append(Op(name, kind, Phase.FORWARD, tuple(t.name for t in tensors), written, attrs, name))
        return Value(self, outputs[0])


@dataclass(frozen=True, repr=False, eq=False)
class Value:
    """A tensor of a network under construction; each method adds an op that reads it.

    Every method takes a `name`; without one the op is numbered (``relu1``). Kernels, strides, paddings and dilations
    are an int or a pair ``(height, width)``. Each raises `HwsimError` if the shapes do not fit or the name is taken.
    """

    network: Network
    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape with the batch in front."""
        return self.tensor.shape

    def __repr__(self) -> str:
        return f"{self.tensor.name}: {self.shape}"

    def conv2d(
        self,
        out: int,
        kernel: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = False,
        name: str | None = None,
    ) -> Value:
        """Convolve to `out` channels."""
        layer = self.network._name(name, "conv")
        taps = pair(layer, "kernel", kernel, 1)
        channels = self.shape[-1] // positive(layer, "groups", groups)
        attrs = {
            "stride": pair(layer, "stride", stride, 1),
            "padding": pair(layer, "padding", padding, 0),
            "dilation": pair(layer, "dilation", dilation, 1),
            "groups": groups,
        }
        given = _weight_and_bias(layer, (positive(layer, "out", out), *taps, channels), bias)
        return self.network._append(layer, "conv2d", (self,), given, attrs)

    def linear(self, out: int, bias: bool = True, name: str | None = None) -> Value:
        """Map the features to `out` features."""
        layer = self.network._name(name, "linear")
        given = _weight_and_bias(layer, (positive(layer, "out", out), self.shape[-1]), bias)
        return self.network._append(layer, "linear", (self,), given, NO_ATTRS)

    def batchnorm(self, eps: float = 1e-5, momentum: float = 0.1, name: str | None = None) -> Value:
        """Normalise each channel over the batch; `momentum` is the weight of the new statistics, as in PyTorch."""
        layer = self.network._name(name, "bn")
        vectors = (("gamma", Role.VECTOR_PARAMETER), ("beta", Role.VECTOR_PARAMETER))
        buffers = (("running_mean", Role.BUFFER), ("running_var", Role.BUFFER))
        given = [Tensor(f"{layer}.{part}", self.shape[-1:], role) for part, role in (*vectors, *buffers)]
        return self.network._append(layer, "batchnorm", (self,), given, {"eps": eps, "momentum": momentum})

    def relu(self, name: str | None = None) -> Value:
        """Set what is negative to zero."""
        return self.network.apply("relu", self, name=name)

    def relu6(self, name: str | None = None) -> Value:
        """Clip to 0 to 6."""
        return self.network.apply("relu6", self, name=name)

    def add(self, other: Value, name: str | None = None) -> Value:
        """Add a tensor of the same shape; also written ``+``."""
        return self.network.apply("add", self, other, name=name)

    def __add__(self, other: Value) -> Value:
        return self.add(other)

    def max_pool(
        self, kernel: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0, name: str | None = None
    ) -> Value:
        """Take the largest of every window; the stride is the kernel unless given."""
        return self._pool("max_pool", kernel, stride, padding, name)

    def avg_pool(
        self, kernel: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0, name: str | None = None
    ) -> Value:
        """Take the mean of every window, padding included; the stride is the kernel unless given."""
        return self._pool("avg_pool", kernel, stride, padding, name)

    def global_avg_pool(self, name: str | None = None) -> Value:
        """Take the mean of every channel."""
        return self.network.apply("global_avg_pool", self, name=name)

    def flatten(self, name: str | None = None) -> Value:
        """Turn images into features."""
        return self.network.apply("flatten", self, name=name)

    def argmax(self, name: str | None = None) -> Value:
        """Take the index of the largest along the last axis; it has no gradient."""
        return self.network.apply("argmax", self, name=name)

    def softmax_cross_entropy(self, name: str = "loss") -> Graph:
        """End with the mean cross-entropy to class labels, a new tensor ``labels``, and return the graph."""
        return self._loss("softmax_cross_entropy", Tensor("labels", self.shape[:1], Role.LABEL), name)

    def mean_squared_error(self, name: str = "loss") -> Graph:
        """End with the mean squared error to targets, a new tensor ``target``, and return the graph."""
        return self._loss("mean_squared_error", Tensor("target", self.shape, Role.LABEL), name)

    def _pool(
        self, kind: str, kernel: IntOrPair, stride: IntOrPair | None, padding: IntOrPair, name: str | None
    ) -> Value:
        layer = self.network._name(name, kind)
        attrs = {
            "kernel": pair(layer, "kernel", kernel, 1),
            "stride": pair(layer, "stride", kernel if stride is None else stride, 1),
            "padding": pair(layer, "padding", padding, 0),
        }
        return self.network._append(layer, kind, (self,), (), attrs)

    def _loss(self, kind: str, label: Tensor, name: str) -> Graph:
        self.network._unique(label.name)
        self.network._append(self.network._name(name, kind), kind, (self,), (label,), NO_ATTRS)
        return self.network.graph()


def _weight_and_bias(layer: str, shape: tuple[int, ...], bias: bool) -> list[Tensor]:
    weight = Tensor(f"{layer}.weight", shape, Role.WEIGHT)
    return [weight, Tensor(f"{layer}.bias", shape[:1], Role.VECTOR_PARAMETER)] if bias else [weight]
