"""What changes at the gates: 64 streams at once through a netlist, and how often every net changes.

`simulate` takes a netlist and the words of its ports cycle by cycle. With delays of the gates there are glitches,
without there are none. docs/contracts/calibration.md says what both mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwsim_rtl.power import _kernels
from hwsim_rtl.power.netlist import Netlist

__all__ = ["LANES", "Activity", "Stimulus", "simulate", "simulate_bits"]

#: Streams that are simulated together.
LANES = _kernels.LANES

_ALL = ~np.uint64(0)

#: By port: what it carries, ndarray of shape (cycles, 64), dtype uint64, or one number of any width for all cycles and
#: streams. Ports that are missing are 0.
Stimulus = Mapping[str, NDArray[np.uint64] | int]


@dataclass(frozen=True, eq=False)
class Activity:
    """Changes of every net.

    Attributes
    ----------
    cycles : int
        Cycles that were counted.
    toggles : ndarray of shape (nets, 64), dtype int64
        Changes per stream.
    outputs : mapping of str to ndarray of shape (cycles, 64), dtype uint64
        What the output ports carried at the end of every cycle, those before the counted ones too.
    steps : int
        Delay steps of the longest cycle; 0 without delays.
    """

    cycles: int
    toggles: NDArray[np.int64]
    outputs: Mapping[str, NDArray[np.uint64]]
    steps: int


def simulate(
    netlist: Netlist, stimulus: Stimulus, *, warm_cycles: int = 0, delays: NDArray[np.int64] | None = None
) -> Activity:
    """Run streams through a netlist.

    Parameters
    ----------
    netlist : Netlist
        What is simulated. Registers begin at 0.
    stimulus : mapping of str to ndarray of shape (cycles, 64), or to int
        Words of the input ports; at least one of them by cycle.
    warm_cycles : int
        Cycles at the start that are not counted.
    delays : ndarray of shape (len(netlist.outputs),), optional
        Inertial delay of every gate's output [steps, 1 or more]; without it nets settle at once.
    """
    return _run(netlist, _packed(netlist, stimulus), warm_cycles, delays)[0]


def simulate_bits(
    netlist: Netlist, streams: Sequence[Mapping[str, NDArray[np.uint8]]], *, warm_cycles: int = 0
) -> tuple[Activity, list[dict[str, NDArray[np.uint8]]]]:
    """Run up to 64 streams of ports of any width through a netlist, in which all settles at once.

    Parameters
    ----------
    netlist : Netlist
        What is simulated. Registers begin at 0.
    streams : sequence of mapping of str to ndarray of shape (cycles, width), dtype uint8
        Bits of every input port, the lowest first, as many cycles in each stream.
    warm_cycles : int
        Cycles at the start that are not counted.

    Returns
    -------
    tuple of Activity and list of dict of str to ndarray of shape (cycles, width)
        The changes, and for every stream the bits of the output ports at the end of every cycle.
    """
    rows = [np.concatenate([stream[name] for name in netlist.inputs], axis=1) for stream in streams]
    lanes = np.arange(len(rows), dtype=np.uint64)[:, None, None]
    words = np.ascontiguousarray((np.stack(rows).astype(np.uint64) << lanes).sum(axis=0, dtype=np.uint64))
    activity, seen = _run(netlist, words, warm_cycles, None)
    found = []
    for lane in range(len(rows)):
        bits, ports, first = ((seen >> np.uint64(lane)) & np.uint64(1)).astype(np.uint8), {}, 0
        for name in _shown(netlist):
            width = len(netlist.ports[name])
            ports[name] = bits[:, first : first + width]
            first += width
        found.append(ports)
    return activity, found


def _shown(netlist: Netlist) -> list[str]:
    return [name for name in netlist.ports if name not in netlist.inputs]


def _run(
    netlist: Netlist, words: NDArray[np.uint64], warm_cycles: int, delays: NDArray[np.int64] | None
) -> tuple[Activity, NDArray[np.uint64]]:
    """Run packed words; gives the bits of the output ports too, packed likewise."""
    inputs = np.concatenate([netlist.ports[name] for name in netlist.inputs])
    shown = _shown(netlist)
    seen = np.concatenate([netlist.ports[name] for name in shown])
    toggles = np.zeros((netlist.nets, LANES), np.int64)
    outputs = np.zeros((len(words), len(seen)), np.uint64)
    rest = (netlist.states, inputs, words, warm_cycles, toggles, seen, outputs)
    steps = 0
    if delays is None:
        _kernels.run_without_delays(netlist.programs, *rest)
    else:
        steps = int(_kernels.run_with_delays(netlist.programs, delays, *rest))
    return Activity(len(words) - warm_cycles, toggles, _unpacked(netlist, shown, outputs), steps), outputs


def _packed(netlist: Netlist, stimulus: Stimulus) -> NDArray[np.uint64]:
    """Turn words per stream into bits of 64 streams: ndarray of shape (cycles, input bits)."""
    cycles = max(len(words) for words in stimulus.values() if not isinstance(words, int))
    columns = []
    for name in netlist.inputs:
        words = stimulus.get(name, 0)
        width = len(netlist.ports[name])
        if isinstance(words, int):
            fixed = (_ALL if words >> bit & 1 else np.uint64(0) for bit in range(width))
            columns += [np.full(cycles, word, np.uint64) for word in fixed]
            continue
        for bit in range(width):
            bits = ((words >> np.uint64(bit)) & np.uint64(1)).astype(np.uint8)
            columns.append(np.packbits(bits, axis=1, bitorder="little").view("<u8")[:, 0])
    return np.ascontiguousarray(np.stack(columns, axis=1), np.uint64)


def _unpacked(netlist: Netlist, names: list[str], words: NDArray[np.uint64]) -> dict[str, NDArray[np.uint64]]:
    found, first = {}, 0
    lanes = np.arange(LANES, dtype=np.uint64)
    for name in names:
        width = len(netlist.ports[name])
        bits = (words[:, first : first + width, None] >> lanes) & np.uint64(1)
        if width <= LANES:
            places = np.arange(width, dtype=np.uint64)[None, :, None]
            found[name] = (bits << places).sum(axis=1, dtype=np.uint64)
        first += width
    return found
