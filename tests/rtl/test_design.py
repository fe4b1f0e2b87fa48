"""Are the files of a machine complete, the same every time, clean, and true to the machine?"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim_rtl.control import Fault
from hwsim_rtl.cosim import small_machine
from hwsim_rtl.design import LINT_WAIVERS, memory_map, write_design
from hwsim_rtl.machine import INNER_LATENCY_CYCLES, Machine, module_name
from hwsim_rtl.registers import REGISTERS
from hwsim_rtl.tools import find_verilator
from hwsim_rtl.verilog import emit

HW = small_machine("files-4x4-bf16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("design")
    write_design(found, HW)
    return found


def verilog(folder: Path) -> str:
    return (folder / f"{module_name(HW)}.v").read_text("utf-8")


def test_every_file_of_the_list_is_there(folder):
    listed = (folder / "filelist.f").read_text("utf-8").split()
    assert listed == [f"{module_name(HW)}.v", "bench.v", "testbench.v"]
    names = {path.name for path in folder.iterdir()}
    assert names == {*listed, "filelist.f", "memory_map.json", "lint.vlt", "image_0.hex", "expected_0.hex"}


def test_files_are_the_same_every_time_and_name_no_folder(folder, tmp_path):
    write_design(tmp_path, HW)
    for path in folder.iterdir():
        text = path.read_text("utf-8")
        assert text == (tmp_path / path.name).read_text("utf-8"), path.name
        assert not re.search(r"(?<![\w:/])/(home|tmp|work|usr|root)/", text), path.name


def test_a_module_is_defined_once_and_a_pe_once_for_all(folder):
    modules = re.findall(r"^module (\S+)", verilog(folder), re.MULTILINE)
    assert len(modules) == len(set(modules))
    assert sum("PE_" in name for name in modules) == 1
    assert modules[-1].startswith(module_name(HW))
    assert not re.search(r"always\s*@\s*\*|always_comb", verilog(folder))


def test_text_grows_with_distinct_components_and_not_with_pes(folder):
    wider = emit(Machine(small_machine("wide-8x8-bf16", 8, 8)))
    assert len(wider) < 2.5 * len(verilog(folder))


def test_verilog_lints_clean_but_for_the_waivers(folder):
    verilator = find_verilator()
    run = subprocess.run(
        [verilator.command, "--lint-only", "-Wall", "--top-module", module_name(HW), "lint.vlt",
         f"{module_name(HW)}.v"],
        cwd=folder, env=verilator.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    waived = (folder / "lint.vlt").read_text("utf-8")
    assert all(f"// {reason}\nlint_off -rule {rule}\n" in waived for rule, reason in LINT_WAIVERS.items())


def test_the_memory_map_is_that_of_the_machine(folder):
    found = json.loads((folder / "memory_map.json").read_text("utf-8"))
    assert found == memory_map(HW)
    assert found["errors"] == {fault.name: fault.value for fault in Fault}
    assert found["memory"]["latency_cycles"] == HW.dram.latency_cycles - INNER_LATENCY_CYCLES
    assert found["accelerator"]["array"]["rows"] == 4
    offsets = [int(r["offset"], 16) for r in found["registers"]]
    assert offsets == sorted({4 * (o // 4) for o in offsets})
    assert [r["name"] for r in found["registers"]] == [r.name for r in REGISTERS]


def test_the_page_lists_every_register():
    page = (Path(__file__).parents[2] / "docs" / "rtl.md").read_text("utf-8")
    for register in REGISTERS:
        access = "rw" if register.writable else "r"
        assert f"| `0x{register.offset:02X}` | `{register.name}` | {access} | {register.means}" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dram": {"latency_cycles": 5}}, "latency"),
        ({"dram": {"channels": 2}}, "dram.channels is 2"),
        ({"dram": {"bytes_per_cycle": 256}}, "AXI4 port moves at most 128 bytes a beat, .* is 256"),
        ({"control": {"fetch_bytes_per_cycle": 12}}, "power of two"),
        ({"control": {"fetch_bytes_per_cycle": 128}}, "fetch_bytes_per_cycle must be at most 64"),
        ({"vector": {"latency_cycles": 2}}, "vector.latency_cycles"),
        ({"accumulator": {"add_latency_cycles": 1}}, "accumulator.add_latency_cycles must be at least 2"),
    ],
)
def test_what_has_no_rtl_is_refused(change, message):
    described = load_accelerator("edge-8x8-bf16").model_dump()
    for part, fields in change.items():
        described[part].update(fields)
    with pytest.raises(HwsimError, match=message):
        Machine(type(HW)(**described))
