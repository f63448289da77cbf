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
import scipy.sparse
from sklearn.datasets import make_blobs
from sklearn.manifold import trustworthiness
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import check_estimator

import engine.tsne.gradient_descent
from engine.errors import DeviceNotAvailableError, NonFiniteValueError, TooFewRowsError, UsageError
from engine.execution.threads import threads
from engine.tsne import estimator, exact_descent
from engine.tsne.affinities import compute_affinities
from engine.tsne.estimator import TSNE
from engine.tsne.types import EmbeddingPlan
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


def test_a_perplexity_of_more_than_a_third_of_the_rows_is_lowered_with_a_warning() -> None:
    X, _ = blobs(100)
    with pytest.warns(UserWarning, match=r"perplexity=40 is more than a third of n_samples=100: .* to 33.33\."):
        lowered = TSNE(perplexity=40, max_iter=250, random_state=0).fit(X)
    assert lowered.perplexity_ == pytest.approx(100 / 3)
    exact = TSNE(perplexity=100 / 3, max_iter=250, random_state=0).fit(X)
    np.testing.assert_array_equal(lowered.embedding_, exact.embedding_)
    for perplexity in (100, 200):
        with pytest.raises(TooFewRowsError, match=rf"perplexity \({perplexity}\) must be less than n_samples \(100\)"):
            TSNE(perplexity=perplexity).fit(X)
    with pytest.raises(TooFewRowsError, match="a map needs at least 3 rows"):
        TSNE(perplexity=1).fit(X[:2])


@pytest.mark.parametrize("perplexity", [10, 20, 33])
def test_a_small_table_without_clusters_does_not_stay_a_point(perplexity: float) -> None:
    side = np.linspace(0, 1, 10)
    X = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    embedding = TSNE(perplexity=perplexity, max_iter=500, random_state=0).fit_transform(X)
    assert embedding.std(axis=0).min() > 1


def test_three_components_reach_a_divergence_below_that_of_two() -> None:
    X, labels = blobs(240)
    two, three = (TSNE(d, perplexity=15, max_iter=500, random_state=0).fit(X) for d in (2, 3))
    assert three.embedding_.shape == (240, 3)
    assert three.kl_divergence_ < two.kl_divergence_
    joint = np.array(reference.joint_probabilities(X, 15.0, 45))
    similarity = 1 / (1 + np.square(pairwise_distances(three.embedding_.astype(np.float64))))
    np.fill_diagonal(similarity, 0.0)
    pairs = joint > 0
    divergence = (joint[pairs] * np.log(joint[pairs] / similarity[pairs] * similarity.sum())).sum()
    assert three.kl_divergence_ == pytest.approx(divergence, rel=1e-4)
    classifier = KNeighborsClassifier(5).fit(three.embedding_[::2], labels[::2])
    assert classifier.score(three.embedding_[1::2], labels[1::2]) > 0.99


def test_the_descent_over_all_pairs_takes_the_steps_of_the_one_in_two_dimensions() -> None:
    X, _ = blobs(150)
    start = 1e-2 * np.random.default_rng(0).normal(size=(150, 2)).astype(np.float32)
    P = compute_affinities(X, 10.0, lambda n: None)
    plan = EmbeddingPlan(10.0, 12.0, 10, 20, 150 / 12.0, 0.0)  # small steps: large ones are chaotic
    ours = engine.tsne.gradient_descent.descend(P, start, plan, lambda n: None)
    exact = exact_descent.descend(P, start, plan, lambda n: None)
    np.testing.assert_allclose(exact.embedding, ours.embedding, rtol=1e-3, atol=1e-6)
    assert exact.kl_divergence == pytest.approx(ours.kl_divergence, rel=1e-5)


def test_threads_and_blocks_do_not_change_bits_in_three_dimensions() -> None:
    X, _ = blobs(300)
    maps = []
    for count in (1, 3):
        with threads(count):
            maps.append(TSNE(3, perplexity=10, max_iter=250, random_state=0).fit_transform(X))
    np.testing.assert_array_equal(maps[0], maps[1])


@pytest.mark.parametrize("method", ["barnes_hut", "exact"])
def test_precomputed_euclidean_distances_give_about_the_map_of_the_rows(method: str) -> None:
    X, _ = blobs(200)
    D = pairwise_distances(X.astype(np.float64))
    by_rows = TSNE(perplexity=10, init="random", max_iter=500, random_state=0).fit(X)
    by_distances = TSNE(perplexity=10, init="random", max_iter=500, random_state=0, metric="precomputed", method=method)
    by_distances.fit(D)
    assert by_distances.kl_divergence_ == pytest.approx(by_rows.kl_divergence_, rel=0.1)
    assert trustworthiness(X, by_distances.embedding_, n_neighbors=10) > 0.95


def test_a_function_of_two_rows_is_the_metric_of_its_name() -> None:
    X, _ = blobs(90)
    options = {"perplexity": 8, "max_iter": 250, "random_state": 0, "method": "exact"}
    by_function = TSNE(metric=lambda x, y: float(np.abs(x - y).sum()), **options).fit_transform(X.astype(np.float64))
    by_name = TSNE(metric="manhattan", **options).fit_transform(X.astype(np.float64))
    np.testing.assert_allclose(by_function, by_name, rtol=1e-3, atol=1e-3)


def test_sparse_rows_give_about_the_map_of_dense_ones() -> None:
    X, _ = blobs(200)
    sparse = TSNE(perplexity=10, max_iter=500, random_state=0).fit(scipy.sparse.csr_array(X))
    dense = TSNE(perplexity=10, max_iter=500, random_state=0).fit(X)
    assert sparse.kl_divergence_ == pytest.approx(dense.kl_divergence_, rel=0.1)
    assert trustworthiness(X, sparse.embedding_, n_neighbors=10) > 0.95


def test_what_is_not_offered_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    X, _ = blobs(60)
    D = pairwise_distances(X)
    with pytest.raises(UsageError, match=r"(?s)inferior to 4.*Hint: use method='exact'"):
        TSNE(4, perplexity=5).fit(X)
    with pytest.raises(UsageError, match=r"(?s)init=\"pca\" cannot be used.*Hint: use init=\"random\""):
        TSNE(perplexity=5, metric="precomputed").fit(D)
    with pytest.raises(UsageError, match=r"square distance matrix, but its shape is \(60, 6\)"):
        TSNE(perplexity=5, metric="precomputed", init="random").fit(X)
    with pytest.raises(UsageError, match="should be positive"):
        TSNE(perplexity=5, metric="precomputed", init="random").fit(-D)
    with pytest.raises(UsageError, match=r"computed on the CPU only, and device='cuda'"):
        TSNE(perplexity=5, metric="cosine", device="cuda").fit(X)
    with pytest.raises(UsageError, match="New rows are placed in maps of one or two dimensions"):
        TSNE(perplexity=5, metric="cosine", max_iter=250).fit(X).transform(X)
    monkeypatch.setattr(estimator, "MOST_ROWS", 59)
    with pytest.raises(UsageError, match=r"A map of 3 dimensions takes at most 59 rows, but there are n_samples=60"):
        TSNE(3, perplexity=5).fit(X)


@pytest.mark.parametrize("n_components", [2, 3])
def test_verbose_2_prints_the_divergence_and_changes_no_bit(
    n_components: int, capsys: pytest.CaptureFixture[str]
) -> None:
    X, _ = blobs(120)
    silent = TSNE(n_components, perplexity=5, max_iter=300, random_state=0).fit(X)
    assert capsys.readouterr().out == ""
    printed = TSNE(n_components, perplexity=5, max_iter=300, random_state=0, verbose=2).fit(X)
    lines = capsys.readouterr().out.splitlines()
    np.testing.assert_array_equal(printed.embedding_, silent.embedding_)
    last = [line for line in lines if "Iteration" in line][-1]
    assert last.startswith("[t-SNE] Iteration 300: error = ")
    assert float(last.split("error = ")[1].split(",")[0]) == pytest.approx(printed.kl_divergence_, abs=1e-5)
    sigma = float(next(line for line in lines if "Mean sigma" in line).split(": ")[1])
    assert sigma == pytest.approx(np.mean(reference_widths(X, 5.0, 15)), rel=0.02)


def reference_widths(X: Any, perplexity: float, k: int) -> list[float]:
    """Return the width of every row's Gaussian, by bisection on the entropy of its k nearest neighbors."""
    widths = []
    for row in X.astype(np.float64):
        squared = np.sort(np.square(X - row).sum(axis=1))[1 : k + 1]
        low, high = 1e-6, 1e6
        for _ in range(200):
            width = np.sqrt(low * high)
            p = np.exp(-(squared - squared[0]) / (2 * width**2))
            p /= p.sum()
            if np.exp(-(p[p > 0] * np.log(p[p > 0])).sum()) > perplexity:
                high = width
            else:
                low = width
        widths.append(width)
    return widths


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
