"""Directed and random operands of every format."""

import numpy as np

from hwsim.numerics import FLOATS


def mantissas(t):
    """Mantissas at which rounding, carries and ties change."""
    full = (1 << t) - 1
    single = [1 << i for i in range(t)]
    return sorted({0, full, full >> 1, full - 1, *single, *(full ^ b for b in single), *(b | 1 for b in single)})


def directed(name):
    """All signs and mantissas of `mantissas` with exponents near every limit; specials, several NaNs."""
    f = FLOATS[name]
    top = (1 << f.exponent_bits) - 1
    wanted = {
        0,
        1,
        2,
        3,
        f.bias // 2,
        f.bias - 24,
        f.bias - 1,
        f.bias,
        f.bias + 1,
        f.bias + 23,
        f.bias * 3 // 2,
        top - 1,
        top,
    }
    fields = sorted(e for e in wanted if 0 <= e <= top)
    bits = [
        s << (f.bits - 1) | e << f.mantissa_bits | m for s in (0, 1) for e in fields for m in mantissas(f.mantissa_bits)
    ]
    return np.unique(np.array(bits, np.int64))


def random_bits(rng, name, size):
    """Half uniform patterns, half numbers of like exponents, so that sums cancel."""
    f = FLOATS[name]
    bits = rng.integers(0, 1 << f.bits, size)
    near = rng.random(size) < 0.5
    field = f.bias + rng.integers(-2, 3, size)
    close = bits & (f.sign | (1 << f.mantissa_bits) - 1) | field << f.mantissa_bits
    return np.where(near, close, bits)


def floats(bits):
    """fp32 bits → float32 array."""
    return np.asarray(bits).astype(np.uint32).view(np.float32)


def bits_of(x):
    """float32 array → list of bits."""
    return x.view(np.uint32).ravel().tolist()


def same(got, want):
    """Compare bits and name the first that differs."""
    got, want = np.asarray(got), np.asarray(want)
    wrong = np.flatnonzero(got != want)
    assert wrong.size == 0, (
        f"{wrong.size} differ, first at {wrong[0]}: {int(got[wrong[0]]):#x}, not {int(want[wrong[0]]):#x}"
    )
