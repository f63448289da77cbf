"""Random tables of mixed types for hypothesis: missing values, odd names and texts, lists, dates, huge numbers.

The same examples in every run, a few; ROOMS_EXAMPLES=1000 looks for new ones.
"""

from __future__ import annotations

import os
from datetime import date, datetime
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_EXAMPLES = int(os.environ.get("ROOMS_EXAMPLES", "0"))


def few_examples(number: int) -> settings:
    """Return settings for a test whose examples take a second each."""
    return settings(
        max_examples=_EXAMPLES or number,
        derandomize=not _EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


_LETTERS = st.characters(codec="utf-8", exclude_characters="\x00")
_WORDS = [
    "yes",
    "no",
    "a|b",
    "a,b",
    "1.299",
    "1,5",
    "€ 5",
    "12 %",
    "NA",
    "",
    " ",
    "-",
    "2024-10-26",
    "007",
    "=1+1",
    "<b>",
]
_TEXTS = st.one_of(st.sampled_from(_WORDS), st.text(_LETTERS, max_size=6))
_VALUES: dict[str, tuple[Any, pa.DataType]] = {
    "float": (st.floats(-1e6, 1e6), pa.float64()),
    "wild float": (st.floats(allow_nan=True, allow_infinity=False), pa.float64()),
    "float32": (st.floats(width=32, allow_nan=False, allow_infinity=False), pa.float32()),
    "int": (st.integers(-5, 40), pa.int64()),
    "wild int": (st.integers(-(2**63), 2**63 - 1), pa.int64()),
    "flag": (st.booleans(), pa.bool_()),
    "word": (st.sampled_from(_WORDS), pa.string()),
    "text": (_TEXTS, pa.string()),
    "labels": (st.lists(_TEXTS, max_size=4), pa.list_(pa.string())),
    "date": (st.dates(date(1900, 1, 1), date(2100, 1, 1)), pa.date32()),
    "time": (st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), pa.timestamp("us")),
    "nothing": (st.none(), pa.string()),
}
_NAMES = st.one_of(
    st.sampled_from(
        ["cluster", "row", "age", "user_id", "Unnamed: 0", "a b", 'q"', "x;y", "é", "margin", "group: other"]
    ),
    st.text(_LETTERS, min_size=1, max_size=8),
)


@st.composite
def columns(draw: Any, n_rows: int, kinds: tuple[str, ...] = tuple(_VALUES)) -> pa.Array:
    """Draw a column: all values of one kind, some of them missing, or all from two or three values."""
    values, kind = _VALUES[draw(st.sampled_from(kinds))]
    if draw(st.booleans()):
        values = st.sampled_from(draw(st.lists(values, min_size=1, max_size=3)))
    missing = draw(st.sampled_from([0, 0, 1, 5]))
    drawn = draw(st.lists(values, min_size=n_rows, max_size=n_rows))
    gaps = draw(st.lists(st.integers(0, 9), min_size=n_rows, max_size=n_rows))
    return pa.array([None if gap < missing else value for value, gap in zip(drawn, gaps, strict=True)], kind)


@st.composite
def tables(draw: Any, min_rows: int = 0, max_rows: int = 60, kinds: tuple[str, ...] = tuple(_VALUES)) -> pa.Table:
    """Draw a table of up to five columns, which may be duplicates of its first rows many times over."""
    n_rows = draw(st.integers(min_rows, max_rows))
    names = draw(st.lists(_NAMES, min_size=1, max_size=5, unique=True))
    table = pa.table({name: draw(columns(n_rows, kinds)) for name in names})
    repeats = draw(st.sampled_from([1, 1, 1, 7]))
    return pa.concat_tables([table] * repeats).combine_chunks()


FLAT_KINDS = tuple(kind for kind in _VALUES if kind != "labels")  # what CSV can hold
