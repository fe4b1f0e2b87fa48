"""One lane of the vector unit: operands in, result out, a fixed number of cycles later.

Normative: docs/contracts/values.md, section 4.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from hwsim.program import FORMAT_CODES, VectorOp
from hwsim_rtl.arithmetic import Adder, Converter, Lfsr, Multiplier, Scale, Widen
from hwsim_rtl.arithmetic.compare import equal
from hwsim_rtl.arithmetic.floats import NAN, SIGN, flush, is_nan, wire
from hwsim_rtl.arithmetic.pipeline import Pipeline, spread
from hwsim_rtl.vector.laps import SPECIAL
from hwsim_rtl.vector.stages import Stages
from hwsim_rtl.verilog import Leaf

__all__ = ["HOW", "MEANINGS", "Lane", "limits"]

_MINUS_ONE = 0xBF800000

#: What each bit of `HOW` that follows from the opcode alone is high for.
MEANINGS: dict[str, tuple[VectorOp, ...]] = {
    # the first operand of the sum is the product of A and B, not A
    "product": (VectorOp.MULTIPLY, VectorOp.MULTIPLY_ADD, VectorOp.MULTIPLY_SUM_LINES, *SPECIAL),
    # the second one is B, or C; without either it is A
    "of_b": (
        VectorOp.ADD_BIAS, VectorOp.ADD, VectorOp.SUBTRACT, VectorOp.MAXIMUM, VectorOp.SELECT, VectorOp.SUM_LANES,
        VectorOp.MAXIMUM_LANES, VectorOp.SET,
    ),
    "of_c": (
        VectorOp.MULTIPLY_ADD, VectorOp.SUM_LINES, VectorOp.MULTIPLY_SUM_LINES, VectorOp.SELECT_EQUAL, *SPECIAL,
    ),
    "raw": (VectorOp.COPY, VectorOp.CONVERT),
    "negates": (VectorOp.SUBTRACT,),
    # the second operand where these hold, else +0, or −0, which changes no sum
    "if_inside": (VectorOp.SELECT,),
    "if_equal": (VectorOp.SELECT_EQUAL,),
    "if_hit": (VectorOp.SELECT_LABEL,),
    "never": (VectorOp.RESCALE, VectorOp.MULTIPLY, VectorOp.SUBTRACT_LABEL),
    # −1 at the label instead
    "less_one": (VectorOp.SUBTRACT_LABEL,),
    "maximum": (VectorOp.MAXIMUM, VectorOp.MAXIMUM_LANES),
    "clamps": (VectorOp.CLAMP,),
    # the second operand is the result, without a sum
    "moves": (
        VectorOp.COPY, VectorOp.CONVERT, VectorOp.SET, VectorOp.MAXIMUM, VectorOp.MAXIMUM_LANES, VectorOp.CLAMP,
        VectorOp.SELECT, VectorOp.SELECT_EQUAL, VectorOp.SELECT_LABEL,
    ),
}  # fmt: skip

#: What a lane does; it stays as it is from the first operand of a command to its last result. `above` and `under` are
#: the ranks of the limits `low` and `high`: what ranks above, and what ranks below, is inside.
HOW = data.StructLayout(
    {
        **dict.fromkeys(MEANINGS, 1), "integer": 1, "rescale": signed(10), "low": 32, "high": 32,
        "above": signed(32), "under": signed(32), "format": 3, "exponent": signed(10), "stochastic": 1,
    }
)  # fmt: skip

#: Steps before the sum: of the widening of int32 and the scaling behind it; of the comparisons and the choice after.
_WIDEN_STEPS, _SCALE_STEPS = (4, 4, 4, 4), (4, 3)
_SECOND_DEPTHS = {"compare": 7, "choose": 5}
_CONVERT_STEPS = (3, 4, 5, 3)


class Lane(Leaf):
    """One lane. Latency ``before + add + after`` cycles, one result a cycle.

    Parameters
    ----------
    integers : bool
        Sums of the array are int32.
    formats : tuple of str
        What results are converted to, besides fp32.
    stages : Stages
        Registers of the parts; those before the operands are not the lane's.

    Members
    -------
    a, b, c : In(32)
        Operands.
    hit : In(1)
        The label names this lane, with the operands.
    how : In(`HOW`)
        What to do.
    load, first : In(1), In(32)
        Of the lane's random words, as `Lfsr`.
    draw : In(1)
        Go on to the next random word: one scaling after the sum.
    z : Out(32)
        Result: a word, or a narrow number in its low bits.
    sum : Out(32)
        What the adder gives, ``before + add`` cycles after the operands.
    """

    def __init__(self, integers: bool, formats: tuple[str, ...], stages: Stages) -> None:
        self.integers, self.formats, self.stages = integers, formats, stages
        words = {"a": In(32), "b": In(32), "c": In(32), "hit": In(1), "how": In(HOW)}
        random = {"load": In(1), "first": In(32), "draw": In(1)}
        super().__init__({**words, **(random if formats else {}), "z": Out(32), "sum": Out(32)})

    @property
    def module_name(self) -> str:
        """Name of the module."""
        kinds = ("int32",) * self.integers + self.formats
        return "_".join(["VectorLane", *kinds, f"l{self.stages.before}", str(self.stages.add), str(self.stages.after)])

    @property
    def draw_cycles(self) -> int:
        """From the operands to the cycle in which their random word is used."""
        return self.stages.before + self.stages.add + self._scale_registers

    @property
    def _scale_registers(self) -> int:
        return sum(spread((*_SCALE_STEPS, *_CONVERT_STEPS), self.stages.after)[: len(_SCALE_STEPS)])

    def body(self) -> Module:
        """Build the lane."""
        m = Module()
        first, second = self._first(m), self._second(m)
        m.submodules.adder = adder = Adder("fp32", self.stages.add)
        m.d.comb += [adder.x.eq(first), adder.y.eq(second), self.sum.eq(adder.z)]
        moved = Pipeline(m, self.stages.add, {"moved": 1}).end("moved", word=second).word
        result = wire(m, Mux(self.how.moves, moved, adder.z), "result")
        m.d.comb += self.z.eq(self._converted(m, result))
        return m

    def _first(self, m: Module) -> Value:
        """First operand of the sum: A scaled, or the product."""
        how, registers = self.how, self.stages.before
        m.submodules.multiplier = multiplier = Multiplier("fp32", "fp32", registers)
        m.d.comb += [multiplier.a.eq(self.a), multiplier.b.eq(self.b)]
        number: Value = self.a
        if self.integers:
            widening = sum(spread((*_WIDEN_STEPS, *_SCALE_STEPS), registers)[: len(_WIDEN_STEPS)])
            m.submodules.widen = widen = Widen("int32", widening)
            m.d.comb += widen.x.eq(self.a)
            as_it_is = Pipeline(m, widening, {"plain": 1}).end("plain", a=self.a).a
            number, registers = Mux(how.integer, widen.y, as_it_is), registers - widening
        m.submodules.rescale = rescale = Scale(registers)
        m.d.comb += [rescale.x.eq(number), rescale.exponent.eq(how.rescale)]
        return wire(m, Mux(how.product, multiplier.p, rescale.y), "first")

    def _second(self, m: Module) -> Value:
        """Second operand of the sum, which is the result itself where it `moves`."""
        how, a, b = self.how, self.a, self.b
        pipe = Pipeline(m, self.stages.before, _SECOND_DEPTHS)
        rank, nan = wire(m, _rank(a), "rank_a"), wire(m, is_nan(a), "nan_a")
        above_low, below_high = (how.above < rank) & ~nan, (rank < how.under) & ~nan
        s = pipe.end(
            "compare", a=a, source=Mux(how.of_c, self.c, Mux(how.of_b, b, a)), nan=nan, b_nan=is_nan(b),
            less=rank < _rank(b), above_low=above_low, below_high=below_high,
            zero=how.never | (how.if_inside & ~(above_low & below_high)) | (how.if_equal & ~equal(a, b))
            | (how.if_hit & ~self.hit),
            one=how.less_one & self.hit,
        )  # fmt: skip
        source = wire(m, flush(s.source), "source_flushed")
        chosen = Mux(how.raw, s.source, Cat(source[:31], source[31] ^ how.negates))
        chosen = Mux(s.zero, Mux(s.one, _MINUS_ONE, Mux(how.never, SIGN, 0)), chosen)
        number = wire(m, flush(s.a), "a_flushed")
        largest = Mux(s.nan | s.b_nan, NAN, Mux(s.less, source, number))
        clamped = Mux(s.nan, NAN, Mux(s.above_low, Mux(s.below_high, number, how.high), how.low))
        chosen = Mux(how.maximum, largest, Mux(how.clamps, clamped, chosen))
        return pipe.end("choose", word=chosen).word

    def _converted(self, m: Module, result: Value) -> Value:
        """The result, or the narrow number that it is scaled and converted to."""
        registers, how = self.stages.after, self.how
        word = Pipeline(m, registers, {"kept": 1}).end("kept", word=result).word
        if not self.formats:
            return word
        m.submodules.lfsr = lfsr = Lfsr()
        m.submodules.scale = scale = Scale(self._scale_registers)
        m.d.comb += [scale.x.eq(result), scale.exponent.eq(how.exponent)]
        m.d.comb += [getattr(lfsr, name).eq(getattr(self, name)) for name in ("load", "first", "draw")]
        for format in self.formats:
            m.submodules[f"to_{format}"] = to = Converter(format, registers - self._scale_registers)
            m.d.comb += [to.x.eq(scale.y), to.word.eq(lfsr.word), to.stochastic.eq(how.stochastic)]
            # What a lane does stands still, and the way on from here to the memory is long.
            chosen = Signal(name=f"gives_{format}", reset_less=True)
            m.d.sync += chosen.eq(how.format == FORMAT_CODES[format])
            word = Mux(chosen, to.y, word)
        return word


def limits(low: Value, high: Value) -> tuple[Value, Value]:
    """Give the ranks `above` and `under` of limits that are no subnormals; a zero of any sign is not inside one that
    is zero, and nothing is inside a NaN.
    """
    above = Mux(low[:31].any(), _rank(low), 0)
    under = Mux(high[:31].any(), _rank(high), -1)
    return Mux(is_nan(low), (1 << 31) - 1, above), Mux(is_nan(high), -(1 << 31), under)


def _rank(x: Value) -> Value:
    """A whole number that grows as numbers do, that of −0 one less than that of +0; of a NaN it means nothing."""
    magnitude = Mux(x[23:31].any(), x[:31], 0)
    return Cat(magnitude ^ x[31].replicate(31), x[31]).as_signed()
