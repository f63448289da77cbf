"""Tests of rooms bench: contenders that can run are timed, and the others are reported with the reason."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from engine.backends.gpu import GpuProbe
from engine.bench import gpu, kmeans, run
from engine.bench.libraries import STAGES, Contender
from engine.bench.output import format_table
from engine.bench.task import Task
from engine.cli import app
from engine.errors import UsageError
from tests.gpu.contract import bind


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "probe", lambda: GpuProbe(False, "no driver in tests"))


def set_contenders(monkeypatch: pytest.MonkeyPatch, stage: str, *contenders: Contender) -> None:
    monkeypatch.setitem(STAGES, stage, list(contenders))


def missing_library(task: Task) -> Any:
    raise ImportError("No module named 'rare'")


def broken_library(task: Task) -> Any:
    raise RuntimeError("no such symbol\nand a long story")


def test_the_engine_and_scikit_learn_reach_the_same_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in ("kmeans", "pca"):
        set_contenders(monkeypatch, stage, *(c for c in STAGES[stage] if c.name in ("engine, cpu", "scikit-learn")))
    report = run.bench(rows=500, features=4, clusters=3, stages=["kmeans", "pca"], rounds=2)
    assert [(r.stage, r.contender) for r in report.results] == [
        ("kmeans", "engine, cpu"), ("kmeans", "scikit-learn"), ("pca", "engine, cpu"), ("pca", "scikit-learn"),
    ]  # fmt: skip
    for engine, sklearn in (report.results[:2], report.results[2:]):
        assert engine.quality == pytest.approx(sklearn.quality, rel=1e-4)
        assert len(engine.all_seconds) == 2
        assert engine.seconds == min(engine.all_seconds)
        assert engine.rows_per_second == pytest.approx(500 / engine.seconds, rel=1e-3)


def test_a_contender_that_cannot_run_is_reported_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    set_contenders(
        monkeypatch, "kmeans",
        Contender("ours", "rooms-engine", lambda task: task.start),
        Contender("rare", "rare-library", missing_library),
        Contender("broken", "broken", broken_library),
        Contender("on a GPU", "cuml", missing_library, needs_gpu=True),
    )  # fmt: skip
    report = run.bench(rows=300, features=3, clusters=2, stages=["kmeans"], rounds=1)
    assert [r.contender for r in report.results] == ["ours"]
    assert {m["contender"]: m["reason"] for m in report.missing} == {
        "rare": "not installed (pip install rare-library): No module named 'rare'",
        "broken": "failed: RuntimeError: no such symbol",
        "on a GPU": "no GPU: no driver in tests",
    }
    text = format_table(report)
    assert "not in it: kmeans, rare: not installed (pip install rare-library)" in text
    assert "300" in text


def test_an_error_of_the_engine_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    set_contenders(monkeypatch, "kmeans", Contender("ours", "rooms-engine", broken_library))
    with pytest.raises(RuntimeError, match="no such symbol"):
        run.bench(rows=300, features=3, clusters=2, stages=["kmeans"], rounds=1)


def test_the_first_run_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def slow_first_run(task: Task) -> Any:
        runs.append(len(task.X))
        time.sleep(0.2 if len(runs) == 1 else 0)
        return task.start

    set_contenders(monkeypatch, "kmeans", Contender("ours", "rooms-engine", slow_first_run))
    report = run.bench(rows=300, features=3, clusters=2, stages=["kmeans"], rounds=3)
    assert runs == [300] * 4
    assert max(report.results[0].all_seconds) < 0.2


def test_the_kl_divergence_of_all_contenders_is_computed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    set_contenders(
        monkeypatch, "tsne",
        Contender("start", "rooms-engine", lambda task: task.start * 1e4),
        Contender("noise", "noise", lambda task: np.random.default_rng(0).normal(size=(len(task.X), 2))),
    )  # fmt: skip
    report = run.bench(rows=400, features=6, clusters=4, stages=["tsne"], rounds=1)
    start, noise = report.results
    assert 0 < start.quality < noise.quality


def test_unknown_stages_and_too_few_rows_are_rejected() -> None:
    with pytest.raises(UsageError, match="Stages umap cannot be measured: choose from kmeans, pca, tsne"):
        run.bench(rows=300, features=3, clusters=2, stages=["umap"])
    with pytest.raises(UsageError, match="must be at least 500"):
        run.bench(rows=300, features=3, clusters=500, stages=["pca"])


def test_the_command_writes_json_and_a_plot_and_does_not_overwrite_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_contenders(monkeypatch, "kmeans", Contender("ours", "rooms-engine", lambda task: task.start))
    arguments = ["bench", "--rows", "300", "--features", "3", "--clusters", "2", "--stages", "kmeans"]
    arguments += ["--rounds", "1", "--json", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((tmp_path / "bench.json").read_text())
    assert json.loads(result.stdout)["machine"]["gpu"] == "no driver in tests"
    page = (tmp_path / "bench.html").read_text()
    assert "300 rows, 3 features, 2 clusters" in page
    assert "<script src=" not in page
    assert CliRunner().invoke(app, arguments).exit_code == 5


@pytest.mark.parametrize("stage", ["kmeans", "pca", "tsne"])
def test_calls_into_cuml_fit_its_signatures(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Calls of the GPU libraries fit the signatures recorded from their wheels."""
    modules = {"kmeans": ("cluster", "KMeans"), "pca": ("decomposition", "PCA"), "tsne": ("manifold", "TSNE")}
    module, name = modules[stage]
    path = f"cuml.{module}.{name}"

    class Library:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            bind(path, *args, **kwargs)
            self.cluster_centers_ = self.components_ = np.zeros((2, 2))
            self.n_iter_ = 20

        def fit(self, *args: Any, **kwargs: Any) -> Library:
            bind(f"{path}.fit", *args, **kwargs)
            return self

        def fit_transform(self, *args: Any, **kwargs: Any) -> Any:
            bind(f"{path}.fit_transform", *args, **kwargs)
            return np.zeros((2, 2))

    package: Any = ModuleType(f"cuml.{module}")
    setattr(package, name, Library)
    monkeypatch.setitem(sys.modules, "cuml", ModuleType("cuml"))
    monkeypatch.setitem(sys.modules, package.__name__, package)
    (cuml,) = [contender for contender in STAGES[stage] if contender.name == "cuML"]
    X = np.ones((4, 2), np.float32)
    assert np.asarray(cuml.run(Task(X, X[:2], 2, 2))).shape == (2, 2)


def test_the_call_of_flash_kmeans_fits_its_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {}

    class Tensor(np.ndarray):
        def cpu(self) -> Tensor:
            return self

        def numpy(self) -> Any:
            return self.view(np.ndarray)

    def fit(*args: Any, **kwargs: Any) -> tuple[Any, Any, int]:
        arguments.update(bind("flash_kmeans.batch_kmeans_Euclid", *args, **kwargs))
        return np.zeros((1, len(args[0][0]))), arguments["init_centroids"] + 1, arguments["max_iters"]

    torch: Any = ModuleType("torch")
    torch.as_tensor = lambda values, device: np.asarray(values).view(Tensor)
    library: Any = ModuleType("flash_kmeans")
    library.batch_kmeans_Euclid = fit
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "flash_kmeans", library)
    X = np.ones((9, 3), np.float32)
    centers, n_iter = gpu.flash_kmeans(X, X[:2], 7, 0.0)
    np.testing.assert_array_equal(centers, X[:2] + 1)
    assert (n_iter, arguments["x"].shape, arguments["n_clusters"], arguments["tol"]) == (7, (1, 9, 3), 2, 0.0)


def test_the_installed_libraries_iterate_alike_from_the_same_centers() -> None:
    random = np.random.default_rng(0)
    X = (random.integers(0, 4, (400, 1)) * 5 + random.normal(size=(400, 3))).astype(np.float32)
    start = X[:4].copy()
    expected, n_iter = kmeans.IMPLEMENTATIONS["scikit-learn lloyd"](X, start, 50, 1e-4)
    for name in ("engine", "scikit-learn elkan"):
        centers, iterations = kmeans.IMPLEMENTATIONS[name](X, start, 50, 1e-4)
        np.testing.assert_allclose(centers, expected, rtol=1e-4)
        assert iterations == n_iter
        assert kmeans.IMPLEMENTATIONS[name](X, start, 2, 0.0)[1] == 2
