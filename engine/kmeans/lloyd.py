"""Lloyd's algorithm for K-Means, as passes over blocks of rows that skip rows whose label cannot change.

    Samples (rows, weights, backend), initial centers -> Clustering (centers, labels, inertia, iterations)

An iteration labels every row by its nearest center and moves every center to the mean of its rows (Lloyd, "Least
squares quantization in PCM", IEEE Transactions on Information Theory 28, 1982). A lower bound on the gap between a
row's two nearest centers, after Hamerly ("Making k-means even faster", SDM 2010), tells which rows keep their label
without a look at them: bounds.py. Only rows that change their label are added to one cluster and taken from another.

Sums are int64 in fixed point, so blocks may be any runs of rows on any threads, and the bits do not change:
fixed_point.py, decisions/0002-labels-and-sums.md. Initial centers are the concern of initialization.py.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.backends.protocol import Backend, ClusterSums, FixedPointGrid, LibraryKMeansSettings, PreparedRows
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.execution.threads import map_blocks, row_blocks
from engine.kmeans.bounds import CenterMovement
from engine.kmeans.fixed_point import cluster_means, feature_variances, fixed_point_grid
from engine.progress import Advance
from engine.utils.array_types import Float64s, Int32s, Int64s, Rows

logger = logging.getLogger(__name__)


@dataclass
class Samples:
    """Rows to cluster, with their weights and all that passes over them need.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64, C-contiguous
    weights : float64 ndarray of shape (n_samples,)
        Empty where every weight is 1.
    total_weight : float
    grid : FixedPointGrid
        The fixed-point format in which rows are summed.
    backend : Backend
    prepared : PreparedRows
        The rows as the backend wants them, for instance quantized or on a GPU.
    storage : Storage
        Where arrays of one entry a row live: in memory, or in mapped files.
    """

    X: Rows
    weights: Float64s
    total_weight: float
    grid: FixedPointGrid
    backend: Backend
    prepared: PreparedRows
    storage: Storage = IN_MEMORY

    @classmethod
    def from_array(
        cls,
        X: Rows,
        weights: Float64s | None,
        backend: Backend,
        storage: Storage = IN_MEMORY,
        n_clusters: int | None = None,
    ) -> Samples:
        """Prepare rows and find the range of their features, in one pass.

        X is C-contiguous; weights are finite and not negative. `n_clusters` is for passes that begin at centers which
        no search has found, and so are many: it decides with which precision they start, and no result.

        Raises
        ------
        ValueError
            If X holds NaN or infinity.
        """
        sample_weights = np.empty(0) if weights is None else np.ascontiguousarray(weights, np.float64)
        prepared, low, high = prepare_and_range(X, sample_weights, backend, storage, n_clusters)
        # math.fsum rounds once, whatever the order of the rows.
        total_weight = float(len(X)) if weights is None else math.fsum(sample_weights)
        total_and_largest = None if weights is None else (total_weight, float(sample_weights.max()))
        grid = fixed_point_grid(low, high, X.dtype, len(X), total_and_largest)
        return cls(X, sample_weights, total_weight, grid, backend, prepared, storage)

    def new_state(self, n_clusters: int) -> LloydState:
        """Return the state of a run of Lloyd's algorithm before its first pass."""
        return LloydState(self, n_clusters)

    def sums_and_squares(self) -> tuple[Int64s, Int64s]:
        """Return the sums of all rows and of their squares (n_features,), in fixed point."""
        sums = squares = np.zeros(self.X.shape[1], np.int64)

        def sum_block(part: slice) -> tuple[Int64s, Int64s]:
            return self.backend.sums_and_squares(self.X[part], self.weights[part], self.prepared, part, self.grid)

        for block_sums, block_squares in map_blocks(sum_block, pass_blocks(len(self.X), self.backend)):
            sums, squares = sums + block_sums, squares + block_squares
        return sums, squares

    def label(self, centers: Rows) -> Int32s:
        """Return the label of every row (n_samples,)."""
        labels = self.storage.array("labels", (len(self.X),), np.int32)
        label_rows(self.X, centers, labels, self.backend)
        return labels

    def library_centers(self, start: Rows | str, plan: LibraryKMeansSettings) -> tuple[Rows, int]:
        """Return the centers found by the K-Means of the device's own library, and its number of iterations."""
        return self.backend.library_centers(self.X, self.weights, self.prepared, start, plan)

    def refine(self, n_clusters: int, counts: PassCounts) -> bool:
        """Prepare the rows in a higher precision if that pays, and return whether it was done.

        `counts` is what passes have cost since the rows were last prepared.
        """
        finer = self.backend.finer_rows(self.prepared, self.X, n_clusters, counts.screened, counts.opened, self.storage)
        if finer is None:
            return False
        self.prepared = finer

        def quantize_block(part: slice) -> None:
            self.backend.requantize_rows(self.X[part], finer, part)

        for _ in map_blocks(quantize_block, pass_blocks(len(self.X), self.backend)):
            pass
        return True


@dataclass(frozen=True)
class PassCounts:
    """Cost of passes: numbers of rows, each number a part of the one before it (decisions/0005)."""

    screened: int = 0  # rows compared with centers, as their bound did not rule out another label
    opened: int = 0  # screened rows that products of quantized rows and centers left open
    defined: int = 0  # opened rows that were labelled by squared distances in float64

    def __add__(self, other: PassCounts) -> PassCounts:
        return PassCounts(self.screened + other.screened, self.opened + other.opened, self.defined + other.defined)


@dataclass(frozen=True)
class Clustering:
    """Result of one run of Lloyd's algorithm."""

    centers: Rows  # (n_clusters, n_features), of the rows' dtype
    labels: Int32s  # (n_samples,)
    inertia: float
    n_iter: int
    pass_counts: PassCounts


@dataclass(frozen=True)
class Iteration:
    """A finished iteration of Lloyd's algorithm, from which a run can be resumed."""

    number: int
    previous_centers: Rows  # the centers by which rows were labelled
    centers: Rows  # the centers by which rows are labelled next


def pass_blocks(n_rows: int, backend: Backend) -> list[slice]:
    """Return the blocks of rows of one pass, as long as the backend likes them: no result depends on it."""
    return list(row_blocks(n_rows, backend.rows_per_block(n_rows)))


def scaled_tolerance(samples: Samples, tol: float) -> float:
    """Return `tol` times the mean variance of the features: scikit-learn's threshold for the shift of the centers."""
    if tol == 0:
        return 0.0
    sums, squares = samples.sums_and_squares()
    return tol * float(feature_variances(sums, squares, samples.grid, samples.total_weight).mean())


def lloyd(
    samples: Samples,
    centers: Rows,
    *,
    max_iter: int,
    tolerance: float,
    verbose: bool = False,
    state: LloydState | None = None,
    resume_from: Iteration | None = None,
    on_iteration: Callable[[Iteration], None] | None = None,
    advance: Advance | None = None,
) -> Clustering:
    """Run Lloyd's algorithm until no label changes, or the centers move by at most `tolerance`.

    The stopping rule is scikit-learn's: the shift of the centers is a squared Frobenius norm, and labels that did not
    change end the run at once; otherwise rows are labelled once more, so that labels always belong to the centers
    returned.

    Parameters
    ----------
    samples : Samples
    centers : ndarray of shape (n_clusters, n_features)
        Initial centers.
    max_iter : int
    tolerance : float
        See `scaled_tolerance`.
    verbose : bool, default=False
        Log every iteration with its inertia, which takes another pass each.
    state : LloydState, optional
        Of a run that labelled the rows by other centers and updated its bounds to `centers`: its bounds make the first
        pass shorter. It is changed in place.
    resume_from : Iteration, optional
        Where to go on, instead of from `centers`.
    on_iteration : callable, optional
        Called with every iteration that another one follows.
    advance : callable, optional
        Called with 1 after every iteration.
    """
    state = state or samples.new_state(len(centers))
    strict_convergence = False
    if resume_from is not None:
        centers = resume_from.centers
        state.relabel(resume_from.previous_centers)  # labels depend on centers alone: the next pass finds the same
        state.update_bounds(resume_from.previous_centers, centers)
    for number in range(1 if resume_from is None else resume_from.number + 1, max_iter + 1):
        n_changed = state.relabel(centers)
        new_centers = state.update_centers(centers)
        if advance is not None:
            advance(1)
        center_shift, previous, centers = _squared_center_shift(centers, new_centers), centers, new_centers
        if verbose:
            counts = state.last_counts
            logger.info(
                "Iteration %d, inertia %.6g: %d labels changed, centers moved by %.6g; "
                "%d rows screened, %d open, %d defined",
                number, state.inertia(previous), n_changed, center_shift,
                counts.screened, counts.opened, counts.defined,
            )  # fmt: skip
        # In the first iteration the centers are not the means of the labels before them.
        strict_convergence = n_changed == 0 and number > 1
        if strict_convergence or center_shift <= tolerance:
            if verbose:
                _log_convergence(number, strict_convergence, center_shift, tolerance)
            break
        state.update_bounds(previous, centers)
        if on_iteration is not None and number < max_iter:
            on_iteration(Iteration(number, previous, centers))
    if not strict_convergence:
        if center_shift <= tolerance:
            state.update_bounds(previous, centers)
        state.relabel(centers)
    return Clustering(centers, state.labels, state.inertia(centers), number, state.pass_counts)


def _log_convergence(number: int, strict: bool, center_shift: float, tolerance: float) -> None:
    reason = "strict convergence" if strict else f"center shift {center_shift:.6g} within tolerance {tolerance:.6g}"
    logger.info("Converged at iteration %d: %s.", number, reason)


def prepare_and_range(
    X: Rows, weights: Float64s, backend: Backend, storage: Storage, n_clusters: int | None = None
) -> tuple[PreparedRows, Float64s, Float64s]:
    """Return the rows as the backend wants them, and the least and the largest value of every feature.

    Raises
    ------
    ValueError
        If X holds NaN or infinity.
    """
    prepared = backend.allocate_rows(X, storage, n_clusters)

    def prepare_block(part: slice) -> tuple[Float64s, Float64s, bool]:
        return backend.prepare_and_range(X[part], weights[part], prepared, part)

    ranges = list(map_blocks(prepare_block, pass_blocks(len(X), backend)))
    if not all(finite for _, _, finite in ranges):
        from sklearn.utils import assert_all_finite  # its import takes half a second, which finite rows save

        assert_all_finite(X, input_name="X")
    low = np.min([least for least, _, _ in ranges], axis=0)
    high = np.max([largest for _, largest, _ in ranges], axis=0)
    return prepared, low, high


class LloydState:
    """State that one run of Lloyd's algorithm carries from pass to pass: labels, bounds, and sums of the clusters.

    Attributes
    ----------
    samples : Samples
    labels : int32 ndarray of shape (n_samples,)
        -1 before the first pass.
    gap_bound : float32 ndarray of shape (n_samples,)
        Lower bound of (distance to the second nearest center - distance to the nearest), when the row was last
        compared with centers, plus the movement of the centers until then: see bounds.py.
    sums : int64 ndarray of shape (n_clusters, n_features)
    masses : int64 ndarray of shape (n_clusters,)
        Weights of the clusters; without weights, numbers of rows.
    movement : CenterMovement
    last_counts : PassCounts
        Of the last pass.
    pass_counts : PassCounts
        Of all passes of the run.
    counts_since_prepared : PassCounts
        Of the passes since the rows were last prepared.
    """

    def __init__(self, samples: Samples, n_clusters: int) -> None:
        self.samples = samples
        self.labels: Int32s = samples.storage.array("labels", (len(samples.X),), np.int32)
        self.gap_bound: NDArray[np.float32] = samples.storage.scratch((len(samples.X),), np.float32)
        self.labels.fill(-1)
        self.gap_bound.fill(-np.inf)
        self.sums = np.zeros((n_clusters, samples.X.shape[1]), np.int64)
        self.masses = np.zeros(n_clusters, np.int64)
        self.movement = CenterMovement(n_clusters)
        self.last_counts, self.pass_counts, self.counts_since_prepared = PassCounts(), PassCounts(), PassCounts()

    def copy(self) -> LloydState:
        """Return an independent copy, which shares nothing but the samples."""
        duplicate = copy.copy(self)
        duplicate.labels, duplicate.gap_bound = self.labels.copy(), self.gap_bound.copy()
        duplicate.sums, duplicate.masses = self.sums.copy(), self.masses.copy()
        duplicate.movement = self.movement.copy()
        return duplicate

    def relabel(self, centers: Rows) -> int:
        """Label all rows by their nearest centers, update the sums, and return how many labels changed."""
        samples, backend = self.samples, self.samples.backend
        prepared_centers = backend.prepare_centers(centers, samples.prepared)
        thresholds = self.movement.skip_thresholds()

        def relabel_block(part: slice) -> ClusterSums:
            return backend.lloyd_pass(
                samples.X[part], samples.weights[part], samples.prepared, part, prepared_centers, thresholds,
                samples.grid, self.labels[part], self.gap_bound[part],
            )  # fmt: skip

        n_changed, self.last_counts = 0, PassCounts()
        blocks = list(row_blocks(len(samples.X), backend.rows_per_lloyd_pass(len(samples.X))))
        for block in map_blocks(relabel_block, blocks):
            self.sums += block.sums
            self.masses += block.masses
            n_changed += block.changed
            self.last_counts += PassCounts(block.screened, block.opened, block.defined)
        self.pass_counts += self.last_counts
        self.counts_since_prepared += self.last_counts
        return n_changed

    def update_centers(self, centers: Rows) -> Rows:
        """Return the means of the clusters as new centers, in the rows' dtype.

        Empty clusters first take the rows farthest from their centers, as scikit-learn has it.
        """
        sums, masses = self.sums, self.masses
        empty = np.flatnonzero(masses == 0)
        if len(empty):
            sums, masses = sums.copy(), masses.copy()
            rows, labels = self.farthest_rows(centers, len(empty) + len(masses))
            _relocate_empty_clusters(self.samples, rows, labels, sums, masses, empty)
        return cluster_means(sums, masses, self.samples.grid).astype(self.samples.X.dtype)

    def update_bounds(self, previous: Rows, centers: Rows) -> None:
        """Add the movement of the centers, rounded up, to the bounds; prepare rows in a higher precision if that pays.

        `previous` and `centers` are of shape (n_clusters, n_features).
        """
        samples = self.samples
        steps = np.sqrt(np.square(centers.astype(np.float64) - previous).sum(axis=1))
        self.movement.add_steps(
            steps * samples.backend.movement_scale(samples.prepared), self.labels, self.gap_bound,
            samples.backend.words_per_row(samples.prepared, samples.X.shape[1]),
        )  # fmt: skip
        if samples.refine(len(centers), self.counts_since_prepared):
            self.counts_since_prepared = PassCounts()

    def farthest_rows(self, centers: Rows, count: int) -> tuple[Int64s, Int32s]:
        """Return the numbers of the `count` rows farthest from their centers, ties to the lowest, and their labels."""
        rows = self.farthest_candidates(centers, count)[1]
        return rows, self.labels[rows]

    def farthest_candidates(self, centers: Rows, count: int) -> tuple[Float64s, Int64s]:
        """Return squared distances and numbers of the `count` farthest rows, without those on their center."""
        samples, backend = self.samples, self.samples.backend

        def farthest_in_block(part: slice) -> tuple[Float64s, Int64s]:
            distances = backend.assigned_distances(samples.X[part], samples.prepared, part, centers, self.labels[part])
            off_center = np.flatnonzero(distances > 0)
            farthest = off_center[np.argsort(-distances[off_center], kind="stable")[:count]]
            return distances[farthest], farthest + part.start

        return merge_farthest(list(map_blocks(farthest_in_block, pass_blocks(len(samples.X), backend))), count)

    def inertia(self, centers: Rows) -> float:
        """Return the weighted sum of squared distances of rows to their centers, rounded once."""
        return math.fsum(self.inertia_sums(centers))

    def inertia_sums(self, centers: Rows) -> list[float]:
        """Return the terms of the inertia: one for every SUM_ROWS rows."""
        samples = self.samples
        return inertia_sums(samples.X, samples.weights, centers, self.labels, samples.backend, samples.prepared)


def merge_farthest(parts: list[tuple[Float64s, Int64s]], count: int) -> tuple[Float64s, Int64s]:
    """Return the `count` largest distances and the numbers of their rows, from those of parts in row order."""
    distances = np.concatenate([part_distances for part_distances, _ in parts])
    rows = np.concatenate([part_rows for _, part_rows in parts])
    order = np.argsort(-distances, kind="stable")[:count]
    return distances[order], rows[order]


def label_rows(X: Rows, centers: Rows, labels: Int32s, backend: Backend) -> None:
    """Write the label of every row (n_rows,)."""
    for _ in map_blocks(lambda part: backend.label(X[part], centers, labels[part]), pass_blocks(len(X), backend)):
        pass


def inertia(X: Rows, weights: Float64s, centers: Rows, labels: Int32s, backend: Backend) -> float:
    """Return the weighted sum of squared distances of rows to their centers, rounded once."""
    return math.fsum(inertia_sums(X, weights, centers, labels, backend, None))


def inertia_sums(
    X: Rows, weights: Float64s, centers: Rows, labels: Int32s, backend: Backend, prepared: PreparedRows | None
) -> list[float]:
    """Return the terms of the inertia: weighted squared distances of SUM_ROWS rows each, added in order."""
    parts = map_blocks(
        lambda part: backend.inertia(X[part], weights[part], prepared, part, centers, labels[part]),
        pass_blocks(len(X), backend),
    )
    return [float(value) for sums in parts for value in sums]


def _squared_center_shift(previous: Rows, centers: Rows) -> float:
    """Return the squared Frobenius norm of centers - previous, added in order."""
    return float(np.cumsum(np.square(centers.astype(np.float64) - previous))[-1])


def _relocate_empty_clusters(
    samples: Samples, rows: Int64s, labels: Int32s, sums: Int64s, masses: Int64s, empty: Int64s
) -> None:
    """Move one row into each empty cluster, in the order of `rows`, and out of the cluster of its label.

    A row on its center, without weight, or alone in its cluster stays: moving it would gain nothing. So clusters
    stay empty where there are fewer distinct rows than clusters.
    """
    waiting = list(empty[::-1])
    grid = samples.grid
    for row, old in zip(rows, labels, strict=True):
        if not waiting:
            return
        weight = samples.weights[row] if len(samples.weights) else 1.0
        mass = np.int64(np.rint(weight * grid.mass_scale))
        if 0 < mass < masses[old]:
            new = waiting.pop()
            term = np.rint((samples.X[row].astype(np.float64) - grid.shift) * weight * grid.scale).astype(np.int64)
            sums[old] -= term
            masses[old] -= mass
            sums[new] = term
            masses[new] = mass
