"""Workers of a Dask cluster: processes started here for one job, or a cluster that is there.

    workers=4 or scheduler="tls://…", a folder that all see  ->  Cluster of these workers

Tasks go to one worker each, by name: Dask carries them, and says who is there; which worker gets what, and what
happens when it is lost, is task_scheduler.py's. So there is no graph, and nothing is kept by the scheduler. Partial
results come from the workers directly; rows never travel. Workers of other versions, or that do not see the shared
folder, are refused: their results would be other ones, or none.
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
from engine.execution.block_cache import forget
from engine.execution.cluster import Cluster, Crew
from engine.execution.dask_client import ANSWER_SECONDS, CLOSE_SECONDS, client_of, security_of
from engine.execution.memory import available_memory
from engine.execution.task_scheduler import Dispatcher, Patience, Reply
from engine.execution.threads import thread_count
from engine.utils.signals import tidied

END_SECONDS = 2.0  # after a signal
FORGET_SECONDS = 1.0
SAME_VERSIONS = ("rooms-engine", "numpy", "numba", "pyarrow")  # on all workers, or bits might differ

# What a cluster started here is like: tasks are placed by us; memory is watched by the engine's own budget.
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
def connected(
    wanted: ClusterConfig, folder: Path, *, on_gpus: bool = False, modules: Sequence[str] = ()
) -> Iterator[Cluster]:
    """Start workers or join a cluster, check them, and yield the cluster; leave it in the end.

    Parameters
    ----------
    wanted : ClusterConfig
        Names either `workers` or a `scheduler`.
    folder : Path
        Where files lie that all workers see; workers started here put theirs below it, too.
    on_gpus : bool, default=False
        Whether workers started here get a GPU each.
    modules : sequence of str, default=()
        What the process imports that workers started here are forked from.

    Raises
    ------
    UsageError, SchedulerLostError, WorkersLostError, WorkersDifferError
    """
    patience = Patience(wanted.overdue_seconds, wanted.deadline_seconds, wanted.attempts)
    with ExitStack() as stack:
        if wanted.scheduler is None:
            assert wanted.workers is not None
            address: Any = stack.enter_context(_local_cluster(wanted.workers, folder, on_gpus, modules))
            security = None
        else:
            address, security = wanted.scheduler, security_of(wanted)
        client = stack.enter_context(client_of(address, security))
        workers = DaskWorkers(client)
        dispatcher = Dispatcher(workers, patience)
        crew = _checked(dispatcher, workers, folder)
        try:
            yield Cluster(dispatcher, wanted.task_rows, crew, scheduler=workers.name, settings=wanted, folder=folder)
        finally:
            if wanted.scheduler is not None:
                _leave(workers)


class DaskWorkers:
    """The workers that a client's scheduler knows."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def addresses(self) -> list[str]:
        """Return the addresses of the workers; raises SchedulerLostError."""
        try:
            if self._client.status == "running":
                asked = self._client.scheduler.identity
                found = self._client.sync(asked, n_workers=-1, callback_timeout=ANSWER_SECONDS)
                return sorted(found["workers"])
        except (OSError, DaskTimeoutError, AttributeError):  # AttributeError: the client is closing
            pass
        raise SchedulerLostError(
            f"The scheduler {self.name} does not answer any more.",
            hint="start it and its workers again, and run the same command with --resume.",
        )

    def send(self, address: str, function: Callable[[Any], Any], task: Any, reply: Callable[[Reply], None]) -> Future:
        """Submit function(task) to one worker."""
        try:
            future = self._client.submit(
                function, task, key=f"rooms-{uuid.uuid4().hex}", pure=False, workers=[address], retries=0
            )
        except (OSError, RuntimeError):  # the client is closing: addresses() will say so
            self.addresses()
            raise
        future.add_done_callback(lambda done: self._client.loop.add_callback(self._fetch, done, reply))
        return future

    def forget(self, handle: Future) -> None:
        """Release a task: the scheduler drops it, and its result."""
        handle.release()

    async def _fetch(self, future: Future, reply: Callable[[Reply], None]) -> None:
        """Get what a task left from its worker. While one that was stopped does not hand it out, others do."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reply(Reply(await self._client.gather(future, asynchronous=True)))
        except (Exception, CancelledError) as error:  # the task's own, too
            reply(Reply(error=error))

    @property
    def name(self) -> str:
        """The scheduler's address."""
        return str(getattr(self._client.scheduler, "address", "of the cluster"))


@contextmanager
def _local_cluster(n_workers: int, folder: Path, on_gpus: bool, modules: Sequence[str]) -> Iterator[LocalCluster]:
    """Start worker processes that share this machine's threads, each watched and started anew by a nanny."""
    method = "spawn" if on_gpus else forkserver.METHOD  # a GPU's context does not survive a fork
    with dask.config.set({"distributed.worker.multiprocessing-method": method}):  # for workers started anew, too
        cluster = _started(n_workers, folder, on_gpus, modules)
        try:
            with tidied(partial(_end, cluster)):
                yield cluster
        finally:
            cluster.close(timeout=CLOSE_SECONDS)


def _started(n_workers: int, folder: Path, on_gpus: bool, modules: Sequence[str]) -> LocalCluster:
    if not on_gpus:
        forkserver.start(modules)
    environment = {
        **forkserver.ENVIRONMENT,
        **os.environ,  # a fork has what there was when its parent was started
        **dask.config.get("distributed.nanny.environ"),
        "ROOMS_NUM_THREADS": str(max(1, thread_count() // n_workers)),
    }
    start = partial(_gpu_cluster, device_memory_limit=0) if on_gpus else LocalCluster
    try:
        with dask.config.set(_SETTINGS | {"distributed.nanny.environ": environment}):
            return start(
                n_workers=n_workers,
                threads_per_worker=1,
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # without one it still serves its state …
                worker_dashboard_address="127.0.0.1:0",  # … and so do workers: to nobody but this machine
                silence_logs=logging.CRITICAL,
                memory_limit=0,
                local_directory=str(folder / "dask"),
            )
    except RuntimeError as error:  # a worker said why on stderr
        raise WorkersLostError(
            f"No worker could be started: {error}",
            hint="a worker says why above; a script that starts some does so below `if __name__ == '__main__':`.",
        ) from error


def _end(cluster: LocalCluster) -> None:
    """End the workers at once: before what they may write to is deleted, and they would outlive their nannies."""
    with suppress(Exception):  # a timeout, mostly
        cluster.close(timeout=END_SECONDS)
    for child in multiprocessing.active_children():
        child.kill()


def _gpu_cluster(**options: Any) -> LocalCluster:
    """Start workers with a GPU each: dask-cuda hides the others from them."""
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


def _checked(dispatcher: Dispatcher, workers: DaskWorkers, folder: Path) -> Crew:
    """See that there are workers, that they are like us, and that they see the folder; return what they have."""
    start = time.monotonic()
    while not (addresses := workers.addresses()):
        if time.monotonic() - start > ANSWER_SECONDS:
            raise WorkersLostError(f"The scheduler {workers.name} has no workers.", hint="start some, and try again.")
        time.sleep(0.1)
    token = uuid.uuid4().hex
    mine, probe = _versions(), folder / f"probe-{token}"
    probe.write_text(token)
    homes = dict(enumerate(addresses))
    seen = list(dispatcher.map(_seen, [probe] * len(addresses), "check", homes))
    for worker in seen:
        if worker.versions != mine:
            apart = ", ".join(
                f"{name} {worker.versions[name]} (here {mine[name]})"
                for name in mine
                if worker.versions[name] != mine[name]
            )
            raise WorkersDifferError(f"A worker has {apart}.", hint="install the same versions on all machines.")
        if not worker.sees:
            raise WorkersDifferError(
                f"A worker does not see the folder {folder}.",
                hint="--out must lie on a file system that all machines share, under the same path.",
            )
    probe.unlink()
    on_machine = Counter(worker.machine for worker in seen)
    free = min(worker.free_bytes // on_machine[worker.machine] for worker in seen)
    return Crew(len(seen), max(worker.threads for worker in seen), free)


def _leave(workers: DaskWorkers) -> None:
    """Have workers that are there forget the job's rows; those that do not answer keep them until their next job."""
    with suppress(SchedulerLostError):
        replies: SimpleQueue[Reply] = SimpleQueue()
        handles = [workers.send(address, forget, None, replies.put) for address in workers.addresses()]
        with suppress(Empty):
            for _ in handles:
                replies.get(timeout=FORGET_SECONDS)
        for handle in handles:
            workers.forget(handle)


def _versions() -> dict[str, str]:
    return {"Python": platform.python_version(), **{name: version(name) for name in SAME_VERSIONS}}


class _Seen(NamedTuple):
    """What a worker says of itself."""

    versions: dict[str, str]
    sees: bool  # what we wrote
    machine: str
    threads: int
    free_bytes: int


def _seen(probe: Path) -> _Seen:
    """Return what the worker has, and whether it sees what we wrote; runs on the worker."""
    sees = probe.is_file() and probe.read_text() == probe.name.removeprefix("probe-")
    return _Seen(_versions(), sees, platform.node(), thread_count(), available_memory())
