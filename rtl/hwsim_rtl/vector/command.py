"""Vector commands as the unit's queue keeps them, and what decodes them: nothing is multiplied.

Normative: docs/contracts/program.md, section 4, and docs/contracts/values.md, section 4.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Value, signed
from amaranth.lib import data, wiring

from hwsim.hardware import Accelerator
from hwsim.program import BMode, Unit, VectorFlag, VectorOp
from hwsim_rtl.arithmetic.floats import INFINITY, SIGN, flush, is_nan
from hwsim_rtl.control.command import UNIT_COMMANDS
from hwsim_rtl.control.prepare import PreparerSignature
from hwsim_rtl.control.semaphores import SEMAPHORES
from hwsim_rtl.dma.align import bits_for
from hwsim_rtl.vector.laps import SPECIAL

__all__ = [
    "ACROSS",
    "LABELLED",
    "OPCODE_BITS",
    "OPERANDS",
    "SUMMING",
    "VectorPrepare",
    "vector_command",
]

#: Micro-operations by what is particular of them: passes over the lanes; lines that are read again; labels in B.
ACROSS = (VectorOp.SUM_LANES, VectorOp.MAXIMUM_LANES)
SUMMING = (VectorOp.SUM_LINES, VectorOp.MULTIPLY_SUM_LINES)
LABELLED = (VectorOp.SELECT_LABEL, VectorOp.SUBTRACT_LABEL)
_ADDS_THREE = (VectorOp.MULTIPLY_ADD, VectorOp.SELECT_EQUAL)
_ONE_OPERAND = (
    VectorOp.COPY, VectorOp.CONVERT, VectorOp.RESCALE, VectorOp.CLAMP, VectorOp.SUM_LINES, *ACROSS, *SPECIAL,
)  # fmt: skip

OPERANDS = ("dst", "a", "b", "c")
OPCODE_BITS = 5
COUNT_BITS = 16
_PASSES_BITS = 4
_AXES = ("b", "h", "w")
#: Parts of an operand, and what their columns are called behind the operand's name.
_COLUMNS = ("", *(f"_step_{i}" for i in range(len(_AXES))))
_PARTS = ("fixed", "line", *(f"step_{i}" for i in range(len(_AXES))))
#: Largest exponents that matter: beyond them every number is a zero or infinite.
_EXPONENT = signed(10)


def vector_command(hw: Accelerator) -> data.StructLayout:
    """A prepared vector command.

    `dst` to `c` are first lines and steps per index of the box, and whether they are fixed lines; of sums over lines
    `c` is `dst`. `reads` says which of A, B, C is read. B is one word for all lanes where it `broadcasts`: the scalar,
    or that of a lane that goes on by `lane_step`, with index 1 and with index 2. `last_0` to `last_2` are the last
    indices. `rescale` is the exponent of sums; `exponent` and `format` those of the conversion on the way out. `scalar`
    and `scalar_2` are no subnormals, and no limits of a CLAMP that are NaN.
    """
    line = bits_for(hw.accumulator_slot_lines)
    operand = data.StructLayout({"fixed": 1, "line": line, **{f"step_{i}": line for i in range(len(_AXES))}})
    return data.StructLayout(
        {
            "post": SEMAPHORES, "opcode": OPCODE_BITS, "half": 1, **dict.fromkeys(OPERANDS, operand), "reads": 3,
            "lane_step": 2, "broadcasts": 1, "by_scalar": 1, **{f"last_{i}": COUNT_BITS for i in range(len(_AXES))},
            "columns": bits_for(hw.array.cols + 1), "more_passes": _PASSES_BITS, "scalar": 32, "scalar_2": 32,
            "integer": 1, "rescale": _EXPONENT, "format": 3, "exponent": _EXPONENT, "stochastic": 1,
        }
    )  # fmt: skip


class VectorPrepare(wiring.Component):
    """Decode vector commands.

    Parameters
    ----------
    hw : Accelerator
        Whose commands they are.

    Attributes
    ----------
    layout : StructLayout
        `vector_command`.
    cycles : int
        0: nothing but logic.

    Members
    -------
    words, valid, taken, prepared, done
        As `hwsim_rtl.control.PreparerSignature`.
    """

    cycles, ahead = 0, False

    def __init__(self, hw: Accelerator) -> None:
        self.hw, self.layout = hw, vector_command(hw)
        super().__init__(PreparerSignature(self.layout))

    def elaborate(self, platform: Any) -> Module:
        """Build the decoder."""
        m = Module()
        words = data.View(UNIT_COMMANDS[Unit.VECTOR], self.words.as_value())
        to = self.prepared
        m.d.comb += [
            self.done.eq(1),
            to.post.eq(words.post),
            to.opcode.eq(words.opcode),
            to.half.eq(words.slot_a),
            *(to[f"last_{i}"].eq(words[f"count_{axis}"][:COUNT_BITS] - 1) for i, axis in enumerate(_AXES)),
            to.columns.eq(words.columns),
            to.more_passes.eq(Mux(_is(words.opcode, *ACROSS), words.passes - 1, 0)),
        ]
        self._operands(m, words)
        self._scalars(m, words)
        self._conversion(m, words)
        return m

    def _operands(self, m: Module, words: Any) -> None:
        """Where operands lie, and which are read."""
        to, opcode, mode = self.prepared, words.opcode, words.flags[4:7]
        summing = _is(opcode, *SUMMING)
        for bit, name in enumerate(OPERANDS):
            given = [words.flags[bit], *(words[f"{name}{part}"] for part in _COLUMNS)]
            if name == "c":  # sums over lines read where they write
                of_dst = [words.flags[0], *(words[f"dst{part}"] for part in _COLUMNS)]
                given = [Mux(summing, first, own) for first, own in zip(of_dst, given, strict=True)]
            m.d.comb += [to[name][part].eq(value) for part, value in zip(_PARTS, given, strict=True)]
        labelled, sets = _is(opcode, *LABELLED), opcode == VectorOp.SET
        m.d.comb += [
            to.by_scalar.eq(((mode == BMode.SCALAR) & ~labelled) | sets),
            to.broadcasts.eq(((mode != BMode.LINE) | labelled | sets) & ~_is(opcode, *ACROSS)),
            to.lane_step.eq(Cat(mode == BMode.WORD_1, mode == BMode.WORD_2)),
            to.reads[0].eq(~sets),
            to.reads[1].eq(~to.by_scalar & ~_is(opcode, *_ONE_OPERAND)),
            to.reads[2].eq(_is(opcode, *_ADDS_THREE, *SUMMING)),
        ]

    def _scalars(self, m: Module, words: Any) -> None:
        """Scalars as operands; a limit that is NaN limits nothing in a CLAMP."""
        to, clamps = self.prepared, words.opcode == VectorOp.CLAMP
        low, high = words.scalar, words.scalar_2
        m.d.comb += [
            to.scalar.eq(Mux(clamps & is_nan(low), SIGN | INFINITY, flush(low))),
            to.scalar_2.eq(Mux(clamps & is_nan(high), INFINITY, flush(high))),
        ]
        sums = _flag(words, VectorFlag.SUMS) & _is(words.opcode, VectorOp.RESCALE, VectorOp.ADD_BIAS)
        integers = self.hw.accumulator_format == "int32"
        m.d.comb += [to.integer.eq(sums & integers), to.rescale.eq(Mux(sums, _exponent(words.scalar), 0))]

    def _conversion(self, m: Module, words: Any) -> None:
        """Sums over lines and over lanes are words; only conversions draw."""
        to = self.prepared
        with m.If(~_is(words.opcode, *SUMMING, *ACROSS) & words.format.any()):
            m.d.comb += [
                to.format.eq(words.format),
                to.exponent.eq(_exponent(words.exponent)),
                to.stochastic.eq(_flag(words, VectorFlag.STOCHASTIC)),
            ]


def _is(opcode: Value, *ops: VectorOp) -> Value:
    return opcode.matches(*(int(op) for op in ops))


def _flag(words: Any, flag: VectorFlag) -> Value:
    return words.flags[int(flag).bit_length() - 1]


def _exponent(word: Value) -> Value:
    """An exponent, cut to 10 bits: beyond −512 and 511 every number becomes a zero, or infinite, all the same."""
    wide = word.as_signed()
    return Mux(wide < -512, -512, Mux(wide > 511, 511, wide))
