"""A machine as files: Verilog, memory map, file list, lint waivers, and a test bench that needs no Python.

`write_design` takes a description; docs/rtl.md says what an engineer does with the files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hwsim.hardware import Accelerator
from hwsim.program import COMMAND_BYTES, FORMAT_CODES, SEMAPHORE_NAMES, UNIT_NAMES
from hwsim_rtl.control import Fault, legal_opcodes
from hwsim_rtl.cosim import write_testbench
from hwsim_rtl.cosim.demo import demo_program
from hwsim_rtl.machine import INNER_LATENCY_CYCLES, Machine, module_name
from hwsim_rtl.registers import IDENTITY, REGISTERS, VERSION
from hwsim_rtl.verilog import emit

__all__ = ["FILES", "LINT_WAIVERS", "memory_map", "write_design"]

#: What the files are, by the end of their names.
FILES = {
    ".v": "Verilog: the machine, the bench around it, and the test that runs it",
    ".json": "memory map: ports, registers, error codes, program format",
    ".f": "list of the Verilog files, for simulators",
    ".vlt": "waivers for verilator --lint-only -Wall, with reasons",
    ".hex": "memory before and after the test",
}

#: Warnings of ``verilator --lint-only -Wall`` that mean nothing in generated text, and why.
LINT_WAIVERS = {
    "UNUSEDSIGNAL": "wires of a bundle that one of its users does not need; synthesis removes them",
    "UNUSEDPARAM": "the same for parameters",
    "WIDTHEXPAND": "operands are extended by Verilog's own rules, on which the generator relies",
    "WIDTHTRUNC": "sums are cut to the width of what they are assigned to, which is meant",
    "PROCASSINIT": "registers have an initial value as well as a reset",
    "CASEOVERLAP": "the first matching item counts, which is meant",
    "UNDRIVEN": "bits of a bundle that nobody drives because nobody reads them",
    "CMPCONST": "comparisons with the end of a range that is the whole range",
    "DECLFILENAME": "one file holds all modules",
    "SYMRSVDWORD": "names of signals that are words of C++",
}
#: Waivers for one signal each.
_BUNDLES = {
    "*made*": "fields of a prepared command that follow from others of its fields: no bit depends on itself",
    "*beat.within*": "whether a beat is within memory follows from its address, another of its fields: likewise",
}


def write_design(directory: Path, hw: Accelerator) -> tuple[Path, ...]:
    """Write an accelerator's RTL and all that belongs to it.

    Parameters
    ----------
    directory : Path
        Folder, made where it is missing; files of the same names are replaced.
    hw : Accelerator
        What to build.

    Returns
    -------
    tuple of Path
        ``<module>.v``, ``memory_map.json``, ``filelist.f``, ``lint.vlt``, then those of `write_testbench`.

    Raises
    ------
    HwsimError
        If there is no RTL for something that the description asks for.
    """
    module = module_name(hw)
    texts = {
        f"{module}.v": emit(Machine(hw), module),
        "memory_map.json": json.dumps(memory_map(hw), indent=2) + "\n",
        "filelist.f": f"{module}.v\nbench.v\ntestbench.v\n",
        "lint.vlt": _waivers(),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (directory / name).write_text(text, "utf-8")
    bench = write_testbench(directory, hw, demo_program(hw))
    return (*(directory / name for name in texts), *bench)


def memory_map(hw: Accelerator) -> dict[str, Any]:
    """Give what a driver needs to know of a machine, as plain data.

    Parameters
    ----------
    hw : Accelerator
        The machine.

    Returns
    -------
    dict
        Keys ``module``, ``ports``, ``memory``, ``registers``, ``errors``, ``program``, ``accelerator``.
    """
    return {
        "module": module_name(hw),
        "identity": f"0x{IDENTITY:08X}",
        "version": VERSION,
        "ports": {
            "m_axi": {
                "protocol": "AXI4 master",
                "data_bits": 8 * hw.dram.beat_bytes,
                "address_bits": 32,
                "use": "data",
            },
            "f_axi": {
                "protocol": "AXI4 master, read channels",
                "data_bits": 8 * hw.control.fetch_bytes_per_cycle,
                "address_bits": 32,
                "use": "commands",
            },
            "s_axil": {"protocol": "AXI4-Lite slave", "data_bits": 32, "address_bits": 12, "use": "registers"},
        },
        "memory": {
            "latency_cycles": hw.dram.latency_cycles - INNER_LATENCY_CYCLES,
            "means": "address accepted to first data, and data accepted to response, for the cycles of the contract",
            "line_alignment_bytes": hw.dram.beat_bytes,
        },
        "registers": [
            {
                "name": r.name,
                "offset": f"0x{r.offset:03X}",
                "access": "read-write" if r.writable else "read",
                "reset": f"0x{r.reset:08X}",
                "means": r.means,
            }
            for r in REGISTERS
        ],
        "errors": {fault.name: int(fault) for fault in Fault},
        "program": {
            "alignment_bytes": COMMAND_BYTES,
            "command_bytes": COMMAND_BYTES,
            "units": list(UNIT_NAMES),
            "semaphores": list(SEMAPHORE_NAMES),
            "formats": dict(FORMAT_CODES),
            "opcodes": {unit.name.lower(): sorted(codes) for unit, codes in legal_opcodes(hw).items()},
        },
        "accelerator": hw.model_dump(mode="json"),
    }


def _waivers() -> str:
    lines = ["`verilator_config"]
    for rule, reason in LINT_WAIVERS.items():
        lines += [f"// {reason}", f"lint_off -rule {rule}"]
    for names, reason in _BUNDLES.items():
        lines += [f"// {reason}", f'lint_off -rule UNOPTFLAT -file "*" -match "{names}"']
    return "\n".join(lines) + "\n"
