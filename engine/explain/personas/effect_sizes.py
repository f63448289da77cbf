"""Compute effect sizes: each feature of a cluster's people against everybody, with confidence intervals.

    RowSample, EncodingPlan  ->  for every cluster and feature: typical value or share, standardized difference, lift

The standardized difference of a number is (mean of the cluster - mean of everybody) / standard deviation of everybody,
on clipped values, and on logarithms where the features took them (Glass's delta: Cohen's d with the standard deviation
of everybody). That of a category or label is the one of its 0/1 indicator. Lift is share of the cluster / share of
everybody. Intervals are at 95 %: normal for means, Wilson's for shares. The uncertainty about everybody is ignored,
because they are so many more. Missing values are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.explain.binning.predicates import Predicate
from engine.explain.row_sample import RowSample
from engine.features.columnar_block import (
    MISSING_CODE,
    column_array,
    encode_categories,
    numeric_values,
    read_labels,
    remap_codes,
)
from engine.features.encoding_plan import CategoryPlan, EncodingPlan, LabelPlan, NumberPlan
from engine.features.layout import number_read_spec
from engine.utils.formatting import Vocabulary

Z95 = 1.959964  # quantile of the normal distribution for 95 % intervals
SMALL_EFFECT = 0.2  # standardized difference from which an effect is worth a word: Cohen's "small"
NEGLIGIBLE_EFFECT = 0.1  # standardized difference below which people are like everybody
DEMOGRAPHICS, INTERESTS = "demographics", "interests"  # groups of columns that personas treat specially
BOX_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EffectSize:
    """The effect size of one feature in one cluster, against everybody.

    Attributes
    ----------
    feature : Predicate
        The column, category or label.
    group : str
        The group of the column.
    cluster_value, overall_value : float
        The median of a number (in units; a date in days since 1970-01-01), or the share of people.
    difference, difference_low, difference_high : float
        The standardized difference and its interval.
    lift, lift_low, lift_high : float or None
        The lift of a share and its interval.
    n_known, n_people : int
        Sampled people of the cluster with a known value, and those behind `cluster_value`: with the category.
    spread : float
        The standard deviation of everybody: of a share p it is sqrt(p (1 - p)), of a number half the distance of its
        16 % and 84 % quantiles, in units.
    position : float
        Where `cluster_value` lies among everybody, in [0, 1]: a share is its own position, that of a number is the
        share of everybody with a smaller one, equal ones counted half.
    quantiles : tuple of float
        Of a number: the BOX_QUANTILES of the cluster's people, in units; else empty.
    """

    feature: Predicate
    group: str
    cluster_value: float
    overall_value: float
    difference: float
    difference_low: float
    difference_high: float
    lift: float | None
    lift_low: float | None
    lift_high: float | None
    n_known: int
    n_people: int
    spread: float
    position: float
    quantiles: tuple[float, ...] = ()

    @property
    def strength(self) -> float:
        """The distance of the interval from 0: an uncertain difference does not count."""
        return max(self.difference_low, -self.difference_high, 0.0)

    def disclosed_difference(self, min_people: int) -> float:
        """Return the difference that may be disclosed: with too few people behind a share, that of a share of 0."""
        if self.is_share and self.n_people < min_people:
            return -self.overall_value / self.spread
        return self.difference

    @property
    def overall_position(self) -> float:
        """Where `overall_value` lies among everybody: see `position`."""
        return self.overall_value if self.is_share else 0.5

    @property
    def is_share(self) -> bool:
        """Whether `cluster_value` is a share of people."""
        return self.lift is not None


def compute_effect_sizes(
    sample: RowSample, plan: EncodingPlan, words: Vocabulary, groups: Mapping[str, str]
) -> list[list[EffectSize]]:
    """Compute the effect sizes of every cluster, in the order of the columns; an empty cluster has none.

    Parameters
    ----------
    sample : RowSample
    plan : EncodingPlan
    words : Vocabulary
    groups : mapping of column name to its group

    Returns
    -------
    list of lists of EffectSize, one per cluster
    """
    by_cluster: list[list[EffectSize]] = [[] for _ in range(sample.n_clusters)]
    for column in plan.columns:
        meanings = words.meanings(column.column)
        for predicate, values, known in _features(column, words.names[column.column], sample.table):
            feature = replace(predicate, meanings=meanings)
            compare = _compare_numbers if feature.kind in ("number", "date") else _compare_shares
            for cluster, effect_size in compare(feature, groups[column.column], values, known, sample, column):
                by_cluster[cluster].append(effect_size)
    return by_cluster


def _features(
    plan: NumberPlan | CategoryPlan | LabelPlan, name: str, rows: pa.Table
) -> Iterator[tuple[Predicate, Floats, NDArray[np.bool_]]]:
    """Yield the features of a column: the predicate, each row's value, and whether it is known."""
    if isinstance(plan, NumberPlan):
        read_spec = number_read_spec(plan)
        values = numeric_values(rows, plan.column, read_spec)
        missing = np.isnan(values)
        distinct = np.unique(values[~missing])
        if len(distinct) == 2 and plan.role != "date":
            low, high = float(distinct[0]), float(distinct[1])
            yield (
                Predicate(plan.column, name, "truth", thresholds=(high,), unit=plan.unit, lower_value=low),
                values == high,
                ~missing,
            )
        elif len(distinct) > 1:
            whole = bool((distinct == np.rint(distinct)).all())
            kind: Literal["date", "number"] = "date" if plan.role == "date" else "number"
            yield Predicate(plan.column, name, kind, whole=whole, unit=plan.unit), values, ~missing
    elif isinstance(plan, CategoryPlan):
        codes = encode_categories(column_array(rows, plan.column), plan.categories, plan.missing)
        missing = codes == MISSING_CODE
        for code, value in enumerate(plan.categories):
            yield Predicate(plan.column, name, "category", value), codes == code, ~missing
    else:
        read = read_labels(column_array(rows, plan.column), plan.separator, marks=plan.missing)
        missing, codes = read.missing, remap_codes(read.codes, read.names or [], plan.labels)
        row = np.repeat(np.arange(len(missing)), np.diff(read.offsets))
        for code, value in enumerate(plan.labels):
            indicator = np.zeros(len(missing), bool)
            indicator[row[codes == code]] = True
            yield Predicate(plan.column, name, "label", value), indicator, ~missing
    if plan.indicator:
        yield Predicate(plan.column, name, "missing"), missing, np.ones(len(missing), bool)


def _compare_numbers(
    feature: Predicate, group: str, values: Floats, known: NDArray[np.bool_], sample: RowSample, plan: Any
) -> Iterator[tuple[int, EffectSize]]:
    value, label, weight = values[known], sample.labels[known], sample.weights[known]
    scaled = np.log1p(np.maximum(value, 0.0)) if plan.logarithm else value
    low, high = np.quantile(scaled, [0.005, 0.995])
    scaled = np.clip(scaled, low, high) if low < high else scaled
    mean = float(np.average(scaled, weights=weight))
    spread = float(np.sqrt(np.average((scaled - mean) ** 2, weights=weight)))
    order = np.argsort(value, kind="stable")
    ascending, cumulative = value[order], np.cumsum(weight[order])
    median = float(ascending[np.searchsorted(cumulative, cumulative[-1] / 2)])
    below = np.append(0.0, cumulative) / cumulative[-1]
    half_width = float(np.subtract(*np.quantile(value, [0.84, 0.16]))) / 2
    for cluster in np.unique(label):
        in_cluster = label == cluster
        n = int(in_cluster.sum())
        difference = (float(scaled[in_cluster].mean()) - mean) / spread if spread > 0 else 0.0
        margin = Z95 * float(scaled[in_cluster].std()) / np.sqrt(n) / spread if spread > 0 else 0.0
        margin = max(margin, Z95 / np.sqrt(n) * 0.1)  # a few equal values do not make a mean certain
        typical = float(np.median(value[in_cluster]))
        position = float(np.mean([below[np.searchsorted(ascending, typical, side)] for side in SIDES]))
        quantiles = tuple(np.quantile(value[in_cluster], BOX_QUANTILES).tolist())
        yield int(cluster), EffectSize(
            feature, group, typical, median,
            difference, difference - margin, difference + margin, None, None, None, n, n, half_width,
            position, quantiles,
        )  # fmt: skip


def _compare_shares(
    feature: Predicate, group: str, values: Floats, known: NDArray[np.bool_], sample: RowSample, plan: Any
) -> Iterator[tuple[int, EffectSize]]:
    indicator, label, weight = values[known].astype(np.float64), sample.labels[known], sample.weights[known]
    if len(indicator) == 0 or not 0.0 < (share := float(np.average(indicator, weights=weight))) < 1.0:
        return
    spread = float(np.sqrt(share * (1.0 - share)))
    n_known = np.bincount(label, minlength=sample.n_clusters)
    n_with = np.bincount(label, indicator, sample.n_clusters)
    for cluster in np.flatnonzero(n_known):
        n, cluster_share = int(n_known[cluster]), float(n_with[cluster] / n_known[cluster])
        low, high = wilson(cluster_share, n)
        yield int(cluster), EffectSize(
            feature, group, cluster_share, share,
            (cluster_share - share) / spread, (low - share) / spread, (high - share) / spread,
            cluster_share / share, low / share, high / share, n, round(n_with[cluster]), spread,
            cluster_share,
        )  # fmt: skip


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share observed on n people."""
    center = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half_width = Z95 / (1 + Z95**2 / n) * float(np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)))
    return max(0.0, center - half_width), min(1.0, center + half_width)
