"""Vector columns: their elements as columns, their weight, and a whole fit on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import adjusted_rand_score

import engine
from engine.config import FitConfig, GroupConfig
from engine.errors import SchemaMismatchError
from engine.features.column_weights import compute_weights
from engine.features.fit import fit_encoder
from engine.pipeline.dry_run import estimate_fit
from engine.tables import open_table

ROWS = 400
ON_TASTE: dict[str, Any] = {
    "skip": ["map", "report"],
    "id": "member",
    "kmeans": {"n_clusters": 4},
    "features": {"groups": {"taste": {"weight": 5.0}}},
}


def members(kind: pa.DataType | None = None) -> tuple[pa.Table, np.ndarray[Any, Any]]:
    """Return members whose taste, of 8 numbers, falls into four communities; one in fifty has none."""
    random = np.random.default_rng(3)
    community = random.integers(0, 4, ROWS)
    taste = random.normal(size=(4, 8))[community] + 0.2 * random.normal(size=(ROWS, 8))
    lists = [None if i % 50 == 7 else list(row) for i, row in enumerate(taste)]
    columns = {
        "member": pa.array([f"m{i:04d}" for i in range(ROWS)]),
        "taste": pa.array(lists, kind or pa.list_(pa.float32())),
        "age": pa.array(random.normal(40.0, 9.0, ROWS)),
    }
    return pa.table(columns), community


@pytest.fixture
def path(tmp_path: Path) -> Path:
    table, _ = members()
    for number in range(2):
        (tmp_path / "members").mkdir(exist_ok=True)
        pq.write_table(table.slice(200 * number, 200), tmp_path / "members" / f"{number}.parquet", row_group_size=64)
    return tmp_path / "members"


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 8), pa.list_(pa.float16())],
    ids=str,
)
def test_numbers_of_vectors_are_columns(kind: pa.DataType) -> None:
    frame, _ = members(kind)
    (block,) = open_table(frame).blocks(["age", "taste[7]", "taste[0]"])
    given = frame.column("taste").to_pylist()
    assert block.rows.column_names == ["age", "taste[7]", "taste[0]"]
    assert block.rows.column("taste[7]").to_pylist() == [None if row is None else row[7] for row in given]
    assert block.rows.column("taste[0]").null_count == 8


def test_missing_numbers_and_nan_stay_what_they_are() -> None:
    given = [[0.5, None], None, [float("nan"), 2.5], [1.5, -0.5]]
    (block,) = open_table(pa.table({"taste": pa.array(given, pa.list_(pa.float64()))})).blocks()
    assert str(block.rows.column("taste[0]").to_pylist()) == "[0.5, None, nan, 1.5]"
    assert block.rows.column("taste[1]").to_pylist() == [None, None, 2.5, -0.5]
    assert block.rows.schema.types == [pa.float64(), pa.float64()]


def test_files_and_frames_have_the_same_columns(path: Path) -> None:
    files, frame = open_table(path), open_table(members()[0])
    assert files.schema.names == frame.schema.names == ["member", *(f"taste[{i}]" for i in range(8)), "age"]
    assert next(files.blocks()).rows.to_pylist() == next(frame.blocks()).rows.to_pylist()


def test_labels_and_empty_lists_are_no_vectors() -> None:
    table = pa.table({"genres": [[1, 2], [3]], "none": pa.array([None, []], pa.list_(pa.float32()))})
    assert open_table(table).schema.names == ["genres", "none"]


def test_lists_of_several_lengths_are_named(tmp_path: Path, lean: FitConfig) -> None:
    table = pa.table({"age": [30.0, 40.0, 50.0], "visits": [[0.5, 1.5], [2.5, 3.5], [4.5]]})
    with pytest.raises(SchemaMismatchError, match="Row 2 of column 'visits' has 1 numbers, and the first has 2"):
        engine.fit(table, n_clusters=2, out=tmp_path / "run", config=lean)
    left = FitConfig.merge(lean.model_dump(), features={"roles": {"visits": "ignore"}})
    run = engine.fit(table, n_clusters=2, out=tmp_path / "run", config=left)
    assert [feature.name for feature in run.model.encoder.features] == ["age"]


def test_a_column_named_like_a_number_is_refused() -> None:
    with pytest.raises(SchemaMismatchError, match=r"'taste\[1\]' is there"):
        open_table(pa.table({"taste": [[0.5, 1.5]], "taste[1]": [1.0]}))


def test_distances_within_a_vector_are_kept() -> None:
    random = np.random.default_rng(0)
    taste = random.uniform(-1.0, 1.0, (3000, 6)) * [1.0, 0.1, 2.0, 0.5, 1.0, 3.0]
    table = open_table(pa.table({"taste": taste.tolist(), "age": random.uniform(20, 60, 3000)}))
    fitted = fit_encoder(table)
    X = fitted.encoder.encode(next(table.blocks()).rows)
    inside = np.all(np.abs(taste) < 0.98 * np.abs(taste).max(axis=0), axis=1)  # the others are clipped
    near, far = X[inside, :6], taste[inside]
    ratio = np.linalg.norm(near[1:] - near[:-1], axis=1) / np.linalg.norm(far[1:] - far[:-1], axis=1)
    assert ratio.std() < 0.02 * ratio.mean()
    assert X[:, :6].var(axis=0).sum() == pytest.approx(X[:, 6].var(), rel=0.01)


def vector_weights(groups: dict[str, GroupConfig], *used: str) -> dict[str, float]:
    schema = open_table(pa.table({"taste": [[0.5, 1.5]], "age": [1.0], "years": [2.0]})).schema
    return compute_weights(schema, used, groups, {"taste[0]": 3.0, "taste[1]": 1.0}).by_column


def test_a_vector_weighs_as_one_column_of_a_group_of_its_own() -> None:
    columns: Sequence[str] = ("taste[0]", "taste[1]", "age", "years")
    alone = vector_weights({}, *columns)
    assert alone == pytest.approx({"taste[0]": 1.125, "taste[1]": 0.375, "age": 0.75, "years": 0.75})
    heavy = vector_weights({"taste": GroupConfig(weight=3.0)}, *columns)
    assert heavy["taste[0]"] + heavy["taste[1]"] == pytest.approx(3 * (heavy["age"] + heavy["years"]))
    together = vector_weights({"all": GroupConfig(columns=["taste", "age", "years"])}, *columns)
    assert together == pytest.approx({"taste[0]": 0.75, "taste[1]": 0.25, "age": 1.0, "years": 1.0})


def test_a_fit_on_vectors(path: Path, lean: FitConfig, tmp_path: Path) -> None:
    settings = FitConfig.merge(lean.model_dump(), **ON_TASTE)
    report = estimate_fit(path, settings)
    assert "taste  numeric      8 numbers of a vector" in report.describe()
    run = engine.fit(path, out=tmp_path / "run", config=settings)
    _, community = members()
    has_vector = np.arange(ROWS) % 50 != 7
    assigned = ds.dataset(run.path / "assignments").to_table()
    assert adjusted_rand_score(community[has_vector], assigned["cluster"].to_numpy()[has_vector]) > 0.95
    assert all("taste" not in str(persona["sentences"]) for persona in run.personas)
    reassigned = run.model.assign(members()[0])
    assert reassigned.column("cluster").to_pylist() == assigned.column("cluster").to_pylist()


def test_rules_ask_vectors_in_sql(path: Path, lean: FitConfig, tmp_path: Path) -> None:
    settings = FitConfig.merge(lean.model_dump(), **ON_TASTE)
    run = engine.fit(path, out=tmp_path / "run", config=settings)
    connection = duckdb.connect()
    connection.register("profiles", members()[0])
    rules, tree = (run.path / "rules.sql").read_text().split(";\n\n", 1)
    assert '"taste"[' in rules
    labels = dict(connection.sql(tree.rstrip().rstrip(";")).fetchall())
    assigned = ds.dataset(run.path / "assignments").to_table()
    right = [
        labels[m] == c for m, c in zip(assigned["member"].to_pylist(), assigned["cluster"].to_pylist(), strict=True)
    ]
    assert np.mean(right) == pytest.approx(run.rules["full"]["fidelity"], abs=1e-3)
    assert np.mean(right) > 0.9


def test_a_vector_that_does_not_vary_has_equal_shares() -> None:
    rows = pa.table({"taste": pa.array([[0.5, 0.5], None] * 50), "age": np.arange(100) % 37})
    plans = {plan.column: plan for plan in fit_encoder(open_table(rows)).encoder.plan.columns}
    assert plans["taste[0]"].weight == plans["taste[1]"].weight == plans["age"].weight / 2
