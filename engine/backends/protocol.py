"""The verbs by which one block of rows is computed, on whatever device.

A backend holds no state: everything a verb needs comes in, everything it found goes out, so a block may be
computed on any thread or machine, and again. Where blocks are computed is the executor's concern
(engine/execution), what they add up to is the estimators'.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.execution.array_storage import Storage

Rows: TypeAlias = NDArray[np.floating[Any]]  # (n_rows, n_features) float32 or float64, C-contiguous
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]
SUM_ROWS = 1024  # inertia is added over so many rows by global number, then over those sums

LANES = 8  # float64 values of the widest vector registers: widths are padded to multiples of it

Prepared: TypeAlias = Any  # centres, or a map, as one backend likes them; only that backend looks inside
PreparedRows: TypeAlias = Any  # and rows


class Moments(NamedTuple):
    """Number of rows, their mean (n_features,), and scatter: the sum of (x - mean)(x - mean)^T."""

    n_rows: int
    mean: Float64s
    scatter: Float64s


class EncodedRows(NamedTuple):
    """Rows of X without its zeros: engine/features/layout.py says which columns of X are dense and which are hot."""

    dense: NDArray[np.float32]  # (n_rows, n_dense)
    starts: Int32s  # (n_rows + 1,): the hot columns of row i are hot[starts[i]:starts[i + 1]]
    hot: Int32s


class EncodedMoments(NamedTuple):
    """Second moments about 0 of encoded rows; they add up."""

    n_rows: int
    gram: Float64s  # (n_dense + 1, width): of dense columns; the last row holds their sums. Zeros beyond n_dense
    cross: Float64s  # (n_hot_columns, width): sums of the dense columns over the rows where a column is hot
    pairs: Int64s  # (n_hot_columns, n_hot_columns): rows where both are hot, each pair on one side of the diagonal


class Projection(NamedTuple):
    """Scores of encoded rows: base + dense @ dense_axes + the sum of hot_axes; zeros beyond n_components."""

    n_components: int
    base: Float64s  # (width,)
    dense_axes: Float64s  # (n_dense, width)
    hot_axes: Float64s  # (n_hot_columns, width)


class Grid(NamedTuple):
    """The fixed point in which centres are summed: see engine/kmeans/fixed_point.py."""

    shift: Float64s  # (n_features,): subtracted from rows
    scale: Float64s  # (n_features,): powers of two; w (x - shift) * scale is rounded to an integer
    square_scale: Float64s  # (n_features,): the same for w (x - shift)^2
    mass_scale: float  # a power of two for the weights; 1 without weights


class Drift(NamedTuple):
    """Per cluster, how far its centre and the fastest other one have moved since the start, together.

    The last steps of the fast centres are left out: every row has to be compared to those. Their own rows always wait.
    """

    least: NDArray[np.float32]  # (n_clusters,): rounded down
    most: NDArray[np.float32]  # (n_clusters,): rounded up; infinite for fast ones
    fast: Int32s  # (n_fast,): their numbers


class ClusterSums(NamedTuple):
    """What a pass over one block adds to the clusters, in the fixed point of a Grid, and what it cost."""

    sums: Int64s  # (n_clusters, n_features)
    masses: Int64s  # (n_clusters,): weights; without weights, counts
    changed: int  # rows whose label is another one than before
    screened: int  # rows that may have changed, and were looked at
    opened: int  # of those, rows that the screen left open
    defined: int  # of those, rows whose label only the float64 definition could tell


class Nearest(NamedTuple):
    """The two nearest centres of every row, by Euclidean distance; with one centre: -1 and infinity."""

    labels: Int32s
    distance: NDArray[np.float32]
    runner_up: Int32s
    second: NDArray[np.float32]

    def margin(self) -> NDArray[np.float32]:
        """Return 1 - distance / second in [0, 1]: 0 on the border of two clusters, also where both distances are 0."""
        ratio = np.ones_like(self.distance)
        np.divide(self.distance, self.second, out=ratio, where=self.second > 0)
        return np.float32(1) - ratio


class LibraryPlan(NamedTuple):
    """How the K-Means of a device's own library is to run."""

    n_clusters: int
    n_runs: int
    max_iter: int
    tol: float
    seed: int


class Backend(Protocol):
    """One device's way to compute a block. `weights` of length 0 stands for ones."""

    name: str
    one_per_worker: bool  # whether a worker process is to have a device of its own
    libraries: frozenset[str]  # of the device, that do a whole stage: "cudf" reads tables, "cuml" embeds

    def moments(self, X: Rows) -> Moments:
        """Return count, mean and scatter of a block, in float64."""

    def scores(self, X: Rows, mean: Float64s, axes: Float64s) -> Rows:
        """Return (X - mean) @ axes, computed in float64, in the dtype of X."""

    def encoded_moments(self, rows: EncodedRows, n_hot_columns: int) -> EncodedMoments:
        """Return the moments of encoded rows, in float64 and counts."""

    def encoded_scores(self, rows: EncodedRows, projection: Projection, out: Rows | None = None) -> Rows:
        """Return the scores of encoded rows, computed in float64: (n_rows, n_components); in `out`, where given."""

    def room(self, shape: tuple[int, int], storage: Storage) -> Rows:
        """Return room for float32 scores, where passes over them have them at hand.

        It is an array of the storage, "Z", or takes runs of rows and picked rows as one does: see device_matrix.py.
        """

    def job_rows(self, n_rows: int) -> int:
        """Return how many of `n_rows` rows a block of a pass over prepared rows has: a multiple of SUM_ROWS."""

    def prepare_rows(self, X: Rows, storage: Storage) -> PreparedRows:
        """Make room for what is kept about the rows X between passes; a sample of them tells what they are like."""

    def survey(self, X: Rows, weights: Float64s, rows: PreparedRows, part: slice) -> tuple[Float64s, Float64s, bool]:
        """Prepare a block, rows `part` of all.

        Return the least and the largest value of every feature over rows whose weight is not 0, and whether all is
        finite.
        """

    def refine(
        self, rows: PreparedRows, X: Rows, n_clusters: int, screened: int, opened: int, storage: Storage
    ) -> PreparedRows | None:
        """Return room for a finer preparation of the rows X, if it pays.

        So many rows were screened and left open since they were last prepared: None says to go on as they are.
        """

    def encode(self, X: Rows, rows: PreparedRows, part: slice) -> None:
        """Prepare a block again, after `refine`."""

    def units(self, rows: PreparedRows) -> float:
        """Return the factor by which drifts are to be multiplied."""

    def square_sums(
        self, X: Rows, weights: Float64s, rows: PreparedRows, part: slice, grid: Grid
    ) -> tuple[Int64s, Int64s]:
        """Return the sums of w (x - shift) and of w (x - shift)^2 per feature, in fixed point."""

    def prepare(self, centres: Rows, rows: PreparedRows) -> Prepared:
        """Make centres (n_clusters, n_features) ready for prepared rows: once a pass, used by all its blocks."""

    def lloyd(
        self,
        X: Rows,
        weights: Float64s,
        rows: PreparedRows,
        part: slice,
        centres: Prepared,
        drift: Drift,
        grid: Grid,
        labels: Int32s,
        slack: NDArray[np.float32],
    ) -> ClusterSums:
        """Label a block, rows `part` of all, in place, and return the sums of what came to or left each cluster.

        A row of label -1 has been in no cluster. `slack` is the backend's own note, a number a row: how large the drift
        may become before the row has to be looked at again; -infinity at first.
        """

    def label(self, X: Rows, centres: Rows, labels: Int32s) -> None:
        """Write the label of every row."""

    def own_distances(self, X: Rows, rows: PreparedRows | None, part: slice, centres: Rows, labels: Int32s) -> Float64s:
        """Return the squared distance of every row to the centre of its label, as defined.

        `rows` are the prepared rows of which the block is `part`, None where nobody prepared them.
        """

    def inertia(
        self, X: Rows, weights: Float64s, rows: PreparedRows | None, part: slice, centres: Rows, labels: Int32s
    ) -> Float64s:
        """Return the weighted sums of own_distances over every SUM_ROWS rows, each added in order."""

    def nearest_two(self, X: Rows, centres: Rows) -> Nearest:
        """Return label, distance, runner-up and the distance to it."""

    def distances(self, X: Rows, centres: Rows) -> Rows:
        """Return Euclidean distances (n_rows, n_clusters) in the dtype of X."""

    def library_centres(self, X: Rows, weights: Float64s, start: Rows | str, plan: LibraryPlan) -> tuple[Rows, int]:
        """Return the centres that the K-Means of the device's own library finds, and its number of iterations.

        `start` is centres, or the library's name of a way to choose them. X is finite.
        """
