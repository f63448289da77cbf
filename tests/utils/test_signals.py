"""A signal ends the process wherever it is, does what has to be tidied, and waits for what must not be divided."""

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
from engine.utils.signals import stop_at, tidied, undivided
stop_at({signal.SIGTERM: ("Terminated", 143), signal.SIGINT: ("Interrupted", 130)})

def end():
    os.kill(os.getpid(), signal.SIGTERM)

def tidy():
    Path("tidied").touch()
    return "All is tidy."

"""

PLACES = {
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
    "in a duty that fails": """
def fail():
    raise OSError("no such disk")
with tidied(fail):
    end(); time.sleep(60)
""",
}


def run(body: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", START + body], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )
    return done, time.perf_counter() - begun


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_ends_the_process_wherever_it_is(tmp_path: Path, place: str) -> None:
    body = "with tidied(tidy):\n" + "\n".join(f"    {line}" for line in PLACES[place].splitlines())
    done, seconds = run(body, tmp_path)
    assert done.returncode == 143, done.stderr
    assert "error: Terminated.\n" in done.stderr
    assert done.stderr.endswith("All is tidy.\n")
    assert (tmp_path / "tidied").exists()
    assert seconds < 15  # imports, too


def test_what_must_not_be_divided_is_done_first(tmp_path: Path) -> None:
    done, _ = run("with undivided():\n    end(); time.sleep(0.5); Path('whole').touch()\ntime.sleep(60)", tmp_path)
    assert done.returncode == 143
    assert (tmp_path / "whole").exists()


def test_a_closed_stderr_keeps_nothing_from_ending(tmp_path: Path) -> None:
    done, seconds = run("with tidied(tidy):\n    os.close(2); end(); time.sleep(20)", tmp_path)
    assert done.returncode == 143
    assert (tmp_path / "tidied").exists()
    assert seconds < 15


def test_a_duty_ends_with_its_block_or_before(tmp_path: Path) -> None:
    body = "with tidied(tidy): pass\nwith tidied(tidy) as relieve:\n    relieve(); end(); time.sleep(60)"
    done, _ = run(body, tmp_path)
    assert done.stderr == "error: Terminated.\n"
    assert not (tmp_path / "tidied").exists()


def test_every_signal_has_its_word_and_code(tmp_path: Path) -> None:
    done, _ = run("signal.signal(signal.SIGUSR1, lambda *_: None); os.kill(os.getpid(), signal.SIGUSR1)\n"
                  "time.sleep(0.3); os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", tmp_path)  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "error: Interrupted.\n")


def test_nothing_is_changed_for_who_only_imports_the_engine() -> None:
    code = "import signal, engine, engine.utils.signals as s; s.tidied(print); print(signal.getsignal(signal.SIGTERM))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(signal.SIG_DFL)
