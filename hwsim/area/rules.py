"""One rule per part of the machine: what its area is made of on an accelerator, or on columns of many.

`RULES` maps a part's name to its rule; `AreaContext` holds what rules share. Every assumption of this project is a
constant here, an `Estimate` with its reason. Rules work element by element: fields may be arrays, but for operand
format, dataflow and node. Normative: docs/contracts/area.md, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hwsim.area.cells import TABLE_WORDS, VARIABLES, count
from hwsim.area.scaling import logic_scale
from hwsim.area.table import AreaTable
from hwsim.energy.scaling import Estimate
from hwsim.hardware import Accelerator

__all__ = ["PARTS", "RULES", "AreaContext", "Rule"]

#: Area of placed logic ÷ that of its cells. Value 1: what placement leaves empty, and how much larger the cells of our
#: library are than those of products, are taken to cancel, as they do within a third in the chips of docs/area.md. The
#: upper end has cells that fill 70 % of their rows; the lower one is `AreaContext.library`.
PLACED = Estimate(1.0, 1.0, 1 / 0.7, ("[C] cells fill 70 % of the rows or more: estimate of this project",))

#: Macro of SRAM ÷ its bit cells, if large: N3E's 31.8 Mibit/mm² of 0.021 µm² are 70 %; the test chips of Intel at 90,
#: 65 and 45 nm are 38 to 48 % cells, all else on the chip included; the buffers of TPU v1 about 30 %.
SRAM_OVERHEAD = Estimate(1 / 0.5, 1 / 0.7, 1 / 0.3, ("[C] cells take 50 (30 to 70) % of a large SRAM macro",))

#: Capacity [bytes] at which a macro's decoders and sense amplifiers take as much again: area ∝ 1 + √(this ÷ capacity).
#: The upper end has OpenRAM's macro of 512 bytes (7 % cells) within its bounds.
PERIPHERY_BYTES = Estimate(1024.0, 0.0, 8192.0, ("[C] macros of 1 (0 to 8) KiB are half periphery: estimate",))

#: Times the accumulator's capacity that is built: three copies, since the vector unit reads three lines a cycle, of the
#: halves and of fixed lines as large as one of them, as in our RTL. The lower end has the fixed lines in their half,
#: where docs/contracts/program.md has them, and cells with as many ports in the place of copies.
ACCUMULATOR_COPIES = Estimate(4.5, 1.0, 4.5, ("[C] accumulator: 3 copies of 3 memories, as in our RTL",))

#: Bit cell with a read and a write port ÷ one with one port: eight transistors; the lower end is one port, used twice
#: a cycle.
TWO_PORTS = Estimate(1.4, 1.0, 2.0, ("[C] a cell with two ports is 1.4 (1 to 2) single ones: estimate",))

#: A bit of a queue or of another small memory ÷ a flip-flop: a latch is half of one, and all of them are read by gates.
QUEUE_BIT = Estimate(0.7, 0.3, 1.0, ("[C] a bit of a queue is 0.7 (0.3 to 1) flip-flops: estimate of this project",))

#: Table of special functions ÷ SRAM of its capacity: in a ROM a bit is one transistor, or gates have it.
TABLE = Estimate(0.5, 0.1, 1.0, ("[C] a table is 0.5 (0.1 to 1) SRAM of its capacity: estimate of this project",))


@dataclass(frozen=True)
class Rule:
    """Area of one part, in words where it comes from, and why it is uncertain."""

    area: Callable[[AreaContext], Estimate]
    derivation: Callable[[AreaContext], str]
    uncertain: str


class AreaContext:
    """What the rules ask for: an accelerator, or columns of many, with one table."""

    def __init__(self, accelerator: Accelerator, table: AreaTable) -> None:
        self.hw, self.table = accelerator, table

    def cell(self, kind: str) -> Estimate:
        """One transistor in a gate, or one flip-flop, placed, at the accelerator's node [mm²]."""
        rows = self.table.select("logic", kind, "cell")
        row = min(rows, key=lambda r: abs(math.log(r.node_nm / self.hw.node_nm)))
        area = row.estimate * logic_scale(row.node_nm, self.hw.node_nm)
        return area * self.library(row.node_nm) * PLACED * 1e-6

    def library(self, node_nm: float) -> Estimate:
        """How much smaller other libraries may be than ours: the least ratio of an operation that the table has at
        45 nm and at the node of our cells, too.
        """
        ratios: list[float] = [1.0]
        sources: tuple[str, ...] = ()
        for kind, format in (("add", "int32"), ("add", "fp32"), ("mul", "fp32")):
            at = {row.node_nm: row for row in self.table.select("operation", kind, format)}
            if 45.0 in at and node_nm in at and node_nm != 45.0:
                own = at[node_nm].value_um2 * logic_scale(node_nm, 45.0).value
                ratios.append(at[45.0].value_um2 / own)
                sources = at[45.0].estimate.sources
        return Estimate(1.0, min(ratios), 1.0, sources)

    def logic(self, part: str) -> Estimate:
        """A part's gates and flip-flops, the bits of its small memories among these [mm²]."""
        gates, flip_flops, bits = (count(part, name, self.hw) for name in ("gates", "FF", "bits"))
        return gates * self.gate + (flip_flops + bits * QUEUE_BIT) * self.flip_flop

    @cached_property
    def gate(self) -> Estimate:
        """One transistor in a gate [mm²]."""
        return self.cell("gate_transistor")

    @cached_property
    def flip_flop(self) -> Estimate:
        """One flip-flop [mm²]."""
        return self.cell("flip_flop")

    @cached_property
    def deep(self) -> Any:
        """Elements of a scratchpad line."""
        return VARIABLES["deep"](self.hw)

    @cached_property
    def bit(self) -> Estimate:
        """One SRAM cell with one port [mm²]."""
        return self.table.interpolated("sram", "cell", "6t", self.hw.node_nm) * 1e-6

    def macros(self, capacity_bytes: Any, fewest: Any, most: Any) -> Estimate:
        """SRAM of a capacity, in the fewest or the most macros that it may be cut into [mm²]."""
        value, high = (
            capacity_bytes + np.sqrt(periphery * capacity_bytes * number)
            for periphery, number in ((PERIPHERY_BYTES.value, fewest), (PERIPHERY_BYTES.high, most))
        )
        low = capacity_bytes + np.sqrt(PERIPHERY_BYTES.low * capacity_bytes * fewest)
        return Estimate(value, low, high, PERIPHERY_BYTES.sources) * 8.0 * self.bit * SRAM_OVERHEAD


def _array(c: AreaContext) -> Estimate:
    return c.logic("pe") * (c.hw.array.rows * c.hw.array.cols)


def _array_text(c: AreaContext) -> str:
    a = c.hw.array
    each = c.logic("pe").value * 1e6
    return f"{c.hw.pes:,} PEs of {each:,.0f} µm², {a.operand_format}, μ {a.multiply_latency_cycles}, α " + str(
        a.add_latency_cycles
    )


def _scratchpad(c: AreaContext) -> Estimate:
    banks = c.hw.scratchpad.banks
    return c.macros(c.hw.scratchpad.capacity_bytes, banks, banks * c.deep)


def _scratchpad_text(c: AreaContext) -> str:
    kib = c.hw.scratchpad.capacity_bytes / 1024
    return f"SRAM, {kib:g} KiB in {c.hw.scratchpad.banks} macros (as many sub-banks each at most)"


def _accumulator(c: AreaContext) -> Estimate:
    one = c.macros(c.hw.accumulator.capacity_bytes, 2.0, 2.0 * c.hw.array.cols)
    return one * ACCUMULATOR_COPIES * TWO_PORTS


def _accumulator_text(c: AreaContext) -> str:
    kib = c.hw.accumulator.capacity_bytes / 1024
    return f"SRAM, {kib:g} KiB × {ACCUMULATOR_COPIES.value:g} for copies and fixed lines, two ports"


def _logic(part: str) -> tuple[Callable[[AreaContext], Estimate], Callable[[AreaContext], str]]:
    def text(c: AreaContext) -> str:
        gates, flip_flops = count(part, "gates", c.hw).value, count(part, "FF", c.hw).value
        return f"{gates / 1e3:,.3g} k transistors in gates, {flip_flops:,.0f} flip-flops"

    return lambda c: c.logic(part), text


def _vector(c: AreaContext) -> Estimate:
    lanes = c.hw.vector.lanes
    return c.logic("vector") + c.macros(4 * TABLE_WORDS * lanes, lanes, lanes) * TABLE


def _vector_text(c: AreaContext) -> str:
    return f"{_logic('vector')[1](c)}, tables of {4 * TABLE_WORDS * c.hw.vector.lanes / 1024:g} KiB"


def _control(c: AreaContext) -> Estimate:
    return c.logic("control") + c.logic("registers") + c.logic("counters") + c.logic("machine")


def _control_text(c: AreaContext) -> str:
    gates, flip_flops = (
        sum(count(part, name, c.hw).value for part in ("control", "registers", "counters", "machine"))
        for name in ("gates", "FF")
    )
    return f"{gates / 1e3:,.3g} k transistors in gates, {flip_flops:,.0f} flip-flops: queues, fetch, registers"


_LOGIC_REASON = "from our cells at 180 nm: other libraries are up to a third as large; scaling; placement"
_SRAM_REASON = "how much of a macro is cells, and into how many macros it is cut"

RULES: dict[str, Rule] = {
    "array": Rule(_array, _array_text, _LOGIC_REASON),
    "matrix": Rule(*_logic("matrix"), _LOGIC_REASON),
    "scratchpad": Rule(_scratchpad, _scratchpad_text, _SRAM_REASON),
    "scratchpad.logic": Rule(*_logic("scratchpad"), _LOGIC_REASON),
    "accumulator": Rule(_accumulator, _accumulator_text, "whether reads of three lines a cycle take copies"),
    "accumulator.logic": Rule(*_logic("accumulator"), _LOGIC_REASON),
    "vector": Rule(_vector, _vector_text, _LOGIC_REASON),
    "load": Rule(*_logic("load"), _LOGIC_REASON),
    "store": Rule(*_logic("store"), _LOGIC_REASON),
    "control": Rule(_control, _control_text, _LOGIC_REASON),
}

#: The parts, in the order of every list.
PARTS = tuple(RULES)
