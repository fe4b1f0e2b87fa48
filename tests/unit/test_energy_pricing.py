"""Are the prices those of the sources where there is one, plausible elsewhere, and refused where there is none?"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from hwsim.energy import ACTIONS, EnergyTable, PriceList, drivers, energy, load_energy_table, price_list, pricing
from hwsim.energy.rules import RULES
from hwsim.energy.sram import leakage_pj_per_byte_ns, read_pj_per_byte, sram_fit, write_to_read_ratio
from hwsim.energy.table import COLUMNS
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, load_accelerator, preset_names

FORMATS = ("int8", "fp8_e4m3", "fp8_e5m2", "bf16", "fp16", "fp32")


def variant(
    name: str = "edge-32x32-bf16", *, node_nm: float | None = None, clock_mhz: float | None = None, **parts: object
) -> Accelerator:
    """The preset with changed fields; parts as dictionaries."""
    data = load_accelerator(name).model_dump()
    for part, fields in parts.items():
        data[part] |= fields
    if node_nm is not None:
        data["node_nm"] = node_nm
    if clock_mhz is not None:
        data["clock_mhz"] = clock_mhz
    return Accelerator.model_validate(data)


def test_int8_mac_at_45_nm_is_horowitz() -> None:
    mac = price_list(variant("edge-8x8-int8", node_nm=45))["array.macs"]
    assert mac.value_pj == pytest.approx(0.2 + 0.1)
    assert mac.low_pj < 0.3 < mac.high_pj
    assert len(mac.sources) == 1
    assert mac.sources[0].startswith("[B] Horowitz")


def test_bf16_mac_at_7_nm_is_jouppi() -> None:
    mac = price_list(variant(node_nm=7))["array.macs"]
    assert mac.value_pj == pytest.approx(0.21 + 0.38)
    assert mac.low_pj < 0.59 < mac.high_pj


def test_edge_part_is_plausible() -> None:
    prices = price_list(load_accelerator("edge-32x32-bf16"))
    assert 0.8 <= prices["array.macs"].value_pj <= 1.3
    assert 1 <= prices["scratchpad.read_bytes"].value_pj <= 3
    assert 45 <= prices["dram.read_bytes"].value_pj <= 52
    leakage = prices["leakage.cycles"]
    watts = 500e6 * 1e-12 * np.array([leakage.value_pj, leakage.low_pj, leakage.high_pj])
    assert 0.02 < watts[0] < 0.2
    assert 0.001 < watts[1] < 0.02
    assert 0.3 < watts[2] < 2


@pytest.mark.parametrize("name", preset_names())
def test_dram_costs_more_than_sram_and_sram_more_than_a_byte_of_mac(name: str) -> None:
    hw = load_accelerator(name)
    prices = price_list(hw)
    sram, mac = prices["scratchpad.read_bytes"].value_pj, prices["array.macs"].value_pj
    assert prices["dram.read_bytes"].value_pj > 5 * sram
    assert prices["dram.read_bytes"].low_pj > prices["array.macs"].high_pj
    assert sram * hw.operand_bytes > mac


@pytest.mark.parametrize("name", preset_names())
def test_every_action_has_a_price_an_interval_and_sources(name: str) -> None:
    prices = price_list(load_accelerator(name))
    assert tuple(a.action for a in prices.actions) == ACTIONS
    for a in prices.actions:
        assert 0 <= a.low_pj <= a.value_pj < a.high_pj
        assert a.value_pj > 0
        assert a.derivation
        assert a.sources
        assert all(s[:4] in ("[A] ", "[B] ", "[C] ") for s in a.sources)


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("node", [3, 7, 22, 45, 65, 180, 250])
def test_every_format_has_a_price_at_every_node(number_format: str, node: float) -> None:
    hw = variant(node_nm=node, array={"operand_format": number_format})
    assert (price_list(hw).matrix[0] > 0).all()


def test_wider_formats_cost_more() -> None:
    for node in (7, 22, 45):
        macs = {
            f: price_list(variant(node_nm=node, array={"operand_format": f}))["array.macs"].value_pj for f in FORMATS
        }
        assert sorted(macs, key=macs.__getitem__) == ["int8", "fp8_e5m2", "fp8_e4m3", "bf16", "fp16", "fp32"]


def test_prices_fall_with_the_node_and_dram_stays() -> None:
    nodes = sorted({3, 5, 7, 8, 10, 14, 16, 18, 20, 22, 28, 32, 40, 44, 45, 46, 65, 90, 130, 180, 250})
    values = np.array([price_list(variant(node_nm=n)).matrix[0] for n in nodes])
    steps = np.diff(values, axis=0)
    off_chip = [a.startswith("dram.") or a == "control.fetch_bytes" for a in ACTIONS]
    assert (steps[:, off_chip] == 0).all()
    assert (steps[:, np.logical_not(off_chip)] > 0).all()


def test_sram_prices_rise_with_capacity() -> None:
    def of(capacity_bytes: int) -> tuple[float, ...]:
        prices = price_list(
            variant(scratchpad={"capacity_bytes": capacity_bytes}, accumulator={"capacity_bytes": capacity_bytes})
        )
        return tuple(prices[a].value_pj for a in ("scratchpad.read_bytes", "accumulator.write_bytes", "leakage.cycles"))

    sizes = np.array([of(2**n) for n in range(16, 27)])
    assert (np.diff(sizes, axis=0) > 0).all()


def test_time_costs_background_and_leakage_only() -> None:
    fast, slow = price_list(variant(clock_mhz=150)).matrix[0], price_list(variant(clock_mhz=75)).matrix[0]
    changed = {ACTIONS[i] for i in np.flatnonzero(fast != slow)}
    assert changed == {"dram.background_cycles", "leakage.cycles"}
    index = ACTIONS.index("dram.background_cycles")
    assert slow[index] == pytest.approx(2 * fast[index])  # one x16 channel (4.8 GB/s) serves both


def test_every_sram_row_lies_in_the_fit() -> None:
    table = load_energy_table()
    for row in table.sram("read_"):
        found = read_pj_per_byte(table, row.size_bytes, row.node_nm)
        assert found.low * 0.999 <= row.value_pj / row.width_bits * 8 <= found.high * 1.001
    for row in table.sram("leakage_"):
        found = leakage_pj_per_byte_ns(table, row.node_nm)
        assert found.low * 0.999 <= row.low_pj / row.size_bytes
        assert row.high_pj / row.size_bytes <= found.high * 1.001


def test_sram_interval_widens_beyond_the_fitted_sizes() -> None:
    table = load_energy_table()
    inside, outside = read_pj_per_byte(table, 2**20, 45), read_pj_per_byte(table, 2**24, 45)
    assert outside.high / outside.low == pytest.approx(inside.high / inside.low * 16 ** (2 * 0.25))


def test_write_ratio_is_between_the_two_cacti_rows() -> None:
    ratio = write_to_read_ratio(load_energy_table())
    assert [ratio.low, ratio.high] == pytest.approx([33.4 / 38.4, 3.98 / 2.67])
    assert ratio.low < ratio.value < ratio.high


def test_idle_pe_is_the_measured_share_and_may_be_gated() -> None:
    prices = price_list(load_accelerator("gemmini-16x16-int8"))
    active = prices["array.macs"].value_pj + 5 * prices["array.hop_bytes"].value_pj
    assert prices["array.idle_pe_cycles"].value_pj == pytest.approx(12.2 / 67.9 * active)
    assert prices["array.idle_pe_cycles"].low_pj == 0


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("name", preset_names())
def test_gated_mac_with_its_hops_costs_between_an_idle_cycle_and_a_mac(name: str, number_format: str) -> None:
    hw = load_accelerator(name).with_format(number_format)
    prices = price_list(hw)
    columns = (ACTIONS.index(f"array.{what}") for what in ("macs", "gated_macs", "hop_bytes", "idle_pe_cycles"))
    mac, gated, hop, idle = (prices.matrix[:, i] for i in columns)
    hops = (hw.operand_bytes + 4) * hop
    assert (idle <= gated + hops).all()
    assert (gated < mac).all()
    # What the idle cycle has more is the clock of the hops' registers, which their bytes have in their price.
    assert idle[0] - gated[0] == pytest.approx(idle[0] * hops[0] / (mac[0] + hops[0]))
    assert gated[1] == 0


def test_own_row_at_the_node_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(
        f"{','.join(COLUMNS)}\nmac_mul,mul,bf16,22,0.4,0.4,0.4,measured,A\nmac_add,add,fp32,22,0.5,0.5,0.5,measured,A\n"
    )
    mac = price_list(load_accelerator("edge-32x32-bf16"), load_energy_table(path))["array.macs"]
    assert (mac.value_pj, mac.low_pj, mac.high_pj, mac.sources) == (0.9, 0.9, 0.9, ("[A] measured",))


def test_idle_share_is_that_of_the_format_if_it_was_measured(tmp_path: Path) -> None:
    hw = load_accelerator("edge-8x8-bf16").with_format("fp8_e4m3")
    path = tmp_path / "own.csv"
    rows = "array,pe_active,fp8_e4m3,180,100,100,100,measured,A\narray,pe_idle,fp8_e4m3,180,50,50,50,measured,A\n"
    path.write_text(f"{','.join(COLUMNS)}\n{rows}")
    for table, share in ((None, 16.2 / 116.2), (load_energy_table(path), 0.5)):
        prices = price_list(hw, table)
        assert prices["array.gated_macs"].value_pj == pytest.approx(share * prices["array.macs"].value_pj)


def test_action_without_a_rule_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricing, "ACTIONS", (*ACTIONS, "optics.photons"))
    with pytest.raises(HwsimError) as error:
        price_list(variant(node_nm=21.5))
    assert str(error.value) == (
        "no energy rule for action 'optics.photons'; nothing is free: add a rule in hwsim/energy/rules.py"
    )
    assert set(RULES) == set(ACTIONS)


def without(component: str, action: str) -> EnergyTable:
    rows = load_energy_table().rows
    return EnergyTable(
        "t.csv", tuple(r for r in rows if not (r.component == component and r.action.startswith(action)))
    )


@pytest.mark.parametrize(
    ("component", "action", "message"),
    [
        ("mac_mul", "mul", "t.csv has no row for mac_mul 'mul' of 'bf16'; add one, nothing is free"),
        (
            "dram",
            "background",
            "t.csv has no row for dram 'background_ns' of 'LPDDR4-2400'; add one, nothing is free",
        ),
        ("sram", "read", "t.csv must have sram rows 'read_…' of two nodes and two sizes to fit, not 0"),
        ("sram", "leakage", "t.csv must have sram rows 'leakage_…' of two nodes to fit, not 0"),
        ("sram", "write", "t.csv has no sram row 'write_<bits>b' beside a read of its size, width and node"),
    ],
)
def test_table_without_rows_is_refused(component: str, action: str, message: str) -> None:
    with pytest.raises(HwsimError) as error:
        price_list(load_accelerator("edge-32x32-bf16"), without(component, action))
    assert str(error.value) == message


def test_sram_rows_that_fall_with_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f"{','.join(COLUMNS)}\nsram,read_64b,1024MB,45,0.001,0.001,0.001,typing error,A\n")
    with pytest.raises(HwsimError) as error:
        sram_fit(load_energy_table(path), "read_")
    assert str(error.value).startswith(f"{path}: the fit through sram rows 'read_…' must rise with size and node, but")


def test_unknown_action_is_refused() -> None:
    prices = price_list(load_accelerator("edge-8x8-int8"))
    with pytest.raises(HwsimError) as error:
        prices["array.mac"]
    assert str(error.value) == f"unknown action 'array.mac'; choose one of {', '.join(ACTIONS)}"


def test_counts_of_another_length_are_refused() -> None:
    prices = price_list(load_accelerator("edge-8x8-int8"))
    with pytest.raises(HwsimError) as error:
        energy(np.ones((2, 3)), prices)
    assert str(error.value) == f"action counts must end in an axis of {len(ACTIONS)} actions, not have shape (2, 3)"


def test_matrix_is_read_only_and_lists_are_cached() -> None:
    prices = price_list(load_accelerator("edge-8x8-int8"))
    assert price_list(load_accelerator("edge-8x8-int8")) is prices
    assert price_list(load_accelerator("edge-8x8-int8"), load_energy_table()) is prices
    assert prices.matrix.shape == (3, len(ACTIONS))
    with pytest.raises(ValueError, match="read-only"):
        prices.matrix[0, 0] = 0


def test_pricing_a_new_accelerator_takes_less_than_2_ms() -> None:
    price_list(variant(node_nm=23))
    accelerators = [variant(node_nm=23 + i / 16) for i in range(1, 9)]
    times = []
    for hw in accelerators:
        start = time.process_time()
        price_list(hw)
        times.append(time.process_time() - start)
    assert min(times) < 2e-3


def test_describe_has_a_line_per_action() -> None:
    prices: PriceList = price_list(load_accelerator("edge-32x32-bf16"))
    lines = prices.describe().splitlines()
    assert [line.split()[0] for line in lines] == ["action", *ACTIONS]
    assert {line[:54].split()[-1] for line in lines[1:]} == {f"{a.high_pj:.3g}" for a in prices.actions}
    assert [line[62:] for line in lines[1:]] == [a.derivation for a in prices.actions]


def test_drivers_leave_out_actions_without_width() -> None:
    matrix = np.zeros((3, len(ACTIONS)))
    assert drivers(matrix) == ()
    matrix[2, 3] = 4.0
    (only,) = drivers(matrix)
    assert (only.action, only.width_pj, only.share) == (ACTIONS[3], 4.0, 1.0)
    assert only.reason == RULES[ACTIONS[3]].uncertain
