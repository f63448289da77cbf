"""A dry run: the steps of a fit on the head of a table, and what that says of all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

import engine
from engine.config import FitConfig
from engine.datasets.demo_table import DemoMembers, DemoPaths
from engine.errors import OutOfResourcesError
from engine.execution.cluster import Crew
from engine.execution.threads import threads
from engine.pipeline import dry_run as forecasting
from engine.pipeline.dry_run import forecast, times_as_long
from engine.pipeline.memory_plan import plan_of

ROWS = 2_000


@pytest.fixture(autouse=True)
def _small_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (
        "blocks",
        "tables.file_table",
        "features.encoded_table",
        "features.compact_block",
        "pipeline.dry_run",
    ):
        monkeypatch.setattr(f"engine.{module}.BLOCK_ROWS", ROWS)
    monkeypatch.setattr(forecasting, "HEAD_ROWS", 2 * ROWS)
    monkeypatch.setattr(forecasting, "LEAST_ROWS", 500)


def test_the_head_stands_for_the_table(demo: DemoPaths, run: engine.Run, lean: FitConfig, tmp_path: Path) -> None:
    settings = FitConfig.merged(lean.model_dump(), id="user_id", kmeans={"n_clusters": 12})
    told = forecast(demo.members, settings, out=tmp_path / "run")
    assert (told.rows, told.head_rows, told.clusters) == (20_000, 2 * ROWS, 12)
    assert told.facts()["plan"]["kind"] == "in memory"
    known = {"components": told.components, "n_features": told.features.encoder.n_features}
    supposed = plan_of(20_000, DemoMembers(1).schema, settings, **known).memory_bytes
    seen = plan_of(20_000, DemoMembers(1).schema, settings, **known, kept_row=told.kept_row).memory_bytes
    assert told.plan.memory_bytes == seen != supposed
    assert "plan: in memory, for about" in told.describe()
    assert not list(tmp_path.iterdir())


def test_what_would_be_streamed_is_rehearsed_through_files_and_leaves_none(
    demo: DemoPaths, lean: FitConfig, tmp_path: Path
) -> None:
    settings = FitConfig.merged(lean.model_dump(), id="user_id", kmeans={"n_clusters": 12}, memory="64GiB")
    in_memory = forecast(demo.members, settings)
    budget = plan_of(20_000, DemoMembers(1).schema, settings).memory_bytes - 1
    told = forecast(demo.members, settings.model_copy(update={"memory": budget}), out=tmp_path / "run")
    assert (in_memory.plan.kind, told.plan.kind) == ("in memory", "streamed")
    assert told.kept_row == in_memory.kept_row is not None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("moments", "grown"),
    [
        ([(3.0, 10), (3.5, 10), (4.0, 10), (4.5, 10), (5.0, 10), (5.5, 10)], 3.0),  # a late beginning does not grow
        ([(1.0, 10), (2.0, 10), (3.0, 10), (4.0, 10), (9.0, 10), (10.0, 10), (11.0, 10)], 7.0),  # nor what happens once
        ([(5.0, 10), (5.0, 10), (5.0, 10), (5.0, 10), (5.0, 10), (5.0, 10)], 5.0),  # told together, at the end
        ([(2.0, 10)], 2.0),
        ([], 6.0),
    ],
)
def test_what_grows_with_the_rows_is_the_usual_pace_of_blocks(moments: list[tuple[float, int]], grown: float) -> None:
    clock = forecasting._Clock()
    clock.moments["pca"] = moments
    with threads(1):
        assert clock.growing("pca", 6.0) == pytest.approx(grown)


def test_the_head_of_a_wide_table_has_fewer_rows_but_not_fewer_than_samples(
    demo: DemoPaths, lean: FitConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = FitConfig.merged(lean.model_dump(), id="user_id", kmeans={"n_clusters": 5})
    n_columns = len(DemoMembers(1).schema)
    monkeypatch.setattr(forecasting, "HEAD_CELLS", 2_500 * n_columns)
    assert forecast(demo.members, settings).head_rows == 2_500  # a block and a part of the next
    monkeypatch.setattr(forecasting, "HEAD_CELLS", 0)
    assert forecast(demo.members, settings).head_rows == 500


def test_every_stage_that_is_not_skipped_takes_time(demo: DemoPaths, lean: FitConfig) -> None:
    few = FitConfig.merged(lean.model_dump(), id="user_id", kmeans={"n_clusters": 4})
    every = FitConfig.merged(
        few.model_dump(), map={"n_landmarks": 200, "max_iter": 3000}, kmeans={"n_clusters": "auto"}
    )
    every = every.model_copy(update={"skip": ()})
    assert forecast(demo.members, every).seconds > forecast(demo.members, few).seconds


def test_what_cannot_be_is_refused_as_a_fit_would_refuse_it(demo: DemoPaths, lean: FitConfig, tmp_path: Path) -> None:
    small = FitConfig.merged(lean.model_dump(), id="user_id", memory="50MiB", kmeans={"n_clusters": 3})
    with pytest.raises(OutOfResourcesError, match=r"--memory is 0\.05 GiB"):
        forecast(demo.members, small)
    with pytest.raises(OutOfResourcesError, match=r"--memory is 0\.05 GiB"):
        engine.fit(demo.members, out=tmp_path / "run", config=small)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("n_workers", "threads_each", "started_here", "times"),
    [(1, 4, True, 1.0), (4, 1, True, 1.0), (3, 1, True, 4 / 3), (8, 1, True, 1.0), (4, 8, False, 1 / 8)],
)
def test_workers_started_here_have_no_more_threads_than_there_are(
    n_workers: int, threads_each: int, started_here: bool, times: float
) -> None:
    with threads(4):
        assert times_as_long(Crew(n_workers, threads_each, 0), started_here=started_here) == times
