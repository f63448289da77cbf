"""Progress reporting: the pipeline calls a Reporter; Bars draws progress bars, Silent does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from engine.utils.signals import on_signal

Advance = Callable[[int], None]


class Reporter(Protocol):
    """Reports the progress of stages."""

    def stage(self, name: str, total: int | None) -> AbstractContextManager[Advance]:
        """Report a stage of `total` rows, or of an unknown number; yield a function to call with the rows just done."""
        ...


class Silent:
    """Reports nothing: the default of the Python interface."""

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        """Yield a function that does nothing."""
        yield lambda rows: None


class Bars:
    """Draws a progress bar for each stage on stderr, if that is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        """Yield a function that advances the bar of this stage."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        if not self._console.is_terminal:
            yield lambda rows: None
            return
        columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=False) as bars, on_signal(bars.stop):
            task = bars.add_task(name, total=total)
            yield lambda rows: bars.advance(task, rows)
