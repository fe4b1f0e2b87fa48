"""Are the compiled kernels the scalar reference, bit for bit?"""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest

from hwsim import numerics
from hwsim.numerics import FLOATS, reference


def _cases():
    """The module beside this one; pytest's importlib mode leaves test folders off the path."""
    spec = importlib.util.spec_from_file_location("numerics_cases", Path(__file__).with_name("cases.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _cases()
bits_of, directed, floats, random_bits, same = (
    cases.bits_of, cases.directed, cases.floats, cases.random_bits, cases.same,
)  # fmt: skip
NARROW = [n for n in FLOATS if n != "fp32"]
PAIRS = 200_000
LONG_PAIRS = 10_000_000


def check(operation, kernel, a, b, *names):
    got = kernel(floats(a), floats(b)).view(np.uint32)
    same(got, [operation(x, y, *names) for x, y in zip(np.asarray(a).tolist(), np.asarray(b).tolist(), strict=True)])


def check_product(name, a, b):
    dtype = numerics.storage_dtype(name)
    x, y = (numerics.from_format(v.astype(dtype), name) for v in (a, b))
    got = numerics.multiply(x, y).view(np.uint32)
    same(got, [reference.multiply(p, q, name) for p, q in zip(a.tolist(), b.tolist(), strict=True)])
    return got


def directed_pairs(name, limit=None):
    bits = directed(name)
    if limit is not None and bits.size > limit:
        bits = bits[:: bits.size // limit + 1]
    return (x.ravel() for x in np.meshgrid(bits, bits))


@pytest.mark.parametrize("name", NARROW)
def test_widening_of_every_pattern(name):
    bits = np.arange(1 << FLOATS[name].bits)
    got = numerics.from_format(bits.astype(numerics.storage_dtype(name)), name)
    same(bits_of(got), [reference.convert(b, name, "fp32").bits for b in bits.tolist()])


@pytest.mark.parametrize("name", ["fp8_e4m3", "fp8_e5m2"])
def test_every_pair_of_fp8(name):
    a, b = (x.ravel() for x in np.meshgrid(np.arange(256), np.arange(256)))
    products = check_product(name, a, b)
    check(reference.add, numerics.add, products, np.roll(products, 257))
    check(reference.add, numerics.add, products, products[::-1])


def test_every_pair_of_int8():
    values = np.arange(-128, 128)
    got = numerics.matmul(
        values.astype(np.int8)[:, None], values.astype(np.int8)[None], operand_format="int8", dataflow="ws", rows=4
    )
    want = [[reference.multiply(a, b, "int8") for b in values.tolist()] for a in values.tolist()]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ["fp8_e4m3", "fp8_e5m2", "bf16", "fp16"])
def test_every_pair_through_the_array(name):
    """The products as the matrix kernels make them: +0, plus the product."""
    bits = np.arange(256) if FLOATS[name].bits == 8 else directed(name)[::2]
    a = bits.astype(numerics.storage_dtype(name))
    got = numerics.matmul(a[:, None], a[None], operand_format=name, dataflow="ws", rows=1)
    pairs = itertools.product(bits.tolist(), repeat=2)
    same(bits_of(got), [reference.add(0, reference.multiply(x, y, name)) for x, y in pairs])


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_products_of_directed_and_random_pairs(name):
    rng = np.random.default_rng(2)
    check_product(name, *directed_pairs(name, 500))
    check_product(name, random_bits(rng, name, 4 * PAIRS), random_bits(rng, name, 4 * PAIRS))


@pytest.mark.parametrize("operation", ["add", "multiply", "maximum"])
def test_fp32_of_directed_and_random_pairs(operation):
    rng = np.random.default_rng(3)
    scalar, kernel = getattr(reference, operation), getattr(numerics, operation)
    check(scalar, kernel, *directed_pairs("fp32", 400))
    size = 4 * PAIRS if operation == "add" else PAIRS
    check(scalar, kernel, random_bits(rng, "fp32", size), random_bits(rng, "fp32", size))


def test_fp32_near_the_flush():
    rng = np.random.default_rng(4)
    sign = rng.integers(0, 2, (2, PAIRS)) << 31
    a = rng.integers(0x00700000, 0x01800000, PAIRS) | sign[0]
    check(reference.add, numerics.add, a, rng.integers(0x00700000, 0x01800000, PAIRS) | sign[1])
    field = rng.integers(1, 253, PAIRS)
    a = field << 23 | rng.integers(0, 1 << 23, PAIRS) | sign[0]
    b = np.clip(127 - field + rng.integers(0, 3, PAIRS), 1, 254) << 23 | rng.integers(0, 1 << 23, PAIRS) | sign[1]
    check(reference.multiply, numerics.multiply, a, b)
    # Products within a few units of 2^-126: b is the quotient.
    a = rng.integers(0x3F800000, 0x40000000, PAIRS)
    quotient = (2.0**-126 / floats(a).astype(np.float64)).astype(np.float64) * 2.0**60
    b = quotient.astype(np.float32).view(np.uint32).astype(np.int64) + rng.integers(-2, 3, PAIRS)
    scaled = floats(a) * np.float32(2.0**-60)
    check(reference.multiply, numerics.multiply, scaled.view(np.uint32), b)


def test_subtract_is_addition_of_the_negative():
    x = floats(directed("fp32")[::7])
    want = [reference.add(a, reference.negate(b)) for a, b in zip(bits_of(x), bits_of(x[::-1]), strict=True)]
    same(bits_of(numerics.subtract(x, x[::-1].copy())), want)


@pytest.mark.long
@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_products_of_ten_million_pairs(name):
    rng = np.random.default_rng(5)
    check_product(name, *directed_pairs(name))
    for _ in range(10):
        check_product(name, random_bits(rng, name, LONG_PAIRS // 10), random_bits(rng, name, LONG_PAIRS // 10))


@pytest.mark.long
@pytest.mark.parametrize("operation", ["add", "multiply"])
def test_fp32_of_ten_million_pairs(operation):
    rng = np.random.default_rng(6)
    for _ in range(10):
        a, b = (random_bits(rng, "fp32", LONG_PAIRS // 10) for _ in range(2))
        check(getattr(reference, operation), getattr(numerics, operation), a, b)
