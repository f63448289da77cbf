"""Distributed Lloyd's algorithm: every worker of a cluster passes over its shards of a mapped file.

    Z in a file that all machines see, Cluster  ->  ShardedSamples, which take the place of Samples in lloyd()

A shard is a range of blocks of rows. A task names a shard, the centers of the last pass and those of this one, and
returns the sums of the clusters over the shard and the number of changed labels: it has no side effect that another
task sees. Labels, bounds and quantized rows of a shard are cached by the worker that had it last. A worker that takes
over a shard first labels it by the centers of the last pass, and returns the same bits. So a worker that is lost, or
that comes back unexpectedly, cannot change a result.
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

from engine.backends.protocol import Backend, ClusterSums, FixedPointGrid, LibraryKMeansSettings
from engine.blocks import BLOCK_ROWS
from engine.execution.array_storage import Storage
from engine.execution.block_cache import clear_caches, register_cleanup
from engine.execution.cluster import BlockRange, Cluster
from engine.kernels.cpu.kmeans.quantize import allocate_quantized_rows, coarsest_level
from engine.kmeans.fixed_point import fixed_point_grid
from engine.kmeans.lloyd import LloydState, PassCounts, Samples, merge_farthest, prepare_and_range
from engine.kmeans.multi_gpu import MultiGpuKMeans
from engine.utils.array_types import Float64s, Int32s, Int64s, Rows

LABEL_AND_BOUND_BYTES = 8  # bytes of a row's label and gap bound
SHARD_TASKS = 8  # rows of a shard, in tasks that read rows: a pass of K-Means over a row takes about an eighth of that


def state_bytes_per_row(n_features: int) -> int:
    """Return the bytes of memory that K-Means takes for a row besides the row itself, on hosts like this one."""
    quantized = allocate_quantized_rows(1, n_features, coarsest_level(n_features))
    return sum(array.nbytes for array in quantized) + LABEL_AND_BOUND_BYTES


@dataclass(frozen=True)
class ShardSource:
    """Description of all rows that travels with every task; the task says which shard is meant."""

    samples_id: str
    X: Rows
    backend: Backend
    grid: FixedPointGrid | None  # None until the ranges of the features are known
    folder: Path  # for arrays that do not fit in a worker's memory
    memory_limit: int  # bytes that a worker may take for its shards


@dataclass
class ShardedSamples(Samples):
    """Samples in a mapped file, over which the workers of a cluster pass."""

    cluster: Cluster = field(kw_only=True)
    source: ShardSource = field(kw_only=True)
    shards: list[BlockRange] = field(kw_only=True)
    last_worker: dict[int, str] = field(default_factory=dict)  # number of a shard -> address of the worker that had it

    @classmethod
    def distribute(cls, cluster: Cluster, X: Rows, backend: Backend, storage: Storage) -> ShardedSamples:
        """Divide rows that are known to be finite into shards, and have workers prepare them."""
        assert storage.folder is not None
        source = ShardSource(uuid.uuid4().hex, X, backend, None, storage.folder, cluster.memory_limit)
        shards = cluster.block_ranges(-(-len(X) // BLOCK_ROWS), BLOCK_ROWS, SHARD_TASKS * cluster.task_rows)
        last_worker: dict[int, str] = {}
        ranges = list(cluster.map(partial(_range_of_features, source), shards, "survey", last_worker))
        low = np.min([least for least, _ in ranges], axis=0)
        high = np.max([largest for _, largest in ranges], axis=0)
        grid = fixed_point_grid(low, high, X.dtype, len(X))
        return cls(
            X, np.empty(0), float(len(X)), grid, backend, None, storage,
            cluster=cluster, source=replace(source, grid=grid), shards=shards, last_worker=last_worker,
        )  # fmt: skip

    def new_state(self, n_clusters: int) -> ShardedLloydState:
        """Return the state of a run of Lloyd's algorithm before its first pass."""
        return ShardedLloydState(self, n_clusters)

    def sums_and_squares(self) -> tuple[Int64s, Int64s]:
        """Return the sums of all rows and of their squares (n_features,), in fixed point."""
        parts = list(self.map_shards(_sums_and_squares, "square sums"))
        sums, squares = (np.sum([part[i] for part in parts], axis=0) for i in range(2))
        return sums, squares

    def label(self, centers: Rows) -> Int32s:
        """Return the label of every row (n_samples,)."""
        state = self.new_state(len(centers))
        state.relabel(centers)
        state.inertia(centers)
        return state.labels

    def library_centers(self, start: Rows | str, plan: LibraryKMeansSettings) -> tuple[Rows, int]:
        """Return the centers found by cuML on all workers together, and its number of iterations."""
        cluster = self.cluster
        if not self.backend.one_per_worker or cluster.scheduler_address is None or cluster.folder is None:
            return super().library_centers(start, plan)
        mapped_rows: Any = self.X
        multi_gpu = MultiGpuKMeans(cluster.scheduler_address, cluster.settings, cluster.folder)
        return multi_gpu.fit_centers(mapped_rows, start, plan)

    def map_shards(self, function: Callable[..., Any], what: str, *arguments: Any) -> Iterator[Any]:
        """Yield function(source, *arguments, shard) for every shard, in order; `what` names the pass in messages."""
        return self.cluster.map(partial(function, self.source, *arguments), self.shards, what, self.last_worker)


class ShardedLloydState(LloydState):
    """State of a distributed run: sums and the centers of the last pass; labels and bounds stay with the workers.

    Attributes
    ----------
    labels : int32 memmap of shape (n_samples,)
        Written by `inertia`.
    """

    samples: ShardedSamples

    def __init__(self, samples: ShardedSamples, n_clusters: int) -> None:
        self.samples, self.n_clusters = samples, n_clusters
        self.run_id = uuid.uuid4().hex
        self.last_centers: Rows | None = None  # by which rows were labelled in the last pass
        self.last_counts, self.pass_counts = PassCounts(), PassCounts()
        self.labels = samples.storage.array(f"labels-{self.run_id}", (len(samples.X),), np.int32)

    def relabel(self, centers: Rows) -> int:
        """Label all rows by their nearest centers, and return how many labels changed."""
        samples = self.samples
        self.sums = np.zeros((self.n_clusters, samples.X.shape[1]), np.int64)
        self.masses = np.zeros(self.n_clusters, np.int64)
        n_changed, self.last_counts = 0, PassCounts()
        for shard in samples.map_shards(_relabel, "k-means", self.run_id, self.last_centers, centers):
            self.sums += shard.sums
            self.masses += shard.masses
            n_changed += shard.changed
            self.last_counts += PassCounts(shard.screened, shard.opened, shard.defined)
        self.pass_counts += self.last_counts
        self.last_centers = centers
        return n_changed

    def update_bounds(self, previous: Rows, centers: Rows) -> None:
        """Do nothing: workers update the bounds of their shards when they relabel them."""

    def farthest_rows(self, centers: Rows, count: int) -> tuple[Int64s, Int32s]:
        """Return the numbers of the `count` rows farthest from their centers, ties to the lowest, and their labels."""
        parts = list(self.samples.map_shards(_farthest_candidates, "farthest rows", self.run_id, centers, count))
        label_of_row = {row: label for _, rows, labels in parts for row, label in zip(rows, labels, strict=True)}
        farthest = merge_farthest([(distances, rows) for distances, rows, _ in parts], count)[1]
        return farthest, np.array([label_of_row[row] for row in farthest], np.int32)

    def inertia(self, centers: Rows) -> float:
        """Return the inertia of the rows as they are labelled, and have workers write the labels."""
        parts = self.samples.map_shards(_write_labels, "labels", self.run_id, centers, self.labels)
        return math.fsum(value for sums in parts for value in sums)


@dataclass
class _CachedShard:
    """A shard in the memory of a worker: its prepared rows, and the run of Lloyd's algorithm that it is in."""

    samples: Samples
    low: Float64s  # (n_features,): least value of every feature
    high: Float64s  # (n_features,): largest value of every feature
    run_id: str = ""
    state: LloydState | None = None
    last_centers: Rows | None = None


_cached_shards: dict[tuple[str, BlockRange], _CachedShard] = {}  # of this process, which is a worker
register_cleanup(_cached_shards.clear)


def _pop_shard(source: ShardSource, blocks: BlockRange) -> _CachedShard:
    """Return a shard taken out of the cache, or prepare it; shards of other samples are dropped."""
    for samples_id, other_blocks in list(_cached_shards):
        if samples_id != source.samples_id:
            _cached_shards.pop((samples_id, other_blocks), None)
    shard = _cached_shards.pop((source.samples_id, blocks), None)
    if shard is None:
        clear_caches()
        X = source.X[blocks.first * BLOCK_ROWS : blocks.stop * BLOCK_ROWS]
        n_cached = sum(len(cached.samples.X) for cached in _cached_shards.values())
        fits = (n_cached + len(X)) * state_bytes_per_row(X.shape[1]) <= source.memory_limit
        storage = Storage() if fits else Storage(source.folder, anonymous=True)
        prepared, low, high = prepare_and_range(X, np.empty(0), source.backend, storage)
        grid = fixed_point_grid(low, high, X.dtype, len(X)) if source.grid is None else source.grid
        samples = Samples(X, np.empty(0), float(len(X)), grid, source.backend, prepared, storage)
        shard = _CachedShard(samples, low, high)
    if source.grid is not None:
        shard.samples.grid = source.grid
    return shard


def _pop_labelled_shard(
    source: ShardSource, run_id: str, centers: Rows, blocks: BlockRange
) -> tuple[_CachedShard, LloydState]:
    """Return a shard taken out of the cache, and its state in this run, labelled by these centers."""
    shard = _pop_shard(source, blocks)
    last_centers = shard.last_centers
    if (
        shard.state is None
        or shard.run_id != run_id
        or last_centers is None
        or not np.array_equal(last_centers, centers)
    ):
        shard.run_id, shard.state, shard.last_centers = run_id, shard.samples.new_state(len(centers)), centers
        shard.state.relabel(centers)
    return shard, shard.state


def _range_of_features(source: ShardSource, blocks: BlockRange) -> tuple[Float64s, Float64s]:
    shard = _pop_shard(source, blocks)
    _cached_shards[source.samples_id, blocks] = shard
    return shard.low, shard.high


def _sums_and_squares(source: ShardSource, blocks: BlockRange) -> tuple[Int64s, Int64s]:
    shard = _pop_shard(source, blocks)
    _cached_shards[source.samples_id, blocks] = shard
    return shard.samples.sums_and_squares()


def _relabel(source: ShardSource, run_id: str, previous: Rows | None, centers: Rows, blocks: BlockRange) -> ClusterSums:
    if previous is None:
        shard = _pop_shard(source, blocks)
        shard.run_id, shard.state = run_id, shard.samples.new_state(len(centers))
        state = shard.state
    else:
        shard, state = _pop_labelled_shard(source, run_id, previous, blocks)
        state.update_bounds(previous, centers)
    n_changed, shard.last_centers = state.relabel(centers), centers
    _cached_shards[source.samples_id, blocks] = shard
    counts = state.last_counts
    return ClusterSums(
        state.sums.copy(), state.masses.copy(), n_changed, counts.screened, counts.opened, counts.defined
    )


def _farthest_candidates(
    source: ShardSource, run_id: str, centers: Rows, count: int, blocks: BlockRange
) -> tuple[Float64s, Int64s, Int32s]:
    """Return squared distances, numbers among all rows, and labels of the shard's farthest rows."""
    shard, state = _pop_labelled_shard(source, run_id, centers, blocks)
    _cached_shards[source.samples_id, blocks] = shard
    distances, rows = state.farthest_candidates(centers, count)
    return distances, rows + blocks.first * BLOCK_ROWS, state.labels[rows]


def _write_labels(source: ShardSource, run_id: str, centers: Rows, labels: Int32s, blocks: BlockRange) -> list[float]:
    """Write the shard's labels into those of all rows, and return the terms of its inertia."""
    shard, state = _pop_labelled_shard(source, run_id, centers, blocks)
    _cached_shards[source.samples_id, blocks] = shard
    labels[blocks.first * BLOCK_ROWS : blocks.stop * BLOCK_ROWS] = state.labels
    return state.inertia_sums(centers)
