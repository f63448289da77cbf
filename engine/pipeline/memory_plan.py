"""Where a fit keeps its rows: in memory, or in files beside its target. Decided from what the table says of itself.

    rows, columns and their types, settings, budget  ->  Plan (in memory or streamed; memory, temporary disk, why)

In memory, rows live from the pass of statistics to the scores, and K-Means has scores, codes and notes of all rows.
Streamed, as many rows as the budget has room for live there, the others in a file while the disk has room, or they are
read again; everything else of one entry a row lies in mapped files. On a cluster the budget is each worker's. Results
are the same bits. What a number of bytes here stands for was measured: decisions/0010.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from engine.blocks import BLOCK_ROWS
from engine.config import FitConfig
from engine.errors import OutOfResourcesError
from engine.execution.cluster import Crew
from engine.execution.memory import BUDGET_SHARE, available_memory
from engine.execution.threads import thread_count
from engine.kmeans.distributed import notes_bytes

# Measured on 1 to 10 million members, kernels compiled before; compiling them takes up to 300 MiB more, once.
BASE = 212 << 20  # bytes of the interpreter, its libraries and kernels …
LEAN_BASE = 196 << 20  # … and where large arrays are given back at once (glibc_malloc.give_back_arrays)
MAP, EXPLAIN = 60 << 20, 110 << 20  # and of what these stages import and keep
COLUMN, PLAIN = 10, 7  # bytes of a value as a column of Arrow, and in plain rows, on average
ENCODED = 4.7  # bytes of an encoded value, on average
LIST = 6  # bytes of a list of labels between passes, on average
WASTE = 1.1  # bytes of the heap that a byte of narrow rows costs
PLACE = 9  # bytes a row of the map
SAMPLED = 16 << 20  # bytes of the rows kept for the explanation, and of picking them
NOTED = 1  # byte a value noted for the explanation
KEYS = 16  # bytes a row while ids are compared


@dataclass(frozen=True)
class Plan:
    """Where rows live, what that is expected to take, and why."""

    kind: Literal["in memory", "streamed", "distributed"]
    why: str
    budget_bytes: int
    free_bytes: int
    memory_bytes: int  # of the process' own, at the peak; distributed: of every worker's
    disk_bytes: int  # of temporary files
    keep_bytes: int  # of memory for rows between passes
    file_bytes: int  # of a file for those that have no room there

    @property
    def streamed(self) -> bool:
        """Whether arrays of one entry a row lie in files."""
        return self.kind != "in memory"

    def facts(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def check(self, parent: Path) -> None:
        """Refuse what cannot end well, before any work is done.

        Raises
        ------
        OutOfResourcesError
            If memory or the disk of `parent` is too small.
        """
        limit = min(self.budget_bytes, self.free_bytes)
        if self.memory_bytes > limit:
            named = "--memory" if self.budget_bytes <= self.free_bytes else "the free memory"
            who = " in every worker" if self.kind == "distributed" else ""
            raise OutOfResourcesError(
                f"Even streamed, this fit needs about {_gib(self.memory_bytes)} of memory{who}, "
                f"and {named} is {_gib(limit)}.",
                hint="raise --memory, use fewer --threads, or --skip explain,map.",
            )
        room = disk_free(parent)
        if self.disk_bytes > room:
            raise OutOfResourcesError(
                f"This fit needs about {_gib(self.disk_bytes)} for temporary files, and {parent} has {_gib(room)}.",
                hint="choose an --out on a larger disk, or raise --memory.",
            )


def plan_of(
    rows: int,
    schema: pa.Schema,
    settings: FitConfig,
    *,
    components: int | None = None,
    n_features: int = 0,
    streamed: bool = False,
    kept_row: float | None = None,
    disk_free: int = 0,
    reading: int = 0,
    crew: Crew | None = None,
) -> Plan:
    """Choose where rows live.

    Parameters
    ----------
    rows : int
    schema : pyarrow.Schema
        Of the table.
    settings : FitConfig
        `memory` is the budget; without it, a share of what is free.
    components : int, optional
        Once known; before, as many as wanted, or as there are columns.
    n_features : int, default=0
        Once known: the covariance takes their square.
    streamed : bool, default=False
        Whether that is decided already.
    kept_row : float, optional
        Bytes that a row takes between passes, once known; before, what columns of their types may take.
    disk_free : int, default=0
        Bytes that there are for temporary files: rows are read again rather than kept in a file if there are few.
    reading : int, default=0
        Bytes that reading the table takes beside blocks under way.
    crew : Crew, optional
        The workers that passes run on.
    """
    free = available_memory() if crew is None else crew.free_bytes
    budget = free // BUDGET_SHARE if settings.memory is None else settings.memory
    names = [name for name in schema.names if name != settings.id]
    wanted = settings.pca.n_components
    d = components or (wanted if isinstance(wanted, int) else len(names))
    threads = thread_count() if crew is None else crew.threads
    kinds = [schema.field(name).type for name in names]
    kept = sum(map(_kept_bytes, kinds)) if kept_row is None else kept_row
    held = max(kept, ENCODED * len(names))
    under_way = (2 * threads + 1) * BLOCK_ROWS * (COLUMN + PLAIN) * len(names)
    under_way += reading + (0 if "explain" in settings.skip else SAMPLED) + (2 + threads) * 8 * n_features * n_features
    later = max(0 if "map" in settings.skip else MAP, 0 if "explain" in settings.skip else EXPLAIN)
    base = BASE if crew is not None else LEAN_BASE  # of a worker, and of a streamed fit
    room = max(0, min(budget, free) - base - under_way)
    keep = int(room / WASTE)
    notes, answers = notes_bytes(d), 0 if "explain" in settings.skip else NOTED * len(names)
    state = rows * (4 * d + notes + answers)
    mapped = rows * (4 * d + 4 + (0 if "map" in settings.skip else PLACE) + answers)
    both = WASTE * kept + ENCODED * len(names)  # what narrow rows leave is in pieces too small for encoded ones
    in_memory = BASE + max(under_way + int(rows * (both + answers)), state, later + mapped)
    disk = max(state, mapped, rows * KEYS)
    if crew is not None:
        share = -(-rows // crew.n_workers)
        memory = base + max(under_way + min(room, int(WASTE * share * held)), min(keep, share * notes))
        why = "one worker" if crew.n_workers == 1 else f"{crew.n_workers} workers that share what lies in files"
        return Plan("distributed", why, budget, free, memory, disk, keep, 0)
    if in_memory <= budget and not streamed:
        return Plan("in memory", f"about {_gib(in_memory)} fit in {_gib(budget)}", budget, free, in_memory, 0, keep, 0)
    memory = base + max(under_way + min(room, int(WASTE * rows * held)), later)
    why = f"in memory it would take about {_gib(in_memory)}, and the budget is {_gib(budget)}"
    file = max(0, int(rows * kept) - keep)
    with_file = max(disk, file + rows * (4 * d + answers))
    if with_file > disk_free:
        file, with_file = 0, disk
    return Plan("streamed", why, budget, free, memory, with_file, keep, file)


def _kept_bytes(kind: pa.DataType) -> int:
    """Return what a value of a type takes between passes at most, or typically where there is no such bound."""
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        return 1
    if pa.types.is_list(kind):
        return LIST
    if pa.types.is_float64(kind) or pa.types.is_int64(kind) or pa.types.is_timestamp(kind):
        return 8
    return 4


def disk_free(folder: Path) -> int:
    """Return the bytes that the disk of a folder, which need not be there, has left."""
    return shutil.disk_usage(existing(folder)).free


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return folder if folder.exists() else existing(folder.parent)


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"
