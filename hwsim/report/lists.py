"""What the command line lists: networks, accelerators, terms and meanings; and the plain table of all reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hwsim.explain import Entry, entries
from hwsim.hardware import Accelerator

__all__ = ["plain_table", "print_list", "print_meanings", "print_presets", "print_terms"]


def print_list(headers: Sequence[str], rows: Iterable[Sequence[str]], console: Console) -> None:
    """Print rows of text under headers, the last column wrapped."""
    table = plain_table("")
    for header in headers[:-1]:
        table.add_column(header, no_wrap=True)
    table.add_column(headers[-1])
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def print_presets(accelerators: Iterable[Accelerator], console: Console) -> None:
    """Print a line of figures per accelerator."""
    headers = ("preset", "array", "data-\nflow", "format", "clock\nMHz", "on chip\nKiB", "DRAM\nGB/s", "node\nnm")
    rows = [
        (
            hw.name,
            f"{hw.array.rows}×{hw.array.cols}",
            hw.array.dataflow.value,
            hw.array.operand_format,
            f"{hw.clock_mhz:g}",
            f"{(hw.scratchpad.capacity_bytes + hw.accumulator.capacity_bytes) / 1024:,.0f}",
            f"{hw.dram_bytes_per_s / 1e9:.3g}",
            f"{hw.node_nm:g}",
        )
        for hw in accelerators
    ]
    print_list(headers, rows, console)


def print_meanings(meanings: Iterable[Entry], console: Console) -> None:
    """Print each meaning of a term: its names, its kind, its text."""
    for entry in meanings:
        console.print(Text.assemble((", ".join(entry.names), "bold"), (f"  ({entry.kind})", "dim")), soft_wrap=True)
        console.print(Padding(Text(entry.text), (0, 0, 0, 2)))


def print_terms(console: Console) -> None:
    """Print all terms that can be explained, by kind."""
    by_kind: dict[str, list[str]] = {}
    for entry in entries():
        by_kind.setdefault(entry.kind, []).append(entry.names[0])
    for kind, names in by_kind.items():
        console.print(Text(kind, style="bold"))
        console.print(Padding(Text(", ".join(names)), (0, 0, 0, 2)))


def plain_table(title: str) -> Table:
    """Make a table of few lines: a title, a rule under the header, no frame."""
    text = Text(f"\n{title}", style="bold") if title else None
    return Table(
        title=text, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
