"""rooms demo: run a fit on a generated table of members with planted communities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import (
    AsJson,
    Clusters,
    Debug,
    Overwrite,
    Seed,
    Threads,
    app,
    handle_errors,
    limit_threads,
    parse_cluster_count,
    print_run,
)


@app.command()
@handle_errors
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

    with limit_threads(threads):
        k = parse_cluster_count(clusters) if clusters is not None else None
        result = run_demo(out, n_rows=rows, n_clusters=k, seed=seed or 0, overwrite=overwrite, reporter=Bars())
    extra = {"members": str(result.members), "adjusted_rand_index": round(result.adjusted_rand_index, 4)}
    print_run(result.run, as_json, extra)
