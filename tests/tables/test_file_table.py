"""Tables of every format and split into files give the same blocks in the same order."""

from __future__ import annotations

import datetime as dt
import gzip
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from engine.errors import (
    EmptyTableError,
    MissingColumnError,
    SchemaMismatchError,
    SourceFormatError,
    SourceNotFoundError,
    UsageError,
)
from engine.features.columnar_block import column_array, read_labels
from engine.tables import BLOCK_ROWS, open_table


@pytest.fixture
def small_blocks(block_rows: Callable[[int], None]) -> None:
    block_rows(7)


@pytest.fixture
def members() -> pa.Table:
    rng = np.random.default_rng(0)
    n = 50
    return pa.table(
        {
            "user_id": pa.array([2**60 + i for i in range(n)]),
            "age": pa.array(rng.integers(18, 80, n), mask=rng.random(n) < 0.1),
            "plan": pa.array(rng.choice(["Basic", "Premium"], n)),
            "hours": rng.lognormal(1, 1, n),
            "signed": pa.array([dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(n)]),
        }
    )


def whole(source: object, **options: object) -> pa.Table:
    return pa.concat_tables([block.rows for block in open_table(source, **options).blocks()])  # type: ignore[arg-type]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("form", ["parquet", "csv", "csv.gz", "feather", "orc"])
def test_a_table_comes_back_from_every_format(members: pa.Table, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"members.{form}"
    if form == "parquet":
        pq.write_table(members, path, row_group_size=11)
    elif form == "csv":
        pacsv.write_csv(members, path)
    elif form == "csv.gz":
        plain = tmp_path / "plain"
        pacsv.write_csv(members, plain)
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif form == "feather":
        feather.write_feather(members, path)
    else:
        orc.write_table(members, path)
    table = open_table(path, id="user_id")
    assert table.n_rows == 50
    assert [len(block) for block in table.blocks()] == [7] * 7 + [1]
    assert [block.start for block in table.blocks()] == list(range(0, 50, 7))
    assert whole(path, id="user_id").to_pylist() == members.to_pylist()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("group_rows", [1, 3, 7, 11, 50])
def test_some_blocks_can_be_read_without_the_others(members: pa.Table, tmp_path: Path, group_rows: int) -> None:
    for part in range(3):
        rows = members.slice(part * 17, 17)
        pq.write_table(rows, tmp_path / f"part-{part}.parquet", row_group_size=group_rows)
    table = pickle.loads(pickle.dumps(open_table(tmp_path, id="user_id")))
    assert table.random_access
    whole = list(table.blocks(["hours", "plan"], dictionary_encoded=True))
    for first, stop in [(0, 1), (0, 8), (2, 5), (7, 8), (6, None), (3, 99)]:
        blocks = list(table.blocks(["hours", "plan"], dictionary_encoded=True, first=first, stop=stop))
        assert [block.start for block in blocks] == [block.start for block in whole[first:stop]]
        assert [block.rows.to_pylist() for block in blocks] == [block.rows.to_pylist() for block in whole[first:stop]]


@pytest.mark.parametrize("form", ["parquet", "feather"])
def test_files_are_decoded_a_few_blocks_at_a_time_however_many_rows_they_hold_together(
    form: str, tmp_path: Path
) -> None:
    n_rows, width = 60 * BLOCK_ROWS, 4
    table = pa.table({f"x{i}": np.random.default_rng(i).random(n_rows) for i in range(width)})
    if form == "parquet":
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=n_rows)
    else:
        feather.write_feather(table, str(tmp_path / "a.feather"))
    del table
    before, most, n_read = pa.total_allocated_bytes(), 0, 0
    for block in open_table(tmp_path).blocks():
        n_read += len(block)
        most = max(most, pa.total_allocated_bytes() - before)
        time.sleep(0.002)  # for readers that run ahead
    assert n_read == n_rows
    assert most < 12 * width * 8 * BLOCK_ROWS


@pytest.mark.usefixtures("small_blocks")
def test_fifty_files_give_the_blocks_of_one(members: pa.Table, tmp_path: Path) -> None:
    pq.write_table(members, tmp_path / "one.parquet")
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(50):
        pq.write_table(members.slice(i, 1), folder / f"part-{i}.parquet")  # part-10 must come after part-9
    one = [block.rows for block in open_table(tmp_path / "one.parquet").blocks()]
    many = [block.rows for block in open_table(folder).blocks()]
    assert one == many
    assert whole(str(folder / "part-*.parquet")) == members
    assert whole([folder / "part-3.parquet", folder / "part-1.parquet"]) == pa.concat_tables(
        [members.slice(3, 1), members.slice(1, 1)]
    )


def test_hive_partitions_become_a_column(members: pa.Table, tmp_path: Path) -> None:
    for plan in ("Basic", "Premium"):
        folder = tmp_path / f"plan={plan}"
        folder.mkdir()
        rows = members.filter(pa.compute.equal(members["plan"], plan)).drop_columns(["plan"])
        pq.write_table(rows, folder / "part.parquet")
    table = open_table(tmp_path)
    assert table.schema.field("plan").type == pa.string()
    assert sorted(whole(tmp_path)["plan"].to_pylist()) == sorted(members["plan"].to_pylist())


def test_int96_timestamps_reach_the_year_9999(tmp_path: Path) -> None:
    times = [dt.datetime(9999, 12, 31), dt.datetime(1, 1, 1), dt.datetime(2024, 5, 6, 7, 8, 9), None]
    table = pa.table({"paid_until": pa.array(times, pa.timestamp("us")), "x": [1.0, 2.0, 3.0, 4.0]})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True, store_schema=False)
    table = open_table(tmp_path)
    assert table.schema.field("paid_until").type == pa.timestamp("us")
    assert whole(tmp_path)["paid_until"].to_pylist() == times
    assert table.int96_columns() == {"paid_until"}  # type: ignore[attr-defined]


def test_any_fsspec_url_is_read(members: pa.Table) -> None:
    with fsspec.open("memory://rooms/members.parquet", "wb") as file:
        pq.write_table(members, file)
    assert whole("memory://rooms/members.parquet") == members


@pytest.mark.usefixtures("small_blocks")
def test_frames_of_three_libraries_are_one_table(members: pa.Table) -> None:
    for frame in (members, members.to_pandas(types_mapper=pd.ArrowDtype), pl.from_arrow(members)):
        assert whole(frame).to_pylist() == members.to_pylist()


def test_a_pandas_column_of_gaps_keeps_one_type_in_all_blocks(block_rows: Callable[[int], None]) -> None:
    block_rows(2)
    frame = pd.DataFrame({"plan": [None, None, None, None, "Basic"]}, dtype=object)
    assert {str(block.rows.schema.field("plan").type) for block in open_table(frame).blocks()} == {"string"}


def test_text_ids_of_a_csv_keep_their_leading_zeros(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,age\n007,30\n12,40\n")
    assert whole(path, id="id")["id"].to_pylist() == ["007", "12"]
    path.write_text("id,age\n7,30\n9999999999999999999,40\n")  # beyond 2^63
    assert whole(path, id="id")["id"].to_pylist() == ["7", "9999999999999999999"]
    path.write_text("id,age\n-7,30\n9223372036854775807,40\n")
    assert whole(path, id="id")["id"].to_pylist() == [-7, 9223372036854775807]


def test_integer_ids_are_not_read_as_the_fractions_of_another_file(tmp_path: Path) -> None:
    for name, id in (("a", 2**53 + 1), ("b", 7.5)):
        pq.write_table(pa.table({"id": [id], "x": [1.0]}), tmp_path / f"{name}.parquet")
    with pytest.raises(SchemaMismatchError, match=r"'id' is the id, and it holds int64 in .*a\.parquet and double in "):
        open_table(tmp_path, id="id")
    pq.write_table(pa.table({"id": pa.array([7]).cast(pa.decimal128(20, 0)), "x": [1.0]}), tmp_path / "b.parquet")
    assert whole(tmp_path, id="id")["id"].to_pylist() == [2**53 + 1, 7]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("in_file", [False, True])
def test_extension_types_are_read_as_what_they_store(in_file: bool, tmp_path: Path) -> None:
    vectors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(40.0).reshape(20, 2))
    flags = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1] * 10, pa.int8()))
    table = pa.table({"answers": pa.array(['["a"]'] * 20, pa.json_()), "taste": vectors, "flag": flags})
    if in_file:
        pq.write_table(table, tmp_path / "a.parquet")
    read = whole(tmp_path / "a.parquet" if in_file else table)
    assert [str(kind) for kind in read.schema.types] == ["string", "double", "double", "int8"]
    assert read["answers"].to_pylist() == ['["a"]'] * 20
    assert read["taste[1]"].to_pylist() == [2.0 * n + 1 for n in range(20)]
    assert read["flag"].to_pylist() == [0, 1] * 10


def test_a_csv_column_that_changes_late_is_widened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tables.csv_schema.BYTES_PER_READ", 64)
    path = tmp_path / "a.csv"
    path.write_text("late,gap,text\n" + "1,NA,3\n" * 100 + "2.5,4,x\n")
    table = open_table(path)
    assert [str(kind) for kind in table.schema.types] == ["double", "int64", "string"]
    assert table.n_rows == 101
    assert whole(path)["late"].to_pylist() == [1.0] * 100 + [2.5]


@pytest.mark.parametrize("before", ["", "1,first\n" * 50])
@pytest.mark.parametrize("packed", [False, True])
def test_a_quotation_mark_that_is_never_closed_is_refused(tmp_path: Path, before: str, packed: bool) -> None:
    write = gzip.compress if packed else bytes
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b'id,t\n1,"whole\ntext"\n'))
    path = tmp_path / f"b.csv{'.gz' if packed else ''}"
    path.write_bytes(write(f'id,t\n{before}1,"open\n2,x\n3,y""\n'.encode()))
    row = before.count("\n") + 1
    with pytest.raises(SourceFormatError, match=r"b\.csv.* ends within quotation marks") as caught:
        open_table([tmp_path / "a.csv.gz", path] if packed else path)
    assert f"in its row {row}, in its last column" in str(caught.value)
    assert "'open'" not in str(caught.value)


@pytest.mark.parametrize("text", ["two\nlines", 'two\n""lines""', "two\n", 'two\n""'])
@pytest.mark.parametrize("after", ["", "  "])
def test_texts_of_several_lines_may_end_a_file(
    tmp_path: Path, text: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.tables.csv_schema.BYTES_PER_READ", 64)  # the marks of a text lie in several reads
    path = tmp_path / "a.csv"
    rows = [f'{n},"{text}"{after}\n' for n in range(40)]
    path.write_text("id,t\n" + "".join(rows))
    assert whole(path)["t"].to_pylist() == [text.replace('""', '"') + after] * 40


def test_rows_of_csv_files_may_be_longer_than_what_is_read_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.tables.csv_schema.BYTES_PER_READ", 64)
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,x\n" * 50 + f"2,{'y' * 3000}\n")
    assert whole(path)["b"].to_pylist() == ["x"] * 50 + ["y" * 3000]
    path.write_text("a,b,c\n" + f"1,{'y' * 70},2\n" * 50)  # the header and the first row are longer
    assert whole(path)["c"].to_pylist() == [2] * 50
    path.write_text("a,b\n" + "1,x\n" * 50 + f"2,{'y' * 80_000}\n" + "3,z\n" * 50)
    with pytest.raises(SourceFormatError, match="longer than 16,384 bytes"):
        open_table(path)


def test_codes_with_zeros_in_front_stay_text_wherever_the_zeros_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.tables.csv_schema.BYTES_PER_READ", 64)
    path = tmp_path / "a.csv"
    path.write_text("zip,late,room,share,n\n" + "12345,7, 0,0,0\n" * 50 + "02134,007,10,0.5,-3\nNA,1.5,,1,\n")
    kinds = {"zip": "string", "late": "string", "room": "int64", "share": "double", "n": "int64"}
    assert {field.name: str(field.type) for field in open_table(path).schema} == kinds
    rows = whole(path).slice(50).to_pylist()
    assert rows[0] == {"zip": "02134", "late": "007", "room": 10, "share": 0.5, "n": -3}
    assert rows[1] == {"zip": None, "late": "1.5", "room": None, "share": 1.0, "n": None}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("semicolons.csv", 'id;zip;share;"age, in years"\n1;02134;0,5;30\n2;12345;NA;41,5\n'),
        ("tabs.csv", "id\tzip\tshare\tage, in years\n1\t02134\t.5\t30\n2\t12345\tNA\t41.5\n"),
        ("tabs.tsv", "id\tzip\tshare\tage, in years\n1\t02134\t0.5\t30\n2\t12345\tNA\t41.5\n"),
        ("bars.csv", "id|zip|share|age, in years\n1|02134|5e-1|30\n2|12345||41.5\n"),
        ("commas.csv", 'id,zip,share,"age, in years"\n1,02134,0.5,30\n2,12345,,41.5\n'),
        ("bom.csv", '\ufeffid;zip;share;"age, in years"\r\n1;02134;0,5;30\r\n2;12345;;41,5\r\n'),
    ],
)
def test_delimiter_and_decimal_point_are_detected(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert whole(path, id="id").to_pylist() == [
        {"id": 1, "zip": "02134", "share": 0.5, "age, in years": 30.0},
        {"id": 2, "zip": "12345", "share": None, "age, in years": 41.5},
    ]


def test_decimal_commas_that_come_late_are_read_where_others_came_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.tables.csv_schema.BYTES_PER_READ", 64)
    monkeypatch.setattr("engine.tables.csv_dialect._HEAD_BYTES", 64)
    path = tmp_path / "a.csv"
    path.write_text("early;late;version\n" + "1,5;2;7\n" * 50 + "1;2,5;7.1\n")
    kinds = {"early": "double", "late": "double", "version": "string"}  # 7.1 is no number where 1,5 is one
    assert {field.name: str(field.type) for field in open_table(path).schema} == kinds
    assert whole(path)["late"].to_pylist() == [2.0] * 50 + [2.5]


def test_only_iso_dates_become_times_of_the_file_and_date_texts_reads_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n25/12/2017,2017-02-01,2017-02-01 10:00:00\n3/4/2017,2017-02-02,\n")
    types = [str(field.type) for field in open_table(path).schema]
    assert types == ["string", "date32[day]", "timestamp[s]"]


def test_commas_in_numbers_stay_text_beside_decimal_points(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("answers;share\n1,2;0.5\n3,4;0.25\n")
    assert {field.name: str(field.type) for field in open_table(path).schema} == {
        "answers": "string",
        "share": "double",
    }


def test_a_header_alone_and_an_empty_file_have_no_rows(tmp_path: Path) -> None:
    (tmp_path / "header.csv").write_text("id;age\n")
    with pytest.raises(EmptyTableError):
        open_table(tmp_path / "header.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(SourceFormatError, match=r"empty\.csv"):
        open_table(tmp_path / "empty.csv")


def test_quoted_line_breaks_and_missing_marks_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n"two\nlines",NA\nx,1\n')
    assert whole(path).to_pylist() == [{"a": "two\nlines", "b": None}, {"a": "x", "b": 1}]


def test_a_column_that_one_file_lacks_is_an_error_and_not_a_column_of_nulls(members: pa.Table, tmp_path: Path) -> None:
    pq.write_table(members, tmp_path / "a.parquet")
    pq.write_table(members.drop_columns(["age"]), tmp_path / "b.parquet")
    with pytest.raises(SchemaMismatchError, match=r"'age' is only in one of .*a\.parquet and .*b\.parquet"):
        open_table(tmp_path)


def test_integer_and_float_files_are_read_as_floats_and_text_is_refused(members: pa.Table, tmp_path: Path) -> None:
    ages = members.select(["age"])
    pq.write_table(ages, tmp_path / "a.parquet")
    pq.write_table(ages.cast(pa.schema([("age", pa.float64())])), tmp_path / "b.parquet")
    assert whole(tmp_path)["age"].type == pa.float64()
    pq.write_table(ages.cast(pa.schema([("age", pa.string())])), tmp_path / "c.parquet")
    with pytest.raises(SchemaMismatchError, match="age"):
        open_table(tmp_path)


def test_impossible_sources_raise_with_a_hint(members: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no file or folder"):
        open_table(tmp_path / "absent.parquet")
    with pytest.raises(SourceNotFoundError, match="holds no table"):
        open_table(tmp_path)
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(SourceFormatError, match=r"\.parquet"):
        open_table(tmp_path / "a.docx")
    (tmp_path / "broken.parquet").write_text("not parquet")
    with pytest.raises(SourceFormatError, match=r"broken\.parquet"):
        open_table(tmp_path / "broken.parquet")
    (tmp_path / "latin.csv").write_bytes("name\nJosé\n".encode("latin-1"))
    with pytest.raises(SourceFormatError, match="UTF-8"):
        open_table(tmp_path / "latin.csv")
    pq.write_table(members.slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(EmptyTableError):
        open_table(tmp_path / "empty.parquet")
    pq.write_table(members, tmp_path / "good.parquet")
    with pytest.raises(MissingColumnError, match="'uid'"):
        open_table(tmp_path / "good.parquet", id="uid")
    with pytest.raises(UsageError, match="lazy"):
        open_table(pl.LazyFrame({"a": [1]}))
    with pytest.raises(UsageError, match="cannot be a int"):
        open_table(3)


def test_the_fingerprint_changes_with_the_file(members: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(members, path)
    before = open_table(path).fingerprint()
    assert before["rows"] == 50
    assert before["files"][0]["size"] == path.stat().st_size
    pq.write_table(members.slice(1), path)
    assert open_table(path).fingerprint() != before


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dictionary": False},
        {"row_group_size": 90},
        {"use_compliant_nested_type": False},
        {"dictionary_pagesize_limit": 12, "data_page_size": 60, "write_batch_size": 7},  # some codes, then texts
    ],
)
@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.string())])
def test_lists_of_texts_are_the_same_as_codes(options: dict[str, Any], kind: pa.DataType, tmp_path: Path) -> None:
    lists = [None if i % 7 == 0 else [f"g{j % 9}" for j in range(i % 4)] + [None] * (i % 11 == 0) for i in range(1000)]
    pq.write_table(pa.table({"g": pa.array(lists, kind)}), tmp_path / "a.parquet", **options)
    table = open_table(tmp_path / "a.parquet")
    plain, encoded = (
        pa.concat_tables([b.rows for b in table.blocks(["g"], dictionary_encoded=c)]) for c in (False, True)
    )
    assert plain["g"].to_pylist() == encoded["g"].to_pylist() == lists
    assert pa.types.is_dictionary(encoded.schema.field("g").type.value_type) == (kind == pa.list_(pa.string()))
    labels = read_labels(column_array(encoded, "g"), None)
    assert labels.names is not None
    for i, row in enumerate(lists):
        codes = labels.codes[labels.offsets[i] : labels.offsets[i + 1]]
        assert [labels.names[c] if c >= 0 else None for c in codes] == (row or [])
        assert labels.missing[i] == (row is None)
