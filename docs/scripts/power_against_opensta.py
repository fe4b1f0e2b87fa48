"""Power of a PE's netlist summed by `hwsim_rtl.power`, beside OpenSTA's, with every net equally active and no wires.

OpenSTA 2.0.17 (Debian's `opensta`) reads no activity of single nets, but takes one for all; ours is given the same.
Needs `sta` and the cell library of `qflow-tech-osu018`. Both print pJ per cycle:

    python docs/scripts/power_against_opensta.py edge-8x8-int8
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from hwsim.hardware import load_accelerator
from hwsim_rtl.power.calibration import OSU018
from hwsim_rtl.power.components import pe_component
from hwsim_rtl.power.gates import Assumptions, Weights
from hwsim_rtl.power.liberty import read_liberty
from hwsim_rtl.power.netlist import YOSYS, Netlist, map_gates
from hwsim_rtl.synth import tools

ACTIVITY, PERIOD_NS = 0.2, 10.0
SLEWS_NS = (0.06, 0.12, 0.2, 0.3)


def opensta(verilog: Path, top: str) -> dict[str, tuple[float, float, float]]:
    """Internal, switching and leakage power by group [W]."""
    script = (
        f"read_liberty {OSU018}\nread_verilog {verilog}\nlink_design {top}\n"
        f"create_clock -name clk -period {PERIOD_NS} clk\nset_input_transition 0.06 [all_inputs]\n"
        f"set_power_activity -global -activity {ACTIVITY} -duty 0.5\nreport_power\n"
    )
    tcl = verilog.with_suffix(".tcl")
    tcl.write_text(script, "utf-8")
    said = subprocess.run(["sta", "-exit", str(tcl)], capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^(Sequential|Combinational|Total) +(\S+) +(\S+) +(\S+)", said, re.MULTILINE)
    return {name: (float(a), float(b), float(c)) for name, a, b, c in rows}


def ours(netlist: Netlist, slew_ns: float) -> dict[str, float]:
    """The same with our weights [pJ per cycle], of what gates and registers drive."""
    library = read_liberty(OSU018)
    weights = Weights.of(netlist, library, Assumptions(0.0, slew_ns, 0.0, glitches=False))
    internal, switching = weights.changes[0].copy()
    switching[np.concatenate([netlist.ports[name] for name in netlist.inputs])] = 0
    gates = sum(
        np.mean([a.mean(slew_ns, 2 * weights.changes[0, 1, i.nets[pin]] / library.voltage_v**2) for a in arcs])
        for i, pin in netlist.outputs
        if (arcs := i.cell.pins[pin].energies)
    )
    clock = sum(2 * i.cell.pins[i.cell.clock].energies[0].mean(slew_ns, 0.0) for i in netlist.flip_flops)
    return {
        "internal of clock pins": clock,
        "of registers' changes": ACTIVITY * (internal.sum() - gates),
        "of gates": ACTIVITY * gates,
        "switching": ACTIVITY * switching.sum(),
        "leakage": netlist.leakage_nw * PERIOD_NS * 1e-6,
    }


def main(preset: str) -> None:
    """Print both."""
    pe = pe_component(load_accelerator(preset))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = map_gates(pe.text, pe.top, OSU018, folder / "cache")
        (folder / "n.json").write_text(text, "utf-8")
        (folder / "w.ys").write_text(
            f"read_json n.json\nselect {pe.top}\nwrite_verilog -noattr -noexpr -selected n.v\n", "utf-8"
        )
        run = tools.call(YOSYS, ("-q", "w.ys"), folder)
        if run.code:
            sys.exit(run.output)
        found = opensta(folder / "n.v", pe.top)
    pj = {name: [watts * PERIOD_NS * 1e3 for watts in row] for name, row in found.items()}
    for name, (internal, switching, leakage) in pj.items():
        print(f"OpenSTA {name:<14} internal {internal:7.2f}  switching {switching:6.2f}  leakage {leakage:.6f}")
    netlist = Netlist.of(text, pe.top, read_liberty(OSU018))
    for slew_ns in SLEWS_NS:
        print(
            f"ours at {slew_ns:.2f} ns: " + ", ".join(f"{what} {x:.4g}" for what, x in ours(netlist, slew_ns).items())
        )


if __name__ == "__main__":
    main(sys.argv[1])
