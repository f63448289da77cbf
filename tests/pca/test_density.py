"""The normal distribution of probabilistic PCA, against scipy's and scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.decomposition

from engine.pca.estimator import PCA


def rows(n_rows: int = 400, n_features: int = 6, offset: float = 3.0) -> Any:
    random = np.random.default_rng(1)
    return random.normal(size=(n_rows, n_features)) * np.geomspace(2, 0.3, n_features) + offset


@pytest.mark.parametrize("n_components", [0, 1, 3, 6])
def test_it_is_that_of_scikit_learn(n_components: int) -> None:
    X = rows()
    ours, peer = (make(n_components, svd_solver="full").fit(X) for make in (PCA, sklearn.decomposition.PCA))
    np.testing.assert_allclose(ours.get_covariance(), peer.get_covariance(), atol=1e-12)
    np.testing.assert_allclose(ours.get_precision(), peer.get_precision(), atol=1e-11)
    np.testing.assert_allclose(ours.score_samples(X), peer.score_samples(X), rtol=1e-10)
    assert ours.score(X) == pytest.approx(peer.score(X), rel=1e-12)


@pytest.mark.parametrize("whiten", [False, True])
def test_whitening_does_not_change_the_covariance_which_is_that_of_the_rows(whiten: bool) -> None:
    X = rows()
    np.testing.assert_allclose(PCA(whiten=whiten).fit(X).get_covariance(), np.cov(X.T), atol=1e-12)


def test_a_singular_distribution_has_a_density_within_its_span_only() -> None:
    X = rows(n_features=3)
    flat = np.hstack([X, X[:, :1] + X[:, 1:2]])
    fitted = PCA().fit(flat)
    expected = scipy.stats.multivariate_normal(flat.mean(axis=0), np.cov(flat.T), allow_singular=True).logpdf(flat)
    np.testing.assert_allclose(fitted.score_samples(flat), expected, rtol=1e-9)
    np.testing.assert_allclose(fitted.get_precision(), np.linalg.pinv(np.cov(flat.T), hermitian=True), atol=1e-9)
    off = flat[:2] + np.array([[0, 0, 0, 1e-3], [0, 0, 0, 0]])
    assert fitted.score_samples(off).tolist() == [-np.inf, fitted.score_samples(flat[1:2])[0]]


def test_few_rows_lie_within_the_span_of_their_components() -> None:
    X = rows(n_rows=5, n_features=40)
    assert np.isfinite(PCA().fit(X).score_samples(X)).all()
    assert np.isfinite(PCA().fit(X.astype(np.float32)).score_samples(X.astype(np.float32))).all()


def test_likelihoods_of_equal_rows_are_finite() -> None:
    assert PCA().fit(np.full((10, 3), 7.0)).score_samples([[7.0, 7.0, 7.0], [7.0, 7.0, 8.0]]).tolist() == [0.0, -np.inf]
