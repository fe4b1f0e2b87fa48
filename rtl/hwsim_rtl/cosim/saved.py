"""Programs in files: `save_program` writes one with the machine that it is for, `load_program` reads it again.

A file is an ``.npz`` without pickles: commands, memory, and what else a `CosimProgram` holds as JSON.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.program import COMMAND_BYTES
from hwsim.program.fields import FIELDS
from hwsim_rtl.cosim.program import CosimProgram
from hwsim_rtl.cosim.random_programs import check_legal
from hwsim_rtl.limits import check_limits

__all__ = ["FORMAT", "load_program", "save_program"]

FORMAT = "hwsim.program/1"


def save_program(path: Path, program: CosimProgram, hw: Accelerator) -> None:
    """Write a program, with the machine that it is for.

    Parameters
    ----------
    path : Path
        File in an existing folder; one that is there is replaced.
    program : CosimProgram
        Linked, with its memory.
    hw : Accelerator
        Its machine.
    """
    rest = {name: value for name, value in asdict(program).items() if name not in ("flat", "image")}
    rest["hardware"] = hw.model_dump(mode="json")
    arrays = {"commands": program.flat.astype("<i8"), "memory": program.image}
    with path.open("wb") as stream:
        np.savez_compressed(
            stream, allow_pickle=False, format=np.array(FORMAT), program=np.array(json.dumps(rest)), **arrays
        )


def load_program(path: Path) -> tuple[CosimProgram, Accelerator]:
    """Read a program and the machine that it is for.

    Raises
    ------
    HwsimError
        If there is no such file, it is damaged or something else, or the program is not legal; one sentence.
    """
    if not path.is_file():
        raise HwsimError(f"there is no program '{path}'; `hwsim cosim … --save DIR` writes programs")
    try:
        with np.load(path, allow_pickle=False) as file:
            entries = {name: file[name] for name in ("format", "program", "commands", "memory")}
        kind = str(entries["format"])
        rest: dict[str, Any] = json.loads(str(entries["program"]))
        hw = Accelerator.model_validate(rest.pop("hardware"))
        program = CosimProgram(
            name=str(rest["name"]), flat=entries["commands"].astype(np.int64), image=entries["memory"],
            address=int(rest["address"]), seed=int(rest["seed"]),
            sections=tuple((int(first), str(name)) for first, name in rest["sections"]),
            tensors={str(name): (int(low), int(high)) for name, (low, high) in rest["tensors"].items()},
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise HwsimError(f"'{path}' is damaged, or not a program of hwsim: {' '.join(str(error).split())}") from None
    if kind != FORMAT:
        raise HwsimError(f"'{path}' has format {kind}; this hwsim reads {FORMAT}")
    flat, image, address = program.flat, program.image, program.address
    end = address + COMMAND_BYTES * len(flat)
    shapes = flat.ndim == 2 and flat.shape[1:] == (FIELDS,) and image.ndim == 1 and image.dtype == np.uint8
    if not (shapes and len(flat) and address >= 0 and end <= image.size) or (
        address % COMMAND_BYTES or image.size % COMMAND_BYTES
    ):
        raise HwsimError(f"'{path}' is damaged: commands or memory are not as `hwsim cosim … --save DIR` writes them")
    check_limits(hw, flat, image.size, program.name)
    check_legal(hw, program)
    return program, hw
