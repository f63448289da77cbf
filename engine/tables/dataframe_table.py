"""DataFrameTable: a pandas, polars or pyarrow data frame as a Table.

narwhals recognises the library. A pandas frame is converted to Arrow block by block; the others share their memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import narwhals as nw
import pyarrow as pa
from narwhals.exceptions import DuplicateError

from engine.blocks import BLOCK_ROWS, Block, normalize_schema, require_columns, split_into_blocks
from engine.errors import SchemaMismatchError, SourceFormatError, UsageError
from engine.tables.csv_schema import check_distinct_names

logger = logging.getLogger(__name__)
FRAME = "The data frame"  # in messages
CONVERSION_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError, ValueError)


def is_dataframe(source: Any) -> bool:
    """Tell whether `source` is a data frame that narwhals knows; raise SchemaMismatchError if column names repeat."""
    try:
        return isinstance(nw.from_native(source, pass_through=True), nw.DataFrame | nw.LazyFrame)
    except DuplicateError:
        check_distinct_names(source.column_names if isinstance(source, pa.Table) else list(source.columns), FRAME)
        raise


def is_eager_dataframe(source: Any) -> bool:
    """Tell whether `source` is a data frame whose rows are in memory."""
    return is_dataframe(source) and isinstance(nw.from_native(source), nw.DataFrame)


class DataFrameTable:
    """A data frame in memory as a Table; the index of a pandas frame is a column only if it has the name of the id."""

    def __init__(self, frame: Any, id: str | None = None) -> None:
        wrapped = nw.from_native(frame)
        if isinstance(wrapped, nw.LazyFrame):
            raise UsageError("A lazy frame cannot be read in passes.", hint="call .collect() first, or give its file.")
        if id is not None and wrapped.implementation.is_pandas() and id not in wrapped.columns:
            wrapped = _with_index(wrapped, id)
        names = list(wrapped.columns)
        if not all(isinstance(name, str) for name in names):
            raise SchemaMismatchError("The column names of a data frame must be text.")
        check_distinct_names(names, FRAME)
        self._frame: nw.DataFrame[Any] = wrapped
        self._id = id
        self._schema, self._arrow_table = self._to_arrow(wrapped)

    @staticmethod
    def _to_arrow(frame: nw.DataFrame[Any]) -> tuple[pa.Schema, pa.Table | None]:
        try:
            if frame.implementation.is_pandas():
                return pa.Schema.from_pandas(frame.to_native(), preserve_index=False).remove_metadata(), None
            table = frame.to_arrow()
        except CONVERSION_ERRORS as error:
            raise _conversion_error(frame) from error
        return table.schema, table

    @cached_property
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
            try:
                rows = pa.Table.from_pandas(part, schema=schema, preserve_index=False)
            except CONVERSION_ERRORS as error:
                raise _conversion_error(self._frame) from error
            yield rows

    def fingerprint(self) -> dict[str, Any]:
        """Return the library of the frame, its number of rows and its columns."""
        columns = {field.name: str(field.type) for field in self.schema}
        return {"format": str(self._frame.implementation), "rows": self.n_rows, "files": [], "columns": columns}


def _with_index(frame: nw.DataFrame[Any], id: str) -> nw.DataFrame[Any]:
    """Return a pandas frame with the level of its index that has the name of the id as a column, if there is one."""
    native = frame.to_native()
    if id not in native.index.names:
        return frame
    logger.info("The id %r is the index of the data frame.", id)
    with_index: nw.DataFrame[Any] = nw.from_native(native.reset_index(level=id), eager_only=True)
    return with_index


def _conversion_error(frame: nw.DataFrame[Any]) -> SourceFormatError:
    """Return the error that names the columns which Arrow cannot hold, without their values."""
    failed = []
    for name in frame.columns:
        try:
            column = frame.select(name)
            if frame.implementation.is_pandas():
                pa.Table.from_pandas(column.to_native(), preserve_index=False)
            else:
                column.to_arrow()
        except CONVERSION_ERRORS:
            failed.append(name)
    named = "; ".join(f"{name!r} ({getattr(frame.to_native()[name], 'dtype', 'unknown type')})" for name in failed)
    return SourceFormatError(
        f"The data frame holds columns that Arrow cannot: {named or 'values differ in type from the first ones'}.",
        hint="convert each of them to one plain type: numbers, dates or texts.",
    )
