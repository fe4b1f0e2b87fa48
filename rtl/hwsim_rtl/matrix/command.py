"""Matrix commands as the unit's queue keeps them, and what makes them: products, and which level walks what.

Normative: docs/contracts/program.md, sections 3 and 4, docs/contracts/values.md, section 3; docs/rtl-matrix.md.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Module, Mux, Signal, Value
from amaranth.lib import data, wiring

from hwsim.hardware import Accelerator
from hwsim.program import FORMAT_CODES, MatrixFlag, Unit
from hwsim_rtl.control.command import UNIT_COMMANDS
from hwsim_rtl.control.prepare import PreparerSignature, only_measured
from hwsim_rtl.control.semaphores import SEMAPHORES
from hwsim_rtl.dma import Geometry
from hwsim_rtl.dma.align import bits_for
from hwsim_rtl.dma.box import COUNT_BITS, TAP_BITS
from hwsim_rtl.matrix.walk import walk_layout

__all__ = ["LEVELS", "MatrixPrepare", "levels_of", "matrix_command"]

#: Levels of the walks of A and of B by dataflow, outermost first. A `k_block` takes R of the reduction at once,
#: `columns` and `rows` take what the array has; all others take one.
LEVELS = {
    "ws": (
        ("tap_h", "tap_w", "k_block", "b", "h", "w"),
        ("tap_h", "tap_w", "columns", "b", "h", "w"),
    ),
    "is": (("columns", "k"), ("tap", "k_block", "n")),
    "os": (
        ("rows", "again", "columns", "k"),
        ("tap_h", "tap_w", "columns", "b", "h", "w"),
    ),
}
#: Outermost levels that have no end.
ENDLESS = {"ws": (False, False), "is": (True, False), "os": (True, False)}


def levels_of(hw: Accelerator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give how many elements each level of A, and of B, takes at once.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> levels_of(load_accelerator("edge-8x8-bf16"))
    ((1, 1, 8, 1, 1, 1), (1, 1, 8, 1, 1, 1))
    """
    takes = {"k_block": hw.array.rows, "rows": hw.array.rows, "columns": hw.array.cols}
    a, b = (tuple(takes.get(name, 1) for name in names) for names in LEVELS[hw.array.dataflow])
    return a, b


def matrix_command(hw: Accelerator) -> data.StructLayout:
    """A prepared matrix command.

    `a` and `b` are the walks of the operands. For each block of the array's columns, of `columns` in a run, folds go
    through `segments` runs of `segment` of the reduction; output-stationary, for each block of `rows` through `blocks`
    runs of columns. `line_step` is from a line of sums to that of the next streamed vector, or of the next row; `top`
    the line of the array's last row. `wait` cycles of an output-stationary interval pass before its first read.
    """
    g, flow = Geometry.of(hw), hw.array.dataflow
    a, b = levels_of(hw)
    count = COUNT_BITS
    own: dict[str, Any] = (
        {"rows": count, "blocks": count, "wait": count, "top": g.line_bits}
        if flow == "os"
        else {"segments": count, "segment": count}
    )
    return data.StructLayout(
        {
            "post": SEMAPHORES, "half": 1, "adds": 1, "folds": count, "interval": count,
            "stream": count, "columns": count, "line_step": g.line_bits, **own,
            "a": walk_layout(g, len(a)), "b": walk_layout(g, len(b)),
        }
    )  # fmt: skip


class MatrixPrepare(wiring.Component):
    """Decode matrix commands, and make the products that their walks need.

    Parameters
    ----------
    hw : Accelerator
        Whose commands they are.
    multipliers : int
        Multipliers that share the products, 1 or more.
    pipelined : bool
        There are registers before and behind the multipliers, and `prepared` is ahead. Else it takes fewer cycles,
        longer ones.

    Attributes
    ----------
    layout : StructLayout
        `matrix_command`.
    cycles : int
        Rounds of the multipliers, and those registers.
    ahead : bool
        As `hwsim_rtl.control.prepare.Preparer`.

    Members
    -------
    words, valid, taken, prepared, done
        As `hwsim_rtl.control.PreparerSignature`.
    """

    def __init__(self, hw: Accelerator, multipliers: int = 1, *, pipelined: bool = True) -> None:
        self.hw, self.multipliers, self.pipelined, self.geometry = hw, multipliers, pipelined, Geometry.of(hw)
        self.layout = matrix_command(hw)
        super().__init__(PreparerSignature(self.layout))
        products = self._decode(trial := Module(), self.prepared)
        only_measured(trial)
        #: Products of the pass with the most of them: more multipliers do not help.
        self.widest, self.cycles, self.ahead = products.widest, products.rounds + pipelined, pipelined

    @classmethod
    def within(cls, hw: Accelerator, cycles: int) -> MatrixPrepare:
        """Give the one with the fewest multipliers that needs no more than so many cycles, or the quickest."""
        for pipelined in (True, False):
            found, multipliers = cls(hw, 1, pipelined=pipelined), 1
            while found.cycles > cycles and multipliers < found.widest:
                only_measured(found)
                multipliers += 1
                found = cls(hw, multipliers, pipelined=pipelined)
            if found.cycles <= cycles:
                break
            if pipelined:
                only_measured(found)
        return found

    def elaborate(self, platform: Any) -> Module:
        """Build it: the products are made one round after the other while the words stand."""
        m = Module()
        round_, made = Signal(range(self.cycles + 1)), Signal(self.layout, reset_less=True)
        self._decode(m, made).build(round_)
        m.d.comb += self.prepared.eq(made)
        m.d.comb += self.soon.eq(self.done | (round_ == self.cycles - 1))
        with m.If(~self.valid | self.taken):
            m.d.sync += [round_.eq(0), self.done.eq(0)]
        with m.Elif(~self.done):
            m.d.sync += [round_.eq(round_ + 1), self.done.eq(self.soon)]
        return m

    def _decode(self, m: Module, made: Any) -> _Products:
        return _Decoder(m, self, made).products


class _Decoder:
    """What a command's fields mean to the walks, by dataflow and form.

    Flags come a cycle after the words if it is pipelined: they choose between products, which come later.
    """

    def __init__(self, m: Module, unit: MatrixPrepare, made: Any) -> None:
        self.m, self.hw, self.g, self.to = m, unit.hw, unit.geometry, made
        self.words = w = data.View(UNIT_COMMANDS[Unit.MATRIX], unit.words.as_value())
        self.products = _Products(m, unit.multipliers, 2 if unit.pipelined else 0)
        self.flow = unit.hw.array.dataflow
        self.flags = _registered(m, w.flags) if unit.pipelined else w.flags
        self.wgrad, self.expanded = self._flag(MatrixFlag.WGRAD), self._flag(MatrixFlag.EXPANDED)
        self.w_by_k, self.x_by_k = self._flag(MatrixFlag.W_BY_K), self._flag(MatrixFlag.X_BY_K)
        self.count = {name: w[f"count_{name}"][:COUNT_BITS] for name in "bhw"}
        self.taps = {name: w[f"taps_{name}"][:TAP_BITS] for name in "hw"}
        self.channels, self.outputs = w.channels[:COUNT_BITS], w.outputs[:COUNT_BITS]
        self.stream = w.stream[:COUNT_BITS]
        self._sizes()
        if self.flow != "is":
            self._patch()
        self._whole()
        getattr(self, f"_{self.flow}")()

    def _flag(self, flag: MatrixFlag) -> Value:
        return self.flags[int(flag).bit_length() - 1]

    def _sizes(self) -> None:
        """Taps, what lies across them, pixels."""
        products = self.products
        self.all_taps = products.multiply(0, self.taps["h"], self.taps["w"], COUNT_BITS)
        self.across = products.multiply(1, self.all_taps, self.channels, COUNT_BITS)
        image = products.multiply(0, self.count["h"], self.count["w"], COUNT_BITS)
        self.pixels = products.multiply(1, image, self.count["b"], COUNT_BITS)

    def _patch(self) -> None:
        """Steps through a patch, in lines, and where the first tap of the first pixel is."""
        w, products, bits = self.words, self.products, self.g.line_bits
        back, tap, size = {}, {}, {}
        inc = {name: w[f"inc_{name}"][:COUNT_BITS] for name in "hw"}
        for name in "hw":
            step = w[f"tap_{name}"][:COUNT_BITS]
            back[name] = step[-1]
            tap[name] = Mux(back[name], -step, step)[:COUNT_BITS]
            pixels = products.multiply(0, (self.count[name] - 1)[:COUNT_BITS], inc[name], bits)
            reach = products.multiply(0, (self.taps[name] - 1)[:TAP_BITS], tap[name], bits)
            size[name] = (pixels + reach + 1)[:bits]
            tap[f"{name}_reach"] = reach
        width = size["w"]
        row = products.multiply(1, inc["h"], width, bits)
        tap_row = products.multiply(1, tap["h"], width, bits)
        image = products.multiply(1, size["h"], width, bits)
        above = products.multiply(1, tap["h_reach"], width, bits)
        start = (Mux(back["h"], above, 0) + Mux(back["w"], tap["w_reach"], 0))[:bits]
        self.pixel_steps = {"b": self._lines(2, image), "h": self._lines(2, row), "w": self._lines(0, inc["w"])}
        self.tap_steps = {
            "h": self._lines(2, tap_row, back["h"]),
            "w": self._lines(0, tap["w"], back["w"]),
        }
        self.patch_start = self._lines(2, start)

    def _lines(self, when: int, lines: Value, back: Value | None = None) -> tuple[Value, Value]:
        """A step of so many lines, or so many back, with its remainder modulo D."""
        bits, deep = self.g.line_bits, self.g.deep
        row = self.products.divide(when, lines, deep)[1]
        if back is None:
            return lines, row
        return Mux(back, -lines, lines)[:bits], Mux(back & row.any(), deep - row, row)[: self.g.lane_bits]

    def _whole(self) -> None:
        """What all dataflows have."""
        w, to = self.words, self.to
        first = {name: w[f"{name}_line"] + Mux(w[f"slot_{name}"], w[f"{name}_span"], 0) for name in "ab"}
        self.m.d.comb += [
            to.post.eq(w.post),
            to.half.eq(w.slot_c),
            to.adds.eq(self._flag(MatrixFlag.ADDS)),
            to.folds.eq(w.folds),
            to.interval.eq(w.interval),
            to.stream.eq(w.stream),
            *(to[name].line.eq(line) for name, line in first.items()),
            *(to[name].lines.eq(w[f"{name}_lines"]) for name in "ab"),
            *(to[name].e5m2.eq(w[f"{name}_format"] == FORMAT_CODES["fp8_e5m2"]) for name in "ab"),
        ]
        self.first = first

    def _level(
        self, operand: str, name: str, size: Value | int, step: Value | int | str | tuple[Value, Value] = 0
    ) -> None:
        """Say what a level walks: so many elements, columns (``"columns"``) or lines at a time."""
        level = self.to[operand].levels[LEVELS[self.flow]["ab".index(operand)].index(name)]
        self.m.d.comb += level.size.eq(size)
        if step == "columns":
            self.m.d.comb += level.column.eq(1)
        elif isinstance(step, int):
            self.m.d.comb += [level.line.eq(step), level.row.eq(step % self.g.deep)]
        else:
            assert isinstance(step, tuple)
            self.m.d.comb += [level.line.eq(step[0]), level.row.eq(step[1])]

    def _ones(self, operand: str, *names: str) -> None:
        for name in names:
            self._level(operand, name, 1)

    def _pixel_walk(self, operand: str) -> None:
        """Pixel by pixel through a patch, tap by tap outside, from the first tap on."""
        to = self.to[operand]
        for name in "bhw":
            self._level(operand, name, self.count[name], self.pixel_steps[name])
        for name in "hw":
            self._level(operand, f"tap_{name}", self.taps[name], self.tap_steps[name])
        line, row = self.patch_start
        self.m.d.comb += [to.line.eq(self.first[operand] + line), to.row.eq(row)]

    def _ws(self) -> None:
        """A moves, R of the reduction at once; B stays."""
        m, to, rows = self.m, self.to, self.hw.array.rows
        with m.If(self.wgrad):
            self._ones("a", "tap_h", "tap_w", "b", "h")
            self._level("a", "k_block", self.pixels, rows)
            self._level("a", "w", self.stream, "columns")
            m.d.comb += to.a.by_lane.eq(1)
        with m.Elif(self.x_by_k):
            self._ones("a", "tap_h", "tap_w", "b", "h")
            self._level("a", "k_block", self.across, rows)
            self._level("a", "w", self.stream, "columns")
            m.d.comb += to.a.by_lane.eq(1)
        with m.Elif(self.expanded):
            self._ones("a", "tap_h", "tap_w", "b", "h")
            self._level("a", "k_block", self.across, "columns")
            self._level("a", "w", self.stream, 1)
        with m.Else():
            self._pixel_walk("a")
            self._level("a", "k_block", self.channels, "columns")
        self._columns_of_b()
        self._segments()
        m.d.comb += to.line_step.eq(self._column_blocks())

    def _columns_of_b(self) -> None:
        """B where its vectors lie along the columns: one of the reduction after the other."""
        m, to, cols = self.m, self.to, self.hw.array.cols
        with m.If(self.wgrad):
            with m.If(self.expanded):
                self._ones("b", "tap_h", "tap_w", "b", "h")
                self._level("b", "columns", self.across, "columns")
                self._level("b", "w", self.pixels, 1)
            with m.Else():
                self._pixel_walk("b")
                self._level("b", "columns", self.channels, "columns")
            m.d.comb += to.columns.eq(Mux(self.expanded, self.across, self.channels))
        with m.Else():
            self._ones("b", "tap_h", "tap_w", "b")
            with m.If(self.w_by_k):
                self._level("b", "columns", self.outputs, "columns")
                self._level("b", "h", 1)
                self._level("b", "w", self.across, 1)
            with m.Else():
                m.d.comb += to.b.by_lane.eq(1)
                self._level("b", "columns", self.outputs, cols)
                self._level("b", "h", self.all_taps, self._lines(0, self.outputs))
                self._level("b", "w", self.channels, "columns")
            m.d.comb += to.columns.eq(self.outputs)

    def _column_blocks(self) -> Value:
        """Lines of sums that lie side by side: blocks of columns."""
        products, cols, bits = self.products, self.hw.array.cols, self.g.line_bits

        def blocks(when: int, columns: Value) -> Value:
            return products.divide(when, (columns + (cols - 1))[: COUNT_BITS + 1], cols)[0][:bits]

        by_tap = products.multiply(1, self.all_taps, blocks(0, self.channels), bits)
        across, outputs = blocks(2, self.across), blocks(0, self.outputs)
        return Mux(self.wgrad, Mux(self.expanded, across, by_tap), outputs)

    def _segments(self) -> None:
        """Runs of the reduction that folds do not go beyond."""
        # Input-stationary, the moving weights are read by line, and a line holds one tap, unless they are stored by k.
        across = self.expanded & (self.w_by_k if self.hw.array.dataflow == "is" else C(1, 1))
        whole = self.wgrad | across
        k = Mux(self.wgrad, self.pixels, self.across)
        self.m.d.comb += [
            self.to.segment.eq(Mux(whole, k, self.channels)),
            self.to.segments.eq(Mux(whole, 1, self.all_taps)),
        ]

    def _is(self) -> None:
        """A stays, its pixels or outputs on the columns; B moves."""
        m, to, rows, cols = self.m, self.to, self.hw.array.rows, self.hw.array.cols
        by_k = self.wgrad | self.x_by_k
        with m.If(by_k):
            self._level("a", "columns", 0, "columns")
            self._level("a", "k", Mux(self.wgrad, self.pixels, self.across), 1)
        with m.Else():
            m.d.comb += to.a.by_lane.eq(1)
            self._level("a", "columns", 0, cols)
            self._level("a", "k", self.across, "columns")
        with m.If(self.wgrad | self.w_by_k):
            m.d.comb += to.b.by_lane.eq(1)
            self._level("b", "tap", 1)
            self._level("b", "k_block", Mux(self.wgrad, self.pixels, self.across), rows)
            self._level("b", "n", self.stream, "columns")
        with m.Else():
            self._level("b", "tap", self.all_taps, self._lines(0, self.outputs))
            self._level("b", "k_block", self.channels, "columns")
            self._level("b", "n", self.stream, 1)
        self._segments()
        m.d.comb += [
            to.columns.eq(Mux(self.wgrad, self.outputs, self.pixels)),
            to.line_step.eq(1),
        ]

    def _os(self) -> None:
        """Both stream, one of the reduction a cycle; A's vectors lie along the rows."""
        m, to, rows = self.m, self.to, self.hw.array.rows
        m.d.comb += to.blocks.eq(Mux(self.wgrad & ~self.expanded, self.all_taps, 1))
        self._level("a", "again", to.blocks)
        self._level("a", "columns", to.columns)
        with m.If(self.wgrad | self.x_by_k):
            self._level("a", "rows", 0, "columns")
            self._level("a", "k", self.stream, 1)
        with m.Else():
            m.d.comb += to.a.by_lane.eq(1)
            self._level("a", "rows", 0, rows)
            self._level("a", "k", self.stream, "columns")
        self._columns_of_b()
        lines = self._column_blocks()
        alpha = self.hw.array.add_latency_cycles
        idle = (self.words.interval - self.stream)[:COUNT_BITS]
        pads = self.products.divide(0, idle, alpha)[1]
        m.d.comb += [
            to.rows.eq(Mux(self.wgrad, self.outputs, self.pixels)),
            to.line_step.eq(lines),
            to.top.eq(self.products.multiply(3, C(rows - 1, bits_for(rows)), lines, self.g.line_bits)),
            to.wait.eq(idle - pads),
        ]


class _Products:
    """Products that few multipliers make in turn, pass after pass, each kept in a register until the command has left.

    A factor may be, or come from, a product of an earlier pass.

    Parameters
    ----------
    m : Module
        Where they are made.
    multipliers : int
        How many.
    stages : int
        Registers on the way to a product's own: 0, or 2, before and behind the multiplier.
    """

    def __init__(self, m: Module, multipliers: int, stages: int) -> None:
        self._m, self._multipliers, self._stages = m, multipliers, stages
        self._passes: list[list[tuple[Value, Value, Signal]]] = []

    @property
    def _rounds(self) -> list[list[tuple[Value, Value, Signal]]]:
        """Products by the round in which their factors are chosen; after a pass, its last ones are waited for."""
        step, waits = self._multipliers, self._stages
        return [
            chosen
            for products in self._passes
            for chosen in [*(products[i : i + step] for i in range(0, len(products), step)), *[[]] * waits]
        ]

    @property
    def rounds(self) -> int:
        """Cycles that all products take."""
        return len(self._rounds)

    @property
    def widest(self) -> int:
        """Products of the pass with the most."""
        return max(map(len, self._passes), default=0)

    def multiply(self, when: int, a: Value, b: Value, width: int) -> Value:
        """Ask for a product, to be made in pass number `when`."""
        while len(self._passes) <= when:
            self._passes.append([])
        result = Signal(width, name=f"product_{when}_{len(self._passes[when])}", reset_less=True)
        self._passes[when].append((a, b, result))
        return result

    def divide(self, when: int, number: Value, by: int) -> tuple[Value, Value]:
        """Quotient and remainder by a constant: exact by a reciprocal rounded up."""
        shift, bits = (by - 1).bit_length(), len(number)
        if by == 1 << shift:
            return number[shift:], number[:shift] if shift else C(0, 1)
        reciprocal = C(-(-(1 << bits + shift) // by), bits + 1)
        product = self.multiply(when, reciprocal, number, 2 * bits + 1)
        quotient = product[bits + shift :]
        return quotient, (number - quotient * by)[:shift]

    def build(self, round_: Value) -> None:
        """Build the multipliers and what gives them their factors."""
        m, rounds, stages = self._m, self._rounds, self._stages
        widths = [max(len(product[side]) for products in rounds for product in products) for side in (0, 1)]
        for unit in range(self._multipliers):
            mine = {number: products[unit] for number, products in enumerate(rounds) if unit < len(products)}
            factors = [Signal(width, name=f"factor_{side}_{unit}") for side, width in zip("ab", widths, strict=True)]
            with m.Switch(round_):
                for number, (a, b, _) in mine.items():
                    with m.Case(number):
                        m.d.comb += [factors[0].eq(a), factors[1].eq(b)]
            if stages:
                factors = [_registered(m, factor) for factor in factors]
            product = factors[0] * factors[1]
            made = _registered(m, product) if stages else product
            with m.Switch(round_):
                for number, (_, _, result) in mine.items():
                    with m.Case(number + stages):
                        m.d.sync += result.eq(made)


def _registered(m: Module, value: Value) -> Signal:
    register = Signal(value.shape(), reset_less=True)
    m.d.sync += register.eq(value)
    return register
