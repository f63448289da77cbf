"""Passes on the workers that a job wants, if it wants any.

ClusterConfig, table, a folder that all see  ->  passes inside the block run on them
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.blocks import Table
from engine.config import ClusterConfig
from engine.errors import UsageError
from engine.execution.cluster import Cluster, Crew, in_parts
from engine.execution.passes import on
from engine.utils.atomic_files import scratch_folder


@contextmanager
def workers_for(
    wanted: ClusterConfig, table: Table, folder: Path, *, on_gpus: bool = False, modules: Sequence[str] = ()
) -> Iterator[None]:
    """Run passes on the workers that are wanted, if any; `on_gpus`, those started here have one each.

    Workers started here are forked from a process that has imported `modules`.

    Raises
    ------
    UsageError
        If the table cannot be read in parts, or Dask is not installed.
    SchedulerLostError, WorkersLostError, WorkersDifferError
    """
    if not wanted.wanted:
        yield
        return
    in_parts(table)
    with _connected(wanted, folder, on_gpus, modules) as cluster, on(cluster):
        yield


def crew_for(wanted: ClusterConfig, table: Table, parent: Path) -> Crew | None:
    """Return what the workers have that are wanted, without starting any; None if none are. Raises as workers_for."""
    if not wanted.wanted:
        return None
    in_parts(table)
    if wanted.workers is not None:
        return Crew.started(wanted.workers)
    with scratch_folder(parent) as folder, _connected(wanted, folder, False) as cluster:
        return cluster.crew


@contextmanager
def _connected(wanted: ClusterConfig, folder: Path, on_gpus: bool, modules: Sequence[str] = ()) -> Iterator[Cluster]:
    try:
        from engine.execution.dask_cluster import connected
    except ImportError as error:
        raise UsageError(
            f"Workers need the extra 'dask', and {error.name} is not installed.",
            hint="pip install 'rooms-engine[dask]'",
        ) from error
    with connected(wanted, folder, on_gpus=on_gpus, modules=modules) as cluster:
        yield cluster
