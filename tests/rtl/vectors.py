"""Many units in one Verilated model: operands go in as columns of numbers, one row a cycle, and results come out so."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hwsim_rtl.tools import build_model, find_verilator
from hwsim_rtl.verilog import emit

#: Cycles that follow the last row, so that the deepest pipeline gives its last result.
DRAIN_CYCLES = 24

MAIN = """
#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>
#include "Vbench.h"
typedef std::vector<uint32_t> Column;
static std::vector<Column> in(INPUTS), out(OUTPUTS);
static inline uint32_t at(int column, size_t cycle) {
    const Column& c = in[column];
    return c[cycle < c.size() ? cycle : c.size() - 1];
}
static inline void keep(int column, size_t cycle, uint32_t value) {
    if (cycle < out[column].size()) out[column][cycle] = value;
}
int main(int argc, char** argv) {
    size_t cycles = 0;
    FILE* file = fopen(argv[1], "rb");
    for (int number = 0; number < INPUTS + OUTPUTS; ++number) {
        Column& column = number < INPUTS ? in[number] : out[number - INPUTS];
        uint64_t size;
        if (fread(&size, 8, 1, file) != 1) return 1;
        column.resize(size);
        if (number < INPUTS) { if (fread(column.data(), 4, size, file) != size) return 1; }
        else if (size > cycles) cycles = size;
    }
    fclose(file);
    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Vbench>(context.get());
    for (size_t cycle = 0; cycle < cycles; ++cycle) {
        top->clk = 0;
        FEED
        top->eval();
        KEEP
        top->clk = 1;
        top->eval();
    }
    file = fopen(argv[2], "wb");
    for (const Column& c : out) fwrite(c.data(), 4, c.size(), file);
    fclose(file);
    return 0;
}
"""


class Bench(wiring.Component):
    """Groups of units; the units of a group have the same ports and are given the same operands.

    Parameters
    ----------
    groups : dict of str to list of Leaf
    """

    def __init__(self, groups):
        self.groups = groups
        self.inputs, self.outputs, ports = [], [], {}
        for group, units in groups.items():
            for number, unit in enumerate(units):
                for port, member in unit.signature.members.items():
                    if member.flow is Out:
                        ports[f"out{len(self.outputs)}"] = member
                        self.outputs.append((group, number, port))
                    elif number == 0:
                        ports[f"in{len(self.inputs)}"] = member
                        self.inputs.append((group, port))
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        for group, units in self.groups.items():
            for number, unit in enumerate(units):
                m.submodules[f"{group}_{number}"] = unit
        for index, (group, port) in enumerate(self.inputs):
            for unit in self.groups[group]:
                m.d.comb += getattr(unit, port).eq(getattr(self, f"in{index}"))
        for index, (group, number, port) in enumerate(self.outputs):
            m.d.comb += getattr(self, f"out{index}").eq(getattr(self.groups[group][number], port))
        return m


def run(groups, columns, cache):
    """Feed every group its columns, all at once.

    Parameters
    ----------
    groups : dict of str to list of Leaf
    columns : dict of str to dict of str to ndarray of shape (rows,)
        Operands by group and port.
    cache : Path
        Where built models are kept.

    Returns
    -------
    dict of str to list of dict of str to ndarray of shape (rows,), dtype uint32
        Results by group, unit and port: in row r, what a unit of latency L gave in cycle r + L.
    """
    bench = Bench(groups)
    inputs, outputs = bench.inputs, bench.outputs
    main = MAIN.replace("INPUTS", str(len(inputs))).replace("OUTPUTS", str(len(outputs)))
    main = main.replace("FEED", " ".join(f"top->in{i} = at({i}, cycle);" for i in range(len(inputs))))
    main = main.replace("KEEP", " ".join(f"keep({i}, cycle, top->out{i});" for i in range(len(outputs))))
    program = build_model(
        find_verilator(), {"bench.v": emit(bench, "bench"), "main.cpp": main}, top="bench", cache=cache,
        options=["-Wno-lint", "--x-assign", "fast", "--x-initial", "fast"],
    )  # fmt: skip
    rows = {group: len(next(iter(given.values()))) for group, given in columns.items()}
    with tempfile.TemporaryDirectory() as folder:
        given, results = Path(folder, "in"), Path(folder, "out")
        with given.open("wb") as file:
            for group, port in inputs:
                column = np.asarray(columns[group][port]).astype(np.int64) & 0xFFFFFFFF
                file.write(np.uint64(len(column)).tobytes() + column.astype(np.uint32).tobytes())
            for group, _, _ in outputs:
                file.write(np.uint64(rows[group] + DRAIN_CYCLES).tobytes())
        subprocess.run([str(program), str(given), str(results)], check=True)
        words = np.fromfile(results, np.uint32)
    found = {group: [{} for _ in units] for group, units in groups.items()}
    start = 0
    for group, number, port in outputs:
        latency = getattr(groups[group][number], "latency", 0)
        found[group][number][port] = words[start + latency : start + latency + rows[group]]
        start += rows[group] + DRAIN_CYCLES
    return found
