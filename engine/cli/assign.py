"""rooms assign: assign new profiles to the clusters of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import (
    AsJson,
    Debug,
    GateFile,
    Overwrite,
    Scheduler,
    Source,
    Threads,
    TlsCa,
    TlsCert,
    TlsKey,
    Workers,
    app,
    cluster_options,
    handle_errors,
    limit_threads,
    parse_list,
    print_result,
)


@app.command()
@handle_errors
def assign(
    source: Source,
    model: Annotated[Path, typer.Option(help="The run directory that `rooms fit` wrote.")],
    out: Annotated[Path, typer.Option(help="One file if it ends in .parquet, else a folder of parts.")],
    place: Annotated[bool, typer.Option("--place", help="Place them on the run's map as well.")] = False,
    top: Annotated[
        int, typer.Option(min=1, help="Name so many of the nearest clusters: cluster_2, cluster_2_odds, …")
    ] = 1,
    with_columns: Annotated[
        str | None, typer.Option("--with", metavar="name,run", help="Add the cluster's name; the run's id and model.")
    ] = None,
    max_unseen: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Fail if more of a column is unknown to the model, such as 5%."),
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="Fail if the rows are not like those of the fit: exit code 7.")
    ] = False,
    gate_file: GateFile = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Assign new profiles to the clusters of a run."""
    import pyarrow.dataset as ds

    from engine.config import FitConfig, ScoringLimits
    from engine.progress import Bars
    from engine.run import load

    cluster = FitConfig.read(None, cluster=cluster_options(workers, scheduler, tls_ca, tls_cert, tls_key)).cluster
    limits = ScoringLimits.read(gate_file)
    with limit_threads(threads):
        load(model).assign(
            source, out=out, overwrite=overwrite, place=place, top=top, with_columns=parse_list(with_columns),
            max_unseen=max_unseen, gate=gate or gate_file is not None, limits=limits, cluster=cluster, reporter=Bars(),
        )  # fmt: skip
    assignments = ds.dataset(out.absolute(), format="parquet")
    outliers = assignments.count_rows(filter=ds.field("outlier"))
    facts = {"out": str(out), "rows": assignments.count_rows(), "outliers": outliers}
    print_result(facts, f"{facts['rows']:,} rows assigned, {outliers:,} of them outliers: {out}", as_json, written=out)
