"""Does `hwsim cosim` run what it is told, say what differs, and refuse the rest in one sentence?"""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwsim_rtl.cosim
from hwsim.cli import main
from hwsim.program import Field
from hwsim_rtl.cosim import small_machine


class Outcome:
    """As `hwsim_rtl.cosim.Result`."""

    def __init__(self, name: str, differences: list[str]) -> None:
        self.name, self.commands, self.cycles, self._differences = name, 10, 200, differences

    def differences(self) -> list[str]:
        return self._differences


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks of the co-simulation, which is not run; what differs is put into ``differences``."""
    calls: dict[str, Any] = {"differences": []}

    def cosimulate(hw: Any, programs: Any, cache: Path, **options: Any) -> list[Outcome]:
        calls.update(hw=hw, programs=programs, cache=cache, options=options)
        return [Outcome(p.name, calls["differences"] if i == 0 else []) for i, p in enumerate(programs)]

    monkeypatch.setattr(hwsim_rtl.cosim, "cosimulate", cosimulate)
    return calls


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.removeprefix("hwsim: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "cosim: name a network or a program's file, or give --random N"),
        (["lenet", "--random", "3"], "cosim: name a network or a program's file, or give --random N"),
        (["lenet", "--loss", "mae"], "--loss must be mse; it is 'mae'"),
        (["--random", "0"], "invalid value for '--random': it must be a whole number, 1 or more, not '0'; see `hwsim "
         "cosim step --help`"),
        (["--random", "1", "--waves", "no/where.vcd"], "cannot write 'no/where.vcd': there is no folder 'no'"),
        (["none.npz"], "there is no program 'none.npz'; `hwsim cosim … --save DIR` writes programs"),
        (["some.npz", "--hw", "edge-8x8-int8"],
         "cosim: 'some.npz' holds its machine; leave --hw, --dataflow, --precision and --loss out"),
        (["--random", "1", "--save", ""], "--save must name a folder; it is empty"),
        (["--random", "1", "--recompute", "sqrt"],
         "cosim: --recompute is for the training step of a network; leave it out, or name one"),
        (["lenet", "--recompute", "all"], "unknown recompute policy 'all'; choose one of none, cheap, sqrt"),
        (["lenet", "--optimizer", "lion"],
         "unknown optimizer 'lion'; choose one of sgd, momentum, nesterov, adam, adamw"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_sentence(capsys, arguments, sentence):
    assert refusal(capsys, "cosim", *arguments) == sentence


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_the_networks_own_loss_and_every_optimizer_have_hardware(capsys, asked, optimizer):
    assert main(["cosim", "digits-mlp", "--hw", "edge-8x8-int8", "--optimizer", optimizer]) == 0
    (program,) = asked["programs"]
    assert {"loss", "loss.dgrad", "fc1.weight.update"} <= {name for _, name in program.sections}


def test_a_training_step_is_one_program_with_all_its_ops(capsys, asked):
    assert main(["cosim", "digits-mlp", "--loss", "mse", "--batch", "2", "--hw", "edge-8x8-bf16"]) == 0
    (program,) = asked["programs"]
    assert program.name == "digits-mlp, one step of 2 samples"
    assert {"fc1", "fc2", "loss", "fc1.wgrad", "fc2.dgrad"} <= {name for _, name in program.sections}
    assert asked["options"]["slack"] == 0
    assert capsys.readouterr().out == (
        "edge-8x8-bf16: 1 program, 10 commands, 200 cycles; memory, starts and ends: equal\n"
    )


def test_a_training_step_has_what_it_computes_again(capsys, asked):
    assert main(["cosim", "digits-cnn", "--hw", "edge-8x8-bf16", "--batch", "1", "--recompute", "cheap"]) == 0
    (program,) = asked["programs"]
    assert {"conv1.bn.again", "conv1.relu.again"} <= {name for _, name in program.sections}


def test_random_programs_are_summed_up_as_json(capsys, asked):
    assert main(["cosim", "--random", "3", "--seed", "4", "--random-memory", "--json", "-"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert {key: summary[key] for key in ("programs", "commands", "cycles", "mismatches")} == {
        "programs": 3, "commands": 30, "cycles": 600, "mismatches": 0,
    }  # fmt: skip
    assert asked["options"]["slack"] > 0
    assert not summary["times_compared"]


def test_a_difference_is_named_and_ends_with_exit_code_1(capsys, asked):
    asked["differences"] = ["command 7 (vector): start expected in cycle 90, found in cycle 91"]
    assert main(["cosim", "--random", "2", "--seed", "1"]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("memory, starts and ends: 1 differ")
    assert shown[-1] == "  command 7 (vector): start expected in cycle 90, found in cycle 91"


def test_random_programs_really_run(capsys, tmp_path, monkeypatch, request):
    """On a small machine, with a VCD."""
    monkeypatch.setattr("hwsim.cli._cache_folder", lambda name: request.config.cache.mkdir("hwsim-models"))
    monkeypatch.setattr(
        "hwsim.cli._accelerator", lambda *_: small_machine("tiny", 2, 4, format="int8", add=1, beta=1, beat=4)
    )
    waves = tmp_path / "run.vcd"
    assert main(["cosim", "--random", "2", "--waves", str(waves)]) == 0, capsys.readouterr().out
    assert "2 programs" in capsys.readouterr().out
    assert "trace_running" in waves.read_text("utf-8")


def test_a_saved_program_is_run_again_on_its_machine(capsys, asked, tmp_path):
    assert main(["cosim", "--random", "2", "--hw", "edge-4x4-bf16", "--save", str(tmp_path / "kept")]) == 0
    _, second = asked["programs"]
    assert main(["cosim", str(tmp_path / "kept" / "program-2.npz")]) == 0
    (again,) = asked["programs"]
    assert asked["hw"].name == "edge-4x4-bf16"
    assert (again.flat == second.flat).all()
    assert (again.image == second.image).all()
    for name in ("name", "address", "seed", "sections", "tensors"):
        assert getattr(again, name) == getattr(second, name), name


def test_a_damaged_program_is_refused(capsys, asked, tmp_path):
    assert main(["cosim", "--random", "1", "--save", str(tmp_path)]) == 0
    capsys.readouterr()
    kept = tmp_path / "program-1.npz"
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    assert f"'{kept}' is damaged, or not a program of hwsim: " in refusal(capsys, "cosim", str(kept))
    with np.load(BytesIO(whole)) as file:
        entries = dict(file)
    np.savez(kept, **{**entries, "commands": entries["commands"][:, :5]})
    assert refusal(capsys, "cosim", str(kept)) == (
        f"'{kept}' is damaged: commands or memory are not as `hwsim cosim … --save DIR` writes them"
    )
    np.savez(kept, **{**entries, "format": np.array("hwsim.program/9")})
    assert (
        refusal(capsys, "cosim", str(kept)) == f"'{kept}' has format hwsim.program/9; this hwsim reads hwsim.program/1"
    )


def test_a_program_that_is_not_legal_is_refused(capsys, asked, tmp_path):
    """Without its posts some command waits for ever."""
    assert main(["cosim", "--random", "1", "--save", str(tmp_path)]) == 0
    capsys.readouterr()
    kept = tmp_path / "program-1.npz"
    with np.load(kept) as file:
        entries = dict(file)
    entries["commands"][:, Field.POST] = 0
    np.savez(kept, **entries)
    assert "that never comes (deadlock after cycle " in refusal(capsys, "cosim", str(kept))
