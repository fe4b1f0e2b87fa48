"""Do the two timing models agree, to the cycle, on random programs and on those that mapping makes?

Normative: docs/contracts/cycles.md. `simulate_events` steps the machine through the flat program; `simulate_rows`
solves the recurrence on the compressed one, with and without jumps over repetitions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, Dataflow, load_accelerator, preset_names
from hwsim.mapping import OpPlan, plan_key, plan_op
from hwsim.mapping.layout import dispatch_cycles
from hwsim.program.fields import CAUSES, RESOURCE_NAMES, Row, Unit
from hwsim.timing import _kernels, command_times, simulate_events, simulate_rows
from hwsim.timing.random_programs import expand_rows, random_rows
from hwsim.workload import training_graph
from hwsim_models import MODELS, build

Rows = NDArray[np.int64]
LONGEST = 20_000  # commands of a random program
MOST_EXPANDED = 5_000  # commands of a mapped one that the event simulator steps through


def random_case(seed: int) -> tuple[Rows, int, int]:
    """A program, a queue depth of 1 to 8 and a dispatch pace of 1 to 16 cycles; one program in three is small."""
    rng = np.random.default_rng(seed)
    queue_depth, pace = int(rng.integers(1, 9)), int(rng.integers(1, 17))
    most = int(rng.choice([100, 6_000, LONGEST]))
    return random_rows(rng, most_commands=most, queue_depth=queue_depth), queue_depth, pace


def stretched(rows: Rows) -> Rows:
    """The same program with every outermost loop repeated so often that it makes some 3,000 commands."""
    longer = rows.copy()
    depth, opened = 0, 0
    for item, (unit, count) in enumerate(rows[:, :2].tolist()):
        if unit == Unit.LOOP:
            opened = item if depth == 0 else opened
            depth += 1
        elif unit == Unit.END:
            depth -= 1
            if depth == 0:
                length = len(expand_rows(rows[opened : item + 1])) // rows[opened, Row.OCCUPANCY]
                longer[opened, Row.OCCUPANCY] = max(count, 3_000 // length)
    return longer


def assert_agree(rows: Rows, flat: Rows, queue_depth: int, pace: int) -> None:
    """Cycles, busy cycles, stalls per cause, and the times of every command."""
    line = simulate_events(flat, queue_depth, pace)
    timings = {
        "jumping": simulate_rows(rows, queue_depth, pace),
        "not jumping": simulate_rows(rows, queue_depth, pace, jump=False),
        "flat": simulate_rows(flat, queue_depth, pace),
    }
    for way, timing in timings.items():
        assert timing.cycles == line.cycles, way
        assert timing.busy_cycles.tolist() == line.busy_cycles.tolist(), way
        assert timing.stall_cycles.tolist() == line.stall_cycles.tolist(), way
    times = command_times(flat, queue_depth, pace)
    assert (times[:, 0] == line.start).all()
    assert (times[:, 1] == line.end).all()
    assert (times[:, 2] == line.dispatch).all()
    assert (line.busy_cycles + line.stall_cycles.sum(axis=1) == line.cycles).all()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=500, derandomize=True, database=None, deadline=None)
def test_random_programs_agree(seed: int) -> None:
    rows, queue_depth, pace = random_case(seed)
    assert_agree(rows, expand_rows(rows), queue_depth, pace)


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_ten_thousand_random_programs_agree(part: int) -> None:
    for seed in range(500 * part, 500 * (part + 1)):
        rows, queue_depth, pace = random_case(seed)
        try:
            assert_agree(rows, expand_rows(rows), queue_depth, pace)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("seed", range(40))
def test_programs_with_long_outer_loops_agree(seed: int) -> None:
    """Loops around loops, far beyond the longest period that is looked for."""
    rows, queue_depth, pace = random_case(seed)
    rows[:, Row.DEFER] = 0  # what is deferred may be legal for some counts only
    rows = stretched(rows)
    assert_agree(rows, expand_rows(rows), queue_depth, pace)


def commands_timed(monkeypatch: pytest.MonkeyPatch, rows: Rows, queue_depth: int, pace: int) -> int:
    """How many commands the jumping recurrence computes; those of jumped iterations it does not."""
    timed = 0
    start = _kernels._start

    def counting(*arguments: object) -> int:
        nonlocal timed
        timed += 1
        return int(start(*arguments))

    interpreted = getattr(_kernels.time_rows, "py_func", _kernels.time_rows)
    busy, stalls = np.zeros(len(RESOURCE_NAMES), np.int64), np.zeros((len(RESOURCE_NAMES), len(CAUSES)), np.int64)
    with monkeypatch.context() as patch:
        patch.setattr(_kernels, "_start", counting)
        interpreted(rows, len(rows), queue_depth, pace, True, busy, stalls, np.zeros((0, 3), np.int64))
    return timed


def test_random_programs_make_the_recurrence_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise agreement says nothing of jumps.

    Of 100 programs 40 are to jump, 20 over more than half of their commands, and 20 to have a loop of 100 or more.
    """
    jumping = far = long = 0
    for seed in range(100):
        rows, queue_depth, pace = random_case(seed)
        commands = int(np.count_nonzero(expand_rows(rows)[:, Row.UNIT] != Unit.CONTROL))
        timed = commands_timed(monkeypatch, rows, queue_depth, pace)
        assert timed <= commands
        jumping += timed < commands
        far += 2 * timed < commands
        long += bool((rows[rows[:, Row.UNIT] == Unit.LOOP, Row.OCCUPANCY] >= 100).any())
    assert jumping >= 40, jumping
    assert far >= 20, far
    assert long >= 20, long


def mapped(model: str, hw: Accelerator) -> Iterator[tuple[str, OpPlan]]:
    """Plans of the distinct ops of one step at batch 2; ops of which no tile fits this accelerator have none."""
    step = training_graph(build(model, 2), optimizer="momentum", master_weights=hw.array.operand_format != "fp32")
    for op in {plan_key(op, step): op for op in step.ops}.values():
        try:
            plan = plan_op(op, step, hw)
        except HwsimError as error:
            assert "must fit" in str(error)  # noqa: PT017
            continue
        if plan.segments:
            yield op.name, plan


#: In the default run every model on every preset, and LeNet with all dataflows; the rest is long.
MAPPED = [
    pytest.param(model, preset, flow, marks=[] if flow == "ws" or model == "lenet" else pytest.mark.long)
    for model in MODELS
    for preset in preset_names()
    for flow in Dataflow
]


@pytest.mark.parametrize(("model", "preset", "dataflow"), MAPPED)
def test_mapped_programs_take_the_cycles_that_the_search_promised(model: str, preset: str, dataflow: Dataflow) -> None:
    hw = load_accelerator(preset).with_dataflow(dataflow)
    queue_depth, pace = hw.control.queue_depth, dispatch_cycles(hw)
    compared = 0
    for name, plan in mapped(model, hw):
        segments = [simulate_rows(segment.rows, queue_depth, pace) for segment in plan.segments]
        program = plan.program
        whole = simulate_rows(program.rows, queue_depth, pace)
        assert whole.cycles == sum(timing.cycles for timing in segments) == plan.cycles, name
        if program.commands <= MOST_EXPANDED:
            flat = program.expand()[:, : len(Row)]
            assert_agree(program.rows, flat, queue_depth, pace)
            compared += 1
    assert compared >= 10
