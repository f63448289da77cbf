"""rules.sql, run by DuckDB on the same profiles, selects the people that the engine's rules match."""

from __future__ import annotations

import json

import duckdb
import numpy as np
import pytest

import engine
from engine.config import FitConfig
from engine.explain.binning.binner import Binner
from engine.explain.export_sql import SqlConditionWriter
from engine.explain.rules.conditions import Condition
from engine.utils.formatting import Vocabulary
from tests.explain.people import people

ROLES = {"level": "categorical", "languages": "multilabel"}


@pytest.fixture(scope="module", params=[0, 1])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    explain = {"min_people": 5, "sample_rows": 600}
    config = FitConfig.merge({}, features={"roles": ROLES}, explain=explain, skip=["map", "report"])
    out = tmp_path_factory.mktemp("sql") / "run"
    return engine.fit(people(seed=request.param), out=out, id="who", n_clusters=6, config=config)


def run_statements(run: engine.Run, seed: int) -> list[duckdb.DuckDBPyRelation]:
    connection = duckdb.connect()
    connection.register("profiles", people(seed=seed))
    statements = connection.extract_statements((run.path / "rules.sql").read_text())
    assert len(statements) == 2
    return [connection.sql(statement.query) for statement in statements]


def test_the_database_matches_the_people_that_the_engine_matched(
    run: engine.Run, request: pytest.FixtureRequest
) -> None:
    seed = request.node.callspec.params["run"]
    rules, labels = run.rules, run.assignments["cluster"].to_numpy()
    by_rules, by_tree = run_statements(run, seed)
    matched = by_rules.fetchnumpy()
    assert matched["who"].tolist() == run.assignments["who"].to_pylist()
    n_rules = 0
    for cluster in rules["clusters"]:
        in_rules = matched[f"cluster_{cluster['cluster']}"]
        assert in_rules.sum() == cluster["matched"]
        correct = in_rules & (labels == cluster["cluster"])
        assert correct.sum() == round(cluster["coverage"] * cluster["users"])
        n_rules += len(cluster["rules"])
    assert n_rules >= 4
    predicted = np.asarray(by_tree.fetchnumpy()["cluster"])
    assert (predicted == labels).mean() == pytest.approx(rules["full"]["fidelity"], abs=1e-4)


def test_the_json_holds_the_same_conditions_as_the_words(run: engine.Run) -> None:
    document = json.loads((run.path / "rules.json").read_text())
    for cluster in document["clusters"]:
        for rule in cluster["rules"]:
            assert rule["conditions"]
            assert rule["users"] >= 5
            for condition in rule["conditions"]:
                assert condition["column"] in people(10).column_names
                assert {"at_least", "below", "holds"} & set(condition)


def test_every_condition_means_the_same_in_sql(run: engine.Run, request: pytest.FixtureRequest) -> None:
    table, plan = people(seed=request.node.callspec.params["run"]), run.model.encoder.plan
    columns = [column.column for column in plan.columns]
    rows = run.model.encoder.read_block(table)
    binner = Binner.from_sample(plan, rows, Vocabulary.from_schema(table.schema, columns, {}, {}))
    bins = binner.unpack(binner.pack(rows))
    writer = SqlConditionWriter(plan, table.schema)
    connection = duckdb.connect()
    connection.register("profiles", table)
    kinds = set()
    for number, predicate in enumerate(binner.predicates):
        top = predicate.n_bins - 1
        for low, high in {(0, top // 2), (top // 2 + 1, top), (top // 3, 2 * top // 3)} - {(0, top)}:
            sql = writer.sql(Condition(predicate, low, high))
            selected = connection.sql(f"SELECT ({sql}) FROM profiles").fetchall()
            expected = (bins[number] >= low) & (bins[number] <= high)
            assert [row[0] is True for row in selected] == expected.tolist(), sql
        kinds.add((predicate.kind, str(table.schema.field(predicate.column).type)))
    assert {kind for kind, _ in kinds} == {
        "number", "date", "truth", "category", "label", "rare category", "missing",
    }  # fmt: skip
    assert {("label", "list<element: string>"), ("label", "string"), ("date", "timestamp[us]"), ("truth", "bool")} <= {
        (kind, type.replace("item", "element")) for kind, type in kinds
    }
