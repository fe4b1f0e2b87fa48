"""Energy of the control at its gates, while it runs a training step on the machine's RTL and while it rests.

`record_control` runs a program on the Verilated machine and gives the words of the control's ports; `measure_control`
drives the control's gates with them, holds what comes out to the RTL, and sums energy. Normative:
docs/contracts/calibration.md, section 7.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim_rtl.cosim.compare import cosimulate
from hwsim_rtl.cosim.program import CosimProgram
from hwsim_rtl.power.activity import simulate_bits
from hwsim_rtl.power.calibration import Cells
from hwsim_rtl.power.components import Component
from hwsim_rtl.power.gates import CENTRAL, HIGH, KINDS, LOW, Weights
from hwsim_rtl.power.liberty import Library
from hwsim_rtl.power.netlist import Netlist, map_gates
from hwsim_rtl.power.vcd import read_ports
from hwsim_rtl.synth.parts import component
from hwsim_rtl.verilog import emit

__all__ = ["CONTROL_CYCLES", "calibrate_control", "control_component", "measure_control", "record_control"]

#: Most cycles of a program that are measured, from its start.
CONTROL_CYCLES = 16384
#: Levels of the bench that are traced: the bench, the machine, and the ports of its parts.
_DEPTH = 3
_QUEUES = tuple(f"{unit}_queue" for unit in ("load", "matrix", "vector", "store"))
_PARTS = (*_QUEUES, "fetch_unit", "dispatch", "semaphores", "tickets")
#: Without glitches: nets with hundreds of inputs and no buffers have no delays that a layout would have.
_BOUNDS = {name: replace(a, glitches=False) for name, a in (("value", CENTRAL), ("low", LOW), ("high", HIGH))}

Ports = Mapping[str, NDArray[np.uint8]]


def calibrate_control(
    hw: Accelerator, cells: Cells, program: CosimProgram, gates: Path, models: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure the control of an accelerator while it runs a program.

    Parameters
    ----------
    hw : Accelerator
        Whose control.
    cells : Cells
        What it is made of.
    program : CosimProgram
        What it runs.
    gates, models : Path
        Folders of netlists and of built models.
    say : callable
        Is told what is being done.

    Returns
    -------
    dict
        What `measure_control` gives, and the name of the program.

    Raises
    ------
    HwsimError
        If a tool is missing, or the RTL, its gates and the simulator differ.
    """
    say("control: Yosys, some minutes")
    part = control_component(hw)
    netlist = Netlist.of(map_gates(part.text, part.top, cells.path, gates), part.top, cells.library, part.parts)
    say(f"control: {program.name} on the RTL")
    ports = record_control(hw, program, tuple(netlist.ports), models)
    return {"program": program.name, **measure_control(part, netlist, cells.library, ports, say)}


def control_component(hw: Accelerator) -> Component:
    """Give the control of an accelerator, with its queues and what prepares commands."""
    return Component("control", emit(component(hw, "control"), "control"), "control", _PARTS)


def record_control(
    hw: Accelerator, program: CosimProgram, names: tuple[str, ...], cache: Path, cycles: int = CONTROL_CYCLES
) -> Ports:
    """Run a program on the RTL and give the ports of its control from the reset on, to so many cycles of the program.

    Parameters
    ----------
    hw : Accelerator
        The machine.
    program : CosimProgram
        What it runs.
    names : tuple of str
        Ports of the control, ``busy`` among them.
    cache : Path
        Folder of built models.
    cycles : int
        Most cycles after the start.

    Returns
    -------
    mapping of str to ndarray of shape (cycles, width), dtype uint8

    Raises
    ------
    HwsimError
        If the RTL does something else than the simulator, or a tool is missing.
    """
    with tempfile.TemporaryDirectory(prefix="hwsim-control-") as folder:
        waves = Path(folder) / "waves.vcd"
        (result,) = cosimulate(hw, [program], cache, waves=waves, waves_depth=_DEPTH)
        if not result.equal:
            raise HwsimError(f"{program.name}: the RTL and the simulator differ; nothing is measured")
        ports = read_ports(waves, "control", names)
    begin = int(np.argmax(ports["busy"][:, 0]))
    ran = int(ports["busy"][:, 0].sum())
    end = begin + min(cycles, ran)
    return {name: words[:end] for name, words in ports.items()}


def measure_control(
    part: Component, netlist: Netlist, library: Library, ports: Ports, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Drive the control's gates with recorded ports, and with what they are at rest; give energies per cycle.

    Parameters
    ----------
    part, netlist, library
        The component, its gates, their cells.
    ports : mapping of str to ndarray of shape (cycles, width)
        From `record_control`.
    say : callable
        Is told what is being done.

    Returns
    -------
    dict
        `cycles` and `commands` that were counted; `busy_pj` and `idle_pj`, value, low and high per cycle; `kinds_pj`
        and `parts_pj` of the former; `command_pj`, what a command adds; `checked_bits`.

    Raises
    ------
    HwsimError
        If the gates give other outputs than the RTL.
    """
    begin = int(np.argmax(ports["busy"][:, 0]))
    total = len(ports["busy"])
    rest = {name: _held(ports[name], begin - 2) for name in netlist.inputs}
    say(f"control: {total - begin:,} cycles at its gates")
    activity, outputs = simulate_bits(
        netlist, [{name: ports[name] for name in netlist.inputs}, rest], warm_cycles=begin
    )
    checked = 0
    for name, found in outputs[0].items():
        wrong = np.flatnonzero((found[begin:] != ports[name][begin:]).any(axis=1))
        if wrong.size:
            raise HwsimError(f"control: '{name}' of the gates is not the RTL's in cycle {wrong[0]} of the program")
        checked += found[begin:].size
    energies = {
        bound: Weights.of(netlist, library, assumed, part.parts).energy_pj(activity)
        for bound, assumed in _BOUNDS.items()
    }
    busy, idle = ({b: float(e[:, :, lane].sum()) for b, e in energies.items()} for lane in (0, 1))
    cycles, commands = total - begin, int(ports["dispatched"][begin:].sum())
    central = energies["value"][:, :, 0]
    return {
        "cells": len(netlist.gates) + len(netlist.flip_flops), "flip_flops": len(netlist.flip_flops),
        "area_um2": round(netlist.area_um2, 1), "leakage_nw": round(netlist.leakage_nw, 3),
        "cycles": cycles, "commands": commands, "checked_bits": checked,
        "busy_pj": _rounded(busy), "idle_pj": _rounded(idle),
        "command_pj": _rounded({b: (busy[b] - idle[b]) * cycles / commands for b in busy}),
        "kinds_pj": dict(zip(KINDS, central.sum(axis=0).round(2).tolist(), strict=True)),
        "parts_pj": dict(zip(("own", *part.parts), central.sum(axis=1).round(2).tolist(), strict=True)),
        "idle_parts_pj": dict(
            zip(("own", *part.parts), energies["value"][:, :, 1].sum(axis=1).round(2).tolist(), strict=True)
        ),
    }  # fmt: skip


def _held(words: NDArray[np.uint8], at: int) -> NDArray[np.uint8]:
    """A port that stays from a cycle on as it is there."""
    held = words.copy()
    held[at:] = words[at]
    return held


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {bound: round(x, 2) for bound, x in figures.items()}
