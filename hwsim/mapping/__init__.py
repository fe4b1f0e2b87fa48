"""From ops to programs: layouts, tilings, and the search over them."""

from __future__ import annotations

from hwsim.mapping.matrix import MatrixSegment, Tiling, conv_segments, gemm_segment, kernels_are_compiled, tile_segment
from hwsim.mapping.plan import OpPlan, plan_key, plan_op, plan_segments

__all__ = [
    "MatrixSegment",
    "OpPlan",
    "Tiling",
    "conv_segments",
    "gemm_segment",
    "kernels_are_compiled",
    "plan_key",
    "plan_op",
    "plan_segments",
    "tile_segment",
]
