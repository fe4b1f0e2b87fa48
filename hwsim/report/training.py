"""What training shows and leaves behind: progress, a line per epoch, JSON, CSV, and the curve of loss and energy.

All take a `hwsim.values.training.Training`; energies and cycles are those of training alone, without tests.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from hwsim.report.files import check_file, check_folder, json_text
from hwsim.report.units import column, quantity, scale
from hwsim.values.training import EpochRecord, Training

__all__ = [
    "CHECKPOINT",
    "TRAINING_FILES",
    "TRAIN_SCHEMA",
    "TrainingDisplay",
    "accuracy_sentence",
    "add_energy",
    "check_training_folder",
    "draw_training",
    "energy_text",
    "reached",
    "title_of",
    "training_summary",
    "write_training",
]

TRAIN_SCHEMA = "hwsim.train/1"
CHECKPOINT = "checkpoint.npz"

#: The files of a training's folder.
TRAINING_FILES = ("summary.json", "epochs.csv", "training.png", CHECKPOINT)


def reached(training: Training, accuracy: float | None) -> EpochRecord | None:
    """Give the first epoch with a test accuracy of so many percent; none if `accuracy` is None."""
    if accuracy is None:
        return None
    return next((record for record in training.records if record.test_accuracy >= accuracy), None)


def accuracy_sentence(training: Training, accuracy: float) -> str:
    """Say what it took to reach a test accuracy [%], or that it was not reached."""
    record = reached(training, accuracy)
    if record is None:
        best = max(training.records, key=lambda r: r.test_accuracy)
        return (
            f"A test accuracy of {accuracy:g} % was not reached in {len(training.records)} epochs; "
            f"the best was {best.test_accuracy:.2f} %, after epoch {best.epoch}"
        )
    cost = f"{energy_text(_energies(record))}, {quantity(record.cycles, 'cycles')}"
    return f"{accuracy:g} % reached after epoch {record.epoch}: {cost}"


def training_summary(training: Training, until_accuracy: float | None = None) -> dict[str, Any]:
    """Give the JSON summary of training that has done one epoch or more.

    Parameters
    ----------
    training : Training
        What was trained.
    until_accuracy : float, optional
        Test accuracy that was to be reached [%].
    """
    last, first = training.records[-1], reached(training, until_accuracy)
    names = ("energy_pj", "energy_low_pj", "energy_high_pj")
    to_accuracy = {name.replace("energy", "energy_to_accuracy"): getattr(first, name, None) for name in names}
    return {
        "schema": TRAIN_SCHEMA,
        "model": training.step.name,
        "data": training.data.name,
        "hardware": training.hw.name,
        "hardware_description": training.hw.model_dump(mode="json"),
        "precision": training.precision.name,
        "optimizer": training.optimizer.name,
        "learning_rate": training.optimizer.learning_rate,
        "recompute": training.recompute,
        "batch": training.step.batch,
        "seed": training.seed,
        "epochs": last.epoch,
        "steps": last.steps,
        "skipped_steps": last.skipped_steps,
        "loss": last.loss,
        "test_accuracy": last.test_accuracy,
        "cycles": last.cycles,
        "time_s": last.cycles / (training.hw.clock_mhz * 1e6),
        "energy_pj": last.energy_pj,
        "energy_low_pj": last.energy_low_pj,
        "energy_high_pj": last.energy_high_pj,
        "macs": last.macs,
        "gated_macs": last.gated_macs,
        "gated_share": _share(last),
        "saturations": last.saturations,
        "first_saturation": training.first_saturation or None,
        "until_accuracy": until_accuracy,
        "epochs_to_accuracy": first.epoch if first else None,
        **to_accuracy,
        "weights_sha256": training.weights_sha256(),
        "history": [asdict(record) for record in training.records],
    }


def check_training_folder(folder: Path) -> None:
    """Make a folder if there is none, and make sure that all `TRAINING_FILES` can be written there.

    Raises
    ------
    HwsimError
        It is a file, cannot be made, or something in it cannot be overwritten; the message is one sentence.
    """
    check_folder(folder)
    for name in TRAINING_FILES:
        check_file(folder / name)


def write_training(training: Training, folder: Path, summary: dict[str, Any]) -> None:
    """Write summary, epochs and curve into a folder; the checkpoint is written by whoever trains."""
    (folder / "summary.json").write_text(json_text(summary), "utf-8")
    with (folder / "epochs.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(EpochRecord)])
        writer.writeheader()
        writer.writerows(summary["history"])
    draw_training(training, folder / "training.png")


def draw_training(training: Training, path: Path) -> None:
    """Draw loss (left axis) and energy so far (right axis, with its interval) against steps."""
    # matplotlib is needed by --out alone and takes a second to import.
    from hwsim.report.plots import BLUE, _figure, _save

    figure, left = _figure(9.0, 5.0)
    steps = np.arange(1, training.steps + 1)
    left.plot(steps, training.losses, color=BLUE, linewidth=0.7, alpha=0.4, label="loss of each step")
    middles = [record.steps - (training.steps_per_epoch - 1) / 2 for record in training.records]
    means = [record.loss for record in training.records]
    left.plot(middles, means, color=BLUE, marker="o", markersize=3.5, label="mean of each epoch")
    left.set_xlim(0, training.steps)
    last = training.records[-1]
    title = f"Test accuracy {last.test_accuracy:.2f} % after {energy_text(_energies(last))}"
    add_energy(figure, left, training, title)
    _save(figure, path, bottom=0.07)


def add_energy(figure: Any, left: Any, training: Training, title: str) -> None:
    """Finish a figure of loss against steps: the energy so far on a right axis, with its interval, legend and titles.

    Parameters
    ----------
    figure, left : matplotlib Figure and Axes
        With the loss drawn.
    training : Training
        With one step or more.
    title : str
        In bold; what was trained stands below it.
    """
    from hwsim.report.plots import BLUE, ORANGE

    steps = np.arange(1, training.steps + 1)
    left.set_xlabel(f"training steps of {training.step.batch} samples")
    left.set_ylabel("training loss, cross-entropy [nat]", color=BLUE)
    left.set_ylim(bottom=0)
    left.grid(alpha=0.3)
    value, low, high = training.energy_by_step_pj() * 1e-12
    factor, unit = scale(float(high[-1]), "J")
    right = left.twinx()
    right.fill_between(steps, low * factor, high * factor, color=ORANGE, alpha=0.2, label="its interval")
    right.plot(steps, value * factor, color=ORANGE, linewidth=1.8, label="energy so far")
    right.set_ylabel(f"energy of training so far [{unit}]", color=ORANGE)
    right.set_ylim(bottom=0)
    right.spines["top"].set_visible(False)
    handles, labels = (a + b for a, b in zip(left.get_legend_handles_labels(), right.get_legend_handles_labels()))  # noqa: B905
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
    left.set_title(f"{title}\n", loc="left", fontsize=11.5, fontweight="bold")
    left.text(0, 1.015, title_of(training), transform=left.transAxes, fontsize=9, color="#444444", va="bottom")


class TrainingDisplay:
    """A progress bar while training goes on, where the console is a terminal, and a line per epoch.

    Parameters
    ----------
    training : Training
        What is shown.
    epochs : int
        How many there will be.
    console : Console
        Where.
    """

    def __init__(self, training: Training, epochs: int, console: Console) -> None:
        self._training, self._epochs, self._told = training, epochs, False
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        total = epochs * training.steps_per_epoch
        self._task = self._progress.add_task("", total=total, completed=training.steps, epoch="", text="")

    def __enter__(self) -> TrainingDisplay:
        console = self._progress.console
        console.print(Text(title_of(self._training), style="bold"), soft_wrap=True)
        console.print(Text("epoch    loss  test %  zero %  energy so far [low … high]     cycles so far", style="dim"))
        for record in self._training.records:
            self.epoch(record)
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def step(self) -> None:
        """Show that a step has been done."""
        training = self._training
        speed = self._progress.tasks[0].speed
        self._progress.update(
            self._task,
            completed=training.steps,
            epoch=f"{len(training.records) + 1}/{self._epochs}",
            text=f"{f'{speed:.1f}' if speed else '–'} steps/s  loss {training.losses[-1]:.4f}  "
            f"{quantity(float(training.energy_pj[0]) * 1e-12, 'J')}  {quantity(training.cycles, 'cycles')}",
        )

    def epoch(self, record: EpochRecord) -> None:
        """Print an epoch's line."""
        notes = [
            f"{count:,} {what} so far"
            for count, what in ((record.skipped_steps, "steps skipped"), (record.saturations, "values saturated"))
            if count
        ]
        line = (
            f"{record.epoch:>5}  {record.loss:>6.4f}  {record.test_accuracy:>6.2f}  {100 * _share(record):>6.1f}  "
            f"{energy_text(_energies(record)):<30} {quantity(record.cycles, 'cycles')}"
        )
        where = self._training.first_saturation
        if where and not self._told:
            self._told = True
            notes.append(f"the first in {where}")
        self._progress.console.print(Text("  ".join([line, *notes])), soft_wrap=True)


def title_of(training: Training) -> str:
    """Say what is trained, on what and how."""
    optimizer = f"{training.optimizer.name} {training.optimizer.learning_rate:g}"
    recompute = "" if training.recompute == "none" else f"recompute {training.recompute}, "
    return (
        f"Training: {training.step.name} on {training.data.name}, batch {training.step.batch}, {optimizer}, "
        f"{training.precision.name}, {recompute}seed {training.seed}, on {training.hw.name}"
    )


def energy_text(energies_pj: Iterable[float]) -> str:
    """Say an energy with its interval; value, low, high [pJ]."""
    unit, (value, low, high) = column([pj * 1e-12 for pj in energies_pj], "J")
    return f"{value} {unit} [{low} … {high}]"


def _energies(record: EpochRecord) -> tuple[float, float, float]:
    return record.energy_pj, record.energy_low_pj, record.energy_high_pj


def _share(record: EpochRecord) -> float:
    """Part of the MACs with a zero operand, 0 to 1."""
    return record.gated_macs / record.macs if record.macs else 0.0
