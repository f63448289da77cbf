"""An ONNX graph assigns rows as the model does, in onnxruntime and in double precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pytest

import engine
from engine.errors import UsageError
from engine.export.onnx_graph import MISSING_TEXT
from engine.model.export import onnx_inputs
from engine.model.model import Model
from tests.export.tables import MARKS, ROLES, mixed, shifted


def fit(rows: pa.Table, out: Path, **settings: Any) -> Model:
    config = {"features": {"roles": ROLES, "missing": MARKS}} | settings
    skip = ["map", "report", "explain"]
    return engine.fit(rows, id="who", n_clusters=5, out=out, skip=skip, config=config, threads=1).model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return fit(mixed(complete=("visits", "seen", "smoker")), tmp_path_factory.mktemp("onnx") / "run")


def run(model: Model, rows: pa.Table, graph: Any = None) -> list[int]:
    graph = model.export("onnx", table=rows) if graph is None else graph
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    clusters: list[int] = session.run(["cluster"], onnx_inputs(model, rows))[0].tolist()
    return clusters


@pytest.mark.parametrize("seed", [0, 1])
def test_a_graph_assigns_rows_as_the_model_does(model: Model, seed: int) -> None:
    rows = shifted(mixed(2000, seed=seed), seed)
    assert run(model, rows) == model.assign(rows)["cluster"].to_pylist()


def test_every_single_column_counts(model: Model) -> None:
    rows = shifted(mixed(300, seed=5), 5)
    graph = model.export("onnx", table=rows)
    for first in (0, 1, 2):
        base = rows.slice(first, 1).take(pa.array([0] * len(rows)))
        for name in rows.column_names[1:]:
            alike = base.set_column(rows.column_names.index(name), name, rows[name])
            assert run(model, alike, graph) == model.assign(alike)["cluster"].to_pylist(), name


def test_inputs_are_as_documented(model: Model, tmp_path: Path) -> None:
    """Values that somebody without the engine passes: marks and NaN, one row, and lists that are missing or empty."""
    rows = mixed(40, seed=2)
    path = model.export("onnx", table=rows, out=tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path))
    kinds = {given.name: given.type for given in session.get_inputs()}
    assert kinds["age"] == kinds["joined"] == kinds["grade"] == kinds["smoker"] == kinds["taste"] == "tensor(double)"
    assert kinds["plan"] == kinds["tags"] == kinds["words"] == kinds["codes"] == "tensor(string)"
    inputs = onnx_inputs(model, rows)
    tags = rows["tags"].to_pylist()
    longest = max(len(labels or [None]) for labels in tags)
    given = [[MISSING_TEXT] if labels is None else labels for labels in tags]
    inputs["tags"] = np.array([labels + [""] * (longest - len(labels)) for labels in given], object)
    inputs["score"] = rows["score"].to_numpy().astype(np.float64)  # with its mark, 99
    inputs["age"] = np.array([np.nan if age is None else float(age) for age in rows["age"].to_pylist()])
    inputs["plan"] = np.array([MISSING_TEXT if text is None else text for text in rows["plan"].to_pylist()], object)
    assigned = model.assign(rows)["cluster"].to_pylist()
    assert session.run(None, inputs)[0].tolist() == assigned
    first = {name: values[:1] for name, values in inputs.items()}
    assert session.run(None, first)[0].tolist() == assigned[:1]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_ties_metrics_and_numbers_of_clusters(tmp_path: Path, metric: str) -> None:
    rows = mixed()
    model = fit(rows, tmp_path / "run", kmeans={"metric": metric})
    centers = model.centers.copy()
    centers[3] = centers[1]
    numbers = np.array([2, 3, 5, 8, 13], np.int32)
    tied = Model(model.encoder, model.pca, centers, model.fences, "who", numbers=numbers, metric=model.metric)
    found = run(tied, rows)
    assert found == tied.assign(rows)["cluster"].to_pylist()
    assert 3 in found
    assert 8 not in found


def test_texts_that_stand_for_a_missing_one_are_refused(model: Model, tmp_path: Path) -> None:
    rows = pa.table({"who": range(90), "plan": ["a", MISSING_TEXT, "b"] * 30, "age": np.arange(90) % 7})
    settings = {"id": "who", "n_clusters": 2, "skip": ["map", "report", "explain"], "threads": 1}
    named = engine.fit(rows, out=tmp_path / "run", **settings).model
    with pytest.raises(UsageError, match="Column 'plan' has the text '<missing>'"):
        named.export("onnx", table=rows)
    onnx.checker.check_model(model.export("onnx", table=mixed(10)), full_check=True)
