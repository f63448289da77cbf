"""rooms bench: everybody who can takes part, and everybody else is named with the reason."""

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

from engine.backends.gpu import Probe
from engine.bench import gpu, kmeans, run
from engine.bench import libraries as contenders
from engine.bench.libraries import STAGES, Contender
from engine.bench.output import as_table
from engine.bench.task import Task
from engine.cli import app
from engine.errors import UsageError
from tests.gpu.libraries import bind


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "probe", lambda: Probe(False, "no driver in tests"))


def only(monkeypatch: pytest.MonkeyPatch, stage: str, *chosen: Contender) -> None:
    monkeypatch.setitem(STAGES, stage, list(chosen))


def missing_library(task: Task) -> Any:
    raise ImportError("No module named 'rare'")


def broken_library(task: Task) -> Any:
    raise RuntimeError("no such symbol\nand a long story")


def test_the_engine_and_scikit_learn_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in ("kmeans", "pca"):
        only(monkeypatch, stage, *(c for c in STAGES[stage] if c.name in ("engine, cpu", "scikit-learn")))
    report = run.bench(rows=500, features=4, clusters=3, stages=["kmeans", "pca"], rounds=2)
    assert [(r.stage, r.contender) for r in report.results] == [
        ("kmeans", "engine, cpu"), ("kmeans", "scikit-learn"), ("pca", "engine, cpu"), ("pca", "scikit-learn"),
    ]  # fmt: skip
    for ours, theirs in (report.results[:2], report.results[2:]):
        assert ours.quality == pytest.approx(theirs.quality, rel=1e-4)
        assert len(ours.all_seconds) == 2
        assert ours.seconds == min(ours.all_seconds)
        assert ours.rows_per_second == pytest.approx(500 / ours.seconds, rel=1e-3)


def test_who_cannot_take_part_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    only(
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
    text = as_table(report)
    assert "not in it: kmeans, rare: not installed (pip install rare-library)" in text
    assert "300" in text


def test_a_fault_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "kmeans", Contender("ours", "rooms-engine", broken_library))
    with pytest.raises(RuntimeError, match="no such symbol"):
        run.bench(rows=300, features=3, clusters=2, stages=["kmeans"], rounds=1)


def test_the_first_run_is_outside_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def slow_at_first(task: Task) -> Any:
        runs.append(len(task.X))
        time.sleep(0.2 if len(runs) == 1 else 0)
        return task.start

    only(monkeypatch, "kmeans", Contender("ours", "rooms-engine", slow_at_first))
    report = run.bench(rows=300, features=3, clusters=2, stages=["kmeans"], rounds=3)
    assert runs == [300] * 4
    assert max(report.results[0].all_seconds) < 0.2


def test_divergence_is_one_measure_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    only(
        monkeypatch, "tsne",
        Contender("start", "rooms-engine", lambda task: task.start * 1e4),
        Contender("noise", "noise", lambda task: np.random.default_rng(0).normal(size=(len(task.X), 2))),
    )  # fmt: skip
    report = run.bench(rows=400, features=6, clusters=4, stages=["tsne"], rounds=1)
    start, noise = report.results
    assert 0 < start.quality < noise.quality


def test_stages_and_rows_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="Stages umap: they are some of kmeans, pca, tsne"):
        run.bench(rows=300, features=3, clusters=2, stages=["umap"])
    with pytest.raises(UsageError, match="must be at least 500"):
        run.bench(rows=300, features=3, clusters=500, stages=["pca"])


def test_the_command_writes_json_and_a_plot_and_keeps_what_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    only(monkeypatch, "kmeans", Contender("ours", "rooms-engine", lambda task: task.start))
    arguments = ["bench", "--rows", "300", "--features", "3", "--clusters", "2", "--stages", "kmeans"]
    arguments += ["--rounds", "1", "--json", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((tmp_path / "bench.json").read_text())
    assert json.loads(done.stdout)["machine"]["gpu"] == "no driver in tests"
    page = (tmp_path / "bench.html").read_text()
    assert "300 rows, 3 features, 2 clusters" in page
    assert "<script src=" not in page
    assert CliRunner().invoke(app, arguments).exit_code == 5


@pytest.mark.parametrize("stage", ["kmeans", "pca", "tsne"])
def test_calls_into_cuml_fit_its_signatures(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Peers on a GPU are called as the recorded wheels want it."""
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
    (cuml,) = [contender for contender in contenders.STAGES[stage] if contender.name == "cuML"]
    X = np.ones((4, 2), np.float32)
    assert np.asarray(cuml.run(Task(X, X[:2], 2, 2))).shape == (2, 2)


def test_the_call_of_flash_kmeans_fits_its_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Tensor(np.ndarray):
        def cpu(self) -> Tensor:
            return self

        def numpy(self) -> Any:
            return self.view(np.ndarray)

    def fit(*args: Any, **kwargs: Any) -> tuple[Any, Any, int]:
        seen.update(bind("flash_kmeans.batch_kmeans_Euclid", *args, **kwargs))
        return np.zeros((1, len(args[0][0]))), seen["init_centroids"] + 1, seen["max_iters"]

    torch: Any = ModuleType("torch")
    torch.as_tensor = lambda values, device: np.asarray(values).view(Tensor)
    library: Any = ModuleType("flash_kmeans")
    library.batch_kmeans_Euclid = fit
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "flash_kmeans", library)
    X = np.ones((9, 3), np.float32)
    centres, n_iter = gpu.flash_kmeans(X, X[:2], 7, 0.0)
    np.testing.assert_array_equal(centres, X[:2] + 1)
    assert (n_iter, seen["x"].shape, seen["n_clusters"], seen["tol"]) == (7, (1, 9, 3), 2, 0.0)


def test_everybody_who_is_installed_iterates_from_the_same_centres_by_the_same_rule() -> None:
    random = np.random.default_rng(0)
    X = (random.integers(0, 4, (400, 1)) * 5 + random.normal(size=(400, 3))).astype(np.float32)
    start = X[:4].copy()
    expected, n_iter = kmeans.PEERS["scikit-learn lloyd"](X, start, 50, 1e-4)
    for name in ("engine", "scikit-learn elkan"):
        centres, iterations = kmeans.PEERS[name](X, start, 50, 1e-4)
        np.testing.assert_allclose(centres, expected, rtol=1e-4)
        assert iterations == n_iter
        assert kmeans.PEERS[name](X, start, 2, 0.0)[1] == 2
