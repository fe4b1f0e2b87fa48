"""The instances of a design, from its Verilog text: who is inside whom, and which of them keep a boundary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Hierarchy"]

_MODULE = re.compile(r"^module (\\?\S+?)\s*\(.*?^endmodule", re.MULTILINE | re.DOTALL)
_INSTANCE = re.compile(r"^  (\\?[A-Za-z_]\S*) +(\\?[A-Za-z_]\S*) +\($", re.MULTILINE)


@dataclass(frozen=True)
class Hierarchy:
    r"""Instances by module.

    Attributes
    ----------
    modules : dict of str to tuple of (str, str)
        By module, its instances: name and module.
    top : str
        The module that no other holds.

    Examples
    --------
    >>> text = "module a(x);\nendmodule\nmodule top(x);\n  a first (\n  );\n  a second (\n  );\nendmodule"
    >>> tree = Hierarchy.of(text)
    >>> tree.top, [path for path, _ in tree.walk()]
    ('top', ['first', 'second'])
    """

    modules: dict[str, tuple[tuple[str, str], ...]]
    top: str

    @classmethod
    def of(cls, text: str) -> Hierarchy:
        """Read it from Verilog that `hwsim_rtl.verilog.emit` wrote."""
        modules = {
            _plain(found[1]): tuple((_plain(name), _plain(module)) for module, name in _INSTANCE.findall(found[0]))
            for found in _MODULE.finditer(text)
        }
        inside = {module for instances in modules.values() for _, module in instances}
        return cls(modules, next(name for name in modules if name not in inside))

    def walk(self, module: str | None = None, path: str = "") -> Iterator[tuple[str, str]]:
        """Give the path and the module of every instance, from the top inwards."""
        for name, inner in self.modules.get(module or self.top, ()):
            place = f"{path}.{name}" if path else name
            yield place, inner
            yield from self.walk(inner, place)


def _plain(name: str) -> str:
    return name.removeprefix("\\")
