"""End a process on a signal, after cleanups, whatever its threads are doing.

    exit_on_signals({signal.SIGTERM: ("Terminated", 143)})    once, by the process's entry point
    with on_signal(remove): ...                               remove() is called if a signal comes during the block
    with defer_signals(): ...                                 a signal waits for the end of the block

Nothing is raised into running code: an exception inside a library's lock leaves it locked for ever, and one inside a
destructor is lost (decisions/0017-stopping.md). What lies on the disk is good to go on from at every moment.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

_lock = threading.RLock()
_cleanups: dict[object, Callable[[], str | None]] = {}


@contextmanager
def on_signal(cleanup: Callable[[], str | None]) -> Iterator[Callable[[], None]]:
    """Call `cleanup`, from another thread, if a signal comes during the block; print what it returns on stderr.

    Yields a function that unregisters the cleanup before the block ends. Call it within `defer_signals`, together with
    the step after which the cleanup would be wrong.
    """
    key = object()

    def unregister() -> None:
        with _lock:
            _cleanups.pop(key, None)

    with _lock:
        _cleanups[key] = cleanup
    try:
        yield unregister
    finally:
        unregister()


@contextmanager
def defer_signals() -> Iterator[None]:
    """Make a signal wait for the end of the block; if one came before, the block never begins."""
    with _lock:
        yield


def exit_on_signals(signals: Mapping[int, tuple[str, int]]) -> None:
    """Exit the process on each of these signals: with its message and those of the cleanups on stderr, and its code.

    The system writes the signal's number to a socket, and a thread waits for it: the main thread may be anywhere.
    Called from the main thread.

    Parameters
    ----------
    signals : mapping of int to (str, int)
        Signal number -> message, exit code.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    for number in signals:
        signal.signal(number, lambda *_: None)  # the number is written only for signals that have a handler
    # The thread gets both ends: the sender would be closed if nothing referred to it.
    threading.Thread(target=_exit_on_first, args=(receiver, sender, signals), name="rooms-signals", daemon=True).start()


def _exit_on_first(receiver: socket.socket, sender: socket.socket, signals: Mapping[int, tuple[str, int]]) -> NoReturn:
    while (number := receiver.recv(1)[0]) not in signals:
        pass
    _lock.acquire()  # never released: no other block may begin or end any more
    message, exit_code = signals[number]
    notes = [note for cleanup in reversed(_cleanups.values()) if (note := _run_cleanup(cleanup)) is not None]
    try:
        if "--debug" in sys.argv:
            faulthandler.dump_traceback()
        os.write(2, ("\n".join([f"error: {message}.", *notes]) + "\n").encode())
    finally:  # stderr may be closed
        os._exit(exit_code)


def _run_cleanup(cleanup: Callable[[], str | None]) -> str | None:
    try:
        return cleanup()
    except Exception as error:  # the other cleanups still run
        return f"Some temporary files were not removed: {type(error).__name__}: {error}"
