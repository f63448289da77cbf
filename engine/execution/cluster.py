"""Passes on workers: runs of blocks as tasks, each read and computed where it is sent.

    function + table, or rows  ->  tasks (first block, last block)  ->  results in the order of the blocks

A task holds as many blocks as make about a second of work, and fewer where some workers would otherwise have none. What
is found for a block does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from engine.blocks import BLOCK_ROWS, Block, PartsTable, Table, reads_parts, row_count
from engine.config import ClusterConfig
from engine.errors import UsageError
from engine.execution.block_cache import to_forget
from engine.execution.glibc_malloc import keep_pages, return_pages
from engine.execution.memory import available_memory
from engine.execution.task_scheduler import Dispatcher
from engine.execution.threads import map_blocks, thread_count

Item = TypeVar("Item")
Result = TypeVar("Result")

TASKS_PER_WORKER = 2  # at least, where there are enough blocks: one can end while another begins


class Run(NamedTuple):
    """Blocks first … stop - 1."""

    first: int
    stop: int


class Crew(NamedTuple):
    """What the workers of a cluster have."""

    n_workers: int
    threads: int  # of the worker that has most
    free_bytes: int  # of memory for each: what is free on a machine, shared by its workers, where it is least

    @classmethod
    def started(cls, n_workers: int) -> Crew:
        """Return what processes have that are started on this machine."""
        return cls(n_workers, max(1, thread_count() // n_workers), available_memory() // n_workers)


class Cluster:
    """Workers that compute runs of blocks, `task_rows` rows at a time.

    Attributes
    ----------
    dispatcher : Dispatcher
    task_rows : int
    crew : Crew
        When the job began.
    scheduler : str or None
        Its address, for libraries whose workers have to be there all together; None where there is none.
    settings : ClusterConfig
    folder : Path or None
        That all workers see.
    room : int
        Bytes of memory that each worker may take for rows: whoever plans a job says so.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        task_rows: int,
        crew: Crew,
        *,
        scheduler: str | None = None,
        settings: ClusterConfig | None = None,
        folder: Path | None = None,
    ) -> None:
        self.dispatcher, self.task_rows, self.crew = dispatcher, task_rows, crew
        self.scheduler, self.settings, self.folder = (
            scheduler,
            ClusterConfig() if settings is None else settings,
            folder,
        )
        self.room = 0
        self._runs: list[Run] = []  # of the table's blocks …
        self._homes: dict[int, str] = {}  # … and who had them

    def over_table(
        self, function: Callable[[Block], Result], table: Table, columns: Sequence[str], coded: bool, what: str
    ) -> Iterator[Result]:
        """Yield function(block) for every block of a table, in order.

        Raises
        ------
        UsageError
            If workers cannot read a part of the table without the rest.
        """
        there = in_parts(table)
        blocks = partial(_read, there, list(columns), coded)
        return self.over_blocks(function, blocks, -(-row_count(there) // BLOCK_ROWS), what)

    def over_blocks(
        self, function: Callable[[Item], Result], blocks: Callable[[int, int], Iterable[Item]], n_blocks: int, what: str
    ) -> Iterator[Result]:
        """Yield function(block) for all of blocks(first, stop), in order; a run goes where it was in the last pass."""
        runs = self.runs(n_blocks, BLOCK_ROWS, self.task_rows)
        if runs != self._runs:
            self._runs, self._homes = runs, {}
        return self._flat(partial(_blocks, function, blocks), runs, what, self._homes)

    def over_rows(
        self, function: Callable[[slice], Result], n_rows: int, rows_per_block: int, what: str
    ) -> Iterator[Result]:
        """Yield function(rows) for every run of rows, in order."""
        task = partial(_blocks_of_rows, function, n_rows, rows_per_block)
        return self._flat(task, self.runs(-(-n_rows // rows_per_block), rows_per_block, self.task_rows), what)

    def map(
        self, function: Callable[[Any], Result], tasks: Sequence[Any], what: str, homes: dict[int, str] | None = None
    ) -> Iterator[Result]:
        """Yield function(task) for every task, in order; `homes` as in Dispatcher.map."""
        from engine.execution.function_pickling import packed  # which needs what comes with Dask

        return self.dispatcher.map(partial(compute, packed(function)), tasks, what, homes)

    def runs(self, n_blocks: int, rows_per_block: int, most: int) -> list[Run]:
        """Return tasks of so many blocks: up to `most` rows each, and some for every worker."""
        fair = -(-n_blocks // (TASKS_PER_WORKER * max(1, len(self.dispatcher.here()))))
        n_each = max(1, min(most // rows_per_block, fair))
        return [Run(first, min(first + n_each, n_blocks)) for first in range(0, n_blocks, n_each)]

    def _flat(
        self,
        function: Callable[[Run], list[Result]],
        runs: list[Run],
        what: str,
        homes: dict[int, str] | None = None,
    ) -> Iterator[Result]:
        for results in self.map(function, runs, what, homes):
            yield from results


def in_parts(table: Table) -> PartsTable:
    """Return the table if workers can read parts of it, or raise UsageError."""
    if reads_parts(table):
        return table
    raise UsageError(
        "Workers can only share a table of Parquet files: nothing else can be read in parts.",
        hint="write the table as Parquet, or leave out --workers and --scheduler.",
    )


def compute(parcel: bytes, task: Any) -> Any:
    """Compute a task; runs on the worker."""
    from engine.execution.function_pickling import unpacked

    keep_pages()
    return unpacked(parcel)(task)


to_forget(return_pages)


def _read(table: PartsTable, columns: list[str], coded: bool, first: int, stop: int) -> Iterator[Block]:
    return table.blocks(columns, coded=coded, first=first, stop=stop)


def _blocks(function: Callable[[Item], Result], blocks: Callable[[int, int], Iterable[Item]], run: Run) -> list[Result]:
    return list(map_blocks(function, blocks(run.first, run.stop)))


def _blocks_of_rows(function: Callable[[slice], Result], n_rows: int, rows_per_block: int, run: Run) -> list[Result]:
    rows = range(run.first * rows_per_block, min(run.stop * rows_per_block, n_rows), rows_per_block)
    return list(map_blocks(function, (slice(start, min(start + rows_per_block, n_rows)) for start in rows)))
