"""Does the scalar reference say what docs/contracts/numerics.md says, and what the world says where we follow it?"""

import math
import struct

import numpy as np
import pytest

from hwsim.errors import HwsimError
from hwsim.numerics import FLOATS, reference
from hwsim.numerics.reference import Number, add, convert, decode, encode, maximum, multiply

NAN, INF, MINUS = 0x7FC00000, 0x7F800000, 1 << 31
ONE, TWO, SMALLEST = 0x3F800000, 0x40000000, 0x00800000


def bits(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


@pytest.mark.parametrize(
    ("x", "y", "product", "total"),
    [
        (0xFFFFFFFF, ONE, NAN, NAN),
        (0x7F800001, 0, NAN, NAN),
        (INF, 0, NAN, INF),
        (INF, 1, NAN, INF),  # a subnormal is a zero
        (INF, MINUS | INF, MINUS | INF, NAN),
        (MINUS | INF, MINUS | ONE, INF, MINUS | INF),
        (0, MINUS, MINUS, 0),
        (MINUS, MINUS, 0, MINUS),
        (MINUS | ONE, 0, MINUS, MINUS | ONE),
        (ONE, MINUS | ONE, MINUS | ONE, 0),  # cancellation gives +0
        (MINUS | 1, MINUS | 2, 0, MINUS),  # subnormals are zeros of their sign
        (SMALLEST + 1, MINUS | SMALLEST, MINUS, 0),  # FTZ
        (SMALLEST, MINUS | SMALLEST + 1, MINUS, MINUS),  # FTZ keeps the sign
        (0x7F7FFFFF, 0x7F7FFFFF, INF, INF),
        (0x7F7FFFFF, 0x73000000, INF, INF),  # half a unit above the largest: the tie goes up
        (0x7F7FFFFF, 0x72FFFFFF, INF, 0x7F7FFFFF),
        (0x3F800001, 0x33800000, 0x33800001, 0x3F800002),  # ties to even, up
        (ONE, 0x33800000, 0x33800000, ONE),  # and down
        (0x3F7FFFFF, 0x00800000, 0, 0x3F7FFFFF),  # 2^-126 − 2^-150 has 24 bits and is below 2^-126
        (0x3F7FFFFE, 0x00800001, SMALLEST, 0x3F7FFFFE),  # 2^-126 − 2^-172 rounds up, and is kept
    ],
)
def test_special_cases(x, y, product, total):
    assert (multiply(x, y), multiply(y, x)) == (product, product)
    assert (add(x, y), add(y, x)) == (total, total)


def test_maximum():
    assert maximum(ONE, NAN) == maximum(0xFFFFFFFF, ONE) == NAN
    assert maximum(0, MINUS) == maximum(MINUS, 0) == maximum(MINUS, 1) == 0
    assert maximum(MINUS, MINUS) == MINUS
    assert maximum(MINUS | INF, MINUS | ONE) == MINUS | ONE
    assert maximum(ONE, TWO) == maximum(TWO, MINUS | TWO) == TWO


def test_formats_have_the_limits_of_the_table():
    limits = {n: (decode(f.largest, n).mantissa * 2.0 ** decode(f.largest, n).exponent) for n, f in FLOATS.items()}
    assert limits["fp8_e4m3"] == 448
    assert limits["fp8_e5m2"] == 57344
    assert limits["fp16"] == 65504
    assert limits["bf16"] == float.fromhex("0x1.fep127")
    assert limits["fp32"] == float.fromhex("0x1.fffffep127")
    assert {n: decode(1, n).mantissa for n in FLOATS} == {"fp8_e4m3": 1, "fp8_e5m2": 1, "bf16": 0, "fp16": 1, "fp32": 0}
    assert decode(1, "fp8_e4m3").exponent == -9
    assert decode(1, "fp8_e5m2").exponent == -16
    assert decode(1, "fp16").exponent == -24


def test_operations_equal_numpy_away_from_subnormals():
    rng = np.random.default_rng(1)
    x = (rng.standard_normal(20000) * 2.0 ** rng.integers(-50, 50, 20000)).astype(np.float32)
    y = (rng.standard_normal(20000) * 2.0 ** rng.integers(-50, 50, 20000)).astype(np.float32)
    y[::3] = -x[::3] * np.float32(1.0000001)
    for operation, judged in ((multiply, x * y), (add, x + y)):
        got = [operation(a, b) for a, b in zip(x.view(np.uint32).tolist(), y.view(np.uint32).tolist(), strict=True)]
        assert got == judged.view(np.uint32).tolist()


@pytest.mark.parametrize("name", FLOATS)
def test_encode_inverts_decode(name):
    f = FLOATS[name]
    step = 1 if f.bits < 32 else 99991
    for b in range(0, 1 << f.bits, step):
        number = decode(b, name)
        want = f.nan if number.kind == "nan" else b
        if not f.gradual and number.kind == "finite" and number.mantissa == 0:
            want = b & f.sign
        assert encode(number, name) == want


@pytest.mark.parametrize("target", ["fp8_e4m3", "fp8_e5m2", "bf16", "fp16"])
def test_both_sides_of_every_tie(target):
    f = FLOATS[target]
    for low in range(min(f.largest, 0x7F00)):
        if not f.gradual and low >> f.mantissa_bits == 0:
            continue
        a, b = decode(low, target), decode(low + 1, target)
        a_units, b_units = (n.mantissa << (n.exponent + 200) for n in (a, b))
        middle = Number("finite", 0, a_units + b_units, -201)
        assert encode(middle, target) == (low if low % 2 == 0 else low + 1)
        assert encode(middle._replace(mantissa=middle.mantissa - 1), target) == low
        assert encode(middle._replace(mantissa=middle.mantissa + 1), target) == low + 1


@pytest.mark.parametrize(
    ("x", "target", "saturate", "want"),
    [
        (464.0, "fp8_e4m3", False, (0x7E, False, False)),  # a tie between 448 and what would be 480: even
        (465.0, "fp8_e4m3", False, (0x7E, False, True)),
        (-math.inf, "fp8_e4m3", False, (0xFE, False, True)),
        (61439.0, "fp8_e5m2", False, (0x7B, False, False)),
        (61440.0, "fp8_e5m2", False, (0x7C, False, True)),
        (61440.0, "fp8_e5m2", True, (0x7B, False, True)),
        (math.inf, "fp8_e5m2", False, (0x7C, False, False)),
        (math.inf, "fp8_e5m2", True, (0x7B, False, True)),
        (65520.0, "fp16", False, (0x7C00, False, True)),
        (-65520.0, "fp16", True, (0xFBFF, False, True)),
        (3.4e38, "bf16", False, (0x7F80, False, True)),
        (3.4e38, "bf16", True, (0x7F7F, False, True)),
        (math.nan, "bf16", True, (0x7FC0, True, False)),
        (math.nan, "fp8_e4m3", False, (0x7F, True, False)),
        (math.nan, "int8", False, (0, True, False)),
        (127.5, "int8", False, (127, False, True)),
        (-127.4, "int8", False, (-127, False, False)),
        (-128.0, "int8", False, (-127, False, True)),
        (-math.inf, "int8", False, (-127, False, True)),
        (0.5, "int8", False, (0, False, False)),
        (-1.5, "int8", False, (-2, False, False)),
        (2.0**-10, "fp8_e4m3", False, (0, False, False)),
        (-1.5 * 2.0**-10, "fp8_e4m3", False, (0x81, False, False)),
    ],
)
def test_conversions_at_the_limits(x, target, saturate, want):
    assert convert(bits(x), "fp32", target, saturate=saturate) == want


def test_stochastic_rounding_carries_at_the_threshold():
    x = bits(1 + 3 * 2.0**-9)  # 3/4 of a bf16 unit: rounds up for words from 2^30 on
    assert convert(x, "fp32", "bf16", rounding="stochastic", word=2**30 - 1).bits == 0x3F80 + 0
    assert convert(x, "fp32", "bf16", rounding="stochastic", word=2**30).bits == 0x3F81
    deep = bits(2.0**-9 * 2.0**-8)  # 1/256 of e4m3's smallest
    assert convert(deep, "fp32", "fp8_e4m3", rounding="stochastic", word=2**32 - 2**24 - 1).bits == 0
    assert convert(deep, "fp32", "fp8_e4m3", rounding="stochastic", word=2**32 - 2**24).bits == 1
    assert convert(bits(-0.25), "fp32", "int8", rounding="stochastic", word=3 * 2**30).bits == -1
    assert convert(bits(-0.25), "fp32", "int8", rounding="stochastic", word=3 * 2**30 - 1).bits == 0


def test_refusals():
    with pytest.raises(
        HwsimError, match=r"^unknown floating-point format 'fp4'; choose one of fp8_e4m3, fp8_e5m2, bf16, "
    ):
        decode(0, "fp4")
    with pytest.raises(
        HwsimError, match=r"^conversions go from or to fp32, not from bf16 to fp16; convert to fp32 first$"
    ):
        convert(0, "bf16", "fp16")
    with pytest.raises(HwsimError, match=r"^matmul: rows must be at least 1, not 0$"):
        reference.partial_sums(3, dataflow="ws", rows=0)
    with pytest.raises(HwsimError, match=r"^matmul: unknown dataflow 'xs'; choose one of ws, is, os$"):
        reference.partial_sums(3, dataflow="xs", rows=1)
