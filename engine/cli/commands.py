"""All commands but rooms fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import (
    AsJson,
    Clusters,
    Debug,
    Overwrite,
    Scheduler,
    Seed,
    Source,
    Threads,
    TlsCa,
    TlsCert,
    TlsKey,
    Workers,
    app,
    cluster_count,
    cluster_of,
    guarded,
    print_run,
    show,
    with_threads,
)


@app.command()
@guarded
def demo(
    rows: Annotated[int, typer.Option(min=1, help="Members to generate.")] = 100_000,
    out: Annotated[Path, typer.Option(help="Folder for the members and the run.")] = Path("rooms-demo"),
    clusters: Clusters = None,
    seed: Seed = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run the whole job on a generated table of members with planted communities; needs nothing."""
    from engine.pipeline.demo import run_demo
    from engine.progress import Bars

    with with_threads(threads):
        k = cluster_count(clusters) if clusters is not None else None
        found = run_demo(out, n_rows=rows, n_clusters=k, seed=seed or 0, overwrite=overwrite, reporter=Bars())
    extra = {"members": str(found.members), "adjusted_rand_index": found.adjusted_rand_index}
    print_run(found.run, as_json, extra)


@app.command()
@guarded
def profiles(
    ratings: Annotated[str, typer.Option(help="Ratings: u.data, ratings.dat, ratings.csv or Parquet.")],
    items: Annotated[str, typer.Option(help="Items with genres: u.item, movies.dat, movies.csv or Parquet.")],
    out: Annotated[Path, typer.Option(help="The profile table to write, a .parquet file.")],
    users: Annotated[str | None, typer.Option(help="Users with demographics: u.user, users.dat, CSV, Parquet.")] = None,
    catalogue: Annotated[str | None, typer.Option(help="Keep only titles that this catalogue has.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a table of user profiles from ratings, items and users."""
    from engine.progress import Bars
    from engine.ratings.build import profiles_from_ratings

    with Bars().stage("ratings", None) as advance:
        found = profiles_from_ratings(
            ratings, items, users, catalogue=catalogue, out=out, overwrite=overwrite, progress=_totals(advance)
        )
    show(found.facts(), found.describe(), as_json)


@app.command()
@guarded
def assign(
    source: Source,
    model: Annotated[Path, typer.Option(help="The run directory that `rooms fit` wrote.")],
    out: Annotated[Path, typer.Option(help="One file if it ends in .parquet, else a folder of parts.")],
    place: Annotated[bool, typer.Option("--place", help="Place them on the run's map as well.")] = False,
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

    from engine.config import FitConfig
    from engine.progress import Bars
    from engine.run import load

    cluster = FitConfig.read(None, cluster=cluster_of(workers, scheduler, tls_ca, tls_cert, tls_key)).cluster
    with with_threads(threads):
        load(model).assign(source, out=out, overwrite=overwrite, place=place, cluster=cluster, reporter=Bars())
    written = ds.dataset(out, format="parquet")
    outliers = written.count_rows(filter=ds.field("outlier"))
    facts = {"out": str(out), "rows": written.count_rows(), "outliers": outliers}
    show(facts, f"{facts['rows']:,} rows assigned, {outliers:,} of them outliers: {out}", as_json)


@app.command()
@guarded
def report(
    run: Annotated[Path, typer.Argument(help="The run directory that `rooms fit` wrote.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make the report of a run anew."""
    from engine.run import Run

    out = Run(run).report()
    show({"report": str(out), "bytes": out.stat().st_size}, f"written to {out}", as_json)


@app.command()
@guarded
def compare(
    old: Annotated[Path, typer.Argument(help="A run directory that `rooms fit` wrote.")],
    new: Annotated[Path, typer.Argument(help="A later one, with people of the first.")],
    out: Annotated[Path | None, typer.Option(help="Write who moved: a .parquet file, or a folder of parts.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say who moved where between two runs; which clusters were kept, split, merged, born, and which died."""
    from engine.comparison.compare import compare as compare_runs

    found = compare_runs(old, new, out=out, overwrite=overwrite)
    written = "" if out is None else f"\nwho moved is written to {out}"
    show(found.facts(), found.describe() + written, as_json)


@app.command()
@guarded
def doctor(as_json: AsJson = False, debug: Debug = False) -> None:
    """Say what this machine can run, and why not."""
    from engine.cli.doctor_checks import examine

    checks = examine()
    text = "\n".join(f"{'ok ' if check.ok else 'no '} {check.what:<10} {check.finding}" for check in checks)
    show({check.what: {"ok": check.ok, "finding": check.finding} for check in checks}, text, as_json)


def _totals(advance: Callable[[int], None]) -> Callable[[int, int | None], None]:
    """Adapt a callback that hears totals to one that hears steps."""
    done = 0

    def step(now: int, total: int | None) -> None:
        nonlocal done
        advance(now - done)
        done = now

    return step
