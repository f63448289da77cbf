"""How a signal ends a command: what has to be tidied is tidied, and the process is gone, wherever its threads are.

    stop_at({signal.SIGTERM: ("Terminated", 143)})    once, by whoever owns the process
    with tidied(remove): ...                          remove() is called if a signal comes while the block runs
    with undivided(): ...                             a signal waits for the end of the block

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
_duties: dict[object, Callable[[], str | None]] = {}


@contextmanager
def tidied(duty: Callable[[], str | None]) -> Iterator[Callable[[], None]]:
    """Have a signal call `duty`, from another thread, while the block runs; what it returns is told to the user.

    Yields a function that ends this before the block ends: together with what makes the duty wrong, if `undivided`.
    """
    key = object()

    def relieve() -> None:
        with _lock:
            _duties.pop(key, None)

    with _lock:
        _duties[key] = duty
    try:
        yield relieve
    finally:
        relieve()


@contextmanager
def undivided() -> Iterator[None]:
    """Let a signal wait for the end of the block, or, if one came before, let the block wait for the end of all."""
    with _lock:
        yield


def stop_at(signals: Mapping[int, tuple[str, int]]) -> None:
    """Have each of these signals end the process: with a word on stderr, what duties say, and an exit code.

    The system writes the signal's number to a socket, and a thread waits for it: the main thread may be anywhere.
    Called from the main thread.
    """
    waiting, written = socket.socketpair()
    written.setblocking(False)
    signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    for number in signals:
        signal.signal(number, lambda *_: None)  # the number is written for signals that have a handler
    threading.Thread(target=_wait, args=(waiting, written, signals), name="rooms-signals", daemon=True).start()


def _wait(waiting: socket.socket, written: socket.socket, signals: Mapping[int, tuple[str, int]]) -> NoReturn:
    while (number := waiting.recv(1)[0]) not in signals:
        pass
    _lock.acquire()  # for good: nothing else may begin or end any more
    word, code = signals[number]
    notes = [note for duty in reversed(_duties.values()) if (note := _done(duty)) is not None]
    try:
        if "--debug" in sys.argv:
            faulthandler.dump_traceback()
        os.write(2, ("\n".join([f"error: {word}.", *notes]) + "\n").encode())
    finally:  # stderr may be closed
        os._exit(code)


def _done(duty: Callable[[], str | None]) -> str | None:
    try:
        return duty()
    except Exception as error:  # the other duties are done all the same
        return f"Not everything was tidied: {type(error).__name__}: {error}"
