"""Workers of a Dask cluster: processes started here for one job, or those of a running scheduler.

    workers=4 or scheduler="tls://…", a folder that all see  ->  Cluster of these workers

A task is sent to one worker by its address: Dask carries tasks and lists the workers; task_scheduler.py decides which
worker gets a task, and what happens when a worker is lost. So there is no task graph, and the scheduler keeps no
results. Partial results come from the workers directly; rows never travel. Workers with other versions, or that do not
see the shared folder, are refused: their results would differ, or be missing.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import platform
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import dask
from distributed import Client, Future, LocalCluster
from distributed import TimeoutError as DaskTimeoutError

from engine.config import ClusterConfig
from engine.errors import SchedulerLostError, UsageError, WorkersDifferError, WorkersLostError
from engine.execution import forkserver
from engine.execution.block_cache import run_cleanups
from engine.execution.cluster import Cluster, WorkerResources
from engine.execution.dask_client import CLOSE_TIMEOUT, RESPONSE_TIMEOUT, connect_client, tls_security
from engine.execution.memory import available_memory
from engine.execution.task_scheduler import Reply, RetryPolicy, TaskScheduler
from engine.execution.threads import thread_count
from engine.utils.signals import on_signal

KILL_TIMEOUT = 2.0  # seconds that workers have to close after a signal
CLEANUP_TIMEOUT = 1.0  # seconds that workers of a running cluster have to drop a job's rows
SAME_VERSIONS = ("rooms-engine", "numpy", "numba", "pyarrow")  # on all workers, or bits might differ

# Settings of clusters started here: task_scheduler.py places tasks, and the memory plan bounds memory.
_SETTINGS: dict[str, Any] = {
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.limit": "1h",
    # With a threshold for trimming, glibc maps every block's arrays anew, page by page. Moments of a million members
    # took 1.5 CPU seconds with Dask's, and 1.2 without it, as in one process.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}


@contextmanager
def open_cluster(
    settings: ClusterConfig, folder: Path, *, on_gpus: bool = False, modules: Sequence[str] = ()
) -> Iterator[Cluster]:
    """Start workers or join a running cluster, check the workers, and yield the cluster; leave it in the end.

    Parameters
    ----------
    settings : ClusterConfig
        Names either `workers` or a `scheduler`.
    folder : Path
        Folder that all workers see; workers started here put their own files below it, too.
    on_gpus : bool, default=False
        Whether workers started here get a GPU each.
    modules : sequence of str, default=()
        Modules that the fork server imports for workers started here.

    Raises
    ------
    UsageError, SchedulerLostError, WorkersLostError, WorkersDifferError
    """
    retry_policy = RetryPolicy(settings.overdue_seconds, settings.deadline_seconds, settings.attempts)
    with ExitStack() as stack:
        if settings.scheduler is None:
            assert settings.workers is not None
            address: Any = stack.enter_context(_local_cluster(settings.workers, folder, on_gpus, modules))
            security = None
        else:
            address, security = settings.scheduler, tls_security(settings)
        client = stack.enter_context(connect_client(address, security))
        workers = DaskWorkers(client)
        task_scheduler = TaskScheduler(workers, retry_policy)
        resources = _check_workers(task_scheduler, workers, folder)
        try:
            yield Cluster(
                task_scheduler, settings.task_rows, resources,
                scheduler_address=workers.scheduler_address, settings=settings, folder=folder,
            )  # fmt: skip
        finally:
            if settings.scheduler is not None:
                _clean_up_workers(workers)


class DaskWorkers:
    """The workers of a client's scheduler, as task_scheduler.Workers."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def addresses(self) -> list[str]:
        """Return the addresses of the workers; raises SchedulerLostError."""
        try:
            if self._client.status == "running":
                identity = self._client.scheduler.identity
                reply = self._client.sync(identity, n_workers=-1, callback_timeout=RESPONSE_TIMEOUT)
                return sorted(reply["workers"])
        except (OSError, DaskTimeoutError, AttributeError):  # AttributeError: the client is closing
            pass
        raise SchedulerLostError(
            f"The scheduler {self.scheduler_address} does not answer any more.",
            hint="start it and its workers again, and run the same command with --resume.",
        )

    def send(self, address: str, function: Callable[[Any], Any], task: Any, reply: Callable[[Reply], None]) -> Future:
        """Submit function(task) to one worker."""
        try:
            future = self._client.submit(
                function, task, key=f"rooms-{uuid.uuid4().hex}", pure=False, workers=[address], retries=0
            )
        except (OSError, RuntimeError):  # the client is closing: addresses() raises the error
            self.addresses()
            raise
        future.add_done_callback(lambda done: self._client.loop.add_callback(self._fetch, done, reply))
        return future

    def release(self, handle: Future) -> None:
        """Release a task: the scheduler drops it, and its result."""
        handle.release()

    async def _fetch(self, future: Future, reply: Callable[[Reply], None]) -> None:
        """Fetch a task's result from its worker; the timeout is for a worker that is stopped while it holds one."""
        try:
            async with asyncio.timeout(RESPONSE_TIMEOUT):
                reply(Reply(await self._client.gather(future, asynchronous=True)))
        except (Exception, CancelledError) as error:  # includes the error of the task itself
            reply(Reply(error=error))

    @property
    def scheduler_address(self) -> str:
        """The scheduler's address."""
        return str(getattr(self._client.scheduler, "address", "of the cluster"))


@contextmanager
def _local_cluster(n_workers: int, folder: Path, on_gpus: bool, modules: Sequence[str]) -> Iterator[LocalCluster]:
    """Yield worker processes that share this machine's threads; a nanny restarts each that ends."""
    method = "spawn" if on_gpus else forkserver.METHOD  # a GPU's context does not survive a fork
    with dask.config.set({"distributed.worker.multiprocessing-method": method}):  # for restarted workers, too
        cluster = _start_local_cluster(n_workers, folder, on_gpus, modules)
        try:
            with on_signal(partial(_kill_workers, cluster)):
                yield cluster
        finally:
            cluster.close(timeout=CLOSE_TIMEOUT)


def _start_local_cluster(n_workers: int, folder: Path, on_gpus: bool, modules: Sequence[str]) -> LocalCluster:
    if not on_gpus:
        forkserver.start(modules)
    environment = {
        **forkserver.ENVIRONMENT,
        **os.environ,  # a fork has the environment of the moment when the fork server was started
        **dask.config.get("distributed.nanny.environ"),
        "ROOMS_NUM_THREADS": str(max(1, thread_count() // n_workers)),
    }
    start = partial(_start_gpu_cluster, device_memory_limit=0) if on_gpus else LocalCluster
    try:
        with dask.config.set(_SETTINGS | {"distributed.nanny.environ": environment}):
            return start(
                n_workers=n_workers,
                threads_per_worker=1,
                # Without a dashboard, scheduler and workers still serve their state: to this machine alone.
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                worker_dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                memory_limit=0,
                local_directory=str(folder / "dask"),
            )
    except RuntimeError as error:  # the worker has printed the cause to stderr
        raise WorkersLostError(
            f"No worker could be started: {error}",
            hint="a worker says why above; a script that starts some does so below `if __name__ == '__main__':`.",
        ) from error


def _kill_workers(cluster: LocalCluster) -> None:
    """End the workers at once: before the folders they write to are deleted, and they would outlive their nannies."""
    with suppress(Exception):  # a timeout, mostly
        cluster.close(timeout=KILL_TIMEOUT)
    for child in multiprocessing.active_children():
        child.kill()


def _start_gpu_cluster(**options: Any) -> LocalCluster:
    """Start workers with one GPU each: dask-cuda hides the others from them."""
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise UsageError(
            f"Workers on GPUs need dask-cuda, and {error.name} is not installed.",
            hint="pip install dask-cuda, use one process, or --device cpu.",
        ) from error
    try:
        return LocalCUDACluster(**options)
    except ValueError as error:
        raise UsageError(
            f"{options['n_workers']} workers cannot get a GPU each: {str(error).splitlines()[0]}"
        ) from error


def _check_workers(task_scheduler: TaskScheduler, workers: DaskWorkers, folder: Path) -> WorkerResources:
    """Check that there are workers, with the versions of this process, that see the folder; return their resources."""
    start = time.monotonic()
    while not (addresses := workers.addresses()):
        if time.monotonic() - start > RESPONSE_TIMEOUT:
            raise WorkersLostError(
                f"The scheduler {workers.scheduler_address} has no workers.", hint="start some, and try again."
            )
        time.sleep(0.1)
    token = uuid.uuid4().hex
    versions, probe = _versions(), folder / f"probe-{token}"
    probe.write_text(token)
    one_task_each = dict(enumerate(addresses))
    descriptions = list(task_scheduler.map(_describe_worker, [probe] * len(addresses), "check", one_task_each))
    for worker in descriptions:
        if worker.versions != versions:
            differences = ", ".join(
                f"{name} {worker.versions[name]} (here {versions[name]})"
                for name in versions
                if worker.versions[name] != versions[name]
            )
            raise WorkersDifferError(f"A worker has {differences}.", hint="install the same versions on all machines.")
        if not worker.sees_folder:
            raise WorkersDifferError(
                f"A worker does not see the folder {folder}.",
                hint="--out must lie on a file system that all machines share, under the same path.",
            )
    probe.unlink()
    n_on_machine = Counter(worker.machine for worker in descriptions)
    free_bytes = min(worker.free_bytes // n_on_machine[worker.machine] for worker in descriptions)
    return WorkerResources(len(descriptions), max(worker.threads for worker in descriptions), free_bytes)


def _clean_up_workers(workers: DaskWorkers) -> None:
    """Have workers of a running cluster drop the job's rows; one that does not answer drops them at its next job."""
    with suppress(SchedulerLostError):
        replies: SimpleQueue[Reply] = SimpleQueue()
        handles = [workers.send(address, run_cleanups, None, replies.put) for address in workers.addresses()]
        with suppress(Empty):
            for _ in handles:
                replies.get(timeout=CLEANUP_TIMEOUT)
        for handle in handles:
            workers.release(handle)


def _versions() -> dict[str, str]:
    return {"Python": platform.python_version(), **{name: version(name) for name in SAME_VERSIONS}}


class _WorkerDescription(NamedTuple):
    """Versions, machine and resources of a worker."""

    versions: dict[str, str]
    sees_folder: bool  # whether it can read the probe file
    machine: str
    threads: int
    free_bytes: int


def _describe_worker(probe: Path) -> _WorkerDescription:
    """Return the description of the worker that runs this."""
    sees_folder = probe.is_file() and probe.read_text() == probe.name.removeprefix("probe-")
    return _WorkerDescription(_versions(), sees_folder, platform.node(), thread_count(), available_memory())
