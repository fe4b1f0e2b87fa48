"""Does the tiling search find the best of its candidates, and are its bounds bounds?"""

import numpy as np
import pytest

from hwsim.hardware import load_accelerator
from hwsim.mapping import _kernels, conv_segments, gemm_segment, tile_segment
from hwsim.mapping.matrix import machine_vector
from hwsim.program import CAUSES, FIELDS, RESOURCE_NAMES
from hwsim.timing import simulate_rows

SAME = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
HALF = SAME | {"stride": (2, 2)}


def cases():
    edge, gemmini = load_accelerator("edge-8x8-bf16"), load_accelerator("gemmini-16x16-int8")
    for flow in ("ws", "os", "is"):
        hw = edge.with_dataflow(flow)
        yield f"gemm-{flow}", gemm_segment(70, 90, 50, hw, bias=True), hw
        yield f"linear-wgrad-{flow}", gemm_segment(40, 100, 60, hw, wgrad=True), hw
        x, w, y = (4, 10, 10, 16), (24, 3, 3, 16), (4, 10, 10, 24)
        for phase in ("forward", "dgrad", "wgrad"):
            yield f"conv-{phase}-{flow}", conv_segments(phase, x, w, y, SAME, hw)[0][0], hw
        y = (4, 5, 5, 24)
        for phase in ("dgrad", "wgrad"):
            yield f"strided-{phase}-{flow}", conv_segments(phase, x, w, y, HALF, hw)[0][-1], hw
    yield "gemmini", gemm_segment(64, 64, 64, gemmini), gemmini
    yield "transposed", gemm_segment(100, 64, 48, gemmini, transpose_a=True, transpose_b=True), gemmini


CASES = list(cases())


@pytest.mark.parametrize(("segment", "hw"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_search_finds_the_best_of_all_candidates_and_bounds_are_bounds(segment, hw):
    spec, machine = np.array(segment.values), machine_vector(hw)
    tiles, bounds, beats = np.empty((20000, 9), np.int64), np.empty(20000, np.int64), np.empty(20000, np.int64)
    found = _kernels._candidates(spec, machine, tiles, bounds, beats)
    items, steps = np.empty((_kernels.MAX_ITEMS, FIELDS), np.int64), np.empty((_kernels.MAX_STEPS, 4), np.int64)
    best = None
    for tile, bound, port in zip(tiles[:found], bounds, beats, strict=False):
        for defer in (1, 2):
            tile[_kernels.TILE["DEFER"]] = defer
            used, _ = _kernels.emit(spec, machine, tile, items, steps)
            cycles = simulate_rows(items[:used], hw.control.queue_depth, int(machine[_kernels.DISPATCH])).cycles
            assert bound <= cycles, tile
            best = min(best or (cycles, port), (cycles, port))
    tiling = tile_segment(segment, hw, "case")
    assert found == tiling.candidates > 0
    assert tiling.cycles == best[0]
    assert tiling.timed <= 2 * found


def test_port_bound_counts_every_beat_but_the_bias():
    hw = load_accelerator("gemmini-16x16-int8")
    segment = gemm_segment(256, 256, 256, hw)
    tiling = tile_segment(segment, hw, "gemm")
    busy, stalls = np.zeros(len(RESOURCE_NAMES), np.int64), np.zeros((len(RESOURCE_NAMES), len(CAUSES)), np.int64)
    spec, machine = np.array(segment.values), machine_vector(hw)
    tiles, bounds, beats = np.empty((20000, 9), np.int64), np.empty(20000, np.int64), np.empty(20000, np.int64)
    found = _kernels._candidates(spec, machine, tiles, bounds, beats)
    same = [i for i in range(found) if tiles[i, :8].tolist() == list(tiling.tile.values())[:8]]
    none = np.empty((0, 3), np.int64)
    rows = tiling.program.items
    _kernels.time_rows(
        rows, len(rows), hw.control.queue_depth, int(machine[_kernels.DISPATCH]), True, busy, stalls, none
    )
    assert busy[RESOURCE_NAMES.index("port")] == beats[same[0]]
