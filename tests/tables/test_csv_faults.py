"""A CSV file that cannot be read is named with the line at fault and its columns, never with what stands in it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from engine.errors import IdColumnError, MissingColumnError, SourceFormatError
from engine.tables import open_table

HEADER = "id,diagnosis,age\n"
LAYOUT = "quotation marks within texts are doubled"


def error_of(source: Path) -> str:
    """Return the message of a table that cannot be opened; it must not show what the file holds."""
    with pytest.raises(SourceFormatError) as caught:
        open_table(source, id="id")
    assert "depression" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("rows", "what", "hint"),
    [
        ("1,none,30\n2,depression\n", "line 3 has 2 columns, but the header has 3.", LAYOUT),
        ("1,none,30\n2,depression,40,\n", "line 3 has 4 columns, but the header has 3.", LAYOUT),
        ("1,none,30\n\n\n2,depression\n", "line 5 has 2 columns, but the header has 3.", LAYOUT),
        ("1,none,30\r\n2,depression\r\n", "line 3 has 2 columns, but the header has 3.", LAYOUT),
        (
            '1,none,30\n2,"said \\"depression, since 2019\\" at intake",40\n',
            "line 3 has 4 columns, but the header has 3.",
            "quotation marks within texts are to be doubled, not escaped by a backslash",
        ),
        ('1,"no\nne",30\n2,depression\n', "line 4 has 2 columns, but the header has 3.", LAYOUT),
        (
            '1,"de\npression",30,1\n2,none,5\n',
            "lines 2 to 3 are one row, which has 4 columns, but the header has 3.",
            "a quotation mark may be missing",
        ),
        (
            '1,"depression,30\n2,none,40\n3,none,50\n',
            "lines 2 to 4 are one row, which has 2 columns, but the header has 3.",
            "a quotation mark may be missing",
        ),
        ("1,d\u00e9pression,30\n2,depression\n", "line 3 has 2 columns, but the header has 3.", LAYOUT),
    ],
)
def test_the_line_of_another_number_of_columns_is_named(rows: str, what: str, hint: str, tmp_path: Path) -> None:
    for path, content in (("a.csv", HEADER + rows), ("b.tsv", (HEADER + rows).replace(",", "\t"))):
        (tmp_path / path).write_bytes(content.encode())
        message = error_of(tmp_path / path)
        assert f"{path} cannot be read as CSV: {what}" in message
        assert hint in message


def test_lines_before_the_names_count(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=;\n" + HEADER.replace(",", ";") + "1;none;30\n2;depression\n")
    assert "line 4 has 2 columns, but the header has 3." in error_of(tmp_path / "a.csv")


@pytest.mark.parametrize("compressed", [False, True])
def test_the_line_is_found_in_later_megabytes_of_later_files(compressed: bool, tmp_path: Path) -> None:
    good = "".join(f'{row},"no\nne",30\n' for row in range(150_000))  # 2 MB, two lines a row
    for number, rows in enumerate((good, good + "7,depression\n" + good, good)):
        content = (HEADER + rows).encode()
        if compressed:
            (tmp_path / f"part-{number}.csv.gz").write_bytes(gzip.compress(content, 1))
        else:
            (tmp_path / f"part-{number}.csv").write_bytes(content)
    message = error_of(tmp_path)
    assert "part-1.csv" in message
    assert "cannot be read as CSV: line 300,002 has 2 columns, but the header has 3." in message


def test_a_text_that_is_never_closed_is_told_by_the_line_it_begins_in(tmp_path: Path) -> None:
    rows = "".join(f"{row},none,30\n" for row in range(20_000))
    (tmp_path / "a.csv").write_text(HEADER + '1,none,30\n2,"depression,30\n' + rows)
    assert "begins in line 3" in error_of(tmp_path / "a.csv")


@pytest.mark.parametrize("before", [0, 100_000])
def test_the_line_that_is_not_utf8_is_named(before: int, tmp_path: Path) -> None:
    rows = "".join(f"{row},none,30\n" for row in range(before)) + "0,d\u00e9pression,30\n"
    (tmp_path / "a.csv").write_bytes((HEADER + rows).encode("latin-1"))
    assert f"a.csv cannot be read as CSV: line {before + 2:,} is not UTF-8 text in column 'diagnosis'." in error_of(
        tmp_path / "a.csv"
    )


def test_a_compressed_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    whole = gzip.compress((HEADER + "".join(f"{row},none,{row * 7919 % 90}\n" for row in range(50_000))).encode())
    for kept in (40, len(whole) // 2):
        (tmp_path / "a.csv.gz").write_bytes(whole[:kept])
        assert "a.csv.gz cannot be read as CSV" in error_of(tmp_path / "a.csv.gz")


NUMBERS = "1,30,2.5\n2,40,3.5\n"


@pytest.mark.parametrize("between", ["", "\ufeff", "3,50,\n", "3,,4.5\n\n"])
def test_a_header_in_the_middle_is_named_by_its_line(between: str, tmp_path: Path) -> None:
    for name, text in (("a.csv", "id,age,hours\n"), ("b.csv", "sep=,\nid,age,hours\n"), ("c.csv", "id,2019,2020\n")):
        (tmp_path / name).write_text(text + NUMBERS + between + text.removeprefix("sep=,\n") + NUMBERS)
        line = text.count("\n") + 3 + between.count("\n")
        assert f"Line {line} of " in (message := error_of(tmp_path / name))
        assert f"{name} is the header again: files have been joined together with theirs." in message


def test_a_column_in_which_its_name_is_an_answer_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,plan,age\n1,plan,30\n2,none,40\n")
    (tmp_path / "b.csv").write_text("plan\nplan\nnone\n")
    assert open_table(tmp_path / "a.csv", id="id").n_rows == 2
    assert open_table(tmp_path / "b.csv").n_rows == 2


@pytest.mark.parametrize("missing", ["", "NA", '""'])
def test_a_row_without_an_id_is_named_by_its_line(missing: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + '1,"no\nne",30\n\n' + f"{missing},none,30\n3,none,40\n")
    with pytest.raises(IdColumnError, match=r"'id' is the id, .* missing in 1 of the first 3 rows \(see line 5 of"):
        open_table(tmp_path / "a.csv", id="id")
    assert open_table(tmp_path / "a.csv").n_rows == 3
    (tmp_path / "one.csv").write_text(f"{HEADER}{missing},none,30\n")
    with pytest.raises(IdColumnError, match=r"missing in the first row \(see line 2 of"):
        open_table(tmp_path / "one.csv", id="id")
    with pytest.raises(MissingColumnError, match="no column 'ID'"):
        open_table(tmp_path / "a.csv", id="ID")
