"""Files that are named as CSV and are something else are refused by what they are."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import SchemaMismatchError, SourceFormatError
from engine.tables import open_table

ROWS = [(20 + row, row % 7) for row in range(30)]
OTHERS = {
    "JSON lines": ("".join(f'{{"age": {a}, "visits": {b}}}\n' for a, b in ROWS), "holds JSON"),
    "a JSON array": ('[\n {"age": 3, "visits": 4},\n {"age": 3, "visits": 4}]\n', "holds JSON"),
    "a page of an error": ("<!DOCTYPE html>\n<html><body>403, no access</body></html>\n", "holds HTML"),
    "XML": ("<?xml version='1.0'?>\n<rows><row age='3'/></rows>\n", "holds XML"),
    "circumflexes": ("age^visits\n" + "".join(f"{a}^{b}\n" for a, b in ROWS), r"2 by '\^'"),
    "tildes": ("age~city\n" + "".join(f"{a}~Bonn {b}\n" for a, b in ROWS), "2 by '~'"),
    "the character 1 of Hive": ("age\x01visits\n" + "".join(f"{a}\x01{b}\n" for a, b in ROWS), "2 by the character 1"),
    "blanks": ("age visits\n" + "".join(f"{a} {b}\n" for a, b in ROWS), "2 by blanks"),
    "columns of fixed widths": ("age   visits\n" + "".join(f"{a:3d} {b:6d}\n" for a, b in ROWS), "2 by blanks"),
}
TABLES = {
    "braces in a name": 'age,"{""a"": 1}"\n' + "".join(f"{a},{b}\n" for a, b in ROWS),
    "one column of two words": "favourite colour\n" + "dark blue\nlight green\n" * 15,
    "one column of numbers": "age\n" + "".join(f"{a}\n" for a, _ in ROWS),
    "ranges": "age range\n" + "".join(f"{a} to {a + 5}\n" for a, _ in ROWS),
    "a name that begins with a sign": "<b>,age\n" + "".join(f"{a},{b}\n" for a, b in ROWS),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_that_is_no_csv_is_refused_by_what_it_is(name: str, tmp_path: Path) -> None:
    text, message = OTHERS[name]
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(SourceFormatError, match=message):
        open_table(tmp_path / "a.csv")


def test_a_binary_file_is_refused_by_what_it_is(tmp_path: Path) -> None:
    table = pa.table({"age": [1, 2, 3]})
    pq.write_table(table, tmp_path / "a.csv")
    with gzip.open(tmp_path / "b.csv", "wt") as stream:
        stream.write("age\n1\n2\n")
    with zipfile.ZipFile(tmp_path / "c.csv", "w") as archive:
        archive.writestr("a.csv", "age\n1\n2\n")
    for name, what in (("a.csv", "holds Parquet"), ("b.csv", "gzip has compressed"), ("c.csv", "a ZIP archive")):
        with pytest.raises(SourceFormatError, match=what):
            open_table(tmp_path / name)


def test_titles_above_the_names_of_columns_are_spoken_of(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Customers,,\n2024,,\nage,visits,city\n1,2,Rome\n")
    with pytest.raises(SchemaMismatchError) as caught:
        open_table(tmp_path / "a.csv")
    assert "titles above" in str(caught.value.hint)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_only_looks_so_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLES[name])
    assert open_table(tmp_path / "a.csv").n_rows == 30
