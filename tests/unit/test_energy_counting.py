"""Are MACs with a zero operand counted apart, and nothing else changed?"""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.energy import ACTIONS
from hwsim.energy.counting import Counts, count_actions
from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim.simulate import gemm

MACS = 20 * 30 * 40
RESULT = gemm(20, 30, 40, "edge-8x8-bf16")


def counted(gated_macs: int = 0) -> Counts:
    return count_actions(RESULT.program, load_accelerator("edge-8x8-bf16"), RESULT.cycles, gated_macs)


@pytest.mark.parametrize("gated", [0, 1, 7_000, MACS])
def test_gated_macs_move_from_one_action_to_the_other(gated: int) -> None:
    none, some = counted(), counted(gated)
    change = dict(zip(ACTIONS, (some.actions - none.actions).tolist(), strict=True))
    assert {name: change[name] for name in change if change[name]} == (
        {"array.macs": -gated, "array.gated_macs": gated} if gated else {}
    )
    assert some.macs == none.macs == MACS
    assert some.actions[ACTIONS.index("array.macs")] == MACS - gated


def test_without_values_no_mac_is_gated() -> None:
    assert counted().actions[ACTIONS.index("array.gated_macs")] == 0
    assert RESULT.op.actions[ACTIONS.index("array.macs")] == RESULT.op.macs == MACS
    np.testing.assert_array_equal(counted(0).actions, counted().actions)


@pytest.mark.parametrize("gated", [-1, MACS + 1])
def test_more_gated_macs_than_macs_are_refused(gated: int) -> None:
    with pytest.raises(HwsimError) as error:
        counted(gated)
    assert str(error.value) == f"gated_macs must be from 0 to the MACs of the program, {MACS}, not {gated}"
