"""rooms why: why one person is in their cluster, and what would move them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import AsJson, Debug, ProfileTable, app, handle_errors, print_result


@app.command()
@handle_errors
def why(
    run: Annotated[Path, typer.Argument(help="A run directory that `rooms fit` wrote.")],
    id: Annotated[str, typer.Argument(help="The person's id; without an id column, the number of the row.")],
    table: ProfileTable = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say why one person is in their cluster: the rule that holds, the runner-up, and the least change to move them."""
    from engine.run import Run

    found = Run(run).why(id, table=table or None)
    print_result(found.facts(), found.describe(), as_json)
