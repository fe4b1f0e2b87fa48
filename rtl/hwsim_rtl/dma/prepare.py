"""Boxes of encoded loads and stores: decoding, and the products that a walk by additions needs.

Normative: docs/contracts/program.md, section 4; how it is built: docs/rtl-dma.md.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring

from hwsim.program import Field, MoveField, MoveFlag
from hwsim_rtl.control.prepare import PreparerSignature, only_measured
from hwsim_rtl.control.semaphores import SEMAPHORES
from hwsim_rtl.dma.align import bits_for
from hwsim_rtl.dma.box import ADDRESS_BITS, COUNT_BITS, LINE_BYTES_BITS, Geometry, move_command, shift_of

__all__ = ["Prepare"]

#: OPCODE of a load into the accumulator; 0 and 1 are the operands A and B in the scratchpad.
INTO_ACCUMULATOR = 2
#: So many multipliers never wait for one another.
_MOST_PRODUCTS = 12


class Prepare(wiring.Component):
    """Make boxes of encoded loads and stores: decoding, and the products that a walk by additions needs.

    Parameters
    ----------
    geometry : Geometry
        Of the data path.
    multipliers : int
        Multipliers that share the products, 1 or more.
    pipelined : bool
        There are registers before and behind the multipliers, and `prepared` is ahead. Else it takes fewer cycles,
        longer ones.

    Attributes
    ----------
    layout : StructLayout
        `move_command`.
    cycles : int
        Rounds of the multipliers, and those registers.
    ahead : bool
        As `hwsim_rtl.control.prepare.Preparer`.

    Members
    -------
    words, valid, taken, prepared, done
        As `hwsim_rtl.control.PreparerSignature`.
    """

    def __init__(self, geometry: Geometry, multipliers: int = 1, *, pipelined: bool = True) -> None:
        self.geometry, self.multipliers, self.pipelined = geometry, multipliers, pipelined
        self.layout = move_command(geometry)
        super().__init__(PreparerSignature(self.layout))
        self._products = _Products(geometry, multipliers, 2 if pipelined else 0)
        self.cycles, self.ahead = self._products.rounds + pipelined, pipelined

    @classmethod
    def within(cls, geometry: Geometry, cycles: int) -> Prepare:
        """Give the one with the fewest multipliers that needs no more than so many cycles, or the quickest."""
        for pipelined in (True, False):
            for multipliers in range(1, _MOST_PRODUCTS + 1):
                if (found := cls(geometry, multipliers, pipelined=pipelined)).cycles <= cycles:
                    return found
                only_measured(found)
        return found

    def elaborate(self, platform: Any) -> Module:
        """Build it: the products are made one round after the other while the words stand."""
        m = Module()
        round_, made = Signal(range(self.cycles + 1)), Signal(self.layout, reset_less=True)
        m.d.comb += [
            self.done.eq(round_ == self.cycles),
            self.soon.eq(round_ >= self.cycles - 1),
            made.post.eq(self.words[1][16 : 16 + SEMAPHORES]),
        ]
        self._products.begin()
        self._box(m, made.box, _Decoded(m, self.words, self.pipelined), self._products)
        self._products.build(m, round_)
        m.d.comb += self.prepared.eq(made)
        with m.If(~self.valid | self.taken):
            m.d.sync += round_.eq(0)
        with m.Elif(~self.done):
            m.d.sync += round_.eq(round_ + 1)
        return m

    def _box(self, m: Module, box: Any, d: Any, products: Any) -> None:
        step = {axis: d[Field[f"STEP_{axis.upper()}"]] for axis in "bhw"}
        start = [products.add(d.signed(Field[f"START_{a.upper()}"]), step[a]) for a in "hw"]
        for axis in "hw":
            upper = axis.upper()
            m.d.comb += [
                box[f"step_{axis}"].eq(products.add(d.signed(Field[f"INC_{upper}"]), step[axis])),
                box[f"step_t{axis}"].eq(products.add(d.signed(Field[f"TAP_{upper}"]), step[axis])),
                box[f"taps_{axis}"].eq(Mux(d.is_store, 1, d[Field[f"TAPS_{upper}"]])),
                box[f"limit_{axis}"].eq(d[Field[f"LIMIT_{upper}"]]),
                box[f"start_{axis}"].eq(d.signed(Field[f"START_{upper}"])),
                box[f"inc_{axis}"].eq(d.signed(Field[f"INC_{upper}"])),
                box[f"tap_{axis}"].eq(d.signed(Field[f"TAP_{upper}"])),
            ]
        m.d.comb += [box[f"count_{axis}"].eq(d[Field[f"COUNT_{axis.upper()}"]]) for axis in "bhw"]
        counts = {**{a: box[f"count_{a}"] for a in "bhw"}, **{f"t{a}": box[f"taps_{a}"] for a in "hw"}}
        counts["beat"] = box.beats
        m.d.comb += [box[f"single_{level}"].eq(count == 1) for level, count in counts.items()]
        m.d.comb += [
            box.address.eq(d[Field.OFFSET] + start[0] + start[1]),
            box.step_b.eq(step["b"]),
            box.line_bytes.eq(d[Field.LINE_BYTES]),
            box.beats.eq(d[Field.BEATS]),
            box.into_accumulator.eq(d.into_accumulator),
            box.half.eq(d.slot & ~d.flag(MoveFlag.FIXED)),
            box.fixed.eq(d.flag(MoveFlag.FIXED)),
            box.transposed.eq(d.transposed),
            box.lowest.eq(d.flag(MoveFlag.LOWEST)),
            box.format.eq(d[MoveField.FORMAT]),
            box.exponent.eq(d.exponent),
        ]
        self._places(m, box, d, products)

    def _places(self, m: Module, box: Any, d: Any, products: Any) -> None:
        """Steps of places: words of the accumulator and columns of the scratchpad become lines and lanes."""
        g = self.geometry
        place, outer, line = d[MoveField.PLACE], d[MoveField.PLACE_OUTER], d[MoveField.LINE]
        count = d.elements
        by_pixel, by_image = products.divide(place, g.cols, g), products.divide(outer, g.cols, g)
        tail = products.divide(count, g.cols, g)
        tap = products.divide(d[MoveField.TAP_COLUMNS], g.deep, g)
        batch = products.divide(d[Field.COUNT_B], g.deep, g)
        # The quotient is a product itself where it is no mere choice of bits.
        tap_lines = products.add(tap[0], d[MoveField.TILE_LINES], after=bool(g.deep & (g.deep - 1)))
        turn = Signal(g.line_bits)
        m.d.comb += [
            box.by_image_turned.eq(box.by_image.line + turn),
            box.by_pixel_turned.eq(box.by_pixel.line + turn),
            box.by_tap_wrapped.eq(box.by_tap.line + box.wrap),
        ]
        with m.If(~d.into_accumulator):
            m.d.comb += [
                box.place.line.eq(line + Mux(d.slot, d[MoveField.SPAN], 0)),
                box.by_tap.line.eq(Mux(d.flag(MoveFlag.EXPANDED), tap_lines, 0)),
                box.by_tap.lane.eq(Mux(d.flag(MoveFlag.EXPANDED), tap[1], 0)),
                box.by_pixel.line.eq(Mux(d.flag(MoveFlag.TAPS_FIRST), d[Field.COUNT_B], 1)),
                box.row_step.eq(Mux(d.flag(MoveFlag.TAPS_FIRST), batch[1], 1)),
                box.by_image.line.eq(1),
                box.image_restarts.eq(d.flag(MoveFlag.TAPS_FIRST)),
                box.wrap.eq(d[MoveField.TILE_LINES]),
            ]
        with m.Else():
            m.d.comb += [box.place.line.eq(line), box.wrap.eq(1), turn.eq(1)]
            m.d.comb += [box.tail.line.eq(tail[0]), box.tail.lane.eq(tail[1])]
            with m.If(d.transposed):
                m.d.comb += turn.eq(outer)
            with m.If(d.flag(MoveFlag.TRANSPOSED_OUTER)):
                m.d.comb += [box.by_pixel.line.eq(place), box.by_image.lane.eq(1), box.image_restarts.eq(1)]
            with m.Elif(d.flag(MoveFlag.TRANSPOSED)):
                m.d.comb += [box.by_pixel.lane.eq(1), box.by_image.lane.eq(1)]
            with m.Else():
                m.d.comb += [
                    box.by_pixel.line.eq(by_pixel[0]),
                    box.by_pixel.lane.eq(by_pixel[1]),
                    box.by_image.line.eq(by_image[0]),
                    box.by_image.lane.eq(by_image[1]),
                    box.image_restarts.eq(1),
                ]


class _Decoded:
    """An encoded load or store by field; words 2 to 31 are the columns from `OPERAND` on.

    Choices come a cycle after the words if it is pipelined: they choose between products, which come later.
    """

    def __init__(self, m: Module, words: Any, pipelined: bool) -> None:
        self._m, self._words, self._pipelined = m, words, pipelined
        is_store = words[0][:3] == 3
        self.is_store = self._choice(is_store)
        self.into_accumulator = self._choice(is_store | (words[0][3:8] == INTO_ACCUMULATOR))
        self.slot = words[0][8]
        self._flags = self._choice(self[Field.FLAGS][: len(MoveFlag)])
        self.transposed = self.flag(MoveFlag.TRANSPOSED) | self.flag(MoveFlag.TRANSPOSED_OUTER)

    def __getitem__(self, field: Any) -> Value:
        return self._words[int(field) - int(Field.OPERAND) + 2]

    def signed(self, field: Any) -> Value:
        """A coordinate or a step of one."""
        return self[field][: COUNT_BITS + 1].as_signed()

    def flag(self, flag: MoveFlag) -> Value:
        """One of the bits of FLAGS."""
        return self._flags[int(flag).bit_length() - 1]

    def _choice(self, value: Value) -> Value:
        return _registered(self._m, value) if self._pipelined else value

    @property
    def elements(self) -> Value:
        """Elements of a line."""
        size, bytes_ = shift_of(self[MoveField.FORMAT]), self[Field.LINE_BYTES][:LINE_BYTES_BITS]
        return Mux(size == 0, bytes_, Mux(size == 1, bytes_[1:], bytes_[2:]))

    @property
    def exponent(self) -> Value:
        """EXPONENT, −512 to 511: beyond that every number becomes a zero, or infinite, all the same."""
        wide = self[MoveField.EXPONENT].as_signed()
        return Mux(wide < -512, -512, Mux(wide > 511, 511, wide))


class _Products:
    """Products that few multipliers make in turn, each kept in a register until the next command.

    Parameters
    ----------
    geometry : Geometry
        Decides how many there are: divisions are products where the divisor is no power of two.
    multipliers : int
        How many.
    stages : int
        Registers on the way to a product's own: 0, or 2, before and behind the multiplier.
    """

    def __init__(self, geometry: Geometry, multipliers: int, stages: int) -> None:
        self._multipliers, self._stages = multipliers, stages
        by_cols, by_deep = (bool(size & (size - 1)) for size in (geometry.cols, geometry.deep))
        first = 6 + 3 * by_cols + 2 * by_deep + (not by_deep)
        self._begins, round_ = [], 0  # the first round of each pass
        for count in (first, int(by_deep)):
            self._begins.append(round_)
            round_ += -(-count // multipliers) + stages * bool(count)
        self.rounds = round_

    def begin(self) -> None:
        """Forget what was asked for."""
        self._asked: tuple[list[tuple[Value, Value, Signal]], ...] = [], []

    def add(self, small: Value, large: Value, *, after: bool = False, width: int = ADDRESS_BITS) -> Value:
        """Ask for a product, made after the others if a factor is a product itself."""
        asked = self._asked[after]
        result = Signal(width, name=f"product_{int(after)}_{len(asked)}", reset_less=True)
        asked.append((small, large, result))
        return result

    def divide(self, number: Value, by: int, geometry: Geometry) -> tuple[Value, Value]:
        """Quotient and remainder by a constant: exact by a reciprocal rounded up, for all numbers of `bits` bits."""
        shift = (by - 1).bit_length()
        bits = max(COUNT_BITS, bits_for(geometry.slot_lines * geometry.cols + 1))
        if by == 1 << shift:
            return number[shift:bits], number[:shift]
        reciprocal = C(-(-(1 << bits + shift) // by), bits + 1)
        product = self.add(reciprocal, number[:bits], width=2 * bits + 1)
        quotient = product[bits + shift :]
        return quotient, (number[:bits] - quotient * by)[:shift]

    def build(self, m: Module, round_: Value) -> None:
        """Build the multipliers and what gives them their factors."""
        slots = {
            begin + i // self._multipliers: asked[i : i + self._multipliers]
            for begin, asked in zip(self._begins, self._asked, strict=True)
            for i in range(0, len(asked), self._multipliers)
        }
        small_bits = max(len(small) for slot in slots.values() for small, _, _ in slot) + 1
        for unit in range(self._multipliers):
            small, large = Signal(signed(small_bits)), Signal(32)
            mine = {number: slot[unit] for number, slot in slots.items() if unit < len(slot)}
            with m.Switch(round_):
                for number, (one, other, _) in mine.items():
                    with m.Case(number):
                        m.d.comb += [small.eq(one), large.eq(other)]
            if self._stages:
                small, large = _registered(m, small), _registered(m, large)
            product = _registered(m, small * large) if self._stages else small * large
            with m.Switch(round_):
                for number, (_, _, result) in mine.items():
                    with m.Case(number + self._stages):
                        m.d.sync += result.eq(product)


def _registered(m: Module, value: Value) -> Signal:
    register = Signal(value.shape(), reset_less=True)
    m.d.sync += register.eq(value)
    return register
