"""engine.accel: scikit-learn's names are ours where ours can do what is asked, and stay theirs with the reason."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.cluster
import sklearn.decomposition
import sklearn.manifold
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.pipeline import make_pipeline

import engine
from engine import accel

X = make_blobs(600, 8, centers=4, random_state=0)[0]


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    accel.install()
    yield
    accel.uninstall()


def test_estimators_of_scikit_learn_give_the_results_of_ours() -> None:
    kmeans = sklearn.cluster.KMeans(4, random_state=0).fit(X)
    ours = engine.KMeans(4, random_state=0).fit(X)
    assert kmeans.cluster_centers_.tobytes() == ours.cluster_centers_.tobytes()
    np.testing.assert_array_equal(kmeans.predict(X), ours.labels_)
    np.testing.assert_array_equal(kmeans.fit_predict(X), ours.labels_)
    np.testing.assert_array_equal(kmeans.transform(X), ours.transform(X))
    np.testing.assert_array_equal(kmeans.fit_transform(X), ours.transform(X))
    assert kmeans.score(X) == ours.score(X)
    assert kmeans.get_feature_names_out().tolist() == ["kmeans0", "kmeans1", "kmeans2", "kmeans3"]

    pca, our_pca = sklearn.decomposition.PCA(3, whiten=True).fit(X), engine.PCA(3, whiten=True).fit(X)
    for method in ("transform", "score_samples"):
        np.testing.assert_array_equal(getattr(pca, method)(X), getattr(our_pca, method)(X))
    np.testing.assert_array_equal(pca.fit_transform(X), our_pca.transform(X))
    np.testing.assert_array_equal(pca.inverse_transform(pca.transform(X)), our_pca.inverse_transform(pca.transform(X)))
    np.testing.assert_array_equal(pca.get_covariance(), our_pca.get_covariance())
    assert pca.noise_variance_ == our_pca.noise_variance_

    tsne = sklearn.manifold.TSNE(max_iter=250, random_state=0)
    np.testing.assert_array_equal(tsne.fit_transform(X), engine.TSNE(max_iter=250, random_state=0).fit_transform(X))
    assert tsne.n_iter_ == 250


def test_they_are_estimators_of_scikit_learn() -> None:
    kmeans = sklearn.cluster.KMeans(4, random_state=0)
    accel.uninstall()
    assert isinstance(kmeans, sklearn.cluster.KMeans)
    assert clone(kmeans).get_params() == kmeans.get_params()
    assert set(kmeans.get_params()) == set(sklearn.cluster.KMeans().get_params())
    labels = make_pipeline(sklearn.decomposition.PCA(2), kmeans).fit_predict(X)
    assert len(np.unique(labels)) == 4
    again = pickle.loads(pickle.dumps(kmeans))
    np.testing.assert_array_equal(again.predict(kmeans_input()), kmeans.predict(kmeans_input()))


def kmeans_input() -> Any:
    accel.uninstall()
    return sklearn.decomposition.PCA(2).fit_transform(X)


def test_uninstalling_puts_back_what_was_there() -> None:
    theirs = sklearn.cluster.KMeans.__mro__[1]
    accel.install()  # again: changes nothing
    assert sklearn.cluster.KMeans.__mro__[1] is theirs
    accel.uninstall()
    accel.uninstall()
    assert sklearn.cluster.KMeans is theirs


@pytest.mark.parametrize(
    ("estimator", "rows", "reason"),
    [
        (lambda: sklearn.manifold.TSNE(perplexity=30, max_iter=250), X[:60], r"lowers perplexity=30 .* of the 60 rows"),
        (lambda: sklearn.decomposition.PCA(2), X, r"computes all of more than 4 components"),
        (lambda: sklearn.manifold.TSNE(3, perplexity=5, max_iter=250), X[:60], r"at most 59 rows with n_components=3"),
    ],
)
def test_what_ours_cannot_do_stays_theirs_with_the_reason(
    estimator: Any, rows: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accel, "MOST_FEATURES", 4)
    monkeypatch.setattr("engine.tsne.exact_descent.MOST_ROWS", 59)
    with pytest.warns(accel.AccelerationWarning, match=f"stays scikit-learn's: ours .*{reason}"):
        fitted = estimator().fit(rows)
    assert vars(fitted)["_ours"] is None
    accel.uninstall()
    same = estimator().set_params(random_state=0).fit(rows)
    accel.install()
    with pytest.warns(accel.AccelerationWarning):
        theirs = estimator().set_params(random_state=0).fit(rows)
    for name in ("embedding_", "components_"):
        if hasattr(same, name):
            np.testing.assert_array_equal(getattr(theirs, name), getattr(same, name))


def test_a_refit_by_theirs_forgets_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    pca = sklearn.decomposition.PCA(2).fit(X)
    monkeypatch.setattr(accel, "MOST_FEATURES", 4)
    with pytest.warns(accel.AccelerationWarning):
        pca.fit(X * 2)
    np.testing.assert_allclose(pca.transform(X * 2), 2 * engine.PCA(2).fit_transform(X), atol=1e-9)


def test_errors_are_those_of_scikit_learn() -> None:
    with pytest.raises(ValueError, match=r"n_samples=600 should be >= n_clusters=601"):
        sklearn.cluster.KMeans(601).fit(X)
    with pytest.raises(ValueError, match="The 'n_clusters' parameter"):
        sklearn.cluster.KMeans(-1).fit(X)


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "engine.accel", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_script_runs_with_ours(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("ROWS = 50\n")
    (tmp_path / "script.py").write_text(
        "import sys\nimport numpy as np\nfrom helper import ROWS\nfrom sklearn.cluster import KMeans\n"
        "if __name__ == '__main__':\n"
        "    fitted = KMeans(2, random_state=0).fit(np.random.default_rng(0).normal(size=(ROWS, 3)))\n"
        "    print(type(fitted).__module__, fitted.device_, sys.argv[1:])\n"
    )
    done = run("script.py", "--depth", "3", folder=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "engine.accel cpu ['--depth', '3']"), done.stderr
    missing = run("none.py", folder=tmp_path)
    assert missing.returncode == 2
    assert "there is no file 'none.py'; usage: " in missing.stderr
    (tmp_path / "failing.py").write_text("raise SystemExit(7)\n")
    assert run("failing.py", folder=tmp_path).returncode == 7
