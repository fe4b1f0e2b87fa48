"""Does scaling between nodes keep its contract: identity, inverse, composition, bounds that part with the distance?"""

from __future__ import annotations

import math
from statistics import median

import pytest

from hwsim.energy import load_energy_table
from hwsim.energy.scaling import PUBLISHED_EXPONENTS, Estimate, scale, stillmaker_energy

NODES = (3, 5, 7, 10, 14, 16, 20, 22, 28, 32, 40, 45, 65, 90, 130, 180, 250)


@pytest.mark.parametrize("node", NODES)
def test_same_node_is_exactly_one(node: float) -> None:
    assert scale(node, node) == Estimate(1.0, 1.0, 1.0)


@pytest.mark.parametrize("start", NODES)
@pytest.mark.parametrize("stop", NODES)
def test_way_back_is_the_inverse(start: float, stop: float) -> None:
    there, back = scale(start, stop), scale(stop, start)
    assert there.value * back.value == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)
    assert there.low <= there.value <= there.high


@pytest.mark.parametrize("start", [45, 180])
def test_smaller_nodes_take_less_and_bounds_part_with_distance(start: float) -> None:
    factors = [scale(start, node) for node in reversed(NODES) if node <= start]
    values, widths = [f.value for f in factors], [f.high / f.low for f in factors]
    assert values == sorted(values, reverse=True)
    assert widths == sorted(widths)
    assert len(set(values)) == len(values)


def test_published_exponents_are_those_of_the_table() -> None:
    table = load_energy_table()
    exponents = []
    for component, action in (("mac_add", "add"), ("mac_mul", "mul")):
        for number_format in ("int8", "int32", "fp16", "fp32"):
            new, old = table.select(component, action, number_format)
            assert (new.node_nm, old.node_nm) == (7, 45)
            exponents.append(math.log(old.value_pj / new.value_pj) / math.log(45 / 7))
    found = (median(exponents), min(exponents), max(exponents))
    assert [round(e, 2) for e in found] == list(PUBLISHED_EXPONENTS)


def test_stillmaker_falls_with_the_node_and_keeps_their_figures_at_nominal_supply() -> None:
    energies = [stillmaker_energy(node) for node in NODES]
    assert energies == sorted(energies)
    # a2·V² + a1·V + a0 by hand: 65 nm at 1.1 V, 7 nm at 0.7 V
    assert stillmaker_energy(65) == pytest.approx(3.755 * 1.21 - 4.398 * 1.1 + 1.975)
    assert stillmaker_energy(7) == pytest.approx(0.1776 * 0.49 - 0.09097 * 0.7 + 0.02447)


def test_sources_of_a_move_are_named() -> None:
    assert ["below 45 nm" in s for s in scale(45, 7).sources] == [True]
    assert ["above 45 nm" in s for s in scale(180, 90).sources] == [True]
    assert len(scale(180, 7).sources) == 2
