"""Commands as they lie in memory: 32 words of 32 bits each, which the machine fetches.

Normative: docs/contracts/program.md, section 1. Timing needs two numbers of a command, occupancy and tail, that are not
encoded: they follow from the rest (docs/contracts/cycles.md, section 2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.program.fields import FIELDS, Field, Unit

__all__ = ["COMMAND_WORDS", "FIRST_COLUMN", "FIRST_WORD", "HEAD", "MASKS", "decode", "encode"]

#: Words of one command.
COMMAND_WORDS = 32
#: First column that is a word of its own, and the word that holds it.
FIRST_COLUMN, FIRST_WORD = int(Field.OPERAND), 2

#: Fields of word 0: column, lowest bit, bits.
HEAD = (
    (Field.UNIT, 0, 3),
    (Field.OPCODE, 3, 5),
    (Field.SLOT_A, 8, 1),
    (Field.SLOT_B, 9, 1),
    (Field.SLOT_C, 10, 1),
    (Field.DEFER, 16, 16),
)
#: Fields of word 1.
MASKS = ((Field.WAIT, 0, 16), (Field.POST, 16, 16))


def encode(flat: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Encode flat, linked commands.

    Word 0: unit, opcode, slots and deferral; word 1: wait and post masks; words 2 to 31: the columns from `OPERAND` on,
    in two's complement. A barrier's counts, four bits a semaphore, are words 2 and 3.

    Parameters
    ----------
    flat : ndarray of shape (commands, FIELDS), dtype int64
        What `Program.expand` gives, linked.

    Returns
    -------
    ndarray of shape (commands, 32), dtype uint32

    Raises
    ------
    HwsimError
        If a loop is among the commands, or a number does not fit its field.

    Examples
    --------
    >>> from hwsim.program import mask, Semaphore
    >>> command = np.zeros((1, FIELDS), np.int64)
    >>> command[0, [Field.UNIT, Field.WAIT, Field.START_H]] = Unit.LOAD, mask(Semaphore.A_FREE), -1
    >>> words = encode(command)
    >>> [hex(w) for w in words[0, [0, 1, 10]]], bool((decode(words) == command).all())
    (['0x0', '0x4', '0xffffffff'], True)
    """
    unit = flat[:, Field.UNIT]
    if (unit > Unit.CONTROL).any():
        raise HwsimError("only flat commands can be encoded; expand the program's loops first")
    words = np.zeros((len(flat), COMMAND_WORDS), np.uint32)
    rest = flat[:, FIRST_COLUMN:].copy()
    barrier = unit == Unit.CONTROL
    masks = flat[:, [Field.WAIT, Field.POST]].copy()
    rest[barrier, 0], rest[barrier, 1] = masks[barrier, 0] & 0xFFFFFFFF, masks[barrier, 0] >> 32
    masks[barrier, 0] = 0
    for word, fields, source in ((0, HEAD, flat), (1, MASKS, None)):
        for i, (field, shift, bits) in enumerate(fields):
            values = masks[:, i] if source is None else source[:, field]
            _check(field.name, values, 0, (1 << bits) - 1)
            words[:, word] |= (values << shift).astype(np.uint32)
    for column in range(FIRST_COLUMN, FIELDS):
        values = rest[:, column - FIRST_COLUMN]
        # Addresses and words of scalars use all 32 bits, coordinates and steps are signed.
        _check(Field(column).name, values, -(1 << 31), (1 << 32) - 1)
        words[:, FIRST_WORD + column - FIRST_COLUMN] = (values & 0xFFFFFFFF).astype(np.uint32)
    return words


def decode(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Give the commands of encoded words; occupancy and tail are 0, and words from `OPERAND` on are signed.

    Parameters
    ----------
    words : ndarray of shape (commands, 32), dtype uint32

    Returns
    -------
    ndarray of shape (commands, FIELDS), dtype int64
    """
    flat = np.zeros((len(words), FIELDS), np.int64)
    wide = words.astype(np.int64)
    for word, fields in ((0, HEAD), (1, MASKS)):
        for field, shift, bits in fields:
            flat[:, field] = wide[:, word] >> shift & ((1 << bits) - 1)
    flat[:, FIRST_COLUMN:] = words[:, FIRST_WORD:].astype(np.int32)
    barrier = flat[:, Field.UNIT] == Unit.CONTROL
    flat[barrier, Field.WAIT] = wide[barrier, FIRST_WORD] | wide[barrier, FIRST_WORD + 1] << 32
    flat[barrier, FIRST_COLUMN : FIRST_COLUMN + 2] = 0
    return flat


def _check(name: str, values: NDArray[np.int64], low: int, high: int) -> None:
    wrong = np.flatnonzero((values < low) | (values > high))
    if wrong.size:
        raise HwsimError(
            f"command {wrong[0]}: {name} is {values[wrong[0]]}, and its field holds {low} to {high}; split the op"
        )
