"""Do the proofs hold, and do they fail for components that are broken?

Here the quicker ones; ``make prove`` runs all. A broken component is its own source with one expression changed, and
its failure is a trace from the reset, not a state that can't be reached.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from amaranth.hdl import C, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hwsim_rtl.control import fetch, queue, semaphores, tickets, waits
from hwsim_rtl.dma import pending, walk
from hwsim_rtl.prove.claims import Claims
from hwsim_rtl.prove.flow import Proof, prove
from hwsim_rtl.prove.proofs import PROOFS

BY_NAME = {proof.name: proof for proof in PROOFS}
QUICK = [
    "semaphores",
    "queue-1",
    "queue-3",
    "queue-8",
    "waits-1",
    "waits-8",
    "pending-3",
    "pending-4",
    "fetch-1",
    "walk-8x8",
]
#: By what is broken: proof, component, its module, text, other text, cycles from the reset to the failure, what fails.
BROKEN = {
    "a second token of one cycle is lost": (
        "semaphores", "Semaphores", semaphores, "tokens + posted", "tokens + (posted != 0)", 4, "counted right",
    ),
    "a post is not told of": (
        "semaphores", "Semaphores", semaphores, "none[s] & ~posts.any()", "none[s]", 4, "lacking if none will be",
    ),
    "an underflow is not flagged": (
        "semaphores", "Semaphores", semaphores, "(none[s] & taken) | _two(takes)", "none[s] & taken", 4, "underflow is",
    ),
    "a queue takes one item more": (
        "queue-3", "Queue", queue, "level == self.depth - 1)", "level == self.depth)", 8, "as many as places",
    ),
    "a full queue has no place to write to": (
        "queue-3", "Queue", queue, "place == places - 1", "place == places - 2", 8, "in its turn",
    ),
    "an item is lost if another one leaves": (
        "queue-8", "Queue", queue, "write.en.eq(1)", "write.en.eq(~self.pop)", 8, "in its turn",
    ),
    "a unit takes a token twice": (
        "waits-3", "Waits", waits, "self.lacking | (self.last & self.waits)", "self.lacking", 6, "lacks a token",
    ),
    "the command behind the next one is forgotten": (
        "waits-3", "Waits", waits, "level > 1, second", "level > 2, second", 8, "lacks a token",
    ),
    "a store's turn is missed": (
        "tickets-3", "Tickets", tickets, "oldest == (started + 1)[:bits]", "oldest == started", 6, "turn",
    ),
    "a store overtakes another": (
        "tickets-3", "Tickets", tickets, "Mux(self.defer > slack, self.defer, slack)", "self.defer", 6, "turn",
    ),
    "a beat leaves a cycle early": (
        "pending-3", "Pending", pending, "oldest.eq(old + age[-1])", "oldest.eq(old + age[-2])", 8, "before its time",
    ),
    "a beat that leaves is counted on": (
        "pending-3", "Pending", pending, "old.eq(oldest - left)", "old.eq(oldest)", 8, "before its time",
    ),
    "a walk goes one beat too far": (
        "walk-8x8", "BoxGenerator", walk, "eq(left == 2)", "eq(left == 1)", 6, "not before",
    ),
    "a walk loses the beat that waits": (
        "walk-8x8", "BoxGenerator", walk, "waits.eq(walked)", "waits.eq(0)", 5, "not before",
    ),
    "a beat has a byte beyond its line": (
        "walk-8x8", "BoxGenerator", walk, "left >= g.beat_bytes, g", "left >= g.beat_bytes - 1, g", 6, "line's end",
    ),
    "a request has no place in the buffer": (
        "fetch-1", "Fetch", fetch, "free.eq(places)", "free.eq(places + 1)", 12, "all that is asked for has a place",
    ),
}  # fmt: skip


@pytest.fixture
def cache(request) -> Path:
    return Path(request.config.cache.mkdir("hwsim-proofs"))


def broken(module: ModuleType, name: str, text: str, other: str) -> Any:
    """Class of a module in whose source one expression is changed."""
    source = Path(module.__file__).read_text("utf-8")
    assert source.count(text) == 1, f"{module.__name__} has {source.count(text)} times {text}"
    changed = ModuleType(module.__name__)
    sys.modules[changed.__name__], kept = changed, sys.modules[changed.__name__]
    try:
        exec(compile(source.replace(text, other), module.__file__, "exec"), changed.__dict__)
    finally:
        sys.modules[changed.__name__] = kept
    return getattr(changed, name)


@pytest.mark.parametrize("name", QUICK)
def test_proofs_hold(name, cache):
    assert prove(BY_NAME[name], cache).failure is None


@pytest.mark.parametrize("what", BROKEN)
def test_broken_components_fail(what, cache, monkeypatch):
    name, component, module, text, other, cycles, fails = BROKEN[what]
    proof = BY_NAME[name]
    spec = proof.spec()
    monkeypatch.setitem(sys.modules[type(spec).__module__].__dict__, component, broken(module, component, text, other))
    failure = prove(Proof(what, "", "", lambda: spec, steps=cycles, bounded=True, helped=False), cache).failure
    assert failure is not None
    assert failure.startswith("base: ")
    assert fails in failure


class Toy(wiring.Component):
    """A counter from 0 to 5; what is claimed and covered is given."""

    def __init__(self, *, below=8, reach=5, given=0) -> None:
        self.below, self.reach, self.given = below, reach, given
        super().__init__({"step": In(1)})

    def elaborate(self, platform):
        m, count = Module(), Signal(4)
        claims = Claims(m, platform)
        m.d.sync += count.eq(count + self.step)
        with m.If(count == 5):
            m.d.sync += count.eq(0)
        claims.given("a rule", C(1) if self.given is None else ~self.step | (count >= self.given))
        claims.holds("small", count < self.below)
        claims.seen("reached", count == self.reach)
        return m


def outcome(cache, steps=1, **toy):
    return prove(Proof("toy", "", "", lambda: Toy(**toy), steps=steps), cache).failure


def test_claims_hold_by_induction_or_not_at_all(cache):
    assert outcome(cache, below=6) is None
    assert outcome(cache, below=8) == "induction: small"  # true of every state that is reached, and 7 is followed by 8
    assert outcome(cache, below=2) == "base: small"


def test_what_cannot_be_seen_fails(cache):
    assert outcome(cache, below=6, reach=6) == "cover: reached"
    assert outcome(cache, below=6, given=3) == "cover: reached"  # an assumption that lets nothing happen


def test_assumptions_that_contradict_each_other_fail(cache):
    class Never(Toy):
        def elaborate(self, platform):
            m = super().elaborate(platform)
            Claims(m, platform).given("nothing", C(0))
            return m

    assert prove(Proof("never", "", "", Never), cache).failure == "base: the assumptions contradict each other"


def test_a_proof_is_kept(cache, tmp_path):
    proof = Proof("toy", "", "", lambda: Toy(below=6))
    first, second = prove(proof, tmp_path), prove(proof, tmp_path)
    assert (first.cached, second.cached) == (False, True)
    assert (first.failure, first.claims, first.covers) == (second.failure, second.claims, second.covers) == (None, 1, 1)


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "hwsim_rtl.prove", "--cache", str(tmp_path), "--only"]
    run = subprocess.run([*command, "queue-3"], capture_output=True, text=True, check=False)
    assert run.returncode == 0
    assert "1 proofs, 0 failed" in run.stdout
    run = subprocess.run([*command, "nothing"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.split(";")[0]) == (1, "no proof is named like nothing")
