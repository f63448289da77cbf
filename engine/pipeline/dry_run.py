"""`rooms fit --dry-run`: estimate roles, features, plan, memory, disk and time of a fit from the table's first blocks.

    head of the table  ->  trial fits of it, one to warm up and one timed  ->  seconds a row, seconds a job

The time of a stage grows with the rows, or it does not: samples, the map's landmarks, seeds, trees. Stages of the
second kind are timed as they are, and t-SNE by a few of its iterations. Memory and disk are those of the memory plan
(pipeline/memory_plan.py). No file is left behind.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from numpy.typing import NDArray

from engine import backends
from engine.blocks import count_rows, has_random_access, reading_bytes
from engine.config import FitConfig, Metric
from engine.errors import DataError
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.execution.block_cache import BlockCache
from engine.execution.cluster import WorkerResources
from engine.execution.glibc_malloc import mmap_large_arrays
from engine.execution.threads import thread_count
from engine.execution.worker_pool import find_worker_resources
from engine.explain.personas.own_names import find_namer
from engine.explain.stage import create_binned_table, draw_row_sample, explain_run
from engine.features.column_roles import ColumnRole
from engine.features.encoder import FeatureEncoder
from engine.features.fit import FittedFeatures, choose_reader
from engine.features.gpu_ids import reads_ids
from engine.kmeans.initialization import distinct_rows, initialize_centers
from engine.kmeans.lloyd import Samples
from engine.kmeans.select_k import FIRST_END, choose_k
from engine.kmeans.stability import describe_stability
from engine.kmeans.unknown_values import fill_unknown
from engine.kmeans.valleys import find_valleys
from engine.lineage.previous import PreviousRun
from engine.model.assignments import check_id_name
from engine.pipeline.checkpoints import Checkpoints
from engine.pipeline.landmark_map import place_all_rows
from engine.pipeline.memory_plan import MemoryPlan, free_disk_bytes, nearest_existing_folder, plan_memory
from engine.pipeline.night import open_night
from engine.pipeline.stage_libraries import StageLibraries
from engine.pipeline.stages import Job
from engine.pipeline.timing import StageTimer
from engine.progress import Advance
from engine.tables import BLOCK_ROWS, Block, Table
from engine.tables.output_paths import check_apart, local_path
from engine.tables.snapshot import snapshot
from engine.tsne.device import build_placement_index, embed
from engine.tsne.types import EmbeddingPlan
from engine.utils.atomic_files import scratch_folder
from engine.utils.row_sampling import sample_rows

HEAD_ROWS = 16 * BLOCK_ROWS  # most rows of the table's head
HEAD_VALUES = 32 * HEAD_ROWS  # most values of the head: wide tables have a shorter one
MIN_HEAD_ROWS = 20_000  # least rows of the head: as many as the samples of a fit
# The warm-up fit compiles and loads kernels and allocates memory, on an eighth of the head or half of its blocks.
WARM_UP_DIVISOR = 8
UNLIMITED_FILE_BYTES = 1 << 40  # limit of a trial's spill file: where a fit has one, it holds all rows
MIN_SPREAD = 0.1  # a pass is extrapolated from its blocks only if their completion times span 10 % of it
TRIAL_ITERATIONS = 30  # iterations of t-SNE that are timed
# Standard deviation of the trial's initial embedding / sqrt(n_landmarks): so wide that one of its iterations takes as
# long as the iterations of a fit do on average.
TRIAL_SPREAD = 0.2
RULE_COUNTING_SHARE = 0.1  # counting the rows of rules in the binned table, as a share of the pass of statistics
WORKER_START_SECONDS = 2.0  # starting and ending workers
REPORT_SECONDS = 0.5  # drawing and writing the report


class TableHead:
    """The first rows of a table, as a RandomAccessTable."""

    def __init__(self, table: Table, n_rows: int) -> None:
        self._table, self.n_rows = table, min(count_rows(table), n_rows)

    @property
    def schema(self) -> pa.Schema:
        """The table's columns."""
        return self._table.schema

    @property
    def random_access(self) -> bool:
        """Whether the whole table can be read in parts."""
        return has_random_access(self._table)

    def blocks(
        self,
        columns: Sequence[str] | None = None,
        *,
        dictionary_encoded: bool = False,
        first: int = 0,
        stop: int | None = None,
    ) -> Iterator[Block]:
        """Yield the blocks `first` to `stop` of the head, all by default; the last one may be a part of a table's."""
        n_blocks = -(-self.n_rows // BLOCK_ROWS)
        stop = n_blocks if stop is None else min(stop, n_blocks)
        if has_random_access(self._table):
            blocks = self._table.blocks(columns, dictionary_encoded=dictionary_encoded, first=first, stop=stop)
        else:
            blocks = islice(self._table.blocks(columns, dictionary_encoded=dictionary_encoded), first, stop)
        for block in blocks:
            n_left = self.n_rows - block.start
            yield block if len(block) <= n_left else Block(block.start, block.rows.slice(0, n_left).combine_chunks())

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the whole table."""
        return self._table.fingerprint()


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
    resources = find_worker_resources(settings.cluster, table, nearest_existing_folder(parent))
    plan_fit = partial(
        plan_memory, n_rows, table.schema, settings, free_disk=free_disk_bytes(parent),
        reading_bytes=reading_bytes(table), resources=resources,
        earlier_people=None if previous is None else previous.n_people,
    )  # fmt: skip
    plan = plan_fit()
    plan.check(parent)
    head = TableHead(table, max(min(HEAD_ROWS, HEAD_VALUES // len(table.schema)), MIN_HEAD_ROWS))
    if plan.streamed:
        mmap_large_arrays()
    share, n_workers = n_rows / head.n_rows, 1 if resources is None else resources.n_workers
    with scratch_folder(nearest_existing_folder(parent) if plan.streamed else None) as folder:
        memory_limit = int(n_workers * plan.keep_bytes / share)
        file_limit = UNLIMITED_FILE_BYTES if plan.file_bytes else 0
        trial_storage = _TrialStorage(folder, plan.streamed, memory_limit, file_limit)
        n_warm_up = max(-(-head.n_rows // WARM_UP_DIVISOR), head.n_rows // 2 // BLOCK_ROWS * BLOCK_ROWS)
        _warm_up(TableHead(table, n_warm_up), settings, previous, trial_storage)
        with _only_errors_logged("engine.pipeline.stages"):  # clusters of the head are not those of the table
            trial = _run_trial_fit(head, settings, previous, trial_storage)
    plan = plan_fit(
        streamed=plan.streamed, n_components=trial.Z.shape[1], n_features=trial.features.encoder.n_features,
        cached_row_bytes=trial.cached_row_bytes,
    )  # fmt: skip
    plan.check(parent)
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


class _RowClock:
    """A reporter that records when the rows of a stage were done."""

    def __init__(self) -> None:
        self.completions: dict[str, list[tuple[float, int]]] = {}  # stage -> (seconds since its start, rows)

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        """Yield a function that records the time."""
        start = time.perf_counter()
        self.completions[name] = []
        yield lambda rows: self.completions[name].append((time.perf_counter() - start, rows))

    def growing(self, name: str, seconds: float) -> float:
        """Return the seconds of a stage that grow with the rows, of all its `seconds`.

        They are the median time a row, measured between blocks that are one block a thread apart, times the rows. The
        first block of each thread is left out, and so is the time after the last rows: both are the same for any table.
        """
        times, rows = (np.array(part) for part in zip(*(self.completions.get(name) or [(seconds, 1)]), strict=True))
        n = thread_count()
        if len(times) < 2 * n or times[-1] - times[n - 1] < MIN_SPREAD * times[-1]:
            return float(min(times[-1], seconds))
        n_done = np.cumsum(rows)
        return float(np.median((times[n:] - times[:-n]) / (n_done[n:] - n_done[:-n])) * n_done[-1])


@dataclass(frozen=True)
class _TrialStorage:
    """Storage and block cache of a trial fit, like those of the fit; all its other files are in `folder`."""

    folder: Path
    streamed: bool
    memory_limit: int
    file_limit: int

    @property
    def storage(self) -> Storage:
        return Storage(self.folder) if self.streamed else IN_MEMORY

    @property
    def cache(self) -> BlockCache:
        return BlockCache(self.memory_limit, self.folder if self.file_limit else None, self.file_limit)


@dataclass(frozen=True)
class _TrialFit:
    """Result of a trial fit, and the seconds that grow with the rows and those that do not."""

    features: FittedFeatures
    Z: NDArray[np.float32]
    device: str
    growing: float
    constant: float
    counting: float  # seconds of counting rules for every further head's worth of rows
    cached_row_bytes: float | None  # bytes of a row in the block cache, if all rows were cached


def _warm_up(head: TableHead, settings: FitConfig, previous: PreviousRun | None, trial_storage: _TrialStorage) -> None:
    """Run a trial fit whose result does not count: what its rows lack, and are warned of, the whole table may have."""
    with warnings.catch_warnings(), suppress(DataError), _only_errors_logged("engine"):
        warnings.simplefilter("ignore")
        _run_trial_fit(head, settings, previous, trial_storage)


@contextmanager
def _only_errors_logged(name: str) -> Iterator[None]:
    """Log only errors, of the logger of that name and those below it."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _run_trial_fit(
    head: TableHead, settings: FitConfig, previous: PreviousRun | None, trial_storage: _TrialStorage
) -> _TrialFit:
    """Run the stages of a fit on the head; K-Means as if it continued no other, which takes no less."""
    backend, reason = backends.resolve(settings.device)
    clock, n_rows = _RowClock(), head.n_rows
    timer = StageTimer(clock)
    k_range = settings.kmeans.k_range or range(1, FIRST_END + 1)
    choose = settings.kmeans.n_clusters == "auto"
    k = min(k_range[-1] if choose else int(settings.kmeans.n_clusters), n_rows)
    libraries = StageLibraries(settings, backend, reason)
    job = Job(
        head, n_rows, settings, backend, timer, trial_storage.storage, Checkpoints(), libraries, previous=previous
    )
    job.check_ids()
    cache = trial_storage.cache
    row_sample = draw_row_sample(n_rows, settings)
    k_sample = job.draw_k_sample()
    features = job.features(cache, [row_sample, k_sample])
    cached_row_bytes = None if cache.full else (cache.n_bytes + cache.n_bytes_in_file) / n_rows or None
    binned_table = None
    if "explain" not in settings.skip:
        binned_table = create_binned_table(
            head.schema, row_sample, features.encoder, settings, n_rows, trial_storage.storage
        )
    pca = job.pca(features, [] if binned_table is None else [binned_table])
    Z = job.scores(features, pca)
    if choose:  # a sweep skips numbers that there are too few distinct rows for
        sample = np.ascontiguousarray(Z[sample_rows(n_rows, MIN_HEAD_ROWS, settings.seed)])
        k = min(k, len(distinct_rows(sample, np.ones(len(sample)))[0]))
    with_k = settings.model_copy(update={"kmeans": settings.kmeans.model_copy(update={"n_clusters": k})})
    if previous is not None:
        job.earlier_clusters(Z)
    job = replace(job, settings=with_k, previous=None)
    with timer.stage("seeds"):
        samples = Samples.from_array(Z, None, backend)
        initialize_centers(
            samples, "k-means++", k, np.random.RandomState(settings.seed), settings.kmeans.max_iter,
            several=settings.kmeans.n_init == "auto",
        )  # fmt: skip
    _, clustering, _ = job.clusters(Z, features, pca, k_sample)
    if choose:
        one_k, X = [min(k_range[len(k_range) // 2], k)], Z
        if settings.kmeans.k_method == "valley":
            X, unknown = features.encoder.encode_sample(k_sample.table())
            with timer.stage("valleys"):
                find_valleys(fill_unknown(X, unknown), features.encoder.attributes)
        with timer.stage("choose k"):
            choose_k(X, one_k, method="elbow", random_state=settings.seed)
    stability = job.stability(Z, clustering)
    if "map" not in settings.skip:
        _trial_map(Z, job)
    job.assignments(
        Z, job.model(features, pca, Z, clustering.centers, stability.odds), trial_storage.folder / "assignments"
    )
    if binned_table is not None:
        with timer.stage("explain"):
            explain_run(
                trial_storage.folder, head, row_sample, binned_table, clustering.labels, k, features.encoder, settings,
                describe_stability(stability), np.arange(k, dtype=np.int32), {}, {},
            )  # fmt: skip
    seconds = {record["stage"]: float(record["seconds"]) for record in timer.records}
    passes = [name for name in ("ids", "statistics", "pca", "scores", "place", "assign") if name in seconds]
    growing = sum(clock.growing(name, seconds[name]) for name in passes)
    constant = sum(seconds[name] for name in passes) - growing
    constant += sum(
        seconds.get(name, 0.0)
        for name in ("measure", "stability", "valleys", "neighbours", "explain", "seeds", "earlier clusters")
    )
    constant += seconds.get("map", 0.0) * settings.map.max_iter / TRIAL_ITERATIONS
    constant += seconds.get("choose k", 0.0) * len(k_range)
    constant += REPORT_SECONDS if set(settings.skip) < {"map", "report"} else 0.0
    counting = RULE_COUNTING_SHARE * seconds["statistics"] if "explain" in seconds else 0.0
    return _TrialFit(
        features,
        Z,
        backend.name,
        growing + max(seconds["k-means"] - seconds["seeds"], 0.0),
        constant,
        counting,
        cached_row_bytes,
    )


def _trial_map(Z: NDArray[np.float32], job: Job) -> None:
    """Run a few t-SNE iterations with a learning rate of 0, and place all rows of the head among the landmarks."""
    landmarks = np.ascontiguousarray(Z[:: max(1, len(Z) // job.settings.map.n_landmarks)])
    initial = landmarks[:, [0, min(1, Z.shape[1] - 1)]].copy()
    initial *= np.float32(TRIAL_SPREAD * len(initial) ** 0.5 / max(float(initial.std()), 1e-30))
    perplexity = min(job.settings.map.perplexity, len(landmarks) / 3)
    backend = job.reproducible_backend
    plan = EmbeddingPlan(perplexity, 1.0, 0, TRIAL_ITERATIONS, 0.0, 0.0, init="pca")  # cuML starts from no other
    embedding = embed(backend, landmarks, initial, plan, job.timer).embedding
    with job.timer.stage("place", len(Z)) as advance:
        place_all_rows(Z, backend, build_placement_index(backend, landmarks, embedding), job.storage, advance)
