"""Query: a SELECT of a database as a source of rows, read in one statement as Arrow batches.

    URL, SQL  ->  connection that only reads  ->  pyarrow RecordBatches

DuckDB and PostgreSQL (ADBC, which copies in binary) give Arrow themselves. SQLite is read by Python's own module, and
all other databases by SQLAlchemy: their rows are Python objects, which python_rows.py converts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.errors import SourceNotFoundError, UsageError
from engine.tables.databases.address import Address, parse_address
from engine.tables.databases.python_rows import batch_of_rows, rows_at_once
from engine.tables.databases.statements import READING_DUCKDB, check_select, may_be_same, tables_of
from engine.utils.similar_paths import suggest_path

BATCH_BYTES = 16 << 20  # of a COPY
DUCKDB_MEMORY = "1GiB"


@dataclass(frozen=True)
class Query:
    """The rows that a SELECT gives, as a source for `engine.fit`, `model.assign` and the like.

    Each of them runs the query once, in a connection that only reads, and keeps the rows in a temporary Parquet file
    while it works: passes over the table then see the same rows. Rows come in the order of the query: without ORDER BY
    a database may give another one each time, and with it other samples and another order of the assignments.

    Parameters
    ----------
    url : str
        duckdb:///file, sqlite:///file, postgresql://user:password@host/name, or any URL of SQLAlchemy, whose driver has
        to be installed. `${NAME}` is the value of an environment variable.
    sql : str
        One SELECT.

    Raises
    ------
    UsageError
        If the URL is not one of a database, a variable in it is not set, or the query is empty.
    """

    url: str = field(repr=False)
    sql: str

    def __post_init__(self) -> None:
        _ = self.address
        if not self.sql.strip().rstrip(";"):
            raise UsageError("The query is empty.", hint="write one SELECT.")

    def __repr__(self) -> str:
        return f"Query({self.address.shown!r}, {self.address.hide(self.sql)!r})"

    @property
    def address(self) -> Address:
        """The parsed URL."""
        return parse_address(self.url)

    @property
    def name(self) -> str:
        """What the source is called in messages."""
        return f"the query of {self.address.shown}"

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the query: neither secrets nor values of the table."""
        return {"format": "query", "database": self.address.shown, "query": self.address.hide(self.sql)}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Run the query, and yield its rows; at least one batch, which may be empty.

        Raises
        ------
        DatabaseError
            If the database cannot be reached, or refuses the query.
        SourceNotFoundError
            If the file of the database is not there.
        UsageError
            If the driver is not installed, or the query is no single SELECT.
        """
        address = self.address
        readers = {"duckdb": _read_duckdb, "sqlite": _read_sqlite, "postgresql": _read_postgresql}
        self._check_file()
        with address.explain_errors("cannot be read"):
            check_select(address, self._statement)
            yield from readers.get(address.library, _read_by_sqlalchemy)(address, self._statement)

    def may_read(self, database: Address, schema: str | None, table: str) -> bool:
        """Tell whether the query may read a table of a database: true if the database cannot tell.

        Raises
        ------
        DatabaseError, SourceNotFoundError, UsageError
            As of `batches`.
        """
        address = self.address
        if not may_be_same(address, database):
            return False
        self._check_file()
        with address.explain_errors("cannot be read"):
            check_select(address, self._statement)
            names = None if address.library != database.library else tables_of(address, self._statement)
        if names is None:
            return True
        if address.path:
            schema, table = None if schema is None else schema.lower(), table.lower()
        # A name without a schema may be found in any of them.
        return any(name == table and (None in (found, schema) or found == schema) for found, name in names)

    @property
    def _statement(self) -> str:
        return self.sql.strip().rstrip(";")

    def _check_file(self) -> None:
        if self.address.path and not Path(self.address.path).is_file():
            raise SourceNotFoundError(f"There is no file {self.address.path}.", hint=suggest_path(self.address.path))


def _read_duckdb(address: Address, sql: str) -> Iterator[pa.RecordBatch]:
    import duckdb

    # A query names tables of the database, and no variables of this program. Without a limit, what was read of the file
    # stays in memory: 0.9 GiB of 20 million rows of eight columns. Sorting and joining more is done in files.
    settings = {**READING_DUCKDB, "memory_limit": DUCKDB_MEMORY}
    with (
        tempfile.TemporaryDirectory(prefix="rooms-duckdb-") as spilled,
        duckdb.connect(address.path, read_only=True, config=settings | {"temp_directory": spilled}) as connection,
        pa.RecordBatchReader.from_stream(connection.sql(sql)) as reader,
    ):
        yield from _with_schema(reader)


def _read_postgresql(address: Address, sql: str) -> Iterator[pa.RecordBatch]:
    from adbc_driver_postgresql import StatementOptions, dbapi

    with dbapi.connect(address.url) as connection, connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
        cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(BATCH_BYTES)})
        cursor.execute(f"{sql}\n")  # after a remark at its end, the driver has something to add
        with cursor.fetch_record_batch() as reader:
            yield from _with_schema(reader)


def _with_schema(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    yield from reader


def _read_sqlite(address: Address, sql: str) -> Iterator[pa.RecordBatch]:
    import sqlite3

    path = Path(address.path).absolute()
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        # A view knows which types its columns were declared with; SQLite itself has no dates and no booleans.
        connection.execute(f"CREATE TEMP VIEW rooms_query AS {sql}")
        declared = [kind.upper() for _, _, kind, *_ in connection.execute("PRAGMA temp.table_info(rooms_query)")]
        with closing(connection.execute(sql)) as cursor:
            names = [column[0] for column in cursor.description]
            yield batch_of_rows(names, [], declared)
            while rows := cursor.fetchmany(rows_at_once(len(names))):
                yield batch_of_rows(names, rows, declared)


def _read_by_sqlalchemy(address: Address, sql: str) -> Iterator[pa.RecordBatch]:
    import sqlalchemy

    engine = sqlalchemy.create_engine(address.url, hide_parameters=True)
    try:
        with engine.connect() as connection:
            # Without parameters: with an empty list of them, drivers take a % of the query for the place of one.
            options = connection.execution_options(stream_results=True, no_parameters=True)
            result = options.exec_driver_sql(sql)
            names = list(result.keys())
            declared = [""] * len(names)
            yield batch_of_rows(names, [], declared)
            while rows := result.fetchmany(rows_at_once(len(names))):
                yield batch_of_rows(names, rows, declared)
    finally:
        engine.dispose()
