"""The design space: knobs, workloads, constraints and objectives, read from one TOML file and checked at once.

`load_space` gives a frozen `Space`, whose points are numbered; `Space.columns` gives any of them as columns.
Normative: docs/contracts/sweep.md, section 1.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.area.fpga import TARGETS
from hwsim.errors import HwsimError
from hwsim.explore.columns import (
    FIELDS,
    FPGA,
    MEASURED,
    PRICE_FIELDS,
    SCRATCHPAD,
    UNITS,
    WORKLOAD_FIELDS,
    check_field,
    is_text,
)
from hwsim.explore.expressions import Expression, ExpressionError, parse
from hwsim.hardware import Accelerator, load_accelerator

__all__ = ["Constraint", "Knob", "Space", "Workload", "load_space", "read_space"]

#: Largest number of points that a space may have; sampled searches draw from it.
MOST_POINTS = 1 << 62
#: Largest number of values of one knob.
MOST_VALUES = 1 << 20
#: Points looked at to say that constraints exclude all of them.
LOOKED_AT = 1 << 20
DEFAULTS: Mapping[str, Any] = {"batch": 128, "precision": None, "optimizer": "momentum", "recompute": "none"}
OBJECTIVES = ("energy_j", "time_s", "area_mm2")
_QUANTITY = re.compile(r"\s*([-+]?[0-9][0-9.eE+-]*)\s*([A-Za-zµ]+)\s*")
_KEY = re.compile(r"""\s*("[^"]*"|'[^']*'|[A-Za-z0-9_.-]+)\s*=""")
_RANGE_KEYS = {"from", "to", "step", "powers_of_two", "count"}


@dataclass(frozen=True)
class Knob:
    """What differs between points.

    Attributes
    ----------
    name : str
        Field of the accelerator or of the workload.
    values : tuple
        What it takes, in order; empty for an expression.
    expression : Expression or None
        What it follows from.
    line : int
        Where it stands in the file.
    """

    name: str
    values: tuple[Any, ...]
    expression: Expression | None
    line: int


@dataclass(frozen=True)
class Workload:
    """A network and how it is trained; None is what a knob gives, or for `precision` the accelerator's own."""

    model: str | None
    batch: int | None
    precision: str | None
    optimizer: str | None
    recompute: str | None
    weight: float


@dataclass(frozen=True)
class Constraint:
    """What holds for points that count; `early` if it can be told without evaluating."""

    expression: Expression
    early: bool
    line: int


@dataclass(frozen=True)
class Space:
    """A checked design space.

    Attributes
    ----------
    name : str
        What reports call it.
    base : Accelerator
        Where every field that is no knob comes from.
    workloads : tuple of Workload
        One or more.
    knobs : tuple of Knob
        With values first, in the order of numbering, the slowest first; then expressions, each behind what it names.
    constraints : tuple of Constraint
        In the order of the file.
    objectives : tuple of str
        Columns; a minus sign before one that is maximised.
    target : str or None
        FPGA whose cells are columns, too.
    """

    name: str
    base: Accelerator
    workloads: tuple[Workload, ...]
    knobs: tuple[Knob, ...]
    constraints: tuple[Constraint, ...]
    objectives: tuple[str, ...]
    target: str | None = None

    @property
    def measured(self) -> tuple[str, ...]:
        """Columns that evaluation gives."""
        return MEASURED + (FPGA if self.target else ())

    @cached_property
    def axes(self) -> tuple[Knob, ...]:
        """Knobs that have values."""
        return tuple(knob for knob in self.knobs if knob.expression is None)

    @cached_property
    def size(self) -> int:
        """Points, excluded ones too."""
        return math.prod(len(knob.values) for knob in self.axes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that decides a point's figures."""
        return hashlib.sha256(json.dumps(self.described(), sort_keys=True).encode()).hexdigest()

    def described(self) -> dict[str, Any]:
        """Give all that decides a point's figures, for JSON."""
        return {
            "base": self.base.model_dump(mode="json"),
            "workloads": [vars(w) for w in self.workloads],
            "knobs": [[k.name, list(k.values), k.expression and k.expression.text] for k in self.knobs],
            "constraints": [c.expression.text for c in self.constraints],
            "objectives": list(self.objectives),
            "target": self.target,
        }

    def columns(self, numbers: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Give the knobs of points: name → ndarray of shape (n,); numbers as float64 or int64, texts as objects."""
        return self.with_expressions(self._axes_of(numbers))

    def _axes_of(self, numbers: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {}
        left = np.asarray(numbers, np.int64)
        for knob, values in zip(reversed(self.axes), reversed(self._values), strict=True):
            left, at = np.divmod(left, len(values))
            found[knob.name] = values[at]
        return {knob.name: found[knob.name] for knob in self.axes}

    def with_expressions(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Add the knobs that are expressions to the columns of the others."""
        found = dict(columns)
        size = len(next(iter(found.values()))) if found else 1
        names = self.fixed | found
        for knob in self.knobs:
            if knob.expression is not None:
                value = np.broadcast_to(np.asarray(knob.expression(names)), (size,))
                found[knob.name] = names[knob.name] = value.astype(object) if is_text(knob.name) else value
        return found

    @cached_property
    def _values(self) -> tuple[NDArray[Any], ...]:
        return tuple(np.array(knob.values, object if is_text(knob.name) else None) for knob in self.axes)

    @cached_property
    def fixed(self) -> dict[str, Any]:
        """Fields that are no knobs, by name."""
        found: dict[str, Any] = {}
        for name in FIELDS:
            part, _, field = name.rpartition(".")
            value = getattr(getattr(self.base, part) if part else self.base, field)
            found[name] = getattr(value, "value", value)
        if len(self.workloads) == 1:
            found.update({name: getattr(self.workloads[0], name) for name in WORKLOAD_FIELDS})
        return found

    def kept(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Which points the constraints of knobs and fields leave: ndarray of shape (n,)."""
        size = len(next(iter(columns.values()))) if columns else 1
        names, kept = self.fixed | dict(columns), np.ones(size, bool)
        for constraint in self.constraints:
            if constraint.early:
                kept &= np.asarray(constraint.expression(names), bool)
        return kept


def load_space(path: str | Path) -> Space:
    """Read a space file.

    Raises
    ------
    HwsimError
        If it cannot be read or breaks a rule: one sentence with file, line and field.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise HwsimError(f"cannot read space '{path}': {reason}") from None
    return read_space(text, str(path))


def read_space(text: str, file: str = "the space") -> Space:
    """Read a space from TOML text.

    Raises
    ------
    HwsimError
        If it breaks a rule: one sentence with file, line and field.

    Examples
    --------
    >>> space = read_space('''
    ... hardware = "edge-8x8-bf16"
    ... workload.model = "digits-mlp"
    ... [knobs]
    ... "array.rows" = { from = 4, to = 16, powers_of_two = true }
    ... "array.cols" = "2 * array.rows"
    ... ''')
    >>> space.size, space.columns(np.arange(3))["array.cols"].tolist()
    (3, [8, 16, 32])
    """
    return _Reader(text, file).space()


class _Reader:
    """One file being read; every error names its line."""

    def __init__(self, text: str, file: str) -> None:
        self.file, self.text = file, text
        self.lines = _key_lines(text)
        try:
            self.given: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise HwsimError(f"{file} is not valid TOML: {error}") from None

    def error(self, key: str, sentence: str) -> HwsimError:
        line = self.line(key)
        where = f"{self.file}, line {line}" if line else self.file
        return HwsimError(f"{where}: {sentence}")

    def line(self, key: str) -> int:
        return next((n for k, n in self.lines.items() if k == key or k.startswith(f"{key}.")), 0)

    def space(self) -> Space:
        known = ("name", "hardware", "workload", "knobs", "constraints", "objectives", "target")
        for key in self.given:
            if key not in known:
                raise self.error(key, f"unknown field '{key}'{_nearest(key, known)}; a space has {', '.join(known)}")
        base = self.base()
        target = self.target()
        self.measured = MEASURED + (FPGA if target else ())
        knobs = self.knobs()
        space = Space(
            name=self.text_of("name", Path(self.file).stem),
            base=base,
            workloads=self.workloads(knobs),
            knobs=self.ordered(knobs),
            constraints=self.constraints(knobs),
            objectives=self.objectives(),
            target=target,
        )
        if space.size > MOST_POINTS:
            raise self.error("knobs", f"a space has at most 2^62 points, not {space.size}; make ranges coarser")
        self.refuse_contradictions(space)
        return space

    def text_of(self, key: str, default: str) -> str:
        value = self.given.get(key, default)
        if not isinstance(value, str) or not value:
            raise self.error(key, f"field '{key}' must be a text, not {value!r}")
        return value

    def base(self) -> Accelerator:
        if "hardware" not in self.given:
            raise HwsimError(
                f"{self.file}: field 'hardware' is missing: a preset or a .toml file that knobs start from"
            )
        try:
            return load_accelerator(self.text_of("hardware", ""))
        except HwsimError as error:
            raise self.error("hardware", str(error)) from None

    def target(self) -> str | None:
        if "target" not in self.given:
            return None
        name = self.text_of("target", "")
        if name not in TARGETS:
            raise self.error("target", f"no fit of cells for target '{name}'; choose one of {', '.join(TARGETS)}")
        return name

    def workloads(self, knobs: Mapping[str, Knob]) -> tuple[Workload, ...]:
        given = self.given.get("workload", {})
        several = given if isinstance(given, list) else [given]
        if not several or not all(isinstance(w, dict) for w in several):
            raise self.error("workload", "field 'workload' must be a table, or several [[workload]]")
        return tuple(self.workload(index, w, knobs) for index, w in enumerate(several))

    def workload(self, index: int, given: Mapping[str, Any], knobs: Mapping[str, Knob]) -> Workload:
        def key(field: str) -> str:
            return f"workload.{index}.{field}"

        allowed = (*WORKLOAD_FIELDS, "weight")
        for field in given:
            if field not in allowed:
                raise self.error(
                    key(field),
                    f"unknown field '{field}' of a workload{_nearest(field, allowed)}; it has {', '.join(allowed)}",
                )
            if field in knobs:
                raise self.error(
                    f"knobs.{field}",
                    f"knob '{field}' is fixed by the workload in line {self.line(key(field))}; give one",
                )
        if "model" not in given and "model" not in knobs:
            raise self.error(f"workload.{index}", "field 'model' of the workload is missing; `hwsim models` lists them")
        values: dict[str, Any] = {f: None if f in knobs else DEFAULTS.get(f) for f in WORKLOAD_FIELDS}
        for field in given:
            if field != "weight":
                values[field] = self.checked(key(field), field, given[field], f"field '{field}'")
        weight = given.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise self.error(key("weight"), f"field 'weight' must be a number above 0, not {weight!r}")
        return Workload(**values, weight=float(weight))

    def knobs(self) -> dict[str, Knob]:
        given = self.given.get("knobs", {})
        if not isinstance(given, dict):
            raise self.error("knobs", "field 'knobs' must be a table")
        flat: dict[str, Any] = {}
        _flatten(given, "", flat)
        if not flat:
            raise self.error("knobs", "there is no knob; a space has one or more in [knobs]")
        allowed = (*FIELDS, *WORKLOAD_FIELDS)
        for name in flat:
            if name not in allowed:
                raise self.error(
                    f"knobs.{name}",
                    f"unknown field '{name}'{_nearest(name, allowed)}; a knob is a field of the accelerator or one of "
                    f"{', '.join(WORKLOAD_FIELDS)}",
                )
        return {name: self.knob(name, value) for name, value in flat.items()}

    def knob(self, name: str, given: Any) -> Knob:
        key, line = f"knobs.{name}", self.line(f"knobs.{name}")
        if isinstance(given, str) and (expression := self.expression_of(key, name, given)) is not None:
            return Knob(name, (), expression, line)
        if isinstance(given, dict):
            values = self.range(key, name, given)
        elif isinstance(given, list):
            values = [self.checked(key, name, value, f"knob '{name}'") for value in given]
        else:
            values = [self.checked(key, name, given, f"knob '{name}'")]
        if not values:
            raise self.error(key, f"knob '{name}' has no value; give one or more")
        if len(set(values)) < len(values):
            twice = next(v for i, v in enumerate(values) if v in values[:i])
            raise self.error(key, f"knob '{name}' has the value {twice} twice")
        return Knob(name, tuple(values), None, line)

    def expression_of(self, key: str, name: str, text: str) -> Expression | None:
        """Read a text as an expression, unless it is a value or a quantity."""
        if _QUANTITY.fullmatch(text):
            return None
        if is_text(name) and not re.search(r"\bif\b", text):
            return None
        try:
            return parse(text)
        except ExpressionError as error:
            raise self.error(key, f"knob '{name}': {error}") from None

    def checked(self, key: str, field: str, value: Any, what: str) -> Any:
        """Give a value in the field's unit and type."""
        number = self.quantity(key, field, value, what)
        try:
            return check_field(field, number)
        except ValueError as error:
            raise self.error(key, f"{what} = {value!r}: {error}") from None

    def quantity(self, key: str, field: str, value: Any, what: str) -> Any:
        if not isinstance(value, str) or is_text(field):
            return value
        match = _QUANTITY.fullmatch(value)
        units = next((u for end, u in UNITS.items() if field.endswith(end)), None)
        if match is None:
            raise self.error(key, f"{what} = {value!r}: input should be a number")
        if units is None or match[2] not in units:
            allowed = f"it takes {', '.join(units)}" if units else "it has no unit"
            raise self.error(key, f"{what} = {value!r}: unknown unit '{match[2]}'; {allowed}")
        try:
            number = float(match[1]) * units[match[2]]
        except ValueError:
            raise self.error(key, f"{what} = {value!r}: '{match[1]}' is not a number") from None
        return int(number) if number.is_integer() else number

    def range(self, key: str, name: str, given: Mapping[str, Any]) -> list[Any]:
        what = f"knob '{name}'"
        for field in given:
            if field not in _RANGE_KEYS:
                raise self.error(
                    key, f"{what}: unknown field '{field}'; a range has from, to and one of step, powers_of_two, count"
                )
        if is_text(name):
            raise self.error(key, f"{what} takes texts, and texts have no range; give a list")
        missing = next((f for f in ("from", "to") if f not in given), None)
        if missing:
            raise self.error(key, f"{what}: field '{missing}' of the range is missing")
        kinds = [f for f in ("step", "powers_of_two", "count") if f in given]
        if len(kinds) > 1:
            raise self.error(key, f"{what}: a range has one of step, powers_of_two, count, not {' and '.join(kinds)}")
        first, last = (self.checked(key, name, given[f], f"{what}, {f}") for f in ("from", "to"))
        if first > last:
            raise self.error(key, f"{what}: the range is empty: from {first} is above to {last}")
        kind = kinds[0] if kinds else "step"
        found = getattr(self, f"_by_{kind}")(key, what, name, given, first, last)
        if len(found) > MOST_VALUES:
            raise self.error(
                key, f"{what}: a knob has at most {MOST_VALUES} values, not {len(found)}; take larger steps"
            )
        return [self.checked(key, name, value, what) for value in found]

    def _by_step(self, key: str, what: str, name: str, given: Mapping[str, Any], first: Any, last: Any) -> list[Any]:
        step = self.quantity(key, name, given.get("step", 1), f"{what}, step")
        if isinstance(step, bool) or not isinstance(step, int | float) or not step > 0:
            raise self.error(key, f"{what}: step must be above 0, not {given['step']!r}")
        return [first + i * step for i in range(min(math.floor((last - first) / step + 1e-9), MOST_VALUES) + 1)]

    def _by_powers_of_two(
        self, key: str, what: str, name: str, given: Mapping[str, Any], first: Any, last: Any
    ) -> list[Any]:
        if given["powers_of_two"] is not True:
            raise self.error(key, f"{what}: powers_of_two must be true, not {given['powers_of_two']!r}")
        for end in (first, last):
            if math.frexp(end)[0] != 0.5:
                raise self.error(key, f"{what}: the ends of a range of powers of two must be such, not {end}")
        return [first * 2**i for i in range(round(math.log2(last / first)) + 1)]

    def _by_count(self, key: str, what: str, name: str, given: Mapping[str, Any], first: Any, last: Any) -> list[Any]:
        count = given["count"]
        if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= MOST_VALUES:
            raise self.error(key, f"{what}: count must be a whole number, 2 to {MOST_VALUES}, not {count!r}")
        found: list[Any] = np.linspace(first, last, count).tolist()
        return [round(v) for v in found] if isinstance(first, int) and isinstance(last, int) else found

    def ordered(self, knobs: Mapping[str, Knob]) -> tuple[Knob, ...]:
        """Axes by how much hangs on them, then expressions behind what they name."""

        def rank(knob: Knob) -> int:
            if knob.name in WORKLOAD_FIELDS:
                return 0
            return 3 if knob.name in PRICE_FIELDS else 2 if knob.name == SCRATCHPAD else 1

        done = sorted((k for k in knobs.values() if k.expression is None), key=rank)
        left = [k for k in knobs.values() if k.expression is not None]
        for knob in left:
            self.names_exist(f"knobs.{knob.name}", f"knob '{knob.name}'", knob.expression, (*FIELDS, *WORKLOAD_FIELDS))
        while left:
            waiting = {k.name for k in left}
            ready = [k for k in left if k.expression and waiting.isdisjoint(k.expression.names)]
            if not ready:
                names = " and ".join(f"'{k.name}'" for k in left)
                raise self.error(
                    f"knobs.{left[0].name}", f"the expressions of {names} name each other; give one values"
                )
            done += ready
            left = [k for k in left if k not in ready]
        if not any(k.expression is None for k in done):
            raise self.error("knobs", "there is no knob with values; a space has one or more")
        return tuple(done)

    def names_exist(self, key: str, what: str, expression: Expression | None, allowed: Sequence[str]) -> None:
        for name in expression.names if expression else ():
            if name not in allowed:
                raise self.error(
                    key,
                    f"{what}: unknown field '{name}' in '{expression and expression.text}'{_nearest(name, allowed)}",
                )

    def constraints(self, knobs: Mapping[str, Knob]) -> tuple[Constraint, ...]:
        given = self.given.get("constraints", [])
        if not isinstance(given, list) or not all(isinstance(c, str) for c in given):
            raise self.error("constraints", "field 'constraints' must be a list of texts")
        return tuple(self.constraint(text) for text in given)

    def constraint(self, text: str) -> Constraint:
        line = self.line_of_text(text)
        key = f"constraints@{line}"
        self.lines[key] = line
        try:
            expression = parse(text)
        except ExpressionError as error:
            raise self.error(key, f"constraint '{text}': {error}") from None
        self.names_exist(key, "constraint", expression, (*FIELDS, *WORKLOAD_FIELDS, *self.measured))
        late = any(name in self.measured for name in expression.names)
        return Constraint(expression, not late, line)

    def line_of_text(self, text: str) -> int:
        start = self.line("constraints")
        lines = self.text.splitlines()
        return next((n for n in range(max(start, 1), len(lines) + 1) if text in lines[n - 1]), start)

    def objectives(self) -> tuple[str, ...]:
        given = self.given.get("objectives", list(OBJECTIVES))
        if not isinstance(given, list) or not given or not all(isinstance(o, str) for o in given):
            raise self.error("objectives", "field 'objectives' must be a list of columns, one or more")
        for name in given:
            if name.removeprefix("-") not in self.measured:
                raise self.error(
                    "objectives",
                    f"unknown column '{name.removeprefix('-')}'{_nearest(name.removeprefix('-'), self.measured)}; "
                    f"an objective is one of {', '.join(self.measured)}",
                )
        if len({o.removeprefix("-") for o in given}) < len(given):
            raise self.error("objectives", "an objective is named twice")
        return tuple(given)

    def refuse_contradictions(self, space: Space) -> None:
        bounds = [(c, b) for c in space.constraints if (b := c.expression.bound) is not None]
        for low, below in ((c, b) for c, b in bounds if not b.upper):
            for high, above in ((c, b) for c, b in bounds if b.upper and b.name == below.name):
                both = below.included and above.included
                if above.number < below.number or (above.number == below.number and not both):
                    first, second = sorted((low, high), key=space.constraints.index)
                    raise HwsimError(
                        f"{self.file}, line {second.line}: constraint '{second.expression.text}' contradicts "
                        f"'{first.expression.text}' in line {first.line}; no {below.name} meets both"
                    )
        early = [c for c in space.constraints if c.early]
        if not early or space.size > LOOKED_AT or space.kept(space.columns(np.arange(space.size))).any():
            return
        named = " and ".join(f"'{c.expression.text}'" for c in early)
        raise HwsimError(
            f"{self.file}, line {early[0].line}: the constraint{'s' if len(early) > 1 else ''} {named} "
            f"exclude{'' if len(early) > 1 else 's'} every one of the {space.size} points"
        )


def _flatten(given: Mapping[str, Any], prefix: str, found: dict[str, Any]) -> None:
    """Bare dotted keys make tables; a table that is no range is such a key's beginning."""
    for name, value in given.items():
        if isinstance(value, dict) and value and not _RANGE_KEYS & set(value):
            _flatten(value, f"{prefix}{name}.", found)
        else:
            found[prefix + name] = value


def _nearest(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f", perhaps '{close[0]}'" if close else ""


def _key_lines(text: str) -> dict[str, int]:
    """Line of every key, by dotted path; tables of a list are numbered, and the one [workload] is number 0."""
    found: dict[str, int] = {}
    table, counts = "", {"workload": -1}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("["):
            header = re.match(r"\[\[?\s*([^\]]+?)\s*\]", stripped)
            if header and _KEY.match(line) is None:
                name = header[1].strip().strip("\"'")
                if name == "workload":
                    counts[name] += 1
                    name = f"workload.{counts[name]}"
                table = f"{name}."
                found.setdefault(name, number)
            continue
        match = _KEY.match(line)
        if match:
            key = match[1].strip("\"'")
            if not table and key.startswith("workload."):
                key = f"workload.0.{key.removeprefix('workload.')}"
            found.setdefault(table + key, number)
    return found
