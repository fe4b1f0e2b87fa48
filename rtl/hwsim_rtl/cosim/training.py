"""Training on the RTL: every step of it is run by the generated machine and by the simulator, and compared.

`CosimMachine` is the simulator's machine with the RTL beside it; `CosimTraining` is `hwsim.values.training.Training`
on it. The host writes what a training's host writes, parameters once, then inputs, labels and programs, into the
memory of each; all else in the RTL's memory is what the RTL has stored there. docs/rtl-cosim.md says more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from hwsim.hardware import Accelerator
from hwsim.program import COMMAND_BYTES, encode
from hwsim.values import Dataset
from hwsim.values.machine import Bits, Machine, OpValues
from hwsim.values.training import KEPT_ROLES, LEARNT_ROLES, EpochRecord, StepCost, Training, sha256_of
from hwsim.workload import Graph, Optimizer, Precision, Role
from hwsim.workload.graph import Op
from hwsim_rtl.cosim.compare import LEAST_MEMORY_BYTES, Expected, Result, compare, job_of, timing_of
from hwsim_rtl.cosim.program import CosimProgram
from hwsim_rtl.cosim.programs import graph_program
from hwsim_rtl.cosim.session import Session
from hwsim_rtl.cosim.simulator import build_bench
from hwsim_rtl.registers import REGISTERS

__all__ = ["CosimMachine", "CosimStep", "CosimTraining"]

_SEED = next(register.offset for register in REGISTERS if register.name == "SEED")
_WORD = 4


class CosimMachine(Machine):
    """A machine whose every run is done by the RTL, too; memory, starts and ends of commands are compared after each.

    Attributes
    ----------
    rtl_memory : ndarray of shape (bytes,), dtype uint8
        What the RTL's memory held after its last run: tensors where `core.dram` has them, then programs.
    results : list of Result
        Of the runs since they were last taken away, without their memories.
    host_bytes : int
        Written into the RTL's memory by the host so far.

    Parameters
    ----------
    graph, hw, seed
        As of `Machine`.
    cache : Path
        Folder of built models.

    Raises
    ------
    HwsimError
        As `Machine`; or if an op needs what the RTL does not have, or a tool is missing.
    """

    def __init__(self, graph: Graph, hw: Accelerator, *, seed: int = 1, cache: Path) -> None:
        super().__init__(graph, hw, seed=seed)
        self._seed, self._cache = seed, cache
        self._programs_at = -(-self.core.dram.size // COMMAND_BYTES) * COMMAND_BYTES
        commands = sum(len(self._linked[op.name].flat) for op in graph.ops)
        # The simulator's memory gets room for programs, too, so that the whole of both can be compared.
        self._memory: NDArray[np.uint8] = np.zeros(self._programs_at + COMMAND_BYTES * commands, np.uint8)
        self._memory[: self.core.dram.size] = self.core.dram
        self.core.dram = self._memory[: self.core.dram.size]
        self._places: dict[tuple[str, ...], int] = {}
        self._free = self._programs_at
        self._written: set[str] = set()
        self._session: Session | None = None
        self.rtl_memory: NDArray[np.uint8] = np.zeros_like(self._memory)
        self.results: list[Result] = []
        self.host_bytes = 0
        graph_program(self, graph.ops, graph.name)  # refuses what the RTL does not have

    def restore(self, name: str, bits: Bits) -> None:
        """Store bits in the simulator's memory now, and in the RTL's before its next run."""
        super().restore(name, bits)
        self._written.add(name)

    def rtl_stored(self, name: str) -> Bits:
        """Give the bits of a tensor as `stored` does, from the RTL's memory."""
        return self.stored_in(self.rtl_memory, name)

    def run(self, ops: Sequence[Op] | None = None, *, step_number: int = 1) -> list[OpValues]:
        """Execute the programs of some ops, or of all, in order, as one program on the RTL.

        Differences are in `results`; they do not stop anything.

        Raises
        ------
        HwsimError
            If a tensor of 32-bit words has an exponent, or the simulation fails.
        """
        chosen = list(self.graph.ops if ops is None else ops)
        name = f"{self.graph.name}, step {step_number}"
        linked = graph_program(self, chosen, name, seed=self._seed, step_number=step_number)
        program = replace(linked, image=self._memory, address=self._place(chosen, len(linked.flat)))
        patches = self._patches(program)
        first = self._session is None
        image = self._memory.copy() if first else None
        counts = super().run(chosen, step_number=step_number)
        expected = Expected(self._memory, *timing_of(self.hw, program.flat))
        job = job_of(program, expected, slack=0, seed=1)
        if first:
            size = max(self._memory.size, LEAST_MEMORY_BYTES)
            self._session = Session(build_bench(self.hw, self._cache, 1 << (size - 1).bit_length()))
            job, self.host_bytes = replace(job, image=image), self._memory.size
        else:
            # A seed begins the random words anew; they go on from program to program.
            writes = [(offset, value) for offset, value in job.writes if offset != _SEED]
            job = replace(job, image=None, patches=patches, writes=writes)
            self.host_bytes += sum(data.size for data in patches.values())
        assert self._session is not None
        run = self._session.run(job)
        result = compare(program, expected, run, exact=True)
        self.rtl_memory = run.memory
        nothing = replace(run, memory=run.memory[:0], events=run.events[:0])
        self.results.append(replace(result, run=nothing))
        return counts

    def close(self) -> None:
        """End the simulation of the RTL."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _place(self, ops: Sequence[Op], commands: int) -> int:
        """Give a list of ops a place of its own for its program, behind the tensors."""
        names = tuple(op.name for op in ops)
        if names not in self._places:
            if self._free + COMMAND_BYTES * commands > self._memory.size:  # other lists than a step's: begin anew
                self._places.clear()
                self._free = self._programs_at
            self._places[names] = self._free
            self._free += COMMAND_BYTES * commands
        return self._places[names]

    def _patches(self, program: CosimProgram) -> dict[int, NDArray[np.uint8]]:
        """Give what the host has written since the last run: tensors, and the program where it has changed."""
        spans = [program.tensors[name] for name in self._written]
        self._written.clear()
        code = encode(program.flat).view(np.uint8).ravel()
        place = self._memory[program.address : program.address + code.size]
        if not np.array_equal(place, code):
            place[:] = code
            spans.append((program.address, program.address + code.size))
        return {low: self._memory[low : -(-high // _WORD) * _WORD].copy() for low, high in sorted(spans)}


@dataclass(frozen=True)
class CosimStep:
    """One step of training on both; what is called `rtl_…` comes from the RTL's memory and registers.

    Attributes
    ----------
    step : int
        Number, from 1.
    loss, rtl_loss : float
        Of the step.
    commands : int
        Of its programs.
    cycles, rtl_cycles : int
        Of its programs, each from its start to its end.
    weights_sha256, rtl_weights_sha256 : str
        Of weights, vector parameters and masters, after the step.
    state_sha256, rtl_state_sha256 : str
        Of these, of running statistics, the optimizer's state, and all statistics: the loss is one.
    differences : tuple of str
        Of memory, starts, ends and counters, the first of each kind and program.
    """

    step: int
    loss: float
    rtl_loss: float
    commands: int
    cycles: int
    rtl_cycles: int
    weights_sha256: str
    rtl_weights_sha256: str
    state_sha256: str
    rtl_state_sha256: str
    differences: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return (
            not self.differences
            and self.cycles == self.rtl_cycles
            and self.weights_sha256 == self.rtl_weights_sha256
            and self.state_sha256 == self.rtl_state_sha256
        )


class CosimTraining:
    """A network in training on the RTL and on the simulator; use it in a ``with`` statement.

    Attributes
    ----------
    training : Training
        What trains; its machine is a `CosimMachine`.
    steps : list of CosimStep
        Those that are done.

    Parameters
    ----------
    graph, hw, data, cost, optimizer, precision, recompute, seed
        As of `Training`.
    cache : Path
        Folder of built models.

    Raises
    ------
    HwsimError
        As `Training`; or if an op needs what the RTL does not have.
    """

    def __init__(
        self,
        graph: Graph,
        hw: Accelerator,
        data: Dataset,
        *,
        cost: StepCost,
        cache: Path,
        optimizer: str | Optimizer = "momentum",
        precision: str | Precision | None = None,
        recompute: str = "none",
        seed: int = 1,
    ) -> None:
        machines: list[CosimMachine] = []

        def machine(graph: Graph, hw: Accelerator, *, seed: int) -> Machine:
            """Make the first one, which trains, with the RTL; the other one tests."""
            if machines:
                return Machine(graph, hw, seed=seed)
            machines.append(CosimMachine(graph, hw, seed=seed, cache=cache))
            return machines[0]

        self.training = Training(
            graph, hw, data, cost=cost, optimizer=optimizer, precision=precision, recompute=recompute, seed=seed,
            machine=machine,
        )  # fmt: skip
        self._machine = machines[0]
        self.steps: list[CosimStep] = []

    def __enter__(self) -> CosimTraining:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._machine.close()

    @property
    def mismatches(self) -> int:
        """Steps that differ."""
        return sum(not step.equal for step in self.steps)

    def run(
        self,
        epochs: int,
        steps: int | None = None,
        *,
        stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[CosimStep], None] = lambda step: None,
    ) -> list[EpochRecord]:
        """Train; end after the first step that differs.

        Parameters
        ----------
        epochs : int
            Most epochs.
        steps : int, optional
            Most steps.
        stop : callable, optional
            Asked after every step.
        on_step : callable, optional
            Called after every step.

        Returns
        -------
        list of EpochRecord
            The epochs that were finished; their tests are the simulator's, with the weights of both.

        Raises
        ------
        TrainingError
            If an infinity or a NaN appeared.
        HwsimError
            If the simulation fails.
        """

        def ends() -> bool:
            """Say whether this was the last step, in the midst of an epoch."""
            return stop() or self.mismatches > 0 or (steps is not None and len(self.steps) >= steps)

        def done() -> None:
            """Compare the step that has just been done."""
            self.steps.append(self._step())
            on_step(self.steps[-1])

        while len(self.training.records) < epochs:
            if self.training.train_epoch(ends, done) is None:
                break
        return self.training.records

    def _step(self) -> CosimStep:
        training, machine = self.training, self._machine
        results, machine.results = machine.results, []
        loss = machine.rtl_stored(training.loss_tensor).reshape(-1)[0]
        roles = (*KEPT_ROLES, Role.STATISTIC)
        return CosimStep(
            step=training.steps,
            loss=training.losses[-1],
            rtl_loss=float(loss),
            commands=sum(result.commands for result in results),
            cycles=sum(result.expected_cycles for result in results),
            rtl_cycles=sum(result.cycles for result in results),
            weights_sha256=training.weights_sha256(),
            rtl_weights_sha256=sha256_of(training.step, LEARNT_ROLES, machine.rtl_stored),
            state_sha256=sha256_of(training.step, roles, machine.stored),
            rtl_state_sha256=sha256_of(training.step, roles, machine.rtl_stored),
            differences=tuple(d for result in results for d in result.differences()),
        )
