"""The actions that cost energy: one fixed, ordered list that programs are counted in and tables are priced in.

An action's name is ``component.what``; docs/contracts/energy.md says when each one happens.
"""

from __future__ import annotations

__all__ = ["ACTIONS", "COMPONENTS", "component_of"]

ACTIONS: tuple[str, ...] = (
    "array.macs",  # one multiply and one add in a PE, of operands that are not zero
    "array.hop_bytes",  # operand or partial-sum bytes that move into a PE's register
    "array.idle_pe_cycles",  # PE cycles without a MAC while the matrix unit is occupied
    "scratchpad.read_bytes",
    "scratchpad.write_bytes",
    "accumulator.read_bytes",
    "accumulator.write_bytes",
    "vector.adds",  # fp32 add, subtract, compare or select in one lane
    "vector.muls",
    "vector.fmas",  # fp32 multiply-add
    "vector.specials",  # exp, log, reciprocal, reciprocal square root
    "vector.converts",  # fp32 to the operand format, with rounding
    "dram.read_bytes",
    "dram.write_bytes",
    "dram.activations",  # row-buffer activations
    "dram.background_cycles",  # cycles of standby power of the DRAM
    "control.commands",  # decode, dispatch, semaphores
    "control.fetch_bytes",  # command bytes read from DRAM
    "control.unit_cycles",  # cycles in which a unit's address generators run
    "leakage.cycles",  # cycles of leakage and clock tree of the whole chip
    # A MAC with a zero operand: multiplier and adder are held still. Last, so that sums without it keep their bits.
    "array.gated_macs",
)

COMPONENTS: tuple[str, ...] = tuple(dict.fromkeys(name.split(".")[0] for name in ACTIONS))


def component_of(action: str) -> str:
    """Give the component of an action.

    >>> component_of("dram.read_bytes")
    'dram'
    """
    return action.split(".")[0]
