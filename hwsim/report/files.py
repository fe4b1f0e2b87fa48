"""Everything about a training step in one folder: JSON, CSV, four plots and a trace."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hwsim.errors import HwsimError
from hwsim.program.fields import CAUSES, RESOURCE_NAMES
from hwsim.report.summary import FIGURES, OP_FIGURES, step_summary
from hwsim.report.trace import Spans, chrome_trace
from hwsim.results import StepResult

__all__ = ["CSV_COLUMNS", "FILES", "check_file", "check_folder", "json_text", "op_rows", "write_all"]

#: The files that `write_all` writes.
FILES = ("summary.json", "ops.csv", "energy.png", "cycles.png", "roofline.png", "memory.png", "timeline.json")

#: Columns of ``ops.csv``; the stalls are those of what bounds the op.
CSV_COLUMNS = (
    "name",
    *(key for key in OP_FIGURES if key not in ("busy_cycles", "stall_cycles", "mapping")),
    *FIGURES,
    *(f"busy_{name}_cycles" for name in RESOURCE_NAMES),
    *(f"stall_{cause}_cycles" for cause in CAUSES),
    "mapping",
)


def write_all(step: StepResult, folder: Path, spans: Spans) -> tuple[Path, ...]:
    """Write all `FILES` into a folder, which is made if there is none; give their paths."""
    from hwsim.report.plots import draw_all

    folder.mkdir(parents=True, exist_ok=True)
    summary = step_summary(step)
    (folder / "summary.json").write_text(json_text(summary), "utf-8")
    with (folder / "ops.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, CSV_COLUMNS)
        writer.writeheader()
        writer.writerows(op_rows(summary))
    draw_all(step, folder)
    (folder / "timeline.json").write_text(json.dumps(chrome_trace(step, spans), separators=(",", ":")), "utf-8")
    return tuple(folder / name for name in FILES)


def json_text(summary: dict[str, Any]) -> str:
    """Write a summary as JSON with a line break at the end."""
    return json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def op_rows(summary: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Give the rows of ``ops.csv`` from a step's summary, in execution order."""
    for name, op in summary["by_op"].items():
        stalls = op["stall_cycles"].get(op["bound"], {})
        yield {
            "name": name,
            **{key: value for key, value in op.items() if key in CSV_COLUMNS},
            **{f"busy_{name}_cycles": op["busy_cycles"].get(name, 0) for name in RESOURCE_NAMES},
            **{f"stall_{cause}_cycles": stalls.get(cause, 0) for cause in CAUSES},
        }


def check_folder(folder: Path) -> None:
    """Make a folder if there is none, and make sure that all `FILES` can be written there.

    Raises
    ------
    HwsimError
        It is a file, cannot be made, or something in it cannot be overwritten; the message is one sentence.
    """
    if folder.exists() and not folder.is_dir():
        raise HwsimError(f"cannot write into '{folder}': it is a file, not a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HwsimError(f"cannot make folder '{folder}': {error.strerror}") from None
    for name in FILES:
        check_file(folder / name)


def check_file(path: Path) -> None:
    """Make sure that a file can be written, without changing it or leaving a new one.

    Raises
    ------
    HwsimError
        It cannot; the message is one sentence.
    """
    if path.is_dir():
        raise HwsimError(f"cannot write '{path}': it is a folder, not a file")
    if not path.parent.is_dir():
        raise HwsimError(f"cannot write '{path}': there is no folder '{path.parent}'")
    new = not path.exists()
    if not new and not path.is_file():
        return  # a pipe or a device: opening it would be seen at its other end
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))
        if new:
            path.unlink()
    except OSError as error:
        raise HwsimError(f"cannot write '{path}': {error.strerror}") from None
