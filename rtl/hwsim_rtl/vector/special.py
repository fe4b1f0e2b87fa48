"""What exp, log, 1/x and 1/√x need beside a lane: the operands of each lap, and what a group keeps from lap to lap.

Normative: docs/contracts/numerics.md, section 6, and docs/contracts/cycles.md, section 2 (Vector); docs/rtl-vector.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_
from types import SimpleNamespace
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwsim.numerics import tables
from hwsim.program import LAP_ENTRY_CYCLES
from hwsim_rtl.arithmetic.floats import wire
from hwsim_rtl.dma.align import bits_for
from hwsim_rtl.vector.laps import LAP_BITS, LAPS, SPECIAL, Lap
from hwsim_rtl.verilog import Leaf

__all__ = ["LapControl", "SpecialLane", "lap_layout"]

_LIMITS = 0x42B20000, 0x42B00000  # 89, and 88 of negative operands
_DOUBLED = 54  # from this entry on, tables of logarithms are those of half the point
_INDEX_BITS = 7
#: Names of sources by operand, a constant apart.
_SOURCES = {
    "a": ("x", "exponent", "y", "z", "table"), "b": ("y", "z", "table", "power"),
    "c": ("x", "y", "z", "table", "point", "bias"),
}  # fmt: skip
_HIGH = 23  # first bit of a word beyond the mantissa
#: One block RAM: entries of exp with the leading bits of those of 1/x behind them; 1/b; 1/√x; ln b. The last entries of
#: 1/b and ln b are the first ones, but for the exponent of 1/b.
_WORDS = (
    *(
        tables.EXP[i % len(tables.EXP)] % (1 << _HIGH) | (word >> 15 & 0xFF) << _HIGH + 1
        for i, word in enumerate(tables.RECIPROCAL)
    ),
    *tables.LOG_RECIPROCAL[:-1], *tables.RECIPROCAL_ROOT, *tables.LOG[:-1],
)  # fmt: skip
_LESS_THAN_ONE = 126  # exponent field of the numbers from 1/2 on


def lap_layout(latency_cycles: int) -> data.StructLayout:
    """What all lanes are told of a lap, each part in the cycle in which it is used, of three.

    First: the slot to read, and whether the lap is the `first`; second: which function it is, whether the lap is the
    first (`begins`), and whether the second table of logarithms is meant; third: what A, B and C are, what is kept as X
    and Y, and where, whether the lap is the `last` one.
    """
    slot = bits_for(latency_cycles)
    chosen = {f"{name}_{source}": 1 for name, sources in _SOURCES.items() for source in sources}
    return data.StructLayout(
        {
            "read_slot": slot, "first": 1, "begins": 1, "second": 1, **{op.name.lower(): 1 for op in SPECIAL},
            **chosen, "b_constant": 32, "c_constant": 32, "x_of_y": 1, "y_of_z": 1, "y_of_table": 1, "last": 1,
            "write_slot": slot, "write": 1,
        }
    )  # fmt: skip


class LapControl(wiring.Component):
    """Say what a lap does, to all lanes alike.

    Parameters
    ----------
    latency_cycles : int
        λ: groups of a block.

    Members
    -------
    active : In(1), function : In(2)
        Laps are made, of the micro-operation with these low bits of its code; the same for all groups of a command.
    slot, lap : In
        Place in its block of the group whose lap begins, and its number from 0: with the read of the lap's group, where
        the lap is its first.
    how : Out(`lap_layout`)
        What the lanes do: the first part one cycle after that.
    """

    def __init__(self, latency_cycles: int) -> None:
        self.latency_cycles = latency_cycles
        slot = bits_for(latency_cycles)
        how = lap_layout(latency_cycles)
        super().__init__({"active": In(1), "function": In(2), "slot": In(slot), "lap": In(LAP_BITS), "how": Out(how)})

    def elaborate(self, platform: Any) -> Module:
        """Decode in the cycle before the one in which it is used."""
        m = Module()
        key, keys = Cat(self.function, self.lap), []
        for i in (1, 2):
            key = _registered(m, key, f"key_{i}")
            keys.append(key)
        slot = _registered(m, self.slot, "read_slot")
        first = _registered(m, self.lap == 0, "first")
        told: dict[str, Value] = {
            "read_slot": slot, "write_slot": _registered(m, _registered(m, slot, "slot_2"), "write_slot"),
            "first": first, "begins": _registered(m, first, "begins"), "write": _registered(m, self.active, "write"),
            "second": _registered(m, _decode(keys[0], lambda lap: lap.second), "second"),
        }  # fmt: skip
        told |= {op.name.lower(): _registered(m, self.function == int(op) & 3, op.name.lower()) for op in SPECIAL}
        third: dict[str, Callable[[Lap], int]] = {
            **{f"{name}_{source}": _is_source(name, source) for name, of in _SOURCES.items() for source in of},
            **{f"{name}_constant": _constant_of(name) for name in ("b", "c")},
            "x_of_y": lambda lap: lap.x == "y", "y_of_z": lambda lap: lap.y == "z",
            "y_of_table": lambda lap: lap.y == "table", "last": lambda lap: lap.last,
        }  # fmt: skip
        told |= {name: _registered(m, _decode(keys[1], value), name) for name, value in third.items()}
        m.d.comb += [self.how[name].eq(value) for name, value in told.items()]
        return m


def _is_source(name: str, source: str) -> Callable[[Lap], int]:
    return lambda lap: getattr(lap, name) == source


def _constant_of(name: str) -> Callable[[Lap], int]:
    """Bits of a constant; those that a logarithm's operands are made from."""

    def bits(lap: Lap) -> int:
        value = getattr(lap, name)
        return {"point": 0x80000000, "bias": 0xCB00007E}.get(value, 0) if isinstance(value, str) else int(value)

    return bits


def _decode(key: Value, value: Callable[[Lap], int]) -> Value:
    """What the list of laps says, bit by bit."""
    values = {number << 2 | int(op) & 3: int(value(lap)) for op in SPECIAL for number, lap in enumerate(LAPS[op])}
    width = max(1, max(values.values()).bit_length())
    ones = [[k for k, word in values.items() if word >> bit & 1] for bit in range(width)]
    return Cat(key.matches(*keys) if keys else C(0, 1) for keys in ones)


class SpecialLane(Leaf):
    """Beside one lane: takes the operand of a group in its first lap, and the lane's sum, and gives operands.

    Operands of a lap come `LAP_ENTRY_CYCLES` after the words of the line would, λ cycles after those of the lap before.

    Parameters
    ----------
    latency_cycles : int
        λ, 3 or more.
    wait_cycles : int
        From the sum of a lap to the cycle before its use: registers of the lane behind its adder.

    Members
    -------
    x : In(32)
        The group's word, in the cycle in which `how` says `first`.
    z : In(32)
        The lane's sum.
    how : In(`lap_layout`)
        What to do.
    a, b, c : Out(32)
        Operands of a MULTIPLY_ADD.
    """

    def __init__(self, latency_cycles: int, wait_cycles: int) -> None:
        self.latency_cycles, self.wait_cycles = latency_cycles, wait_cycles
        words = dict.fromkeys(("a", "b", "c"), Out(32))
        super().__init__({"x": In(32), "z": In(32), "how": In(lap_layout(latency_cycles)), **words})

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return f"VectorSpecialLane_l{self.latency_cycles}_w{self.wait_cycles}"

    def body(self) -> Module:
        """Build it: three cycles, each a register."""
        m = Module()
        how = self.how
        layout = data.StructLayout({"x": 32, "y": 32, "over": 1, "big": 1, "nan": 1, "sign": 1})
        m.submodules.kept = kept = Memory(shape=layout, depth=self.latency_cycles, init=[])
        read, write = kept.read_port(domain="comb"), kept.write_port()
        m.d.comb += read.addr.eq(how.read_slot)
        held = _registered(m, read.data, "held")
        x = _registered(m, Mux(how.first, self.x, read.data.x), "x_1")

        s = self._looked_up(m, x, held)
        z = self.z
        for i in range(self.wait_cycles + 1):
            z = _registered(m, z, f"z_{i}")

        m.d.comb += [
            write.en.eq(how.write),
            write.addr.eq(how.write_slot),
            write.data.eq(s.kept),
            write.data.x.eq(Mux(how.x_of_y, s.y, s.x)),
            write.data.y.eq(Mux(how.y_of_z, z, Mux(how.y_of_table, s.table, s.y))),
        ]
        for name, value in self._operands(s, z).items():
            m.d.comb += getattr(self, name).eq(_registered(m, value, f"given_{name}"))
        return m

    def _looked_up(self, m: Module, x: Value, held: Any) -> SimpleNamespace:
        """Second cycle: the tables' entry, the power of two of the last lap, and what no sequence gives."""
        how = self.how
        kept = _registered(m, held, "kept_2")
        over, big, nan, sign = _exceptions(m, how, x)
        with m.If(how.begins):
            m.d.sync += [kept.over.eq(over), kept.big.eq(big), kept.nan.eq(nan), kept.sign.eq(sign)]
        point = wire(m, (x[16:23] + x[15])[:8], "point")  # of a logarithm
        odd = ~x[23]
        index = _any_of(
            (how.exp, x[:6]), (how.log, point[:_INDEX_BITS]), (how.reciprocal, x[16:23]),
            (how.reciprocal_root, Cat(x[17:23], odd)),
        )  # fmt: skip
        m.submodules.tables = entries = Memory(shape=32, depth=len(_WORDS), init=_WORDS)
        entry = entries.read_port()
        m.d.comb += entry.addr.eq(Cat(index[:_INDEX_BITS], how.log, how.reciprocal_root | how.second))
        x_2, point_2 = _registered(m, x, "x_2"), _registered(m, point, "point_2")
        table = wire(m, _unpacked(how, entry.data, point_2[_INDEX_BITS], negative=x_2[14]), "table")
        return SimpleNamespace(
            kept=kept, x=x_2, y=kept.y, table=table, power=_registered(m, _power(how, x, held.over), "power"),
            point=point_2, doubled=_registered(m, point >= _DOUBLED, "doubled"),
        )  # fmt: skip

    def _operands(self, s: SimpleNamespace, z: Value) -> dict[str, Value]:
        """Third cycle: A, B and C."""
        how = self.how
        over = how.last & s.kept.over
        sign = Mux(how.exp, s.x[31], how.reciprocal | how.reciprocal_root)
        low = Mux(how.exp, s.x[23], ~(how.reciprocal_root & s.x[23]))
        mantissa = Cat(s.x[:23], low, Mux(how.exp, s.x[24:31], 0x3F)[:7], sign)  # ±m, −v/2, or the operand
        exponent = Cat(s.x[23:31], C(0, 15), C(0x96, 8), C(0, 1))
        instead = Cat(C(0, 22), s.kept.nan, s.kept.big.replicate(8), C(0, 1))
        signed = Cat(C(0, 31), s.kept.sign & how.last)
        a = _any_of(
            (how.a_x, mantissa), (how.a_exponent, exponent), (how.a_y & ~over, s.y), (how.a_z & ~over, z),
            (how.a_table, s.table), (over, instead),
        )  # fmt: skip
        power = Cat(C(0, 23), s.power, C(0, 1))
        b = _any_of((how.b_y, s.y), (how.b_z, z), (how.b_table, s.table), (how.b_power, power))
        two = s.point[_INDEX_BITS]
        point = Cat(C(0, 16), s.point[:_INDEX_BITS], (~two).replicate(7), two, C(0, 1))  # 1 + i/128
        c = _any_of(
            (how.c_x, s.x), (how.c_y, s.y), (how.c_z, z), (how.c_table, s.table), (how.c_point, point),
            (how.c_bias, ~s.doubled),
        )  # fmt: skip
        return {"a": a | signed, "b": b | how.b_constant, "c": c | how.c_constant}


def _exceptions(m: Module, how: Any, x: Value) -> tuple[Value, Value, Value, Value]:
    """Whether the result needs no sequence; if so, whether it is infinite or NaN, whether NaN; its sign. The sign of a
    reciprocal is that of its operand in any case.
    """
    sign, all_ones = x[31], wire(m, x[23:31].all(), "all_ones")
    zero = wire(m, ~x[23:31].any(), "zero")
    nan = wire(m, all_ones & x[:23].any(), "nan")
    beyond = wire(m, x[:31] > Mux(sign, _LIMITS[1], _LIMITS[0]), "beyond")
    no_real = wire(m, nan | (sign & ~zero), "no_real")  # of a logarithm or root
    positive_only = how.log | how.reciprocal_root
    over = Mux(how.exp, nan | beyond, zero | all_ones | (positive_only & sign))
    nan = Mux(positive_only, no_real, nan)
    big = Mux(how.exp, ~sign, how.log | zero) | nan
    return over, big, nan, Mux(how.log, zero, sign & ~how.exp)


def _power(how: Any, x: Value, over: Value) -> Value:
    """Exponent field of the last lap's power of two: 127 − e, 127 − h, or 126 + k, 127 + k where k is negative."""
    negative, odd = x[14], ~x[23]
    of = _any_of((how.exp, x[6:14]), (how.reciprocal, ~x[23:31]), (how.reciprocal_root, ~Cat(x[24:31], C(0, 1))))
    base = _any_of((how.exp, C(126, 8)), (how.reciprocal, C(255, 8)), (how.reciprocal_root, C(191, 8)))
    carry = (how.exp & negative) | (how.reciprocal_root & odd)
    return Mux(over, 127, (of + base + carry)[:8])


def _any_of(*choices: tuple[Value, Value]) -> Value:
    """The value whose condition holds, of which at most one does."""
    return reduce(or_, (Mux(condition, value, 0) for condition, value in choices))


def _unpacked(how: Any, word: Value, two: Value, *, negative: Value) -> Value:
    """Number of a word of the tables. `two`: the point of a logarithm is 2, whose logarithm, as listed, is 0.
    `negative`: the exponent of exp is, so its entry is not doubled.
    """
    one = how.reciprocal
    leading = Mux(one, word[_HIGH + 1 :], word[15:_HIGH])
    half = Cat(word[_HIGH] & ~(how.log & two), word[_HIGH + 1 :])
    high = Mux(how.exp, Cat(negative.replicate(7), ~negative, C(0, 1)), Mux(one, _LESS_THAN_ONE, half))
    return Cat(Mux(one, 0, word[:15])[:15], leading, high[: 32 - _HIGH])


def _registered(m: Module, value: Any, name: str) -> Any:
    register = Signal(value.shape(), name=name, reset_less=True)
    m.d.sync += register.eq(value)
    return register


assert LAP_ENTRY_CYCLES == 3  # cycles of `SpecialLane`
