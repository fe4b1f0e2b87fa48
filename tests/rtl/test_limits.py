"""Is a program refused that the RTL has too few bits for, and none of those that presets run?"""

from __future__ import annotations

import re

import numpy as np
import pytest

from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim.mapping import plan_op
from hwsim.program import Field, Unit
from hwsim.workload import training_graph
from hwsim_models import build
from hwsim_rtl.limits import check_limits

HW = load_accelerator("edge-8x8-int8")


def command(unit: Unit, **fields: int) -> np.ndarray:
    flat = np.zeros((2, len(Field)), np.int64)
    flat[:, Field.UNIT] = unit
    for name, value in fields.items():
        flat[1, Field[name]] = value
    return flat


@pytest.mark.parametrize(
    ("unit", "fields", "most", "says"),
    [
        (Unit.LOAD, ("COUNT_W",), 65535, "command 1 (load) has COUNT_W 65,536; the RTL counts to 65,535"),
        (Unit.STORE, ("BEATS",), 65535, "command 1 (store) has BEATS 65,536; the RTL counts to 65,535"),
        (Unit.LOAD, ("TAPS_H",), 255, "command 1 (load) has TAPS_H 256; the RTL counts to 255"),
        (Unit.LOAD, ("LINE_BYTES",), 2**20 - 9, "has LINE_BYTES 1,048,568; the RTL counts to 1,048,567"),
        (Unit.MATRIX, ("FOLDS",), 65535, "command 1 (matrix) has FOLDS 65,536"),
        (Unit.MATRIX, ("COUNT_B", "COUNT_H"), 255, "has pixels of a tile 65,536; the RTL counts to 65,535"),
        (Unit.VECTOR, ("COUNT_B",), 65535, "command 1 (vector) has COUNT_B 65,536"),
        (Unit.VECTOR, ("PASSES",), 16, "command 1 (vector) has PASSES 17; the RTL counts to 16"),
    ],
)  # fmt: skip
def test_the_largest_number_is_taken_and_the_next_refused(unit, fields, most, says):
    ones = {"COUNT_B": 1, "COUNT_H": 1, "COUNT_W": 1}
    check_limits(HW, command(unit, **{**ones, **dict.fromkeys(fields, most)}), 4096, "mine")
    with pytest.raises(HwsimError, match=re.escape(says)):
        check_limits(HW, command(unit, **{**ones, **dict.fromkeys(fields, most + 1)}), 4096, "mine")


def test_addresses_have_32_bits():
    check_limits(HW, command(Unit.LOAD), 2**32, "mine")
    with pytest.raises(HwsimError, match="mine: it uses 4,294,967,424 bytes of memory; the RTL has addresses of 32"):
        check_limits(HW, command(Unit.LOAD), 2**32 + 128, "mine")


@pytest.mark.parametrize("preset", ["edge-8x8-int8", "edge-32x32-bf16"])
@pytest.mark.parametrize("model", ["digits-cnn", "resnet18"])
def test_programs_of_models_are_taken(model, preset):
    hw = load_accelerator(preset)
    graph = training_graph(build(model, 16), "momentum")
    for op in graph.ops:
        plan = plan_op(op, graph, hw)
        if plan.segments:
            check_limits(hw, plan.program.expand(), 1 << 30, op.name)
