"""`rooms fit --dry-run`: estimate roles, features, plan, memory, disk and time of a fit from the table's first blocks.

    head of the table  ->  trial fits of it, one to warm up and one timed  ->  seconds a row, seconds a job

How time is measured: pipeline/trial_fit.py. Memory and disk are those of the memory plan (pipeline/memory_plan.py). No
file is left behind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil

from engine import backends
from engine.blocks import count_rows, reading_bytes
from engine.config import FitConfig, Metric
from engine.execution.cluster import WorkerResources
from engine.execution.glibc_malloc import mmap_large_arrays
from engine.execution.threads import thread_count
from engine.execution.worker_pool import find_worker_resources
from engine.explain.personas.own_names import find_namer
from engine.features.column_roles import ColumnRole
from engine.features.encoder import FeatureEncoder
from engine.features.fit import FittedFeatures, choose_reader
from engine.features.gpu_ids import reads_ids
from engine.kmeans.select_k import check_cluster_count
from engine.model.assignments import check_id_name
from engine.pipeline.memory_plan import MemoryPlan, free_disk_bytes, nearest_existing_folder, plan_memory
from engine.pipeline.night import open_night
from engine.pipeline.stage_libraries import StageLibraries
from engine.pipeline.trial_fit import (
    MIN_HEAD_ROWS,
    TableHead,
    TrialStorage,
    only_errors_logged,
    run_trial_fit,
    warm_up,
)
from engine.tables import BLOCK_ROWS, Table
from engine.tables.output_paths import check_apart, local_path
from engine.tables.snapshot import snapshot
from engine.utils.atomic_files import scratch_folder

HEAD_ROWS = 16 * BLOCK_ROWS  # most rows of the table's head
HEAD_VALUES = 32 * HEAD_ROWS  # most values of the head: wide tables have a shorter one
# The warm-up fit compiles and loads kernels and allocates memory, on an eighth of the head or half of its blocks.
WARM_UP_DIVISOR = 8
UNLIMITED_FILE_BYTES = 1 << 40  # limit of a trial's spill file: where a fit has one, it holds all rows
WORKER_START_SECONDS = 2.0  # starting and ending workers


@dataclass(frozen=True)
class FitEstimate:
    """Estimate of a fit: its features, its memory plan and its time."""

    n_rows: int
    n_head_rows: int
    features: FittedFeatures
    n_components: int
    n_clusters: int | str
    metric: Metric
    cached_row_bytes: float | None  # bytes of a row in the block cache, if all rows of the head were cached
    plan: MemoryPlan
    resources: WorkerResources | None
    seconds: float  # of the whole process
    device: str
    libraries: StageLibraries

    def facts(self) -> dict[str, Any]:
        """Return the estimate as plain JSON values."""
        return {
            "rows": self.n_rows,
            "estimated_from_rows": self.n_head_rows,
            "columns": [{"column": r.column, "role": r.role, "reason": r.reason} for r in self.features.roles],
            "features": [feature.name for feature in self.features.encoder.features],
            "groups": {name: group.weight for name, group in self.features.weights.groups.items()},
            "components": self.n_components,
            "clusters": self.n_clusters,
            "metric": self.metric,
            "plan": self.plan.facts(),
            "memory_bytes": self.plan.memory_bytes,
            "memory_available_bytes": self.plan.free_bytes,
            "workers": None if self.resources is None else self.resources.n_workers,
            "disk_bytes": self.plan.disk_bytes,
            "seconds": round(self.seconds, 1),
            "device": self.device,
            "computed_by": self.libraries.facts(),
        }

    @property
    def _per_worker(self) -> str:
        if self.resources is None:
            return ""
        n_workers = self.resources.n_workers
        return " in the worker" if n_workers == 1 else f" in each of {n_workers} workers"

    def describe(self) -> str:
        """Return the estimate as text for the terminal."""
        rows = list(_role_table(self.features.roles))
        width = max((len(column) for column, _, _ in rows), default=0)
        lines = [f"{column:<{width}}  {role:<11}  {reason}" for column, role, reason in rows]
        notice = self.features.weights.notice()
        lines += [
            "",
            *([] if notice is None else [notice]),
            f"{self.n_rows:,} rows; roles and rates from the first {self.n_head_rows:,}",
            f"{self.features.encoder.n_features} features, {self.n_components} components, "
            f"k = {self.n_clusters}, metric {self.metric}, device {self.device}",
            f"computed: {self.libraries.describe()}",
            f"plan: {self.plan.kind}, for {self.plan.why}",
            f"memory: about {self.plan.memory_bytes / 2**30:.2f} GiB{self._per_worker} "
            f"({self.plan.free_bytes / 2**30:.1f} GiB are free{self._per_worker})",
            f"temporary files: about {self.plan.disk_bytes / 2**30:.2f} GiB",
            f"time: about {self.seconds:.0f} s",
        ]
        return "\n".join(lines)


def worker_time_factor(resources: WorkerResources, *, started_here: bool) -> float:
    """Return the time of a pass on the workers, divided by its time on the threads of this process."""
    ratio = thread_count() / (resources.n_workers * resources.threads)
    return max(ratio, 1.0) if started_here else ratio  # workers started here share the threads of this process


def estimate_fit(source: Any, settings: FitConfig, *, out: Path | None = None) -> FitEstimate:
    """Estimate what engine.fit would do with a table, and take, from fits of its first blocks.

    Parameters
    ----------
    source : as in engine.fit
    settings : FitConfig
    out : path, optional
        The run directory that the fit would write: its disk is checked.

    Raises
    ------
    UsageError, DataError, DeviceNotAvailableError, OutOfResourcesError, OutputOverlapError
        As engine.fit would, for the head of the table, and if memory or disk will not suffice.
    """
    if out is not None:
        check_apart(local_path(out), source, settings.previous)
    check_id_name(settings.id)
    find_namer(settings.explain.namer)
    parent = (out or Path.cwd() / "run").absolute().parent
    with snapshot(source, id=settings.id, parent=nearest_existing_folder(parent)) as rows:
        return _estimate(rows, settings, parent)


def _estimate(source: Any, settings: FitConfig, parent: Path) -> FitEstimate:
    """Estimate the fit of a table that can be read several times, with files in `parent`."""
    start_seconds = time.time() - psutil.Process().create_time()
    table, settings, previous = open_night(source, settings)
    n_rows = count_rows(table)
    check_cluster_count(settings.kmeans.n_clusters, n_rows)
    resources = find_worker_resources(settings.cluster, table, nearest_existing_folder(parent))
    free_disk = free_disk_bytes(parent)
    plan_fit = partial(
        plan_memory, n_rows, table.schema, settings, free_disk=free_disk,
        reading_bytes=reading_bytes(table), resources=resources,
        earlier_people=None if previous is None else previous.n_people,
    )  # fmt: skip
    plan = plan_fit()
    plan.check(parent, free_disk)
    head = TableHead(table, max(min(HEAD_ROWS, HEAD_VALUES // len(table.schema)), MIN_HEAD_ROWS))
    if plan.streamed:
        mmap_large_arrays()
    share, n_workers = n_rows / head.n_rows, 1 if resources is None else resources.n_workers
    with scratch_folder(nearest_existing_folder(parent) if plan.streamed else None) as folder:
        memory_limit = int(n_workers * plan.keep_bytes / share)
        file_limit = UNLIMITED_FILE_BYTES if plan.file_bytes else 0
        trial_storage = TrialStorage(folder, plan.streamed, memory_limit, file_limit)
        nwarm_up = max(-(-head.n_rows // WARM_UP_DIVISOR), head.n_rows // 2 // BLOCK_ROWS * BLOCK_ROWS)
        warm_up(TableHead(table, nwarm_up), settings, previous, trial_storage)
        with only_errors_logged("engine.pipeline.stages"):  # clusters of the head are not those of the table
            trial = run_trial_fit(head, settings, previous, trial_storage)
    plan = plan_fit(
        streamed=plan.streamed, n_components=trial.Z.shape[1], n_features=trial.features.encoder.n_features,
        cached_row_bytes=trial.cached_row_bytes,
    )  # fmt: skip
    plan.check(parent, free_disk)
    growing = share * trial.growing + (share - 1.0) * trial.counting
    if resources is not None:
        start_seconds += WORKER_START_SECONDS
        growing *= worker_time_factor(resources, started_here=settings.cluster.workers is not None)
    seconds = start_seconds + growing + trial.constant
    return FitEstimate(
        n_rows, head.n_rows, trial.features, trial.Z.shape[1], settings.kmeans.n_clusters, settings.kmeans.metric,
        trial.cached_row_bytes, plan, resources, seconds, trial.device,
        _stage_libraries(table, settings, trial.features.encoder),
    )  # fmt: skip


def _stage_libraries(table: Table, settings: FitConfig, encoder: FeatureEncoder) -> StageLibraries:
    """Return which library would compute each stage of the fit of the whole table."""
    backend, reason = backends.resolve(settings.device)
    libraries, reader = StageLibraries(settings, backend, reason), choose_reader(backend, table)
    rows = reader if isinstance(reader, str) else reader.encoded_table(encoder)
    libraries.record_reader(rows if isinstance(rows, str) else rows.reader)
    libraries.record_statistics(not isinstance(rows, str))
    if settings.id is not None:
        libraries.record_ids(reads_ids(reader, settings.id), f"{settings.id!r} is not read there")
    return libraries


def _role_table(roles: Sequence[ColumnRole]) -> Iterator[tuple[str, str, str]]:
    """Yield columns, roles and reasons; the columns of a vector with the same role as one row."""
    for (vector, role), group in groupby(roles, key=lambda r: (r.vector or r.column, r.role)):
        columns = list(group)
        if len(columns) == 1:
            yield columns[0].column, role, columns[0].reason
        else:
            yield vector, role, f"{len(columns)} numbers of a vector"
