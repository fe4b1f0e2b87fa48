"""Synthesis of an accelerator, or of a part of it, for a target: one summary, with a PE alone beside the array.

docs/synthesis.md says what the figures mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim_rtl.synth import tools
from hwsim_rtl.synth.flow import TOP, YOSYS, Job, Say, measure
from hwsim_rtl.synth.harness import Harness
from hwsim_rtl.synth.parts import component, pe
from hwsim_rtl.synth.targets import TARGETS, Device
from hwsim_rtl.verilog import emit

__all__ = ["synthesize"]


def synthesize(
    hw: Accelerator,
    target: str,
    cache: Path,
    *,
    part: str = "machine",
    seed: int = 1,
    speed_grade: str | None = None,
    path_ps: int | None = None,
    goal_mhz: float | None = None,
    say: Say = lambda _: None,
) -> tuple[dict[str, Any], Path]:
    """Synthesise, place and route, or find what came out when it was done before.

    Parameters
    ----------
    hw : Accelerator
        What to build.
    target : str
        One of `TARGETS`.
    cache : Path
        Folder of results.
    part : str
        ``machine``, ``array``, ``pe``, or another part of the machine.
    seed : int
        Of the placement.
    speed_grade : str, optional
        Of the device, where it comes in several; the slowest unless given.
    path_ps : int, optional
        Longest path that Yosys works towards, by its own estimate [ps]: it saves look-up tables where paths are
        shorter. Without it, the longest that there is.
    goal_mhz : float, optional
        Clock that nextpnr works towards [MHz]; the target's unless given.
    say : callable
        Is told what is being done.

    Returns
    -------
    dict, Path
        The summary (docs/synthesis.md), and the folder with `hwsim_rtl.synth.flow.FILES`.

    Raises
    ------
    HwsimError
        If there is no such target, speed grade or part, the target takes no path or no goal, a tool is missing, or one
        fails.
    """
    if target not in TARGETS:
        raise HwsimError(f"unknown target '{target}'; choose one of {', '.join(TARGETS)}")
    chosen = TARGETS[target]
    devices = chosen.devices if speed_grade is None else (_graded(target, speed_grade),)
    if path_ps is not None and not all(device.takes_path for device in devices):
        raise HwsimError(f"target '{target}' is mapped without a goal for paths; leave --path-ps out")
    if goal_mhz is not None and not any(device.router for device in devices):
        raise HwsimError(f"target '{target}' is not placed and routed; leave --goal-mhz out")
    for package in (YOSYS, *(device.router for device in devices if device.router)):
        tools.version(package)
    say(f"{hw.name}, {part}: writing the Verilog")
    text = emit(Harness(component(hw, part)), TOP)
    for device in devices:
        whole = part == "machine"
        goal = (chosen.machine_goal_mhz if whole else None) or chosen.goal_mhz
        job = Job(text, device, seed, goal if goal_mhz is None else goal_mhz, by_unit=whole, path_ps=path_ps)
        found, folder = measure(job, cache, say)
        if found["fits"]:
            break
    summary = {"hardware": hw.name, "part": part, "target": target, "note": chosen.note, "path_ps": path_ps, **found}
    if summary["pes"]:
        summary["pe"] = measure(Job(emit(pe(hw), "pe"), device, route=False, path_ps=path_ps), cache, say)[0]["used"]
        rows = {row["component"].split(".")[-1]: row for row in summary["components"]}
        array = rows.get("array", rows["all"])
        summary["array_per_pe"] = {name: round(array[name] / summary["pes"], 1) for name in summary["used"]}
    return summary, folder


def _graded(target: str, speed_grade: str) -> Device:
    grades = TARGETS[target].grades
    if not grades:
        raise HwsimError(f"target '{target}' has no speed grades; leave --speed-grade out")
    if speed_grade not in grades:
        *some, last = grades
        raise HwsimError(f"speed grade of {target} must be {', '.join(some)} or {last}, not {speed_grade}")
    return grades[speed_grade]
