"""The two processing elements: one keeps an operand, the other keeps its sums.

Both are free-running: nothing stalls an array, and what a cycle without work computes is not looked at. Normative:
docs/contracts/numerics.md section 3, docs/contracts/cycles.md section 2.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from hwsim_rtl.arithmetic import Adder, Multiplier
from hwsim_rtl.arithmetic.floats import width_of
from hwsim_rtl.verilog import Leaf

__all__ = ["SUM_BITS", "OutputStationaryPE", "StationaryPE"]

#: Width of a partial sum, int32 or fp32.
SUM_BITS = 32


class StationaryPE(Leaf):
    """Multiply the passing operand by the one that stays, and add the product to the sum that comes from the north.

    One MAC a cycle. The moving operand of cycle *t* is multiplied in cycle *t*; its product is added to `sum_north` of
    cycle *t* + μ, and the sum leaves south in cycle *t* + μ + α. What moves east leaves in cycle *t* + 1.

    Parameters
    ----------
    moving_format, stationary_format : str
        Formats of the operands.
    add_latency_cycles, multiply_latency_cycles : int
        α, 1 or more, and μ, 0 or more [cycles].

    Members
    -------
    moving, moving_east : In, Out (operand)
        The operand that passes.
    select, select_east : In, Out (1)
        Which stationary register it is multiplied by.
    active, active_east : In, Out (1)
        Low in an idle row: the stationary operand counts as +0, whatever an earlier fold left in the register.
    load, load_east : In, Out (2)
        Bit *r*: stationary register *r* takes `stationary` at the end of this cycle.
    stationary : In (operand)
        The bus along the column.
    sum_north, sum_south : In, Out (32)
        Partial sum.
    """

    def __init__(
        self, moving_format: str, stationary_format: str, *, add_latency_cycles: int, multiply_latency_cycles: int
    ) -> None:
        self.moving_format = moving_format
        self.stationary_format = stationary_format
        self.add_latency_cycles = add_latency_cycles
        self.multiply_latency_cycles = multiply_latency_cycles
        moving, stationary = width_of(moving_format), width_of(stationary_format)
        super().__init__(
            {
                "moving": In(moving),
                "select": In(1),
                "active": In(1),
                "load": In(2),
                "stationary": In(stationary),
                "sum_north": In(SUM_BITS),
                "moving_east": Out(moving),
                "select_east": Out(1),
                "active_east": Out(1),
                "load_east": Out(2),
                "sum_south": Out(SUM_BITS),
            }
        )

    @property
    def module_name(self) -> str:
        """Name that tells every parameter."""
        formats = f"{self.moving_format}_{self.stationary_format}"
        return f"StationaryPE_{formats}_a{self.add_latency_cycles}_m{self.multiply_latency_cycles}"

    def body(self) -> Module:
        """Build the cell."""
        m = Module()
        m.submodules.multiplier = multiplier = Multiplier(
            self.moving_format, self.stationary_format, latency=self.multiply_latency_cycles
        )
        m.submodules.adder = adder = Adder(_sum_format(self.moving_format), latency=self.add_latency_cycles)
        held = [Signal(len(self.stationary), name=f"held_{r}", reset_less=True) for r in range(2)]
        for r in range(2):
            with m.If(self.load[r]):
                m.d.sync += held[r].eq(self.stationary)
        m.d.comb += [
            multiplier.a.eq(self.moving),
            multiplier.b.eq(Mux(self.active, Mux(self.select, held[1], held[0]), 0)),
            adder.x.eq(self.sum_north),
            adder.y.eq(multiplier.p),
            self.sum_south.eq(adder.z),
        ]
        for name in ("moving", "select", "active", "load"):
            m.d.sync += getattr(self, f"{name}_east").eq(getattr(self, name))
        return m


class OutputStationaryPE(Leaf):
    """Multiply the two passing operands and add the product to the oldest of α interleaved partial sums.

    One MAC a cycle. The adder's pipeline is the accumulator: the sum that went in α cycles ago comes out when the next
    product of the same partial sum is ready. The operands of cycle *t* are multiplied in cycle *t*, the product meets
    `start` of cycle *t* + μ, and the new sum meets `capture` of cycle *t* + μ + α. What moves on leaves in cycle
    *t* + 1.

    Parameters
    ----------
    a_format, b_format : str
        Formats of the operands.
    add_latency_cycles, multiply_latency_cycles : int
        α, 1 or more, and μ, 0 or more [cycles].

    Members
    -------
    a, a_east : In, Out (operand)
        The row's operand.
    b, b_south : In, Out (operand)
        The column's operand.
    start, start_east : In, Out (1)
        The product is added to +0 instead of to a sum.
    capture, capture_east : In, Out (α)
        Bit *j*: drain register *j* takes the sum that the adder gives in this cycle.
    drain, drain_east : In, Out (α)
        Bit *j*: drain register *j* takes that of the PE to the north.
    drain_north, drain_south : In, Out (α sums)
        The drain registers of the PE to the north, and this one's.
    """

    def __init__(self, a_format: str, b_format: str, *, add_latency_cycles: int, multiply_latency_cycles: int) -> None:
        self.a_format = a_format
        self.b_format = b_format
        self.add_latency_cycles = add_latency_cycles
        self.multiply_latency_cycles = multiply_latency_cycles
        a, b, sums = width_of(a_format), width_of(b_format), add_latency_cycles
        super().__init__(
            {
                "a": In(a),
                "b": In(b),
                "start": In(1),
                "capture": In(sums),
                "drain": In(sums),
                "drain_north": In(SUM_BITS * sums),
                "a_east": Out(a),
                "b_south": Out(b),
                "start_east": Out(1),
                "capture_east": Out(sums),
                "drain_east": Out(sums),
                "drain_south": Out(SUM_BITS * sums),
            }
        )

    @property
    def module_name(self) -> str:
        """Name that tells every parameter."""
        formats = f"{self.a_format}_{self.b_format}"
        return f"OutputStationaryPE_{formats}_a{self.add_latency_cycles}_m{self.multiply_latency_cycles}"

    def body(self) -> Module:
        """Build the cell."""
        m = Module()
        m.submodules.multiplier = multiplier = Multiplier(
            self.a_format, self.b_format, latency=self.multiply_latency_cycles
        )
        m.submodules.adder = adder = Adder(_sum_format(self.a_format), latency=self.add_latency_cycles)
        held = [Signal(SUM_BITS, name=f"drain_{j}", reset_less=True) for j in range(self.add_latency_cycles)]
        m.d.comb += [
            multiplier.a.eq(self.a),
            multiplier.b.eq(self.b),
            adder.x.eq(Mux(self.start, 0, adder.z)),
            adder.y.eq(multiplier.p),
            self.drain_south.eq(Cat(held)),
        ]
        for j, register in enumerate(held):
            # Never both at once: a register has passed its column's sums on before its next one comes.
            with m.If(self.capture[j]):
                m.d.sync += register.eq(adder.z)
            with m.Elif(self.drain[j]):
                m.d.sync += register.eq(self.drain_north.word_select(j, SUM_BITS))
        m.d.sync += self.b_south.eq(self.b)
        for name in ("a", "start", "capture", "drain"):
            m.d.sync += getattr(self, f"{name}_east").eq(getattr(self, name))
        return m


def _sum_format(operand_format: str) -> str:
    return "int32" if operand_format == "int8" else "fp32"
