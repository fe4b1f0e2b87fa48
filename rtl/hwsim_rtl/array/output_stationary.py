"""The output-stationary array: both operands stream, sums stay, and leave south while the next fold streams.

Normative: docs/contracts/cycles.md section 2; docs/rtl-array.md derives the schedule of the drain.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hwsim_rtl.arithmetic.floats import width_of
from hwsim_rtl.array.pe import SUM_BITS, OutputStationaryPE
from hwsim_rtl.array.skew import delayed
from hwsim_rtl.verilog import Leaf

__all__ = ["OutputStationaryArray", "OutputStationaryRows"]

#: What enters a row in the west.
WEST = ("a", "start", "capture", "drain")


class OutputStationaryRows(Leaf):
    """Rows of PEs: `a` and the control enter in the west, column *j* works *j* cycles after column 0.

    One vector a cycle; a sum is complete μ + α cycles after its last operands. Rows are halved until one is left, so
    that the Verilog of an array grows with the logarithm of its rows.

    Parameters
    ----------
    rows, cols : int
        PEs in a column and in a row.
    a_format, b_format : str
        Formats of the operands.
    add_latency_cycles, multiply_latency_cycles : int
        α and μ [cycles].

    Members
    -------
    a, start, capture, drain : In (of `rows`)
        What the westernmost `OutputStationaryPE` of each row takes, skewed; row 0 lowest.
    b, b_south : In, Out (operands of `cols`)
        The column operands, skewed; column 0 lowest.
    drains_north, drains_south : In, Out (sums of `cols` × α)
        Drain registers, column 0 lowest, in it partial sum 0.
    """

    def __init__(
        self,
        rows: int,
        cols: int,
        a_format: str,
        b_format: str,
        *,
        add_latency_cycles: int,
        multiply_latency_cycles: int,
    ) -> None:
        self.rows = rows
        self.cols = cols
        self.formats = a_format, b_format
        self.add_latency_cycles = add_latency_cycles
        self.multiply_latency_cycles = multiply_latency_cycles
        operands, drains = width_of(b_format) * cols, SUM_BITS * add_latency_cycles * cols
        super().__init__(
            {
                "a": In(width_of(a_format) * rows),
                "start": In(rows),
                "capture": In(add_latency_cycles * rows),
                "drain": In(add_latency_cycles * rows),
                "b": In(operands),
                "b_south": Out(operands),
                "drains_north": In(drains),
                "drains_south": Out(drains),
            }
        )

    @property
    def module_name(self) -> str:
        """Name that tells every parameter."""
        shape, formats = f"{self.rows}x{self.cols}", "_".join(self.formats)
        return f"OutputStationaryRows_{shape}_{formats}_a{self.add_latency_cycles}_m{self.multiply_latency_cycles}"

    def body(self) -> Module:
        """Chain the PEs of one row from west to east, or two halves from north to south."""
        m = Module()
        if self.rows == 1:
            self._row(m)
        else:
            self._halves(m)
        return m

    def _row(self, m: Module) -> None:
        west = {name: getattr(self, name) for name in WEST}
        for j in range(self.cols):
            m.submodules[f"pe_{j}"] = pe = OutputStationaryPE(
                *self.formats,
                add_latency_cycles=self.add_latency_cycles,
                multiply_latency_cycles=self.multiply_latency_cycles,
            )
            m.d.comb += [getattr(pe, name).eq(value) for name, value in west.items()]
            m.d.comb += [
                pe.b.eq(self.b.word_select(j, len(pe.b))),
                self.b_south.word_select(j, len(pe.b)).eq(pe.b_south),
                pe.drain_north.eq(self.drains_north.word_select(j, len(pe.drain_north))),
                self.drains_south.word_select(j, len(pe.drain_south)).eq(pe.drain_south),
            ]
            west = {name: getattr(pe, f"{name}_east") for name in west}

    def _halves(self, m: Module) -> None:
        b, drains, first = self.b, self.drains_north, 0
        for name, rows in (("north", self.rows - self.rows // 2), ("south", self.rows // 2)):
            m.submodules[name] = half = OutputStationaryRows(
                rows,
                self.cols,
                *self.formats,
                add_latency_cycles=self.add_latency_cycles,
                multiply_latency_cycles=self.multiply_latency_cycles,
            )
            m.d.comb += [half.b.eq(b), half.drains_north.eq(drains)]
            for port in WEST:
                whole, part = getattr(self, port), getattr(half, port)
                m.d.comb += part.eq(whole[first * len(part) // rows :])
            b, drains, first = half.b_south, half.drains_south, rows
        m.d.comb += [self.b_south.eq(b), self.drains_south.eq(drains)]


class OutputStationaryArray(wiring.Component):
    """`rows` × `cols` PEs that each keep α interleaved partial sums of one output.

    Throughput one vector a cycle. Vectors that are presented in cycle *t* meet PE 0,0 in cycle *t*. The vectors of a
    fold come without a gap, and the last ones of consecutive folds at least α·max(rows, β) cycles apart. A fold of
    fewer vectors than that is padded to a multiple of α. With the last one in cycle *t*, line *i* of partial sum *j*
    leaves column *c* in cycle *t* + μ + α + (*j* + 1)·max(rows, β) + *i* + *c*; line *i* is that of row
    `rows` − 1 − *i*.

    Parameters
    ----------
    rows, cols : int
        PEs in a column and in a row.
    a_format, b_format : str
        Formats of the operands.
    add_latency_cycles, multiply_latency_cycles : int
        α, 1 or more, and μ, 0 or more [cycles].
    accumulator_latency_cycles : int
        β, the accumulator's read-add-write latency [cycles].
    tag_bits : int
        Width of what travels with a fold, 1 or more.
    lead_cycles : int
        How long before a sum what is said of it leaves, 0 to 2 [cycles], so that a memory can be read for it.

    Members
    -------
    first, last : In (1)
        The vectors are the fold's first, its last, pads counted.
    pad : In (1)
        The vectors count as products −0, which change no sum.
    tag : In (tag)
        What leaves again with the fold's sums; looked at with `last`.
    a : In (operands of `rows`)
        Element *r* for row *r*, row 0 lowest; idle rows may hold anything.
    b : In (operands of `cols`)
        Element *j* for column *j*, column 0 lowest; idle columns may hold anything.
    sum_valid : Out (cols)
        Bit *j*: a sum leaves column *j*, `lead_cycles` later.
    sum_row : Out (rows of `cols`)
        Which row's it is, per column.
    sum_first : Out (cols)
        Bit *j*: it is of partial sum 0.
    sum_last : Out (cols)
        Bit *j*: it is of partial sum α − 1.
    sum_tag : Out (tags of `cols`)
        The tag of its fold, per column.
    sums : Out (sums of `cols`)
        The sums, column 0 lowest.
    """

    def __init__(
        self,
        rows: int,
        cols: int,
        a_format: str,
        b_format: str,
        *,
        add_latency_cycles: int = 1,
        multiply_latency_cycles: int = 0,
        accumulator_latency_cycles: int = 1,
        tag_bits: int = 1,
        lead_cycles: int = 0,
    ) -> None:
        self.rows = rows
        self.cols = cols
        self.formats = a_format, b_format
        self.add_latency_cycles = add_latency_cycles
        self.multiply_latency_cycles = multiply_latency_cycles
        self.block_cycles = max(rows, accumulator_latency_cycles)
        self.row_bits = bits_for(rows - 1)
        self.tag_bits = tag_bits
        self.lead_cycles = lead_cycles
        super().__init__(
            {
                "first": In(1),
                "last": In(1),
                "pad": In(1),
                "tag": In(tag_bits),
                "a": In(width_of(a_format) * rows),
                "b": In(width_of(b_format) * cols),
                "sum_valid": Out(cols),
                "sum_row": Out(self.row_bits * cols),
                "sum_first": Out(cols),
                "sum_last": Out(cols),
                "sum_tag": Out(tag_bits * cols),
                "sums": Out(SUM_BITS * cols),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Skew both operands, control sums and drain, and say which sums leave."""
        m = Module()
        alpha, mu = self.add_latency_cycles, self.multiply_latency_cycles
        a_bits, b_bits = (width_of(f) for f in self.formats)
        start, capture = self._sum_control(m)
        due, due_line, due_tag = self._drain_control(m)
        drain = delayed(m, due, self.lead_cycles, name="drain", reset_less=False)
        line = delayed(m, due_line, self.lead_cycles, name="line")
        m.submodules.rows = rows = OutputStationaryRows(
            self.rows, self.cols, *self.formats, add_latency_cycles=alpha, multiply_latency_cycles=mu
        )
        a_pad, b_pad = 0, _negative_zero(self.formats[1])  # (+0) · (−0) = −0, and s + (−0) = s for every s
        for r in range(self.rows):
            a = Mux(self.pad, a_pad, self.a.word_select(r, a_bits))
            m.d.comb += [
                rows.a.word_select(r, a_bits).eq(delayed(m, a, r, name=f"skew_row_{r}")),
                rows.start[r].eq(start),
                rows.capture.word_select(r, alpha).eq(capture),
                # A row takes as many lines of a block as there are rows above it; then its next sum may come.
                rows.drain.word_select(r, alpha).eq(Mux(line < r, drain, 0) if r else 0),
            ]
            start = delayed(m, start, 1, name=f"start_{r}", reset_less=False)
            capture = delayed(m, capture, 1, name=f"capture_{r}", reset_less=False)
        for j in range(self.cols):
            b = Mux(self.pad, b_pad, self.b.word_select(j, b_bits))
            m.d.comb += rows.b.word_select(j, b_bits).eq(delayed(m, b, j, name=f"skew_column_{j}"))
        for c in range(self.cols):
            m.d.comb += [
                self.sum_valid[c].eq(due.any()),
                self.sum_row.word_select(c, self.row_bits).eq(self.rows - 1 - due_line),
                self.sum_first[c].eq(due[0]),
                self.sum_last[c].eq(due[alpha - 1]),
                self.sum_tag.word_select(c, self.tag_bits).eq(due_tag),
            ]
            for j in range(alpha):
                with m.If(drain[j]):
                    m.d.comb += self.sums.word_select(c, SUM_BITS).eq(
                        rows.drains_south.word_select(c * alpha + j, SUM_BITS)
                    )
            drain = delayed(m, drain, 1, name=f"drain_{c}", reset_less=False)
            due = delayed(m, due, 1, name=f"due_{c}", reset_less=False)
            due_line = delayed(m, due_line, 1, name=f"due_line_{c}")
            due_tag = delayed(m, due_tag, 1, name=f"due_tag_{c}")
        return m

    def _sum_control(self, m: Module) -> tuple[Value, Value]:
        """When row 0 starts partial sums, and when it captures which of them."""
        alpha, mu = self.add_latency_cycles, self.multiply_latency_cycles
        turn, turn_next = Signal(alpha), Signal(alpha)  # bit j: this cycle's product belongs to partial sum j
        m.d.comb += turn.eq(Mux(self.first, 1, turn_next))
        m.d.sync += turn_next.eq(turn.rotate_left(1))
        start = _within(m, self.first, alpha - 1, "starting") | self.first
        # The last α products of a fold give its sums, μ + α cycles later.
        ending = delayed(m, _within(m, self.last, alpha, "ending"), mu, name="ending_sum", reset_less=False)
        ends = delayed(m, turn, mu + alpha, name="turn")
        return delayed(m, start, mu, name="start", reset_less=False), Mux(ending, ends, 0)

    def _drain_control(self, m: Module) -> tuple[Value, Value, Value]:
        """Which partial sum leaves column 0 (bit *j*), the line of it, and its tag, `lead_cycles` ahead."""
        alpha, cycles = self.add_latency_cycles, self.block_cycles
        ahead = self.multiply_latency_cycles + alpha + cycles - 1 - self.lead_cycles  # one register more is below
        go = delayed(m, self.last, ahead, name="go", reset_less=False)
        go_tag = delayed(m, self.tag, ahead, name="go_tag")
        block = Signal(alpha)  # bit j: partial sum j leaves; none when nothing does
        line = Signal(range(cycles))
        tag = Signal(self.tag_bits, reset_less=True)
        with m.If(go):
            m.d.sync += [block.eq(1), line.eq(0), tag.eq(go_tag)]
        with m.Elif(line == cycles - 1):
            m.d.sync += [block.eq(block << 1), line.eq(0)]
        with m.Else():
            m.d.sync += line.eq(line + 1)
        drain = Mux(line < self.rows, block, 0)  # the bottom row leaves first; β above `rows` leaves a pause
        return drain, line, tag


def _within(m: Module, pulse: Value, cycles: int, name: str) -> Value:
    """High for `cycles` cycles after each pulse."""
    if cycles == 0:
        return Const(0)
    line = Signal(cycles, name=name)
    m.d.sync += line.eq(Cat(pulse, line))
    return line.any()


def _negative_zero(operand_format: str) -> int:
    return 0 if operand_format == "int8" else 1 << width_of(operand_format) - 1
