"""Does the command line do what it is told, and refuse the rest in one sentence?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hwsim.cli import main
from hwsim.errors import HwsimError
from hwsim.report.files import FILES

PRESETS = "edge-32x32-bf16, edge-4x4-bf16, edge-8x8-bf16, edge-8x8-int8, gemmini-16x16-int8, tpuv2-like-128x128-bf16"


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run what must be refused; give the sentence."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("hwsim: ")
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("hwsim: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nope"], "no such command 'nope'; see `hwsim --help`"),
        (["step"], "missing argument 'MODEL'; see `hwsim step --help`"),
        (
            ["step", "fakenet", "--batch", "0"],
            "invalid value for '--batch': it must be a whole number, 1 or more, not '0'; see `hwsim step --help`",
        ),
        (
            ["gemm", "4", "x", "4"],
            "invalid value for 'K': it must be a whole number, 1 or more, not 'x'; see `hwsim gemm --help`",
        ),
        (
            ["gemm", "4", "4", "1.5"],
            "invalid value for 'N': it must be a whole number, 1 or more, not '1.5'; see `hwsim gemm --help`",
        ),
        (["gemm", "4", "4"], "missing argument 'N'; see `hwsim gemm --help`"),
        (["gemm", "4", "4", "4", "--hw"], "option '--hw' requires an argument; see `hwsim --help`"),
        (
            ["gemm", "4", "4", "4", "--hw", "big"],
            f"unknown hardware preset 'big'; choose one of {PRESETS}, or name a .toml file",
        ),
        (
            ["gemm", "4", "4", "4", "--hw", "no.toml"],
            "cannot read hardware description 'no.toml': No such file or directory",
        ),
        (["gemm", "4", "4", "4", "--dataflow", "rs"], "unknown dataflow 'rs'; choose one of ws, os, is"),
        (
            ["step", "fakenet", "--optimizer", "lion"],
            "unknown optimizer 'lion'; choose one of sgd, momentum, nesterov, adam, adamw",
        ),
        (
            ["step", "fakenet", "--recompute", "all"],
            "unknown recompute policy 'all'; choose one of none, cheap, sqrt",
        ),
        (
            ["step", "fakenet", "--freeze", "fc", "--freeze", "conv9"],
            "freeze: no parameter of 'fakenet' is under 'conv9'; there are conv1, fc",
        ),
        (["step", "fakenet", "--json", "no/where.json"], "cannot write 'no/where.json': there is no folder 'no'"),
        (["explain", "wgard"], "unknown term 'wgard'; did you mean wgrad or forward?"),
    ],
)
@pytest.mark.usefixtures("fakes")
def test_bad_input_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(capsys, *arguments) == sentence
    assert list(tmp_path.iterdir()) == []


def test_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such option: --batc" in refusal(capsys, "step", "lenet", "--batc", "3").lower()


def test_unwritable_output_is_refused_before_simulating(
    capsys: pytest.CaptureFixture[str], fakes: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine", "utf-8")
    (tmp_path / "full" / "ops.csv").mkdir(parents=True)
    file, full = tmp_path / "file", tmp_path / "full"
    cases = [
        (["--out", str(file)], f"cannot write into '{file}': it is a file, not a folder"),
        (["--out", str(file / "x")], f"cannot make folder '{file / 'x'}': Not a directory"),
        (["--out", str(full)], f"cannot write '{full / 'ops.csv'}': it is a folder, not a file"),
        (["--json", str(full)], f"cannot write '{full}': it is a folder, not a file"),
    ]
    for arguments, sentence in cases:
        assert refusal(capsys, "step", "fakenet", *arguments) == sentence
    assert fakes.calls == []
    assert file.read_text("utf-8") == "mine"


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="needs a folder that nobody can write into")
@pytest.mark.usefixtures("fakes")
def test_folder_that_cannot_be_made_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        refusal(capsys, "step", "fakenet", "--out", "/proc/x")
        == "cannot make folder '/proc/x': No such file or directory"
    )


@pytest.mark.usefixtures("fakes")
def test_step_prints_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "fakenet"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Training step: fakenet, batch 128, momentum, on edge-32x32-bf16 (ws)\n")
    assert printed.err == ""


def test_step_passes_its_options_on(capsys: pytest.CaptureFixture[str], fakes: ModuleType) -> None:
    options = ["--hw", "edge-8x8-bf16", "--dataflow", "os", "--batch", "4", "--optimizer", "adam", "--freeze", "conv1"]
    options += ["--precision", "int8", "--recompute", "sqrt"]
    assert main(["step", "fakenet", *options]) == 0
    (call,) = fakes.calls
    assert (call["hardware"].name, call["hardware"].array.dataflow, call["optimizer"]) == (
        "edge-8x8-bf16",
        "os",
        "adam",
    )
    assert (call["precision"].name, call["recompute"]) == ("int8", "sqrt")
    graph = call["graph"]
    assert (graph.batch, graph.tensors["conv1.weight"].trainable, graph.tensors["fc.bias"].trainable) == (
        4,
        False,
        True,
    )


def test_step_needs_no_matplotlib_without_out(monkeypatch: pytest.MonkeyPatch, fakes: ModuleType) -> None:
    for name in [*(m for m in sys.modules if m.split(".")[0] == "matplotlib"), "matplotlib", "hwsim.report.plots"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["step", "fakenet"]) == 0
    assert len(fakes.calls) == 1


@pytest.mark.usefixtures("fakes")
def test_json_to_stdout_is_alone_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments, schema in (
        (["step", "fakenet", "--json", "-", "--out", str(tmp_path)], "hwsim.step/1"),
        (["gemm", "8", "8", "8", "--json", "-"], "hwsim.gemm/1"),
    ):
        assert main(arguments) == 0
        assert json.loads(capsys.readouterr().out)["schema"] == schema


@pytest.mark.usefixtures("fakes")
def test_json_file_is_written_beside_tables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "gemm.json"
    assert main(["gemm", "64", "32", "16", "--transpose-b", "--json", str(path)]) == 0
    assert json.loads(path.read_text("utf-8"))["macs"] == 64 * 32 * 16
    assert capsys.readouterr().out.startswith("(64 × 32) · (32 × 16) on edge-32x32-bf16 (ws)")


@pytest.mark.usefixtures("fakes")
def test_out_gets_all_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert main(["step", "fakenet", "--out", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert f"Wrote {', '.join(FILES)} into {folder}" in capsys.readouterr().out


def test_lists_name_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in PRESETS.split(", "))
    assert main(["explain"]) == 0
    assert "stall cause\n" in capsys.readouterr().out


@pytest.mark.usefixtures("fakes")
def test_models_are_listed_with_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert "nine blocks that nobody trained" in capsys.readouterr().out


def test_explain_gives_every_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "drain"]) == 0
    printed = capsys.readouterr().out
    assert "drain  (term)" in printed
    assert "drain  (stall cause)" in printed


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Usage: hwsim" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "hwsim: interrupted\n"),
        (HwsimError("conv1: no rule\nfor this"), 2, "hwsim: conv1: no rule for this\n"),
        (OverflowError(), 2, "hwsim: the sizes are too large to be counted in 64 bits; choose smaller ones\n"),
        (OSError(28, "No space left on device"), 2, "hwsim: cannot write the output: No space left on device\n"),
        (OSError(28, "No space left on device", "a.png"), 2, "hwsim: cannot use 'a.png': No space left on device\n"),
    ],
)
def test_errors_while_running_are_one_line(
    capsys: pytest.CaptureFixture[str], fakes: ModuleType, error: BaseException, code: int, sentence: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    fakes.simulate = fail  # type: ignore[attr-defined]
    assert main(["step", "fakenet"]) == code
    assert capsys.readouterr().err == sentence


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_help_and_lists_import_nothing_heavy() -> None:
    code = (
        "import sys; from hwsim.cli import main; main(['{}']);"
        "print([m for m in ('matplotlib', 'numba', 'hwsim.simulate') if m in sys.modules], file=sys.stderr)"
    )
    assert run(code.format("--help")).stderr == "[]\n"
    assert run(code.format("presets")).stderr == "[]\n"


def test_terminal_without_unicode_gets_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = run("from hwsim.cli import main; main(['presets'])")
    assert (done.returncode, done.stderr) == (0, "")
    assert "32?32" in done.stdout


def test_reader_that_stops_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "hwsim.cli", "explain"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, errors = process.communicate(timeout=60)
    assert errors == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_full_disk_is_one_sentence() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hwsim.cli", "explain"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stderr == "hwsim: cannot write the output: No space left on device\n"
    assert done.returncode == 2
