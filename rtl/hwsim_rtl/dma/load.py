"""The load unit: boxes of lines from memory into the scratchpad, or widened into the accumulator.

Normative: docs/contracts/values.md, section 2; cycles.md, section 2; program.md, section 4.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.errors import HwsimError
from hwsim.hardware.formats import FORMAT_BITS
from hwsim.program import FORMAT_CODES
from hwsim_rtl.arithmetic import Scale, Widen
from hwsim_rtl.dma.align import bits_for, later, rotate
from hwsim_rtl.dma.box import ADDRESS_BITS, BEAT, NO_LIMIT, WALK_CYCLES, Geometry
from hwsim_rtl.dma.pending import Pending
from hwsim_rtl.dma.walk import BoxGenerator

__all__ = ["Load"]

_LOWEST = 0xFF800000
#: What is kept of a beat, and of its box.
_OF_BEAT = ("low", "high", "padding", "row", "place", "last")
_OF_BOX = ("wrap", "into_accumulator", "half", "fixed", "format", "exponent", "lowest")


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

    The words come a cycle after all the rest, and are written then: where they go is known before they are scaled.
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
    """Load boxes of lines: requests from `WALK_CYCLES` after the start on, one a cycle; the data go where the box says.

    Latency: beat `i` of a box that starts in cycle `s` is written in cycle ``s + i + Λ`` if its data come
    `memory_cycles` after the request or earlier, else as much later as they come; the cycle after can read it.
    Throughput: one beat a cycle.

    Parameters
    ----------
    geometry : Geometry
        Of the data path.
    stages : int
        Registers between data and memories, 1 or 2: data must come so much earlier.

    Raises
    ------
    HwsimError
        If `stages` is neither.

    Attributes
    ----------
    memory_cycles : int
        Request to data, at most, if ends are to be those of the contract [cycles].

    Members
    -------
    start : In(1), box : In(`Geometry.box`), ready : Out(1)
        As `BoxGenerator`.
    request : Out(stream of address)
        Beats to read, in order. Beats without a byte of the line, or of padding, are not requested.
    data : In(stream of a beat)
        Their data, in order; taken no earlier than the contract says.
    scratchpad, accumulator : Out(stream of writes, always ready)
        What is written in this cycle; in the accumulator, in the next one.
    done : Out(1)
        The cycle of a box's last write: the cycle before the command's end.
    limit : In(address), beyond : Out(1)
        Beats from this address on are not requested, and that there was one; what is written for them means nothing.
    """

    def __init__(self, geometry: Geometry, stages: int = 1) -> None:
        if stages not in (1, 2):
            raise HwsimError(f"a load has 1 or 2 registers between data and memories, not {stages}")
        self.geometry, self.stages = geometry, stages
        g = geometry
        self.memory_cycles = g.latency_cycles - WALK_CYCLES - stages
        beat = data.ArrayLayout(8, g.beat_bytes)
        super().__init__(
            {
                "start": In(1), "box": In(g.box), "ready": Out(1), "done": Out(1),
                "limit": In(ADDRESS_BITS, init=NO_LIMIT), "beyond": Out(1),
                "request": Out(stream.Signature(ADDRESS_BITS)), "data": In(stream.Signature(beat)),
                "scratchpad": Out(stream.Signature(scratchpad_write(g), always_ready=True)),
                "accumulator": Out(stream.Signature(accumulator_write(g), always_ready=True)),
            }
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Build it: the walk, what is under way, the way of the data."""
        m, g = Module(), self.geometry
        m.submodules.walk = walk = BoxGenerator(g)
        m.submodules.pending = pending = Pending(_pending(g), self.memory_cycles)
        m.d.comb += [walk.start.eq(self.start), walk.box.eq(self.box), self.ready.eq(walk.ready)]
        self._request(m, walk, pending)
        m.d.comb += [pending.answer.eq(self.data.valid), self.data.ready.eq(pending.take)]
        self._write(m, pending.beat)
        return m

    def _request(self, m: Module, walk: Any, pending: Any) -> None:
        """Enter a beat and request it in one cycle, or neither."""
        beat, kept = walk.beat.payload, pending.request.payload
        moves = Signal()
        m.d.comb += [
            walk.limit.eq(self.limit),
            moves.eq(beat.wanted & beat.within),
            self.beyond.eq(walk.beat.valid & beat.wanted & ~moves),
            self.request.payload.eq(beat.address),
            self.request.valid.eq(walk.beat.valid & moves & pending.request.ready),
            pending.request.valid.eq(walk.beat.valid & (~moves | self.request.ready)),
            walk.beat.ready.eq(pending.request.ready & (~moves | self.request.ready)),
            *(kept[name].eq(beat[name]) for name in _OF_BEAT),
            *(kept[name].eq(beat.about[name]) for name in _OF_BOX),
            kept.moves.eq(moves),
            kept.fill_line.eq(beat.start.line + beat.about.tail.line),
            kept.fill_lane.eq(beat.start.lane),
            kept.fill_from.eq(beat.about.tail.lane),
        ]  # fmt: skip

    def _write(self, m: Module, turn: Any) -> None:
        """Move elements, widen words and scale them; a register behind each of the two, or behind both."""
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
        narrow = self._widen(m, kept, self._turn(m, kept), enabled, accumulator)

        scaled = Signal(_scaled(g))
        m.d.comb += [scaled.exponent.eq(kept.exponent), scaled.is_narrow.eq(narrow & ~kept.padding)]
        valid = Cat(turn.valid & ~kept.into_accumulator, turn.valid & kept.into_accumulator, turn.valid & kept.last)
        if self.stages > 1:
            scratchpad, accumulator, scaled, valid = (
                later(m, value, f"widened_{name}", reset=name == "valid")
                for name, value in (
                    ("scratchpad", scratchpad), ("accumulator", accumulator), ("scaled", scaled), ("valid", valid),
                )
            )  # fmt: skip
        words = self._scale(m, scaled, accumulator.words)
        m.d.comb += [self.accumulator.payload.eq(accumulator), self.accumulator.valid.eq(valid[1])]
        scratchpad, words, valid = (
            later(m, value, f"scaled_{name}", reset=name == "valid")
            for name, value in (("scratchpad", scratchpad), ("words", words), ("valid", Cat(valid[0], valid[2])))
        )
        m.d.comb += [
            self.scratchpad.payload.eq(scratchpad), self.accumulator.payload.words.eq(words),
            Cat(self.scratchpad.valid, self.done).eq(valid),
        ]  # fmt: skip

    def _turn(self, m: Module, kept: Any) -> list[Value]:
        """Give the bytes of the beat in the order of the banks that their words go to."""
        g = self.geometry
        beat = [self.data.payload[i] for i in range(g.beat_bytes)]
        if not g.turned or g.beat_bytes == 1:
            return beat
        bits = bits_for(g.beat_bytes)
        amount = Signal(bits, name="turned_bytes")
        with m.Switch(kept.format):
            for format in g.formats:
                with m.Case(FORMAT_CODES[format]):
                    m.d.comb += amount.eq((kept.place.lane * (FORMAT_BITS[format] // 8))[:bits])
        return rotate(m, beat, amount, "turned_beat")

    def _widen(self, m: Module, kept: Any, beat: list[Value], enabled: Any, out: Any) -> Value:
        """Give the beat's words as fp32; 32-bit words as they are. Gives whether they are of a narrow format.

        Where the beat is turned, the words of a wide format are there several times, once for each of their banks.
        """
        g, is_narrow = self.geometry, Signal()
        for i in range(g.most_words):
            word, enable = out.words[i], out.enable[i]
            with m.If(kept.padding):
                m.d.comb += word.eq(Mux(kept.lowest, _LOWEST, 0))
            with m.Switch(kept.format):
                for format in g.formats:
                    size, count = FORMAT_BITS[format] // 8, g.words_per_beat(format)
                    if i >= count and not g.turned:
                        continue
                    element: Any = Cat(beat[size * (i % count) + j] for j in range(size))
                    if size < 4:
                        widen = m.submodules[f"widen_{format}_{i}"] = Widen(format)
                        m.d.comb += widen.x.eq(element)
                        element = widen.y
                    with m.Case(FORMAT_CODES[format]):
                        m.d.comb += [enable.eq(enabled[size * i] if i < count else 0), is_narrow.eq(size < 4)]
                        with m.If(~kept.padding):
                            m.d.comb += word.eq(element)
        return is_narrow

    def _scale(self, m: Module, scaled: Any, words: Any) -> Any:
        """Give the words times 2^EXPONENT where they are of a narrow format."""
        out = Signal.like(words, name="scaled")
        for i in range(self.geometry.most_words):
            scale = m.submodules[f"scale_{i}"] = Scale()
            m.d.comb += [scale.x.eq(words[i]), scale.exponent.eq(scaled.exponent)]
            m.d.comb += out[i].eq(Mux(scaled.is_narrow, scale.y, words[i]))
        return out


def _scaled(g: Geometry) -> data.StructLayout:
    """What scaling needs to know."""
    return data.StructLayout({"exponent": g.box["exponent"].shape, "is_narrow": 1})


def _pending(g: Geometry) -> data.StructLayout:
    """What is kept of a beat until its data are there."""
    beat = BEAT(g)
    kept = {name: beat[name].shape for name in _OF_BEAT} | {name: beat["about"].shape[name].shape for name in _OF_BOX}
    fill = {"fill_line": g.line_bits, "fill_lane": g.lane_bits, "fill_from": g.lane_bits}
    return data.StructLayout({**kept, **fill, "moves": 1})
