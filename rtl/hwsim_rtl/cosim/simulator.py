"""A machine's Verilog in its bench (bench.v), built for Verilator and cocotb: `build_bench` gives a model, kept by
content, for `hwsim_rtl.cosim.session`.
"""

from __future__ import annotations

import tempfile
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from hwsim.hardware import Accelerator
from hwsim_rtl.cosim.session import TOP
from hwsim_rtl.machine import INNER_LATENCY_CYCLES, Machine, module_name
from hwsim_rtl.tools import build_cocotb_model, find_verilator
from hwsim_rtl.verilog import emit

__all__ = ["bench_parameters", "bench_text", "build_bench", "build_traffic_bench", "machine_text"]

#: What Python sees of the bench; all else is Verilator's to simplify.
_PUBLIC = (
    "clk", "rst", "file_index", "first_word", "words", "load_request", "load_done", "dump_request", "dump_done",
    "slack", "seed", "bad_first", "bad_last", "host_request", "host_write", "host_address", "host_data", "host_done",
    "host_value", "armed", "most_cycles", "finished", "timed_out", "cycle", "breaches",
)  # fmt: skip
_WORD = 4


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


def build_bench(
    hw: Accelerator, cache: Path, memory_bytes: int, *, waves: bool = False, waves_depth: int | None = None
) -> Path:
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
    waves_depth : int, optional
        Levels of modules that the VCD has, the bench as the first; all unless given.

    Returns
    -------
    Path
        The program for `run_jobs`.
    """
    parameters = bench_parameters(hw, memory_bytes)
    depth = [] if waves_depth is None else ["--trace-depth", str(waves_depth)]
    more = ["--trace", *depth] if waves else []
    return _build(machine_text(hw, cache), module_name(hw), cache, parameters, more)


def build_traffic_bench(text: str, module: str, cache: Path, latency: int) -> Path:
    """Build any Verilog module with a machine's ports, 8 bytes wide, in the bench with a memory of 64 KiB."""
    parameters = {"BEAT_BYTES": 8, "FETCH_BYTES": 8, "LATENCY": latency, "MEMORY_WORDS": 16384, "QUEUE_BITS": 7}
    return _build(text, module, cache, parameters, [])


def _build(machine: str, module: str, cache: Path, parameters: dict[str, int], more: list[str]) -> Path:
    sources = {"machine.v": machine, "bench.v": bench_text()}
    options = ["-Wno-fatal", "-Wno-lint", f"+define+HWSIM_MACHINE={module}", *more]
    options += [f"-G{name}={value}" for name, value in parameters.items()]
    return build_cocotb_model(find_verilator(), sources, top=TOP, cache=cache, public={TOP: _PUBLIC}, options=options)
