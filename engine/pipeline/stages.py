"""The stages of a fit, one method each: a resumed fit loads the result of a finished stage from its checkpoint.

    Job (table, settings, backend, storage, checkpoints)  ->  features, components, scores Z, clusters, assignments

Checkpoints hold results of passes, never rows: the scores of a fit in memory are computed again, in one pass over the
table, from the encoder and the components, to the same bits. The order of the stages is in fit.py.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.backends.cpu import CpuBackend
from engine.backends.protocol import Backend, EncodedRows
from engine.blocks import Table
from engine.config import FitConfig
from engine.errors import OutOfResourcesError, UsageError
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.execution.block_cache import BlockCache
from engine.execution.observers import BlockObserver, RowObserver
from engine.execution.passes import over_rows
from engine.explain.row_sample import RowCollector
from engine.features.column_statistics import TableStatistics
from engine.features.encoded_table import IndexedBlock
from engine.features.fit import FittedFeatures, fit_encoder, reuse_encoder
from engine.features.gpu_ids import digest_unique_ids
from engine.kmeans.lloyd import Clustering, PassCounts
from engine.kmeans.restarts import cluster_rows, clustering_by_centers
from engine.kmeans.select_k import FIRST_END, VALLEY_SAMPLE_SEED, KMetrics, KSelection, choose_k, score_given_k
from engine.kmeans.stability import N_RESAMPLES, STABLE, ClusterStability, cluster_stability
from engine.kmeans.unknown_values import fill_unknown, hidden_cells
from engine.kmeans.valleys import SAMPLE_ROWS
from engine.lineage.previous import PreviousRun
from engine.model.assignments import (
    FENCE_SAMPLE,
    AddMapColumns,
    FittedRowAssigner,
    NearestTwoByPart,
    compute_fences,
    write_assignments,
)
from engine.model.directions import score_projection
from engine.model.model import Model, components_from_arrays, components_to_arrays
from engine.pca.solver import Components, has_few_rows, project_points
from engine.pipeline.checkpoints import Arrays, Checkpoints, Facts
from engine.pipeline.continuation import Contest
from engine.pipeline.night import EarlierClusters, NumberedClusters, confirm_k, means_of, number, rows_by_previous
from engine.pipeline.packing import (
    pack_checkpoint,
    pack_features,
    pack_observers,
    restore_observers,
    unpack_checkpoint,
    unpack_features,
)
from engine.pipeline.stage_libraries import StageLibraries
from engine.pipeline.timing import StageTimer
from engine.tables.unique_ids import check_ids
from engine.utils.array_types import Float32s
from engine.utils.formatting import format_percent
from engine.utils.row_sampling import count_labels, sample_rows

if TYPE_CHECKING:
    from engine.features.gpu_reader import GpuTableReader

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A fit under way: its table, settings and backend, and where its arrays and checkpoints lie.

    Attributes
    ----------
    table : Table
    n_rows : int
    settings : FitConfig
    backend : Backend
    timer : StageTimer
    storage : Storage
        For arrays with one entry a row.
    checkpoints : Checkpoints
    reader : GpuTableReader or str
        The device's reader of the table for the passes after statistics, or the name of the host's reader, with the
        reason for it.
    libraries : StageLibraries
        Which library computes each stage.
    previous : PreviousRun or None
        The run that the fit continues.
    choice : dict
        Facts on why its clusters go on, or do not; `clusters` fills it in.
    """

    table: Table
    n_rows: int
    settings: FitConfig
    backend: Backend
    timer: StageTimer
    storage: Storage
    checkpoints: Checkpoints
    libraries: StageLibraries
    reader: GpuTableReader | str = "pyarrow"
    previous: PreviousRun | None = None
    choice: Facts = field(default_factory=dict)

    @cached_property
    def frozen(self) -> PreviousRun | None:
        """The previous run, if its encoder and components are kept."""
        return None if self.settings.lineage.refit_features else self.previous

    @property
    def reproducible_backend(self) -> Backend:
        """Backend of moments and map, whose last digits depend on the device: the CPU's if the fit is reproducible."""
        return CpuBackend() if self.settings.reproducible else self.backend

    def check_ids(self) -> int | None:
        """Return the digest of the ids, None without an id column; raise IdColumnError unless every row has its own."""

        def check() -> int | None:
            id = self.settings.id
            with self.timer.stage("ids", self.n_rows) as advance:
                digest = None
                if id is not None:
                    digest = digest_unique_ids(self.reader, id, self.n_rows)
                    why = f"{id!r} is not read there, or needs the CPU's message"
                    self.libraries.record_ids(digest is not None, why)
                    digest = check_ids(self.table, id, self.n_rows, self.storage) if digest is None else digest
                advance(self.n_rows)
            return digest

        def restore(facts: Facts, _: Arrays) -> int | None:
            if facts["digest"] is None:
                return None
            self.libraries.record("ids", *facts["computed_by"])
            return int(facts["digest"])

        return self.checkpoints.load_or_make(
            "ids",
            check,
            lambda digest: ({"digest": digest, "computed_by": None if digest is None else self.libraries["ids"]}, {}),
            restore,
        )

    def features(self, cache: BlockCache, observers: Sequence[RowObserver] = ()) -> FittedFeatures:
        """Fit the encoder; return it with the table's encoded rows, which `cache` keeps between passes."""
        cache = cache if isinstance(self.reader, str) else BlockCache()

        def restore(facts: Facts, arrays: Arrays) -> FittedFeatures:
            restore_observers(observers, arrays)
            self.libraries.record("statistics", *facts["computed_by"])
            return unpack_features(facts, arrays, self.table, self.n_rows, cache)

        features = self.checkpoints.load_or_make(
            "features",
            lambda: self._fit_features(cache, observers),
            lambda features: (
                pack_features(features) | {"computed_by": self.libraries["statistics"]},
                pack_observers(observers) | features.distributions.arrays(),
            ),
            restore,
        )
        device_rows = self.reader if isinstance(self.reader, str) else self.reader.encoded_table(features.encoder)
        self.libraries.record_reader(device_rows if isinstance(device_rows, str) else device_rows.reader)
        return features if isinstance(device_rows, str) else replace(features, rows=device_rows)

    def pca(self, features: FittedFeatures, observers: Sequence[BlockObserver[IndexedBlock]] = ()) -> Components:
        """Compute the principal components of all rows."""

        def restore(facts: Facts, arrays: Arrays) -> Components:
            restore_observers(observers, arrays)
            self.libraries.record("pca", *facts["computed_by"])
            return components_from_arrays(arrays)

        return self.checkpoints.load_or_make(
            "pca",
            lambda: self._fit_pca(features, observers),
            lambda pca: (
                {"computed_by": self.libraries["pca"]},
                components_to_arrays(pca) | pack_observers(observers),
            ),
            restore,
        )

    def scores(self, features: FittedFeatures, pca: Components) -> Float32s:
        """Compute the scores Z of all rows, float32 of shape (n_rows, n_components)."""
        shape = (self.n_rows, pca.n_components_)
        stored = None if self.checkpoints.load("scores") is None else self.storage.open("Z", shape, np.float32)
        if stored is not None:
            return stored
        Z = self.backend.allocate_scores(shape, self.storage)
        projection = score_projection(features.encoder, pca, self.settings.kmeans.metric)
        backend = self.backend

        def fill(start: int, rows: EncodedRows) -> int:
            n_rows = len(rows.dense)
            backend.encoded_scores(rows, projection, Z[start : start + n_rows])
            return n_rows

        with self.timer.stage("scores", len(Z)) as advance:
            for n_done in features.rows.map(fill, "scores", last=True):
                advance(n_done)
        if self.storage.folder is not None:
            self.storage.sync("Z")
            self.checkpoints.save("scores", {})
        return Z

    def draw_k_sample(self) -> RowCollector:
        """Return the observer that collects the rows on which the number of clusters is chosen; none if it is given.

        The sample does not follow the seed: the same table has the same number of clusters.
        """
        config = self.settings.kmeans
        chooses = config.n_clusters == "auto" and config.k_method == "valley"
        return RowCollector.draw(self.n_rows, SAMPLE_ROWS if chooses else 0, VALLEY_SAMPLE_SEED)

    def clusters(
        self, Z: Float32s, features: FittedFeatures, pca: Components, k_sample: RowCollector
    ) -> tuple[KSelection, Clustering, NumberedClusters | None]:
        """Cluster the scores; return how k was chosen, the clustering, and the numbers of clusters that go on."""
        earlier = None if self.previous is None else self.earlier_clusters(Z)
        checkpoint = self.checkpoints.load("clusters")
        if checkpoint is not None:
            facts, arrays = checkpoint
            self.choice.update(facts["choice"])
            self.libraries.record("kmeans", *facts["computed_by"])
            labels = self._label_rows(Z, arrays["centres"])
            clustering = Clustering(
                arrays["centres"], labels, facts["inertia"], facts["n_iter"], PassCounts(**facts["work"])
            )
            saved = facts["selection"]
            selection = KSelection(**saved | {"notes": tuple(saved["notes"])})
            return selection, *number(self.previous, clustering, earlier)
        selection, clustering = self._select_k_and_cluster(
            Z, features, pca, k_sample, None if earlier is None else earlier.labels
        )
        facts = {"inertia": clustering.inertia, "n_iter": clustering.n_iter, "work": asdict(clustering.pass_counts)}
        facts |= {"selection": selection.facts(), "choice": self.choice, "computed_by": self.libraries["kmeans"]}
        self.checkpoints.save("clusters", facts, {"centres": clustering.centers})
        return selection, *number(self.previous, clustering, earlier)

    def stability(self, Z: Float32s, clustering: Clustering) -> ClusterStability:
        """Return how stable each cluster is under resampling."""
        with self.timer.stage("stability", N_RESAMPLES) as advance:
            stability = cluster_stability(Z, clustering.centers, advance)
        unstable = int((stability.jaccard < STABLE).sum())
        if unstable:
            logger.warning(
                "%d of %d clusters %s: clustered again on other samples of the rows, less than %s of %s is found again "
                "on average.", unstable, len(clustering.centers),
                "is not a stable group" if unstable == 1 else "are not stable groups", format_percent(STABLE),
                "it" if unstable == 1 else "each",
            )  # fmt: skip
        return stability

    def _label_rows(self, Z: Float32s, centers: Float32s) -> NDArray[np.int32]:
        labels: NDArray[np.int32] = self.storage.array("labels", (len(Z),), np.int32)
        backend = self.backend

        def label(part: slice) -> int:
            backend.label(Z[part], centers, labels[part])
            return int(part.stop - part.start)

        with self.timer.stage("label", len(Z)) as advance:
            for n_done in over_rows(label, len(Z), backend.rows_per_block(len(Z)), pass_name="label"):
                advance(n_done)
        return labels

    def model(
        self,
        features: FittedFeatures,
        pca: Components,
        Z: Float32s,
        centers: Float32s,
        odds: Float32s,
        numbered: NumberedClusters | None = None,
    ) -> Model:
        """Return the model that assigns new rows; its fences are computed from a sample of the rows."""
        numbers = None if numbered is None else numbered.numbers
        nearest = self.backend.nearest_two(Z[sample_rows(len(Z), FENCE_SAMPLE, seed=0)], centers)
        fences = compute_fences(nearest.labels, nearest.distances, len(centers))
        metric = self.settings.kmeans.metric
        return Model(
            features.encoder, pca, centers, fences, self.settings.id, odds, numbers, metric=metric,
            distributions=features.distributions,
        )  # fmt: skip

    def assignments(
        self, Z: Float32s, model: Model, folder: Path, add_map_columns: AddMapColumns | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Write the parts of assignments/; return each cluster's size and inertia.

        `add_map_columns` adds the map coordinates to a table of assignments, given the number of its first row.
        """

        def restore(facts: Facts, arrays: Arrays) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
            self.libraries.record("assign", *facts["computed_by"])
            return arrays["sizes"], arrays["inertias"]

        return self.checkpoints.load_or_make(
            "assign",
            lambda: self._write_assignments(Z, model, folder, add_map_columns),
            lambda sums: ({"computed_by": self.libraries["assign"]}, {"sizes": sums[0], "inertias": sums[1]}),
            restore,
        )

    def _fit_features(self, cache: BlockCache, observers: Sequence[RowObserver]) -> FittedFeatures:
        config, frozen, seed, reader = self.settings.features, self.frozen, self.settings.seed, self.reader
        with self.timer.stage("statistics", self.n_rows) as advance:
            if frozen is not None:
                features = reuse_encoder(
                    self.table, frozen.model.encoder, frozen.roles, frozen.weights, seed=seed,
                    cache=cache, observers=observers, progress=advance, reader=reader,
                )  # fmt: skip
            else:
                features = fit_encoder(
                    self.table, id=self.settings.id, column_roles=config.roles, missing=config.missing,
                    groups=config.column_groups, reference_day=config.reference_day_number,
                    share_weights=config.share_weights, seed=seed,
                    cache=cache, observers=observers, progress=advance, reader=reader,
                )  # fmt: skip
        self.libraries.record_statistics(features.on_device)
        # Their row sample takes tens of MiB, and no later stage reads them: none is there after a checkpoint either.
        return replace(features, statistics=TableStatistics(self.n_rows, {}, {}))

    def _fit_pca(self, features: FittedFeatures, observers: Sequence[BlockObserver[IndexedBlock]]) -> Components:
        n_wanted, n_most = self.settings.pca.n_components, min(features.encoder.n_features, self.n_rows)
        if isinstance(n_wanted, int) and n_wanted > n_most:
            raise UsageError(
                f"pca.n_components={n_wanted} is more than the {features.encoder.n_features:,} features and "
                f"{self.n_rows:,} rows of the table allow: at most {n_most}.",
                hint="lower pca.n_components, or set it to auto.",
            )
        with self.timer.stage("pca", self.n_rows) as advance:
            if self.frozen is not None:
                for n_rows in features.rows.map(lambda _, rows: len(rows.dense), "bins", observers=observers):
                    advance(n_rows)
                return self.frozen.model.pca
            if self.libraries.uses_cuml("pca") and self.n_rows > 1:
                from engine.features.encoded_matrix import find_library_axes

                try:
                    axes = find_library_axes(
                        features.rows, features.encoder, self.n_rows, self.backend, advance, observers
                    )
                    return Components.from_axes(axes, self.n_rows, n_wanted)
                except (MemoryError, OutOfResourcesError) as error:
                    self.libraries.replace("pca", error)
            if has_few_rows(self.n_rows, features.encoder.n_features):
                return Components.from_few_rows(features.rows.collect_matrix(advance, observers), n_wanted)
            moments = features.rows.compute_moments(self.reproducible_backend, advance, observers)
            return Components.from_moments(moments, n_wanted)

    def _select_k_and_cluster(
        self,
        Z: Float32s,
        features: FittedFeatures,
        pca: Components,
        k_sample: RowCollector,
        earlier: NDArray[np.int32] | None,
    ) -> tuple[KSelection, Clustering]:
        config, seed = self.settings.kmeans, self.settings.seed
        if config.n_clusters != "auto":
            k = int(config.n_clusters)
            clustering, reason = self._dissolve_small(Z, self._cluster(Z, k, None, earlier))
            kept = self._kept_k(k)
            k = len(clustering.centers)
            with self.timer.stage("measure", 1) as advance:
                selection = score_given_k(Z, clustering.labels, k, clustering.inertia, random_state=seed)
                advance(1)
            given = kept or (f"k = {config.n_clusters} was given{reason}" if reason else selection.reason)
            return replace(selection, reason=given), clustering
        checkpoint = self.checkpoints.load("sweep")
        with self.timer.stage("choose k", len(config.k_range or range(1, FIRST_END + 1))) as advance:

            def watch(table: list[KMetrics]) -> None:
                advance(1)
                self.checkpoints.save("sweep", {"table": table})

            by_valley = config.k_method == "valley"
            X, unknown = features.encoder.encode_sample(k_sample.table()) if by_valley else (Z, None)
            selection = choose_k(
                X,
                config.k_range,
                method=config.k_method,
                random_state=seed,
                attributes=features.encoder.attributes,
                unknown=unknown,
                earlier=() if checkpoint is None else checkpoint[0]["table"],
                watch=watch,
                device=self.backend,
            )
            if self.previous is not None and by_valley and selection.k != self.previous.model.n_clusters:
                k_before = self.previous.model.n_clusters
                hidden = hidden_cells(X, unknown)
                stays = confirm_k(fill_unknown(X, hidden), hidden, features.encoder.attributes, selection.k, k_before)
                if stays is not None:
                    selection = replace(selection, k=k_before, reason=stays, runner_up=selection.k, means=None)
        log = logger.warning if selection.k == 1 else logger.info
        log("%s.", " ".join([f"k = {selection.k}: {selection.reason}.", *selection.notes]).removesuffix("."))
        start = None if selection.means is None else project_points(selection.means, pca).astype(Z.dtype)
        clustering, reason = self._dissolve_small(Z, self._cluster(Z, selection.k, start, earlier))
        why = (self._kept_k(selection.k) or selection.reason) + reason
        selection = replace(selection, k=len(clustering.centers), reason=why)
        return selection, clustering

    def _kept_k(self, k: int) -> str | None:
        """Return why another number of clusters than k was kept, if that is so."""
        if self.previous is None or self.choice.get("wanted_k") is None:
            return None
        n_before = self.previous.model.n_clusters
        return f"k = {n_before} as in the previous run: with {k}, more rows would move than may"

    def _cluster(self, Z: Float32s, k: int, seeds: Float32s | None, earlier: NDArray[np.int32] | None) -> Clustering:
        """Cluster the scores into k clusters: those of the previous run, if there is one and they do."""
        previous, lineage, gate = self.previous, self.settings.lineage, self.settings.gate
        if previous is None or earlier is None:
            return self._kmeans(Z, k, seeds)
        centers = previous.model.centers
        start = centers if self.frozen is not None else means_of(Z, earlier, len(centers))
        in_memory = replace(self, storage=IN_MEMORY)
        contest = Contest(
            Z, start, previous.run.clusters["share"].to_numpy(), earlier,
            cluster=lambda rows, k, init: (self if rows is Z else in_memory)._kmeans(rows, k, init, resume=False),
            fix=lambda centers: clustering_by_centers(Z, centers, self.backend, self.storage),
            takeover=lineage.takeover, max_moved=lineage.max_moved, max_moved_anew=gate.moved if gate.stop else None,
        )  # fmt: skip
        continuation = contest.decide(k, seeds)
        self.choice.update(continuation.facts)
        logger.info("%s.", continuation.facts["why"].capitalize())
        return continuation.clustering

    def earlier_clusters(self, Z: Float32s) -> EarlierClusters:
        """Return the cluster of the previous run that each row belongs to."""
        assert self.previous is not None
        with self.timer.stage("earlier clusters", len(Z)) as advance:
            earlier = rows_by_previous(
                self.previous, self.table, self.settings.id, Z, self.backend, self.storage,
                same_scores=self.frozen is not None,
            )  # fmt: skip
            advance(len(Z))
        return earlier

    def _dissolve_small(self, Z: Float32s, clustering: Clustering) -> tuple[Clustering, str]:
        """Dissolve clusters below the least share, the smallest first; return the rest, and what was done in words."""
        least, n_dissolved = self.settings.kmeans.min_share * len(Z), 0
        while len(clustering.centers) > 1:
            sizes = count_labels(clustering.labels, len(clustering.centers))
            if sizes.min() >= least:
                break
            others = np.delete(clustering.centers, int(sizes.argmin()), axis=0)
            clustering = self._kmeans(Z, len(others), others, resume=False)
            n_dissolved += 1
        if not n_dissolved:
            return clustering, ""
        reason = (
            f"; {n_dissolved} clusters of less than {self.settings.kmeans.min_share:.3g} of the rows were dissolved"
        )
        logger.info("%s.", reason[2:])
        if self.settings.lineage.max_moved is not None:
            logger.warning("Dissolved clusters move rows: min_share goes before max_moved.")
        self.choice.update({} if self.previous is None else {"dissolved": n_dissolved})
        return clustering, reason

    def _kmeans(self, Z: Float32s, k: int, start: Float32s | None = None, *, resume: bool = True) -> Clustering:
        """Cluster the scores, from the centers `start` if they are given; without `resume`, with no checkpoints."""
        config = self.settings.kmeans
        checkpoint = self.checkpoints.load("k-means") if resume else None
        checkpoints = self.checkpoints if resume else Checkpoints()
        own = "fused" if config.algorithm == "fused" else "lloyd"
        if checkpoint is not None and own == "lloyd":  # cuML's K-Means has none
            self.libraries.record("kmeans", self.backend.kernels, "it continues from a checkpoint")
        n_init = 1 if config.n_init == "auto" or start is not None else config.n_init
        cluster = partial(
            cluster_rows, Z, k, self.backend, seed=self.settings.seed, init="k-means++" if start is None else start,
            n_init=n_init,
            several_seedings=config.n_init == "auto",
            max_iter=config.max_iter, tol=config.tol, storage=self.storage,
            checkpoint=None if checkpoint is None else unpack_checkpoint(*checkpoint),
            on_checkpoint=lambda state: checkpoints.save("k-means", *pack_checkpoint(state)),
        )  # fmt: skip
        with self.timer.stage("k-means", n_init * config.max_iter) as advance:
            if self.libraries.uses_cuml("kmeans"):
                try:
                    return cluster(algorithm="cuml", advance=advance)
                except OutOfResourcesError as error:
                    self.libraries.replace("kmeans", error)
            return cluster(algorithm=own, advance=advance)

    def _write_assignments(
        self, Z: Float32s, model: Model, folder: Path, add_map_columns: AddMapColumns | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        sizes, inertias = np.zeros(model.n_clusters, np.int64), np.zeros(model.n_clusters, np.float64)
        columns = [model.encoder.columns[0]] if model.id is None else [model.id]
        temporary_folder = self.storage.folder or folder
        assigner = FittedRowAssigner(
            NearestTwoByPart(self.backend, Z, model.centers),
            model.id,
            model.fences,
            model.odds,
            model.cluster_numbers,
            add_map_columns,
        )
        with self.timer.stage("assign", len(Z)) as advance:
            for n_rows, counts, squared in write_assignments(assigner, self.table, columns, folder, temporary_folder):
                np.add(sizes, counts, out=sizes)
                np.add(inertias, squared, out=inertias)
                advance(n_rows)
        return sizes, inertias
