"""The store unit: boxes of lines from the accumulator to memory, narrow elements packed.

Normative: docs/contracts/values.md, section 2; cycles.md, section 2; program.md, section 4.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim_rtl.dma.box import ADDRESS_BITS, BoxGenerator, Geometry, shift_of
from hwsim_rtl.dma.pending import Pending

__all__ = ["Store"]


def accumulator_read(g: Geometry) -> data.StructLayout:
    """Words that a beat takes: consecutive lanes from a place on, or one lane of consecutive lines (`transposed`)."""
    return data.StructLayout({"half": 1, "fixed": 1, "place": g.place, "transposed": 1})


def memory_write(g: Geometry) -> data.StructLayout:
    """A beat to write, and which of its bytes."""
    return data.StructLayout(
        {"address": ADDRESS_BITS, "data": data.ArrayLayout(8, g.beat_bytes), "bytes": g.beat_bytes}
    )


class Store(wiring.Component):
    """Store boxes of lines: words are read from the cycle of `start` on, one beat a cycle, and written the cycle after.

    Latency: a beat read in cycle `t` is offered to memory in cycle `t + 1`, and counts as done in cycle ``t + Λ``, or
    when its response comes, if that is later. Throughput: one beat a cycle.

    Parameters
    ----------
    geometry : Geometry
        Of the data path.

    Members
    -------
    start : In(1), box : In(`Geometry.box`), ready : Out(1)
        As `BoxGenerator`.
    read : Out(stream of reads, always ready)
        What is read in this cycle.
    words : In(array of words)
        What was read in the cycle before, the beat's first element first.
    write : Out(stream of `memory_write`)
        Beats to write, in order; beats without a byte are not.
    response : In(stream without payload)
        One for each beat written, in order.
    left : Out(1)
        The cycle of a box's last read, before the one in which the accumulator may be overwritten: it posts then.
    done : Out(1)
        The cycle before the command's end.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = g = geometry
        super().__init__(
            {
                "start": In(1), "box": In(g.box), "ready": Out(1), "left": Out(1), "done": Out(1),
                "read": Out(stream.Signature(accumulator_read(g), always_ready=True)),
                "words": In(data.ArrayLayout(32, g.most_words)),
                "write": Out(stream.Signature(memory_write(g))), "response": In(stream.Signature(0)),
            }
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Build it: the walk, the beat that was read, what is under way."""
        m, g = Module(), self.geometry
        m.submodules.walk = walk = BoxGenerator(g)
        m.submodules.pending = pending = Pending(data.StructLayout({"moves": 1, "last": 1}), g.latency_cycles)
        beat, box = walk.beat.payload, walk.command
        moves, room, takes = Signal(), Signal(), Signal()
        m.d.comb += [
            walk.start.eq(self.start), walk.box.eq(self.box), self.ready.eq(walk.ready),
            moves.eq(~beat.padding & (beat.high > beat.low)),
            takes.eq(walk.beat.valid & room & pending.request.ready),
            walk.beat.ready.eq(room & pending.request.ready),
            pending.request.valid.eq(walk.beat.valid & room),
            pending.request.payload.moves.eq(moves), pending.request.payload.last.eq(beat.last),
            self.read.valid.eq(takes & moves), self.left.eq(takes & beat.last),
            *(self.read.payload[name].eq(box[name]) for name in ("half", "fixed", "transposed")),
            self.read.payload.place.eq(beat.place),
            pending.answer.eq(self.response.valid), self.response.ready.eq(pending.take),
            self.done.eq(pending.beat.valid & pending.beat.payload.last),
        ]  # fmt: skip
        self._pack(m, beat, box, takes & moves, room)
        return m

    def _pack(self, m: Module, beat: Any, box: Any, reads: Any, room: Any) -> None:
        """Offer the beat that was read last until memory takes it; its words are kept from the second cycle on."""
        g, out = self.geometry, self.write.payload
        waits, fresh, shift = Signal(), Signal(), Signal(2)
        kept = Signal(data.ArrayLayout(32, g.most_words), reset_less=True)
        words = Signal(data.ArrayLayout(32, g.most_words))
        address, low, high = (Signal.like(beat[name], name=f"kept_{name}") for name in ("address", "low", "high"))
        m.d.comb += [room.eq(~waits | self.write.ready), self.write.valid.eq(waits)]
        m.d.comb += words.eq(Mux(fresh, self.words, kept))
        m.d.sync += [kept.eq(words), fresh.eq(reads)]
        with m.If(room):
            m.d.sync += [waits.eq(reads), shift.eq(shift_of(box.format))]
            m.d.sync += [address.eq(beat.address), low.eq(beat.low), high.eq(beat.high)]
        m.d.comb += [out.address.eq(address), out.bytes.eq(Cat((low <= i) & (i < high) for i in range(g.beat_bytes)))]
        with m.Switch(shift):
            for size in g.widths:
                with m.Case(size.bit_length() - 1):
                    packed = (words[i // size][8 * (i % size) : 8 * (i % size) + 8] for i in range(g.beat_bytes))
                    m.d.comb += [out.data[i].eq(byte) for i, byte in enumerate(packed)]
