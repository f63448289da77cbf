"""Databases for the tests: files of DuckDB and SQLite, and a PostgreSQL server where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["", "+psycopg"])
def server(request: pytest.FixtureRequest, postgresql: str) -> str:
    """Return the URL of the PostgreSQL server for the engine's own driver, and for one of SQLAlchemy."""
    if request.param:
        pytest.importorskip("psycopg", reason="psycopg is not installed (the extra dev)")
    return postgresql.replace("postgresql://", f"postgresql{request.param}://")


@pytest.fixture(params=["duckdb", "sqlite", "sqlalchemy", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database of every kind; that of PostgreSQL is skipped where there is no server.

    With "sqlalchemy", the server is reached by SQLAlchemy and another driver than the engine's own.
    """
    if request.param in ("postgresql", "sqlalchemy"):
        if request.param == "sqlalchemy":
            pytest.importorskip("psycopg", reason="psycopg is not installed (the extra dev)")
        url: str = request.getfixturevalue("postgresql")
        for statement in ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public"):
            run_sql(url, statement)
        return url.replace("postgresql://", "postgresql+psycopg://") if request.param == "sqlalchemy" else url
    return f"{request.param}:///{tmp_path / 'members.db'}"


def run_sql(url: str, sql: str) -> list[tuple[object, ...]]:
    """Run one statement, commit, and return its rows."""
    if url.startswith("postgresql"):
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(url.replace("+psycopg", "")) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            rows = cursor.fetchall() if cursor.description else []
            connection.commit()
            return rows
    path = url.partition(":///")[2]
    if url.startswith("duckdb"):
        import duckdb

        with duckdb.connect(path) as connection:
            return connection.execute(sql).fetchall()
    import sqlite3

    with sqlite3.connect(path) as connection:
        return connection.execute(sql).fetchall()
