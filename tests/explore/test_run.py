"""Does a sweep lose nothing: killed and resumed, a worker killed, another folder, a search, several chunks?"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from hwsim.errors import HwsimError
from hwsim.explore import Evaluator, Plan, analyse, parts_of, quality, read_space, run_sweep
from hwsim.explore.search import number_of
from hwsim_models import build
from tests.explore.points import deadly

#: 24,000 points of six programs in twelve parts, every part with its own.
TEXT = """
name = "small"
hardware = "edge-8x8-int8"
constraints = ["energy_j < 2e-5"]
workload = { model = "digits-mlp", batch = 16 }
[knobs]
array.rows = [4, 8, 16]
vector.lanes = [8]
array.dataflow = ["ws", "os"]
node_nm = { from = 7, to = 46 }
clock_mhz = { from = 50, to = 149 }
"""
CHUNK = 2000


@pytest.fixture(scope="module")
def space():
    return read_space(TEXT)


@pytest.fixture(scope="module")
def undisturbed(space, tmp_path_factory):
    """The parts of the sweep in this process alone: name → bytes."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    return contents(run_sweep(space, out, build, Plan(chunk=CHUNK), workers=1))


def contents(parts):
    return {path.name: path.read_bytes() for path in parts}


def test_parts_hold_every_point_in_order(space, undisturbed, tmp_path):
    (tmp_path / "points").mkdir()
    for name, content in undisturbed.items():
        (tmp_path / "points" / name).write_bytes(content)
    tables = [pq.read_table(path) for path in parts_of(tmp_path)]
    assert [len(t) for t in tables] == [CHUNK] * 12
    assert np.concatenate([t.column("point").to_numpy() for t in tables]).tolist() == list(range(space.size))
    some = tables[5].slice(100, 50)
    assert some.equals(Evaluator(space, build).table(some.column("point").to_numpy()))


def test_two_processes_give_the_same_bytes_and_a_killed_worker_loses_nothing(space, undisturbed, tmp_path):
    killed = []

    def progress(done, total):
        if done >= 2 * CHUNK and not killed:
            workers = [p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
            assert len(workers) >= 2
            workers[0].kill()
            killed.append(workers[0].pid)

    parts = run_sweep(space, tmp_path / "out", build, Plan(chunk=CHUNK), workers=2, progress=progress)
    assert killed
    assert not psutil.pid_exists(killed[0])
    assert contents(parts) == undisturbed


def test_killed_and_resumed_is_undisturbed(space, undisturbed, tmp_path):
    """SIGKILL of the whole command with its workers, in the middle; then --resume."""
    file, out = tmp_path / "space.toml", tmp_path / "out"
    file.write_text(TEXT, "utf-8")
    command = [sys.executable, "-m", "hwsim.cli", "sweep", str(file), "--out", str(out), "--chunk", str(CHUNK)]
    command += ["--workers", "2"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while len(parts_of(out)) < 3:
        assert running.poll() is None
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    done = contents(parts_of(out))
    assert 3 <= len(done) < 12
    before = {name: (out / "points" / name).stat().st_mtime_ns for name in done}
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.strip().endswith("holds a sweep already; go on with --resume, or name another folder")
    resumed = subprocess.run([*command, "--resume", "--json", "-"], capture_output=True, text=True, check=True)
    assert contents(parts_of(out)) == undisturbed
    assert {name: (out / "points" / name).stat().st_mtime_ns for name in done} == before
    assert json.loads(resumed.stdout)["evaluated"] == space.size
    assert not list(out.rglob("*.unfinished"))


@pytest.mark.parametrize(
    ("text", "plan", "sentence"),
    [
        (TEXT.replace("[4, 8, 16]", "[4, 8, 32]"), Plan(chunk=CHUNK), "the space differs; name another folder"),
        (TEXT, Plan(chunk=1000), "the chunk differs: it was 2000, not 1000; name another folder"),
        (TEXT, Plan("random", 10, chunk=CHUNK), "the search differs: it was grid, not random; name another folder"),
    ],
)
def test_another_sweep_is_not_resumed(tmp_path, text, plan, sentence):
    out = tmp_path / "out"
    run_sweep(read_space(TEXT), out, build, Plan(chunk=CHUNK), workers=1)
    before = contents(parts_of(out))
    with pytest.raises(HwsimError) as error:
        run_sweep(read_space(text), out, build, plan, resume=True)
    assert str(error.value) == f"'{out}' holds another sweep, {sentence}"
    assert contents(parts_of(out)) == before


def test_refusals(space, tmp_path):
    with pytest.raises(HwsimError, match=r"holds no sweep to go on with; leave out --resume$"):
        run_sweep(space, tmp_path / "none", build, resume=True)
    with pytest.raises(HwsimError, match=r"^a random search needs the number of points: --points N$"):
        run_sweep(space, tmp_path / "random", build, Plan("random"))
    with pytest.raises(HwsimError, match=r"^unknown search 'gp'; choose one of grid, random, nsga2, nsga3, tpe, qmc$"):
        run_sweep(space, tmp_path / "gp", build, Plan("gp", 10))
    huge = read_space(
        TEXT.replace("to = 46", "to = 46, count = 1000000").replace("to = 149", "to = 149, count = 100000")
    )
    with pytest.raises(HwsimError, match=r"^a grid has at most 10,000,000,000 points, not 600,000,000,000; draw some"):
        run_sweep(huge, tmp_path / "huge", build)
    with pytest.raises(HwsimError, match=r"^no Dask scheduler at 'tcp://nowhere.invalid:8786'"):
        run_sweep(space, tmp_path / "far", build, scheduler="tcp://nowhere.invalid:8786")


def test_a_running_scheduler_does_the_same(space, undisturbed, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        parts = run_sweep(space, tmp_path / "out", build, Plan(chunk=CHUNK), scheduler=cluster.scheduler_address)
    assert contents(parts) == undisturbed


def test_a_chunk_that_kills_its_workers_ends_the_sweep_in_one_sentence(space, undisturbed, tmp_path):
    with pytest.raises(
        HwsimError, match=r"^a chunk's workers died again and again; give them more memory, then --resume$"
    ):
        run_sweep(space, tmp_path / "out", deadly, Plan(chunk=CHUNK), workers=2)
    assert contents(run_sweep(space, tmp_path / "out", build, Plan(chunk=CHUNK), workers=1, resume=True)) == undisturbed


def test_random_points_are_drawn_once_and_by_seed(space, tmp_path):
    drawn = {}
    for seed in (1, 1, 2):
        out = tmp_path / f"out{len(drawn)}-{seed}"
        parts = run_sweep(space, out, build, Plan("random", 500, seed, chunk=200), workers=1)
        numbers = np.concatenate([pq.read_table(p).column("point").to_numpy() for p in parts])
        assert len(set(numbers.tolist())) == 500
        assert (np.diff(numbers) > 0).all()
        drawn.setdefault(seed, numbers)
        assert (drawn[seed] == numbers).all()
    assert set(drawn[1].tolist()) != set(drawn[2].tolist())


#: Hypervolume that 192 of the 720 points reach with seed 3, by Optuna 5.0.0: 0.928, 0.666, 1.0 and 0.820. Twenty random
#: draws of as many reach 0.71 to 0.99, so on a space as small as this only TPE is better than chance.
REACHED = {"nsga2": 0.92, "nsga3": 0.66, "tpe": 0.99, "qmc": 0.81}


@pytest.mark.parametrize("search", REACHED)
def test_searches_are_repeatable_resumable_and_as_good_as_measured(search, tmp_path):
    small = read_space(TEXT.replace("to = 46", "to = 12").replace("to = 149", "to = 69"))
    run_sweep(small, tmp_path / "grid", build, Plan(), workers=1)
    plan = Plan(search, 192, seed=3)
    first = run_sweep(small, tmp_path / "a", build, plan)
    wanted = contents(first)
    first[1].unlink()
    assert contents(run_sweep(small, tmp_path / "a", build, plan, resume=True)) == wanted
    assert contents(run_sweep(small, tmp_path / "b", build, plan)) == wanted
    found = analyse(small, first)
    assert found.evaluated == 192
    reached = quality(small, found, tmp_path / "grid")
    assert REACHED[search] < reached <= 1
    some = analyse(small, first[:1])
    assert quality(small, some, tmp_path / "grid") <= reached


def test_a_search_asks_for_the_values_that_its_sampler_chose(space):
    chosen = {knob.name: i % len(knob.values) for i, knob in enumerate(space.axes, start=1)}
    columns = space.columns(np.array([number_of(space, chosen)]))
    assert {knob.name: columns[knob.name][0] for knob in space.axes} == {
        knob.name: knob.values[chosen[knob.name]] for knob in space.axes
    }


def test_a_search_learns_what_is_feasible(space, tmp_path):
    drawn = Evaluator(space, build).table(np.random.default_rng(1).integers(0, space.size, 500))
    slow = float(np.quantile(drawn.column("time_s").to_numpy(), 0.7))  # the front pulls the other way
    bound = read_space(TEXT.replace("energy_j < 2e-5", f"time_s > {slow}"))
    parts = run_sweep(bound, tmp_path / "out", build, Plan("nsga2", 320, seed=1))
    shares = [np.mean(pq.read_table(part).column("feasible").to_numpy(zero_copy_only=False)) for part in parts]
    assert shares[0] < 0.5
    assert shares[-1] > 0.7


def test_a_failing_point_stops_nothing(tmp_path):
    text = TEXT.replace("vector.lanes = [8]", 'vector.lanes = "array.rows / 2"').replace("16]", "32]")
    parts = run_sweep(read_space(text), tmp_path / "out", build, Plan(), workers=1)
    found = analyse(read_space(text), parts)
    assert found.evaluated == 24_000
    assert found.failed == 8_000
    sentence = "vector.lanes must be at most array.cols, 8 (one accumulator line), not 16"
    assert found.errors == {sentence: 8_000}


def test_parts_are_where_they_are_said_to_be(space, tmp_path):
    parts = run_sweep(space, tmp_path / "out", build, Plan("random", 3), workers=1)
    assert parts == (Path(tmp_path / "out" / "points" / "part-000000.parquet"),)
    described = json.loads((tmp_path / "out" / "sweep.json").read_text("utf-8"))
    assert described["digest"] == space.digest
    assert described["space"]["knobs"][0] == ["array.rows", [4, 8, 16], None]


@pytest.mark.long
def test_a_million_points_stay_below_two_gigabytes(tmp_path):
    """Client and two workers, as the sum of their proportional shares of memory, while 1,048,576 points are done."""
    text = """
    hardware = "edge-32x32-bf16"
    workload = { model = "resnet18", batch = 128 }
    [knobs]
    array.rows = [16, 32]
    array.dataflow = ["ws", "os"]
    scratchpad.capacity_bytes = ["1 MiB", "2 MiB", "3 MiB", "4 MiB"]
    node_nm = { from = 7, to = 45, count = 64 }
    clock_mhz = { from = 100, to = 1000, count = 1024 }
    """
    held = []

    def progress(done, total):
        everyone = [psutil.Process(), *psutil.Process().children(recursive=True)]
        held.append(sum(p.memory_full_info().pss for p in everyone))

    space = read_space(text)
    parts = run_sweep(space, tmp_path / "out", build, Plan(), workers=2, progress=progress)
    found = analyse(space, parts)
    progress(0, 0)
    assert found.evaluated == space.size == 1_048_576
    assert found.failed == 0
    assert max(held) < 2e9
