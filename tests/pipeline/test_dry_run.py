"""The dry run: trial fits of a table's head, and the estimate for the whole table."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

import engine
from engine.config import FitConfig
from engine.datasets.demo_table import DemoMembers, DemoPaths
from engine.errors import OutOfResourcesError
from engine.execution.cluster import WorkerResources
from engine.execution.threads import threads
from engine.pipeline import dry_run
from engine.pipeline.dry_run import estimate_fit, worker_time_factor
from engine.pipeline.memory_plan import plan_memory
from engine.pipeline.trial_fit import RowClock

ROWS = 2_000


@pytest.fixture(autouse=True)
def _small_heads(monkeypatch: pytest.MonkeyPatch, block_rows: Callable[[int], None]) -> None:
    block_rows(ROWS)
    monkeypatch.setattr(dry_run, "HEAD_ROWS", 2 * ROWS)
    monkeypatch.setattr(dry_run, "MIN_HEAD_ROWS", 500)


def test_the_plan_is_made_with_the_bytes_of_the_heads_rows(
    demo: DemoPaths, run: engine.Run, lean: FitConfig, tmp_path: Path
) -> None:
    settings = FitConfig.merge(lean.model_dump(), id="user_id", kmeans={"n_clusters": 12})
    estimate = estimate_fit(demo.members, settings, out=tmp_path / "run")
    assert (estimate.n_rows, estimate.n_head_rows, estimate.n_clusters) == (20_000, 2 * ROWS, 12)
    assert estimate.facts()["plan"]["kind"] == "in memory"
    known = {"n_components": estimate.n_components, "n_features": estimate.features.encoder.n_features}
    planned = plan_memory(20_000, DemoMembers(1).schema, settings, **known).memory_bytes
    measured = plan_memory(
        20_000, DemoMembers(1).schema, settings, **known, cached_row_bytes=estimate.cached_row_bytes
    ).memory_bytes
    assert estimate.plan.memory_bytes == measured != planned
    assert "plan: in memory, for about" in estimate.describe()
    assert not list(tmp_path.iterdir())


def test_a_streamed_fit_is_tried_through_files_that_are_deleted(
    demo: DemoPaths, lean: FitConfig, tmp_path: Path
) -> None:
    settings = FitConfig.merge(lean.model_dump(), id="user_id", kmeans={"n_clusters": 12}, memory="64GiB")
    in_memory = estimate_fit(demo.members, settings)
    budget = plan_memory(20_000, DemoMembers(1).schema, settings).memory_bytes - 1
    estimate = estimate_fit(demo.members, settings.model_copy(update={"memory": budget}), out=tmp_path / "run")
    assert (in_memory.plan.kind, estimate.plan.kind) == ("in memory", "streamed")
    assert estimate.cached_row_bytes == in_memory.cached_row_bytes is not None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("completions", "growing"),
    [
        ([(3.0, 10), (3.5, 10), (4.0, 10), (4.5, 10), (5.0, 10), (5.5, 10)], 3.0),  # a late start does not grow
        (
            [(1.0, 10), (2.0, 10), (3.0, 10), (4.0, 10), (9.0, 10), (10.0, 10), (11.0, 10)],
            7.0,
        ),  # nor a single delay
        ([(5.0, 10), (5.0, 10), (5.0, 10), (5.0, 10), (5.0, 10), (5.0, 10)], 5.0),  # reported together, at the end
        ([(2.0, 10)], 2.0),
        ([], 6.0),
    ],
)
def test_the_growing_seconds_are_the_median_time_between_blocks(
    completions: list[tuple[float, int]], growing: float
) -> None:
    clock = RowClock()
    clock.completions["pca"] = completions
    with threads(1):
        assert clock.growing("pca", 6.0) == pytest.approx(growing)


def test_the_head_of_a_wide_table_has_fewer_rows_but_not_fewer_than_samples(
    demo: DemoPaths, lean: FitConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = FitConfig.merge(lean.model_dump(), id="user_id", kmeans={"n_clusters": 5})
    n_columns = len(DemoMembers(1).schema)
    monkeypatch.setattr(dry_run, "HEAD_VALUES", 2_500 * n_columns)
    assert estimate_fit(demo.members, settings).n_head_rows == 2_500  # a block and a part of the next
    monkeypatch.setattr(dry_run, "HEAD_VALUES", 0)
    assert estimate_fit(demo.members, settings).n_head_rows == 500


def test_every_stage_that_is_not_skipped_takes_time(
    demo: DemoPaths, lean: FitConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What grows with the rows is timed on a few blocks here, whose noise times twenty would outweigh the stages.
    monkeypatch.setattr(RowClock, "growing", lambda *_: 0.0)
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: time.time())  # the start counts, and grows meanwhile
    few = FitConfig.merge(lean.model_dump(), id="user_id", kmeans={"n_clusters": 4})
    every = FitConfig.merge(few.model_dump(), map={"n_landmarks": 200, "max_iter": 3000}, kmeans={"n_clusters": "auto"})
    every = every.model_copy(update={"skip": ()})
    assert estimate_fit(demo.members, every).seconds > estimate_fit(demo.members, few).seconds


def test_too_little_memory_is_refused_as_a_fit_would_refuse_it(
    demo: DemoPaths, lean: FitConfig, tmp_path: Path
) -> None:
    small = FitConfig.merge(lean.model_dump(), id="user_id", memory="50MiB", kmeans={"n_clusters": 3})
    with pytest.raises(OutOfResourcesError, match=r"--memory is 0\.05 GiB"):
        estimate_fit(demo.members, small)
    with pytest.raises(OutOfResourcesError, match=r"--memory is 0\.05 GiB"):
        engine.fit(demo.members, out=tmp_path / "run", config=small)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("n_workers", "threads_each", "started_here", "factor"),
    [(1, 4, True, 1.0), (4, 1, True, 1.0), (3, 1, True, 4 / 3), (8, 1, True, 1.0), (4, 8, False, 1 / 8)],
)
def test_workers_started_here_have_no_more_threads_than_there_are(
    n_workers: int, threads_each: int, started_here: bool, factor: float
) -> None:
    with threads(4):
        assert worker_time_factor(WorkerResources(n_workers, threads_each, 0), started_here=started_here) == factor


@pytest.mark.parametrize("columns", ["sorted", "newcomers first", "flags"])
@pytest.mark.filterwarnings("error")
def test_a_table_whose_first_rows_are_all_alike_is_not_refused(lean: FitConfig, columns: str) -> None:
    n = 400
    late = np.maximum(np.arange(n) - n / 2, 0.0)
    flags = np.random.default_rng(0).integers(0, 2, (4, n))
    table = {
        "sorted": {"country": ["DE"] * 100 + ["FR"] * 300, "tier": [1] * 100 + [2] * 150 + [3] * 150},
        "newcomers first": {"spend": late, "orders": late % 7},
        "flags": dict(zip("abcd", flags, strict=True)),
    }[columns]
    n_clusters = "auto" if columns == "flags" else 3
    settings = FitConfig.merge(lean.model_dump(), kmeans={"n_clusters": n_clusters})
    estimate = estimate_fit(pa.table(table), settings)
    assert (estimate.n_rows, estimate.n_head_rows) == (n, n)


def test_a_warning_about_the_rows_of_the_warm_up_is_not_given(lean: FitConfig) -> None:
    week = [f"x{i}" if i < 125 else f"2024-W{i % 52:02d}" for i in range(1000)]
    table = pa.table({"age": np.arange(1000) % 70, "week": week})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimate = estimate_fit(table, FitConfig.merge(lean.model_dump(), kmeans={"n_clusters": 3}))
    assert not [warning for warning in caught if "week" in str(warning.message)]
    assert {role.column: role.role for role in estimate.features.roles}["week"] == "categorical"


def test_a_dry_run_says_nothing_of_the_clusters_of_its_head(lean: FitConfig, caplog: pytest.LogCaptureFixture) -> None:
    X = np.random.default_rng(0).normal(size=(1000, 6))  # cuts through noise, of which a fit warns
    table = pa.table({f"x{i}": X[:, i] for i in range(6)})
    settings = FitConfig.merge(lean.model_dump(), kmeans={"n_clusters": 5})
    with caplog.at_level(logging.INFO, "engine"):
        estimate_fit(table, settings)
        assert logging.getLogger("engine").level == logging.INFO
    assert not [record.message for record in caplog.records if "cluster" in record.message]
    assert logging.getLogger("engine.pipeline.stages").level == logging.NOTSET
