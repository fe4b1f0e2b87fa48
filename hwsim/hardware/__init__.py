"""What the accelerator is: one frozen description, presets with their sources, derived figures."""

from __future__ import annotations

from hwsim.hardware.accelerator import (
    Accelerator,
    Accumulator,
    Array,
    Control,
    Dataflow,
    Dram,
    Scratchpad,
    Vector,
    describe_error,
    load_accelerator,
    preset_names,
)
from hwsim.hardware.formats import ACCUMULATOR_OF, FORMAT_BITS

__all__ = [
    "ACCUMULATOR_OF",
    "FORMAT_BITS",
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
