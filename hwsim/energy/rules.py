"""One rule per action: which rows of the energy table, SRAM fits and assumptions make its price on an accelerator.

`RULES` maps an action's name to its rule, `PricingContext` holds what the rules share. Every assumption of this
project is a constant here, an `Estimate` with its reason. Normative: docs/contracts/energy.md, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np

from hwsim.energy.scaling import Estimate, scale
from hwsim.energy.sram import leakage_pj_per_byte_ns, read_pj_per_byte, write_to_read_ratio
from hwsim.energy.table import EnergyTable
from hwsim.hardware import Accelerator
from hwsim.program import COMMAND_BYTES

__all__ = ["RULES", "PricingContext", "Rule", "operation_energy"]

#: int32 additions that one command costs in decoding, semaphores and dispatch, and that a unit's address generators
#: make in a cycle (loop counters and strides of a three-dimensional box, on chip and in DRAM). Estimates of this
#: project, from the fields of the commands.
COMMAND_ADDS = Estimate(20, 8, 60, ("[C] int32 adds per command: estimate of this project",))
UNIT_ADDS = Estimate(6, 2, 12, ("[C] address adds per unit cycle: estimate of this project",))

#: fp32 multiply-adds of a special function after its table lookup of 8 bytes in 2 KiB: quadratic interpolation;
#: linear at the least, five where range reduction or a Newton step comes on top. Estimate of this project.
SPECIAL_FMAS = Estimate(2, 1, 5, ("[C] multiply-adds per special function: estimate of this project",))
SPECIAL_TABLE_BYTES = 2048

#: High bound on a scratchpad access over that of one macro as wide as the line: each of the D sub-banks has its own
#: decoder and word line, and D elements pass a rotation network. Estimate of this project.
NARROW_BANKS = Estimate(1.0, 1.0, 1.5, ("[C] sub-banks and rotation of the scratchpad: estimate of this project",))

#: Share of the leaf clock energy of all idle PEs that the clock tree above the leaves takes every cycle; 0 when
#: gated, 1 when nothing is gated.
CLOCK_TREE = Estimate(0.2, 0.0, 1.0, ("[C] clock tree share: estimate of this project",))

#: Transistors per PE: int8 and bf16 from the own gate-level prototype (yosys, cmos2, 8×8 and 4×4 weight-stationary
#: arrays); the others placed about them by the width of their multipliers, an estimate of this project. A factor of 2
#: either way.
PE_TRANSISTORS = MappingProxyType(
    {"int8": 6_400, "fp8_e4m3": 9_000, "fp8_e5m2": 8_500, "bf16": 12_600, "fp16": 14_500, "fp32": 38_000}
)
_TRANSISTORS_SOURCE = (
    "[C] transistors per PE and lane: own gate-level prototype (int8, bf16), else estimate of this project",
)

#: Transistors of an SRAM cell times bits of a byte.
BYTE_TRANSISTORS = 6 * 8

#: Bandwidth of the devices that one ``background_ns`` row is for [bytes/s]: 64 bits of DDR4-2400, 16 of LPDDR4-2400,
#: 1,024 of HBM2 at 2 Gb/s.
DEVICE_BYTES_PER_S = MappingProxyType({"DDR4-2400": 19.2e9, "LPDDR4-2400": 4.8e9, "HBM2": 256e9})


@dataclass(frozen=True)
class Rule:
    """Price of one action on an accelerator, its derivation in words, and why the price is uncertain.

    `price` takes columns as well: numbers of the accelerator may be arrays of many points (`PricingContext`).
    """

    price: Callable[[PricingContext], Estimate]
    derivation: Callable[[PricingContext], str]
    uncertain: str


def operation_energy(table: EnergyTable, component: str, action: str, format_or_size: str, node_nm: float) -> Estimate:
    """Energy of one operation of the table at a node.

    A row at the node counts as it is. Between two rows the value lies on the power law through them; its interval is
    the envelope of both rows scaled to the node, within the bracket of the two rows' own bounds. Beyond them the
    nearest row is scaled.

    Examples
    --------
    >>> from hwsim.energy import load_energy_table
    >>> table = load_energy_table()
    >>> [round(operation_energy(table, "mac_mul", "mul", "int8", node).value, 3) for node in (45, 22, 7)]
    [0.2, 0.134, 0.07]
    """
    rows = table.select(component, action, format_or_size)
    below = [r for r in rows if r.node_nm <= node_nm]
    above = [r for r in rows if r.node_nm >= node_nm]
    if not (below and above) or below[-1] is above[0]:
        nearest = below[-1] if below else above[0]
        return nearest.estimate * scale(nearest.node_nm, node_nm)
    lower, upper = below[-1], above[0]
    exponent = math.log(upper.value_pj / lower.value_pj) / math.log(upper.node_nm / lower.node_nm)
    value = lower.value_pj * (node_nm / lower.node_nm) ** exponent
    first, second = (row.estimate * scale(row.node_nm, node_nm) for row in (lower, upper))
    low = max(min(first.low, second.low), min(lower.low_pj, upper.low_pj))
    high = min(max(first.high, second.high), max(lower.high_pj, upper.high_pj))
    return Estimate(value, min(low, value), max(high, value), tuple(dict.fromkeys(first.sources + second.sources)))


class PricingContext:
    """What the rules ask for: an accelerator's parts priced with one table, each worked out once.

    The accelerator may be one of columns: sizes and the clock arrays of many points, format, node and kind of DRAM
    those of all of them. Estimates then hold arrays.
    """

    def __init__(self, accelerator: Accelerator, table: EnergyTable) -> None:
        self.hw, self.table = accelerator, table
        self.cycle_ns = 1e3 / accelerator.clock_mhz

    def operation(self, component: str, action: str, format_or_size: str) -> Estimate:
        """Energy of one operation of the table at the accelerator's node [pJ]."""
        return operation_energy(self.table, component, action, format_or_size, self.hw.node_nm)

    def dram(self, action: str) -> Estimate:
        """Energy of one ``dram`` row of the accelerator's kind of DRAM [pJ]; not scaled."""
        return self.table.select("dram", action, self.hw.dram.kind)[0].estimate

    @cached_property
    def mac(self) -> Estimate:
        """One multiply of the operand format and one add of the accumulator format [pJ]."""
        multiply = self.operation("mac_mul", "mul", self.hw.array.operand_format)
        return multiply + self.operation("mac_add", "add", self.hw.accumulator_format)

    @cached_property
    def hop(self) -> Estimate:
        """One byte written into a register, with its share of the clock and the wire [pJ]."""
        return self.operation("array", "hop_byte", "register")

    @cached_property
    def clock_share(self) -> Estimate:
        """Idle ÷ active energy of a PE: what its clock takes of it; 0 when the clock is gated.

        That of the operand format if the table has it, else of bf16, which stands for every floating format.
        """
        own = self.hw.array.operand_format
        measured = own if self.table.has("array", "pe_active", own) else "bf16"
        idle, active = (self.table.select("array", f"pe_{state}", measured)[0].estimate for state in ("idle", "active"))
        ratio = idle.value / active.value
        return Estimate(ratio, 0.0, ratio, idle.sources + active.sources)

    @cached_property
    def idle_pe(self) -> Estimate:
        """Clock of one PE in a cycle without a MAC [pJ]."""
        return (self.mac + self.hop * self.hop_bytes_per_mac) * self.clock_share

    @cached_property
    def gated_mac(self) -> Estimate:
        """A MAC whose multiplier and adder are held still [pJ]: an idle PE cycle without the clock of its hops, since
        a hop byte, counted with this MAC as with any, has the clock of its register in its own price.
        """
        return self.mac * self.clock_share

    @property
    def hop_bytes_per_mac(self) -> int:
        """Operand and partial sum that pass a PE with each MAC [bytes]."""
        return self.hw.operand_bytes + 4

    @cached_property
    def fp32_add(self) -> Estimate:
        """One fp32 addition [pJ]."""
        return self.operation("mac_add", "add", "fp32")

    @cached_property
    def fp32_mul(self) -> Estimate:
        """One fp32 multiplication [pJ]."""
        return self.operation("mac_mul", "mul", "fp32")

    @cached_property
    def int32_add(self) -> Estimate:
        """One int32 addition [pJ]."""
        return self.operation("mac_add", "add", "int32")

    @cached_property
    def scratchpad_read(self) -> Estimate:
        """One byte read from a scratchpad bank [pJ]."""
        bank_bytes = self.hw.scratchpad.capacity_bytes / self.hw.scratchpad.banks
        return read_pj_per_byte(self.table, bank_bytes, self.hw.node_nm) * NARROW_BANKS

    @cached_property
    def accumulator_read(self) -> Estimate:
        """One byte read from half of the accumulator [pJ]."""
        return read_pj_per_byte(self.table, self.hw.accumulator.capacity_bytes / 2, self.hw.node_nm)

    @cached_property
    def write_ratio(self) -> Estimate:
        """Energy of an SRAM write ÷ that of a read."""
        return write_to_read_ratio(self.table)

    @cached_property
    def dram_devices(self) -> float:
        """Whole devices of the kind of DRAM that give the bandwidth."""
        return np.ceil(self.hw.dram_bytes_per_s / DEVICE_BYTES_PER_S[self.hw.dram.kind])  # type: ignore[no-any-return]

    @cached_property
    def sram_bytes(self) -> int:
        """On-chip memory [bytes]."""
        return self.hw.scratchpad.capacity_bytes + self.hw.accumulator.capacity_bytes

    @cached_property
    def transistors(self) -> int:
        """Transistors of PEs and lanes, about."""
        return (
            self.hw.pes * PE_TRANSISTORS[self.hw.array.operand_format] + self.hw.vector.lanes * PE_TRANSISTORS["fp32"]
        )

    @cached_property
    def leaking_mw(self) -> Estimate:
        """Leakage of memories, PEs and lanes [mW, that is pJ per ns]."""
        like_bytes = self.transistors / BYTE_TRANSISTORS
        logic = Estimate(like_bytes, like_bytes / 2, like_bytes * 2, _TRANSISTORS_SOURCE)
        held = Estimate(self.sram_bytes, self.sram_bytes, self.sram_bytes)
        return leakage_pj_per_byte_ns(self.table, self.hw.node_nm) * (held + logic)


def _specials(c: PricingContext) -> Estimate:
    lookup = read_pj_per_byte(c.table, SPECIAL_TABLE_BYTES, c.hw.node_nm) * 8
    return lookup + _fma(c) * SPECIAL_FMAS + _lane_operation(c, c.fp32_add)


def _lane_operation(c: PricingContext, operation: Estimate) -> Estimate:
    return operation + c.hop * 12


def _fma(c: PricingContext) -> Estimate:
    return c.fp32_mul + c.fp32_add + c.hop * 16


def _converts(c: PricingContext) -> Estimate:
    add = Estimate(c.fp32_add.value, min(c.int32_add.low, c.fp32_add.value), c.fp32_add.high, c.fp32_add.sources)
    return add + c.hop * (4 + c.hw.operand_bytes)


def _background(c: PricingContext) -> Estimate:
    return c.dram("background_ns") * (c.dram_devices * c.cycle_ns)


def _commands(c: PricingContext) -> Estimate:
    return c.hop * (2 * COMMAND_BYTES) + c.int32_add * COMMAND_ADDS


def _unit_cycles(c: PricingContext) -> Estimate:
    return (c.int32_add + c.hop * 4) * UNIT_ADDS


def _leakage(c: PricingContext) -> Estimate:
    return c.leaking_mw * c.cycle_ns + c.idle_pe * c.hw.pes * CLOCK_TREE


def _scratchpad_words(c: PricingContext) -> str:
    kib = c.hw.scratchpad.capacity_bytes / c.hw.scratchpad.banks / 1024
    return f"SRAM fit at a bank of {kib:g} KiB, line of {c.hw.scratchpad_line_bytes} bytes"


def _accumulator_words(c: PricingContext) -> str:
    kib = c.hw.accumulator.capacity_bytes / 2 / 1024
    return f"SRAM fit at a half of {kib:g} KiB, line of {4 * c.hw.array.cols} bytes"


def _background_words(c: PricingContext) -> str:
    unit = {"DDR4-2400": "rank", "LPDDR4-2400": "x16 channel", "HBM2": "stack"}[c.hw.dram.kind]
    devices = c.dram_devices
    return f"{devices:g} {unit}{'s' if devices > 1 else ''} of {c.hw.dram.kind}, {c.cycle_ns:.3g} ns"


def _leakage_words(c: PricingContext) -> str:
    return (
        f"{c.sram_bytes / 1024:g} KiB of SRAM + {c.transistors / 1e6:.3g} M logic transistors: "
        f"{c.leaking_mw.value:.3g} mW; + clock tree"
    )


_SRAM_REASON = "the SRAM sources (CACTI, Horowitz, Jouppi) lie up to a factor of 3 from a common fit"
_DRAM_REASON = "array-only models against figures with I/O; the share of activations in the latter is assumed"
_HOP_REASON = "between an adder bit and Eyeriss' hop of two MACs; no primary source for a register-to-register hop"
_LOGIC_REASON = "scaling between the nodes of the sources, each printed to one or two digits"

RULES: dict[str, Rule] = {
    "array.macs": Rule(
        lambda c: c.mac, lambda c: f"mul {c.hw.array.operand_format} + add {c.hw.accumulator_format}", _LOGIC_REASON
    ),
    "array.gated_macs": Rule(
        lambda c: c.gated_mac,
        lambda c: "idle/active ratio of the prototype × mac, its hops counted apart; 0 if gated",
        "whether the clock is gated with the operands is open: down to 0",
    ),
    "array.hop_bytes": Rule(lambda c: c.hop, lambda c: "register write and wire to the next PE, per byte", _HOP_REASON),
    "array.idle_pe_cycles": Rule(
        lambda c: c.idle_pe,
        lambda c: f"idle/active ratio of the prototype × (mac + {c.hop_bytes_per_mac} hop bytes); 0 if gated",
        "clock gating is not modelled: the interval goes down to 0",
    ),
    "scratchpad.read_bytes": Rule(lambda c: c.scratchpad_read, _scratchpad_words, _SRAM_REASON),
    "scratchpad.write_bytes": Rule(
        lambda c: c.scratchpad_read * c.write_ratio, lambda c: f"{_scratchpad_words(c)}, × write/read", _SRAM_REASON
    ),
    "accumulator.read_bytes": Rule(lambda c: c.accumulator_read, _accumulator_words, _SRAM_REASON),
    "accumulator.write_bytes": Rule(
        lambda c: c.accumulator_read * c.write_ratio, lambda c: f"{_accumulator_words(c)}, × write/read", _SRAM_REASON
    ),
    "vector.adds": Rule(
        lambda c: _lane_operation(c, c.fp32_add), lambda c: "add fp32 + 12 register bytes", _HOP_REASON
    ),
    "vector.muls": Rule(
        lambda c: _lane_operation(c, c.fp32_mul), lambda c: "mul fp32 + 12 register bytes", _HOP_REASON
    ),
    "vector.fmas": Rule(_fma, lambda c: "mul fp32 + add fp32 + 16 register bytes", _HOP_REASON),
    "vector.specials": Rule(
        _specials,
        lambda c: "8-byte lookup in 2 KiB + 2 (1 to 5) fmas + 1 add",
        "the number of multiply-adds per function is an estimate, 1 to 5",
    ),
    "vector.converts": Rule(
        _converts, lambda c: f"add fp32 (int32 at least) + {4 + c.hw.operand_bytes} register bytes", _HOP_REASON
    ),
    "dram.read_bytes": Rule(
        lambda c: c.dram("read_byte"), lambda c: f"{c.hw.dram.kind} read, without activations", _DRAM_REASON
    ),
    "dram.write_bytes": Rule(
        lambda c: c.dram("write_byte"), lambda c: f"{c.hw.dram.kind} write, without activations", _DRAM_REASON
    ),
    "dram.activations": Rule(
        lambda c: c.dram("activation"),
        lambda c: f"{c.hw.dram.kind} row activation and precharge",
        "configurations of one DRAM kind differ by a factor of 2.5",
    ),
    "dram.background_cycles": Rule(
        _background, _background_words, "whether the DRAM powers down between accesses is not modelled"
    ),
    "control.commands": Rule(
        _commands, lambda c: f"{COMMAND_BYTES} bytes through a FIFO + 20 (8 to 60) int32 adds", _HOP_REASON
    ),
    "control.fetch_bytes": Rule(
        lambda c: c.dram("read_byte"), lambda c: f"{c.hw.dram.kind} read, without activations", _DRAM_REASON
    ),
    "control.unit_cycles": Rule(
        _unit_cycles,
        lambda c: "6 (2 to 12) int32 adds with their registers",
        "the adders and registers of an address generator are an estimate",
    ),
    "leakage.cycles": Rule(
        _leakage, _leakage_words, "low-standby-power against high-performance transistors: a factor of 100"
    ),
}
