"""The accumulator: lines of words in two halves and the fixed lines, added to in place, read and written by all units.

Normative: docs/contracts/program.md, section 3; cycles.md, section 2; which accesses can meet: docs/rtl-dma.md.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import product
from operator import or_
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim_rtl.dma.align import add_modulo, bits_for, later, rotate
from hwsim_rtl.dma.box import Geometry
from hwsim_rtl.dma.load import accumulator_write
from hwsim_rtl.dma.store import accumulator_read
from hwsim_rtl.memory.bank import Bank

__all__ = ["Accumulator", "line_read", "line_write", "sum_access"]

#: The three memories: halves 0 and 1, and the fixed lines.
_FIXED = 2
_MEMORIES = 3
#: Most bits of a lane that are looked up, not compared.
_TABLE_BITS = 5
#: Lines that a vector command reads in one cycle, and so copies of each memory: one has one read port.
_READS = 3


def sum_access(g: Geometry) -> data.StructLayout:
    """Where the array's sums go: `adds` to what is there, or overwrites it.

    The last `idle` lanes lie beyond the tile: they keep what they hold, or, where others are overwritten, become +0.
    """
    return data.StructLayout({"half": 1, "line": g.line_bits, "adds": 1, "idle": bits_for(g.cols)})


def line_read(g: Geometry) -> data.StructLayout:
    """A line that the vector unit reads."""
    return data.StructLayout({"half": 1, "fixed": 1, "line": g.line_bits})


def line_write(g: Geometry) -> data.StructLayout:
    """A line that the vector unit writes, in the lanes enabled."""
    words = {"enable": g.cols, "words": data.ArrayLayout(32, g.cols)}
    return data.StructLayout({"half": 1, "fixed": 1, "line": g.line_bits, **words})


class Accumulator(wiring.Component):
    """Sums: the array adds in one half while other units work on the other; fixed lines are a third memory.

    Latency: data one cycle after a read; what is written in a cycle can be read in the next. Sums: addressed in cycle
    `t` for column 0, `t + c` for column `c`, or, where sums lie transposed, `t + C − 1` for all; given in the cycle
    after; written so that they can be read `add_latency_cycles` later, by the array itself too. Throughput: one line of
    sums, three lines read and one written, one beat loaded and one stored, a cycle, in different memories as
    docs/rtl-dma.md says.

    Parameters
    ----------
    geometry : Geometry
        Of lines and words.
    add_latency_cycles : int
        β: sum given to sum readable [cycles], 1 or more. The adders outside have one less, operands in to sum out.

    Attributes
    ----------
    memories : dict of (int, int, int) to Bank
        By memory (half 0, half 1, fixed lines), copy and bank.

    Members
    -------
    sums : In(stream of `sum_access`, always ready)
        Line that column 0 adds to.
    old : Out(array of C words), due : Out(C)
        Per column, in the cycle in which its sum is given: what it is added to, and whether a sum is due.
    new : In(array of C words)
        The sum to write, `β − 1` cycles after `old`.
    replaces : Out(C)
        Per column, with `old`: the sum is to be written as it is.
    vector_0, vector_1, vector_2 : In(stream of `line_read`, always ready)
        Lines to read.
    line_0, line_1, line_2 : Out(array of C words)
        What was read in the cycle before.
    vector : In(stream of `line_write`, always ready)
        Line to write.
    store : In(stream of `accumulator_read`, always ready), stored : Out(array of words)
        Words to read; what was read `STORE_CYCLES` before, the first element first.
    load : In(stream of `accumulator_write`, always ready)
        Words to write, in the next cycle, with which they come.
    conflict : Out(1)
        Two accesses of the cycle before needed one port of one memory: a program that is not legal.
    """

    #: From the cycle of a store's read to that of its words.
    STORE_CYCLES = 2

    def __init__(self, geometry: Geometry, add_latency_cycles: int) -> None:
        self.geometry, self.add_latency_cycles = geometry, add_latency_cycles
        g, words = geometry, data.ArrayLayout(32, geometry.cols)
        self.memories = {
            which: Bank(32, g.slot_lines) for which in product(range(_MEMORIES), range(_READS), range(g.cols))
        }

        def given(layout: Any) -> Any:
            return In(stream.Signature(layout, always_ready=True))

        super().__init__(
            {
                "sums": given(sum_access(g)), "old": Out(words), "due": Out(g.cols), "replaces": Out(g.cols),
                "new": In(words), "store": given(accumulator_read(g)), "load": given(accumulator_write(g)),
                "stored": Out(data.ArrayLayout(32, g.most_words)), "vector": given(line_write(g)),
                **{f"vector_{i}": given(line_read(g)) for i in range(_READS)},
                **{f"line_{i}": Out(words) for i in range(_READS)}, "conflict": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        """Build it: per memory and bank what each port reads and writes, and who it was."""
        m, g = Module(), self.geometry
        met = Signal(_MEMORIES * g.cols)
        ages = self._sum_ages(m)
        adds, results, line = self._added(m, ages), self._results(m, ages), self._line(m)
        loaded, stored = self._loaded(m), self._store_lines(m)
        outputs: dict[tuple[int, int], list[Value]] = {
            (memory, copy): [] for memory in range(_MEMORIES) for copy in range(_READS)
        }
        for memory in range(_MEMORIES):
            for bank in range(g.cols):
                writes = self._writes(memory, line[bank], results[bank], loaded[bank])
                clashes = _clashes(writes)
                for copy in range(_READS):
                    reads = self._reads(memory, copy, adds[bank], stored[bank])
                    outputs[memory, copy].append(self._bank(m, (memory, copy, bank), reads, writes))
                    clashes += _clashes(reads)
                m.d.sync += met[memory * g.cols + bank].eq(Cat(clashes).any())
        m.d.comb += self.conflict.eq(met.any())
        self._give(m, ages, outputs)
        return m

    def _turn(self, line: Value) -> Value:
        """By how many banks a line is turned, so that one lane of consecutive lines lies in different banks."""
        return line[: bits_for(self.geometry.cols)]

    def _turned(self, m: Module, items: Sequence[Value], line: Any, name: str, *, back: bool = False) -> Any:
        """Bring items from lanes to banks, or back."""
        return rotate(m, items, self._turn(line), name, back=back) if self.geometry.skewed else items

    def _bank(self, m: Module, which: Any, reads: Any, writes: Any) -> Any:
        """One copy of one column of one memory; gives what was read."""
        memory = m.submodules["bank_" + "_".join(map(str, which))] = self.memories[which]
        m.d.comb += [
            memory.read.eq(Cat(wants for wants, _ in reads).any()),
            memory.write.eq(Cat(wants for wants, *_ in writes).any()),
        ]
        # The first is asked whenever no other wants: without one that wants, nothing is looked at.
        for i, (wants, line) in enumerate(reads):
            with m.If(wants if i else 1):
                m.d.comb += memory.read_address.eq(line)
        for i, (wants, line, word) in enumerate(writes):
            with m.If(wants if i else 1):
                m.d.comb += [memory.write_address.eq(line), memory.write_data.eq(word)]
        return memory.read_data

    def _sum_ages(self, m: Module) -> Any:
        """The array's accesses of the last cycles: column c reads what came c cycles ago, and writes it β later."""
        age = Signal(sum_access(self.geometry), name="sum_0")
        valid = Signal(name="sum_valid_0")
        m.d.comb += [age.eq(self.sums.payload), valid.eq(self.sums.valid)]
        ages = [(valid, age)]
        for i in range(1, self.geometry.cols + self.add_latency_cycles):
            older, valid = Signal(sum_access(self.geometry), name=f"sum_{i}"), Signal(name=f"sum_valid_{i}")
            m.d.sync += [older.eq(ages[-1][1]), valid.eq(ages[-1][0])]
            ages.append((valid, older))
        return ages

    def _age(self, column: int) -> Any:
        """Cycles after which a column reads: sums arrive one cycle a column later, or, turned, all with the last."""
        return self.geometry.cols - 1 if self.geometry.skewed else column

    def _added(self, m: Module, ages: Any) -> Any:
        """Access by bank."""
        return [ages[self._age(bank)] for bank in range(self.geometry.cols)]

    def _masked(self, ages: Any) -> Any:
        """The word that a column writes, and whether it does: lanes beyond the tile become +0, or stay as they are."""
        g, beta = self.geometry, self.add_latency_cycles
        accesses = [ages[self._age(column) + beta] for column in range(g.cols)]
        idle = [access.idle >= g.cols - column if column else C(0, 1) for column, (_, access) in enumerate(accesses)]
        return [(Mux(idle[c], 0, self.new[c]), ~(idle[c] & accesses[c][1].adds)) for c in range(g.cols)]

    def _results(self, m: Module, ages: Any) -> Any:
        """Whether a sum is written, its access and the word, by bank, which is as old as the column of its number."""
        g, beta = self.geometry, self.add_latency_cycles
        accesses = [ages[self._age(bank) + beta] for bank in range(g.cols)]
        line = accesses[0][1].line
        words, writes = zip(*self._masked(ages), strict=True)
        words, writes = self._turned(m, words, line, "new_word"), self._turned(m, writes, line, "new_write")
        return [
            (valid & write, access, word) for (valid, access), write, word in zip(accesses, writes, words, strict=True)
        ]

    def _forwarded(self, m: Module, ages: Any, found: Sequence[Value]) -> list[Value]:
        """Give what memory has found, or what was written while it was read: a line may come again after β cycles."""
        (valid, access), (was_valid, was) = ages[0], ages[self.add_latency_cycles]
        again = [Signal(name="comes_again_0")]
        m.d.comb += again[0].eq(valid & was_valid & (access.half == was.half) & (access.line == was.line))
        for i in range(1, self.geometry.cols):
            again.append(later(m, again[-1], f"comes_again_{i}", reset=True))
        words = []
        for column, (word, writes) in enumerate(self._masked(ages)):
            forwards = later(m, again[self._age(column)] & writes, f"forwards_{column}")
            words.append(Mux(forwards, later(m, word, f"written_{column}"), found[column]))
        return words

    def _line(self, m: Module) -> Any:
        """Enable and word of the vector unit's line, by bank."""
        g, line = self.geometry, self.vector.payload
        enables = self._turned(m, [line.enable[c] for c in range(g.cols)], line.line, "vector_enable")
        words = self._turned(m, [line.words[c] for c in range(g.cols)], line.line, "vector_word")
        return list(zip(enables, words, strict=True))

    def _reads(self, memory: int, copy: int, added: Any, stored: Any) -> Any:
        """Who reads a copy of a bank: the vector unit all, array and store the first."""
        port = getattr(self, f"vector_{copy}")
        reads = [(port.valid & _is(memory, port.payload), port.payload.line)]
        if copy:
            return reads
        if memory != _FIXED:
            valid, access = added
            reads.append((valid & (access.half == memory), access.line))
        takes, line = stored
        reads.append((self.store.valid & takes & _is(memory, self.store.payload), line))
        return reads

    def _writes(self, memory: int, line: Any, result: Any, loaded: Any) -> Any:
        """Who writes a bank: array, vector unit, load."""
        access = self.vector.payload
        (enable, word), (takes, load_line, load_word) = line, loaded
        writes = [
            (self.vector.valid & enable & _is(memory, access), access.line, word),
            (takes[memory], load_line, load_word),
        ]
        if memory != _FIXED:
            valid, access, word = result
            writes.append((valid & (access.half == memory), access.line, word))
        return writes

    def _first_bank(self, place: Any) -> Any:
        """Bank of a place."""
        lane = place.lane[: bits_for(self.geometry.cols)]
        if not self.geometry.skewed:
            return lane
        return add_modulo(lane, self._turn(place.line), self.geometry.cols)[0]

    def _passed(self, place: Any, i: int) -> Any:
        """Whether the i-th word from a place on lies in the next line; turned, it is then a bank further on."""
        return _above(place.lane, self.geometry.cols - 1 - i)

    def _spread(self, m: Module, items: Sequence[Value], place: Any, passed: Any, name: str) -> Any:
        """Bring the words of a beat to their banks."""
        g = self.geometry
        slots = list(items) + [C(0, items[0].shape())] * (g.cols - len(items))
        if g.skewed:
            gone = [C(0, 1), *passed]
            before = [C(0, items[0].shape()), *items]
            stays = [*(~p for p in passed), C(1, 1)]
            slots[: len(items) + 1] = [
                Mux(gone[i], before[i], Mux(stays[i], slots[i], 0)) for i in range(len(items) + 1)
            ]
        return rotate(m, slots, self._first_bank(place), name)

    def _lines(self, m: Module, place: Any, passed: Any, name: str, *, transposed: Any = 0) -> Any:
        """By bank the line of a beat's word: that of its place, or the next one."""
        g = self.geometry
        if not g.skewed:  # the banks before the first word's have those of the next line
            then = Signal(g.line_bits, name=f"{name}_next_line")
            m.d.comb += then.eq(place.line + 1)
            lane = place.lane[: bits_for(g.cols)]
            return [Mux(_above(lane, bank), then, place.line) for bank in range(g.cols)]
        lines = []
        for i in range(g.most_words):
            line = Signal(g.line_bits, name=f"{name}_line_{i}")
            m.d.comb += line.eq(place.line + Mux(transposed, i, passed[i]))
            lines.append(line)
        return self._spread(m, lines, place, passed, f"{name}_line")

    def _store_lines(self, m: Module) -> Any:
        """By bank whether the store reads it, and in which line."""
        g, read = self.geometry, self.store.payload
        passed = self._all_passed(read)
        takes = self._spread(m, [C(1, 1)] * g.most_words, read.place, passed, "store_takes")
        return list(zip(takes, self._lines(m, read.place, passed, "store", transposed=read.transposed), strict=True))

    def _all_passed(self, read: Any) -> list[Value]:
        """By word whether the store finds it in the next line. Only where lines are turned it finds them transposed."""
        stays = read.transposed if self.geometry.skewed else C(0, 1)
        return [self._passed(read.place, i) & ~stays for i in range(self.geometry.most_words)]

    def _loaded(self, m: Module) -> Any:
        """By bank which memory the load writes, the line and the word: data, or the zeros behind a line's last word.

        Where it writes is known a cycle before the words, and chosen then.
        """
        g, write = self.geometry, self.load.payload
        passed = [self._passed(write.place, i) for i in range(g.most_words)]
        enables = self._spread(m, [write.enable[i] for i in range(g.most_words)], write.place, passed, "load_enable")
        lines = self._lines(m, write.place, passed, "load")
        fill_lane = write.fill_lane[: bits_for(g.cols)]
        behind = [write.fill & (write.fill_from <= i) for i in range(g.cols)]
        fills = self._turned(m, rotate(m, behind, fill_lane, "load_fill"), write.fill_line, "load_fill_bank")

        words = [write.words[bank % g.most_words] for bank in range(g.cols)]
        if not g.turned:
            place = later(m, write.place, "load_place")
            gone = [later(m, x, f"load_passed_{i}") for i, x in enumerate(passed)]
            words = self._spread(m, words[: g.most_words], place, gone, "load_word")
        found = []
        for bank, (enable, fill) in enumerate(zip(enables, fills, strict=True)):
            takes = Cat(self.load.valid & (enable | fill) & _is(memory, write) for memory in range(_MEMORIES))
            line = Mux(enable, lines[bank], write.fill_line + (0 if g.skewed else fill_lane > bank))[: g.line_bits]
            takes = later(m, takes, f"load_takes_{bank}", reset=True)
            line, has_data = later(m, line, f"load_line_{bank}"), later(m, enable, f"load_has_data_{bank}")
            found.append((takes, line, Mux(has_data, words[bank], 0)))
        return found

    def _give(self, m: Module, ages: Any, outputs: Any) -> None:
        """Give every reader what the memory that it read has found."""
        g = self.geometry
        for copy in range(_READS):
            access = getattr(self, f"vector_{copy}").payload
            line = later(m, access.line, f"vector_{copy}_line")
            by_bank = [[outputs[i, copy][bank] for i in range(_MEMORIES)] for bank in range(g.cols)]
            if copy:  # nobody else reads it, and memories that are not read give zeros
                found = [functools.reduce(or_, words) for words in by_bank]
            else:
                source = self._source(m, f"vector_{copy}", access)
                found = [_choose(source, words) for words in by_bank]
            words = self._turned(m, found, line, f"vector_{copy}_word", back=True)
            m.d.comb += [getattr(self, f"line_{copy}")[lane].eq(word) for lane, word in enumerate(words)]
        self._give_store(m, outputs)
        words = []
        for bank in range(g.cols):
            valid, access = ages[self._age(bank) + 1]
            words.append(_choose(access.half, [outputs[half, 0][bank] for half in range(2)]))
            m.d.comb += [self.due[bank].eq(valid), self.replaces[bank].eq(~access.adds)]
        turned = self._turned(m, words, ages[self._age(0) + 1][1].line, "old_word", back=True)
        m.d.comb += [self.old[column].eq(word) for column, word in enumerate(self._forwarded(m, ages, turned))]

    def _give_store(self, m: Module, outputs: Any) -> None:
        g, read = self.geometry, self.store.payload
        source = self._source(m, "store", read)
        first = Signal(bits_for(g.cols), name="store_first")
        passed = Signal(g.most_words, name="store_passed")
        m.d.comb += first.eq(self._first_bank(read.place))
        m.d.comb += passed.eq(Cat(self._all_passed(read)))
        for cycle in range(self.STORE_CYCLES):
            first, passed = (later(m, x, f"store_{n}_{cycle}") for x, n in ((first, "first"), (passed, "passed")))
        found = [
            later(m, _choose(source, [outputs[i, 0][bank] for i in range(_MEMORIES)]), f"store_word_{bank}")
            for bank in range(g.cols)
        ]
        ordered = rotate(m, found, first, "stored_word", back=True)
        for i in range(g.most_words):
            m.d.comb += self.stored[i].eq(Mux(passed[i], ordered[i + 1], ordered[i]) if g.skewed else ordered[i])

    def _source(self, m: Module, name: str, access: Any) -> Any:
        source = Signal(2, name=f"{name}_source")
        m.d.sync += source.eq(Mux(access.fixed, _FIXED, access.half))
        return source


def _is(memory: int, access: Any) -> Value:
    """Whether an access is to a memory."""
    return access.fixed if memory == _FIXED else ~access.fixed & (access.half == memory)


def _above(lane: Value, limit: int) -> Value:
    """Whether a lane is above a limit, from a table: a comparison of a few bits takes a carry chain, which is slow."""
    if len(lane) > _TABLE_BITS:
        return lane > limit
    return C(sum(1 << i for i in range(1 << len(lane)) if i > limit), 1 << len(lane)).bit_select(lane, 1)


def _clashes(accesses: Sequence[Any]) -> list[Value]:
    """Pairs of accesses that both want the port."""
    return [a[0] & b[0] for i, a in enumerate(accesses) for b in accesses[:i]]


def _choose(source: Value, words: list[Value]) -> Value:
    chosen = words[-1]
    for number, word in reversed(list(enumerate(words[:-1]))):
        chosen = Mux(source == number, word, chosen)
    return chosen
