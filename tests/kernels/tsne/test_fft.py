"""Transforms of sequences in SIMD lanes against NumPy's, which works in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.kernels.cpu.simd.vectors import LANES
from engine.kernels.cpu.tsne.fft import WIDTH, compute_fft, next_fast_length, radix_factors, roots_of_unity


def sequences(n: int) -> Any:
    random = np.random.default_rng(n)
    return random.normal(size=(n, LANES)) + 1j * random.normal(size=(n, LANES))


def transform_lanes(values: Any) -> Any:
    n = len(values)
    x = np.stack([values.real, values.imag], axis=1).astype(np.float32).ravel()
    result = compute_fft(x, np.empty(n * WIDTH, np.float32), radix_factors(n), roots_of_unity(n)).reshape(n, 2, LANES)
    return result[:, 0] + 1j * result[:, 1]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 8, 9, 10, 16, 25, 30, 60, 72, 128, 250, 270, 1200, 1250])
def test_every_lane_is_transformed_as_by_definition(n: int) -> None:
    values = sequences(n)
    expected = np.fft.fft(values, axis=0)
    assert np.abs(transform_lanes(values) - expected).max() < 3e-7 * np.abs(expected).max()


def test_swapped_parts_transform_back() -> None:
    values = sequences(120)
    spectrum = transform_lanes(values)
    back = transform_lanes(spectrum.imag + 1j * spectrum.real)
    np.testing.assert_allclose(back.imag / 120 + 1j * back.real / 120, values, atol=1e-5)


def test_a_lane_does_not_affect_its_neighbors() -> None:
    values = sequences(60)
    other = np.concatenate([values[:, :1], sequences(60)[:, 1:] * 3], axis=1)
    np.testing.assert_array_equal(transform_lanes(values)[:, 0], transform_lanes(other)[:, 0])


def test_lengths_have_no_other_factors_than_two_three_and_five() -> None:
    for n in (1, 2, 7, 49, 97, 257, 1021, 2047):
        length = next_fast_length(n)
        assert length >= n
        assert length % 2 == 0
        assert int(np.prod(radix_factors(length))) == length
    with pytest.raises(ValueError, match="prime factors beyond 5"):
        radix_factors(14)
