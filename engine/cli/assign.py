"""rooms assign: assign new profiles to the clusters of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.app import (
    AsJson,
    Debug,
    Device,
    GateFile,
    Overwrite,
    Scheduler,
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
    parse_list,
    print_result,
    rows_of,
)
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.tables.databases.table import DatabaseTable


@app.command()
@handle_errors
def assign(
    source: Source,
    model: Annotated[Path, typer.Option(help="The run directory that `rooms fit` wrote.")],
    query: SourceQuery = None,
    out: Annotated[Path | None, typer.Option(help="One file if it ends in .parquet, else a folder of parts.")] = None,
    to: Annotated[str | None, typer.Option(metavar="URL", help="Write to a database in place of --out …")] = None,
    table: Annotated[str | None, typer.Option("--table", help="… this table of it, in one transaction.")] = None,
    append: Annotated[bool, typer.Option("--append", help="Add the rows to an existing --table.")] = False,
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
    device: Device = None,
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
    from engine.utils.atomic_files import scratch_folder

    cluster = FitConfig.read(None, cluster=cluster_options(workers, scheduler, tls_ca, tls_cert, tls_key)).cluster
    limits, target, rows = ScoringLimits.read(gate_file), _target(out, to, table, append), rows_of(source, query)
    with limit_threads(threads), scratch_folder() as folder:
        path = folder / "assignments" if out is None else out
        if target is not None:
            target.check(overwrite=overwrite, source=rows)
        load(model).assign(
            rows, out=path, overwrite=overwrite, place=place, top=top, with_columns=parse_list(with_columns),
            max_unseen=max_unseen, gate=gate or gate_file is not None, limits=limits, device=device or "auto",
            cluster=cluster, reporter=Bars(),
        )  # fmt: skip
        assignments = ds.dataset(path.absolute(), format="parquet")
        n_rows, outliers = assignments.count_rows(), assignments.count_rows(filter=ds.field("outlier"))
        if target is not None:
            target.write(assignments, overwrite=overwrite)
    name = str(out) if target is None else target.shown
    facts = {"out": name, "rows": n_rows, "outliers": outliers}
    print_result(facts, f"{n_rows:,} rows assigned, {outliers:,} of them outliers: {name}", as_json, written=name)


def _target(out: Path | None, url: str | None, table: str | None, append: bool) -> DatabaseTable | None:
    """Return the table of a database that the options name, None if they name a path.

    Raises
    ------
    UsageError
        If they name neither or both.
    """
    from engine.tables.databases.table import DatabaseTable

    if (out is None) == (url is None):
        raise UsageError("Either --out or --to is needed.", hint="--out FOLDER, or --to URL --table NAME.")
    if (url is None) != (table is None) or (append and url is None):
        raise UsageError("--to and --table go together, and --append goes with them.")
    return None if url is None or table is None else DatabaseTable(url, table, append=append)
