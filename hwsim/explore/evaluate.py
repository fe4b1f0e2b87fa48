"""From points to figures: columns of knobs in, the sweep's table out, every number that of `hwsim step`.

`Evaluator.table` evaluates any points of a space; what they share is done once, and remembered by the process.
Normative: docs/contracts/sweep.md, sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hwsim.area import part_areas, part_counts
from hwsim.energy import ACTIONS, COMPONENTS, EnergyTable, load_energy_table
from hwsim.energy.actions import component_of
from hwsim.energy.rules import RULES, PricingContext
from hwsim.errors import HwsimError
from hwsim.explore.columns import (
    FIELDS,
    FLOATS,
    PRICE_FIELDS,
    SCRATCHPAD,
    WORKLOAD_FIELDS,
    accelerator_of,
    check_field,
    columns_accelerator,
    is_text,
)
from hwsim.explore.space import Space, Workload
from hwsim.explore.structure import Structures, with_scratchpad
from hwsim.hardware import Accelerator, Dataflow
from hwsim.simulate import training_step
from hwsim.workload import check_recompute, precision_of
from hwsim.workload.graph import Graph
from hwsim.workload.optimizers import optimizer_of

__all__ = ["Evaluator", "Networks", "check_names"]

#: Builds a network: name and batch → forward graph; `hwsim_models.build` is one.
Networks = Callable[[str, int], Graph]

_INDEX = {name: i for i, name in enumerate(ACTIONS)}
#: What all points of one price list share.
_FORMAT = "format"  # of the array that the points have in the end, not the knob's
_COMMON = (_FORMAT, "array.dataflow", "node_nm", "dram.kind")
_ROOMY = 1 << 40  # bytes of scratchpad that any bank has a line in


@dataclass(frozen=True, eq=False)
class _Counted:
    """A workload's counts on every point."""

    weight: float
    counts: NDArray[np.float64]
    memory: NDArray[np.float64]
    parameters: NDArray[np.float64]
    batch: NDArray[np.float64]


def check_names(space: Space, networks: Networks) -> None:
    """Refuse names of a workload that nothing has, before a sweep finds an error at every point.

    Raises
    ------
    HwsimError
        Unknown model, optimizer, precision or recompute policy: where it is named, and what there is.
    """
    checks: dict[str, Callable[[str], Any]] = {
        "model": lambda name: networks(name, 1),
        "optimizer": optimizer_of,
        "precision": precision_of,
        "recompute": check_recompute,
    }
    for field, check in checks.items():
        named = [(f"workload {i + 1}", getattr(w, field)) for i, w in enumerate(space.workloads)]
        for knob in space.axes:
            if knob.name == field:
                named += [(f"knob '{field}' (line {knob.line})", value) for value in knob.values]
        for where, name in named:
            try:
                if name is not None:
                    check(name)
            except HwsimError as error:
                raise HwsimError(f"{where}: {error}") from None


class Evaluator:
    """Evaluates points of a space.

    Parameters
    ----------
    space : Space
        What the points are of.
    networks : callable
        Gives the graph of a model and a batch.
    energy_table : EnergyTable, optional
        Where energies come from; the package's unless given.
    """

    def __init__(self, space: Space, networks: Networks, energy_table: EnergyTable | None = None) -> None:
        self.space, self.networks = space, networks
        self.energies = load_energy_table() if energy_table is None else energy_table
        self.structures = Structures()
        self._graph = lru_cache(maxsize=256)(self._build)

    def table(self, numbers: NDArray[np.int64]) -> pa.Table:
        """Evaluate points of the space by their numbers; excluded ones are left out.

        Raises
        ------
        HwsimError
            If the energy table lacks a row; what is wrong with a point alone is in its row.
        """
        numbers = np.asarray(numbers, np.int64)
        columns = self.space.columns(numbers)
        kept = self.space.kept(columns)
        return self.evaluate(numbers[kept], {name: column[kept] for name, column in columns.items()})

    def evaluate(self, numbers: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> pa.Table:
        """Evaluate points by their knobs, whatever the early constraints say; all of `numbers` are in the table.

        Raises
        ------
        HwsimError
            If the energy table lacks a row.
        """
        n = len(numbers)
        points = _Points(self.space, columns, n)
        for field in (*PRICE_FIELDS, SCRATCHPAD):
            points.check(field)
        counted = [self._counted(points, workload) for workload in self.space.workloads]
        figures = {name: np.full(n, np.nan) for name in self.space.measured}
        good = np.array([error is None for error in points.errors], bool)
        for chosen in points.alike(_COMMON, good):
            found = self._figures(points, chosen, [_at(c, chosen) for c in counted])
            for name, column in found.items():
                figures[name][chosen] = column
        return self._assembled(numbers, columns, points.errors, figures, good)

    def _assembled(
        self,
        numbers: NDArray[np.int64],
        columns: Mapping[str, NDArray[Any]],
        errors: Sequence[str | None],
        figures: Mapping[str, NDArray[np.float64]],
        good: NDArray[np.bool_],
    ) -> pa.Table:
        table: dict[str, pa.Array] = {"point": pa.array(numbers, pa.int64())}
        for knob in self.space.knobs:
            table[knob.name] = _arrow(knob.name, columns[knob.name])
        table["error"] = pa.array(errors, pa.string())
        feasible = good.copy()
        names = self.space.fixed | dict(columns) | dict(figures)
        for constraint in self.space.constraints:
            feasible &= np.asarray(constraint.expression(names), bool)
        table["feasible"] = pa.array(feasible)
        for name in self.space.measured:
            table[name] = pa.array(figures[name], pa.float64(), mask=~good)
        return pa.table(table)

    def _build(
        self, model: str, batch: int, optimizer: str, precision: str | None, recompute: str, operand_format: str
    ) -> tuple[Graph, str]:
        """Give a training step, and the operand format that it needs on an accelerator of this one."""
        hw = accelerator_of(self.space.base, {"array.operand_format": operand_format, SCRATCHPAD: _ROOMY})
        step, fitted = training_step(self.networks(model, batch), hw, optimizer, precision, recompute)
        return step, fitted.array.operand_format

    def _counted(self, points: _Points, workload: Workload) -> _Counted:
        """Count a workload on every point; points with an error get 0 and keep their first error."""
        n = points.size
        counts, memory, parameters = np.zeros((n, len(ACTIONS))), np.zeros(n), np.zeros(n)
        batches = np.ones(n)
        for chosen, values in points.runs(workload):
            try:
                step, hw = self._step(points, chosen, values)
            except (HwsimError, ValueError) as error:
                points.fail(chosen, str(error))
                continue
            chosen = points.large_enough(chosen, hw)
            if not len(chosen):
                continue
            capacities, at = np.unique(points.column(SCRATCHPAD)[chosen], return_inverse=True)
            totals = self.structures.totals(step, hw, capacities.tolist())
            for i, sentence in enumerate(totals.errors):
                if sentence is not None:
                    points.fail(chosen[at == i], sentence)
            counts[chosen], memory[chosen] = totals.counts[at], totals.peak_memory_bytes[at]
            parameters[chosen], batches[chosen] = step.parameters, step.batch
        return _Counted(workload.weight, counts, memory, parameters, batches)

    def _step(self, points: _Points, chosen: NDArray[np.int64], values: Mapping[str, Any]) -> tuple[Graph, Accelerator]:
        """Graph and accelerator of a run of points; its format is then the points' format."""
        fields = {name: value for name, value in values.items() if name in FIELDS}
        hw = accelerator_of(self.space.base, {**fields, SCRATCHPAD: _ROOMY})
        workload = {name: values[name] for name in WORKLOAD_FIELDS}
        if workload["model"] is None:
            raise HwsimError("no model is named")
        step, made = self._graph(**workload, operand_format=hw.array.operand_format)
        taken = points.formats[chosen[0]]
        if taken is not None and taken != made:
            raise HwsimError(f"the workloads need arrays for {taken} and for {made}; give them one operand format")
        points.formats[chosen] = made
        return step, hw.with_format(made)

    def _figures(
        self, points: _Points, chosen: NDArray[np.int64], counted: Sequence[_Counted]
    ) -> dict[str, NDArray[np.float64]]:
        """Figures of points that share format, dataflow, node and DRAM."""
        hw = points.accelerator(chosen)
        counts = reduce(add, (c.weight * c.counts for c in counted))
        (energy, low, high), by_component = _energies(hw, self.energies, counts)
        cycles = counts[:, _INDEX["leakage.cycles"]]
        time = cycles / (np.asarray(hw.clock_mhz, np.float64) * 1e6)
        samples = reduce(add, (c.weight * c.batch for c in counted))
        macs = counts[:, _INDEX["array.macs"]]
        area = reduce(add, part_areas(hw).values())
        return {
            "cycles": cycles,
            "time_s": time,
            "energy_j": energy,
            "energy_low_j": low,
            "energy_high_j": high,
            **{f"energy_{c}_j": column for c, column in by_component.items()},
            "power_w": energy / time,
            "edp_js": energy * time,
            "area_mm2": area.value,
            "area_low_mm2": area.low,
            "area_high_mm2": area.high,
            "samples_per_s": samples / time,
            "energy_per_sample_j": energy / samples,
            "macs": macs,
            "parameters": reduce(add, (c.parameters for c in counted)),
            "dram_bytes": counts[:, _INDEX["dram.read_bytes"]] + counts[:, _INDEX["dram.write_bytes"]],
            "peak_memory_bytes": np.max([c.memory for c in counted], axis=0),
            "utilization": macs / (np.asarray(hw.pes, np.float64) * cycles),
            **({} if self.space.target is None else _cells(hw, self.space.target)),
        }


class _Points:
    """Points under evaluation: fields as columns, and the first error of each."""

    def __init__(self, space: Space, columns: Mapping[str, NDArray[Any]], size: int) -> None:
        self.space, self.columns, self.size = space, dict(columns), size
        self.errors: list[str | None] = [None] * size
        self.formats: NDArray[Any] = np.full(size, None, object)

    def column(self, field: str) -> NDArray[Any]:
        """Give a field of every point: ndarray of shape (n,)."""
        found = self.columns.get(field)
        return np.full(self.size, self.space.fixed[field]) if found is None else found

    def fail(self, chosen: NDArray[np.int64], sentence: str) -> None:
        """Record an error, unless there is one."""
        for i in chosen.tolist():
            if self.errors[i] is None:
                self.errors[i] = sentence

    def check(self, field: str) -> None:
        """Check a field that comes from an expression, each value once."""
        knob = next((k for k in self.space.knobs if k.name == field), None)
        if knob is None or knob.expression is None:
            return
        values, at = np.unique(self.columns[field].astype(object), return_inverse=True)
        checked = []
        for i, value in enumerate(values):
            try:
                checked.append(check_field(field, _plain(value)))
            except ValueError as error:
                self.fail(np.flatnonzero(at == i), f"{field} = {_plain(value)!r}: {error}")
                checked.append(self.space.fixed[field])
        self.columns[field] = np.array(checked)[at]

    def runs(self, workload: Workload) -> Iterator[tuple[NDArray[np.int64], dict[str, Any]]]:
        """Give points without an error that have the same program, and their fields that decide it."""
        own = {name: getattr(workload, name) for name in WORKLOAD_FIELDS}
        names = [n for n in self.columns if n not in (*PRICE_FIELDS, SCRATCHPAD) and own.get(n) is None]
        good = np.array([error is None for error in self.errors], bool)
        for chosen in self.alike(names, good):
            yield chosen, own | {name: _plain(self.columns[name][chosen[0]]) for name in names}

    def alike(self, names: Sequence[str], good: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
        """Group points of equal fields, in the order of the first of each."""
        at = np.flatnonzero(good)
        if not len(at):
            return []
        key = np.zeros(len(at), np.int64)
        for name in names:
            column = self.formats if name == _FORMAT else self.columns.get(name)
            if column is None:
                continue
            code = _codes(column[at])
            if code.any():
                _, key = np.unique(key * (int(code.max()) + 1) + code, return_inverse=True)
        order = np.argsort(key, kind="stable")
        groups = np.split(at[order], np.flatnonzero(np.diff(key[order])) + 1)
        return sorted(groups, key=lambda group: int(group[0]))

    def large_enough(self, chosen: NDArray[np.int64], hw: Accelerator) -> NDArray[np.int64]:
        """Leave out, with their error, points whose banks have no line."""
        capacities = self.column(SCRATCHPAD)[chosen]
        small = capacities < hw.scratchpad.banks * hw.scratchpad_line_bytes
        for capacity in np.unique(capacities[small]).tolist():
            try:
                accelerator_of(with_scratchpad(hw, capacity), {})
            except ValueError as error:
                self.fail(chosen[capacities == capacity], str(error))
        kept: NDArray[np.int64] = chosen[~small]
        return kept

    def accelerator(self, chosen: NDArray[np.int64]) -> Accelerator:
        """Give points that share format, dataflow, node and DRAM as one accelerator of columns."""
        fields: dict[str, Any] = {}
        for name, column in self.columns.items():
            if name in FIELDS:
                fields[name] = _plain(column[chosen[0]]) if is_text(name) else np.asarray(column[chosen], np.float64)
        if "node_nm" in fields:
            fields["node_nm"] = float(fields["node_nm"][0])
        if "array.dataflow" in fields:
            fields["array.dataflow"] = Dataflow(fields["array.dataflow"])
        fields["array.operand_format"] = self.formats[chosen[0]]
        return columns_accelerator(self.space.base, fields)


def _energies(
    hw: Accelerator, table: EnergyTable, counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Give energies [J] of points that share format, node and DRAM: value, low and high, and the value by component.

    Actions are added up one after the other, so that a point's figures do not depend on the points beside it.
    """
    context = PricingContext(hw, table)
    total = np.zeros((3, len(counts)))
    by_component = {component: np.zeros(len(counts)) for component in COMPONENTS}
    for i, action in enumerate(ACTIONS):
        price = RULES[action].price(context)
        value = counts[:, i] * price.value
        by_component[component_of(action)] += value * 1e-12
        total += [value, counts[:, i] * price.low, counts[:, i] * price.high]
    return total * 1e-12, by_component


def _cells(hw: Accelerator, target: str) -> dict[str, Any]:
    """Give the cells of an FPGA that points take."""
    parts = part_counts(hw, target).values()
    lut, ff, dsp, bram = (reduce(add, (cells[name] for cells in parts)) for name in ("LUT", "FF", "DSP", "BRAM"))
    figures = {"lut": lut.value, "lut_low": lut.low, "lut_high": lut.high}
    figures |= {"ff": ff.value, "ff_low": ff.low, "ff_high": ff.high}
    return figures | {"dsp": dsp.value, "bram": bram.value}


def _at(counted: _Counted, chosen: NDArray[np.int64]) -> _Counted:
    return replace(
        counted,
        counts=counted.counts[chosen],
        memory=counted.memory[chosen],
        parameters=counted.parameters[chosen],
        batch=counted.batch[chosen],
    )


def _codes(column: NDArray[Any]) -> NDArray[np.int64]:
    """Number the values of a column; all 0 if there is but one."""
    if column.dtype == object:
        known: dict[Any, int] = {}
        return np.array([known.setdefault(value, len(known)) for value in column.tolist()], np.int64)
    if (column == column[0]).all():
        return np.zeros(len(column), np.int64)
    codes: NDArray[np.int64] = np.unique(column, return_inverse=True)[1]
    return codes


def _plain(value: Any) -> Any:
    """Give a Python number or text; whole numbers as int."""
    plain = value.item() if isinstance(value, np.generic) else value
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain


def _arrow(name: str, column: NDArray[Any]) -> pa.Array:
    """Give a knob's column in the type that the field has, whatever the values of this chunk."""
    if is_text(name):
        return pa.array(column.tolist(), pa.string())
    if name in FLOATS:
        return pa.array(column.astype(np.float64))
    numbers = column.astype(np.float64)
    whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2**53)
    return pa.array(np.where(whole, numbers, 0).astype(np.int64), mask=~whole)
