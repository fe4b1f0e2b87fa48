"""Moving elements to other places and times: rotation by any amount, sums modulo any size, registers."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value

__all__ = ["add_modulo", "at_least", "bits_for", "later", "rotate"]


def bits_for(count: int) -> int:
    """Width of a number from 0 to ``count − 1`` [bits], 1 at least.

    >>> bits_for(1), bits_for(8), bits_for(9)
    (1, 3, 4)
    """
    return max(1, (count - 1).bit_length())


def rotate(m: Module, items: Sequence[Value], amount: Value, name: str, *, back: bool = False) -> list[Value]:
    """Move item ``i`` to place ``(i + amount) mod len(items)``, or `back` again; the amount is less than their
    number.

    There are fewest multiplexers where few first items are anything but 0 and, `back`, where few first places matter.
    """
    now = list(items)
    bits = [bit for bit in range(len(amount)) if 1 << bit < len(items)]
    for bit in reversed(bits) if back else bits:
        moved = [Signal(item.shape(), name=f"{name}_{1 << bit}_{place}") for place, item in enumerate(now)]
        m.d.comb += [
            target.eq(Mux(amount[bit], now[(place + (1 if back else -1) * (1 << bit)) % len(now)], now[place]))
            for place, target in enumerate(moved)
        ]
        now = list(moved)
    return now


def add_modulo(lane: Value, step: Value, size: int) -> tuple[Value, Value]:
    """Add two numbers below `size`; gives the sum modulo `size`, and whether it passed `size`."""
    width = bits_for(size)
    total = lane + step
    if size == 1 << width:
        return total[:width], total[width : width + 1].any()
    passed = total >= size
    return Mux(passed, total - size, total)[:width], passed


def at_least(limit: Value, places: int) -> Value:
    """Bits, place 0 lowest: whether the place is the limit or above."""
    return Cat(C(place, bits_for(places)) >= limit for place in range(places))


def later(m: Module, value: Value, name: str, *, reset: bool = False) -> Signal:
    """Give what a value was in the cycle before."""
    register = Signal(value.shape(), name=name, reset_less=not reset)
    m.d.sync += register.eq(value)
    return register
