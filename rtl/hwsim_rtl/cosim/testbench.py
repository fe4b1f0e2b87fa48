"""The test bench for whoever has a Verilog simulator and no Python: `write_testbench`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from hwsim.hardware import Accelerator
from hwsim_rtl.cosim.compare import expect
from hwsim_rtl.cosim.program import CosimProgram
from hwsim_rtl.cosim.session import write_hex
from hwsim_rtl.cosim.simulator import bench_parameters, bench_text
from hwsim_rtl.machine import module_name

__all__ = ["write_testbench"]

_SPARE_CYCLES = 5000


def write_testbench(directory: Path, hw: Accelerator, program: CosimProgram) -> tuple[Path, ...]:
    """Write a bench that runs a program and compares memory and cycles with what the simulator says.

    Top module ``testbench``; beside the files written here it needs the machine's Verilog.

    Parameters
    ----------
    directory : Path
        Folder, made where it is missing.
    hw : Accelerator
        The machine.
    program : CosimProgram
        What is run.

    Returns
    -------
    tuple of Path
        ``testbench.v``, ``bench.v``, ``image_0.hex``, ``expected_0.hex``.

    Raises
    ------
    HwsimError
        If the program is not legal.
    """
    expected = expect(hw, program)
    numbers = {
        **bench_parameters(hw, program.image.size), "WORDS": program.image.size // 4, "PROGRAM": program.address,
        "COMMANDS": len(program.flat), "LIMIT": program.image.size, "CYCLES": expected.cycles,
        "MOST_CYCLES": 2 * expected.cycles + _SPARE_CYCLES,
    }  # fmt: skip
    lines = [f"localparam {name} = {number};" for name, number in numbers.items()]
    lines.append(f"localparam [31:0] SEED = 32'd{program.seed};")
    own = files("hwsim_rtl.cosim")
    texts = {
        "testbench.v": (own / "testbench.v").read_text("utf-8").replace("// PARAMETERS", "\n    ".join(lines)),
        "bench.v": bench_text().replace("MACHINE hwsim_machine", f"MACHINE {module_name(hw)}"),
        "image_0.hex": write_hex(program.loaded()),
        "expected_0.hex": write_hex(expected.memory),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (directory / name).write_text(text, "utf-8")
    return tuple(directory / name for name in texts)
