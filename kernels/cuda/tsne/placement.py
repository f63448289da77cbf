"""Find the nearest landmarks of new rows: candidates by tensor cores from a read of the rows, then exactly (Triton).

    rows X (n_rows, n_features) float32 in tiles of one home, landmarks in two bfloat16 parts
      -> the k nearest landmarks around each row's home, and float64 squared distances, ascending

screen_landmarks scores a tile of rows against the landmarks around its home on tensor cores, twice: once to bound the
k-th least distance, by the least scores of CENTERS groups of landmarks, and once to write down the landmarks that the
error bound (kmeans/certificate.py) does not exclude. rank_landmarks computes their distances by the definition, and
keeps the k least. A row with more candidates than there is room for, or beyond float32, is compared with all of them.
So neighbors and distances have the bits of the CPU, ties to the landmark that comes first around the home.

Not measured yet on a GPU: it runs in Triton's interpreter and compiles offline.
"""

from __future__ import annotations

import triton
import triton.language as tl

from engine.kernels.cuda.kmeans.lloyd import _bfloat16_parts, _framed_rows, _products


@triton.jit
def screen_landmarks(  # type: ignore[no-untyped-def]
    X, Order, Begins, Ends, Homes, Around, High, Low, Offsets, Blurs, FrameShift, Candidates, Counts,
    width, n_landmarks, n_features, k, factor, per_row, floor, largest,
    ROWS: tl.constexpr, CENTERS: tl.constexpr, FEATURES: tl.constexpr, ROOM: tl.constexpr,
    WIDEN: tl.constexpr = False,
):  # fmt: skip
    """Write the candidates of the rows of a tile: places around their home, ascending, ROOM of them at most.

    Rows Order[Begins[tile]] … Order[Ends[tile] - 1] have the home Homes[tile]; Around (n_homes, width) has positions of
    landmarks, from n_landmarks on none. Counts has numbers of candidates, ROOM + 1 where they are more, or unknown.
    """
    tile = tl.program_id(0).to(tl.int64)
    slot = tl.load(Begins + tile) + tl.arange(0, ROWS)
    live = slot < tl.load(Ends + tile)
    row = tl.load(Order + slot, mask=live, other=0)
    around = Around + tl.load(Homes + tile) * width
    feature, group = tl.arange(0, FEATURES), tl.arange(0, CENTERS)
    y = _framed_rows(X, FrameShift, row, live, feature, n_features, factor)
    size = tl.sum(y * y, 1)
    high, low = _bfloat16_parts(y)
    least = tl.full((ROWS, CENTERS), float("inf"), tl.float32)
    for first in range(0, width, CENTERS):
        landmark = tl.load(around + first + group)
        score = tl.load(Offsets + landmark)[None, :] - _products(
            high, low, High, Low, landmark, feature, FEATURES, WIDEN
        )
        least = tl.minimum(least, score + tl.load(Blurs + landmark)[None, :])
    bound = tl.zeros((ROWS,), tl.float32)
    for _ in range(k):
        bound, place = tl.min(least, 1, return_indices=True, return_indices_tie_break_left=True)
        least = tl.where(group[None, :] == place[:, None], float("inf"), least)
    limit = bound + 2.0 * per_row * size + floor
    count = tl.zeros((ROWS,), tl.int32)
    for first in range(0, width, CENTERS):
        landmark = tl.load(around + first + group)
        score = tl.load(Offsets + landmark)[None, :] - _products(
            high, low, High, Low, landmark, feature, FEATURES, WIDEN
        )
        chosen = live[:, None] & (landmark < n_landmarks)[None, :] & (score <= limit[:, None])
        at = count[:, None] + tl.cumsum(chosen.to(tl.int32), 1) - 1
        place = tl.zeros((ROWS, CENTERS), tl.int32) + (first + group)[None, :]
        tl.store(Candidates + slot[:, None] * ROOM + at, place, mask=chosen & (at < ROOM))
        count += tl.sum(chosen.to(tl.int32), 1)
    known = (size <= largest) & (count <= ROOM)  # not of NaN
    tl.store(Counts + slot, tl.where(known, count, ROOM + 1), mask=live)


@triton.jit
def rank_landmarks(  # type: ignore[no-untyped-def]
    X, Order, Begins, Ends, Homes, Around, Landmarks, Candidates, Counts, Neighbors, Squared,
    width, n_landmarks, n_features, k, tile_rows,
    ROWS: tl.constexpr, CENTERS: tl.constexpr, KEPT: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    """Write the k <= KEPT nearest candidates of rows, and float64 squared distances, features in their order.

    Neighbors and Squared (n_rows, k) are in the order of the rows of X. Compile without fused multiply-add: the
    definition rounds every operation once. Each tile of rows has tile_rows / ROWS programs.
    """
    program = tl.program_id(0).to(tl.int64)
    parts = tile_rows // ROWS
    tile = program // parts
    slot = tl.load(Begins + tile) + program % parts * ROWS + tl.arange(0, ROWS)
    live = slot < tl.load(Ends + tile)
    row = tl.load(Order + slot, mask=live, other=0)
    around = Around + tl.load(Homes + tile) * width
    count = tl.load(Counts + slot, mask=live, other=0)
    listed = count <= ROOM
    count = tl.where(listed, count, width)
    column, kept_column = tl.arange(0, CENTERS), tl.arange(0, KEPT)
    kept = tl.full((ROWS, KEPT), float("inf"), tl.float64)
    kept_landmark = tl.zeros((ROWS, KEPT), tl.int64)
    for first in range(0, tl.max(count, 0), CENTERS):
        number = first + column
        inside = number[None, :] < count[:, None]
        place = tl.load(Candidates + slot[:, None] * ROOM + number[None, :], mask=inside & listed[:, None], other=0)
        place = tl.where(listed[:, None], place, number[None, :])
        landmark = tl.load(around + place, mask=inside, other=0)
        inside = inside & (landmark < n_landmarks)
        squared = tl.zeros((ROWS, CENTERS), tl.float64)
        for t in range(n_features):
            x = tl.load(X + row * n_features + t, mask=live, other=0.0).to(tl.float64)
            c = tl.load(Landmarks + landmark * n_features + t, mask=inside, other=0.0).to(tl.float64)
            difference = x[:, None] - c
            squared += difference * difference
        squared = tl.where(inside, squared, float("inf"))
        before, before_landmark = kept, kept_landmark
        for i in range(k):  # merge both: what was kept before comes first around the home, and wins ties
            old, old_at = tl.min(before, 1, return_indices=True, return_indices_tie_break_left=True)
            new, new_at = tl.min(squared, 1, return_indices=True, return_indices_tie_break_left=True)
            is_old = old <= new
            at_old = (kept_column[None, :] == old_at[:, None]) & is_old[:, None]
            at_new = (column[None, :] == new_at[:, None]) & (is_old == 0)[:, None]
            chosen = tl.sum(tl.where(at_old, before_landmark, 0), 1) + tl.sum(tl.where(at_new, landmark, 0), 1)
            is_place = kept_column[None, :] == i
            kept = tl.where(is_place, tl.minimum(old, new)[:, None], kept)
            kept_landmark = tl.where(is_place, chosen[:, None], kept_landmark)
            before = tl.where(at_old, float("inf"), before)
            squared = tl.where(at_new, float("inf"), squared)
    at = row[:, None] * k + kept_column[None, :]
    written = live[:, None] & (kept_column < k)[None, :]
    tl.store(Neighbors + at, kept_landmark, mask=written)
    tl.store(Squared + at, kept, mask=written)
