"""rooms rename: give a cluster of a run a name, or take it back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import AsJson, Debug, app, handle_errors, print_result


@app.command()
@handle_errors
def rename(
    run: Annotated[Path, typer.Argument(help="A run directory that `rooms fit` wrote.")],
    cluster: Annotated[int, typer.Argument(help="The number of the cluster.")],
    name: Annotated[str | None, typer.Argument(help="Its name; without one, the given name is taken back.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Give a cluster of a run a name, which later nights keep; or take it back."""
    from engine.lineage.rename import rename_cluster

    old, new = rename_cluster(run, cluster, name)
    facts = {"run": str(run), "cluster": cluster, "old": old, "name": new}
    print_result(facts, f"cluster {cluster} is “{new}” now, and was “{old}”", as_json, written=run)
