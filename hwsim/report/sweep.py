"""A sweep to look at: tables on the console, CSV, pictures and one interactive page.

Which files there are: docs/contracts/sweep.md, section 5.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from hwsim.explore.analysis import Analysis, Best, Ranking, Sensitivity
from hwsim.explore.columns import FLOATS, is_text, unit_of
from hwsim.explore.space import Space
from hwsim.hardware import Accelerator
from hwsim.workload import precision_of

if TYPE_CHECKING:
    from hwsim.report.sweep_columns import Knob

__all__ = ["FILES", "print_space", "print_sweep", "sweep_summary", "write_points", "write_sweep"]

#: The files that `write_sweep` writes.
FILES = (
    "front.csv",
    "best.csv",
    "sensitivity.csv",
    "ranking.csv",
    "front.png",
    "sensitivity.png",
    "index.html",
)
#: Rows of the front that the console shows.
SHOWN = 12


def write_sweep(space: Space, found: Analysis, folder: Path, notes: Mapping[str, str]) -> tuple[Path, ...]:
    """Write all `FILES`; those that need a point are left out where no point is feasible.

    Parameters
    ----------
    space : Space
        What was swept.
    found : Analysis
        What came of it.
    folder : Path
        There already.
    notes : mapping of str to str
        What the page says about the run: heading → text.
    """
    written = []
    for name, rows, kind in (
        ("best.csv", found.best, Best),
        ("sensitivity.csv", found.sensitivities, Sensitivity),
        ("ranking.csv", found.rankings, Ranking),
    ):
        _write_rows(folder / name, rows, kind)
        written.append(folder / name)
    pa.csv.write_csv(found.front, folder / "front.csv")
    written.append(folder / "front.csv")
    if len(found.front):
        from hwsim.report.sweep_page import write_page
        from hwsim.report.sweep_plots import front_figure, sensitivity_figure

        pictures = {"front.png": front_figure(found.shown, found.on_front, space.objectives)}
        if found.sensitivities:
            pictures["sensitivity.png"] = sensitivity_figure(found.sensitivities)
        for name, figure in pictures.items():
            figure.savefig(folder / name)
            written.append(folder / name)
        write_page(
            folder / "index.html",
            title=space.name,
            table=found.shown,
            knobs=_page_knobs(space),
            objectives=space.objectives,
            base=_with_formats(space),
            front=found.on_front,
            notes=notes,
        )
        written.append(folder / "index.html")
    return tuple(written)


def write_points(parts: Sequence[Path], path: Path) -> Path:
    """Write the whole table as CSV, part by part; give its path."""
    with pa.csv.CSVWriter(path, pq.read_schema(parts[0])) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part))
    return path


def _with_formats(space: Space) -> Accelerator:
    """Give the accelerator that knobs start from, with the array that a precision fixed by the workload needs."""
    fixed = space.workloads[0].precision
    return space.base if fixed is None else space.base.with_format(precision_of(fixed).operand_format)


def _page_knobs(space: Space) -> list[Knob]:
    from hwsim.report.sweep_columns import Knob

    return [
        Knob(k.name, unit_of(k.name), "text" if is_text(k.name) else "number", tuple(k.values)) for k in space.knobs
    ]


def _write_rows(path: Path, rows: Iterable[Any], kind: type) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [f.name for f in fields(kind)])
        writer.writeheader()
        for row in rows:
            cells = {k: " ".join(map(str, v)) if isinstance(v, tuple) else v for k, v in asdict(row).items()}
            writer.writerow(cells)


def sweep_summary(space: Space, found: Analysis, files: Sequence[Path]) -> dict[str, Any]:
    """Give what ``--json`` writes."""
    return {
        "name": space.name,
        "digest": space.digest,
        "points": space.size,
        "evaluated": found.evaluated,
        "failed": found.failed,
        "feasible": found.feasible,
        "objectives": list(space.objectives),
        "front": found.front.to_pylist(),
        "best": [asdict(row) for row in found.best],
        "sensitivity": [asdict(row) for row in found.sensitivities],
        "ranking": [{k: None if v != v else v for k, v in asdict(row).items()} for row in found.rankings],
        "errors": dict(found.errors),
        "files": [path.name for path in files],
    }


def print_space(space: Space, console: Console) -> None:
    """Say what will be swept, before it is."""
    console.print(f"[bold]{space.name}[/]: {space.size:,} points from {space.base.name}")
    table = Table("knob", "values", box=None, pad_edge=False)
    for knob in space.knobs:
        text = f"= {knob.expression.text}" if knob.expression else _values(knob.values)
        unit = unit_of(knob.name)
        table.add_row(knob.name + (f" [dim]{unit}[/]" if unit else ""), text)
    console.print(table)
    for constraint in space.constraints:
        console.print(f"subject to {constraint.expression.text}")


def _values(values: Sequence[Any]) -> str:
    texts = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    if len(texts) > 8:
        texts = [*texts[:4], "…", *texts[-2:]]
    return f"{', '.join(texts)} ({len(values)})" if len(values) > 1 else texts[0]


def print_sweep(space: Space, found: Analysis, console: Console) -> None:
    """Print counts, the front, the best, what moves the objectives, and how indicators rank."""
    console.print(
        f"\n{found.evaluated:,} points evaluated, {found.failed:,} of them with an error; {found.feasible:,} feasible, "
        f"{len(found.front):,} on the front"
    )
    for sentence, count in list(found.errors.items())[:3]:
        console.print(f"  {count:,} × {sentence}", style="dim", markup=False)
    if not len(found.front):
        console.print("No point meets all constraints; best.csv says what each of them costs.")
        return
    _print_front(space, found, console)
    _print_best(found, console)
    _print_sensitivities(space, found, console)
    _print_rankings(found, console)


def _print_front(space: Space, found: Analysis, console: Console) -> None:
    table = Table("point", title="Front", title_justify="left", box=None, pad_edge=False)
    objectives = [name.removeprefix("-") for name in space.objectives]
    for name in objectives:
        unit = unit_of(name)
        bare = name.rpartition("_")[0] if unit else name
        table.add_column(f"{bare}, {unit}" if unit else name, justify="right")
    table.add_column("configuration", overflow="fold")
    for row in found.front.slice(0, SHOWN).to_pylist():
        cells = [_with_bounds(row, name) for name in objectives]
        words = ", ".join(_configured(knob.name, row[knob.name]) for knob in space.knobs)
        table.add_row(str(row["point"]), *cells, words)
    console.print(table)
    if len(found.front) > SHOWN:
        console.print(f"[dim]… {len(found.front) - SHOWN} more in front.csv[/]")


def _with_bounds(row: Mapping[str, Any], name: str) -> str:
    """A figure, with its interval if it has one."""
    low, high = (row.get(name.replace("_", f"_{end}_", 1)) for end in ("low", "high"))
    text = _number(row[name])
    return text if low is None or high is None else f"{text} [dim]({low:.2g}…{high:.2g})[/]"


def _configured(name: str, value: Any) -> str:
    """A knob's value in few words: texts alone, numbers behind the last part of the name.

    >>> _configured("scratchpad.capacity_bytes", 1048576), _configured("clock_mhz", 200.0)
    ('scratchpad 1 MiB', '200 MHz')
    >>> _configured("array.rows", 32), _configured("array.dataflow", "ws")
    ('rows 32', 'ws')
    """
    if isinstance(value, str):
        return value
    part, _, last = name.rpartition(".")
    if name.endswith("capacity_bytes"):
        power = min(20, max(0, (int(value).bit_length() - 1) // 10 * 10))
        return f"{part} {value / (1 << power):g} {({0: 'B', 10: 'KiB', 20: 'MiB'})[power]}"
    if name in FLOATS:
        return f"{value:g} {unit_of(name)}"
    return f"{last} {value}"


def _print_best(found: Analysis, console: Console) -> None:
    table = Table("objective", "without", "point", "value", "of the best", title="Best", box=None, pad_edge=False)
    table.title_justify = "left"
    for row in found.best:
        table.add_row(
            row.objective,
            row.without or "–",
            str(row.point),
            f"{_number(row.value)} {unit_of(row.objective)}",
            "" if not row.without or row.ratio != row.ratio else f"{row.ratio:.3g} ×",
        )
    console.print(table)


def _print_sensitivities(space: Space, found: Analysis, console: Console) -> None:
    table = Table("knob", title="What moves what: largest ÷ smallest mean, share of variance", box=None, pad_edge=False)
    table.title_justify = "left"
    objectives = [name.removeprefix("-") for name in space.objectives]
    for name in objectives:
        table.add_column(name, justify="right")
    cells: dict[str, dict[str, Sensitivity]] = {}
    for row in found.sensitivities:
        cells.setdefault(row.knob, {})[row.objective] = row
    for knob, by in sorted(cells.items(), key=lambda item: -item[1][objectives[0]].share):
        table.add_row(knob, *(f"{by[o].ratio:.2f} × {by[o].share:>5.1%}" for o in objectives))
    console.print(table)


def _print_rankings(found: Analysis, console: Console) -> None:
    told = [row for row in found.rankings if row.tau == row.tau]
    if not told:
        return
    table = Table("indicators", "Kendall's τ", "ordered the other way round", title="Do indicators agree?", box=None)
    table.title_justify, table.pad_edge = "left", False
    for row in told:
        inverted = (
            f"point {row.points[0]} has {row.ratios[0]:.3g} times less {row.first} than {row.points[1]}, yet "
            f"{row.ratios[1]:.3g} times more {row.second}"
            if row.points
            else "none"
        )
        table.add_row(f"{row.first}, {row.second}", f"{row.tau:+.3f}", inverted)
    console.print(table)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
