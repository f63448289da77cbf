"""rooms export: the model of a run as SQL, to score rows where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.app import AsJson, Debug, Overwrite, ProfileTable, app, handle_errors, print_result


@app.command()
@handle_errors
def export(
    run: Annotated[Path, typer.Argument(help="A run directory that `rooms fit` wrote.")],
    to: Annotated[str, typer.Option(help="sql: one SELECT; onnx: a graph; sklearn: a pickled Pipeline.")] = "sql",
    out: Annotated[Path | None, typer.Option(help="A file to write. [default: stdout]")] = None,
    dialect: Annotated[
        str | None,
        typer.Option(help="Of SQL: duckdb, postgres, sqlite, spark, bigquery or snowflake. [default: duckdb]"),
    ] = None,
    relation: Annotated[
        str | None, typer.Option("--from", help="The table in the database, written as it is. [default: profiles]")
    ] = None,
    id: Annotated[str | None, typer.Option(help="The column to pass through. [default: the id of the run]")] = None,
    table: ProfileTable = None,
    check: Annotated[
        list[str] | None, typer.Option(help="Run it on this table, in DuckDB or SQLite, and compare with the model.")
    ] = None,
    deadline: Annotated[float, typer.Option(min=0, help="Seconds after which a check is stopped.")] = 600.0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Export the model of a run, to score rows where they are."""
    from engine.errors import UsageError
    from engine.model.export import check_sql
    from engine.progress import Bars
    from engine.run import load

    if to != "sql" and (out is None or check):
        raise UsageError(f"--to {to} needs --out, and --check is for SQL.")
    if to != "sql" and (dialect or relation or id):
        raise UsageError(f"--dialect, --from and --id are for SQL, not for --to {to}.")
    dialect, relation = dialect or "duckdb", relation or "profiles"
    model = load(run)
    exported = model.export(
        to, out=out, overwrite=overwrite, dialect=dialect, table=table or check or None, relation=relation, id=id
    )
    facts: dict[str, Any] = {"to": to, "out": None if out is None else str(out)}
    facts |= {"dialect": dialect} if to == "sql" else {}
    text = str(exported) if out is None else f"{to}{f' for {dialect}' if to == 'sql' else ''}: {out}"
    if out is None:
        facts["text"] = str(exported)
    if check:
        found = check_sql(model, check, dialect, deadline=deadline, reporter=Bars())
        facts |= {"rows": found.rows, "differing": found.differing, "within_rounding": found.within_rounding}
        text = (
            f"{found.rows:,} rows compared in {dialect}: {found.differing:,} have another cluster than the model "
            f"assigns, {found.within_rounding:,} of them by no more than rounding."
        )
    print_result(facts, text, as_json, written=out)
