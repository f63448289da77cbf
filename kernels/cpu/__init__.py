"""Kernels of the CPU backend, compiled by numba. A process that has to compile them logs a notice, once.

Compiled kernels are kept in numba's cache: beside the package, or in NUMBA_CACHE_DIR. Later processes load them.
"""

from __future__ import annotations

import logging

from numba.core import event

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


event.register("numba:compile", _CompilationNotice())
