"""Memory: what is available in and out of a container, and what a process uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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


def test_anonymous_memory_grows_with_arrays_and_not_with_mapped_files(tmp_path: Path) -> None:
    n_bytes = 64 << 20
    mapped = np.memmap(tmp_path / "file", np.uint8, "w+", shape=(n_bytes,))
    with memory.track_peak_memory() as sampled:
        before = sampled.peak
        mapped[:] = 1
    assert sampled.peak - before < n_bytes // 4
    with memory.track_peak_memory() as sampled:
        held = np.ones(n_bytes, np.uint8)
    assert sampled.peak - before > n_bytes // 2
    assert held[-1] == 1
