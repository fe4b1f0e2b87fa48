"""The load unit: boxes of lines from memory into the scratchpad, or widened into the accumulator.

Normative: docs/contracts/values.md, section 2; cycles.md, section 2; program.md, section 4.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.hardware.formats import FORMAT_BITS
from hwsim.program import FORMAT_CODES
from hwsim_rtl.arithmetic import Scale, Widen
from hwsim_rtl.dma.box import ADDRESS_BITS, BEAT, BoxGenerator, Geometry
from hwsim_rtl.dma.pending import Pending

__all__ = ["Load"]

_LOWEST = 0xFF800000


def scratchpad_write(g: Geometry) -> data.StructLayout:
    """Elements of a beat on their way to consecutive columns, those enabled; `wrap` as in `Geometry.box`."""
    elements = g.beat_bytes * 8 // g.operand_bits
    return data.StructLayout(
        {
            "place": g.place, "row": g.lane_bits, "wrap": g.line_bits, "enable": elements,
            "elements": data.ArrayLayout(g.operand_bits, elements),
        }
    )  # fmt: skip


def accumulator_write(g: Geometry) -> data.StructLayout:
    """Words of a beat on their way to consecutive lanes, those enabled, and which lanes of the last line to clear.

    With `fill`, each lane of line `fill_line` that is `fill_from` lanes or more behind `fill_lane` is cleared unless it
    is written; lanes before `fill_lane` are those of the line behind it.
    """
    return data.StructLayout(
        {
            "half": 1, "fixed": 1, "place": g.place, "enable": g.most_words,
            "words": data.ArrayLayout(32, g.most_words), "fill": 1, "fill_line": g.line_bits,
            "fill_lane": g.lane_bits, "fill_from": g.lane_bits,
        }
    )  # fmt: skip


class Load(wiring.Component):
    """Load boxes of lines: requests from the cycle of `start` on, one a cycle; the data go where the box says.

    Latency: a beat requested in cycle `t` is written in cycle ``t + Λ`` if its data come ``Λ − stages`` cycles after
    the request or earlier, else as much later as they come; the cycle after can read it. Throughput: one beat a cycle.

    Parameters
    ----------
    geometry : Geometry
        Of the data path.
    stages : int
        Registers between data and memories, 0 or 1: data must then come earlier.

    Members
    -------
    start : In(1), box : In(`Geometry.box`), ready : Out(1)
        As `BoxGenerator`.
    request : Out(stream of address)
        Beats to read, in order. Beats without a byte of the line, or of padding, are not requested.
    data : In(stream of a beat)
        Their data, in order; taken no earlier than the contract says.
    scratchpad, accumulator : Out(stream of writes, always ready)
        What is written in this cycle.
    done : Out(1)
        The cycle of a box's last write: the cycle before the command's end.
    """

    def __init__(self, geometry: Geometry, stages: int = 0) -> None:
        self.geometry, self.stages = geometry, stages
        g = geometry
        beat = data.ArrayLayout(8, g.beat_bytes)
        super().__init__(
            {
                "start": In(1), "box": In(g.box), "ready": Out(1), "done": Out(1),
                "request": Out(stream.Signature(ADDRESS_BITS)), "data": In(stream.Signature(beat)),
                "scratchpad": Out(stream.Signature(scratchpad_write(g), always_ready=True)),
                "accumulator": Out(stream.Signature(accumulator_write(g), always_ready=True)),
            }
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Build it: the walk, what is under way, the way of the data."""
        m, g = Module(), self.geometry
        m.submodules.walk = walk = BoxGenerator(g)
        m.submodules.pending = pending = Pending(_pending(g), g.latency_cycles - self.stages)
        m.d.comb += [walk.start.eq(self.start), walk.box.eq(self.box), self.ready.eq(walk.ready)]
        self._request(m, walk, pending)
        m.d.comb += [pending.answer.eq(self.data.valid), self.data.ready.eq(pending.take)]
        self._write(m, pending.beat)
        return m

    def _request(self, m: Module, walk: Any, pending: Any) -> None:
        """Enter a beat and request it in one cycle, or neither."""
        beat, box, kept = walk.beat.payload, walk.command, pending.request.payload
        moves = Signal()
        m.d.comb += [
            moves.eq(~beat.padding & (beat.high > beat.low)),
            self.request.payload.eq(beat.address),
            self.request.valid.eq(walk.beat.valid & moves & pending.request.ready),
            pending.request.valid.eq(walk.beat.valid & (~moves | self.request.ready)),
            walk.beat.ready.eq(pending.request.ready & (~moves | self.request.ready)),
            *(kept[name].eq(beat[name]) for name in ("low", "high", "padding", "row", "place", "last")),
            *(kept[name].eq(box[name]) for name in ("into_accumulator", "half", "fixed", "format")),
            *(kept[name].eq(box[name]) for name in ("exponent", "lowest")),
            kept.moves.eq(moves),
            kept.wrap.eq(box.wrap),
            kept.fill_line.eq(beat.start.line + box.tail.line),
            kept.fill_lane.eq(beat.start.lane),
            kept.fill_from.eq(box.tail.lane),
        ]  # fmt: skip

    def _write(self, m: Module, turn: Any) -> None:
        """Move elements, widen words; a register behind them where there is a stage."""
        g, kept = self.geometry, turn.payload
        scratchpad, accumulator = Signal(scratchpad_write(g)), Signal(accumulator_write(g))
        enabled = Signal(g.beat_bytes)  # bytes of the beat that are the line's
        m.d.comb += enabled.eq(Cat((kept.low <= i) & (i < kept.high) for i in range(g.beat_bytes)))
        size = g.operand_bits // 8
        for i in range(len(scratchpad.elements)):
            element = Cat(self.data.payload[size * i + j] for j in range(size))
            m.d.comb += [scratchpad.elements[i].eq(Mux(kept.padding, 0, element))]
            m.d.comb += scratchpad.enable[i].eq(enabled[size * i])
        m.d.comb += [scratchpad[name].eq(kept[name]) for name in ("place", "row", "wrap")]
        copied = ("half", "fixed", "place", "fill_line", "fill_lane", "fill_from")
        m.d.comb += [accumulator[name].eq(kept[name]) for name in copied]
        m.d.comb += accumulator.fill.eq(kept.fill_from != 0)
        self._widen(m, kept, enabled, accumulator)
        for write, port, into in (
            (scratchpad, self.scratchpad, ~kept.into_accumulator),
            (accumulator, self.accumulator, kept.into_accumulator),
        ):
            valid = turn.valid & into
            if self.stages:
                m.d.sync += [port.payload.eq(write), port.valid.eq(valid)]
            else:
                m.d.comb += [port.payload.eq(write), port.valid.eq(valid)]
        domain = m.d.sync if self.stages else m.d.comb
        domain += self.done.eq(turn.valid & kept.last)

    def _widen(self, m: Module, kept: Any, enabled: Any, out: Any) -> None:
        """Give the beat's words in the format of the command, times 2^EXPONENT; 32-bit words as they are."""
        g = self.geometry
        for i in range(g.most_words):
            word, narrow, enable = out.words[i], Signal(32, name=f"narrow_{i}"), out.enable[i]
            scale = m.submodules[f"scale_{i}"] = Scale()
            m.d.comb += [scale.x.eq(narrow), scale.exponent.eq(kept.exponent)]
            with m.Switch(kept.format):
                for format in g.formats:
                    size = FORMAT_BITS[format] // 8
                    if i >= g.words_per_beat(format):
                        continue
                    element = Cat(self.data.payload[size * i + j] for j in range(size))
                    with m.Case(FORMAT_CODES[format]):
                        m.d.comb += enable.eq(enabled[size * i])
                        if size == 4:
                            m.d.comb += word.eq(element)
                        else:
                            widen = m.submodules[f"widen_{format}_{i}"] = Widen(format)
                            m.d.comb += [widen.x.eq(element), narrow.eq(widen.y), word.eq(scale.y)]
            with m.If(kept.padding):
                m.d.comb += word.eq(Mux(kept.lowest, _LOWEST, 0))


def _pending(g: Geometry) -> data.StructLayout:
    """What is kept of a beat until its data are there."""
    beat = BEAT(g)
    box = g.box
    kept = {name: beat[name].shape for name in ("low", "high", "padding", "row", "place", "last")}
    kept |= {name: box[name].shape for name in ("wrap", "into_accumulator", "half", "fixed", "format", "lowest")}
    fill = {"fill_line": g.line_bits, "fill_lane": g.lane_bits, "fill_from": g.lane_bits}
    return data.StructLayout({**kept, **fill, "exponent": signed(10), "moves": 1})
