"""How much memory there is, in and out of a container."""

from __future__ import annotations

from pathlib import Path

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
    assert memory.memory_for_rows() == 75_000
    container(tmp_path, "1000", 5000, 0)
    assert memory.available_memory() == 0
