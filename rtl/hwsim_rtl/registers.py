"""The registers of a machine behind an AXI4-Lite slave port: what they are, and the port.

docs/rtl.md lists them for the person who writes a driver; `REGISTERS` is that list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.program import UNIT_NAMES
from hwsim_rtl.control.counters import Stall

__all__ = ["ADDRESS_BITS", "IDENTITY", "REGISTERS", "Register", "Registers"]

ADDRESS_BITS = 12
#: "HWSM", and the version of the registers and of the encoding of commands.
IDENTITY, VERSION = 0x4857534D, 1
_SEED = 1


@dataclass(frozen=True)
class Register:
    """A register of 32 bits.

    Attributes
    ----------
    name : str
        In capitals.
    offset : int
        Byte offset, a multiple of four.
    writable : bool
        Whether a write changes it; writes of others are ignored.
    reset : int
        Value after reset.
    means : str
        What it is.
    """

    name: str
    offset: int
    writable: bool
    reset: int
    means: str


def _counters() -> list[Register]:
    found = []
    for unit, name in enumerate(UNIT_NAMES):
        words = {"COMMANDS": "commands started", "BUSY": "cycles in which a command occupies it"}
        words |= {f"STALL_{s.name}": f"cycles without one, {text}" for s, text in zip(Stall, _CAUSES, strict=True)}
        for word, (suffix, means) in enumerate(words.items()):
            offset = 0x40 + 0x20 * unit + 4 * word
            found.append(Register(f"{name.upper()}_{suffix}", offset, False, 0, f"{name} unit: {means}"))
    return found


_CAUSES = (
    "because the next was dispatched last",
    "because a token came last",
    "because the memory port was free last",
    "because the segment had no more",
)

#: All registers, by offset. Writes to others are ignored, reads of others give 0.
REGISTERS = (
    Register("ID", 0x00, False, IDENTITY, '"HWSM"'),
    Register("VERSION", 0x04, False, VERSION, "of the registers and of the encoding of commands"),
    Register("CONTROL", 0x08, True, 0, "write bit 0: start, unless busy; reads 0"),
    Register("STATUS", 0x0C, False, 0, "bit 0 busy, bit 1 done, bit 2 error"),
    Register("ERROR", 0x10, False, 0, "why the last program was stopped, 0 if it was not"),
    Register("ERROR_INDEX", 0x14, False, 0, "commands that had been dispatched by then"),
    Register("PROGRAM", 0x18, True, 0, "address of the program [bytes], a multiple of 128"),
    Register("COMMANDS", 0x1C, True, 0, "commands of the program"),
    Register("LIMIT", 0x20, True, 0xFFFFFFFF, "first address beyond memory [bytes], a multiple of a beat"),
    Register("SEED", 0x24, True, _SEED, "of stochastic rounding; a write starts the random words anew"),
    Register("CYCLES_LOW", 0x28, False, 0, "cycles of the running program, or of the last one"),
    Register("CYCLES_HIGH", 0x2C, False, 0, "the same, bits 32 to 63"),
    Register("DISPATCHED", 0x30, False, 0, "commands dispatched, barriers counted"),
    Register("INTERRUPT_ENABLE", 0x34, True, 0, "bit 0: interrupt while done or error"),
    *_counters(),
)

_LITE = {
    "awaddr": In(ADDRESS_BITS), "awvalid": In(1), "awready": Out(1), "wdata": In(32), "wstrb": In(4), "wvalid": In(1),
    "wready": Out(1), "bresp": Out(2), "bvalid": Out(1), "bready": In(1), "araddr": In(ADDRESS_BITS), "arvalid": In(1),
    "arready": Out(1), "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1),
}  # fmt: skip


class Registers(wiring.Component):
    """AXI4-Lite slave. A write or a read takes two cycles; both can be under way at once.

    Members
    -------
    awaddr … rready : as AXI4-Lite
        The port; responses are always OKAY.
    <name of a register that is not writable> : In(32)
        Its value.
    <name of a writable one> : Out(32)
        Its value.
    start, seeds : Out(1)
        CONTROL was written with bit 0 set, or SEED was written (or the machine was reset), in the cycle before.
    """

    def __init__(self) -> None:
        ports = {r.name.lower(): Out(32, init=r.reset) if r.writable else In(32) for r in REGISTERS}
        super().__init__({**_LITE, **ports, "start": Out(1), "seeds": Out(1, init=1)})

    def elaborate(self, platform: Any) -> Module:
        """Build both halves."""
        m = Module()
        self._write(m)
        self._read(m)
        return m

    def _write(self, m: Module) -> None:
        goes = Signal()
        m.d.comb += [
            goes.eq(self.awvalid & self.wvalid & (~self.bvalid | self.bready)),
            self.awready.eq(goes),
            self.wready.eq(goes),
        ]
        with m.If(goes):
            m.d.sync += self.bvalid.eq(1)
        with m.Elif(self.bready):
            m.d.sync += self.bvalid.eq(0)
        m.d.sync += [self.start.eq(0), self.seeds.eq(0)]
        with m.If(goes), m.Switch(self.awaddr[2:]):
            for register in REGISTERS:
                if not register.writable:
                    continue
                with m.Case(register.offset // 4):
                    value = getattr(self, register.name.lower())
                    if register.name == "CONTROL":
                        m.d.sync += self.start.eq(self.wdata[0] & self.wstrb[0])
                        continue
                    for i in range(4):
                        with m.If(self.wstrb[i]):
                            m.d.sync += value.word_select(i, 8).eq(self.wdata.word_select(i, 8))
                    if register.name == "SEED":
                        m.d.sync += self.seeds.eq(1)

    def _read(self, m: Module) -> None:
        goes = Signal()
        m.d.comb += [goes.eq(self.arvalid & (~self.rvalid | self.rready)), self.arready.eq(goes)]
        with m.If(goes):
            m.d.sync += self.rvalid.eq(1)
            with m.Switch(self.araddr[2:]):
                for register in REGISTERS:
                    with m.Case(register.offset // 4):
                        m.d.sync += self.rdata.eq(getattr(self, register.name.lower()))
                with m.Default():
                    m.d.sync += self.rdata.eq(0)
        with m.Elif(self.rready):
            m.d.sync += self.rvalid.eq(0)
