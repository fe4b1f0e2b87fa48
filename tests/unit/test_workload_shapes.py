"""Does every forward op give the shape that computing it gives, and refuse what cannot be computed?"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.workload import Graph, Network, Phase, Value, freeze, macs, training_graph
from hwsim.workload.ops import rule_of
from hwsim.workload.ops.conv2d import tap_pairs

Pair = tuple[int, int]
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.tuples(st.integers(0, 2), st.integers(0, 2))


def starts(size: int, kernel: int, stride: int, padding: int, dilation: int) -> list[int]:
    """Positions in the padded input at which a whole window starts, found by trying all."""
    padded = size + 2 * padding
    return [p for p in range(padded) if p % stride == 0 and p + dilation * (kernel - 1) < padded]


def direct_convolution(
    x: NDArray[np.float64], w: NDArray[np.float64], stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> tuple[NDArray[np.float64], int]:
    """Convolve by seven loops; returns the output and the number of MACs done."""
    batch, height, width, channels = x.shape
    out, kh, kw, _ = w.shape
    padded = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    rows = starts(height, kh, stride[0], padding[0], dilation[0])
    columns = starts(width, kw, stride[1], padding[1], dilation[1])
    y, count = np.zeros((batch, len(rows), len(columns), out)), 0
    per_group, out_per_group = channels // groups, out // groups
    for b, (i, row), (j, column), o in product(range(batch), enumerate(rows), enumerate(columns), range(out)):
        first = o // out_per_group * per_group
        for r, s, c in product(range(kh), range(kw), range(per_group)):
            y[b, i, j, o] += padded[b, row + r * dilation[0], column + s * dilation[1], first + c] * w[o, r, s, c]
            count += 1
    return y, count


@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel=pairs,
    stride=pairs,
    padding=paddings,
    dilation=pairs,
    groups=st.integers(1, 2),
)
@settings(max_examples=60, deadline=None)
def test_conv2d_shapes_and_macs_match_direct_convolution(
    size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> None:
    axes = list(zip(size, kernel, stride, padding, dilation, strict=True))
    assume(all(starts(*axis) for axis in axes))
    x, w = np.ones((1, *size, 2)), np.ones((2, *kernel, 2 // groups))
    expected, count = direct_convolution(x, w, stride, padding, dilation, groups)

    net = Network("n", batch=1)
    first = net.input((*size, 2)).conv2d(2, kernel=1, name="first")
    y = first.conv2d(2, kernel, stride, padding, dilation, groups, name="conv")
    assert y.shape == expected.shape
    step = training_graph(y.mean_squared_error())
    ops = {op.name: op for op in step.ops}
    assert macs(ops["conv"], step) == count
    assert macs(ops["conv.wgrad"], step) == count
    # dgrad: of all pairs (input position, tap), those that meet the stride's grid, in the output or beyond its edge.
    met = [sum((i + p - r * d) % s == 0 for i in range(n) for r in range(k)) for n, k, s, p, d in axes]
    assert macs(ops["conv.dgrad"], step) == met[0] * met[1] * (2 // groups) * 2


@given(size=st.integers(1, 40), kernel=st.integers(1, 7), stride=st.integers(1, 4), dilation=st.integers(1, 3))
def test_tap_pairs_cover_every_forward_pair(size: int, kernel: int, stride: int, dilation: int) -> None:
    """Dgrad does at least the pairs that forward joins inside the input, and with stride 1 all of them."""
    windows = starts(size, kernel, stride, 0, dilation)
    pairs_done = tap_pairs(size, kernel, stride, 0, dilation)
    assert pairs_done >= len(windows) * kernel
    assert tap_pairs(size, kernel, 1, 0, dilation) == size * kernel


@given(size=st.tuples(st.integers(1, 9), st.integers(1, 9)), kernel=pairs, stride=pairs, padding=paddings)
@settings(deadline=None)
def test_pool_shapes_match_windows(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> None:
    assume(all(2 * p <= k for p, k in zip(padding, kernel, strict=True)))
    rows, columns = (starts(n, k, s, p, 1) for n, k, s, p in zip(size, kernel, stride, padding, strict=True))
    assume(rows and columns)
    x = Network("n", batch=2).input((*size, 3))
    assert x.max_pool(kernel, stride, padding).shape == (2, len(rows), len(columns), 3)
    assert x.avg_pool(kernel, stride, padding).shape == (2, len(rows), len(columns), 3)


def test_other_shapes() -> None:
    net = Network("n", batch=2)
    x = net.input((4, 6, 3))
    assert x.relu().relu6().batchnorm().shape == (2, 4, 6, 3)
    assert (x + x).shape == (2, 4, 6, 3)
    assert x.max_pool(2).shape == (2, 2, 3, 3)
    assert x.global_avg_pool().shape == (2, 3)
    assert x.argmax().shape == (2, 4, 6)
    assert x.flatten().shape == (2, 72)
    assert x.flatten().linear(5).shape == (2, 5)


def test_names() -> None:
    """Names are numbered, scopes prefix them, and a number that is taken is skipped."""
    net = Network("n", batch=2)
    x = net.input((4, 4, 3))
    assert repr(x.relu(name="relu1").relu()) == "relu2: (2, 4, 4, 3)"
    assert repr(x.relu6()) == "relu6_1: (2, 4, 4, 3)"
    with net.scope("layer1"), net.scope("0"):
        assert repr(x.conv2d(3, 1)) == "layer1.0.conv1: (2, 4, 4, 3)"
    assert repr(x.conv2d(3, 1)) == "conv1: (2, 4, 4, 3)"
    assert "layer1.0.conv1.weight" in net.graph().tensors


def image(net: Network) -> Value:
    return net.input((4, 4, 3))


def features(net: Network) -> Value:
    return net.input((6,))


REFUSALS: dict[str, tuple[Callable[[Network], object], str]] = {
    "sample": (
        lambda net: net.input((4, 4)),
        "input: a sample is (height, width, channels) or (features,), each 1 or more; it is (4, 4)",
    ),
    "conv2d of features": (
        lambda net: features(net).conv2d(8, 3, name="conv1"),
        "conv1: conv2d takes (batch, height, width, channels); its input is (2, 6)",
    ),
    "conv2d too large": (
        lambda net: image(net).conv2d(8, 3, dilation=2, name="conv1"),
        "conv1: the window must fit the padded input; it spans (5, 5) and the padded input is (4, 4)",
    ),
    "conv2d groups": (
        lambda net: image(net).conv2d(8, 3, groups=2, name="conv1"),
        "conv1: groups must divide the channels in and out; groups is 2, channels are 3 and 8",
    ),
    "conv2d out": (
        lambda net: image(net).conv2d(0, 3, name="conv1"),
        "conv1: out must be an integer, 1 or more; it is 0",
    ),
    "conv2d kernel": (
        lambda net: image(net).conv2d(8, (0, 3), name="conv1"),
        "conv1: kernel must be an integer or a pair of integers, 1 or more; it is (0, 3)",
    ),
    "conv2d padding": (
        lambda net: image(net).conv2d(8, 3, padding=-1, name="conv1"),
        "conv1: padding must be an integer or a pair of integers, 0 or more; it is -1",
    ),
    "conv2d stride of three": (
        lambda net: image(net).conv2d(8, 3, stride=(1, 2, 3), name="conv1"),  # type: ignore[arg-type]
        "conv1: stride must be an integer or a pair of integers, 1 or more; it is (1, 2, 3)",
    ),
    "linear of images": (
        lambda net: image(net).linear(10, name="fc"),
        "fc: linear takes (batch, features); its input is (2, 4, 4, 3); flatten it first",
    ),
    "batchnorm": (
        lambda net: image(net).argmax().batchnorm(name="bn"),
        "bn: batchnorm takes (batch, features) or (batch, height, width, channels); its input is (2, 4, 4)",
    ),
    "add": (
        lambda net: image(net).add(net.input((6,), name="other"), name="sum"),
        "sum: both inputs of add must have one shape; they are (2, 4, 4, 3) and (2, 6)",
    ),
    "pool padding": (
        lambda net: image(net).max_pool(2, padding=2, name="pool"),
        "pool: padding must be at most half the kernel; padding is (2, 2), kernel (2, 2)",
    ),
    "pool padding of one axis": (
        lambda net: image(net).avg_pool(2, padding=(0, 2), name="pool"),
        "pool: padding must be at most half the kernel; padding is (0, 2), kernel (2, 2)",
    ),
    "pool of features": (
        lambda net: features(net).global_avg_pool(name="pool"),
        "pool: global_avg_pool takes (batch, height, width, channels); its input is (2, 6)",
    ),
    "flatten": (
        lambda net: features(net).flatten(name="flat"),
        "flat: flatten takes (batch, height, width, channels); its input is (2, 6)",
    ),
    "cross-entropy of images": (
        lambda net: image(net).softmax_cross_entropy(),
        "loss: softmax_cross_entropy takes (batch, classes); its input is (2, 4, 4, 3)",
    ),
    "squared error of a vector": (
        lambda net: features(net).argmax().mean_squared_error(),
        "loss: mean_squared_error takes (batch, …), two axes or more; its input is (2,)",
    ),
    "same name": (
        lambda net: image(net).relu(name="act").relu(name="act"),
        "act: names in network 'net' must differ; this one is taken, choose another",
    ),
    "two losses": (
        lambda net: [image(net).mean_squared_error(), net.apply("relu", net.input((6,), "b")).mean_squared_error()],
        "target: names in network 'net' must differ; this one is taken, choose another",
    ),
    "other network": (
        lambda net: image(net).add(image(Network("other", 2)), name="sum"),
        "sum: its inputs must be of network 'net'; 'input' is not",
    ),
    "unknown kind": (
        lambda net: net.apply("gelu", image(net), name="act"),
        "no rule for op 'gelu' (node 'act'); add one in hwsim/workload/ops/gelu.py "
        "or give one to hwsim.workload.register",
    ),
    "backward kind": (
        lambda net: net.apply("relu_dgrad", image(net), name="act"),
        "act: 'relu_dgrad' is not a forward op; training_graph adds it where it is needed",
    ),
    "frozen nothing": (
        lambda net: freeze(image(net).conv2d(8, 3, name="conv10").mean_squared_error(), "conv1"),
        "freeze: no parameter of 'net' is under 'conv1'; there are conv10",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(case: str) -> None:
    build, message = REFUSALS[case]
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        build(Network("net", batch=2))


MISFITS: dict[str, tuple[str, tuple[tuple[int, ...], ...], str]] = {
    "conv2d weight": (
        "conv2d",
        ((2, 4, 4, 3), (8, 3, 3, 4)),
        "op: the weight of conv2d is (out, kernel_h, kernel_w, in / groups); "
        "it is (8, 3, 3, 4) and the input is (2, 4, 4, 3)",
    ),
    "conv2d bias": (
        "conv2d",
        ((2, 4, 4, 3), (8, 3, 3, 3), (3,)),
        "op: the bias of conv2d is (out,); it is (3,) and the weight is (8, 3, 3, 3)",
    ),
    "linear weight": (
        "linear",
        ((2, 6), (10, 5)),
        "op: the weight of linear is (out, features); it is (10, 5) and the input is (2, 6)",
    ),
    "linear bias": (
        "linear",
        ((2, 6), (10, 6), (6,)),
        "op: the bias of linear is (out,); it is (6,) and the weight is (10, 6)",
    ),
    "batchnorm vectors": (
        "batchnorm",
        ((2, 6), (6,), (5,), (6,), (6,)),
        "op: the vectors of batchnorm are (channels,); one is (5,) and the input is (2, 6)",
    ),
    "labels": (
        "softmax_cross_entropy",
        ((2, 6), (3,)),
        "op: labels are (batch,); they are (3,) and the logits are (2, 6)",
    ),
    "target": (
        "mean_squared_error",
        ((2, 6), (2, 5)),
        "op: the target has the prediction's shape; they are (2, 5) and (2, 6)",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_rule_refuses_parameters_that_do_not_fit(case: str) -> None:
    """The builder makes parameters that fit; a graph from elsewhere may not."""
    kind, shapes, message = MISFITS[case]
    rule = rule_of(kind, "op")
    assert rule.shapes is not None
    attrs = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        rule.shapes("op", attrs, shapes)


def test_batch_below_one_is_refused() -> None:
    with pytest.raises(HwsimError, match=r"^net: batch must be an integer, 1 or more; it is 0$"):
        Network("net", batch=0)


def test_refused_op_leaves_the_network_as_it_was() -> None:
    net = Network("net", batch=2)
    x = image(net)
    before = net.graph()
    with pytest.raises(HwsimError):
        x.conv2d(8, kernel=9)
    after: Graph = net.graph()
    assert (after.tensors, after.ops) == (before.tensors, before.ops)
    assert all(op.phase is Phase.FORWARD for op in after.ops)
