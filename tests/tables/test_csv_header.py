"""Headers of CSV files: more lines than one, line breaks in names, `sep=;`, and dialects that later files show."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest

from engine.errors import SchemaMismatchError, SourceFormatError
from engine.tables import open_table
from engine.tables.csv_header import CsvHeader, read_header

ROWS = [[str(i), f"{20 + i % 50}", "plus" if i % 2 else "basic"] for i in range(60)]
NAMES = ["person", "Q1", "Q2"]
QUESTIONS = ["Response ID", 'How old are you?\nIn "years"', "Your plan, please"]
IMPORT_IDS = [json.dumps({"ImportId": f"QID{i}", "timeZone": "Z"}) for i in range(3)]


def write(path: Path, *lines: list[str], delimiter: str = ",", before: str = "") -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        stream.write(before)
        csv.writer(stream, delimiter=delimiter).writerows([*lines, *ROWS])
    return path


def read(*paths: Path) -> pa.Table:
    return pa.concat_tables([block.rows for block in open_table([str(path) for path in paths]).blocks()])


def test_the_three_lines_of_qualtrics_are_one_header(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = read(write(tmp_path / "plain.csv", NAMES))
    path = write(tmp_path / "q.csv", NAMES, QUESTIONS, IMPORT_IDS)
    with caplog.at_level("INFO", logger="engine"):
        assert read(path).equals(expected)
    assert f"{path}: beside the names, there are 2 more lines of headers: left out" in caplog.text
    assert open_table(path).n_rows == len(ROWS)
    assert read(write(tmp_path / "short.csv", NAMES, IMPORT_IDS)).equals(expected)
    other = write(tmp_path / "r.csv", NAMES, QUESTIONS, IMPORT_IDS)
    assert read(path, other).num_rows == 2 * len(ROWS)


def test_a_line_drawn_below_the_names_is_no_row(tmp_path: Path) -> None:
    expected = read(write(tmp_path / "plain.csv", NAMES))
    assert read(write(tmp_path / "d.csv", NAMES, ["------", "--", "-"])).equals(expected)
    assert read(write(tmp_path / "e.csv", NAMES, ["======", "==", "=="], delimiter="|")).equals(expected)
    assert open_table(write(tmp_path / "m.csv", NAMES, ["-", "-", "-"])).n_rows == 1 + len(ROWS)  # missing values


def test_excels_line_with_the_separator_is_no_header(tmp_path: Path) -> None:
    expected = read(write(tmp_path / "plain.csv", NAMES))
    for sign in ";|\t,":
        path = write(tmp_path / "s.csv", NAMES, delimiter=sign, before=f"sep={sign}\r\n")
        assert read(path).equals(expected)
        assert open_table(path).n_rows == len(ROWS)
    renamed = write(tmp_path / "t.csv", ["person", "Q1", "Q3"], before="sep=,\n")
    with pytest.raises(SchemaMismatchError, match="Column 'Q2', 'Q3' is only in one of"):
        read(path, renamed)
    both = write(tmp_path / "b.csv", NAMES, QUESTIONS, IMPORT_IDS, delimiter=";", before='"SEP=;"\n')
    assert read(both).equals(expected)


def test_names_may_hold_line_breaks_and_delimiters(tmp_path: Path) -> None:
    names = ["person", "Q1\n(years; months)", "Q2, or\r\nother"]
    for sign in ",;|":
        table = read(write(tmp_path / "n.csv", names, delimiter=sign))
        assert table.column_names == names
        assert table["Q1\n(years; months)"].to_pylist() == [int(row[1]) for row in ROWS]


@pytest.mark.parametrize("n", [1, 2])
def test_other_lines_that_look_like_headers_are_refused_by_line(n: int, tmp_path: Path) -> None:
    more = [["", "Response", "Open-Ended Response"], ["key", "years", "text"]]
    rows = [[*row, "7", row[0]] for row in ROWS]
    path = tmp_path / "m.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([[*NAMES, "a", "b"], *([*line, "x", "y"] for line in more[:n]), *rows])
    lines = "Line 2" if n == 1 else "Lines 2 and 3"
    with pytest.raises(SourceFormatError, match=f"{lines} of .*m.csv looks? like more headers: 3 columns of numbers"):
        open_table(path)


def test_rows_of_texts_numbers_and_marks_are_no_headers(tmp_path: Path) -> None:
    firsts = [["refused", "refused", "plus"], ["", "n/a", "plus"], ["7", "refused", "plus"], ["?", "-", "x"]]
    for first in firsts[1:]:
        assert read(write(tmp_path / "f.csv", NAMES, first)).num_rows == len(ROWS) + 1
    texts = tmp_path / "t.csv"
    texts.write_text("a,b\n" + "x,y\n" * 30)
    assert read(texts).num_rows == 30


def test_files_that_are_written_in_different_ways_are_refused_by_name(tmp_path: Path) -> None:
    first = write(tmp_path / "1.csv", NAMES)
    with pytest.raises(SchemaMismatchError, match=r"2.csv is separated by ';', but .*1.csv by ','"):
        read(first, write(tmp_path / "2.csv", NAMES, delimiter=";"))
    with pytest.raises(
        SchemaMismatchError, match=r"3.csv has 2 more lines of headers, but .*1.csv has nothing but rows"
    ):
        read(first, write(tmp_path / "3.csv", NAMES, QUESTIONS, IMPORT_IDS))
    with pytest.raises(SchemaMismatchError, match=r"4.csv has a line with the separator, but .*1.csv has nothing"):
        read(first, write(tmp_path / "4.csv", NAMES, before="sep=,\n"))


def test_a_header_of_one_column_is_separated_by_commas() -> None:
    assert read_header("a\n1\n") == CsvHeader(",", ("a",))
    assert read_header("") == CsvHeader(",", ())


@pytest.mark.parametrize(
    ("line", "n_numbers"),
    [("u0,64,24,1845.8", 3), ("64,24", 2), ("id,2019,2020,2021", 0), ("0,1,2", 0), ("a,b,3,1,c", 0)],
)
def test_a_file_without_names_is_warned_of(
    line: str, n_numbers: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [",".join("5" for _ in line.split(","))] * 3 + [line] * (n_numbers > 0)  # two people may be alike
    (tmp_path / "a.csv").write_text("\n".join([line, *rows]))
    assert open_table(tmp_path / "a.csv").n_rows == len(rows)
    said = f"{n_numbers} of {line.count(',') + 1} names in its first line are numbers" in caplog.text
    assert said == (n_numbers > 0) == ("names in its first line" in caplog.text)
