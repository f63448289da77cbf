"""Passes on workers of a real cluster: the same bits as in one process, whatever happens to a worker in between.

A fault fires once, in a given pass: the worker that creates the latch file is killed, is stopped, or raises.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
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
from engine.execution import dask_cluster, passes
from engine.execution.block_cache import BlockCache
from engine.execution.cluster import Cluster
from engine.execution.dask_cluster import open_cluster
from engine.features.fit import fit_encoder
from engine.model import assignments
from engine.tables import BLOCK_ROWS, Block, open_table

Bits = tuple[Any, ...]
Fault = Literal["killed", "stopped", "exception"]
QUICK = ClusterConfig(workers=2, task_rows=BLOCK_ROWS, overdue_seconds=1.0, deadline_seconds=300.0)
STOPPED_SECONDS = 3.0
LEAN = FitConfig(id="user_id", skip=("explain", "map", "report"), kmeans=KMeansConfig(n_clusters=5))

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_cluster(QUICK, tmp_path_factory.mktemp("shared")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write four blocks in two files whose row groups end elsewhere; return their folder."""
    folder = tmp_path_factory.mktemp("members")
    columns = ["user_id", "age", "plan", "weekly_hours", "favourite_genres", "signup_date"]
    rows = pa.concat_tables(block.rows for block in DemoMembers(3 * BLOCK_ROWS + 1234).blocks(columns))
    for part in range(2):
        pq.write_table(rows.slice(part * 60_000, 60_000), folder / f"part-{part}.parquet", row_group_size=30_000)
    return folder


@pytest.fixture(scope="module")
def undisturbed(members: Path, tmp_path_factory: pytest.TempPathFactory) -> Bits:
    """Return the bits of the run of one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignments, "ROWS_PER_PART", BLOCK_ROWS)
        return bits(engine.fit(members, out=tmp_path_factory.mktemp("undisturbed") / "run", config=LEAN))


@pytest.fixture
def fault(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return arm(pass_name, kind), which arms a fault and returns a function that tells whether it has fired."""

    def arm(pass_name: str, kind: Fault) -> Callable[[], bool]:
        latch, original = tmp_path / "latch", Cluster.map

        def map_with_fault(self: Cluster, function: Any, tasks: Any, name: str, last_worker: Any = None) -> Any:
            function = with_fault(function, latch, kind) if name == pass_name else function
            return original(self, function, tasks, name, last_worker)

        monkeypatch.setattr(Cluster, "map", map_with_fault)
        threading.Thread(target=wake, args=(latch,), daemon=True).start()
        return latch.exists

    return arm


def with_fault(function: Callable[[Any], Any], latch: Path, kind: Fault) -> Callable[[Any], Any]:
    """Return the function with a fault that fires once: after the work is done, before its result is sent."""

    def run(task: Any) -> Any:
        result = function(task)
        try:
            with open(latch, "x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return result
        if kind == "exception":
            raise OSError("a disk that fails once")
        os.kill(os.getpid(), signal.SIGKILL if kind == "killed" else signal.SIGSTOP)
        return function(task)  # a stopped worker continues after its task was sent to another

    return run


def wake(latch: Path) -> None:
    """Continue the process that stopped itself, after its tasks were sent to others."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if latch.exists() and (pid := latch.read_text()):
            time.sleep(STOPPED_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGCONT)
            return
        time.sleep(0.05)


def bits(run: engine.Run) -> Bits:
    """Return what must be equal: every byte of the assignments and the model, and the results of K-Means."""
    files = sorted([*(run.path / "assignments").iterdir(), *(run.path / "model").iterdir(), run.path / "elbow.csv"])
    facts = [run.manifest[name] for name in ("inertia", "iterations", "rows")]
    return (*facts, *((path.name, path.read_bytes()) for path in files))


@contextlib.contextmanager
def running_cluster(folder: Path, **options: Any) -> Iterator[Any]:
    """Run a Dask cluster that the engine did not start, on threads of this process."""
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, local_directory=str(folder),
        host="127.0.0.1", silence_logs=50, scheduler_kwargs={"dashboard_address": "127.0.0.1:0"}, **options,
    )  # fmt: skip
    with cluster:
        yield cluster


def join(folder: Path, running: Any, **options: Any) -> Any:
    """Join a running cluster."""
    return open_cluster(ClusterConfig(scheduler=running.scheduler_address, **options), folder)


class BlockLengths:
    """A BlockObserver of the number of rows of every block."""

    def __init__(self) -> None:
        self.collected: list[int] = []

    @property
    def observe(self) -> Callable[[Block], int]:
        return len

    def collect(self, result: int) -> None:
        self.collected.append(result)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        raise AssertionError("there is no checkpoint in this test")


def statistics(members: Path) -> list[Any]:
    lengths = BlockLengths()
    features = fit_encoder(open_table(members, id="user_id"), id="user_id", observers=[lengths])
    columns = [(c.moments, c.counts, c.sample.tobytes()) for c in features.statistics.columns.values()]
    return [lengths.collected, columns, features.encoder.plan]


@pytest.mark.parametrize("kind", ["killed", "stopped", "exception"])
@pytest.mark.parametrize("pass_name", ["statistics", "moments", "scores", "survey", "k-means", "labels", "assign"])
def test_a_run_with_a_fault_is_the_run_of_one_process(
    cluster: Cluster, members: Path, undisturbed: Bits, fault: Callable[..., Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, pass_name: str, kind: Fault,
) -> None:  # fmt: skip
    monkeypatch.setattr(assignments, "ROWS_PER_PART", BLOCK_ROWS)
    monkeypatch.setattr(dask_cluster, "open_cluster", lambda *_, **__: contextlib.nullcontext(cluster))
    fired = fault(pass_name, kind)
    assert bits(engine.fit(members, out=tmp_path / "run", config=LEAN, workers=2)) == undisturbed
    assert fired()


@pytest.mark.parametrize("n_workers", [1, 3])
def test_any_number_of_workers_gives_the_run_of_one_process(
    members: Path, undisturbed: Bits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_workers: int
) -> None:
    monkeypatch.setattr(assignments, "ROWS_PER_PART", BLOCK_ROWS)
    assert bits(engine.fit(members, out=tmp_path / "run", config=LEAN, workers=n_workers)) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_directions_of_workers_are_those_of_one_process(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, shared, path = (tmp_path / name for name in ("alone", "shared", "t.parquet"))
    X = np.random.default_rng(0).normal(size=(3, BLOCK_ROWS + 100))
    pq.write_table(pa.table(dict(zip("abc", X, strict=True))), path)
    config = FitConfig(skip=LEAN.skip, kmeans=KMeansConfig(n_clusters=3, max_iter=5, metric="cosine"))
    expected = bits(engine.fit(path, out=alone, config=config))
    monkeypatch.setattr(dask_cluster, "open_cluster", lambda *_, **__: contextlib.nullcontext(cluster))
    assert bits(engine.fit(path, out=shared, config=config, workers=2)) == expected
    assert json.loads((shared / "manifest.json").read_text())["metric"] == "cosine"


def test_rules_and_places_of_workers_are_those_of_one_process(
    cluster: Cluster, members: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "open_cluster", lambda *_, **__: contextlib.nullcontext(cluster))
    config = FitConfig.merge(
        LEAN.model_dump(), skip=["report"], map={"n_landmarks": 100, "max_iter": 250, "place_all": True}
    )
    local = engine.fit(members, out=tmp_path / "here", config=config)
    remote = engine.fit(members, out=tmp_path / "there", config=config, workers=2)
    assert bits(remote) == bits(local)
    assert remote.map.equals(local.map)
    assert remote.rules == local.rules


def test_workers_assign_new_users_as_one_process_does(
    cluster: Cluster, members: Path, fault: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignments, "ROWS_PER_PART", BLOCK_ROWS)
    monkeypatch.setattr(dask_cluster, "open_cluster", lambda *_, **__: contextlib.nullcontext(cluster))
    model = engine.fit(members, out=tmp_path / "run", config=LEAN).model
    fired = fault("assign", "killed")
    local, remote = (
        model.assign(members, out=tmp_path / "here"),
        model.assign(members, out=tmp_path / "there", cluster=QUICK),
    )
    assert fired()
    parts = [sorted((path.name, path.read_bytes()) for path in folder.iterdir()) for folder in (local, remote)]
    assert parts[0] == parts[1]
    assert len(parts[0]) == 5  # four parts and _SUCCESS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "latch", "run", "there"]
    with pytest.raises(UsageError, match="--out must be a folder"):
        model.assign(members, out=tmp_path / "one.parquet", cluster=QUICK)


@pytest.mark.parametrize(("memory_limit", "n_read_again"), [(0, 4), (1 << 30, 0)])
def test_workers_read_again_only_what_they_could_not_cache(
    cluster: Cluster, members: Path, undisturbed: Bits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    memory_limit: int, n_read_again: int,
) -> None:  # fmt: skip
    original = Cluster.over_blocks

    def over_recorded_blocks(self: Cluster, function: Any, blocks: Any, n_blocks: int, pass_name: str) -> Any:
        return original(self, function, record_reads(blocks, tmp_path / pass_name), n_blocks, pass_name)

    monkeypatch.setattr(assignments, "ROWS_PER_PART", BLOCK_ROWS)
    monkeypatch.setattr(dask_cluster, "open_cluster", lambda *_, **__: contextlib.nullcontext(cluster))
    monkeypatch.setattr(Cluster, "over_blocks", over_recorded_blocks)
    monkeypatch.setattr("engine.pipeline.fit.BlockCache", lambda *_: BlockCache(memory_limit))
    for what in ("statistics", "ids", "moments", "scores", "audit"):
        (tmp_path / what).mkdir()
    assert bits(engine.fit(members, out=tmp_path / "run", config=LEAN, workers=2)) == undisturbed
    assert [len(list((tmp_path / what).iterdir())) for what in ("statistics", "moments", "scores")] == [
        4, n_read_again, n_read_again,
    ]  # fmt: skip


def record_reads(blocks: Callable[[int, int], Any], folder: Path) -> Callable[[int, int], Any]:
    """Return the same blocks; each one that is read from the table creates a file."""

    def read(first: int, stop: int) -> Iterator[Any]:
        for block in blocks(first, stop):
            if isinstance(getattr(block, "rows", None), Block | pa.Table):
                (folder / str(block.start)).touch()
            yield block

    return read


def test_workers_and_a_scheduler_exclude_each_other(members: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        engine.fit(members, out=tmp_path / "run", workers=2, scheduler="tcp://127.0.0.1:1")


def test_a_daemonic_process_fits_without_workers_and_is_told_so(
    members: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="workers=2 cannot be started: this is a daemonic process"):
        engine.fit(members, out=tmp_path / "run", workers=2)
    assert list(tmp_path.iterdir()) == []


def test_a_running_cluster_is_joined_and_left_as_it_was(members: Path, tmp_path: Path) -> None:
    expected = statistics(members)
    with running_cluster(tmp_path, protocol="tcp") as running:
        for _ in range(2):
            with join(tmp_path, running) as cluster, passes.run_on(cluster):
                assert statistics(members) == expected
        assert len(running.scheduler.workers) == 2
        assert not running.scheduler.tasks
    assert [path.name for path in tmp_path.glob("probe-*")] == []


@pytest.fixture
def scheduler_process(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Yield the address and the process of a scheduler that has one worker in another process."""
    facts = tmp_path / "scheduler.json"
    scheduler = start_process(
        "scheduler", "--port", "0", "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", facts
    )
    worker = start_process("worker", "--nthreads", "1", "--no-nanny", "--local-directory", str(tmp_path), facts)
    try:
        while not facts.exists():
            time.sleep(0.05)
        yield json.loads(facts.read_text())["address"], scheduler
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


def test_a_run_is_resumed_after_its_scheduler_was_lost(
    scheduler_process: tuple[str, subprocess.Popen[bytes]], members: Path, undisturbed: Bits, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (address, scheduler), original, pass_names = scheduler_process, Cluster.map, list[str]()

    def map_and_kill(self: Cluster, function: Any, tasks: Any, name: str, last_worker: Any = None) -> Any:
        pass_names.append(name)
        if pass_names.count("k-means") == 2:
            scheduler.kill()
        return original(self, function, tasks, name, last_worker)

    monkeypatch.setattr(assignments, "ROWS_PER_PART", BLOCK_ROWS)
    monkeypatch.setattr(Cluster, "map", map_and_kill)
    with pytest.raises(SchedulerLostError, match="does not answer any more") as error:
        engine.fit(members, out=tmp_path / "run", config=LEAN, scheduler=address)
    assert "--resume" in str(error.value)
    resumed = engine.fit(members, out=tmp_path / "run", config=LEAN, resume=True)
    assert bits(resumed) == undisturbed
    assert not {"ids", "statistics", "pca"} & {stage["stage"] for stage in resumed.manifest["stages"]}


def start_process(role: str, *options: Any) -> subprocess.Popen[bytes]:
    """Start a scheduler or a worker; the last option is the file by which they find each other."""
    *others, facts = options
    command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *others, "--scheduler-file", str(facts)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def test_an_address_without_a_scheduler_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.execution.dask_client.RESPONSE_TIMEOUT", 1.0)
    with (
        pytest.raises(SchedulerLostError, match=r"127\.0\.0\.1:1 does not answer"),
        open_cluster(ClusterConfig(scheduler="tcp://127.0.0.1:1"), tmp_path),
    ):
        pass


def test_workers_that_do_not_see_the_folder_or_have_other_versions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(probe: Path) -> Any:
        return describe(probe)._replace(sees_folder=(probe.parent / "elsewhere" / probe.name).is_file())

    def older(probe: Path) -> Any:
        return describe(probe)._replace(versions=describe(probe).versions | {"numba": "0.60.0"})

    describe = dask_cluster._describe_worker
    with running_cluster(tmp_path, protocol="tcp") as running:
        for describe_otherwise, message in [
            (elsewhere, "does not see the folder"),
            (older, r"has numba 0\.60\.0 \(here"),
        ]:
            monkeypatch.setattr(dask_cluster, "_describe_worker", describe_otherwise)
            with pytest.raises(WorkersDifferError, match=message), join(tmp_path, running):
                pass


def test_tables_that_cannot_be_read_in_parts_are_refused(cluster: Cluster) -> None:
    with passes.run_on(cluster), pytest.raises(UsageError, match="Parquet"):
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
    with running_cluster(tmp_path, protocol="tls", security=security) as running:
        settings = ClusterConfig(
            scheduler=running.scheduler_address, tls_ca=str(cert), tls_cert=str(cert), tls_key=str(key)
        )
        assert running.scheduler_address.startswith("tls://")
        with open_cluster(settings, tmp_path) as cluster:
            assert list(cluster.over_rows(lambda rows: rows.start, 4, 1, "starts")) == [0, 1, 2, 3]
        missing_files = pytest.raises(UsageError, match="needs the TLS files --tls-cert, --tls-key")
        with missing_files, join(tmp_path, running, tls_ca=str(cert)):
            pass
    files_without_tls = pytest.raises(UsageError, match="not a tls:// address")
    with files_without_tls, open_cluster(ClusterConfig(scheduler="tcp://127.0.0.1:1", tls_ca=str(cert)), tmp_path):
        pass
