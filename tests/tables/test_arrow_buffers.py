"""Buffers that Arrow's threads may drop after Python has ended."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from engine.ratings import movielens
from engine.tables import csv_schema, open_table
from engine.tables.arrow_buffers import arrow_reader


def test_a_reader_holds_no_python_object() -> None:
    data = b"a,b\n1,2\n" * 1000
    before = sys.getrefcount(data)
    with pa.BufferReader(data):
        assert sys.getrefcount(data) > before  # what pyarrow does by itself
    reader = arrow_reader(data)
    assert sys.getrefcount(data) == before
    assert reader.read() == data


@pytest.mark.parametrize("module", [csv_schema, movielens])
def test_csv_is_parsed_from_memory_of_arrow(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[pa.BufferReader] = []

    def remember(data: bytes) -> pa.BufferReader:
        made.append(arrow_reader(data))
        return made[-1]

    monkeypatch.setattr(module, "arrow_reader", remember)
    if module is csv_schema:
        (tmp_path / "a.csv").write_text("id,age\n1,30\n2,40\n")
        open_table(tmp_path / "a.csv")
    else:
        (tmp_path / "u.data").write_text("1\t2\t3\t4\n")
        assert sum(len(batch) for batch in movielens.read_rating_batches(str(tmp_path / "u.data"), "\t")) == 1
    assert len(made) == 1
