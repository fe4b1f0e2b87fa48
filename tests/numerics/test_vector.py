"""Do the vector unit's scalar operations keep the limits of docs/contracts/values.md, section 4?"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hwsim.errors import HwsimError
from hwsim.numerics import reference, vector


def _cases():
    """The module beside this one; pytest's importlib mode leaves test folders off the path."""
    spec = importlib.util.spec_from_file_location("numerics_cases", Path(__file__).with_name("cases.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _cases()
NAN, INF, MINUS, ONE, SIX = 0x7FC00000, 0x7F800000, 1 << 31, 0x3F800000, 0x40C00000
MINUS_INF = MINUS | INF
OPERANDS = [*cases.directed("fp32").tolist()[::7], 0, MINUS, 1, MINUS | 1, INF, MINUS_INF, NAN, 0xFFFFFFFF]


def number(x):
    """Value of an operand, subnormals zero."""
    value = float(cases.floats([x])[0])
    return 0.0 if abs(value) < 2.0**-126 else value


def is_nan(x):
    return x & 0x7FFFFFFF > INF


def test_scale_is_a_product_with_a_power_of_two():
    for exponent in (-300, -127, -126, -1, 0, 1, 100, 127, 128, 254, 300):
        for x in OPERANDS:
            got = vector.scale(x, exponent)
            if -126 <= exponent <= 127:
                assert got == reference.multiply(x, (exponent + 127) << 23)
            elif is_nan(x):
                assert got == NAN
            else:
                with np.errstate(over="ignore"):
                    exact = float(np.ldexp(number(x), exponent)) if abs(number(x)) < np.inf else number(x)
                kept = INF if abs(exact) >= 2.0**128 else 0 if abs(exact) < 2.0**-126 else None
                assert got == (cases.bits_of(np.float32([exact]))[0] if kept is None else x & MINUS | kept)


def test_clamp_and_select_compare_as_numbers():
    for low, high in ((0, INF), (0, SIX), (MINUS | ONE, ONE), (MINUS_INF, 0)):
        lower, upper = number(low), number(high)
        for a in OPERANDS:
            value = number(a)
            if is_nan(a):
                assert vector.clamp(a, low, high) == NAN
            elif value <= lower:
                assert vector.clamp(a, low, high) == low
            elif value >= upper:
                assert vector.clamp(a, low, high) == high
            else:
                assert vector.clamp(a, low, high) == vector.flush(a)
            assert vector.select(a, 0xC0000001, low, high) == (0xC0000001 if lower < value < upper else 0)


def test_select_equal_is_equality_of_numbers():
    for a in OPERANDS[::3]:
        for b in (a, a ^ MINUS, a ^ 1, 0, INF):
            want = 0 if is_nan(a) or is_nan(b) or number(a) != number(b) else ONE
            assert vector.select_equal(a, b, ONE) == want


def test_operands_that_pass_are_read():
    """Subnormals become zeros of their sign, NaNs canonical, wherever an operand is the result."""
    for x, read in ((1, 0), (MINUS | 1, MINUS), (0xFFFFFFFF, NAN), (ONE, ONE)):
        assert vector.flush(x) == read
        assert vector.scale(x, 0) == read
        assert vector.select(ONE, x, 0, INF) == vector.select_equal(ONE, ONE, x) == read
        assert vector.select_label(x, 3, 3) == vector.subtract_label(x, 2, 3) == read
        assert vector.sum_lanes([x]) == vector.maximum_lanes([x]) == read


def test_int32_rounds_to_nearest_even():
    rng = np.random.default_rng(30)
    values = [*rng.integers(-(2**31), 2**31, 500).tolist(), -(2**31), 2**31 - 1, 0, 2**24 + 1, 2**24 + 3, -1]
    assert [vector.from_int32(v) for v in values] == cases.bits_of(np.array(values, np.int64).astype(np.float32))
    assert [vector.from_int32(v % 2**32) for v in values] == [vector.from_int32(v) for v in values]


@pytest.mark.parametrize("lanes", [1, 2, 3, 4, 5, 7, 8, 13])
def test_lanes_are_folded_in_halves(lanes):
    rng = np.random.default_rng(lanes)
    x = cases.random_bits(rng, "fp32", lanes).tolist()
    padded = [*x, *[None] * (16 - lanes)]
    for half in (8, 4, 2, 1):
        for lane in range(half):
            if padded[lane + half] is not None:
                padded[lane] = reference.add(padded[lane], padded[lane + half])
    assert vector.sum_lanes(x) == vector.flush(padded[0])
    finite = [bits for bits in x if not is_nan(bits)] or [0]
    largest = vector.maximum_lanes(finite)
    assert number(largest) == max(map(number, finite))


def test_a_line_without_lanes_is_refused():
    for across in (vector.sum_lanes, vector.maximum_lanes):
        with pytest.raises(HwsimError, match=r"^a line has at least one lane, not 0$"):
            across([])
