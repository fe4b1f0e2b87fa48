"""SCALE-Sim's cycle count of a GEMM, restated, so that its numbers can be compared with ours.

It takes sizes and a dataflow and gives what SCALE-Sim 3.0.0 prints. Why our own cycles differ is
docs/contracts/cycles.md, section 5.
"""

from __future__ import annotations

from hwsim.errors import HwsimError
from hwsim.hardware import Dataflow

__all__ = ["compute_cycles"]


def compute_cycles(dataflow: Dataflow | str, m: int, k: int, n: int, rows: int, cols: int) -> int:
    """Give the compute cycles that SCALE-Sim reports for (m, k) × (k, n) → (m, n) on `rows` × `cols` PEs.

    Each dataflow lays two of the three sizes on the array and streams the third. Nothing overlaps between folds, an
    edge fold costs as much as a full one, and the report is the index of the last cycle, which starts at 0:
    ``folds · cycles per fold − 1``.

    ========  ================  ======================  ======================================================
    dataflow  folds             cycles per fold         in words
    ========  ================  ======================  ======================================================
    ``"os"``  ⌈m/rows⌉⌈n/cols⌉  rows + cols + k − 2     k steps, skewed over the array; no drain is counted
    ``"ws"``  ⌈k/rows⌉⌈n/cols⌉  2·rows + cols + m − 2   weights preloaded row by row, then m vectors, skewed
    ``"is"``  ⌈k/rows⌉⌈m/cols⌉  2·rows + cols + n − 2   the same with the inputs in the PEs and n vectors
    ========  ================  ======================  ======================================================

    Parameters
    ----------
    dataflow : Dataflow or str
        ``"ws"``, ``"os"`` or ``"is"``.
    m, k, n : int
        Sizes of the GEMM, at least 1; k is the reduction. A convolution has m output pixels, k = taps × input channels
        and n output channels.
    rows, cols : int
        PEs of the array, at least 1.

    Returns
    -------
    int
        Cycles as in ``COMPUTE_REPORT.csv`` [cycles].

    Raises
    ------
    HwsimError
        A size below 1, or an unknown dataflow.

    References
    ----------
    A. Samajdar et al., "A Systematic Methodology for Characterizing Scalability of DNN Accelerators using SCALE-Sim",
    ISPASS 2020, gives the folds. The cycles per fold are those of version 3.0.0, measured: its output-stationary form
    lacks the paper's drain of `rows` cycles. The rows are tests/validation/golden/scalesim_compute_cycles.csv.

    Examples
    --------
    One product on 8 × 8 PEs: 8 + 8 + 1 − 2 = 15 cycles, 0 to 14.

    >>> compute_cycles("os", 1, 1, 1, 8, 8)
    14

    Two weight folds of 2·2 + 2 + 3 − 2 = 7 cycles each:

    >>> compute_cycles(Dataflow.WEIGHT_STATIONARY, m=3, k=4, n=2, rows=2, cols=2)
    13
    """
    sizes = {"m": m, "k": k, "n": n, "rows": rows, "cols": cols}
    for name, size in sizes.items():
        if size < 1:
            raise HwsimError(f"{name} must be at least 1, not {size}")
    try:
        chosen = Dataflow(dataflow)
    except ValueError:
        names = ", ".join(d.value for d in Dataflow)
        raise HwsimError(f"unknown dataflow '{dataflow}'; choose one of {names}") from None
    match chosen:
        case Dataflow.OUTPUT_STATIONARY:
            folds = _ceil_div(m, rows) * _ceil_div(n, cols)
            fold_cycles = rows + cols + k - 2
        case Dataflow.WEIGHT_STATIONARY:
            folds = _ceil_div(k, rows) * _ceil_div(n, cols)
            fold_cycles = 2 * rows + cols + m - 2
        case Dataflow.INPUT_STATIONARY:
            folds = _ceil_div(k, rows) * _ceil_div(m, cols)
            fold_cycles = 2 * rows + cols + n - 2
    return folds * fold_cycles - 1


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
