"""cuDF and pylibcudf without a GPU: data frames over Arrow arrays, with the methods that the engine calls, no others.

Every call has to fit the recorded signatures; arrays come as strict.py's. What a method does to missing values, which
values it calls different and which dtype it returns was read in the sources of 26.10.
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

from tests.gpu.contract import recorded
from tests.gpu.libraries import bind
from tests.gpu.strict import wrapped

CHUNK_ROWS = [7, 1, 30]  # of the chunks of a file, over and over
SEEN: list[dict[str, Any]] = []  # arguments of readers


class Checked:
    """An object of a library, which has the recorded attributes only."""

    path = ""

    def __getattribute__(self, name: str) -> Any:
        path = object.__getattribute__(self, "path")
        record = recorded()
        if not name.startswith("_") and name != "path":
            known = f"{path}.{name}" in record["signatures"] or name in record["attributes"].get(path, ())
            assert known, f"{path}.{name} is not in signatures.json: add it to contract.py"
        return object.__getattribute__(self, name)

    def _bound(self, method: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return bind(f"{object.__getattribute__(self, 'path')}.{method}", *args, **kwargs)


class Series(Checked):
    """A column; dates are seconds, as cuDF has them."""

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
        other = pa.types.is_string(kind) or pa.types.is_list(kind)
        return np.dtype(object if other else kind.to_pandas_dtype())

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
        return wrapped(self._values.to_numpy(zero_copy_only=False).copy())

    def factorize(self, *args: Any, **kwargs: Any) -> tuple[Any, Index]:
        self._bound("factorize", *args, **kwargs)
        assert not pa.types.is_boolean(self._values.type)  # nobody has looked at whether cuDF can
        found = self._values.dictionary_encode()
        return wrapped(found.indices.fill_null(-1).to_numpy().astype(np.int64)), Index(found.dictionary)

    @property
    def list(self) -> Any:
        return ListMethods(self._values)


class Index(Checked):
    path = "cudf.Index"

    def __init__(self, values: pa.Array) -> None:
        self._values = values

    def to_arrow(self, *args: Any) -> pa.Array:
        self._bound("to_arrow", *args)
        return self._values.cast(pa.large_string()) if pa.types.is_string(self._values.type) else self._values


class ListMethods(Checked):
    path = "cudf.core.accessors.lists.ListMethods"

    def __init__(self, values: pa.Array) -> None:
        self._values = values

    def len(self, *args: Any) -> Series:
        self._bound("len", *args)
        return Series(pc.list_value_length(self._values))

    @property
    def leaves(self) -> Series:
        return Series(self._values.flatten())


class DataFrame(Checked):
    path = "cudf.DataFrame"

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, name: str) -> Series:
        column = self._table.column(name)
        return Series(column.chunk(0) if column.num_chunks else pa.array([], column.type))

    @staticmethod
    def from_pylibcudf(*args: Any) -> DataFrame:
        return DataFrame(bind("cudf.DataFrame.from_pylibcudf", *args)["table"])


class Reader:
    """A chunked reader of Parquet files."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = bind("pylibcudf.io.parquet.ChunkedParquetReader", *args, **kwargs)
        SEEN.append(given)
        options = given["options"]
        (path,) = options.paths
        self._rows = pq.ParquetFile(path).read(columns=options.columns)
        self._start, self._number = 0, 0

    def has_next(self) -> bool:
        return self._start < self._rows.num_rows

    def read_chunk(self) -> pa.Table:
        n_rows = CHUNK_ROWS[self._number % len(CHUNK_ROWS)]
        self._number, self._start = self._number + 1, self._start + n_rows
        return self._rows.slice(self._start - n_rows, n_rows)


class Options:
    def __init__(self, paths: list[str]) -> None:
        self.paths, self.columns = paths, None

    def set_column_names(self, *args: Any) -> None:
        self.columns = bind("pylibcudf.io.parquet.ParquetReaderOptions.set_column_names", *args)["col_names"]

    def build(self) -> Options:
        return self


def read_orc(*args: Any, **kwargs: Any) -> DataFrame:
    given = bind("cudf.read_orc", *args, **kwargs)
    SEEN.append(given)
    ((stripe,),) = given["stripes"]
    found = pyarrow.orc.ORCFile(Path(given["filepath_or_buffer"])).read_stripe(stripe, columns=given["columns"])
    return DataFrame(pa.Table.from_batches([found]))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-ins where `import` finds them."""
    SEEN.clear()
    module: Any = ModuleType("cudf")
    module.DataFrame, module.Series, module.Index, module.read_orc = DataFrame, Series, Index, read_orc
    sources: Any = ModuleType("pylibcudf.io")
    sources.SourceInfo = lambda *args: bind("pylibcudf.io.SourceInfo", *args)["sources"]
    parquet: Any = ModuleType("pylibcudf.io.parquet")
    parquet.ChunkedParquetReader = Reader
    parquet.ParquetReaderOptions = SimpleNamespace(builder=Options)
    for name, stand_in in {"cudf": module, "pylibcudf.io": sources, "pylibcudf.io.parquet": parquet}.items():
        monkeypatch.setitem(sys.modules, name, stand_in)
