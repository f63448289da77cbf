"""Statistics on a device: the same bits as the CPU's, whatever chunks the rows come in and whoever reads a column."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backends.cpu import CpuBackend
from engine.errors import EmptyTableError, NonFiniteValueError
from engine.execution.passes import over_table
from engine.explain.row_sample import RowCollector
from engine.features import column_statistics
from engine.features.column_statistics import TableStatistics, collect_statistics
from engine.features.columnar_block import ReadSpec
from engine.features.fit import fit_encoder
from engine.features.gpu_statistics import collect_on_device
from engine.tables import open_table
from engine.tables.date_texts import DateFormat
from engine.tables.number_texts import NumberFormat
from tests.features.test_gpu_encoder import MODULES, ROLES, FailingChunks, everything
from tests.gpu.chunks import NumpyDevice

SPECS = {
    "age": ReadSpec("number"),
    "year": ReadSpec("number", missing=(2.0**53,)),
    "visits": ReadSpec("number", missing=(0.0, 1.0)),
    "member": ReadSpec("number"),
    "born": ReadSpec("days", missing=(0.0,)),
    "seen": ReadSpec("days"),
    "paid": ReadSpec("days"),
    "price": ReadSpec("number", number_format=NumberFormat(prefix="$", grouping=",", missing=("gone",))),
    "since": ReadSpec("days", date_format=DateFormat(forms=("day month year",))),
    "joined": ReadSpec("days", date_format=DateFormat(forms=("yearmonthday",))),
    "left": ReadSpec("days", date_format=DateFormat(forms=("yearmonthday",))),
    "plan": ReadSpec("category", missing=("Gift",)),
    "rank": ReadSpec("category", missing=("3",)),
    "score": ReadSpec("category"),
    "genres": ReadSpec("labels"),
    "codes": ReadSpec("labels"),
    "hobbies": ReadSpec("labels", " ; "),
    "name": ReadSpec("category", max_distinct=20, missing=("person 3",)),
    "few": ReadSpec("labels", max_distinct=3),
    "no number": ReadSpec("number"),
    "no day": ReadSpec("days"),
    "no text": ReadSpec("category"),
    "no label": ReadSpec("labels"),
    "no answers": ReadSpec("labels", ";"),
}


def rows_of_every_kind(n_rows: int, seed: int = 0) -> pa.Table:
    """Return a table with a column of every kind, with marks, and texts that cannot be read."""
    random = np.random.default_rng(seed)
    rows = everything(n_rows, seed).drop_columns(["price"])
    prices = random.choice(["$1,200", "$7.50", "n/a", "gone", "", "about 9", None], n_rows)
    days = random.choice(["31/12/2019", "2020-02-29", "0000-00-00", "-", "soon", None], n_rows)
    digits = random.choice([20191231, 20200229, 20200230, 0, 99999999, None], n_rows).tolist()
    names = [f"person {i}" for i in random.integers(0, 60, n_rows)]
    few = [list(random.choice(["a", "b", "c", "d"], 2)) for _ in range(n_rows)]
    for name in ("no number", "no day", "no text", "no label", "no answers"):
        rows = rows.append_column(name, pa.nulls(n_rows))  # as Parquet may have them
    return (
        rows.append_column("price", pa.array(prices.tolist(), pa.string()))
        .append_column("since", pa.array(days.tolist(), pa.string()))
        .append_column("joined", pa.array(digits, pa.int64()))
        .append_column("left", pa.array(digits, pa.float64()))
        .append_column("name", pa.array(names))
        .append_column("few", pa.array(few))
    )


def contents(statistics: TableStatistics) -> dict[str, Any]:
    """Return everything in statistics, arrays as bytes; texts that are counted in any order."""
    result: dict[str, Any] = {"n_rows": statistics.n_rows, "rows": statistics.sampled_rows.tobytes()}
    for name, column in statistics.columns.items():
        facts = vars(column) | {"sample": column.sample.tobytes()}
        moments = column.moments
        facts["moments"] = np.array(
            [moments.n, moments.mean, moments.m2, moments.minimum, moments.maximum]
        ).tobytes()  # -0.0 is not 0.0
        facts.pop("sorted_sample", None)  # which only a column that was looked at has
        result[name] = facts | {"missing": statistics.missing_sample[name].tobytes()}
    return result


def on_cpu(rows: pa.Table, specs: dict[str, ReadSpec], observers: Any = (), **options: Any) -> TableStatistics:
    table = open_table(rows)
    passes = partial(over_table, table=table, columns=list(specs), dictionary_encoded=True, pass_name="statistics")
    return collect_statistics(passes, specs, seed=3, n_rows=table.n_rows, observers=observers, **options)


def on_device(
    rows: pa.Table, specs: dict[str, ReadSpec], observers: Any = (), device: NumpyDevice | None = None, **options: Any
) -> TableStatistics:
    reader = (device or NumpyDevice()).reader(open_table(rows))
    return collect_on_device(reader, specs, seed=3, observers=observers, **options)


@pytest.mark.parametrize("xp", MODULES)
@pytest.mark.parametrize("lengths", [(900,), (64,), (7, 1, 430)])
def test_statistics_and_picked_rows_are_those_of_the_cpu_to_the_bit(
    xp: Any, lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, block_rows: Callable[[int], None]
) -> None:
    block_rows(64)
    monkeypatch.setattr(column_statistics, "SAMPLE_ROWS", 100)
    rows = rows_of_every_kind(900)
    picked = [[RowCollector.draw(900, size, seed=5) for size in (0, 40, 900)] for _ in range(2)]
    expected = on_cpu(rows, SPECS, picked[0])
    assert (expected.columns["name"].overflow, expected.columns["few"].overflow) == (True, True)
    assert min(expected.columns["price"].n_unread, len(expected.columns["since"].marks)) > 0
    assert expected.columns["plan"].n_marked > 0
    host_columns = {"price": "of a test", "genres": "of a test"}
    for unreadable in ({}, host_columns, dict.fromkeys(list(SPECS)[1:], "of a test")):
        device = NumpyDevice(xp, lengths=lengths, unreadable=unreadable)
        for collector in picked[1]:
            collector._parts.clear()
        assert contents(on_device(rows, SPECS, picked[1], device)) == contents(expected)
        for mine, other in zip(*picked, strict=True):
            assert mine.table().schema.equals(other.table().schema, check_metadata=True)
            assert repr(mine.table().to_pylist()) == repr(other.table().to_pylist())  # NaN is not equal to itself


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_rows=st.integers(1, 90))
def test_any_rows_in_any_chunks_have_the_statistics_of_the_cpu(seed: int, n_rows: int) -> None:
    rows = rows_of_every_kind(n_rows, seed)
    device = NumpyDevice(lengths=tuple(np.random.default_rng(seed).integers(1, 40, 5)))
    assert contents(on_device(rows, SPECS, device=device)) == contents(on_cpu(rows, SPECS))


@pytest.mark.parametrize("n_rows", [1, 1023, 1024, 5000])
def test_moments_of_long_blocks_have_the_bits_of_the_kernel(n_rows: int, block_rows: Callable[[int], None]) -> None:
    block_rows(2100)  # neither runs nor lanes fill a block
    random = np.random.default_rng(n_rows)
    values = random.normal(1e6, 2.0, (3, n_rows))
    values[1, random.random(n_rows) < 0.3] = np.nan
    values[2] = random.choice([-0.0, 0.0, np.nan], n_rows)
    rows = pa.table(dict(zip("abc", map(pa.array, values), strict=True)))
    specs = {name: ReadSpec("number") for name in "abc"}
    assert contents(on_device(rows, specs)) == contents(on_cpu(rows, specs))


@pytest.mark.parametrize("times", [1, 9])
def test_after_running_out_of_memory_the_rows_left_are_counted_once(times: int) -> None:
    rows = rows_of_every_kind(300)
    device = NumpyDevice(lengths=(31, 40), fallback=CpuBackend(), unreadable={"plan": "of a test"})
    reader = device.reader(open_table(rows))
    object.__setattr__(reader, "chunks", FailingChunks(reader.chunks, times))
    done: list[int] = []
    collector = RowCollector.draw(300, 50, seed=1)
    statistics = collect_on_device(reader, SPECS, seed=3, observers=[collector], progress=done.append)
    assert contents(statistics) == contents(on_cpu(rows, SPECS))
    assert sum(done) == 300
    assert collector.table()["year"].equals(rows["year"].take(pa.array(collector.rows)))


def test_what_the_cpu_refuses_the_device_refuses() -> None:
    infinite = pa.table({"age": [1.0, np.inf, 2.0]})
    with pytest.raises(NonFiniteValueError, match="Column 'age' holds 1 infinite values"):
        on_device(infinite, {"age": ReadSpec("number")})
    huge = pa.table({"age": [1.0, 1e150, 2.0]})
    with pytest.raises(NonFiniteValueError, match="beyond 1e"), np.errstate(over="ignore", invalid="ignore"):
        on_device(huge, {"age": ReadSpec("number")})
    with pytest.raises(EmptyTableError):
        on_device(huge.slice(0, 0), {"age": ReadSpec("number")})


def test_an_encoder_that_is_fitted_on_a_device_is_the_one_of_the_cpu() -> None:
    rows = rows_of_every_kind(800).drop_columns(["since"])
    reader = NumpyDevice(unreadable={"score": "of a test"}).reader(open_table(rows))
    fitted = [fit_encoder(open_table(rows), column_roles=ROLES, reader=each) for each in (reader, "pyarrow")]
    assert [features.on_device for features in fitted] == [True, False]
    assert fitted[0].encoder.plan == fitted[1].encoder.plan
    assert fitted[0].roles == fitted[1].roles
    assert fitted[0].distributions.facts() == fitted[1].distributions.facts()
