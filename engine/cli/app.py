"""The application: errors become messages and exit codes, signals end the process, results are printed."""

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
from typer.core import TyperGroup

from engine.errors import OutOfResourcesError, RoomsError, UsageError
from engine.execution import forkserver
from engine.pipeline.worker_modules import WORKER_MODULES
from engine.utils.signals import stop_at, undivided

COMMANDS = ("demo", "profiles", "fit", "assign", "compare", "report", "bench", "doctor")


class InOrder(TyperGroup):
    """Commands in the order in which one needs them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return sorted(self.commands, key=COMMANDS.index)


app = typer.Typer(
    name="rooms",
    cls=InOrder,
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

Workers = Annotated[int | None, typer.Option(min=1, help="Processes of this machine to share the work.")]
Scheduler = Annotated[str | None, typer.Option(help="A Dask cluster to use: tcp://… or tls://…")]
TlsCa = Annotated[Path | None, typer.Option(help="For tls://, the authority's certificate.")]
TlsCert = Annotated[Path | None, typer.Option(help="For tls://, our certificate …")]
TlsKey = Annotated[Path | None, typer.Option(help="… and its key.")]


def _tell_version(wanted: bool) -> None:
    if wanted:
        import engine

        typer.echo(f"rooms engine {engine.__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Print the version and leave.")
]


@app.callback()
def rooms(version: Version = False) -> None:
    """Cluster user profiles: explained, reproducible groups of people who would enjoy each other's company."""


def guarded(command: Command) -> Command:
    """Turn errors into a message on stderr and an exit code; a traceback only with --debug."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        debug = bool(kwargs.get("debug"))
        try:
            _start(**kwargs)
            command(*args, **kwargs)
        except RoomsError as error:
            _fail(error, error.exit_code, debug, error)
        except MemoryError as error:
            _fail(OutOfResourcesError("There is not enough memory.", hint="lower --memory."), 4, debug, error)
        except Exception as error:  # the last line of defence: an internal error, with its kind and place
            place = f"{type(error).__name__} in {_place(error)}"
            internal = RoomsError(f"Internal error: {place}.", hint="run again with --debug and report it.")
            _fail(internal, 70, debug, error)

    return run  # type: ignore[return-value]


def _start(workers: int | None = None, device: str | None = None, dry_run: bool = False, **_: Any) -> None:
    """Start the process that workers are forked from: it imports its libraries while this one imports them.

    With device "auto" and a GPU the process is not needed: to know that takes these very imports.
    """
    if workers is not None and device != "cuda" and not dry_run:
        forkserver.start(WORKER_MODULES)


def main() -> None:
    """Run the command line with warnings and signals as a job scheduler expects them."""
    if sys.platform == "linux":  # measured on a million members: what stages leave behind is given back, a third less
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Importing makes a million objects that all live on: looking through them again and again, and once more at the
    # end, took 0.45 of the 1.65 s that importing the pipeline takes as a process of its own.
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)
    stop_at({signal.SIGTERM: ("Terminated", 143), signal.SIGINT: ("Interrupted", 130)})
    warnings.showwarning = _show_warning
    logger = logging.getLogger("engine")
    logger.addHandler(logging.StreamHandler())  # to stderr
    logger.setLevel(logging.INFO)
    app()


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if not issubclass(category, DeprecationWarning):
        typer.echo(f"warning: {message}", err=True)


def _fail(error: RoomsError, code: int, debug: bool, cause: BaseException) -> NoReturn:
    with undivided():  # an error for want of what a signal has deleted is none
        if debug:
            import traceback

            traceback.print_exc()
        typer.echo("\n".join([f"error: {error}", *getattr(cause, "__notes__", [])]), err=True)  # notes: how to go on
    raise typer.Exit(code)


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def with_threads(count: int | None) -> Any:
    from contextlib import nullcontext

    from engine.execution.threads import threads

    return nullcontext() if count is None else threads(count)


def cluster_count(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"-k {text} must be a positive integer or auto.")
    return int(text)


def cluster_of(
    workers: int | None, scheduler: str | None, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None
) -> dict[str, Any]:
    """Return the options of a ClusterConfig, None for what was not given."""
    files = {"tls_ca": tls_ca, "tls_cert": tls_cert, "tls_key": tls_key}
    named = {name: None if path is None else str(path) for name, path in files.items()}
    return {"workers": workers, "scheduler": scheduler, **named}


def pairs(options: list[str] | None, flag: str) -> dict[str, str]:
    pairs = {}
    for option in options or []:
        name, equals, value = option.rpartition("=")
        if not equals or not name or not value:
            raise UsageError(f"{flag} {option} must read NAME=VALUE.")
        pairs[name] = value
    return pairs


def print_run(run: Any, as_json: bool, extra: dict[str, Any]) -> None:
    from engine.cli.summary import facts, summary

    show(facts(run) | extra, summary(run, extra), as_json)


def show(facts: dict[str, Any], text: str, as_json: bool) -> None:
    sys.stdout.write((json.dumps(facts, indent=1, default=str) if as_json else text) + "\n")
