"""Words of a module's ports from a VCD, cycle by cycle.

`read_ports` takes what a simulator wrote of a run and gives the value of every signal of one scope at the end of each
cycle, before the next edge of the clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError

__all__ = ["read_ports"]

Bits = NDArray[np.uint8]


def read_ports(
    path: Path, scope: str, names: Collection[str], *, clock: str = "clk", cycles: int | None = None
) -> dict[str, Bits]:
    """Read signals of a scope.

    Parameters
    ----------
    path : Path
        VCD.
    scope : str
        Name of the instance, the last part of its path.
    names : collection of str
        Signals to read.
    clock : str
        The scope's clock. A cycle ends where it rises; what changes there belongs to the next one.
    cycles : int, optional
        From the beginning on, at most; all unless given.

    Returns
    -------
    dict of str to ndarray of shape (cycles, width), dtype uint8
        Bits, the lowest first. Unknown ones are 0.

    Raises
    ------
    HwsimError
        If the scope lacks a signal.
    """
    with path.open(encoding="ascii", errors="replace") as file:
        codes, widths = _declared(file, scope, {*names, clock})
        missing = sorted({*names, clock} - {name for named in codes.values() for name in named})
        if missing:
            raise HwsimError(f"{path.name}: scope '{scope}' has no signal '{missing[0]}'")
        now = {name: np.zeros(widths[name], np.uint8) for name in names}
        rows: dict[str, list[Bits]] = {name: [] for name in names}
        high, risen = False, False
        changes: dict[str, str] = {}
        for code, value in _changes(file):
            if code:
                if code in codes:
                    changes[code] = value
                continue
            # The end of a time step: what has changed together with a rising clock is of the next cycle.
            for code_, value_ in changes.items():
                if clock in codes[code_]:
                    risen, high = not high and value_[-1] == "1", value_[-1] == "1"
            if risen:
                for name in names:
                    rows[name].append(now[name].copy())
                risen = False
                if len(next(iter(rows.values()))) == cycles:
                    break
            for code_, value_ in changes.items():
                for name in codes[code_]:
                    if name != clock:
                        now[name][:] = _bits(value_, widths[name])
            changes.clear()
    return {name: np.array(found) for name, found in rows.items()}


def _declared(file: Iterator[str], scope: str, names: Collection[str]) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Names by the identifiers of the scope's signals, which they may share, and their widths."""
    codes: dict[str, list[str]] = {}
    widths: dict[str, int] = {}
    path: list[str] = []
    for line in file:
        words = line.split()
        if not words:
            continue
        if words[0] == "$scope":
            path.append(words[2])
        elif words[0] == "$upscope":
            path.pop()
        elif words[0] == "$var" and path and path[-1] == scope and words[4] in names:
            codes.setdefault(words[3], []).append(words[4])
            widths[words[4]] = int(words[2])
        elif words[0] == "$enddefinitions":
            break
    return codes, widths


def _changes(file: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Identifiers and values; an empty identifier where time goes on."""
    for line in file:
        first = line[0]
        if first == "#":
            yield "", ""
        elif first in "bB":
            value, code = line[1:].split()
            yield code, value
        elif first in "01xXzZ":
            yield line[1:].strip(), first
    yield "", ""


def _bits(value: str, width: int) -> Bits:
    """Bits of a binary number, the lowest first; it may be shorter than the signal."""
    digits = value[::-1].translate(_UNKNOWN)[:width]
    found = np.zeros(width, np.uint8)
    found[: len(digits)] = np.frombuffer(digits.encode(), np.uint8) - ord("0")
    return found


_UNKNOWN = str.maketrans("xXzZ", "0000")
