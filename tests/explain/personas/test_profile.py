"""Profiles of clusters and the table of features: what they hold, what they merge, and what they must not disclose."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from engine.explain.feature_table import QUARTILE_PEOPLE, feature_table
from engine.explain.personas.persona import build_personas
from engine.explain.personas.related_columns import find_related_columns
from engine.features.encoding_plan import EncodingPlan
from engine.features.fit import fit_encoder
from engine.tables import open_table
from tests.explain.people import people
from tests.explain.personas.test_persona import sample_and_effect_sizes


def plan_of(table: pa.Table) -> EncodingPlan:
    return fit_encoder(open_table(table), share_weights=False).encoder.plan


def months(n_rows: int = 600) -> tuple[pa.Table, np.ndarray]:
    """Return six columns of monthly use that rise and fall together, one of its own, and two clusters."""
    random = np.random.default_rng(0)
    labels = np.arange(n_rows) % 2
    use = 5.0 + 4.0 * labels + random.normal(size=n_rows)
    columns = {f"data_gb_{m}": use + 0.1 * random.normal(size=n_rows) for m in ("may", "june", "july")}
    return pa.table({**columns, "age": 30.0 + 9.0 * labels + 5.0 * random.normal(size=n_rows)}), labels


def test_columns_that_say_nearly_the_same_share_a_row() -> None:
    table, labels = months()
    sample, effect_sizes = sample_and_effect_sizes(table, labels)
    plan = plan_of(table)
    related = find_related_columns(sample, plan)
    assert related["data_gb_may"] == {"data_gb_may", "data_gb_june", "data_gb_july"}
    assert related["age"] == {"age"}
    names = {name: name.replace("_", " ") for name in table.column_names}
    for persona in build_personas(sample, effect_sizes, min_people=11, related=related, names=names):
        assert [row.what for row in persona.profile] == ["data gb (3 columns)", "age"]
        assert set(persona.profile[0].columns) == related["data_gb_may"]
        assert (persona.profile[0].position > 0.5) == (persona.profile[0].difference > 0)
        assert persona.profile[0].everybody_position == 0.5
    alone = build_personas(sample, effect_sizes, min_people=11)
    assert [len(persona.profile) for persona in alone] == [4, 4]


@pytest.mark.parametrize("falls", [False, True])
def test_columns_are_related_whatever_their_units_direction_and_gaps(falls: bool) -> None:
    table, labels = months()
    may = table["data_gb_may"].to_numpy()
    other = np.exp(-may if falls else may)
    other[::50] = np.nan
    table = pa.table({"a": may, "b": other, "c": np.random.default_rng(1).normal(size=len(may))})
    sample, _ = sample_and_effect_sizes(table, labels)
    related = find_related_columns(sample, plan_of(table))
    assert related["a"] == related["b"] == {"a", "b"}
    assert related["c"] == {"c"}


def test_positions_are_shares_of_everybody_below() -> None:
    labels = np.repeat([0, 1], 100)
    table = pa.table({"x": np.arange(200.0), "kind": np.repeat(["a", "b"], 100)})
    _, (first, second) = sample_and_effect_sizes(table, labels)
    positions = [next(e for e in part if e.feature.kind == "number").position for part in (first, second)]
    assert positions == pytest.approx([0.25, 0.75], abs=0.01)
    share = next(e for e in first if e.feature.kind != "number")
    assert share.position == share.cluster_value
    assert share.overall_position == share.overall_value == 0.5


def test_importance_is_the_share_of_the_variance_between_clusters() -> None:
    table, labels = months()
    sample, effect_sizes = sample_and_effect_sizes(table, labels)
    for entry in feature_table(effect_sizes, sample.sizes, min_people=11):
        x = np.clip(table[entry["column"]].to_numpy(), *np.quantile(table[entry["column"]].to_numpy(), [0.005, 0.995]))
        between = np.average([(x[labels == c].mean() - x.mean()) ** 2 for c in (0, 1)], weights=[300, 300])
        assert entry["importance"] == pytest.approx(between / x.var(), abs=0.001)


def test_the_table_of_features_discloses_nothing_of_few_people() -> None:
    table = people(900).drop_columns(["who"])
    labels = np.r_[np.full(5, 2), np.full(60, 1), np.zeros(835, int)]
    sample, effect_sizes = sample_and_effect_sizes(table, labels)
    few, some, many = 0, 0, 0
    for entry in feature_table(effect_sizes, sample.sizes, min_people=11):
        first, second, third = entry["clusters"]
        assert third is None
        few += second is not None and second["here"] == "hardly anybody"
        if entry["kind"] == "number":
            some += second["box"][0] is None and second["box"][2] is not None
            many += None not in first["box"]
            assert (second["box"][1] is None) == (60 * 0.95 < 11 * QUARTILE_PEOPLE)
    assert few
    assert some
    assert many
