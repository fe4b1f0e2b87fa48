"""Do numbers for people keep their digits, their units and their sums?"""

from __future__ import annotations

import pytest

from hwsim.report.units import binary, column, quantity, scale


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "J", "0 J"),
        (1, "J", "1 J"),
        (999, "cycles", "999 cycles"),
        (1000, "cycles", "1.000 k cycles"),
        (0.9999, "s", "999.9 ms"),
        (0.99996, "s", "1.000 s"),
        (1.5e-15, "J", "0.001500 pJ"),
        (2e18, "B", "2,000 PB"),
    ],
)
def test_quantity_has_four_digits(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.000 KiB"), (1024**2 - 1, "1.000 MiB"), (5 * 1024**3, "5.000 GiB")],
)
def test_binary_changes_unit_at_1024(size: int, text: str) -> None:
    assert binary(size) == text


def test_columns_have_one_unit_and_show_what_is_not_zero() -> None:
    assert column([12.5e6, 1_000, 0], "cycles") == ("M cycles", ["12.50", "<0.01", "0"])
    assert column([7, 250, 0], "cycles") == ("cycles", ["7", "250", "0"])
    assert column([], "J")[1] == []


def test_scale_brings_the_largest_below_a_thousand() -> None:
    for exponent in range(-11, 15):
        factor, _ = scale(3 * 10.0**exponent, "J")
        assert 1 <= 3 * 10.0**exponent * factor * 1.0001 <= 1000
