"""The command line: `rooms …`, and `python -m engine …`.

Results go to stdout (`--json`: one object), progress and logs to stderr. Commands import what they need when they
run, so that `--help` answers at once. Exit codes are those of engine.errors; 130 and 143 after an interrupt.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from engine.errors import OutOfResourcesError, RoomsError, UsageError

app = typer.Typer(
    name="rooms",
    help="Cluster user profiles: explained, reproducible groups of people who would enjoy each other's company.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Command = TypeVar("Command", bound=Callable[..., None])

Source = Annotated[list[str], typer.Argument(help="Files, folders, globs or URLs: Parquet, CSV, Feather or ORC.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at --out.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads to use; by default all CPUs there are.")]
Seed = Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Same seed, same table, same bits. [default: 0]")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda. [default: auto]")]
Clusters = Annotated[str | None, typer.Option("-k", "--clusters", help="Number of clusters, or auto. [default: auto]")]


def guarded(command: Command) -> Command:
    """Turn errors into a message on stderr and an exit code; a traceback only with --debug."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        debug = bool(kwargs.get("debug"))
        try:
            command(*args, **kwargs)
        except RoomsError as error:
            _fail(error, error.exit_code, debug)
        except MemoryError:
            _fail(OutOfResourcesError("There is not enough memory.", hint="cluster fewer rows."), 4, debug)
        except KeyboardInterrupt:
            _fail(RoomsError("Interrupted; nothing was written."), 130, debug)
        except _TerminatedError:
            _fail(RoomsError("Terminated; nothing was written."), 143, debug)
        except Exception as error:  # the last line of defence: an internal error, with its kind and place
            place = f"{type(error).__name__} in {_place(error)}"
            _fail(RoomsError(f"Internal error: {place}.", hint="run again with --debug and report it."), 70, debug)

    return run  # type: ignore[return-value]


@app.command()
@guarded
def demo(
    rows: Annotated[int, typer.Option(min=1, help="Members to generate.")] = 100_000,
    out: Annotated[Path, typer.Option(help="Folder for the members and the run.")] = Path("rooms-demo"),
    clusters: Clusters = None,
    seed: Seed = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run the whole job on a generated table of members with planted communities; needs nothing."""
    from engine.demo import run_demo
    from engine.progress import Bars

    with _threads(threads):
        k = _cluster_count(clusters) if clusters is not None else None
        found = run_demo(out, n_rows=rows, n_clusters=k, seed=seed or 0, overwrite=overwrite, reporter=Bars())
    extra = {"members": str(found.members), "adjusted_rand_index": found.adjusted_rand_index}
    _print_run(found.run, as_json, extra)


@app.command()
@guarded
def profiles(
    ratings: Annotated[str, typer.Option(help="Ratings: u.data, ratings.dat, ratings.csv or Parquet.")],
    items: Annotated[str, typer.Option(help="Items with genres: u.item, movies.dat, movies.csv or Parquet.")],
    out: Annotated[Path, typer.Option(help="The profile table to write, a .parquet file.")],
    users: Annotated[str | None, typer.Option(help="Users with demographics: u.user, users.dat, CSV, Parquet.")] = None,
    catalogue: Annotated[str | None, typer.Option(help="Keep only titles that this catalogue has.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a table of user profiles from ratings, items and users."""
    from engine.progress import Bars
    from engine.tables.ratings import profiles_from_ratings

    with Bars().stage("ratings", None) as advance:
        found = profiles_from_ratings(ratings, items, users, catalogue=catalogue, out=out, progress=_totals(advance))
    _print(found.facts(), found.describe(), as_json)


@app.command()
@guarded
def fit(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="The run directory to write.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Column that identifies a profile.")] = None,
    clusters: Clusters = None,
    device: Device = None,
    config: Annotated[Path | None, typer.Option(help="YAML file; options given here win over it.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="COLUMN=ROLE, may be repeated.")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="GROUP=WEIGHT, may be repeated.")] = None,
    seed: Seed = None,
    threads: Threads = None,
    skip: Annotated[str | None, typer.Option(help="Stages to leave out: explain,map,report.")] = None,
    place_all: Annotated[bool, typer.Option("--place-all", help="Write every row's place on the map.")] = False,
    previous: Annotated[Path | None, typer.Option(help="An earlier run whose map this one continues.")] = None,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it takes.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Cluster a table of profiles and write a run directory."""
    from engine.config import FitConfig
    from engine.progress import Bars

    features: dict[str, Any] = {"roles": _pairs(role, "--role")}
    features["groups"] = {name: {"weight": value} for name, value in _pairs(weight, "--weight").items()}
    kmeans = {} if clusters is None else {"n_clusters": _cluster_count(clusters)}
    skipped = None if skip is None else [part.strip() for part in skip.split(",") if part.strip()]
    settings = FitConfig.read(
        config, id=id, device=device, seed=seed, features=features, kmeans=kmeans, skip=skipped,
        map={"place_all": True} if place_all else {}, previous=None if previous is None else str(previous),
    )  # fmt: skip
    if out is None and not dry_run:
        raise UsageError("--out is missing.", hint="name the run directory to write, or add --dry-run.")
    with _threads(threads):
        if dry_run:
            from engine.forecast import forecast

            seen = forecast(source, settings)
            _print(seen.facts(), seen.describe(), as_json)
            return
        from engine.pipeline import fit as run_fit

        assert out is not None
        run = run_fit(source, out=out, config=settings, overwrite=overwrite, reporter=Bars())
    _print_run(run, as_json, {})


@app.command()
@guarded
def assign(
    source: Source,
    model: Annotated[Path, typer.Option(help="The run directory that `rooms fit` wrote.")],
    out: Annotated[Path, typer.Option(help="One file if it ends in .parquet, else a folder of parts.")],
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Assign new profiles to the clusters of a run."""
    import pyarrow.dataset as ds

    from engine.progress import Bars
    from engine.runs import load

    with _threads(threads):
        load(model).assign(source, out=out, overwrite=overwrite, reporter=Bars())
    written = ds.dataset(out, format="parquet")
    outliers = written.count_rows(filter=ds.field("outlier"))
    facts = {"out": str(out), "rows": written.count_rows(), "outliers": outliers}
    _print(facts, f"{facts['rows']:,} rows assigned, {outliers:,} of them outliers: {out}", as_json)


@app.command()
@guarded
def report(
    run: Annotated[Path, typer.Argument(help="The run directory that `rooms fit` wrote.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make the report of a run anew."""
    from engine.runs import Run

    out = Run(run).report()
    _print({"report": str(out), "bytes": out.stat().st_size}, f"written to {out}", as_json)


@app.command()
@guarded
def compare(
    old: Annotated[Path, typer.Argument(help="A run directory that `rooms fit` wrote.")],
    new: Annotated[Path, typer.Argument(help="A later one, with people of the first.")],
    out: Annotated[Path | None, typer.Option(help="Write who moved: a .parquet file, or a folder of parts.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say who moved where between two runs; which clusters were kept, split, merged, born, and which died."""
    from engine.comparison import compare as compare_runs

    found = compare_runs(old, new, out=out, overwrite=overwrite)
    written = "" if out is None else f"\nwho moved is written to {out}"
    _print(found.facts(), found.describe() + written, as_json)


@app.command()
@guarded
def doctor(as_json: AsJson = False, debug: Debug = False) -> None:
    """Say what this machine can run, and why not."""
    from engine.doctor import examine

    checks = examine()
    text = "\n".join(f"{'ok ' if check.ok else 'no '} {check.what:<10} {check.finding}" for check in checks)
    _print({check.what: {"ok": check.ok, "finding": check.finding} for check in checks}, text, as_json)


def main() -> None:
    """Run the command line with warnings and signals as a job scheduler expects them."""
    if sys.platform == "linux":  # measured on a million members: what stages leave behind is given back, a third less
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Importing makes a million objects that all live on: looking through them again and again, and once more at the
    # end, took 0.45 of the 1.65 s that importing the pipeline takes as a process of its own.
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)
    signal.signal(signal.SIGTERM, _terminate)
    warnings.showwarning = _show_warning
    logger = logging.getLogger("engine")
    logger.addHandler(logging.StreamHandler())  # to stderr
    logger.setLevel(logging.INFO)
    app()


class _TerminatedError(BaseException):
    """SIGTERM, as an exception that unwinds staging folders."""


def _terminate(number: int, frame: Any) -> NoReturn:
    raise _TerminatedError


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if not issubclass(category, DeprecationWarning):
        typer.echo(f"warning: {message}", err=True)


def _fail(error: RoomsError, code: int, debug: bool) -> NoReturn:
    if debug:
        import traceback

        traceback.print_exc()
    typer.echo(f"error: {error}", err=True)
    raise typer.Exit(code)


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def _threads(count: int | None) -> Any:
    from contextlib import nullcontext

    from engine.execution.local import threads

    return nullcontext() if count is None else threads(count)


def _cluster_count(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"-k {text} must be a positive integer or auto.")
    return int(text)


def _pairs(options: list[str] | None, flag: str) -> dict[str, str]:
    pairs = {}
    for option in options or []:
        name, equals, value = option.rpartition("=")
        if not equals or not name or not value:
            raise UsageError(f"{flag} {option} must read NAME=VALUE.")
        pairs[name] = value
    return pairs


def _totals(advance: Callable[[int], None]) -> Callable[[int, int | None], None]:
    """Adapt a callback that hears totals to one that hears steps."""
    done = 0

    def step(now: int, total: int | None) -> None:
        nonlocal done
        advance(now - done)
        done = now

    return step


def _print_run(run: Any, as_json: bool, extra: dict[str, Any]) -> None:
    from engine.runs.summary import facts, summary

    _print(facts(run) | extra, summary(run, extra), as_json)


def _print(facts: dict[str, Any], text: str, as_json: bool) -> None:
    sys.stdout.write((json.dumps(facts, indent=1, default=str) if as_json else text) + "\n")
