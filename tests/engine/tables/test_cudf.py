"""Files into a matrix on a GPU, on stand-ins whose calls fit the recorded signatures of cuDF and pylibcudf."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from engine.errors import MissingColumnError, SourceFormatError
from engine.tables.cudf import read_matrix
from tests.gpu import libraries
from tests.gpu.libraries import bind
from tests.gpu.strict import bare, wrapped

CHUNK_ROWS = 7
SEEN: list[dict[str, Any]] = []


class Series:
    def __init__(self, values: pd.Series[Any]) -> None:
        self._values = values

    def to_cupy(self, *args: Any, **kwargs: Any) -> Any:
        given = bind("cudf.Series.to_cupy", *args, **kwargs)
        return wrapped(self._values.to_numpy(dtype=given["dtype"], na_value=given["na_value"]))


class DataFrame:
    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str) -> Series:
        return Series(self._rows[name])

    @staticmethod
    def from_pylibcudf(*args: Any) -> DataFrame:
        chunk: pd.DataFrame = bind("cudf.DataFrame.from_pylibcudf", *args)["table"]
        return DataFrame(chunk)


class Reader:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = bind("pylibcudf.io.parquet.ChunkedParquetReader", *args, **kwargs)
        SEEN.append(given)
        options = given["options"]
        whole = pa.concat_tables(pq.read_table(path, columns=options.columns) for path in options.paths)
        self._rows, self._start = whole.to_pandas(), 0

    def has_next(self) -> bool:
        return self._start < len(self._rows)

    def read_chunk(self) -> pd.DataFrame:
        self._start += CHUNK_ROWS
        return self._rows[self._start - CHUNK_ROWS : self._start]


class Options:
    def __init__(self, paths: list[str]) -> None:
        self.paths, self.columns = paths, None

    def set_column_names(self, *args: Any) -> None:
        self.columns = bind("pylibcudf.io.parquet.ParquetReaderOptions.set_column_names", *args)["col_names"]

    def build(self) -> Options:
        return self


def read_csv(*args: Any, **kwargs: Any) -> DataFrame:
    """Read the lines that begin in a range of bytes."""
    given = bind("cudf.read_csv", *args, **kwargs)
    SEEN.append(given)
    options = {key: given[key] for key in ("usecols", "dtype", "na_values", "names", "header") if key in given}
    if "byte_range" not in given:
        return DataFrame(pd.read_csv(given["filepath_or_buffer"], **options))
    start, size = given["byte_range"]
    lines, at = [], 0
    for line in Path(given["filepath_or_buffer"]).read_bytes().splitlines(keepends=True):
        if start <= at < start + size:
            lines.append(line)
        at += len(line)
    if not lines:
        return DataFrame(pd.DataFrame({name: [] for name in options["usecols"]}))
    return DataFrame(pd.read_csv(io.BytesIO(b"".join(lines)), **options))


def read_orc(*args: Any, **kwargs: Any) -> DataFrame:
    given = bind("cudf.read_orc", *args, **kwargs)
    ((stripe,),) = given["stripes"]
    found = pyarrow.orc.ORCFile(given["filepath_or_buffer"]).read_stripe(stripe, columns=given["columns"])
    return DataFrame(pa.Table.from_batches([found]).to_pandas())


@pytest.fixture(autouse=True)
def cudf(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    libraries.install(monkeypatch)
    module: Any = ModuleType("cudf")
    module.DataFrame, module.read_csv, module.read_orc = DataFrame, read_csv, read_orc
    sources: Any = ModuleType("pylibcudf.io")
    sources.SourceInfo = lambda *args: bind("pylibcudf.io.SourceInfo", *args)["sources"]
    parquet: Any = ModuleType("pylibcudf.io.parquet")
    parquet.ChunkedParquetReader = Reader
    parquet.ParquetReaderOptions = SimpleNamespace(builder=Options)
    for name, stand_in in {"cudf": module, "pylibcudf.io": sources, "pylibcudf.io.parquet": parquet}.items():
        monkeypatch.setitem(sys.modules, name, stand_in)


def table(n_rows: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    hours = pd.array(random.integers(0, 9, n_rows), "Int64")
    hours[::5] = pd.NA
    names = [f"user {i}" for i in range(n_rows)]
    return pa.table({"name": names, "age": random.normal(40, 9, n_rows), "hours": pa.array(hours, from_pandas=True)})


def write(parts: list[pa.Table], folder: Path, kind: str) -> None:
    for number, part in enumerate(parts):
        path = folder / f"part-{number}.{kind}"
        if kind == "parquet":
            pq.write_table(part, path)
        elif kind == "orc":
            pyarrow.orc.write_table(part, path)
        else:
            part.to_pandas().to_csv(path, index=False)


def expected(parts: list[pa.Table]) -> Any:
    frame = pa.concat_tables(parts).to_pandas()
    return np.column_stack([frame["hours"].to_numpy(np.float32, na_value=np.nan), frame["age"].to_numpy(np.float32)])


@pytest.mark.parametrize("kind", ["parquet", "orc", "csv", "csv.gz"])
def test_chunks_of_all_files_fill_one_matrix(tmp_path: Path, kind: str) -> None:
    parts = [table(23, 0), table(5, 1)]
    write(parts, tmp_path, kind)
    matrix = read_matrix([str(tmp_path)], ["hours", "age"], chunk_bytes=100)
    assert (matrix.shape, matrix.dtype, matrix.flags.c_contiguous) == ((28, 2), np.float32, True)
    np.testing.assert_array_equal(bare(matrix), expected(parts))


def test_parquet_is_read_with_limits(tmp_path: Path) -> None:
    write([table(9, 0)], tmp_path, "parquet")
    read_matrix([str(tmp_path)], ["age"], chunk_bytes=4096)
    assert SEEN[0]["chunk_read_limit"] == 4096  # 0, the default, is no limit
    assert SEEN[0]["pass_read_limit"] == 1 << 30


def test_columns_that_are_not_there_and_formats_without_chunks_are_named(tmp_path: Path) -> None:
    write([table(9, 0)], tmp_path, "parquet")
    with pytest.raises(MissingColumnError, match="no column 'height'"):
        read_matrix([str(tmp_path)], ["age", "height"])
    pa.feather.write_feather(table(3, 0), tmp_path / "one.feather")
    with pytest.raises(SourceFormatError, match=r"does not read feather in chunks.*\nHint: give Parquet"):
        read_matrix([str(tmp_path / "one.feather")], ["age"])


@pytest.mark.parametrize("lost", [1, -1])
def test_other_rows_than_were_counted_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    write([table(9, 0)], tmp_path, "parquet")
    whole = Reader.read_chunk
    monkeypatch.setattr(
        Reader, "read_chunk", lambda self: whole(self)[1:] if lost > 0 else pd.concat([whole(self)] * 2)
    )
    with pytest.raises(SourceFormatError, match="had 9 rows when it was opened, but cuDF read"):
        read_matrix([str(tmp_path)], ["age"])
