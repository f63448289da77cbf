"""cuML on all workers together: as its signature allows, from a process that ends, with what it found or an error."""

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
from engine.backends.protocol import LibraryPlan
from engine.config import ClusterConfig
from engine.errors import TaskFailedError, UsageError, WorkersLostError
from engine.execution import dask_client, dask_cluster
from engine.execution.array_storage import Storage
from engine.execution.cluster import Cluster, Crew
from engine.execution.passes import on
from engine.execution.task_scheduler import Dispatcher, Patience, Reply
from engine.kmeans import multi_gpu as collective
from engine.kmeans.multi_gpu import MultiGpuKMeans
from engine.kmeans.restarts import cluster_rows
from tests.gpu.libraries import bind

PLAN = LibraryPlan(3, 2, 50, 1e-3, 17)
WANTED = ClusterConfig(workers=2, deadline_seconds=20.0)


@pytest.fixture
def rows(tmp_path: Path) -> Any:
    """Return rows in a mapped file."""
    X = Storage(tmp_path).array("Z", (101, 4), np.float32)
    X[:] = np.random.default_rng(0).normal(size=X.shape) + np.arange(101)[:, None] % 3 * 9
    return X


class Client:
    """Workers that are this thread."""

    def __init__(self) -> None:
        self.placed: list[str] = []

    def nthreads(self) -> dict[str, int]:
        return {"tcp://b": 1, "tcp://a": 1, "tcp://c": 1}

    def persist(self, share: Any, *, workers: list[str]) -> Any:
        self.placed += workers
        return share.persist(scheduler="synchronous")


@pytest.fixture
def cuml(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put a stand-in for cuml.dask in its place, and return what it was told."""
    told: dict[str, Any] = {}

    class KMeans:
        n_iter_ = 8

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            told.update(bind("cuml.dask.cluster.KMeans", *args, **kwargs)["kwargs"])
            told["client"], told["n_clusters"] = kwargs["client"], kwargs["n_clusters"]

        def fit(self, *args: Any) -> KMeans:
            X = bind("cuml.dask.cluster.KMeans.fit", *args)["X"]
            told["chunks"], told["X"] = X.chunks, X.compute(scheduler="synchronous")
            self.cluster_centers_ = told["X"][: told["n_clusters"]]
            return self

    cupy: Any = ModuleType("cupy")
    cupy.empty, cupy.asarray = np.empty, np.asarray
    library: Any = ModuleType("cuml.dask.cluster")
    library.KMeans = KMeans
    modules = {"cupy": cupy, "cuml": ModuleType("cuml"), "cuml.dask": ModuleType("cuml.dask")}
    for name, module in (modules | {"cuml.dask.cluster": library}).items():
        monkeypatch.setitem(sys.modules, name, module)
    return told


@pytest.mark.parametrize("start", ["scalable-k-means++", np.eye(3, 4, dtype=np.float32)])
def test_every_worker_gets_a_share_and_the_library_what_its_signature_allows(
    cuml: dict[str, Any], rows: Any, start: Any
) -> None:
    client = Client()
    task = {"rows": rows.filename, "shape": rows.shape, "plan": PLAN._asdict()}
    centres, iterations = collective.fit_on(
        client, task | {"start": start if isinstance(start, str) else start.tolist()}
    )
    assert client.placed == ["tcp://a", "tcp://b", "tcp://c"]
    assert cuml["chunks"] == ((33, 34, 34), (4,))
    np.testing.assert_array_equal(cuml["X"], rows)
    np.testing.assert_array_equal(cuml["init"], start)
    wanted = {"n_clusters": 3, "n_init": 2, "max_iter": 50, "tol": 1e-3, "random_state": 17}
    assert {name: cuml[name] for name in wanted} == wanted
    np.testing.assert_array_equal(centres, rows[:3])
    assert iterations == 8


def child_that(monkeypatch: pytest.MonkeyPatch, does: str) -> list[list[str]]:
    """Let the child run a line of Python, which finds its task as `task`."""
    run, commands = collective._run, []
    line = f"import json, sys, os, time; import numpy as np; task = json.load(open(sys.argv[1])); {does}"

    def instead(command: list[str], seconds: float) -> None:
        commands.append(command)
        run([sys.executable, "-c", line, command[-1]], seconds)

    monkeypatch.setattr(collective, "_run", instead)
    return commands


def test_the_child_gets_its_task_and_hands_back_centres(
    monkeypatch: pytest.MonkeyPatch, rows: Any, tmp_path: Path
) -> None:
    does = "np.savez(task['found'], centres=np.array(task['start']) + 1, iterations=task['plan']['n_runs'])"
    commands = child_that(monkeypatch, does)
    found = MultiGpuKMeans("tcp://here:1", WANTED, tmp_path).centres(rows, np.zeros((3, 4), np.float32), PLAN)
    assert (found[0].dtype, found[0].tolist(), found[1]) == (np.float32, np.ones((3, 4)).tolist(), 2)
    assert commands[0][1:3] == ["-m", "engine.kmeans.multi_gpu"]
    task = json.loads(Path(commands[0][3]).read_text())
    assert (task["scheduler"], task["rows"], task["shape"]) == ("tcp://here:1", str(rows.filename), [101, 4])
    assert ClusterConfig(**task["wanted"]) == WANTED


def test_a_child_that_waits_for_ever_is_ended_with_all_it_started(
    monkeypatch: pytest.MonkeyPatch, rows: Any, tmp_path: Path
) -> None:
    child_that(monkeypatch, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    wanted = WANTED.model_copy(update={"deadline_seconds": 1.5})
    start = time.monotonic()
    with pytest.raises(WorkersLostError, match=r"found nothing in 1\.5 s.*\nHint: start the workers anew"):
        MultiGpuKMeans("tcp://here:1", wanted, tmp_path).centres(rows, "random", PLAN)
    assert time.monotonic() - start < 15
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_why_the_child_ended_without_centres_is_told(
    monkeypatch: pytest.MonkeyPatch, rows: Any, tmp_path: Path
) -> None:
    child_that(monkeypatch, "print('noise', file=sys.stderr); raise ValueError('no NCCL here')")
    with pytest.raises(
        TaskFailedError, match=r"without centres \(status 1\): ValueError: no NCCL here\nHint: cuml.dask needs"
    ):
        MultiGpuKMeans("tcp://here:1", WANTED, tmp_path).centres(rows, "random", PLAN)


def test_the_childs_part_joins_the_scheduler_and_writes_what_it_found(
    cuml: dict[str, Any], monkeypatch: pytest.MonkeyPatch, rows: Any, tmp_path: Path
) -> None:
    @contextmanager
    def client_of(address: str, security: Any) -> Iterator[Client]:
        assert (address, security) == ("tcp://here:1", None)
        yield Client()

    monkeypatch.setattr(dask_client, "client_of", client_of)
    task = {"rows": str(rows.filename), "shape": [101, 4], "plan": PLAN._asdict(), "start": "random"}
    wanted = ClusterConfig(scheduler="tcp://here:1").model_dump()
    collective.fit_task(task | {"scheduler": "tcp://here:1", "wanted": wanted, "found": str(tmp_path / "found.npz")})
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_array_equal(found["centres"], rows[:3])
        assert found["iterations"] == 8


class Here:
    """Workers that are this process."""

    def addresses(self) -> list[str]:
        return ["a", "b"]

    def send(self, address: str, function: Any, task: Any, reply: Any) -> None:
        reply(Reply(function(task)))

    def forget(self, handle: Any) -> None:
        pass


def test_labels_and_inertia_of_the_librarys_centres_are_found_on_the_workers(
    monkeypatch: pytest.MonkeyPatch, rows: Any, tmp_path: Path
) -> None:
    class OnGpus(CpuBackend):
        one_per_worker = True

    def centres(asked: MultiGpuKMeans, X: Any, start: Any, plan: LibraryPlan) -> tuple[Any, int]:
        assert asked == MultiGpuKMeans("tcp://here:1", WANTED, tmp_path)
        assert (X is rows, start, plan.n_clusters) == (True, "scalable-k-means++", 3)
        return np.ascontiguousarray(rows[:3]), 4

    monkeypatch.setattr(MultiGpuKMeans, "centres", centres)
    cluster = Cluster(
        Dispatcher(Here(), Patience()),
        64,
        Crew(1, 1, 1 << 30),
        scheduler="tcp://here:1",
        settings=WANTED,
        folder=tmp_path,
    )
    with on(cluster):
        found = cluster_rows(rows, 3, OnGpus(), seed=0, algorithm="cuml", storage=Storage(tmp_path))
    away = np.square(rows[:, None].astype(np.float64) - rows[:3]).sum(axis=2)
    np.testing.assert_array_equal(found.labels, away.argmin(axis=1))
    assert found.inertia == pytest.approx(away.min(axis=1).sum())
    assert found.n_iter == 4


def test_cuml_without_a_gpu_is_refused_with_and_without_workers(rows: Any) -> None:
    with pytest.raises(UsageError, match="runs on device 'cuda' only"):
        cluster_rows(rows, 3, CpuBackend(), seed=0, algorithm="cuml")


class Started:
    scheduler_address = "tcp://127.0.0.1:1"

    def close(self, timeout: float) -> None:
        pass


def test_workers_started_here_get_a_gpu_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: dict[str, Any] = {}

    def start(*args: Any, **kwargs: Any) -> Started:
        told.update(bind("dask_cuda.LocalCUDACluster", *args, **kwargs))
        told["environ"] = dict(dask.config.get("distributed.nanny.environ"))
        return Started()

    library: Any = ModuleType("dask_cuda")
    library.LocalCUDACluster = start
    monkeypatch.setitem(sys.modules, "dask_cuda", library)
    with dask_cluster._local_cluster(2, tmp_path, True, ()):
        pass
    assert (told["n_workers"], told["threads_per_worker"]) == (2, 1)
    assert told["memory_limit"] == told["device_memory_limit"] == 0
    assert int(told["environ"]["ROOMS_NUM_THREADS"]) >= 1

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
