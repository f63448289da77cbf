"""Table of clusters and features: the typical value of every feature in every cluster, and how far it is from all.

effect sizes  ->  features.json: one entry a feature, those that tell the clusters apart most first

The importance of a feature is the share of its variance that lies between the clusters (eta squared): the mean over
people of the squared standardized difference of their cluster. The permutation importance is of its column
(rules/permutation.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.explain.personas.effect_sizes import EffectSize
from engine.explain.personas.phrases import feature_title, format_value
from engine.utils.domain_words import DEFAULT_WORDS, DomainWords

MAX_FEATURES = 400  # of the table: those of the largest importance
QUARTILE_PEOPLE = 4  # times min_people that quartiles need, so that so many people are beyond each
TAIL_PEOPLE = 20  # times min_people that the 5 % and 95 % quantiles need


def feature_table(
    effect_sizes: Sequence[Sequence[EffectSize]],
    sizes: NDArray[np.int64],
    min_people: int,
    column_importance: Mapping[str, float],
    words: DomainWords = DEFAULT_WORDS,
) -> list[dict[str, Any]]:
    """Return the entries of features.json, of the largest importance first.

    Parameters
    ----------
    effect_sizes : sequence of sequences of EffectSize, one per cluster
    sizes : int64 array of shape (n_clusters,)
    min_people : int
        Smallest number of sampled people behind a figure; others are left out.
    column_importance : mapping of column to float
        Permutation importance; columns that are not in it have 0.
    words : DomainWords, optional
        What the rows are called.

    Returns
    -------
    list of dict
        `what`, `column`, `kind`, `importance` and `permutation_importance` in [0, 1], `everybody`, and for every
        cluster in `clusters` its value `here` and the standardized `difference`, or None; numbers have `box` too, the
        quantiles at 5, 25, 50, 75 and 95 %, as far as enough people are behind them.
    """
    by_feature: dict[str, list[EffectSize | None]] = {}
    for cluster, of_cluster in enumerate(effect_sizes):
        for effect_size in of_cluster:
            cells = by_feature.setdefault(feature_title(effect_size), [None] * len(effect_sizes))
            cells[cluster] = effect_size if effect_size.n_known >= min_people else None
    entries: list[dict[str, Any]] = []
    for title, cells in by_feature.items():
        known = [(cell, int(size)) for cell, size in zip(cells, sizes, strict=True) if cell is not None]
        if not known:
            continue
        between = sum(size * cell.difference**2 for cell, size in known)
        first = known[0][0]
        entries.append(
            {
                "what": title,
                "column": first.feature.column,
                "kind": first.feature.kind,
                "importance": round(min(between / sum(size for _, size in known), 1.0), 4),
                "permutation_importance": round(column_importance.get(first.feature.column, 0.0), 4),
                "everybody": format_value(first, first.overall_value),
                "clusters": [None if cell is None else _cell(cell, min_people, words) for cell in cells],
            }
        )
    return sorted(entries, key=lambda entry: -entry["importance"])[:MAX_FEATURES]


def _cell(effect_size: EffectSize, min_people: int, words: DomainWords) -> dict[str, Any]:
    too_few = effect_size.is_share and effect_size.n_people < min_people
    cell: dict[str, Any] = {
        "here": words.hardly_anybody if too_few else format_value(effect_size, effect_size.cluster_value),
        "difference": round(effect_size.disclosed_difference(min_people), 3),
    }
    if effect_size.feature.kind == "number":
        least = np.array([TAIL_PEOPLE, QUARTILE_PEOPLE, 1, QUARTILE_PEOPLE, TAIL_PEOPLE]) * min_people
        known = effect_size.n_known >= least
        cell["box"] = [float(f"{q:.6g}") if k else None for q, k in zip(effect_size.quantiles, known, strict=True)]
    return cell
