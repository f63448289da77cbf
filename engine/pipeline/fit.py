"""The main job, one line a stage: a table of profiles goes in, clusters and a reusable model come out.

    source -> statistics -> encoder -> PCA -> scores -> K-Means -> map, assignments, rules, personas, model, report

No arithmetic here. Rows that there is room for, in memory or in a file, are read once: pipeline/memory_plan.py.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine import backends
from engine.blocks import reading_bytes, row_count
from engine.config import FitConfig
from engine.errors import UsageError
from engine.execution.array_storage import Storage
from engine.execution.block_cache import Shelf
from engine.execution.glibc_malloc import give_back_arrays
from engine.execution.passes import current
from engine.execution.worker_pool import workers_for
from engine.explain.binning.binned_table import Sheet
from engine.explain.row_sample import PickedRows
from engine.explain.stage import explain_run, rows_to_explain, sheet_of
from engine.features.encoder import FeatureEncoder
from engine.features.fit import FittedFeatures, reader_for
from engine.kmeans.lloyd import Clustering
from engine.pca.solver import Components
from engine.pipeline.checkpoints import Checkpoints, check_unchanged
from engine.pipeline.landmark_map import map_rows, write_map
from engine.pipeline.memory_plan import Plan, disk_free, plan_of
from engine.pipeline.stages import Job
from engine.pipeline.staging import Staging, staging
from engine.pipeline.timing import Stages
from engine.pipeline.worker_modules import WORKER_MODULES
from engine.pipeline.write_run import write_run, write_stages
from engine.progress import Reporter, Silent
from engine.report.html_report import write_report
from engine.run import Run
from engine.tables import Table, open_table
from engine.utils.atomic_directory import check_target

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
    memory: int | str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
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
    memory : int or str, optional
        Bytes of memory the fit may take of its own, as a number or like "2GiB"; by default half of what is free. A
        table that needs more is streamed, through files beside `out`, to the same bits.
    workers : int, optional
        Processes of this machine to share the work, to the same bits; needs the extra `dask`, as `scheduler` does. They
        import the script that starts them, as all of Python's do: call this below `if __name__ == "__main__":`.
    scheduler : str, optional
        Address of a Dask cluster to use, tcp://… or tls://…, whose workers see the table and `out`. Certificates, and
        how long is waited for whom: FitConfig.cluster.
    resume : bool, default=False
        Whether to go on from where an interrupted fit with the same `out`, settings and files stopped, if there is one.
        The result is the same to the bit.
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
    InputChangedError, CheckpointNotReadableError
        If the input is not what it was when the fit began, or what an interrupted one left is damaged.

    Warns
    -----
    ColumnsDroppedWarning
        Naming columns left out because they are constant, all missing or id-like.
    """
    cluster = {"workers": workers, "scheduler": scheduler}
    settings = _settings(config, id=id, device=device, seed=seed, n_clusters=n_clusters, memory=memory, cluster=cluster)
    check_target(Path(out), overwrite=overwrite)
    backend, reason = backends.resolve(settings.device)
    table = open_table(source, id=settings.id)
    n_rows = row_count(table)
    with (
        staging(Path(out), overwrite=overwrite, resume=resume) as place,
        workers_for(settings.cluster, table, place.work, on_gpus=backend.one_per_worker, modules=WORKER_MODULES),
    ):
        plan = _planned(place, n_rows, table, settings)
        checkpoints, fingerprint = _checkpoints(place, table, settings, resume)
        storage = Storage(place.work if plan.streamed else None)
        if plan.streamed:
            give_back_arrays()
        job = Job(
            table, n_rows, settings, backend, Stages(reporter or Silent()), storage, checkpoints,
            reader_for(backend, table),
        )  # fmt: skip
        job.check_ids()
        shelf = Shelf(plan.keep_bytes, place.work if plan.file_bytes else None, plan.file_bytes)
        sampled = rows_to_explain(n_rows, settings)
        features = job.features(shelf, [sampled])
        _tell(features)
        sheet = _sheet(job, sampled, features.encoder)
        pca = job.pca(features, [] if sheet is None else [sheet])
        job, plan = _settled(job, plan, pca, features, place)
        if sheet is not None:
            sheet.move(job.storage)
        Z = job.scores(features, pca)
        selection, found = job.clusters(Z)
        model = job.model(features, pca, Z, found.centres)
        chart = map_rows(
            Z, found.labels, len(found.centres), table, settings, backend=backend, storage=job.storage,
            checkpoints=checkpoints, reporter=job.stages,
        )  # fmt: skip
        with_places = chart.with_places if chart is not None and chart.all_in_assignments else None
        sizes, inertias = job.assignments(Z, model, place.run / "assignments", with_places)
        names = _explain(place.run, job, sampled, sheet, found, features.encoder)
        facts: dict[str, Any] = {"device": backend.name, "device_reason": reason, "reader": features.rows.reader}
        facts |= {
            "input": fingerprint,
            "plan": plan.facts(),
            "map": write_map(place.run, chart, settings.id, job.stages),
        }
        records = job.stages.records
        write_run(place.run, settings, model, features, selection, found, sizes, inertias, names, facts, records)
        _report(place.run, job)
        check_unchanged(fingerprint, table.fingerprint())
    return Run(Path(out))


def _settings(
    config: FitConfig | str | os.PathLike[str] | None, *, n_clusters: int | str | None, **changes: Any
) -> FitConfig:
    changes["kmeans"] = {} if n_clusters is None else {"n_clusters": n_clusters}
    if isinstance(config, FitConfig):
        base = config.model_dump()
        return FitConfig.merged(base, **changes)
    return FitConfig.read(None if config is None else Path(config), **changes)


def _checkpoints(place: Staging, table: Table, settings: FitConfig, resume: bool) -> tuple[Checkpoints, dict[str, Any]]:
    """Return the checkpoints of this very job, and what identifies its input."""
    fingerprint = table.fingerprint()
    if fingerprint.get("files") == []:  # a data frame: nothing says whether another process' is the same
        if resume:
            raise UsageError("Only a fit of files can be resumed, not one of a data frame.")
        return Checkpoints(), fingerprint
    checkpoints = Checkpoints(place.checkpoints)
    if checkpoints.identify(settings, fingerprint):
        logger.info("Going on from %s.", place.root)
    elif resume:
        logger.info("There is no interrupted run to go on from: starting from the beginning.")
    return checkpoints, fingerprint


def _tell(features: FittedFeatures) -> None:
    notice = features.weights.notice()
    if notice is not None:
        logger.info(notice)


def _planned(place: Staging, n_rows: int, table: Table, settings: FitConfig, **known: Any) -> Plan:
    """Say where rows live, here or with the workers that there are, and refuse what cannot end well."""
    cluster = current()
    crew, room = None if cluster is None else cluster.crew, disk_free(place.root)
    reading = reading_bytes(table)
    plan = plan_of(n_rows, table.schema, settings, crew=crew, disk_free=room, reading=reading, **known)
    plan.check(place.root)
    if cluster is not None:
        cluster.room = plan.keep_bytes
    return plan


def _settled(job: Job, plan: Plan, pca: Components, features: FittedFeatures, place: Staging) -> tuple[Job, Plan]:
    """Look at the plan again, now that the number of components is known: rows may turn out too wide for memory."""
    known = {"components": pca.n_components_, "n_features": features.encoder.n_features}
    settled = _planned(place, job.n_rows, job.table, job.settings, streamed=plan.streamed, **known)
    return replace(job, storage=Storage(place.work if settled.streamed else None)), settled


def _sheet(job: Job, sampled: PickedRows, encoder: FeatureEncoder) -> Sheet | None:
    """Return what notes all rows for the explanation on the way; None if there is none, or it is done."""
    if "explain" in job.settings.skip or job.checkpoints.load("explain") is not None:
        return None
    return sheet_of(job.table.schema, sampled, encoder, job.settings, job.n_rows, job.storage)


def _explain(
    folder: Path, job: Job, sampled: PickedRows, sheet: Sheet | None, found: Clustering, encoder: FeatureEncoder
) -> list[str] | None:
    """Write rules and personas; return the clusters' names, None if that is skipped."""
    if "explain" in job.settings.skip:
        return None

    def explained() -> list[str]:
        assert sheet is not None  # or the explanation is remembered
        with job.stages.stage("explain"):
            return explain_run(
                folder, job.table, sampled, sheet, found.labels, len(found.centres), encoder, job.settings
            )

    return job.checkpoints.remembered(
        "explain", explained, lambda names: ({"names": names}, {}), lambda facts, _: list(facts["names"])
    )


def _report(folder: Path, job: Job) -> None:
    """Write report.html, and what it took into the manifest."""
    if "report" in job.settings.skip:
        return
    with job.stages.stage("report"):
        write_report(folder)
    write_stages(folder, job.stages.records)
