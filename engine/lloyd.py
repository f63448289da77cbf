"""Lloyd's algorithm as passes over blocks of rows: label, sum, move the centres, until nothing changes.

    RowSet (rows, weights, backend), initial centres -> Clustering (centres, labels, inertia, iterations)

A pass returns integer sums, so its blocks may be any runs of rows on any thread: the bits do not change. Where
centres start is seeding.py's concern; what a label and a sum are: decisions/0002-labels-and-sums.md.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.backends.protocol import SUM_ROWS, Backend, ClusterSums, Float64s, Grid, Int32s, Int64s, Rows
from engine.execution.local import map_blocks, row_blocks, thread_count
from engine.fixed_point import centres_of, fixed_point_grid, variances_of

JOB_ROWS = 128 * SUM_ROWS  # at most so many rows a block of a pass; a multiple of SUM_ROWS
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowSet:
    """Rows in memory, their weights (length 0 stands for ones), and what every pass over them needs."""

    X: Rows
    weights: Float64s
    total: float
    grid: Grid
    backend: Backend

    @classmethod
    def of(cls, X: Rows, weights: Float64s | None, backend: Backend) -> RowSet:
        """Measure the rows in one pass. X is C-contiguous and finite, weights are finite and not negative."""
        given = np.empty(0) if weights is None else np.ascontiguousarray(weights, np.float64)
        extents = list(map_blocks(lambda part: backend.extent(X[part], given[part]), jobs(len(X))))
        low = np.min([least for least, _ in extents], axis=0)
        high = np.max([largest for _, largest in extents], axis=0)
        total = float(len(X)) if weights is None else math.fsum(given)  # fsum: rounded once, whatever the order
        heaviest = None if weights is None else (total, float(given.max()))
        return cls(X, given, total, fixed_point_grid(low, high, X.dtype, len(X), heaviest), backend)


@dataclass(frozen=True)
class Clustering:
    """What a run of Lloyd's algorithm found."""

    centres: Rows
    labels: Int32s
    inertia: float
    n_iter: int


def jobs(n_rows: int) -> Iterator[slice]:
    """Yield the runs of rows of a pass: some for every thread, each a multiple of SUM_ROWS."""
    share = -(-n_rows // (4 * thread_count() * SUM_ROWS)) * SUM_ROWS
    return row_blocks(n_rows, min(max(share, SUM_ROWS), JOB_ROWS))


def tolerance(rows: RowSet, tol: float) -> float:
    """Return `tol` times the mean variance of the features: scikit-learn's threshold for the centres' movement."""
    if tol == 0:
        return 0.0
    sums = squares = np.zeros(rows.X.shape[1], np.int64)
    for part_sums, part_squares in map_blocks(
        lambda part: rows.backend.square_sums(rows.X[part], rows.weights[part], rows.grid), jobs(len(rows.X))
    ):
        sums, squares = sums + part_sums, squares + part_squares
    return tol * float(variances_of(sums, squares, rows.grid, rows.total).mean())


def lloyd(rows: RowSet, centres: Rows, *, max_iter: int, tolerance: float, verbose: bool = False) -> Clustering:
    """Iterate from `centres` (n_clusters, n_features) until no label changes or the centres move less than `tolerance`.

    The rule is scikit-learn's: the movement is the squared Frobenius norm; labels that did not change end the run at
    once; otherwise rows are labelled once more, so that labels always belong to the centres returned.
    """
    labels = np.full(len(rows.X), -1, np.int32)
    settled = False
    for iteration in range(1, max_iter + 1):
        found = _pass(rows, centres, labels)
        moved = _means(rows, centres, labels, found)
        movement, centres = _squared_shift(centres, moved), moved
        if verbose:
            logger.info(
                "iteration %d: %d labels changed, centres moved by %.6g, %d rows labelled by the definition",
                iteration, found.changed, movement, found.opened,
            )  # fmt: skip
        settled = found.changed == 0
        if settled or movement <= tolerance:
            break
    if not settled:
        label_rows(rows.X, centres, labels, rows.backend)
    return Clustering(centres, labels, inertia(rows.X, rows.weights, centres, labels, rows.backend), iteration)


def label_rows(X: Rows, centres: Rows, labels: Int32s, backend: Backend) -> None:
    """Write the label of every row."""
    prepared = backend.prepare(centres, X.dtype)
    for _ in map_blocks(lambda part: backend.label(X[part], prepared, labels[part]), jobs(len(X))):
        pass


def inertia(X: Rows, weights: Float64s, centres: Rows, labels: Int32s, backend: Backend) -> float:
    """Return the weighted sum of squared distances of rows to their centres, in an order that n_rows alone fixes."""
    parts = map_blocks(lambda part: backend.inertia(X[part], weights[part], centres, labels[part]), jobs(len(X)))
    return math.fsum(value for sums in parts for value in sums)


def _pass(rows: RowSet, centres: Rows, labels: Int32s) -> ClusterSums:
    """Label all rows in place and sum the clusters."""
    prepared = rows.backend.prepare(centres, rows.X.dtype)
    parts = map_blocks(
        lambda part: rows.backend.lloyd(rows.X[part], rows.weights[part], prepared, rows.grid, labels[part]),
        jobs(len(rows.X)),
    )
    sums, masses = np.zeros(centres.shape, np.int64), np.zeros(len(centres), np.int64)
    changed = opened = 0
    for part in parts:
        sums += part.sums
        masses += part.masses
        changed += part.changed
        opened += part.opened
    return ClusterSums(sums, masses, changed, opened)


def _means(rows: RowSet, centres: Rows, labels: Int32s, found: ClusterSums) -> Rows:
    """Return the new centres, in the rows' dtype; empty clusters take the farthest rows first."""
    empty = np.flatnonzero(found.masses == 0)
    if len(empty):
        _refill(rows, centres, labels, found.sums, found.masses, empty)
    return centres_of(found.sums, found.masses, rows.grid).astype(rows.X.dtype)


def _squared_shift(old: Rows, new: Rows) -> float:
    """Return the squared Frobenius norm of new - old, added in order."""
    return float(np.cumsum(np.square(new.astype(np.float64) - old))[-1])


def _refill(rows: RowSet, centres: Rows, labels: Int32s, sums: Int64s, masses: Int64s, empty: Int64s) -> None:
    """Give each empty cluster the farthest row that is left, and take it from its old cluster.

    A row on its centre, without weight, or alone in its cluster stays: moving it would gain nothing. So clusters
    stay empty where there are fewer distinct rows than clusters.
    """
    waiting = list(empty[::-1])
    grid = rows.grid
    for row in _farthest(rows, centres, labels, len(empty) + len(masses)):
        if not waiting:
            return
        weight = rows.weights[row] if len(rows.weights) else 1.0
        mass = np.int64(np.rint(weight * grid.mass_scale))
        old = labels[row]
        if 0 < mass < masses[old]:
            new = waiting.pop()
            term = np.rint((rows.X[row].astype(np.float64) - grid.shift) * weight * grid.scale).astype(np.int64)
            sums[old] -= term
            masses[old] -= mass
            sums[new] = term
            masses[new] = mass


def _farthest(rows: RowSet, centres: Rows, labels: Int32s, count: int) -> Int64s:
    """Return the numbers of the `count` rows farthest from their centres, ties to the lowest number."""

    def of_part(part: slice) -> tuple[Float64s, Int64s]:
        distances = rows.backend.own_distances(rows.X[part], centres, labels[part])
        away = np.flatnonzero(distances > 0)
        first = away[np.argsort(-distances[away], kind="stable")[:count]]
        return distances[first], first + part.start

    parts = list(map_blocks(of_part, jobs(len(rows.X))))
    distances = np.concatenate([distance for distance, _ in parts])
    numbers = np.concatenate([number for _, number in parts])
    return numbers[np.argsort(-distances, kind="stable")[:count]]
