"""Run an exported statement in DuckDB or SQLite, and compare its clusters with those that the model assigns.

    statement, blocks of a table, assign  ->  rows, differences, and how many of these rounding to float32 explains

Rows go to a table in memory, block by block, in the types that the engine reads them as; a deadline interrupts it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import OutOfResourcesError, UsageError
from engine.export.sql_dialect import Sqlite
from engine.utils.array_types import Int32s

CHECKED_ROW = "checked_row"  # the column that takes the place of the id
TABLE = "profiles"
DIALECT = Sqlite()
_SQLITE_TYPES = (
    (pa.types.is_floating, "REAL"),
    (pa.types.is_integer, "INTEGER"),
    (pa.types.is_boolean, "INTEGER"),
)  # of columns; others are TEXT


class Difference(NamedTuple):
    """How many rows were compared, how many got another cluster, and in how many of those rounding can be the cause."""

    rows: int
    differing: int
    within_rounding: int


class Judge(Protocol):
    """What a check asks of a model."""

    def assign(self, rows: pa.Table) -> Int32s:
        """Return the numbers of the rows' clusters."""
        ...

    def within_rounding(self, rows: pa.Table, assigned: Int32s, exported: Int32s) -> NDArray[np.bool_]:
        """Tell which rows are so near to both clusters that rounding scores to float32 can decide."""
        ...


class Database(Protocol):
    """A database in memory that runs one statement on one table."""

    def run(self, rows: pa.Table) -> Int32s:
        """Return the clusters of rows that have the column CHECKED_ROW, in its order."""
        ...

    def interrupt(self) -> None:
        """End a statement that is running."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class DuckDbInMemory:
    """DuckDB, which reads Arrow tables."""

    def __init__(self, statement: str) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise UsageError(
                "A check in DuckDB needs duckdb, which is not installed.", hint="pip install duckdb."
            ) from error
        self.statement, self.connection = statement, duckdb.connect()

    def run(self, rows: pa.Table) -> Int32s:
        """Return the clusters of rows."""
        kinds = [field.with_type(_without_half_floats(field.type)) for field in rows.schema]
        self.connection.register(TABLE, rows.cast(pa.schema(kinds)))
        result = self.connection.execute(self.statement).fetchnumpy()
        self.connection.unregister(TABLE)
        clusters = np.asarray(result["cluster"])[np.argsort(result[CHECKED_ROW], kind="stable")]
        return clusters.astype(np.int32)

    def interrupt(self) -> None:
        """End a statement that is running."""
        self.connection.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class SqliteInMemory:
    """SQLite, which gets dates as texts and truths as 0 and 1."""

    def __init__(self, statement: str) -> None:
        self.statement = statement
        self.connection = sqlite3.connect(":memory:", check_same_thread=False)

    def run(self, rows: pa.Table) -> Int32s:
        """Return the clusters of rows."""
        kinds = [next((name for fits, name in _SQLITE_TYPES if fits(field.type)), "TEXT") for field in rows.schema]
        names = map(DIALECT.identifier, rows.column_names)
        columns = [f"{name} {kind}" for name, kind in zip(names, kinds, strict=True)]
        self.connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        self.connection.execute(f"CREATE TABLE {TABLE} ({', '.join(columns)})")
        cells = zip(*(map(_sqlite_cell, _readable(column).to_pylist()) for column in rows.columns), strict=True)
        self.connection.executemany(f"INSERT INTO {TABLE} VALUES ({', '.join('?' * len(columns))})", cells)
        found = sorted(row[:2] for row in self.connection.execute(self.statement))
        return np.array([cluster for _, cluster in found], np.int32)

    def interrupt(self) -> None:
        """End a statement that is running."""
        self.connection.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


CHECKED_IN: dict[str, Callable[[str], Database]] = {"duckdb": DuckDbInMemory, "sqlite": SqliteInMemory}


def compare_rows(
    database: Database, blocks: Iterable[pa.Table], judge: Judge, seconds: float, advance: Callable[[int], None]
) -> Difference:
    """Compare the clusters of rows by a database, which is closed then, with those by the model.

    Raises
    ------
    OutOfResourcesError
        If it takes longer than these seconds.
    """
    n_rows = n_differing = n_within = 0
    with closing(database), _deadline(database, seconds) as end:
        for rows in blocks:
            if time.monotonic() >= end:
                raise TimeoutError
            numbered = rows.append_column(CHECKED_ROW, pa.array(np.arange(len(rows))))
            assigned, exported = judge.assign(rows), database.run(numbered)
            differing = np.flatnonzero(assigned != exported)
            if len(differing):
                within = judge.within_rounding(rows.take(pa.array(differing)), assigned[differing], exported[differing])
                n_within += int(within.sum())
            n_rows, n_differing = n_rows + len(rows), n_differing + len(differing)
            advance(len(rows))
    return Difference(n_rows, n_differing, n_within)


@contextmanager
def _deadline(database: Database, seconds: float) -> Iterator[float]:
    """Interrupt a database after some seconds, the end of which is yielded, and raise OutOfResourcesError."""
    end = time.monotonic() + seconds
    timer = threading.Timer(seconds, database.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield end
    except Exception as error:
        if time.monotonic() < end:
            raise
        raise OutOfResourcesError(
            f"The check took longer than {seconds:g} seconds.", hint="check fewer rows, or give it more: --deadline."
        ) from error
    finally:
        timer.cancel()


def _without_half_floats(kind: pa.DataType) -> pa.DataType:
    """Return a type with the same values that DuckDB knows, for it has no half floats."""
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_without_half_floats(kind.value_type), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_without_half_floats(kind.value_type))
    return pa.large_list(_without_half_floats(kind.value_type)) if pa.types.is_large_list(kind) else kind


def _readable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with times in UTC, without a zone."""
    return column.cast(pa.timestamp("us"), safe=False) if pa.types.is_timestamp(column.type) else column


def _sqlite_cell(cell: Any) -> Any:
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ", timespec="milliseconds")
    if isinstance(cell, bool):
        return int(cell)
    return str(cell) if isinstance(cell, date | list) else cell
