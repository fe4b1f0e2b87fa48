"""Delay lines: what makes operands and sums meet.

Each is one shift register, however long, so that the Verilog of large arrays stays small.
"""

from amaranth.hdl import Cat, Module, Signal, Value, ValueLike

__all__ = ["delayed"]


def delayed(m: Module, value: ValueLike, cycles: int, *, name: str, reset_less: bool = True) -> Value:
    """Give `value` as it was `cycles` cycles ago.

    Parameters
    ----------
    m : Module
        Where the registers are.
    value : ValueLike
        Bits to delay; a layout is delayed as its bits.
    cycles : int
        Delay [cycles], 0 or more; 0 is a wire.
    name : str
        Name of the shift register.
    reset_less : bool
        Operands need no reset; bits that start something do.
    """
    value = Value.cast(value)
    width = len(value)
    if cycles == 0 or width == 0:
        return value
    line = Signal(width * cycles, name=name, reset_less=reset_less)
    m.d.sync += line.eq(Cat(value, line))  # what is shifted out is cut off
    return line[-width:]
