"""A small reader of Liberty: what power needs of a cell library, and what its Boolean functions mean.

`read_liberty` gives a `Library`; docs/contracts/calibration.md says which attributes count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError

__all__ = ["Arc", "Cell", "Group", "Library", "Pin", "Table", "parse_liberty", "postfix", "read_liberty"]

_TOKEN = re.compile(r'"((?:[^"\\]|\\.|\\\n)*)"|([A-Za-z0-9_.+\-*/!&|^\'\[\]]+)|([(){}:;,])', re.DOTALL)
_SKIPPED = re.compile(r"/\*.*?\*/|\\\r?\n|//[^\n]*", re.DOTALL)
_PREFIXES = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3}
_LOAD, _SLEW = "total_output_net_capacitance", ("input_net_transition", "input_transition_time")
_STRENGTH = {"|": 1, "&": 2, "^": 3, "!": 4}


@dataclass(frozen=True)
class Group:
    """A statement with braces: its kind, its arguments, attributes by name, and the groups in it."""

    kind: str
    arguments: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    groups: tuple[Group, ...]

    def inner(self, kind: str) -> Iterator[Group]:
        """Give the groups of one kind right inside."""
        return (group for group in self.groups if group.kind == kind)

    def number(self, name: str, default: float = 0.0) -> float:
        """Give an attribute as a number."""
        return float(self.attributes[name][0]) if name in self.attributes else default


@dataclass(frozen=True, eq=False)
class Table:
    """Figures over input slew [ns] and output load [pF]; either axis may be missing.

    Attributes
    ----------
    slews, loads : ndarray
        Axes, rising; of length 1 where the table does not depend on it.
    values : ndarray of shape (slews, loads)
        Figures.
    """

    slews: NDArray[np.float64]
    loads: NDArray[np.float64]
    values: NDArray[np.float64]

    def at(self, slew_ns: float, load_pf: float) -> float:
        """Give the figure at a point: linear between entries and, as Liberty has it, beyond them.

        Examples
        --------
        >>> table = Table(np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([[0.0, 4.0], [1.0, 5.0]]))
        >>> table.at(0.5, 1.0), table.at(0.0, 3.0)
        (2.5, 6.0)
        """
        along = [_between(self.loads, row, load_pf) for row in self.values]
        return _between(self.slews, np.array(along), slew_ns)


@dataclass(frozen=True, eq=False)
class Arc:
    """Energy of a transition [pJ], or delay [ns], for one related pin; rise and fall.

    Attributes
    ----------
    related : str
        The pin that causes it; empty where it is the pin's own.
    tables : tuple of Table
        Of rise and of fall; one that is missing is left out.
    """

    related: str
    tables: tuple[Table, ...]

    def mean(self, slew_ns: float, load_pf: float) -> float:
        """Give the mean of rise and fall."""
        return sum(table.at(slew_ns, load_pf) for table in self.tables) / len(self.tables) if self.tables else 0.0


@dataclass(frozen=True, eq=False)
class Pin:
    """A pin of a cell: direction, capacitance [pF], function, internal energies [pJ] and delays [ns]."""

    name: str
    direction: str
    capacitance_pf: float
    function: str
    energies: tuple[Arc, ...]
    delays: tuple[Arc, ...]


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell.

    Attributes
    ----------
    area_um2, leakage_nw : float
        Its area and leakage.
    pins : mapping of str to Pin
        By name.
    state, inverse, next_state, clock : str
        Of a flip-flop: names of its state and of the complement, next state and clock as they are written; else empty.
    odd : str
        Why a netlist with this cell is refused; empty if it is not.
    """

    name: str
    area_um2: float
    leakage_nw: float
    pins: Mapping[str, Pin]
    state: str = ""
    inverse: str = ""
    next_state: str = ""
    clock: str = ""
    odd: str = ""


@dataclass(frozen=True, eq=False)
class Library:
    """A cell library: supply [V] and cells."""

    name: str
    voltage_v: float
    cells: Mapping[str, Cell] = field(default_factory=dict)


def read_liberty(path: Path) -> Library:
    """Read a Liberty file.

    Raises
    ------
    HwsimError
        If it cannot be read, or is none.
    """
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError as error:
        raise HwsimError(f"cannot read the cell library '{path}': {error.strerror}") from None
    return parse_liberty(text, str(path))


def parse_liberty(text: str, name: str = "library") -> Library:
    """Read the text of a Liberty file.

    Raises
    ------
    HwsimError
        If it is none, or has no supply voltage.
    """
    try:
        top = _parsed(_tokens(text))
        return _library(top, name)
    except (IndexError, ValueError, KeyError, StopIteration) as error:
        raise HwsimError(
            f"{name}: not a Liberty file that this project reads ({type(error).__name__}: {error})"
        ) from None


def postfix(function: str) -> tuple[str, ...]:
    """Give a Boolean function in postfix form: names of pins, and ``! & | ^``.

    Two factors side by side are a product; ``'`` after a name is its complement.

    Examples
    --------
    >>> postfix("(!((A B)+C))")
    ('A', 'B', '&', 'C', '|', '!')
    >>> postfix("A'*B ^ 1")
    ('A', '!', 'B', '1', '^', '&')
    """
    found: list[str] = []
    waiting: list[str] = []
    operand_before = False

    def put(operator: str) -> None:
        while waiting and waiting[-1] != "(" and _STRENGTH[waiting[-1]] >= _STRENGTH[operator]:
            found.append(waiting.pop())
        waiting.append(operator)

    for token in re.findall(r"[A-Za-z_0-9\[\]]+|[!'*&+|^()]", function):
        is_name = token not in "!'*&+|^()"
        if operand_before and (is_name or token in "(!"):
            put("&")
        if is_name:
            found.append(token)
        elif token == "'":
            found.append("!")
        elif token in "(!":
            waiting.append(token)
        elif token == ")":
            while waiting[-1] != "(":
                found.append(waiting.pop())
            waiting.pop()
        else:
            put({"*": "&", "+": "|"}.get(token, token))
        operand_before = is_name or token in ")'"
    return (*found, *reversed(waiting))


def _between(axis: NDArray[np.float64], values: NDArray[np.float64], at: float) -> float:
    if len(axis) == 1:
        return float(values[0])
    upper = min(max(int(np.searchsorted(axis, at)), 1), len(axis) - 1)
    share = (at - axis[upper - 1]) / (axis[upper] - axis[upper - 1])
    return float(values[upper - 1] + share * (values[upper] - values[upper - 1]))


def _tokens(text: str) -> Iterator[str]:
    for found in _TOKEN.finditer(_SKIPPED.sub(" ", text)):
        yield found[3] or found[2] or f'"{found[1]}'


def _parsed(tokens: Iterator[str]) -> Group:
    """The one group that a file is."""
    kind, _ = next(tokens), next(tokens)
    given = _arguments(tokens)
    if next(tokens) != "{":
        raise ValueError(f"no brace after {kind}")
    return _body(kind, given, tokens)


def _arguments(tokens: Iterator[str]) -> tuple[str, ...]:
    """What stands up to the closing parenthesis, and the brace or semicolon behind it is left to the caller."""
    found: list[str] = []
    for token in tokens:
        if token == ")":
            break
        if token != ",":
            found.append(token.removeprefix('"'))
    return tuple(found)


def _body(kind: str, arguments: tuple[str, ...], tokens: Iterator[str]) -> Group:
    """Statements up to the closing brace; the opening one has been read."""
    attributes: dict[str, tuple[str, ...]] = {}
    groups: list[Group] = []
    token = next(tokens)
    while token != "}":
        if token == ";":
            token = next(tokens)
            continue
        name, after = token, next(tokens)
        if after == ":":
            value = next(tokens).removeprefix('"')
            token = next(tokens)
            while token not in (";", "}") and token != "{":  # an expression, or a lost semicolon
                value, token = f"{value} {token}", next(tokens)
            attributes[name] = (value,)
            continue
        if after != "(":
            raise ValueError(f"neither attribute nor group: {name} {after}")
        given = _arguments(tokens)
        token = next(tokens)
        if token == "{":
            groups.append(_body(name, given, tokens))
            token = next(tokens)
        else:
            attributes[name] = given
    return Group(kind, arguments, attributes, tuple(groups))


def _library(top: Group, name: str) -> Library:
    if top.kind != "library":
        raise ValueError(f"begins with {top.kind}, not with library")
    capacitance = top.attributes["capacitive_load_unit"]
    pf = float(capacitance[0]) * _unit(capacitance[1].lower().removesuffix("f") + "F", "F") / 1e-12
    ns = _unit(top.attributes["time_unit"][0], "s") / 1e-9
    volts = _unit(top.attributes.get("voltage_unit", ("1V",))[0], "V")
    nw = _unit(top.attributes.get("leakage_power_unit", ("1nW",))[0], "W") / 1e-9
    supply_v = top.number("nom_voltage") * volts
    if supply_v <= 0:
        raise ValueError("nom_voltage is missing")
    axes = {g.arguments[0]: g for kind in ("lu_table_template", "power_lut_template") for g in top.inner(kind)}
    scales = _Scales(pf, ns, volts * volts * pf, nw, axes)  # energies are in volts² × farads
    return Library(name, supply_v, {g.arguments[0]: _cell(g, scales) for g in top.inner("cell")})


@dataclass(frozen=True)
class _Scales:
    """What a number of the file is in pF, ns, pJ and nW; templates by name."""

    pf: float
    ns: float
    pj: float
    nw: float
    templates: Mapping[str, Group]


def _unit(text: str, of: str) -> float:
    """Size of a unit such as ``1ns`` or ``10pF``, in SI."""
    found = re.fullmatch(rf"([\d.]*)([fpnumk]?){of}", text.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f"no unit of {of}: {text}")
    return float(found[1] or 1) * _PREFIXES[found[2].lower()]


def _cell(group: Group, scales: _Scales) -> Cell:
    pins = {p.arguments[0]: _pin(p, scales) for p in group.inner("pin")}
    flip_flop = next(group.inner("ff"), None)
    odd = "it is a latch" if next(group.inner("latch"), None) else ""
    cell = Cell(
        group.arguments[0], group.number("area"), group.number("cell_leakage_power") * scales.nw, pins, odd=odd
    )  # fmt: skip
    if flip_flop is None:
        return cell
    state, inverse, clock = *flip_flop.arguments, flip_flop.attributes["clocked_on"][0].strip("() ")
    if "clear" in flip_flop.attributes or "preset" in flip_flop.attributes:
        odd = "its flip-flop has an asynchronous reset"
    elif clock not in pins:
        odd = f"its flip-flop is clocked on '{clock}'"
    return Cell(
        cell.name, cell.area_um2, cell.leakage_nw, pins, state, inverse, flip_flop.attributes["next_state"][0], clock,
        odd,
    )  # fmt: skip


def _pin(group: Group, scales: _Scales) -> Pin:
    energies = [
        _arc(g, ("rise_power", "fall_power", "power"), scales, scales.pj) for g in group.inner("internal_power")
    ]
    delays = [_arc(g, ("cell_rise", "cell_fall"), scales, scales.ns) for g in group.inner("timing")]
    return Pin(
        group.arguments[0], group.attributes.get("direction", ("input",))[0], group.number("capacitance") * scales.pf,
        group.attributes.get("function", ("",))[0], tuple(arc for arc in energies if arc.tables),
        tuple(arc for arc in delays if arc.tables),
    )  # fmt: skip


def _arc(group: Group, kinds: tuple[str, ...], scales: _Scales, scale: float) -> Arc:
    tables = tuple(_table(g, scales, scale) for kind in kinds for g in group.inner(kind))
    return Arc(group.attributes.get("related_pin", ("",))[0], tables)


def _table(group: Group, scales: _Scales, scale: float) -> Table:
    """A table with its axes in the order slew, load."""
    values = np.array([_numbers(row) for row in group.attributes["values"]]) * scale
    template = scales.templates.get(group.arguments[0] if group.arguments else "")
    names = [] if template is None else [template.attributes.get(f"variable_{i}", ("",))[0] for i in (1, 2)]
    axes = [_axis(group, template, i) for i in (1, 2)]
    by_load = bool(names) and names[0] == _LOAD
    if values.size == 1 or template is None:
        return Table(np.zeros(1), np.zeros(1), values.reshape(-1)[:1].reshape(1, 1))
    if not names[1]:
        axis = axes[0]
        return (
            Table(np.zeros(1), axis * scales.pf, values.reshape(1, -1))
            if by_load
            else Table(axis * scales.ns, np.zeros(1), values.reshape(-1, 1))
        )
    if by_load:
        return Table(axes[1] * scales.ns, axes[0] * scales.pf, values.reshape(len(axes[0]), len(axes[1])).T)
    return Table(axes[0] * scales.ns, axes[1] * scales.pf, values.reshape(len(axes[0]), len(axes[1])))


def _axis(group: Group, template: Group | None, number: int) -> NDArray[np.float64]:
    name = f"index_{number}"
    for of in (group, template):
        if of is not None and name in of.attributes:
            return np.array(_numbers(" ".join(of.attributes[name])))
    return np.zeros(1)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.replace(",", " ").split()]
