"""A pass of Lloyd's algorithm over rows of a device by the fused kernels of lloyd.py, in at most ten launches.

    X (n_rows, n_features) float32, labels before, centers, fixed point
      -> labels after, in place; which changed, sums and masses by how much, rows that the first kernel left open

Everything small goes to the device in one copy. Results come back as int64 sums, and the changed labels alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from engine.kernels.cuda.kmeans import certificate
from engine.kernels.cuda.launch import CompiledKernel

Array = Any  # of the array module
HostArray = np.ndarray[Any, Any]

MAX_FEATURES = 1024
MAX_CENTER_VALUES = (1 << 31) - 1  # of padded centers, whose indices are int32
MAX_SQUARED_NORM = 2.0**80  # of a center in the frame: beyond it scores might overflow, and all rows are left open
LIST_ROWS = 1 << 28  # rows of a launch, for which its two lists have room: 8 bytes each
MAX_COPIES = 8  # copies of the sums, among which programs are spread: in a first pass all rows are added
COPIES_BYTES = 1 << 26  # that all copies take at most, but for one. Not measured yet
REFINING_PROGRAMS = 4  # programs of the kernel of open rows on each multiprocessor
PACKING = 256  # bytes: the alignment of arrays that share a buffer


class Tiles(NamedTuple):
    """Rows, centers and features that a program of the labeling kernel holds at a time."""

    rows: int
    centers: int
    features: int
    feature_blocks: int


class FusedDevice(NamedTuple):
    """What passes need of a device."""

    xp: Any
    kernels: tuple[CompiledKernel, ...]
    launch: Callable[[CompiledKernel, int, Mapping[str, Any]], None]
    n_multiprocessors: int


class FusedCenters(NamedTuple):
    """Centers on the device, ready for passes."""

    host: HostArray  # (n_clusters, n_features), as given
    tiles: Tiles
    arrays: dict[str, Array]  # High, Low, Offsets, Blurs, FrameShift, Centers, by the names of the kernels' parameters
    factor: float


class FixedPoint(NamedTuple):
    """The integers in which rows are summed: round(w (x - shift) scale), and round(w mass_scale)."""

    shift: HostArray  # (n_features,) float64
    scale: HostArray  # (n_features,) float64, powers of two
    mass_scale: float


class PassResult(NamedTuple):
    """What a pass changed: arrays of the host."""

    sums: HostArray  # (n_clusters, n_features) int64
    masses: HostArray  # (n_clusters,) int64
    changes: list[tuple[slice | HostArray, HostArray]]  # rows, and their new labels
    n_changed: int
    n_open: int  # rows that the first kernel left to the definition


def choose_tiles(n_features: int, n_clusters: int) -> Tiles:
    """Return the tiles that build.py compiles for a shape: rows of up to 128 features are held whole."""
    if n_features > 128:
        return Tiles(64, 32, 32, max(8, 1 << (-(-n_features // 32) - 1).bit_length()))
    features = max(16, 1 << (n_features - 1).bit_length())
    return Tiles(64, 64 if n_clusters > 32 and features in (16, 64) else 32, features, 1)


def prepare_centers(
    device: FusedDevice, centers: HostArray, shift: HostArray, factor: float, is_sound: bool, tiles: Tiles | None = None
) -> FusedCenters:
    """Prepare centers (n_clusters, n_features) float32, in the frame (x - shift) factor, of which shift is float32.

    If the frame is not sound, or a center lies too far out in it, all rows are left to the definition.
    """
    n_clusters, n_features = centers.shape
    tiles = choose_tiles(n_features, n_clusters) if tiles is None else tiles
    n_padded = -(-n_clusters // tiles.centers) * tiles.centers
    framed = (centers.astype(np.float64) - shift) * factor
    is_sound = is_sound and bool((np.square(framed).sum(axis=1) <= MAX_SQUARED_NORM).all())
    ready = certificate.prepare_centers(  # of centers that are all zero, scores are equal: that proves nothing
        np, centers if is_sound else np.zeros_like(centers), shift.astype(np.float64) if is_sound else 0.0,
        factor if is_sound else 1.0, n_padded, tiles.features * tiles.feature_blocks,
    )  # fmt: skip
    transposed = np.zeros((n_features, n_padded), np.float32)
    transposed[:, :n_clusters] = centers.T
    arrays = {
        "High": ready.high, "Low": ready.low, "Offsets": ready.offsets, "Blurs": ready.blurs,
        "FrameShift": shift.astype(np.float32), "Centers": transposed,
    }  # fmt: skip
    return FusedCenters(centers, tiles, copy_to_device(device.xp, arrays), float(factor))


def run_pass(
    device: FusedDevice, X: Array, weights: Array, labels: Array, centers: FusedCenters, point: FixedPoint,
    list_rows: int = LIST_ROWS,
) -> PassResult:  # fmt: skip
    """Label all rows of X (n_rows, n_features), and replace their labels (n_rows,) int32 in place; -1 is no cluster.

    Weights are (n_rows,) float64, or of length 0 for ones. If an error is raised, labels are undefined.
    """
    xp, (n_rows, n_features), n_clusters = device.xp, X.shape, len(centers.host)
    firsts = range(0, n_rows, list_rows)
    size = 8 * n_clusters * (n_features + 1)
    n_copies = max(1, min(MAX_COPIES, COPIES_BYTES // size))
    counts, sums, masses = allocate_zeros(
        xp, [(len(firsts), 2), (n_copies, n_clusters, n_features), (n_copies, n_clusters)]
    )
    opened, changed = (xp.empty(min(n_rows, list_rows), np.int32) for _ in range(2))
    shared = copy_to_device(xp, {"Shift": point.shift, "Scale": point.scale}) | {
        "X": X, "Weights": weights, "Labels": labels, "Sums": sums, "Masses": masses, "Open": opened,
        "Changed": changed, "n_clusters": n_clusters, "n_features": n_features, "mass_scale": point.mass_scale,
        "n_copies": n_copies,
    }  # fmt: skip
    changes: list[tuple[slice | HostArray, HostArray]] = []
    n_changed = n_open = 0
    for i, first in enumerate(firsts):
        last = min(first + list_rows, n_rows)
        launch_kernels(
            device, centers, shared | {"Counts": counts[i], "first_row": first}, first, last, len(weights) > 0
        )
        opened_here, changed_here = counts[i].get().tolist()
        n_open, n_changed = n_open + opened_here, n_changed + changed_here
        if 2 * changed_here > last - first:
            changes.append((slice(first, last), labels[first:last].get()))
        elif changed_here:
            numbers = changed[:changed_here]
            changes.append((numbers.get() + np.int64(first), labels[first:last][numbers].get()))
    total, mass = (array.sum(axis=0).get() if n_copies > 1 else array[0].get() for array in (sums, masses))
    return PassResult(total, mass, changes, n_changed, n_open)


def launch_kernels(
    device: FusedDevice, centers: FusedCenters, arguments: dict[str, Any], first: int, last: int, weighted: bool
) -> None:
    """Launch the kernel that reads rows first … last - 1 once, then that of open rows, which finds their number."""
    tiles = centers.tiles
    sizes = {"ROWS": tiles.rows, "CENTERS": tiles.centers, "FEATURES": tiles.features}
    label = find_kernel(device, "label_rows", sizes | {"FEATURE_BLOCKS": tiles.feature_blocks, "WEIGHTED": weighted})
    refine = find_kernel(device, "refine_rows", {"WEIGHTED": weighted})
    values = arguments | centers.arrays | {
        "n_rows": last, "factor": centers.factor, "floor": certificate.FLOOR,
        "per_row": certificate.error_bound(arguments["n_features"]).per_row,
        "n_centers_padded": centers.arrays["Centers"].shape[1],
    }  # fmt: skip
    n_refining = min(REFINING_PROGRAMS * device.n_multiprocessors, -(-(last - first) // refine.constants["ROWS"]))
    for kernel, n_programs in ((label, -(-(last - first) // tiles.rows)), (refine, n_refining)):
        device.launch(kernel, n_programs, {name: values[name] for name, _ in kernel.parameters if name in values})


def find_kernel(device: FusedDevice, entry: str, constants: dict[str, Any]) -> CompiledKernel:
    """Return the kernel of these constants; a KeyError says that it was not compiled."""
    for kernel in device.kernels:
        if kernel.entry == entry and constants.items() <= kernel.constants.items():
            return kernel
    raise KeyError(f"{entry} with {constants}")


def copy_to_device(xp: Any, arrays: Mapping[str, HostArray]) -> dict[str, Array]:
    """Copy arrays of the host to the device in one copy; each begins at a multiple of PACKING bytes."""
    starts, end = _places([array.nbytes for array in arrays.values()])
    buffer = np.zeros(end, np.uint8)
    for array, start in zip(arrays.values(), starts, strict=True):
        buffer[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    on_device = xp.asarray(buffer)
    return {
        name: on_device[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        for (name, array), start in zip(arrays.items(), starts, strict=True)
    }


def allocate_zeros(xp: Any, shapes: list[tuple[int, ...]]) -> list[Array]:
    """Allocate int64 arrays of zeros that share a buffer, as copy_to_device places them."""
    sizes = [8 * int(np.prod(shape)) for shape in shapes]
    starts, end = _places(sizes)
    buffer = xp.zeros(end // 8, np.int64)
    return [
        buffer[start // 8 : (start + size) // 8].reshape(shape)
        for start, size, shape in zip(starts, sizes, shapes, strict=True)
    ]


def _places(sizes: list[int]) -> tuple[list[int], int]:
    ends = np.cumsum([-(-size // PACKING) * PACKING for size in sizes])
    return [0, *ends[:-1].tolist()], int(ends[-1])
