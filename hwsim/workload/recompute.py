"""Recomputation: tensors that the backward pass computes again instead of keeping them from the forward pass.

`with_recompute` rewrites a training step; the bits of the step stay, memory is traded for cycles. Normative:
docs/contracts/workload.md, section 9.

References
----------
T. Chen, B. Xu, C. Zhang, C. Guestrin, "Training deep nets with sublinear memory cost", arXiv:1604.06174, 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import sqrt
from types import MappingProxyType

from hwsim.errors import HwsimError
from hwsim.workload.graph import Graph, Op, Phase, Role, Tensor
from hwsim.workload.liveness import stashes, tensor_bytes
from hwsim.workload.ops import macs, rule_of

__all__ = ["RECOMPUTE_POLICIES", "again", "check_policy", "originals", "refuse_random_bits", "with_recompute"]

#: What `with_recompute` and ``--recompute`` take.
RECOMPUTE_POLICIES = ("none", "cheap", "sqrt")
_BACKWARD = (Phase.DGRAD, Phase.WGRAD)
#: Bytes of an operand where no format says it; only proportions matter here.
_OPERAND_BYTES = 2


def with_recompute(step: Graph, policy: str) -> Graph:
    """Let the backward pass of a training step compute again what `policy` does not keep.

    Parameters
    ----------
    step : Graph
        A step of `training_graph`, with or without formats.
    policy : str
        ``"none"``; ``"cheap"``: outputs of ops without MACs, from those of convolutions and linear layers that are
        kept anyway; ``"sqrt"``: everything between about √n checkpoints.

    Returns
    -------
    Graph
        The same step for ``"none"``, or where there is nothing to drop. Otherwise with ops of phase ``RECOMPUTE``, each
        before the first backward op that needs it; no other op moves, and none but backward ops read other tensors.

    Raises
    ------
    HwsimError
        If there is no such policy, the graph is no training step or recomputes already, a name is taken, or a tensor
        to be computed again is rounded stochastically.

    Examples
    --------
    >>> from hwsim.workload import Network, training_graph
    >>> net = Network("tiny", batch=2)
    >>> x = net.input((4,)).linear(3, name="fc1").batchnorm(name="bn").relu(name="relu")
    >>> step = with_recompute(training_graph(x.linear(2, name="fc2").mean_squared_error()), "cheap")
    >>> for op in step.ops:
    ...     if op.phase is Phase.RECOMPUTE:
    ...         print(op.kind, op.inputs, "->", op.outputs)
    batchnorm_apply ('fc1', 'bn.gamma', 'bn.beta', 'bn.mean', 'bn.rstd') -> ('bn.again',)
    relu ('bn.again',) -> ('relu.again',)
    """
    check_policy(policy)
    phases = {op.phase for op in step.ops}
    if phases.isdisjoint(_BACKWARD):
        raise HwsimError(f"{step.name}: with_recompute takes a training step; make one with training_graph")
    if Phase.RECOMPUTE in phases:
        raise HwsimError(f"{step.name}: this step recomputes already; give the one that it was made of")
    if policy == "none":
        return step
    return _Rewriting(step, _recomputable(step, policy)).result()


def check_policy(policy: str) -> None:
    """Refuse a policy that there is not.

    Raises
    ------
    HwsimError
        With those that there are.
    """
    if policy not in RECOMPUTE_POLICIES:
        raise HwsimError(f"unknown recompute policy '{policy}'; choose one of {', '.join(RECOMPUTE_POLICIES)}")


def again(name: str) -> str:
    """Name of what is computed again, tensor or op."""
    return f"{name}.again"


def originals(step: Graph) -> dict[str, str]:
    """Give the tensor of the forward pass for each one that is computed again."""
    forward = {op.name: op for op in step.ops if op.phase is Phase.FORWARD}
    return {
        name: original
        for op in step.ops
        if op.phase is Phase.RECOMPUTE
        for name, original in zip(op.outputs, forward[op.layer].outputs, strict=False)
    }


def refuse_random_bits(step: Graph) -> None:
    """Refuse a step in which what is computed again would be rounded by other random words than the first time.

    Raises
    ------
    HwsimError
        If the output of an op of phase ``RECOMPUTE`` is rounded stochastically.
    """
    for op in step.ops:
        if op.phase is Phase.RECOMPUTE:
            for tensor in step.tensors_of(op.outputs):
                if tensor.rounding == "stochastic":
                    raise HwsimError(
                        f"{step.name}: '{op.layer}' cannot be computed again, since it is rounded stochastically and "
                        "would not get the same bits; round activations to nearest (precision int8-nearest does), or "
                        "choose recompute 'none'"
                    )


def _recomputable(step: Graph, policy: str) -> dict[str, int]:
    """Tensors that are computed again where they are needed, with the index of the op that gives them.

    An output is, if the policy lets its op run again and each of its inputs is there in the backward pass: kept, or
    computed again itself. What is not and is stashed, is kept.
    """
    kept = set(stashes(step))
    forward = [op for op in step.ops if op.phase is Phase.FORWARD]
    in_place = {name for op in forward for name in op.outputs if name in op.inputs}
    made = {name for op in forward for name in op.outputs}
    allowed = _cheap(step) if policy == "cheap" else _before_checkpoints(step, forward)
    found: dict[str, int] = {}

    def there(name: str) -> bool:
        tensor = step.tensors[name]
        if tensor.role in (Role.INPUT, Role.ACTIVATION):
            return name in found or name in kept
        return name not in made or tensor.role is Role.STATISTIC

    for index, op in enumerate(step.ops):
        if op.phase is not Phase.FORWARD or op.name not in allowed:
            continue
        read = _apply_inputs(op) if op.kind == "batchnorm" else op.inputs
        if in_place.isdisjoint(read) and all(map(there, read)):
            found |= {name: index for name in op.outputs if step.tensors[name].role is Role.ACTIVATION}
    return found


def _cheap(step: Graph) -> frozenset[str]:
    """Ops without MACs."""
    return frozenset(op.name for op in step.ops if op.phase is Phase.FORWARD and not macs(op, step))


def _before_checkpoints(step: Graph, forward: list[Op]) -> frozenset[str]:
    """Ops before the last checkpoint that give none themselves; what follows the last one is needed at once."""
    leading = _leading_to_loss(forward)
    checkpoints = _checkpoints(step, leading)
    last = max((i for i, op in enumerate(leading) if op.outputs[0] in checkpoints), default=-1)
    return frozenset(op.name for op in leading[: last + 1] if op.outputs[0] not in checkpoints)


def _leading_to_loss(forward: list[Op]) -> list[Op]:
    """Ops on which the loss depends, and the loss, in order."""
    wanted: set[str] = set()
    found = []
    for op in reversed(forward):
        if rule_of(op.kind, op.name).is_loss or not wanted.isdisjoint(op.outputs):
            wanted.update(op.inputs)
            found.append(op)
    return found[::-1]


def _checkpoints(step: Graph, leading: list[Op]) -> frozenset[str]:
    """√n of the n stashed cut points, rounded, spaced by the bytes of stashed activations."""
    stashed = {name for name in stashes(step) if step.tensors[name].role is Role.ACTIVATION}
    candidates: dict[str, int] = {}
    total, cuts = 0, _cut_points(step, leading)
    for op in leading:
        total += sum(tensor_bytes(step.tensors[name], _OPERAND_BYTES) for name in op.outputs if name in stashed)
        if op.outputs[0] in cuts and op.outputs[0] in stashed:
            candidates[op.outputs[0]] = total
    wanted = round(sqrt(len(candidates)))
    targets = [total * i / (wanted + 1) for i in range(1, wanted + 1)]
    last_first = list(reversed(candidates))
    return frozenset(min(last_first, key=lambda name: abs(candidates[name] - target)) for target in targets)


def _cut_points(step: Graph, leading: list[Op]) -> frozenset[str]:
    """First outputs through which every path from the inputs to the loss goes.

    Those are the ones behind whose op nothing that was made before, or came from outside, is read but themselves.
    """
    carried = {name: -1 for name, tensor in step.tensors.items() if tensor.role is Role.INPUT}
    carried |= {name: index for index, op in enumerate(leading) for name in op.outputs}
    last_read: dict[int, int] = {}  # by the op that gives a tensor: the last op that reads it
    for index, op in enumerate(leading):
        for name in op.inputs:
            if name in carried:
                last_read[carried[name]] = index
    reach = last_read.get(-1, -1)
    found = []
    for index, op in enumerate(leading):
        if reach <= index:
            found.append(op.outputs[0])
        reach = max(reach, last_read.get(index, index))
    return frozenset(found)


def _apply_inputs(op: Op) -> tuple[str, ...]:
    """What `batchnorm_apply` reads in place of `batchnorm`: the batch's statistics, as they were stored."""
    return (*op.inputs[:3], *op.outputs[1:3])


class _Rewriting:
    """The step under construction; `recomputable` says which tensors are not kept, and which op gives them."""

    def __init__(self, step: Graph, recomputable: dict[str, int]) -> None:
        self.step, self.recomputable = step, recomputable
        self.tensors = dict(step.tensors)
        self.made: set[str] = set()

    def result(self) -> Graph:
        ops = tuple(op for old in self.step.ops for op in self.rewritten(old))
        if not self.made:
            return self.step
        step = replace(self.step, tensors=MappingProxyType(self.tensors), ops=ops)
        refuse_random_bits(step)
        return step

    def rewritten(self, op: Op) -> Iterator[Op]:
        """Give an op, with what it needs before it."""
        if op.phase not in _BACKWARD:
            yield op
            return
        for index in self.missing(op.inputs):
            yield self.repeated(self.step.ops[index])
        yield replace(op, inputs=self.renamed(op.inputs))

    def missing(self, names: Iterable[str]) -> list[int]:
        """Forward ops that must run again for tensors to be there, in order."""
        open_names, found = list(names), set()
        while open_names:
            name = open_names.pop()
            index = self.recomputable.get(name)
            if index is None or name in self.made or index in found:
                continue
            found.add(index)
            open_names.extend(self.step.ops[index].inputs)
        return sorted(found)

    def repeated(self, op: Op) -> Op:
        outputs = op.outputs[:1] if op.kind == "batchnorm" else op.outputs
        for name in outputs:
            self.add(self.step.tensors[name])
        self.made.update(outputs)
        new = replace(op, name=again(op.name), phase=Phase.RECOMPUTE, outputs=tuple(map(again, outputs)))
        if op.kind == "batchnorm":
            return replace(new, kind="batchnorm_apply", inputs=self.renamed(_apply_inputs(op)), attrs=_NO_ATTRS)
        return replace(new, inputs=self.renamed(op.inputs))

    def add(self, tensor: Tensor) -> None:
        name = again(tensor.name)
        if name in self.tensors:
            raise HwsimError(f"{self.step.name}: '{name}' is the name of what is computed again; rename that tensor")
        self.tensors[name] = replace(tensor, name=name)

    def renamed(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(again(name) if name in self.recomputable else name for name in names)


_NO_ATTRS: MappingProxyType[str, object] = MappingProxyType({})
