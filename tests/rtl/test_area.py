"""Is what `hwsim.area` says of the RTL's structure what the generator builds?"""

from __future__ import annotations

import warnings

import pytest
from amaranth.hdl import UnusedElaboratable

from hwsim.area.cells import ACCUMULATOR_COPIES, ACCUMULATOR_MEMORIES, PREPARATION, TABLE_WORDS
from hwsim.hardware import Accelerator, load_accelerator
from hwsim.program import COMMAND_BYTES
from hwsim_rtl.dma import Geometry, Prepare
from hwsim_rtl.matrix import MatrixPrepare
from hwsim_rtl.memory import Accumulator, Scratchpad
from hwsim_rtl.vector import special

warnings.simplefilter("ignore", UnusedElaboratable)


def machine(dataflow: str, fetch_bytes: int) -> Accelerator:
    hw = load_accelerator("edge-8x8-int8").with_dataflow(dataflow)
    dram, control = ({"bytes_per_cycle": 4}, {"fetch_bytes_per_cycle": fetch_bytes})
    parts = {"dram": hw.dram.model_copy(update=dram), "control": hw.control.model_copy(update=control)}
    return hw.model_copy(update=parts)


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_preparation_has_the_multipliers_that_the_area_says(dataflow: str) -> None:
    """A product for loads and stores is of 32 bits, which takes two multipliers of the device."""
    for i, expected in enumerate(PREPARATION[dataflow]):
        hw = machine(dataflow, 2**i)
        spare = COMMAND_BYTES // 2**i - 1
        moves, matrix = Prepare.within(Geometry.of(hw), spare), MatrixPrepare.within(hw, spare)
        assert expected == 2 * moves.multipliers + matrix.multipliers


def test_memories_are_as_many_as_the_area_says() -> None:
    hw = load_accelerator("edge-8x8-int8")
    geometry = Geometry.of(hw)
    assert len(Accumulator(geometry, 3).memories) == ACCUMULATOR_MEMORIES * ACCUMULATOR_COPIES * hw.array.cols
    pairs = Scratchpad(geometry).memories
    assert (len(pairs), len(pairs[0]), pairs[0][0].width) == (4, 8, 8)
    assert len(special._WORDS) == TABLE_WORDS
