"""Draw docs/images/rtl-waveform.png: signals of a small machine's ports in a run of its demo program.

Run it as ``python docs/scripts/waveform.py``; the model is built in out/models.
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from hwsim_rtl.cosim import cosimulate, small_machine
from hwsim_rtl.cosim.demo import demo_program

ROOT = Path(__file__).resolve().parents[2]
FIRST, LAST = 0, 300
UNITS = ("load", "matrix", "vector", "store")
SIGNALS = ("trace_running", "f_axi_arvalid", "f_axi_rvalid", "trace_dispatched", "m_axi_arvalid", "m_axi_rvalid",
           "m_axi_awvalid", "m_axi_bvalid")  # fmt: skip


def changes(text: str) -> dict[str, list[tuple[int, int]]]:
    """Give times and values by name, of the first signal of each name in a VCD."""
    names: dict[str, list[str]] = {}
    found: dict[str, list[tuple[int, int]]] = {}
    header, _, body = text.partition("$enddefinitions $end")
    for identifier, name in re.findall(r"\$var \w+ +\d+ (\S+) (\S+)", header):
        if name not in found:
            names.setdefault(identifier, []).append(name)
            found[name] = []
    now = 0
    for line in body.splitlines():
        if line.startswith("#"):
            now = int(line[1:])
        elif line[:1] == "b":
            value, identifier = line[1:].split()
            for name in names.get(identifier, ()):
                found[name].append((now, int(value, 2)))
        elif line[:1] in ("0", "1"):
            for name in names.get(line[1:], ()):
                found[name].append((now, int(line[0])))
    return found


def sampled(signal: list[tuple[int, int]], times: list[int]) -> list[int]:
    """Give the values of a signal just before each time."""
    values, at, value = [], 0, 0
    for time in times:
        while at < len(signal) and signal[at][0] < time:
            value, at = signal[at][1], at + 1
        values.append(value)
    return values


def main() -> None:
    """Run, read the VCD, draw."""
    hw, out = small_machine("waves", 4, 4), ROOT / "out"
    out.mkdir(exist_ok=True)
    (result,) = cosimulate(hw, [demo_program(hw)], out / "models", waves=out / "waves.vcd")
    assert result.equal, result.differences()
    signals = changes((out / "waves.vcd").read_text("utf-8"))
    edges = [time for time, value in signals["clk"] if value]
    running = sampled(signals["trace_running"], edges)
    edges = edges[running.index(1) :][FIRST:LAST]
    rows = {name: sampled(signals[name], edges) for name in SIGNALS}
    started, ended = (sampled(signals[f"trace_{what}"], edges) for what in ("started", "ended"))

    figure, axes = plt.subplots(figsize=(13, 6.2), layout="constrained")
    labels = [*SIGNALS, *UNITS]
    for row, name in enumerate(labels):
        base = len(labels) - 1 - row
        if name in rows:
            axes.step(range(len(edges)), [base + 0.6 * v for v in rows[name]], where="post", lw=1, color="#1f77b4")
            continue
        unit, color = UNITS.index(name), f"C{UNITS.index(name) + 1}"
        axes.axhline(base, color="#dddddd", lw=0.8, zorder=0)
        starts = [i for i, v in enumerate(started) if v >> unit & 1]
        ends = [i + 1 for i, v in enumerate(ended) if v >> unit & 1]
        for i, start in enumerate(starts):
            end = ends[i] if i < len(ends) else len(edges)
            height = base + 0.02 + 0.2 * (i % 3)
            axes.plot((start, end), (height, height), color=color, lw=4, solid_capstyle="butt")
    axes.set_yticks([len(labels) - 0.7 - row for row in range(len(labels))], labels, fontfamily="monospace")
    axes.set_xlim(FIRST, LAST)
    axes.set_xlabel("cycle of the program")
    axes.set_title(
        f"First {LAST} of {result.cycles} cycles of a training step on a 4×4 machine "
        "(bars: commands from start to end, those under way at once one above the other)",
        fontsize=10,
    )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(ROOT / "docs" / "images" / "rtl-waveform.png", dpi=110)


if __name__ == "__main__":
    main()
