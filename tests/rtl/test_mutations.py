"""Do the tests of `make test` see a broken machine? Each case breaks the RTL in one place, and the named test fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
RTL = ROOT / "rtl" / "hwsim_rtl"


class Mutation(NamedTuple):
    """What breaks, where and how, and the test that is to fail."""

    what: str
    file: str
    old: str
    new: str
    test: str


_ARRAY = "test_array.py::test_stationary_"
_SUMS_WS = _ARRAY + "sums_leave_with_the_contracts_value_in_the_contracts_cycle[4x2-a3-m1-b3-int8-l0]"
_FOLDS_WS = _ARRAY + "products_of_several_folds_equal_a_matrix_product"
_SUMS_OS = (
    "test_array.py::test_output_stationary_sums_leave_with_the_contracts_value_in_the_contracts_cycle"
    "[4x2-a3-m1-b3-int8-l0]"
)
_MATRIX = "test_matrix.py::test_commands_do_what_the_reference_does_in_the_cycles_of_the_contract"
_BEYOND = "test_matrix.py::test_lanes_beyond_the_tile_are_cleared_where_sums_are_replaced_and_kept_where_they_are_added"
_AGAIN = "test_matrix.py::test_a_line_that_comes_again_after_the_latency_of_the_accumulator_is_added_to_in_time"
_DMA = "test_dma.py::test_loads_and_stores_do_what_the_reference_does_in_the_cycles_of_the_contract"
_READ = "test_dma.py::test_a_row_or_a_column_is_read_in_a_cycle_while_a_beat_is_written[3-5]"
_VECTOR = "test_vector.py::test_random_commands_give_the_words_of_the_machine_model[short]"
_DRAWS = "test_vector.py::test_lanes_draw_for_every_group_and_only_for_stochastic_conversions[any]"
_ADDER = "test_arithmetic.py::test_fp32_adder_is_the_contract_at_every_latency"
_CONVERSION = "test_arithmetic.py::test_conversion_with_both_roundings[bf16]"
_CONTROL = "test_control.py::test_random_programs_run_as_timed"
_ILLEGAL = "test_control.py::test_what_is_illegal_stops_with_its_code_and_the_next_program_runs"
_SEMAPHORES = "test_control.py::test_semaphores_keep_their_specification"
_QUEUE = "test_control.py::test_queue_keeps_its_specification[3]"
_COSIM = "test_cosim.py::test_random_programs_give_the_same_memory_in_the_same_cycles[ws-2x4-int8]"

MUTATIONS = (
    Mutation(
        "skew off by one", "array/stationary.py", 'alpha * r, name=f"skew_{r}"', 'alpha * r + 1, name=f"skew_{r}"',
        _SUMS_WS,
    ),
    Mutation("bus not skewed", "array/stationary.py", 'j, name=f"bus_{j}"', '0, name=f"bus_{j}"', _FOLDS_WS),
    Mutation("one stationary register", "array/pe.py", "Mux(self.select, held[1], held[0])", "held[0]", _FOLDS_WS),
    Mutation("sum not cleared", "array/pe.py", "Mux(self.start, 0, adder.z)", "adder.z", _SUMS_OS),
    Mutation(
        "drain of the first sum", "array/pe.py", "drain_north.word_select(j", "drain_north.word_select(0", _SUMS_OS
    ),
    Mutation(
        "idle rows not masked", "matrix/folds.py", "self.moving_rows.eq(fold_rows)", "self.moving_rows.eq(rows)",
        _MATRIX + "[ws 4x4 int8]",
    ),
    Mutation(
        "first fold adds", "matrix/folds.py", "tag.adds.eq(held.adds | ~first)", "tag.adds.eq(1)",
        _MATRIX + "[ws 4x4 int8]",
    ),
    Mutation(
        "later folds replace", "matrix/folds.py", "tag.adds.eq(held.adds | ~first)", "tag.adds.eq(held.adds)",
        _MATRIX + "[ws 4x4 int8]",
    ),
    Mutation(
        "transpose swapped", "matrix/unit.py", "by_lane.eq(walk.walk.by_lane)", "by_lane.eq(~walk.walk.by_lane)",
        _MATRIX + "[ws 4x4 int8]",
    ),
    Mutation(
        "deskew off by one", "matrix/unit.py", 'cols - 1 - c, name=f"deskew', 'max(0, cols - 2 - c), name=f"deskew',
        _MATRIX + "[is 4x8 int8]",
    ),
    Mutation("sum not forwarded", "memory/accumulator.py", "again[self._age(column)] & writes", "C(0, 1)", _AGAIN),
    Mutation(
        "lanes beyond the tile kept", "memory/accumulator.py", "Mux(idle[c], 0, self.new[c])", "self.new[c]",
        _BEYOND + "[int8-ws]",
    ),
    Mutation(
        "no wrap behind the last lane", "memory/scratchpad.py", "Mux(passed[sub], access.wrap, 0)", "C(0, 1)", _READ
    ),
    Mutation(
        "what was read stays turned", "memory/scratchpad.py", 'f"{name}_element", back=True', 'f"{name}_element"', _READ
    ),
    Mutation(
        "int8 taken as unsigned", "arithmetic/multipliers.py", "self.a.as_signed() * self", "self.a * self",
        "test_arithmetic.py::test_int8_products_of_all_pairs",
    ),
    Mutation("ties away from zero", "arithmetic/adders.py", "(s.guard & (s.sticky | s.kept[0]))", "s.guard", _ADDER),
    Mutation(
        "no sticky bit", "arithmetic/adders.py", "Cat(kept[0] | (wide & below).any(), kept[1:])", "kept", _ADDER
    ),
    Mutation("ties down", "arithmetic/convert.py", "~stochastic & kept[below]", "C(0, 1)", _CONVERSION),
    Mutation("low bits of the random word", "arithmetic/convert.py", "word[32 - below :]", "word[:below]", _CONVERSION),
    Mutation(
        "one of two tokens lost", "control/semaphores.py", "tokens + posted)", "tokens + posts.any())", _SEMAPHORES
    ),
    Mutation(
        "the last token stays", "control/semaphores.py", "Mux(taken, self.last[s], self.lacking[s])", "self.lacking[s]",
        _SEMAPHORES,
    ),
    Mutation("queue one too full", "control/queue.py", "level == self.depth - 1", "level == self.depth", _QUEUE),
    Mutation("pace a cycle slower", "control/dispatch.py", "pace.eq(self._pace - 1)", "pace.eq(self._pace)", _CONTROL),
    Mutation("barrier does not wait", "control/dispatch.py", "self.flush & self.drained)", "self.flush)", _CONTROL),
    Mutation(
        "defer forgets the store before", "control/tickets.py", "Mux(self.defer > slack, self.defer, slack)",
        "self.defer", _CONTROL,
    ),
    Mutation("illegal operation passes", "control/dispatch.py", "Fault.OPCODE)", "Fault.NONE)", _ILLEGAL),
    Mutation(
        "address cut off", "dma/walk.py", "address.eq(here + step)", "address.eq((here + step)[:10])",
        _DMA + "[bf16 4x4-load]",
    ),
    Mutation("padding a row late", "dma/walk.py", "y >= box.limit_h", "y > box.limit_h", _DMA + "[bf16 4x4-load]"),
    Mutation("a byte too many stored", "dma/store.py", "(i < high)", "(i <= high)", _DMA + "[bf16 3x5-store]"),
    Mutation("beats a cycle early", "dma/pending.py", "old + age[-1]", "old + age[-2]", _DMA + "[bf16 3x5-load]"),
    Mutation("mask includes its limit", "vector/lane.py", "(how.above < rank)", "(how.above <= rank)", _VECTOR),
    Mutation("difference is a sum", "vector/lane.py", "source[31] ^ how.negates", "source[31]", _VECTOR),
    Mutation("the same random word again", "vector/unit.py", "lane.draw.eq(draw)", "lane.draw.eq(0)", _DRAWS),
    Mutation(
        "error of memory unseen", "machine.py", "self.m_axi_rready & self.m_axi_rresp[1]", "self.m_axi_rready & 0",
        "test_cosim.py::test_an_error_of_memory_stops_a_program_and_the_next_one_runs",
    ),
    Mutation(
        "busy cycles without the first", "control/counters.py", "(start | ~seen.free[unit])", "~seen.free[unit]", _COSIM
    ),
)  # fmt: skip


def run_against(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    """Run one test with the package in `folder`."""
    path = [str(folder), str(ROOT), str(ROOT / "models"), str(ROOT / "rtl")]
    options = ["-rf", "--tb=line", "-o", f"cache_dir={folder}/cache"]
    command = [sys.executable, "-m", "pytest", f"tests/rtl/{test}", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def copy_of(tmp_path: Path) -> Path:
    """Copy the generator into the folder; gives that."""
    shutil.copytree(RTL, tmp_path / "hwsim_rtl", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize("test", [_SUMS_WS, _SEMAPHORES])
def test_a_copy_that_is_not_broken_passes(test, tmp_path):
    run = run_against(copy_of(tmp_path), test)
    assert run.returncode == 0, run.stdout[-2000:]


@pytest.mark.long
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_broken_machine_is_found(mutation, tmp_path):
    path = copy_of(tmp_path) / "hwsim_rtl" / mutation.file
    text = path.read_text("utf-8")
    assert text.count(mutation.old) == 1, "the code has changed; break it anew"
    path.write_text(text.replace(mutation.old, mutation.new), "utf-8")
    run = run_against(tmp_path, mutation.test)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout[-2000:]
    assert f"FAILED tests/rtl/{mutation.test}" in run.stdout
