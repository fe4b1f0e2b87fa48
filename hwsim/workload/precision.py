"""In which formats the tensors of a step are stored, how they are rounded, and how small numbers are kept in range.

`Precision` says it by role, `precision_of` finds one by name or file, `with_precision` writes it into a graph.
Normative: docs/contracts/workload.md, section 7.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hwsim.errors import HwsimError
from hwsim.hardware import FORMAT_BITS, Accelerator
from hwsim.hardware.formats import array_formats
from hwsim.workload.graph import Graph, Role, Tensor
from hwsim.workload.ops import macs
from hwsim.workload.recompute import refuse_random_bits

__all__ = ["PRECISIONS", "Precision", "default_precision", "precision_of", "with_precision"]

_OPERAND_FORMATS = ("int8", "fp8_e4m3", "bf16", "fp16", "fp32")
_ROUNDINGS = ("nearest", "stochastic")
_SCALINGS = ("none", "loss", "tensor")
#: Roles that the field is about; the rounding of a role is the field with ``_rounding`` behind its name.
_OPERANDS = {Role.WEIGHT: "weights", Role.ACTIVATION: "activations", Role.GRADIENT: "gradients"}
#: Roles that are fp32 in every precision.
_WIDE = frozenset({Role.VECTOR_PARAMETER, Role.MASTER, Role.BUFFER, Role.STATISTIC, Role.WEIGHT_GRADIENT})


@dataclass(frozen=True)
class Precision:
    """Formats and rounding by role; whatever is not named here is fp32, and class labels are int32.

    Attributes
    ----------
    name : str
        What reports call it.
    operand_format : str
        What the array is built for: ``"int8"``, ``"fp8_e4m3"``, ``"bf16"``, ``"fp16"`` or ``"fp32"``.
    weights, activations, gradients : str
        Formats of the array's operands: `operand_format`, or, on an array for fp8, one of the two fp8 formats.
        Network inputs and regression targets are stored like activations, rounded to nearest by the host.
    weight_gradients : str
        Format of the gradients of parameters: ``"fp32"``.
    state : str
        Format of the optimizer's state, masters excepted: ``"fp32"`` or ``"bf16"``.
    weights_rounding, activations_rounding, gradients_rounding, state_rounding : str
        ``"nearest"`` or ``"stochastic"``; what is fp32 is rounded to nearest.
    scaling : str
        ``"none"``; ``"loss"``, one exponent for all gradients; ``"tensor"``, one for each int8 tensor.
    master_weights : bool
        Whether the optimizer holds an fp32 copy of each weight.

    Raises
    ------
    HwsimError
        If a field is out of its range.
    """

    name: str
    operand_format: str
    weights: str
    activations: str
    gradients: str
    weight_gradients: str = "fp32"
    state: str = "fp32"
    weights_rounding: str = "nearest"
    activations_rounding: str = "nearest"
    gradients_rounding: str = "nearest"
    state_rounding: str = "nearest"
    scaling: str = "none"
    master_weights: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise HwsimError(f"the name of a precision must be a text, not {self.name!r}; give it one")
        if self.operand_format == "fp8_e5m2":
            raise self._error("operand_format", _OPERAND_FORMATS, "an array for fp8_e4m3 decodes it too")
        self._one_of("operand_format", _OPERAND_FORMATS)
        formats = array_formats(self.operand_format)
        for field in _OPERANDS.values():
            self._one_of(field, formats, f"that is what an array for {self.operand_format} decodes")
        self._one_of("weight_gradients", ("fp32",))
        self._one_of("state", ("fp32", "bf16"))
        for field in (*_OPERANDS.values(), "state"):
            self._one_of(f"{field}_rounding", _ROUNDINGS)
            if getattr(self, field) == "fp32":
                self._one_of(f"{field}_rounding", _ROUNDINGS[:1], f"fp32 {field} never lose bits when they are stored")
        self._one_of("scaling", _SCALINGS)
        if self.operand_format == "int8":
            self._one_of("scaling", _SCALINGS[2:], "without exponents every weight below 1/2 would be stored as 0")
        else:
            self._one_of("scaling", _SCALINGS[:2], "one exponent per tensor is for int8")
        if not isinstance(self.master_weights, bool):
            raise self._error("master_weights", ("true", "false"))

    def _one_of(self, field: str, allowed: tuple[str, ...], reason: str = "") -> None:
        if getattr(self, field) not in allowed:
            raise self._error(field, allowed, reason)

    def _error(self, field: str, allowed: tuple[str, ...], reason: str = "") -> HwsimError:
        *most, last = allowed
        choice = f"{', '.join(most)} or {last}" if most else last
        because = f"; {reason}" if reason else ""
        return HwsimError(f"precision '{self.name}': {field} must be {choice}, not {getattr(self, field)!r}{because}")


def _plain(name: str, **changes: Any) -> Precision:
    """Everything in one format."""
    return Precision(name, name, name, name, name, **changes)


_INT8 = Precision("int8-nearest", "int8", "int8", "int8", "int8", scaling="tensor")

#: Precisions by name.
PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        p.name: p
        for p in (
            _plain("fp32", master_weights=False),
            _plain("bf16"),
            _plain("fp16", scaling="loss"),
            Precision("fp8", "fp8_e4m3", "fp8_e4m3", "fp8_e4m3", "fp8_e5m2", scaling="loss"),
            replace(
                _INT8,
                name="int8",
                weights_rounding="stochastic",
                activations_rounding="stochastic",
                gradients_rounding="stochastic",
            ),
            _INT8,
        )
    }
)


def precision_of(precision: str | Path | Precision) -> Precision:
    """Find a precision.

    Parameters
    ----------
    precision : str, Path or Precision
        A name of `PRECISIONS`, the path of a ``.toml`` file with the fields of `Precision`, or an instance, which is
        given back.

    Raises
    ------
    HwsimError
        Unknown name, missing or unreadable file, broken TOML, or a field that is unknown, missing or out of range.

    Examples
    --------
    >>> precision_of("fp8").gradients
    'fp8_e5m2'
    """
    if isinstance(precision, Precision):
        return precision
    text = str(precision)
    if text in PRECISIONS:
        return PRECISIONS[text]
    if not text.endswith(".toml"):
        raise HwsimError(f"unknown precision '{text}'; choose one of {', '.join(PRECISIONS)}, or name a .toml file")
    try:
        given = tomllib.loads(Path(text).read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise HwsimError(f"'{text}' is not valid TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise HwsimError(f"cannot read precision '{text}': {reason}") from None
    known = {field.name: field.default is MISSING for field in fields(Precision)}
    for name in given:
        if name not in known:
            raise HwsimError(f"'{text}': unknown field '{name}'; the fields are {', '.join(known)}")
    for name, required in known.items():
        if required and name not in given:
            raise HwsimError(f"'{text}': field '{name}' is missing")
    try:
        return Precision(**given)
    except HwsimError as error:
        raise HwsimError(f"'{text}': {error}") from None


def default_precision(hw: Accelerator) -> Precision:
    """Precision of an accelerator for which none is named: that of its operand format.

    >>> from hwsim.hardware import load_accelerator
    >>> default_precision(load_accelerator("edge-8x8-bf16")).name
    'bf16'
    """
    name = hw.array.operand_format
    return PRECISIONS["fp8" if name.startswith("fp8") else name]


def with_precision(graph: Graph, precision: Precision) -> Graph:
    """Write the format and the rounding of every tensor into a graph.

    Parameters
    ----------
    graph : Graph
        A training step, or a forward graph. Tensors that have a format already keep it, and their rounding.
    precision : Precision
        What the others get, by their role.

    Raises
    ------
    HwsimError
        If the format or the rounding that a tensor has already is unknown or not one for its role, or if the array
        would have to read or write it and is built for another one; or if what a step computes again would be rounded
        stochastically.

    Examples
    --------
    >>> from hwsim.workload import Network, training_graph
    >>> net = Network("tiny", batch=2)
    >>> step = training_graph(net.input((4,)).linear(2, name="fc").mean_squared_error())
    >>> tensors = with_precision(step, PRECISIONS["fp8"]).tensors
    >>> tensors["fc.weight"].format, tensors["grad(fc)"].format, tensors["fc.weight.master"].format
    ('fp8_e4m3', 'fp8_e5m2', 'fp32')
    """
    own = {tensor.name for tensor in graph.tensors.values() if tensor.format}
    for name in own:
        _check_own(graph.tensors[name])
    for op_name, name in _on_the_array(graph, own):
        allowed = array_formats(precision.operand_format)
        if graph.tensors[name].format not in allowed:
            raise HwsimError(
                f"{name}: its format must be {' or '.join(allowed)} where op '{op_name}' takes it to an array for "
                f"{precision.operand_format}, not {graph.tensors[name].format}; change it or the precision, "
                f"'{precision.name}'"
            )
    tensors = {name: tensor if name in own else _formatted(tensor, precision) for name, tensor in graph.tensors.items()}
    formatted = replace(graph, tensors=MappingProxyType(tensors))
    refuse_random_bits(formatted)
    return formatted


def _check_own(tensor: Tensor) -> None:
    """Check the format and the rounding that a tensor has already."""
    allowed = tuple(name for name in FORMAT_BITS if name != "int32")
    if _is_class_label(tensor):
        allowed = ("int32",)
    elif tensor.role in _WIDE:
        allowed = ("fp32",)
    elif tensor.role is Role.STATE:
        allowed = ("fp32", "bf16")
    if tensor.format not in allowed:
        raise HwsimError(
            f"{tensor.name}: the format of a tensor of role {tensor.role.value} must be one of {', '.join(allowed)}, "
            f"not '{tensor.format}'"
        )
    if tensor.rounding not in _ROUNDINGS:
        raise HwsimError(
            f"{tensor.name}: the rounding of a tensor must be one of {', '.join(_ROUNDINGS)}, not '{tensor.rounding}'"
        )


def _on_the_array(graph: Graph, names: set[str]) -> Iterator[tuple[str, str]]:
    """Ops that use the array and, of the tensors `names`, those that the op reads or writes as operands."""
    for op in graph.ops:
        touched = op.inputs + op.outputs
        if names.isdisjoint(touched) or not macs(op, graph):
            continue
        for name in touched:
            if name in names and graph.tensors[name].role in (*_OPERANDS, Role.INPUT):
                yield op.name, name


def _is_class_label(tensor: Tensor) -> bool:
    return tensor.role is Role.LABEL and len(tensor.shape) == 1


def _formatted(tensor: Tensor, precision: Precision) -> Tensor:
    if tensor.role in _OPERANDS or tensor.role is Role.STATE:
        field = _OPERANDS.get(tensor.role, "state")
        return replace(tensor, format=getattr(precision, field), rounding=getattr(precision, f"{field}_rounding"))
    if tensor.role in _WIDE:
        return replace(tensor, format="fp32", rounding="nearest")
    # What is left comes from the host: samples and labels.
    name = "int32" if _is_class_label(tensor) else precision.activations
    return replace(tensor, format=name, rounding="nearest")
