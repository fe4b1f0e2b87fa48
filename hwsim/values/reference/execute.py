"""Execution of a graph in float64, one rule per kind of op; `RULES` is the table of all of them.

An op of one's own (docs/contracts/workload.md, 6) gets its rule here: ``RULES["my_op"] = rule``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from hwsim.errors import HwsimError
from hwsim.values.reference import batchnorm, elementwise, loss, matrix, pool, update
from hwsim.values.reference.call import Array, Arrays, Call, Rule
from hwsim.workload.graph import Graph, Op, Phase, Role
from hwsim.workload.ops import rule_of

__all__ = ["RULES", "evaluate", "run"]

#: Rules by kind of op.
RULES: dict[str, Rule] = {
    **matrix.RULES,
    **batchnorm.RULES,
    **elementwise.RULES,
    **pool.RULES,
    **loss.RULES,
    **update.RULES,
}


def run(graph: Graph, tensors: Mapping[str, ArrayLike], *, step_number: int = 1) -> dict[str, Array]:
    """Execute all ops of a graph, in order.

    Parameters
    ----------
    graph : Graph
        A forward graph, or a whole step of `training_graph`.
    tensors : mapping of str to array_like
        Values by name, at least of the tensors that no op gives before one reads them: inputs, labels, parameters,
        buffers, masters and states. Other tensors of the graph are ignored, as are names that are not of the graph,
        so that the values of one step may be given to the next. The arrays are copied, never written.
    step_number : int
        Number of the training step, 1 or more, with which Adam corrects its moments.

    Returns
    -------
    dict of str to ndarray, dtype float64
        All tensors after the last op: those that are updated in place have their new values.

    Raises
    ------
    HwsimError
        If a tensor is missing or has another shape, a kind has no rule, or `step_number` is below 1.

    Examples
    --------
    >>> from hwsim.workload import Network, training_graph
    >>> net = Network("tiny", batch=2)
    >>> step = training_graph(net.input((1,)).linear(1, bias=False, name="fc").mean_squared_error(), "sgd")
    >>> weight = {"fc.weight": [[3.0]], "fc.weight.master": [[3.0]]}
    >>> values = run(step, {"input": [[1.0], [2.0]], "target": [[1.0], [0.0]], **weight})
    >>> values["loss"], values["grad(fc.weight)"], values["fc.weight"]
    (array([20.]), array([[14.]]), array([[2.986]]))
    """
    if not isinstance(step_number, int) or step_number < 1:
        raise HwsimError(f"{graph.name}: step_number must be an integer, 1 or more; it is {step_number!r}")
    values = _given(graph, graph.ops, tensors)
    for op in graph.ops:
        values.update(_execute(op, graph, values, RULES, step_number))
    return values


def evaluate(graph: Graph, parameters: Mapping[str, ArrayLike], x: ArrayLike) -> Array:
    """Infer: what the loss of a network would read, with batch normalisation by the running statistics.

    Parameters
    ----------
    graph : Graph
        A network with one input and one loss, or its training step.
    parameters : mapping of str to array_like
        Weights, vector parameters and running statistics by name; other names are ignored.
    x : array_like of shape (samples, …)
        Any number of samples; the graph's batch does not matter.

    Returns
    -------
    ndarray of shape (samples, classes), dtype float64
        The logits, or the prediction.

    Raises
    ------
    HwsimError
        If there is not one input and one loss, a tensor is missing or has another shape, or a kind has no rule.
    """
    forward = tuple(op for op in graph.ops if op.phase is Phase.FORWARD)
    losses = [op for op in forward if rule_of(op.kind, op.name).is_loss]
    inputs = [t for t in graph.tensors.values() if t.role is Role.INPUT]
    if len(losses) != 1 or len(inputs) != 1:
        raise HwsimError(
            f"{graph.name}: evaluate takes a network with one input and one loss; "
            f"it has {len(inputs)} and {len(losses)}"
        )
    samples = np.array(x, np.float64)
    if samples.shape[1:] != inputs[0].shape[1:]:
        raise HwsimError(
            f"{inputs[0].name}: samples are (samples, {', '.join(map(str, inputs[0].shape[1:]))}); "
            f"the array is {samples.shape}"
        )
    logits = losses[0].inputs[0]
    needed = _leading_to(logits, forward)
    values = _given(graph, needed, parameters, known=(inputs[0].name,))
    values[inputs[0].name] = samples
    for op in needed:
        values.update(_execute(op, graph, values, RULES | batchnorm.INFERENCE_RULES, step_number=1))
    return values[logits]


def _leading_to(name: str, ops: Sequence[Op]) -> tuple[Op, ...]:
    """Ops that the tensor `name` depends on, in order."""
    wanted, found = {name}, []
    for op in reversed(ops):
        if not wanted.isdisjoint(op.outputs):
            wanted.update(op.inputs)
            found.append(op)
    return tuple(reversed(found))


def _given(
    graph: Graph, ops: Iterable[Op], tensors: Mapping[str, ArrayLike], known: tuple[str, ...] = ()
) -> dict[str, Array]:
    """Copies of the tensors that `ops` read before one of them gives them, `known` ones excepted."""
    given: dict[str, Array] = {}
    made = set(known)
    for op in ops:
        for name in op.inputs:
            if name not in made and name not in given:
                given[name] = _copy(graph, op, name, tensors)
        made.update(op.outputs)
    return given


def _copy(graph: Graph, op: Op, name: str, tensors: Mapping[str, ArrayLike]) -> Array:
    if name not in tensors:
        raise HwsimError(
            f"{graph.name}: op '{op.name}' reads '{name}', which no op gives; give it with the other tensors"
        )
    array = np.array(tensors[name], np.float64)
    if array.shape != graph.tensors[name].shape:
        raise HwsimError(f"{name}: the tensor is {graph.tensors[name].shape}; the array given is {array.shape}")
    return array


def _execute(
    op: Op, graph: Graph, values: Mapping[str, Array], rules: Mapping[str, Rule], step_number: int
) -> dict[str, Array]:
    if op.kind not in rules:
        raise HwsimError(
            f"no reference values for op '{op.kind}' (node '{op.name}'); "
            f"give it a rule in hwsim.values.reference.RULES['{op.kind}']"
        )
    call = Call(op.name, op.attrs, tuple(t.shape for t in graph.tensors_of(op.outputs)), step_number)
    outputs: Arrays = rules[op.kind](call, *(values[name] for name in op.inputs))
    return dict(zip(op.outputs, outputs, strict=True))
