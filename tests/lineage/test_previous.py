"""Nights that follow each other: numbers and names stay, and what happened to clusters is told."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import FitConfig
from engine.errors import (
    ConfigError,
    IdColumnError,
    InputChangedError,
    MissingColumnError,
    ModelNotReadableError,
    RetypedColumnError,
)
from engine.features.drift import DriftWarning
from engine.lineage.history import History
from engine.lineage.people import NEWCOMER, earlier_clusters
from engine.tables import open_table

CENTERS = np.array([[0.0, 0.0], [12.0, 0.0], [0.0, 12.0], [12.0, 12.0], [24.0, 6.0], [6.0, 6.0]])
N = 1500


def write_night(path: Path, groups: np.ndarray, ids: np.ndarray, seed: int = 0, *, names: tuple[str, str] = ("x", "y")):  # type: ignore[no-untyped-def]
    """Write people around the centers of their groups, in an order of their own; a person keeps most of its place."""
    own = np.stack([np.random.default_rng(int(i)).uniform(-1.5, 1.5, 2) for i in ids])
    X = CENTERS[groups] + own + 0.1 * np.random.default_rng(seed).normal(size=own.shape)
    order = np.random.default_rng(seed).permutation(len(ids))
    columns = {"user_id": [f"u{i}" for i in ids[order]], names[0]: X[order, 0], names[1]: X[order, 1]}
    pq.write_table(pa.table(columns), path)
    return path


def fit(table: Path, out: Path, **changes: Any) -> engine.Run:
    settings = {"skip": ("explain", "map", "report"), "id": "user_id"} | changes
    return engine.fit(table, out=out, config=FitConfig.merge({}, **settings))


def lineage(run: engine.Run) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((run.path / "lineage.json").read_text())
    return document


def clusters_by_person(run: engine.Run) -> dict[str, int]:
    return dict(zip(run.assignments["user_id"].to_pylist(), run.assignments["cluster"].to_pylist(), strict=True))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    folder = tmp_path_factory.mktemp("first")
    ids = np.arange(N)
    return fit(write_night(folder / "people.parquet", ids % 4, ids), folder / "run")


def test_people_who_stay_keep_their_number(first: engine.Run, tmp_path: Path) -> None:
    ids = np.arange(50, N + 50)
    run = fit(write_night(tmp_path / "t.parquet", ids % 4, ids, 1), tmp_path / "run", previous=str(first.path), seed=9)
    before, now = clusters_by_person(first), clusters_by_person(run)
    assert all(now[person] == cluster for person, cluster in before.items() if person in now)
    (night,) = lineage(run)["nights"][1:]
    assert (night["stayed"], night["moved"], night["choice"]["chosen"]) == (N - 50, 0, "champion")
    assert run.model.encoder.plan == first.model.encoder.plan
    assert run.manifest["previous"] == str(first.path)
    again = fit(tmp_path / "t.parquet", tmp_path / "again", previous=str(first.path), seed=9)
    for file in ("lineage.json", "model/arrays.safetensors"):
        assert (again.path / file).read_bytes() == (run.path / file).read_bytes()


def test_a_community_that_is_born_gets_a_new_number_and_dead_numbers_are_not_used_again(
    first: engine.Run, tmp_path: Path
) -> None:
    ids = np.arange(N + 500)
    groups = np.where(ids < N, ids % 4, 4)
    born = fit(write_night(tmp_path / "1.parquet", groups, ids, 1), tmp_path / "1", previous=str(first.path))
    assert born.clusters["cluster"].to_pylist() == [0, 1, 2, 3, 4]
    assert {cluster for person, cluster in clusters_by_person(born).items() if int(person[1:]) >= N} == {4}
    assert lineage(born)["clusters"][4] == {"number": 4, "born": 1, "parents": [], "names": [], "died": None}

    gone = fit(write_night(tmp_path / "2.parquet", ids[:N] % 4, ids[:N], 2), tmp_path / "2", previous=str(born.path))
    assert gone.clusters["cluster"].to_pylist() == [0, 1, 2, 3]
    assert lineage(gone)["clusters"][4]["died"] == 2

    groups = np.where(ids < N, ids % 4, 5)
    back = fit(write_night(tmp_path / "3.parquet", groups, ids, 3), tmp_path / "3", previous=str(gone.path))
    assert back.clusters["cluster"].to_pylist() == [0, 1, 2, 3, 5]
    assert back.model.cluster_numbers.tolist() == [0, 1, 2, 3, 5]
    assert lineage(back)["nights"][3]["sizes"]["5"] == 500
    assigned = back.model.assign(tmp_path / "3.parquet")
    assert assigned["cluster"].to_pylist() == back.assignments["cluster"].to_pylist()


def test_a_split_names_its_parent(first: engine.Run, tmp_path: Path) -> None:
    ids = np.arange(N)
    groups = np.where((ids % 4 == 3) & (ids % 3 == 0), 4, ids % 4)  # a third of group 3 moves away
    run = fit(write_night(tmp_path / "t.parquet", groups, ids, 1), tmp_path / "run", previous=str(first.path))
    before, now = clusters_by_person(first), clusters_by_person(run)
    assert {now[f"u{i}"] for i in ids[groups == 3]} == {before["u3"]}
    assert {now[f"u{i}"] for i in ids[groups == 4]} == {4}
    assert lineage(run)["clusters"][4]["parents"] == [before["u3"]]
    assert lineage(run)["nights"][1]["moved"] == int((groups == 4).sum())


def test_a_dead_cluster_gives_way_where_k_is_given(first: engine.Run, tmp_path: Path) -> None:
    ids = np.arange(N)
    groups = np.where(ids % 4 == 3, 4, ids % 4)  # everybody of group 3 moves to another place
    table = write_night(tmp_path / "t.parquet", groups, ids, 1)
    run = fit(table, tmp_path / "run", previous=str(first.path), kmeans={"n_clusters": 4})
    # They are the same people, so it is the same cluster: numbers follow people, not places.
    assert clusters_by_person(run) == clusters_by_person(first)
    newcomers = np.where(groups == 4, ids + N, ids)
    table = write_night(tmp_path / "u.parquet", groups, newcomers, 2)
    run = fit(table, tmp_path / "other", previous=str(first.path), kmeans={"n_clusters": 4})
    (died,) = [c["number"] for c in lineage(run)["clusters"] if c["died"] == 1]
    assert died == clusters_by_person(first)["u3"]
    assert 4 in run.clusters["cluster"].to_pylist()


def test_max_moved_bounds_the_share_of_people_who_move(first: engine.Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids, joined = np.arange(4000), np.arange(4000, 8000)
    columns = {"user_id": ids, "x": rng.normal(size=4000), "y": rng.normal(size=4000)}
    pq.write_table(pa.table(columns), tmp_path / "0.parquet")
    newcomers = {"user_id": joined, "x": np.abs(rng.normal(size=4000)), "y": rng.normal(size=4000)}
    both = {name: np.concatenate([columns[name], newcomers[name]]) for name in columns}
    pq.write_table(pa.table(both), tmp_path / "1.parquet")
    shared = {"kmeans": {"n_clusters": 6}}
    before = fit(tmp_path / "0.parquet", tmp_path / "before", **shared)
    shares = {}
    for bound in (None, 0.05):
        settings = shared | {"previous": str(before.path), "lineage": {"max_moved": bound, "takeover": 0.5}}
        run = fit(tmp_path / "1.parquet", tmp_path / f"run {bound}", **settings)
        night = lineage(run)["nights"][1]
        shares[bound] = night["moved"] / night["stayed"]
    assert shares[None] > 0.05 >= shares[0.05] > 0.0
    assert 0.0 < night["choice"]["way"] < 1.0


@pytest.mark.parametrize("refit", [False, True])
def test_without_ids_rows_are_matched_by_the_earlier_model(first: engine.Run, tmp_path: Path, refit: bool) -> None:
    ids = np.arange(N)
    tables = [write_night(tmp_path / f"{night}.parquet", ids % 4, ids, night) for night in range(2)]
    for table in tables:
        pq.write_table(pq.read_table(table).drop_columns(["user_id"]), table)
    before = fit(tables[0], tmp_path / "before", id=None)
    settings = {"previous": str(before.path), "id": None, "seed": 3, "lineage": {"refit_features": refit}}
    run = fit(tables[1], tmp_path / "run", **settings)
    expected = before.model.assign(tables[1])["cluster"]
    assert run.assignments["cluster"].to_pylist() == expected.to_pylist()
    assert (run.model.encoder.plan == before.model.encoder.plan) is not refit


def test_refitted_features_keep_the_numbers(first: engine.Run, tmp_path: Path) -> None:
    ids = np.arange(N)
    table = write_night(tmp_path / "t.parquet", ids % 4, ids, 5)
    run = fit(table, tmp_path / "run", previous=str(first.path), lineage={"refit_features": True}, seed=4)
    assert clusters_by_person(run) == clusters_by_person(first)
    assert run.model.encoder.plan != first.model.encoder.plan


def test_names_stay_while_they_fit_and_names_that_were_given_stay(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = np.arange(N)
    columns = {"user_id": ids, "age": 20.0 + 30 * (ids % 3), "hours": np.array([1.0, 9.0, 30.0])[ids % 3]}
    columns |= {name: columns[name] + rng.normal(size=N) for name in ("age", "hours")}
    pq.write_table(pa.table(columns), tmp_path / "0.parquet")
    settings: dict[str, Any] = {"kmeans": {"n_clusters": 3}, "skip": ["map", "report"], "id": "user_id"}
    before = fit(tmp_path / "0.parquet", tmp_path / "before", **settings)
    changed = columns | {"hours": columns["hours"] * np.where(ids % 3 == 1, 0.1, 1.0)}
    pq.write_table(pa.table(changed), tmp_path / "1.parquet")
    run = fit(
        tmp_path / "1.parquet", tmp_path / "run", previous=str(before.path), names={"2": "Night owls"}, **settings
    )
    names = [persona["name"] for persona in run.personas]
    cold = fit(tmp_path / "1.parquet", tmp_path / "cold", **settings)
    assert names[2] == "Night owls"
    assert run.clusters["persona"].to_pylist() == names
    assert set(names[:2]) & {persona["name"] for persona in before.personas}
    assert len(set(names)) == 3
    assert History.read(run).clusters[2].names[-1] == (1, "Night owls")
    assert "Night owls" not in [persona["name"] for persona in cold.personas]


def test_faults_are_named_before_any_work(first: engine.Run, tmp_path: Path) -> None:
    ids = np.arange(N)
    table = write_night(tmp_path / "t.parquet", ids % 4, ids)
    with pytest.raises(IdColumnError, match="by column 'user_id', and this fit by their rows"):
        fit(table, tmp_path / "run", previous=str(first.path), id=None)
    with pytest.raises(ModelNotReadableError, match="not a complete run"):
        fit(table, tmp_path / "run", previous=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"lineage\.max_moved"):
        fit(table, tmp_path / "run", previous=str(first.path), lineage={"max_moved": 2})
    other = write_night(tmp_path / "u.parquet", ids % 4, ids, names=("x", "z"))
    with pytest.raises(MissingColumnError, match="'y'"):
        fit(other, tmp_path / "run", previous=str(first.path))
    assert not (tmp_path / "run").exists()


def test_a_damaged_history_is_named(first: engine.Run, tmp_path: Path) -> None:
    ids = np.arange(N)
    table = write_night(tmp_path / "t.parquet", ids % 4, ids)
    run = fit(table, tmp_path / "run", previous=str(first.path))
    (run.path / "lineage.json").write_text('{"format": 1, "nights": [{}], "clusters": []}')
    with pytest.raises(ModelNotReadableError, match=r"lineage\.json cannot be read"):
        fit(table, tmp_path / "next", previous=str(run.path))


@pytest.mark.parametrize("rows_per_part", [100, 1 << 22])
def test_the_earlier_cluster_of_every_row(
    first: engine.Run, tmp_path: Path, rows_per_part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.lineage.people.ROWS_PER_PART", rows_per_part)
    ids = np.arange(1000, N + 200)
    table = open_table(write_night(tmp_path / "t.parquet", ids % 4, ids, 1), id="user_id")
    earlier = earlier_clusters(first, table, "user_id", len(ids))
    known = clusters_by_person(first)
    people = pq.read_table(tmp_path / "t.parquet")["user_id"].to_pylist()
    assert earlier.tolist() == [known.get(person, NEWCOMER) for person in people]


def test_values_that_the_encoder_cannot_tell_apart_are_told(first: engine.Run, tmp_path: Path) -> None:
    ids = np.arange(N + 500)
    far = np.where(ids < N, ids % 4, 4)
    table = write_night(tmp_path / "t.parquet", far, ids, 1)
    with pytest.warns(DriftWarning, match=r"'x' \(2\d % beyond its limits\).*--refit-features"):
        fit(table, tmp_path / "run", previous=str(first.path))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DriftWarning)
        fit(table, tmp_path / "again", previous=str(first.path), lineage={"refit_features": True})
        near = write_night(tmp_path / "n.parquet", ids % 4, ids, 1)
        fit(near, tmp_path / "near", previous=str(first.path))


def test_a_category_that_is_new_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plans = np.array(["free", "basic", "plus"])[np.arange(N) % 3]
    columns = {"user_id": np.arange(N), "age": rng.normal(size=N) + 5 * (np.arange(N) % 3), "plan": plans}
    pq.write_table(pa.table(columns), tmp_path / "0.parquet")
    changed = np.where(np.arange(N) % 5 == 0, "student", plans)
    pq.write_table(pa.table(columns | {"plan": changed}), tmp_path / "1.parquet")
    before = fit(tmp_path / "0.parquet", tmp_path / "before")
    with pytest.warns(DriftWarning, match=r"'plan' \(20 % not among its categories\)"):
        fit(tmp_path / "1.parquet", tmp_path / "run", previous=str(before.path))


def test_settings_that_a_continued_run_does_not_follow_are_said(
    first: engine.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = np.arange(N)
    table = write_night(tmp_path / "t.parquet", ids % 4, ids, 1)
    rows = pq.read_table(table)
    pq.write_table(rows.append_column("more", pa.array(np.arange(N) % 7)), table)
    settings = {"features": {"roles": {"x": "categorical"}}, "pca": {"n_components": 1}}
    run = fit(table, tmp_path / "run", previous=str(first.path), **settings)
    assert "Settings of features and pca are not followed" in caplog.text
    assert "did not have are left out: 'more'" in caplog.text
    assert run.model.encoder.plan == first.model.encoder.plan
    caplog.clear()
    fit(table, tmp_path / "again", previous=str(first.path), **settings, lineage={"refit_features": True})
    assert "not followed" not in caplog.text
    assert "left out" not in caplog.text


def test_a_column_without_values_is_told(first: engine.Run, tmp_path: Path) -> None:
    ids = np.arange(N)
    table = write_night(tmp_path / "t.parquet", ids % 4, ids, 1)
    rows = pq.read_table(table)
    pq.write_table(rows.set_column(1, "x", pa.nulls(N, pa.float64())), table)
    with pytest.warns(DriftWarning, match=r"'x' \(no value in any row\)"):
        fit(table, tmp_path / "run", previous=str(first.path))


def test_a_few_rows_continue_a_run(first: engine.Run, tmp_path: Path) -> None:
    ids = np.arange(8)
    table = write_night(tmp_path / "t.parquet", ids % 4, ids, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DriftWarning)
        run = fit(table, tmp_path / "run", previous=str(first.path))
    assert run.clusters["cluster"].to_pylist() == [0, 1, 2, 3]
    assert "as in the previous run" in run.manifest["clusters_reason"]


def test_other_people_are_matched_by_the_earlier_model_and_that_is_said(
    first: engine.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = np.arange(N)
    table = write_night(tmp_path / "t.parquet", ids % 4, ids + 10 * N, 1)
    run = fit(table, tmp_path / "run", previous=str(first.path))
    assert "No 'user_id' is in both runs" in caplog.text
    assert run.assignments["cluster"].to_pylist() == first.model.assign(table)["cluster"].to_pylist()


def test_a_resumed_fit_does_not_mix_two_previous_runs(first: engine.Run, tmp_path: Path) -> None:
    ids = np.arange(N)
    table = write_night(tmp_path / "t.parquet", ids % 4, ids, 1)
    last = tmp_path / "last"
    shutil.copytree(first.path, last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.pipeline.stages.Job.stability", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit(table, tmp_path / "run", previous=str(last))
    manifest = last / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
    config = FitConfig.merge({}, skip=["explain", "map", "report"], previous=str(last))
    with pytest.raises(InputChangedError, match="The run that is continued is not what it was"):
        engine.fit(table, out=tmp_path / "run", id="user_id", config=config, resume=True)


@pytest.mark.parametrize(
    "settings",
    [{"lineage": {"max_moved": 0.1}}, {"lineage": {"refit_features": True}}, {"names": {"3": " "}}],
)
def test_settings_of_nights_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FitConfig.merge({}, **settings)


def test_names_are_one_line() -> None:
    assert FitConfig.merge({}, names={"3": " Night\nowls "}).names == {3: "Night owls"}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["joined", "spend"])
def test_dates_and_numbers_in_another_notation_are_no_missing_values(column: str, suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    days = np.datetime64("2020-01-01") + rng.integers(0, 1500, 400).astype("timedelta64[D]")
    amounts = rng.lognormal(7, 1, 400)
    nights = {
        "joined": [[str(day) for day in days], [f"{day.item():%d/%m/%y}" for day in days]],
        "spend": [[f"{amount:,.2f}" for amount in amounts], [f"{amount:,.2f} CR" for amount in amounts]],
    }
    tables = []
    for number, values in enumerate(nights[column]):
        table = pa.table({"user_id": np.arange(400), "age": rng.integers(20, 60, 400) + 0.5, column: values})
        tables.append(tmp_path / f"{number}.{suffix}")
        (pq.write_table if suffix == "parquet" else pacsv.write_csv)(table, tables[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = fit(tables[0], tmp_path / "run", kmeans={"n_clusters": 2})
        with pytest.raises(RetypedColumnError, match=f"'{column}' held .* but 400 of its 400 texts are no"):
            fit(tables[1], tmp_path / "next", kmeans={"n_clusters": 2}, previous=str(run.path))
        renewed = fit(
            tables[1],
            tmp_path / "new",
            kmeans={"n_clusters": 2},
            previous=str(run.path),
            lineage={"refit_features": True},
        )
    assert len(renewed.assignments) == 400
