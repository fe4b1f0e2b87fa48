"""What a netlist takes of a device: cells counted by resource, for the whole and for every component."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from hwsim_rtl.synth.targets import Device

__all__ = ["Counts", "cell_types", "counted", "shortages"]

#: By resource, how many; whole numbers but for half blocks.
Counts = dict[str, float]


def cell_types(statistics: Mapping[str, Any], module: str) -> Counter[str]:
    r"""Give the cells of a module by type, those of the modules inside it included, and its memories in bits.

    Parameters
    ----------
    statistics : mapping
        What ``stat -json`` of Yosys wrote.
    module : str
        Name of the module.

    Examples
    --------
    >>> inner = {"num_cells_by_type": {"LUT4": 2}, "num_memory_bits": 0}
    >>> outer = {"num_cells_by_type": {"LUT4": 1, "pe": 3}, "num_memory_bits": 0}
    >>> cell_types({"modules": {r"\pe": inner, r"\top": outer}}, "top")
    Counter({'LUT4': 7, 'memory_bits': 0})
    """
    modules = statistics["modules"]
    found = Counter({"memory_bits": int(modules[f"\\{module}"]["num_memory_bits"])})
    for kind, count in modules[f"\\{module}"]["num_cells_by_type"].items():
        if f"\\{kind}" in modules:
            for inner, number in cell_types(statistics, kind).items():
                found[inner] += number * count
        elif not kind.startswith("$scopeinfo"):
            found[kind] += count
    return found


def counted(types: Mapping[str, int], device: Device) -> Counts:
    """Count cells by resource.

    Examples
    --------
    >>> from hwsim_rtl.synth.targets import TARGETS
    >>> counted({"LUT4": 5, "CCU2C": 2, "TRELLIS_FF": 7}, TARGETS["ecp5-85k"].devices[0])
    {'LUT': 9, 'FF': 7, 'DSP': 0, 'BRAM': 0}
    """
    return {
        resource: sum(count * _weight(kind, weights) for kind, count in types.items())
        for resource, weights in device.cells.items()
    }


def shortages(used: Mapping[str, float], available: Mapping[str, int]) -> list[dict[str, Any]]:
    """Say what a device has too little of, and by how much.

    Examples
    --------
    >>> shortages({"LUT": 180, "DSP": 256}, {"LUT": 83640, "DSP": 156})
    [{'resource': 'DSP', 'used': 256, 'available': 156, 'missing': 100}]
    """
    return [
        {"resource": name, "used": used[name], "available": limit, "missing": used[name] - limit}
        for name, limit in available.items()
        if used.get(name, 0) > limit
    ]


def _weight(kind: str, weights: Mapping[str, float]) -> float:
    """What one cell takes: by its type, else by the longest beginning that is named."""
    if kind in weights:
        return weights[kind]
    prefixes = [name for name in weights if name.endswith("*") and kind.startswith(name[:-1])]
    return weights[max(prefixes, key=len)] if prefixes else 0
