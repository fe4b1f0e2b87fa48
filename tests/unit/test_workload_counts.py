"""Does every kind count what docs/contracts/workload.md says, and does that page name every kind?"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hwsim.errors import HwsimError
from hwsim.workload import (
    Adam,
    AdamW,
    Graph,
    Momentum,
    Nesterov,
    Network,
    Op,
    Optimizer,
    Phase,
    Sgd,
    macs,
    registered,
    training_graph,
    vector_operations,
)

PAGE = Path(__file__).parents[2] / "docs" / "contracts" / "workload.md"

KINDS = registered()


def zoo() -> Graph:
    """A network with every forward op, on images (2, 6, 6, 4) = 288 elements."""
    net = Network("zoo", batch=2)
    x = net.input((6, 6, 3)).conv2d(4, kernel=3, padding=1, bias=True, name="conv")
    x = x.batchnorm(name="bn").relu(name="relu").relu6(name="relu6")
    x = x.add(x.max_pool(3, stride=1, padding=1, name="max"), name="add")
    x = x.avg_pool(2, name="avg")
    x = x.conv2d(8, kernel=3, stride=2, padding=1, groups=2, name="grouped")
    flat, pooled = x.flatten(name="flat").linear(8, bias=False, name="fc1"), x.global_avg_pool(name="gap")
    y = flat.add(pooled, name="join")
    y.argmax(name="top1")
    return y.linear(5, name="fc2").softmax_cross_entropy()


#: (MACs, vector operations), worked out by hand from the page.
EXPECTED = {
    "conv": (2 * 6 * 6 * 4 * 3 * 3 * 3, 288),
    "bn": (0, 3 * 288 + 10 * 4),
    "relu": (0, 288),
    "relu6": (0, 288),
    "max": (0, 8 * 288),
    "add": (0, 288),
    "avg": (0, 4 * 72),
    "grouped": (2 * 2 * 2 * 8 * 3 * 3 * 2, 0),
    "flat": (0, 0),
    "fc1": (2 * 32 * 8, 0),
    "gap": (0, 64 + 16),
    "join": (0, 16),
    "top1": (0, 16),
    "fc2": (2 * 8 * 5, 10),
    "loss": (0, 5 * 10 + 4 * 2),
    "loss.dgrad": (0, 2 * 10),
    "fc2.wgrad": (80, 0),
    "fc2.bias_grad": (0, 10),
    "fc2.dgrad": (80, 0),
    "gap.dgrad": (0, 16),
    "fc1.wgrad": (512, 0),
    "fc1.dgrad": (512, 0),
    "flat.dgrad": (0, 0),
    "grouped.sum": (0, 64),
    "grouped.wgrad": (2 * 2 * 2 * 8 * 3 * 3 * 2, 0),
    # Positions 0 and 2 (even) take tap 1, position 1 (odd) takes taps 0 and 2: 4 pairs an axis.
    "grouped.dgrad": (2 * 4 * 4 * 2 * 8, 0),
    "avg.dgrad": (0, 4 * 72 + 288),
    "max.dgrad": (0, 2 * 9 * 288),
    "relu6.sum": (0, 288),
    "relu6.dgrad": (0, 288),
    "relu.dgrad": (0, 288),
    "bn.wgrad": (0, 3 * 288),
    "bn.dgrad": (0, 2 * 288 + 8 * 4),
    "conv.wgrad": (2 * 6 * 6 * 4 * 3 * 3 * 3, 0),
    "conv.bias_grad": (0, 288),
}


def test_counts_of_every_kind() -> None:
    step = training_graph(zoo())
    counts = {op.name: (macs(op, step), vector_operations(op, step)) for op in step.ops if op.phase is not Phase.UPDATE}
    assert counts == EXPECTED


def test_counts_of_squared_error() -> None:
    step = training_graph(Network("n", 2).input((4,)).linear(3, name="fc").mean_squared_error())
    counts = {op.name: (macs(op, step), vector_operations(op, step)) for op in step.ops}
    assert counts["loss"] == counts["loss.dgrad"] == (0, 2 * 6)


@pytest.mark.parametrize(
    ("optimizer", "per_parameter"),
    [
        (Sgd(), 1),
        (Sgd(weight_decay=1e-4), 2),
        (Momentum(), 3),
        (Momentum(weight_decay=0.0), 2),
        (Nesterov(), 4),
        (Nesterov(weight_decay=0.0), 3),
        (Adam(), 12),
        (Adam(weight_decay=1e-4), 13),
        (AdamW(), 13),
    ],
)
def test_counts_of_updates(optimizer: Optimizer, per_parameter: int) -> None:
    graph = zoo()
    step = training_graph(graph, optimizer)
    updates = [op for op in step.ops if op.phase is Phase.UPDATE]
    assert sum(vector_operations(op, step) for op in updates) == per_parameter * graph.parameters
    assert sum(macs(op, step) for op in updates) == 0


def test_kind_without_rule_is_refused() -> None:
    graph = zoo()
    op = Op("act", "gelu", Phase.FORWARD, ("input",), ("conv",))
    message = (
        "no rule for op 'gelu' (node 'act'); add one in hwsim/workload/ops/gelu.py "
        "or give one to hwsim.workload.register"
    )
    for count in (macs, vector_operations):
        with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
            count(op, graph)


def test_listing() -> None:
    net = Network("tiny", batch=2)
    graph = net.input((4,)).linear(300, name="fc").mean_squared_error()
    assert graph.listing().splitlines() == [
        "tiny: batch 2, 1,500 parameters, 2 ops, 2,400 MACs",
        "op    kind                phase    reads                      writes      MACs  vector operations",
        "fc    linear              forward  input, fc.weight, fc.bias  fc[2×300]  2,400                600",
        "loss  mean_squared_error  forward  fc, target                 loss[1]        0              1,200",
    ]


def test_page_names_every_kind() -> None:
    page = PAGE.read_text()
    assert [kind for kind in KINDS if not kind.startswith(("page_", "own_")) and f"`{kind}`" not in page] == []


def test_page_examples_run() -> None:
    # In a process of its own, since the page registers kinds.
    done = subprocess.run([sys.executable, "-m", "doctest", str(PAGE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
