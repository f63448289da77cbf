"""The interface of a backend: methods that compute one block of rows on one device.

A backend holds no state: a method receives everything it needs and returns all its results, so a block can be computed
on any thread or machine, and again. Where blocks are computed is decided in engine/execution; the estimators combine
their results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from engine.execution.array_storage import Storage
from engine.utils.array_types import Array, Float32s, Float64s, Int32s, Int64s, Rows

SUM_ROWS = 1024  # inertia is summed over groups of so many consecutive rows, then over the groups

LANES = 8  # float64 values of the widest vector registers: widths are padded to multiples of it

# What a backend makes of centers, and stores about rows between passes. Only that backend reads it.
PreparedCenters: TypeAlias = Any  # CPU: quantized centers
PreparedRows: TypeAlias = Any  # CPU: quantized rows; device: rows and labels in its memory


class Moments(NamedTuple):
    """Number of rows, their mean (n_features,), and scatter: the sum of (x - mean)(x - mean)^T."""

    n_rows: int
    mean: Float64s
    scatter: Float64s


class EncodedRows(NamedTuple):
    """Rows of X without its zeros: engine/features/layout.py says which columns of X are dense and which are hot."""

    dense: Float32s  # (n_rows, n_dense)
    starts: Int32s  # (n_rows + 1,): the hot columns of row i are hot[starts[i]:starts[i + 1]]
    hot: Int32s


class EncodedMoments(NamedTuple):
    """Second moments about 0 of encoded rows; those of several blocks add up."""

    n_rows: int
    gram: Float64s  # (n_dense + 1, width): of dense columns; the last row holds their sums. Zeros beyond n_dense
    cross: Float64s  # (n_hot_columns, width): sums of the dense columns over the rows where a column is hot
    pairs: Int64s  # (n_hot_columns, n_hot_columns): rows where both are hot, each pair on one side of the diagonal

    def plus(self, other: EncodedMoments) -> EncodedMoments:
        """Return the moments of both sets of rows together."""
        return EncodedMoments(
            self.n_rows + other.n_rows, self.gram + other.gram, self.cross + other.cross, self.pairs + other.pairs
        )


class Projection(NamedTuple):
    """Coefficients of the scores of encoded rows: base + dense @ dense_axes + the sum of the hot columns' hot_axes.

    Columns beyond n_components are zero. With `shortest`, scores are then divided by their length, and those shorter
    than it become 0.
    """

    n_components: int
    base: Float64s  # (width,)
    dense_axes: Float64s  # (n_dense, width)
    hot_axes: Float64s  # (n_hot_columns, width)
    shortest: float | None = None


class FixedPointGrid(NamedTuple):
    """Fixed-point format in which the rows of clusters are summed: see engine/kmeans/fixed_point.py."""

    shift: Float64s  # (n_features,): subtracted from rows
    scale: Float64s  # (n_features,): powers of two; w (x - shift) * scale is rounded to an integer
    square_scale: Float64s  # (n_features,): the same for w (x - shift)^2
    mass_scale: float  # a power of two for the weights; 1 without weights


class SkipThresholds(NamedTuple):
    """Movement since the run began of each center plus that of the fastest other center: see engine/kmeans/bounds.py.

    A row is skipped while its gap bound exceeds the threshold of its cluster. The last steps of the fast centers are
    left out, because every row is compared with those; rows whose own center is fast are never skipped.
    """

    lower: Float32s  # (n_clusters,): rounded down; added to a row's gap where its gap bound is stored
    upper: Float32s  # (n_clusters,): rounded up, infinite for fast centers; what gap bounds are compared with
    fast_centers: Int32s  # (n_fast,)


class ClusterSums(NamedTuple):
    """Changes of the clusters' sums by a pass over one block, in the format of a FixedPointGrid, and its row counts."""

    sums: Int64s  # (n_clusters, n_features)
    masses: Int64s  # (n_clusters,): weights; without weights, counts
    changed: int  # rows whose label changed
    screened: int  # rows that were not skipped: the filter compared them with centers
    opened: int  # screened rows that the filter left undecided
    defined: int  # opened rows that were labelled by distances in float64, the definition


class TwoNearest(NamedTuple):
    """The two nearest centers of every row by Euclidean distance, each (n_rows,).

    With a single center, second labels are -1 and second distances infinite.
    """

    labels: Int32s
    distances: Float32s
    second_labels: Int32s
    second_distances: Float32s

    def margin(self) -> Float32s:
        """Return 1 - distance / second distance in [0, 1]: 0 on the border of two clusters, or if both are 0."""
        ratio = np.ones_like(self.distances)
        np.divide(self.distances, self.second_distances, out=ratio, where=self.second_distances > 0)
        return np.float32(1) - ratio


class LibraryKMeansSettings(NamedTuple):
    """Parameters of the K-Means of a device's own library (cuML)."""

    n_clusters: int
    n_init: int
    max_iter: int
    tol: float  # squared movement of all centers at which a run ends, in the unit of the rows
    seed: int


class PrincipalAxes(NamedTuple):
    """Mean of rows and all their principal axes, in descending order of their variances."""

    mean: Float64s  # (n_features,)
    variances: Float64s  # (n_axes,)
    axes: Float64s  # (n_axes, n_features)


class Backend(Protocol):
    """Computation of blocks on one device. `weights` of length 0 stands for ones."""

    name: str
    kernels: str  # what computes the blocks: "numba" or "CuPy"
    one_per_worker: bool  # whether every worker process needs a device of its own
    libraries: frozenset[str]  # libraries of the device that compute whole stages: "cudf" and "cuml"
    missing_libraries: Mapping[str, str]  # why libraries of the device cannot be used, by name
    device_errors: tuple[type[Exception], ...]  # raised by the device and its libraries, besides MemoryError

    def moments(self, X: Rows) -> Moments:
        """Return count, mean and scatter of a block, in float64."""

    def scores(self, X: Rows, mean: Float64s, axes: Float64s) -> Rows:
        """Return (X - mean) @ axes, computed in float64, in the dtype of X."""

    def encoded_moments(self, rows: EncodedRows, n_hot_columns: int) -> EncodedMoments:
        """Return the moments of encoded rows, in float64 and counts."""

    def encoded_scores(self, rows: EncodedRows, projection: Projection, out: Rows | None = None) -> Rows:
        """Return the scores (n_rows, n_components) of encoded rows, computed in float64; written to `out` if given."""

    def allocate_scores(self, shape: tuple[int, int], storage: Storage) -> Rows:
        """Return an uninitialized float32 matrix for scores, in the memory from which passes read them fastest.

        It is an array "Z" of the storage, or supports slices and row numbers as one does: see device_matrix.py.
        """

    def rows_per_block(self, n_rows: int) -> int:
        """Return the number of rows in a block of a pass over `n_rows` prepared rows: a multiple of SUM_ROWS."""

    def rows_per_lloyd_pass(self, n_rows: int) -> int:
        """Return the number of rows in a block of lloyd_pass."""

    def allocate_rows(self, X: Rows, storage: Storage, n_clusters: int | None = None) -> PreparedRows:
        """Allocate what is stored about the rows X between passes; its scale is chosen on a sample of them.

        With the number of clusters of many passes to come, so is the precision that they start with.
        """

    def prepare_and_range(
        self, X: Rows, weights: Float64s, rows: PreparedRows, part: slice
    ) -> tuple[Float64s, Float64s, bool]:
        """Prepare a block, rows `part` of all, and return its range.

        The range is the smallest and the largest value of every feature over rows whose weight is not 0, and whether
        all values are finite.
        """

    def finer_rows(
        self, rows: PreparedRows, X: Rows, n_clusters: int, screened: int, opened: int, storage: Storage
    ) -> PreparedRows | None:
        """Allocate a preparation of the rows X in higher precision, if it pays; else return None.

        `screened` and `opened` count rows since the rows were last prepared, as in ClusterSums.
        """

    def requantize_rows(self, X: Rows, rows: PreparedRows, part: slice) -> None:
        """Prepare a block again, for rows returned by `finer_rows`."""

    def words_per_row(self, rows: PreparedRows, n_features: int) -> int:
        """Return the number of 32-bit words of a row that a pass reads to rank centers."""

    def movement_scale(self, rows: PreparedRows) -> float:
        """Return the factor by which movements of centers are multiplied, so that they have the unit of gap bounds."""

    def sums_and_squares(
        self, X: Rows, weights: Float64s, rows: PreparedRows, part: slice, grid: FixedPointGrid
    ) -> tuple[Int64s, Int64s]:
        """Return the sums of w (x - shift) and of w (x - shift)^2 per feature, in fixed point."""

    def prepare_centers(self, centers: Rows, rows: PreparedRows) -> PreparedCenters:
        """Prepare centers (n_clusters, n_features) for a pass over prepared rows; all its blocks share the result."""

    def lloyd_pass(
        self,
        X: Rows,
        weights: Float64s,
        rows: PreparedRows,
        part: slice,
        centers: PreparedCenters,
        thresholds: SkipThresholds,
        grid: FixedPointGrid,
        labels: Int32s,
        gap_bound: Float32s,
    ) -> ClusterSums:
        """Label a block, rows `part` of all, in place, and return the changes of the clusters' sums.

        Label -1 marks a row that is in no cluster yet. `gap_bound` (n_rows,) is read and written by the backend alone:
        the row is compared with centers again once its threshold reaches it; -infinity at first.
        """

    def label(self, X: Rows, centers: Rows, labels: Int32s) -> None:
        """Write the label of every row to `labels`."""

    def assigned_distances(
        self, X: Rows, rows: PreparedRows | None, part: slice, centers: Rows, labels: Int32s
    ) -> Float64s:
        """Return the squared distance of every row to the center of its label, by the definition in float64.

        `rows` are the prepared rows of which the block is `part`, or None if the rows were not prepared.
        """

    def inertia(
        self, X: Rows, weights: Float64s, rows: PreparedRows | None, part: slice, centers: Rows, labels: Int32s
    ) -> Float64s:
        """Return the weighted sums of assigned_distances over every SUM_ROWS rows, each added in order."""

    def nearest_two(self, X: Rows, centers: Rows) -> TwoNearest:
        """Return the labels of the two nearest centers of every row, and the distances to them."""

    def distances(self, X: Rows, centers: Rows) -> Rows:
        """Return Euclidean distances (n_rows, n_clusters) in the dtype of X."""

    def with_fused_kernels(self) -> Backend:
        """Return a backend of the same device whose lloyd_pass and placement of rows launch fused kernels.

        Raises
        ------
        UsageError
            If the device is no GPU.
        DeviceNotAvailableError
            If the kernels were not compiled for the GPU, or fail their test there.
        """

    def library_centers(
        self, X: Rows, weights: Float64s, rows: PreparedRows, start: Rows | str, plan: LibraryKMeansSettings
    ) -> tuple[Rows, int]:
        """Return the centers found by the K-Means of the device's own library, and its number of iterations.

        `start` is the initial centers, or the library's name of a method to choose them. X is finite, and `rows` are
        its prepared rows.

        Raises
        ------
        UsageError
            If the device has no such library.
        OutOfResourcesError
            If the rows, or what the library needs beside them, do not fit on the device.
        """

    def allocate_columns(self, shape: tuple[int, int]) -> Array:
        """Return a matrix of float32 zeros for `library_axes`, on the device, column after column; errors as there.

        OutOfResourcesError is also raised if the library does not take matrices of this shape.
        """

    def library_axes(self, X: Array) -> PrincipalAxes:
        """Return all principal axes of a matrix of `allocate_columns`, by the PCA of the device's own library.

        X is overwritten. Errors are those of `library_centers`.
        """
