"""Label rows: rank centres in float32, what that leaves open in float64, and settle the rest by the definition.

    X (n_rows, n_features), Centres  ->  labels (n_rows,) int32;  or the two nearest centres and their distances

Chunks of rows are as long as their scores may be many: on a GPU those then stay near the cache between the
operations of a chunk. Labels are those of the definition, whatever products round to: filter.py says what is certain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.kernels.arrays import distance
from engine.kernels.arrays.kmeans import filter as screen
from engine.kernels.arrays.kmeans.filter import Centres

Array = Any  # of the array module `xp`


class Labelled(NamedTuple):
    """Labels, and how many rows float32 and float64 left open."""

    labels: Array
    opened: int
    defined: int


class TwoNearest(NamedTuple):
    """The two nearest centres by the definition, and the squared distances to them; one centre: -1 and infinity."""

    labels: Array
    nearest: Array
    runners_up: Array
    second: Array


def label_rows(xp: Any, X: Array, centres: Centres, values: int) -> Labelled:
    """Return the label of every row; at most about `values` scores are kept at a time."""
    labels = xp.empty(len(X), np.int32)
    opened = defined = 0
    for part in distance.runs(len(X), max(centres.exact.shape), values):
        found, n_opened, n_defined = _label(xp, X[part], centres, values)
        labels[part] = found
        opened, defined = opened + n_opened, defined + n_defined
    return Labelled(labels, opened, defined)


def _label(xp: Any, X: Array, centres: Centres, values: int) -> tuple[Array, int, int]:
    labels = xp.zeros(len(X), np.int64)
    rows, opened = None, len(X)  # None: all of them
    for level in centres.levels:
        part = X if rows is None else X[rows]
        ranked = screen.rank(xp, part, centres, level)
        labels = ranked.best if rows is None else _put(labels, rows, ranked.best)
        open_here = xp.flatnonzero(~ranked.certain)
        rows = open_here if rows is None else rows[open_here]
        opened = len(rows) if level is centres.levels[0] else opened
        if len(rows) == 0:
            return labels, opened, 0
    part = X if rows is None else X[rows]
    found = distance.defined_labels(xp, part, centres.columns, values)
    return (found if rows is None else _put(labels, rows, found)), opened, len(part)


def _put(target: Array, rows: Array, values: Array) -> Array:
    target[rows] = values
    return target


def label_two(xp: Any, X: Array, centres: Centres, values: int) -> TwoNearest:
    """Return the two nearest centres of every row, ties to the lower label."""
    found = [_two(xp, X[part], centres) for part in distance.runs(len(X), max(centres.exact.shape), values)]
    return TwoNearest(*(xp.concatenate(columns) for columns in zip(*found, strict=True)))


def _two(xp: Any, X: Array, centres: Centres) -> TwoNearest:
    n_clusters = len(centres.exact)
    if n_clusters == 1 or not centres.levels:
        return _two_by_definition(xp, X, centres)
    ranked = screen.rank(xp, X, centres, centres.levels[0], two=True)
    one = distance.own_distances(xp, X, centres.exact, ranked.best)
    other = distance.own_distances(xp, X, centres.exact, ranked.runner_up)
    swap = (other < one) | ((other == one) & (ranked.runner_up < ranked.best))
    found = TwoNearest(
        xp.where(swap, ranked.runner_up, ranked.best),
        xp.where(swap, other, one),
        xp.where(swap, ranked.best, ranked.runner_up),
        xp.where(swap, one, other),
    )
    rows = xp.flatnonzero(~ranked.certain_two)
    if len(rows):
        for target, exact in zip(found, _two_by_definition(xp, X[rows], centres), strict=True):
            target[rows] = exact
    return found


def _two_by_definition(xp: Any, X: Array, centres: Centres) -> TwoNearest:
    """Return the same from all distances."""
    squared = distance.squared_distances(xp, X, centres.columns)
    rows = xp.arange(len(X))
    labels = squared.argmin(axis=1)
    nearest = squared[rows, labels]
    if squared.shape[1] == 1:
        return TwoNearest(labels, nearest, xp.full(len(X), -1), xp.full(len(X), np.inf))
    others = xp.arange(squared.shape[1] - 1)
    place = xp.take_along_axis(squared, others + (others >= labels[:, None]), axis=1).argmin(axis=1)
    runners_up = place + (place >= labels)
    return TwoNearest(labels, nearest, runners_up, squared[rows, runners_up])
