"""Schedule pure tasks on workers, and yield their results in the order of the tasks.

    function, tasks, workers  ->  results, whatever happens to a worker in between

Two tasks a worker are in flight, one of them queued there, so no worker idles while a result travels. A task whose
worker is lost, or whose function fails, is sent to another worker. So is a task that is long overdue; the first result
counts, for a task is a pure function of its description. Every wait has a deadline. How tasks travel is not known
here: see dask_cluster.py.
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

TASKS_IN_FLIGHT = 2  # per worker
MAX_TASKS_AHEAD = 4  # per worker, beyond the task whose result is next: bounds the results that wait for their turn
POLL_SECONDS = 0.5  # between two checks of the workers and of overdue tasks
OVERDUE_FACTOR = 10.0  # a task is overdue after so many times the longest task of the pass


class Reply(NamedTuple):
    """The reply to a task: its value, or the error that its function raised."""

    value: Any = None
    error: BaseException | None = None


class Workers(Protocol):
    """Processes that compute tasks; their addresses may change at any time."""

    def addresses(self) -> list[str]:
        """Return the addresses of the live workers. Raises SchedulerLostError."""
        ...

    def send(self, address: str, function: Callable[[Any], Any], task: Any, reply: Callable[[Reply], None]) -> Any:
        """Have a worker compute function(task), and `reply` called on any thread; return a handle."""
        ...

    def release(self, handle: Any) -> None:
        """Drop a task that was sent, and its result."""
        ...


@dataclass(frozen=True)
class RetryPolicy:
    """Time limits in seconds, and the number of attempts at a task."""

    overdue: float = 60.0  # least time before a task is sent to another worker as well
    deadline: float = 1800.0  # without any result from any worker
    attempts: int = 3


@dataclass
class _Attempt:
    """A task in flight."""

    task: int
    address: str
    sent_at: float
    handle: Any = None


class TaskScheduler:
    """Sends tasks to workers, pass after pass, and avoids stragglers."""

    def __init__(self, workers: Workers, retry_policy: RetryPolicy) -> None:
        self.workers, self.retry_policy = workers, retry_policy
        self.stragglers: set[str] = set()  # workers with a result that is long overdue
        self._pings: dict[str, Any] = {}  # handles of the pings sent to stragglers
        self._live_workers: list[str] = []
        self._polled_at = -POLL_SECONDS

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        pass_name: str,
        last_worker: dict[int, str] | None = None,
    ) -> Iterator[Result]:
        """Yield function(task) for every task, in order.

        Parameters
        ----------
        function : callable
            Pure, and importable on the workers by its name, or else sent as it is.
        tasks : sequence
            Descriptions of work; small.
        pass_name : str
            The pass, for messages.
        last_worker : dict, optional
            Address of the worker that computed each task in an earlier pass. That worker gets the task again, unless
            it is lost, or has a long queue while another worker is idle. Kept up to date.

        Raises
        ------
        RoomsError
            If the function raises one.
        TaskFailedError, WorkersLostError, SchedulerLostError
        """
        return _Pass(self, function, tasks, pass_name, {} if last_worker is None else last_worker).results()

    def live_workers(self) -> list[str]:
        """Return the addresses of the live workers, at most POLL_SECONDS old."""
        now = time.monotonic()
        if now - self._polled_at >= POLL_SECONDS:
            self._live_workers, self._polled_at = self.workers.addresses(), now
            self.stragglers.intersection_update(self._live_workers)
            for address in self._pings.keys() - self.stragglers:
                self.workers.release(self._pings.pop(address))
        return self._live_workers

    def mark_straggler(self, address: str) -> None:
        """Send a worker nothing more until it answers a ping."""
        if address in self.stragglers:
            return

        def on_reply(reply: Reply) -> None:
            if reply.error is None:
                self.stragglers.discard(address)

        self.stragglers.add(address)
        self._pings[address] = self.workers.send(address, bool, 1, on_reply)


class _Pass:
    """One call of TaskScheduler.map: its queue, its attempts in flight, and results that wait for their turn."""

    def __init__(
        self,
        scheduler: TaskScheduler,
        function: Callable[[Any], Any],
        tasks: Sequence[Any],
        pass_name: str,
        last_worker: dict[int, str],
    ) -> None:
        self.scheduler, self.function, self.tasks = scheduler, function, tasks
        self.pass_name, self.last_worker = pass_name, last_worker
        self.queue = list(range(len(tasks)))
        self.in_flight: dict[int, _Attempt] = {}
        self.replies: SimpleQueue[tuple[int, Reply]] = SimpleQueue()
        self.finished: dict[int, Any] = {}
        self.failures: Counter[int] = Counter()
        self.next_task = self.n_sent = 0
        self.live_workers = scheduler.live_workers()
        self.longest: float | None = None  # seconds of the slowest task so far
        self.last_reply_at: dict[str, float] = {}
        self.last_progress_at = self.checked_at = time.monotonic()

    def results(self) -> Iterator[Any]:
        try:
            while self.next_task < len(self.tasks):
                self._send()
                self._receive()
                self._check_overdue()
                while self.next_task in self.finished:
                    result = self.finished.pop(self.next_task)
                    self.next_task += 1
                    yield result
                    # The caller's own time does not count towards the deadline.
                    self.last_progress_at = max(self.last_progress_at, time.monotonic())
        finally:
            for attempt in self.in_flight.values():
                self.scheduler.workers.release(attempt.handle)

    def _send(self) -> None:
        """Fill up the tasks in flight of every worker that is no straggler, or of all if every one is."""
        usable = [address for address in self.live_workers if address not in self.scheduler.stragglers]
        usable = usable or self.live_workers
        load = Counter(attempt.address for attempt in self.in_flight.values())
        for address in sorted(usable, key=lambda address: load[address]) * TASKS_IN_FLIGHT:
            task = self._choose_task(address, usable) if load[address] < TASKS_IN_FLIGHT else None
            if task is None:
                continue
            self.queue.remove(task)
            load[address] += 1
            self.n_sent += 1
            number, attempt = self.n_sent, _Attempt(task, address, time.monotonic())
            self.in_flight[number] = attempt
            self.last_worker[task] = address
            attempt.handle = self.scheduler.workers.send(
                address, self.function, self.tasks[task], partial(self._on_reply, number)
            )

    def _on_reply(self, number: int, reply: Reply) -> None:
        self.replies.put((number, reply))  # on any thread

    def _choose_task(self, address: str, usable: list[str]) -> int | None:
        """Return the next task for a worker.

        It is the first task that this worker or no usable one computed before, or else one that another worker
        computed before and would get to late.
        """
        pending = Counter(self.last_worker.get(task) for task in self.queue)
        pending.update(attempt.address for attempt in self.in_flight.values())
        stolen = None
        for task in self.queue:
            if task > self.next_task + MAX_TASKS_AHEAD * len(usable):
                break
            if any(attempt.task == task and attempt.address == address for attempt in self.in_flight.values()):
                continue
            last = self.last_worker.get(task)
            if last == address or last not in usable:
                return task
            if pending[last] > 2 * TASKS_IN_FLIGHT:
                stolen = task
        return stolen

    def _receive(self) -> None:
        """Wait up to POLL_SECONDS for replies, and process all that have come."""
        try:
            number, reply = self.replies.get(timeout=POLL_SECONDS)
            while True:
                self._process(number, reply)
                number, reply = self.replies.get_nowait()
        except Empty:
            pass

    def _process(self, number: int, reply: Reply) -> None:
        attempt = self.in_flight.pop(number, None)
        if attempt is None:  # released before
            return
        self.scheduler.workers.release(attempt.handle)
        if reply.error is not None:
            self._handle_failure(attempt, reply.error)
            return
        now = time.monotonic()
        seconds = now - max(attempt.sent_at, self.last_reply_at.get(attempt.address, 0.0))
        self.longest = seconds if self.longest is None else max(self.longest, seconds)
        self.last_reply_at[attempt.address] = self.last_progress_at = now
        self.last_worker[attempt.task] = attempt.address
        if attempt.task >= self.next_task:
            self.finished[attempt.task] = reply.value
        for duplicate in [n for n, a in self.in_flight.items() if a.task == attempt.task]:
            self.scheduler.workers.release(self.in_flight.pop(duplicate).handle)
        if attempt.task in self.queue:
            self.queue.remove(attempt.task)

    def _handle_failure(self, attempt: _Attempt, error: BaseException) -> None:
        """Queue a failed task again, or raise: at once for the engine's own errors, else after the last attempt."""
        if isinstance(error, RoomsError):
            raise error
        self.failures[attempt.task] += 1
        if self.failures[attempt.task] >= self.scheduler.retry_policy.attempts:
            raise TaskFailedError(
                f"Part {attempt.task + 1} of {len(self.tasks)} of the pass '{self.pass_name}' failed "
                f"{self.failures[attempt.task]} times, the last time by {type(error).__name__}.",
                hint="run again with --debug, and look at the workers' logs.",
            ) from error
        if not any(a.task == attempt.task for a in self.in_flight.values()):
            self._requeue(attempt.task)

    def _requeue(self, task: int) -> None:
        self.last_worker.pop(task, None)
        if task >= self.next_task and task not in self.finished and task not in self.queue:
            self.queue.insert(0, task)

    def _check_overdue(self) -> None:
        """Queue the tasks of lost workers and overdue tasks again; raise if no worker makes progress."""
        now = time.monotonic()
        if now - self.checked_at < POLL_SECONDS:
            return
        self.checked_at = now
        self.live_workers = self.scheduler.live_workers()
        for number, attempt in list(self.in_flight.items()):
            if attempt.address not in self.live_workers:
                self.scheduler.workers.release(self.in_flight.pop(number).handle)
                self._handle_failure(attempt, ConnectionError(f"The worker {attempt.address} is gone."))
        policy = self.scheduler.retry_policy
        limit = OVERDUE_FACTOR * (policy.overdue if self.longest is None else self.longest)
        for attempt in list(self.in_flight.values()):
            started_at = max(attempt.sent_at, self.last_reply_at.get(attempt.address, 0.0))
            if now - started_at > max(policy.overdue, limit):
                self.scheduler.mark_straggler(attempt.address)
                if sum(a.task == attempt.task for a in self.in_flight.values()) == 1:
                    self._requeue(attempt.task)
        if now - self.last_progress_at > policy.deadline:
            raise WorkersLostError(
                f"No worker has finished a part of the pass '{self.pass_name}' in {policy.deadline:g} s; "
                f"{len(self.live_workers)} workers are there, {len(self.scheduler.stragglers)} of them overdue.",
                hint="look at the workers' logs, and run the same command again with --resume.",
            )
