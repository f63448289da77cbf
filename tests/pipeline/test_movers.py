"""Movers as events: exactly the people whose cluster has another number, with what speaks for the new one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import FitConfig
from engine.errors import UsageError
from engine.execution.threads import threads
from engine.lineage.previous import MOVER_COLUMNS
from engine.pipeline import fit as fitting

N = 800
PLACES = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
PLANS = np.array(["free", "paid", "free", "paid"])


def write_table(path: Path, groups: np.ndarray, ids: np.ndarray, **columns: Any) -> Path:
    """Write people at the places of their groups; a plan goes with the first coordinate."""
    X = PLACES[groups] + np.stack([np.random.default_rng(int(i)).uniform(-1, 1, 2) for i in ids])
    table = {"who": ids, "x": X[:, 0], "y": X[:, 1], "plan": PLANS[groups]} | columns
    pq.write_table(pa.table(table), path)
    return path


def fit(table: Path, out: Path, previous: engine.Run | None = None, **changes: Any) -> engine.Run:
    settings = {"skip": ("explain", "map", "report"), "id": "who", "kmeans": {"n_clusters": 4}} | changes
    settings |= {} if previous is None else {"previous": str(previous.path)}
    return engine.fit(table, out=out, config=FitConfig.merge({}, **settings))


def clusters_of(run: engine.Run) -> dict[int, int]:
    return dict(zip(run.assignments["who"].to_pylist(), run.assignments["cluster"].to_pylist(), strict=True))


GROUPS = np.arange(N) % 4
MOVED = np.where(np.arange(N) < 160, (GROUPS == 0) * 1 + (GROUPS != 0) * GROUPS, GROUPS)  # 40 people from 0 to 1
MOVED[[26, 30, 34]] = 3  # three people from 2 to 3


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[engine.Run, engine.Run]:
    folder = tmp_path_factory.mktemp("nights")
    first = fit(write_table(folder / "1.parquet", GROUPS, np.arange(N)), folder / "1")
    ids = np.arange(20, N + 20)
    groups = np.concatenate([MOVED[20:], GROUPS[:20]])
    return first, fit(write_table(folder / "2.parquet", groups, ids), folder / "2", first)


def test_events_are_the_people_whose_number_changed(nights: tuple[engine.Run, engine.Run]) -> None:
    first, second = nights
    before, now = clusters_of(first), clusters_of(second)
    moved = [id for id in second.assignments["who"].to_pylist() if id in before and before[id] != now[id]]
    flows = [(before[id], now[id]) for id in moved]
    told = [id for id, flow in zip(moved, flows, strict=True) if flows.count(flow) >= 11]
    assert 30 < len(told) < len(moved)
    events = pq.read_table(second.path / "movers.parquet")
    assert events.column_names == [MOVER_COLUMNS[0], "who", *MOVER_COLUMNS[1:]]
    assert events["who"].to_pylist() == told
    assert second.manifest["movers"] == {"told": len(told), "left_out": len(moved) - len(told), "floor": 11}
    rows = {row["who"]: row for row in second.assignments.to_pylist()}
    for event in events.to_pylist():
        row = rows[event["who"]]
        assert (event["old_cluster"], event["new_cluster"]) == (before[event["who"]], row["cluster"])
        assert all(event[name] == row[name] for name in ("margin", "runner_up", "runner_up_odds"))
        assert (event["run"], event["previous_run"]) == (second.manifest["run_id"], first.manifest["run_id"])
        assert event["time"] == datetime.fromisoformat(second.manifest["created"])
        assert event["columns"][0] in ("x", "plan")
        assert "y" not in event["columns"][:2]
    keys = events["event"].to_pylist()
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(second.manifest["run_id"]) for key in keys)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_columns_are_those_that_plain_loops_find(metric: str, tmp_path: Path) -> None:
    kmeans = {"kmeans": {"n_clusters": 4, "metric": metric}}
    first = fit(write_table(tmp_path / "1.parquet", GROUPS, np.arange(N)), tmp_path / "1", **kmeans)
    path = write_table(tmp_path / "2.parquet", MOVED, np.arange(N))
    second = fit(path, tmp_path / "2", first, **kmeans)
    model, table = second.model, pq.read_table(path)
    position = {int(number): c for c, number in enumerate(model.cluster_numbers)}
    X, Z = model.encoder.encode(table).astype(float), model.scores(table).astype(float)
    events = pq.read_table(second.path / "movers.parquet").slice(0, 12).to_pylist()
    assert events
    for event in events:
        row = table["who"].to_pylist().index(event["who"])
        old, new = (model.centers[position[event[name]]].astype(float) for name in ("old_cluster", "new_cluster"))
        centered = X[row] - model.pca.mean_
        centered /= np.linalg.norm(model.pca.components_ @ centered) if metric == "cosine" else 1.0
        added: dict[str, float] = {}
        for j, feature in enumerate(model.encoder.features):
            axis = model.pca.components_[:, j]
            part = 2 * (centered[j] - axis @ (old + new) / 2) * (axis @ (new - old))
            added[feature.column] = added.get(feature.column, 0.0) + part
        nearer = ((Z[row] - old) ** 2).sum() - ((Z[row] - new) ** 2).sum()
        assert sum(added.values()) == pytest.approx(nearer, rel=1e-3)
        best = sorted((name for name in added if added[name] > 0), key=lambda name: -added[name])
        assert event["columns"] == best[:3]


def test_threads_blocks_and_a_resumed_fit_give_the_same_events(
    nights: tuple[engine.Run, engine.Run],
    tmp_path: Path,
    block_rows: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = nights
    table = second.path.parent / "2.parquet"
    expected = pq.read_table(second.path / "movers.parquet").drop_columns("time")
    block_rows(128)
    monkeypatch.setattr(fitting, "write_movers", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(table, tmp_path / "again", first)
    monkeypatch.undo()
    config = FitConfig.read(second.path / "config.yaml")
    with threads(2):
        again = engine.fit(table, out=tmp_path / "again", config=config, resume=True)
    assert again.manifest["stages"][0]["stage"] != "ids"  # it was resumed
    assert pq.read_table(again.path / "movers.parquet").drop_columns("time").equals(expected)
    dated = pq.read_table(again.path / "movers.parquet")["time"][0].as_py()
    assert dated == datetime.fromisoformat(again.manifest["created"])


def test_a_cluster_that_is_gone_and_refitted_features(tmp_path: Path) -> None:
    first = fit(write_table(tmp_path / "1.parquet", GROUPS, np.arange(N)), tmp_path / "1")
    table = write_table(tmp_path / "2.parquet", np.where(GROUPS == 3, 2, GROUPS), np.arange(N))
    second = fit(table, tmp_path / "2", first, lineage={"refit_features": True})
    before, now = clusters_of(first), clusters_of(second)
    gone = before[3]
    events = [e for e in pq.read_table(second.path / "movers.parquet").to_pylist() if e["old_cluster"] == gone]
    if gone not in now.values():
        assert {e["who"] for e in events} == {id for id, cluster in before.items() if cluster == gone}
    assert events
    assert all(e["columns"] for e in events)


def test_no_file_where_nobody_is_known_and_an_empty_one_where_nobody_moved(
    nights: tuple[engine.Run, engine.Run], tmp_path: Path
) -> None:
    first, _ = nights
    others = fit(write_table(tmp_path / "o.parquet", GROUPS, np.arange(N) + 5_000), tmp_path / "others", first)
    assert others.manifest["movers"] is None
    assert not (others.path / "movers.parquet").exists()
    same = fit(first.path.parent / "1.parquet", tmp_path / "same", first)
    assert pq.read_table(same.path / "movers.parquet").num_rows == 0
    assert same.manifest["movers"] == {"told": 0, "left_out": 0, "floor": 11}
    events = write_table(tmp_path / "e.parquet", GROUPS, np.arange(N), event=np.arange(N))
    begun = fit(events, tmp_path / "begun", id="event")
    with pytest.raises(UsageError, match="has beside the ids"):
        fit(events, tmp_path / "next", begun, id="event")
