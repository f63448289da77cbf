"""rooms fit: cluster a table of profiles, or estimate the seconds and memory of a fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.app import (
    AsJson,
    Clusters,
    Debug,
    Device,
    GateFile,
    Overwrite,
    Scheduler,
    Seed,
    Source,
    SourceQuery,
    Threads,
    TlsCa,
    TlsCert,
    TlsKey,
    Workers,
    app,
    cluster_options,
    handle_errors,
    limit_threads,
    parse_cluster_count,
    parse_k_range,
    parse_list,
    parse_marks,
    parse_pairs,
    parse_share,
    print_result,
    print_run,
    rows_of,
)
from engine.errors import UsageError


@app.command()
@handle_errors
def fit(
    source: Source,
    query: SourceQuery = None,
    out: Annotated[Path | None, typer.Option(help="The run directory to write.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Column that identifies a profile.")] = None,
    clusters: Clusters = None,
    k_range: Annotated[
        str | None, typer.Option("--k-range", help="Least and largest k of -k auto, like 2:15. [default: 1:40]")
    ] = None,
    k_method: Annotated[
        str | None,
        typer.Option("--k-method", help="What -k auto goes by: valley or elbow. [default: valley]"),
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Of distances: euclidean or cosine. [default: euclidean]")
    ] = None,
    device: Device = None,
    algorithm: Annotated[
        str | None, typer.Option(help="Of PCA and K-Means: auto, lloyd (our own), cuml or fused. [default: auto]")
    ] = None,
    reproducible: Annotated[
        bool, typer.Option("--reproducible", help="The same bits on every device: nothing by cuML.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="YAML file; options given here win over it.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="COLUMN=ROLE, may be repeated.")] = None,
    missing: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE,… of missing values; may be repeated.")
    ] = None,
    weight: Annotated[list[str] | None, typer.Option(help="GROUP=WEIGHT, may be repeated.")] = None,
    describe_only: Annotated[
        str | None,
        typer.Option("--describe-only", help="Columns, like churned,income, that describe the clusters only."),
    ] = None,
    seed: Seed = None,
    threads: Threads = None,
    skip: Annotated[str | None, typer.Option(help="Stages to leave out: explain,map,report.")] = None,
    place_all: Annotated[bool, typer.Option("--place-all", help="Write every row's place on the map.")] = False,
    previous: Annotated[Path | None, typer.Option(help="The run that this one continues.")] = None,
    refit_features: Annotated[
        bool, typer.Option("--refit-features", help="Renew the encoder and components of --previous.")
    ] = False,
    max_moved: Annotated[
        str | None, typer.Option("--max-moved", help="Largest share of people who may change clusters, like 5%.")
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="Stop a run that differs too much from --previous: exit code 7.")
    ] = False,
    gate_file: GateFile = None,
    gate_also: Annotated[
        list[str] | None, typer.Option("--gate-also", help="Another run that columns may be like; may be repeated.")
    ] = None,
    memory: Annotated[str | None, typer.Option(help="Memory to use at most, like 2GiB. [default: half of it]")] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it takes.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Cluster a table of profiles and write a run directory."""
    from engine.config import FitConfig, algorithm_settings
    from engine.progress import Bars

    features: dict[str, Any] = {"roles": parse_pairs(role, "--role"), "missing": parse_marks(missing)}
    features["groups"] = {name: {"weight": value} for name, value in parse_pairs(weight, "--weight").items()}
    features |= {} if describe_only is None else {"describe_only": parse_list(describe_only)}
    kmeans: dict[str, Any] = {} if clusters is None else {"n_clusters": parse_cluster_count(clusters)}
    kmeans |= parse_k_range(k_range) | ({} if k_method is None else {"k_method": k_method})
    kmeans |= {} if metric is None else {"metric": metric}
    algorithms = algorithm_settings(algorithm)
    skipped_stages = None if skip is None else parse_list(skip)
    settings = FitConfig.read(
        config, gate_file=gate_file, id=id, device=device, memory=memory, seed=seed, features=features,
        skip=skipped_stages, pca=algorithms["pca"], kmeans=kmeans | algorithms["kmeans"],
        reproducible=reproducible or None,
        map={"place_all": True} if place_all else {},
        previous=None if previous is None else str(previous),
        lineage=({"refit_features": True} if refit_features else {})
        | ({} if max_moved is None else {"max_moved": parse_share(max_moved, "--max-moved")}),
        gate=({"stop": True} if gate else {}) | ({"also": gate_also} if gate_also else {}),
        cluster=cluster_options(workers, scheduler, tls_ca, tls_cert, tls_key),
    )  # fmt: skip
    if out is None and not dry_run:
        raise UsageError("--out is missing.", hint="name the run directory to write, or add --dry-run.")
    rows = rows_of(source, query)
    with limit_threads(threads):
        if dry_run:
            from engine.pipeline.dry_run import estimate_fit

            estimate = estimate_fit(rows, settings, out=out)
            print_result(estimate.facts(), estimate.describe(), as_json)
            return
        from engine.pipeline.fit import fit as run_fit

        assert out is not None
        run = run_fit(rows, out=out, config=settings, resume=resume, overwrite=overwrite, reporter=Bars())
    print_run(run, as_json, {})
