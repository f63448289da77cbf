"""Kernels of the CPU backend, compiled by numba. A process that has to compile them logs a notice, once.

Compiled kernels are kept in numba's cache: beside the package, or in NUMBA_CACHE_DIR (cache_folder.py says where else).
Later processes load them. Kernels cannot run as Python code, so NUMBA_DISABLE_JIT is refused.
"""

from __future__ import annotations

import logging

import numba
from numba.core import event

from engine.errors import UsageError
from engine.kernels.cpu.cache_folder import ensure_cache

logger = logging.getLogger(__name__)


class _CompilationNotice(event.Listener):
    """Log a notice when the first kernel is compiled; kernels loaded from the cache do not cause this event."""

    logged = False

    def on_start(self, event: event.Event) -> None:
        dispatcher = event.data["dispatcher"]
        if not self.logged and dispatcher.py_func.__module__.startswith("engine.kernels."):
            self.logged = True
            logger.warning("Compiling kernels for this CPU: seconds, once; numba caches them for later processes.")

    def on_end(self, event: event.Event) -> None:
        pass


if numba.config.DISABLE_JIT:
    raise UsageError(
        "NUMBA_DISABLE_JIT is set, and kernels cannot run without being compiled.",
        hint="unset NUMBA_DISABLE_JIT for this process.",
    )
ensure_cache()
event.register("numba:compile", _CompilationNotice())
