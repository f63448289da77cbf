"""Run the passes of a job on workers, if its configuration asks for any.

ClusterConfig, table, a folder that all see  ->  passes inside the block run on the workers
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.blocks import Table
from engine.config import ClusterConfig
from engine.errors import UsageError
from engine.execution.cluster import Cluster, WorkerResources, require_random_access
from engine.execution.passes import run_on
from engine.utils.atomic_files import scratch_folder


@contextmanager
def run_on_workers(
    settings: ClusterConfig, table: Table, folder: Path, *, on_gpus: bool = False, modules: Sequence[str] = ()
) -> Iterator[None]:
    """Run the passes inside this block on the workers of `settings`, if it names any.

    With `on_gpus`, workers started here have one GPU each; otherwise they are forked from a process that has imported
    `modules`.

    Raises
    ------
    UsageError
        If the table cannot be read in parts, Dask is not installed, or this process may not start workers.
    SchedulerLostError, WorkersLostError, WorkersDifferError
    """
    if not settings.uses_workers:
        yield
        return
    _check_startable(settings)
    require_random_access(table)
    with _open_cluster(settings, folder, on_gpus, modules) as cluster, run_on(cluster):
        yield


def find_worker_resources(settings: ClusterConfig, table: Table, parent: Path) -> WorkerResources | None:
    """Return the resources of the workers of `settings` without starting any, None if it names none.

    Raises as run_on_workers.
    """
    if not settings.uses_workers:
        return None
    _check_startable(settings)
    require_random_access(table)
    if settings.workers is not None:
        return WorkerResources.on_this_machine(settings.workers)
    with scratch_folder(parent) as folder, _open_cluster(settings, folder, False) as cluster:
        return cluster.resources


def _check_startable(settings: ClusterConfig) -> None:
    """Raise UsageError if workers are to be started by a daemonic process, which multiprocessing does not let."""
    if settings.workers is not None and multiprocessing.current_process().daemon:
        raise UsageError(
            f"workers={settings.workers} cannot be started: this is a daemonic process of multiprocessing.",
            hint="fit without workers, name a scheduler, or start this process with daemon=False.",
        )


@contextmanager
def _open_cluster(
    settings: ClusterConfig, folder: Path, on_gpus: bool, modules: Sequence[str] = ()
) -> Iterator[Cluster]:
    try:
        from engine.execution.dask_cluster import open_cluster
    except ImportError as error:
        raise UsageError(
            f"Workers need the extra 'dask', and {error.name} is not installed.",
            hint="pip install 'rooms-engine[dask]'",
        ) from error
    with open_cluster(settings, folder, on_gpus=on_gpus, modules=modules) as cluster:
        yield cluster
