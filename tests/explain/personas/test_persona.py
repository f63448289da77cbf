"""Effect sizes and personas: figures worked by hand, unique names, and nobody who can be recognized."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.explain.binning.predicates import Predicate
from engine.explain.personas.cluster_names import name_clusters
from engine.explain.personas.effect_sizes import DEMOGRAPHICS, EffectSize, compute_effect_sizes, wilson
from engine.explain.personas.persona import Persona, _one_of_each_series, build_personas
from engine.explain.personas.phrases import _number_tag, clause, format_value, interest_words, name_tag
from engine.explain.personas.related_columns import find_related_columns
from engine.explain.personas.sentences import write_portrait, write_sentences
from engine.explain.row_sample import RowSample
from engine.features.fit import fit_encoder
from engine.tables import open_table
from engine.utils.domain_words import DEFAULT_WORDS
from engine.utils.formatting import Vocabulary
from tests.explain.people import people


def sample_and_effect_sizes(
    table: pa.Table, labels: np.ndarray, *, values: dict[str, dict[str, str]] | None = None, **roles: Any
) -> tuple[RowSample, list[list[EffectSize]]]:
    plan = fit_encoder(open_table(table), column_roles=roles).encoder.plan
    columns = [column.column for column in plan.columns]
    sizes = np.bincount(labels)
    sample = RowSample(table, np.arange(len(labels)), labels.astype(np.int32), np.ones(len(labels)), sizes)
    words = Vocabulary.from_schema(table.schema, columns, {}, values or {})
    return sample, compute_effect_sizes(sample, plan, words, dict.fromkeys(columns, "rest"))


def test_a_difference_and_a_lift_equal_their_definitions() -> None:
    labels = np.repeat([0, 1], [40, 160])
    number = np.concatenate([np.tile([4.0, 6.0], 20), np.tile([-1.0, 0.0, 1.0, 2.0], 40)])
    letter = ["a"] * 30 + ["b"] * 10 + ["a"] * 20 + ["b"] * 140
    table = pa.table({"number": number, "letter": letter})
    _, (first, second) = sample_and_effect_sizes(table, labels)
    by_title = {(c.feature.column, c.feature.value): c for c in first}
    effect_size = by_title["number", None]
    assert (effect_size.cluster_value, effect_size.overall_value) == (5.0, np.sort(number)[99])
    assert effect_size.difference == pytest.approx((5.0 - number.mean()) / number.std(), rel=0.02)
    assert effect_size.difference_low < effect_size.difference < effect_size.difference_high
    a = by_title["letter", "a"]
    assert (a.cluster_value, a.overall_value, a.n_people, a.n_known) == (0.75, 0.25, 30, 40)
    assert a.lift == pytest.approx(3.0)
    assert a.difference == pytest.approx(0.5 / np.sqrt(0.25 * 0.75))
    assert (a.lift_low, a.lift_high) == pytest.approx([v / 0.25 for v in wilson(0.75, 40)])
    assert next(c for c in second if c.feature.value == "a").lift == pytest.approx(0.5)


def test_wilsons_interval_is_the_published_one() -> None:
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)  # Newcombe 1998
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-3)


def test_missing_values_are_left_out() -> None:
    labels = np.repeat([0, 1], 50)
    table = pa.table({"x": pa.array([None] * 25 + [1.5] * 25 + list(np.arange(50.0)), pa.float64())})
    _, (first, _) = sample_and_effect_sizes(table, labels)
    number = next(c for c in first if c.feature.kind == "number")
    assert (number.cluster_value, number.n_known) == (1.5, 25)
    missing = next(c for c in first if c.feature.kind == "missing")
    assert (missing.cluster_value, missing.overall_value) == (0.5, 0.25)


def personas_of_people(n_rows: int = 900, k: int = 9, min_people: int = 11) -> list[Persona]:
    table = people(n_rows).drop_columns(["who"])
    labels = np.arange(n_rows) % k
    labels[:5] = k  # five people, too few to show
    sample, effect_sizes = sample_and_effect_sizes(table, labels)
    return build_personas(sample, effect_sizes, min_people=min_people)


def test_names_are_unique_even_of_clusters_alike() -> None:
    names = [persona.name for persona in personas_of_people()]
    assert len(set(names)) == len(names) == 10
    assert all(name[0] == name[0].upper() for name in names)


def test_too_few_people_have_no_portrait() -> None:
    *many, few = personas_of_people()
    assert few.size == 5
    assert few.effect_sizes == few.typical == few.interests == few.portrait == ()
    assert few.sentences == ("5 people, too few to describe without describing single people: figures need 11.",)
    assert all(len(persona.sentences) == 3 for persona in many)


def test_no_figure_has_fewer_people_behind_it() -> None:
    for persona in personas_of_people(min_people=40):
        for effect_size in persona.effect_sizes:
            assert effect_size.n_known >= 40
            assert effect_size.n_people >= 40 or effect_size.difference < 0
    text = " ".join(s for persona in personas_of_people(min_people=40) for s in persona.sentences)
    assert "hardly anybody" in text


def test_one_persona_is_the_community_and_has_a_portrait() -> None:
    personas = personas_of_people()
    (community,) = [persona for persona in personas if persona.is_community]
    assert community.strength == max(persona.strength for persona in personas)
    assert [heading for heading, _ in community.portrait][:1] == ["Who they are"]
    assert all(lines for _, lines in community.portrait)


def test_a_typical_member_is_composed_of_frequent_values() -> None:
    for persona in personas_of_people()[:-1]:
        typical = dict(persona.typical)
        assert 3 <= len(typical) <= 12
        assert not any(re.search(r"id-\d", value) for value in typical.values())


def test_numbers_whose_values_have_meanings_are_not_called_low_or_high() -> None:
    labels = np.repeat([0, 1, 2], 60)
    health = np.concatenate([np.tile([1, 1, 2], 20), np.tile([3, 3, 2, 4], 15), np.tile([4, 3, 3, 3, 5, 3], 10)])
    names = {"health": {"5": "poor", "1": "excellent", "unknown": "no answer"}}
    _, effect_sizes = sample_and_effect_sizes(pa.table({"health": health}), labels, values=names)
    first, _, last = (next(c for c in part if c.feature.kind == "number") for part in effect_sizes)
    assert name_tag(first) == "health excellent"
    assert clause(first, min_people=5) == "their health is typically excellent (everybody: 3)"
    assert (last.cluster_value, last.overall_value) == (3.0, 3.0)
    assert name_tag(last) == "health towards poor"
    assert clause(last, min_people=5) == "their health tends towards poor"


def test_yes_and_no_read_as_sentences_and_race_is_no_interest() -> None:
    labels = np.repeat([0, 1], 100)
    covered = np.concatenate([np.arange(100) % 4 == 0, np.arange(100) % 10 > 0]).astype(int)
    race = [["Martian"]] * 60 + [["Venusian"]] * 140
    table = pa.table({"coverage": covered, "race": race, "tools": [["Lathe"]] * 60 + [["Saw"]] * 140})
    _, (first, _) = sample_and_effect_sizes(table, labels)
    truth = next(c for c in first if c.feature.kind == "truth")
    assert name_tag(truth) == "no coverage"
    assert clause(truth, min_people=5) == "coverage is yes for 25 % (everybody: 57 %)"
    assert [interest_words(c) for c in first if c.difference > 0 and c.feature.kind == "label"] == [None, "Lathe"]


def test_clusters_are_named_by_sensitive_attributes_only_if_nothing_else_distinguishes_them() -> None:
    labels = np.repeat([0, 1], 100)
    race, height = ["Martian"] * 100 + ["Venusian"] * 100, np.repeat([20.0, 0.0], 100) + np.arange(200) % 7
    for columns, name in (({"race": race, "height": height}, "High height and Martian"), ({"race": race}, "Martian")):
        _, effect_sizes = sample_and_effect_sizes(pa.table(columns), labels)
        ranked = [sorted(part, key=lambda c: -c.strength) for part in effect_sizes]
        assert name_clusters(ranked, [True, True], np.array([100, 100]))[0] == name


@pytest.mark.parametrize(
    ("name", "value", "more", "less"),
    [
        ("say in databases", "none", "no say in databases", "some say in databases"),
        ("say in servers", "little", "little say in servers", "not little say in servers"),
        ("satisfaction", "Very high", "very high satisfaction", "not very high satisfaction"),
        ("survey too long", "Strongly agree", "survey too long: Strongly agree", "not survey too long: Strongly agree"),
        ("gender", "F", "gender F", "not gender F"),
        ("country", "USA", "country USA", "not country USA"),
        ("occupation", "other", "occupation other", "not occupation other"),
    ],
)
def test_a_value_that_says_little_alone_is_put_into_words_with_its_column(
    name: str, value: str, more: str, less: str
) -> None:
    for difference, expected in ((0.5, more), (-0.5, less)):
        d = (difference,) * 3
        feature = Predicate("column", name, "category", value)
        effect_size = EffectSize(feature, "rest", 0.6, 0.3, *d, 2.0, 1.5, 2.5, 99, 60, 0.5, 0.6)
        assert name_tag(effect_size, {value}) == expected


def test_nothing_having_happened_is_said_plainly() -> None:
    feature = Predicate("Smoker", "having ever smoked", "truth", thresholds=(1.0,))
    effect_size = EffectSize(feature, "rest", 0.1, 0.5, -0.8, -0.9, -0.7, 0.2, 0.1, 0.3, 99, 10, 0.5, 0.1)
    assert name_tag(effect_size) == "not having ever smoked"


@pytest.mark.parametrize(
    ("name", "tags", "clauses"),
    [
        (
            "low income",
            ("low income", "no low income"),
            ("low income is {} for 60 %", "low income is {} for hardly anybody"),
        ),
        ("has kids", ("kids", "no kids"), ("60 % have {}kids", "hardly anybody has {}kids")),
        ("is member", ("member", "not member"), ("60 % are {}member", "hardly anybody is {}member")),
    ],
)
def test_answers_of_yes_and_no_in_a_text_are_read_like_those_of_a_truth_value(
    name: str, tags: tuple[str, str], clauses: tuple[str, str]
) -> None:
    for value, tag in zip(("yes", "No"), tags, strict=True):
        feature = Predicate("column", name, "category", value)
        effect_size = EffectSize(feature, "rest", 0.6, 0.3, 0.5, 0.4, 0.6, 2.0, 1.5, 2.5, 99, 60, 0.5, 0.6)
        answer = value.lower() if " is " in clauses[0] else {"yes": "", "No": tags[1].removesuffix(tags[0])}[value]
        assert name_tag(effect_size) == tag
        assert clause(effect_size, min_people=11) == f"{clauses[0].format(answer)} (everybody: 30 %)"
        assert clause(effect_size, min_people=61) == f"{clauses[1].format(answer)} (everybody: 30 %)"


@pytest.mark.parametrize(("yes", "no"), [("Ja", "Nein"), ("oui", "NON"), ("Sí", "No"), ("ja", "nee")])
def test_answers_of_yes_and_no_in_other_languages_are_read_like_yes_and_no(yes: str, no: str) -> None:
    for value, tag, answer in ((yes, "newsletter", "yes"), (no, "no newsletter", "no")):
        feature = Predicate("column", "newsletter", "category", value)
        more = EffectSize(feature, "rest", 0.6, 0.3, 0.5, 0.4, 0.6, 2.0, 1.5, 2.5, 99, 60, 0.5, 0.6)
        assert name_tag(more) == tag
        assert clause(more, min_people=11) == f"newsletter is {answer} for 60 % (everybody: 30 %)"


def test_names_tell_a_series_once_where_its_columns_differ_alike() -> None:
    labels, noise = np.repeat([0, 1], 100), np.random.default_rng(0).normal(size=(3, 200))
    hours = {f"training_hours_q{q + 1}": 20.0 * labels + noise[q] for q in range(3)}
    _, effect_sizes = sample_and_effect_sizes(pa.table(hours), labels)
    ranked = [sorted(part, key=lambda c: -c.strength) for part in effect_sizes]
    assert name_clusters(ranked, [True, True], np.array([100, 100]))[1] == "High training hours"
    turned = {**hours, "training_hours_q2": -hours["training_hours_q2"]}  # as a trend does
    _, effect_sizes = sample_and_effect_sizes(pa.table(turned), labels)
    ranked = [sorted(part, key=lambda c: -c.strength) for part in effect_sizes]
    assert " q" in name_clusters(ranked, [True, True], np.array([100, 100]))[1]


def test_never_in_german_is_not_read_as_no() -> None:
    never = EffectSize(
        Predicate("column", "alcohol", "category", "nie"),
        "rest",
        0.6,
        0.3,
        0.5,
        0.4,
        0.6,
        2.0,
        1.5,
        2.5,
        99,
        60,
        0.5,
        0.6,
    )
    assert name_tag(never) == "nie"


def test_one_of_two_numbers_is_named_like_a_category() -> None:
    for difference, value in ((0.5, "2"), (-0.5, "1")):
        feature = Predicate("source", "source", "truth", thresholds=(2.0,), lower_value=1.0)
        d = (difference,) * 3
        effect_size = EffectSize(feature, "rest", 0.9, 0.5, *d, 2.0, 1.5, 2.5, 99, 60, 0.5, 0.6)
        assert name_tag(effect_size) == f"source {value}"
        assert clause(effect_size, min_people=11) == "the source is 2 for 90 % (everybody: 50 %)"


@pytest.mark.parametrize(
    ("name", "tag", "words"),
    [
        ("wind farms", "many wind farms", "the wind farms are more for 60 %"),
        ("census", "high census", "the census is more for 60 %"),
        ("marital status", "high marital status", "the marital status is more for 60 %"),
    ],
)
def test_only_plurals_are_many(name: str, tag: str, words: str) -> None:
    assert _number_tag(name, True, whole=True) == tag
    category = Predicate(name, name, "category", "more")
    effect_size = EffectSize(category, "rest", 0.6, 0.3, 0.5, 0.4, 0.6, 2.0, 1.5, 2.5, 99, 60, 0.5, 0.6)
    assert clause(effect_size, min_people=11) == f"{words} (everybody: 30 %)"


@pytest.mark.parametrize(
    ("name", "later", "earlier"),
    [
        ("year", "later years", "earlier years"),
        ("release year", "later release year", "earlier release year"),
        ("year of birth", "later year of birth", "earlier year of birth"),
        ("sales per year", "many sales per year", "few sales per year"),
    ],
)
def test_a_year_is_later_or_earlier_and_not_high_or_low(name: str, later: str, earlier: str) -> None:
    feature = Predicate(name, name, "number", whole=True, thresholds=(1990.0,))
    for difference, tag in ((0.5, later), (-0.5, earlier)):
        d = (difference,) * 3
        effect_size = EffectSize(feature, "rest", 1994.0, 1994.0, *d, None, None, None, 99, 99, 10.0, 0.6)
        assert name_tag(effect_size) == tag
        word = tag.split()[0] if "per" not in name else {"many": "higher", "few": "lower"}[tag.split()[0]]
        assert f"to be {word} than others'" in clause(effect_size, min_people=5)


def test_a_median_between_two_codes_is_told_by_their_meanings() -> None:
    meanings = (("6", "45 to 49"), ("7", "50 to 54"), ("9", "60 to 64"))
    feature = Predicate("age", "age group", "number", thresholds=(6.0, 7.0), whole=True, meanings=meanings)
    d = (-0.6, -0.7, -0.5)
    effect_size = EffectSize(feature, "rest", 6.5, 7.0, *d, None, None, None, 99, 99, 1.0, 0.2)
    assert clause(effect_size, min_people=11) == (
        "their age group is typically between 45 to 49 and 50 to 54 (everybody: 50 to 54)"
    )
    assert format_value(effect_size, 8.0) == "8"  # a code without a meaning is no median of others
    assert format_value(effect_size, 9.5) == "9.5"


def test_a_scale_that_may_count_down_has_no_above_and_below() -> None:
    meanings = (("1", "excellent"), ("5", "poor"))
    feature = Predicate("health", "health", "number", thresholds=(2.0, 3.0), whole=True, meanings=meanings)
    for difference, end in ((1.2, "towards poor"), (-1.2, "towards excellent")):
        d = (difference, difference - 0.1, difference + 0.1)
        effect_size = EffectSize(feature, "rest", 4.0, 3.0, *d, None, None, None, 99, 99, 1.0, 0.8)
        ((_, (line,)),) = write_portrait([effect_size], (), 11, DEFAULT_WORDS)
        assert line.endswith(f": 1.20 standard deviations {end} (1.10 to 1.30).")


@pytest.mark.parametrize(
    ("meanings", "tendency"),
    [((), "tends to be lower than others'"), ((("0", "none"), ("5", "daily")), "tends towards none")],
)
def test_a_tendency_has_a_figure_and_a_portrait_says_it_once(meanings: Any, tendency: str) -> None:
    pain = Predicate("pain", "pain", "number", whole=True, meanings=meanings)
    effect_size = EffectSize(pain, "rest", 1.0, 1.0, -0.36, -0.37, -0.34, None, None, None, 99, 99, 1.0, 0.5)
    (sentence,) = write_sentences([effect_size], 50, 0.5, 11, DEFAULT_WORDS)
    assert sentence.endswith(f": their pain {tendency} (by 0.36 standard deviations).")
    ((_, (line,)),) = write_portrait([effect_size], (), 11, DEFAULT_WORDS)
    assert line.count("standard deviations") == 1


def test_what_there_is_not_is_said_once() -> None:
    feature = Predicate("spend", "spend", "number")
    spend = EffectSize(feature, "rest", 9.0, 1.0, 0.5, 0.4, 0.6, None, None, None, 99, 99, 1.0, 0.8)
    alone = write_sentences([spend], 50, 0.5, 11, DEFAULT_WORDS)
    assert alone == ("50 people, 50 % of all: their spend is typically 9.0 (everybody: 1.0).",)
    assert write_sentences([], 50, 0.5, 11, DEFAULT_WORDS)[1:] == ("Nothing tells them from others.",)
    others = [replace(spend, feature=replace(feature, column=name, name=name)) for name in "abcd"]
    assert [text.partition(":")[0] for text in write_sentences(others, 50, 0.5, 11, DEFAULT_WORDS)][1:] == [
        "What they share"
    ]


def test_two_tags_in_another_order_are_the_same_name() -> None:
    def effect_sizes_of(**strengths: float) -> list[EffectSize]:
        return [
            EffectSize(Predicate(name, name, "number"), "rest", 2.0, 1.0, d, d, d, None, None, None, 99, 99, 1.0, 0.9)
            for name, d in strengths.items()
        ]

    first, second = effect_sizes_of(a=3.0, b=2.0, c=1.0), effect_sizes_of(b=3.0, a=2.0, c=1.0)
    names = name_clusters([first, second], [True, True], np.array([9, 5]))
    assert names == ["High a and high b", "High b, high a and high c"]


def test_a_label_that_two_columns_have_is_named_with_its_column() -> None:
    labels = np.repeat([0, 1], 100)
    likes, hears = [["R&B"]] * 100 + [["Folk"]] * 100, [["R&B"]] * 100 + [["Jazz"]] * 100
    _, effect_sizes = sample_and_effect_sizes(pa.table({"likes": likes, "hears": hears}), labels)
    ranked = [sorted(part, key=lambda c: -c.strength) for part in effect_sizes]
    names = name_clusters(ranked, [True, True], np.array([100, 100]))
    assert set(names[0].split(" and ")) == {"R&B in likes", "R&B in hears"}
    assert set(names[1].split(" and ")) == {"Folk", "Jazz"}


def test_a_single_cluster_is_everybody() -> None:
    table = people(300).drop_columns(["who"])
    sample, effect_sizes = sample_and_effect_sizes(table, np.zeros(300, int))
    (only,) = build_personas(sample, effect_sizes, min_people=11)
    assert only.name == "Everybody"
    assert not only.is_community
    assert "300 people, 100 % of all" in only.sentences[0]


@pytest.mark.parametrize(
    ("name", "of_more", "of_less"),
    [
        ("age", "older", "younger"),
        ("Crime share", "Crime", "little Crime"),
        ("1990s share", "the 1990s", "little of the 1990s"),
        ("war affinity", "fond of war", "cool on war"),
        ("paid share", "high paid share", "low paid share"),
        ("number of visits", "many visits", "few visits"),
        ("spend", "high spend", "low spend"),
    ],
)
def test_a_number_is_named_by_what_it_is_a_number_of(name: str, of_more: str, of_less: str) -> None:
    assert (_number_tag(name, True, whole=False), _number_tag(name, False, whole=False)) == (of_more, of_less)


@pytest.mark.parametrize(
    ("column", "first", "last"),
    [
        ("health", "health very good or good", "health fair or poor"),
        ("income", "income up to good", "income from fair up"),
        ("age group", "younger", "older"),
    ],
)
def test_a_name_says_the_part_of_a_scale_in_which_half_of_the_cluster_is(column: str, first: str, last: str) -> None:
    names = ["very good", "good", "medium", "fair", "poor"]
    further = ["excellent", *names, "very poor"] if column != "health" else names
    codes = {word: float(number) for number, word in enumerate(further)}
    low, high = codes["good"], codes["fair"]
    # the median is the value of a third only: many have the values beside it
    below = [low - 1, low - 1, low, low, low + 1, low + 1]
    above = [high - 1, high - 1, high, high, high + 1, high + 1]
    values = np.concatenate([np.tile(below, 20), np.full(60, codes["medium"]), np.tile(above, 20)])
    labels = np.repeat([0, 1, 2], [120, 60, 120])
    meanings = {column: {str(int(code)): word for word, code in codes.items()}}
    _, effect_sizes = sample_and_effect_sizes(pa.table({column: values.astype(np.int64)}), labels, values=meanings)
    found = [next(c for c in part if c.feature.kind == "number") for part in effect_sizes]
    assert [name_tag(found[0]), name_tag(found[2])] == [first, last]


def share_of(name: str, value: str, group: str, share: float, difference: float = 0.6) -> EffectSize:
    d = (difference,) * 3
    return EffectSize(Predicate(name, name, "category", value), group, share, 0.2, *d, 2.0, 1.5, 2.5, 99, 60, 0.5, 0.6)


def test_who_they_are_is_said_by_demographics_where_there_are_any() -> None:
    plan, gender = share_of("plan", "family", "rest", 0.9), share_of("gender", "F", DEMOGRAPHICS, 0.8, 0.5)
    portrait = dict(write_portrait([plan, gender], (), 11, DEFAULT_WORDS))
    assert [line.split(" is ")[0] for line in portrait["Who they are"]] == ["The gender"]
    assert [line.split(" is ")[0] for line in portrait["What they share"]] == ["The plan"]
    assert "gender is F" in write_sentences([plan, gender], 50, 0.5, 11, DEFAULT_WORDS)[0]
    assert "The plan" in dict(write_portrait([plan], (), 11, DEFAULT_WORDS))["Who they are"][0]


@pytest.mark.parametrize(("share", "said"), [(0.3, True), (0.29, False)])
def test_what_three_in_ten_have_is_shared(share: float, said: bool) -> None:
    plan, gender = share_of("plan", "family", "rest", share), share_of("gender", "F", DEMOGRAPHICS, 0.8)
    assert ("What they share" in dict(write_portrait([gender, plan], (), 11, DEFAULT_WORDS))) is said
    assert (
        any("What they share" in line for line in write_sentences([gender, plan], 50, 0.5, 11, DEFAULT_WORDS)) is said
    )


@pytest.mark.parametrize(
    ("name", "high", "more", "tag"),
    [
        ("any kids", 1.0, False, "no kids"),
        ("having a car", 1.0, False, "not having a car"),
        ("kids", 1.0, True, "kids"),
        ("kids", 2.0, False, "kids 0"),
        ("kids", 2.0, True, "kids 2"),
    ],
)
def test_zero_and_one_are_no_and_yes_and_other_pairs_are_values(name: str, high: float, more: bool, tag: str) -> None:
    feature = Predicate(name, name, "truth", thresholds=(high,), lower_value=0.0)
    d = (0.5 if more else -0.5,) * 3
    assert name_tag(EffectSize(feature, "rest", 0.9, 0.5, *d, 2.0, 1.5, 2.5, 99, 60, 0.5, 0.6)) == tag


def number_effect(column: str, difference: float, here: float = 9.0, overall: float = 3.0) -> EffectSize:
    feature = Predicate(column, column.replace("_", " "), "number", whole=True, thresholds=(5.0,))
    d = (difference, difference - 0.1, difference + 0.1)
    position = 0.9 if difference > 0 else 0.1
    return EffectSize(feature, "rest", here, overall, *d, None, None, None, 99, 99, 1.0, position)


def test_a_series_of_columns_is_told_once() -> None:
    series = [number_effect(f"data_m{month}", 1.2 - month / 100) for month in range(1, 7)]
    tenure, other = number_effect("tenure", 0.9), number_effect("data_m7", 0.8)
    related = {e.feature.column: frozenset(e.feature.column for e in series) for e in series}
    told = _one_of_each_series([*series, tenure, other], related)
    assert [e.feature.column for e in told] == ["data_m1", "tenure", "data_m7"]  # which is not related to the others
    assert _one_of_each_series([*series, tenure], {}) == [*series, tenure]
    alike = {"data_m1": frozenset(["data_m1", "tenure"]), "tenure": frozenset(["data_m1", "tenure"])}
    assert _one_of_each_series([series[0], tenure], alike) == [
        series[0],
        tenure,
    ]  # of no series: it says something else


def test_columns_of_a_series_are_related_with_less_correlation() -> None:
    random = np.random.default_rng(0)
    use = random.normal(size=900)
    columns = {f"data_m{month}": use + random.normal(size=900) * 0.6 for month in range(1, 4)}
    columns |= {
        "calls": use + random.normal(size=900) * 0.6,
        "q1": random.normal(size=900),
        "q2": random.normal(size=900),
    }
    table = pa.table(columns)
    plan = fit_encoder(open_table(table)).encoder.plan
    sample = RowSample(table, np.arange(900), np.zeros(900, np.int32), np.ones(900), np.array([900]))
    related = find_related_columns(sample, plan)
    assert related["data_m1"] == {"data_m1", "data_m2", "data_m3"}
    assert related["calls"] == {"calls"}
    assert related["q1"] == {"q1"}


def test_a_name_has_no_slight_tendency_and_no_lack_of_what_few_have() -> None:
    contract = share_of("contract", "24 months", "rest", 0.99)
    slight = number_effect("tenure", -0.2, here=3.0, overall=3.0)
    rare = EffectSize(
        Predicate("vip", "vip", "truth", thresholds=(1.0,)),
        "rest",
        0.02,
        0.1,
        *(-0.4,) * 3,
        0.2,
        0.1,
        0.3,
        99,
        11,
        0.5,
        0.6,
    )
    names = name_clusters(
        [[contract, slight, rare], [share_of("plan", "x", "rest", 0.9)]], [True] * 2, np.array([50, 40])
    )
    assert names[0] == "24 months"
    clear = number_effect("tenure", -0.6, here=1.0, overall=3.0)
    assert name_clusters([[contract, clear]], [True], np.array([50])) == ["24 months and low tenure"]
    assert name_clusters([[slight]], [True], np.array([50])) == ["Low tenure"]  # where nothing else tells it
