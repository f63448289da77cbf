"""A GPU with RAPIDS that NumPy stands in for, for the length of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from engine.backends import gpu
from engine.backends.gpu import GpuProbe
from tests.gpu import frames, libraries


@contextmanager
def stand_in_gpu(monkeypatch: pytest.MonkeyPatch, xp: Any = None) -> Iterator[None]:
    """Let this process find a GPU whose CuPy is `xp`, or strict array code; cuDF and cuML are stand-ins too."""
    forget_gpu()
    monkeypatch.setattr(gpu, "probe", lambda: GpuProbe(True, "a GPU of tests"))
    libraries.install(monkeypatch, xp=xp)
    frames.install(monkeypatch)
    yield
    forget_gpu()


def forget_gpu() -> None:
    """Let the process look for its GPU anew, as a new process does."""
    libraries.clear_gpu_caches()
    gpu._products_are_exact.cache_clear()
