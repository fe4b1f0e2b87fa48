"""Does `hwsim emit` write what it lists, and refuse what it cannot write?"""

import json
import re
import subprocess
import sys
from importlib import resources

from hwsim.cli import main


def test_emit_writes_the_files_that_it_lists(tmp_path, capsys):
    out, listed = tmp_path / "rtl", tmp_path / "files.json"
    assert main(["emit", "--hw", "edge-4x4-bf16", "-o", str(out), "--json", str(listed)]) == 0
    files = json.loads(listed.read_text("utf-8"))["files"]
    assert sorted(files) == sorted(str(path) for path in out.iterdir())
    assert str(out / "hwsim_edge_4x4_bf16.v") in files
    assert not capsys.readouterr().err


def test_emit_refuses_a_machine_without_rtl(tmp_path, capsys):
    assert main(["emit", "--hw", "tpuv2-like-128x128-bf16", "-o", str(tmp_path / "rtl")]) == 2
    assert "one memory channel" in capsys.readouterr().err


def test_a_refusal_is_one_line(tmp_path):
    """Parts of the machine that were made before are dropped without a word of Amaranth's."""
    preset = (resources.files("hwsim.hardware") / "presets" / "edge-8x8-bf16.toml").read_text("utf-8")
    hw = tmp_path / "hw.toml"
    hw.write_text(re.sub(r"(?m)^fetch_bytes_per_cycle = .*", "fetch_bytes_per_cycle = 64", preset), "utf-8")
    program = "import sys; from hwsim.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "emit", "--hw", str(hw), "-o", str(tmp_path / "rtl")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith("hwsim: a command is prepared in 2 cycles, and the next one comes 2 cycles after it;")
    assert run.stderr.count("\n") == 1
