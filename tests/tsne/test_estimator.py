"""The TSNE estimator: scikit-learn's checks, the right minimum, and the same bits with any number of threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import check_estimator

import engine.tsne.gradient_descent
from engine.errors import DeviceNotAvailableError, NonFiniteValueError, TooFewRowsError
from engine.execution.threads import threads
from engine.tsne.estimator import TSNE
from tests import reference


def blobs(n_rows: int, n_features: int = 6, seed: int = 0) -> tuple[Any, Any]:
    X, labels = make_blobs(n_rows, n_features, centers=5, cluster_std=1.0, center_box=(-12, 12), random_state=seed)
    return X.astype(np.float32), labels


def test_the_estimator_passes_every_check_of_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skipped array-API checks
        check_estimator(TSNE(perplexity=2, max_iter=250))


@pytest.mark.parametrize("n_rows", [300, 1500])  # exact repulsion, and on the grid
def test_separated_blobs_stay_separated(n_rows: int) -> None:
    X, labels = blobs(n_rows)
    tsne = TSNE(perplexity=20, max_iter=500, random_state=0).fit(X)
    assert tsne.embedding_.shape == (n_rows, 2)
    assert tsne.embedding_.dtype == np.float32
    assert tsne.n_iter_ == 500
    score = KNeighborsClassifier(10).fit(tsne.embedding_[::2], labels[::2]).score(tsne.embedding_[1::2], labels[1::2])
    assert score > 0.99
    assert trustworthiness(X, tsne.embedding_, n_neighbors=10) > 0.95


def test_the_kl_divergence_is_the_one_over_all_pairs() -> None:
    X, _ = blobs(120)
    tsne = TSNE(perplexity=5, max_iter=250, random_state=0).fit(X)
    joint = reference.joint_probabilities(X, 5.0, 15)
    assert tsne.kl_divergence_ == pytest.approx(reference.kl_divergence(joint, tsne.embedding_), rel=1e-4)


def test_the_grid_reaches_the_divergence_of_exact_repulsion(monkeypatch: pytest.MonkeyPatch) -> None:
    def mean_divergence() -> float:
        """Return the mean of three fits: small differences of rounding lead to minima some per cent apart."""
        fits = [TSNE(perplexity=20, max_iter=750, random_state=0).fit(blobs(1000, seed=s)[0]) for s in range(3)]
        return float(np.mean([tsne.kl_divergence_ for tsne in fits]))

    exact = mean_divergence()
    monkeypatch.setattr(engine.tsne.gradient_descent, "FEW_ROWS", 0)
    on_grid = mean_divergence()
    assert on_grid != exact
    assert on_grid == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("n_rows", [400, 2500])
def test_threads_do_not_change_bits(n_rows: int) -> None:
    X, _ = blobs(n_rows)
    with threads(1):
        alone = TSNE(perplexity=10, max_iter=260, random_state=3).fit(X)
    for count in (2, 3):
        together = TSNE(perplexity=10, max_iter=260, random_state=3, n_jobs=count).fit(X)
        np.testing.assert_array_equal(alone.embedding_, together.embedding_)
        assert alone.kl_divergence_ == together.kl_divergence_


def test_identical_rows_do_not_blow_up() -> None:
    X, _ = blobs(600)
    X[:400] = X[0]
    embedding = TSNE(perplexity=10, max_iter=400, random_state=0).fit_transform(X)
    assert np.isfinite(embedding).all()
    assert np.abs(embedding).max() < 200
    all_equal = TSNE(perplexity=10, max_iter=250, random_state=0).fit(np.zeros((200, 3)))
    assert np.isfinite(all_equal.embedding_).all()
    assert np.isfinite(all_equal.kl_divergence_)


def test_too_few_rows_name_the_largest_perplexity_possible() -> None:
    X, _ = blobs(100)
    message = r"perplexity=40 needs at least 120 rows, but there are n_samples=100.\nHint: .* is 33.33"
    with pytest.raises(TooFewRowsError, match=message):
        TSNE(perplexity=40).fit(X)
    assert TSNE(perplexity=33.33, max_iter=250).fit(X).embedding_.shape == (100, 2)


def test_an_array_as_init_is_used_unchanged() -> None:
    X, _ = blobs(200)
    start = 1e-4 * np.random.default_rng(0).normal(size=(200, 2))
    first = TSNE(perplexity=10, init=start, max_iter=250, random_state=0).fit_transform(X)
    second = TSNE(perplexity=10, init=start, max_iter=250, random_state=1).fit_transform(X)
    np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match=r"init is of shape \(200, 3\), but the map's is \(200, 2\)"):
        TSNE(perplexity=10, init=np.zeros((200, 3))).fit(X)
    start[7, 1] = np.nan
    with pytest.raises(NonFiniteValueError, match="init holds NaN"):
        TSNE(perplexity=10, init=start).fit(X)


def test_random_init_depends_on_the_seed_alone() -> None:
    X, _ = blobs(200)
    embeddings = [TSNE(perplexity=10, init="random", max_iter=250, random_state=s).fit_transform(X) for s in (0, 0, 1)]
    np.testing.assert_array_equal(embeddings[0], embeddings[1])
    assert not np.array_equal(embeddings[0], embeddings[2])


def test_one_component_separates_blobs_on_a_line() -> None:
    X, labels = blobs(1500)
    embedding = TSNE(1, perplexity=20, max_iter=500, random_state=0).fit_transform(X)
    assert embedding.shape == (1500, 1)
    assert KNeighborsClassifier(10).fit(embedding[::2], labels[::2]).score(embedding[1::2], labels[1::2]) > 0.97


def test_values_far_from_zero_and_of_any_size_give_the_same_embedding() -> None:
    X, _ = blobs(300)
    exact = X.round(3).astype(np.float64)
    plain = TSNE(perplexity=10, max_iter=250, random_state=0).fit(exact)
    huge = TSNE(perplexity=10, max_iter=250, random_state=0).fit(exact * 2.0**600)
    np.testing.assert_array_equal(plain.embedding_, huge.embedding_)
    far = TSNE(perplexity=10, max_iter=250, random_state=0).fit(exact + 2.0**20)
    assert far.kl_divergence_ == pytest.approx(plain.kl_divergence_, rel=0.02)


def test_neighbors_searched_in_clusters_are_logged_and_give_about_the_same_divergence(caplog: Any) -> None:
    X, _ = blobs(4000)
    exact = TSNE(perplexity=10, max_iter=500, random_state=0).fit(X)
    assert exact.neighbors_recall_ == 1.0
    assert not caplog.records
    near = TSNE(perplexity=10, max_iter=500, random_state=0, neighbors="clusters").fit(X)
    assert 0.96 <= near.neighbors_recall_ < 1.0
    assert f"{100 * near.neighbors_recall_:.1f} % of them" in caplog.text
    assert near.kl_divergence_ == pytest.approx(exact.kl_divergence_, rel=0.05)
    with pytest.raises(ValueError, match="'neighbors' parameter"):
        TSNE(neighbors="few").fit(X)


def test_a_missing_gpu_is_an_error() -> None:
    with pytest.raises(DeviceNotAvailableError):
        TSNE(device="cuda").fit(blobs(100)[0])


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_an_interrupt_ends_a_fit_at_once_and_cleanly() -> None:
    code = (
        "import numpy as np, sys, threading\n"
        "from engine import TSNE\n"
        "X = np.random.default_rng(0).normal(size=(5000, 5))\n"
        "print('started', flush=True)\n"
        "try:\n"
        "    TSNE(perplexity=10, max_iter=100_000).fit(X)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(3.0)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert output == "interrupted\n", errors
    assert process.returncode == 0
