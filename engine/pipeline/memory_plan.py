"""Plan the memory of a fit: keep rows in memory, or in files beside its target, or on workers.

    rows, columns and their types, settings, budget  ->  MemoryPlan (in memory, streamed or distributed; bytes; reason)

In memory, rows are cached from the pass of statistics to the scores, and K-Means has scores, quantized rows and bounds
of all rows there. Streamed, rows are cached in memory as far as the budget allows and in a spill file as far as the
disk allows; the rest is read again. Everything else with one entry a row lies in mapped files. On a cluster, the budget
is each worker's. Results are the same bits. How the constants were measured: decisions/0010.
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
from engine.execution.cluster import WorkerResources
from engine.execution.memory import BUDGET_DIVISOR, available_memory
from engine.execution.threads import thread_count
from engine.kmeans.distributed import state_bytes_per_row
from engine.lineage.people import matching_bytes
from engine.pca.solver import few_rows_bytes, has_few_rows

# Measured on 1 to 10 million members, with kernels compiled before; compiling them takes up to 300 MiB more, once.
BASE_BYTES = 212 << 20  # the interpreter, its libraries and kernels
STREAMED_BASE_BYTES = 196 << 20  # base memory of a streamed fit, after glibc_malloc.mmap_large_arrays
MAP_STAGE_BYTES, EXPLAIN_STAGE_BYTES = 60 << 20, 110 << 20  # what the map and the explanation import and keep
ARROW_VALUE_BYTES, COLUMNAR_VALUE_BYTES = 10, 7  # a value in an Arrow column and in a columnar block, on average
ENCODED_VALUE_BYTES = 4.7  # an encoded value, on average
LABEL_LIST_BYTES = 6  # a list of labels in a compact block, on average
HEAP_OVERHEAD = 1.1  # bytes of the heap per byte of compact rows
MAP_ROW_BYTES = 9  # map coordinates of a row, and whether they are uncertain
EXPLAIN_SAMPLE_BYTES = 16 << 20  # the row sample of the explanation, and drawing it
BINNED_VALUE_BYTES = 1  # a value in the binned table of the explanation
ID_KEY_BYTES = 16  # per row, while ids are compared
EARLIER_ROW_BYTES = 4  # the cluster that each row's person had in the run that is continued


@dataclass(frozen=True)
class MemoryPlan:
    """Where a fit keeps its rows, the bytes it is expected to take, and the reason."""

    kind: Literal["in memory", "streamed", "distributed"]
    why: str
    budget_bytes: int
    free_bytes: int
    memory_bytes: int  # peak of the anonymous memory of the process; distributed: of each worker
    disk_bytes: int  # of temporary files
    keep_bytes: int  # memory limit of the block cache
    file_bytes: int  # limit of its spill file

    @property
    def streamed(self) -> bool:
        """Whether arrays with one entry a row lie in files."""
        return self.kind != "in memory"

    def facts(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def check(self, parent: Path, free_disk: int) -> None:
        """Raise if memory or disk will not suffice, before any work is done.

        Parameters
        ----------
        parent : Path
            Where temporary files are written.
        free_disk : int
            Bytes that they may take there.

        Raises
        ------
        OutOfResourcesError
            If memory or the disk of `parent` is too small.
        """
        limit = min(self.budget_bytes, self.free_bytes)
        if self.memory_bytes > limit:
            limit_name = "--memory" if self.budget_bytes <= self.free_bytes else "the free memory"
            where = " in every worker" if self.kind == "distributed" else ""
            raise OutOfResourcesError(
                f"Even streamed, this fit needs about {_gib(self.memory_bytes)} of memory{where}, "
                f"and {limit_name} is {_gib(limit)}.",
                hint="raise --memory, use fewer --threads, or --skip explain,map.",
            )
        if self.disk_bytes > free_disk:
            raise OutOfResourcesError(
                f"This fit needs about {_gib(self.disk_bytes)} for temporary files, "
                f"and {parent} has {_gib(free_disk)}.",
                hint="choose an --out on a larger disk, or raise --memory.",
            )


def plan_memory(
    n_rows: int,
    schema: pa.Schema,
    settings: FitConfig,
    *,
    n_components: int | None = None,
    n_features: int = 0,
    streamed: bool = False,
    cached_row_bytes: float | None = None,
    free_disk: int = 0,
    reading_bytes: int = 0,
    resources: WorkerResources | None = None,
    earlier_people: int | None = None,
) -> MemoryPlan:
    """Choose where a fit keeps its rows.

    Parameters
    ----------
    n_rows : int
    schema : pyarrow.Schema
        Of the table.
    settings : FitConfig
        `memory` is the budget; without it, a share of the free memory.
    n_components : int, optional
        Once known; before, the number in the settings, or the number of columns.
    n_features : int, default=0
        Once known; before, the number of columns. The covariance takes their square.
    streamed : bool, default=False
        Whether the rows are streamed already.
    cached_row_bytes : float, optional
        Bytes of a row in the block cache, once known; before, an upper estimate from the column types.
    free_disk : int, default=0
        Free bytes for temporary files: if there are too few, rows are read again instead of cached in a file.
    reading_bytes : int, default=0
        Bytes that reading the table takes beside the blocks in flight.
    resources : WorkerResources, optional
        Of the workers that passes run on.
    earlier_people : int, optional
        Rows of the run that the fit continues: their ids are matched, part by part.
    """
    free = available_memory() if resources is None else resources.free_bytes
    budget = free // BUDGET_DIVISOR if settings.memory is None else settings.memory
    names = [name for name in schema.names if name != settings.id]
    with_map, with_explanation = "map" not in settings.skip, "explain" not in settings.skip
    requested = settings.pca.n_components
    d = n_components or (requested if isinstance(requested, int) else len(names))
    threads = thread_count() if resources is None else resources.threads
    types = [schema.field(name).type for name in names]
    compact = sum(map(_compact_value_bytes, types)) if cached_row_bytes is None else cached_row_bytes
    largest = max(compact, ENCODED_VALUE_BYTES * len(names))
    rows_in_flight = min(n_rows, (2 * threads + 1) * BLOCK_ROWS)
    in_flight = rows_in_flight * (ARROW_VALUE_BYTES + COLUMNAR_VALUE_BYTES) * len(names)
    in_flight += reading_bytes + (EXPLAIN_SAMPLE_BYTES if with_explanation else 0)
    in_flight += _pca_bytes(n_rows, n_features or len(names), threads)
    later = max(MAP_STAGE_BYTES if with_map else 0, EXPLAIN_STAGE_BYTES if with_explanation else 0)
    base = BASE_BYTES if resources is not None else STREAMED_BASE_BYTES  # of a worker, and of a streamed fit
    cache_space = max(0, min(budget, free) - base - in_flight)
    keep = int(cache_space / HEAP_OVERHEAD)
    kmeans, binned = state_bytes_per_row(d), BINNED_VALUE_BYTES * len(names) if with_explanation else 0  # bytes a row
    earlier = 0 if earlier_people is None else EARLIER_ROW_BYTES
    matching = 0
    if earlier_people is not None and settings.id is not None:
        matching = matching_bytes(n_rows, earlier_people, schema.field(settings.id).type)
    kmeans_stage = n_rows * (4 * d + kmeans + binned + earlier)
    last_stages = n_rows * (4 * d + 4 + (MAP_ROW_BYTES if with_map else 0) + binned + earlier)
    matching_stage = n_rows * (4 * d + binned + earlier) + matching
    # Freed compact rows leave pieces of the heap that are too small for encoded ones, so both count.
    both = HEAP_OVERHEAD * compact + ENCODED_VALUE_BYTES * len(names)
    in_memory = BASE_BYTES + max(
        in_flight + int(n_rows * (both + binned)), kmeans_stage, later + last_stages, matching_stage
    )
    disk = max(kmeans_stage, last_stages, n_rows * ID_KEY_BYTES)
    if resources is not None:
        n_workers = resources.n_workers
        share = -(-n_rows // n_workers)
        cached = min(cache_space, int(HEAP_OVERHEAD * share * largest))
        memory = base + max(in_flight + cached, min(keep, share * kmeans), matching)
        why = "one worker" if n_workers == 1 else f"{n_workers} workers that share what lies in files"
        return MemoryPlan("distributed", why, budget, free, memory, disk, keep, 0)
    if in_memory <= budget and not streamed:
        why = f"about {_gib(in_memory)} fit in {_gib(budget)}"
        return MemoryPlan("in memory", why, budget, free, in_memory, 0, keep, 0)
    cached = min(cache_space, int(HEAP_OVERHEAD * n_rows * largest))
    memory = base + max(in_flight + cached, later, matching)
    why = f"in memory it would take about {_gib(in_memory)}, and the budget is {_gib(budget)}"
    spill = max(0, int(n_rows * compact) - keep)
    disk_with_spill = max(disk, spill + n_rows * (4 * d + binned))
    if disk_with_spill > free_disk:
        spill, disk_with_spill = 0, disk
    return MemoryPlan("streamed", why, budget, free, memory, disk_with_spill, keep, spill)


def _pca_bytes(n_rows: int, n_features: int, threads: int) -> int:
    """Return the bytes of the eigenproblem: of the Gram matrix with its rows, or of the covariance on every thread."""
    if has_few_rows(n_rows, n_features):
        return few_rows_bytes(n_rows, n_features)
    return (2 + threads) * 8 * n_features * n_features


def _compact_value_bytes(kind: pa.DataType) -> int:
    """Return the bytes of a value of a type in a compact block: at most, or typically for lists."""
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        return 1
    if pa.types.is_list(kind):
        return LABEL_LIST_BYTES
    if pa.types.is_float64(kind) or pa.types.is_int64(kind) or pa.types.is_timestamp(kind):
        return 8
    return 4


def free_disk_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which need not exist."""
    return shutil.disk_usage(nearest_existing_folder(folder)).free


def nearest_existing_folder(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return folder if folder.exists() else nearest_existing_folder(folder.parent)


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"
