"""rooms profiles: make a table of user profiles from ratings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from engine.cli.app import AsJson, Debug, Overwrite, app, handle_errors, print_result

if TYPE_CHECKING:
    from engine.ratings.rating_scale import Zeros


@app.command()
@handle_errors
def profiles(
    ratings: Annotated[str, typer.Option(help="Ratings: u.data, ratings.dat, ratings.csv or Parquet.")],
    items: Annotated[str, typer.Option(help="Items with genres: u.item, movies.dat, movies.csv or Parquet.")],
    out: Annotated[Path, typer.Option(help="The profile table to write, a .parquet file.")],
    users: Annotated[str | None, typer.Option(help="Users with demographics: u.user, users.dat, CSV, Parquet.")] = None,
    catalogue: Annotated[str | None, typer.Option(help="Keep only titles that this catalogue has.")] = None,
    zeros: Annotated[str, typer.Option(help="What ratings of 0 are: auto, missing (no rating), ratings.")] = "auto",
    source: Annotated[
        str | None, typer.Option(help="A database: --ratings, --items and --users are then SELECTs of it.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a table of user profiles from ratings, items and users."""
    from engine.progress import Bars
    from engine.ratings.build import profiles_from_ratings
    from engine.tables.databases.query import Query

    tables: list[Any] = [ratings, items, users]
    if source is not None:
        tables = [None if sql is None else Query(source, sql) for sql in tables]
    with Bars().stage("ratings", None) as advance:
        progress = _report_increments(advance)
        profile_table = profiles_from_ratings(
            *tables, catalogue=catalogue, out=out, overwrite=overwrite, zeros=cast("Zeros", zeros),
            progress=progress,
        )  # fmt: skip
    print_result(profile_table.facts(), profile_table.describe(), as_json, written=out)


def _report_increments(advance: Callable[[int], None]) -> Callable[[int, int | None], None]:
    """Return a callback that takes the number done so far, and calls `advance` with the number since the last call."""
    done = 0

    def update(n_done: int, total: int | None) -> None:
        nonlocal done
        advance(n_done - done)
        done = n_done

    return update
