"""The progress of a fit: every stage has an extent that is known when it begins, and ends at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import engine
from engine.datasets.demo_table import write_demo
from engine.progress import Advance

N_ROWS = 3000
MAY_END_EARLY = {"choose k", "k-means", "map"}  # when nothing changes any more
QUICK: dict[str, Any] = {"map": {"n_landmarks": 300, "max_iter": 250}}


class Extents:
    """A reporter that keeps the extent of each stage, and what was reported as done."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None, list[int]]] = []

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        done: list[int] = []
        self.stages.append((name, total, done))
        yield done.append

    def check(self, names: set[str]) -> None:
        """Check that these stages were reported, each from its beginning to its end."""
        assert names <= {name for name, _, _ in self.stages}
        for name, total, done in self.stages:
            assert total is not None, name
            assert 0 < sum(done) <= total, name
            assert sum(done) == total or name in MAY_END_EARLY, name


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("progress") / "demo", N_ROWS).members


@pytest.mark.parametrize("n_clusters", [4, "auto"])
def test_every_stage_ends_at_its_extent(members: Path, tmp_path: Path, n_clusters: int | str) -> None:
    reporter = Extents()
    engine.fit(members, out=tmp_path / "run", id="user_id", n_clusters=n_clusters, config=QUICK, reporter=reporter)
    one_pass = {"statistics", "pca", "scores", "place", "assign", "audit"}
    choice = {"measure"} if n_clusters != "auto" else {"choose k"}
    reporter.check(one_pass | choice | {"ids", "k-means", "stability", "explain", "map", "draw map", "report"})
    passes = [done for name, _, done in reporter.stages if name == "k-means"]
    assert all(set(done) == {1} for done in passes), "they are counted one by one"


def test_rows_without_ids_and_a_further_night(members: Path, tmp_path: Path) -> None:
    first, second = Extents(), Extents()
    engine.fit(members, out=tmp_path / "first", n_clusters=4, config=QUICK, reporter=first)
    first.check({"ids", "audit"})
    engine.fit(
        members, out=tmp_path / "second", n_clusters=4, previous=tmp_path / "first", config=QUICK, reporter=second
    )
    second.check({"earlier clusters", "previous map", "draw map", "audit"})


def test_every_stage_ends_at_its_extent_with_workers(members: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="workers need the extra 'dask'")
    reporter = Extents()
    engine.fit(members, out=tmp_path / "run", id="user_id", n_clusters=4, config=QUICK, workers=2, reporter=reporter)
    reporter.check({"k-means", "draw map", "audit"})
