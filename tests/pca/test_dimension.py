"""The limits of solvers' names, and Minka's estimate of the dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.decomposition

from engine.errors import UsageError
from engine.pca.dimension import SVD_SOLVERS, check_n_components, likeliest_dimension
from engine.pca.estimator import PCA


def planted(n_rows: int, n_features: int, dimension: int, noise: float = 0.1) -> Any:
    random = np.random.default_rng(dimension)
    axes = np.linalg.qr(random.normal(size=(n_features, dimension)))[0].T
    spread = np.linspace(3, 1, dimension)
    return random.normal(size=(n_rows, dimension)) * spread @ axes + noise * random.normal(size=(n_rows, n_features))


@pytest.mark.parametrize("dimension", [1, 3, 7])
def test_the_planted_dimension_is_found_as_by_scikit_learn(dimension: int) -> None:
    X = planted(2000, 12, dimension)
    assert PCA("mle").fit(X).n_components_ == dimension
    assert sklearn.decomposition.PCA("mle").fit(X).n_components_ == dimension


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_dimension_does_not_depend_on_the_unit(scale: float) -> None:
    X = planted(500, 8, 3)
    X[:, 7] = X[:, :7].sum(axis=1)  # an eigenvalue of rounding error
    assert PCA("mle").fit(X * scale).n_components_ == PCA("mle").fit(X).n_components_


def test_degenerate_eigenvalues_have_a_dimension() -> None:
    assert likeliest_dimension(np.array([2.0]), 10) == 1
    assert likeliest_dimension(np.zeros(4), 10) == 1
    assert likeliest_dimension(np.array([5.0, 5.0, 0.1, 0.1, 0.1]), 1000) == 2


@pytest.mark.parametrize("svd_solver", SVD_SOLVERS)
def test_every_solver_has_the_bits_of_auto(svd_solver: str) -> None:
    X = planted(200, 9, 4)
    fitted, auto = PCA(5, svd_solver=svd_solver).fit(X), PCA(5).fit(X)
    assert fitted.components_.tobytes() == auto.components_.tobytes()
    assert fitted.noise_variance_ == auto.noise_variance_


@pytest.mark.parametrize("svd_solver", SVD_SOLVERS)
@pytest.mark.parametrize("n_components", [None, 0, 1, 5, 6, 7, 0.5, "mle"])
@pytest.mark.parametrize("shape", [(30, 6), (6, 30)])
def test_a_name_has_the_limits_that_it_has_in_scikit_learn(svd_solver: str, n_components: Any, shape: Any) -> None:
    X = planted(*shape, 3)
    outcomes = []
    for make in (PCA, sklearn.decomposition.PCA):
        try:
            outcomes.append(len(make(n_components, svd_solver=svd_solver).fit(X).components_))
        except ValueError as error:
            outcomes.append(str(error).split(" must be ")[0].split(" cannot be ")[0].split(" is only ")[0])
    assert outcomes[0] == outcomes[1]


def test_the_least_number_that_arpack_forbids_has_a_way_out() -> None:
    with pytest.raises(UsageError, match=r"strictly less than .*=4 with svd_solver='arpack'\.\nHint: any other"):
        check_n_components(4, "arpack", 10, 4)
