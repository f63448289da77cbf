"""The main job, one line a stage: a table of profiles goes in, clusters and a reusable model come out.

    source -> statistics -> encoder -> PCA -> scores -> K-Means -> assignments, rules, personas, model, report

No arithmetic here. A stage that streams reads the table once; only the scores Z stay in memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import backends
from engine.assignment import FENCE_SAMPLE, ROW, assignment_table, check_ids, fences, ids_of, write_parts
from engine.backends.protocol import Backend
from engine.cluster import KMeans
from engine.config import FitConfig
from engine.decomposition import PCA
from engine.execution.local import map_blocks
from engine.explain.sample import KeptRows
from engine.explain.stage import explain_run, rows_to_keep
from engine.features import FeatureEncoder, fit_encoder
from engine.features.encoder import FittedFeatures
from engine.model import Model
from engine.progress import Advance, Reporter, Silent
from engine.report.page import write_report
from engine.runs.directory import check_target, staged
from engine.runs.run import Run
from engine.runs.stages import Stages
from engine.runs.writing import write_run, write_stages
from engine.sampling import sample_rows
from engine.selection import KSelection, choose_k, given_k
from engine.tables import Block, Table, open_table


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
    features = _fit_features(table, settings, stages)
    pca = _fit_pca(table, features.encoder, settings, stages)
    kept = rows_to_keep(features.statistics.n_rows, settings)
    Z = _scores(table, features.statistics.n_rows, features.encoder, pca, kept, stages)
    selection, kmeans = _cluster(Z, settings, stages)
    model = Model(features.encoder, pca, kmeans.cluster_centers_, _fences(Z, kmeans, backend), settings.id)
    with staged(Path(out), overwrite=overwrite) as folder:
        with stages.stage("assign", len(Z)) as advance:
            sizes, inertias = _write_assignments(table, Z, model, backend, folder / "assignments", advance)
        names = _explain(folder, table, kept, kmeans, features.encoder, settings, stages)
        facts = {"device": backend.name, "device_reason": reason, "input": table.fingerprint()}
        write_run(folder, settings, model, features, selection, kmeans, sizes, inertias, names, facts, stages.records)
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


def _fit_features(table: Table, settings: FitConfig, stages: Stages) -> FittedFeatures:
    with stages.stage("statistics", table.n_rows) as advance:
        return fit_encoder(
            table,
            id=settings.id,
            column_roles=settings.features.roles,
            groups=settings.features.groups,
            reference_day=settings.features.reference_day_number,
            seed=settings.seed,
            progress=advance,
        )


def _fit_pca(table: Table, encoder: FeatureEncoder, settings: FitConfig, stages: Stages) -> PCA:
    with stages.stage("pca", table.n_rows) as advance:
        pca = PCA(settings.pca.n_components, device=settings.device)
        pca.fit_blocks(_counted(table, encoder, advance), read=lambda block: encoder.encode(block.rows))
    return pca


def _counted(table: Table, encoder: FeatureEncoder, advance: Advance) -> Any:
    for block in table.blocks(encoder.columns):
        yield block
        advance(len(block))


def _scores(
    table: Table, n_rows: int, encoder: FeatureEncoder, pca: PCA, kept: KeptRows, stages: Stages
) -> NDArray[np.float32]:
    Z = np.empty((n_rows, pca.n_components_), np.float32)

    def fill(block: Block) -> int:
        kept.keep(block)
        Z[block.start : block.start + len(block)] = pca.transform(encoder.encode(block.rows))
        return len(block)

    with stages.stage("scores", n_rows) as advance:
        for n_done in map_blocks(fill, table.blocks(encoder.columns)):
            advance(n_done)
    return Z


def _cluster(Z: NDArray[np.float32], settings: FitConfig, stages: Stages) -> tuple[KSelection, KMeans]:
    wanted = settings.kmeans
    if wanted.n_clusters != "auto":
        kmeans = _kmeans(Z, int(wanted.n_clusters), settings, stages)
        with stages.stage("measure"):
            return given_k(Z, kmeans.labels_, kmeans.n_clusters, kmeans.inertia_, random_state=settings.seed), kmeans
    with stages.stage("choose k"):
        selection = choose_k(Z, range(wanted.k_min, wanted.k_max + 1), random_state=settings.seed)
    return selection, _kmeans(Z, selection.k, settings, stages)


def _kmeans(Z: NDArray[np.float32], k: int, settings: FitConfig, stages: Stages) -> KMeans:
    wanted = settings.kmeans
    kmeans = KMeans(
        k,
        n_init=wanted.n_init,
        max_iter=wanted.max_iter,
        tol=wanted.tol,
        random_state=settings.seed,
        device=settings.device,
    )
    with stages.stage("k-means"):
        kmeans.fit(Z)
    return kmeans


def _explain(
    folder: Path,
    table: Table,
    kept: KeptRows,
    kmeans: KMeans,
    encoder: FeatureEncoder,
    settings: FitConfig,
    stages: Stages,
) -> list[str] | None:
    """Write rules and personas; return the clusters' names, None if that is skipped."""
    if "explain" in settings.skip:
        return None
    with stages.stage("explain"):
        return explain_run(folder, table, kept, kmeans.labels_, kmeans.n_clusters, encoder, settings)


def _report(folder: Path, settings: FitConfig, stages: Stages) -> None:
    """Write report.html, and what it took into the manifest."""
    if "report" in settings.skip:
        return
    with stages.stage("report"):
        write_report(folder)
    write_stages(folder, stages.records)


def _fences(Z: NDArray[np.float32], kmeans: KMeans, backend: Backend) -> NDArray[np.float32]:
    found = backend.nearest_two(Z[sample_rows(len(Z), FENCE_SAMPLE, seed=0)], kmeans.cluster_centers_)
    return fences(found.labels, found.distance, kmeans.n_clusters)


def _write_assignments(
    table: Table, Z: NDArray[np.float32], model: Model, backend: Backend, folder: Path, advance: Advance
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Write the parts of assignments/; return each cluster's size and inertia."""
    sizes = np.zeros(model.n_clusters, np.int64)
    inertias = np.zeros(model.n_clusters, np.float64)

    def assigned(block: Block) -> tuple[pa.Table, NDArray[np.int64], NDArray[np.float64]]:
        found = backend.nearest_two(Z[block.start : block.start + len(block)], model.centres)
        squared = np.square(found.distance.astype(np.float64))
        part = assignment_table(ids_of(block, model.id), model.id or ROW, found, model.fences)
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
