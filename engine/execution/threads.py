"""Run a pure function over blocks on the threads of this process, and hand results back in block order.

Kernels release the GIL and are single-threaded, BLAS is held to one thread per block. So the threads are ours
alone, nothing is oversubscribed, and a block's result does not depend on how many threads there are.
Threads and the list of BLAS libraries are kept between passes: starting and finding them takes milliseconds, as
long as a K-Means pass over a million rows. Why not numba's prange: decisions/0003-threads.md.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from engine.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

_chosen: ContextVar[int | None] = ContextVar("rooms_threads", default=None)
_pools: dict[int, ThreadPoolExecutor] = {}
_worker = threading.local()
_blas_lock = threading.Lock()
_blas_holders = 0
_blas_limit: Any = None


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
    return _usable_cpus()


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
    read never piles up in memory, and reading overlaps with computing. A pass inside a block runs on that block's
    own thread. An error is raised once the blocks that were under way have ended. Where a list is no longer than there
    are threads, the calling thread computes one of them.
    """
    if getattr(_worker, "busy", False):
        for block in blocks:
            yield function(block)
        return
    count = thread_count()
    with one_blas_thread():
        if isinstance(blocks, list) and 0 < len(blocks) <= count:
            yield from in_shares(function, blocks)
            return
        if count == 1:
            for block in blocks:
                yield function(block)
            return
        pool = _pool(count)
        pending: deque[Future[Result]] = deque()
        try:
            for block in blocks:
                pending.append(pool.submit(_compute, function, block))
                if len(pending) >= 2 * count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            wait(pending)


def in_shares(function: Callable[[Item], Result], shares: Sequence[Item]) -> list[Result]:
    """Return `function(share)` of a few shares, the first computed by the calling thread.

    For passes of less than a millisecond: as many shares as threads, and one thread less to wake than with map_blocks.
    """
    if getattr(_worker, "busy", False) or len(shares) == 1:
        return [function(share) for share in shares]
    with one_blas_thread():
        pool = _pool(max(thread_count() - 1, 1))
        others = [pool.submit(_compute, function, share) for share in shares[1:]]
        _worker.busy = True
        try:
            first = function(shares[0])
        finally:
            _worker.busy = False
            wait(others)
        return [first, *(other.result() for other in others)]


def shares_of(n: int) -> list[slice]:
    """Return 0…n in as many runs as there are threads, at most n."""
    return list(row_blocks(n, -(-n // thread_count())))


def row_blocks(n_rows: int, rows_per_block: int) -> Iterator[slice]:
    """Yield the fixed runs of rows 0…n_rows: the unit of every pass over an array."""
    for start in range(0, n_rows, rows_per_block):
        yield slice(start, min(start + rows_per_block, n_rows))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold every BLAS library to one thread: for our own threads, and where bits must not depend on their number.

    The limit belongs to the process, so overlapping holders share it, and the last one to leave lifts it.
    """
    global _blas_holders, _blas_limit
    with _blas_lock:
        if _blas_holders == 0:
            _blas_limit = _blas_libraries().limit(limits=1, user_api="blas")
        _blas_holders += 1
    try:
        yield
    finally:
        with _blas_lock:
            _blas_holders -= 1
            if _blas_holders == 0:
                _blas_limit.restore_original_limits()


def _compute(function: Callable[[Item], Result], block: Item) -> Result:
    _worker.busy = True
    return function(block)


def _pool(count: int) -> ThreadPoolExecutor:
    pool = _pools.get(count)
    if pool is None:  # two callers at once: both get the one that was stored
        pool = _pools.setdefault(count, ThreadPoolExecutor(count, thread_name_prefix="rooms"))
    return pool


@cache
def _usable_cpus() -> int:
    from joblib import cpu_count  # knows affinity masks and container quotas

    return int(cpu_count())


def _blas_libraries() -> Any:
    return _scanned("scipy.linalg" in sys.modules)  # SciPy brings a BLAS of its own


@cache
def _scanned(with_scipy: bool) -> Any:
    return ThreadpoolController()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # threads do not survive a fork
