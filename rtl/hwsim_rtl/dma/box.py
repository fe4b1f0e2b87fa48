"""The address generator of loads and stores: a box of lines, taps and beats, one beat a cycle.

`Prepare` makes a `box` of an encoded command, with all the multiplications; `BoxGenerator` walks it by additions alone.
Normative: docs/contracts/program.md, section 4; how it is built: docs/rtl-dma.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.hardware.formats import FORMAT_BITS, array_formats
from hwsim.program import FORMAT_CODES, Field, MoveField, MoveFlag
from hwsim_rtl.control.prepare import PreparerSignature
from hwsim_rtl.control.semaphores import SEMAPHORES
from hwsim_rtl.dma.align import add_modulo, bits_for

__all__ = ["ADDRESS_BITS", "BEAT", "BoxGenerator", "Geometry", "Prepare", "move_command"]

ADDRESS_BITS = 32
#: Bits of a count, a coordinate's limit, a number of beats; a coordinate has one more, for its sign.
COUNT_BITS = 16
LINE_BYTES_BITS = 20
TAP_BITS = 8
#: OPCODE of a load into the accumulator; 0 and 1 are the operands A and B in the scratchpad.
INTO_ACCUMULATOR = 2
_LEAST_LATENCY_CYCLES = 2
#: Products of products take a round after those of the first.
_FEWEST_ROUNDS = 2


@dataclass(frozen=True)
class Geometry:
    """What the data path of loads and stores needs of an accelerator.

    Attributes
    ----------
    beat_bytes : int
        Bytes of a beat.
    latency_cycles : int
        Request to data, write to response, as the cycle contract counts [cycles].
    cols, deep : int
        Words of an accumulator line; elements of a scratchpad line.
    slot_lines, banks, bank_lines : int
        Lines of half the accumulator; banks of the scratchpad and their lines.
    formats : tuple of str
        Formats of what loads and stores move; fp32 stands for all 32-bit words.
    operand_bits : int
        Width of a scratchpad element [bits].
    skewed : bool
        Sums lie transposed in the accumulator (input-stationary).
    """

    beat_bytes: int
    latency_cycles: int
    cols: int
    deep: int
    slot_lines: int
    banks: int
    bank_lines: int
    formats: tuple[str, ...]
    operand_bits: int
    skewed: bool

    @classmethod
    def of(cls, hw: Accelerator, formats: tuple[str, ...] | None = None) -> Geometry:
        """Take from a description; `formats` are those of the operands and fp32 unless given.

        Raises
        ------
        HwsimError
            If the generator has no hardware for it: several channels, a beat wider than a line, banks of an odd size.

        Examples
        --------
        >>> from hwsim.hardware import load_accelerator
        >>> Geometry.of(load_accelerator("edge-8x8-bf16")).words_per_beat("bf16")
        4
        """
        chosen = formats or (*array_formats(hw.array.operand_format), "fp32")
        found = cls(
            beat_bytes=hw.dram.beat_bytes,
            latency_cycles=hw.dram.latency_cycles,
            cols=hw.array.cols,
            deep=hw.line_elements,
            slot_lines=hw.accumulator_slot_lines,
            banks=hw.scratchpad.banks,
            bank_lines=hw.scratchpad_bank_lines,
            formats=tuple(dict.fromkeys(chosen)),
            operand_bits=FORMAT_BITS[hw.array.operand_format],
            skewed=hw.array.dataflow == "is",
        )
        found._check(hw)
        return found

    def _check(self, hw: Accelerator) -> None:
        if hw.dram.channels > 1:
            raise HwsimError(
                f"{hw.name}: the RTL has one memory channel, and dram.channels is {hw.dram.channels}; describe it "
                "with 1"
            )
        if hw.dram.latency_cycles < _LEAST_LATENCY_CYCLES:
            raise HwsimError(
                f"{hw.name}: dram.latency_cycles must be at least {_LEAST_LATENCY_CYCLES} cycles for the RTL, one for "
                f"the read of the accumulator and one for the memory, not {hw.dram.latency_cycles}"
            )
        widest = max(self.words_per_beat(format) for format in self.formats)
        limit = self.cols // 2 if self.skewed and self.cols % 2 == 0 else self.cols
        if widest > limit:
            part = "half an accumulator line (input-stationary)" if limit < self.cols else "an accumulator line"
            raise HwsimError(
                f"{hw.name}: a beat may fill {part}, {limit} words, and one of {self.beat_bytes} bytes holds {widest}; "
                "make dram.bytes_per_cycle smaller or array.cols larger"
            )
        if self.skewed and self.cols & (self.cols - 1):
            raise HwsimError(
                f"{hw.name}: input-stationary RTL must have a power of two of array.cols, not {self.cols}; choose "
                "another dataflow"
            )
        if self.bank_lines & (self.bank_lines - 1):
            raise HwsimError(
                f"{hw.name}: a scratchpad bank must have a power of two of lines, not {self.bank_lines}; change "
                "scratchpad.capacity_bytes or scratchpad.banks"
            )
        if max(FORMAT_BITS[format] for format in self.formats) > 8 * self.beat_bytes:
            raise HwsimError(
                f"{hw.name}: a beat must hold an element of 4 bytes and has {self.beat_bytes}; make "
                "dram.bytes_per_cycle at least 4"
            )

    def words_per_beat(self, format: str) -> int:
        """Elements of a beat."""
        return self.beat_bytes * 8 // FORMAT_BITS[format]

    @property
    def most_words(self) -> int:
        """Elements of a beat of the narrowest format."""
        return max(self.words_per_beat(format) for format in self.formats)

    @property
    def widths(self) -> tuple[int, ...]:
        """Bytes of an element, of all formats, ascending."""
        return tuple(sorted({FORMAT_BITS[format] // 8 for format in self.formats}))

    @property
    def line_bits(self) -> int:
        """Width of a line number, of either memory, and of a step between lines [bits]."""
        return bits_for(max(self.slot_lines, self.banks * self.bank_lines) * 2)

    @property
    def lane_bits(self) -> int:
        """Width of a lane of either memory [bits]."""
        return bits_for(max(self.cols, self.deep))

    @property
    def place(self) -> data.StructLayout:
        """Place in a memory: a line and a lane."""
        return data.StructLayout({"line": self.line_bits, "lane": self.lane_bits})

    @property
    def box(self) -> data.StructLayout:
        """A command that is ready to be walked.

        `address` is the first line's; `step_…` are bytes per index and per tap. `place` is where its first element
        goes; `by_image`, `by_pixel` and `by_tap` are steps of places, and pixels go on from image to image unless
        `image_restarts`. `wrap` is what a lane beyond the last adds to the line within a line of the box, `turn` from
        line to line. `tail` is a line's words, as full accumulator lines and lanes of one more.
        """
        signs = signed(COUNT_BITS + 1)
        counts = {f"count_{axis}": COUNT_BITS for axis in "bhw"} | {f"taps_{axis}": TAP_BITS for axis in "hw"}
        steps = {f"step_{name}": ADDRESS_BITS for name in ("b", "h", "w", "th", "tw")}
        coordinates = {f"{name}_{axis}": signs for name in ("start", "inc", "tap") for axis in "hw"}
        limits = {"limit_h": COUNT_BITS, "limit_w": COUNT_BITS}
        places = dict.fromkeys(("place", "by_image", "by_pixel", "by_tap"), self.place)
        return data.StructLayout(
            {
                "address": ADDRESS_BITS, **counts, **steps, **coordinates, **limits, "line_bytes": LINE_BYTES_BITS,
                "beats": COUNT_BITS, **places, "wrap": self.line_bits, "turn": self.line_bits,
                "row_step": self.lane_bits, "image_restarts": 1, "tail": self.place,
                "into_accumulator": 1, "half": 1, "fixed": 1,
                "transposed": 1, "lowest": 1, "format": 3, "exponent": signed(10),
            }
        )  # fmt: skip


def BEAT(geometry: Geometry) -> data.StructLayout:  # noqa: N802
    """What the generator says of a beat.

    `address` is a multiple of the beat; bytes `low` … `high − 1` belong to the line, none where they are equal.
    `place` is where the beat's first byte goes, be it the line's or not; `row` the number of the tile's line modulo the
    lanes of the scratchpad; `start` the place of the line's first element. `last` is its box's last beat.
    """
    bytes_bits = bits_for(geometry.beat_bytes + 1)
    return data.StructLayout(
        {
            "address": ADDRESS_BITS, "low": bytes_bits, "high": bytes_bits, "padding": 1, "place": geometry.place,
            "row": geometry.lane_bits, "start": geometry.place, "last": 1,
        }
    )  # fmt: skip


def move_command(geometry: Geometry) -> data.StructLayout:
    """A prepared load or store: the semaphores that it posts, and its box."""
    return data.StructLayout({"post": SEMAPHORES, "box": geometry.box})


class Prepare(wiring.Component):
    """Make boxes of encoded loads and stores: decoding, and the products that a walk by additions needs.

    Parameters
    ----------
    geometry : Geometry
        Of the data path.
    multipliers : int
        Multipliers that share the products, 1 or more.

    Attributes
    ----------
    layout : StructLayout
        `move_command`.
    cycles : int
        Rounds of the multipliers, ``⌈10 ÷ multipliers⌉`` or one more.

    Members
    -------
    words, valid, taken, prepared, done
        As `hwsim_rtl.control.PreparerSignature`.
    """

    def __init__(self, geometry: Geometry, multipliers: int = 1) -> None:
        self.geometry, self.multipliers = geometry, multipliers
        self.layout = move_command(geometry)
        super().__init__(PreparerSignature(self.layout))
        self.cycles = self._decode(Module()).rounds

    @classmethod
    def within(cls, geometry: Geometry, cycles: int) -> Prepare:
        """Give the one with the fewest multipliers that needs no more than so many cycles, or the quickest."""
        multipliers = 1
        while (found := cls(geometry, multipliers)).cycles > max(cycles, _FEWEST_ROUNDS):
            multipliers += 1
        return found

    def elaborate(self, platform: Any) -> Module:
        """Build it: the products are made one round after the other while the words stand."""
        m = Module()
        round_ = Signal(range(self.cycles + 1))
        m.d.comb += [self.done.eq(round_ == self.cycles), self.prepared.post.eq(self.words[1][16 : 16 + SEMAPHORES])]
        self._decode(m).build(round_)
        with m.If(~self.valid | self.taken):
            m.d.sync += round_.eq(0)
        with m.Elif(~self.done):
            m.d.sync += round_.eq(round_ + 1)
        return m

    def _decode(self, m: Module) -> _Products:
        products = _Products(m, self.multipliers)
        self._box(m, self.prepared.box, _Decoded(self.words, self.geometry), products)
        return products

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
        tap_lines = products.add(tap[0], d[MoveField.TILE_LINES], after=True)
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
            m.d.comb += [box.place.line.eq(line), box.wrap.eq(1), box.turn.eq(1)]
            m.d.comb += [box.tail.line.eq(tail[0]), box.tail.lane.eq(tail[1])]
            with m.If(d.transposed):
                m.d.comb += box.turn.eq(outer)
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
    """An encoded load or store by field; words 2 to 31 are the columns from `OPERAND` on."""

    def __init__(self, words: Any, geometry: Geometry) -> None:
        self._words, self._geometry = words, geometry
        self.is_store = words[0][:3] == 3
        self.into_accumulator = self.is_store | (words[0][3:8] == INTO_ACCUMULATOR)
        self.slot = words[0][8]
        self.transposed = self.flag(MoveFlag.TRANSPOSED) | self.flag(MoveFlag.TRANSPOSED_OUTER)

    def __getitem__(self, field: Any) -> Value:
        return self._words[int(field) - int(Field.OPERAND) + 2]

    def signed(self, field: Any) -> Value:
        """A coordinate or a step of one."""
        return self[field][: COUNT_BITS + 1].as_signed()

    def flag(self, flag: MoveFlag) -> Value:
        """One of the bits of FLAGS."""
        return self[Field.FLAGS][int(flag).bit_length() - 1]

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


def shift_of(code: Value) -> Value:
    """Give the binary logarithm of an element's bytes by the code of its format."""
    return Mux(code == FORMAT_CODES["fp32"], 2, code >= FORMAT_CODES["bf16"])


class _Products:
    """Products that few multipliers make in turn, each kept in a register until the box has left."""

    def __init__(self, m: Module, multipliers: int) -> None:
        self._m, self._multipliers = m, multipliers
        self._first: list[tuple[Value, Value, Signal]] = []
        self._then: list[tuple[Value, Value, Signal]] = []

    @property
    def rounds(self) -> int:
        """Cycles that all products take."""
        return -(-len(self._first) // self._multipliers) + -(-len(self._then) // self._multipliers)

    def add(self, small: Value, large: Value, *, after: bool = False, width: int = ADDRESS_BITS) -> Value:
        """Ask for a product, from the second pass on if a factor is a product itself."""
        result = Signal(width, name=f"product_{len(self._first)}_{len(self._then)}", reset_less=True)
        (self._then if after else self._first).append((small, large, result))
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

    def build(self, round_: Value) -> None:
        """Build the multipliers and what gives them their factors."""
        m = self._m
        slots = [self._first[i : i + self._multipliers] for i in range(0, len(self._first), self._multipliers)]
        slots += [self._then[i : i + self._multipliers] for i in range(0, len(self._then), self._multipliers)]
        small_bits = max(len(small) for small, _, _ in self._first + self._then) + 1
        for unit in range(self._multipliers):
            small, large = Signal(signed(small_bits)), Signal(32)
            product = small * large
            with m.Switch(round_):
                for number, slot in enumerate(slots):
                    if unit < len(slot):
                        with m.Case(number):
                            m.d.comb += [small.eq(slot[unit][0]), large.eq(slot[unit][1])]
                            m.d.sync += slot[unit][2].eq(product)


class BoxGenerator(wiring.Component):
    """Walk a box, one beat a cycle: images, rows, pixels, taps, beats, the last fastest.

    The first beat is given in the cycle of `start`, and the beats of a box that is not held up take
    ``lines × beats_per_line`` cycles, those of lines outside the tensor and beats without a byte included.

    Parameters
    ----------
    geometry : Geometry
        Of the data path.

    Members
    -------
    start : In(1)
        Begin with the box at the input, in this cycle; only while `ready`.
    box : In(`Geometry.box`)
        What to walk; looked at in the cycle of `start` alone.
    ready : Out(1)
        No box is being walked; high in the cycle after the last beat was taken.
    beat : Out(stream of `BEAT`)
        One beat after the other; stays while the reader is not ready.
    command : Out(`Geometry.box`)
        The box that `beat` belongs to.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        beat = stream.Signature(BEAT(geometry))
        ports = {"start": In(1), "box": In(geometry.box), "ready": Out(1), "beat": Out(beat)}
        super().__init__({**ports, "command": Out(geometry.box)})

    def elaborate(self, platform: Any) -> Module:
        """Build it: every level of the walk keeps where its present index began, so that nothing is ever taken back."""
        m, g = Module(), self.geometry
        layout = _state(g)
        state, now, then = (Signal(layout, name=name) for name in ("state", "now", "then"))
        box, kept, busy = self.command, Signal(g.box), Signal()
        m.d.comb += [self.ready.eq(~busy), box.eq(Mux(self.start, self.box, kept)), now.eq(state)]
        with m.If(self.start):
            m.d.sync += kept.eq(self.box)
            m.d.comb += self._initial(now)
        last = self._beat(m, now)
        self._step(m, now, then)
        m.d.comb += [self.beat.valid.eq(self.start | busy), self.beat.payload.last.eq(last)]
        with m.If(self.beat.valid):
            m.d.sync += [busy.eq(~(self.beat.ready & last)), state.eq(Mux(self.beat.ready, then, now))]
        return m

    def _initial(self, now: Any) -> Any:
        box = self.box
        levels = [now[f"address_{level}"].eq(box.address) for level in _LEVELS]
        places = [now[f"place_{level}"].eq(box.place) for level in ("b", "w", "tw")]
        return [
            *levels, *places, now.y_h.eq(box.start_h), now.y_th.eq(box.start_h), now.x_w.eq(box.start_w),
            now.x_tw.eq(box.start_w), now.beat.eq(0), now.row_b.eq(0), now.row_w.eq(0),
            *(now[f"index_{level}"].eq(0) for level in _LEVELS),
        ]  # fmt: skip

    def _beat(self, m: Module, now: Any) -> Any:
        """What the present beat is; gives whether it is the box's last."""
        g, box, out = self.geometry, self.command, self.beat.payload
        offset_bits = bits_for(g.beat_bytes) if g.beat_bytes > 1 else 0
        offset = now.address_tw[:offset_bits]
        first = Signal()
        left = Signal(LINE_BYTES_BITS + 1)
        back = Signal(g.lane_bits)  # elements from the beat's first byte to the line's
        place = Signal(g.place)
        shift = shift_of(box.format)
        m.d.comb += [
            first.eq(now.beat == 0),
            left.eq(Mux(first, box.line_bytes + offset, now.left)),
            back.eq(Mux(shift == 0, offset, Mux(shift == 1, offset[1:], offset[2:]))),
            place.eq(Mux(first, self._backward(now.place_tw, back), now.place)),
            out.address.eq(Mux(first, now.address_tw - offset, now.address)),
            out.low.eq(Mux(first, offset, 0)),
            out.high.eq(Mux(left[LINE_BYTES_BITS], 0, Mux(left >= g.beat_bytes, g.beat_bytes, left))),
            out.place.eq(place),
            out.row.eq(now.row_w),
            out.start.eq(now.place_tw),
            out.padding.eq((now.y_th < 0) | (now.y_th >= box.limit_h) | (now.x_tw < 0) | (now.x_tw >= box.limit_w)),
        ]
        self._left, self._place = left, place
        ends = self._ends(now)
        return ends["b"] & ends["h"] & ends["w"] & ends["th"] & ends["tw"] & (now.beat == box.beats - 1)

    def _ends(self, now: Any) -> Any:
        box = self.command
        limits = {"b": box.count_b, "h": box.count_h, "w": box.count_w, "th": box.taps_h, "tw": box.taps_w}
        return {level: now[f"index_{level}"] == limits[level] - 1 for level in _LEVELS}

    def _modulus(self, step: Any) -> Any:
        """Sum of a lane and a step, by the memory that the box goes to."""
        g, box = self.geometry, self.command

        def choose(lane: Value) -> Any:
            if g.cols == g.deep:
                return add_modulo(lane, step, g.cols)
            (low, low_passed), (high, high_passed) = add_modulo(lane, step, g.cols), add_modulo(lane, step, g.deep)
            into = box.into_accumulator
            return Mux(into, low, high)[: g.lane_bits], Mux(into, low_passed, high_passed)

        return choose

    def _backward(self, place: Any, back: Value) -> Any:
        """Place `back` elements before a place; before the first it is in no line, and nothing is written there."""
        g, box = self.geometry, self.command
        size = Mux(box.into_accumulator, g.cols, g.deep)
        passed = place.lane < back
        lane = Mux(box.transposed, place.lane, Mux(passed, place.lane + size - back, place.lane - back))
        line = Mux(box.transposed, place.line - back, place.line - Mux(passed, box.wrap, 0))
        return Cat(line[: g.line_bits], lane[: g.lane_bits])

    def _forward(self, place: Any, step: Any, wrap: Any) -> Any:
        lane, passed = self._modulus(step.lane)(place.lane)
        return Cat((place.line + step.line + Mux(passed, wrap, 0))[: self.geometry.line_bits], lane)

    def _step(self, m: Module, now: Any, then: Any) -> None:
        """The state of the next beat: the innermost level that has not ended goes on, those inside it begin again."""
        g, box = self.geometry, self.command
        ends = self._ends(now)
        words = Signal(g.lane_bits + 1)  # elements of a beat; it may be as many as there are lanes
        shift = shift_of(box.format)
        m.d.comb += words.eq(Mux(shift == 0, g.beat_bytes, Mux(shift == 1, g.beat_bytes // 2, g.beat_bytes // 4)))
        lane, passed = self._modulus(words)(self._place.lane)
        m.d.comb += [
            then.eq(now),
            then.beat.eq(now.beat + 1),
            then.left.eq(self._left - g.beat_bytes),  # its sign says that no byte is left
            then.address.eq(self.beat.payload.address + g.beat_bytes),
            then.place.line.eq(self._place.line + Mux(box.transposed, words, Mux(passed, box.wrap, 0))),
            then.place.lane.eq(Mux(box.transposed, self._place.lane, lane)),
        ]
        with m.If(now.beat == box.beats - 1):
            m.d.comb += [then.beat.eq(0), then.index_tw.eq(now.index_tw + 1)]
            m.d.comb += self._enter(then, "tw", now.address_tw + box.step_tw)
            m.d.comb += then.x_tw.eq(now.x_tw + box.tap_w)
            m.d.comb += then.place_tw.eq(self._forward(now.place_tw, box.by_tap, box.wrap))
            with m.If(ends["tw"]):
                m.d.comb += [then.index_tw.eq(0), then.index_th.eq(now.index_th + 1)]
                m.d.comb += self._enter(then, "th", now.address_th + box.step_th)
                m.d.comb += [then.x_tw.eq(now.x_w), then.y_th.eq(now.y_th + box.tap_h)]
                with m.If(ends["th"]):
                    m.d.comb += [then.index_th.eq(0), then.index_w.eq(now.index_w + 1)]
                    self._next_pixel(m, now, then, ends)

    def _next_pixel(self, m: Module, now: Any, then: Any, ends: Any) -> None:
        box = self.command
        x, pixel = (now.x_w + box.inc_w), Signal(self.geometry.place)
        row, _ = add_modulo(now.row_w, box.row_step, self.geometry.deep)
        m.d.comb += pixel.eq(self._forward(now.place_w, box.by_pixel, box.turn))
        m.d.comb += self._enter(then, "w", now.address_w + box.step_w)
        m.d.comb += [then.x_w.eq(x), then.x_tw.eq(x), then.y_th.eq(now.y_h)]
        m.d.comb += [then.place_w.eq(pixel), then.place_tw.eq(pixel), then.row_w.eq(row)]
        with m.If(ends["w"]):
            y = now.y_h + box.inc_h
            m.d.comb += [then.index_w.eq(0), then.index_h.eq(now.index_h + 1)]
            m.d.comb += self._enter(then, "h", now.address_h + box.step_h)
            m.d.comb += [then.x_w.eq(box.start_w), then.x_tw.eq(box.start_w), then.y_h.eq(y), then.y_th.eq(y)]
            with m.If(ends["h"]):
                m.d.comb += [then.index_h.eq(0), then.index_b.eq(now.index_b + 1)]
                m.d.comb += self._enter(then, "b", now.address_b + box.step_b)
                m.d.comb += [then.y_h.eq(box.start_h), then.y_th.eq(box.start_h)]
                with m.If(box.image_restarts):
                    image, first_row = Signal(self.geometry.place), Signal(self.geometry.lane_bits)
                    m.d.comb += image.eq(self._forward(now.place_b, box.by_image, box.turn))
                    m.d.comb += first_row.eq(add_modulo(now.row_b, C(1, 1), self.geometry.deep)[0])
                    m.d.comb += [then[f"place_{level}"].eq(image) for level in ("b", "w", "tw")]
                    m.d.comb += [then.row_b.eq(first_row), then.row_w.eq(first_row)]

    def _enter(self, then: Any, level: str, address: Any) -> Any:
        """Begin anew at a level and at all levels inside it."""
        return [then[f"address_{inner}"].eq(address) for inner in _LEVELS[_LEVELS.index(level) :]]


_LEVELS = ("b", "h", "w", "th", "tw")


def _state(g: Geometry) -> data.StructLayout:
    """Where the walk is: per level the index, the address, the coordinate and the place where it began."""
    indices = {f"index_{level}": TAP_BITS if level[0] == "t" else COUNT_BITS for level in _LEVELS}
    addresses = {f"address_{level}": ADDRESS_BITS for level in _LEVELS}
    coordinates = dict.fromkeys(("y_h", "y_th", "x_w", "x_tw"), signed(COUNT_BITS + 2))
    places = {f"place_{level}": g.place for level in ("b", "w", "tw")}
    rows = {"row_b": g.lane_bits, "row_w": g.lane_bits}
    beat = {"beat": COUNT_BITS, "left": unsigned(LINE_BYTES_BITS + 1), "address": ADDRESS_BITS, "place": g.place}
    return data.StructLayout({**indices, **addresses, **coordinates, **places, **rows, **beat})
