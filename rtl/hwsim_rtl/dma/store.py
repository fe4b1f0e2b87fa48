"""The store unit: boxes of lines from the accumulator to memory, narrow elements packed.

Normative: docs/contracts/values.md, section 2; cycles.md, section 2; program.md, section 4.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim_rtl.dma.align import later
from hwsim_rtl.dma.box import ADDRESS_BITS, BEAT, NO_LIMIT, WALK_CYCLES, Geometry, shift_of
from hwsim_rtl.dma.pending import Pending
from hwsim_rtl.dma.walk import BoxGenerator

__all__ = ["Store"]

#: From the read of a beat to its words, and beats between read and memory: enough for one a cycle.
READ_CYCLES = 2
_WAITING = 4
_OF_TAPS = ("step_th", "step_tw", "tap_h", "tap_w", "by_tap", "by_tap_wrapped")


def accumulator_read(g: Geometry) -> data.StructLayout:
    """Words that a beat takes: consecutive lanes from a place on, or one lane of consecutive lines (`transposed`)."""
    return data.StructLayout({"half": 1, "fixed": 1, "place": g.place, "transposed": 1})


def memory_write(g: Geometry) -> data.StructLayout:
    """A beat to write, and which of its bytes."""
    return data.StructLayout(
        {"address": ADDRESS_BITS, "data": data.ArrayLayout(8, g.beat_bytes), "bytes": g.beat_bytes}
    )


class Store(wiring.Component):
    """Store boxes of lines: words are read from `WALK_CYCLES` after the start on, one beat a cycle, and then written.

    Latency: beat `i` of a box that starts in cycle `s` is read `WALK_CYCLES` after ``s + i``, offered to memory
    when its words come, and counts as done in cycle ``s + i + Λ``, or when its response comes, if that is later.
    Throughput: one beat a cycle.

    Parameters
    ----------
    geometry : Geometry
        Of the data path.

    Attributes
    ----------
    memory_cycles : int
        Write to response, at most, if ends are to be those of the contract [cycles].

    Members
    -------
    start : In(1), box : In(`Geometry.box`), ready : Out(1)
        As `BoxGenerator`.
    read : Out(stream of reads, always ready)
        What is read in this cycle.
    words : In(array of words)
        What was read `READ_CYCLES` before, the beat's first element first.
    write : Out(stream of `memory_write`)
        Beats to write, in order; beats without a byte are not.
    response : In(stream without payload)
        One for each beat written, in order.
    left : Out(1)
        The cycle of a box's last read, before the one in which the accumulator may be overwritten: it posts then.
    done : Out(1)
        The cycle before the command's end.
    limit : In(address), beyond : Out(1)
        Beats from this address on are not written, and that there was one.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = g = geometry
        self.memory_cycles = g.latency_cycles - WALK_CYCLES - READ_CYCLES
        super().__init__(
            {
                "start": In(1), "box": In(g.box), "ready": Out(1), "left": Out(1), "done": Out(1),
                "limit": In(ADDRESS_BITS, init=NO_LIMIT), "beyond": Out(1),
                "read": Out(stream.Signature(accumulator_read(g), always_ready=True)),
                "words": In(data.ArrayLayout(32, g.most_words)),
                "write": Out(stream.Signature(memory_write(g))), "response": In(stream.Signature(0)),
            }
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Build it: the walk, the beat that was read, what is under way."""
        m, g = Module(), self.geometry
        m.submodules.walk = walk = BoxGenerator(g)
        latency = g.latency_cycles - WALK_CYCLES
        m.submodules.pending = pending = Pending(data.StructLayout({"moves": 1, "last": 1}), latency)
        beat = walk.beat.payload
        moves, room, takes = Signal(), Signal(), Signal()
        m.d.comb += [
            walk.start.eq(self.start), walk.box.eq(self.box), self.ready.eq(walk.ready),
            walk.limit.eq(self.limit), moves.eq(beat.wanted & beat.within),
            self.beyond.eq(walk.beat.valid & beat.wanted & ~moves),
            takes.eq(walk.beat.valid & room & pending.request.ready),
            walk.beat.ready.eq(room & pending.request.ready),
            pending.request.valid.eq(walk.beat.valid & room),
            pending.request.payload.moves.eq(moves), pending.request.payload.last.eq(beat.last),
            # What is held up is read again, which does no harm.
            self.read.valid.eq(walk.beat.valid & beat.wanted), self.left.eq(takes & beat.last),
            *(self.read.payload[name].eq(beat.about[name]) for name in ("half", "fixed", "transposed")),
            self.read.payload.place.eq(beat.place),
            pending.answer.eq(self.response.valid), self.response.ready.eq(pending.take),
            self.done.eq(pending.beat.valid & pending.beat.payload.last),
        ]  # fmt: skip
        # A store has one tap, so what a tap is away from the next one is not looked at.
        m.d.comb += [walk.box[name].eq(0) for name in _OF_TAPS]
        self._pack(m, beat, takes & moves, room)
        return m

    def _pack(self, m: Module, beat: Any, reads: Value, room: Signal) -> None:
        """Offer beats as their words come; those that memory does not take wait, as many as were read by then."""
        g, entry = self.geometry, Signal(memory_write(self.geometry))
        comes, kept = reads, Signal(_KEPT(g))
        m.d.comb += [kept[name].eq(beat[name]) for name in ("address", "low", "high")]
        m.d.comb += kept.shift.eq(shift_of(beat.about.format))
        for cycle in range(READ_CYCLES):
            comes = later(m, comes, f"comes_{cycle}", reset=True)
            kept = later(m, kept, f"kept_{cycle}")
        low, high = kept.low, kept.high
        m.d.comb += [
            entry.address.eq(kept.address),
            entry.bytes.eq(Cat((low <= i) & (i < high) for i in range(g.beat_bytes))),
        ]
        with m.Switch(kept.shift):
            for size in g.widths:
                with m.Case(size.bit_length() - 1):
                    packed = (self.words[i // size][8 * (i % size) : 8 * (i % size) + 8] for i in range(g.beat_bytes))
                    m.d.comb += [entry.data[i].eq(byte) for i, byte in enumerate(packed)]

        m.submodules.waiting = waiting = fifo.SyncFIFO(width=len(entry.as_value()), depth=_WAITING)
        read_or_waiting, leaves = Signal(range(_WAITING + 1)), Signal()
        m.d.comb += [
            self.write.valid.eq(waiting.r_rdy | comes),
            self.write.payload.eq(Mux(waiting.r_rdy, waiting.r_data, entry)),
            leaves.eq(self.write.valid & self.write.ready),
            waiting.w_data.eq(entry),
            waiting.w_en.eq(comes & (waiting.r_rdy | ~self.write.ready)),
            waiting.r_en.eq(self.write.ready),
            room.eq(read_or_waiting != _WAITING),
        ]
        m.d.sync += read_or_waiting.eq(read_or_waiting + reads - leaves)


def _KEPT(g: Geometry) -> data.StructLayout:  # noqa: N802
    """What is kept of a beat until its words come."""
    beat = BEAT(g)
    return data.StructLayout({**{name: beat[name].shape for name in ("address", "low", "high")}, "shift": 2})
