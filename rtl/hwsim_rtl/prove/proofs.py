"""All proofs, at the parameters of the machines that hwsim describes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from hwsim.hardware import load_accelerator
from hwsim.program import COMMAND_BYTES
from hwsim_rtl.control.spec import FetchSpec, QueueSpec, SemaphoresSpec, TicketsSpec, WaitsSpec
from hwsim_rtl.dma.box import Geometry
from hwsim_rtl.dma.spec import PendingSpec, WalkSpec
from hwsim_rtl.prove.flow import Proof

__all__ = ["PROOFS"]

_EDGE = Geometry.of(load_accelerator("edge-8x8-bf16"))
_QUEUE = "no item lost, doubled, changed or overtaken; never over-full"
_TICKETS = "each store lets as many loads pass as it must; no turn is lost"
_WAITS = "the next command lacks a token if and only if one is missing"
_FETCH = "each command asked for once, has a place, comes whole and in order"
_PENDING = "no beat lost, changed or overtaken; each leaves in its time, not before"
_WALK = "exactly lines × beats, each at its address, no byte or lane outside; none lost"


def _queue(depth: int) -> Proof:
    return Proof(f"queue-{depth}", f"Queue, {depth} × 4 bits", _QUEUE, partial(QueueSpec, 4, depth))


def _fetch(bytes_per_cycle: int, latency: int, reach: int) -> Proof:
    """δ = 128 ÷ bytes; all places are taken after so many requests, δ apart."""
    pace = COMMAND_BYTES // bytes_per_cycle
    component = f"Fetch, δ = {pace}, Λ = {latency}"
    spec = partial(FetchSpec, bytes_per_cycle, latency)
    return Proof(f"fetch-{pace}", component, _FETCH, spec, reach=(reach, reach + 2))


def _pending(latency: int) -> Proof:
    spec = partial(PendingSpec, latency)
    return Proof(f"pending-{latency}", f"Pending, Λ = {latency}", _PENDING, spec, reach=(latency + 5, latency + 8))


def _walk(name: str, geometry: Geometry) -> Proof:
    component = f"BoxGenerator, C = {geometry.cols}, D = {geometry.deep}, B = {geometry.beat_bytes}"
    return Proof(f"walk-{name}", component, _WALK, partial(WalkSpec, geometry), reach=(13, 15))


PROOFS = (
    Proof(
        "semaphores", "Semaphores, 10", "no token lost or made; no counter wraps; every fault is flagged",
        SemaphoresSpec, reach=(64, 66),
    ),
    *(_queue(depth) for depth in (1, 3, 8, 16)),
    *(Proof(f"waits-{depth}", f"Waits, Q = {depth}", _WAITS, partial(WaitsSpec, depth)) for depth in (1, 3, 8)),
    Proof("tickets-3", "Tickets, Q = 3", _TICKETS, partial(TicketsSpec, 3), reach=(8, 10)),
    Proof("tickets-8", "Tickets, Q = 8", _TICKETS, partial(TicketsSpec, 8), steps=9, bounded=True, reach=(18, 20)),
    _fetch(128, 3, 12),
    _fetch(16, 26, 52),
    _fetch(8, 26, 67),
    *(_pending(latency) for latency in (1, 2, 3, 4, 25, 26, 60)),
    _walk("8x8", _EDGE),
    _walk("6x12", replace(_EDGE, cols=6, deep=12)),
)  # fmt: skip
