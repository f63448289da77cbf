"""Kernels of the CPU backend, compiled by numba. A process that has to compile them logs a notice, once.

Kernels that came compiled with the package are loaded from there, and those that were compiled here from where they are
kept: kernel_cache.py. Kernels cannot run as Python code, so NUMBA_DISABLE_JIT is refused.
"""

from __future__ import annotations

import atexit
import logging
import time

import numba
from numba.core import event

from engine.errors import UsageError
from engine.kernels.cpu.kernel_cache import use_kernel_cache

logger = logging.getLogger(__name__)

NOTICE = (
    "Compiling kernels that did not come with the package compiled: once, up to a minute for a whole fit. "
    "Later processes load them; `rooms warm` compiles all of them ahead."
)
PROGRESS_SECONDS = 5.0  # between two lines of progress


class _CompilationNotice(event.Listener):
    """Log a notice when the first kernel is compiled, then how far it is, and at the end how long it took.

    Kernels that are loaded do not cause these events. A kernel is compiled within the one that calls it, so only the
    outermost is timed. numba compiles in one thread at a time.
    """

    def __init__(self) -> None:
        self.depth, self.count = 0, 0
        self.seconds, self.start, self.reported = 0.0, 0.0, 0.0

    def on_start(self, event: event.Event) -> None:
        if self.depth == 0:
            if not event.data["dispatcher"].py_func.__module__.startswith("engine.kernels."):
                return
            self.start = time.perf_counter()
            if self.count == 0:
                logger.warning("%s", NOTICE)
                atexit.register(self.report, "Compiled")
        self.depth += 1

    def on_end(self, event: event.Event) -> None:
        if self.depth == 0:
            return
        self.depth -= 1
        self.count += event.data["dispatcher"].py_func.__module__.startswith("engine.kernels.")
        if self.depth == 0:
            self.seconds += time.perf_counter() - self.start
            if self.seconds - self.reported >= PROGRESS_SECONDS:
                self.reported = self.seconds
                self.report("Compiling: so far")

    def report(self, verb: str) -> None:
        """Log the number of kernels and the seconds."""
        noun = "kernel" if self.count == 1 else "kernels"
        logger.info("%s %d %s in %.0f s.", verb, self.count, noun, self.seconds)


if numba.config.DISABLE_JIT:
    raise UsageError(
        "NUMBA_DISABLE_JIT is set, and kernels cannot run without being compiled.",
        hint="unset NUMBA_DISABLE_JIT for this process.",
    )
use_kernel_cache()
event.register("numba:compile", _CompilationNotice())
