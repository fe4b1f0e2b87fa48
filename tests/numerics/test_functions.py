"""Are exp, log, 1/x and 1/√x the contract's, bit for bit, and within its bounds?"""

import decimal
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hwsim import numerics
from hwsim.numerics import functions


def _cases():
    """The module beside this one; pytest's importlib mode leaves test folders off the path."""
    spec = importlib.util.spec_from_file_location("numerics_cases", Path(__file__).with_name("cases.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _cases()
EXACT = {
    "exp": np.exp,
    "log": np.log,
    "reciprocal": lambda x: 1 / x,
    "reciprocal_root": lambda x: 1 / np.sqrt(x),
}
BOUND_ULP = {"exp": 1.05, "log": 1.6, "reciprocal": 1.25, "reciprocal_root": 1.02}
decimal.getcontext().prec = 50
JUDGE = {
    "exp": lambda x: x.exp(),
    "log": lambda x: x.ln(),
    "reciprocal": lambda x: 1 / x,
    "reciprocal_root": lambda x: 1 / x.sqrt(),
}


def binade(exponent, sign=0):
    return cases.floats(np.arange(1 << 23) | (exponent + 127) << 23 | sign << 31)


def error_ulp(name, x, spacing=np.spacing):
    """Largest error [ulp of the exact result] where that is normal and finite. float64 adds 2^-28 ulp."""
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64))
        ulp = np.exp2(np.floor(np.log2(np.abs(exact))) - 23)
        valid = (np.abs(exact) >= 2.0**-126) & (np.abs(exact) < (2 - 2.0**-24) * 2.0**127)
        got = getattr(numerics, name)(x).astype(np.float64)
        return float(np.max(np.abs(got - exact)[valid] / ulp[valid], initial=0.0))


def operands(name, rng, size):
    bits = [cases.directed("fp32"), rng.integers(0, 1 << 32, size)]
    near = {"exp": (-90, 90), "log": (0.4, 2.1), "reciprocal": (-4, 4), "reciprocal_root": (0, 4)}[name]
    bits.append(rng.uniform(*near, size).astype(np.float32).view(np.uint32).astype(np.int64))
    return np.concatenate(bits)


@pytest.mark.parametrize("name", EXACT)
def test_kernel_is_the_reference(name):
    x = operands(name, np.random.default_rng(10), 15_000)
    scalar = getattr(functions, name)
    cases.same(cases.bits_of(getattr(numerics, name)(cases.floats(x))), [scalar(b) for b in x.tolist()])


@pytest.mark.parametrize("name", EXACT)
def test_special_operands(name):
    x = cases.floats(np.array([0, 1 << 31, 1, 1 << 31 | 1, 0x7F800000, 0xFF800000, 0x7F800001, 0xBF800000]))
    nan, inf, minus, one = 0x7FC00000, 0x7F800000, 1 << 31, 0x3F800000
    want = {
        "exp": [one, one, one, one, inf, 0, nan, 0x3EBC5AB2],
        "log": [minus | inf] * 4 + [inf, nan, nan, nan],
        "reciprocal": [inf, minus | inf, inf, minus | inf, 0, minus, nan, minus | one],
        "reciprocal_root": [inf, minus | inf, inf, minus | inf, 0, nan, nan, nan],
    }[name]
    assert [hex(b) for b in cases.bits_of(getattr(numerics, name)(x))] == [hex(b) for b in want]


@pytest.mark.parametrize(
    ("name", "binades"),
    [
        ("exp", [(0, 0), (1, 1)]),
        ("log", [(-1, 0), (0, 0)]),
        ("reciprocal", [(0, 0)]),
        ("reciprocal_root", [(0, 0), (1, 0)]),
    ],
)
def test_error_over_whole_binades(name, binades):
    assert max(error_ulp(name, binade(*b)) for b in binades) <= BOUND_ULP[name]


@pytest.mark.parametrize("name", EXACT)
def test_error_over_the_whole_range(name):
    rng = np.random.default_rng(11)
    x = cases.floats(rng.integers(0x00800000, 0x7F800000, 1 << 21) | rng.integers(0, 2, 1 << 21) << 31)
    if name == "exp":
        x = np.concatenate([x, rng.uniform(-88, 89, 1 << 21).astype(np.float32)])
    elif name != "reciprocal":
        x = np.abs(x)
    assert error_ulp(name, x) <= BOUND_ULP[name]


@pytest.mark.parametrize("name", EXACT)
def test_float64_is_a_fair_judge(name):
    """The bound again on fewer operands, against 50 decimal digits."""
    rng = np.random.default_rng(12)
    x = rng.uniform(0.5, 20, 2000).astype(np.float32)
    for value, got in zip(x.tolist(), getattr(numerics, name)(x).tolist(), strict=True):
        exact = JUDGE[name](decimal.Decimal(value))
        ulp = decimal.Decimal(float(2.0 ** (np.floor(np.log2(float(abs(exact)))) - 23)))
        assert abs(decimal.Decimal(got) - exact) <= decimal.Decimal(BOUND_ULP[name]) * ulp


@pytest.mark.parametrize("name", ["exp", "log", "reciprocal", "reciprocal_root"])
def test_results_at_the_ends_of_the_range(name):
    if name == "exp":
        x = np.float32([88.72284, 88.72283, -87.33654, -87.33655, 88.8, -87.4, 1e-30])
        want = [np.inf, None, None, 0.0, np.inf, 0.0, 1.0]
    elif name == "log":
        x, want = np.float32([1.0, 3.4028235e38, 1.1754944e-38]), [0.0, None, None]
    elif name == "reciprocal":
        x = np.float32([2.0**126, 1.0000001 * 2.0**126, -(2.0**127), 2.0**-126])
        want = [2.0**-126, 0.0, 0.0, 2.0**126]
    else:
        x, want = np.float32([2.0**-126, 2.0**126]), [2.0**63, 2.0**-63]
    got = getattr(numerics, name)(x)
    for value, expected in zip(got.tolist(), want, strict=True):
        assert np.isfinite(value) if expected is None else value == expected


@pytest.mark.long
def test_error_of_exp_over_every_operand_with_a_normal_result():
    worst = max(error_ulp("exp", binade(e, s)) for e in range(-6, 7) for s in (0, 1))
    assert worst <= BOUND_ULP["exp"]


@pytest.mark.long
@pytest.mark.parametrize("name", ["log", "reciprocal_root"])
def test_error_over_every_tenth_binade(name):
    assert max(error_ulp(name, binade(e)) for e in range(-126, 128, 10)) <= BOUND_ULP[name]


@pytest.mark.long
@pytest.mark.parametrize("name", EXACT)
def test_kernel_is_the_reference_on_more_operands(name):
    x = operands(name, np.random.default_rng(13), 500_000)
    scalar = getattr(functions, name)
    cases.same(cases.bits_of(getattr(numerics, name)(cases.floats(x))), [scalar(b) for b in x.tolist()])
