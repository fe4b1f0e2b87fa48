"""Numbers for people: seconds, joules and bytes with a prefix and four significant digits."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["binary", "column", "quantity", "scale"]

_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}
_BINARY = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def quantity(value: float, unit: str, digits: int = 4) -> str:
    """Write a value with an SI prefix; a unit that is a word stands apart from its prefix.

    >>> quantity(0.00123456, "J")
    '1.235 mJ'
    >>> quantity(2.5e9, "cycles")
    '2.500 G cycles'
    >>> quantity(42, "cycles")
    '42 cycles'
    >>> quantity(999.96e-3, "s")
    '1.000 s'
    """
    if value == round(value) and abs(value) < 1000:
        return f"{round(value)} {unit}"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])
    power = max(-12, min(15, 3 * (exponent // 3)))
    decimals = max(0, digits - 1 - (exponent - power))
    return f"{value / 10.0**power:,.{decimals}f} {_label(power, unit)}"


def binary(size: float) -> str:
    """Write a number of bytes.

    >>> binary(1536)
    '1.500 KiB'
    >>> binary(100)
    '100 bytes'
    """
    power = _binary_power(size)
    if power == 0:
        return f"{size:.0f} bytes"
    value = size / 1024.0**power
    return f"{value:,.{_decimals(value)}f} {_BINARY[power]}"


def scale(largest: float, unit: str) -> tuple[float, str]:
    """Give the factor and the label that bring the largest value of a column or an axis between 1 and 1,000.

    >>> scale(0.0421, "J")
    (1000.0, 'mJ')
    >>> scale(3 * 2**20, "bytes")[1]
    'MiB'
    """
    if unit == "bytes":
        power = _binary_power(largest)
        return 1024.0**-power, _BINARY[power]
    exponent = int(f"{largest:.3e}".split("e")[1]) if largest else 0
    si = max(-12, min(15, 3 * (exponent // 3)))
    return 10.0**-si, _label(si, unit)


def column(values: Sequence[float], unit: str, digits: int = 4) -> tuple[str, list[str]]:
    """Write a column in one unit with one number of decimals, so that it can be compared and summed by eye.

    The largest has `digits` significant digits; what would read as zero and is not, reads ``<0.01`` or the like.

    >>> column([0.0421, 0.00000012, 0], "J")
    ('mJ', ['42.10', '<0.01', '0'])
    """
    largest = max((abs(v) for v in values), default=0.0)
    factor, label = scale(largest, unit)
    whole = factor == 1.0 and all(v == round(v) for v in values)
    decimals = 0 if whole else _decimals(largest * factor, digits)
    least = 10.0**-decimals
    cells = []
    for value in values:
        scaled = value * factor
        tiny = 0 < scaled < least / 2
        cells.append("0" if scaled == 0 else f"<{least:.{decimals}f}" if tiny else f"{scaled:,.{decimals}f}")
    return label, cells


def _label(power: int, unit: str) -> str:
    prefix = _PREFIXES[power]
    return f"{prefix} {unit}".strip() if len(unit) > 2 else prefix + unit


def _decimals(value: float, digits: int = 4) -> int:
    return max(0, digits - len(f"{value:.0f}"))


def _binary_power(size: float) -> int:
    power = 0
    while size >= 1023.5 and power < len(_BINARY) - 1:
        size /= 1024
        power += 1
    return power
