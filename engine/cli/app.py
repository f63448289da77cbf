"""The application: shared options, errors as messages and exit codes, signals that end the process, printed results."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import io
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from typer.core import TyperGroup

from engine.errors import OutOfResourcesError, RoomsError, UsageError, hide_credentials
from engine.execution import forkserver
from engine.pipeline.worker_modules import WORKER_MODULES
from engine.utils.signals import defer_signals, exit_on_signals

COMMANDS = (
    "demo", "profiles", "fit", "show", "assign", "why", "similar", "rename", "compare", "history", "report", "export",
    "bench", "doctor", "warm",
)  # fmt: skip


AS_JSON = "rooms.as_json"  # in the context of a command: whether --json is among its arguments


class OrderedGroup(TyperGroup):
    """A group that lists its commands in the order of COMMANDS, and tells errors of usage as JSON, too."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Read the options before the command."""
        as_json = "--json" in args
        with _usage_errors(as_json):
            context = super().make_context(info_name, args, *rest, **extra)
        context.meta[AS_JSON] = as_json
        return context

    def invoke(self, ctx: Any) -> Any:
        """Read the arguments of the command, and run it."""
        with _usage_errors(ctx.meta[AS_JSON]):
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order in which a user needs them."""
        return sorted(self.commands, key=COMMANDS.index)


@contextlib.contextmanager
def _usage_errors(as_json: bool) -> Iterator[None]:
    """Print errors of usage, such as an unknown option, as JSON on stdout; typer prints them on stderr."""
    try:
        yield
    except Exception as error:
        _suggest_short_option(error)
        format_message = getattr(error, "format_message", None)  # of the errors of click, which typer keeps to itself
        if as_json and format_message is not None:
            code = getattr(error, "exit_code", UsageError.exit_code)
            _print_error_json(UsageError.__name__, format_message(), None, code)
        raise


def _suggest_short_option(error: Any) -> None:
    """Let the error about `--k` name `-k`, if the command has it: typer looks for similar long options only."""
    short, context = str(getattr(error, "option_name", ""))[1:], getattr(error, "ctx", None)
    if len(short) == 2 and context is not None and any(short in option.opts for option in context.command.params):
        error.possibilities = [short]


app = typer.Typer(
    name="rooms",
    cls=OrderedGroup,
    no_args_is_help=True,
    epilog="Begin with `rooms demo`, or with `rooms fit TABLE --id COLUMN --out runs/1`; then open its report.html.",
    pretty_exceptions_enable=False,
)
Command = TypeVar("Command", bound=Callable[..., None])

Source = Annotated[
    list[str],
    typer.Argument(help="Files, folders, globs or URLs: Parquet, CSV, Feather or ORC; a database with --query."),
]
SourceQuery = Annotated[
    str | None, typer.Option("--query", metavar="SQL", help="SOURCE is a database's URL: the SELECT to read from it.")
]
ProfileTable = Annotated[
    list[str] | None,
    typer.Option("--table", help="Where the profiles are; may be repeated. [default: the files of the run]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing --out.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads to use. [default: all CPUs]")]
Seed = Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Same seed, same table, same bits. [default: 0]")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda. [default: auto]")]
GateFile = Annotated[Path | None, typer.Option(help="Gate with the limits of a YAML file.")]
Clusters = Annotated[str | None, typer.Option("-k", "--clusters", help="Number of clusters, or auto. [default: auto]")]

Workers = Annotated[int | None, typer.Option(min=1, help="Processes of this machine to share the work.")]
Scheduler = Annotated[str | None, typer.Option(help="A Dask cluster to use: tcp://… or tls://…")]
TlsCa = Annotated[Path | None, typer.Option(help="For tls://, the authority's certificate.")]
TlsCert = Annotated[Path | None, typer.Option(help="For tls://, our certificate …")]
TlsKey = Annotated[Path | None, typer.Option(help="… and its key.")]


def _print_version(requested: bool) -> None:
    if requested:
        import engine

        typer.echo(f"rooms engine {engine.__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
]


@app.callback()
def rooms(version: Version = False) -> None:
    """Cluster user profiles: explained, reproducible groups of people who would enjoy each other's company."""


def handle_errors(command: Command) -> Command:
    """Wrap a command so that errors become a message on stderr and an exit code.

    --debug adds the traceback, and --json a JSON object on stdout.
    """

    @functools.wraps(command)
    def run_command(*args: Any, **kwargs: Any) -> None:
        try:
            _start_forkserver(**kwargs)
            _keep_pandas_out()
            command(*args, **kwargs)
        except RoomsError as error:
            _exit_with_error(error, error.exit_code, error, **kwargs)
        except MemoryError as error:
            out_of_memory = OutOfResourcesError("There is not enough memory.", hint="lower --memory.")
            _exit_with_error(out_of_memory, 4, error, **kwargs)
        except Exception as error:  # an internal error: report its class and location
            location = f"{type(error).__name__} in {_locate_error(error)}"
            internal = RoomsError(f"Internal error: {location}.", hint="run again with --debug and report it.")
            _exit_with_error(internal, 70, error, **kwargs)

    return run_command  # type: ignore[return-value]


def _start_forkserver(workers: int | None = None, device: str | None = None, dry_run: bool = False, **_: Any) -> None:
    """Start the process that workers are forked from, so that it imports the libraries while this process does.

    With device "auto" on a machine with a GPU the process is not needed, but finding the GPU takes the same imports.
    """
    if workers is not None and device != "cuda" and not dry_run:
        forkserver.start(WORKER_MODULES)


class _NoPandas:
    """A finder of modules by which pandas is not installed."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Raise ImportError for pandas; None leaves other modules to other finders."""
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def _keep_pandas_out() -> None:
    """Let pyarrow look for pandas in vain, once: commands make no use of it, and its import takes 0.4 s.

    pyarrow imports pandas with the first value that it converts, to see whether that is one of pandas'. What needs
    pandas in earnest, such as `to_pandas`, still imports it.
    """
    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, _NoPandas)
        try:
            import pyarrow as pa

            pa.array([0])
        finally:
            sys.meta_path.remove(_NoPandas)


def main() -> None:
    """Run the command line, with streams, warnings and signals handled as job schedulers expect."""
    _prepare_streams()
    if sys.platform == "linux":
        # Arrow's system pool returns the memory that a stage frees: a third less, measured with a million members.
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Imports create a million objects that live until the end. The garbage collector's passes over them, during the
    # imports and at exit, took 0.45 of the 1.65 s of a process that only imports the pipeline.
    gc.set_threshold(50_000, 20, 100)
    atexit.register(_freeze_objects)
    exit_on_signals({signal.SIGTERM: ("Terminated", 143), signal.SIGINT: ("Interrupted", 130)})
    warnings.showwarning = _print_warning
    logger = logging.getLogger("engine")
    logger.addHandler(_CurrentStderr())
    logger.setLevel(logging.INFO)
    app()


def _freeze_objects() -> None:
    """Freeze what lives until the end, unless DuckDB is loaded: it says at exit that what is frozen then has leaked."""
    if "duckdb" not in sys.modules:
        gc.freeze()


class _CurrentStderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what sys.stderr is at the time: above a progress bar, while one is drawn; and no credentials."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self.stream = sys.stderr
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return hide_credentials(super().format(record))


def _prepare_streams() -> None:
    """Replace streams that are closed, and escape letters that the encoding of stdout or stderr lacks.

    A descriptor that is closed would be given to the next file that is opened, and libraries would print into it.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.dup2(os.open(os.devnull, mode), descriptor)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115, streams of the process
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if not issubclass(category, DeprecationWarning):
        print(hide_credentials(f"warning: {message}"), file=sys.stderr)


def _exit_with_error(
    error: RoomsError, code: int, cause: BaseException, *, debug: bool = False, as_json: bool = False, **_: Any
) -> NoReturn:
    with defer_signals():  # so that no error is printed for a file that a signal's cleanup has deleted
        if debug:
            import traceback

            typer.echo(hide_credentials(traceback.format_exc()), err=True, nl=False)
        # The notes of an error say how to go on.
        typer.echo(hide_credentials("\n".join([f"error: {error}", *getattr(cause, "__notes__", [])])), err=True)
        if as_json:
            _print_error_json(type(error).__name__, error.message, error.hint, code)
    raise typer.Exit(code)


def _print_error_json(error: str, message: str, hint: str | None, code: int) -> None:
    facts = {"error": error, "message": message, "hint": hint, "exit_code": code}
    with contextlib.suppress(OSError):  # what could not be written is on stderr
        sys.stdout.write(json.dumps(facts, indent=1) + "\n")
        sys.stdout.flush()


def _locate_error(error: Exception) -> str:
    """Return file and line of the innermost frame of the traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def limit_threads(count: int | None) -> Any:
    """Return a context in which the engine uses `count` threads, or all CPUs if None."""
    from contextlib import nullcontext

    from engine.execution.threads import threads

    return nullcontext() if count is None else threads(count)


def rows_of(source: list[str], query: str | None) -> Any:
    """Return the table that SOURCE and --query name.

    Raises
    ------
    UsageError
        If there is a query, and SOURCE is not the URL of one database.
    """
    if query is None:
        return source
    from engine.tables.databases.query import Query

    if len(source) != 1:
        raise UsageError("--query needs one SOURCE, the URL of a database.")
    return Query(source[0], query)


def parse_cluster_count(text: str) -> int | str:
    """Return the number of clusters that -k gives, or "auto".

    Raises
    ------
    UsageError
        If the text is neither a positive integer nor "auto".
    """
    if text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"-k {text} must be a positive integer or auto.")
    return int(text)


def parse_k_range(text: str | None) -> dict[str, int]:
    """Return k_min and k_max of a range like 2:15.

    Raises
    ------
    UsageError
        If the text is no two positive integers, the smaller one first.
    """
    if text is None:
        return {}
    low, _, high = text.partition(":")
    if not (low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high)):
        raise UsageError(f"--k-range {text} must be the least and the largest k, like 2:15.")
    return {"k_min": int(low), "k_max": int(high)}


def cluster_options(
    workers: int | None, scheduler: str | None, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None
) -> dict[str, Any]:
    """Return the fields of a ClusterConfig as the options give them, None for options not given."""
    paths = {"tls_ca": tls_ca, "tls_cert": tls_cert, "tls_key": tls_key}
    files = {name: None if path is None else str(path) for name, path in paths.items()}
    return {"workers": workers, "scheduler": scheduler, **files}


def parse_share(text: str, flag: str) -> float:
    """Return the share that "5%" or "0.05" means; raises UsageError."""
    try:
        share = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise UsageError(f"{flag} takes a share of at most 1, not {text!r}.", hint="write it like 5% or 0.05.")
    return share


def parse_list(text: str | None) -> list[str]:
    """Return the parts of a list with commas."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def parse_pairs(options: list[str] | None, flag: str) -> dict[str, str]:
    """Return the values of a repeated NAME=VALUE option by name.

    Raises
    ------
    UsageError
        If an option has no name, no value or no equals sign.
    """
    pairs = {}
    for option in options or []:
        name, equals, value = option.rpartition("=")
        if not equals or not name or not value:
            raise UsageError(f"{flag} {option} must read NAME=VALUE.")
        pairs[name] = value
    return pairs


def parse_marks(options: list[str] | None) -> dict[str, list[str]]:
    """Return the values of every COLUMN=VALUE,VALUE of --missing by column; COLUMN= has none, COLUMN="" the empty text.

    Raises
    ------
    UsageError
        If an option has no column or no equals sign.
    """
    marks: dict[str, list[str]] = {}
    for option in options or []:
        column, equals, values = option.rpartition("=")
        if not equals or not column:
            raise UsageError(f"--missing {option} must read COLUMN=VALUE,VALUE, or COLUMN= for none.")
        written = [value.strip() for value in values.split(",") if value.strip()]
        marks.setdefault(column, []).extend(_unquote(value) for value in written)
    return marks


def _unquote(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def print_run(run: Any, as_json: bool, extra: dict[str, Any]) -> None:
    """Print the summary of a run, with the entries of `extra` added."""
    from engine.cli.summary import format_summary, run_facts

    print_result(run_facts(run) | extra, format_summary(run, extra), as_json, written=run.path)


def print_result(facts: dict[str, Any], text: str, as_json: bool, *, written: Path | str | None = None) -> None:
    """Print `facts` as one JSON object, or `text`, to stdout.

    Parameters
    ----------
    facts, text, as_json
    written : path or str, optional
        What the command wrote. It is there whether stdout can be written or not, so that is a warning then.

    Raises
    ------
    OutOfResourcesError
        If stdout cannot be written, and holds all that the command has to say.
    """
    try:
        sys.stdout.write((json.dumps(facts, indent=1, default=str) if as_json else text) + "\n")
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would fail to flush at exit
        if isinstance(error, BrokenPipeError):  # the reader has seen enough
            return
        if written is None:
            raise OutOfResourcesError(f"stdout cannot be written: {error.strerror}.") from error
        typer.echo(f"warning: stdout cannot be written ({error.strerror}), but {written} is complete.", err=True)
