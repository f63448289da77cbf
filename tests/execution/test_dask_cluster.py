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

import engine
from engine.config import ClusterConfig, FitConfig, KMeansConfig
from engine.datasets.demo_table import DemoMembers
from engine.errors import ConfigError, SchedulerLostError, UsageError, WorkersDifferError
from engine.execution import dask_cluster as dask_module
from engine.execution import passes
from engine.execution.block_cache import Shelf
from engine.execution.cluster import Cluster
from engine.execution.dask_cluster import connected
from engine.features.fit import fit_encoder
from engine.model import assignments as assignment
from engine.tables import BLOCK_ROWS, Block, open_table

Bits = tuple[Any, ...]
Fault = Literal["killed", "stopped", "exception"]
QUICK = ClusterConfig(workers=2, task_rows=BLOCK_ROWS, overdue_seconds=1.0, deadline_seconds=300.0)
STOPPED_SECONDS = 3.0
LEAN = FitConfig(id="user_id", skip=("explain", "map", "report"), kmeans=KMeansConfig(n_clusters=5))

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with connected(QUICK, tmp_path_factory.mktemp("shared")) as found:
        yield found


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four blocks in two files whose row groups end somewhere else."""
    folder = tmp_path_factory.mktemp("members")
    columns = ["user_id", "age", "plan", "weekly_hours", "favourite_genres", "signup_date"]
    rows = pa.concat_tables(block.rows for block in DemoMembers(3 * BLOCK_ROWS + 1234).blocks(columns))
    for part in range(2):
        pq.write_table(rows.slice(part * 60_000, 60_000), folder / f"part-{part}.parquet", row_group_size=30_000)
    return folder


@pytest.fixture(scope="module")
def undisturbed(members: Path, tmp_path_factory: pytest.TempPathFactory) -> Bits:
    """The run of one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "ROWS_PER_PART", BLOCK_ROWS)
        return bits(engine.fit(members, out=tmp_path_factory.mktemp("undisturbed") / "run", config=LEAN))


@pytest.fixture
def fault(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Arm a fault: arm(pass, kind) returns a function that tells whether it has fired."""

    def arm(what: str, kind: Fault) -> Callable[[], bool]:
        latch, original = tmp_path / "latch", Cluster.map

        def disturbed_map(self: Cluster, task: Any, tasks: Any, name: str, homes: Any = None) -> Any:
            return original(self, disturbed(task, latch, kind) if name == what else task, tasks, name, homes)

        monkeypatch.setattr(Cluster, "map", disturbed_map)
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


def bits(run: engine.Run) -> Bits:
    """Return what must be the same: every byte of the assignments, the model, and what K-Means did."""
    files = sorted([*(run.path / "assignments").iterdir(), *(run.path / "model").iterdir(), run.path / "elbow.csv"])
    facts = [run.manifest[name] for name in ("inertia", "iterations", "rows")]
    return (*facts, *((path.name, path.read_bytes()) for path in files))


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
@pytest.mark.parametrize("what", ["statistics", "moments", "scores", "survey", "k-means", "labels", "assign"])
def test_a_disturbed_run_is_the_run_of_one_process(
    cluster: Cluster, members: Path, undisturbed: Bits, fault: Callable[..., Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, what: str, kind: Fault,
) -> None:  # fmt: skip
    monkeypatch.setattr(assignment, "ROWS_PER_PART", BLOCK_ROWS)
    monkeypatch.setattr(dask_module, "connected", lambda wanted, folder, on_gpus: contextlib.nullcontext(cluster))
    fired = fault(what, kind)
    assert bits(engine.fit(members, out=tmp_path / "run", config=LEAN, workers=2)) == undisturbed
    assert fired()


@pytest.mark.parametrize("n_workers", [1, 3])
def test_any_number_of_workers_gives_the_run_of_one_process(
    members: Path, undisturbed: Bits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_workers: int
) -> None:
    monkeypatch.setattr(assignment, "ROWS_PER_PART", BLOCK_ROWS)
    assert bits(engine.fit(members, out=tmp_path / "run", config=LEAN, workers=n_workers)) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_rules_and_places_of_workers_are_those_of_one_process(
    cluster: Cluster, members: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_module, "connected", lambda wanted, folder, on_gpus: contextlib.nullcontext(cluster))
    config = FitConfig.merged(
        LEAN.model_dump(), skip=["report"], map={"n_landmarks": 100, "max_iter": 250, "place_all": True}
    )
    here = engine.fit(members, out=tmp_path / "here", config=config)
    there = engine.fit(members, out=tmp_path / "there", config=config, workers=2)
    assert bits(there) == bits(here)
    assert there.map.equals(here.map)
    assert there.rules == here.rules


def test_workers_assign_new_users_as_one_process_does(
    cluster: Cluster, members: Path, fault: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "ROWS_PER_PART", BLOCK_ROWS)
    monkeypatch.setattr(dask_module, "connected", lambda wanted, folder, on_gpus: contextlib.nullcontext(cluster))
    model = engine.fit(members, out=tmp_path / "run", config=LEAN).model
    fired = fault("assign", "killed")
    here, there = (
        model.assign(members, out=tmp_path / "here"),
        model.assign(members, out=tmp_path / "there", cluster=QUICK),
    )
    assert fired()
    parts = [sorted((path.name, path.read_bytes()) for path in folder.iterdir()) for folder in (here, there)]
    assert parts[0] == parts[1]
    assert len(parts[0]) == 5  # four parts and _SUCCESS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "latch", "run", "there"]
    with pytest.raises(UsageError, match="--out must be a folder"):
        model.assign(members, out=tmp_path / "one.parquet", cluster=QUICK)


@pytest.mark.parametrize(("room", "read_again"), [(0, 4), (1 << 30, 0)])
def test_workers_read_again_only_what_they_could_not_keep(
    cluster: Cluster, members: Path, undisturbed: Bits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    room: int, read_again: int,
) -> None:  # fmt: skip
    original = Cluster.over_blocks

    def noting(self: Cluster, function: Any, blocks: Any, n_blocks: int, what: str) -> Any:
        return original(self, function, noted(blocks, tmp_path / what), n_blocks, what)

    monkeypatch.setattr(assignment, "ROWS_PER_PART", BLOCK_ROWS)
    monkeypatch.setattr(dask_module, "connected", lambda wanted, folder, on_gpus: contextlib.nullcontext(cluster))
    monkeypatch.setattr(Cluster, "over_blocks", noting)
    monkeypatch.setattr("engine.pipeline.fit.Shelf", lambda *_: Shelf(room))
    for what in ("statistics", "ids", "moments", "scores"):
        (tmp_path / what).mkdir()
    assert bits(engine.fit(members, out=tmp_path / "run", config=LEAN, workers=2)) == undisturbed
    assert [len(list((tmp_path / what).iterdir())) for what in ("statistics", "moments", "scores")] == [
        4, read_again, read_again,
    ]  # fmt: skip


def noted(blocks: Callable[[int, int], Any], folder: Path) -> Callable[[int, int], Any]:
    """Return the same blocks; each that is read from the table leaves a file."""

    def read(first: int, stop: int) -> Iterator[Any]:
        for block in blocks(first, stop):
            if isinstance(getattr(block, "rows", None), Block | pa.Table):
                (folder / str(block.start)).touch()
            yield block

    return read


def test_workers_and_a_scheduler_exclude_each_other(members: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        engine.fit(members, out=tmp_path / "run", workers=2, scheduler="tcp://127.0.0.1:1")


def test_a_cluster_that_is_there_is_joined_and_left_as_it_was(members: Path, tmp_path: Path) -> None:
    expected = statistics(members)
    with foreign(tmp_path, protocol="tcp") as there:
        for _ in range(2):
            with joined(tmp_path, there) as found, passes.on(found):
                assert statistics(members) == expected
        assert len(there.scheduler.workers) == 2
        assert not there.scheduler.tasks
    assert [path.name for path in tmp_path.glob("probe-*")] == []


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address and the process of a scheduler that has one worker, both processes of their own."""
    facts = tmp_path / "scheduler.json"
    scheduler = started("scheduler", "--port", "0", "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", facts)
    worker = started("worker", "--nthreads", "1", "--no-nanny", "--local-directory", str(tmp_path), facts)
    try:
        while not facts.exists():
            time.sleep(0.05)
        yield json.loads(facts.read_text())["address"], scheduler
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


def test_a_run_goes_on_after_its_scheduler_was_lost(
    outside: tuple[str, subprocess.Popen[bytes]], members: Path, undisturbed: Bits, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (address, scheduler), original, passes_of = outside, Cluster.map, list[str]()

    def killing(self: Cluster, task: Any, tasks: Any, name: str, homes: Any = None) -> Any:
        passes_of.append(name)
        if passes_of.count("k-means") == 2:
            scheduler.kill()
        return original(self, task, tasks, name, homes)

    monkeypatch.setattr(assignment, "ROWS_PER_PART", BLOCK_ROWS)
    monkeypatch.setattr(Cluster, "map", killing)
    with pytest.raises(SchedulerLostError, match="does not answer any more") as error:
        engine.fit(members, out=tmp_path / "run", config=LEAN, scheduler=address)
    assert "--resume" in str(error.value)
    resumed = engine.fit(members, out=tmp_path / "run", config=LEAN, resume=True)
    assert bits(resumed) == undisturbed
    assert not {"ids", "statistics", "pca"} & {stage["stage"] for stage in resumed.manifest["stages"]}


def started(what: str, *options: Any) -> subprocess.Popen[bytes]:
    """Start a scheduler or a worker that find each other by a file, the last option."""
    *others, facts = options
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *others, "--scheduler-file", str(facts)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def test_an_address_where_nobody_is_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.execution.dask_cluster.ANSWER_SECONDS", 1.0)
    with (
        pytest.raises(SchedulerLostError, match=r"127\.0\.0\.1:1 does not answer"),
        connected(ClusterConfig(scheduler="tcp://127.0.0.1:1"), tmp_path),
    ):
        pass


def test_workers_that_do_not_see_the_folder_or_have_other_versions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(probe: Path) -> Any:
        return here(probe)._replace(sees=(probe.parent / "elsewhere" / probe.name).is_file())

    def older(probe: Path) -> Any:
        return here(probe)._replace(versions=here(probe).versions | {"numba": "0.60.0"})

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
