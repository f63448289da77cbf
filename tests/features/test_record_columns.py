"""Rows that are dicts are read as the same rows of a table are: to the bit, with the same errors."""

from __future__ import annotations

import datetime as dt
import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import Role
from engine.errors import MissingColumnError, RetypedColumnError, RoomsError
from engine.features.columnar_block import ColumnarBlock
from engine.features.encoder import FeatureEncoder
from engine.features.fit import fit_encoder
from engine.tables import open_table
from engine.tables.csv_dialect import MISSING
from engine.tables.records import table_of_records

DAY = dt.date(2024, 2, 29)
N = 400
RNG = np.random.default_rng(0)
PEOPLE = pa.table(
    {
        "age": pa.array([None if i % 50 == 0 else i % 60 for i in range(N)]),
        "hours": RNG.exponential(3.0, N),
        "active": [i % 3 == 0 for i in range(N)],
        "price": [f"{i % 40},50 €" for i in range(N)],
        "city": pa.array(["Rome", "Oslo", "Bonn", None, "n/a"] * (N // 5)),
        "level": pa.array([1, 2, 3, 4] * (N // 4)),
        "since": [DAY + dt.timedelta(days=i) for i in range(N)],
        "seen": [f"{1 + i % 28:02d}.{1 + i % 12:02d}.2024" for i in range(N)],
        "likes": [["a", "b"][: i % 3] if i % 9 else None for i in range(N)],
        "uses": ["tv;phone" if i % 2 else "tv" for i in range(N)],
    }
)
ROLES: dict[str, Role] = {"level": "categorical", "uses": "multilabel", "price": "numeric", "seen": "date"}


@pytest.fixture(scope="module")
def encoder() -> FeatureEncoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_encoder(open_table(PEOPLE), column_roles=ROLES).encoder


TEXTS = st.sampled_from(
    ["Rome", "Oslo", "Bonn", "n/a", "", "Paris", "1,5", "12", "2024-02-29", "2024-02-30", "29.02.2024"]
)
PLAIN = (
    st.none()
    | st.integers(-(2**54), 2**54)
    | st.integers(-5, 5)
    | st.floats(-1e6, 1e6)
    | st.sampled_from([float("nan"), float("inf"), 2**63, 2**70, -0.0])
)
DATES = st.none() | st.dates() | st.datetimes() | TEXTS
LISTS = (
    st.none() | st.lists(st.sampled_from(["a", "b", "", "c"])) | st.lists(st.sampled_from(["a", None, 3]), max_size=2)
)
ANY = PLAIN | st.booleans() | TEXTS | DATES | LISTS | st.just(Decimal("1.50")) | st.just(b"x")
USUAL: dict[str, st.SearchStrategy[Any]] = {
    "age": PLAIN,
    "hours": PLAIN,
    "active": st.none() | st.booleans(),
    "price": st.none() | TEXTS,
    "city": st.none() | TEXTS,
    "level": st.none() | st.integers(0, 5),
    "since": DATES,
    "seen": st.none() | TEXTS,
    "likes": LISTS,
    "uses": st.none() | st.sampled_from(["tv", "tv;phone", "radio", ""]),
}


def without_words(record: dict[str, Any]) -> dict[str, Any]:
    """Return a row with None for words such as NA among its numbers, truths and dates, as a CSV file has it."""
    no_texts = ("age", "hours", "active", "level", "since")
    return {n: None if n in no_texts and isinstance(v, str) and v in MISSING else v for n, v in record.items()}


def outcome(read: Any) -> tuple[ColumnarBlock | None, type[Exception] | None]:
    try:
        return read(), None
    except RoomsError as error:
        return None, type(error)


@settings(max_examples=150)
@given(data=st.data())
def test_dicts_are_read_as_the_rows_of_a_table(encoder: FeatureEncoder, data: st.DataObject) -> None:
    names = list(USUAL)
    odd = data.draw(st.sampled_from([None, None, *names]))
    row = st.fixed_dictionaries({n: ANY if n == odd else st.one_of(v) for n, v in USUAL.items()})
    records = data.draw(st.lists(row, min_size=1, max_size=4))
    for record in records[1:]:
        for name in data.draw(st.sets(st.sampled_from(names), max_size=2)):
            del record[name]

    def by_table() -> ColumnarBlock:
        table = open_table(table_of_records([without_words(record) for record in records]))
        encoder.check_schema(table.schema)
        (block,) = table.blocks()
        return encoder.read_block(block.rows)

    expected, expected_error = outcome(by_table)
    found, error = outcome(lambda: encoder.read_records(records))
    assert (error is None) == (expected_error is None), (error, expected_error)
    if expected is None or found is None:
        return
    np.testing.assert_array_equal(
        found.numbers.view(np.int64) * ~np.isnan(found.numbers),
        expected.numbers.view(np.int64) * ~np.isnan(expected.numbers),
    )
    np.testing.assert_array_equal(np.isnan(found.numbers), np.isnan(expected.numbers))
    X, Y = (encoder.layout.to_matrix(encoder.encode_block(block)) for block in (found, expected))
    assert X.tobytes() == Y.tobytes()
    for name, parsed in expected.parsed.items():
        assert found.parsed[name].n_unread == parsed.n_unread
        # A column of dates that are all texts counts its words, which `without_words` has taken from the table.
        marks = [
            {mark: n for mark, n in each.marks.items() if mark not in MISSING} for each in (found.parsed[name], parsed)
        ]
        assert marks[0] == marks[1]
    assert found.n_marked == expected.n_marked


def test_columns_that_no_row_has_and_values_of_other_types_are_named(encoder: FeatureEncoder) -> None:
    row = PEOPLE.slice(1, 1).to_pylist()[0]
    with pytest.raises(MissingColumnError, match="'age', 'uses'"):
        encoder.read_records([{name: value for name, value in row.items() if name not in ("age", "uses")}])
    for name, value in {"hours": "much", "city": ["Rome"], "likes": "a", "since": 3, "active": "yes"}.items():
        with pytest.raises(RetypedColumnError, match=f"'{name}'"):
            encoder.read_records([row | {name: value}])
    with pytest.raises(RoomsError, match="'hours'"):
        encoder.read_records([row, row | {"hours": "much"}])
    with pytest.raises(RoomsError, match="'hours'"):
        encoder.read_records([row | {"hours": float("inf")}])


@pytest.mark.parametrize("levels", [["n/a"], [3, "n/a"], ["NA", None]])
def test_words_among_whole_numbers_that_are_categories_are_missing(encoder: FeatureEncoder, levels: list[Any]) -> None:
    rows = [{**dict.fromkeys(USUAL), "level": level} for level in levels]
    found = encoder.read_records(rows)
    expected = encoder.read_records([without_words(row) for row in rows])
    X, Y = (encoder.layout.to_matrix(encoder.encode_block(block)) for block in (found, expected))
    assert X.tobytes() == Y.tobytes()
