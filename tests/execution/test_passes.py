"""Passes over blocks on threads: order, errors, and BLAS held to one thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from engine.errors import UsageError
from engine.execution.threads import (
    map_blocks,
    map_shares,
    one_blas_thread,
    row_blocks,
    thread_count,
    thread_shares,
    threads,
)


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_blocks(n_threads: int) -> None:
    def slow_first(block: int) -> int:
        time.sleep(0.01 if block == 0 else 0)
        return block * block

    with threads(n_threads):
        assert list(map_blocks(slow_first, range(20))) == [block * block for block in range(20)]


def test_blocks_run_on_as_many_threads_as_asked_for() -> None:
    together = threading.Barrier(3, timeout=10)  # breaks unless three blocks are under way at once
    with threads(3):
        assert list(map_blocks(lambda _: together.wait(), range(3))) != []


def test_the_iterable_runs_at_most_two_blocks_a_thread_ahead() -> None:
    read: list[int] = []

    def blocks() -> Iterator[int]:
        for block in range(50):
            read.append(block)
            yield block

    with threads(2):
        results = map_blocks(lambda block: block, blocks())
        assert next(results) == 0
        assert len(read) <= 5
        results.close()


def test_a_pass_inside_a_block_ends() -> None:
    def total(block: int) -> int:
        return sum(map_blocks(lambda inner: inner + block, range(4)))

    with threads(2):
        assert list(map_blocks(total, range(6))) == [6 + 4 * block for block in range(6)]


def test_an_error_comes_out_after_the_blocks_under_way_have_ended() -> None:
    running = threading.Semaphore(0)

    def fail_first(block: int) -> None:
        if block == 0:
            raise ValueError("block 0")
        time.sleep(0.05)
        running.release()

    with threads(2), pytest.raises(ValueError, match="block 0"):
        list(map_blocks(fail_first, range(100)))
    ended = running._value
    time.sleep(0.1)
    assert running._value == ended < 100


def test_blas_has_one_thread_during_a_pass_and_its_own_number_after() -> None:
    before = blas_threads()
    assert before
    with threads(2):
        assert list(map_blocks(lambda _: set(blas_threads()), range(2))) == [{1}, {1}]
        assert blas_threads() == before


def test_overlapping_holders_share_the_limit_and_the_last_one_lifts_it() -> None:
    before = blas_threads()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(blas_threads()) == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == before


def test_a_forked_process_has_threads_of_its_own() -> None:
    with threads(2):
        list(map_blocks(abs, range(4)))  # starts the threads of this process
        child = os.fork()
        if child == 0:
            os._exit(0 if list(map_blocks(abs, range(4))) == [0, 1, 2, 3] else 1)
        deadline = time.monotonic() + 20
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ended == (child, 0)


def test_threads_can_be_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOMS_NUM_THREADS", "3")
    assert thread_count() == 3
    with threads(2):
        assert thread_count() == 2
    for wrong in ("0", "two", "-1"):
        monkeypatch.setenv("ROOMS_NUM_THREADS", wrong)
        with pytest.raises(UsageError, match="must be a positive integer"):
            thread_count()
    monkeypatch.delenv("ROOMS_NUM_THREADS")
    assert thread_count() >= 1


def test_no_threads_is_refused() -> None:
    with pytest.raises(UsageError, match=r"threads\(0\)"), threads(0):
        pass


@pytest.mark.parametrize("n_rows", [0, 1, 9, 10, 11])
def test_row_blocks_cover_every_row_once(n_rows: int) -> None:
    rows = np.arange(n_rows)
    parts = [rows[part] for part in row_blocks(n_rows, 10)]
    assert all(len(part) == 10 for part in parts[:-1])
    assert [row for part in parts for row in part] == list(range(n_rows))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_come_back_in_order_and_an_error_waits_for_the_others(count: int) -> None:
    ended = []

    def work(share: slice) -> int:
        if share.start == 0:
            raise ZeroDivisionError
        time.sleep(0.05)
        ended.append(share)
        return int(share.start)

    with threads(count):
        shares = thread_shares(7)
        assert len(shares) == count
        assert [row for share in shares for row in range(7)[share]] == list(range(7))
        assert map_shares(lambda share: share.stop, shares) == [share.stop for share in shares]
        with pytest.raises(ZeroDivisionError):
            map_shares(work, shares)
        assert len(ended) == count - 1
        nested = list(map_blocks(lambda n: map_shares(lambda share: share.start, thread_shares(n)), [4, 5]))
        assert [starts[0] for starts in nested] == [0, 0]
