"""The main job, one line a stage: a table of profiles goes in, clusters and a reusable model come out.

    source -> statistics -> encoder -> PCA -> scores -> K-Means -> map, assignments, rules, personas, model, report

No arithmetic here. The table is read once if its rows, encoded, fit in memory; else once for every stage that streams.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import backends
from engine.assignment import FENCE_SAMPLE, ROW, assignment_table, check_ids, fences, ids_of, write_parts
from engine.backends.protocol import Backend, EncodedRows
from engine.clustering import cluster_rows
from engine.components import Components
from engine.config import FitConfig
from engine.execution.local import map_blocks
from engine.execution.memory import memory_for_rows
from engine.explain.sample import KeptRows
from engine.explain.stage import explain_run, rows_to_keep
from engine.features import FeatureEncoder, fit_encoder
from engine.features.encoder import FittedFeatures
from engine.features.moments import projection
from engine.lloyd import Clustering
from engine.model import Model
from engine.progress import Advance, Reporter, Silent
from engine.report.map import Chart, map_rows, write_map
from engine.report.page import write_report
from engine.runs.directory import check_target, staged
from engine.runs.run import Run
from engine.runs.stages import Stages
from engine.runs.writing import write_run, write_stages
from engine.sampling import sample_rows
from engine.selection import KSelection, choose_k, given_k
from engine.tables import Block, Table, open_table
from engine.tables.block import row_count

logger = logging.getLogger(__name__)


def fit(
    source: Any,
    *,
    out: str | os.PathLike[str],
    id: str | None = None,
    n_clusters: int | str | None = None,
    device: str | None = None,
    seed: int | None = None,
    config: FitConfig | str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """Cluster a table of profiles and write a run directory.

    Parameters
    ----------
    source : path, URL, list of them, or a pandas, polars or pyarrow table
        One row per profile. Files are read in batches, never whole.
    out : path
        The run directory; it appears complete or not at all.
    id : str, optional
        Column that identifies a profile, kept exactly. Without it, rows are numbered from 0 in a column `row`.
    n_clusters : int or "auto", optional
        Number of clusters; "auto", the default, sweeps k and takes the elbow.
    device : {"auto", "cpu", "cuda"}, optional
    seed : int, optional
        Same seed, same table, same bits; 0 by default.
    config : FitConfig or path of a YAML file, optional
        Everything else. Arguments given here win over it.
    overwrite : bool, default=False
        Whether a run directory at `out` is replaced.
    reporter : Reporter, optional
        Shows progress; engine.progress.Bars() draws bars.

    Returns
    -------
    Run

    Raises
    ------
    DataError
        One named subclass per thing that is wrong with the table.
    OutputExistsError, ConfigError, DeviceNotAvailableError, OutOfResourcesError

    Warns
    -----
    ColumnsDroppedWarning
        Naming columns left out because they are constant, all missing or id-like.
    """
    settings = _settings(config, id=id, device=device, seed=seed, n_clusters=n_clusters)
    check_target(Path(out), overwrite=overwrite)
    backend, reason = backends.resolve(settings.device)
    stages = Stages(reporter or Silent())
    table = open_table(source, id=settings.id)

    with stages.stage("ids"):
        check_ids(table, settings.id)
    kept = rows_to_keep(row_count(table), settings)
    features = _fit_features(table, kept, settings, stages)
    pca = _fit_pca(features, settings, backend, stages)
    Z = _scores(features, pca, backend, stages)
    selection, found = _cluster(Z, settings, backend, stages)
    model = Model(features.encoder, pca, found.centres, _fences(Z, found.centres, backend), settings.id)
    chart = map_rows(Z, found.labels, len(found.centres), table, settings, backend, stages)
    with staged(Path(out), overwrite=overwrite) as folder:
        with stages.stage("assign", len(Z)) as advance:
            sizes, inertias = _write_assignments(table, Z, model, backend, chart, folder / "assignments", advance)
        names = _explain(folder, table, kept, found, features.encoder, settings, stages)
        facts: dict[str, Any] = {"device": backend.name, "device_reason": reason, "input": table.fingerprint()}
        facts["map"] = write_map(folder, chart, settings, stages)
        write_run(folder, settings, model, features, selection, found, sizes, inertias, names, facts, stages.records)
        _report(folder, settings, stages)
    return Run(Path(out))


def _settings(
    config: FitConfig | str | os.PathLike[str] | None, *, n_clusters: int | str | None, **changes: Any
) -> FitConfig:
    changes["kmeans"] = {} if n_clusters is None else {"n_clusters": n_clusters}
    if isinstance(config, FitConfig):
        base = config.model_dump()
        return FitConfig.merged(base, **changes)
    return FitConfig.read(None if config is None else Path(config), **changes)


def _fit_features(table: Table, kept: KeptRows, settings: FitConfig, stages: Stages) -> FittedFeatures:
    with stages.stage("statistics", table.n_rows) as advance:
        features = fit_encoder(
            table,
            id=settings.id,
            column_roles=settings.features.roles,
            groups=settings.features.groups,
            reference_day=settings.features.reference_day_number,
            seed=settings.seed,
            keep=memory_for_rows(),
            see=kept.picker,
            seen=kept.add,
            progress=advance,
        )
    notice = features.weights.notice()
    if notice is not None:
        logger.info(notice)
    return features


def _fit_pca(features: FittedFeatures, settings: FitConfig, backend: Backend, stages: Stages) -> Components:
    with stages.stage("pca", features.statistics.n_rows) as advance:
        return Components.of(features.rows.moments(backend, advance), settings.pca.n_components)


def _scores(features: FittedFeatures, pca: Components, backend: Backend, stages: Stages) -> NDArray[np.float32]:
    Z = np.empty((features.statistics.n_rows, pca.n_components_), np.float32)
    axes = projection(features.encoder.layout, pca.mean_, pca.components_.T)

    def fill(start: int, rows: EncodedRows) -> int:
        Z[start : start + len(rows.dense)] = backend.encoded_scores(rows, axes)
        return len(rows.dense)

    with stages.stage("scores", len(Z)) as advance:
        for n_done in features.rows.map(fill, last=True):
            advance(n_done)
    return Z


def _cluster(
    Z: NDArray[np.float32], settings: FitConfig, backend: Backend, stages: Stages
) -> tuple[KSelection, Clustering]:
    wanted = settings.kmeans
    if wanted.n_clusters != "auto":
        k = int(wanted.n_clusters)
        found = _kmeans(Z, k, settings, backend, stages)
        with stages.stage("measure"):
            return given_k(Z, found.labels, k, found.inertia, random_state=settings.seed), found
    with stages.stage("choose k"):
        selection = choose_k(Z, range(wanted.k_min, wanted.k_max + 1), random_state=settings.seed)
    return selection, _kmeans(Z, selection.k, settings, backend, stages)


def _kmeans(Z: NDArray[np.float32], k: int, settings: FitConfig, backend: Backend, stages: Stages) -> Clustering:
    wanted = settings.kmeans
    with stages.stage("k-means"):
        return cluster_rows(
            Z,
            k,
            backend,
            seed=settings.seed,
            n_runs=1 if wanted.n_init == "auto" else wanted.n_init,
            max_iter=wanted.max_iter,
            tol=wanted.tol,
        )


def _explain(
    folder: Path,
    table: Table,
    kept: KeptRows,
    found: Clustering,
    encoder: FeatureEncoder,
    settings: FitConfig,
    stages: Stages,
) -> list[str] | None:
    """Write rules and personas; return the clusters' names, None if that is skipped."""
    if "explain" in settings.skip:
        return None
    with stages.stage("explain"):
        return explain_run(folder, table, kept, found.labels, len(found.centres), encoder, settings)


def _report(folder: Path, settings: FitConfig, stages: Stages) -> None:
    """Write report.html, and what it took into the manifest."""
    if "report" in settings.skip:
        return
    with stages.stage("report"):
        write_report(folder)
    write_stages(folder, stages.records)


def _fences(Z: NDArray[np.float32], centres: NDArray[np.float32], backend: Backend) -> NDArray[np.float32]:
    found = backend.nearest_two(Z[sample_rows(len(Z), FENCE_SAMPLE, seed=0)], centres)
    return fences(found.labels, found.distance, len(centres))


def _write_assignments(
    table: Table,
    Z: NDArray[np.float32],
    model: Model,
    backend: Backend,
    chart: Chart | None,
    folder: Path,
    advance: Advance,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Write the parts of assignments/; return each cluster's size and inertia."""
    sizes = np.zeros(model.n_clusters, np.int64)
    inertias = np.zeros(model.n_clusters, np.float64)

    def assigned(block: Block) -> tuple[pa.Table, NDArray[np.int64], NDArray[np.float64]]:
        found = backend.nearest_two(Z[block.start : block.start + len(block)], model.centres)
        squared = np.square(found.distance.astype(np.float64))
        part = assignment_table(ids_of(block, model.id), model.id or ROW, found, model.fences)
        part = part if chart is None else chart.with_places(part, block.start)
        counts = np.bincount(found.labels, minlength=model.n_clusters).astype(np.int64)
        sums = np.bincount(found.labels, squared, minlength=model.n_clusters).astype(np.float64)
        return part, counts, sums

    def parts() -> Any:
        columns = [model.encoder.columns[0]] if model.id is None else [model.id]
        for part, counts, squared in map_blocks(assigned, table.blocks(columns)):
            np.add(sizes, counts, out=sizes)
            np.add(inertias, squared, out=inertias)
            advance(part.num_rows)
            yield part

    write_parts(parts(), folder)
    return sizes, inertias
