"""Quantized rows: the bounds of their errors and norms hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels.cpu.kmeans import quantize, quantized_centers

DTYPES = [np.float32, np.float64]
LEVELS = [quantize.INT8, quantize.INT16, quantize.FLOAT32]


def quantize_all(X: Any, quantizer: Any, level: int) -> Any:
    quantized = quantize.QuantizedRows(
        quantize.allocate_values(len(X), X.shape[1], level), *(np.empty(len(X), np.float32) for _ in range(3))
    )
    quantize.quantize_rows(X, np.arange(len(X)), len(X), quantizer, *quantized)
    return quantized


def scale_rows(X: Any, quantizer: Any) -> Any:
    return (X.astype(np.float64) - quantizer.shift.astype(np.float64)) * float(quantizer.factor)


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
def test_no_row_is_farther_from_its_quantized_values_than_its_error(
    dtype: Any, level: int, n_features: int, tails: float, scale: float, offset: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    X = ((random.standard_t(tails, size=(50, n_features)) + offset) * scale).astype(dtype)
    quantizer = quantize.fit_quantizer(X[:20], level)
    quantized = quantize_all(X, quantizer, level)
    zero = quantize.UINT8_ZERO if level == quantize.INT8 else 0
    approximation = (quantized.values[:, :n_features].astype(np.float64) - zero) * quantized.steps[:, None]
    y = scale_rows(X, quantizer)
    errors = np.sqrt(np.square(y - approximation).sum(axis=1))
    assert (errors <= quantized.errors).all()
    assert (np.sqrt(np.square(y).sum(axis=1)) <= quantized.norms).all()
    assert (np.sqrt(np.square(approximation).sum(axis=1)) <= quantized.norms).all()
    assert (quantized.values[:, n_features:] == zero).all()


def test_the_errors_of_ordinary_rows_are_those_of_rounding() -> None:
    X = np.random.default_rng(0).normal(size=(2000, 32)).astype(np.float32)
    for level in LEVELS[:2]:
        quantizer = quantize.fit_quantizer(X, level)
        quantized = quantize_all(X, quantizer, level)
        assert np.median(quantized.errors / quantized.steps) < 0.32 * 32**0.5  # 12^-0.5 of a step a value
        largest = np.abs(scale_rows(X, quantizer)).max(axis=1)
        np.testing.assert_allclose(quantized.steps * quantizer.max_value, largest, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_float32_values_are_the_scaled_rows(dtype: Any) -> None:
    X = (np.random.default_rng(0).normal(size=(30, 5)) * 8 + 100).astype(dtype)
    quantizer = quantize.fit_quantizer(X, quantize.FLOAT32)
    quantized = quantize_all(X, quantizer, quantize.FLOAT32)
    y = scale_rows(X, quantizer)
    np.testing.assert_allclose(quantized.values[:, :5], y, rtol=1e-6, atol=1e-7)
    assert (quantized.errors >= np.square(y).sum(axis=1)).all()
    assert 0.25 <= np.abs(y).max() <= 4


@pytest.mark.parametrize("level", LEVELS[:2])
@pytest.mark.parametrize("n_features", [1, 2, 16, 64, 1000, 4096, 60_000])
def test_sums_of_products_of_the_largest_values_fit_in_31_bits(level: int, n_features: int) -> None:
    """Rows have their largest value everywhere; centers have it everywhere, or in one feature only."""
    X = np.ones((2, n_features), np.float32) * [[1], [-1]]
    flat, spiked = X.astype(np.float32), np.eye(2, n_features, dtype=np.float32)
    quantizer = quantize.fit_quantizer(flat, level)
    assert quantizer.max_value >= 1
    for centers in (
        flat,
        spiked,
        np.concatenate([flat, spiked * 9]),
        np.concatenate([flat[:1], np.repeat(spiked, 5, 0)]),
    ):
        words = quantized_centers.quantize_centers(centers, quantizer, level).center_words
        values = words.view([np.int8, np.int16][level]).reshape(len(centers), -1).astype(np.int64)
        rows = quantize_all(flat, quantizer, level).values.astype(np.int64)
        assert (np.abs(rows @ values.T) < 2**31).all()
        assert (np.abs(values).sum(axis=1) * int(quantizer.max_value) < 2**31).all()


def test_constant_rows_can_be_quantized() -> None:
    quantizer = quantize.fit_quantizer(np.full((5, 3), 7.0, np.float32), quantize.INT8)
    quantized = quantize_all(np.full((5, 3), 7.0, np.float32), quantizer, quantize.INT8)
    assert quantizer.sound
    assert (quantized.values[:, :3] == quantize.UINT8_ZERO).all()
    assert (quantized.errors <= 2 * quantize.LOST_ERROR).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weighted", [False, True])
def test_values_that_are_not_finite_are_found(bad: float, weighted: bool) -> None:
    X = np.random.default_rng(0).normal(size=(quantize.QUANTIZE_ROWS + 3, 4)).astype(np.float32)
    weights = np.zeros(len(X)) if weighted else np.empty(0)
    level = quantize.coarsest_level(64)
    quantizer, quantized = quantize.fit_quantizer(X, level), quantize.allocate_quantized_rows(len(X), 4, level)
    low, high = np.full(4, np.inf, np.float32), np.full(4, -np.inf, np.float32)
    assert quantize.quantize_and_range(X, weights, quantizer, quantized, low, high)
    X[-1, 2] = bad
    assert not quantize.quantize_and_range(X, weights, quantizer, quantized, low, high)


def test_the_range_is_that_of_rows_with_weight() -> None:
    X = np.array([[1.0, 5.0], [100.0, -100.0], [3.0, 4.0]], np.float32)
    low, high = np.full(2, np.inf, np.float32), np.full(2, -np.inf, np.float32)
    quantize.update_range(X, np.array([1.0, 0.0, 2.0]), low, high)
    assert (low.tolist(), high.tolist()) == ([1.0, 4.0], [3.0, 5.0])
    quantize.update_range(X, np.empty(0), low, high)
    assert (low.tolist(), high.tolist()) == ([1.0, -100.0], [100.0, 5.0])


def test_rows_that_are_not_contiguous_are_refused_instead_of_read_wrongly() -> None:
    X = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    quantizer = quantize.fit_quantizer(X, quantize.INT8)
    with pytest.raises(TypeError, match="is not C-contiguous"):
        quantize_all(X[::2], quantizer, quantize.INT8)
