"""Programs: commands for the four units, in compressed form."""

from __future__ import annotations

from hwsim.program.fields import (
    CAUSES,
    FIELDS,
    RESOURCE_NAMES,
    SEMAPHORE_NAMES,
    UNIT_NAMES,
    Field,
    Row,
    Semaphore,
    Unit,
    mask,
    pack_counts,
)
from hwsim.program.program import COMMAND_BYTES, Program
from hwsim.program.vector_ops import VECTOR_OPS, VectorOp, VectorRule

__all__ = [
    "CAUSES",
    "COMMAND_BYTES",
    "FIELDS",
    "RESOURCE_NAMES",
    "SEMAPHORE_NAMES",
    "UNIT_NAMES",
    "VECTOR_OPS",
    "Field",
    "Program",
    "Row",
    "Semaphore",
    "Unit",
    "VectorOp",
    "VectorRule",
    "mask",
    "pack_counts",
]
