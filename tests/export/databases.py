"""Databases for tests: SQLite here, PostgreSQL and Spark where they are, each in a time zone of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from engine.export.sql_databases import Database, LocalSpark, PostgreSqlServer, SqliteInMemory


def postgres_url() -> str:
    """Return the URL of the PostgreSQL server for tests; skip the test where there is none."""
    url = os.environ.get("ROOMS_TEST_POSTGRES")
    if url is None:
        pytest.skip("set ROOMS_TEST_POSTGRES to the URL of a PostgreSQL server, postgresql://user:password@host/name")
    return url


def postgres_in_zone(zone: str) -> Iterator[Database]:
    """Yield the PostgreSQL server for tests, in a session of this time zone."""
    database = PostgreSqlServer(postgres_url())
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
