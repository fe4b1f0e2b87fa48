"""Number formats as the numeric contract has them: fields, limits, special patterns and how arrays store them.

Normative: docs/contracts/numerics.md, section 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from hwsim.errors import HwsimError

__all__ = ["FLOATS", "INTEGERS", "FloatFormat", "float_format", "storage_dtype"]

#: Integer formats and their widths [bits].
INTEGERS = MappingProxyType({"int8": 8, "int32": 32})


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format: sign, `exponent_bits`, `mantissa_bits`.

    Attributes
    ----------
    name : str
        As in hardware descriptions.
    exponent_bits, mantissa_bits : int
        Widths of the fields [bits].
    largest : int
        Bits of the largest finite number.
    infinity : int or None
        Bits of +infinity; `None` where the format has none.
    nan : int
        Bits of the canonical NaN.
    gradual : bool
        Whether subnormal patterns have their value (else they are read as zeros and never written).
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    largest: int
    infinity: int | None
    nan: int
    gradual: bool

    @property
    def bits(self) -> int:
        """Width [bits]."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def bias(self) -> int:
        """Exponent field minus exponent."""
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def min_exponent(self) -> int:
        """Exponent of the smallest normal number."""
        return 1 - self.bias

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.bits - 1)


#: Floating-point formats by name.
FLOATS = MappingProxyType(
    {
        f.name: f
        for f in (
            FloatFormat("fp8_e4m3", 4, 3, 0x7E, None, 0x7F, gradual=True),
            FloatFormat("fp8_e5m2", 5, 2, 0x7B, 0x7C, 0x7E, gradual=True),
            FloatFormat("bf16", 8, 7, 0x7F7F, 0x7F80, 0x7FC0, gradual=False),
            FloatFormat("fp16", 5, 10, 0x7BFF, 0x7C00, 0x7E00, gradual=True),
            FloatFormat("fp32", 8, 23, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, gradual=False),
        )
    }
)

_STORAGE: MappingProxyType[str, np.dtype[np.generic]] = MappingProxyType(
    {
        "int8": np.dtype(np.int8),
        "int32": np.dtype(np.int32),
        "fp8_e4m3": np.dtype(np.uint8),
        "fp8_e5m2": np.dtype(np.uint8),
        "bf16": np.dtype(np.uint16),
        "fp16": np.dtype(np.uint16),
        "fp32": np.dtype(np.float32),
    }
)


def float_format(name: str) -> FloatFormat:
    """Look a floating-point format up.

    Raises
    ------
    HwsimError
        If there is none of that name.

    Examples
    --------
    >>> float_format("bf16").min_exponent
    -126
    """
    if name not in FLOATS:
        raise HwsimError(f"unknown floating-point format '{name}'; choose one of {', '.join(FLOATS)}")
    return FLOATS[name]


def storage_dtype(name: str) -> np.dtype[np.generic]:
    """Data type of arrays of a format: float32 for fp32, integers of the same width for the bits of all others.

    Raises
    ------
    HwsimError
        If there is no format of that name.

    Examples
    --------
    >>> storage_dtype("bf16"), storage_dtype("fp32")
    (dtype('uint16'), dtype('float32'))
    """
    if name not in _STORAGE:
        raise HwsimError(f"unknown format '{name}'; choose one of {', '.join(_STORAGE)}")
    return _STORAGE[name]
