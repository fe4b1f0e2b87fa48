"""The critical path, by component: what nextpnr reports cell by cell, gathered into steps that a reader can follow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["critical_path", "fmax_mhz"]

#: What Yosys and nextpnr append to the name of the signal after which a cell is named.
_APPENDED = re.compile(r"(_(TRELLIS_FF|LUT4|PFUMX|L6MUX21|CCU2C|MULT18X18D|SB_[A-Z0-9]+)(_|$|\$)|\$nextpnr).*")


def fmax_mhz(report: Mapping[str, Any]) -> float:
    """Give the clock frequency that was reached [MHz], of the slowest clock."""
    return float(min(clock["achieved"] for clock in report["fmax"].values()))


def critical_path(report: Mapping[str, Any], instances: Iterable[str], inside: str) -> dict[str, Any]:
    """Give the path that limits the clock, as steps, each within one component.

    Parameters
    ----------
    report : mapping
        What nextpnr wrote with ``--report``.
    instances : iterable of str
        Paths of all instances of the design, dotted.
    inside : str
        Instance whose insides are reported; what is outside it is the harness.

    Returns
    -------
    dict
        Keys ``ns``, ``logic_ns``, ``routing_ns``, ``levels`` (cells between the registers), ``from`` and ``to``
        (signals), and ``steps``: each with ``component``, ``ns``, ``logic_ns``, ``routing_ns`` (wires into and within),
        ``levels`` and ``kinds`` (the cells passed, in order).
    """
    path = max(
        (p["path"] for p in report["critical_paths"] if _is_clocked(p)),
        key=lambda p: sum(part["delay"] for part in p),
    )
    known = sorted(instances, key=len, reverse=True)
    steps: list[dict[str, Any]] = []
    for part in path:
        cell = part["to"]["cell"]
        component = _component(cell, known, inside)
        if not steps or steps[-1]["component"] != component:
            steps.append({"component": component, "logic_ns": 0.0, "routing_ns": 0.0, "levels": 0, "kinds": []})
        step, delay, is_wire = steps[-1], float(part["delay"]), part["type"] == "routing"
        step["routing_ns" if is_wire else "logic_ns"] += delay
        if part["type"] == "logic" and not (_is_carried(part) or delay == 0):
            step["levels"] += 1
            step["kinds"].append(_kind(cell, part))
    for step in steps:
        step["ns"] = step["logic_ns"] + step["routing_ns"]
        step["kinds"] = _runs(step["kinds"])
    wires = [part["net"] for part in path if part["type"] == "routing"]
    whole = {key: sum(step[key] for step in steps) for key in ("ns", "logic_ns", "routing_ns", "levels")}
    return {
        **{key: _rounded(value) for key, value in whole.items()},
        "from": _signal(wires[0] if wires else path[0]["from"]["cell"], inside),
        "to": _signal(path[-1]["to"]["cell"], inside),
        "steps": [{key: _rounded(value) for key, value in step.items()} for step in steps],
    }


def _is_clocked(path: Mapping[str, Any]) -> bool:
    return bool(path["from"].startswith("posedge") and path["to"].startswith("posedge"))


def _component(cell: str, known: list[str], inside: str) -> str:
    """The innermost instance that a cell's name begins with, without the harness around it."""
    for instance in known:
        if cell.startswith(f"{instance}."):
            return instance.removeprefix(inside).removeprefix(".") or "all"
    return "harness"


def _signal(name: str, inside: str) -> str:
    """The signal that a cell or a wire is named after."""
    return _APPENDED.sub("", name).removeprefix(f"{inside}.")


def _kind(cell: str, part: Mapping[str, Any]) -> str:
    """What a reader calls the cell."""
    entered, left = part["from"]["port"], part["to"]["port"]
    if re.fullmatch(r"[AB]\d+", entered) and re.fullmatch(r"[PO]\d+", left):
        return "multiplier"
    return "carry" if "$CCU2_COMB" in cell or left in ("FCO", "COUT") else "LUT"


def _is_carried(part: Mapping[str, Any]) -> bool:
    """Whether this is a carry that goes on within a chain; only its first cell counts as a level."""
    return part["from"]["port"] in ("FCI", "CIN") and part["to"]["port"] in ("FCO", "COUT")


def _runs(kinds: list[str]) -> str:
    """Write a row of kinds: ``LUT ×3, carry, LUT``."""
    found: list[list[Any]] = []
    for kind in kinds:
        if found and found[-1][0] == kind:
            found[-1][1] += 1
        else:
            found.append([kind, 1])
    return ", ".join(kind if count == 1 else f"{kind} ×{count}" for kind, count in found)


def _rounded(value: Any) -> Any:
    return round(value, 2) if isinstance(value, float) else value
