"""Do the arithmetic units in Verilog give the bits of `hwsim.numerics`, at every latency, one operation a cycle?"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hwsim import numerics
from hwsim.numerics import FLOATS, Flags, reference, vector
from hwsim.numerics.lfsr import draw, lane_seed
from hwsim_rtl.arithmetic import (
    Adder,
    Clamp,
    Converter,
    Lfsr,
    Maximum,
    Multiplier,
    Scale,
    Select,
    SelectEqual,
    Widen,
    lane_constant,
)


def _beside(path, name):
    """A module of the tests; pytest's importlib mode leaves test folders off the path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


vectors = _beside("vectors.py", "rtl_vectors")
cases = _beside("../numerics/cases.py", "numerics_cases")
floats, same = cases.floats, cases.same

FP8 = ("fp8_e4m3", "fp8_e5m2")
PAIRS = [(a, b) for a in FP8 for b in FP8]
CONVERTED = ("int8", *FLOATS)
WIDENED = ("int8", "int32", *FLOATS)
ADDER_LATENCIES = tuple(range(1, 9))
SCALAR_CASES = 20_000
INFINITY = 0x7F800000
#: Zeros, a subnormal, the smallest, one, infinities of both signs; two NaNs.
SPECIALS = [s << 31 | m for s in (0, 1) for m in (0, 1, 0x800000, 0x3F800000, INFINITY)] + [0x7FC00000, 0xFF800001]

UNITS = {
    "add_fp32": [Adder("fp32", latency) for latency in (*ADDER_LATENCIES, 16)],
    "add_int32": [Adder("int32", latency) for latency in (1, 3)],
    "mul_int8": [Multiplier("int8", "int8", latency) for latency in (0, 1, 2)],
    "mul_bf16": [Multiplier("bf16", "bf16", latency) for latency in (0, 1, 2, 3, 4)],
    "mul_fp16": [Multiplier("fp16", "fp16", latency) for latency in (0, 2)],
    "mul_fp32": [Multiplier("fp32", "fp32", latency) for latency in (1, 2, 3, 4, 5, 6)],
    **{f"mul_{a}_{b}": [Multiplier(a, b, latency) for latency in (0, 1, 3)] for a, b in PAIRS},
    **{f"to_{f}": [Converter(f, latency) for latency in (0, 1, 3)] for f in CONVERTED},
    **{f"from_{f}": [Widen(f, latency) for latency in (0, 2)] for f in WIDENED},
    "scale": [Scale(latency) for latency in (0, 1, 2)],
    "maximum": [Maximum()],
    "clamp": [Clamp()],
    "select": [Select()],
    "select_equal": [SelectEqual()],
    "lfsr": [Lfsr()],
}


def directed_pairs(rng, name, size):
    bits = cases.directed(name)
    return rng.choice(bits, size), rng.choice(bits, size)


def random_pairs(rng, name, size):
    return cases.random_bits(rng, name, size), cases.random_bits(rng, name, size)


def joined(*pairs):
    return tuple(np.concatenate(column) for column in zip(*pairs, strict=True))


def nearly_opposite(rng, size):
    """Pairs that cancel but for some low bits, exponents up to three apart, down to where sums are flushed."""
    x = rng.integers(0, 1 << 32, size)
    low = rng.random(size) < 0.3
    x = np.where(low, x & 0x83FFFFFF, x)
    difference = rng.integers(-4, 5, size) * (1 << rng.integers(0, 25, size))
    return x, ((x ^ 0x80000000) + difference) & 0xFFFFFFFF


def ties(rng, size):
    """Sums whose exact value has its last bit one or two below the rounding point."""
    x = rng.integers(0, 1 << 32, size) & 0xFF7FFFFF | 0x20000000
    shift = rng.integers(20, 28, size)
    field = np.maximum((x >> 23 & 0xFF) - shift, 0)
    y = (rng.integers(0, 2, size) << 31) | field << 23 | (rng.integers(0, 16, size) << 19)
    return x, y


def at_the_limits(rng, name, size):
    """Operands whose product has an exponent within three of fp32's least or largest."""
    f = FLOATS[name]
    a = rng.integers(1, 255, size)
    total = np.where(rng.random(size) < 0.5, 127 + rng.integers(-3, 4, size), 381 + rng.integers(-3, 4, size))
    b = np.clip(total - a, 0, 255)
    sign, t = f.bits - 1, f.mantissa_bits
    few = rng.random(size) < 0.5  # fractions of few bits make ties
    fractions = [np.where(few, m & -(1 << t // 2), m) for m in rng.integers(0, 1 << t, (2, size))]
    fractions = [np.where(rng.random(size) < 0.2, (1 << t) - 1 - (m & 3), m) for m in fractions]
    return tuple(rng.integers(0, 2, size) << sign | e << t | m for e, m in zip((a, b), fractions, strict=True))


def converted_operands(rng):
    """fp32 numbers around every number and midpoint of every target, and random ones; words, many at the carry."""
    edges = []
    for name in ("fp8_e4m3", "fp8_e5m2", "bf16", "fp16"):
        size = FLOATS[name].bits
        values = numerics.from_format(np.arange(1 << size).astype(numerics.storage_dtype(name)), name)
        middles = values[:-1] / 2 + values[1:] / 2
        edges += [values.view(np.uint32), middles.view(np.uint32)]
    edges.append(np.arange(-300, 300, 0.5, dtype=np.float32).view(np.uint32))
    edge = np.unique(np.concatenate(edges)).astype(np.int64)
    edge = np.concatenate([edge, edge + 1, edge - 1]) & 0xFFFFFFFF
    near = rng.integers(0, 1 << 32, 500_000) & 0x807FFFFF | rng.integers(127 - 36, 127 + 20, 500_000) << 23
    x = np.concatenate([edge, rng.integers(0, 1 << 32, 300_000), near, cases.directed("fp32")])
    words = rng.integers(1, 1 << 32, x.size)
    return x, np.where(rng.random(x.size) < 0.5, carry_words(rng, x), words), rng.integers(0, 2, x.size)


def carry_words(rng, x):
    """The word at which the carry of some target's conversion changes, or its neighbour."""
    exponent = (x >> 23 & 0xFF) - 127
    bits = np.array([0, *(f.mantissa_bits for f in FLOATS.values())])
    least = np.array([0, *(f.min_exponent for f in FLOATS.values())])
    target = rng.integers(0, len(bits) - 1, x.size)  # not fp32
    shift = np.where(target == 0, 23 - exponent, 23 - bits[target] + np.maximum(0, least[target] - exponent))
    shift = np.clip(shift, 0, 62)
    significand = (x & 0x7FFFFF | 0x800000).astype(object)
    fraction = np.array([(s << 32 >> k) & 0xFFFFFFFF for s, k in zip(significand, shift.tolist(), strict=True)])
    return np.clip((1 << 32) - fraction.astype(np.int64) + rng.integers(-1, 2, x.size), 1, 0xFFFFFFFF)


def operands():
    """Columns of every group."""
    rng = np.random.default_rng(20261121)
    every_pair = np.divmod(np.arange(1 << 16), 256)
    adds = joined(
        directed_pairs(rng, "fp32", 300_000), random_pairs(rng, "fp32", 300_000), nearly_opposite(rng, 400_000),
        ties(rng, 100_000),
    )  # fmt: skip
    wide = joined(
        directed_pairs(rng, "fp32", 300_000), random_pairs(rng, "fp32", 400_000), at_the_limits(rng, "fp32", 300_000)
    )
    bits = cases.directed("bf16")
    half = joined(
        (np.repeat(bits, len(bits)), np.tile(bits, len(bits))), random_pairs(rng, "bf16", 500_000),
        at_the_limits(rng, "bf16", 200_000),
    )  # fmt: skip
    fp16 = joined(directed_pairs(rng, "fp16", 200_000), random_pairs(rng, "fp16", 300_000))
    integers = rng.integers(0, 1 << 32, (2, 50_000))
    x, word, stochastic = converted_operands(rng)
    near = np.append(rng.choice(cases.directed("fp32"), 20), SPECIALS)  # few, so that equal ones meet
    compared = {name: rng.choice(near, SCALAR_CASES) for name in ("a", "b", "c")}
    finite = near[(near & 0x7FFFFFFF) <= INFINITY]
    limits = {name: rng.choice(finite, SCALAR_CASES) for name in ("low", "high")}
    columns = {
        "add_fp32": dict(zip("xy", adds, strict=True)),
        "add_int32": dict(zip("xy", integers, strict=True)),
        "mul_int8": dict(zip("ab", every_pair, strict=True)),
        "mul_bf16": dict(zip("ab", half, strict=True)),
        "mul_fp16": dict(zip("ab", fp16, strict=True)),
        "mul_fp32": dict(zip("ab", wide, strict=True)),
        **{f"mul_{a}_{b}": dict(zip("ab", every_pair, strict=True)) for a, b in PAIRS},
        **{f"to_{f}": {"x": x, "word": word, "stochastic": stochastic} for f in CONVERTED},
        **{f"from_{f}": {"x": np.arange(1 << FLOATS[f].bits)} for f in FLOATS if f != "fp32"},
        "from_int8": {"x": np.arange(256)},
        "from_int32": {
            "x": np.concatenate(
                [rng.integers(0, 1 << 32, 100_000) >> rng.integers(0, 32, 100_000), edges_of_integers()]
            )
        },
        "from_fp32": {"x": x[::8]},
        "scale": {
            "x": rng.choice(np.concatenate([cases.directed("fp32"), rng.integers(0, 1 << 32, 3000)]), SCALAR_CASES),
            "exponent": rng.integers(-512, 512, SCALAR_CASES) >> rng.integers(0, 6, SCALAR_CASES),
        },
        "maximum": {"x": adds[0][:400_000], "y": adds[1][:400_000]},
        "clamp": {"a": compared["a"], **limits},
        "select": {"a": compared["a"], "b": compared["b"], **limits},
        "select_equal": compared,
        "lfsr": lfsr_operands(rng),
    }
    assert columns.keys() == UNITS.keys()
    return columns


def edges_of_integers():
    powers = 1 << np.arange(33)
    near = np.concatenate([powers + d for d in (-3, -2, -1, 0, 1, 2, 3)])
    middles = [
        (m << k) + (1 << k >> 1) for k in range(1, 8) for m in (1 << 23, (1 << 23) + 1, (1 << 24) - 2, (1 << 24) - 1)
    ]
    ties = np.add.outer(middles, [-1, 0, 1]).ravel()
    both = np.concatenate([near, ties])
    return np.concatenate([both, -both]) & 0xFFFFFFFF


def lfsr_operands(rng):
    cycles = 4000
    load = rng.random(cycles) < 0.01
    load[0] = True
    return {"load": load, "first": rng.integers(1, 1 << 32, cycles), "draw": rng.random(cycles) < 0.7}


@pytest.fixture(scope="module")
def given():
    return operands()


@pytest.fixture(scope="module")
def found(given, request):
    return vectors.run(UNITS, given, Path(request.config.cache.mkdir("hwsim-models")))


def check(found, group, port, want):
    want = np.asarray(want)
    if want.dtype == np.float32:
        want = want.view(np.uint32)
    mask = (1 << 8 * want.dtype.itemsize) - 1 if want.dtype.itemsize < 8 else 0xFFFFFFFF
    for unit, results in zip(UNITS[group], found[group], strict=True):
        try:
            same(results[port], want.astype(np.int64) & mask)
        except AssertionError as error:
            raise AssertionError(f"{unit.module_name}: {error}") from None


def test_fp32_adder_is_the_contract_at_every_latency(given, found):
    x, y = given["add_fp32"].values()
    assert x.size >= 1_000_000
    check(found, "add_fp32", "z", numerics.add(floats(x), floats(y)))


def test_int32_adder_wraps(given, found):
    x, y = given["add_int32"].values()
    check(found, "add_int32", "z", (x + y).astype(np.uint32))


def test_int8_products_of_all_pairs(given, found):
    a, b = (v.astype(np.uint8).view(np.int8).astype(np.int32) for v in given["mul_int8"].values())
    check(found, "mul_int8", "p", a * b)


def product(a, b, a_format, b_format):
    wide = [
        floats(v) if f == "fp32" else numerics.from_format(v.astype(numerics.storage_dtype(f)), f)
        for v, f in ((a, a_format), (b, b_format))
    ]
    return numerics.multiply(*wide)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_fp8_products_of_all_pairs(given, found, a, b):
    check(found, f"mul_{a}_{b}", "p", product(*given[f"mul_{a}_{b}"].values(), a, b))


@pytest.mark.parametrize(("format", "least"), [("bf16", 1_000_000), ("fp16", 500_000), ("fp32", 1_000_000)])
def test_products(given, found, format, least):
    a, b = given[f"mul_{format}"].values()
    assert a.size >= least
    check(found, f"mul_{format}", "p", product(a, b, format, format))


@pytest.mark.parametrize("format", CONVERTED)
def test_conversion_with_both_roundings(given, found, format):
    x, word, stochastic = given[f"to_{format}"].values()
    assert x.size >= 1_000_000
    flags = Flags()
    random = stochastic == 1
    want = np.empty(x.size, numerics.storage_dtype(format))
    want[~random] = numerics.to_format(floats(x[~random]), format, flags=flags)
    words = word[random].astype(np.uint32)
    want[random] = numerics.to_format(floats(x[random]), format, rounding="stochastic", words=words, flags=flags)
    check(found, f"to_{format}", "y", want)
    for results in found[f"to_{format}"]:
        assert (int(results["invalid"].sum()), int(results["overflow"].sum())) == (flags.invalid, flags.overflow)


@pytest.mark.parametrize("format", [f for f in CONVERTED if f != "fp32"])
def test_conversion_flags_what_the_reference_flags(given, found, format):
    columns = given[f"to_{format}"]
    some = np.random.default_rng(1).choice(columns["x"].size, SCALAR_CASES, replace=False)
    want = [
        reference.convert(x, "fp32", format, rounding="stochastic" if s else "nearest", word=w)
        for x, w, s in zip(*(column[some].tolist() for column in columns.values()), strict=True)
    ]
    for results in found[f"to_{format}"]:
        same(results["invalid"][some], [w.invalid for w in want])
        same(results["overflow"][some], [w.overflow for w in want])


@pytest.mark.parametrize("format", WIDENED)
def test_widening(given, found, format):
    x = given[f"from_{format}"]["x"]
    if format == "fp32":
        want = numerics.to_format(floats(x), "fp32")
    else:
        dtype = numerics.storage_dtype(format)
        want = numerics.from_format(
            (x & (1 << 8 * dtype.itemsize) - 1).astype(f"u{dtype.itemsize}").view(dtype), format
        )
    check(found, f"from_{format}", "y", want)


def scalars(given, group, function):
    return np.array([function(*row) for row in zip(*(c.tolist() for c in given[group].values()), strict=True)])


def test_scaling_by_powers_of_two(given, found):
    check(found, "scale", "y", scalars(given, "scale", vector.scale))


def test_maximum(given, found):
    check(found, "maximum", "z", numerics.maximum(*map(floats, given["maximum"].values())))


@pytest.mark.parametrize("group", ["clamp", "select", "select_equal"])
def test_comparisons(given, found, group):
    check(found, group, "z", scalars(given, group, getattr(vector, group)))


def test_lfsr_draws_the_words_of_its_lane(given, found):
    assert lane_constant(5) == lane_seed(0, 5)
    state, want = None, []
    for load, first, go in zip(*(c.tolist() for c in given["lfsr"].values()), strict=True):
        want.append(0 if state is None else draw(state))
        if load:
            state = first
        elif go:
            state = draw(state)
    same(found["lfsr"][0]["word"], want)
