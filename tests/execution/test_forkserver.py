"""Workers as forks: what they have from the process they come from, and what that process must not have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver as python_forkserver
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest

from engine.config import ClusterConfig
from engine.datasets.demo_table import DemoPaths
from engine.execution import forkserver
from engine.execution.cluster import Cluster
from engine.execution.dask_cluster import connected
from engine.pipeline.worker_modules import WORKER_MODULES

cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.skipif(forkserver.METHOD == "spawn", reason="workers are not forked here")
SLOW_START = 30.0  # seconds


@pytest.fixture(scope="module", autouse=True)
def _a_server_of_its_own() -> None:
    """Stop the server that earlier tests in this process have left: it may have imported less."""
    python_forkserver._forkserver._stop()  # type: ignore[attr-defined]


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("ROOMS_TEST_SEEN", "by workers")
    with connected(ClusterConfig(workers=2, deadline_seconds=60.0), tmp_path, modules=WORKER_MODULES) as found:
        yield found


def asked(workers: Cluster, question: Callable[[Any], Any]) -> list[Any]:
    return list(workers.map(question, [0, 1], "question", dict(enumerate(workers.dispatcher.here()))))


def the_server() -> psutil.Process:
    forkserver.start(WORKER_MODULES)
    return psutil.Process(python_forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]


def test_workers_are_forks_of_one_process_that_has_imported_everything(workers: Cluster) -> None:
    def seen(_: int) -> Any:
        return os.getpid(), os.getppid(), "engine.pipeline.fit" in sys.modules, os.environ.get("ROOMS_TEST_SEEN")

    (first, *one), (second, *other) = asked(workers, seen)
    assert first != second
    assert one == other == [the_server().pid, True, "by workers"]


def test_the_process_that_is_forked_has_one_thread_and_is_deaf_to_ctrl_c() -> None:
    server = the_server()
    until = time.monotonic() + SLOW_START
    while not has_arrow(server) and time.monotonic() < until:
        time.sleep(0.1)
    assert server.num_threads() == 1
    server.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert server.is_running()
    assert server.status() != psutil.STATUS_ZOMBIE


def has_arrow(server: psutil.Process) -> bool:
    return any(Path(found.path).name.startswith("_parquet") for found in server.memory_maps())


def test_starting_it_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = dict(os.environ)
    with forkserver._environment(forkserver.ENVIRONMENT):
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert dict(os.environ) == before


def test_a_worker_that_was_killed_comes_back_as_a_fork(workers: Cluster) -> None:
    lost = dict(asked(workers, lambda task: (task, os.getpid())))[0]
    os.kill(lost, signal.SIGKILL)
    until = time.monotonic() + SLOW_START
    pids: set[int] = {lost}
    while (lost in pids or len(pids) < 2) and time.monotonic() < until:
        time.sleep(0.2)
        pids = {child.pid for child in the_server().children()}
    assert len(pids) == 2
    assert lost not in pids


def test_a_script_that_workers_cannot_import_is_told_how_to_be_written(demo: DemoPaths, tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    call = f"engine.fit({str(demo.members)!r}, out={str(tmp_path / 'run')!r}, id='user_id', n_clusters=3, workers=1)"
    script.write_text(f"import engine\n{call}\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "WorkersLostError: No worker could be started" in done.stderr
    assert "if __name__ == '__main__':" in done.stderr
    assert not (tmp_path / "run").exists()
