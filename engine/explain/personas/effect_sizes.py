"""What sets a cluster apart: each feature of its people against everybody's, with confidence intervals.

    Sample -> for every cluster and feature: typical value or share, standardised difference, lift

The standardised difference of a number is (mean here - mean of everybody) / standard deviation of everybody, on
clipped values, logarithms where the features took them (Cohen's d with everybody as the yardstick); of a category or
label it is that of its 0/1 flag. Lift is share here / share of everybody. Intervals are at 95 %: normal for means,
Wilson's for shares; everybody is so many more people that what is uncertain about them is left out. Missing values
are left out too: what is compared is what is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.explain.binning.predicates import Question
from engine.explain.row_sample import Sample
from engine.features.columnar_block import MISSING_CODE, array_of, codes_in, labels_of, placed, values_of
from engine.features.encoding_plan import CategoryPlan, LabelPlan, NumberPlan, Plan
from engine.utils.formatting import Vocabulary

Z95 = 1.959964
NOTABLE = 0.2  # standardised difference from which a contrast is worth a word: Cohen's "small"
TRIVIAL = 0.1  # … and below which people are like everybody
WHO, INTERESTS = "demographics", "interests"  # groups that are told apart from others
Floats = NDArray[np.float64]
Kind = Literal["number", "date", "truth", "category", "label", "missing"]


@dataclass(frozen=True)
class Contrast:
    """One feature of one cluster against everybody.

    Attributes
    ----------
    about : Question
        Which column, category or label.
    group : str
    here, everybody : float
        The median of a number (in units; a date in days since 1970-01-01), or the share of people.
    difference, low, high : float
        Standardised, with its interval.
    lift, lift_low, lift_high : float or None
        Of shares only.
    n_known, n_people : int
        Sampled people of the cluster with a known value, and those behind `here`: who have the category.
    spread : float
        The standard deviation of everybody in units: how far `here` is worth being told.
    """

    about: Question
    group: str
    here: float
    everybody: float
    difference: float
    low: float
    high: float
    lift: float | None
    lift_low: float | None
    lift_high: float | None
    n_known: int
    n_people: int
    spread: float

    @property
    def strength(self) -> float:
        """How far from nothing the interval lies: what is uncertain does not count."""
        return max(self.low, -self.high, 0.0)

    def told_difference(self, min_people: int) -> float:
        """Return the difference as it may be told: of a share with too few people behind it, that of a share of 0."""
        if self.is_share and self.n_people < min_people:
            return -self.everybody / self.spread
        return self.difference

    @property
    def is_share(self) -> bool:
        """Whether `here` is a share of people."""
        return self.lift is not None


def contrasts(sample: Sample, plan: Plan, words: Vocabulary, groups: Mapping[str, str]) -> list[list[Contrast]]:
    """Return the contrasts of every cluster, in the order of the columns; of an empty cluster none.

    Parameters
    ----------
    sample : Sample
    plan : Plan
    words : Vocabulary
    groups : mapping of column name to its group
    """
    found: list[list[Contrast]] = [[] for _ in range(sample.n_clusters)]
    for column in plan.columns:
        meanings = words.meanings(column.column)
        for asked, values, known in _features(column, words.names[column.column], sample.table):
            about = replace(asked, meanings=meanings)
            of_number = about.kind in ("number", "date")
            compare = _numbers if of_number else _flags
            for cluster, contrast in compare(about, groups[column.column], values, known, sample, column):
                found[cluster].append(contrast)
    return found


def _features(
    plan: NumberPlan | CategoryPlan | LabelPlan, name: str, rows: pa.Table
) -> Iterator[tuple[Question, Floats, NDArray[np.bool_]]]:
    """Yield what can be compared about a column: the question, each row's value, and whether it is known."""
    if isinstance(plan, NumberPlan):
        values = values_of(rows, plan.column, date=plan.role == "date")
        missing = np.isnan(values)
        distinct = np.unique(values[~missing])
        if len(distinct) == 2 and plan.role != "date":
            low, high = float(distinct[0]), float(distinct[1])
            yield Question(plan.column, name, "truth", cuts=(high,), unit=plan.unit, low=low), values == high, ~missing
        elif len(distinct) > 1:
            whole = bool((distinct == np.rint(distinct)).all())
            kind: Literal["date", "number"] = "date" if plan.role == "date" else "number"
            yield Question(plan.column, name, kind, whole=whole, unit=plan.unit), values, ~missing
    elif isinstance(plan, CategoryPlan):
        codes = codes_in(array_of(rows, plan.column), plan.categories)
        missing = codes == MISSING_CODE
        for code, value in enumerate(plan.categories):
            yield Question(plan.column, name, "category", value), codes == code, ~missing
    else:
        offsets, found, names, missing = labels_of(array_of(rows, plan.column), plan.separator)
        codes = placed(found, names or [], plan.labels)
        row = np.repeat(np.arange(len(missing)), np.diff(offsets))
        for code, value in enumerate(plan.labels):
            flag = np.zeros(len(missing), bool)
            flag[row[codes == code]] = True
            yield Question(plan.column, name, "label", value), flag, ~missing
    if plan.indicator:
        yield Question(plan.column, name, "missing"), missing, np.ones(len(missing), bool)


def _numbers(
    about: Question, group: str, values: Floats, known: NDArray[np.bool_], sample: Sample, plan: Any
) -> Iterator[tuple[int, Contrast]]:
    value, label, weight = values[known], sample.labels[known], sample.weights[known]
    scaled = np.log1p(np.maximum(value, 0.0)) if plan.logarithm else value
    low, high = np.quantile(scaled, [0.005, 0.995])
    scaled = np.clip(scaled, low, high) if low < high else scaled
    mean = float(np.average(scaled, weights=weight))
    spread = float(np.sqrt(np.average((scaled - mean) ** 2, weights=weight)))
    middle, width = _weighted_median(value, weight), float(np.subtract(*np.quantile(value, [0.84, 0.16]))) / 2
    for cluster in np.unique(label):
        mine = label == cluster
        n = int(mine.sum())
        difference = (float(scaled[mine].mean()) - mean) / spread if spread > 0 else 0.0
        doubt = Z95 * float(scaled[mine].std()) / np.sqrt(n) / spread if spread > 0 else 0.0
        doubt = max(doubt, Z95 / np.sqrt(n) * 0.1)  # a few equal values do not make a mean certain
        yield int(cluster), Contrast(
            about, group, float(np.median(value[mine])), middle, difference, difference - doubt, difference + doubt,
            None, None, None, n, n, width,
        )  # fmt: skip


def _flags(
    about: Question, group: str, values: Floats, known: NDArray[np.bool_], sample: Sample, plan: Any
) -> Iterator[tuple[int, Contrast]]:
    flag, label, weight = values[known].astype(np.float64), sample.labels[known], sample.weights[known]
    if len(flag) == 0 or not 0.0 < (share := float(np.average(flag, weights=weight))) < 1.0:
        return
    spread = float(np.sqrt(share * (1.0 - share)))
    n_known = np.bincount(label, minlength=sample.n_clusters)
    n_with = np.bincount(label, flag, sample.n_clusters)
    for cluster in np.flatnonzero(n_known):
        n, here = int(n_known[cluster]), float(n_with[cluster] / n_known[cluster])
        low, high = wilson(here, n)
        yield int(cluster), Contrast(
            about, group, here, share, (here - share) / spread, (low - share) / spread, (high - share) / spread,
            here / share, low / share, high / share, n, round(n_with[cluster]), spread,
        )  # fmt: skip


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share seen on n people."""
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * float(np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)))
    return max(0.0, centre - half), min(1.0, centre + half)


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values, kind="stable")
    upto = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(upto, upto[-1] / 2)])
