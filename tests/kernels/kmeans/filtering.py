"""Helpers of several tests: prepare, filter and label rows as a pass does, at a given level of precision."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from engine.kernels.cpu.kmeans import certify as row_filter
from engine.kernels.cpu.kmeans import lloyd, quantize, quantized_centers

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
    row_filter.filter_rows(X, rows, quantizer, centers, count, buffer)
