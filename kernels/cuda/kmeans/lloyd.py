"""One pass of Lloyd's algorithm by one read of X: labels, certificate, list of open rows, and int64 sums (Triton).

    X (n_rows, n_features) float32, centers in two bfloat16 parts, labels before
      -> labels after, open and changed rows, sums (n_copies, n_clusters, n_features) and masses of what moved

label_rows scores a tile of rows against tiles of centers on tensor cores, keeps the two lowest scores of every row, and
certifies the label where they lie farther apart than the error bound (certificate.py). The tile's rows are still in
registers when rows that changed their cluster are moved between the sums. Rows that the bound leaves open keep their
label, and their numbers go to a list; refine_rows labels those by the float64 definition, and moves them likewise.
Rows whose label changed go to a second list. Numbers in lists count from the first row of a launch: they are int32.

Nothing is written per row and center. Sums are integers, so the order of atomic additions does not matter: the bits are
those of kernels/cpu/kmeans/lloyd.py. Not measured yet on a GPU: it runs in Triton's interpreter and compiles offline.
"""

from __future__ import annotations

import triton
import triton.language as tl

ROUND_TO_EVEN = tl.constexpr(6755399441055744.0)  # 1.5 * 2^52: adding and subtracting it rounds to an integer
FEATURES_MOVED = tl.constexpr(16)  # features whose sums a program changes at a time: with 64, registers spill


@triton.jit
def _bfloat16_parts(values):  # type: ignore[no-untyped-def]
    """Split float32 values into two bfloat16 parts, rounded half to even by their bits."""
    bits = values.to(tl.uint32, bitcast=True)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    high = bits.to(tl.float32, bitcast=True)
    rest = (values - high).to(tl.uint32, bitcast=True)
    rest = (rest + 0x7FFF + ((rest >> 16) & 1)) & 0xFFFF0000
    return high.to(tl.bfloat16), rest.to(tl.float32, bitcast=True).to(tl.bfloat16)


@triton.jit
def _framed_rows(X, Shift, row, live, feature, n_features, factor):  # type: ignore[no-untyped-def]
    """Load rows' values of some features, shifted and scaled; zeros beyond the last row and feature."""
    inside = feature < n_features
    x = tl.load(X + row[:, None] * n_features + feature[None, :], mask=live[:, None] & inside[None, :], other=0.0)
    shift = tl.load(Shift + feature, mask=inside, other=0.0)
    return tl.where(live[:, None] & inside[None, :], (x - shift[None, :]) * factor, 0.0)


@triton.jit
def _products(  # type: ignore[no-untyped-def]
    high, low, High, Low, center, feature, n_features_padded, WIDEN: tl.constexpr,
):  # fmt: skip
    """Return the scalar products of rows and centers, of three bfloat16 products: the small ones first.

    WIDEN casts the parts to float32, in which their products are exact, too: for Triton's interpreter, whose tl.dot
    multiplies the bits of bfloat16 numbers as integers.
    """
    at = center[None, :] * n_features_padded + feature[:, None]
    center_high, center_low = tl.load(High + at), tl.load(Low + at)
    if WIDEN:
        high, low = high.to(tl.float32), low.to(tl.float32)
        center_high, center_low = center_high.to(tl.float32), center_low.to(tl.float32)
    products = tl.dot(low, center_high)
    products = tl.dot(high, center_low, products)
    return tl.dot(high, center_high, products)


@triton.jit
def _move_rows(  # type: ignore[no-untyped-def]
    X, Weights, Shift, Scale, Sums, row, moved, before, after, n_features, n_clusters, copy, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Add moved rows to the sums of the clusters they come to, and take them from those they leave.

    A few features at a time, or 64-bit values and addresses would not fit in registers; the rows are in the L1 cache.
    """
    to = copy * n_clusters + after.to(tl.int64)
    out_of = copy * n_clusters + before.to(tl.int64)
    left = moved & (before >= 0)
    for first in range(0, n_features, FEATURES_MOVED):
        feature = first + tl.arange(0, FEATURES_MOVED)
        inside = feature < n_features
        x = tl.load(X + row[:, None] * n_features + feature[None, :], mask=moved[:, None] & inside[None, :], other=0.0)
        term = x.to(tl.float64) - tl.load(Shift + feature, mask=inside, other=0.0)[None, :]
        if WEIGHTED:
            term *= tl.load(Weights + row, mask=moved, other=0.0)[:, None]
        term *= tl.load(Scale + feature, mask=inside, other=0.0)[None, :]
        whole = ((term + ROUND_TO_EVEN) - ROUND_TO_EVEN).to(tl.int64)
        come, gone = moved[:, None] & inside[None, :], left[:, None] & inside[None, :]
        tl.atomic_add(Sums + to[:, None] * n_features + feature[None, :], whole, mask=come, sem="relaxed")
        tl.atomic_add(Sums + out_of[:, None] * n_features + feature[None, :], -whole, mask=gone, sem="relaxed")


@triton.jit
def _move_masses(  # type: ignore[no-untyped-def]
    Weights, mass_scale, Masses, row, moved, before, after, n_clusters, copy, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Move the weights of rows, in fixed point, as _move_rows moves their values."""
    mass = tl.full(row.shape, 1, tl.int64)
    if WEIGHTED:
        weight = tl.load(Weights + row, mask=moved, other=0.0)
        mass = ((weight * mass_scale + ROUND_TO_EVEN) - ROUND_TO_EVEN).to(tl.int64)
    tl.atomic_add(Masses + copy * n_clusters + after.to(tl.int64), mass, mask=moved, sem="relaxed")
    left = moved & (before >= 0)
    tl.atomic_add(Masses + copy * n_clusters + before.to(tl.int64), -mass, mask=left, sem="relaxed")


@triton.jit
def _list_rows(List, Count, number, chosen, n_chosen):  # type: ignore[no-untyped-def]
    """Append the numbers of the chosen rows to a list of int32, whose length is at Count."""
    begin = tl.atomic_add(Count, n_chosen, sem="relaxed")
    tl.store(List + begin + tl.cumsum(chosen.to(tl.int64), 0) - 1, number.to(tl.int32), mask=chosen)


@triton.jit
def label_rows(  # type: ignore[no-untyped-def]
    X, Weights, High, Low, Offsets, Blurs, Shift, FrameShift, Scale, Labels, Sums, Masses, Open, Changed, Counts,
    first_row, n_rows, n_clusters, n_features, factor, per_row, floor, mass_scale, n_copies,
    ROWS: tl.constexpr, CENTERS: tl.constexpr, FEATURES: tl.constexpr, FEATURE_BLOCKS: tl.constexpr,
    WEIGHTED: tl.constexpr, WIDEN: tl.constexpr = False,
):  # fmt: skip
    """Label rows from `first_row` on, ROWS of them by CENTERS centers at a time, up to row n_rows - 1.

    FEATURES * FEATURE_BLOCKS is n_features, padded. Labels are replaced in place; -1 is no cluster. Counts is int64:
    rows left open, rows whose label changed. Open and Changed have room for all rows of the launch.
    """
    program = tl.program_id(0).to(tl.int64)
    row = first_row + program * ROWS + tl.arange(0, ROWS)
    live = row < n_rows
    feature = tl.arange(0, FEATURES)
    tile = tl.arange(0, CENTERS)
    padded: tl.constexpr = FEATURES * FEATURE_BLOCKS
    y = _framed_rows(X, FrameShift, row, live, feature, n_features, factor)
    size = tl.sum(y * y, 1)
    high, low = _bfloat16_parts(y)  # with one block of features, rows stay in registers from here to the scores
    for block in range(1, FEATURE_BLOCKS):
        y = _framed_rows(X, FrameShift, row, live, block * FEATURES + feature, n_features, factor)
        size += tl.sum(y * y, 1)
    lowest = tl.full((ROWS,), float("inf"), tl.float32)
    second = tl.full((ROWS,), float("inf"), tl.float32)
    label = tl.zeros((ROWS,), tl.int32)
    for first in range(0, n_clusters, CENTERS):
        center = first + tile
        if FEATURE_BLOCKS == 1:
            products = _products(high, low, High, Low, center, feature, padded, WIDEN)
        else:
            products = tl.zeros((ROWS, CENTERS), tl.float32)
            for block in range(FEATURE_BLOCKS):
                own = block * FEATURES + feature
                own_high, own_low = _bfloat16_parts(_framed_rows(X, FrameShift, row, live, own, n_features, factor))
                products += _products(own_high, own_low, High, Low, center, own, padded, WIDEN)
        score = tl.load(Offsets + center)[None, :] - products
        tile_lowest, place = tl.min(score, 1, return_indices=True, return_indices_tie_break_left=True)
        tile_second = tl.min(tl.where(tile[None, :] == place[:, None], float("inf"), score), 1)
        second = tl.minimum(tl.maximum(lowest, tile_lowest), tl.minimum(second, tile_second))
        label = tl.where(tile_lowest < lowest, first + place, label)  # of equal scores the lower center stays
        lowest = tl.minimum(lowest, tile_lowest)
    certain = second - lowest > tl.load(Blurs + label) + 2.0 * per_row * size + floor
    before = tl.load(Labels + row, mask=live, other=-1)
    after = tl.where(certain, label, before)
    is_open = live & (certain == 0)
    n_open = tl.sum(is_open.to(tl.int64), 0)
    if n_open > 0:
        _list_rows(Open, Counts, row - first_row, is_open, n_open)
    moved = live & (after != before)
    n_moved = tl.sum(moved.to(tl.int64), 0)
    if n_moved > 0:
        _list_rows(Changed, Counts + 1, row - first_row, moved, n_moved)
        tl.store(Labels + row, after, mask=moved)
        copy = program % n_copies
        _move_rows(
            X, Weights, Shift, Scale, Sums, row, moved, before, after, n_features, n_clusters, copy, WEIGHTED
        )  # fmt: skip
        _move_masses(Weights, mass_scale, Masses, row, moved, before, after, n_clusters, copy, WEIGHTED)


@triton.jit
def refine_rows(  # type: ignore[no-untyped-def]
    X, Weights, Centers, Shift, Scale, Labels, Sums, Masses, Open, Changed, Counts,
    first_row, n_clusters, n_features, n_centers_padded, mass_scale, n_copies,
    ROWS: tl.constexpr, CENTERS: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Label open rows by the definition: float64 squared distances, features in their order, ties to the lowest.

    Centers (n_features, n_centers_padded) is float32, transposed. Compile without fused multiply-add: the definition
    rounds every operation once. Programs share the list, whose length only the device knows.
    """
    program = tl.program_id(0).to(tl.int64)
    n_open = tl.load(Counts)
    tile = tl.arange(0, CENTERS)
    for start in range(program * ROWS, n_open, tl.num_programs(0).to(tl.int64) * ROWS):
        slot = start + tl.arange(0, ROWS)
        live = slot < n_open
        number = tl.load(Open + slot, mask=live, other=0)
        row = first_row + number
        lowest = tl.full((ROWS,), float("inf"), tl.float64)
        label = tl.zeros((ROWS,), tl.int32)
        for first in range(0, n_clusters, CENTERS):
            center = first + tile
            squared = tl.zeros((ROWS, CENTERS), tl.float64)
            for t in range(n_features):
                x = tl.load(X + row * n_features + t, mask=live, other=0.0).to(tl.float64)
                c = tl.load(Centers + t * n_centers_padded + center).to(tl.float64)
                difference = x[:, None] - c[None, :]
                squared += difference * difference
            squared = tl.where((center < n_clusters)[None, :], squared, float("inf"))
            tile_lowest, place = tl.min(squared, 1, return_indices=True, return_indices_tie_break_left=True)
            label = tl.where(tile_lowest < lowest, first + place, label)
            lowest = tl.minimum(lowest, tile_lowest)
        before = tl.load(Labels + row, mask=live, other=-1)
        moved = live & (label != before)
        n_moved = tl.sum(moved.to(tl.int64), 0)
        if n_moved > 0:
            _list_rows(Changed, Counts + 1, number, moved, n_moved)
            tl.store(Labels + row, label, mask=moved)
            copy = program % n_copies
            _move_rows(
                X, Weights, Shift, Scale, Sums, row, moved, before, label, n_features, n_clusters, copy, WEIGHTED
            )  # fmt: skip
            _move_masses(Weights, mass_scale, Masses, row, moved, before, label, n_clusters, copy, WEIGHTED)
