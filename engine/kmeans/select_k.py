"""Choice of the number of clusters: valleys between groups decide, and a sweep over k tells what other measures say.

    X (n_rows, n_features) -> KSelection (k, reason, table, means of the groups)

Method "valley" counts the groups of a sample that valleys separate (valleys.py); one group means that there are no
clusters. Method "elbow" takes the elbow of the inertia (Satopää et al., "Finding a 'kneedle' in a haystack", 2011), or
the silhouette if there is no elbow, as the original study did. The table shows all measures, so that a person can
overrule the choice. The comparison of rules: decisions/0033-number-of-clusters.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engine import backends
from engine.backends.protocol import Backend
from engine.config import DEFAULT_K_MAX
from engine.errors import TooFewRowsError, UsageError
from engine.kmeans.initialization import distinct_rows
from engine.kmeans.metrics import adjusted_rand_index, calinski_harabasz, davies_bouldin, silhouette
from engine.kmeans.overlapping_groups import OverlappingGroups, find_overlapping_groups
from engine.kmeans.restarts import cluster_rows
from engine.kmeans.unknown_values import Unknown, fill_unknown, hidden_cells
from engine.kmeans.valleys import MAX_VALLEY, SAMPLE_ROWS, Attributes, ValleySearch, find_valleys, guess_attributes
from engine.utils.array_types import Float64s, Int32s, Int64s, Rows
from engine.utils.row_sampling import count_labels, sample_rows

METRICS = ("k", "inertia", "silhouette", "calinski_harabasz", "davies_bouldin", "stability")
KMetrics = dict[str, float]  # one k of the sweep, by METRICS; NaN where a metric needs two clusters
Method = Literal["valley", "elbow"]
FIRST_END, STEP = 20, 5  # the sweep ends at 20, and goes on while its end looks best, to DEFAULT_K_MAX
VALLEY_SAMPLE_SEED = 0  # the sample must not follow the seed of a run: the same table has the same clusters
ELBOW_SAMPLE_ROWS = 50_000


@dataclass(frozen=True)
class KSelection:
    """The chosen number of clusters.

    Attributes
    ----------
    k : int
    reason : str
        In one sentence.
    table : list of KMetrics
        The sweep.
    notes : tuple of str
        On measures that differ, and on values of k left out of the sweep.
    runner_up : int or None
        The number of clusters that would be the next best.
    means : ndarray of shape (k, n_features) or None
        The means of the groups: initial centers of K-Means on all rows.
    """

    k: int
    reason: str
    table: list[KMetrics]
    notes: tuple[str, ...] = ()
    runner_up: int | None = None
    means: Float64s | None = None

    def facts(self) -> dict[str, Any]:
        """Return all but the means, as plain values."""
        return {
            "k": self.k,
            "reason": self.reason,
            "table": self.table,
            "notes": self.notes,
            "runner_up": self.runner_up,
        }


def choose_k(
    X: Rows,
    k_range: Iterable[int] | None = None,
    *,
    method: Method = "valley",
    sample_size: int | None = None,
    silhouette_size: int = 5_000,
    random_state: int = 0,
    attributes: Attributes | None = None,
    unknown: Unknown | None = None,
    earlier: Sequence[KMetrics] = (),
    watch: Callable[[list[KMetrics]], None] | None = None,
    device: str | Backend = "auto",
) -> KSelection:
    """Choose the number of clusters.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64
        Columns as they are to be weighed. Give "valley" columns rather than scores of a PCA: it recognises those that
        are yes or no, or hold few values.
    k_range : iterable of int, optional
        The values of k that may be chosen. By default 1 to 20, and on to 40 while the end of the range looks best. A k
        above the number of distinct rows in the sample is skipped, and noted.
    method : {"valley", "elbow"}, default="valley"
        "valley" counts the groups with fewer rows between them than in them, and 1 is an answer. "elbow" takes the
        elbow of the inertia.
    sample_size : int, optional
        Rows that are looked at. By default 10,000 for "valley", the same for every random_state, and 50,000 for
        "elbow", drawn by (random_state, row number).
    silhouette_size : int, default=5_000
        Rows of that sample on which the silhouette is computed: its cost grows with their square.
    random_state : int, default=0
        Seed of the sweep; "valley" chooses the same k for every one.
    attributes : sequence of int arrays, optional
        The columns of each attribute that is yes or no, or one category of several; guessed by default.
    unknown : bool ndarray of shape (n_rows, n_features), optional
        Cells that "valley" looks past, such as missing values that X has filled: they make no groups.
    earlier : sequence of KMetrics, default=()
        The beginning of the table, from a sweep that was interrupted.
    watch : callable, optional
        Called with the table so far after every k.
    device : {"auto", "cpu", "cuda"} or Backend, default="auto"
        Where the K-Means of the sweep is computed. It has the same bits on every device.

    Returns
    -------
    KSelection
        Inertia is that of the sample. `table` has one row per k, in ascending order.

    Raises
    ------
    UsageError
        If k_range holds no positive k.
    TooFewRowsError
        If no k of the range is at most the number of distinct rows.
    DeviceNotAvailableError
        If `device` does not answer.
    """
    ks = sorted(set(range(1, FIRST_END + 1) if k_range is None else k_range))
    if not ks or ks[0] < 1:
        raise UsageError(f"k_range must hold positive numbers, but it is {ks}.")
    by_valley = method == "valley"
    size = sample_size or (SAMPLE_ROWS if by_valley else ELBOW_SAMPLE_ROWS)
    rows = sample_rows(len(X), size, VALLEY_SAMPLE_SEED if by_valley else random_state)
    sample = np.ascontiguousarray(X[rows])
    n_distinct = len(distinct_rows(sample, np.ones(len(sample)))[0])
    possible = [k for k in ks if k <= n_distinct]
    if not possible:
        raise TooFewRowsError(f"n_clusters={ks[0]} needs as many distinct rows, but the sample has {n_distinct}.")
    valleys = None
    if by_valley:
        largest = possible[-1] if k_range is not None else min(DEFAULT_K_MAX, n_distinct)
        hidden = hidden_cells(sample, None if unknown is None else unknown[rows])
        looked_at = fill_unknown(sample, hidden)
        attributes = guess_attributes(sample) if attributes is None else attributes
        valleys = find_valleys(looked_at, attributes, hidden=hidden, max_groups=largest)
    sweep = _Sweep(sample, random_state, silhouette_size, list(earlier), watch, backends.backend_of(device))
    sweep.run(possible)
    while k_range is None and possible[-1] < min(DEFAULT_K_MAX, n_distinct) and sweep.end_looks_best(valleys):
        possible = list(range(1, min(possible[-1] + STEP, DEFAULT_K_MAX, n_distinct) + 1))
        sweep.run(possible)
    skipped = [k for k in ks if k > n_distinct]
    notes = [f"k = {_format_ks(skipped)} skipped: the sample has {n_distinct} distinct rows."] if skipped else []
    if valleys is None:
        k, reason = _choose_elbow(sweep.table)
        best = _best_k(sweep.table, "silhouette")
        return KSelection(k, reason, sweep.table, tuple(notes), None if best == k else best)
    overlapping = None
    if len(possible) > 1:
        overlapping = find_overlapping_groups(looked_at, valleys.labels, possible, attributes or (), hidden)
    return _choose_by_valleys(sample, valleys, overlapping, sweep.table, notes)


def count_groups(sample: Rows, hidden: Unknown, attributes: Attributes, largest: int) -> int:
    """Return the number of groups of a sample, up to `largest`, as "valley" chooses it.

    `fill_unknown` returned the sample, and filled its `hidden` cells.
    """
    valleys = find_valleys(sample, attributes, hidden=hidden, max_groups=largest)
    overlapping = find_overlapping_groups(sample, valleys.labels, range(1, largest + 1), attributes, hidden)
    return valleys.k if overlapping is None else overlapping.k


class _Sweep:
    """K-Means for one k after another on a sample, and the measures of each."""

    def __init__(
        self,
        sample: Rows,
        random_state: int,
        silhouette_size: int,
        table: list[KMetrics],
        watch: Callable[[list[KMetrics]], None] | None,
        backend: Backend,
    ) -> None:
        self.sample, self.random_state, self.table, self.watch = sample, random_state, table, watch
        self.backend = backend
        self.silhouette_rows = sample_rows(len(sample), silhouette_size, random_state + 1)

    def run(self, ks: list[int]) -> None:
        """Add the measures of those of ks that the table lacks; ks begin with those it has."""
        for k in ks[len(self.table) :]:
            self.table.append(self._evaluate(k))
            if self.watch is not None:
                self.watch(self.table)

    def end_looks_best(self, valleys: ValleySearch | None) -> bool:
        """Return whether the choice, or the silhouette of a choice by valleys, is at one of the last two k."""
        last_but_one = self.table[-2]["k"] if len(self.table) > 1 else np.inf
        if valleys is None:
            return _choose_elbow(self.table)[0] >= last_but_one
        best = _best_k(self.table, "silhouette")
        return valleys.k >= last_but_one or (valleys.k > 1 and best is not None and best >= last_but_one)

    def _evaluate(self, k: int) -> KMetrics:
        clustering = cluster_rows(self.sample, k, self.backend, seed=self.random_state)
        scores = _validity_scores(self.sample, clustering.labels, self.silhouette_rows)
        return {"k": k, "inertia": clustering.inertia, **scores, "stability": self._stability(k, clustering.labels)}

    def _stability(self, k: int, labels: Int32s) -> float:
        """Return the adjusted Rand index of the labels and those by the centers of every other row."""
        half = np.ascontiguousarray(self.sample[::2])
        if not 1 < k <= len(half):
            return np.nan
        centers = cluster_rows(half, k, self.backend, seed=self.random_state).centers
        counts = np.zeros((k, k), np.int64)
        np.add.at(counts, (labels, self.backend.nearest_two(self.sample, centers).labels), 1)
        return adjusted_rand_index(counts)


def _validity_scores(sample: Rows, labels: Int32s, silhouette_rows: Int64s) -> KMetrics:
    """Return the metrics that need two clusters, NaN if there is one; the silhouette is that of `silhouette_rows`."""
    scores: KMetrics = dict.fromkeys(METRICS[2:5], np.nan)
    if 1 < len(np.unique(labels)) < len(sample):
        scores["calinski_harabasz"] = calinski_harabasz(sample, labels)
        scores["davies_bouldin"] = davies_bouldin(sample, labels)
    if 1 < len(np.unique(labels[silhouette_rows])) < len(silhouette_rows):
        scores["silhouette"] = silhouette(sample[silhouette_rows], labels[silhouette_rows])
    return scores


def check_cluster_count(n_clusters: int | str, n_distinct: int) -> None:
    """Raise TooFewRowsError if a number of clusters is larger than that of distinct rows; "auto" never is."""
    if isinstance(n_clusters, int) and n_clusters > n_distinct:
        raise TooFewRowsError(
            f"n_clusters={n_clusters} needs at least {n_clusters} distinct rows, but the table has {n_distinct}.",
            hint="lower n_clusters.",
        )


def score_given_k(
    Z: Rows, labels: Int32s, k: int, inertia: float, *, size: int = 5_000, random_state: int = 0
) -> KSelection:
    """Return a KSelection for a k that the user gave: one row of metrics, of the clustering itself.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_features), float32 or float64
    labels : int32 ndarray of shape (n_rows,)
    k : int
    inertia : float
        That of all rows.
    size : int, default=5_000
        Rows on which the other metrics are computed, drawn by (random_state, row number). Stability is not: it would
        take another clustering.
    random_state : int, default=0

    Raises
    ------
    TooFewRowsError
        If a cluster is empty: there are fewer distinct rows than clusters.
    """
    check_cluster_count(k, int(np.count_nonzero(count_labels(labels, k))))
    rows = sample_rows(len(Z), size, random_state)
    sample = np.ascontiguousarray(Z[rows])
    scores = _validity_scores(sample, labels[rows], np.arange(len(sample)))
    return KSelection(k, f"k = {k} was given", [{"k": k, "inertia": inertia, **scores, "stability": np.nan}])


def _choose_by_valleys(
    sample: Rows,
    valleys: ValleySearch,
    overlapping: OverlappingGroups | None,
    table: list[KMetrics],
    notes: list[str],
) -> KSelection:
    """Return the number of groups, within the range of k; what other measures say is noted."""
    ks = [int(row["k"]) for row in table]
    found: ValleySearch | OverlappingGroups = valleys if overlapping is None else overlapping
    k = min(ks, key=lambda k: (abs(k - found.k), k))
    means = None
    if k == found.k:
        means = np.stack([sample[found.labels == c].mean(axis=0, dtype=np.float64) for c in range(k)])
    differing = [f"{words} at k = {best}" for words, best in _other_choices(table) if best is not None and best != k]
    if differing:
        notes = [*notes, f"Other measures differ: {'; '.join(differing)}."]
    if overlapping is None:
        return KSelection(k, _valley_reason(valleys, k, ks), table, tuple(notes), _runner_up(valleys, k, ks), means)
    reason = (
        f"{k} groups that overlap: their silhouette, {overlapping.silhouette:.2f}, is far beyond the "
        f"{overlapping.of_clouds:.2f} of {_clouds(valleys.k)}, though valleys separate {_groups(valleys.k)}"
    )
    return KSelection(k, reason, table, tuple(notes), valleys.k if valleys.k in ks else None, means)


def _clouds(k: int) -> str:
    return "one cloud with the same columns" if k == 1 else f"{k} clouds with the same columns"


def _groups(k: int) -> str:
    return "none of them" if k == 1 else f"only {k}"


def _valley_reason(valleys: ValleySearch, k: int, ks: list[int]) -> str:
    if len(ks) == 1:
        return f"k = {k} is the only candidate"
    if valleys.k == 1:
        reason = (
            "there are no clusters: wherever the rows are split, they are as dense between the parts as within them"
        )
        return reason if k == 1 else f"{reason}; k = {k} is the smallest of the range"
    share = f"{max(valleys.shallowest, 0.005):.0%}"
    if valleys.next_merge < MAX_VALLEY or k != valleys.k:  # the range ends before the groups do
        return f"there are more groups than that, but k = {ks[-1]} is the largest of the range"
    reason = f"{k} groups have valleys between them: between any two, rows are at most {share} as dense as in them"
    if np.isinf(valleys.next_merge):
        return reason
    return f"{reason}, and a further split would cut through rows that are just as dense on the cut"


def _runner_up(valleys: ValleySearch, k: int, ks: list[int]) -> int | None:
    """Return k - 1 or k + 1, whichever valley comes closer to the other side of MAX_VALLEY."""
    fewer = MAX_VALLEY - valleys.shallowest if k > 1 else np.inf
    more = valleys.next_merge - MAX_VALLEY
    candidate = k - 1 if fewer <= more else k + 1
    return candidate if candidate in ks and min(fewer, more) < np.inf else None


def _other_choices(table: list[KMetrics]) -> list[tuple[str, int | None]]:
    """Return what other measures would choose, in words."""
    elbow = _find_elbow([int(row["k"]) for row in table], [row["inertia"] for row in table])
    return [
        ("the silhouette is largest", _best_k(table, "silhouette")),
        ("Calinski-Harabasz is largest", _best_k(table, "calinski_harabasz")),
        ("Davies-Bouldin is least", _best_k(table, "davies_bouldin", sign=-1.0)),
        ("two halves of the rows agree most", _best_k(table, "stability")),
        ("the inertia has its elbow", elbow),
    ]


def _best_k(table: list[KMetrics], name: str, sign: float = 1.0) -> int | None:
    """Return the k whose measure is largest, the smallest of equal ones."""
    known = [row for row in table if not np.isnan(row[name])]
    return int(max(known, key=lambda row: sign * row[name])["k"]) if known else None


def _choose_elbow(table: list[KMetrics]) -> tuple[int, str]:
    """Return the chosen k and the reason in a sentence."""
    ks = [int(row["k"]) for row in table]
    if len(ks) == 1:
        return ks[0], f"k = {ks[0]} is the only candidate"
    span = f"k = {ks[0]} to {ks[-1]}"
    elbow = _find_elbow(ks, [row["inertia"] for row in table])
    if elbow is not None:
        return elbow, f"the inertia over {span} has its elbow at k = {elbow}"
    rows_with_silhouette = [row for row in table if not np.isnan(row["silhouette"])]
    if rows_with_silhouette:
        best = max(rows_with_silhouette, key=lambda row: row["silhouette"])
        k, value = int(best["k"]), best["silhouette"]
        return k, f"the inertia over {span} has no elbow; k = {k} has the best silhouette, {value:.3f}"
    return ks[0], f"the inertia over {span} has no elbow and no silhouette can be computed; k = {ks[0]} is the smallest"


def _find_elbow(ks: list[int], inertias: list[float]) -> int | None:
    if len(ks) < 3 or inertias[0] <= inertias[-1]:
        return None
    from kneed import KneeLocator  # its import takes 50 ms, which a fit with a given k saves

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kneed warns if it finds no elbow: the reason says so instead
        elbow = KneeLocator(ks, inertias, curve="convex", direction="decreasing").elbow
    return None if elbow is None else int(elbow)


def _format_ks(ks: list[int]) -> str:
    return str(ks[0]) if len(ks) == 1 else f"{ks[0]} to {ks[-1]}"
