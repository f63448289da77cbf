"""Fork worker processes from one server process that has imported everything they need.

    start(modules)  ->  Python's fork server, which imports them  ->  Dask's nannies ask it for processes

The server imports while this process still imports, too. A worker that imports by itself takes 2 CPU seconds for that:
decisions/0011. The server process imports this file as its preload module, and reads the names of the other modules
from its environment; in every other process that variable is absent, and importing this file does nothing.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

METHOD = "forkserver" if sys.platform == "linux" else "spawn"  # macOS' libraries do not survive a fork
PRELOAD = "ROOMS_FORKSERVER_PRELOAD"  # environment variable: names of modules, separated by commas

# Environment of the server, unless a variable is set already. BLAS and Arrow's allocators start no threads, which would
# not survive a fork, and Arrow allocates from the system, as in the commands.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


def start(modules: Sequence[str] = ()) -> None:
    """Start a fork server that imports these modules, on Linux; a running server is kept as it is."""
    if METHOD == "spawn":
        return
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload([__name__])
    with _environment(ENVIRONMENT | {PRELOAD: ",".join(["distributed.nanny", *modules])}):
        forkserver.ensure_running()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set those variables that are missing in the environment, for a process that is started inside the block."""
    missing = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


def _preload(modules: Sequence[str]) -> None:
    """Import modules into the server process, once for all workers."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is handled by the process that started the server: it ends the workers
    gc.disable()
    for name in modules:
        importlib.import_module(name)
    gc.enable()
    gc.freeze()  # a garbage collection would write to these objects' pages, and copy memory that workers share


if PRELOAD in os.environ:  # this is the server process
    _preload(os.environ.pop(PRELOAD).split(","))
