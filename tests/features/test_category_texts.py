"""Categories that are spellings of one another, numbers in an unknown notation, or marks: warnings name them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.features.category_texts import CategoryTextsWarning
from engine.features.columnar_block import read_block
from engine.features.encoding_plan import CategoryPlan
from engine.features.fit import FittedFeatures, fit_encoder
from engine.tables import open_table

N = 600
RNG = np.random.default_rng(8)
NUMBERS = RNG.integers(1, 60, N).tolist()
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sept", "October"]
NOTATIONS: dict[str, Callable[[int], str]] = {
    "at least": lambda n: f"{n}+",
    "ratings": lambda n: f"{n / 10}/5",
    "sentences": lambda n: f"{n / 10} out of 5 stars",
    "ordinals": lambda n: f"{n}th",
    "quarters": lambda n: f"{1980 + n}-Q1",
    "days with years of two digits": lambda n: f"{1 + n % 12}/{1 + n % 28}/{10 + n % 9}",
    "days of Oracle": lambda n: f"{1 + n % 28:02d}-{MONTHS[n % 10].upper()}-{10 + n % 9}",
    "months with years of two digits": lambda n: f"{MONTHS[n % 9]}-{n % 20:02d}",
    "times with the name of a zone": lambda n: f"2024-01-{n % 28 + 1:02d} 10:00 {('Asia/Tokyo', 'Europe/Rome')[n % 2]}",
    "Arabic digits": lambda n: str(n).translate(
        str.maketrans("0123456789", "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669")
    ),
    "full-width digits": lambda n: str(n).translate({48 + k: 0xFF10 + k for k in range(10)}),
}
WORDS: dict[str, Callable[[int], str]] = {
    "codes of two parts": lambda n: f"{n:05d}-{n:04d}",
    "codes": lambda n: f"P{n}",
    "codes of digits": lambda n: f"{n:04d}",
    "streets": lambda n: f"{n} {'ABCDEFGHIJKL'[n % 12]} Street",
    "few ranges": lambda n: f"{n // 10}0-{n // 10}9",
    "words": lambda n: "abcdefghijklmnopqrstuvwxyz"[n % 26],
}


def fit_texts(texts: list[str], **options: object) -> FittedFeatures:
    table = pa.table({"x": texts, "age": RNG.integers(18, 90, N)})
    return fit_encoder(open_table(table), **options)  # type: ignore[arg-type]


def check_named_unless_set(texts: list[str], role: str, words: str) -> None:
    """Check that a warning names the column in these words, and that none does where its role is set."""
    with pytest.warns(CategoryTextsWarning, match=f"{words}: 'x';"):
        assert fit_texts(texts).roles[0].role == role
    with warnings.catch_warnings():
        warnings.simplefilter("error", CategoryTextsWarning)
        fit_texts(texts, column_roles={"x": role})


@pytest.mark.parametrize("notation", NOTATIONS)
def test_numbers_in_a_notation_that_is_not_read_are_named(notation: str) -> None:
    texts = [NOTATIONS[notation](n) for n in NUMBERS]
    check_named_unless_set(texts, "categorical", "notation that is not read stay categories")


LEFT_OUT: dict[str, Callable[[int], str]] = {
    "amounts that are credits or debits": lambda n: f"{n * 1.37 + 900:,.2f} {('CR', 'DR')[n % 2]}",
    "days with years of two digits": lambda n: f"{1 + n % 28:02d}/{1 + n // 28 % 12:02d}/{10 + n // 336}",
    "times with years of two digits": lambda n: f"{1 + n % 28}.{1 + n // 28 % 12}.{10 + n // 336} 10:{n % 60:02d}",
    "days of Oracle": lambda n: f"{1 + n % 28:02d}-{'JANFEBMARAPRMAYJUN'[n // 28 % 6 * 3 :][:3]}-{10 + n // 168}",
}
IDS: dict[str, Callable[[int], str]] = {
    "order numbers": lambda n: f"ORD-{10_000 + n}",
    "numbers of two parts": lambda n: f"{100 + n // 100}-{n % 100:02d}-{n % 7}",
    "addresses of the internet": lambda n: f"10.2.{n // 250}.{n % 250}",
    "phone numbers": lambda n: f"+49 170 {1_000_000 + 37 * n}",
    "bank accounts": lambda n: f"DE{10 + n % 80} 3704 0044 {1000 + n:04d} {n % 97:02d}",
    "versions": lambda n: f"{n % 20}.{n // 20}.{n % 3}.1",
    "mail": lambda n: f"user.{n}@example.com",
}


@pytest.mark.parametrize("notation", LEFT_OUT)
def test_amounts_and_days_that_are_left_out_as_ids_are_named(notation: str) -> None:
    texts = [LEFT_OUT[notation](n) for n in range(N)]
    check_named_unless_set(texts, "ignore", "notation that is not read are left out")


@pytest.mark.parametrize(
    ("texts", "role"),
    [([IDS[kind](n) for n in range(N)], "ignore") for kind in IDS]
    + [([WORDS[kind](n) for n in NUMBERS], "categorical") for kind in WORDS],
    ids=[*IDS, *WORDS],
)
def test_ids_and_other_categories_are_not(texts: list[str], role: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", CategoryTextsWarning)
        assert fit_texts(texts).roles[0].role == role


def test_a_column_of_no_values_that_is_left_out_holds_no_amounts(tmp_path: Path) -> None:
    lines = "".join(f"{n},{n % 7},\n" for n in range(N))
    (tmp_path / "a.csv").write_text(f"age,visits,\n{lines}")  # each line ends with a comma
    roles = {role.column: role.role for role in fit_encoder(open_table(tmp_path / "a.csv")).roles}
    assert roles[""] == "ignore"


OBJECTS: dict[str, Callable[[int], str]] = {
    "objects": lambda n: json.dumps({"R&B": n % 4, "C++": n % 3}),
    "objects of some": lambda n: json.dumps({name: 1 for k, name in enumerate("abcd") if n >> k & 1}),
    "lists of objects": lambda n: json.dumps([{"name": "a", "level": n % 5}]),
    "labels and numbers": lambda n: str(["abc"[n % 3], n % 4]),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_lists_and_objects_that_are_not_read_stay_whole_and_are_named(kind: str) -> None:
    texts = [OBJECTS[kind](n) for n in NUMBERS]
    check_named_unless_set(texts, "categorical", "not read stay whole")


@pytest.mark.parametrize("mark", ["?", "-", "(blank)"])
def test_marks_of_missing_values_among_categories_are_named(mark: str) -> None:
    texts = [["red", "blue", mark][n % 3] for n in range(N)]
    with pytest.warns(CategoryTextsWarning, match="look like missing values stay categories: 'x' ."):
        fit_texts(texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CategoryTextsWarning)
        features = fit_texts(texts, missing={"x": [mark]})
        assert features.statistics.columns["x"].n_missing == N // 3
        assert features.roles[0].reason.endswith(f"{N // 3} missing values written as {mark}")
        fit_texts([["some", "none", "unknown"][n % 3] for n in range(N)])


@pytest.mark.parametrize("mark", ["", " ", "NA", "null", "None", "n/a"])
def test_words_for_missing_values_are_missing_in_every_table_and_in_new_rows(mark: str, tmp_path: Path) -> None:
    columns = {"x": [["red", "blue", mark][n % 3] for n in range(N)], "y": [n % 7 for n in range(N)]}
    table, rows = pa.table(columns), pa.table({"x": [mark, "red"], "y": [1, 2]})
    pq.write_table(table, tmp_path / "a.parquet")
    lines = zip(columns["x"], columns["y"], strict=True)
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{text},{number}\n" for text, number in lines))
    expected = None
    for source in (table, table.to_pandas(), tmp_path / "a.parquet", tmp_path / "a.csv"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encoder = fit_encoder(open_table(source)).encoder
        plan = encoder.plan.columns[0]
        assert isinstance(plan, CategoryPlan)
        assert (plan.categories, plan.indicator) == (("blue", "red"), True)
        X = encoder.encode(pa.table({"x": [None, "red"], "y": [1, 2]}))
        expected = X if expected is None else expected
        assert np.array_equal(X, expected)
        assert np.array_equal(encoder.encode(rows), expected)
        read = read_block(encoder.record_columns(rows.to_pylist()), encoder.layout.read_specs)
        assert np.array_equal(encoder.layout.to_matrix(encoder.encode_block(read)), expected)


def test_words_for_missing_values_are_named_and_kept_if_asked_for() -> None:
    texts = [["DE", "FR", "NA"][n % 3] for n in range(N)]
    with pytest.warns(CategoryTextsWarning, match="taken for missing values: 'NA' in 'x'; .* --missing COLUMN= "):
        assert fit_texts(texts).roles[0].reason.endswith(f"{N // 3} missing values written as NA")
    with warnings.catch_warnings():
        warnings.simplefilter("error", CategoryTextsWarning)
        kept = fit_texts(texts, missing={"x": ()})
        assert kept.statistics.columns["x"].counts == dict.fromkeys(["DE", "FR", "NA"], N // 3)
        fit_texts([["DE", "FR", ""][n % 3] for n in range(N)])  # nobody answers with a blank


def test_words_for_several_answers_are_missing_and_named() -> None:
    subsets = [[label for k, label in enumerate("ABCDE") if n >> k & 1] for n in range(1, 32)]
    answers = [*map("; ".join, subsets), "NA", "None", ""]
    with pytest.warns(CategoryTextsWarning, match="taken for missing values: 'NA', 'None' in 'x';"):
        features = fit_texts([answers[n % 34] for n in range(N)])
    role, column = features.roles[0], features.statistics.columns["x"]
    assert role.role == "multilabel"
    assert set(column.counts) == set("ABCDE")
    assert column.n_missing == column.n_marked == sum(n % 34 > 30 for n in range(N))


def test_spellings_of_one_category_are_counted() -> None:
    cities = ["Berlin", "berlin", " Berlin", "New  York", "new york", "Rome"]
    with pytest.warns(CategoryTextsWarning, match="case or blanks .*: 'x' .5 spellings of 2 categories.;"):
        features = fit_texts([cities[n % 6] for n in range(N)])
    assert "6 different texts" in features.roles[0].reason
    unseen = ["M\u00fcnchen", "Mu\u0308nchen", "abc", "abc\u200b", "x"]
    with pytest.warns(CategoryTextsWarning, match="4 spellings of 2 categories"):
        fit_texts([unseen[n % 5] for n in range(N)])


def test_columns_with_the_same_words_for_missing_values_are_named_together(tmp_path: Path) -> None:
    names = [f"q{number}" for number in range(9)]
    row = [["a", "b", "NA"][number % 3] for number in range(90)]
    lines = [",".join(["age", *names]), *(",".join([str(20 + n % 31), *[row[n]] * 9]) for n in range(90))]
    (tmp_path / "a.csv").write_text("\n".join([*lines, ""]))
    with pytest.warns(CategoryTextsWarning, match="values: 'NA' in 'q0', 'q1', 'q2', 'q3', 'q4', 'q5' and 3 more col"):
        fit_encoder(open_table(tmp_path / "a.csv"))
