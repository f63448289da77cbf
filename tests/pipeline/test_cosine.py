"""Metric cosine: directions from the mean are clustered, whatever the lengths, and everything after agrees."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import adjusted_rand_score

import engine
from engine.backends.array_kmeans import ArrayBackend
from engine.backends.protocol import EncodedRows, Projection
from engine.blocks import reading_bytes
from engine.config import FitConfig
from engine.errors import ConfigError, ModelNotReadableError, TooFewRowsError, UsageError
from engine.execution.array_storage import IN_MEMORY
from engine.execution.threads import threads
from engine.kernels.arrays.pca.project import scale_to_unit_length
from engine.model.directions import NoDirectionWarning, count_without_direction
from engine.model.files import read_model, write_model
from engine.pipeline.dry_run import estimate_fit
from engine.pipeline.memory_plan import plan_memory
from engine.tables import open_table
from tests.gpu.strict import StrictModule

N_ROWS, N_COLUMNS = 3000, 4
# Pairs of opposite directions: the mean of all rows is where they start from.
DIRECTIONS = np.concatenate([np.eye(N_COLUMNS), -np.eye(N_COLUMNS)])
QUICK = {"skip": ("explain", "map", "report"), "kmeans": {"metric": "cosine", "n_clusters": 8}}


def planted() -> tuple[pa.Table, np.ndarray]:  # type: ignore[type-arg]
    """Return rows along eight directions, of lengths from 0.05 to 20, and the direction of each."""
    random = np.random.default_rng(0)
    groups = np.arange(N_ROWS) % len(DIRECTIONS)
    lengths = np.exp(random.uniform(np.log(0.05), np.log(20), (N_ROWS // 8, 1))).repeat(8, axis=0)
    X = lengths * (DIRECTIONS[groups] + 0.1 * random.normal(size=(N_ROWS, N_COLUMNS)))
    return pa.table({f"c{i}": X[:, i] for i in range(N_COLUMNS)}), groups


def fit(table: Any, out: Path, **changes: Any) -> engine.Run:
    return engine.fit(table, out=out, config=FitConfig.merge(QUICK, **changes))


@pytest.fixture(scope="module")
def cosine(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    return fit(planted()[0], tmp_path_factory.mktemp("cosine") / "run")


def test_directions_are_found_whatever_the_lengths(cosine: engine.Run, tmp_path: Path) -> None:
    table, groups = planted()
    euclidean = fit(table, tmp_path / "euclidean", kmeans={"metric": "euclidean"})
    found = {run: adjusted_rand_score(groups, run.assignments["cluster"].to_numpy()) for run in (cosine, euclidean)}
    assert found[cosine] > 0.98
    assert found[euclidean] < 0.5
    assert (cosine.manifest["metric"], cosine.manifest["rows_without_direction"]) == ("cosine", 0)
    assert euclidean.manifest["metric"] == "euclidean"


def test_the_inertia_is_the_mean_cosine_distance_of_members(cosine: engine.Run) -> None:
    table, labels = planted()[0], cosine.assignments["cluster"].to_numpy()
    Z = cosine.model.scores(table).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1.0, rtol=1e-6)
    groups = [Z[labels == c] for c in range(8)]
    by_pairs = sum((1.0 - members @ members.T).sum() / len(members) for members in groups)
    assert cosine.manifest["inertia"] == pytest.approx(by_pairs, rel=1e-4)
    distances = cosine.assignments["distance"].to_numpy()
    assert 0.0 < distances.max() <= 2.0


def test_the_model_assigns_as_the_fit_did(cosine: engine.Run) -> None:
    loaded = engine.load(cosine.path)
    assert loaded.metric == "cosine"
    assigned, fitted = loaded.assign(planted()[0]), cosine.assignments
    assert assigned.equals(fitted.select(assigned.column_names))


def test_centers_in_units_point_as_their_members_do(cosine: engine.Run) -> None:
    table, labels = planted()[0], cosine.assignments["cluster"].to_numpy()
    X = np.stack([table[name].to_numpy() for name in table.column_names], axis=1)
    centers = np.stack([cosine.clusters[name].to_numpy() for name in table.column_names], axis=1)
    members = np.stack([X[labels == c].mean(axis=0) for c in range(8)])
    np.testing.assert_array_equal(np.abs(centers).argmax(axis=1), np.abs(members).argmax(axis=1))
    assert (np.abs(centers).max(axis=1) > X.std()).all()  # not at a length of 1 of something


def test_lengths_and_units_change_no_cluster(cosine: engine.Run, tmp_path: Path) -> None:
    table, _ = planted()
    scaled = pa.table({name: pa.array(table[name].to_numpy() * 1e6) for name in table.column_names})
    clusters = fit(scaled, tmp_path / "scaled").assignments["cluster"]
    assert adjusted_rand_score(clusters.to_numpy(), cosine.assignments["cluster"].to_numpy()) == 1.0


def test_rows_at_the_mean_are_counted_and_assigned(tmp_path: Path) -> None:
    table, _ = planted()
    X = np.stack([table[name].to_numpy() for name in table.column_names], axis=1)
    symmetric = np.concatenate([X, np.zeros((7, N_COLUMNS)), -X])  # so the mean is 0 but for rounding
    names = table.column_names
    with_zeros = pa.table({name: symmetric[:, i] for i, name in enumerate(names)})
    with pytest.warns(NoDirectionWarning, match=r"^7 rows have no direction"):
        run = fit(with_zeros, tmp_path / "zeros")
    assert run.manifest["rows_without_direction"] == 7
    assert len(set(run.assignments["cluster"].to_pylist()[N_ROWS : N_ROWS + 7])) == 1
    assert np.isfinite(run.assignments["distance"].to_numpy()).all()
    with pytest.warns(NoDirectionWarning, match=r"^7 rows have no direction"):
        assigned = engine.load(run.path).assign(with_zeros)
    assert assigned.equals(run.assignments.select(assigned.column_names))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.load(run.path).assign(with_zeros.slice(0, 100))


def test_rows_without_direction_are_counted_on_a_device() -> None:
    device = ArrayBackend(StrictModule())
    Z = device.allocate_scores((5, 2), IN_MEMORY)
    rows = EncodedRows(np.array([[1], [0], [2], [-3], [0]], np.float32), np.zeros(6, np.int32), np.empty(0, np.int32))
    projection = Projection(2, np.zeros(8), np.eye(1, 8), np.empty((0, 8)), 0.5)
    device.encoded_scores(rows, projection, Z[0:5])
    assert count_without_direction(Z) == 2
    np.testing.assert_array_equal(np.asarray(Z[np.arange(5)])[:, 0], [1, 0, 1, -1, 0])


def test_a_dry_run_and_a_report_say_the_metric(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(planted()[0], path)
    config = FitConfig.merge(QUICK, skip=("explain", "map"))
    estimate = estimate_fit(path, config)
    assert "k = 8, metric cosine, device" in estimate.describe()
    assert estimate.facts()["metric"] == "cosine"
    run = engine.fit(path, out=tmp_path / "run", config=config)
    assert "cosine: directions from the mean" in (run.path / "report.html").read_text()


def test_one_component_has_two_directions(tmp_path: Path) -> None:
    table = planted()[0].select(["c0"])
    assert fit(table, tmp_path / "two", kmeans={"n_clusters": 2}).manifest["clusters"] == 2
    with pytest.raises(TooFewRowsError, match="has 2"):
        fit(table, tmp_path / "three", kmeans={"n_clusters": 3})


def test_rows_of_nothing_and_huge_rows_are_scaled_without_a_warning() -> None:
    Z = np.array([[0, 0], [-0.0, 0], [1e-7, 0], [3e38, 3e38], [1e-3, 0], [-3, 4]], np.float32)
    scale_to_unit_length(np, Z, 1e-6, 4)
    np.testing.assert_array_equal(Z[:3].view(np.uint32), 0)
    np.testing.assert_allclose(Z[3:], [[0.5**0.5] * 2, [1, 0], [-0.6, 0.8]], rtol=1e-7)


def test_threads_and_streaming_change_no_bit(tmp_path: Path, block_rows: Callable[[int], None]) -> None:
    block_rows(1024)
    path = tmp_path / "t.parquet"
    pq.write_table(planted()[0], path, row_group_size=1024)
    runs = []
    with threads(1):
        runs.append(fit(path, tmp_path / "one"))
    with threads(2):
        runs.append(fit(path, tmp_path / "two"))
        opened = open_table(path)
        needed = plan_memory(
            N_ROWS, opened.schema, FitConfig.merge(QUICK), streamed=True, reading_bytes=reading_bytes(opened)
        )
        runs.append(fit(path, tmp_path / "streamed", memory=needed.memory_bytes + (1 << 20)))
    assert [run.manifest["plan"]["kind"] for run in runs] == ["in memory", "in memory", "streamed"]
    arrays = [(run.path / "model" / "arrays.safetensors").read_bytes() for run in runs]
    assert arrays == arrays[:1] * 3
    assert all(run.assignments.equals(runs[0].assignments) for run in runs)


def test_a_previous_run_of_another_metric_is_refused_by_name(cosine: engine.Run, tmp_path: Path) -> None:
    table, _ = planted()
    goes_on = fit(table, tmp_path / "goes_on", previous=str(cosine.path))
    assert goes_on.assignments["cluster"].equals(cosine.assignments["cluster"])
    for refit in (False, True):
        with pytest.raises(UsageError, match="is clustered by metric cosine, and this fit by euclidean"):
            fit(
                table, tmp_path / "refused", previous=str(cosine.path), kmeans={"metric": "euclidean"},
                lineage={"refit_features": refit},
            )  # fmt: skip


def test_an_interrupted_fit_of_another_metric_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(planted()[0], path)
    with monkeypatch.context() as patch:
        patch.setattr("engine.pipeline.stages.Job.stability", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fit(path, tmp_path / "run")
    euclidean = FitConfig.merge(QUICK, kmeans={"metric": "euclidean"})
    with pytest.raises(UsageError, match="had other settings: kmeans differ"):
        engine.fit(path, out=tmp_path / "run", config=euclidean, resume=True)
    resumed = engine.fit(path, out=tmp_path / "run", config=FitConfig.merge(QUICK), resume=True)
    whole = fit(path, tmp_path / "whole")
    assert resumed.assignments.equals(whole.assignments)


def test_versions_without_metrics_refuse_the_model_and_unknown_metrics_are_refused(
    cosine: engine.Run, tmp_path: Path
) -> None:
    document = json.loads((cosine.path / "model" / "model.json").read_text())
    assert (document["format"], document["metric"]) == (3, "cosine")
    euclidean = fit(planted()[0], tmp_path / "euclidean", kmeans={"metric": "euclidean"})
    document = json.loads((euclidean.path / "model" / "model.json").read_text())
    assert document["format"] == 2
    assert "metric" not in document
    facts, arrays = read_model(euclidean.path / "model")
    write_model(euclidean.path / "model", facts | {"metric": "manhattan"}, arrays)
    with pytest.raises(ModelNotReadableError, match="holds no model that can be used"):
        engine.load(euclidean.path)


def test_valleys_are_not_asked_for_directions() -> None:
    with pytest.raises(ConfigError, match="metric=cosine needs a number of clusters"):
        FitConfig.merge({}, kmeans={"metric": "cosine"})
    assert FitConfig.merge({}, kmeans={"metric": "cosine", "k_method": "elbow"}).kmeans.n_clusters == "auto"
