"""rooms similar: the people nearest to one person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import AsJson, Debug, ProfileTable, Threads, app, handle_errors, limit_threads, print_result


@app.command()
@handle_errors
def similar(
    run: Annotated[Path, typer.Argument(help="A run directory that `rooms fit` wrote.")],
    id: Annotated[str, typer.Argument(help="The person's id; without an id column, the number of the row.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many people.")] = 10,
    same_cluster: Annotated[bool, typer.Option("--same-cluster", help="People of the same cluster alone.")] = False,
    table: ProfileTable = None,
    threads: Threads = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Find the people nearest to one person, by all columns as the clusters weigh them."""
    from engine.run import similar as find_similar

    with limit_threads(threads):
        found = find_similar(run, id, n, same_cluster=same_cluster, table=table or None)
    people = found.to_pylist()
    name = found.column_names[0]
    lines = [f"{row['distance']:>10.4f} {row['cluster']:>5}  {row[name]}" for row in people]
    print_result({"people": people}, "\n".join([f"{'distance':>10} {'cluster':>5}  {name}", *lines]), as_json)
