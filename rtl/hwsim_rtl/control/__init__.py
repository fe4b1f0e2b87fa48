"""The control of the accelerator: it fetches commands, hands them out, and says when each may start.

`Control` keeps docs/contracts/cycles.md, section 1, to the cycle; docs/rtl-control.md says what happens in which one.
"""

from hwsim_rtl.control.command import COMMAND, UNIT_COMMANDS, command_layout
from hwsim_rtl.control.control import Control, FetchSignature, UnitSignature
from hwsim_rtl.control.dispatch import Fault, legal_opcodes

__all__ = [
    "COMMAND",
    "UNIT_COMMANDS",
    "Control",
    "Fault",
    "FetchSignature",
    "UnitSignature",
    "command_layout",
    "legal_opcodes",
]
