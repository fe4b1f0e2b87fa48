"""Does the float64 reference train on real data?"""

from __future__ import annotations

import pytest

from hwsim.values import digits
from hwsim.values.reference import evaluate, initial, run
from hwsim.workload import Adam, Momentum, Optimizer, training_graph
from hwsim_models import build


@pytest.mark.parametrize(
    ("model", "optimizer", "epochs", "least_pct"),
    [
        ("digits-mlp", Momentum(learning_rate=0.1), 10, 95),
        ("digits-cnn", Momentum(learning_rate=0.05), 5, 95),
        ("digits-cnn", Adam(learning_rate=3e-3), 5, 95),
        ("digits-resnet", Momentum(learning_rate=0.05), 5, 95),
    ],
)
def test_test_accuracy_on_digits(model: str, optimizer: Optimizer, epochs: int, least_pct: float) -> None:
    """At batch 32. Measured: 96.7 % for the perceptron, 97.2 % or more for the others."""
    step = training_graph(build(model, 32), optimizer)
    data = digits().shaped(step.tensors["input"].shape[1:])
    tensors = initial(step, seed=0)
    losses: list[float] = []
    for epoch in range(epochs):
        for x, y in data.batches(32, seed=0, epoch=epoch):
            tensors = run(step, tensors | {"input": x, "labels": y}, step_number=len(losses) + 1)
            losses.append(float(tensors["loss"][0]))
    right = evaluate(step, tensors, data.test_x).argmax(1) == data.test_y
    print(f"{model} {optimizer.name}: {100 * right.mean():.2f} %, loss {losses[0]:.3f} to {losses[-1]:.3f}")
    assert 100 * right.mean() >= least_pct
    assert sum(losses[-10:]) < 0.1 * sum(losses[:10])
