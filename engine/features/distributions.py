"""How the values of each column were distributed in a table, in a few numbers that a model can carry.

    EncodingPlan, statistics  ->  TableDistributions: per column missing rows, and quantiles or shares of categories

Numbers and dates: sample values at QUANTILES, and those that MIN_SHARE of the rows have, each with the share of the
values below it and up to it. Between two of them the distribution is taken as linear. Categories and labels: the shares
of those that MIN_SHARE of the rows have, and no fewer than MIN_COUNT. Tables are compared by engine/gate.
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
MOST_ROWS = 2**53  # of a table
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
    keeps_rare : bool
        Whether `names` has all of them, not only the frequent ones.
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
    keeps_rare: bool = False

    @property
    def missing_share(self) -> float:
        """The share of the rows that have no value."""
        return self.n_missing / self.n_rows if self.n_rows else 0.0

    @property
    def rare_share(self) -> float:
        """The share of the rows with a value below which a category or label is not kept; 0 if all are."""
        return 0.0 if self.keeps_rare else max(MIN_SHARE, MIN_COUNT / max(self.n_values, 1))

    @property
    def rest(self) -> float:
        """The share of the rows with a value whose category is not kept."""
        return max(1.0 - float(self.shares.sum()), 0.0)

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

    def check(self, plan: EncodingPlan) -> None:
        """Raise ValueError or TypeError unless these can be distributions of the columns of a plan."""
        forms = [(column.column, _form(column)) for column in plan.columns]
        if [(c.column, c.form) for c in self.columns] != forms:
            raise ValueError("the distributions are of other columns")
        for c in self.columns:
            numbers = (c.n_rows, c.n_missing, c.n_values)
            if not all(isinstance(n, int) and 0 <= n <= MOST_ROWS for n in numbers) or c.n_missing > c.n_rows:
                raise ValueError("the distributions count no rows")
            if not all(isinstance(name, str) for name in c.names):
                raise TypeError("a category is no text")
            arrays = (c.edges, c.below, c.upto, c.shares)
            if not all(a.dtype == np.float64 and a.ndim == 1 and np.isfinite(a).all() for a in arrays):
                raise ValueError("a distribution holds no numbers")
            if (np.diff(c.edges) <= 0).any() or (c.below > c.upto).any() or (c.below[1:] < c.upto[:-1]).any():
                raise ValueError("a distribution does not ascend")

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
        return ColumnDistribution(plan.column, _form(plan), n_rows, n_missing, len(values), edges, below, upto)
    names, shares = frequent_names(statistics.counts, statistics.n_present)
    return ColumnDistribution(
        plan.column, _form(plan), n_rows, n_missing, statistics.n_present, names=names, shares=shares
    )


def _form(plan: ColumnPlan) -> Form:
    if isinstance(plan, NumberPlan):
        return "date" if plan.role == "date" else "number"
    return "category" if isinstance(plan, CategoryPlan) else "labels"


def find_quantiles(ascending: Float64s) -> tuple[Float64s, Float64s, Float64s]:
    """Return edges of the distribution of sorted values, and the shares of the values below and up to each."""
    n = len(ascending)
    if n < MIN_COUNT:
        return _EMPTY, _EMPTY, _EMPTY
    step = max(int(np.ceil(MIN_SHARE * n)), MIN_COUNT)  # values that as many rows have are equal over this distance
    frequent = ascending[: n - step + 1][ascending[: n - step + 1] == ascending[step - 1 :]]
    edges = np.unique(np.append(frequent, ascending[np.minimum((QUANTILES * n).astype(np.int64), n - 1)]))
    return edges, np.searchsorted(ascending, edges) / n, np.searchsorted(ascending, edges, side="right") / n


def frequent_names(counts: Counter[str], n_present: int) -> tuple[tuple[str, ...], Float64s]:
    """Return the categories or labels that enough rows have, the most frequent first, and their shares."""
    least = max(MIN_SHARE * n_present, MIN_COUNT)
    names = sorted((name for name, n in counts.items() if n >= least), key=lambda name: (-counts[name], name))
    return tuple(names), np.array([counts[name] / n_present for name in names])
