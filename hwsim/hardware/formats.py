"""Number formats by name, with their widths; docs/contracts/numerics.md says what they compute."""

from __future__ import annotations

from types import MappingProxyType

__all__ = ["ACCUMULATOR_OF", "FORMAT_BITS", "FP8_OPERAND", "array_formats"]

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

#: What holds the numbers of both fp8 formats: inside arrays whose operands may be of either.
FP8_OPERAND = "fp9_e5m3"

_FP8 = ("fp8_e4m3", "fp8_e5m2")


def array_formats(operand_format: str) -> tuple[str, ...]:
    """Formats that an array for `operand_format` decodes, operand by operand.

    >>> array_formats("fp8_e4m3"), array_formats("bf16")
    (('fp8_e4m3', 'fp8_e5m2'), ('bf16',))
    """
    return _FP8 if operand_format in _FP8 else (operand_format,)
