"""Progress bars in a terminal: what a stage shows, and warnings that stand on lines of their own."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

SCRIPT = """
import logging, sys, warnings
from engine.cli.app import _CurrentStderr, _print_warning
from engine.progress import Bars

warnings.showwarning = _print_warning
logger = logging.getLogger("engine")
logger.addHandler(_CurrentStderr())
bars = Bars()
with bars.stage("statistics", 4000) as advance:
    for _ in range(4):
        advance(1000)
with bars.stage("explain", None) as advance:
    logger.warning("a column is left out")
    warnings.warn("another one, too")
with bars.stage("choose k", 20) as advance:
    advance(1)
"""


def run_in_terminal(script: str) -> str:
    """Return what a script prints on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", script], stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        printed = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the terminal is closed
                break
            if not part:
                break
            printed += part
    os.close(ours)
    assert process.returncode == 0, printed
    return printed.decode()


def test_stages_say_how_far_they_are_and_that_they_are_done() -> None:
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", run_in_terminal(SCRIPT)).replace("\r", "\n").splitlines()
    last = {
        name: [line for line in lines if line.startswith(name)][-1] for name in ("statistics", "explain", "choose k")
    }
    assert "4,000" in last["statistics"]
    assert "done" in last["explain"]
    assert re.search(r"━ done +0:", last["choose k"]), "one step was enough, and it is over"
    assert not any("?" in line for line in lines)


def test_warnings_do_not_stick_to_bars() -> None:
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", run_in_terminal(SCRIPT)).replace("\r", "\n").splitlines()
    assert "a column is left out" in [line.rstrip() for line in lines]
    assert "warning: another one, too" in [line.rstrip() for line in lines]
