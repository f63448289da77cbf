"""Run a pure function over blocks on the threads of this process, and yield the results in block order.

Kernels release the GIL and are single-threaded, and BLAS is held to one thread per block. So there are no other
threads, nothing is oversubscribed, and a block's result does not depend on the number of threads. Threads and the list
of BLAS libraries are kept between passes: starting and finding them takes milliseconds, as long as a K-Means pass over
a million rows. Why not numba's prange: decisions/0003-threads.md.
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

_n_threads: ContextVar[int | None] = ContextVar("rooms_threads", default=None)
_pools: dict[int, ThreadPoolExecutor] = {}
_this_thread = threading.local()
_blas_lock = threading.Lock()
_blas_holders = 0
_blas_limit: Any = None


def thread_count() -> int:
    """Return the number of threads of a pass: `threads(n)`, else ROOMS_NUM_THREADS, else the CPUs of this process."""
    count = _n_threads.get()
    if count is not None:
        return count
    variable = os.environ.get("ROOMS_NUM_THREADS")
    if variable is not None:
        if not variable.isdigit() or int(variable) < 1:
            raise UsageError(f"ROOMS_NUM_THREADS={variable!r} must be a positive integer.")
        return int(variable)
    return _usable_cpus()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` threads for every pass inside this block."""
    if count < 1:
        raise UsageError(f"threads({count}) must be at least 1.")
    token = _n_threads.set(count)
    try:
        yield
    finally:
        _n_threads.reset(token)


def map_blocks(function: Callable[[Item], Result], blocks: Iterable[Item]) -> Iterator[Result]:
    """Yield `function(block)` for every block, in the order of the blocks.

    Only the calling thread advances the iterable, at most two blocks a thread ahead: a table that is read never piles
    up in memory, and reading overlaps with computing. A pass inside a block runs on that block's own thread. An error
    is raised once the blocks in flight have ended. If `blocks` is a list with at most one block a thread, the calling
    thread computes one of them.
    """
    if getattr(_this_thread, "busy", False):
        for block in blocks:
            yield function(block)
        return
    count = thread_count()
    with one_blas_thread():
        if isinstance(blocks, list) and 0 < len(blocks) <= count:
            yield from map_shares(function, blocks)
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


def map_shares(function: Callable[[Item], Result], shares: Sequence[Item]) -> list[Result]:
    """Return `function(share)` of at most one share a thread, the first computed by the calling thread.

    For passes of less than a millisecond: one thread less to wake than with map_blocks.
    """
    if getattr(_this_thread, "busy", False) or len(shares) == 1:
        return [function(share) for share in shares]
    with one_blas_thread():
        pool = _pool(max(thread_count() - 1, 1))
        futures = [pool.submit(_compute, function, share) for share in shares[1:]]
        _this_thread.busy = True
        try:
            first = function(shares[0])
        finally:
            _this_thread.busy = False
            wait(futures)
        return [first, *(future.result() for future in futures)]


def thread_shares(n: int) -> list[slice]:
    """Split 0…n into one slice a thread, at most n slices."""
    return list(row_blocks(n, -(-n // thread_count())))


def row_blocks(n_rows: int, rows_per_block: int) -> Iterator[slice]:
    """Yield 0…n_rows as slices of `rows_per_block` rows: the unit of every pass over an array."""
    for start in range(0, n_rows, rows_per_block):
        yield slice(start, min(start + rows_per_block, n_rows))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold every BLAS library to one thread: while blocks run on threads, and where bits must not depend on the number.

    The limit belongs to the process: overlapping blocks share it, and the last one to end lifts it.
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
    _this_thread.busy = True
    return function(block)


def _pool(count: int) -> ThreadPoolExecutor:
    pool = _pools.get(count)
    if pool is None:  # of two callers at once, both get the pool that was stored first
        pool = _pools.setdefault(count, ThreadPoolExecutor(count, thread_name_prefix="rooms"))
    return pool


@cache
def _usable_cpus() -> int:
    from joblib import cpu_count  # respects affinity masks and container quotas

    return int(cpu_count())


def _blas_libraries() -> Any:
    return _find_blas_libraries("scipy.linalg" in sys.modules)  # SciPy brings its own BLAS


@cache
def _find_blas_libraries(with_scipy: bool) -> Any:
    return ThreadpoolController()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # threads do not survive a fork
