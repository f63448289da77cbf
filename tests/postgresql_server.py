"""A PostgreSQL server for tests, which is started where its programs are installed."""

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
