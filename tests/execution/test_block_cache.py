"""The block cache: its limits, its spill file, and its pickled form in a worker process."""

from __future__ import annotations

import os
import pickle
from mmap import ALLOCATIONGRANULARITY
from pathlib import Path

import numpy as np
import pytest

from engine.execution import block_cache
from engine.execution.block_cache import BlockCache, register_cleanup, run_cleanups


def rows(value: int) -> np.ndarray:
    return np.full(100, value, np.float64)


def test_blocks_are_cached_until_the_first_one_that_does_not_fit() -> None:
    cache = BlockCache(memory_limit=2000)
    for number in range(4):
        assert cache.full == (number == 3)
        cache.put(number, rows(number), 800 if number < 3 else 1)  # what is refused once leaves no gap
    assert [number for number in range(4) if number in cache] == [0, 1]
    assert (cache.get(3), cache.pop(3)) == (None, None)
    assert cache.get(1).sum() == cache.pop(1).sum() == 100
    assert 1 not in cache
    assert cache.n_bytes == 800
    cache.clear()
    cache.put(0, rows(0), 2000)
    assert 0 in cache


def test_rows_are_replaced_only_while_every_block_is_in_memory() -> None:
    cache = BlockCache(memory_limit=2000)
    cache.put(0, "compact", 500)
    cache.put(1, "compact", 500)
    cache.replace(0, "encoded", 1400)
    cache.replace(1, "encoded", 700)  # beyond the limit
    cache.replace(2, "encoded", 1)  # not cached
    assert [cache.get(number) for number in range(3)] == ["encoded", "compact", None]
    cache.put(2, "compact", 500)
    cache.replace(1, "encoded", 500)  # block 2 did not fit
    assert cache.get(1) == "compact"


def test_blocks_beyond_the_memory_limit_lie_in_an_unnamed_file(tmp_path: Path) -> None:
    cache = BlockCache(800, tmp_path, 3 * ALLOCATIONGRANULARITY)
    for number in range(6):
        cache.put(number, (rows(number), np.empty(0), [str(number)]), 800)
    assert [number for number in range(6) if number in cache] == [0, 1, 2, 3]
    assert cache.full
    assert (cache.n_bytes, cache.n_bytes_in_file) == (800, 2400)
    assert list(tmp_path.iterdir()) == []
    for number in range(4):
        values, empty, names = cache.get(number)
        assert (values.tolist(), len(empty), names) == ([number] * 100, 0, [str(number)])
        assert values.flags.writeable  # kernels are compiled for such arrays
        assert values.ctypes.data % 64 == 0 or number == 0
    values = cache.pop(2)[0]
    for number in (0, 1, 3):
        cache.pop(number)
    assert not any(number in cache for number in range(6))
    assert values.sum() == 200


def test_a_full_disk_is_a_full_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    cache = BlockCache(0, tmp_path, 1 << 20)
    cache.put(0, rows(0), 800)
    assert cache.full
    assert 0 not in cache


def test_a_cache_with_a_limit_of_zero_caches_nothing() -> None:
    cache = BlockCache()
    cache.put(0, rows(0), 0)
    assert 0 not in cache


@pytest.fixture
def _no_caches() -> None:
    run_cleanups()


@pytest.mark.usefixtures("_no_caches")
def test_a_worker_has_one_cache_a_job_and_drops_it_afterwards() -> None:
    local = BlockCache(memory_limit=1000)
    remote = pickle.loads(pickle.dumps(local))
    remote.put(0, rows(7), 800)
    again = pickle.loads(pickle.dumps(local))
    assert again is remote
    assert again.memory_limit == 1000
    assert 0 not in local
    of_next_job = pickle.loads(pickle.dumps(BlockCache(memory_limit=1000)))
    assert list(block_cache._caches.values()) == [of_next_job]
    calls = []
    register_cleanup(lambda: calls.append(1))
    run_cleanups()
    assert calls == [1]
    assert block_cache._caches == {}
    block_cache._cleanups.pop()
