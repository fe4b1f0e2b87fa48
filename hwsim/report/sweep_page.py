"""One HTML page of a design-space sweep: filter, brush, hover for the whole configuration, click to copy it as TOML.

`write_page` takes the table of docs/contracts/sweep.md, section 3, and puts data, style and script into one file
that asks the network for nothing. The script is in data/sweep.js, the style in data/sweep.css.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hwsim.energy.actions import COMPONENTS
from hwsim.hardware import Accelerator
from hwsim.report.sweep_columns import Column, Knob, bounds_of, column_of, objective_of, scaled
from hwsim.workload.precision import precision_of

__all__ = ["Knob", "write_page"]

_DIGITS = 6
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<noscript>This page needs JavaScript. The same points are in the Parquet files beside it.</noscript>
<script type="application/json" id="sweep">{data}</script>
<script>
{script}</script>
</body>
</html>
"""


def write_page(
    path: Path,
    *,
    title: str,
    table: pa.Table,
    knobs: Sequence[Knob],
    objectives: Sequence[str],
    base: Accelerator,
    front: NDArray[np.bool_],
    notes: Mapping[str, str],
) -> None:
    """Write the page of a sweep.

    Parameters
    ----------
    path : Path
        The HTML file.
    title : str
        What the page is called.
    table : pyarrow.Table
        Points to show, up to some 6,000, with the columns of docs/contracts/sweep.md, section 3. Rows with an
        `error` are counted and left out; rows that are not `feasible` are drawn faint.
    knobs : sequence of Knob
        What differs between points; each is a column of the table.
    objectives : sequence of str
        Columns that are minimised, or with a minus before them maximised.
    base : Accelerator
        What the knobs start from: a copied description is this one with the point's knobs set. A precision that is no
        knob has brought its operand format already.
    front : ndarray of shape (rows,), dtype bool
        Which rows are on the front.
    notes : mapping of str to str
        What the header says beside the page's own counts, such as how many points were excluded.
    """
    evaluated = np.asarray(pc.is_null(table["error"]).to_numpy(zero_copy_only=False))
    rows = table.filter(pa.array(evaluated))
    data = {
        "title": title,
        "notes": [[name, text] for name, text in notes.items()],
        "failed": int((~evaluated).sum()),
        "point": rows["point"].to_pylist(),
        "feasible": _flags(rows["feasible"].to_numpy(zero_copy_only=False)),
        "front": _flags(front[evaluated]),
        "columns": _columns(rows, knobs, [objective_of(name) for name in objectives], front[evaluated]),
        "hardware": _description(base),
        "brought": _brought(base, knobs),
    }
    folder = resources.files("hwsim.report") / "data"
    page = _PAGE.format(
        title=html.escape(title),
        style=(folder / "sweep.css").read_text("utf-8"),
        script=(folder / "sweep.js").read_text("utf-8"),
        data=_embedded(data),
    )
    path.write_text(page, "utf-8")


def _embedded(data: Mapping[str, Any]) -> str:
    """Write JSON that no text in it can end early: HTML looks for ``</script`` and ``<!--`` alone."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _flags(mask: NDArray[np.bool_]) -> str:
    return "".join("1" if flag else "0" for flag in mask)


def _columns(
    rows: pa.Table, knobs: Sequence[Knob], objectives: Sequence[Column], front: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Describe and hold the columns that the page shows: knobs, objectives, other figures, energy by component."""
    parts = [name for name in (f"energy_{part}_j" for part in COMPONENTS) if name in rows.column_names]
    named = {knob.name for knob in knobs} | {objective.name for objective in objectives}
    hidden = {"point", "error", "feasible", *parts}
    hidden |= {name for column in rows.column_names for name in (bounds_of(column) or ())[1:]}
    others = [column_of(name) for name in rows.column_names if name not in named | hidden]
    described = [_knob(rows, knob) for knob in knobs]
    described += [_figure(rows, column, "objective", front) for column in objectives]
    described += [_figure(rows, column, "figure", front) for column in others]
    return described + [_figure(rows, column_of(name), "component", front) for name in parts]


def _knob(rows: pa.Table, knob: Knob) -> dict[str, Any]:
    """Hold a knob's values as they are, since they are copied; those of text as numbers in the order of its values."""
    values = rows[knob.name].to_pylist()
    described = {"name": knob.name, "label": knob.name, "role": "knob", "unit": knob.unit, "factor": 1.0}
    if knob.kind == "text":
        order = {str(value): i for i, value in enumerate(knob.values)}
        for value in sorted(set(map(str, values)) - order.keys()):
            order[value] = len(order)
        return {**described, "kind": "text", "values": list(order), "data": [order[str(value)] for value in values]}
    if knob.unit in ("bytes", "B"):
        factor, unit = scaled(min((v for v in values if v), default=1), "bytes")
        return {**described, "kind": "bytes", "unit": unit, "factor": factor, "data": values}
    return {**described, "kind": "number", "data": values}


def _figure(rows: pa.Table, column: Column, role: str, front: NDArray[np.bool_]) -> dict[str, Any]:
    """Hold a column of figures in six digits, in a unit that suits the front, with its bounds where it has some."""
    values = rows[column.name].to_numpy(zero_copy_only=False).astype(np.float64)
    typical = values[front] if front.any() else values[np.isfinite(values)]
    factor, unit = scaled(float(np.median(typical)) if typical.size else 0.0, column.unit)
    described = {
        "name": column.name,
        "label": column.label,
        "role": role,
        "kind": "bytes" if column.unit == "bytes" else "number",
        "unit": unit,
        "factor": factor,
        "maximised": column.maximised,
        "data": [_short(value) for value in values],
    }
    bounds = bounds_of(column.name)
    if bounds and set(bounds) <= set(rows.column_names):
        value, low, high = (rows[name].to_numpy(zero_copy_only=False) for name in bounds)
        for end, bound in (("low", low), ("high", high)):
            ratio = np.divide(bound, value, out=np.ones_like(value), where=value > 0)
            described[end] = [_short(x) for x in values * ratio]
    return described


def _short(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short


def _description(base: Accelerator) -> list[list[str]]:
    """Write the description in TOML as pairs: what a line sets, empty for other lines, and the line or the value."""
    lines: list[list[str]] = []
    tables: list[list[str]] = []
    for name, value in base.model_dump(mode="json").items():
        if isinstance(value, dict):
            tables += [["", ""], ["", f"[{name}]"]]
            tables += [[f"{name}.{field}", _toml(inner)] for field, inner in value.items()]
        else:
            lines.append([name, _toml(value)])
    return lines + tables


def _toml(value: str | float) -> str:
    """Write a value in TOML, whose basic strings are those of JSON but for one more character to escape."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _brought(base: Accelerator, knobs: Sequence[Knob]) -> dict[str, dict[str, dict[str, str]]]:
    """Say which fields a knob `precision` sets, by the operand format that it meets and by its value.

    The rule is `Accelerator.with_format`; it is asked of a machine with room for the lines of every format, since
    whether a point's own memory has it was seen when the point was evaluated.
    """
    values = {knob.name: knob.values for knob in knobs}
    roomy = base.model_copy(update={"scratchpad": base.scratchpad.model_copy(update={"capacity_bytes": 2**40})})
    brought: dict[str, dict[str, dict[str, str]]] = {}
    for met in values.get("array.operand_format") or (base.array.operand_format,):
        array = roomy.array.model_copy(update={"operand_format": met})
        machine = roomy.model_copy(update={"array": array})
        machines = {
            str(p): machine.with_format(precision_of(str(p)).operand_format) for p in values.get("precision", ())
        }
        brought[str(met)] = {
            p: {"name": hw.name, "array.operand_format": hw.array.operand_format} for p, hw in machines.items()
        }
    return brought
