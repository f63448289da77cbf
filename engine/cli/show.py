"""rooms show: the clusters of a run as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import AsJson, Debug, app, handle_errors, print_result


@app.command()
@handle_errors
def show(
    run: Annotated[Path, typer.Argument(help="A run directory that `rooms fit` wrote.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the clusters of a run: name, size, how sure each is, and what sets it apart."""
    from engine.cli.summary import cluster_facts, format_clusters
    from engine.report.contents import read_domain_words
    from engine.run import Run

    clusters = cluster_facts(Run(run))
    print_result({"clusters": clusters}, format_clusters(clusters, read_domain_words(run)), as_json)
