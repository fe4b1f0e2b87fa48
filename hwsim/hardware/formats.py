"""Number formats by name, with their widths; docs/contracts/numerics.md will say what they compute."""

from __future__ import annotations

from types import MappingProxyType

__all__ = ["ACCUMULATOR_OF", "FORMAT_BITS"]

#: Width of one element [bits].
FORMAT_BITS = MappingProxyType(
    {"int8": 8, "fp8_e4m3": 8, "fp8_e5m2": 8, "bf16": 16, "fp16": 16, "int32": 32, "fp32": 32}
)

#: Format in which products of an operand format are summed.
ACCUMULATOR_OF = MappingProxyType(
    {
        "int8": "int32",
        "fp8_e4m3": "fp32",
        "fp8_e5m2": "fp32",
        "bf16": "fp32",
        "fp16": "fp32",
        "fp32": "fp32",
    }
)
