"""Sheets are read whole and in order: every row, the right type for a column, no guess about the names."""

from __future__ import annotations

import datetime as dt
import logging
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pytest

import engine
from engine.config import FitConfig
from engine.errors import IdColumnError, SchemaMismatchError, SourceFormatError, UsageError
from engine.tables import open_table

DAY, MOMENT = dt.date(2024, 1, 5), dt.datetime(2024, 1, 5, 7, 8, 9)
# The least that an OpenDocument sheet consists of.
ODS = """<?xml version="1.0"?><office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0">
<office:body><office:spreadsheet><table:table table:name="a">{rows}</table:table></office:spreadsheet></office:body>
</office:document-content>"""

MANIFEST = """<?xml version="1.0"?><manifest:manifest
 xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"></manifest:manifest>"""


def read(source: Any, **options: Any) -> pa.Table:
    return pa.concat_tables([block.rows for block in open_table(source, **options).blocks()])


def write(path: Path, *sheets: Sequence[Sequence[Any]], hidden: Sequence[int] = ()) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"sheet {number}")
        sheet.sheet_state = "hidden" if number in hidden else "visible"
        for row in rows:
            sheet.append(list(row))
    book.save(path)
    return path


@pytest.mark.parametrize(
    ("cells", "kind", "expected"),
    [
        ([1, 2, None], "int64", [1, 2, None]),
        ([1, 2.5, None], "double", [1.0, 2.5, None]),
        ([True, False, True], "bool", [True, False, True]),
        (["a", "", "b"], "string", ["a", None, "b"]),
        (["007", 8, 9.5], "string", ["007", "8", "9.5"]),
        ([1, "?", 3], "string", ["1", "?", "3"]),  # a mark of a missing number: number_texts.py
        ([1, "NA", 3], "int64", [1, None, 3]),
        ([1, "n/a", 3], "int64", [1, None, 3]),
        ([DAY, None, DAY], "date32[day]", [DAY, None, DAY]),
        ([DAY, MOMENT, None], "timestamp[us]", [dt.datetime(2024, 1, 5), MOMENT, None]),
        ([dt.time(1, 0, 30), None, dt.time(0)], "double", [3630.0, None, 0.0]),
        ([DAY, "unknown", None], "string", ["2024-01-05", "unknown", None]),
        ([None, None, None], "null", [None, None, None]),
    ],
)
def test_a_column_has_the_type_that_fits_all_its_cells(
    cells: list[Any], kind: str, expected: list[Any], tmp_path: Path
) -> None:
    path = write(tmp_path / "a.xlsx", [["x", "y"], *([cell, 0] for cell in cells)])
    rows = read(path)
    assert str(rows.schema.field("x").type) == kind
    assert rows["x"].to_pylist() == expected


def test_rows_whose_only_cell_is_empty_or_an_error_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.xlsx", [["score"], [1], [None], ["#N/A"], [4]])
    with caplog.at_level(logging.WARNING, "engine"):
        assert read(path)["score"].to_pylist() == [1, None, None, 4]
    assert "2 rows of sheet 'sheet 0' are empty" in caplog.text


def test_a_late_text_among_numbers_is_kept(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.xlsx", [["score"], *([n] for n in range(1500)), ["refused"], [7]]))
    assert rows["score"].to_pylist() == [*(str(n) for n in range(1500)), "refused", "7"]


def test_empty_rows_and_columns_around_the_cells_are_left_out(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.xlsx", [[], [None, "a", None, "b"], [None, 1, None, 2], [None, None, None, None]]))
    assert rows.to_pylist() == [{"a": 1, "b": 2}]


def test_the_first_visible_sheet_with_cells_is_read_and_others_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.xlsx", [["hidden"], [1]], [], [["shown"], [2]], [["other"], [3]], hidden=[0])
    with caplog.at_level(logging.WARNING, "engine"):
        assert read(path).to_pylist() == [{"shown": 2}]
    assert "sheet 'sheet 2' is read; 1 other sheets are not." in caplog.text


def test_merged_cells_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.xlsx", [["plan", "x"], ["basic", 1], [None, 2]])
    book = openpyxl.load_workbook(path)
    book.active.merge_cells("A2:A3")
    book.save(path)
    with caplog.at_level(logging.WARNING, "engine"):
        assert read(path)["plan"].to_pylist() == ["basic", None]
    assert "1 merged areas" in caplog.text


def test_titles_above_the_names_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xlsx", [["Survey of 2024"], ["id", "age", "plan"], [1, 30, "x"]])
    with pytest.raises(
        SourceFormatError, match=r"2 of 3 columns of sheet 'sheet 0' in .*a\.xlsx have no name"
    ) as caught:
        open_table(path)
    assert "leave out titles" in str(caught.value)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaMismatchError, match=r"a\.xlsx has several columns named 'age'"):
        open_table(write(tmp_path / "a.xlsx", [["age", "age"], [1, 2]]))


def test_ids_that_a_spreadsheet_has_rounded_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xlsx", [["id", "x"], [1234567890123456789, 1], [2, 2]])
    with pytest.raises(IdColumnError, match="more than 15 digits"):
        open_table(path, id="id")
    assert open_table(path).n_rows == 2


def test_files_of_one_table_follow_each_other(tmp_path: Path) -> None:
    write(tmp_path / "part-2.xlsx", [["id", "x"], ["a3", 1.5]])
    write(tmp_path / "part-10.xlsx", [["id", "x"], [4, 2]])
    assert read(tmp_path).to_pylist() == [{"id": "a3", "x": 1.5}, {"id": "4", "x": 2.0}]
    write(tmp_path / "part-11.xlsx", [["id", "z"], [4, 2]])
    with pytest.raises(SchemaMismatchError, match=r"Column 'x', 'z' is only in one of"):
        open_table(tmp_path)


def test_a_spreadsheet_beside_tables_of_a_folder_is_no_part_of_it(tmp_path: Path) -> None:
    write(tmp_path / "codebook.xlsx", [["a"], [1]])
    (tmp_path / "part.csv").write_text("b\n2\n")
    assert read(tmp_path).to_pylist() == [{"b": 2}]


def test_sheets_of_opendocument_are_read(tmp_path: Path) -> None:
    rows = [["a", "b"], ["x", "y"]]
    cells = "".join(
        "<table:table-row>"
        + "".join(f'<table:table-cell office:value-type="string"><text:p>{c}</text:p></table:table-cell>' for c in row)
        + "</table:table-row>"
        for row in rows
    )
    with zipfile.ZipFile(tmp_path / "a.ods", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", MANIFEST)
        archive.writestr("content.xml", ODS.format(rows=cells))
    assert read(tmp_path / "a.ods").to_pylist() == [{"a": "x", "b": "y"}]


@pytest.mark.parametrize("name", ["a.xlsx", "a.xls", "a.ods"])
@pytest.mark.parametrize("kept", [0, 10, 3000])
def test_a_broken_file_is_named(name: str, kept: int, tmp_path: Path) -> None:
    content = write(tmp_path / "whole.xlsx", [["a"], *([n] for n in range(300))]).read_bytes()
    (tmp_path / name).write_bytes(content[:kept])
    with pytest.raises(SourceFormatError, match=rf"{name} cannot be read as a spreadsheet"):
        open_table(tmp_path / name)


def test_without_the_extra_an_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.xlsx", [["a"], [1]])
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(UsageError, match=r"pip install 'rooms-engine\[survey\]'"):
        open_table(path)


def test_a_sheet_is_fitted_and_new_rows_are_assigned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [[f"u{n}", 30.0 + 20 * (n % 2) + rng.normal(), n % 2 + 1, ["x", "y"][n % 2]] for n in range(80)]
    names = ["user", "age", "store_id", "plan"]
    path = write(tmp_path / "a.xlsx", [names, *rows])
    run = engine.fit(path, id="user", n_clusters=2, out=tmp_path / "run", config=FitConfig(skip=("map", "report")))
    assert run.assignments["user"].to_pylist() == [row[0] for row in rows]
    clusters = run.assignments["cluster"].to_pylist()
    assert clusters == [clusters[0], clusters[1]] * 40
    new = write(tmp_path / "new.xlsx", [names, *rows[2:5]])
    assert run.model.assign(new)["cluster"].to_pylist() == clusters[2:5]
