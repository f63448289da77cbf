"""Count rows along the line between two centers: the profile in which a valley shows.

    projections of all rows on two centers, labels  ->  counts (n_tubes, N_BINS) int64

A tube is all rows, of whatever cluster, that lie near the line. Rows of third clusters count too: the members of two
cells alone are cut off by third cells, and so look apart even in noise. A row pulls its own center towards itself, so
in many dimensions two halves of one cluster look apart; each row is therefore placed where it would lie had its center
been computed without it, to first order.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

BIN = 0.05  # of the distance between the centers
FIRST, N_BINS = -0.5, 40  # where the first bin begins, from the first center at 0 to the second at 1
MIN_MEMBERS = 4  # rows of either cluster below which there is no tube
ON_THE_LINE = 1e-9  # of the squared distance of the centers: a row's own squared distance below it is rounding error
Float64s = NDArray[np.float64]


@numba.njit(nogil=True, cache=True)
def tube_profiles(
    first_dots: Float64s,
    second_dots: Float64s,
    norms: Float64s,
    first_norm: float,
    second_norm: float,
    squared_length: float,
    labels: NDArray[np.int32],
    first: int,
    second: int,
    quantiles: Float64s,
    counts: NDArray[np.int64],
) -> None:
    """Add the rows of each tube to `counts`, by their place along the line.

    Parameters
    ----------
    first_dots, second_dots : arrays of shape (n_rows,)
        Scalar products of the rows with both centers.
    norms : array of shape (n_rows,)
        Squared norms of the rows; `first_norm` and `second_norm` are those of the centers, and `squared_length` is
        their squared distance.
    labels : int32 array of shape (n_rows,)
        `first` and `second` are the labels of the two clusters.
    quantiles : array of shape (n_tubes,)
        A tube is as wide as this quantile of the squared distances of a cluster's members to the line, of the wider
        cluster.
    """
    n_rows = norms.shape[0]
    along, away = np.empty(n_rows), np.empty(n_rows)
    n_first, n_second = 0, 0
    for row in range(n_rows):
        shift = (second_dots[row] - first_dots[row] + (first_norm - second_norm + squared_length) / 2) / squared_length
        along[row] = shift
        away[row] = norms[row] - 2 * first_dots[row] + first_norm - shift * shift * squared_length
        n_first += labels[row] == first
        n_second += labels[row] == second
    if n_first < MIN_MEMBERS or n_second < MIN_MEMBERS:
        return
    of_first, of_second = np.empty(n_first), np.empty(n_second)
    p, q = 0, 0
    for row in range(n_rows):
        if labels[row] == first:
            of_first[p] = away[row]
            p += 1
            along[row] += (away[row] / squared_length + along[row] ** 2) / (n_first - 1)
        elif labels[row] == second:
            of_second[q] = away[row]
            q += 1
            along[row] -= (away[row] / squared_length + (1 - along[row]) ** 2) / (n_second - 1)
    of_first.sort()
    of_second.sort()
    for tube in range(quantiles.shape[0]):
        radius = max(of_first[int(quantiles[tube] * (n_first - 1))], of_second[int(quantiles[tube] * (n_second - 1))])
        radius = max(radius, ON_THE_LINE * squared_length)
        for row in range(n_rows):
            if away[row] <= radius:
                position = (along[row] - FIRST) / BIN
                if 0 <= position < N_BINS:
                    counts[tube, int(position)] += 1
