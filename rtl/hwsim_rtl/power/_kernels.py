"""Compiled simulation of gates, 64 streams at once: bit *i* of every word is stream *i*.

Called from `hwsim_rtl.power.simulate`, which says what the arrays mean.
"""

import numpy as np
from numba import njit

__all__ = ["LANES", "run_with_delays", "run_without_delays"]

LANES = 64


@njit(cache=True)
def _value(codes, first, end, values, stack):  # type: ignore[no-untyped-def]
    """Run one postfix function."""
    top = -1
    for at in range(first, end):
        code = codes[at]
        if code >= 0:
            top += 1
            stack[top] = values[code]
        elif code == -1:
            stack[top] = ~stack[top]
        else:
            top -= 1
            if code == -2:
                stack[top] &= stack[top + 1]
            elif code == -3:
                stack[top] |= stack[top + 1]
            else:
                stack[top] ^= stack[top + 1]
    return stack[0]


@njit(cache=True)
def _count(changed, row):  # type: ignore[no-untyped-def]
    """Add one to the count of every stream whose bit is set."""
    lane = 0
    while changed:
        if changed & np.uint64(1):
            row[lane] += 1
        changed >>= np.uint64(1)
        lane += 1


@njit(cache=True)
def _advance(codes, starts, nets, complements, values, following, stack):  # type: ignore[no-untyped-def]
    """Work out the next states; they are not set yet."""
    for i in range(len(nets)):
        word = _value(codes, starts[i], starts[i + 1], values, stack)
        following[i] = ~word if complements[i] else word


@njit(cache=True)
def run_without_delays(gates, states, inputs, stimulus, warm, counts, seen, outputs):  # type: ignore[no-untyped-def]
    """Simulate with gates that settle at once: every net changes at most once a cycle."""
    codes, starts, targets = gates
    state_codes, state_starts, state_nets, complements = states
    values = np.zeros(counts.shape[0], np.uint64)
    before = values.copy()
    stack = np.zeros(64, np.uint64)
    values[1] = before[1] = ~np.uint64(0)
    following = np.zeros(len(state_nets), np.uint64)
    for cycle in range(stimulus.shape[0]):
        for i in range(len(state_nets)):
            values[state_nets[i]] = following[i]
        for i in range(len(inputs)):
            values[inputs[i]] = stimulus[cycle, i]
        for i in range(len(targets)):
            values[targets[i]] = _value(codes, starts[i], starts[i + 1], values, stack)
        for net in range(len(values)):
            if cycle >= warm and values[net] != before[net]:
                _count(values[net] ^ before[net], counts[net])
            before[net] = values[net]
        for i in range(len(seen)):
            outputs[cycle, i] = values[seen[i]]
        _advance(state_codes, state_starts, state_nets, complements, values, following, stack)


@njit(cache=True)
def _settle(gates, delays, values, changed_at, out, history, evaluated, counting, counts, stack):  # type: ignore[no-untyped-def]
    """Let time pass until nothing changes; gives the steps that took.

    A gate takes on a value once its function has had it for as long as its delay: shorter pulses are swallowed.
    """
    codes, starts, targets = gates
    longest = history.shape[1]
    step, quiet = 0, 0
    while quiet <= longest and step < 100_000:
        step += 1
        moved = False
        # What changes in this step shows from the next one on: first all functions, then all outputs.
        for i in range(len(targets)):
            latest = np.int64(-1)
            for at in range(starts[i], starts[i + 1]):
                if codes[at] >= 0 and changed_at[codes[at]] > latest:
                    latest = changed_at[codes[at]]
            if latest < 0 or step - latest > delays[i]:
                continue
            if evaluated[i] != step - 1:
                history[i, :] = out[i]
            history[i, step % longest] = _value(codes, starts[i], starts[i + 1], values, stack)
            evaluated[i] = step
        for i in range(len(targets)):
            if evaluated[i] != step:
                continue
            ones, any_one = ~np.uint64(0), np.uint64(0)
            for back in range(delays[i]):
                word = history[i, (step - back) % longest]
                ones &= word
                any_one |= word
            word = (out[i] | ones) & any_one
            if word != out[i]:
                if counting:
                    _count(word ^ out[i], counts[targets[i]])
                out[i] = values[targets[i]] = word
                changed_at[targets[i]] = step
                moved = True
        quiet = 0 if moved else quiet + 1
    return step


@njit(cache=True)
def run_with_delays(gates, delays, states, inputs, stimulus, warm, counts, seen, outputs):  # type: ignore[no-untyped-def]
    """Simulate with an inertial delay of every gate, in steps; gives the most steps that a cycle took."""
    codes, starts, targets = gates
    state_codes, state_starts, state_nets, complements = states
    values = np.zeros(counts.shape[0], np.uint64)
    values[1] = ~np.uint64(0)
    stack = np.zeros(64, np.uint64)
    for i in range(len(targets)):
        values[targets[i]] = _value(codes, starts[i], starts[i + 1], values, stack)
    out = values[targets].copy()
    history = np.zeros((len(targets), delays.max() + 1 if len(delays) else 1), np.uint64)
    following = np.zeros(len(state_nets), np.uint64)
    most = 0
    for cycle in range(stimulus.shape[0]):
        counting = cycle >= warm
        changed_at = np.full(len(values), -1, np.int64)
        evaluated = np.full(len(targets), -1, np.int64)
        for i in range(len(state_nets)):
            net = state_nets[i]
            if values[net] != following[i]:
                if counting:
                    _count(values[net] ^ following[i], counts[net])
                values[net] = following[i]
                changed_at[net] = 0
        for i in range(len(inputs)):
            net = inputs[i]
            if values[net] != stimulus[cycle, i]:
                if counting:
                    _count(values[net] ^ stimulus[cycle, i], counts[net])
                values[net] = stimulus[cycle, i]
                changed_at[net] = 0
        most = max(most, _settle(gates, delays, values, changed_at, out, history, evaluated, counting, counts, stack))
        for i in range(len(seen)):
            outputs[cycle, i] = values[seen[i]]
        _advance(state_codes, state_starts, state_nets, complements, values, following, stack)
    return most
