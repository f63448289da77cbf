"""Values in notations that people use, and rows that are no people: read, or named in a warning.

The column `age` has the two groups of catalogue.columns, in a notation. If it were taken for categories, or left out,
the clusters would not be the groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from tests.bad_input.catalogue import (
    Case,
    N,
    clusters_are_the_groups,
    columns,
    csv_text,
    file,
    has_column,
    parquet,
)

AGES = columns()["age"].tolist()
DAYS = [np.datetime64("2010-01-01") + int(100 * age) for age in AGES]
TOOLS = ["Python", "R", "SQL", "Go"]
ANSWERS = [[tool for bit, tool in enumerate(TOOLS) if (1 + n * 7 % 15) >> bit & 1] for n in range(N)]
BLANK_ROWS = b",,\n" * 30


def read_as(role: str) -> Callable[[Any], bool]:
    """Return what tells whether `age` has this role, and the clusters are the groups."""
    return lambda run: has_column("age", role)(run) and clusters_are_the_groups(run)


def has_labels(name: str, n_labels: int) -> Callable[[Any], bool]:
    """Return what tells whether a run split the texts of a column into so many labels."""

    def check(run: Any) -> bool:
        (column,) = [column for column in run.manifest["columns"] if column["column"] == name]
        return column["role"] == "multilabel" and f"of {n_labels} labels" in column["reason"]

    return check


def seconds(age: float) -> int:
    return int(age * 300)


def clock(n: int, *, hours: bool) -> str:
    minutes = f"{n // 60 % 60:02d}:{n % 60:02d}"
    return f"{n // 3600}:{minutes}" if hours else f"{n // 60}:{n % 60:02d}"


NUMBERS: dict[str, list[str]] = {
    "thousands as k": [f"{age:.2f}k" for age in AGES],
    "thousands as k beside whole numbers": [
        f"{age:.2f}k" if n % 3 else f"{1000 * age:.0f}" for n, age in enumerate(AGES)
    ],
    "money in millions and thousands": [
        f"${age / 1000:.5f}M" if n % 3 else f"${age:.1f}k" for n, age in enumerate(AGES)
    ],
    "grams and kilograms": [f"{age:.1f} g" if n % 3 else f"{age / 1000:.4f} kg" for n, age in enumerate(AGES)],
    "minutes and hours": [f"{age:.1f} min" if n % 3 else f"{age / 60:.3f} h" for n, age in enumerate(AGES)],
    "hours, minutes and seconds": [clock(seconds(age), hours=True) for age in AGES],
    "minutes and seconds": [clock(seconds(age), hours=False) for age in AGES],
    "hours and minutes in words": [f"{int(age) // 10} h {age * 6 % 60:.0f} min" for age in AGES],
    "durations of ISO 8601": [f"PT{int(age)}M{n % 60}S" for n, age in enumerate(AGES)],
    "durations of pandas": [f"0 days {clock(seconds(age), hours=True)}" for age in AGES],
    "minus signs at the end": [f"{age:.2f}-" for age in AGES],
    "formulas that keep a text": [f'="{age:.2f}"' for age in AGES],
}
DATES: dict[str, Any] = {
    "days in digits": [int(str(day).replace("-", "")) for day in DAYS],
    "days in digits as texts": [str(day).replace("-", "") for day in DAYS],
    "months in digits": [int(str(day)[:7].replace("-", "")) for day in DAYS],
    "months": [str(day)[:7] for day in DAYS],
}
LISTS: dict[str, list[str]] = {
    "sets of Python": [str(set(labels)) for labels in ANSWERS],
    "sets of Python, some of them empty": [str(set(labels)) if n % 5 else "set()" for n, labels in enumerate(ANSWERS)],
    "answers on lines of their own": ["\n".join(labels) for labels in ANSWERS],
    "answers of SharePoint": [";#".join(labels) for labels in ANSWERS],
}
NAMED: dict[str, tuple[list[str], str]] = {
    "spellings of a category": ([["Bonn", "bonn ", "Rome"][n % 3] for n in range(N)], "2 spellings of 1 categories"),
    "composed and decomposed letters": ([["K\u00f6ln", "Ko\u0308ln"][n % 2] for n in range(N)], "2 spellings of 1"),
    "question marks": ([["a", "?", "b"][n % 3] for n in range(N)], "look like missing values stay categories: 'word'"),
    "ratings out of five": ([f"{n % 30 / 10}/5" for n in range(N)], "notation that is not read .*'word'"),
    "digits that are not ASCII": ([chr(0x661 + n % 9) + chr(0x661 + n // 9) for n in range(45)] * 2, "notation"),
}


def written(values: list[Any], **others: Any) -> Callable[[Any], Any]:
    """Return what writes a table whose column `age` has these values, and no other tells the groups."""
    return parquet(age=pa.array(values), plan=None, **others)


NOTATIONS = [
    *(Case(name, written(values), 0, "'age'", check=read_as("numeric")) for name, values in NUMBERS.items()),
    *(Case(name, written(values), 0, check=read_as("date")) for name, values in DATES.items()),
    *(Case(name, parquet(word=values), 0, check=has_labels("word", 4)) for name, values in LISTS.items()),
    *(
        Case(name, parquet(word=values[:N]), 0, words, check=has_column("word", "categorical"))
        for name, (values, words) in NAMED.items()
    ),
    Case(
        "days in digits with zeros for none",
        parquet(age=[0 if n < 3 else int(str(day).replace("-", "")) for n, day in enumerate(DAYS)]),
        0,
        "'age' .*3 marks of missing values",
        check=has_column("age", "date"),
    ),
    Case("rows without a value", file("a.csv", csv_text() + BLANK_ROWS), 0, "30 of the 90 rows have no value"),
    Case(
        "a line drawn below the names",
        file("a.csv", csv_text().replace(b"\n", b"\n--,---,----\n", 1)),
        0,
        check=lambda run: run.manifest["rows"] == N,
    ),
    Case(
        "days in digits that are no days, set as dates",
        parquet(age=[20_240_230 + n for n in range(N)]),
        3,
        "'age' was set to date, but",
        ("-k", "2", "--role", "age=date"),
    ),
]
