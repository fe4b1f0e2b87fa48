"""What co-simulation found: `cosim_summary` for JSON and `print_cosim` for a terminal; of training on the RTL its live
display, `cosim_training_summary`, `write_cosim_training` and the curve.

Takes results of `hwsim_rtl.cosim`, of which it reads what `CosimResult`, `CosimStepResult` and `CosimTrainingResult`
list.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from hwsim.report.files import check_file, check_folder, json_text
from hwsim.report.training import add_energy, energy_text, title_of
from hwsim.report.units import quantity
from hwsim.values.training import Training

__all__ = [
    "COSIM_SCHEMA",
    "COSIM_TRAIN_FILES",
    "COSIM_TRAIN_SCHEMA",
    "CosimResult",
    "CosimStepResult",
    "CosimTrainingDisplay",
    "CosimTrainingResult",
    "check_cosim_folder",
    "cosim_summary",
    "cosim_training_summary",
    "draw_cosim_training",
    "print_cosim",
    "write_cosim_training",
]

COSIM_SCHEMA = "hwsim.cosim/1"
COSIM_TRAIN_SCHEMA = "hwsim.cosim-train/1"
#: The files of a folder that training on the RTL is written to.
COSIM_TRAIN_FILES = ("summary.json", "steps.csv", "training.png")
_MOST_SHOWN = 5


class CosimResult(Protocol):
    """What is read of `hwsim_rtl.cosim.Result`."""

    @property
    def name(self) -> str:
        """Name of the program."""

    @property
    def commands(self) -> int:
        """Its commands."""

    @property
    def cycles(self) -> int:
        """Its cycles in RTL."""

    def differences(self) -> list[str]:
        """Say what differs."""


def cosim_summary(hardware: str, results: Sequence[CosimResult], exact: bool) -> dict[str, Any]:
    """Sum up.

    Parameters
    ----------
    hardware : str
        Name of the accelerator.
    results : sequence of CosimResult
        One a program.
    exact : bool
        Whether memory had its exact latency, so that times were compared too.
    """
    wrong = [(result.name, result.differences()) for result in results]
    wrong = [(name, differences) for name, differences in wrong if differences]
    return {
        "schema": COSIM_SCHEMA,
        "hardware": hardware,
        "programs": len(results),
        "commands": sum(result.commands for result in results),
        "cycles": sum(result.cycles for result in results),
        "mismatches": len(wrong),
        "times_compared": exact,
        "differences": [{"program": name, "differences": differences} for name, differences in wrong],
    }


def print_cosim(summary: Mapping[str, Any], console: Console) -> None:
    """Print what was compared, and the first differences."""
    programs = "1 program" if summary["programs"] == 1 else f"{summary['programs']:,} programs"
    compared = "memory, starts and ends" if summary["times_compared"] else "memory"
    verdict = "equal" if not summary["mismatches"] else f"{summary['mismatches']:,} differ"
    console.print(
        f"{summary['hardware']}: {programs}, {summary['commands']:,} commands, {summary['cycles']:,} cycles; "
        f"{compared}: {verdict}",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    for found in summary["differences"][:_MOST_SHOWN]:
        console.print(f"\n{found['program']}", soft_wrap=True, markup=False)
        for difference in found["differences"]:
            console.print(f"  {difference}", soft_wrap=True, markup=False)


class CosimStepResult(Protocol):
    """What is read of `hwsim_rtl.cosim.CosimStep`; what is called `rtl_…` comes from the RTL."""

    @property
    def step(self) -> int:
        """Number, from 1."""

    @property
    def loss(self) -> float:
        """Of the simulator."""

    @property
    def rtl_loss(self) -> float:
        """Of the RTL."""

    @property
    def commands(self) -> int:
        """Of its programs."""

    @property
    def cycles(self) -> int:
        """Of the simulator."""

    @property
    def rtl_cycles(self) -> int:
        """Of the RTL."""

    @property
    def weights_sha256(self) -> str:
        """Of the simulator's weights after it."""

    @property
    def rtl_weights_sha256(self) -> str:
        """Of the RTL's weights after it."""

    @property
    def state_sha256(self) -> str:
        """Of weights, optimizer's state and loss of the simulator after it."""

    @property
    def rtl_state_sha256(self) -> str:
        """Of weights, optimizer's state and loss of the RTL after it."""

    @property
    def differences(self) -> tuple[str, ...]:
        """What differs in memory, times and counters."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""


class CosimTrainingResult(Protocol):
    """What is read of `hwsim_rtl.cosim.CosimTraining`."""

    @property
    def training(self) -> Training:
        """What was trained."""

    @property
    def steps(self) -> Sequence[CosimStepResult]:
        """Its steps."""

    @property
    def mismatches(self) -> int:
        """Those that differ."""


_STEP_COLUMNS = (
    "step", "loss", "rtl_loss", "commands", "cycles", "rtl_cycles", "weights_sha256", "rtl_weights_sha256",
    "state_sha256", "rtl_state_sha256",
)  # fmt: skip


def cosim_training_summary(trained: CosimTrainingResult) -> dict[str, Any]:
    """Give the JSON summary of training that has done one step or more.

    `cycles` and `loss` are the RTL's, `weights_sha256` is that of its memory; `expected_…` are the simulator's.
    """
    training, steps = trained.training, trained.steps
    value, low, high = training.energy_pj.tolist()
    last = steps[-1]
    return {
        "schema": COSIM_TRAIN_SCHEMA,
        "model": training.step.name,
        "data": training.data.name,
        "hardware": training.hw.name,
        "precision": training.precision.name,
        "optimizer": training.optimizer.name,
        "learning_rate": training.optimizer.learning_rate,
        "recompute": training.recompute,
        "batch": training.step.batch,
        "seed": training.seed,
        "epochs": len(training.records),
        "steps": len(steps),
        "mismatches": trained.mismatches,
        "commands": sum(step.commands for step in steps),
        "cycles": sum(step.rtl_cycles for step in steps),
        "expected_cycles": sum(step.cycles for step in steps),
        "loss": last.rtl_loss,
        "expected_loss": last.loss,
        "weights_sha256": last.rtl_weights_sha256,
        "expected_weights_sha256": last.weights_sha256,
        "test_accuracy": training.records[-1].test_accuracy if training.records else None,
        "energy_pj": value,
        "energy_low_pj": low,
        "energy_high_pj": high,
        "differences": [{"step": step.step, "differences": list(step.differences)} for step in steps if not step.equal],
        "history": [{name: getattr(step, name) for name in _STEP_COLUMNS} for step in steps],
    }


def check_cosim_folder(folder: Path) -> None:
    """Make a folder if there is none, and make sure that all `COSIM_TRAIN_FILES` can be written there.

    Raises
    ------
    HwsimError
        It is a file, cannot be made, or something in it cannot be overwritten; the message is one sentence.
    """
    check_folder(folder)
    for name in COSIM_TRAIN_FILES:
        check_file(folder / name)


def write_cosim_training(trained: CosimTrainingResult, folder: Path) -> None:
    """Write summary, steps and curve into a folder."""
    summary = cosim_training_summary(trained)
    (folder / "summary.json").write_text(json_text(summary), "utf-8")
    with (folder / "steps.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, _STEP_COLUMNS)
        writer.writeheader()
        writer.writerows(summary["history"])
    draw_cosim_training(trained, folder / "training.png")


def draw_cosim_training(trained: CosimTrainingResult, path: Path) -> None:
    """Draw the loss of both (left axis) and the energy so far (right axis, with its interval) against steps."""
    # matplotlib is needed by --out alone and takes a second to import.
    from matplotlib.ticker import MaxNLocator

    from hwsim.report.plots import BLUE, _figure, _save

    steps = trained.steps
    at = np.arange(1, len(steps) + 1)
    figure, left = _figure(9.0, 5.0)
    left.plot(at, [step.loss for step in steps], color=BLUE, linewidth=5, alpha=0.3, label="simulator")
    left.plot(
        at, [step.rtl_loss for step in steps], color="black", linewidth=0.9, marker=".", markersize=5, label="RTL"
    )
    left.set_xlim(0, len(steps) + 1)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    cycles = sum(step.rtl_cycles for step in steps)
    verdict = f"{trained.mismatches:,} steps differ" if trained.mismatches else "every bit and every cycle equal"
    add_energy(figure, left, trained.training, f"{len(steps):,} steps in Verilog, {cycles:,} cycles: {verdict}")
    _save(figure, path, bottom=0.07)


class CosimTrainingDisplay:
    """A progress bar while training goes on, where the console is a terminal, and what came out.

    Parameters
    ----------
    trained : CosimTrainingResult
        What is shown.
    steps : int
        How many there will be.
    console : Console
        Where.
    """

    def __init__(self, trained: CosimTrainingResult, steps: int, console: Console) -> None:
        self._trained, self._cycles, self._began = trained, 0, 0.0
        self._progress = Progress(
            TextColumn("step {task.completed:,}/{task.total:,}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=steps, text="building the RTL's model")

    def __enter__(self) -> CosimTrainingDisplay:
        title = Text(f"{title_of(self._trained.training)}, and on its RTL", style="bold")
        self._progress.console.print(title, soft_wrap=True)
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def step(self, done: CosimStepResult) -> None:
        """Show that a step has been done; speed counts from the end of the first, before which the model is built."""
        now = monotonic()
        if self._began:
            self._cycles += done.rtl_cycles
            seconds = max(now - self._began, 1e-9)
            count = len(self._trained.steps) - 1
            speed = f"{count / seconds:.1f} steps/s  {self._cycles / seconds:,.0f} cycles/s  "
        else:
            self._began, speed = now, ""
        verdict = "equal" if done.equal else "differs"
        self._progress.update(
            self._task, completed=len(self._trained.steps),
            text=f"{speed}loss {done.rtl_loss:.4f}  weights {done.rtl_weights_sha256[:8]}…  {verdict}",
        )  # fmt: skip

    def result(self) -> None:
        """Print what came out, and what differs."""
        trained, console = self._trained, self._progress.console
        training, last = trained.training, trained.steps[-1]
        verdict = f"step {last.step:,} differs" if trained.mismatches else "equal"
        tested = f", test accuracy {training.records[-1].test_accuracy:.2f} %" if training.records else ""
        lines = [
            f"{len(trained.steps):,} steps, {sum(s.commands for s in trained.steps):,} commands, "
            f"{sum(s.rtl_cycles for s in trained.steps):,} cycles; memory, starts, ends, loss and weights: {verdict}",
            f"loss {trained.steps[0].rtl_loss:.4f} → {last.rtl_loss:.4f}{tested}, {energy_text(training.energy_pj)}, "
            f"{quantity(sum(s.rtl_cycles for s in trained.steps) / (training.hw.clock_mhz * 1e6), 's')} at "
            f"{training.hw.clock_mhz:g} MHz",
            f"weights of the RTL  sha256 {last.rtl_weights_sha256}",
        ]
        if trained.mismatches:
            lines += [f"of the simulator    sha256 {last.weights_sha256}", *(f"  {d}" for d in last.differences)]
        for line in lines:
            console.print(Text(line), soft_wrap=True)
