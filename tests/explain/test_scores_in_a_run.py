"""A cluster that only a score describes, through everything that shows or applies rules."""

from __future__ import annotations

import json
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import engine
from engine.config import FitConfig
from engine.explain.person.matching_rule import PersonRule

HABITS = ("walks", "runs", "swims", "cycles", "rows", "climbs", "skates", "dances", "fences")
N = 6000


def habits() -> pa.Table:
    """Return people of two kinds, of whom one has most habits and the other few: no single one tells."""
    rng = np.random.default_rng(7)
    active = np.arange(N) % 2 == 0
    columns = {name: rng.random(N) < np.where(active, 0.7, 0.3) for name in HABITS}
    return pa.table({"who": [f"p{i}" for i in range(N)], **columns})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    config = FitConfig.merge({}, skip=["map"])
    return engine.fit(habits(), out=tmp_path_factory.mktemp("scores") / "run", id="who", n_clusters=2, config=config)


def test_rules_json_has_the_points_and_counts_the_people_who_have_enough(run: engine.Run) -> None:
    labels = run.assignments["cluster"].to_numpy()
    n_scores = 0
    assert run.rules["format"] == 2
    for cluster in run.rules["clusters"]:
        for rule in cluster["rules"]:
            points = np.zeros(N, int)
            for condition in rule["conditions"]:
                value = habits()[condition["column"]].to_numpy(zero_copy_only=False)
                points += condition["points"] * (value == ("at_least" in condition))
            matched = points >= rule["points_needed"]
            assert (rule["matched"], rule["users"]) == (matched.sum(), (matched & (labels == cluster["cluster"])).sum())
            is_score = rule["points_needed"] < sum(c["points"] for c in rule["conditions"])
            n_scores += is_score
            assert ("at least" in rule["words"]) == is_score
    assert n_scores >= 1
    assert min(c["precision"] for c in run.rules["clusters"]) >= 0.9
    assert min(c["coverage"] for c in run.rules["clusters"]) >= 0.9


def test_the_database_matches_the_people_of_a_score(run: engine.Run) -> None:
    connection = duckdb.connect()
    connection.register("profiles", habits())
    statement = connection.extract_statements((run.path / "rules.sql").read_text())[0]
    matched = connection.sql(statement.query).fetchnumpy()
    for cluster in run.rules["clusters"]:
        assert matched[f"cluster_{cluster['cluster']}"].sum() == cluster["matched"]


def test_why_says_which_points_a_person_has(run: engine.Run) -> None:
    by_number = {c["cluster"]: c["rules"][0] for c in run.rules["clusters"]}
    for person in habits().slice(0, 12).to_pylist():
        why = run.why(person["who"], table=habits())
        rule, nearest = by_number[why.cluster], why.nearest
        assert nearest is not None
        holds = [person[c["column"]] == ("at_least" in c) for c in rule["conditions"]]
        points = sum(c["points"] for c, held in zip(rule["conditions"], holds, strict=True) if held)
        assert (list(nearest.holds), nearest.points, nearest.needed) == (holds, points, rule["points_needed"])
        assert (why.rule is not None) == (points >= rule["points_needed"]) == (not nearest.lacking)
        assert f"they have {points} of its" in why.describe()
        assert json.loads(json.dumps(why.facts()))["nearest_rule"]["points"] == points


def test_why_says_which_conditions_would_do_where_no_rule_holds(run: engine.Run) -> None:
    why = run.why("p0", table=habits())
    assert why.rule is not None
    conditions = [{**c, "points": 1 + (n == 1)} for n, c in enumerate(why.rule["conditions"])]
    nearest = PersonRule({**why.rule, "conditions": conditions, "points_needed": 4}, (True, *[False] * 8))
    assert (nearest.points, nearest.needed, nearest.total) == (1, 4, 10)
    assert nearest.lacking == [conditions[1], conditions[2]]  # the one of two points, and one more
    text = replace(why, rule=None, nearest=nearest).describe()
    assert "none of the cluster's rules holds for them" in text
    assert f"they have 1 of its 10 points, and 4 are needed; it takes {conditions[1]['words']}" in text
    assert conditions[2]["words"] in text


def test_a_run_of_an_earlier_version_has_rules_that_need_all_conditions() -> None:
    old = {"words": "a and b", "conditions": [{"column": "a"}, {"column": "b"}], "precision": 0.9}
    assert PersonRule(old, (True, True)).lacking == []
    assert PersonRule(old, (True, False)).lacking == [{"column": "b"}]
    assert PersonRule(old, (True, False)).is_conjunction


def test_the_report_shows_the_score(run: engine.Run) -> None:
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert "at least" in html
