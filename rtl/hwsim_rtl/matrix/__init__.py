"""The matrix unit: it walks operands into the array, and sums into the accumulator (docs/rtl-matrix.md)."""

from __future__ import annotations

from hwsim_rtl.matrix.command import MatrixPrepare, matrix_command
from hwsim_rtl.matrix.unit import MatrixUnit

__all__ = ["MatrixPrepare", "MatrixUnit", "matrix_command"]
