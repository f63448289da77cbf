"""Thresholds of glibc's allocator, measured by page faults."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from engine.execution.glibc_malloc import keep_freed_pages, restore_thresholds

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        [np.ones(1 << 17) for _ in range(4)]  # 1 MiB each: 256 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_freed_pages()
faults()
print(faults())
restore_thresholds()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="thresholds are glibc's")
def test_a_worker_keeps_freed_pages_during_a_job() -> None:
    with_trimming = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=with_trimming, capture_output=True, text=True, check=True)
    before, during, after = map(int, done.stdout.split())
    assert before > 20_000  # every array in new pages, or in as many as are left
    assert during < before / 20
    assert after > 20_000
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_TRIM_THRESHOLD_"}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True)
    before, during, _ = map(int, done.stdout.split())
    assert during > before / 2  # glibc's own behaviour is left alone


MEASURE = """
import re
from pathlib import Path
import numpy as np
from engine.execution import block_cache

def anonymous_mib():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

"""

CACHED = f"""{MEASURE}
cache = block_cache._get_local_cache("rows", 1 << 30, None, 0)
in_use = []
for number in range(2_000):  # arrays of blocks, between others that stay
    cache.put(number, np.ones(1 << 13), 1 << 16)
    in_use.append(np.ones(1 << 10))
before = anonymous_mib()
del cache
block_cache.clear_caches()
print(before - anonymous_mib())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="freed pages are glibc's")
def test_rows_that_a_worker_drops_give_their_memory_back() -> None:
    done = subprocess.run([sys.executable, "-c", CACHED], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100  # MiB, of 125


LAST_PASS = f"""{MEASURE}
from engine.backends.protocol import EncodedRows
from engine.blocks import BLOCK_ROWS
from engine.features.encoded_table import EncodedTable

cache, in_use = block_cache.BlockCache(1 << 30), []
for number in range(2_000):
    cache.put(number, EncodedRows(np.ones(1 << 13), *[np.ones(1)] * (len(EncodedRows._fields) - 1)), 1 << 16)
    in_use.append(np.ones(1 << 10))
before = anonymous_mib()
table = EncodedTable(None, None, 2_000 * BLOCK_ROWS, cache)
for n_done, _ in enumerate(table.map(lambda start, rows: None, last=True), 1):
    if n_done == 1_000:
        print(before - anonymous_mib())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="freed pages are glibc's")
def test_the_last_pass_over_encoded_rows_gives_their_memory_back_as_it_goes() -> None:
    done = subprocess.run([sys.executable, "-c", LAST_PASS], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50  # MiB, of 62 in half of the blocks


STAGE = f"""{MEASURE}
from engine.pipeline.timing import StageTimer
from engine.progress import Silent

freed, in_use = [], []
for _ in range(2_000):
    freed.append(np.ones(1 << 13))
    in_use.append(np.ones(1 << 10))
freed.clear()
before = anonymous_mib()
with StageTimer(Silent()).stage("scores"):
    print(before - anonymous_mib())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="freed pages are glibc's")
def test_a_stage_begins_without_the_memory_that_the_last_one_has_freed() -> None:
    done = subprocess.run([sys.executable, "-c", STAGE], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100  # MiB, of 125
