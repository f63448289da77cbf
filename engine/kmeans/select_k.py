"""How many clusters? A sweep over k on a sample, judged by four measures.

    Z (n_rows, n_features) -> KSelection (k, reason, table)

The elbow of the inertia decides (Satopää et al., "Finding a 'kneedle' in a haystack", 2011), the silhouette where
there is no elbow; the table shows the rest, so that a person can overrule it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from engine import backends
from engine.backends.protocol import Int32s, Int64s, Rows
from engine.errors import TooFewRowsError, UsageError
from engine.kmeans.initialization import distinct_rows
from engine.kmeans.metrics import calinski_harabasz, davies_bouldin, silhouette
from engine.kmeans.restarts import cluster_rows
from engine.utils.row_sampling import counts_of, sample_rows

MEASURES = ("k", "inertia", "silhouette", "calinski_harabasz", "davies_bouldin")
Measures = dict[str, float]  # one k of the sweep, by MEASURES; NaN for what fewer than two clusters do not have


@dataclass(frozen=True)
class KSelection:
    """The chosen number of clusters, one sentence why, the sweep, and what was left out of it."""

    k: int
    reason: str
    table: list[Measures]
    notes: tuple[str, ...] = ()


def choose_k(
    Z: Rows,
    k_range: Iterable[int] = range(1, 21),
    *,
    sample_size: int = 50_000,
    silhouette_size: int = 5_000,
    random_state: int = 0,
    earlier: Sequence[Measures] = (),
    watch: Callable[[list[Measures]], None] | None = None,
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
        Rows of that sample whose silhouette is taken: its cost grows with their square.
    random_state : int, default=0
    earlier : sequence of Measures, default=()
        The beginning of the table, from a sweep that was interrupted.
    watch : callable, optional
        Called with the table so far after every k.

    Returns
    -------
    KSelection
        Inertia is of the sample. `table` has one row per k, in ascending order.

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
    distinct = len(distinct_rows(sample, np.ones(len(sample)))[0])
    skipped = [k for k in ks if k > distinct]
    ks = [k for k in ks if k <= distinct]
    if not ks:
        raise TooFewRowsError(f"n_clusters={skipped[0]} needs as many distinct rows, but the sample has {distinct}.")
    measured = sample_rows(len(sample), silhouette_size, random_state + 1)
    table = list(earlier)
    for number in ks[len(table) :]:
        table.append(_measure(sample, measured, number, random_state))
        if watch is not None:
            watch(table)
    k, reason = _decide(table)
    notes = (f"k = {_listed(skipped)} skipped: the sample has {distinct} distinct rows.",) if skipped else ()
    return KSelection(k, reason, table, notes)


def _measure(sample: Rows, measured: Int64s, k: int, random_state: int) -> Measures:
    found = cluster_rows(sample, k, backends.resolve()[0], seed=random_state)
    return {"k": k, "inertia": found.inertia, **_scores(sample, found.labels, measured)}


def _scores(sample: Rows, labels: Int32s, measured: Int64s) -> Measures:
    """Return the measures that need two clusters, the silhouette on the rows `measured`; NaN where there is one."""
    scores: Measures = dict.fromkeys(MEASURES[2:], np.nan)
    if 1 < len(np.unique(labels)) < len(sample):
        scores["calinski_harabasz"] = calinski_harabasz(sample, labels)
        scores["davies_bouldin"] = davies_bouldin(sample, labels)
    if 1 < len(np.unique(labels[measured])) < len(measured):
        scores["silhouette"] = silhouette(sample[measured], labels[measured])
    return scores


def given_k(Z: Rows, labels: Int32s, k: int, inertia: float, *, size: int = 5_000, random_state: int = 0) -> KSelection:
    """Return the selection of a k that was given: one line, measured on the clustering itself.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_features), float32 or float64
    labels : int32 ndarray of shape (n_rows,)
    k : int
    inertia : float
        Of all rows.
    size : int, default=5_000
        Rows that the three scores are taken on, drawn by (random_state, row number).
    random_state : int, default=0

    Raises
    ------
    TooFewRowsError
        If a cluster is empty: there are fewer distinct rows than clusters.
    """
    filled = int(np.count_nonzero(counts_of(labels, k)))
    if filled < k:
        raise TooFewRowsError(
            f"n_clusters={k} needs at least {k} distinct rows, but the table has {filled}.", hint="lower n_clusters."
        )
    chosen = sample_rows(len(Z), size, random_state)
    sample, found = np.ascontiguousarray(Z[chosen]), labels[chosen]
    row = _scores(sample, found, np.arange(len(sample)))
    return KSelection(k, f"k = {k} was given", [{"k": k, "inertia": inertia, **row}])


def _decide(table: list[Measures]) -> tuple[int, str]:
    """Return the chosen k and the sentence that says why."""
    ks = [int(row["k"]) for row in table]
    if len(ks) == 1:
        return ks[0], f"k = {ks[0]} is the only one in question"
    span = f"k = {ks[0]} to {ks[-1]}"
    elbow = _elbow(ks, [row["inertia"] for row in table])
    if elbow is not None:
        return elbow, f"the inertia over {span} has its elbow at k = {elbow}"
    scored = [row for row in table if not np.isnan(row["silhouette"])]
    if scored:
        best = max(scored, key=lambda row: row["silhouette"])
        k, value = int(best["k"]), best["silhouette"]
        return k, f"the inertia over {span} has no elbow; k = {k} has the best silhouette, {value:.3f}"
    return ks[0], f"the inertia over {span} has no elbow and no silhouette can be computed; k = {ks[0]} is the smallest"


def _elbow(ks: list[int], inertias: list[float]) -> int | None:
    if len(ks) < 3 or inertias[0] <= inertias[-1]:
        return None
    from kneed import KneeLocator  # 50 ms that a run with a given k saves

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kneed warns where it finds none: the reason says so instead
        elbow = KneeLocator(ks, inertias, curve="convex", direction="decreasing").elbow
    return None if elbow is None else int(elbow)


def _listed(ks: list[int]) -> str:
    return str(ks[0]) if len(ks) == 1 else f"{ks[0]} to {ks[-1]}"
