"""Helpers of several tests: prepare, filter and label rows as a pass does, at a given level of precision."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from engine.kernels.cpu.kmeans import certify as row_filter
from engine.kernels.cpu.kmeans import lloyd, quantize, quantized_centers
from engine.kernels.cpu.kmeans.quantized_centers import BLOCK_CENTERS
from engine.kernels.cpu.kmeans.tiled_scores import TILE_ROWS, load_tile, load_tile_scales, rank_centers
from engine.kernels.cpu.simd.vectors import LANES, gather, load, store

LEVELS = range(quantize.coarsest_level(64), quantize.FLOAT32 + 1)


class PreparedRows(NamedTuple):
    rows: Any
    quantizer: Any
    centers: Any
    buffer: Any


def prepare_rows(X: Any, centers: Any, level: int, *, stored: bool = True) -> PreparedRows:
    """Quantize rows and centers; `stored` says whether quantized rows are kept, as in a fit, or made on the fly."""
    quantizer = quantize.fit_quantizer(X, level)
    rows = quantize.allocate_quantized_rows(len(X) if stored else 0, X.shape[1], level)
    if len(rows.values):
        quantize.quantize_rows(X, np.arange(len(X)), len(X), quantizer, *rows)
    quantized = quantized_centers.quantize_centers(centers, quantizer, level)
    return PreparedRows(rows, quantizer, quantized, row_filter.allocate_row_buffer(rows, X.shape[1]))


class PassResult(NamedTuple):
    labels: Any
    gap_bound: Any
    sums: Any
    masses: Any
    changed: int
    screened: int
    opened: int
    defined: int


def run_pass(
    X: Any, centers: Any, level: int, *, weights: Any = None, grid: Any = None, stored: bool = True
) -> PassResult:
    """Make the first pass of Lloyd's algorithm over rows that are in no cluster yet."""
    n_clusters, n_features = centers.shape
    prepared = prepare_rows(X, centers, level, stored=stored)
    labels, gap_bound = np.full(len(X), -1, np.int32), np.full(len(X), -np.inf, np.float32)
    sums, masses = np.zeros(centers.shape, np.int64), np.zeros(n_clusters, np.int64)
    shift, scale, mass_scale = grid or (np.zeros(n_features), np.zeros(n_features), 1.0)
    no_movement = np.zeros(n_clusters, np.float32)
    counts = lloyd.lloyd_pass(
        X, np.empty(0) if weights is None else weights, prepared.rows, prepared.quantizer, prepared.centers,
        no_movement, no_movement, np.empty(0, np.int32), shift, scale, mass_scale, labels, gap_bound, sums, masses,
        prepared.buffer,
    )  # fmt: skip
    return PassResult(labels, gap_bound, sums, masses, *counts)


@numba.njit
def filter_only(X: Any, rows: Any, quantizer: Any, centers: Any, count: int, buffer: Any) -> None:
    """Filter the first `count` rows of a buffer, and refine none."""
    quantized, slots = row_filter.quantize_run(X, rows, quantizer, count, buffer)
    row_filter.filter_rows(quantized, slots, centers, count, buffer)


@numba.njit
def rank_all(rows: Any, centers: Any, slots: Any, best: Any, second: Any, labels: Any, least: Any, bounds: Any) -> None:
    """Write the two least scores of every row, the center and the error bound of the first, and the least of a block.

    Arrays have room for whole tiles; `least` is of shape (tiles, blocks * TILE_ROWS).
    """
    words, n_centers = rows.values.view(np.int32).reshape(-1), centers.sums.shape[0]
    padded_width, width = words.shape[0] // len(rows.values), centers.tile_words.shape[0] // n_centers
    row_tile, scales = np.empty(padded_width * TILE_ROWS, np.int32), np.empty(2 * TILE_ROWS, np.float32)
    kind, terms = rows.values.dtype.type(0), row_filter.splat_error_bound(centers.error_bound)
    for start in range(0, len(slots), TILE_ROWS):
        stop = start + TILE_ROWS
        load_tile(words, padded_width, slots, start, row_tile)
        load_tile_scales(rows.steps, rows.errors, rows.norms, centers.row_term, slots, start, scales)
        rank_centers(
            kind, row_tile, scales, width, centers.tile_words, centers.n_in_tiles, centers.sums, centers.steps,
            centers.offsets, best[start:stop], second[start:stop], labels[start:stop], least[start // TILE_ROWS],
        )  # fmt: skip
        for lane in range(start, stop, LANES):
            bound, _ = row_filter.bound_gap(
                load(best, lane), load(second, lane), gather(rows.errors, slots, lane), gather(rows.norms, slots, lane),
                gather(centers.sizes, labels, lane), terms,
            )  # fmt: skip
            store(bounds, lane, bound)


class Ranks(NamedTuple):
    best: Any
    second: Any
    labels: Any
    least: Any  # (n_rows, n_blocks)
    bounds: Any


def rank_rows(X: Any, prepared: PreparedRows) -> Ranks:
    """Return what rank_centers finds for rows of one run, and the error bounds of the best scores."""
    count, rows, every_row = len(X), prepared.rows, np.arange(len(X))
    if len(rows.values) == 0:
        rows = prepared.buffer.quantized
        quantize.quantize_rows(X, every_row, count, prepared.quantizer, *rows)
    n_tiles = -(-count // TILE_ROWS)
    slots = every_row[np.minimum(np.arange(n_tiles * TILE_ROWS), count - 1)]
    best, second, bounds = (np.empty(len(slots), np.float32) for _ in range(3))
    labels = np.empty(len(slots), np.int32)
    least = np.empty((n_tiles, len(prepared.centers.sums) // BLOCK_CENTERS * TILE_ROWS), np.float32)
    rank_all(rows, prepared.centers, slots, best, second, labels, least, bounds)
    by_row = least.reshape(n_tiles, -1, TILE_ROWS).transpose(0, 2, 1).reshape(len(slots), -1)
    return Ranks(best[:count], second[:count], labels[:count], by_row[:count], bounds[:count])
