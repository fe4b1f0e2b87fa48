"""Numbers as the hardware computes them, bit for bit: formats, arithmetic, conversions, random words, functions.

What is exported here works on arrays; `hwsim.numerics.reference` and `hwsim.numerics.functions` say the same with plain
integers, one number at a time. Normative: docs/contracts/numerics.md.
"""

from hwsim.numerics.arrays import (
    Flags,
    add,
    exp,
    from_format,
    log,
    matmul,
    maximum,
    multiply,
    reciprocal,
    reciprocal_root,
    subtract,
    to_format,
)
from hwsim.numerics.formats import FLOATS, INTEGERS, FloatFormat, float_format, storage_dtype
from hwsim.numerics.lfsr import Lfsr
from hwsim.numerics.reference import PartialSum, Rounding, partial_sums

__all__ = [
    "FLOATS",
    "INTEGERS",
    "Flags",
    "FloatFormat",
    "Lfsr",
    "PartialSum",
    "Rounding",
    "add",
    "exp",
    "float_format",
    "from_format",
    "log",
    "matmul",
    "maximum",
    "multiply",
    "partial_sums",
    "reciprocal",
    "reciprocal_root",
    "storage_dtype",
    "subtract",
    "to_format",
]
