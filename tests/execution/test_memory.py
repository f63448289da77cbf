"""How much memory there is, in and out of a container; how much may be used, and how much is."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UsageError
from engine.execution import memory


def container(folder: Path, limit: str, current: int, inactive: int) -> None:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\n")


def test_a_containers_limit_counts_and_files_it_has_read_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    free = memory.available_memory()
    assert free > 2**20  # no container: what the machine has
    container(tmp_path, "max", 5, 5)
    assert memory.available_memory() > 2**20
    container(tmp_path, "1000000", 900_000, 500_000)
    assert memory.available_memory() == 600_000
    container(tmp_path, "1000", 5000, 0)
    assert memory.available_memory() == 0


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("2GiB", 2 << 30), ("500MB", 500_000_000), ("1.5 gib", 3 << 29), ("64k", 64_000), ("4Ki", 4096), (12345, 12345)],
)
def test_sizes_are_read_as_people_write_them(text: str | int, n_bytes: int) -> None:
    assert memory.bytes_of(text) == n_bytes


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "0", "2 apples", "GiB", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no amount of memory"):
        memory.bytes_of(text)


def test_own_memory_grows_with_arrays_and_not_with_mapped_files(tmp_path: Path) -> None:
    n_bytes = 64 << 20
    mapped = np.memmap(tmp_path / "file", np.uint8, "w+", shape=(n_bytes,))
    with memory.watched() as seen:
        before = seen.peak
        mapped[:] = 1
    assert seen.peak - before < n_bytes // 4
    with memory.watched() as seen:
        held = np.ones(n_bytes, np.uint8)
    assert seen.peak - before > n_bytes // 2
    assert held[-1] == 1


FAULTS = """
import resource, sys
import numpy as np
from engine.execution.memory import keep_pages, return_pages

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        [np.ones(1 << 17) for _ in range(4)]  # 1 MiB each: 256 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_pages()
faults()
print(faults())
return_pages()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="thresholds are glibc's")
def test_a_worker_keeps_pages_for_the_time_of_a_job() -> None:
    trimming = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=trimming, capture_output=True, text=True, check=True)
    before, during, after = map(int, done.stdout.split())
    assert before > 20_000  # every array in new pages, or in as many as are left
    assert during < before / 20
    assert after > 20_000
    usual = {name: value for name, value in os.environ.items() if name != "MALLOC_TRIM_THRESHOLD_"}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=usual, capture_output=True, text=True, check=True)
    before, during, _ = map(int, done.stdout.split())
    assert during > before / 2  # as glibc has it by itself: nothing is changed
