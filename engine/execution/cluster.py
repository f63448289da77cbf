"""Run a pass over blocks on the workers of a cluster: each task is a range of blocks, read and computed by one worker.

    function + table, or rows  ->  tasks (first block, last block)  ->  results in the order of the blocks

A task holds as many blocks as make about a second of work, and fewer where some workers would otherwise have none. The
result of a block does not depend on its task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from engine.blocks import BLOCK_ROWS, Block, RandomAccessTable, Table, count_rows, has_random_access
from engine.config import ClusterConfig
from engine.errors import UsageError
from engine.execution.block_cache import register_cleanup
from engine.execution.glibc_malloc import keep_freed_pages, restore_thresholds
from engine.execution.memory import available_memory
from engine.execution.task_scheduler import TaskScheduler
from engine.execution.threads import map_blocks, thread_count

Item = TypeVar("Item")
Result = TypeVar("Result")

MIN_TASKS_PER_WORKER = 2  # where there are enough blocks: one task can end while another begins


class BlockRange(NamedTuple):
    """The blocks first … stop - 1."""

    first: int
    stop: int


class WorkerResources(NamedTuple):
    """The number of workers of a cluster, and the threads and memory of each."""

    n_workers: int
    threads: int  # of the worker with most threads
    free_bytes: int  # of memory for each worker: a machine's free memory over its workers, on the machine with least

    @classmethod
    def on_this_machine(cls, n_workers: int) -> WorkerResources:
        """Return the resources of `n_workers` processes that share this machine."""
        return cls(n_workers, max(1, thread_count() // n_workers), available_memory() // n_workers)


class Cluster:
    """Workers that compute ranges of blocks, `task_rows` rows at a time.

    Attributes
    ----------
    task_scheduler : TaskScheduler
    task_rows : int
    resources : WorkerResources
        When the job began.
    scheduler_address : str or None
        Address of the Dask scheduler, for libraries that need all workers at once; None where there is none.
    settings : ClusterConfig
    folder : Path or None
        A folder that all workers see.
    memory_limit : int
        Bytes of memory that each worker may take to cache rows; the memory plan of a job sets it.
    """

    def __init__(
        self,
        task_scheduler: TaskScheduler,
        task_rows: int,
        resources: WorkerResources,
        *,
        scheduler_address: str | None = None,
        settings: ClusterConfig | None = None,
        folder: Path | None = None,
    ) -> None:
        self.task_scheduler, self.task_rows, self.resources = task_scheduler, task_rows, resources
        self.scheduler_address = scheduler_address
        self.settings = ClusterConfig() if settings is None else settings
        self.folder = folder
        self.memory_limit = 0
        # The block ranges of the last pass over the table, and the worker that computed each.
        self._ranges: list[BlockRange] = []
        self._last_worker: dict[int, str] = {}

    def over_table(
        self,
        function: Callable[[Block], Result],
        table: Table,
        columns: Sequence[str],
        dictionary_encoded: bool,
        pass_name: str,
    ) -> Iterator[Result]:
        """Yield function(block) for every block of a table, in order.

        Raises
        ------
        UsageError
            If workers cannot read a part of the table without the rest.
        """
        table = require_random_access(table)
        blocks = partial(_read_blocks, table, list(columns), dictionary_encoded)
        return self.over_blocks(function, blocks, -(-count_rows(table) // BLOCK_ROWS), pass_name)

    def over_blocks(
        self,
        function: Callable[[Item], Result],
        blocks: Callable[[int, int], Iterable[Item]],
        n_blocks: int,
        pass_name: str,
    ) -> Iterator[Result]:
        """Yield function(block) for all of blocks(first, stop), in order.

        A range of blocks goes to the worker that computed it in the last pass.
        """
        ranges = self.block_ranges(n_blocks, BLOCK_ROWS, self.task_rows)
        if ranges != self._ranges:
            self._ranges, self._last_worker = ranges, {}
        return self._map_ranges(partial(_map_range, function, blocks), ranges, pass_name, self._last_worker)

    def over_rows(
        self, function: Callable[[slice], Result], n_rows: int, rows_per_block: int, pass_name: str
    ) -> Iterator[Result]:
        """Yield function(slice of rows) for every block of rows, in order."""
        task = partial(_map_row_range, function, n_rows, rows_per_block)
        ranges = self.block_ranges(-(-n_rows // rows_per_block), rows_per_block, self.task_rows)
        return self._map_ranges(task, ranges, pass_name)

    def map(
        self,
        function: Callable[[Any], Result],
        tasks: Sequence[Any],
        pass_name: str,
        last_worker: dict[int, str] | None = None,
    ) -> Iterator[Result]:
        """Yield function(task) for every task, in order; `last_worker` as in TaskScheduler.map."""
        from engine.execution.function_pickling import pickle_function  # needs packages that come with Dask

        return self.task_scheduler.map(partial(run_task, pickle_function(function)), tasks, pass_name, last_worker)

    def block_ranges(self, n_blocks: int, rows_per_block: int, max_rows: int) -> list[BlockRange]:
        """Split blocks into tasks of up to `max_rows` rows each, and of fewer where some workers would get none."""
        n_live = max(1, len(self.task_scheduler.live_workers()))
        fair_share = -(-n_blocks // (MIN_TASKS_PER_WORKER * n_live))
        n_each = max(1, min(max_rows // rows_per_block, fair_share))
        return [BlockRange(first, min(first + n_each, n_blocks)) for first in range(0, n_blocks, n_each)]

    def _map_ranges(
        self,
        function: Callable[[BlockRange], list[Result]],
        ranges: list[BlockRange],
        pass_name: str,
        last_worker: dict[int, str] | None = None,
    ) -> Iterator[Result]:
        for results in self.map(function, ranges, pass_name, last_worker):
            yield from results


def require_random_access(table: Table) -> RandomAccessTable:
    """Return the table if workers can read parts of it, or raise UsageError."""
    if has_random_access(table):
        return table
    raise UsageError(
        "Workers can only share a table of Parquet files: nothing else can be read in parts.",
        hint="write the table as Parquet, or leave out --workers and --scheduler.",
    )


def run_task(pickled_function: bytes, task: Any) -> Any:
    """Compute a task on the worker."""
    from engine.execution.function_pickling import unpickle_function

    keep_freed_pages()
    return unpickle_function(pickled_function)(task)


register_cleanup(restore_thresholds)


def _read_blocks(
    table: RandomAccessTable, columns: list[str], dictionary_encoded: bool, first: int, stop: int
) -> Iterator[Block]:
    return table.blocks(columns, dictionary_encoded=dictionary_encoded, first=first, stop=stop)


def _map_range(
    function: Callable[[Item], Result], blocks: Callable[[int, int], Iterable[Item]], block_range: BlockRange
) -> list[Result]:
    return list(map_blocks(function, blocks(block_range.first, block_range.stop)))


def _map_row_range(
    function: Callable[[slice], Result], n_rows: int, rows_per_block: int, block_range: BlockRange
) -> list[Result]:
    starts = range(block_range.first * rows_per_block, min(block_range.stop * rows_per_block, n_rows), rows_per_block)
    return list(map_blocks(function, (slice(start, min(start + rows_per_block, n_rows)) for start in starts)))
