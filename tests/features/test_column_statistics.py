"""Column statistics: equal to NumPy's, and bitwise independent of batches and threads."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.blocks import Block, split_into_blocks
from engine.errors import NonFiniteValueError
from engine.execution.threads import map_blocks, threads
from engine.features.column_statistics import (
    ColumnMoments,
    ColumnStatistics,
    TableStatistics,
    collect_statistics,
)
from engine.features.columnar_block import ReadSpec
from engine.tables import open_table

READ_SPECS = {
    "age": ReadSpec("number"),
    "plan": ReadSpec("category"),
    "genres": ReadSpec("labels"),
    "picks": ReadSpec("labels", "; "),
    "signed": ReadSpec("days"),
}


def table(n: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    gaps = rng.random(n) < 0.2
    words = ["Drama", "Comedy", "Horror"]
    return pa.table(
        {
            "age": pa.array(rng.normal(1e6, 2.0, n), mask=gaps),
            "plan": pa.array(rng.choice(["Basic", "Premium", "Family"], n), mask=gaps),
            "genres": pa.array([None if i % 9 == 0 else list(rng.choice(words, 2, False)) for i in range(n)]),
            "picks": pa.array(["; ".join(rng.choice(words, 2, False)) for _ in range(n)]),
            "signed": pa.array([dt.date(2020, 1, 1) + dt.timedelta(days=int(i % 100)) for i in range(n)]),
        }
    )


def equal_bits(a: TableStatistics, b: TableStatistics) -> bool:
    def key(column: ColumnStatistics) -> tuple[object, ...]:
        return (column.n_rows, column.n_missing, column.moments, column.counts, column.sample.tobytes())

    return {n: key(c) for n, c in a.columns.items()} == {n: key(c) for n, c in b.columns.items()}


def map_over(blocks: Iterable[Block]) -> Callable[[Callable[[Block], Any]], Iterator[Any]]:
    return lambda function: map_blocks(function, blocks)


def test_statistics_are_those_of_numpy() -> None:
    rows = table(500)
    statistics = collect_statistics(map_over(open_table(rows).blocks()), READ_SPECS, seed=0)
    ages = np.array([v for v in rows["age"].to_pylist() if v is not None])
    age = statistics.columns["age"]
    assert (age.n_rows, age.n_missing, age.moments.n) == (500, rows["age"].null_count, len(ages))
    assert age.moments.mean == pytest.approx(ages.mean(), rel=1e-15)
    assert age.moments.std == pytest.approx(ages.std(), rel=1e-12)
    assert (age.moments.minimum, age.moments.maximum) == (ages.min(), ages.max())
    plans = [v for v in rows["plan"].to_pylist() if v is not None]
    assert statistics.columns["plan"].counts == {name: plans.count(name) for name in set(plans)}
    genres = [v for row in rows["genres"].to_pylist() if row for v in row]
    assert statistics.columns["genres"].counts == {name: genres.count(name) for name in set(genres)}
    assert statistics.columns["genres"].n_missing == rows["genres"].null_count
    assert statistics.columns["picks"].counts.total() == 1000
    assert statistics.columns["signed"].moments.minimum == 18262.0  # days from 1970-01-01 to 2020-01-01
    assert np.array_equal(statistics.missing_sample["age"], np.isnan(age.sample))


def test_bits_do_not_depend_on_batches_or_threads(
    monkeypatch: pytest.MonkeyPatch, block_rows: Callable[[int], None]
) -> None:
    block_rows(64)
    monkeypatch.setattr("engine.features.column_statistics.SAMPLE_ROWS", 50)
    rows = table(1000)
    with threads(1):
        first = collect_statistics(map_over(split_into_blocks([rows], rows.schema)), READ_SPECS, seed=0)
    for size, count in ((1, 2), (13, 5), (999, 2)):
        parts = [rows.slice(i, size) for i in range(0, 1000, size)]
        with threads(count):
            assert equal_bits(
                first, collect_statistics(map_over(split_into_blocks(parts, rows.schema)), READ_SPECS, seed=0)
            )
    assert not equal_bits(
        first, collect_statistics(map_over(split_into_blocks([rows], rows.schema)), READ_SPECS, seed=1)
    )


def test_the_sample_has_the_given_size_and_is_uniform(
    monkeypatch: pytest.MonkeyPatch, block_rows: Callable[[int], None]
) -> None:
    block_rows(100)
    monkeypatch.setattr("engine.features.column_statistics.SAMPLE_ROWS", 2000)
    rows = pa.table({"x": np.arange(20_000, dtype=np.float64)})
    statistics = (
        collect_statistics(map_over(split_into_blocks([rows], rows.schema)), {"x": ReadSpec("number")}, seed=3)
        .columns["x"]
        .sample
    )
    assert len(statistics) == len(np.unique(statistics)) == 2000
    assert abs(statistics.mean() - 10_000) < 5 * 20_000 / np.sqrt(12 * 2000)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(0, 50))
def test_merged_moments_are_those_of_all_values(values: list[float], cut: int) -> None:
    data = np.array(values)
    whole, merged = (
        ColumnMoments.from_values(data),
        ColumnMoments.from_values(data[:cut]).merge(ColumnMoments.from_values(data[cut:])),
    )
    assert merged.n == whole.n
    assert merged.mean == pytest.approx(whole.mean, rel=1e-12, abs=1e-9)
    assert merged.m2 == pytest.approx(whole.m2, rel=1e-9, abs=1e-6)
    assert (merged.minimum, merged.maximum) == (whole.minimum, whole.maximum)


def test_infinite_values_raise_with_column_and_count() -> None:
    rows = pa.table({"x": [1.0, float("inf"), float("-inf")]})
    with pytest.raises(NonFiniteValueError, match="'x' holds 2 infinite"):
        collect_statistics(map_over([Block(0, rows)]), {"x": ReadSpec("number")}, seed=0)


def test_counting_stops_where_every_row_has_its_own_text() -> None:
    rows = pa.table({"x": [str(i) for i in range(50)]})
    statistics = collect_statistics(map_over([Block(0, rows)]), {"x": ReadSpec("category", None, 49)}, seed=0).columns[
        "x"
    ]
    assert statistics.overflow
    assert not statistics.counts
    blocks = [Block(0, rows.slice(0, 25)), Block(25, rows.slice(25))]
    assert collect_statistics(map_over(blocks), {"x": ReadSpec("category", None, 49)}, seed=0).columns["x"].overflow
