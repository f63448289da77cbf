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
    monkeypatch.setattr(memory, "_PROCESS_GROUPS", tmp_path / "groups")
    (tmp_path / "groups").write_text("0::/\n")
    free = memory.available_memory()
    assert free > 2**20  # no container: what the machine has
    container(tmp_path, "max", 5, 5)
    assert memory.available_memory() > 2**20
    container(tmp_path, "1000000", 900_000, 500_000)
    assert memory.available_memory() == 600_000
    container(tmp_path, "1000", 5000, 0)
    assert memory.available_memory() == 0


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        ("0::/", {"memory.max": 700, "memory.high": 600, "memory.current": 100}, 500),
        ("0::/", {"memory.max": "max", "memory.high": 600, "memory.current": 100}, 500),
        ("0::/a/b", {"a/b/memory.max": 600, "a/b/memory.current": 100}, 500),
        ("0::/a/b", {"a/memory.max": 600, "a/memory.current": 100, "a/b/memory.max": "max"}, 500),
        ("0::/a/b", {f"{g}memory.{f}": n for g in ("a/b/", "a/") for f, n in (("max", 900), ("current", 400))}, 500),
        ("0::/host/path", {"memory.max": 600, "memory.current": 100}, 500),
        ("9:cpu,memory:/a", {"memory/a/memory.limit_in_bytes": 600, "memory/a/memory.usage_in_bytes": 100}, 500),
        ("9:memory:/host", {"memory/memory.limit_in_bytes": 600, "memory/memory.usage_in_bytes": 100}, 500),
        (
            "9:memory:/\n0::/",
            {
                "memory/memory.limit_in_bytes": 600,
                "memory/memory.usage_in_bytes": 200,
                "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 100",
            },
            500,
        ),
    ],
)
def test_the_smallest_limit_from_the_own_group_to_the_root_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, object], left: int
) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_PROCESS_GROUPS", tmp_path / "groups")
    assert memory.available_memory() > 2**20  # no groups: what the machine has
    (tmp_path / "groups").write_text(f"12:pids:/\n{groups}\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert memory.available_memory() == left


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
