"""Reading columns into arrays, compared with the Python values."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import NonFiniteValueError
from engine.features.columnar_block import MISSING_CODE, ColumnarBlock, ReadSpec, factorize_texts, read_block


def texts_of(codes: np.ndarray, names: list[str] | None) -> list[str | None]:
    assert names is not None
    return [None if code == MISSING_CODE else names[code] for code in codes]


def read_column(column: pa.Array, reading: ReadSpec) -> ColumnarBlock:
    return read_block(pa.table({"x": column}), {"x": reading})


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint16(), pa.float32(), pa.float64()])
def test_numbers_are_float64_with_nan_for_missing(kind: pa.DataType) -> None:
    assert read_column(pa.array([3, None, 7], kind), ReadSpec("number")).numbers.tolist()[0][::2] == [3.0, 7.0]
    assert np.isnan(read_column(pa.array([3, None, 7], kind), ReadSpec("number")).numbers[0, 1])
    assert read_column(pa.array([3, 7], kind), ReadSpec("number")).numbers.tolist() == [[3.0, 7.0]]


def test_flags_and_columns_of_nulls_are_numbers_too() -> None:
    flags = read_column(pa.array([True, False, None]), ReadSpec("number")).numbers[0]
    assert flags[:2].tolist() == [1.0, 0.0]
    assert np.isnan(flags[2])
    assert np.isnan(read_column(pa.nulls(2), ReadSpec("number")).numbers).all()


INFINITE_TIMES = [
    *[pa.array([sign * (2**31 - 1)], pa.int32()).cast(pa.date32()) for sign in (1, -1)],
    *[pa.array([sign * (2**63 - 1)]).cast(pa.timestamp(unit)) for sign in (1, -1) for unit in ("s", "ms", "us", "ns")],
]


@pytest.mark.parametrize(
    "infinite",
    INFINITE_TIMES,
    ids=lambda times: f"{times.type} {times.view(pa.int64() if times.type.bit_width == 64 else pa.int32())[0]}",
)
def test_infinite_dates_raise_with_their_column_and_number(infinite: pa.Array) -> None:
    with pytest.raises(NonFiniteValueError, match="Column 'x' holds 2 dates that are infinite"):
        read_column(pa.concat_arrays([infinite, pa.nulls(3, infinite.type), infinite]), ReadSpec("days"))


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("s"), pa.timestamp("us")])
def test_the_first_and_the_last_day_of_the_calendar_are_dates(kind: pa.DataType) -> None:
    days = pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31)]).cast(kind)
    assert read_column(days, ReadSpec("days")).numbers.tolist() == [[-719_162.0, 2_932_896.0]]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("ns", tz="UTC")])
def test_times_are_days_since_1970(kind: pa.DataType) -> None:
    days = pa.array([dt.datetime(1970, 1, 3), None, dt.datetime(1969, 12, 31)], pa.timestamp("s")).cast(kind)
    numbers = read_column(days, ReadSpec("days")).numbers[0]
    assert numbers[::2].tolist() == [2.0, -1.0]
    assert np.isnan(numbers[1])


def test_half_a_day_is_half_a_day() -> None:
    noon = pa.array([dt.datetime(1970, 1, 2, 12)], pa.timestamp("us"))
    assert read_column(noon, ReadSpec("days")).numbers.tolist() == [[1.5]]


def test_infinite_values_are_counted_and_named() -> None:
    with pytest.raises(NonFiniteValueError, match="'x' holds 2 infinite"):
        read_column(pa.array([1.0, float("inf"), float("-inf"), float("nan")]), ReadSpec("number"))


@pytest.mark.parametrize("stored", ["plain", "dictionary", "slice"])
def test_texts_are_codes_of_the_names_in_the_block(stored: str) -> None:
    texts = ["b", None, "a", "b", "c"]
    column = pa.array(texts)
    if stored == "dictionary":
        column = pa.DictionaryArray.from_arrays(pa.array([2, None, 0, 2, 1]), pa.array(["a", "c", "b", "unused"]))
    if stored == "slice":
        column = pa.array(["z", *texts, "z"]).slice(1, 5)
    block = read_column(column, ReadSpec("category"))
    assert texts_of(block.codes[0], block.names[0]) == texts


def test_numbers_as_categories_are_the_same_text_however_they_are_stored() -> None:
    for column in (pa.array([1, 2, None]), pa.array([1.0, 2.0, None]), pa.array([1.0, 2.0, float("nan")])):
        block = read_column(column, ReadSpec("category"))
        assert texts_of(block.codes[0], block.names[0]) == ["1", "2", None]
    block = read_column(pa.array([1.5, 2.0]), ReadSpec("category"))
    assert texts_of(block.codes[0], block.names[0]) == ["1.5", "2"]


def test_numbers_beyond_int64_are_categories_of_their_own() -> None:
    block = read_column(pa.array([1e300, -1e300, np.inf, 2.0**62, 0.5, np.nan]), ReadSpec("category"))
    assert texts_of(block.codes[0], block.names[0]) == ["1e+300", "-1e+300", "inf", str(2**62), "0.5", None]


def test_float16_can_be_categories() -> None:
    block = read_column(pa.array(np.array([3, 0.5, 0.1, np.nan], np.float16)), ReadSpec("category"))
    assert texts_of(block.codes[0], block.names[0]) == ["3", "0.5", str(np.float32(np.float16(0.1))), None]


def test_names_beyond_the_limit_are_not_listed() -> None:
    codes, names = factorize_texts(pa.array(["a", "b", "c"]), 2)
    assert names is None
    assert len(set(codes.tolist())) == 3


@pytest.mark.parametrize("stored", ["list", "text", "dictionary"])
def test_labels_are_split_empty_ones_are_none_and_empty_texts_are_missing(stored: str) -> None:
    rows = [["Go", "C"], None, [], ["C", "", "C"], ["R"]]
    column = pa.array(rows, pa.list_(pa.string()))
    separator = None if stored == "list" else "; "
    if stored != "list":
        column = pa.array([None if row is None else " ; ".join(row) for row in rows])
    if stored == "dictionary":
        column = column.dictionary_encode()
    labels = read_column(column, ReadSpec("labels", separator)).labels["x"]
    assert labels.names is not None
    texts = [
        [labels.names[code] for code in labels.codes[a:b] if code != MISSING_CODE]
        for a, b in zip(labels.offsets[:-1], labels.offsets[1:], strict=True)
    ]
    assert texts == [["Go", "C"], [], [], ["C", "C"], ["R"]]
    assert labels.missing.tolist() == [False, True, stored != "list", False, False]


def test_a_list_column_may_be_a_slice_and_hold_integers() -> None:
    column = pa.array([[9], [1, 2], None, [2], [8]], pa.list_(pa.int64())).slice(1, 3)
    labels = read_column(column, ReadSpec("labels")).labels["x"]
    assert labels.offsets.tolist() == [0, 2, 2, 3]
    assert texts_of(labels.codes, labels.names) == ["1", "2", "2"]


def test_half_floats_may_be_categories() -> None:
    column = pa.array(np.array([1.0, 2.5, 1.0], np.float16))
    block = read_column(column, ReadSpec("category"))
    assert texts_of(block.codes[0], block.names[0]) == ["1", "2.5", "1"]
