"""How the values of each column were distributed in a table, in a few numbers that a model can carry.

    EncodingPlan, statistics  ->  TableDistributions: per column missing rows, and quantiles or shares of categories

Numbers and dates: sample values at QUANTILES, each with the share of the values below it and up to it. Between two of
them the distribution is taken as linear, which a value that many rows have does not disturb: it is one of them, and the
shares below it and up to it differ. Categories and labels: the shares of those that MIN_SHARE of the rows have, and no
fewer than MIN_COUNT. Tables are compared by engine/gate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.features.column_statistics import ColumnStatistics, TableStatistics
from engine.features.encoding_plan import CategoryPlan, ColumnPlan, EncodingPlan, NumberPlan
from engine.utils.array_types import Float64s

Form = Literal["number", "date", "category", "labels"]

QUANTILES = np.array([0.005, *np.arange(1, 40) / 40, 0.995])
MIN_SHARE = 0.005  # of the rows: rarer categories and labels are not kept
MIN_COUNT = 11  # rows with a category or label that is kept, and rows without which a column has no quantiles

_EMPTY = np.empty(0)


@dataclass(frozen=True)
class ColumnDistribution:
    """The distribution of one column.

    Attributes
    ----------
    column : str
    form : {"number", "date", "category", "labels"}
    n_rows, n_missing : int
        Rows of the table, and those without a value.
    n_values : int
        Values that the shares were computed from: those of a row sample, or of all rows for categories and labels.
    edges : float64 array of shape (n_edges,), ascending
        Of numbers, and of dates as days since 1970-01-01.
    below, upto : float64 arrays of shape (n_edges,)
        The share of the values below each edge, and up to it.
    names : tuple of str
        Of categories or labels.
    shares : float64 array of shape (n_names,)
        Shares of the rows with a value that have each of them.
    """

    column: str
    form: Form
    n_rows: int
    n_missing: int
    n_values: int
    edges: Float64s = field(default_factory=lambda: _EMPTY)
    below: Float64s = field(default_factory=lambda: _EMPTY)
    upto: Float64s = field(default_factory=lambda: _EMPTY)
    names: tuple[str, ...] = ()
    shares: Float64s = field(default_factory=lambda: _EMPTY)

    @property
    def missing_share(self) -> float:
        """The share of the rows that have no value."""
        return self.n_missing / self.n_rows if self.n_rows else 0.0

    def share_upto(self, values: Float64s, *, strictly_below: NDArray[np.bool_] | None = None) -> Float64s:
        """Return the share of the numbers up to each value, or below it where `strictly_below` says so."""
        if len(self.edges) == 0:
            return np.zeros(len(values))
        left = np.searchsorted(self.edges, values, side="right") - 1  # the last edge that is not above the value
        inside = np.clip(left, 0, len(self.edges) - 1)
        right = np.minimum(inside + 1, len(self.edges) - 1)
        gap = self.edges[right] - self.edges[inside]
        way = np.divide(values - self.edges[inside], gap, out=np.zeros(len(values)), where=gap > 0)
        between = self.upto[inside] + np.clip(way, 0.0, 1.0) * np.maximum(self.below[right] - self.upto[inside], 0.0)
        at_edge = self.edges[inside] == values
        on_edge = (
            self.upto[inside]
            if strictly_below is None
            else np.where(strictly_below, self.below[inside], self.upto[inside])
        )
        shares: Float64s = np.where(at_edge, on_edge, np.where(values > self.edges[-1], 1.0, between))
        return np.where(left < 0, self.below[0], shares)


@dataclass(frozen=True)
class TableDistributions:
    """The distributions of the columns of a table that a model uses, in their order."""

    columns: tuple[ColumnDistribution, ...]

    @classmethod
    def from_statistics(cls, plan: EncodingPlan, statistics: TableStatistics) -> TableDistributions:
        """Return the distributions of the columns of a plan."""
        return cls(tuple(_describe(column, statistics.columns[column.column]) for column in plan.columns))

    def facts(self) -> list[dict[str, Any]]:
        """Return everything but the arrays as plain values, for `from_parts`."""
        return [
            {
                "column": c.column, "form": c.form, "n_rows": c.n_rows, "n_missing": c.n_missing,
                "n_values": c.n_values, "n_edges": len(c.edges), "names": list(c.names),
            }
            for c in self.columns
        ]  # fmt: skip

    def arrays(self) -> dict[str, Float64s]:
        """Return the arrays of all columns, joined."""
        joined = {name: [getattr(c, name) for c in self.columns] for name in ("edges", "below", "upto", "shares")}
        return {f"distributions.{name}": np.concatenate([_EMPTY, *parts]) for name, parts in joined.items()}

    @classmethod
    def from_parts(cls, facts: Sequence[Mapping[str, Any]], arrays: Mapping[str, NDArray[Any]]) -> TableDistributions:
        """Return the distributions that `facts` and `arrays` were made of; raise ValueError if they do not fit."""
        columns, edge, share = [], 0, 0
        for fact in facts:
            last_edge, last_share = edge + fact["n_edges"], share + len(fact["names"])
            edges, below, upto = (
                arrays[f"distributions.{name}"][edge:last_edge] for name in ("edges", "below", "upto")
            )
            shares = arrays["distributions.shares"][share:last_share]
            columns.append(
                ColumnDistribution(
                    fact["column"],
                    fact["form"],
                    fact["n_rows"],
                    fact["n_missing"],
                    fact["n_values"],
                    edges,
                    below,
                    upto,
                    tuple(fact["names"]),
                    shares,
                )
            )
            edge, share = last_edge, last_share
        lengths = {name: len(arrays[f"distributions.{name}"]) for name in ("edges", "below", "upto", "shares")}
        if lengths != {"edges": edge, "below": edge, "upto": edge, "shares": share}:
            raise ValueError("the distributions have other lengths")
        return cls(tuple(columns))


def _describe(plan: ColumnPlan, statistics: ColumnStatistics) -> ColumnDistribution:
    n_rows, n_missing = statistics.n_rows, statistics.n_missing
    if isinstance(plan, NumberPlan):
        values = statistics.sorted_sample
        edges, below, upto = find_quantiles(values)
        form: Form = "date" if plan.role == "date" else "number"
        return ColumnDistribution(plan.column, form, n_rows, n_missing, len(values), edges, below, upto)
    form = "category" if isinstance(plan, CategoryPlan) else "labels"
    names, shares = frequent_names(statistics.counts, statistics.n_present)
    return ColumnDistribution(plan.column, form, n_rows, n_missing, statistics.n_present, names=names, shares=shares)


def find_quantiles(ascending: Float64s) -> tuple[Float64s, Float64s, Float64s]:
    """Return the values at QUANTILES of sorted values, each once, and the shares of the values below and up to each."""
    n = len(ascending)
    if n < MIN_COUNT:
        return _EMPTY, _EMPTY, _EMPTY
    edges = np.unique(ascending[np.minimum((QUANTILES * n).astype(np.int64), n - 1)])
    return edges, np.searchsorted(ascending, edges) / n, np.searchsorted(ascending, edges, side="right") / n


def frequent_names(counts: Counter[str], n_present: int) -> tuple[tuple[str, ...], Float64s]:
    """Return the categories or labels that enough rows have, the most frequent first, and their shares."""
    least = max(MIN_SHARE * n_present, MIN_COUNT)
    names = sorted((name for name, n in counts.items() if n >= least), key=lambda name: (-counts[name], name))
    return tuple(names), np.array([counts[name] / n_present for name in names])
