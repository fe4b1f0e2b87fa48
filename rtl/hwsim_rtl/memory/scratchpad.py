"""The scratchpad: banks of one-element-wide sub-banks, skewed, so that a row or a column is read in one cycle.

Normative: docs/contracts/program.md, section 3; how it is built: docs/rtl-dma.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product
from operator import or_
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.program import SCRATCHPAD_READ_CYCLES
from hwsim_rtl.dma.align import add_modulo, bits_for, later, rotate
from hwsim_rtl.dma.box import Geometry
from hwsim_rtl.dma.load import scratchpad_write
from hwsim_rtl.memory.bank import BankPair

__all__ = ["Scratchpad", "scratchpad_read"]


def scratchpad_read(g: Geometry) -> data.StructLayout:
    """A read of `D` elements: consecutive columns of a line, or, `by_lane`, one lane of consecutive lines.

    `place` is the first element's, `row` the number of its line in the tile modulo D; a column beyond the last lane
    lies `wrap` lines further on. The last `idle` elements of a lane are not looked at: their lines, which may lie
    behind the tile, are not touched.
    """
    return data.StructLayout(
        {"place": g.place, "row": g.lane_bits, "wrap": g.line_bits, "by_lane": 1, "idle": g.lane_bits}
    )


class Scratchpad(wiring.Component):
    """Operand memory: two reads of a line, or of a lane of consecutive lines, and one write of a beat, a cycle.

    Latency: data `READ_CYCLES` after the read: lines and banks of the sub-banks; what they hold; the one of each pair
    of banks; the one of all pairs, in order. What is written in a cycle can be read in the next. The three
    accesses of a cycle must be to different banks.

    Parameters
    ----------
    geometry : Geometry
        Of banks, lines and elements.

    Attributes
    ----------
    memories : list of list of BankPair
        By pair of banks, and sub-bank; of an odd number of banks the last one has a pair of its own.

    Members
    -------
    read_a, read_b : In(stream of `scratchpad_read`, always ready)
        Reads of the operands A and B.
    data_a, data_b : Out(array of D elements)
        What was read `READ_CYCLES` before.
    write : In(stream of `scratchpad_write`, always ready)
        Beat to write.
    conflict : Out(1)
        Two accesses met in one bank, two cycles before: a program that no mapping makes.
    """

    #: From the cycle of a read to that of its data.
    READ_CYCLES = SCRATCHPAD_READ_CYCLES

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = g = geometry
        self.memories = [
            [BankPair(g.operand_bits, g.bank_lines) for _ in range(g.deep)] for _ in range(-(-g.banks // 2))
        ]
        read = stream.Signature(scratchpad_read(g), always_ready=True)
        elements = data.ArrayLayout(g.operand_bits, g.deep)
        super().__init__(
            {
                "read_a": In(read), "read_b": In(read), "data_a": Out(elements), "data_b": Out(elements),
                "write": In(stream.Signature(scratchpad_write(g), always_ready=True)), "conflict": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Build it: every sub-bank finds the line that each access reads or writes there."""
        m, g = Module(), self.geometry
        reads = {name: getattr(self, f"read_{name}") for name in "ab"}
        lines, wants = {}, {}
        for name, port in reads.items():
            lines[name], wants[name] = self._banks(m, name, self._lines(m, name, port.payload), [port.valid] * g.deep)
        lines["write"], wants["write"], elements = self._written(m)
        found: dict[str, list[list[Value]]] = {name: [[] for _ in range(g.deep)] for name in reads}
        clashes: list[list[Value]] = [[] for _ in range(g.banks)]
        for pair, sub in product(range(len(self.memories)), range(g.deep)):
            memory = m.submodules[f"banks_{pair}_{sub}"] = self.memories[pair][sub]
            read = {name: C(0, g.operand_bits) for name in reads}
            m.d.comb += memory.write_data.eq(elements[sub])
            for i, bank in enumerate(range(2 * pair, min(2 * pair + 2, g.banks))):
                a, b, writes = (wants[name][sub][bank] for name in (*reads, "write"))
                line = Mux(a, lines["a"][sub], Mux(b, lines["b"][sub], lines["write"][sub]))
                m.d.comb += [getattr(memory, f"write_{i}").eq(writes), getattr(memory, f"address_{i}").eq(line)]
                clashes[bank] += [a & b, writes & (a | b)]
                for name in reads:
                    was = later(m, wants[name][sub][bank], f"{name}_was_{bank}_{sub}")
                    read[name] |= getattr(memory, f"read_data_{i}") & was.replicate(g.operand_bits)
            for name, element in read.items():
                found[name][sub].append(later(m, element, f"{name}_found_{pair}_{sub}"))
        met = Signal(g.banks)
        m.d.sync += [met[bank].eq(Cat(pairs).any()) for bank, pairs in enumerate(clashes)]
        m.d.comb += self.conflict.eq(met.any())
        for name, port in reads.items():
            self._give(m, name, port.payload, found[name])
        return m

    def _banks(self, m: Module, name: str, lines: Sequence[Value], wants: Sequence[Value]) -> Any:
        """By sub-bank, in the cycle after: line within the bank, and, bank by bank, whether it is wanted there.

        That each bank has a register to say so saves two look-up tables on the way to its memory, and tells Yosys
        nothing of when two ports are not used at once: it would make one of both, and copies of the memory.
        """
        g = self.geometry
        offset = bits_for(g.bank_lines) if g.bank_lines > 1 else 0
        banks = [
            Cat(want & (line[offset:] == bank) for bank in range(g.banks))
            for line, want in zip(lines, wants, strict=True)
        ]
        return (
            [later(m, line[:offset], f"{name}_line_{sub}") for sub, line in enumerate(lines)],
            [later(m, bank, f"{name}_banks_{sub}", reset=True) for sub, bank in enumerate(banks)],
        )

    def _amount(self, access: Any) -> Value:
        """Sub-bank of the first element: its line and its lane, modulo D."""
        return add_modulo(access.row, access.place.lane, self.geometry.deep)[0]

    def _lines(self, m: Module, name: str, access: Any) -> Any:
        """Line that an access reads, by sub-bank."""
        g = self.geometry
        amount = Signal(bits_for(g.deep), name=f"{name}_amount")
        m.d.comb += amount.eq(self._amount(access))
        passed = self._passed(m, access, amount, name)
        lines = []
        for sub in range(g.deep):
            element = (sub - amount + Mux(amount > sub, g.deep, 0))[: bits_for(g.deep)]
            along = Mux(element + access.idle >= g.deep, 0, element)
            across = Mux(passed[sub], access.wrap, 0)
            line = Signal(g.line_bits, name=f"{name}_sub_line_{sub}")
            m.d.comb += line.eq(access.place.line + Mux(access.by_lane, along, across))
            lines.append(line)
        return lines

    def _passed(self, m: Module, access: Any, amount: Any, name: str) -> Any:
        """Whether a sub-bank's element lies in the block of columns behind that of the first element."""
        deep = self.geometry.deep
        beyond = [access.place.lane + i >= deep for i in range(deep)]
        return rotate(m, beyond, amount, f"{name}_beyond")

    def _written(self, m: Module) -> Any:
        """Line, banks and element of the beat to write, by sub-bank, in the cycle after."""
        g, beat = self.geometry, self.write.payload
        amount = Signal(bits_for(g.deep), name="write_amount")
        m.d.comb += amount.eq(self._amount(beat))
        idle = g.deep - len(beat.elements)
        elements = [beat.elements[i] for i in range(len(beat.elements))] + [C(0, g.operand_bits)] * idle
        enables = [beat.enable[i] & self.write.valid for i in range(len(beat.elements))] + [C(0, 1)] * idle
        passed = self._passed(m, beat, amount, "write")
        lines = [Signal(g.line_bits, name=f"write_sub_line_{sub}") for sub in range(g.deep)]
        m.d.comb += [line.eq(beat.place.line + Mux(passed[sub], beat.wrap, 0)) for sub, line in enumerate(lines)]
        enables, elements = rotate(m, enables, amount, "enable"), rotate(m, elements, amount, "element")
        return (
            *self._banks(m, "write", lines, enables),
            [later(m, element, f"written_{sub}") for sub, element in enumerate(elements)],
        )

    def _give(self, m: Module, name: str, access: Any, found: Any) -> None:
        """Turn what the sub-banks read back into the order of elements."""
        amount: Value = self._amount(access)
        for cycle in range(1, self.READ_CYCLES):
            amount = later(m, amount, f"{name}_turn_{cycle}")
        gathered = [reduce(or_, elements) for elements in found]
        ordered = rotate(m, gathered, amount, f"{name}_element", back=True)
        m.d.sync += [getattr(self, f"data_{name}")[i].eq(element) for i, element in enumerate(ordered)]
