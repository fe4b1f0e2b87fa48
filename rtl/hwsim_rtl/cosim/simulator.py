"""A machine's Verilog in its bench (bench.v), built for Verilator and cocotb, and runs of it.

`build_bench` gives a model, kept by content; `run_jobs` runs jobs on it, one after the other in one process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.program import COMMAND_BYTES
from hwsim_rtl.machine import INNER_LATENCY_CYCLES, Machine, module_name
from hwsim_rtl.tools import build_cocotb_model, cocotb_environment, find_verilator
from hwsim_rtl.verilog import emit

__all__ = [
    "Job",
    "Run",
    "bench_parameters",
    "bench_text",
    "build_bench",
    "build_traffic_bench",
    "machine_text",
    "read_hex",
    "run_jobs",
    "write_hex",
]

TOP = "hwsim_bench"
#: What Python sees of the bench; all else is Verilator's to simplify.
_PUBLIC = (
    "clk", "rst", "file_index", "words", "load_request", "load_done", "dump_request", "dump_done", "slack", "seed",
    "bad_first", "bad_last", "host_request", "host_write", "host_address", "host_data", "host_done", "host_value",
    "armed", "most_cycles", "finished", "timed_out", "cycle", "breaches",
)  # fmt: skip
_DRIVER = "hwsim_cosim_driver"
_WORD = 4
_TAIL = 3000


@dataclass(frozen=True, eq=False)
class Job:
    """One program for the bench.

    Attributes
    ----------
    image : ndarray of shape (bytes,), dtype uint8
        Memory before, from address 0; a multiple of four bytes.
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
    """

    image: NDArray[np.uint8]
    writes: Sequence[tuple[int, int]]
    start: tuple[int, int]
    reads: Sequence[int]
    most_cycles: int
    slack: int = 0
    seed: int = 1
    bad: tuple[int, int] = (0, 0)


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


def bench_text() -> str:
    """Give the Verilog of the bench."""
    return (files("hwsim_rtl.cosim") / "bench.v").read_text("utf-8")


def bench_parameters(hw: Accelerator, memory_bytes: int) -> dict[str, int]:
    """Give the parameters of ``hwsim_bench`` for a machine."""
    under_way = 2 * hw.dram.latency_cycles + 16
    return {
        "BEAT_BYTES": hw.dram.beat_bytes,
        "FETCH_BYTES": hw.control.fetch_bytes_per_cycle,
        "LATENCY": hw.dram.latency_cycles - INNER_LATENCY_CYCLES,
        "MEMORY_WORDS": memory_bytes // _WORD,
        "QUEUE_BITS": under_way.bit_length(),
    }


def machine_text(hw: Accelerator, cache: Path) -> str:
    """Give the Verilog of a machine, made or found where it was made before by the same code."""
    digest = sha256(hw.model_dump_json().encode())
    digest.update(version("amaranth").encode())
    for package in ("hwsim", "hwsim_rtl"):
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*.py")):
            digest.update(path.read_bytes())
    kept = cache / f"{digest.hexdigest()[:24]}.v"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        text = emit(Machine(hw), module_name(hw))
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=cache, suffix=".part", delete=False) as file:
            file.write(text)
        Path(file.name).replace(kept)
    return kept.read_text("utf-8")


def build_bench(hw: Accelerator, cache: Path, memory_bytes: int, *, waves: bool = False) -> Path:
    """Build a machine in its bench.

    Parameters
    ----------
    hw : Accelerator
        The machine.
    cache : Path
        Folder of models.
    memory_bytes : int
        Size of the memory, a multiple of four.
    waves : bool
        The model can write a VCD; it is slower.

    Returns
    -------
    Path
        The program for `run_jobs`.
    """
    parameters = bench_parameters(hw, memory_bytes)
    return _build(machine_text(hw, cache), module_name(hw), cache, parameters, ["--trace"] if waves else [])


def build_traffic_bench(text: str, module: str, cache: Path, latency: int) -> Path:
    """Build any Verilog module with a machine's ports, 8 bytes wide, in the bench with a memory of 64 KiB."""
    parameters = {"BEAT_BYTES": 8, "FETCH_BYTES": 8, "LATENCY": latency, "MEMORY_WORDS": 16384, "QUEUE_BITS": 7}
    return _build(text, module, cache, parameters, [])


def _build(machine: str, module: str, cache: Path, parameters: dict[str, int], more: list[str]) -> Path:
    sources = {"machine.v": machine, "bench.v": bench_text()}
    options = ["-Wno-fatal", "-Wno-lint", f"+define+HWSIM_MACHINE={module}", *more]
    options += [f"-G{name}={value}" for name, value in parameters.items()]
    return build_cocotb_model(find_verilator(), sources, top=TOP, cache=cache, public={TOP: _PUBLIC}, options=options)


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
    with tempfile.TemporaryDirectory(prefix="hwsim-cosim-") as name:
        folder = Path(name)
        (folder / f"{_DRIVER}.py").write_text((files("hwsim_rtl.cosim") / "driver.py").read_text("utf-8"), "utf-8")
        (folder / "jobs.json").write_text(json.dumps([_plain(i, job) for i, job in enumerate(jobs)]), "utf-8")
        for i, job in enumerate(jobs):
            (folder / f"image_{i}.hex").write_text(write_hex(job.image), "utf-8")
        environment = cocotb_environment(TOP, _DRIVER, [str(folder), *sys.path], folder / "results.xml")
        traced = [] if waves is None else ["--trace", "--trace-file", str(waves.resolve())]
        run = subprocess.run(
            [str(model), *traced], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        found = folder / "results.json"
        if not found.exists():
            raise HwsimError(f"the simulation failed:\n{(run.stdout + run.stderr)[-_TAIL:].strip()}")
        results = json.loads(found.read_text("utf-8"))
        return [
            Run(
                result["cycle"], bool(result["timed_out"]), tuple(result["values"]), result["breaches"],
                _events(folder / f"events_{i}.txt"), read_hex((folder / f"dump_{i}.hex").read_text("utf-8")),
            )
            for i, result in enumerate(results)
        ]  # fmt: skip


def _plain(index: int, job: Job) -> dict[str, object]:
    if job.image.size % COMMAND_BYTES:
        raise HwsimError(f"a memory image is a multiple of {COMMAND_BYTES} bytes, not {job.image.size}")
    return {
        "file_index": index, "words": job.image.size // _WORD, "slack": job.slack, "seed": job.seed,
        "bad_first": job.bad[0], "bad_last": job.bad[1], "most_cycles": job.most_cycles,
        "writes": list(job.writes), "start": list(job.start), "reads": list(job.reads),
    }  # fmt: skip


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


def _events(path: Path) -> NDArray[np.int64]:
    numbers = np.array(path.read_text("utf-8").split() if path.exists() else [], np.int64)
    return numbers.reshape(-1, 4)
