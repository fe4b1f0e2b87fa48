"""Power of the RTL at its gates: energy per cycle of synthesised components, on operands of real training."""

from __future__ import annotations

from hwsim_rtl.power.calibration import calibrate, data_model, find_library, table_text
from hwsim_rtl.power.control import calibrate_control
from hwsim_rtl.power.products import recorded_products

__all__ = ["calibrate", "calibrate_control", "data_model", "find_library", "recorded_products", "table_text"]
