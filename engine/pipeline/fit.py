"""Fit a table of profiles, one line a stage: write its clusters, their explanation and a reusable model.

    source -> statistics -> encoder -> PCA -> scores -> K-Means -> map, assignments, rules, personas, model, report

No arithmetic here. What a stage computes is in stages.py; what is cached between its passes, in memory_plan.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine import backends
from engine.backends.cpu import CpuBackend
from engine.backends.protocol import Backend
from engine.blocks import count_rows, reading_bytes
from engine.config import FitConfig, algorithm_settings
from engine.errors import OutOfResourcesError, UsageError, first_line
from engine.execution.array_storage import Storage
from engine.execution.block_cache import BlockCache
from engine.execution.glibc_malloc import mmap_large_arrays
from engine.execution.passes import current_cluster
from engine.execution.threads import threads as use_threads
from engine.execution.worker_pool import run_on_workers
from engine.explain.binning.binned_table import BinnedTable
from engine.explain.personas.own_names import Namer, find_namer
from engine.explain.row_sample import RowCollector
from engine.explain.stage import EXPLAIN_STEPS, ExplainedRun, create_binned_table, draw_row_sample, explain_run
from engine.features.encoder import FeatureEncoder
from engine.features.fit import FittedFeatures, choose_reader, reader_name
from engine.kmeans.lloyd import Clustering
from engine.kmeans.select_k import check_cluster_count
from engine.kmeans.stability import ClusterStability, describe_stability
from engine.lineage.previous import PreviousRun
from engine.model.assignments import AddMapColumns, check_id_name
from engine.model.directions import direction_facts
from engine.pca.solver import Components
from engine.pipeline import gpu_process
from engine.pipeline.audit import Expected, audit_run
from engine.pipeline.checkpoints import Checkpoints, check_unchanged
from engine.pipeline.gating import check_output, check_run, divert, raise_if_stopped
from engine.pipeline.gpu_process import DeviceFailedError
from engine.pipeline.landmark_map import LandmarkMap, make_landmark_map, write_landmark_map
from engine.pipeline.memory_plan import MemoryPlan, nearest_existing_folder, plan_memory
from engine.pipeline.movers import write_movers
from engine.pipeline.night import open_night, write_lineage
from engine.pipeline.stage_libraries import StageLibraries
from engine.pipeline.stages import Job
from engine.pipeline.staging import StagingFolder, staging_folder
from engine.pipeline.timing import StageTimer
from engine.pipeline.worker_modules import WORKER_MODULES
from engine.pipeline.write_run import update_manifest, write_run
from engine.progress import Reporter, Silent
from engine.report.html_report import write_report
from engine.run import Run
from engine.tables import Table
from engine.tables.snapshot import snapshot
from engine.utils.array_types import Int32s
from engine.utils.row_sampling import count_labels

logger = logging.getLogger(__name__)


def fit(
    source: Any,
    *,
    out: str | os.PathLike[str],
    id: str | None = None,
    n_clusters: int | str | None = None,
    missing: Mapping[str, Sequence[Any]] | None = None,
    device: str | None = None,
    algorithm: str | None = None,
    reproducible: bool | None = None,
    seed: int | None = None,
    skip: Sequence[str] | None = None,
    roles: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
    describe_only: Sequence[str] | None = None,
    previous: str | os.PathLike[str] | None = None,
    name_clusters: Namer | str | None = None,
    threads: int | None = None,
    config: FitConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
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
    source : path, URL, list of them, a pandas, polars or pyarrow table, engine.Query, or a reader or generator
        One row per profile. Files are read in batches, never whole. A query, and a reader or generator of Arrow
        batches, is read once, into a file beside `out` that is deleted at the end.
    out : path
        The run directory; it appears complete or not at all.
    id : str, optional
        Column that identifies a profile, kept exactly; of a pandas frame, also its index by name. Without it, rows are
        numbered from 0 in a column `row`.
    n_clusters : int or "auto", optional
        Number of clusters; "auto", the default, counts the groups that valleys separate: engine.choose_k. 1 is an
        answer: there are no clusters.
    missing : mapping of column name to sequence, optional
        Values of a column that stand for missing ones, such as {"income": [-999]}; an empty sequence says that it has
        none. Those of other columns are found if they plainly stand apart, with a warning.
    device : {"auto", "cpu", "cuda"}, optional
    algorithm : {"auto", "lloyd", "cuml", "fused"}, optional
        Of PCA and K-Means: our own or cuML's; "fused" is our own, with K-Means by fused kernels of a GPU. "auto", the
        default, takes cuML's on a GPU that has it, on one machine.
        Labels are always those of the nearest centers by the definition.
    reproducible : bool, optional
        Whether the result has the same bits on every device: nothing is computed by cuML, and the moments and the map
        by the CPU.
    seed : int, optional
        Same seed, same table, same bits; 0 by default.
    skip : sequence of {"explain", "map", "report"}, optional
        Stages to leave out.
    roles : mapping of column name to role, optional
        "numeric", "categorical", "multilabel", "boolean", "date" or "ignore"; the others are inferred.
    weights : mapping of group name to float, optional
        Weights of groups of columns, in the table's metadata or the configuration; "rest" is the columns in no group.
    describe_only : sequence of str, optional
        Columns that the clusters are not made of, and are described by, such as an outcome.
    previous : path, optional
        The run that this one continues.
    name_clusters : callable or str, optional
        A function that names clusters, or "module:function". It is called once, in this process, with a list of dicts
        of aggregates, one a cluster, and returns a dict of cluster number to name; see `docs/naming.md`.
    threads : int, optional
        Threads of this process; by default all CPUs that it may use. They change no bit.
    config : FitConfig, mapping such as {"kmeans": {"n_init": 3}}, or path of a YAML file, optional
        Everything else. Arguments given here win over it.
    memory : int or str, optional
        Bytes of anonymous memory that the fit may take, as a number or like "2GiB"; by default half of the free memory.
        A table that needs more is streamed, through files beside `out`, to the same bits.
    workers : int, optional
        Processes of this machine to share the work, to the same bits; needs the extra `dask`, as `scheduler` does. As
        with multiprocessing, they import the script that starts them: call this below `if __name__ == "__main__":`.
    scheduler : str, optional
        Address of a Dask cluster to use, tcp://… or tls://…, whose workers see the table and `out`. Certificates and
        time limits are in FitConfig.cluster.
    resume : bool, default=False
        Whether to resume an interrupted fit with the same `out`, settings and files, if there is one. The result is the
        same to the bit.
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
        One named subclass per fault of the table.
    OutputOverlapError
        If `out` overlaps the table or the previous run.
    UsageError
        If the id column is named like another column of the assignments.
    OutputExistsError, ConfigError, DeviceNotAvailableError, OutOfResourcesError
    InputChangedError, CheckpointNotReadableError
        If the input changed since the fit began, or a checkpoint of the interrupted fit is damaged.

    Warns
    -----
    ColumnsDroppedWarning
        Naming columns left out because they are constant, all missing or id-like.
    NoDirectionWarning
        If the metric is cosine, and rows are at the mean.
    MissingMarksWarning, RepeatedColumnsWarning
        Naming columns with values that are taken as missing, and columns that share one weight.
    """
    cluster = {"workers": workers, "scheduler": scheduler}
    settings = _settings(
        config, id=id, device=device, algorithm=algorithm, reproducible=reproducible, seed=seed,
        n_clusters=n_clusters, missing=missing, memory=memory, cluster=cluster,
        skip=skip, roles=roles, weights=weights, describe_only=describe_only,
        previous=None if previous is None else str(previous),
        explain={"namer": name_clusters},
    )  # fmt: skip
    find_namer(settings.explain.namer)  # so that a name that leads nowhere ends the fit before it begins
    check_id_name(settings.id)
    target = check_output(source, out, settings, overwrite=overwrite)
    with (
        nullcontext() if threads is None else use_threads(threads),
        snapshot(source, id=settings.id, parent=nearest_existing_folder(target.absolute().parent)) as rows,
    ):
        return _fit_or_fall_back(rows, target, settings, resume, overwrite, reporter or Silent())


def _fit_or_fall_back(
    source: Any, target: Path, settings: FitConfig, resume: bool, overwrite: bool, reporter: Reporter
) -> Run:
    """Cluster a table on the device of the settings, and on the CPU if a device that was not named fails."""
    attempt = partial(fit_on_device, source, target, settings, resume, overwrite)
    try:
        if gpu_process.is_wanted(source, settings):
            return Run(gpu_process.run(attempt, reporter, target))
        return Run(attempt(reporter))
    except DeviceFailedError as error:
        reason = str(error)
        is_named = "cuml" in (settings.pca.algorithm, settings.kmeans.algorithm)
        if settings.device != "auto" or is_named:
            remedies = [("--device auto", settings.device != "auto"), ("--algorithm auto", is_named)]
            wanted = " and ".join(option for option, is_needed in remedies if is_needed)
            raise OutOfResourcesError(
                f"Device {settings.device!r} failed: {reason}.",
                hint=f"see `rooms doctor`, or use {wanted}, with which a fit falls back to the CPU.",
            ) from error
    from engine.tables.dataframe_table import is_dataframe  # narwhals, which a fit of files does without

    logger.warning("Continuing on the CPU from the last checkpoint, because the GPU failed: %s.", reason)
    cpu, reason = CpuBackend(), f"cpu, because the GPU failed: {reason}"
    if settings.kmeans.algorithm == "fused":  # kernels of GPUs, whose bits are those of lloyd
        logger.warning("Not fused kernels, but numba computes K-Means, to the same bits.")
        settings = settings.model_copy(update={"kmeans": settings.kmeans.model_copy(update={"algorithm": "lloyd"})})
    # A fit of a data frame leaves no checkpoints: it begins again.
    libraries, resume = StageLibraries(settings, cpu, reason), not is_dataframe(source)
    return Run(_fit(source, target, settings, cpu, reason, libraries, resume, overwrite, reporter))


def fit_on_device(
    source: Any, target: Path, settings: FitConfig, resume: bool, overwrite: bool, reporter: Reporter
) -> Path:
    """Cluster a table on the device of the settings; return the run directory.

    Raises
    ------
    DeviceFailedError
        If the device or one of its libraries fails, or its memory does not suffice; the message is the reason.
    """
    backend, reason = backends.resolve(settings.device)
    libraries = StageLibraries(settings, backend, reason)
    try:
        return _fit(source, target, settings, backend, reason, libraries, resume, overwrite, reporter)
    except _failures_of(backend) as error:
        if not backend.device_errors:  # the CPU's own
            raise
        raise DeviceFailedError(first_line(error)) from error


def _fit(
    source: Any,
    out: Path,
    settings: FitConfig,
    backend: Backend,
    reason: str,
    libraries: StageLibraries,
    resume: bool,
    overwrite: bool,
    reporter: Reporter,
) -> Path:
    """Cluster a table with a backend and libraries, stage by stage; return the run directory."""
    table, settings, previous = open_night(source, settings)
    n_rows = count_rows(table)
    check_cluster_count(settings.kmeans.n_clusters, n_rows)
    with (
        staging_folder(out, overwrite=overwrite, resume=resume) as staging,
        run_on_workers(settings.cluster, table, staging.work, on_gpus=backend.one_per_worker, modules=WORKER_MODULES),
    ):
        plan = _plan_memory(staging, n_rows, table, settings, previous=previous)
        checkpoints, fingerprint = _open_checkpoints(staging, table, settings, resume, previous)
        storage, cache = _allocate(staging, plan)
        timer, reader = StageTimer(reporter), choose_reader(backend, table)
        libraries.record_reader(reader_name(reader))
        libraries.record_statistics(not isinstance(reader, str))
        if backend.name != "cpu":
            logger.info("Computed on %s: %s.", backend.name, libraries.describe())
        job = Job(table, n_rows, settings, backend, timer, storage, checkpoints, libraries, reader, previous)

        id_digest = job.check_ids()
        row_sample, k_sample = draw_row_sample(n_rows, settings), job.draw_k_sample()
        features = job.features(cache, [row_sample, k_sample])
        _log_column_groups(features)
        binned_table = _create_binned_table(job, row_sample, features.encoder)
        pca = job.pca(features, [] if binned_table is None else [binned_table])
        job, plan = _plan_memory_again(job, plan, pca, features, binned_table, staging, cache.n_bytes_in_file)
        Z = job.scores(features, pca)
        of_metric = direction_facts(Z, settings.kmeans.metric)
        selection, clustering, numbered = job.clusters(Z, features, pca, k_sample)
        stability = job.stability(Z, clustering)
        model = job.model(features, pca, Z, clustering.centers, stability.odds, numbered)
        landmark_map = make_landmark_map(
            Z, clustering.labels, len(clustering.centers), table, settings,
            backend=job.reproducible_backend, storage=job.storage,
            checkpoints=checkpoints, reporter=timer,
        )  # fmt: skip
        add_map_columns = _map_columns(landmark_map)
        sizes, inertias = job.assignments(Z, model, staging.run / "assignments", add_map_columns)
        explained = _explain(
            staging.run, job, row_sample, binned_table, clustering, stability, features.encoder, model.cluster_numbers,
            previous,
        )  # fmt: skip
        names = None if explained is None else explained.names
        if explained is not None:
            settings = settings.model_copy(update={"renamed": explained.renamed})
        map_facts = write_landmark_map(staging.run, landmark_map, settings.id, model.cluster_numbers, names, timer)
        libraries.record_map(map_facts)
        facts: dict[str, Any] = {"device": backend.name, "device_reason": reason, "computed_by": libraries.facts()}
        facts |= of_metric | {"input": fingerprint, "plan": plan.facts(), "map": map_facts}
        facts |= {} if explained is None or explained.naming is None else {"naming": explained.naming}
        facts |= {} if previous is None else {"previous": settings.previous, "continuation": job.choice}
        write_run(
            staging.run, settings, model, features, selection, clustering, stability, sizes, inertias, names, facts,
            timer.records, id_digest,
        )  # fmt: skip
        verdict = None
        if previous is not None and numbered is not None:
            write_lineage(staging.run, previous, numbered, sizes, names, job.choice)
            moved = write_movers(
                staging.run, table, Z, clustering.labels, model, backend, previous, numbered, names,
                settings.lineage.min_movers,
            )  # fmt: skip
            update_manifest(staging.run, moved)
            verdict = check_run(staging.run, previous, model, numbered, sizes, settings)
            divert(staging, verdict)
        _write_report(staging.run, job)
        check_unchanged(fingerprint, table.fingerprint())
        _audit(staging.run, job, id_digest, clustering, model.cluster_numbers)
    raise_if_stopped(out, verdict)
    return out


def _failures_of(backend: Backend) -> tuple[type[Exception], ...]:
    """Return the errors that a device raises when it fails or its memory runs out."""
    return MemoryError, *backend.device_errors


def _settings(
    config: FitConfig | Mapping[str, Any] | str | os.PathLike[str] | None,
    *,
    n_clusters: int | str | None,
    missing: Mapping[str, Sequence[Any]] | None,
    roles: Mapping[str, str] | None,
    weights: Mapping[str, float] | None,
    describe_only: Sequence[str] | None,
    algorithm: str | None,
    **changes: Any,
) -> FitConfig:
    """Return the configuration with the arguments of `fit` set in it."""
    changes["features"] = {
        "missing": {name: tuple(marks) for name, marks in (missing or {}).items()},
        "roles": dict(roles or {}),
        "groups": {name: {"weight": weight} for name, weight in (weights or {}).items()},
    }
    changes["features"] |= {} if describe_only is None else {"describe_only": describe_only}
    changes |= algorithm_settings(algorithm)
    changes["kmeans"] |= {} if n_clusters is None else {"n_clusters": n_clusters}
    if isinstance(config, FitConfig | Mapping):
        return FitConfig.merge(config.model_dump() if isinstance(config, FitConfig) else dict(config), **changes)
    return FitConfig.read(None if config is None else Path(config), **changes)


def _open_checkpoints(
    staging: StagingFolder, table: Table, settings: FitConfig, resume: bool, previous: PreviousRun | None
) -> tuple[Checkpoints, dict[str, Any]]:
    """Return the checkpoints of this job, and the fingerprint of its input."""
    fingerprint = table.fingerprint()
    if fingerprint.get("files") == []:  # a data frame: another process cannot tell whether its own is the same
        if resume:
            raise UsageError("Only a fit of files can be resumed, not one of a data frame.")
        return Checkpoints(), fingerprint
    checkpoints = Checkpoints(staging.checkpoints)
    if checkpoints.identify(settings, fingerprint, None if previous is None else previous.digest):
        logger.info("Continuing from %s.", staging.root)
    elif resume:
        logger.info("There is no interrupted run to continue: starting from the beginning.")
    return checkpoints, fingerprint


def _plan_memory(
    staging: StagingFolder,
    n_rows: int,
    table: Table,
    settings: FitConfig,
    *,
    previous: PreviousRun | None = None,
    cached_bytes: int = 0,
    **known: Any,
) -> MemoryPlan:
    """Plan where rows are kept, here or on workers; raise OutOfResourcesError if memory or disk will not suffice.

    `cached_bytes` is what the block cache has in its file, which is part of what the plan counts.
    """
    cluster, free_disk = current_cluster(), staging.free_disk_bytes() + cached_bytes
    plan = plan_memory(
        n_rows, table.schema, settings, resources=None if cluster is None else cluster.resources,
        free_disk=free_disk, reading_bytes=reading_bytes(table),
        earlier_people=None if previous is None else previous.n_people, **known,
    )  # fmt: skip
    plan.check(staging.root, free_disk)
    if cluster is not None:
        cluster.memory_limit = plan.keep_bytes
    return plan


def _plan_memory_again(
    job: Job,
    plan: MemoryPlan,
    pca: Components,
    features: FittedFeatures,
    binned_table: BinnedTable | None,
    staging: StagingFolder,
    cached_bytes: int,
) -> tuple[Job, MemoryPlan]:
    """Plan again once the number of components is known: scores may turn out too wide for memory."""
    known = {"n_components": pca.n_components_, "n_features": features.encoder.n_features}
    plan = _plan_memory(
        staging, job.n_rows, job.table, job.settings, previous=job.previous, cached_bytes=cached_bytes,
        streamed=plan.streamed, **known,
    )  # fmt: skip
    job = replace(job, storage=Storage(staging.work if plan.streamed else None))
    if binned_table is not None:
        binned_table.move(job.storage)
    return job, plan


def _allocate(staging: StagingFolder, plan: MemoryPlan) -> tuple[Storage, BlockCache]:
    """Return the storage and the block cache of a plan."""
    if plan.streamed:
        mmap_large_arrays()
    cache = BlockCache(plan.keep_bytes, staging.work if plan.file_bytes else None, plan.file_bytes)
    return Storage(staging.work if plan.streamed else None), cache


def _log_column_groups(features: FittedFeatures) -> None:
    notice = features.weights.notice()
    if notice is not None:
        logger.info(notice)


def _map_columns(landmark_map: LandmarkMap | None) -> AddMapColumns | None:
    """Return the function that adds map columns to the assignments, None if they have none."""
    return landmark_map.add_map_columns if landmark_map is not None and landmark_map.in_assignments else None


def _create_binned_table(job: Job, row_sample: RowCollector, encoder: FeatureEncoder) -> BinnedTable | None:
    """Return the binned table of all rows; None if the explanation is skipped, or already in a checkpoint."""
    if "explain" in job.settings.skip or job.checkpoints.load("explain") is not None:
        return None
    return create_binned_table(job.table.schema, row_sample, encoder, job.settings, job.n_rows, job.storage)


def _explain(
    folder: Path,
    job: Job,
    row_sample: RowCollector,
    binned_table: BinnedTable | None,
    clustering: Clustering,
    stability: ClusterStability,
    encoder: FeatureEncoder,
    numbers: Int32s,
    previous: PreviousRun | None,
) -> ExplainedRun | None:
    """Write rules and personas; return the clusters' names, None if the explanation is skipped."""
    if "explain" in job.settings.skip:
        return None

    def explain() -> ExplainedRun:
        assert binned_table is not None  # or there is a checkpoint
        with job.timer.stage("explain", EXPLAIN_STEPS) as advance:
            labels, n_clusters = clustering.labels, len(clustering.centers)
            return explain_run(
                folder, job.table, row_sample, binned_table, labels, n_clusters, encoder, job.settings,
                describe_stability(stability), numbers, {} if previous is None else previous.names,
                {} if previous is None else previous.descriptions, job.reader, job.backend,
                find_namer(job.settings.explain.namer), advance,
            )  # fmt: skip

    return job.checkpoints.load_or_make(
        "explain", explain, lambda made: (made.facts(), {}), lambda facts, _: ExplainedRun.from_facts(facts)
    )


def _write_report(folder: Path, job: Job) -> None:
    """Write report.html."""
    if "report" in job.settings.skip:
        return
    with job.timer.stage("report", 1) as advance:
        write_report(folder)
        advance(1)


def _audit(folder: Path, job: Job, id_digest: int | None, clustering: Clustering, numbers: Int32s) -> None:
    """Compare the files of the run with what was computed, and complete the manifest."""
    id = job.settings.id
    id_type = pa.int64() if id is None else job.table.schema.field(id).type
    with job.timer.stage("audit", job.n_rows) as advance:
        sizes = count_labels(clustering.labels, len(clustering.centers))
        expected = Expected(job.n_rows, id, id_type, id_digest, sizes, numbers, clustering.inertia)
        audit = audit_run(folder, expected, advance)
    update_manifest(folder, {"audit": audit, "stages": job.timer.records})
