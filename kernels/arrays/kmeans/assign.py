"""Assign rows to their nearest centers: rank in float32, open rows again in float64, the rest by the definition.

    X (n_rows, n_features), CenterArrays  ->  labels (n_rows,) int32;   or the two nearest centers and their distances

Chunks of rows are limited by the number of their scores, so that on a GPU these stay near the cache between the
operations of a chunk. Labels are those of the definition in distance.py, however matrix products round: certify.py
proves which are certain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.kernels.arrays import distance
from engine.kernels.arrays.kmeans.certify import CenterArrays, rank_centers

Array = Any  # of the array module `xp`


class LabeledRows(NamedTuple):
    """Labels, and the numbers of rows that a level of precision left open."""

    labels: Array  # (n_rows,) int32
    n_open: int  # rows that the first level, float32, left open
    n_by_definition: int  # rows that all levels left open: labeled by the definition


class TwoNearestArrays(NamedTuple):
    """The two nearest centers of every row, with squared distances, each (n_rows,).

    With a single center, second labels are -1 and second distances infinite.
    """

    labels: Array
    squared: Array
    second_labels: Array
    second_squared: Array


def label_rows(xp: Any, X: Array, centers: CenterArrays, chunk_values: int) -> LabeledRows:
    """Return the label of every row; at most about `chunk_values` scores are kept at a time."""
    labels = xp.empty(len(X), np.int32)
    n_open = n_by_definition = 0
    for part in distance.row_chunks(len(X), max(centers.exact.shape), chunk_values):
        labels[part], chunk_open, chunk_by_definition = _label_chunk(xp, X[part], centers, chunk_values)
        n_open, n_by_definition = n_open + chunk_open, n_by_definition + chunk_by_definition
    return LabeledRows(labels, n_open, n_by_definition)


def _label_chunk(xp: Any, X: Array, centers: CenterArrays, chunk_values: int) -> tuple[Array, int, int]:
    """Return the labels of a chunk, and how many rows the first level and all levels left open."""
    labels = xp.zeros(len(X), np.int64)
    rows, n_open = None, len(X)  # open rows; None for all of them
    for level in centers.levels:
        part = X if rows is None else X[rows]
        ranking = rank_centers(xp, part, centers, level)
        labels = ranking.best if rows is None else _put(labels, rows, ranking.best)
        open_rows = xp.flatnonzero(~ranking.certain)
        rows = open_rows if rows is None else rows[open_rows]
        n_open = len(rows) if level is centers.levels[0] else n_open
        if len(rows) == 0:
            return labels, n_open, 0
    part = X if rows is None else X[rows]
    exact = distance.labels_by_definition(xp, part, centers.columns, chunk_values)
    return (exact if rows is None else _put(labels, rows, exact)), n_open, len(part)


def _put(target: Array, rows: Array, values: Array) -> Array:
    target[rows] = values
    return target


def label_nearest_two(xp: Any, X: Array, centers: CenterArrays, chunk_values: int) -> TwoNearestArrays:
    """Return the two nearest centers of every row, ties to the lower label."""
    chunks = distance.row_chunks(len(X), max(centers.exact.shape), chunk_values)
    parts = [_label_chunk_two(xp, X[part], centers) for part in chunks]
    return TwoNearestArrays(*(xp.concatenate(columns) for columns in zip(*parts, strict=True)))


def _label_chunk_two(xp: Any, X: Array, centers: CenterArrays) -> TwoNearestArrays:
    n_clusters = len(centers.exact)
    if n_clusters == 1 or not centers.levels:
        return _two_by_definition(xp, X, centers)
    ranking = rank_centers(xp, X, centers, centers.levels[0], two=True)
    first = distance.assigned_distances(xp, X, centers.exact, ranking.best)
    second = distance.assigned_distances(xp, X, centers.exact, ranking.second)
    swap = (second < first) | ((second == first) & (ranking.second < ranking.best))
    result = TwoNearestArrays(
        xp.where(swap, ranking.second, ranking.best),
        xp.where(swap, second, first),
        xp.where(swap, ranking.best, ranking.second),
        xp.where(swap, first, second),
    )
    rows = xp.flatnonzero(~ranking.certain_two)
    if len(rows):
        for target, exact in zip(result, _two_by_definition(xp, X[rows], centers), strict=True):
            target[rows] = exact
    return result


def _two_by_definition(xp: Any, X: Array, centers: CenterArrays) -> TwoNearestArrays:
    """Return the two nearest centers by the definition, from all distances."""
    squared = distance.squared_distances(xp, X, centers.columns)
    rows = xp.arange(len(X))
    labels = squared.argmin(axis=1)
    nearest = squared[rows, labels]
    if squared.shape[1] == 1:
        return TwoNearestArrays(labels, nearest, xp.full(len(X), -1), xp.full(len(X), np.inf))
    others = xp.arange(squared.shape[1] - 1)
    index = xp.take_along_axis(squared, others + (others >= labels[:, None]), axis=1).argmin(axis=1)
    second_labels = index + (index >= labels)
    return TwoNearestArrays(labels, nearest, second_labels, squared[rows, second_labels])
