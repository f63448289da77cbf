"""Run a pass over blocks: on the threads of this process, or on workers inside `with run_on(cluster)`.

    a pure function, a table or a number of rows  ->  function(block) for every block, in the order of the blocks

Callers write a pass once. In this process, threads.py computes the blocks; on a cluster, each worker reads ranges of
blocks by itself and uses its own threads. The result for a block has to be small: it travels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from engine.execution.threads import map_blocks, row_blocks

if TYPE_CHECKING:
    from engine.blocks import Block, Table
    from engine.execution.cluster import Cluster

Item = TypeVar("Item")
Result = TypeVar("Result")

_current: ContextVar[Cluster | None] = ContextVar("rooms_cluster", default=None)


@contextmanager
def run_on(cluster: Cluster | None) -> Iterator[None]:
    """Run the passes inside this block on a cluster, or in this process if it is None."""
    token = _current.set(cluster)
    try:
        yield
    finally:
        _current.reset(token)


def current_cluster() -> Cluster | None:
    """Return the cluster that passes run on, None for this process."""
    return _current.get()


def over_table(
    function: Callable[[Block], Result],
    table: Table,
    columns: Sequence[str],
    *,
    dictionary_encoded: bool = False,
    pass_name: str,
) -> Iterator[Result]:
    """Yield function(block) for every block of a table with these columns, in order."""
    cluster = current_cluster()
    if cluster is None:
        return map_blocks(function, table.blocks(columns, dictionary_encoded=dictionary_encoded))
    return cluster.over_table(function, table, columns, dictionary_encoded, pass_name)


def over_blocks(
    function: Callable[[Item], Result], blocks: Callable[[int, int], Iterable[Item]], n_blocks: int, *, pass_name: str
) -> Iterator[Result]:
    """Yield function(block) for all of blocks(first, stop), in order; each process reads its blocks by itself."""
    cluster = current_cluster()
    if cluster is None:
        return map_blocks(function, blocks(0, n_blocks))
    return cluster.over_blocks(function, blocks, n_blocks, pass_name)


def over_rows(
    function: Callable[[slice], Result], n_rows: int, rows_per_block: int, *, pass_name: str
) -> Iterator[Result]:
    """Yield function(slice of rows) for every block of rows of 0…n_rows, in order.

    Arrays that the function refers to must lie in mapped files: other processes read and fill them.
    """
    cluster = current_cluster()
    if cluster is None:
        return map_blocks(function, row_blocks(n_rows, rows_per_block))
    return cluster.over_rows(function, n_rows, rows_per_block, pass_name)
