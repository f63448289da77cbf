"""Glance at rows that only a few centres can have won: compare those with the row's own centre, and with no other.

    Coded rows, labels, a Screen, numbers of centres -> slack lowered, and the rows that need a closer look

Late in a run a few centres still move fast while the others rest. What the others did, slack knows; the fast ones are
looked at for every row. Scores are those of tiled_scores.py; the own centre differs from row to row, so its codes are
gathered into the lanes like the row's. Which centres are fast: engine/kmeans/bounds.py. Proof:
decisions/0005-screening.md.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.filter import Desk, Float32s, Int32s, Rows, proven, splat_bound
from engine.kernels.cpu.kmeans.quantize import Coded, Frame, encode
from engine.kernels.cpu.kmeans.quantized_centers import TILE, Scores, Screen
from engine.kernels.cpu.kmeans.tiled_scores import ROWS, load_codes, tile_scores
from engine.kernels.cpu.simd.vectors import LANES, accumulate, as_numbers, least, load, splat, store


@numba.njit(**INNER)
def chosen_centres(scr: Screen, width: int, fast: Int32s) -> tuple[Int32s, Scores]:
    """Return codes and offsets of some centres, laid out as a Screen's: the last tile is filled with padding."""
    n_tiled = -(-fast.shape[0] // TILE) * TILE
    words, offsets, own = np.zeros(n_tiled * width, np.int32), np.empty(n_tiled, scr.offsets.dtype), scr.own
    for q in range(n_tiled):
        offsets[q] = scr.offsets[fast[q]] if q < fast.shape[0] else scr.far
        if q < fast.shape[0]:
            for word in range(width):
                words[(q // TILE * width + word) * TILE + q % TILE] = own[fast[q] * width + word]
    return words, offsets


@numba.njit(**INNER)
def _compare(
    kind: Any, tile: Int32s, own: Int32s, width: int, centres: Int32s, offsets: Scores, far: Any,
    own_offsets: Scores, scores: Scores, rivals: Scores,
) -> None:  # fmt: skip
    """Write the score of each row's own centre, and the least score of the others, for one tile."""
    best0, best1 = load(own_offsets, 0), load(own_offsets, LANES)
    rival0, rival1 = splat(far), splat(far)
    for word in range(width):
        at = word * ROWS
        best0 = accumulate(kind, best0, load(tile, at), load(own, at))
        best1 = accumulate(kind, best1, load(tile, at + LANES), load(own, at + LANES))
    store(scores, 0, best0)
    store(scores, LANES, best1)
    for j in range(0, offsets.shape[0], TILE):
        a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = tile_scores(kind, tile, width, centres, offsets, j)
        rival0 = least(least(least(a00, a10), least(a20, a30)), least(least(a40, a50), rival0))
        rival1 = least(least(least(a01, a11), least(a21, a31)), least(least(a41, a51), rival1))
    store(rivals, 0, rival0)
    store(rivals, LANES, rival1)


@numba.njit(**INNER, inline="always")
def glance(
    X: Rows,
    coded: Coded,
    frame: Frame,
    scr: Screen,
    centres: Int32s,
    offsets: Scores,
    least_drift: Float32s,
    labels: Int32s,
    slack: Float32s,
    n_others: int,
    count: int,
    desk: Desk,
) -> int:
    """Compare the rows desk.open[:n_others] with some centres; those it cannot tell about go to desk.rows[count:].

    Centres as chosen_centres returns them. Returns the new count.
    """
    stored = coded.codes.shape[0] > 0
    used = coded if stored else desk.coded
    codes, errors, norms, kind, unit = used.codes, used.errors, used.norms, used.codes.dtype.type(0), splat(scr.unit)
    others, rows, own_words, all_offsets, sizes = desk.open, desk.rows, scr.own, scr.offsets, scr.sizes
    terms, far = splat_bound(scr.bound), scr.far
    if not stored:
        encode(X, others, n_others, frame, codes, errors, norms)
    words = codes.view(np.int32).reshape(-1)
    width = words.shape[0] // codes.shape[0]
    tile, own_tile = np.empty(width * ROWS, np.int32), np.empty(width * ROWS, np.int32)
    places, own = np.empty(ROWS, np.int64), np.empty(ROWS, np.int64)
    own_offsets, scores = np.empty(ROWS, offsets.dtype), np.empty(ROWS, offsets.dtype)
    rivals = np.empty(ROWS, offsets.dtype)
    error, norm, size = np.empty(ROWS, np.float32), np.empty(ROWS, np.float32), np.empty(ROWS, np.float32)
    gaps = np.empty(ROWS, np.float32)
    for start in range(0, n_others, ROWS):
        n_rows = min(ROWS, n_others - start)
        for lane in range(ROWS):
            p = start + min(lane, n_rows - 1)
            place = others[p] if stored else p
            j = np.int64(labels[others[p]])
            places[lane], own[lane] = place, j
            own_offsets[lane], size[lane] = all_offsets[j], sizes[j]
            error[lane], norm[lane] = errors[place], norms[place]
        load_codes(words, width, places, 0, tile)
        load_codes(own_words, width, own, 0, own_tile)
        _compare(kind, tile, own_tile, width, centres, offsets, far, own_offsets, scores, rivals)
        for lane in range(0, ROWS, LANES):
            best, rival = load(scores, lane), load(rivals, lane)
            _, gap = proven(
                as_numbers(best), as_numbers(rival), as_numbers(rival - best),
                load(error, lane), load(norm, lane), load(size, lane), unit, terms,
            )  # fmt: skip
            store(gaps, lane, gap)
        for lane in range(n_rows):
            i = others[start + lane]
            rows[count] = i
            if gaps[lane] > 0:
                slack[i] = min(slack[i], gaps[lane] + least_drift[own[lane]])
            else:
                count += 1
    return count
