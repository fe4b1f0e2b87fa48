"""Run in the simulator's process: what cocotb does with `hwsim_bench` (bench.v), program by program.

Jobs come through a pipe, a line of JSON each, and results go through another; their numbers are in HWSIM_JOBS and
HWSIM_RESULTS. `hwsim_rtl.cosim.session` has their other ends. This imports nothing of hwsim, so that a simulation
begins at once.
"""

from __future__ import annotations

import json
import os
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

__all__ = ["run_programs"]

PERIOD_NS = 2
RESET_CYCLES = 4


@cocotb.test()  # type: ignore[untyped-decorator, unused-ignore]
async def run_programs(dut: Any) -> None:
    """Run every job: fill the memory, write registers, start, wait, read registers, dump the memory.

    A job ends with its interrupt. Between, nothing of Python runs: one trigger a register access, one a program. The
    simulation stands still until the next job comes, and ends where the pipe does.
    """
    for name in ("load_request", "dump_request", "host_request", "armed", "slack", "seed"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    Clock(dut.clk, PERIOD_NS, unit="ns").start()
    clean = False
    with (
        open(int(os.environ["HWSIM_JOBS"]), encoding="utf-8") as jobs,
        open(int(os.environ["HWSIM_RESULTS"]), "w", encoding="utf-8") as results,
    ):
        for line in jobs:
            job = json.loads(line)
            if not clean:
                dut.rst.value = 1
                await ClockCycles(dut.clk, RESET_CYCLES)
                dut.rst.value = 0
            result = await _run(dut, job)
            results.write(json.dumps(result) + "\n")
            results.flush()
            clean = not result["timed_out"] and not result["breaches"]


async def _run(dut: Any, job: dict[str, Any]) -> dict[str, Any]:
    _give(dut, job, "slack", "seed", "bad_first", "bad_last", "most_cycles")
    for load in job["loads"]:
        _give(dut, load, "file_index", "first_word", "words")
        await _toggle(dut.load_request, dut.load_done)
    _give(dut, job, "file_index", "words")
    for offset, value in job["writes"]:
        await _access(dut, offset, value)
    dut.armed.value = 1
    await _access(dut, *job["start"])
    if not int(dut.finished.value):
        await dut.finished.value_change
    cycle, timed_out = int(dut.cycle.value), int(dut.timed_out.value)
    values = [await _access(dut, offset) for offset in job["reads"]]
    dut.armed.value = 0
    await _toggle(dut.dump_request, dut.dump_done)
    return {"cycle": cycle, "timed_out": timed_out, "values": values, "breaches": int(dut.breaches.value)}


def _give(dut: Any, numbers: dict[str, Any], *names: str) -> None:
    for name in names:
        getattr(dut, name).value = numbers[name]


async def _toggle(request: Any, done: Any) -> None:
    request.value = 1 - int(done.value)
    await done.value_change


async def _access(dut: Any, offset: int, value: int | None = None) -> int:
    """Write a register, or read it."""
    dut.host_write.value = value is not None
    dut.host_address.value = offset
    dut.host_data.value = value or 0
    await _toggle(dut.host_request, dut.host_done)
    return int(dut.host_value.value)
