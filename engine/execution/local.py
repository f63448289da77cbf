"""Run a pure function over blocks on the threads of this process, and hand results back in block order.

Kernels release the GIL and are single-threaded, BLAS is held to one thread per block. So the threads are ours
alone, nothing is oversubscribed, and a block's result does not depend on how many threads there are.
Why not numba's prange: decisions/0003-threads.md.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from threadpoolctl import threadpool_limits

from engine.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

_chosen: ContextVar[int | None] = ContextVar("rooms_threads", default=None)


def thread_count() -> int:
    """Return how many threads passes use: `threads(n)`, else ROOMS_NUM_THREADS, else the CPUs this process may use."""
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    wanted = os.environ.get("ROOMS_NUM_THREADS")
    if wanted is not None:
        if not wanted.isdigit() or int(wanted) < 1:
            raise UsageError(f"ROOMS_NUM_THREADS={wanted!r} must be a positive integer.")
        return int(wanted)
    from joblib import cpu_count  # knows affinity masks and container quotas

    return int(cpu_count())


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` threads for every pass inside this block."""
    if count < 1:
        raise UsageError(f"threads({count}) must be at least 1.")
    token = _chosen.set(count)
    try:
        yield
    finally:
        _chosen.reset(token)


def map_blocks(function: Callable[[Item], Result], blocks: Iterable[Item]) -> Iterator[Result]:
    """Yield `function(block)` for every block, in the order of the blocks.

    The iterable is advanced by the calling thread only, at most two blocks a thread ahead: so a table being
    read never piles up in memory, and reading overlaps with computing.
    """
    count = thread_count()
    with threadpool_limits(1, user_api="blas"):
        if count == 1:
            for block in blocks:
                yield function(block)
            return
        pending: deque[Future[Result]] = deque()
        pool = ThreadPoolExecutor(count, thread_name_prefix="rooms")
        try:
            for block in blocks:
                pending.append(pool.submit(function, block))
                if len(pending) >= 2 * count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def row_blocks(n_rows: int, rows_per_block: int) -> Iterator[slice]:
    """Yield the fixed runs of rows 0…n_rows: the unit of every pass over an array."""
    for start in range(0, n_rows, rows_per_block):
        yield slice(start, min(start + rows_per_block, n_rows))
