"""The weight- or input-stationary array: one operand is preloaded, the other streams, sums move south.

Which operand is which is the feeder's business. Normative: docs/contracts/cycles.md section 2; docs/rtl-array.md has
ports and timing.
"""

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim_rtl.arithmetic.floats import width_of
from hwsim_rtl.array.pe import SUM_BITS, StationaryPE
from hwsim_rtl.array.skew import delayed
from hwsim_rtl.verilog import Leaf

__all__ = ["StationaryArray", "StationaryRows"]

#: What enters a row in the west.
WEST = ("moving", "select", "active", "load")


class StationaryRows(Leaf):
    """Rows of PEs, each fed from the west; column *j* works *j* cycles after column 0.

    Latency μ + α·`rows` from `moving` of row 0 to column 0 of `sums_south`, one vector a cycle. Rows are halved until
    one is left, so that the Verilog of an array grows with the logarithm of its rows.

    Parameters
    ----------
    rows, cols : int
        PEs in a column and in a row.
    moving_format, stationary_format : str
        Formats of the operands.
    add_latency_cycles, multiply_latency_cycles : int
        α and μ [cycles].

    Members
    -------
    moving, select, active, load : In (of `rows`)
        What the westernmost `StationaryPE` of each row takes, skewed; row 0 lowest.
    stationary : In (operands of `cols`)
        The column buses, skewed; column 0 lowest.
    sums_north, sums_south : In, Out (sums of `cols`)
        Partial sums, column 0 lowest.
    """

    def __init__(
        self,
        rows: int,
        cols: int,
        moving_format: str,
        stationary_format: str,
        *,
        add_latency_cycles: int,
        multiply_latency_cycles: int,
    ) -> None:
        self.rows = rows
        self.cols = cols
        self.formats = moving_format, stationary_format
        self.add_latency_cycles = add_latency_cycles
        self.multiply_latency_cycles = multiply_latency_cycles
        super().__init__(
            {
                "moving": In(width_of(moving_format) * rows),
                "select": In(rows),
                "active": In(rows),
                "load": In(2 * rows),
                "stationary": In(width_of(stationary_format) * cols),
                "sums_north": In(SUM_BITS * cols),
                "sums_south": Out(SUM_BITS * cols),
            }
        )

    @property
    def module_name(self) -> str:
        """Name that tells every parameter."""
        shape, formats = f"{self.rows}x{self.cols}", "_".join(self.formats)
        return f"StationaryRows_{shape}_{formats}_a{self.add_latency_cycles}_m{self.multiply_latency_cycles}"

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
            m.submodules[f"pe_{j}"] = pe = StationaryPE(
                *self.formats,
                add_latency_cycles=self.add_latency_cycles,
                multiply_latency_cycles=self.multiply_latency_cycles,
            )
            m.d.comb += [getattr(pe, name).eq(value) for name, value in west.items()]
            m.d.comb += [
                pe.stationary.eq(self.stationary.word_select(j, len(pe.stationary))),
                pe.sum_north.eq(self.sums_north.word_select(j, SUM_BITS)),
                self.sums_south.word_select(j, SUM_BITS).eq(pe.sum_south),
            ]
            west = {name: getattr(pe, f"{name}_east") for name in west}

    def _halves(self, m: Module) -> None:
        sums, first = self.sums_north, 0
        for name, rows in (("north", self.rows - self.rows // 2), ("south", self.rows // 2)):
            m.submodules[name] = half = StationaryRows(
                rows,
                self.cols,
                *self.formats,
                add_latency_cycles=self.add_latency_cycles,
                multiply_latency_cycles=self.multiply_latency_cycles,
            )
            m.d.comb += [half.stationary.eq(self.stationary), half.sums_north.eq(sums)]
            for port in WEST:
                whole, part = getattr(self, port), getattr(half, port)
                m.d.comb += part.eq(whole[first * len(part) // rows :])
            sums, first = half.sums_south, rows
        m.d.comb += self.sums_south.eq(sums)


class StationaryArray(wiring.Component):
    """`rows` × `cols` PEs that multiply a stream of vectors by a matrix that was preloaded.

    Throughput one vector a cycle. A vector that is presented in cycle *t* meets PE 0,0 in cycle *t*, and its sum of
    column *j* is there in cycle *t* + μ + α·`rows` + *j*, for one cycle. A stationary row *r* that is presented in
    cycle *t* serves vectors that are presented from cycle *t* + 1 − α·*r* on.

    Parameters
    ----------
    rows, cols : int
        PEs in a column and in a row.
    moving_format, stationary_format : str
        Formats of the operands.
    add_latency_cycles, multiply_latency_cycles : int
        α, 1 or more, and μ, 0 or more [cycles].
    tag_bits : int
        Width of what travels with a vector, 1 or more.
    lead_cycles : int
        How long before a sum what is said of it leaves, 0 to 2 [cycles], so that a memory can be read for it.

    Members
    -------
    load_valid : In (1)
        A row of the stationary operand is presented.
    load_row : In (row)
        Its row.
    load_register : In (1)
        Which of the two stationary registers of the row's PEs takes it.
    load_operands : In (operands of `cols`)
        The row, element *j* for column *j*, column 0 lowest; idle columns may hold anything.
    vector_valid : In (1)
        A moving vector is presented.
    vector_rows : In (count)
        How many rows have work, from row 0 on; the others add +0.
    vector_register : In (1)
        Which stationary register it is multiplied by.
    vector_tag : In (tag)
        What leaves again with its sums.
    vector_operands : In (operands of `rows`)
        The vector, element *r* for row *r*, row 0 lowest.
    sum_valid : Out (cols)
        Bit *j*: a sum leaves column *j*, `lead_cycles` later.
    sum_tag : Out (tags of `cols`)
        The tag of its vector, per column.
    sums : Out (sums of `cols`)
        The sums, column 0 lowest.
    """

    def __init__(
        self,
        rows: int,
        cols: int,
        moving_format: str,
        stationary_format: str,
        *,
        add_latency_cycles: int = 1,
        multiply_latency_cycles: int = 0,
        tag_bits: int = 1,
        lead_cycles: int = 0,
    ) -> None:
        self.rows = rows
        self.cols = cols
        self.formats = moving_format, stationary_format
        self.add_latency_cycles = add_latency_cycles
        self.multiply_latency_cycles = multiply_latency_cycles
        self.tag_bits = tag_bits
        self.lead_cycles = lead_cycles
        super().__init__(
            {
                "load_valid": In(1),
                "load_row": In(range(rows)),
                "load_register": In(1),
                "load_operands": In(width_of(stationary_format) * cols),
                "vector_valid": In(1),
                "vector_rows": In(range(rows + 1)),
                "vector_register": In(1),
                "vector_tag": In(tag_bits),
                "vector_operands": In(width_of(moving_format) * rows),
                "sum_valid": Out(cols),
                "sum_tag": Out(tag_bits * cols),
                "sums": Out(SUM_BITS * cols),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Skew what enters in the west and in the north, and say which vector's sums leave."""
        m = Module()
        alpha, mu = self.add_latency_cycles, self.multiply_latency_cycles
        moving_bits, stationary_bits = (width_of(f) for f in self.formats)
        m.submodules.rows = rows = StationaryRows(
            self.rows, self.cols, *self.formats, add_latency_cycles=alpha, multiply_latency_cycles=mu
        )
        select = self.vector_register
        for r in range(self.rows):
            active = self.vector_rows > r
            operand = Mux(active, self.vector_operands.word_select(r, moving_bits), 0)
            skewed = delayed(m, Cat(active, operand), alpha * r, name=f"skew_{r}")
            here = self.load_valid & (self.load_row == r)
            m.d.comb += [
                rows.active[r].eq(skewed[0]),
                rows.moving.word_select(r, moving_bits).eq(skewed[1:]),
                rows.select[r].eq(select),
                rows.load.word_select(r, 2).eq(Cat(here & ~self.load_register, here & self.load_register)),
            ]
            select = delayed(m, select, alpha, name=f"select_{r}")
        for j in range(self.cols):
            # Column j works j cycles after column 0, and so does its bus: earlier, it could overwrite what the fold
            # before the last still needs.
            bus = delayed(m, self.load_operands.word_select(j, stationary_bits), j, name=f"bus_{j}")
            m.d.comb += rows.stationary.word_select(j, stationary_bits).eq(bus)
        m.d.comb += [rows.sums_north.eq(0), self.sums.eq(rows.sums_south)]  # every partial sum begins at +0
        known = mu + alpha * self.rows - self.lead_cycles
        valid = delayed(m, self.vector_valid, known, name="valid", reset_less=False)
        tag = delayed(m, self.vector_tag, known, name="tag")
        for j in range(self.cols):
            m.d.comb += [self.sum_valid[j].eq(valid), self.sum_tag.word_select(j, self.tag_bits).eq(tag)]
            valid = delayed(m, valid, 1, name=f"valid_{j}", reset_less=False)
            tag = delayed(m, tag, 1, name=f"tag_{j}")
        return m
