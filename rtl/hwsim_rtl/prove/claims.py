"""What a specification is written with: claims, assumptions, states that must be reachable, and a look inside."""

from __future__ import annotations

import sys
from functools import partial
from types import FrameType
from typing import Any

from amaranth.hdl import Assert, Assume, Const, Cover, Elaboratable, Fragment, Module, Signal, Value
from amaranth.hdl._mem import MemoryInstance
from amaranth.lib import data

__all__ = ["Claims", "Inside", "Prover"]


class Prover:
    """Platform of specifications that are proven: their claims hold in every state, whatever the inputs are.

    Parameters
    ----------
    helped : bool
        Whether to claim what makes the rest follow by induction, too.
    """

    def __init__(self, helped: bool = True) -> None:
        self.helped = helped


class Claims:
    """Claims of a specification. All begin with a text, unique in it, by which a failed one is named.

    A prover judges them as functions of state and inputs. In Amaranth's simulator they are judged at the clock's edge,
    when all is settled.

    Parameters
    ----------
    m : Module
        Of the specification.
    platform : object
        That `elaborate` was given.
    """

    def __init__(self, m: Module, platform: Any) -> None:
        self._proves = isinstance(platform, Prover)
        self._helped = not self._proves or platform.helped
        self._domain = m.d.comb if self._proves else m.d.sync

    def given(self, text: str, condition: Value) -> None:
        """Assume a rule that the owner of the component keeps."""
        self._domain += Assume(condition, text)

    def holds(self, text: str, condition: Value) -> None:
        """Claim what the component promises."""
        self._domain += Assert(condition, text)

    def helps(self, text: str, condition: Value) -> None:
        """Claim what is so inside, and makes the promises follow from themselves a cycle earlier."""
        if self._helped:
            self._domain += Assert(condition, text)

    def seen(self, text: str, condition: Value) -> None:
        """Claim that a cycle is reachable in which this is so; without it, the others might hold of nothing."""
        if self._proves:
            self._domain += Cover(condition, text)


class Inside:
    """An elaborated component whose registers and memories a specification may look at.

    Parameters
    ----------
    component : Elaboratable
        The component.
    platform : object
        That `elaborate` of the specification was given.

    Attributes
    ----------
    fragment : Fragment
        What to add to the specification as a submodule, in place of the component.
    """

    def __init__(self, component: Elaboratable, platform: Any) -> None:
        self._ports = 0
        self._locals: dict[str, Any] = {}
        before = sys.getprofile()
        sys.setprofile(partial(self._keep, component))
        try:
            self.fragment = Fragment.get(component, platform)
        finally:
            sys.setprofile(before)

    def _keep(self, component: Elaboratable, frame: FrameType, event: str, _: Any) -> None:
        """Keep what the component's functions call their signals: those made in a tuple have no names of their own."""
        if event == "return" and frame.f_locals.get("self") is component:
            for name, value in frame.f_locals.items():
                if isinstance(value, (Signal, data.View)):
                    self._locals[name] = value  # `elaborate` returns last

    def __getitem__(self, path: str) -> Any:
        """Give a signal by the name of the variable that holds it in the component, or, of a submodule, by the names
        of submodules and its own, with dots between.
        """
        if "." not in path:
            return self._locals[path]
        fragment, name = self._find(path)
        found = {
            id(signal): signal
            for statements in fragment.statements.values()
            for statement in statements
            for signal in statement._lhs_signals()
            if signal.name == name
        }
        if len(found) != 1:
            raise KeyError(f"{len(found)} signals are named {path}")
        return next(iter(found.values()))

    def peek(self, m: Module, path: str, address: Value) -> Signal:
        """Give what a memory inside holds at an address, by one more read port."""
        memory = self._memory(path)
        self._ports += 1
        bits = (memory._data.depth - 1).bit_length()
        at, item = Signal(bits, name=f"peek_at_{self._ports}"), Signal(memory._data.shape, name=f"peek_{self._ports}")
        m.d.comb += at.eq(address)
        memory.read_port(domain="comb", addr=at, data=item, en=Const(1), transparent_for=())
        return item

    def ends(self, path: str) -> tuple[Value, Value]:
        """Give the addresses at which a queue's memory is read and written: those of its first ports."""
        memory = self._memory(path)
        return memory._read_ports[0]._addr, memory._write_ports[0]._addr

    def _memory(self, path: str) -> MemoryInstance:
        fragment, name = self._find(path)
        memory = fragment.find_subfragment(name)
        assert isinstance(memory, MemoryInstance)
        return memory

    def _find(self, path: str) -> tuple[Any, str]:
        *names, last = path.split(".")
        fragment = self.fragment
        for name in names:
            fragment = fragment.find_subfragment(name)
        return fragment, last
