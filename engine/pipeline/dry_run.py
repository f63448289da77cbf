"""`rooms fit --dry-run`: roles, features, plan, memory, disk and time of a fit, from the table's first blocks.

    head of the table  ->  the steps of a fit, once to warm up and once on the clock  ->  seconds a row, seconds a job

What a step takes grows with the rows, or it does not: samples, the map's landmarks, seeds, trees. The second kind is
timed as it is, and t-SNE by a few iterations of it. Memory and disk are the plan's (pipeline/memory_plan.py). Nothing
stays.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from numpy.typing import NDArray

from engine import backends
from engine.blocks import reading_bytes, reads_parts, row_count
from engine.config import FitConfig
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.execution.block_cache import Shelf
from engine.execution.cluster import Crew
from engine.execution.glibc_malloc import give_back_arrays
from engine.execution.threads import thread_count
from engine.execution.worker_pool import crew_for
from engine.explain.stage import explain_run, rows_to_explain, sheet_of
from engine.features.column_roles import RoleOf
from engine.features.fit import FittedFeatures
from engine.kmeans.initialization import initial_centres
from engine.kmeans.lloyd import RowSet
from engine.kmeans.select_k import choose_k
from engine.pipeline.checkpoints import Checkpoints
from engine.pipeline.landmark_map import place_all
from engine.pipeline.memory_plan import Plan, disk_free, existing, plan_of
from engine.pipeline.stages import Job
from engine.pipeline.timing import Stages
from engine.progress import Advance
from engine.tables import BLOCK_ROWS, Block, Table, open_table
from engine.tsne.device import embed, placement_index
from engine.tsne.types import MapPlan
from engine.utils.atomic_files import scratch_folder

HEAD_ROWS = 16 * BLOCK_ROWS  # of the table, to tell the others by …
HEAD_CELLS = 32 * HEAD_ROWS  # … or so few as hold so many values …
LEAST_ROWS = 20_000  # … but as many as the samples of a fit have
WARM_SHARE = 8  # an eighth of them, or half of their blocks, is done once before: kernels are loaded, memory is there
ENOUGH = 1 << 40  # bytes for all rows of a head in a file: where the fit has one, it has room for all rows
PACED = 0.1  # of a pass: its blocks have a pace if they do not come in all at once, at its end
BRIEF = 30  # iterations of t-SNE that tell what all of them take …
SPREAD = 0.2  # … on landmarks so far apart that one takes what all take on average: deviation / root of their number
COUNTING = 0.1  # of the pass of statistics: what counting rules on the notes of all rows takes
STARTING = 2.0  # seconds for workers to come and to go
REPORT = 0.5  # seconds to draw and to write the report


class Head:
    """The first rows of a table, as a table."""

    def __init__(self, table: Table, n_rows: int) -> None:
        self._table, self.n_rows = table, min(row_count(table), n_rows)

    @property
    def schema(self) -> pa.Schema:
        """The whole table's columns."""
        return self._table.schema

    @property
    def in_parts(self) -> bool:
        """Whether the whole table can be read in parts."""
        return reads_parts(self._table)

    def blocks(
        self, columns: Sequence[str] | None = None, *, coded: bool = False, first: int = 0, stop: int | None = None
    ) -> Iterator[Block]:
        """Yield the blocks of the head, or some of them; the last one may be a part of the table's."""
        n_blocks = -(-self.n_rows // BLOCK_ROWS)
        stop = n_blocks if stop is None else min(stop, n_blocks)
        if reads_parts(self._table):
            found = self._table.blocks(columns, coded=coded, first=first, stop=stop)
        else:
            found = islice(self._table.blocks(columns, coded=coded), first, stop)
        for block in found:
            rest = self.n_rows - block.start
            yield block if len(block) <= rest else Block(block.start, block.rows.slice(0, rest).combine_chunks())

    def fingerprint(self) -> dict[str, Any]:
        """Return the whole table's."""
        return self._table.fingerprint()


@dataclass(frozen=True)
class Forecast:
    """What a fit would do, and take."""

    rows: int
    head_rows: int
    features: FittedFeatures
    components: int
    clusters: int | str
    kept_row: float | None  # bytes of a row between passes, if the head's were kept
    plan: Plan
    crew: Crew | None
    seconds: float  # of the whole process
    device: str

    def facts(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "rows": self.rows,
            "estimated_from_rows": self.head_rows,
            "columns": [{"column": r.column, "role": r.role, "reason": r.reason} for r in self.features.roles],
            "features": [feature.name for feature in self.features.encoder.features],
            "groups": {name: group.weight for name, group in self.features.weights.groups.items()},
            "components": self.components,
            "clusters": self.clusters,
            "plan": self.plan.facts(),
            "memory_bytes": self.plan.memory_bytes,
            "memory_available_bytes": self.plan.free_bytes,
            "workers": None if self.crew is None else self.crew.n_workers,
            "disk_bytes": self.plan.disk_bytes,
            "seconds": round(self.seconds, 1),
            "device": self.device,
        }

    @property
    def _each(self) -> str:
        if self.crew is None:
            return ""
        return " in the worker" if self.crew.n_workers == 1 else f" in each of {self.crew.n_workers} workers"

    def describe(self) -> str:
        """Return the same for people."""
        told = list(_told(self.features.roles))
        width = max((len(column) for column, _, _ in told), default=0)
        lines = [f"{column:<{width}}  {role:<11}  {reason}" for column, role, reason in told]
        notice = self.features.weights.notice()
        lines += [
            "",
            *([] if notice is None else [notice]),
            f"{self.rows:,} rows; roles and rates from the first {self.head_rows:,}",
            f"{self.features.encoder.n_features} features, {self.components} components, "
            f"k = {self.clusters}, device {self.device}",
            f"plan: {self.plan.kind}, for {self.plan.why}",
            f"memory: about {self.plan.memory_bytes / 2**30:.2f} GiB{self._each} "
            f"({self.plan.free_bytes / 2**30:.1f} GiB are free{self._each})",
            f"temporary files: about {self.plan.disk_bytes / 2**30:.2f} GiB",
            f"time: about {self.seconds:.0f} s",
        ]
        return "\n".join(lines)


def times_as_long(crew: Crew, *, started_here: bool) -> float:
    """Return how many times as long as on this process' threads work takes on workers."""
    share = thread_count() / (crew.n_workers * crew.threads)
    return max(share, 1.0) if started_here else share  # more workers than threads share the threads


def forecast(source: Any, settings: FitConfig, *, out: Path | None = None) -> Forecast:
    """Look at the first blocks of a table and say what engine.fit would do with all of it.

    Parameters
    ----------
    source : as in engine.fit
    settings : FitConfig
    out : path, optional
        Where the run would be, for its disk to be looked at.

    Raises
    ------
    DataError, DeviceNotAvailableError, OutOfResourcesError
        What engine.fit would raise for the head of the table, and for want of memory or disk.
    """
    started = time.time() - psutil.Process().create_time()
    table = open_table(source, id=settings.id)
    rows = row_count(table)
    parent = (out or Path.cwd() / "run").absolute().parent
    crew = crew_for(settings.cluster, table, existing(parent))
    room, reading = disk_free(parent), reading_bytes(table)
    plan = plan_of(rows, table.schema, settings, crew=crew, disk_free=room, reading=reading)
    plan.check(parent)
    head = Head(table, max(min(HEAD_ROWS, HEAD_CELLS // len(table.schema)), LEAST_ROWS))
    if plan.streamed:
        give_back_arrays()
    share, n_workers = rows / head.n_rows, 1 if crew is None else crew.n_workers
    with scratch_folder(existing(parent) if plan.streamed else None) as folder:
        keep = int(n_workers * plan.keep_bytes / share)
        place = _Place(folder, plan.streamed, keep, ENOUGH if plan.file_bytes else 0)
        warm = max(-(-head.n_rows // WARM_SHARE), head.n_rows // 2 // BLOCK_ROWS * BLOCK_ROWS)
        _rehearsed(Head(table, warm), settings, place)
        found = _rehearsed(head, settings, place)
    settled = plan_of(
        rows, table.schema, settings, streamed=plan.streamed, crew=crew, disk_free=room, reading=reading,
        components=found.Z.shape[1], n_features=found.features.encoder.n_features, kept_row=found.kept_row,
    )  # fmt: skip
    settled.check(parent)
    growing = share * found.growing + (share - 1.0) * found.counting
    if crew is not None:
        started += STARTING
        growing *= times_as_long(crew, started_here=settings.cluster.workers is not None)
    seconds = started + growing + found.constant
    return Forecast(
        rows, head.n_rows, found.features, found.Z.shape[1], settings.kmeans.n_clusters, found.kept_row, settled, crew,
        seconds, found.device,
    )  # fmt: skip


def _told(roles: Sequence[RoleOf]) -> Iterator[tuple[str, str, str]]:
    """Yield columns, roles and reasons; those of a vector's numbers together, where they are alike."""
    for (vector, role), alike in groupby(roles, key=lambda r: (r.vector or r.column, r.role)):
        found = list(alike)
        if len(found) == 1:
            yield found[0].column, role, found[0].reason
        else:
            yield vector, role, f"{len(found)} numbers of a vector"


class _Clock:
    """A reporter that notes when a stage's rows were done."""

    def __init__(self) -> None:
        self.moments: dict[str, list[tuple[float, int]]] = {}

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        """Yield a function that looks at the clock."""
        start = time.perf_counter()
        self.moments[name] = []
        yield lambda rows: self.moments[name].append((time.perf_counter() - start, rows))

    def growing(self, name: str, took: float) -> float:
        """Return the seconds of a stage that grow with the rows.

        They are what its rows take at the usual pace of as many blocks as there are threads, the first ones left out:
        opening files, and what comes after the last rows, take as long for any number.
        """
        times, rows = (np.array(part) for part in zip(*(self.moments.get(name) or [(took, 1)]), strict=True))
        n = thread_count()
        if len(times) < 2 * n or times[-1] - times[n - 1] < PACED * times[-1]:
            return float(min(times[-1], took))
        done = np.cumsum(rows)
        return float(np.median((times[n:] - times[:-n]) / (done[n:] - done[:-n])) * done[-1])


@dataclass(frozen=True)
class _Place:
    """Where a rehearsal's rows live, as those of the fit do; the rest of what it writes is gone with the folder."""

    folder: Path
    streamed: bool
    keep_bytes: int
    file_bytes: int

    @property
    def storage(self) -> Storage:
        return Storage(self.folder) if self.streamed else IN_MEMORY

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.keep_bytes, self.folder if self.file_bytes else None, self.file_bytes)


@dataclass(frozen=True)
class _Rehearsal:
    """What the head came to, and the seconds that grow with the rows, and those that do not."""

    features: FittedFeatures
    Z: NDArray[np.float32]
    device: str
    growing: float
    constant: float
    counting: float  # per head, beyond the first one
    kept_row: float | None  # bytes a row between passes, if all were kept


def _rehearsed(head: Head, settings: FitConfig, place: _Place) -> _Rehearsal:
    """Do the steps of a fit on the head."""
    backend, _ = backends.resolve(settings.device)
    clock, n_rows = _Clock(), head.n_rows
    stages = Stages(clock)
    k_range = range(settings.kmeans.k_min, settings.kmeans.k_max + 1)
    swept = settings.kmeans.n_clusters == "auto"
    k = min(k_range[-1] if swept else int(settings.kmeans.n_clusters), n_rows)
    given = settings.model_copy(update={"kmeans": settings.kmeans.model_copy(update={"n_clusters": k})})
    job = Job(head, n_rows, given, backend, stages, place.storage, Checkpoints())
    job.check_ids()
    shelf = place.shelf
    sampled = rows_to_explain(n_rows, settings)
    features = job.features(shelf, [sampled])
    kept_row = None if shelf.full else (shelf.n_bytes + shelf.n_filed) / n_rows or None
    sheet = None
    if "explain" not in settings.skip:
        sheet = sheet_of(head.schema, sampled, features.encoder, settings, n_rows, place.storage)
    pca = job.pca(features, [] if sheet is None else [sheet])
    Z = job.scores(features, pca)
    with stages.stage("seeds"):
        sample = RowSet.of(Z, None, backend)
        initial_centres(sample, "k-means++", k, np.random.RandomState(settings.seed), settings.kmeans.max_iter)
    _, found = job.clusters(Z)
    if swept:
        with stages.stage("choose k"):
            choose_k(Z, k_range[len(k_range) // 2 :][:1], random_state=settings.seed)
    if "map" not in settings.skip:
        _mapped(Z, job)
    job.assignments(Z, job.model(features, pca, Z, found.centres), place.folder / "assignments")
    if sheet is not None:
        with stages.stage("explain"):
            explain_run(place.folder, head, sampled, sheet, found.labels, k, features.encoder, settings)
    took = {record["stage"]: float(record["seconds"]) for record in stages.records}
    passes = [name for name in ("ids", "statistics", "pca", "scores", "place", "assign") if name in took]
    growing = sum(clock.growing(name, took[name]) for name in passes)
    constant = sum(took[name] for name in passes) - growing
    constant += sum(took.get(name, 0.0) for name in ("measure", "neighbours", "explain", "seeds"))
    constant += took.get("map", 0.0) * settings.map.max_iter / BRIEF + took.get("choose k", 0.0) * len(k_range)
    constant += REPORT if set(settings.skip) < {"map", "report"} else 0.0
    counting = COUNTING * took["statistics"] if "explain" in took else 0.0
    return _Rehearsal(
        features, Z, backend.name, growing + max(took["k-means"] - took["seeds"], 0.0), constant, counting, kept_row
    )


def _mapped(Z: NDArray[np.float32], job: Job) -> None:
    """Lay out landmarks for a few iterations, where they stay, and place all rows of the head among them."""
    landmarks = np.ascontiguousarray(Z[:: max(1, len(Z) // job.settings.map.n_landmarks)])
    start = landmarks[:, [0, min(1, Z.shape[1] - 1)]].copy()
    start *= np.float32(SPREAD * len(start) ** 0.5 / max(float(start.std()), 1e-30))
    perplexity = min(job.settings.map.perplexity, len(landmarks) / 3)
    still = MapPlan(perplexity, 1.0, 0, BRIEF, 0.0, 0.0)
    layout = embed(job.backend, landmarks, start, still, job.stages).places
    with job.stages.stage("place", len(Z)) as advance:
        place_all(Z, job.backend, placement_index(job.backend, landmarks, layout), job.storage, advance)
