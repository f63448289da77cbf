"""examples/serve.py answers as `model.assign` does, alone and together, and names the column at fault."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import engine
from engine.config import FitConfig

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


def test_answers_are_the_assignments(client: TestClient[Any], run: engine.Run) -> None:
    response = client.post("/assign", json=rows(10))
    assert response.status_code == 200
    assert response.json() == run.model.assign(people().head(10)).to_pylist()
    assert client.get("/health").text == "ok"
    assert client.get("/model").json()["columns"].keys() == {"hours", "plan", "since"}


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


def test_requests_at_the_same_time_have_their_own_answers(serve: ModuleType, run: engine.Run) -> None:
    assigner = serve.Assigner(str(run.path))
    calls = []
    assign_now = assigner._assign_now
    assigner._assign_now = lambda rows: calls.append(len(rows)) or assign_now(rows)
    all_rows = rows(30)

    async def ask(parts: list[list[dict[str, Any]]]) -> list[Any]:
        return await asyncio.gather(*map(assigner.assign, parts), return_exceptions=True)

    parts = [all_rows[:10], all_rows[10:11], all_rows[11:30]]
    answers = asyncio.run(ask(parts))
    assert [answer for part in answers for answer in part] == run.model.assign(people().head(30)).to_pylist()
    assert calls == [30]
    broken = [all_rows[0] | {"hours": "many"}]
    good, bad = asyncio.run(ask([parts[0], broken]))
    assert good == answers[0]
    assert "'hours'" in str(bad)
