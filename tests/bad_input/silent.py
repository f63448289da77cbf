"""Tables whose clusters would be wrong without a word: types, keys, marks and files that look like something else.

The column `age` has the two groups of catalogue.columns, however it is stored; `plan` says nothing about them.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.bad_input.catalogue import Case, N, columns, file, has_column, parquet
from tests.bad_input.notations import AGES, ANSWERS, TOOLS, has_labels, read_as, written

SECONDS = [int(60 * age) for age in AGES]
MOMENTS = [1_577_836_800 + 3600 * n * 7 for n in range(N)]


def arrow(**changed: Any) -> Callable[[Path], Path]:
    """Return what writes the columns as a Feather file, which holds every type of Arrow."""

    def make(folder: Path) -> Path:
        table = pa.table({name: values for name, values in (columns() | changed).items() if values is not None})
        with pa.OSFile(str(folder / "table.feather"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return folder / "table.feather"

    return make


def is_missing_where(name: str, n_rows: int) -> Callable[[Any], bool]:
    """Return what tells whether so many rows of a column are missing, by the reason of its role."""

    def check(run: Any) -> bool:
        (column,) = [column for column in run.manifest["columns"] if column["column"] == name]
        return f"{n_rows} missing values written as" in column["reason"]

    return check


def says(name: str, words: str) -> Callable[[Any], bool]:
    """Return what tells whether the reason of a column's role has these words."""
    return lambda run: any(words in c["reason"] for c in run.manifest["columns"] if c["column"] == name)


def csv_of(**cells: list[Any]) -> Callable[[Path], Path]:
    """Return what writes columns of texts as CSV."""
    rows = zip(*cells.values(), strict=True)
    return file("a.csv", "\n".join([",".join(cells), *(",".join(map(str, row)) for row in rows), ""]))


def run_ends(values: list[Any]) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array(range(1, N + 1), pa.int32()), pa.array(values))


ROUNDED = [round(age, 2) for age in AGES]
SILENT = [
    Case(
        "lists as list views",
        arrow(tools=pa.array(ANSWERS, pa.list_view(pa.string()))),
        0,
        check=has_column("tools", "multilabel"),
    ),
    Case(
        "lists as large list views of string views",
        arrow(tools=pa.array(ANSWERS, pa.large_list_view(pa.string_view()))),
        0,
        check=has_column("tools", "multilabel"),
    ),
    Case("numbers in run ends", arrow(age=run_ends(AGES), plan=None), 0, check=read_as("numeric")),
    Case(
        "texts in run ends",
        arrow(word=run_ends(["a", "b", "c"] * (N // 3))),
        0,
        check=has_column("word", "categorical"),
    ),
    Case(
        "decimals of 76 digits",
        arrow(age=pa.array([Decimal(str(a)) for a in ROUNDED], pa.decimal256(76, 2)), plan=None),
        0,
        check=read_as("numeric"),
    ),
    Case("durations", written([dt.timedelta(seconds=s) for s in SECONDS]), 0, check=read_as("numeric")),
    Case(
        "times of the day",
        written([dt.time(s // 3600, s // 60 % 60, s % 60) for s in SECONDS]),
        0,
        check=read_as("numeric"),
    ),
    Case(
        "UUIDs that are no id",
        parquet(key=pa.array([n.to_bytes(16, "big") for n in range(N)], pa.uuid())),
        0,
        "UUIDs",
        check=has_column("key", dropped=True),
    ),
    Case(
        "blank texts of several answers",
        parquet(tools=["; ".join(labels) if n % 3 else " " for n, labels in enumerate(ANSWERS)]),
        0,
        check=has_labels("tools", len(TOOLS)),
    ),
    Case(
        "NA and None as categories of CSV",
        csv_of(age=ROUNDED, country=["NA", "DE", "None"] * (N // 3)),
        0,
        "taken for missing values: 'NA', 'None' in 'country'",
        check=says("country", "missing values written as 'NA', 'None'"),
    ),
    Case(
        "NA among numbers of CSV",
        csv_of(age=["NA" if n % 9 == 0 else a for n, a in enumerate(ROUNDED)], x=range(N)),
        0,
        check=says("age", "missing values written as 'NA'"),
    ),
    Case(
        "thousands or decimals of a unit",
        written([f"{1 + n % 20}.{100 + n} kg" if n % 3 else f"{100 + n} kg" for n in range(N)]),
        0,
        "may be decimal ones.*write thousands without marks",
    ),
    Case(
        "0 of a birth year",
        parquet(birth_year=[0 if n % 9 == 0 else 1950 + n * 7 % 50 for n in range(N)]),
        0,
        "'birth_year' .*written as 0",
        check=is_missing_where("birth_year", 7),
    ),
    Case(
        "0 of seconds since 1970",
        parquet(last_login=[0 if n % 9 == 0 else m for n, m in enumerate(MOMENTS)]),
        0,
        "'last_login' .*written as 0",
        check=is_missing_where("last_login", 7),
    ),
    Case(
        "0 of a height",
        parquet(height=[0.0 if n % 9 == 0 else 150.0 + n * 7 % 50 for n in range(N)]),
        0,
        "Zeros stand apart from all other values of 'height'",
    ),
    Case(
        "77 and 99 of days",
        parquet(days=[(77, 99)[n % 2] if n % 9 < 2 else n * 7 % 31 for n in range(N)]),
        0,
        "'days' .*written as 77, 99",
        check=is_missing_where("days", 14),
    ),
    Case(
        "99 after a discount of 0 to 29",
        parquet(discount=[99 if n % 9 == 0 else n * 7 % 30 for n in range(N)]),
        0,
        "'discount' .*written as 99",
        check=is_missing_where("discount", 7),
    ),
    Case(
        "-1 of a rating",
        parquet(rating=[-1 if n % 9 == 0 else n * 7 % 6 for n in range(N)]),
        0,
        r"apart, but not plainly: 'rating' \(-1\)",
    ),
    Case(
        "codes such as 0x1f in CSV",
        csv_of(age=ROUNDED, flags=[f"0x{n * 7 % 29:02x}" for n in range(N)]),
        0,
        check=has_column("flags", "categorical"),
    ),
    Case(
        "a word among dates",
        csv_of(age=ROUNDED, last=["never" if n % 3 == 0 else f"2024-02-{n % 28 + 1:02d}" for n in range(N)]),
        0,
        "'last' .*20 missing values written as words",
        check=has_column("last", "date"),
    ),
    Case(
        "hashes of 64 bits",
        parquet(h=np.random.default_rng(0).integers(-(2**63), 2**63 - 1, N)),
        0,
        "'h' .*as hashes are",
        check=has_column("h", dropped=True),
    ),
    Case(
        "weights of a sample",
        parquet(fnlwgt=np.arange(N) * 7.5),
        0,
        "'fnlwgt' .*weights of a sample",
        check=has_column("fnlwgt", dropped=True),
    ),
    Case(
        "clusters of an earlier run",
        parquet(cluster=[n * 7 % 5 for n in range(N)]),
        0,
        check=has_column("cluster", "categorical"),
    ),
    Case(
        "merchant codes",
        parquet(mcc=[[5411, 5812, 7011][n % 3] for n in range(N)]),
        0,
        check=has_column("mcc", "categorical"),
    ),
    Case(
        "JSON named as CSV",
        file("a.csv", "".join(json.dumps({"age": a, "x": 1}) + "\n" for a in AGES)),
        3,
        "holds JSON",
    ),
    Case("HTML named as CSV", file("a.csv", "<!DOCTYPE html>\n<html><body>403</body></html>\n"), 3, "holds HTML"),
    Case(
        "circumflexes between columns",
        file("a.csv", "age^x\n" + "".join(f"{a:.2f}^1\n" for a in AGES)),
        3,
        r"2 by '\^'",
    ),
    Case(
        "blanks between columns", file("a.csv", "age  x\n" + "".join(f"{a:.2f}   1\n" for a in AGES)), 3, "2 by blanks"
    ),
]
