"""Where the blocks of a machine go on a device: the array's multipliers, the accumulator's memories, the lanes'.

A placer finds places for blocks one by one, and where a row of them is full it takes what is left, far away. Blocks of
a machine lie in a pattern, which this tells it; all else it places itself. docs/synthesis.md says what that is worth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ECP5_85K", "Grid", "floorplan", "put"]

_PE = re.compile(r"(?P<row>.*)\.pe_(?P<column>\d+)$")
_BANK = re.compile(r".*\.accumulator\.bank_\d+_\d+_(?P<column>\d+)$")
_LANE = re.compile(r".*\.vector\.lane_(?P<lane>\d+)$")


@dataclass(frozen=True)
class Grid:
    """Places of a device's blocks.

    Attributes
    ----------
    groups : int
        Along the width of the device; in each, every row of blocks has `width` places.
    width : int
        Places of a row in a group.
    multipliers, memories : mapping of int to tuple of str
        By row, from the top: the places, group by group.
    kinds : tuple of str
        Cell types of multipliers and of memories.
    """

    groups: int
    width: int
    multipliers: Mapping[int, tuple[str, ...]]
    memories: Mapping[int, tuple[str, ...]]
    kinds: tuple[str, str]

    def of(self, rows: Mapping[int, tuple[str, ...]], row: int, group: int) -> tuple[str, ...]:
        """Give the places of a row in a group."""
        return rows[row][group * self.width : (group + 1) * self.width]


def _row(y: int, name: str, places: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """Places of a row of an ECP5-85k: 13 groups of nine columns, with two more in the middle of the device."""
    return tuple(f"X{4 + 9 * group + 2 * (group >= 7) + x}/Y{y}/{name}{i}" for group in range(13) for x, i in places)


#: From the database of nextpnr-ecp5 0.11.1, LFE5U-85F and LFE5UM5G-85F.
ECP5_85K = Grid(
    groups=13,
    width=4,
    multipliers={y: _row(y, "MULT18_", ((0, 0), (1, 1), (4, 4), (5, 5))) for y in (10, 34, 58)},
    memories={y: _row(y, "EBR", ((0, 0), (2, 1), (4, 2), (6, 3))) for y in (22, 46, 70, 82)},
    kinds=("MULT18X18D", "DP16KD"),
)


def floorplan(paths: Iterable[str], grid: Grid) -> dict[str, tuple[str, ...]]:
    """Give places to the blocks inside instances of a machine.

    Columns of the array lie side by side at the right end of the device, those of one lane next to each other: above,
    in all rows of multipliers but the last, the PEs of the column; below its first rows of memories, all that follow,
    the memories of the accumulator's bank; in the last row of multipliers those of the lane.

    Parameters
    ----------
    paths : iterable of str
        Of all instances.
    grid : Grid
        Of the device.

    Returns
    -------
    dict of str to tuple of str
        By instance, the places of the blocks in it, in the order of their names. Nothing if the array has no more PEs
        than a row of the device has multipliers, which a placer manages by itself, or the pattern has no room.
    """
    pes: dict[str, dict[int, str]] = {}
    banks: dict[int, list[str]] = {}
    lanes: dict[int, str] = {}
    for path in paths:
        if found := _PE.match(path):
            pes.setdefault(found["row"], {})[int(found["column"])] = path
        elif found := _BANK.match(path):
            banks.setdefault(int(found["column"]), []).append(path)
        elif found := _LANE.match(path):
            lanes[int(found["lane"])] = path
    columns = 1 + max((column for row in pes.values() for column in row), default=-1)
    *above, beside = grid.multipliers
    below = list(grid.memories)[1:]
    a_row = -(-len(pes) // len(above))
    memories = max(map(len, banks.values()), default=0)
    if len(pes) * columns <= grid.groups * grid.width or columns > grid.groups:
        return {}
    if a_row > grid.width or memories > grid.width * len(below) or not 0 < len(lanes) <= columns:
        return {}

    order = [column for lane in sorted(lanes) for column in range(lane, columns, len(lanes))]
    group = {column: grid.groups - columns + i for i, column in enumerate(order)}
    plan: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(sorted(pes)):
        for column, path in pes[row].items():
            places = grid.of(grid.multipliers, above[number // a_row], group[column])
            plan[path] = (places[number % a_row],)
    for column, of_bank in banks.items():
        free = [place for row in below for place in grid.of(grid.memories, row, group[column])]
        plan |= {path: (place,) for path, place in zip(sorted(of_bank), free, strict=False)}
    for lane, path in lanes.items():
        plan[path] = grid.of(grid.multipliers, beside, group[lane])
    return plan


def put(cells: Mapping[str, Any], plan: Mapping[str, tuple[str, ...]], grid: Grid) -> int:
    """Tell the cells of a flat netlist their places; gives how many have one.

    Parameters
    ----------
    cells : mapping of str to mapping
        Of the top module, as ``write_json`` of Yosys wrote them.
    plan : mapping of str to tuple of str
        What `floorplan` gave. An instance with more blocks than places keeps those that are left over without one.
    grid : Grid
        Whose blocks they are.
    """
    blocks = sorted((_path(name), name) for name, cell in cells.items() if cell["type"] in grid.kinds)
    count = 0
    for path, places in plan.items():
        inside = (name for shown, name in blocks if shown.startswith(f"{path}."))
        for name, place in zip(inside, places, strict=False):
            cells[name]["attributes"]["BEL"] = place
            count += 1
    return count


def _path(name: str) -> str:
    """Path of a cell: where Yosys has named it, it marks how the cell came to its path."""
    return name.replace("$flatten", "").replace("\\", "")
