"""Find columns that say nearly the same: numbers whose ranks are strongly correlated.

sampled rows, encoding plan  ->  for each column the columns that a profile tells together with it

Columns of one series, as data_gb_m1 to data_gb_m6, are told together with less correlation: each has noise of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.explain.row_sample import RowSample
from engine.features.columnar_block import numeric_values
from engine.features.encoding_plan import EncodingPlan, NumberPlan
from engine.features.layout import number_read_spec

MIN_CORRELATION = 0.85  # of ranks, by absolute value
MIN_CORRELATION_OF_SERIES = 0.6  # the same of columns whose names differ in a number only
MAX_ROWS = 5000  # the standard error of a correlation of 0.85 is then 0.004
MAX_COLUMNS = 1000  # 8 MB of correlations


def find_related_columns(sample: RowSample, plan: EncodingPlan) -> Mapping[str, frozenset[str]]:
    """Return for each number column the columns, itself among them, whose ranks correlate with its ranks.

    The correlation is Spearman's, with the typical value for missing ones, on an even choice of the sampled rows.
    """
    plans = [column for column in plan.columns if isinstance(column, NumberPlan)][:MAX_COLUMNS]
    names = [column.column for column in plans]
    step = max(1, len(sample.table) // MAX_ROWS)
    rows = sample.table.take(pa.array(np.arange(0, len(sample.table), step)))
    ranks = []
    for column in plans:
        values = numeric_values(rows, column.column, number_read_spec(column))
        present = values[~np.isnan(values)]
        values = np.where(np.isnan(values), np.median(present) if len(present) else 0.0, values)
        _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts + 1) / 2)[position])
    if not ranks:
        return {}
    centered = np.stack(ranks) - np.mean(ranks, axis=1, keepdims=True)
    lengths = np.linalg.norm(centered, axis=1)
    centered /= np.where(lengths > 0, lengths, 1.0)[:, None]
    related = np.abs(centered @ centered.T) >= np.where(
        _of_one_series(names), MIN_CORRELATION_OF_SERIES, MIN_CORRELATION
    )
    np.fill_diagonal(related, True)
    return {name: frozenset(names[j] for j in np.flatnonzero(row)) for name, row in zip(names, related, strict=True)}


def series_name(column: str) -> str:
    """Return what the columns of a series share, as data_gb_m# of data_gb_m1; other names stay as they are."""
    return re.sub(r"\d+", "#", column) if len(re.findall(r"\d+", column)) == 1 else column


def _of_one_series(names: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which names differ in one number only, a bool array of shape (n_names, n_names)."""
    codes = np.unique([series_name(name) for name in names], return_inverse=True)[1]
    return np.asarray(codes[:, None] == codes[None, :])
