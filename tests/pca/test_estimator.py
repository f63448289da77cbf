"""The PCA estimator: exact eigenvalues in one pass, and the same bits from blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import sklearn.decomposition
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.utils.estimator_checks import check_estimator

from engine import backends
from engine.backends.protocol import Moments
from engine.errors import DeviceNotAvailableError, NonFiniteValueError, TooFewRowsError, UsageError
from engine.execution.threads import threads
from engine.pca import estimator
from engine.pca.estimator import MOMENT_ROWS, PCA
from engine.pca.solver import KEEP_ALL_FEATURES, Components, merge_moments
from engine.utils.sparse_rows import SparseRows
from tests import reference


def correlated(n_rows: int = 2000, n_features: int = 12, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(n_rows, n_features))
        * np.geomspace(1, 0.05, n_features)
        @ random.normal(size=(n_features, n_features))
    )


def svd_eigenvalues(X: Any) -> Any:
    exact = X.astype(np.float64)
    return scipy.linalg.svdvals(exact - exact.mean(axis=0)) ** 2 / (len(X) - 1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_the_estimator_keeps_every_rule_of_scikit_learn() -> None:
    check_estimator(PCA())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_eigenvalues_are_those_of_a_float64_svd_even_far_from_zero(dtype: Any, offset: float) -> None:
    X = correlated(n_rows=3 * MOMENT_ROWS + 5)
    X = (X + offset * X.std(axis=0)).astype(dtype)
    fitted = PCA().fit(X)
    expected = svd_eigenvalues(X)
    assert np.abs(fitted.explained_variance_ - expected).max() < 1e-10 * expected[0]
    relative = np.abs(fitted.explained_variance_ / expected - 1)
    assert relative[expected > 1e-4 * expected[0]].max() < 1e-10


def test_eigenvalues_are_exact_where_rows_are_sorted_and_their_means_drift() -> None:
    X = correlated(n_rows=2 * MOMENT_ROWS + 1023)
    X = X[np.argsort(X[:, 0])] + 1e4 * X.std(axis=0) + np.linspace(0, 50, len(X))[:, None] ** 2
    expected = svd_eigenvalues(X)
    assert np.abs(PCA().fit(X).explained_variance_ - expected).max() < 1e-10 * expected[0]


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("n_components", [1, 4, 0.9, None])
def test_it_agrees_with_scikit_learn(n_components: Any, whiten: bool) -> None:
    X = correlated()
    ours, peer = (make(n_components, whiten=whiten).fit(X) for make in (PCA, sklearn.decomposition.PCA))
    assert ours.n_components_ == peer.n_components_
    for name in ("components_", "explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(peer, name), rtol=1e-8, atol=1e-10)
    assert ours.noise_variance_ == pytest.approx(peer.noise_variance_, rel=1e-8)
    scores = ours.transform(X)
    np.testing.assert_allclose(scores, peer.transform(X), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(ours.inverse_transform(scores), peer.inverse_transform(scores), rtol=1e-7, atol=1e-8)
    assert ours.get_feature_names_out().tolist() == peer.get_feature_names_out().tolist()


def test_scores_keep_the_dtype_and_are_centered_before_they_are_rounded() -> None:
    X = (correlated() + 1e4).astype(np.float32)
    scores = PCA(3).fit_transform(X)
    assert scores.dtype == np.float32
    exact = PCA(3).fit_transform(X.astype(np.float64))
    assert exact.dtype == np.float64
    np.testing.assert_array_equal(scores, exact.astype(np.float32))


def test_blocks_give_the_bits_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimator, "MOMENT_ROWS", 64)
    X = correlated(n_rows=64 * 7 + 3).astype(np.float32)
    whole = PCA(5).fit(X)
    for rows in (64, 128, 320):
        blocks = PCA(5).fit_blocks(X[start : start + rows] for start in range(0, len(X), rows))
        np.testing.assert_array_equal(blocks.components_, whole.components_)
        np.testing.assert_array_equal(blocks.explained_variance_, whole.explained_variance_)
        assert blocks.n_samples_ == len(X)
    smaller_blocks = PCA(5).fit_blocks(X[start : start + 50] for start in range(0, len(X), 50))
    np.testing.assert_allclose(smaller_blocks.explained_variance_, whole.explained_variance_, rtol=1e-12)


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimator, "MOMENT_ROWS", 64)
    monkeypatch.setattr(estimator, "SCORE_ROWS", 100)
    X = correlated()
    bits = set()
    for n_threads in (1, 2, 5):
        with threads(n_threads):
            fitted = PCA(4).fit(X)
            bits.add(fitted.components_.tobytes() + fitted.transform(X).tobytes())
    assert len(bits) == 1


def test_a_row_has_the_same_scores_in_any_block() -> None:
    X = correlated().astype(np.float32)
    fitted = PCA(5).fit(X)
    whole = fitted.transform(X)
    for rows in (1, 3, 17):
        np.testing.assert_array_equal(fitted.transform(X[40 : 40 + rows]), whole[40 : 40 + rows])


def test_auto_keeps_all_of_few_features_and_95_percent_of_the_variance_of_many() -> None:
    random = np.random.default_rng(0)
    few = random.normal(size=(500, 5)) @ random.normal(size=(5, KEEP_ALL_FEATURES)) + random.normal(size=(500, 30))
    assert PCA("auto").fit(few).n_components_ == KEEP_ALL_FEATURES
    assert PCA("auto").fit(random.normal(size=(400, 1))).n_components_ == 1
    many = np.hstack([few, random.normal(size=(500, 1))])
    shares = np.cumsum(PCA().fit(many).explained_variance_ratio_)
    assert PCA("auto").fit(many).n_components_ == int((shares <= 0.95).sum()) + 1 < 31


@settings(max_examples=80)
@given(
    first=arrays(np.float32, st.tuples(st.integers(1, 9), st.just(3)), elements=st.floats(-1e3, 1e3, width=16)),
    second=arrays(np.float32, st.tuples(st.integers(1, 9), st.just(3)), elements=st.floats(-1e3, 1e3, width=16)),
)
def test_moments_of_two_blocks_merge_to_those_of_the_loops(first: Any, second: Any) -> None:
    backend, _ = backends.resolve("cpu")
    both = merge_moments(backend.moments(first), backend.moments(second))
    mean, scatter = reference.moments(np.concatenate([first, second]).tolist())
    assert both.n_rows == len(first) + len(second)
    size = float(np.abs(np.concatenate([first, second])).max())
    np.testing.assert_allclose(both.mean, mean, rtol=1e-12, atol=1e-13 * size)
    np.testing.assert_allclose(both.scatter, scatter, rtol=1e-12, atol=1e-12 * size**2)


def test_merging_counts_rows_and_moves_the_mean() -> None:
    one = Moments(1, np.array([1.0]), np.array([[0.0]]))
    three = Moments(3, np.array([5.0]), np.array([[2.0]]))
    both = merge_moments(one, three)
    assert (both.n_rows, both.mean[0], both.scatter[0, 0]) == (4, 4.0, 2.0 + 16.0 * 3 / 4)


def test_whitening_a_rank_deficient_table_does_not_blow_up() -> None:
    X = correlated(n_features=4)
    X = np.hstack([X, X[:, :2] + X[:, 2:], np.ones((len(X), 1))])
    fitted = PCA(whiten=True).fit(X)
    scores = fitted.transform(X)
    np.testing.assert_allclose(scores[:, :4].std(axis=0, ddof=1), 1.0, rtol=1e-9)
    assert np.abs(scores[:, 4:]).max() < 50  # rounding of the whole, divided by rounding of the variance
    np.testing.assert_allclose(fitted.inverse_transform(scores), X, atol=1e-9)


@pytest.mark.parametrize("whiten", [False, True])
def test_a_table_of_equal_rows_has_no_variance(whiten: bool) -> None:
    fitted = PCA(whiten=whiten).fit(np.full((10, 3), 7.0))
    assert fitted.explained_variance_.tolist() == fitted.explained_variance_ratio_.tolist() == [0.0, 0.0, 0.0]
    assert fitted.transform(np.full((1, 3), 7.0)).tolist() == [[0.0, 0.0, 0.0]]


def test_fewer_samples_than_features_leave_as_many_components() -> None:
    X = correlated(n_rows=6)
    fitted = PCA().fit(X)
    assert fitted.components_.shape == (6, 12)
    np.testing.assert_allclose(fitted.explained_variance_[:5], svd_eigenvalues(X)[:5], rtol=1e-9)


def wide(n_rows: int, n_features: int, offset: float = 0.0) -> Any:
    random = np.random.default_rng(n_rows)
    return random.normal(size=(n_rows, n_features)) * np.geomspace(1, 0.01, n_features) + offset


@pytest.mark.parametrize("n_rows", [2, 3, 40])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_components_of_few_rows_are_those_of_a_float64_svd(n_rows: int, offset: float) -> None:
    X = wide(n_rows, 300, offset)
    fitted = PCA().fit(X)
    assert fitted.components_.shape == (n_rows, 300)
    mean = (X - offset).mean(axis=0) + offset
    _, singular, axes = np.linalg.svd(X - mean, full_matrices=False)
    np.testing.assert_allclose(fitted.mean_, mean, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(fitted.singular_values_[:-1], singular[:-1], rtol=1e-9)
    assert fitted.singular_values_[-1] < 1e-6 * singular[0]  # centred rows have one direction less
    cosines = np.abs(np.einsum("ij,ij->i", fitted.components_, axes))[:-1]
    np.testing.assert_allclose(cosines, 1.0, atol=1e-10)
    largest = np.abs(fitted.components_).argmax(axis=1)
    assert (fitted.components_[np.arange(n_rows), largest] > 0).all()


def test_both_eigenproblems_have_the_same_components_on_both_sides_of_the_border() -> None:
    backend, _ = backends.resolve("cpu")
    for n_rows in (24, 25, 26):
        X = wide(n_rows, 25, 3.0)
        by_rows, by_features = Components.from_few_rows(X, "auto"), Components.from_moments(backend.moments(X), "auto")
        assert by_rows.n_components_ == by_features.n_components_ == min(n_rows - 1, 25)
        np.testing.assert_allclose(by_rows.components_, by_features.components_, atol=1e-9)
        for name in ("explained_variance_", "explained_variance_ratio_"):
            np.testing.assert_allclose(getattr(by_rows, name), getattr(by_features, name), atol=1e-12)
        np.testing.assert_allclose(by_rows.mean_, by_features.mean_, rtol=1e-13)
        expected = by_rows if n_rows < 25 else by_features
        np.testing.assert_array_equal(PCA("auto").fit(X).components_, expected.components_)


@pytest.mark.parametrize("n_distinct", [1, 2, 7])
def test_axes_of_few_rows_are_orthonormal_where_rows_repeat(n_distinct: int) -> None:
    X = np.tile(wide(n_distinct, 60, 5.0), (4, 1))
    fitted = PCA().fit(X)
    n_rows = 4 * n_distinct
    np.testing.assert_allclose(fitted.components_ @ fitted.components_.T, np.eye(n_rows), atol=1e-12)
    np.testing.assert_allclose(fitted.explained_variance_[n_distinct - 1 :], 0.0, atol=1e-12)
    np.testing.assert_allclose(fitted.inverse_transform(fitted.transform(X)), X, atol=1e-12)


def test_blocks_of_few_rows_give_the_bits_of_the_whole() -> None:
    X = wide(40, 300).astype(np.float32)
    whole = PCA(5).fit(X)
    for rows in (1, 7, 40):
        parts = [slice(start, start + rows) for start in range(0, 40, rows)]
        blocks = PCA(5).fit_blocks(parts, read=X.__getitem__)
        np.testing.assert_array_equal(blocks.components_, whole.components_)
        np.testing.assert_array_equal(blocks.explained_variance_, whole.explained_variance_)
    assert (blocks.n_samples_, blocks.n_features_in_) == (40, 300)


def test_few_rows_are_checked() -> None:
    X = wide(40, 300)
    with pytest.raises(UsageError, match=r"n_components=41 must be between 0 and min\(n_samples, n_features\)=40"):
        PCA(41).fit(X)
    with pytest.raises(UsageError, match="A block has 299 features, but the first one had 300"):
        PCA().fit_blocks([X, X[:, 1:]])
    for bad in (np.nan, np.inf, 1e200):
        X[20, 3] = bad
        with pytest.raises(ValueError, match=r"NaN|infinity|so large that their squares are"):
            PCA().fit(X)


def test_more_components_than_features_are_refused() -> None:
    with pytest.raises(ValueError, match=r"n_components=13 must be between 0 and min\(n_samples, n_features\)=12"):
        PCA(13).fit(correlated())


def test_blocks_are_checked() -> None:
    X = correlated(n_rows=100)
    with pytest.raises(TooFewRowsError, match="at least 2 rows, but there are 0"):
        PCA().fit_blocks([])
    with pytest.raises(TooFewRowsError, match="but there are 1"):
        PCA().fit_blocks([X[:1]])
    with pytest.raises(UsageError, match="A block has 11 features, but the first one had 12"):
        PCA().fit_blocks([X, X[:, :11]])
    for bad in (np.nan, np.inf, 1e300):
        with_bad_value = X.copy()
        with_bad_value[50, 3] = bad
        with pytest.raises(NonFiniteValueError):
            PCA().fit_blocks([X, with_bad_value])


def test_a_missing_gpu_is_an_error() -> None:
    with pytest.raises(DeviceNotAvailableError):
        PCA(device="cuda").fit(correlated())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(700, 12), (8, 30)])
@pytest.mark.parametrize("container", ["csr_matrix", "csr_array", "csc_matrix", "coo_array"])
def test_sparse_rows_have_the_bits_of_dense_ones(
    container: str, shape: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimator, "MOMENT_ROWS", 64)
    monkeypatch.setattr(estimator, "SCORE_ROWS", 100)
    random = np.random.default_rng(0)
    dense = np.where(random.random(shape) < 0.2, random.normal(size=shape), 0).astype(dtype)
    X = getattr(scipy.sparse, container)(dense)
    ours, expected = PCA(4).fit(X), PCA(4).fit(dense)
    assert ours.components_.tobytes() == expected.components_.tobytes()
    for method in ("transform", "score_samples"):
        np.testing.assert_array_equal(getattr(ours, method)(X), getattr(expected, method)(dense))
    assert ours.transform(X).dtype == dtype


def test_sparse_rows_are_dense_in_blocks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Recorded(SparseRows):
        def __getitem__(self, rows: Any) -> Any:
            dense = super().__getitem__(rows)
            sizes.append(len(dense))
            return dense

    monkeypatch.setattr(estimator, "MOMENT_ROWS", 64)
    monkeypatch.setattr(estimator, "SCORE_ROWS", 100)
    monkeypatch.setattr(estimator, "readable_rows", Recorded)
    X = scipy.sparse.random_array((1000, 10), density=0.1, format="csr", rng=np.random.default_rng(0))
    PCA(2).fit(X).transform(X)
    assert max(sizes) == 128


def test_sparse_rows_with_bad_values_or_solvers_are_refused() -> None:
    X = scipy.sparse.random_array((100, 10), density=0.1, format="csr", rng=np.random.default_rng(0))
    for solver in ("full", "randomized"):
        with pytest.raises(TypeError, match=f'sparse inputs with the "arpack" .*while "{solver}" was passed'):
            PCA(svd_solver=solver).fit(X)
    X.data[3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        PCA().fit(X)
