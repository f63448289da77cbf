"""DataFrameTable: a pandas, polars or pyarrow data frame as a Table.

narwhals recognises the library. A pandas frame is converted to Arrow block by block; the others share their memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import narwhals as nw
import pyarrow as pa

from engine.blocks import BLOCK_ROWS, Block, normalize_schema, require_columns, split_into_blocks
from engine.errors import SchemaMismatchError, SourceFormatError, UsageError


def is_dataframe(source: Any) -> bool:
    """Tell whether `source` is a data frame that narwhals knows."""
    return isinstance(nw.from_native(source, pass_through=True), nw.DataFrame | nw.LazyFrame)


class DataFrameTable:
    """A data frame in memory as a Table; the frame's index, if it has one, is not a column."""

    def __init__(self, frame: Any, id: str | None = None) -> None:
        wrapped = nw.from_native(frame)
        if isinstance(wrapped, nw.LazyFrame):
            raise UsageError("A lazy frame cannot be read in passes.", hint="call .collect() first, or give its file.")
        names = list(wrapped.columns)
        if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
            raise SchemaMismatchError("Column names of a data frame must be text, and each be there once.")
        self._frame: nw.DataFrame[Any] = wrapped
        self._id = id
        self._schema, self._arrow_table = self._to_arrow(wrapped)

    @staticmethod
    def _to_arrow(frame: nw.DataFrame[Any]) -> tuple[pa.Schema, pa.Table | None]:
        try:
            if frame.implementation.is_pandas():
                return pa.Schema.from_pandas(frame.to_native(), preserve_index=False).remove_metadata(), None
            table = frame.to_arrow()
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise SourceFormatError(
                f"The data frame holds a column Arrow cannot: {str(error).splitlines()[0]}"
            ) from error
        return table.schema, table

    @property
    def schema(self) -> pa.Schema:
        """Names, normalized types and field metadata of the columns."""
        return normalize_schema(self._schema, self._id)

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self._frame)

    def blocks(self, columns: Sequence[str] | None = None, *, dictionary_encoded: bool = False) -> Iterator[Block]:
        """Yield the frame's blocks with these columns (all by default)."""
        names = list(self.schema.names if columns is None else columns)
        require_columns(self.schema, names, "The data frame")
        schema = pa.schema([self.schema.field(name) for name in names])
        yield from split_into_blocks(self._batches(names), schema)

    def _batches(self, names: list[str]) -> Iterator[pa.Table]:
        if self._arrow_table is not None:
            yield self._arrow_table.select(names)
            return
        schema = pa.schema([self._schema.field(name) for name in names])
        for start in range(0, self.n_rows, BLOCK_ROWS):
            part = self._frame[start : start + BLOCK_ROWS].select(names).to_native()
            yield pa.Table.from_pandas(part, schema=schema, preserve_index=False)

    def fingerprint(self) -> dict[str, Any]:
        """Return the library of the frame, its number of rows and its columns."""
        columns = {field.name: str(field.type) for field in self.schema}
        return {"format": str(self._frame.implementation), "rows": self.n_rows, "files": [], "columns": columns}
