"""Run a function in a child process that is watched, so that what aborts, hangs or is killed there ends nothing here.

    run_in_child(function, heartbeat, reporter)  ->  what the function returns, or ChildProcessLostError

The child is a new interpreter that imports neither `__main__` nor what this process has imported: so it can be started
from a notebook, from a script without a guard, and from a daemonic process. It sends a heartbeat, its progress, its log
records and its warnings. It is hung if it is silent, or if its heartbeat reports that something has been in flight for
too long. If this process ends, the child ends at its next heartbeat.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection, Pipe
from typing import Any

from engine.execution.threads import thread_count, threads
from engine.progress import Advance, Reporter
from engine.utils.signals import on_signal

HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 60.0  # a child that sends nothing for so long is hung: imports hold the interpreter for seconds
IN_FLIGHT_SECONDS = 1800.0  # one call of a device or its library that takes so long is hung
LOGGER = "engine"
logger = logging.getLogger(__name__)

Heartbeat = Callable[[], float]  # returns the seconds that the oldest call in flight has taken; raises if it is lost


class ChildProcessLostError(Exception):
    """The child process ended, hung or lost its device before it returned; the message says which."""


def run_in_child(
    function: Callable[[Reporter], Any],
    heartbeat: Heartbeat,
    reporter: Reporter,
    on_exit: Callable[[], str | None],
) -> Any:
    """Call function(reporter) in a child process, and return what it returns.

    Parameters
    ----------
    function, heartbeat : callable
        They are pickled. The heartbeat is called by a thread of the child every HEARTBEAT_SECONDS.
    reporter : Reporter
        Gets the progress of the child.
    on_exit : callable
        Called when a signal, or an error in this process, has ended the child; returns a note for the user.

    Raises
    ------
    ChildProcessLostError
        If the child ends without a result, or is ended because it hangs or its heartbeat raises.
    Exception
        Whatever the function raises.
    """
    here, there = Pipe()
    with here:
        with there:
            process = subprocess.Popen(
                _command(there.fileno()), pass_fds=[there.fileno()], stdin=subprocess.DEVNULL, stdout=_stderr(),
                start_new_session=True,
            )  # fmt: skip

        def end() -> str | None:
            _end(process)
            return on_exit()

        try:
            with on_signal(end):
                here.send((function, heartbeat, thread_count(), logging.getLogger(LOGGER).getEffectiveLevel()))
                kind, content = _follow(here, reporter)
        except (EOFError, ConnectionError) as error:
            raise ChildProcessLostError(_how_it_ended(process)) from error
        except BaseException as error:  # of this process: an interrupt, or a warning that is an error here
            note = end()
            if note is not None:
                error.add_note(note)
            raise
        finally:
            _end(process)
    if kind == "lost":
        raise ChildProcessLostError(content)
    if kind == "raise":
        raised, text = content
        raise raised from _RemoteError(text)
    return content


def _command(descriptor: int) -> list[str]:
    """Return the command of a child that imports from where this process does, and not from where it stands."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({descriptor})"
    return [sys.executable, "-P", "-u", "-c", code]


def _stderr() -> int:
    """Return where the child's standard output goes: libraries print there, and the summary of a command is here."""
    try:
        os.fstat(2)
    except OSError:  # it is closed
        return subprocess.DEVNULL
    return 2


def _follow(connection: Connection, reporter: Reporter) -> tuple[str, Any]:
    """Handle the messages of the child; return its last one, with "return", "raise" or "lost" as its kind."""
    with ExitStack() as stages:
        advance: Advance | None = None
        while connection.poll(SILENCE_SECONDS):
            kind, content = connection.recv()
            if kind in ("return", "raise", "lost"):
                return kind, content
            if kind == "beat" and content > IN_FLIGHT_SECONDS:
                return "lost", f"a call of its device has not returned for {content:.0f} s"
            if kind == "log":
                logging.getLogger(content.name).handle(content)
            elif kind == "warning":
                warnings.warn(content, stacklevel=2)
            elif kind == "stage":
                advance = stages.enter_context(reporter.stage(*content))
            elif kind == "advance" and advance is not None:
                advance(content)
            elif kind == "stage end":
                stages.close()
    return "lost", f"it has been silent for {SILENCE_SECONDS:g} s"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the child; one that waits for its driver for ever cannot be ended, and is left."""
    process.kill()
    try:
        process.wait(timeout=SILENCE_SECONDS)
    except subprocess.TimeoutExpired:
        logger.warning("The process %d cannot be ended: it waits for its driver.", process.pid)


def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    try:
        status = process.wait(timeout=SILENCE_SECONDS)
    except subprocess.TimeoutExpired:
        return "it closed its connection"
    return f"it was ended by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"


class _RemoteError(Exception):
    """The traceback of an error in the child process, as text."""


class _Sender:
    """The child's end of the connection, for all of its threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self.heartbeat: Heartbeat = lambda: 0.0

    def send(self, kind: str, content: Any = None) -> None:
        try:
            with self._lock:
                self._connection.send((kind, content))
        except OSError:  # the other process has ended: nothing that this one does is of use
            os._exit(1)

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        """Report a stage to the other process, as a Reporter."""
        self.send("stage", (name, total))
        yield lambda rows: self.send("advance", rows)
        self.send("stage end")

    def beat(self) -> None:
        """Send a heartbeat again and again; tell the other process if the heartbeat fails."""
        while True:
            try:
                self.send("beat", self.heartbeat())
            except Exception as error:  # of the device or its libraries: they fail in many ways
                self.send("lost", f"{type(error).__name__}: {error}".split("\n", 1)[0])
            time.sleep(HEARTBEAT_SECONDS)


class _ForwardingHandler(logging.Handler):
    """Sends log records to the other process."""

    def __init__(self, sender: _Sender) -> None:
        super().__init__()
        self._sender = sender

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self._sender.send("log", record)


def serve(descriptor: int) -> None:
    """Do what the child process does: receive a function, call it, and send what it returns or raises."""
    connection = Connection(descriptor)
    sender = _Sender(connection)
    # It beats before the function is unpickled, which imports all that it needs.
    threading.Thread(target=sender.beat, name="rooms-heartbeat", daemon=True).start()
    function, sender.heartbeat, n_threads, level = connection.recv()
    logging.getLogger(LOGGER).addHandler(_ForwardingHandler(sender))
    logging.getLogger(LOGGER).setLevel(level)
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_, **__: sender.send("warning", message)
    try:
        with threads(n_threads):
            result = function(sender)
    except BaseException as error:
        sender.send("raise", (_without_frames(error), traceback.format_exc()))
    else:
        sender.send("return", result)
    # Libraries of the device may hang or abort when they are unloaded, and all files are written.
    sys.stderr.flush()
    os._exit(0)


def _without_frames(error: BaseException) -> BaseException:
    """Return an error that can be sent: itself, or its class and message if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
