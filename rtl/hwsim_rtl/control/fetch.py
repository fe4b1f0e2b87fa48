"""Fetch of commands: bursts of 128 bytes into a prefetch buffer, a command every δ cycles.

Takes the data as a memory of fixed latency gives them, or later. Normative: docs/contracts/cycles.md, section 1.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwsim.program import COMMAND_BYTES
from hwsim_rtl.control.command import COMMAND_BITS
from hwsim_rtl.control.queue import after

__all__ = ["ADDRESS_BITS", "Fetch", "FetchSignature"]

ADDRESS_BITS = 32


class FetchSignature(wiring.Signature):
    """Read port for commands, as the control sees it.

    Parameters
    ----------
    bytes_per_cycle : int
        Bytes of one beat, a power of two, 1 to 128.

    Members
    -------
    request : Out(stream of address)
        Address of a command; accepted in cycle *t*, its beats come in cycles *t* + Λ to *t* + Λ + δ − 1, or later.
    response : In(stream of data and error)
        Beats in the order of their addresses, commands in the order of their requests. ``error``: the beat is void.
        ``ready`` is always 1.
    """

    def __init__(self, bytes_per_cycle: int) -> None:
        beat = StructLayout({"data": 8 * bytes_per_cycle, "error": 1})
        super().__init__(
            {
                "request": Out(stream.Signature(ADDRESS_BITS)),
                "response": In(stream.Signature(beat)),
            }
        )


class Fetch(wiring.Component):
    """Keeps up to ⌈Λ/δ⌉ + 3 commands ahead of the dispatcher.

    The first request is made in the cycle after `start`, cycle 0; the first command is there in cycle Λ + δ, and then
    one every δ cycles while places are free. A place is asked for again in the cycle after it was left.

    Parameters
    ----------
    bytes_per_cycle : int
        Bytes of one beat, a power of two, 1 to 128.
    latency_cycles : int
        Λ, request to first beat [cycles].

    Members
    -------
    start, address, commands : In(1), In(32), In(32)
        Begin anew, at this address, with so many commands.
    enable : In(1)
        New requests may be made.
    head, valid, take : Out(1024), Out(1), In(1)
        The next command, if there is one, and that it is left.
    pending : Out(1)
        Something is requested or offered that has not come.
    failed : Out(1)
        A beat has an error.
    port : Out(FetchSignature)
        To memory.
    """

    def __init__(self, bytes_per_cycle: int, latency_cycles: int) -> None:
        self.beats = COMMAND_BYTES // bytes_per_cycle
        self.places = -(-latency_cycles // self.beats) + 3
        super().__init__(
            {
                "start": In(1),
                "address": In(ADDRESS_BITS),
                "commands": In(32),
                "enable": In(1),
                "head": Out(COMMAND_BITS),
                "valid": Out(1),
                "take": In(1),
                "pending": Out(1),
                "failed": Out(1),
                "port": Out(FetchSignature(bytes_per_cycle)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the fetch: requests, then arrivals, then the buffer."""
        m = Module()
        places = self.places
        request, response = self.port.request, self.port.response

        # Requests are δ apart, as their beats are, and each has a place in the buffer.
        left, more = Signal(32), Signal()  # `more`: some are left
        free = Signal(range(places + 1), init=places)
        pace = Signal(range(self.beats))
        offered = Signal()  # what is offered stays
        asked = Signal(range(places + 1))  # requests whose last beat has not come
        requested, complete = Signal(), Signal()
        m.d.comb += [
            request.valid.eq(offered | (self.enable & more & (free != 0) & (pace == 0))),
            requested.eq(request.valid & request.ready),
            self.pending.eq(request.valid | (asked != 0)),
        ]
        m.d.sync += [
            offered.eq(request.valid & ~request.ready),
            free.eq(free - requested + self.take),
            asked.eq(asked + requested - complete),
        ]
        with m.If(requested):
            m.d.sync += [request.payload.eq(request.payload + COMMAND_BYTES), left.eq(left - 1)]
            m.d.sync += more.eq(left != 1)
            m.d.sync += pace.eq(self.beats - 1)
        with m.Elif(pace != 0):
            m.d.sync += pace.eq(pace - 1)

        beat = Signal(range(self.beats))
        last, first = Signal(range(places)), Signal(range(places))
        level = Signal(range(places + 1))
        m.submodules.buffer = buffer = Memory(shape=COMMAND_BITS, depth=places, init=[])
        write = buffer.write_port(granularity=COMMAND_BITS // self.beats)
        read = buffer.read_port(domain="comb")
        m.d.comb += [
            response.ready.eq(1),
            complete.eq(response.valid & (beat == self.beats - 1)),
            self.failed.eq(response.valid & response.p.error),
            write.addr.eq(last),
            write.data.eq(response.p.data.replicate(self.beats)),
            read.addr.eq(first),
            self.head.eq(read.data),
            self.valid.eq(level != 0),
        ]
        with m.If(response.valid):
            m.d.comb += write.en.eq(1 << beat)
            m.d.sync += beat.eq(after(beat, self.beats))
        with m.If(complete):
            m.d.sync += last.eq(after(last, places))
        with m.If(self.take):
            m.d.sync += first.eq(after(first, places))
        m.d.sync += level.eq(level + complete - self.take)

        with m.If(self.start):
            m.d.sync += [left.eq(self.commands), more.eq(self.commands != 0)]
            m.d.sync += [request.payload.eq(self.address), free.eq(places), level.eq(0)]
            m.d.sync += [pace.eq(0), beat.eq(0), last.eq(0), first.eq(0)]
        return m
