"""Mistakes that a search of landmarks by the Triton kernels could hold, each of which a test has to catch."""

from __future__ import annotations

# Name of the mistake: the source file, what is replaced in it, and by what.
LANDMARK_MUTANTS = {
    "rows behind the end of a tile are taken": ("placement", "live = slot < tl.load(Ends + tile)", "live = slot >= 0"),
    "the error of landmarks is left out of the bound": (
        "placement", "score + tl.load(Blurs + landmark)[None, :]", "score",
    ),
    "the error of rows is left out of the bound": ("placement", "bound + 2.0 * per_row * size + floor", "bound"),
    "the bound is the least score but one too few": ("placement", "for _ in range(k):", "for _ in range(k - 1):"),
    "the bound takes a least score away again and again": (
        "placement", 'least = tl.where(group[None, :] == place[:, None], float("inf"), least)', "least = least",
    ),
    "what is at the bound is left out": ("placement", "(score <= limit[:, None])", "(score < bound[:, None])"),
    "the low parts of rows are left out": ("placement", "high, low = _bfloat16_parts(y)",
                                           "high, low = _bfloat16_parts(y)\n    low = low * 0.0"),
    "candidates of all tiles of landmarks get the places of the first": (
        "placement", "(first + group)[None, :]", "group[None, :]",
    ),
    "candidates of a tile of landmarks replace those before": ("placement", "at = count[:, None] + ", "at = "),
    "candidates beyond the room are written": ("placement", "mask=chosen & (at < ROOM)", "mask=chosen"),
    "rows beyond float32 are taken for known": ("placement", "known = (size <= largest) &", "known ="),
    "of equal distances the later landmark wins": ("placement", "is_old = old <= new", "is_old = old < new"),
    "of equal distances in a tile the later landmark wins": (
        "placement",
        "tl.min(squared, 1, return_indices=True, return_indices_tie_break_left=True)",
        "_last_min(squared)",
    ),
    "a chosen landmark is chosen again": ("placement", 'squared = tl.where(at_new, float("inf"), squared)', "pass"),
    "a kept landmark is kept again": ("placement", 'before = tl.where(at_old, float("inf"), before)', "pass"),
    "places where no landmark is are ranked": ("placement", "inside = inside & (landmark < n_landmarks)", "pass"),
    "distances are those of float32": (
        "placement", "difference = x[:, None] - c\n", "difference = (x[:, None] - c).to(tl.float32).to(tl.float64)\n",
    ),
    "a part of a tile begins where the tile does": ("placement", "program % parts * ROWS + ", ""),
    "results are in the order of homes": ("placement", "at = row[:, None] * k", "at = slot[:, None] * k"),
    "the frame is shifted on one side alone": (
        "fused_neighbors", "shift if is_sound else np.zeros_like(shift)", "np.zeros_like(shift)",
    ),
    "the padding of landmarks is missing": ("fused_neighbors", "factor, n + 1, features", "factor, n, features"),
    "a tile ends where the next home does": (
        "fused_neighbors", "np.minimum(begins + TILE_ROWS, ends[homes])", "begins + TILE_ROWS",
    ),
    "too few programs rank candidates": (
        "fused_neighbors", "n_tiles * (TILE_ROWS // RANKED_ROWS)", "n_tiles",
    ),
}  # fmt: skip
# Places where an index is a product of a row or of its slot: in 32 bits, each is wrong beyond 2^31 values.
INDEX_MUTANTS = {
    "values that are scored": (
        "y = _framed_rows(X, FrameShift, row,", "y = _framed_rows(X, FrameShift, row.to(tl.int32),",
    ),
    "candidates that are written": (
        "Candidates + slot[:, None] * ROOM + at",
        "Candidates + slot.to(tl.int32)[:, None] * ROOM + at",
    ),
    "candidates that are read": (
        "Candidates + slot[:, None] * ROOM + number", "Candidates + slot.to(tl.int32)[:, None] * ROOM + number",
    ),
    "values that are ranked": ("tl.load(X + row * n_features + t", "tl.load(X + row.to(tl.int32) * n_features + t"),
    "results": ("at = row[:, None] * k", "at = row.to(tl.int32)[:, None] * k"),
}  # fmt: skip
