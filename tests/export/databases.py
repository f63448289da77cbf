"""Databases for tests: SQLite here, PostgreSQL and Spark where they are, each in a time zone of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.export.sql_databases import Database, LocalSpark, PostgreSqlServer, SqliteInMemory


def postgres_in_zone(url: str, zone: str) -> Iterator[Database]:
    """Yield a PostgreSQL server in a session of this time zone."""
    database = PostgreSqlServer(url)
    database.cursor.execute(f"SET TimeZone = '{zone}'")
    yield database
    database.close()


def spark_in_zone(zone: str) -> Iterator[Database]:
    """Yield Spark in a session of this time zone; skip the test where it is not installed."""
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    database = LocalSpark()
    database.session.conf.set("spark.sql.session.timeZone", zone)
    yield database
    database.close()


def sqlite_database() -> Database:
    """Return SQLite in memory."""
    return SqliteInMemory()
