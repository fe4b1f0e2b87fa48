"""From a forward graph to a whole training step: reverse-mode differentiation by the ops' own gradient rules.

Every op that leads from a trainable parameter to the loss is asked, last first, for its backward ops; the gradients of
a tensor with several readers are summed; each parameter's update closes the step. Names and order are in
docs/contracts/workload.md.
"""

from __future__ import annotations

from types import MappingProxyType

from hwsim.errors import HwsimError
from hwsim.workload.graph import Graph, Op, Phase, Role, Tensor
from hwsim.workload.ops import GradientOp, OpRule, SharedGradient, gradient_name, rule_of
from hwsim.workload.optimizers import Optimizer, optimizer_of

__all__ = ["training_graph"]

_PARAMETERS = (Role.WEIGHT, Role.VECTOR_PARAMETER)


def training_graph(graph: Graph, optimizer: str | Optimizer = "momentum", master_weights: bool = True) -> Graph:
    """Add the backward ops and the updates to a forward graph.

    There is no dgrad before the first trainable parameter, and none into the network's input; frozen parameters have
    neither wgrad nor update. A parameter that does not lead to the loss is left as it is.

    Parameters
    ----------
    graph : Graph
        Forward graph with one loss.
    optimizer : str or Optimizer
        Name, or instance of a class of `hwsim.workload.optimizers`.
    master_weights : bool
        Whether the optimizer holds an fp32 copy of each weight, which its update writes too.

    Returns
    -------
    Graph
        The step: forward ops, backward ops in reverse order, updates.

    Raises
    ------
    HwsimError
        If the graph is a training step already, has not one loss, has nothing to train, or needs the gradient of an op
        that has none; or if no optimizer has that name.
    """
    recipe = optimizer_of(optimizer)
    loss = _loss_of(graph)
    step = _Step(graph)
    for op in reversed(graph.ops):
        step.differentiate(op, loss)
    if not step.trained:
        raise HwsimError(f"{graph.name}: no trainable parameter leads to the loss; unfreeze one to train it")
    for parameter in graph.tensors.values():
        if parameter.name in step.trained:
            step.update(parameter, recipe, master_weights)
    return Graph(graph.name, graph.batch, MappingProxyType(step.tensors), tuple(step.ops))


def _loss_of(graph: Graph) -> Op:
    if any(op.phase is not Phase.FORWARD for op in graph.ops):
        raise HwsimError(f"{graph.name}: training_graph takes a forward graph; this one is a training step already")
    losses = [op for op in graph.ops if rule_of(op.kind, op.name).is_loss]
    if len(losses) != 1:
        names = ", ".join(op.name for op in losses) or "none"
        raise HwsimError(f"{graph.name}: training_graph takes a graph with one loss; its losses are: {names}")
    return losses[0]


def _wanted(graph: Graph) -> set[str]:
    """Tensors that depend on a trainable parameter, and these parameters."""
    wanted = {t.name for t in graph.tensors.values() if t.role in _PARAMETERS and t.trainable}
    for op in graph.ops:
        if not wanted.isdisjoint(op.inputs):
            wanted.add(op.outputs[0])
    return wanted


def _readers(graph: Graph) -> dict[str, int]:
    """How often ops that lead to the loss read each tensor: the number of parts of its gradient."""
    readers: dict[str, int] = {}
    for op in reversed(graph.ops):
        if op.outputs[0] in readers or rule_of(op.kind, op.name).is_loss:
            for name in op.inputs:
                readers[name] = readers.get(name, 0) + 1
    return readers


class _Step:
    """The step under construction.

    `parts` holds, per tensor, the gradients that its readers gave so far; all readers of a tensor come after the op
    that gives it, so when the reverse order reaches that op, the parts are complete.
    """

    def __init__(self, graph: Graph) -> None:
        self.tensors = dict(graph.tensors)
        self.ops = list(graph.ops)
        self.trained: dict[str, str] = {}
        self.wanted = _wanted(graph)
        self.readers = _readers(graph)
        self.parts: dict[str, list[str]] = {}

    def differentiate(self, op: Op, loss: Op) -> None:
        """Append the backward ops of `op`, if a gradient has reached it."""
        parts = self.parts.get(op.outputs[0])
        if parts is None and op is not loss:
            return
        rule = rule_of(op.kind, op.name)
        if rule.gradient is None:
            raise _no_gradient(op, rule)
        dy = "" if parts is None else self.sum(op, parts)
        for made in rule.gradient(op, dy, self.wanted.__contains__):
            if isinstance(made, SharedGradient):
                self.share(made, dy)
            else:
                self.append(op, made)

    def sum(self, op: Op, parts: list[str]) -> str:
        """Sum the parts of the gradient of the output of `op`, two at a time, in the order in which they came."""
        total, output = parts[0], op.outputs[0]
        for index, part in enumerate(parts[1:], start=1):
            # Only the last sum carries the tensor's name; with three readers or more, those before it are numbered.
            number = "" if index == len(parts) - 1 else f".{index}"
            result = f"{gradient_name(output)}.sum{number}" if number else gradient_name(output)
            self.tensors[result] = Tensor(result, self.tensors[output].shape, Role.GRADIENT)
            self.ops.append(Op(f"{op.name}.sum{number}", "add", Phase.DGRAD, (total, part), (result,), layer=op.name))
            total = result
        return total

    def share(self, made: SharedGradient, dy: str) -> None:
        for name in made.of:
            if name in self.wanted:
                self.parts.setdefault(name, []).append(dy)

    def append(self, op: Op, made: GradientOp) -> None:
        outputs = tuple(self.gradient_of(name, made) for name in made.of)
        name = f"{op.name}.{made.suffix}"
        self.ops.append(Op(name, made.kind, made.phase, made.inputs, outputs, made.attrs, op.name))

    def gradient_of(self, name: str, made: GradientOp) -> str:
        """Make the tensor for one gradient, whole or a part, and return its name."""
        tensor = self.tensors[name]
        if tensor.role in _PARAMETERS:
            return self.parameter_gradient(tensor)
        parts = self.parts.setdefault(name, [])
        gradient = gradient_name(name)
        if self.readers[name] > 1:
            gradient = f"{gradient}.{len(parts) + 1}"
        self.tensors[gradient] = Tensor(gradient, tensor.shape, Role.GRADIENT)
        parts.append(gradient)
        return gradient

    def parameter_gradient(self, parameter: Tensor) -> str:
        gradient = gradient_name(parameter.name)
        if gradient in self.tensors:
            raise HwsimError(f"{parameter.name}: a parameter must be read by one op; two read it, give each its own")
        # Batch normalisation sums the gradients of frozen parameters too; no optimizer reads them.
        role = Role.WEIGHT_GRADIENT if parameter.trainable else Role.STATISTIC
        self.tensors[gradient] = Tensor(gradient, parameter.shape, role)
        if parameter.trainable:
            self.trained[parameter.name] = gradient
        return gradient

    def update(self, parameter: Tensor, optimizer: Optimizer, master_weights: bool) -> None:
        """Append the update of one parameter, with its master copy and states."""
        name, shape = parameter.name, parameter.shape
        held = name
        also: tuple[str, ...] = ()
        if master_weights and parameter.role is Role.WEIGHT:
            held, also = f"{name}.master", (name,)
            self.tensors[held] = Tensor(held, shape, Role.MASTER)
        states = tuple(f"{name}.{state}" for state in optimizer.states)
        self.tensors.update((state, Tensor(state, shape, Role.STATE)) for state in states)
        self.ops.append(
            Op(
                f"{name}.update",
                f"{optimizer.name}_update",
                Phase.UPDATE,
                (held, self.trained[name], *states),
                (held, *also, *states),
                optimizer.attrs,
                name.rpartition(".")[0],
            )
        )


def _no_gradient(op: Op, rule: OpRule) -> HwsimError:
    return HwsimError(
        f"no gradient rule for op '{rule.kind}' (node '{op.name}'); cut the graph before it "
        f"or add one in hwsim/workload/ops/{rule.kind}.py"
    )
