"""Progress reporting: the pipeline calls a Reporter; Bars draws progress bars, Silent does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from engine.utils.signals import on_signal

Advance = Callable[[int], None]


class Reporter(Protocol):
    """Reports the progress of stages, in rows or, as in the choice of k and K-Means, in steps."""

    def stage(self, name: str, total: int | None) -> AbstractContextManager[Advance]:
        """Report a stage of `total` rows or steps, or of an unknown number; yield what to call with those just done.

        Steps may be fewer than foreseen: a stage that ends is whole.
        """
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
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        if not self._console.is_terminal:
            yield lambda rows: None
            return
        columns = (
            TextColumn("{task.description:<16}"), BarColumn(), TextColumn("{task.fields[done]}"), TimeElapsedColumn()
        )  # fmt: skip
        with Progress(*columns, console=self._console, transient=False) as bars, on_signal(bars.stop):
            task = bars.add_task(name, total=total, done="")
            n_done = 0

            def advance(rows: int) -> None:
                nonlocal n_done
                n_done += rows
                whole = "" if total is None else f" of {total:,}"
                bars.update(task, completed=n_done, done=f"{n_done:,}{whole}")

            yield advance
            whole = max(n_done, 1)  # steps may be fewer than foreseen: the bar is full all the same
            bars.update(task, total=whole, completed=whole, done=f"{n_done:,}" if n_done > 1 else "done")
