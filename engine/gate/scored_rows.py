"""Count how the values of new rows are distributed, block by block, for a comparison with the table of the fit.

    ColumnarBlock, TableDistributions of the fit  ->  ScoredRows, which add up  ->  TableDistributions of the new rows

SAMPLED_ROWS rows of every block are counted, on the edges of the fit: what is compared is coarse, and this costs a few
hundredths of what assigning the rows costs. Which rows are sampled depends on nothing but the size of the block.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engine.features.columnar_block import ColumnarBlock, RaggedLabels
from engine.features.distributions import ColumnDistribution, TableDistributions
from engine.utils.array_types import Int64s

SAMPLED_ROWS = 1024  # of a block


@dataclass(frozen=True)
class ScoredRows:
    """Counts of sampled rows, one entry a column of the fit's distributions.

    Attributes
    ----------
    n_values : int64 array of shape (n_columns,)
        Sampled rows with a value.
    below, upto : tuple of int64 arrays of shape (n_edges,)
        Sampled values below each edge of the column, and up to it; empty for categories and labels.
    names : tuple of Counter
        Sampled rows of each category or label.
    """

    n_values: Int64s
    below: tuple[Int64s, ...]
    upto: tuple[Int64s, ...]
    names: tuple[Counter[str], ...]

    def plus(self, other: ScoredRows) -> ScoredRows:
        """Return the counts of the rows of both."""
        return ScoredRows(
            self.n_values + other.n_values,
            tuple(a + b for a, b in zip(self.below, other.below, strict=True)),
            tuple(a + b for a, b in zip(self.upto, other.upto, strict=True)),
            tuple(a + b for a, b in zip(self.names, other.names, strict=True)),
        )

    def distributions(self, fitted: TableDistributions, n_rows: int, n_missing: Int64s) -> TableDistributions:
        """Return the distributions of the rows, of which `n_missing` lack a value, by column."""
        return TableDistributions(
            tuple(
                self._column(number, column, n_rows, int(missing))
                for number, (column, missing) in enumerate(zip(fitted.columns, n_missing, strict=True))
            )
        )

    def _column(self, number: int, fitted: ColumnDistribution, n_rows: int, n_missing: int) -> ColumnDistribution:
        n = int(self.n_values[number])
        names = tuple(sorted(self.names[number]))
        return ColumnDistribution(
            fitted.column, fitted.form, n_rows, n_missing, n,
            fitted.edges if n else fitted.edges[:0],
            self.below[number] / n if n else fitted.below[:0],
            self.upto[number] / n if n else fitted.upto[:0],
            names,
            np.array([self.names[number][name] / n for name in names]),
            keeps_rare=True,
        )  # fmt: skip


def count_scored(block: ColumnarBlock, fitted: TableDistributions) -> ScoredRows:
    """Count the sampled rows of a block; `fitted` has columns of the block only."""
    rows = _sampled(block.n_rows)
    values = np.sort(block.numbers[:, rows], axis=1)  # NaN last
    n_numbers = values.shape[1] - np.isnan(values).sum(axis=1)
    counts: list[tuple[int, Int64s, Int64s, Counter[str]]] = []
    for column in fitted.columns:
        if column.form in ("number", "date"):
            row = block.number_rows[column.column]
            known = values[row, : n_numbers[row]]
            below, upto = (np.searchsorted(known, column.edges, side=side) for side in ("left", "right"))
            counts.append((len(known), below, upto, Counter()))
        elif column.form == "category":
            row = block.text_rows[column.column]
            n, names = _count_names(block.codes[row][rows], block.names[row])
            counts.append((n, _NONE, _NONE, names))
        else:
            lists = block.labels[column.column]
            _, names = _count_names(_codes_of(lists, rows), lists.names)
            counts.append((int((~lists.missing[rows]).sum()), _NONE, _NONE, names))
    n_values, belows, uptos, all_names = zip(*counts, strict=True)
    return ScoredRows(np.array(n_values, np.int64), tuple(belows), tuple(uptos), tuple(all_names))


_NONE: Int64s = np.empty(0, np.int64)


@lru_cache(maxsize=16)
def _sampled(n_rows: int) -> Int64s:
    """Return the positions of the sampled rows of a block, ascending."""
    if n_rows <= SAMPLED_ROWS:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(0).choice(n_rows, SAMPLED_ROWS, replace=False))


def _count_names(codes: Int64s, names: list[str] | None) -> tuple[int, Counter[str]]:
    """Return the number of codes that are not missing, and how often each name occurs."""
    known = codes[codes >= 0]
    counts = np.bincount(known)
    found = np.flatnonzero(counts)
    return len(known), Counter({(names or [])[code]: int(counts[code]) for code in found})


def _codes_of(lists: RaggedLabels, rows: Int64s) -> Int64s:
    """Return the codes of the labels of some rows."""
    first, lengths = lists.offsets[rows].astype(np.int64), np.diff(lists.offsets)[rows].astype(np.int64)
    ends = np.cumsum(lengths)
    where = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - lengths), lengths)
    codes: Int64s = lists.codes[where].astype(np.int64)
    return codes
