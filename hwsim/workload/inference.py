"""The inference graph of a network: what leads to its logits, with batch normalisation by the running statistics.

`inference_graph` takes the forward graph that `training_graph` takes; weights and running statistics keep their names,
so that the values of a training step serve both. Normative: docs/contracts/workload.md, section 8.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hwsim.errors import HwsimError
from hwsim.workload.graph import Graph, Op, Phase
from hwsim.workload.ops import rule_of

__all__ = ["inference_graph"]


def inference_graph(graph: Graph) -> Graph:
    """Cut a forward graph before its loss, and let the running statistics normalise.

    Parameters
    ----------
    graph : Graph
        Forward graph with one loss.

    Returns
    -------
    Graph
        The ops that lead to the first input of the loss, which the last op gives; `batchnorm` is replaced by
        `batchnorm_inference`. Name, batch and names of tensors stay; tensors that no op touches are left out.

    Raises
    ------
    HwsimError
        If the graph is a training step or has not one loss, no op leads to the loss, or an op reads the statistics of
        the batch.

    Examples
    --------
    >>> from hwsim.workload import Network
    >>> net = Network("tiny", batch=2)
    >>> graph = net.input((4,)).linear(3, name="fc").batchnorm(name="bn").softmax_cross_entropy()
    >>> for op in inference_graph(graph).ops:
    ...     print(op.kind, op.inputs, "->", op.outputs)
    linear ('input', 'fc.weight', 'fc.bias') -> ('fc',)
    batchnorm_inference ('fc', 'bn.gamma', 'bn.beta', 'bn.running_mean', 'bn.running_var') -> ('bn',)
    """
    ops = tuple(_inferring(op) for op in _leading_to_loss(graph))
    made = {name for op in ops for name in op.outputs}
    touched = made | {name for op in ops for name in op.inputs}
    given_in_training = {name for op in graph.ops for name in op.outputs if name not in op.inputs}
    for op in ops:
        lost = [name for name in op.inputs if name in given_in_training - made]
        if lost:
            raise HwsimError(
                f"{op.name}: it reads '{lost[0]}', a statistic of the batch that inference does not have; "
                "take the op out of what leads to the loss"
            )
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in touched}
    return replace(graph, tensors=MappingProxyType(tensors), ops=ops)


def _leading_to_loss(graph: Graph) -> tuple[Op, ...]:
    """Ops on which the first input of the loss depends, in order."""
    if any(op.phase is not Phase.FORWARD for op in graph.ops):
        raise HwsimError(
            f"{graph.name}: inference_graph takes a forward graph; this is a training step, give the one it was made of"
        )
    losses = [op for op in graph.ops if rule_of(op.kind, op.name).is_loss]
    if len(losses) != 1:
        names = ", ".join(op.name for op in losses) or "none"
        raise HwsimError(f"{graph.name}: inference_graph takes a graph with one loss; its losses are: {names}")
    wanted, found = {losses[0].inputs[0]}, []
    for op in reversed(graph.ops):
        if not wanted.isdisjoint(op.outputs):
            wanted.update(op.inputs)
            found.append(op)
    if not found:
        raise HwsimError(f"{graph.name}: no op leads to the loss '{losses[0].name}', so there is nothing to infer")
    return tuple(reversed(found))


def _inferring(op: Op) -> Op:
    if op.kind != "batchnorm":
        return op
    attrs = MappingProxyType({"eps": op.attrs["eps"]})
    return replace(op, kind="batchnorm_inference", outputs=op.outputs[:1], attrs=attrs)
