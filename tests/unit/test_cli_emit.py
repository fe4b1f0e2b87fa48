"""Does `hwsim emit` write what it lists, and refuse what it cannot write?"""

import json

from hwsim.cli import main


def test_emit_writes_the_files_that_it_lists(tmp_path, capsys):
    out, listed = tmp_path / "rtl", tmp_path / "files.json"
    assert main(["emit", "--hw", "edge-4x4-bf16", "-o", str(out), "--json", str(listed)]) == 0
    files = json.loads(listed.read_text("utf-8"))["files"]
    assert sorted(files) == sorted(str(path) for path in out.iterdir())
    assert "hwsim_edge_4x4_bf16.v" in capsys.readouterr().out or files


def test_emit_refuses_a_machine_without_rtl(tmp_path, capsys):
    assert main(["emit", "--hw", "tpuv2-like-128x128-bf16", "-o", str(tmp_path / "rtl")]) == 2
    assert "one memory channel" in capsys.readouterr().err
