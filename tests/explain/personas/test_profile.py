"""Profiles of clusters and the table of features: what they hold, what they merge, and what they must not disclose."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from engine.explain.feature_table import feature_table
from engine.explain.personas.persona import build_personas
from engine.explain.personas.related_columns import find_related_columns
from engine.features.encoding_plan import EncodingPlan
from engine.features.fit import fit_encoder
from engine.kmeans.stability import Sureness
from engine.tables import open_table
from engine.utils.domain_words import DomainWords
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
    for entry in feature_table(effect_sizes, sample.sizes, min_people=11, column_importance={}):
        x = np.clip(table[entry["column"]].to_numpy(), *np.quantile(table[entry["column"]].to_numpy(), [0.005, 0.995]))
        between = np.average([(x[labels == c].mean() - x.mean()) ** 2 for c in (0, 1)], weights=[300, 300])
        assert entry["importance"] == pytest.approx(between / x.var(), abs=0.001)


def test_the_table_of_features_discloses_nothing_of_few_people() -> None:
    table = people(900).drop_columns(["who"])
    labels = np.r_[np.full(5, 2), np.full(60, 1), np.zeros(835, int)]
    sample, effect_sizes = sample_and_effect_sizes(table, labels)
    few, some, many = 0, 0, 0
    for entry in feature_table(effect_sizes, sample.sizes, min_people=11, column_importance={}):
        first, second, third = entry["clusters"]
        assert third is None
        few += second is not None and second["here"] == "hardly anybody"
        if entry["kind"] == "number":
            some += second["box"][0] is None and second["box"][2] is not None
            many += None not in first["box"]
    assert few
    assert some
    assert many


def test_a_name_holds_for_most_of_its_cluster() -> None:
    n_rows = 1000
    labels = np.arange(n_rows) % 2
    random = np.random.default_rng(0)
    app = np.where(labels == 1, random.random(n_rows) < 0.35, random.random(n_rows) < 0.02)
    spend = 20.0 + 6.0 * labels + 5.0 * random.normal(size=n_rows)
    table = pa.table({"plan": np.where(app, "Mortgage", "none"), "spend": spend})
    sample, effect_sizes = sample_and_effect_sizes(table, labels)
    mortgage = next(e for e in effect_sizes[1] if e.feature.value == "Mortgage")
    assert mortgage.strength > 0.25  # far more often than others
    assert "Mortgage" not in build_personas(sample, effect_sizes, min_people=11)[1].name
    sample, effect_sizes = sample_and_effect_sizes(table.select(["plan"]), labels)
    assert build_personas(sample, effect_sizes, min_people=11)[1].name == "Often Mortgage"


def test_rows_are_called_what_they_are() -> None:
    table, labels = months()
    labels = np.where(np.arange(len(labels)) < 3, 2, labels)
    sample, effect_sizes = sample_and_effect_sizes(table, labels)
    personas = build_personas(sample, effect_sizes, min_people=11, words=DomainWords.of("households"))
    assert personas[0].sentences[0].startswith(f"{personas[0].size} households, ")
    assert personas[2].name == "A few households"
    assert personas[2].sentences[0].startswith("3 households, too few to describe")
    assert "people" not in " ".join(sentence for persona in personas for sentence in persona.sentences)


@pytest.mark.parametrize(
    ("plural", "one"), [("people", "person"), ("customers", "customer"), ("companies", "company"), ("women", "woman")]
)
def test_the_singular_of_what_rows_are(plural: str, one: str) -> None:
    assert (DomainWords.of(plural).count(1), DomainWords.of(plural).count(1234)) == (f"1 {one}", f"1,234 {plural}")


def test_the_cluster_that_stands_out_is_a_stable_group_if_there_is_one() -> None:
    table, labels = months()
    labels = np.where(table["data_gb_may"].to_numpy() > 11.0, 2, labels)  # the most extreme
    sample, effect_sizes = sample_and_effect_sizes(table, labels)

    def standing_out(*stable: bool) -> int:
        sureness = [Sureness("words", is_stable) for is_stable in stable]
        personas = build_personas(sample, effect_sizes, sureness, min_people=5)
        return next(persona.cluster for persona in personas if persona.is_community)

    assert standing_out(True, True, True) == 2
    assert standing_out(True, True, False) != 2
    assert standing_out(False, False, False) == 2


def test_traits_that_look_like_everybody_come_last_and_only_where_there_is_room() -> None:
    random, labels = np.random.default_rng(0), np.arange(900) % 2
    visits = np.where(random.random(900) < np.where(labels == 1, 0.45, 0.05), 5, 0)  # the median is 0 in both
    visits[:4] = (1, 2, 3, 4)
    few = {"visits": visits, "age": 30 + 20 * labels + random.integers(0, 5, 900)}
    more = {
        **few,
        "spend": 100 + 300 * labels + random.integers(0, 9, 900),
        "hours": 5 + 9 * labels + random.random(900),
    }
    for columns, shown in ((few, ["age", "visits"]), (more, ["spend", "hours", "age"])):
        sample, effect_sizes = sample_and_effect_sizes(pa.table(columns), labels)
        profile = build_personas(sample, effect_sizes, min_people=11)[1].profile
        assert sorted(row.what for row in profile) == sorted(shown)
        assert profile[0].here != profile[0].everybody
