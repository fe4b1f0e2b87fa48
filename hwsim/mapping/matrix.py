"""Matrix segments: linear and convolution, forward, dgrad and wgrad, described for the tiling kernels.

A segment is one of two forms (docs/contracts/cycles.md, section 2). *Pixels × channels*: ``y[p, n] = Σ x[p·inc +
tap, c] · w[n, tap, c]`` over taps and channels
(forward; dgrad, one segment per residue class of a strided convolution; plain GEMM). *wgrad*: ``w[n, tap, c] = Σ
y[p, n] · x[p·inc + tap, c]`` over pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, Dataflow
from hwsim.mapping import _kernels
from hwsim.mapping.layout import dispatch_cycles, image_of, pitch
from hwsim.program import CAUSES, FIELDS, RESOURCE_NAMES, Program

__all__ = [
    "Gap",
    "MatrixSegment",
    "Tiling",
    "conv_segments",
    "gemm_segment",
    "kernels_are_compiled",
    "least_bank_lines",
    "machine_vector",
    "scratchpad_too_small",
    "smallest_bank_lines",
    "tile_segment",
]

_DATAFLOW_CODE = {Dataflow.WEIGHT_STATIONARY: 0, Dataflow.INPUT_STATIONARY: 1, Dataflow.OUTPUT_STATIONARY: 2}


@dataclass(frozen=True)
class MatrixSegment:
    """One tiled GEMM before tiling: the values of the kernels' spec vector, by name."""

    values: tuple[int, ...]

    @staticmethod
    def of(**fields: int) -> MatrixSegment:
        """Build from named fields; those not named are 0."""
        vector = [0] * len(_kernels.SPEC)
        for name, value in fields.items():
            vector[_kernels.SPEC[name]] = int(value)
        return MatrixSegment(tuple(vector))

    def __getitem__(self, name: str) -> int:
        return self.values[_kernels.SPEC[name]]


@dataclass(frozen=True, eq=False)
class Tiling:
    """The best tiling of a segment: its program, its cycles, and how it was found."""

    program: Program
    cycles: int
    tile: Mapping[str, int]
    candidates: int
    timed: int

    def describe(self, segment: MatrixSegment) -> str:
        """Say the tile in words."""
        t = self.tile
        form = "wgrad" if segment["FORM"] else "pixels"
        held = "expanded im2col" if t["EXPANDED"] else "patch"
        return f"{form} {t['B']}×{t['H']}×{t['W']}, channels {t['C']}, outputs {t['N']}, {held}, order {t['ORDER']}"


def kernels_are_compiled() -> bool:
    """Whether the search was compiled on this machine before: the first time takes about half a minute."""
    return any(Path(_kernels.search.stats.cache_path or ".").glob("_kernels.search-*.nbi"))


def machine_vector(hw: Accelerator) -> NDArray[np.int64]:
    """What the kernels need of an accelerator: ndarray of shape (17,)."""
    a = hw.array
    return np.array(
        [
            a.rows,
            a.cols,
            hw.line_elements,
            _DATAFLOW_CODE[a.dataflow],
            a.add_latency_cycles,
            a.multiply_latency_cycles,
            hw.accumulator.add_latency_cycles,
            hw.dram.beat_bytes,
            hw.dram.latency_cycles,
            hw.vector.lanes,
            hw.vector.latency_cycles,
            hw.scratchpad_bank_lines,
            hw.scratchpad.banks,
            hw.accumulator_slot_lines,
            hw.control.queue_depth,
            dispatch_cycles(hw),
            hw.dram.channels,
        ],
        np.int64,
    )


def tile_segment(segment: MatrixSegment, hw: Accelerator, name: str) -> Tiling:
    """Find the tiling with the fewest cycles, then the fewest beats on the port.

    Exact over: channels and outputs ``⌈size ÷ 2^i⌉`` rounded up to the array, pixel boxes that halve the batch, then
    the height, then the width, one or all
    kernel rows (wgrad), patch or expanded im2col, both loop orders, and stores deferred by one or two tiles. What a
    lower bound excludes is not timed.

    Raises
    ------
    HwsimError
        If not even the smallest tile fits; the message says by how much.
    """
    spec = np.array(segment.values, np.int64)
    machine = machine_vector(hw)
    best = np.zeros(len(_kernels.TILE), np.int64)
    items = np.empty((_kernels.MAX_ITEMS, FIELDS), np.int64)
    steps = np.empty((_kernels.MAX_STEPS, 4), np.int64)
    busy, stalls = np.zeros(len(RESOURCE_NAMES), np.int64), np.zeros((len(RESOURCE_NAMES), len(CAUSES)), np.int64)
    cycles, candidates, timed = _kernels.search(spec, machine, best, items, steps, busy, stalls)
    if candidates >= _kernels.MOST_CANDIDATES:
        raise HwsimError(f"{name}: the search takes at most {_kernels.MOST_CANDIDATES} tilings; split the op")
    if cycles < 0:
        raise HwsimError(_too_small(spec, machine, hw, name))
    used, moved = _kernels.emit(spec, machine, best, items, steps)
    tile = dict(zip(_kernels.TILE, best.tolist(), strict=True))
    return Tiling(Program(items[:used].copy(), steps[:moved].copy()), int(cycles), tile, candidates, timed)


def least_bank_lines(segment: MatrixSegment, hw: Accelerator, tile: Mapping[str, int]) -> int:
    """Lines per bank of the scratchpad down to which a tiling fits, everything else unchanged.

    The search gives the same tiling for every scratchpad between this and the one it was found with: fewer lines only
    take candidates away, and neither cycles nor counts of one depend on them.
    """
    vector = np.array([tile[name] for name in _kernels.TILE], np.int64)
    return int(_kernels.least_bank_lines(np.array(segment.values, np.int64), machine_vector(hw), vector))


def smallest_bank_lines(segment: MatrixSegment, hw: Accelerator) -> int | None:
    """Lines per bank with which some tiling fits, everything else unchanged; None if no scratchpad is large enough."""
    machine = machine_vector(hw)
    machine[_kernels.BANK_LINES] = 1
    return _smallest_that_fits(np.array(segment.values, np.int64), machine, _kernels.BANK_LINES)


def scratchpad_too_small(name: str, have_bytes: int, need_bytes: int) -> str:
    """Say that no tile fits the scratchpad, and what would do."""
    return (
        f"{name}: one tile must fit the scratchpad, {have_bytes} bytes; the smallest that would do has "
        f"{need_bytes} bytes, {need_bytes - have_bytes} more"
    )


def _too_small(spec: NDArray[np.int64], machine: NDArray[np.int64], hw: Accelerator, name: str) -> str:
    """Say which memory no tile fits, and the smallest one that would do with everything else unchanged."""
    scratchpad, accumulator = hw.scratchpad.capacity_bytes, hw.accumulator.capacity_bytes
    lines = _smallest_that_fits(spec, machine, _kernels.BANK_LINES)
    if lines is not None:
        return scratchpad_too_small(name, scratchpad, lines * hw.scratchpad.banks * hw.scratchpad_line_bytes)
    lines = _smallest_that_fits(spec, machine, _kernels.SUM_LINES)
    if lines is not None:
        need = lines * 2 * 4 * hw.array.cols
        return (
            f"{name}: one tile must fit the accumulator, {accumulator} bytes; the smallest that would do has "
            f"{need} bytes, {need - accumulator} more"
        )
    return (
        f"{name}: one tile must fit the scratchpad, {scratchpad} bytes, and the accumulator, "
        f"{accumulator} bytes; both must be larger"
    )


def _smallest_that_fits(spec: NDArray[np.int64], machine: NDArray[np.int64], field: int) -> int | None:
    """Give the least value of one machine field, at least its present one, for which some tile fits; by bisection."""
    space = np.empty((8, len(_kernels.TILE)), np.int64), np.empty(8, np.int64), np.empty(8, np.int64)

    def fits(value: int) -> bool:
        tried = machine.copy()
        tried[field] = value
        return bool(_kernels._candidates(spec, tried, *space))

    high = int(machine[field])
    low = high - 1
    while not fits(high):
        low, high = high, 2 * high
        if high > 1 << 40:
            return None
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def gemm_segment(
    m: int,
    k: int,
    n: int,
    hw: Accelerator,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: bool = False,
    wgrad: bool = False,
    out_bytes: int | None = None,
) -> MatrixSegment:
    """Describe C (m, n) = A (m, k) · B (k, n), operands in DRAM as stored lines.

    Parameters
    ----------
    m, k, n : int
        Sizes; k is the reduction.
    hw : Accelerator
        For the operand format and the bus.
    transpose_a, transpose_b : bool
        A is stored as (k, m), B as (n, k).
    bias : bool
        Add one fp32 value per output column.
    wgrad : bool
        Give the form that reduces over lines: A stored as (k, m), B as (k, n), fp32 result.
    out_bytes : int, optional
        Bytes of a result element; the operand's by default, 4 for `wgrad`.
    """
    e, bus = hw.operand_bytes, hw.dram.beat_bytes
    if wgrad:
        x, y, w = pitch(n, e, bus), pitch(m, e, bus), pitch(n, 4, bus)
        return MatrixSegment.of(
            FORM=1,
            GROUPS=1,
            B=k,
            H=1,
            W=1,
            TAPS_H=1,
            TAPS_W=1,
            INC_H=1,
            INC_W=1,
            TAP_H=1,
            TAP_W=1,
            LIMIT_H=1,
            LIMIT_W=1,
            C=n,
            N=m,
            IN_BYTES=e,
            OUT_BYTES=out_bytes or 4,
            X_B=x,
            X_H=x,
            X_W=x,
            Y_B=y,
            Y_H=y,
            Y_W=y,
            W_LINE=w,
            W_TAP_H=w,
            W_TAP_W=w,
        )
    out = out_bytes or e
    x = pitch(m if transpose_a else k, e, bus)
    w = pitch(k if transpose_b else n, e, bus)
    y = pitch(n, out, bus)
    return MatrixSegment.of(
        GROUPS=1,
        B=m,
        H=1,
        W=1,
        TAPS_H=1,
        TAPS_W=1,
        INC_H=1,
        INC_W=1,
        TAP_H=1,
        TAP_W=1,
        LIMIT_H=1,
        LIMIT_W=1,
        C=k,
        N=n,
        IN_BYTES=e,
        OUT_BYTES=out,
        X_B=x,
        X_H=x,
        X_W=x,
        X_BY_K=transpose_a,
        W_BY_K=not transpose_b,
        W_LINE=w,
        W_TAP_H=w,
        W_TAP_W=w,
        Y_B=y,
        Y_H=y,
        Y_W=y,
        BIAS=bias,
    )


@dataclass(frozen=True)
class Gap:
    """Pixels of every image that no tap of a strided convolution reaches: a grid, in bytes from the image's start."""

    offset: int
    rows: int
    row_bytes: int
    pixels: int
    pixel_bytes: int


@dataclass(frozen=True)
class _Axis:
    """One residue class of one axis of a strided dgrad: input positions ``first + stride · j``, taps in arithmetic
    progression.
    """

    first: int
    positions: int
    taps: int
    first_tap: int
    tap_step: int  # in kernel positions
    start: int  # output coordinate that j = 0 meets with the first tap
    move: int  # output coordinates per tap


def _classes(size: int, taps: int, stride: int, padding: int, dilation: int) -> Iterator[_Axis]:
    for residue in range(min(stride, size)):
        members = [r for r in range(taps) if (residue + padding - r * dilation) % stride == 0]
        step = stride // gcd(stride, dilation)
        first = members[0] if members else 0
        yield _Axis(
            residue,
            -(-(size - residue) // stride),
            len(members),
            first,
            step,
            (residue + padding - first * dilation) // stride,
            -(step * dilation) // stride,
        )


def conv_segments(
    phase: str,
    x: tuple[int, ...],
    w: tuple[int, ...],
    y: tuple[int, ...],
    attrs: Mapping[str, Any],
    hw: Accelerator,
    *,
    bias: bool = False,
) -> tuple[list[MatrixSegment], list[Gap]]:
    """Describe a convolution: ``"forward"``, ``"dgrad"`` or ``"wgrad"``.

    Parameters
    ----------
    phase : str
        Which of the three GEMMs.
    x, w, y : tuple of int
        Shapes of input (batch, h, w, c), weights (out, kh, kw, in ÷ groups) and output.
    attrs : mapping
        stride, padding, dilation (pairs), groups.
    hw : Accelerator
        For the operand format and the bus.
    bias : bool
        Forward only: add one fp32 value per output channel.

    Returns
    -------
    segments : list of MatrixSegment
        One, or for a strided dgrad one per residue class that any tap reaches.
    gaps : list of Gap
        dgrad only: input positions that no tap reaches, whose gradient is zero.
    """
    e, bus, groups = hw.operand_bytes, hw.dram.beat_bytes, int(attrs["groups"])
    (sh, sw), (ph, pw), (dh, dw) = attrs["stride"], attrs["padding"], attrs["dilation"]
    out, kh, kw, ci = w
    co = out // groups
    image_x, image_y = image_of(x, e, bus), image_of(y, e, bus)
    wp = pitch(ci, e, bus)
    odd_x = groups > 1 and (ci * e) % bus != 0
    odd_y = groups > 1 and (co * e) % bus != 0
    if phase != "dgrad":
        out_pitch = pitch(ci, 4, bus)
        weights = out_pitch if phase == "wgrad" else wp
        segment = MatrixSegment.of(
            FORM=phase == "wgrad",
            GROUPS=groups,
            B=y[0],
            H=y[1],
            W=y[2],
            TAPS_H=kh,
            TAPS_W=kw,
            INC_H=sh,
            INC_W=sw,
            TAP_H=dh,
            TAP_W=dw,
            START_H=-ph,
            START_W=-pw,
            LIMIT_H=x[1],
            LIMIT_W=x[2],
            C=ci,
            N=co,
            IN_BYTES=e,
            OUT_BYTES=4 if phase == "wgrad" else e,
            X_B=image_x.batch,
            X_H=image_x.row,
            X_W=image_x.pixel,
            X_GROUP=ci * e,
            X_ODD=odd_x,
            W_LINE=kh * kw * weights,
            W_TAP_H=kw * weights,
            W_TAP_W=weights,
            W_GROUP=co * kh * kw * weights,
            Y_B=image_y.batch,
            Y_H=image_y.row,
            Y_W=image_y.pixel,
            Y_GROUP=co * e,
            Y_ODD=odd_y,
            BIAS=bias,
        )
        return [segment], []
    segments, gaps = [], []
    for v in _classes(x[1], kh, sh, ph, dh):
        if not v.taps:
            rows = v.first * image_x.row, v.positions, sh * image_x.row
            gaps.append(Gap(*rows, x[2], image_x.pixel))
            continue
        for h in _classes(x[2], kw, sw, pw, dw):
            if not h.taps:
                start = v.first * image_x.row + h.first * image_x.pixel
                gaps.append(Gap(start, v.positions, sh * image_x.row, h.positions, sw * image_x.pixel))
                continue
            segments.append(
                MatrixSegment.of(
                    GROUPS=groups,
                    B=x[0],
                    H=v.positions,
                    W=h.positions,
                    TAPS_H=v.taps,
                    TAPS_W=h.taps,
                    INC_H=1,
                    INC_W=1,
                    TAP_H=v.move,
                    TAP_W=h.move,
                    START_H=v.start,
                    START_W=h.start,
                    LIMIT_H=y[1],
                    LIMIT_W=y[2],
                    C=co,
                    N=ci,
                    IN_BYTES=e,
                    OUT_BYTES=e,
                    X_B=image_y.batch,
                    X_H=image_y.row,
                    X_W=image_y.pixel,
                    X_GROUP=co * e,
                    X_ODD=odd_y,
                    W_BY_K=1,
                    W_LINE=kh * kw * wp,
                    W_TAP_H=v.tap_step * kw * wp,
                    W_TAP_W=h.tap_step * wp,
                    W_OFFSET=(v.first_tap * kw + h.first_tap) * wp,
                    W_GROUP=co * kh * kw * wp,
                    Y_B=image_x.batch,
                    Y_H=sh * image_x.row,
                    Y_W=sw * image_x.pixel,
                    Y_OFFSET=v.first * image_x.row + h.first * image_x.pixel,
                    Y_GROUP=ci * e,
                    Y_ODD=odd_x,
                )
            )
    return segments, gaps
