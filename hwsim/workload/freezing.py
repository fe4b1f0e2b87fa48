"""Freeze layers: their parameters get neither gradient nor update."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from hwsim.errors import HwsimError
from hwsim.workload.graph import Graph, Role

__all__ = ["freeze"]


def freeze(graph: Graph, prefixes: str | Iterable[str]) -> Graph:
    """Return the graph with the parameters under each prefix not trainable.

    Parameters
    ----------
    graph : Graph
        A forward graph.
    prefixes : str or iterable of str
        Layers (``conv1``) or scopes (``layer1``, ``layer1.0``), whole names between dots: ``conv1`` is not ``conv10``.

    Raises
    ------
    HwsimError
        If there is no parameter under a prefix.
    """
    prefixes = (prefixes,) if isinstance(prefixes, str) else tuple(prefixes)
    parameters = [t for t in graph.tensors.values() if t.role in (Role.WEIGHT, Role.VECTOR_PARAMETER)]
    tensors = dict(graph.tensors)
    for prefix in prefixes:
        under = [t for t in parameters if t.name == prefix or t.name.startswith(f"{prefix}.")]
        if not under:
            known = ", ".join(dict.fromkeys(t.name.partition(".")[0] for t in parameters))
            raise HwsimError(f"freeze: no parameter of '{graph.name}' is under '{prefix}'; there are {known}")
        tensors.update((t.name, replace(t, trainable=False)) for t in under)
    return replace(graph, tensors=MappingProxyType(tensors))
