"""The whole accelerator that a description names: it fetches a program from memory over AXI4 and runs it.

docs/rtl.md has its ports, registers and timing; the contracts in docs/contracts/ say what programs mean and take.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.program import COMMAND_BYTES, UNIT_NAMES, Unit
from hwsim_rtl.control import Control, Fault
from hwsim_rtl.control.counters import Counters
from hwsim_rtl.dma import Geometry, LoadUnit, Prepare, StoreUnit
from hwsim_rtl.dma.box import WALK_CYCLES
from hwsim_rtl.matrix import MatrixPrepare, MatrixUnit
from hwsim_rtl.memory import Accumulator, Scratchpad
from hwsim_rtl.registers import REGISTERS, Registers
from hwsim_rtl.vector import VectorPrepare, VectorUnit

__all__ = ["Machine", "module_name"]

#: Bits of an address, of a burst's length and of an identifier.
_ADDRESS, _LENGTH, _ID = 32, 8, 1
_INCREMENTING = 1
#: Registers between the data of loads and the memories.
_LOAD_STAGES = 2
#: Cycles of Λ that the machine takes itself, from a start to the request and from the data to the memories.
INNER_LATENCY_CYCLES = WALK_CYCLES + _LOAD_STAGES


def module_name(hw: Accelerator) -> str:
    """Name of the Verilog module.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> module_name(load_accelerator("edge-8x8-int8"))
    'hwsim_edge_8x8_int8'
    """
    return "hwsim_" + "".join(c if c.isalnum() else "_" for c in hw.name)


def _read_channels(prefix: str, data_bits: int) -> dict[str, Any]:
    address = {"arid": Out(_ID), "araddr": Out(_ADDRESS), "arlen": Out(_LENGTH), "arsize": Out(3), "arburst": Out(2)}
    address |= {"arvalid": Out(1), "arready": In(1)}
    data = {"rid": In(_ID), "rdata": In(data_bits), "rresp": In(2), "rlast": In(1), "rvalid": In(1), "rready": Out(1)}
    return {f"{prefix}_{name}": member for name, member in (address | data).items()}


def _write_channels(prefix: str, data_bits: int) -> dict[str, Any]:
    address = {"awid": Out(_ID), "awaddr": Out(_ADDRESS), "awlen": Out(_LENGTH), "awsize": Out(3), "awburst": Out(2)}
    address |= {"awvalid": Out(1), "awready": In(1)}
    data = {"wdata": Out(data_bits), "wstrb": Out(data_bits // 8), "wlast": Out(1), "wvalid": Out(1), "wready": In(1)}
    response = {"bid": In(_ID), "bresp": In(2), "bvalid": In(1), "bready": Out(1)}
    return {f"{prefix}_{name}": member for name, member in (address | data | response).items()}


class Machine(wiring.Component):
    """An accelerator in RTL. One clock, synchronous reset.

    A program takes the cycles of the cycle contract when memory answers Λ − 5 cycles after a request or earlier: the
    read data of an address accepted in cycle *t* are there in *t* + Λ − 5, as is the response to a beat written in *t*.

    Parameters
    ----------
    hw : Accelerator
        What to build.

    Attributes
    ----------
    parts : dict of str to Component
        By name: control, counters, registers, load, store, matrix, vector, scratchpad, accumulator.

    Raises
    ------
    HwsimError
        If there is no hardware for something that the description asks for.

    Members
    -------
    m_axi_… : AXI4 master
        Loads and stores, a beat a transaction.
    f_axi_… : AXI4 master, read channels
        Commands, one a burst.
    s_axil_… : AXI4-Lite slave
        `hwsim_rtl.registers.REGISTERS`.
    interrupt : Out(1)
        The program is done or was stopped, where enabled.
    trace_running : Out(1)
        Cycles 0 to T of a program, and until all is at rest after a fault.
    trace_dispatched : Out(1)
        A command is dispatched, or a barrier takes effect.
    trace_started, trace_ended : Out(4)
        A command of the load, matrix, vector, store unit starts in this cycle; ends with it (`e − 1`).
    """

    def __init__(self, hw: Accelerator) -> None:
        self.hw = hw
        self.geometry = g = Geometry.of(hw)
        fetch_bytes = hw.control.fetch_bytes_per_cycle
        if fetch_bytes & (fetch_bytes - 1):
            raise HwsimError(
                f"{hw.name}: control.fetch_bytes_per_cycle must be a power of two for the RTL, the width of an AXI4 "
                f"port, not {fetch_bytes}"
            )
        spare = COMMAND_BYTES // fetch_bytes - 1
        moves = Prepare.within(g, spare)
        preparers: dict[Unit, Any] = {
            Unit.LOAD: moves, Unit.MATRIX: MatrixPrepare.within(hw, spare), Unit.VECTOR: VectorPrepare(hw),
            Unit.STORE: moves,
        }  # fmt: skip
        self.parts: dict[str, Any] = {
            "control": Control.of(hw, preparers), "counters": Counters(), "registers": Registers(),
            "load": LoadUnit(g, _LOAD_STAGES), "store": StoreUnit(g), "matrix": MatrixUnit(hw),
            "vector": VectorUnit(hw), "scratchpad": Scratchpad(g),
            "accumulator": Accumulator(g, hw.accumulator.add_latency_cycles),
        }  # fmt: skip
        lite = {
            f"s_axil_{name}": member
            for name, member in self.parts["registers"].signature.members.items()
            if name in _LITE_SIGNALS
        }
        super().__init__(
            {
                **_read_channels("m_axi", 8 * g.beat_bytes), **_write_channels("m_axi", 8 * g.beat_bytes),
                **_read_channels("f_axi", 8 * fetch_bytes), **lite, "interrupt": Out(1),
                "trace_running": Out(1), "trace_dispatched": Out(1), "trace_started": Out(len(UNIT_NAMES)),
                "trace_ended": Out(len(UNIT_NAMES)),
            }
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Connect the parts."""
        m = Module()
        for name, part in self.parts.items():
            m.submodules[name] = part
        p = self.parts
        for name in UNIT_NAMES:
            connect(m, getattr(p["control"], name), p[name].port)
        connect(m, p["load"].scratchpad, p["scratchpad"].write)
        connect(m, p["load"].accumulator, p["accumulator"].load)
        connect(m, p["store"].read, p["accumulator"].store)
        m.d.comb += p["store"].words.eq(p["accumulator"].stored)
        self._matrix(m)
        self._vector(m)
        self._loads(m)
        self._stores(m)
        self._fetch(m)
        self._control(m)
        return m

    def _matrix(self, m: Module) -> None:
        matrix, scratchpad, accumulator = (self.parts[name] for name in ("matrix", "scratchpad", "accumulator"))
        for side in "ab":
            connect(m, getattr(matrix, f"read_{side}"), getattr(scratchpad, f"read_{side}"))
            m.d.comb += getattr(matrix, f"data_{side}").eq(getattr(scratchpad, f"data_{side}"))
        connect(m, matrix.sums, accumulator.sums)
        m.d.comb += [getattr(matrix, name).eq(getattr(accumulator, name)) for name in ("old", "due", "replaces")]
        m.d.comb += accumulator.new.eq(matrix.new)

    def _vector(self, m: Module) -> None:
        vector, accumulator, registers = (self.parts[name] for name in ("vector", "accumulator", "registers"))
        for i in range(3):
            connect(m, getattr(vector, f"read_{i}"), getattr(accumulator, f"vector_{i}"))
            m.d.comb += getattr(vector, f"line_{i}").eq(getattr(accumulator, f"line_{i}"))
        connect(m, vector.write, accumulator.vector)
        m.d.comb += [vector.seed.eq(registers.seed), vector.seed_load.eq(registers.seeds)]

    def _address(self, m: Module, channel: str, beat_bytes: int, beats: int) -> None:
        """What is the same for every address of a channel."""
        m.d.comb += [
            getattr(self, f"{channel}len").eq(beats - 1),
            getattr(self, f"{channel}size").eq(beat_bytes.bit_length() - 1),
            getattr(self, f"{channel}burst").eq(_INCREMENTING),
        ]

    def _loads(self, m: Module) -> None:
        load = self.parts["load"]
        self._address(m, "m_axi_ar", self.geometry.beat_bytes, 1)
        m.d.comb += [
            self.m_axi_arvalid.eq(load.request.valid),
            self.m_axi_araddr.eq(load.request.payload),
            load.request.ready.eq(self.m_axi_arready),
            load.data.valid.eq(self.m_axi_rvalid),
            load.data.payload.eq(self.m_axi_rdata),
            self.m_axi_rready.eq(load.data.ready),
        ]

    def _stores(self, m: Module) -> None:
        """Address and data of a beat leave in the same cycle, or each when it is taken."""
        store = self.parts["store"]
        address_left, data_left, leaves = Signal(), Signal(), Signal()
        self._address(m, "m_axi_aw", self.geometry.beat_bytes, 1)
        m.d.comb += [
            self.m_axi_awvalid.eq(store.write.valid & ~address_left),
            self.m_axi_awaddr.eq(store.write.payload.address),
            self.m_axi_wvalid.eq(store.write.valid & ~data_left),
            self.m_axi_wdata.eq(store.write.payload.data),
            self.m_axi_wstrb.eq(store.write.payload.bytes),
            self.m_axi_wlast.eq(1),
            leaves.eq((address_left | self.m_axi_awready) & (data_left | self.m_axi_wready)),
            store.write.ready.eq(leaves),
            store.response.valid.eq(self.m_axi_bvalid),
            self.m_axi_bready.eq(store.response.ready),
        ]
        with m.If(store.write.valid):
            m.d.sync += [
                address_left.eq(~leaves & (address_left | self.m_axi_awready)),
                data_left.eq(~leaves & (data_left | self.m_axi_wready)),
            ]

    def _fetch(self, m: Module) -> None:
        """Commands pass registers, so that they may take as long as data."""
        fetch, beat = self.parts["control"].fetch, self.hw.control.fetch_bytes_per_cycle
        self._address(m, "f_axi_ar", beat, COMMAND_BYTES // beat)
        m.d.comb += [
            self.f_axi_arvalid.eq(fetch.request.valid),
            self.f_axi_araddr.eq(fetch.request.payload),
            fetch.request.ready.eq(self.f_axi_arready),
            self.f_axi_rready.eq(1),
        ]
        beats = Cat(self.f_axi_rvalid, self.f_axi_rresp[1], self.f_axi_rdata)
        for i in range(INNER_LATENCY_CYCLES):
            earlier, beats = beats, Signal(len(beats), name=f"fetched_{i}")
            m.d.sync += beats.eq(earlier)
        response = fetch.response
        m.d.comb += Cat(response.valid, response.payload.error, response.payload.data).eq(beats)

    def _control(self, m: Module) -> None:
        """Registers, counters, faults and the trace."""
        control, counters, registers = (self.parts[name] for name in ("control", "counters", "registers"))
        load, store, seen = self.parts["load"], self.parts["store"], control.seen
        stopped, was_dispatched, dispatched = Signal(), Signal(), Signal(32)
        m.d.sync += was_dispatched.eq(control.dispatched)  # known late in a cycle, so counted in the next one
        begins = Signal()  # from a register, since everything hears of it
        m.d.sync += begins.eq(registers.start & ~control.busy & ~begins)
        with m.If(seen.begins):
            m.d.sync += dispatched.eq(0)
        with m.Elif(was_dispatched):
            m.d.sync += dispatched.eq(dispatched + 1)
        m.d.comb += [
            *(getattr(registers, name).eq(getattr(self, f"s_axil_{name}")) for name in _LITE_INPUTS),
            *(getattr(self, f"s_axil_{name}").eq(getattr(registers, name)) for name in _LITE_OUTPUTS),
            control.start.eq(begins), control.address.eq(registers.program),
            control.commands.eq(registers.commands), stopped.eq(control.error != Fault.NONE),
            registers.status.eq(Cat(control.busy | begins, control.done, stopped)), registers.error.eq(control.error),
            registers.error_index.eq(control.error_index), registers.dispatched.eq(dispatched),
            Cat(registers.cycles_low, registers.cycles_high).eq(control.cycles), counters.seen.eq(seen),
            self.interrupt.eq(registers.interrupt_enable[0] & (control.done | stopped) & ~control.busy),
            self.trace_running.eq(control.busy), self.trace_dispatched.eq(control.dispatched),
            self.trace_started.eq(seen.starts), self.trace_ended.eq(seen.ends),
            load.limit.eq(registers.limit), store.limit.eq(registers.limit),
        ]  # fmt: skip
        for unit, name in enumerate(UNIT_NAMES):
            counts = counters.counts[unit]
            own = [r.name.lower() for r in REGISTERS if r.name.startswith(f"{name.upper()}_")]
            values = [counts.commands, counts.busy, *(counts.stalls[i] for i in range(len(own) - 2))]
            m.d.comb += [getattr(registers, r).eq(value) for r, value in zip(own, values, strict=True)]
        self._faults(m)

    def _faults(self, m: Module) -> None:
        p = self.parts
        control, registers = p["control"], p["registers"]
        failed = (self.m_axi_rvalid & self.m_axi_rready & self.m_axi_rresp[1]) | (
            self.m_axi_bvalid & self.m_axi_bready & self.m_axi_bresp[1]
        )
        misplaced = Signal()
        end = registers.program + (registers.commands << (COMMAND_BYTES.bit_length() - 1))
        aligned = registers.program[: COMMAND_BYTES.bit_length() - 1] == 0
        m.d.sync += misplaced.eq(~aligned | (end > registers.limit))
        faults = {
            Fault.ADDRESS: misplaced | p["load"].beyond | p["store"].beyond,
            Fault.CONFLICT: p["scratchpad"].conflict | p["accumulator"].conflict,
            Fault.BUS: failed,
        }
        fault = Signal(Fault)
        for code, seen in faults.items():  # the last one counts
            with m.If(seen):
                m.d.comb += fault.eq(code)
        m.d.sync += control.fault.eq(Mux(control.busy, fault, C(Fault.NONE, 4)))


_LITE_INPUTS = ("awaddr", "awvalid", "wdata", "wstrb", "wvalid", "bready", "araddr", "arvalid", "rready")
_LITE_OUTPUTS = ("awready", "wready", "bresp", "bvalid", "arready", "rdata", "rresp", "rvalid")
_LITE_SIGNALS = frozenset(_LITE_INPUTS + _LITE_OUTPUTS)
