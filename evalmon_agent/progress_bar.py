"""Shows on stderr, in a terminal only, how far a command is that takes longer than half a second."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

# ruff: noqa: PLC0415 - a tenth of a second, which only a command that takes long needs

_SILENT_S = 0.5
_BETWEEN_S = 0.1


@contextmanager
def progress_bar(doing: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Call the result with how many of `total` are done, as often as you like; None: only the time is shown.

    Without a thread: what is done meanwhile forks. In a pipe, a file or a job nothing is shown or imported.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") in {"dumb", "unknown"}:
        yield lambda _: None
        return
    due_at = time.monotonic() + _SILENT_S
    bar = None

    def show(done: int) -> None:
        nonlocal bar, due_at
        if time.monotonic() < due_at:
            return
        if bar is None:
            bar = _bar(doing, total)
            bar.start()
        bar.update(bar.task_ids[0], completed=done, refresh=True)
        due_at = time.monotonic() + _BETWEEN_S

    try:
        yield show
    finally:
        if bar is not None:
            bar.stop()


def _bar(doing: str, total: int | None) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [TimeElapsedColumn()] if total is None else [BarColumn(), MofNCompleteColumn()]
    bar = Progress(
        TextColumn("{task.description}"),
        *columns,
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bar.add_task(doing, total=total)
    return bar
