"""DatabaseTable: a table of a database that rows are written to, all of them or none.

    batches  ->  one transaction  ->  a new table, one in the place of an old one, or rows added to one

Where creating a table cannot be taken back (MySQL, Oracle and others, by SQLAlchemy), a table that was created for rows
that then fail is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from engine.blocks import storage_array
from engine.errors import DatabaseError, OutputExistsError, OutputOverlapError, UsageError
from engine.tables.databases.address import Address, parse_address
from engine.tables.databases.query import Query

_NAME = re.compile(r"(?:(?P<schema>\w+)\.)?(?P<table>\w+)")
_SQLITE_TYPES = {"int": "INTEGER", "float": "REAL", "bool": "BOOLEAN", "text": "TEXT", "bytes": "BLOB"}


@dataclass(frozen=True)
class DatabaseTable:
    """A table of a database, for `write`: DatabaseTable(url, "assignments").write(model.assign(rows)).

    Parameters
    ----------
    url : str
        As of Query.
    name : str
        Name of the table, or schema.table.
    append : bool, default=False
        Whether rows are added to an existing table. Its columns have to have the same names.

    Raises
    ------
    UsageError
        If the URL is not one of a database, a variable in it is not set, or the name is no plain name.
    """

    url: str = field(repr=False)
    name: str
    append: bool = False

    def __post_init__(self) -> None:
        _ = self.address
        if _NAME.fullmatch(self.name) is None:
            raise UsageError(
                f"{self.name!r} is no name of a table.",
                hint="letters, digits and underscores, and one dot after a schema.",
            )

    def __repr__(self) -> str:
        return f"DatabaseTable({self.address.shown!r}, {self.name!r}, append={self.append})"

    @property
    def address(self) -> Address:
        """The parsed URL."""
        return parse_address(self.url)

    @property
    def shown(self) -> str:
        """The table in messages."""
        return f"table {self.name} of {self.address.shown}"

    def check(self, *, overwrite: bool, source: object = None) -> None:
        """Check before any work that the table can be written.

        Parameters
        ----------
        overwrite : bool
            Whether an existing table is to be replaced.
        source : Query or any other source, optional
            What the rows will be computed from.

        Raises
        ------
        OutputExistsError
            If it exists, and is neither to be replaced nor added to; or is to be replaced, and has no column `cluster`.
        OutputOverlapError
            If it is to be replaced, and the query reads it, or may read it where the database cannot tell.
        DatabaseError
            If the database cannot be reached.
        UsageError
            If the driver is not installed, or the table is to be both replaced and added to.
        """
        if overwrite and self.append:
            raise UsageError("A table is either replaced or added to.", hint="leave out --overwrite or --append.")
        with self.address.explain_errors("cannot be written"):
            exists = self._writer()(self, None, overwrite)
        if exists and overwrite and isinstance(source, Query) and source.may_read(self.address, *self.parts):
            raise OutputOverlapError(
                f"The query reads the {self.shown}, or may read it, and --overwrite would replace it.",
                hint="write to another --table.",
            )

    def write(self, rows: pa.Table | pa.RecordBatchReader | ds.Dataset, *, overwrite: bool = False) -> None:
        """Write rows in one transaction: all of them, or none.

        Parameters
        ----------
        rows : pyarrow.Table, RecordBatchReader or Dataset
            A dataset, such as that of a folder of assignments, is read batch by batch.
        overwrite : bool, default=False
            Whether an existing table is replaced, if it has the column `cluster`. Which query the rows were computed
            from is not known here: `check(overwrite=True, source=query)` tells before whether it reads the table.

        Raises
        ------
        OutputExistsError, UsageError
            As of `check`.
        DatabaseError
            If the database cannot be reached, or refuses the rows.
        """
        batches = rows.scanner().to_reader() if isinstance(rows, ds.Dataset) else rows
        batches = batches.to_reader() if isinstance(batches, pa.Table) else batches
        schema = pa.schema([pa.field(f.name, _plain_type(f.type)) for f in batches.schema])
        plain = pa.RecordBatchReader.from_batches(schema, (_plain_batch(batch, schema) for batch in batches))
        with self.address.explain_errors(f"refuses the rows of {self.name}"):
            self._writer()(self, plain, overwrite)

    def _writer(self) -> Callable[[DatabaseTable, pa.RecordBatchReader | None, bool], bool]:
        """Return what writes rows, or only checks the table if there are none, and tells whether it existed."""
        writers = {"duckdb": _write_duckdb, "sqlite": _write_sqlite, "postgresql": _write_postgresql}
        return writers.get(self.address.library, _write_by_sqlalchemy)

    def decide(self, columns: Sequence[str], overwrite: bool) -> bool:
        """Return whether there is a table, by its columns; raise OutputExistsError unless rows may be written to it."""
        if columns and not (overwrite or self.append):
            raise OutputExistsError(
                f"There is a {self.shown} already.", hint="choose another --table, or add --overwrite or --append."
            )
        if columns and overwrite and "cluster" not in map(str.lower, columns):
            raise OutputExistsError(
                f"The {self.shown} has no column 'cluster': it holds no assignments, and is not replaced.",
                hint="choose another --table, or drop this one yourself.",
            )
        return bool(columns)

    @property
    def parts(self) -> tuple[str | None, str]:
        """Schema, if there is one, and name."""
        match = _NAME.fullmatch(self.name)
        assert match is not None
        return match["schema"], match["table"]

    @property
    def quoted(self) -> str:
        """The name in SQL."""
        return ".".join(f'"{part}"' for part in self.parts if part)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that values are written as: every database has it, and no value changes."""
    if pa.types.is_unsigned_integer(kind):
        return pa.int64()
    if isinstance(kind, pa.UuidType) or pa.types.is_decimal(kind):
        return pa.string()
    return pa.string() if pa.types.is_large_string(kind) or kind == pa.string_view() else kind


def _plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    arrays = []
    for name, column in zip(schema.names, batch.columns, strict=True):
        if isinstance(column.type, pa.UuidType):
            column = pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
        try:
            arrays.append(storage_array(column).cast(schema.field(name).type))
        except pa.ArrowException:
            raise DatabaseError(f"Column {name!r} has values that the database cannot hold.") from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _write_duckdb(target: DatabaseTable, rows: pa.RecordBatchReader | None, overwrite: bool) -> bool:
    import duckdb

    schema, name = target.parts
    with duckdb.connect(target.address.path) as connection:
        connection.execute("BEGIN")
        known = (
            "SELECT column_name FROM duckdb_columns() WHERE database_name = current_database() "
            "AND lower(table_name) = lower(?) AND lower(schema_name) = lower(?)"
        )
        columns = connection.execute(known, [name, schema or "main"]).fetchall()
        exists = target.decide([column for (column,) in columns], overwrite)
        if rows is None:
            return exists
        connection.register("rooms_rows", rows)
        if exists and target.append:
            connection.execute(f"INSERT INTO {target.quoted} BY NAME SELECT * FROM rooms_rows")
        else:
            replace = "OR REPLACE " if exists else ""
            connection.execute(f"CREATE {replace}TABLE {target.quoted} AS SELECT * FROM rooms_rows")
        connection.execute("COMMIT")
    return exists


def _write_postgresql(target: DatabaseTable, rows: pa.RecordBatchReader | None, overwrite: bool) -> bool:
    from adbc_driver_postgresql import dbapi

    schema, name = target.parts
    with dbapi.connect(target.address.url) as connection, connection.cursor() as cursor:
        known = "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0"
        cursor.execute(f"{known} AND NOT attisdropped", (target.quoted,))
        exists = target.decide([column for (column,) in cursor.fetchall()], overwrite)
        if rows is None:
            return exists
        if exists and overwrite:
            cursor.execute(f"DROP TABLE {target.quoted}")
        mode = "append" if exists and target.append else "create"
        cursor.adbc_ingest(name, rows, mode=mode, db_schema_name=schema)
        connection.commit()  # a connection that is closed before has written nothing
    return exists


def _write_sqlite(target: DatabaseTable, rows: pa.RecordBatchReader | None, overwrite: bool) -> bool:
    import sqlite3

    schema, name = target.parts
    if schema is not None:
        raise UsageError(f"A SQLite file has no schemas: name the table {name}.")
    with closing(sqlite3.connect(target.address.path, isolation_level=None)) as connection:
        connection.execute("BEGIN" if rows is None else "BEGIN IMMEDIATE")
        columns = connection.execute("SELECT name FROM pragma_table_info(?)", [name]).fetchall()
        exists = target.decide([column for (column,) in columns], overwrite)
        if rows is None:
            return exists
        names = ", ".join(map(_quote, rows.schema.names))
        if exists and overwrite:
            connection.execute(f"DROP TABLE {target.quoted}")
        if not (exists and target.append):
            kinds = (f"{_quote(f.name)} {_SQLITE_TYPES[_kind_of(f.type)]}" for f in rows.schema)
            connection.execute(f"CREATE TABLE {target.quoted} ({', '.join(kinds)})")
        marks = ", ".join("?" * len(rows.schema))
        for batch in rows:
            connection.executemany(f"INSERT INTO {target.quoted} ({names}) VALUES ({marks})", _python_rows(batch))
        connection.execute("COMMIT")
    return exists


def _write_by_sqlalchemy(target: DatabaseTable, rows: pa.RecordBatchReader | None, overwrite: bool) -> bool:
    import sqlalchemy as sa

    types = {"int": sa.BigInteger, "float": sa.Double, "bool": sa.Boolean, "text": sa.Text, "bytes": sa.LargeBinary}
    schema, name = target.parts
    engine = sa.create_engine(target.address.url, hide_parameters=True)
    try:
        inspector = sa.inspect(engine)
        known = inspector.get_columns(name, schema=schema) if inspector.has_table(name, schema=schema) else []
        exists = target.decide([column["name"] for column in known], overwrite)
        if rows is None:
            return exists
        columns = [sa.Column(f.name, types[_kind_of(f.type)]()) for f in rows.schema]
        table = sa.Table(name, sa.MetaData(), *columns, schema=schema)
        if not exists:
            table.create(engine)
        try:
            with engine.begin() as connection:
                if exists and overwrite:
                    connection.execute(table.delete())
                for batch in rows:
                    values = [dict(zip(rows.schema.names, row, strict=True)) for row in _python_rows(batch)]
                    connection.execute(table.insert(), values)
        except BaseException:
            if not exists:
                table.drop(engine)
            raise
    finally:
        engine.dispose()
    return exists


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _kind_of(kind: pa.DataType) -> str:
    """Return the kind of column that values of a type are written to."""
    tests = (("bool", pa.types.is_boolean), ("int", pa.types.is_integer), ("float", pa.types.is_floating))
    known = next((name for name, test in tests if test(kind)), None)
    return known or ("bytes" if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) else "text")


def _python_rows(batch: pa.RecordBatch) -> Iterable[tuple[Any, ...]]:
    """Return the rows of a batch; dates and times are written as text."""
    columns = [column if _kind_of(column.type) != "text" else column.cast(pa.string()) for column in batch.columns]
    return zip(*(column.to_pylist() for column in columns), strict=True)
