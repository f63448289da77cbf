"""Seconds and peak memory of every stage of a run, for its manifest."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.execution.memory import watched
from engine.progress import Advance, Reporter


class Stages:
    """Run stages under a reporter and remember what each cost."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.records: list[dict[str, Any]] = []

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Measure a stage; yields the function to call with the number of rows done."""
        pa.default_memory_pool().release_unused()  # or each stage would pay for what the last one left behind
        pa.system_memory_pool().release_unused()  # NumPy’s
        reset = _reset_peak()
        start = time.perf_counter()
        with self.reporter.stage(name, total) as advance, watched() as own:
            yield advance
        record = {
            "stage": name,
            "seconds": round(time.perf_counter() - start, 4),
            "peak_memory_bytes": _peak(),
            "peak_own_bytes": own.peak,
        }
        if not reset:
            record["peak_memory_is"] = "the process's since its start"
        self.records.append(record)


def _reset_peak() -> bool:
    """Start the kernel's high-water mark of memory anew, where it lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak() -> int:
    """Return the high-water mark of resident memory in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
