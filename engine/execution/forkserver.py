"""Worker processes as forks of one that has imported everything: it does so while this process still imports.

    start()  ->  Python's fork server, importing forkserver_preload.py  ->  Dask's nannies ask it for processes

A worker that imports by itself takes 2 CPU seconds for that: decisions/0011.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

METHOD = "forkserver" if sys.platform == "linux" else "spawn"  # macOS' libraries do not survive a fork

# What workers' libraries read when they are loaded, unless somebody has said otherwise: no threads of BLAS, none of
# Arrow's allocators, for threads do not survive a fork either, and Arrow's memory from the system, as commands have it.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


def start() -> None:
    """Have a fork server, where the platform likes them. One that is there is kept, whatever it has imported."""
    if METHOD == "spawn":
        return
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(["engine.execution.forkserver_preload"])
    with _environment():
        forkserver.ensure_running()


@contextmanager
def _environment() -> Iterator[None]:
    """Add to the environment what a new process is to inherit."""
    missing = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]
