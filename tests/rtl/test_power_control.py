"""Are a module's ports read from waves as they were, and is the control's energy that of its own run?"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim.workload import default_precision
from hwsim_models import build
from hwsim_rtl.cosim import step_program
from hwsim_rtl.power.activity import simulate, simulate_bits
from hwsim_rtl.power.calibration import OSU018, Cells
from hwsim_rtl.power.components import Component
from hwsim_rtl.power.control import calibrate_control, control_component, measure_control
from hwsim_rtl.power.gates import CENTRAL, Weights
from hwsim_rtl.power.liberty import read_liberty
from hwsim_rtl.power.netlist import Netlist
from hwsim_rtl.power.vcd import read_ports

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
CELLS = Path(__file__).with_name("cells.lib")
TINY = read_liberty(CELLS)
VCD = """$timescale 1ns $end
$scope module top $end
 $var wire 1 ! clk $end
 $scope module part $end
  $var wire 1 ! clk $end
  $var wire 1 # busy $end
  $var wire 70 $ wide [69:0] $end
  $var wire 1 # again $end
 $upscope $end
 $scope module other $end
  $var wire 1 % busy $end
 $upscope $end
$upscope $end
$enddefinitions $end
#0
0!
0#
b0 $
1%
#1
1!
1#
#2
0!
b10 $
#3
1!
bx01 $
0#
#4
0!
#5
1!
"""


def test_a_cycle_ends_before_the_edge_and_changes_at_the_edge_are_of_the_next(tmp_path):
    path = tmp_path / "w.vcd"
    path.write_text(VCD, "ascii")
    found = read_ports(path, "part", ("busy", "again", "wide"))
    assert found["busy"].tolist() == found["again"].tolist() == [[0], [1], [0]]
    assert found["wide"].shape == (3, 70)
    # in the second cycle wide is 2: it changed between two edges; with the next edge it became 1, an unknown bit above
    assert [row[:3] for row in found["wide"].tolist()] == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert read_ports(path, "part", ("busy",), cycles=2)["busy"].tolist() == [[0], [1]]


def test_a_signal_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "w.vcd"
    path.write_text(VCD, "ascii")
    with pytest.raises(HwsimError) as error:
        read_ports(path, "part", ("busy", "none"))
    assert str(error.value) == "w.vcd: scope 'part' has no signal 'none'"


#: busy is a register of start; dispatched an inverter of the other input.
SMALL = (
    [
        ("r", "DFF", {"CK": 2, "D": 3, "Q": 4}),
        ("i", "INV", {"A": 5, "Y": 6}),
    ],
    {
        "clk": ("input", [2]), "start": ("input", [3]), "x": ("input", [5]), "busy": ("output", [4]),
        "dispatched": ("output", [6]),
    },
)  # fmt: skip


def small():
    cells, ports = SMALL
    module = {
        "ports": {n: {"direction": d, "bits": b} for n, (d, b) in ports.items()},
        "cells": {n: {"type": t, "connections": {p: [b] for p, b in pins.items()}} for n, t, pins in cells},
    }
    return Netlist.of(json.dumps({"modules": {"top": module}}), "top", TINY)


def recorded():
    """Four cycles at rest, then eight at work, in which a command is dispatched in every other one."""
    start = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    x = np.array([1, 1, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    busy = np.concatenate([[0], start[:-1]])
    return {
        n: w[:, None].astype(np.uint8) for n, w in (("start", start), ("x", x), ("busy", busy), ("dispatched", 1 - x))
    }


def test_busy_idle_and_a_command_are_the_sums_by_hand():
    part = Component("control", "", "top")
    found = measure_control(part, small(), TINY, recorded())
    assert (found["cycles"], found["commands"], found["checked_bits"]) == (8, 4, 16)
    weights = Weights.of(small(), TINY, replace(CENTRAL, glitches=False))
    net = small()
    clock = weights.clock_pj.sum()
    # x and its inverse change in every cycle, from the first counted one on; busy in the first alone
    changes = weights.changes.sum(axis=(0, 1))
    busy = clock + sum(changes[net.ports[name][0]] for name in ("x", "dispatched")) + changes[net.ports["busy"][0]] / 8
    assert found["busy_pj"]["value"] == pytest.approx(busy, abs=0.006)
    assert found["idle_pj"]["value"] == pytest.approx(clock, abs=0.006)
    assert found["command_pj"]["value"] == pytest.approx((busy - clock) * 2, abs=0.006)
    assert found["busy_pj"]["low"] < found["busy_pj"]["value"] < found["busy_pj"]["high"]


@pytest.mark.parametrize("name", ["busy", "dispatched"])
def test_gates_that_are_not_the_rtl_are_refused(name):
    ports = recorded()
    ports[name][9] ^= 1
    with pytest.raises(HwsimError) as error:
        measure_control(Component("control", "", "top"), small(), TINY, ports)
    assert str(error.value) == f"control: '{name}' of the gates is not the RTL's in cycle 5 of the program"


def test_ports_of_bits_give_what_words_give():
    rng, net = np.random.default_rng(1), small()
    words = {name: rng.integers(0, 2, (20, 64), dtype=np.uint64) for name in net.inputs}
    streams = [{name: w[:, lane : lane + 1].astype(np.uint8) for name, w in words.items()} for lane in range(64)]
    one = simulate(net, words, warm_cycles=3)
    two, outputs = simulate_bits(net, streams, warm_cycles=3)
    assert (one.toggles == two.toggles).all()
    assert one.cycles == two.cycles == 17
    for lane, found in enumerate(outputs):
        for name, bits in found.items():
            assert bits[:, 0].tolist() == one.outputs[name][:, lane].tolist()


def test_the_control_has_its_queues_apart():
    part = control_component(load_accelerator("edge-8x8-int8"))
    assert f"module {part.top}(" in part.text
    assert {"load_queue", "dispatch", "fetch_unit"} <= set(part.parts)
    for name in part.parts:
        assert f" {name} (" in part.text


@pytest.mark.long
def test_the_control_at_its_gates_is_the_rtl_for_a_whole_window(tmp_path):
    """Needs Verilator and Debian's qflow-tech-osu018. The measurement compares, and refuses what differs."""
    hw = load_accelerator("edge-8x8-int8")
    program = step_program(build("digits-mlp", 4), hw, default_precision(hw), seed=1)
    cells = Cells(OSU018, 180.0, read_liberty(OSU018))
    found = calibrate_control(hw, cells, program, tmp_path / "gates", tmp_path / "models", lambda _: None)
    assert found["cycles"] > 1000
    assert found["commands"] > 100
    assert found["checked_bits"] == found["cycles"] * sum(OUTPUT_BITS)
    assert found["idle_pj"]["value"] < found["busy_pj"]["value"]


#: busy, cycles, dispatched, done, error, its index, fetch, four commands of units, what is seen.
OUTPUT_BITS = (1, 64, 1, 1, 4, 32, 34, 606, 597, 317, 606, 23)
