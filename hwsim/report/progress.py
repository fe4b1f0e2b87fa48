"""A progress bar for a sweep: points done, points per second, and the time that is left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["SweepDisplay"]


class SweepDisplay:
    """Shows how far a sweep is, where the console is a terminal.

    Parameters
    ----------
    console : Console
        Where.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} points"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=1, speed="")

    def __enter__(self) -> SweepDisplay:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def __call__(self, done: int, total: int) -> None:
        """Show that so many points are done."""
        speed = self._progress.tasks[0].speed
        text = f"{speed:,.0f} points/s" if speed else ""
        self._progress.update(self._task, completed=done, total=total, speed=text)
