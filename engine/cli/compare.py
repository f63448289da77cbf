"""rooms compare: compare the clusters of two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import AsJson, Debug, GateFile, Overwrite, app, handle_errors, print_result
from engine.errors import GateStoppedError


@app.command()
@handle_errors
def compare(
    old: Annotated[Path, typer.Argument(help="A run directory that `rooms fit` wrote.")],
    new: Annotated[Path, typer.Argument(help="A later one, with people of the first.")],
    out: Annotated[Path | None, typer.Option(help="Write the movers: a .parquet file, or a folder of parts.")] = None,
    gate: Annotated[bool, typer.Option("--gate", help="Exit with code 7 if they differ too much.")] = False,
    gate_file: GateFile = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say who moved where between two runs; which clusters were kept, split, merged, born, and which died."""
    from engine.comparison.compare import compare as compare_runs
    from engine.config import GateConfig

    limits = GateConfig.read(gate_file)
    comparison = compare_runs(old, new, out=out, overwrite=overwrite, gate=limits)
    note = "" if out is None else f"\nmovers are written to {out}"
    print_result(comparison.facts(), comparison.describe() + note, as_json, written=out)
    if (gate or limits.stop) and comparison.verdict.findings:
        found = [finding.words for finding in comparison.verdict.findings]
        raise GateStoppedError(f"The gate stops at {new}: it differs too much from {old}.", found)
