"""Do the GEMMs that Gemmini's RTL was timed on take fewer cycles here, and never fewer than the machine allows?"""

import csv
import re
from pathlib import Path

import pytest

from hwsim.hardware import load_accelerator
from hwsim.simulate import gemm

PRESET = "gemmini-16x16-int8"
GOLDEN = Path(__file__).parent / "golden" / "gemmini_rtl_cycles.csv"
PAGE = Path(__file__).parents[2] / "docs" / "gemmini.md"
with GOLDEN.open(encoding="utf-8") as lines:
    ROWS = [
        {name: int(number) for name, number in row.items()}
        for row in csv.DictReader(line for line in lines if not line.startswith("#"))
    ]


def sizes_of(row):
    return row["m"], row["k"], row["n"]


def name_of(row):
    return "x".join(map(str, sizes_of(row)))


def table():
    """Rows of numbers of the page's one table, whose columns are m, k, n, ours, Gemmini's RTL, ideal."""
    lines = re.findall(r"^\| *([\d,]+(?: *\| *[\d,]+)*) *\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return [[int(cell.replace(",", "")) for cell in line.split("|")] for line in lines]


def test_golden_rows_are_all_there():
    assert len(ROWS) == 6
    assert all(row["ideal_cycles"] == row["m"] * row["k"] * row["n"] // 256 < row["rtl_cycles"] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_gemm_takes_fewer_cycles_than_gemmini_and_no_fewer_than_the_bounds(row):
    m, k, n = sizes_of(row)
    hw = load_accelerator(PRESET)
    port_cycles = -(-(m * k + k * n + m * n) // hw.dram.bytes_per_cycle)  # each operand in once, the result out once
    cycles = gemm(m, k, n, hw).cycles
    assert (hw.pes, hw.operand_bytes, hw.dram.bytes_per_cycle) == (256, 1, 16)
    assert max(row["ideal_cycles"], port_cycles) <= cycles < row["rtl_cycles"]


@pytest.mark.parametrize(("side", "most_cycles"), [(64, 2_000), (512, 530_000)])
def test_square_gemm_keeps_its_limit(side, most_cycles):
    assert gemm(side, side, side, PRESET).cycles <= most_cycles


def test_large_gemm_keeps_the_array_busy():
    utilization = gemm(512, 512, 512, PRESET).compute_utilization
    assert 0.97 <= utilization <= 1


def test_page_shows_every_golden_row_and_what_a_run_gives():
    assert table() == [
        [*sizes_of(row), gemm(*sizes_of(row), PRESET).cycles, row["rtl_cycles"], row["ideal_cycles"]] for row in ROWS
    ]
