"""Compute the moments of rows in float64: of X itself, and of encoded rows, which leave out its zeros.

    X (n_rows, n_features)  ->  mean, scatter;   dense, starts, hot  ->  gram, cross, counts of pairs

Rows are shifted by a point near their mean before anything is squared. Counts of pairs are matrix products of zeros and
ones, which float32 adds exactly up to 2^24 rows at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.columns import reduce_columns
from engine.kernels.arrays.distance import row_chunks

Array = Any  # of the array module `xp`


def compute_moments(xp: Any, X: Array, pilot_rows: int, chunk_values: int) -> tuple[Array, Array]:
    """Return the mean (n_features,) and the scatter matrix (n_features, n_features) of a block."""
    n_rows, n_features = X.shape
    sums, scatter = xp.zeros(n_features), xp.zeros((n_features, n_features))
    with np.errstate(over="ignore", invalid="ignore"):  # the caller rejects values that are not finite
        shift = X[:: max(1, n_rows // pilot_rows)].mean(axis=0, dtype=np.float64)
        for chunk in row_chunks(n_rows, n_features, chunk_values):
            shifted = xp.subtract(X[chunk], shift, dtype=np.float64)
            sums += reduce_columns(xp, shifted, "sum")
            scatter += xp.matmul(shifted.T, shifted)
        rest = sums / n_rows
        scatter -= xp.outer(rest, sums)
    return shift + rest, scatter


def compute_encoded_moments(
    xp: Any, dense: Array, starts: Array, hot: Array, n_hot_columns: int, block_rows: int, chunk_values: int
) -> tuple[Array, Array, Array]:
    """Return gram and cross of every block of `block_rows` rows, and the counts of pairs of all rows.

    gram is (n_blocks, n_dense + 1, n_dense), its last row the sums of the dense columns; cross is (n_blocks,
    n_hot_columns, n_dense); pairs is (n_hot_columns, n_hot_columns), an upper triangle. A chunk is as many whole
    blocks as `chunk_values` holds, whose products are computed together, or a part of one block.
    """
    n_rows, n_dense = dense.shape
    n_blocks = -(-n_rows // block_rows)
    gram, cross = xp.zeros((n_blocks, n_dense + 1, n_dense)), xp.zeros((n_blocks, n_hot_columns, n_dense))
    pairs = xp.zeros((n_hot_columns, n_hot_columns))
    chunks = _block_chunks(n_rows, block_rows, max(1, chunk_values // (n_dense + n_hot_columns)))
    edges = starts[xp.asarray([chunk.start for chunk in chunks] + [n_rows])].tolist()  # one copy from the device
    for chunk, first, last in zip(chunks, edges, edges[1:], strict=False):
        n_chunk = chunk.stop - chunk.start
        indicators = xp.zeros((n_chunk, n_hot_columns), np.float32)
        if last > first:
            rows = xp.searchsorted(starts[chunk], xp.arange(first, last, dtype=starts.dtype), side="right") - 1
            indicators[rows, hot[first:last]] = 1.0
        wide = xp.ones((n_chunk, n_dense + 1))  # a column of ones, whose products are sums
        wide[:, :n_dense] = dense[chunk]
        blocks = slice(chunk.start // block_rows, -(-chunk.stop // block_rows))
        n_chunk_blocks = blocks.stop - blocks.start
        shape = n_chunk_blocks, n_chunk // n_chunk_blocks
        wide = wide.reshape(*shape, n_dense + 1)
        hot_of_blocks = indicators.astype(np.float64).reshape(*shape, n_hot_columns)
        gram[blocks] += xp.matmul(wide.transpose(0, 2, 1), wide[:, :, :n_dense])
        cross[blocks] += xp.matmul(hot_of_blocks.transpose(0, 2, 1), wide[:, :, :n_dense])
        pairs += xp.matmul(indicators.T, indicators)  # whole numbers: float64 adds them exactly
    return gram, cross, xp.triu(xp.rint(pairs).astype(np.int64))


def _block_chunks(n_rows: int, block_rows: int, chunk_rows: int) -> list[slice]:
    """Return 0…n_rows as slices of whole blocks or of parts of one; the last block, which is shorter, is alone."""
    chunks = []
    n_whole = n_rows // block_rows * block_rows
    step = max(block_rows, chunk_rows // block_rows * block_rows)
    for first, stop in [(0, n_whole), (n_whole, n_rows)]:
        for start in range(first, stop, step):
            last = min(start + step, stop)
            part = last - start if chunk_rows >= block_rows else chunk_rows
            chunks += [slice(begin, min(begin + part, last)) for begin in range(start, last, part)]
    return chunks
