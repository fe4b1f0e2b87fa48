"""Is the register of the contract of full period, and are its words drawn in the contract's order?"""

import numpy as np
import pytest

from hwsim.errors import HwsimError
from hwsim.numerics import Lfsr
from hwsim.numerics.lfsr import STEPS_PER_DRAW, draw, lane_seed, step


def times(f, g):
    """Compose two linear maps of 32-bit words, each given by its images of the single bits."""

    def image(x):
        y = 0
        for i in range(32):
            y ^= f[i] if x >> i & 1 else 0
        return y

    return [image(column) for column in g]


def power(f, exponent):
    result = [1 << i for i in range(32)]
    while exponent:
        if exponent & 1:
            result = times(result, f)
        f = times(f, f)
        exponent >>= 1
    return result


def test_every_nonzero_state_has_period_2_32_minus_1():
    """The order of the step divides 2^32 − 1 = 3·5·17·257·65537, and none of its maximal divisors.

    An order of 2^32 − 1 makes x a generator of all nonzero residues, so all nonzero states lie on one cycle.
    """
    one = [1 << i for i in range(32)]
    f = [step(bit) for bit in one]
    period = 2**32 - 1
    assert power(f, period) == one
    for prime in (3, 5, 17, 257, 65537):
        assert power(f, period // prime) != one
    assert np.gcd(STEPS_PER_DRAW, period) == 1  # so draws have the same period


def test_step_is_division_by_x():
    """Bit i stands for x^i; x times the next state is the state, modulo x^32 + x^22 + x^2 + x + 1."""
    modulus = 1 << 32 | 1 << 22 | 1 << 2 | 1 << 1 | 1
    for state in (1, 2, 0x80000000, 0xDEADBEEF, 0xFFFFFFFF):
        back = step(state) << 1
        assert (back ^ modulus if back >> 32 else back) == state


def test_first_words():
    """Golden: seed 2026, lanes 0 and 1, each state times x^-32 modulo the polynomial, by carry-less multiplication."""
    words = [
        "0xdcd882f3", "0xc7168846", "0x208da19d", "0x9b17944f",
        "0xd12da625", "0x32a6f68e", "0x4c318475", "0x2bb0c90b",
    ]  # fmt: skip
    assert [hex(w) for w in Lfsr(2026, 2).draw(4, 2).ravel().tolist()] == words


def test_draws_go_by_line_by_group_and_move_all_lanes():
    lanes, lines, columns = 3, 4, 7
    lfsr = Lfsr(99, lanes)
    states = [lane_seed(99, lane) for lane in range(lanes)]
    want = np.zeros((lines, columns), np.uint32)
    for line in range(lines):
        for group in range(3):
            states = [draw(s) for s in states]
            for lane in range(lanes):
                if group * lanes + lane < columns:
                    want[line, group * lanes + lane] = states[lane]
    np.testing.assert_array_equal(lfsr.draw(lines, columns), want)
    assert lfsr.state.tolist() == states


def test_state_continues_over_draws():
    whole, parts = Lfsr(5, 4), Lfsr(5, 4)
    np.testing.assert_array_equal(whole.draw(6, 8), np.concatenate([parts.draw(2, 8), parts.draw(4, 8)]))


def test_no_lane_starts_at_zero_and_no_two_alike():
    seeds = [lane_seed(7, lane) for lane in range(1024)]
    assert len(set(seeds)) == 1024
    assert all(seeds)
    assert lane_seed(lane_seed(0, 5), 5) == lane_seed(0, 5)  # the seed that would give zero


def test_words_are_uniform_and_do_not_follow_each_other():
    words = Lfsr(3, 8).draw(1 << 17, 8).astype(np.float64) / 2**32 - 0.5
    n = words.shape[0]
    assert np.all(np.abs(words.mean(axis=0)) < 5 * np.sqrt(1 / 12 / n))
    for lag in (1, 2, 3):
        correlation = (words[lag:] * words[:-lag]).mean(axis=0) * 12
        assert np.all(np.abs(correlation) < 5 / np.sqrt(n))
    single = [lane_seed(3, 0)]
    for _ in range(1 << 14):
        single.append(step(single[-1]))
    steps = np.array(single) / 2**32 - 0.5
    assert (steps[1:] * steps[:-1]).mean() * 12 > 0.3  # why a draw is 32 steps and not one
    lanes = np.corrcoef(words.T) - np.eye(8)
    assert np.all(np.abs(lanes) < 5 / np.sqrt(n))


def test_refusals():
    with pytest.raises(HwsimError, match=r"^the seed must have at most 32 bits, 0 … 4294967295, not 4294967296$"):
        Lfsr(2**32, 4)
    with pytest.raises(HwsimError, match=r"^random words need at least one lane, not 0$"):
        Lfsr(1, 0)
