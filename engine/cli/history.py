"""rooms history: the nights of a run, and what became of each cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import AsJson, Debug, app, handle_errors, print_result


@app.command()
@handle_errors
def history(
    run: Annotated[Path, typer.Argument(help="A run directory that `rooms fit --previous` wrote.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the nights that led to a run: sizes of clusters, who moved, and births and deaths of clusters."""
    from engine.lineage.history import History
    from engine.report.contents import read_domain_words
    from engine.run import Run

    found = History.read(Run(run))
    print_result(found.facts(), found.describe(read_domain_words(run)), as_json)
