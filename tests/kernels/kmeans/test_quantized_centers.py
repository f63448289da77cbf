"""Quantized centers: their layouts against plain loops, and what their steps, offsets and sizes bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.kernels.cpu.kmeans import quantized_centers as module
from engine.kernels.cpu.kmeans.quantize import FLOAT32, INT8, INT16, PADDING_BYTES, UINT8_ZERO, fit_quantizer
from engine.kernels.cpu.simd.vectors import LANES

DTYPES = {INT8: np.int8, INT16: np.int16, FLOAT32: np.float32}
SHAPES = [(1, 1), (5, 3), (12, 16), (13, 17), (50, 33)]  # clusters and features, within blocks, whole and beyond


def quantize(n_clusters: int, n_features: int, level: int, dtype: Any = np.float32) -> tuple[Any, Any, Any]:
    """Return rows that are centers, their quantizer, and the quantized centers."""
    X = np.random.default_rng(n_clusters).standard_t(2, (n_clusters, n_features)).astype(dtype)
    quantizer = fit_quantizer(X, level)
    return X, quantizer, module.quantize_centers(X, quantizer, level)


@pytest.mark.parametrize("level", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_words_of_centers_lie_in_tiles_and_blocks_one_center_beside_the_other(
    shape: tuple[int, int], level: int
) -> None:
    n_clusters, n_features = shape
    _, _, centers = quantize(*shape, level)
    words = centers.center_words.reshape(n_clusters, -1)
    size = np.dtype(DTYPES[level]).itemsize
    width = -(-n_features * size // 4)
    assert words.shape[1] * 4 == -(-n_features * size // PADDING_BYTES) * PADDING_BYTES
    assert not words[:, width:].any()
    tiles = centers.tile_words.reshape(-1, width, module.TILE_CENTERS)
    blocks = centers.block_words.reshape(-1, module.BLOCK_VECTORS, width, LANES)
    n_padded = len(centers.sums)
    assert n_padded % module.BLOCK_CENTERS == 0
    assert n_padded >= n_clusters
    for j in range(n_padded):
        expected = words[j, :width] if j < n_clusters else np.zeros(width, np.int32)
        block, lane = divmod(j, module.BLOCK_CENTERS)
        place = block * module.BLOCK_LANES + lane
        assert (tiles[j // module.TILE_CENTERS, :, j % module.TILE_CENTERS] == expected).all()
        assert (blocks[block, lane // LANES, :, lane % LANES] == expected).all()
        for all_values, of_blocks in (
            (centers.sums, centers.block_sums),
            (centers.steps, centers.block_steps),
            (centers.offsets, centers.block_offsets),
        ):
            assert all_values[j] == of_blocks[place]
        if j >= n_clusters:
            assert (centers.steps[j], centers.offsets[j], centers.sizes[j]) == (0, module.PADDING_SCORE, np.inf)
    between = np.arange(len(centers.block_steps)) % module.BLOCK_LANES >= module.BLOCK_CENTERS
    assert (centers.block_offsets[between] == module.PADDING_SCORE).all()
    assert not centers.block_steps[between].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", [INT8, INT16])
def test_values_times_steps_are_the_centers_within_half_a_step(level: int, dtype: Any) -> None:
    X, quantizer, centers = quantize(50, 33, level, dtype)
    values = -centers.center_words.view(DTYPES[level]).reshape(50, -1)[:, :33].astype(np.float64)
    scaled = (X.astype(np.float64) - quantizer.shift) * float(quantizer.factor)
    steps, norms = centers.steps[:50].astype(np.float64), np.linalg.norm(scaled, axis=1)
    assert (np.abs(values * steps[:, None] - scaled) <= 0.5001 * steps[:, None]).all()
    assert np.abs(values).max() <= quantizer.max_value
    assert (centers.sizes[:50] >= norms).all()  # a step is at least 1 / reach of the norm
    assert (centers.offsets[:50] <= norms**2 / 2).all()
    sums = UINT8_ZERO * values.sum(axis=1) if level == INT8 else np.zeros(50)
    assert (centers.sums[:50] == sums).all()
    assert (centers.exact == X).all()
    assert (centers.columns == X.T).all()


@pytest.mark.parametrize("level", DTYPES)
def test_nothing_is_certified_about_centers_too_far_for_floats(level: int) -> None:
    X, quantizer, _ = quantize(13, 5, level)
    X[3] = 1e30
    centers = module.quantize_centers(X, quantizer, level)
    assert np.isinf(centers.sizes).all()
    assert not centers.center_words.view(DTYPES[level]).any()
