"""The map of a run: landmarks of every cluster, a position for every row, and stable positions from run to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

import engine
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths, write_demo
from engine.errors import NotMappedError
from engine.execution.threads import threads

N = 5000
SMALL = {"n_landmarks": 1000, "rows_per_cluster": 60, "max_iter": 400}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoPaths:
    return write_demo(tmp_path_factory.mktemp("demo"), N)


def fit(demo: DemoPaths, out: Path, **changes: Any) -> engine.Run:
    changes.setdefault("map", SMALL | {"place_all": True})
    config = FitConfig.merge({}, kmeans={"n_clusters": 12}, skip=["explain", "report"], **changes)
    return engine.fit(demo.members, out=out, id="user_id", config=config)


@pytest.fixture(scope="module")
def run(demo: DemoPaths, tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    return fit(demo, tmp_path_factory.mktemp("runs") / "tonight")


def map_coordinates(run: engine.Run) -> Any:
    table = run.assignments
    return np.stack([table["map_x"].to_numpy(), table["map_y"].to_numpy()], axis=1)


def test_landmarks_are_of_every_cluster_and_where_the_assignments_say(run: engine.Run) -> None:
    landmarks = run.map
    assert landmarks.column_names == ["user_id", "cluster", "map_x", "map_y"]
    sizes = np.bincount(run.assignments["cluster"].to_numpy(), minlength=12)
    counts = np.bincount(landmarks["cluster"].to_numpy(), minlength=12)
    np.testing.assert_array_equal(counts >= np.minimum(sizes, 60), True)
    assert 1000 <= len(landmarks) <= 1000 + 12 * 60
    joined = landmarks.join(run.assignments.select(["user_id", "map_x", "map_y"]), "user_id", right_suffix="_all")
    assert joined.num_rows == landmarks.num_rows
    assert joined["map_x"].equals(joined["map_x_all"])
    assert joined["map_y"].equals(joined["map_y_all"])


def test_rows_are_placed_among_their_cluster(run: engine.Run) -> None:
    landmarks, labels = run.map, run.assignments["cluster"].to_numpy()
    coordinates = np.stack([landmarks["map_x"].to_numpy(), landmarks["map_y"].to_numpy()], axis=1)
    classifier = KNeighborsClassifier(15).fit(coordinates, landmarks["cluster"].to_numpy())
    assert classifier.score(map_coordinates(run), labels) > 0.95
    assert run.manifest["map"]["doubtful"] == run.assignments["map_doubtful"].to_numpy().sum()
    assert run.manifest["map"]["landmarks"] == landmarks.num_rows


def test_new_rows_are_placed_as_the_fit_places_them(demo: DemoPaths, run: engine.Run) -> None:
    model = engine.load(run.path)
    assigned = model.assign(demo.members, place=True)
    assert assigned.column_names == run.assignments.column_names
    for column in ("cluster", "map_x", "map_y", "map_doubtful"):
        assert assigned[column].equals(run.assignments[column])
    assert "map_x" not in model.assign(demo.members).column_names


def test_the_picture_shows_every_cluster_in_its_colour(run: engine.Run) -> None:
    with Image.open(run.path / "map.png") as image:
        assert image.size == (1200, 1200)
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels == 255).all(axis=1).mean() > 0.5  # a white ground
    assert len(np.unique(pixels[(pixels != 255).any(axis=1)], axis=0)) >= 12


def test_threads_do_not_change_a_place(demo: DemoPaths, run: engine.Run, tmp_path: Path) -> None:
    with threads(3):
        again = fit(demo, tmp_path / "again")
    assert again.assignments.equals(run.assignments)
    assert again.map.equals(run.map)


def test_a_map_starts_from_the_map_of_the_previous_run(demo: DemoPaths, run: engine.Run, tmp_path: Path) -> None:
    def centers(of: engine.Run) -> Any:
        """Medians of tonight's clusters, in units of the extent of tonight's map."""
        labels, coordinates = run.assignments["cluster"].to_numpy(), map_coordinates(of)
        medians = np.array([np.median(coordinates[labels == cluster], axis=0) for cluster in range(12)])
        return medians / np.ptp(map_coordinates(run), axis=0).max()

    tonight = centers(run)
    other_seed = fit(demo, tmp_path / "anew", seed=5)
    resumed = fit(demo, tmp_path / "on", seed=5, previous=str(run.path))
    moved = np.linalg.norm(centers(resumed) - tonight, axis=1)
    moved_anew = np.linalg.norm(centers(other_seed) - tonight, axis=1)
    assert moved.mean() < 0.08
    assert moved.mean() < 0.8 * moved_anew.mean()
    assert np.ptp(centers(resumed), axis=0) == pytest.approx(np.ptp(tonight, axis=0), rel=0.15)
    assert resumed.manifest["map"]["previous"] == str(run.path)


def test_a_run_that_continues_one_without_a_map_begins_a_map(
    demo: DemoPaths, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = FitConfig.merge({}, kmeans={"n_clusters": 3}, skip=["explain", "report", "map"])
    plain = engine.fit(demo.members, out=tmp_path / "plain", id="user_id", config=config)
    assert not {"map.parquet", "map.png", "map"} & {path.name for path in plain.path.iterdir()}
    assert plain.manifest["map"] is None
    with pytest.raises(NotMappedError, match="no map to place rows on"):
        plain.model.assign(demo.members, place=True)
    again = fit(demo, tmp_path / "on", map=SMALL | {"max_iter": 250}, previous=str(plain.path))
    assert "has no map to continue" in caplog.text
    assert again.map.num_rows >= 300


def test_without_place_all_the_assignments_stay_as_they_are(demo: DemoPaths, tmp_path: Path) -> None:
    assert "map_x" not in fit(demo, tmp_path / "run", map=SMALL | {"max_iter": 250}).assignments.column_names


def test_a_table_of_ten_rows_has_a_map_and_one_of_eight_has_none(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for n_rows, expected in ((10, True), (8, False)):
        rows = {"x": random.normal(size=n_rows), "y": random.normal(size=n_rows)}
        import pandas as pd

        config = FitConfig.merge({}, kmeans={"n_clusters": 2}, skip=["explain", "report"])
        run = engine.fit(pd.DataFrame(rows), out=tmp_path / str(n_rows), config=config)
        assert (run.path / "map.parquet").is_file() == expected
        if expected:
            assert pq.read_table(run.path / "map.parquet").column_names == ["row", "cluster", "map_x", "map_y"]
