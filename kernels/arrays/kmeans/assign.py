"""Assign rows to their nearest centers: rank in float32, open rows again in float64, the rest by the definition.

    X (n_rows, n_features), CenterArrays  ->  labels (n_rows,) int32;   or the two nearest centers and their distances

Rows that a level leaves open are collected over all chunks, and go through the next level together. Labels are those of
the definition in distance.py, however matrix products round: certify.py proves which are certain.
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
    labels = xp.empty(len(X), np.int64)
    rows, n_open = None, len(X)  # open rows; None for all of them
    for level in centers.levels:
        ranking = rank_centers(xp, X, rows, centers, level, chunk_values)
        open_rows = xp.flatnonzero(~ranking.certain)
        if rows is None:
            labels, rows, n_open = ranking.nearest[0], open_rows, len(open_rows)
        else:
            labels[rows] = ranking.nearest[0]
            rows = rows[open_rows]
        if len(rows) == 0:
            return LabeledRows(labels.astype(np.int32), n_open, 0)
    n_by_definition = len(X) if rows is None else len(rows)
    for chunk in distance.row_chunks(n_by_definition, max(centers.exact.shape), chunk_values):
        target = chunk if rows is None else rows[chunk]
        labels[target] = distance.squared_distances(xp, X[target], centers.columns).argmin(axis=1)
    return LabeledRows(labels.astype(np.int32), n_open, n_by_definition)


def label_nearest_two(xp: Any, X: Array, centers: CenterArrays, chunk_values: int) -> TwoNearestArrays:
    """Return the two nearest centers of every row, ties to the lower label."""
    chunks = distance.row_chunks(len(X), max(centers.exact.shape), chunk_values)
    if len(centers.exact) == 1 or not centers.levels:
        parts = [_two_by_definition(xp, X[chunk], centers) for chunk in chunks]
        return TwoNearestArrays(*(xp.concatenate(columns) for columns in zip(*parts, strict=True)))
    (best, other), certain = rank_centers(xp, X, None, centers, centers.levels[0], chunk_values, n_nearest=2)
    first, second = xp.empty(len(X)), xp.empty(len(X))
    for chunk in chunks:
        first[chunk] = distance.assigned_distances(xp, X[chunk], centers.exact, best[chunk])
        second[chunk] = distance.assigned_distances(xp, X[chunk], centers.exact, other[chunk])
    swap = (second < first) | ((second == first) & (other < best))
    result = TwoNearestArrays(
        xp.where(swap, other, best), xp.where(swap, second, first), xp.where(swap, best, other),
        xp.where(swap, first, second),
    )  # fmt: skip
    rows = xp.flatnonzero(~certain)
    for chunk in distance.row_chunks(len(rows), max(centers.exact.shape), chunk_values):
        for target, exact in zip(result, _two_by_definition(xp, X[rows[chunk]], centers), strict=True):
            target[rows[chunk]] = exact
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
