"""rooms report: write the report of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import AsJson, Debug, app, handle_errors, print_result


@app.command()
@handle_errors
def report(
    run: Annotated[Path, typer.Argument(help="The run directory that `rooms fit` wrote.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make the report of a run anew."""
    from engine.run import Run

    out = Run(run).report()
    print_result({"report": str(out), "bytes": out.stat().st_size}, f"written to {out}", as_json, written=out)
