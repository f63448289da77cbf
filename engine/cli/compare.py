"""rooms compare: compare the clusters of two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import AsJson, Debug, Overwrite, app, handle_errors, print_result


@app.command()
@handle_errors
def compare(
    old: Annotated[Path, typer.Argument(help="A run directory that `rooms fit` wrote.")],
    new: Annotated[Path, typer.Argument(help="A later one, with people of the first.")],
    out: Annotated[Path | None, typer.Option(help="Write the movers: a .parquet file, or a folder of parts.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say who moved where between two runs; which clusters were kept, split, merged, born, and which died."""
    from engine.comparison.compare import compare as compare_runs

    comparison = compare_runs(old, new, out=out, overwrite=overwrite)
    note = "" if out is None else f"\nmovers are written to {out}"
    print_result(comparison.facts(), comparison.describe() + note, as_json, written=out)
