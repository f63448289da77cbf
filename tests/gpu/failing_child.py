"""What tests import in the child process of a fit: its device is array code on NumPy that fails in its own way.

import tests.gpu.failing_child; tests.gpu.failing_child.install("abort")
"""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

import numpy as np

from engine import backends
from engine.backends.array_kmeans import ArrayBackend


class CudaError(RuntimeError):
    """As CUDA's libraries raise."""


class FailingDevice(ArrayBackend):
    """A device that works until the first pass of K-Means over all rows."""

    name = "cuda"
    kernels = "CuPy"
    device_errors = (CudaError,)
    way = ""

    def lloyd_pass(self, *arguments: Any, **options: Any) -> Any:
        logging.getLogger("engine.tests").info("a pass in process %d", os.getpid())
        if self.way == "abort":
            os.abort()
        elif self.way == "hang":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self.way == "raise":
            raise CudaError("cudaErrorECCUncorrectable\nin a pass")
        elif self.way == "interrupt":
            os.kill(os.getppid(), signal.SIGINT)
            signal.pause()
        return super().lloyd_pass(*arguments, **options)


def install(way: str) -> None:
    """Let the device of this process fail in a way: abort, hang, raise, interrupt, or none."""
    FailingDevice.way, resolve = way, backends.resolve

    def resolve_here(device: str = "auto") -> Any:
        return resolve("cpu") if device == "cpu" else (FailingDevice(np), "cuda, as asked")

    backends.resolve = resolve_here  # type: ignore[assignment]
