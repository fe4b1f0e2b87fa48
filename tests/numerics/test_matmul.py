"""Does the compiled matrix product keep the order, the rounding and the flushes of the reference?"""

import importlib.util
from pathlib import Path

import numba
import numpy as np
import pytest

from hwsim import numerics
from hwsim.errors import HwsimError
from hwsim.numerics import FLOATS, _kernels, arrays, reference


def _cases():
    """The module beside this one; pytest's importlib mode leaves test folders off the path."""
    spec = importlib.util.spec_from_file_location("numerics_cases", Path(__file__).with_name("cases.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _cases()
FORMATS = ["int8", *FLOATS]
KINDS = ["plain", "cancelling", "tiny", "huge", "special"]
DATAFLOWS = [
    {"dataflow": "ws", "rows": 8},
    {"dataflow": "is", "rows": 3, "k_tile": 16},
    {"dataflow": "ws", "rows": 4, "k_tile": 24, "k_segment": 6},
    {"dataflow": "os", "rows": 8, "add_latency_cycles": 1},
    {"dataflow": "os", "rows": 8, "add_latency_cycles": 4, "k_tile": 18},
    {"dataflow": "os", "rows": 8, "add_latency_cycles": 16, "k_tile": 9},
]


def operands(rng, kind, name, m, k, n):
    """Matrices of bits; `cancelling` has each product again with the other sign, elsewhere in k."""
    dtype = numerics.storage_dtype(name)
    if name == "int8":
        return tuple(rng.integers(-128, 128, s).astype(dtype) for s in ((m, k), (k, n)))
    if kind == "special":
        pool = cases.directed(name)
        pair = (rng.choice(pool, (m, k)), rng.choice(pool, (k, n)))
        finite = [np.where(x & (FLOATS[name].sign - 1) > FLOATS[name].largest, 0, x) for x in pair]
        rare = [np.where(rng.random(x.shape) < 0.01, x, y) for x, y in zip(pair, finite, strict=True)]
        return tuple(cases.floats(x) if name == "fp32" else x.astype(dtype) for x in rare)
    scale = {"plain": 0, "cancelling": 0, "tiny": -63, "huge": 63}[kind]
    spread = {"plain": 3, "cancelling": 6, "tiny": 6, "huge": 4}[kind]
    a, b = (
        (rng.standard_normal(s) * 2.0 ** (scale + rng.integers(-spread, spread, s))).astype(np.float32)
        for s in ((m, k), (k, n))
    )
    if kind != "plain":
        half = k // 2
        a[:, half : 2 * half], b[half : 2 * half] = -a[:, :half][:, ::-1], b[:half][::-1]
    return numerics.to_format(a, name), numerics.to_format(b, name)


def as_bits(x):
    return (x.view(np.uint32) if x.dtype == np.float32 else x).tolist()


def check(a, b, name, accumulate=None, **options):
    got = numerics.matmul(a, b, operand_format=name, accumulate=accumulate, **options)
    line = None if accumulate is None else as_bits(accumulate)
    want = reference.matmul(as_bits(a), as_bits(b), operand_format=name, accumulate=line, **options)
    cases.same(np.array(as_bits(got)).ravel(), np.array(want).ravel())


@pytest.mark.parametrize("options", DATAFLOWS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_kernel_is_the_reference(name, kind, options):
    rng = np.random.default_rng(len(name) + 7 * KINDS.index(kind))
    for m, k, n in ((5, 37, 3), (1, 2, 1), (6, 16, 5)):
        check(*operands(rng, kind, name, m, k, n), name, **options)
    a, b = operands(rng, kind, name, 3, 21, 4)
    if name == "int8":
        accumulate = rng.integers(-(2**31), 2**31, (3, 4)).astype(np.int32)
    else:
        line = cases.directed("fp32")
        finite = line[(line & 0x7FFFFFFF) < 0x7F000000]
        accumulate = cases.floats(rng.choice(line if kind == "special" else finite, 12)).reshape(3, 4)
    check(a, b, name, accumulate=accumulate, **options)


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_of_rows_columns_and_k(name):
    """More rows, columns and k than one block of the kernel has, and none of them a multiple."""
    rng = np.random.default_rng(20)
    check(*operands(rng, "plain", name, 37, 9, 67), name, dataflow="ws", rows=5)
    check(*operands(rng, "cancelling", name, 2, 300, 2), name, dataflow="os", rows=5)
    check(*operands(rng, "tiny", name, 34, 11, 66), name, dataflow="ws", rows=4)


@pytest.mark.parametrize("name", ["bf16", "fp16", "fp32", "fp8_e4m3"])
def test_long_dot_products_with_cancellation(name):
    rng = np.random.default_rng(21)
    for options in (
        {"dataflow": "ws", "rows": 128},
        {"dataflow": "os", "rows": 8, "add_latency_cycles": 3, "k_tile": 1000},
    ):
        check(*operands(rng, "cancelling", name, 2, 4096, 2), name, **options)
    a, b = operands(rng, "cancelling", name, 2, 4096, 2)
    exact = numerics.from_format(a, name).astype(np.float64) @ numerics.from_format(b, name).astype(np.float64)
    plain = numerics.matmul(a, b, operand_format=name, dataflow="ws", rows=4096)
    assert np.all(np.abs(plain - exact) < 1)  # each of the 2048 pairs cancels, and the sums stay small


MIXED = [("fp8_e4m3", "fp8_e5m2"), ("fp8_e5m2", "fp8_e4m3")]


@pytest.mark.parametrize("formats", MIXED, ids="-".join)
def test_all_pairs_of_the_two_fp8_formats(formats):
    every = np.arange(256, dtype=np.uint8)
    options = {"operand_format": formats[0], "operand_format_b": formats[1], "dataflow": "ws", "rows": 1}
    got = numerics.matmul(every[:, None], every[None, :], **options)
    want = [reference.add(0, reference.multiply(a, b, *formats)) for a in range(256) for b in range(256)]
    cases.same(cases.bits_of(got), want)
    with np.errstate(invalid="ignore"):
        exact = np.multiply.outer(*(numerics.from_format(every, f).astype(np.float64) for f in formats))
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(got[finite], exact[finite])  # of 3 + 2 mantissa bits nothing is rounded


@pytest.mark.parametrize("options", DATAFLOWS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("kind", ["plain", "cancelling", "special"])
@pytest.mark.parametrize("formats", MIXED, ids="-".join)
def test_two_formats_keep_the_order(formats, kind, options):
    rng = np.random.default_rng(24)
    a, b = (operands(rng, kind, f, 5, 37, 5)[i] for i, f in enumerate(formats))
    check(a, b, formats[0], operand_format_b=formats[1], **options)


def test_two_formats_on_the_slow_kernel(monkeypatch):
    rng = np.random.default_rng(25)
    a, b = (operands(rng, "cancelling", f, 9, 40, 9)[i] for i, f in enumerate(MIXED[0]))
    options = {"operand_format": MIXED[0][0], "operand_format_b": MIXED[0][1], "dataflow": "ws", "rows": 8}
    fast = numerics.matmul(a, b, **options)
    monkeypatch.setattr(arrays, "_mode", lambda *x: _kernels.FLUSHED)
    cases.same(cases.bits_of(numerics.matmul(a, b, **options)), cases.bits_of(fast))


@pytest.mark.parametrize("pair", [("bf16", "fp8_e4m3"), ("fp8_e5m2", "int8"), ("int8", "fp8_e5m2"), ("fp16", "fp32")])
def test_other_mixtures_are_refused(pair):
    a, b = (np.zeros((1, 1), numerics.storage_dtype(f)) for f in pair)
    message = (
        rf"^a product of {pair[0]} and {pair[1]}: both operands have one format, or each one of "
        r"fp8_e4m3 and fp8_e5m2; convert one of them$"
    )
    options = {"operand_format": pair[0], "operand_format_b": pair[1], "dataflow": "ws", "rows": 1}
    with pytest.raises(HwsimError, match=message):
        numerics.matmul(a, b, **options)
    with pytest.raises(HwsimError, match=message):
        reference.matmul([[0]], [[0]], **options)
    with pytest.raises(HwsimError, match=message):
        reference.multiply(0, 0, *pair)


def test_int8_beyond_the_exact_range_of_fp32():
    a, b = np.full((3, 5000), -128, np.int8), np.full((5000, 3), -128, np.int8)
    b[1::2, 1] = 127
    got = numerics.matmul(a, b, operand_format="int8", dataflow="os", rows=4)
    np.testing.assert_array_equal(got, a.astype(np.int64) @ b.astype(np.int64))
    line = np.full((3, 3), 2**31 - 1, np.int32)
    got = numerics.matmul(a, b, operand_format="int8", dataflow="os", rows=4, accumulate=line)
    wrapped = (a.astype(np.int64) @ b.astype(np.int64) + 2**31 - 1 + 2**31) % 2**32 - 2**31
    np.testing.assert_array_equal(got, wrapped)


def test_dataflows_and_tiles_differ():
    """One dot product, worked by hand: 1, four t, −1, three t, with t = 2^-25.

    Above 1 a unit is 4t and below it 2t, so 1 + t = 1 and −1 + t = −1 (ties to even), but −1 + 2t is exact.
    In units of t:
    """
    one, minus, t = 0x3F80, 0xBF80, 0x3300
    a = np.array([[one, t, t, t, t, minus, t, t, t]], np.uint16)
    b = np.full((9, 1), one, np.uint16)
    unit = 2.0**-25

    def result(**options):
        check(a, b, "bf16", **options)
        return float(numerics.matmul(a, b, operand_format="bf16", **options)[0, 0]) / unit

    assert result(dataflow="ws", rows=9) == 3  # 1 drowns four t, −1 leaves 0, then three t
    assert result(dataflow="ws", rows=5) == 0  # 1; −1 drowns three t
    assert result(dataflow="ws", rows=4) == 1  # 1; t − 1 + t + t = −1; t
    assert result(dataflow="ws", rows=3) == 5  # 1; t + t − 1 = −1 + 2t; three t
    assert result(dataflow="is", rows=3) == 5
    assert result(dataflow="ws", rows=9, k_tile=3) == 5
    assert result(dataflow="ws", rows=9, k_segment=3) == 5
    assert result(dataflow="os", rows=9, add_latency_cycles=1) == 3
    assert result(dataflow="os", rows=9, add_latency_cycles=2) == 4  # 1; −1 + 2t + t = −1 + 4t (tie)
    assert result(dataflow="os", rows=9, add_latency_cycles=5) == 7  # 1 − 1 meet in one sum; 2t, 2t, 2t, t

    a, b = np.array([[one, 0x3380, minus]], np.uint16), b[:3]  # 1, 2t, −1: three sums of one product each
    assert result(dataflow="os", rows=9, add_latency_cycles=3) == 0  # 1 drowns 2t; drained last first it would be 2


def test_overwriting_is_not_adding_to_zero():
    a, b = np.array([[0x8080]], np.uint16), np.array([[0x3F00]], np.uint16)  # −2^-126 · 0.5 is flushed to −0
    product = reference.multiply(0x8080, 0x3F00, "bf16")
    assert product == 1 << 31
    # A sum that is flushed to −0 stays in a full fold and becomes +0 in one with idle rows.
    big = np.array([[0x8081, 0x0080]], np.uint16)  # −(2^-126 + 2^-133) + 2^-126
    ones = np.full((2, 1), 0x3F80, np.uint16)
    for rows, sign in ((2, True), (3, False)):
        check(big, ones, "bf16", dataflow="ws", rows=rows)
        assert np.signbit(numerics.matmul(big, ones, operand_format="bf16", dataflow="ws", rows=rows)[0, 0]) == sign
    zero = np.zeros((1, 1), np.float32)
    check(big, ones, "bf16", dataflow="ws", rows=2, accumulate=zero)
    assert not np.signbit(
        numerics.matmul(big, ones, operand_format="bf16", dataflow="ws", rows=2, accumulate=zero)[0, 0]
    )
    check(a, b, "bf16", dataflow="os", rows=1, add_latency_cycles=2)


@pytest.mark.parametrize("name", ["bf16", "fp16", "fp8_e4m3", "fp8_e5m2", "fp32"])
def test_fast_and_slow_kernels_agree_where_both_may_run(name, monkeypatch):
    rng = np.random.default_rng(22)
    a, b = operands(rng, "cancelling", name, 70, 130, 90)
    options = {"operand_format": name, "dataflow": "ws", "rows": 32}
    chosen = []
    mode = arrays._mode
    monkeypatch.setattr(arrays, "_mode", lambda *x: chosen.append(mode(*x)) or chosen[-1])
    fast = numerics.matmul(a, b, **options)
    assert chosen == [_kernels.ROUNDED if name == "fp32" else _kernels.FUSED]
    slow_mode = _kernels.FLUSHED_WIDE if name == "fp32" else _kernels.FLUSHED
    monkeypatch.setattr(arrays, "_mode", lambda *x: slow_mode)
    cases.same(cases.bits_of(numerics.matmul(a, b, **options)), cases.bits_of(fast))


@pytest.mark.parametrize(
    ("a_exponent", "b_exponent", "mode"),
    [(-56, -56, "FUSED"), (-56, -57, "FLUSHED"), (62, 63, "FUSED"), (63, 63, "FLUSHED")],
)
def test_the_fast_kernel_runs_only_where_it_is_exact(a_exponent, b_exponent, mode):
    a, b = (np.full((4, 4), 2.0**e, np.float32) for e in (a_exponent, b_exponent))
    assert arrays._mode(a, b, None, FLOATS["bf16"], FLOATS["bf16"]) == getattr(_kernels, mode)


def test_small_accumulator_lines_forbid_the_fast_kernel():
    a = np.ones((1, 1), np.float32)
    for exponent, mode in ((-103, _kernels.FUSED), (-104, _kernels.FLUSHED)):
        line = np.full((1, 1), 2.0**exponent, np.float32)
        assert arrays._mode(a, a, line, FLOATS["bf16"], FLOATS["bf16"]) == mode


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", ["plain", "tiny"])
def test_one_and_two_threads_give_the_same_bits(name, kind):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only on this machine")
    rng = np.random.default_rng(23)
    a, b = operands(rng, kind, name, 150, 70, 130)
    results = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        try:
            results.append(numerics.matmul(a, b, operand_format=name, dataflow="ws", rows=16))
        finally:
            numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    np.testing.assert_array_equal(results[0].view(np.int32), results[1].view(np.int32))


def test_refusals():
    a, b = np.zeros((2, 3), np.uint16), np.zeros((3, 2), np.uint16)
    options = {"operand_format": "bf16", "dataflow": "ws", "rows": 2}
    with pytest.raises(HwsimError, match=r"^matmul needs shapes \(m, k\) and \(k, n\), not \(2, 3\) and \(2, 3\)$"):
        numerics.matmul(a, a, **options)
    with pytest.raises(HwsimError, match=r"^bf16 arrays are uint16, not int64$"):
        numerics.matmul(a.astype(int), b, **options)
    with pytest.raises(
        HwsimError, match=r"^matmul: accumulate must be float32 of shape \(2, 2\), not int32 of \(2, 2\)$"
    ):
        numerics.matmul(a, b, accumulate=np.zeros((2, 2), np.int32), **options)
    with pytest.raises(HwsimError, match=r"^matmul: k must be at least 1, not 0$"):
        numerics.matmul(a[:, :0], b[:0], **options)
    with pytest.raises(HwsimError, match=r"^matmul: k_tile must be at least 1, not 0$"):
        numerics.matmul(a, b, k_tile=0, **options)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40))
def test_random_products(seed):
    rng = np.random.default_rng(1000 + seed)
    for _ in range(15):
        m, k, n = (int(rng.integers(1, top)) for top in (12, 200, 12))
        options = {
            "dataflow": ["ws", "is", "os"][rng.integers(3)],
            "rows": int(rng.integers(1, 40)),
            "add_latency_cycles": int(rng.integers(1, 17)),
            "k_tile": int(rng.integers(1, k + 1)),
            "k_segment": int(rng.integers(1, k + 1)),
        }
        name, kind = FORMATS[rng.integers(len(FORMATS))], KINDS[rng.integers(len(KINDS))]
        check(*operands(rng, kind, name, m, k, n), name, **options)
