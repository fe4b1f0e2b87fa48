"""The one description of an accelerator: array, memories, vector unit, DRAM, control.

`Accelerator` is a frozen, validated pydantic model; `load_accelerator` reads a TOML file or a preset's
name. What the fields mean in time is docs/contracts/cycles.md, in energy docs/contracts/energy.md.
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwsim.errors import HwsimError
from hwsim.hardware.formats import ACCUMULATOR_OF, FORMAT_BITS, array_formats

__all__ = [
    "Accelerator",
    "Accumulator",
    "Array",
    "Control",
    "Dataflow",
    "Dram",
    "Scratchpad",
    "Vector",
    "describe_error",
    "load_accelerator",
    "preset_names",
]

Count = Annotated[int, Field(ge=1)]
OperandFormat = Literal["int8", "fp8_e4m3", "fp8_e5m2", "bf16", "fp16", "fp32"]


class Dataflow(StrEnum):
    """Which operand stays in the PEs during a fold."""

    WEIGHT_STATIONARY = "ws"
    OUTPUT_STATIONARY = "os"
    INPUT_STATIONARY = "is"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Array(_Part):
    """The matrix unit: `rows` × `cols` PEs.

    Attributes
    ----------
    rows, cols : int
        PEs in a column and in a row, 2 to 1024.
    dataflow : Dataflow
        Stationary operand: ``"ws"``, ``"os"`` or ``"is"``.
    operand_format : str
        Format of the operands; the accumulator format follows from it.
    add_latency_cycles : int
        Partial sum in to partial sum out of a PE [cycles], 1 to 16.
    multiply_latency_cycles : int
        Operand in to product at the adder [cycles], 0 to 8.
    """

    rows: Annotated[int, Field(ge=2, le=1024)]
    cols: Annotated[int, Field(ge=2, le=1024)]
    dataflow: Dataflow = Dataflow.WEIGHT_STATIONARY
    operand_format: OperandFormat = "bf16"
    add_latency_cycles: Annotated[int, Field(ge=1, le=16)] = 1
    multiply_latency_cycles: Annotated[int, Field(ge=0, le=8)] = 0


class Scratchpad(_Part):
    """Operand memory [bytes] in `banks` banks; both halves together."""

    capacity_bytes: Count
    banks: Annotated[int, Field(ge=4, le=256)] = 8


class Accumulator(_Part):
    """Partial-sum memory [bytes], both halves together, and its read-add-write latency [cycles]."""

    capacity_bytes: Count
    add_latency_cycles: Annotated[int, Field(ge=1, le=16)] = 1


class Vector(_Part):
    """Vector unit: `lanes` fp32 lanes and the pipeline latency of one command [cycles]."""

    lanes: Annotated[int, Field(ge=1, le=1024)]
    latency_cycles: Annotated[int, Field(ge=1, le=64)] = 8


class Dram(_Part):
    """Off-chip memory as the accelerator sees it.

    Attributes
    ----------
    kind : str
        Row of the energy table: ``"DDR4-2400"``, ``"LPDDR4-2400"`` or ``"HBM2"``.
    bytes_per_cycle : int
        Width of the one memory port [bytes per accelerator cycle], a power of two, 1 to 4096.
    channels : int
        Parallel channels that make up this width, a power of two; each moves one beat of `beat_bytes` a cycle, the
        granularity of all transfers and layouts.
    latency_cycles : int
        Request to data, and write to response [cycles], 1 to 4096.
    page_bytes : int
        Row-buffer size [bytes], for the count of activations.
    """

    kind: Literal["DDR4-2400", "LPDDR4-2400", "HBM2"]
    bytes_per_cycle: Annotated[int, Field(ge=1, le=4096)]
    channels: Annotated[int, Field(ge=1, le=64)] = 1
    latency_cycles: Annotated[int, Field(ge=1, le=4096)]
    page_bytes: Annotated[int, Field(ge=64, le=65536)] = 2048

    @model_validator(mode="after")
    def _powers_of_two(self) -> Dram:
        if self.channels > self.bytes_per_cycle:
            raise ValueError(f"channels must be at most bytes_per_cycle, {self.bytes_per_cycle}, not {self.channels}")
        for name in ("bytes_per_cycle", "channels", "page_bytes"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"{name} must be a power of two, not {value}")
        return self

    @property
    def beat_bytes(self) -> int:
        """Bytes that one channel moves in a cycle: the unit of transfers and of line alignment in DRAM."""
        return self.bytes_per_cycle // self.channels


class Control(_Part):
    """Command fetch [bytes per cycle] and the commands that each unit's queue holds."""

    fetch_bytes_per_cycle: Annotated[int, Field(ge=1, le=128)] = 16
    queue_depth: Annotated[int, Field(ge=4, le=64)] = 8


class Accelerator(_Part):
    """One accelerator, completely described. Frozen, hashable; every field's name has its unit.

    Attributes
    ----------
    name : str
        What reports call it.
    source : str
        Where the figures come from.
    clock_mhz : float
        The one clock [MHz].
    node_nm : float
        Process node to which energies are scaled [nm], 3 to 250.
    array, scratchpad, accumulator, vector, dram, control
        The parts.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> hw = load_accelerator("gemmini-16x16-int8")
    >>> hw.peak_macs_per_s / 1e9
    256.0
    >>> hw.ridge_macs_per_byte
    16.0
    """

    name: Annotated[str, Field(min_length=1)]
    source: str = "described by its user"
    clock_mhz: Annotated[float, Field(gt=0, le=10_000)]
    node_nm: Annotated[float, Field(ge=3, le=250)]
    array: Array
    scratchpad: Scratchpad
    accumulator: Accumulator
    vector: Vector
    dram: Dram
    control: Control = Control()

    @model_validator(mode="after")
    def _lanes_fit_lines(self) -> Accelerator:
        if self.vector.lanes > self.array.cols:
            raise ValueError(
                f"vector.lanes must be at most array.cols, {self.array.cols} (one accumulator line), "
                f"not {self.vector.lanes}"
            )
        return self

    @model_validator(mode="after")
    def _memories_hold_lines(self) -> Accelerator:
        if self.scratchpad_bank_lines < 1:
            raise ValueError(
                f"scratchpad.capacity_bytes must give each of the {self.scratchpad.banks} banks one line of "
                f"{self.scratchpad_line_bytes} bytes, {self.scratchpad.banks * self.scratchpad_line_bytes} in all, "
                f"not {self.scratchpad.capacity_bytes}"
            )
        if self.accumulator_slot_lines < 1:
            raise ValueError(
                f"accumulator.capacity_bytes must hold two lines of {4 * self.array.cols} bytes, "
                f"not {self.accumulator.capacity_bytes}"
            )
        return self

    @property
    def operand_bytes(self) -> int:
        """Bytes of one operand element."""
        return FORMAT_BITS[self.array.operand_format] // 8

    @property
    def accumulator_format(self) -> str:
        """Format of the partial sums."""
        return ACCUMULATOR_OF[self.array.operand_format]

    @property
    def pes(self) -> int:
        """PEs in the array."""
        return self.array.rows * self.array.cols

    @property
    def line_elements(self) -> int:
        """Elements of one scratchpad line, `D` of the program contract."""
        return max(self.array.rows, self.array.cols)

    @property
    def scratchpad_line_bytes(self) -> int:
        """Bytes of one scratchpad line."""
        return self.line_elements * self.operand_bytes

    @property
    def scratchpad_bank_lines(self) -> int:
        """Lines of one scratchpad bank."""
        return self.scratchpad.capacity_bytes // (self.scratchpad.banks * self.scratchpad_line_bytes)

    @property
    def accumulator_slot_lines(self) -> int:
        """Lines of `cols` 32-bit words in one half of the accumulator."""
        return self.accumulator.capacity_bytes // (2 * 4 * self.array.cols)

    @property
    def peak_macs_per_s(self) -> float:
        """MACs per second with every PE busy [1/s]."""
        return self.pes * self.clock_mhz * 1e6

    @property
    def dram_bytes_per_s(self) -> float:
        """DRAM bandwidth [bytes/s]."""
        return self.dram.bytes_per_cycle * self.clock_mhz * 1e6

    @property
    def ridge_macs_per_byte(self) -> float:
        """Arithmetic intensity at the roofline's corner [MACs per DRAM byte]."""
        return self.pes / self.dram.bytes_per_cycle

    def with_dataflow(self, dataflow: Dataflow | str) -> Accelerator:
        """Give the same accelerator with another dataflow.

        Raises
        ------
        HwsimError
            If there is no such dataflow.
        """
        try:
            chosen = Dataflow(dataflow)
        except ValueError:
            names = ", ".join(d.value for d in Dataflow)
            raise HwsimError(f"unknown dataflow '{dataflow}'; choose one of {names}") from None
        return self.model_copy(update={"array": self.array.model_copy(update={"dataflow": chosen})})

    def with_format(self, operand_format: str) -> Accelerator:
        """Give the same accelerator with an array for another operand format, which its name then says.

        An array for one fp8 format decodes the other one too, so between these two nothing changes.

        Raises
        ------
        HwsimError
            If there is no such operand format, or a memory is too small for its lines.

        Examples
        --------
        >>> from hwsim.hardware import load_accelerator
        >>> hw = load_accelerator("edge-8x8-bf16").with_format("fp16")
        >>> hw.name, hw.array.operand_format
        ('edge-8x8-bf16 as fp16', 'fp16')
        """
        if operand_format in array_formats(self.array.operand_format):
            return self
        names = get_args(OperandFormat)
        if operand_format not in names:
            raise HwsimError(f"unknown operand format '{operand_format}'; choose one of {', '.join(names)}")
        described = self.model_dump()
        described["array"]["operand_format"] = operand_format
        described["name"] = f"{self.name} as {operand_format}"
        try:
            return Accelerator.model_validate(described)
        except ValidationError as error:
            raise HwsimError(f"'{described['name']}': {describe_error(error)}") from None


def preset_names() -> tuple[str, ...]:
    """Names of the accelerators that come with hwsim, sorted."""
    folder = resources.files("hwsim.hardware") / "presets"
    return tuple(sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")))


def load_accelerator(name_or_path: str | Path) -> Accelerator:
    """Read a preset by name, or a description from a ``.toml`` file.

    Raises
    ------
    HwsimError
        Unknown preset, missing or unreadable file, broken TOML, or a field out of range; the message is one sentence.
    """
    text = str(name_or_path)
    if text in preset_names():
        source = (resources.files("hwsim.hardware") / "presets" / f"{text}.toml").read_text("utf-8")
    elif text.endswith(".toml"):
        try:
            source = Path(text).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise HwsimError(f"cannot read hardware description '{text}': {reason}") from None
    else:
        raise HwsimError(
            f"unknown hardware preset '{text}'; choose one of {', '.join(preset_names())}, or name a .toml file"
        )
    try:
        return Accelerator.model_validate(tomllib.loads(source))
    except tomllib.TOMLDecodeError as error:
        raise HwsimError(f"'{text}' is not valid TOML: {error}") from None
    except ValidationError as error:
        raise HwsimError(f"'{text}': {describe_error(error)}") from None


def describe_error(error: ValidationError) -> str:
    """Say in one sentence what is wrong with a description: the first of its errors."""
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"field '{where}' is missing"
    if first["type"] == "extra_forbidden":
        return f"unknown field '{where}'"
    if not where:
        return str(message)
    if first["type"] == "value_error":
        return f"{where}: {message}"
    return f"field '{where}' = {first['input']!r}: {message[0].lower()}{message[1:]}"
