"""Are conversions those of the reference, and of ml_dtypes where the contract does not differ by name?"""

import importlib.util
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from hwsim import numerics
from hwsim.errors import HwsimError
from hwsim.numerics import FLOATS, Flags, Lfsr, reference


def _cases():
    """The module beside this one; pytest's importlib mode leaves test folders off the path."""
    spec = importlib.util.spec_from_file_location("numerics_cases", Path(__file__).with_name("cases.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _cases()
TARGETS = ["fp8_e4m3", "fp8_e5m2", "bf16", "fp16", "int8"]
WORLD = {
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
}


def operands(target, size, seed=7):
    """Bits of fp32: random, near the range of the target, at its ties and beside them."""
    rng = np.random.default_rng(seed)
    bits = [cases.directed("fp32"), rng.integers(0, 1 << 32, size)]
    if target == "int8":
        ties = np.arange(-1030, 1030) / np.float32(8)
    else:
        f = FLOATS[target]
        values = numerics.from_format(np.arange(f.largest + 1).astype(numerics.storage_dtype(target)), target)
        values = values[:: max(1, values.size // 40000)].astype(np.float64)
        low, high = values[:-1], values[1:]
        ties = np.concatenate([-high, low, (low + high) / 2]).astype(np.float32)
        bits.append((rng.integers(0, 1 << 23, size) | rng.integers(127 - f.bias - 12, 256, size) << 23) & 0x7FFFFFFF)
    ties = ties.astype(np.float32).view(np.uint32).astype(np.int64)
    return np.concatenate([*bits, ties, ties + 1, ties - 1]) & 0xFFFFFFFF


@pytest.mark.parametrize("saturate", [False, True])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_are_the_reference(target, rounding, saturate):
    x = operands(target, 40_000)
    words = np.random.default_rng(8).integers(1, 1 << 32, x.size)
    flags = Flags()
    got = numerics.to_format(
        cases.floats(x), target, rounding=rounding, words=words.astype(np.uint32), saturate=saturate, flags=flags
    )
    want = [
        reference.convert(b, "fp32", target, rounding=rounding, word=w, saturate=saturate)
        for b, w in zip(x.tolist(), words.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(got.astype(np.int64), [c.bits for c in want])
    assert (flags.invalid, flags.overflow) == (sum(c.invalid for c in want), sum(c.overflow for c in want))


@pytest.mark.parametrize("target", WORLD)
def test_nearest_is_that_of_ml_dtypes(target):
    f = FLOATS[target]
    x = cases.floats(operands(target, 1_000_000))
    with np.errstate(over="ignore", invalid="ignore"):
        judged = x.astype(WORLD[target]).view(numerics.storage_dtype(target)).astype(np.int64)
    sign = np.where(np.signbit(x), f.sign, 0)
    judged = np.where(np.isnan(x), f.nan, judged)
    if f.infinity is None:  # theirs overflows to NaN, ours saturates
        judged = np.where(~np.isnan(x) & ((judged & ~f.sign) == f.nan), sign | f.largest, judged)
    if not f.gradual:  # theirs keeps subnormals; rounding may carry them up to the smallest normal
        judged = np.where(np.abs(x) < 2.0**-126, sign, judged)
    cases.same(numerics.to_format(x, target), judged)


@pytest.mark.parametrize("source", WORLD)
def test_widening_is_that_of_ml_dtypes(source):
    f = FLOATS[source]
    bits = np.arange(1 << f.bits).astype(numerics.storage_dtype(source))
    judged = bits.view(WORLD[source]).astype(np.float32)
    subnormal = np.abs(judged) < 2.0**-126
    judged = np.where(subnormal, np.copysign(np.float32(0), judged), judged)
    got = numerics.from_format(bits, source)
    nan = np.isnan(judged)
    np.testing.assert_array_equal(np.isnan(got), nan)
    cases.same(got.view(np.uint32)[~nan], judged.view(np.uint32)[~nan])
    assert set(cases.bits_of(got[nan])) == {0x7FC00000}


@pytest.mark.parametrize("name", WORLD)
def test_every_value_survives_the_way_there_and_back(name):
    f = FLOATS[name]
    bits = np.arange(1 << f.bits).astype(numerics.storage_dtype(name))
    wide = numerics.from_format(bits, name)
    want = np.where(np.isnan(wide), f.nan, bits)
    if not f.gradual:
        want = np.where(wide == 0, bits & f.sign, want)
    cases.same(numerics.to_format(wide, name), want)
    words = np.full(bits.shape, 0xFFFFFFFF, np.uint32)  # no word rounds a value of the format
    cases.same(numerics.to_format(wide, name, rounding="stochastic", words=words), want)


def test_int32_to_fp32_rounds_to_even():
    rng = np.random.default_rng(9)
    x = np.concatenate([rng.integers(-(2**31), 2**31, 20000), 2**24 + np.arange(-9, 9), [-(2**31), 2**31 - 1, 0]])
    got = numerics.from_format(x.astype(np.int32), "int32")
    cases.same(got.view(np.uint32), [reference.convert(v, "int32", "fp32").bits for v in x.tolist()])
    assert numerics.from_format(np.int8([-128, 127]), "int8").tolist() == [-128, 127]


def test_fp32_to_fp32_flushes_and_makes_nans_canonical():
    x = cases.directed("fp32")
    flags = Flags()
    got = numerics.to_format(cases.floats(x), "fp32", flags=flags)
    want = [reference.convert(b, "fp32", "fp32") for b in x.tolist()]
    cases.same(cases.bits_of(got), [c.bits for c in want])
    assert (flags.invalid, flags.overflow) == (sum(c.invalid for c in want), 0)


@pytest.mark.parametrize(
    ("target", "x"),
    [("bf16", 1.001), ("bf16", -3e-38), ("fp16", 1.0002), ("fp16", -3e-7), ("fp8_e4m3", 0.3), ("fp8_e4m3", 3e-4),
     ("fp8_e5m2", -100.7), ("fp8_e5m2", 2e-6), ("int8", 0.03), ("int8", -99.9)],
)  # fmt: skip
def test_stochastic_rounding_has_no_bias(target, x):
    n = 1 << 20
    words = Lfsr(seed=12345, lanes=16).draw(1, n)[0]
    values = np.full(n, x, np.float32)
    got = numerics.from_format(numerics.to_format(values, target, rounding="stochastic", words=words), target)
    low, high = np.float64(got.min()), np.float64(got.max())
    p = (np.float64(values[0]) - low) / (high - low)
    assert low < values[0] < high
    assert len(set(got.tolist())) == 2
    # Five standard deviations of a binomial mean: one fixed seed in two million would miss it by chance.
    assert abs(np.mean(got == high) - p) < 5 * np.sqrt(p * (1 - p) / n)
    nearest = numerics.from_format(numerics.to_format(values[:1], target), target)[0]
    assert abs(nearest - values[0]) > 5 * np.sqrt(p * (1 - p) / n) * (high - low)  # the test can fail


def test_refusals():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(HwsimError, match=r"^fp32 arrays are float32, not float64$"):
        numerics.to_format(x.astype(np.float64), "bf16")
    with pytest.raises(HwsimError, match=r"^bf16 arrays are uint16, not float32$"):
        numerics.from_format(x, "bf16")
    with pytest.raises(HwsimError, match=r"^unknown rounding 'up'; choose nearest or stochastic$"):
        numerics.to_format(x, "bf16", rounding="up")
    with pytest.raises(
        HwsimError, match=r"^stochastic rounding needs one uint32 word per element, shape \(2, 3\); got none$"
    ):
        numerics.to_format(x, "bf16", rounding="stochastic")
    with pytest.raises(
        HwsimError, match=r"^unknown format 'fp4'; choose one of int8, int32, fp8_e4m3, fp8_e5m2, bf16, "
    ):
        numerics.to_format(x, "fp4")
