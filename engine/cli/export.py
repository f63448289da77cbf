"""rooms export: the model or the rules of a run as SQL, to score rows where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.app import AsJson, Debug, Overwrite, ProfileTable, app, handle_errors, print_result


@app.command()
@handle_errors
def export(
    run: Annotated[Path, typer.Argument(help="A run directory that `rooms fit` wrote.")],
    to: Annotated[
        str,
        typer.Option(
            help="sql: the model as one SELECT; rules: its rules as SQL; onnx: a graph; sklearn: a pickled Pipeline."
        ),
    ] = "sql",
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
        list[str] | None,
        typer.Option(help="Run it on this table in the dialect's database, and compare with the model."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(help="URL of the PostgreSQL server to check in; ${NAME} is a variable of the environment."),
    ] = None,
    deadline: Annotated[float, typer.Option(min=0, help="Seconds after which a check is stopped.")] = 600.0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Export the model or the rules of a run, to score rows where they are."""
    from engine.errors import UsageError
    from engine.model.export import check_export_path, check_sql
    from engine.progress import Bars
    from engine.run import Run

    if check and to != "sql":
        raise UsageError(f"--check is for --to sql, not for --to {to}.")
    if database is not None and not check:
        raise UsageError("--database is the server of --check.", hint="name the table to compare: --check.")
    is_sql = to in ("sql", "rules")
    if not is_sql and out is None:
        raise UsageError(f"--to {to} needs --out.")
    if not is_sql and (dialect or relation or id):
        raise UsageError(f"--dialect, --from and --id are for SQL, not for --to {to}.")
    dialect, relation = dialect or "duckdb", relation or "profiles"
    given = Run(run)
    options: dict[str, Any] = {"dialect": dialect, "relation": relation, "id": id, "out": out, "overwrite": overwrite}
    if out is not None and check:
        check_export_path(out, run, check, overwrite=overwrite)
    if to == "rules":
        exported = given.export_rules(table=table or None, **options)
    else:
        exported = given.model.export(to, table=table or check or None, **options)
    facts: dict[str, Any] = {"to": to, "out": None if out is None else str(out)}
    facts |= {"dialect": dialect} if is_sql else {}
    text = str(exported) if out is None else f"{to}{f' for {dialect}' if is_sql else ''}: {out}"
    if out is None:
        facts["text"] = str(exported)
    if check:
        found = check_sql(given.model, check, dialect, database=database, deadline=deadline, reporter=Bars())
        facts |= {"rows": found.rows, "differing": found.differing, "within_rounding": found.within_rounding}
        text = (
            f"{found.rows:,} rows compared in {dialect}: {found.differing:,} have another cluster than the model "
            f"assigns, {found.within_rounding:,} of them by no more than rounding."
        )
    print_result(facts, text, as_json, written=out)
