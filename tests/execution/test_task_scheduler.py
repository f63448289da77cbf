"""Who gets which task, against workers that are slow, silent, lost or wrong: no cluster, only threads and time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import IdColumnError, SchedulerLostError, TaskFailedError, WorkersLostError
from engine.execution import task_scheduler as dispatch
from engine.execution.task_scheduler import Dispatcher, Patience, Reply

QUICK = Patience(overdue=0.2, deadline=2.0, attempts=3)


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "LOOK_SECONDS", 0.02)


class Fakes:
    """Workers that answer by `behaviour(address, task)`: a delay in seconds, None for never, or an error."""

    def __init__(self, names: str, behaviour: Callable[[str, Any], Any] = lambda address, task: 0.0) -> None:
        self.names, self.behaviour = list(names), behaviour
        self.sent: list[tuple[str, Any]] = []
        self.open: Counter[str] = Counter()
        self.most_open = 0
        self.asked: list[tuple[str, Callable[[], None]]] = []

    def addresses(self) -> list[str]:
        return list(self.names)

    def send(self, address: str, function: Callable[[Any], Any], task: Any, reply: Callable[[Reply], None]) -> Any:
        if function is bool:  # the question whether a suspect is awake
            self.asked.append((address, lambda: reply(Reply(True))))
            return None
        self.sent.append((address, task))
        self.open[address] += 1
        self.most_open = max(self.most_open, self.open[address])
        after = self.behaviour(address, task)
        if isinstance(after, Exception):
            reply(Reply(error=after))
        elif after is not None:
            threading.Timer(after, lambda: reply(Reply(function(task)))).start()
        return address

    def forget(self, handle: Any) -> None:
        self.open[handle] -= handle is not None


def squares(fakes: Fakes, n: int = 20, patience: Patience = QUICK, homes: dict[int, str] | None = None) -> None:
    found = list(Dispatcher(fakes, patience).map(lambda task: task * task, range(n), "squares", homes))
    assert found == [task * task for task in range(n)]
    assert not any(fakes.open.values())  # nothing is left behind


def test_results_come_in_order_and_two_tasks_a_worker_are_under_way_at_most() -> None:
    fakes = Fakes("abc", lambda address, task: 0.03 if task % 3 == 0 else 0.0)
    squares(fakes)
    assert fakes.most_open == 2
    assert {address for address, _ in fakes.sent} == set("abc")


def test_nothing_is_done_far_ahead_of_a_result_that_is_waited_for() -> None:
    fakes = Fakes("ab", lambda address, task: 0.15 if task == 0 else 0.0)
    results = Dispatcher(fakes, QUICK).map(lambda task: task, range(1000), "pass")
    assert next(results) == 0
    assert len(fakes.sent) <= 2 * (dispatch.AHEAD + dispatch.PER_WORKER)
    results.close()
    assert not any(fakes.open.values())


def test_a_silent_worker_costs_its_tasks_and_gets_no_more() -> None:
    fakes = Fakes("ab", lambda address, task: None if address == "a" else 0.0)
    squares(fakes)
    assert sum(address == "a" for address, _ in fakes.sent) == 2
    assert [address for address, _ in fakes.asked] == ["a"]


def test_a_worker_that_wakes_up_is_trusted_again() -> None:
    fakes = Fakes("ab", lambda address, task: None if address == "a" and task < 4 else 0.01)
    dispatcher = Dispatcher(fakes, QUICK)
    for awake in (False, True):
        fakes.sent.clear()
        assert list(dispatcher.map(lambda task: task, range(4, 40) if awake else range(4), "pass"))
        assert ({address for address, task in fakes.sent if task >= 4} == set("ab")) == awake
        assert set(dispatcher.suspects) == (set() if awake else {"a"})
        fakes.asked[0][1]()


def test_tasks_of_a_lost_worker_go_to_others() -> None:
    fakes = Fakes("ab", lambda address, task: None if address == "a" else 0.01)
    threading.Timer(0.05, lambda: fakes.names.remove("a")).start()
    squares(fakes, patience=Patience(overdue=60, deadline=60))


def test_a_worker_that_comes_late_is_used() -> None:
    fakes = Fakes("a", lambda address, task: 0.02)
    threading.Timer(0.05, lambda: fakes.names.append("b")).start()
    squares(fakes, 30)
    assert "b" in {address for address, _ in fakes.sent}


def test_an_error_is_tried_again_elsewhere_and_comes_out_when_it_stays() -> None:
    left = Counter({3: 2})

    def now_and_then(address: str, task: int) -> Any:
        left[task] -= 1
        return ValueError("chance") if left[task] >= 0 else 0.0

    squares(Fakes("ab", now_and_then))
    fakes = Fakes("ab", lambda address, task: ValueError("always") if task == 3 else 0.0)
    with pytest.raises(TaskFailedError, match=r"Part 4 of 20 of the pass 'squares' failed 3 times.*ValueError"):
        squares(fakes)
    assert not any(fakes.open.values())


def test_an_error_of_the_engine_is_not_tried_again() -> None:
    fakes = Fakes("ab", lambda address, task: IdColumnError("missing") if task == 3 else 0.0)
    with pytest.raises(IdColumnError):
        squares(fakes)
    assert sum(task == 3 for _, task in fakes.sent) == 1


def test_no_result_from_anybody_ends_at_the_deadline() -> None:
    start = time.monotonic()
    with pytest.raises(WorkersLostError, match=r"No worker has finished a part of the pass 'squares' in 0\.5 s; 2 w"):
        squares(Fakes("ab", lambda address, task: None), patience=Patience(overdue=0.1, deadline=0.5))
    with pytest.raises(WorkersLostError, match="0 workers are there"):
        squares(Fakes(""), patience=Patience(overdue=0.1, deadline=0.5))
    assert time.monotonic() - start < 5


def test_a_lost_scheduler_is_said_at_once() -> None:
    class Lost(Fakes):
        def addresses(self) -> list[str]:
            if len(self.sent) > 4:
                raise SchedulerLostError("gone")
            return super().addresses()

    with pytest.raises(SchedulerLostError):
        squares(Lost("ab", lambda address, task: 0.02))


def test_a_task_goes_where_it_was_before_while_that_worker_is_there() -> None:
    fakes, homes = Fakes("abc", lambda address, task: 0.01), dict[int, str]()
    squares(fakes, 9, homes=homes)
    before = dict(homes)
    fakes.sent.clear()
    squares(fakes, 9, homes=homes)
    assert {task: address for address, task in fakes.sent} == before
    fakes.names.remove("a")
    squares(fakes, 9, homes=homes)
    assert {task: home for task, home in homes.items() if before[task] != "a"} == {
        task: home for task, home in before.items() if home != "a"
    }


def test_a_worker_without_work_takes_what_would_wait_long_elsewhere() -> None:
    fakes = Fakes("ab", lambda address, task: 0.02)
    homes = dict.fromkeys(range(12), "a")
    squares(fakes, 12, homes=homes)
    took = Counter(address for address, _ in fakes.sent)
    assert took["b"] >= 3
    assert took["a"] >= 4  # the last ones are soon begun at home
    fakes.sent.clear()
    squares(fakes, 4, homes=dict.fromkeys(range(4), "a"))
    assert {address for address, _ in fakes.sent} == {"a"}
