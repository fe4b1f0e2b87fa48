"""A linked program with the memory that it runs on: what is run on the RTL and on the simulator alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hwsim.program import COMMAND_BYTES, encode

__all__ = ["CosimProgram"]


@dataclass(frozen=True, eq=False)
class CosimProgram:
    """A linked program with the memory that it runs on.

    Attributes
    ----------
    name : str
        What messages call it.
    flat : ndarray of shape (commands, FIELDS), dtype int64
        Linked commands.
    image : ndarray of shape (bytes,), dtype uint8
        Memory before; a multiple of 128 bytes, with room for the commands at `address`.
    address : int
        Where the commands are put, a multiple of 128.
    seed : int
        Of stochastic rounding.
    sections : sequence of tuple
        First command and name of each part, such as an op; ascending.
    tensors : mapping of str to tuple of int
        Of what lies in memory: its first byte, and the byte after its last.
    """

    name: str
    flat: NDArray[np.int64]
    image: NDArray[np.uint8]
    address: int
    seed: int = 1
    sections: Sequence[tuple[int, str]] = ()
    tensors: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def section(self, command: int) -> str:
        """Name of the part that a command belongs to, empty if it has none."""
        return next((name for first, name in reversed(self.sections) if first <= command), "")

    def loaded(self) -> NDArray[np.uint8]:
        """Give the memory with the commands in it."""
        image = self.image.copy()
        image[self.address : self.address + COMMAND_BYTES * len(self.flat)] = encode(self.flat).view(np.uint8).ravel()
        return image
