"""Fill in what is not known of the rows of a sample, before groups are looked for.

    X (n_rows, n_features), unknown cells  ->  X with the values of the most similar rows in them

A missing number is encoded as the median. To a search for groups, all rows that lack it are alike and unlike the
others: they make a group of their own beside every group. So they get the value of the row that is most like them in
what is known of both, and groups are where people who gave the value have them. A value that many rows have, and that
is farther from all others than these are from each other, is a code and no amount: it counts as unknown, too.

Source: the nearest donor is the hot deck of Andridge & Little (2010), "A review of hot deck imputation for survey
non-response". Measurements: decisions/0044-unknown-values.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.execution.threads import one_blas_thread, row_blocks
from engine.utils.array_types import Float64s, Int64s, Rows
from engine.utils.row_sampling import sample_rows

Unknown = NDArray[np.bool_]
DONORS = 4_000  # rows that values are taken from, at most
# Rows in which all is known are donors if there are so many, else all rows are: one that lacks what tells its group
# from others is like people of other groups. If so many donors have all that a row lacks, one of them gives all of it.
MIN_DONORS = 50
BLOCK_ROWS = 1_000  # rows whose distances to all donors are held at a time
SEED = 0  # of the donors: groups must not follow the seed of a run
CODE_SHARES = (0.01, 0.25)  # of the rows that have a code: what fewer have is no group, what more have is an answer
MIN_OTHERS = 3  # distinct values beside a code


@one_blas_thread()  # bits must not depend on the number of BLAS threads
def fill_unknown(X: Rows, unknown: Unknown | None = None) -> Rows:
    """Return X with the cells that are not known, or hold a code, filled from the most similar rows.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64
    unknown : bool ndarray of shape (n_rows, n_features), optional
        A column that is unknown in all rows becomes 0: it tells nothing of anybody.

    Returns
    -------
    ndarray of the shape and dtype of X
        X itself if all is known.
    """
    hidden = hidden_cells(X, unknown)
    if not hidden.any():
        return X
    filled, unknown_in_all = X.copy(), hidden.all(axis=0)
    filled[:, unknown_in_all] = 0.0
    is_whole = ~hidden[:, ~unknown_in_all].any(axis=1)
    rows, donors = np.flatnonzero(~is_whole), np.flatnonzero(is_whole)
    if len(donors) < MIN_DONORS:
        donors = np.arange(len(X))
    donors = donors[sample_rows(len(donors), DONORS, SEED)]
    ties = np.random.RandomState(SEED).uniform(size=len(donors))
    for block in row_blocks(len(rows), BLOCK_ROWS):
        _fill_rows(filled, X, hidden, rows[block], donors, ties)
    return filled


def hidden_cells(X: Rows, unknown: Unknown | None = None) -> Unknown:
    """Return the cells that `fill_unknown` fills: those that are not known, or hold a code."""
    return _codes(X) if unknown is None else unknown | _codes(X)


def _fill_rows(filled: Rows, X: Rows, hidden: Unknown, rows: Int64s, donors: Int64s, ties: Float64s) -> None:
    """Fill the hidden cells of some rows: all of a row from the nearest donor that has them, if there is a choice."""
    known, of_donors = (~hidden[rows]).astype(np.float64), (~hidden[donors]).astype(np.float64)
    values, given = known * X[rows], of_donors * X[donors]
    common = known @ of_donors.T
    squared = np.square(values) @ of_donors.T + known @ np.square(given).T - 2.0 * values @ given.T
    distances = np.where(common > 0, np.maximum(squared, 0.0) / np.maximum(common, 1.0), np.inf)
    # Equal donors must not all give way to the first: the order among them is another one for every row.
    order = (ties + np.random.RandomState(SEED).uniform(size=(len(rows), 1))) % 1.0
    distances += 1e-9 * order
    lacking = hidden[rows] & ~hidden.all(axis=0)
    n_lacking_too = lacking.astype(np.float64) @ (1.0 - of_donors).T
    from_one = (n_lacking_too == 0).sum(axis=1) >= MIN_DONORS
    donor = donors[np.where(n_lacking_too[from_one] == 0, distances[from_one], np.inf).argmin(axis=1)]
    filled[rows[from_one]] = np.where(lacking[from_one], X[donor], filled[rows[from_one]])
    lacking[from_one] = False
    for column in np.flatnonzero(lacking.any(axis=0)):
        here, having = np.flatnonzero(lacking[:, column]), np.flatnonzero(~hidden[donors, column])
        if len(having):
            nearest = having[distances[np.ix_(here, having)].argmin(axis=1)]
            filled[rows[here], column] = X[donors[nearest], column]


def _codes(X: Rows) -> Unknown:
    """Return the cells that hold a code: a frequent value, farther from all others than these are from each other."""
    hidden = np.zeros(X.shape, np.bool_)
    least, most = (share * len(X) for share in CODE_SHARES)
    for column in range(X.shape[1]):
        values, counts = np.unique(X[:, column], return_counts=True)
        if len(values) <= MIN_OTHERS:
            continue
        for code, inner, outer in ((0, 1, -1), (-1, -2, 0)):
            gap, reach = abs(values[inner] - values[code]), abs(values[outer] - values[inner])
            if gap > reach and least <= counts[code] <= most:
                hidden[:, column] = X[:, column] == values[code]
    return hidden
