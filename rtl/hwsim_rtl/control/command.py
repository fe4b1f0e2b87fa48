"""Layouts of the 32-word command in hardware: the bits that `hwsim.program.encode` writes, by the names of its fields.

Normative: docs/contracts/program.md, sections 1 and 4.
"""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import unsigned
from amaranth.lib.data import Field as Bits
from amaranth.lib.data import FlexibleLayout, Layout

from hwsim.program import COMMAND_WORDS, ArrayField, Field, MoveField, Unit, VectorField
from hwsim.program.encoding import FIRST_COLUMN, FIRST_WORD, HEAD, MASKS

__all__ = ["COMMAND", "COMMAND_BITS", "COUNTS_BITS", "SEMAPHORE_BITS", "UNIT_COMMANDS", "command_layout"]

COMMAND_BITS = 32 * COMMAND_WORDS
#: Bits of a barrier's count of one semaphore, and of all of them, from word 2 on.
SEMAPHORE_BITS, COUNTS_BITS = 4, 64
#: Steps per index of its box that follow the first line of each operand of a vector command.
_BOX = 3


def command_layout(names: type[IntEnum] | None = None) -> Layout:
    """Give the layout of a command: unsigned fields, named like the columns in lower case.

    Parameters
    ----------
    names : type of IntEnum, optional
        What a unit calls columns of its own: `MoveField`, `ArrayField` or `VectorField`.

    Returns
    -------
    Layout
        1024 bits, with all of `hwsim.program.Field` but occupancy and tail, which are not encoded. Columns that a unit
        names have the unit's name instead; each operand of a vector command is a first line and ``…_step_0`` to
        ``…_step_2``, for the indices of its box. Also ``counts``, those of a barrier.

    Examples
    --------
    >>> COMMAND["defer"].offset, COMMAND["post"].offset, COMMAND["flags"].offset == 31 * 32
    (16, 48, True)
    >>> command_layout(VectorField)["b_step_1"].offset == COMMAND["tap_h"].offset + 32
    True
    """
    columns = {field.value: field.name.lower() for field in Field}
    for own in names or ():
        columns[own.value] = own.name.lower()
        if names is VectorField and own in (VectorField.DST, VectorField.A, VectorField.B, VectorField.C):
            columns.update({own + 1 + i: f"{own.name.lower()}_step_{i}" for i in range(_BOX)})
    members = {"counts": Bits(unsigned(COUNTS_BITS), 32 * FIRST_WORD)}
    for word, fields in enumerate((HEAD, MASKS)):
        for field, shift, bits in fields:
            members[columns[field]] = Bits(unsigned(bits), 32 * word + shift)
    for column in range(FIRST_COLUMN, len(Field)):
        members[columns[column]] = Bits(unsigned(32), 32 * (FIRST_WORD + column - FIRST_COLUMN))
    return FlexibleLayout(COMMAND_BITS, members)


#: Any command.
COMMAND = command_layout()
#: The commands of each executing unit.
UNIT_COMMANDS = {
    Unit.LOAD: command_layout(MoveField),
    Unit.MATRIX: command_layout(ArrayField),
    Unit.VECTOR: command_layout(VectorField),
    Unit.STORE: command_layout(MoveField),
}
