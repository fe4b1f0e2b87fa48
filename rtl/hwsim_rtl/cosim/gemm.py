"""One matrix product, in the tiling that `hwsim gemm` finds, as a program to compare on."""

from __future__ import annotations

import numpy as np

from hwsim.hardware import Accelerator
from hwsim.mapping.plan import Stored, set_formats
from hwsim.program import FORMAT_CODES, Field, Unit
from hwsim.simulate import gemm
from hwsim_rtl.cosim.program import CosimProgram
from hwsim_rtl.cosim.programs import extent, link_exponents, place_program, random_bytes
from hwsim_rtl.limits import check_limits

__all__ = ["gemm_program"]


def gemm_program(m: int, k: int, n: int, hw: Accelerator, *, seed: int = 1) -> CosimProgram:
    """Link the product of random (m, k) and (k, n) matrices, both and the result in the array's operand format.

    Parameters
    ----------
    m, k, n : int
        Sizes, 1 or more; k is the reduction.
    hw : Accelerator
        What runs it.
    seed : int
        Of the operands.

    Raises
    ------
    HwsimError
        If a size is below 1, no tile fits, or the RTL has too few bits for it.
    """
    program, format = gemm(m, k, n, hw).program, hw.array.operand_format
    set_formats(program, [Stored(format)] * 3)
    flat = program.expand()
    unit, operand = flat[:, Field.UNIT], flat[:, Field.OPERAND]
    at, tensors = 0, {}
    for number, name in enumerate(("a", "b", "product")):
        moves = ((unit == Unit.LOAD) | (unit == Unit.STORE)) & (operand == number)
        low, high = extent(flat[moves])
        flat[moves, Field.OFFSET] += at
        tensors[name] = at + low, at + high
        at += -(-high // hw.dram.beat_bytes) * hw.dram.beat_bytes
    # Sums of k products of int8 numbers fill int8 again when they are divided by about 100 · √k.
    scale = round(np.log2(100 * np.sqrt(k))) if FORMAT_CODES[format] == FORMAT_CODES["int8"] else 0
    link_exponents(flat, np.array([0, 0, scale]))
    memory = random_bytes(np.random.default_rng(seed), at, hw)
    made = place_program(f"{m}×{k}×{n}", flat, memory, seed, [(0, "gemm")], tensors)
    check_limits(hw, made.flat, made.image.size, made.name)
    return made
