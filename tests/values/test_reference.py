"""Does the reference keep its exact rules (ties, bounds, padding), leave its arguments alone, and refuse well?"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256

import numpy as np
import pytest

from hwsim.errors import HwsimError
from hwsim.values.reference import RULES, Call, evaluate, initial, run
from hwsim.workload import (
    Graph,
    Network,
    Op,
    OpRule,
    Phase,
    Role,
    Tensor,
    register,
    training_graph,
)
from hwsim.workload.ops import nothing, per_output
from hwsim_models import build


def execute(kind: str, *inputs: object, shape: tuple[int, ...] = (), **attrs: object) -> list[object]:
    """First output of one rule, as nested lists."""
    outputs = RULES[kind](Call("op", attrs, (shape,), 1), *(np.array(i, np.float64) for i in inputs))
    return outputs[0].tolist()


def line(*pixels: float) -> list[object]:
    """One image of one row and one channel."""
    return [[[[p] for p in pixels]]]


WINDOW = {"kernel": (1, 2), "stride": (1, 1), "padding": (0, 0)}


def test_of_equal_largest_inputs_the_first_gets_the_gradient() -> None:
    x, y = line(3, 3, 3, 1), line(3, 3, 3)
    assert execute("max_pool", x, **WINDOW) == y
    assert execute("max_pool_dgrad", x, y, line(1, 10, 100), **WINDOW) == line(1, 10, 100, 0)


def test_first_means_row_by_row() -> None:
    square = np.full((1, 2, 2, 1), 5.0)
    square[0, 0, 0] = 4
    window = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    dx = execute("max_pool_dgrad", square, [[[[5]]]], [[[[1]]]], **window)
    assert dx == [[[[0], [1]], [[0], [0]]]]


def test_padding_is_never_the_largest() -> None:
    window = {"kernel": (1, 3), "stride": (1, 1), "padding": (0, 1)}
    x, y = line(-5, -7, -9), line(-5, -5, -7)
    assert execute("max_pool", x, **window) == y
    assert execute("max_pool_dgrad", x, y, line(1, 10, 100), **window) == line(11, 100, 0)


def test_averages_count_the_padding() -> None:
    window = {"kernel": (1, 3), "stride": (1, 2), "padding": (0, 1)}
    assert execute("avg_pool", line(6, 9, 30), **window) == line(5, 13)
    assert execute("avg_pool_dgrad", line(3, 6), shape=(1, 1, 3, 1), **window) == line(1, 3, 2)


def test_rectifiers_pass_no_gradient_at_their_bounds() -> None:
    assert execute("relu_dgrad", [0, 1e-300, 2], [5, 6, 7]) == [0, 6, 7]
    assert execute("relu6", [-1, 0, 3, 6, 7]) == [0, 0, 3, 6, 6]
    assert execute("relu6_dgrad", [0, 3, 5.9, 6], [5, 6, 7, 8]) == [0, 6, 7, 0]


def test_argmax_takes_the_first() -> None:
    assert execute("argmax", [[1, 4, 4], [2, 2, 2]]) == [1, 0]


def test_running_variance_is_unbiased_and_normalisation_is_not() -> None:
    attrs = {"eps": 0.0, "momentum": 0.25}
    given = [np.array(a, np.float64) for a in ([[1.0], [3.0]], [1.0], [0.0], [8.0], [4.0])]
    y, mean, rstd, running_mean, running_var = RULES["batchnorm"](Call("bn", attrs, (), 1), *given)
    assert (y.tolist(), mean.tolist(), rstd.tolist()) == ([[-1], [1]], [2], [1])
    assert (running_mean.tolist(), running_var.tolist()) == ([6.5], [3.5])  # 6 + 0.5; 3 + 0.25 · 2


def tiny() -> Graph:
    net = Network("tiny", batch=2)
    return net.input((2, 2, 1)).batchnorm(name="bn").flatten().linear(3, name="fc").softmax_cross_entropy()


def tiny_tensors(step: Graph) -> dict[str, np.ndarray]:
    x = np.arange(8.0).reshape(2, 2, 2, 1)
    return initial(step, seed=0) | {"input": x, "labels": np.array([0, 2])}


def test_arguments_are_neither_written_nor_handed_out() -> None:
    step = training_graph(tiny(), "adam")
    tensors = tiny_tensors(step)
    before = {name: array.copy() for name, array in tensors.items()}
    values = run(step, tensors)
    for name, array in before.items():
        np.testing.assert_array_equal(tensors[name], array, err_msg=name)
        assert not np.shares_memory(values[name], tensors[name]), name
    named = list(values.items())
    for index, (name, array) in enumerate(named):
        assert array.dtype == np.float64
        assert not [other for other, b in named[:index] if np.shares_memory(array, b)], name
    assert set(values) == set(step.tensors)


def test_the_values_of_a_step_can_be_given_to_the_next() -> None:
    step = training_graph(tiny(), "momentum")
    tensors = tiny_tensors(step)
    losses = []
    for number in range(1, 9):
        tensors = run(step, tensors, step_number=number)
        losses.append(tensors["loss"][0])
    assert losses[-1] < 0.5 * losses[0]
    np.testing.assert_array_equal(tensors["fc.weight"], tensors["fc.weight.master"])


def test_evaluate_needs_no_labels_and_takes_any_number_of_samples() -> None:
    graph = tiny()
    x = np.random.default_rng(0).normal(size=(5, 2, 2, 1))
    parameters = initial(graph, seed=1)
    logits = evaluate(graph, parameters, x)
    assert logits.shape == (5, 3)
    # Each sample by itself, since only running statistics normalise.
    np.testing.assert_allclose(np.concatenate([evaluate(graph, parameters, x[i : i + 1]) for i in range(5)]), logits)


def test_initial_values() -> None:
    step = training_graph(build("digits-resnet", 2), "adam")
    values = initial(step, seed=3)
    assert set(values) == {t.name for t in step.tensors.values() if t.role in KEPT}
    for name, array in values.items():
        tensor = step.tensors[name]
        assert (array.shape, array.dtype) == (tensor.shape, np.float64)
        np.testing.assert_array_equal(array, array.astype(np.float32), err_msg=name)
        if tensor.role in (Role.WEIGHT, Role.MASTER):
            fan_in = array[0].size
            assert abs(array).max() <= np.float32((6 / fan_in) ** 0.5)
            if array.size > 1000:
                assert array.var() == pytest.approx(2 / fan_in, rel=0.1)
                assert abs(array.mean()) < 0.1 * array.std()
        else:
            one = name.endswith((".gamma", ".running_var"))
            np.testing.assert_array_equal(array, np.full(tensor.shape, float(one)), err_msg=name)
    np.testing.assert_array_equal(values["fc.weight"], values["fc.weight.master"])


KEPT = (Role.WEIGHT, Role.VECTOR_PARAMETER, Role.BUFFER, Role.MASTER, Role.STATE)


def test_initial_values_are_of_the_seed_alone() -> None:
    graph = build("digits-mlp", 2)
    values, others = initial(graph, seed=3), initial(graph, seed=4)
    assert (values["fc1.weight"] != others["fc1.weight"]).all()
    for batch, optimizer in ((2, "sgd"), (5, "adam")):
        again = initial(training_graph(build("digits-mlp", batch), optimizer), seed=3)
        for name, array in values.items():
            np.testing.assert_array_equal(again[name], array)


def test_initial_values_are_the_same_everywhere() -> None:
    """Golden: from this function, numpy 2.4, Linux x86-64. Another hash is another start of every stored run."""
    weight = initial(build("digits-mlp", 2), seed=0)["fc1.weight"]
    assert sha256(weight.astype("<f4").tobytes()).hexdigest()[:16] == "957658843db53d81"


def test_an_op_of_ones_own_needs_and_takes_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    register(OpRule(kind="own_sign", shapes=lambda n, a, s: s, macs=nothing, vector_operations=per_output(1)))
    net = Network("net", batch=2)
    net.apply("own_sign", net.input((2,)), name="sign1")
    x = np.array([[1.0, -2.0], [0.0, 3.0]])
    message = (
        "no reference values for op 'own_sign' (node 'sign1'); "
        "give it a rule in hwsim.values.reference.RULES['own_sign']"
    )
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        run(net.graph(), {"input": x})
    monkeypatch.setitem(RULES, "own_sign", lambda call, x: (np.sign(x),))
    assert run(net.graph(), {"input": x})["sign1"].tolist() == [[1, -1], [0, 1]]


def given(**other: object) -> dict[str, object]:
    return {**tiny_tensors(training_graph(tiny())), **other}


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in given().items() if key != name}


def one_pixel() -> Graph:
    return Network("net", batch=1).input((3,)).batchnorm(name="bn").mean_squared_error()


def two_inputs() -> Graph:
    net = Network("net", batch=1)
    return net.input((3,)).add(net.input((3,), name="other")).mean_squared_error()


REFUSALS: dict[str, tuple[Callable[[], object], str]] = {
    "missing": (
        lambda: run(tiny(), without("bn.gamma")),
        "tiny: op 'bn' reads 'bn.gamma', which no op gives; give it with the other tensors",
    ),
    "missing state": (
        lambda: run(training_graph(tiny()), without("fc.weight.velocity")),
        "tiny: op 'fc.weight.update' reads 'fc.weight.velocity', which no op gives; give it with the other tensors",
    ),
    "shape": (
        lambda: run(tiny(), given(input=np.zeros((2, 4)))),
        "input: the tensor is (2, 2, 2, 1); the array given is (2, 4)",
    ),
    "label": (
        lambda: run(tiny(), given(labels=[0, 3])),
        "loss: labels are whole numbers from 0 to 2; one is 3",
    ),
    "fraction": (
        lambda: run(tiny(), given(labels=[0.5, 1])),
        "loss: labels are whole numbers from 0 to 2; one is 0.5",
    ),
    "step number": (
        lambda: run(tiny(), given(), step_number=0),
        "tiny: step_number must be an integer, 1 or more; it is 0",
    ),
    "one value per channel": (
        lambda: run(one_pixel(), {**initial(one_pixel(), 0), "input": np.zeros((1, 3)), "target": np.zeros((1, 3))}),
        "bn: batchnorm needs 2 values per channel or more, for an unbiased variance; it has 1",
    ),
    "samples": (
        lambda: evaluate(tiny(), given(), np.zeros((5, 4))),
        "input: samples are (samples, 2, 2, 1); the array is (5, 4)",
    ),
    "two inputs": (
        lambda: evaluate(two_inputs(), {}, np.zeros((5, 3))),
        "net: evaluate takes a network with one input and one loss; it has 2 and 1",
    ),
    "parameter of evaluate": (
        lambda: evaluate(tiny(), without("fc.bias"), np.zeros((5, 2, 2, 1))),
        "tiny: op 'fc' reads 'fc.bias', which no op gives; give it with the other tensors",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(case: str) -> None:
    act, message = REFUSALS[case]
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        act()


def test_a_tensor_given_twice_is_read_as_it_was_then() -> None:
    """An update in place after a reader does not reach back: the order of the ops is that of the values."""
    tensors = {name: Tensor(name, (1,), Role.ACTIVATION) for name in ("a", "b")}
    double = Op("double", "add", Phase.FORWARD, ("a", "a"), ("a",))
    graph = Graph("net", 1, tensors, (Op("copy", "relu", Phase.FORWARD, ("a",), ("b",)), double, double))
    values = run(graph, {"a": [1.0]})
    assert (values["a"].tolist(), values["b"].tolist()) == ([4], [1])
