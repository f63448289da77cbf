"""Functions that tests of child processes call there: they are imported by name."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from engine.errors import AuditError, DataError
from engine.execution.child_process import run_in_child
from engine.execution.threads import thread_count
from engine.progress import Silent


def work(reporter: Any) -> tuple[int, int]:
    with reporter.stage("pass", 30) as advance:
        advance(10)
        advance(20)
    logging.getLogger("engine.child").info("done %d of %d", 2, 3)
    logging.getLogger("engine.child").debug("not shown")
    warnings.warn(UserWarning("columns left out"), stacklevel=1)
    return os.getpid(), thread_count()


def raise_data_error(reporter: Any) -> None:
    error = DataError("Column 'a' is empty.", hint="fill it.")
    error.add_note("Nothing was written.")
    raise error


def raise_audit_error(reporter: Any) -> None:
    raise AuditError(["sizes differ"])


def raise_unpicklable(reporter: Any) -> None:
    class LocalError(Exception):
        pass

    raise LocalError("of a library")


def abort(reporter: Any) -> None:
    os.abort()


def leave(reporter: Any) -> None:
    os._exit(7)


def stop(reporter: Any) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def sleep(reporter: Any) -> None:
    with reporter.stage("sleep", None) as advance:
        advance(os.getpid())
        time.sleep(60)


def calm() -> float:
    return 0.0


def long_in_flight() -> float:
    return 7200.0 if threading.active_count() else 0.0


def lost() -> float:
    raise RuntimeError("cudaErrorDevicesUnavailable\nin memGetInfo")


def run_from_daemon(path: str) -> None:
    result = run_in_child(work, calm, Silent(), lambda: None)
    Path(path).write_text(str(result[1]))


def print_a_line(reporter: Any) -> None:
    print("of a library")
