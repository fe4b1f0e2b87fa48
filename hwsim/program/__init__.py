"""Programs: commands for the four units, in compressed form."""

from __future__ import annotations

from hwsim.program.encoding import COMMAND_WORDS, decode, encode
from hwsim.program.fields import (
    CAUSES,
    FIELDS,
    FORMAT_CODES,
    HAND_OVER_CYCLES,
    RESOURCE_NAMES,
    SCRATCHPAD_READ_CYCLES,
    SEMAPHORE_NAMES,
    STORE_LEAVES_CYCLES,
    UNIT_NAMES,
    ArrayField,
    BMode,
    Field,
    MatrixFlag,
    MoveField,
    MoveFlag,
    Row,
    Semaphore,
    Unit,
    VectorField,
    VectorFlag,
    mask,
    pack_counts,
)
from hwsim.program.program import COMMAND_BYTES, Program
from hwsim.program.vector_ops import VECTOR_OPS, VectorOp, VectorRule

__all__ = [
    "CAUSES",
    "COMMAND_BYTES",
    "COMMAND_WORDS",
    "FIELDS",
    "FORMAT_CODES",
    "HAND_OVER_CYCLES",
    "RESOURCE_NAMES",
    "SCRATCHPAD_READ_CYCLES",
    "SEMAPHORE_NAMES",
    "STORE_LEAVES_CYCLES",
    "UNIT_NAMES",
    "VECTOR_OPS",
    "ArrayField",
    "BMode",
    "Field",
    "MatrixFlag",
    "MoveField",
    "MoveFlag",
    "Program",
    "Row",
    "Semaphore",
    "Unit",
    "VectorField",
    "VectorFlag",
    "VectorOp",
    "VectorRule",
    "decode",
    "encode",
    "mask",
    "pack_counts",
]
