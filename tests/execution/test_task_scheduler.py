"""The task scheduler, with workers that are slow, silent, lost or failing: simulated by timers, without a cluster."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import IdColumnError, SchedulerLostError, TaskFailedError, WorkersLostError
from engine.execution import task_scheduler
from engine.execution.task_scheduler import Reply, RetryPolicy, TaskScheduler

QUICK = RetryPolicy(overdue=0.2, deadline=2.0, attempts=3)


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_scheduler, "POLL_SECONDS", 0.02)


class SimulatedWorkers:
    """Workers that answer by `behavior(address, task)`: a delay in seconds, None for never, or an error."""

    def __init__(self, names: str, behavior: Callable[[str, Any], Any] = lambda address, task: 0.0) -> None:
        self.names, self.behavior = list(names), behavior
        self.sent: list[tuple[str, Any]] = []
        self.n_open: Counter[str] = Counter()
        self.most_open = 0
        self.pings: list[tuple[str, Callable[[], None]]] = []

    def addresses(self) -> list[str]:
        return list(self.names)

    def send(self, address: str, function: Callable[[Any], Any], task: Any, reply: Callable[[Reply], None]) -> Any:
        if function is bool:  # the ping of a straggler
            self.pings.append((address, lambda: reply(Reply(True))))
            return None
        self.sent.append((address, task))
        self.n_open[address] += 1
        self.most_open = max(self.most_open, self.n_open[address])
        outcome = self.behavior(address, task)
        if isinstance(outcome, Exception):
            reply(Reply(error=outcome))
        elif outcome is not None:
            threading.Timer(outcome, lambda: reply(Reply(function(task)))).start()
        return address

    def release(self, handle: Any) -> None:
        self.n_open[handle] -= handle is not None


def check_squares(
    workers: SimulatedWorkers, n: int = 20, retry_policy: RetryPolicy = QUICK, last_worker: dict[int, str] | None = None
) -> None:
    results = list(TaskScheduler(workers, retry_policy).map(lambda task: task * task, range(n), "squares", last_worker))
    assert results == [task * task for task in range(n)]
    assert not any(workers.n_open.values())  # nothing is left behind


def test_results_come_in_order_and_two_tasks_a_worker_are_under_way_at_most() -> None:
    workers = SimulatedWorkers("abc", lambda address, task: 0.03 if task % 3 == 0 else 0.0)
    check_squares(workers)
    assert workers.most_open == 2
    assert {address for address, _ in workers.sent} == set("abc")


def test_no_task_is_sent_far_ahead_of_the_next_result() -> None:
    workers = SimulatedWorkers("ab", lambda address, task: 0.15 if task == 0 else 0.0)
    results = TaskScheduler(workers, QUICK).map(lambda task: task, range(1000), "pass")
    assert next(results) == 0
    assert len(workers.sent) <= 2 * (task_scheduler.MAX_TASKS_AHEAD + task_scheduler.TASKS_IN_FLIGHT)
    results.close()
    assert not any(workers.n_open.values())


def test_a_silent_worker_is_pinged_and_gets_no_more_tasks() -> None:
    workers = SimulatedWorkers("ab", lambda address, task: None if address == "a" else 0.0)
    check_squares(workers)
    assert sum(address == "a" for address, _ in workers.sent) == 2
    assert [address for address, _ in workers.pings] == ["a"]


def test_a_straggler_that_answers_its_ping_gets_tasks_again() -> None:
    workers = SimulatedWorkers("ab", lambda address, task: None if address == "a" and task < 4 else 0.01)
    scheduler = TaskScheduler(workers, QUICK)
    for awake in (False, True):
        workers.sent.clear()
        assert list(scheduler.map(lambda task: task, range(4, 40) if awake else range(4), "pass"))
        assert ({address for address, task in workers.sent if task >= 4} == set("ab")) == awake
        assert set(scheduler.stragglers) == (set() if awake else {"a"})
        workers.pings[0][1]()


def test_tasks_of_a_lost_worker_go_to_others() -> None:
    workers = SimulatedWorkers("ab", lambda address, task: None if address == "a" else 0.01)
    threading.Timer(0.05, lambda: workers.names.remove("a")).start()
    check_squares(workers, retry_policy=RetryPolicy(overdue=60, deadline=60))


def test_a_worker_that_joins_during_a_pass_is_used() -> None:
    workers = SimulatedWorkers("a", lambda address, task: 0.02)
    threading.Timer(0.05, lambda: workers.names.append("b")).start()
    check_squares(workers, 30)
    assert "b" in {address for address, _ in workers.sent}


def test_a_failed_task_is_retried_and_its_error_is_raised_after_the_last_attempt() -> None:
    failures_left = Counter({3: 2})

    def fail_twice(address: str, task: int) -> Any:
        failures_left[task] -= 1
        return ValueError("chance") if failures_left[task] >= 0 else 0.0

    check_squares(SimulatedWorkers("ab", fail_twice))
    workers = SimulatedWorkers("ab", lambda address, task: ValueError("always") if task == 3 else 0.0)
    with pytest.raises(TaskFailedError, match=r"Part 4 of 20 of the pass 'squares' failed 3 times.*ValueError"):
        check_squares(workers)
    assert not any(workers.n_open.values())


def test_an_error_of_the_engine_is_not_retried() -> None:
    workers = SimulatedWorkers("ab", lambda address, task: IdColumnError("missing") if task == 3 else 0.0)
    with pytest.raises(IdColumnError):
        check_squares(workers)
    assert sum(task == 3 for _, task in workers.sent) == 1


def test_a_pass_without_any_result_ends_at_the_deadline() -> None:
    start = time.monotonic()
    with pytest.raises(WorkersLostError, match=r"No worker has finished a part of the pass 'squares' in 0\.5 s; 2 w"):
        check_squares(
            SimulatedWorkers("ab", lambda address, task: None), retry_policy=RetryPolicy(overdue=0.1, deadline=0.5)
        )
    with pytest.raises(WorkersLostError, match="0 workers are there"):
        check_squares(SimulatedWorkers(""), retry_policy=RetryPolicy(overdue=0.1, deadline=0.5))
    assert time.monotonic() - start < 5


def test_a_lost_scheduler_is_raised_at_once() -> None:
    class Lost(SimulatedWorkers):
        def addresses(self) -> list[str]:
            if len(self.sent) > 4:
                raise SchedulerLostError("gone")
            return super().addresses()

    with pytest.raises(SchedulerLostError):
        check_squares(Lost("ab", lambda address, task: 0.02))


def test_a_task_goes_to_its_last_worker_while_that_one_is_live() -> None:
    workers, last_worker = SimulatedWorkers("abc", lambda address, task: 0.01), dict[int, str]()
    check_squares(workers, 9, last_worker=last_worker)
    before = dict(last_worker)
    workers.sent.clear()
    check_squares(workers, 9, last_worker=last_worker)
    assert {task: address for address, task in workers.sent} == before
    workers.names.remove("a")
    check_squares(workers, 9, last_worker=last_worker)
    assert {task: worker for task, worker in last_worker.items() if before[task] != "a"} == {
        task: worker for task, worker in before.items() if worker != "a"
    }


def test_an_idle_worker_steals_from_a_long_queue() -> None:
    workers = SimulatedWorkers("ab", lambda address, task: 0.02)
    last_worker = dict.fromkeys(range(12), "a")
    check_squares(workers, 12, last_worker=last_worker)
    n_tasks = Counter(address for address, _ in workers.sent)
    assert n_tasks["b"] >= 3
    assert n_tasks["a"] >= 4  # the last tasks soon start on the worker that had them
    workers.sent.clear()
    check_squares(workers, 4, last_worker=dict.fromkeys(range(4), "a"))
    assert {address for address, _ in workers.sent} == {"a"}
