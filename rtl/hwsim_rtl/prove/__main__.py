"""``python -m hwsim_rtl.prove``: run the proofs and print a table; the exit code is 1 if one fails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hwsim.errors import HwsimError
from hwsim_rtl.prove.flow import Proof, Result, prove
from hwsim_rtl.prove.proofs import PROOFS

__all__ = ["main"]

_COLUMNS = ("property", "component", "what", "method", "claims", "covers", "solver", "CPU s", "result")


def main(
    only: Annotated[str, typer.Option(help="Proofs whose names contain this.")] = "",
    cache: Annotated[Path, typer.Option(help="Folder of proofs.")] = Path("out/prove"),
) -> None:
    """Run the proofs."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    chosen = [proof for proof in PROOFS if only in proof.name]
    if not chosen:
        console.print(f"no proof is named like {only}; there are {', '.join(proof.name for proof in PROOFS)}")
        raise typer.Exit(1)
    table = Table(*_COLUMNS)
    failed = 0
    for proof in chosen:
        with console.status(proof.name):
            try:
                result = prove(proof, cache)
            except HwsimError as error:
                console.print(f"error: {error}")
                raise typer.Exit(1) from None
        failed += result.failure is not None
        table.add_row(*_row(proof, result))
    console.print(table)
    console.print(f"{len(chosen)} proofs, {failed} failed" + (f"; traces in {cache}" if failed else ""))
    raise typer.Exit(failed > 0)


def _row(proof: Proof, result: Result) -> list[str]:
    seconds = f"{result.seconds:.1f}" + (" (kept)" if result.cached else "")
    good = "[green]no failure[/]" if proof.bounded else "[green]proven[/]"
    verdict = f"[red]failed[/]: {result.failure}" if result.failure else good
    counts = [str(result.claims), str(result.covers)]
    return [proof.name, proof.component, proof.says, proof.method, *counts, proof.solver, seconds, verdict]


if __name__ == "__main__":
    typer.run(main)
