"""What hwsim knows about a kind of op, as one frozen record, and the registry that holds the records.

`OpRule` says what an op kind gives, how its gradient is made and what it costs; docs/contracts/workload.md is the
table of all of them. A kind without a rule is refused by name, never counted as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from hwsim.errors import HwsimError
from hwsim.workload.graph import Graph, Op, Phase, Role, Tensor

__all__ = [
    "GradientOp",
    "OpRule",
    "SharedGradient",
    "gradient_name",
    "macs",
    "nothing",
    "per_input",
    "per_output",
    "register",
    "registered",
    "rule_of",
    "same_shape",
    "vector_operations",
]

Shape = tuple[int, ...]
Attrs = Mapping[str, Any]
Tensors = tuple[Tensor, ...]

#: Attributes of an op that has none.
NO_ATTRS: Attrs = MappingProxyType({})


@dataclass(frozen=True)
class GradientOp:
    """One op of a backward pass, as a gradient rule describes it.

    Attributes
    ----------
    kind : str
        Kind of the op; it needs a rule of its own.
    phase : Phase
        ``DGRAD`` or ``WGRAD``.
    inputs : tuple of str
        Names of tensors; the gradient of parameter ``p`` is ``gradient_name(p)``.
    of : tuple of str
        Tensors whose gradients the op gives, in the order of its outputs.
    attrs : mapping
        Attributes of the op.
    """

    kind: str
    phase: Phase
    inputs: tuple[str, ...]
    of: tuple[str, ...]
    attrs: Attrs = field(default_factory=lambda: NO_ATTRS)

    @property
    def suffix(self) -> str:
        """What follows the layer in the op's name: ``dgrad``, ``wgrad`` or ``bias_grad``."""
        return self.kind if self.kind == "bias_grad" else self.kind.rpartition("_")[2]


@dataclass(frozen=True)
class SharedGradient:
    """The output's gradient is, unchanged and without an op, the gradient of these tensors."""

    of: tuple[str, ...]


#: ``(op name, attributes, input shapes) -> output shapes``; raises HwsimError where the shapes do not fit.
ShapeRule = Callable[[str, Attrs, tuple[Shape, ...]], tuple[Shape, ...]]
#: ``(forward op, name of its output's gradient, is this tensor's gradient wanted?) -> backward ops, in order``.
GradientRule = Callable[[Op, str, Callable[[str], bool]], Iterable[GradientOp | SharedGradient]]
#: ``(op, its input tensors, its output tensors) -> count``.
CountRule = Callable[[Op, Tensors, Tensors], int]


@dataclass(frozen=True, kw_only=True)
class OpRule:
    """All that is known about one kind of op.

    Attributes
    ----------
    kind : str
        Its name.
    macs : callable
        MACs done on the array. A zero is said with `nothing`, it is no default.
    vector_operations : callable
        Elementary lane operations done in the vector unit; conversions of format are not counted.
    shapes : callable or None
        Shape rule of a forward op; None for the kinds that only `training_graph` makes.
    gradient : callable or None
        Gradient rule of a forward op; gradients flow through the first output. None: the op cannot be differentiated.
    outputs : tuple of (str, Role)
        Name suffix and role per output; a tensor without suffix has the op's name.
    is_loss : bool
        Whether differentiation starts here.
    """

    kind: str
    macs: CountRule
    vector_operations: CountRule
    shapes: ShapeRule | None = None
    gradient: GradientRule | None = None
    outputs: tuple[tuple[str, Role], ...] = (("", Role.ACTIVATION),)
    is_loss: bool = False


_RULES: dict[str, OpRule] = {}


def register(rule: OpRule) -> None:
    """Make an op kind known.

    Raises
    ------
    HwsimError
        If the kind has a rule already.
    """
    if rule.kind in _RULES:
        raise HwsimError(f"op '{rule.kind}' has a rule already; register yours under another kind")
    _RULES[rule.kind] = rule


def registered() -> tuple[str, ...]:
    """Kinds that have a rule, in order of registration."""
    return tuple(_RULES)


def rule_of(kind: str, node: str) -> OpRule:
    """Rule of `kind`.

    Parameters
    ----------
    kind : str
        Kind of an op.
    node : str
        Name of the op, for the message.

    Raises
    ------
    HwsimError
        If the kind has no rule.
    """
    rule = _RULES.get(kind)
    if rule is None:
        raise HwsimError(
            f"no rule for op '{kind}' (node '{node}'); add one in hwsim/workload/ops/{kind}.py "
            "or give one to hwsim.workload.register"
        )
    return rule


def macs(op: Op, graph: Graph) -> int:
    """MACs that `op` does on the array.

    Raises
    ------
    HwsimError
        If the op's kind has no rule.
    """
    return rule_of(op.kind, op.name).macs(op, graph.tensors_of(op.inputs), graph.tensors_of(op.outputs))


def vector_operations(op: Op, graph: Graph) -> int:
    """Elementary lane operations that `op` does in the vector unit.

    Raises
    ------
    HwsimError
        If the op's kind has no rule.
    """
    return rule_of(op.kind, op.name).vector_operations(op, graph.tensors_of(op.inputs), graph.tensors_of(op.outputs))


def gradient_name(tensor: str) -> str:
    """Name of a tensor's gradient."""
    return f"grad({tensor})"


def nothing(op: Op, inputs: Tensors, outputs: Tensors) -> int:
    """Count of an op that uses that unit not at all."""
    return 0


def per_output(count: int) -> CountRule:
    """`count` for every element of the first output."""
    return lambda op, inputs, outputs: count * outputs[0].elements


def per_input(count: int) -> CountRule:
    """`count` for every element of the first input."""
    return lambda op, inputs, outputs: count * inputs[0].elements


def same_shape(name: str, attrs: Attrs, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
    """Shape rule of an elementwise op of one input."""
    return (inputs[0],)
