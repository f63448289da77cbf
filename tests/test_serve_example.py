"""examples/serve.py answers as `model.assign` does, alone and together, and names the column at fault."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine
from engine.backends.cpu import CpuBackend
from engine.config import FitConfig
from engine.errors import RoomsError, UsageError

pytest.importorskip("litestar", reason="the extra 'serve' is not installed")
from litestar.testing import TestClient

ROOT = Path(__file__).parents[1]
N = 200


def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    side = np.arange(N) % 2
    return pd.DataFrame(
        {
            "who": [f"p{i}" for i in range(N)],
            "hours": rng.normal(size=N) + 9 * side,
            "plan": np.where(side, "Basic", "Premium"),
            "since": pd.to_datetime("2024-01-01") + pd.to_timedelta(np.arange(N), "D"),
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, lean: FitConfig) -> engine.Run:
    return engine.fit(people(), out=tmp_path_factory.mktemp("serve") / "run", id="who", n_clusters=2, config=lean)


@pytest.fixture(scope="module")
def serve(run: engine.Run) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("serve_example", ROOT / "examples" / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["serve_example"] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROOMS_RUN", str(run.path))
        spec.loader.exec_module(module)
        yield module
    del sys.modules["serve_example"]


@pytest.fixture(scope="module")
def client(serve: ModuleType) -> Iterator[TestClient[Any]]:
    with TestClient(serve.app) as client:
        yield client


def rows(n: int) -> list[dict[str, Any]]:
    frame = people().head(n).assign(since=lambda t: t["since"].dt.strftime("%Y-%m-%d"))
    return frame.to_dict("records")  # type: ignore[return-value]


ROWS = rows(N)


def test_answers_are_the_assignments(client: TestClient[Any], run: engine.Run) -> None:
    response = client.post("/assign", json=rows(10))
    assert response.status_code == 200
    assert response.json() == {"rows": run.model.assign(people().head(10)).to_pylist(), "warnings": []}
    assert client.get("/health").text == "ok"
    assert client.get("/model").json()["columns"].keys() == {"hours", "plan", "since"}


def test_answers_pass_the_warnings_of_their_rows_on(client: TestClient[Any]) -> None:
    for change, named in (({"plan": "Gold"}, "'plan'"), ({"hours": -999}, "'hours' in 1 of 1 rows (-999 in 1)")):
        answer = client.post("/assign", json=[rows(1)[0] | change]).json()
        assert [row["who"] for row in answer["rows"]] == ["p0"]
        (message,) = answer["warnings"]
        assert named in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hours": "many"}, "'hours'"),
        ({"plan": ["Basic"]}, "'plan'"),
        ({"since": 3}, "'since'"),
        ({"who": None}, "'who'"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_by_its_column(
    client: TestClient[Any], change: dict[str, Any], named: str
) -> None:
    response = client.post("/assign", json=[rows(1)[0] | change])
    assert response.status_code == 422
    assert named in response.json()["message"]


def test_bodies_that_are_no_rows_are_refused(client: TestClient[Any], serve: ModuleType) -> None:
    without = [{name: value for name, value in rows(1)[0].items() if name != "plan"}]
    response = client.post("/assign", json=without)
    assert response.status_code == 422
    assert "'plan'" in response.json()["message"]
    for body in ([], [3], {"a": 1}, rows(1) * (serve.MAX_ROWS + 1)):
        assert client.post("/assign", json=body).status_code == 422
    assert client.post("/assign", content=b"[{", headers={"Content-Type": "application/json"}).status_code == 400


WRONG: list[dict[str, Any]] = [
    {"hours": "many"},
    {"hours": 2**70},
    {"plan": ["Basic"]},
    {"plan": {"name": "Basic"}},
    {"plan": []},
    {"since": "01/02/2020"},
    {"since": "soon"},
    {"since": 3},
    {"who": None},
    {"who": 5},
    {"who": 1.5},
    {"who": 2**53 + 1},
    {"who": 2**70},
    {"who": "\ud800"},
    {"who": ["p1"]},
]


def outcome(answer: Any) -> Any:
    return (type(answer), str(answer)) if isinstance(answer, Exception) else answer


@settings(max_examples=40)
@given(data=st.data())
def test_requests_at_the_same_time_have_the_answers_of_each_alone(
    serve: ModuleType, run: engine.Run, data: st.DataObject
) -> None:
    request = st.tuples(st.sampled_from([1, 2, 200]), st.none() | st.sampled_from(WRONG), st.none() | st.just("plan"))
    bodies = []
    for n, change, left_out in data.draw(st.lists(request, min_size=1, max_size=5)):
        body = [row | ({} if i or change is None else change) for i, row in enumerate(ROWS[:n])]
        bodies.append([{name: value for name, value in row.items() if name != left_out} for row in body])
    assigner = serve.Assigner(str(run.path))

    async def ask(parts: list[list[dict[str, Any]]]) -> list[Any]:
        return await asyncio.gather(*map(assigner.assign, parts), return_exceptions=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        together = list(map(outcome, asyncio.run(ask(bodies))))
        for body, answer in zip(bodies, together, strict=True):
            assert answer == outcome(asyncio.run(ask([body]))[0])
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    expected: Any = {
                        "rows": run.model.assign(body, with_columns=assigner._with).to_pylist(),
                        "warnings": [str(warning.message) for warning in caught],
                    }
            except RoomsError as error:
                expected = error
            assert answer == outcome(expected)


def test_requests_at_the_same_time_are_assigned_in_one_call(
    serve: ModuleType, run: engine.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assigner, calls = serve.Assigner(str(run.path)), []
    nearest = CpuBackend.nearest_two
    monkeypatch.setattr(CpuBackend, "nearest_two", lambda *args: calls.append(len(args[1])) or nearest(*args))

    async def ask(parts: list[list[dict[str, Any]]]) -> list[Any]:
        return await asyncio.gather(*map(assigner.assign, parts), return_exceptions=True)

    parts = [ROWS[:10], ROWS[10:11], [ROWS[0] | {"hours": "many"}], ROWS[11:30]]
    answers = asyncio.run(ask(parts))
    assert calls == [30]
    assert "'hours'" in str(answers.pop(2))
    assert [row for part in answers for row in part["rows"]] == run.model.assign(people().head(30)).to_pylist()


def test_a_fault_of_the_server_is_told_to_all_that_wait(serve: ModuleType, run: engine.Run) -> None:
    assigner = serve.Assigner(str(run.path))
    assigner._with = ("nothing",)

    async def ask() -> list[Any]:
        return await asyncio.gather(assigner.assign(ROWS[:1]), assigner.assign(ROWS[:2]), return_exceptions=True)

    assert [type(answer) for answer in asyncio.run(ask())] == [UsageError, UsageError]
