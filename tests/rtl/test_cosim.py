"""Does the RTL of whole machines do to memory what programs say, in the cycles that the contract says?

Random programs and training steps run on generated Verilog in Verilator, with cocotb, and on the simulator; every byte
of memory, every start and every end must be equal. The bench and the comparison are held to claims of their own first.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from hwsim.hardware import Accelerator
from hwsim.program import Field, Unit, VectorOp
from hwsim_rtl.control import Fault
from hwsim_rtl.cosim import (
    check_legal,
    cosimulate,
    expect,
    random_machines,
    random_programs,
    small_machine,
    write_testbench,
)
from hwsim_rtl.cosim.compare import COUNTERS, compare, job_of
from hwsim_rtl.cosim.session import Job, Run, run_jobs, write_hex
from hwsim_rtl.cosim.simulator import build_bench, build_traffic_bench, machine_text

TRAFFIC = Path(__file__).with_name("traffic.v")
PROGRAM, COMMANDS, CONTROL = 0x18, 0x1C, 0x08
MEASURED = (0x40, 0x44, 0x48, 0x4C)
LATENCY = 10

#: Machines of `make test`, small, so that their models are built soon; between them all dataflows and formats.
MACHINES = {
    hw.name: hw
    for hw in (
        small_machine("ws-4x4-bf16"),
        small_machine("ws-2x4-int8", 2, 4, format="int8", add=1, multiply=0, beta=1, beat=4, latency=6, fetch=8),
        small_machine("os-3x5-int8", 3, 5, format="int8", flow="os", add=1, beta=2, beat=4, latency=7, lanes=3),
        small_machine("os-4x2-bf16", 4, 2, flow="os", beat=4, latency=30, fetch=8, queue=5),
        small_machine("is-4x8-fp8", 4, 8, format="fp8_e4m3", flow="is", beat=4, latency=9, lanes=4),
        small_machine("is-2x8-int8", 2, 8, format="int8", flow="is", add=1, beta=1, beat=4, vector=6),
        small_machine("ws-2x2-fp32", 2, 2, format="fp32", latency=20, vector=11),
    )
}
PROGRAMS_EACH = 45


@pytest.fixture(scope="module")
def cache(request: pytest.FixtureRequest) -> Path:
    """Where models are kept from run to run."""
    return Path(request.config.cache.mkdir("hwsim-models"))


def explain(results) -> str:
    wrong = [r for r in results if not r.equal]
    lines = [f"{r.name}: {'; '.join(r.differences())}" for r in wrong[:5]]
    return f"{len(wrong)} of {len(results)} programs differ\n" + "\n".join(lines)


# ---- the bench ----------------------------------------------------------------------------------------------------


def traffic_job(seed: int, **changes) -> Job:
    image = np.random.default_rng(seed).integers(0, 256, 16384, dtype=np.uint8)
    job = Job(image, [(PROGRAM, 1024), (COMMANDS, 60)], (CONTROL, 1), MEASURED, 5000, seed=seed + 1)
    return replace(job, **changes)


def copied(job: Job) -> np.ndarray:
    memory = job.image.copy()
    memory[5120 : 5120 + 480] = (memory[1024 : 1024 + 480].view("<u8") + np.uint64(1)).view(np.uint8)
    return memory


@pytest.fixture(scope="module")
def traffic(cache: Path) -> Path:
    return build_traffic_bench(TRAFFIC.read_text("utf-8"), "traffic", cache, LATENCY)


def test_an_answer_comes_as_many_cycles_after_its_request_as_the_latency_says(traffic):
    """The first of a burst's 16 beats too; the last comes 15 cycles later."""
    job = traffic_job(1)
    (run,) = run_jobs(traffic, [job])
    assert run.values == (LATENCY, LATENCY + 15, LATENCY, 0)
    assert (run.timed_out, run.breaches) == (False, 0)
    np.testing.assert_array_equal(run.memory, copied(job))
    assert run.events[:2].tolist() == [[0, 1, 0, 0], [1, 1, 0, 0]]
    assert [3, 1, 0, 1] in run.events.tolist()


def test_random_latencies_and_ports_that_are_not_ready_change_no_value(traffic):
    jobs = [traffic_job(seed, slack=7) for seed in range(8)]
    runs = run_jobs(traffic, jobs)
    for job, run in zip(jobs, runs, strict=True):
        np.testing.assert_array_equal(run.memory, copied(job))
        assert (run.timed_out, run.breaches) == (False, 0)
    assert len({run.cycle for run in runs}) > 4


def test_a_range_of_addresses_answers_with_errors_and_keeps_its_bytes(traffic):
    reads, writes = traffic_job(3, bad=(1226, 1228)), traffic_job(3, bad=(5200, 5208))
    fetches = traffic_job(3, bad=(1151, 1152))
    runs = run_jobs(traffic, [reads, writes, fetches])
    assert [run.values[3] for run in runs] == [0x002, 0x020, 0x202]
    expected = copied(writes)
    expected[5200:5208] = writes.image[5200:5208]
    np.testing.assert_array_equal(runs[1].memory, expected)


def test_what_lies_beyond_the_memory_is_a_breach(traffic):
    (run,) = run_jobs(traffic, [traffic_job(1, writes=[(PROGRAM, 1 << 17), (COMMANDS, 2)])])
    assert run.breaches > 0


def test_a_program_that_never_ends_is_ended_by_the_bench(traffic):
    stuck, after = run_jobs(traffic, [traffic_job(1, most_cycles=30), traffic_job(2)])
    assert stuck.timed_out
    assert not after.timed_out
    np.testing.assert_array_equal(after.memory, copied(traffic_job(2)))


# ---- programs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MACHINES)
def test_random_programs_are_legal(name):
    for program in random_programs(MACHINES[name], 20, seed=7):
        check_legal(MACHINES[name], program)


def test_random_programs_are_the_same_for_the_same_seed():
    hw = MACHINES["ws-4x4-bf16"]
    for one, other in zip(random_programs(hw, 3, 5), random_programs(hw, 6, 5), strict=False):
        np.testing.assert_array_equal(one.loaded(), other.loaded())


def test_random_programs_use_every_unit_operation_and_semaphore():
    hw = MACHINES["ws-4x4-bf16"]
    flat = np.concatenate([program.flat for program in random_programs(hw, 40, seed=1)])
    assert set(flat[:, Field.UNIT]) == set(range(5))
    assert len(set(flat[flat[:, Field.UNIT] == Unit.VECTOR, Field.OPCODE])) == len(VectorOp)
    assert np.bitwise_or.reduce(flat[flat[:, Field.UNIT] != Unit.CONTROL, Field.WAIT]) == 0x3FF
    assert (flat[:, Field.DEFER] > 0).any()


# ---- the comparison -----------------------------------------------------------------------------------------------


def pretended(program, expected) -> Run:
    """What the bench would see of a machine that does everything right."""
    cycles: dict[int, list[int]] = {}
    for row, (dispatch, start, end) in zip(program.flat.tolist(), expected.times.tolist(), strict=True):
        cycles.setdefault(dispatch, [0, 0, 0])[2] = 1
        if row[Field.UNIT] != Unit.CONTROL:
            cycles.setdefault(start, [0, 0, 0])[0] |= 1 << row[Field.UNIT]
            cycles.setdefault(end - 1, [0, 0, 0])[1] |= 1 << row[Field.UNIT]
    events = np.array([[cycle, *seen] for cycle, seen in sorted(cycles.items())], np.int64)
    known = {key.split(" + ")[0]: count for key, count in expected.counters.items()}
    values = tuple(known.get(name, 0) for name in COUNTERS)
    return Run(expected.cycles + 1, False, values, 0, events, expected.memory.copy())


@pytest.fixture(scope="module")
def case():
    hw = MACHINES["ws-4x4-bf16"]
    program = next(p for p in random_programs(hw, 20, 3) if p.name.startswith("tiling"))
    return program, expect(hw, program)


def test_a_machine_that_does_everything_right_is_equal(case):
    result = compare(*case, pretended(*case), exact=True)
    assert result.equal, result.differences()


def test_the_first_byte_that_differs_is_named_with_who_stored_it(case):
    program, expected = case
    run = pretended(*case)
    store = int(np.flatnonzero(program.flat[:, Field.UNIT] == Unit.STORE)[0])
    at = int(program.flat[store, Field.OFFSET])
    run.memory[at] ^= 0x40
    difference = compare(*case, run, exact=True).memory
    assert (difference.address, difference.command) == (at, store)
    assert (difference.expected, difference.found) == (expected.memory[at], expected.memory[at] ^ 0x40)
    assert f"memory at {at:#x} (operand " in str(difference)
    assert f"stored by command {store} of segment" in str(difference)


def test_a_byte_that_nothing_stores_must_stay(case):
    program, _ = case
    run = pretended(*case)
    run.memory[program.address] ^= 1
    difference = compare(*case, run, exact=True).memory
    assert (difference.command, difference.tensor) == (-1, "the program")


@pytest.mark.parametrize(("column", "what"), [(1, "start"), (2, "end")])
def test_the_first_start_or_end_that_differs_is_named(case, column, what):
    _, expected = case
    run = pretended(*case)
    seen = np.flatnonzero(run.events[:, column])[3]
    before = int(run.events[seen, 0])
    late = run.events.copy()
    late[seen, 0] += 1
    difference = compare(*case, replace(run, events=late), exact=True).time
    shift = int(what == "end")
    assert (difference.what, difference.expected, difference.found) == (what, before + shift, before + 1 + shift)
    assert expected.times[difference.command, column] == before + shift


@pytest.mark.parametrize("counter", ["MATRIX_BUSY", "LOAD_STALL_SEMAPHORE", "VECTOR_STALL_FETCH", "STORE_STALL_DRAIN"])
def test_a_counter_that_differs_is_named(case, counter):
    run = pretended(*case)
    values = [value + (name == counter) for name, value in zip(COUNTERS, run.values, strict=True)]
    result = compare(*case, replace(run, values=tuple(values)), exact=True)
    assert result.differences() == [f"counters differ: {counter}"]


def test_stores_that_let_loads_pass_wait_for_fetch_or_port(case):
    """Of the three causes their sum is compared, and the drain alone."""
    program, expected = case
    assert (program.flat[program.flat[:, Field.UNIT] == Unit.STORE, Field.DEFER] > 0).any()
    total = "STORE_STALL_FETCH + STORE_STALL_SEMAPHORE + STORE_STALL_PORT"
    assert total in expected.counters
    run = pretended(*case)
    moved = {"STORE_STALL_FETCH": -1, "STORE_STALL_PORT": 1}
    values = [value + moved.get(name, 0) for name, value in zip(COUNTERS, run.values, strict=True)]
    assert compare(*case, replace(run, values=tuple(values)), exact=True).equal
    values[COUNTERS.index("STORE_STALL_PORT")] += 1
    result = compare(*case, replace(run, values=tuple(values)), exact=True)
    assert result.differences() == [f"counters differ: {total}"]


def test_a_command_that_never_starts_is_named(case):
    run = pretended(*case)
    result = compare(*case, replace(run, events=run.events[: len(run.events) // 2]), exact=True)
    assert result.time.found == -1
    assert str(result.time).endswith("found never")


# ---- whole machines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MACHINES)
def test_random_programs_give_the_same_memory_in_the_same_cycles(name, cache):
    hw = MACHINES[name]
    results = cosimulate(hw, random_programs(hw, PROGRAMS_EACH, seed=1), cache)
    assert all(r.equal for r in results), explain(results)


@pytest.mark.parametrize("name", ["ws-2x4-int8", "os-4x2-bf16", "is-4x8-fp8"])
def test_a_memory_of_random_latency_changes_no_byte(name, cache):
    hw = MACHINES[name]
    results = cosimulate(hw, random_programs(hw, 15, seed=2), cache, slack=20, seed=5)
    assert all(r.equal for r in results), explain(results)


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
def test_more_random_programs(name, cache):
    hw = MACHINES[name]
    for seed in range(10, 15):
        results = cosimulate(hw, random_programs(hw, 100, seed=seed), cache, slack=seed % 5 * 9)
        assert all(r.equal for r in results), explain(results)


@lru_cache
def drawn_machines() -> list[Accelerator]:
    """Twenty of them; to find out whether the RTL takes a machine, it is built."""
    return random_machines(20, seed=11)


@pytest.mark.long
@pytest.mark.parametrize("number", range(20))
def test_random_machines(number, cache):
    """Shapes from 2 × 2 to 16 × 16."""
    hw = drawn_machines()[number]
    results = cosimulate(hw, random_programs(hw, 90, seed=number), cache)
    assert all(r.equal for r in results), explain(results)


# ---- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(cache):
    """The smallest machine, a program of a segment in tiles, and its job."""
    hw = MACHINES["ws-2x4-int8"]
    program = next(p for p in random_programs(hw, 40, 9) if p.name.startswith("tiling") and len(p.flat) > 20)
    expected = expect(hw, program)
    return build_bench(hw, cache, 1 << 17), program, expected


def stopped(small, **changes):
    model, program, expected = small
    good = job_of(program, expected, 0, 1)
    faulty, after = run_jobs(model, [replace(good, **changes), good])
    assert compare(program, expected, after, exact=True).equal  # the next start begins afresh
    result = compare(program, expected, faulty, exact=True)
    assert not result.timed_out
    stores = program.flat[program.flat[:, Field.UNIT] == Unit.STORE]
    outputs = {f"operand {operand}" for operand in stores[:, Field.OPERAND]}
    touched = np.ones(program.image.size, np.bool_)
    for name in outputs:
        touched[slice(*program.tensors[name])] = False
    np.testing.assert_array_equal(faulty.memory[touched], program.loaded()[touched])
    return result


def test_an_error_of_memory_stops_a_program_and_the_next_one_runs(small):
    _, program, _ = small
    load = program.flat[program.flat[:, Field.UNIT] == Unit.LOAD][2]
    at = int(load[Field.OFFSET])
    assert stopped(small, bad=(at, at + 1)).error is Fault.BUS


def test_an_error_of_a_fetch_stops_a_program(small):
    _, program, _ = small
    at = program.address + 128 * 5 + 4
    result = stopped(small, bad=(at, at + 1))
    assert result.error is Fault.FETCH
    assert 0 < result.error_index <= 5  # commands are fetched before they are dispatched
    dispatched = (result.run.events[:, 3] != 0).sum()
    assert dispatched - result.error_index in (0, 1)  # one may leave in the very cycle of the fault


def test_addresses_beyond_the_limit_stop_a_program(small):
    _, program, _ = small
    limit = dict(job_of(*small[1:], 0, 1).writes)
    assert stopped(small, writes=[*limit.items(), (0x20, program.address + 128)]).error is Fault.ADDRESS


# ---- other simulators ---------------------------------------------------------------------------------------------


def run_icarus(folder: Path, texts: dict[str, str]) -> str:
    iverilog = shutil.which("iverilog")
    if iverilog is None:
        pytest.fail("Icarus Verilog is not installed; on Debian or Ubuntu: sudo apt install iverilog")
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    subprocess.run(
        [iverilog, "-g2005", "-o", "run", *sorted(p.name for p in folder.glob("*.v"))], cwd=folder, check=True
    )
    return subprocess.run(["vvp", "-n", "run"], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.icarus
@pytest.mark.parametrize("spoil", [False, True])
def test_the_test_bench_that_needs_no_python_says_what_differs(spoil, tmp_path, cache):
    hw = MACHINES["ws-2x4-int8"]
    program = next(p for p in random_programs(hw, 40, 9) if p.name.startswith("tiling"))
    write_testbench(tmp_path, hw, program)
    if spoil:
        expected = expect(hw, program).memory.copy()
        expected[8] ^= 1
        (tmp_path / "expected_0.hex").write_text(write_hex(expected), "utf-8")
    said = run_icarus(tmp_path, {"machine.v": machine_text(hw, cache)})
    assert said.startswith("FAIL: memory at 00000008" if spoil else "PASS: "), said
