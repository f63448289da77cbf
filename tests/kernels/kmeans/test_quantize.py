"""Codes of rows: what they claim about their own error is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels.cpu.kmeans import quantize as codes

DTYPES = [np.float32, np.float64]
LEVELS = [codes.BYTES, codes.SHORTS, codes.FLOATS]


def encoded(X: Any, frame: Any, level: int) -> Any:
    coded = codes.Coded(
        codes.empty_codes(len(X), X.shape[1], level), np.empty(len(X), np.float32), np.empty(len(X), np.float32)
    )
    codes.encode(X, np.arange(len(X)), len(X), frame, *coded)
    return coded


def brought_to_one(X: Any, frame: Any) -> Any:
    return (X.astype(np.float64) - frame.shift.astype(np.float64)) * float(frame.factor)


@settings(max_examples=80)
@given(
    dtype=st.sampled_from(DTYPES),
    level=st.sampled_from(LEVELS[:2]),
    n_features=st.integers(1, 40),
    tails=st.sampled_from([1.0, 2.0, 30.0]),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e6]),
    offset=st.sampled_from([0.0, 1e3]),
    seed=st.integers(0, 99),
)
def test_no_row_is_farther_from_its_code_than_its_error(
    dtype: Any, level: int, n_features: int, tails: float, scale: float, offset: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    X = ((random.standard_t(tails, size=(50, n_features)) + offset) * scale).astype(dtype)
    frame = codes.frame_of(X[:20], level)  # rows beyond it clip
    coded = encoded(X, frame, level)
    zero = codes.ZERO_BYTE if level == codes.BYTES else 0
    meant = (coded.codes[:, :n_features].astype(np.float64) - zero) * float(np.float32(1) / frame.rate)
    y = brought_to_one(X, frame)
    missed = np.sqrt(np.square(y - meant).sum(axis=1))
    assert (missed <= coded.errors).all()
    assert (np.sqrt(np.square(y).sum(axis=1)) <= coded.norms).all()
    assert (np.sqrt(np.square(meant).sum(axis=1)) <= coded.norms).all()
    assert (coded.codes[:, n_features:] == zero).all()


def test_the_errors_of_ordinary_rows_are_those_of_rounding() -> None:
    X = np.random.default_rng(0).normal(size=(2000, 32)).astype(np.float32)
    for level in LEVELS[:2]:
        frame = codes.frame_of(X, level)
        step = 1.0 / frame.rate
        assert np.median(encoded(X, frame, level).errors) < 0.4 * step * 32**0.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_floats_stay_what_they_are(dtype: Any) -> None:
    X = (np.random.default_rng(0).normal(size=(30, 5)) * 8 + 100).astype(dtype)
    frame = codes.frame_of(X, codes.FLOATS)
    coded = encoded(X, frame, codes.FLOATS)
    y = brought_to_one(X, frame)
    np.testing.assert_allclose(coded.codes[:, :5], y, rtol=1e-6, atol=1e-7)
    assert (coded.errors >= np.square(y).sum(axis=1)).all()
    assert 0.25 <= np.abs(y).max() <= 4


def test_sums_of_products_of_the_largest_codes_fit_in_31_bits() -> None:
    for n_features in (1, 2, 16, 64, 1000, 4096, 100_000):
        limit = codes.frame_of(np.ones((2, n_features), np.float32) * [[1], [-1]], codes.SHORTS).limit
        assert limit >= 1
        assert n_features * float(limit) ** 2 <= 2**29 or limit == 1


def test_constant_rows_have_a_frame() -> None:
    frame = codes.frame_of(np.full((5, 3), 7.0, np.float32), codes.BYTES)
    coded = encoded(np.full((5, 3), 7.0, np.float32), frame, codes.BYTES)
    assert frame.sound
    assert (coded.codes[:, :3] == codes.ZERO_BYTE).all()
    assert (coded.errors == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_survey_finds_values_that_are_not_finite(bad: float, weighted: bool) -> None:
    X = np.random.default_rng(0).normal(size=(codes.RUN + 3, 4)).astype(np.float32)
    weights = np.zeros(len(X)) if weighted else np.empty(0)
    level = codes.lowest_level(64)
    frame, coded = codes.frame_of(X, level), codes.empty_coded(len(X), 4, level)
    low, high = np.full(4, np.inf, np.float32), np.full(4, -np.inf, np.float32)
    assert codes.survey(X, weights, frame, coded, low, high)
    X[-1, 2] = bad
    assert not codes.survey(X, weights, frame, coded, low, high)


def test_a_survey_measures_the_range_of_rows_with_weight() -> None:
    X = np.array([[1.0, 5.0], [100.0, -100.0], [3.0, 4.0]], np.float32)
    low, high = np.full(2, np.inf, np.float32), np.full(2, -np.inf, np.float32)
    codes.widen(X, np.array([1.0, 0.0, 2.0]), low, high)
    assert (low.tolist(), high.tolist()) == ([1.0, 4.0], [3.0, 5.0])
    codes.widen(X, np.empty(0), low, high)
    assert (low.tolist(), high.tolist()) == ([1.0, -100.0], [100.0, 5.0])


def test_rows_that_are_not_contiguous_are_refused_instead_of_read_wrongly() -> None:
    X = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    frame = codes.frame_of(X, codes.BYTES)
    with pytest.raises(TypeError, match="is not C-contiguous"):
        encoded(X[::2], frame, codes.BYTES)
