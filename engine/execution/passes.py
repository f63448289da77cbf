"""Where passes run: on the threads of this process, or on workers while `on(cluster)` says so.

    a pure function, a table or a number of rows  ->  function(block) for every block, in the order of the blocks

A pass is described once. Here, blocks go to threads.py's threads; on a cluster, runs of blocks go to workers, which
read them by themselves and use their own threads. What a function returns for a block has to be small: it travels.
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
def on(cluster: Cluster | None) -> Iterator[None]:
    """Run the passes inside this block on a cluster; None is this process."""
    token = _current.set(cluster)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Cluster | None:
    """Return the cluster passes run on, None for this process."""
    return _current.get()


def over_table(
    function: Callable[[Block], Result], table: Table, columns: Sequence[str], *, coded: bool = False, what: str
) -> Iterator[Result]:
    """Yield function(block) for every block of a table with these columns, in order; `what` names the pass."""
    cluster = current()
    if cluster is None:
        return map_blocks(function, table.blocks(columns, coded=coded))
    return cluster.over_table(function, table, columns, coded, what)


def over_blocks(
    function: Callable[[Item], Result], blocks: Callable[[int, int], Iterable[Item]], n_blocks: int, *, what: str
) -> Iterator[Result]:
    """Yield function(block) for every one of blocks(first, stop), in order: what a process has, or reads by itself."""
    cluster = current()
    if cluster is None:
        return map_blocks(function, blocks(0, n_blocks))
    return cluster.over_blocks(function, blocks, n_blocks, what)


def over_rows(function: Callable[[slice], Result], n_rows: int, rows_per_block: int, *, what: str) -> Iterator[Result]:
    """Yield function(rows) for every run of rows of 0…n_rows, in order.

    Arrays that the function refers to must lie in mapped files for another process to see, or to fill, them.
    """
    cluster = current()
    if cluster is None:
        return map_blocks(function, row_blocks(n_rows, rows_per_block))
    return cluster.over_rows(function, n_rows, rows_per_block, what)
