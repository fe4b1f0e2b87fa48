"""What the words in hwsim's output mean: `hwsim explain TERM`, from explain.toml beside this file.

One spelling may stand for several things ("parameters" is a key of the JSON and a category of memory): each is given
with its kind.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources

from hwsim.errors import HwsimError

__all__ = ["Entry", "entries", "explain", "one_line"]


@dataclass(frozen=True)
class Entry:
    """A term's names (the first is how it is written), its kind, and its meaning in a few sentences."""

    names: tuple[str, ...]
    kind: str
    text: str


def explain(term: str) -> tuple[Entry, ...]:
    """Give every meaning of a term; case, ``-``, ``_`` and blanks do not matter, nor does the part before a dot.

    Raises
    ------
    HwsimError
        Unknown term; the message suggests the nearest ones.

    Examples
    --------
    >>> [e.kind for e in explain("rest-free")]
    ['stall cause']
    >>> explain("Time_S")[0].text
    'Seconds: cycles ÷ clock.'
    """
    wanted = _plain(term)
    spellings: dict[str, list[Entry]] = {}
    for entry in entries():
        for name in dict.fromkeys(s for n in entry.names for s in (_plain(n), _plain(n.rsplit(".", 1)[-1]))):
            spellings.setdefault(name, []).append(entry)
    exact = [e for e in spellings.get(wanted, ()) if wanted in map(_plain, e.names)]
    found = exact or spellings.get(wanted, [])
    if not found:
        near = get_close_matches(wanted, spellings, n=4, cutoff=0.6)
        near += [name for name in spellings if len(wanted) > 2 and wanted in name and name not in near][: 4 - len(near)]
        names = dict.fromkeys(_written(spellings[name][0], name) for name in near)
        hint = f"did you mean {' or '.join(names)}?" if names else "`hwsim explain` lists the terms"
        raise HwsimError(f"unknown term '{term}'; {hint}")
    return tuple(found)


def one_line(term: str, kind: str) -> str:
    """Give the first sentence of a term's meaning, empty if there is none of this kind.

    >>> one_line("port", "stall cause")
    'The one memory port was serving another load or store.'
    """
    found = next((e.text for e in entries() if e.kind == kind and term in e.names), "")
    return found.split(". ")[0].rstrip(".") + "." if found else ""


@cache
def entries() -> tuple[Entry, ...]:
    """Give all entries, in the order in which they are listed."""
    text = (resources.files("hwsim") / "explain.toml").read_text("utf-8")
    kinds = tomllib.loads(text)
    return tuple(
        Entry(tuple(name.strip() for name in names.split(",")), kind, meaning)
        for kind, terms in kinds.items()
        for names, meaning in terms.items()
    )


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c not in " -_")


def _written(entry: Entry, plain: str) -> str:
    return next((name for name in entry.names if _plain(name) == plain), entry.names[0])
