"""Nearest landmarks of rows of a device by the fused kernels of placement.py, in two launches for any number of rows.

    landmarks (n, n_features), positions around every home  ->  FusedLandmarks
    rows, home leaves, FusedLandmarks  ->  neighbors (n_rows, k) int64, squared distances (n_rows, k) float64

Neighbors and distances are those of kernels/arrays/tsne/landmark_neighbors.py, bit by bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.kernels.cuda.kmeans import certificate
from engine.kernels.cuda.kmeans.fused_pass import MAX_SQUARED_NORM, FusedDevice, copy_to_device, find_kernel
from engine.kernels.cuda.launch import ALIGNMENT

Array = Any  # of the array module
HostArray = np.ndarray[Any, Any]

MAX_FEATURES = 128  # rows stay in registers
MAX_NEIGHBORS = 16
TILE_ROWS = 64
RANKED_ROWS = 16  # of a program of rank_landmarks
ROOM = 64  # candidates of a row that are written down


class FusedLandmarks(NamedTuple):
    """Landmarks on the device, ready for searches."""

    arrays: dict[str, Array]  # Around, Landmarks, High, Low, Offsets, Blurs, FrameShift: names of parameters
    n_homes: int
    width: int
    n_landmarks: int
    features: int  # padded
    factor: float


def prepare_landmarks(device: FusedDevice, X: HostArray, around: HostArray) -> FusedLandmarks:
    """Prepare landmarks X (n, n_features) float32, and positions around each home (n_homes, width), n where none is.

    There are at most MAX_FEATURES features, `width` is a multiple of 64, and the positions of a home come first. Rows
    are scored in the frame (x - mean) factor; landmarks too far out for it leave all rows to the definition.
    """
    n, n_features = X.shape
    features = max(16, 1 << (n_features - 1).bit_length())
    with np.errstate(over="ignore", invalid="ignore"):
        shift = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        framed = X.astype(np.float64) - shift
        largest = float(np.abs(framed).max())
    is_sound = 2.0**-60 < largest < 2.0**60
    factor = 2.0 ** -round(float(np.log2(largest))) if is_sound else 1.0
    ready = certificate.prepare_centers(  # of landmarks that are all zero, scores are equal: that excludes nothing
        np, X if is_sound else np.zeros_like(X), shift.astype(np.float64) if is_sound else 0.0, factor, n + 1, features
    )
    arrays = {
        "Around": around.astype(np.int64), "Landmarks": X, "High": ready.high, "Low": ready.low,
        "Offsets": ready.offsets, "Blurs": ready.blurs, "FrameShift": shift if is_sound else np.zeros_like(shift),
    }  # fmt: skip
    return FusedLandmarks(copy_to_device(device.xp, arrays), len(around), around.shape[1], n, features, factor)


def find_landmark_neighbors(
    device: FusedDevice, rows: Array, homes: Array, landmarks: FusedLandmarks, k: int
) -> tuple[Array, Array]:
    """Return the k nearest landmarks around each row's home, and squared distances, both (n_rows, k).

    Rows are (n_rows, n_features) float32. There are at least k landmarks around every home; k is at most MAX_NEIGHBORS.
    """
    xp, (n_rows, n_features) = device.xp, rows.shape
    neighbors, squared = xp.empty((n_rows, k), np.int64), xp.empty((n_rows, k), np.float64)
    if n_rows == 0:
        return neighbors, squared
    if rows.data.ptr % ALIGNMENT or not rows.flags.c_contiguous:
        rows = rows.copy()  # a part of a table may begin anywhere
    order = xp.argsort(homes, kind="stable")
    tiles = lay_out_tiles(xp.bincount(homes, minlength=landmarks.n_homes).get())
    values = landmarks.arrays | copy_to_device(xp, tiles) | {
        "X": rows, "Order": order, "Neighbors": neighbors, "Squared": squared,
        "Candidates": xp.empty((n_rows, ROOM), np.int32), "Counts": xp.empty(n_rows, np.int32),
        "width": landmarks.width, "n_landmarks": landmarks.n_landmarks, "n_features": n_features, "k": k,
        "factor": landmarks.factor, "per_row": certificate.error_bound(n_features).per_row,
        "floor": certificate.FLOOR, "largest": MAX_SQUARED_NORM, "tile_rows": TILE_ROWS,
    }  # fmt: skip
    screen = find_kernel(device, "screen_landmarks", {"ROWS": TILE_ROWS, "FEATURES": landmarks.features, "ROOM": ROOM})
    rank = find_kernel(device, "rank_landmarks", {"ROWS": RANKED_ROWS, "ROOM": ROOM})
    n_tiles = len(tiles["Homes"])
    for kernel, n_programs in ((screen, n_tiles), (rank, n_tiles * (TILE_ROWS // RANKED_ROWS))):
        device.launch(kernel, n_programs, {name: values[name] for name, _ in kernel.parameters if name in values})
    return neighbors, squared


def lay_out_tiles(counts: HostArray) -> dict[str, HostArray]:
    """Return Begins, Ends and Homes (n_tiles,) of tiles of rows sorted by home, of which each has counts[home]."""
    n_tiles = -(-counts // TILE_ROWS)
    homes = np.repeat(np.arange(len(counts)), n_tiles)
    ends, first_tiles = np.cumsum(counts), np.cumsum(n_tiles) - n_tiles
    begins = (ends - counts)[homes] + TILE_ROWS * (np.arange(len(homes)) - first_tiles[homes])
    return {"Begins": begins, "Ends": np.minimum(begins + TILE_ROWS, ends[homes]), "Homes": homes}
