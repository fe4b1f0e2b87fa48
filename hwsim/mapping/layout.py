"""Where the elements of a tensor lie in DRAM: lines padded to the bus (docs/contracts/program.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

from hwsim.hardware import Accelerator
from hwsim.hardware.formats import FORMAT_BITS
from hwsim.program import COMMAND_BYTES
from hwsim.workload.graph import Role, Tensor

__all__ = [
    "Image",
    "dispatch_cycles",
    "element_bytes",
    "first_dispatch_cycles",
    "format_of",
    "image_of",
    "pitch",
    "stored_bytes",
]

_OPERAND_ROLES = frozenset({Role.INPUT, Role.WEIGHT, Role.ACTIVATION, Role.GRADIENT})


@dataclass(frozen=True)
class Image:
    """Byte strides of a (batch, height, width, channels) tensor."""

    pixel: int
    row: int
    batch: int


def dispatch_cycles(hw: Accelerator) -> int:
    """Cycles between two dispatched commands, δ of the cycle contract."""
    return -(-COMMAND_BYTES // hw.control.fetch_bytes_per_cycle)


def first_dispatch_cycles(hw: Accelerator) -> int:
    """Cycles from a program's start to its first dispatch: the command is fetched, and prepared, δ each."""
    return hw.dram.latency_cycles + 2 * dispatch_cycles(hw)


def pitch(elements: int, element_bytes: int, bus: int) -> int:
    """Bytes from one line to the next: the line, padded to a multiple of the bus.

    >>> pitch(3, 2, 16)
    16
    """
    return -(-elements * element_bytes // bus) * bus


def image_of(shape: tuple[int, ...], element_bytes: int, bus: int) -> Image:
    """Strides of an image tensor, or of (batch, channels) as an image of one pixel."""
    _, height, width, channels = shape if len(shape) == 4 else (shape[0], 1, 1, shape[-1])
    pixel = pitch(channels, element_bytes, bus)
    return Image(pixel, width * pixel, height * width * pixel)


def format_of(tensor: Tensor, hw: Accelerator) -> str:
    """Name the format of a tensor in memory: its own, or the operand format for what the array reads, int32 for class
    labels, and fp32 for everything else.

    A regression target (a label of the prediction's shape) is stored like the prediction.
    """
    if tensor.format:
        return tensor.format
    if tensor.role in _OPERAND_ROLES or (tensor.role is Role.LABEL and len(tensor.shape) > 1):
        return hw.array.operand_format
    return "int32" if tensor.role is Role.LABEL else "fp32"


def element_bytes(tensor: Tensor, hw: Accelerator) -> int:
    """Bytes of one element in memory."""
    return FORMAT_BITS[format_of(tensor, hw)] // 8


def stored_bytes(tensor: Tensor, hw: Accelerator) -> int:
    """Bytes that a tensor takes in DRAM, padding included."""
    line = tensor.shape[-1] if tensor.shape else 1
    return tensor.elements // line * pitch(line, element_bytes(tensor, hw), hw.dram.beat_bytes)
