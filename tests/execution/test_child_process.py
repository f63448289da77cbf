"""The watched child process: what passes through, and what ends in ChildProcessLostError."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.errors import AuditError, DataError
from engine.execution import child_process
from engine.execution.child_process import ChildProcessLostError, run_in_child
from engine.execution.threads import threads
from engine.progress import Silent
from tests.execution import child_functions as functions


class Record:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Any]:
        self.events.append((name, total))
        yield self.events.append
        self.events.append("end")


def run(function: Any, heartbeat: Any = functions.calm, reporter: Any = None, on_exit: Any = lambda: None) -> Any:
    return run_in_child(function, heartbeat, reporter or Silent(), on_exit)


def test_progress_logs_warnings_and_the_result_pass_through(caplog: pytest.LogCaptureFixture) -> None:
    reporter = Record()
    with caplog.at_level(logging.INFO, logger="engine"), threads(1), pytest.warns(UserWarning, match="^columns left"):
        process_id, n_threads = run(functions.work, reporter=reporter)
    assert process_id != os.getpid()
    assert n_threads == 1
    assert reporter.events == [("pass", 30), 10, 20, "end"]
    assert [(r.name, r.message) for r in caplog.records] == [("engine.child", "done 2 of 3")]


def test_what_a_library_prints_in_the_child_is_not_on_the_standard_output_of_a_command() -> None:
    code = (
        "from engine.execution.child_process import run_in_child; from engine.progress import Silent; "
        "from tests.execution import child_functions as functions; "
        "run_in_child(functions.print_a_line, functions.calm, Silent(), lambda: None); print('the result')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, "of a library" in done.stderr) == ("the result\n", True)


def test_errors_arrive_as_they_were_raised_with_hint_and_notes() -> None:
    with pytest.raises(DataError, match=r"Column 'a' is empty\.\nHint: fill it\.") as caught:
        run(functions.raise_data_error)
    assert (caught.value.hint, caught.value.__notes__) == ("fill it.", ["Nothing was written."])
    assert "raise_data_error" in str(caught.value.__cause__)
    with pytest.raises(AuditError, match="sizes differ") as audit:
        run(functions.raise_audit_error)
    assert audit.value.differences == ["sizes differ"]
    with pytest.raises(RuntimeError, match="LocalError: of a library"):
        run(functions.raise_unpicklable)


@pytest.mark.parametrize(
    ("function", "heartbeat", "reason"),
    [
        (functions.abort, functions.calm, "it was ended by SIGABRT"),
        (functions.leave, functions.calm, "it ended with status 7"),
        (functions.stop, functions.calm, r"it has been silent for 3 s"),
        (functions.sleep, functions.long_in_flight, "a call of its device has not returned for 7200 s"),
        (functions.sleep, functions.lost, "RuntimeError: cudaErrorDevicesUnavailable$"),
    ],
)
def test_a_child_that_ends_or_hangs_or_has_lost_its_device_is_lost(
    monkeypatch: pytest.MonkeyPatch, function: Any, heartbeat: Any, reason: str
) -> None:
    if function is functions.stop:
        monkeypatch.setattr(child_process, "SILENCE_SECONDS", 3.0)
    with pytest.raises(ChildProcessLostError, match=reason):
        run(function, heartbeat)


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for_end(process_id: int) -> bool:
    deadline = time.monotonic() + 60
    while is_running(process_id) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not is_running(process_id)


def test_an_interrupt_ends_the_child_and_says_what_is_left() -> None:
    found = []

    class Interrupting(Silent):
        @contextmanager
        def stage(self, name: str, total: int | None) -> Iterator[Any]:
            def interrupt(process_id: int) -> None:
                found.append(process_id)
                raise KeyboardInterrupt

            yield interrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        run(functions.sleep, reporter=Interrupting(), on_exit=lambda: "Finished stages are kept.")
    assert caught.value.__notes__ == ["Finished stages are kept."]
    assert not is_running(found[0])


def test_it_can_be_started_from_a_daemonic_process(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=functions.run_from_daemon, args=[str(tmp_path / "result")], daemon=True
    )
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert int((tmp_path / "result").read_text()) >= 1


def test_a_script_without_a_guard_runs_once_and_the_child_ends_with_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, contextlib\n"
        "from engine.execution.child_process import run_in_child\n"
        "from tests.execution import child_functions as functions\n"
        "class Show:\n"
        "    @contextlib.contextmanager\n"
        "    def stage(self, name, total):\n"
        "        yield lambda process_id: print(process_id, flush=True)\n"
        "print('begin', flush=True)\n"
        "run_in_child(functions.sleep, functions.calm, Show(), lambda: None)\n"
    )
    path = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert process.stdout is not None
    with process:
        lines = [process.stdout.readline().strip() for _ in range(2)]
        process.kill()
    assert lines[0] == "begin"
    assert wait_for_end(int(lines[1]))
