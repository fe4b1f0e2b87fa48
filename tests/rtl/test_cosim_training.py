"""Does the RTL train as the simulator does: every bit of memory and every cycle of every step?

The live session that carries it is tested here, too.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hwsim.cli
from hwsim.cli import main
from hwsim.errors import HwsimError
from hwsim.explain import entries
from hwsim.hardware import Accelerator, load_accelerator
from hwsim.mapping.layout import first_dispatch_cycles
from hwsim.program import COMMAND_BYTES
from hwsim.simulate import simulate
from hwsim.values import digits
from hwsim.values.training import step_cost
from hwsim_models import build
from hwsim_rtl.cosim import CosimTraining, random_programs, small_machine
from hwsim_rtl.cosim.compare import compare, expect, job_of
from hwsim_rtl.cosim.session import Session
from hwsim_rtl.cosim.simulator import build_bench

SMALL = small_machine(
    "ws-2x4-int8-training", 2, 4, format="int8", add=1, multiply=0, beta=1, beat=4, latency=6, fetch=8, lines=256,
    bank_lines=128,
)  # fmt: skip
MEMORY_BYTES = 1 << 17


@pytest.fixture(scope="module")
def cache(request: pytest.FixtureRequest) -> Path:
    """Where models are kept from run to run."""
    return Path(request.config.cache.mkdir("hwsim-models"))


def training_of(name: str, hw: Accelerator, cache: Path, batch: int = 32, **options) -> CosimTraining:
    graph = build(name, batch)
    cost = step_cost(
        simulate(graph, hw, options.get("optimizer", "momentum"), recompute=options.get("recompute", "none"))
    )
    samples = digits().shaped(graph.tensors["input"].shape[1:])
    return CosimTraining(graph, hw, samples, cost=cost, cache=cache, **options)


def assert_equal(trained: CosimTraining, steps: int) -> None:
    assert len(trained.steps) == steps
    assert not trained.mismatches, trained.steps[-1]
    for step in trained.steps:
        assert step.rtl_loss == step.loss
        assert step.rtl_cycles == step.cycles > 0
        assert step.rtl_weights_sha256 == step.weights_sha256
        assert step.rtl_state_sha256 == step.state_sha256
    # Weights and state change in every step.
    assert len({step.rtl_weights_sha256 for step in trained.steps}) == steps
    assert len({step.rtl_state_sha256 for step in trained.steps}) == steps


# ---- training -----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_steps_that_compute_again(cache):
    with training_of("digits-cnn", load_accelerator("edge-8x8-bf16"), cache, 4, recompute="cheap") as trained:
        trained.run(1, 2)
    assert_equal(trained, 2)
    with training_of("digits-cnn", load_accelerator("edge-8x8-bf16"), cache, 4) as plain:
        plain.run(1, 2)
    assert [s.rtl_weights_sha256 for s in trained.steps] == [s.rtl_weights_sha256 for s in plain.steps]


@pytest.mark.parametrize("hw", ["edge-8x8-bf16", "edge-8x8-int8"])
def test_ten_steps_of_the_digits_mlp(hw, cache):
    with training_of("digits-mlp", load_accelerator(hw), cache) as trained:
        trained.run(1, 10)
    assert_equal(trained, 10)
    losses = [step.rtl_loss for step in trained.steps]
    assert np.mean(losses[-3:]) < 0.9 * losses[0], losses
    assert losses[0] == pytest.approx(np.log(10), abs=0.5)


@pytest.mark.long
@pytest.mark.parametrize("hw", ["edge-8x8-bf16", "edge-8x8-int8"])
def test_an_epoch_of_the_digits_mlp(hw, cache):
    with training_of("digits-mlp", load_accelerator(hw), cache) as trained:
        (record,) = trained.run(1)
    assert_equal(trained, trained.training.steps_per_epoch)
    assert record.test_accuracy > 60


@pytest.mark.long
@pytest.mark.parametrize("hw", ["edge-8x8-bf16", "edge-8x8-int8"])
def test_steps_of_the_digits_cnn(hw, cache):
    with training_of("digits-cnn", load_accelerator(hw), cache) as trained:
        trained.run(1, 5)
    assert_equal(trained, 5)


@pytest.fixture(scope="module")
def small(cache: Path) -> CosimTraining:
    """Three steps of eight samples on the small machine, with what the host wrote after each."""
    with training_of("digits-mlp", SMALL, cache, batch=8) as trained:
        written: list[int] = []
        trained.run(1, 3, on_step=lambda step: written.append(trained.training.machine.host_bytes))
    trained.written = written
    return trained


def test_the_small_machine_trains(small):
    assert_equal(small, 3)


def test_cycles_are_those_of_the_simulated_step(small):
    """`hwsim step` counts the way of one first command; here there are two programs a step."""
    cycles = small.training.cost.cycles + first_dispatch_cycles(SMALL)
    assert {step.rtl_cycles for step in small.steps} == {cycles}


def test_the_host_writes_inputs_labels_and_what_changes_of_programs(small):
    graph = small.training.step
    samples = 8 * (64 + 4)  # int8 pixels, int32 labels
    commands = sum(len(plan.program.expand()) for plan in small.training.machine.plans.values() if plan.segments)
    assert small.written[0] < 200_000
    for more in np.diff(small.written):
        assert samples <= more <= samples + COMMAND_BYTES * commands
    assert graph.batch == 8


def test_adam_goes_on_with_its_step_number(cache):
    """Its commands change from step to step, so the host writes its program anew."""
    with training_of("digits-mlp", SMALL, cache, batch=8, optimizer="adam") as trained:
        trained.run(1, 2)
    assert_equal(trained, 2)


def test_training_ends_after_the_first_step_that_differs(cache, monkeypatch):
    """A byte of the weights that the RTL stored otherwise."""
    run, runs = Session.run, []

    def disturbed(session, job):
        found = run(session, job)
        runs.append(job)
        if len(runs) == 4:  # the updates of the second step
            low, _ = places["fc1.weight"]
            found.memory[low + 1] ^= 1
        return found

    monkeypatch.setattr(Session, "run", disturbed)
    with training_of("digits-mlp", SMALL, cache, batch=8) as trained:
        machine = trained.training.machine
        places = {"fc1.weight": (machine._addresses["fc1.weight"], 0)}
        trained.run(1, 5)
    first, second = trained.steps
    assert (first.equal, second.equal) == (True, False)
    assert trained.mismatches == 1
    assert second.weights_sha256 != second.rtl_weights_sha256
    assert second.differences[0].startswith(
        f"memory at {places['fc1.weight'][0] + 1:#x} (fc1.weight), stored by command"
    )


def test_random_words_go_on_from_program_to_program(cache, monkeypatch):
    """With the seed written before every program the RTL draws the first words again, and that shows."""
    run = Session.run

    def seeded(session, job):
        seed = [(0x24, 1)]
        return run(session, job if job.image is not None else replace(job, writes=[*job.writes, *seed]))

    monkeypatch.setattr(Session, "run", seeded)
    with training_of("digits-mlp", SMALL, cache, batch=8) as trained:
        trained.run(1, 3)
    assert trained.mismatches == 1


# ---- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def on_small(monkeypatch, cache) -> Iterator[None]:
    """The command takes the small machine, and keeps models where the tests do."""
    monkeypatch.setattr(hwsim.cli, "_cache_folder", lambda name: cache)
    monkeypatch.setattr(hwsim.cli, "_accelerator", lambda *_: SMALL)
    return


def test_the_command_trains_and_says_what_came_out(capsys, tmp_path, on_small):
    arguments = ["cosim", "train", "digits-mlp", "--batch", "8", "--steps", "2", "--out", str(tmp_path / "run")]
    assert main([*arguments, "--json", "-"]) == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert summary["schema"] == "hwsim.cosim-train/1"
    assert {key: summary[key] for key in ("steps", "mismatches", "epochs")} == {
        "steps": 2,
        "mismatches": 0,
        "epochs": 0,
    }
    assert summary["cycles"] == summary["expected_cycles"] == sum(step["rtl_cycles"] for step in summary["history"])
    assert summary["weights_sha256"] == summary["expected_weights_sha256"] == summary["history"][-1]["weights_sha256"]
    assert summary["loss"] == summary["history"][-1]["rtl_loss"]
    assert summary["energy_low_pj"] < summary["energy_pj"] < summary["energy_high_pj"]
    assert f"{summary['cycles']:,} cycles; memory, starts, ends, loss and weights: equal" in shown.err
    assert summary["weights_sha256"] in shown.err
    keys = {*summary, *summary["history"][0]}
    assert keys <= {name for entry in entries() if entry.kind == "JSON key" for name in entry.names}
    assert json.loads((tmp_path / "run" / "summary.json").read_text("utf-8")) == summary
    assert len((tmp_path / "run" / "steps.csv").read_text("utf-8").splitlines()) == 3
    assert (tmp_path / "run" / "training.png").read_bytes().startswith(b"\x89PNG")


def test_a_difference_is_named_and_ends_with_exit_code_1(capsys, on_small, monkeypatch):
    run = Session.run

    def late(session, job):
        found = run(session, job)
        values = list(found.values)
        values[COUNTER] += 1
        return replace(found, values=tuple(values))

    from hwsim_rtl.cosim.compare import COUNTERS

    COUNTER = COUNTERS.index("CYCLES_LOW")
    monkeypatch.setattr(Session, "run", late)
    assert main(["cosim", "train", "digits-mlp", "--batch", "8", "--steps", "3"]) == 1
    shown = capsys.readouterr().out
    assert "1 steps, " in shown
    assert "loss and weights: step 1 differs" in shown
    assert "  the program ends in cycle " in shown


def test_an_interrupt_ends_it_after_the_step_under_way(capsys, on_small, monkeypatch):
    run, runs = Session.run, []

    def interrupted(session, job):
        runs.append(job)
        if len(runs) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return run(session, job)

    monkeypatch.setattr(Session, "run", interrupted)
    assert main(["cosim", "train", "digits-mlp", "--batch", "8", "--steps", "5"]) == 130
    shown = capsys.readouterr()
    assert "2 steps, " in shown.out
    assert "interrupted after step 2 of 5; those before are equal" in shown.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["lenet"], "digits: one sample is (8, 8, 1); a network that reads (32, 32, 3) cannot be trained on it"),
        (["digits-mlp", "--steps", "0"], "invalid value for '--steps': it must be a whole number, 1 or more, not '0'"),
        (["digits-mlp", "--out", ""], "--out must name a folder; it is empty"),
        (["digits-mlp", "--optimizer", "lion"], "unknown optimizer 'lion'"),
        (["digits-mlp", "--data", "mnist"], "--data must be digits or cifar10:FOLDER; it is 'mnist'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(capsys, arguments, sentence):
    assert main(["cosim", "train", *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


# ---- the session --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(cache: Path) -> Path:
    return build_bench(SMALL, cache, MEMORY_BYTES)


def test_memory_stays_from_job_to_job_but_for_what_the_host_writes(model):
    program, *_ = random_programs(SMALL, 1, 5)
    expected = expect(SMALL, program)
    job = job_of(program, expected, 0, 1)
    with Session(model) as session:
        first = session.run(job)
        assert compare(program, expected, first, exact=True).equal
        again = replace(program, image=first.memory)
        wanted = expect(SMALL, again)
        low = program.address - 64
        patch = np.arange(64, dtype=np.uint8)
        wanted.memory[low : low + 64] = patch
        found = session.run(replace(job, image=None, patches={low: patch}))
    assert np.array_equal(found.memory[low : low + 64], patch)
    assert np.array_equal(found.memory, wanted.memory)


def test_whole_words_are_written(model):
    program, *_ = random_programs(SMALL, 1, 5)
    job = job_of(program, expect(SMALL, program), 0, 1)
    with Session(model) as session, pytest.raises(HwsimError, match="whole words, not 3 bytes at 0x4"):
        session.run(replace(job, patches={4: np.zeros(3, np.uint8)}))


def test_a_simulation_that_dies_says_what_it_said(tmp_path):
    dying = tmp_path / "model"
    dying.write_text("#!/bin/sh\necho something is wrong here\nexit 3\n", "utf-8")
    dying.chmod(0o755)
    program, *_ = random_programs(SMALL, 1, 5)
    job = job_of(program, expect(SMALL, program), 0, 1)
    with Session(dying) as session, pytest.raises(HwsimError, match=r"the simulation failed:\nsomething is wrong here"):
        session.run(job)
