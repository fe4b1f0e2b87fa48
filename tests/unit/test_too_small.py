"""Does a memory that is too small say by how much, to the byte?"""

import re

import pytest

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, load_accelerator
from hwsim.mapping import Tiling, gemm_segment, tile_segment
from hwsim.simulate import simulate
from hwsim.workload import Network


def with_memory(part: str, capacity_bytes: int) -> Accelerator:
    description = load_accelerator("edge-32x32-bf16").model_dump()
    description[part]["capacity_bytes"] = capacity_bytes
    return Accelerator.model_validate(description)


def product(hw: Accelerator) -> Tiling:
    return tile_segment(gemm_segment(64, 96, 64, hw, bias=True), hw, "gemm")


@pytest.mark.parametrize(("part", "capacity_bytes"), [("scratchpad", 4096), ("accumulator", 256)])
def test_smallest_memory_that_would_do_is_the_smallest(part, capacity_bytes):
    with pytest.raises(HwsimError) as error:
        product(with_memory(part, capacity_bytes))
    found = re.fullmatch(
        rf"gemm: one tile must fit the {part}, {capacity_bytes} bytes; "
        r"the smallest that would do has (\d+) bytes, (\d+) more",
        str(error.value),
    )
    need, more = map(int, found.groups())
    assert need - more == capacity_bytes
    assert product(with_memory(part, need)).cycles > 0
    with pytest.raises(HwsimError, match=f"the smallest that would do has {need} bytes"):
        product(with_memory(part, need - 1))


def test_stream_says_by_how_much_its_tile_is_too_large():
    net = Network("wide", batch=2)
    graph = net.input((8, 8, 4)).max_pool(3, stride=2).flatten().linear(10).softmax_cross_entropy()
    with pytest.raises(HwsimError) as error:
        simulate(graph, with_memory("accumulator", 2048))
    assert re.fullmatch(
        r"max_pool1: one tile must fit half the accumulator, 1024 bytes; the smallest needs (\d+) bytes, (\d+) more",
        str(error.value),
    )
