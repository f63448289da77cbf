"""Stand-ins for cuDF and pylibcudf: data frames over Arrow arrays, with only the methods that the engine calls.

Every call must fit the recorded signatures; arrays are those of strict.py. How a method treats missing values, which
values it distinguishes and which dtype it returns follows the sources of 26.10.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from tests.gpu.contract import bind, read_record
from tests.gpu.strict import to_device

CHUNK_ROWS = [7, 1, 30]  # lengths of the chunks of a file, repeated
READER_CALLS: list[dict[str, Any]] = []  # arguments of every reader that was made


class CheckedObject:
    """An object of a library that has only the recorded attributes."""

    path = ""

    def __getattribute__(self, name: str) -> Any:
        path = object.__getattribute__(self, "path")
        record = read_record()
        if not name.startswith("_") and name != "path":
            known = f"{path}.{name}" in record["signatures"] or name in record["attributes"].get(path, ())
            assert known, f"{path}.{name} is not in signatures.json: add it to contract.py"
        return object.__getattribute__(self, name)

    def _bound(self, method: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return bind(f"{object.__getattribute__(self, 'path')}.{method}", *args, **kwargs)


class Series(CheckedObject):
    """A column; dates are timestamps in seconds, as in cuDF."""

    path = "cudf.Series"

    def __init__(self, values: pa.Array) -> None:
        kind = values.type
        if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind):
            values = values.cast(pa.string())
        self._values = values.cast(pa.timestamp("s")) if pa.types.is_date32(kind) else values

    @property
    def dtype(self) -> Any:
        kind = self._values.type
        if pa.types.is_timestamp(kind):
            return np.dtype(f"datetime64[{kind.unit}]")
        is_object = pa.types.is_string(kind) or pa.types.is_list(kind)
        return np.dtype(object if is_object else kind.to_pandas_dtype())

    def astype(self, *args: Any, **kwargs: Any) -> Series:
        dtype = np.dtype(self._bound("astype", *args, **kwargs)["dtype"])
        values = self._values.cast(pa.uint8()) if pa.types.is_boolean(self._values.type) else self._values
        return Series(values.cast(pa.from_numpy_dtype(dtype), safe=False))

    def fillna(self, *args: Any, **kwargs: Any) -> Series:
        value = self._bound("fillna", *args, **kwargs)["value"]
        values = self._values
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        return Series(values.fill_null(pa.scalar(value, values.type)))

    def isna(self, *args: Any) -> Series:
        self._bound("isna", *args)
        return Series(self._values.is_null(nan_is_null=pa.types.is_floating(self._values.type)))

    def count(self, *args: Any) -> int:
        self._bound("count", *args)
        return len(self._values) - self._values.null_count

    def to_cupy(self, *args: Any, **kwargs: Any) -> Any:
        self._bound("to_cupy", *args, **kwargs)
        assert self._values.null_count == 0
        return to_device(self._values.to_numpy(zero_copy_only=False).copy())

    def factorize(self, *args: Any, **kwargs: Any) -> tuple[Any, Index]:
        self._bound("factorize", *args, **kwargs)
        assert not pa.types.is_boolean(self._values.type)  # whether cuDF supports booleans was not checked
        encoded = self._values.dictionary_encode()
        return to_device(encoded.indices.fill_null(-1).to_numpy().astype(np.int64)), Index(encoded.dictionary)

    def take(self, *args: Any, **kwargs: Any) -> Series:
        indices = self._bound("take", *args, **kwargs)["indices"]
        return Series(self._values.take(pa.array(indices)))

    def to_arrow(self, *args: Any) -> pa.Array:
        self._bound("to_arrow", *args)
        return self._values.cast(pa.large_string()) if pa.types.is_string(self._values.type) else self._values

    @property
    def list(self) -> Any:
        return ListMethods(self._values)


class Index(CheckedObject):
    path = "cudf.Index"

    def __init__(self, values: pa.Array) -> None:
        self._values = values

    def to_arrow(self, *args: Any) -> pa.Array:
        self._bound("to_arrow", *args)
        return self._values.cast(pa.large_string()) if pa.types.is_string(self._values.type) else self._values


class ListMethods(CheckedObject):
    path = "cudf.core.accessors.lists.ListMethods"

    def __init__(self, values: pa.Array) -> None:
        self._values = values

    def len(self, *args: Any) -> Series:
        self._bound("len", *args)
        return Series(pc.list_value_length(self._values))

    @property
    def leaves(self) -> Series:
        return Series(self._values.flatten())


class DataFrame(CheckedObject):
    path = "cudf.DataFrame"

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, name: str) -> Series:
        column = self._table.column(name)
        return Series(column.chunk(0) if column.num_chunks else pa.array([], column.type))

    @property
    def iloc(self) -> Any:
        return RowSlices(self._table)

    @staticmethod
    def from_pylibcudf(*args: Any) -> DataFrame:
        return DataFrame(bind("cudf.DataFrame.from_pylibcudf", *args)["table"])


class RowSlices:
    """What `iloc` returns: it takes a slice."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __getitem__(self, rows: slice) -> DataFrame:
        return DataFrame(self._table.slice(rows.start, rows.stop - rows.start))


class ChunkedParquetReader:
    """A chunked reader of Parquet files."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        arguments = bind("pylibcudf.io.parquet.ChunkedParquetReader", *args, **kwargs)
        READER_CALLS.append(arguments)
        options = arguments["options"]
        (path,) = options.paths
        self._rows = pq.ParquetFile(path).read(columns=options.columns)
        self._start, self._number = 0, 0

    def has_next(self) -> bool:
        return self._start < self._rows.num_rows

    def read_chunk(self) -> pa.Table:
        n_rows = CHUNK_ROWS[self._number % len(CHUNK_ROWS)]
        self._number, self._start = self._number + 1, self._start + n_rows
        return self._rows.slice(self._start - n_rows, n_rows)


class ParquetReaderOptions:
    def __init__(self, paths: list[str]) -> None:
        self.paths, self.columns = paths, None

    def set_column_names(self, *args: Any) -> None:
        self.columns = bind("pylibcudf.io.parquet.ParquetReaderOptions.set_column_names", *args)["col_names"]

    def build(self) -> ParquetReaderOptions:
        return self


def read_orc(*args: Any, **kwargs: Any) -> DataFrame:
    arguments = bind("cudf.read_orc", *args, **kwargs)
    READER_CALLS.append(arguments)
    ((stripe,),) = arguments["stripes"]
    batch = pyarrow.orc.ORCFile(Path(arguments["filepath_or_buffer"])).read_stripe(stripe, columns=arguments["columns"])
    return DataFrame(pa.Table.from_batches([batch]))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the stand-ins in sys.modules."""
    READER_CALLS.clear()
    module: Any = ModuleType("cudf")
    module.DataFrame, module.Series, module.Index, module.read_orc = DataFrame, Series, Index, read_orc
    sources: Any = ModuleType("pylibcudf.io")
    sources.SourceInfo = lambda *args: bind("pylibcudf.io.SourceInfo", *args)["sources"]
    parquet: Any = ModuleType("pylibcudf.io.parquet")
    parquet.ChunkedParquetReader = ChunkedParquetReader
    parquet.ParquetReaderOptions = SimpleNamespace(builder=ParquetReaderOptions)
    modules = {"cudf": module, "pylibcudf": ModuleType("pylibcudf")}
    modules |= {"pylibcudf.io": sources, "pylibcudf.io.parquet": parquet}
    for name, stand_in in modules.items():
        monkeypatch.setitem(sys.modules, name, stand_in)
