"""Which worker computes which task, and when: pure tasks out, their results back in the order of the tasks.

    function, tasks, workers  ->  results, whatever happens to a worker in between

Two tasks a worker are under way, one of them waiting, so none is idle while its result travels. A task whose worker is
lost or whose function fails is sent to another; one that is long overdue is sent to another as well, and the first
result counts: a task is a pure function of its description. Nothing waits without a deadline. How tasks travel
is not known here: see dask_cluster.py.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeVar

from engine.errors import RoomsError, TaskFailedError, WorkersLostError

Task = TypeVar("Task")
Result = TypeVar("Result")

PER_WORKER = 2  # tasks under way
AHEAD = 4  # tasks a worker beyond the one whose result is next: what may wait to be handed out in order
LOOK_SECONDS = 0.5  # between looks at who is there and what is overdue
OVERDUE_TIMES = 10.0  # the longest task of a pass so far, from when on a task is overdue


class Reply(NamedTuple):
    """What came back for a task: a value, or the error that its function raised."""

    value: Any = None
    error: BaseException | None = None


class Workers(Protocol):
    """Processes that compute tasks; their addresses may change at any time."""

    def addresses(self) -> list[str]:
        """Return who is there. Raises SchedulerLostError."""
        ...

    def send(self, address: str, function: Callable[[Any], Any], task: Any, reply: Callable[[Reply], None]) -> Any:
        """Have a worker compute function(task), and `reply` called on any thread; return a handle."""
        ...

    def forget(self, handle: Any) -> None:
        """Drop a task that was sent, and what it found."""
        ...


@dataclass(frozen=True)
class Patience:
    """How long is waited, in seconds, and how often a task may fail."""

    overdue: float = 60.0  # a task may take so long, at least, before another worker gets it too
    deadline: float = 1800.0  # without any result from any worker
    attempts: int = 3


@dataclass
class _Copy:
    """A task on its way."""

    task: int
    address: str
    since: float
    handle: Any = None


class Dispatcher:
    """Sends tasks to workers, pass after pass; remembers who was slow, and who computed what."""

    def __init__(self, workers: Workers, patience: Patience) -> None:
        self.workers, self.patience = workers, patience
        self.suspects: set[str] = set()  # they owe a result that is long overdue
        self._questions: dict[str, Any] = {}  # handles of what suspects were asked
        self._here: list[str] = []
        self._looked = -LOOK_SECONDS

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        what: str,
        homes: dict[int, str] | None = None,
    ) -> Iterator[Result]:
        """Yield function(task) for every task, in order.

        Parameters
        ----------
        function : callable
            Pure, and known to the workers by its name, or else sent as it is.
        tasks : sequence
            Descriptions of work; small.
        what : str
            The pass, for messages.
        homes : dict, optional
            The worker that computed a task in an earlier pass. It gets it again, unless it is gone, or has many that
            wait while another one has none. Kept up to date.

        Raises
        ------
        RoomsError
            What the function raised.
        TaskFailedError, WorkersLostError, SchedulerLostError
        """
        return _Pass(self, function, tasks, what, {} if homes is None else homes).results()

    def here(self) -> list[str]:
        """Return who is there, or was a moment ago."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._here, self._looked = self.workers.addresses(), now
            self.suspects.intersection_update(self._here)
            for address in self._questions.keys() - self.suspects:
                self.workers.forget(self._questions.pop(address))
        return self._here

    def suspect(self, address: str) -> None:
        """Send a worker nothing more until it answers a question."""
        if address in self.suspects:
            return

        def answered(reply: Reply) -> None:
            if reply.error is None:
                self.suspects.discard(address)

        self.suspects.add(address)
        self._questions[address] = self.workers.send(address, bool, 1, answered)


class _Pass:
    def __init__(
        self, owner: Dispatcher, function: Callable[[Any], Any], tasks: Sequence[Any], what: str, homes: dict[int, str]
    ) -> None:
        self.owner, self.function, self.tasks, self.what, self.homes = owner, function, tasks, what, homes
        self.waiting = list(range(len(tasks)))
        self.copies: dict[int, _Copy] = {}
        self.replies: SimpleQueue[tuple[int, Reply]] = SimpleQueue()
        self.found: dict[int, Any] = {}
        self.failures: Counter[int] = Counter()
        self.next = self.sent = 0
        self.here = owner.here()
        self.longest: float | None = None
        self.heard: dict[str, float] = {}
        self.progress = self.looked = time.monotonic()

    def results(self) -> Iterator[Any]:
        try:
            while self.next < len(self.tasks):
                self._send()
                self._hear()
                self._look()
                while self.next in self.found:
                    result = self.found.pop(self.next)
                    self.next += 1
                    yield result
                    self.progress = max(self.progress, time.monotonic())  # the caller's time is not the workers'
        finally:
            for copy in self.copies.values():
                self.owner.workers.forget(copy.handle)

    def _send(self) -> None:
        """Give every worker that is to be trusted its share of the tasks that wait."""
        usable = [address for address in self.here if address not in self.owner.suspects] or self.here
        load = Counter(copy.address for copy in self.copies.values())
        for address in sorted(usable, key=lambda address: load[address]) * PER_WORKER:
            task = self._task_for(address, usable) if load[address] < PER_WORKER else None
            if task is None:
                continue
            self.waiting.remove(task)
            load[address] += 1
            self.sent += 1
            number, copy = self.sent, _Copy(task, address, time.monotonic())
            self.copies[number] = copy
            self.homes[task] = address
            copy.handle = self.owner.workers.send(
                address, self.function, self.tasks[task], partial(self._reply, number)
            )

    def _reply(self, number: int, reply: Reply) -> None:
        self.replies.put((number, reply))  # on any thread

    def _task_for(self, address: str, usable: list[str]) -> int | None:
        """Return the first task that is at home with this worker or with nobody, or one that waits long elsewhere."""
        owed = Counter(self.homes.get(task) for task in self.waiting)
        owed.update(copy.address for copy in self.copies.values())
        elsewhere = None
        for task in self.waiting:
            if task > self.next + AHEAD * len(usable):
                break
            if any(copy.task == task and copy.address == address for copy in self.copies.values()):
                continue
            home = self.homes.get(task)
            if home == address or home not in usable:
                return task
            if owed[home] > 2 * PER_WORKER:
                elsewhere = task
        return elsewhere

    def _hear(self) -> None:
        """Wait a moment for replies, and take in all there are."""
        try:
            number, reply = self.replies.get(timeout=LOOK_SECONDS)
            while True:
                self._take(number, reply)
                number, reply = self.replies.get_nowait()
        except Empty:
            pass

    def _take(self, number: int, reply: Reply) -> None:
        copy = self.copies.pop(number, None)
        if copy is None:  # given up before
            return
        self.owner.workers.forget(copy.handle)
        if reply.error is not None:
            self._failed(copy, reply.error)
            return
        now = time.monotonic()
        took = now - max(copy.since, self.heard.get(copy.address, 0.0))
        self.longest = took if self.longest is None else max(self.longest, took)
        self.heard[copy.address] = self.progress = now
        self.homes[copy.task] = copy.address
        if copy.task >= self.next:
            self.found[copy.task] = reply.value
        for other in [n for n, c in self.copies.items() if c.task == copy.task]:
            self.owner.workers.forget(self.copies.pop(other).handle)
        if copy.task in self.waiting:
            self.waiting.remove(copy.task)

    def _failed(self, copy: _Copy, error: BaseException) -> None:
        """Have a task computed again, unless its error says that this is of no use."""
        if isinstance(error, RoomsError):
            raise error
        self.failures[copy.task] += 1
        if self.failures[copy.task] >= self.owner.patience.attempts:
            raise TaskFailedError(
                f"Part {copy.task + 1} of {len(self.tasks)} of the pass '{self.what}' failed "
                f"{self.failures[copy.task]} times, the last time by {type(error).__name__}.",
                hint="run again with --debug, and look at the workers' logs.",
            ) from error
        if not any(other.task == copy.task for other in self.copies.values()):
            self._again(copy.task)

    def _again(self, task: int) -> None:
        self.homes.pop(task, None)
        if task >= self.next and task not in self.found and task not in self.waiting:
            self.waiting.insert(0, task)

    def _look(self) -> None:
        """See who is gone, and what is overdue."""
        now = time.monotonic()
        if now - self.looked < LOOK_SECONDS:
            return
        self.looked = now
        self.here = self.owner.here()
        for number, copy in list(self.copies.items()):
            if copy.address not in self.here:
                self.owner.workers.forget(self.copies.pop(number).handle)
                self._failed(copy, ConnectionError(f"The worker {copy.address} is gone."))
        patience = self.owner.patience
        limit = OVERDUE_TIMES * (patience.overdue if self.longest is None else self.longest)
        for copy in list(self.copies.values()):
            if now - max(copy.since, self.heard.get(copy.address, 0.0)) > max(patience.overdue, limit):
                self.owner.suspect(copy.address)
                if sum(c.task == copy.task for c in self.copies.values()) == 1:
                    self._again(copy.task)
        if now - self.progress > patience.deadline:
            raise WorkersLostError(
                f"No worker has finished a part of the pass '{self.what}' in {patience.deadline:g} s; "
                f"{len(self.here)} workers are there, {len(self.owner.suspects)} of them overdue.",
                hint="look at the workers' logs, and run the same command again with --resume.",
            )
