"""Another loss for a network: `with_squared_error` replaces the one that a graph has.

Everything before the loss, and all names of it, stay.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hwsim.errors import HwsimError
from hwsim.workload.graph import Graph, Op, Phase, Role, Tensor
from hwsim.workload.ops import rule_of

__all__ = ["with_squared_error"]


def with_squared_error(graph: Graph) -> Graph:
    """End a network in the mean squared error to a tensor ``target`` instead of its own loss.

    Parameters
    ----------
    graph : Graph
        Forward graph with one loss.

    Returns
    -------
    Graph
        The same graph, unless its loss is another one; then labels and probabilities are gone.

    Raises
    ------
    HwsimError
        If the graph has not one loss, or is a training step.

    Examples
    --------
    >>> from hwsim.workload import Network
    >>> net = Network("tiny", batch=2)
    >>> graph = with_squared_error(net.input((4,)).linear(3, name="fc").softmax_cross_entropy())
    >>> graph.ops[-1].kind, graph.ops[-1].inputs, graph.tensors["target"].shape, "labels" in graph.tensors
    ('mean_squared_error', ('fc', 'target'), (2, 3), False)
    """
    losses = [op for op in graph.ops if rule_of(op.kind, op.name).is_loss]
    if len(losses) != 1 or any(op.phase is not Phase.FORWARD for op in graph.ops):
        raise HwsimError(f"{graph.name}: a loss is replaced in a forward graph with one loss; it has {len(losses)}")
    (old,) = losses
    kind = "mean_squared_error"
    if old.kind == kind:
        return graph
    prediction = graph.tensors[old.inputs[0]]
    gone = {*old.inputs[1:], *old.outputs}
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name not in gone}
    target = Tensor("target", prediction.shape, Role.LABEL)
    loss = Tensor(old.name, (1,), Role.STATISTIC)
    tensors |= {tensor.name: tensor for tensor in (target, loss)}
    new = Op(old.name, kind, Phase.FORWARD, (prediction.name, target.name), (loss.name,), layer=old.layer)
    ops = tuple(new if op is old else op for op in graph.ops)
    return replace(graph, tensors=MappingProxyType(tensors), ops=ops)
