"""The parts of an accelerator that can be synthesised alone, by name."""

from __future__ import annotations

from amaranth.lib import wiring

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, Dataflow
from hwsim_rtl.array import OutputStationaryArray, StationaryArray
from hwsim_rtl.array.pe import OutputStationaryPE, StationaryPE

__all__ = ["component", "pe"]


def component(hw: Accelerator, part: str) -> wiring.Component:
    """Give a part of an accelerator: ``machine``, ``array``, ``pe``, or one of the machine's own parts.

    Raises
    ------
    HwsimError
        If there is no such part, or no hardware for the accelerator.
    """
    if part == "pe":
        return pe(hw)
    if part == "array":
        return _array(hw)
    from hwsim_rtl.machine import Machine

    machine = Machine(hw)
    if part == "machine":
        return machine
    if part not in machine.parts:
        names = ", ".join(("machine", "array", "pe", *machine.parts))
        raise HwsimError(f"unknown part '{part}'; choose one of {names}")
    return machine.parts[part]


def pe(hw: Accelerator) -> wiring.Component:
    """Give one PE of the array."""
    kind = OutputStationaryPE if hw.array.dataflow is Dataflow.OUTPUT_STATIONARY else StationaryPE
    return kind(
        hw.array.operand_format, hw.array.operand_format, add_latency_cycles=hw.array.add_latency_cycles,
        multiply_latency_cycles=hw.array.multiply_latency_cycles,
    )  # fmt: skip


def _array(hw: Accelerator) -> wiring.Component:
    a = hw.array
    formats = a.operand_format, a.operand_format
    alpha, mu = a.add_latency_cycles, a.multiply_latency_cycles
    if a.dataflow is Dataflow.OUTPUT_STATIONARY:
        return OutputStationaryArray(
            a.rows, a.cols, *formats, add_latency_cycles=alpha, multiply_latency_cycles=mu,
            accumulator_latency_cycles=hw.accumulator.add_latency_cycles,
        )  # fmt: skip
    return StationaryArray(a.rows, a.cols, *formats, add_latency_cycles=alpha, multiply_latency_cycles=mu)
