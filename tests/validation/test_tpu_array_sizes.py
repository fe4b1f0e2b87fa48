"""Are sizes of arrays ranked as published for TPU v2?

N. P. Jouppi et al., "A Domain-Specific Supercomputer for Training Deep Neural Networks", Communications of the ACM
63(7), 2020: utilization of chips of equal peak, 38 to 52 % with sixteen arrays of 64², 37 to 48 % with four of 128² and
22 to 30 % with one of 256². The designs are those of docs/tutorials/arrays.toml.
"""

from pathlib import Path

import numpy as np
import pytest

from hwsim.explore import Evaluator, load_space
from hwsim.explore.columns import FIELDS, accelerator_of
from hwsim.simulate import simulate
from hwsim_models import build

SPACE = load_space(Path(__file__).parents[2] / "docs" / "tutorials" / "arrays.toml")
CHIP = 256**2  # PEs


@pytest.fixture(scope="module")
def points():
    return Evaluator(SPACE, build).table(np.arange(SPACE.size)).to_pylist()


def accelerator(point):
    return accelerator_of(SPACE.base, {name: value for name, value in point.items() if name in FIELDS})


def test_all_designs_are_the_same_chip(points):
    def chip(point):
        hw = accelerator(point)
        return tuple(
            share * (CHIP // hw.pes)
            for share in (hw.dram.bytes_per_cycle, hw.scratchpad.capacity_bytes, hw.accumulator.capacity_bytes,
                          hw.vector.lanes, point["batch"])
        )  # fmt: skip

    assert [(accelerator(p).array.rows, accelerator(p).array.cols) for p in points[:3]] == [
        (64, 64),
        (128, 128),
        (256, 256),
    ]
    assert {chip(point) for point in points} == {(2048, 48 << 20, 16 << 20, 256, 256)}


@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_utilization_of_convolutions_is_ranked_as_published(points, model):
    used = []
    for point in points:
        if point["model"] == model:
            step = simulate(build(model, point["batch"]), accelerator(point))
            ops = [op for op in step.ops if op.macs]
            used.append(sum(op.macs for op in ops) / step.hardware.pes / sum(op.cycles for op in ops))
            assert step.cycles == point["cycles"]
    assert used[0] >= used[1] > used[2]
    assert used[1] / used[2] > 0.37 / 0.30  # no less apart than the published ranges


@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_utilization_of_all_ops_has_the_same_order(points, model):
    used = [point["utilization"] for point in points if point["model"] == model]
    assert used[0] >= used[1] > used[2]


def test_smaller_arrays_take_more_area(points):
    area = [CHIP // accelerator(point).pes * point["area_mm2"] for point in points[:3]]
    assert area[0] > area[1] > area[2]
