"""Passes on workers of a real cluster: the bits of one process, whatever happens to a worker in between.

A fault fires once, in the pass that is asked for: the worker that makes the latch file is killed, stopped, or
raises.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import cloudpickle
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.config import ClusterConfig
from engine.errors import SchedulerLostError, UsageError, WorkersDifferError
from engine.execution import dask as dask_module
from engine.execution import passes
from engine.execution.cluster import Cluster
from engine.execution.dask import connected
from engine.features.encoder import fit_encoder
from engine.tables import BLOCK_ROWS, open_table
from engine.tables.demo import DemoMembers

Fault = Literal["killed", "stopped", "exception"]
QUICK = ClusterConfig(workers=2, task_rows=BLOCK_ROWS, overdue_seconds=1.0, deadline_seconds=60.0)
STOPPED_SECONDS = 3.0

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with connected(QUICK, tmp_path_factory.mktemp("shared")) as found:
        yield found


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six blocks in two files whose row groups end somewhere else."""
    folder = tmp_path_factory.mktemp("members")
    columns = ["user_id", "age", "plan", "weekly_hours", "favourite_genres", "signup_date"]
    rows = pa.concat_tables(block.rows for block in DemoMembers(5 * BLOCK_ROWS + 1234).blocks(columns))
    for part in range(2):
        pq.write_table(rows.slice(part * 100_000, 100_000), folder / f"part-{part}.parquet", row_group_size=30_000)
    return folder


@pytest.fixture
def fault(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Arm a fault: arm(pass, kind) returns a function that tells whether it has fired."""

    def arm(what: str, kind: Fault) -> Callable[[], bool]:
        latch, original = tmp_path / "latch", Cluster._mapped

        def mapped(self: Cluster, task: Any, runs: Any, name: str) -> Any:
            return original(self, disturbed(task, latch, kind) if name == what else task, runs, name)

        monkeypatch.setattr(Cluster, "_mapped", mapped)
        threading.Thread(target=wake, args=(latch,), daemon=True).start()
        return latch.exists

    return arm


def disturbed(task: Callable[[Any], Any], latch: Path, kind: Fault) -> Callable[[Any], Any]:
    """Return the task with a fault that fires once: after the work is done, before anybody hears of it."""

    def run(what: Any) -> Any:
        found = task(what)
        try:
            with open(latch, "x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return found
        if kind == "exception":
            raise OSError("a disk that fails once")
        os.kill(os.getpid(), signal.SIGKILL if kind == "killed" else signal.SIGSTOP)
        return task(what)  # a stopped worker goes on when nobody expects it any more

    return run


def wake(latch: Path) -> None:
    """Wake the process that stopped itself, after its tasks were given to others."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if latch.exists() and (pid := latch.read_text()):
            time.sleep(STOPPED_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGCONT)
            return
        time.sleep(0.05)


@contextlib.contextmanager
def foreign(folder: Path, **options: Any) -> Iterator[Any]:
    """Run a cluster of somebody else's, on threads of this process."""
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, local_directory=str(folder),
        host="127.0.0.1", silence_logs=50, scheduler_kwargs={"dashboard_address": "127.0.0.1:0"}, **options,
    )  # fmt: skip
    with cluster:
        yield cluster


def joined(folder: Path, there: Any, **options: Any) -> Any:
    """Join somebody else's cluster."""
    return connected(ClusterConfig(scheduler=there.scheduler_address, **options), folder)


def statistics(members: Path) -> list[Any]:
    seen: list[Any] = []
    found = fit_encoder(open_table(members, id="user_id"), id="user_id", see=len, seen=seen.append)
    columns = [(c.moments, c.counts, c.sample.tobytes()) for c in found.statistics.columns.values()]
    return [seen, columns, found.encoder.plan]


@pytest.mark.parametrize("kind", ["killed", "stopped", "exception"])
def test_a_disturbed_read_gives_the_statistics_of_one_process(
    cluster: Cluster, members: Path, fault: Callable[..., Any], kind: Fault
) -> None:
    expected = statistics(members)
    fired = fault("statistics", kind)
    with passes.on(cluster):
        assert statistics(members) == expected
    assert fired()


def test_a_cluster_that_is_there_is_joined_and_left_as_it_was(members: Path, tmp_path: Path) -> None:
    expected = statistics(members)
    with foreign(tmp_path, protocol="tcp") as there:
        for _ in range(2):
            with joined(tmp_path, there) as found, passes.on(found):
                assert statistics(members) == expected
        assert len(there.scheduler.workers) == 2
        assert not there.scheduler.tasks
    assert [path.name for path in tmp_path.glob("probe-*")] == []


def test_a_lost_scheduler_ends_the_run_and_says_how_to_go_on(members: Path, tmp_path: Path) -> None:
    def slow(rows: slice) -> int:
        time.sleep(0.5)
        return rows.start

    facts = tmp_path / "scheduler.json"
    scheduler = started("scheduler", "--port", "0", "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", facts)
    worker = started("worker", "--nthreads", "1", "--no-nanny", "--local-directory", str(tmp_path), facts)
    try:
        while not facts.exists():
            time.sleep(0.05)
        address = json.loads(facts.read_text())["address"]
        with connected(ClusterConfig(scheduler=address, task_rows=1), tmp_path) as found:
            results = found.over_rows(slow, 100, 1, "slow")
            assert next(results) == 0
            scheduler.kill()
            start = time.monotonic()
            with pytest.raises(SchedulerLostError, match="does not answer any more") as error:
                list(results)
        assert time.monotonic() - start < 5
        assert "--resume" in str(error.value)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


def started(what: str, *options: Any) -> subprocess.Popen[bytes]:
    """Start a scheduler or a worker that find each other by a file, the last option."""
    *others, facts = options
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *others, "--scheduler-file", str(facts)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def test_an_address_where_nobody_is_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.execution.dask.ANSWER_SECONDS", 1.0)
    with (
        pytest.raises(SchedulerLostError, match=r"127\.0\.0\.1:1 does not answer"),
        connected(ClusterConfig(scheduler="tcp://127.0.0.1:1"), tmp_path),
    ):
        pass


def test_workers_that_do_not_see_the_folder_or_have_other_versions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(probe: Path) -> tuple[dict[str, str], bool]:
        return here(probe)[0], (probe.parent / "elsewhere" / probe.name).is_file()

    def older(probe: Path) -> tuple[dict[str, str], bool]:
        return here(probe)[0] | {"numba": "0.60.0"}, True

    here = dask_module._seen
    with foreign(tmp_path, protocol="tcp") as there:
        for seen, message in [(elsewhere, "does not see the folder"), (older, r"has numba 0\.60\.0 \(here")]:
            monkeypatch.setattr(dask_module, "_seen", seen)
            with pytest.raises(WorkersDifferError, match=message), joined(tmp_path, there):
                pass


def test_tables_that_cannot_be_read_in_parts_are_refused(cluster: Cluster) -> None:
    with passes.on(cluster), pytest.raises(UsageError, match="Parquet"):
        fit_encoder(open_table(pa.table({"x": np.arange(10.0)})))


def test_a_tls_scheduler_is_joined_with_certificates_only(tmp_path: Path) -> None:
    from distributed import Security

    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificates, is not installed")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    files = {f"tls_{role}_{kind}": str(path) for role in ("scheduler", "worker", "client")
             for kind, path in (("cert", cert), ("key", key))}  # fmt: skip
    security = Security(tls_ca_file=str(cert), require_encryption=True, **files)
    with foreign(tmp_path, protocol="tls", security=security) as there:
        wanted = ClusterConfig(
            scheduler=there.scheduler_address, tls_ca=str(cert), tls_cert=str(cert), tls_key=str(key)
        )
        assert there.scheduler_address.startswith("tls://")
        with connected(wanted, tmp_path) as found:
            assert list(found.over_rows(lambda rows: rows.start, 4, 1, "starts")) == [0, 1, 2, 3]
        needed = pytest.raises(UsageError, match="needs the TLS files --tls-cert, --tls-key")
        with needed, joined(tmp_path, there, tls_ca=str(cert)):
            pass
    useless = pytest.raises(UsageError, match="no tls:// address")
    with useless, connected(ClusterConfig(scheduler="tcp://127.0.0.1:1", tls_ca=str(cert)), tmp_path):
        pass
