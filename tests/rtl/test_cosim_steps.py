"""Does the RTL of presets make whole training steps, and Gemmini's products, as the simulator does?

Every byte of memory, every dispatch, start and end, all cycles and counters must be equal.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hwsim.hardware import Accelerator, load_accelerator
from hwsim.program import VECTOR_OPS, Field, Unit, VectorOp
from hwsim.simulate import gemm
from hwsim.workload import default_precision
from hwsim_models import build
from hwsim_rtl.cosim import CosimProgram, cosimulate, step_program
from hwsim_rtl.cosim.gemm import gemm_program

GEMMINI = "gemmini-16x16-int8"
SIZES = [(64, 64, 64), (128, 128, 128), (256, 256, 256), (16, 512, 512), (512, 512, 64), (512, 512, 512)]


@pytest.fixture(scope="module")
def cache(request: pytest.FixtureRequest) -> Path:
    """Where models are kept from run to run."""
    return Path(request.config.cache.mkdir("hwsim-models"))


def step_of(name: str, hw: Accelerator, batch: int, optimizer: str = "momentum") -> CosimProgram:
    return step_program(build(name, batch), hw, default_precision(hw), optimizer=optimizer)


def special_operations(program: CosimProgram) -> set[str]:
    """Micro-operations of a program that make laps through their lanes."""
    codes = program.flat[program.flat[:, Field.UNIT] == Unit.VECTOR, Field.OPCODE]
    return {VectorOp(code).name for code in codes.tolist() if VECTOR_OPS[VectorOp(code)].laps > 1}


def assert_equal(results) -> None:
    assert all(r.equal for r in results), [(r.name, r.differences()) for r in results if not r.equal]


@pytest.mark.parametrize("name", ["edge-8x8-int8", "edge-8x8-bf16"])
def test_a_training_step_of_the_digits_mlp(name, cache):
    hw = load_accelerator(name)
    program = step_of("digits-mlp", hw, 32)
    assert special_operations(program) == {"EXP", "LOG", "RECIPROCAL"}
    assert_equal(cosimulate(hw, [program], cache))
    assert len({section for _, section in program.sections}) > 10


def test_a_training_step_with_adam(cache):
    hw = load_accelerator("edge-8x8-int8")
    program = step_of("digits-mlp", hw, 4, "adam")
    assert special_operations(program) == {"EXP", "LOG", "RECIPROCAL", "RECIPROCAL_ROOT"}
    assert_equal(cosimulate(hw, [program], cache))


@pytest.mark.long
def test_a_training_step_with_batch_normalisation(cache):
    hw = load_accelerator("edge-8x8-int8")
    program = step_of("digits-resnet", hw, 1)
    assert "RECIPROCAL_ROOT" in special_operations(program)
    assert_equal(cosimulate(hw, [program], cache))


@pytest.mark.long
def test_a_training_step_that_computes_again(cache):
    hw = load_accelerator("edge-8x8-bf16")
    program = step_program(build("digits-cnn", 1), hw, default_precision(hw), recompute="cheap")
    assert {"conv1.bn.again", "conv2.relu.again", "pool2.again"} <= {section for _, section in program.sections}
    assert_equal(cosimulate(hw, [program], cache))


@pytest.mark.long
def test_the_gemms_that_gemmini_was_timed_on(cache):
    """Cycles of docs/gemmini.md, and the array busy for 97 % of the largest by the machine's own counter."""
    hw = load_accelerator(GEMMINI)
    results = cosimulate(hw, [gemm_program(*size, hw) for size in SIZES], cache)
    assert_equal(results)
    for size, result in zip(SIZES, results, strict=True):
        assert result.cycles == gemm(*size, hw).cycles
    assert results[-1].counters["MATRIX_BUSY"] / results[-1].cycles >= 0.97
