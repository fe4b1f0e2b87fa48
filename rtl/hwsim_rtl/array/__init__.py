"""The systolic array: PEs, skew registers, and the array of each dataflow; docs/rtl-array.md draws their timing."""

from hwsim_rtl.array.output_stationary import OutputStationaryArray
from hwsim_rtl.array.stationary import StationaryArray

__all__ = ["OutputStationaryArray", "StationaryArray"]
