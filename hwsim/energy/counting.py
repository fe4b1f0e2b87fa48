"""Count the actions of a program: every command adds to the fixed list `ACTIONS`, nothing else does.

Normative: docs/contracts/energy.md, "When each action happens". Counts are exact sums over the expanded program,
taken on its compressed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwsim.energy.actions import ACTIONS
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, Dataflow
from hwsim.program import COMMAND_BYTES, VECTOR_OPS, BMode, Field, Program, Unit, VectorField, VectorFlag

__all__ = ["Counts", "count_actions"]

_INDEX = {name: i for i, name in enumerate(ACTIONS)}
# Columns as plain integers: looking an enumeration's member up costs more than the count itself.
(
    _BEATS,
    _CHANNELS,
    _COLUMNS,
    _COUNT_B,
    _COUNT_H,
    _COUNT_W,
    _FLAGS,
    _FOLDS,
    _INC_H,
    _INC_W,
    _LIMIT_H,
    _LIMIT_W,
    _LINES,
    _LINE_BYTES,
    _MACS,
    _OCCUPANCY,
    _OPCODE,
    _OUTPUTS,
    _START_H,
    _START_W,
    _STEP_B,
    _STEP_H,
    _STEP_W,
    _TAPS_H,
    _TAPS_W,
    _TAP_H,
    _TAP_W,
    _UNIT,
) = (
    int(Field[name])
    for name in (
        "BEATS",
        "CHANNELS",
        "COLUMNS",
        "COUNT_B",
        "COUNT_H",
        "COUNT_W",
        "FLAGS",
        "FOLDS",
        "INC_H",
        "INC_W",
        "LIMIT_H",
        "LIMIT_W",
        "LINES",
        "LINE_BYTES",
        "MACS",
        "OCCUPANCY",
        "OPCODE",
        "OUTPUTS",
        "START_H",
        "START_W",
        "STEP_B",
        "STEP_H",
        "STEP_W",
        "TAPS_H",
        "TAPS_W",
        "TAP_H",
        "TAP_W",
        "UNIT",
    )
)
_MATRIX, _VECTOR, _STORE, _CONTROL = (int(u) for u in (Unit.MATRIX, Unit.VECTOR, Unit.STORE, Unit.CONTROL))
_FORMAT = int(VectorField.FORMAT)
_RULES = {int(op): rule for op, rule in VECTOR_OPS.items()}
_INTO_ACCUMULATOR = 2  # OPCODE of a load: 0 operand A, 1 operand B, 2 accumulator


@dataclass(frozen=True, eq=False)
class Counts:
    """Actions of one program.

    Attributes
    ----------
    actions : ndarray of shape (len(ACTIONS),), dtype float64
        Counts, in the order of `ACTIONS`; those per cycle of the whole chip included.
    macs, vector_operations, dram_bytes, commands : int
        The same figures that reports show; MACs are all, gated ones too.
    """

    actions: NDArray[np.float64]
    macs: int
    vector_operations: int
    dram_bytes: int
    commands: int


def count_actions(program: Program, hw: Accelerator, cycles: int, gated_macs: int = 0) -> Counts:
    """Count what a program does.

    Parameters
    ----------
    program : Program
        One segment or several.
    hw : Accelerator
        What it runs on.
    cycles : int
        How long it takes [cycles], for leakage and background power.
    gated_macs : int
        How many of the program's MACs have a zero operand, from 0 to all of them. It depends on the data; 0 takes all
        operands as non-zero, and the energy is then an upper bound.

    Raises
    ------
    HwsimError
        If `gated_macs` is not from 0 to the MACs of the program.
    """
    totals = dict.fromkeys(ACTIONS, 0)
    vector_operations = 0
    multiplicity = program.multiplicity.tolist()
    for item, row in enumerate(program.items.tolist()):
        times = multiplicity[item]
        if times == 0:
            continue
        totals["control.commands"] += times
        unit = row[_UNIT]
        if unit == _CONTROL:
            continue
        totals["control.unit_cycles"] += times * row[_OCCUPANCY]
        if unit == _MATRIX:
            _count_matrix(row, times, hw, totals)
        elif unit == _VECTOR:
            vector_operations += _count_vector(row, times, hw.accumulator_format == "int32", totals)
        else:
            _count_transfer(program, item, row, times, hw, totals)
    macs = totals["array.macs"]
    if not 0 <= gated_macs <= macs:
        raise HwsimError(f"gated_macs must be from 0 to the MACs of the program, {macs}, not {gated_macs}")
    totals["array.macs"], totals["array.gated_macs"] = macs - gated_macs, gated_macs
    totals["control.fetch_bytes"] = totals["control.commands"] * COMMAND_BYTES
    totals["dram.background_cycles"] = totals["leakage.cycles"] = cycles
    return Counts(
        np.array([totals[name] for name in ACTIONS], np.float64),
        macs,
        vector_operations,
        totals["dram.read_bytes"] + totals["dram.write_bytes"],
        totals["control.commands"],
    )


def _up(a: int, b: int) -> int:
    return -(-a // b)


def _count_matrix(row: list[int], times: int, hw: Accelerator, totals: dict[str, int]) -> None:
    """MACs, register hops, operand reads and partial-sum traffic of one array tile."""
    rows, cols, size = hw.array.rows, hw.array.cols, hw.operand_bytes
    pixels = row[_COUNT_B] * row[_COUNT_H] * row[_COUNT_W]
    taps = row[_TAPS_H] * row[_TAPS_W]
    c, n, macs = row[_CHANNELS], row[_OUTPUTS], row[_MACS]
    adds, expanded, wgrad = row[_FLAGS] & 1, row[_FLAGS] & 2, row[_FLAGS] & 4
    # m × k × n of the tile, and over how many array folds each of them is cut.
    m, k, n = (n, pixels, taps * c) if wgrad else (pixels, taps * c, n)
    folds_k = _up(k, rows) if wgrad or expanded else taps * _up(c, rows)
    folds_n_cols = (_up(n, cols) if expanded else taps * _up(c, cols)) if wgrad else _up(n, cols)
    flow = hw.array.dataflow
    if flow is Dataflow.OUTPUT_STATIONARY:
        reads = m * k * folds_n_cols + k * n * _up(m, rows)
        sums, passes = m * n * hw.array.add_latency_cycles, 1
        drained = row[_FOLDS] * hw.array.add_latency_cycles * cols * rows * (rows + 1) // 2
        hops = (2 * size + 4) * macs + 4 * drained
    else:
        stationary, moving = (m * k, k * n) if flow is Dataflow.INPUT_STATIONARY else (k * n, m * k)
        repeats = _up(m, cols) if flow is Dataflow.INPUT_STATIONARY else folds_n_cols
        reads = stationary + moving * repeats
        sums, passes = m * n * folds_k, folds_k
        hops = (size + 4) * macs + size * stationary
    first = 0 if adds else sums // passes  # the first pass over a tile overwrites
    totals["array.macs"] += times * macs
    totals["array.hop_bytes"] += times * hops
    totals["array.idle_pe_cycles"] += times * (rows * cols * row[_OCCUPANCY] - macs)
    totals["scratchpad.read_bytes"] += times * reads * size
    totals["accumulator.write_bytes"] += times * 4 * sums
    totals["accumulator.read_bytes"] += times * 4 * (sums - first)


def _count_vector(row: list[int], times: int, integer_sums: bool, totals: dict[str, int]) -> int:
    """Lane operations and accumulator traffic; gives the lane operations, conversions on the way out among them."""
    rule = _RULES[row[_OPCODE]]
    lanes = times * row[_LINES] * row[_COLUMNS]
    sources = rule.sources - (row[_FLAGS] >> 4 & 7 == BMode.SCALAR)
    totals["accumulator.read_bytes"] += 4 * lanes * sources
    totals["accumulator.write_bytes"] += 4 * lanes
    operations = 0
    if rule.action is not None:
        totals[rule.action] += lanes
        operations += lanes
    converts = bool(row[_FORMAT]) + (integer_sums and row[_FLAGS] & VectorFlag.SUMS != 0)
    totals["vector.converts"] += converts * lanes
    operations += converts * lanes
    return operations


def _count_transfer(
    program: Program, item: int, row: list[int], times: int, hw: Accelerator, totals: dict[str, int]
) -> None:
    """DRAM bytes and activations, and the bytes that enter or leave on-chip memory."""
    lines = times * row[_COUNT_B] * row[_COUNT_H] * row[_COUNT_W] * row[_TAPS_H] * row[_TAPS_W]
    inside = _lines_inside(program, item, row, times)
    moved = inside * row[_BEATS] * hw.dram.beat_bytes
    totals["dram.activations"] += times * _pages(row, hw.dram.page_bytes)
    # In the accumulator every element is a 32-bit word, in the scratchpad it has its own format.
    words = 4 * lines * row[_COLUMNS]
    if row[_UNIT] == _STORE:
        totals["dram.write_bytes"] += moved
        totals["accumulator.read_bytes"] += words
        return
    totals["dram.read_bytes"] += moved
    if row[_OPCODE] == _INTO_ACCUMULATOR:
        totals["accumulator.write_bytes"] += words
    else:
        totals["scratchpad.write_bytes"] += lines * row[_LINE_BYTES]


def _lines_inside(program: Program, item: int, row: list[int], times: int) -> int:
    """Lines that are not padding, over all iterations of the loops around the command.

    A loop steps the row coordinate or the pixel coordinate, never both, so the count is a product of one sum per axis.
    """
    loops = dict(program.loops[item])
    steps: dict[int, list[tuple[int, int]]] = {}
    for _, loop, field, step in program.steps[program.steps[:, 0] == item].tolist():
        steps.setdefault(field, []).append((loop, step))
    inside_h = (
        row[_START_H] >= 0 and row[_START_H] + (row[_COUNT_H] - 1) * row[_INC_H] < row[_LIMIT_H] and row[_TAPS_H] == 1
    )
    inside_w = (
        row[_START_W] >= 0 and row[_START_W] + (row[_COUNT_W] - 1) * row[_INC_W] < row[_LIMIT_W] and row[_TAPS_W] == 1
    )
    if inside_h and inside_w and _START_H not in steps and _START_W not in steps:
        return times * row[_COUNT_B] * row[_COUNT_H] * row[_COUNT_W]
    count, left = row[_COUNT_B], times
    for start, inc, number, tap, taps, limit in (
        (_START_H, _INC_H, _COUNT_H, _TAP_H, _TAPS_H, _LIMIT_H),
        (_START_W, _INC_W, _COUNT_W, _TAP_W, _TAPS_W, _LIMIT_W),
    ):
        starts = np.array([row[start]])
        for loop, step in steps.get(start, ()):
            starts = (starts[:, None] + step * np.arange(loops[loop])).ravel()
            left //= loops[loop]
        places = starts[:, None, None] + row[inc] * np.arange(row[number])[:, None] + row[tap] * np.arange(row[taps])
        count *= int(np.count_nonzero((places >= 0) & (places < row[limit])))
    return count * left


def _pages(row: list[int], page: int) -> int:
    """Row-buffer activations of one transfer whose first byte begins a page: pages that its box of lines spans."""
    pages, span = _up(row[_LINE_BYTES], page), row[_LINE_BYTES]
    for count, step in (
        (row[_COUNT_W], row[_STEP_W]),
        (row[_COUNT_H], row[_STEP_H]),
        (row[_COUNT_B], row[_STEP_B]),
    ):
        span = (count - 1) * abs(step) + span
        pages = min(count * pages, _up(span, page))
    return pages
