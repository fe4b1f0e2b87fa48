"""What holds of the walk of a box and of the beats under way for ever, whatever commands, memory and reader do.

Specifications for `hwsim_rtl.prove`; their inputs are free variables. Claims that look inside a component make the
others follow by induction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from hwsim.program import FORMAT_CODES
from hwsim_rtl.control.spec import add_around
from hwsim_rtl.dma.box import ADDRESS_BITS, COUNT_BITS, LEVELS, LINE_BYTES_BITS, Geometry
from hwsim_rtl.dma.pending import _BUFFERED_FROM_CYCLES, Pending
from hwsim_rtl.dma.walk import BoxGenerator, _counts
from hwsim_rtl.prove.claims import Claims, Inside

__all__ = ["PendingSpec", "WalkSpec"]

_BEAT = data.StructLayout({"tag": 2, "moves": 1})


class PendingSpec(wiring.Component):
    """No beat is lost, doubled, changed or overtaken; each leaves in its time, or when its answer comes, not before.

    One beat, any, is marked when it enters.

    Parameters
    ----------
    latency : int
        Of the queue [cycles].

    Members
    -------
    valid, beat : In(1), In(3)
        A request.
    answer : In(1)
        Whether the next answer is there.
    mark : In(1)
        Watch the beat that enters.
    """

    def __init__(self, latency: int) -> None:
        self.latency = latency
        super().__init__({"valid": In(1), "beat": In(_BEAT), "answer": In(1), "mark": In(1)})

    def component(self) -> Pending:
        """What is judged."""
        return Pending(_BEAT, self.latency)

    def elaborate(self, platform: Any) -> Module:
        """Build the queue, the watch and the claims."""
        m = Module()
        claims, dut, latency = Claims(m, platform), self.component(), self.latency
        inside = Inside(dut, platform)
        m.submodules.dut = inside.fragment
        level, ahead = Signal(range(latency + 4)), Signal(range(latency + 4))
        since = Signal(range(latency + 2))  # cycles since what is watched entered, up to latency + 1
        watching, item = Signal(), Signal(_BEAT)
        entered, left = Signal(), Signal()
        m.d.comb += [
            dut.request.valid.eq(self.valid),
            dut.request.payload.eq(self.beat),
            dut.answer.eq(self.answer),
            entered.eq(self.valid & dut.request.ready),
            left.eq(dut.beat.valid),
        ]
        m.d.sync += level.eq(level + entered - left)
        claims.holds("no more beats than places", level <= latency + 2)
        claims.holds("none leaves that is not there", ~left | (level != 0))
        claims.holds("there is room for those of the latency", dut.request.ready | (level > latency))
        claims.holds("an answer is taken with its beat", dut.take == (left & dut.beat.payload.moves))
        with m.If(watching):
            its_turn, late = Signal(), Signal()
            m.d.comb += [its_turn.eq(ahead == 0), late.eq(since >= latency)]
            claims.helps("what is watched is there", ahead < level)
            claims.holds("it leaves unchanged", ~(left & its_turn) | (dut.beat.payload == item))
            claims.holds("it does not leave before its time", ~(left & its_turn) | late)
            goes = its_turn & late & (~item.moves | self.answer)
            claims.holds("it leaves in its time, when the answer is there", ~goes | left)
            m.d.sync += since.eq(Mux(since > latency, since, since + 1))
            with m.If(left):
                m.d.sync += [ahead.eq(ahead - 1), watching.eq(ahead != 0)]
            claims.seen("it leaves in its time", left & its_turn & (since == latency))
            claims.seen("it leaves late", left & its_turn & (since > latency) & item.moves)
        with m.Elif(entered & self.mark):
            m.d.sync += [watching.eq(1), item.eq(self.beat), ahead.eq(level - left), since.eq(1)]
        claims.seen("no room", self.valid & ~dut.request.ready)
        self._ages(m, claims, inside, (entered, level, watching, since, ahead))
        self._places(m, claims, inside, (level, watching, ahead, item))
        return m

    def _ages(self, m: Module, claims: Claims, inside: Inside, registers: Any) -> None:
        """How many beats are younger than so many cycles, by counting on, and what it says of the watched one."""
        entered, level, watching, since, ahead = registers
        latency, age, old = self.latency, inside["age"], inside["old"]
        younger = [Signal(range(latency + 4), name=f"younger_{i}") for i in range(latency)]
        m.d.sync += [count.eq(entered + (younger[i - 1] if i else 0)) for i, count in enumerate(younger)]
        for i, count in enumerate(younger):
            claims.helps(f"{i}: ages inside", count == age[i] + (younger[i - 1] if i else 0))
            claims.helps(f"{i}: no fewer than the youngest", (count >= age[0]) & (count <= i + 1))
        claims.helps("every beat is young or old", younger[-1] + old == level)
        with m.If(watching):
            claims.helps("an old one is among the old", (since <= latency) | (ahead < old))
            with m.If(since <= latency):
                behind = Array([C(0, 1), C(0, 1), *younger])[since]  # counts of since − 2
                claims.helps("a young one's age is inside", (since != 0) & (age << 1).bit_select(since, 1))
                claims.helps("those that came later are behind it", ahead + behind + 1 == level)

    def _places(self, m: Module, claims: Claims, inside: Inside, registers: Any) -> None:
        """Where the beats lie in the queue."""
        level, watching, ahead, item = registers
        produce, consume = inside["queue.produce"], inside["queue.consume"]
        buffered = self.latency >= _BUFFERED_FROM_CYCLES
        places = self.latency + (1 if buffered else 2)
        out = inside["queue.r_rdy"] if buffered else C(0, 1)
        stored = inside["queue.inner_level" if buffered else "queue.level"]
        claims.helps("level inside", (stored + out == level) & (stored <= places))
        claims.helps("places inside", (consume < places) & (produce == add_around(consume, stored, places)))
        if buffered:
            just = (stored == 1) & inside["age"][0]
            claims.helps("the first beat goes to the output at once", out | (stored == 0) | just)
        with m.If(watching):
            place = add_around(consume, ahead - out, places)
            lies = Mux(out & (ahead == 0), inside["queue.r_data"], inside.peek(m, "queue.storage", place))
            claims.helps("what is watched lies there", lies == item.as_value())


class WalkSpec(wiring.Component):
    """The walk passes each line and beat of its box once, in order, to the last; it loses and doubles none on the way.

    The reference counts indices up, digit by digit, where the walk counts what is left down; it adds up the steps of
    each level apart, and the bytes of a line. All of it for boxes whose numbers fit, one behind the other, with a
    reader that is ready or not.

    Parameters
    ----------
    geometry : Geometry
        Of the data path.

    Members
    -------
    start, box, taken : In(1), In(`Geometry.box`), In(1)
        As those of `BoxGenerator`; `box` may be anything while there is no start.
    mark : In(1)
        Watch the beat that leaves the first register.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        super().__init__({"start": In(1), "box": In(geometry.box), "taken": In(1), "mark": In(1)})

    def component(self) -> BoxGenerator:
        """What is judged."""
        return BoxGenerator(self.geometry)

    def elaborate(self, platform: Any) -> Module:
        """Build the walk, the references and the claims."""
        m = Module()
        claims, dut = Claims(m, platform), self.component()
        inside = Inside(dut, platform)
        m.submodules.dut = inside.fragment
        m.d.comb += [dut.start.eq(self.start), dut.box.eq(self.box), dut.beat.ready.eq(self.taken)]
        claims.given("a box starts when the walk is ready", ~self.start | dut.ready)
        claims.given("its numbers fit", ~self.start | self._legal(self.box))
        walk = _Walk(
            dut=dut,
            busy=inside["busy"],
            walked=inside["walked"],
            full=inside["full"],
            waits=inside["waits"],
            state=inside["state"],
            box=inside["box"],
            line=inside["line"],
            beat=inside["beat"],
            main=inside["main"],
            spare=inside["spare"],
            place_next=inside["place_next"],
            address_next=inside["address_next"],
            left_next=inside["left_next"],
        )
        with m.If(walk.busy):
            claims.helps("the box that is kept fits", self._legal(walk.box))
        moves = self._indices(m, claims, walk)
        self._sums(m, claims, walk, moves)
        self._under_way(m, claims, walk)
        self._bytes(m, claims, walk, moves)
        self._lanes(m, claims, walk)
        return m

    def _size(self, about: Any) -> Value:
        return Mux(about.into_accumulator, self.geometry.cols, self.geometry.deep)

    def _fits(self, about: Any) -> Value:
        """Whether the format is one of the machine's."""
        return Cat(about.format == FORMAT_CODES[format] for format in self.geometry.formats).any()

    def _legal(self, box: Any) -> Value:
        """What the preparation of a command gives."""
        g, counts = self.geometry, _counts(box)
        singles = [(box[f"single_{level}"] == (counts[level] == 1)) & (counts[level] != 0) for level in LEVELS]
        lanes = [box[name].lane < self._size(box) for name in ("place", "by_tap", "by_pixel", "by_image")]
        line = (box.beats * g.beat_bytes < box.line_bytes + 2 * g.beat_bytes) & (
            box.line_bytes + g.beat_bytes <= 1 << LINE_BYTES_BITS
        )
        return Cat(*singles, *lanes, box.row_step < g.deep, line, self._fits(box)).all()

    def _indices(self, m: Module, claims: Claims, walk: _Walk) -> _Moves:
        """Indices, from 0 up, as digits of one number that each beat increases by one."""
        counts, carry = _counts(walk.box), walk.passes
        moves = _Moves({}, {}, {})
        ends: Value = C(1, 1)
        for level in reversed(LEVELS):
            index = Signal.like(counts[level], name=f"index_{level}")
            at_end = Signal(name=f"at_end_{level}")
            m.d.comb += at_end.eq(index + 1 == counts[level])
            with m.If(walk.dut.ready):
                m.d.sync += index.eq(0)
            with m.Elif(carry):
                m.d.sync += index.eq(Mux(at_end, 0, index + 1))
            with m.If(walk.busy):
                left = (counts[level] - index)[: len(index)]
                claims.holds(f"{level}: index below its count", index < counts[level])
                claims.helps(f"{level}: what is left inside", walk.state[f"left_{level}"] == left)
                claims.helps(f"{level}: last inside", walk.state[f"last_{level}"] == at_end)
                if level != LEVELS[-1]:
                    claims.helps(f"{level}: entered inside", walk.state[f"enters_{level}"] == ends)
                    claims.helps(f"{level}: going on inside", walk.state[f"goes_on_{level}"] == (ends & ~at_end))
            moves.index[level], moves.enters[level], moves.goes_on[level] = index, carry, carry & ~at_end
            carry, ends = carry & at_end, ends & at_end
        with m.If(walk.busy):
            claims.helps("first inside", walk.state.first == (moves.index["beat"] == 0))
            claims.holds("it is over with the last beat of the last line, not before", walk.dut.ready == carry)
        with m.Else():
            claims.holds("ready for another box", walk.dut.ready)
        several = (walk.box.count_w == 2) & (walk.box.taps_h == 2) & (walk.box.beats == 2) & (walk.box.count_b == 1)
        claims.seen("a box of several lines is over as the next one starts", self.start & walk.busy & several)
        return moves

    def _sums(self, m: Module, claims: Claims, walk: _Walk, moves: _Moves) -> None:
        """Addresses and coordinates as sums of the steps of each level, added apart."""
        state, box, bits = walk.state, walk.box, len(walk.state.y_h)
        sums = {level: Signal(ADDRESS_BITS, name=f"sum_{level}") for level in LEVELS[:-1]}
        along = {level: Signal(bits, name=f"along_{level}") for level in ("h", "w", "th", "tw")}
        steps = [(sums[level], box[f"step_{level}"], level) for level in sums]
        steps += [(along[level], box[f"inc_{level}" if level in "hw" else f"tap_{level[1]}"], level) for level in along]
        for own, step, level in steps:
            with m.If(walk.dut.ready):
                m.d.sync += own.eq(0)
            with m.Elif(moves.goes_on[level]):
                m.d.sync += own.eq(own + step)
            with m.Elif(moves.enters[level]):
                m.d.sync += own.eq(0)
        with m.If(walk.busy):
            total: Value = box.address
            for level, own in sums.items():
                total = (total + own)[:ADDRESS_BITS]
                claims.holds(f"{level}: address", state[f"address_{level}"] == total)
            for outer, inner, start, name in (("h", "th", box.start_h, "y"), ("w", "tw", box.start_w, "x")):
                first = (start + along[outer])[:bits]
                second = (first + along[inner])[:bits]
                claims.holds(f"{outer}: coordinate", state[f"{name}_{outer}"].as_unsigned() == first)
                claims.holds(f"{inner}: coordinate", state[f"{name}_{inner}"].as_unsigned() == second)

    def _under_way(self, m: Module, claims: Claims, walk: _Walk) -> None:
        """Beats between the first register and the reader: counted, and any one watched."""
        out, count, ahead = walk.dut.beat, Signal(3), Signal(3)
        watching, leaves = Signal(), Signal()
        item = Signal(data.StructLayout({"place": self.geometry.place, "row": self.geometry.lane_bits, "last": 1}))
        m.d.comb += leaves.eq(out.valid & self.taken)
        m.d.sync += count.eq(count + walk.passes - leaves)
        claims.helps("as many under way as have passed and not left", count == walk.walked + walk.full + walk.waits)
        claims.helps("the second is kept behind a first", ~walk.waits | walk.full)
        with m.If(watching):
            with m.If(leaves):
                m.d.sync += [ahead.eq(ahead - 1), watching.eq(ahead != 0)]
            claims.helps("what is watched is under way", ahead < count)
            own = _item(out.payload.start, out.payload.row, out.payload.last)
            claims.holds("it leaves in its turn", ~((ahead == 0) & out.valid) | (own == item.as_value()))
            claims.seen("it leaves behind others", leaves & (ahead == 0) & walk.waits)
            for number, here, place in (
                ("first", walk.full & (ahead == 0), walk.main),
                ("second", walk.waits & (ahead == 1), walk.spare),
            ):
                own = _item(place.start, place.row, place.last)
                claims.helps(f"it lies there, {number}", ~here | (own == item.as_value()))
            own = _item(walk.line.place, walk.line.row, walk.line.last)
            in_line = ahead == walk.full + walk.waits
            claims.helps("it lies in the line's register", ~in_line | (walk.walked & (own == item.as_value())))
        with m.Elif(walk.passes & self.mark):
            last = Cat(walk.state[f"last_{level}"] for level in LEVELS).all()
            m.d.sync += [watching.eq(1), ahead.eq(count - leaves)]
            m.d.sync += item.eq(_item(walk.state.place_tw, walk.state.row_w, last))
        held, payload = Signal(), Signal.like(Value.cast(out.payload))
        m.d.sync += [held.eq(out.valid & ~self.taken), payload.eq(out.payload)]
        claims.holds("a beat stays until it is taken", ~held | (out.valid & (payload == out.payload.as_value())))
        claims.seen("no room", walk.waits & walk.walked & walk.busy)

    def _bytes(self, m: Module, claims: Claims, walk: _Walk, moves: _Moves) -> None:
        """Bytes of a line, beat by beat, from where it begins; the number of the beat comes with it."""
        size, line, beat = self.geometry.beat_bytes, walk.line, walk.beat
        number = Signal(COUNT_BITS)
        before = Signal(data.StructLayout({"number": COUNT_BITS, "address": ADDRESS_BITS, "bytes": LINE_BYTES_BITS}))
        with m.If(walk.room):
            m.d.sync += number.eq(moves.index["beat"])
            with m.If(walk.walked):
                m.d.sync += [before.number.eq(number), before.address.eq(line.address), before.bytes.eq(line.bytes)]
        here = data.StructLayout(before.shape().members)
        now, coming = Signal(here, name="now"), Signal(here, name="coming")
        m.d.comb += [now.number.eq(number), now.address.eq(line.address), now.bytes.eq(line.bytes)]
        m.d.comb += [
            coming.number.eq(moves.index["beat"]),
            coming.address.eq(walk.state.address_tw),
            coming.bytes.eq(walk.box.line_bytes),
        ]

        def follows(one: Any, other: Any) -> Value:
            same = (other.address == one.address) & (other.bytes == one.bytes)
            return same & (other.number == one.number + 1)

        offset = (size - 1) & line.address
        end, start = line.bytes + offset, number * size
        with m.If(walk.walked):
            claims.helps("its first beat is number 0", line.first == (number == 0))
            claims.helps("beats of a line follow each other", line.first | follows(before, now))
            begin = (line.address - offset + start)[:ADDRESS_BITS]
            bytes_ = Mux(end <= start, 0, Mux(end - start >= size, size, end - start))
            claims.holds("beats lie one behind the other", beat.address == begin)
            claims.holds("the first begins with the line", beat.low == Mux(number == 0, offset, 0))
            claims.holds("none goes beyond the line's end, and none stops before it", beat.high == bytes_)
            claims.holds("what is wanted has a byte", beat.wanted == (~line.padding & (beat.high > beat.low)))
            claims.helps("a line fits", (start < line.bytes + 2 * size) & (line.bytes + size <= 1 << LINE_BYTES_BITS))
            with m.If(walk.busy & ~walk.state.first):
                claims.helps("the next beat of a line follows", follows(now, coming))
            claims.seen("a beat that a line does not need", (number == 2) & (end <= start))
        with m.Elif(walk.busy & ~walk.state.first):
            claims.helps("a line is not interrupted", C(0, 1))
        inner = walk.walked & ~line.first
        offset, start = (size - 1) & before.address, (before.number + 1) * size
        left = (before.bytes + offset - start)[: LINE_BYTES_BITS + 1]
        claims.helps("what is left inside", ~inner | (walk.left_next == left))
        address = (before.address - offset + start)[:ADDRESS_BITS]
        claims.helps("the address that follows inside", ~inner | (walk.address_next == address))

    def _lanes(self, m: Module, claims: Claims, walk: _Walk) -> None:
        """Lanes stay in the memory that the box goes to; beats of one line follow each other without a gap."""
        g, out = self.geometry, walk.dut.beat
        ends = {name: Signal(name=f"{name}_ends", init=1) for name in ("left", "main", "spare", "line")}
        into = Signal()  # of the beat that left last
        with m.If(out.ready & out.valid):
            m.d.sync += [ends["left"].eq(ends["main"]), into.eq(out.payload.about.into_accumulator)]
        with m.If(out.ready | ~walk.full):
            m.d.sync += ends["main"].eq(Mux(walk.waits, ends["spare"], ends["line"]))
        with m.If(walk.room):
            m.d.sync += [ends["spare"].eq(ends["line"]), ends["line"].eq(walk.state.last_beat)]

        stages = [
            ("main", walk.full, walk.main, walk.main.about, [walk.main.back, walk.main.start], walk.main.row),
            ("spare", walk.waits, walk.spare, walk.spare.about, [walk.spare.back, walk.spare.start], walk.spare.row),
            ("line", walk.walked, walk.line, walk.line.about, [walk.line.place], walk.line.row),
        ]
        ended, memory = ends["left"], into
        for name, valid, stage, about, places, row in stages:
            m_valid = Signal(name=f"{name}_valid")
            m.d.comb += m_valid.eq(valid)
            with m.If(m_valid):
                inside = Cat(*(place.lane < self._size(about) for place in places), row < g.deep).all()
                claims.helps(f"{name}: lanes are lanes of the memory", inside & self._fits(about))
                claims.helps(f"{name}: a line begins when the last one has ended", stage.first == ended)
                claims.helps(f"{name}: a line is one box's", stage.first | (about.into_accumulator == memory))
            ended, memory = Mux(valid, ends[name], ended), Mux(valid, about.into_accumulator, memory)
        state, size = walk.state, self._size(walk.box)
        with m.If(walk.busy):
            places = [state[f"place_{level}"].lane < size for level in ("b", "w", "tw")]
            claims.helps("state: lanes are lanes of the memory", Cat(*places).all())
            claims.helps("state: rows are lanes of the scratchpad", (state.row_b < g.deep) & (state.row_w < g.deep))
            claims.helps("state: a line begins when the last one has ended", state.first == ended)
            claims.helps("state: a line is one box's", state.first | (walk.box.into_accumulator == memory))
        with m.Else():
            claims.helps("what is over has ended its line", ended)
        claims.helps("a line that has begun to leave goes on", ends["left"] | walk.full)
        claims.helps("one that waits goes on, first", ~walk.full | ends["main"] | walk.waits | walk.walked)
        claims.helps("one that waits goes on, second", ~walk.waits | ends["spare"] | walk.walked)
        of_last = Mux(into, g.cols, g.deep)
        claims.helps("the place that follows is a lane", ends["left"] | (walk.place_next.lane < of_last))
        lane = out.payload.place.lane
        claims.holds("every beat lies in a lane", ~out.valid | (lane < self._size(out.payload.about)))


def _item(place: Any, row: Any, last: Any) -> Value:
    """What is told of a watched beat."""
    return Cat(place, row, last)


@dataclass(frozen=True)
class _Walk:
    """The registers of a walk."""

    dut: Any
    busy: Value
    walked: Value
    full: Value
    waits: Value
    state: Any
    box: Any
    line: Any
    beat: Any
    main: Any
    spare: Any
    place_next: Any
    address_next: Value
    left_next: Value

    @property
    def room(self) -> Value:
        """Whether the beats in the registers go on in this cycle."""
        return ~self.waits

    @property
    def passes(self) -> Value:
        """Whether a beat leaves the first register."""
        return self.busy & self.room


@dataclass(frozen=True)
class _Moves:
    """By level: its index; whether it begins anew or goes on with this beat; whether it goes on."""

    index: dict[str, Value]
    enters: dict[str, Value]
    goes_on: dict[str, Value]
