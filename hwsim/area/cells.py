"""Cells of each part of the machine, by formulas of its description that are fitted to synthesis of our RTL.

`count` gives look-up tables, flip-flops, multipliers or gate transistors of a part, with the error of the fit as
interval; `block_rams` is exact. Everything works on numbers and on arrays of many machines. The coefficients, their
errors and what they are fitted to are in data/; docs/contracts/area.md, section 4.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import numpy as np

from hwsim.energy.scaling import Estimate
from hwsim.hardware import Accelerator

__all__ = ["GROUP_OF", "VARIABLES", "block_rams", "count", "evaluate", "fits", "group_of"]

#: Side beyond which no machine was synthesised; beyond it the upper end rises with the fourth root of the ratio: what
#: turns lines, and the tools themselves, may need more than the terms say.
FITTED_SIDE = 16
BEYOND_EXPONENT = 0.25

#: What one DP16KD of an ECP5 holds: bits of a word, words; true ports for the scratchpad, and the simple one besides.
_TRUE_PORTS = ((1, 16384), (2, 8192), (4, 4096), (9, 2048), (18, 1024))
_ONE_READER = (*_TRUE_PORTS, (36, 512))

#: Multipliers of an ECP5 in the preparation of commands, by dataflow, for a fetch of 1, 2, 4 … 128 bytes a cycle: the
#: faster commands come, the more products are made at once. From the RTL (tests/rtl/test_area.py).
PREPARATION = MappingProxyType(
    {"ws": (3, 3, 3, 4, 11, 12, 21, 31), "os": (3, 3, 3, 5, 7, 13, 21, 31), "is": (3, 3, 3, 3, 6, 8, 16, 26)}
)

#: Latency of memory [cycles] from which on the queue of the load unit is in block RAMs, and how many: none at 40, three
#: at 60; in between it is not known.
LOAD_QUEUE_CYCLES, LOAD_QUEUE_BLOCKS = 48, 3

#: Words of 32 bits of the tables of special functions in each lane of the vector unit.
TABLE_WORDS = 512

#: Copies of the accumulator's memories, and memories: two halves and the fixed lines, read by three ports.
ACCUMULATOR_COPIES, ACCUMULATOR_MEMORIES = 3, 3

#: What terms are products of. Fields are numbers or arrays; `format` and dataflow are one for all.
VARIABLES: Mapping[str, Callable[[Accelerator], Any]] = MappingProxyType(
    {
        "1": lambda hw: 1.0,
        "rows": lambda hw: hw.array.rows,
        "cols": lambda hw: hw.array.cols,
        "deep": lambda hw: np.maximum(hw.array.rows, hw.array.cols),
        "alpha": lambda hw: hw.array.add_latency_cycles,
        "per_alpha": lambda hw: 1.0 / hw.array.add_latency_cycles,
        "mu": lambda hw: hw.array.multiply_latency_cycles,
        "banks": lambda hw: hw.scratchpad.banks,
        "beta": lambda hw: hw.accumulator.add_latency_cycles,
        "lanes": lambda hw: hw.vector.lanes,
        "lambda": lambda hw: hw.vector.latency_cycles,
        "beat_bytes": lambda hw: hw.dram.bytes_per_cycle / hw.dram.channels,
        "elements": lambda hw: hw.dram.bytes_per_cycle / hw.dram.channels / hw.operand_bytes,
        "dram_latency": lambda hw: hw.dram.latency_cycles,
        "fetch_bytes": lambda hw: hw.control.fetch_bytes_per_cycle,
        "multipliers": lambda hw: np.interp(
            np.log2(hw.control.fetch_bytes_per_cycle), np.arange(8), PREPARATION[hw.array.dataflow.value]
        ),
        "queue_depth": lambda hw: hw.control.queue_depth,
        "operand_bits": lambda hw: 8.0 * hw.operand_bytes,
        "log_deep": lambda hw: np.ceil(np.log2(np.maximum(hw.array.rows, hw.array.cols))),
        "log_cols": lambda hw: np.ceil(np.log2(hw.array.cols)),
        "log_scratchpad": lambda hw: np.log2(hw.scratchpad.capacity_bytes),
        "log_accumulator": lambda hw: np.log2(hw.accumulator.capacity_bytes),
        "integer": lambda hw: float(hw.accumulator_format == "int32"),
        "floating": lambda hw: float(hw.accumulator_format != "int32"),
        "int8": lambda hw: float(_fp8(hw) == "int8"),
        "fp8": lambda hw: float(_fp8(hw) == "fp8"),
        "half": lambda hw: float(_fp8(hw) in ("bf16", "fp16")),
        "ws": lambda hw: float(hw.array.dataflow.value == "ws"),
        "is": lambda hw: float(hw.array.dataflow.value == "is"),
        "os": lambda hw: float(hw.array.dataflow.value == "os"),
        "stationary": lambda hw: float(hw.array.dataflow.value != "os"),
    }
)

#: What a part has fits of its own for: parts that are not here have one for all machines.
GROUP_OF: Mapping[str, Callable[[Accelerator], str]] = MappingProxyType(
    {
        "pe": lambda hw: f"{_fp8(hw)} {'os' if hw.array.dataflow.value == 'os' else 'stationary'}",
    }
)


def _fp8(hw: Accelerator) -> str:
    """Operand format; both formats of fp8 have the same hardware."""
    return "fp8" if hw.array.operand_format.startswith("fp8") else hw.array.operand_format


def group_of(part: str, hw: Accelerator) -> str:
    """Name the group of machines whose fit a part takes."""
    return GROUP_OF[part](hw) if part in GROUP_OF else "all"


def evaluate(term: str, hw: Accelerator) -> Any:
    """Give the value of a term, a product of `VARIABLES`.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> float(evaluate("cols*beta", load_accelerator("edge-8x8-int8")))
    24.0
    """
    value: Any = 1.0
    for name in term.split("*"):
        value = value * VARIABLES[name](hw)
    return value


@lru_cache(maxsize=1)
def fits() -> Any:
    """Give the fits as docs/scripts/fpga_area.py wrote them: by part, group and resource."""
    return json.loads((resources.files("hwsim.area") / "data" / "cells.json").read_text("utf-8"))


def count(part: str, resource: str, hw: Accelerator) -> Estimate:
    """Give how many cells of one kind a part takes.

    Parameters
    ----------
    part : str
        ``pe`` (one of them), ``matrix`` (without PEs), ``vector``, ``scratchpad``, ``accumulator``, ``control``,
        ``load``, ``store``, ``registers``, ``counters`` or ``machine`` (what is between its parts).
    resource : str
        ``LUT``, ``FF``, ``DSP``; on a chip ``gates``, transistors in gates, without flip-flops, and ``bits`` of
        small memories.
    hw : Accelerator
        Of numbers, or of columns.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> flip_flops = count("pe", "FF", load_accelerator("edge-8x8-int8"))
    >>> bool(flip_flops.low <= 76 <= flip_flops.high)
    True
    """
    fit = fits()["parts"][part][group_of(part, hw)].get(resource)
    if fit is None:  # no small memories
        return Estimate(0.0, 0.0, 0.0)
    if "of" in fit:
        factor = fit["factor"]
        return count(part, fit["of"], hw) * Estimate(factor, factor * fit["low"], factor * fit["high"])
    value = sum((coefficient * evaluate(term, hw) for term, coefficient in fit["terms"].items()), start=0.0)
    beyond = np.maximum(VARIABLES["deep"](hw) / FITTED_SIDE, 1.0) ** (0.0 if part == "pe" else BEYOND_EXPONENT)
    return Estimate(value, value * fit["low"], value * fit["high"] * beyond)


def block_rams(part: str, hw: Accelerator) -> Any:
    """Give the block RAMs of an ECP5 that a part takes; exact (docs/synthesis.md, 'What memories take').

    The scratchpad: one memory for two banks of each of D sub-banks, with two ports. The accumulator: three memories of
    three copies for each column, of 32-bit words. The vector unit: a table in each lane. The load unit: its queue, if
    memory is slow.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> hw = load_accelerator("edge-8x8-int8")
    >>> [int(block_rams(part, hw)) for part in ("scratchpad", "accumulator", "vector", "load")]
    [32, 72, 4, 0]
    """
    if part == "scratchpad":
        deep = VARIABLES["deep"](hw)
        lines = hw.scratchpad.capacity_bytes // (hw.scratchpad.banks * deep * hw.operand_bytes)
        pairs = np.ceil(hw.scratchpad.banks / 2)
        return pairs * deep * _blocks(8 * hw.operand_bytes, 2 * lines, _TRUE_PORTS)
    if part == "accumulator":
        lines = hw.accumulator.capacity_bytes // (8 * hw.array.cols)
        return ACCUMULATOR_MEMORIES * ACCUMULATOR_COPIES * hw.array.cols * _blocks(32, lines, _ONE_READER)
    if part == "vector":
        return hw.vector.lanes * _blocks(32, TABLE_WORDS, _ONE_READER)
    if part == "load":
        return np.where(hw.dram.latency_cycles >= LOAD_QUEUE_CYCLES, float(LOAD_QUEUE_BLOCKS), 0.0)
    return 0.0


def _blocks(bits: int, words: Any, shapes: tuple[tuple[int, int], ...]) -> Any:
    """Fewest block RAMs of one shape that hold so many words."""
    numbers = [-(-bits // width) * np.ceil(words / depth) for width, depth in shapes]
    fewest = numbers[0]
    for number in numbers[1:]:
        fewest = np.minimum(fewest, number)
    return fewest
