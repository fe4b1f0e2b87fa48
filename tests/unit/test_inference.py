"""Does an inference graph compute what the reference infers, with the training graph's own parameters?"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from hwsim.errors import HwsimError
from hwsim.values.reference import evaluate, initial, run
from hwsim.workload import (
    Graph,
    Network,
    Op,
    Phase,
    inference_graph,
    macs,
    registered,
    training_graph,
    vector_operations,
)

BATCH = 3


def residual_net() -> Graph:
    """A small network with every op that inference treats apart: normalisations, a branch, an op beside the loss."""
    net = Network("residual", batch=BATCH)
    x = net.input((6, 6, 2)).conv2d(4, 3, padding=1, name="conv1").batchnorm(eps=1e-3, name="bn1").relu()
    y = x.conv2d(4, 3, padding=1, name="conv2").batchnorm(name="bn2") + x
    logits = y.global_avg_pool().linear(5, name="fc").batchnorm(name="bn3")
    logits.argmax(name="top1")
    return logits.softmax_cross_entropy()


def test_it_computes_what_the_reference_infers() -> None:
    graph, rng = residual_net(), np.random.default_rng(1)
    inference = inference_graph(graph)
    values = initial(graph, seed=1)
    for name in list(values):  # nothing is 0 or 1, so that a forgotten tensor shows
        values[name] = values[name] + rng.uniform(0.1, 0.5, values[name].shape)
    x = rng.normal(size=(BATCH, 6, 6, 2))
    got = run(inference, {**values, "input": x})
    assert inference.ops[-1].outputs == ("bn3",)
    np.testing.assert_array_equal(got["bn3"], evaluate(graph, values, x))


def test_names_shapes_and_batch_are_those_of_the_network() -> None:
    graph = residual_net()
    inference = inference_graph(graph)
    left_out = ("labels", "loss", "loss.probabilities", "top1")
    statistics = tuple(f"bn{i}.{s}" for i in (1, 2, 3) for s in ("mean", "rstd"))
    assert set(graph.tensors) - set(inference.tensors) == {*left_out, *statistics}
    assert all(graph.tensors[name] is tensor for name, tensor in inference.tensors.items())
    assert (inference.name, inference.batch, inference.parameters) == (graph.name, graph.batch, graph.parameters)
    kinds = {"batchnorm": "batchnorm_inference"}
    assert [(op.name, op.kind, op.inputs) for op in inference.ops] == [
        (op.name, kinds.get(op.kind, op.kind), op.inputs) for op in graph.ops if op.name not in ("loss", "top1")
    ]
    assert sum(macs(op, inference) for op in inference.ops) == sum(macs(op, graph) for op in graph.ops)


def test_batchnorm_counts_a_multiply_add_per_element_and_five_operations_per_channel() -> None:
    inference = inference_graph(residual_net())
    (first, *_) = (op for op in inference.ops if op.kind == "batchnorm_inference")
    assert vector_operations(first, inference) == BATCH * 6 * 6 * 4 + 5 * 4
    assert dict(first.attrs) == {"eps": 1e-3}


def refusal(graph: Graph) -> str:
    with pytest.raises(HwsimError) as error:
        inference_graph(graph)
    return str(error.value)


def test_training_steps_and_graphs_without_one_loss_are_refused() -> None:
    graph = residual_net()
    assert refusal(training_graph(graph)) == (
        "residual: inference_graph takes a forward graph; this is a training step, give the one it was made of"
    )
    assert refusal(inference_graph(graph)) == (
        "residual: inference_graph takes a graph with one loss; its losses are: none"
    )
    net = Network("two", batch=2)
    x = net.input((4,)).linear(3)
    x.mean_squared_error(name="first")
    second = x.softmax_cross_entropy(name="second")
    assert refusal(second) == "two: inference_graph takes a graph with one loss; its losses are: first, second"


def test_loss_without_a_network_is_refused() -> None:
    net = Network("bare", batch=2)
    assert refusal(net.input((4,)).mean_squared_error()) == (
        "bare: no op leads to the loss 'loss', so there is nothing to infer"
    )


def test_ops_that_read_the_statistics_of_the_batch_are_refused() -> None:
    graph = residual_net()
    reader = Op("peek", "add", Phase.FORWARD, ("bn3", "bn1.mean"), ("peek",), layer="peek")
    loss = graph.ops[-1]
    tensors = MappingProxyType({**graph.tensors, "peek": replace(graph.tensors["bn3"], name="peek")})
    ops = (*graph.ops[:-1], reader, replace(loss, inputs=("peek", loss.inputs[1])))
    assert refusal(replace(graph, tensors=tensors, ops=ops)) == (
        "peek: it reads 'bn1.mean', a statistic of the batch that inference does not have; "
        "take the op out of what leads to the loss"
    )


def test_inference_op_has_no_gradient() -> None:
    assert "batchnorm_inference" in registered()
    graph = residual_net()
    inference = inference_graph(graph)
    tensors = MappingProxyType({**graph.tensors, **inference.tensors})
    with pytest.raises(HwsimError) as error:
        training_graph(replace(inference, tensors=tensors, ops=(*inference.ops, graph.ops[-1])))
    assert str(error.value) == (
        "no gradient rule for op 'batchnorm_inference' (node 'bn3'); cut the graph before it "
        "or add one in hwsim/workload/ops/batchnorm_inference.py"
    )


def test_inference_op_refuses_what_batchnorm_refuses() -> None:
    net = Network("wrong", batch=2)
    x = net.input((4,))
    with pytest.raises(HwsimError) as error:
        net.apply("batchnorm_inference", x, x, x, x, x, name="bn", eps=1e-5)
    assert str(error.value) == "bn: the vectors of batchnorm are (channels,); one is (2, 4) and the input is (2, 4)"
