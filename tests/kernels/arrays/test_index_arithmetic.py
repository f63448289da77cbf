"""Indices of array kernels beyond 2^31, without the memory for what they point into."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.kernels.arrays.features import encode
from engine.kernels.arrays.kmeans import certify, lloyd
from engine.kernels.arrays.neighbors import knn_exact
from engine.kernels.cpu.kmeans import quantize
from tests.gpu.strict import StrictModule, to_device, to_numpy

XP = StrictModule()


def test_candidates_of_tiles_beyond_two_to_the_31_are_found() -> None:
    """Places count through all tiles of a chunk: a million rows have 10^10 of them."""
    n_queries, width = 3, 1024
    tiles, rows, columns = np.array([[0, 5_000_000, 2], [0, 2, 1], [7, 3, 1000]])
    places = to_device((tiles * n_queries + rows) * width + columns)
    least = knn_exact.Least(to_device(np.array([[1, 2], [3, 4], [5, 6]])), to_device(np.full((3, 2), 1.0, np.float32)))
    scores = to_device(np.array([0.5, 0.25, 2.0], np.float32))
    merged = knn_exact._merge(XP, least, [(places, scores)], n_queries, width)
    np.testing.assert_array_equal(to_numpy(merged.numbers), [[7, 1], [3, 4], [5_000_000 * width + 3, 5]])
    np.testing.assert_array_equal(to_numpy(merged.scores), [[0.5, 1], [1, 1], [0.25, 1]])
    assert merged.numbers.dtype == np.int64


def test_more_hot_columns_than_can_be_counted_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = to_device(np.arange(12, dtype=np.int32).reshape(6, 2))
    starts, hot = encode.list_hot_columns(XP, candidates, [])
    assert (len(starts), len(hot)) == (7, 12)
    monkeypatch.setattr(encode, "MAX_HOT", 11)
    with pytest.raises(MemoryError, match="6 rows have 12 hot columns, and 11 can be counted"):
        encode.list_hot_columns(XP, candidates, [])


def test_places_of_scores_and_sums_beyond_two_to_the_31_are_64_bit_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every index that array code computes by itself: CuPy's arange and argmin count in 64 bits, as NumPy's do."""
    kinds: set[Any] = set()
    X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)

    class Watched(StrictModule):
        def __getattr__(self, name: str) -> Any:
            function = super().__getattr__(name)

            def call(*args: Any, **kwargs: Any) -> Any:
                result = function(*args, **kwargs)
                if name in ("arange", "flatnonzero", "argsort", "searchsorted", "cumsum"):
                    kinds.add(result.dtype)
                return result

            return function if name == "add" else call

    xp = Watched()
    centers = certify.prepare_centers(xp, X[:4], quantize.fit_quantizer(X, quantize.FLOAT32))
    ranking = certify.rank_centers(xp, to_device(X), None, centers, centers.levels[0], 60)
    assert {place.dtype for place in ranking.nearest} == {np.dtype(np.int64)}
    knn_exact.find_exact_neighbors(xp, to_device(X), 5, 1000)
    assert kinds == {np.dtype(np.int64)}


def test_sums_hold_more_than_two_to_the_31() -> None:
    X = np.full((4, 1), 3.0, np.float32)
    grid = to_device(np.zeros(1)), to_device(np.full(1, 2.0**50)), 2.0**40
    weights = to_device(np.full(4, 2.0))
    before, after = to_device(np.full(4, -1)), to_device(np.zeros(4, np.int64))
    sums, masses = lloyd.compute_sum_changes(XP, to_device(X), None, weights, grid, before, after, 1, 100)
    assert (int(to_numpy(sums)[0, 0]), int(to_numpy(masses)[0])) == (4 * 6 * 2**50, 4 * 2 * 2**40)
