"""What co-simulation found: `cosim_summary` for JSON and `print_cosim` for a terminal.

Takes results of `hwsim_rtl.cosim`, of which it reads what `CosimResult` lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console

__all__ = ["COSIM_SCHEMA", "CosimResult", "cosim_summary", "print_cosim"]

COSIM_SCHEMA = "hwsim.cosim/1"
_MOST_SHOWN = 5


class CosimResult(Protocol):
    """What is read of `hwsim_rtl.cosim.Result`."""

    @property
    def name(self) -> str:
        """Name of the program."""

    @property
    def commands(self) -> int:
        """Its commands."""

    @property
    def cycles(self) -> int:
        """Its cycles in RTL."""

    def differences(self) -> list[str]:
        """Say what differs."""


def cosim_summary(hardware: str, results: Sequence[CosimResult], exact: bool) -> dict[str, Any]:
    """Sum up.

    Parameters
    ----------
    hardware : str
        Name of the accelerator.
    results : sequence of CosimResult
        One a program.
    exact : bool
        Whether memory had its exact latency, so that times were compared too.
    """
    wrong = [(result.name, result.differences()) for result in results]
    wrong = [(name, differences) for name, differences in wrong if differences]
    return {
        "schema": COSIM_SCHEMA,
        "hardware": hardware,
        "programs": len(results),
        "commands": sum(result.commands for result in results),
        "cycles": sum(result.cycles for result in results),
        "mismatches": len(wrong),
        "times_compared": exact,
        "differences": [{"program": name, "differences": differences} for name, differences in wrong],
    }


def print_cosim(summary: Mapping[str, Any], console: Console) -> None:
    """Print what was compared, and the first differences."""
    programs = "1 program" if summary["programs"] == 1 else f"{summary['programs']:,} programs"
    compared = "memory, starts and ends" if summary["times_compared"] else "memory"
    verdict = "equal" if not summary["mismatches"] else f"{summary['mismatches']:,} differ"
    console.print(
        f"{summary['hardware']}: {programs}, {summary['commands']:,} commands, {summary['cycles']:,} cycles; "
        f"{compared}: {verdict}",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    for found in summary["differences"][:_MOST_SHOWN]:
        console.print(f"\n{found['program']}", soft_wrap=True, markup=False)
        for difference in found["differences"]:
            console.print(f"  {difference}", soft_wrap=True, markup=False)
