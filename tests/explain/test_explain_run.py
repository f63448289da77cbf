"""Rules and personas of whole runs: the targets on the demo, figures recounted by hand, and runs without them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import adjusted_rand_score

import engine
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths
from engine.errors import ConfigError, NotExplainedError
from engine.execution.threads import threads
from tests.explain.people import people

PLAIN = FitConfig.merge({}, skip=["map", "report"])


def test_rules_of_the_demo_are_precise_and_cover_most_people(run: engine.Run) -> None:
    clusters = run.rules["clusters"]
    assert np.mean([c["precision"] for c in clusters]) >= 0.9
    assert np.mean([c["coverage"] for c in clusters]) >= 0.7
    assert np.mean([c["precision_unseen"] for c in clusters]) >= 0.9
    assert np.mean([c["coverage_unseen"] for c in clusters]) >= 0.7
    for rule in (rule for c in clusters for rule in c["rules"]):
        points = [condition["points"] for condition in rule["conditions"]]
        assert len(points) <= (5 if rule["points_needed"] == sum(points) else 9)
    assert run.rules["full"]["fidelity"] > 0.95
    assert run.rules["full"]["fidelity"] == pytest.approx(run.rules["full"]["fidelity_unseen"], abs=0.02)


def test_an_overview_of_eight_leaves_lists_the_clusters_it_cannot_name(run: engine.Run) -> None:
    def leaves(node: dict[str, object]) -> list[int]:
        return [node["cluster"]] if "cluster" in node else leaves(node["then"]) + leaves(node["else"])  # type: ignore

    overview = run.rules["overview"]
    named = leaves(overview["tree"])
    assert len(named) <= 8
    assert sorted({*named, *overview["unnamed"]}) == list(range(12))
    assert len(overview["unnamed"]) >= 4


def test_trees_state_conditions_positively_and_count_the_people_that_a_plain_walk_counts(
    demo: DemoPaths, run: engine.Run
) -> None:
    members = pq.read_table(demo.members).to_pandas()
    fills = {c["column"]: c for c in json.loads((run.path / "model/model.json").read_text())["plan"]["columns"]}
    counted = {"label": 0, "category": 0, "number": 0}

    def holds(condition: dict[str, Any]) -> np.ndarray | None:
        values = members[condition["column"]]
        if condition["kind"] == "label":
            return values.map(lambda labels: labels is not None and condition["value"] in labels).to_numpy()
        if condition["kind"] == "category" and values.notna().all():
            return (values == condition["value"]).to_numpy()
        if condition["kind"] == "number":
            filled = values.fillna(fills[condition["column"]]["fill"]).to_numpy()
            return (filled >= condition.get("at_least", -np.inf)) & (filled < condition.get("below", np.inf))
        return None

    def walk(node: dict[str, Any], people: np.ndarray) -> None:
        if "cluster" in node:
            assert node.get("matched", people.sum()) == people.sum()
            return
        assert node["condition"].get("holds", True)
        yes = holds(node["condition"])
        if yes is not None:
            counted[node["condition"]["kind"]] += 1
            walk(node["then"], people & yes)
            walk(node["else"], people & ~yes)

    for view in ("overview", "short", "full"):
        walk(run.rules[view]["tree"], np.ones(len(members), bool))
    assert counted["label"] >= 3
    assert counted["number"] >= 10


def test_a_rule_counts_the_people_a_plain_loop_counts(demo: DemoPaths, run: engine.Run) -> None:
    members = pq.read_table(demo.members).to_pandas()
    labels = run.assignments["cluster"].to_numpy()
    fills = {c["column"]: c for c in json.loads((run.path / "model/model.json").read_text())["plan"]["columns"]}
    checked = 0
    for cluster in run.rules["clusters"]:
        for rule in cluster["rules"]:
            if any(c["kind"] != "number" for c in rule["conditions"]):
                continue
            matched = np.ones(len(members), bool)
            for c in rule["conditions"]:
                values = members[c["column"]].fillna(fills[c["column"]]["fill"]).to_numpy()
                matched &= (values >= c.get("at_least", -np.inf)) & (values < c.get("below", np.inf))
            assert rule["matched"] == matched.sum()
            assert rule["users"] == (matched & (labels == cluster["cluster"])).sum()
            checked += 1
    assert checked >= 3


def test_cluster_names_are_in_all_files(run: engine.Run) -> None:
    names = [persona["name"] for persona in run.personas]
    assert run.clusters["persona"].to_pylist() == names == [c["name"] for c in run.rules["clusters"]]
    assert len(set(names)) == 12
    text = (run.path / "personas.md").read_text()
    assert all(f"## {name}" in text for name in names)
    assert sum(persona["community"] for persona in run.personas) == 1


def test_threads_and_blocks_do_not_change_a_word(
    demo: DemoPaths, run: engine.Run, tmp_path: Path, block_rows: Callable[[int], None]
) -> None:
    block_rows(4096)
    with threads(3):
        again = engine.fit(demo.members, out=tmp_path / "again", id="user_id", n_clusters=12, config=PLAIN)
    for name in ("rules.json", "rules.sql", "personas.json", "personas.md"):
        assert (again.path / name).read_text() == (run.path / name).read_text()


def test_a_run_without_an_explanation(tmp_path: Path) -> None:
    config = FitConfig.merge({}, skip=["explain", "map", "report"])
    run = engine.fit(people(300), out=tmp_path / "run", id="who", n_clusters=3, config=config)
    assert not [p.name for p in run.path.iterdir() if p.name.startswith(("rules", "personas"))]
    assert "persona" not in run.clusters.column_names
    with pytest.raises(NotExplainedError, match="--skip explain"):
        run.personas  # noqa: B018
    with pytest.raises(ConfigError, match="skip"):
        FitConfig.merge({}, skip=["pca"])


@pytest.mark.parametrize("k", [1, 40])
def test_one_cluster_or_many_tiny_ones_are_explained(k: int, tmp_path: Path) -> None:
    run = engine.fit(people(120), out=tmp_path / "run", id="who", n_clusters=k, config=PLAIN)
    assert len(run.personas) == k
    for cluster, persona in zip(run.rules["clusters"], run.personas, strict=True):
        assert all(rule["users"] >= 11 for rule in cluster["rules"])
        assert persona["users"] >= 11 or persona["contrasts"] == []
    assert run.rules["full"]["fidelity"] > 0.0


def test_no_id_of_a_person_is_in_the_files_that_people_read(tmp_path: Path) -> None:
    run = engine.fit(people(400), out=tmp_path / "run", id="who", n_clusters=4, config=PLAIN)
    for name in ("rules.json", "rules.sql", "personas.json", "personas.md"):
        assert "id-0" not in (run.path / name).read_text()


def test_a_group_of_weight_0_describes_clusters_without_influencing_them(tmp_path: Path) -> None:
    table = people().select(["who", "age", "spend", "level"])
    settings = {"id": "who", "kmeans": {"n_clusters": 3}}
    without_group = FitConfig.merge(PLAIN.model_dump(), features={"roles": {"age": "ignore"}}, **settings)
    groups = {"who": {"columns": ["age"], "weight": 0.0}}
    with_group = FitConfig.merge(PLAIN.model_dump(), features={"groups": groups}, **settings)
    without = engine.fit(table, out=tmp_path / "without", config=without_group)
    described = engine.fit(table, out=tmp_path / "described", config=with_group)
    assert adjusted_rand_score(described.assignments["cluster"], without.assignments["cluster"]) > 0.99
    assert any("age" in str(persona["sentences"]) for persona in described.personas)
    assert not any("age" in str(persona["sentences"]) for persona in without.personas)
    assert described.clusters["age"].null_count == 3
    assert sorted(described.clusters["spend"].to_pylist()) == pytest.approx(
        sorted(without.clusters["spend"].to_pylist()), rel=0.01
    )


def test_codes_are_not_tested_and_a_cluster_that_rules_hardly_cover_has_none(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise = {f"x{i}": random.normal(size=3000) for i in range(30)}
    branch = np.array(["0090", "0117", "0338"])[random.integers(3, size=3000)]
    table = pa.table({**noise, "branch_code": branch})
    config = FitConfig.merge({}, features={"roles": {"branch_code": "categorical"}}, skip=["map", "report"])
    run = engine.fit(table, out=tmp_path / "run", n_clusters=10, config=config)
    assert "branch_code" in run.model.encoder.columns
    assert "branch_code" not in (run.path / "rules.json").read_text()
    clusters = run.rules["clusters"]
    assert all(c["coverage"] >= 0.1 for c in clusters if c["rules"])
    n_without = sum(not c["rules"] for c in clusters)
    assert n_without > 0
    assert not any(c["precise"] for c in clusters)  # there is nothing to learn, however well rules fit what they saw
    assert (run.path / "rules.sql").read_text().count("no short rule describes this cluster") == n_without


def decimals(document: Any, key: str) -> set[int]:
    """Return how many decimals the numbers of a key have, anywhere in a document."""
    if isinstance(document, dict):
        own = {len(repr(document[key]).partition(".")[2])} if isinstance(document.get(key), float) else set()
        return own.union(*(decimals(value, key) for value in document.values()))
    return set().union(*(decimals(value, key) for value in document)) if isinstance(document, list) else set()


def test_figures_have_as_many_decimals_as_the_documents_promise(run: engine.Run) -> None:
    assert max(decimals(run.features, "difference")) == 3
    for key in ("precision", "importance", "fidelity"):
        assert max(decimals(run.features, key) | decimals(run.rules, key)) == 4, key
