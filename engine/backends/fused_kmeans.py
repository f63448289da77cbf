"""K-Means whose passes of Lloyd's algorithm are fused kernels: one read of the rows, and at most ten launches.

The same device places new rows on the map by fused kernels (engine/tsne/gpu_transform.py); both are tested here.

Labels, sums and their bits are those of array_kmeans.py, which computes all else. The kernels, and what they need to be
launched: kernels/cuda. Opt-in (`algorithm="fused"`), since nothing of this has run on a GPU: not measured yet.
"""

from __future__ import annotations

import numpy as np

from engine.backends.array_kmeans import ArrayBackend, DeviceCenters, PreparedDeviceRows, zero_sums
from engine.backends.cpu import CpuBackend
from engine.backends.protocol import ClusterSums, FixedPointGrid, SkipThresholds
from engine.errors import DeviceNotAvailableError, UsageError
from engine.execution.array_storage import Storage
from engine.kernels.cpu.kmeans import quantize
from engine.kernels.cuda.kmeans import fused_pass
from engine.kernels.cuda.tsne import fused_neighbors
from engine.utils.array_types import Float32s, Float64s, Int32s, Rows

USE_LLOYD = "use algorithm='lloyd': its bits are the same."


class FusedKMeans(ArrayBackend):
    """The methods of ArrayBackend, of which lloyd_pass launches fused kernels on `fused_device`."""

    fused_device: fused_pass.FusedDevice

    def rows_per_lloyd_pass(self, n_rows: int) -> int:
        return max(n_rows, 1)

    def allocate_rows(self, X: Rows, storage: Storage, n_clusters: int | None = None) -> PreparedDeviceRows:
        if X.dtype != np.float32:
            raise UsageError(f"algorithm='fused' takes float32 rows, and these are {X.dtype}.", hint=USE_LLOYD)
        if X.shape[1] > fused_pass.MAX_FEATURES:
            raise UsageError(
                f"algorithm='fused' takes up to {fused_pass.MAX_FEATURES:,} features, and there are {X.shape[1]:,}.",
                hint=USE_LLOYD,
            )
        return super().allocate_rows(X, storage, n_clusters)

    def prepare_centers(self, centers: Rows, rows: PreparedDeviceRows) -> DeviceCenters:
        tiles = fused_pass.choose_tiles(centers.shape[1], len(centers))
        if (len(centers) + tiles.centers) * tiles.features * tiles.feature_blocks > fused_pass.MAX_CENTER_VALUES:
            raise UsageError(f"algorithm='fused' takes fewer than {len(centers):,} clusters.", hint=USE_LLOYD)
        return super().prepare_centers(centers, rows)

    def _center_arrays(self, centers: Rows, quantizer: quantize.RowQuantizer) -> fused_pass.FusedCenters:
        return fused_pass.prepare_centers(
            self.fused_device, centers, quantizer.shift, float(quantizer.factor), quantizer.sound
        )

    def lloyd_pass(
        self,
        X: Rows,
        weights: Float64s,
        rows: PreparedDeviceRows,
        part: slice,
        centers: DeviceCenters,
        thresholds: SkipThresholds,
        grid: FixedPointGrid,
        labels: Int32s,
        gap_bound: Float32s,
    ) -> ClusterSums:
        """Label every row, as ArrayBackend.lloyd_pass does; labels on the device are valid under the same condition."""

        def compute(chunk_values: int) -> ClusterSums:
            if rows.labels is not None and rows.label_ids.pop(part.start, None) != gap_bound[0]:
                self.copy_into(rows.labels[part], labels)  # the kernels replace labels: an error leaves them undefined
            arrays = self._center_arrays(centers.host, rows.quantizer) if centers.arrays is None else centers.arrays
            total, changes = ClusterSums(*zero_sums(centers.host), 0, len(X), 0, 0), []
            list_rows = fused_pass.LIST_ROWS * chunk_values // self.chunk_values  # less where memory ran out
            point = fused_pass.FixedPoint(grid.shift, grid.scale, grid.mass_scale)
            for piece, block in self._blocks(X, rows, part):
                before = self.xp.asarray(labels[piece].copy()) if rows.labels is None else rows.labels[part]
                result = fused_pass.run_pass(
                    self.fused_device, block, self.xp.asarray(weights[piece]), before, arrays, point, list_rows
                )
                changes.append((piece, result.changes))
                total = ClusterSums(
                    total.sums + result.sums, total.masses + result.masses, total.changed + result.n_changed, len(X),
                    total.opened + result.n_open, total.defined + result.n_open,
                )  # fmt: skip
            for piece, changed in changes:  # last, so that `labels` is unchanged if memory runs out before
                for numbers, new_labels in changed:
                    labels[piece][numbers] = new_labels
            if rows.labels is not None:
                gap_bound[0] = rows.label_ids[part.start] = next(rows.next_id)
            return total

        def compute_on_cpu(cpu: CpuBackend) -> ClusterSums:
            rows.label_ids.pop(part.start, None)
            return self._lloyd_pass_on_cpu(cpu, self.to_host(X), weights, centers.host, grid, labels)

        return self.run_in_chunks(compute, compute_on_cpu)

    def check_kernels(self) -> None:
        """Compute a pass, and compare labels and sums with the definition: tensor cores round in ways of their own.

        Raises
        ------
        DeviceNotAvailableError
            If anything differs.
        """
        X, centers = _rows_that_differ_little()
        rows = PreparedDeviceRows(quantize.fit_quantizer(X, quantize.FLOAT32))
        prepared = fused_pass.prepare_centers(
            self.fused_device, centers, rows.quantizer.shift, float(rows.quantizer.factor), rows.quantizer.sound
        )
        point = fused_pass.FixedPoint(np.zeros(X.shape[1]), np.full(X.shape[1], 2.0**20), 1.0)
        put = self.xp.asarray
        labels, expected = put(np.full(len(X), -1, np.int32)), np.empty(len(X), np.int32)
        result = fused_pass.run_pass(self.fused_device, put(X), put(np.empty(0)), labels, prepared, point)
        CpuBackend().label(X, centers, expected)
        sums = np.zeros_like(result.sums)
        np.add.at(sums, expected, np.rint(X.astype(np.float64) * 2.0**20).astype(np.int64))
        n_wrong = int((self.to_host(labels) != expected).sum())
        if n_wrong or (sums != result.sums).any() or (np.bincount(expected) != result.masses).any():
            raise DeviceNotAvailableError(
                f"The fused K-Means kernels do not compute what they should on this GPU: {n_wrong} of {len(X)} labels "
                "of their test are wrong.",
                hint=USE_LLOYD,
            )
        self._check_placement()

    def _check_placement(self) -> None:
        """Find landmarks of rows that lie between two of them, and compare with the definition."""
        X, landmarks = _rows_that_differ_little()
        X, landmarks = X[:1000], np.concatenate([landmarks, X[1000:1200], landmarks[:16]])
        homes, around = np.arange(len(X), dtype=np.int32) % 3, np.full((3, 320), len(landmarks))
        for home in range(3):
            around[home, : len(landmarks) - 64 * home] = np.arange(64 * home, len(landmarks))
        put, k = self.xp.asarray, fused_neighbors.MAX_NEIGHBORS
        prepared = fused_neighbors.prepare_landmarks(self.fused_device, landmarks, around)
        found = fused_neighbors.find_landmark_neighbors(self.fused_device, put(X), put(homes), prepared, k)
        neighbors, squared = map(self.to_host, found)
        distances = np.zeros((len(X), len(landmarks)))
        for x, c in zip(X.T.astype(np.float64), landmarks.T.astype(np.float64), strict=True):
            distances += np.square(x[:, None] - c)
        distances[np.arange(len(landmarks)) < 64 * homes[:, None]] = np.inf
        expected = np.argsort(distances, axis=1, kind="stable")[:, :k]
        wrong = (neighbors != expected) | (squared != np.take_along_axis(distances, expected, axis=1))
        if wrong.any():
            raise DeviceNotAvailableError(
                f"The fused kernels of placement do not compute what they should on this GPU: neighbors of "
                f"{wrong.any(axis=1).sum()} of {len(X)} rows of their test are wrong.",
                hint=USE_LLOYD,
            )


def _rows_that_differ_little() -> tuple[Rows, Rows]:
    """Return rows between two centers, of which one is nearer by 2^-1 to 2^-26 of their distance, and the centers."""
    random = np.random.default_rng(0)
    centers = random.normal(size=(40, 64)).astype(np.float32)
    first, second = random.integers(0, 40, (2, 4096))
    share = 0.5 + random.choice([-1.0, 1.0], 4096) * np.exp2(-random.uniform(1, 26, 4096))
    X = centers[first] + share[:, None] * (centers[second].astype(np.float64) - centers[first])
    return X.astype(np.float32), centers
