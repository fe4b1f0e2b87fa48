"""Energy and leakage of an SRAM bank by its capacity and node, fitted through the table's ``sram`` rows.

Reads: E per bit = a · size^b · node^p, least squares of the logarithms; the largest miss is the interval. Normative:
docs/contracts/energy.md, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hwsim.energy.scaling import Estimate, scale
from hwsim.energy.table import EnergyRow, EnergyTable
from hwsim.errors import HwsimError

__all__ = ["SramFit", "leakage_pj_per_byte_ns", "read_pj_per_byte", "sram_fit", "write_to_read_ratio"]

#: Capacity and node at which the fit's factor `a` is stated.
REFERENCE_BYTES, REFERENCE_NM = 64 * 1024, 45.0

#: How far the exponent of size may be off outside the fitted sizes: the spread of the exponents of the single sources
#: (Jouppi 7 nm 0.13, Horowitz 0.47, CACTI 45 nm 0.51, CACTI 22 nm 0.58) about the fitted one. Estimate of this
#: project.
SIZE_EXPONENT_ERROR = 0.25


@dataclass(frozen=True)
class SramFit:
    """Coefficients of ``value = factor · (bytes / 64 KiB)^size_exponent · (node / 45 nm)^node_exponent``.

    Attributes
    ----------
    factor : float
        At 64 KiB and 45 nm [pJ per bit, or pJ per ns and byte for leakage].
    size_exponent, node_exponent : float
        Both above 0: larger banks and older nodes cost more.
    error : float
        Largest ratio between a row's bound and the fit, either way; at least 1. Every row, with its bounds, lies in
        the fit's interval.
    sizes, nodes : tuple of float
        Fitted range [bytes], [nm]; beyond it the interval widens.
    sources : tuple of str
        Of the rows.
    """

    factor: float
    size_exponent: float
    node_exponent: float
    error: float
    sizes: tuple[float, float]
    nodes: tuple[float, float]
    sources: tuple[str, ...]

    def at(self, size_bytes: float, node_nm: float) -> Estimate:
        """Evaluate the fit, with its interval."""
        node = min(max(node_nm, self.nodes[0]), self.nodes[1])
        value = self.factor * (size_bytes / REFERENCE_BYTES) ** self.size_exponent
        value *= (node / REFERENCE_NM) ** self.node_exponent
        beyond = np.maximum(np.maximum(size_bytes / self.sizes[1], self.sizes[0] / size_bytes), 1.0)
        error = self.error * beyond**SIZE_EXPONENT_ERROR
        return Estimate(value, value / error, value * error, self.sources) * scale(node, node_nm)


def read_pj_per_byte(table: EnergyTable, bank_bytes: float, node_nm: float) -> Estimate:
    """Energy of reading one byte of a line of a bank.

    Parameters
    ----------
    table : EnergyTable
        Source of the fit.
    bank_bytes : float
        Capacity of the bank [bytes].
    node_nm : float
        Node [nm].

    Raises
    ------
    HwsimError
        The table has too few ``sram`` rows for the fit.

    Examples
    --------
    >>> from hwsim.energy import load_energy_table
    >>> one_kib, mebibyte = (read_pj_per_byte(load_energy_table(), size, 45) for size in (2**10, 2**20))
    >>> round(one_kib.value, 1), round(mebibyte.value, 1)
    (0.5, 5.6)
    """
    return sram_fit(table, "read_").at(bank_bytes, node_nm) * 8.0


def write_to_read_ratio(table: EnergyTable) -> Estimate:
    """Write ÷ read of rows of one size, width and node: geometric mean, least and greatest.

    Raises
    ------
    HwsimError
        The table has too few ``sram`` rows for the fit.
    """
    reads = {(r.format_or_size, r.width_bits, r.node_nm): r for r in table.sram("read_")}
    pairs = [
        (w, reads[(w.format_or_size, w.width_bits, w.node_nm)])
        for w in table.sram("write_")
        if (w.format_or_size, w.width_bits, w.node_nm) in reads
    ]
    if not pairs:
        raise HwsimError(f"{table.name} has no sram row 'write_<bits>b' beside a read of its size, width and node")
    ratios = [write.value_pj / read.value_pj for write, read in pairs]
    mean = math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
    return Estimate(mean, min(ratios), max(ratios), _sources([write for write, _ in pairs]))


def leakage_pj_per_byte_ns(table: EnergyTable, node_nm: float) -> Estimate:
    """Leakage per byte of capacity [pJ per ns, that is mW, per byte], proportional to capacity.

    Above the oldest node of the rows it is held: older transistors leak less, so the figure there is generous.

    Raises
    ------
    HwsimError
        The table has too few ``sram`` rows for the fit.
    """
    fit = sram_fit(table, "leakage_")
    return fit.at(REFERENCE_BYTES, min(node_nm, fit.nodes[1]))


@lru_cache(maxsize=64)
def sram_fit(table: EnergyTable, prefix: str) -> SramFit:
    """Fit the ``sram`` rows of one kind, ``"read_"`` (per bit) or ``"leakage_"`` (per byte, no size term).

    Raises
    ------
    HwsimError
        If the rows do not determine a fit that rises with size and node.
    """
    rows, reading = table.sram(prefix), prefix == "read_"
    per: Callable[[EnergyRow], float] = (lambda r: r.width_bits) if reading else (lambda r: r.size_bytes)
    terms = [[1.0, math.log(r.node_nm / REFERENCE_NM)] for r in rows]
    if reading:
        terms = [[*t, math.log(r.size_bytes / REFERENCE_BYTES)] for t, r in zip(terms, rows, strict=True)]
    known = np.log([r.value_pj / per(r) for r in rows])
    if len(rows) < 2 or np.linalg.matrix_rank(np.array(terms)) < len(terms[0]):
        raise HwsimError(
            f"{table.name} must have sram rows '{prefix}…' of two nodes{' and two sizes' if reading else ''} to fit, "
            f"not {len(rows)}"
        )
    found = np.linalg.lstsq(np.array(terms), known, rcond=None)[0]
    factor, node, size = float(math.exp(found[0])), float(found[1]), float(found[2]) if reading else 0.0
    if node <= 0 or (reading and size <= 0):
        raise HwsimError(
            f"{table.name}: the fit through sram rows '{prefix}…' must rise with size and node, "
            f"but its exponents are {size:.2f} and {node:.2f}; check the rows"
        )
    residuals = known - np.array(terms) @ found
    misses = [e + math.log(b / r.value_pj) for r, e in zip(rows, residuals, strict=True) for b in (r.low_pj, r.high_pj)]
    error = math.exp(max(map(abs, misses)))
    sizes, nodes = [float(r.size_bytes) for r in rows], [r.node_nm for r in rows]
    ranges = (min(sizes), max(sizes)), (min(nodes), max(nodes))
    return SramFit(factor, size, node, error, *ranges, _sources(rows))


def _sources(rows: Sequence[EnergyRow]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(source for row in rows for source in row.estimate.sources))
