"""What holds of the counters and queues of the control for ever, whatever their owners do within the rules.

Specifications for `hwsim_rtl.prove`; their inputs are free variables. Claims that look inside a component make the
others follow by induction.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hwsim.program import UNIT_NAMES
from hwsim_rtl.control.command import SEMAPHORE_BITS
from hwsim_rtl.control.fetch import ADDRESS_BITS, Fetch
from hwsim_rtl.control.queue import Queue, after
from hwsim_rtl.control.semaphores import MOST_TOKENS, SEMAPHORES, Semaphores
from hwsim_rtl.control.tickets import DEFER_BITS, Tickets
from hwsim_rtl.control.waits import Waits
from hwsim_rtl.prove.claims import Claims, Inside

__all__ = ["FetchSpec", "QueueSpec", "SemaphoresSpec", "TicketsSpec", "WaitsSpec", "add_around"]

_UNITS = len(UNIT_NAMES)


def add_around(place: Value, items: Value, places: int) -> Value:
    """Give the place that is so many items further, around; both are at most `places`."""
    total = place + items
    return Mux(total >= places, total - places, total)


class SemaphoresSpec(wiring.Component):
    """No token is lost or made, no counter wraps, and every fault is flagged.

    Beside each counter runs one that counts without a bound. Both are equal from a `set` or the reset to the first
    flagged overflow or underflow, and each is flagged if and only if it happens; takes by two units count as an
    underflow. What is told of the next cycle is so, and it is so of a cycle in which nothing is taken, or one token.

    Members
    -------
    take, post, set, counts
        As those of `Semaphores`, flat.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "take": In(_UNITS * SEMAPHORES),
                "post": In(_UNITS * SEMAPHORES),
                "set": In(1),
                "counts": In(SEMAPHORE_BITS * SEMAPHORES),
            }
        )

    def component(self) -> Semaphores:
        """What is judged."""
        return Semaphores()

    def elaborate(self, platform: Any) -> Module:
        """Build counters, counting and claims."""
        m = Module()
        claims = Claims(m, platform)
        m.submodules.dut = dut = self.component()
        m.d.comb += [
            dut.take.as_value().eq(self.take),
            dut.post.as_value().eq(self.post),
            dut.set.eq(self.set),
            dut.counts.eq(self.counts),
        ]
        trusted, faulted, rushed = Signal(init=1), Signal(), Signal()
        with m.If(self.set):
            m.d.sync += trusted.eq(1)
        with m.Elif((dut.overflow | dut.underflow).any()):
            m.d.sync += trusted.eq(0)
        counts = [Signal(32, name=f"count_{s}") for s in range(SEMAPHORES)]
        for s, count in enumerate(counts):
            taken, posted = (
                sum((mask[u * SEMAPHORES + s] for u in range(_UNITS)), C(0, 1)) for mask in (self.take, self.post)
            )
            over, under = count > MOST_TOKENS + (taken != 0), (taken > count) | (taken > 1)
            with m.If(self.set):
                m.d.sync += count.eq(self.counts.word_select(s, SEMAPHORE_BITS))
            with m.Else():
                m.d.sync += count.eq(count - taken + posted)
            with m.If(trusted):
                claims.holds(f"{s}: counted right", dut.tokens[s] == count)
                claims.helps(f"{s}: at most {MOST_TOKENS} and those of one cycle", count <= MOST_TOKENS + _UNITS)
                claims.helps(f"{s}: none and one", (dut.none[s] == (count == 0)) & (dut.one[s] == (count == 1)))
                claims.holds(f"{s}: overflow is flagged when it happens", dut.overflow[s] == over)
                claims.holds(f"{s}: underflow is flagged when it happens", dut.underflow[s] == under)
                with m.If(~self.set):
                    claims.holds(f"{s}: lacking if none will be there", dut.lacking[s] == (count + posted == 0))
                    claims.holds(f"{s}: the last if one will be", dut.last[s] == (count + posted == 1))
        with m.If(trusted):
            claims.seen("a token is taken as others are posted", self.take[0] & self.post[0] & (counts[0] == 1))
            claims.seen(f"{MOST_TOKENS} tokens", rushed & (counts[0] == MOST_TOKENS))
            claims.seen("overflow", rushed & dut.overflow.any())
            claims.seen("underflow", dut.underflow.any())
        with m.If(self.set):  # one way to many tokens, so that the solver need not look for it
            m.d.sync += rushed.eq(self.counts.all())
        with m.Elif(~self.post.all() | self.take.any()):
            m.d.sync += rushed.eq(0)
        with m.If(~trusted):
            m.d.sync += faulted.eq(1)
        claims.seen("set anew after a fault", faulted & trusted & (counts[2] == 3))
        return m


class QueueSpec(wiring.Component):
    """No item is lost, doubled, changed or overtaken; the queue is never over-full or popped when empty.

    One item, any, is marked when it is pushed; where nothing is ahead of it, it is the one at the head.

    Parameters
    ----------
    width, depth : int
        Of the queue.

    Members
    -------
    clear, push, item, pop : In(1), In(1), In(width), In(1)
        As those of `Queue`; its owner's two rules are assumed.
    mark : In(1)
        Watch the item that is pushed.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        super().__init__({"clear": In(1), "push": In(1), "item": In(width), "pop": In(1), "mark": In(1)})

    def component(self) -> Queue:
        """What is judged."""
        return Queue(self.width, self.depth)

    def elaborate(self, platform: Any) -> Module:
        """Build the queue, the watch and the claims."""
        m = Module()
        claims, dut, depth = Claims(m, platform), self.component(), self.depth
        inside = Inside(dut, platform)
        m.submodules.dut = inside.fragment
        level, ahead = Signal(range(depth + 2)), Signal(range(depth + 2))
        watching, item = Signal(), Signal(self.width)
        m.d.comb += [
            dut.clear.eq(self.clear),
            dut.push.eq(self.push),
            dut.item.eq(self.item),
            dut.pop.eq(self.pop),
        ]
        claims.given("none is popped from an empty queue", ~(self.pop & dut.empty & ~self.push))
        claims.given("none is pushed into a full queue", ~(self.push & dut.full & ~self.pop))
        claims.holds("no more items than places", level <= depth)
        claims.holds("empty if there is none", dut.empty == (level == 0))
        claims.holds("full if there are as many as places", dut.full == (level == depth))
        m.d.sync += level.eq(level + self.push - self.pop)
        with m.If(watching):
            claims.helps("what is watched is there", ahead < level)
            with m.If(self.pop):
                m.d.sync += [ahead.eq(ahead - 1), watching.eq(ahead != 0)]
            with m.If(ahead == 0):
                claims.holds("it comes in its turn, unchanged", dut.head == item)
        with m.Elif(self.push & self.mark & ~(self.pop & dut.empty)):
            m.d.sync += [watching.eq(1), item.eq(self.item), ahead.eq(level - self.pop)]
        with m.If(self.clear):
            m.d.sync += [level.eq(0), watching.eq(0)]
        claims.seen("full", dut.full)
        claims.seen("pushed and popped while full", dut.full & self.push & self.pop)
        claims.seen("pushed and popped while empty", dut.empty & self.push & self.pop)
        claims.seen("what is watched leaves", watching & self.pop & (ahead == 0))
        first, last = inside.ends("memory")
        claims.helps("level inside", inside["level"] == level)
        claims.helps("places inside", (first <= depth) & (last == add_around(first, level, depth + 1)))
        with m.If(watching):
            claims.helps(
                "what is watched lies there", inside.peek(m, "memory", add_around(first, ahead, depth + 1)) == item
            )
        return m


class WaitsSpec(wiring.Component):
    """The next command of a unit lacks a token if and only if one that it waits for is not there, in every cycle.

    The reference keeps the queued waits in a row, and looks at the counters themselves.

    Parameters
    ----------
    depth : int
        Q.

    Members
    -------
    clear, stop, offered, pop, new, upcoming
        As those of `Waits`; what is pushed follows from them. What the control keeps to is assumed.
    post, set, counts
        As those of `Semaphores`. No other unit takes a token.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        super().__init__(
            {
                **dict.fromkeys(("clear", "stop", "offered", "pop", "set"), In(1)),
                **dict.fromkeys(("new", "upcoming"), In(SEMAPHORES)),
                "post": In(_UNITS * SEMAPHORES),
                "counts": In(SEMAPHORE_BITS * SEMAPHORES),
            }
        )

    def component(self) -> Waits:
        """What is judged."""
        return Waits(self.depth)

    def elaborate(self, platform: Any) -> Module:
        """Build waits, counters, reference and claims."""
        m = Module()
        claims, dut, depth = Claims(m, platform), self.component(), self.depth
        inside = Inside(dut, platform)
        m.submodules.dut, m.submodules.semaphores = inside.fragment, Semaphores()
        semaphores = m.submodules.semaphores
        level, row = Signal(range(depth + 2)), [Signal(SEMAPHORES, name=f"row_{i}") for i in range(depth)]
        push, there, next_one = Signal(), Signal(), Signal(SEMAPHORES)
        told, stopped, was_set, left, cleared = (
            Signal(SEMAPHORES),
            Signal(),
            Signal(),
            Signal(),
            Signal(),
        )  # of the cycle before
        for name in ("clear", "stop", "offered", "pop", "new", "upcoming"):
            m.d.comb += getattr(dut, name).eq(getattr(self, name))
        m.d.comb += [
            push.eq(self.offered & ((level != depth) | self.pop)),
            there.eq((level != 0) | self.offered),
            next_one.eq(Mux(level != 0, row[0], self.new)),
            dut.push.eq(push),
            dut.lacking.eq(semaphores.lacking),
            dut.last.eq(semaphores.last),
            semaphores.take[0].eq(Mux(self.pop, dut.waits, 0)),
            semaphores.post.as_value().eq(self.post),
            semaphores.set.eq(self.set),
            semaphores.counts.eq(self.counts),
        ]
        m.d.sync += [
            told.eq(self.upcoming),
            stopped.eq(self.stop),
            was_set.eq(self.set),
            left.eq(self.pop),
            cleared.eq(self.clear),
        ]
        claims.given("the command that is offered was told of", ~self.offered | (self.new == told))
        claims.given("only what lacks nothing leaves", ~self.pop | (there & ~dut.lacks))
        claims.given("counters are set while nothing is there", ~(self.set | was_set) | ~there)
        claims.given("nothing is offered or leaves as all are forgotten", ~self.clear | ~(self.offered | self.pop))
        claims.given("nor in the cycle behind that", ~cleared | ~self.offered)
        claims.given("no counter overflows", ~semaphores.overflow.any())

        m.d.sync += level.eq(level + push - self.pop)
        for i, own in enumerate(row):
            with m.If(push & (level == i + self.pop)):
                m.d.sync += own.eq(self.new)
            with m.Elif(self.pop):
                m.d.sync += own.eq(row[i + 1] if i + 1 < depth else 0)
        with m.If(self.clear):
            m.d.sync += level.eq(0)
        missing = Cat((tokens == 0) & next_one[s] for s, tokens in enumerate(semaphores.tokens)).any()
        with m.If(there):
            claims.holds("the next command's waits are seen", dut.waits == next_one)
            claims.holds("it lacks a token if one is missing", dut.lacks == (stopped | missing))
        claims.holds("empty if none is queued", dut.empty == (level == 0))
        claims.seen("it waits for a token and gets it", there & (dut.waits == 1) & ~dut.lacks & (level == depth))
        claims.seen("the last token is taken, and the next command lacks it", left & (level == 1) & missing & ~stopped)
        self._inside(m, claims, inside, semaphores, (level, row))
        return m

    def _inside(self, m: Module, claims: Claims, inside: Inside, semaphores: Semaphores, reference: Any) -> None:
        level, row = reference
        places = self.depth + 1
        place, last = inside["place"], inside["last"]
        claims.helps("no more than fit", level <= self.depth)
        claims.helps("level inside", inside["level"] == level)
        claims.helps("places inside", (place < places) & (last == add_around(place, level, places)))
        claims.helps("the second place", inside["next_place"] == after(place, places))
        for i, own in enumerate(row):
            lies = inside.peek(m, "memory", add_around(place, C(i), places))
            claims.helps(f"{i}: it lies there", (level <= i) | (lies == own))
        for s, tokens in enumerate(semaphores.tokens):
            posted = sum((self.post[u * SEMAPHORES + s] for u in range(_UNITS)), C(0, 1))
            none, one = semaphores.none[s], semaphores.one[s]
            claims.helps(f"{s}: none and one inside", (none == (tokens == 0)) & (one == (tokens == 1)))
            with m.If(~self.set):
                claims.helps(f"{s}: lacking inside", semaphores.lacking[s] == (tokens + posted == 0))
                claims.helps(f"{s}: last inside", semaphores.last[s] == (tokens + posted == 1))


class TicketsSpec(wiring.Component):
    """Every queued store knows how many loads it still lets pass, and neither misses its turn nor takes another's.

    The reference has no numbers of loads: each queued store counts the loads that must still start before it, those
    that are queued and those that it was deferred by; it waits no shorter than the store before it.

    Parameters
    ----------
    depth : int
        Q, of both queues.

    Members
    -------
    clear, load_dispatched, store_dispatched, defer, load_started, store_started, flush
        As those of `Tickets`; what the control keeps to is assumed.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        names = ("clear", "load_dispatched", "store_dispatched", "load_started", "store_started", "flush")
        super().__init__({**dict.fromkeys(names, In(1)), "defer": In(DEFER_BITS)})

    def component(self) -> Tickets:
        """What is judged."""
        return Tickets(self.depth)

    def elaborate(self, platform: Any) -> Module:
        """Build tickets, reference and claims."""
        m = Module()
        claims, dut, depth = Claims(m, platform), self.component(), self.depth
        inside = Inside(dut, platform)
        m.submodules.dut = inside.fragment
        for name in self.signature.members:
            m.d.comb += getattr(dut, name).eq(getattr(self, name))
        loads, stores = Signal(range(depth + 2)), Signal(range(depth + 2))
        flushed = Signal()
        bits = (depth + (1 << DEFER_BITS)).bit_length()
        to_pass = [Signal(bits, name=f"to_pass_{i}") for i in range(depth)]  # by queued stores, around
        head, tail, first = Signal(range(depth)), Signal(range(depth)), Signal(bits)
        last = Signal(bits)  # by the last store, queued or not
        beyond, wait, new = Signal(bits), Signal(bits), Signal(bits)
        m.d.comb += [
            dut.loads_queued.eq(loads != 0),
            dut.deferred.eq(self.defer != 0),
            beyond.eq(Mux(last > loads, last - loads, 0)),
            wait.eq(Mux(self.defer > beyond, self.defer, beyond)),
            new.eq(loads + wait),
        ]
        self._rules(claims, dut, loads, stores, flushed)
        starts = self.load_started
        m.d.sync += [
            loads.eq(loads + self.load_dispatched - starts),
            stores.eq(stores + self.store_dispatched - self.store_started),
            flushed.eq(flushed | self.flush),
            last.eq(Mux(self.store_dispatched, new - starts, Mux(last == 0, 0, last - starts))),
        ]
        with m.If(self.store_dispatched):
            m.d.sync += tail.eq(after(tail, depth))
        with m.If(self.store_started):
            m.d.sync += head.eq(after(head, depth))
        for i, own in enumerate(to_pass):
            m.d.sync += own.eq(Mux(self.store_dispatched & (tail == i), new, own) - starts)
        with m.If(self.clear):
            m.d.sync += [loads.eq(0), stores.eq(0), flushed.eq(0), last.eq(0), head.eq(0), tail.eq(0)]

        m.d.comb += first.eq(Array(to_pass)[head])
        claims.holds("loads go until the first store's turn", dut.load_turn == ((stores == 0) | (first != 0)))
        with m.If(stores != 0):
            flushes = self.flush & (loads == 0)
            claims.holds("a store goes in its turn", dut.store_turn == ((first == 0) | flushes))
            claims.holds("only one has the port", ~(dut.load_turn & dut.store_turn & (loads != 0)))
        with m.Elif(~flushed & ~self.flush):
            claims.holds("a new store goes at once in its turn", dut.new_store_turn == ((loads == 0) & (wait == 0)))
        claims.seen("a store lets a load pass", (stores == 2) & (first == 1) & starts)
        claims.seen("a store leaves before its turn at a barrier", self.store_started & (first != 0) & (stores != 0))
        claims.seen("the longest wait", (stores == 1) & (first == (1 << DEFER_BITS) - 1 + 2))
        claims.seen("both queues full", (stores == depth) & (loads == depth))
        self._inside(m, claims, inside, (loads, stores, last, head, tail, new), flushed, to_pass)
        return m

    def _rules(self, claims: Claims, dut: Any, loads: Value, stores: Value, flushed: Value) -> None:
        """What the control keeps to."""
        dispatched = self.load_dispatched | self.store_dispatched
        room = self.depth
        claims.given("one command is dispatched a cycle", ~(self.load_dispatched & self.store_dispatched))
        claims.given("none behind a barrier before it takes effect", ~(dispatched & (self.flush | flushed)))
        claims.given("loads fit their queue", ~(self.load_dispatched & (loads == room)) | self.load_started)
        claims.given("stores fit theirs", ~(self.store_dispatched & (stores == room)) | self.store_started)
        there = (loads != 0) | self.load_dispatched
        claims.given("a load starts in its turn", ~self.load_started | (dut.load_turn & there))
        new = self.store_dispatched & dut.new_store_turn
        claims.given("a store starts in its turn", ~self.store_started | Mux(stores != 0, dut.store_turn, new))

    def _inside(
        self, m: Module, claims: Claims, inside: Inside, registers: Any, flushed: Value, to_pass: list[Signal]
    ) -> None:
        depth, most = self.depth, self.depth + (1 << DEFER_BITS) - 1
        loads, stores, last, head, tail, new = registers
        started, oldest = inside["started"], inside["oldest"]
        read, write = inside.ends("others.memory")
        places = max(1, depth - 1) + 1
        others = Mux(stores == 0, 0, stores - 1)
        claims.helps("no more than fit", (loads <= depth) & (stores <= depth) & (last <= most))
        claims.helps("the oldest is there", inside["there"] == (stores != 0))
        claims.helps("its turn", inside["turn"] == ((stores != 0) & (oldest == started)))
        claims.helps("level inside", inside["others.level"] == others)
        claims.helps("empty inside", inside["others.empty"] == (others == 0))
        claims.helps("ends inside", (read < places) & (write == add_around(read, others, places)))
        claims.helps("ends are places", (head < depth) & (tail == add_around(head, stores, depth)))
        claims.helps("loads inside", (inside["dispatched"] - started)[: len(started)] == loads)
        claims.helps("slack inside", inside["slack"] == Mux(last > loads, last - loads, 0))
        # Not needed to say it, but the solvers find the rest sooner.
        claims.helps("a new one lets no fewer pass than the last", new >= last)
        claims.helps("a new due inside", (inside["dispatched"] + inside["wait"] - started)[: len(started)] == new)
        claims.helps("what the last one lets pass it has let", (stores != 0) | flushed | (last == 0))
        # How many stores are ahead of the one at each place.
        ahead = [Signal(range(depth), name=f"ahead_{i}") for i in range(depth)]
        for i, own in enumerate(to_pass):
            m.d.comb += ahead[i].eq(Mux(head <= i, i - head, depth + i - head))
            with m.If(ahead[i] < stores):
                behind = Mux(ahead[i] == 0, 0, ahead[i] - 1)  # others that are ahead of it
                other = inside.peek(m, "others.memory", add_around(read, behind, places))
                due = Mux(ahead[i] == 0, oldest, other)
                claims.helps(f"{i}: its due", (due - started)[: len(started)] == own)
                claims.helps(f"{i}: lets no more pass than the last", own <= last)
                claims.helps(f"{i}: if it is the last", (ahead[i] + 1 != stores) | (own == last))
                for j in range(i):
                    ordered = Mux(ahead[i] < ahead[j], own <= to_pass[j], to_pass[j] <= own)
                    claims.helps(f"{i}: in order with {j}", (ahead[j] >= stores) | ordered)


class FetchSpec(wiring.Component):
    """Every command that is asked for has a place, comes whole and in order, and is asked for once, δ after the last.

    Any beat is marked as it comes. All bits of a beat are the same here: the buffer does not look at them.

    Parameters
    ----------
    bytes_per_cycle, latency_cycles : int
        Of the fetch.

    Members
    -------
    start, address, commands, enable, take
        As those of `Fetch`; started again only when nothing is pending, and a command is taken only if there is one.
    ready : In(1)
        Memory takes a request.
    respond, bit : In(1), In(1)
        It answers, sometime after a request, with this data.
    mark : In(1)
        Watch the beat that comes.
    """

    def __init__(self, bytes_per_cycle: int, latency_cycles: int) -> None:
        self._parameters = bytes_per_cycle, latency_cycles
        names = ("start", "enable", "take", "ready", "respond", "bit", "mark")
        super().__init__({**dict.fromkeys(names, In(1)), "address": In(ADDRESS_BITS), "commands": In(32)})

    def component(self) -> Fetch:
        """What is judged."""
        return Fetch(*self._parameters)

    def elaborate(self, platform: Any) -> Module:
        """Build the fetch, the memory's side and the claims."""
        m = Module()
        claims, dut = Claims(m, platform), self.component()
        inside = Inside(dut, platform)
        m.submodules.dut = inside.fragment
        request, response = dut.port.request, dut.port.response
        for name in ("start", "address", "commands", "enable", "take"):
            m.d.comb += getattr(dut, name).eq(getattr(self, name))
        m.d.comb += [request.ready.eq(self.ready), response.valid.eq(self.respond)]
        m.d.comb += response.p.data.eq(self.bit.replicate(len(response.p.data)))

        places, beats = dut.places, dut.beats
        opened, done = Signal(range(places + 2)), Signal(range(places + 2))  # requests without all beats, and with
        beat, pace = Signal(range(beats)), Signal(range(beats + 1))
        asked, base, total = Signal(32), Signal(ADDRESS_BITS), Signal(32)
        asks, ends = Signal(), Signal()
        m.d.comb += [asks.eq(request.valid & self.ready), ends.eq(self.respond & (beat == beats - 1))]
        hurries = Signal()  # one way to have all taken, so that the solver need not look for it
        m.d.sync += hurries.eq(self.start | (hurries & self.enable & self.ready & ~self.respond))
        claims.given("it starts again when nothing is pending", ~self.start | (~dut.pending & ~self.take))
        claims.given("what is taken is there", ~self.take | dut.valid)
        claims.given("memory answers what was asked", ~self.respond | (opened != 0))
        m.d.sync += [opened.eq(opened + asks - ends), done.eq(done + ends - self.take), asked.eq(asked + asks)]
        m.d.sync += pace.eq(Mux(asks, beats - 1, Mux(pace == 0, 0, pace - 1)))
        with m.If(self.respond):
            m.d.sync += beat.eq(Mux(beat == beats - 1, 0, beat + 1))
        with m.If(self.start):
            m.d.sync += [done.eq(0), asked.eq(0), base.eq(self.address), total.eq(self.commands), pace.eq(0)]

        claims.holds("all that is asked for has a place", opened + done <= places)
        claims.holds("requests are δ apart", ~asks | (pace == 0))
        claims.holds(
            "each command is asked for once, in order", request.payload == (base + (asked << 7))[:ADDRESS_BITS]
        )
        claims.holds("no more than there are", ~request.valid | (asked != total))
        claims.holds("a request stays", ~inside["offered"] | request.valid)
        claims.holds("a command is there when all its beats are", dut.valid == (done != 0))
        claims.holds("pending while beats are to come", dut.pending == ((opened != 0) | request.valid))
        claims.seen("a command is asked for as one leaves", asks & self.take)
        claims.seen("all places are taken", hurries & (opened + done == places))
        self._watch(m, claims, inside, dut, (done, beat))
        self._inside(claims, inside, places, (opened, done, beat, pace, asked, total))
        return m

    def _watch(self, m: Module, claims: Claims, inside: Inside, dut: Any, registers: Any) -> None:
        """Follow one beat to the head."""
        done, beat = registers
        watching, bit, number, ahead = Signal(), Signal(), Signal.like(beat), Signal.like(done)
        width = len(dut.head) // dut.beats
        with m.If(watching):
            with m.If(self.take):
                m.d.sync += [ahead.eq(ahead - 1), watching.eq(ahead != 0)]
            with m.If(dut.valid & (ahead == 0)):
                claims.holds(
                    "it comes in its turn, unchanged", dut.head.word_select(number, width) == bit.replicate(width)
                )
            claims.helps("what is watched is there, or its command is coming", (ahead < done) | (beat > number))
            claims.helps("it is in no later command", ahead <= done)
            first, _ = inside.ends("buffer")
            word = inside.peek(m, "buffer", add_around(first, ahead, dut.places))
            claims.helps("it lies in its place", word.word_select(number, width) == bit.replicate(width))
            claims.seen("it leaves behind another command", self.take & (ahead == 0) & (number == dut.beats - 1))
        with m.Elif(self.respond & self.mark):
            m.d.sync += [watching.eq(1), bit.eq(self.bit), number.eq(beat), ahead.eq(done - self.take)]
        with m.If(self.start):
            m.d.sync += watching.eq(0)

    def _inside(self, claims: Claims, inside: Inside, places: int, registers: Any) -> None:
        opened, done, beat, pace, asked, total = registers
        first, last = inside.ends("buffer")
        offered, left = inside["offered"], inside["left"]
        claims.helps("free inside", inside["free"] + opened + done == places)
        claims.helps("asked inside", inside["asked"] == opened)
        claims.helps("level inside", inside["level"] == done)
        claims.helps("beat inside", inside["beat"] == beat)
        claims.helps("pace inside", inside["pace"] == pace)
        claims.helps("left inside", left == (total - asked)[: len(left)])
        claims.helps("more inside", inside["more"] == (left != 0))
        claims.helps("places inside", (first < places) & (last == add_around(first, done, places)))
        claims.helps("a beat that has come has others to come", (beat == 0) | (opened != 0))
        claims.helps("what is offered has a place", ~offered | ((left != 0) & (opened + done != places) & (pace == 0)))
