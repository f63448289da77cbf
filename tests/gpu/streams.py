"""Stand-ins for CUDA's streams and events, which run queued work as late as possible.

A copy is made when a stream or the host waits for it, and not before: so a staging buffer that is filled again too
soon, or a piece that is read before its copy, shows in the values. Computation runs at once, by NumPy; that a copy
waits for the reads of its target shows in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.gpu.contract import bind

Log = list[tuple[str, str]]


class Cuda:
    """The parts of cupy.cuda that order work."""

    def __init__(self) -> None:
        self.log: Log = []
        self.current = CurrentStream(self, "current")
        self._names = {"stream": 0, "event": 0}

    def next_name(self, kind: str) -> str:
        self._names[kind] += 1
        return f"{kind} {self._names[kind]}"

    def namespace(self, **more: Any) -> SimpleNamespace:
        def stream(*args: Any, **kwargs: Any) -> Stream:
            assert bind("cupy.cuda.Stream", *args, **kwargs) == {"non_blocking": True}
            return Stream(self, self.next_name("stream"))

        def event(*args: Any, **kwargs: Any) -> Event:
            bind("cupy.cuda.Event", *args, **kwargs)
            return Event(self, self.next_name("event"))

        return SimpleNamespace(Stream=stream, Event=event, get_current_stream=lambda: self.current, **more)


class Stream:
    def __init__(self, cuda: Cuda, name: str) -> None:
        self.cuda, self.name = cuda, name
        self.queued: list[Callable[[], None]] = []
        self.done = 0

    def queue(self, description: str, work: Callable[[], None]) -> None:
        self.cuda.log.append((self.name, description))
        self.queued.append(work)

    def wait_event(self, *args: Any) -> None:
        event = bind("cupy.cuda.Stream.wait_event", *args)["event"]
        self.queue(f"waits for {event.name}", event.run_recorded)

    def run(self, stop: int) -> None:
        while self.done < stop:
            self.done += 1
            self.queued[self.done - 1]()


class CurrentStream(Stream):
    """The stream whose work runs at once."""

    def queue(self, description: str, work: Callable[[], None]) -> None:
        super().queue(description, work)
        self.run(len(self.queued))


class Event:
    def __init__(self, cuda: Cuda, name: str) -> None:
        self.cuda, self.name = cuda, name
        self._mark: tuple[Stream, int] | None = None

    def record(self, *args: Any) -> None:
        stream = bind("cupy.cuda.Event.record", *args).get("stream") or self.cuda.current
        self.cuda.log.append((stream.name, f"records {self.name}"))
        self._mark = stream, len(stream.queued)

    def synchronize(self, *args: Any) -> None:
        bind("cupy.cuda.Event.synchronize", *args)
        self.cuda.log.append(("host", f"waits for {self.name}"))
        self.run_recorded()

    def run_recorded(self) -> None:
        if self._mark is not None:
            self._mark[0].run(self._mark[1])


def empty_pinned(*args: Any) -> Any:
    arguments = bind("cupyx.empty_pinned", *args)
    return np.empty(arguments["shape"], arguments["dtype"])
