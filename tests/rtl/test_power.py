"""Is what is measured at the gates what the gates do, and is its energy the sum that anyone can do by hand?"""

import json
from itertools import product as combinations
from pathlib import Path

import numpy as np
import pytest

from hwsim.energy import load_energy_table, price_list
from hwsim.energy.data_model import load_data_model
from hwsim.energy.operands import STATISTICS, PeShape, Product, operand_bits, operand_statistics
from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim.hardware.formats import FP8_OPERAND
from hwsim.numerics import add, from_format, multiply
from hwsim_rtl.power.activity import LANES, simulate
from hwsim_rtl.power.calibration import OSU018, calibrate, data_model, find_library, table_text
from hwsim_rtl.power.components import lane_component, lane_streams, pe_component, skew_component, small_components
from hwsim_rtl.power.gates import CENTRAL, STEP_NS, Assumptions, Weights, delays_of
from hwsim_rtl.power.liberty import parse_liberty, postfix, read_liberty
from hwsim_rtl.power.model import Point, fit
from hwsim_rtl.power.netlist import Netlist, map_gates
from hwsim_rtl.power.streams import pe_stream
from hwsim_rtl.vector.stages import split

DATA = Path(__file__).parents[2] / "hwsim" / "energy" / "data"
CELLS = Path(__file__).with_name("cells.lib")
TINY = read_liberty(CELLS)
PLAIN = Assumptions(wire_ff=0.0, slew_ns=0.0, neighbour_ff_per_um=0.0, glitches=True)


def netlist(cells, ports, library=TINY):
    """A netlist by hand: cells as (name, type, pins), ports as name: (direction, bits)."""
    module = {
        "ports": {n: {"direction": d, "bits": b} for n, (d, b) in ports.items()},
        "cells": {n: {"type": t, "connections": {p: [b] for p, b in pins.items()}} for n, t, pins in cells},
    }
    return Netlist.of(json.dumps({"modules": {"top": module}}), "top", library)


def bits(*rows):
    """Words of a port: one row per cycle, the same in all streams."""
    return np.repeat(np.array(rows, np.uint64)[:, None], LANES, axis=1)


@pytest.fixture(scope="module")
def gates(tmp_path_factory):
    """Map a PE of an accelerator to the tiny library."""
    cache = tmp_path_factory.mktemp("gates")

    def mapped(hw):
        pe = pe_component(hw)
        return Netlist.of(map_gates(pe.text, pe.top, CELLS, cache), pe.top, TINY, pe.parts)

    return mapped


# Liberty


def test_units_and_tables_are_read():
    inv, dff = TINY.cells["INV"], TINY.cells["DFF"]
    assert (TINY.voltage_v, inv.area_um2, inv.leakage_nw) == pytest.approx((2.0, 10, 500))
    assert inv.pins["A"].capacitance_pf == pytest.approx(0.01)
    (energy,), (delay,) = inv.pins["Y"].energies, inv.pins["Y"].delays
    # rise 1 to 2 and fall 3 to 4 over slews of 0 to 1 ns, in units of (1 V)² · 10 fF = 0.01 pJ
    assert energy.mean(0.0, 0.0) == pytest.approx(0.02)
    assert energy.mean(0.5, 0.07) == pytest.approx(0.025)
    # rise 4 to 14 and fall 6 to 16 over loads of 0 to 0.1 pF, in units of 10 ps
    assert delay.mean(0.3, 0.0) == pytest.approx(0.05)
    assert delay.mean(0.3, 0.05) == pytest.approx(0.10)
    assert delay.mean(0.3, 0.2) == pytest.approx(0.25)  # Liberty goes on in a straight line
    assert (dff.state, dff.next_state, dff.clock) == ("IQ", "D", "CK")
    assert dff.pins["CK"].energies[0].mean(0.5, 0) == pytest.approx(0.025)


def test_postfix_means_what_the_function_says():
    operators = {"!": None, "&": np.logical_and, "|": np.logical_or, "^": np.logical_xor}
    cases = {
        "(!((A B)+(C D)))": lambda a, b, c, d: not ((a and b) or (c and d)),
        "A + B C ^ D": lambda a, b, c, d: a or (b and (c != d)),
        "!A B + (C' + D)'": lambda a, b, c, d: ((not a) and b) or not ((not c) or d),
        "(S A) + (!S B)".replace("S", "C"): lambda a, b, c, d: (c and a) or (not c and b),
        "!(A^B)*(C|D)&1": lambda a, b, c, d: (a == b) and (c or d),
    }
    for function, meaning in cases.items():
        for values in combinations((False, True), repeat=4):
            known, stack = dict(zip("ABCD", values, strict=True)) | {"1": True}, []
            for token in postfix(function):
                if token not in operators:
                    stack.append(known[token])
                elif token == "!":
                    stack.append(not stack.pop())
                else:
                    stack.append(operators[token](stack.pop(), stack.pop()))
            assert stack == [meaning(*values)], (function, values)


@pytest.mark.parametrize("text", ["", "module x;", "library (x) { nom_voltage : 1.8; ", "library (x) { }"])
def test_what_is_no_liberty_is_refused(text):
    with pytest.raises(HwsimError) as error:
        parse_liberty(text, "x.lib")
    assert str(error.value).startswith("x.lib: not a Liberty file that this project reads (")


def test_a_latch_and_an_unknown_cell_are_refused():
    ports = {"e": ("input", [2]), "d": ("input", [3]), "q": ("output", [4])}
    with pytest.raises(HwsimError) as error:
        netlist([("l", "LATCH", {"E": 2, "D": 3, "Q": 4})], ports)
    assert str(error.value) == "cell 'LATCH' cannot be measured: it is a latch"
    with pytest.raises(HwsimError) as error:
        netlist([("l", "MAJ3", {"A": 2, "Y": 4})], ports)
    assert str(error.value) == f"{TINY.name} has no cell 'MAJ3', which Yosys took"


def test_logic_that_depends_on_itself_is_refused():
    cells = [("a", "INV", {"A": 2, "Y": 3}), ("b", "INV", {"A": 3, "Y": 2})]
    with pytest.raises(HwsimError) as error:
        netlist(cells, {"y": ("output", [3])})
    assert str(error.value) == "top: logic depends on itself, at a cell INV"


# What the gates do

CHAIN = (
    [
        ("r", "DFF", {"CK": 2, "D": 3, "Q": 4}),
        ("i", "INV", {"A": 4, "Y": 5}),
        ("n", "NAND2", {"A": 4, "B": 5, "Y": 6}),
    ],
    {"clk": ("input", [2]), "x": ("input", [3]), "y": ("output", [6])},
)


def test_a_hazard_is_seen_with_delays_alone():
    net = netlist(*CHAIN)  # y = !(q & !q): always 1, but for a pulse after q rises
    x = bits(0, 1, 0, 1, 1, 0, 0)  # q follows a cycle later: it rises twice and falls twice
    still = simulate(net, {"x": x}, warm_cycles=1)
    assert (still.cycles, still.steps) == (6, 0)
    changes = {name: int(still.toggles[net.ports[name][0], 5]) for name in ("x", "y")}
    assert changes == {"x": 4, "y": 0}
    delayed = simulate(net, {"x": x}, warm_cycles=1, delays=np.array([3, 2]))
    assert int(delayed.toggles[net.ports["y"][0], 5]) == 4  # down and up again, twice
    assert delayed.outputs["y"].tolist() == still.outputs["y"].tolist() == bits(*[1] * 7).tolist()


def test_a_pulse_shorter_than_the_gate_is_swallowed():
    net = netlist(*CHAIN)
    x = bits(0, 1, 0, 1, 0, 1)
    y = net.ports["y"][0]
    # the inverter's delay is the width of the pulse: the gate behind it passes it if it is as fast
    assert int(simulate(net, {"x": x}, delays=np.array([4, 4])).toggles[y, 0]) > 0
    assert int(simulate(net, {"x": x}, delays=np.array([4, 5])).toggles[y, 0]) == 0


def test_a_number_is_the_word_of_a_port_for_all_cycles():
    wide = [("x", "XOR2", {"A": 2, "B": 70, "Y": 71})]
    ports = {"a": ("input", [2]), "b": ("input", list(range(3, 71))), "y": ("output", [71])}  # b has 68 bits
    for number, expected in ((0, [0, 1]), (1 << 67, [1, 0]), ((1 << 67) - 1, [0, 1])):
        activity = simulate(netlist(wide, ports), {"a": bits(0, 1), "b": number})
        assert activity.outputs["y"][:, 9].tolist() == expected


def test_delays_add_up_along_a_path():
    """Two inverters of two steps are as late as a buffer of four: their xor is still, but not with one of five."""
    cells = [
        ("a", "INV", {"A": 2, "Y": 3}), ("c", "BUF", {"A": 2, "Y": 5}), ("b", "INV", {"A": 3, "Y": 4}),
        ("x", "XOR2", {"A": 4, "B": 5, "Y": 6}),
    ]  # fmt: skip
    net = netlist(cells, {"x": ("input", [2]), "y": ("output", [6])})
    assert [i.cell.name for i, _ in net.outputs] == ["INV", "BUF", "INV", "XOR2"]
    for buffer, pulses in ((4, 0), (5, 3), (3, 3)):
        activity = simulate(net, {"x": bits(0, 1, 0, 1)}, delays=np.array([2, buffer, 2, 1]))
        assert int(activity.toggles[net.ports["y"][0], 0]) == 2 * pulses


def test_delays_are_those_of_the_library():
    net = netlist(*CHAIN)
    # inverter: load of NAND2's B, 0.02 pF: (4 + 2 + 6 + 2) / 2 · 10 ps = 70 ps; NAND2: 80 ps
    assert delays_of(net, PLAIN).tolist() == [round(0.07 / STEP_NS), round(0.08 / STEP_NS)]


def test_energy_is_the_sum_by_hand():
    net = netlist(*CHAIN)
    weights = Weights.of(net, TINY, PLAIN)
    x = bits(0, 0, 1, 1, 0, 0, 1, 1, 0, 0)  # x and q change in every other cycle
    activity = simulate(net, {"x": x}, warm_cycles=2)
    clock, internal, switching = weights.energy_pj(activity)[0, :, 7].tolist()
    half_v2 = 2.0
    assert clock == pytest.approx(2 * half_v2 * 0.02 + 0.01 + 0.02)  # the pin's 0.02 pF up and down; rise, fall
    # per change: of q the register's 6, of the inverter 2; x has the register's D, 2; all in 0.01 pJ. y is still.
    changes_x, changes_q = 4 / 8, 4 / 8
    assert internal == pytest.approx(0.02 * changes_x + 0.06 * changes_q + 0.02 * changes_q)
    # x: D of the register, 0.01 pF; q: inverter 0.01 and A of NAND2 0.01; the inverter's: B of NAND2, 0.02
    assert switching == pytest.approx(half_v2 * (0.01 * changes_x + 0.02 * changes_q + 0.02 * changes_q))


def test_wires_count_by_pin_and_to_the_neighbour_at_the_output():
    cells = [("r", "DFF", {"CK": 2, "D": 3, "Q": 4})]
    net = netlist(cells, {"clk": ("input", [2]), "x": ("input", [3]), "y": ("output", [4])})
    x = bits(*[0, 1] * 8)
    activity = simulate(net, {"x": x}, warm_cycles=2)
    assumed = Assumptions(wire_ff=30.0, slew_ns=0.0, neighbour_ff_per_um=10.0, glitches=False)
    alone = Weights.of(net, TINY, assumed).energy_pj(activity)[0, 2, 0]
    chained = Weights.of(net, TINY, assumed, (), {"x": "y"}).energy_pj(activity)[0, 2, 0]
    assert alone == pytest.approx(2.0 * (0.01 + 0.03))  # x alone: the pin and its wire
    assert chained == pytest.approx(2.0 * (0.01 + 0.03 + 10 * 60**0.5 * 1e-3))  # y alone: they and the way there


# A PE at its gates is the PE


def words_of_pe(rng, width, cycles):
    load = np.zeros((cycles, LANES), np.uint64)
    load[0] = 1
    return {
        "moving": rng.integers(0, 1 << width, (cycles, LANES), dtype=np.uint64),
        "stationary": rng.integers(0, 1 << width, (cycles, LANES), dtype=np.uint64),
        "sum_north": rng.integers(0, 1 << 32, (cycles, LANES), dtype=np.uint64),
        "active": np.ones((cycles, LANES), np.uint64),
        "load": load,
    }


@pytest.mark.parametrize("delayed", [False, True])
def test_the_int8_pe_multiplies_and_adds(gates, delayed):
    net = gates(load_accelerator("edge-8x8-int8"))
    words = words_of_pe(np.random.default_rng(1), 8, 40)
    delays = delays_of(net, CENTRAL) if delayed else None
    south = simulate(net, words, delays=delays).outputs["sum_south"].astype(np.uint32).view(np.int32)
    a, b = (words[name].astype(np.uint8).view(np.int8).astype(np.int32) for name in ("moving", "stationary"))
    north = words["sum_north"].astype(np.uint32).view(np.int32)
    # μ = α = 1; outputs are those at the end of a cycle, before the next edge
    expected = north[2:-1] + a[1:-2] * b[0]
    assert (south[3:] == expected).all()


def test_the_bf16_pe_rounds_as_the_numerics_say(gates):
    net = gates(load_accelerator("edge-8x8-bf16"))
    rng = np.random.default_rng(2)
    words = words_of_pe(rng, 16, 40)
    south = simulate(net, words).outputs["sum_south"].astype(np.uint32)
    a, b = (from_format(words[name].astype(np.uint16), "bf16") for name in ("moving", "stationary"))
    north = np.ascontiguousarray(words["sum_north"].astype(np.uint32)).view(np.float32)
    products = multiply(np.ascontiguousarray(a[1:-8]), np.ascontiguousarray(np.broadcast_to(b[0], a[1:-8].shape)))
    expected = add(np.ascontiguousarray(north[3:-6]), products).view(np.uint32)
    assert (south[9:] == expected).all()


def test_parts_share_the_pe_out(gates):
    net = gates(load_accelerator("edge-8x8-int8"))
    pe = pe_component(load_accelerator("edge-8x8-int8"))
    weights = Weights.of(net, TINY, CENTRAL, pe.parts, pe.feeds)
    words = words_of_pe(np.random.default_rng(3), 8, 40)
    energies = weights.energy_pj(simulate(net, words, warm_cycles=4)).mean(axis=-1)
    assert weights.parts == ("", "multiplier", "adder")
    assert (energies[1:, 1:] > 0).all()
    # 76 registers: 32 of the sum, 8 moving, 16 stationary and 4 others are the PE's own, 16 the multiplier's
    one = energies[:, 0].sum() / 76
    assert energies[:, 0] == pytest.approx([60 * one, 16 * one, 0])


# Streams


@pytest.mark.parametrize("name", ["edge-8x8-int8", "edge-8x8-bf16"])
def test_the_last_pe_of_a_column_gives_the_product(gates, name):
    """With one summand more than none above it, what leaves a PE on its stream is a row of the product."""
    hw = load_accelerator(name)
    rng = np.random.default_rng(4)
    a, b = rng.integers(-9, 10, (12, 2)).astype(np.float32), rng.integers(-9, 10, (2, 3)).astype(np.float32)
    shape = PeShape(hw.array.operand_format, 8, 8, hw.array.multiply_latency_cycles)
    stream = pe_stream(Product("p", "forward", a, b), shape, rng, 40)
    south = simulate(gates(hw), stream.words).outputs["sum_south"].astype(np.uint32)
    sums = south.view(np.int32 if name.endswith("int8") else np.float32).astype(np.float64)
    whole, first = (a @ b).T, (a[:, :1] @ b[:1]).T
    latency = hw.array.multiply_latency_cycles + hw.array.add_latency_cycles
    begin = stream.warm_cycles - 1 + latency
    rows_seen = set()
    for lane in range(LANES):
        seen = sums[begin : begin + 12, lane].tolist()
        rows = [1 for c in range(3) if seen == whole[c].tolist()] + [0 for c in range(3) if seen == first[c].tolist()]
        assert rows, lane
        rows_seen |= set(rows)
    assert rows_seen == {0, 1}


def test_statistics_count_changed_bits_and_zeros():
    a = np.array([[1], [0], [3], [0]], np.float32)
    shape = PeShape("int8", 1, 1, 0)
    stream = pe_stream(Product("p", "made", a, np.array([[1.0]], np.float32)), shape, np.random.default_rng(1), 8)
    found = dict(zip(STATISTICS, stream.statistics[0].tolist(), strict=True))
    assert found["moving_toggles"] == found["product_toggles"] == pytest.approx((1 + 2 + 2 + 1) / 4)
    assert (found["zeros"], found["sum_toggles"]) == (0.5, 0)


def test_fp8_operands_of_either_format_fit_into_nine_bits():
    for name in ("fp8_e4m3", "fp8_e5m2"):
        values = from_format(np.arange(256).astype(np.uint8), name)
        finite = values[np.isfinite(values)]
        words = operand_bits(finite, FP8_OPERAND).astype(np.int64)
        sign, field, fraction = words >> 8, words >> 3 & 31, words & 7
        magnitude = np.where(field == 0, fraction * 2.0**-17, (8 + fraction) * 2.0 ** (field - 15.0 - 3))
        assert (np.where(sign, -magnitude, magnitude) == finite).all()


# The table


def without_multiplier(hw):
    """The lane's fp32 multiplier is large, and no other unit than its adder."""
    return {key: unit for key, unit in small_components(hw).items() if key[0] == "mac_add"}


def small(hw, cache, **options):
    rng = np.random.default_rng(5)
    recorded = [
        Product(f"net {phase}", phase, *(rng.integers(-9, 10, (20, 20)).astype(np.float32) for _ in range(2)))
        for phase in ("forward", "dgrad", "wgrad")
    ]
    held_out = [Product("other forward", "forward", recorded[0].b, recorded[1].a)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hwsim_rtl.power.gates.STEP_NS", 1.0)  # every gate takes one step: sooner done
        patch.setattr("hwsim_rtl.power.calibration.small_components", without_multiplier)
        patch.setattr("hwsim_rtl.power.calibration.lane_component", lambda _: skew_component())
        return calibrate(hw, find_library(str(CELLS), 65), recorded, held_out, cache, cycles=8, **options)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A summary, and the table that it gives, as a file."""
    folder = tmp_path_factory.mktemp("calibrated")
    summary = small(load_accelerator("edge-8x8-int8"), folder / "cache")
    (folder / "own.csv").write_text(table_text(summary), "utf-8")
    return summary, folder


def test_the_same_again_is_the_same(calibrated):
    summary, folder = calibrated
    assert small(load_accelerator("edge-8x8-int8"), folder / "cache") == summary


def test_rows_load_and_add_up(calibrated):
    summary, folder = calibrated
    rows = {(r.component, r.action, r.format_or_size): r for r in load_energy_table(folder / "own.csv").rows}
    keys = [
        ("mac_mul", "mul", "int8"), ("mac_add", "add", "int32"), ("array", "hop_byte", "register"),
        ("array", "pe_active", "int8"), ("array", "pe_idle", "int8"), ("mac_add", "add", "fp32"),
    ]  # fmt: skip
    assert [key for key in rows if rows[key].node_nm == 65] == keys
    assert all(rows[key].low_pj < rows[key].value_pj < rows[key].high_pj for key in keys)
    mul, add_, hop, active, idle = (rows[key].value_pj for key in keys[:5])
    assert mul + add_ + 5 * hop == pytest.approx(active, rel=1e-3)
    assert idle < active
    # the mean of the phases, of which forward has two products with as many MACs
    of = {s["stream"]: s["value_pj"] for s in summary["components"]["PE"]["streams"]}
    forward = (of["net forward"] + of["other forward"]) / 2
    assert active == pytest.approx((forward + of["net dgrad"] + of["net wgrad"]) / 3, rel=1e-3)


def test_bounds_hold_every_phase_and_random_data(calibrated):
    summary, _ = calibrated
    (row,) = (r for r in summary["rows"] if r["action"] == "pe_active")
    streams = [s for s in summary["components"]["PE"]["streams"] if s["phase"] != "made" or s["stream"] == "random"]
    assert float(row["low_pj"]) <= min(s["low_pj"] for s in streams if s["phase"] != "forward") * 1.001
    assert float(row["high_pj"]) == pytest.approx(max(s["high_pj"] for s in streams), rel=1e-3)


def test_an_own_table_decides_alone(calibrated):
    summary, folder = calibrated
    hw = load_accelerator("edge-8x8-int8").model_copy(update={"node_nm": 65.0})
    mul, add_ = (float(r["value_pj"]) for r in summary["rows"][:2])
    assert price_list(hw, load_energy_table(folder / "own.csv"))["array.macs"].value_pj == pytest.approx(mul + add_)


def test_the_file_predicts_what_the_power_simulation_reports(calibrated, tmp_path):
    """At a stream's statistics: the stream's energy and the error that was reported for it."""
    summary, _ = calibrated
    found = data_model({**summary, "steps": 3, "precision": "int8"})
    (tmp_path / "m.json").write_text(found.model_dump_json(by_alias=True), "utf-8")
    assert load_data_model(tmp_path / "m.json") == found
    streams = {s["stream"]: s for s in summary["components"]["PE"]["streams"]}
    errors = {**summary["model"]["fitted_error"]["streams"], **summary["model"]["held_out_error"]["streams"]}
    assert set(errors) == set(streams) - {"idle"}
    for name, error in errors.items():
        cycle = found.cycle_pj(np.array([streams[name]["statistics"][term] for term in STATISTICS]))
        assert cycle.value == pytest.approx(streams[name]["value_pj"] * (1 + error), rel=1e-3)
    held_out = streams["other forward"]
    cycle = found.cycle_pj(np.array([held_out["statistics"][term] for term in STATISTICS]))
    assert cycle.low <= held_out["low_pj"] * 1.001
    assert cycle.high >= held_out["high_pj"] * 0.999
    idle = found.idle_pj
    assert (idle.value, idle.low, idle.high) == tuple(streams["idle"][f"{b}_pj"] for b in ("value", "low", "high"))
    assert found.library.node_nm == 65


@pytest.mark.long
def test_the_committed_model_holds_on_products_that_it_never_saw(tmp_path):
    """Operands as after a ReLU, of other sizes than the digits', at the gates of the OSU cells."""
    hw, model = load_accelerator("edge-8x8-int8"), load_data_model(DATA / "data-model-180nm-int8.json")
    pe, library = pe_component(hw), find_library(None, None).library
    net = Netlist.of(map_gates(pe.text, pe.top, OSU018, tmp_path), pe.top, library, pe.parts)
    weights, rng = Weights.of(net, library, CENTRAL, pe.parts, pe.feeds), np.random.default_rng(11)
    for spread in (10, 40):
        a = np.maximum(np.round(rng.normal(0, spread, (90, 40))), 0).astype(np.float32)
        product = Product("p", "forward", a, np.round(rng.normal(0, 20, (40, 24))).astype(np.float32))
        stream = pe_stream(product, PeShape.of(hw), rng)
        delays = delays_of(net, CENTRAL)
        activity = simulate(net, stream.words, warm_cycles=stream.warm_cycles, delays=delays)
        measured = weights.energy_pj(activity).sum(axis=(0, 1)).mean()
        assert model.cycle_pj(stream.statistics.mean(axis=0)).value == pytest.approx(measured, rel=0.10)
        sampled = operand_statistics(product, PeShape.of(hw), rng)
        assert model.cycle_pj(sampled).value == pytest.approx(measured, rel=0.10)


def test_the_model_finds_what_made_the_energies():
    rng = np.random.default_rng(6)
    points = []
    for name in ("a", "b"):
        statistics = rng.random((LANES, len(STATISTICS)))
        points.append(Point(name, "made", statistics, {"value": 2 + statistics @ np.array([1, 2, 3, 4, 5.0])}))
    model = fit(points[:1])
    assert model.coefficients == pytest.approx([2, 1, 2, 3, 4, 5])
    assert model.errors(points)["b"] == pytest.approx((0, 0))
    off = Point("off", "made", points[0].statistics, {"value": points[0].energy_pj / 1.1})
    assert model.errors([off])["off"] == pytest.approx((0.1, 0.1))


@pytest.mark.long
def test_the_lane_at_its_gates_multiplies_and_adds(tmp_path):
    hw = load_accelerator("edge-8x8-bf16")
    lane, library = lane_component(hw), find_library(None, None).library
    net = Netlist.of(map_gates(lane.text, lane.top, OSU018, tmp_path), lane.top, library)
    streams = {s.name: s for s in lane_streams(np.random.default_rng(8), 16)}
    latency = sum(split(hw)[1:])
    for name, stream in streams.items():
        z = simulate(net, stream.words).outputs["z"].astype(np.uint32)
        a, b, c = (
            np.ascontiguousarray(stream.words.get(n, stream.words["a"]).astype(np.uint32)).view(np.float32)
            for n in "abc"
        )
        expected = {"idle": a, "add": add(a, b), "multiply": multiply(a, b), "multiply-add": add(multiply(a, b), c)}
        assert (z[latency:] == expected[name].view(np.uint32)[:-latency]).all(), name


def test_no_output_stationary_pe():
    hw = load_accelerator("edge-8x8-int8").with_dataflow("os")
    with pytest.raises(HwsimError) as error:
        pe_component(hw)
    assert str(error.value) == (
        "edge-8x8-int8: the PE of a weight- or input-stationary array can be measured, not that of an "
        "output-stationary one; take --dataflow ws or is"
    )


def test_without_the_package_the_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("hwsim_rtl.power.calibration.OSU018", tmp_path / "osu.lib")
    with pytest.raises(HwsimError) as error:
        find_library(None, None)
    assert str(error.value) == (
        f"there is no cell library: {tmp_path / 'osu.lib'} is missing; on Debian or Ubuntu: sudo apt install "
        "qflow-tech-osu018; or name a Liberty file with --liberty FILE --node NM"
    )
    with pytest.raises(HwsimError) as error:
        find_library(str(CELLS), None)
    assert str(error.value) == (
        "--liberty needs --node NM: a Liberty file does not say its node, and energies scale with it"
    )
