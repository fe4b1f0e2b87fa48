"""Random machines that the RTL can be made for: shapes, dataflows, formats, latencies.

`random_machines` draws them; `small_machine` is one with everything but a few fields given.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from pydantic import ValidationError

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.hardware.formats import FORMAT_BITS

__all__ = ["random_machines", "small_machine"]

_FORMATS = ("int8", "int8", "bf16", "bf16", "fp8_e4m3", "fp16", "fp32")
_SIZES = (2, 3, 4, 5, 6, 8, 12, 16)


def small_machine(
    name: str,
    rows: int = 4,
    cols: int = 4,
    *,
    format: str = "bf16",
    flow: str = "ws",
    add: int = 4,
    multiply: int = 1,
    beta: int = 4,
    lanes: int | None = None,
    vector: int = 8,
    beat: int = 8,
    latency: int = 12,
    fetch: int = 16,
    queue: int = 4,
    lines: int = 64,
    banks: int = 8,
    bank_lines: int = 32,
) -> Accelerator:
    """Describe a machine by what tests vary.

    Parameters
    ----------
    name : str
        Its name.
    rows, cols : int
        Of the array.
    format, flow : str
        Of the operands; dataflow.
    add, multiply, beta, vector, latency : int
        α, μ, β, λ and Λ of docs/contracts/cycles.md.
    lanes : int, optional
        Of the vector unit; `cols` unless given.
    beat, fetch : int
        Bytes a cycle of data and of commands.
    queue : int
        Commands of a unit's queue.
    lines : int
        Of half the accumulator.
    banks, bank_lines : int
        Of the scratchpad.
    """
    line_bytes = max(rows, cols) * FORMAT_BITS[format] // 8
    described: dict[str, Any] = {
        "name": name,
        "clock_mhz": 100,
        "node_nm": 40,
        "array": {
            "rows": rows, "cols": cols, "dataflow": flow, "operand_format": format, "add_latency_cycles": add,
            "multiply_latency_cycles": multiply,
        },
        "scratchpad": {"capacity_bytes": banks * bank_lines * line_bytes, "banks": banks},
        "accumulator": {"capacity_bytes": 8 * cols * lines, "add_latency_cycles": beta},
        "vector": {"lanes": lanes or cols, "latency_cycles": vector},
        "dram": {"kind": "LPDDR4-2400", "bytes_per_cycle": beat, "latency_cycles": latency},
        "control": {"fetch_bytes_per_cycle": fetch, "queue_depth": queue},
    }  # fmt: skip
    return Accelerator.model_validate(described)


def random_machines(n: int, seed: int) -> list[Accelerator]:
    """Draw machines that the RTL accepts.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        Of all that is random.
    """
    return list(islice(_drawn(np.random.default_rng(seed)), n))


def _drawn(rng: np.random.Generator) -> Iterator[Accelerator]:
    from hwsim_rtl.machine import Machine

    number = 0
    while True:
        try:
            hw = _draw(rng, f"random {number}")
            Machine(hw)
        except (HwsimError, ValidationError):
            continue
        number += 1
        yield hw


def _draw(rng: np.random.Generator, name: str) -> Accelerator:
    format = str(rng.choice(_FORMATS))
    integers = format == "int8"
    cols = int(rng.choice(_SIZES))
    return small_machine(
        name,
        int(rng.choice(_SIZES)),
        cols,
        format=format,
        flow=str(rng.choice(["ws", "os", "is"])),
        add=int(rng.integers(1, 3) if integers else rng.integers(3, 8)),
        multiply=int(rng.integers(0, 3)),
        beta=int(rng.integers(1, 4) if integers else rng.integers(2, 8)),
        lanes=int(rng.choice([cols, -(-cols // 2), 1 << cols.bit_length() - 1])),
        vector=int(rng.integers(4, 20)),
        beat=int(rng.choice([4, 8, 16])),
        latency=int(rng.choice([6, 7, 10, 20, 60])),
        fetch=int(rng.choice([4, 8, 16, 32])),
        queue=int(rng.choice([4, 5, 8])),
        lines=int(rng.choice([48, 64, 128])),
        banks=int(rng.choice([8, 12, 16])),
        bank_lines=int(rng.choice([16, 32, 64])),
    )
