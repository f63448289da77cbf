"""Passes of the fused K-Means kernels over rows on a device, compiled and launched by Triton itself.

    rows, labels of the pass before, centers  ->  labels, sums and masses of clusters, rows that stayed open

Under TRITON_INTERPRET=1 the same launches run on the CPU.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import torch

from engine.kernels.cuda.kmeans import certificate, lloyd

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
REFINE_ROWS, REFINE_CENTERS, REFINE_WARPS = 16, 16, 8
REFINE_PROGRAMS = 4  # programs of the kernel of open rows on each multiprocessor
SUM_BITS = 62  # sums of all rows stay below this power of two
TERM_BITS = 50  # so does every term: the kernels round by adding 1.5 * 2^52
SAMPLE_ROWS = 1 << 16


class Tiles(NamedTuple):
    """Sizes of tiles, and the warps of a program."""

    rows: int
    centers: int
    features: int
    feature_blocks: int
    n_warps: int


class FixedPoint(NamedTuple):
    """The integers in which rows are summed: round(w (x - shift) scale), and round(w mass_scale)."""

    shift: Any  # (n_features,) float64
    scale: Any  # (n_features,) float64, powers of two
    mass_scale: float


def default_tiles(n_features: int, n_clusters: int) -> Tiles:
    """Return the tiles that kernels/cuda/build.py compiles for a shape."""
    if n_features > 128:
        n_blocks = 1 << (-(-n_features // 32) - 1).bit_length()
        return Tiles(64, 32, 32, max(8, n_blocks), 4)
    features = max(16, 1 << (n_features - 1).bit_length())
    wide = n_clusters > 32 and features in (16, 64)
    return Tiles(64, 64 if wide else 32, features, 1, 8 if wide else 4)


def choose_fixed_point(X: Any, weighted: bool) -> FixedPoint:
    """Choose the fixed point from rows X (n_rows, n_features), a tensor, whose largest values are read in parts."""
    n_rows, n_features = X.shape
    sample = X[:: max(1, n_rows // SAMPLE_ROWS)].double()
    shift = sample.mean(dim=0).float().double()
    largest = torch.zeros(n_features, dtype=torch.float64, device=X.device)
    for start in range(0, n_rows, 1 << 22):
        part = X[start : start + (1 << 22)]
        low, high = part.amin(dim=0).double(), part.amax(dim=0).double()
        largest = torch.maximum(largest, torch.maximum((low - shift).abs(), (high - shift).abs()))
    reach = np.ceil(np.log2(np.maximum(largest.cpu().numpy(), 1e-30))) + 1
    bits = np.minimum(SUM_BITS - np.ceil(np.log2(n_rows + 1.0)) - 4 * weighted, TERM_BITS - 4 * weighted)
    return FixedPoint(shift.cpu().numpy(), np.exp2(bits - reach), 2.0**20 if weighted else 1.0)


class FusedPass:
    """K-Means on rows of a device by passes of the fused kernels; sums are kept from pass to pass.

    Parameters
    ----------
    X : torch.Tensor
        Rows (n_rows, n_features) float32, contiguous.
    n_clusters : int
    fixed_point : FixedPoint
    weights : torch.Tensor, optional
        Weights (n_rows,) float64, at most 16.
    tiles : Tiles, optional
    n_copies : int
        Copies of the sums, among which programs are spread.
    """

    def __init__(
        self, X: Any, n_clusters: int, fixed_point: FixedPoint, *, weights: Any = None, tiles: Tiles | None = None,
        n_copies: int = 8,
    ) -> None:  # fmt: skip
        (n_rows, n_features), device = X.shape, X.device
        self.X, self.n_clusters, self.fixed_point = X, n_clusters, fixed_point
        self.tiles = default_tiles(n_features, n_clusters) if tiles is None else tiles
        self.n_copies, self.weighted = n_copies, weights is not None
        self._weights = torch.empty(0, dtype=torch.float64, device=device) if weights is None else weights
        self.labels = torch.full((n_rows,), -1, dtype=torch.int32, device=device)
        self._sums = torch.zeros(n_copies, n_clusters, n_features, dtype=torch.int64, device=device)
        self._masses = torch.zeros(n_copies, n_clusters, dtype=torch.int64, device=device)
        self._open = torch.empty(n_rows, dtype=torch.int64, device=device)
        self._counts = torch.zeros(2, dtype=torch.int64, device=device)
        self._shift, self._scale = self._put(fixed_point.shift), self._put(fixed_point.scale)
        self._frame_shift = self._put(fixed_point.shift.astype(np.float32))
        spread = float((X[:SAMPLE_ROWS] - self._frame_shift).abs().amax())
        self._factor = 2.0 ** -int(np.frexp(spread)[1])
        self._bound = certificate.error_bound(n_features).per_row
        self._n_processors = 1
        if device.type == "cuda":
            self._n_processors = torch.cuda.get_device_properties(device).multi_processor_count

    def _put(self, array: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.X.device)

    def set_centers(self, centers: Any) -> None:
        """Split centers (n_clusters, n_features) float32, a NumPy array, for the next pass."""
        tiles, n_features = self.tiles, self.X.shape[1]
        n_padded = -(-self.n_clusters // tiles.centers) * tiles.centers
        shift = self.fixed_point.shift.astype(np.float32).astype(np.float64)
        ready = certificate.prepare_centers(
            np, centers, shift, self._factor, n_padded, tiles.features * tiles.feature_blocks
        )
        transposed = np.zeros((n_features, -(-self.n_clusters // REFINE_CENTERS) * REFINE_CENTERS), np.float32)
        transposed[:, : self.n_clusters] = centers.T
        self._high, self._low = (
            self._put(bits.view(np.int16)).view(torch.bfloat16) for bits in (ready.high, ready.low)
        )
        self._offsets, self._blurs, self._transposed = map(self._put, (ready.offsets, ready.blurs, transposed))

    def label(self) -> None:
        """Launch the kernel that reads the rows once."""
        (n_rows, n_features), tiles, point = self.X.shape, self.tiles, self.fixed_point
        self._counts.zero_()
        lloyd.label_rows[(-(-n_rows // tiles.rows),)](
            self.X, self._weights, self._high, self._low, self._offsets, self._blurs, self._shift, self._frame_shift,
            self._scale, self.labels, self._sums, self._masses, self._open, self._counts, 0, n_rows, self.n_clusters,
            n_features, self._factor, self._bound, certificate.FLOOR, point.mass_scale, self.n_copies,
            ROWS=tiles.rows, CENTERS=tiles.centers, FEATURES=tiles.features, FEATURE_BLOCKS=tiles.feature_blocks,
            WEIGHTED=self.weighted, WIDEN=INTERPRETED, num_warps=tiles.n_warps, num_stages=2, enable_fp_fusion=False,
        )  # fmt: skip

    def refine(self) -> None:
        """Launch the kernel that labels the rows which the first left open."""
        lloyd.refine_rows[(REFINE_PROGRAMS * self._n_processors,)](
            self.X, self._weights, self._transposed, self._shift, self._scale, self.labels, self._sums, self._masses,
            self._open, self._counts, self.n_clusters, self.X.shape[1], self._transposed.shape[1],
            self.fixed_point.mass_scale, self.n_copies, ROWS=REFINE_ROWS, CENTERS=REFINE_CENTERS,
            WEIGHTED=self.weighted, num_warps=REFINE_WARPS, num_stages=2, enable_fp_fusion=False,
        )  # fmt: skip

    def run(self, centers: Any) -> None:
        """Label all rows for these centers, and move the sums."""
        self.set_centers(centers)
        self.label()
        self.refine()

    def counts(self) -> tuple[int, int]:
        """Return how many rows the first kernel left open, and how many labels the pass changed."""
        n_open, n_changed = self._counts.tolist()
        return n_open, n_changed

    def sums(self) -> tuple[Any, Any]:
        """Return sums (n_clusters, n_features) and masses (n_clusters,) of all passes, int64 arrays of NumPy."""
        return self._sums.sum(dim=0).cpu().numpy(), self._masses.sum(dim=0).cpu().numpy()

    def means(self, centers: Any) -> Any:
        """Return the mean of every cluster; the center where a cluster is empty."""
        sums, masses = self.sums()
        point = self.fixed_point
        weight = np.maximum(masses, 1)[:, None] / point.mass_scale
        return np.where(masses[:, None] > 0, sums / point.scale / weight + point.shift, centers).astype(np.float32)
