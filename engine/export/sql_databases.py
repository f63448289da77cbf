"""Databases that run a statement on rows which are lent to them as a table, to check what is exported.

    statement, rows  ->  result

DuckDB, SQLite and Spark run in this process. PostgreSQL is a server: its table is temporary, so that nobody else sees
it and nothing stays. Each column gets the type that people have such values in.
"""

from __future__ import annotations

import sqlite3
import tempfile
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import UsageError
from engine.export.sql_dialect import Sqlite
from engine.tables.databases.address import parse_address

TABLE = "profiles"
DIALECT = Sqlite()
_SQLITE_TYPES = (
    (pa.types.is_floating, "REAL"),
    (pa.types.is_integer, "INTEGER"),
    (pa.types.is_boolean, "INTEGER"),
)  # of columns; others are TEXT


class Database(Protocol):
    """A database that has one table, TABLE, while it runs a statement."""

    def select(self, statement: str, rows: pa.Table) -> pa.Table:
        """Return what a SELECT gives on these rows."""
        ...

    def interrupt(self) -> None:
        """End a statement that is running."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class DuckDbInMemory:
    """DuckDB, which reads Arrow tables."""

    def __init__(self) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise _missing("DuckDB", "duckdb") from error
        self.connection = duckdb.connect()

    def select(self, statement: str, rows: pa.Table) -> pa.Table:
        """Return what a SELECT gives on these rows."""
        self.connection.register(TABLE, _cast(rows, half_floats=False))
        try:
            return self.connection.sql(statement).to_arrow_table()
        finally:
            self.connection.unregister(TABLE)

    def interrupt(self) -> None:
        """End a statement that is running."""
        self.connection.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class SqliteInMemory:
    """SQLite, which gets dates as texts and truths as 0 and 1."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", check_same_thread=False)

    def select(self, statement: str, rows: pa.Table) -> pa.Table:
        """Return what a SELECT gives on these rows."""
        kinds = [next((name for fits, name in _SQLITE_TYPES if fits(field.type)), "TEXT") for field in rows.schema]
        names = map(DIALECT.identifier, rows.column_names)
        columns = [f"{name} {kind}" for name, kind in zip(names, kinds, strict=True)]
        self.connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        self.connection.execute(f"CREATE TABLE {TABLE} ({', '.join(columns)})")
        cells = zip(*(map(_sqlite_cell, _readable(column).to_pylist()) for column in rows.columns), strict=True)
        self.connection.executemany(f"INSERT INTO {TABLE} VALUES ({', '.join('?' * len(columns))})", cells)
        cursor = self.connection.execute(statement)
        found = cursor.fetchall()
        return pa.table({name: [row[at] for row in found] for at, (name, *_) in enumerate(cursor.description)})

    def interrupt(self) -> None:
        """End a statement that is running."""
        self.connection.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class PostgreSqlServer:
    """A server of PostgreSQL, where a temporary table has the rows."""

    def __init__(self, url: str) -> None:
        self.address = parse_address(url)
        if self.address.library != "postgresql":
            raise UsageError(
                f"{self.address.shown} is no URL of PostgreSQL.", hint="write it like postgresql://host/name."
            )
        with self.address.explain_errors("cannot be used for a check"):
            from adbc_driver_postgresql import dbapi

            self.connection = dbapi.connect(self.address.url)
            self.cursor = self.connection.cursor()

    def select(self, statement: str, rows: pa.Table) -> pa.Table:
        """Return what a SELECT gives on these rows."""
        with self.address.explain_errors("cannot run the check"):
            self.cursor.execute(f"DROP TABLE IF EXISTS pg_temp.{TABLE}")
            self.cursor.adbc_ingest(TABLE, _cast(rows, unsigned=False), mode="create", temporary=True)
            self.cursor.execute(statement.rstrip().rstrip(";"))  # its driver copies what a SELECT gives
            return self.cursor.fetch_arrow_table()

    def interrupt(self) -> None:
        """End a statement that is running."""
        self.cursor.adbc_cancel()

    def close(self) -> None:
        """Close the connection, and with it the temporary table."""
        self.cursor.close()
        self.connection.close()


class LocalSpark:
    """Spark SQL in this process, which reads the rows from a Parquet file."""

    def __init__(self) -> None:
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise _missing("Spark SQL", "pyspark") from error
        self.is_own = SparkSession.getActiveSession() is None
        builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
        try:
            self.session = builder.config("spark.log.level", "ERROR").getOrCreate()
        except Exception as error:  # pyspark starts a program, and says of it that it has ended
            raise UsageError("Spark did not start.", hint="it needs Java: set JAVA_HOME to one.") from error

    def select(self, statement: str, rows: pa.Table) -> pa.Table:
        """Return what a SELECT gives on these rows."""
        with tempfile.TemporaryDirectory(prefix="rooms-spark-") as folder:
            path = Path(folder) / "profiles.parquet"
            pq.write_table(
                _cast(rows, half_floats=False), path, coerce_timestamps="us", allow_truncated_timestamps=True
            )
            self.session.read.parquet(str(path)).createOrReplaceTempView(TABLE)
            result = self.session.sql(statement.rstrip().rstrip(";"))
            names, found = result.columns, result.collect()
        return pa.table({name: [row[at] for row in found] for at, name in enumerate(names)})

    def interrupt(self) -> None:
        """End a statement that is running."""
        self.session.sparkContext.cancelAllJobs()

    def close(self) -> None:
        """Stop Spark, unless it ran before."""
        if self.is_own:
            self.session.stop()


def open_database(dialect: str, url: str | None) -> Database:
    """Return a database that runs statements of a dialect.

    Parameters
    ----------
    dialect : str
    url : str or None
        Of the server, for PostgreSQL.

    Raises
    ------
    UsageError
        If the dialect cannot be run here, a server is asked for without its URL, or a library is missing.
    DatabaseError
        If the server cannot be reached.
    """
    if dialect == "postgres":
        if url is None:
            raise UsageError(
                "A check in PostgreSQL needs a server.", hint="name one: --database 'postgresql://host/name'."
            )
        return PostgreSqlServer(url)
    if url is not None:
        raise UsageError(f"--database is the server of --dialect postgres; {dialect} needs none.")
    here: dict[str, type[Database]] = {"duckdb": DuckDbInMemory, "sqlite": SqliteInMemory, "spark": LocalSpark}
    if dialect not in here:
        raise UsageError(f"--check runs in duckdb, sqlite, postgres and spark, not in {dialect}.")
    return here[dialect]()


def _missing(what: str, package: str) -> UsageError:
    return UsageError(f"A check in {what} needs {package}, which is not installed.", hint=f"pip install {package}.")


def _cast(rows: pa.Table, *, half_floats: bool = True, unsigned: bool = True) -> pa.Table:
    """Return rows with the same values in types that a database knows."""

    def known(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_float16(kind) and not half_floats:
            return pa.float32()
        if pa.types.is_uint64(kind) and not unsigned:  # PostgreSQL's driver writes 2^64 - 1 as -1
            return pa.decimal128(20)
        if pa.types.is_date64(kind):
            return pa.date32()
        if pa.types.is_fixed_size_list(kind):
            return pa.list_(known(kind.value_type), kind.list_size)
        if pa.types.is_list(kind):
            return pa.list_(known(kind.value_type))
        return pa.large_list(known(kind.value_type)) if pa.types.is_large_list(kind) else kind

    return rows.cast(pa.schema([field.with_type(known(field.type)) for field in rows.schema]))


def _readable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with times in UTC, without a zone, and decimals as numbers."""
    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64())
    return column.cast(pa.timestamp("us"), safe=False) if pa.types.is_timestamp(column.type) else column


def _sqlite_cell(cell: Any) -> Any:
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ", timespec="milliseconds")
    if isinstance(cell, bool):
        return int(cell)
    return str(cell) if isinstance(cell, date | list) else cell
