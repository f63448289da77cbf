"""K-Means on rows that are few, equal, far away, weighted, very many or wrong."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.cluster
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from engine.errors import DeviceNotAvailableError
from engine.kmeans.estimator import KMeans
from tests import reference
from tests.kmeans.overlapping_clusters import mixture


@settings(max_examples=40)
@given(
    X=arrays(np.float32, st.tuples(st.integers(2, 30), st.integers(1, 4)), elements=st.integers(-5, 5)),
    power=st.integers(-60, 60),
)
def test_scaling_by_a_power_of_two_scales_the_centers_and_nothing_else(X: Any, power: int) -> None:
    k = min(3, len(X))
    scale = np.float32(2.0**power)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        plain, scaled = (KMeans(k, init=rows[:k], tol=0).fit(rows) for rows in (X, X * scale))
    np.testing.assert_array_equal(plain.labels_, scaled.labels_)
    np.testing.assert_array_equal(plain.cluster_centers_ * scale, scaled.cluster_centers_)


@settings(max_examples=60)
@given(
    X=arrays(np.float64, st.tuples(st.integers(1, 25), st.integers(1, 3)), elements=st.integers(-2, 2)),
    k=st.integers(1, 6),
)
def test_labels_belong_to_the_centers_for_ties_duplicates_and_few_distinct_rows(X: Any, k: int) -> None:
    k = min(k, len(X))
    n_distinct = len(np.unique(X, axis=0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = KMeans(k, random_state=0).fit(X)
    assert fitted.labels_.tolist() == reference.labels(X.tolist(), fitted.cluster_centers_.tolist())
    np.testing.assert_array_equal(fitted.predict(X), fitted.labels_)
    n_found = len(set(fitted.labels_.tolist()))
    assert any(w.category is ConvergenceWarning for w in caught) == (n_found < k)
    if k >= n_distinct:
        assert n_found == n_distinct
        assert fitted.inertia_ == pytest.approx(0.0, abs=1e-20)


def test_too_few_distinct_rows_warn_as_scikit_learn_does() -> None:
    X = np.repeat([[0.0, 0.0], [3.0, 1.0]], 10, axis=0)
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(2\) found smaller than n_clusters \(4\)"):
        ours = KMeans(4, random_state=0).fit(X)
    with pytest.warns(ConvergenceWarning):
        peer = sklearn.cluster.KMeans(4, random_state=0, n_init=1).fit(X)
    assert adjusted_rand_score(ours.labels_, peer.labels_) == 1.0
    assert ours.inertia_ == peer.inertia_ == 0.0


def test_an_empty_cluster_takes_the_farthest_row_and_the_lowest_of_equals() -> None:
    X = np.array([[0.0], [1.0], [-9.0], [9.0]])
    start = np.array([[0.0], [100.0], [200.0]])
    fitted = KMeans(3, init=start, max_iter=1, tol=0).fit(X)
    assert fitted.cluster_centers_.tolist() == [[0.5], [-9.0], [9.0]]


def test_a_row_alone_in_its_cluster_does_not_fill_an_empty_one() -> None:
    X = np.array([[0.0], [2.0], [30.0]])
    start = np.array([[1.0], [20.0], [500.0]])  # row 2 is farthest, but the only one of cluster 1
    fitted = KMeans(3, init=start, max_iter=1, tol=0).fit(X)
    assert fitted.cluster_centers_.tolist() == [[2.0], [30.0], [0.0]]


def test_a_weight_of_two_equals_a_row_given_twice() -> None:
    X = mixture(n_rows=400, dtype=np.float64)
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    weighted = KMeans(5, random_state=1).fit(X, sample_weight=weights)
    repeated = KMeans(5, random_state=1).fit(np.repeat(X, weights, axis=0))
    np.testing.assert_allclose(weighted.cluster_centers_, repeated.cluster_centers_, rtol=1e-12)
    assert weighted.inertia_ == pytest.approx(repeated.inertia_, rel=1e-12)
    assert weighted.n_iter_ == repeated.n_iter_


def test_random_starts_never_take_a_row_without_weight() -> None:
    X = mixture(n_rows=300)
    weights = np.zeros(len(X))
    weights[:6] = [1, 2, 3, 4, 5, 6]
    fitted = KMeans(6, init="random", n_init=1, random_state=0).fit(X, sample_weight=weights)
    expected = sorted(X[:6].tolist())
    np.testing.assert_allclose(sorted(fitted.cluster_centers_.tolist()), expected, rtol=1e-6)


def test_one_row_is_one_cluster() -> None:
    fitted = KMeans(1).fit([[3.0, 4.0]])
    assert (fitted.cluster_centers_.tolist(), fitted.labels_.tolist(), fitted.inertia_) == ([[3.0, 4.0]], [0], 0.0)


def test_rows_far_from_zero_cluster_as_rows_near_it() -> None:
    X = np.random.default_rng(0).integers(-8, 9, size=(2000, 4)).astype(np.float32)
    offset = np.float32(2**19)
    near, far = (KMeans(6, init=rows[:6], tol=0).fit(rows) for rows in (X.astype(np.float64), X + offset))
    agreement = adjusted_rand_score(near.labels_, far.labels_)
    assert agreement > 0.95  # centers near 2^19 are rounded to 1/16
    exact = KMeans(6, init=X[:6] + float(offset), tol=0).fit(X.astype(np.float64) + offset)
    np.testing.assert_array_equal(exact.labels_, near.labels_)
    np.testing.assert_allclose(exact.cluster_centers_ - offset, near.cluster_centers_, atol=1e-9)


def test_a_cluster_of_more_than_two_to_the_24_rows_does_not_saturate() -> None:
    X = np.zeros((2**24 + 2**21, 1), np.float32)
    X[: 2**21] = 9.0
    fitted = KMeans(1, init=[[0.0]], max_iter=1).fit(X)
    assert fitted.cluster_centers_[0, 0] == np.float32(1.0)


@pytest.mark.parametrize(
    ("parameters", "weights", "message"),
    [
        ({"n_clusters": 5}, None, "n_samples=4 should be >= n_clusters=5"),
        ({"n_clusters": 2}, [0.0] * 4, r"Every sample_weight is zero|at least one non-zero"),
        ({"n_clusters": 2}, [1.0, 1.0, 1.0, -1.0], "Negative values"),
        ({"n_clusters": 2, "init": [[0.0], [1.0], [2.0]]}, None, r"\(3, 1\) does not match the number of clusters 2"),
        ({"n_clusters": 2, "init": [[0.0, 1.0]] * 2}, None, "does not match the number of features of the data 1"),
        ({"n_clusters": 2, "algorithm": "hamerly"}, None, "'algorithm' parameter"),
    ],
)
def test_what_cannot_be_clustered_is_refused(parameters: Any, weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KMeans(**parameters).fit([[0.0], [1.0], [2.0], [3.0]], sample_weight=weights)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    X = mixture(n_rows=50)
    X[7, 2] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        KMeans(2).fit(X)


def test_given_centers_make_one_run_and_say_so() -> None:
    X = mixture(n_rows=50)
    with pytest.warns(RuntimeWarning, match="performing only one init in KMeans instead of n_init=3"):
        KMeans(2, init=X[:2], n_init=3).fit(X)


def test_a_missing_gpu_is_an_error() -> None:
    with pytest.raises(DeviceNotAvailableError, match="cuda"):
        KMeans(2, device="cuda").fit(mixture(n_rows=50))


def test_ten_thousand_clusters() -> None:
    X = np.random.default_rng(0).normal(size=(12_000, 3)).astype(np.float32)
    fitted = KMeans(10_000, init=X[:10_000], max_iter=1, tol=0).fit(X)
    assert fitted.labels_.tolist() == nearest_in_float64(X, fitted.cluster_centers_)
    assert len(np.unique(fitted.labels_)) == 10_000


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_four_thousand_features_in_fortran_order(dtype: Any) -> None:
    X = np.random.default_rng(0).normal(size=(300, 4096)).astype(dtype)
    X[:100] += 0.2
    fitted = KMeans(4, random_state=0).fit(np.asfortranarray(X))
    assert fitted.labels_.tolist() == nearest_in_float64(X, fitted.cluster_centers_)
    assert fitted.cluster_centers_.tobytes() == KMeans(4, random_state=0).fit(X).cluster_centers_.tobytes()


def nearest_in_float64(X: np.ndarray, centers: np.ndarray) -> list[int]:
    """Return the nearest center of every row; rows here are at no bisector."""
    nearest: list[int] = cdist(X.astype(np.float64), centers.astype(np.float64)).argmin(axis=1).tolist()
    return nearest
