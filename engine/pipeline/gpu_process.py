"""The process of a fit on a GPU: a child, so that a GPU that aborts, hangs or is lost does not end the job.

    is_wanted(source, settings)  ->  whether a fit has one;   run(attempt, reporter, target)  ->  the run directory

What the child has finished is in the checkpoints beside the target: decisions/0026-who-computes.md. A fit of a data
frame runs here, because it leaves no checkpoints; so does one on workers, which are processes of their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine.backends.chunked import seconds_in_flight
from engine.backends.cuda_driver import GpuNotFoundError, first_gpu
from engine.backends.gpu_libraries import memory_pool
from engine.config import FitConfig
from engine.execution.child_process import ChildProcessLostError, run_in_child
from engine.pipeline.staging import StagingFolder
from engine.progress import Reporter
from engine.tables.snapshot import SnapshotTable


class DeviceFailedError(Exception):
    """The device of a fit failed; the message is the reason."""


def is_wanted(source: Any, settings: FitConfig) -> bool:
    """Return whether a fit runs in a child process: if it reads files, there is a GPU, and no workers are asked for.

    A function that names clusters, given as an object, may not exist in another process: such a fit runs here. A
    snapshot is a file. The GPU is not used to find out: what hangs must hang in the child.
    """
    sources = source if isinstance(source, list | tuple) else [source]
    if not all(isinstance(one, str | os.PathLike | SnapshotTable) for one in sources):
        return False
    if settings.device == "cpu" or settings.cluster.uses_workers or not sys.executable:
        return False
    if callable(settings.explain.namer):
        return False
    try:
        first_gpu()
    except GpuNotFoundError:
        return False
    return find_spec("cupy") is not None


def run(attempt: Callable[[Reporter], Path], reporter: Reporter, target: Path) -> Path:
    """Return attempt(reporter), called in a child process.

    Raises
    ------
    DeviceFailedError
        If the child ends, hangs, or its GPU does not answer any more; or what the attempt raises.
    """
    try:
        path: Path = run_in_child(attempt, heartbeat, reporter, StagingFolder.of(target).keep_or_remove)
    except ChildProcessLostError as error:
        raise DeviceFailedError(f"the process that used it was lost, {error}") from error
    return path


def heartbeat() -> float:
    """Ask the driver something, once the GPU is in use; return the seconds that the oldest call of it has taken.

    A driver that does not answer leaves the child silent, and one that answers with an error says that the GPU is
    lost.
    """
    if memory_pool.cache_info().currsize:
        import cupy

        cupy.cuda.runtime.memGetInfo()
    return seconds_in_flight()
