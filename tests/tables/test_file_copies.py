"""Files of a table that are copies of one another are named; files that only begin alike, or have no rows, are not."""

from __future__ import annotations

import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.tables import open_table
from engine.tables.file_copies import HEAD, FileCopiesWarning

TEXT = "age,plan\n" + "".join(f"{20 + n % 50},{'ab'[n % 2]}\n" for n in range(HEAD // 4))


@pytest.mark.parametrize("n_copies", [1, 2])
def test_copies_are_named(n_copies: int, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(TEXT)
    (tmp_path / "other.csv").write_text(TEXT[:-2] + "x\n")  # of the same size
    for n in range(n_copies):
        (tmp_path / f"people ({n}).csv").write_text(TEXT)
    (tmp_path / "~$people.csv").write_bytes(b"\x05lock of Excel")
    more = ", and 1 more files are copies" if n_copies == 2 else ""
    name = "people.csv" if n_copies == 1 else r"people \(1\).csv"
    with pytest.warns(
        FileCopiesWarning, match=rf"{name} is the same as .*people \(0\).csv{more}: their rows count twice"
    ):
        assert open_table(tmp_path).n_rows == (2 + n_copies) * (HEAD // 4)


def test_other_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text(TEXT)
    (tmp_path / "2.csv").write_text(TEXT[:-2] + "x\n")
    for n in range(3, 6):  # a job on many workers writes such
        (tmp_path / f"{n}.csv").write_text("age,plan\n")
    parts = tmp_path / "parts"
    parts.mkdir()
    for n in range(3):
        pq.write_table(pa.table({"age": pa.array([1, 2] if n == 0 else [], pa.int64())}), parts / f"{n}.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FileCopiesWarning)
        assert open_table([tmp_path / f"{n}.csv" for n in range(1, 6)]).n_rows == 2 * (HEAD // 4)
        assert open_table(parts).n_rows == 2
    pq.write_table(pa.table({"age": [1, 2]}), parts / "0 (1).parquet")
    with pytest.warns(FileCopiesWarning, match="count twice"):
        open_table(parts)
