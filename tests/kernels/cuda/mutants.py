"""Mistakes that a pass of the Triton kernels could hold, each of which a test has to catch."""

from __future__ import annotations

# Name of the mistake: the source file, what is replaced in it, and by what.
MUTANTS = {
    "the mask of the last rows is dropped": ("lloyd", "live = row < n_rows", "live = row < n_rows + 64"),
    "of equal distances the higher center wins": (
        "lloyd",
        "label = tl.where(tile_lowest < lowest, first + place, label)\n            lowest",
        "label = tl.where(tile_lowest <= lowest, first + place, label)\n            lowest",
    ),
    "of equal distances in a tile the last wins": (
        "lloyd",
        "tl.min(squared, 1, return_indices=True, return_indices_tie_break_left=True)",
        "_last_min(squared)",
    ),
    "the second lowest score is the lowest": (
        "lloyd",
        'tile_second = tl.min(tl.where(tile[None, :] == place[:, None], float("inf"), score), 1)',
        "tile_second = tile_lowest",
    ),
    "the second lowest forgets the lowest of other tiles": (
        "lloyd",
        "tl.minimum(tl.maximum(lowest, tile_lowest), tl.minimum(second, tile_second))",
        "tl.minimum(second, tile_second)",
    ),
    "rows are not taken out of the cluster they leave": ("lloyd", "-whole, mask=gone", "whole * 0, mask=gone"),
    "halves are rounded away from zero": (
        "lloyd",
        "whole = ((term + ROUND_TO_EVEN) - ROUND_TO_EVEN).to(tl.int64)",
        "whole = tl.where(term < 0, -tl.floor(0.5 - term), tl.floor(term + 0.5)).to(tl.int64)",
    ),
    "the padding of centers is not infinitely far": (
        "certificate",
        "xp.full(n_padded, np.inf, np.float32)",
        "xp.zeros(n_padded, np.float32)",
    ),
    "the error bound is forgotten": (
        "lloyd",
        "certain = second - lowest > tl.load(Blurs + label) + 2.0 * per_row * size + floor",
        "certain = second > lowest",
    ),
    "the row's part of the bound is forgotten": (
        "lloyd",
        "tl.load(Blurs + label) + 2.0 * per_row * size + floor",
        "floor",
    ),
    "centers are read with another stride": (
        "lloyd",
        "center[None, :] * n_features_padded",
        "center[None, :] * (n_features_padded - 1)",
    ),
    "masses leave with the wrong sign": ("lloyd", "-mass, mask=left", "mass, mask=left"),
    "the low parts of rows are left out": (
        "lloyd",
        "products = tl.dot(low, center_high)",
        "products = tl.dot(low * 0, center_high)",
    ),
    "the low parts of centers are left out": (
        "lloyd",
        "products = tl.dot(high, center_low, products)",
        "products = tl.dot(high, center_low * 0, products)",
    ),
    "a center's number is that in its tile": (
        "lloyd",
        "label = tl.where(tile_lowest < lowest, first + place, label)  #",
        "label = tl.where(tile_lowest < lowest, place, label)  #",
    ),
    "rows of cluster 0 do not leave it": ("lloyd", "left = moved & (before >= 0)", "left = moved & (before > 0)"),
    "open rows are written one place too far": (
        "lloyd",
        "tl.cumsum(is_open.to(tl.int64), 0) - 1",
        "tl.cumsum(is_open.to(tl.int64), 0)",
    ),
    "weights are forgotten": ("lloyd", "term *= tl.load(Weights + row, mask=moved, other=0.0)[:, None]", "term *= 1.0"),
    "features beyond the first block are forgotten": (
        "lloyd",
        "for block in range(FEATURE_BLOCKS):\n                own",
        "for block in range(1):\n                own",
    ),
    "changed rows are not counted": (
        "lloyd",
        'tl.atomic_add(Counts + 1, n_moved, sem="relaxed")',
        'tl.atomic_add(Counts + 1, n_moved * 0, sem="relaxed")',
    ),
    "the parts are truncated": (
        "lloyd",
        "bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000",
        "bits = bits & 0xFFC00000",
    ),
}
