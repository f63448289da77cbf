"""Choice of the number of clusters: a sweep over k on a sample, judged by four metrics.

    Z (n_rows, n_features) -> KSelection (k, reason, table)

The elbow of the inertia decides (Satopää et al., "Finding a 'kneedle' in a haystack", 2011), or the silhouette if
there is no elbow. The table shows all metrics, so that a person can overrule the choice.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from engine import backends
from engine.errors import TooFewRowsError, UsageError
from engine.kmeans.initialization import distinct_rows
from engine.kmeans.metrics import calinski_harabasz, davies_bouldin, silhouette
from engine.kmeans.restarts import cluster_rows
from engine.utils.array_types import Int32s, Int64s, Rows
from engine.utils.row_sampling import count_labels, sample_rows

METRICS = ("k", "inertia", "silhouette", "calinski_harabasz", "davies_bouldin")
KMetrics = dict[str, float]  # one k of the sweep, by METRICS; NaN where a metric needs two clusters


@dataclass(frozen=True)
class KSelection:
    """The chosen number of clusters, the reason in one sentence, the sweep, and notes on values of k left out of it."""

    k: int
    reason: str
    table: list[KMetrics]
    notes: tuple[str, ...] = ()


def choose_k(
    Z: Rows,
    k_range: Iterable[int] = range(1, 21),
    *,
    sample_size: int = 50_000,
    silhouette_size: int = 5_000,
    random_state: int = 0,
    earlier: Sequence[KMetrics] = (),
    watch: Callable[[list[KMetrics]], None] | None = None,
) -> KSelection:
    """Choose the number of clusters from a sweep over k.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_features), float32 or float64
    k_range : iterable of int, default=range(1, 21)
        A k above the number of distinct rows in the sample is skipped, and noted.
    sample_size : int, default=50_000
        Rows that are clustered for every k, drawn by (random_state, row number).
    silhouette_size : int, default=5_000
        Rows of that sample on which the silhouette is computed: its cost grows with their square.
    random_state : int, default=0
    earlier : sequence of KMetrics, default=()
        The beginning of the table, from a sweep that was interrupted.
    watch : callable, optional
        Called with the table so far after every k.

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
    """
    ks = sorted(set(k_range))
    if not ks or ks[0] < 1:
        raise UsageError(f"k_range must hold positive numbers, but it is {ks}.")
    sample = np.ascontiguousarray(Z[sample_rows(len(Z), sample_size, random_state)])
    n_distinct = len(distinct_rows(sample, np.ones(len(sample)))[0])
    skipped = [k for k in ks if k > n_distinct]
    ks = [k for k in ks if k <= n_distinct]
    if not ks:
        raise TooFewRowsError(f"n_clusters={skipped[0]} needs as many distinct rows, but the sample has {n_distinct}.")
    silhouette_rows = sample_rows(len(sample), silhouette_size, random_state + 1)
    table = list(earlier)
    for n_clusters in ks[len(table) :]:
        table.append(_evaluate_k(sample, silhouette_rows, n_clusters, random_state))
        if watch is not None:
            watch(table)
    k, reason = _choose(table)
    notes = (f"k = {_format_ks(skipped)} skipped: the sample has {n_distinct} distinct rows.",) if skipped else ()
    return KSelection(k, reason, table, notes)


def _evaluate_k(sample: Rows, silhouette_rows: Int64s, k: int, random_state: int) -> KMetrics:
    clustering = cluster_rows(sample, k, backends.resolve()[0], seed=random_state)
    return {"k": k, "inertia": clustering.inertia, **_validity_scores(sample, clustering.labels, silhouette_rows)}


def _validity_scores(sample: Rows, labels: Int32s, silhouette_rows: Int64s) -> KMetrics:
    """Return the metrics that need two clusters, NaN if there is one; the silhouette is that of `silhouette_rows`."""
    scores: KMetrics = dict.fromkeys(METRICS[2:], np.nan)
    if 1 < len(np.unique(labels)) < len(sample):
        scores["calinski_harabasz"] = calinski_harabasz(sample, labels)
        scores["davies_bouldin"] = davies_bouldin(sample, labels)
    if 1 < len(np.unique(labels[silhouette_rows])) < len(silhouette_rows):
        scores["silhouette"] = silhouette(sample[silhouette_rows], labels[silhouette_rows])
    return scores


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
        Rows on which the other three metrics are computed, drawn by (random_state, row number).
    random_state : int, default=0

    Raises
    ------
    TooFewRowsError
        If a cluster is empty: there are fewer distinct rows than clusters.
    """
    n_filled = int(np.count_nonzero(count_labels(labels, k)))
    if n_filled < k:
        raise TooFewRowsError(
            f"n_clusters={k} needs at least {k} distinct rows, but the table has {n_filled}.", hint="lower n_clusters."
        )
    rows = sample_rows(len(Z), size, random_state)
    sample = np.ascontiguousarray(Z[rows])
    scores = _validity_scores(sample, labels[rows], np.arange(len(sample)))
    return KSelection(k, f"k = {k} was given", [{"k": k, "inertia": inertia, **scores}])


def _choose(table: list[KMetrics]) -> tuple[int, str]:
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
