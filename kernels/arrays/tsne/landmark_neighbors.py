"""Find the exact nearest landmarks of rows among those around their home leaves: few launches for any number of leaves.

    rows (n_rows, n_features), their home leaves, landmarks by leaf
      -> neighbors (n_rows, k) int64, squared distances (n_rows, k) float64, ascending

Rows are laid out in tiles of one home each, so that one batched float32 matrix product scores many tiles against the
landmarks around their homes. Every landmark whose score may be one of the k least, however rounding falls, is a
candidate; float64 distances rank these, ties to the landmark that comes first around its home: neighbors are those of
all float64 distances. Numbers that float32 cannot hold make scores NaN, and those landmarks candidates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = Any  # of the array module `xp`

GROUPS = 64  # of landmarks around a home: the k-th least of the least scores bounds the k-th least score, k <= GROUPS
MAX_TILE_ROWS = 128  # a tile reads its landmarks once: fewer rows read them more often
MIN_TILE_ROWS = 8  # for few rows and many leaves: a tile that is not full is computed all the same
MAX_SQUARED_NORM = 1e37  # of a row: scores of larger ones may overflow


class SearchedLandmarks(NamedTuple):
    """Landmarks as arrays of one device; the last row of X and of `columns` is infinitely far from all rows."""

    X: Array  # (n + 1, n_features) float32
    columns: Array  # (n + 1, n_features + 1) float32: a product with (x, 1) is a score
    around: Array  # (n_leaves, width) int64: positions of the landmarks around each leaf, filled up with n


class Tiles(NamedTuple):
    """Rows in tiles of `n_rows` slots; the rows of a tile have one home, and a slot without a row has row -1."""

    n_rows: int
    rows: Array  # (n_tiles * n_rows,) int64: the row of every slot
    slots: Array  # (all rows,) int64: the slot of every row
    homes: Array  # (n_tiles,)


def arrange_landmarks(X: Array, around: Array) -> SearchedLandmarks:
    """Return landmarks X (n, n_features), and positions around each leaf (n_leaves, width), as arrays of the host.

    `width` is a multiple of GROUPS. A score is half the squared distance from x, less half the squared norm of x.
    """
    n_features = X.shape[1]
    far = np.full((len(X) + 1, n_features), np.inf, np.float32)
    far[:-1] = X
    columns = np.zeros((len(X) + 1, n_features + 1), np.float32)
    columns[:-1, :-1] = -X
    with np.errstate(over="ignore"):
        halves = (0.5 * np.square(X.astype(np.float64)).sum(axis=1)).astype(np.float32)
    columns[:-1, -1] = np.where(np.isfinite(halves), halves, np.nan)
    columns[-1, -1] = np.inf
    return SearchedLandmarks(far, columns, around.astype(np.int64))


def find_landmark_neighbors(
    xp: Any, rows: Array, homes: Array, landmarks: SearchedLandmarks, k: int, chunk_values: int
) -> tuple[Array, Array]:
    """Return the k nearest landmarks around each row's home leaf, and squared distances, both (n_rows, k).

    There are at least k landmarks around every leaf, and k is at most GROUPS.
    """
    n_homes, width = landmarks.around.shape
    tiles = _lay_out_tiles(xp, homes, n_homes, min(MAX_TILE_ROWS, max(MIN_TILE_ROWS, len(rows) // n_homes)))
    queries = xp.ones((len(rows), rows.shape[1] + 1), np.float32)
    queries[:, :-1] = rows
    allowance, factor = _score_allowances(xp, rows)
    neighbors, squared = xp.empty((len(tiles.rows), k), np.int64), xp.empty((len(tiles.rows), k))
    step = max(1, chunk_values // (tiles.n_rows * width))
    found: list[Array] = []  # places in the scores of all tiles
    n_found = first_slot = 0
    for first in range(0, len(tiles.homes), step):
        last = min(first + step, len(tiles.homes))
        slots = tiles.rows[first * tiles.n_rows : last * tiles.n_rows].reshape(-1, tiles.n_rows)
        columns = landmarks.columns[landmarks.around[tiles.homes[first:last]]]
        scores = xp.matmul(columns, queries[slots].transpose(0, 2, 1))  # (tiles, width, rows of a tile)
        least = scores.reshape(last - first, width // GROUPS, GROUPS, tiles.n_rows).min(axis=1)
        bound = xp.sort(least, axis=1)[:, k - 1].astype(np.float64)
        limit = bound * factor + allowance[slots]
        places = xp.flatnonzero(~(scores > limit[:, None]))
        found.append(places + first * width * tiles.n_rows)
        n_found += len(places)
        if n_found >= chunk_values or last == len(tiles.homes):
            done = slice(first_slot, last * tiles.n_rows)
            neighbors[done], squared[done] = _rank_candidates(
                xp, rows, landmarks, tiles, xp.concatenate(found), done, k
            )
            found, n_found, first_slot = [], 0, done.stop
    return neighbors[tiles.slots], squared[tiles.slots]


def _lay_out_tiles(xp: Any, homes: Array, n_homes: int, tile_rows: int) -> Tiles:
    order = xp.argsort(homes, kind="stable")
    counts = xp.bincount(homes, minlength=n_homes)
    n_tiles = (counts + (tile_rows - 1)) // tile_rows
    first_row, first_tile = xp.cumsum(counts) - counts, xp.cumsum(n_tiles) - n_tiles
    slots = xp.arange(len(homes)) + (first_tile * tile_rows - first_row)[homes[order]]
    rows = xp.full(int(n_tiles.sum()) * tile_rows, -1)
    rows[slots] = order
    slots_by_row = xp.empty(len(homes), np.int64)
    slots_by_row[order] = slots
    return Tiles(tile_rows, rows, slots_by_row, homes[rows.reshape(-1, tile_rows)[:, 0]])


def _score_allowances(xp: Any, rows: Array) -> tuple[Array, float]:
    """Return (allowances, factor): no score above bound * factor + allowance is one of the k least, if `bound` is not.

    This is the bound of score_error_bound in kernels/cpu/neighbors/packed_leaves.py, with (a + b)^2 <= 2 (a^2 + b^2).
    The last allowance, of no row, lets nothing pass; one that is NaN lets everything pass.
    """
    twice = 2.0 * 16.0 * (rows.shape[1] + 8) * 2.0**-24
    squares = xp.square(rows.astype(np.float64)).sum(axis=1)
    allowances = xp.full(len(rows) + 1, -np.inf)
    allowances[:-1] = xp.where(squares > MAX_SQUARED_NORM, np.nan, twice * squares + 1e-30)
    return allowances, 1.0 + twice


def _rank_candidates(
    xp: Any, rows: Array, landmarks: SearchedLandmarks, tiles: Tiles, found: Array, done: slice, k: int
) -> tuple[Array, Array]:
    """Return the k nearest candidates of every slot of `done`, and squared distances; slots without a row have any.

    Found places are numbers in (tiles, width, rows of a tile), ascending: of one slot, candidates are in the order in
    which they lie around the home.
    """
    width = landmarks.around.shape[1]
    tile, place = found // (width * tiles.n_rows), found // tiles.n_rows % width
    slot = tile * tiles.n_rows + found % tiles.n_rows
    candidates, of_row = landmarks.around[tiles.homes[tile], place], tiles.rows[slot]
    distances = xp.zeros(len(found))
    for t in range(rows.shape[1]):
        difference = rows[:, t][of_row].astype(np.float64) - landmarks.X[:, t][candidates]
        difference *= difference
        distances += difference
    order = xp.argsort(distances, kind="stable")
    order = order[xp.argsort(slot[order], kind="stable")]
    first = xp.searchsorted(slot[order], xp.arange(done.start, done.stop))
    chosen = order[xp.minimum(first[:, None] + xp.arange(k), len(found) - 1)]
    return candidates[chosen], distances[chosen]
