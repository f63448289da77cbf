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
    "listed rows are written one place too far": (
        "lloyd",
        "tl.cumsum(chosen.to(tl.int64), 0) - 1",
        "tl.cumsum(chosen.to(tl.int64), 0)",
    ),
    "weights are forgotten": ("lloyd", "term *= tl.load(Weights + row, mask=moved, other=0.0)[:, None]", "term *= 1.0"),
    "features beyond the first block are forgotten": (
        "lloyd",
        "for block in range(FEATURE_BLOCKS):\n                own",
        "for block in range(1):\n                own",
    ),
    "changed rows are not counted": (
        "lloyd",
        "_list_rows(Changed, Counts + 1, row - first_row, moved, n_moved)\n        tl.store",
        "_list_rows(Changed, Counts + 1, row - first_row, moved, n_moved * 0)\n        tl.store",
    ),
    "rows that the definition changed are not listed": (
        "lloyd",
        "            _list_rows(Changed, Counts + 1, number, moved, n_moved)\n            tl.store",
        "            tl.store",
    ),
    "listed rows count from the first row of the table": (
        "lloyd",
        "_list_rows(Open, Counts, row - first_row, is_open, n_open)",
        "_list_rows(Open, Counts, row, is_open, n_open)",
    ),
    "changed rows count from the first row of the table": (
        "lloyd",
        "_list_rows(Changed, Counts + 1, row - first_row, moved, n_moved)\n        tl.store",
        "_list_rows(Changed, Counts + 1, row, moved, n_moved)\n        tl.store",
    ),
    "two arrays are swapped": (
        "launch",
        "arguments.get(name))",
        'arguments.get({"Open": "Changed", "Changed": "Open"}.get(name, name)))',
    ),
    "two numbers are swapped": (
        "launch",
        "arguments.get(name))",
        'arguments.get({"n_clusters": "n_features", "n_features": "n_clusters"}.get(name, name)))',
    ),
    "arguments are packed in the order of their names": (
        "launch",
        "name, kind in parameters)",
        "name, kind in sorted(parameters))",
    ),
    "numbers are packed in 8 bytes": ("launch", "return SCALARS[kind](value)", "return np.int64(value)"),
    "scratch pointers are left out": (
        "launch",
        "name, kind in parameters)\n\n\ndef _pack",
        "name, kind in parameters if name != SCRATCH)\n\n\ndef _pack",
    ),
    "shared memory is not asked for": ("launch", "packed, kernel.shared_bytes)", "packed, 0)"),
    "the last program is not launched": (
        "fused_pass",
        "(label, -(-(last - first) // tiles.rows))",
        "(label, (last - first) // tiles.rows)",
    ),
    "every launch begins at the first row": ("fused_pass", '"first_row": first}', '"first_row": 0}'),
    "every launch goes to the last row": ("fused_pass", '"n_rows": last', '"n_rows": arguments["X"].shape[0]'),
    "launches share their counts": ("fused_pass", '"Counts": counts[i]', '"Counts": counts[0]'),
    "changes of later launches have wrong numbers": ("fused_pass", "numbers.get() + np.int64(first)", "numbers.get()"),
    "only one copy of the sums is returned": (
        "fused_pass",
        "array.sum(axis=0).get() if n_copies > 1",
        "array[0].get() if n_copies > 1",
    ),
    "the frame's shift is forgotten": (
        "fused_pass",
        '"FrameShift": shift.astype(np.float32)',
        '"FrameShift": np.zeros_like(shift)',
    ),
    "the bound is that of one feature": ("fused_pass", 'error_bound(arguments["n_features"])', "error_bound(1)"),
    "arrays of a buffer overlap": ("fused_pass", "-(-size // PACKING) * PACKING", "-(-size // PACKING) * PACKING // 2"),
    "the parts are truncated": (
        "lloyd",
        "bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000",
        "bits = bits & 0xFFC00000",
    ),
}
