"""One pass of statistics: right against numpy, and the same bits however the rows come."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.blocks import Block, into_blocks
from engine.errors import NonFiniteValueError
from engine.execution.threads import map_blocks, threads
from engine.features.column_statistics import ColumnStatistics, Moments, Reading, TableStatistics, collect
from engine.tables import open_table

READINGS = {
    "age": Reading("number"),
    "plan": Reading("category"),
    "genres": Reading("labels"),
    "picks": Reading("labels", "; "),
    "signed": Reading("days"),
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


def same(a: TableStatistics, b: TableStatistics) -> bool:
    def key(column: ColumnStatistics) -> tuple[object, ...]:
        return (column.n_rows, column.n_missing, column.moments, column.counts, column.sample.tobytes())

    return {n: key(c) for n, c in a.columns.items()} == {n: key(c) for n, c in b.columns.items()}


def over(blocks: Iterable[Block]) -> Callable[[Callable[[Block], Any]], Iterator[Any]]:
    return lambda function: map_blocks(function, blocks)


def test_statistics_are_those_of_numpy() -> None:
    rows = table(500)
    found = collect(over(open_table(rows).blocks()), READINGS, seed=0)
    ages = np.array([v for v in rows["age"].to_pylist() if v is not None])
    age = found.columns["age"]
    assert (age.n_rows, age.n_missing, age.moments.n) == (500, rows["age"].null_count, len(ages))
    assert age.moments.mean == pytest.approx(ages.mean(), rel=1e-15)
    assert age.moments.std == pytest.approx(ages.std(), rel=1e-12)
    assert (age.moments.minimum, age.moments.maximum) == (ages.min(), ages.max())
    plans = [v for v in rows["plan"].to_pylist() if v is not None]
    assert found.columns["plan"].counts == {name: plans.count(name) for name in set(plans)}
    genres = [v for row in rows["genres"].to_pylist() if row for v in row]
    assert found.columns["genres"].counts == {name: genres.count(name) for name in set(genres)}
    assert found.columns["genres"].n_missing == rows["genres"].null_count
    assert found.columns["picks"].counts.total() == 1000
    assert found.columns["signed"].moments.minimum == 18262.0  # days from 1970-01-01 to 2020-01-01
    assert np.array_equal(found.missing_sample["age"], np.isnan(age.sample))


def test_bits_do_not_depend_on_batches_or_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.blocks.BLOCK_ROWS", 64)
    monkeypatch.setattr("engine.features.column_statistics.SAMPLE_ROWS", 50)
    rows = table(1000)
    with threads(1):
        first = collect(over(into_blocks([rows], rows.schema)), READINGS, seed=0)
    for size, count in ((1, 2), (13, 5), (999, 2)):
        parts = [rows.slice(i, size) for i in range(0, 1000, size)]
        with threads(count):
            assert same(first, collect(over(into_blocks(parts, rows.schema)), READINGS, seed=0))
    assert not same(first, collect(over(into_blocks([rows], rows.schema)), READINGS, seed=1))


def test_the_sample_is_of_the_wanted_size_and_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.blocks.BLOCK_ROWS", 100)
    monkeypatch.setattr("engine.features.column_statistics.SAMPLE_ROWS", 2000)
    rows = pa.table({"x": np.arange(20_000, dtype=np.float64)})
    found = collect(over(into_blocks([rows], rows.schema)), {"x": Reading("number")}, seed=3).columns["x"].sample
    assert len(found) == len(np.unique(found)) == 2000
    assert abs(found.mean() - 10_000) < 5 * 20_000 / np.sqrt(12 * 2000)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(0, 50))
def test_merged_moments_are_those_of_all_values(values: list[float], cut: int) -> None:
    data = np.array(values)
    whole, merged = Moments.of(data), Moments.of(data[:cut]).merged(Moments.of(data[cut:]))
    assert merged.n == whole.n
    assert merged.mean == pytest.approx(whole.mean, rel=1e-12, abs=1e-9)
    assert merged.m2 == pytest.approx(whole.m2, rel=1e-9, abs=1e-6)
    assert (merged.minimum, merged.maximum) == (whole.minimum, whole.maximum)


def test_infinite_values_are_refused_by_column_and_number() -> None:
    rows = pa.table({"x": [1.0, float("inf"), float("-inf")]})
    with pytest.raises(NonFiniteValueError, match="'x' holds 2 infinite"):
        collect(over([Block(0, rows)]), {"x": Reading("number")}, seed=0)


def test_counting_stops_where_every_row_has_its_own_text() -> None:
    rows = pa.table({"x": [str(i) for i in range(50)]})
    found = collect(over([Block(0, rows)]), {"x": Reading("category", None, 49)}, seed=0).columns["x"]
    assert found.overflow
    assert not found.counts
    blocks = [Block(0, rows.slice(0, 25)), Block(25, rows.slice(25))]
    assert collect(over(blocks), {"x": Reading("category", None, 49)}, seed=0).columns["x"].overflow
