"""Names by a function of the user's own: what it is told, what is taken of what it says, and what later nights do."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import FitConfig
from engine.errors import ConfigError
from engine.explain.personas.own_names import MAX_LENGTH, ask_for_names, find_namer
from engine.lineage.rename import rename_cluster
from engine.pipeline.dry_run import estimate_fit
from tests.explain.people import HOSTILE, people

FIELDS = {
    "cluster", "size", "share", "domain", "name", "earlier_name", "sentences", "traits", "typical", "interests",
}  # fmt: skip
CLUSTERS = [{"cluster": number, "size": 100 - number, "name": f"Own {number}"} for number in range(3)]
OWN = {number: f"Own {number}" for number in range(4)}  # the fourth is not asked about
QUICK = {"skip": ["map", "report"], "kmeans": {"n_clusters": 3}, "id": "who"}

Namer = Callable[[list[dict[str, Any]]], Any]


def fitted(table: Any, out: Path, namer: Any, **changes: Any) -> engine.Run:
    return engine.fit(table, out=out, name_clusters=namer, config=FitConfig.merge({}, **QUICK | changes))


def test_a_function_is_told_aggregates_and_nothing_of_single_people(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    def namer(clusters: list[dict[str, Any]]) -> dict[int, str]:
        told.extend(json.loads(json.dumps(clusters)))
        return {facts["cluster"]: f"Number {facts['cluster']}" for facts in clusters}

    table = people()
    run = fitted(table, tmp_path / "run", namer, explain={"domain": "customers"})
    assert [facts["cluster"] for facts in told] == [0, 1, 2]
    assert all(set(facts) == FIELDS for facts in told)
    assert {facts["domain"] for facts in told} == {"customers"}
    assert all(set(trait) == {"what", "here", "everybody", "difference"} for f in told for trait in f["traits"])
    text = json.dumps(told)
    assert not any(id in text for id in table["who"].to_pylist())
    personas = {p["cluster"]: p for p in run.personas}
    for facts in told:  # no more than personas.json discloses
        persona = personas[facts["cluster"]]
        assert facts["name"] == persona["automatic_name"]
        assert facts["sentences"] == persona["sentences"]
        assert facts["typical"] == dict(map(tuple, persona["typical"]))
        disclosed = [{key: row[key] for key in ("what", "here", "everybody")} for row in persona["profile"]]
        assert [{key: row[key] for key in ("what", "here", "everybody")} for row in facts["traits"]] == disclosed
    assert run.names == {0: "Number 0", 1: "Number 1", 2: "Number 2"}
    assert run.clusters["persona"].to_pylist() == ["Number 0", "Number 1", "Number 2"]
    assert run.manifest["naming"] == {
        "function": run.manifest["naming"]["function"], "asked": 3, "named": 3, "refused": [],
    }  # fmt: skip


def test_a_cluster_of_too_few_people_is_not_told(tmp_path: Path) -> None:
    told: list[int] = []
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 300), rng.normal(40, 1, 300), rng.normal(400, 1, 6)])
    table = pa.table({"who": np.arange(606), "hours": values, "visits": values * 2 + rng.normal(0, 1, 606)})
    run = fitted(table, tmp_path / "run", lambda clusters: told.extend(c["cluster"] for c in clusters) or {})
    sizes = dict(zip(run.clusters["cluster"].to_pylist(), run.clusters["size"].to_pylist(), strict=True))
    small = [number for number, size in sizes.items() if size < 11]
    assert small, sizes
    assert sorted(told) == sorted(set(sizes) - set(small))


@pytest.mark.parametrize(
    ("answer", "taken", "why"),
    [
        ({0: "Fans", 1: "Others", 2: None}, {0: "Fans", 1: "Others"}, []),
        ({"0": "  Night\nowls "}, {0: "Night owls"}, []),
        ({0: ""}, {}, ["cluster 0: the name is empty"]),
        ({0: 7}, {}, ["cluster 0: a name must be a text, not int"]),
        ({0: "x" * (MAX_LENGTH + 1)}, {}, [f"cluster 0: the name has {MAX_LENGTH + 1} letters"]),
        ({0: "a\x1b[31mred"}, {}, ["cluster 0: the name has control characters"]),
        ({0: "a\u202eb"}, {}, ["cluster 0: the name has control characters"]),
        ({0: "Fans", 1: "FANS"}, {0: "Fans"}, ["cluster 1: cluster 0 is called “Fans” already"]),
        ({0: "own 3"}, {}, ["cluster 0: cluster 3 is called “Own 3” already"]),
        ({0: "Own 1", 1: "Own 0"}, {}, ["cluster 0: cluster 1", "cluster 1: cluster 0"]),
        ({0: "Own 0"}, {0: "Own 0"}, []),
        ({3: "Fans", "x": "y"}, {}, ["it named clusters that it was not asked about: 3, x"]),
        (["Fans"], {}, ["it returned list, not a dict"]),
        (None, {}, ["it returned NoneType, not a dict"]),
    ],
)
def test_good_names_are_taken_and_others_are_refused_in_words(
    answer: Any, taken: dict[int, str], why: list[str]
) -> None:
    asked = ask_for_names(lambda _: answer, CLUSTERS, OWN, 5.0)
    assert asked.names == taken
    assert len(asked.refused) == len(why), asked.refused
    assert all(reason.startswith(expected) for reason, expected in zip(asked.refused, why, strict=True)), asked.refused


def test_a_function_that_fails_or_hangs_is_told_of_and_waited_for_no_longer() -> None:
    def fail(_: Any) -> Any:
        raise RuntimeError("the service said 503\x1b")

    def leave(_: Any) -> Any:
        raise SystemExit(3)

    assert ask_for_names(fail, CLUSTERS, OWN, 5.0).refused == ["it raised RuntimeError: the service said 503"]
    assert ask_for_names(leave, CLUSTERS, OWN, 5.0).refused == ["it raised SystemExit: 3"]
    start = time.monotonic()
    asked = ask_for_names(lambda _: time.sleep(30), CLUSTERS, OWN, 0.2)
    assert time.monotonic() - start < 10
    assert asked.names == {}
    assert asked.refused == ["it had not answered after 0.2 seconds (explain.namer_seconds)"]


def test_a_run_of_a_function_that_fails_keeps_its_own_names_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "engine.explain.stage")

    def fail(_: Any) -> Any:
        raise ConnectionError("offline")

    run = fitted(people(), tmp_path / "run", fail, skip=["map"])
    plain = fitted(people(), tmp_path / "plain", None)
    assert run.names == plain.names
    assert "others keep theirs: it raised ConnectionError: offline" in caplog.text
    assert run.manifest["naming"]["refused"] == ["it raised ConnectionError: offline"]
    assert "it raised ConnectionError: offline" in (run.path / "report.html").read_text()
    assert "naming" not in plain.manifest


def test_a_function_is_named_in_the_configuration_and_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_names_of_the_test.py").write_text(
        "def letters(clusters):\n    return {c['cluster']: 'Group ' + 'ABC'[c['cluster']] for c in clusters}\n"
    )
    monkeypatch.chdir(tmp_path)
    run = fitted(people(), tmp_path / "run", None, explain={"namer": "own_names_of_the_test:letters"})
    assert run.names == {0: "Group A", 1: "Group B", 2: "Group C"}
    assert "namer: own_names_of_the_test:letters" in (run.path / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("namer", "words"),
    [
        ("no_such_module_here:f", "cannot be imported: ModuleNotFoundError"),
        ("json:no_such", "cannot be imported: AttributeError"),
        ("json:__name__", "is no function"),
        ("json", "must read module:function"),
        (7, "a int is no function"),
    ],
)
def test_a_function_that_is_not_there_ends_a_fit_before_it_begins(tmp_path: Path, namer: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        engine.fit("no such table.parquet", out=tmp_path / "run", name_clusters=namer)
    if isinstance(namer, str) and ":" in namer:
        with pytest.raises(ConfigError, match=words):
            estimate_fit("no such table.parquet", FitConfig.merge({}, explain={"namer": namer}))
    assert find_namer(None) is None


def test_names_without_an_explanation_are_a_contradiction() -> None:
    with pytest.raises(ConfigError, match="which skip leaves out"):
        FitConfig.merge({}, skip=["explain"], explain={"namer": "json:dumps"})


def test_a_dry_run_does_not_call_the_function(tmp_path: Path) -> None:
    def fail(_: Any) -> Any:
        raise AssertionError("called")

    pq.write_table(people(), tmp_path / "people.parquet")
    settings = FitConfig.merge({}, **QUICK, explain={"namer": fail})
    estimate_fit(tmp_path / "people.parquet", settings)


def test_hostile_names_are_texts_in_every_file(tmp_path: Path) -> None:
    hostile = {0: HOSTILE, 1: "=HYPERLINK(0) --", 2: "*/ '; DROP TABLE x; --"}
    run = fitted(people(), tmp_path / "run", lambda _: hostile, skip=["map"])
    assert run.names == hostile
    html = (run.path / "report.html").read_text()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    assert "<script" not in (run.path / "personas.md").read_text()
    comments = [line for line in (run.path / "rules.sql").read_text().splitlines() if "DROP TABLE x" in line]
    assert [line.lstrip()[:5] for line in comments] == ["-- 2:"]


def night(folder: Path, number: int, previous: engine.Run | None, namer: Any, *, switched: bool = False) -> engine.Run:
    """Fit people in two groups; `switched` gives one of them another drink and other hours."""
    ids, rng = np.arange(400), np.random.default_rng(0)
    group = ids % 2
    drinks = np.where(group == 1, "cocoa" if switched else "coffee", np.where(ids % 4 == 0, "tea", "water"))
    drinks = np.where(rng.random(400) < 0.1, rng.choice(["tea", "water", "coffee", "cocoa"], 400), drinks)
    hours = np.round((12.0 - 11.5 * group if switched else 2.0 + 8 * group) + 3 * rng.random(400), 1)
    path = folder / f"{number}.parquet"
    pq.write_table(pa.table({"who": ids, "drink": drinks, "hours": hours}), path)
    settings = {**QUICK, "kmeans": {"n_clusters": 2}, "explain": {"namer": namer}}
    settings |= {} if previous is None else {"previous": str(previous.path)}
    return engine.fit(path, out=folder / str(number), config=FitConfig.merge({}, **settings))


def test_names_stay_from_night_to_night_and_are_asked_for_again_when_a_cluster_is_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "engine.explain.stage")
    asked: list[list[tuple[int, str | None]]] = []

    def namer(clusters: list[dict[str, Any]]) -> dict[int, str]:
        asked.append([(facts["cluster"], facts["earlier_name"]) for facts in clusters])
        return {facts["cluster"]: f"Call {len(asked)} of {facts['cluster']}" for facts in clusters}

    first = night(tmp_path, 1, None, namer)
    assert asked == [[(0, None), (1, None)]]
    second = night(tmp_path, 2, first, namer)
    assert len(asked) == 1, "nobody is asked about clusters that are as they were"
    assert second.names == first.names == {0: "Call 1 of 0", 1: "Call 1 of 1"}
    assert second.manifest["naming"]["asked"] == 0
    rename_cluster(second.path, 0, "Owls")
    third = night(tmp_path, 3, second, namer, switched=True)
    assert asked[1:] == [[(1, "Call 1 of 1")]], "a person's name is not asked about"
    assert third.names == {0: "Owls", 1: "Call 2 of 1"}
    assert "Cluster 1 is named" not in caplog.text
    caplog.clear()

    def fail(_: Any) -> Any:
        raise ConnectionError("offline")

    fourth = night(tmp_path, 4, third, fail)
    assert fourth.names[1] == "Call 2 of 1", "an earlier name stays while nobody answers"
    assert "Cluster 1 is named “Call 2 of 1”" in caplog.text
    fifth = night(tmp_path, 5, fourth, None)
    assert fifth.names[1] == "Call 2 of 1"
    own = fifth.personas[1]["automatic_name"]
    assert rename_cluster(fifth.path, 1, None) == ("Call 2 of 1", own)


def test_a_resumed_fit_does_not_ask_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.pipeline import fit as pipeline

    calls: list[int] = []
    pq.write_table(people(), tmp_path / "people.parquet")

    def namer(clusters: list[dict[str, Any]]) -> dict[int, str]:
        calls.append(1)
        return {facts["cluster"]: f"Number {facts['cluster']}" for facts in clusters}

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / "people.parquet", tmp_path / "run", namer)
    settings = FitConfig.merge({}, **QUICK)
    run = engine.fit(
        tmp_path / "people.parquet", out=tmp_path / "run", name_clusters=namer, config=settings, resume=True
    )
    assert calls == [1]
    assert run.names[2] == "Number 2"
    assert run.manifest["naming"]["named"] == 3
