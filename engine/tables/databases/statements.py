"""What a query is and reads, told by the database before any row is read.

    URL, SQL  ->  refused unless it is one SELECT;  the tables that it reads, also through views

DuckDB binds the query. SQLite prepares it, and reports each table that it would read. PostgreSQL plans it, and has then
locked its tables. Nothing else can tell, so that it is taken to read every table.
"""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path

from engine.errors import UsageError
from engine.tables.databases.address import FILES, Address

Names = set[tuple[str | None, str]]  # schema, if there is one, and name of each table
# A SELECT may call a function that changes settings, and so has a log written to files.
READING_DUCKDB = {"python_enable_replacements": "false", "lock_configuration": "true"}
_COMMENT = re.compile(r"(?s)\s+|--[^\n]*|/\*.*?\*/|\(")
_READING = re.compile(r"(?i)(select|with|values|table|from)\b")
_FAMILIES = {
    "postgres": "postgresql", "redshift": "postgresql", "cockroachdb": "postgresql", "mariadb": "mysql",
    "clickhousedb": "clickhouse", "presto": "trino",
}  # fmt: skip
_LOCKED = (
    "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_locks AS l "
    "JOIN pg_catalog.pg_class AS c ON c.oid = l.relation JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND n.nspname NOT IN ('pg_catalog')"
)


def check_select(address: Address, sql: str) -> None:
    """Check that a query is one SELECT, before the database runs any of it.

    Raises
    ------
    UsageError
        If it is another statement, or several.
    """
    if address.library == "duckdb":
        import duckdb

        kinds = [statement.type for statement in duckdb.extract_statements(sql)]
        if kinds != [duckdb.StatementType.SELECT]:
            raise _no_select(several=len(kinds) > 1)
    elif address.library == "sqlite":
        _read_by_sqlite(address, sql)
    else:
        start = 0
        while skipped := _COMMENT.match(sql, start):
            start = skipped.end()
        if _READING.match(sql, start) is None:
            raise _no_select()


def tables_of(address: Address, sql: str) -> Names | None:
    """Return the tables that a query reads, None if the database cannot tell."""
    if address.library == "sqlite":
        return {(None, name.lower()) for name in _read_by_sqlite(address, sql)}
    if address.library == "duckdb":
        return _read_by_duckdb(address, sql)
    return _read_by_postgresql(address, sql) if address.library == "postgresql" else None


def may_be_same(one: Address, other: Address) -> bool:
    """Tell whether two URLs may lead to one database: servers of a kind may, for a host can have several names."""
    if one.path and other.path:
        there = Path(one.path).exists() and Path(other.path).exists()
        return there and os.path.samefile(one.path, other.path)
    families = {_FAMILIES.get(address.scheme, address.scheme) for address in (one, other)}
    return len(families) == 1 and not families & set(FILES)


def _no_select(*, several: bool = False) -> UsageError:
    found = "The query is several statements" if several else "The query is no SELECT"
    return UsageError(f"{found}: only reading is allowed.", hint="write one SELECT.")


def _read_by_sqlite(address: Address, sql: str) -> set[str]:
    """Return the names of the tables that a query reads; raise UsageError if it does more than read."""
    import sqlite3

    allowed = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
    read: set[str] = set()
    refused: set[int] = set()

    def authorize(action: int, table: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ and table:
            read.add(table)
        if action not in allowed:
            refused.add(action)
        return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY

    path = Path(address.path).absolute()
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 0")  # the schema is read without the authorizer
        connection.set_authorizer(authorize)
        try:
            connection.execute(f"EXPLAIN {sql}").close()
        except (sqlite3.Warning, sqlite3.Error) as error:
            if "one statement" in str(error):
                raise _no_select(several=True) from None
            if refused:
                raise _no_select() from None
            raise
    return read


def _read_by_duckdb(address: Address, sql: str) -> Names:
    import duckdb

    with duckdb.connect(address.path, read_only=True, config=READING_DUCKDB) as connection:
        found = connection.get_table_names(sql, qualified=True)
    names: Names = set()
    for name in found:
        *schemas, table = (part.strip('"').lower() for part in re.findall(r'"(?:[^"]|"")*"|[^."]+', name))
        # A name before a dot is that of a schema or of the file.
        names.add((schemas[-1] if schemas and schemas[-1] != Path(address.path).stem.lower() else None, table))
    return names


def _read_by_postgresql(address: Address, sql: str) -> Names:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(address.url) as connection, connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
        cursor.execute(f"SELECT 1 FROM ({sql}\n) AS rooms_query LIMIT 0")
        cursor.fetchall()
        cursor.execute(_LOCKED)
        return {(schema, name) for schema, name in cursor.fetchall()}
