"""Does `hwsim sweep` say what it will do, write what it promises, and refuse well?"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from hwsim import cli
from hwsim.report.sweep import FILES

SPACE = """
name = "small"
hardware = "edge-8x8-int8"
constraints = ["power_w < 100"]
workload = { model = "digits-mlp", batch = 4 }
[knobs]
array.dataflow = ["ws", "os"]
"scratchpad.capacity_bytes" = ["16 KiB", "64 KiB"]
clock_mhz = [50, 80]
"""


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(SPACE, "utf-8")
    return path


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(["sweep", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_sweep_writes_its_files(space, tmp_path, capsys):
    out = tmp_path / "out"
    code, text, _ = run([str(space), "--out", str(out), "--workers", "1", "--json", str(tmp_path / "s.json")], capsys)
    assert code == 0
    assert "small: 8 points from edge-8x8-int8" in text
    assert re.search(r"about \S+ \S+ on 1 process: 8 points at \S+ µs, and at most 2 programs at \S+ ms", text)
    assert "8 points evaluated, 0 of them with an error; 8 feasible" in text
    assert {path.name for path in out.iterdir()} == {*FILES, "points", "sweep.json"}
    summary = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert summary["evaluated"] == summary["points"] == 8
    with (out / "front.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["point"]) for row in rows] == [row["point"] for row in summary["front"]]
    assert [float(row["energy_j"]) for row in rows] == [row["energy_j"] for row in summary["front"]]
    with (out / "ranking.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 15
    page = (out / "index.html").read_text("utf-8")
    assert "small" in page
    assert not re.search(r"(?:src|href)=\"https?:", page)


def test_a_dry_run_writes_nothing(space, tmp_path, capsys):
    code, text, _ = run([str(space), "--out", str(tmp_path / "out"), "--dry-run"], capsys)
    assert code == 0
    assert "8 points" in text
    assert not (tmp_path / "out").exists()


def test_json_alone_on_stdout(space, tmp_path, capsys):
    code, text, err = run([str(space), "--out", str(tmp_path / "out"), "--workers", "1", "--json", "-"], capsys)
    assert code == 0
    assert json.loads(text)["feasible"] == 8
    assert "8 points from" in err


def test_the_whole_table_as_csv(space, tmp_path, capsys):
    out = tmp_path / "out"
    assert run([str(space), "--out", str(out), "--workers", "1", "--chunk", "3", "--csv"], capsys)[0] == 0
    with (out / "points.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["point"]) for row in rows] == list(range(8))
    assert all(float(row["energy_j"]) > 0 for row in rows)


def test_a_search_against_the_grid(space, tmp_path, capsys):
    grid = ["--out", str(tmp_path / "grid"), "--workers", "1"]
    assert run([str(space), *grid], capsys)[0] == 0
    options = ["--search", "random", "--points", "8", "--against", str(tmp_path / "grid"), "--workers", "1"]
    code, text, _ = run([str(space), "--out", str(tmp_path / "drawn"), *options], capsys)
    assert code == 0
    assert "Hypervolume: 100.00% of that of the exhaustive front" in text


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (
            SPACE.replace("clock_mhz", "clock_mzh"),
            [],
            "line 9: unknown field 'clock_mzh', perhaps 'clock_mhz'; a knob is",
        ),
        (SPACE, ["--search", "bees"], "unknown search 'bees'; choose one of grid, random, nsga2, nsga3, tpe, qmc"),
        (SPACE, ["--search", "tpe"], "a tpe search needs the number of points: --points N"),
        (SPACE, ["--resume"], "holds no sweep to go on with; leave out --resume"),
        (SPACE.replace("digits-mlp", "digits"), [], "workload 1: model must be one of"),
        (SPACE, ["--points", "0"], "it must be a whole number, 1 or more, not '0'"),
        (SPACE, ["--against", "nowhere", "--workers", "1"], "--against names a folder without a sweep, 'nowhere'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(tmp_path, capsys, text, options, sentence):
    path = tmp_path / "space.toml"
    path.write_text(text, "utf-8")
    code, _, err = run([str(path), "--out", str(tmp_path / "out"), *options], capsys)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


def test_what_is_missing_is_named(space, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "moocore" else object())
    code, _, err = run([str(space), "--out", str(tmp_path / "out")], capsys)
    assert (code, err) == (
        2,
        "hwsim: a sweep needs moocore, which is missing; install it: pip install 'hwsim[sweep]'\n",
    )


def test_an_interrupt_says_how_to_go_on(space, tmp_path, capsys, monkeypatch):
    import hwsim.explore

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hwsim.explore, "run_sweep", interrupted)
    code, _, err = run([str(space), "--out", str(tmp_path / "out")], capsys)
    assert code == 130
    command = f"hwsim sweep {space} --out {tmp_path / 'out'} --search grid --seed 1 --chunk 65536 --resume"
    assert err == f"hwsim: interrupted; go on: {command}\n"
