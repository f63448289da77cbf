"""How long work tells how far it is: a reporter is handed down the pipeline, and a bar is one kind of reporter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from engine.utils.signals import tidied

Advance = Callable[[int], None]


class Reporter(Protocol):
    """Shows stages of work. `stage` yields a function that is called with the number of rows just done."""

    def stage(self, name: str, total: int | None) -> AbstractContextManager[Advance]:
        """Begin a stage of `total` rows, or of an unknown number."""
        ...


class Silent:
    """Report nothing: what the Python interface does unless asked."""

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        """Yield a function that does nothing."""
        yield lambda rows: None


class Bars:
    """Draw a progress bar a stage on stderr, while stderr is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        """Yield a function that advances this stage's bar."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        if not self._console.is_terminal:
            yield lambda rows: None
            return
        columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=False) as bars, tidied(bars.stop):
            task = bars.add_task(name, total=total)
            yield lambda rows: bars.advance(task, rows)
