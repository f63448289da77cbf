"""Decimal commas and thousands marks that only later rows or later files show are read right, or refused by line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import engine
from engine.config import FitConfig
from engine.errors import SourceFormatError
from engine.features.number_columns import find_number_columns
from engine.tables import csv_dialect, csv_schema, open_table
from engine.tables.number_texts import LATE_TEXTS, NumberFormat

INTEGERS = [str(n) for n in range(60)]
COMMAS, POINTS = [f"{n},5" for n in range(60)], [f"{n}.5" for n in range(60)]
GROUPED, THREE = [f"1.{n}" for n in range(100, 160)], [f"1,{n}" for n in range(100, 160)]


@pytest.fixture(autouse=True)
def short_head(monkeypatch: pytest.MonkeyPatch, block_rows: Callable[[int], None]) -> None:
    """Guess types and the dialect from the first rows of these small files only."""
    monkeypatch.setattr(csv_schema, "BYTES_PER_READ", 64)
    monkeypatch.setattr(csv_dialect, "_HEAD_BYTES", 128)
    block_rows(32)


def write(folder: Path, *files: Sequence[str], separator: str = ";", other: Sequence[str] = ("7",)) -> Path:
    """Write files of a column x with these texts, between an id and a column of other texts."""
    for number, texts in enumerate(files):
        rows = [f"{n}{separator}{text}{separator}{other[n % len(other)]}" for n, text in enumerate(texts)]
        (folder / f"part-{number}.csv").write_text("\n".join([f"id{separator}x{separator}y", *rows, ""]))
    return folder


def number_format(folder: Path) -> NumberFormat | None:
    table = open_table(folder)
    first = next(iter(table.blocks()))
    return find_number_columns(table.schema, first, {}, set()).formats.get("x")


@pytest.mark.parametrize(
    ("first", "later", "decimal", "grouping"),
    [
        (INTEGERS, COMMAS, ",", ""),
        ([""] * 60, COMMAS, ",", ""),
        (INTEGERS, GROUPED, ",", "."),
        (GROUPED, ["1.234.567"], ",", "."),
        (INTEGERS, ["1.234,50"], ",", "."),
        (POINTS, ["1,234.5"], ".", ","),
        (INTEGERS, ["1,234.5"], ".", ","),
        (["1.299", *INTEGERS[:3], "1.290", *INTEGERS], ["1.5"], ".", ""),  # no thousands, as later rows show
    ],
)
@pytest.mark.parametrize("separate", [False, True])
def test_later_numbers_decide_how_a_column_is_written(
    first: list[str], later: list[str], decimal: str, grouping: str, separate: bool, tmp_path: Path
) -> None:
    found = number_format(write(tmp_path, *([first, later] if separate else [first + later])))
    assert found is not None
    assert (found.decimal, found.grouping) == (decimal, grouping)


@pytest.mark.parametrize(
    ("first", "later", "mark", "others"),
    [
        (POINTS, COMMAS, "comma", "points"),
        (COMMAS, POINTS, "point", "commas"),
        (INTEGERS, [*COMMAS, *POINTS], "comma", "points"),
        (POINTS[:2], COMMAS, "comma", "points"),
    ],
)
@pytest.mark.parametrize("separate", [False, True])
def test_a_column_with_both_decimal_marks_is_refused_by_line(
    first: list[str], later: list[str], mark: str, others: str, separate: bool, tmp_path: Path
) -> None:
    write(tmp_path, *([first, later] if separate else [first + later]))
    where = r"Line 2 of .*part-1\.csv" if separate else rf"Line {len(first) + 2} of .*part-0\.csv"
    message = f"{where} has a number with a decimal {mark} in column 'x', and other rows have decimal {others} there"
    with pytest.raises(SourceFormatError, match=message):
        open_table(tmp_path)


def test_the_line_counts_breaks_within_texts(tmp_path: Path) -> None:
    write(tmp_path, POINTS + COMMAS, other=['"a\nb"'])
    with pytest.raises(SourceFormatError, match=r"Line 122 of .*part-0\.csv"):
        open_table(tmp_path)


def test_later_words_in_a_column_that_begins_empty_leave_it_text(tmp_path: Path) -> None:
    write(tmp_path, [""] * 60 + ["1,5", "see above", "2,5"] * 20)
    assert number_format(tmp_path) is None
    assert LATE_TEXTS not in (open_table(tmp_path).schema.field("x").metadata or {})


def test_codes_of_answers_that_come_later_are_not_taken_for_decimals(tmp_path: Path) -> None:
    write(tmp_path, INTEGERS + ["1,2,3", "2,4"] * 30)
    found = number_format(tmp_path)
    assert found is None or found.decimal == "."


def test_another_separator_in_later_rows_is_refused_by_line(tmp_path: Path) -> None:
    path = write(tmp_path, INTEGERS) / "part-0.csv"
    path.write_text(path.read_text() + "60,1,2\n")
    with pytest.raises(SourceFormatError, match=r"part-0\.csv cannot be read as CSV: line 62 has 1 columns, but the"):
        open_table(tmp_path)


def test_later_decimal_commas_are_numbers_of_a_fit(tmp_path: Path) -> None:
    texts = [str(10 + n % 2 * 40 + n % 7) for n in range(60)] + [f"{10 + n % 2 * 40},{n % 9 + 1}" for n in range(60)]
    write(tmp_path, texts)
    config = FitConfig(skip=("map", "report", "explain"))
    with pytest.warns(match=r"'x' \(written with decimal commas\)"):
        run = engine.fit(tmp_path, n_clusters=2, out=tmp_path.parent / f"{tmp_path.name}-run", config=config)
    clusters = np.array(run.assignments["cluster"])
    means = [
        np.mean([float(t.replace(",", ".")) for t, c in zip(texts, clusters, strict=True) if c == k]) for k in (0, 1)
    ]
    np.testing.assert_allclose(sorted(run.clusters["x"].to_pylist()), sorted(means), rtol=1e-6)
