"""The whole fit: planted communities recovered, the same bits with any threads and files, and new rows assigned."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import adjusted_rand_score

import engine
from engine.config import FitConfig
from engine.datasets.demo_table import DemoMembers, DemoPaths, write_demo
from engine.errors import (
    ConfigError,
    IdColumnError,
    MissingColumnError,
    ModelNotReadableError,
    OutputExistsError,
    RetypedColumnError,
    TooFewRowsError,
)
from engine.execution.threads import threads
from engine.features.fit import ColumnsDroppedWarning

N_BITS = 12_000


def read_table(folder: Path) -> pa.Table:
    return pq.read_table(folder)


def test_the_planted_communities_are_found(demo: DemoPaths, run: engine.Run) -> None:
    planted = read_table(demo.planted)["community"].to_numpy()
    assert adjusted_rand_score(planted, run.assignments["cluster"].to_numpy()) >= 0.9


def test_a_run_directory_holds_what_it_should(demo: DemoPaths, run: engine.Run) -> None:
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        "manifest.json", "config.yaml", "model", "assignments", "clusters.parquet", "elbow.csv", "_SUCCESS",
        "rules.json", "rules.sql", "features.json", "personas.json", "personas.md", "report.html",
        "map.parquet", "map.png", "map",
    }  # fmt: skip
    assert not [p for p in run.path.parent.iterdir() if p != run.path]  # no staging folder is left
    assignments = run.assignments
    assert assignments.schema.names == [
        "user_id",
        "cluster",
        "distance",
        "runner_up",
        "margin",
        "runner_up_odds",
        "outlier",
    ]
    assert assignments["user_id"].equals(read_table(demo.members)["user_id"])
    clusters = run.clusters.to_pylist()
    sizes = np.bincount(assignments["cluster"].to_numpy(), minlength=12)
    assert [c["size"] for c in clusters] == sizes.tolist()
    assert sum(c["share"] for c in clusters) == pytest.approx(1.0)
    assert sum(c["inertia"] for c in clusters) == pytest.approx(run.manifest["inertia"], rel=1e-5)
    assert run.manifest["rows"] == len(assignments)
    assert {stage["stage"] for stage in run.manifest["stages"]} >= {"statistics", "pca", "k-means", "assign"}
    margin, outlier = assignments["margin"].to_numpy(), assignments["outlier"].to_numpy(zero_copy_only=False)
    assert 0 <= margin.min() <= margin.max() <= 1
    assert 0 < outlier.mean() < 0.02
    assert not (assignments["cluster"].to_numpy() == assignments["runner_up"].to_numpy()).any()


def test_groups_of_the_tables_metadata_are_logged(
    demo: DemoPaths, run: engine.Run, lean: FitConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    groups = run.manifest["groups"]
    assert set(groups) == {"demographics", "activity", "interests"}
    assert {(group["weight"], group["from_table"]) for group in groups.values()} == {(1.0, True)}
    assert groups["interests"]["columns"][-2:] == ["favourite_genres", "favourite_decade"]
    with caplog.at_level("INFO", logger="engine"):
        engine.fit(read_table(demo.members).slice(0, 2000), out=tmp_path / "a", id="user_id", n_clusters=2, config=lean)
    assert "The table groups its columns: demographics (" in caplog.text
    assert "Groups weigh 1 : 1 : 1" in caplog.text


def test_centers_are_in_the_units_of_the_table(demo: DemoPaths, run: engine.Run) -> None:
    members, labels = read_table(demo.members), run.assignments["cluster"].to_numpy()
    ages = members["age"].to_numpy(zero_copy_only=False)
    ages = np.where(np.isnan(ages), np.nanmedian(ages), ages)  # missing values count as the typical one
    for cluster in run.clusters.to_pylist():
        assert cluster["age"] == pytest.approx(ages[labels == cluster["cluster"]].mean(), abs=0.7)
        plans = np.array(members["plan"].to_pylist())[labels == cluster["cluster"]]
        assert cluster["plan: Basic"] == pytest.approx((plans == "Basic").mean(), abs=0.1)


def test_the_model_assigns_the_fitted_rows_as_the_run_did(demo: DemoPaths, run: engine.Run) -> None:
    model = engine.load(run.path)
    assert model.assign(demo.members).equals(run.assignments)
    one = read_table(demo.members).slice(77, 1)
    assert model.assign(one).to_pylist() == run.assignments.slice(77, 1).to_pylist()


def test_assignments_are_written_as_one_file_or_parts(demo: DemoPaths, run: engine.Run, tmp_path: Path) -> None:
    model = engine.load(run.path)
    model.assign(demo.members, out=tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").equals(run.assignments)
    model.assign(demo.members, out=tmp_path / "parts")
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == ["_SUCCESS", "part-00000.parquet"]
    for out in ("a.parquet", "parts"):
        with pytest.raises(OutputExistsError):
            model.assign(demo.members, out=tmp_path / out)
        model.assign(demo.members, out=tmp_path / out, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet", "parts"]


def test_new_rows_may_hold_unseen_categories_and_gaps_but_not_other_columns(demo: DemoPaths, run: engine.Run) -> None:
    model, rows = engine.load(run.path), read_table(demo.members).slice(0, 10)
    i = rows.column_names.index("plan")
    unseen = model.assign(rows.set_column(i, "plan", pa.array(["Platinum"] * 10)))
    assert len(unseen) == 10
    gaps = rows.set_column(i, "plan", pa.nulls(10))
    assert len(model.assign(gaps)) == 10
    with pytest.raises(MissingColumnError, match="'plan'"):
        model.assign(rows.drop_columns(["plan"]))
    with pytest.raises(MissingColumnError, match="'user_id'"):
        model.assign(rows.drop_columns(["user_id"]))
    with pytest.raises(RetypedColumnError, match="'age' holds string"):
        model.assign(rows.set_column(rows.column_names.index("age"), "age", pa.array(["old"] * 10)))


@pytest.mark.slow
def test_threads_and_files_do_not_change_a_bit(tmp_path: Path, block_rows: Callable[[int], None]) -> None:
    block_rows(4096)
    one = write_demo(tmp_path / "one", N_BITS, n_files=1).members
    many = write_demo(tmp_path / "many", N_BITS, n_files=50).members
    assert len(list(many.glob("*.parquet"))) == 50
    small = {"n_landmarks": 300, "max_iter": 250, "place_all": True}
    config = FitConfig.merge({}, kmeans={"n_clusters": 12}, skip=["explain", "report"], map=small)
    results = []
    for number, (source, count) in enumerate(((one, 1), (one, 2), (many, 1), (many, 5))):
        with threads(count):
            run = engine.fit(source, out=tmp_path / f"run-{number}", id="user_id", config=config)
        results.append((run.model.centers.tobytes(), run.assignments))
    assert all(bits == results[0][0] and rows.equals(results[0][1]) for bits, rows in results[1:])


def test_the_same_seed_gives_the_same_run_and_files_may_be_csv(lean: FitConfig, tmp_path: Path) -> None:
    members = pa.concat_tables([block.rows for block in DemoMembers(3000).blocks()])
    flat = members.drop_columns(["devices", "favourite_genres"])
    flat = pa.table(flat.columns, schema=pa.schema([field.remove_metadata() for field in flat.schema]))  # as in CSV
    pq.write_table(flat, tmp_path / "a.parquet")
    pacsv.write_csv(flat, tmp_path / "a.csv")
    options: dict[str, Any] = {"id": "user_id", "n_clusters": 5, "seed": 7, "config": lean}
    first = engine.fit(tmp_path / "a.parquet", out=tmp_path / "1", **options)
    with threads(1):
        second = engine.fit(flat, out=tmp_path / "2", **options)
    third = engine.fit(tmp_path / "a.csv", out=tmp_path / "3", **options)
    assert first.assignments.equals(second.assignments)
    assert first.assignments.equals(third.assignments)
    assert engine.load(tmp_path / "1").assign(tmp_path / "a.csv").equals(first.assignments)


def test_ids_are_kept_exactly_and_rows_are_numbered_without_them(lean: FitConfig, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = pa.table({"id": [f"{i:05d}" for i in range(500)], "x": rng.normal(size=500), "y": rng.normal(size=500)})
    run = engine.fit(rows, out=tmp_path / "a", id="id", n_clusters=3, config=lean)
    assert run.assignments["id"].equals(rows["id"])
    with pytest.warns(ColumnsDroppedWarning, match="'id'"):
        numbered = engine.fit(rows, out=tmp_path / "b", n_clusters=3, config=lean)
    assert numbered.assignments["row"].to_pylist() == list(range(500))


@pytest.mark.parametrize("kind", [pa.int64(), pa.string()])
def test_null_and_repeated_ids_are_refused(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array(range(100)).cast(kind)
    x = pa.array(np.arange(100.0))
    twice = pa.concat_arrays([values.slice(0, 98), values.slice(0, 2)])
    with pytest.raises(IdColumnError, match="2 of 100 rows repeat"):
        engine.fit(pa.table({"id": twice, "x": x}), out=tmp_path / "a", id="id", n_clusters=2)
    gap = pa.concat_arrays([values.slice(0, 99), pa.nulls(1, kind)])
    with pytest.raises(IdColumnError, match="missing in 1 of rows 0…99"):
        engine.fit(pa.table({"id": gap, "x": x}), out=tmp_path / "a", id="id", n_clusters=2)
    assert not list(tmp_path.iterdir())


def test_k_is_chosen_and_the_reason_is_written(lean: FitConfig, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centers = np.array([[0, 0], [20, 0], [0, 20], [20, 20]])
    X = centers[rng.integers(0, 4, 2000)] + rng.normal(size=(2000, 2))
    run = engine.fit(pa.table({"x": X[:, 0], "y": X[:, 1]}), out=tmp_path / "a", config=lean)
    assert run.manifest["clusters"] == 4
    assert run.clusters["found_again"].to_pylist() == [20, 20, 20, 20]
    assert min(run.clusters["silhouette"].to_pylist()) > 0.8
    assert "4 groups have valleys between them" in run.manifest["clusters_reason"]
    elbow = run.elbow.to_pylist()
    assert [row["k"] for row in elbow] == list(range(1, 21))
    assert [row["k"] for row in elbow if row["chosen"]] == [4]
    assert [row["k"] for row in elbow if row["runner_up"]] == [run.manifest["clusters_runner_up"]] == [5]


@pytest.mark.parametrize("n_clusters", ["auto", 4])
def test_clusters_below_the_least_share_are_dissolved_and_the_reason_says_so(
    lean: FitConfig, tmp_path: Path, n_clusters: int | str
) -> None:
    rng = np.random.default_rng(0)
    group = rng.choice(4, 3000, p=[0.4, 0.3, 0.25, 0.05])
    X = np.array([[0, 0], [20, 0], [0, 20], [22, 20]])[group] + rng.normal(size=(3000, 2))
    config = FitConfig.merge(lean.model_dump(), kmeans={"min_share": 0.1, "k_max": 6, "n_clusters": n_clusters})
    run = engine.fit(pa.table({"x": X[:, 0], "y": X[:, 1]}), out=tmp_path / "a", config=config)
    assert run.manifest["clusters"] == 3
    assert "1 clusters of less than 0.1 of the rows were dissolved" in run.manifest["clusters_reason"]
    assert min(run.clusters["share"].to_pylist()) >= 0.1


def test_noise_is_one_cluster_and_every_output_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    X = np.random.default_rng(0).normal(size=(1200, 3))
    config = FitConfig.merge({}, kmeans={"k_max": 3}, map={"n_landmarks": 100, "max_iter": 250})
    run = engine.fit(pa.table({name: X[:, i] for i, name in enumerate("abc")}), out=tmp_path / "a", config=config)
    assert run.manifest["clusters"] == 1
    assert "there are no clusters" in run.manifest["clusters_reason"]
    assert any(r.levelname == "WARNING" and "there are no clusters" in r.message for r in caplog.records)
    assert set(run.assignments["cluster"].to_pylist()) == {0}
    assert [persona["name"] for persona in run.personas] == ["Everybody"]
    assert run.clusters["silhouette"].to_pylist() == [None]
    assert run.clusters["stability"].to_pylist() == run.clusters["found_again"].to_pylist() == [None]
    assert "No clusters in 1,200 people" in (run.path / "report.html").read_text()
    assert set(run.model.assign(pa.table({name: [0.0] for name in "abc"}))["cluster"].to_pylist()) == {0}


def test_more_clusters_than_distinct_rows_is_an_error_with_both_numbers(tmp_path: Path) -> None:
    rows = pa.table({"x": [0.0, 1.0, 2.0] * 10, "y": [0.0, 1.0, 2.0] * 10})
    with pytest.raises(TooFewRowsError, match=r"n_clusters=5 .* 3"):
        engine.fit(rows, out=tmp_path / "a", n_clusters=5)
    assert not list(tmp_path.iterdir())


def test_one_cluster_and_one_column_are_fine(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = engine.fit(pa.table({"x": np.arange(100.0) % 17}), out=tmp_path / "a", n_clusters=1)
    rows = run.assignments.to_pylist()
    assert {row["runner_up"] for row in rows} == {-1}
    assert {row["margin"] for row in rows} == {1.0}


def test_a_taken_target_is_refused_before_any_work_and_kept_after_an_error(
    run: engine.Run, lean: FitConfig, tmp_path: Path
) -> None:
    rows = pa.table({"x": np.arange(100.0) % 17})
    with pytest.raises(OutputExistsError, match="already exists"):
        engine.fit(rows, out=run.path, n_clusters=2)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExistsError, match="not written by the engine"):
        engine.fit(rows, out=folder, n_clusters=2, overwrite=True)
    assert (folder / "thesis.txt").read_text() == "years of work"
    engine.fit(rows, out=tmp_path / "a", n_clusters=2, config=lean)
    with pytest.raises(TooFewRowsError):
        engine.fit(rows, out=tmp_path / "a", n_clusters=50, overwrite=True)
    assert engine.Run(tmp_path / "a").manifest["clusters"] == 2
    engine.fit(rows, out=tmp_path / "a", n_clusters=3, config=lean, overwrite=True)
    assert engine.Run(tmp_path / "a").manifest["clusters"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "mine"]


def test_config_yaml_reproduces_the_run(demo: DemoPaths, tmp_path: Path) -> None:
    odd = FitConfig.merge({}, seed=3, pca={"n_components": 5}, kmeans={"n_clusters": 4}, skip=["map", "report"])
    run = engine.fit(demo.members, out=tmp_path / "run", id="user_id", config=odd)
    again = engine.fit(demo.members, out=tmp_path / "again", config=run.path / "config.yaml")
    assert again.assignments.equals(run.assignments)
    (tmp_path / "bad.yaml").write_text("kmeans: {n_cluster: 5}\n")
    with pytest.raises(ConfigError, match=r"kmeans\.n_cluster"):
        engine.fit(demo.members, out=tmp_path / "b", config=tmp_path / "bad.yaml")


def test_a_damaged_model_is_an_error_and_not_an_answer(run: engine.Run, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    arrays = copy / "model" / "arrays.safetensors"
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(ModelNotReadableError, match="checksum"):
        engine.load(copy)
    facts = json.loads((copy / "model" / "model.json").read_text())
    (copy / "model" / "model.json").write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(ModelNotReadableError, match="format 99"):
        engine.load(copy)
    (copy / "_SUCCESS").unlink()
    with pytest.raises(ModelNotReadableError, match="not a complete run"):
        engine.load(copy)
    assert not [p for p in run.path.rglob("*") if p.suffix in (".pkl", ".pickle", ".joblib")]


@pytest.mark.parametrize(
    ("name", "id", "k"), [("developer_survey_2017.csv.gz", "Respondent", 6), ("health_survey_2015.csv.gz", None, 8)]
)
def test_the_surveys_are_clustered_as_they_are(shared_data: Path, tmp_path: Path, name: str, id: str, k: int) -> None:
    config = FitConfig.merge({}, skip=["map", "report"])
    run = engine.fit(shared_data / name, out=tmp_path / "run", id=id, n_clusters=k, config=config)
    assert run.manifest["clusters"] == k
    assert min(run.clusters["size"].to_pylist()) > 0
    assert run.assignments.schema.names[0] == (id or "row")
