"""Databases for the tests: files of DuckDB and SQLite, and a PostgreSQL server where there is one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

PASSWORD = "Geheim:wort/1@#?"  # every letter that a URL has another meaning for


def _find_program(name: str) -> str | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")]))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Start a PostgreSQL server that asks for a password; return the URL of its database."""
    initdb, pg_ctl = _find_program("initdb"), _find_program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("there is no PostgreSQL server here (apt-get install postgresql)")
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    with socket.socket() as free, tempfile.TemporaryDirectory(prefix="pg-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "password").write_text(PASSWORD)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        options = {"check": True, "capture_output": True, "user": user, "cwd": name}
        data = str(folder / "data")
        settings = ["--auth=scram-sha-256", "--username=reader", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run([initdb, "-D", data, f"--pwfile={folder / 'password'}", *settings], **options)
        free.close()
        arguments = f"-p {port} -k {name} -c listen_addresses=127.0.0.1 -c fsync=off"
        with (folder / "log").open("w") as log:
            log_options = options | {"capture_output": False, "stdout": log, "stderr": log}
            subprocess.run([pg_ctl, "-D", data, "-w", "-o", arguments, "start"], **log_options)
        try:
            yield f"postgresql://reader:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([pg_ctl, "-D", data, "-m", "immediate", "-w", "stop"], **options)


@pytest.fixture(params=["duckdb", "sqlite", "sqlalchemy", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database of every kind; that of PostgreSQL is skipped where there is no server."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgresql")
        for statement in ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public"):
            run_sql(url, statement)
        return url
    scheme = {"sqlalchemy": "sqlite+pysqlite"}.get(request.param, request.param)
    return f"{scheme}:///{tmp_path / 'members.db'}"


def run_sql(url: str, sql: str) -> list[tuple[object, ...]]:
    """Run one statement, commit, and return its rows."""
    if url.startswith("postgresql"):
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(url) as connection, connection.cursor() as cursor:
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
