"""The fork server: what workers inherit from it, and that it has one thread and ignores Ctrl-C."""

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
from engine.execution.dask_cluster import open_cluster
from engine.pipeline.worker_modules import WORKER_MODULES

cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.skipif(forkserver.METHOD == "spawn", reason="workers are not forked here")
SLOW_START = 30.0  # seconds


@pytest.fixture(scope="module", autouse=True)
def _new_server() -> None:
    """Stop the server of earlier tests in this process, which may have imported less."""
    python_forkserver._forkserver._stop()  # type: ignore[attr-defined]


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("ROOMS_TEST_VARIABLE", "set by the test")
    with open_cluster(ClusterConfig(workers=2, deadline_seconds=60.0), tmp_path, modules=WORKER_MODULES) as cluster:
        yield cluster


def run_on_each(workers: Cluster, function: Callable[[Any], Any]) -> list[Any]:
    one_task_each = dict(enumerate(workers.task_scheduler.live_workers()))
    return list(workers.map(function, [0, 1], "test", one_task_each))


def server_process() -> psutil.Process:
    forkserver.start(WORKER_MODULES)
    return psutil.Process(python_forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]


def test_workers_are_forks_of_one_process_that_has_imported_everything(workers: Cluster) -> None:
    def describe(_: int) -> Any:
        return os.getpid(), os.getppid(), "engine.pipeline.fit" in sys.modules, os.environ.get("ROOMS_TEST_VARIABLE")

    (first, *first_rest), (second, *second_rest) = run_on_each(workers, describe)
    assert first != second
    assert first_rest == second_rest == [server_process().pid, True, "set by the test"]


def test_the_server_has_one_thread_and_ignores_ctrl_c() -> None:
    server = server_process()
    until = time.monotonic() + SLOW_START
    while not has_arrow(server) and time.monotonic() < until:
        time.sleep(0.1)
    assert server.num_threads() == 1
    server.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert server.is_running()
    assert server.status() != psutil.STATUS_ZOMBIE


def has_arrow(server: psutil.Process) -> bool:
    return any(Path(mapped.path).name.startswith("_parquet") for mapped in server.memory_maps())


def test_starting_the_server_leaves_the_environment_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = dict(os.environ)
    with forkserver._environment(forkserver.ENVIRONMENT):
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert dict(os.environ) == before


def test_a_killed_worker_is_restarted_as_a_fork(workers: Cluster) -> None:
    lost = dict(run_on_each(workers, lambda task: (task, os.getpid())))[0]
    os.kill(lost, signal.SIGKILL)
    until = time.monotonic() + SLOW_START
    pids: set[int] = {lost}
    while (lost in pids or len(pids) < 2) and time.monotonic() < until:
        time.sleep(0.2)
        pids = {child.pid for child in server_process().children()}
    assert len(pids) == 2
    assert lost not in pids


def test_a_script_without_a_main_guard_gets_an_error_that_names_it(demo: DemoPaths, tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    call = f"engine.fit({str(demo.members)!r}, out={str(tmp_path / 'run')!r}, id='user_id', n_clusters=3, workers=1)"
    script.write_text(f"import engine\n{call}\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "WorkersLostError: No worker could be started" in done.stderr
    assert "if __name__ == '__main__':" in done.stderr
    assert not (tmp_path / "run").exists()
