"""What an accelerator takes of an FPGA: look-up tables, flip-flops, multipliers and block RAMs, and whether it fits.

Counts are formulas fitted to synthesis of our RTL; block RAMs are exact. Normative: docs/contracts/area.md, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hwsim.area.cells import block_rams, count, fits
from hwsim.energy.scaling import Estimate
from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator

__all__ = ["RESOURCES", "TARGETS", "FpgaEstimate", "FpgaPart", "fpga", "part_counts"]

#: By target, what counts are fitted for.
TARGETS = ("ecp5-85k",)
RESOURCES = ("LUT", "FF", "DSP", "BRAM")

#: Parts as docs/synthesis.md has them; the array is PEs alone, and `machine` what is between the parts.
_PARTS = ("array", "matrix", "scratchpad", "accumulator", "vector", "load", "store", "control", "registers", "counters",
          "machine")  # fmt: skip


@dataclass(frozen=True)
class FpgaPart:
    """Cells of one part, by resource."""

    part: str
    cells: Mapping[str, Estimate]


@dataclass(frozen=True)
class FpgaEstimate:
    """What a machine takes of a device.

    Attributes
    ----------
    target, device : str
        One of `TARGETS`; what reports call the chip.
    parts : tuple of FpgaPart
        Part by part.
    used : mapping of str to Estimate
        By resource: the sum of the parts.
    available : mapping of str to int
        What the device has.
    """

    target: str
    device: str
    parts: tuple[FpgaPart, ...]
    used: Mapping[str, Estimate]
    available: Mapping[str, int]

    @property
    def lacks(self) -> tuple[dict[str, Any], ...]:
        """Resources of which there are too few, by value: resource, used, available, missing; as of `hwsim synth`."""
        return tuple(
            {"resource": name, "used": round(self.used[name].value), "available": limit,
             "missing": round(self.used[name].value) - limit}
            for name, limit in self.available.items() if round(self.used[name].value) > limit
        )  # fmt: skip

    @property
    def fits(self) -> bool:
        """Whether there is enough of everything, by value."""
        return not self.lacks

    @property
    def certain(self) -> bool:
        """Whether the answer is the same at both ends of the intervals."""
        ends = {all(getattr(self.used[n], end) <= limit for n, limit in self.available.items()) for end in _ENDS}
        return len(ends) == 1


_ENDS = ("low", "high")


def fpga(accelerator: Accelerator, target: str = "ecp5-85k") -> FpgaEstimate:
    """Estimate what an accelerator takes of a device, without synthesis.

    Parameters
    ----------
    accelerator : Accelerator
        What would be built.
    target : str
        One of `TARGETS`.

    Raises
    ------
    HwsimError
        If there are no fits for the target.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> estimate = fpga(load_accelerator("edge-8x8-int8"))
    >>> estimate.fits, int(estimate.used["BRAM"].value)
    (True, 108)
    """
    counts = part_counts(accelerator, target)
    parts = tuple(FpgaPart(part, MappingProxyType(cells)) for part, cells in counts.items())
    used = {name: _sum([cells[name] for cells in counts.values()]) for name in RESOURCES}
    return FpgaEstimate(target, fits()["device"], parts, MappingProxyType(used), MappingProxyType(fits()["available"]))


def part_counts(accelerator: Accelerator, target: str = "ecp5-85k") -> dict[str, dict[str, Estimate]]:
    """Give cells by part and resource, of one accelerator or of columns of many (see `hwsim.area.part_areas`).

    Raises
    ------
    HwsimError
        If there are no fits for the target.
    """
    if target not in TARGETS:
        raise HwsimError(f"no area of target '{target}'; choose one of {', '.join(TARGETS)}")
    return {part: {name: _cells(part, name, accelerator) for name in RESOURCES} for part in _PARTS}


def _cells(part: str, resource: str, hw: Accelerator) -> Estimate:
    if part == "array":
        pes = hw.array.rows * hw.array.cols
        return count("pe", resource, hw) * pes if resource != "BRAM" else Estimate(0.0 * pes, 0.0 * pes, 0.0 * pes)
    if resource != "BRAM":
        return count(part, resource, hw)
    exact = block_rams(part, hw)
    return Estimate(exact, exact, exact)


def _sum(estimates: list[Estimate]) -> Estimate:
    total = estimates[0]
    for estimate in estimates[1:]:
        total = total + estimate
    return total
