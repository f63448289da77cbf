"""A signal ends the process whatever its threads do, runs the cleanups, and waits for deferred blocks."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

START = """
import os, signal, sys, threading, time
from pathlib import Path
from engine.utils.signals import defer_signals, exit_on_signals, on_signal
exit_on_signals({signal.SIGTERM: ("Terminated", 143), signal.SIGINT: ("Interrupted", 130)})

def end():
    os.kill(os.getpid(), signal.SIGTERM)

def tidy():
    Path("tidied").touch()
    return "All is tidy."

"""

SITUATIONS = {
    "computing": "end()\nwhile True: pass",
    "waiting": "end(); time.sleep(60)",
    "in a lock that nobody opens": "lock = threading.Lock(); lock.acquire(); end(); lock.acquire()",
    "in a destructor": """
class Ended:
    def __del__(self):
        end()
        for _ in range(1000): pass
Ended()
time.sleep(60)
""",
    "in the compiler's lock": """
from numba import njit
from llvmlite.binding import ffi
njit(lambda x: x)(1)
def ended():
    end()
    for _ in range(1000): pass
ffi.register_lock_callback(ended, lambda: None)
twice = njit(lambda x: 2 * x)
try:
    twice(1)
finally:
    other = threading.Thread(target=twice, args=(2.0,))
    other.start()
    other.join()
time.sleep(60)
""",
    "in a cleanup that fails": """
def fail():
    raise OSError("no such disk")
with on_signal(fail):
    end(); time.sleep(60)
""",
}


def run_code(body: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", START + body], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )
    return done, time.perf_counter() - begun


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_signal_ends_the_process_wherever_it_is(tmp_path: Path, situation: str) -> None:
    body = "with on_signal(tidy):\n" + "\n".join(f"    {line}" for line in SITUATIONS[situation].splitlines())
    done, seconds = run_code(body, tmp_path)
    assert done.returncode == 143, done.stderr
    assert "error: Terminated.\n" in done.stderr
    assert done.stderr.endswith("All is tidy.\n")
    assert (tmp_path / "tidied").exists()
    assert seconds < 15  # imports, too


def test_a_deferred_signal_waits_for_the_end_of_the_block(tmp_path: Path) -> None:
    done, _ = run_code(
        "with defer_signals():\n    end(); time.sleep(0.5); Path('whole').touch()\ntime.sleep(60)", tmp_path
    )
    assert done.returncode == 143
    assert (tmp_path / "whole").exists()


def test_a_closed_stderr_does_not_keep_the_process_from_exiting(tmp_path: Path) -> None:
    done, seconds = run_code("with on_signal(tidy):\n    os.close(2); end(); time.sleep(20)", tmp_path)
    assert done.returncode == 143
    assert (tmp_path / "tidied").exists()
    assert seconds < 15


def test_a_cleanup_is_unregistered_at_the_end_of_its_block_or_before(tmp_path: Path) -> None:
    body = "with on_signal(tidy): pass\nwith on_signal(tidy) as unregister:\n    unregister(); end(); time.sleep(60)"
    done, _ = run_code(body, tmp_path)
    assert done.stderr == "error: Terminated.\n"
    assert not (tmp_path / "tidied").exists()


def test_every_signal_has_its_message_and_exit_code(tmp_path: Path) -> None:
    done, _ = run_code("signal.signal(signal.SIGUSR1, lambda *_: None); os.kill(os.getpid(), signal.SIGUSR1)\n"
                  "time.sleep(0.3); os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", tmp_path)  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "error: Interrupted.\n")


def test_importing_the_engine_changes_no_signal_handler() -> None:
    code = (
        "import signal, engine, engine.utils.signals as s; s.on_signal(print); print(signal.getsignal(signal.SIGTERM))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(signal.SIG_DFL)
