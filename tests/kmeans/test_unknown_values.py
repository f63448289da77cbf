"""Missing values and codes for them: filled from similar rows, so that they make no groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.features.fit import fit_encoder
from engine.kmeans.select_k import choose_k
from engine.kmeans.unknown_values import fill_unknown, hidden_cells
from engine.kmeans.valleys import find_valleys
from engine.tables import open_table


def planted(random: Any, k: int = 4, n_rows: int = 2000, n_columns: int = 6) -> tuple[Any, Any]:
    group = random.integers(k, size=n_rows)
    return 6.0 * np.eye(k, n_columns)[group] + random.normal(size=(n_rows, n_columns)), group


def n_groups(columns: dict[str, Any]) -> int:
    table = open_table(pa.table(columns))
    encoder = fit_encoder(table).encoder
    X, unknown = encoder.encode_sample(pa.concat_tables(block.rows for block in table.blocks()))
    hidden = hidden_cells(X, unknown)
    return find_valleys(fill_unknown(X, hidden), encoder.attributes, hidden=hidden).k


def with_missing(X: Any, missing: Any) -> dict[str, Any]:
    return {f"x{i}": pa.array(X[:, i], mask=missing[:, i]) for i in range(X.shape[1])}


@pytest.mark.parametrize("share", [0.05, 0.1])
@pytest.mark.parametrize("k", [1, 4])
def test_missing_values_make_no_groups(k: int, share: float) -> None:
    random = np.random.default_rng(0)
    X, _ = planted(random, k)
    assert n_groups(with_missing(X, random.random(X.shape) < share)) == k


def by_chance(random: Any, X: Any) -> Any:
    return random.random(X.shape) < 0.4


def asked_by_the_first_answer(random: Any, X: Any) -> Any:
    return np.column_stack([np.zeros(len(X), bool), *[X[:, 0] > 0.8] * (X.shape[1] - 1)])


def asked_of_half(random: Any, X: Any) -> Any:
    return np.column_stack([np.zeros(len(X), bool), *[X[:, 0] > 0] * (X.shape[1] - 1)])


def hardly_asked(random: Any, X: Any) -> Any:
    hidden = np.zeros(X.shape, bool)
    hidden[:, -1] = random.random(len(X)) < 0.9
    return hidden


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "seed", "missing"),
    [
        (1000, 2, 1, by_chance),
        (1500, 5, 0, asked_by_the_first_answer),
        (800, 8, 1, asked_by_the_first_answer),
        (1000, 2, 0, asked_of_half),
        (1000, 2, 0, hardly_asked),
    ],
)
def test_a_cloud_is_not_parted_where_values_were_filled_in(
    n_rows: int, n_columns: int, seed: int, missing: Any
) -> None:
    random = np.random.default_rng([seed, n_rows, n_columns, 5])
    X = random.normal(size=(n_rows, n_columns))
    hidden = missing(random, X)
    assert find_valleys(fill_unknown(X, hidden), hidden=hidden).k == 1


@pytest.mark.parametrize("missing", [by_chance, hardly_asked])
def test_groups_are_found_though_many_values_are_missing(missing: Any) -> None:
    random = np.random.default_rng(8)
    X, _ = planted(random, 4, n_rows=3000)
    hidden = missing(random, X)
    assert find_valleys(fill_unknown(X, hidden), hidden=hidden).k == 4


def test_questions_that_only_some_were_asked_make_no_groups() -> None:
    random = np.random.default_rng(1)
    X, _ = planted(random, 3, n_columns=9)
    not_asked = np.zeros(X.shape, bool)
    not_asked[:, 4:] = (random.random(len(X)) < 0.4)[:, None]
    assert n_groups(with_missing(X, not_asked)) == 3


@pytest.mark.parametrize("share", [0.02, 0.06, 0.2])
def test_a_code_makes_no_groups(share: float) -> None:
    random = np.random.default_rng(2)
    X, _ = planted(random, n_rows=3000)
    X[random.random(len(X)) < share, 0] = -913.5
    assert n_groups({f"x{i}": X[:, i] for i in range(X.shape[1])}) == 4


def test_a_value_is_filled_from_the_most_similar_row() -> None:
    X = np.array([[0.0, 5.0], [0.1, 6.0], [5.0, 7.0], [5.1, 5.5]])
    unknown = np.array([[0, 0], [0, 0], [0, 0], [0, 1]], bool)
    np.testing.assert_array_equal(fill_unknown(X, unknown), [[0.0, 5.0], [0.1, 6.0], [5.0, 7.0], [5.1, 7.0]])
    assert X[3, 1] == 5.5


@pytest.mark.parametrize("whole_rows", [True, False])
def test_all_that_a_row_lacks_comes_from_one_row(whole_rows: bool) -> None:
    X = np.repeat(np.random.default_rng(3).normal(size=(400, 1)), 4, axis=1)
    unknown = np.zeros(X.shape, bool)
    unknown[:50, 1:3] = True
    unknown[50:, 3] = not whole_rows
    filled = fill_unknown(np.where(unknown, 9.0, X), unknown)
    for row in range(50):
        donor = 50 + np.abs(X[50:, 0] - X[row, 0]).argmin()
        np.testing.assert_array_equal(filled[row, 1:3], X[donor, 1:3])


def test_rows_that_are_alike_get_the_values_of_many() -> None:
    random = np.random.default_rng(4)
    X = np.column_stack([np.zeros(600), random.normal(size=600)])
    unknown = np.zeros(X.shape, bool)
    unknown[:300, 1] = True
    filled = fill_unknown(X, unknown)[:300, 1]
    assert len(np.unique(filled)) > 100
    assert abs(filled.mean()) < 0.3


def test_a_column_that_is_unknown_in_all_rows_tells_nothing() -> None:
    random = np.random.default_rng(5)
    X, _ = planted(random, n_rows=800)
    flag = random.random(800) < 0.3
    unknown = np.zeros((800, 7), bool)
    unknown[:, 6] = True
    filled = fill_unknown(np.column_stack([X, 100.0 * flag]), unknown)
    assert not filled[:, 6].any()
    np.testing.assert_array_equal(filled[:, :6], X)


def test_known_amounts_and_answers_are_left_as_they_are() -> None:
    random = np.random.default_rng(6)
    never = np.where(random.random(500) < 0.2, 0.0, random.gamma(2.0, size=500))  # zero is the next amount, no code
    answers = random.integers(1, 6, size=500).astype(float)
    flag = np.where(random.random(500) < 0.1, 50.0, 0.0)
    X = np.column_stack([never, answers, flag])
    assert fill_unknown(X) is X


def test_the_choice_looks_past_unknown_cells() -> None:
    random = np.random.default_rng(7)
    X, _ = planted(random, 3, n_rows=1200)
    unknown = random.random(X.shape) < 0.1
    X[unknown] = np.median(X)
    chosen = choose_k(X, range(2, 6), unknown=unknown)
    assert chosen.k == 3
    assert chosen.means is not None
    assert chosen.means.shape == (3, 6)


def lists(random: Any, n_rows: int, share_missing: float) -> dict[str, Any]:
    """Return a multi-select column of answers by chance, and a vector of many small numbers, some of them missing."""
    asked = random.random((2, n_rows)) >= share_missing
    tags = [np.array(list("abcdef"))[row] for row in random.random((n_rows, 6)) < 0.3]
    vectors = 0.1 * random.normal(size=(n_rows, 15))
    return {
        "tags": pa.array([row.tolist() if given else None for row, given in zip(tags, asked[0], strict=True)]),
        "vector": pa.array([row.tolist() if given else None for row, given in zip(vectors, asked[1], strict=True)]),
    }


@pytest.mark.parametrize(("k", "share_missing"), [(1, 0.4), (3, 0.0), (3, 0.4)])
def test_multi_select_answers_by_chance_and_vectors_not_given_make_no_groups(k: int, share_missing: float) -> None:
    random = np.random.default_rng(8)
    X, _ = planted(random, k, n_rows=1500)
    columns = {f"x{i}": X[:, i] for i in range(X.shape[1])}
    assert n_groups(columns | lists(random, len(X), share_missing)) == k


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_yes_or_no_by_chance_does_not_split_the_largest_group(share: float) -> None:
    random = np.random.default_rng(9)
    group = random.choice(3, 2000, p=[0.75, 0.2, 0.05])
    X = 6.0 * np.eye(3, 5)[group] + random.normal(size=(2000, 5))
    flags = {f"flag{i}": random.random(2000) < share for i in range(3)}
    assert n_groups({f"x{i}": X[:, i] for i in range(5)} | flags) == 3
