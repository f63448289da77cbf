"""Hot loops on the CPU. Whoever waits for them to be compiled is told so, once a process.

Compiled kernels are kept in numba's cache: beside the package, or in NUMBA_CACHE_DIR. Later processes load them.
"""

from __future__ import annotations

import logging

from numba.core import event

logger = logging.getLogger(__name__)


class _Notice(event.Listener):
    """Says that kernels are being compiled, when the first one is: loading one from the cache is no such event."""

    said = False

    def on_start(self, event: event.Event) -> None:
        dispatcher = event.data["dispatcher"]
        if not self.said and dispatcher.py_func.__module__.startswith("engine.kernels."):
            self.said = True
            logger.warning("Compiling kernels for this CPU: seconds, once; numba caches them for later processes.")

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Notice())
