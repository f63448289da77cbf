"""The GPU encoder: the same bits as the CPU's encoder, whatever chunks the rows come in."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backends.array_kmeans import ArrayBackend
from engine.backends.cpu import CpuBackend
from engine.backends.protocol import EncodedRows
from engine.datasets.demo_table import DemoMembers
from engine.errors import InputChangedError, NonFiniteValueError, OutOfResourcesError
from engine.features.encoded_moments import make_projection
from engine.features.fit import FittedFeatures, fit_encoder
from engine.features.gpu_encoder import GpuEncoder, rebatch_rows
from engine.features.host_columns import ArrowColumns
from engine.tables import open_table
from tests.gpu.chunks import NumpyDevice
from tests.gpu.strict import StrictModule, to_numpy

ROLES: dict[str, Any] = {
    "visits": "count", "spent": "count", "rank": "categorical", "flag": "categorical", "score": "categorical",
    "hobbies": "multilabel", "genres": "multilabel",
}  # fmt: skip
MODULES = [pytest.param(np, id="numpy"), pytest.param(StrictModule(), id="as CuPy allows it")]


def everything(n_rows: int, seed: int = 0) -> pa.Table:
    """Return a table with a column of every kind, values missing in each of them."""
    random = np.random.default_rng(seed)

    def with_gaps(values: Any, kind: pa.DataType | None = None) -> pa.Array:
        plain = values.tolist() if isinstance(values, np.ndarray) else values
        gaps = random.random(n_rows) < 0.2
        return pa.array([None if gap else value for value, gap in zip(plain, gaps, strict=True)], kind)

    def random_lists(names: list[Any], lists: Any = list) -> list[Any]:
        return [lists(random.choice(names, random.integers(0, 5))) for _ in range(n_rows)]

    days = random.integers(-30_000, 20_000, n_rows)
    microseconds = random.integers(-(10**15), 2 * 10**15, n_rows)
    age = random.normal(40, 12, n_rows)
    age[::9] = np.nan
    return pa.table(
        {
            "age": with_gaps(age),
            "year": with_gaps(random.integers(2**53, 2**53 + 9, n_rows)),
            "small": with_gaps(random.normal(size=n_rows).astype(np.float32), pa.float32()),
            "visits": with_gaps(random.integers(-2, 9, n_rows) ** 5),
            "spent": with_gaps(np.exp(random.normal(size=n_rows) * 2)),
            "member": with_gaps(random.random(n_rows) < 0.3, pa.bool_()),
            "born": with_gaps([dt.date(1970, 1, 1) + dt.timedelta(int(d)) for d in days], pa.date32()),
            "seen": with_gaps(microseconds, pa.timestamp("us")),
            "paid": with_gaps(microseconds * 1000 + 17, pa.timestamp("ns", tz="Europe/Berlin")),
            "plan": with_gaps(random.choice(["Solo", "Family", "", "Gift"], n_rows, p=[0.5, 0.3, 0.1, 0.1])),
            "rank": with_gaps(random.integers(0, 4, n_rows)),
            "flag": with_gaps(random.random(n_rows) < 0.5, pa.bool_()),
            "score": with_gaps(random.choice([0.5, 3.0, -0.0, np.nan, 1e20], n_rows)),
            "genres": with_gaps(random_lists(["Drama", "War", "", None, "Noir"]), pa.list_(pa.string())),
            "codes": with_gaps(random_lists([3, 1, 2]), pa.list_(pa.int16())),
            "hobbies": with_gaps(random_lists(["chess", "golf", "go", ""], " ; ".join)),
            "price": with_gaps([f"${x:,.2f}" for x in random.lognormal(7, 1, n_rows)]),
        }
    )


def fit_features(table: Any, **options: Any) -> FittedFeatures:
    return fit_encoder(open_table(table), **options)


def assert_same(encoded: EncodedRows, expected: EncodedRows) -> None:
    for array, reference in zip(map(to_numpy, encoded), expected, strict=True):
        np.testing.assert_array_equal(array, reference)
        assert array.dtype == reference.dtype


@pytest.fixture(scope="module")
def features() -> FittedFeatures:
    return fit_features(everything(900), column_roles=ROLES)


@pytest.mark.parametrize("xp", MODULES)
@pytest.mark.parametrize(("first", "n_rows"), [(0, 900), (0, 1), (13, 64), (450, 0)])
def test_every_kind_of_column_is_encoded_to_the_bits_of_the_cpu(
    features: FittedFeatures, xp: Any, first: int, n_rows: int
) -> None:
    rows = everything(900).slice(first, n_rows)
    encoded = GpuEncoder(features.encoder.layout, ArrayBackend(xp)).encode(ArrowColumns(rows, xp))
    assert_same(encoded, features.encoder.encode_rows(rows))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), n_rows=st.integers(1, 40))
def test_rows_that_the_encoder_has_not_seen_are_encoded_to_the_bits_of_the_cpu(
    features: FittedFeatures, seed: int, n_rows: int
) -> None:
    rows = everything(n_rows, seed)
    encoded = GpuEncoder(features.encoder.layout, ArrayBackend(np)).encode(ArrowColumns(rows, np))
    assert_same(encoded, features.encoder.encode_rows(rows))


@pytest.mark.parametrize("xp", MODULES)
def test_marks_of_missing_values_are_missing_on_the_device_too(xp: Any) -> None:
    day = everything(900)["born"].drop_null()[0].as_py().isoformat()
    missing = {"visits": ("0", "1"), "born": (day,), "seen": ("1970-01-01",), "plan": ("Gift", "Solo"), "rank": ("3",)}
    encoder = fit_features(everything(900), column_roles=ROLES, missing=missing).encoder
    assert encoder.read_block(everything(900)).n_marked.keys() == missing.keys()
    encoded = GpuEncoder(encoder.layout, ArrayBackend(xp)).encode(ArrowColumns(everything(900), xp))
    assert_same(encoded, encoder.encode_rows(everything(900)))


def test_a_table_of_numbers_or_of_answers_alone_is_encoded(features: FittedFeatures) -> None:
    for columns in (["age", "small"], ["plan", "rank"], ["genres"], ["hobbies"]):
        table = everything(300).select(columns)
        features = fit_features(table, column_roles={name: ROLES[name] for name in columns if name in ROLES})
        encoded = GpuEncoder(features.encoder.layout, ArrayBackend(np)).encode(ArrowColumns(table, np))
        assert_same(encoded, features.encoder.encode_rows(table))


def test_a_real_table_is_encoded_to_the_bits_of_the_cpu(shared_data: Path) -> None:
    table = open_table(shared_data / "developer_survey_2017.csv.gz", id="Respondent")
    features = fit_encoder(table, id="Respondent")
    block = next(table.blocks(features.encoder.columns))
    encoded = GpuEncoder(features.encoder.layout, ArrayBackend(np)).encode(ArrowColumns(block.rows, np))
    assert_same(encoded, features.encoder.encode_rows(block.rows))


def test_infinite_numbers_raise(features: FittedFeatures) -> None:
    rows = everything(20).set_column(0, "age", pa.array([np.inf] * 20))
    with pytest.raises(NonFiniteValueError, match="Column 'age' holds 20 infinite values"):
        GpuEncoder(features.encoder.layout, ArrayBackend(np)).encode(ArrowColumns(rows, np))


def test_infinite_dates_raise() -> None:
    days = np.arange(20, dtype=np.int32)
    features = fit_features(pa.table({"seen": pa.array(days).cast(pa.date32())}))
    days[::10] = 2**31 - 1
    rows = pa.table({"seen": pa.array(days).cast(pa.date32())})
    with pytest.raises(NonFiniteValueError, match="Column 'seen' holds 2 dates that are infinite"):
        GpuEncoder(features.encoder.layout, ArrayBackend(np)).encode(ArrowColumns(rows, np))


@pytest.mark.parametrize("xp", MODULES)
@pytest.mark.parametrize("lengths", [(700,), (64,), (65, 63), (1, 130, 7)])
def test_blocks_have_the_rows_of_the_runs(xp: Any, lengths: tuple[int, ...]) -> None:
    members = pa.concat_tables(block.rows for block in DemoMembers(700).blocks()).drop_columns(["user_id"])
    features = fit_features(members)
    device = NumpyDevice(xp, lengths=lengths)
    rows = device.reader(open_table(members)).encoded_table(features.encoder)
    blocks = list(rebatch_rows(xp, rows._iter_runs(last=True), 64))
    assert [len(block.dense) for block in blocks] == [64] * 10 + [60]
    for number, block in enumerate(blocks):
        assert_same(block, features.encoder.encode_rows(members.slice(number * 64, 64)))


@pytest.mark.parametrize("xp", MODULES)
def test_rows_are_collected_as_x_on_the_host(xp: Any) -> None:
    members = pa.concat_tables(block.rows for block in DemoMembers(150).blocks()).drop_columns(["user_id"])
    features = fit_features(members)
    rows = NumpyDevice(xp, lengths=(1, 130, 19)).reader(open_table(members)).encoded_table(features.encoder)
    X = rows.collect_matrix(lambda _: None)
    assert type(X) is np.ndarray
    assert X.tobytes() == features.encoder.encode(members).tobytes()


def run_passes(rows: Any, features: FittedFeatures, backend: Any) -> tuple[bytes, bytes]:
    """Return moments and scores, as bytes."""
    moments = rows.compute_moments(backend, lambda _: None)
    axes = make_projection(features.encoder.layout, moments.mean, np.linalg.eigh(moments.scatter)[1][:, -5:].copy())
    Z = backend.allocate_scores((moments.n_rows, 5), storage())
    for start, n_rows in rows.map(lambda start, part: write_scores(backend, part, axes, Z, start), last=True):
        assert (Z.shape, start + n_rows <= moments.n_rows) == ((moments.n_rows, 5), True)
    return moments.mean.tobytes() + moments.scatter.tobytes(), np.asarray(Z).tobytes()


def storage() -> Any:
    from engine.execution.array_storage import IN_MEMORY

    return IN_MEMORY


def write_scores(backend: Any, rows: EncodedRows, axes: Any, Z: Any, start: int) -> tuple[int, int]:
    backend.encoded_scores(rows, axes, Z[start : start + len(rows.dense)])
    return start, len(rows.dense)


@pytest.mark.parametrize("xp", MODULES)
def test_chunks_cached_rows_and_the_device_do_not_change_a_bit(
    xp: Any, monkeypatch: pytest.MonkeyPatch, block_rows: Callable[[int], None]
) -> None:
    block_rows(64)
    members = pa.concat_tables(block.rows for block in DemoMembers(500).blocks()).drop_columns(["user_id"])
    features = fit_features(members)
    expected = run_passes(features.rows, features, ArrayBackend(np))
    for lengths, free in (((500,), None), ((7, 90), None), ((64,), 0), ((33, 200), 0)):
        device = NumpyDevice(xp, lengths=lengths)
        monkeypatch.setattr(device, "free_memory", lambda free=free: free)
        monkeypatch.setattr(device, "_allocate_resident", lambda shape, dtype: xp.empty(shape, dtype))
        rows = device.reader(open_table(members)).encoded_table(features.encoder)
        assert run_passes(rows, features, device) == expected


class FailingChunks:
    """Chunks whose reading runs out of memory `times` times, each time after two chunks."""

    def __init__(self, chunks: Any, times: int) -> None:
        self.chunks, self.times, self.sizes = chunks, times, []

    def __call__(self, columns: Any, chunk_bytes: int) -> Any:
        self.sizes.append(chunk_bytes)
        for number, chunk in enumerate(self.chunks(columns, chunk_bytes)):
            if number == 2 and len(self.sizes) <= self.times:
                raise MemoryError("no room for pages\nand a long story")
            yield chunk


def read_with(
    times: int, fallback: Any, caplog: Any
) -> tuple[list[EncodedRows], FailingChunks, FittedFeatures, pa.Table]:
    table = everything(200)
    features = fit_features(table, column_roles=ROLES)
    device = NumpyDevice(lengths=(31, 40), fallback=fallback)
    reader = device.reader(open_table(table))
    failing = FailingChunks(reader.chunks, times)
    object.__setattr__(reader, "chunks", failing)
    with caplog.at_level(logging.WARNING):
        return list(reader.encoded_table(features.encoder)._iter_runs(last=True)), failing, features, table


@pytest.mark.parametrize("times", [0, 1, 3, 9])
def test_rows_left_when_memory_runs_out_are_read_in_smaller_chunks_then_by_the_cpu(caplog: Any, times: int) -> None:
    runs, failing, features, table = read_with(times, CpuBackend(), caplog)
    (whole,) = rebatch_rows(np, iter(runs), 200)
    assert_same(whole, features.encoder.encode_rows(table))
    assert failing.sizes == [1 << 28, 1 << 26, 1 << 24, 1 << 22][: times + 1]
    assert ("the CPU reads the rows from 71 on" in caplog.text) == (times == 9)
    assert "long story" not in caplog.text


def test_a_device_asked_for_by_name_says_that_reading_ran_out_of_memory(caplog: Any) -> None:
    with pytest.raises(OutOfResourcesError, match=r"reading chunks of 4 MiB.*\nHint: free memory"):
        read_with(9, None, caplog)


def test_a_table_whose_number_of_rows_has_changed_raises(features: FittedFeatures) -> None:
    reader = NumpyDevice().reader(open_table(everything(60)))
    chunks = reader.chunks
    object.__setattr__(reader, "chunks", lambda columns, size: iter(list(chunks(columns, size))[:-1]))
    with pytest.raises(InputChangedError, match="had 60 rows when it was opened, but a stand-in read 8"):
        list(reader.encoded_table(features.encoder)._iter_runs(last=True))
