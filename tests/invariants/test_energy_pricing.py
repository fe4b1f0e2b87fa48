"""On random counts: is energy the sum of counts × prices, linear, low ≤ value ≤ high, and are its drivers in order?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hwsim.energy import ACTIONS, drivers, energy, price_list
from hwsim.energy.rules import operation_energy
from hwsim.energy.table import load_energy_table
from hwsim.hardware import load_accelerator, preset_names

counts_of_actions = st.lists(st.integers(0, 2**40), min_size=len(ACTIONS), max_size=len(ACTIONS)).map(
    lambda c: np.array(c, dtype=np.float64)
)
presets = st.sampled_from(preset_names())


@given(counts_of_actions, presets)
def test_energy_is_the_sum_of_counts_times_prices(counts: NDArray[np.float64], preset: str) -> None:
    prices = price_list(load_accelerator(preset))
    totals = energy(counts, prices).sum(axis=-1)
    by_hand = [0.0, 0.0, 0.0]
    for count, priced in zip(counts, prices.actions, strict=True):
        by_hand[0] += count * priced.value_pj
        by_hand[1] += count * priced.low_pj
        by_hand[2] += count * priced.high_pj
    assert totals.tolist() == pytest.approx(by_hand)
    assert totals[1] <= totals[0] <= totals[2]


@given(st.lists(counts_of_actions, min_size=1, max_size=4), presets)
def test_energy_of_many_ops_is_that_of_each(ops: list[NDArray[np.float64]], preset: str) -> None:
    prices = price_list(load_accelerator(preset))
    together = energy(np.stack(ops), prices)
    assert together.shape == (len(ops), 3, len(ACTIONS))
    for one, op in zip(together, ops, strict=True):
        assert (one == energy(op, prices)).all()


@given(counts_of_actions, presets, st.integers(0, 20))
def test_interval_scales_with_the_counts(counts: NDArray[np.float64], preset: str, doublings: int) -> None:
    prices = price_list(load_accelerator(preset))
    assert (energy(counts * 2**doublings, prices) == energy(counts, prices) * 2**doublings).all()


@given(counts_of_actions, presets, st.integers(0, len(ACTIONS)))
def test_drivers_are_sorted_and_share_at_most_the_whole(counts: NDArray[np.float64], preset: str, n: int) -> None:
    matrix = energy(counts, price_list(load_accelerator(preset)))
    found = drivers(matrix, n)
    widths = [driver.width_pj for driver in found]
    assert len(found) <= n
    assert widths == sorted(widths, reverse=True)
    assert sum(driver.share for driver in found) <= 1 + 1e-9
    assert all(driver.reason for driver in found)
    if n == len(ACTIONS) and found:
        assert sum(driver.share for driver in found) == pytest.approx(1)


@given(counts_of_actions, presets, st.floats(0, 1))
def test_gating_never_costs_energy(counts: NDArray[np.float64], preset: str, share: float) -> None:
    prices = price_list(load_accelerator(preset))
    macs, gated = ACTIONS.index("array.macs"), ACTIONS.index("array.gated_macs")
    moved = np.floor(counts[macs] * share)
    zeros = counts.copy()
    zeros[macs] -= moved
    zeros[gated] += moved
    assert (energy(zeros, prices).sum(axis=-1) <= energy(counts, prices).sum(axis=-1) * (1 + 1e-12)).all()


@given(st.floats(3, 250), st.sampled_from(("int8", "bf16", "fp8_e4m3", "fp8_e5m2", "fp16", "fp32")))
def test_operations_are_ordered_intervals_at_any_node(node_nm: float, number_format: str) -> None:
    found = operation_energy(load_energy_table(), "mac_mul", "mul", number_format, node_nm)
    assert 0 < found.low <= found.value <= found.high
    assert found.sources
