"""The walk of a box, one beat a cycle, by additions alone.

Normative: docs/contracts/program.md, section 4; how it is built: docs/rtl-dma.md.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim_rtl.dma.align import add_modulo, bits_for
from hwsim_rtl.dma.box import (
    ABOUT,
    ADDRESS_BITS,
    BEAT,
    COUNT_BITS,
    LEVELS,
    LINE_BYTES_BITS,
    NO_LIMIT,
    TAP_BITS,
    Geometry,
    shift_of,
)

__all__ = ["BoxGenerator"]

_LINES = LEVELS[:-1]


class BoxGenerator(wiring.Component):
    """Walk a box, one beat a cycle: images, rows, pixels, taps, beats, the last fastest.

    The first beat is given `WALK_CYCLES` after the `start`, and the beats of a box that is not held up take
    ``lines × beats_per_line`` cycles, those of lines outside the tensor and beats without a byte included. Three
    registers: where the line is; which bytes of it; the beat, with room for another one, so that a reader that is not
    ready is noticed a cycle later.

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
        A box that starts in this cycle begins right after the last beat of the one before. From registers.
    limit : In(address)
        Of beats that are `within`.
    beat : Out(stream of `BEAT`)
        One beat after the other; stays while the reader is not ready.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        beat = stream.Signature(BEAT(geometry))
        super().__init__(
            {
                "start": In(1), "box": In(geometry.box), "ready": Out(1, init=1),
                "limit": In(ADDRESS_BITS, init=NO_LIMIT), "beat": Out(beat),
            }
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Build it: every level of the walk keeps where its present index began, so that nothing is ever taken back."""
        m, g = Module(), self.geometry
        state, then = (Signal(_state(g), name=name, reset_less=True) for name in ("state", "then"))
        box, busy, last = Signal(g.box, reset_less=True), Signal(), Signal()
        room, soon_room = Signal(), Signal()  # for another beat, now and in the next cycle
        m.d.comb += last.eq(_all_last(state))
        self._step(m, box, state, then)
        # The control hears whether a box may start from a register: `~busy | (last & room)` of the next cycle.
        with m.If(self.ready):
            single = Cat(self.box[f"single_{level}"] for level in LEVELS).all()
            m.d.sync += [box.eq(self.box), busy.eq(self.start), *self._initial(state)]
            m.d.sync += self.ready.eq(~self.start | (single & soon_room))
        with m.Elif(room):
            m.d.sync += [state.eq(then), self.ready.eq(_all_last(then) & soon_room)]
        with m.Else():
            m.d.sync += self.ready.eq(last & soon_room)

        line, walked = Signal(_line(g), reset_less=True), Signal()
        with m.If(room):
            m.d.sync += [walked.eq(busy), *self._of_line(box, state, last, line)]
        beat = Signal(_unplaced(g))
        self._bytes(m, line, beat, walked & room)
        self._give(m, beat, walked, room, soon_room)
        return m

    def _initial(self, state: Any) -> list[Any]:
        """The first beat of the box at the input."""
        box, counts = self.box, _counts(self.box)
        return [
            *(state[f"left_{level}"].eq(counts[level]) for level in LEVELS),
            *(state[f"last_{level}"].eq(box[f"single_{level}"]) for level in LEVELS),
            *_levels(state, {level: box[f"single_{level}"] for level in LEVELS}),
            *(state[f"address_{level}"].eq(box.address) for level in _LINES),
            *(state[f"place_{level}"].eq(box.place) for level in ("b", "w", "tw")),
            *(state[name].eq(box.start_h) for name in ("y_h", "y_th")),
            *(state[name].eq(box.start_w) for name in ("x_w", "x_tw")),
            state.row_b.eq(0), state.row_w.eq(0), state.first.eq(1),
        ]  # fmt: skip

    def _step(self, m: Module, box: Any, now: Any, then: Any) -> None:
        """The state of the next beat: the innermost level that has not ended goes on, those inside it begin again."""
        counts = _counts(box)
        m.d.comb += [then.eq(now), then.first.eq(now.last_beat)]
        for level in LEVELS:
            enters, last = now[f"enters_{level}"] if level in _LINES else Const(1, 1), now[f"last_{level}"]
            with m.If(enters & last):
                m.d.comb += [then[f"left_{level}"].eq(counts[level]), then[f"last_{level}"].eq(box[f"single_{level}"])]
            with m.Elif(enters):
                left = now[f"left_{level}"]
                m.d.comb += [then[f"left_{level}"].eq(left - 1), then[f"last_{level}"].eq(left == 2)]
        m.d.comb += _levels(then, {level: then[f"last_{level}"] for level in LEVELS})
        enters, goes_on = ({level: now[f"{what}_{level}"] for level in _LINES} for what in ("enters", "goes_on"))
        self._addresses(m, box, now, then, enters, goes_on)
        self._coordinates(m, box, now, then, goes_on)
        self._places(m, box, now, then, goes_on)

    def _addresses(self, m: Module, box: Any, now: Any, then: Any, enters: Any, goes_on: Any) -> None:
        """One adder: the level that goes on, and its step."""
        here, step, address = (Signal(ADDRESS_BITS, name=f"address_{name}") for name in ("here", "step", "next"))
        for sum_, source, prefix in ((here, now, "address"), (step, box, "step")):
            chosen: Value = Const(0, ADDRESS_BITS)
            for level in _LINES:
                chosen = chosen | (source[f"{prefix}_{level}"] & goes_on[level].replicate(ADDRESS_BITS))
            m.d.comb += sum_.eq(chosen)
        m.d.comb += address.eq(here + step)
        for level in _LINES:
            with m.If(enters[level]):
                m.d.comb += then[f"address_{level}"].eq(address)

    def _coordinates(self, m: Module, box: Any, now: Any, then: Any, goes_on: Any) -> None:
        with m.If(goes_on["tw"]):
            m.d.comb += then.x_tw.eq(now.x_tw + box.tap_w)
        with m.If(goes_on["th"]):
            m.d.comb += [then.x_tw.eq(now.x_w), then.y_th.eq(now.y_th + box.tap_h)]
        with m.If(goes_on["w"]):
            x = now.x_w + box.inc_w
            m.d.comb += [then.x_w.eq(x), then.x_tw.eq(x), then.y_th.eq(now.y_h)]
        with m.If(goes_on["h"]):
            y = now.y_h + box.inc_h
            m.d.comb += [then.x_w.eq(box.start_w), then.x_tw.eq(box.start_w), then.y_h.eq(y), then.y_th.eq(y)]
        with m.If(goes_on["b"]):
            m.d.comb += [then.x_w.eq(box.start_w), then.x_tw.eq(box.start_w)]
            m.d.comb += [then.y_h.eq(box.start_h), then.y_th.eq(box.start_h)]

    def _places(self, m: Module, box: Any, now: Any, then: Any, goes_on: Any) -> None:
        """Taps begin again at their pixel; pixels go on from row to row, and from image to image unless it restarts."""
        g, into = self.geometry, box.into_accumulator
        tap = _forward(g, into, now.place_tw, box.by_tap, box.by_tap_wrapped)
        pixel = _forward(g, into, now.place_w, box.by_pixel, box.by_pixel_turned)
        image = _forward(g, into, now.place_b, box.by_image, box.by_image_turned)
        row, _ = add_modulo(now.row_w, box.row_step, g.deep)
        first_row, _ = add_modulo(now.row_b, Const(1, 1), g.deep)
        with m.If(goes_on["tw"]):
            m.d.comb += then.place_tw.eq(tap)
        with m.If(goes_on["th"]):
            m.d.comb += then.place_tw.eq(tap)
        with m.If(goes_on["w"] | goes_on["h"] | goes_on["b"]):
            m.d.comb += [then.place_w.eq(pixel), then.place_tw.eq(pixel), then.row_w.eq(row)]
        with m.If(goes_on["b"] & box.image_restarts):
            m.d.comb += [then[f"place_{level}"].eq(image) for level in ("b", "w", "tw")]
            m.d.comb += [then.row_b.eq(first_row), then.row_w.eq(first_row)]

    def _of_line(self, box: Any, state: Any, last: Value, line: Any) -> list[Any]:
        """What the next register takes of where the line is."""
        y, x = state.y_th, state.x_tw
        return [
            line.address.eq(state.address_tw), line.place.eq(state.place_tw), line.row.eq(state.row_w),
            line.first.eq(state.first), line.last.eq(last), line.bytes.eq(box.line_bytes),
            line.padding.eq((y < 0) | (y >= box.limit_h) | (x < 0) | (x >= box.limit_w)),
            *(line.about[name].eq(box[name]) for name in ABOUT),
        ]  # fmt: skip

    def _bytes(self, m: Module, line: Any, beat: Any, goes: Value) -> None:
        """Which bytes of a line are in the beat, and where the beat is."""
        g, about = self.geometry, line.about
        offset_bits = bits_for(g.beat_bytes) if g.beat_bytes > 1 else 0
        offset = line.address[:offset_bits]
        address, address_next = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS, reset_less=True)
        # The sign of what is left says that nothing is.
        left, left_next = Signal(LINE_BYTES_BITS + 1), Signal(LINE_BYTES_BITS + 1, reset_less=True)
        back = Signal(g.lane_bits)  # elements from the beat's first byte to the line's
        shift, none_left = shift_of(about.format), left_next[LINE_BYTES_BITS]
        m.d.comb += [
            address.eq(Mux(line.first, line.address - offset, address_next)),
            left.eq(Mux(line.first, line.bytes + offset, left_next)),
            back.eq(Mux(shift == 0, offset, Mux(shift == 1, offset[1:], offset[2:]))),
            beat.address.eq(address),
            beat.low.eq(Mux(line.first, offset, 0)),
            beat.high.eq(Mux(left[LINE_BYTES_BITS], 0, Mux(left >= g.beat_bytes, g.beat_bytes, left))),
            beat.padding.eq(line.padding), beat.within.eq(address < self.limit),
            # As `high > low`, sooner.
            beat.wanted.eq(~line.padding & Mux(line.first, line.bytes != 0, ~none_left & (left_next != 0))),
            beat.first.eq(line.first), beat.back.eq(_backward(g, line.place, back, about)),
            beat.row.eq(line.row), beat.start.eq(line.place), beat.last.eq(line.last), beat.about.eq(about),
        ]  # fmt: skip
        with m.If(goes):
            m.d.sync += [address_next.eq(address + g.beat_bytes), left_next.eq(left - g.beat_bytes)]

    def _give(self, m: Module, beat: Any, walked: Value, room: Signal, soon_room: Signal) -> None:
        """Keep a beat until it is taken, and one more, so that `room` is a register; follow the places in a line."""
        g, out = self.geometry, self.beat.payload
        main, spare = (Signal(_unplaced(g), name=name, reset_less=True) for name in ("main", "spare"))
        full, waits, left = Signal(), Signal(), Signal()
        m.d.comb += [room.eq(~waits), self.beat.valid.eq(full), left.eq(self.beat.ready | ~full)]
        m.d.comb += soon_room.eq(left | (room & ~walked))
        with m.If(left):
            m.d.sync += [main.eq(Mux(waits, spare, beat)), full.eq(waits | walked), waits.eq(0)]
        with m.Elif(room):
            m.d.sync += waits.eq(walked)
        with m.If(room):
            m.d.sync += spare.eq(beat)

        place, place_next, about = Signal(g.place), Signal(g.place, reset_less=True), main.about
        words = Signal(g.lane_bits + 1)  # elements of a beat; it may be as many as there are lanes
        shift = shift_of(about.format)
        m.d.comb += [
            place.eq(Mux(main.first, main.back, place_next)),
            words.eq(Mux(shift == 0, g.beat_bytes, Mux(shift == 1, g.beat_bytes // 2, g.beat_bytes // 4))),
            *(out[name].eq(main[name]) for name in out.shape().members if name != "place"),
            out.place.eq(place),
        ]
        lane, passed = _modulus(g, about.into_accumulator, place.lane, words)
        with m.If(full & self.beat.ready):
            m.d.sync += [
                place_next.line.eq(
                    Mux(about.transposed, place.line + words, Mux(passed, place.line + about.wrap, place.line))
                ),
                place_next.lane.eq(Mux(about.transposed, place.lane, lane)),
            ]


def _all_last(state: Any) -> Value:
    """Whether a state is that of the box's last beat."""
    return Cat(state[f"last_{level}"] for level in LEVELS).all()


def _levels(state: Any, last: dict[str, Value]) -> list[Any]:
    """Say of each level of a state whether it is entered with the next beat, and whether it goes on, by its lasts."""
    found, inside = [], last["beat"]
    for level in reversed(_LINES):
        found += [state[f"enters_{level}"].eq(inside), state[f"goes_on_{level}"].eq(inside & ~last[level])]
        inside = inside & last[level]
    return found


def _modulus(g: Geometry, into_accumulator: Value, lane: Value, step: Value) -> tuple[Value, Value]:
    """Sum of a lane and a step, by the memory that the box goes to, and whether it passed the last lane."""
    if g.cols == g.deep:
        return add_modulo(lane, step, g.cols)
    (low, low_passed), (high, high_passed) = add_modulo(lane, step, g.cols), add_modulo(lane, step, g.deep)
    return Mux(into_accumulator, low, high)[: g.lane_bits], Mux(into_accumulator, low_passed, high_passed)


def _backward(g: Geometry, place: Any, back: Value, about: Any) -> Value:
    """Place `back` elements before a place; before the first it is in no line, and nothing is written there."""
    size = Mux(about.into_accumulator, g.cols, g.deep)
    passed = place.lane < back
    lane = Mux(about.transposed, place.lane, Mux(passed, place.lane + size - back, place.lane - back))
    line = Mux(about.transposed, place.line - back, Mux(passed, place.line - about.wrap, place.line))
    return Cat(line[: g.line_bits], lane[: g.lane_bits])


def _forward(g: Geometry, into_accumulator: Value, place: Any, step: Any, longer: Value) -> Value:
    """Place a step further on; `longer` are its lines where the lane passes the last one."""
    lane, passed = _modulus(g, into_accumulator, place.lane, step.lane)
    return Cat(Mux(passed, place.line + longer, place.line + step.line)[: g.line_bits], lane)


def _counts(box: Any) -> dict[str, Value]:
    counts = {axis: box[f"count_{axis}"] for axis in "bhw"}
    return {**counts, "th": box.taps_h, "tw": box.taps_w, "beat": box.beats}


def _state(g: Geometry) -> data.StructLayout:
    """Where the walk is: per level the indices left, this one included, whether it is the last, whether the next beat
    begins another index or goes on with it, known a cycle ahead, and where the index began.
    """
    left = {f"left_{level}": TAP_BITS if level[0] == "t" else COUNT_BITS for level in LEVELS}
    last = {f"last_{level}": 1 for level in LEVELS}
    last |= {f"{what}_{level}": 1 for what in ("enters", "goes_on") for level in _LINES}
    addresses = {f"address_{level}": ADDRESS_BITS for level in _LINES}
    coordinates = dict.fromkeys(("y_h", "y_th", "x_w", "x_tw"), signed(COUNT_BITS + 2))
    places = {f"place_{level}": g.place for level in ("b", "w", "tw")}
    rows = {"row_b": g.lane_bits, "row_w": g.lane_bits}
    return data.StructLayout({**left, **last, **addresses, **coordinates, **places, **rows, "first": 1})


def _line(g: Geometry) -> data.StructLayout:
    """What is known of a line."""
    about = BEAT(g)["about"].shape
    return data.StructLayout(
        {
            "address": ADDRESS_BITS, "bytes": LINE_BYTES_BITS, "place": g.place, "row": g.lane_bits, "first": 1,
            "last": 1, "padding": 1, "about": about,
        }
    )  # fmt: skip


def _unplaced(g: Geometry) -> data.StructLayout:
    """A beat, with where its first element would lie if it is the line's first, instead of where it lies."""
    beat = {name: field.shape for name, field in BEAT(g) if name != "place"}
    return data.StructLayout({**beat, "first": 1, "back": g.place})
