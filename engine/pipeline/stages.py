"""The steps of a fit up to the clusters. Each is done once: a fit that goes on finds what it had come to.

    Job (table, settings, backend, storage, checkpoints)  ->  features, components, scores Z, clusters, assignments

Checkpoints hold what a pass has come to, never rows: scores of a fit in memory are made again, in one pass over the
table, from the encoder and the components, with the same bits. What follows what is fit.py's concern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.protocol import Backend, EncodedRows
from engine.blocks import Block, Table
from engine.config import FitConfig
from engine.execution.array_storage import Storage
from engine.execution.block_cache import Shelf
from engine.execution.observers import BlockObserver
from engine.execution.passes import over_rows
from engine.features.column_roles import RoleOf
from engine.features.column_statistics import TableStatistics
from engine.features.column_weights import Group, Weights
from engine.features.encoded_moments import projection
from engine.features.encoded_table import EncodedTable, PlainBlock
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import Plan as EncoderPlan
from engine.features.fit import FittedFeatures, fit_encoder
from engine.kmeans.lloyd import Clustering, Step, Work
from engine.kmeans.restarts import Pause, cluster_rows
from engine.kmeans.select_k import KSelection, choose_k, given_k
from engine.model.assignments import FENCE_SAMPLE, Assigned, WithPlaces, fences, write_assignments
from engine.model.model import Model, components_from, components_to
from engine.pca.solver import Components
from engine.pipeline.checkpoints import Arrays, Checkpoints, Facts
from engine.pipeline.timing import Stages
from engine.tables.unique_ids import check_ids
from engine.utils.row_sampling import sample_rows

if TYPE_CHECKING:
    from engine.features.gpu_encoder import DeviceReader

Float32s = NDArray[np.float32]


@dataclass(frozen=True)
class Job:
    """What every step of a fit works on and with."""

    table: Table
    n_rows: int
    settings: FitConfig
    backend: Backend
    stages: Stages
    storage: Storage
    checkpoints: Checkpoints
    reader: DeviceReader | str = "pyarrow"  # of rows between statistics and scores: the backend's own, or words

    def check_ids(self) -> None:
        """Raise IdColumnError unless every row has an id of its own."""
        if self.checkpoints.load("ids") is None:
            with self.stages.stage("ids"):
                check_ids(self.table, self.settings.id, self.n_rows, self.storage)
            self.checkpoints.save("ids", {})

    def features(self, shelf: Shelf, observers: Sequence[BlockObserver[Block]] = ()) -> FittedFeatures:
        """Return the encoder, and the rows as it encodes them; the shelf keeps what it can of them."""
        shelf = shelf if isinstance(self.reader, str) else Shelf()
        features = self.checkpoints.remembered(
            "features",
            lambda: self._fit_features(shelf, observers),
            lambda made: (_packed_features(made), _packed_observers(observers)),
            lambda facts, arrays: self._unpacked_features(facts, arrays, shelf, observers),
        )
        rows = self.reader if isinstance(self.reader, str) else self.reader.rows(features.encoder)
        if not isinstance(rows, str):
            return replace(features, rows=rows)
        features.rows.reader = rows
        return features

    def pca(self, features: FittedFeatures, observers: Sequence[BlockObserver[PlainBlock]] = ()) -> Components:
        """Return the principal components of all rows."""

        def restored(facts: Facts, arrays: Arrays) -> Components:
            _restore(observers, arrays)
            return components_from(arrays)

        return self.checkpoints.remembered(
            "pca",
            lambda: self._fit_pca(features, observers),
            lambda pca: ({}, components_to(pca) | _packed_observers(observers)),
            restored,
        )

    def scores(self, features: FittedFeatures, pca: Components) -> Float32s:
        """Return the scores Z of all rows."""
        shape = (self.n_rows, pca.n_components_)
        there = None if self.checkpoints.load("scores") is None else self.storage.opened("Z", shape, np.float32)
        if there is not None:
            return there
        Z = self.backend.room(shape, self.storage)
        axes = projection(features.encoder.layout, pca.mean_, pca.components_.T)
        backend = self.backend

        def fill(start: int, rows: EncodedRows) -> int:
            n_rows = len(rows.dense)
            backend.encoded_scores(rows, axes, Z[start : start + n_rows])
            return n_rows

        with self.stages.stage("scores", len(Z)) as advance:
            for n_done in features.rows.map(fill, "scores", last=True):
                advance(n_done)
        if self.storage.folder is not None:
            self.storage.sync("Z")
            self.checkpoints.save("scores", {})
        return Z

    def clusters(self, Z: Float32s) -> tuple[KSelection, Clustering]:
        """Return the clusters, and how their number was chosen."""
        there = self.checkpoints.load("clusters")
        if there is not None:
            facts, arrays = there
            labels = self._labelled(Z, arrays["centres"])
            found = Clustering(arrays["centres"], labels, facts["inertia"], facts["n_iter"], Work(**facts["work"]))
            chosen = facts["selection"]
            return KSelection(chosen["k"], chosen["reason"], chosen["table"], tuple(chosen["notes"])), found
        selection, found = self._cluster(Z)
        facts = {"inertia": found.inertia, "n_iter": found.n_iter, "work": asdict(found.work)}
        self.checkpoints.save("clusters", facts | {"selection": asdict(selection)}, {"centres": found.centres})
        return selection, found

    def _labelled(self, Z: Float32s, centres: Float32s) -> NDArray[np.int32]:
        labels: NDArray[np.int32] = self.storage.array("labels", (len(Z),), np.int32)
        backend = self.backend

        def label(part: slice) -> int:
            backend.label(Z[part], centres, labels[part])
            return int(part.stop - part.start)

        with self.stages.stage("label", len(Z)) as advance:
            for n_done in over_rows(label, len(Z), backend.job_rows(len(Z)), what="label"):
                advance(n_done)
        return labels

    def model(self, features: FittedFeatures, pca: Components, Z: Float32s, centres: Float32s) -> Model:
        """Return the model that assigns new users."""
        found = self.backend.nearest_two(Z[sample_rows(len(Z), FENCE_SAMPLE, seed=0)], centres)
        limits = fences(found.labels, found.distance, len(centres))
        return Model(features.encoder, pca, centres, limits, self.settings.id)

    def assignments(
        self, Z: Float32s, model: Model, folder: Path, with_places: WithPlaces | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Write the parts of assignments/; return each cluster's size and inertia.

        `with_places` adds the places on the map to a part, given the number of its first row.
        """
        return self.checkpoints.remembered(
            "assign",
            lambda: self._write_assignments(Z, model, folder, with_places),
            lambda made: ({}, {"sizes": made[0], "inertias": made[1]}),
            lambda facts, arrays: (arrays["sizes"], arrays["inertias"]),
        )

    def _fit_features(self, shelf: Shelf, observers: Sequence[BlockObserver[Block]]) -> FittedFeatures:
        wanted = self.settings.features
        with self.stages.stage("statistics", self.n_rows) as advance:
            return fit_encoder(
                self.table,
                id=self.settings.id,
                column_roles=wanted.roles,
                groups=wanted.groups,
                reference_day=wanted.reference_day_number,
                seed=self.settings.seed,
                shelf=shelf,
                observers=observers,
                progress=advance,
            )

    def _unpacked_features(
        self, facts: Facts, arrays: Arrays, shelf: Shelf, observers: Sequence[BlockObserver[Block]]
    ) -> FittedFeatures:
        encoder = FeatureEncoder(EncoderPlan.model_validate(facts["plan"]))
        roles = [RoleOf(**role) for role in facts["roles"]]
        groups = {
            name: Group(**group | {"columns": tuple(group["columns"])}) for name, group in facts["groups"].items()
        }
        weights = Weights(facts["weights"], groups)
        _restore(observers, arrays)
        statistics = TableStatistics(self.n_rows, {}, {})
        rows = EncodedTable(self.table, encoder, self.n_rows, shelf)
        return FittedFeatures(encoder, roles, weights, statistics, rows)

    def _fit_pca(self, features: FittedFeatures, observers: Sequence[BlockObserver[PlainBlock]]) -> Components:
        with self.stages.stage("pca", self.n_rows) as advance:
            moments = features.rows.moments(self.backend, advance, observers)
            return Components.of(moments, self.settings.pca.n_components)

    def _cluster(self, Z: Float32s) -> tuple[KSelection, Clustering]:
        wanted, seed = self.settings.kmeans, self.settings.seed
        if wanted.n_clusters != "auto":
            k = int(wanted.n_clusters)
            found = self._kmeans(Z, k)
            with self.stages.stage("measure"):
                return given_k(Z, found.labels, k, found.inertia, random_state=seed), found
        there = self.checkpoints.load("sweep")
        with self.stages.stage("choose k"):
            selection = choose_k(
                Z,
                range(wanted.k_min, wanted.k_max + 1),
                random_state=seed,
                earlier=() if there is None else there[0]["table"],
                watch=lambda table: self.checkpoints.save("sweep", {"table": table}),
            )
        return selection, self._kmeans(Z, selection.k)

    def _kmeans(self, Z: Float32s, k: int) -> Clustering:
        wanted = self.settings.kmeans
        there = self.checkpoints.load("k-means")
        with self.stages.stage("k-means"):
            return cluster_rows(
                Z,
                k,
                self.backend,
                seed=self.settings.seed,
                n_runs=1 if wanted.n_init == "auto" else wanted.n_init,
                max_iter=wanted.max_iter,
                tol=wanted.tol,
                algorithm=wanted.algorithm,
                storage=self.storage,
                pause=None if there is None else _unpacked_pause(*there),
                watch=lambda pause: self.checkpoints.save("k-means", *_packed_pause(pause)),
            )

    def _write_assignments(
        self, Z: Float32s, model: Model, folder: Path, with_places: WithPlaces | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        sizes, inertias = np.zeros(model.n_clusters, np.int64), np.zeros(model.n_clusters, np.float64)
        columns = [model.encoder.columns[0]] if model.id is None else [model.id]
        aside = self.storage.folder or folder
        assigned = Assigned(Z, model.id, model.centres, model.fences, self.backend, with_places)
        with self.stages.stage("assign", len(Z)) as advance:
            for n_rows, counts, squared in write_assignments(assigned, self.table, columns, folder, aside):
                np.add(sizes, counts, out=sizes)
                np.add(inertias, squared, out=inertias)
                advance(n_rows)
        return sizes, inertias


def _packed_observers(observers: Sequence[BlockObserver[Any]]) -> Arrays:
    return {f"observer {i}: {name}": a for i, each in enumerate(observers) for name, a in each.state().items()}


def _restore(observers: Sequence[BlockObserver[Any]], arrays: Arrays) -> None:
    for i, observer in enumerate(observers):
        own = f"observer {i}: "
        observer.restore({name.removeprefix(own): a for name, a in arrays.items() if name.startswith(own)})


def _packed_features(features: FittedFeatures) -> Facts:
    return {
        "plan": features.encoder.plan.model_dump(mode="json"),
        "roles": [asdict(role) for role in features.roles],
        "groups": {name: asdict(group) for name, group in features.weights.groups.items()},
        "weights": features.weights.of_columns,
    }


def _packed_pause(pause: Pause) -> tuple[Facts, Arrays]:
    kind, key, position, *rest = pause.random
    facts: Facts = {"run": pause.run, "iteration": pause.step.iteration, "random": [kind, position, *rest]}
    arrays = {"key": key, "previous": pause.step.previous, "centres": pause.step.centres}
    if pause.best is not None:
        facts["best"] = {"inertia": pause.best.inertia, "n_iter": pause.best.n_iter}
        arrays["best"] = pause.best.centres
    return facts, arrays


def _unpacked_pause(facts: Facts, arrays: Arrays) -> Pause:
    kind, position, *rest = facts["random"]
    best = None
    if "best" in facts:
        best = Clustering(arrays["best"], np.empty(0, np.int32), **facts["best"], work=Work())
    step = Step(facts["iteration"], arrays["previous"], arrays["centres"])
    return Pause(facts["run"], (kind, arrays["key"], position, *rest), step, best)
