"""Lloyd's algorithm as passes over blocks of rows: label, sum, move the centres, until nothing changes.

    RowSet (rows, weights, backend), initial centres -> Clustering (centres, labels, inertia, iterations)

A pass returns integer sums, so its blocks may be any runs of rows on any thread: the bits do not change. Where
centres start is initialization.py's concern; what a label and a sum are: decisions/0002-labels-and-sums.md.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.backends.protocol import (
    Backend,
    ClusterSums,
    Float64s,
    Grid,
    Int32s,
    Int64s,
    LibraryPlan,
    PreparedRows,
    Rows,
)
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.execution.threads import map_blocks, row_blocks
from engine.kmeans.bounds import Way
from engine.kmeans.fixed_point import centres_of, fixed_point_grid, variances_of

logger = logging.getLogger(__name__)


@dataclass
class RowSet:
    """Rows, their weights (length 0: ones), what passes over them need, and where arrays of one entry a row live."""

    X: Rows
    weights: Float64s
    total: float
    grid: Grid
    backend: Backend
    prepared: PreparedRows
    storage: Storage = IN_MEMORY

    @classmethod
    def of(cls, X: Rows, weights: Float64s | None, backend: Backend, storage: Storage = IN_MEMORY) -> RowSet:
        """Measure and prepare the rows in one pass. X is C-contiguous; weights are finite and not negative.

        Raises
        ------
        ValueError
            If X holds NaN or infinity.
        """
        given = np.empty(0) if weights is None else np.ascontiguousarray(weights, np.float64)
        prepared, low, high = surveyed(X, given, backend, storage)
        total = float(len(X)) if weights is None else math.fsum(given)  # fsum: rounded once, whatever the order
        heaviest = None if weights is None else (total, float(given.max()))
        grid = fixed_point_grid(low, high, X.dtype, len(X), heaviest)
        return cls(X, given, total, grid, backend, prepared, storage)

    def run(self, n_clusters: int) -> Run:
        """Return what carries a run of Lloyd's algorithm over these rows from pass to pass."""
        return Run(self, n_clusters)

    def square_sums(self) -> tuple[Int64s, Int64s]:
        """Return the sums of all rows and of their squares, in fixed point."""
        sums = squares = np.zeros(self.X.shape[1], np.int64)
        for part_sums, part_squares in map_blocks(
            lambda part: self.backend.square_sums(self.X[part], self.weights[part], self.prepared, part, self.grid),
            jobs(len(self.X), self.backend),
        ):
            sums, squares = sums + part_sums, squares + part_squares
        return sums, squares

    def label(self, centres: Rows) -> Int32s:
        """Return the label of every row."""
        labels = self.storage.array("labels", (len(self.X),), np.int32)
        label_rows(self.X, centres, labels, self.backend)
        return labels

    def library_centres(self, start: Rows | str, plan: LibraryPlan) -> tuple[Rows, int]:
        """Return the centres that the K-Means of the device's own library finds, and its number of iterations."""
        return self.backend.library_centres(self.X, self.weights, start, plan)

    def refine(self, n_clusters: int, work: Work) -> bool:
        """Prepare the rows more finely, if what was done since they were prepared says that it pays."""
        finer = self.backend.refine(self.prepared, self.X, n_clusters, work.screened, work.opened, self.storage)
        if finer is None:
            return False
        self.prepared = finer
        for _ in map_blocks(
            lambda part: self.backend.encode(self.X[part], finer, part), jobs(len(self.X), self.backend)
        ):
            pass
        return True


@dataclass(frozen=True)
class Work:
    """What passes cost, in rows: those looked at, those the screen left open, those the definition had to label."""

    screened: int = 0
    opened: int = 0
    defined: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.screened + other.screened, self.opened + other.opened, self.defined + other.defined)


@dataclass(frozen=True)
class Clustering:
    """What a run of Lloyd's algorithm found."""

    centres: Rows
    labels: Int32s
    inertia: float
    n_iter: int
    work: Work


@dataclass(frozen=True)
class Step:
    """An iteration that is done: the centres that rows were labelled by, and those to label them by next."""

    iteration: int
    previous: Rows
    centres: Rows


def jobs(n_rows: int, backend: Backend) -> list[slice]:
    """Return the runs of rows of a pass, as long as the backend likes them: no result depends on it."""
    return list(row_blocks(n_rows, backend.job_rows(n_rows)))


def tolerance(rows: RowSet, tol: float) -> float:
    """Return `tol` times the mean variance of the features: scikit-learn's threshold for the centres' movement."""
    if tol == 0:
        return 0.0
    sums, squares = rows.square_sums()
    return tol * float(variances_of(sums, squares, rows.grid, rows.total).mean())


def lloyd(
    rows: RowSet,
    centres: Rows,
    *,
    max_iter: int,
    tolerance: float,
    verbose: bool = False,
    run: Run | None = None,
    earlier: Step | None = None,
    watch: Callable[[Step], None] | None = None,
) -> Clustering:
    """Iterate from `centres` (n_clusters, n_features) until no label changes or the centres move less than `tolerance`.

    The rule is scikit-learn's: the movement is the squared Frobenius norm; labels that did not change end the run at
    once; otherwise rows are labelled once more, so that labels always belong to the centres returned. `watch` is told
    of every iteration that another one follows, and `earlier` is such a one to go on from, instead of from `centres`.
    A `run` that has labelled the rows by other centres, and has followed them to `centres`, saves a part of the first
    pass; it is carried on.
    """
    run = run or rows.run(len(centres))
    settled = False
    if earlier is not None:
        centres = earlier.centres
        run.relabel(earlier.previous)  # labels depend on the centres alone: so the next pass finds the same changes
        run.follow(earlier.previous, centres)
    for iteration in range(1 if earlier is None else earlier.iteration + 1, max_iter + 1):
        changed = run.relabel(centres)
        moved = run.means(centres)
        movement, previous, centres = _squared_shift(centres, moved), centres, moved
        if verbose:
            logger.info(
                "iteration %d: %d labels changed, centres moved by %.6g; %d rows screened, %d open, %d defined",
                iteration, changed, movement, run.last.screened, run.last.opened, run.last.defined,
            )  # fmt: skip
        settled = changed == 0 and iteration > 1  # the first centres are not the means of the labels before them
        if settled or movement <= tolerance:
            break
        run.follow(previous, centres)
        if watch is not None and iteration < max_iter:
            watch(Step(iteration, previous, centres))
    if not settled:
        if movement <= tolerance:
            run.follow(previous, centres)
        run.relabel(centres)
    found = run.inertia(centres)
    return Clustering(centres, run.labels, found, iteration, run.work)


def surveyed(X: Rows, weights: Float64s, backend: Backend, storage: Storage) -> tuple[PreparedRows, Float64s, Float64s]:
    """Return rows as a backend likes them, and the least and the largest value of every feature."""
    prepared = backend.prepare_rows(X, storage)
    extents = list(
        map_blocks(lambda part: backend.survey(X[part], weights[part], prepared, part), jobs(len(X), backend))
    )
    if not all(finite for _, _, finite in extents):
        from sklearn.utils import assert_all_finite  # half a second that finite rows save

        assert_all_finite(X, input_name="X")
    low = np.min([least for least, _, _ in extents], axis=0)
    high = np.max([largest for _, largest, _ in extents], axis=0)
    return prepared, low, high


class Run:
    """What one run of Lloyd's algorithm carries from pass to pass: labels, sums, and how far the centres have come."""

    def __init__(self, rows: RowSet, n_clusters: int) -> None:
        self.rows = rows
        self.labels: Int32s = rows.storage.array("labels", (len(rows.X),), np.int32)
        self.slack: NDArray[np.float32] = rows.storage.scratch((len(rows.X),), np.float32)
        self.labels.fill(-1)
        self.slack.fill(-np.inf)
        self.sums = np.zeros((n_clusters, rows.X.shape[1]), np.int64)
        self.masses = np.zeros(n_clusters, np.int64)
        self.way = Way(n_clusters)
        self.last, self.work, self.since_prepared = Work(), Work(), Work()

    def copy(self) -> Run:
        """Return a run that goes on from here by itself."""
        other = copy.copy(self)
        other.labels, other.slack = self.labels.copy(), self.slack.copy()
        other.sums, other.masses, other.way = self.sums.copy(), self.masses.copy(), self.way.copy()
        return other

    def relabel(self, centres: Rows) -> int:
        """Label all rows by the centres, keep the sums up to date, and return how many labels changed."""
        rows = self.rows
        backend, prepared = rows.backend, rows.backend.prepare(centres, rows.prepared)
        drift = self.way.drift()

        def one(part: slice) -> ClusterSums:
            return backend.lloyd(
                rows.X[part], rows.weights[part], rows.prepared, part, prepared, drift, rows.grid,
                self.labels[part], self.slack[part],
            )  # fmt: skip

        changed, self.last = 0, Work()
        for found in map_blocks(one, jobs(len(rows.X), rows.backend)):
            self.sums += found.sums
            self.masses += found.masses
            changed += found.changed
            self.last += Work(found.screened, found.opened, found.defined)
        self.work += self.last
        self.since_prepared += self.last
        return changed

    def means(self, centres: Rows) -> Rows:
        """Return the new centres, in the rows' dtype; empty clusters take the farthest rows first."""
        sums, masses = self.sums, self.masses
        empty = np.flatnonzero(masses == 0)
        if len(empty):
            sums, masses = sums.copy(), masses.copy()
            _refill(self.rows, *self.farthest(centres, len(empty) + len(masses)), sums, masses, empty)
        return centres_of(sums, masses, self.rows.grid).astype(self.rows.X.dtype)

    def follow(self, old: Rows, new: Rows) -> None:
        """Note how far the centres have moved, rounded up; and prepare the rows more finely where that pays."""
        steps = np.sqrt(np.square(new.astype(np.float64) - old).sum(axis=1)) * self.rows.backend.units(
            self.rows.prepared
        )
        self.way.follow(steps, self.labels, self.slack)
        if self.rows.refine(len(new), self.since_prepared):
            self.since_prepared = Work()

    def farthest(self, centres: Rows, count: int) -> tuple[Int64s, Int32s]:
        """Return the numbers of the `count` rows farthest from their centres, ties to the lowest, and their labels."""
        numbers = self.far(centres, count)[1]
        return numbers, self.labels[numbers]

    def far(self, centres: Rows, count: int) -> tuple[Float64s, Int64s]:
        """Return squared distances and numbers of the `count` farthest rows, without those on their centre."""
        rows = self.rows

        def of_part(part: slice) -> tuple[Float64s, Int64s]:
            distances = rows.backend.own_distances(rows.X[part], rows.prepared, part, centres, self.labels[part])
            away = np.flatnonzero(distances > 0)
            first = away[np.argsort(-distances[away], kind="stable")[:count]]
            return distances[first], first + part.start

        return first_of(list(map_blocks(of_part, jobs(len(rows.X), rows.backend))), count)

    def inertia(self, centres: Rows) -> float:
        """Return the weighted sum of squared distances of rows to their centres, rounded once."""
        return math.fsum(self.inertia_sums(centres))

    def inertia_sums(self, centres: Rows) -> list[float]:
        """Return what the inertia is the sum of: a number for every SUM_ROWS rows."""
        rows = self.rows
        return inertia_sums(rows.X, rows.weights, centres, self.labels, rows.backend, rows.prepared)


def first_of(parts: list[tuple[Float64s, Int64s]], count: int) -> tuple[Float64s, Int64s]:
    """Return the `count` largest distances of parts that come in order, and the numbers of their rows."""
    distances = np.concatenate([distance for distance, _ in parts])
    numbers = np.concatenate([number for _, number in parts])
    order = np.argsort(-distances, kind="stable")[:count]
    return distances[order], numbers[order]


def label_rows(X: Rows, centres: Rows, labels: Int32s, backend: Backend) -> None:
    """Write the label of every row."""
    for _ in map_blocks(lambda part: backend.label(X[part], centres, labels[part]), jobs(len(X), backend)):
        pass


def inertia(X: Rows, weights: Float64s, centres: Rows, labels: Int32s, backend: Backend) -> float:
    """Return the weighted sum of squared distances of rows to their centres, rounded once."""
    return math.fsum(inertia_sums(X, weights, centres, labels, backend, None))


def inertia_sums(
    X: Rows, weights: Float64s, centres: Rows, labels: Int32s, backend: Backend, prepared: PreparedRows | None
) -> list[float]:
    """Return that sum over every SUM_ROWS rows, each added in order."""
    parts = map_blocks(
        lambda part: backend.inertia(X[part], weights[part], prepared, part, centres, labels[part]),
        jobs(len(X), backend),
    )
    return [float(value) for sums in parts for value in sums]


def _squared_shift(old: Rows, new: Rows) -> float:
    """Return the squared Frobenius norm of new - old, added in order."""
    return float(np.cumsum(np.square(new.astype(np.float64) - old))[-1])


def _refill(rows: RowSet, far: Int64s, labels: Int32s, sums: Int64s, masses: Int64s, empty: Int64s) -> None:
    """Give each empty cluster the farthest row that is left of `far`, and take it from its old cluster, its label.

    A row on its centre, without weight, or alone in its cluster stays: moving it would gain nothing. So clusters
    stay empty where there are fewer distinct rows than clusters.
    """
    waiting = list(empty[::-1])
    grid = rows.grid
    for row, old in zip(far, labels, strict=True):
        if not waiting:
            return
        weight = rows.weights[row] if len(rows.weights) else 1.0
        mass = np.int64(np.rint(weight * grid.mass_scale))
        if 0 < mass < masses[old]:
            new = waiting.pop()
            term = np.rint((rows.X[row].astype(np.float64) - grid.shift) * weight * grid.scale).astype(np.int64)
            sums[old] -= term
            masses[old] -= mass
            sums[new] = term
            masses[new] = mass
