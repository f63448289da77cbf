"""Rows clustered where they are: the rows of a mapped file, in shares, each with one worker of a cluster.

    Z in a file that all see, cluster  ->  SharedRows, which lloyd() takes for a RowSet

A task is pure: it names a share and the centres of the last pass and of this one, and finds the sums of the share's
clusters and how many labels changed. What speeds that up (labels, slack, codes) stays with the worker, unseen by
others: one that takes over a share labels it by the last pass' centres first, and finds the same bits. So a worker that
is lost, or that comes back when nobody expects it, cannot spoil anything.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine.backends.protocol import Backend, ClusterSums, Float64s, Grid, Int32s, Int64s, LibraryPlan, Rows
from engine.blocks import BLOCK_ROWS
from engine.execution.array_storage import Storage
from engine.execution.block_cache import forget_rows, to_forget
from engine.execution.cluster import Cluster
from engine.execution.cluster import Run as Blocks
from engine.kernels.cpu.kmeans.quantize import empty_coded, lowest_level
from engine.kmeans.fixed_point import fixed_point_grid
from engine.kmeans.lloyd import RowSet, Run, Work, first_of, surveyed
from engine.kmeans.multi_gpu import MultiGpuKMeans

STATE = 8  # bytes a row of K-Means: label and slack
SHARE_TASKS = 8  # a pass of K-Means over a row takes about that many times less than reading it


def notes_bytes(components: int) -> int:
    """Return the bytes that K-Means takes of a row beside its scores, on hosts like this one."""
    return sum(array.nbytes for array in empty_coded(1, components, lowest_level(components))) + STATE


@dataclass(frozen=True)
class Source:
    """What a worker needs to know of the rows, besides which share of them is meant."""

    token: str
    X: Rows
    backend: Backend
    grid: Grid | None
    folder: Path  # for what has no room in a worker's memory
    room: int  # bytes of it


@dataclass
class SharedRows(RowSet):
    """Rows in a mapped file, whose passes run on a cluster."""

    cluster: Cluster = field(kw_only=True)
    source: Source = field(kw_only=True)
    shares: list[Blocks] = field(kw_only=True)
    homes: dict[int, str] = field(default_factory=dict)  # who has which share

    @classmethod
    def on(cls, cluster: Cluster, X: Rows, backend: Backend, storage: Storage) -> SharedRows:
        """Measure rows that are known to be finite, and hand them to workers in shares."""
        assert storage.folder is not None
        source = Source(uuid.uuid4().hex, X, backend, None, storage.folder, cluster.room)
        shares = cluster.runs(-(-len(X) // BLOCK_ROWS), BLOCK_ROWS, SHARE_TASKS * cluster.task_rows)
        homes: dict[int, str] = {}
        extents = list(cluster.map(partial(_extent, source), shares, "survey", homes))
        low = np.min([least for least, _ in extents], axis=0)
        high = np.max([largest for _, largest in extents], axis=0)
        grid = fixed_point_grid(low, high, X.dtype, len(X))
        return cls(
            X, np.empty(0), float(len(X)), grid, backend, None, storage,
            cluster=cluster, source=replace(source, grid=grid), shares=shares, homes=homes,
        )  # fmt: skip

    def run(self, n_clusters: int) -> SharedRun:
        """Return what carries a run of Lloyd's algorithm over these rows from pass to pass."""
        return SharedRun(self, n_clusters)

    def square_sums(self) -> tuple[Int64s, Int64s]:
        """Return the sums of all rows and of their squares, in fixed point."""
        parts = list(self.each(_square_sums, "square sums"))
        sums, squares = (np.sum([part[i] for part in parts], axis=0) for i in range(2))
        return sums, squares

    def label(self, centres: Rows) -> Int32s:
        """Return the label of every row."""
        run = self.run(len(centres))
        run.relabel(centres)
        run.inertia(centres)
        return run.labels

    def library_centres(self, start: Rows | str, plan: LibraryPlan) -> tuple[Rows, int]:
        """Return the centres that cuML finds on all workers together, and its number of iterations."""
        cluster = self.cluster
        if not self.backend.one_per_worker or cluster.scheduler is None or cluster.folder is None:
            return super().library_centres(start, plan)
        rows: Any = self.X
        return MultiGpuKMeans(cluster.scheduler, cluster.settings, cluster.folder).centres(rows, start, plan)

    def each(self, function: Callable[..., Any], what: str, *arguments: Any) -> Iterator[Any]:
        """Yield function(source, *arguments, share) for every share, in order."""
        return self.cluster.map(partial(function, self.source, *arguments), self.shares, what, self.homes)


class SharedRun(Run):
    """A run of Lloyd's algorithm whose labels are with the workers; here are the sums, and the centres of each pass."""

    rows: SharedRows

    def __init__(self, rows: SharedRows, n_clusters: int) -> None:
        self.rows, self.n_clusters = rows, n_clusters
        self.token = uuid.uuid4().hex
        self.labelled: Rows | None = None  # the centres of the last pass
        self.last, self.work = Work(), Work()
        self.labels = rows.storage.array(f"labels-{self.token}", (len(rows.X),), np.int32)

    def relabel(self, centres: Rows) -> int:
        """Label all rows by the centres, and return how many labels changed."""
        rows = self.rows
        self.sums = np.zeros((self.n_clusters, rows.X.shape[1]), np.int64)
        self.masses = np.zeros(self.n_clusters, np.int64)
        changed, self.last = 0, Work()
        for found in rows.each(_relabelled, "k-means", self.token, self.labelled, centres):
            self.sums += found.sums
            self.masses += found.masses
            changed += found.changed
            self.last += Work(found.screened, found.opened, found.defined)
        self.work += self.last
        self.labelled = centres
        return changed

    def follow(self, old: Rows, new: Rows) -> None:
        """Nothing to do here: workers follow the centres by themselves."""

    def farthest(self, centres: Rows, count: int) -> tuple[Int64s, Int32s]:
        """Return the numbers of the `count` rows farthest from their centres, ties to the lowest, and their labels."""
        parts = list(self.rows.each(_farthest, "farthest rows", self.token, centres, count))
        labels = {row: label for _, numbers, found in parts for row, label in zip(numbers, found, strict=True)}
        numbers = first_of([(distances, numbers) for distances, numbers, _ in parts], count)[1]
        return numbers, np.array([labels[row] for row in numbers], np.int32)

    def inertia(self, centres: Rows) -> float:
        """Return the inertia of the rows as they are labelled, and have their labels written."""
        parts = self.rows.each(_inertia, "labels", self.token, centres, self.labels)
        return math.fsum(value for sums in parts for value in sums)


@dataclass
class _Share:
    """What a worker keeps of a share: the rows as its backend likes them, and the run it is in."""

    rows: RowSet
    low: Float64s
    high: Float64s
    token: str = ""
    run: Run | None = None
    labelled: Rows | None = None


_shares: dict[tuple[str, Blocks], _Share] = {}  # of this process, which is a worker
to_forget(_shares.clear)


def _taken(source: Source, blocks: Blocks) -> _Share:
    """Take a share out of what this process keeps, or make it; shares of other rows are forgotten."""
    for token, other in list(_shares):
        if token != source.token:
            _shares.pop((token, other), None)
    share = _shares.pop((source.token, blocks), None)
    if share is None:
        forget_rows()
        X = source.X[blocks.first * BLOCK_ROWS : blocks.stop * BLOCK_ROWS]
        others = sum(len(share.rows.X) for share in _shares.values())
        fits = (others + len(X)) * notes_bytes(X.shape[1]) <= source.room
        storage = Storage() if fits else Storage(source.folder, nameless=True)
        prepared, low, high = surveyed(X, np.empty(0), source.backend, storage)
        grid = fixed_point_grid(low, high, X.dtype, len(X)) if source.grid is None else source.grid
        share = _Share(RowSet(X, np.empty(0), float(len(X)), grid, source.backend, prepared, storage), low, high)
    if source.grid is not None:
        share.rows.grid = source.grid
    return share


def _labelled(source: Source, token: str, centres: Rows, blocks: Blocks) -> tuple[_Share, Run]:
    """Take a share, labelled by these centres in this run."""
    share = _taken(source, blocks)
    labelled = share.labelled
    if share.run is None or share.token != token or labelled is None or not np.array_equal(labelled, centres):
        share.token, share.run, share.labelled = token, share.rows.run(len(centres)), centres
        share.run.relabel(centres)
    return share, share.run


def _extent(source: Source, blocks: Blocks) -> tuple[Float64s, Float64s]:
    share = _taken(source, blocks)
    _shares[source.token, blocks] = share
    return share.low, share.high


def _square_sums(source: Source, blocks: Blocks) -> tuple[Int64s, Int64s]:
    share = _taken(source, blocks)
    _shares[source.token, blocks] = share
    return share.rows.square_sums()


def _relabelled(source: Source, token: str, previous: Rows | None, centres: Rows, blocks: Blocks) -> ClusterSums:
    if previous is None:
        share = _taken(source, blocks)
        share.token, share.run = token, share.rows.run(len(centres))
        run = share.run
    else:
        share, run = _labelled(source, token, previous, blocks)
        run.follow(previous, centres)
    changed, share.labelled = run.relabel(centres), centres
    _shares[source.token, blocks] = share
    last = run.last
    return ClusterSums(run.sums.copy(), run.masses.copy(), changed, last.screened, last.opened, last.defined)


def _farthest(source: Source, token: str, centres: Rows, count: int, blocks: Blocks) -> tuple[Float64s, Int64s, Int32s]:
    share, run = _labelled(source, token, centres, blocks)
    _shares[source.token, blocks] = share
    distances, numbers = run.far(centres, count)
    return distances, numbers + blocks.first * BLOCK_ROWS, run.labels[numbers]


def _inertia(source: Source, token: str, centres: Rows, labels: Int32s, blocks: Blocks) -> list[float]:
    share, run = _labelled(source, token, centres, blocks)
    _shares[source.token, blocks] = share
    labels[blocks.first * BLOCK_ROWS : blocks.stop * BLOCK_ROWS] = run.labels
    return run.inertia_sums(centres)
