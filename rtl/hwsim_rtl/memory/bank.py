"""What both memories on the chip are made of: one with a read and a write port, and one of two banks, a port each."""

from __future__ import annotations

from functools import cached_property

from amaranth.hdl import C, Cat, MemoryData, Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwsim_rtl.dma.align import bits_for
from hwsim_rtl.verilog import Leaf

__all__ = ["Bank", "BankPair"]


class Bank(Leaf):
    """Words of a memory. Latency: data one cycle after the address; what is written in a cycle can be read in the next.

    Reading a word in the cycle in which it is written gives what was there before.

    Parameters
    ----------
    width : int
        Of a word [bits].
    depth : int
        Words.

    Members
    -------
    read : In(1), read_address : In, read_data : Out(width)
        Without `read` the data are 0, so that of several banks of which one is read the or of the data is its word.
    write : In(1), write_address : In, write_data : In(width)
        Word to write.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        address = bits_for(depth)
        super().__init__(
            {
                "read": In(1), "read_address": In(address), "read_data": Out(width),
                "write": In(1), "write_address": In(address), "write_data": In(width),
            }
        )  # fmt: skip

    @cached_property
    def data(self) -> MemoryData:
        """The words, for simulation; text is made of one bank of a size alone, and the others need none."""
        return MemoryData(shape=self.width, depth=self.depth, init=[])

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return f"Bank_{self.width}x{self.depth}"

    def body(self) -> Module:
        """Build the memory."""
        m = Module()
        m.submodules.memory = memory = Memory(self.data)
        read, write = memory.read_port(domain="comb"), memory.write_port()
        # A register behind the memory, which synthesis takes for the block RAM's own, with a reset without a read.
        found = Signal(self.width, reset_less=True)
        m.d.sync += found.eq(Mux(self.read, read.data, 0))
        m.d.comb += [
            read.addr.eq(self.read_address),
            self.read_data.eq(found),
            write.en.eq(self.write),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
        ]
        return m


class BankPair(Leaf):
    """Two banks in one memory, each with a port that reads or writes. Latency as of `Bank`.

    Each port reaches its own half alone: a block RAM with two ports holds both, and two memories of one port do, too.
    What is read of a bank in the cycle in which it is written is not defined.

    Parameters
    ----------
    width : int
        Of a word [bits].
    depth : int
        Words of one of the banks.

    Members
    -------
    address_0, address_1 : In, write_0, write_1 : In(1)
        Word to read, or to write.
    write_data : In(width)
        Word to write, of both.
    read_data_0, read_data_1 : Out(width)
        What was read in the cycle before.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        own = {"write": In(1), "address": In(bits_for(depth)), "read_data": Out(width)}
        super().__init__(
            {"write_data": In(width), **{f"{name}_{i}": member for i in range(2) for name, member in own.items()}}
        )

    @cached_property
    def data(self) -> MemoryData:
        """The words of the first bank, then those of the second, for simulation; see `Bank.data`."""
        return MemoryData(shape=self.width, depth=2 * self.depth, init=[])

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return f"BankPair_{self.width}x{self.depth}"

    def body(self) -> Module:
        """Build the memory."""
        m = Module()
        m.submodules.memory = memory = Memory(self.data)
        for i in range(2):
            read, write = memory.read_port(), memory.write_port()
            own = getattr(self, f"address_{i}")
            address = Cat(own[: bits_for(self.depth) if self.depth > 1 else 0], C(i, 1))
            m.d.comb += [
                read.en.eq(1),
                read.addr.eq(address),
                getattr(self, f"read_data_{i}").eq(read.data),
                write.en.eq(getattr(self, f"write_{i}")),
                write.addr.eq(address),
                write.data.eq(self.write_data),
            ]
        return m
