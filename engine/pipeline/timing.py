"""Measure the seconds and the peak memory of every stage of a run, for its manifest."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.execution.glibc_malloc import return_freed_pages
from engine.execution.memory import track_peak_memory
from engine.progress import Advance, Reporter


class StageTimer:
    """Measures stages, and reports their progress; `records` holds one dict a stage."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.records: list[dict[str, Any]] = []

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Measure a stage; yield the function to call with the number of rows just done."""
        pa.default_memory_pool().release_unused()  # or the peak would include memory that the last stage has freed
        pa.system_memory_pool().release_unused()  # the pool of Arrow arrays made from NumPy
        return_freed_pages()  # of arrays: 70 MiB after the scores of a million rows of 31 columns
        was_reset = _reset_resident_peak()
        start = time.perf_counter()
        with self.reporter.stage(name, total) as advance, track_peak_memory() as memory:
            yield advance
        record = {
            "stage": name,
            "seconds": round(time.perf_counter() - start, 4),
            "peak_memory_bytes": _resident_peak(),
            "peak_own_bytes": memory.peak,
        }
        if not was_reset:
            record["peak_memory_is"] = "the process's since its start"
        self.records.append(record)


def _reset_resident_peak() -> bool:
    """Reset the kernel's high-water mark of resident memory; return False where that is not possible."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident_peak() -> int:
    """Return the high-water mark of resident memory in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
