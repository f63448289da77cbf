"""Trial fit of a table's first blocks: its stages, and the seconds of them that grow with the rows.

    TableHead  ->  TrialFit: features, scores, the seconds that grow with the rows and those that do not

The time of a stage grows with the rows, or it does not: samples, the map's landmarks, seeds, trees. Stages of the
second kind are timed as they are, and t-SNE by a few of its iterations.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import backends
from engine.blocks import count_rows, has_random_access
from engine.config import FitConfig
from engine.errors import DataError
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.execution.block_cache import BlockCache
from engine.execution.threads import thread_count
from engine.explain.row_sample import RowCollector
from engine.explain.stage import create_binned_table, draw_row_sample, explain_run
from engine.features.fit import FittedFeatures
from engine.kmeans.initialization import distinct_rows, initialize_centers
from engine.kmeans.lloyd import Samples
from engine.kmeans.select_k import FIRST_END, choose_k
from engine.kmeans.stability import describe_stability
from engine.kmeans.unknown_values import fill_unknown
from engine.kmeans.valleys import find_valleys
from engine.lineage.previous import PreviousRun
from engine.pipeline.checkpoints import Checkpoints
from engine.pipeline.landmark_map import place_all_rows
from engine.pipeline.stage_libraries import StageLibraries
from engine.pipeline.stages import Job
from engine.pipeline.timing import StageTimer
from engine.progress import Advance
from engine.tables import BLOCK_ROWS, Block, Table
from engine.tsne.device import build_placement_index, embed
from engine.tsne.types import EmbeddingPlan
from engine.utils.row_sampling import sample_rows

MIN_HEAD_ROWS = 20_000  # least rows of the head: as many as the samples of a fit
MIN_SPREAD = 0.1  # a pass is extrapolated from its blocks only if their completion times span 10 % of it
TRIAL_ITERATIONS = 30  # iterations of t-SNE that are timed
# Standard deviation of the trial's initial embedding / sqrt(n_landmarks): so wide that one of its iterations takes as
# long as the iterations of a fit do on average.
TRIAL_SPREAD = 0.2
RULE_COUNTING_SHARE = 0.1  # counting the rows of rules in the binned table, as a share of the pass of statistics
REPORT_SECONDS = 0.5  # drawing and writing the report
GROWING_STAGES = ("ids", "statistics", "pca", "scores", "place", "assign")
CONSTANT_STAGES = ("measure", "stability", "valleys", "neighbours", "explain", "seeds", "earlier clusters")


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


class RowClock:
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
class TrialStorage:
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
class TrialFit:
    """Result of a trial fit, and the seconds that grow with the rows and those that do not."""

    features: FittedFeatures
    Z: NDArray[np.float32]
    device: str
    growing: float
    constant: float
    counting: float  # seconds of counting rules for every further head's worth of rows
    cached_row_bytes: float | None  # bytes of a row in the block cache, if all rows were cached


def warm_up(head: TableHead, settings: FitConfig, previous: PreviousRun | None, trial_storage: TrialStorage) -> None:
    """Run a trial fit whose result does not count: what its rows lack, and are warned of, the whole table may have."""
    with warnings.catch_warnings(), suppress(DataError), only_errors_logged("engine"):
        warnings.simplefilter("ignore")
        run_trial_fit(head, settings, previous, trial_storage)


@contextmanager
def only_errors_logged(name: str) -> Iterator[None]:
    """Log only errors, of the logger of that name and those below it."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def run_trial_fit(
    head: TableHead, settings: FitConfig, previous: PreviousRun | None, trial_storage: TrialStorage
) -> TrialFit:
    """Run the stages of a fit on the head; K-Means as if it continued no other, which takes no less."""
    backend, reason = backends.resolve(settings.device)
    clock, n_rows = RowClock(), head.n_rows
    timer = StageTimer(clock)
    libraries = StageLibraries(settings, backend, reason)
    job = Job(
        head, n_rows, settings, backend, timer, trial_storage.storage, Checkpoints(), libraries, previous=previous
    )
    job.check_ids()
    cache = trial_storage.cache
    row_sample, k_sample = draw_row_sample(n_rows, settings), job.draw_k_sample()
    features = job.features(cache, [row_sample, k_sample])
    cached_row_bytes = None if cache.full else (cache.n_bytes + cache.n_bytes_in_file) / n_rows or None
    binned_table = None
    if "explain" not in settings.skip:
        binned_table = create_binned_table(
            head.schema, row_sample, features.encoder, settings, n_rows, trial_storage.storage
        )
    pca = job.pca(features, [] if binned_table is None else [binned_table])
    Z = job.scores(features, pca)
    if previous is not None:
        job.earlier_clusters(Z)
    k = _trial_k(Z, settings)
    with_k = settings.model_copy(update={"kmeans": settings.kmeans.model_copy(update={"n_clusters": k})})
    job = replace(job, settings=with_k, previous=None)
    _time_seeds(Z, k, job)
    _, clustering, _ = job.clusters(Z, features, pca, k_sample)
    if settings.kmeans.n_clusters == "auto":
        _time_choice_of_k(Z, k, features, k_sample, job)
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
    growing, constant, counting = _split_seconds(timer, clock, settings)
    return TrialFit(features, Z, backend.name, growing, constant, counting, cached_row_bytes)


def _k_range(settings: FitConfig) -> range:
    """Return the numbers of clusters that a fit chooses from."""
    return settings.kmeans.k_range or range(1, FIRST_END + 1)


def _trial_k(Z: NDArray[np.float32], settings: FitConfig) -> int:
    """Return the number of clusters of the trial: that of the fit, or the largest that it chooses from."""
    if settings.kmeans.n_clusters != "auto":
        return min(settings.kmeans.n_clusters, len(Z))
    # A sweep skips numbers that there are too few distinct rows for.
    sample = np.ascontiguousarray(Z[sample_rows(len(Z), MIN_HEAD_ROWS, settings.seed)])
    return min(_k_range(settings)[-1], len(distinct_rows(sample, np.ones(len(sample)))[0]))


def _time_seeds(Z: NDArray[np.float32], k: int, job: Job) -> None:
    """Draw the initial centers of a fit, which takes the same time for any number of rows."""
    with job.timer.stage("seeds"):
        initialize_centers(
            Samples.from_array(Z, None, job.backend), "k-means++", k, np.random.RandomState(job.settings.seed),
            job.settings.kmeans.max_iter, several=job.settings.kmeans.n_init == "auto",
        )  # fmt: skip


def _time_choice_of_k(
    Z: NDArray[np.float32],
    k: int,
    features: FittedFeatures,
    k_sample: RowCollector,
    job: Job,
) -> None:
    """Search for valleys as a fit does, and cluster by one number of those that a fit chooses from."""
    settings, timer = job.settings, job.timer
    k_range, X = _k_range(settings), Z
    if settings.kmeans.k_method == "valley":
        X, unknown = features.encoder.encode_sample(k_sample.table())
        with timer.stage("valleys"):
            find_valleys(fill_unknown(X, unknown), features.encoder.attributes)
    with timer.stage("choose k"):
        only = [min(k_range[len(k_range) // 2], k)]
        choose_k(X, only, method="elbow", random_state=settings.seed, device=job.backend)


def _split_seconds(timer: StageTimer, clock: RowClock, settings: FitConfig) -> tuple[float, float, float]:
    """Return the seconds of a fit of the head that grow with the rows, those that do not, and those of counting."""
    seconds = {record["stage"]: float(record["seconds"]) for record in timer.records}
    passes = [name for name in GROWING_STAGES if name in seconds]
    growing = sum(clock.growing(name, seconds[name]) for name in passes)
    constant = sum(seconds[name] for name in passes) - growing
    constant += sum(seconds.get(name, 0.0) for name in CONSTANT_STAGES)
    constant += seconds.get("map", 0.0) * settings.map.max_iter / TRIAL_ITERATIONS
    constant += seconds.get("choose k", 0.0) * len(_k_range(settings))
    constant += REPORT_SECONDS if set(settings.skip) < {"map", "report"} else 0.0
    counting = RULE_COUNTING_SHARE * seconds["statistics"] if "explain" in seconds else 0.0
    return growing + max(seconds["k-means"] - seconds["seeds"], 0.0), constant, counting


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
