"""Arithmetic units, each with a fixed latency and one operation a cycle, equal to `hwsim.numerics` bit for bit.

Units are leaves (`hwsim_rtl.verilog.Leaf`). They have no valid signals: who uses them counts cycles. Normative:
docs/contracts/numerics.md, and docs/contracts/values.md, section 4.
"""

from hwsim_rtl.arithmetic.adders import Adder
from hwsim_rtl.arithmetic.compare import Clamp, Maximum, Select, SelectEqual
from hwsim_rtl.arithmetic.convert import Converter, Scale, Widen
from hwsim_rtl.arithmetic.lfsr import Lfsr, lane_constant
from hwsim_rtl.arithmetic.multipliers import Multiplier

__all__ = [
    "Adder",
    "Clamp",
    "Converter",
    "Lfsr",
    "Maximum",
    "Multiplier",
    "Scale",
    "Select",
    "SelectEqual",
    "Widen",
    "lane_constant",
]
