"""How much memory there is: of the machine, and of the container the process lives in."""

from __future__ import annotations

from pathlib import Path

import psutil

ROWS_SHARE = 8  # the rows of a table may take one part in so many of the free memory between passes

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return the bytes of memory that are free, no more than the container's limit leaves."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit == "max":
            return free
        used = int((_CGROUP / "memory.current").read_text())
        facts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except OSError:  # no container, or none that says so
        return free
    in_use = used - int(facts.get("inactive_file", 0))  # files read long ago: given up as soon as memory is needed
    return min(free, max(int(limit) - in_use, 0))


def memory_for_rows() -> int:
    """Return the bytes that a table's rows may take between passes."""
    return available_memory() // ROWS_SHARE
