"""Random legal programs for a whole machine, and what legal means as far as times and values show it."""

from __future__ import annotations

import numpy as np

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.mapping.layout import dispatch_cycles
from hwsim.program import HAND_OVER_CYCLES, SEMAPHORE_NAMES, Field, Unit
from hwsim.program.fields import Row
from hwsim.timing import command_times, simulate_events
from hwsim.values.machine import Core, order_of
from hwsim_rtl.cosim.program import CosimProgram
from hwsim_rtl.cosim.programs import random_graph_program, tiling_program
from hwsim_rtl.cosim.streams import stream_program

__all__ = ["check_legal", "random_programs"]

_KINDS = (stream_program, tiling_program, random_graph_program)
_SHARES = (0.5, 0.25, 0.25)


def random_programs(hw: Accelerator, n: int, seed: int) -> list[CosimProgram]:
    """Draw programs: streams of commands that no mapping makes, matrix segments in random tilings, ops of graphs.

    Parameters
    ----------
    hw : Accelerator
        What they are for.
    n : int
        How many.
    seed : int
        Of all that is random; program number i is the same whatever `n`.
    """
    found = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        make = _KINDS[int(rng.choice(len(_KINDS), p=_SHARES))]
        found.append(make(hw, rng, f"{make.__name__} {seed}.{i}"))
    return found


def check_legal(hw: Accelerator, program: CosimProgram) -> None:
    """Hold a program to the program contract, as far as times and values show it.

    Both timing models must agree; the posts to a semaphore must come in program order, no two in one cycle; and memory
    must not depend on which of several units goes on first.

    Raises
    ------
    HwsimError
        If it breaks one of these.
    """
    rows = np.ascontiguousarray(program.flat[:, : len(Row)])
    depth, pace = hw.control.queue_depth, dispatch_cycles(hw)
    line = simulate_events(rows, depth, pace)
    start, end, _ = command_times(rows, depth, pace).T
    if not (np.array_equal(start, line.start) and np.array_equal(end, line.end)):
        raise HwsimError(f"{program.name}: the timing models disagree")
    posted = np.where(
        program.flat[:, Field.UNIT] == Unit.STORE,
        np.minimum(start + program.flat[:, Field.OCCUPANCY] + HAND_OVER_CYCLES, end),
        end,
    )
    segments = np.cumsum(program.flat[:, Field.UNIT] == Unit.CONTROL)
    for semaphore, name in enumerate(SEMAPHORE_NAMES):
        posts = (program.flat[:, Field.POST] >> semaphore & 1 != 0) & (program.flat[:, Field.UNIT] != Unit.CONTROL)
        for segment in np.unique(segments[posts]):
            times = posted[posts & (segments == segment)]
            if (np.diff(times) <= 0).any():
                raise HwsimError(f"{program.name}: posts to '{name}' are not in order in time")
    found = []
    for eager in (True, False):
        core = Core(hw, program.image.size, program.seed)
        core.dram[:] = program.loaded()
        core.execute(program.flat, order_of(program.flat, program.name, eager=eager))
        found.append(core.dram)
    if not np.array_equal(found[0], found[1]):
        raise HwsimError(f"{program.name}: memory depends on the order of the units")
