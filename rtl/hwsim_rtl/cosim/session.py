"""A live simulation of a model: jobs go in one by one, each on the memory that the one before left, or on a new one.

`Session` keeps the process; `run_jobs` runs a list of jobs in one. The other side is driver.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.program import COMMAND_BYTES
from hwsim_rtl.tools import cocotb_environment

__all__ = ["Job", "Run", "Session", "read_hex", "run_jobs", "write_hex"]

#: Top module of the bench that a session runs.
TOP = "hwsim_bench"
_DRIVER = "hwsim_cosim_driver"
_WORD = 4
_TAIL = 3000


@dataclass(frozen=True, eq=False)
class Job:
    """One program for the bench.

    Attributes
    ----------
    image : ndarray of shape (bytes,), dtype uint8, or None
        Memory before, from address 0; a multiple of 128 bytes. `None`: as the job before left it.
    writes : sequence of tuple of int
        Registers (byte offsets) and values to write, in order.
    start : tuple of int
        The write after which the program runs.
    reads : sequence of int
        Registers to read afterwards.
    most_cycles : int
        Cycles after which it hangs.
    slack : int
        0: memory of the exact latency; else answers after one cycle up to so many cycles more than the latency, ports
        that are not always ready.
    seed : int
        Of the random latencies.
    bad : tuple of int
        First byte, and the byte after the last, that memory answers with an error.
    patches : mapping of int to ndarray of shape (bytes,), dtype uint8
        What the host writes into memory before the start, by address; addresses and sizes are multiples of four bytes.
    """

    image: NDArray[np.uint8] | None
    writes: Sequence[tuple[int, int]]
    start: tuple[int, int]
    reads: Sequence[int]
    most_cycles: int
    slack: int = 0
    seed: int = 1
    bad: tuple[int, int] = (0, 0)
    patches: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Run:
    """What a job did.

    Attributes
    ----------
    cycle : int
        Cycles in which the machine said that it runs.
    timed_out : bool
        It hung.
    values : tuple of int
        What was read of the registers.
    breaches : int
        Breaches of AXI4's rules, and accesses beyond the memory.
    events : ndarray of shape (cycles, 4), dtype int64
        Cycle, units that start, units whose commands end, whether a command is dispatched: where there is any.
    memory : ndarray of shape (bytes,), dtype uint8
        Memory afterwards.
    """

    cycle: int
    timed_out: bool
    values: tuple[int, ...]
    breaches: int
    events: NDArray[np.int64]
    memory: NDArray[np.uint8]


class Session:
    """A process that simulates a model; use it in a ``with`` statement.

    Parameters
    ----------
    model : Path
        From `build_bench`, with `waves` if a VCD is wanted.
    waves : Path, optional
        VCD to write.

    Raises
    ------
    HwsimError
        If cocotb cannot run here.
    """

    def __init__(self, model: Path, *, waves: Path | None = None) -> None:
        self._files = tempfile.TemporaryDirectory(prefix="hwsim-cosim-")
        self.folder = Path(self._files.name)
        try:
            self._start(model, waves)
        except BaseException:
            self._files.cleanup()
            raise
        self._jobs_done = self._files_written = self._bytes = 0

    def _start(self, model: Path, waves: Path | None) -> None:
        driver = (files("hwsim_rtl.cosim") / "driver.py").read_text("utf-8")
        (self.folder / f"{_DRIVER}.py").write_text(driver, "utf-8")
        environment = cocotb_environment(TOP, _DRIVER, [str(self.folder), *sys.path], self.folder / "results.xml")
        jobs_out, jobs_in = os.pipe()
        results_out, results_in = os.pipe()
        environment |= {"HWSIM_JOBS": str(jobs_out), "HWSIM_RESULTS": str(results_in)}
        traced = [] if waves is None else ["--trace", "--trace-file", str(waves.resolve())]
        with (self.folder / "log.txt").open("wb") as log:
            # A session of its own: Ctrl-C ends the caller, which then ends this.
            self._process = subprocess.Popen(
                [str(model), *traced], cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, pass_fds=(jobs_out, results_in), start_new_session=True,
            )  # fmt: skip
        os.close(jobs_out)
        os.close(results_in)
        self._jobs = os.fdopen(jobs_in, "w", encoding="utf-8")
        self._results = os.fdopen(results_out, "r", encoding="utf-8")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close(at_once=kind is not None)

    def close(self, *, at_once: bool = False) -> None:
        """End the process, and wait for it: a VCD is whole then, unless it ends `at_once`."""
        if at_once:
            self._process.kill()
        with suppress(BrokenPipeError):
            self._jobs.close()
        self._results.close()
        self._process.wait()
        self._files.cleanup()

    def run(self, job: Job) -> Run:
        """Run a job.

        Raises
        ------
        HwsimError
            If the simulation fails; with the end of what it said.
        """
        parts = [] if job.image is None else [(0, job.image)]
        if job.image is not None:
            if job.image.size % COMMAND_BYTES:
                raise HwsimError(f"a memory image is a multiple of {COMMAND_BYTES} bytes, not {job.image.size}")
            self._bytes = job.image.size
        loads = [self._written(address, data) for address, data in [*parts, *job.patches.items()]]
        number, self._jobs_done = self._jobs_done, self._jobs_done + 1
        order = {
            "file_index": number, "words": self._bytes // _WORD, "loads": loads, "slack": job.slack, "seed": job.seed,
            "bad_first": job.bad[0], "bad_last": job.bad[1], "most_cycles": job.most_cycles,
            "writes": list(job.writes), "start": list(job.start), "reads": list(job.reads),
        }  # fmt: skip
        try:
            self._jobs.write(json.dumps(order) + "\n")
            self._jobs.flush()
            answer = self._results.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            said = (self.folder / "log.txt").read_text("utf-8", "replace")
            raise HwsimError(f"the simulation failed:\n{said[-_TAIL:].strip()}")
        result = json.loads(answer)
        return Run(
            result["cycle"], bool(result["timed_out"]), tuple(result["values"]), result["breaches"],
            _events(self._taken(f"events_{number}.txt")), read_hex(self._taken(f"dump_{number}.hex")),
        )  # fmt: skip

    def _written(self, address: int, data: NDArray[np.uint8]) -> dict[str, int]:
        """Write a file for the bench to load; give its number, its place and its size in words."""
        if address % _WORD or data.size % _WORD:
            raise HwsimError(f"what is written to memory is whole words, not {data.size} bytes at {address:#x}")
        number, self._files_written = self._files_written, self._files_written + 1
        (self.folder / f"image_{number}.hex").write_text(write_hex(data), "utf-8")
        return {"file_index": number, "first_word": address // _WORD, "words": data.size // _WORD}

    def _taken(self, name: str) -> str:
        """Read a file of the bench, and remove it."""
        path = self.folder / name
        text = path.read_text("utf-8") if path.exists() else ""
        path.unlink(missing_ok=True)
        return text


def run_jobs(model: Path, jobs: Sequence[Job], *, waves: Path | None = None) -> list[Run]:
    """Run jobs one after the other.

    Parameters
    ----------
    model : Path
        From `build_bench`, with `waves` if a VCD is wanted.
    jobs : sequence of Job
    waves : Path, optional
        VCD to write.

    Raises
    ------
    HwsimError
        If the simulation fails; with the end of what it said.
    """
    with Session(model, waves=waves) as session:
        return [session.run(job) for job in jobs]


def write_hex(image: NDArray[np.uint8]) -> str:
    r"""Write memory as ``$readmemh`` reads it, a word a line.

    >>> write_hex(np.arange(8, dtype=np.uint8))
    '03020100\n07060504\n'
    """
    return image.view("<u4").astype(">u4").tobytes().hex("\n", _WORD) + "\n"


def read_hex(text: str) -> NDArray[np.uint8]:
    r"""Read what ``$writememh`` writes, from address 0 on; Icarus adds comments.

    >>> read_hex("// 0x00000000\n03020100\n07060504\n").tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    if "/" in text or "@" in text:
        text = "\n".join(line for line in text.splitlines() if not line.startswith(("/", "@")))
    return np.frombuffer(bytes.fromhex(text), ">u4").astype("<u4").view(np.uint8)


def _events(text: str) -> NDArray[np.int64]:
    return np.array(text.split(), np.int64).reshape(-1, 4)
