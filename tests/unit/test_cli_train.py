"""Does `hwsim train` do what it is told, stop in order, continue, and refuse the rest in one sentence?"""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import hwsim.cli
import hwsim.report.training
import hwsim.values
from hwsim.cli import main
from hwsim.report.training import TRAINING_FILES
from hwsim.values.checkpoint import load
from hwsim.values.training import EpochRecord

HW = ["--hw", "edge-8x8-bf16"]
ARGUMENTS = ["train", "digits-mlp", *HW]


@pytest.fixture(autouse=True)
def few_digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Train on 100 samples, test on 50: three steps an epoch; in a folder of its own."""
    data = hwsim.values.digits()
    small = replace(
        data,
        train_x=data.train_x[:100],
        train_y=data.train_y[:100],
        test_x=data.test_x[:50],
        test_y=data.test_y[:50],
    )
    monkeypatch.setattr(hwsim.values, "digits", lambda: small)
    monkeypatch.chdir(tmp_path)


def summary(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json", "-"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    last = printed.err.rstrip("\n").split("\n")[-1]
    assert last.startswith("hwsim: ")
    return last.removeprefix("hwsim: ")


def interrupt_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Press Ctrl-C during a step."""
    show: Callable[[Any], None] = hwsim.report.training.TrainingDisplay.step

    def step(self: Any) -> None:
        show(self)
        if self._training.steps == steps:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(hwsim.report.training.TrainingDisplay, "step", step)


def test_summary_has_what_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    found = summary(capsys, *ARGUMENTS, "--epochs", "2", "--precision", "int8", "--seed", "5")
    assert found["schema"] == "hwsim.train/1"
    assert (found["epochs"], found["steps"], found["seed"], found["precision"]) == (2, 6, 5, "int8")
    assert (found["hardware"], found["model"], found["data"]) == ("edge-8x8-bf16 as int8", "digits-mlp", "digits")
    last = found["history"][-1]
    for name in ("loss", "test_accuracy", "cycles", "energy_pj", "energy_low_pj", "energy_high_pj"):
        assert found[name] == last[name] > 0
    assert found["energy_low_pj"] < found["energy_pj"] < found["energy_high_pj"]
    assert 0 < found["gated_share"] < 1
    assert len(found["weights_sha256"]) == 64
    assert found["energy_to_accuracy_pj"] is None


def test_the_same_seed_gives_the_same_summary(capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (summary(capsys, *ARGUMENTS, "--epochs", "1", "--seed", s) for s in ("1", "1", "2"))
    assert first == again
    assert first["weights_sha256"] != other["weights_sha256"]


def test_out_gets_all_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*ARGUMENTS, "--epochs", "2", "--out", "new/folder", "--json", "s.json"]) == 0
    folder = tmp_path / "new" / "folder"
    assert sorted(p.name for p in folder.iterdir()) == sorted(TRAINING_FILES)
    assert (folder / "summary.json").read_text() == (tmp_path / "s.json").read_text()
    with (folder / "epochs.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == [f.name for f in fields(EpochRecord)]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert printed.startswith(
        "Training: digits-mlp on digits, batch 32, momentum 0.1, bf16, seed 1, on edge-8x8-bf16\n"
    )
    assert len([line for line in printed.splitlines() if " mJ [" in line or " µJ [" in line]) == 2
    assert "Wrote summary.json, epochs.csv, training.png, checkpoint.npz into new/folder" in printed


def test_nothing_is_written_unless_asked(tmp_path: Path) -> None:
    assert main([*ARGUMENTS, "--epochs", "1"]) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_interrupt_and_resume_give_the_same_weights(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    whole = summary(capsys, *ARGUMENTS, "--epochs", "3", "--precision", "fp8")
    with monkeypatch.context() as patched:
        interrupt_after(patched, steps)
        assert main([*ARGUMENTS, "--epochs", "3", "--precision", "fp8", "--out", "o"]) == 130
    sentence = (
        f"hwsim: interrupted after step {steps}, in epoch {1 if steps < 4 else 2} of 3; "
        "continue with: hwsim train digits-mlp --resume o\n"
    )
    assert capsys.readouterr().err == sentence
    assert load(Path("o/checkpoint.npz")).arrays["loss"].size == steps
    assert summary(capsys, "train", "digits-mlp", "--resume", "o") == whole
    more = summary(capsys, *ARGUMENTS, "--resume", "o", "--epochs", "4", "--batch", "32", "--seed", "1")
    assert more["history"][:3] == whole["history"]
    assert more == summary(capsys, *ARGUMENTS, "--epochs", "4", "--precision", "fp8")


def test_interrupt_without_a_folder_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(monkeypatch, 1)
    assert main([*ARGUMENTS, "--epochs", "1"]) == 130
    assert capsys.readouterr().err.endswith("continue with: hwsim train digits-mlp --resume hwsim-digits-mlp\n")
    assert main(["train", "digits-mlp", "--resume", "hwsim-digits-mlp"]) == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_nan_is_reported_and_the_state_before_it_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "--epochs", "1", "--learning-rate", "1e30", "--out", "o"]) == 2
    assert capsys.readouterr().err == (
        "hwsim: digits-mlp: op 'fc2' (linear, forward) stored 320 infinities or NaNs in step 2, epoch 1; it is the "
        "first to do so; begin anew with a smaller learning rate; the state before it is in "
        f"{Path('o/checkpoint.npz')}\n"
    )
    assert load(Path("o/checkpoint.npz")).arrays["loss"].size == 1


def test_until_accuracy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "--epochs", "9", "--until-accuracy", "20", "--json", "s.json", "--out", "o"]) == 0
    printed = capsys.readouterr().out
    found = json.loads(Path("s.json").read_text())
    assert found["epochs"] == found["epochs_to_accuracy"] < 9
    assert found["test_accuracy"] >= 20
    assert found["energy_to_accuracy_pj"] == found["energy_pj"]
    assert f"20 % reached after epoch {found['epochs']}: " in printed
    # Continued: it is there already; the folder keeps how many epochs were asked for.
    assert (
        summary(capsys, "train", "digits-mlp", "--resume", "o", "--until-accuracy", "20")["epochs"] == found["epochs"]
    )
    assert main([*ARGUMENTS, "--epochs", "1", "--until-accuracy", "99.9", "--json", "s.json"]) == 0
    assert "A test accuracy of 99.9 % was not reached in 1 epochs; the best was " in capsys.readouterr().out
    assert json.loads(Path("s.json").read_text())["energy_to_accuracy_pj"] is None


def test_recomputation_changes_no_weight_and_is_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    network = ["train", "digits-cnn", *HW]
    plain = summary(capsys, *network, "--epochs", "1")
    ours = summary(capsys, *network, "--epochs", "1", "--recompute", "cheap", "--out", "o")
    assert (plain["recompute"], ours["recompute"]) == ("none", "cheap")
    assert ours["weights_sha256"] == plain["weights_sha256"]
    assert ours["cycles"] > plain["cycles"]
    assert summary(capsys, "train", "digits-cnn", "--resume", "o", "--epochs", "2")["recompute"] == "cheap"


PRECISIONS = "fp32, bf16, fp16, fp8, int8, int8-nearest"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "mnist"], "--data must be digits or cifar10:FOLDER; it is 'mnist'"),
        (["--data", "cifar10"], "--data must be digits or cifar10:FOLDER; it is 'cifar10'"),
        (
            ["--data", "cifar10:nowhere"],
            "cifar10: nowhere must hold data_batch_1.bin to data_batch_5.bin and test_batch.bin of the binary version "
            "(cifar-10-binary.tar.gz, unpacked); data_batch_1.bin, data_batch_2.bin, data_batch_3.bin, "
            "data_batch_4.bin, data_batch_5.bin, test_batch.bin not found",
        ),
        (
            ["--epochs", "0"],
            "invalid value for '--epochs': it must be a whole number, 1 or more, not '0'; see `hwsim train --help`",
        ),
        (["--batch", "101"], "digits: batch must be from 1 to the 100 training samples; it is 101"),
        (
            ["--optimizer", "lion"],
            "unknown optimizer 'lion'; choose one of sgd, momentum, nesterov, adam, adamw",
        ),
        (["--learning-rate", "nan"], "momentum: learning_rate must be finite and at least 0; it is nan"),
        (["--precision", "fp4"], f"unknown precision 'fp4'; choose one of {PRECISIONS}, or name a .toml file"),
        (["--recompute", "all"], "unknown recompute policy 'all'; choose one of none, cheap, sqrt"),
        (["--seed", "-1"], "seed must be from 0 to 2^32 - 1; it is -1"),
        (["--until-accuracy", "0"], "--until-accuracy must be above 0 and at most 100 percent; it is 0"),
        (["--until-accuracy", "nan"], "--until-accuracy must be above 0 and at most 100 percent; it is nan"),
        (["--out", ""], "--out must name a folder; it is empty"),
        (
            ["--resume", "o"],
            f"there is no checkpoint '{Path('o/checkpoint.npz')}'; train with --out first, or name another folder",
        ),
        (["--json", "no/where.json"], "cannot write 'no/where.json': there is no folder 'no'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    assert refusal(capsys, *ARGUMENTS, *arguments) == sentence
    assert list(tmp_path.iterdir()) == []


def test_models_that_do_not_fit_the_data_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = (
        "digits: one sample is (8, 8, 1); a network that reads (32, 32, 3) cannot be trained on it; "
        "choose another of both"
    )
    assert refusal(capsys, "train", "resnet18") == sentence


def test_resume_with_other_options_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "--epochs", "2", "--out", "o"]) == 0
    capsys.readouterr()
    again = ["train", "digits-mlp", "--resume", "o"]
    before = Path("o/checkpoint.npz").read_bytes()
    tail = "give what it was begun with, or begin anew"
    cases = [
        (["--batch", "16"], f"the checkpoint has batch 32, this run 16; {tail}"),
        (["--learning-rate", "0.5"], f"the checkpoint has optimizer.learning_rate 0.1, this run 0.5; {tail}"),
        (
            ["--hw", "edge-8x8-int8"],
            f"the checkpoint has hardware.name edge-8x8-bf16, this run edge-8x8-int8 as bf16; {tail}",
        ),
        (["--recompute", "sqrt"], f"the checkpoint has recompute none, this run sqrt; {tail}"),
        (["--epochs", "1"], "--epochs is how many there are in all; the checkpoint has 2"),
    ]
    for options, sentence in cases:
        assert refusal(capsys, *again, *options) == sentence
    assert refusal(capsys, "train", "digits-cnn", "--resume", "o") == (
        "the checkpoint is of digits-mlp, not of digits-cnn; name that model, or begin anew"
    )
    assert refusal(capsys, *ARGUMENTS, "--out", "o") == (
        "'o' holds a training already; continue it with --resume o, or name another folder"
    )
    Path("o/checkpoint.npz").write_bytes(before[: len(before) // 2])
    assert "is truncated, damaged, or not a checkpoint of hwsim; use another copy" in refusal(capsys, *again)


def test_without_scikit_learn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hwsim.cli, "find_spec", lambda name: None)
    assert refusal(capsys, *ARGUMENTS) == (
        "digits: the images come with scikit-learn, which is not installed; run: pip install 'hwsim[data]'"
    )
