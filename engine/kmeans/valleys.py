"""Find the groups of a sample that valleys separate: over-cluster, merge what no valley parts, check with K-Means.

    X (n_rows, n_features), attributes  ->  ValleySearch (k, labels, how deep the shallowest valley is)

Two clusters are apart if, along the line between their centers, there are fewer rows in between than at both ends, by
more than chance explains. All rows near the line count (kernels/cpu/kmeans/valley_profiles.py), in the metric of the
scatter within the cells. K-Means cuts the sample into more cells than there can be groups; the two neighbours that are
least apart are merged until all are apart. K-Means from the means of the groups must then find groups that are still
apart. One group is left where there are no valleys: noise, or one cloud.

Columns of a table often hold few values: yes or no, one category of several, 1 to 5, or the 0 of those who never did.
Between two values there is nothing, which is no valley. So numbers of few values are spread evenly around them. Where
one attribute makes most of the difference between two clusters, or a few whose values meet no more often than by
chance, the other columns are asked. Values that were filled in are copies of others, with gaps of their own: a row
without most of what tells two clusters apart does not count between them.

Nothing is random: the same rows give the same groups. Measurements: decisions/0033-number-of-clusters.md and
0051-valleys-of-known-values.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import backends
from engine.execution.threads import one_blas_thread
from engine.kernels.cpu.kmeans.valley_profiles import BIN, FIRST, N_BINS, tube_profiles
from engine.kmeans.lloyd import Samples
from engine.kmeans.restarts import best_clustering
from engine.kmeans.unknown_values import Unknown
from engine.utils.array_types import Float64s, Int32s, Int64s, Rows
from engine.utils.row_sampling import row_keys

SAMPLE_ROWS = 10_000  # the thresholds below were set on samples of this size
SEED = 0  # of K-Means within the search: it must not follow the seed of a run
STARTS = (64, 32, 16, 8)  # cells to merge from; the largest outcome counts, because chains of merges err towards few
ROWS_PER_CELL = 25  # on average, at least
ITERATIONS = 30  # of K-Means: cells need not have converged
NEIGHBORS = 8  # cells with which a cell may be merged
MIDDLE = 0.3  # of the distance of two cells: a third one that is nearer to the point half way is between them
# Apart is what has its valley (upper bound) below this share of the lower peak (lower bound). Of 21 tables of noise
# none was below 1.04 at any merge, and the worst pair of clusters planted apart was at 0.50.
MAX_VALLEY = 0.9
STANDARD_ERRORS = 3.0  # of the lower peak, and half of it of the valley: extremes of about 16 windows are compared
WINDOW_BINS = 6  # bins counted together: 0.3 of the distance
TUBES = (0.8, 0.4)  # quantiles of members' distances to the line: a wide tube of many rows, and one of few of others'
MIN_VARIANCE_SHARE = 0.3  # of the mean within-cell variance: below it, a direction is not stretched any further
MOST_OF_DIFFERENCE = 0.65  # share of the squared difference of two clusters from which few attributes decide it
MAX_DECISIVE = 4  # attributes that may decide it together
MAX_LIFT = 1.5  # how much more often than by chance answers may occur together and still be independent
# In a table of at least MANY_ATTRIBUTES, two clusters that one number alone tells apart need a valley as deep as this.
MANY_ATTRIBUTES, DEEP_VALLEY = 16, 0.25
MIN_TIES = 0.01  # share of rows on one value from which a number is taken to have atoms
MOST_ON_ONE_VALUE = 0.8  # share of a cluster's rows on one value of an attribute from which the attribute has no shape
MAX_LEVELS = 30  # distinct values of a number up to which it is spread around all of them
MAX_GAP = 2.0  # of the larger gap beside it: so much of a gap is filled by spreading the values of a count
MOST_FILLED = 0.25  # share of the difference of two clusters: a row that lacks more of it does not count between them
Attributes = Sequence[NDArray[np.int64]]


@dataclass(frozen=True)
class ValleySearch:
    """The groups of a sample.

    Attributes
    ----------
    k : int
    labels : int32 ndarray of shape (n_rows,)
    shallowest : float
        The least separated pair: rows in the valley as a share of those at the lower peak, as bounds; 0 for one group.
    next_merge : float
        The same of the two that were merged last: at least MAX_VALLEY, infinite if nothing was merged.
    """

    k: int
    labels: Int32s
    shallowest: float
    next_merge: float


def find_valleys(
    X: Rows, attributes: Attributes | None = None, *, hidden: Unknown | None = None, max_groups: int | None = None
) -> ValleySearch:
    """Find the groups of the rows X (n_rows, n_features) that valleys separate.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64
        All rows are used: a sample of SAMPLE_ROWS.
    attributes : sequence of int arrays, optional
        The columns of each attribute that is yes or no, or one category of several. By default they are guessed.
    hidden : bool ndarray of shape (n_rows, n_features), optional
        The cells of X that were filled in, as `hidden_cells` returns them: copies of others, which show no valley.
    max_groups : int, optional
        Groups beyond it are merged, the least separated first.
    """
    attributes = guess_attributes(X) if attributes is None else attributes
    with one_blas_thread():  # bits must not depend on the number of BLAS threads
        filled = None if hidden is None or not hidden.any() else hidden.astype(np.float64)
        return _search(_Sample(spread_levels(X), _with_atoms(X, attributes), filled), max_groups)


def _search(sample: _Sample, max_groups: int | None) -> ValleySearch:
    """Over-cluster, merge and check."""
    spread = sample.spread
    samples = Samples.from_array(spread, None, backends.resolve("cpu")[0])
    best: ValleySearch | None = None
    for n_cells in STARTS:
        n_cells = min(n_cells, len(spread) // ROWS_PER_CELL)
        if n_cells < 2 or (best is not None and n_cells <= best.k):
            continue
        found = _merge(sample, _kmeans(samples, n_cells, "k-means++"), max_groups)
        if best is None or found.k > best.k:
            best = found
    if best is None:
        return ValleySearch(1, np.zeros(len(spread), np.int32), 0.0, np.inf)
    while best.k > 1:  # a center of K-Means may stand between two clusters: its groups merge again
        means = np.stack([spread[best.labels == group].mean(axis=0, dtype=np.float64) for group in range(best.k)])
        checked = _merge(sample, _kmeans(samples, best.k, means.astype(spread.dtype)), max_groups)
        unchanged = checked.k == best.k
        merged_last = best.next_merge if unchanged else checked.next_merge
        best = ValleySearch(checked.k, checked.labels, checked.shallowest, merged_last)
        if unchanged:
            break
    return best


def guess_attributes(X: Rows) -> list[NDArray[np.int64]]:
    """Return the columns of two values, by attribute: neighbours of which every row has exactly one belong together."""
    is_binary = [len(np.unique(X[:64, c])) <= 2 and len(np.unique(X[:, c])) == 2 for c in range(X.shape[1])]
    on = np.greater(X, X.mean(axis=0))
    attributes: list[NDArray[np.int64]] = []
    column = 0
    while column < len(is_binary):
        end = column
        if is_binary[column]:
            end = _end_of_one_hot(on, is_binary, column)
            attributes.append(np.arange(column, end + 1))
        column = end + 1
    return attributes


def _end_of_one_hot(on: NDArray[np.bool_], is_binary: list[bool], start: int) -> int:
    """Return the last column of the one-hot block that begins at `start`; `start` if there is none."""
    total = np.zeros(len(on), np.int64)
    for end in range(start, len(is_binary)):
        if not is_binary[end]:
            return start
        total += on[:, end]
        if total.max() > 1:
            return start
        if total.min() == 1:
            return end
    return start


def spread_levels(X: Rows) -> Rows:
    """Return X with numbers of 3 to MAX_LEVELS values spread evenly half way to the neighbouring values.

    Of a number of more values, such as a count, those that many rows have are spread, if they are 3 at least, and a gap
    counts at most MAX_GAP times the larger one beside it: what stands apart stays apart. Where a row goes depends on
    its number and the column alone.
    """
    spread, rows = X.copy(), np.arange(len(X), dtype=np.int64)
    for c in range(X.shape[1]):
        levels, codes, counts = np.unique(X[:, c], return_inverse=True, return_counts=True)
        gaps = np.diff(levels.astype(np.float64))
        moved = np.ones(len(levels), np.bool_)
        if len(levels) > MAX_LEVELS:
            moved = counts >= max(MIN_TIES * len(X), 2)
            beside = np.maximum(np.append(gaps[1:], 0.0), np.insert(gaps[:-1], 0, 0.0))
            gaps = np.minimum(gaps, MAX_GAP * beside)
        if len(levels) < 3 or moved.sum() < 3:
            continue
        below, above = np.concatenate([gaps[:1], gaps]) / 2, np.concatenate([gaps, gaps[-1:]]) / 2
        place = row_keys(c + 1, rows).astype(np.float64) / 2.0**64
        places = levels[codes] - below[codes] + place * (below + above)[codes]
        spread[:, c] = np.where(moved[codes], places, spread[:, c])
    return spread


def _kmeans(samples: Samples, k: int, init: Rows | str) -> Int32s:
    return best_clustering(samples, k, init=init, max_iter=ITERATIONS, random=np.random.RandomState(SEED)).labels


def _merge(sample: _Sample, labels: Int32s, max_groups: int | None) -> ValleySearch:
    """Merge the least separated neighbours until all are apart, and there are at most `max_groups`."""
    cells = _Cells(sample, labels)
    next_merge = np.inf
    while True:
        value, pair = cells.least_separated()
        if pair is None or (value < MAX_VALLEY and (max_groups is None or len(cells.alive) <= max_groups)):
            break
        cells.merge(*pair)
        next_merge = value
    k = len(cells.alive)
    return ValleySearch(k, np.unique(cells.labels, return_inverse=True)[1].astype(np.int32), value, next_merge)


class _Cells:
    """Cells of a sample, merged pair by pair.

    A pair that attributes had told apart by chance is merged in name only: the larger part goes on standing for both
    (`core`), because between two values of an attribute there is nothing.
    """

    def __init__(self, sample: _Sample, labels: Int32s) -> None:
        spread, attributes, self.filled = sample
        self.plain = spread - spread.mean(axis=0, dtype=np.float64)
        self.labels, self.core = labels.astype(np.int32), labels.astype(np.int32)
        self.alive = [int(c) for c in np.unique(labels)]
        n_cells = int(labels.max()) + 1
        self.means = np.zeros((n_cells, spread.shape[1]))
        for c in self.alive:
            self.means[c] = self.plain[labels == c].mean(axis=0)
        self.attributes = attributes
        self.plain_norms = np.square(self.plain).sum(axis=1)
        self.attribute_of = np.full(spread.shape[1], len(attributes))
        for number, attribute in enumerate(attributes):
            self.attribute_of[attribute.columns] = number
        self.n_attributes = len(attributes) + spread.shape[1] - sum(len(a.columns) for a in attributes)
        self.axes = axes = _whitening(self.plain - self.means[labels], float(self.plain.var(axis=0).mean()))
        self.white, self.centers = self.plain @ axes, self.means @ axes
        self.norms = np.square(self.white).sum(axis=1)
        self.dots = np.asfortranarray(self.white @ self.centers.T)
        self.known: dict[tuple[int, int], float] = {}
        self.by_attribute: set[tuple[int, int]] = set()

    def least_separated(self) -> tuple[float, tuple[int, int] | None]:
        """Return the share of the valley of the neighbours that are least apart, and these: None if there is one."""
        worst: tuple[float, tuple[int, int] | None] = (0.0, None)
        pairs, parted = self._neighbors()
        for pair in pairs:
            value = self._value(*pair)
            if value >= MAX_VALLEY and pair in parted and pair not in self.by_attribute:
                continue  # the rows of a third cell fill the valley
            if worst[1] is None or value > worst[0]:
                worst = value, pair
        return worst

    def merge(self, i: int, j: int) -> None:
        """Merge cell j into cell i."""
        first, second = self.core == i, self.core == j
        self.labels[self.labels == j] = i
        members = first | second
        if (i, j) in self.by_attribute:
            self.core[members] = -1
            members = first if first.sum() >= second.sum() else second
        self.core[members] = i
        self.means[i] = self.plain[members].mean(axis=0)
        self.centers[i] = self.white[members].mean(axis=0)
        self.dots[:, i] = self.white @ self.centers[i]
        self.alive.remove(j)
        self.known = {pair: value for pair, value in self.known.items() if i not in pair and j not in pair}
        self.by_attribute = {pair for pair in self.by_attribute if i not in pair and j not in pair}

    def _neighbors(self) -> tuple[list[tuple[int, int]], set[tuple[int, int]]]:
        """Return the pairs of near cells, and those of them that have a third cell near the middle between them."""
        if len(self.alive) < 2:
            return [], set()
        alive = np.array(self.alive)
        centers = self.centers[alive]
        distances = np.square(centers[:, None] - centers).sum(axis=2)
        np.fill_diagonal(distances, -1.0)
        order = np.argsort(distances, axis=1, kind="stable")[:, 1 : NEIGHBORS + 1]
        np.fill_diagonal(distances, 0.0)
        pairs, parted = set(), set()
        for i, j in ((i, j) for i, row in enumerate(order.tolist()) for j in row):
            pair = min(self.alive[i], self.alive[j]), max(self.alive[i], self.alive[j])
            pairs.add(pair)
            if (distances[i] + distances[j] < (0.5 + 2 * MIDDLE**2) * distances[i, j]).any():
                parted.add(pair)
        return sorted(pairs), parted

    def _value(self, i: int, j: int) -> float:
        if (i, j) not in self.known:
            step = (self.centers[j] - self.centers[i]) @ self.axes.T * (self.means[j] - self.means[i])
            rows = self._telling_rows(step)
            first, second = self.dots[rows, i], self.dots[rows, j]
            value = _valley(first, second, self.norms[rows], self.centers[i], self.centers[j], self.core[rows], i, j)
            self.known[i, j] = (
                value if value >= MAX_VALLEY else self._ask_other_columns(i, j, value, np.arange(len(self.means[i])))
            )
        return self.known[i, j]

    def _ask_other_columns(self, i: int, j: int, value: float, columns: NDArray[np.int64]) -> float:
        """Return the valley without what makes most of the difference of two cells, where that may not tell them apart.

        These are attributes whose values meet by chance, and, in a table of many columns, a number that is alone in
        telling them apart and whose valley is not deep.
        """
        step = np.square(self.means[j, columns] - self.means[i, columns])
        decisive = self._decisive_attributes(i, j, columns)
        if decisive and all(self._is_chance(decisive, cell) for cell in (i, j)):
            left_out, deep = np.concatenate([self.attributes[a].columns for a in decisive]), 0.0
        elif (
            self.n_attributes >= MANY_ATTRIBUTES
            and step.max() >= MOST_OF_DIFFERENCE * step.sum()
            and value > DEEP_VALLEY
        ):
            left_out, deep = columns[[int(step.argmax())]], DEEP_VALLEY
        else:
            return value
        others = np.setdiff1d(columns, left_out)
        without = 2.0
        if len(others) and float(np.square(self.means[j, others] - self.means[i, others]).sum()) >= 1e-12:
            without = self._plain_valley(i, j, others)
            if without < MAX_VALLEY:
                without = self._ask_other_columns(i, j, without, others)
        if deep and without < MAX_VALLEY:
            return value
        self.by_attribute.add((i, j))
        return without

    def _plain_valley(self, i: int, j: int, columns: NDArray[np.int64]) -> float:
        """Return the valley between two cells in some of the columns, as they are."""
        means = np.zeros((2, self.means.shape[1]))
        means[:, columns] = self.means[np.ix_(np.array([i, j]), columns)]
        others = np.setdiff1d(np.arange(means.shape[1]), columns)
        norms = self.plain_norms - np.square(self.plain[:, others]).sum(axis=1)
        first, second = np.ascontiguousarray((self.plain @ means.T).T)
        rows = self._telling_rows(np.square(means[1] - means[0]))
        return _valley(first[rows], second[rows], norms[rows], means[0], means[1], self.core[rows], i, j)

    def _telling_rows(self, difference: Float64s) -> Int64s | slice:
        """Return the rows in which most of the difference of two cells, which columns add up to, was not filled in."""
        if self.filled is None:
            return slice(None)
        parts = np.abs(difference)
        return np.flatnonzero(self.filled @ parts <= MOST_FILLED * parts.sum())

    def _decisive_attributes(self, i: int, j: int, columns: NDArray[np.int64]) -> list[int]:
        """Return the fewest attributes that make MOST_OF_DIFFERENCE of the difference; none if they are many."""
        step = np.square(self.means[j, columns] - self.means[i, columns])
        of_attributes = np.bincount(self.attribute_of[columns], step, len(self.attributes) + 1)
        shares = of_attributes[:-1] / step.sum()
        decisive: list[int] = []
        for a in np.argsort(-shares, kind="stable")[:MAX_DECISIVE].tolist():
            if self.attributes[a].is_number and not self._has_atom(a, i, j):
                return []
            decisive.append(a)
            if shares[decisive].sum() >= MOST_OF_DIFFERENCE:
                return decisive
        return []

    def _has_atom(self, attribute: int, i: int, j: int) -> bool:
        """Return whether most rows of one of two cells have one and the same value."""
        codes = self.attributes[attribute].codes
        counts = (np.bincount(codes[self.core == cell]) for cell in (i, j))
        return any(of_value.max() >= MOST_ON_ONE_VALUE * of_value.sum() for of_value in counts)

    def _is_chance(self, decisive: list[int], cell: int) -> bool:
        """Return whether a cell's answers occur together about as often as if they were independent."""
        together, expected = np.ones(len(self.core), bool), 1.0
        for a in decisive:
            codes = self.attributes[a].codes
            matches = codes == np.bincount(codes[self.core == cell]).argmax()
            together &= matches
            expected *= float(matches.mean())
        return float(together.mean()) < MAX_LIFT * expected


class _Attribute(NamedTuple):
    """The columns of an attribute, the value of each row as a code, and whether it is a number with atoms."""

    columns: NDArray[np.int64]
    codes: Int64s
    is_number: bool


class _Sample(NamedTuple):
    """The rows with their levels spread, their attributes, and 1.0 in the cells that were filled in: None if none."""

    spread: Rows
    attributes: list[_Attribute]
    filled: Float64s | None


def _with_atoms(X: Rows, attributes: Attributes) -> list[_Attribute]:
    """Return the attributes, and the numbers with a value that many rows have."""
    found = []
    for columns in attributes:
        block = X[:, columns]
        codes = block.argmax(axis=1) if len(columns) > 1 else np.greater(block[:, 0], block.mean()).astype(np.int64)
        found.append(_Attribute(columns, codes, is_number=False))
    known = set(np.concatenate([*attributes, np.empty(0, np.int64)]).tolist())
    for c in range(X.shape[1]):
        if c in known:
            continue
        _, codes, counts = np.unique(X[:, c], return_inverse=True, return_counts=True)
        if MIN_TIES * len(X) <= counts.max() < len(X):
            found.append(_Attribute(np.array([c]), codes, is_number=len(counts) > 2))
    return found


def _whitening(residuals: Float64s, variance: float) -> Float64s:
    """Return the axes (n_features, n_features) on which the scatter within the cells is even.

    `variance` is that of a column on average: cells of equal rows have no scatter to divide by.
    """
    values, vectors = np.linalg.eigh(residuals.T @ residuals / len(residuals))
    least = max(MIN_VARIANCE_SHARE * float(values.mean()), 1e-6 * variance, np.finfo(np.float64).tiny)
    axes: Float64s = vectors / np.sqrt(np.maximum(values, least))
    return axes


def _valley(
    first_dots: Float64s,
    second_dots: Float64s,
    norms: Float64s,
    first: Float64s,
    second: Float64s,
    labels: Int32s,
    i: int,
    j: int,
) -> float:
    """Return the rows in the valley between two centers as a share of those at the lower peak, of the clearer tube."""
    squared_length = float(np.square(second - first).sum())
    if squared_length == 0.0:
        return 2.0
    counts = np.zeros((len(TUBES), N_BINS), np.int64)
    first_norm, second_norm = float(first @ first), float(second @ second)
    tube_profiles(
        first_dots, second_dots, norms, first_norm, second_norm, squared_length, labels, i, j, np.array(TUBES), counts
    )
    return min(_valley_share(profile) for profile in counts)


def _valley_share(profile: Int64s) -> float:
    """Return the upper bound of the valley as a share of the lower bound of the lower peak, at most 2."""
    sums = np.convolve(profile, np.ones(WINDOW_BINS, np.int64), "valid")
    middle = FIRST + BIN * (np.arange(len(sums)) + WINDOW_BINS / 2)
    left, right = (np.flatnonzero((middle > a) & (middle < b)) for a, b in ((-0.31, 0.46), (0.54, 1.31)))
    a, b = int(left[sums[left].argmax()]), int(right[sums[right].argmax()])
    valley, peak = float(sums[a : b + 1].min()), float(min(sums[a], sums[b]))
    lower = peak - STANDARD_ERRORS * np.sqrt(peak)
    if lower <= 0:
        return 2.0
    return float(min(2.0, (valley + 1 + STANDARD_ERRORS / 2 * np.sqrt(valley + 1)) / lower))
