"""One memory with one read and one write port: what both memories on the chip are made of."""

from __future__ import annotations

from amaranth.hdl import MemoryData, Module
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwsim_rtl.dma.align import bits_for
from hwsim_rtl.verilog import Leaf

__all__ = ["Bank"]


class Bank(Leaf):
    """Words of a memory. Latency: data one cycle after the address; what is written in a cycle can be read in the next.

    Reading a word in the cycle in which it is written gives what was there before.

    Parameters
    ----------
    width : int
        Of a word [bits].
    depth : int
        Words.

    Attributes
    ----------
    data : MemoryData
        The words, for simulation.

    Members
    -------
    read : In(1), read_address : In, read_data : Out(width)
        Without `read` the data stay.
    write : In(1), write_address : In, write_data : In(width)
        Word to write.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        self.data = MemoryData(shape=width, depth=depth, init=[])
        address = bits_for(depth)
        super().__init__(
            {
                "read": In(1), "read_address": In(address), "read_data": Out(width),
                "write": In(1), "write_address": In(address), "write_data": In(width),
            }
        )  # fmt: skip

    @property
    def module_name(self) -> str:
        """Name of the module."""
        return f"Bank_{self.width}x{self.depth}"

    def body(self) -> Module:
        """Build the memory."""
        m = Module()
        m.submodules.memory = memory = Memory(self.data)
        read, write = memory.read_port(), memory.write_port()
        m.d.comb += [
            read.en.eq(self.read),
            read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
            write.en.eq(self.write),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
        ]
        return m
