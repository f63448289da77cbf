"""Multi-GPU K-Means: cuML is called by its recorded signature, from a child process with a deadline."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import dask
import dask.array
import numpy as np
import pytest

from engine.backends.cpu import CpuBackend
from engine.backends.protocol import LibraryKMeansSettings
from engine.config import ClusterConfig
from engine.errors import TaskFailedError, UsageError, WorkersLostError
from engine.execution import dask_client, dask_cluster
from engine.execution.array_storage import Storage
from engine.execution.cluster import Cluster, WorkerResources
from engine.execution.passes import run_on
from engine.execution.task_scheduler import Reply, RetryPolicy, TaskScheduler
from engine.kmeans import multi_gpu
from engine.kmeans.multi_gpu import MultiGpuKMeans
from engine.kmeans.restarts import cluster_rows
from tests.gpu.contract import bind

PLAN = LibraryKMeansSettings(3, 2, 50, 1e-3, 17)
SETTINGS = ClusterConfig(workers=2, deadline_seconds=20.0)


@pytest.fixture
def rows(tmp_path: Path) -> Any:
    """Return rows in a mapped file."""
    X = Storage(tmp_path).array("Z", (101, 4), np.float32)
    X[:] = np.random.default_rng(0).normal(size=X.shape) + np.arange(101)[:, None] % 3 * 9
    return X


class Client:
    """Stand-in for a Dask client whose workers compute in this thread."""

    def __init__(self) -> None:
        self.workers: list[str] = []

    def nthreads(self) -> dict[str, int]:
        return {"tcp://b": 1, "tcp://a": 1, "tcp://c": 1}

    def persist(self, shard: Any, *, workers: list[str]) -> Any:
        self.workers += workers
        return shard.persist(scheduler="synchronous")


@pytest.fixture
def cuml(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace cuml.dask by a stand-in, and return a record of its arguments."""
    record: dict[str, Any] = {}

    class KMeans:
        n_iter_ = 8

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            record.update(bind("cuml.dask.cluster.KMeans", *args, **kwargs)["kwargs"])
            record["client"], record["n_clusters"] = kwargs["client"], kwargs["n_clusters"]

        def fit(self, *args: Any) -> KMeans:
            X = bind("cuml.dask.cluster.KMeans.fit", *args)["X"]
            record["chunks"], record["X"] = X.chunks, X.compute(scheduler="synchronous")
            self.cluster_centers_ = record["X"][: record["n_clusters"]]
            return self

    cupy: Any = ModuleType("cupy")
    cupy.empty, cupy.asarray = np.empty, np.asarray
    library: Any = ModuleType("cuml.dask.cluster")
    library.KMeans = KMeans
    modules = {"cupy": cupy, "cuml": ModuleType("cuml"), "cuml.dask": ModuleType("cuml.dask")}
    for name, module in (modules | {"cuml.dask.cluster": library}).items():
        monkeypatch.setitem(sys.modules, name, module)
    return record


@pytest.mark.parametrize("start", ["scalable-k-means++", np.eye(3, 4, dtype=np.float32)])
def test_every_worker_gets_a_share_and_the_library_what_its_signature_allows(
    cuml: dict[str, Any], rows: Any, start: Any
) -> None:
    client = Client()
    task = {"rows": rows.filename, "shape": rows.shape, "plan": PLAN._asdict()}
    centers, n_iter = multi_gpu.fit_on_workers(
        client, task | {"start": start if isinstance(start, str) else start.tolist()}
    )
    assert client.workers == ["tcp://a", "tcp://b", "tcp://c"]
    assert cuml["chunks"] == ((33, 34, 34), (4,))
    np.testing.assert_array_equal(cuml["X"], rows)
    np.testing.assert_array_equal(cuml["init"], start)
    expected = {"n_clusters": 3, "n_init": 2, "max_iter": 50, "tol": 1e-3, "random_state": 17}
    assert {name: cuml[name] for name in expected} == expected
    np.testing.assert_array_equal(centers, rows[:3])
    assert n_iter == 8


def replace_child(monkeypatch: pytest.MonkeyPatch, code: str) -> list[list[str]]:
    """Let the child run a line of Python code, in which `task` is its task; return the commands of the children."""
    run, commands = multi_gpu._run_child, []
    line = f"import json, sys, os, time; import numpy as np; task = json.load(open(sys.argv[1])); {code}"

    def run_code(command: list[str], seconds: float) -> None:
        commands.append(command)
        run([sys.executable, "-c", line, command[-1]], seconds)

    monkeypatch.setattr(multi_gpu, "_run_child", run_code)
    return commands


def test_the_child_gets_its_task_and_returns_centers(
    monkeypatch: pytest.MonkeyPatch, rows: Any, tmp_path: Path
) -> None:
    code = "np.savez(task['found'], centres=np.array(task['start']) + 1, iterations=task['plan']['n_init'])"
    commands = replace_child(monkeypatch, code)
    centers, n_iter = MultiGpuKMeans("tcp://here:1", SETTINGS, tmp_path).fit_centers(
        rows, np.zeros((3, 4), np.float32), PLAN
    )
    assert (centers.dtype, centers.tolist(), n_iter) == (np.float32, np.ones((3, 4)).tolist(), 2)
    assert commands[0][1:3] == ["-m", "engine.kmeans.multi_gpu"]
    task = json.loads(Path(commands[0][3]).read_text())
    assert (task["scheduler"], task["rows"], task["shape"]) == ("tcp://here:1", str(rows.filename), [101, 4])
    assert ClusterConfig(**task["wanted"]) == SETTINGS


def test_a_child_that_hangs_is_killed_with_all_processes_that_it_started(
    monkeypatch: pytest.MonkeyPatch, rows: Any, tmp_path: Path
) -> None:
    replace_child(monkeypatch, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    settings = SETTINGS.model_copy(update={"deadline_seconds": 1.5})
    start = time.monotonic()
    with pytest.raises(WorkersLostError, match=r"found no result in 1\.5 s.*\nHint: start the workers anew"):
        MultiGpuKMeans("tcp://here:1", settings, tmp_path).fit_centers(rows, "random", PLAN)
    assert time.monotonic() - start < 15
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_reason_why_the_child_failed_is_reported(
    monkeypatch: pytest.MonkeyPatch, rows: Any, tmp_path: Path
) -> None:
    replace_child(monkeypatch, "print('noise', file=sys.stderr); raise ValueError('no NCCL here')")
    with pytest.raises(
        TaskFailedError, match=r"without centres \(status 1\): ValueError: no NCCL here\nHint: cuml.dask needs"
    ):
        MultiGpuKMeans("tcp://here:1", SETTINGS, tmp_path).fit_centers(rows, "random", PLAN)


def test_the_child_connects_to_the_scheduler_and_writes_the_result(
    cuml: dict[str, Any], monkeypatch: pytest.MonkeyPatch, rows: Any, tmp_path: Path
) -> None:
    @contextmanager
    def connect_client(address: str, security: Any) -> Iterator[Client]:
        assert (address, security) == ("tcp://here:1", None)
        yield Client()

    monkeypatch.setattr(dask_client, "connect_client", connect_client)
    task = {"rows": str(rows.filename), "shape": [101, 4], "plan": PLAN._asdict(), "start": "random"}
    settings = ClusterConfig(scheduler="tcp://here:1").model_dump()
    multi_gpu.fit_task(task | {"scheduler": "tcp://here:1", "wanted": settings, "found": str(tmp_path / "found.npz")})
    with np.load(tmp_path / "found.npz") as result:
        np.testing.assert_array_equal(result["centres"], rows[:3])
        assert result["iterations"] == 8


class LocalWorkers:
    """Stand-in for workers: tasks are computed in this process."""

    def addresses(self) -> list[str]:
        return ["a", "b"]

    def send(self, address: str, function: Any, task: Any, reply: Any) -> None:
        reply(Reply(function(task)))

    def release(self, handle: Any) -> None:
        pass


def test_labels_and_inertia_of_the_librarys_centers_are_computed_on_the_workers(
    monkeypatch: pytest.MonkeyPatch, rows: Any, tmp_path: Path
) -> None:
    class BackendWithGpus(CpuBackend):
        one_per_worker = True

    def fit_centers(
        multi_gpu_kmeans: MultiGpuKMeans, X: Any, start: Any, plan: LibraryKMeansSettings
    ) -> tuple[Any, int]:
        assert multi_gpu_kmeans == MultiGpuKMeans("tcp://here:1", SETTINGS, tmp_path)
        assert (X is rows, start, plan.n_clusters) == (True, "scalable-k-means++", 3)
        return np.ascontiguousarray(rows[:3]), 4

    monkeypatch.setattr(MultiGpuKMeans, "fit_centers", fit_centers)
    cluster = Cluster(
        TaskScheduler(LocalWorkers(), RetryPolicy()),
        64,
        WorkerResources(1, 1, 1 << 30),
        scheduler_address="tcp://here:1",
        settings=SETTINGS,
        folder=tmp_path,
    )
    with run_on(cluster):
        clustering = cluster_rows(rows, 3, BackendWithGpus(), seed=0, algorithm="cuml", storage=Storage(tmp_path))
    d2 = np.square(rows[:, None].astype(np.float64) - rows[:3]).sum(axis=2)
    np.testing.assert_array_equal(clustering.labels, d2.argmin(axis=1))
    assert clustering.inertia == pytest.approx(d2.min(axis=1).sum())
    assert clustering.n_iter == 4


def test_cuml_without_a_gpu_is_refused_with_and_without_workers(rows: Any) -> None:
    with pytest.raises(UsageError, match="runs on device 'cuda' only"):
        cluster_rows(rows, 3, CpuBackend(), seed=0, algorithm="cuml")


class StartedCluster:
    scheduler_address = "tcp://127.0.0.1:1"

    def close(self, timeout: float) -> None:
        pass


def test_workers_started_here_get_a_gpu_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record: dict[str, Any] = {}

    def start(*args: Any, **kwargs: Any) -> StartedCluster:
        record.update(bind("dask_cuda.LocalCUDACluster", *args, **kwargs))
        record["environ"] = dict(dask.config.get("distributed.nanny.environ"))
        return StartedCluster()

    library: Any = ModuleType("dask_cuda")
    library.LocalCUDACluster = start
    monkeypatch.setitem(sys.modules, "dask_cuda", library)
    with dask_cluster._local_cluster(2, tmp_path, True, ()):
        pass
    assert (record["n_workers"], record["threads_per_worker"]) == (2, 1)
    assert record["memory_limit"] == record["device_memory_limit"] == 0
    assert int(record["environ"]["ROOMS_NUM_THREADS"]) >= 1

    def too_many(**kwargs: Any) -> None:
        raise ValueError("Can not scale beyond visible devices")

    library.LocalCUDACluster = too_many
    with (
        pytest.raises(UsageError, match="2 workers cannot get a GPU each: Can not scale"),
        dask_cluster._local_cluster(2, tmp_path, True, ()),
    ):
        pass
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    with (
        pytest.raises(UsageError, match=r"need dask-cuda, and dask_cuda is not installed"),
        dask_cluster._local_cluster(2, tmp_path, True, ()),
    ):
        pass
